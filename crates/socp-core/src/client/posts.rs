//! Our own messages to a server that acknowledges what it has (PROTOCOL II.6).
//!
//! A message is written down before anything else is done, made once, and sent byte for byte until it is answered: on every
//! new link again, oldest first, those to one recipient in their order, a window of them at a time. Whatever is under way
//! is the history's; here is what goes on with it on this link.

use super::asks::Asks;
use super::fault::TellFault;
use super::io::{Event, Output, Ticket};
use super::outbox::Outbox;
use super::people::People;
use super::pins::Pins;
use super::post_io::{Change, Making, PostId, PostState, PostWork, Unanswered};
use crate::clock::{Mono, Now, Unix};
use socp_proto::limits::{CONTENT_AGE_MAX_MS, DIRECT_TEXT_BYTES_MAX};
use socp_proto::{KeyText, ServerId, UserId};
use std::collections::{BTreeMap, BTreeSet};

/// Messages that are being made or wait for their answer (our choice).
const WINDOW_COUNT_MAX: usize = 64;
/// A frame older than this is made anew: a day later it would be refused (PROTOCOL I.7).
const FRAME_AGE_MAX_MS: u64 = CONTENT_AGE_MAX_MS - 24 * 3_600_000;
/// How long a message waits that the server could not write down; doubled each time (our choice).
const PAUSE_MIN_MS: u64 = 5_000;
const PAUSE_MAX_MS: u64 = 300_000;
/// How often a profile that does not do its part is tried until whoever waits for the message is told (our choice).
const STUCK_COUNT_MAX: u32 = 3;

/// How far a message is on this link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    WaitKey,
    Making,
    Ready,
    Sent,
    Paused { until: Mono },
}

#[derive(Debug)]
struct Post {
    to: UserId,
    stage: Stage,
    signed: Option<(String, Unix)>,
    pauses: u32,
    /// How often the profile did not do its part.
    stuck: u32,
}

/// Our own messages under way.
#[derive(Debug)]
pub(super) struct Posts {
    pubkey: KeyText,
    /// The server of this link acknowledges.
    is_on: bool,
    /// The server did when we last saw it, so a message can wait for the next link.
    was_on: bool,
    posts: BTreeMap<PostId, Post>,
    by_ref: BTreeMap<String, PostId>,
    tickets: BTreeMap<PostId, Ticket>,
    /// Being written down.
    queuing: BTreeMap<Ticket, UserId>,
    /// What they fail for, until that is written down.
    failing: BTreeMap<PostId, TellFault>,
    /// Users whose keys and programs were asked for on this link, and whose answer has come.
    asked: BTreeSet<UserId>,
    known: BTreeSet<UserId>,
    is_due: bool,
    /// It was told on this link that the profile does not do its part.
    is_stuck: bool,
}

impl Posts {
    pub(super) fn new(pubkey: KeyText, was_on: bool) -> Self {
        Self {
            pubkey,
            is_on: false,
            was_on,
            posts: BTreeMap::new(),
            by_ref: BTreeMap::new(),
            tickets: BTreeMap::new(),
            queuing: BTreeMap::new(),
            failing: BTreeMap::new(),
            asked: BTreeSet::new(),
            known: BTreeSet::new(),
            is_due: false,
            is_stuck: false,
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    /// Whether a message can be written down for later or for now.
    pub(super) fn takes(&self, online: bool) -> bool {
        if online { self.is_on } else { self.was_on }
    }

    /// Whether something is on its way that an answer may come to soon.
    pub(super) fn is_busy(&self) -> bool {
        let waits = |post: &Post| !matches!(post.stage, Stage::Paused { .. });
        !self.queuing.is_empty() || self.posts.values().any(waits)
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        let until = |post: &Post| match post.stage {
            Stage::Paused { until } => Some(until),
            Stage::WaitKey | Stage::Making | Stage::Ready | Stage::Sent => None,
        };
        self.posts.values().filter_map(until).min()
    }

    pub(super) fn tell(&mut self, ticket: Ticket, (to, text): (UserId, String), pins: &Pins, out: &mut Outbox) {
        if let Some(why) = refusal(&to, &text, pins) {
            return out.event(Event::Failed { ticket, why });
        }
        self.queuing.insert(ticket, to.clone());
        out.push(Output::Post(PostWork::Queue { ticket, to, text }));
    }

    pub(super) fn on_queued(&mut self, ticket: Ticket, result: Result<PostId, String>, out: &mut Outbox) {
        let Some(to) = self.queuing.remove(&ticket) else { return };
        let id = match result {
            Ok(id) => id,
            Err(why) => {
                let why = TellFault::NotWritten(why);
                return out.event(Event::Failed { ticket, why });
            }
        };
        if !self.is_on {
            return told(ticket, String::new(), (PostState::Queued, None), out);
        }
        self.tickets.insert(id, ticket);
        self.add(Unanswered { id, to, signed: None });
    }

    fn add(&mut self, waiting: Unanswered) {
        let Unanswered { id, to, signed } = waiting;
        if self.posts.contains_key(&id) {
            return;
        }
        if let Some((msg_ref, _)) = &signed {
            self.by_ref.insert(msg_ref.clone(), id);
        }
        let stage = if signed.is_some() { Stage::Ready } else { Stage::WaitKey };
        let post = Post {
            to,
            stage,
            signed,
            pauses: 0,
            stuck: 0,
        };
        self.posts.insert(id, post);
        self.is_due = true;
    }

    /// The server has let us in.
    pub(super) fn on_online(&mut self, acks: bool, out: &mut Outbox) {
        self.is_on = acks;
        self.was_on = acks;
        if acks {
            out.push(Output::Post(PostWork::Reload));
        }
    }

    /// Everything that waits goes on with the next link, which the history tells of.
    pub(super) fn on_disconnected(&mut self, out: &mut Outbox) {
        self.is_on = false;
        self.is_stuck = false;
        self.posts.clear();
        self.by_ref.clear();
        self.asked.clear();
        self.known.clear();
        for (_, ticket) in std::mem::take(&mut self.tickets) {
            told(ticket, String::new(), (PostState::Queued, None), out);
        }
    }

    pub(super) fn on_unanswered(&mut self, now: Now, waiting: Vec<Unanswered>, out: &mut Outbox) {
        if !self.is_on {
            return;
        }
        for it in waiting {
            let is_old = |(_, at): &(String, Unix)| now.unix.saturating_sub(*at) > FRAME_AGE_MAX_MS;
            if it.signed.as_ref().is_some_and(is_old) {
                out.push(Output::Post(PostWork::Unmake(it.id)));
                self.add(Unanswered { signed: None, ..it });
            } else {
                self.add(it);
            }
        }
    }

    /// What is known of this user's keys and program is as new as it can be.
    pub(super) fn on_key(&mut self, user: &UserId) {
        self.known.insert(user.clone());
        self.is_due = true;
    }

    /// Who is pinned may be away, so that our server knows nothing of them; who is not cannot be written to.
    pub(super) fn on_no_key(&mut self, now: Now, user: &UserId, fault: &TellFault, pins: &Pins, out: &mut Outbox) {
        if pins.get(user).is_some() && pins.refusal(user).is_none() {
            return self.on_key(user);
        }
        for id in self.waiting_for(user) {
            if *fault == TellFault::NoAnswer {
                self.pause(now, id);
            } else {
                self.fail(id, fault.clone(), out);
            }
        }
    }

    /// Nothing more is sent to this user; what was sent waits for its answer.
    pub(super) fn on_stop(&mut self, user: &UserId, fault: &TellFault, out: &mut Outbox) {
        let unsent = |(_, post): &(&PostId, &Post)| post.to == *user && post.stage != Stage::Sent;
        let ids: Vec<PostId> = self.posts.iter().filter(unsent).map(|(id, _)| *id).collect();
        for id in ids {
            self.fail(id, fault.clone(), out);
        }
    }

    fn waiting_for(&self, user: &UserId) -> Vec<PostId> {
        let waits = |(_, post): &(&PostId, &Post)| post.to == *user && post.stage == Stage::WaitKey;
        self.posts.iter().filter(waits).map(|(id, _)| *id).collect()
    }

    /// Makes and sends what may be.
    pub(super) fn pump(&mut self, now: Now, (pins, people): (&Pins, &People), asks: &mut Asks, out: &mut Outbox) {
        if !self.is_on || !(self.is_due || self.deadline().is_some_and(|at| at <= now.mono)) {
            return;
        }
        self.is_due = false;
        let under_way = |post: &&Post| matches!(post.stage, Stage::Making | Stage::Sent);
        let mut room = WINDOW_COUNT_MAX.saturating_sub(self.posts.values().filter(under_way).count());
        let mut held: BTreeSet<UserId> = BTreeSet::new();
        let mut refused = Vec::new();
        for (id, post) in &mut self.posts {
            if matches!(post.stage, Stage::Paused { until } if until <= now.mono) {
                post.stage = if post.signed.is_some() {
                    Stage::Ready
                } else {
                    Stage::WaitKey
                };
                self.asked.remove(&post.to);
            }
            match post.stage {
                Stage::Sent => continue,
                Stage::WaitKey if pins.refusal(&post.to).is_some() => refused.push((*id, post.to.clone())),
                Stage::WaitKey if room > 0 && self.known.contains(&post.to) => {
                    if let Some(making) = making(*id, post, now, (pins, people), &self.pubkey) {
                        room = room.saturating_sub(1);
                        post.stage = Stage::Making;
                        out.push(Output::Post(PostWork::Make(making)));
                    }
                }
                Stage::WaitKey if !self.known.contains(&post.to) => {
                    if self.asked.insert(post.to.clone()) {
                        asks.ask_key(now, &post.to, out);
                    }
                }
                Stage::Ready if room > 0 && !held.contains(&post.to) => {
                    room = room.saturating_sub(1);
                    post.stage = Stage::Sent;
                    out.push(Output::Post(PostWork::Dispatch(*id)));
                    continue;
                }
                Stage::WaitKey | Stage::Making | Stage::Ready | Stage::Paused { .. } => {}
            }
            held.insert(post.to.clone());
        }
        for (id, to) in refused {
            if let Some(fault) = pins.refusal(&to) {
                self.fail(id, fault, out);
            }
        }
    }

    pub(super) fn on_made(&mut self, id: PostId, result: Result<(String, Unix), TellFault>, out: &mut Outbox) {
        let making = |post: &&mut Post| post.stage == Stage::Making;
        let Some(post) = self.posts.get_mut(&id).filter(making) else {
            return;
        };
        match result {
            Ok((msg_ref, ts)) => {
                post.stage = Stage::Ready;
                post.signed = Some((msg_ref.clone(), ts));
                self.by_ref.insert(msg_ref, id);
                self.is_due = true;
            }
            Err(fault) => self.fail(id, fault, out),
        }
    }

    /// Another program of ours has had the answer.
    pub(super) fn on_gone(&mut self, id: PostId, (msg_ref, state): (String, PostState), out: &mut Outbox) {
        self.forget(id);
        let Some(ticket) = self.tickets.remove(&id) else { return };
        if state == PostState::Failed {
            let what = "this profile says so; see `socp history`, where what is damaged is not shown";
            let why = TellFault::GoesNowhere(what.to_owned());
            return out.event(Event::Failed { ticket, why });
        }
        told(ticket, msg_ref, (state, None), out);
    }

    /// It has no frame any more: it is made anew.
    pub(super) fn on_unmade(&mut self, id: PostId) {
        let Some(post) = self.posts.get_mut(&id) else { return };
        post.stage = Stage::WaitKey;
        if let Some((msg_ref, _)) = post.signed.take() {
            self.by_ref.remove(&msg_ref);
        }
        self.is_due = true;
    }

    /// The profile cannot be read or written: later. Told when that was in vain a few times, then tried on all the same.
    pub(super) fn on_stuck(&mut self, now: Now, id: PostId, why: String, out: &mut Outbox) {
        self.pause(now, id);
        let Some(post) = self.posts.get_mut(&id) else { return };
        post.stuck = post.stuck.saturating_add(1);
        if post.stuck < STUCK_COUNT_MAX {
            return;
        }
        let why = TellFault::Stuck(why);
        let is_told = std::mem::replace(&mut self.is_stuck, true);
        if let Some(ticket) = self.tickets.remove(&id) {
            out.event(Event::Failed { ticket, why });
        } else if !is_told {
            out.notice(Some(post.to.clone()), format!("a message waits: {why}"));
        }
    }

    fn forget(&mut self, id: PostId) {
        if let Some((msg_ref, _)) = self.posts.remove(&id).and_then(|post| post.signed) {
            self.by_ref.remove(&msg_ref);
        }
        self.is_due = true;
    }

    /// Whom the message with this reference, which waits for an answer, is for.
    pub(super) fn recipient(&self, msg_ref: &str) -> Option<&UserId> {
        let id = self.by_ref.get(msg_ref)?;
        self.posts.get(id).map(|post| &post.to)
    }

    /// The server could not write it down: later.
    pub(super) fn on_not_stored(&mut self, now: Now, msg_ref: &str) {
        if let Some(id) = self.by_ref.get(msg_ref).copied() {
            self.pause(now, id);
        }
    }

    fn pause(&mut self, now: Now, id: PostId) {
        let Some(post) = self.posts.get_mut(&id) else { return };
        let wait = PAUSE_MIN_MS.saturating_mul(1_u64.checked_shl(post.pauses).unwrap_or(u64::MAX));
        post.pauses = post.pauses.saturating_add(1).min(16);
        let until = now.mono.saturating_add(wait.min(PAUSE_MAX_MS));
        post.stage = Stage::Paused { until };
    }

    /// Too old for some server: it is made anew.
    pub(super) fn on_too_old(&mut self, msg_ref: &str, out: &mut Outbox) {
        if let Some(id) = self.by_ref.get(msg_ref).copied() {
            out.push(Output::Post(PostWork::Unmake(id)));
            self.on_unmade(id);
        }
    }

    /// Remembers what is said to whoever waits for a message that goes nowhere.
    pub(super) fn on_refused(&mut self, msg_ref: &str, fault: TellFault) {
        if let Some(id) = self.by_ref.get(msg_ref) {
            self.failing.insert(*id, fault);
        }
    }

    fn fail(&mut self, id: PostId, fault: TellFault, out: &mut Outbox) {
        self.forget(id);
        out.push(Output::Post(PostWork::Fail {
            id,
            why: fault.to_string(),
        }));
        self.failing.insert(id, fault);
    }

    /// That it goes nowhere was known, or cannot be written down; then it is found out again on the next link.
    pub(super) fn on_not_failed(&mut self, id: PostId, out: &mut Outbox) {
        let fault = self.failing.remove(&id);
        if let (Some(why), Some(ticket)) = (fault, self.tickets.remove(&id)) {
            out.event(Event::Failed { ticket, why });
        }
    }

    /// What a server said is written down; true if somebody waited for it and is told.
    pub(super) fn on_change(&mut self, change: &Change, server: Option<&ServerId>, out: &mut Outbox) -> bool {
        let fault = self.failing.remove(&change.id);
        self.forget(change.id);
        let Some(ticket) = self.tickets.remove(&change.id) else {
            return false;
        };
        if change.state == PostState::Failed {
            let said = || TellFault::GoesNowhere(change.why.clone().unwrap_or_default());
            let why = fault.unwrap_or_else(said);
            out.event(Event::Failed { ticket, why });
        } else {
            told(ticket, change.msg_ref.clone(), (change.state, server), out);
        }
        true
    }

    /// The same, where the history knew it already.
    pub(super) fn on_answered(&mut self, refs: &[String], state: (PostState, Option<&ServerId>), out: &mut Outbox) {
        for msg_ref in refs {
            let Some(id) = self.by_ref.get(msg_ref).copied() else {
                continue;
            };
            self.forget(id);
            let fault = self.failing.remove(&id);
            let Some(ticket) = self.tickets.remove(&id) else {
                continue;
            };
            if state.0 == PostState::Failed {
                let known = || TellFault::GoesNowhere("another program of this profile was told so".to_owned());
                let why = fault.unwrap_or_else(known);
                out.event(Event::Failed { ticket, why });
            } else {
                told(ticket, msg_ref.clone(), state, out);
            }
        }
    }
}

/// Why a message is not even written down.
fn refusal(to: &UserId, text: &str, pins: &Pins) -> Option<TellFault> {
    let (bytes, max) = (text.len(), DIRECT_TEXT_BYTES_MAX);
    if text.is_empty() {
        return Some(TellFault::Empty);
    }
    let is_long = bytes > max;
    is_long
        .then_some(TellFault::TooLong { bytes, max })
        .or_else(|| pins.refusal(to))
}

fn making(id: PostId, post: &Post, now: Now, (pins, people): (&Pins, &People), sender_pub: &KeyText) -> Option<Making> {
    let pin = pins.newest(&post.to)?;
    let seen = people.get(&post.to).and_then(|person| person.server_id.clone());
    Some(Making {
        id,
        to: post.to.clone(),
        key: pin.enc_pubkey.clone(),
        ts: now.unix,
        home: seen.or_else(|| pin.server_id.clone()),
        is_numbered: pin.acks,
        sender_pub: sender_pub.clone(),
    })
}

fn told(ticket: Ticket, msg_ref: String, (state, server): (PostState, Option<&ServerId>), out: &mut Outbox) {
    let server = server.cloned();
    out.event(Event::Sent {
        ticket,
        msg_ref,
        state,
        server,
    });
}

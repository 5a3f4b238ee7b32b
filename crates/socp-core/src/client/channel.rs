//! Messages to the public channel on their way out (SOCP §9.3, PROTOCOL I.8).
//!
//! To the letter, every member gets a copy of their own, encrypted for them alone. Copies are made a few at a time, so
//! that neither the key operations nor the server are flooded, and a fence follows every [`FENCE_COPIES_COUNT`] copies:
//! once it is answered and no `ERROR` named a copy before it, the server has taken them. The fence asks for our own key,
//! which the server has whoever else comes and goes.

use super::around::Around;
use super::asks::Why;
use super::fault::TellFault;
use super::io::{Event, Output, Person, Place, Sealed, Ticket};
use super::outbox::Outbox;
use super::people::Members;
use super::recent::Recent;
use crate::clock::{Now, Unix};
use socp_proto::limits::DIRECT_TEXT_BYTES_MAX;
use socp_proto::payload::{ChannelMessage, ErrorNotice, msg_ref};
use socp_proto::{Address, KeyText, Payload, UserId};
use std::collections::{BTreeMap, VecDeque};

/// What the public channel is called on the wire (SOCP §15.1).
pub const CHANNEL_ID: &str = "public";
/// Messages to the channel that may be under way (our choice).
pub const BROADCASTS_COUNT_MAX: usize = 64;
/// Copies that wait for a key or for the driver to seal them (our choice).
const UNSEALED_COUNT_MAX: usize = 8;
/// Copies between one fence and the next (our choice).
const FENCE_COPIES_COUNT: usize = 32;
/// Copies that are sent and not yet behind an answered fence (our choice).
const UNANSWERED_COUNT_MAX: usize = 2 * FENCE_COPIES_COUNT;

/// How a message to the channel went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelReport {
    /// When it was said; the same in every copy.
    pub ts: Unix,
    /// Whose copy the server has taken.
    pub sent: Vec<Person>,
    /// Who left meanwhile.
    pub gone: Vec<Person>,
    /// Who is there and did not, or not surely, get it, and why.
    pub failed: Vec<(Person, TellFault)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    WaitKey,
    Sealing,
    Sent { msg_ref: String, fence: Option<Ticket> },
}

/// One member's copy.
#[derive(Debug)]
struct Copy {
    broadcast: Ticket,
    to: UserId,
    stage: Stage,
}

#[derive(Debug)]
struct Broadcast {
    ticket: Ticket,
    text: String,
    /// None until the list of users is complete.
    waiting: Option<VecDeque<UserId>>,
    sent: Vec<UserId>,
    failed: Vec<(UserId, TellFault)>,
    ts: Unix,
}

/// Our own messages to the channel under way.
#[derive(Debug)]
pub(super) struct Channel {
    pubkey: KeyText,
    broadcasts: VecDeque<Broadcast>,
    copies: BTreeMap<Ticket, Copy>,
    next_ticket: Ticket,
    next_fence: Ticket,
}

impl Channel {
    pub(super) fn new(pubkey: KeyText) -> Self {
        Self {
            pubkey,
            broadcasts: VecDeque::new(),
            copies: BTreeMap::new(),
            next_ticket: 0,
            next_fence: 0,
        }
    }

    /// Begins when the list of users is there; [`Channel::pump`] does the rest.
    pub(super) fn tell_all(&mut self, now: Now, ticket: Ticket, text: String, online: bool, out: &mut Outbox) {
        let bytes = text.len();
        let refusal = if text.is_empty() {
            Some(TellFault::Empty)
        } else if bytes > DIRECT_TEXT_BYTES_MAX {
            let max = DIRECT_TEXT_BYTES_MAX;
            Some(TellFault::TooLong { bytes, max })
        } else if !online {
            Some(TellFault::Offline)
        } else if self.broadcasts.len() >= BROADCASTS_COUNT_MAX {
            Some(TellFault::Busy)
        } else {
            None
        };
        if let Some(why) = refusal {
            return out.event(Event::ChannelSent {
                ticket,
                result: Err(why),
            });
        }
        self.broadcasts.push_back(Broadcast {
            ticket,
            text,
            waiting: None,
            sent: Vec::new(),
            failed: Vec::new(),
            ts: now.unix,
        });
    }

    /// Makes as many copies as may be under way, and ends what is through.
    pub(super) fn pump(&mut self, around: &mut Around<'_>) {
        self.find_members(around);
        while let Some((broadcast, to)) = self.next_copy() {
            self.begin_copy(broadcast, to, around);
        }
        self.fence_if_due(around);
        self.end_finished(around);
    }

    fn find_members(&mut self, around: &mut Around<'_>) {
        let mut refused = Vec::new();
        for broadcast in self.broadcasts.iter_mut().filter(|it| it.waiting.is_none()) {
            match around.people.members(around.out.user()) {
                Members::NotYet => break,
                Members::Unknown(why) => refused.push((broadcast.ticket, TellFault::NoList(why))),
                Members::Are(members) if members.is_empty() => refused.push((broadcast.ticket, TellFault::Alone)),
                Members::Are(members) => broadcast.waiting = Some(members.into()),
            }
        }
        for (ticket, why) in refused {
            self.broadcasts.retain(|broadcast| broadcast.ticket != ticket);
            around.out.event(Event::ChannelSent {
                ticket,
                result: Err(why),
            });
        }
    }

    /// The next member, unless enough copies are under way. Messages leave in the order in which they were said.
    fn next_copy(&mut self) -> Option<(Ticket, UserId)> {
        let is_sent = |copy: &&Copy| matches!(copy.stage, Stage::Sent { .. });
        let sent = self.copies.values().filter(is_sent).count();
        let unsealed = self.copies.len().saturating_sub(sent);
        if unsealed >= UNSEALED_COUNT_MAX || self.copies.len() >= UNANSWERED_COUNT_MAX {
            return None;
        }
        let is_unfinished = |broadcast: &&mut Broadcast| broadcast.waiting.as_ref().is_some_and(|it| !it.is_empty());
        let broadcast = self.broadcasts.iter_mut().find(is_unfinished)?;
        let to = broadcast.waiting.as_mut()?.pop_front()?;
        Some((broadcast.ticket, to))
    }

    fn begin_copy(&mut self, broadcast: Ticket, to: UserId, around: &mut Around<'_>) {
        if around.people.get(&to).is_none() {
            return self.note_failure(broadcast, to.clone(), TellFault::NotOnline(to));
        }
        if let Some(why) = around.pins.refusal(&to) {
            return self.note_failure(broadcast, to, why);
        }
        let ticket = self.next_ticket;
        self.next_ticket = ticket.wrapping_add(1);
        let stage = Stage::WaitKey;
        self.copies.insert(ticket, Copy { broadcast, to, stage });
        self.seal(ticket, around);
    }

    /// Has the copy sealed, or its key asked for.
    fn seal(&mut self, ticket: Ticket, around: &mut Around<'_>) {
        let Some(copy) = self.copies.get_mut(&ticket) else {
            return;
        };
        let Some(pin) = around.pins.newest(&copy.to) else {
            return around.asks.ask_key(around.now, &copy.to, around.out);
        };
        let Some(broadcast) = self.broadcasts.iter().find(|it| it.ticket == copy.broadcast) else {
            return;
        };
        copy.stage = Stage::Sealing;
        let from = around.out.user().clone();
        around.out.push(Output::Seal {
            place: Place::Channel,
            ticket,
            key: pin.enc_pubkey.clone(),
            text: broadcast.text.clone(),
            from,
            to: copy.to.clone(),
            ts: broadcast.ts,
        });
    }

    pub(super) fn on_key(&mut self, user: &UserId, around: &mut Around<'_>) {
        for ticket in self.tickets(|copy| copy.to == *user && copy.stage == Stage::WaitKey) {
            self.seal(ticket, around);
        }
    }

    pub(super) fn on_no_key(&mut self, user: &UserId, fault: &TellFault) {
        for ticket in self.tickets(|copy| copy.to == *user && copy.stage == Stage::WaitKey) {
            self.fail(ticket, fault.clone());
        }
    }

    /// Nothing more is sent to this user.
    pub(super) fn on_stop(&mut self, user: &UserId, fault: &TellFault) {
        for ticket in self.tickets(|copy| copy.to == *user && !matches!(copy.stage, Stage::Sent { .. })) {
            self.fail(ticket, fault.clone());
        }
    }

    pub(super) fn on_sealed(&mut self, ticket: Ticket, result: Result<Sealed, String>, around: &mut Around<'_>) {
        let Some(copy) = self.copies.get_mut(&ticket) else {
            return;
        };
        let sealed = match result {
            Ok(sealed) => sealed,
            Err(why) => {
                let user = copy.to.clone();
                return self.fail(ticket, TellFault::Key { user, why });
            }
        };
        let Some(broadcast) = self.broadcasts.iter().find(|it| it.ticket == copy.broadcast) else {
            return;
        };
        copy.stage = Stage::Sent {
            msg_ref: msg_ref(&sealed.content_sig),
            fence: None,
        };
        let message = ChannelMessage {
            ciphertext: sealed.ciphertext,
            sender_pub: self.pubkey.clone(),
            content_sig: sealed.content_sig,
            group_id: Some(CHANNEL_ID.to_owned()),
        };
        let (to, ts) = (Address::from(&copy.to), broadcast.ts);
        around.out.send_to(to, ts, &Payload::MsgPublicChannel(message));
    }

    /// A fence after so many copies, or when there are no more to come.
    fn fence_if_due(&mut self, around: &mut Around<'_>) {
        let is_unfenced = |copy: &Copy| matches!(copy.stage, Stage::Sent { fence: None, .. });
        let unfenced = self.tickets(is_unfenced);
        let is_more_to_come = self
            .copies
            .values()
            .any(|copy| !matches!(copy.stage, Stage::Sent { .. }))
            || self
                .broadcasts
                .iter()
                .any(|it| it.waiting.as_ref().is_some_and(|it| !it.is_empty()));
        if unfenced.is_empty() || (is_more_to_come && unfenced.len() < FENCE_COPIES_COUNT) {
            return;
        }
        let number = self.next_fence;
        self.next_fence = number.wrapping_add(1);
        for ticket in unfenced {
            if let Some(Copy {
                stage: Stage::Sent { fence, .. },
                ..
            }) = self.copies.get_mut(&ticket)
            {
                *fence = Some(number);
            }
        }
        let ourselves = around.out.user().clone();
        around.asks.ask(around.now, &ourselves, Why::Copies(number), around.out);
    }

    pub(super) fn on_fence(&mut self, number: Ticket, recent: &mut Recent) {
        for ticket in self.behind(number) {
            let Some(copy) = self.copies.remove(&ticket) else {
                continue;
            };
            if let Stage::Sent { msg_ref, .. } = copy.stage {
                recent.add(msg_ref, &copy.to);
            }
            if let Some(broadcast) = self.broadcasts.iter_mut().find(|it| it.ticket == copy.broadcast) {
                broadcast.sent.push(copy.to);
            }
        }
    }

    /// The fence will not be answered.
    pub(super) fn on_no_fence(&mut self, number: Ticket) {
        for ticket in self.behind(number) {
            self.fail(ticket, TellFault::NoAnswer);
        }
    }

    /// The server refused the copy with this reference; false if there is none such.
    pub(super) fn on_refused(&mut self, refused: &str, error: &ErrorNotice) -> bool {
        let is_it = |copy: &Copy| matches!(&copy.stage, Stage::Sent { msg_ref, .. } if msg_ref == refused);
        let tickets = self.tickets(is_it);
        let is_known = !tickets.is_empty();
        for ticket in tickets {
            if let Some(copy) = self.copies.get(&ticket) {
                let why = TellFault::of(error, &copy.to);
                self.fail(ticket, why);
            }
        }
        is_known
    }

    /// The server cannot reach this user; false if no copy of theirs is under way.
    pub(super) fn on_not_found(&mut self, user: &UserId) -> bool {
        let tickets = self.tickets(|copy| copy.to == *user && copy.stage != Stage::Sealing);
        let is_known = !tickets.is_empty();
        for ticket in tickets {
            self.fail(ticket, TellFault::NotOnline(user.clone()));
        }
        is_known
    }

    /// The server refused something that it does not name.
    pub(super) fn on_doubt(&mut self, error: &ErrorNotice) {
        for ticket in self.tickets(|copy| matches!(copy.stage, Stage::Sent { .. })) {
            let (code, detail) = (error.code.clone(), error.detail.clone());
            self.fail(ticket, TellFault::Refused { code, detail });
        }
    }

    /// Whoever had no copy yet gets none.
    pub(super) fn on_disconnected(&mut self) {
        for ticket in self.tickets(|_| true) {
            self.fail(ticket, TellFault::Lost);
        }
        for broadcast in &mut self.broadcasts {
            // Without the list yet: `find_members` will learn why there is none.
            let left = broadcast.waiting.iter_mut().flat_map(std::mem::take);
            broadcast.failed.extend(left.map(|to| (to, TellFault::Offline)));
        }
    }

    fn end_finished(&mut self, around: &mut Around<'_>) {
        let mut going_on = VecDeque::new();
        for broadcast in std::mem::take(&mut self.broadcasts) {
            let has_waiting = broadcast.waiting.as_ref().is_none_or(|waiting| !waiting.is_empty());
            if has_waiting || self.copies.values().any(|copy| copy.broadcast == broadcast.ticket) {
                going_on.push_back(broadcast);
            } else {
                end(broadcast, around);
            }
        }
        self.broadcasts = going_on;
    }

    fn fail(&mut self, ticket: Ticket, why: TellFault) {
        if let Some(copy) = self.copies.remove(&ticket) {
            self.note_failure(copy.broadcast, copy.to, why);
        }
    }

    fn note_failure(&mut self, broadcast: Ticket, to: UserId, why: TellFault) {
        if let Some(broadcast) = self.broadcasts.iter_mut().find(|it| it.ticket == broadcast) {
            broadcast.failed.push((to, why));
        }
    }

    fn behind(&self, number: Ticket) -> Vec<Ticket> {
        self.tickets(|copy| matches!(copy.stage, Stage::Sent { fence, .. } if fence == Some(number)))
    }

    fn tickets(&self, is_meant: impl Fn(&Copy) -> bool) -> Vec<Ticket> {
        let meant = self.copies.iter().filter(|(_, copy)| is_meant(copy));
        meant.map(|(ticket, _)| *ticket).collect()
    }
}

fn end(broadcast: Broadcast, around: &mut Around<'_>) {
    let (people, pins) = (around.people, around.pins);
    let is_gone = |(to, why): &(UserId, TellFault)| matches!(why, TellFault::NotOnline(_)) && people.get(to).is_none();
    let (gone, failed): (Vec<_>, Vec<_>) = broadcast.failed.into_iter().partition(is_gone);
    let describe = |user: &UserId| people.describe(user, pins);
    let report = ChannelReport {
        ts: broadcast.ts,
        sent: broadcast.sent.iter().map(describe).collect(),
        gone: gone.iter().map(|(user, _)| describe(user)).collect(),
        failed: failed.into_iter().map(|(user, why)| (describe(&user), why)).collect(),
    };
    around.out.event(Event::ChannelSent {
        ticket: broadcast.ticket,
        result: Ok(report),
    });
}

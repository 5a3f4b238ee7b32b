//! Messages that cannot be opened yet, for a reason that may pass (PROTOCOL II.6).
//!
//! Their author's key is not to be had, or in doubt, or they are signed with one that is not known as theirs. The server has
//! our word for what we acknowledge, so they are written down as they came, and looked at again when what is known of the
//! author's keys has changed, or when there is a new link. What opens then is shown like any other message, and what turns
//! out to be forged is refused as it would have been at once.

use super::Client;
use super::fault::TellFault;
use super::io::Output;
use super::mailbox::Item;
use super::post_io::{Deposit, Held, Outcome, PostId, PostWork};
use crate::clock::Now;
use socp_proto::{Fingerprint, UserId};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Authors whose keys are asked for on a new link since messages of theirs are held; the others' are asked for on a later
/// one, or heard of (our choice).
const AUTHORS_ASKED_COUNT_MAX: usize = 64;

/// Why a message cannot be opened yet.
#[derive(Debug)]
pub(super) enum Hindrance {
    /// Another key was shown for its author, and the person has not decided.
    Stopped,
    /// The author's key is not to be had, and why.
    NoKey(String),
    /// It says that it is signed with another key than the author's.
    OtherKey,
}

impl Hindrance {
    /// Why it is refused where it cannot be held.
    pub(super) fn refusal(&self) -> String {
        match self {
            Self::Stopped => {
                "another key is shown for them than the one you know, and you have not decided yet; see `socp key show`"
                    .to_owned()
            }
            Self::NoKey(fault) => format!("their key is not to be had ({fault})"),
            Self::OtherKey => super::fault::OpenFault::Signature.to_string(),
        }
    }

    /// What is told once it is held.
    pub(super) fn told(&self, author: &UserId) -> String {
        let why = match self {
            Self::Stopped => format!(
                "another key is shown for them than the one you know. See `socp key show`, and decide with \
                 `socp key accept {author}` or `socp key keep {author}`"
            ),
            Self::NoKey(fault) => format!("their key is not to be had ({fault}). It is looked at again when it is"),
            Self::OtherKey => {
                "it is signed with a key that is not known as theirs. It is looked at again when theirs changes"
                    .to_owned()
            }
        };
        format!("a message that claims to be from {author} waits here and is not accepted yet: {why}")
    }
}

/// What is known of somebody's keys, as far as it decides what can be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    key: Option<Fingerprint>,
    former_count: usize,
    is_revoked: bool,
    /// No server knows them.
    is_unknown: bool,
}

/// Whose messages are held, and what was known of their keys when those were looked at last.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    authors: BTreeMap<UserId, Option<Known>>,
    /// Whose key was the last to be asked for.
    asked_last: Option<UserId>,
    /// Something that was opened found no room before the disk, and is still held.
    is_dropped: bool,
}

impl Waiting {
    /// Whether messages of this user are held.
    pub(super) fn is_for(&self, user: &UserId) -> bool {
        self.authors.contains_key(user)
    }

    /// Of those whose keys are wanted, the ones to ask for on this link: those behind whom the last link ended, so that
    /// whoever makes up authors keeps nobody's key from being asked for. A program that has just begun begins anywhere.
    fn turn_of(&mut self, now: Now, wanted: &BTreeSet<UserId>) -> Vec<UserId> {
        if self.asked_last.is_none() && wanted.len() > AUTHORS_ASKED_COUNT_MAX {
            let anywhere = usize::try_from(now.unix).unwrap_or(0) % wanted.len();
            self.asked_last = wanted.iter().nth(anywhere).cloned();
        }
        let last = self.asked_last.as_ref();
        let behind = last.map_or(Bound::Unbounded, Bound::Excluded);
        let up_to = last.into_iter().flat_map(|last| wanted.range(..=last));
        let turn = wanted.range((behind, Bound::Unbounded)).chain(up_to);
        let turn: Vec<UserId> = turn.take(AUTHORS_ASKED_COUNT_MAX).cloned().collect();
        self.asked_last = turn.last().cloned().or(self.asked_last.take());
        turn
    }
}

impl Client {
    fn known_of(&self, user: &UserId, is_unknown: bool) -> Known {
        let pin = self.pins.get(user);
        Known {
            key: pin.map(|pin| pin.pubkey.fingerprint()),
            former_count: pin.map_or(0, |pin| pin.former.len()),
            is_revoked: pin.is_some_and(|pin| pin.revoked),
            is_unknown,
        }
    }

    /// Looks again at what is held of somebody, if more is known of their keys than the last time; true if so.
    pub(super) fn recheck(&mut self, user: &UserId, is_unknown: bool) -> bool {
        let known = self.known_of(user, is_unknown);
        let is_stopped = self.pins.alarms.is_stopped(user);
        let Some(before) = self.waiting.authors.get_mut(user).filter(|_| !is_stopped) else {
            return false;
        };
        if before.as_ref() == Some(&known) {
            return false;
        }
        *before = Some(known);
        let of = Some(user.clone());
        self.out.push(Output::Post(PostWork::Recheck { of }));
        true
    }

    /// What is known of the keys of the author of this message, which is to be held.
    pub(super) fn known_to_hold(&self, deposit: &Deposit) -> Option<Known> {
        let Deposit::Hold { held, .. } = deposit else {
            return None;
        };
        let is_stopped = self.pins.alarms.is_stopped(&held.from);
        (!is_stopped).then(|| self.known_of(&held.from, false))
    }

    /// What has become of a message that was held cannot be written down now.
    pub(super) fn on_released_dropped(&mut self, id: PostId) {
        self.inbox.on_released(id);
        self.waiting.is_dropped = true;
    }

    /// There is room before the disk again, for what found none.
    pub(super) fn recheck_dropped(&mut self) {
        if std::mem::take(&mut self.waiting.is_dropped) {
            self.recheck_all();
        }
    }

    /// Looks again at everything that is held, in a program that shows what arrives.
    pub(super) fn recheck_all(&mut self) {
        if self.mailbox.request().is_some() {
            self.out.push(Output::Post(PostWork::Recheck { of: None }));
        }
    }

    pub(super) fn on_waiting(
        &mut self,
        now: Now,
        of: Option<UserId>,
        held: Result<Vec<(PostId, Held)>, String>,
        expired: Vec<(UserId, String)>,
    ) {
        for (user, text) in expired {
            self.out.notice(Some(user), text);
        }
        let known = of.as_ref().and_then(|user| self.waiting.authors.get(user)?.as_ref());
        let is_unknown = known.is_some_and(|known| known.is_unknown);
        match held {
            Ok(held) => {
                let mut wanted = self.take_again(of.as_ref(), held);
                let asked = if of.is_none() {
                    self.waiting.turn_of(now, &wanted)
                } else {
                    // Something new is known of this key: it is asked for only if there is none by now.
                    wanted.retain(|user| !is_unknown && self.pins.get(user).is_none());
                    wanted.into_iter().collect()
                };
                for user in &asked {
                    self.asks.ask_key(now, user, &mut self.out);
                }
            }
            Err(why) => {
                let text = format!("what waits in this profile for somebody's key cannot be read ({why})");
                self.out.notice(of.clone(), text);
            }
        }
        let Some(user) = of else { return };
        // What waited here for this.
        if is_unknown {
            let fault = TellFault::UnknownUser(user.clone());
            self.inbox.on_no_key(&user, &fault, &self.pins, &mut self.out);
        } else {
            self.inbox.on_key(&user, &self.pins, &self.people, &mut self.out);
        }
    }

    /// Whose newer keys are worth asking for.
    fn take_again(&mut self, of: Option<&UserId>, held: Vec<(PostId, Held)>) -> BTreeSet<UserId> {
        let mut wanted = BTreeSet::new();
        if let Some(user) = of.filter(|_| held.is_empty()) {
            self.waiting.authors.remove(user);
        }
        for (id, held) in held {
            let author = held.from.clone();
            let known = self.known_of(&author, false);
            let stopped = self.pins.alarms.is_stopped(&author);
            let known = self
                .waiting
                .authors
                .entry(author.clone())
                .or_insert((!stopped).then_some(known));
            let is_unknown = known.as_ref().is_some_and(|known| known.is_unknown);
            let pins = (&self.pins, &self.people);
            if self.inbox.take_again((id, held), pins, is_unknown, &mut self.out) {
                wanted.insert(author);
            }
        }
        wanted
    }

    /// A message whose author's key is not to be had.
    pub(super) fn on_no_key_to_open(&mut self, now: Now, user: &UserId, fault: &TellFault) {
        let is_unknown = matches!(fault, TellFault::UnknownUser(_)) && self.pins.get(user).is_none();
        // What waits in the history came before what waits here.
        if is_unknown && self.recheck(user, true) {
            return;
        }
        if self.inbox.on_no_key(user, fault, &self.pins, &mut self.out) {
            self.asks.ask_key(now, user, &mut self.out);
        }
    }

    /// Something was written down; tells of it if it waits.
    pub(super) fn note_held(&mut self, item: &Item, outcome: &Outcome) {
        let deposit = &item.deposit;
        if let Deposit::Released { id, .. } = deposit {
            self.inbox.on_released(*id);
        }
        let Deposit::Hold {
            held, told, refused, ..
        } = deposit
        else {
            return;
        };
        let author = held.from.clone();
        let text = match outcome {
            Outcome::Held { is_first } => {
                self.waiting.authors.entry(author.clone()).or_default();
                let known = self.known_to_hold(deposit);
                // Whatever is decided, or has become known while it was written down, it was not looked at yet.
                if known.is_none() || known != item.known {
                    self.waiting.authors.insert(author.clone(), None);
                }
                if known.is_some() && known != item.known {
                    self.recheck(&author, false);
                }
                is_first.then_some(told)
            }
            Outcome::NoRoom => Some(refused),
            Outcome::New { .. } | Outcome::Known { .. } | Outcome::Changed(_) | Outcome::Done => None,
        };
        if let Some(text) = text {
            self.out.notice(Some(author), text.clone());
        }
    }
}

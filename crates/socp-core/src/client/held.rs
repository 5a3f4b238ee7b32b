//! Messages that cannot be opened yet, for a reason that may pass (PROTOCOL II.6).
//!
//! Their author's key is not to be had, or in doubt, or they are signed with one that is not known as theirs. The server has
//! our word for what we acknowledge, so they are written down as they came, and looked at again when what is known of the
//! author's keys has changed, or when there is a new link. What opens then is shown like any other message, and what turns
//! out to be forged is refused as it would have been at once.

use super::Client;
use super::fault::TellFault;
use super::io::Output;
use super::post_io::{Deposit, Held, Outcome, PostId, PostWork};
use crate::clock::Now;
use socp_proto::{Fingerprint, UserId};
use std::collections::{BTreeMap, BTreeSet};

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
struct Known {
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
}

impl Waiting {
    /// Whether messages of this user are held.
    pub(super) fn is_for(&self, user: &UserId) -> bool {
        self.authors.contains_key(user)
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
                // Who is looked at since something new is known of their key is asked for only if there is none by now.
                wanted.retain(|user| of.is_none() || (!is_unknown && self.pins.get(user).is_none()));
                for user in wanted.iter().take(AUTHORS_ASKED_COUNT_MAX) {
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
    pub(super) fn note_held(&mut self, deposit: &Deposit, outcome: &Outcome) {
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
                let known = self.waiting.authors.entry(author.clone()).or_default();
                // Whatever is decided, it was not looked at yet.
                if self.pins.alarms.is_stopped(&author) {
                    *known = None;
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

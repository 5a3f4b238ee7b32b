//! Keys that contradict the pinned ones: the hard stop, and what others say of a user's key (PROTOCOL II.11).
//!
//! Whoever shows another key than the pinned one raises the alarm: the user's own server, another server that was asked, a
//! contact whose keys were compared, a contact card that came another way. From then on nothing is sent to that user and
//! nothing is shown as theirs, until the user of this program has decided; no frame ends it. The alarm is in the profile,
//! so that a new start does not end it either.

use super::fault::TellFault;
use super::io::UserPin;
use super::pins::Pins;
use super::trust::Trust;
use socp_proto::{Card, CardFingerprint, Fingerprint, KeyText, UserId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Cards in one message that are looked at (our choice).
pub const CARDS_PER_MESSAGE_COUNT_MAX: usize = 8;
/// Who has said the same key of one user; of more, no account is kept (our choice).
const WITNESSES_COUNT_MAX: usize = 16;

/// Who shows a key, or tells of one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Teller {
    /// The server that we are connected to.
    Server,
    /// Another server that was asked, by its address.
    OtherServer(String),
    /// A contact, by a card in a message.
    Contact(UserId),
    /// A contact card that the user has added.
    Card,
}

impl fmt::Display for Teller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.write_str("your server"),
            Self::OtherServer(url) => write!(f, "the server {url}"),
            Self::Contact(user) => write!(f, "your contact {user}"),
            Self::Card => f.write_str("the contact card that you added"),
        }
    }
}

/// Another key for somebody than the pinned one, or than the one on their card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// The user.
    pub user: UserId,
    /// The other pair of keys.
    pub seen: CardFingerprint,
    /// The keys themselves, for signatures and for encryption; a card does not hold them.
    pub keys: Option<(KeyText, KeyText)>,
    /// Who showed them.
    pub teller: Teller,
}

/// What must be remembered about whom to trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustNews {
    /// These keys are what a contact card promised.
    Verified(UserPin),
    /// Another key was shown.
    Alarm(Alarm),
    /// Somebody else says the same key.
    Confirmed {
        /// The user.
        user: UserId,
        /// The pinned pair of keys.
        seen: CardFingerprint,
        /// Who says so.
        teller: Teller,
    },
    /// The user has followed on these keys with others; whoever still shows them raises no alarm.
    Replaced {
        /// The user.
        user: UserId,
        /// The pair of keys before.
        seen: CardFingerprint,
    },
    /// The server shows another key, and claims that it is its own.
    ServerChanged(super::io::ServerPin),
}

/// What a profile remembers about whom to trust.
#[derive(Debug, Clone, Default)]
pub struct TrustRecord {
    /// Whose pinned keys were compared.
    pub verified: BTreeSet<UserId>,
    /// Undecided alarms.
    pub alarms: Vec<Alarm>,
    /// Other keys that the user has decided against, and who told of them.
    pub refused: Vec<(UserId, CardFingerprint, Teller)>,
    /// What contact cards promise of users who are not pinned yet.
    pub expected: BTreeMap<UserId, CardFingerprint>,
    /// Who said the pinned key of whom.
    pub confirmed: Vec<(UserId, Teller)>,
    /// Signing keys that the user has decided against, whatever history names them.
    pub denied: Vec<(UserId, Fingerprint)>,
}

/// Whom to trust how far, beside the pins.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    verified: BTreeSet<UserId>,
    alarms: BTreeMap<UserId, Alarm>,
    refused: BTreeSet<(UserId, CardFingerprint)>,
    /// Contacts who were wrong about a user once; what they say of that user is not listened to any more.
    overruled: BTreeSet<(UserId, UserId)>,
    expected: BTreeMap<UserId, CardFingerprint>,
    confirmed: BTreeMap<UserId, BTreeSet<Teller>>,
    denied: BTreeSet<(UserId, Fingerprint)>,
}

impl Alarms {
    pub(super) fn new(record: TrustRecord) -> Self {
        let mut alarms = Self {
            verified: record.verified,
            expected: record.expected,
            denied: record.denied.into_iter().collect(),
            ..Self::default()
        };
        for alarm in record.alarms {
            alarms.alarms.insert(alarm.user.clone(), alarm);
        }
        for (user, seen, teller) in record.refused {
            alarms.refuse(user, seen, &teller);
        }
        for (user, teller) in record.confirmed {
            alarms.confirmed.entry(user).or_default().insert(teller);
        }
        alarms
    }

    fn refuse(&mut self, user: UserId, seen: CardFingerprint, teller: &Teller) {
        if let Teller::Contact(contact) = teller {
            self.overruled.insert((user.clone(), contact.clone()));
        }
        self.refused.insert((user, seen));
    }

    /// About whom nothing is decided yet.
    pub(super) fn users(&self) -> impl Iterator<Item = &UserId> {
        self.alarms.keys()
    }

    /// Why nothing goes on with this user, if so.
    pub(super) fn stop(&self, user: &UserId) -> Option<TellFault> {
        self.alarms.get(user).map(TellFault::from)
    }

    pub(super) fn is_stopped(&self, user: &UserId) -> bool {
        self.alarms.contains_key(user)
    }

    /// Whether the user of this program has decided that this signing key is not that user's.
    pub(super) fn is_denied(&self, user: &UserId, key: &KeyText) -> bool {
        self.denied.contains(&(user.clone(), key.fingerprint()))
    }

    /// The pair of keys that a card promises.
    pub(super) fn expected(&self, user: &UserId) -> Option<CardFingerprint> {
        self.expected.get(user).copied()
    }

    /// Whose card we have, and no key yet.
    pub(super) fn expected_users(&self) -> impl Iterator<Item = &UserId> {
        self.expected.keys()
    }

    pub(super) fn is_verified(&self, user: &UserId) -> bool {
        self.verified.contains(user)
    }

    /// The user has other keys than these, of which nobody has said anything yet. Who has not heard of it is not to be
    /// alarmed about.
    pub(super) fn forget_word(&mut self, user: &UserId, before: CardFingerprint) {
        self.verified.remove(user);
        self.confirmed.remove(user);
        self.note_replaced(user, before);
    }

    pub(super) fn note_replaced(&mut self, user: &UserId, before: CardFingerprint) {
        self.refused.insert((user.clone(), before));
    }

    /// What a card promised is met by keys that came after it: pinned, and no more.
    pub(super) fn forget_card(&mut self, user: &UserId) {
        self.expected.remove(user);
    }

    pub(super) fn verify(&mut self, user: &UserId) {
        self.expected.remove(user);
        self.verified.insert(user.clone());
    }

    pub(super) fn confirmations(&self, user: &UserId) -> usize {
        self.confirmed.get(user).map_or(0, BTreeSet::len)
    }

    /// Stops everything with a user, unless the user of this program has decided against that key already. True if it is
    /// new.
    pub(super) fn raise(&mut self, alarm: &Alarm) -> bool {
        let is_refused = self.refused.contains(&(alarm.user.clone(), alarm.seen));
        !is_refused && self.insist(alarm)
    }

    /// The same, whatever was decided before: without a known key there is none to go on with.
    pub(super) fn insist(&mut self, alarm: &Alarm) -> bool {
        if self.is_stopped(&alarm.user) {
            return false;
        }
        self.alarms.insert(alarm.user.clone(), alarm.clone());
        true
    }

    /// True if nobody knew that this one says so.
    fn confirm(&mut self, user: &UserId, teller: &Teller) -> bool {
        let tellers = self.confirmed.entry(user.clone()).or_default();
        tellers.len() < WITNESSES_COUNT_MAX && tellers.insert(teller.clone())
    }
}

/// What came of comparing what somebody says with what is pinned.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing to say about it.
    Nothing,
    /// The same, and it is to be remembered who said so.
    Confirmed(TrustNews),
    /// Another, and everything with that user stops.
    Alarm(Alarm),
    /// Another, but by a contact whose own keys were never compared; told, and no more: else any stranger could part two
    /// people.
    Doubt(Card),
}

impl Pins {
    /// Puts what the user has decided on in place of what was pinned.
    pub(super) fn replace(&mut self, user: &UserId, pin: Option<UserPin>) {
        match pin {
            Some(pin) => self.set(pin),
            None => self.forget(user),
        }
    }

    /// How far the key of a user can be relied on.
    pub(super) fn trust_in(&self, user: &UserId) -> Trust {
        if self.alarms.is_stopped(user) {
            Trust::Changed
        } else if self.get(user).is_none() {
            Trust::New
        } else if self.alarms.is_verified(user) {
            Trust::Verified
        } else {
            Trust::Pinned
        }
    }

    /// Another server's word on a user's keys.
    pub(super) fn hear_keys(&mut self, user: &UserId, keys: (KeyText, KeyText), teller: Teller) -> Heard {
        let Some(pinned) = self.get(user).map(UserPin::fingerprint) else {
            return Heard::Nothing;
        };
        let seen = CardFingerprint::of(&keys.0, &keys.1);
        self.hear(user, pinned, (seen, Some(keys)), teller)
    }

    /// A card in a message from a contact.
    pub(super) fn hear_card(&mut self, card: Card, author: &UserId) -> Heard {
        let (user, seen) = (card.user().clone(), card.fingerprint());
        let Some(pinned) = self.get(&user).map(UserPin::fingerprint) else {
            return Heard::Nothing;
        };
        let is_overruled = self.alarms.overruled.contains(&(user.clone(), author.clone()));
        if user == *author || is_overruled {
            return Heard::Nothing;
        }
        if seen != pinned && self.trust_in(author) != Trust::Verified {
            let is_known = self.alarms.refused.contains(&(user, seen));
            return if is_known { Heard::Nothing } else { Heard::Doubt(card) };
        }
        self.hear(&user, pinned, (seen, None), Teller::Contact(author.clone()))
    }

    fn hear(
        &mut self,
        user: &UserId,
        pinned: CardFingerprint,
        (seen, keys): (CardFingerprint, Option<(KeyText, KeyText)>),
        teller: Teller,
    ) -> Heard {
        let user = user.clone();
        if seen == pinned {
            let is_new = self.alarms.confirm(&user, &teller);
            let news = TrustNews::Confirmed { user, seen, teller };
            return if is_new { Heard::Confirmed(news) } else { Heard::Nothing };
        }
        let alarm = Alarm {
            user,
            seen,
            keys,
            teller,
        };
        if self.alarms.raise(&alarm) {
            Heard::Alarm(alarm)
        } else {
            Heard::Nothing
        }
    }
}

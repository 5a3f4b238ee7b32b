//! Keys of users, pinned at first sight (PROTOCOL I.5, I.7, II.13).
//!
//! A pin changes by nothing that the network says, except by a history that leads from the pinned keys to others, each
//! signed by those before. What other keys lead to without one: `alarm`.

use super::USERS_COUNT_MAX;
use super::alarm::Alarms;
use super::fault::TellFault;
use super::io::{Person, Program, UserPin};
use crate::clock::Unix;
use socp_proto::{CardFingerprint, KeyHistory, KeyText, PublicPair, ServerId, UserId};
use std::collections::{BTreeMap, BTreeSet};

/// Keys as the network shows them.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) pubkey: KeyText,
    /// Absent: the same.
    pub(super) enc_pubkey: Option<KeyText>,
    /// How they came about; every signature in it was checked.
    pub(super) history: Option<KeyHistory>,
}

impl Shown {
    pub(super) fn newest_of(history: &KeyHistory) -> Self {
        let PublicPair { pubkey, enc_pubkey } = history.newest();
        Self {
            pubkey,
            enc_pubkey: Some(enc_pubkey),
            history: Some(history.clone()),
        }
    }

    pub(super) fn pair(&self) -> PublicPair {
        PublicPair {
            pubkey: self.pubkey.clone(),
            enc_pubkey: self.enc_pubkey.as_ref().unwrap_or(&self.pubkey).clone(),
        }
    }

    /// Whether these are the keys with that fingerprint, or follow on them.
    pub(super) fn has_been(&self, user: &UserId, fingerprint: CardFingerprint) -> bool {
        let PublicPair { pubkey, enc_pubkey } = self.pair();
        CardFingerprint::of(&pubkey, &enc_pubkey) == fingerprint || self.before(user).contains(&fingerprint)
    }

    /// The pairs of keys that these have replaced.
    pub(super) fn before(&self, user: &UserId) -> Vec<CardFingerprint> {
        let newest = self.pair();
        let before = self.history_of(user).into_iter().flat_map(|history| {
            let versions = 1..history.version();
            versions.filter_map(|version| history.pair(version))
        });
        let before = before.filter(|pair| *pair != newest);
        before
            .map(|pair| CardFingerprint::of(&pair.pubkey, &pair.enc_pubkey))
            .collect()
    }

    /// The history, if it is this user's and ends with these keys.
    pub(super) fn history_of(&self, user: &UserId) -> Option<&KeyHistory> {
        let history = self.history.as_ref()?;
        (history.is_of(user) && history.newest() == self.pair()).then_some(history)
    }
}

/// What came of comparing keys with the pinned ones.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// First sight; to be stored.
    New(UserPin),
    /// As pinned.
    Same,
    /// Newer than pinned, and signed by those; to be stored.
    Followed {
        pin: UserPin,
        /// The pair of keys before.
        before: CardFingerprint,
    },
    /// First sight, but there is no room.
    Full,
    /// Another one.
    Changed,
}

/// All pins of a profile.
#[derive(Debug)]
pub(super) struct Pins {
    pins: BTreeMap<UserId, UserPin>,
    /// Whom nothing is believed of until the user has decided, and who else has said the same.
    pub(super) alarms: Alarms,
    /// Pinned users of whom the server knows newer keys that we have not seen.
    outdated: BTreeSet<UserId>,
    /// Of whom the network says that their programs do not number, although they have.
    denied: BTreeSet<UserId>,
    /// The server can show how keys came about, so another one than the pinned one is worth a question.
    follows: bool,
}

/// How old the proof on the disk may be that a user's program numbers (our choice).
const PROOF_STEP_MS: u64 = 3_600_000;

impl Pins {
    pub(super) fn new(pins: Vec<UserPin>, alarms: Alarms) -> Self {
        let pins = pins.into_iter().map(|pin| (pin.user.clone(), pin)).collect();
        Self {
            pins,
            alarms,
            outdated: BTreeSet::new(),
            denied: BTreeSet::new(),
            follows: false,
        }
    }

    pub(super) fn get(&self, user: &UserId) -> Option<&UserPin> {
        self.pins.get(user)
    }

    pub(super) fn get_mut(&mut self, user: &UserId) -> Option<&mut UserPin> {
        self.pins.get_mut(user)
    }

    /// Pins what the user has decided on.
    pub(super) fn set(&mut self, pin: UserPin) {
        self.pins.insert(pin.user.clone(), pin);
    }

    pub(super) fn forget(&mut self, user: &UserId) {
        self.pins.remove(user);
    }

    /// The pin, unless newer keys have to be asked for first.
    pub(super) fn newest(&self, user: &UserId) -> Option<&UserPin> {
        self.pins.get(user).filter(|_| !self.outdated.contains(user))
    }

    /// The pin to verify with, unless the key that something says it is signed with may be a newer one.
    pub(super) fn signer(&self, user: &UserId, claimed: Option<&KeyText>) -> Option<&UserPin> {
        let is_known = |pin: &&UserPin| claimed.is_none_or(|claimed| *claimed == pin.pubkey);
        let pin = self.pins.get(user)?;
        let is_settled = !self.follows || pin.revoked || self.alarms.is_stopped(user);
        Some(pin).filter(|pin| is_settled || is_known(pin))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &UserPin> {
        self.pins.values()
    }

    /// What the network says of a pinned user's program and home; what is new of it. It cannot take away what the user has
    /// proved.
    pub(super) fn note_program(
        &mut self,
        user: &UserId,
        acks: Option<bool>,
        home: Option<ServerId>,
    ) -> Option<Program> {
        let pin = self.pins.get_mut(user)?;
        let acks = acks.unwrap_or(pin.acks) || pin.numbered_at > 0;
        let home = home.or_else(|| pin.server_id.clone());
        if (pin.acks, &pin.server_id) == (acks, &home) {
            return None;
        }
        pin.acks = acks;
        pin.server_id.clone_from(&home);
        Some(program(pin))
    }

    /// Whether the network says for the first time that a user's program does not number, although it has.
    pub(super) fn is_denied(&mut self, user: &UserId, acks: Option<bool>) -> bool {
        let is_proved = self.pins.get(user).is_some_and(|pin| pin.numbered_at > 0);
        acks == Some(false) && is_proved && self.denied.insert(user.clone())
    }

    /// A text of a pinned user's was opened that had a number, or could have had one; what is to be stored of that.
    pub(super) fn note_numbered(&mut self, user: &UserId, ts: Unix, is_numbered: bool) -> Option<Program> {
        let pin = self.pins.get_mut(user).filter(|pin| ts > pin.numbered_at)?;
        let before = pin.numbered_at;
        if is_numbered {
            pin.numbered_at = ts;
            pin.acks = true;
            let is_news = before == 0 || ts / PROOF_STEP_MS > before / PROOF_STEP_MS;
            return is_news.then(|| program(pin));
        }
        if before == 0 {
            return None;
        }
        pin.numbered_at = 0;
        pin.acks = false;
        self.denied.remove(user);
        Some(program(pin))
    }

    /// Whether the server can show how keys came about.
    pub(super) fn set_follows(&mut self, follows: bool) {
        self.follows = follows;
    }

    /// The server knows this version of a user's keys; whether that is newer than the pinned one.
    pub(super) fn note_version(&mut self, user: &UserId, version: u64) -> bool {
        let is_newer = self.pins.get(user).is_some_and(|pin| pin.version < version);
        if is_newer {
            self.outdated.insert(user.clone());
        }
        is_newer
    }

    /// Why nothing may be sent to a user.
    pub(super) fn refusal(&self, user: &UserId) -> Option<TellFault> {
        if self.pins.get(user).is_some_and(|pin| pin.revoked) {
            return Some(TellFault::Withdrawn(user.clone()));
        }
        self.alarms.stop(user)
    }

    /// Whether these keys are a user's newer ones, by a history that goes on from the pinned keys.
    pub(super) fn is_followed_by(&self, user: &UserId, shown: &Shown) -> bool {
        let pin = self.pins.get(user);
        pin.zip(shown.history_of(user))
            .is_some_and(|(pin, history)| leads_on(history, pin))
    }

    pub(super) fn observe(&mut self, user: &UserId, shown: Shown, person: Option<&Person>) -> Seen {
        self.outdated.remove(user);
        let Some(pin) = self.pins.get_mut(user) else {
            return self.pin(user, &shown, person);
        };
        if let Some(history) = shown.history_of(user).filter(|history| leads_on(history, pin)) {
            let PublicPair { pubkey, enc_pubkey } = history.newest();
            let before = pin.fingerprint();
            let has_changed = pin.pubkey != pubkey || pin.enc_pubkey != enc_pubkey || history.is_revoked();
            pin.pubkey = pubkey;
            pin.enc_pubkey = enc_pubkey;
            pin.version = history.version();
            pin.revoked = history.is_revoked();
            if has_changed {
                self.alarms.forget_word(user, before);
            }
            // Of who was pinned without a history only the number is new.
            return if has_changed {
                Seen::Followed {
                    pin: pin.clone(),
                    before,
                }
            } else {
                Seen::New(pin.clone())
            };
        }
        let is_same = pin.pubkey == shown.pubkey && shown.enc_pubkey.is_none_or(|key| key == pin.enc_pubkey);
        if is_same { Seen::Same } else { Seen::Changed }
    }

    fn pin(&mut self, user: &UserId, shown: &Shown, person: Option<&Person>) -> Seen {
        if self.pins.len() >= USERS_COUNT_MAX {
            return Seen::Full;
        }
        let PublicPair { pubkey, enc_pubkey } = shown.pair();
        let history = shown.history_of(user);
        let pin = UserPin {
            user: user.clone(),
            enc_pubkey,
            pubkey,
            name: person.and_then(|person| person.name.clone()),
            server_id: person.and_then(|person| person.server_id.clone()),
            server_name: person.and_then(|person| person.server_name.clone()),
            version: history.map_or(1, KeyHistory::version),
            revoked: history.is_some_and(KeyHistory::is_revoked),
            acks: false,
            former: Vec::new(),
            numbered_at: 0,
        };
        self.pins.insert(user.clone(), pin.clone());
        Seen::New(pin)
    }
}

fn program(pin: &UserPin) -> Program {
    Program {
        user: pin.user.clone(),
        acks: pin.acks,
        numbered_at: pin.numbered_at,
        home: pin.server_id.clone(),
    }
}

/// Whether a history goes on from the pinned keys. Who was pinned without a history has a number that means nothing.
pub(super) fn leads_on(history: &KeyHistory, pin: &UserPin) -> bool {
    let pinned = pin.pair();
    let is_there =
        history.pair(pin.version).as_ref() == Some(&pinned) || (pin.version == 1 && history.contains(&pinned));
    history.version() > pin.version && is_there && !pin.revoked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> KeyText {
        KeyText::from_der(&[n])
    }

    fn alice() -> UserId {
        UserId::try_from("alice-id").unwrap()
    }

    fn shown(pubkey: KeyText, enc_pubkey: Option<KeyText>) -> Shown {
        Shown {
            pubkey,
            enc_pubkey,
            history: None,
        }
    }

    fn pair(n: u8) -> PublicPair {
        PublicPair {
            pubkey: key(n),
            enc_pubkey: key(100 + n),
        }
    }

    /// From pair to pair; the last twice is a revocation.
    fn history(pairs: &[u8]) -> KeyHistory {
        let mut history = None;
        for n in &pairs[1..] {
            let next = KeyHistory::next(&alice(), &pair(pairs[0]), history.as_ref(), pair(*n), 7);
            history = Some(match &history {
                None => KeyHistory::begin(pair(pairs[0]), next).unwrap(),
                Some(history) => history.and(next).unwrap(),
            });
        }
        history.unwrap()
    }

    /// What alice's pin at first sight and then what is shown next make of it: what is seen, and the pinned key.
    fn seen_after(first: Shown, next: Shown) -> (Seen, UserPin) {
        let mut pins = Pins::new(Vec::new(), Alarms::default());
        pins.observe(&alice(), first, None);
        let seen = pins.observe(&alice(), next, None);
        (seen, pins.get(&alice()).unwrap().clone())
    }

    fn whole(n: u8) -> Shown {
        shown(key(n), Some(key(100 + n)))
    }

    #[test]
    fn a_history_that_goes_on_from_the_pinned_keys_is_followed() {
        let long = || Shown::newest_of(&history(&[1, 2, 3]));
        for first in [whole(1), whole(2), Shown::newest_of(&history(&[1, 2]))] {
            let (seen, pin) = seen_after(first, long());
            assert!(
                matches!(&seen, Seen::Followed { pin: new, .. } if *new == pin),
                "{seen:?}"
            );
            assert_eq!((&pin.pubkey, &pin.enc_pubkey, pin.version), (&key(3), &key(103), 3));
        }
        let (seen, pin) = seen_after(whole(1), Shown::newest_of(&history(&[1, 1])));
        assert!(pin.revoked && matches!(&seen, Seen::Followed { pin: new, .. } if *new == pin));
    }

    #[test]
    fn a_fork_a_step_back_and_somebody_elses_history_are_not() {
        let two = || Shown::newest_of(&history(&[1, 2]));
        let foreign = || Shown {
            history: two().history,
            ..whole(4)
        };
        let table = [
            (two(), Shown::newest_of(&history(&[1, 3])), 2),
            (two(), Shown::newest_of(&history(&[1, 3, 4])), 2),
            (two(), whole(1), 2),
            (Shown::newest_of(&history(&[1, 2, 3])), two(), 3),
            (whole(4), two(), 4),
            (whole(1), foreign(), 1),
        ];
        for (first, next, stays) in table {
            let (seen, pin) = seen_after(first, next);
            assert!(matches!(seen, Seen::Changed), "{seen:?}");
            assert_eq!(pin.pubkey, key(stays));
        }
    }

    #[test]
    fn withdrawn_keys_stay_withdrawn_and_nothing_is_sent() {
        let mut pins = Pins::new(Vec::new(), Alarms::default());
        pins.observe(&alice(), whole(1), None);
        assert_eq!(pins.refusal(&alice()), None);
        pins.observe(&alice(), Shown::newest_of(&history(&[1, 1])), None);
        for again in [whole(1), Shown::newest_of(&history(&[1, 2]))] {
            pins.observe(&alice(), again, None);
            assert_eq!(pins.refusal(&alice()), Some(TellFault::Withdrawn(alice())));
        }
    }

    #[test]
    fn newer_keys_are_asked_for_before_anything_rests_on_the_old() {
        let mut pins = Pins::new(Vec::new(), Alarms::default());
        assert!(!pins.note_version(&alice(), 2), "nobody is pinned");
        pins.observe(&alice(), whole(1), None);
        assert!(!pins.note_version(&alice(), 1) && pins.newest(&alice()).is_some());
        assert!(pins.note_version(&alice(), 2) && pins.newest(&alice()).is_none());
        pins.observe(&alice(), whole(1), None);
        assert!(
            pins.newest(&alice()).is_some(),
            "the server has nothing newer after all"
        );
        // What names another signer is worth a question where the server can answer it.
        assert!(pins.signer(&alice(), Some(&key(2))).is_some());
        pins.set_follows(true);
        assert!(pins.signer(&alice(), Some(&key(2))).is_none() && pins.signer(&alice(), Some(&key(1))).is_some());
    }

    #[test]
    fn what_a_user_has_proved_no_server_takes_away() {
        let mut pins = Pins::new(Vec::new(), Alarms::default());
        let told = |program: Option<Program>| program.map(|program| (program.acks, program.numbered_at));
        let hour = PROOF_STEP_MS;
        assert_eq!(told(pins.note_numbered(&alice(), hour, true)), None, "nobody is pinned");
        pins.observe(&alice(), whole(1), None);
        assert_eq!(told(pins.note_numbered(&alice(), hour, false)), None);
        assert_eq!(told(pins.note_program(&alice(), Some(true), None)), Some((true, 0)));
        assert!(!pins.is_denied(&alice(), Some(false)), "it was the server's word alone");
        assert_eq!(told(pins.note_program(&alice(), Some(false), None)), Some((false, 0)));
        // The proof is written down once an hour.
        assert_eq!(told(pins.note_numbered(&alice(), hour, true)), Some((true, hour)));
        assert_eq!(told(pins.note_numbered(&alice(), hour + 5, true)), None);
        for (acks, is_denied) in [
            (None, false),
            (Some(true), false),
            (Some(false), true),
            (Some(false), false),
        ] {
            assert_eq!(pins.is_denied(&alice(), acks), is_denied, "{acks:?}");
            assert_eq!(told(pins.note_program(&alice(), acks, None)), None);
        }
        // What is older than the last number says nothing.
        assert_eq!(told(pins.note_numbered(&alice(), hour + 5, false)), None);
        assert_eq!(told(pins.note_numbered(&alice(), hour + 6, false)), Some((false, 0)));
        assert_eq!(told(pins.note_program(&alice(), Some(false), None)), None);
        assert_eq!(
            told(pins.note_numbered(&alice(), hour + 7, true)),
            Some((true, hour + 7))
        );
        assert!(pins.is_denied(&alice(), Some(false)), "told anew");
        assert_eq!(
            told(pins.note_numbered(&alice(), 2 * hour, true)),
            Some((true, 2 * hour))
        );
    }

    #[test]
    fn the_first_key_stays_whatever_is_shown_later() {
        let mut pins = Pins::new(Vec::new(), Alarms::default());
        assert!(matches!(
            pins.observe(&alice(), shown(key(1), None), None),
            Seen::New(_)
        ));
        assert_eq!(pins.observe(&alice(), shown(key(1), Some(key(1))), None), Seen::Same);
        for (pubkey, enc) in [(key(2), None), (key(2), Some(key(1))), (key(1), Some(key(2)))] {
            assert!(matches!(
                pins.observe(&alice(), shown(pubkey, enc), None),
                Seen::Changed
            ));
            assert_eq!(pins.get(&alice()).map(|pin| pin.pubkey.clone()), Some(key(1)));
        }
        assert_eq!(pins.observe(&alice(), shown(key(1), None), None), Seen::Same);
    }
}

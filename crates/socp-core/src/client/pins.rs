//! Keys of users, pinned at first sight (PROTOCOL I.5, I.7).
//!
//! A pin never changes by anything the network says. While another key is shown, nothing is sent to that user; what
//! the pinned key has signed is still theirs.

use super::USERS_COUNT_MAX;
use super::io::{Person, UserPin};
use socp_proto::{Fingerprint, KeyText, UserId};
use std::collections::BTreeMap;

/// What came of comparing a key with the pinned one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// First sight; to be stored.
    New(UserPin),
    /// As pinned.
    Same,
    /// First sight, but there is no room.
    Full,
    /// Another one.
    Changed {
        pinned: Fingerprint,
        seen: Fingerprint,
        news: bool,
    },
}

/// All pins of a profile.
#[derive(Debug)]
pub(super) struct Pins {
    pins: BTreeMap<UserId, UserPin>,
    /// The other key that was last shown for a pinned user.
    contradicted: BTreeMap<UserId, Fingerprint>,
}

impl Pins {
    pub(super) fn new(pins: Vec<UserPin>) -> Self {
        let pins = pins.into_iter().map(|pin| (pin.user.clone(), pin)).collect();
        Self {
            pins,
            contradicted: BTreeMap::new(),
        }
    }

    pub(super) fn get(&self, user: &UserId) -> Option<&UserPin> {
        self.pins.get(user)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &UserPin> {
        self.pins.values()
    }

    /// The pinned and the shown key, while they differ.
    pub(super) fn contradiction(&self, user: &UserId) -> Option<(Fingerprint, Fingerprint)> {
        let seen = self.contradicted.get(user)?;
        Some((self.pins.get(user)?.pubkey.fingerprint(), *seen))
    }

    pub(super) fn observe(
        &mut self,
        user: &UserId,
        pubkey: KeyText,
        enc_pubkey: Option<KeyText>,
        person: Option<&Person>,
    ) -> Seen {
        let Some(pin) = self.pins.get(user) else {
            return self.pin(user, pubkey, enc_pubkey, person);
        };
        let other = if pin.pubkey == pubkey {
            enc_pubkey.filter(|key| *key != pin.enc_pubkey)
        } else {
            Some(pubkey)
        };
        let Some(other) = other else {
            self.contradicted.remove(user);
            return Seen::Same;
        };
        let (pinned, seen) = (pin.pubkey.fingerprint(), other.fingerprint());
        let news = self.contradicted.insert(user.clone(), seen) != Some(seen);
        Seen::Changed { pinned, seen, news }
    }

    fn pin(&mut self, user: &UserId, pubkey: KeyText, enc: Option<KeyText>, person: Option<&Person>) -> Seen {
        if self.pins.len() >= USERS_COUNT_MAX {
            return Seen::Full;
        }
        let pin = UserPin {
            user: user.clone(),
            enc_pubkey: enc.unwrap_or_else(|| pubkey.clone()),
            pubkey,
            name: person.and_then(|person| person.name.clone()),
            server_id: person.and_then(|person| person.server_id.clone()),
            server_name: person.and_then(|person| person.server_name.clone()),
        };
        self.pins.insert(user.clone(), pin.clone());
        Seen::New(pin)
    }
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

    #[test]
    fn the_first_key_stays_whatever_is_shown_later() {
        let mut pins = Pins::new(Vec::new());
        assert!(matches!(pins.observe(&alice(), key(1), None, None), Seen::New(_)));
        assert_eq!(pins.observe(&alice(), key(1), Some(key(1)), None), Seen::Same);
        for (pubkey, enc) in [(key(2), None), (key(2), Some(key(1))), (key(1), Some(key(2)))] {
            assert!(matches!(
                pins.observe(&alice(), pubkey, enc, None),
                Seen::Changed { .. }
            ));
            assert_eq!(pins.get(&alice()).map(|pin| pin.pubkey.clone()), Some(key(1)));
            assert!(pins.contradiction(&alice()).is_some());
        }
        assert_eq!(pins.observe(&alice(), key(1), None, None), Seen::Same);
        assert_eq!(pins.contradiction(&alice()), None);
    }

    #[test]
    fn a_change_is_news_once() {
        let mut pins = Pins::new(Vec::new());
        pins.observe(&alice(), key(1), None, None);
        let news: Vec<bool> = (0..2)
            .map(|_| {
                matches!(
                    pins.observe(&alice(), key(2), None, None),
                    Seen::Changed { news: true, .. }
                )
            })
            .collect();
        assert_eq!(news, [true, false]);
    }
}

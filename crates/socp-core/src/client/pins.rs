//! Keys of users, pinned at first sight (PROTOCOL I.5, I.7).
//!
//! A pin never changes by anything the network says. What another key than the pinned one leads to: `alarm`.

use super::USERS_COUNT_MAX;
use super::alarm::Alarms;
use super::io::{Person, UserPin};
use socp_proto::{KeyText, UserId};
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
    Changed,
}

/// All pins of a profile.
#[derive(Debug)]
pub(super) struct Pins {
    pins: BTreeMap<UserId, UserPin>,
    /// Whom nothing is believed of until the user has decided, and who else has said the same.
    pub(super) alarms: Alarms,
}

impl Pins {
    pub(super) fn new(pins: Vec<UserPin>, alarms: Alarms) -> Self {
        let pins = pins.into_iter().map(|pin| (pin.user.clone(), pin)).collect();
        Self { pins, alarms }
    }

    pub(super) fn get(&self, user: &UserId) -> Option<&UserPin> {
        self.pins.get(user)
    }

    /// Pins what the user has decided on.
    pub(super) fn set(&mut self, pin: UserPin) {
        self.pins.insert(pin.user.clone(), pin);
    }

    pub(super) fn forget(&mut self, user: &UserId) {
        self.pins.remove(user);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &UserPin> {
        self.pins.values()
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
        let is_same = pin.pubkey == pubkey && enc_pubkey.is_none_or(|key| key == pin.enc_pubkey);
        if is_same { Seen::Same } else { Seen::Changed }
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
        let mut pins = Pins::new(Vec::new(), Alarms::default());
        assert!(matches!(pins.observe(&alice(), key(1), None, None), Seen::New(_)));
        assert_eq!(pins.observe(&alice(), key(1), Some(key(1)), None), Seen::Same);
        for (pubkey, enc) in [(key(2), None), (key(2), Some(key(1))), (key(1), Some(key(2)))] {
            assert_eq!(pins.observe(&alice(), pubkey, enc, None), Seen::Changed);
            assert_eq!(pins.get(&alice()).map(|pin| pin.pubkey.clone()), Some(key(1)));
        }
        assert_eq!(pins.observe(&alice(), key(1), None, None), Seen::Same);
    }
}

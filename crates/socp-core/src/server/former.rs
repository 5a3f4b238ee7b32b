//! Keys of users of other servers who have left: whoever got a last message of theirs asks for them (PROTOCOL I.6).

use super::people::{Home, Person, history_bytes};
use socp_proto::limits::{
    FORMER_HISTORY_BYTES_PER_SERVER_MAX, FORMER_KEYS_COUNT_MAX, FORMER_KEYS_PER_SERVER_COUNT_MAX,
};
use socp_proto::payload::PubkeyResponse;
use socp_proto::{Meta, ServerId, UserId};
use std::collections::BTreeMap;

/// What was known of those who left last. Full, it forgets the oldest; no server can push out those of others before it
/// has used up its own share.
#[derive(Debug, Default)]
pub(super) struct Former {
    keys: BTreeMap<UserId, (u64, PubkeyResponse)>,
    /// All of them by age, and those of each server.
    by_age: BTreeMap<u64, UserId>,
    by_server: BTreeMap<ServerId, BTreeMap<u64, UserId>>,
    /// How long their key histories are, by server.
    history_bytes: BTreeMap<ServerId, usize>,
    last: u64,
}

impl Former {
    /// Remembers the keys of somebody who is gone.
    pub(super) fn insert(&mut self, user: &UserId, person: &Person) {
        let Home::Remote { server, .. } = &person.home else {
            return; // Whoever has a home here has a record here.
        };
        if person.pubkey.is_none() {
            return;
        }
        self.remove(user);
        let keys = PubkeyResponse {
            user_id: user.clone(),
            pubkey: person.pubkey.clone(),
            enc_pubkey: person.enc_pubkey.clone(),
            version: person.version,
            server_id: Some(server.clone()),
            revoked: person.is_revoked(),
            directory_sig: person.directory_sig.clone(),
            // A whole profile may have 4 KiB.
            meta: Meta::named(person.meta.name(), person.meta.display_name()).ok(),
            server_name: None,
            history: person.history.clone(),
            caps: person.caps.clone(),
        };
        self.last = self.last.saturating_add(1);
        self.keys.insert(user.clone(), (self.last, keys));
        self.by_age.insert(self.last, user.clone());
        let of_server = self.by_server.entry(server.clone()).or_default();
        of_server.insert(self.last, user.clone());
        let held = self.history_bytes.entry(server.clone()).or_default();
        *held = held.saturating_add(history_bytes(person.history.as_ref()));
        self.make_room(server);
    }

    /// Forgets the oldest of a server that has too many, or of all.
    fn make_room(&mut self, server: &ServerId) {
        while self.history_bytes.get(server).copied().unwrap_or_default() > FORMER_HISTORY_BYTES_PER_SERVER_MAX {
            let of_server = self.by_server.get(server);
            let Some(oldest) = of_server.and_then(|all| all.values().next().cloned()) else {
                break;
            };
            self.remove(&oldest);
        }
        let Some(of_server) = self.by_server.get(server) else {
            return;
        };
        let crowded = (of_server.len() > FORMER_KEYS_PER_SERVER_COUNT_MAX).then_some(of_server);
        let full = (self.by_age.len() > FORMER_KEYS_COUNT_MAX).then_some(&self.by_age);
        let oldest = crowded.or(full).and_then(|all| all.values().next().cloned());
        if let Some(oldest) = oldest {
            self.remove(&oldest);
        }
    }

    /// What is known of somebody who is gone.
    pub(super) fn get(&self, user: &UserId) -> Option<&PubkeyResponse> {
        self.keys.get(user).map(|(_, keys)| keys)
    }

    /// Forgets somebody for good.
    pub(super) fn remove(&mut self, user: &UserId) {
        let Some((number, keys)) = self.keys.remove(user) else {
            return;
        };
        self.by_age.remove(&number);
        let Some(server) = keys.server_id else { return };
        if let Some(held) = self.history_bytes.get_mut(&server) {
            *held = held.saturating_sub(history_bytes(keys.history.as_ref()));
        }
        if let Some(of_server) = self.by_server.get_mut(&server) {
            of_server.remove(&number);
            if of_server.is_empty() {
                self.by_server.remove(&server);
                self.history_bytes.remove(&server);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{long_history, person_at};
    use super::*;

    fn user(n: usize) -> UserId {
        UserId::try_from(format!("u-{n}")).unwrap()
    }

    #[test]
    fn a_server_uses_up_its_own_share_and_the_oldest_goes() {
        let mut former = Former::default();
        former.insert(&user(0), &person_at("y"));
        for n in 1..=FORMER_KEYS_PER_SERVER_COUNT_MAX + 1 {
            former.insert(&user(n), &person_at("x"));
        }
        assert!(former.get(&user(0)).is_some() && former.get(&user(2)).is_some());
        assert!(former.get(&user(1)).is_none());
        // Who comes and goes again takes no second place.
        for _ in 0..FORMER_KEYS_COUNT_MAX {
            former.insert(&user(5), &person_at("x"));
        }
        assert!(former.get(&user(0)).is_some() && former.get(&user(2)).is_some());
        for n in 0..FORMER_KEYS_COUNT_MAX {
            former.insert(&user(1_000_000 + n), &person_at(&format!("s-{}", n % 100)));
        }
        assert!(former.get(&user(0)).is_none());
        assert_eq!(former.keys.len(), FORMER_KEYS_COUNT_MAX);
        assert_eq!(former.by_age.len(), FORMER_KEYS_COUNT_MAX);
    }

    #[test]
    fn long_histories_use_up_the_share_before_many_short_ones_do() {
        let mut former = Former::default();
        former.insert(&user(0), &person_at("y"));
        let long = long_history("u", 40_000);
        let bytes = long.text_bytes();
        for n in 1..=500 {
            let history = Some(long.clone());
            let person = Person {
                history,
                ..person_at("x")
            };
            former.insert(&user(n), &person);
        }
        let kept = FORMER_HISTORY_BYTES_PER_SERVER_MAX / bytes;
        assert!(kept < 500 && former.get(&user(0)).is_some());
        assert!(former.get(&user(500 - kept)).is_none() && former.get(&user(501 - kept)).is_some());
        for n in 1..=500 {
            former.remove(&user(n));
        }
        let of_others = former.history_bytes.into_values().sum::<usize>();
        assert_eq!(of_others, 0);
    }
}

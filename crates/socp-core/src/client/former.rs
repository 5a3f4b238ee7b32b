//! Signing keys that were a user's before the pinned one (PROTOCOL II.13).
//!
//! What an author signed before their key was replaced may still wait at a server, and is theirs. So a key that was proved
//! to be the user's goes on counting, for what was said before it was replaced and only as long as such a message can be on
//! its way: else a stolen key that was replaced would be good for ever.
//!
//! A history proves that each key named the next one. It does not prove that a key was named by the one after it: whoever
//! wants can put a key of their own in front of somebody's. So only what comes after a key that we had pinned counts, and
//! the first where the id is made from it. Not what stands between those: whoever has stolen the first can put a key of their
//! own there, at any time that they like. And nothing that comes after a key that the person has decided against.

use super::io::{FormerKey, UserPin};
use super::pins::{Pins, Seen, Shown, leads_on};
use crate::clock::Unix;
use socp_proto::limits::{CONTENT_AGE_MAX_MS, HELLO_AGE_MAX_MS, MAILBOX_KEPT_MS};
use socp_proto::{KeyText, UserId};

/// How long after it was replaced a key still counts: a message may wait first for the server of its reader, then there.
pub const FORMER_KEY_KEPT_MS: u64 = CONTENT_AGE_MAX_MS + MAILBOX_KEPT_MS;
/// How far the clocks of two devices of one author may be apart: each as far from their home's as a hello may be.
pub const FORMER_KEY_SLACK_MS: u64 = 2 * HELLO_AGE_MAX_MS;

impl UserPin {
    /// Whether this was a signing key of the user's.
    pub(super) fn has_replaced(&self, key: &KeyText) -> bool {
        self.former.iter().any(|former| former.key == *key)
    }

    /// Whether something that was said at one time, and came at another, may be signed with this key that was replaced.
    pub(super) fn could_sign_with(&self, key: &KeyText, said_at: Unix, came_at: Unix) -> bool {
        let former = self.former.iter().find(|former| former.key == *key);
        former.is_some_and(|former| {
            said_at <= former.until.saturating_add(FORMER_KEY_SLACK_MS)
                && came_at <= former.until.saturating_add(FORMER_KEY_KEPT_MS)
        })
    }
}

impl Pins {
    /// The signing keys that a history proves to have been the user's, if it leads on from the pinned keys or is how those
    /// came about; to be asked before they are pinned.
    pub(super) fn former_keys(&self, now: Unix, user: &UserId, shown: &Shown) -> Vec<FormerKey> {
        let Some(history) = shown.history_of(user) else {
            return Vec::new();
        };
        let pin = self.get(user);
        // Who was pinned by a program that kept no such keys. Only then: who has stolen one could make a longer history.
        let is_unknown = |pin: &UserPin| pin.former.is_empty() && pin.version == history.version();
        if pin.is_some_and(|pin| !leads_on(history, pin) && !is_unknown(pin)) {
            return Vec::new();
        }
        let pinned = pin.map(UserPin::pair);
        let mut before = history.first().clone();
        let mut is_own = user.is_made_from(before.pubkey.fingerprint());
        let (mut is_proved, mut former) = (false, Vec::new());
        for statement in history.statements() {
            let is_denied = self.alarms.is_denied(user, &before.pubkey);
            is_proved = (is_proved || pinned.as_ref() == Some(&before)) && !is_denied;
            let counts = is_proved || (std::mem::take(&mut is_own) && !is_denied);
            let next = statement.pair();
            if counts && next.pubkey != before.pubkey {
                former.push(FormerKey {
                    key: before.pubkey,
                    // Who has the key chooses the time, so what we know for ourselves bounds it.
                    until: statement.ts.min(now),
                });
            }
            before = next;
        }
        former
    }

    /// Takes what another program has pinned. It may not have heard yet which keys came before.
    pub(super) fn set_newer(&mut self, pin: UserPin) {
        let user = pin.user.clone();
        let ours = self.get(&user).filter(|ours| ours.pubkey == pin.pubkey);
        let former = ours.map(|ours| ours.former.clone()).unwrap_or_default();
        self.set(pin);
        self.keep_former(&user, Seen::Same, former);
    }

    /// Keeps such keys with the pin, unless the keys that came with them are not the user's.
    pub(super) fn keep_former(&mut self, user: &UserId, seen: Seen, former: Vec<FormerKey>) -> Seen {
        if matches!(seen, Seen::Full | Seen::Changed) {
            return seen;
        }
        let Some(pin) = self.get_mut(user) else { return seen };
        let count = pin.former.len();
        for key in former {
            if key.key != pin.pubkey && !pin.has_replaced(&key.key) {
                pin.former.push(key);
            }
        }
        if pin.former.len() == count {
            return seen;
        }
        let pin = pin.clone();
        match seen {
            Seen::Followed { before, .. } => Seen::Followed { pin, before },
            Seen::New(_) | Seen::Same | Seen::Full | Seen::Changed => Seen::New(pin),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::alarm::{Alarms, TrustRecord};
    use super::*;
    use socp_proto::{KeyHistory, PublicPair};

    const NOW: Unix = 1_000;

    fn key(n: u8) -> KeyText {
        KeyText::from_der(&[n])
    }

    /// Whose id is made from key 1.
    fn alice() -> UserId {
        UserId::made_from(key(1).fingerprint())
    }

    fn pair(n: u8) -> PublicPair {
        let (pubkey, enc_pubkey) = (key(n), key(100));
        PublicPair { enc_pubkey, pubkey }
    }

    /// From key to key, each step at ten times the number of the key that it leads to.
    fn history(user: &UserId, keys: &[u8]) -> KeyHistory {
        let mut history = None;
        for n in &keys[1..] {
            let next = KeyHistory::next(user, &pair(keys[0]), history.as_ref(), pair(*n), u64::from(*n) * 10);
            history = Some(match &history {
                None => KeyHistory::begin(pair(keys[0]), next).unwrap(),
                Some(history) => history.and(next).unwrap(),
            });
        }
        history.unwrap()
    }

    fn see(pins: &mut Pins, user: &UserId, shown: Shown) -> Seen {
        let former = pins.former_keys(NOW, user, &shown);
        let seen = pins.observe(user, shown, None);
        pins.keep_former(user, seen, former)
    }

    fn alone(n: u8) -> Shown {
        let PublicPair { pubkey, enc_pubkey } = pair(n);
        Shown {
            pubkey,
            enc_pubkey: Some(enc_pubkey),
            history: None,
        }
    }

    /// What is known of former keys after each of these was shown.
    fn former_after(user: &UserId, shown: Vec<Shown>) -> Vec<(KeyText, Unix)> {
        let mut pins = Pins::new(Vec::new(), Alarms::default());
        for shown in shown {
            see(&mut pins, user, shown);
        }
        let pin = pins.get(user).unwrap();
        pin.former.iter().map(|it| (it.key.clone(), it.until)).collect()
    }

    #[test]
    fn a_pinned_key_that_was_replaced_is_kept_with_the_time_of_that() {
        let to = |keys: &[u8]| Shown::newest_of(&history(&alice(), keys));
        let twice = former_after(&alice(), vec![alone(1), to(&[1, 2]), to(&[1, 2, 3])]);
        assert_eq!(twice, [(key(1), 20), (key(2), 30)]);
        // The same with one step; at first sight only the first, since the id is made from that.
        assert_eq!(former_after(&alice(), vec![alone(1), to(&[1, 2, 3])]), twice);
        assert_eq!(former_after(&alice(), vec![to(&[1, 2, 3])]), twice[..1]);
        // Who chose a time to come does not have it.
        assert_eq!(former_after(&alice(), vec![to(&[1, 200])]), [(key(1), NOW)]);
    }

    #[test]
    fn a_key_that_anybody_could_have_put_in_front_is_nobodys() {
        let eve = UserId::try_from("eve-id").unwrap();
        let to = |keys: &[u8]| Shown::newest_of(&history(&eve, keys));
        assert_eq!(former_after(&eve, vec![to(&[7, 2])]), []);
        assert_eq!(former_after(&eve, vec![alone(2), to(&[7, 2])]), []);
        assert_eq!(
            former_after(&eve, vec![alone(2), to(&[7, 2, 3])]),
            [(key(2), 30)],
            "what was pinned counts, and what came before it does not"
        );
        // Nor is a fork, or a longer way by who has a key that was replaced.
        let known = |keys: &[u8]| {
            former_after(
                &alice(),
                vec![Shown::newest_of(&history(&alice(), &[1, 2])), {
                    Shown::newest_of(&history(&alice(), keys))
                }],
            )
        };
        assert_eq!(known(&[1, 9]), [(key(1), 20)]);
        assert_eq!(known(&[1, 9, 2]), [(key(1), 20)]);
    }

    #[test]
    fn what_a_stolen_key_puts_between_it_and_the_pinned_one_counts_for_nothing() {
        fn planted() -> Shown {
            Shown::newest_of(&history(&alice(), &[1, 9, 3]))
        }
        let keys_of = |record: TrustRecord, shown: Vec<Shown>| {
            let mut pins = Pins::new(Vec::new(), Alarms::new(record));
            for shown in shown {
                see(&mut pins, &alice(), shown);
            }
            let pin = pins.get(&alice()).unwrap();
            pin.former.iter().map(|it| it.key.clone()).collect::<Vec<_>>()
        };
        // The true key was pinned by hand, or at first sight.
        for shown in [|| vec![alone(3), planted()], || vec![planted()]] {
            assert_eq!(keys_of(TrustRecord::default(), shown()), [key(1)]);
            let denied = TrustRecord {
                denied: vec![(alice(), key(1).fingerprint())],
                ..TrustRecord::default()
            };
            assert_eq!(keys_of(denied, shown()), []);
        }
    }

    #[test]
    fn who_was_pinned_by_an_older_program_gets_them_with_the_next_answer() {
        let shown = || Shown::newest_of(&history(&alice(), &[1, 2]));
        let mut pins = Pins::new(Vec::new(), Alarms::default());
        pins.observe(&alice(), shown(), None);
        assert!(matches!(see(&mut pins, &alice(), shown()), Seen::New(pin) if pin.former.len() == 1));
        assert_eq!(see(&mut pins, &alice(), shown()), Seen::Same);
    }

    #[test]
    fn what_another_program_has_pinned_takes_no_former_key_away() {
        let mut pins = Pins::new(Vec::new(), Alarms::default());
        see(&mut pins, &alice(), Shown::newest_of(&history(&alice(), &[1, 2])));
        let ours = pins.get(&alice()).unwrap().clone();
        let theirs = |pubkey: u8| UserPin {
            pubkey: key(pubkey),
            name: Some("alice".to_owned()),
            former: Vec::new(),
            numbered_at: 0,
            ..ours.clone()
        };
        pins.set_newer(theirs(2));
        let name = Some("alice".to_owned());
        assert_eq!(pins.get(&alice()), Some(&UserPin { name, ..ours.clone() }));
        pins.set_newer(theirs(3));
        assert_eq!(
            pins.get(&alice()),
            Some(&theirs(3)),
            "what was before another key it knows"
        );
    }

    #[test]
    fn such_a_key_counts_for_what_was_said_before_and_not_for_ever() {
        let mut pins = Pins::new(Vec::new(), Alarms::default());
        see(&mut pins, &alice(), Shown::newest_of(&history(&alice(), &[1, 2])));
        let pin = pins.get(&alice()).unwrap();
        let counts = |n, said, came| pin.could_sign_with(&key(n), said, came);
        let (said_max, came_max) = (20 + FORMER_KEY_SLACK_MS, 20 + FORMER_KEY_KEPT_MS);
        assert!(counts(1, 5, 6) && counts(1, said_max, came_max));
        assert!(!counts(1, said_max + 1, came_max) && !counts(1, said_max, came_max + 1));
        assert!(!counts(2, 5, 6) && !counts(3, 5, 6));
    }
}

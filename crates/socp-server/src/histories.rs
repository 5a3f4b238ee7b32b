//! Key histories that were checked (PROTOCOL II.13): the same one comes with every piece of gossip about its user.

use socp_core::server::Fault;
use socp_crypto::check_history;
use socp_proto::{KeyHistory, Payload};
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Histories that are remembered; another takes up to sixteen signatures to check.
const KEPT_COUNT_MAX: usize = 16_384;

/// The good ones among those that came last, by their digest, which covers the signatures.
#[derive(Debug, Default)]
pub(crate) struct Histories(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    good: BTreeSet<[u8; 32]>,
    by_age: VecDeque<[u8; 32]>,
}

impl Histories {
    /// How many signatures there are to check in a frame's histories.
    pub(crate) fn unchecked_in(&self, payload: &Payload) -> u32 {
        let unknown = histories_in(payload).into_iter().filter(|history| !self.knows(history));
        let count: usize = unknown.map(|history| history.statements().len()).sum();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Whether every history in a frame proves itself.
    pub(crate) fn check(&self, payload: &Payload) -> Result<(), Fault> {
        for history in histories_in(payload) {
            if !self.knows(history) {
                check_history(history).map_err(|error| Fault::Key(format!("key history: {error}")))?;
                self.kept(|kept| kept.insert(history.digest()));
            }
        }
        Ok(())
    }

    fn knows(&self, history: &KeyHistory) -> bool {
        self.kept(|kept| kept.good.contains(&history.digest()))
    }

    fn kept<T>(&self, look: impl FnOnce(&mut Kept) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Kept {
    fn insert(&mut self, digest: [u8; 32]) {
        if self.good.insert(digest) {
            self.by_age.push_back(digest);
        }
        if self.by_age.len() > KEPT_COUNT_MAX
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.good.remove(&oldest);
        }
    }
}

fn histories_in(payload: &Payload) -> Vec<&KeyHistory> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "only these kinds that come in have one")]
    match payload {
        Payload::UserHello(hello) => hello.history.iter().collect(),
        Payload::UserAdvertise(advertise) => advertise.history.iter().collect(),
        Payload::ServerPresence(batch) => batch.add.iter().filter_map(|here| here.history.as_ref()).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socp_crypto::{PrivateKey, sign_statement};
    use socp_proto::payload::UserHello;
    use socp_proto::{KeyText, PublicPair, UserId};

    fn pair(key: &PrivateKey) -> PublicPair {
        let pubkey = KeyText::from_der(key.public_key().spki_der());
        PublicPair {
            enc_pubkey: pubkey.clone(),
            pubkey,
        }
    }

    fn hello(history: KeyHistory) -> Payload {
        Payload::UserHello(UserHello {
            client: "test".to_owned(),
            pubkey: history.newest().pubkey,
            enc_pubkey: None,
            caps: None,
            meta: None,
            server_id: None,
            ts: None,
            history: Some(history),
            presence: None,
            mailbox: None,
        })
    }

    #[test]
    fn a_history_is_checked_once_and_a_false_one_each_time() {
        let [old, new] = std::array::from_fn(|_| PrivateKey::generate().unwrap());
        let user = UserId::try_from("u").unwrap();
        let statement = KeyHistory::next(&user, &pair(&old), None, pair(&new), 7);
        let by = |key| {
            let statement = sign_statement(statement.clone(), key).unwrap();
            hello(KeyHistory::begin(pair(&old), statement).unwrap())
        };
        let (good, bad) = (by(&old), by(&new));
        let histories = Histories::default();
        for _ in 0..2 {
            assert!(histories.check(&bad).is_err());
            assert_eq!(histories.unchecked_in(&bad), 1);
        }
        assert_eq!(histories.unchecked_in(&good), 1);
        assert_eq!(histories.check(&good), Ok(()));
        assert_eq!(histories.unchecked_in(&good), 0);
        // The same words under another signature are not the same.
        assert_eq!(histories.unchecked_in(&by(&old)), 1);
        for number in 0..KEPT_COUNT_MAX {
            histories.kept(|kept| kept.insert(socp_proto::sha256(&number.to_be_bytes())));
        }
        assert_eq!(histories.unchecked_in(&good), 1);
        assert_eq!(
            histories.kept(|kept| (kept.good.len(), kept.by_age.len())),
            (KEPT_COUNT_MAX, KEPT_COUNT_MAX)
        );
    }
}

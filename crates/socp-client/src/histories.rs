//! The key histories that a server shows us (PROTOCOL II.13): what does not prove itself is taken out before it counts.

use socp_crypto::{check_deletion, check_history};
use socp_proto::payload::{Deletion, UserRemove};
use socp_proto::{Frame, KeyHistory, KeyText, Payload};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Good histories that are remembered; then all are forgotten.
const KEPT_COUNT_MAX: usize = 1_024;

/// The histories that were good, by a digest that covers the signatures.
#[derive(Debug, Default)]
pub(crate) struct Histories(Mutex<BTreeSet<[u8; 32]>>);

impl Histories {
    /// The frame without a history that does not verify; nothing where the frame is nothing else.
    pub(crate) fn without_false_ones(&self, mut frame: Frame) -> Option<Frame> {
        let keep_good = |history: &mut Option<KeyHistory>| {
            if history.as_ref().is_some_and(|history| !self.is_good(history)) {
                tracing::warn!("a key history that does not verify is left out");
                *history = None;
            }
        };
        #[expect(clippy::wildcard_enum_match_arm, reason = "only these kinds that come in have one")]
        match &mut frame.payload {
            Payload::UserAdvertise(advertise) => keep_good(&mut advertise.history),
            Payload::PubkeyResponse(answer) => keep_good(&mut answer.history),
            Payload::UserRemove(remove) => leave_out_false_end(remove),
            Payload::Challenge(challenge) => keep_good(&mut challenge.history),
            Payload::KeyNews(news) if !self.is_good(&news.history) => {
                tracing::warn!("news of keys that do not verify are left out");
                return None;
            }
            _ => {}
        }
        Some(frame)
    }

    /// The newest key of a history that goes on from this one, if every signature in it is good.
    pub(crate) fn follow(&self, pinned: &KeyText, history: &KeyHistory) -> Option<KeyText> {
        let leads = history.has_replaced(pinned) && !history.is_revoked() && self.is_good(history);
        leads.then(|| history.newest().pubkey)
    }

    fn is_good(&self, history: &KeyHistory) -> bool {
        let digest = history.digest();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.contains(&digest) {
            return true;
        }
        let is_good = check_history(history).is_ok();
        if is_good {
            if kept.len() >= KEPT_COUNT_MAX {
                kept.clear();
            }
            kept.insert(digest);
        }
        is_good
    }
}

fn leave_out_false_end(remove: &mut UserRemove) {
    let is_false = |deletion: &Deletion| check_deletion(deletion, &remove.user_id, &remove.server_id).is_err();
    if remove.deletion.as_ref().is_some_and(is_false) {
        tracing::warn!("the end of an account that does not verify is left out");
        remove.deletion = None;
    }
}

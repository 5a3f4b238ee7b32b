//! Transport signatures of this server (SOCP §12).

use crate::metrics::{Loss, Metrics};
use crate::outbox::Pending;
use crate::pool::Pool;
use futures_util::FutureExt as _;
use socp_crypto::PrivateKey;
use socp_proto::{Base64Url, Draft, Object, utf8_form};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// Signatures kept for payloads that are sent again: heartbeats, and advertisements told to every newcomer.
const SIGNATURES_KEPT_MAX: usize = 4096;

/// Signs drafts on the pool; the same payload is signed once, since `sig` covers nothing else.
#[derive(Debug)]
pub(crate) struct Signer {
    key: PrivateKey,
    pool: Pool,
    metrics: Arc<Metrics>,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    // Never iterated.
    by_payload: HashMap<[u8; 32], [u8; 512]>,
    by_age: VecDeque<[u8; 32]>,
}

impl Kept {
    fn insert(&mut self, payload: [u8; 32], sig: [u8; 512]) {
        if self.by_payload.insert(payload, sig).is_none() {
            self.by_age.push_back(payload);
        }
        if self.by_age.len() > SIGNATURES_KEPT_MAX
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.by_payload.remove(&oldest);
        }
    }
}

impl Signer {
    pub(crate) fn new(key: PrivateKey, pool: Pool, metrics: Arc<Metrics>) -> Self {
        Self {
            key,
            pool,
            metrics,
            kept: Arc::default(),
        }
    }

    /// Starts to sign; whoever awaits the result gets the text that goes over the wire, or nothing if signing failed.
    pub(crate) fn sign(&self, draft: Draft) -> Pending {
        let (key, kept, metrics) = (self.key.clone(), Arc::clone(&self.kept), Arc::clone(&self.metrics));
        let done = self.pool.run(move || {
            let payload = draft.signed_text();
            let digest = socp_proto::sha256(payload.as_bytes());
            let known = kept
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .by_payload
                .get(&digest)
                .copied();
            let sig = match known {
                Some(sig) => sig,
                None => sign(&key, payload.as_bytes(), &metrics)?,
            };
            if known.is_none() {
                kept.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, sig);
            }
            Some(Arc::from(draft.sign(&sig).to_text()))
        });
        done.map(|text| text.ok().flatten()).boxed().shared()
    }

    /// Signs a directory statement.
    pub(crate) fn endorse(&self, statement: Object) -> oneshot::Receiver<Option<Base64Url>> {
        let (key, metrics) = (self.key.clone(), Arc::clone(&self.metrics));
        self.pool
            .run(move || sign(&key, utf8_form(&statement).as_bytes(), &metrics).map(|sig| Base64Url::encode(&sig)))
    }
}

fn sign(key: &PrivateKey, text: &[u8], metrics: &Metrics) -> Option<[u8; 512]> {
    match metrics.time_signing(|| key.sign(text)) {
        Ok(sig) => Some(sig),
        Err(error) => {
            tracing::error!(%error, "signing failed");
            metrics.dropped(Loss::Signing);
            None
        }
    }
}

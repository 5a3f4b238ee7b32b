//! Transport signatures of this server (SOCP §12).

use crate::metrics::{Loss, Metrics};
use crate::outbox::Pending;
use crate::pool::{Class, Line, Pool};
use crate::socket::Utf8Bytes;
use futures_util::FutureExt as _;
use socp_crypto::{CryptoError, DelegateKey, PrivateKey};
use socp_proto::limits::{CLOCK_BEHIND_MAX_MS, DELEGATION_LASTS_MS};
use socp_proto::{Base64Url, Delegation, Object, ServerId, WrittenDraft, utf8_form};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// Signatures kept for payloads that are sent again: heartbeats, and advertisements told to every newcomer. What carries a
/// nonce is not among them.
const SIGNATURES_KEPT_MAX: usize = 4096;

/// Signs drafts on the pool; the same payload is signed once, since `sig` covers nothing else.
#[derive(Debug)]
pub(crate) struct Signer {
    key: PrivateKey,
    pool: Pool,
    /// What nobody causes: heartbeats, and new keys.
    own_line: Arc<Line>,
    metrics: Arc<Metrics>,
    kept: Arc<Mutex<Kept>>,
    /// The key that signs where the server's own need not (PROTOCOL II.3).
    delegate: Option<DelegateKey>,
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
            own_line: Line::of(Class::Own),
            metrics,
            kept: Arc::default(),
            delegate: None,
        }
    }

    /// From now on frames that need not be signed by the server's own key are signed by this one.
    pub(crate) fn use_delegate(&mut self, delegate: DelegateKey) {
        self.delegate = Some(delegate);
    }

    /// Signs the whole envelope with the delegated key, when the first link needs it.
    pub(crate) fn sign_by_delegate(&self, draft: WrittenDraft) -> Pending {
        let (delegate, metrics) = (self.delegate.clone(), Arc::clone(&self.metrics));
        Pending::lazy(move || {
            // The core asks for this only once it has been given a delegation.
            let delegate = delegate?;
            let sign = |text: &[u8]| delegate.sign(text).map(|sig| sig.to_vec());
            match draft.sign_whole(sign) {
                Ok(text) => Some(Utf8Bytes::from(text)),
                Err(error) => {
                    tracing::error!(%error, "signing failed");
                    metrics.dropped(Loss::Signing);
                    None
                }
            }
        })
    }

    /// Has the server's key sign for another: a new delegation, on the pool.
    pub(crate) fn delegate(&self, server_id: ServerId, unix: u64) -> oneshot::Receiver<Option<NewDelegate>> {
        let key = self.key.clone();
        self.pool.run(&self.own_line, move || {
            new_delegate(&key, &server_id, unix)
                .inspect_err(|error| tracing::error!(%error, "a key to sign frames with could not be made"))
                .ok()
        })
    }

    /// Starts to sign in the line of whoever causes it, or in our own; whoever awaits the result gets the text that goes over the wire, or nothing if signing failed.
    pub(crate) fn sign(&self, cause: Option<&Arc<Line>>, draft: WrittenDraft) -> Pending {
        let (key, kept, metrics) = (self.key.clone(), Arc::clone(&self.kept), Arc::clone(&self.metrics));
        let done = self.pool.run(cause.unwrap_or(&self.own_line), move || {
            let payload = draft.signed_text();
            let sig = if draft.is_said_once() {
                sign(&key, payload.as_bytes(), &metrics)?
            } else {
                sign_once(&key, payload.as_bytes(), &kept, &metrics)?
            };
            Some(Utf8Bytes::from(draft.sign(&sig)))
        });
        Pending::Signing(done.map(|text| text.ok().flatten()).boxed().shared())
    }

    /// Signs a directory statement.
    pub(crate) fn endorse(&self, cause: Option<&Arc<Line>>, statement: Object) -> oneshot::Receiver<Option<Base64Url>> {
        let (key, metrics) = (self.key.clone(), Arc::clone(&self.metrics));
        self.pool.run(cause.unwrap_or(&self.own_line), move || {
            sign(&key, utf8_form(&statement).as_bytes(), &metrics).map(|sig| Base64Url::encode(&sig))
        })
    }
}

/// A key to sign frames with, and what the server's own key says of it.
#[derive(Debug)]
pub(crate) struct NewDelegate {
    pub(crate) key: DelegateKey,
    pub(crate) delegation: Delegation,
}

/// Makes a key that holds from now on; a little earlier where clocks disagree.
pub(crate) fn new_delegate(key: &PrivateKey, server_id: &ServerId, unix: u64) -> Result<NewDelegate, CryptoError> {
    let delegate = DelegateKey::generate()?;
    let not_before = unix.saturating_sub(CLOCK_BEHIND_MAX_MS);
    let not_after = unix.saturating_add(DELEGATION_LASTS_MS);
    let delegation = delegate.delegation(key, server_id, not_before, not_after)?;
    Ok(NewDelegate {
        key: delegate,
        delegation,
    })
}

/// Signs what was not signed lately.
fn sign_once(key: &PrivateKey, payload: &[u8], kept: &Mutex<Kept>, metrics: &Metrics) -> Option<[u8; 512]> {
    let lock = || kept.lock().unwrap_or_else(PoisonError::into_inner);
    let digest = socp_proto::sha256(payload);
    let known = lock().by_payload.get(&digest).copied();
    if known.is_some() {
        return known;
    }
    let sig = sign(key, payload, metrics)?;
    lock().insert(digest, sig);
    Some(sig)
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

#[cfg(test)]
mod tests {
    use super::*;
    use socp_proto::payload::{Heartbeat, ServerIdentity};
    use socp_proto::{Address, Bytes32, Challenge, Draft, KeyText, Payload, Proof};

    #[tokio::test]
    async fn only_signatures_that_may_be_of_use_again_are_kept() {
        let metrics = Arc::new(Metrics::new());
        let key = PrivateKey::generate().unwrap();
        let text = KeyText::from_der(key.public_key().spki_der());
        let id: ServerId = "srv-a".try_into().unwrap();
        let signer = Signer::new(key, Pool::start(Arc::clone(&metrics)).unwrap(), metrics);
        let nonce = Bytes32::from([1; 32]);
        let announce = |nonce| ServerIdentity {
            tls: false,
            history: None,
            host: "host".to_owned(),
            port: 1,
            pubkey: text.clone(),
            name: None,
            caps: None,
            nonce,
        };
        let proof = Proof {
            tls: None,
            nonce,
            server_id: id.clone(),
            key: text.fingerprint().into(),
            by: id.clone().into(),
            hello: nonce,
            ts: 1,
        };
        let challenge = Challenge {
            tls: None,
            history: None,
            nonce,
            server_id: id.clone(),
            server_pub: text.clone(),
            hello: nonce,
            caps: None,
            delegation: None,
        };
        let payloads = [
            (Payload::Proof(proof), 0),
            (Payload::Challenge(challenge), 0),
            (Payload::ServerAnnounce(announce(Some(nonce))), 0),
            (Payload::ServerAnnounce(announce(None)), 1),
            (Payload::Heartbeat(Heartbeat::default()), 2),
            (Payload::Heartbeat(Heartbeat::default()), 2),
        ];
        for (payload, kept) in payloads {
            let draft = Draft::new(&id, Address::everyone(), 1, &payload).write();
            assert!(signer.sign(None, draft).text().await.is_some());
            let count = signer.kept.lock().unwrap().by_payload.len();
            assert_eq!(count, kept, "{payload:?}");
        }
    }
}

//! The keys of users who have just been heard, ready to verify with.
//!
//! Such a key takes several times the room of its text, and most users say nothing most of the time.

use socp_crypto::{CryptoError, PublicKey};
use socp_proto::{Fingerprint, KeyText};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Keys that are kept; another takes ten microseconds to read, an eighth of what verifying with it takes.
const KEPT_COUNT_MAX: usize = 1024;

/// The keys that were asked for last.
#[derive(Debug, Default)]
pub(crate) struct Verifiers(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    // Never iterated.
    by_fingerprint: HashMap<Fingerprint, PublicKey>,
    by_age: VecDeque<Fingerprint>,
}

impl Verifiers {
    /// The key of this text.
    pub(crate) fn key(&self, text: &KeyText) -> Result<PublicKey, CryptoError> {
        let fingerprint = text.fingerprint();
        if let Some(key) = self.kept(|kept| kept.by_fingerprint.get(&fingerprint).cloned()) {
            return Ok(key);
        }
        let key = PublicKey::from_spki_der(&text.der())?;
        self.kept(|kept| kept.insert(fingerprint, key.clone()));
        Ok(key)
    }

    fn kept<T>(&self, look: impl FnOnce(&mut Kept) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Kept {
    fn insert(&mut self, fingerprint: Fingerprint, key: PublicKey) {
        if self.by_fingerprint.insert(fingerprint, key).is_none() {
            self.by_age.push_back(fingerprint);
        }
        if self.by_age.len() > KEPT_COUNT_MAX
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.by_fingerprint.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socp_crypto::PrivateKey;

    #[test]
    fn a_key_is_read_once_while_it_is_kept_and_few_are() {
        let text = KeyText::from_der(PrivateKey::generate().unwrap().public_key().spki_der());
        let verifiers = Verifiers::default();
        let key = verifiers.key(&text).unwrap();
        assert_eq!(verifiers.kept(|kept| kept.by_age.len()), 1);
        assert_eq!(verifiers.key(&text).unwrap(), key);
        assert_eq!(verifiers.kept(|kept| kept.by_age.len()), 1);
        for number in 0..KEPT_COUNT_MAX {
            let other = Fingerprint::of(&number.to_be_bytes());
            verifiers.kept(|kept| kept.insert(other, key.clone()));
        }
        let is_kept = |kept: &mut Kept| kept.by_fingerprint.contains_key(&text.fingerprint());
        assert!(!verifiers.kept(is_kept));
        let counts = verifiers.kept(|kept| (kept.by_age.len(), kept.by_fingerprint.len()));
        assert_eq!(counts, (KEPT_COUNT_MAX, KEPT_COUNT_MAX));
        assert!(verifiers.key(&KeyText::from_der(b"no key")).is_err());
    }
}

//! Ed25519 keys that a server's RSA key lets sign its frames (PROTOCOL II.3, RFC 8032).

use crate::error::CryptoError;
use crate::private_key::PrivateKey;
use crate::public_key::PublicKey;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, ParsedPublicKey};
use socp_proto::{Base64Url, DELEGATE_KEY_BYTES, DELEGATE_SIGNATURE_BYTES, Delegation, Object, ServerId};
use std::fmt;
use std::sync::Arc;

/// An Ed25519 key that lives as long as its delegation and is never stored; cheap to clone.
#[derive(Clone)]
pub struct DelegateKey(Arc<Ed25519KeyPair>);

impl DelegateKey {
    /// Makes a new key.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Internal`] if the library fails.
    pub fn generate() -> Result<Self, CryptoError> {
        let pair = Ed25519KeyPair::generate().map_err(|_| CryptoError::Internal("Ed25519 key generation"))?;
        Ok(Self(Arc::new(pair)))
    }

    /// Signs, in some 20 µs.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Internal`] if the library fails.
    pub fn sign(&self, message: &[u8]) -> Result<[u8; DELEGATE_SIGNATURE_BYTES], CryptoError> {
        let sig = self.0.sign(message);
        let sig = <[u8; DELEGATE_SIGNATURE_BYTES]>::try_from(sig.as_ref());
        sig.map_err(|_| CryptoError::Internal("Ed25519 signing"))
    }

    /// "This key speaks for that server, from then until then" (ms since the Unix epoch), by the server's own key.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Internal`] if the library fails.
    pub fn delegation(
        &self,
        server: &PrivateKey,
        server_id: &ServerId,
        not_before: u64,
        not_after: u64,
    ) -> Result<Delegation, CryptoError> {
        let key = <[u8; DELEGATE_KEY_BYTES]>::try_from(self.0.public_key().as_ref());
        let mut delegation = Delegation {
            key: key.map_err(|_| CryptoError::Internal("Ed25519 public key"))?,
            server_id: server_id.clone(),
            not_before,
            not_after,
            sig: Base64Url::encode(&[]),
            extra: Object::new(),
        };
        delegation.sig = Base64Url::encode(&server.sign(&delegation.signed_text())?);
        Ok(delegation)
    }
}

impl fmt::Debug for DelegateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DelegateKey(..)")
    }
}

/// The public half, out of a delegation whose signature was checked; cheap to clone.
#[derive(Debug, Clone)]
pub struct DelegatePublicKey(Arc<ParsedPublicKey>);

impl DelegatePublicKey {
    /// Takes the key out of a delegation that `server` has signed; not whether it holds now.
    ///
    /// # Errors
    ///
    /// [`CryptoError::BadSignature`] if `server` has not signed it, or the key is none.
    pub fn of(delegation: &Delegation, server: &PublicKey) -> Result<Self, CryptoError> {
        server.verify(&delegation.signed_text(), &delegation.sig.decode())?;
        let key = ParsedPublicKey::new(&ED25519, delegation.key).map_err(|_| CryptoError::BadSignature)?;
        Ok(Self(Arc::new(key)))
    }

    /// Verifies, in some 50 µs.
    ///
    /// # Errors
    ///
    /// [`CryptoError::BadSignature`].
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let verified = self.0.verify_sig(message, signature);
        verified.map_err(|_| CryptoError::BadSignature)
    }
}

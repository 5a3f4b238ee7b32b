//! The public half of an RSA-4096 key: verifying signatures, sealing to its owner.
//!
//! Signatures are RSASSA-PSS with SHA-256 (RFC 8017 §8.1). The specification fixes no salt length and programs differ: ours
//! and WebCrypto ones use 32 bytes, Python ones the maximum of 478. A verifier must therefore accept any length (PROTOCOL
//! part I, 1). aws-lc can be told one length; the `rsa` crate recovers it from the signature but is five times slower. So
//! three verifiers are tried in turn, the last one that succeeded first; each key remembers which of the two fast ones that was.
//!
//! The `rsa` crate sees public keys and signatures only. Its known timing weakness (RUSTSEC-2023-0071) concerns private
//! operations, none of which we ever do with it.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest::Digest;
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use aws_lc_rs::signature::{ParsedPublicKey, RSA_PSS_2048_8192_SHA256, RsaParameters, RsaPssSaltLength};
use rsa::pkcs8::DecodePublicKey;
use rsa::signature::hazmat::PrehashVerifier;
use rsa::{RsaPublicKey, pss};

use crate::digest::{sha256, sha256_of};
use crate::error::{CryptoError, KeyFault};
use crate::key_rules::check_spki;

/// Bytes of an RSA-4096 signature.
pub const SIGNATURE_BYTES: usize = 512;

/// Bytes of one OAEP block.
pub const BLOCK_BYTES: usize = 512;

/// Bytes of plaintext that fit in one OAEP block: 512 - 2 * 32 - 2 (RFC 8017 §7.1.1).
pub const BLOCK_PLAINTEXT_MAX_BYTES: usize = 446;

const _: () = assert!(BLOCK_PLAINTEXT_MAX_BYTES == BLOCK_BYTES - 2 * 32 - 2);

/// An RSA-4096 public key that keeps the rules of PROTOCOL part I, 1; cheap to clone.
#[derive(Clone)]
pub struct PublicKey(Arc<Inner>);

struct Inner {
    spki_der: Box<[u8]>,
    fingerprint: [u8; 32],
    salt_32: ParsedPublicKey,
    // Most keys are asked for one kind of work only; the rest is parsed when first needed.
    salt_max: OnceLock<ParsedPublicKey>,
    salt_any: OnceLock<AnySaltKey>,
    sealing: OnceLock<OaepPublicEncryptingKey>,
    /// `SALT_32` or `SALT_MAX`: which fast verifier succeeded last. A hint, so relaxed ordering will do.
    last_salt: AtomicU8,
}

type AnySaltKey = pss::VerifyingKey<rsa::sha2::Sha256>;

impl PublicKey {
    /// Reads a DER SubjectPublicKeyInfo.
    ///
    /// # Errors
    ///
    /// [`CryptoError::BadKey`] says which rule the key breaks.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, CryptoError> {
        check_spki(der)?;
        let salt_32 = ParsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, der).map_err(|_| KeyFault::Numbers)?;
        Ok(Self(Arc::new(Inner {
            spki_der: der.into(),
            fingerprint: sha256(der),
            salt_32,
            salt_max: OnceLock::new(),
            salt_any: OnceLock::new(),
            sealing: OnceLock::new(),
            last_salt: AtomicU8::new(SALT_32),
        })))
    }

    /// Returns the DER SubjectPublicKeyInfo, the form that travels.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.0.spki_der
    }

    /// Returns the SHA-256 of the DER SubjectPublicKeyInfo, the form that is pinned.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.0.fingerprint
    }

    /// Verifies an RSASSA-PSS signature with any salt length (RFC 8017 §8.1.2).
    ///
    /// # Errors
    ///
    /// [`CryptoError::BadSignature`] if it is not this key's signature over `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        self.verify_first(&[sha256_of(&[message])], signature).map(drop)
    }

    /// Finds the first of several message digests that the signature covers, and returns its index.
    ///
    /// The fast verifiers go over all digests before the slow one is asked about any.
    pub(crate) fn verify_first(&self, digests: &[Digest], signature: &[u8]) -> Result<usize, CryptoError> {
        if signature.len() != SIGNATURE_BYTES {
            return Err(CryptoError::BadSignature);
        }
        for salt in self.0.salts_to_try() {
            for (index, digest) in digests.iter().enumerate() {
                if self.0.verifies(salt, digest, signature)? {
                    self.0.remember(salt);
                    return Ok(index);
                }
            }
        }
        Err(CryptoError::BadSignature)
    }

    /// Encrypts for the owner of this key: RSA-OAEP blocks of 512 bytes, each of at most 446 bytes of `plaintext`
    /// (RFC 8017 §7.1.1; PROTOCOL part I, 7). Nothing at all still gives one block.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Internal`] if the library fails.
    pub fn seal(&self, plaintext: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let key = self.0.sealing_key()?;
        if plaintext.is_empty() {
            return seal_block(key, plaintext).map(Vec::from);
        }
        let mut ciphertext = Vec::with_capacity(plaintext.len().div_ceil(BLOCK_PLAINTEXT_MAX_BYTES) * BLOCK_BYTES);
        for piece in plaintext.chunks(BLOCK_PLAINTEXT_MAX_BYTES) {
            ciphertext.extend_from_slice(&seal_block(key, piece)?);
        }
        Ok(ciphertext)
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.spki_der == other.0.spki_der
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", data_encoding::HEXLOWER.encode(&self.0.fingerprint))
    }
}

/// A verifier, by the salt lengths that it accepts.
#[derive(Clone, Copy)]
enum Salt {
    /// 32 bytes, by aws-lc.
    Digest,
    /// 478 bytes, by aws-lc.
    Max,
    /// Any length, by the `rsa` crate.
    Any,
}

impl Inner {
    fn salts_to_try(&self) -> [Salt; 3] {
        match self.last_salt.load(Ordering::Relaxed) {
            SALT_MAX => [Salt::Max, Salt::Digest, Salt::Any],
            _ => [Salt::Digest, Salt::Max, Salt::Any],
        }
    }

    /// Success of the slow verifier is not remembered: the two others fail in a fraction of its time.
    fn remember(&self, salt: Salt) {
        match salt {
            Salt::Digest => self.last_salt.store(SALT_32, Ordering::Relaxed),
            Salt::Max => self.last_salt.store(SALT_MAX, Ordering::Relaxed),
            Salt::Any => {}
        }
    }

    fn verifies(&self, salt: Salt, digest: &Digest, signature: &[u8]) -> Result<bool, CryptoError> {
        Ok(match salt {
            Salt::Digest => self.salt_32.verify_digest_sig(digest, signature).is_ok(),
            Salt::Max => self.salt_max_key()?.verify_digest_sig(digest, signature).is_ok(),
            Salt::Any => match pss::Signature::try_from(signature) {
                Ok(signature) => self.salt_any_key()?.verify_prehash(digest.as_ref(), &signature).is_ok(),
                Err(_) => false,
            },
        })
    }

    fn salt_max_key(&self) -> Result<&ParsedPublicKey, CryptoError> {
        parsed_once(&self.salt_max, || ParsedPublicKey::new(&PSS_SALT_MAX, &self.spki_der))
    }

    fn salt_any_key(&self) -> Result<&AnySaltKey, CryptoError> {
        parsed_once(&self.salt_any, || {
            RsaPublicKey::from_public_key_der(&self.spki_der).map(AnySaltKey::new_with_auto_salt_len)
        })
    }

    fn sealing_key(&self) -> Result<&OaepPublicEncryptingKey, CryptoError> {
        parsed_once(&self.sealing, || {
            PublicEncryptingKey::from_der(&self.spki_der)
                .map_err(drop)
                .and_then(|key| OaepPublicEncryptingKey::new(key).map_err(drop))
        })
    }
}

/// Fills `cell` at first use. Failing is a library's fault: the key has passed our rules and aws-lc's.
fn parsed_once<T, E>(cell: &OnceLock<T>, parse: impl FnOnce() -> Result<T, E>) -> Result<&T, CryptoError> {
    if let Some(parsed) = cell.get() {
        return Ok(parsed);
    }
    let parsed = parse().map_err(|_| CryptoError::Internal("an accepted public key no longer parses"))?;
    Ok(cell.get_or_init(|| parsed))
}

fn seal_block(key: &OaepPublicEncryptingKey, piece: &[u8]) -> Result<[u8; BLOCK_BYTES], CryptoError> {
    let mut block = [0; BLOCK_BYTES];
    let written = key
        .encrypt(&OAEP_SHA256_MGF1SHA256, piece, &mut block, None)
        .map_err(|_| CryptoError::Internal("OAEP encryption"))?
        .len();
    if written != BLOCK_BYTES {
        return Err(CryptoError::Internal("OAEP block length"));
    }
    Ok(block)
}

static PSS_SALT_MAX: RsaParameters = RSA_PSS_2048_8192_SHA256.with_pss_salt_length(RsaPssSaltLength::Max);

const SALT_32: u8 = 0;
const SALT_MAX: u8 = 1;

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{KeyPair, RSA_PSS_SHA256, RsaKeyPair, RsaSignatureEncoding};

    use super::*;

    #[test]
    fn the_salt_that_succeeded_last_is_tried_first() {
        static MAX: RsaSignatureEncoding = RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Max);
        static ODD: RsaSignatureEncoding = RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Custom(20));
        let pair = RsaKeyPair::generate(KeySize::Rsa4096).unwrap();
        let key = PublicKey::from_spki_der(pair.public_key().as_der().unwrap().as_ref()).unwrap();
        let verify = |encoding: &'static RsaSignatureEncoding| {
            let mut signature = [0; SIGNATURE_BYTES];
            pair.sign(encoding, &SystemRandom::new(), b"m", &mut signature).unwrap();
            key.verify(b"m", &signature).unwrap();
            key.0.salts_to_try()[0]
        };
        assert!(matches!(key.0.salts_to_try()[0], Salt::Digest));
        assert!(matches!(verify(&MAX), Salt::Max));
        assert!(matches!(verify(&ODD), Salt::Max), "the slow verifier is never first");
        assert!(key.verify(b"other", &[0; SIGNATURE_BYTES]).is_err());
        assert!(matches!(key.0.salts_to_try()[0], Salt::Max), "failures teach nothing");
        assert!(matches!(verify(&RSA_PSS_SHA256), Salt::Digest));
        let clone = key.clone();
        verify(&MAX);
        assert!(
            matches!(clone.0.salts_to_try()[0], Salt::Max),
            "clones share what was learnt"
        );
    }
}

//! The private half of an RSA-4096 key: signing, opening what was sealed to us.
//!
//! Every private operation is aws-lc's, which blinds and runs in constant time. Signing takes about 5 ms of a core and
//! opening the same per block, so callers do both on a pool of threads.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use aws_lc_rs::signature::{KeyPair, RSA_PSS_SHA256, RsaKeyPair};
use zeroize::Zeroizing;

use crate::error::{CryptoError, KeyFault};
use crate::key_rules::check_pkcs8;
use crate::public_key::{BLOCK_BYTES, BLOCK_PLAINTEXT_MAX_BYTES, PublicKey, SIGNATURE_BYTES};
use crate::secret::SecretBytes;

/// An RSA-4096 private key that keeps the rules of PROTOCOL part I, 1; cheap to clone, prints only its fingerprint.
#[derive(Clone)]
pub struct PrivateKey(Arc<Inner>);

struct Inner {
    signing: RsaKeyPair,
    opening: OaepPrivateDecryptingKey,
    public: PublicKey,
}

impl PrivateKey {
    /// Makes a new key with e = 65537; takes about a second of a core.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Internal`] if the library fails.
    pub fn generate() -> Result<Self, CryptoError> {
        let pair = RsaKeyPair::generate(KeySize::Rsa4096).map_err(|_| CryptoError::Internal("key generation"))?;
        let der = pkcs8_of(&pair)?;
        Self::from_pair(pair, der.as_ref())
    }

    /// Reads an unencrypted PKCS#8 document (RFC 5208 §5) with a two-prime RSA-4096 key.
    ///
    /// # Errors
    ///
    /// [`CryptoError::BadKey`] says which rule the key breaks.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, CryptoError> {
        check_pkcs8(der)?;
        let pair = RsaKeyPair::from_pkcs8(der).map_err(|_| KeyFault::Numbers)?;
        Self::from_pair(pair, der)
    }

    fn from_pair(pair: RsaKeyPair, der: &[u8]) -> Result<Self, CryptoError> {
        let opening = PrivateDecryptingKey::from_pkcs8(der).map_err(|_| KeyFault::Numbers)?;
        let opening = OaepPrivateDecryptingKey::new(opening).map_err(|_| CryptoError::Internal("OAEP key"))?;
        let spki: PublicKeyX509Der<'_> = pair
            .public_key()
            .as_der()
            .map_err(|_| CryptoError::Internal("public key encoding"))?;
        let public = PublicKey::from_spki_der(spki.as_ref())?;
        Ok(Self(Arc::new(Inner {
            signing: pair,
            opening,
            public,
        })))
    }

    /// Writes the key as an unencrypted PKCS#8 document.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Internal`] if the library fails.
    pub fn to_pkcs8_der(&self) -> Result<SecretBytes, CryptoError> {
        Ok(SecretBytes::new(pkcs8_of(&self.0.signing)?.as_ref().to_vec()))
    }

    /// Returns the public half.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.0.public
    }

    /// Signs with RSASSA-PSS, SHA-256 and a salt of 32 bytes (RFC 8017 §8.1.1; PROTOCOL part I, 1).
    ///
    /// # Errors
    ///
    /// [`CryptoError::Internal`] if the library fails.
    pub fn sign(&self, message: &[u8]) -> Result<[u8; SIGNATURE_BYTES], CryptoError> {
        // aws-lc-rs copies into the buffer and would panic on another length.
        if self.0.signing.public_modulus_len() != SIGNATURE_BYTES {
            return Err(CryptoError::Internal("modulus length"));
        }
        let mut signature = [0; SIGNATURE_BYTES];
        self.0
            .signing
            .sign(&RSA_PSS_SHA256, &SystemRandom::new(), message, &mut signature)
            .map_err(|_| CryptoError::Internal("PSS signing"))?;
        Ok(signature)
    }

    /// Decrypts RSA-OAEP blocks (RFC 8017 §7.1.2; PROTOCOL part I, 7) into at most `max_plaintext` bytes.
    ///
    /// The limit also bounds the work: a ciphertext of more blocks than such a plaintext needs is refused unread.
    ///
    /// # Errors
    ///
    /// [`CryptoError::TooLong`] over the limit; [`CryptoError::Decrypt`] for anything else that is wrong with it.
    pub fn open(&self, ciphertext: &[u8], max_plaintext: usize) -> Result<SecretBytes, CryptoError> {
        let blocks_max = max_plaintext.div_ceil(BLOCK_PLAINTEXT_MAX_BYTES).max(1);
        let ciphertext_max = blocks_max.saturating_mul(BLOCK_BYTES);
        if ciphertext.len() > ciphertext_max {
            return Err(CryptoError::TooLong {
                len: ciphertext.len(),
                max: ciphertext_max,
            });
        }
        let (blocks, []) = ciphertext.as_chunks::<BLOCK_BYTES>() else {
            return Err(CryptoError::Decrypt);
        };
        if blocks.is_empty() {
            return Err(CryptoError::Decrypt);
        }
        // Reserved in full, so that growing never leaves a copy of the plaintext behind.
        let mut plaintext = Zeroizing::new(Vec::with_capacity(blocks.len() * BLOCK_PLAINTEXT_MAX_BYTES));
        let mut buffer = Zeroizing::new([0; BLOCK_BYTES]);
        for block in blocks {
            let piece = self
                .0
                .opening
                .decrypt(&OAEP_SHA256_MGF1SHA256, block, buffer.as_mut_slice(), None)
                .map_err(|_| CryptoError::Decrypt)?;
            plaintext.extend_from_slice(piece);
        }
        if plaintext.len() > max_plaintext {
            return Err(CryptoError::TooLong {
                len: plaintext.len(),
                max: max_plaintext,
            });
        }
        Ok(plaintext.into())
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "PrivateKey({})",
            data_encoding::HEXLOWER.encode(&self.0.public.fingerprint())
        )
    }
}

/// The library's buffer zeroes itself when dropped.
fn pkcs8_of(pair: &RsaKeyPair) -> Result<Pkcs8V1Der<'static>, CryptoError> {
    pair.as_der().map_err(|_| CryptoError::Internal("private key encoding"))
}

//! A private key at rest: PKCS#8 under AES-256-GCM, in a small JSON document.
//!
//! The cipher's key comes from a password by Argon2id (RFC 9106), or from a random secret by HKDF-SHA-256 (RFC 5869) where
//! a program guards the file and no person types anything. Version and derivation parameters are authenticated together
//! with the key, so that nobody who can write the file can weaken them; and they are checked against bounds before any
//! memory is taken, so that a hostile file cannot exhaust the machine.
//!
//! Fields are declared in canonical order: the document, and the part of it that is authenticated, are canonical JSON.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::{CryptoError, KeyFileFault};
use crate::private_key::PrivateKey;
use crate::random::random_bytes;
use crate::secret::{Password, SecretBytes};

mod base64url;
mod identity;
mod kdf;
mod stored_secret;

use base64url::Base64Url;
pub use identity::{IDENTITY_FILE_BYTES_MAX, SealedIdentity};
pub use kdf::Argon2Cost;
use kdf::Kdf;
pub(crate) use kdf::argon2id;
pub use stored_secret::SealedSecret;

/// What opens a key file.
#[derive(Debug, Clone, Copy)]
pub enum UnlockSecret<'a> {
    /// Something a person remembers.
    Password(&'a Password),
    /// At least 32 random bytes that a program keeps, such as [`SecretBytes::random`] makes.
    Secret(&'a SecretBytes),
}

/// An encrypted private key, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedKey {
    ciphertext: Base64Url,
    iv: Base64Url,
    kdf: Kdf,
    version: u64,
}

impl SealedKey {
    /// Encrypts `key` with the default cost of Argon2id where a password protects it.
    ///
    /// # Errors
    ///
    /// [`KeyFileFault::ShortSecret`], or [`CryptoError::Internal`] if a library fails.
    pub fn seal(key: &PrivateKey, unlock: UnlockSecret<'_>) -> Result<Self, CryptoError> {
        Self::seal_with_cost(key, unlock, Argon2Cost::default())
    }

    /// Encrypts `key` with a chosen cost of Argon2id; a secret takes no cost.
    ///
    /// # Errors
    ///
    /// [`KeyFileFault::Parameters`] for a cost that [`SealedKey::open`] would refuse, [`KeyFileFault::ShortSecret`], or
    /// [`CryptoError::Internal`] if a library fails.
    pub fn seal_with_cost(key: &PrivateKey, unlock: UnlockSecret<'_>, cost: Argon2Cost) -> Result<Self, CryptoError> {
        let kdf = Kdf::fresh(unlock, cost)?;
        let cipher = cipher(&*kdf.derive(unlock)?)?;
        let iv = random_bytes::<IV_BYTES>()?;
        // Room for the tag, so that appending it never moves the key and leaves a copy behind.
        let pkcs8 = key.to_pkcs8_der()?;
        let mut buffer = Zeroizing::new(Vec::with_capacity(pkcs8.len() + TAG_BYTES));
        buffer.extend_from_slice(pkcs8.expose());
        cipher
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(iv),
                Aad::from(authenticated(&kdf, VERSION)?),
                &mut *buffer,
            )
            .map_err(|_| CryptoError::Internal("AES-GCM encryption"))?;
        let ciphertext = Base64Url(buffer.to_vec());
        Ok(Self {
            ciphertext,
            iv: Base64Url(iv.to_vec()),
            kdf,
            version: VERSION,
        })
    }

    /// Decrypts the key.
    ///
    /// # Errors
    ///
    /// [`CryptoError::WrongPassword`], which also stands for an altered file; [`CryptoError::KeyFile`] for a file that
    /// asks for the other kind of secret or for absurd work; [`CryptoError::BadKey`] for a key that breaks the rules.
    pub fn open(&self, unlock: UnlockSecret<'_>) -> Result<PrivateKey, CryptoError> {
        if self.version != VERSION {
            return Err(KeyFileFault::Newer(self.version).into());
        }
        let nonce = Nonce::try_assume_unique_for_key(&self.iv.0)
            .map_err(|_| KeyFileFault::Damaged("the iv must have 12 bytes"))?;
        let cipher = cipher(&*self.kdf.derive(unlock)?)?;
        let mut buffer = Zeroizing::new(self.ciphertext.0.clone());
        let pkcs8 = cipher
            .open_in_place(nonce, Aad::from(authenticated(&self.kdf, self.version)?), &mut buffer)
            .map_err(|_| CryptoError::WrongPassword)?;
        PrivateKey::from_pkcs8_der(pkcs8)
    }

    /// Says whether a person must be asked before [`SealedKey::open`].
    #[must_use]
    pub fn needs_password(&self) -> bool {
        match self.kdf {
            Kdf::Argon2id { .. } => true,
            Kdf::HkdfSha256 { .. } => false,
        }
    }

    /// Writes the document: canonical JSON.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Internal`] if the library fails.
    pub fn to_json(&self) -> Result<String, CryptoError> {
        serde_json::to_string(self).map_err(|_| CryptoError::Internal("key file to JSON"))
    }

    /// Reads the document.
    ///
    /// # Errors
    ///
    /// [`CryptoError::KeyFile`] says whether it is damaged, something else, or from a later program.
    pub fn from_json(text: &str) -> Result<Self, CryptoError> {
        if text.len() > FILE_MAX_BYTES {
            return Err(KeyFileFault::Foreign.into());
        }
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|_| KeyFileFault::Damaged("it is not complete JSON"))?;
        let version = value.get("version").and_then(serde_json::Value::as_u64);
        // A later version may have dropped any other field.
        let (Some(version), true) = (version, value.get("kdf").is_some() || version > Some(VERSION)) else {
            return Err(KeyFileFault::Foreign.into());
        };
        if version > VERSION {
            return Err(KeyFileFault::Newer(version).into());
        }
        if version < VERSION {
            return Err(KeyFileFault::Foreign.into());
        }
        // From the text, not from `value`: only that way duplicate fields are seen and refused.
        let sealed: Self =
            serde_json::from_str(text).map_err(|_| KeyFileFault::Damaged("a field is missing or malformed"))?;
        sealed.kdf.check()?;
        Ok(sealed)
    }
}

/// The part of the document that is authenticated and not encrypted.
#[derive(Serialize)]
struct Authenticated<'a> {
    kdf: &'a Kdf,
    version: u64,
}

fn authenticated(kdf: &Kdf, version: u64) -> Result<Vec<u8>, CryptoError> {
    serde_json::to_vec(&Authenticated { kdf, version }).map_err(|_| CryptoError::Internal("key file header to JSON"))
}

fn cipher(key: &[u8; 32]) -> Result<LessSafeKey, CryptoError> {
    let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| CryptoError::Internal("AES-256 key"))?;
    Ok(LessSafeKey::new(key))
}

const VERSION: u64 = 1;
const IV_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
/// A file of ours has about 3.5 KiB.
const FILE_MAX_BYTES: usize = 64 * 1024;

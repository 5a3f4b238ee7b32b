//! An exported identity: the [`IdentityText`] under a password, in one file.

use super::base64url::Base64Url;
use super::kdf::{Argon2Cost, Kdf};
use super::{IV_BYTES, TAG_BYTES, UnlockSecret, cipher};
use crate::error::{CryptoError, KeyFileFault};
use crate::identity::IdentityText;
use crate::random::random_bytes;
use crate::secret::Password;
use aws_lc_rs::aead::{Aad, Nonce};
use serde::{Deserialize, Serialize};
use socp_proto::limits::IDENTITY_TEXT_BYTES_MAX;
use zeroize::Zeroizing;

/// An encrypted identity, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedIdentity {
    ciphertext: Base64Url,
    iv: Base64Url,
    kdf: Kdf,
    kind: String,
    version: u64,
}

/// The part of the document that is authenticated and not encrypted.
#[derive(Serialize)]
struct Authenticated<'a> {
    kdf: &'a Kdf,
    kind: &'a str,
    version: u64,
}

impl SealedIdentity {
    /// Encrypts an identity under a password, with the default cost of Argon2id.
    ///
    /// # Errors
    ///
    /// [`KeyFileFault::NoPassword`] for an empty one; [`CryptoError::Internal`] if a library fails.
    pub fn seal(text: &IdentityText, password: &Password) -> Result<Self, CryptoError> {
        if password.is_empty() {
            return Err(KeyFileFault::NoPassword.into());
        }
        let unlock = UnlockSecret::Password(password);
        let kdf = Kdf::fresh(unlock, Argon2Cost::default())?;
        let cipher = cipher(&*kdf.derive(unlock)?)?;
        let iv = random_bytes::<IV_BYTES>()?;
        // Room for the tag, so that appending it never moves the text and leaves a copy behind.
        let text = text.expose().as_bytes();
        let mut buffer = Zeroizing::new(Vec::with_capacity(text.len().saturating_add(TAG_BYTES)));
        buffer.extend_from_slice(text);
        let aad = Aad::from(authenticated(&kdf)?);
        cipher
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(iv), aad, &mut *buffer)
            .map_err(|_| CryptoError::Internal("AES-GCM encryption"))?;
        Ok(Self {
            ciphertext: Base64Url(buffer.to_vec()),
            iv: Base64Url(iv.to_vec()),
            kdf,
            kind: KIND.to_owned(),
            version: VERSION,
        })
    }

    /// Decrypts the text; what is in it is for [`FullIdentity::from_text`](crate::FullIdentity::from_text) to judge.
    ///
    /// # Errors
    ///
    /// [`CryptoError::WrongPassword`], which also stands for an altered file.
    pub fn open(&self, password: &Password) -> Result<IdentityText, CryptoError> {
        let nonce = Nonce::try_assume_unique_for_key(&self.iv.0)
            .map_err(|_| KeyFileFault::Damaged("the iv must have 12 bytes"))?;
        let cipher = cipher(&*self.kdf.derive(UnlockSecret::Password(password))?)?;
        let mut buffer = Zeroizing::new(self.ciphertext.0.clone());
        let text = cipher
            .open_in_place(nonce, Aad::from(authenticated(&self.kdf)?), &mut buffer)
            .map_err(|_| CryptoError::WrongPassword)?;
        let text = str::from_utf8(text).map_err(|_| KeyFileFault::Damaged("it does not hold text"))?;
        Ok(IdentityText::new(Zeroizing::new(text.to_owned())))
    }

    /// Writes the document: canonical JSON.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Internal`] if the library fails.
    pub fn to_json(&self) -> Result<String, CryptoError> {
        serde_json::to_string(self).map_err(|_| CryptoError::Internal("identity file to JSON"))
    }

    /// Reads the document.
    ///
    /// # Errors
    ///
    /// [`CryptoError::KeyFile`] says whether it is damaged, something else and what, or from a later program.
    pub fn from_json(text: &str) -> Result<Self, CryptoError> {
        if text.len() > IDENTITY_FILE_BYTES_MAX {
            return Err(KeyFileFault::NoIdentity("it is too large").into());
        }
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|_| KeyFileFault::Damaged("it is not complete JSON"))?;
        let version = value.get("version").and_then(serde_json::Value::as_u64);
        match value.get("kind").and_then(serde_json::Value::as_str) {
            Some(KIND) => {}
            Some(_) => return Err(KeyFileFault::NoIdentity("it says that it is something else").into()),
            None if version.is_some() && value.get("kdf").is_some() => {
                return Err(KeyFileFault::NoIdentity("it is the key file of a server or a profile").into());
            }
            None => return Err(KeyFileFault::NoIdentity("it is JSON of something else").into()),
        }
        match version {
            Some(VERSION) => {}
            Some(newer) if newer > VERSION => return Err(KeyFileFault::Newer(newer).into()),
            Some(_) | None => return Err(KeyFileFault::Damaged("its version is missing or wrong").into()),
        }
        // From the text, not from `value`: only that way duplicate fields are seen and refused.
        let sealed: Self =
            serde_json::from_str(text).map_err(|_| KeyFileFault::Damaged("a field is missing or malformed"))?;
        sealed.kdf.check()?;
        Ok(sealed)
    }
}

fn authenticated(kdf: &Kdf) -> Result<Vec<u8>, CryptoError> {
    let (kind, version) = (KIND, VERSION);
    serde_json::to_vec(&Authenticated { kdf, kind, version })
        .map_err(|_| CryptoError::Internal("identity file header to JSON"))
}

const KIND: &str = "socp-identity";
const VERSION: u64 = 1;
/// Longest file in bytes: the longest text in base64url, and what stands around it.
pub const IDENTITY_FILE_BYTES_MAX: usize = IDENTITY_TEXT_BYTES_MAX * 4 / 3 + 4096;

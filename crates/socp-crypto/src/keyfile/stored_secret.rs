//! A random secret at rest: 32 bytes from which other keys come, under a password or another secret.

use super::base64url::Base64Url;
use super::kdf::{Argon2Cost, Kdf};
use super::{FILE_MAX_BYTES, IV_BYTES, TAG_BYTES, UnlockSecret, cipher};
use crate::error::{CryptoError, KeyFileFault};
use crate::random::random_bytes;
use crate::secret::SecretBytes;
use aws_lc_rs::aead::{Aad, Nonce};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// An encrypted secret, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedSecret {
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

impl SealedSecret {
    /// Encrypts a secret, with the default cost of Argon2id where a password protects it.
    ///
    /// # Errors
    ///
    /// [`KeyFileFault::ShortSecret`], or [`CryptoError::Internal`] if a library fails.
    pub fn seal(secret: &SecretBytes, unlock: UnlockSecret<'_>) -> Result<Self, CryptoError> {
        let kdf = Kdf::fresh(unlock, Argon2Cost::default())?;
        let cipher = cipher(&*kdf.derive(unlock)?)?;
        let iv = random_bytes::<IV_BYTES>()?;
        let mut buffer = Zeroizing::new(Vec::with_capacity(secret.len().saturating_add(TAG_BYTES)));
        buffer.extend_from_slice(secret.expose());
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

    /// Decrypts the secret.
    ///
    /// # Errors
    ///
    /// [`CryptoError::WrongPassword`], which also stands for an altered document.
    pub fn open(&self, unlock: UnlockSecret<'_>) -> Result<SecretBytes, CryptoError> {
        let nonce = Nonce::try_assume_unique_for_key(&self.iv.0)
            .map_err(|_| KeyFileFault::Damaged("the iv must have 12 bytes"))?;
        let cipher = cipher(&*self.kdf.derive(unlock)?)?;
        let mut buffer = Zeroizing::new(self.ciphertext.0.clone());
        let secret = cipher
            .open_in_place(nonce, Aad::from(authenticated(&self.kdf)?), &mut buffer)
            .map_err(|_| CryptoError::WrongPassword)?;
        Ok(SecretBytes::new(secret.to_vec()))
    }

    /// Writes the document: canonical JSON.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Internal`] if the library fails.
    pub fn to_json(&self) -> Result<String, CryptoError> {
        serde_json::to_string(self).map_err(|_| CryptoError::Internal("secret to JSON"))
    }

    /// Reads the document.
    ///
    /// # Errors
    ///
    /// [`CryptoError::KeyFile`] says whether it is damaged or from a later program.
    pub fn from_json(text: &str) -> Result<Self, CryptoError> {
        if text.len() > FILE_MAX_BYTES {
            return Err(KeyFileFault::Foreign.into());
        }
        let sealed: Self =
            serde_json::from_str(text).map_err(|_| KeyFileFault::Damaged("a field is missing or malformed"))?;
        if sealed.version > VERSION {
            return Err(KeyFileFault::Newer(sealed.version).into());
        }
        if sealed.kind != KIND || sealed.version != VERSION {
            return Err(KeyFileFault::Foreign.into());
        }
        sealed.kdf.check()?;
        Ok(sealed)
    }
}

fn authenticated(kdf: &Kdf) -> Result<Vec<u8>, CryptoError> {
    let (kind, version) = (KIND, VERSION);
    serde_json::to_vec(&Authenticated { kdf, kind, version })
        .map_err(|_| CryptoError::Internal("header of a secret to JSON"))
}

const KIND: &str = "socp-secret";
const VERSION: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Password;

    #[test]
    fn a_secret_comes_back_only_with_what_sealed_it() {
        let (secret, lock) = (SecretBytes::random().unwrap(), SecretBytes::random().unwrap());
        let sealed = SealedSecret::seal(&secret, UnlockSecret::Secret(&lock)).unwrap();
        let text = sealed.to_json().unwrap();
        let read = SealedSecret::from_json(&text).unwrap();
        assert_eq!(read.open(UnlockSecret::Secret(&lock)).unwrap(), secret);
        let other = SecretBytes::random().unwrap();
        assert_eq!(read.open(UnlockSecret::Secret(&other)), Err(CryptoError::WrongPassword));
        let password = Password::new("correct horse".to_owned());
        assert!(read.open(UnlockSecret::Password(&password)).is_err());
        for (found, put) in [
            ("socp-secret", "socp-other!"),
            ("\"version\":1", "\"version\":9"),
            ("{", "{\"x\":1,"),
        ] {
            assert!(SealedSecret::from_json(&text.replacen(found, put, 1)).is_err(), "{put}");
        }
    }
}

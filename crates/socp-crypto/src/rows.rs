//! Rows of a database at rest: each sealed by itself, bound to its place; and names that say nothing to who lacks the key.
//!
//! All keys come from one random secret by HKDF-SHA-256 (RFC 5869), one for each use. A row is AES-256-GCM under a random
//! iv with its place as associated data, so that no row can stand in for another. A name is HMAC-SHA-256, cut to 16 bytes:
//! equal for equal input, so that the database can look it up.

use crate::error::CryptoError;
use crate::random::random_bytes;
use crate::secret::SecretBytes;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::hmac;
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// What a name is cut to: 128 bits.
pub const ROW_NAME_BYTES: usize = 16;

/// The keys that seal and name the rows of one database; cheap to clone.
#[derive(Clone)]
pub struct RowKeys(Arc<Keys>);

struct Keys {
    rows: LessSafeKey,
    names: hmac::Key,
}

impl RowKeys {
    /// Derives both keys.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Internal`] if the library fails.
    pub fn derive(secret: &SecretBytes) -> Result<Self, CryptoError> {
        let rows = UnboundKey::new(&AES_256_GCM, &*expand(secret, ROWS_INFO)?);
        let rows = rows.map_err(|_| CryptoError::Internal("AES-256 key"))?;
        let names = hmac::Key::new(hmac::HMAC_SHA256, &*expand(secret, NAMES_INFO)?);
        Ok(Self(Arc::new(Keys {
            rows: LessSafeKey::new(rows),
            names,
        })))
    }

    /// Encrypts a row for one place.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Internal`] if the library fails.
    pub fn seal(&self, place: &[u8], plain: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let iv = random_bytes::<NONCE_LEN>()?;
        let mut text = plain.to_vec();
        let tag = self
            .0
            .rows
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(iv), Aad::from(place), &mut text)
            .map_err(|_| CryptoError::Internal("AES-GCM encryption"))?;
        Ok([&iv[..], &text, tag.as_ref()].concat())
    }

    /// Decrypts a row; nothing if it is damaged, or was sealed for another place or with another key.
    #[must_use]
    pub fn open(&self, place: &[u8], sealed: &[u8]) -> Option<SecretBytes> {
        let (iv, text) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut buffer = Zeroizing::new(text.to_vec());
        let nonce = Nonce::assume_unique_for_key(*iv);
        let plain = self.0.rows.open_in_place(nonce, Aad::from(place), &mut buffer);
        let length = plain.ok()?.len();
        buffer.truncate(length);
        Some(SecretBytes::from(buffer))
    }

    /// The name of something among those of its kind.
    #[must_use]
    pub fn name(&self, kind: &str, parts: &[&[u8]]) -> [u8; ROW_NAME_BYTES] {
        let mut context = hmac::Context::with_key(&self.0.names);
        for part in [kind.as_bytes()].iter().chain(parts) {
            // With its length before it, so that no two lists of parts are the same bytes.
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        let tag = context.sign();
        let mut name = [0; ROW_NAME_BYTES];
        name.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        name
    }
}

impl fmt::Debug for RowKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RowKeys(..)")
    }
}

fn expand(secret: &SecretBytes, info: &[u8]) -> Result<Zeroizing<[u8; 32]>, CryptoError> {
    let mut key = Zeroizing::new([0; 32]);
    Salt::new(HKDF_SHA256, b"")
        .extract(secret.expose())
        .expand(&[info], HKDF_SHA256)
        .and_then(|okm| okm.fill(key.as_mut_slice()))
        .map_err(|_| CryptoError::Internal("HKDF"))?;
    Ok(key)
}

const ROWS_INFO: &[u8] = b"socp-rows-v1";
const NAMES_INFO: &[u8] = b"socp-names-v1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_opens_only_in_its_place_and_undamaged() {
        let keys = RowKeys::derive(&SecretBytes::random().unwrap()).unwrap();
        let sealed = keys.seal(b"place 1", b"hello").unwrap();
        assert_eq!(keys.open(b"place 1", &sealed).unwrap().expose(), b"hello");
        assert!(keys.open(b"place 2", &sealed).is_none());
        for byte in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[byte] ^= 1;
            assert!(keys.open(b"place 1", &damaged).is_none(), "byte {byte}");
        }
        for length in 0..sealed.len() {
            assert!(keys.open(b"place 1", &sealed[..length]).is_none(), "cut to {length}");
        }
        let other = RowKeys::derive(&SecretBytes::random().unwrap()).unwrap();
        assert!(other.open(b"place 1", &sealed).is_none());
    }

    #[test]
    fn names_are_equal_for_equal_parts_alone() {
        let keys = RowKeys::derive(&SecretBytes::new(vec![7; 32])).unwrap();
        let name = keys.name("peer", &[b"ab", b"c"]);
        assert_eq!(name, keys.name("peer", &[b"ab", b"c"]));
        for (kind, parts) in [
            ("peer", [&b"a"[..], b"bc"]),
            ("word", [b"ab", b"c"]),
            ("peer", [b"c", b"ab"]),
        ] {
            assert_ne!(name, keys.name(kind, &parts));
        }
        let other = RowKeys::derive(&SecretBytes::new(vec![8; 32])).unwrap();
        assert_ne!(name, other.name("peer", &[b"ab", b"c"]));
    }
}

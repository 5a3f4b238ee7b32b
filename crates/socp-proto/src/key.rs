//! Public keys and other binary values as the wire writes them: base64url without padding (PROTOCOL I.1).

use crate::limits::{CHUNK_CIPHERTEXT_BYTES_MAX, DIRECT_CIPHERTEXT_BYTES_MAX, KEY_TEXT_BYTES_MAX, SIGNATURE_BYTES_MAX};
use base64_simd::URL_SAFE_NO_PAD;
use data_encoding::HEXLOWER;
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// A text that is not base64url without padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not base64url without padding")]
pub struct InvalidBase64;

/// Binary content kept as its base64url text, which is what content signatures cover (PROTOCOL I.7).
///
/// The text is known to decode: unused trailing bits are zero, so text and bytes determine each other. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Base64Url(Arc<str>);

impl Base64Url {
    /// Encodes bytes.
    #[must_use]
    pub fn encode(bytes: &[u8]) -> Self {
        Self(encode(bytes).into())
    }

    /// The text as it goes over the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The bytes.
    #[must_use]
    pub fn decode(&self) -> Vec<u8> {
        decode(&self.0)
    }

    /// Whether there are no bytes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Reads a signature: nothing, or at most the 512 bytes of RSA-4096.
pub(crate) fn bounded_sig<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Base64Url, D::Error> {
    bounded(deserializer, SIGNATURE_BYTES_MAX)
}

/// As [`bounded_sig`], for a field that may be absent or `null`.
pub(crate) fn bounded_sig_if_any<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Base64Url>, D::Error> {
    let sig = Option::<Base64Url>::deserialize(deserializer)?;
    if sig
        .as_ref()
        .is_some_and(|sig| sig.0.len() > text_bytes(SIGNATURE_BYTES_MAX))
    {
        return Err(too_long(SIGNATURE_BYTES_MAX));
    }
    Ok(sig)
}

/// Reads the ciphertext of a direct message.
pub(crate) fn bounded_ciphertext<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Base64Url, D::Error> {
    bounded(deserializer, DIRECT_CIPHERTEXT_BYTES_MAX)
}

/// Reads the ciphertext of a part of a file.
pub(crate) fn bounded_chunk<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Base64Url, D::Error> {
    bounded(deserializer, CHUNK_CIPHERTEXT_BYTES_MAX)
}

fn bounded<'de, D: serde::Deserializer<'de>>(deserializer: D, bytes_max: usize) -> Result<Base64Url, D::Error> {
    let value = Base64Url::deserialize(deserializer)?;
    if value.0.len() > text_bytes(bytes_max) {
        return Err(too_long(bytes_max));
    }
    Ok(value)
}

fn text_bytes(bytes: usize) -> usize {
    bytes.saturating_mul(4).div_ceil(3)
}

fn too_long<E: serde::de::Error>(bytes_max: usize) -> E {
    E::custom(format!("a binary value has more than {bytes_max} bytes"))
}

impl TryFrom<&str> for Base64Url {
    type Error = InvalidBase64;
    fn try_from(text: &str) -> Result<Self, InvalidBase64> {
        check(text)?;
        Ok(Self(Arc::from(text)))
    }
}

impl TryFrom<String> for Base64Url {
    type Error = InvalidBase64;
    fn try_from(text: String) -> Result<Self, InvalidBase64> {
        Self::try_from(text.as_str())
    }
}

impl Serialize for Base64Url {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Base64Url {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_text(deserializer)
    }
}

/// Reads a text where it lies, without a copy of it.
fn read_text<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: for<'a> TryFrom<&'a str, Error = InvalidBase64>,
    D: Deserializer<'de>,
{
    struct Text<T>(std::marker::PhantomData<T>);
    impl<T: for<'a> TryFrom<&'a str, Error = InvalidBase64>> Visitor<'_> for Text<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            T::try_from(text).map_err(E::custom)
        }
    }
    deserializer.deserialize_str(Text(std::marker::PhantomData))
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode_to_string(bytes)
}

fn check(text: &str) -> Result<(), InvalidBase64> {
    URL_SAFE_NO_PAD.check(text.as_bytes()).map_err(|_| InvalidBase64)
}

/// The bytes of a text that was checked.
fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode_to_vec(text.as_bytes()).unwrap_or_default()
}

impl fmt::Debug for Base64Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Base64Url({} characters)", self.0.len())
    }
}

/// SHA-256 of a public key's SubjectPublicKeyInfo: the short name of a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a DER SubjectPublicKeyInfo.
    #[must_use]
    pub fn of(spki_der: &[u8]) -> Self {
        Self(Sha256::digest(spki_der).into())
    }

    /// A fingerprint read back from where it was stored.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 16 hexadecimal digits, enough to recognise a key in a log.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string().chars().take(16).collect()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({})", self.short())
    }
}

/// The text of a public key: base64url of some bytes that claim to be a SubjectPublicKeyInfo.
///
/// Whether the key is an acceptable one (RSA-4096) is for `socp-crypto` to say; here only the encoding is known to be
/// right. A server keeps one for each user, so it holds the text and nothing that can be made of it. Cheap to clone.
#[derive(Clone)]
pub struct KeyText(Arc<KeyParts>);

struct KeyParts {
    text: Box<str>,
    /// Where it was asked for.
    fingerprint: OnceLock<Fingerprint>,
}

impl KeyText {
    /// The text of a key given in DER.
    #[must_use]
    pub fn from_der(spki_der: &[u8]) -> Self {
        Self::of_checked(encode(spki_der).into())
    }

    fn of_checked(text: Box<str>) -> Self {
        let fingerprint = OnceLock::new();
        Self(Arc::new(KeyParts { text, fingerprint }))
    }

    /// The text as it goes over the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The bytes behind the text.
    #[must_use]
    pub fn der(&self) -> Vec<u8> {
        decode(&self.0.text)
    }

    /// SHA-256 of the bytes.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        *self.0.fingerprint.get_or_init(|| Fingerprint::of(&self.der()))
    }
}

impl TryFrom<&str> for KeyText {
    type Error = InvalidBase64;
    fn try_from(text: &str) -> Result<Self, InvalidBase64> {
        if text.is_empty() || text.len() > KEY_TEXT_BYTES_MAX {
            return Err(InvalidBase64);
        }
        check(text)?;
        Ok(Self::of_checked(text.into()))
    }
}

impl TryFrom<String> for KeyText {
    type Error = InvalidBase64;
    fn try_from(text: String) -> Result<Self, InvalidBase64> {
        Self::try_from(text.as_str())
    }
}

impl Serialize for KeyText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for KeyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_text(deserializer)
    }
}

impl PartialEq for KeyText {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.text == other.0.text
    }
}

impl Eq for KeyText {}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyText({})", self.fingerprint().short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_base64url_without_padding_is_read() {
        assert_eq!(Base64Url::try_from("_-8".to_owned()).unwrap().decode(), [0xff, 0xef]);
        for bad in ["/+8", "_-8=", "_-9", "a", "a b", "é"] {
            assert_eq!(Base64Url::try_from(bad.to_owned()), Err(InvalidBase64), "{bad}");
        }
    }

    #[test]
    fn an_oversized_or_empty_key_text_is_refused() {
        assert!(KeyText::try_from("A".repeat(KEY_TEXT_BYTES_MAX)).is_ok());
        assert!(KeyText::try_from("A".repeat(KEY_TEXT_BYTES_MAX + 4)).is_err());
        assert!(KeyText::try_from(String::new()).is_err());
    }
}

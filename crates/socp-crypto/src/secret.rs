//! Values that forget themselves: zeroed when dropped, never printed, compared in constant time.
//!
//! Neither type implements `Display` or `Serialize`; reading one takes a call to `expose`, which is easy to search for.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::Zeroizing;

use crate::error::CryptoError;
use crate::random::random_bytes;

/// Secret bytes: keys, opened plaintexts, PKCS#8 documents.
#[derive(Clone)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes over `bytes`, which are zeroed when this value is dropped.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Makes a fresh 32-byte secret, as [`crate::keyfile`] takes it in place of a password.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Internal`] when the system's generator fails.
    pub fn random() -> Result<Self, CryptoError> {
        let bytes = Zeroizing::new(random_bytes::<32>()?);
        Ok(Self::new(bytes.to_vec()))
    }

    /// Shows the bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Returns the number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Says whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Zeroizing<Vec<u8>>> for SecretBytes {
    fn from(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }
}

impl PartialEq for SecretBytes {
    /// Compares in time that depends on the lengths only.
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for SecretBytes {}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(..)")
    }
}

/// A password as typed.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes over `text`, which is zeroed when this value is dropped.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Shows the password.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Says whether nothing was typed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PartialEq for Password {
    /// Compares in time that depends on the lengths only.
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(self.0.as_bytes(), other.0.as_bytes()).is_ok()
    }
}

impl Eq for Password {}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_hides_the_secret() {
        assert_eq!(
            format!("{:?}", SecretBytes::new(b"hunter2".to_vec())),
            "SecretBytes(..)"
        );
        assert_eq!(format!("{:#?}", Password::new("hunter2".to_owned())), "Password(..)");
    }

    #[test]
    fn equality_compares_length_and_content() {
        let secret = |text: &str| SecretBytes::new(text.as_bytes().to_vec());
        assert_eq!(secret("ab"), secret("ab"));
        assert_ne!(secret("ab"), secret("ac"));
        assert_ne!(secret("ab"), secret("abc"));
        assert_eq!(secret(""), secret(""));
        assert_ne!(Password::new("a".to_owned()), Password::new("b".to_owned()));
    }
}

//! SHA-256.

use aws_lc_rs::digest::{Context, Digest, SHA256};
use std::fmt;

/// Returns the SHA-256 of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    // SHA-256 yields exactly 32 bytes (FIPS 180-4), so the zip covers both sides.
    out.iter_mut()
        .zip(sha256_of(&[bytes]).as_ref())
        .for_each(|(to, from)| *to = *from);
    out
}

/// A SHA-256 of what comes piece by piece.
#[derive(Clone)]
pub struct Hasher(Context);

impl Hasher {
    /// Begins with nothing.
    #[must_use]
    pub fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest in hexadecimal, lower case.
    #[must_use]
    pub fn finish_hex(self) -> String {
        data_encoding::HEXLOWER.encode(self.0.finish().as_ref())
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

/// Returns the SHA-256 of the concatenation of `parts`, in the form that the signature functions take.
pub(crate) fn sha256_of(parts: &[&[u8]]) -> Digest {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    context.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_of_abc_is_the_fips_example() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(data_encoding::HEXLOWER.encode(&sha256(b"abc")), expected);
        assert_eq!(sha256_of(&[b"a", b"", b"bc"]).as_ref(), sha256(b"abc"));
        let mut hasher = Hasher::new();
        hasher.update(b"a");
        hasher.update(b"bc");
        assert_eq!(hasher.finish_hex(), expected);
    }
}

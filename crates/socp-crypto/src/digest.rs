//! SHA-256.

use aws_lc_rs::digest::{Context, Digest, SHA256};

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
    }
}

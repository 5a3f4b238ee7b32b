//! Random bytes from the operating system's generator by way of aws-lc.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

use crate::error::CryptoError;

/// Returns `N` bytes fit for keys, nonces and salts.
///
/// # Errors
///
/// [`CryptoError::Internal`] when the system's generator fails.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], CryptoError> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| CryptoError::Internal("random generator"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn random_bytes_differ() {
        assert_ne!(super::random_bytes::<32>(), super::random_bytes::<32>());
    }
}

//! From a password or a secret to the key of the cipher.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::UnlockSecret;
use super::base64url::Base64Url;
use crate::error::{CryptoError, KeyFileFault};
use crate::random::random_bytes;
use crate::secret::{Password, SecretBytes};

/// How hard Argon2id works (RFC 9106 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argon2Cost {
    /// Memory in KiB.
    pub m_kib: u32,
    /// Passes over the memory.
    pub t: u32,
    /// Lanes.
    pub p: u32,
}

impl Default for Argon2Cost {
    /// RFC 9106's second recommendation, on one lane: some 150 ms.
    fn default() -> Self {
        Self {
            m_kib: 64 * 1024,
            t: 3,
            p: 1,
        }
    }
}

/// Key derivation and its parameters, in canonical order of fields (`alg` is written first).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "alg", deny_unknown_fields)]
pub(super) enum Kdf {
    /// Argon2id version 1.3 over a password.
    #[serde(rename = "argon2id")]
    Argon2id {
        m_kib: u32,
        p: u32,
        salt: Base64Url,
        t: u32,
    },
    /// HKDF-SHA-256 over a random secret.
    #[serde(rename = "hkdf-sha256")]
    HkdfSha256 { salt: Base64Url },
}

impl Kdf {
    /// Parameters for a new file, with a fresh salt.
    pub(super) fn fresh(unlock: UnlockSecret<'_>, cost: Argon2Cost) -> Result<Self, CryptoError> {
        let salt = Base64Url(random_bytes::<SALT_BYTES>()?.to_vec());
        let Argon2Cost { m_kib, t, p } = cost;
        Ok(match unlock {
            UnlockSecret::Password(_) => Self::Argon2id { m_kib, p, salt, t },
            UnlockSecret::Secret(_) => Self::HkdfSha256 { salt },
        })
    }

    /// Refuses parameters outside the bounds; done before anything is allocated for them.
    pub(super) fn check(&self) -> Result<(), KeyFileFault> {
        let salt = match self {
            Self::Argon2id { m_kib, p, salt, t } => {
                check_cost(Argon2Cost {
                    m_kib: *m_kib,
                    t: *t,
                    p: *p,
                })?;
                salt
            }
            Self::HkdfSha256 { salt } => salt,
        };
        if !(SALT_MIN_BYTES..=SALT_MAX_BYTES).contains(&salt.0.len()) {
            return Err(KeyFileFault::Parameters("salt must have 16 to 64 bytes"));
        }
        Ok(())
    }

    /// Derives the AES-256 key.
    pub(super) fn derive(&self, unlock: UnlockSecret<'_>) -> Result<Zeroizing<[u8; 32]>, CryptoError> {
        self.check()?;
        match (self, unlock) {
            (Self::Argon2id { m_kib, p, salt, t }, UnlockSecret::Password(password)) => key_of(
                password,
                &salt.0,
                Argon2Cost {
                    m_kib: *m_kib,
                    t: *t,
                    p: *p,
                },
            ),
            (Self::HkdfSha256 { salt }, UnlockSecret::Secret(secret)) => hkdf(secret, &salt.0),
            (Self::Argon2id { .. }, UnlockSecret::Secret(_)) => Err(KeyFileFault::NeedsPassword.into()),
            (Self::HkdfSha256 { .. }, UnlockSecret::Password(_)) => Err(KeyFileFault::NeedsSecret.into()),
        }
    }
}

fn check_cost(cost: Argon2Cost) -> Result<(), KeyFileFault> {
    if !(8 * 1024..=1024 * 1024).contains(&cost.m_kib) {
        return Err(KeyFileFault::Parameters("Argon2id memory must be 8 MiB to 1 GiB"));
    }
    if !(1..=16).contains(&cost.t) {
        return Err(KeyFileFault::Parameters("Argon2id passes must be 1 to 16"));
    }
    if !(1..=8).contains(&cost.p) {
        return Err(KeyFileFault::Parameters("Argon2id lanes must be 1 to 8"));
    }
    Ok(())
}

/// Fills `output`, whose length is part of what is hashed.
pub(crate) fn argon2id(input: &[u8], salt: &[u8], cost: Argon2Cost, output: &mut [u8]) -> Result<(), CryptoError> {
    let failed = |_| CryptoError::Internal("Argon2id");
    let params = Params::new(cost.m_kib, cost.t, cost.p, Some(output.len())).map_err(failed)?;
    // Our own memory instead of the crate's, which is neither zeroed when freed nor refused gently when it is lacking.
    let mut memory = Zeroizing::new(Vec::new());
    memory
        .try_reserve_exact(params.block_count())
        .map_err(|_| CryptoError::Internal("not enough memory for Argon2id"))?;
    memory.resize(params.block_count(), Block::new());
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(input, salt, output, memory.as_mut_slice())
        .map_err(failed)
}

fn key_of(password: &Password, salt: &[u8], cost: Argon2Cost) -> Result<Zeroizing<[u8; 32]>, CryptoError> {
    let mut key = Zeroizing::new([0; 32]);
    argon2id(password.expose().as_bytes(), salt, cost, key.as_mut_slice())?;
    Ok(key)
}

fn hkdf(secret: &SecretBytes, salt: &[u8]) -> Result<Zeroizing<[u8; 32]>, CryptoError> {
    if secret.len() < SECRET_MIN_BYTES {
        return Err(KeyFileFault::ShortSecret.into());
    }
    let failed = |_| CryptoError::Internal("HKDF");
    let mut key = Zeroizing::new([0; 32]);
    Salt::new(HKDF_SHA256, salt)
        .extract(secret.expose())
        .expand(&[HKDF_INFO], HKDF_SHA256)
        .and_then(|okm| okm.fill(key.as_mut_slice()))
        .map_err(failed)?;
    Ok(key)
}

const HKDF_INFO: &[u8] = b"socp-keyfile-v1";
const SECRET_MIN_BYTES: usize = 32;
const SALT_BYTES: usize = 16;
const SALT_MIN_BYTES: usize = 16;
const SALT_MAX_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argon2id_equals_the_reference_program() {
        // Computed with OpenSSL by way of Python `cryptography` 48 (Argon2id).
        let cost = Argon2Cost {
            m_kib: 8192,
            t: 1,
            p: 1,
        };
        let key = key_of(&Password::new("password".to_owned()), b"somesaltsomesalt", cost).unwrap();
        assert_eq!(
            data_encoding::HEXLOWER.encode(&*key),
            "84fb006bbc3cd69895722b64b5bf735251a9e8e9f3ecb93ff595b98aeb7accb7"
        );
    }

    #[test]
    fn hkdf_equals_an_independent_computation() {
        let key = hkdf(&SecretBytes::new(vec![0x0b; 32]), &[0x0c; 16]).unwrap();
        assert_eq!(
            data_encoding::HEXLOWER.encode(&*key),
            "71083e3eca3399e923edf305f9234055dabb07cc782bf25ab6702ccfab27fd6e"
        );
    }

    #[test]
    fn canonical_order_is_kept() {
        let kdf = Kdf::Argon2id {
            m_kib: 8192,
            p: 1,
            salt: Base64Url(vec![0; 16]),
            t: 3,
        };
        let expected = r#"{"alg":"argon2id","m_kib":8192,"p":1,"salt":"AAAAAAAAAAAAAAAAAAAAAA","t":3}"#;
        assert_eq!(serde_json::to_string(&kdf).unwrap(), expected);
    }
}

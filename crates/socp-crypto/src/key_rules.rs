//! The one place that says which RSA keys SOCP programs accept (SOCP §4; PROTOCOL part I, 1).
//!
//! Public and private keys pass through the same check of their two public numbers before any cryptographic library sees
//! them, so that what is refused does not depend on a library's taste and the refusal can say why. The structures are
//! read by RustCrypto's DER reader, which admits distinguished encodings only.

use rsa::pkcs1::{self, RsaPrivateKeyRef, RsaPublicKeyRef, UintRef};
use rsa::pkcs8::der::{Decode, Encode};
use rsa::pkcs8::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};
use rsa::pkcs8::{Error as Pkcs8Error, PrivateKeyInfoRef};

use crate::error::KeyFault;

/// Checks a SubjectPublicKeyInfo (RFC 5280 §4.1.2.7) and returns the RSAPublicKey inside it (RFC 8017 §A.1.1).
pub(crate) fn check_spki(der: &[u8]) -> Result<&[u8], KeyFault> {
    let spki = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| KeyFault::Encoding)?;
    check_algorithm(&spki.algorithm)?;
    let bits = spki.subject_public_key.as_bytes().ok_or(KeyFault::Encoding)?;
    let numbers = RsaPublicKeyRef::from_der(bits).map_err(|_| KeyFault::Encoding)?;
    check_numbers(&numbers.modulus, &numbers.public_exponent)?;
    // Two encodings of one key would be two fingerprints of one key.
    let canonical = spki.to_der().map_err(|_| KeyFault::Encoding)?;
    if canonical != der || numbers.to_der().map_err(|_| KeyFault::Encoding)? != bits {
        return Err(KeyFault::Encoding);
    }
    Ok(bits)
}

/// Checks the public side of a PKCS#8 document (RFC 5208 §5) that holds a two-prime RSAPrivateKey (RFC 8017 §A.1.2).
///
/// Whether the private numbers fit is for the library that computes with them to say.
pub(crate) fn check_pkcs8(der: &[u8]) -> Result<(), KeyFault> {
    let info = PrivateKeyInfoRef::try_from(der).map_err(|_: Pkcs8Error| KeyFault::Encoding)?;
    check_algorithm(&info.algorithm)?;
    let numbers = RsaPrivateKeyRef::from_der(info.private_key.as_bytes()).map_err(|_| KeyFault::Encoding)?;
    check_numbers(&numbers.modulus, &numbers.public_exponent)
}

/// rsaEncryption with its NULL (RFC 8017 §A.1); not id-RSASSA-PSS, which would restrict the key to one purpose.
fn check_algorithm(algorithm: &AlgorithmIdentifierRef<'_>) -> Result<(), KeyFault> {
    if algorithm.oid != pkcs1::ALGORITHM_OID {
        return Err(KeyFault::Algorithm);
    }
    if *algorithm != pkcs1::ALGORITHM_ID {
        return Err(KeyFault::Encoding);
    }
    Ok(())
}

fn check_numbers(modulus: &UintRef<'_>, exponent: &UintRef<'_>) -> Result<(), KeyFault> {
    let bits = bit_length(modulus.as_bytes());
    if bits != MODULUS_BITS {
        return Err(KeyFault::ModulusBits(bits));
    }
    let is_odd = |bytes: &[u8]| bytes.last().is_some_and(|last| last & 1 == 1);
    if !is_odd(modulus.as_bytes()) {
        return Err(KeyFault::Numbers);
    }
    let exponent = small_number(exponent.as_bytes()).ok_or(KeyFault::Exponent)?;
    if exponent & 1 == 0 || !(EXPONENT_MIN..=EXPONENT_MAX).contains(&exponent) {
        return Err(KeyFault::Exponent);
    }
    Ok(())
}

/// The length in bits of a big-endian number without leading zero bytes.
fn bit_length(bytes: &[u8]) -> usize {
    let leading_zeros = bytes.first().map_or(0, |first| first.leading_zeros());
    // At most 8, so the conversion cannot fail.
    bytes.len() * 8 - usize::try_from(leading_zeros).unwrap_or(0)
}

/// A big-endian number of at most eight bytes.
fn small_number(bytes: &[u8]) -> Option<u64> {
    (bytes.len() <= 8).then(|| bytes.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
}

const MODULUS_BITS: usize = 4096;
const EXPONENT_MIN: u64 = 65_537;
/// Both libraries stop here: a large exponent makes verification a denial of service.
const EXPONENT_MAX: u64 = (1 << 33) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bit_length_ignores_leading_zero_bits() {
        assert_eq!(bit_length(&[]), 0);
        assert_eq!(bit_length(&[0]), 0);
        assert_eq!(bit_length(&[1, 0]), 9);
        assert_eq!(bit_length(&[0x80, 0]), 16);
    }

    #[test]
    fn numbers_are_checked_size_first() {
        let check = |modulus: &[u8], exponent: &[u8]| {
            let uint = |bytes| UintRef::new(bytes).map_err(|_| KeyFault::Encoding);
            check_numbers(&uint(modulus)?, &uint(exponent)?)
        };
        let good = [0xff; 512];
        assert_eq!(check(&good, &[1, 0, 1]), Ok(()));
        assert_eq!(check(&good, &[1, 0xff, 0xff, 0xff, 0xff]), Ok(()));
        assert_eq!(check(&good, &[3]), Err(KeyFault::Exponent));
        assert_eq!(check(&good, &[0xff, 0xff]), Err(KeyFault::Exponent));
        assert_eq!(check(&good, &[1, 0, 2]), Err(KeyFault::Exponent));
        assert_eq!(check(&good, &[2, 0, 0, 0, 1]), Err(KeyFault::Exponent));
        assert_eq!(check(&good, &[1; 9]), Err(KeyFault::Exponent));
        assert_eq!(check(&[0x7f; 512], &[3]), Err(KeyFault::ModulusBits(4095)));
        assert_eq!(check(&[0xff; 256], &[3]), Err(KeyFault::ModulusBits(2048)));
        assert_eq!(check(&[0xfe; 512], &[3]), Err(KeyFault::Numbers));
    }
}

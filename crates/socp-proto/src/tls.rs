//! Names for certificates (PROTOCOL II.2): a pin says which key a server's certificate has, whoever signed it.

use crate::key::Base64Url;
use crate::proof::Bytes32;
use std::fmt;

/// SHA-256 of the SubjectPublicKeyInfo of a certificate; it stays when the certificate is renewed with the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsPin(Bytes32);

/// A text that is no pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not the pin of a certificate: 43 characters of base64url")]
pub struct InvalidTlsPin;

impl TlsPin {
    /// How long its text is.
    pub const TEXT_BYTES: usize = 43;
}

impl From<Bytes32> for TlsPin {
    fn from(hash: Bytes32) -> Self {
        Self(hash)
    }
}

impl TryFrom<&str> for TlsPin {
    type Error = InvalidTlsPin;
    fn try_from(text: &str) -> Result<Self, InvalidTlsPin> {
        if text.len() != Self::TEXT_BYTES {
            return Err(InvalidTlsPin);
        }
        let bytes = Base64Url::try_from(text).map_err(|_| InvalidTlsPin)?;
        Bytes32::try_from(bytes).map(Self).map_err(|_| InvalidTlsPin)
    }
}

impl fmt::Display for TlsPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Base64Url::from(self.0).as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_has_one_text_of_43_characters() {
        let pin = TlsPin::from(Bytes32::from([7; 32]));
        let text = pin.to_string();
        assert_eq!(
            (text.len(), TlsPin::try_from(text.as_str())),
            (TlsPin::TEXT_BYTES, Ok(pin))
        );
        let other_end = format!("{}d", &text[..42]);
        for wrong in [
            "",
            &text[..42],
            &format!("{text}A"),
            &text.replace('H', "*"),
            &other_end,
        ] {
            assert_eq!(TlsPin::try_from(wrong), Err(InvalidTlsPin), "{wrong}");
        }
    }
}

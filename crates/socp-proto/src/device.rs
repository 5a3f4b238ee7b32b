//! Devices: the installations of programs that read one user's mailbox (PROTOCOL II.6).

use crate::key::Base64Url;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Which of a user's devices: 16 random bytes, made with the profile. It tells nothing but that.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Base64Url", into = "Base64Url")]
pub struct DeviceId([u8; 16]);

/// A text that is not 16 bytes of base64url.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not 16 bytes of base64url")]
pub struct InvalidDeviceId;

impl DeviceId {
    /// The device with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl TryFrom<Base64Url> for DeviceId {
    type Error = InvalidDeviceId;
    fn try_from(text: Base64Url) -> Result<Self, InvalidDeviceId> {
        let bytes = text.decode();
        Ok(Self(bytes.as_slice().try_into().map_err(|_| InvalidDeviceId)?))
    }
}

impl From<DeviceId> for Base64Url {
    fn from(device: DeviceId) -> Self {
        Self::encode(&device.0)
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Base64Url::encode(&self.0).as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_16_bytes() {
        let device = DeviceId::from_bytes([7; 16]);
        let text = serde_json::to_string(&device).unwrap();
        assert_eq!(text, "\"BwcHBwcHBwcHBwcHBwcHBw\"");
        assert_eq!(serde_json::from_str::<DeviceId>(&text).unwrap(), device);
        for bad in ["\"\"", "\"BwcHBwcHBwcHBwcHBwcH\"", "7", "\"BwcHBwcHBwcHBwcHBwcHBwc\""] {
            assert!(serde_json::from_str::<DeviceId>(bad).is_err(), "{bad}");
        }
    }
}

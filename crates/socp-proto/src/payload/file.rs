//! Payloads of file transfer (SOCP §9.4, PROTOCOL I.9).

use super::Shape;
use crate::key::{Base64Url, KeyText};
use crate::limits::FILE_NAME_BYTES_MAX;
use serde::{Deserialize, Deserializer, Serialize};

/// Whom a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileMode {
    /// One user.
    Dm,
    /// The public channel.
    Public,
}

/// `FILE_START`: the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStart {
    /// Names the transfer.
    pub file_id: String,
    /// The file's name, as its author says.
    #[serde(deserialize_with = "bounded_name")]
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
    /// Whom it is for.
    pub mode: FileMode,
    /// The author's key; ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_pub: Option<KeyText>,
    /// The author's signature over the manifest; ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_sig: Option<Base64Url>,
}

impl Shape for FileStart {
    const FOREIGN_FIELDS: &'static [&'static str] = &["index"];
}

/// `FILE_CHUNK`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChunk {
    /// Names the transfer.
    pub file_id: String,
    /// Counts from 0.
    pub index: u64,
    /// One OAEP block of at most 446 bytes of the file.
    pub ciphertext: Base64Url,
    /// How many chunks there are; ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// The author's key; ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_pub: Option<KeyText>,
    /// The author's signature over the chunk; ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_sig: Option<Base64Url>,
}

impl Shape for FileChunk {
    const FOREIGN_FIELDS: &'static [&'static str] = &["name", "sha256"];
}

/// `FILE_END`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEnd {
    /// Names the transfer.
    pub file_id: String,
}

impl Shape for FileEnd {
    const FOREIGN_FIELDS: &'static [&'static str] = &["index", "name", "ciphertext"];
}

fn bounded_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    if name.is_empty() || name.len() > FILE_NAME_BYTES_MAX {
        return Err(serde::de::Error::custom("name is not a text of 1 to 255 bytes"));
    }
    Ok(name)
}

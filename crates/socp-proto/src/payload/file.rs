//! Payloads of file transfer (SOCP §9.4, PROTOCOL I.9).

use super::Shape;
use crate::key::{Base64Url, KeyText, bounded_chunk, bounded_sig_if_any};
use crate::limits::{FILE_DETAIL_BYTES_MAX, FILE_ID_BYTES_MAX, FILE_NAME_BYTES_MAX};
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
    #[serde(deserialize_with = "bounded_file_id")]
    pub file_id: String,
    /// The file's name, as its author says.
    #[serde(deserialize_with = "bounded_name")]
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256 in hexadecimal.
    #[serde(deserialize_with = "hexadecimal_digest")]
    pub sha256: String,
    /// Whom it is for.
    pub mode: FileMode,
    /// The author's key; ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_pub: Option<KeyText>,
    /// The author's signature over the manifest; ours.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounded_sig_if_any"
    )]
    pub content_sig: Option<Base64Url>,
}

impl Shape for FileStart {
    const FOREIGN_FIELDS: &'static [&'static str] = &["index"];
}

/// `FILE_CHUNK`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChunk {
    /// Names the transfer.
    #[serde(deserialize_with = "bounded_file_id")]
    pub file_id: String,
    /// Counts from 0.
    pub index: u64,
    /// One OAEP block of at most 446 bytes of the file.
    #[serde(deserialize_with = "bounded_chunk")]
    pub ciphertext: Base64Url,
    /// How many chunks there are; ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// The author's key; ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_pub: Option<KeyText>,
    /// The author's signature over the chunk; ours.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounded_sig_if_any"
    )]
    pub content_sig: Option<Base64Url>,
}

impl Shape for FileChunk {
    const FOREIGN_FIELDS: &'static [&'static str] = &["name", "sha256"];
}

/// How a transfer is getting on, as its receiver says; ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileStatus {
    /// Under way; `detail` is the number of chunks that are written, so that the author does not get too far ahead.
    Receiving,
    /// Complete, size and hash checked, kept.
    Received,
    /// Given up; nothing of it is kept.
    Failed,
}

/// `FILE_END`: from the author after the last chunk; with a status (ours) from the receiver back to the author.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEnd {
    /// Names the transfer.
    #[serde(deserialize_with = "bounded_file_id")]
    pub file_id: String,
    /// How it ended at the receiver; absent in the author's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<FileStatus>,
    /// Why it failed, for people; or how many chunks are written.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounded_detail"
    )]
    pub detail: Option<String>,
    /// The key of who sends this; with a status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_pub: Option<KeyText>,
    /// That one's signature over it; with a status.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounded_sig_if_any"
    )]
    pub content_sig: Option<Base64Url>,
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

fn bounded_file_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let file_id = String::deserialize(deserializer)?;
    let is_printable = file_id.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
    if file_id.is_empty() || file_id.len() > FILE_ID_BYTES_MAX || !is_printable {
        return Err(serde::de::Error::custom(
            "file_id is not 1 to 64 printable ASCII characters",
        ));
    }
    Ok(file_id)
}

fn hexadecimal_digest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let digest = String::deserialize(deserializer)?;
    if digest.len() != 64 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(serde::de::Error::custom("sha256 is not 64 hexadecimal digits"));
    }
    Ok(digest)
}

fn bounded_detail<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let detail = Option::<String>::deserialize(deserializer)?;
    if detail
        .as_ref()
        .is_some_and(|detail| detail.len() > FILE_DETAIL_BYTES_MAX)
    {
        return Err(serde::de::Error::custom("detail is longer than 1024 bytes"));
    }
    Ok(detail)
}

#[cfg(test)]
mod tests {
    use crate::json::parse_object;
    use crate::payload::{FrameKind, Payload};

    #[test]
    fn what_a_manifest_may_not_say() {
        let digest = "0".repeat(64);
        let start = |file_id: &str, name: &str, sha256: &str| {
            let text = format!(r#"{{"file_id":"{file_id}","name":"{name}","size":1,"sha256":"{sha256}","mode":"dm"}}"#);
            Payload::parse(FrameKind::FileStart, &parse_object(&text).unwrap()).is_ok()
        };
        assert!(start("f", "a.png", &digest));
        assert!(!start("", "a.png", &digest));
        assert!(!start("with space", "a.png", &digest));
        assert!(!start(&"f".repeat(65), "a.png", &digest));
        assert!(!start("f", "", &digest));
        assert!(!start("f", &"n".repeat(256), &digest));
        assert!(!start("f", "a.png", "00"));
        assert!(!start("f", "a.png", &"g".repeat(64)));
    }

    #[test]
    fn an_end_may_carry_a_status() {
        let end = |text: &str| Payload::parse(FrameKind::FileEnd, &parse_object(text).unwrap());
        assert!(end(r#"{"file_id":"f"}"#).is_ok());
        assert!(end(r#"{"file_id":"f","status":"failed","detail":"why"}"#).is_ok());
        assert!(end(r#"{"file_id":"f","status":"receiving","detail":"16"}"#).is_ok());
        assert!(end(r#"{"file_id":"f","status":"lost"}"#).is_err());
        let long = "x".repeat(1025);
        assert!(end(&format!(r#"{{"file_id":"f","detail":"{long}"}}"#)).is_err());
    }
}

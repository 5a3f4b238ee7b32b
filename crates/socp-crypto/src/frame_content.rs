//! The author's signature inside a frame: what it covers, and whether it is good (SOCP §9.2 to §9.4, PROTOCOL I.7 to I.9).
//!
//! One place for both ends: a server checks what its users send, a client what reaches it.

use crate::content::{
    ContentParts, FileChunkParts, FileEndParts, FileStartParts, channel_preimage, file_chunk_preimage,
    file_end_preimage, file_start_preimage, key_share_preimage, verify_content,
};
use crate::error::CryptoError;
use crate::public_key::PublicKey;
use socp_proto::payload::{FileEnd, FileMode, FileStatus};
use socp_proto::{Base64Url, Frame, Payload};

/// What can be said of the content signature of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentCheck {
    /// There is none: a kind that has none, or a foreign file frame.
    Absent,
    /// It is the author's.
    Good,
    /// It is not.
    Wrong,
}

/// Who says something to whom, when: the fields of the envelope that content signatures cover.
#[derive(Debug, Clone, Copy)]
pub struct Saying<'a> {
    /// The author's user id.
    pub from: &'a str,
    /// The recipient, or `*`, or the group.
    pub to: &'a str,
    /// The author's clock, ms since the Unix epoch.
    pub ts: u64,
}

/// Checks the content signature of a frame that keeps its author's `from`, `to` and `ts`, against the author's key.
///
/// # Errors
/// [`CryptoError::Internal`] if the library fails.
pub fn check_content(frame: &Frame, author: &PublicKey) -> Result<ContentCheck, CryptoError> {
    let saying = Saying {
        from: frame.envelope.from.as_str(),
        to: frame.envelope.to.as_str(),
        ts: frame.envelope.ts,
    };
    let Some(sig) = signature_of(&frame.payload) else {
        return Ok(ContentCheck::Absent);
    };
    let sig = sig.decode();
    let verdict = if let Payload::MsgDirect(message) = &frame.payload {
        let parts = ContentParts {
            ciphertext: message.ciphertext.as_str(),
            from: saying.from,
            to: saying.to,
            ts: saying.ts,
        };
        verify_content(author, parts, &sig).map(drop)
    } else {
        match content_preimage_of(&frame.payload, saying)? {
            Some(preimage) => author.verify(&preimage, &sig),
            None => return Ok(ContentCheck::Wrong),
        }
    };
    match verdict {
        Ok(()) => Ok(ContentCheck::Good),
        Err(CryptoError::BadSignature) => Ok(ContentCheck::Wrong),
        Err(error) => Err(error),
    }
}

/// The content signature that a payload carries.
#[must_use]
pub fn signature_of(payload: &Payload) -> Option<&Base64Url> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "no other payload has one")]
    match payload {
        Payload::MsgDirect(message) => Some(&message.content_sig),
        Payload::MsgPublicChannel(message) => Some(&message.content_sig),
        Payload::PublicChannelKeyShare(share) => Some(&share.content_sig),
        Payload::FileStart(start) => start.content_sig.as_ref(),
        Payload::FileChunk(chunk) => chunk.content_sig.as_ref(),
        Payload::FileEnd(end) => end.content_sig.as_ref(),
        _ => None,
    }
}

/// What the content signature of a channel, key share or file payload covers; nothing for other kinds, and where a
/// field that is covered is missing. The signature in the payload itself is not looked at.
///
/// # Errors
/// [`CryptoError::Internal`] if the library fails.
pub fn content_preimage_of(payload: &Payload, saying: Saying<'_>) -> Result<Option<Vec<u8>>, CryptoError> {
    let Saying { from, to, ts } = saying;
    #[expect(clippy::wildcard_enum_match_arm, reason = "no other payload has one")]
    Ok(match payload {
        Payload::MsgPublicChannel(message) => Some(channel_preimage(message.ciphertext.as_str(), from, ts)),
        Payload::PublicChannelKeyShare(share) => {
            // Fields are declared in canonical order (SOCP §12).
            let shares = serde_json::to_string(&share.shares);
            let shares = shares.map_err(|_| CryptoError::Internal("JSON of strings"))?;
            Some(key_share_preimage(&shares, &share.creator_pub.der()))
        }
        Payload::FileStart(start) => Some(file_start_preimage(&FileStartParts {
            file_id: &start.file_id,
            from,
            mode: match start.mode {
                FileMode::Dm => "dm",
                FileMode::Public => "public",
            },
            name: &start.name,
            sha256: &start.sha256,
            size: start.size,
            to,
            ts,
        })?),
        Payload::FileChunk(chunk) => chunk.total.map(|total| {
            file_chunk_preimage(&FileChunkParts {
                ciphertext: chunk.ciphertext.as_str(),
                from,
                to,
                ts,
                file_id: &chunk.file_id,
                index: chunk.index,
                total,
            })
        }),
        Payload::FileEnd(end) => end_preimage(end, saying)?,
        _ => None,
    })
}

fn end_preimage(end: &FileEnd, Saying { from, to, ts }: Saying<'_>) -> Result<Option<Vec<u8>>, CryptoError> {
    let Some(status) = end.status else {
        return Ok(None);
    };
    let parts = FileEndParts {
        detail: end.detail.as_deref().unwrap_or_default(),
        file_id: &end.file_id,
        from,
        status: match status {
            FileStatus::Receiving => "receiving",
            FileStatus::Received => "received",
            FileStatus::Failed => "failed",
        },
        to,
        ts,
    };
    file_end_preimage(&parts).map(Some)
}

//! What end-to-end signatures cover: direct messages, channel messages, key shares, files (SOCP §9.2 to §9.4, §12).
//!
//! §12 says only that `content_sig` covers ciphertext, author, recipient and time, so programs disagree about the bytes
//! (PROTOCOL part I, 7): the ciphertext as base64url text, as raw bytes, or inside a JSON object; and each of these hashed
//! once, inside PSS, or once more before it. These six [`ContentScheme`]s are what a verifier tries in turn. A signer uses
//! the first unless it knows the recipient's program.
//!
//! Nothing separates the parts of a preimage. That is the specification's form; ids of one length and a ciphertext that is
//! whole blocks keep it unambiguous.
//!
//! The functions for channels, shares and files return the covered bytes, for [`crate::PrivateKey::sign`] and
//! [`crate::PublicKey::verify`].

use aws_lc_rs::digest::Digest;
use data_encoding::BASE64URL_NOPAD;
use serde::Serialize;

use crate::digest::sha256_of;
use crate::error::CryptoError;
use crate::private_key::PrivateKey;
use crate::public_key::{PublicKey, SIGNATURE_BYTES};

/// The signed fields of a direct message, as they stand on the wire.
#[derive(Debug, Clone, Copy)]
pub struct ContentParts<'a> {
    /// The ciphertext in base64url, exactly as in the payload.
    pub ciphertext: &'a str,
    /// The author's user id.
    pub from: &'a str,
    /// The recipient's user id.
    pub to: &'a str,
    /// The author's clock, milliseconds since the Unix epoch.
    pub ts: u64,
}

/// How a program lays out the signed fields of a direct message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentFamily {
    /// Ciphertext text, `from`, `to`, `ts`: ours.
    Text,
    /// Ciphertext bytes, `from`, `to`, `ts`.
    Raw,
    /// Canonical JSON of `{ciphertext,from,to,ts}`.
    Json,
}

/// A layout, and whether it is hashed before PSS hashes it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentScheme {
    /// The layout.
    pub family: ContentFamily,
    /// Whether the signed message is the SHA-256 of the layout.
    pub prehashed: bool,
}

impl ContentScheme {
    /// The scheme of our own signatures.
    pub const OURS: Self = Self {
        family: ContentFamily::Text,
        prehashed: false,
    };

    /// Every known scheme, in the order in which a verifier tries them (PROTOCOL part I, 7).
    pub const ALL: [Self; 6] = {
        use ContentFamily::{Json, Raw, Text};
        [
            Self::OURS,
            Self {
                family: Raw,
                prehashed: false,
            },
            Self {
                family: Json,
                prehashed: false,
            },
            Self {
                family: Text,
                prehashed: true,
            },
            Self {
                family: Raw,
                prehashed: true,
            },
            Self {
                family: Json,
                prehashed: true,
            },
        ]
    };
}

/// Signs a direct message in our own scheme.
///
/// # Errors
///
/// [`CryptoError::Internal`] if the library fails.
pub fn sign_content(key: &PrivateKey, parts: ContentParts<'_>) -> Result<[u8; SIGNATURE_BYTES], CryptoError> {
    sign_content_as(key, parts, ContentScheme::OURS)
}

/// Signs a direct message in the scheme of the recipient's program.
///
/// # Errors
///
/// [`CryptoError::Internal`] if the library fails, or if the ciphertext is not base64url where its bytes are signed.
pub fn sign_content_as(
    key: &PrivateKey,
    parts: ContentParts<'_>,
    scheme: ContentScheme,
) -> Result<[u8; SIGNATURE_BYTES], CryptoError> {
    let preimage = content_preimage(scheme.family, parts).ok_or(CryptoError::Internal("ciphertext not base64url"))?;
    if scheme.prehashed {
        return key.sign(sha256_of(&[&preimage]).as_ref());
    }
    key.sign(&preimage)
}

/// Verifies a direct message's `content_sig` and says in which scheme it was made.
///
/// Each layout is hashed once. In the worst case, a signature that is not one, this costs 18 public operations (about
/// 3 ms); a signature by aws-lc's or Python's habits in our scheme costs one.
///
/// # Errors
///
/// [`CryptoError::BadSignature`] if no scheme fits.
pub fn verify_content(
    key: &PublicKey,
    parts: ContentParts<'_>,
    signature: &[u8],
) -> Result<ContentScheme, CryptoError> {
    // A ciphertext that is no base64url has no raw form; the other schemes are still tried.
    let known: Vec<(ContentScheme, Digest)> = ContentFamily::ALL
        .into_iter()
        .filter_map(|family| Some((family, sha256_of(&[&content_preimage(family, parts)?]))))
        .map(|(family, digest)| {
            (
                ContentScheme {
                    family,
                    prehashed: false,
                },
                digest,
            )
        })
        .collect();
    let twice = known.iter().map(|(scheme, digest)| {
        (
            ContentScheme {
                prehashed: true,
                ..*scheme
            },
            sha256_of(&[digest.as_ref()]),
        )
    });
    let (schemes, digests): (Vec<ContentScheme>, Vec<Digest>) = known.iter().copied().chain(twice).unzip();
    let index = key.verify_first(&digests, signature)?;
    schemes.get(index).copied().ok_or(CryptoError::Internal("scheme index"))
}

impl ContentFamily {
    const ALL: [Self; 3] = [Self::Text, Self::Raw, Self::Json];
}

/// The bytes that a direct message's signature covers; `None` where raw bytes are asked of a text that has none.
#[must_use]
pub fn content_preimage(family: ContentFamily, parts: ContentParts<'_>) -> Option<Vec<u8>> {
    let ContentParts {
        ciphertext,
        from,
        to,
        ts,
    } = parts;
    let ts_text = ts.to_string();
    let tail = [from, to, &ts_text].concat();
    match family {
        ContentFamily::Text => Some([ciphertext, &tail].concat().into_bytes()),
        ContentFamily::Raw => {
            // Some dialects pad (PROTOCOL part I, 1).
            let raw = BASE64URL_NOPAD
                .decode(ciphertext.trim_end_matches('=').as_bytes())
                .ok()?;
            Some([&raw, tail.as_bytes()].concat())
        }
        ContentFamily::Json => canonical(&JsonContent {
            ciphertext,
            from,
            to,
            ts,
        }),
    }
}

/// The bytes that a public channel message's signature covers: ciphertext text, `from`, `ts` (PROTOCOL part I, 8).
#[must_use]
pub fn channel_preimage(ciphertext: &str, from: &str, ts: u64) -> Vec<u8> {
    [ciphertext, from, &ts.to_string()].concat().into_bytes()
}

/// The bytes that a key share's signature covers: canonical JSON of `shares`, then the raw DER of `creator_pub`
/// (PROTOCOL part I, 8).
#[must_use]
pub fn key_share_preimage(shares_canonical_json: &str, creator_spki: &[u8]) -> Vec<u8> {
    [shares_canonical_json.as_bytes(), creator_spki].concat()
}

/// The signed fields of `FILE_START`. Declared in canonical order, which is the order in which they are signed.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct FileStartParts<'a> {
    /// The file's id.
    pub file_id: &'a str,
    /// The author's user id.
    pub from: &'a str,
    /// `dm` or `public`.
    pub mode: &'a str,
    /// The file's name as the author calls it.
    pub name: &'a str,
    /// SHA-256 of the file as in the payload.
    pub sha256: &'a str,
    /// Bytes of the file.
    pub size: u64,
    /// The recipient's user id.
    pub to: &'a str,
    /// The author's clock, milliseconds since the Unix epoch.
    pub ts: u64,
}

/// The bytes that a `FILE_START`'s signature covers: canonical JSON of its parts (PROTOCOL part I, 9).
///
/// # Errors
///
/// [`CryptoError::Internal`] if the library fails.
pub fn file_start_preimage(parts: &FileStartParts<'_>) -> Result<Vec<u8>, CryptoError> {
    canonical(parts).ok_or(CryptoError::Internal("JSON of strings and numbers"))
}

/// The signed fields of `FILE_CHUNK`.
#[derive(Debug, Clone, Copy)]
pub struct FileChunkParts<'a> {
    /// The ciphertext in base64url, exactly as in the payload.
    pub ciphertext: &'a str,
    /// The author's user id.
    pub from: &'a str,
    /// The recipient's user id.
    pub to: &'a str,
    /// The author's clock, milliseconds since the Unix epoch.
    pub ts: u64,
    /// The file's id.
    pub file_id: &'a str,
    /// The chunk's number, from 0.
    pub index: u64,
    /// How many chunks the file has.
    pub total: u64,
}

/// The bytes that a `FILE_CHUNK`'s signature covers: its parts one after the other (PROTOCOL part I, 9).
#[must_use]
pub fn file_chunk_preimage(parts: &FileChunkParts<'_>) -> Vec<u8> {
    let FileChunkParts {
        ciphertext,
        from,
        to,
        ts,
        file_id,
        index,
        total,
    } = *parts;
    let (ts, index, total) = (ts.to_string(), index.to_string(), total.to_string());
    [ciphertext, from, to, &ts, file_id, &index, &total]
        .concat()
        .into_bytes()
}

/// The signed fields of a `FILE_END` with a status. Declared in canonical order.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct FileEndParts<'a> {
    /// Why it failed, or how many chunks are written; empty where there is nothing to say.
    pub detail: &'a str,
    /// The file's id.
    pub file_id: &'a str,
    /// The receiver's user id, who sends this.
    pub from: &'a str,
    /// `receiving`, `received` or `failed`.
    pub status: &'a str,
    /// The user id of the file's author.
    pub to: &'a str,
    /// The receiver's clock, milliseconds since the Unix epoch.
    pub ts: u64,
}

/// The bytes that the signature of a `FILE_END` with a status covers: canonical JSON of its parts (PROTOCOL part I, 9).
///
/// # Errors
///
/// [`CryptoError::Internal`] if the library fails.
pub fn file_end_preimage(parts: &FileEndParts<'_>) -> Result<Vec<u8>, CryptoError> {
    canonical(parts).ok_or(CryptoError::Internal("JSON of strings and numbers"))
}

/// Declared in canonical order.
#[derive(Serialize)]
struct JsonContent<'a> {
    ciphertext: &'a str,
    from: &'a str,
    to: &'a str,
    ts: u64,
}

/// Compact JSON of a struct whose fields are declared in order: canonical (§12), since serde_json escapes what JSON
/// requires and nothing else. It cannot fail on strings and integers.
fn canonical(fields: &impl Serialize) -> Option<Vec<u8>> {
    serde_json::to_vec(fields).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: ContentParts<'_> = ContentParts {
        ciphertext: "AAEC",
        from: "a",
        to: "b",
        ts: 7,
    };

    #[test]
    fn preimages_are_the_ruling_to_the_letter() {
        let text = |family| content_preimage(family, PARTS).unwrap();
        assert_eq!(text(ContentFamily::Text), b"AAECab7");
        assert_eq!(text(ContentFamily::Raw), b"\x00\x01\x02ab7");
        assert_eq!(
            text(ContentFamily::Json),
            br#"{"ciphertext":"AAEC","from":"a","to":"b","ts":7}"#
        );
        assert_eq!(channel_preimage("AAEC", "a", 7), b"AAECa7");
        assert_eq!(key_share_preimage("[]", b"\x30\x00"), b"[]\x30\x00");
    }

    #[test]
    fn raw_form_tolerates_padding_and_needs_base64url() {
        let raw = |ciphertext| content_preimage(ContentFamily::Raw, ContentParts { ciphertext, ..PARTS });
        assert_eq!(raw("AA==").unwrap(), b"\x00ab7");
        assert_eq!(raw("A+/="), None);
    }

    #[test]
    fn file_preimages_follow_their_field_order() {
        let start = FileStartParts {
            file_id: "f",
            from: "a",
            mode: "dm",
            name: "x\"\u{fc}\u{7f}",
            sha256: "00",
            size: 5,
            to: "b",
            ts: 7,
        };
        let expected = "{\"file_id\":\"f\",\"from\":\"a\",\"mode\":\"dm\",\"name\":\"x\\\"\u{fc}\u{7f}\",\"sha256\":\"00\",\"size\":5,\"to\":\"b\",\"ts\":7}";
        assert_eq!(file_start_preimage(&start).unwrap(), expected.as_bytes());
        let chunk = FileChunkParts {
            ciphertext: "AAEC",
            from: "a",
            to: "b",
            ts: 7,
            file_id: "f",
            index: 0,
            total: 3,
        };
        assert_eq!(file_chunk_preimage(&chunk), b"AAECab7f03");
    }

    #[test]
    fn our_scheme_is_tried_first() {
        assert_eq!(ContentScheme::ALL[0], ContentScheme::OURS);
    }
}

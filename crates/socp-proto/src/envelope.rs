//! The envelope (SOCP §7) and its three states: read, drafted, signed.

use crate::canonical::{utf8_form, write_text};
use crate::delegation::DELEGATE_SIGNATURE_BYTES;
use crate::id::{Address, Id, ServerId};
use crate::json::{JsonFault, Object, parse_object};
use crate::key::Base64Url;
use crate::payload::{ErrorCode, FrameKind, InvalidPayload, Payload};
use crate::proof::PROOF_DOMAIN;
use crate::sha256_of;
use serde_json::Value;
use std::borrow::Cow;

/// What stands before an envelope where a delegated key signs it (PROTOCOL II.3).
const FRAME_DOMAIN: &[u8] = b"socp-frame-v1\0";

/// One JSON object of the wire, checked field by field, with whatever else it carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// `type`.
    pub kind: FrameKind,
    /// Who speaks; on the wire nobody's word for it but the link's.
    pub from: Id,
    /// Whom it is for.
    pub to: Address,
    /// When it was made, ms since the Unix epoch.
    pub ts: u64,
    /// The object that `sig` covers, unknown fields included.
    pub payload: Object,
    /// The transport signature, empty where unsigned.
    pub sig: Base64Url,
    /// Unknown fields of the envelope, kept for whoever it is passed on to.
    pub extra: Object,
}

impl Envelope {
    /// The text that goes over the wire.
    #[must_use]
    pub fn to_text(&self) -> String {
        let (head, tail) = self.halves();
        with_sig(&head, self.sig.as_str(), &tail)
    }

    fn halves(&self) -> (String, String) {
        let fields = Fields {
            kind: self.kind,
            from: &self.from,
            to: &self.to,
            ts: self.ts,
            extra: &WrittenExtra::of(&self.extra),
        };
        fields.around(&utf8_form(&self.payload))
    }

    /// What `sig` covers: the canonical payload (SOCP §12), behind its domain where it is a proof (PROTOCOL II.2).
    #[must_use]
    pub fn signed_text(&self) -> String {
        signed_text(self.kind, &self.payload)
    }

    /// Whether `sig` is as long as a delegated key's: the length tells it from an RSA signature (PROTOCOL II.3).
    #[must_use]
    pub fn is_delegated(&self) -> bool {
        self.sig.as_str().len() == DELEGATE_SIGNATURE_BYTES.saturating_mul(4).div_ceil(3)
    }

    /// What a delegated `sig` is made over: a prefix, and the SHA-256 of the canonical envelope without its signature
    /// (PROTOCOL II.3).
    #[must_use]
    pub fn delegated_text(&self) -> Vec<u8> {
        let (head, tail) = self.halves();
        delegated(&head, &tail)
    }

    /// Whose `sig` it must be on a link to the server `peer`: the peer's where the author's `from` is kept, else that
    /// of `from` (PROTOCOL I.2).
    #[must_use]
    pub fn signer(&self, peer: &ServerId) -> ServerId {
        if self.kind.keeps_author() {
            peer.clone()
        } else {
            ServerId::from(self.from.clone())
        }
    }

    /// The same said on by us: everything as it came, to be signed anew (PROTOCOL I.2).
    #[must_use]
    pub fn into_draft(self) -> Draft {
        Draft {
            from: self.from,
            to: self.to,
            ts: self.ts,
            kind: self.kind,
            payload: self.payload,
            extra: self.extra,
        }
    }
}

/// An envelope we made and have not signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Who will have said it.
    pub from: Id,
    /// Whom it is for.
    pub to: Address,
    /// When it was made, ms since the Unix epoch.
    pub ts: u64,
    /// `type`.
    pub kind: FrameKind,
    /// The object to sign.
    pub payload: Object,
    /// Unknown fields of the envelope that it came from.
    pub extra: Object,
}

impl Draft {
    /// A draft of a typed payload.
    #[must_use]
    pub fn new(from: impl Into<Id>, to: impl Into<Address>, ts: u64, payload: &Payload) -> Self {
        Self {
            from: from.into(),
            to: to.into(),
            ts,
            kind: payload.kind(),
            payload: payload.to_object(),
            extra: Object::new(),
        }
    }

    /// What the signature must cover: the canonical payload (SOCP §12), behind its domain where it is a proof
    /// (PROTOCOL II.2).
    #[must_use]
    pub fn signed_text(&self) -> String {
        signed_text(self.kind, &self.payload)
    }

    /// With its payload in the form that is signed and sent, so that it is written once for both, and everything else
    /// as text too: what waits for its link is as long in memory as on the wire.
    #[must_use]
    pub fn write(self) -> WrittenDraft {
        WrittenDraft {
            from: self.from,
            to: self.to,
            ts: self.ts,
            kind: self.kind,
            is_said_once: may_carry_nonce(self.kind) && self.payload.contains_key("nonce"),
            payload: utf8_form(&self.payload),
            extra: WrittenExtra::of(&self.extra),
        }
    }

    /// The finished envelope, of which `sign` signs what [`Envelope::delegated_text`] says (PROTOCOL II.3).
    ///
    /// # Errors
    /// Those of `sign`.
    pub fn sign_whole<E>(self, sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>) -> Result<Envelope, E> {
        let unsigned = self.sign(&[]);
        let sig = Base64Url::encode(&sign(&unsigned.delegated_text())?);
        Ok(Envelope { sig, ..unsigned })
    }

    /// The finished envelope.
    #[must_use]
    pub fn sign(self, sig: &[u8]) -> Envelope {
        Envelope {
            kind: self.kind,
            from: self.from,
            to: self.to,
            ts: self.ts,
            payload: self.payload,
            sig: Base64Url::encode(sig),
            extra: self.extra,
        }
    }
}

/// A draft whose payload and unknown fields are written already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenDraft {
    from: Id,
    to: Address,
    ts: u64,
    kind: FrameKind,
    is_said_once: bool,
    payload: String,
    extra: WrittenExtra,
}

/// Bytes that an envelope adds to its payload and its unknown fields: names, ids, `ts`, and 683 characters of signature.
const ENVELOPE_BYTES: usize = 1024;

impl WrittenDraft {
    /// What the signature must cover: that of [`Draft::signed_text`].
    #[must_use]
    pub fn signed_text(&self) -> Cow<'_, str> {
        with_domain(self.kind, Cow::Borrowed(&self.payload))
    }

    /// Whether it carries a nonce: nobody ever says the same again, so its signature need not be kept.
    #[must_use]
    pub fn is_said_once(&self) -> bool {
        self.is_said_once
    }

    /// How many bytes it takes on the wire with the longest signature, more or less: what a sender must count it with.
    #[must_use]
    pub fn wire_bytes(&self) -> usize {
        let fields = self.payload.len().saturating_add(self.extra.text.len());
        fields.saturating_add(ENVELOPE_BYTES)
    }

    /// The text that goes over the wire with this signature: that of [`Draft::sign`].
    #[must_use]
    pub fn sign(&self, sig: &[u8]) -> String {
        let (head, tail) = self.fields().around(&self.payload);
        with_sig(&head, Base64Url::encode(sig).as_str(), &tail)
    }

    /// The text that goes over the wire, signed as a whole: that of [`Draft::sign_whole`].
    ///
    /// # Errors
    /// Those of `sign`.
    pub fn sign_whole<E>(&self, sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>) -> Result<String, E> {
        let (head, tail) = self.fields().around(&self.payload);
        let sig = Base64Url::encode(&sign(&delegated(&head, &tail))?);
        Ok(with_sig(&head, sig.as_str(), &tail))
    }

    fn fields(&self) -> Fields<'_> {
        Fields {
            kind: self.kind,
            from: &self.from,
            to: &self.to,
            ts: self.ts,
            extra: &self.extra,
        }
    }
}

/// The fields of an envelope but its payload and signature.
struct Fields<'a> {
    kind: FrameKind,
    from: &'a Id,
    to: &'a Address,
    ts: u64,
    extra: &'a WrittenExtra,
}

/// The known fields in their order; `sig` has its place between the two halves of an envelope's text.
const KNOWN: [&str; 6] = ["from", "payload", SIG, "to", "ts", "type"];
const SIG: &str = "sig";

/// The unknown fields of an envelope as text, each with a comma behind it, in the order of their keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct WrittenExtra {
    text: String,
    /// Where in it each of the known fields belongs.
    places: [usize; KNOWN.len()],
}

impl WrittenExtra {
    fn of(extra: &Object) -> Self {
        let mut written = Self::default();
        let is_unknown = |(key, _): &(&String, &Value)| KNOWN.iter().all(|known| key != known);
        // Both are in code point order of their keys.
        let mut unknown = extra.iter().filter(is_unknown).peekable();
        for (known, place) in KNOWN.iter().zip(&mut written.places) {
            while let Some((key, value)) = unknown.next_if(|(key, _)| key.as_str() < *known) {
                put(&mut written.text, key, &value.to_string());
            }
            *place = written.text.len();
        }
        for (key, value) in unknown {
            put(&mut written.text, key, &value.to_string());
        }
        written
    }

    /// The text up to the place of each known field, and what stands behind the last.
    fn pieces(&self) -> ([&str; KNOWN.len()], &str) {
        let mut rest = self.text.as_str();
        let mut at = 0_usize;
        let pieces = self.places.map(|place| {
            // A place is the end of a field, and not before the place before.
            let (piece, behind) = rest.split_at_checked(place.saturating_sub(at)).unwrap_or((rest, ""));
            (rest, at) = (behind, place);
            piece
        });
        (pieces, rest)
    }
}

fn put(text: &mut String, key: &str, value: &str) {
    write_text(text, key);
    text.push(':');
    text.push_str(value);
    text.push(',');
}

fn put_text(text: &mut String, key: &str, value: &str) {
    write_text(text, key);
    text.push(':');
    write_text(text, value);
    text.push(',');
}

impl Fields<'_> {
    /// The canonical envelope without its signature, cut where that belongs: the first half ends with a comma, and the
    /// second begins without one.
    fn around(&self, payload: &str) -> (String, String) {
        // Names, punctuation, numbers.
        const BYTES_BESIDE: usize = 64;
        let ids = self.from.as_str().len().saturating_add(self.to.as_str().len());
        let beside = ids.saturating_add(BYTES_BESIDE).saturating_add(self.extra.text.len());
        let (mut head, mut tail) = (
            String::with_capacity(payload.len().saturating_add(beside)),
            String::with_capacity(beside),
        );
        let ([from, before_payload, before_sig, to, ts, kind], last) = self.extra.pieces();
        head.push_str(from);
        put_text(&mut head, "from", self.from.as_str());
        head.push_str(before_payload);
        put(&mut head, "payload", payload);
        head.push_str(before_sig);
        tail.push_str(to);
        put_text(&mut tail, "to", self.to.as_str());
        tail.push_str(ts);
        put(&mut tail, "ts", &self.ts.to_string());
        tail.push_str(kind);
        put_text(&mut tail, "type", self.kind.name());
        tail.push_str(last);
        // `type` is always there, and behind `sig`.
        tail.pop();
        (head, tail)
    }
}

/// What a delegated key signs. By its digest, since Ed25519 reads what it signs twice, and slower.
fn delegated(head: &str, tail: &str) -> Vec<u8> {
    let digest = sha256_of(&[b"{", head.as_bytes(), tail.as_bytes(), b"}"]);
    [FRAME_DOMAIN, digest.as_slice()].concat()
}

/// The whole envelope. The signature's text needs no escapes.
fn with_sig(head: &str, sig: &str, tail: &str) -> String {
    ["{", head, "\"sig\":\"", sig, "\",", tail, "}"].concat()
}

/// An envelope together with its payload as a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// As it came.
    pub envelope: Envelope,
    /// What it says.
    pub payload: Payload,
}

/// Why a text is not a frame: always the fault of whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not the JSON that the wire allows.
    #[error("{0}")]
    Json(#[from] JsonFault),
    /// A field of the envelope is missing or has the wrong type or value.
    #[error("`{field}` {reason}")]
    Field {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A type that nobody defined.
    #[error("unknown type {0:?}")]
    UnknownType(String),
    /// The payload is not one of its type.
    #[error("{}: {reason}", kind.name())]
    Payload {
        /// The type that the envelope claims.
        kind: FrameKind,
        /// What is wrong.
        reason: InvalidPayload,
    },
}

impl FrameError {
    /// The code of the answer.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownType(_) => ErrorCode::UnknownType,
            Self::Json(_) | Self::Field { .. } | Self::Payload { .. } => ErrorCode::BadFrame,
        }
    }
}

impl Frame {
    /// Reads one text message.
    ///
    /// # Errors
    /// [`FrameError`], naming the first rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, FrameError> {
        let mut object = parse_object(text)?;
        let name = take_text(&mut object, "type")?;
        // Long enough for every known name; a longer text must not come back in our answer.
        let shown = || name.chars().take(48).collect();
        let kind = FrameKind::from_name(&name).ok_or_else(|| FrameError::UnknownType(shown()))?;
        let from = parse_field(&mut object, "from")?;
        let to = parse_field(&mut object, "to")?;
        let ts = take_ts(&mut object)?;
        let payload_object = take_payload(&mut object)?;
        let sig = take_sig(&mut object)?;
        let payload = Payload::parse(kind, &payload_object).map_err(|reason| FrameError::Payload { kind, reason })?;
        let envelope = Envelope {
            kind,
            from,
            to,
            ts,
            payload: payload_object,
            sig,
            extra: object,
        };
        Ok(Self { envelope, payload })
    }
}

fn signed_text(kind: FrameKind, payload: &Object) -> String {
    with_domain(kind, Cow::Owned(utf8_form(payload))).into_owned()
}

/// Whether a `nonce` in a frame of this kind is one (PROTOCOL II.2); elsewhere it is a field that nobody knows.
fn may_carry_nonce(kind: FrameKind) -> bool {
    matches!(
        kind,
        FrameKind::Proof
            | FrameKind::Challenge
            | FrameKind::ServerHelloJoin
            | FrameKind::ServerWelcome
            | FrameKind::ServerAnnounce
    )
}

/// A canonical payload with what stands before it where it is signed.
fn with_domain(kind: FrameKind, payload: Cow<'_, str>) -> Cow<'_, str> {
    if kind == FrameKind::Proof {
        return Cow::Owned([PROOF_DOMAIN, &payload].concat());
    }
    payload
}

fn wrong(field: &'static str, reason: impl ToString) -> FrameError {
    FrameError::Field {
        field,
        reason: reason.to_string(),
    }
}

fn take_text(object: &mut Object, field: &'static str) -> Result<String, FrameError> {
    match object.remove(field) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(wrong(field, "is not a string")),
        None => Err(wrong(field, "is missing")),
    }
}

fn parse_field<T>(object: &mut Object, field: &'static str) -> Result<T, FrameError>
where
    T: TryFrom<String>,
    T::Error: ToString,
{
    T::try_from(take_text(object, field)?).map_err(|reason| wrong(field, reason))
}

fn take_ts(object: &mut Object) -> Result<u64, FrameError> {
    match object.remove("ts") {
        Some(value) => value
            .as_u64()
            .ok_or_else(|| wrong("ts", "is not an integer of milliseconds")),
        None => Err(wrong("ts", "is missing")),
    }
}

fn take_payload(object: &mut Object) -> Result<Object, FrameError> {
    match object.remove("payload") {
        Some(Value::Object(payload)) => Ok(payload),
        Some(_) => Err(wrong("payload", "is not an object")),
        None => Ok(Object::new()),
    }
}

fn take_sig(object: &mut Object) -> Result<Base64Url, FrameError> {
    match object.remove("sig") {
        None => Ok(Base64Url::encode(&[])),
        Some(Value::String(text)) => Base64Url::try_from(text).map_err(|reason| wrong("sig", reason)),
        Some(_) => Err(wrong("sig", "is not a string")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADVERTISE: &str = r#"{"type":"USER_ADVERTISE","from":"s1","to":"*","ts":7,"relay":"x",
        "payload":{"user_id":"u","server_id":"s1","meta":{"mood":"good"},"novel":[1]},"sig":"AAAA"}"#;

    #[test]
    fn unknown_fields_survive_being_passed_on() {
        let frame = Frame::parse(ADVERTISE).unwrap();
        let passed_on = frame.envelope.to_text();
        assert_eq!(Frame::parse(&passed_on).unwrap(), frame);
        for kept in [r#""relay":"x""#, r#""novel":[1]"#, r#""mood":"good""#] {
            assert!(passed_on.contains(kept), "{kept} is lost in {passed_on}");
        }
    }

    #[test]
    fn a_delegated_signature_covers_the_whole_envelope() {
        let frame = Frame::parse(ADVERTISE).unwrap();
        let draft = frame.envelope.into_draft();
        let mut text = Vec::new();
        let signed = draft.sign_whole(|bytes| {
            text = bytes.to_vec();
            Ok::<_, ()>(vec![1; DELEGATE_SIGNATURE_BYTES])
        });
        let signed = signed.unwrap();
        let whole = b"{\"from\":\"s1\",\"payload\":{\"meta\":{\"mood\":\"good\"},\"novel\":[1],\
             \"server_id\":\"s1\",\"user_id\":\"u\"},\"relay\":\"x\",\"to\":\"*\",\"ts\":7,\"type\":\"USER_ADVERTISE\"}";
        assert_eq!(text, [b"socp-frame-v1\0".as_slice(), &crate::sha256(whole)].concat());
        let read = Frame::parse(&signed.to_text()).unwrap().envelope;
        assert!(read.is_delegated());
        assert_eq!(read.delegated_text(), text);
        assert!(!Frame::parse(ADVERTISE).unwrap().envelope.is_delegated());
    }

    /// What the text must be: all fields in one object, written by the JSON library.
    fn in_one_object(envelope: &Envelope, sig: Option<&str>) -> String {
        let mut object = envelope.extra.clone();
        object.insert("type".to_owned(), envelope.kind.name().into());
        object.insert("from".to_owned(), envelope.from.as_str().into());
        object.insert("to".to_owned(), envelope.to.as_str().into());
        object.insert("ts".to_owned(), envelope.ts.into());
        object.insert("payload".to_owned(), Value::Object(envelope.payload.clone()));
        if let Some(sig) = sig {
            object.insert("sig".to_owned(), sig.into());
        }
        utf8_form(&object)
    }

    #[test]
    fn texts_are_canonical_wherever_unknown_fields_stand() {
        let extras = [
            "",
            r#""a":1,"g":"x\"y\u0001é","pay":null,"payloads":[],"si":{},"sih":[1,{"b":2,"a":1}],"tt":true,"u":"\\""#,
            r#""":-1,"fro":"","froma":0,"sig ":1,"t":[],"typ":{},"typed":"z","~":1,"é":"\n","\"":1,"\u0000":2"#,
        ];
        for extra in extras {
            let text = format!(
                r#"{{{}{}"type":"HEARTBEAT","from":"a\"b\\","to":"h:1","ts":18446744073709551615,"payload":{{"z":"é","a":{{}}}},"sig":"AAAA"}}"#,
                extra,
                if extra.is_empty() { "" } else { "," }
            );
            let envelope = Frame::parse(&text).unwrap().envelope;
            assert_eq!(envelope.to_text(), in_one_object(&envelope, Some("AAAA")));
            let digest = crate::sha256(in_one_object(&envelope, None).as_bytes());
            assert_eq!(
                envelope.delegated_text(),
                [b"socp-frame-v1\0".as_slice(), &digest].concat()
            );

            let draft = envelope.into_draft();
            let written = draft.clone().write();
            assert_eq!(written.signed_text(), draft.signed_text());
            assert_eq!(written.sign(&[1, 2]), draft.clone().sign(&[1, 2]).to_text());
            let sign = |text: &[u8]| Ok::<_, ()>(text.iter().rev().take(64).copied().collect());
            let whole = draft.sign_whole(sign).unwrap().to_text();
            assert_eq!(written.sign_whole(sign), Ok(whole));
        }
    }

    #[test]
    fn what_waits_counts_with_all_its_bytes() {
        let extras = [
            String::new(),
            format!(r#""x":[{}0],"#, "0,".repeat(500_000)),
            (0..50_000).map(|number| format!(r#""k{number}":0,"#)).collect(),
        ];
        for extra in extras {
            let text = format!(r#"{{{extra}"type":"HEARTBEAT","from":"a","to":"b","ts":1,"payload":{{"z":"é"}}}}"#);
            let written = Frame::parse(&text).unwrap().envelope.into_draft().write();
            let sent = written.sign(&[255; 512]).len();
            let counted = written.wire_bytes();
            assert!(counted >= sent && counted - sent < 1024, "{counted} for {sent}");
        }
    }

    #[test]
    fn unknown_fields_with_known_names_are_left_out() {
        let mut envelope = Frame::parse(ADVERTISE).unwrap().envelope;
        let text = envelope.to_text();
        for name in ["from", "payload", "sig", "to", "ts", "type"] {
            envelope.extra.insert(name.to_owned(), Value::from("other"));
        }
        assert_eq!(envelope.to_text(), text);
    }

    #[test]
    fn absent_payload_and_sig_are_empty() {
        let frame = Frame::parse(r#"{"type":"HEARTBEAT","from":"a","to":"b","ts":1}"#).unwrap();
        assert!(frame.envelope.payload.is_empty() && frame.envelope.sig.is_empty());
    }

    #[test]
    fn each_missing_or_wrong_field_is_named() {
        let table = [
            (r#"{"from":"a","to":"b","ts":1}"#, "`type` is missing"),
            (r#"{"type":7,"from":"a","to":"b","ts":1}"#, "`type` is not a string"),
            (r#"{"type":"HEARTBEAT","to":"b","ts":1}"#, "`from` is missing"),
            (
                r#"{"type":"HEARTBEAT","from":"a b","to":"b","ts":1}"#,
                "`from` contains characters",
            ),
            (
                r#"{"type":"HEARTBEAT","from":"a","to":[],"ts":1}"#,
                "`to` is not a string",
            ),
            (r#"{"type":"HEARTBEAT","from":"a","to":"b"}"#, "`ts` is missing"),
            (
                r#"{"type":"HEARTBEAT","from":"a","to":"b","ts":-1}"#,
                "`ts` is not an integer",
            ),
            (
                r#"{"type":"HEARTBEAT","from":"a","to":"b","ts":"1"}"#,
                "`ts` is not an integer",
            ),
            (
                r#"{"type":"HEARTBEAT","from":"a","to":"b","ts":1,"payload":[]}"#,
                "`payload` is not an object",
            ),
            (
                r#"{"type":"HEARTBEAT","from":"a","to":"b","ts":1,"sig":7}"#,
                "`sig` is not a string",
            ),
            (
                r#"{"type":"HEARTBEAT","from":"a","to":"b","ts":1,"sig":"=="}"#,
                "`sig` is not base64url",
            ),
            (
                r#"{"type":"NONSENSE","from":"a","to":"b","ts":1}"#,
                "unknown type \"NONSENSE\"",
            ),
            (
                r#"{"type":"USER_REMOVE","from":"a","to":"*","ts":1,"payload":{"user_id":"u"}}"#,
                "USER_REMOVE: missing field `server_id`",
            ),
            (
                r#"{"type":"PUBKEY_REQUEST","from":"a","to":"b","ts":1,"payload":{"user_id":7}}"#,
                "PUBKEY_REQUEST: ",
            ),
        ];
        for (text, said) in table {
            let error = Frame::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(said), "{text} gets {error:?}");
        }
    }

    #[test]
    fn a_long_unknown_type_is_cut_in_the_answer() {
        let text = format!(r#"{{"type":"{}","from":"a","to":"b","ts":1}}"#, "X".repeat(9_000));
        assert!(Frame::parse(&text).unwrap_err().to_string().len() < 80);
    }
}

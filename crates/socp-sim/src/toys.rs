//! Keys and signatures that cost nothing.
//!
//! A toy signature is SHA-256 over the public key and the text. Whoever knows the key could make it, so the honesty of
//! the world lies in its cast: nobody in it, hostile servers included, signs with a key that is not theirs.

use socp_proto::payload::{ChannelMessage, DirectMessage};
use socp_proto::{Base64Url, Draft, Envelope, Fingerprint, Frame, KeyText, Payload};
use std::cell::Cell;

/// The key that belongs to a name.
pub(crate) fn key(name: &str) -> KeyText {
    KeyText::from_der(format!("key of {name}").as_bytes())
}

pub(crate) fn sign(key: &KeyText, text: &[u8]) -> [u8; 32] {
    let mut bytes = key.der();
    bytes.push(0);
    bytes.extend(text);
    socp_proto::sha256(&bytes)
}

/// What an author signs: the ciphertext, and who says it to whom when (PROTOCOL I.7, I.8).
pub(crate) fn content_text(ciphertext: &Base64Url, from: &str, to: Option<&str>, ts: u64) -> Vec<u8> {
    format!("{}{from}{}{ts}", ciphertext.as_str(), to.unwrap_or_default()).into_bytes()
}

/// A direct message with its author's signature.
pub(crate) fn direct(author: (&str, &KeyText), to: &str, ts: u64, ciphertext: &[u8]) -> DirectMessage {
    let ciphertext = Base64Url::encode(ciphertext);
    let text = content_text(&ciphertext, author.0, Some(to), ts);
    DirectMessage {
        content_sig: Base64Url::encode(&sign(author.1, &text)),
        sender_pub: author.1.clone(),
        ciphertext,
        home: None,
    }
}

/// One member's copy of a channel message with its author's signature.
pub(crate) fn channel(author: (&str, &KeyText), ts: u64, ciphertext: &[u8]) -> ChannelMessage {
    let ciphertext = Base64Url::encode(ciphertext);
    let text = content_text(&ciphertext, author.0, None, ts);
    ChannelMessage {
        content_sig: Base64Url::encode(&sign(author.1, &text)),
        sender_pub: author.1.clone(),
        ciphertext,
        group_id: Some("public".to_owned()),
    }
}

/// What can be said of the content signature of a user's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Absent,
    Good,
    Wrong,
}

/// Checks the content signature of a frame that came from its author.
pub(crate) fn check_content(frame: &Frame, key: &KeyText) -> Content {
    let Envelope { from, to, ts, .. } = &frame.envelope;
    #[expect(clippy::wildcard_enum_match_arm, reason = "nobody in a world sends other content")]
    let (ciphertext, to, sig) = match &frame.payload {
        Payload::MsgDirect(message) => (&message.ciphertext, Some(to.as_str()), &message.content_sig),
        Payload::MsgPublicChannel(message) => (&message.ciphertext, None, &message.content_sig),
        _ => return Content::Absent,
    };
    let text = content_text(ciphertext, from.as_str(), to, *ts);
    if sig.decode() == sign(key, &text) {
        Content::Good
    } else {
        Content::Wrong
    }
}

/// One text on its way: read once, however many read it.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) frame: Frame,
    pub(crate) bytes: usize,
    /// The last key that it was checked with, and whether it is good.
    checked: Cell<Option<(Fingerprint, bool)>>,
}

impl Parcel {
    /// Signs a draft and reads what goes over the wire; nothing if that is no frame, which is a fault of who drafted it.
    pub(crate) fn of(draft: Draft, key: &KeyText) -> Result<Self, String> {
        let sig = sign(key, draft.signed_text().as_bytes());
        let parcel = Self::read(&draft.sign(&sig).to_text())?;
        parcel.checked.set(Some((key.fingerprint(), true)));
        Ok(parcel)
    }

    /// Reads a text.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let frame = Frame::parse(text).map_err(|error| format!("{error}: {text}"))?;
        Ok(Self {
            frame,
            bytes: text.len(),
            checked: Cell::new(None),
        })
    }

    /// Whether the transport signature is this key's.
    pub(crate) fn verifies(&self, key: &KeyText) -> bool {
        let fingerprint = key.fingerprint();
        if let Some((with, is_good)) = self.checked.get()
            && with == fingerprint
        {
            return is_good;
        }
        let envelope = &self.frame.envelope;
        let is_good = envelope.sig.decode() == sign(key, envelope.signed_text().as_bytes());
        self.checked.set(Some((fingerprint, is_good)));
        is_good
    }
}

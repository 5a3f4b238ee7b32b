//! What programs with `ack/1` say to each other inside the encryption (PROTOCOL II.6).
//!
//! A plaintext of theirs is the character U+0001 and canonical JSON. It says which device of the author speaks, and, for
//! texts, how many that device has said to this recipient: so gaps and repetitions show whatever happens on the way. Every
//! server between sees ciphertext alone.

use crate::id::UserId;
use crate::json::{Object, parse_object};
use crate::key::Base64Url;
use crate::limits::{
    DIRECT_TEXT_BYTES_MAX, MSG_REF_BYTES_MAX, SPEECH_AGAIN_COUNT_MAX, SPEECH_NUMBER_MAX, SPEECH_REFS_COUNT_MAX,
};
use crate::utf8_form;
use serde_json::{Value, json};
use std::fmt;

/// What such a plaintext begins with; no text that somebody types does.
pub const SPEECH_MARK: char = '\u{1}';

/// Which of an author's devices speaks: eight random bytes, shown to nobody but the people it writes to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Voice([u8; 8]);

impl Voice {
    /// The voice with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }

    fn parse(value: &Value) -> Option<Self> {
        let text = Base64Url::try_from(value.as_str()?.to_owned()).ok()?;
        Some(Self(text.decode().as_slice().try_into().ok()?))
    }

    fn to_value(self) -> Value {
        Value::from(Base64Url::encode(&self.0).as_str())
    }
}

impl fmt::Debug for Voice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Base64Url::encode(&self.0).as_str())
    }
}

/// How far a text has come at its recipient's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReceiptState {
    /// It is on the disk of one of their devices.
    Delivered,
    /// It was shown to them.
    Read,
}

impl ReceiptState {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Read => "read",
        }
    }
}

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// A text, the `n`th of this device to this recipient.
    Text {
        /// From 1.
        n: u64,
        /// The text.
        text: String,
    },
    /// How far texts of the recipient have come.
    Receipt {
        /// How far.
        state: ReceiptState,
        /// Which, by their `msg_ref`.
        refs: Vec<String>,
    },
    /// Texts of the recipient's device that never came.
    Again {
        /// The device.
        by: Voice,
        /// The first.
        from_n: u64,
        /// The last.
        to_n: u64,
    },
}

/// One such plaintext.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speech {
    /// The author's device.
    pub by: Voice,
    /// The author, as in the envelope.
    pub from: UserId,
    /// The recipient, as in the envelope.
    pub to: UserId,
    /// What is said.
    pub said: Said,
}

/// Why a plaintext that begins like one of these is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpeech {
    /// Not canonical JSON, or not these fields.
    #[error("what is inside the encryption is not in the form that PROTOCOL II.6 wants")]
    Form,
    /// A version or kind that this program does not know.
    #[error("it is of a kind that this program does not know; a newer one may")]
    Unknown,
}

impl Speech {
    /// Whether a text with all that stands around it is as short as a message must be; otherwise it goes as plain text
    /// (PROTOCOL II.6).
    #[must_use]
    pub fn fits(from: &UserId, to: &UserId, text: &str) -> bool {
        let speech = Self {
            by: Voice::from_bytes([0; 8]),
            from: from.clone(),
            to: to.clone(),
            said: Said::Text {
                n: SPEECH_NUMBER_MAX,
                text: text.to_owned(),
            },
        };
        speech.to_plaintext().len() <= DIRECT_TEXT_BYTES_MAX
    }

    /// Reads a plaintext; nothing if it is plain text.
    ///
    /// # Errors
    /// [`InvalidSpeech`] if it begins like one of these and is none.
    pub fn read(plaintext: &str) -> Result<Option<Self>, InvalidSpeech> {
        let Some(text) = plaintext.strip_prefix(SPEECH_MARK) else {
            return Ok(None);
        };
        let object = parse_object(text).map_err(|_| InvalidSpeech::Form)?;
        if object.get("v").and_then(Value::as_u64) != Some(1) {
            return Err(InvalidSpeech::Unknown);
        }
        if utf8_form(&object) != text {
            return Err(InvalidSpeech::Form);
        }
        let kind = object.get("kind").and_then(Value::as_str).ok_or(InvalidSpeech::Form)?;
        let (said, fields) = match kind {
            "text" => (read_text(&object), FIELDS_NUMBERED),
            "receipt" => (read_receipt(&object), FIELDS),
            "again" => (read_again(&object), FIELDS),
            _ => return Err(InvalidSpeech::Unknown),
        };
        let speech = said.and_then(|said| {
            Some(Self {
                by: Voice::parse(object.get("by")?)?,
                from: user(&object, "from")?,
                to: user(&object, "to")?,
                said,
            })
        });
        speech
            .filter(|_| has_only(&object, fields))
            .map(Some)
            .ok_or(InvalidSpeech::Form)
    }

    /// Writes the plaintext.
    #[must_use]
    pub fn to_plaintext(&self) -> String {
        let (kind, body) = match &self.said {
            Said::Text { text, .. } => ("text", Value::from(text.as_str())),
            Said::Receipt { state, refs } => ("receipt", json!({ "state": state.as_str(), "refs": refs })),
            Said::Again { by, from_n, to_n } => {
                let body = json!({ "by": by.to_value(), "from_n": from_n, "to_n": to_n });
                ("again", body)
            }
        };
        let mut object = Object::new();
        let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
        put("body", body);
        put("by", self.by.to_value());
        put("from", Value::from(self.from.as_str()));
        put("kind", Value::from(kind));
        if let Said::Text { n, .. } = self.said {
            put("n", Value::from(n));
        }
        put("to", Value::from(self.to.as_str()));
        put("v", Value::from(1));
        format!("{SPEECH_MARK}{}", utf8_form(&object))
    }
}

const FIELDS: &[&str] = &["body", "by", "from", "kind", "to", "v"];
const FIELDS_NUMBERED: &[&str] = &["body", "by", "from", "kind", "n", "to", "v"];

fn has_only(object: &Object, fields: &[&str]) -> bool {
    object.len() == fields.len() && fields.iter().all(|field| object.contains_key(*field))
}

fn user(object: &Object, field: &str) -> Option<UserId> {
    UserId::try_from(object.get(field)?.as_str()?).ok()
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().filter(|n| (1..=SPEECH_NUMBER_MAX).contains(n))
}

fn read_text(object: &Object) -> Option<Said> {
    let text = object.get("body")?.as_str()?;
    let n = number(object.get("n")?)?;
    let said = || Said::Text {
        n,
        text: text.to_owned(),
    };
    (!text.is_empty()).then(said)
}

fn read_receipt(object: &Object) -> Option<Said> {
    let body = object.get("body")?.as_object()?;
    let state = match body.get("state")?.as_str()? {
        "delivered" => ReceiptState::Delivered,
        "read" => ReceiptState::Read,
        _ => return None,
    };
    let refs = body.get("refs")?.as_array()?;
    if refs.is_empty() || refs.len() > SPEECH_REFS_COUNT_MAX || !has_only(body, &["refs", "state"]) {
        return None;
    }
    let short = |value: &Value| {
        let text = value.as_str().filter(|text| text.len() <= MSG_REF_BYTES_MAX)?;
        Some(text.to_owned())
    };
    let refs = refs.iter().map(short).collect::<Option<_>>()?;
    Some(Said::Receipt { state, refs })
}

fn read_again(object: &Object) -> Option<Said> {
    let body = object.get("body")?.as_object()?;
    let (from_n, to_n) = (number(body.get("from_n")?)?, number(body.get("to_n")?)?);
    let count = to_n.checked_sub(from_n)?.checked_add(1)?;
    let is_short = count <= SPEECH_AGAIN_COUNT_MAX && has_only(body, &["by", "from_n", "to_n"]);
    let by = Voice::parse(body.get("by")?)?;
    is_short.then_some(Said::Again { by, from_n, to_n })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speech(said: Said) -> Speech {
        Speech {
            by: Voice::from_bytes([7; 8]),
            from: UserId::try_from("alice").unwrap(),
            to: UserId::try_from("bob").unwrap(),
            said,
        }
    }

    #[test]
    fn every_kind_comes_back_as_it_was_said() {
        let text = "a \"quoted\" line\nand \u{1}another \u{1f600}".to_owned();
        let refs = vec!["r".repeat(MSG_REF_BYTES_MAX); SPEECH_REFS_COUNT_MAX];
        let by = Voice::from_bytes([9; 8]);
        let n = SPEECH_NUMBER_MAX;
        for said in [
            Said::Text { n, text },
            Said::Receipt {
                state: ReceiptState::Read,
                refs,
            },
            Said::Again {
                by,
                from_n: n - SPEECH_AGAIN_COUNT_MAX + 1,
                to_n: n,
            },
        ] {
            let written = speech(said).to_plaintext();
            assert_eq!(Speech::read(&written).unwrap().unwrap().to_plaintext(), written);
        }
        let written = speech(Said::Text {
            n: 1,
            text: "hi".to_owned(),
        });
        assert_eq!(
            written.to_plaintext(),
            "\u{1}{\"body\":\"hi\",\"by\":\"BwcHBwcHBwc\",\"from\":\"alice\",\"kind\":\"text\",\"n\":1,\"to\":\"bob\",\"v\":1}"
        );
        assert_eq!(Speech::read("hi"), Ok(None));
        assert_eq!(Speech::read(""), Ok(None));
    }

    #[test]
    fn what_is_not_in_the_one_form_is_refused() {
        let good = speech(Said::Text {
            n: 1,
            text: "hi".to_owned(),
        })
        .to_plaintext();
        let table = [
            ("\"n\":1", "\"n\":0", InvalidSpeech::Form),
            ("\"n\":1", "\"n\":9007199254740992", InvalidSpeech::Form),
            ("\"n\":1", "\"n\":-1", InvalidSpeech::Form),
            ("\"n\":1", "\"n\":\"1\"", InvalidSpeech::Form),
            ("\"n\":1,", "", InvalidSpeech::Form),
            ("\"n\":1,", "\"n\":1,\"o\":1,", InvalidSpeech::Form),
            ("\"n\":1,", "\"n\": 1,", InvalidSpeech::Form),
            ("\"hi\"", "\"\"", InvalidSpeech::Form),
            ("\"hi\"", "\"\\u0068i\"", InvalidSpeech::Form),
            ("\"hi\"", "7", InvalidSpeech::Form),
            ("BwcHBwcHBwc", "BwcHBwcHBw", InvalidSpeech::Form),
            ("\"from\":\"alice\"", "\"from\":\"\"", InvalidSpeech::Form),
            ("\"v\":1", "\"v\":2", InvalidSpeech::Unknown),
            ("\"text\"", "\"picture\"", InvalidSpeech::Unknown),
            ("}", "}x", InvalidSpeech::Form),
        ];
        for (found, put, fault) in table {
            let bad = good.replacen(found, put, 1);
            assert_eq!(Speech::read(&bad), Err(fault), "{bad}");
        }
        assert_eq!(Speech::read("\u{1}"), Err(InvalidSpeech::Form));
        assert_eq!(Speech::read("\u{1}\u{1}"), Err(InvalidSpeech::Form));
    }

    #[test]
    fn lists_and_ranges_are_bounded() {
        let again = |from_n, to_n| {
            let by = Voice::from_bytes([9; 8]);
            Speech::read(&speech(Said::Again { by, from_n, to_n }).to_plaintext())
        };
        assert!(again(1, SPEECH_AGAIN_COUNT_MAX).is_ok());
        for (from_n, to_n) in [(1, SPEECH_AGAIN_COUNT_MAX + 1), (2, 1), (0, 1), (1, u64::MAX)] {
            assert_eq!(again(from_n, to_n), Err(InvalidSpeech::Form), "{from_n} to {to_n}");
        }
        let receipt = |refs: Vec<String>| {
            let state = ReceiptState::Delivered;
            Speech::read(&speech(Said::Receipt { state, refs }).to_plaintext())
        };
        assert!(receipt(vec!["r".to_owned()]).is_ok());
        for refs in [
            Vec::new(),
            vec!["r".to_owned(); SPEECH_REFS_COUNT_MAX + 1],
            vec!["r".repeat(MSG_REF_BYTES_MAX + 1)],
        ] {
            assert_eq!(receipt(refs), Err(InvalidSpeech::Form));
        }
    }
}

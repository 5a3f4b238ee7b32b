//! A client that speaks `ack/1` (PROTOCOL II.6) and nothing more: proof, mailbox, messages that are numbered where a
//! reader can see it. What it has on its own disk is in the test's memory, and outlives every link.
//!
//! Nobody opens what it writes: a ciphertext is the number, then noise, and its content signature is real. Frames of the
//! server are taken by its delegated key, which is not looked at: what counts is who wrote the content.

use crate::letter_client::{decode, encode, key_case, now_ms, proof_payload, proof_signed, verifies};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use socp_crypto::PrivateKey;
use std::net::TcpStream;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::{self, Error, Message, WebSocket};

/// Longest wait for a server to answer a hello.
const ANSWER_WAIT: Duration = Duration::from_secs(20);

/// Bytes of a ciphertext: one block.
const CIPHERTEXT_BYTES: usize = 512;

/// The key with which all users of this client sign. It signs more quickly than the letter client's, so that many messages
/// can be made while servers have the processor.
static KEY: LazyLock<Key> = LazyLock::new(|| {
    let case = key_case("alice");
    Key {
        private: PrivateKey::from_pkcs8_der(&decode(case["pkcs8_b64u"].as_str().unwrap())).unwrap(),
        spki: case["spki_b64u"].as_str().unwrap().to_owned(),
    }
});

struct Key {
    private: PrivateKey,
    spki: String,
}

/// Why a link is of no more use.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It ended.
    Lost(String),
    /// The server refuses the hello.
    Refused(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lost(why) => write!(out, "lost: {why}"),
            Self::Refused(why) => write!(out, "refused: {why}"),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Lost(error.to_string())
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::Lost(error.to_string())
    }
}

/// One device of a user.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    pub(crate) user: String,
    /// 16 bytes in base64url.
    pub(crate) device: String,
}

impl Who {
    pub(crate) fn new(user: &str, device: u8) -> Self {
        Self {
            user: user.to_owned(),
            device: encode(&[device; 16]),
        }
    }
}

/// A link on which a device has said hello.
pub(crate) struct AckLink {
    socket: WebSocket<TcpStream>,
    pub(crate) server_id: String,
}

impl AckLink {
    /// Connects, says hello with what the device has (`after`), and proves it.
    pub(crate) fn enter(address: &str, who: &Who, after: u64) -> Result<Self, Fault> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WAIT))?;
        stream.set_write_timeout(Some(ANSWER_WAIT))?;
        let (socket, _) =
            tungstenite::client(format!("ws://{address}/"), stream).map_err(|error| Fault::Lost(error.to_string()))?;
        let mut link = Self {
            socket,
            server_id: String::new(),
        };
        let hello = json!({
            "client": "ack-test", "pubkey": KEY.spki, "caps": ["ack/1", "delegate/1", "proof/1"],
            "mailbox": {"device": who.device, "after": after},
        });
        link.send(&frame_text("USER_HELLO", &who.user, "*", now_ms(), &hello, ""))?;
        let challenge = link.answer("CHALLENGE")?;
        let payload = proof_payload(&who.user, &hello, &challenge);
        let sig = encode(&KEY.private.sign(proof_signed(&payload).as_bytes()).unwrap());
        let server = challenge["payload"]["server_id"].as_str().unwrap().to_owned();
        link.send(&frame_text("PROOF", &who.user, &server, now_ms(), &payload, &sig))?;
        let ack = link.answer("ACK")?;
        assert_eq!(
            (&ack["payload"]["msg_ref"], &ack["from"]),
            (&"USER_HELLO".into(), &server.as_str().into())
        );
        link.server_id = server;
        Ok(link)
    }

    /// The next frame, which must be of this type.
    fn answer(&mut self, kind: &str) -> Result<Value, Fault> {
        let begun = Instant::now();
        let frame = self.receive(begun + ANSWER_WAIT)?;
        let frame = frame.ok_or_else(|| Fault::Lost(format!("no {kind} came")))?;
        if frame["type"] == "ERROR" {
            return Err(Fault::Refused(frame["payload"].to_string()));
        }
        assert_eq!(frame["type"], kind, "{frame}");
        Ok(frame)
    }

    pub(crate) fn send(&mut self, text: &str) -> Result<(), Fault> {
        Ok(self.socket.send(Message::text(text))?)
    }

    /// Says that everything up to this number is on the device's disk.
    pub(crate) fn acknowledge(&mut self, who: &Who, up_to: u64) -> Result<(), Fault> {
        let payload = json!({"msg_ref": "MAILBOX", "up_to": up_to});
        let server = self.server_id.clone();
        self.send(&frame_text("ACK", &who.user, &server, now_ms(), &payload, ""))
    }

    /// The next frame, if one comes until then.
    pub(crate) fn receive(&mut self, until: Instant) -> Result<Option<Value>, Fault> {
        loop {
            // None at all would mean for ever.
            let wait = until
                .saturating_duration_since(Instant::now())
                .max(Duration::from_millis(1));
            self.socket.get_ref().set_read_timeout(Some(wait))?;
            match self.socket.read() {
                Ok(Message::Text(text)) => return Ok(Some(serde_json::from_str(&text).unwrap())),
                Ok(Message::Close(close)) => return Err(Fault::Lost(format!("closed: {close:?}"))),
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn frame_text(kind: &str, from: &str, to: &str, ts: u64, payload: &Value, sig: &str) -> String {
    json!({"type": kind, "from": from, "to": to, "ts": ts, "payload": payload, "sig": sig}).to_string()
}

/// A message that an author keeps until it is answered.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    pub(crate) to: Arc<str>,
    /// Counts from 1 for each reader.
    pub(crate) number: u64,
    pub(crate) msg_ref: String,
    /// What is sent, again and again.
    pub(crate) frame: Arc<str>,
    pub(crate) ciphertext: String,
}

impl Letter {
    /// Writes the message of this number; `home`: the reader's server.
    pub(crate) fn write(from: &str, (to, home): (&Arc<str>, &str), number: u64) -> Self {
        let mut bytes: [u8; CIPHERTEXT_BYTES] = rand::random();
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        let (ciphertext, ts) = (encode(&bytes), now_ms());
        let covered = format!("{ciphertext}{from}{to}{ts}");
        let sig = KEY.private.sign(covered.as_bytes()).unwrap();
        let payload = json!({
            "ciphertext": ciphertext, "sender_pub": KEY.spki, "content_sig": encode(&sig), "home": home,
        });
        Self {
            to: Arc::clone(to),
            number,
            msg_ref: encode(&Sha256::digest(sig)[..16]),
            frame: frame_text("MSG_DIRECT", from, to, ts, &payload, "").into(),
            ciphertext,
        }
    }
}

/// A message as it came to a reader.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) seq: u64,
    pub(crate) from: String,
    pub(crate) number: u64,
    pub(crate) ciphertext: String,
}

impl Arrival {
    /// Reads a `USER_DELIVER`, and checks that its author wrote this.
    pub(crate) fn read(frame: &Value) -> Self {
        let payload = &frame["payload"];
        let text = |key: &str| payload[key].as_str().unwrap().to_owned();
        let (ciphertext, from, to) = (text("ciphertext"), text("sender"), frame["to"].as_str().unwrap());
        let covered = format!("{ciphertext}{from}{to}{}", frame["ts"]);
        assert!(
            verifies(&KEY.spki, covered.as_bytes(), &text("content_sig")),
            "ALTERED: what came is not what its author signed: {frame}"
        );
        let number = *decode(&ciphertext).first_chunk().unwrap();
        Self {
            seq: payload["seq"].as_u64().unwrap_or_else(|| panic!("no number: {frame}")),
            from,
            number: u64::from_be_bytes(number),
            ciphertext,
        }
    }
}

/// What a frame says of messages: their references, for `ACK` and `ERROR`.
pub(crate) fn refs_of(payload: &Value) -> Vec<&str> {
    let also = payload["also"].as_array().into_iter().flatten();
    payload["msg_ref"]
        .as_str()
        .into_iter()
        .chain(also.filter_map(Value::as_str))
        .collect()
}

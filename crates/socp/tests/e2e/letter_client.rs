//! A SOCP client to the letter of the standard and nothing else: its own JSON, its own RSA, no code of the project.
//!
//! It signs with the salt length it is told, adds none of our fields, and checks everything it is sent.

use data_encoding::BASE64URL_NOPAD;
use rsa::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _};
use rsa::pss::{Signature, SigningKey, VerifyingKey};
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _, Verifier as _};
use rsa::{Oaep, RsaPrivateKey, RsaPublicKey};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

const PATIENCE: Duration = Duration::from_secs(60);

/// A key pair out of the project's test vectors.
pub(crate) struct TestKey {
    pub(crate) private: RsaPrivateKey,
    pub(crate) spki: String,
}

/// The key named so in `vectors/keys.json`.
pub(crate) fn test_key(name: &str) -> TestKey {
    let case = key_case(name);
    let pkcs8 = decode(case["pkcs8_b64u"].as_str().unwrap());
    TestKey {
        private: RsaPrivateKey::from_pkcs8_der(&pkcs8).unwrap(),
        spki: case["spki_b64u"].as_str().unwrap().to_owned(),
    }
}

/// A case of `vectors/keys.json`.
pub(crate) fn key_case(name: &str) -> Value {
    let text = include_str!("../../../../vectors/keys.json");
    let file: Value = serde_json::from_str(text).unwrap();
    file["cases"]
        .as_array()
        .unwrap()
        .iter()
        .find(|case| case["name"] == name)
        .unwrap()
        .clone()
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    BASE64URL_NOPAD.encode(bytes)
}

pub(crate) fn decode(text: &str) -> Vec<u8> {
    BASE64URL_NOPAD.decode(text.as_bytes()).unwrap()
}

pub(crate) fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// PSS with SHA-256 and a salt of this length.
pub(crate) fn sign(key: &RsaPrivateKey, salt: usize, message: &[u8]) -> String {
    let signer = SigningKey::<Sha256>::new_with_salt_len(key.clone(), salt);
    encode(&signer.sign_with_rng(&mut rand::rng(), message).to_bytes())
}

/// Whether a signature of any salt length verifies.
pub(crate) fn verifies(spki: &str, message: &[u8], sig: &str) -> bool {
    let key = RsaPublicKey::from_public_key_der(&decode(spki)).unwrap();
    let verifier = VerifyingKey::<Sha256>::new_with_auto_salt_len(key);
    Signature::try_from(decode(sig).as_slice()).is_ok_and(|sig| verifier.verify(message, &sig).is_ok())
}

/// One OAEP block for the holder of this key.
pub(crate) fn seal(recipient_spki: &str, text: &[u8]) -> String {
    let key = RsaPublicKey::from_public_key_der(&decode(recipient_spki)).unwrap();
    encode(&key.encrypt(&mut rand::rng(), Oaep::<Sha256>::new(), text).unwrap())
}

/// What a user proves (PROTOCOL II.2): the payload of a `PROOF` that answers a challenge to this hello.
pub(crate) fn proof_payload(user: &str, hello: &Value, challenge: &Value) -> Value {
    let asked = &challenge["payload"];
    let server_key = decode(asked["server_pub"].as_str().unwrap());
    json!({
        "nonce": asked["nonce"],
        "server_id": asked["server_id"],
        "key": encode(&Sha256::digest(&server_key)),
        "by": user,
        "hello": encode(&Sha256::digest(hello.to_string())),
        "ts": now_ms(),
    })
}

/// What the signature of a proof covers.
pub(crate) fn proof_signed(payload: &Value) -> String {
    format!("socp-proof-v1\0{payload}")
}

/// A connection of one user, or of one [server](super::letter_server).
pub(crate) struct LetterClient {
    socket: WebSocket<TcpStream>,
    pub(crate) user: String,
    pub(crate) key: TestKey,
    pub(crate) salt: usize,
    pub(crate) server_id: String,
    pub(crate) server_pub: String,
}

impl LetterClient {
    /// Connects, and says nothing yet.
    pub(crate) fn connect(address: &str, user: &str, key: TestKey, salt: usize) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let (socket, _) = tungstenite::client(format!("ws://{address}/"), stream).unwrap();
        let (server_id, server_pub) = (String::new(), String::new());
        Self {
            socket,
            user: user.to_owned(),
            key,
            salt,
            server_id,
            server_pub,
        }
    }

    /// Connects and says hello as SOCP §9.1 has it; the server must accept without proof.
    pub(crate) fn hello(address: &str, user: &str, key: TestKey, salt: usize) -> Self {
        let mut client = Self::connect(address, user, key, salt);
        let payload = json!({"client": "letter-v1", "pubkey": client.key.spki, "enc_pubkey": client.key.spki});
        client.send("USER_HELLO", "*", payload);
        let ack = client.receive_type("ACK");
        assert_eq!(ack["payload"]["msg_ref"], "USER_HELLO");
        client.server_id = ack["payload"]["server_id"].as_str().unwrap().to_owned();
        client.server_pub = ack["payload"]["server_pub"].as_str().unwrap().to_owned();
        client.check_transport(&ack);
        client
    }

    /// Sends a frame, signed.
    pub(crate) fn send(&mut self, kind: &str, to: &str, payload: Value) {
        self.send_at(kind, to, payload, now_ms());
    }

    pub(crate) fn send_at(&mut self, kind: &str, to: &str, payload: Value, ts: u64) {
        let from = self.user.clone();
        self.send_as(&from, kind, to, &payload, ts);
    }

    /// Sends a frame with somebody's `from`, signed with our key.
    pub(crate) fn send_as(&mut self, from: &str, kind: &str, to: &str, payload: &Value, ts: u64) {
        let sig = sign(&self.key.private, self.salt, payload.to_string().as_bytes());
        self.send_text(
            &json!({"type": kind, "from": from, "to": to, "ts": ts, "payload": payload, "sig": sig}).to_string(),
        );
    }

    /// Sends any text.
    pub(crate) fn send_text(&mut self, text: &str) {
        self.send_message(Message::text(text));
    }

    pub(crate) fn send_message(&mut self, message: Message) {
        self.socket.send(message).unwrap();
    }

    /// The socket below the WebSocket, for writing what no WebSocket library would.
    pub(crate) fn raw(&mut self) -> &mut TcpStream {
        self.socket.get_mut()
    }

    /// The next frame.
    pub(crate) fn receive(&mut self) -> Value {
        loop {
            match self.socket.read().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("not a text: {other:?}"),
            }
        }
    }

    /// The next frame of this type; others are skipped.
    pub(crate) fn receive_type(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.receive();
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// The close code; frames before it are skipped.
    pub(crate) fn receive_close(&mut self) -> u16 {
        loop {
            match self.socket.read() {
                Ok(Message::Close(Some(CloseFrame { code, .. }))) => return code.into(),
                Ok(_) => {}
                Err(error) => panic!("no close frame: {error}"),
            }
        }
    }

    /// Checks a server frame's signature over its payload.
    pub(crate) fn check_transport(&self, frame: &Value) {
        assert_eq!(frame["from"], self.server_id.as_str());
        let signed = frame["payload"].to_string();
        assert!(
            verifies(&self.server_pub, signed.as_bytes(), frame["sig"].as_str().unwrap()),
            "{frame}"
        );
    }

    /// Asks until the server knows somebody's key to encrypt to.
    pub(crate) fn key_of(&mut self, user: &str) -> String {
        self.asked_for(user, "enc_pubkey")
    }

    /// The same for the key that they sign with.
    pub(crate) fn signing_key_of(&mut self, user: &str) -> String {
        self.asked_for(user, "pubkey")
    }

    fn asked_for(&mut self, user: &str, field: &str) -> String {
        let server = self.server_id.clone();
        super::process::eventually("the user's key", || {
            self.send("PUBKEY_REQUEST", &server, json!({"user_id": user}));
            let answer = self.receive_type("PUBKEY_RESPONSE");
            self.check_transport(&answer);
            answer["payload"][field].as_str().map(str::to_owned)
        })
    }

    /// Sends a direct message: one OAEP block, signed over its text, `from`, `to`, `ts` (SOCP §9.2).
    pub(crate) fn tell(&mut self, to: &str, text: &str) {
        let spki = self.key_of(to);
        let ts = now_ms();
        let payload = self.sealed(&spki, to, text, ts);
        self.send_at("MSG_DIRECT", to, payload, ts);
    }

    /// The payload of a direct message.
    pub(crate) fn sealed(&self, recipient_spki: &str, to: &str, text: &str, ts: u64) -> Value {
        let ciphertext = seal(recipient_spki, text.as_bytes());
        let covered = format!("{ciphertext}{}{to}{ts}", self.user);
        let content_sig = sign(&self.key.private, self.salt, covered.as_bytes());
        json!({"ciphertext": ciphertext, "sender_pub": self.key.spki, "content_sig": content_sig})
    }

    /// The next direct message, with both signatures checked: author and text.
    pub(crate) fn read_message(&mut self, author_spki: &str) -> (String, String) {
        let frame = self.receive_type("USER_DELIVER");
        self.check_transport(&frame);
        assert_eq!(frame["to"], self.user.as_str());
        let payload = &frame["payload"];
        let text_of = |key: &str| payload[key].as_str().unwrap().to_owned();
        let (ciphertext, sender) = (text_of("ciphertext"), text_of("sender"));
        // The author's `ts` must have come through unchanged, or this does not verify.
        let covered = format!("{ciphertext}{sender}{}{}", self.user, frame["ts"]);
        assert!(
            verifies(author_spki, covered.as_bytes(), &text_of("content_sig")),
            "content_sig of {frame}"
        );
        let blocks = decode(&ciphertext);
        let open = |block: &[u8]| self.key.private.decrypt(Oaep::<Sha256>::new(), block).unwrap();
        let plain: Vec<u8> = blocks.chunks(512).flat_map(open).collect();
        (sender, String::from_utf8(plain).unwrap())
    }
}

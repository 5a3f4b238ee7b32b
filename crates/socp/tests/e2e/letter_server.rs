//! A SOCP server to the letter of the standard and nothing else: what joins the network, says what it is told to say and
//! checks what it is sent. It shares the [letter client](super::letter_client)'s connection: its `user` is its id.

use crate::letter_client::{LetterClient, TestKey, encode, now_ms, seal, sign, test_key};
use serde_json::{Value, json};

/// Who and where we are; with port 0 nobody dials us.
pub(crate) fn identity(spki: &str) -> Value {
    json!({"host": "127.0.0.1", "port": 0, "pubkey": spki})
}

/// A link to the server at this address, joined under this id and with this key out of the vectors (SOCP §8.1).
pub(crate) fn join(address: &str, id: &str, key: &str) -> LetterClient {
    let mut link = LetterClient::connect(address, id, test_key(key), 32);
    let payload = identity(&link.key.spki);
    link.send("SERVER_HELLO_JOIN", address, payload.clone());
    let welcome = link.receive_type("SERVER_WELCOME");
    link.user = welcome["payload"]["assigned_id"].as_str().unwrap().to_owned();
    link.server_id = welcome["from"].as_str().unwrap().to_owned();
    link.server_pub = welcome["payload"]["pubkey"].as_str().unwrap().to_owned();
    link.check_transport(&welcome);
    link.send("SERVER_ANNOUNCE", "*", payload);
    link
}

/// Advertises a user of this server (SOCP §8.2).
pub(crate) fn advertise(link: &mut LetterClient, user: &str, key: &str) {
    let payload = advertisement(&link.user, user, &test_key(key).spki);
    link.send("USER_ADVERTISE", "*", payload);
}

pub(crate) fn advertisement(server: &str, user: &str, spki: &str) -> Value {
    json!({"user_id": user, "server_id": server, "meta": {}, "pubkey": spki})
}

/// What a server delivers of an author of its own: one block for the recipient (SOCP §8.3).
pub(crate) fn delivery(author: &str, key: &TestKey, to: &str, to_spki: &str, text: &str, ts: u64) -> Value {
    let ciphertext = seal(to_spki, text.as_bytes());
    let content_sig = sign(&key.private, 32, format!("{ciphertext}{author}{to}{ts}").as_bytes());
    json!({
        "user_id": to, "ciphertext": ciphertext, "sender": author, "sender_pub": key.spki,
        "content_sig": content_sig, "ts": ts,
    })
}

/// Sends a message to nobody. Its answer comes after those to everything sent before on this link, which therefore is
/// alive.
pub(crate) fn send_probe(link: &mut LetterClient, author: &str) {
    let unique: [u8; 512] = rand::random();
    let spki = link.key.spki.clone();
    let payload = json!({
        "user_id": "nobody", "ciphertext": encode(&[7; 512]), "sender": author, "sender_pub": spki,
        "content_sig": encode(&unique), "ts": now_ms(),
    });
    let to = link.server_id.clone();
    link.send("SERVER_DELIVER", &to, payload);
}

/// Whether this is the answer to a probe.
pub(crate) fn is_probe_answer(frame: &Value) -> bool {
    frame["type"] == "ERROR" && frame["payload"]["code"] == "USER_NOT_FOUND" && frame["payload"]["detail"] == "nobody"
}

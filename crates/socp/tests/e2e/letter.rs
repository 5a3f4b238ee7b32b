//! Programs that speak the standard to the letter, with either salt, on both sides of ours.

use crate::letter_client::{LetterClient, decode, test_key};
use crate::process::{Served, User, json};
use sha2::{Digest as _, Sha256};

const LETTER_ID: &str = "11111111-2222-4333-8444-555555555555";

/// A letter client on one server and our client on the other, both directions.
fn talk(salt: usize) {
    let dir = tempfile::tempdir().unwrap();
    let a = Served::start(dir.path(), "srv-a", &["--accept", "open"]);
    let b = Served::start(dir.path(), "srv-b", &["--bootstrap", &a.bootstrap()]);
    let bob = User::register(dir.path(), "bob", &b.url);
    let at_bob = bob.watch(&[]);

    let mut letter = LetterClient::hello(a.address(), LETTER_ID, test_key("alice"), salt);
    letter.tell(&bob.id, "to the letter");
    let event = json(&at_bob.line_with("\"event\":\"message\""));
    assert_eq!(
        (&event["text"], &event["verified"]),
        (&"to the letter".into(), &true.into())
    );
    assert_eq!(event["from"], LETTER_ID);

    let bob_key = letter.signing_key_of(&bob.id);
    bob.run(&[
        "tell",
        LETTER_ID,
        "and back, in more than one block: ",
        &"y".repeat(500),
    ]);
    let (sender, text) = letter.read_message(&bob_key);
    assert_eq!(sender, bob.id);
    assert!(text.starts_with("and back") && text.ends_with("yyy"));

    let server = letter.server_id.clone();
    letter.send("LIST_REQUEST", &server, serde_json::json!({}));
    let list = letter.receive_type("LIST_RESPONSE");
    letter.check_transport(&list);
    let users: Vec<&str> = list["payload"]["users"]
        .as_array()
        .unwrap()
        .iter()
        .map(|u| u.as_str().unwrap())
        .collect();
    assert!(users.contains(&LETTER_ID) && users.is_sorted(), "{users:?}");
}

#[test]
fn a_letter_client_with_the_digest_salt_talks_through_our_servers() {
    talk(32);
}

#[test]
fn a_letter_client_with_the_maximal_salt_talks_through_our_servers() {
    talk(478);
}

#[test]
fn two_letter_clients_talk_through_two_servers_and_leaving_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let a = Served::start(dir.path(), "srv-a", &["--accept", "open"]);
    let b = Served::start(
        dir.path(),
        "srv-b",
        &["--accept", "open", "--bootstrap", &a.bootstrap()],
    );
    let mut alice = LetterClient::hello(a.address(), "alice", test_key("alice"), 478);
    let mut bob = LetterClient::hello(b.address(), "bob", test_key("bob"), 32);

    bob.tell("alice", "names are ids, too");
    assert_eq!(
        alice.read_message(&test_key("bob").spki),
        ("bob".to_owned(), "names are ids, too".to_owned())
    );
    alice.tell("bob", "yes");
    assert_eq!(bob.read_message(&test_key("alice").spki).1, "yes");

    drop(bob);
    let gone = alice.receive_type("USER_REMOVE");
    alice.check_transport(&gone);
    assert_eq!(gone["payload"]["user_id"], "bob");
    assert_eq!(gone["payload"]["server_id"], b.server_id.as_str());

    // With nobody there, the author is told, and which message it was.
    let ts = crate::letter_client::now_ms();
    let payload = alice.sealed(&test_key("bob").spki, "bob", "too late", ts);
    let content_sig = decode(payload["content_sig"].as_str().unwrap());
    alice.send_at("MSG_DIRECT", "bob", payload, ts);
    let error = alice.receive_type("ERROR");
    alice.check_transport(&error);
    assert_eq!(error["payload"]["code"], "USER_NOT_FOUND");
    assert_eq!(error["payload"]["detail"], "bob");
    let msg_ref = crate::letter_client::encode(&Sha256::digest(content_sig)[..16]);
    assert_eq!(error["payload"]["msg_ref"], msg_ref);
}

#[test]
fn a_signed_hello_is_accepted_where_no_other_is() {
    let dir = tempfile::tempdir().unwrap();
    let a = Served::start(dir.path(), "srv-a", &["--accept", "signed"]);
    let mut client = LetterClient::connect(a.address(), "alice", test_key("alice"), 478);
    let spki = client.key.spki.clone();
    let plain = serde_json::json!({"client": "letter-v1", "pubkey": spki, "enc_pubkey": spki});
    client.send("USER_HELLO", "*", plain.clone());
    let error = client.receive_type("ERROR");
    assert_eq!(error["payload"]["code"], "INVALID_SIG");

    // The refusal says who the server is; the next hello, on the same link, is meant for it.
    let mut signed = plain;
    signed["server_id"] = error["from"].clone();
    signed["ts"] = crate::letter_client::now_ms().into();
    client.send("USER_HELLO", "*", signed);
    assert_eq!(client.receive_type("ACK")["payload"]["server_id"], a.server_id.as_str());
}

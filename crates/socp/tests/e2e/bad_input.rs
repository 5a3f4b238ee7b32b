//! What strangers get for breaking the protocol: an answer or a close, and nobody else is disturbed.

use crate::letter_client::{LetterClient, encode, key_case, now_ms, sign, test_key};
use crate::process::{PATIENCE, Served, eventually};
use serde_json::{Value, json};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;
use tokio_tungstenite::tungstenite::Message;

/// An open server with a bystander whose link must survive whatever others do.
struct Stage {
    server: Served,
    bystander: LetterClient,
    _dir: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Served::start(dir.path(), "srv", &["--accept", "open"]);
        let bystander = LetterClient::hello(server.address(), "bystander", test_key("bob"), 32);
        Self {
            server,
            bystander,
            _dir: dir,
        }
    }

    fn alice(&self) -> LetterClient {
        LetterClient::hello(self.server.address(), "alice", test_key("alice"), 32)
    }

    fn stranger(&self) -> LetterClient {
        LetterClient::connect(self.server.address(), "alice", test_key("alice"), 32)
    }

    /// The bystander's link works, and the bystander is the only one online, or with those named.
    fn check_undisturbed(mut self, others: &[&str]) {
        let server = self.bystander.server_id.clone();
        let mut expected = [&["bystander"], others].concat();
        expected.sort_unstable();
        let list = eventually("the list to be right", || {
            self.bystander.send("LIST_REQUEST", &server, json!({}));
            let list = self.bystander.receive_type("LIST_RESPONSE")["payload"]["users"].clone();
            (list == json!(expected)).then_some(list)
        });
        assert_eq!(list, json!(expected));
    }
}

fn envelope(kind: &str, from: &str, to: &str, payload: &Value) -> Value {
    json!({"type": kind, "from": from, "to": to, "ts": now_ms(), "payload": payload, "sig": ""})
}

#[test]
fn each_bad_first_frame_is_refused_and_the_link_closed() {
    let stage = Stage::new();
    let spki = test_key("alice").spki;
    let hello = json!({"client": "x", "pubkey": spki, "enc_pubkey": spki});
    let table: Vec<(&str, String, &str)> = vec![
        ("not JSON", "hello".to_owned(), "UNKNOWN_TYPE"),
        ("not an object", "[]".to_owned(), "UNKNOWN_TYPE"),
        (
            "unknown type",
            envelope("NONSENSE", "alice", "*", &json!({})).to_string(),
            "UNKNOWN_TYPE",
        ),
        (
            "not a hello",
            envelope("LIST_REQUEST", "alice", "*", &json!({})).to_string(),
            "UNKNOWN_TYPE",
        ),
        (
            "no pubkey",
            envelope("USER_HELLO", "alice", "*", &json!({"client": "x"})).to_string(),
            "UNKNOWN_TYPE",
        ),
        (
            "no id",
            envelope("USER_HELLO", "a b", "*", &hello).to_string(),
            "UNKNOWN_TYPE",
        ),
        (
            "long id",
            envelope("USER_HELLO", &"a".repeat(65), "*", &hello).to_string(),
            "UNKNOWN_TYPE",
        ),
        (
            "forged sig",
            {
                let mut frame = envelope("USER_HELLO", "alice", "*", &hello);
                frame["sig"] = sign(&test_key("bob").private, 32, hello.to_string().as_bytes()).into();
                frame.to_string()
            },
            "INVALID_SIG",
        ),
        (
            "unsigned join",
            {
                let join = json!({"host": "127.0.0.1", "port": 1, "pubkey": spki});
                envelope("SERVER_HELLO_JOIN", "mallory", "*", &join).to_string()
            },
            "INVALID_SIG",
        ),
    ];
    for (what, text, code) in table {
        let mut stranger = stage.stranger();
        stranger.send_text(&text);
        let error = stranger.receive_type("ERROR");
        assert_eq!(error["payload"]["code"], code, "{what}: {error}");
        assert_eq!(stranger.receive_close(), 1002, "{what}");
    }
    stage.check_undisturbed(&[]);
}

#[test]
fn keys_that_the_protocol_does_not_allow_are_refused() {
    let stage = Stage::new();
    for name in [
        "modulus_1024",
        "modulus_2048",
        "modulus_3072",
        "modulus_8192",
        "exponent_3",
    ] {
        let spki = key_case(name)["spki_b64u"].clone();
        let mut stranger = stage.stranger();
        stranger.send_text(&envelope("USER_HELLO", "alice", "*", &json!({"client": "x", "pubkey": spki})).to_string());
        let error = stranger.receive_type("ERROR");
        assert_eq!(error["payload"]["code"], "BAD_KEY", "{name}: {error}");
    }
    stage.check_undisturbed(&[]);
}

#[test]
fn what_is_not_a_text_message_of_at_most_a_mebibyte_closes_the_link() {
    let stage = Stage::new();
    let mut alice = stage.alice();
    alice.send_message(Message::binary(vec![1, 2, 3]));
    assert_eq!(alice.receive_close(), 1003);

    let mut alice = stage.alice();
    let filler = "x".repeat(1024 * 1024);
    alice.send_text(&envelope("LIST_REQUEST", "alice", "*", &json!({"filler": filler})).to_string());
    assert_eq!(alice.receive_close(), 1009);

    // What is longer than any text needs is refused before it can overflow a later hop.
    let mut alice = stage.alice();
    let payload = json!({"ciphertext": encode(&vec![7; 500_000]), "sender_pub": alice.key.spki, "content_sig": ""});
    alice.send("MSG_DIRECT", "bystander", payload);
    assert_eq!(alice.receive_type("ERROR")["payload"]["code"], "UNKNOWN_TYPE");
    drop(alice);

    let mut long = stage.stranger();
    long.send_text(&" ".repeat(64 * 1024));
    assert_eq!(long.receive_close(), 1009, "before the hello, messages are short");

    let mut alice = LetterClient::hello(stage.server.address(), "alice-3", test_key("alice"), 32);
    // A final text frame of one byte, masked with zeros, that is not UTF-8.
    alice.raw().write_all(&[0x81, 0x81, 0, 0, 0, 0, 0xff]).unwrap();
    assert_eq!(alice.receive_close(), 1007);
    stage.check_undisturbed(&[]);
}

#[test]
fn bad_frames_after_the_hello_get_one_error_each_and_ten_close_the_link() {
    let stage = Stage::new();
    let mut alice = stage.alice();
    let nested = format!("{{\"a\":{}{}}}", "[".repeat(40), "]".repeat(40));
    let table = [
        "{".to_owned(),
        "7".to_owned(),
        r#"{"type":"LIST_REQUEST","type":"LIST_REQUEST","from":"alice","to":"*","ts":1}"#.to_owned(),
        nested,
        r#"{"type":"LIST_REQUEST","from":"alice","to":"*"}"#.to_owned(),
        r#"{"type":"PUBKEY_REQUEST","from":"alice","to":"*","ts":1,"payload":{"user_id":7}}"#.to_owned(),
        r#"{"type":"NONSENSE","from":"alice","to":"*","ts":1}"#.to_owned(),
        r#"{"type":"USER_ADVERTISE","from":"alice","to":"*","ts":1,"payload":{"user_id":"x","server_id":"y","meta":{}}}"#
            .to_owned(),
    ];
    for text in &table {
        alice.send_text(text);
        assert_eq!(alice.receive_type("ERROR")["payload"]["code"], "UNKNOWN_TYPE", "{text}");
    }
    // Somebody else's name is worse than a wrong form.
    alice.send_text(&envelope("LIST_REQUEST", "bystander", "*", &json!({})).to_string());
    assert_eq!(alice.receive_type("ERROR")["payload"]["code"], "INVALID_SIG");
    alice.send_text("the tenth");
    assert_eq!(alice.receive_close(), 1008);
    stage.check_undisturbed(&[]);
}

#[test]
fn an_error_is_never_answered() {
    let stage = Stage::new();
    let mut alice = stage.alice();
    let server = alice.server_id.clone();
    for _ in 0..20 {
        alice.send("ERROR", &server, json!({"code": "UNKNOWN_TYPE", "detail": "no, you"}));
    }
    alice.send("LIST_REQUEST", &server, json!({}));
    loop {
        let frame = alice.receive();
        assert_ne!(frame["type"], "ERROR");
        if frame["type"] == "LIST_RESPONSE" {
            break;
        }
    }
    stage.check_undisturbed(&["alice"]);
}

#[test]
fn forged_and_stripped_content_signatures_route_nothing() {
    let mut stage = Stage::new();
    let mut alice = stage.alice();
    let bob_spki = test_key("bob").spki;
    let ts = now_ms();
    let good = alice.sealed(&bob_spki, "bystander", "genuine", ts);
    let mut forged = good.clone();
    forged["content_sig"] = encode(&[7; 512]).into();
    let mut stripped = good.clone();
    stripped["content_sig"] = "".into();
    let mut other_key = good.clone();
    other_key["sender_pub"] = bob_spki.into();
    for (what, payload, ts) in [
        ("forged", forged, ts),
        ("stripped", stripped, ts),
        ("other key", other_key, ts),
        ("other ts", good.clone(), ts + 1),
    ] {
        alice.send_at("MSG_DIRECT", "bystander", payload, ts);
        assert_eq!(alice.receive_type("ERROR")["payload"]["code"], "INVALID_SIG", "{what}");
    }
    // A transport signature is optional for users, but a wrong one is refused.
    let mut frame = envelope("MSG_DIRECT", "alice", "bystander", &good);
    frame["ts"] = ts.into();
    frame["sig"] = encode(&[7; 512]).into();
    alice.send_text(&frame.to_string());
    assert_eq!(alice.receive_type("ERROR")["payload"]["code"], "INVALID_SIG");

    frame["sig"] = "".into();
    alice.send_text(&frame.to_string());
    let (sender, text) = stage.bystander.read_message(&test_key("alice").spki);
    assert_eq!((sender.as_str(), text.as_str()), ("alice", "genuine"));
    stage.check_undisturbed(&["alice"]);
}

#[test]
fn an_id_belongs_to_its_first_key() {
    let stage = Stage::new();
    let mut thief = LetterClient::connect(stage.server.address(), "bystander", test_key("alice"), 32);
    let spki = thief.key.spki.clone();
    thief.send("USER_HELLO", "*", json!({"client": "x", "pubkey": spki}));
    assert_eq!(thief.receive_type("ERROR")["payload"]["code"], "BAD_KEY");

    // The public key alone is no proof: a second session without one is refused.
    let spki = test_key("bob").spki;
    thief.send_text(&envelope("USER_HELLO", "bystander", "*", &json!({"client": "x", "pubkey": spki})).to_string());
    assert_eq!(thief.receive_type("ERROR")["payload"]["code"], "NAME_IN_USE");
    stage.check_undisturbed(&[]);
}

#[test]
fn a_reader_that_does_not_read_is_cut_off_and_nobody_waits() {
    let mut stage = Stage::new();
    let deaf = LetterClient::hello(stage.server.address(), "deaf", test_key("alice"), 32);
    let server = stage.bystander.server_id.clone();
    // What the kernel buffers for the one who never reads is some megabytes; the server adds one of its own.
    let mut sent = 0;
    let gone = loop {
        let ts = now_ms();
        let ciphertext = encode(&vec![7; 145_000]);
        let covered = format!("{ciphertext}bystanderdeaf{ts}");
        let key = &stage.bystander.key;
        let content_sig = sign(&key.private, 32, covered.as_bytes());
        let payload = json!({"ciphertext": ciphertext, "sender_pub": key.spki, "content_sig": content_sig});
        stage.bystander.send_at("MSG_DIRECT", "deaf", payload, ts);
        sent += 1;
        if sent % 10 == 0 {
            stage.bystander.send("LIST_REQUEST", &server, json!({}));
            let list = stage.bystander.receive_type("LIST_RESPONSE");
            if list["payload"]["users"] == json!(["bystander"]) {
                break true;
            }
        }
        if sent > 400 {
            break false;
        }
    };
    assert!(gone, "the deaf reader is still there");
    drop(deaf);
}

#[test]
fn a_connection_that_says_nothing_is_closed_and_a_port_scan_harms_nobody() {
    let stage = Stage::new();
    let mut silent = stage.stranger();
    let mut wordless = TcpStream::connect(stage.server.address()).unwrap();
    for garbage in [&b"\x00\x01\x02\x03"[..], b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n"] {
        let mut scan = TcpStream::connect(stage.server.address()).unwrap();
        scan.write_all(garbage).unwrap();
    }
    assert_eq!(silent.receive_close(), 1002);
    // Not even an HTTP request: ended as well, with an answer or without.
    wordless.set_read_timeout(Some(PATIENCE)).unwrap();
    wordless.read_to_end(&mut Vec::new()).unwrap();
    stage.check_undisturbed(&[]);
}

#[test]
fn one_address_cannot_take_every_place_before_the_hello() {
    let stage = Stage::new();
    let address = stage.server.address().to_owned();
    let is_refused = |stream: &mut TcpStream| {
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        // The end at once, by a reset or not; a connection with a place is kept waiting.
        let read = stream.read(&mut [0]);
        !matches!(read, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    };
    let mut kept: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(&address).unwrap()).collect();
    assert!(!is_refused(kept.last_mut().unwrap()));
    assert!(is_refused(&mut TcpStream::connect(&address).unwrap()));
    drop(kept);
    eventually("a place to be free", || {
        let mut next = TcpStream::connect(&address).unwrap();
        (!is_refused(&mut next)).then_some(())
    });
    stage.check_undisturbed(&[]);
}

#[test]
fn a_server_with_another_key_than_the_pinned_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let a = Served::start(dir.path(), "srv-a", &["--accept", "open"]);
    let wrong = test_key("server").spki;
    let b = Served::start(
        dir.path(),
        "srv-b",
        &["--accept", "open", "--bootstrap", &format!("{}#{wrong}", a.url)],
    );
    // The bystanders of both sides never see each other; ours checks after b has tried and was told.
    let mut at_a = LetterClient::hello(a.address(), "alice", test_key("alice"), 32);
    let mut at_b = LetterClient::hello(b.address(), "bob", test_key("bob"), 32);
    for (client, alone) in [(&mut at_a, "alice"), (&mut at_b, "bob")] {
        let server = client.server_id.clone();
        client.send("LIST_REQUEST", &server, json!({}));
        assert_eq!(client.receive_type("LIST_RESPONSE")["payload"]["users"], json!([alone]));
    }
}

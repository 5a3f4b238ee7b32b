//! Whose an id is, and whose a session (PROTOCOL I.6, II.2): real servers, real programs, and a squatter.

use crate::letter_client::{LetterClient, TestKey, now_ms, proof_payload, proof_signed, sign, test_key};
use crate::process::{Served, User, eventually, json};
use serde_json::{Value, json};

/// A hello that offers to prove it, with the public key of `spki`.
fn able_hello(spki: &str) -> Value {
    json!({"client": "test", "pubkey": spki, "caps": ["proof/1"]})
}

/// Says hello under an id; the answer.
fn ask(client: &mut LetterClient, spki: &str) -> Value {
    client.send("USER_HELLO", "*", able_hello(spki));
    client.receive()
}

/// The frame that answers a challenge, signed with the client's own key.
fn proof(client: &LetterClient, hello: &Value, challenge: &Value) -> String {
    let payload = proof_payload(&client.user, hello, challenge);
    let sig = sign(&client.key.private, 32, proof_signed(&payload).as_bytes());
    let server = &challenge["payload"]["server_id"];
    json!({"type": "PROOF", "from": client.user, "to": server, "ts": now_ms(), "payload": payload, "sig": sig})
        .to_string()
}

/// Somebody who proves what they can: the last answer.
fn enter(address: &str, id: &str, key: TestKey) -> (LetterClient, Value) {
    let mut client = LetterClient::connect(address, id, key, 32);
    let spki = client.key.spki.clone();
    let answer = ask(&mut client, &spki);
    if answer["type"] != "CHALLENGE" {
        return (client, answer);
    }
    let proof = proof(&client, &able_hello(&spki), &answer);
    client.send_text(&proof);
    let answer = client.receive();
    (client, answer)
}

fn refused(answer: &Value) -> &str {
    assert_eq!(answer["type"], "ERROR", "{answer}");
    answer["payload"]["code"].as_str().unwrap()
}

#[test]
fn sessions_of_one_person_live_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let a = Served::start(dir.path(), "srv-a", &[]);
    let alice = User::register(dir.path(), "alice", &a.url);
    let bob = User::register(dir.path(), "bob", &a.url);
    let (one, two) = (bob.watch(&[]), bob.watch(&[]));
    eventually("bob to be there", || alice.listed().contains(&bob.id).then_some(()));
    // A third session of bob's, beside the two; and alice's.
    bob.run(&["tell", "bob", "to myself"]);
    alice.run(&["tell", "bob", "to all of you"]);
    for watch in [&one, &two] {
        for text in ["to myself", "to all of you"] {
            let event = json(&watch.line_with("\"event\":\"message\""));
            assert_eq!((&event["text"], &event["verified"]), (&text.into(), &true.into()));
        }
    }
    // Who leaves takes nobody with it.
    drop(one);
    alice.run(&["tell", "bob", "to who is left"]);
    assert_eq!(json(&two.line_with("to who is left"))["verified"], true);
}

/// Owner at one server, squatter at the other, before and after the owner's first visit there.
#[test]
fn a_squatter_with_the_id_and_not_the_key_gets_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let a = Served::start(dir.path(), "srv-a", &[]);
    let b = Served::start(dir.path(), "srv-b", &["--bootstrap", &a.bootstrap()]);
    let alice = User::register(dir.path(), "alice", &a.url);
    let bob = User::register(dir.path(), "bob", &b.url);
    let at_home = alice.watch(&[]);
    eventually("alice to be seen", || bob.listed().contains(&alice.id).then_some(()));
    let key: Value = serde_json::from_str(&alice.run(&["--json", "key", "show"])).unwrap();
    let mut owners = able_hello(key["pubkey"].as_str().unwrap());
    owners["enc_pubkey"] = key["enc_pubkey"].clone();

    let squat = |server: &Served| {
        // With a key of its own.
        let (_client, answer) = enter(server.address(), &alice.id, test_key("bob"));
        assert_eq!(refused(&answer), "BAD_KEY");
        // With the owner's, which is no secret, but nothing to sign with.
        let mut client = LetterClient::connect(server.address(), &alice.id, test_key("bob"), 32);
        let hello = json!({
            "type": "USER_HELLO", "from": alice.id, "to": "*", "ts": now_ms(), "payload": owners, "sig": "",
        });
        client.send_text(&hello.to_string());
        let challenge = client.receive_type("CHALLENGE");
        let proof = proof(&client, &owners, &challenge);
        client.send_text(&proof);
        assert_eq!(refused(&client.receive()), "INVALID_SIG");
        assert_eq!(client.receive_close(), 1002);
    };
    squat(&a);
    squat(&b);
    // The owner's first visit from the other server, with the same profile.
    let visit = alice.watch(&["--server", &b.url]);
    eventually("the visit", || bob.listed().contains(&alice.id).then_some(()));
    squat(&b);
    drop(visit);
    squat(&b);
    drop(at_home);
    squat(&a);
    squat(&b);
    alice.run(&["--server", &b.url, "list"]);
}

/// Somebody had the id before its owner came, at a server that had heard of nobody.
#[test]
fn the_owner_takes_an_id_back() {
    let dir = tempfile::tempdir().unwrap();
    let a = Served::start(dir.path(), "srv-a", &[]);
    let elsewhere = Served::start(dir.path(), "srv-b", &[]);
    let alice = User::register(dir.path(), "alice", &elsewhere.url);
    let (mut squatter, answer) = enter(a.address(), &alice.id, test_key("bob"));
    assert_eq!(answer["type"], "ACK", "{answer}");
    alice.run(&["--server", &a.url, "list"]);
    assert_eq!(refused(&squatter.receive_type("ERROR")), "BAD_KEY");
    assert_eq!(squatter.receive_close(), 1008);
    let (_again, answer) = enter(a.address(), &alice.id, test_key("bob"));
    assert_eq!(refused(&answer), "BAD_KEY");
    // Also over a restart.
    let address = a.address().to_owned();
    a.stop();
    let a = Served::start_on(dir.path(), "srv-a", &address, &[]);
    let (_again, answer) = enter(a.address(), &alice.id, test_key("bob"));
    assert_eq!(refused(&answer), "BAD_KEY");
    alice.run(&["--server", &a.url, "list"]);
}

#[test]
fn a_recorded_proof_opens_no_second_link() {
    let dir = tempfile::tempdir().unwrap();
    let a = Served::start(dir.path(), "srv-a", &[]);
    let id = "11111111-2222-4333-8444-555555555555";
    let mut client = LetterClient::connect(a.address(), id, test_key("alice"), 32);
    let spki = client.key.spki.clone();
    let challenge = ask(&mut client, &spki);
    assert_eq!(challenge["type"], "CHALLENGE", "{challenge}");
    let recorded = proof(&client, &able_hello(&spki), &challenge);
    client.send_text(&recorded);
    assert_eq!(client.receive()["type"], "ACK");
    for is_there in [true, false] {
        if !is_there {
            client.send("CTRL_CLOSE", &a.server_id, json!({}));
            client.receive_close();
        }
        let mut thief = LetterClient::connect(a.address(), id, test_key("alice"), 32);
        assert_eq!(ask(&mut thief, &spki)["type"], "CHALLENGE");
        thief.send_text(&recorded);
        assert_eq!(refused(&thief.receive()), "INVALID_SIG");
        assert_eq!(thief.receive_close(), 1002);
    }
}

#[test]
fn each_mode_says_whom_it_takes() {
    let dir = tempfile::tempdir().unwrap();
    let plain = |client: &LetterClient| json!({"client": "letter-v1", "pubkey": client.key.spki});
    let id = "11111111-2222-4333-8444-555555555555";
    for mode in ["proof", "signed", "open"] {
        let a = Served::start(dir.path(), mode, &["--accept", mode]);
        // To the letter.
        let mut client = LetterClient::connect(a.address(), id, test_key("alice"), 478);
        let hello = plain(&client);
        client.send("USER_HELLO", "*", hello.clone());
        let answer = client.receive();
        match mode {
            "open" => assert_eq!(answer["type"], "ACK"),
            _ => {
                assert_eq!(refused(&answer), "INVALID_SIG");
                let detail = answer["payload"]["detail"].as_str().unwrap();
                assert_eq!(detail.contains("--accept proof"), mode == "proof", "{detail}");
            }
        }
        // Signed for this server.
        let mut client = LetterClient::connect(a.address(), id, test_key("alice"), 478);
        let mut hello = hello;
        hello["server_id"] = a.server_id.clone().into();
        hello["ts"] = now_ms().into();
        client.send("USER_HELLO", "*", hello);
        let answer = client.receive();
        assert_eq!(answer["type"] == "ACK", mode != "proof", "{mode}: {answer}");
        // Proved.
        let (_client, answer) = enter(a.address(), id, test_key("alice"));
        assert_eq!(answer["type"], "ACK", "{mode}: {answer}");
        a.stop();
    }
}

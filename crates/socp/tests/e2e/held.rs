//! What cannot be opened yet is kept until it can: messages signed with keys of before and after a change, and messages of
//! somebody whose key is in doubt (PROTOCOL II.6, II.11).

use crate::conversation::Network;
use crate::letter_client::{LetterClient, test_key};
use crate::process::{Process, Served, User, eventually, json, output_of};
use serde_json::Value;

/// The texts of the next so many messages.
fn texts(watch: &Process, count: usize) -> Vec<String> {
    let next = || json(&watch.line_with("\"event\":\"message\""));
    let text = |event: Value| event["text"].as_str().unwrap().to_owned();
    (0..count).map(|_| text(next())).collect()
}

fn kept(user: &User) -> Vec<String> {
    let lines = user.run(&["--json", "history"]);
    let said = lines.lines().map(json).filter(|entry| entry["direction"] == "in");
    said.map(|entry| entry["text"].as_str().unwrap().to_owned()).collect()
}

/// Alice knows Bob, and Bob has read his mailbox once, and is away.
fn acquainted() -> Network {
    let net = Network::start();
    let mut watch = net.bob.watch(&["--count", "1"]);
    eventually("bob to be seen", || {
        net.alice.listed().contains(&net.bob.id).then_some(())
    });
    net.alice.run(&["tell", "bob", "hello"]);
    assert_eq!(texts(&watch, 1), ["hello"]);
    assert_eq!(watch.wait(), Some(0));
    eventually("bob to be gone", || {
        (!net.alice.listed().contains(&net.bob.id)).then_some(())
    });
    net
}

#[test]
fn what_waited_while_its_author_changed_keys_is_read_whichever_of_them_signed_it() {
    let net = acquainted();
    net.alice.run(&["tell", "bob", "with the first key"]);
    net.alice.run(&["key", "rotate"]);
    net.alice.run(&["tell", "bob", "with the second key"]);
    net.alice.run(&["key", "rotate"]);
    net.alice.run(&["tell", "bob", "with the third key"]);
    let said = ["with the first key", "with the second key", "with the third key"];
    let mut watch = net.bob.watch(&[]);
    assert_eq!(texts(&watch, 3), said);
    assert_eq!(watch.signal_and_wait("TERM"), Some(0));
    assert_eq!(kept(&net.bob), [&["hello"], &said[..]].concat());
    let watch = net.bob.watch(&[]);
    net.alice.run(&["tell", "bob", "only this"]);
    assert_eq!(texts(&watch, 1), ["only this"], "nothing is shown twice");
}

/// A server that shows another key for this user than the true one.
fn liar(net: &Network, id: &str) -> (Served, LetterClient) {
    let server = Served::start(net.dir.path(), "srv-c", &["--accept", "open"]);
    let mut false_one = LetterClient::connect(server.address(), id, test_key("bob"), 32);
    let spki = false_one.key.spki.clone();
    false_one.send(
        "USER_HELLO",
        "*",
        serde_json::json!({"client": "x", "pubkey": spki, "meta": {}}),
    );
    false_one.receive_type("ACK");
    (server, false_one)
}

/// The same as [`acquainted`], and Bob has heard of another key of Alice's.
fn in_doubt() -> (Network, Served, LetterClient) {
    let net = acquainted();
    let (server, false_one) = liar(&net, &net.alice.id);
    let checked = output_of(
        &mut net
            .bob
            .socp(&["--json", "key", "check", &net.alice.id, "--via", &server.url]),
    );
    assert_eq!(json(&String::from_utf8(checked.stdout).unwrap())["says"], "other");
    (net, server, false_one)
}

#[test]
fn a_decision_is_heard_of_by_a_program_that_runs() {
    let (net, _server, _false_one) = in_doubt();
    let mut chat = Process::start(net.bob.socp(&["chat", "--plain", "--json"]));
    chat.line_with("\"event\":\"online\"");
    net.alice.run(&["tell", "bob", "meanwhile"]);
    chat.line_with("is not accepted yet");
    net.bob.run(&["key", "keep", &net.alice.id]);
    // Whatever is asked of it, it looks first whether something was decided.
    chat.type_line("/list");
    assert_eq!(texts(&chat, 1), ["meanwhile"]);
    net.alice.run(&["tell", "bob", "and then"]);
    assert_eq!(texts(&chat, 1), ["and then"]);
}

#[test]
fn what_comes_while_a_key_is_in_doubt_is_read_after_the_decision() {
    let (net, _server, _false_one) = in_doubt();
    for text in ["one", "two"] {
        net.alice.run(&["tell", "bob", text]);
    }
    let mut watch = net.bob.watch(&[]);
    let told = json(&watch.line_with("is not accepted yet"));
    assert_eq!(
        (&told["event"], &told["from"]),
        (&"notice".into(), &net.alice.id.as_str().into())
    );
    assert!(told["text"].as_str().unwrap().contains("socp key keep"), "{told}");
    // Both were acknowledged: the server has nothing more for this device.
    eventually("both to be written down", || (held(&net.bob) == 2).then_some(()));
    assert_eq!(watch.signal_and_wait("TERM"), Some(0));
    assert_eq!(kept(&net.bob), ["hello"]);
    // A new start changes nothing, and the decision does.
    drop(net.bob.watch(&[]));
    assert_eq!(held(&net.bob), 2);
    net.bob.run(&["key", "keep", &net.alice.id]);
    let watch = net.bob.watch(&[]);
    assert_eq!(texts(&watch, 2), ["one", "two"]);
    drop(watch);
    assert_eq!(
        (kept(&net.bob), held(&net.bob)),
        (vec!["hello".to_owned(), "one".to_owned(), "two".to_owned()], 0)
    );
}

/// How many messages wait in a profile.
fn held(user: &User) -> i64 {
    let database = rusqlite::Connection::open(user.profile.join("profile.db")).unwrap();
    database
        .query_row("SELECT count(*) FROM held", [], |row| row.get(0))
        .unwrap()
}

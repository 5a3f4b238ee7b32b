//! Keys that change, cards, what other servers say, and names that deceive (PROTOCOL II.11).

use crate::conversation::Network;
use crate::letter_client::{LetterClient, test_key};
use crate::process::{Served, User, eventually, failure_of, json, output_of};
use serde_json::Value;
use std::process::Command;

/// A user of a program of others, online at this server with this key.
fn bob_at(server: &Served, key: &str) -> LetterClient {
    let mut bob = LetterClient::connect(server.address(), "bob-id", test_key(key), 32);
    let spki = bob.key.spki.clone();
    let meta = serde_json::json!({"display_name": "bob"});
    bob.send(
        "USER_HELLO",
        "*",
        serde_json::json!({"client": "x", "pubkey": spki, "meta": meta}),
    );
    let ack = bob.receive_type("ACK");
    bob.server_id = ack["payload"]["server_id"].as_str().unwrap().to_owned();
    bob.server_pub = ack["payload"]["server_pub"].as_str().unwrap().to_owned();
    bob
}

fn listed(user: &User, id: &str) -> Value {
    let lines = user.run(&["--json", "list", "--all"]);
    let mut people = lines.lines().map(json);
    people.find(|person| person["user_id"] == id).unwrap_or(Value::Null)
}

#[track_caller]
fn fails(command: &mut Command, words: &[&str]) {
    let (code, stderr) = failure_of(command);
    assert_eq!((code, stderr.lines().count()), (1, 1), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} is missing in {stderr:?}");
    }
}

/// Two servers that know nothing of each other, one of which shows a false key for Bob.
struct TwoWorlds {
    a: Served,
    b: Served,
    alice: User,
    at_a: LetterClient,
    _at_b: LetterClient,
    _dir: tempfile::TempDir,
}

impl TwoWorlds {
    fn start(at_a: &str, at_b: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let a = Served::start(dir.path(), "srv-a", &["--accept", "open"]);
        let b = Served::start(dir.path(), "srv-b", &["--accept", "open"]);
        let (at_a, at_b) = (bob_at(&a, at_a), bob_at(&b, at_b));
        let alice = User::register(dir.path(), "alice", &a.url);
        Self {
            a,
            b,
            alice,
            at_a,
            _at_b: at_b,
            _dir: dir,
        }
    }
}

#[test]
fn another_server_that_says_another_key_stops_everything_until_it_is_decided() {
    let mut net = TwoWorlds::start("alice", "bob");
    let (alice, b) = (&net.alice, net.b.url.clone());
    alice.run(&["tell", "bob", "hello"]);
    assert_eq!(listed(alice, "bob-id")["trust"], "pinned");

    fails(&mut alice.socp(&["key", "check", "bob"]), &["no other server", "--via"]);
    let said = output_of(&mut alice.socp(&["--json", "key", "check", "bob", "--via", &b]));
    assert_eq!(said.status.code(), Some(1));
    assert_eq!(json(&String::from_utf8(said.stdout).unwrap())["says"], "other");

    // From now on nothing goes out, in no way, and nothing comes in.
    let words = ["another key", "socp key accept bob-id", "socp key keep bob-id"];
    fails(&mut alice.socp(&["tell", "bob", "hello"]), &words);
    assert!(!alice.socp(&["all", "hello"]).output().unwrap().status.success());
    let file = alice.profile.join("note.txt");
    std::fs::write(&file, "x").unwrap();
    assert_eq!(
        failure_of(&mut alice.socp(&["file", "bob", file.to_str().unwrap()])).0,
        1
    );
    assert_eq!(listed(alice, "bob-id")["trust"], "changed");
    assert!(alice.run(&["list"]).contains("bob@srv-a (KEY CHANGED)"));
    let watch = alice.watch(&[]);
    let spki = own_key(alice);
    let ts = crate::letter_client::now_ms();
    let payload = net.at_a.sealed(&spki, &alice.id, "it is me", ts);
    net.at_a.send_at("MSG_DIRECT", &alice.id, payload, ts);
    let notice = json(&watch.line_with("bob-id"));
    let notice = if notice["event"] == "presence" {
        json(&watch.line_with("not accepted"))
    } else {
        notice
    };
    assert_eq!(
        (&notice["event"], &notice["from"]),
        (&Value::from("notice"), &Value::from("bob-id"))
    );
    drop(watch);

    // It is told where one looks, and decided by words.
    let shown = json(&alice.run(&["--json", "key", "show"]));
    assert_eq!(shown["alarms"][0]["user_id"], "bob-id");
    assert!(alice.run(&["key", "show"]).contains("! the server ws://"));
    fails(&mut alice.socp(&["key", "accept", "bob"]), &["--told"]);
    fails(
        &mut alice.socp(&["key", "accept", "bob", "--told", "abandon ability"]),
        &["not the same"],
    );
    let old = json(&alice.run(&["--json", "key", "fingerprint", "bob"]));
    let old: Vec<&str> = old["safety_digits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect();
    fails(
        &mut alice.socp(&["key", "accept", "bob", "--told", &old.join(" ")]),
        &["words of the key that you know"],
    );

    alice.run(&["key", "keep", "bob"]);
    alice.run(&["tell", "bob", "hello"]);
    fails(&mut alice.socp(&["key", "keep", "bob"]), &["nothing to decide"]);
    // The refused key raises no alarm any more, and is told when asked for.
    assert_eq!(failure_of(&mut alice.socp(&["key", "check", "bob", "--via", &b])).0, 1);
    assert_eq!(listed(alice, "bob-id")["trust"], "pinned");
    drop(net.a);
}

fn own_key(user: &User) -> String {
    json(&user.run(&["--json", "key", "show"]))["pubkey"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn a_changed_key_is_accepted_by_the_words_of_the_new_one_and_is_not_verified() {
    let net = TwoWorlds::start("alice", "bob");
    let alice = &net.alice;
    alice.run(&["tell", "bob", "hello"]);
    let words = |user: &User| {
        let shown = json(&user.run(&["--json", "key", "fingerprint", "bob"]));
        let words = shown["safety_words"].as_array().unwrap().clone();
        words
            .iter()
            .map(|it| it.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
            .join(" ")
    };
    alice.run(&["key", "verify", "bob", "--told", &words(alice)]);
    assert_eq!(
        failure_of(&mut alice.socp(&["key", "check", "bob", "--via", &net.b.url])).0,
        1
    );

    // What Bob reads out is what somebody sees who has met him at the other server, with Alice's own key.
    let other = net.alice.profile.with_file_name("copy");
    copy(&alice.profile, &other);
    let copied = User {
        profile: other,
        id: alice.id.clone(),
    };
    copied.run(&["key", "keep", "bob"]);
    let database = rusqlite::Connection::open(copied.profile.join("profile.db")).unwrap();
    // Nor does this one know the first server, which would be asked and say another key, sooner or later than the send.
    database.execute_batch("DELETE FROM pins; DELETE FROM servers").unwrap();
    drop(database);
    copied.run(&["--server", &net.b.url, "tell", "bob", "hello"]);
    let new_words = words(&copied);

    alice.run(&["key", "accept", "bob", "--told", &new_words]);
    assert_eq!(listed(alice, "bob-id")["trust"], "pinned");
    assert_eq!(words(alice), new_words);
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn at_first_contact_the_other_servers_of_a_profile_are_asked_by_themselves() {
    let net = TwoWorlds::start("alice", "bob");
    net.alice.run(&["--server", &net.b.url, "list"]);
    let told = output_of(&mut net.alice.socp(&["--server", &net.a.url, "tell", "bob", "hello"]));
    let stderr = String::from_utf8(told.stderr).unwrap();
    assert!(
        stderr.contains("shows another key for bob-id") && stderr.contains(&net.b.url),
        "{stderr}"
    );
    fails(&mut net.alice.socp(&["tell", "bob", "hello"]), &["another key"]);
}

#[test]
fn servers_that_agree_are_counted_beside_the_name() {
    let net = TwoWorlds::start("bob", "bob");
    net.alice.run(&["--server", &net.b.url, "list"]);
    let sent = net.alice.run(&["--server", &net.a.url, "tell", "bob", "hello"]);
    assert!(sent.contains("sent to bob@srv-a"), "{sent}");
    assert_eq!(listed(&net.alice, "bob-id")["confirmed"], 1);
    assert!(net.alice.run(&["list"]).contains("bob@srv-a (confirmed by 1)"));
    assert!(net.alice.run(&["key", "check", "bob"]).contains("says the same key"));
    // Who asked was nobody there.
    let lines = net.alice.run(&["--json", "--server", &net.b.url, "list"]);
    assert!(!lines.contains("stranger"), "{lines}");
}

#[test]
fn a_card_makes_the_first_contact_a_verified_one() {
    let net = Network::start();
    let at_bob = net.bob.watch(&[]);
    eventually("bob to be seen", || {
        net.alice.listed().contains(&net.bob.id).then_some(())
    });
    let shown = json(&net.bob.run(&["--json", "key", "card"]));
    let card = net.bob.run(&["key", "card", "--qr"]);
    let card = card.lines().next().unwrap();
    assert_eq!(shown["card"], card);
    assert!(card.starts_with("socp://") && card.contains("?name=bob#"), "{card}");

    fails(
        &mut net.alice.socp(&["key", "add", &card[..card.len() - 1]]),
        &["fingerprint"],
    );
    fails(&mut net.alice.socp(&["key", "add", "bob"]), &["socp://"]);
    fails(&mut net.bob.socp(&["key", "add", card]), &["your own"]);
    net.alice.run(&["key", "add", card]);
    let sent = net.alice.run(&["tell", "bob", "hello"]);
    assert!(sent.contains("bob@srv-b (verified)"), "{sent}");
    at_bob.line_with("\"message\"");
    let receipt = json(&net.alice.run(&["--json", "tell", "bob", "hello"]));
    assert_eq!(receipt["trust"], "verified");

    // Alice's card is for another key than Bob's program has: that of somebody who took her name.
    let other = json(&net.bob.run(&["--json", "key", "card"]))["fingerprint"]
        .as_str()
        .unwrap()
        .to_owned();
    let alices = net.alice.run(&["key", "card"]);
    let (head, _) = alices.trim().split_once('#').unwrap();
    let _at_alice = net.alice.watch(&[]);
    net.bob.tell_when_seen(&[], "alice", "hello");
    fails(
        &mut net.bob.socp(&["key", "add", &format!("{head}#{other}")]),
        &["another key", "key accept", "key keep"],
    );
    fails(&mut net.bob.socp(&["tell", "alice", "hello"]), &["contact card"]);
    // Her true card, which she reads out, says that the false one was false.
    fails(
        &mut net.bob.socp(&["key", "accept", "alice", "--told", alices.trim()]),
        &["not the same"],
    );
    net.bob.run(&["key", "keep", "alice"]);
    net.bob.run(&["key", "add", alices.trim()]);
    assert!(net.bob.run(&["list", "--all"]).contains("alice@srv-a (verified)"));
}

#[test]
fn a_server_with_another_key_is_not_spoken_to_until_its_operator_was_asked() {
    let dir = tempfile::tempdir().unwrap();
    let a = Served::start(dir.path(), "one", &[]);
    let (address, url) = (a.address().to_owned(), a.url.clone());
    let alice = User::register(dir.path(), "alice", &url);
    alice.run(&["list"]);
    fails(
        &mut alice.socp(&["key", "accept-server", &url, "--told", "00"]),
        &["no other key"],
    );
    a.stop();
    let b = Served::start_on(dir.path(), "two", &address, &[]);

    let words = [
        "another key",
        "somebody stands between",
        "ask its operator",
        "socp key accept-server",
    ];
    fails(&mut alice.socp(&["list"]), &words);
    fails(&mut alice.socp(&["tell", "bob", "x"]), &words);
    let shown = json(&alice.run(&["--json", "key", "show"]));
    let seen = shown["server_alarms"][0]["seen"].as_str().unwrap();
    assert_eq!(seen, fingerprint(&b.pubkey));
    fails(
        &mut alice.socp(&[
            "key",
            "accept-server",
            &url,
            "--told",
            &seen.replace(|_: char| true, "0"),
        ]),
        &["not the same"],
    );
    fails(&mut alice.socp(&["list"]), &words);
    let grouped: Vec<&str> = (0..seen.len()).step_by(4).map(|at| &seen[at..at + 4]).collect();
    alice.run(&[
        "key",
        "accept-server",
        &url,
        "--told",
        &grouped.join(" ").to_uppercase(),
    ]);
    alice.run(&["list"]);
    assert_eq!(
        json(&alice.run(&["--json", "key", "show"]))["server_alarms"],
        serde_json::json!([])
    );
}

fn fingerprint(key: &str) -> String {
    let der = crate::letter_client::decode(key);
    socp_proto::Fingerprint::of(&der).to_string()
}

#[test]
fn a_name_that_looks_like_a_known_one_is_marked_and_never_meant() {
    let dir = tempfile::tempdir().unwrap();
    let a = Served::start(dir.path(), "srv-a", &["--accept", "open"]);
    let alice = User::register(dir.path(), "alice", &a.url);
    let bob = User::register(dir.path(), "bob", &a.url);
    let _at_bob = bob.watch(&[]);
    alice.run(&["tell", "bob", "hello"]);
    // Programs of others do not refuse such names.
    let mut mallory = LetterClient::connect(a.address(), "mallory-id", test_key("bob"), 32);
    let spki = mallory.key.spki.clone();
    let meta = serde_json::json!({"display_name": "b\u{43e}b"});
    mallory.send(
        "USER_HELLO",
        "*",
        serde_json::json!({"client": "x", "pubkey": spki, "meta": meta}),
    );
    mallory.receive_type("ACK");

    let seen = eventually("mallory to be seen", || {
        Some(listed(&alice, "mallory-id")).filter(|it| !it.is_null())
    });
    assert_eq!(seen["looks_like"], bob.id.as_str());
    let list = alice.run(&["list"]);
    assert!(
        list.contains("b\u{43e}b@srv-a (new, looks like another: id mallory-)"),
        "{list}"
    );
    let sent = json(&alice.run(&["--json", "tell", "bob", "hello"]));
    assert_eq!(sent["to"], bob.id.as_str());
    let mut refused = crate::process::socp();
    refused
        .args([
            "--server",
            &a.url,
            "register",
            "--no-password",
            "--name",
            "b\u{43e}b",
            "--profile",
        ])
        .arg(dir.path().join("m"));
    fails(&mut refused, &["several scripts"]);
}

#[test]
fn where_users_are_hidden_a_card_is_enough_to_write_and_to_be_seen() {
    let dir = tempfile::tempdir().unwrap();
    let a = Served::start(dir.path(), "srv-a", &["--directory", "contacts"]);
    let names = ["alice", "bob", "carol"];
    let [alice, bob, carol] = names.map(|name| User::register(dir.path(), name, &a.url));
    let (at_bob, _at_carol) = (bob.watch(&[]), carol.watch(&[]));
    assert_eq!(alice.listed(), [alice.id.as_str()]);
    fails(&mut alice.socp(&["tell", "bob", "hello"]), &["no user"]);

    let card = bob.run(&["key", "card"]);
    alice.run(&["key", "add", card.trim()]);
    alice.run(&["tell", &bob.id, "hello"]);
    let event = json(&at_bob.line_with("\"message\""));
    assert_eq!(event["from"], alice.id.as_str());
    // Whom one has met is seen from now on, by name; strangers are not.
    let mut expected = [alice.id.clone(), bob.id.clone()];
    expected.sort_unstable();
    assert_eq!(alice.listed(), expected);
    alice.run(&["tell", "bob", "again"]);
    assert_eq!(carol.listed(), [carol.id.as_str()]);
}

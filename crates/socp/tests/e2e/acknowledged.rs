//! Nothing acknowledged is lost: people who are away, programs that are killed, two programs of one person (PROTOCOL II.6).

use crate::conversation::Network;
use crate::process::{Process, User, eventually, failure_of, json};
use serde_json::Value;
use std::collections::BTreeMap;

/// The texts of the next so many messages.
fn texts(watch: &Process, count: usize) -> Vec<String> {
    (0..count)
        .map(|_| {
            let event = json(&watch.line_with("\"event\":\"message\""));
            event["text"].as_str().unwrap().to_owned()
        })
        .collect()
}

fn history(user: &User, args: &[&str]) -> Vec<Value> {
    let lines = user.run(&[&["--json", "history"], args].concat());
    lines.lines().map(json).collect()
}

/// Alice knows Bob, and Bob has read his mailbox once.
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
fn who_is_away_gets_everything_in_order_when_they_are_back() {
    let net = acquainted();
    for n in 1..=5 {
        let told = json(&net.alice.run(&["--json", "tell", "bob", &format!("text {n}")]));
        assert_eq!(told["status"], "sent");
        assert!(told["state"].as_str().unwrap().starts_with("on_"), "{told}");
    }
    let watch = net.bob.watch(&[]);
    assert_eq!(texts(&watch, 5), ["text 1", "text 2", "text 3", "text 4", "text 5"]);
    drop(watch);
    let kept: Vec<String> = history(&net.bob, &["alice"])
        .iter()
        .map(|entry| entry["text"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kept, ["hello", "text 1", "text 2", "text 3", "text 4", "text 5"]);
    // Their program has said so by now, and the next command of hers hears of it.
    let found = history(&net.alice, &["--search", "text 3"]);
    assert_eq!(found.len(), 1);
    let line = net.alice.run(&["history", "bob", "--last", "1"]);
    assert!(line.contains("→ bob@srv-b: text 5 ("), "{line}");
}

#[test]
fn a_reader_that_is_killed_loses_nothing_and_keeps_everything_once() {
    let net = acquainted();
    for n in 1..=20 {
        net.alice.run(&["tell", "bob", &format!("text {n}")]);
    }
    // Killed at the first line, wherever it is with the others; and again.
    let mut shown: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..3 {
        let mut watch = net.bob.watch(&[]);
        for text in texts(&watch, 1) {
            *shown.entry(text).or_default() += 1;
        }
        watch.signal_and_wait("KILL");
    }
    let watch = net.bob.watch(&[]);
    net.alice.run(&["tell", "bob", "the end"]);
    loop {
        let text = texts(&watch, 1).remove(0);
        if text == "the end" {
            break;
        }
        *shown.entry(text).or_default() += 1;
    }
    drop(watch);
    let kept = history(&net.bob, &["alice"]);
    assert_eq!(kept.len(), 22, "each is kept once: {kept:?}");
    // What was printed by a program that was killed before it could say so may be printed again, but nothing is left out.
    let unseen: Vec<String> = (1..=20)
        .map(|n| format!("text {n}"))
        .filter(|text| !shown.contains_key(text))
        .collect();
    assert!(unseen.len() <= 57, "{unseen:?}");
    for text in unseen {
        // A line that was written and not read before the kill.
        assert!(kept.iter().any(|entry| entry["text"] == text.as_str()));
    }
}

#[test]
fn an_author_that_is_killed_has_said_what_was_written_down() {
    let net = acquainted();
    let mut chat = Process::start(net.alice.socp(&["chat", "--plain", "--json"]));
    chat.line_with("\"event\":\"online\"");
    // Her server takes nothing, so nothing is answered.
    net.a.process.signal("STOP");
    chat.type_line(&format!("/tell {} said before the end", net.bob.id));
    eventually("it to be written down", || {
        let last = history(&net.alice, &["bob", "--last", "1"]);
        (last[0]["text"] == "said before the end").then_some(())
    });
    chat.signal_and_wait("KILL");
    net.a.process.signal("CONT");
    assert_eq!(history(&net.alice, &["bob", "--last", "1"])[0]["state"], "queued");
    // Any command sends what waits.
    net.alice.run(&["list"]);
    let watch = net.bob.watch(&[]);
    assert_eq!(texts(&watch, 1), ["said before the end"]);
    drop(watch);
    assert_eq!(history(&net.bob, &["alice"]).len(), 2);
}

#[test]
fn what_is_written_without_a_connection_goes_out_when_there_is_one() {
    let net = acquainted();
    let mut chat = Process::start(net.alice.socp(&["chat", "--plain", "--json"]));
    chat.line_with("\"event\":\"online\"");
    let address = net.a.address().to_owned();
    net.a.stop();
    chat.line_with("\"event\":\"offline\"");
    chat.type_line("/tell bob while nobody listens");
    let queued = json(&chat.line_with("\"event\":\"receipt\""));
    assert_eq!(queued["status"], "queued");
    let _back = crate::process::Served::start_on(net.dir.path(), "srv-a", &address, &[]);
    let stored = json(&chat.line_with("\"event\":\"state\""));
    assert_eq!(stored["state"], "on_server");
    let watch = net.bob.watch(&[]);
    assert_eq!(texts(&watch, 1), ["while nobody listens"]);
}

#[test]
fn two_programs_of_one_person_show_each_message_once_and_it_is_kept_once() {
    let net = acquainted();
    let (mut first, mut second) = (net.bob.watch(&[]), net.bob.watch(&[]));
    eventually("bob to be seen", || {
        net.alice.listed().contains(&net.bob.id).then_some(())
    });
    let said: Vec<String> = (1..=10).map(|n| format!("text {n}")).collect();
    for text in &said {
        net.alice.run(&["tell", "bob", text]);
    }
    assert_eq!(texts(&first, 10), said);
    assert_eq!(texts(&second, 10), said);
    let ends = [first.signal_and_wait("TERM"), second.signal_and_wait("TERM")];
    assert_eq!(ends, [Some(0); 2]);
    assert_eq!(history(&net.bob, &["alice"]).len(), 11);
    let watch = net.bob.watch(&[]);
    net.alice.run(&["tell", "bob", "only this"]);
    assert_eq!(texts(&watch, 1), ["only this"], "what was shown is not shown again");
}

#[test]
fn an_author_may_wait_until_it_is_delivered() {
    let net = acquainted();
    let (code, why) =
        failure_of(
            &mut net
                .alice
                .socp(&["tell", "bob", "anybody?", "--wait", "delivered", "--timeout", "1"]),
        );
    assert_eq!(code, 1);
    assert!(why.contains("not delivered within 1 s; the message is on "), "{why}");
    let watch = net.bob.watch(&[]);
    assert_eq!(texts(&watch, 1), ["anybody?"]);
    let told = json(
        &net.alice
            .run(&["--json", "tell", "bob", "and now?", "--wait", "delivered"]),
    );
    assert_eq!(told["status"], "delivered");
    let states: Vec<Value> = history(&net.alice, &["bob"])
        .into_iter()
        .map(|it| it["state"].clone())
        .collect();
    assert_eq!(states.last(), Some(&"delivered".into()), "{states:?}");
}

#[test]
fn nobody_is_told_that_something_is_kept_for_who_never_had_a_mailbox() {
    let net = Network::start();
    // She has never been seen, so there is no key.
    let nobody = "3f2c9a1e-8b7d-4c6a-9e5f-1a2b3c4d5e6f";
    let (code, why) = failure_of(&mut net.alice.socp(&["tell", nobody, "hello"]));
    assert_eq!(code, 1);
    assert!(why.contains("no user"), "{why}");
}

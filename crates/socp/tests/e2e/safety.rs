//! Safety words: what two people compare.

use crate::conversation::Network;
use crate::process::{User, eventually, json, output_of};
use serde_json::Value;

fn shown(user: &User, other: &str) -> Value {
    json(&user.run(&["--json", "key", "fingerprint", other]))
}

#[test]
fn two_people_see_the_same_words_once_each_has_the_others_key() {
    let net = Network::start();
    let at_bob = net.bob.watch(&[]);
    eventually("bob to be seen", || {
        net.alice.listed().contains(&net.bob.id).then_some(())
    });
    net.alice.run(&["tell", "bob", "hello"]);
    at_bob.line_with("\"message\"");

    let (at_alice, at_bob) = (shown(&net.alice, "bob"), shown(&net.bob, "alice"));
    assert_eq!(at_alice["safety_words"].as_array().unwrap().len(), 16);
    for field in ["safety_words", "safety_digits", "safety_qr"] {
        assert_eq!(at_alice[field], at_bob[field], "{field}");
    }
    assert_ne!(at_alice["fingerprint"], at_bob["fingerprint"]);

    // To people: the fingerprint first, then words, digits and the code.
    let text = net.alice.run(&["key", "fingerprint", "bob", "--qr"]);
    assert_eq!(text.lines().next(), at_alice["fingerprint"].as_str());
    let words: Vec<&str> = at_alice["safety_words"]
        .as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap())
        .collect();
    assert!(
        text.contains(&words[..4].join(" ")) && text.contains(&words[12..].join(" ")),
        "{text}"
    );
    assert!(text.contains(at_alice["safety_digits"][11].as_str().unwrap()), "{text}");
    assert!(text.lines().filter(|line| line.contains('█')).count() > 20, "{text}");

    // Nobody is met who is not pinned.
    let unknown = output_of(&mut net.alice.socp(&["key", "fingerprint", "carol"]));
    assert_eq!(unknown.status.code(), Some(1));
    let qr_of_none = output_of(&mut net.alice.socp(&["key", "fingerprint", "--qr"]));
    assert_eq!(qr_of_none.status.code(), Some(2));
}

/// How far alice's list says that bob's key can be relied on.
fn trust_in_bob(net: &Network) -> Value {
    let lines = net.alice.run(&["--json", "list", "--all"]);
    let mut people = lines.lines().map(json);
    let bob = people.find(|person| person["user_id"] == net.bob.id.as_str());
    bob.map_or(Value::Null, |bob| bob["trust"].clone())
}

#[test]
fn a_key_is_verified_once_the_words_were_compared_and_not_by_others() {
    let net = Network::start();
    let at_bob = net.bob.watch(&[]);
    eventually("bob to be seen", || (trust_in_bob(&net) == "new").then_some(()));
    net.alice.run(&["tell", "bob", "hello"]);
    at_bob.line_with("\"message\"");
    assert_eq!(trust_in_bob(&net), "pinned");

    // What bob reads out; and what he would if a server had given him another key for alice.
    let words = shown(&net.bob, "alice")["safety_words"].clone();
    let mut words: Vec<&str> = words
        .as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap())
        .collect();
    let told = words.join(" ");
    words.reverse();
    let other = words.join(" ");
    let refused = output_of(&mut net.alice.socp(&["key", "verify", "bob", "--told", &other]));
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("not the same"));
    let unasked = output_of(&mut net.alice.socp(&["key", "verify", "bob"]));
    assert_eq!(unasked.status.code(), Some(1));
    assert_eq!(trust_in_bob(&net), "pinned");

    net.alice.run(&["key", "verify", "bob", "--told", &told]);
    assert_eq!(trust_in_bob(&net), "verified");
    assert!(net.alice.run(&["list"]).contains("bob@srv-b (verified)"));
    net.alice.run(&["key", "verify", "bob", "--undo"]);
    assert_eq!(trust_in_bob(&net), "pinned");
    let twice = output_of(&mut net.alice.socp(&["key", "verify", "bob", "--undo"]));
    assert_eq!(twice.status.code(), Some(1));
}

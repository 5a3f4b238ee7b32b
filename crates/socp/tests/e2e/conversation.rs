//! Two servers, two people, messages both ways; leaving, stopping, coming back.

use crate::process::{Process, Served, User, eventually, json, output_of};
use tempfile::TempDir;

/// Two linked servers and a user on each.
pub(crate) struct Network {
    pub(crate) a: Served,
    pub(crate) b: Served,
    pub(crate) alice: User,
    pub(crate) bob: User,
    pub(crate) dir: TempDir,
}

impl Network {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let a = Served::start(dir.path(), "srv-a", &[]);
        let b = Served::start(dir.path(), "srv-b", &["--bootstrap", &a.bootstrap()]);
        let alice = User::register(dir.path(), "alice", &a.url);
        let bob = User::register(dir.path(), "bob", &b.url);
        Self { a, b, alice, bob, dir }
    }
}

/// Waits until `user` can see all of `ids` in the list, and nobody else.
fn sees(user: &User, ids: &[&str]) {
    let mut expected: Vec<&str> = ids.to_vec();
    expected.sort_unstable();
    eventually("the list to be right", || (user.listed() == expected).then_some(()));
}

/// The next message event, which must be verified: author's name and text.
fn message(watch: &Process) -> (String, String) {
    let event = json(&watch.line_with("\"event\":\"message\""));
    assert_eq!(event["verified"], true, "{event}");
    let text = |key: &str| event[key].as_str().unwrap().to_owned();
    (text("name"), text("text"))
}

#[test]
fn two_people_on_two_servers_talk_and_see_each_other() {
    let net = Network::start();
    let at_bob = net.bob.watch(&[]);
    sees(&net.alice, &[&net.alice.id, &net.bob.id]);
    let at_alice = net.alice.watch(&[]);
    sees(&net.bob, &[&net.alice.id, &net.bob.id]);

    net.alice.run(&["tell", "bob", "hello", "from", "a"]);
    assert_eq!(message(&at_bob), ("alice".to_owned(), "hello from a".to_owned()));
    net.bob.run(&["tell", "alice@srv-a", "höi, 世界 🌍"]);
    assert_eq!(message(&at_alice), ("bob".to_owned(), "höi, 世界 🌍".to_owned()));
    // Longer than one block of 446 bytes.
    let long = "x".repeat(2000);
    net.alice.run(&["tell", &net.bob.id[..8], &long]);
    assert_eq!(message(&at_bob).1, long);

    drop(at_bob);
    sees(&net.alice, &[&net.alice.id]);
}

#[test]
fn a_server_that_was_stopped_comes_back_as_itself_and_everyone_with_it() {
    let net = Network::start();
    let _at_bob = net.bob.watch(&[]);
    let at_alice = net.alice.watch(&[]);
    sees(&net.bob, &[&net.alice.id, &net.bob.id]);

    let (id, key, address) = (
        net.a.server_id.clone(),
        net.a.pubkey.clone(),
        net.a.address().to_owned(),
    );
    net.a.stop();
    sees(&net.bob, &[&net.bob.id]);
    let back = Served::start_on(net.dir.path(), "srv-a", &address, &[]);
    assert_eq!((&back.server_id, &back.pubkey), (&id, &key));

    // Alice's watch and the link between the servers come back without anyone doing anything.
    sees(&net.bob, &[&net.alice.id, &net.bob.id]);
    net.bob.run(&["tell", "alice", "welcome back"]);
    assert_eq!(message(&at_alice).1, "welcome back");
    back.stop();
    net.b.stop();
}

#[test]
fn three_servers_link_through_one_introducer() {
    let net = Network::start();
    let c = Served::start(net.dir.path(), "srv-c", &["--bootstrap", &net.a.bootstrap()]);
    let carol = User::register(net.dir.path(), "carol", &c.url);
    let at_carol = carol.watch(&[]);
    sees(&net.bob, &[&net.bob.id, &carol.id]);
    net.bob.run(&["tell", "carol", "past the introducer"]);
    assert_eq!(message(&at_carol).1, "past the introducer");

    // The introducer is not needed for what is linked.
    net.a.stop();
    net.bob.run(&["tell", "carol", "without it"]);
    assert_eq!(message(&at_carol).1, "without it");
}

#[test]
fn the_same_person_may_have_two_sessions() {
    let net = Network::start();
    let first = net.alice.watch(&[]);
    let second = net.alice.watch(&[]);
    eventually("both to be online", || {
        net.bob.listed().contains(&net.alice.id).then_some(())
    });
    // `tell` as alice is a third session, so all three are side by side.
    net.alice.run(&["tell", &net.alice.id, "note to self"]);
    assert_eq!(message(&first).1, "note to self");
    assert_eq!(message(&second).1, "note to self");
}

#[test]
fn chat_reads_commands_from_a_pipe_and_leaves_when_they_end() {
    let net = Network::start();
    let at_bob = net.bob.watch(&[]);
    sees(&net.alice, &[&net.alice.id, &net.bob.id]);
    let mut chat = Process::start(net.alice.socp(&["chat", "--plain"]));
    chat.type_line("/list");
    assert!(chat.line_with("bob").contains("srv-b"));
    chat.type_line("/tell bob first");
    chat.type_line("second");
    chat.end_input();
    assert_eq!(chat.wait(), Some(0));
    assert_eq!(message(&at_bob).1, "first");
    assert_eq!(message(&at_bob).1, "second");
}

#[test]
fn watch_ends_after_the_wanted_count_and_fails_without_it() {
    let net = Network::start();
    let mut at_bob = net.bob.watch(&["--count", "1"]);
    sees(&net.alice, &[&net.alice.id, &net.bob.id]);
    net.alice.run(&["tell", "bob", "one"]);
    assert_eq!(message(&at_bob).1, "one");
    assert_eq!(at_bob.wait(), Some(0));
    let output = output_of(&mut net.bob.socp(&["watch", "--count", "1", "--timeout", "1"]));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn kill_minus_nine_loses_no_identity_and_no_pin() {
    let net = Network::start();
    let watch = net.bob.watch(&[]);
    sees(&net.alice, &[&net.alice.id, &net.bob.id]);
    drop(watch);
    let (id, address) = (net.b.server_id.clone(), net.b.address().to_owned());
    let mut b = net.b;
    b.process.signal_and_wait("KILL");
    // No bootstrap entry this time: the introducer is known from before.
    let back = Served::start_on(net.dir.path(), "srv-b", &address, &[]);
    assert_eq!(back.server_id, id);
    let at_bob = net.bob.watch(&[]);
    sees(&net.alice, &[&net.alice.id, &net.bob.id]);
    net.alice.run(&["tell", "bob", "still there"]);
    assert_eq!(message(&at_bob).1, "still there");
}

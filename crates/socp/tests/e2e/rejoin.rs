//! Getting into the network and back into it: without the introducer, from another address, under a taken id, twice at
//! once, past entries of the bootstrap list that are of no use.

use crate::letter_client::test_key;
use crate::process::{Served, User, eventually, failure_of, free_ports, json, socp};
use crate::sites::Site;
use crate::wires::Wires;
use std::time::Instant;

/// Waits until each has logged that it is linked to the other.
fn linked(since: Instant, one: &Served, other: &Served) {
    for (here, there) in [(one, other), (other, one)] {
        eventually("the link", || {
            here.process.logged(since, &["peer linked", &there.server_id])
        });
    }
}

/// A message gets through, from a user of one to a user of the other.
fn talk(one: (&User, &Served), other: (&User, &Served)) {
    let at_other = other.0.watch(&["--server", &other.1.url]);
    eventually("the other to be seen", || {
        let lines = one.0.run(&["--json", "--server", &one.1.url, "list"]);
        lines.contains(&other.0.id).then_some(())
    });
    one.0
        .tell_when_seen(&["--server", &one.1.url], &other.0.id, "there you are");
    let event = json(&at_other.line_with("\"event\":\"message\""));
    assert_eq!(
        (&event["text"], &event["verified"]),
        (&"there you are".into(), &true.into())
    );
}

#[test]
fn without_the_introducer_a_server_finds_the_others_from_its_store() {
    let dir = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let mut a = Served::start(dir.path(), "srv-a", &[]);
    let entry = a.bootstrap();
    let b = Served::start(dir.path(), "srv-b", &["--bootstrap", &entry]);
    let mut c = Served::start(dir.path(), "srv-c", &["--bootstrap", &entry]);
    linked(begun, &b, &c);
    let bob = User::register(dir.path(), "bob", &b.url);
    let cleo = User::register(dir.path(), "cleo", &c.url);

    a.process.signal_and_wait("KILL");
    let address = c.address().to_owned();
    c.process.signal_and_wait("KILL");
    let begun = Instant::now();
    let c = Served::start_on(dir.path(), "srv-c", &address, &["--bootstrap", &entry]);
    linked(begun, &b, &c);
    talk((&cleo, &c), (&bob, &b));
    talk((&bob, &b), (&cleo, &c));
}

#[test]
fn a_server_whose_address_changed_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let a = Served::start(dir.path(), "srv-a", &[]);
    let b = Served::start(dir.path(), "srv-b", &["--bootstrap", &a.bootstrap()]);
    linked(begun, &a, &b);
    let ann = User::register(dir.path(), "ann", &a.url);
    let bob = User::register(dir.path(), "bob", &b.url);

    let old = b.url.clone();
    b.stop();
    let begun = Instant::now();
    let b = Served::start(dir.path(), "srv-b", &[]);
    assert_ne!(b.url, old);
    linked(begun, &a, &b);
    talk((&ann, &a), (&bob, &b));

    // Now the other one moves. It can be found by nobody, so it must have stored where the first one is now.
    let old = a.url.clone();
    a.stop();
    let begun = Instant::now();
    let a = Served::start(dir.path(), "srv-a", &[]);
    assert_ne!(a.url, old);
    linked(begun, &a, &b);
    talk((&bob, &b), (&ann, &a));
}

#[test]
fn of_two_servers_with_one_id_the_second_gets_another_and_keeps_it() {
    const ID: &str = "dddddddd-0000-4000-8000-000000000000";
    let dir = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let a = Served::start(dir.path(), "srv-a", &[]);
    let entry = a.bootstrap();
    let flags = ["--server-id", ID, "--bootstrap", &entry];
    let first = Served::start(dir.path(), "first", &flags);
    linked(begun, &a, &first);
    let mut second = Served::start(dir.path(), "second", &flags);
    assert_eq!((second.server_id.as_str(), first.server_id.as_str()), (ID, ID));
    assert_ne!(second.pubkey, first.pubkey);

    let (_, line) = eventually("the other id", || {
        let words = ["assigned another id", &format!("wished={ID}")];
        second.process.logged_line(begun, &words)
    });
    second.server_id = line.rsplit_once("assigned=").unwrap().1.to_owned();
    linked(begun, &a, &second);
    linked(begun, &first, &second);
    let (assigned, data) = (second.server_id.clone(), second.data.clone());
    assert_ne!(assigned, ID);
    second.stop();

    // Its own id now; the taken one would be somebody else's.
    let mut wrong = socp();
    wrong.args([
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--log",
        "error",
        "--server-id",
        ID,
        "--data",
    ]);
    let (code, why) = failure_of(wrong.arg(&data));
    assert_eq!(code, 1);
    assert!(why.contains(&assigned) && why.contains(ID), "{why}");
    let begun = Instant::now();
    let second = Served::start(dir.path(), "second", &["--bootstrap", &entry]);
    assert_eq!(second.server_id, assigned);
    linked(begun, &a, &second);
    linked(begun, &first, &second);
    // The other one is who it was.
    let at_first = User::register(dir.path(), "fay", &first.url);
    let at_second = User::register(dir.path(), "sue", &second.url);
    talk((&at_first, &first), (&at_second, &second));
    talk((&at_second, &second), (&at_first, &first));
}

#[test]
fn two_links_between_one_pair_become_one() {
    let (wires, dir) = (Wires::new(), tempfile::tempdir().unwrap());
    let begun = Instant::now();
    // Each has the other in its bootstrap list, and after the first time in its store as well.
    let a = Site::start(&wires, dir.path(), "a", &[]);
    let b = Site::start(&wires, dir.path(), "b", &[a.bootstrap()]);
    let (to_a, to_b) = ([a.bootstrap()], [b.bootstrap()]);
    linked(begun, &a.served, &b.served);
    let a = a.restart(dir.path(), "TERM", &to_b);
    let begun = Instant::now();
    // Both start at the same time, and so dial at the same time.
    let (a, b) = std::thread::scope(|scope| {
        let a = scope.spawn(|| a.restart(dir.path(), "KILL", &to_b));
        let b = scope.spawn(|| b.restart(dir.path(), "KILL", &to_a));
        (a.join().unwrap(), b.join().unwrap())
    });
    linked(begun, &a.served, &b.served);
    eventually("one link", || (wires.open().len() == 1).then_some(()));
    let ann = User::register(dir.path(), "ann", &a.served.url);
    let bob = User::register(dir.path(), "bob", &b.served.url);
    talk((&ann, &a.served), (&bob, &b.served));
    talk((&bob, &b.served), (&ann, &a.served));
    assert_eq!(wires.open().len(), 1, "{:?}", wires.open());
}

#[test]
fn a_server_gets_in_past_a_dead_entry_and_one_with_another_key() {
    let dir = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let good = Served::start(dir.path(), "good", &[]);
    let false_friend = Served::start(dir.path(), "false-friend", &[]);
    let dead = format!("ws://127.0.0.1:{}#{}", free_ports(1), test_key("alice").spki);
    let wrong = format!("{}#{}", false_friend.url, test_key("server").spki);
    let entries = [
        "--bootstrap",
        &dead,
        "--bootstrap",
        &wrong,
        "--bootstrap",
        &good.bootstrap(),
    ];
    let newcomer = Served::start(dir.path(), "newcomer", &entries);
    linked(begun, &newcomer, &good);
    eventually("the dead entry to be told", || {
        newcomer.process.logged(begun, &["WARN", "cannot reach a server"])
    });
    eventually("the wrong key to be told", || {
        newcomer.process.logged(
            begun,
            &["WARN", "has not the key it should have", false_friend.address()],
        )
    });
    let ann = User::register(dir.path(), "ann", &newcomer.url);
    let bob = User::register(dir.path(), "bob", &good.url);
    talk((&ann, &newcomer), (&bob, &good));
    talk((&bob, &good), (&ann, &newcomer));
    // With the wrong key it is nobody to us, whatever it says.
    let eve = User::register(dir.path(), "eve", &false_friend.url);
    assert_eq!(eve.listed(), [eve.id.as_str()]);
    let known = newcomer
        .process
        .logged(begun, &["peer linked", &false_friend.server_id]);
    assert_eq!(known, None);
}

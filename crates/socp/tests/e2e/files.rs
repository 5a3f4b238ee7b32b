//! Files to people on other servers and to the channel: byte for byte, checked at both ends.

use crate::conversation::Network;
use crate::pictures::{arrival, arrived, downloads, png, save};
use crate::process::{Process, Served, User, eventually, failure_of, json};
use serde_json::Value;
use std::path::Path;

/// Waits until somebody sees all of these.
fn sees(user: &User, others: &[&User]) {
    eventually("the others to be seen", || {
        let listed = user.listed();
        others.iter().all(|other| listed.contains(&other.id)).then_some(())
    });
}

/// Checks what arrived as this: its event, its name, every byte, and that nothing else is there.
fn arrived_whole(watch: &Process, user: &User, author: &User, to: &str, name: &str, bytes: &[u8]) {
    let event = arrival(watch);
    assert_eq!(
        (&event["status"], &event["verified"]),
        (&"received".into(), &true.into()),
        "{event}"
    );
    assert_eq!(
        (&event["from"], &event["to"]),
        (&author.id.as_str().into(), &to.into()),
        "{event}"
    );
    assert_eq!(
        (&event["file"], &event["size"]),
        (&name.into(), &bytes.len().into()),
        "{event}"
    );
    let path = downloads(user).join(name);
    assert_eq!(Path::new(event["path"].as_str().unwrap()), path);
    assert_eq!(arrived(user), [path.as_path()]);
    assert!(std::fs::read(path).unwrap() == bytes, "not what was sent");
}

/// The last object about each receiver that `socp file --json` prints.
fn ends(output: &str) -> Vec<Value> {
    let events = output.lines().map(json);
    events.filter(|event| event["status"] != "sending").collect()
}

#[test]
fn a_picture_for_a_user_on_another_server_arrives_byte_for_byte() {
    let net = Network::start();
    let at_bob = net.bob.watch(&[]);
    sees(&net.alice, &[&net.bob]);
    let bytes = png(60);
    let picture = save(net.dir.path(), "holiday.png", &bytes);
    // Both are there all the time, so that neither thinks that the other has left.
    let at_alice = Process::start(net.alice.socp(&["chat", "--plain"]));
    at_alice.line_with("connected to");
    let said = net.alice.run(&["--json", "file", "bob", picture.to_str().unwrap()]);
    let ends = ends(&said);
    assert_eq!((ends.len(), &ends[0]["status"]), (1, &"received".into()), "{said}");
    assert_eq!(ends[0]["to"], net.bob.id.as_str());
    arrived_whole(&at_bob, &net.bob, &net.alice, &net.bob.id, "holiday.png", &bytes);

    // From a chat to a chat, the other way, in words.
    let mut chat = Process::start(net.bob.socp(&["chat", "--plain"]));
    chat.type_line(&format!("/file alice@srv-a {}", picture.display()));
    let told = chat.line_with("received by");
    for words in ["holiday.png", "alice@srv-a", "size and SHA-256 checked"] {
        assert!(told.contains(words), "{told}");
    }
    let path = downloads(&net.alice).join("holiday.png");
    let kept = at_alice.line_with("kept as");
    assert!(
        kept.contains('✓') && kept.contains("bob") && kept.contains(path.to_str().unwrap()),
        "{kept}"
    );
    assert!(std::fs::read(path).unwrap() == bytes);
    for mut chat in [at_alice, chat] {
        chat.type_line("/quit");
        assert_eq!(chat.wait(), Some(0));
    }
}

#[test]
fn a_picture_for_the_channel_reaches_everyone_byte_for_byte() {
    let net = Network::start();
    let c = Served::start(net.dir.path(), "srv-c", &["--bootstrap", &net.a.bootstrap()]);
    let carol = User::register(net.dir.path(), "carol", &c.url);
    let dave = User::register(net.dir.path(), "dave", &net.a.url);
    let readers = [&net.bob, &carol, &dave];
    let watching = readers.map(|reader| reader.watch(&[]));
    sees(&net.alice, &readers);
    let (first, second) = (png(40), png(30));
    let picture = save(net.dir.path(), "for-all.png", &first);
    let said = net.alice.run(&["--json", "file", "all", picture.to_str().unwrap()]);
    let ends = ends(&said);
    assert_eq!(ends.len(), readers.len(), "{said}");
    for reader in &readers {
        let end = ends.iter().find(|end| end["to"] == reader.id.as_str());
        assert_eq!(end.unwrap()["status"], "received", "{said}");
    }
    for (reader, watch) in readers.iter().zip(&watching) {
        arrived_whole(watch, reader, &net.alice, "public", "for-all.png", &first);
    }

    // The same name again, from a chat, is another file and overwrites nothing.
    save(net.dir.path(), "for-all.png", &second);
    let mut chat = Process::start(net.alice.socp(&["--json", "chat", "--plain"]));
    chat.type_line(&format!("/file all {}", picture.display()));
    for (reader, watch) in readers.iter().zip(&watching) {
        let event = arrival(watch);
        assert_eq!(
            (&event["status"], &event["to"]),
            (&"received".into(), &"public".into()),
            "{event}"
        );
        assert!(std::fs::read(event["path"].as_str().unwrap()).unwrap() == second);
        assert!(std::fs::read(downloads(reader).join("for-all.png")).unwrap() == first);
        assert_eq!(arrived(reader).len(), 2);
    }
    chat.end_input();
    assert_eq!(chat.wait(), Some(0));
}

#[test]
fn names_cannot_leave_the_folder_and_a_file_too_large_is_told_to_both() {
    let net = Network::start();
    let at_bob = net.bob.watch(&["--max-size", "2K"]);
    sees(&net.alice, &[&net.bob]);
    let hidden = save(net.dir.path(), ".profile", b"rm -rf");
    net.alice.run(&["file", "bob", hidden.to_str().unwrap()]);
    let event = arrival(&at_bob);
    assert_eq!(
        (&event["status"], &event["file"]),
        (&"received".into(), &".profile".into()),
        "{event}"
    );
    let path = Path::new(event["path"].as_str().unwrap());
    assert_eq!(path.parent(), Some(downloads(&net.bob).as_path()));
    assert!(!path.file_name().unwrap().to_str().unwrap().starts_with('.'), "{event}");

    let large = save(net.dir.path(), "large.png", &png(30));
    let (code, why) = failure_of(&mut net.alice.socp(&["file", "bob", large.to_str().unwrap()]));
    assert_eq!(code, 1);
    assert!(
        why.contains("large.png") && why.contains("bob") && why.contains("2048"),
        "{why}"
    );
    let event = arrival(&at_bob);
    assert_eq!(
        (&event["status"], &event["path"]),
        (&"failed".into(), &Value::Null),
        "{event}"
    );
    assert!(event["detail"].as_str().unwrap().contains("2048"), "{event}");
    assert_eq!(arrived(&net.bob).len(), 1);
}

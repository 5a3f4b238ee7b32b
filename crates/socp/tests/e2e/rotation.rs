//! A server gets a new key: others follow the one before, and a change that was interrupted is finished.

use crate::process::{Served, User, eventually, failure_of, json, output_of, socp, stdout_of};
use serde_json::Value;
use std::path::Path;

fn rotate(data: &Path, args: &[&str]) -> std::process::Command {
    let mut command = socp();
    command
        .args(["--json", "admin", "rotate-key", "--data"])
        .arg(data)
        .args(args);
    command
}

/// What a server knows of another.
fn pin(data: &Path, server_id: &str) -> Option<Value> {
    let mut command = socp();
    command.args(["--json", "admin", "pins", "--data"]).arg(data);
    let pins = stdout_of(&mut command);
    pins.lines().map(json).find(|pin| pin["server_id"] == server_id)
}

fn is_linked_with(data: &Path, server_id: &str, fingerprint: &Value) -> Option<()> {
    let pin = pin(data, server_id)?;
    (pin["linked"] == true && pin["fingerprint"] == *fingerprint).then_some(())
}

#[test]
fn a_server_with_a_new_key_is_known_by_it_at_once_and_not_by_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let a = Served::start(dir.path(), "a", &[]);
    let b = Served::start(dir.path(), "b", &["--bootstrap", &a.bootstrap()]);
    let (data, id, old_key) = (b.data.clone(), b.server_id.clone(), b.pubkey.clone());
    let before = eventually("a to know b", || pin(&a.data, &id).filter(|pin| pin["linked"] == true));
    let (code, said) = failure_of(&mut rotate(&data, &["--yes"]));
    assert!(code == 1 && said.contains("in use"), "{said}");
    b.stop();
    let old = std::fs::read(data.join("server.key")).unwrap();
    let (code, said) = failure_of(&mut rotate(&data, &[]));
    assert!(code == 1 && said.contains("--yes"), "{said}");
    assert_eq!(
        std::fs::read(data.join("server.key")).unwrap(),
        old,
        "nothing was changed"
    );

    let rotated = json(&stdout_of(&mut rotate(&data, &["--yes"])));
    assert_eq!(
        (&rotated["server_id"], &rotated["before"]),
        (&Value::from(id.as_str()), &before["fingerprint"])
    );
    assert!(!data.join("server.key.next").exists());
    let b = Served::start(dir.path(), "b", &["--bootstrap", &a.bootstrap()]);
    assert_eq!(b.server_id, id);
    assert_ne!(b.pubkey, old_key);
    eventually("a to follow", || is_linked_with(&a.data, &id, &rotated["fingerprint"]));

    // Whoever joins with a list that names the key before finds it too.
    let entry = format!("{}#{old_key}", b.url);
    let c = Served::start(dir.path(), "c", &["--bootstrap", &entry]);
    eventually("c to find b", || is_linked_with(&c.data, &id, &rotated["fingerprint"]));
    b.stop();

    // The key before is good for nothing any more.
    std::fs::write(data.join("server.key"), old).unwrap();
    let mut command = socp();
    command.args(["serve", "--listen", "127.0.0.1:0", "--log", "error", "--data"]);
    let (_, said) = failure_of(command.arg(&data));
    assert!(said.contains("not the key of this database"), "{said}");
}

#[test]
fn a_change_of_keys_that_was_interrupted_is_finished_by_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path(), "srv", &[]);
    let (data, id) = (served.data.clone(), served.server_id.clone());
    served.stop();
    let (key, next) = (data.join("server.key"), data.join("server.key.next"));
    let old = std::fs::read(&key).unwrap();
    let rotated = json(&stdout_of(&mut rotate(&data, &["--yes"])));

    // As if the power had failed before the new key took its place.
    std::fs::rename(&key, &next).unwrap();
    std::fs::write(&key, old).unwrap();
    let served = Served::start(dir.path(), "srv", &[]);
    assert_eq!(served.server_id, id);
    assert!(!next.exists());
    let mut status = socp();
    status.args(["--json", "admin", "status", "--data"]).arg(&data);
    assert_eq!(json(&stdout_of(&mut status))["fingerprint"], rotated["fingerprint"]);
    served.stop();

    // And whoever sets a passphrase before that start loses nothing.
    let (old, passphrase) = (std::fs::read(&key).unwrap(), dir.path().join("passphrase"));
    let again = json(&stdout_of(&mut rotate(&data, &["--yes"])));
    std::fs::rename(&key, &next).unwrap();
    std::fs::write(&key, old).unwrap();
    std::fs::write(&passphrase, "correct horse").unwrap();
    let change = |args: &[&str]| {
        let mut command = socp();
        command.args(["admin", "passphrase", "--data"]).arg(&data).args(args);
        stdout_of(&mut command)
    };
    let passphrase = passphrase.to_str().unwrap();
    change(&["--new-passphrase-file", passphrase]);
    Served::start(dir.path(), "srv", &["--passphrase-file", passphrase]).stop();
    change(&["--passphrase-file", passphrase, "--remove"]);
    let rotated = again;

    // As if it had failed before the database named it: what lies there counts for nothing.
    std::fs::write(&next, "half a key").unwrap();
    Served::start(dir.path(), "srv", &[]).stop();
    let again = json(&stdout_of(&mut rotate(&data, &["--yes"])));
    assert_eq!(again["before"], rotated["fingerprint"]);
}

#[test]
fn users_follow_their_server_to_its_new_key() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path(), "srv", &[]);
    let (data, listen) = (served.data.clone(), served.address().to_owned());
    let [alice, bob] = ["alice", "bob"].map(|name| User::register(dir.path(), name, &served.url));
    for user in [&alice, &bob] {
        user.run(&["list"]);
    }
    served.stop();
    let rotated = json(&stdout_of(&mut rotate(&data, &["--yes"])));
    assert_eq!(rotated["users"], 2);

    let served = Served::start_on(dir.path(), "srv", &listen, &[]);
    let watching = bob.watch(&["--count", "1"]);
    eventually("bob to be there", || alice.listed().contains(&bob.id).then_some(()));
    let told = output_of(&mut alice.socp(&["tell", &bob.id, "after the change"]));
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    assert!(watching.line_with("after the change").contains("\"verified\":true"));

    // Whoever has followed does not go back, and says so.
    let database = rusqlite::Connection::open(alice.profile.join("profile.db")).unwrap();
    let pinned: String = database
        .query_row("SELECT server_pub FROM servers", [], |row| row.get(0))
        .unwrap();
    assert_eq!(pinned, served.pubkey);
}

//! What keeps a server from starting: one line that says what, why and what to do.

use crate::process::{Served, failure_of, socp};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

fn serve(data: &Path, more: &[&str]) -> (i32, String) {
    let mut command = socp();
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(data)
        .args(more)
        .args(["--log", "error"]);
    failure_of(&mut command)
}

#[track_caller]
fn says(failure: &(i32, String), code: i32, words: &[&str]) {
    assert_eq!(failure.0, code, "{}", failure.1);
    for word in words {
        assert!(failure.1.contains(word), "{word:?} is missing in {:?}", failure.1);
    }
    if code == 1 {
        assert_eq!(failure.1.lines().count(), 1, "{}", failure.1);
    }
}

#[test]
fn a_port_or_directory_in_use_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let running = Served::start(dir.path(), "srv", &[]);
    let other = dir.path().join("other");
    says(&serve(&other, &["--listen", running.address()]), 2, &["--listen"]);
    let mut command = socp();
    command
        .args(["serve", "--log", "error", "--listen", running.address(), "--data"])
        .arg(&other);
    says(&failure_of(&mut command), 1, &[running.address(), "in use", "--listen"]);
    says(&serve(&running.data, &[]), 1, &["in use by another server", "--data"]);
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    says(&serve(&file, &[]), 1, &["cannot use", "file"]);
    says(&serve(&file.join("below"), &[]), 1, &["cannot use", "below"]);
}

#[test]
fn a_database_of_a_later_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path(), "srv", &[]);
    let data = server.data.clone();
    server.stop();
    let database = rusqlite::Connection::open(data.join("server.db")).unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    drop(database);
    says(&serve(&data, &[]), 1, &["version 99", "newer program"]);
    std::fs::write(
        data.join("server.db"),
        "this is no database, and long enough to show it",
    )
    .unwrap();
    says(&serve(&data, &[]), 1, &["server.db", "not a database", "backup"]);
}

#[test]
fn a_missing_or_foreign_key_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path(), "srv", &[]);
    let data = server.data.clone();
    server.stop();
    let other = Served::start(dir.path(), "other", &[]);
    let (key, unlock) = (other.data.join("server.key"), other.data.join("server.unlock"));
    std::fs::rename(data.join("server.key"), data.join("kept")).unwrap();
    says(&serve(&data, &[]), 1, &["server.key"]);
    std::fs::write(data.join("server.key"), "{}").unwrap();
    says(&serve(&data, &[]), 1, &["server.key", "backup"]);
    std::fs::copy(key, data.join("server.key")).unwrap();
    says(&serve(&data, &[]), 1, &["server.key"]);
    std::fs::copy(unlock, data.join("server.unlock")).unwrap();
    says(&serve(&data, &[]), 1, &["not the key of this database"]);
    says(&serve(&other.data.clone(), &[]), 1, &["in use"]);
}

#[test]
fn only_the_owner_can_read_what_is_secret() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path(), "srv", &[]);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&server.data), 0o700);
    for file in ["server.key", "server.unlock"] {
        assert_eq!(mode(&server.data.join(file)), 0o600, "{file}");
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("srv");
    says(
        &serve(&data, &["--bootstrap", "127.0.0.1:1"]),
        1,
        &["must begin with ws://"],
    );
    says(
        &serve(&data, &["--bootstrap", "ws://127.0.0.1:1#AAAA"]),
        1,
        &["not usable"],
    );
    says(&serve(&data, &["--server-id", "a b"]), 1, &["--server-id"]);
    says(&serve(&data, &["--accept", "nobody"]), 2, &["--accept"]);
    let mut open = socp();
    open.args([
        "serve",
        "--log",
        "error",
        "--listen",
        "0.0.0.0:0",
        "--accept",
        "open",
        "--data",
    ])
    .arg(&data);
    says(&failure_of(&mut open), 2, &["--i-know-open-is-unsafe"]);
}

#[test]
fn an_unreachable_bootstrap_does_not_keep_a_server_from_serving() {
    let dir = tempfile::tempdir().unwrap();
    // A port that was free a moment ago, and on which nobody listens.
    let gone = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let server = Served::start(dir.path(), "srv", &["--bootstrap", &format!("ws://{gone}")]);
    server.stop();
}

//! What people get for messages that cannot be sent, and for texts that would play with their terminal.

use crate::letter_client::{LetterClient, test_key};
use crate::process::{Process, Served, User, eventually, failure_of, socp};
use std::io::Write as _;
use std::process::{Command, Stdio};

/// One clear line, exit 1.
#[track_caller]
fn says(command: &mut Command, words: &[&str]) {
    let (code, stderr) = failure_of(command);
    assert_eq!((code, stderr.lines().count()), (1, 1), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} is missing in {stderr:?}");
    }
}

#[test]
fn a_message_that_cannot_be_sent_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let a = Served::start(dir.path(), "srv-a", &["--accept", "open"]);
    let alice = User::register(dir.path(), "alice", &a.url);
    let sam = |id: &str, key: &str| {
        let mut client = LetterClient::connect(a.address(), id, test_key(key), 32);
        let spki = client.key.spki.clone();
        let meta = serde_json::json!({"display_name": "sam"});
        client.send(
            "USER_HELLO",
            "*",
            serde_json::json!({"client": "x", "pubkey": spki, "meta": meta}),
        );
        client.receive_type("ACK");
        client
    };
    let _both = (sam("sam-one", "alice"), sam("sam-two", "bob"));

    says(&mut alice.socp(&["tell", "nobody", "hello"]), &["nobody"]);
    says(&mut alice.socp(&["tell", "sam", "hello"]), &["sam-one", "sam-two"]);
    says(&mut alice.socp(&["tell", "sam-one", ""]), &["empty"]);

    let mut long = alice.socp(&["tell", "sam-one", "-"]);
    let mut child = long
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&vec![b'x'; 1_000_000]).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("1000000") && stderr.contains("65536"), "{stderr}");
}

#[test]
fn a_wrong_password_is_one_clear_line() {
    let dir = tempfile::tempdir().unwrap();
    let profile = dir.path().join("alice");
    let run = |password: &str, args: &[&str]| {
        let mut command = socp();
        command
            .arg("--profile")
            .arg(&profile)
            .arg("--password-stdin")
            .args(args);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that needs no password may have closed its input already.
        let _unread = writeln!(child.stdin.take().unwrap(), "{password}");
        child.wait_with_output().unwrap()
    };
    assert!(run("right", &["register", "--name", "alice"]).status.success());
    let output = run("wrong", &["--server", "ws://127.0.0.1:1", "list"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.contains("password"), "{stderr}");
}

#[test]
fn control_characters_are_shown_and_never_obeyed() {
    let dir = tempfile::tempdir().unwrap();
    let a = Served::start(dir.path(), "srv-a", &["--accept", "open"]);
    let alice = User::register(dir.path(), "alice", &a.url);
    let watch = Process::start(alice.socp(&["watch"]));
    let mut mallory = LetterClient::hello(a.address(), "mallory", test_key("bob"), 32);
    eventually("alice to be online", || {
        let server = mallory.server_id.clone();
        mallory.send("LIST_REQUEST", &server, serde_json::json!({}));
        let users = mallory.receive_type("LIST_RESPONSE")["payload"]["users"].to_string();
        users.contains(&alice.id).then_some(())
    });
    mallory.tell(
        &alice.id,
        "\u{1b}]0;owned\u{7}\u{1b}[2J red\u{202e}txt.exe\r\nfake: line",
    );
    let line = watch.line_with("red");
    assert!(
        line.contains("mallory") && line.contains("\\u{1b}[2J") && line.contains("\\u{202e}"),
        "{line:?}"
    );
    assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line:?}");
    assert!(line.contains("fake: line"), "one message, one line: {line:?}");
}

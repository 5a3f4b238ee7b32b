//! The command line where no server is needed: arguments in, output and status out.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

const COMMANDS: &[&[&str]] = &[
    &[],
    &["register"],
    &["list"],
    &["tell"],
    &["watch"],
    &["chat"],
    &["key"],
    &["key", "show"],
    &["key", "fingerprint"],
    &["key", "verify"],
];

/// Nothing listens there: port 1 is for root.
const NOWHERE: &str = "ws://127.0.0.1:1";

fn socp(profile: &Path, args: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_socp"))
        .args(args)
        .env("SOCP_PROFILE", profile)
        .env_remove("SOCP_SERVER")
        .env_remove("SOCP_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that fails before it reads closes the pipe.
    drop(child.stdin.take().unwrap().write_all(stdin.as_bytes()));
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Status 1, nothing on standard output, one line that says all of `said` on standard error.
#[track_caller]
fn assert_fails(output: &Output, said: &[&str]) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(text(&output.stdout), "");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("socp: "), "{stderr}");
    for word in said {
        assert!(stderr.contains(word), "{word:?} is missing in {stderr}");
    }
}

fn registered(args: &[&str], stdin: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let output = socp(dir.path(), &[&["register"], args].concat(), stdin);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    (dir, text(&output.stdout).trim().to_owned())
}

#[test]
fn every_command_has_help_with_an_example() {
    let dir = tempfile::tempdir().unwrap();
    for command in COMMANDS {
        let output = socp(dir.path(), &[command, &["--help"][..]].concat(), "");
        let help = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{command:?}");
        assert!(help.contains("Example:\n  socp "), "{command:?}: {help}");
    }
}

#[test]
fn tell_says_what_its_exit_codes_mean() {
    let dir = tempfile::tempdir().unwrap();
    let help = text(&socp(dir.path(), &["tell", "--help"], "").stdout);
    let (_, codes) = help.split_once("Exit codes:\n").unwrap();
    for code in ["  0  ", "  1  ", "  2  "] {
        assert!(codes.contains(code), "{help}");
    }
}

#[test]
fn a_message_that_cannot_be_is_refused_before_anyone_is_called() {
    let (dir, _) = registered(&["--server", NOWHERE], "");
    let long = "€".repeat(400_000);
    assert_fails(&socp(dir.path(), &["tell", "bob", "-"], &long), &["not sent", "65536"]);
    assert_fails(&socp(dir.path(), &["tell", "bob", ""], ""), &["empty"]);
    assert_fails(
        &socp(dir.path(), &["tell", "bob", "-"], "\n"),
        &["the message is empty"],
    );
}

#[test]
fn the_log_setting_of_a_profile_is_not_a_servers() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("socp.toml"), "nonsense = 1\n").unwrap();
    let data = dir.path().join("file");
    std::fs::write(&data, "").unwrap();
    let data = data.to_str().unwrap();
    for args in [
        &["serve", "--listen", "127.0.0.1:0", "--data", data][..],
        &["demo", "--data", data],
    ] {
        let output = socp(dir.path(), args, "");
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let stderr = text(&output.stderr);
        assert!(!stderr.contains("socp.toml"), "{stderr}");
    }
    assert_fails(&socp(dir.path(), &["list"], ""), &["socp.toml"]);
}

#[test]
fn a_password_comes_before_the_message_on_standard_input() {
    let (dir, _) = registered(&["--password-stdin", "--server", NOWHERE], "horse\n");
    let args = ["tell", "bob", "-", "--password-stdin"];
    assert_fails(&socp(dir.path(), &args, "horse\n"), &["the message is empty"]);
    assert_fails(&socp(dir.path(), &args, "horse\nhello\n"), &["cannot reach"]);
}

/// Ends with the test.
struct Running {
    child: Child,
    /// Open, or the program would end when it next prints.
    _stdout: BufReader<ChildStdout>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A program that goes on, and the first line that it prints.
fn running(args: &[&str]) -> (Running, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_socp"))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    (Running { child, _stdout: stdout }, line)
}

#[test]
fn a_first_contact_is_told_once_and_not_to_scripts() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path().to_str().unwrap();
    let (_server, ready) = running(&["serve", "--listen", "127.0.0.1:0", "--name", "srv-a", "--data", data]);
    let ready: serde_json::Value = serde_json::from_str(ready.strip_prefix("ready ").unwrap()).unwrap();
    let server = ready["listen"].as_str().unwrap();
    let (bob, bob_id) = registered(&["--name", "bob", "--server", server], "");
    let profile = bob.path().to_str().unwrap();
    let (_watch, online) = running(&["watch", "--json", "--profile", profile]);
    assert!(online.contains("online"), "{online}");
    let (alice, _) = registered(&["--name", "alice", "--server", server], "");
    let told = socp(alice.path(), &["tell", "bob", "hi"], "");
    let key = socp(alice.path(), &["key", "fingerprint", "bob"], "");
    let stderr = text(&told.stderr);
    let lines: Vec<&str> = stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{stderr}");
    assert!(lines[0].starts_with("socp: first contact with srv-a, key "), "{stderr}");
    let key = text(&key.stdout);
    let key = key.lines().next().unwrap();
    let met = format!("socp: first contact with bob@srv-a ({bob_id}), key {key}");
    assert_eq!(lines[1], met);
    assert_eq!(
        text(&told.stdout),
        format!("sent to bob@srv-a ({bob_id}), on your server\n")
    );
    assert_eq!(text(&socp(alice.path(), &["list"], "").stderr), "");
    let (carl, _) = registered(&["--server", server], "");
    assert_eq!(text(&socp(carl.path(), &["list", "--json"], "").stderr), "");
}

#[test]
fn wrong_usage_exits_with_2() {
    let dir = tempfile::tempdir().unwrap();
    let wrong: &[&[&str]] = &[
        &[],
        &["nonsense"],
        &["tell"],
        &["tell", "bob"],
        &["list", "--nonsense"],
        &["watch", "--count", "many"],
        &["key"],
    ];
    for args in wrong {
        assert_eq!(socp(dir.path(), args, "").status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn without_an_identity_every_command_says_how_to_make_one() {
    let dir = tempfile::tempdir().unwrap();
    for args in [
        &["list"][..],
        &["tell", "bob", "hi"],
        &["watch"],
        &["chat"],
        &["key", "show"],
    ] {
        assert_fails(&socp(dir.path(), args, ""), &["no identity", "socp register"]);
    }
}

#[test]
fn register_prints_the_id_once_and_refuses_a_second_time() {
    let (dir, user) = registered(&["--name", "alice"], "");
    assert_eq!(user.len(), 36);
    assert_fails(&socp(dir.path(), &["register"], ""), &["already", &user]);
    let shown = socp(dir.path(), &["key", "show", "--json"], "");
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(
        (shown["user_id"].as_str(), shown["name"].as_str()),
        (Some(&*user), Some("alice"))
    );
    let fingerprint = socp(dir.path(), &["key", "fingerprint"], "");
    assert_eq!(text(&fingerprint.stdout).trim(), shown["fingerprint"]);
}

#[test]
fn register_as_json_is_one_object() {
    let (_dir, line) = registered(&["--name", "alice", "--display", "Alice L.", "--json"], "");
    let object: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(object["display_name"], "Alice L.");
    assert!(object["user_id"].is_string() && object["fingerprint"].is_string());
}

#[test]
fn names_and_addresses_that_cannot_be_used_make_no_identity() {
    let table: [(&[&str], &str); 4] = [
        (&["--name", "a b"], "--name"),
        (&["--name", "a@b"], "--name"),
        (&["--server", "http://x"], "ws://"),
        (&["--server", "wss://x#short"], "not the pin of a certificate"),
    ];
    for (args, said) in table {
        let dir = tempfile::tempdir().unwrap();
        assert_fails(&socp(dir.path(), &[&["register"], args].concat(), ""), &[said]);
        assert_fails(&socp(dir.path(), &["key", "show"], ""), &["no identity"]);
    }
}

#[test]
fn an_unreachable_server_is_one_clear_line() {
    let (dir, _) = registered(&[], "");
    assert_fails(&socp(dir.path(), &["list"], ""), &["no server is known", "--server"]);
    for args in [&["list"][..], &["tell", "bob", "hi"], &["watch"], &["chat", "--plain"]] {
        let output = socp(dir.path(), &[args, &["--server", NOWHERE]].concat(), "");
        assert_fails(&output, &["cannot reach ws://127.0.0.1:1/"]);
    }
}

#[test]
fn settings_count_flag_first_then_environment_then_file() {
    let (dir, _) = registered(&[], "");
    std::fs::write(dir.path().join("socp.toml"), "server = 'ws://127.0.0.1:2'\n").unwrap();
    assert_fails(&socp(dir.path(), &["list"], ""), &["127.0.0.1:2"]);
    assert_fails(&socp(dir.path(), &["list", "--server", NOWHERE], ""), &["127.0.0.1:1"]);
    std::fs::write(dir.path().join("socp.toml"), "sever = 'ws://127.0.0.1:2'\n").unwrap();
    assert_fails(&socp(dir.path(), &["list"], ""), &["socp.toml", "sever"]);
}

#[test]
fn a_password_protects_the_key() {
    let (dir, _) = registered(&["--password-stdin", "--server", NOWHERE], "correct horse\n");
    assert_fails(&socp(dir.path(), &["list"], ""), &["password", "--password-stdin"]);
    let with = |password| socp(dir.path(), &["list", "--password-stdin"], password);
    assert_fails(&with("wrong horse\n"), &["wrong password"]);
    assert_fails(&with("correct horse\n"), &["cannot reach"]);
}

#[test]
fn a_user_without_a_pin_has_no_fingerprint() {
    let (dir, _) = registered(&[], "");
    assert_fails(&socp(dir.path(), &["key", "fingerprint", "bob"], ""), &["bob"]);
}

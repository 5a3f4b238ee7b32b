//! Identities on their way from profile to profile, and keys that change.

use crate::conversation::Network;
use crate::process::{Process, User, eventually, failure_of, json, output_of, socp};
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

/// Runs a command with these lines on standard input; its status and what it says.
fn with_input(command: &mut std::process::Command, lines: &str) -> (bool, String) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Who refuses at once reads nothing.
    let _unread = child.stdin.take().unwrap().write_all(lines.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

fn import(profile: &Path, file: &Path, lines: &str) -> (bool, String) {
    let mut command = socp();
    command
        .arg("--profile")
        .arg(profile)
        .args(["--password-stdin", "key", "import"]);
    with_input(command.arg(file), lines)
}

#[test]
fn an_identity_goes_from_one_profile_to_another_in_one_encrypted_file() {
    let net = Network::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("alice.socp-identity");
    let export = |lines: &str| {
        let mut command = net.alice.socp(&["--password-stdin", "key", "export"]);
        with_input(command.arg(&file), lines)
    };
    let (done, said) = export("\n\n");
    assert!(!done && said.contains("needs a password") && !file.exists(), "{said}");
    let (done, said) = export("\ncorrect horse\n");
    assert!(done && said.contains(&net.alice.id), "{said}");
    let (done, said) = export("\ncorrect horse\n");
    assert!(!done && said.contains("exists already"), "{said}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    let profile = dir.path().join("elsewhere");
    let (done, said) = import(&profile, &file, "wrong\n");
    assert!(!done && said.contains("wrong password"), "{said}");
    let (done, said) = import(&profile, &file, "correct horse\nnew password\n");
    assert!(done && said.contains(&net.alice.id), "{said}");
    let (done, said) = import(&profile, &file, "correct horse\n");
    assert!(!done && said.contains("already holds the identity"), "{said}");

    // The same keys, and the same person to others.
    let elsewhere = User {
        profile,
        id: net.alice.id.clone(),
    };
    let shown = |user: &User| {
        let mut shown = json(&user.run(&["--json", "key", "show"]));
        // Each profile has its own protection.
        let at_rest = shown.as_object_mut().unwrap().remove("at_rest");
        (shown, at_rest)
    };
    let [(there, at_rest_there), (here, at_rest_here)] = [shown(&elsewhere), shown(&net.alice)];
    assert_eq!(there, here);
    assert_eq!(
        (at_rest_there, at_rest_here),
        (Some("password".into()), Some("file".into()))
    );
    let shown = |user: &User| shown(user).0;
    assert_ne!(shown(&elsewhere)["pubkey"], shown(&elsewhere)["enc_pubkey"]);
    let at_bob = net.bob.watch(&[]);
    let mut tell = elsewhere.socp(&[
        "--password-stdin",
        "--server",
        &net.a.url,
        "tell",
        &net.bob.id,
        "from elsewhere",
    ]);
    let (done, said) = with_input(&mut tell, "new password\n");
    assert!(done, "{said}");
    let message = json(&at_bob.line_with("from elsewhere"));
    assert_eq!(message["from"], net.alice.id.as_str());
}

#[test]
fn what_is_no_exported_identity_is_refused_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let alice = User::register(dir.path(), "alice", "ws://127.0.0.1:1");
    let file = dir.path().join("alice.socp-identity");
    let mut export = alice.socp(&["--password-stdin", "key", "export"]);
    let (done, said) = with_input(export.arg(&file), "\npw\n");
    assert!(done, "{said}");
    let good = std::fs::read(&file).unwrap();
    let text = String::from_utf8(good.clone()).unwrap();
    let newer = text.replace("\"version\":1}", "\"version\":2}");
    let cases: [(&str, Vec<u8>, &str); 8] = [
        ("damaged", good[..good.len() / 2].to_vec(), "complete JSON"),
        (
            "altered",
            text.replacen("ciphertext\":\"", "ciphertext\":\"AAAA", 1).into_bytes(),
            "altered",
        ),
        ("newer", newer.into_bytes(), "please update"),
        (
            "database",
            std::fs::read(alice.profile.join("profile.db")).unwrap(),
            "a database",
        ),
        ("pem", b"-----BEGIN PRIVATE KEY-----\n".to_vec(), "PEM"),
        ("empty", Vec::new(), "empty"),
        ("large", [b"{".to_vec(), vec![b' '; 1 << 20]].concat(), "too large"),
        ("json", b"{\"a\":1}".to_vec(), "something else"),
    ];
    let profile = dir.path().join("new");
    for (name, bytes, why) in cases {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let (done, said) = import(&profile, &path, "pw\n");
        assert!(!done && said.contains(why), "{name}: {said}");
    }
    let (done, said) = import(&profile, &dir.path().join("nowhere"), "pw\n");
    assert!(!done && said.contains("cannot read"), "{said}");
    let mut without = socp();
    without
        .arg("--profile")
        .arg(&profile)
        .args(["key", "import"])
        .arg(&file);
    let (code, said) = failure_of(&mut without);
    assert!(code == 1 && said.contains("--password-stdin"), "{said}");
    // None of them left half an identity.
    let mut show = socp();
    let (_, said) = failure_of(show.arg("--profile").arg(&profile).args(["key", "show"]));
    assert!(said.contains("no identity"), "{said}");
    assert!(output_of(&mut alice.socp(&["key", "show"])).status.success());
}

/// What a message event says.
fn text_of(watch: &Process, text: &str) {
    let message = json(&watch.line_with(text));
    assert_eq!(
        (&message["event"], &message["verified"]),
        (&"message".into(), &true.into()),
        "{message}"
    );
}

/// Whose key is pinned, or one's own.
fn fingerprint(user: &User, of: Option<&str>) -> serde_json::Value {
    let args = ["--json", "key", "fingerprint"].into_iter().chain(of);
    json(&user.run(&args.collect::<Vec<_>>()))["fingerprint"].clone()
}

fn rotate(user: &User, more: &[&str]) -> serde_json::Value {
    json(&user.run(&[&["--json", "key", "rotate"], more].concat()))
}

#[test]
fn friends_follow_new_keys_by_themselves_whether_they_are_there_or_not() {
    let net = Network::start();
    let at_bob = net.bob.watch(&[]);
    eventually("bob to be seen", || {
        net.alice.listed().contains(&net.bob.id).then_some(())
    });
    net.alice.run(&["tell", "bob", "with the first keys"]);
    text_of(&at_bob, "with the first keys");
    assert_eq!(fingerprint(&net.bob, Some("alice")), fingerprint(&net.alice, None));
    let before = fingerprint(&net.alice, None);

    // Another program of alice's is there meanwhile, and is told why it cannot go on.
    let mut at_alice = net.alice.watch(&[]);
    let rotated = rotate(&net.alice, &[]);
    assert_eq!(rotated["version"], 2);
    assert_ne!(rotated["fingerprint"], before);
    let news = json(&at_bob.line_with("new keys"));
    assert_eq!(
        (&news["event"], &news["from"]),
        (&"notice".into(), &net.alice.id.as_str().into()),
        "{news}"
    );
    assert!(at_alice.line_with("another program of yours").contains("BAD_KEY"));
    assert_ne!(at_alice.wait(), Some(0));
    assert_eq!(fingerprint(&net.bob, Some("alice")), rotated["fingerprint"]);
    let at_alice = net.alice.watch(&[]);
    net.alice.run(&["tell", "bob", "with the second keys"]);
    text_of(&at_bob, "with the second keys");
    net.bob.tell_when_seen(&[], "alice", "to the second keys");
    text_of(&at_alice, "to the second keys");

    // While bob is away; then bob speaks first.
    drop((at_bob, at_alice));
    assert_eq!(rotate(&net.alice, &["--encrypt"])["version"], 3);
    let at_alice = net.alice.watch(&[]);
    net.bob.tell_when_seen(&[], "alice", "to the third keys");
    text_of(&at_alice, "to the third keys");
    drop(at_alice);
    // And alice does.
    let rotated = rotate(&net.alice, &["--sign"]);
    assert_eq!(rotated["version"], 4);
    let at_bob = net.bob.watch(&[]);
    eventually("bob to be seen", || {
        net.alice.listed().contains(&net.bob.id).then_some(())
    });
    net.alice.run(&["tell", &net.bob.id, "with the fourth keys"]);
    text_of(&at_bob, "with the fourth keys");
    assert_eq!(fingerprint(&net.bob, Some("alice")), rotated["fingerprint"]);
    let shown = json(&net.alice.run(&["--json", "key", "show"]));
    assert_eq!(
        (&shown["version"], &shown["user_id"]),
        (&4.into(), &net.alice.id.as_str().into())
    );
}

#[test]
fn withdrawn_keys_are_of_no_use_to_anybody() {
    let net = Network::start();
    let at_bob = net.bob.watch(&[]);
    eventually("bob to be seen", || {
        net.alice.listed().contains(&net.bob.id).then_some(())
    });
    net.alice.run(&["tell", "bob", "hello"]);
    text_of(&at_bob, "hello");
    let (_, said) = failure_of(&mut net.alice.socp(&["key", "revoke"]));
    assert!(said.contains("--yes"), "{said}");
    net.alice.run(&["key", "revoke", "--yes"]);
    at_bob.line_with("withdrawn their keys");
    let (_, said) = failure_of(&mut net.alice.socp(&["tell", &net.bob.id, "again"]));
    assert!(said.contains("withdrawn"), "{said}");
    let (_, said) = failure_of(&mut net.bob.socp(&["tell", &net.alice.id, "are you there?"]));
    assert!(said.contains("withdrawn"), "{said}");
    let shown = json(&net.alice.run(&["--json", "key", "show"]));
    assert_eq!(shown["revoked"], true);
}

#[test]
fn a_deleted_account_leaves_nothing_at_its_home_and_friends_are_told() {
    let net = Network::start();
    let at_bob = net.bob.watch(&[]);
    eventually("bob to be seen", || {
        net.alice.listed().contains(&net.bob.id).then_some(())
    });
    net.alice.run(&["tell", "bob", "farewell"]);
    text_of(&at_bob, "farewell");
    net.alice.run(&["key", "delete", "--yes", "--and-profile"]);
    at_bob.line_with("deleted their account");
    let (_, said) = failure_of(&mut net.alice.socp(&["key", "show"]));
    assert!(said.contains("no identity"), "{said}");
    // Refused at once, or kept for her server until that says so; its author hears of it either way.
    let told = output_of(&mut net.bob.socp(&["tell", &net.alice.id, "hello?"]));
    let told = [told.stdout, told.stderr]
        .map(|bytes| String::from_utf8(bytes).unwrap())
        .concat();
    assert!(told.contains(&net.alice.id), "{told}");
    eventually("the author to hear of it", || {
        let line = net.bob.run(&["--json", "history", &net.alice.id, "--last", "1"]);
        let entry = json(line.trim_end());
        (entry["text"] == "hello?" && entry["state"] == "failed").then_some(())
    });
}

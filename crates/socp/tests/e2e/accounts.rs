//! An account with a password: from one machine to another with nothing but a name and a password (PROTOCOL II.9).

use super::process::*;
use super::secrets::{Tap, files, holds};
use futures_util::{SinkExt as _, StreamExt as _};
use sha2::{Digest as _, Sha256, Sha512};
use socp_crypto::opaque::{Login, stretched_count};
use socp_crypto::{CryptoError, OpaqueSetup, Password, SealedKey, SecretBytes, UnlockSecret};
use socp_proto::limits::LOGIN_ACCOUNT_TRIES_MAX;
use socp_proto::payload::{CredentialRequest, LoginChallenge, LoginStart, PasswordRecord};
use socp_proto::{Address, Base64Url, Draft, Frame, Id, Payload, ServerId};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tokio_tungstenite::tungstenite::Message;

pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// Runs a command with these lines as its input.
pub(crate) fn with_input(command: &mut Command, lines: &[&str]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that refuses to begin reads nothing.
    let _unread = stdin.write_all(format!("{}\n", lines.join("\n")).as_bytes());
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub(crate) fn good(output: Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

/// What a command that must fail says.
pub(crate) fn bad(output: Output) -> String {
    assert!(!output.status.success(), "{}", text(&output.stdout));
    text(&output.stderr)
}

pub(crate) fn socp_with(profile: &Path, args: &[&str]) -> Command {
    let mut command = socp();
    command.arg("--profile").arg(profile).args(args);
    command
}

fn register(dir: &Path, name: &str, server: &str) -> (PathBuf, serde_json::Value) {
    let profile = dir.join(format!("{name}-1"));
    let args = [
        "--server",
        server,
        "--json",
        "register",
        "--name",
        name,
        "--password-stdin",
    ];
    let said = good(with_input(&mut socp_with(&profile, &args), &[PASSWORD]));
    (profile, json(&said))
}

pub(crate) fn login(profile: &Path, server: &str, name: &str, password: &str) -> Output {
    let args = ["--server", server, "--json", "login", name, "--password-stdin"];
    with_input(&mut socp_with(profile, &args), &[password])
}

/// The user of a profile that this password protects.
fn alice(profile: &Path, id: &str) -> User {
    User {
        profile: profile.to_owned(),
        id: id.to_owned(),
    }
}

#[test]
fn a_person_moves_to_another_machine_with_a_name_and_a_password() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path(), "srv", &[]);
    let (_, first) = register(dir.path(), "alice", &server.url);
    assert_eq!(first["password_at"], server.url.clone() + "/");
    let id = first["user_id"].as_str().unwrap();
    let second = dir.path().join("alice-2");
    let said = json(&good(login(&second, &server.url, "Alice", PASSWORD)));
    assert_eq!(
        (&said["user_id"], &said["fingerprint"]),
        (&first["user_id"], &first["fingerprint"])
    );
    // She is who she was: what is said to her is readable here.
    let bob = User::register(dir.path(), "bob", &server.url);
    let alice = alice(&second, id);
    let mut watching = Process::start(alice.socp(&["--json", "--password-stdin", "watch"]));
    watching.type_line(PASSWORD);
    watching.line_with("online");
    bob.run(&["tell", "alice", "are you there?"]);
    let heard = json(&watching.line_with("are you there?"));
    assert_eq!(
        heard["from"]["user_id"].as_str().or(heard["from"].as_str()),
        Some(bob.id.as_str()),
        "{heard}"
    );
    // A profile that is there stays as it is.
    let why = bad(login(&second, &server.url, "alice", PASSWORD));
    assert!(why.contains("already holds the identity"), "{why}");
    server.stop();
}

#[test]
fn no_failure_can_be_told_from_another() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path(), "srv", &[]);
    register(dir.path(), "alice", &server.url);
    let vera = User::register(dir.path(), "vera", &server.url);
    vera.run(&["list"]);
    let place = dir.path().join("new");
    let wrong = bad(login(&place, &server.url, "alice", "wrong"));
    assert!(wrong.contains("the name or the password is wrong"), "{wrong}");
    for name in ["nobody", "vera", vera.id.as_str()] {
        assert_eq!(bad(login(&place, &server.url, name, PASSWORD)), wrong, "{name}");
    }
    assert!(!place.join("profile.db").exists(), "nothing was made");
    server.stop();
}

/// Says `LOGIN_START` and hangs up; what the server answered, and how many bytes that were.
fn begin(server: &Served, name: &str, request: CredentialRequest) -> (LoginChallenge, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let url = format!("ws://{}/", server.address());
        let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        let start = Payload::LoginStart(LoginStart {
            name: name.to_owned(),
            request,
            caps: None,
        });
        let draft = Draft::new(
            Id::try_from("*").unwrap(),
            Address::everyone(),
            1_700_000_000_000,
            &start,
        );
        socket.send(Message::text(draft.sign(&[]).to_text())).await.unwrap();
        let answer = socket.next().await.unwrap().unwrap().into_text().unwrap();
        match Frame::parse(&answer).unwrap().payload {
            Payload::LoginChallenge(challenge) => (challenge, answer.len()),
            other => panic!("{other:?}"),
        }
    })
}

#[test]
fn a_locked_account_answers_as_nobody_does_and_its_owner_is_not_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path(), "srv", &[]);
    let (profile, _) = register(dir.path(), "alice", &server.url);
    let try_with = |name: &str, password: &str| {
        let (login, request) = Login::begin(Password::new(password.to_owned())).unwrap();
        let (challenge, bytes) = begin(&server, name, request);
        (login, challenge, bytes)
    };
    let opens = |(login, challenge, _): (Login, LoginChallenge, usize)| {
        login.finish(&challenge.server_id, &challenge.response).is_ok()
    };
    let right = try_with("alice", PASSWORD);
    let (of_alice, of_nobody) = (right.2, try_with("nobody", PASSWORD).2);
    assert_eq!(of_alice, of_nobody, "as many bytes");
    for _ in 1..LOGIN_ACCOUNT_TRIES_MAX {
        try_with("alice", "wrong");
    }
    // Within the second that it waits now.
    let locked = try_with("alice", PASSWORD);
    assert_eq!(locked.2, of_nobody);
    assert!(!opens(locked), "the right password opens nothing now");
    assert!(opens(right), "before it did");
    // Whoever has the key is not kept out, and may set the password anew.
    let args = ["--json", "key", "password", "--password-stdin"];
    let said = good(with_input(&mut socp_with(&profile, &args), &[PASSWORD, "another one"]));
    assert_eq!(json(&said)["changed"], true);
    server.stop();
}

#[test]
fn a_password_is_changed_here_and_at_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path(), "srv", &[]);
    let (profile, first) = register(dir.path(), "alice", &server.url);
    let args = ["--json", "key", "password", "--password-stdin"];
    good(with_input(&mut socp_with(&profile, &args), &[PASSWORD, "another one"]));
    let why = bad(with_input(
        &mut socp_with(&profile, &["--password-stdin", "list"]),
        &[PASSWORD],
    ));
    assert!(why.contains("wrong password"), "{why}");
    good(with_input(
        &mut socp_with(&profile, &["--password-stdin", "list"]),
        &["another one"],
    ));
    bad(login(&dir.path().join("2"), &server.url, "alice", PASSWORD));
    let said = json(&good(login(&dir.path().join("3"), &server.url, "alice", "another one")));
    assert_eq!(said["user_id"], first["user_id"]);
    server.stop();
}

#[test]
fn where_no_server_keeps_it_the_identity_is_made_and_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = format!("ws://127.0.0.1:{}", free_ports(1));
    let profile = dir.path().join("alice");
    let args = [
        "--server",
        &nowhere,
        "--json",
        "register",
        "--name",
        "alice",
        "--password-stdin",
    ];
    let output = with_input(&mut socp_with(&profile, &args), &[PASSWORD]);
    let why = text(&output.stderr);
    assert!(
        why.contains("no server keeps it") && why.contains("cannot reach"),
        "{why}"
    );
    let said = json(&good(output));
    assert_eq!(said["password_at"], serde_json::Value::Null);
    let show = json(&good(output_of(&mut socp_with(&profile, &["--json", "key", "show"]))));
    assert_eq!(show["user_id"], said["user_id"]);
}

#[test]
fn a_second_of_the_same_name_is_told_and_is_found_by_the_id() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path(), "srv", &[]);
    register(dir.path(), "alice", &server.url);
    let other = User::register(&dir.path().join("other"), "ALICE", &server.url);
    let output = output_of(&mut other.socp(&["list"]));
    assert!(
        text(&output.stderr).contains("another user of this server has the name ALICE"),
        "{output:?}"
    );
    server.stop();
}

#[test]
fn the_servers_secrets_survive_a_restart_and_are_never_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path(), "srv", &[]);
    register(dir.path(), "alice", &server.url);
    let data = server.data.clone();
    server.stop();
    let server = Served::start(dir.path(), "srv", &[]);
    good(login(&dir.path().join("2"), &server.url, "alice", PASSWORD));
    server.stop();
    let secrets = data.join("passwords.key");
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&secrets).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::remove_file(&secrets).unwrap();
    let mut command = socp();
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data);
    let (_, why) = failure_of(&mut command);
    assert!(why.contains("passwords.key"), "{why}");
    assert!(!secrets.exists(), "others would be of no use");
}

/// The password in the forms in which it is usually found.
fn traces(user: &str) -> Vec<Vec<u8>> {
    let salted = [
        PASSWORD.to_owned(),
        format!("{user}{PASSWORD}"),
        format!("{PASSWORD}{user}"),
        format!("{user}:{PASSWORD}"),
    ];
    let hashes = salted
        .iter()
        .flat_map(|text| [Sha256::digest(text).to_vec(), Sha512::digest(text).to_vec()]);
    let raw: Vec<Vec<u8>> = std::iter::once(PASSWORD.as_bytes().to_vec()).chain(hashes).collect();
    let encoded = raw.iter().flat_map(|bytes| {
        let base64 = [
            data_encoding::BASE64_NOPAD.encode(bytes),
            data_encoding::BASE64URL_NOPAD.encode(bytes),
        ];
        let hex = [
            data_encoding::HEXLOWER.encode(bytes),
            data_encoding::HEXUPPER.encode(bytes),
        ];
        base64.into_iter().chain(hex).map(String::into_bytes)
    });
    encoded.chain(raw.clone()).collect()
}

/// Somebody has all that went over the wire, and everything that the server has.
#[test]
fn a_thief_finds_no_password_and_pays_the_full_price_for_each_guess() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path(), "srv", &[]);
    let tap = Tap::before(server.address());
    let through = format!("ws://{}", tap.address);
    let (_, alice) = register(dir.path(), "alice", &through);
    good(login(&dir.path().join("2"), &through, "alice", PASSWORD));
    let (server_id, data) = (server.server_id.clone(), server.data.clone());
    server.stop();
    let user = alice["user_id"].as_str().unwrap();
    let capture = tap.bytes();
    for kind in [
        "REGISTER_START",
        "REGISTER_CHALLENGE",
        "REGISTER_FINISH",
        "LOGIN_START",
        "LOGIN_CHALLENGE",
        "LOGIN_FINISH",
        "LOGIN_RESULT",
    ] {
        assert!(holds(&capture, kind.as_bytes()), "{kind} was overheard");
    }
    let loot: Vec<(String, Vec<u8>)> = files(&data, &[])
        .into_iter()
        .chain([("the wire".to_owned(), capture)])
        .collect();
    assert!(loot.iter().any(|(name, _)| name.ends_with("server.db")));
    for (name, bytes) in &loot {
        let found = traces(user)
            .into_iter()
            .chain(traces("alice"))
            .find(|trace| holds(bytes, trace));
        assert_eq!(found, None, "{name}");
    }
    // With the server's own secrets a guess can be checked: by doing all that the client does.
    let read = |name: &str| std::fs::read(data.join(name)).unwrap();
    let unlock = SecretBytes::new(read("server.unlock"));
    let key = SealedKey::from_json(&text(&read("server.key"))).unwrap();
    let key = key.open(UnlockSecret::Secret(&unlock)).unwrap();
    let setup = OpaqueSetup::open(&text(&read("passwords.key")), &key.to_pkcs8_der().unwrap()).unwrap();
    let database = rusqlite::Connection::open(data.join("server.db")).unwrap();
    let query = "SELECT pake_password FROM users WHERE user_id = ?1";
    let record: String = database.query_row(query, [user], |row| row.get(0)).unwrap();
    let record = PasswordRecord::try_from(Base64Url::try_from(record).unwrap()).unwrap();
    let server_id = ServerId::try_from(server_id).unwrap();
    for (guess, is_right) in [("wrong", false), (PASSWORD, true)] {
        let before = stretched_count();
        let (login, request) = Login::begin(Password::new(guess.to_owned())).unwrap();
        let account = format!("id:{user}");
        let (response, _) = setup
            .begin_login(&server_id, &account, Some(&record), &request)
            .unwrap();
        assert_eq!(stretched_count(), before, "nothing is known yet");
        let checked = login.finish(&server_id, &response).map(drop);
        assert_eq!(
            checked,
            if is_right {
                Ok(())
            } else {
                Err(CryptoError::WrongPassword)
            }
        );
        assert_eq!(
            stretched_count(),
            before + 1,
            "Argon2id with 64 MiB, once for each guess"
        );
    }
}

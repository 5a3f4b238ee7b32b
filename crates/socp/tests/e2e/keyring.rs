//! A profile that the platform's keyring opens (decision 0024). With the feature `keyring`, and where D-Bus and GNOME Keyring
//! are installed, a real one keeps the secret; elsewhere what is tested is what people are told.

use crate::accounts::{PASSWORD, bad, good, socp_with, with_input};
use crate::process::{Served, eventually, json, output_of};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A session with a keyring, as a desktop has one; ended when dropped.
struct Session {
    bus: Child,
    address: String,
    keyring: Child,
    home: PathBuf,
}

impl Session {
    /// None where the programs for it are not installed.
    fn start(home: &Path) -> Option<Self> {
        std::fs::create_dir_all(home).unwrap();
        let mut bus = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--nopidfile", "--print-address=1"])
            .arg(format!("--address=unix:dir={}", home.display()))
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut address = String::new();
        let mut said = BufReader::new(bus.stdout.take().unwrap());
        said.read_line(&mut address).unwrap();
        let address = address.trim().to_owned();
        let Some(keyring) = start_keyring(home, &address) else {
            end(&mut bus);
            return None;
        };
        Some(Self {
            bus,
            address,
            keyring,
            home: home.to_owned(),
        })
    }

    /// As after a reboot: everything that was only in memory is gone.
    fn restart_keyring(&mut self) {
        end(&mut self.keyring);
        self.keyring = start_keyring(&self.home, &self.address).unwrap();
    }

    fn socp(&self, profile: &Path, args: &[&str]) -> Command {
        let mut command = socp_with(profile, args);
        command.env("DBUS_SESSION_BUS_ADDRESS", &self.address);
        command
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        end(&mut self.keyring);
        end(&mut self.bus);
    }
}

/// GNOME Keyring with its files below `home`, open; ready when it answers on the bus.
fn start_keyring(home: &Path, address: &str) -> Option<Child> {
    let mut keyring = Command::new("gnome-keyring-daemon")
        .args([
            "--foreground",
            "--unlock",
            "--components=secrets",
            "--control-directory",
        ])
        .arg(home)
        .env("DBUS_SESSION_BUS_ADDRESS", address)
        .env("HOME", home)
        .env("XDG_DATA_HOME", home)
        .env("XDG_RUNTIME_DIR", home)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    keyring.stdin.take().unwrap().write_all(b"of the session").unwrap();
    eventually("the keyring to be on the bus", || {
        let asked = Command::new("dbus-send")
            .args([
                &format!("--bus={address}"),
                "--print-reply",
                "--dest=org.freedesktop.DBus",
            ])
            .args(["/org/freedesktop/DBus", "org.freedesktop.DBus.GetNameOwner"])
            .arg("string:org.freedesktop.secrets")
            .output()
            .unwrap();
        asked.status.success().then_some(())
    });
    Some(keyring)
}

fn end(child: &mut Child) {
    // It may have ended already.
    let _ended = child.kill();
    let _reaped = child.wait();
}

/// A session, if there can be one here; else says why not.
fn session(home: &Path) -> Option<Session> {
    if !cfg!(feature = "keyring") {
        println!("built without the feature `keyring`: only the errors are tested");
        return None;
    }
    let session = Session::start(home);
    if session.is_none() {
        println!("dbus-daemon or gnome-keyring-daemon is not installed: only the errors are tested");
    }
    session
}

fn without_a_bus(profile: &Path, args: &[&str]) -> Command {
    let mut command = socp_with(profile, args);
    command.env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere/bus");
    command
}

#[test]
fn where_no_keyring_answers_nothing_is_made_and_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let profile = dir.path().join("alice");
    let args = ["register", "--name", "alice", "--keyring"];
    let why = bad(output_of(&mut without_a_bus(&profile, &args)));
    let expected = match cfg!(feature = "keyring") {
        true => "none answers",
        false => "built without keyrings",
    };
    assert!(
        why.contains("keyring") && why.contains(expected) && why.contains("password"),
        "{why}"
    );
    let why = bad(output_of(&mut socp_with(&profile, &["key", "show"])));
    assert!(why.contains("there is no identity"), "{why}");
    // Another try is not in its way.
    let args = ["register", "--name", "alice", "--no-password"];
    good(output_of(&mut socp_with(&profile, &args)));
    let said = json(&good(output_of(&mut socp_with(&profile, &["--json", "key", "show"]))));
    assert_eq!(said["at_rest"], "file");
}

#[test]
fn a_keyring_opens_a_profile_and_nothing_else_does() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut session) = session(&dir.path().join("session")) else {
        return;
    };
    let server = Served::start(dir.path(), "srv", &[]);
    let profile = dir.path().join("alice");
    let register = [
        "--server",
        &server.url,
        "--json",
        "register",
        "--name",
        "alice",
        "--keyring",
        "--password-stdin",
    ];
    let said = json(&good(with_input(&mut session.socp(&profile, &register), &[PASSWORD])));
    assert!(said["password_at"].is_string(), "the server has the password: {said}");
    assert!(!profile.join("unlock.key").exists());
    let shown = json(&good(output_of(
        &mut session.socp(&profile, &["--json", "key", "show"]),
    )));
    assert_eq!(shown["at_rest"], "keyring");
    // Nobody types anything, not after a reboot either.
    good(output_of(&mut session.socp(&profile, &["list"])));
    session.restart_keyring();
    good(output_of(&mut session.socp(&profile, &["list"])));
    // New keys are sealed with the same secret, and another password is the server's alone.
    good(output_of(&mut session.socp(&profile, &["key", "rotate"])));
    let change = ["--json", "key", "password", "--password-stdin"];
    let said = json(&good(with_input(&mut session.socp(&profile, &change), &["another"])));
    assert_eq!((&said["changed"], &said["here"]), (&true.into(), &false.into()));
    good(output_of(&mut session.socp(&profile, &["list"])));
    // A copy of the directory opens nowhere else.
    let why = bad(output_of(&mut without_a_bus(&profile, &["list"])));
    assert!(why.contains("none answers"), "{why}");
    let elsewhere = Session::start(&dir.path().join("elsewhere")).unwrap();
    let why = bad(output_of(&mut elsewhere.socp(&profile, &["list"])));
    assert!(why.contains("does not have the secret of this profile"), "{why}");
    // Another machine, another profile, another secret.
    let second = dir.path().join("alice-2");
    let args = [
        "--server",
        &server.url,
        "login",
        "alice",
        "--keyring",
        "--password-stdin",
    ];
    good(with_input(&mut elsewhere.socp(&second, &args), &["another"]));
    good(output_of(&mut elsewhere.socp(&second, &["list"])));
    server.stop();
}

#[test]
fn a_password_takes_a_keyrings_place_and_its_entry_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let Some(session) = session(&dir.path().join("session")) else {
        return;
    };
    let [profile, copy] = ["alice", "copy"].map(|name| dir.path().join(name));
    let args = ["register", "--name", "alice", "--keyring"];
    good(output_of(&mut session.socp(&profile, &args)));
    let output = with_input(
        &mut session.socp(&profile, &["key", "password", "--password-stdin"]),
        &[PASSWORD],
    );
    let why = bad(output);
    assert!(why.contains("--here"), "{why}");
    std::fs::create_dir(&copy).unwrap();
    for file in std::fs::read_dir(&profile).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    let export = |name: &str| {
        vec![
            "key".to_owned(),
            "export".to_owned(),
            dir.path().join(name).display().to_string(),
        ]
    };
    let export = |profile: &Path, name: &str, lines: &[&str]| {
        let args = export(name);
        let args: Vec<&str> = args.iter().map(String::as_str).chain(["--password-stdin"]).collect();
        with_input(&mut session.socp(profile, &args), lines)
    };
    good(export(&copy, "before", &["", "file"]));
    let here = ["key", "password", "--here", "--password-stdin"];
    good(with_input(&mut session.socp(&profile, &here), &[PASSWORD]));
    let shown = json(&good(output_of(
        &mut session.socp(&profile, &["--json", "key", "show"]),
    )));
    assert_eq!(shown["at_rest"], "password");
    good(export(&profile, "after", &[PASSWORD, "file"]));
    let why = bad(export(&copy, "again", &["", "file"]));
    assert!(why.contains("does not have the secret"), "{why}");
}

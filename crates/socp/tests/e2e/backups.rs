//! Backups of real servers: made while they run, checked, restored, and what is refused.

use crate::process::{Served, User, failure_of, json, output_of, socp, stdout_of};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) fn back_up(data: &Path, to: &Path) -> Command {
    let mut command = socp();
    command.arg("backup").arg(to).arg("--data").arg(data);
    command
}

pub(crate) fn verify(backup: &Path) -> Command {
    let mut command = socp();
    command.args(["--json", "backup", "verify"]).arg(backup);
    command
}

pub(crate) fn restore(backup: &Path, data: &Path) -> Command {
    let mut command = socp();
    command.arg("restore").arg(backup).arg("--data").arg(data);
    command
}

fn fails(command: &mut Command, words: &[&str]) {
    let (code, stderr) = failure_of(command);
    assert_eq!((code, stderr.lines().count()), (1, 1), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} is missing in {stderr:?}");
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_backup_of_a_running_server_is_the_same_server_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path(), "srv", &[]);
    let [alice, bob] = ["alice", "bob"].map(|name| User::register(dir.path(), name, &served.url));
    alice.run(&["list"]);
    bob.run(&["list"]);

    let backup = dir.path().join("monday");
    let said = stdout_of(&mut back_up(&served.data, &backup));
    assert!(said.contains(&served.server_id) && said.contains("monday"), "{said}");
    assert_eq!(
        names(&backup),
        [
            "backup.json",
            "passwords.key",
            "server.db",
            "server.key",
            "server.unlock"
        ]
    );
    assert_eq!(mode(&backup), 0o700);
    for name in names(&backup) {
        assert_eq!(mode(&backup.join(&name)), 0o600, "{name}");
    }
    let checked = json(&stdout_of(&mut verify(&backup)));
    assert_eq!(
        (&checked["users"], &checked["key_tried"]),
        (&2.into(), &true.into()),
        "{checked}"
    );
    // A second one goes somewhere else, and the server has gone on all the time.
    fails(
        &mut back_up(&served.data, &backup),
        &["monday", "something is there already"],
    );
    alice.run(&["list"]);

    let (listen, server_id) = (served.address().to_owned(), served.server_id.clone());
    served.stop();
    let elsewhere = dir.path().join("again");
    let said = stdout_of(&mut restore(&backup, &elsewhere));
    assert!(said.contains("restored to") && said.contains("2 users"), "{said}");
    assert_eq!(mode(&elsewhere), 0o700);
    let again = Served::start_on(dir.path(), "again", &listen, &[]);
    assert_eq!(again.server_id, server_id);
    // Whoever knew the server does not notice.
    let at_bob = bob.watch(&[]);
    alice.run(&["tell", &bob.id, "back again"]);
    at_bob.line_with("back again");
    // And a stopped one is backed up in the same way.
    drop(at_bob);
    again.stop();
    stdout_of(&mut back_up(&elsewhere, &dir.path().join("tuesday")));
    assert_eq!(json(&stdout_of(&mut verify(&dir.path().join("tuesday"))))["users"], 2);
}

/// A backup to spoil, and what it was made of.
fn a_backup(dir: &Path) -> (PathBuf, PathBuf) {
    let served = Served::start(dir, "srv", &[]);
    let data = served.data.clone();
    served.stop();
    let backup = dir.join("backup");
    stdout_of(&mut back_up(&data, &backup));
    (data, backup)
}

#[test]
fn a_backup_that_is_not_whole_is_refused_and_what_is_wrong_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (_, backup) = a_backup(dir.path());
    let data = dir.path().join("restored");
    let refused = |words: &[&str]| {
        fails(&mut verify(&backup), words);
        fails(&mut restore(&backup, &data), words);
        assert!(!data.exists(), "{words:?}");
    };
    for name in ["server.db", "server.key", "server.unlock", "passwords.key"] {
        let path = backup.join(name);
        let whole = std::fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for damaged in [&flipped, &whole[..whole.len() - 1], &[]] {
            std::fs::write(&path, damaged).unwrap();
            refused(&[name, "not as it was written"]);
        }
        std::fs::remove_file(&path).unwrap();
        refused(&[name, "No such file"]);
        std::fs::write(&path, &whole).unwrap();
    }
    let path = backup.join("backup.json");
    let whole = std::fs::read_to_string(&path).unwrap();
    let altered = |from: &str, to: &str| {
        assert!(whole.contains(from), "{from} in {whole}");
        whole.replacen(from, to, 1)
    };
    let cases = [
        (String::new(), "EOF"),
        ("[]".to_owned(), "invalid"),
        (altered("\"v\": 1", "\"v\": 2"), "the form 2"),
        (altered("server.key", "../server.key"), "no file of a backup"),
        (altered("server.db", "socp.toml"), "does not name server.db"),
        (altered("\"made_at\"", "\"made\""), "made"),
    ];
    for (text, word) in cases {
        std::fs::write(&path, text).unwrap();
        refused(&[word]);
    }
    let other = altered(json(&whole)["server_id"].as_str().unwrap(), "srv-x");
    std::fs::write(&path, other).unwrap();
    refused(&["not of srv-x"]);
    std::fs::remove_file(&path).unwrap();
    refused(&["is this a backup"]);
    std::fs::write(&path, whole).unwrap();
    let strange = backup.join("server.key.next");
    std::fs::write(&strange, "x").unwrap();
    refused(&["no backup of ours has"]);
    std::fs::remove_file(strange).unwrap();
    stdout_of(&mut verify(&backup));
}

#[test]
fn a_backup_goes_where_nothing_is_and_never_into_the_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path(), "srv", &[]);
    let data = served.data.clone();
    let place = |name: &str| dir.path().join(name);
    std::fs::write(place("file"), "x").unwrap();
    std::fs::create_dir(place("full")).unwrap();
    std::fs::write(place("full").join("file"), "x").unwrap();
    std::fs::create_dir(place("empty")).unwrap();
    std::fs::create_dir(place("half.unfinished")).unwrap();
    std::os::unix::fs::symlink(place("elsewhere"), place("link")).unwrap();
    let refused = |place: &Path, word: &str| fails(&mut back_up(&data, place), &[word]);
    let bad = |refused: &dyn Fn(&Path, &str)| {
        refused(&place("file"), "something is there already");
        refused(&place("empty"), "something is there already");
        refused(&place("link"), "something is there already");
        refused(&place("full"), "something is there already");
        refused(&place("none").join("backup"), "make the directory");
        refused(&data.join("backup"), "inside of the data directory");
        refused(&place("half"), "half.unfinished");
    };
    bad(&refused);
    stdout_of(&mut back_up(&data, &place("new")));
    // From wherever the command was said.
    let mut here = back_up(&data, Path::new("relative"));
    stdout_of(here.current_dir(dir.path()));
    for made in ["new", "relative"] {
        stdout_of(&mut verify(&place(made)));
    }
    served.stop();
    bad(&refused);
    fails(&mut back_up(&place("empty-data"), &place("x")), &["no data directory"]);
    fails(&mut restore(&place("new"), &data), &["something is there already"]);
    let usage = output_of(socp().arg("backup"));
    assert_eq!(usage.status.code(), Some(2));
    let mut left: Vec<String> = names(dir.path());
    left.retain(|name| name.ends_with("unfinished"));
    assert_eq!(left, ["half.unfinished"]);
}

#[test]
fn what_could_not_be_started_again_is_no_backup() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path(), "srv", &[]);
    let data = served.data.clone();
    served.stop();
    let to = dir.path().join("backup");
    // A change of keys that was interrupted: which of the two counts, the next start finds out.
    std::fs::write(data.join("server.key.next"), "x").unwrap();
    fails(&mut back_up(&data, &to), &["was interrupted", "start the server once"]);
    std::fs::remove_file(data.join("server.key.next")).unwrap();
    // Accounts with a password whose secrets are gone, and a server whose key is.
    let database = rusqlite::Connection::open(data.join("server.db")).unwrap();
    let account = "INSERT INTO users (user_id, pubkey, meta, version, enc_pubkey, directory_sig, pake_password) \
                   SELECT 'u', pubkey, '{}', 1, pubkey, '', ?1 FROM identity";
    let record = "A".repeat(256);
    database.execute(account, [record]).unwrap();
    drop(database);
    for name in ["passwords.key", "server.key"] {
        let kept = std::fs::read(data.join(name)).unwrap();
        std::fs::remove_file(data.join(name)).unwrap();
        fails(&mut back_up(&data, &to), &[name, "missing"]);
        std::fs::write(data.join(name), kept).unwrap();
    }
    assert!(!to.exists());
    stdout_of(&mut back_up(&data, &to));
    stdout_of(&mut verify(&to));
}

#[test]
fn a_backup_before_an_upgrade_leaves_the_database_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (data, backup) = a_backup(dir.path());
    let version = |of: &Path| {
        let database = rusqlite::Connection::open(of.join("server.db")).unwrap();
        database
            .query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    let newest = version(&backup);
    let database = rusqlite::Connection::open(data.join("server.db")).unwrap();
    database.pragma_update(None, "user_version", newest - 1).unwrap();
    drop(database);
    let older = dir.path().join("older");
    stdout_of(&mut back_up(&data, &older));
    assert_eq!((version(&data), version(&older)), (newest - 1, newest - 1));
    stdout_of(&mut verify(&older));
}

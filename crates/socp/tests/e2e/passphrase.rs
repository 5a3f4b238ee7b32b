//! A server whose key a passphrase protects.

use crate::process::{Served, failure_of, socp, stdout_of};
use std::path::{Path, PathBuf};

fn passphrase_file(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn change(data: &Path, args: &[&str]) -> std::process::Command {
    let mut command = socp();
    command.args(["admin", "passphrase", "--data"]).arg(data).args(args);
    command
}

#[track_caller]
fn does_not_start(data: &Path, args: &[&str], words: &[&str]) {
    let mut command = socp();
    command.args(["serve", "--listen", "127.0.0.1:0", "--log", "error", "--data"]);
    let (code, said) = failure_of(command.arg(data).args(args));
    assert_eq!((code, said.lines().count()), (1, 1), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is missing in {said:?}");
    }
}

#[test]
fn a_server_with_a_passphrase_starts_with_it_alone_and_stays_who_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let right = passphrase_file(dir.path(), "right", "correct horse\n");
    let wrong = passphrase_file(dir.path(), "wrong", "battery staple");
    let (right, wrong) = (right.to_str().unwrap(), wrong.to_str().unwrap());
    let served = Served::start(dir.path(), "srv", &[]);
    let (data, id, key) = (served.data.clone(), served.server_id.clone(), served.pubkey.clone());
    let (code, said) = failure_of(&mut change(&data, &["--new-passphrase-file", right]));
    assert!(code == 1 && said.contains("in use"), "{said}");
    served.stop();

    does_not_start(&data, &["--passphrase-file", right], &["has none", "admin passphrase"]);
    let said = stdout_of(&mut change(&data, &["--new-passphrase-file", right]));
    assert!(said.contains("does not start"), "{said}");
    assert!(!data.join("server.unlock").exists());
    does_not_start(&data, &[], &["server.key", "--passphrase-file", "SOCP_PASSPHRASE_FILE"]);
    does_not_start(
        &data,
        &["--passphrase-file", wrong],
        &["wrong passphrase", "server.key"],
    );
    does_not_start(&data, &["--passphrase-file", "none"], &["cannot read", "none"]);
    let served = Served::start(dir.path(), "srv", &["--passphrase-file", right]);
    assert_eq!((&served.server_id, &served.pubkey), (&id, &key));
    served.stop();

    let (code, said) = failure_of(&mut change(&data, &["--remove"]));
    assert!(code == 1 && said.contains("protected by a passphrase"), "{said}");
    stdout_of(&mut change(
        &data,
        &["--passphrase-file", right, "--new-passphrase-file", wrong],
    ));
    does_not_start(&data, &["--passphrase-file", right], &["wrong passphrase"]);
    stdout_of(&mut change(&data, &["--passphrase-file", wrong, "--remove"]));
    let served = Served::start(dir.path(), "srv", &[]);
    assert_eq!((&served.server_id, &served.pubkey), (&id, &key));
    served.stop();
}

#[test]
fn a_new_server_seals_its_key_under_the_passphrase_of_its_settings() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("srv");
    std::fs::create_dir(&data).unwrap();
    passphrase_file(&data, "passphrase", "correct horse\n");
    std::fs::write(data.join("socp.toml"), "passphrase_file = \"passphrase\"\n").unwrap();
    Served::start(dir.path(), "srv", &[]).stop();
    assert!(!data.join("server.unlock").exists());
    std::fs::remove_file(data.join("socp.toml")).unwrap();
    does_not_start(&data, &[], &["protected by a passphrase"]);
}

#[test]
fn a_passphrase_must_say_something_and_belong_to_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let empty = passphrase_file(dir.path(), "empty", "\n");
    let data = dir.path().join("srv");
    does_not_start(
        &data,
        &["--passphrase-file", empty.to_str().unwrap()],
        &["first line", "empty"],
    );
    let right = passphrase_file(dir.path(), "right", "correct horse");
    let (_, said) = failure_of(&mut change(&data, &["--new-passphrase-file", right.to_str().unwrap()]));
    assert!(
        said.contains("server.key") && said.contains("no server's key"),
        "{said}"
    );
    let (_, said) = failure_of(&mut change(&data, &[]));
    assert!(said.contains("--new-passphrase-file"), "{said}");
}

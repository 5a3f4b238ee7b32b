//! What a profile keeps, refuses and never shows.

use super::*;

fn pin(user: &str, key: u8) -> UserPin {
    let key = KeyText::from_der(&[key]);
    UserPin {
        user: UserId::try_from(user).unwrap(),
        enc_pubkey: key.clone(),
        pubkey: key,
        name: Some("bob".to_owned()),
        server_id: None,
        server_name: None,
    }
}

fn server_pin(key: u8) -> ServerPin {
    ServerPin {
        id: ServerId::try_from("srv").unwrap(),
        key: KeyText::from_der(&[key]),
        name: Some("srv-a".to_owned()),
        asks_for_proof: false,
    }
}

#[test]
fn an_identity_is_made_once_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("a/b");
    assert!(matches!(Profile::open(&home), Err(ClientError::NoIdentity { .. })));
    let made = Profile::create(&home, Some("alice"), None, None).unwrap();
    let found = Profile::open(&home).unwrap();
    assert_eq!(made.identity(), found.identity());
    found.unlock(None).unwrap();
    // Nobody with another key can be the owner of this id.
    let Identity { user_id, pubkey, .. } = found.identity();
    assert!(user_id.is_made_from(pubkey.fingerprint()));
    let again = Profile::create(&home, Some("alice"), None, None);
    assert!(matches!(again, Err(ClientError::AlreadyRegistered { .. })));
}

#[test]
fn a_password_is_needed_and_checked() {
    let dir = tempfile::tempdir().unwrap();
    let password = Password::new("correct horse".to_owned());
    let profile = Profile::create(dir.path(), None, None, Some(&password)).unwrap();
    assert!(profile.needs_password() && !dir.path().join("unlock.key").exists());
    assert!(matches!(profile.unlock(None), Err(ClientError::PasswordNeeded)));
    let wrong = Password::new("wrong horse".to_owned());
    assert!(matches!(profile.unlock(Some(&wrong)), Err(ClientError::WrongPassword)));
    profile.unlock(Some(&password)).unwrap();
}

#[cfg(unix)]
#[test]
fn files_are_for_their_owner_and_hold_no_key_in_the_clear() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("p");
    let profile = Profile::create(&home, None, None, None).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&home), mode(&home.join("unlock.key"))), (0o700, 0o600));
    let pkcs8 = profile.unlock(None).unwrap().to_pkcs8_der().unwrap();
    for file in std::fs::read_dir(&home).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(64).any(|w| w == &pkcs8.expose()[256..320]));
    }
}

#[cfg(unix)]
#[test]
fn a_directory_open_to_all_gets_a_database_that_is_not() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).unwrap();
    let profile = Profile::create(dir.path(), None, None, None).unwrap();
    profile.save_pins(&[pin("bob", 1)]).unwrap();
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.path().display());
    }
    assert!(dir.path().join("profile.db-wal").exists());
}

#[test]
fn pins_last_and_are_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let profile = Profile::create(dir.path(), None, None, None).unwrap();
    profile.save_pins(&[pin("bob", 1)]).unwrap();
    profile.save_pins(&[pin("bob", 1)]).unwrap();
    assert!(matches!(
        profile.save_pins(&[pin("eve", 1), pin("bob", 2)]),
        Err(ClientError::PinConflict { .. })
    ));
    assert_eq!(Profile::open(dir.path()).unwrap().pins().unwrap(), [pin("bob", 1)]);
}

#[test]
fn a_server_has_one_key_at_every_address() {
    let dir = tempfile::tempdir().unwrap();
    let profile = Profile::create(dir.path(), None, None, None).unwrap();
    profile.save_server("ws://a:1/", &server_pin(1)).unwrap();
    profile.save_server("ws://b:1/", &server_pin(1)).unwrap();
    for url in ["ws://a:1/", "ws://c:1/"] {
        let replaced = profile.save_server(url, &server_pin(2));
        assert!(matches!(replaced, Err(ClientError::PinConflict { .. })), "{url}");
    }
    assert_eq!(profile.server("ws://a:1/").unwrap(), Some(server_pin(1)));
    assert_eq!(profile.server("ws://d:1/").unwrap(), None);
}

#[test]
fn a_server_that_has_asked_for_a_proof_is_remembered_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let profile = Profile::create(dir.path(), None, None, None).unwrap();
    let asking = ServerPin {
        asks_for_proof: true,
        ..server_pin(1)
    };
    for (pin, expected) in [
        (server_pin(1), server_pin(1)),
        (asking.clone(), asking.clone()),
        (server_pin(1), asking.clone()),
    ] {
        profile.save_server("ws://one", &pin).unwrap();
        assert_eq!(profile.server("ws://one").unwrap(), Some(expected));
    }
    // Another key is refused, and changes nothing.
    let other = ServerPin {
        asks_for_proof: true,
        ..server_pin(2)
    };
    profile.save_server("ws://two", &server_pin(1)).unwrap();
    assert!(profile.save_server("ws://two", &other).is_err());
    assert_eq!(profile.server("ws://two").unwrap(), Some(server_pin(1)));
}

#[test]
fn a_profile_of_the_first_version_is_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let profile = Profile::create(dir.path(), None, None, None).unwrap();
    profile.save_server("ws://one", &server_pin(1)).unwrap();
    let identity = profile.identity().clone();
    drop(profile);
    let database = Connection::open(dir.path().join(schema::FILE)).unwrap();
    database
        .execute_batch("ALTER TABLE servers DROP COLUMN asks_for_proof; DROP TABLE verified; PRAGMA user_version = 1;")
        .unwrap();
    drop(database);
    let profile = Profile::open(dir.path()).unwrap();
    assert_eq!(*profile.identity(), identity);
    assert_eq!(profile.server("ws://one").unwrap(), Some(server_pin(1)));
}

#[test]
fn a_newer_profile_is_refused_clearly() {
    let dir = tempfile::tempdir().unwrap();
    drop(Profile::create(dir.path(), None, None, None).unwrap());
    let database = Connection::open(dir.path().join(schema::FILE)).unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    let refusal = Profile::open(dir.path()).unwrap_err();
    assert!(refusal.to_string().contains("please update"), "{refusal}");
}

#[test]
fn names_that_cannot_be_addressed_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["", "a b", "a@b", "a\u{1b}", &"x".repeat(65)] {
        let refused = Profile::create(dir.path(), Some(name), None, None);
        assert!(matches!(refused, Err(ClientError::Name(_))), "{name:?}");
    }
}

#[test]
fn what_was_compared_counts_for_these_keys_only() {
    let dir = tempfile::tempdir().unwrap();
    let profile = Profile::create(dir.path(), None, None, None).unwrap();
    let bob = pin("bob-id", 1);
    profile.save_pins(std::slice::from_ref(&bob)).unwrap();
    assert!(profile.verified().unwrap().is_empty());
    profile.set_verified(&bob).unwrap();
    profile.set_verified(&bob).unwrap();
    let again = Profile::open(dir.path()).unwrap();
    let verified = again.verified().unwrap();
    assert!(verified.len() == 1 && verified.contains(&bob.user));

    // Another key in its place, however it came there.
    let change = "UPDATE pins SET enc_pubkey = ?1";
    profile
        .lock()
        .execute(change, [pin("bob-id", 2).pubkey.as_str()])
        .unwrap();
    assert!(again.verified().unwrap().is_empty());
    profile.lock().execute(change, [bob.enc_pubkey.as_str()]).unwrap();
    assert_eq!(again.verified().unwrap().len(), 1);

    assert!(again.unset_verified(&bob.user).unwrap());
    assert!(!again.unset_verified(&bob.user).unwrap());
    assert!(again.verified().unwrap().is_empty());
}

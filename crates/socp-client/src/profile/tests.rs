//! What a profile keeps, refuses and never shows.

use super::*;
use socp_core::client::{Alarm, FormerKey, Teller, TrustNews};
use socp_crypto::{FullIdentity, Password};
use socp_proto::{Card, CardFingerprint, Fingerprint, KeyHistory, KeyText, UserId};

/// What undoes each migration but the first.
const UNDONE: &[&str] = &[
    "ALTER TABLE servers DROP COLUMN asks_for_proof;",
    "DROP TABLE verified;",
    "ALTER TABLE identity DROP COLUMN enc_pubkey;
     ALTER TABLE identity DROP COLUMN sealed_enc_key;
     ALTER TABLE identity DROP COLUMN history;
     DROP TABLE old_enc_keys;",
    "DROP TABLE tls_pins;",
    "DROP TABLE alarms; DROP TABLE refused_keys; DROP TABLE cards; DROP TABLE confirmations; DROP TABLE server_alarms;",
    "ALTER TABLE pins DROP COLUMN version; ALTER TABLE pins DROP COLUMN revoked;",
    crate::history::UNDONE,
    crate::history::held::UNDONE,
    "DROP TABLE former_keys; DROP TABLE denied_keys;",
    "ALTER TABLE pins DROP COLUMN numbered_at;",
];

/// Makes of a new database one of an old version.
fn undo_later_migrations(database: &Connection, version: usize) {
    for undo in UNDONE.iter().skip(version - 1) {
        database.execute_batch(undo).unwrap();
    }
    database
        .pragma_update(None, "user_version", i64::try_from(version).unwrap())
        .unwrap();
}

fn pin(user: &str, key: u8) -> UserPin {
    let key = KeyText::from_der(&[key]);
    UserPin {
        user: UserId::try_from(user).unwrap(),
        enc_pubkey: key.clone(),
        pubkey: key,
        name: Some("bob".to_owned()),
        server_id: None,
        server_name: None,
        version: 1,
        revoked: false,
        acks: false,
        former: Vec::new(),
        numbered_at: 0,
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
    let keys = profile.unlock(None).unwrap();
    let pkcs8 = [&keys.sign, &keys.enc].map(|key| key.to_pkcs8_der().unwrap());
    for file in std::fs::read_dir(&home).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for pkcs8 in &pkcs8 {
            assert!(!bytes.windows(64).any(|w| w == &pkcs8.expose()[256..320]));
        }
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
    profile.save_pins(&[pin("bob", 1)], &[]).unwrap();
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
    profile.save_pins(&[pin("bob", 1)], &[]).unwrap();
    profile.save_pins(&[pin("bob", 1)], &[]).unwrap();
    assert!(matches!(
        profile.save_pins(&[pin("eve", 1), pin("bob", 2)], &[]),
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
    let user = profile.identity().user_id.clone();
    drop(profile);
    let database = Connection::open(dir.path().join(schema::FILE)).unwrap();
    undo_later_migrations(&database, 1);
    drop(database);
    let profile = Profile::open(dir.path()).unwrap();
    assert_eq!(profile.identity().user_id, user);
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
    profile.save_pins(std::slice::from_ref(&bob), &[]).unwrap();
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

#[test]
fn a_new_profile_has_a_key_for_each_purpose() {
    let dir = tempfile::tempdir().unwrap();
    let profile = Profile::create(dir.path(), None, None, None).unwrap();
    let keys = profile.unlock(None).unwrap();
    assert_ne!(profile.identity().pubkey, profile.identity().enc_pubkey);
    assert_eq!(keys.public_pair(), profile.identity().pair());
    assert_eq!((profile.identity().version(), keys.old_enc.len()), (1, 0));
}

#[test]
fn an_old_profile_with_one_key_goes_on_working() {
    let dir = tempfile::tempdir().unwrap();
    let profile = Profile::create(dir.path(), Some("alice"), None, None).unwrap();
    let before = profile.identity().clone();
    drop(profile);
    let database = Connection::open(dir.path().join(schema::FILE)).unwrap();
    undo_later_migrations(&database, 3);
    drop(database);
    let profile = Profile::open(dir.path()).unwrap();
    let identity = profile.identity();
    assert_eq!((&identity.user_id, &identity.pubkey), (&before.user_id, &before.pubkey));
    assert_eq!((&identity.enc_pubkey, identity.version()), (&before.pubkey, 1));
    let keys = profile.unlock(None).unwrap();
    assert_eq!(keys.sign.public_key(), keys.enc.public_key());
    // It travels, too.
    let full = profile.full_identity(None).unwrap();
    let other = tempfile::tempdir().unwrap();
    assert_eq!(Profile::import(other.path(), full, None).unwrap().identity(), identity);
}

#[test]
fn an_identity_that_was_exported_is_the_same_elsewhere() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let profile = Profile::create(from.path(), Some("alice"), Some("Alice L."), None).unwrap();
    let text = profile.full_identity(None).unwrap().to_text().unwrap();
    let full = FullIdentity::from_text(&text).unwrap();
    let password = Password::new("correct horse".to_owned());
    let imported = Profile::import(to.path(), full.clone(), Some(&password)).unwrap();
    assert_eq!(imported.identity(), profile.identity());
    assert!(matches!(imported.unlock(None), Err(ClientError::PasswordNeeded)));
    let pair = imported.unlock(Some(&password)).unwrap().public_pair();
    assert_eq!(pair, profile.identity().pair());
    let again = Profile::import(to.path(), full, None);
    assert!(matches!(again, Err(ClientError::AlreadyRegistered { .. })));
    assert_eq!(Profile::open(to.path()).unwrap().identity(), profile.identity());
}

#[test]
fn keys_that_were_replaced_are_followed_and_kept_for_what_comes_late() {
    let dir = tempfile::tempdir().unwrap();
    let profile = Profile::create(dir.path(), None, None, None).unwrap();
    let (old, mut new) = (profile.unlock(None).unwrap(), identity::generate_keys().unwrap());
    new.old_enc.push(old.enc.clone());
    let Identity { user_id, .. } = profile.identity();
    let statement = KeyHistory::next(user_id, &old.public_pair(), None, new.public_pair(), 7);
    let statement = socp_crypto::sign_statement(statement, &old.sign).unwrap();
    let history = KeyHistory::begin(old.public_pair(), statement).unwrap();
    let replaced = profile.replace_keys(new.clone(), history.clone(), None).unwrap();
    for profile in [replaced, Profile::open(dir.path()).unwrap()] {
        assert_eq!(
            (profile.identity().version(), profile.identity().pair()),
            (2, new.public_pair())
        );
        let keys = profile.unlock(None).unwrap();
        assert_eq!(keys.old_enc[0].public_key(), old.enc.public_key());
    }
    // A program that still has the old ones open does not put anything in their place.
    let late = profile.replace_keys(new, history, None);
    assert!(matches!(late, Err(ClientError::KeysChangedMeanwhile)));
}

#[test]
fn what_a_program_has_proved_is_kept_until_other_keys_are_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let profile = Profile::create(dir.path(), None, None, None).unwrap();
    let bob = pin("bob-id", 1);
    let program = Program {
        user: bob.user.clone(),
        acks: true,
        numbered_at: 77,
        home: None,
    };
    profile.save_pins(std::slice::from_ref(&bob), &[program]).unwrap();
    let kept = || {
        let pins = Profile::open(dir.path()).unwrap().pins().unwrap();
        (pins[0].acks, pins[0].numbered_at)
    };
    assert_eq!(kept(), (true, 77));
    profile.save_trust("", &TrustNews::Alarm(alarm("bob-id", 2))).unwrap();
    profile.accept_key(&alarm("bob-id", 2)).unwrap();
    assert_eq!(kept(), (true, 0));
}

fn alarm(user: &str, number: u8) -> Alarm {
    let key = KeyText::from_der(&[number]);
    Alarm {
        user: UserId::try_from(user).unwrap(),
        seen: CardFingerprint::of(&key, &key),
        keys: Some((key.clone(), key)),
        teller: Teller::Server,
    }
}

#[test]
fn an_alarm_is_kept_until_it_is_decided_and_the_decision_after_that() {
    let dir = tempfile::tempdir().unwrap();
    let profile = Profile::create(dir.path(), None, None, None).unwrap();
    let bob = pin("bob-id", 1);
    profile.save_pins(std::slice::from_ref(&bob), &[]).unwrap();
    profile.set_verified(&bob).unwrap();
    let (first, second) = (alarm("bob-id", 2), alarm("bob-id", 3));
    for seen in [&first, &second, &alarm("bob-id", 1)] {
        profile.save_trust("", &TrustNews::Alarm(seen.clone())).unwrap();
    }
    let again = Profile::open(dir.path()).unwrap();
    assert_eq!(again.alarms().unwrap(), std::slice::from_ref(&first));

    again.keep_key(&first).unwrap();
    let record = again.trust_record().unwrap();
    assert!(record.alarms.is_empty() && record.verified.contains(&bob.user));
    assert_eq!(record.refused, [(bob.user.clone(), first.seen, Teller::Server)]);

    profile.save_trust("", &TrustNews::Alarm(second.clone())).unwrap();
    again.accept_key(&second).unwrap();
    let record = again.trust_record().unwrap();
    assert!(record.alarms.is_empty() && record.verified.is_empty());
    let accepted = again.pins().unwrap();
    assert_eq!((accepted.len(), accepted[0].fingerprint()), (1, second.seen));
    assert_eq!(accepted[0].name, bob.name);
    // A program that still runs with the old pin tells of what is accepted by now.
    profile.save_trust("", &TrustNews::Alarm(second)).unwrap();
    assert!(again.alarms().unwrap().is_empty());
}

fn former(number: u8, until: u64) -> FormerKey {
    let key = KeyText::from_der(&[number]);
    FormerKey { key, until }
}

fn denied(profile: &Profile) -> Vec<Fingerprint> {
    let denied = profile.trust_record().unwrap().denied;
    denied.into_iter().map(|(_, key)| key).collect()
}

#[test]
fn keys_before_the_pinned_one_are_kept_until_another_is_taken_for_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let profile = Profile::create(dir.path(), None, None, None).unwrap();
    let print = |number: u8| KeyText::from_der(&[number]).fingerprint();
    let eve = pin("eve-id", 9);
    let bob = UserPin {
        version: 3,
        former: vec![former(2, 20), former(3, 30)],
        ..pin("bob-id", 4)
    };
    profile.save_pins(&[bob.clone(), eve.clone()], &[]).unwrap();
    // Whoever says later when it was replaced is not believed.
    let later = UserPin {
        former: vec![former(2, 2_000)],
        ..bob.clone()
    };
    profile.save_pins(&[later], &[]).unwrap();
    let again = Profile::open(dir.path()).unwrap();
    assert_eq!(again.pins().unwrap(), [bob, eve]);
    // To stay with the known key is to be against the other one.
    again.keep_key(&alarm("bob-id", 7)).unwrap();
    assert_eq!(denied(&profile), [print(7)]);
    // To take another is to be against the known one and those before.
    again.accept_key(&alarm("bob-id", 8)).unwrap();
    let mut against = denied(&profile);
    against.sort_unstable();
    let mut all = [2, 3, 4, 7].map(print);
    all.sort_unstable();
    assert_eq!(against, all);
    assert!(again.pins().unwrap()[0].former.is_empty());
    again.accept_key(&alarm("bob-id", 7)).unwrap();
    assert!(!denied(&profile).contains(&print(7)) && denied(&profile).contains(&print(8)));
}

#[test]
fn a_card_promises_a_key_and_an_accepted_card_does_too() {
    let dir = tempfile::tempdir().unwrap();
    let profile = Profile::create(dir.path(), Some("me"), None, None).unwrap();
    let bob = pin("bob-id", 1);
    let card = |number: u8| Card::new(bob.user.clone(), "srv", 1, None, alarm("bob-id", number).seen).unwrap();
    assert_eq!(profile.add_card(&card(2)).unwrap(), CardOutcome::Expected);
    assert_eq!(profile.add_card(&card(1)).unwrap(), CardOutcome::Expected);
    let expected = profile.trust_record().unwrap().expected;
    assert_eq!(expected.get(&bob.user), Some(&card(1).fingerprint()));

    profile.save_pins(std::slice::from_ref(&bob), &[]).unwrap();
    profile.save_trust("", &TrustNews::Verified(bob.clone())).unwrap();
    let record = profile.trust_record().unwrap();
    assert!(record.expected.is_empty() && record.verified.contains(&bob.user));

    profile.unset_verified(&bob.user).unwrap();
    assert_eq!(profile.add_card(&card(1)).unwrap(), CardOutcome::Verified);
    let CardOutcome::Contradicts(alarm) = profile.add_card(&card(2)).unwrap() else {
        panic!("another key is on it");
    };
    assert_eq!(profile.alarms().unwrap(), std::slice::from_ref(&alarm));
    profile.accept_key(&alarm).unwrap();
    assert!(profile.pins().unwrap().is_empty());
    let expected = profile.trust_record().unwrap().expected;
    assert_eq!(expected.get(&bob.user), Some(&card(2).fingerprint()));

    let own = profile.card("srv.example", 8765).unwrap();
    assert_eq!(own.name(), Some("me"));
    assert!(matches!(profile.add_card(&own), Err(ClientError::OwnCard)));
}

#[test]
fn who_else_says_the_same_key_counts_for_that_key_only() {
    let dir = tempfile::tempdir().unwrap();
    let profile = Profile::create(dir.path(), None, None, None).unwrap();
    let bob = pin("bob-id", 1);
    profile.save_pins(std::slice::from_ref(&bob), &[]).unwrap();
    let url = crate::ServerUrl::parse("ws://other:1").unwrap();
    let word = |number: u8, is_signed| crate::Word {
        keys: alarm("bob-id", number).keys,
        history: None,
        is_signed,
    };
    assert_eq!(profile.judge_word(&bob, &url, &word(1, false)).unwrap(), Verdict::Same);
    assert!(profile.confirmations().unwrap().is_empty());
    for _ in 0..2 {
        assert_eq!(profile.judge_word(&bob, &url, &word(1, true)).unwrap(), Verdict::Same);
    }
    let said = [(bob.user.clone(), Teller::OtherServer(url.as_str().to_owned()))];
    assert_eq!(profile.confirmations().unwrap(), said);
    assert_eq!(profile.judge_word(&bob, &url, &word(2, false)).unwrap(), Verdict::Other);
    let [alarm] = &profile.alarms().unwrap()[..] else {
        panic!("one is");
    };
    profile.accept_key(alarm).unwrap();
    assert!(profile.confirmations().unwrap().is_empty());
}

#[test]
fn another_key_of_a_server_is_taken_at_all_its_addresses_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let profile = Profile::create(dir.path(), None, None, None).unwrap();
    for url in ["ws://a:1/", "ws://b:1/"] {
        profile.save_server(url, &server_pin(1)).unwrap();
    }
    let other = ServerPin {
        id: ServerId::try_from("new").unwrap(),
        ..server_pin(2)
    };
    profile
        .save_server(
            "ws://c:1/",
            &ServerPin {
                id: ServerId::try_from("c").unwrap(),
                ..server_pin(3)
            },
        )
        .unwrap();
    assert_eq!(profile.other_servers("ws://a:1/").unwrap().len(), 1);
    assert_eq!(profile.other_servers("").unwrap().len(), 2);
    profile
        .save_trust("ws://a:1/", &TrustNews::ServerChanged(other.clone()))
        .unwrap();
    let [alarm] = &profile.server_alarms().unwrap()[..] else {
        panic!("one is");
    };
    assert_eq!((&alarm.pinned.key, &alarm.seen.key), (&server_pin(1).key, &other.key));
    profile.accept_server(alarm).unwrap();
    assert!(profile.server_alarms().unwrap().is_empty());
    for url in ["ws://a:1/", "ws://b:1/"] {
        assert_eq!(
            profile.server(url).unwrap(),
            Some(ServerPin {
                name: Some("srv-a".to_owned()),
                ..other.clone()
            })
        );
    }
}

#[test]
fn a_handle_that_could_deceive_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let table = [
        ("bo\u{200b}b", "invisible"),
        ("bo\u{200d}b", "invisible"),
        ("bob\u{202e}", "invisible"),
        ("bob\u{2066}", "invisible"),
        ("bob\u{fe0f}", "invisible"),
        ("bob\u{e0061}", "invisible"),
        ("bob\u{3164}", "invisible"),
        ("b\u{43e}b", "several scripts"),
        ("zoe\u{301}", "normal form"),
        ("b ob", "spaces"),
    ];
    for (name, why) in table {
        let refused = Profile::create(dir.path(), Some(name), None, None)
            .unwrap_err()
            .to_string();
        assert!(refused.contains(why), "{name:?}: {refused}");
    }
    let shown = Profile::create(dir.path(), Some("bob"), Some("B\u{202e}ob"), None).unwrap_err();
    assert!(shown.to_string().contains("--display"), "{shown}");
    for (index, name) in ["zo\u{e9}", "мария", "你好", "b_o.b-1"].into_iter().enumerate() {
        Profile::create(&dir.path().join(index.to_string()), Some(name), None, None).unwrap();
    }
}

//! Key files: what opens them, what does not, and what is refused before any work is done.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socp_crypto::keyfile::Argon2Cost;
use socp_crypto::{CryptoError, KeyFileFault, Password, PrivateKey, SealedKey, SecretBytes, UnlockSecret};

#[test]
fn password_opens_what_it_sealed() {
    let password = Password::new("correct horse".to_owned());
    let sealed = SealedKey::seal(key(), UnlockSecret::Password(&password)).unwrap();
    assert!(sealed.needs_password());
    let read = SealedKey::from_json(&sealed.to_json().unwrap()).unwrap();
    assert_eq!(read, sealed);
    let opened = read.open(UnlockSecret::Password(&password)).unwrap();
    assert_eq!(opened.to_pkcs8_der().unwrap(), key().to_pkcs8_der().unwrap());
    assert_eq!(open_with(&read, "Correct horse"), CryptoError::WrongPassword);
    assert_eq!(open_with(&read, ""), CryptoError::WrongPassword);
}

#[test]
fn secret_opens_what_it_sealed() {
    let secret = SecretBytes::random().unwrap();
    let sealed = SealedKey::seal(key(), UnlockSecret::Secret(&secret)).unwrap();
    assert!(!sealed.needs_password());
    let read = SealedKey::from_json(&sealed.to_json().unwrap()).unwrap();
    let opened = read.open(UnlockSecret::Secret(&secret)).unwrap();
    assert_eq!(opened.public_key(), key().public_key());
    let other = SecretBytes::random().unwrap();
    assert_eq!(
        read.open(UnlockSecret::Secret(&other)).unwrap_err(),
        CryptoError::WrongPassword
    );
}

#[test]
fn the_wrong_kind_of_secret_is_named() {
    let secret = SecretBytes::random().unwrap();
    let by_secret = SealedKey::seal(key(), UnlockSecret::Secret(&secret)).unwrap();
    assert_eq!(open_with(&by_secret, "pw"), KeyFileFault::NeedsSecret.into());
    let error = by_password().open(UnlockSecret::Secret(&secret)).unwrap_err();
    assert_eq!(error, KeyFileFault::NeedsPassword.into());
    let short = SecretBytes::new(vec![1; 31]);
    let error = SealedKey::seal(key(), UnlockSecret::Secret(&short)).unwrap_err();
    assert_eq!(error, KeyFileFault::ShortSecret.into());
}

#[test]
fn a_change_to_any_field_is_noticed() {
    assert!(
        by_password()
            .open(UnlockSecret::Password(&Password::new("pw".to_owned())))
            .is_ok()
    );
    let salt = document()["kdf"]["salt"].as_str().unwrap().to_owned();
    for (pointer, value) in [
        ("/kdf/m_kib", json!(8193)),
        ("/kdf/t", json!(2)),
        ("/kdf/p", json!(2)),
        ("/kdf/salt", flipped(&salt)),
        ("/iv", flipped(document()["iv"].as_str().unwrap())),
        ("/ciphertext", flipped(document()["ciphertext"].as_str().unwrap())),
        ("/ciphertext", json!("")),
    ] {
        let sealed = SealedKey::from_json(&changed(pointer, value)).unwrap();
        assert_eq!(open_with(&sealed, "pw"), CryptoError::WrongPassword, "{pointer}");
    }
}

#[test]
fn derivation_cannot_be_swapped() {
    // Even an attacker who knows a secret cannot make a password file open by it.
    let secret = SecretBytes::random().unwrap();
    let kdf = json!({"alg": "hkdf-sha256", "salt": document()["kdf"]["salt"]});
    let sealed = SealedKey::from_json(&changed("/kdf", kdf)).unwrap();
    assert_eq!(
        sealed.open(UnlockSecret::Secret(&secret)).unwrap_err(),
        CryptoError::WrongPassword
    );
}

#[test]
fn absurd_parameters_are_refused_before_any_work() {
    let started = Instant::now();
    for (pointer, value) in [
        ("/kdf/m_kib", json!(u32::MAX)),
        ("/kdf/m_kib", json!(1024 * 1024 + 1)),
        ("/kdf/m_kib", json!(8 * 1024 - 1)),
        ("/kdf/t", json!(0)),
        ("/kdf/t", json!(17)),
        ("/kdf/p", json!(0)),
        ("/kdf/p", json!(9)),
        ("/kdf/salt", json!("AAAAAAAAAAAAAAAAAAAA")),
        ("/kdf/salt", json!("A".repeat(88))),
    ] {
        let text = changed(pointer, value);
        let error = SealedKey::from_json(&text).unwrap_err();
        assert!(
            matches!(error, CryptoError::KeyFile(KeyFileFault::Parameters(_))),
            "{pointer}: {error}"
        );
        // A file that reached the struct another way is refused all the same.
        let sealed: SealedKey = serde_json::from_str(&text).unwrap();
        assert_eq!(open_with(&sealed, "pw"), error, "{pointer}");
    }
    assert!(started.elapsed() < Duration::from_secs(5));
    let cost = Argon2Cost { m_kib: 64, t: 1, p: 1 };
    let password = Password::new("pw".to_owned());
    let error = SealedKey::seal_with_cost(key(), UnlockSecret::Password(&password), cost).unwrap_err();
    assert!(matches!(error, CryptoError::KeyFile(KeyFileFault::Parameters(_))));
}

#[test]
fn later_foreign_and_damaged_files_are_told_apart() {
    let newer = KeyFileFault::Newer(2);
    assert_eq!(read_fault(&changed("/version", json!(2))), newer);
    assert_eq!(read_fault(r#"{"version":2,"something":"else"}"#), newer);
    for foreign in [
        "{}",
        "[]",
        "7",
        r#"{"version":1}"#,
        r#"{"kdf":{}}"#,
        &"x".repeat(1 << 17),
    ] {
        assert_eq!(read_fault(foreign), KeyFileFault::Foreign, "{foreign:.40}");
    }
    assert_eq!(read_fault(&changed("/version", json!(0))), KeyFileFault::Foreign);
    let whole = by_password().to_json().unwrap();
    let mut faults = vec![
        read_fault(""),
        read_fault(&whole[..whole.len() / 2]),
        read_fault(&whole.replacen('{', r#"{"iv":"AAAA","#, 1)),
        read_fault(&whole.replacen('{', r#"{"extra":1,"#, 1)),
    ];
    for (pointer, value) in [
        ("/kdf/alg", json!("scrypt")),
        ("/kdf/t", json!("3")),
        ("/kdf/m_kib", json!(1_u64 << 32)),
        ("/kdf/salt", json!("not base64url!!!")),
        ("/ciphertext", json!(null)),
    ] {
        faults.push(read_fault(&changed(pointer, value)));
    }
    for fault in faults {
        assert!(matches!(fault, KeyFileFault::Damaged(_)), "{fault}");
    }
    let sealed = SealedKey::from_json(&changed("/iv", json!("AAAA"))).unwrap();
    assert!(matches!(
        open_with(&sealed, "pw"),
        CryptoError::KeyFile(KeyFileFault::Damaged(_))
    ));
}

#[test]
fn the_document_is_canonical_and_shows_no_secret() {
    let text = by_password().to_json().unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(text, value.to_string(), "sorted keys, no white space");
    assert_eq!(value["kdf"]["alg"], "argon2id");
    let debug = format!(
        "{:?} {:?}",
        by_password(),
        UnlockSecret::Password(&Password::new("hunter2".to_owned()))
    );
    assert!(!debug.contains("hunter2") && debug.len() < 400, "{debug}");
}

#[test]
fn sealing_twice_never_repeats_salt_or_iv() {
    let password = Password::new("pw".to_owned());
    let seal = || SealedKey::seal_with_cost(key(), UnlockSecret::Password(&password), CHEAP).unwrap();
    let values = [seal(), seal()].map(|sealed| serde_json::to_value(sealed).unwrap());
    let [one, two] = &values;
    for pointer in ["/kdf/salt", "/iv", "/ciphertext"] {
        assert_ne!(one.pointer(pointer), two.pointer(pointer));
    }
}

fn open_with(sealed: &SealedKey, password: &str) -> CryptoError {
    sealed
        .open(UnlockSecret::Password(&Password::new(password.to_owned())))
        .unwrap_err()
}

fn read_fault(text: &str) -> KeyFileFault {
    match SealedKey::from_json(text) {
        Err(CryptoError::KeyFile(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

/// The document of [`by_password`] with one value replaced.
fn changed(pointer: &str, value: Value) -> String {
    let mut document = document();
    *document.pointer_mut(pointer).unwrap() = value;
    document.to_string()
}

fn document() -> Value {
    serde_json::to_value(by_password()).unwrap()
}

/// The text with its first character replaced by another of the alphabet.
fn flipped(text: &str) -> Value {
    let first = if text.starts_with('A') { 'B' } else { 'A' };
    Value::String(
        text.chars()
            .skip(1)
            .fold(first.to_string(), |text, character| text + &character.to_string()),
    )
}

/// Sealed under the password "pw" at the lowest cost.
fn by_password() -> &'static SealedKey {
    static SEALED: OnceLock<SealedKey> = OnceLock::new();
    SEALED.get_or_init(|| {
        let password = Password::new("pw".to_owned());
        SealedKey::seal_with_cost(key(), UnlockSecret::Password(&password), CHEAP).unwrap()
    })
}

/// One key for the whole file: making one takes about a second.
fn key() -> &'static PrivateKey {
    static KEY: OnceLock<PrivateKey> = OnceLock::new();
    KEY.get_or_init(|| PrivateKey::generate().unwrap())
}

const CHEAP: Argon2Cost = Argon2Cost {
    m_kib: 8 * 1024,
    t: 1,
    p: 1,
};

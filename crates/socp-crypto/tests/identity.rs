//! Identities: what one text holds, what is refused, and the file that it travels in.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use serde_json::{Value, json};
use socp_crypto::{
    CryptoError, FullIdentity, IdentityFault, IdentityText, KeyFileFault, Password, PrivateKey, SealedIdentity,
    SealedKey, SecretBytes, UnlockSecret, UserKeys, check_history, sign_statement,
};
use socp_proto::{Base64Url, Fingerprint, KeyHistory, UserId};
use std::sync::OnceLock;

fn keys() -> &'static [PrivateKey; 4] {
    static KEYS: OnceLock<[PrivateKey; 4]> = OnceLock::new();
    KEYS.get_or_init(|| {
        let vectors: Value = serde_json::from_str(include_str!("../../../vectors/keys.json")).unwrap();
        let texts = vectors["cases"].as_array().unwrap().iter();
        let ders = texts.filter_map(|case| case["pkcs8_b64u"].as_str());
        let mut ders = ders.map(|text| Base64Url::try_from(text).unwrap().decode());
        std::array::from_fn(|_| PrivateKey::from_pkcs8_der(&ders.next().unwrap()).unwrap())
    })
}

fn first() -> UserKeys {
    let [sign, enc, ..] = keys().clone();
    let old_enc = Vec::new();
    UserKeys { sign, enc, old_enc }
}

fn second() -> UserKeys {
    let [_, old, sign, enc] = keys().clone();
    let old_enc = vec![old];
    UserKeys { sign, enc, old_enc }
}

fn user() -> UserId {
    UserId::made_from(Fingerprint::of(first().sign.public_key().spki_der()))
}

fn history(signer: &PrivateKey) -> KeyHistory {
    let statement = KeyHistory::next(&user(), &first().public_pair(), None, second().public_pair(), 7);
    KeyHistory::begin(first().public_pair(), sign_statement(statement, signer).unwrap()).unwrap()
}

fn identity() -> FullIdentity {
    FullIdentity {
        user_id: user(),
        name: Some("alice".to_owned()),
        display_name: Some("Älice \"L.\"".to_owned()),
        keys: second(),
        history: Some(history(&first().sign)),
    }
}

fn text(change: impl Fn(&mut Value)) -> IdentityText {
    let mut value: Value = serde_json::from_str(identity().to_text().unwrap().expose()).unwrap();
    change(&mut value);
    IdentityText::new(value.to_string().into())
}

#[test]
fn what_was_written_is_read_and_written_the_same() {
    // Signed once: each signature is another.
    let identity = identity();
    let text = identity.to_text().unwrap();
    let read = FullIdentity::from_text(&text).unwrap();
    assert_eq!(read.user_id, user());
    assert_eq!(
        (read.name, read.display_name),
        (identity.name.clone(), identity.display_name.clone())
    );
    assert_eq!(
        (read.keys.public_pair(), read.history),
        (second().public_pair(), identity.history.clone())
    );
    assert_eq!(read.keys.old_enc[0].public_key(), first().enc.public_key());
    // Canonical: what any JSON library with sorted keys writes.
    let value: Value = serde_json::from_str(text.expose()).unwrap();
    assert_eq!(value.to_string(), text.expose());
    let bare = FullIdentity {
        name: None,
        display_name: None,
        keys: first(),
        history: None,
        ..identity
    };
    let value: Value = serde_json::from_str(bare.to_text().unwrap().expose()).unwrap();
    let fields: Vec<&String> = value.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["enc_key", "sign_key", "user_id", "v"]);
    assert_eq!(format!("{text:?}"), "IdentityText(..)");
}

#[test]
fn a_text_that_is_wrong_is_refused_and_says_why() {
    let other = second().public_pair();
    type Change = Box<dyn Fn(&mut Value)>;
    let table: [(&str, Change); 12] = [
        ("please update", Box::new(|text| text["v"] = 2.into())),
        ("not an identity", Box::new(|text| *text = json!({"hello": 1}))),
        ("not an identity", Box::new(|text| *text = json!([]))),
        ("missing or malformed", Box::new(|text| text["novel"] = 1.into())),
        (
            "missing or malformed",
            Box::new(|text| drop(text.as_object_mut().unwrap().remove("enc_key"))),
        ),
        ("missing or malformed", Box::new(|text| text["user_id"] = "a b".into())),
        ("not base64url", Box::new(|text| text["sign_key"] = "+/".into())),
        ("canonical DER", Box::new(|text| text["sign_key"] = "AAAA".into())),
        (
            "breaks the rules",
            Box::new(|text| text["display_name"] = "x".repeat(65).into()),
        ),
        ("another user's", Box::new(|text| text["user_id"] = "u".into())),
        (
            "too many old keys",
            Box::new(|text| text["old_enc_keys"] = vec![text["enc_key"].clone(); 5].into()),
        ),
        (
            "ends with other keys",
            Box::new(move |text| text["enc_key"] = text["old_enc_keys"][0].clone()),
        ),
    ];
    for (why, change) in table {
        let refused = FullIdentity::from_text(&text(change)).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused:?} instead of {why:?}");
    }
    let long = IdentityText::new(" ".repeat(1 << 17).into());
    assert_eq!(
        FullIdentity::from_text(&long).unwrap_err(),
        IdentityFault::TooLong.into()
    );
    let twice = text(|_| {}).expose().replacen("{", "{\"v\":1,", 1);
    assert!(FullIdentity::from_text(&IdentityText::new(twice.into())).is_err());
    assert!(history(&first().sign).newest() == other);
}

#[test]
fn a_history_is_signed_by_the_key_before_and_by_no_other() {
    assert_eq!(check_history(&history(&first().sign)), Ok(()));
    for wrong in [&second().sign, &first().enc] {
        assert_eq!(check_history(&history(wrong)), Err(CryptoError::BadSignature));
        let forged = FullIdentity {
            history: Some(history(wrong)),
            ..identity()
        };
        let refused = FullIdentity::from_text(&forged.to_text().unwrap()).unwrap_err();
        assert_eq!(refused, CryptoError::BadSignature);
    }
    // Every later statement, too.
    let good = history(&first().sign);
    let last = KeyHistory::next(&user(), good.first(), Some(&good), second().public_pair(), 8);
    assert!(last.revoked);
    let signed = |key: &PrivateKey| good.and(sign_statement(last.clone(), key).unwrap()).unwrap();
    assert_eq!(check_history(&signed(&second().sign)), Ok(()));
    assert_eq!(check_history(&signed(&first().sign)), Err(CryptoError::BadSignature));
}

#[test]
fn what_was_encrypted_to_a_key_that_was_replaced_still_opens() {
    for key in [&first().enc, &second().enc] {
        let sealed = key.public_key().seal(b"hello").unwrap();
        assert_eq!(second().open(&sealed, 100).unwrap().expose(), b"hello");
    }
    let foreign = first().sign.public_key().seal(b"hello").unwrap();
    assert_eq!(second().open(&foreign, 100), Err(CryptoError::Decrypt));
}

#[test]
fn a_sealed_identity_opens_with_its_password_alone() {
    let password = Password::new("correct horse".to_owned());
    let text = identity().to_text().unwrap();
    let sealed = SealedIdentity::seal(&text, &password).unwrap();
    let file = sealed.to_json().unwrap();
    assert!(!file.contains(user().as_str()) && !file.contains("alice"));
    let read = SealedIdentity::from_json(&file).unwrap();
    assert_eq!(read.open(&password).unwrap().expose(), text.expose());
    let wrong = Password::new("Correct horse".to_owned());
    assert_eq!(read.open(&wrong).unwrap_err(), CryptoError::WrongPassword);
    let none = Password::new(String::new());
    assert_eq!(
        SealedIdentity::seal(&text, &none).unwrap_err(),
        KeyFileFault::NoPassword.into()
    );
    // Every field is authenticated.
    let flip = |field: &str| {
        let mut value: Value = serde_json::from_str(&file).unwrap();
        let text = value[field].as_str().unwrap();
        let first = if text.starts_with('A') { "B" } else { "A" };
        value[field] = format!("{first}{}", &text[1..]).into();
        SealedIdentity::from_json(&value.to_string()).unwrap().open(&password)
    };
    for field in ["ciphertext", "iv"] {
        assert_eq!(flip(field).unwrap_err(), CryptoError::WrongPassword, "{field}");
    }
}

#[test]
fn a_file_that_is_none_is_refused_and_named() {
    let secret = SecretBytes::random().unwrap();
    let key = SealedKey::seal(&first().sign, UnlockSecret::Secret(&secret)).unwrap();
    let newer = json!({"kind": "socp-identity", "version": 2}).to_string();
    let bare = json!({"kind": "socp-identity"}).to_string();
    let table = [
        ("key file of a server or a profile", key.to_json().unwrap()),
        ("JSON of something else", "{\"a\":1}".to_owned()),
        ("something else", json!({"kind": "x", "version": 1}).to_string()),
        ("complete JSON", "{\"kind\":\"socp-identity\"".to_owned()),
        ("please update", newer),
        ("version", bare),
        ("too large", " ".repeat(1 << 20)),
    ];
    for (why, file) in table {
        let refused = SealedIdentity::from_json(&file).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused:?} instead of {why:?}");
    }
    // And the other way round.
    let sealed = SealedIdentity::seal(&identity().to_text().unwrap(), &Password::new("x".to_owned())).unwrap();
    let refused = SealedKey::from_json(&sealed.to_json().unwrap()).unwrap_err();
    assert!(matches!(
        refused,
        CryptoError::KeyFile(KeyFileFault::Damaged(_) | KeyFileFault::Foreign)
    ));
}

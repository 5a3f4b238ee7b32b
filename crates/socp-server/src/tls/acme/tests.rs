//! When a certificate is asked for, and what is said where it cannot be had.

use super::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, date_time_ymd};
use std::fs;

/// 2030-01-01, and a certificate's ninety days.
const BEGIN_S: u64 = 1_893_456_000;
const DAYS_90_S: u64 = 90 * 86_400;

fn settings(domains: &[&str]) -> AcmeSettings {
    AcmeSettings {
        domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
        contacts: Vec::new(),
        directory: AcmeSettings::LETS_ENCRYPT.to_owned(),
        authority: None,
    }
}

fn held(settings: &AcmeSettings) -> Held {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(settings.domains.clone()).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(2030, 1, 1), date_time_ymd(2030, 4, 1));
    let chain = params.signed_by(&key, &issuer).unwrap().pem();
    Held::new(settings, chain, key.serialize_pem()).unwrap()
}

#[test]
fn the_next_certificate_is_asked_for_when_a_third_of_the_time_is_left() {
    let wanted = settings(&["a.example", "b.example"]);
    let held = held(&wanted);
    assert_eq!(held.dates, (BEGIN_S, BEGIN_S + DAYS_90_S));
    assert_eq!(held.due_s(&wanted), BEGIN_S + DAYS_90_S / 3 * 2);
    assert_eq!(held.days_left(BEGIN_S), 90);
    assert!(held.is_good(BEGIN_S) && !held.is_good(BEGIN_S - 1));
    // Of another authority, for one name more, for one that is not wanted any more: at once.
    let mut elsewhere = wanted.clone();
    elsewhere.directory = "https://ca.example/directory".to_owned();
    for other in [
        elsewhere,
        settings(&["a.example", "b.example", "c.example"]),
        settings(&["a.example"]),
    ] {
        assert_eq!(held.due_s(&other), 0, "{other:?}");
    }
}

#[test]
fn what_is_kept_is_found_again_and_what_is_damaged_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::new(dir.path());
    assert!(files.certificate().unwrap().is_none() && files.account().unwrap().is_none());
    let wanted = settings(&["a.example"]);
    let held = held(&wanted);
    files.keep_certificate(&held).unwrap();
    let path = dir.path().join("acme-certificate.json");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let found = files.certificate().unwrap().unwrap();
    assert_eq!((found.dates, found.identity.pin()), (held.dates, held.identity.pin()));
    assert!(!format!("{held:?}").contains("PRIVATE"));

    let (acme, identity) = Acme::open(dir.path(), wanted.clone(), 443).unwrap();
    assert_eq!(
        (acme.due_s, identity.pin()),
        (BEGIN_S + DAYS_90_S / 3 * 2, held.identity.pin())
    );
    let other = settings(&["b.example"]);
    let (acme, identity) = Acme::open(dir.path(), other, 443).unwrap();
    assert_eq!(
        (acme.due_s, identity.pin()),
        (0, held.identity.pin()),
        "better than none"
    );

    let refused = |wanted: &AcmeSettings| {
        Acme::open(dir.path(), wanted.clone(), 443)
            .map(drop)
            .unwrap_err()
            .to_string()
    };
    let long = " ".repeat(1024 * 1024 + 1);
    let no_pair = "{\"directory\":\"\",\"domains\":[],\"chain\":\"\",\"key\":\"\"}";
    for text in ["no json", "{}", no_pair, &long] {
        fs::write(&path, text).unwrap();
        let said = refused(&wanted);
        assert!(
            said.contains("acme-certificate.json") && said.contains("remove it"),
            "{said}"
        );
    }
    fs::remove_file(&path).unwrap();
    fs::write(dir.path().join("acme-account.json"), "{}").unwrap();
    let said = refused(&wanted);
    assert!(
        said.contains("acme-account.json") && said.contains("another account"),
        "{said}"
    );
    files.forget_account().unwrap();
    files.forget_account().unwrap();
    let mut with_ca = wanted;
    with_ca.authority = Some(dir.path().join("none.pem"));
    let said = refused(&with_ca);
    assert!(said.contains("none.pem") && said.contains("--acme-ca"), "{said}");
}

#[test]
fn before_there_is_a_certificate_another_is_shown_at_each_start() {
    let dir = tempfile::tempdir().unwrap();
    let [one, two] = [(); 2].map(|()| Acme::open(dir.path(), settings(&["a.example"]), 8765).unwrap());
    assert_eq!(one.0.due_s, 0);
    assert!(one.1.is_for("a.example"));
    assert_ne!(one.1.pin(), two.1.pin());
}

#[test]
fn who_says_no_is_asked_less_often_than_who_is_away() {
    let refused = |kind: &str| Fault::Refused {
        kind: kind.to_owned(),
        words: String::new(),
    };
    for (fault, waits_s) in [
        (Fault::Unreachable(String::new()), [5, 10, 600, 600]),
        (refused("connection"), [900, 1800, 43_200, 43_200]),
        (refused("rateLimited"), [3600, 7200, 43_200, 43_200]),
        (refused("accountDoesNotExist"), [5, 10, 600, 600]),
    ] {
        let waits = [0, 1, 10, u32::MAX].map(|failures| fault.wait(failures).as_secs());
        assert_eq!(waits, waits_s, "{fault}");
    }
}

#[test]
fn an_authoritys_words_reach_the_log_and_no_terminal() {
    let text = serde_json::json!({
        "type": "urn:ietf:params:acme:error:connection",
        "detail": "Isn't\u{1b}[2J \"there\"",
        "subproblems": [{"detail": "of a part"}],
    });
    let problem = serde_json::from_value(text).unwrap();
    let fault = Fault::refused(Some("chat.example"), &problem);
    let said = fault.to_string();
    assert!(
        said.contains("(connection)") && said.contains("chat.example: Isn't\\u{1b}[2J \"there\"; : of a part"),
        "{said}"
    );
    assert!(fault.advice().contains("port 443"));
    let long = serde_json::json!({ "detail": "x".repeat(10_000) });
    let fault = Fault::refused(None, &serde_json::from_value(long).unwrap());
    assert!(fault.to_string().len() < 1000);
}

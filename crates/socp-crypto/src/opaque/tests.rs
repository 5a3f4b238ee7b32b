//! Both ends of OPAQUE, what fails, what a thief pays, and the vectors.

use super::*;

fn server(id: &str) -> ServerId {
    ServerId::try_from(id).unwrap()
}

fn password(text: &str) -> Password {
    Password::new(text.to_owned())
}

fn setup(number: u8) -> OpaqueSetup {
    OpaqueSetup::from_seed([number; 32]).unwrap()
}

fn register(setup: &OpaqueSetup, id: &str, account: &str, text: &str) -> (payload::PasswordRecord, ExportKey) {
    let (registration, request) = Registration::begin(password(text)).unwrap();
    let response = setup.begin_registration(account, &request).unwrap();
    registration.finish(&server(id), &response).unwrap()
}

/// Both ends of a login; the key, if it ends well at both.
fn log_in(
    setup: &OpaqueSetup,
    (at_server, at_client): (&str, &str),
    account: &str,
    record: Option<&payload::PasswordRecord>,
    text: &str,
) -> Result<ExportKey, CryptoError> {
    let (login, request) = Login::begin(password(text)).unwrap();
    let (response, state) = setup
        .begin_login(&server(at_server), account, record, &request)
        .unwrap();
    let (finalization, export) = login.finish(&server(at_client), &response)?;
    finish_login(&state, &finalization)?;
    Ok(export)
}

#[test]
fn whoever_knows_the_password_opens_what_was_sealed() {
    let setup = setup(1);
    let (record, key) = register(&setup, "a", "id:u", "correct horse");
    let sealed = key.seal(b"an identity").unwrap();
    let again = log_in(&setup, ("a", "a"), "id:u", Some(&record), "correct horse").unwrap();
    assert_eq!(again.open(&sealed).unwrap().expose(), b"an identity");
}

#[test]
fn a_wrong_password_another_server_another_account_and_nobody_fail_alike() {
    let setup = setup(1);
    let (record, _) = register(&setup, "a", "id:u", "right");
    let cases = [
        log_in(&setup, ("a", "a"), "id:u", Some(&record), "wrong"),
        log_in(&setup, ("a", "b"), "id:u", Some(&record), "right"),
        log_in(&setup, ("b", "a"), "id:u", Some(&record), "right"),
        log_in(&setup, ("a", "a"), "id:v", Some(&record), "right"),
        log_in(&setup, ("a", "a"), "id:u", None, "right"),
        log_in(&self::setup(2), ("a", "a"), "id:u", Some(&record), "right"),
    ];
    for (number, case) in cases.into_iter().enumerate() {
        assert_eq!(case.unwrap_err(), CryptoError::WrongPassword, "{number}");
    }
}

#[test]
fn a_last_message_is_good_for_one_login_only() {
    let setup = setup(1);
    let (record, _) = register(&setup, "a", "id:u", "right");
    let (login, request) = Login::begin(password("right")).unwrap();
    let begin = || {
        setup
            .begin_login(&server("a"), "id:u", Some(&record), &request)
            .unwrap()
    };
    let ((response, state), (_, another)) = (begin(), begin());
    let (finalization, _) = login.finish(&server("a"), &response).unwrap();
    assert_eq!(finish_login(&another, &finalization), Err(CryptoError::WrongPassword));
    assert_eq!(finish_login(&state, &finalization), Ok(()));
}

#[test]
fn the_server_stretches_nothing_and_a_client_once() {
    let setup = setup(1);
    let (registration, request) = Registration::begin(password("p")).unwrap();
    let before = stretched_count();
    let response = setup.begin_registration("id:u", &request).unwrap();
    assert_eq!(stretched_count(), before);
    let (record, _) = registration.finish(&server("a"), &response).unwrap();
    assert_eq!(stretched_count(), before + 1);
    for record in [Some(&record), None] {
        let (login, request) = Login::begin(password("p")).unwrap();
        let before = stretched_count();
        let (response, _) = setup.begin_login(&server("a"), "id:u", record, &request).unwrap();
        assert_eq!(stretched_count(), before, "of an account and of none alike");
        let _ended = login.finish(&server("a"), &response);
        assert_eq!(stretched_count(), before + 1);
    }
}

#[test]
fn secrets_open_again_and_only_under_the_same_bytes() {
    let setup = setup(3);
    let unlock = SecretBytes::random().unwrap();
    let text = setup.seal(&unlock).unwrap();
    let opened = OpaqueSetup::open(&text, &unlock).unwrap();
    assert_eq!(opened.setup.serialize(), setup.setup.serialize());
    let other = SecretBytes::random().unwrap();
    let refused = |text: &str, unlock| OpaqueSetup::open(text, unlock).unwrap_err();
    assert_eq!(refused(&text, &other), OpaqueFault::Setup.into());
    assert_eq!(refused(&text[1..], &unlock), OpaqueFault::Setup.into());
    assert_eq!(refused("{}", &unlock), OpaqueFault::Setup.into());
    let newer = text.replace("\"v\":1", "\"v\":2");
    assert_eq!(refused(&newer, &unlock), OpaqueFault::Setup.into());
}

#[test]
fn what_is_sealed_is_bounded_and_says_what_is_wrong_with_it() {
    let (_, key) = register(&setup(1), "a", "id:u", "p");
    let sealed = key.seal(&vec![b'x'; IDENTITY_TEXT_BYTES_MAX]).unwrap();
    let limit = socp_proto::limits::KEPT_IDENTITY_BYTES_MAX;
    assert!(sealed.ciphertext.as_str().len() <= limit);
    let text = serde_json::to_string(&sealed).unwrap();
    assert_eq!(serde_json::from_str::<payload::KeptIdentity>(&text).unwrap(), sealed);
    assert!(
        text.starts_with("{\"ciphertext\":") && text.ends_with(",\"v\":1}"),
        "canonical"
    );
    assert!(matches!(
        key.seal(&vec![b'x'; IDENTITY_TEXT_BYTES_MAX + 1]),
        Err(CryptoError::TooLong { .. })
    ));
    let newer = payload::KeptIdentity { v: 2, ..sealed.clone() };
    assert_eq!(key.open(&newer).unwrap_err(), OpaqueFault::Newer(2).into());
    let altered = payload::KeptIdentity {
        iv: Base64Url::encode(&[0; 12]),
        ..sealed
    };
    assert_eq!(key.open(&altered).unwrap_err(), OpaqueFault::Sealed.into());
}

#[test]
fn what_is_no_point_is_no_message() {
    let setup = setup(1);
    let request = payload::RegistrationRequest::try_from([0xff; 32].as_slice()).unwrap();
    assert_eq!(
        setup.begin_registration("id:u", &request).unwrap_err(),
        OpaqueFault::Message.into()
    );
    let request = payload::CredentialRequest::try_from([0xff; 96].as_slice()).unwrap();
    let begun = setup.begin_login(&server("a"), "id:u", None, &request);
    assert_eq!(begun.unwrap_err(), OpaqueFault::Message.into());
    let record = payload::PasswordRecord::try_from([0xff; 192].as_slice()).unwrap();
    assert_eq!(check_record(&record).unwrap_err(), OpaqueFault::Message.into());
    // The neutral element would make every password the same.
    let request = payload::RegistrationRequest::try_from([0; 32].as_slice()).unwrap();
    assert_eq!(
        setup.begin_registration("id:u", &request).unwrap_err(),
        OpaqueFault::Message.into()
    );
}

/// The same algorithms without the stretching.
struct Cheap;

impl CipherSuite for Cheap {
    type OprfCs = Ristretto255;
    type KeyExchange = TripleDh<Ristretto255, Sha512>;
    type Ksf = opaque_ke::ksf::Identity;
}

#[test]
fn whoever_has_all_that_the_server_has_checks_a_guess_by_stretching_it_and_not_without() {
    let (setup, server) = (setup(1), server("a"));
    let (record, _) = register(&setup, "a", "id:u", "right");
    for (guess, is_right) in [("wrong", false), ("right", true), ("Right", false)] {
        let before = stretched_count();
        let checked = log_in(&setup, ("a", "a"), "id:u", Some(&record), guess);
        assert_eq!((checked.is_ok(), stretched_count()), (is_right, before + 1), "{guess}");
    }
    // The thief computes both ends with the stolen secrets, and leaves the expensive step out.
    let stolen = ServerSetup::<Cheap>::deserialize(&setup.setup.serialize()).unwrap();
    let mut rng = ChaCha20Rng::from_seed([9; 32]);
    let begun = ClientLogin::<Cheap>::start(&mut rng, b"right").unwrap();
    let named = server_identity(&server);
    let parameters = server_parameters(&named);
    let kept = ServerRegistration::<Cheap>::deserialize(&record.bytes()).unwrap();
    let answered = ServerLogin::start(&mut rng, &stolen, Some(kept), begun.message, b"id:u", parameters).unwrap();
    let parameters = ClientLoginFinishParameters::new(None, identifiers(&named), None);
    let opened = begun.state.finish(&mut rng, b"right", answered.message, parameters);
    assert!(opened.is_err(), "the right password opens nothing without it");
}

/// One registration and one login, with everything that was drawn.
fn transcript(name: &str, [server_id, account, password]: [&str; 3], seed: u8) -> serde_json::Value {
    let b64 = |bytes: &[u8]| Base64Url::encode(bytes).as_str().to_owned();
    let (setup, server) = (self::setup(seed), server(server_id));
    let password = || self::password(password);
    let (registration, registration_request) = Registration::begin_with([seed + 1; 32], password()).unwrap();
    let registration_state = registration.state.serialize().to_vec();
    let registration_response = setup.begin_registration(account, &registration_request).unwrap();
    let finished = registration.finish_with([seed + 2; 32], &server, &registration_response);
    let (record, export) = finished.unwrap();
    let (login, login_request) = Login::begin_with([seed + 3; 32], password()).unwrap();
    let login_state = login.state.serialize().to_vec();
    let begun = setup.begin_login_with([seed + 4; 32], &server, account, Some(&record), &login_request);
    let (login_response, server_state) = begun.unwrap();
    let (finalization, again) = login.finish(&server, &login_response).unwrap();
    assert_eq!(export.0, again.0);
    finish_login(&server_state, &finalization).unwrap();
    let mut key = [0; 32];
    let okm = Salt::new(HKDF_SHA256, &[]).extract(export.0.expose());
    okm.expand(&[IDENTITY_INFO], HKDF_SHA256)
        .unwrap()
        .fill(&mut key)
        .unwrap();
    serde_json::json!({
        "name": name,
        "server_id": server_id,
        "account": account,
        "password": password().expose(),
        "setup_b64u": b64(&setup.setup.serialize()),
        "registration_state_b64u": b64(&registration_state),
        "registration_request_b64u": b64(&registration_request.bytes()),
        "registration_response_b64u": b64(&registration_response.bytes()),
        "record_b64u": b64(&record.bytes()),
        "login_state_b64u": b64(&login_state),
        "login_request_b64u": b64(&login_request.bytes()),
        "login_response_b64u": b64(&login_response.bytes()),
        "finalization_b64u": b64(&finalization.bytes()),
        "export_key_b64u": b64(export.0.expose()),
        "identity_key_b64u": b64(&key),
    })
}

fn transcripts() -> Vec<serde_json::Value> {
    let id = "3f0f6a3e-8d8c-4c57-9a51-5d0c2d1b7a01";
    let server = "9e107d9d-3721-4c9f-8f4b-2f1d0a7c6b02";
    let account = format!("id:{id}");
    vec![
        transcript("one", [server, &account, "correct horse battery staple"], 10),
        transcript("beyond ascii", [server, &account, "p\u{e4}ssw\u{f6}rd \u{1f511}"], 20),
        transcript("an id that is no uuid", ["srv-a", "id:alice", "x"], 30),
    ]
}

fn vectors() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/opaque.json")
}

#[test]
fn what_is_drawn_from_these_seeds_is_what_the_vectors_say() {
    let text = std::fs::read_to_string(vectors()).unwrap();
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(file["cases"].as_array().unwrap(), &transcripts());
}

#[test]
fn what_was_stretched_serves_the_same_account_again_and_no_other() {
    let (setup, server) = (setup(1), server("a"));
    let (record, _) = register(&setup, "a", "id:u", "right");
    let (other, _) = register(&setup, "a", "id:v", "right");
    let mut kept = Stretched::default();
    for (account, record, expected) in [("id:u", &record, 1), ("id:u", &record, 0), ("id:v", &other, 1)] {
        let (login, request) = Login::begin(password("right")).unwrap();
        let (response, state) = setup.begin_login(&server, account, Some(record), &request).unwrap();
        let before = stretched_count();
        let (finalization, _) = login.finish_again(&server, &response, &mut kept).unwrap();
        assert_eq!(stretched_count() - before, expected, "{account}");
        finish_login(&state, &finalization).unwrap();
    }
}

#[test]
#[ignore = "writes vectors/opaque.json"]
fn write_the_vectors() {
    let about = "OPAQUE with this protocol's parameters: what client and server keep and say, and what comes of it.";
    let file =
        serde_json::json!({ "about": about, "generator": { "rust": "opaque-ke 4.0.1" }, "cases": transcripts() });
    let text = serde_json::to_string_pretty(&file).unwrap();
    std::fs::write(vectors(), text.replace("  ", " ") + "\n").unwrap();
}

/// Medians of many logins, in turn: of an account, and of none. `cargo test --release -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
#[allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement tells its result"
)]
fn an_account_and_none_take_the_same_time() {
    let (setup, server) = (setup(1), server("a"));
    let (record, _) = register(&setup, "a", "id:u", "right");
    let (_, request) = Login::begin(password("wrong")).unwrap();
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..2_000 {
        for (times, record) in times.iter_mut().zip([Some(&record), None]) {
            let begun = std::time::Instant::now();
            setup.begin_login(&server, "id:u", record, &request).unwrap();
            times.push(begun.elapsed());
        }
    }
    for (times, what) in times.iter_mut().zip(["an account", "none"]) {
        times.sort();
        let [low, median, high] = [1, 2, 3].map(|quarter| times[times.len() * quarter / 4]);
        println!("{what}: median {median:?}, quartiles {low:?} and {high:?}");
    }
}

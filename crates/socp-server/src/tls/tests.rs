//! Which certificate is in use after what becomes of its files.

use super::*;
use std::fs;
use std::net::SocketAddr;

/// A pair of files, and what was written there last.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn files(&self) -> Files {
        Files {
            chain: self.dir.path().join("chain.pem"),
            key: self.dir.path().join("key.pem"),
        }
    }

    fn write_chain(&self, text: &str) {
        fs::write(self.files().chain, text).unwrap();
    }

    fn write_key(&self, text: &str) {
        fs::write(self.files().key, text).unwrap();
    }

    fn tls(&self, pair: &(String, String)) -> Tls {
        self.write_chain(&pair.0);
        self.write_key(&pair.1);
        Tls::of_files(self.files()).unwrap()
    }
}

fn pair() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["h".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn kept(looked: &Looked) -> String {
    match looked {
        Looked::Kept(reason) => reason.clone(),
        Looked::Same | Looked::Replaced => panic!("{looked:?}"),
    }
}

#[test]
fn a_new_pair_is_taken_once_and_only_when_it_is_whole() {
    let place = Place::new();
    let (one, two) = (pair(), pair());
    let mut tls = place.tls(&one);
    let first = tls.acceptor.pin();
    let now = unix_s();
    assert_eq!(tls.look(now), Looked::Same);
    // Certificate and key come one after the other; in between they are no pair.
    place.write_chain(&two.0[..two.0.len() / 2]);
    assert!(kept(&tls.look(now)).contains("chain.pem"));
    assert_eq!(tls.look(now), Looked::Same, "said once");
    place.write_chain(&two.0);
    assert!(kept(&tls.look(now)).contains("does not fit"));
    assert_eq!(tls.acceptor.pin(), first);
    place.write_key(&two.1);
    assert_eq!(tls.look(now), Looked::Replaced);
    assert_ne!(tls.acceptor.pin(), first);
    assert_eq!(tls.look(now), Looked::Same);
    // Files that are gone for a while, and come back.
    fs::remove_file(place.files().key).unwrap();
    assert!(kept(&tls.look(now)).contains("key.pem"));
    assert_eq!(tls.look(now), Looked::Same, "said once");
    place.write_key(&two.1);
    assert_eq!(tls.look(now), Looked::Replaced);
}

#[test]
fn what_cannot_be_used_at_the_start_is_named() {
    let place = Place::new();
    let start = || Tls::of_files(place.files()).map(drop).unwrap_err().to_string();
    let (chain, key) = pair();
    for (wanted, named) in [("--tls-cert", "chain.pem"), ("--tls-key", "key.pem")] {
        let error = start();
        assert!(error.contains(wanted) && error.contains(named), "{error}");
        place.write_chain(&key);
    }
    place.write_key(&key);
    assert!(start().contains("no certificate in it"));
    place.write_chain(&pair().0);
    assert!(start().contains("does not fit"));
    place.write_chain(&chain);
    place.write_key(&chain);
    assert!(start().contains("no private key"));
    place.write_key(&" ".repeat(1024 * 1024 + 1));
    assert!(start().contains("longer than"));
}

#[test]
fn a_certificate_of_our_own_keeps_its_pin_over_starts_and_renewals() {
    let data = tempfile::tempdir().unwrap();
    let names = || vec!["127.0.0.1".to_owned(), "chat.example".to_owned()];
    let mut tls = Tls::of_our_own(data.path(), names()).unwrap();
    let pin = tls.own_pin().unwrap();
    let (now, key) = (unix_s(), data.path().join("tls.key"));
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&key).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(tls.look(now), Looked::Same);
    assert_eq!(tls.look(now + OWN_RENEWED_AFTER_S + 60), Looked::Replaced);
    assert_eq!(tls.look(now + OWN_RENEWED_AFTER_S + 61), Looked::Same);
    assert_eq!(tls.own_pin(), Some(pin));
    assert_eq!(Tls::of_our_own(data.path(), names()).unwrap().own_pin(), Some(pin));

    fs::write(&key, "no key").unwrap();
    let error = Tls::of_our_own(data.path(), names()).map(drop).unwrap_err().to_string();
    assert!(
        error.contains("tls.key") && error.contains("the pin changes"),
        "{error}"
    );
}

#[test]
fn a_certificate_of_our_own_is_for_wherever_we_can_be_dialled_and_valid_until_it_is_renewed() {
    let listen: SocketAddr = "0.0.0.0:1".parse().unwrap();
    let mut settings = Settings::new(listen, PathBuf::new());
    assert_eq!(names(&settings), ["localhost"]);
    settings.listen = "[::1]:1".parse().unwrap();
    settings.public_address = Some(("chat.example".to_owned(), 1));
    assert_eq!(names(&settings), ["chat.example", "::1", "localhost"]);

    let key = KeyPair::generate().unwrap();
    let now = unix_s();
    let identity = own_certificate(&key, &names(&settings), now).unwrap();
    for (at, is_valid) in [
        (now - CLOCKS_BEHIND_S, true),
        (now, true),
        (now + OWN_RENEWED_AFTER_S + ENDS_SOON_S, true),
        (now + OWN_VALID_S + 1, false),
    ] {
        assert_eq!(identity.check_dates(at).is_ok(), is_valid, "{at}");
    }
    let no_name = own_certificate(&key, &["é".to_owned()], now).map(drop);
    assert!(no_name.is_err());
}

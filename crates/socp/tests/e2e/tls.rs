//! TLS between real processes: which certificates are taken, what is said of the others, and who stands between.

use crate::process::{PATIENCE, Process, Served, User, eventually, failure_of, json, stdout_of};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use socp_proto::TlsPin;
use socp_tls::{Acceptor, Identity, Wanted};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tokio::net::TcpListener;

/// A pin that no certificate has.
const NO_PIN: &str = "AwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";

/// An authority of the test, and the files of what it signs.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: PathBuf,
}

impl Authority {
    fn new(dir: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(dir.join("authority.pem"), issuer.pem()).unwrap();
        Self {
            issuer,
            dir: dir.to_owned(),
        }
    }

    /// Writes a new certificate and its key.
    fn sign(&self, params: &CertificateParams) {
        let key = KeyPair::generate().unwrap();
        let chain = params.signed_by(&key, &self.issuer).unwrap().pem();
        fs::write(self.dir.join("chain.pem"), chain).unwrap();
        fs::write(self.dir.join("key.pem"), key.serialize_pem()).unwrap();
    }

    fn flags(&self) -> [String; 4] {
        let path = |name: &str| self.dir.join(name).to_str().unwrap().to_owned();
        [
            "--tls-cert".into(),
            path("chain.pem"),
            "--tls-key".into(),
            path("key.pem"),
        ]
    }

    /// `list` on a machine that trusts this authority.
    fn list(&self, user: &User) -> std::process::Command {
        let mut command = user.socp(&["list"]);
        command.env("SSL_CERT_FILE", self.dir.join("authority.pem"));
        command
    }
}

fn params(name: &str) -> CertificateParams {
    CertificateParams::new(vec![name.to_owned()]).unwrap()
}

/// What keeps a user from connecting there.
fn refusal(user: &User, server: &str) -> String {
    let (code, line) = failure_of(&mut user.socp(&["--server", server, "list"]));
    assert_eq!((code, line.lines().count()), (1, 1), "{line}");
    line
}

#[track_caller]
pub(crate) fn says(line: &str, words: &[&str]) {
    for word in words {
        assert!(line.contains(word), "{word:?} is missing in {line}");
    }
}

/// Waits for a line of the log.
pub(crate) fn logged(process: &Process, since: Instant, words: &[&str]) -> String {
    eventually(&format!("the log to say {words:?}"), || {
        process.logged_line(since, words).map(|(_, line)| line)
    })
}

#[test]
fn users_trust_a_certificate_that_the_server_made_by_its_pin_and_by_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path(), "srv", &["--tls-self-signed"]);
    let (url, pin) = (server.url.clone(), server.tls_pin.clone().unwrap());
    assert!(url.starts_with("wss://") && pin.len() == TlsPin::TEXT_BYTES);
    logged(
        &server.process,
        Instant::now() - PATIENCE,
        &["listening", &server.pinned_url()],
    );
    let alice = User::register(dir.path(), "alice", &url);
    says(&refusal(&alice, &url), &["no authority", "#PIN", &pin]);
    says(
        &refusal(&alice, &format!("{url}#{NO_PIN}")),
        &["certificate changed", NO_PIN, &pin],
    );
    says(
        &refusal(&alice, &url.replace("wss://", "ws://")),
        &["speaks TLS", "wss://"],
    );

    alice.run(&["--server", &server.pinned_url(), "list"]);
    let bob = User::register(dir.path(), "bob", &server.pinned_url());
    let at_bob = bob.watch(&[]);
    // Both remember the pin.
    alice.run(&["tell", "bob", "in private"]);
    assert_eq!(json(&at_bob.line_with("\"event\":\"message\""))["text"], "in private");
    drop(at_bob);

    // The certificate of the next start is another one with the same key.
    let address = server.address().to_owned();
    server.stop();
    let server = Served::start_on(dir.path(), "srv", &address, &["--tls-self-signed"]);
    assert_eq!(server.tls_pin.as_ref(), Some(&pin));
    alice.run(&["list"]);
}

#[test]
fn a_port_says_what_it_speaks_to_whoever_speaks_something_else() {
    let dir = tempfile::tempdir().unwrap();
    let secure = Served::start(dir.path(), "secure", &["--tls-self-signed"]);
    // Whoever says nothing has ten seconds, and costs nothing afterwards.
    let mut silent = TcpStream::connect(secure.address()).unwrap();
    let mut plain = TcpStream::connect(secure.address()).unwrap();
    write!(plain, "GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", secure.address()).unwrap();
    let mut answer = String::new();
    plain.read_to_string(&mut answer).unwrap();
    says(&answer, &["HTTP/1.1 400", "speaks TLS", "wss://"]);

    let open = Served::start(dir.path(), "open", &[]);
    let alice = User::register(dir.path(), "alice", &open.url);
    let there = open.url.replace("ws://", "wss://");
    says(&refusal(&alice, &there), &["does not speak TLS", "ws://"]);

    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(silent.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn certificates_of_an_authority_are_checked_and_read_again_when_they_change() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    authority.sign(&params("127.0.0.1"));
    let flags = authority.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let server = Served::start(dir.path(), "srv", &flags);
    assert_eq!(server.tls_pin, None, "the authority says enough");
    let alice = User::register(dir.path(), "alice", &server.url);
    stdout_of(&mut authority.list(&alice));
    says(
        &refusal(&alice, &server.url),
        &["no authority that this machine trusts"],
    );

    let renewed = || {
        let since = Instant::now();
        server.process.signal("HUP");
        since
    };
    let mut old = params("127.0.0.1");
    (old.not_before, old.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 2, 1));
    authority.sign(&old);
    logged(&server.process, renewed(), &["ERROR", "not valid now", "chain.pem"]);
    says(&failure_of(&mut authority.list(&alice)).1, &["expired", "days ago"]);

    authority.sign(&params("chat.example"));
    logged(&server.process, renewed(), &["new connections get the new certificate"]);
    says(
        &failure_of(&mut authority.list(&alice)).1,
        &["is for chat.example, not for 127.0.0.1"],
    );

    // Nobody asks for this one to be read.
    let since = Instant::now();
    authority.sign(&params("127.0.0.1"));
    logged(&server.process, since, &["new connections get the new certificate"]);
    stdout_of(&mut authority.list(&alice));

    fs::write(dir.path().join("key.pem"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    logged(
        &server.process,
        renewed(),
        &["ERROR", "does not fit", "the one before stays"],
    );
    stdout_of(&mut authority.list(&alice));
}

#[test]
fn what_keeps_a_server_from_speaking_tls_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    authority.sign(&params("127.0.0.1"));
    let [cert_flag, chain, key_flag, key] = authority.flags();
    let refused = |flags: &[&str], words: &[&str]| {
        let mut command = crate::process::socp();
        command.args(["serve", "--listen", "127.0.0.1:0", "--log", "off", "--data"]);
        let (code, line) = failure_of(command.arg(dir.path().join("srv")).args(flags));
        assert_eq!((code, line.lines().count()), (1, 1), "{line}");
        says(&line, words);
    };
    refused(&[&cert_flag, &chain], &["--tls-key"]);
    refused(&[&key_flag, &key], &["--tls-cert"]);
    refused(
        &[&cert_flag, &chain, &key_flag, &key, "--tls-self-signed"],
        &["use either"],
    );
    refused(&[&cert_flag, "/no/such", &key_flag, &key], &["/no/such", "--tls-cert"]);
    refused(&[&cert_flag, &key, &key_flag, &key], &["no certificate in it"]);
    refused(&[&cert_flag, &chain, &key_flag, &chain], &["no private key"]);
    fs::write(&key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    refused(&[&cert_flag, &chain, &key_flag, &key], &["does not fit"]);
}

/// Servers whose certificates nobody vouches for: a key is enough, or a pin; without either nobody is there.
#[test]
fn servers_link_over_tls_by_key_or_by_pin() {
    let dir = tempfile::tempdir().unwrap();
    let own = "--tls-self-signed";
    let a = Served::start(dir.path(), "srv-a", &[own]);
    let b = Served::start(dir.path(), "srv-b", &[own, "--bootstrap", &a.bootstrap()]);
    let c = Served::start(dir.path(), "srv-c", &[own, "--bootstrap", &b.pinned_url()]);
    let alice = User::register(dir.path(), "alice", &a.pinned_url());
    let carol = User::register(dir.path(), "carol", &c.pinned_url());
    let begun = Instant::now() - PATIENCE;
    // It has heard of the first from the second: that it speaks TLS, and its key.
    logged(&c.process, begun, &["peer linked", &a.server_id]);
    let at_carol = carol.watch(&[]);
    eventually("alice to see carol", || {
        alice.listed().contains(&carol.id).then_some(())
    });
    alice.run(&["tell", "carol", "over two sessions"]);
    assert_eq!(
        json(&at_carol.line_with("\"event\":\"message\""))["text"],
        "over two sessions"
    );

    // It dials by what it has stored.
    let address = c.address().to_owned();
    c.stop();
    let since = Instant::now();
    let c = Served::start_on(dir.path(), "srv-c", &address, &[own]);
    for other in [&a, &b] {
        logged(&c.process, since, &["peer linked", &other.server_id]);
    }

    let d = Served::start(dir.path(), "srv-d", &["--bootstrap", &a.url]);
    let pin = a.tls_pin.as_ref().unwrap();
    logged(&d.process, begun, &["WARN", "cannot reach", "no authority", pin]);
    let wrong = format!("{}#{NO_PIN}", a.url);
    let e = Served::start(dir.path(), "srv-e", &["--bootstrap", &wrong]);
    logged(&e.process, begun, &["WARN", "cannot reach", "certificate changed", pin]);
}

/// Ends TLS on both sides with a certificate of its own, and passes everything on.
pub(crate) struct Between {
    runtime: tokio::runtime::Runtime,
    pub(crate) address: String,
    pin: TlsPin,
}

impl Between {
    pub(crate) fn start(server: &Served) -> Self {
        let key = KeyPair::generate().unwrap();
        let chain = params("127.0.0.1").self_signed(&key).unwrap().pem();
        let identity = Identity::from_pem(chain.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        let pin = identity.pin();
        let acceptor = Acceptor::new(identity).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let wanted = Wanted {
            pin: server.tls_pin.as_deref().map(|pin| TlsPin::try_from(pin).unwrap()),
            takes_anyone: true,
        };
        let target = server.address().to_owned();
        runtime.spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (acceptor, target) = (acceptor.clone(), target.clone());
                tokio::spawn(async move {
                    let (mut near, _) = acceptor.accept(near).await.unwrap();
                    let far = tokio::net::TcpStream::connect(&target).await.unwrap();
                    let (mut far, _) = socp_tls::connect(far, "127.0.0.1", wanted).await.unwrap();
                    // Either end may cut it.
                    let _ended = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Self { runtime, address, pin }
    }

    pub(crate) fn stop(self) {
        self.runtime.shutdown_background();
    }
}

#[test]
fn whoever_stands_between_two_sessions_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path(), "srv", &["--tls-self-signed"]);
    let between = Between::start(&server);
    let alice = User::register(dir.path(), "alice", &server.pinned_url());
    // Whatever made her trust that certificate.
    let url = format!("wss://{}#{}", between.address, between.pin);
    says(
        &refusal(&alice, &url),
        &["somebody stands between", "Nothing was signed"],
    );
    alice.run(&["--server", &server.pinned_url(), "list"]);

    // A server that knows the key takes any certificate, and wants the proof on its own session.
    let entry = format!("wss://{}#{}", between.address, server.pubkey);
    let other = Served::start(dir.path(), "other", &["--bootstrap", &entry]);
    let begun = Instant::now() - PATIENCE;
    logged(
        &other.process,
        begun,
        &["WARN", "somebody stands between", &between.address],
    );
    assert_eq!(other.process.logged(begun, &["peer linked"]), None);
    assert_eq!(server.process.logged(begun, &["peer linked"]), None);
    between.stop();
}

//! Certificates that a server gets from an authority by itself (decision 0026). With the feature `acme` there is one in
//! the test, and Pebble where that is installed; without it what is tested is what people are told.

use crate::process::{failure_of, socp};
use crate::tls::says;
use std::path::Path;

/// What keeps a server with these flags from starting.
fn refusal(dir: &Path, flags: &[&str]) -> String {
    let mut command = socp();
    command.args(["serve", "--listen", "127.0.0.1:0", "--log", "off", "--data"]);
    let (code, line) = failure_of(command.arg(dir.join("srv")).args(flags));
    assert_eq!((code, line.lines().count()), (1, 1), "{line}");
    line
}

#[test]
fn flags_that_contradict_each_other_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |flags: &[&str], words: &[&str]| says(&refusal(dir.path(), flags), words);
    let domain = ["--acme-domain", "chat.example"];
    refused(
        &[&domain[..], &["--tls-self-signed"]].concat(),
        &["--acme-domain", "--tls-self-signed", "use either"],
    );
    refused(
        &[&domain[..], &["--tls-cert", "c"]].concat(),
        &["--acme-domain", "--tls-cert", "use either"],
    );
    refused(
        &[&domain[..], &["--tls-key", "k"]].concat(),
        &["--acme-domain", "--tls-key", "use either"],
    );
    for (flag, value) in [
        ("--acme-contact", "mailto:a@b"),
        ("--acme-directory", "https://ca.example"),
        ("--acme-ca", "c"),
    ] {
        refused(&[flag, value], &[flag, "--acme-domain NAME"]);
    }
}

#[cfg(not(feature = "acme"))]
#[test]
fn a_program_without_acme_says_how_to_build_one_with_it_and_touches_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let line = refusal(dir.path(), &["--acme-domain", "chat.example"]);
    says(
        &line,
        &["--acme-domain", "built without ACME", "--features acme", "--tls-cert"],
    );
    assert!(!dir.path().join("srv").exists());
}

#[cfg(feature = "acme")]
mod with_an_authority {
    use super::{refusal, says, socp};
    use crate::acme_authority::{Authority, LONG_S};
    use crate::process::{PATIENCE, Process, Served, User, eventually, failure_of, free_ports, json, stdout_of};
    use crate::tls::{Between, logged};
    use socp_tls::{Authorities, connect_vouched};
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;
    use std::process::Command;
    use std::time::Instant;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const SIGNED: &str = "an authority has signed a new certificate";

    /// A server whose certificates come from this authority, on the port that the authority looks at.
    fn serve(dir: &Path, name: &str, port: u16, authority: &Authority, more: &[&str]) -> Served {
        let flags = authority.flags();
        let flags: Vec<&str> = flags.iter().map(String::as_str).chain(more.iter().copied()).collect();
        Served::start_on(dir, name, &format!("127.0.0.1:{port}"), &flags)
    }

    fn ever() -> Instant {
        Instant::now() - PATIENCE
    }

    /// A user who trusts the authority, at the name that it signs for.
    fn user(dir: &Path, name: &str, port: u16) -> User {
        User::register(dir, name, &format!("wss://localhost:{port}"))
    }

    fn trusting(user: &User, root: &Path, args: &[&str]) -> Command {
        let mut command = user.socp(args);
        command.env("SSL_CERT_FILE", root);
        command
    }

    #[test]
    fn a_certificate_is_got_kept_and_not_asked_for_again() {
        let dir = tempfile::tempdir().unwrap();
        let port = free_ports(1);
        let mut authority = Authority::new(dir.path(), port);
        authority.start();
        let contact = ["--acme-contact", "mailto:operator@example.org"];
        let server = serve(dir.path(), "srv", port, &authority, &contact);
        assert_eq!(server.tls_pin, None, "the authority says enough");
        logged(&server.process, ever(), &["WARN", "no certificate yet"]);
        logged(&server.process, ever(), &[SIGNED, "days_left=90"]);
        let alice = user(dir.path(), "alice", port);
        stdout_of(&mut trusting(&alice, &authority.root, &["list"]));
        // Who does not trust the authority is told so.
        says(
            &failure_of(&mut alice.socp(&["list"])).1,
            &["no authority that this machine trusts"],
        );
        assert_eq!(authority.counts(), (1, 1));
        assert_eq!(authority.book().accounts[0].1[0], "mailto:operator@example.org");
        for name in ["acme-account.json", "acme-certificate.json"] {
            let mode = fs::metadata(server.data.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        server.stop();

        let server = serve(dir.path(), "srv", port, &authority, &contact);
        logged(&server.process, ever(), &["the certificate of an authority is there"]);
        stdout_of(&mut trusting(&alice, &authority.root, &["list"]));
        assert_eq!(authority.counts(), (1, 1), "nothing was asked again");
        server.stop();

        let key = || {
            let text = fs::read_to_string(dir.path().join("srv/acme-certificate.json")).unwrap();
            json(&text)["key"].as_str().unwrap().to_owned()
        };
        let before = key();
        // Another name: the same account, with another contact, and the one certificate for both.
        let more = [
            "--acme-domain",
            "LOCALHOST.example",
            "--acme-domain",
            "Localhost",
            "--acme-contact",
            "mailto:other@example.org",
        ];
        let server = serve(dir.path(), "srv", port, &authority, &more);
        logged(&server.process, ever(), &["WARN", "for other names"]);
        stdout_of(&mut trusting(&alice, &authority.root, &["list"]));
        logged(&server.process, ever(), &[SIGNED]);
        stdout_of(&mut trusting(&alice, &authority.root, &["list"]));
        assert_eq!(authority.counts(), (1, 2));
        assert_eq!(authority.book().accounts[0].1[0], "mailto:other@example.org");
        server.stop();
        assert_eq!(key(), before, "pins stay good");
    }

    #[test]
    fn a_server_serves_and_tries_again_while_the_authority_is_away() {
        let dir = tempfile::tempdir().unwrap();
        let port = free_ports(1);
        let mut authority = Authority::new(dir.path(), port);
        let server = serve(dir.path(), "srv", port, &authority, &[]);
        logged(
            &server.process,
            ever(),
            &["ERROR", "cannot reach the authority", "--acme-directory", "retry_s=5"],
        );
        // It is there, but nobody vouches for it.
        let alice = user(dir.path(), "alice", port);
        says(
            &failure_of(&mut trusting(&alice, &authority.root, &["list"])).1,
            &["no authority that this machine trusts"],
        );
        // Whoever knows its key needs nobody to.
        let entry = format!("wss://localhost:{port}#{}", server.pubkey);
        let peer = Served::start(dir.path(), "peer", &["--bootstrap", &entry]);
        logged(&peer.process, ever(), &["peer linked", &server.server_id]);
        authority.start();
        // By itself.
        logged(&server.process, ever(), &[SIGNED]);
        stdout_of(&mut trusting(&alice, &authority.root, &["list"]));
        assert_eq!(peer.process.logged(ever(), &["peer lost"]), None);
    }

    #[test]
    fn what_the_authority_says_is_told_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let port = free_ports(1);
        let mut authority = Authority::new(dir.path(), port);
        authority.book().refusal = Some(("rejectedIdentifier", "localhost is nobody's\u{7}"));
        authority.start();
        let server = serve(dir.path(), "srv", port, &authority, &[]);
        let line = logged(&server.process, ever(), &["ERROR", "rejectedIdentifier"]);
        says(
            &line,
            &["localhost is nobody's", "u{7}", "check --acme-domain", "retry_s=900"],
        );

        // It cannot reach the server.
        authority.book().refusal = None;
        authority.book().looks_elsewhere = true;
        server.process.signal("HUP");
        let line = logged(&server.process, ever(), &["ERROR", "(connection)"]);
        says(
            &line,
            &["localhost: port 443: Connection refused", "firewalls", "retry_s=1800"],
        );

        // It has forgotten the account.
        authority.book().looks_elsewhere = false;
        authority.book().accounts.clear();
        server.process.signal("HUP");
        logged(
            &server.process,
            ever(),
            &["ERROR", "accountDoesNotExist", "another one is made"],
        );
        server.process.signal("HUP");
        logged(&server.process, ever(), &[SIGNED]);
        let alice = user(dir.path(), "alice", port);
        stdout_of(&mut trusting(&alice, &authority.root, &["list"]));
        server.stop();
    }

    #[test]
    fn a_certificate_is_renewed_under_the_links_that_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let port = free_ports(1);
        let mut authority = Authority::new(dir.path(), port);
        authority.book().valid_s = 12;
        authority.start();
        let server = serve(dir.path(), "srv", port, &authority, &[]);
        let (first, _) = eventually("a certificate", || server.process.logged_line(ever(), &[SIGNED]));
        let [alice, bob] = ["alice", "bob"].map(|name| user(dir.path(), name, port));
        let at_bob = Process::start(trusting(&bob, &authority.root, &["--json", "watch"]));
        at_bob.line_with("\"event\":\"online\"");
        authority.book().valid_s = LONG_S;
        let after = first + std::time::Duration::from_nanos(1);
        logged(&server.process, after, &[SIGNED, "days_left=90"]);
        // A new session has the new certificate, and the link has not noticed.
        eventually("the message to be taken", || {
            let told = trusting(&alice, &authority.root, &["tell", "bob", "still here"])
                .output()
                .unwrap();
            told.status.success().then_some(())
        });
        assert_eq!(json(&at_bob.line_with("\"event\":\"message\""))["text"], "still here");
        assert_eq!(authority.counts(), (1, 2));
        server.stop();
    }

    #[test]
    fn whoever_stands_between_is_found_out_with_such_a_certificate_too() {
        let dir = tempfile::tempdir().unwrap();
        let port = free_ports(1);
        let mut authority = Authority::new(dir.path(), port);
        authority.start();
        let server = serve(dir.path(), "srv", port, &authority, &[]);
        logged(&server.process, ever(), &[SIGNED]);
        let between = Between::start(&server);
        let entry = format!("wss://{}#{}", between.address, server.pubkey);
        let other = Served::start(dir.path(), "other", &["--bootstrap", &entry]);
        logged(
            &other.process,
            ever(),
            &["WARN", "somebody stands between", &between.address],
        );
        assert_eq!(other.process.logged(ever(), &["peer linked"]), None);
        between.stop();

        // By its name, its certificate is enough for who trusts the authority; the key is pinned then.
        let mut command = socp();
        command.args(["serve", "--listen", "127.0.0.1:0", "--name", "third", "--data"]);
        command
            .arg(dir.path().join("third"))
            .env("SSL_CERT_FILE", &authority.root);
        command.args(["--bootstrap", &format!("wss://localhost:{port}")]);
        let third = Process::start(command);
        logged(&third, ever(), &["peer linked", &server.server_id]);
    }

    #[test]
    fn what_cannot_be_asked_for_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |flags: &[&str], words: &[&str]| says(&refusal(dir.path(), flags), words);
        refused(&["--acme-domain", "*.example"], &["*.example", "one name only"]);
        refused(&["--acme-domain", "192.0.2.7"], &["192.0.2.7", "is an address"]);
        refused(&["--acme-domain", "a.example", "--acme-contact", "a@b"], &["mailto:"]);
        refused(
            &["--acme-domain", "a.example", "--acme-directory", "http://a"],
            &["https://"],
        );
        refused(
            &["--acme-domain", "a.example", "--acme-ca", "/no/such"],
            &["/no/such", "--acme-ca"],
        );
        fs::write(dir.path().join("srv/acme-account.json"), "{}").unwrap();
        refused(
            &["--acme-domain", "a.example"],
            &["acme-account.json", "another account is made"],
        );
    }

    /// Somebody else's authority, so that ours is not the only one that takes what we send.
    struct Pebble {
        _process: Process,
        directory: String,
        /// Vouches for what it signs.
        root: std::path::PathBuf,
        /// Vouches for its own address.
        own: std::path::PathBuf,
    }

    impl Pebble {
        /// None where it is not installed.
        fn start(dir: &Path, server_port: u16) -> Option<Self> {
            if Command::new("pebble").arg("-h").output().is_err() {
                println!(
                    "pebble is not installed (on Debian: apt-get install pebble): only our own authority is tested"
                );
                return None;
            }
            let port = free_ports(2);
            let key = rcgen::KeyPair::generate().unwrap();
            let own = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
            let own = own.self_signed(&key).unwrap();
            let path = |name: &str| dir.join(name).display().to_string();
            fs::write(path("own.pem"), own.pem()).unwrap();
            fs::write(path("own.key"), key.serialize_pem()).unwrap();
            let settings = serde_json::json!({ "pebble": {
                "listenAddress": format!("127.0.0.1:{port}"),
                "managementListenAddress": format!("127.0.0.1:{}", port + 1),
                "certificate": path("own.pem"),
                "privateKey": path("own.key"),
                "httpPort": 1,
                "tlsPort": server_port,
                "ocspResponderURL": "",
                "externalAccountBindingRequired": false,
            }});
            fs::write(path("pebble.json"), settings.to_string()).unwrap();
            let mut command = Command::new("pebble");
            command
                .args(["-config", &path("pebble.json")])
                .env("PEBBLE_VA_NOSLEEP", "1");
            let process = Process::start(command);
            // It says that it listens a moment before it does.
            for port in [port, port + 1] {
                eventually("pebble to listen", || {
                    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok().then_some(())
                });
            }
            let root = dir.join("pebble-root.pem");
            fs::write(&root, fetched(port + 1, "/roots/0", &own.pem())).unwrap();
            Some(Self {
                _process: process,
                directory: format!("https://127.0.0.1:{port}/dir"),
                root,
                own: dir.join("own.pem"),
            })
        }
    }

    /// What is at an address for which a certificate vouches.
    fn fetched(port: u16, path: &str, authority: &str) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let connection = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let authorities = Authorities::of_machine().and(authority.as_bytes()).unwrap();
            let mut stream = connect_vouched(connection, "127.0.0.1", authorities).await.unwrap();
            let request = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer.split_once("\r\n\r\n").unwrap().1.to_owned()
        })
    }

    #[test]
    fn pebble_signs_too() {
        let dir = tempfile::tempdir().unwrap();
        let port = free_ports(2);
        let Some(pebble) = Pebble::start(dir.path(), port) else {
            return;
        };
        let flags = [
            "--acme-domain",
            "localhost",
            "--acme-directory",
            &pebble.directory,
            "--acme-ca",
        ];
        let own = pebble.own.display().to_string();
        let server = Served::start_on(
            dir.path(),
            "srv",
            &format!("127.0.0.1:{port}"),
            &[&flags[..], &[&own]].concat(),
        );
        logged(&server.process, ever(), &[SIGNED]);
        let alice = user(dir.path(), "alice", port);
        stdout_of(&mut trusting(&alice, &pebble.root, &["list"]));
        server.stop();
    }
}

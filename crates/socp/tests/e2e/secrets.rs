//! What must never be on the wire or on a disk.

use crate::process::{Served, User, eventually, socp};
use futures_util::{SinkExt as _, StreamExt as _};
use rsa::pkcs8::DecodePrivateKey as _;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

const TEXT: &str = "the eagle lands at midnight";
const PASSWORD: &str = "correct horse battery staple";

/// Passes WebSocket messages on, both ways, and keeps a copy of each.
pub(crate) struct Tap {
    pub(crate) address: String,
    recorded: Arc<Mutex<Vec<u8>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Tap {
    pub(crate) fn before(target: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let recorded = Arc::<Mutex<Vec<u8>>>::default();
        let (target, copy) = (target.to_owned(), Arc::clone(&recorded));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (target, copy) = (target.clone(), Arc::clone(&copy));
                tokio::spawn(async move {
                    let near = tokio_tungstenite::accept_async(stream).await.unwrap();
                    let (far, _) = tokio_tungstenite::connect_async(format!("ws://{target}/"))
                        .await
                        .unwrap();
                    let ((near_out, near_in), (far_out, far_in)) = (near.split(), far.split());
                    let keep = |copy: Arc<Mutex<Vec<u8>>>| {
                        move |message: &Result<tokio_tungstenite::tungstenite::Message, _>| {
                            if let Ok(message) = message {
                                copy.lock().unwrap().extend_from_slice(&message.clone().into_data());
                            }
                        }
                    };
                    let up = near_in
                        .inspect(keep(Arc::clone(&copy)))
                        .forward(far_out.sink_map_err(|e| e));
                    let down = far_in.inspect(keep(copy)).forward(near_out);
                    let _closed = tokio::join!(up, down);
                });
            }
        });
        Self {
            address,
            recorded,
            _runtime: runtime,
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.recorded.lock().unwrap().clone()
    }
}

pub(crate) fn holds(bytes: &[u8], secret: &[u8]) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret)
}

/// Every file below a directory, except those named.
pub(crate) fn files(dir: &Path, except: &[&str]) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path(), except));
        } else if !except.contains(&name.as_str()) {
            found.push((entry.path().display().to_string(), std::fs::read(entry.path()).unwrap()));
        }
    }
    found
}

/// The forms in which a private key could leak.
fn is_private_key(bytes: &[u8]) -> bool {
    let markers: [&[u8]; 3] = [
        b"PRIVATE KEY",
        // PKCS#8 of RSA-4096: SEQUENCE, version 0, rsaEncryption.
        &[
            0x02, 0x01, 0x00, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01,
        ],
        // The same in base64url, at the alignment that a DER file gives it.
        b"MIIJQ",
    ];
    markers.iter().any(|marker| holds(bytes, marker))
}

#[test]
fn the_markers_do_find_a_private_key() {
    let case = crate::letter_client::key_case("alice");
    let text = case["pkcs8_b64u"].as_str().unwrap();
    let der = crate::letter_client::decode(text);
    assert!(is_private_key(&der) && is_private_key(text.as_bytes()));
    assert!(rsa::RsaPrivateKey::from_pkcs8_der(&der).is_ok());
}

#[test]
fn neither_wire_nor_disk_holds_text_password_or_private_key() {
    let dir = tempfile::tempdir().unwrap();
    let a = Served::start(dir.path(), "srv-a", &[]);
    let between_servers = Tap::before(a.address());
    let bootstrap = format!("ws://{}#{}", between_servers.address, a.pubkey);
    let b = Served::start(dir.path(), "srv-b", &["--bootstrap", &bootstrap]);
    let at_client = Tap::before(b.address());
    let alice = User::register(dir.path(), "alice", &a.url);
    let bob = register_with_password(dir.path(), &format!("ws://{}", at_client.address));

    let at_alice = alice.watch(&[]);
    eventually("alice to be seen", || {
        let listed = run_with_password(&bob, &["list"]);
        listed.contains(&alice.id).then_some(())
    });
    run_with_password(&bob, &["tell", "alice", TEXT]);
    assert!(at_alice.line_with("\"event\":\"message\"").contains(TEXT));

    for (what, bytes) in [("client", at_client.bytes()), ("servers", between_servers.bytes())] {
        assert!(holds(&bytes, b"ciphertext"), "nothing was recorded between {what}");
        assert!(!holds(&bytes, TEXT.as_bytes()), "text on the wire: {what}");
        assert!(!holds(&bytes, PASSWORD.as_bytes()), "password on the wire: {what}");
        assert!(!is_private_key(&bytes), "private key on the wire: {what}");
    }
    drop(at_alice);
    a.stop();
    b.stop();
    for (path, bytes) in files(dir.path(), &[]) {
        assert!(!holds(&bytes, TEXT.as_bytes()), "text in {path}");
        assert!(!holds(&bytes, PASSWORD.as_bytes()), "password in {path}");
        assert!(!is_private_key(&bytes), "private key in {path}");
    }
}

fn register_with_password(dir: &Path, server: &str) -> User {
    let user = User {
        profile: dir.join("bob"),
        id: String::new(),
    };
    let id = run_with_password(&user, &["--server", server, "register", "--name", "bob"]);
    User {
        id: id.trim().to_owned(),
        ..user
    }
}

fn run_with_password(user: &User, args: &[&str]) -> String {
    let mut command = socp();
    command
        .arg("--profile")
        .arg(&user.profile)
        .arg("--password-stdin")
        .args(args);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{PASSWORD}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

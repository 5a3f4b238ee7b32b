//! An authority that speaks ACME (RFC 8555), for tests: it checks what it is sent as strictly as a real one, looks at the
//! certificate that a server shows it (RFC 8737), and signs, or says no, as the test wants.

use crate::process::free_ports;
use data_encoding::BASE64URL_NOPAD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    SignatureAlgorithm, date_time_ymd,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use socp_tls::{Acceptor, Identity, Stream};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

/// How long a certificate is valid that nobody sees the end of: 90 days, and what a test takes.
pub(crate) const LONG_S: u64 = 90 * 86_400 + 3600;

/// An authority that runs, or will.
pub(crate) struct Authority {
    /// Vouches for it and for what it signs.
    pub(crate) root: PathBuf,
    pub(crate) directory: String,
    desk: Arc<Desk>,
    port: u16,
    runtime: Option<tokio::runtime::Runtime>,
}

struct Desk {
    issuer: CertifiedIssuer<'static, KeyPair>,
    identity: Identity,
    url: String,
    /// The port of the server, which a real authority would look for at 443.
    server_port: u16,
    book: Mutex<Book>,
}

/// What it will do, and what it has done.
#[derive(Default)]
pub(crate) struct Book {
    /// How long what it signs is valid.
    pub(crate) valid_s: u64,
    /// Why it takes no order: a problem of RFC 8555 §6.7, and its words.
    pub(crate) refusal: Option<(&'static str, &'static str)>,
    /// Whether it looks for the server where nobody is.
    pub(crate) looks_elsewhere: bool,
    /// The account keys it knows, with the contacts.
    pub(crate) accounts: Vec<(Value, Value)>,
    pub(crate) orders: Vec<Order>,
    nonces: BTreeSet<String>,
    nonce_count: u64,
}

pub(crate) struct Order {
    account: usize,
    names: Vec<String>,
    /// The names that were looked at, and what came of it.
    looked_at: Vec<Option<Result<(), Value>>>,
    pub(crate) chain: Option<String>,
}

impl Authority {
    /// One that does not run yet.
    pub(crate) fn new(dir: &Path, server_port: u16) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let root = dir.join("root.pem");
        fs::write(&root, issuer.pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let own = own.signed_by(&key, &issuer).unwrap().pem();
        let identity = Identity::from_pem(own.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        let port = free_ports(1);
        let url = format!("https://127.0.0.1:{port}");
        let book = Mutex::new(Book {
            valid_s: LONG_S,
            ..Book::default()
        });
        Self {
            root,
            directory: format!("{url}/directory"),
            desk: Arc::new(Desk {
                issuer,
                identity,
                url,
                server_port,
                book,
            }),
            port,
            runtime: None,
        }
    }

    pub(crate) fn start(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", self.port))).unwrap();
        let desk = Arc::clone(&self.desk);
        runtime.spawn(async move {
            let acceptor = Acceptor::new(desk.identity.clone()).unwrap();
            while let Ok((connection, _)) = listener.accept().await {
                let (acceptor, desk) = (acceptor.clone(), Arc::clone(&desk));
                tokio::spawn(async move {
                    if let Ok((stream, _)) = acceptor.accept(connection).await {
                        desk.serve(stream).await;
                    }
                });
            }
        });
        self.runtime = Some(runtime);
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.desk.book.lock().unwrap()
    }

    /// How many accounts there are, and how many orders.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let book = self.book();
        (book.accounts.len(), book.orders.len())
    }

    pub(crate) fn flags(&self) -> Vec<String> {
        [
            "--acme-domain",
            "localhost",
            "--acme-directory",
            &self.directory,
            "--acme-ca",
        ]
        .map(str::to_owned)
        .into_iter()
        .chain([self.root.display().to_string()])
        .collect()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What is answered: a status, where it is, and what.
struct Answer {
    status: u16,
    location: Option<String>,
    body: Body,
}

enum Body {
    Json(Value),
    Pem(String),
}

fn good(value: Value) -> Answer {
    Answer {
        status: 200,
        location: None,
        body: Body::Json(value),
    }
}

fn made(location: String, value: Value) -> Answer {
    Answer {
        status: 201,
        location: Some(location),
        body: Body::Json(value),
    }
}

fn problem(kind: &str, detail: &str) -> Value {
    json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail })
}

fn refused(kind: &str, detail: &str) -> Answer {
    Answer {
        status: 400,
        location: None,
        body: Body::Json(problem(kind, detail)),
    }
}

/// A question whose signature is good.
struct Signed {
    account: Option<usize>,
    key: Value,
    payload: Value,
}

impl Desk {
    async fn serve(self: Arc<Self>, mut stream: Stream) {
        let mut bytes = Vec::new();
        let mut part = [0; 4096];
        let (head, mut body) = loop {
            let count = stream.read(&mut part).await.unwrap();
            if count == 0 {
                return;
            }
            bytes.extend_from_slice(&part[..count]);
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                let body = bytes.split_off(end + 4);
                break (String::from_utf8(bytes).unwrap(), body);
            }
        };
        let lower = head.to_ascii_lowercase();
        let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.trim().parse().unwrap());
        while body.len() < length {
            let count = stream.read(&mut part).await.unwrap();
            body.extend_from_slice(&part[..count]);
        }
        let mut words = head.split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        assert!(
            lower.contains("\r\nhost: ") && lower.contains("\r\nuser-agent: "),
            "RFC 8555 §6.1: {head}"
        );
        let answer = match method {
            "POST" => {
                assert!(lower.contains("application/jose+json"), "RFC 8555 §6.2");
                self.post(path, &body)
            }
            _ => good(self.get(path)),
        };
        let text = self.to_text(&answer, method);
        // It may have been stopped meanwhile.
        let _ended = stream.write_all(text.as_bytes()).await;
        let _ended = stream.shutdown().await;
    }

    fn to_text(&self, answer: &Answer, method: &str) -> String {
        let (kind, body) = match &answer.body {
            Body::Json(value) => ("application/json", value.to_string()),
            Body::Pem(text) => ("application/pem-certificate-chain", text.clone()),
        };
        let location = answer
            .location
            .as_ref()
            .map(|path| format!("Location: {}{path}\r\n", self.url));
        format!(
            "HTTP/1.1 {} Whatever\r\nReplay-Nonce: {}\r\n{}Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n{}",
            answer.status,
            self.nonce(),
            location.unwrap_or_default(),
            body.len(),
            if method == "HEAD" { "" } else { &body },
        )
    }

    fn nonce(&self) -> String {
        let mut book = self.book.lock().unwrap();
        book.nonce_count += 1;
        let nonce = BASE64URL_NOPAD.encode(format!("nonce {}", book.nonce_count).as_bytes());
        book.nonces.insert(nonce.clone());
        nonce
    }

    fn get(&self, path: &str) -> Value {
        let url = &self.url;
        match path {
            "/directory" => json!({
                "newNonce": format!("{url}/nonce"),
                "newAccount": format!("{url}/account"),
                "newOrder": format!("{url}/order"),
            }),
            "/nonce" => json!({}),
            _ => panic!("nothing is at {path}"),
        }
    }

    fn post(self: &Arc<Self>, path: &str, body: &[u8]) -> Answer {
        let signed = match self.verified(path, body) {
            Ok(signed) => signed,
            Err(answer) => return answer,
        };
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let number = |at: usize| parts[at].parse::<usize>().unwrap();
        match (parts[0], parts.len()) {
            ("account", 1) => self.new_account(signed),
            ("account", 2) => self.change_account(number(1), &signed),
            ("order", 1) => self.new_order(&signed),
            ("order", 2) => good(self.order(number(1), &signed)),
            ("authorization", 3) => good(self.authorization(number(1), number(2))),
            ("challenge", 3) => self.begin_to_look(number(1), number(2)),
            ("finalize", 2) => self.sign(number(1), &signed),
            ("certificate", 2) => Answer {
                status: 200,
                location: None,
                body: Body::Pem(self.book.lock().unwrap().orders[number(1)].chain.clone().unwrap()),
            },
            _ => panic!("nothing is at {path}"),
        }
    }

    /// Checks nonce, address, account and signature (RFC 8555 §6).
    fn verified(&self, path: &str, body: &[u8]) -> Result<Signed, Answer> {
        let decode = |text: &Value| BASE64URL_NOPAD.decode(text.as_str().unwrap().as_bytes()).unwrap();
        let body: Value = serde_json::from_slice(body).unwrap();
        let protected: Value = serde_json::from_slice(&decode(&body["protected"])).unwrap();
        let mut book = self.book.lock().unwrap();
        if !book.nonces.remove(protected["nonce"].as_str().unwrap()) {
            return Err(refused("badNonce", "that was used"));
        }
        assert_eq!(protected["url"], format!("{}{path}", self.url));
        assert_eq!(protected["alg"], "ES256");
        let (account, key) = match protected["kid"].as_str() {
            None => (None, protected["jwk"].clone()),
            Some(kid) => {
                let number = kid.strip_prefix(&format!("{}/account/", self.url)).unwrap();
                let number: usize = number.parse().unwrap();
                let Some((key, _)) = book.accounts.get(number) else {
                    return Err(refused("accountDoesNotExist", "who is that?"));
                };
                (Some(number), key.clone())
            }
        };
        assert_eq!(account.is_none(), path == "/account", "RFC 8555 §6.2");
        let point = [vec![4], decode(&key["x"]), decode(&key["y"])].concat();
        let said = format!(
            "{}.{}",
            body["protected"].as_str().unwrap(),
            body["payload"].as_str().unwrap()
        );
        let algorithm = &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED;
        let public = aws_lc_rs::signature::UnparsedPublicKey::new(algorithm, point);
        public.verify(said.as_bytes(), &decode(&body["signature"])).unwrap();
        let payload = decode(&body["payload"]);
        let payload = match payload.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&payload).unwrap(),
        };
        Ok(Signed { account, key, payload })
    }

    fn new_account(&self, signed: Signed) -> Answer {
        assert_eq!(signed.payload["termsOfServiceAgreed"], true);
        let mut book = self.book.lock().unwrap();
        let number = book.accounts.len();
        book.accounts.push((signed.key, signed.payload["contact"].clone()));
        made(format!("/account/{number}"), json!({ "status": "valid" }))
    }

    fn change_account(&self, number: usize, signed: &Signed) -> Answer {
        assert_eq!(signed.account, Some(number));
        self.book.lock().unwrap().accounts[number].1 = signed.payload["contact"].clone();
        good(json!({ "status": "valid" }))
    }

    fn new_order(&self, signed: &Signed) -> Answer {
        let mut book = self.book.lock().unwrap();
        if let Some((kind, words)) = book.refusal {
            return refused(kind, words);
        }
        let identifiers = signed.payload["identifiers"].as_array().unwrap();
        let names = identifiers.iter().map(|identifier| {
            assert_eq!(identifier["type"], "dns");
            identifier["value"].as_str().unwrap().to_owned()
        });
        let names: Vec<String> = names.collect();
        let number = book.orders.len();
        book.orders.push(Order {
            account: signed.account.unwrap(),
            looked_at: names.iter().map(|_| None).collect(),
            names,
            chain: None,
        });
        drop(book);
        made(format!("/order/{number}"), self.order(number, signed))
    }

    fn order(&self, number: usize, signed: &Signed) -> Value {
        let (book, url) = (self.book.lock().unwrap(), &self.url);
        let order = &book.orders[number];
        assert_eq!(signed.account, Some(order.account));
        let is_good = |looked_at: &Option<Result<(), Value>>| matches!(looked_at, Some(Ok(())));
        let status = match &order.chain {
            Some(_) => "valid",
            None if order.looked_at.iter().all(is_good) => "ready",
            None if order
                .looked_at
                .iter()
                .any(|looked_at| matches!(looked_at, Some(Err(_)))) =>
            {
                "invalid"
            }
            None => "pending",
        };
        let each = (0..order.names.len()).map(|at| format!("{url}/authorization/{number}/{at}"));
        json!({
            "status": status,
            "identifiers": order.names.iter().map(|name| json!({ "type": "dns", "value": name })).collect::<Vec<_>>(),
            "authorizations": each.collect::<Vec<_>>(),
            "finalize": format!("{url}/finalize/{number}"),
            "certificate": order.chain.as_ref().map(|_| format!("{url}/certificate/{number}")),
        })
    }

    fn authorization(&self, number: usize, at: usize) -> Value {
        let book = self.book.lock().unwrap();
        let order = &book.orders[number];
        let (status, error) = match &order.looked_at[at] {
            None => ("pending", Value::Null),
            Some(Ok(())) => ("valid", Value::Null),
            Some(Err(error)) => ("invalid", error.clone()),
        };
        let challenge = json!({
            "type": "tls-alpn-01",
            "url": format!("{}/challenge/{number}/{at}", self.url),
            "token": token(number, at),
            "status": status,
            "error": error,
        });
        let other = json!({ "type": "http-01", "url": "https://nowhere.example", "token": "x", "status": "pending" });
        json!({
            "status": status,
            "identifier": { "type": "dns", "value": order.names[at] },
            "challenges": [other, challenge],
        })
    }

    /// Says that it will look; what came of it is asked for later, as with real ones.
    fn begin_to_look(self: &Arc<Self>, number: usize, at: usize) -> Answer {
        let challenge = self.authorization(number, at)["challenges"][1].clone();
        tokio::spawn(Arc::clone(self).look(number, at));
        good(challenge)
    }

    /// Looks at what the server shows for a name.
    async fn look(self: Arc<Self>, number: usize, at: usize) {
        let (name, expected, port) = {
            let book = self.book.lock().unwrap();
            let order = &book.orders[number];
            let key = &book.accounts[order.account].0;
            let thumbprint = format!(r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#, key["x"], key["y"]);
            let thumbprint = BASE64URL_NOPAD.encode(&Sha256::digest(thumbprint));
            let expected = Sha256::digest(format!("{}.{thumbprint}", token(number, at)));
            let port = if book.looks_elsewhere { 1 } else { self.server_port };
            (order.names[at].clone(), expected.to_vec(), port)
        };
        let looked = looked_at(&name, &expected, port).await;
        self.book.lock().unwrap().orders[number].looked_at[at] = Some(looked);
    }

    fn sign(&self, number: usize, signed: &Signed) -> Answer {
        let request = signed.payload["csr"].as_str().unwrap();
        let request = BASE64URL_NOPAD.decode(request.as_bytes()).unwrap();
        {
            let mut book = self.book.lock().unwrap();
            let valid_s = book.valid_s;
            let order = &mut book.orders[number];
            assert!(
                order
                    .looked_at
                    .iter()
                    .all(|looked_at| matches!(looked_at, Some(Ok(()))))
            );
            for name in &order.names {
                assert!(
                    request.windows(name.len()).any(|part| part == name.as_bytes()),
                    "{name}"
                );
            }
            let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            let mut params = CertificateParams::new(order.names.clone()).unwrap();
            params.not_before = date_time_ymd(1970, 1, 1) + Duration::from_secs(now_s);
            params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(now_s + valid_s);
            let signed = params.signed_by(&Requested::of(&request), &self.issuer).unwrap();
            order.chain = Some(signed.pem());
        }
        good(self.order(number, signed))
    }
}

fn token(number: usize, at: usize) -> String {
    BASE64URL_NOPAD.encode(format!("a token of order {number}, name {at}").as_bytes())
}

/// The key in a request (RFC 2986), of the one kind that servers of ours have.
struct Requested(Vec<u8>);

impl Requested {
    fn of(request: &[u8]) -> Self {
        let head =
            b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
        let begin = request.windows(head.len()).position(|part| part == head).unwrap() + head.len();
        Self(request[begin..begin + 65].to_vec())
    }
}

impl PublicKeyData for Requested {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// Connects as RFC 8737 §3 has it, and checks what is shown.
async fn looked_at(name: &str, expected: &[u8], port: u16) -> Result<(), Value> {
    let connection = TcpStream::connect(("127.0.0.1", port)).await;
    let connection = connection.map_err(|error| problem("connection", &format!("port 443: {error}")))?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let server_name = ServerName::try_from(name.to_owned()).unwrap();
    let connecting = TlsConnector::from(Arc::new(config)).connect(server_name, connection);
    let mut stream = connecting.await.map_err(|error| problem("tls", &error.to_string()))?;
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "nothing is said in it");
    let session = stream.get_ref().1;
    let shown = session.peer_certificates().unwrap()[0].clone();
    // The extension acmeIdentifier, critical, with 32 bytes (RFC 8737 §3).
    let extension = [
        &b"\x06\x08\x2b\x06\x01\x05\x05\x07\x01\x1f\x01\x01\xff\x04\x22\x04\x20"[..],
        expected,
    ];
    let extension = extension.concat();
    // One name and no other, in a list of its own (RFC 5280 §4.2.1.6).
    let length = u8::try_from(name.len()).unwrap();
    let one_name = [&[0x30, length + 2, 0x82, length], name.as_bytes()].concat();
    let says = |wanted: &[u8]| shown.windows(wanted.len()).any(|part| part == wanted);
    match says(&one_name) && says(&extension) && session.alpn_protocol() == Some(b"acme-tls/1") {
        true => Ok(()),
        false => Err(problem("unauthorized", "the certificate is not the one")),
    }
}

/// Whatever is shown is looked at afterwards.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

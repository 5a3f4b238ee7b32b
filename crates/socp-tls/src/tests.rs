//! Sessions over real connections, with certificates of every kind.

use crate::client::{Authorities, Session, Wanted, connect_trusting};
use crate::fault::{BadPair, TlsFault};
use crate::server::{Acceptor, Answer, Identity};
use crate::stream::Stream;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, IsCa, KeyPair, date_time_ymd};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use socp_proto::{Bytes32, TlsPin};
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

/// An authority, and what it has signed.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn store(&self) -> Arc<RootCertStore> {
        let mut store = RootCertStore::empty();
        store.add(self.0.der().clone()).unwrap();
        Arc::new(store)
    }

    fn sign(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        identity(&certificate.pem(), &key)
    }
}

fn identity(chain: &str, key: &KeyPair) -> Identity {
    Identity::from_pem(chain.as_bytes(), key.serialize_pem().as_bytes()).unwrap()
}

fn params(name: &str) -> CertificateParams {
    CertificateParams::new(vec![name.to_owned()]).unwrap()
}

fn self_signed(key: &KeyPair) -> Identity {
    identity(&params("127.0.0.1").self_signed(key).unwrap().pem(), key)
}

type Near = Result<(Stream, Session), TlsFault>;
type Far = Result<(Stream, Bytes32), TlsFault>;

/// Both ends of a session with this certificate.
async fn shake(identity: Identity, wanted: Wanted, store: Arc<RootCertStore>) -> (Near, Far) {
    let acceptor = Acceptor::new(identity).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (far, _) = listener.accept().await.unwrap();
    tokio::join!(connect_trusting(near, "127.0.0.1", wanted, store), acceptor.accept(far))
}

fn pinned(pin: TlsPin) -> Wanted {
    Wanted {
        pin: Some(pin),
        takes_anyone: false,
    }
}

fn nobody() -> Arc<RootCertStore> {
    Arc::new(RootCertStore::empty())
}

#[tokio::test]
async fn both_ends_of_a_session_know_the_same_and_of_two_sessions_another() {
    let identity = self_signed(&KeyPair::generate().unwrap());
    let mut bindings = Vec::new();
    for _ in 0..2 {
        let (near, far) = shake(identity.clone(), pinned(identity.pin()), nobody()).await;
        let ((mut near, session), (mut far, binding)) = (near.unwrap(), far.unwrap());
        assert_eq!((session.binding, session.is_certified()), (binding, true));
        near.write_all(b"hello").await.unwrap();
        near.flush().await.unwrap();
        let mut read = [0; 5];
        far.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"hello");
        // An end that is said is told from a connection that was cut.
        far.shutdown().await.unwrap();
        assert_eq!(near.read(&mut read).await.unwrap(), 0);
        bindings.push(binding);
    }
    assert_ne!(bindings[0], bindings[1]);
}

#[tokio::test]
async fn a_certificate_is_good_by_an_authority_for_its_name_and_time() {
    let authority = Authority::new();
    let good = authority.sign(&params("127.0.0.1"));
    let (near, far) = shake(good, Wanted::default(), authority.store()).await;
    assert!(near.unwrap().1.is_certified() && far.is_ok());

    let mut old = params("127.0.0.1");
    (old.not_before, old.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 2, 1));
    let mut young = params("127.0.0.1");
    (young.not_before, young.not_after) = (date_time_ymd(2200, 1, 1), date_time_ymd(2200, 2, 1));
    for (params, said) in [
        (old, "expired"),
        (young, "not valid yet"),
        (params("chat.example"), "is for chat.example, not for 127.0.0.1"),
    ] {
        let (near, far) = shake(authority.sign(&params), Wanted::default(), authority.store()).await;
        let error = near.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        assert!(far.is_err());
        // Whoever finds out otherwise who is there is told all the same.
        let anyone = Wanted {
            pin: None,
            takes_anyone: true,
        };
        let (near, far) = shake(authority.sign(&params), anyone, authority.store()).await;
        let session = near.unwrap().1;
        assert!(session.uncertified.as_ref().unwrap().to_string().contains(said));
        assert_eq!(session.binding, far.unwrap().1);
    }
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused_with_its_pin() {
    let identity = self_signed(&KeyPair::generate().unwrap());
    let (near, far) = shake(identity.clone(), Wanted::default(), Authority::new().store()).await;
    let error = near.unwrap_err();
    assert!(
        matches!(&error, TlsFault::Untrusted { seen, .. } if *seen == identity.pin()),
        "{error}"
    );
    assert!(error.to_string().contains(&identity.pin().to_string()) && error.to_string().contains("#PIN"));
    assert!(far.is_err());
}

#[tokio::test]
async fn a_pin_is_of_the_key_and_counts_whoever_signed() {
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let pin = self_signed(&key).pin();
    assert_eq!(self_signed(&key).pin(), pin, "a renewed certificate");
    let mut old = params("another.example");
    (old.not_before, old.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 2, 1));
    let old = identity(&old.self_signed(&key).unwrap().pem(), &key);
    assert!(shake(old, pinned(pin), nobody()).await.0.unwrap().1.is_certified());

    // An authority's word counts nothing against a pin.
    let authority = Authority::new();
    let certificate = params("127.0.0.1").signed_by(&other, &authority.0).unwrap();
    let signed = identity(&certificate.pem(), &other);
    let (near, _) = shake(signed.clone(), pinned(pin), authority.store()).await;
    let error = near.unwrap_err();
    assert!(
        matches!(error, TlsFault::Pin { expected, seen } if expected == pin && seen == signed.pin()),
        "{error}"
    );
}

#[tokio::test]
async fn the_next_connection_gets_the_new_certificate() {
    let [one, two] = [(); 2].map(|()| self_signed(&KeyPair::generate().unwrap()));
    let acceptor = Acceptor::new(one.clone()).unwrap();
    for identity in [one, two] {
        acceptor.replace(identity.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        let connecting = connect_trusting(near, "127.0.0.1", pinned(identity.pin()), nobody());
        let (near, far) = tokio::join!(connecting, acceptor.accept(far));
        assert!(near.is_ok() && far.is_ok());
        assert_eq!(acceptor.pin(), identity.pin());
    }
}

#[tokio::test]
async fn what_speaks_no_tls_is_told_from_what_does() {
    for (answer, said) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "does not speak TLS"),
        (b"", "does it speak TLS"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let plain = async {
            let mut hello = [0; 5];
            far.read_exact(&mut hello).await.unwrap();
            far.write_all(answer).await.unwrap();
            far.shutdown().await.unwrap();
            far.read_to_end(&mut Vec::new()).await
        };
        let connecting = async {
            let fault = connect_trusting(near, "127.0.0.1", Wanted::default(), nobody()).await;
            fault.unwrap_err().to_string()
        };
        let (error, _ended) = tokio::join!(connecting, plain);
        assert!(error.contains(said), "{error}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let fault = connect_trusting(near, "not a name", Wanted::default(), nobody())
        .await
        .unwrap_err();
    assert!(matches!(fault, TlsFault::Host(_)), "{fault}");
}

#[test]
fn a_pair_that_is_none_is_refused_with_what_is_missing() {
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let chain = params("h").self_signed(&key).unwrap().pem();
    let (key, other) = (key.serialize_pem(), other.serialize_pem());
    let half = &chain[..chain.len() / 2];
    let garbled = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let of = |chain: &str, key: &str| Identity::from_pem(chain.as_bytes(), key.as_bytes()).map(drop);
    assert_eq!(of(&chain, &key), Ok(()));
    assert_eq!(of(&format!("{chain}{chain}"), &key), Ok(()), "a chain");
    assert_eq!(of(&chain, &other), Err(BadPair::Mismatch));
    assert_eq!(of("", &key), Err(BadPair::NoCertificate));
    assert_eq!(of(&key, &key), Err(BadPair::NoCertificate));
    assert!(matches!(of(half, &key), Err(BadPair::CertificateText(_))));
    assert!(matches!(of(garbled, &key), Err(BadPair::Unusable(_))));
    for no_key in ["", &chain, &key[..key.len() / 2]] {
        assert!(matches!(of(&chain, no_key), Err(BadPair::NoKey(_))), "{no_key}");
    }
}

#[test]
fn the_dates_of_a_certificate_can_be_asked() {
    let key = KeyPair::generate().unwrap();
    let mut params = params("h");
    (params.not_before, params.not_after) = (date_time_ymd(2030, 1, 1), date_time_ymd(2030, 1, 3));
    let identity = identity(&params.self_signed(&key).unwrap().pem(), &key);
    let begin = 1_893_456_000;
    for (at, is_valid) in [
        (begin - 1, false),
        (begin, true),
        (begin + 172_800, true),
        (begin + 172_801, false),
    ] {
        assert_eq!(identity.check_dates(at).is_ok(), is_valid, "{at}");
    }
    assert_eq!(identity.dates(), Ok((begin, begin + 172_800)));
}

#[test]
fn whom_a_certificate_is_for_can_be_asked() {
    let key = KeyPair::generate().unwrap();
    let identity = identity(&params("chat.example").self_signed(&key).unwrap().pem(), &key);
    for (name, is_for) in [
        ("chat.example", true),
        ("CHAT.example", true),
        ("other.example", false),
        ("no name", false),
    ] {
        assert_eq!(identity.is_for(name), is_for, "{name}");
    }
}

#[test]
fn an_authority_is_added_to_those_of_the_machine() {
    let authority = Authority::new();
    let machine = Authorities::of_machine();
    let count = machine.0.len();
    let both = machine.and(authority.0.pem().as_bytes()).unwrap();
    assert_eq!(both.0.len(), count + 1);
    let fault = |text: &str| Authorities::of_machine().and(text.as_bytes()).map(drop);
    assert_eq!(fault("no certificate"), Err(BadPair::NoCertificate));
    let garbled = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(fault(garbled), Err(BadPair::Unusable(_))));
}

/// Takes whatever certificate is shown, unread.
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
        crate::provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Connects as one who speaks these, takes any certificate, and says which was shown and what was agreed on.
async fn look(acceptor: &Acceptor, name: &str, protocols: &[&[u8]]) -> (Option<(Vec<u8>, Option<Vec<u8>>)>, Far) {
    let mut config = ClientConfig::builder_with_provider(crate::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (far, _) = listener.accept().await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connecting = async {
        let connector = TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect(name, near).await.ok()?;
        if protocols == [b"acme-tls/1"] {
            assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "nothing is said in it");
        }
        let session = stream.get_ref().1;
        let shown = session.peer_certificates()?.first()?.to_vec();
        Some((shown, session.alpn_protocol().map(<[u8]>::to_vec)))
    };
    tokio::join!(connecting, acceptor.accept(far))
}

#[tokio::test]
async fn an_authority_is_shown_the_answer_for_its_name_and_nobody_else_is() {
    let key = KeyPair::generate().unwrap();
    let shown = params("127.0.0.1").self_signed(&key).unwrap();
    let (own, own_der) = (identity(&shown.pem(), &key), shown.der().to_vec());
    let mut asked = params("chat.example");
    asked.custom_extensions = vec![CustomExtension::new_acme_identifier(&[7; 32])];
    let answer_der = asked.self_signed(&key).unwrap().der().to_vec();
    let answer = Answer::new(answer_der.clone(), key.serialize_der()).unwrap();
    let acceptor = Acceptor::for_challenges(own.clone()).unwrap();
    acceptor.answer("Chat.example", answer.clone());
    let (acme, http) = (b"acme-tls/1".to_vec(), b"http/1.1".to_vec());

    let (near, far) = look(&acceptor, "chat.example", &[&acme]).await;
    assert_eq!(near, Some((answer_der, Some(acme.clone()))));
    let fault = far.unwrap_err();
    assert!(matches!(fault, TlsFault::Challenge), "{fault}");
    // Whoever can speak something else wants that.
    for protocols in [&[&http[..]][..], &[&acme, &http], &[]] {
        let (near, far) = look(&acceptor, "chat.example", protocols).await;
        let agreed = (!protocols.is_empty()).then(|| http.clone());
        assert_eq!(near, Some((own_der.clone(), agreed)));
        assert!(far.is_ok());
    }
    // Nobody has asked about this name, or does so no more.
    let (near, far) = look(&acceptor, "other.example", &[&acme]).await;
    assert!(near.is_none() && matches!(far, Err(TlsFault::Session(_))));
    acceptor.answer_nothing();
    assert!(look(&acceptor, "chat.example", &[&acme]).await.0.is_none());
    // Who has no authority to answer speaks nothing of the kind.
    let acceptor = Acceptor::new(own).unwrap();
    acceptor.answer("chat.example", answer);
    assert!(look(&acceptor, "chat.example", &[&acme]).await.0.is_none());
    let no_key = Answer::new(Vec::new(), Vec::new()).map(drop);
    assert!(matches!(no_key, Err(BadPair::Unusable(_))));
}

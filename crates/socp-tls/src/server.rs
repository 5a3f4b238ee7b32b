//! The end of a session that is connected to.
//!
//! An authority that wants to know who answers at a name makes a session for nothing but `acme-tls/1` (RFC 8737), and looks
//! at the certificate in it; [`Acceptor::for_challenges`] shows it the one that was given for that name.

use crate::fault::{BadPair, TlsFault};
use crate::stream::Stream;
use crate::{binding, pin_of, provider};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, InconsistentKeys, RootCertStore, ServerConfig, version::TLS13};
use socp_proto::{Bytes32, TlsPin};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// What is spoken in a session that is an authority's challenge (RFC 8737 §6.2).
const CHALLENGE: &[u8] = b"acme-tls/1";

/// The year 10000, s since the Unix epoch: no certificate reaches so far (RFC 5280 §4.1.2.5).
const END_OF_DATES_S: u64 = 253_402_300_800;

/// A certificate, those behind it, and its key.
#[derive(Debug, Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    pin: TlsPin,
}

impl Identity {
    /// Reads a chain and a key that are texts in PEM.
    ///
    /// # Errors
    /// [`BadPair`] says what is missing or does not fit.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, BadPair> {
        let read: Result<Vec<CertificateDer<'static>>, PemError> = CertificateDer::pem_slice_iter(chain).collect();
        let chain = read.map_err(|error| BadPair::CertificateText(error.to_string()))?;
        let first = chain.first().ok_or(BadPair::NoCertificate)?;
        let parsed = ParsedCertificate::try_from(first).map_err(|error| BadPair::Unusable(error.to_string()))?;
        let pin = pin_of(&parsed.subject_public_key_info());
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| BadPair::NoKey(error.to_string()))?;
        let certified = CertifiedKey::from_der(chain, key, &provider());
        let certified = certified.map_err(|error| match error == InconsistentKeys::KeyMismatch.into() {
            true => BadPair::Mismatch,
            false => BadPair::Unusable(error.to_string()),
        })?;
        Ok(Self {
            certified: Arc::new(certified),
            pin,
        })
    }

    /// What others may know its key by.
    #[must_use]
    pub fn pin(&self) -> TlsPin {
        self.pin
    }

    /// Whether it is valid at a time, in seconds since the Unix epoch; else why not.
    ///
    /// # Errors
    /// Words about its dates.
    pub fn check_dates(&self, unix_s: u64) -> Result<(), String> {
        match self.fault_at(unix_s)? {
            Some(error) => Err(error.to_string()),
            None => Ok(()),
        }
    }

    /// From when to when it is valid, in seconds since the Unix epoch.
    ///
    /// # Errors
    /// Words about what cannot be read.
    pub fn dates(&self) -> Result<(u64, u64), String> {
        let begin = match self.fault_at(0)? {
            Some(CertificateError::NotValidYetContext { not_before, .. }) => not_before.as_secs(),
            None => 0,
            Some(error) => return Err(error.to_string()),
        };
        match self.fault_at(END_OF_DATES_S)? {
            Some(CertificateError::ExpiredContext { not_after, .. }) => Ok((begin, not_after.as_secs())),
            None => Ok((begin, END_OF_DATES_S)),
            Some(error) => Err(error.to_string()),
        }
    }

    /// Whether it is for whoever has this name.
    #[must_use]
    pub fn is_for(&self, name: &str) -> bool {
        let parsed = self.certified.end_entity_cert().and_then(ParsedCertificate::try_from);
        match (parsed, ServerName::try_from(name)) {
            (Ok(parsed), Ok(name)) => verify_server_name(&parsed, &name).is_ok(),
            (Err(_), _) | (_, Err(_)) => false,
        }
    }

    /// What is wrong with its dates at that time.
    fn fault_at(&self, unix_s: u64) -> Result<Option<CertificateError>, String> {
        let parsed = self.certified.end_entity_cert().and_then(ParsedCertificate::try_from);
        let parsed = parsed.map_err(|error| error.to_string())?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(unix_s));
        let algorithms = provider().signature_verification_algorithms.all;
        // Dates come before the question who signed it, to which nobody is no answer.
        let nobody = RootCertStore::empty();
        let checked = verify_server_cert_signed_by_trust_anchor(&parsed, &nobody, &[], now, algorithms);
        let Err(Error::InvalidCertificate(error)) = checked else {
            return Ok(None);
        };
        let is_about_dates = matches!(
            error,
            CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. }
        );
        Ok(is_about_dates.then_some(error))
    }
}

/// What an authority is shown that asks about a name.
#[derive(Debug, Clone)]
pub struct Answer(Arc<CertifiedKey>);

impl Answer {
    /// A certificate and its key, both as DER (the key as PKCS#8).
    ///
    /// The certificate is taken as it is: what it must say is critical, and no library reads it (RFC 8737 §3).
    ///
    /// # Errors
    /// [`BadPair::Unusable`] if the key is none.
    pub fn new(certificate: Vec<u8>, key: Vec<u8>) -> Result<Self, BadPair> {
        let key = PrivateKeyDer::Pkcs8(key.into());
        let key = provider().key_provider.load_private_key(key);
        let key = key.map_err(|error| BadPair::Unusable(error.to_string()))?;
        let certified = CertifiedKey::new(vec![certificate.into()], key);
        Ok(Self(Arc::new(certified)))
    }
}

/// Makes sessions with whoever connects; the certificate may be another from one to the next.
#[derive(Clone)]
pub struct Acceptor {
    current: Arc<Current>,
    acceptor: TlsAcceptor,
}

/// The certificate that the next one is shown.
#[derive(Debug)]
struct Current {
    identity: RwLock<Identity>,
    /// What authorities are shown, by the name that they ask about.
    challenges: RwLock<BTreeMap<String, Answer>>,
}

impl ResolvesServerCert for Current {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if is_challenge(&hello) {
            let name = hello.server_name()?.to_ascii_lowercase();
            let challenges = self.challenges.read().unwrap_or_else(PoisonError::into_inner);
            return challenges.get(&name).map(|answer| Arc::clone(&answer.0));
        }
        let identity = self.identity.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&identity.certified))
    }
}

/// Whether nothing but that is spoken (RFC 8737 §3).
fn is_challenge(hello: &ClientHello<'_>) -> bool {
    let Some(mut protocols) = hello.alpn() else {
        return false;
    };
    protocols.next() == Some(CHALLENGE) && protocols.next().is_none()
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor")
            .field("pin", &self.pin())
            .finish_non_exhaustive()
    }
}

impl Acceptor {
    /// Shows this certificate.
    ///
    /// # Errors
    /// [`BadPair::Unusable`] if TLS itself cannot be set up.
    pub fn new(identity: Identity) -> Result<Self, BadPair> {
        Self::speaking(identity, &[b"http/1.1"])
    }

    /// Shows this certificate, and authorities what [`Acceptor::answer`] is given.
    ///
    /// # Errors
    /// [`BadPair::Unusable`] if TLS itself cannot be set up.
    pub fn for_challenges(identity: Identity) -> Result<Self, BadPair> {
        Self::speaking(identity, &[b"http/1.1", CHALLENGE])
    }

    fn speaking(identity: Identity, protocols: &[&[u8]]) -> Result<Self, BadPair> {
        let current = Arc::new(Current {
            identity: RwLock::new(identity),
            challenges: RwLock::default(),
        });
        let resolver = Arc::clone(&current);
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| BadPair::Unusable(error.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        // A handshake costs less than to remember everybody, and data that comes before one could be repeated.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Self {
            current,
            acceptor: TlsAcceptor::from(Arc::new(config)),
        })
    }

    /// Shows this certificate from now on.
    pub fn replace(&self, identity: Identity) {
        *self.current.identity.write().unwrap_or_else(PoisonError::into_inner) = identity;
    }

    /// Shows this to an authority that asks about that name.
    pub fn answer(&self, name: &str, answer: Answer) {
        let mut challenges = self.current.challenges.write().unwrap_or_else(PoisonError::into_inner);
        challenges.insert(name.to_ascii_lowercase(), answer);
    }

    /// Answers no authority any more.
    pub fn answer_nothing(&self) {
        let mut challenges = self.current.challenges.write().unwrap_or_else(PoisonError::into_inner);
        challenges.clear();
    }

    /// What others may know the key by.
    #[must_use]
    pub fn pin(&self) -> TlsPin {
        let identity = self.current.identity.read().unwrap_or_else(PoisonError::into_inner);
        identity.pin
    }

    /// Makes a session, and says which.
    ///
    /// # Errors
    /// [`TlsFault`] if the far end does not, or only wanted to see the certificate.
    pub async fn accept(&self, connection: TcpStream) -> Result<(Stream, Bytes32), TlsFault> {
        let mut stream = self.acceptor.accept(connection).await.map_err(TlsFault::of)?;
        if stream.get_ref().1.alpn_protocol() == Some(CHALLENGE) {
            // It has seen what it wanted, and nothing else may be said (RFC 8737 §3).
            stream.shutdown().await.map_err(TlsFault::Io)?;
            return Err(TlsFault::Challenge);
        }
        let binding = binding(stream.get_ref().1)?;
        Ok((Stream::Tls(Box::new(stream.into())), binding))
    }
}

//! The end of a session that is connected to.

use crate::fault::{BadPair, TlsFault};
use crate::stream::Stream;
use crate::{binding, pin_of, provider};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, InconsistentKeys, RootCertStore, ServerConfig, version::TLS13};
use socp_proto::{Bytes32, TlsPin};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

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
        let parsed = self.certified.end_entity_cert().and_then(ParsedCertificate::try_from);
        let parsed = parsed.map_err(|error| error.to_string())?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(unix_s));
        let algorithms = provider().signature_verification_algorithms.all;
        // Dates come before the question who signed it, to which nobody is no answer.
        let nobody = RootCertStore::empty();
        let checked = verify_server_cert_signed_by_trust_anchor(&parsed, &nobody, &[], now, algorithms);
        let Err(Error::InvalidCertificate(error)) = checked else {
            return Ok(());
        };
        let is_about_dates = matches!(
            error,
            CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. }
        );
        if is_about_dates { Err(error.to_string()) } else { Ok(()) }
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
struct Current(RwLock<Identity>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let identity = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&identity.certified))
    }
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
        let current = Arc::new(Current(RwLock::new(identity)));
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
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            current,
            acceptor: TlsAcceptor::from(Arc::new(config)),
        })
    }

    /// Shows this certificate from now on.
    pub fn replace(&self, identity: Identity) {
        *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = identity;
    }

    /// What others may know the key by.
    #[must_use]
    pub fn pin(&self) -> TlsPin {
        self.current.0.read().unwrap_or_else(PoisonError::into_inner).pin
    }

    /// Makes a session, and says which.
    ///
    /// # Errors
    /// [`TlsFault`] if the far end does not.
    pub async fn accept(&self, connection: TcpStream) -> Result<(Stream, Bytes32), TlsFault> {
        let stream = self.acceptor.accept(connection).await.map_err(TlsFault::of)?;
        let binding = binding(stream.get_ref().1)?;
        Ok((Stream::Tls(Box::new(stream.into())), binding))
    }
}

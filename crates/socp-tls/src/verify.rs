//! Whether a certificate is good.

use crate::fault::TlsFault;
use crate::{pin_of, provider};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use socp_proto::TlsPin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The authorities of this machine, as files name them; read once. `SSL_CERT_FILE` and `SSL_CERT_DIR` count.
static AUTHORITIES: OnceLock<Arc<RootCertStore>> = OnceLock::new();

/// Reads the authorities; takes its time the first time.
pub(crate) fn authorities() -> Arc<RootCertStore> {
    let read = || {
        let mut store = RootCertStore::empty();
        // Those that cannot be read vouch for nobody, and a certificate that needs one is refused with words.
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(store)
    };
    Arc::clone(AUTHORITIES.get_or_init(read))
}

/// What was found out about a certificate.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is good.
    Good,
    /// It is not, and why.
    Bad(TlsFault),
}

/// Checks one server's certificate, and keeps what it found.
#[derive(Debug)]
pub(crate) struct Verifier {
    pub(crate) host: String,
    /// This key and no other.
    pub(crate) pin: Option<TlsPin>,
    /// The session is wanted in any case.
    pub(crate) takes_anyone: bool,
    authorities: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    verdict: Mutex<Option<Verdict>>,
}

impl Verifier {
    pub(crate) fn new(host: &str, pin: Option<TlsPin>, takes_anyone: bool, authorities: Arc<RootCertStore>) -> Self {
        Self {
            host: host.to_owned(),
            pin,
            takes_anyone,
            authorities,
            provider: provider(),
            verdict: Mutex::new(None),
        }
    }

    /// What was found, once.
    pub(crate) fn take_verdict(&self) -> Option<Verdict> {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<Verdict, Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let seen = pin_of(&parsed.subject_public_key_info());
        if let Some(expected) = self.pin {
            // Whoever knows the key needs nobody to vouch for it: neither names nor dates say more.
            return Ok(match expected == seen {
                true => Verdict::Good,
                false => Verdict::Bad(TlsFault::Pin { expected, seen }),
            });
        }
        let algorithms = self.provider.signature_verification_algorithms.all;
        let vouched =
            verify_server_cert_signed_by_trust_anchor(&parsed, &self.authorities, intermediates, now, algorithms);
        Ok(match vouched.and_then(|()| verify_server_name(&parsed, name)) {
            Ok(()) => Verdict::Good,
            Err(error) => Verdict::Bad(TlsFault::of_certificate(&error, &self.host, seen)),
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.judge(end_entity, intermediates, server_name, now)?;
        let is_taken = matches!(verdict, Verdict::Good) || self.takes_anyone;
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner) = Some(verdict);
        match is_taken {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

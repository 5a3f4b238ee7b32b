//! The end of a session that connects.

use crate::fault::{BadPair, TlsFault};
use crate::stream::Stream;
use crate::verify::{Verdict, Verifier, authorities};
use crate::{binding, provider};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, version::TLS13};
use socp_proto::{Bytes32, TlsPin};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Which certificate is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// One with this key, whoever signed it; else one that an authority of this machine vouches for.
    pub pin: Option<TlsPin>,
    /// Any will do: who is there is found out otherwise.
    pub takes_anyone: bool,
}

/// A session that was made.
#[derive(Debug)]
pub struct Session {
    /// What both ends of it know and nobody else (RFC 9266).
    pub binding: Bytes32,
    /// Why its certificate is not good, where any was taken.
    pub uncertified: Option<TlsFault>,
}

impl Session {
    /// Whether its certificate is good.
    #[must_use]
    pub fn is_certified(&self) -> bool {
        self.uncertified.is_none()
    }
}

/// Authorities whose word counts.
#[derive(Debug, Clone)]
pub struct Authorities(pub(crate) Arc<RootCertStore>);

impl Authorities {
    /// Those of this machine; reads files the first time.
    #[must_use]
    pub fn of_machine() -> Self {
        Self(authorities())
    }

    /// These, too: certificates as a text in PEM.
    ///
    /// # Errors
    /// [`BadPair`] says what is wrong with the text.
    pub fn and(mut self, pem: &[u8]) -> Result<Self, BadPair> {
        let store = Arc::make_mut(&mut self.0);
        let mut count = 0_usize;
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| BadPair::CertificateText(error.to_string()))?;
            let added = store.add(certificate);
            added.map_err(|error| BadPair::Unusable(error.to_string()))?;
            count = count.saturating_add(1);
        }
        if count == 0 {
            return Err(BadPair::NoCertificate);
        }
        Ok(self)
    }
}

/// Makes a session over a connection to `host` whose certificate one of these authorities vouches for.
///
/// # Errors
/// [`TlsFault`]: what is wrong with the certificate, or with whatever is there.
pub async fn connect_vouched(connection: TcpStream, host: &str, authorities: Authorities) -> Result<Stream, TlsFault> {
    let (stream, _) = connect_trusting(connection, host, Wanted::default(), authorities.0).await?;
    Ok(stream)
}

/// Makes a session over a connection to `host`, a name or an address.
///
/// # Errors
/// [`TlsFault`]: what is wrong with the certificate, or with whatever is there.
pub async fn connect(connection: TcpStream, host: &str, wanted: Wanted) -> Result<(Stream, Session), TlsFault> {
    let authorities = tokio::task::spawn_blocking(authorities).await;
    let authorities = authorities.map_err(|error| TlsFault::Session(error.to_string()))?;
    connect_trusting(connection, host, wanted, authorities).await
}

pub(crate) async fn connect_trusting(
    connection: TcpStream,
    host: &str,
    wanted: Wanted,
    authorities: Arc<RootCertStore>,
) -> Result<(Stream, Session), TlsFault> {
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(bare).map_err(|_| TlsFault::Host(host.to_owned()))?;
    let verifier = Arc::new(Verifier::new(host, wanted.pin, wanted.takes_anyone, authorities));
    let config = config(Arc::clone(&verifier)).map_err(|error| TlsFault::Session(error.to_string()))?;
    let shaken = TlsConnector::from(Arc::new(config)).connect(name, connection).await;
    let verdict = verifier.take_verdict();
    match (shaken, verdict) {
        (Ok(stream), Some(Verdict::Good)) => finish(stream, None),
        (Ok(stream), Some(Verdict::Bad(fault))) if wanted.takes_anyone => finish(stream, Some(fault)),
        (Ok(_) | Err(_), Some(Verdict::Bad(fault))) => Err(fault),
        (Ok(_), None) => Err(TlsFault::Session("no certificate was shown".to_owned())),
        (Err(error), Some(Verdict::Good) | None) => Err(TlsFault::of(error)),
    }
}

fn finish(
    stream: tokio_rustls::client::TlsStream<TcpStream>,
    uncertified: Option<TlsFault>,
) -> Result<(Stream, Session), TlsFault> {
    let binding = binding(stream.get_ref().1)?;
    Ok((Stream::Tls(Box::new(stream.into())), Session { binding, uncertified }))
}

/// Every session has a handshake of its own: one that is taken up again would show no certificate.
fn config(verifier: Arc<Verifier>) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

//! What can be wrong with a session or a certificate, in words for people.

use rustls::{CertificateError, Error, InvalidMessage};
use socp_proto::TlsPin;
use std::io;

/// Why there is no TLS session with a server.
#[derive(Debug, thiserror::Error)]
pub enum TlsFault {
    /// Nobody that this machine trusts vouches for the certificate.
    #[error(
        "no authority that this machine trusts vouches for its certificate ({why}); if the server made it itself, ask its \
         operator for the pin and put it behind a # (wss://HOST:PORT#PIN). The certificate shown now has the pin {seen}"
    )]
    Untrusted {
        /// What the check says.
        why: String,
        /// The certificate that was shown.
        seen: TlsPin,
    },
    /// Another certificate than the pinned one.
    #[error(
        "the server's certificate changed: the pin is {expected}, the certificate shown now has {seen}. Either the server \
         was set up anew or somebody stands between; ask its operator for the pin"
    )]
    Pin {
        /// The one that was asked for.
        expected: TlsPin,
        /// The one that was shown.
        seen: TlsPin,
    },
    /// The certificate is too old.
    #[error("its certificate expired {ago}; its operator must renew it (or this machine's clock is wrong)")]
    Expired {
        /// How long ago.
        ago: String,
    },
    /// The certificate is from the future.
    #[error("its certificate is not valid yet; is this machine's clock right?")]
    NotYet,
    /// The certificate is for somebody else.
    #[error("its certificate is for {presented}, not for {host}; check the address")]
    OtherName {
        /// Who is at the address.
        host: String,
        /// Whom the certificate names.
        presented: String,
    },
    /// Something else is at this port.
    #[error("it does not speak TLS at this port; if that is right, use ws:// instead of wss://")]
    NotTls,
    /// The handshake failed otherwise.
    #[error("no TLS session: {0}")]
    Session(String),
    /// An authority looked at the certificate for its name, and left.
    #[error("it was an authority's challenge, which is answered")]
    Challenge,
    /// The address cannot stand in a certificate.
    #[error("{0:?} is neither a host name nor an address that a certificate can be for")]
    Host(String),
    /// The connection failed.
    #[error("{0}")]
    Io(io::Error),
}

impl TlsFault {
    /// What the library reports, which hides its own errors in those of the system.
    pub(crate) fn of(error: io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        match inner {
            Some(Error::InvalidMessage(
                InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::MessageTooLarge
                | InvalidMessage::InvalidEmptyPayload,
            )) => Self::NotTls,
            Some(other) => Self::Session(other.to_string()),
            None if error.kind() == io::ErrorKind::UnexpectedEof => {
                Self::Session("it ended the connection; does it speak TLS at this port?".to_owned())
            }
            None => Self::Io(error),
        }
    }

    /// What the check of a certificate found.
    pub(crate) fn of_certificate(error: &Error, host: &str, seen: TlsPin) -> Self {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the rest is told in the library's words")]
        match error {
            Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after }) => Self::Expired {
                ago: ago(time.as_secs().saturating_sub(not_after.as_secs())),
            },
            Error::InvalidCertificate(CertificateError::Expired) => Self::Expired {
                ago: "before now".to_owned(),
            },
            Error::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
                Self::NotYet
            }
            Error::InvalidCertificate(CertificateError::NotValidForName) => Self::OtherName {
                host: host.to_owned(),
                presented: "another name".to_owned(),
            },
            Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) => Self::OtherName {
                host: host.to_owned(),
                presented: names(presented),
            },
            Error::InvalidCertificate(CertificateError::UnknownIssuer) => Self::Untrusted {
                why: "its issuer is not known".to_owned(),
                seen,
            },
            other => Self::Untrusted {
                why: other.to_string(),
                seen,
            },
        }
    }
}

fn ago(seconds: u64) -> String {
    match seconds / 86_400 {
        0 => "less than a day ago".to_owned(),
        1 => "a day ago".to_owned(),
        days => format!("{days} days ago"),
    }
}

/// A few of the names in a certificate, without what could be written over a terminal.
fn names(presented: &[String]) -> String {
    let shown = presented.iter().take(3).map(|name| {
        let name = name.trim_start_matches("DnsName(\"").trim_end_matches("\")");
        name.escape_debug().take(100).collect::<String>()
    });
    let shown: Vec<String> = shown.collect();
    match shown.is_empty() {
        true => "no name".to_owned(),
        false => shown.join(", "),
    }
}

/// Why a certificate and a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPair {
    /// The file is not text of the right form.
    #[error("the certificate file cannot be read as PEM: {0}")]
    CertificateText(String),
    /// There is nothing in it.
    #[error("there is no certificate in it (a PEM section BEGIN CERTIFICATE is wanted)")]
    NoCertificate,
    /// There is no key.
    #[error("there is no private key in the key file (PEM: PKCS#8, PKCS#1 or SEC1; without a password): {0}")]
    NoKey(String),
    /// Key and certificate are of different pairs.
    #[error("the key does not fit the certificate; the first certificate of the file must be the server's own")]
    Mismatch,
    /// Either is of a kind that is not used.
    #[error("certificate or key cannot be used: {0}")]
    Unusable(String),
}

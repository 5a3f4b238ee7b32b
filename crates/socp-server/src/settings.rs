//! What an operator decides.

mod acme;

use crate::error::ServerError;
pub use acme::AcmeSettings;
#[cfg(not(feature = "acme"))]
pub(crate) use acme::without_acme;
use socp_core::server::{Accept, BootstrapEntry, Config, Directory};
use socp_crypto::Password;
use socp_proto::limits::{
    PEER_FRAMES_PER_S_MAX, USER_FRAMES_BURST_MAX, USER_FRAMES_PER_S_MAX, VERIFICATIONS_PER_S_MAX,
};
use socp_proto::{Address, ServerId};
use std::net::SocketAddr;
use std::path::PathBuf;

/// How many frames a link may send; the reader waits where there are more, so nothing is lost (PROTOCOL I.11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimit {
    /// No limit, for measurements.
    Off,
    /// So many frames per second on a user link, three times as many at once.
    PerSecond(u32),
}

/// Where the certificate for TLS comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsSource {
    /// From files in PEM, looked at again when they change.
    Files {
        /// The certificate, and those that it rests on.
        chain: PathBuf,
        /// Its key.
        key: PathBuf,
    },
    /// The server makes it itself.
    SelfSigned,
    /// An authority signs it for whoever answers at its names (ACME).
    Acme(AcmeSettings),
}

/// The settings of one server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Where identity, pins and users live.
    pub data: PathBuf,
    /// What opens the server's key, if a passphrase protects it; a new key is sealed under it.
    pub passphrase: Option<Password>,
    /// The name for people.
    pub name: Option<String>,
    /// The id to have; else the stored one, else a fresh one.
    pub server_id: Option<ServerId>,
    /// The certificate for TLS; without, `ws://` and `http://` are spoken.
    pub tls: Option<TlsSource>,
    /// Where others can dial us, if not where we listen.
    pub public_address: Option<(String, u16)>,
    /// Whether they speak TLS there, if it is not as we do: a proxy may end it.
    pub public_tls: Option<bool>,
    /// Whom to ask for admission.
    pub bootstrap: Vec<BootstrapEntry>,
    /// Who may say hello.
    pub accept: Accept,
    /// Whether users are taken at all; a server that only introduces takes none.
    pub takes_users: bool,
    /// Whom users are shown.
    pub directory: Directory,
    /// Whether `Accept::Open` is wanted beyond loopback.
    pub allow_open_beyond_loopback: bool,
    /// Whether content signatures are checked before routing.
    pub verify_content: bool,
    /// Whether frames to programs that can take it are signed by a delegated key (PROTOCOL II.3).
    pub delegates: bool,
    /// How far behind and ahead of our clock state-changing frames may lie, ms.
    pub clock_tolerance_ms: (u64, u64),
    /// Whether a newcomer may join without signing.
    pub allow_unsigned_join: bool,
    /// How many frames a user link may send.
    pub rate_limit: RateLimit,
    /// Foreign web origins that may connect.
    pub allow_origin: Vec<String>,
}

impl Settings {
    /// The defaults: proved hellos, content checked, the protocol's clock tolerance.
    #[must_use]
    pub fn new(listen: SocketAddr, data: PathBuf) -> Self {
        Self {
            listen,
            data,
            passphrase: None,
            name: None,
            server_id: None,
            tls: None,
            public_address: None,
            public_tls: None,
            bootstrap: Vec::new(),
            accept: Accept::Proof,
            takes_users: true,
            directory: Directory::Open,
            allow_open_beyond_loopback: false,
            verify_content: true,
            delegates: true,
            clock_tolerance_ms: Config::CLOCK_TOLERANCE_MS,
            allow_unsigned_join: false,
            rate_limit: RateLimit::PerSecond(USER_FRAMES_PER_S_MAX),
            allow_origin: Vec::new(),
        }
    }

    /// Refuses what would be unsafe or cannot work, before anything is touched.
    pub(crate) fn check(&self) -> Result<(), ServerError> {
        let is_open = self.accept == Accept::Open && !self.listen.ip().is_loopback();
        if is_open && !self.allow_open_beyond_loopback {
            return Err(ServerError::Setting(format!(
                "--accept open on {} lets anyone take any id; use --accept proof or signed, or say --i-know-open-is-unsafe",
                self.listen
            )));
        }
        if let Some(TlsSource::Acme(acme)) = &self.tls {
            acme.check()?;
        }
        for entry in &self.bootstrap {
            let address = format!("{}:{}", entry.host, entry.port);
            if Address::try_from(address.as_str()).is_err() {
                return Err(ServerError::Setting(format!(
                    "the bootstrap address {address:?} is not host:port"
                )));
            }
        }
        Ok(())
    }

    /// Whether others speak TLS to us.
    pub(crate) fn has_tls(&self) -> bool {
        self.public_tls.unwrap_or(self.tls.is_some())
    }

    pub(crate) fn budgets(&self) -> Budgets {
        let (user, burst, peer) = match self.rate_limit {
            RateLimit::Off => {
                return Budgets {
                    user: None,
                    peer: None,
                    verifications: None,
                };
            }
            RateLimit::PerSecond(USER_FRAMES_PER_S_MAX) => {
                (USER_FRAMES_PER_S_MAX, USER_FRAMES_BURST_MAX, PEER_FRAMES_PER_S_MAX)
            }
            RateLimit::PerSecond(n) => (n.max(1), n.max(1).saturating_mul(3), PEER_FRAMES_PER_S_MAX),
        };
        Budgets {
            user: Some((user, burst)),
            peer: Some((peer, peer)),
            verifications: Some(VERIFICATIONS_PER_S_MAX),
        }
    }
}

/// Frames and verifications per second and at once; none: unlimited.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budgets {
    pub(crate) user: Option<(u32, u32)>,
    pub(crate) peer: Option<(u32, u32)>,
    pub(crate) verifications: Option<u32>,
}

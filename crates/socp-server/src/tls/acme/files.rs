//! What outlives a start: the account at the authority, and the certificate with its key.

use super::due_s;
use crate::error::ServerError;
use crate::key_files::{read_private, write_private};
use crate::settings::AcmeSettings;
use instant_acme::AccountCredentials;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use socp_tls::Identity;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Bytes of a file: a chain of some hundred certificates.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

const DAY_S: u64 = 86_400;

/// Where they are.
#[derive(Debug, Clone)]
pub(super) struct Files {
    account: PathBuf,
    certificate: PathBuf,
}

/// An account at an authority.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountFile {
    pub(super) directory: String,
    pub(super) contacts: Vec<String>,
    pub(super) credentials: AccountCredentials,
}

/// A certificate as it is kept.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CertificateFile {
    directory: String,
    domains: Vec<String>,
    /// In PEM, as is the key.
    chain: String,
    key: String,
}

/// A certificate that an authority has signed.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) identity: Identity,
    /// From when to when it is valid, s since the Unix epoch.
    pub(super) dates: (u64, u64),
    /// In PEM.
    pub(super) key: String,
    chain: String,
    directory: String,
    domains: Vec<String>,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held")
            .field("directory", &self.directory)
            .field("domains", &self.domains)
            .field("dates", &self.dates)
            .finish_non_exhaustive()
    }
}

impl Held {
    /// What the authority sent, with the key that it signed.
    pub(super) fn new(settings: &AcmeSettings, chain: String, key: String) -> Result<Self, String> {
        Self::of(CertificateFile {
            directory: settings.directory.clone(),
            domains: settings.domains.clone(),
            chain,
            key,
        })
    }

    fn of(file: CertificateFile) -> Result<Self, String> {
        let identity = Identity::from_pem(file.chain.as_bytes(), file.key.as_bytes());
        let identity = identity.map_err(|error| error.to_string())?;
        let dates = identity.dates()?;
        Ok(Self {
            identity,
            dates,
            key: file.key,
            chain: file.chain,
            directory: file.directory,
            domains: file.domains,
        })
    }

    /// When the next one is asked for: at once, if this one is not what the settings want.
    pub(super) fn due_s(&self, settings: &AcmeSettings) -> u64 {
        let is_wanted = self.directory == settings.directory
            && settings.domains.iter().all(|domain| self.identity.is_for(domain))
            && self.domains.iter().all(|domain| settings.domains.contains(domain));
        match is_wanted {
            true => due_s(self.dates.0, self.dates.1),
            false => 0,
        }
    }

    pub(super) fn is_good(&self, now_s: u64) -> bool {
        self.identity.check_dates(now_s).is_ok()
    }

    pub(super) fn ends_by(&self, unix_s: u64) -> bool {
        self.dates.1 <= unix_s
    }

    pub(super) fn days_left(&self, now_s: u64) -> u64 {
        self.dates.1.saturating_sub(now_s) / DAY_S
    }
}

impl Files {
    pub(super) fn new(data: &Path) -> Self {
        Self {
            account: data.join("acme-account.json"),
            certificate: data.join("acme-certificate.json"),
        }
    }

    /// The account that is kept, if there is one.
    pub(super) fn account(&self) -> Result<Option<AccountFile>, ServerError> {
        load(&self.account, "another account is made")
    }

    pub(super) fn keep_account(&self, account: &AccountFile) -> Result<(), ServerError> {
        store(&self.account, account)
    }

    pub(super) fn forget_account(&self) -> Result<(), ServerError> {
        match std::fs::remove_file(&self.account) {
            Err(source) if source.kind() != ErrorKind::NotFound => Err(ServerError::Data {
                path: self.account.clone(),
                source,
            }),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The certificate that is kept, if there is one.
    pub(super) fn certificate(&self) -> Result<Option<Held>, ServerError> {
        let otherwise = "another certificate is asked for, with another key";
        let Some(file) = load(&self.certificate, otherwise)? else {
            return Ok(None);
        };
        let held = Held::of(file).map_err(|reason| damaged(&self.certificate, &reason, otherwise))?;
        Ok(Some(held))
    }

    pub(super) fn keep_certificate(&self, held: &Held) -> Result<(), ServerError> {
        let file = CertificateFile {
            directory: held.directory.clone(),
            domains: held.domains.clone(),
            chain: held.chain.clone(),
            key: held.key.clone(),
        };
        store(&self.certificate, &file)
    }
}

fn load<T: DeserializeOwned>(path: &Path, otherwise: &str) -> Result<Option<T>, ServerError> {
    let length = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            let path = path.to_owned();
            return Err(ServerError::Data { path, source });
        }
    };
    if length > FILE_BYTES_MAX {
        return Err(damaged(
            path,
            &format!("it is longer than {FILE_BYTES_MAX} bytes"),
            otherwise,
        ));
    }
    let read = serde_json::from_slice(&read_private(path)?);
    read.map(Some)
        .map_err(|error| damaged(path, &error.to_string(), otherwise))
}

fn store<T: Serialize>(path: &Path, value: &T) -> Result<(), ServerError> {
    let text = serde_json::to_vec(value).map_err(|error| ServerError::Certificate {
        what: path.display().to_string(),
        reason: error.to_string(),
    })?;
    write_private(path, &text)
}

fn damaged(path: &Path, reason: &str, otherwise: &str) -> ServerError {
    ServerError::Certificate {
        what: path.display().to_string(),
        reason: format!("{reason}; restore it from a backup, or remove it: then {otherwise}"),
    }
}

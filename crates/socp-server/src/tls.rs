//! The certificate that the server shows: from files, its own, or an authority's that it asks for one (`acme`).
//!
//! Files are looked at every few seconds and at SIGHUP, since whoever renews them does not ask us. What is there is taken
//! if it is a whole pair; a pair that is half written is none, and the one before stays. A certificate of our own is made
//! anew at each start and before it gets old, always with the key in the data directory, so that a pin stays good.

#[cfg(feature = "acme")]
mod acme;

use crate::error::ServerError;
use crate::key_files::{read_private, write_private};
use crate::settings::{Settings, TlsSource};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use socp_proto::TlsPin;
use socp_tls::{Acceptor, BadPair, Identity};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// How often files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Bytes of a file: a chain of some hundred certificates.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// How long a certificate of our own is valid.
const OWN_VALID_S: u64 = 365 * DAY_S;
/// When another one is made in its place.
const OWN_RENEWED_AFTER_S: u64 = 240 * DAY_S;
/// A certificate that ends so soon is warned of.
const ENDS_SOON_S: u64 = 14 * DAY_S;
/// Other clocks may be behind ours by so much.
const CLOCKS_BEHIND_S: u64 = DAY_S;
const DAY_S: u64 = 86_400;

/// The certificate in use, and where the next one comes from.
#[derive(Debug)]
pub(crate) struct Tls {
    pub(crate) acceptor: Acceptor,
    origin: Origin,
    /// When its dates were complained of last, s since the Unix epoch.
    warned_s: u64,
}

#[derive(Debug)]
enum Origin {
    Files {
        files: Files,
        seen: Seen,
    },
    Own {
        names: Vec<String>,
        key: KeyPair,
        made_s: u64,
    },
    #[cfg(feature = "acme")]
    Acme(Box<acme::Acme>),
}

/// Where a pair is.
#[derive(Debug, Clone)]
struct Files {
    chain: PathBuf,
    key: PathBuf,
}

/// What was found in the files last.
type Seen = Result<(Vec<u8>, Vec<u8>), String>;

/// What looking again came to.
#[derive(Debug, PartialEq, Eq)]
enum Looked {
    /// There is nothing new.
    Same,
    /// Another certificate is in use.
    Replaced,
    /// What is there now cannot be used; the one before stays.
    Kept(String),
}

/// Gets the certificate of the settings.
pub(crate) async fn open(settings: &Settings) -> Result<Option<Tls>, ServerError> {
    let Some(source) = settings.tls.clone() else {
        return Ok(None);
    };
    let (names, data) = (names(settings), settings.data.clone());
    #[cfg(feature = "acme")]
    let port = settings.listen.port();
    let opened = tokio::task::spawn_blocking(move || match source {
        TlsSource::Files { chain, key } => Tls::of_files(Files { chain, key }),
        TlsSource::SelfSigned => Tls::of_our_own(&data, names),
        #[cfg(feature = "acme")]
        TlsSource::Acme(settings) => Tls::of_authority(&data, settings, port),
        #[cfg(not(feature = "acme"))]
        TlsSource::Acme(_) => Err(crate::settings::without_acme()),
    });
    let opened = opened.await.map_err(|error| ServerError::Part {
        part: "certificate",
        reason: error.to_string(),
    })?;
    opened.map(Some)
}

/// Whom a certificate of our own is for: whatever others may dial us under.
fn names(settings: &Settings) -> Vec<String> {
    let bare = |host: &str| host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let public = settings.public_address.iter().map(|(host, _)| bare(host));
    let ip = settings.listen.ip();
    let listen = Some(ip.to_string()).filter(|_| !ip.is_unspecified());
    let mut names: Vec<String> = public.chain(listen).chain([String::from("localhost")]).collect();
    names.dedup();
    names
}

impl Tls {
    fn of_files(files: Files) -> Result<Self, ServerError> {
        let (chain, key) = files.read()?;
        let identity = files.pair(&chain, &key)?;
        let mut tls = Self::new(
            identity,
            Origin::Files {
                files,
                seen: Ok((chain, key)),
            },
        )?;
        tls.warn_of_dates(unix_s());
        Ok(tls)
    }

    fn of_our_own(data: &Path, names: Vec<String>) -> Result<Self, ServerError> {
        let path = data.join("tls.key");
        let key = own_key(&path)?;
        let made_s = unix_s();
        let identity = own_certificate(&key, &names, made_s).map_err(|reason| ServerError::Certificate {
            what: path.display().to_string(),
            reason,
        })?;
        Self::new(identity, Origin::Own { names, key, made_s })
    }

    #[cfg(feature = "acme")]
    fn of_authority(data: &Path, settings: crate::settings::AcmeSettings, port: u16) -> Result<Self, ServerError> {
        let (acme, identity) = acme::Acme::open(data, settings, port)?;
        let acceptor = Acceptor::for_challenges(identity).map_err(no_tls)?;
        let origin = Origin::Acme(Box::new(acme));
        Ok(Self {
            acceptor,
            origin,
            warned_s: 0,
        })
    }

    fn new(identity: Identity, origin: Origin) -> Result<Self, ServerError> {
        Ok(Self {
            acceptor: Acceptor::new(identity).map_err(no_tls)?,
            origin,
            warned_s: 0,
        })
    }

    /// What others need to know our own certificate by.
    pub(crate) fn own_pin(&self) -> Option<TlsPin> {
        matches!(self.origin, Origin::Own { .. }).then(|| self.acceptor.pin())
    }

    /// Keeps the certificate fresh until told to stop.
    pub(crate) async fn keep_fresh(self, stop: watch::Receiver<bool>) {
        match self.origin {
            #[cfg(feature = "acme")]
            Origin::Acme(acme) => acme.keep(self.acceptor, stop).await,
            origin @ (Origin::Files { .. } | Origin::Own { .. }) => Self { origin, ..self }.keep_looking(stop).await,
        }
    }

    async fn keep_looking(mut self, mut stop: watch::Receiver<bool>) {
        let mut interval = tokio::time::interval(LOOK_INTERVAL);
        let mut hangup = hangups();
        let mut asked = false;
        loop {
            let looking = tokio::task::spawn_blocking(move || {
                let looked = self.look(unix_s());
                (self, looked)
            });
            let looked;
            (self, looked) = match looking.await {
                Ok(done) => done,
                Err(error) => return tracing::error!(%error, "certificates are looked at no more"),
            };
            self.say(&looked, asked);
            asked = tokio::select! {
                _ = interval.tick() => false,
                Some(()) = async { hangup.as_mut()?.recv().await } => true,
                // A sender that is gone means stop, too.
                () = async { let _stop = stop.wait_for(|stop| *stop).await.map(drop); } => return,
            };
        }
    }

    fn say(&self, looked: &Looked, asked: bool) {
        let pin = self.acceptor.pin();
        match looked {
            Looked::Same if asked => tracing::info!(%pin, "SIGHUP: the certificate is the same"),
            Looked::Same => {}
            Looked::Replaced => tracing::info!(%pin, "new connections get the new certificate"),
            Looked::Kept(reason) => {
                tracing::error!(reason, "the new certificate cannot be used; the one before stays");
            }
        }
    }

    /// Takes what is new.
    fn look(&mut self, now_s: u64) -> Looked {
        let looked = match &mut self.origin {
            Origin::Files { files, seen } => look_at_files(&self.acceptor, files, seen),
            Origin::Own { names, key, made_s } if now_s.abs_diff(*made_s) >= OWN_RENEWED_AFTER_S => {
                match own_certificate(key, names, now_s) {
                    Ok(identity) => {
                        *made_s = now_s;
                        self.acceptor.replace(identity);
                        Looked::Replaced
                    }
                    Err(reason) => Looked::Kept(reason),
                }
            }
            Origin::Own { .. } => Looked::Same,
            #[cfg(feature = "acme")]
            Origin::Acme(_) => Looked::Same,
        };
        if looked == Looked::Replaced {
            self.warned_s = 0;
        }
        self.warn_of_dates(now_s);
        looked
    }

    /// Says once a day that a certificate is at its end. It is shown all the same: those who have its pin, and servers that
    /// prove their keys, can still come, and a server that does not start helps nobody.
    fn warn_of_dates(&mut self, now_s: u64) {
        let Origin::Files {
            seen: Ok((chain, key)),
            files,
        } = &self.origin
        else {
            return;
        };
        if now_s.saturating_sub(self.warned_s) < DAY_S {
            return;
        }
        let Ok(identity) = files.pair(chain, key) else { return };
        let path = files.chain.display();
        if let Err(reason) = identity.check_dates(now_s) {
            self.warned_s = now_s;
            tracing::error!(certificate = %path, reason, "the certificate is not valid now; most will refuse it");
        } else if identity.check_dates(now_s.saturating_add(ENDS_SOON_S)).is_err() {
            self.warned_s = now_s;
            tracing::warn!(certificate = %path, "the certificate ends within 14 days; renew it");
        }
    }
}

fn no_tls(error: BadPair) -> ServerError {
    ServerError::Part {
        part: "TLS",
        reason: error.to_string(),
    }
}

/// SIGHUPs, where they can be had.
fn hangups() -> Option<Signal> {
    match signal(SignalKind::hangup()) {
        Ok(hangup) => Some(hangup),
        Err(error) => {
            tracing::warn!(%error, "no SIGHUP; certificates are looked after all the same");
            None
        }
    }
}

fn look_at_files(acceptor: &Acceptor, files: &Files, seen: &mut Seen) -> Looked {
    let found = files.read();
    let kept = match found {
        Ok(found) if seen.as_ref().is_ok_and(|seen| *seen == found) => return Looked::Same,
        Ok(found) => {
            let pair = files.pair(&found.0, &found.1);
            *seen = Ok(found);
            match pair {
                Ok(identity) => {
                    acceptor.replace(identity);
                    return Looked::Replaced;
                }
                Err(error) => error.to_string(),
            }
        }
        Err(error) => {
            let reason = error.to_string();
            // Said once, not every few seconds.
            if seen.as_ref().is_err_and(|seen| *seen == reason) {
                return Looked::Same;
            }
            *seen = Err(reason.clone());
            reason
        }
    };
    Looked::Kept(kept)
}

impl Files {
    fn read(&self) -> Result<(Vec<u8>, Vec<u8>), ServerError> {
        Ok((read(&self.chain, "--tls-cert")?, read(&self.key, "--tls-key")?))
    }

    fn pair(&self, chain: &[u8], key: &[u8]) -> Result<Identity, ServerError> {
        Identity::from_pem(chain, key).map_err(|error| ServerError::Certificate {
            what: match error {
                BadPair::NoKey(_) => self.key.display().to_string(),
                BadPair::CertificateText(_) | BadPair::NoCertificate => self.chain.display().to_string(),
                BadPair::Mismatch | BadPair::Unusable(_) => {
                    format!("{} with {}", self.chain.display(), self.key.display())
                }
            },
            reason: error.to_string(),
        })
    }
}

fn read(path: &Path, flag: &'static str) -> Result<Vec<u8>, ServerError> {
    let failed = |reason: String| ServerError::Certificate {
        what: format!("{} ({flag})", path.display()),
        reason,
    };
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    let mut bytes = Vec::new();
    let read = file.take(FILE_BYTES_MAX.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|error| failed(error.to_string()))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_BYTES_MAX) {
        return Err(failed(format!(
            "it is longer than {FILE_BYTES_MAX} bytes; that is no certificate"
        )));
    }
    Ok(bytes)
}

/// The key in the data directory; made where there is none.
fn own_key(path: &Path) -> Result<KeyPair, ServerError> {
    let failed = |reason: String| ServerError::Certificate {
        what: path.display().to_string(),
        reason,
    };
    if path.exists() {
        let text = String::from_utf8_lossy(&read_private(path)?).into_owned();
        return KeyPair::from_pem(&text).map_err(|error| {
            failed(format!(
                "{error}; restore it from a backup, or remove it: then another is made, and the pin changes"
            ))
        });
    }
    let key = KeyPair::generate().map_err(|error| failed(error.to_string()))?;
    write_private(path, key.serialize_pem().as_bytes())?;
    Ok(key)
}

/// A certificate that nobody else has signed.
fn own_certificate(key: &KeyPair, names: &[String], now_s: u64) -> Result<Identity, String> {
    let mut params = CertificateParams::new(names.to_vec()).map_err(|error| error.to_string())?;
    params.not_before = date(now_s.saturating_sub(CLOCKS_BEHIND_S))?;
    params.not_after = date(now_s.saturating_add(OWN_VALID_S))?;
    params.distinguished_name.push(DnType::CommonName, "a SOCP server");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(key).map_err(|error| error.to_string())?;
    Identity::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).map_err(|error| error.to_string())
}

fn date(unix_s: u64) -> Result<OffsetDateTime, String> {
    let seconds = i64::try_from(unix_s).map_err(|error| error.to_string())?;
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|error| error.to_string())
}

fn unix_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests;

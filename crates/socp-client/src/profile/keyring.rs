//! The platform's keyring: 32 random bytes that open a profile's keys, kept by the desktop instead of a file.
//!
//! On Linux that is the Secret Service on the session bus (GNOME Keyring, KWallet, KeePassXC). The kernel's own keyrings are
//! not asked: what they hold is gone after a reboot, and the keys with it.
//!
//! A keyring may ask a person to open it, and may not answer at all; so every call has a thread of its own, and a time limit.

use crate::error::ClientError;
use socp_crypto::{SecretBytes, random_bytes};
use socp_proto::UserId;

/// Longest name of an entry, as a profile may hold it.
const NAME_BYTES_MAX: usize = 256;
/// As [`SecretBytes::random`] makes them.
const SECRET_BYTES: usize = 32;

/// One secret in the keyring. Its name is of no other profile, also where the same identity is in two of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry(String);

impl Entry {
    /// The name of an entry that does not exist yet.
    pub(super) fn fresh(user: &UserId) -> Result<Self, ClientError> {
        let number = u64::from_be_bytes(random_bytes()?);
        Ok(Self(format!("{user} {number:016x}")))
    }

    /// A name that a profile holds.
    pub(super) fn parse(name: String) -> Result<Self, String> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(format!("the name of a keyring's entry has {} bytes", name.len()));
        }
        Ok(Self(name))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Puts a secret there, and makes sure that it can be had again.
    pub(super) fn store(&self, secret: &SecretBytes) -> Result<(), ClientError> {
        platform::store(self, secret)?;
        if self.fetch()? == *secret {
            return Ok(());
        }
        Err(fault("use", "it did not keep what was put into it".to_owned()))
    }

    /// What was put there.
    pub(super) fn fetch(&self) -> Result<SecretBytes, ClientError> {
        let secret = platform::fetch(self)?;
        if secret.len() == SECRET_BYTES {
            return Ok(secret);
        }
        let why = format!("it has {} bytes for this profile, which are not ours", secret.len());
        Err(fault("read from", why))
    }

    /// Removes it, if it is there still.
    pub(super) fn forget(&self) -> Result<(), ClientError> {
        platform::forget(self)
    }
}

fn fault(what: &'static str, why: String) -> ClientError {
    ClientError::Keyring { what, why }
}

#[cfg(feature = "keyring")]
mod platform {
    use super::{ClientError, Entry, fault};
    use keyring::{Entry as Credential, Error};
    use socp_crypto::SecretBytes;
    use std::sync::mpsc::{RecvTimeoutError, sync_channel};
    use std::time::Duration;

    /// What our entries are called there.
    const SERVICE: &str = "socp";
    /// How long a person may take to open the keyring.
    const WAIT_MAX: Duration = Duration::from_secs(120);

    pub(super) fn store(entry: &Entry, secret: &SecretBytes) -> Result<(), ClientError> {
        let secret = secret.clone();
        with(entry, "write to", move |credential| {
            credential.set_secret(secret.expose())
        })
    }

    pub(super) fn fetch(entry: &Entry) -> Result<SecretBytes, ClientError> {
        with(entry, "read from", |credential| {
            credential.get_secret().map(SecretBytes::new)
        })
    }

    pub(super) fn forget(entry: &Entry) -> Result<(), ClientError> {
        with(entry, "remove from", |credential| {
            match credential.delete_credential() {
                Err(Error::NoEntry) => Ok(()),
                deleted => deleted,
            }
        })
    }

    fn with<T: Send + 'static>(
        entry: &Entry,
        what: &'static str,
        ask: impl FnOnce(Credential) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, ClientError> {
        let name = entry.as_str().to_owned();
        let (sender, answer) = sync_channel(1);
        std::thread::spawn(move || {
            let done = match Credential::store_status() {
                Err(error) => Err(nobody(error)),
                Ok(()) => Credential::new(SERVICE, &name)
                    .and_then(ask)
                    .map_err(|error| why(&error)),
            };
            // Whoever asked may have given up.
            drop(sender.send(done));
        });
        let answer = answer.recv_timeout(WAIT_MAX).map_err(|error| match error {
            RecvTimeoutError::Timeout => format!(
                "it has not answered for {} s; is it locked, and waits for you? Try again",
                WAIT_MAX.as_secs()
            ),
            RecvTimeoutError::Disconnected => "its library failed".to_owned(),
        });
        answer.flatten().map_err(|why| fault(what, why))
    }

    /// There is no keyring.
    fn nobody(error: &Error) -> String {
        let has_bus = std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_some();
        let bus = match (cfg!(target_os = "linux"), has_bus) {
            (true, false) => " (DBUS_SESSION_BUS_ADDRESS is not set, so this is no desktop session)",
            (_, _) => "",
        };
        format!(
            "none answers{bus}: {error}. It needs a session with GNOME Keyring, KWallet, KeePassXC or the like; without \
             one choose a password"
        )
    }

    fn why(error: &Error) -> String {
        if matches!(error, Error::NoEntry) {
            return "it does not have the secret of this profile: that is in the keyring of another machine or account, or \
                    was removed. `socp login` or `socp key import` make another profile"
                .to_owned();
        }
        if matches!(error, Error::NoStorageAccess(_)) {
            return format!("it is locked, or has no place for secrets yet ({error}); open it and try again");
        }
        error.to_string()
    }
}

/// A program without them says so.
#[cfg(not(feature = "keyring"))]
mod platform {
    use super::{ClientError, Entry, fault};
    use socp_crypto::SecretBytes;

    pub(super) fn store(_entry: &Entry, _secret: &SecretBytes) -> Result<(), ClientError> {
        Err(fault("write to", without()))
    }

    pub(super) fn fetch(_entry: &Entry) -> Result<SecretBytes, ClientError> {
        Err(fault("read from", without()))
    }

    pub(super) fn forget(_entry: &Entry) -> Result<(), ClientError> {
        Err(fault("remove from", without()))
    }

    fn without() -> String {
        "this program was built without keyrings; build it with `--features keyring`, or choose a password".to_owned()
    }
}

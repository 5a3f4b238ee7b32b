//! What opens the private key: a password, or a file of random bytes where nobody types anything.

use crate::error::ClientError;
use socp_crypto::{Password, PrivateKey, SealedKey, SecretBytes, UnlockSecret};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

/// The file's name in the profile directory.
const FILE: &str = "unlock.key";

/// Seals a key; without a password, under a new secret that is stored first.
pub(super) fn seal(dir: &Path, key: &PrivateKey, password: Option<&Password>) -> Result<SealedKey, ClientError> {
    if let Some(password) = password.filter(|password| !password.is_empty()) {
        return Ok(SealedKey::seal(key, UnlockSecret::Password(password))?);
    }
    let secret = SecretBytes::random()?;
    write(&dir.join(FILE), secret.expose())?;
    Ok(SealedKey::seal(key, UnlockSecret::Secret(&secret))?)
}

pub(super) fn open(dir: &Path, sealed: &SealedKey, password: Option<&Password>) -> Result<PrivateKey, ClientError> {
    if sealed.needs_password() {
        let password = password.ok_or(ClientError::PasswordNeeded)?;
        return Ok(sealed.open(UnlockSecret::Password(password))?);
    }
    let path = dir.join(FILE);
    let bytes = fs::read(&path).map_err(|source| ClientError::File {
        what: "read",
        path,
        source,
    })?;
    Ok(sealed.open(UnlockSecret::Secret(&SecretBytes::new(bytes)))?)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ClientError> {
    // Left over from a program that stopped before it stored the identity: nothing is sealed with it.
    let fault = |source| ClientError::File {
        what: "write",
        path: path.to_owned(),
        source,
    };
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(fault(error)),
        Ok(()) | Err(_) => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(fault)?;
    file.write_all(bytes).map_err(fault)?;
    file.sync_all().map_err(fault)
}

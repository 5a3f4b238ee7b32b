//! The files of the server's key: sealed under a passphrase, or under random bytes in a file of their own.

use crate::data_dir::{data_error, lock};
use crate::error::ServerError;
use crate::store::Database;
use socp_crypto::{OpaqueSetup, Password, PrivateKey, SealedKey, SecretBytes, UnlockSecret};
use socp_proto::KeyText;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The key, sealed.
const KEY: &str = "server.key";

/// The key that is about to take its place (see `rotation`).
const NEXT: &str = "server.key.next";

/// The same for [`PASSWORDS`].
const NEXT_PASSWORDS: &str = "passwords.key.next";

/// What unseals it where no passphrase does.
const UNLOCK: &str = "server.unlock";

/// What passwords are checked with, sealed.
const PASSWORDS: &str = "passwords.key";

/// Whether the key in a data directory can be opened with a passphrase alone; false where there is no key yet.
///
/// # Errors
/// [`ServerError::Data`] or [`ServerError::Key`] where the file cannot be read.
pub fn needs_passphrase(dir: &Path) -> Result<bool, ServerError> {
    if !dir.join(KEY).exists() {
        return Ok(false);
    }
    Ok(read_sealed(&dir.join(KEY), dir)?.needs_password())
}

/// Seals the key of a server that is stopped anew: under `new`, or without one as at first.
///
/// # Errors
/// [`ServerError::DataInUse`] while a server runs; [`ServerError::Key`] for a wrong passphrase;
/// [`ServerError::Passphrase`] if one is needed and missing; [`ServerError::Data`].
pub fn change_passphrase(dir: &Path, old: Option<&Password>, new: Option<&Password>) -> Result<(), ServerError> {
    if !dir.join(KEY).exists() {
        let source = std::io::Error::new(ErrorKind::NotFound, "there is no server's key");
        return Err(data_error(&dir.join(KEY))(source));
    }
    let _lock = lock(dir)?;
    let path = dir.join("server.db");
    let identity = match path.exists() {
        true => Database::open(&path)?.read(&path)?.identity,
        false => None,
    };
    let key = match &identity {
        // A change of keys that was interrupted is finished first: what it left is sealed under what opens the key now.
        Some((_, named)) => load(dir, named, old)?,
        None => open(dir, &read_sealed(&dir.join(KEY), dir)?, old)?,
    };
    for stale in [NEXT, NEXT_PASSWORDS] {
        remove_if_there(&dir.join(stale))?;
    }
    seal(dir, &key, new)
}

fn remove_if_there(path: &Path) -> Result<(), ServerError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(data_error(path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Loads the server's key; makes one only where the database does not know of any.
pub(crate) fn load_or_make(
    dir: &Path,
    must_exist: bool,
    passphrase: Option<&Password>,
) -> Result<PrivateKey, ServerError> {
    if !dir.join(KEY).exists() && !must_exist {
        let key = PrivateKey::generate().map_err(key_error(dir))?;
        seal(dir, &key, passphrase)?;
        return Ok(key);
    }
    let sealed = read_sealed(&dir.join(KEY), dir)?;
    if passphrase.is_some() && !sealed.needs_password() {
        return Err(ServerError::Passphrase(format!(
            "a passphrase is given, but {} has none; give it one with `socp admin passphrase --data {}`, or leave the \
             passphrase out",
            dir.join(KEY).display(),
            dir.display()
        )));
    }
    open(dir, &sealed, passphrase)
}

/// Loads the secrets that accounts' passwords are checked with (PROTOCOL II.9), which whatever opens the server's key opens;
/// makes some only where no account has a password, since with others nobody would ever log in again.
pub(crate) fn load_or_make_passwords(
    dir: &Path,
    key: &PrivateKey,
    must_exist: bool,
) -> Result<OpaqueSetup, ServerError> {
    let path = dir.join(PASSWORDS);
    let fault = |source| ServerError::Key {
        path: path.clone(),
        source,
    };
    let secret = key.to_pkcs8_der().map_err(fault)?;
    if !path.exists() && !must_exist {
        let setup = OpaqueSetup::generate().map_err(fault)?;
        write_private(&path, setup.seal(&secret).map_err(fault)?.as_bytes())?;
        return Ok(setup);
    }
    let text = read_private(&path)?;
    OpaqueSetup::open(&String::from_utf8_lossy(&text), &secret).map_err(fault)
}

/// Loads the key that the database names, also where a change of keys was interrupted.
pub(crate) fn load(dir: &Path, named: &KeyText, passphrase: Option<&Password>) -> Result<PrivateKey, ServerError> {
    let is_named = |key: &PrivateKey| KeyText::from_der(key.public_key().spki_der()) == *named;
    let key = load_or_make(dir, true, passphrase)?;
    if is_named(&key) {
        return Ok(key);
    }
    let another = || {
        ServerError::Identity(format!(
            "server.key in {} is not the key of this database; restore both from the same backup",
            dir.display()
        ))
    };
    if !dir.join(NEXT).exists() {
        return Err(another());
    }
    let next = open(dir, &read_sealed(&dir.join(NEXT), dir)?, passphrase)?;
    if !is_named(&next) {
        return Err(another());
    }
    tracing::info!("a change of this server's key was interrupted; it is finished now");
    use_next(dir)?;
    Ok(next)
}

/// Writes a key beside the one that counts, and what is sealed under that under it.
pub(crate) fn write_next(
    dir: &Path,
    before: &PrivateKey,
    key: &PrivateKey,
    passphrase: Option<&Password>,
) -> Result<(), ServerError> {
    if dir.join(PASSWORDS).exists() {
        let setup = load_or_make_passwords(dir, before, true)?;
        let secret = key.to_pkcs8_der().map_err(key_error(dir))?;
        let text = setup.seal(&secret).map_err(key_error(dir))?;
        write_private(&dir.join(NEXT_PASSWORDS), text.as_bytes())?;
    }
    let text = match passphrase {
        Some(passphrase) => SealedKey::seal(key, UnlockSecret::Password(passphrase)),
        None => SealedKey::seal(key, UnlockSecret::Secret(&unlocking(dir)?)),
    };
    let text = text.and_then(|sealed| sealed.to_json()).map_err(key_error(dir))?;
    write_private(&dir.join(NEXT), text.as_bytes())
}

/// Whether a change of keys was interrupted.
pub(crate) fn is_change_unfinished(dir: &Path) -> bool {
    [NEXT, NEXT_PASSWORDS].iter().any(|name| dir.join(name).exists())
}

/// Puts it in the other's place; the key itself last, since it tells whether that is done.
pub(crate) fn use_next(dir: &Path) -> Result<(), ServerError> {
    for (next, name) in [(NEXT_PASSWORDS, PASSWORDS), (NEXT, KEY)] {
        let path = dir.join(next);
        if path.exists() {
            let moved = std::fs::rename(&path, dir.join(name)).and_then(|()| File::open(dir)?.sync_all());
            moved.map_err(data_error(&path))?;
        }
    }
    Ok(())
}

fn open(dir: &Path, sealed: &SealedKey, passphrase: Option<&Password>) -> Result<PrivateKey, ServerError> {
    if !sealed.needs_password() {
        let secret = SecretBytes::new(read_private(&dir.join(UNLOCK))?);
        return sealed.open(UnlockSecret::Secret(&secret)).map_err(key_error(dir));
    }
    let Some(passphrase) = passphrase else {
        return Err(ServerError::Passphrase(format!(
            "{} is protected by a passphrase; give it with --passphrase-file FILE (or SOCP_PASSPHRASE_FILE), or start at a \
             terminal, which asks for it",
            dir.join(KEY).display()
        )));
    };
    sealed.open(UnlockSecret::Password(passphrase)).map_err(key_error(dir))
}

/// At every moment the key on disk can be opened with what is on disk, or with the passphrase.
fn seal(dir: &Path, key: &PrivateKey, passphrase: Option<&Password>) -> Result<(), ServerError> {
    let Some(passphrase) = passphrase else {
        return seal_under_file(dir, key);
    };
    let sealed = SealedKey::seal(key, UnlockSecret::Password(passphrase)).map_err(key_error(dir))?;
    write_private(&dir.join(KEY), sealed.to_json().map_err(key_error(dir))?.as_bytes())?;
    remove_if_there(&dir.join(UNLOCK))
}

fn seal_under_file(dir: &Path, key: &PrivateKey) -> Result<(), ServerError> {
    let secret = unlocking(dir)?;
    let sealed = SealedKey::seal(key, UnlockSecret::Secret(&secret)).map_err(key_error(dir))?;
    write_private(&dir.join(KEY), sealed.to_json().map_err(key_error(dir))?.as_bytes())
}

/// The bytes that unseal the key; those that are there are kept, since the key may be sealed under them still.
fn unlocking(dir: &Path) -> Result<SecretBytes, ServerError> {
    let unlock = dir.join(UNLOCK);
    if unlock.exists() {
        return Ok(SecretBytes::new(read_private(&unlock)?));
    }
    let secret = SecretBytes::random().map_err(key_error(dir))?;
    write_private(&unlock, secret.expose())?;
    Ok(secret)
}

fn read_sealed(path: &Path, dir: &Path) -> Result<SealedKey, ServerError> {
    let text = read_private(path)?;
    SealedKey::from_json(&String::from_utf8_lossy(&text)).map_err(key_error(dir))
}

fn key_error(dir: &Path) -> impl FnOnce(socp_crypto::CryptoError) -> ServerError {
    let path = dir.join(KEY);
    move |source| {
        if source == socp_crypto::CryptoError::WrongPassword {
            return ServerError::WrongPassphrase { path };
        }
        ServerError::Key { path, source }
    }
}

/// Writes a file that only its owner may read, whole or not at all.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), ServerError> {
    let unfinished: PathBuf = path.with_extension("new");
    let write = || {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&unfinished, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(data_error(path))
}

/// Reads a file that only its owner should be able to read.
pub(crate) fn read_private(path: &Path) -> Result<Vec<u8>, ServerError> {
    let mut file = File::open(path).map_err(data_error(path))?;
    let mode = file.metadata().map_err(data_error(path))?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "others may read this file; chmod 600 it");
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(data_error(path))?;
    Ok(bytes)
}

//! Backups of a data directory: made while the server runs or is stopped, checked, and restored elsewhere.
//!
//! ```text
//! BACKUP/         0700
//!   backup.json        what this is: whose, when, and the length and SHA-256 of each file
//!   server.db          the database, in one piece
//!   server.key, server.unlock, passwords.key, tls.key, acme-account.json, acme-certificate.json, socp.toml
//!                      as far as they are there
//! ```
//!
//! A backup is made under another name and gets its own at the end: what has that is whole. It holds the server's secrets.

use crate::data_dir::{DATABASE, lock};
use crate::error::ServerError;
use crate::key_files;
use crate::store::{Database, Found};
use serde::{Deserialize, Serialize};
use socp_crypto::digest::Hasher;
use socp_proto::ServerId;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// What the backup is, as JSON.
const MANIFEST: &str = "backup.json";

/// What is copied beside the database, where it is there.
const FILES: [&str; 7] = [
    "server.key",
    "server.unlock",
    "passwords.key",
    "tls.key",
    "acme-account.json",
    "acme-certificate.json",
    "socp.toml",
];

/// The form of a manifest that this program makes and reads.
const VERSION: u32 = 1;

/// Longest manifest that is read.
const MANIFEST_BYTES_MAX: u64 = 64 * 1024;

/// Bytes that are copied or hashed at once.
const PORTION_BYTES: usize = 64 * 1024;

/// Why there is no backup, or none that can be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It cannot be put there.
    #[error("cannot write to {}: {reason}", path.display())]
    Target {
        /// Where.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// It is none, or damaged.
    #[error("the backup {} cannot be used: {reason}", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Something is missing in the data directory.
    #[error("no backup of {}: {reason}", path.display())]
    Incomplete {
        /// Which.
        path: PathBuf,
        /// What, and what that means.
        reason: String,
    },
    /// The data directory cannot be read.
    #[error(transparent)]
    Server(#[from] ServerError),
}

/// What a backup is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The form of this.
    pub v: u32,
    /// Whose it is.
    pub server_id: ServerId,
    /// Everything that was acknowledged before this is in it, ms since the Unix epoch.
    pub made_at: u64,
    /// The program that made it.
    pub program: String,
    /// Everything in it but this.
    pub files: Vec<Listed>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
}

impl Manifest {
    /// The length of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).fold(0, u64::saturating_add)
    }
}

/// What was found in a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What it says of itself.
    pub manifest: Manifest,
    /// How many users have their home there.
    pub users: usize,
    /// How many servers are pinned.
    pub pins: usize,
    /// Whether the key was opened; not without its passphrase.
    pub is_key_tried: bool,
}

/// Makes a backup of a server that is stopped.
///
/// # Errors
/// [`BackupError`]; [`ServerError::DataInUse`] in it while a server runs.
pub fn back_up_stopped(data: &Path, to: &Path) -> Result<Manifest, BackupError> {
    let path = data.join(DATABASE);
    if !path.exists() {
        let none = format!("there is no server in {}", data.display());
        return Err(ServerError::Identity(none).into());
    }
    let _lock = lock(data)?;
    if key_files::is_change_unfinished(data) {
        let why = "a change of this server's key was interrupted; start the server once, which finishes it, and back it up then";
        return Err(ServerError::Identity(why.to_owned()).into());
    }
    let unfinished = Unfinished::begin(data, to)?;
    // As it is: whoever makes a backup before an upgrade wants the database of the program before.
    let database = Database::open_as_it_is(&path)?;
    let Some((server_id, _)) = database.look(&path)?.identity else {
        let none = format!("there is no server in {}", data.display());
        return Err(ServerError::Identity(none).into());
    };
    let made_at = database.copy(&path, &unfinished.database())?;
    unfinished.finish(data, server_id, made_at)
}

/// A directory under a name of its own until it is whole; gone if it never is.
#[derive(Debug)]
pub(crate) struct Unfinished {
    path: PathBuf,
    to: PathBuf,
    is_whole: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_whole
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "an unfinished copy could not be removed");
        }
    }
}

impl Unfinished {
    /// Begins something that will be at `to`, where nothing is yet, and not inside of `data`.
    pub(crate) fn begin(data: &Path, to: &Path) -> Result<Self, BackupError> {
        let failed = |reason: String| {
            let path = to.to_owned();
            BackupError::Target { path, reason }
        };
        let data = data.canonicalize().map_err(|error| failed(error.to_string()))?;
        let parent = to.parent().unwrap_or(Path::new("/")).canonicalize();
        let parent = parent.map_err(|error| failed(format!("{error}; make the directory that it shall be in")))?;
        if parent.starts_with(&data) {
            return Err(failed(
                "it is inside of the data directory, with which it would be lost; name another place".to_owned(),
            ));
        }
        Self::begin_at(to)
    }

    fn begin_at(to: &Path) -> Result<Self, BackupError> {
        let failed = |reason: String| {
            let path = to.to_owned();
            BackupError::Target { path, reason }
        };
        let Some(name) = to.file_name() else {
            return Err(failed("it has no name".to_owned()));
        };
        // An empty directory may be another user's, or a mount, and a link leads elsewhere: none can be replaced.
        match std::fs::symlink_metadata(to) {
            Ok(_) => {
                let why = "something is there already; name a directory that is new";
                return Err(failed(why.to_owned()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error.to_string())),
        }
        let mut unfinished = name.to_owned();
        unfinished.push(".unfinished");
        let path = to.with_file_name(unfinished);
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Self {
                path,
                to: to.to_owned(),
                is_whole: false,
            }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(failed(format!(
                "{} is being made, or was left by one that was interrupted; remove it then",
                path.display()
            ))),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// Where the copy of the database belongs.
    pub(crate) fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    /// Adds the other files, says what all of this is, has it on disk and gives it its name.
    pub(crate) fn finish(self, data: &Path, server_id: ServerId, made_at: u64) -> Result<Manifest, BackupError> {
        let database = self.database();
        let mut files = vec![sealed(&database, DATABASE).map_err(self.failed())?];
        for name in FILES {
            match copy(&data.join(name), &self.path.join(name), name) {
                Ok(listed) => files.push(listed),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(self.failed()(error)),
            }
        }
        // What nobody could start again is no backup.
        let found = Database::check(&database)?;
        missing(&files, &found).map_err(|reason| {
            let path = data.to_owned();
            BackupError::Incomplete { path, reason }
        })?;
        let manifest = Manifest {
            v: VERSION,
            server_id,
            made_at,
            program: format!("socp {}", env!("CARGO_PKG_VERSION")),
            files,
        };
        let text = serde_json::to_vec_pretty(&manifest).map_err(|error| self.failed()(error.into()))?;
        key_files::write_private(&self.path.join(MANIFEST), &text)?;
        self.keep()?;
        Ok(manifest)
    }

    fn keep(mut self) -> Result<(), BackupError> {
        let keep = || {
            File::open(&self.path)?.sync_all()?;
            std::fs::rename(&self.path, &self.to)
        };
        keep().map_err(self.failed())?;
        self.is_whole = true; // Nothing is left under the other name.
        let parent = File::open(self.to.parent().unwrap_or(Path::new("/")));
        parent.and_then(|parent| parent.sync_all()).map_err(self.failed())
    }

    fn failed(&self) -> impl FnOnce(io::Error) -> BackupError + use<> {
        let path = self.to.clone();
        move |error| {
            let reason = error.to_string();
            BackupError::Target { path, reason }
        }
    }
}

/// Which file is not there that a server cannot do without.
fn missing(files: &[Listed], found: &Found) -> Result<(), String> {
    let has = |name: &str| files.iter().any(|listed| listed.name == name);
    match (has("server.key"), has("passwords.key") || found.passwords == 0) {
        (true, true) => Ok(()),
        (false, _) => Err("server.key is missing: nobody could start it".to_owned()),
        (_, false) => Err(format!(
            "passwords.key is missing, without which {} accounts with a password could never log in",
            found.passwords
        )),
    }
}

/// What a file of ours is, once it is on disk and its owner's alone.
fn sealed(path: &Path, name: &str) -> io::Result<Listed> {
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(path, private)?;
    let listed = hashed(path, name, |_| Ok(()))?;
    File::open(path)?.sync_all()?;
    Ok(listed)
}

fn copy(from: &Path, to: &Path, name: &str) -> io::Result<Listed> {
    std::fs::symlink_metadata(from)?; // Before anything is made.
    let mut options = OpenOptions::new();
    let mut target = options.create_new(true).write(true).mode(0o600).open(to)?;
    let listed = hashed(from, name, |portion| target.write_all(portion))?;
    target.sync_all()?;
    Ok(listed)
}

/// What a file is, given away portion by portion on the way.
fn hashed(path: &Path, name: &str, mut give: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<Listed> {
    let mut file = File::open(path)?;
    let (mut hasher, mut bytes, mut portion) = (Hasher::new(), 0_u64, vec![0; PORTION_BYTES]);
    loop {
        let count = file.read(&mut portion)?;
        let Some(read) = portion.get(..count).filter(|read| !read.is_empty()) else {
            break;
        };
        hasher.update(read);
        give(read)?;
        bytes = bytes.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
    }
    Ok(Listed {
        name: name.to_owned(),
        bytes,
        sha256: hasher.finish_hex(),
    })
}

/// Looks whether a backup is whole: each file as it was written, the database consistent and readable, the key the
/// database's own where no passphrase protects it. Nothing is written.
///
/// # Errors
/// [`BackupError::Damaged`] says what is wrong with it.
pub fn verify(backup: &Path) -> Result<Checked, BackupError> {
    let damaged = |reason: String| BackupError::Damaged {
        path: backup.to_owned(),
        reason,
    };
    let manifest = read_manifest(backup).map_err(damaged)?;
    // Else opening the key would put that in its place.
    if key_files::is_change_unfinished(backup) {
        return Err(damaged("there is a key in it that no backup of ours has".to_owned()));
    }
    for listed in &manifest.files {
        let found = hashed(&backup.join(&listed.name), &listed.name, |_| Ok(()));
        let found = found.map_err(|error| damaged(format!("{}: {error}", listed.name)))?;
        if found != *listed {
            return Err(damaged(format!(
                "{} is not as it was written: {} bytes instead of {}, or others",
                listed.name, found.bytes, listed.bytes
            )));
        }
    }
    let path = backup.join(DATABASE);
    let found = Database::check(&path).map_err(|error| damaged(error.to_string()))?;
    let Some((server_id, key)) = &found.identity else {
        return Err(damaged("its database belongs to no server".to_owned()));
    };
    if *server_id != manifest.server_id {
        return Err(damaged(format!(
            "its database is that of {server_id}, not of {}",
            manifest.server_id
        )));
    }
    let is_key_tried = !key_files::needs_passphrase(backup).map_err(|error| damaged(error.to_string()))?;
    missing(&manifest.files, &found).map_err(damaged)?;
    if is_key_tried {
        let key = key_files::load(backup, key, None).map_err(|error| damaged(error.to_string()))?;
        if found.passwords > 0 {
            key_files::load_or_make_passwords(backup, &key, true).map_err(|error| damaged(error.to_string()))?;
        }
    }
    Ok(Checked {
        users: found.users,
        pins: found.pins,
        is_key_tried,
        manifest,
    })
}

fn read_manifest(backup: &Path) -> Result<Manifest, String> {
    let path = backup.join(MANIFEST);
    let file = File::open(&path).map_err(|error| format!("{MANIFEST}: {error}; is this a backup of `socp backup`?"))?;
    let mut text = Vec::new();
    let read = file.take(MANIFEST_BYTES_MAX).read_to_end(&mut text);
    read.map_err(|error| format!("{MANIFEST}: {error}"))?;
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| format!("{MANIFEST}: {error}"))?;
    if manifest.v != VERSION {
        return Err(format!(
            "it has the form {}, but this program knows only {VERSION}; use the one that made it ({})",
            manifest.v, manifest.program
        ));
    }
    let is_known = |listed: &Listed| listed.name == DATABASE || FILES.contains(&listed.name.as_str());
    if let Some(other) = manifest.files.iter().find(|listed| !is_known(listed)) {
        return Err(format!(
            "{MANIFEST} names {:?}, which is no file of a backup",
            other.name
        ));
    }
    if !manifest.files.iter().any(|listed| listed.name == DATABASE) {
        return Err(format!("{MANIFEST} does not name {DATABASE}"));
    }
    Ok(manifest)
}

/// Makes a data directory of a backup that is whole.
///
/// # Errors
/// [`BackupError::Damaged`], with nothing written; [`BackupError::Target`].
pub fn restore(backup: &Path, data: &Path) -> Result<Checked, BackupError> {
    let checked = verify(backup)?;
    let unfinished = Unfinished::begin_at(data)?;
    for listed in &checked.manifest.files {
        let (from, to) = (backup.join(&listed.name), unfinished.path.join(&listed.name));
        let copied = copy(&from, &to, &listed.name).map_err(unfinished.failed())?;
        if copied != *listed {
            let reason = format!("{} changed while it was read", listed.name);
            let path = backup.to_owned();
            return Err(BackupError::Damaged { path, reason });
        }
    }
    unfinished.keep()?;
    Ok(checked)
}

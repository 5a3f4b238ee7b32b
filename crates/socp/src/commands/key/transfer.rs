//! An identity in one encrypted file: out of a profile, and into another.

use crate::cli::Common;
use crate::commands::register::protection;
use crate::{out, password};
use color_eyre::eyre::{Result, WrapErr as _, bail, eyre};
use serde_json::json;
use socp_client::{ClientError, Profile};
use socp_crypto::{FullIdentity, IDENTITY_FILE_BYTES_MAX, SealedIdentity};
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::Path;

/// Writes the profile's identity into a new file.
pub(super) fn export(file: &Path, common: &Common) -> Result<()> {
    let profile = Profile::open(&common.profile_dir()?)?;
    if file.try_exists().wrap_err_with(|| cannot("look for", file))? {
        bail!(
            "{} exists already; an export never replaces a file, so choose another name",
            file.display()
        );
    }
    let unlocking = password::for_unlocking(common, &profile)?;
    let identity = profile.full_identity(unlocking.as_ref())?;
    let password = password::for_export(common)?;
    let sealed = SealedIdentity::seal(&identity.to_text()?, &password)?;
    write_new(file, &sealed.to_json()?)?;
    tell(
        &identity,
        common.json,
        &format!("written to {}; whoever has it and its password is you", file.display()),
    )
}

/// Makes a profile of the identity in a file.
pub(super) fn import(file: &Path, no_password: bool, keyring: bool, common: &Common) -> Result<()> {
    let dir = common.profile_dir()?;
    refuse_second(&dir)?;
    let text = read(file)?;
    let sealed = SealedIdentity::from_json(&text).wrap_err_with(|| cannot("import", file))?;
    let opening = password::of_export(common)?;
    let text = sealed.open(&opening).wrap_err_with(|| cannot("open", file))?;
    let identity = FullIdentity::from_text(&text).wrap_err_with(|| cannot("import", file))?;
    let password = if no_password || keyring {
        None
    } else {
        password::for_new_key(common)?
    };
    let profile = Profile::import(&dir, identity.clone(), protection(keyring, password.as_ref()))?;
    let place = profile.dir().display().to_string();
    tell(&identity, common.json, &format!("{place} now holds this identity"))
}

/// Before anybody types a password.
pub(crate) fn refuse_second(dir: &Path) -> Result<()> {
    match Profile::open(dir) {
        Ok(profile) => {
            let user = profile.identity().user_id.clone();
            let dir = dir.to_owned();
            Err(ClientError::AlreadyRegistered { dir, user }.into())
        }
        Err(ClientError::NoIdentity { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn tell(identity: &FullIdentity, json: bool, text: &str) -> Result<()> {
    if json {
        let fingerprint = identity.keys.public_pair().pubkey.fingerprint().to_string();
        let object = json!({ "user_id": identity.user_id.as_str(), "fingerprint": fingerprint });
        return Ok(out::json(&object)?);
    }
    out::line(identity.user_id.as_str())?;
    out::note(&format!("socp: {text}"));
    Ok(())
}

fn cannot(what: &str, file: &Path) -> String {
    format!("cannot {what} {}", file.display())
}

/// For its owner only, and never in the place of another file.
fn write_new(path: &Path, text: &str) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).wrap_err_with(|| cannot("make", path))?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // Half of an export is of no use to anybody.
        fs::remove_file(path).wrap_err_with(|| cannot("remove the unfinished", path))?;
        return Err(eyre!(error).wrap_err(cannot("write", path)));
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    let file = File::open(path).wrap_err_with(|| cannot("read", path))?;
    let max = u64::try_from(IDENTITY_FILE_BYTES_MAX)?;
    let mut bytes = Vec::new();
    let read = file.take(max.saturating_add(1)).read_to_end(&mut bytes);
    read.wrap_err_with(|| cannot("read", path))?;
    let not_one = |what: &str| eyre!("{} is not an exported identity: {what}", path.display());
    if let Some(what) = foreign(&bytes) {
        return Err(not_one(what));
    }
    if bytes.len() > IDENTITY_FILE_BYTES_MAX {
        return Err(not_one("it is too large"));
    }
    String::from_utf8(bytes).map_err(|_| not_one("it does not hold text"))
}

/// What else people take for one.
fn foreign(bytes: &[u8]) -> Option<&'static str> {
    let table: [(&[u8], &str); 5] = [
        (
            b"SQLite format 3\0",
            "it is a database, of a profile perhaps; import needs what `socp key export` wrote",
        ),
        (b"-----BEGIN", "it is a key or certificate in PEM"),
        (b"\x30\x82", "it is a key or certificate in DER"),
        (b"ssh-", "it is a key for SSH"),
        (b"PK\x03\x04", "it is a ZIP archive"),
    ];
    let known = table.into_iter().find(|(start, _)| bytes.starts_with(start));
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    match (known, first) {
        (Some((_, what)), _) => Some(what),
        (None, None) => Some("it is empty"),
        (None, Some(b'{')) => None,
        (None, Some(_)) => Some("it does not begin as one"),
    }
}

//! The passphrase of a server's key: from the first line of a file, or a terminal.

use crate::password::{prompt, without_line_end};
use color_eyre::eyre::{Result, WrapErr as _, bail};
use socp_crypto::Password;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Read as _};
use std::path::Path;

/// Longest passphrase that a file may hold, with the end of its line.
const LINE_BYTES_MAX: u64 = 4096;

/// The passphrase that opens a server's key, if it has one and somebody is there to ask.
pub(crate) fn of_server(data: &Path) -> Result<Option<Password>> {
    if !io::stdin().is_terminal() || !socp_server::needs_passphrase(data)? {
        return Ok(None);
    }
    prompt("Passphrase of the server's key: ").map(Some)
}

/// A new passphrase for a server's key, from a terminal.
pub(crate) fn new_of_server() -> Result<Password> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        bail!("without a terminal nobody can be asked; give the new passphrase with --new-passphrase-file FILE");
    }
    let password = prompt("New passphrase: ")?;
    if password.is_empty() {
        bail!("an empty passphrase protects nothing; nothing was changed (--remove takes the passphrase away)");
    }
    if prompt("The same again: ")? != password {
        bail!("the two passphrases differ; nothing was changed");
    }
    Ok(password)
}

/// The first line of a file.
pub(crate) fn from_file(path: &Path) -> Result<Password> {
    let read = || -> io::Result<String> {
        let mut line = String::new();
        BufReader::new(File::open(path)?.take(LINE_BYTES_MAX)).read_line(&mut line)?;
        Ok(line)
    };
    let line = read().wrap_err_with(|| format!("cannot read the passphrase file {}", path.display()))?;
    let password = without_line_end(line);
    if password.is_empty() {
        bail!("the first line of the passphrase file {} is empty", path.display());
    }
    Ok(password)
}

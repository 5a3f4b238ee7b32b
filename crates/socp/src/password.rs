//! Where the key's password comes from: the first line of standard input if asked for, else a terminal.

use color_eyre::eyre::{Result, WrapErr as _, bail};
use socp_client::Profile;
use socp_crypto::Password;
use std::io::{self, BufRead as _, IsTerminal as _};

use crate::cli::Common;

/// The password of an existing key, if it has one.
pub(crate) fn for_unlocking(common: &Common, profile: &Profile) -> Result<Option<Password>> {
    // The line is taken even if the key needs none: what follows it is the command's.
    if common.password_stdin {
        return first_line().map(Some);
    }
    if profile.needs_password() && io::stdin().is_terminal() {
        return prompt("Password: ").map(Some);
    }
    Ok(None)
}

/// A password for a new key, if one is wanted.
pub(crate) fn for_new_key(common: &Common) -> Result<Option<Password>> {
    if common.password_stdin {
        return first_line().map(Some);
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(None);
    }
    let password = prompt("New password (empty for none): ")?;
    if !password.is_empty() && prompt("The same again: ")? != password {
        bail!("the two passwords differ; nothing was made");
    }
    Ok(Some(password))
}

fn prompt(text: &str) -> Result<Password> {
    let typed = rpassword::prompt_password(text).wrap_err("cannot read the password from the terminal")?;
    Ok(Password::new(typed))
}

fn first_line() -> Result<Password> {
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .wrap_err("cannot read the password from standard input")?;
    while line.ends_with(['\n', '\r']) {
        line.pop();
    }
    Ok(Password::new(line))
}

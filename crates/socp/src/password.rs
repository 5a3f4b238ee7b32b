//! Where passwords come from: the next line of standard input if asked for, else a terminal.

use color_eyre::eyre::{Result, WrapErr as _, bail};
use socp_client::Profile;
use socp_crypto::Password;
use std::io::{self, BufRead as _, IsTerminal as _};

use crate::cli::Common;

/// The password of an existing key, if it has one.
pub(crate) fn for_unlocking(common: &Common, profile: &Profile) -> Result<Option<Password>> {
    // The line is taken even if the key needs none: what follows it is the command's.
    if common.password_stdin {
        return next_line().map(Some);
    }
    if profile.needs_password() && io::stdin().is_terminal() {
        return prompt("Password: ").map(Some);
    }
    Ok(None)
}

/// A password for a new key, if one is wanted.
pub(crate) fn for_new_key(common: &Common) -> Result<Option<Password>> {
    if common.password_stdin {
        return next_line().map(Some);
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

/// The password of an account at a server.
pub(crate) fn for_login(common: &Common) -> Result<Password> {
    let password = if common.password_stdin {
        next_line()?
    } else if io::stdin().is_terminal() {
        prompt("Password: ")?
    } else {
        bail!("a login needs a password: type it on a terminal, or give it with --password-stdin")
    };
    if password.is_empty() {
        bail!("a login needs a password; the one given is empty");
    }
    Ok(password)
}

/// The password that is to be changed, if there is one.
pub(crate) fn present(common: &Common, profile: &Profile) -> Result<Option<Password>> {
    if !profile.needs_password() {
        return Ok(None);
    }
    for_unlocking(common, profile)
}

/// The password that takes its place.
pub(crate) fn new(common: &Common) -> Result<Password> {
    let password = if common.password_stdin {
        next_line()?
    } else if io::stdin().is_terminal() {
        let password = prompt("New password: ")?;
        if prompt("The same again: ")? != password {
            bail!("the two passwords differ; nothing was changed");
        }
        password
    } else {
        bail!("type the new password on a terminal, or give it with --password-stdin")
    };
    if password.is_empty() {
        bail!("the new password is empty; nothing was changed");
    }
    Ok(password)
}

/// The password of a file that an identity is exported into; it must have one.
pub(crate) fn for_export(common: &Common) -> Result<Password> {
    let password = if common.password_stdin {
        next_line()?
    } else if io::stdin().is_terminal() {
        let password = prompt("Password for the file: ")?;
        if prompt("The same again: ")? != password {
            bail!("the two passwords differ; nothing was written");
        }
        password
    } else {
        bail!(
            "an exported identity needs a password: type it on a terminal, or give --password-stdin two lines, the \
               profile's password (an empty line if it has none) and the file's"
        )
    };
    if password.is_empty() {
        bail!("an exported identity needs a password; nothing was written");
    }
    Ok(password)
}

/// The password of a file that an identity was exported into.
pub(crate) fn of_export(common: &Common) -> Result<Password> {
    if common.password_stdin {
        return next_line();
    }
    if io::stdin().is_terminal() {
        return prompt("Password of the file: ");
    }
    bail!(
        "an exported identity has a password: type it on a terminal, or give --password-stdin two lines, the file's \
           password and the new profile's (none: no password)"
    )
}

pub(crate) fn prompt(text: &str) -> Result<Password> {
    let typed = rpassword::prompt_password(text).wrap_err("cannot read the password from the terminal")?;
    Ok(Password::new(typed))
}

fn next_line() -> Result<Password> {
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .wrap_err("cannot read the password from standard input")?;
    Ok(without_line_end(line))
}

pub(crate) fn without_line_end(mut line: String) -> Password {
    while line.ends_with(['\n', '\r']) {
        line.pop();
    }
    Password::new(line)
}

//! `socp admin`: what an operator asks a running server, over the socket in its data directory.

mod table;

use crate::cli::Common;
use crate::safe_text::safe;
use crate::{out, passphrase};
use clap::{Args, Subcommand};
use color_eyre::eyre::{Context as _, Result, bail, eyre};
use socp_server::admin::{self, AdminError, Ask, LinkRow, PinRow, Row, StatusRow, UserRow};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use table::{ago, table};

/// Characters that a prefix of a server's id has at least.
const PREFIX_CHARS_MIN: usize = 4;

/// Ask a running server how it is, or have it forget a key
#[derive(Debug, Args)]
#[command(after_help = "Example:
  socp admin status --data ./srv-a
  socp admin links --data ./srv-a --json
  socp admin unpin 3f0a --data ./srv-a")]
pub(crate) struct AdminArgs {
    #[command(subcommand)]
    command: AdminCommand,
}

#[derive(Debug, Subcommand)]
enum AdminCommand {
    /// The server in numbers
    #[command(after_help = "Example:\n  socp admin status --data ./srv-a --json | jq .peers")]
    Status(Where),
    /// Every connection: whose it is, how old, what went over it, what waits
    #[command(after_help = "Example:\n  socp admin links --data ./srv-a")]
    Links(Where),
    /// Every user who is online, here or elsewhere
    #[command(after_help = "Example:\n  socp admin users --data ./srv-a --json | jq -r .user_id")]
    Users(Where),
    /// Every server whose key is pinned; also of a server that is stopped
    #[command(after_help = "Example:\n  socp admin pins --data ./srv-a")]
    Pins(Where),
    /// Forget the key of a server that has another one now, or is gone for good; also of a server that is stopped
    #[command(after_help = "Example:\n  socp admin unpin 3f0a --data ./srv-a")]
    Unpin(UnpinArgs),
    /// Protect the key of a server that is stopped with a passphrase, change it, or take it away
    #[command(after_help = "Example:
  socp admin passphrase --data ./srv-a
  socp serve --data ./srv-a --passphrase-file /run/credentials/socp/passphrase")]
    Passphrase(PassphraseArgs),
    /// Give a server that is stopped a new key, which the one before announces: whoever knows that follows by itself
    #[command(after_help = "Example:
  socp admin rotate-key --data ./srv-a")]
    RotateKey(RotateArgs),
}

#[derive(Debug, Args)]
struct Where {
    /// The directory that the server was started with
    #[arg(long, value_name = "DIR", env = "SOCP_DATA")]
    data: PathBuf,
}

#[derive(Debug, Args)]
struct UnpinArgs {
    /// The server's id, or the beginning of it that no other has
    #[arg(value_name = "SERVER")]
    which: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    place: Where,
}

#[derive(Debug, Args)]
struct PassphraseArgs {
    /// A file whose first line is the passphrase that the key has now; else a terminal is asked
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// A file whose first line is the new passphrase; else a terminal is asked
    #[arg(long, value_name = "FILE", conflicts_with = "remove")]
    new_passphrase_file: Option<PathBuf>,
    /// Take the passphrase away: whoever can read the directory then has the key
    #[arg(long)]
    remove: bool,
    #[command(flatten)]
    place: Where,
}

#[derive(Debug, Args)]
struct RotateArgs {
    /// A file whose first line is the passphrase of the key, which the new one gets too; else a terminal is asked
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    place: Where,
}

/// Runs the command.
pub(crate) async fn run(args: AdminArgs, common: &Common) -> Result<()> {
    let json = common.json;
    // Asking blocks, for some seconds at most.
    tokio::task::spawn_blocking(move || perform(args.command, json)).await?
}

fn perform(command: AdminCommand, json: bool) -> Result<()> {
    let (ask, place) = match command {
        AdminCommand::Status(place) => (Ask::Status, place),
        AdminCommand::Links(place) => (Ask::Links, place),
        AdminCommand::Users(place) => (Ask::Users, place),
        AdminCommand::Pins(place) => {
            let (pins, _) = pins(&place.data)?;
            return show(
                &pins.into_iter().map(Row::Pin).collect::<Vec<_>>(),
                "no server is pinned",
                json,
            );
        }
        AdminCommand::Unpin(args) => return unpin(&args, json),
        AdminCommand::Passphrase(args) => return change_passphrase(&args, json),
        AdminCommand::RotateKey(args) => return rotate_key(&args, json),
    };
    let rows = admin::ask(&place.data, &ask)?;
    let none = match ask {
        Ask::Users => "nobody is online",
        Ask::Status | Ask::Links | Ask::Pins | Ask::Unpin { .. } | Ask::Backup { .. } => "nobody is connected",
    };
    show(&rows, none, json)
}

fn change_passphrase(args: &PassphraseArgs, json: bool) -> Result<()> {
    let data = &args.place.data;
    let old = match &args.passphrase_file {
        Some(file) => Some(passphrase::from_file(file)?),
        None => passphrase::of_server(data)?,
    };
    let new = match &args.new_passphrase_file {
        _ if args.remove => None,
        Some(file) => Some(passphrase::from_file(file)?),
        None => Some(passphrase::new_of_server()?),
    };
    socp_server::change_passphrase(data, old.as_ref(), new.as_ref())?;
    if json {
        return Ok(out::json(&serde_json::json!({ "has_passphrase": new.is_some() }))?);
    }
    Ok(out::line(match new {
        Some(_) => "the server's key opens with the new passphrase alone; without it the server does not start",
        None => "the server's key opens without a passphrase",
    })?)
}

fn rotate_key(args: &RotateArgs, json: bool) -> Result<()> {
    let data = &args.place.data;
    if !args.yes {
        let what = "This server gets a new key, and the one before is good for nothing any more. Programs of ours follow; \
                    servers and clients of others have to be told.";
        confirm(
            what,
            "without a terminal nobody can be asked; say --yes to change the key",
        )?;
    }
    let passphrase = match &args.passphrase_file {
        Some(file) => Some(passphrase::from_file(file)?),
        None => passphrase::of_server(data)?,
    };
    let rotated = socp_server::rotate_key(data, passphrase.as_ref())?;
    if json {
        return Ok(out::json(&serde_json::json!({
            "server_id": rotated.server_id.as_str(),
            "before": rotated.before.to_string(),
            "fingerprint": rotated.after.to_string(),
            "users": rotated.users,
        }))?);
    }
    Ok(out::line(&format!(
        "{} has the key {} from now on; {} users' records were signed anew. Start the server again, put the new key into \
         bootstrap lists that name the old one, and back up the directory",
        safe(rotated.server_id.as_str()),
        rotated.after,
        rotated.users
    ))?)
}

/// Whether a server runs on the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Stopped,
}

/// The pins, of a server that runs or is stopped.
fn pins(data: &Path) -> Result<(Vec<PinRow>, State)> {
    match admin::ask(data, &Ask::Pins) {
        Ok(rows) => Ok((rows.into_iter().filter_map(as_pin).collect(), State::Running)),
        Err(AdminError::NotRunning { .. }) => Ok((admin::pins_of_stopped(data)?, State::Stopped)),
        Err(error) => Err(error.into()),
    }
}

fn as_pin(row: Row) -> Option<PinRow> {
    match row {
        Row::Pin(pin) => Some(pin),
        Row::Status(_) | Row::Link(_) | Row::User(_) | Row::Backup(_) => None,
    }
}

fn unpin(args: &UnpinArgs, json: bool) -> Result<()> {
    let data = &args.place.data;
    let (pins, state) = pins(data)?;
    let pin = find(&pins, &args.which)?;
    if !args.yes {
        let what = format!(
            "Forget the key of {}\n  {}\nWhoever comes next under that id is then trusted with any key.",
            named(pin),
            safe(&pin.fingerprint)
        );
        let cannot = format!(
            "without a terminal nobody can be asked; say --yes to forget the key of {}",
            named(pin)
        );
        confirm(&what, &cannot)?;
    }
    let server = pin.server_id.clone();
    let removed = match state {
        State::Running => admin::ask(data, &Ask::Unpin { server })?.into_iter().find_map(as_pin),
        State::Stopped => Some(admin::unpin_of_stopped(data, &server)?),
    };
    let removed = removed.ok_or_else(|| eyre!("the server did not say what it removed"))?;
    if json {
        out::json(&serde_json::to_value(&removed)?)?;
    } else {
        out::line(&format!(
            "unpinned {}: its next key is trusted on first sight",
            named(&removed)
        ))?;
    }
    Ok(())
}

/// The one pin whose id is this, or begins with it.
fn find<'a>(pins: &'a [PinRow], which: &str) -> Result<&'a PinRow> {
    if let Some(pin) = pins.iter().find(|pin| pin.server_id == which) {
        return Ok(pin);
    }
    let see = "see them with `socp admin pins`";
    if which.chars().count() < PREFIX_CHARS_MIN {
        bail!("no server {which:?} is pinned, and the beginning of an id needs {PREFIX_CHARS_MIN} characters; {see}");
    }
    let found: Vec<_> = pins.iter().filter(|pin| pin.server_id.starts_with(which)).collect();
    match found.as_slice() {
        [pin] => Ok(pin),
        [] => bail!("no pinned server's id is or begins with {which:?}; {see}"),
        several => {
            let ids: Vec<&str> = several.iter().map(|pin| pin.server_id.as_str()).collect();
            bail!("{which:?} could be any of {}; give more of the id", ids.join(", "))
        }
    }
}

fn confirm(what: &str, cannot: &str) -> Result<()> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        bail!("{cannot}");
    }
    let mut stderr = io::stderr().lock();
    write!(stderr, "{what} Type yes to go on: ")
        .and_then(|()| stderr.flush())
        .wrap_err("cannot write to the terminal")?;
    drop(stderr);
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).wrap_err("cannot read your answer")?;
    if answer.trim() != "yes" {
        bail!("nothing was changed");
    }
    Ok(())
}

fn named(pin: &PinRow) -> String {
    match &pin.name {
        Some(name) => safe(&format!("{name} ({})", pin.server_id)),
        None => safe(&pin.server_id),
    }
}

fn show(rows: &[Row], none: &str, json: bool) -> Result<()> {
    if json {
        for row in rows {
            out::json(&serde_json::to_value(row)?)?;
        }
        return Ok(());
    }
    if rows.is_empty() {
        return Ok(out::line(none)?);
    }
    if let [Row::Status(status)] = rows {
        return Ok(out::raw(&status_text(status))?);
    }
    let head: &[&str] = match rows.first() {
        Some(Row::Link(_)) => &LINK_HEAD,
        Some(Row::User(_)) => &USER_HEAD,
        Some(Row::Pin(_)) => &PIN_HEAD,
        Some(Row::Status(_) | Row::Backup(_)) | None => &[],
    };
    let cells = rows.iter().map(|row| match row {
        Row::Link(link) => link_cells(link),
        Row::User(user) => user_cells(user),
        Row::Pin(pin) => pin_cells(pin),
        Row::Status(_) | Row::Backup(_) => Vec::new(),
    });
    Ok(out::raw(&table(head, cells.collect()))?)
}

fn status_text(status: &StatusRow) -> String {
    let name = status.name.as_deref().unwrap_or("");
    let rows = [
        ("server", format!("{} {name}", status.server_id).trim_end().to_owned()),
        ("key", status.fingerprint.clone()),
        ("version", status.version.clone()),
        ("listens on", status.listen.clone()),
        ("up for", ago(status.uptime_s.saturating_mul(1000))),
        ("servers", format!("{} linked, {} pinned", status.peers, status.pins)),
        (
            "users",
            format!(
                "{} here, {} elsewhere, {} at lost servers; {} have their home here{}",
                status.local_users,
                status.remote_users,
                status.stale_users,
                status.home_users,
                if status.takes_users {
                    ""
                } else {
                    "; takes none (--no-users)"
                },
            ),
        ),
        ("connections", status.links.to_string()),
        ("channel", format!("version {}", status.channel_version)),
        (
            "queues",
            format!("{} inputs, {} key operations", status.hub_queue, status.pool_queue),
        ),
        (
            "store",
            match &status.store_failure {
                None => "works".to_owned(),
                Some(reason) => format!("FAILS: {reason}"),
            },
        ),
    ];
    rows.iter()
        .map(|(what, is)| format!("{what:<12} {}\n", safe(is)))
        .collect()
}

const LINK_HEAD: [&str; 9] = ["LINK", "ROLE", "WHO", "MADE BY", "AGE", "SILENT", "IN", "OUT", "QUEUED"];

fn link_cells(link: &LinkRow) -> Vec<String> {
    vec![
        link.link.to_string(),
        link.role.clone(),
        link.who.clone().unwrap_or_else(|| "-".to_owned()),
        if link.dialled { "us" } else { "them" }.to_owned(),
        ago(link.age_ms),
        link.silent_ms.map_or_else(|| "-".to_owned(), ago),
        link.frames_in.to_string(),
        link.frames_out.to_string(),
        format!("{} ({} bytes)", link.queued_frames, link.queued_bytes),
    ]
}

const USER_HEAD: [&str; 5] = ["USER", "NAME", "PLACE", "SERVER", "SESSIONS"];

fn user_cells(user: &UserRow) -> Vec<String> {
    vec![
        user.user_id.clone(),
        user.name.clone().unwrap_or_else(|| "-".to_owned()),
        user.place.clone(),
        user.server_id.clone(),
        match user.sessions {
            0 => "-".to_owned(),
            sessions => sessions.to_string(),
        },
    ]
}

const PIN_HEAD: [&str; 5] = ["SERVER", "NAME", "LINKED", "ADDRESS", "KEY"];

fn pin_cells(pin: &PinRow) -> Vec<String> {
    let linked = match pin.linked {
        Some(true) => "yes",
        Some(false) => "no",
        None => "-",
    };
    vec![
        pin.server_id.clone(),
        pin.name.clone().unwrap_or_else(|| "-".to_owned()),
        linked.to_owned(),
        format!("{}:{}", pin.host, pin.port),
        pin.fingerprint.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(id: &str) -> PinRow {
        PinRow {
            server_id: id.to_owned(),
            name: None,
            fingerprint: String::new(),
            host: String::new(),
            port: 1,
            linked: None,
        }
    }

    #[test]
    fn a_server_is_named_by_its_id_or_a_beginning_that_no_other_has() {
        let pins = [pin("abcd-1"), pin("abcd-2"), pin("abcd"), pin("xy"), pin("wxyz-3")];
        for (which, found) in [("abcd", "abcd"), ("abcd-1", "abcd-1"), ("xy", "xy"), ("wxyz", "wxyz-3")] {
            assert_eq!(find(&pins, which).unwrap().server_id, found);
        }
        for (which, said) in [
            ("abcd-", "could be any of abcd-1, abcd-2"),
            ("nobody", "no pinned server's id"),
            ("wxy", "needs 4 characters"),
            ("", "needs 4 characters"),
        ] {
            let error = find(&pins, which).unwrap_err().to_string();
            assert!(error.contains(said), "{which}: {error}");
        }
    }
}

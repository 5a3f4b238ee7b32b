//! `socp backup` and `socp restore`: a second place for what a server must not lose.

use crate::cli::Common;
use crate::out;
use crate::safe_text::safe;
use clap::{Args, Subcommand};
use color_eyre::eyre::{Result, WrapErr as _, eyre};
use jiff::Timestamp;
use serde_json::json;
use socp_server::admin::{self, AdminError, Ask, Row};
use socp_server::backup::{self, Checked, Manifest};
use std::path::PathBuf;

/// Make a backup of a server, which goes on running, or look whether one is whole
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Example:
  socp backup /backups/monday --data ./srv-a
  socp backup verify /backups/monday
  socp restore /backups/monday --data ./srv-a-again"
)]
pub(crate) struct BackupArgs {
    #[command(subcommand)]
    command: Option<BackupCommand>,
    /// The directory that the backup shall be; it must be new
    #[arg(required = true, value_name = "DIR")]
    to: Option<PathBuf>,
    /// The directory that the server was started with
    #[arg(long, required = true, value_name = "DIR", env = "SOCP_DATA")]
    data: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum BackupCommand {
    /// Look whether a backup is whole and can be used
    #[command(after_help = "Example:\n  socp backup verify /backups/monday")]
    Verify {
        /// The backup
        #[arg(value_name = "DIR")]
        backup: PathBuf,
    },
}

/// Make a server's data directory of a backup
#[derive(Debug, Args)]
#[command(after_help = "Example:
  socp restore /backups/monday --data ./srv-a-again
  socp serve --data ./srv-a-again --listen 127.0.0.1:8765")]
pub(crate) struct RestoreArgs {
    /// The backup
    #[arg(value_name = "DIR")]
    backup: PathBuf,
    /// The data directory that it shall be; it must be new
    #[arg(long, value_name = "DIR", env = "SOCP_DATA")]
    data: PathBuf,
}

/// Runs `socp backup`.
pub(crate) async fn run(args: BackupArgs, common: &Common) -> Result<()> {
    let json = common.json;
    // Reading and writing files blocks.
    tokio::task::spawn_blocking(move || match (args.command, args.to, args.data) {
        (Some(BackupCommand::Verify { backup }), _, _) => {
            let checked = backup::verify(&backup)?;
            tell(&checked, &format!("{} is whole", backup.display()), json)
        }
        (None, Some(to), Some(data)) => make(&to, &data, json),
        (None, _, _) => Err(eyre!("name the directory for the backup, and the server's with --data")),
    })
    .await?
}

/// Runs `socp restore`.
pub(crate) async fn restore(args: RestoreArgs, common: &Common) -> Result<()> {
    let json = common.json;
    tokio::task::spawn_blocking(move || {
        let data = std::path::absolute(&args.data).wrap_err("cannot tell where you are")?;
        let checked = backup::restore(&args.backup, &data)?;
        let done = format!(
            "restored to {}; start it with `socp serve --data`, and never the server that it is of beside it",
            args.data.display()
        );
        tell(&checked, &done, json)
    })
    .await?
}

fn make(to: &std::path::Path, data: &std::path::Path, json: bool) -> Result<()> {
    // The server is somewhere else than we are.
    let to = std::path::absolute(to).wrap_err("cannot tell where you are")?;
    let manifest = match admin::ask(data, &Ask::Backup { to: to.clone() }) {
        Ok(rows) => rows.into_iter().find_map(|row| match row {
            Row::Backup(manifest) => Some(manifest),
            Row::Status(_) | Row::Link(_) | Row::User(_) | Row::Pin(_) => None,
        }),
        Err(AdminError::NotRunning { .. }) => Some(backup::back_up_stopped(data, &to)?),
        Err(error) => return Err(error.into()),
    };
    let manifest = manifest.ok_or_else(|| eyre!("the server did not say what it made"))?;
    if !to.join("backup.json").is_file() {
        return Err(eyre!(
            "the server made a backup, but not at the {} that is seen from here: it may run in a container or with \
             directories of its own; name one that both see",
            to.display()
        ));
    }
    if json {
        return Ok(out::json(&serde_json::to_value(&manifest)?)?);
    }
    Ok(out::line(&format!(
        "backed up {} to {}: {}, with everything acknowledged before {}. It holds the server's secrets: keep it as safe as \
         the server",
        safe(manifest.server_id.as_str()),
        to.display(),
        amount(&manifest),
        when(&manifest)
    ))?)
}

fn tell(checked: &Checked, what: &str, json: bool) -> Result<()> {
    let manifest = &checked.manifest;
    if json {
        let mut object = serde_json::to_value(manifest)?;
        if let serde_json::Value::Object(fields) = &mut object {
            fields.insert("users".to_owned(), json!(checked.users));
            fields.insert("pins".to_owned(), json!(checked.pins));
            fields.insert("key_tried".to_owned(), json!(checked.is_key_tried));
        }
        return Ok(out::json(&object)?);
    }
    let key = match checked.is_key_tried {
        true => "its key opens",
        false => "its key opens with a passphrase, which was not tried",
    };
    Ok(out::line(&format!(
        "{what}: the server {} as of {}, {}, {}, {}; {key}",
        safe(manifest.server_id.as_str()),
        when(manifest),
        amount(manifest),
        counted(checked.users, "user"),
        counted(checked.pins, "pinned server")
    ))?)
}

fn amount(manifest: &Manifest) -> String {
    format!("{} KiB", manifest.bytes().div_ceil(1024))
}

/// Like `1 user`, `2 users`.
fn counted(count: usize, what: &str) -> String {
    let end = if count == 1 { "" } else { "s" };
    format!("{count} {what}{end}")
}

/// When it was made, in the form of RFC 3339.
fn when(manifest: &Manifest) -> String {
    let made_at = i64::try_from(manifest.made_at).ok();
    match made_at.and_then(|ms| Timestamp::from_millisecond(ms).ok()) {
        Some(made_at) => format!("{made_at:.0}"),
        None => "no date".to_owned(),
    }
}

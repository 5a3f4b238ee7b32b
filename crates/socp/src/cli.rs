//! The arguments of the program.

use crate::commands;
use clap::{Args, Parser, Subcommand, ValueEnum};
use color_eyre::eyre::{Result, WrapErr as _, eyre};
use figment::Figment;
use figment::providers::{Format as _, Toml};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Secure federated chat that speaks SOCP v1.3.
#[derive(Debug, Parser)]
#[command(name = "socp", version, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "Example:
  socp demo
  socp register --name alice --server ws://127.0.0.1:8765
  socp tell bob 'See you at eight?'
  socp all 'Good morning, everyone'
  socp file bob photo.png
  socp watch";

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// The directory with your identity [default: the platform's data directory]
    #[arg(long, global = true, env = "SOCP_PROFILE", value_name = "DIR")]
    pub(crate) profile: Option<PathBuf>,
    /// The server, like ws://127.0.0.1:8765; remembered after the first use
    #[arg(long, global = true, env = "SOCP_SERVER", value_name = "URL")]
    pub(crate) server: Option<String>,
    /// One JSON object per line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to log, like `info` or `socp_server=debug` [default: warn, for serve: info]
    #[arg(long, global = true, env = "SOCP_LOG", value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// How to log [default: text]
    #[arg(long, global = true, env = "SOCP_LOG_FORMAT", value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    /// Read the key's password from the first line of standard input
    #[arg(long, global = true)]
    pub(crate) password_stdin: bool,
}

/// What a line of the log looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object
    Json,
}

/// `socp.toml` in the profile directory: what neither flag nor environment says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileSettings {
    /// As `--server`.
    pub(crate) server: Option<String>,
    /// As `--log`.
    pub(crate) log: Option<String>,
    /// As `--downloads`.
    pub(crate) downloads: Option<PathBuf>,
    /// As `--max-size`.
    pub(crate) max_size: Option<String>,
}

impl Common {
    /// The directory with the identity.
    ///
    /// # Errors
    /// If none is given and the platform has no data directory.
    pub(crate) fn profile_dir(&self) -> Result<PathBuf> {
        if let Some(dir) = &self.profile {
            return Ok(dir.clone());
        }
        let dirs = directories::ProjectDirs::from("", "", "socp")
            .ok_or_else(|| eyre!("this system has no data directory for you; give one with --profile"))?;
        Ok(dirs.data_dir().to_owned())
    }

    /// What the profile directory's `socp.toml` says.
    pub(crate) fn file_settings(&self) -> Result<FileSettings> {
        let path = self.profile_dir()?.join("socp.toml");
        if !path.exists() {
            return Ok(FileSettings::default());
        }
        Figment::from(Toml::file_exact(&path))
            .extract()
            .wrap_err_with(|| format!("cannot use {}", path.display()))
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one, once")]
pub(crate) enum Command {
    Register(commands::register::RegisterArgs),
    Login(commands::login::LoginArgs),
    List(commands::list::ListArgs),
    Tell(commands::tell::TellArgs),
    All(commands::all::AllArgs),
    File(commands::file::FileArgs),
    History(commands::history::HistoryArgs),
    Watch(commands::watch::WatchArgs),
    Chat(commands::chat::ChatArgs),
    Key(commands::key::KeyArgs),
    Serve(commands::serve::ServeArgs),
    Demo(commands::demo::DemoArgs),
    Bench(commands::bench::BenchArgs),
    Admin(commands::admin::AdminArgs),
    Backup(commands::backup::BackupArgs),
    Restore(commands::backup::RestoreArgs),
}

//! The commands, one module each.

pub(crate) mod admin;
pub(crate) mod all;
pub(crate) mod backup;
pub(crate) mod bench;
pub(crate) mod chat;
pub(crate) mod demo;
pub(crate) mod file;
pub(crate) mod history;
pub(crate) mod key;
pub(crate) mod list;
pub(crate) mod login;
pub(crate) mod register;
pub(crate) mod serve;
pub(crate) mod tell;
pub(crate) mod watch;

use crate::cli::{Cli, Command, Common, LogFormat};
use color_eyre::eyre::{Result, WrapErr as _};
use std::io::{self, IsTerminal as _};
use tracing_subscriber::EnvFilter;

/// Runs the command that was asked for.
pub(crate) fn run(cli: Cli) -> Result<()> {
    start_log(&cli)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .wrap_err("cannot start the program's threads")?;
    let done = runtime.block_on(perform(cli));
    // A thread may still wait for standard input; there is nothing left for it to do.
    runtime.shutdown_background();
    done
}

async fn perform(cli: Cli) -> Result<()> {
    let common = &cli.common;
    match cli.command {
        Command::Register(args) => register::run(args, common).await,
        Command::Login(args) => login::run(args, common).await,
        Command::List(args) => list::run(args, common).await,
        Command::Tell(args) => tell::run(args, common).await,
        Command::All(args) => all::run(args, common).await,
        Command::File(args) => file::run(args, common).await,
        Command::History(args) => history::run(args, common).await,
        Command::Watch(args) => watch::run(args, common).await,
        Command::Chat(args) => chat::run(args, common).await,
        Command::Key(args) => key::run(args, common).await,
        Command::Serve(args) => serve::run(&args).await,
        Command::Demo(args) => demo::run(&args).await,
        Command::Bench(args) => bench::run(args, common).await,
        Command::Admin(args) => admin::run(args, common).await,
        Command::Backup(args) => backup::run(args, common).await,
        Command::Restore(args) => backup::restore(args, common).await,
    }
}

/// Logs go to standard error; `serve` says what it does, the others only what is wrong.
fn start_log(cli: &Cli) -> Result<()> {
    let filter = log_filter(&cli.common, &cli.command)?;
    let filter = EnvFilter::try_new(&filter).wrap_err_with(|| format!("--log {filter:?} cannot be used"))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    match log_format(cli) {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}

fn log_format(cli: &Cli) -> LogFormat {
    let from_file = match &cli.command {
        Command::Serve(args) => args.log_settings().log_format,
        Command::Register(_)
        | Command::Login(_)
        | Command::List(_)
        | Command::Tell(_)
        | Command::All(_)
        | Command::File(_)
        | Command::History(_)
        | Command::Watch(_)
        | Command::Chat(_)
        | Command::Key(_)
        | Command::Demo(_)
        | Command::Bench(_)
        | Command::Admin(_)
        | Command::Backup(_)
        | Command::Restore(_) => None,
    };
    cli.common.log_format.or(from_file).unwrap_or(LogFormat::Text)
}

fn log_filter(common: &Common, command: &Command) -> Result<String> {
    if let Some(filter) = &common.log {
        return Ok(filter.clone());
    }
    match command {
        // These have no profile, so no file of one speaks for them; a server has one of its own.
        Command::Serve(args) => Ok(args.log_settings().log.unwrap_or_else(|| "info".to_owned())),
        Command::Demo(_) | Command::Bench(_) | Command::Admin(_) | Command::Backup(_) | Command::Restore(_) => {
            Ok("warn".to_owned())
        }
        Command::Register(_)
        | Command::Login(_)
        | Command::List(_)
        | Command::Tell(_)
        | Command::All(_)
        | Command::File(_)
        | Command::History(_)
        | Command::Watch(_)
        | Command::Chat(_)
        | Command::Key(_) => {
            let from_file = common.file_settings()?.log;
            Ok(from_file.unwrap_or_else(|| "warn".to_owned()))
        }
    }
}

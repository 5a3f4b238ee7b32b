//! `socp demo`: a whole network on one machine in one command.

use super::serve::stop_signal;
use clap::Args;
use color_eyre::eyre::{Context as _, Result, eyre};
use socp_client::{Client, Event, EventStream, Options, Profile, ServerUrl};
use socp_core::server::BootstrapEntry;
use socp_server::{Ready, Running, ServerError, Settings};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Run two federated servers and an echo bot, and say what to try.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example:\n  socp demo --port 9000")]
pub(crate) struct DemoArgs {
    /// Where the demo keeps its servers and profiles [default: `demo` in the platform's data directory]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Port of the first server; the second has the next one
    #[arg(long, default_value_t = 8765, value_parser = clap::value_parser!(u16).range(1..65535))]
    port: u16,
}

/// Runs the command.
pub(crate) async fn run(args: &DemoArgs) -> Result<()> {
    let data = match &args.data {
        Some(data) => data.clone(),
        None => default_data()?,
    };
    let stop = stop_signal()?;
    if !data.join("srv-a").exists() {
        say("Making three RSA-4096 keys for the first start; this takes some seconds.\n")?;
    }
    // Keys take a second each; the bot's is made while the servers make theirs.
    let bot_dir = data.join("echo");
    let bot_profile =
        tokio::task::spawn_blocking(move || Profile::open_or_create(&bot_dir, Some("echo"), Some("Echo"), None));
    let mut first = start(&data, "srv-a", args.port, None).await?;
    let introducer = BootstrapEntry {
        host: Ipv4Addr::LOCALHOST.to_string(),
        port: first.ready.listen.port(),
        tls: None,
        key: Some(first.ready.key.clone()),
    };
    let second = start(&data, "srv-b", args.port.saturating_add(1), Some(introducer)).await?;
    first.linked().await;
    let profile = bot_profile.await.wrap_err("the bot's profile could not be made")??;
    let bot = start_bot(profile, &second.ready).await?;
    say(&welcome(&data, &first.ready, &second.ready)?)?;
    let (first_stop, second_stop) = (oneshot::channel::<()>(), oneshot::channel::<()>());
    let servers = async { tokio::try_join!(first.until(ended(first_stop.1)), second.until(ended(second_stop.1))) };
    let stopping = async {
        stop.await;
        bot.abort();
        drop((first_stop.0, second_stop.0));
    };
    let (served, ()) = tokio::join!(servers, stopping);
    served?;
    Ok(())
}

async fn ended(stop: oneshot::Receiver<()>) {
    // Nothing is ever sent: the sender's end is the signal.
    let _sender_gone = stop.await;
}

async fn start(data: &Path, name: &str, port: u16, introducer: Option<BootstrapEntry>) -> Result<Running> {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut settings = Settings::new(listen, data.join(name));
    settings.name = Some(name.to_owned());
    settings.bootstrap.extend(introducer);
    socp_server::start(settings).await.map_err(|error| {
        // Two errors name flags of `serve`, which this command does not have.
        if let ServerError::Listen { source, .. } = &error {
            return eyre!(
                "cannot listen on port {port}: {source}; choose another with --port, which takes that port and the next"
            );
        }
        if let ServerError::DataInUse { .. } = &error {
            return eyre!(
                "another demo runs on {}; stop it, or choose another directory with --data",
                data.display()
            );
        }
        eyre!(error)
    })
}

/// Connects the echo bot and lets it answer until it is aborted.
async fn start_bot(profile: Profile, server: &Ready) -> Result<JoinHandle<()>> {
    let key = profile.unlock(None)?;
    let server = ServerUrl::parse(&format!("ws://{}", server.listen))?;
    let (client, events) = Client::connect(profile, key, Options::lasting(server)).await?;
    Ok(tokio::spawn(echo(client, events)))
}

async fn echo(client: Client, mut events: EventStream) {
    while let Some(event) = events.next().await {
        if let Event::Message(message) = event {
            if let Err(error) = client.shown(&message.id, false).await {
                tracing::warn!(%error, "the bot may answer this twice");
            }
            match client.begin_tell(message.from.user_id, message.text).await {
                Ok(sent) => {
                    tokio::spawn(async move {
                        if let Err(error) = sent.await {
                            tracing::warn!(%error, "the echo did not go out");
                        }
                    });
                }
                Err(error) => tracing::warn!(%error, "the bot is not connected"),
            }
        }
    }
}

fn default_data() -> Result<PathBuf> {
    let dirs = directories::ProjectDirs::from("", "", "socp");
    let dirs = dirs.ok_or_else(|| eyre!("there is no home directory; say where to keep the demo with --data DIR"))?;
    Ok(dirs.data_dir().join("demo"))
}

fn say(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .wrap_err("cannot write to stdout")
}

fn welcome(data: &Path, first: &Ready, second: &Ready) -> Result<String> {
    let program = quoted(&program_path()?);
    let command = |name: &str, server: &Ready| {
        let dir = data.join(name);
        let profile = quoted(&dir);
        let listen = server.listen;
        let chat = format!("  {program} chat --profile {profile} --server ws://{listen}\n");
        if Profile::open(&dir).is_ok() {
            return chat; // Registered the last time.
        }
        format!("  {program} register --profile {profile} --server ws://{listen} --name {name} --no-password\n{chat}")
    };
    Ok(format!(
        "Two servers are running and linked, each with its own users:\n\n\
         {}{}\n\
         \x20 echo   a bot on srv-b that answers every message\n\n\
         Talk to the bot. In a second terminal:\n\n{}\n\
         \x20 and there:   /tell echo hello\n\n\
         Talk to each other. In a third terminal, on the other server:\n\n{}\n\
         \x20 and there:   /tell alice hello\n\n\
         Ctrl-C here stops everything; the data stays in {}.\n",
        about(first),
        about(second),
        command("alice", first),
        command("bob", second),
        data.display(),
    ))
}

fn about(ready: &Ready) -> String {
    let name = ready.name.as_deref().unwrap_or("");
    format!("  {name}  ws://{}   key {}\n", ready.listen, ready.fingerprint())
}

/// This program, as short as a shell in this directory takes it.
fn program_path() -> Result<PathBuf> {
    let program = std::env::current_exe().wrap_err("cannot tell where this program is")?;
    let here = std::env::current_dir().wrap_err("cannot tell the current directory")?;
    Ok(program.strip_prefix(&here).map(Path::to_owned).unwrap_or(program))
}

/// A path as a shell reads it back.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_survives_being_pasted_into_a_shell() {
        assert_eq!(quoted(Path::new("target/release/socp")), "target/release/socp");
        assert_eq!(quoted(Path::new("/home/a b/it's")), r"'/home/a b/it'\''s'");
    }
}

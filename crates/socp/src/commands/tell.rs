//! `socp tell`: one message.

use crate::cli::Common;
use crate::face;
use crate::{out, show, words};
use clap::{Args, ValueEnum};
use color_eyre::eyre::{Result, WrapErr as _, bail, eyre};
use socp_client::{Client, Event, EventStream, Person, PostState, Receipt};
use std::time::Duration;
use tokio::task::spawn_blocking;

/// How long the server may take to say that it has the message.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(20);

/// Send a message; done when the server has taken it
#[derive(Debug, Args)]
#[command(after_help = "Example:
  socp tell bob 'See you at eight?'
  uptime | socp tell bob@srv-b -
  socp tell bob 'Are you there?' --wait read --timeout 60

Exit codes:
  0  the server has taken the message, and keeps it until it has arrived; with --wait it is delivered, or read
  1  it was not sent, or the server did not confirm it in time; the reason is on standard error
  2  wrong usage; nothing was sent")]
pub(crate) struct TellArgs {
    /// A user id, at least 4 characters of one, a name, or name@server
    user: String,
    /// The message; `-` reads it from standard input
    #[arg(required = true)]
    text: Vec<String>,
    /// Return when their program says that it has the message, or has shown it
    #[arg(long, value_enum, value_name = "STATE")]
    wait: Option<Wait>,
    /// With --wait: give up after this many seconds; the message stays on its way
    #[arg(long, value_name = "S", requires = "wait")]
    timeout: Option<u64>,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wait {
    /// It is on one of their devices
    Delivered,
    /// It was shown to them
    Read,
}

impl Wait {
    fn state(self) -> PostState {
        match self {
            Self::Delivered => PostState::Delivered,
            Self::Read => PostState::Read,
        }
    }
}

pub(crate) async fn run(args: TellArgs, common: &Common) -> Result<()> {
    let unlocked = face::unlock(common).await?;
    // Whoever pipes a message may take their time; the server need not wait for it.
    let text = spawn_blocking(move || words::text(&args.text)).await??;
    let (client, acquaintances, mut events) = unlocked.connect_to_ask(common.json, args.wait.is_some()).await?;
    let told = match tell(&client, &args.user, text).await {
        Ok((person, receipt)) => match args.wait {
            Some(wait) => wait_for(&mut events, (person, receipt), (wait, args.timeout)).await,
            None => Ok((person, receipt)),
        },
        Err(error) => Err(error),
    };
    drop(events);
    client.close().await;
    let (person, receipt) = told?;
    acquaintances.tell(Some(&person.user_id))?;
    if common.json {
        out::json(&show::receipt_json(&receipt, &person))?;
    } else {
        let is_sent = receipt.state == PostState::Sent;
        let state = if is_sent {
            String::new()
        } else {
            format!(", {}", receipt.state.words())
        };
        out::line(&format!(
            "sent to {} ({}){state}",
            show::address(&person),
            person.user_id
        ))?;
    }
    Ok(())
}

async fn tell(client: &Client, user: &str, text: String) -> Result<(Person, Receipt)> {
    let person = client.resolve(user).await?;
    let told = tokio::time::timeout(ANSWER_WAIT_MAX, client.tell(person.user_id.clone(), text)).await;
    let kept = "the message is kept, and goes out with the next command that connects";
    let receipt = told
        .map_err(|_elapsed| {
            eyre!(
                "the server did not confirm it within {} s; {kept}",
                ANSWER_WAIT_MAX.as_secs()
            )
        })?
        .wrap_err_with(|| format!("not sent to {}", show::address(&person)))?;
    if receipt.state == PostState::Queued {
        bail!("the connection broke before the server confirmed it; {kept}");
    }
    // Who was new has a key by now.
    let person = client.resolve(person.user_id.as_str()).await?;
    Ok((person, receipt))
}

/// Until the recipient's program says so.
async fn wait_for(
    events: &mut EventStream,
    (person, receipt): (Person, Receipt),
    (wait, timeout): (Wait, Option<u64>),
) -> Result<(Person, Receipt)> {
    let mut state = receipt.state;
    let arrival = async {
        while state < wait.state() {
            let Some(event) = events.next().await else {
                bail!("the connection has ended; the message is {}", state.words());
            };
            if let Event::Stopped(stop) = event {
                bail!("{stop}");
            }
            let Event::Post(news) = event else { continue };
            if news.msg_ref != receipt.msg_ref {
                continue;
            }
            state = news.state;
            if state == PostState::Failed {
                bail!(
                    "not delivered to {}: {}",
                    show::address(&person),
                    news.why.unwrap_or_default()
                );
            }
        }
        Ok(())
    };
    let deadline = async {
        match timeout {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        arrived = arrival => arrived?,
        () = deadline => {
            let wanted = wait.state().words();
            bail!("not {wanted} within {} s; the message is {}", timeout.unwrap_or_default(), receipt.state.words());
        }
    }
    Ok((person, Receipt { state, ..receipt }))
}

//! `socp tell`: one message.

use crate::cli::Common;
use crate::face;
use crate::{out, show, words};
use clap::Args;
use color_eyre::eyre::{Result, WrapErr as _};
use socp_client::{Client, Person, Receipt};
use tokio::task::spawn_blocking;

/// Send a message; done when the server has taken it
#[derive(Debug, Args)]
#[command(after_help = "Example:
  socp tell bob 'See you at eight?'
  uptime | socp tell bob@srv-b -

Exit codes:
  0  the server has taken the message
  1  it was not sent, or the server did not confirm it; the reason is on standard error
  2  wrong usage; nothing was sent")]
pub(crate) struct TellArgs {
    /// A user id, at least 4 characters of one, a name, or name@server
    user: String,
    /// The message; `-` reads it from standard input
    #[arg(required = true)]
    text: Vec<String>,
}

pub(crate) async fn run(args: TellArgs, common: &Common) -> Result<()> {
    let unlocked = face::unlock(common).await?;
    // Whoever pipes a message may take their time; the server need not wait for it.
    let text = spawn_blocking(move || words::text(&args.text)).await??;
    let (client, acquaintances) = unlocked.connect_once(common.json).await?;
    let told = tell(&client, &args.user, text).await;
    client.close().await;
    let (person, receipt) = told?;
    acquaintances.tell(Some(&person.user_id))?;
    if common.json {
        out::json(&show::receipt_json(&receipt.msg_ref, &person))?;
    } else {
        out::line(&format!("sent to {} ({})", show::address(&person), person.user_id))?;
    }
    Ok(())
}

async fn tell(client: &Client, user: &str, text: String) -> Result<(Person, Receipt)> {
    let person = client.resolve(user).await?;
    let receipt = client
        .tell(person.user_id.clone(), text)
        .await
        .wrap_err_with(|| format!("not sent to {}", show::address(&person)))?;
    // Who was new has a key by now.
    let person = client.resolve(person.user_id.as_str()).await?;
    Ok((person, receipt))
}

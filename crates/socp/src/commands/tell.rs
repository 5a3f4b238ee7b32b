//! `socp tell`: one message.

use crate::cli::Common;
use crate::face;
use crate::{out, show};
use clap::Args;
use color_eyre::eyre::{Result, WrapErr as _, bail, eyre};
use socp_client::{Client, Person, Receipt};
use socp_proto::limits::{DIRECT_TEXT_BYTES_MAX, FRAME_BYTES_MAX};
use std::io::Read as _;
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
    let words = args.text;
    let text = spawn_blocking(move || text(&words)).await??;
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
    Ok((person, receipt))
}

/// The message, if it can be one.
fn text(words: &[String]) -> Result<String> {
    let text = if words == ["-"] { from_stdin()? } else { words.join(" ") };
    if text.is_empty() {
        bail!("not sent: the message is empty");
    }
    Ok(text)
}

fn from_stdin() -> Result<String> {
    let mut bytes = Vec::new();
    // Reading more than any frame may hold would only fill memory before it is refused.
    std::io::stdin()
        .lock()
        .take(u64::try_from(FRAME_BYTES_MAX)?)
        .read_to_end(&mut bytes)
        .wrap_err("cannot read the message")?;
    let given = bytes.len();
    // Two for the line's end.
    if given > DIRECT_TEXT_BYTES_MAX + 2 {
        let or_more = if given < FRAME_BYTES_MAX { "" } else { " or more" };
        bail!(
            "not sent: the message has {given} bytes{or_more}, at most {DIRECT_TEXT_BYTES_MAX} are allowed; send it in parts"
        );
    }
    let text =
        String::from_utf8(bytes).map_err(|_| eyre!("not sent: what came on standard input is not UTF-8 text"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

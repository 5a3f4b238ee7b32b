//! `socp tell`: one message.

use crate::cli::Common;
use crate::face::{Lasting, connect};
use crate::{out, show};
use clap::Args;
use color_eyre::eyre::{Result, WrapErr as _};
use socp_client::{Client, Person, Receipt};
use std::io::Read as _;

/// Send a message; done when the server has taken it
#[derive(Debug, Args)]
#[command(after_help = "Example:
  socp tell bob 'See you at eight?'
  uptime | socp tell bob@srv-b -")]
pub(crate) struct TellArgs {
    /// A user id, at least 4 characters of one, a name, or name@server
    user: String,
    /// The message; `-` reads it from standard input
    #[arg(required = true)]
    text: Vec<String>,
}

pub(crate) async fn run(args: TellArgs, common: &Common) -> Result<()> {
    let (client, events) = connect(common, Lasting::Once).await?;
    drop(events);
    let told = tell(&client, &args).await;
    client.close().await;
    let (person, receipt) = told?;
    if common.json {
        out::json(&show::receipt_json(&receipt.msg_ref, &person))?;
    } else {
        out::line(&format!(
            "sent to {} ({})",
            show::address(&person),
            person.user_id
        ))?;
    }
    Ok(())
}

async fn tell(client: &Client, args: &TellArgs) -> Result<(Person, Receipt)> {
    let text = text(&args.text)?;
    let person = client.resolve(&args.user).await?;
    let receipt = client
        .tell(person.user_id.clone(), text)
        .await
        .wrap_err_with(|| format!("not sent to {}", show::address(&person)))?;
    Ok((person, receipt))
}

fn text(words: &[String]) -> Result<String> {
    if words != ["-"] {
        return Ok(words.join(" "));
    }
    let mut text = String::new();
    // Reading more than any message may hold would only fill memory before it is refused.
    let limit = u64::try_from(socp_proto::limits::FRAME_BYTES_MAX)?;
    std::io::stdin()
        .lock()
        .take(limit)
        .read_to_string(&mut text)
        .wrap_err("cannot read the message")?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

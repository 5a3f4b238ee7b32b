//! `socp all`: one message to the public channel.

use crate::cli::Common;
use crate::face;
use crate::{out, show, words};
use clap::Args;
use color_eyre::eyre::{Result, WrapErr as _, eyre};
use tokio::task::spawn_blocking;

/// Send a message to the public channel: to everyone online, each copy encrypted for its reader
#[derive(Debug, Args)]
#[command(after_help = "Example:
  socp all 'Maintenance at eight'
  uptime | socp all -

Exit codes:
  0  everyone who is still online, one at least, has their copy at the server
  1  it went to some, or to nobody; who did not get it, and why, is on standard error
  2  wrong usage; nothing was sent")]
pub(crate) struct AllArgs {
    /// The message; `-` reads it from standard input
    #[arg(required = true)]
    text: Vec<String>,
}

pub(crate) async fn run(args: AllArgs, common: &Common) -> Result<()> {
    let unlocked = face::unlock(common).await?;
    // Whoever pipes a message may take their time; the server need not wait for it.
    let text = spawn_blocking(move || words::text(&args.text)).await??;
    let (client, acquaintances) = unlocked.connect_once(common.json).await?;
    let told = client.tell_all(text).await;
    client.close().await;
    let report = told.wrap_err("not sent to the channel")?;
    let failure = show::channel_failure(&report);
    let told = if common.json {
        out::json(&show::channel_receipt_json(&report))
    } else if report.sent.is_empty() {
        Ok(())
    } else {
        out::line(&show::channel_receipt(&report))
    };
    // A failure stays one, whether somebody reads of it on standard output or not.
    if let Some(why) = failure {
        return Err(eyre!(why));
    }
    told?;
    acquaintances.tell(None)
}

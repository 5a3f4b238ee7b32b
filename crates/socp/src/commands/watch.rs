//! `socp watch`: what arrives.

use crate::cli::Common;
use crate::face::{asked_to_stop, connect};
use crate::transfer::Receiving;
use crate::{out, show};
use clap::Args;
use color_eyre::eyre::{Result, bail, eyre};
use socp_client::{Client, Event, EventStream, FileStage};
use std::time::Duration;

/// Print what arrives, one line each
#[derive(Debug, Args)]
#[command(after_help = "Example:
  socp watch
  socp watch --count 1 --timeout 60 --json
  socp watch --downloads ~/Downloads --max-size 2M

Files that arrive are kept under a safe name in the folder for files, after size and SHA-256 were checked; none is
overwritten.")]
pub(crate) struct WatchArgs {
    /// End after this many messages and files
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// End after this many seconds; a failure if --count was not reached
    #[arg(long, value_name = "S")]
    timeout: Option<u64>,
    #[command(flatten)]
    receiving: Receiving,
}

pub(crate) async fn run(args: WatchArgs, common: &Common) -> Result<()> {
    let downloads = args.receiving.downloads(common)?;
    let deadline = args.timeout.map(Duration::from_secs);
    let stopped = async {
        let expired = async {
            match deadline {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = asked_to_stop() => Ok(()),
            () = expired => match (args.count, args.timeout) {
                (Some(count), Some(seconds)) => Err(eyre!("fewer than {count} messages and files came within {seconds} s")),
                (Some(_) | None, _) => Ok(()),
            },
        }
    };
    tokio::pin!(stopped);
    let (client, mut events) = tokio::select! {
        connected = connect(common, downloads) => connected?,
        stopped = &mut stopped => return stopped,
    };
    let (watched, is_read) = tokio::select! {
        watched = watch((&client, &mut events), args.count, common.json) => (watched, false),
        stopped = &mut stopped => (stopped, true),
    };
    // Whatever ended it: what arrived in part is removed, and its author is told.
    client.close().await;
    // Who has counted enough or reads no more is told no more.
    let told = if is_read {
        tell_last(&mut events, common.json).await
    } else {
        Ok(())
    };
    watched.and(told)
}

/// Every file that was said to begin has its end, also where that is ours.
async fn tell_last(events: &mut EventStream, json: bool) -> Result<()> {
    while let Some(event) = events.next().await {
        if matches!(event, Event::File(_)) {
            print(&event, json)?;
        }
    }
    Ok(())
}

async fn watch((client, events): (&Client, &mut EventStream), count: Option<u64>, json: bool) -> Result<()> {
    let mut left = count.unwrap_or(u64::MAX);
    let mut last_words = None;
    while left > 0 {
        let Some(event) = events.next().await else {
            bail!(
                "{}",
                last_words.unwrap_or_else(|| "the connection has ended".to_owned())
            );
        };
        match &event {
            Event::Message(_) | Event::Channel(_) => left = left.saturating_sub(1),
            Event::File(news) => match news.stage {
                FileStage::Received(_) => left = left.saturating_sub(1),
                // What was refused at once may be anybody's forgery.
                FileStage::Failed(_) if news.is_begun => left = left.saturating_sub(1),
                FileStage::Failed(_) | FileStage::Started | FileStage::Receiving(_) => {}
            },
            Event::Stopped(stop) => last_words = Some(stop.to_string()),
            Event::Online { .. }
            | Event::Offline { .. }
            | Event::Notice { .. }
            | Event::Presence(_)
            | Event::Post(_)
            | Event::Gap { .. }
            | Event::KeyChanged { .. }
            | Event::AccountChanged { .. }
            | Event::Sent { .. }
            | Event::Failed { .. }
            | Event::ChannelSent { .. }
            | Event::FileProgress { .. }
            | Event::FileSent { .. }
            | Event::Error { .. }
            | Event::Listed { .. }
            | Event::Resolved { .. }
            | Event::PasswordBegun { .. }
            | Event::PasswordSet { .. } => {}
        }
        print(&event, json)?;
        if let Event::Message(message) = &event {
            // Printed is not read: nobody may look.
            client.shown(&message.id, false).await?;
        }
    }
    Ok(())
}

/// Connections come and go on standard error, so that standard output holds only what arrives.
fn print(event: &Event, json: bool) -> Result<()> {
    if json {
        return show::as_json(event).map_or(Ok(()), |object| Ok(out::json(&object)?));
    }
    match (event, show::human(event)) {
        (Event::Online { .. } | Event::Offline { .. }, Some(line)) => out::note(&line),
        (Event::Stopped(_), _) | (_, None) => {}
        (_, Some(line)) => out::line(&line)?,
    }
    Ok(())
}

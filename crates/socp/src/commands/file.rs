//! `socp file`: a file for one user, or for everyone online.

use crate::cli::Common;
use crate::face;
use crate::transfer::SizeLimit;
use crate::{out, show};
use clap::Args;
use color_eyre::eyre::{Result, WrapErr as _, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use socp_client::{Client, FileProgress, FileReport, OutgoingFile, SendingFile, Source, Target};
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use tokio::task::spawn_blocking;

/// What stands for everyone online.
pub(crate) const EVERYONE: &str = "all";

/// Send a file; done when the receiver's program has checked it, or has not answered in time
#[derive(Debug, Args)]
#[command(after_help = "Example:
  socp file bob photo.png
  socp file all notes.pdf --max-size 2M

USER `all` is the public channel: everyone online gets the file, one after the other. A user who is called `all` can be
named by id or as all@server.

Exit codes:
  0  received, or sent to a program that does not confirm; which of the two is on standard output
  1  refused, given up or not sent, or nobody was there any more; who did not get it, and why, is on standard error
  2  wrong usage; nothing was sent")]
pub(crate) struct FileArgs {
    /// A user id, at least 4 characters of one, a name, name@server, or `all`
    user: String,
    /// The file
    path: PathBuf,
    #[command(flatten)]
    limit: SizeLimit,
}

pub(crate) async fn run(args: FileArgs, common: &Common) -> Result<()> {
    let size_max = args.limit.bytes(common)?;
    let path = args.path;
    let file = spawn_blocking(move || OutgoingFile::open(&path, size_max)).await??;
    let source = file.source().clone();
    let unlocked = face::unlock(common).await?;
    let (client, acquaintances) = unlocked.connect_once(common.json).await?;
    let sent = tokio::select! {
        sent = send(&client, &args.user, file, common.json) => sent,
        () = face::asked_to_stop() => Err(color_eyre::eyre::eyre!("cancelled; the receiver keeps nothing of it")),
    };
    // Tells the receiver, where it was cancelled.
    client.close().await;
    let report = sent?;
    // A failure stays one, whether somebody reads of it on standard output or not.
    let failure = show::files::not_sent(&source, &report);
    let told = tell(&source, &report, common.json);
    if let Some(why) = failure {
        bail!(why);
    }
    told?;
    acquaintances.tell(None)
}

async fn send(client: &Client, user: &str, file: OutgoingFile, json: bool) -> Result<FileReport> {
    let source = file.source().clone();
    let target = target(client, user).await?;
    if let Some(cost) = show::files::cost(&source)
        && !json
    {
        out::note(&format!("socp: {cost}"));
    }
    let mut sending = client.begin_file(target, file).await?;
    watch(&mut sending, &source, json).await;
    let report = sending.finish().await;
    report.wrap_err_with(|| format!("{:?} was not sent", source.name))
}

/// Who is meant; `all` is everyone.
pub(crate) async fn target(client: &Client, user: &str) -> Result<Target> {
    if user == EVERYONE {
        return Ok(Target::Everyone);
    }
    Ok(Target::User(client.resolve(user).await?.user_id))
}

/// Shows how far it is. The file goes on when nobody reads that any more.
async fn watch(sending: &mut SendingFile, source: &Source, json: bool) {
    let mut meter = Meter::new(source);
    let mut is_read = true;
    while let Some(progress) = sending.progress().await {
        if !json {
            meter.show(&progress);
        } else if is_read && let Err(error) = out::json(&show::files::leaving_json(source, &progress)) {
            tracing::debug!(%error, "nobody reads how far the file is");
            is_read = false;
        }
    }
}

fn tell(source: &Source, report: &FileReport, json: bool) -> Result<()> {
    if json {
        return show::files::left_json(source, report)
            .iter()
            .try_for_each(|object| Ok(out::json(object)?));
    }
    show::files::left(source, report)
        .iter()
        .try_for_each(|line| Ok(out::line(line)?))
}

/// A bar on a terminal, a line for every quarter elsewhere; on standard error, so that results stand alone.
struct Meter {
    bar: ProgressBar,
    is_terminal: bool,
    quarters: Quarters,
}

impl Meter {
    fn new(source: &Source) -> Self {
        let is_terminal = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let bar = ProgressBar::with_draw_target(Some(source.size), ProgressDrawTarget::hidden());
        if is_terminal {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            let template = "{msg} {wide_bar} {bytes}/{total_bytes}, {eta} left";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
        }
        Self {
            bar,
            is_terminal,
            quarters: Quarters::default(),
        }
    }

    fn show(&mut self, progress: &FileProgress) {
        if self.is_terminal {
            self.bar.set_message(to_whom(progress));
            self.bar.set_position(progress.sent);
        } else if let Some(percent) = self.quarters.next(progress) {
            out::note(&format!("socp: {percent} % sent to {}", to_whom(progress)));
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// `bob@srv-b`, or `bob@srv-b (3 of 50)`.
pub(crate) fn to_whom(progress: &FileProgress) -> String {
    let who = show::address(&progress.to);
    match progress.members {
        0 | 1 => who,
        members => format!("{who} ({} of {members})", progress.member.saturating_add(1)),
    }
}

/// Says when another quarter of a file is through.
#[derive(Debug, Default)]
pub(crate) struct Quarters {
    member: usize,
    told: u64,
}

impl Quarters {
    /// The percentage, when it is worth a line.
    pub(crate) fn next(&mut self, progress: &FileProgress) -> Option<u64> {
        if progress.member != self.member {
            *self = Self {
                member: progress.member,
                told: 0,
            };
        }
        let quarter = progress
            .sent
            .saturating_mul(4)
            .checked_div(progress.size)
            .unwrap_or_default();
        if quarter <= self.told || progress.sent == progress.size {
            return None;
        }
        self.told = quarter;
        Some(quarter.saturating_mul(25))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socp_client::Person;

    #[test]
    fn every_quarter_of_every_member_is_told_once() {
        let progress = |member, sent| FileProgress {
            to: Person {
                user_id: "u-1".try_into().unwrap(),
                name: Some("bob".to_owned()),
                server_id: None,
                server_name: None,
                online: true,
                standing: socp_client::Standing::default(),
            },
            member,
            members: 2,
            sent,
            size: 100,
        };
        let mut quarters = Quarters::default();
        let told: Vec<_> = [(0, 10), (0, 26), (0, 49), (0, 80), (0, 100), (1, 10), (1, 30)]
            .into_iter()
            .filter_map(|(member, sent)| quarters.next(&progress(member, sent)))
            .collect();
        assert_eq!(told, [25, 75, 25]);
        assert_eq!(to_whom(&progress(1, 0)), "bob (new) (2 of 2)");
    }
}

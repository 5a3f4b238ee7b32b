//! `socp history`: what was said, as this profile keeps it.

use crate::cli::Common;
use crate::safe_text::safe;
use crate::{out, password, show};
use clap::Args;
use color_eyre::eyre::Result;
use serde_json::{Value, json};
use socp_client::{Direction, History, HistoryEntry, Person, PostState, Profile, UserPin, resolve};
use std::collections::BTreeMap;
use tokio::task::spawn_blocking;

/// Messages that are shown where nobody says how many.
pub(crate) const LAST_COUNT: usize = 50;

/// Show what was said, without a connection
#[derive(Debug, Args)]
#[command(after_help = "Example:
  socp history bob
  socp history --search 'station tick' --last 10
  socp history bob --json

Words are found by their beginnings; a message is shown that has all of them. Everything is kept encrypted in the profile.")]
pub(crate) struct HistoryArgs {
    /// With whom: a user id, at least 4 characters of one, a name, or name@server
    user: Option<String>,
    /// How many messages, the last ones
    #[arg(long, value_name = "N", default_value_t = LAST_COUNT)]
    last: usize,
    /// Only messages with all these words, or words that begin with them
    #[arg(long, value_name = "WORDS")]
    search: Option<String>,
}

pub(crate) async fn run(args: HistoryArgs, common: &Common) -> Result<()> {
    let profile = Profile::open(&common.profile_dir()?)?;
    let password = password::for_unlocking(common, &profile)?;
    let json = common.json;
    let lines = spawn_blocking(move || {
        profile.unlock(password.as_ref())?;
        let (history, people) = (profile.history()?, People::of(&profile)?);
        let entries = match &args.search {
            Some(words) => people.found(&history, words, args.user.as_deref(), args.last)?,
            None => people.last(&history, args.user.as_deref(), args.last)?,
        };
        let damaged = history.damaged_count();
        let show = |entry: &HistoryEntry| {
            if json {
                people.json(entry).to_string()
            } else {
                people.line(entry)
            }
        };
        Ok::<_, color_eyre::Report>((entries.iter().map(show).collect::<Vec<String>>(), damaged))
    });
    let (lines, damaged) = lines.await??;
    for line in lines {
        out::line(&line)?;
    }
    if damaged > 0 {
        out::note(&format!(
            "socp: {damaged} of what this profile keeps cannot be read: it was altered, or the disk is damaged; restore the \
             profile from a backup if you need it"
        ));
    }
    Ok(())
}

/// Everyone whom the profile knows, by id.
pub(crate) struct People(BTreeMap<String, Person>);

impl People {
    pub(crate) fn of(profile: &Profile) -> Result<Self> {
        let people = profile.pins()?.iter().map(UserPin::person).collect::<Vec<_>>();
        let people = people
            .into_iter()
            .map(|person| (person.user_id.as_str().to_owned(), person));
        Ok(Self(people.collect()))
    }

    fn find(&self, user: Option<&str>) -> Result<Option<Person>> {
        let everyone: Vec<Person> = self.0.values().cloned().collect();
        Ok(user.map(|text| resolve(text, &everyone)).transpose()?)
    }

    /// The last messages, with one user or with everyone.
    pub(crate) fn last(&self, history: &History, user: Option<&str>, count: usize) -> Result<Vec<HistoryEntry>> {
        let person = self.find(user)?;
        Ok(history.last(person.as_ref().map(|person| &person.user_id), count)?)
    }

    /// The last messages with these words.
    pub(crate) fn found(
        &self,
        history: &History,
        words: &str,
        user: Option<&str>,
        count: usize,
    ) -> Result<Vec<HistoryEntry>> {
        let Some(person) = self.find(user)? else {
            return Ok(history.search(words, count)?);
        };
        let mut entries = history.search(words, usize::MAX)?;
        entries.retain(|entry| entry.peer.as_ref() == Some(&person.user_id));
        let more = entries.len().saturating_sub(count);
        Ok(entries.split_off(more))
    }

    fn name(&self, entry: &HistoryEntry) -> String {
        let Some(peer) = &entry.peer else {
            return "nobody".to_owned();
        };
        let person = self.0.get(peer.as_str());
        person.map_or_else(|| peer.as_str().to_owned(), show::name)
    }

    /// One line for people.
    pub(crate) fn line(&self, entry: &HistoryEntry) -> String {
        let (when, name, text) = (show::day_and_clock(entry.ts), self.name(entry), safe(&entry.text));
        match entry.direction {
            Direction::In => {
                let late = if entry.is_late { " (late)" } else { "" };
                let missing = entry.gap.map(|gap| format!(" (after a gap of {})", gap.count()));
                format!("[{when}] {name}{late}{}: {text}", missing.unwrap_or_default())
            }
            Direction::Notice => format!("[{when}] ! {text}"),
            Direction::Out => {
                let state = match (&entry.why, entry.state) {
                    (Some(why), PostState::Failed) => format!("failed: {}", safe(why)),
                    (_, state) => state.words().to_owned(),
                };
                format!("[{when}] → {name}: {text} ({state})")
            }
        }
    }

    fn json(&self, entry: &HistoryEntry) -> Value {
        let direction = match entry.direction {
            Direction::In => "in",
            Direction::Out => "out",
            Direction::Notice => "notice",
        };
        json!({
            "event": "history", "id": entry.msg_ref, "direction": direction,
            "peer": entry.peer.as_ref().map(|id| id.as_str()), "name": self.name(entry), "text": entry.text,
            "ts": entry.ts, "state": (entry.direction == Direction::Out).then(|| entry.state.as_str()),
            "why": entry.why, "late": entry.is_late, "missing": entry.gap.map(|gap| gap.count()),
        })
    }
}

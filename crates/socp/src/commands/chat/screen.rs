//! Where a chat is shown: a terminal with a prompt, a pipe, or a script that reads JSON.

use super::edit::{PROMPT, Terminal};
use crate::commands::file;
use crate::safe_text::safe;
use crate::{out, show};
use color_eyre::eyre::Result;
use serde_json::json;
use socp_client::{ChannelReport, Event, FileProgress, FileReport, Person, PostNews, PostState, Receipt, Source};
use std::io::{self, IsTerminal as _};

/// Back to the first column, and clear the line (ECMA-48).
pub(super) const CLEAR_LINE: &str = "\r\u{1b}[K";

pub(super) struct Screen {
    kind: Kind,
    last_words: Option<String>,
}

enum Kind {
    Json,
    /// Lines, and nothing else.
    Pipe,
    /// A terminal that edits what is typed by itself, and knows nothing of what we print.
    Simple,
    /// A terminal on which we edit.
    Edited(Terminal),
}

impl Screen {
    /// With no `terminal`, lines are read from standard input as they are.
    pub(super) fn new(json: bool, terminal: Option<Terminal>) -> Self {
        let kind = match terminal {
            _ if json => Kind::Json,
            Some(terminal) => Kind::Edited(terminal),
            None if is_terminal() => Kind::Simple,
            None => Kind::Pipe,
        };
        Self { kind, last_words: None }
    }

    pub(super) fn is_json(&self) -> bool {
        matches!(self.kind, Kind::Json)
    }

    /// Why it ended, when it did by itself.
    pub(super) fn last_words(&self) -> String {
        self.last_words
            .clone()
            .unwrap_or_else(|| "the connection has ended".to_owned())
    }

    pub(super) fn prompt(&self) -> Result<()> {
        if matches!(self.kind, Kind::Simple) {
            out::raw(&format!("{CLEAR_LINE}{PROMPT}"))?;
        }
        Ok(())
    }

    /// Leaves the shell's prompt a line of its own.
    pub(super) fn finish(&self) -> Result<()> {
        if matches!(self.kind, Kind::Simple) {
            out::raw(CLEAR_LINE)?;
        }
        Ok(())
    }

    pub(super) fn event(&mut self, event: &Event) -> Result<()> {
        if let Event::Stopped(stop) = event {
            self.last_words = Some(stop.to_string());
        }
        if self.is_json() {
            return show::as_json(event).map_or(Ok(()), |object| Ok(out::json(&object)?));
        }
        match show::human(event) {
            Some(line) => self.line(&line),
            None => Ok(()),
        }
    }

    pub(super) fn sent(&self, to: &Person, text: &str, receipt: &Receipt) -> Result<()> {
        if self.is_json() {
            return Ok(out::json(&show::receipt_json(receipt, to))?);
        }
        let is_queued = receipt.state == PostState::Queued;
        let state = if is_queued {
            " (queued here; it goes out when the connection is back)"
        } else {
            ""
        };
        self.line(&format!(
            "[{}] → {}: {}{state}",
            show::clock_now(),
            show::address(to),
            safe(text)
        ))
    }

    /// An own message is further than before.
    pub(super) fn state(&self, news: &PostNews, text: Option<&str>) -> Result<()> {
        let event = Event::Post(news.clone());
        if self.is_json() {
            return show::as_json(&event).map_or(Ok(()), |object| Ok(out::json(&object)?));
        }
        if let Some(line) = show::human(&event) {
            return self.line(&line);
        }
        let text = text.map(|text| format!(": {}", safe(text))).unwrap_or_default();
        let (state, to) = (news.state.words(), show::address(&news.to));
        self.line(&format!("[{}] * {state} → {to}{text}", show::clock_now()))
    }

    /// Lines of what was said before.
    pub(super) fn lines(&self, lines: &[String]) -> Result<()> {
        lines.iter().try_for_each(|line| {
            if self.is_json() {
                self.hint(line)
            } else {
                self.line(line)
            }
        })
    }

    /// Whether a person reads what is shown.
    pub(super) fn is_read(&self) -> bool {
        matches!(self.kind, Kind::Simple | Kind::Edited(_))
    }

    pub(super) fn sent_to_all(&self, text: &str, report: &ChannelReport) -> Result<()> {
        if self.is_json() {
            return Ok(out::json(&show::channel_receipt_json(report))?);
        }
        if !report.sent.is_empty() {
            let how_many = report.sent.len();
            self.line(&format!("[{}] → [all, {how_many}]: {}", show::clock_now(), safe(text)))?;
        }
        match show::channel_failure(report) {
            Some(why) => self.line(&show::remark(&why)),
            None => Ok(()),
        }
    }

    pub(super) fn file_progress(&self, source: &Source, progress: &FileProgress) -> Result<()> {
        if self.is_json() {
            return Ok(out::json(&show::files::leaving_json(source, progress))?);
        }
        let percent = progress
            .sent
            .saturating_mul(100)
            .checked_div(progress.size)
            .unwrap_or(100);
        let (name, to) = (safe(&source.name), file::to_whom(progress));
        self.hint(&format!("{percent} % of {name} sent to {to}"))
    }

    pub(super) fn file_sent(&self, source: &Source, report: &FileReport) -> Result<()> {
        if self.is_json() {
            return show::files::left_json(source, report)
                .iter()
                .try_for_each(|object| Ok(out::json(object)?));
        }
        for line in show::files::left(source, report) {
            self.hint(&line)?;
        }
        match show::files::not_sent(source, report) {
            Some(why) => self.line(&show::remark(&why)),
            None => Ok(()),
        }
    }

    pub(super) fn people<'a>(&self, people: impl Iterator<Item = &'a Person>) -> Result<()> {
        for person in people {
            if self.is_json() {
                out::json(&show::person_json(person))?;
            } else {
                self.line(&format!("{}  {}", person.user_id, show::address(person)))?;
            }
        }
        Ok(())
    }

    /// Something went wrong with what was typed, or was asked for.
    pub(super) fn remark(&self, code: &str, text: &str) -> Result<()> {
        if self.is_json() {
            return Ok(out::json(&json!({ "event": "error", "code": code, "detail": text }))?);
        }
        self.line(&show::remark(text))
    }

    /// Something good to know.
    pub(super) fn hint(&self, text: &str) -> Result<()> {
        if self.is_json() {
            return Ok(out::json(&json!({ "event": "notice", "from": null, "text": text }))?);
        }
        self.line(&format!("[{}] * {text}", show::clock_now()))
    }

    /// One line above the prompt.
    fn line(&self, line: &str) -> Result<()> {
        match &self.kind {
            Kind::Edited(terminal) => terminal.line(line)?,
            Kind::Simple => out::raw(&format!("{CLEAR_LINE}{line}\n{PROMPT}"))?,
            Kind::Json | Kind::Pipe => out::line(line)?,
        }
        Ok(())
    }
}

/// Whether a person types and reads.
pub(super) fn is_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

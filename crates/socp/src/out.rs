//! Standard output and standard error. Nothing else writes to them, but for the chat's line editor and the log.

use crate::safe_text::safe;
use color_eyre::Report;
use std::io::{self, ErrorKind, Write as _};

/// Writes one line, at once.
pub(crate) fn line(text: &str) -> io::Result<()> {
    raw(&format!("{text}\n"))
}

/// Writes one JSON object as one line, at once.
pub(crate) fn json(value: &serde_json::Value) -> io::Result<()> {
    line(&value.to_string())
}

/// Writes as is, at once.
pub(crate) fn raw(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Says in one line on standard error why the program failed.
pub(crate) fn failure(report: &Report) {
    note(&format!("socp: {}", reasons(report)));
}

/// The failure and its causes. Some errors repeat their cause, some explain themselves over several lines.
fn reasons(report: &Report) -> String {
    let mut said = String::new();
    for cause in report.chain() {
        let cause = cause.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ");
        if said.is_empty() {
            said = cause;
        } else if !said.contains(&cause) {
            said = format!("{said}: {cause}");
        }
    }
    said
}

/// Writes one line to standard error.
pub(crate) fn note(text: &str) {
    if writeln!(io::stderr().lock(), "{}", safe(text)).is_err() {
        tracing::debug!("standard error is closed");
    }
}

/// Whether the failure is that nobody reads our output any more.
pub(crate) fn is_broken_pipe(report: &Report) -> bool {
    let is_it = |error: &io::Error| error.kind() == ErrorKind::BrokenPipe;
    report.downcast_ref::<io::Error>().is_some_and(is_it)
}

#[cfg(test)]
mod tests {
    use super::reasons;
    use color_eyre::eyre::eyre;

    #[test]
    fn causes_are_named_once_and_on_one_line() {
        let report = eyre!("no such file\n  in here")
            .wrap_err("cannot read: no such file in here")
            .wrap_err("cannot start");
        assert_eq!(reasons(&report), "cannot start: cannot read: no such file in here");
    }
}

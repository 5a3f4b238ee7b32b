//! Standard output and standard error, and nothing else writes to them.

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
    let causes: Vec<String> = report.chain().map(ToString::to_string).collect();
    note(&format!("socp: {}", causes.join(": ")));
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

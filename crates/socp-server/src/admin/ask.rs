//! The operator's side: asks a running server, or looks into the directory of a stopped one.

use super::{Ask, Line, PinRow, ROW_BYTES_MAX, Refusal, Row, WAIT_MAX, path};
use crate::data_dir;
use crate::error::ServerError;
use crate::store::Database;
use socp_core::server::{Record, SaveId};
use socp_proto::ServerId;
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No such directory.
    #[error("there is no data directory {}; name the one that the server was started with, with --data", path.display())]
    NoDirectory {
        /// Which.
        path: PathBuf,
    },
    /// No server runs on it.
    #[error("no server is running on {}; start it with `socp serve --data`", path.display())]
    NotRunning {
        /// Which.
        path: PathBuf,
    },
    /// The socket may not be opened.
    #[error("may not ask the server on {}: run this as the user that the server runs as", path.display())]
    NotAllowed {
        /// Which.
        path: PathBuf,
    },
    /// The server said no.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// The connection failed.
    #[error("cannot ask the server on {}: {source}", path.display())]
    Connection {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something that is no answer came back.
    #[error("the server on {} gave an answer that this program does not understand: {reason}; is it another version?", path.display())]
    Answer {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The directory of a stopped server cannot be used.
    #[error(transparent)]
    Stopped(#[from] ServerError),
}

/// Asks the server that runs on a data directory. Blocks for some seconds at most, if the server does not answer.
///
/// # Errors
/// [`AdminError`] says why there is no answer and what to do.
pub fn ask(dir: &Path, ask: &Ask) -> Result<Vec<Row>, AdminError> {
    if !dir.is_dir() {
        return Err(AdminError::NoDirectory { path: dir.to_owned() });
    }
    let failed = |source: io::Error| refine(dir, source);
    let mut stream = path::with_short(dir, |short| UnixStream::connect(short)).map_err(failed)?;
    stream.set_read_timeout(Some(WAIT_MAX)).map_err(failed)?;
    stream.set_write_timeout(Some(WAIT_MAX)).map_err(failed)?;
    let mut request = serde_json::to_string(ask).map_err(|error| failed(error.into()))?;
    request.push('\n');
    // A server that refuses the connection has said why before it could read: that is read below.
    let written = stream.write_all(request.as_bytes());
    let rows = read_rows(dir, BufReader::new(stream));
    match (written, rows) {
        (Err(error), Err(AdminError::Answer { .. })) => Err(failed(error)),
        (_, rows) => rows,
    }
}

fn refine(dir: &Path, source: io::Error) -> AdminError {
    let path = dir.to_owned();
    // Without a socket there is no server; with one that nobody listens at it was killed.
    if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) {
        return AdminError::NotRunning { path };
    }
    if source.kind() == ErrorKind::PermissionDenied {
        return AdminError::NotAllowed { path };
    }
    if matches!(source.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
        let source = io::Error::new(
            ErrorKind::TimedOut,
            format!("no answer within {} s", WAIT_MAX.as_secs()),
        );
        return AdminError::Connection { path, source };
    }
    AdminError::Connection { path, source }
}

fn read_rows(dir: &Path, mut reading: BufReader<UnixStream>) -> Result<Vec<Row>, AdminError> {
    let strange = |reason: String| AdminError::Answer {
        path: dir.to_owned(),
        reason,
    };
    let most = u64::try_from(ROW_BYTES_MAX).unwrap_or(u64::MAX);
    let mut rows = Vec::new();
    loop {
        let mut text = Vec::new();
        let read = reading.by_ref().take(most).read_until(b'\n', &mut text);
        read.map_err(|source| refine(dir, source))?;
        if text.last() != Some(&b'\n') {
            return Err(strange("it ended in the middle".to_owned()));
        }
        match serde_json::from_slice(&text).map_err(|error| strange(error.to_string()))? {
            Line::Status(row) => rows.push(Row::Status(row)),
            Line::Link(row) => rows.push(Row::Link(row)),
            Line::User(row) => rows.push(Row::User(row)),
            Line::Pin(row) => rows.push(Row::Pin(row)),
            Line::Backup(row) => rows.push(Row::Backup(row)),
            Line::Copied { .. } => {} // It goes on.
            Line::End { .. } => return Ok(rows),
            Line::Refused(refusal) => return Err(AdminError::Refused(refusal)),
        }
    }
}

/// The pins in the directory of a server that is stopped.
///
/// # Errors
/// [`AdminError`], also if a server runs on it.
pub fn pins_of_stopped(dir: &Path) -> Result<Vec<PinRow>, AdminError> {
    let (_lock, database, path) = open_stopped(dir)?;
    let memory = database.read(&path)?.memory;
    Ok(memory.pins.iter().map(|pin| PinRow::new(pin, None)).collect())
}

/// Forgets a pin in the directory of a server that is stopped.
///
/// # Errors
/// [`AdminError`], also if a server runs on it or the pin is not there.
pub fn unpin_of_stopped(dir: &Path, server: &str) -> Result<PinRow, AdminError> {
    let (_lock, database, path) = open_stopped(dir)?;
    let id = ServerId::try_from(server)
        .map_err(|error| AdminError::Refused(Refusal::new("bad_request", format!("{server:?} {error}"))))?;
    let pins = database.read(&path)?.memory.pins;
    let pin = pins.iter().find(|pin| pin.server_id == id);
    let pin = pin.ok_or_else(|| AdminError::Refused(Refusal::unknown_pin(&id)))?;
    database.write(&path, &[(SaveId(0), Record::Unpinned(id))])?;
    Ok(PinRow::new(pin, None))
}

/// The lock is held as long as the first value lives.
fn open_stopped(dir: &Path) -> Result<(std::fs::File, Database, PathBuf), AdminError> {
    let path = dir.join("server.db");
    // Nothing is made where there was nothing.
    if !path.exists() {
        return Err(AdminError::NotRunning { path: dir.to_owned() });
    }
    let lock = data_dir::lock(dir)?;
    let database = Database::open(&path)?;
    Ok((lock, database, path))
}

//! The server's side: who asks is checked, what is asked is passed to the hub, and nobody can make it wait.

use super::{
    Ask, CONNECTIONS_COUNT_MAX, Line, LinkRow, PinRow, REQUEST_BYTES_MAX, Refusal, StatusRow, UserRow, WAIT_MAX, path,
};
use crate::Ready;
use crate::backup::Unfinished;
use crate::hub::HubMessage;
use crate::hub::answers::Question;
use crate::metrics::Metrics;
use crate::store::{CopyJob, Copying, StoreHealth};
use socp_proto::ServerId;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;

/// A pause after a failed accept, so that a full machine is not made busier.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often whoever waits for a backup is told how far it is.
const COPY_NEWS_INTERVAL: Duration = Duration::from_secs(1);

/// Rows that are written at once.
const WRITE_BYTES: usize = 64 * 1024;

/// Answers what operators ask.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) ready: Ready,
    pub(crate) takes_users: bool,
    pub(crate) hub: mpsc::Sender<HubMessage>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: StoreHealth,
    /// The data directory.
    pub(crate) data: PathBuf,
    /// One backup at a time.
    pub(crate) backups: Semaphore,
}

/// A socket that listens; gone from the directory when dropped.
#[derive(Debug)]
pub(crate) struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    owner: u32,
}

/// Opens the socket in a data directory whose lock we hold, so that whatever is there is left over from a dead server.
pub(crate) fn open(dir: &Path) -> io::Result<AdminSocket> {
    let path = path::of(dir);
    match std::fs::symlink_metadata(&path) {
        Ok(there) if there.file_type().is_socket() => std::fs::remove_file(&path)?,
        Ok(_) => return Err(io::Error::new(ErrorKind::AlreadyExists, "something else has its name")),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = path::with_short(dir, |short| UnixListener::bind(short))?;
    // Until here anybody may connect whom the directory lets in; who is not its owner is sent away below.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let owner = std::fs::symlink_metadata(&path)?.uid();
    Ok(AdminSocket { listener, path, owner })
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "the admin socket is gone already");
        }
    }
}

impl AdminSocket {
    /// Serves until told to stop; then the socket is gone.
    pub(crate) async fn serve(self, desk: Arc<Desk>, mut stop: watch::Receiver<bool>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_COUNT_MAX));
        // Whoever is still being served when this ends is cut off with it.
        let mut served = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = async { let _stop = stop.wait_for(|stop| *stop).await.map(drop); } => return,
            };
            while served.try_join_next().is_some() {}
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an admin connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if let Err(refusal) = self.judge(&stream) {
                say_at_once(&stream, refusal);
                continue;
            }
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                let why = format!("{CONNECTIONS_COUNT_MAX} admin connections are open already; try again");
                say_at_once(&stream, Refusal::new("busy", why));
                continue;
            };
            let desk = Arc::clone(&desk);
            served.spawn(async move {
                if let Err(error) = desk.serve(stream).await {
                    tracing::debug!(%error, "an admin connection ended");
                }
                drop(place);
            });
        }
    }

    /// The socket's mode keeps others out; this does so too where a directory or system does not honour it.
    fn judge(&self, stream: &UnixStream) -> Result<(), Refusal> {
        match stream.peer_cred() {
            Ok(who) if who.uid() == self.owner || who.uid() == 0 => Ok(()),
            Ok(who) => {
                tracing::warn!(uid = who.uid(), "an admin connection of another user was refused");
                Err(Refusal::new(
                    "not_allowed",
                    "only the owner of the data directory may ask",
                ))
            }
            Err(error) => Err(Refusal::new("not_allowed", format!("cannot tell who you are: {error}"))),
        }
    }
}

/// A refusal that nobody waits for: it fits into an empty socket's buffer.
fn say_at_once(stream: &UnixStream, refusal: Refusal) {
    if let Ok(text) = line_text(&Line::Refused(refusal))
        && let Err(error) = stream.try_write(text.as_bytes())
    {
        tracing::debug!(%error, "an admin connection was refused and did not hear it");
    }
}

fn line_text(line: &Line) -> io::Result<String> {
    let mut text = serde_json::to_string(line).map_err(io::Error::from)?;
    text.push('\n');
    Ok(text)
}

impl Desk {
    /// Answers one connection's requests until it ends, errs or is silent.
    async fn serve(&self, stream: UnixStream) -> io::Result<()> {
        let (reading, mut writing) = stream.into_split();
        let mut reading = BufReader::new(reading);
        loop {
            let request = match tokio::time::timeout(WAIT_MAX, read_request(&mut reading)).await {
                Ok(Ok(Some(request))) => request,
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(refusal)) => return write_lines(&mut writing, [Line::Refused(refusal)]).await,
                Err(_) => {
                    let why = format!("no request within {} s", WAIT_MAX.as_secs());
                    return write_lines(&mut writing, [Line::Refused(Refusal::new("too_slow", why))]).await;
                }
            };
            let answer = match request {
                Ask::Backup { to } => self.back_up(&to, &mut writing).await?,
                ask @ (Ask::Status | Ask::Links | Ask::Users | Ask::Pins | Ask::Unpin { .. }) => self.answer(ask).await,
            };
            let lines = match answer {
                Ok(lines) => lines,
                Err(refusal) => vec![Line::Refused(refusal)],
            };
            write_lines(&mut writing, lines).await?;
        }
    }

    async fn answer(&self, ask: Ask) -> Result<Vec<Line>, Refusal> {
        let mut lines: Vec<Line> = match ask {
            Ask::Status => vec![Line::Status(self.status().await?)],
            Ask::Links => {
                let rows: Vec<LinkRow> = self.ask(Question::Links).await?;
                rows.into_iter().map(Line::Link).collect()
            }
            Ask::Users => {
                let rows: Vec<UserRow> = self.ask(Question::Users).await?;
                rows.into_iter().map(Line::User).collect()
            }
            Ask::Pins => {
                let rows: Vec<PinRow> = self.ask(Question::Pins).await?;
                rows.into_iter().map(Line::Pin).collect()
            }
            Ask::Backup { .. } => return Err(Refusal::new("bad_request", "a backup is not answered in rows")),
            Ask::Unpin { server } => {
                let id = ServerId::try_from(server.as_str())
                    .map_err(|error| Refusal::new("bad_request", format!("`server`: {error}")))?;
                vec![Line::Pin(self.ask(|answer| Question::Unpin(id, answer)).await??)]
            }
        };
        let rows = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        lines.push(Line::End { rows });
        Ok(lines)
    }

    /// Makes a backup, and says how far it is meanwhile. The outer error is the connection's.
    async fn back_up(&self, to: &Path, writing: &mut OwnedWriteHalf) -> io::Result<Result<Vec<Line>, Refusal>> {
        if !to.is_absolute() {
            let why = format!("`to`: {} does not begin at the root", to.display());
            return Ok(Err(Refusal::new("bad_request", why)));
        }
        let Ok(_only) = self.backups.try_acquire() else {
            return Ok(Err(Refusal::new("busy", "another backup is being made; try again")));
        };
        let (data, place) = (self.data.clone(), to.to_owned());
        let begun = tokio::task::spawn_blocking(move || Unfinished::begin(&data, &place)).await?;
        let unfinished = match begun {
            Ok(unfinished) => unfinished,
            Err(error) => return Ok(Err(Refusal::new("no_backup", error.to_string()))),
        };
        let (answer, mut copying) = mpsc::unbounded_channel();
        let job = CopyJob {
            to: unfinished.database(),
            answer,
        };
        if self.hub.send(HubMessage::Asked(Question::Copy(job))).await.is_err() {
            return Ok(Err(Refusal::stopping()));
        }
        let made_at = match follow(&mut copying, writing).await? {
            Ok(made_at) => made_at,
            Err(reason) => {
                let why = format!("the database could not be copied to {}: {reason}", to.display());
                return Ok(Err(Refusal::new("no_backup", why)));
            }
        };
        let (data, server_id) = (self.data.clone(), self.ready.server_id.clone());
        let mut finishing = tokio::task::spawn_blocking(move || unfinished.finish(&data, server_id, made_at));
        let finished = loop {
            match tokio::time::timeout(COPY_NEWS_INTERVAL, &mut finishing).await {
                Ok(finished) => break finished?,
                // A large copy takes its time to be read once more and to be on disk.
                Err(_) => write_lines(writing, [Line::Copied { pages: 0, of: 0 }]).await?,
            }
        };
        Ok(match finished {
            Ok(manifest) => {
                tracing::info!(to = %to.display(), bytes = manifest.bytes(), "a backup was made");
                Ok(vec![Line::Backup(manifest), Line::End { rows: 1 }])
            }
            Err(error) => Err(Refusal::new("no_backup", error.to_string())),
        })
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Result<T, Refusal> {
        let (answer, answered) = oneshot::channel();
        let asking = async {
            let message = HubMessage::Asked(question(answer));
            self.hub.send(message).await.map_err(|_| Refusal::stopping())?;
            answered.await.map_err(|_| Refusal::stopping())
        };
        tokio::time::timeout(WAIT_MAX, asking)
            .await
            .map_err(|_| Refusal::new("busy", "the server is too busy to answer; try again"))?
    }

    async fn status(&self) -> Result<StatusRow, Refusal> {
        let hub = self.ask(Question::Status).await?;
        let (core, links) = (hub.core, hub.links);
        Ok(StatusRow {
            server_id: core.server_id.as_str().to_owned(),
            name: self.ready.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            fingerprint: self.ready.fingerprint().to_string(),
            listen: self.ready.listen.to_string(),
            uptime_s: self.metrics.uptime().as_secs(),
            takes_users: self.takes_users,
            peers: core.peers,
            links: links.new.saturating_add(links.peers).saturating_add(links.users),
            local_users: core.local_users,
            remote_users: core.remote_users,
            stale_users: core.stale_users,
            home_users: core.records,
            pins: core.pins,
            channel_version: core.channel_version,
            hub_queue: hub.hub_queue,
            pool_queue: self.metrics.pool_queue.get(),
            store_failure: self.health.failure(),
        })
    }
}

/// Waits for a copy, and says how far it is meanwhile; why there is none. The outer error is the connection's.
async fn follow(
    copying: &mut mpsc::UnboundedReceiver<Copying>,
    writing: &mut OwnedWriteHalf,
) -> io::Result<Result<u64, String>> {
    let mut told_at = Instant::now();
    loop {
        match copying.recv().await {
            Some(Copying::Goes { pages, of }) if told_at.elapsed() >= COPY_NEWS_INTERVAL => {
                told_at = Instant::now();
                write_lines(writing, [Line::Copied { pages, of }]).await?;
            }
            Some(Copying::Goes { .. }) => {}
            Some(Copying::Ended(ended)) => return Ok(ended),
            None => return Ok(Err("the server stops".to_owned())),
        }
    }
}

/// The next request; none at the end.
async fn read_request(reading: &mut BufReader<OwnedReadHalf>) -> Result<Option<Ask>, Refusal> {
    let bad = |message: String| Refusal::new("bad_request", message);
    let most = u64::try_from(REQUEST_BYTES_MAX).unwrap_or(u64::MAX);
    let mut line = Vec::new();
    let read = reading.take(most.saturating_add(1)).read_until(b'\n', &mut line).await;
    read.map_err(|error| bad(error.to_string()))?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.len() > REQUEST_BYTES_MAX {
        return Err(bad(format!("a request has at most {REQUEST_BYTES_MAX} bytes")));
    }
    serde_json::from_slice(&line)
        .map(Some)
        .map_err(|error| bad(format!("not a request: {error}; one looks like {{\"ask\":\"status\"}}")))
}

/// Writes lines, as many at once as make sense; who does not read is cut off.
async fn write_lines(writing: &mut OwnedWriteHalf, lines: impl IntoIterator<Item = Line>) -> io::Result<()> {
    let mut text = String::new();
    let mut lines = lines.into_iter().peekable();
    while let Some(line) = lines.next() {
        text.push_str(&line_text(&line)?);
        if text.len() >= WRITE_BYTES || lines.peek().is_none() {
            let written = tokio::time::timeout(WAIT_MAX, writing.write_all(text.as_bytes())).await;
            written.map_err(|_| io::Error::from(ErrorKind::TimedOut))??;
            text.clear();
        }
    }
    Ok(())
}

//! One link, from its opening to its end.

use super::{Driver, EVENTS_COUNT_MAX, JOBS_COUNT_MAX, Socket, send_next};
use crate::elsewhere::Told;
use crate::error::ClientError;
use crate::worker::Done;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use socp_core::client::{Event, Input};
use socp_proto::Bytes32;
use socp_proto::limits::{PING_INTERVAL_MS, PING_UNANSWERED_COUNT_MAX};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::{self, Message};

/// A link that does not take our frames for this long is dead.
const WRITE_WAIT_MAX: Duration = Duration::from_secs(15);
/// How long the server may take to answer our leave.
const LEAVE_WAIT_MAX: Duration = Duration::from_secs(1);

/// How long leaving waits for key operations and files that are under way; what is not done by then is left.
const LAST_JOBS_WAIT_MAX: Duration = Duration::from_secs(3);

/// How a link ended.
pub(super) enum End {
    /// We left.
    Left,
    /// It broke; the error is for whoever waits for the first connection.
    Lost(String, Option<ClientError>),
    /// Something that connecting again does not mend.
    Fatal(ClientError),
}

impl From<ClientError> for End {
    fn from(error: ClientError) -> Self {
        Self::Fatal(error)
    }
}

fn lost(reason: impl ToString) -> End {
    let reason = reason.to_string();
    End::Lost(reason.clone(), Some(ClientError::Lost(reason)))
}

/// What happened next.
enum Happening {
    Message(Option<Result<Message, tungstenite::Error>>),
    Done(Option<Done>),
    FileDone(Option<Option<Done>>),
    Told(Option<Told>),
    Request(Option<super::Request>),
    EventGone,
    Timeout,
    PinsDue,
    Ping,
    LeaveDue,
}

impl Driver {
    pub(super) async fn serve(&mut self, socket: Socket, tls: Option<Bytes32>) -> End {
        let (mut sink, stream) = socket.split();
        self.is_linked = true;
        self.delegate = None;
        self.input(Input::Connected { tls });
        let end = match self.pump(&mut sink, stream).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        self.is_linked = false;
        // What was signed for this link must not go over the next.
        // There is no next when we leave: nothing is waited for beyond the time that leaving has.
        while !self.is_leaving && self.worker.under_way() > 0 {
            match self.worker.next().await {
                Some(Done::Input(input)) => self.input(*input),
                Some(Done::Made(made)) => self.on_made(made).await,
                Some(Done::Signed(_) | Done::Fault(_)) => {}
                None => return ClientError::Ended.into(),
            }
        }
        let reason = match &end {
            End::Left => "closed".to_owned(),
            End::Lost(reason, _) => reason.clone(),
            End::Fatal(error) => error.to_string(),
        };
        self.input(Input::Disconnected { reason });
        match (self.drain().await, end) {
            (Err(error), End::Left | End::Lost(..)) => End::Fatal(error),
            (_, end) => end,
        }
    }

    async fn pump(
        &mut self,
        sink: &mut SplitSink<Socket, Message>,
        mut stream: SplitStream<Socket>,
    ) -> Result<std::convert::Infallible, End> {
        let period = Duration::from_millis(PING_INTERVAL_MS);
        let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
        let mut last_heard = Instant::now();
        let mut leave_by = None;
        loop {
            self.drain().await?;
            if self.is_abandoned() {
                self.is_leaving = true;
            }
            if self.is_leaving {
                leave_by.get_or_insert_with(|| Instant::now() + LAST_JOBS_WAIT_MAX);
            }
            let is_late = leave_by.is_some_and(|at| at <= Instant::now());
            if is_late && self.jobs_under_way() > 0 {
                tracing::debug!("left before all that was under way was done");
            }
            if is_late || (self.is_leaving && self.jobs_under_way() == 0) {
                return Err(self.leave(sink).await);
            }
            match self.next_happening(&mut stream, &mut ping, leave_by).await {
                Happening::Message(message) => {
                    last_heard = Instant::now();
                    self.on_message(message).await?;
                }
                Happening::Done(Some(Done::Signed(text))) => write(sink, Message::text(text), leave_by).await?,
                Happening::Done(Some(Done::Input(input))) => self.input(*input),
                Happening::Done(Some(Done::Made(made))) => self.on_made(made).await,
                Happening::Done(Some(Done::Fault(fault))) => {
                    return Err(ClientError::from(fault).into());
                }
                Happening::Done(None) => return Err(ClientError::Ended.into()),
                Happening::FileDone(done) => self.on_file_done(done)?,
                Happening::Told(Some(told)) => self.on_told(told),
                Happening::Request(request) => {
                    self.read_decisions().await?;
                    self.on_maybe_request(request);
                }
                // The next drain does the rest.
                Happening::Told(None) | Happening::EventGone | Happening::PinsDue | Happening::LeaveDue => {}
                Happening::Timeout => {
                    let now = self.clock.now();
                    self.core.handle_timeout(now);
                }
                Happening::Ping => {
                    self.read_decisions().await?;
                    let silence_max = PING_INTERVAL_MS * u64::from(PING_UNANSWERED_COUNT_MAX);
                    if self.is_reading() && last_heard.elapsed() > Duration::from_millis(silence_max) {
                        return Err(lost("the server has gone silent"));
                    }
                    write(sink, Message::Ping(Vec::new().into()), leave_by).await?;
                }
            }
        }
    }

    async fn next_happening(
        &mut self,
        stream: &mut SplitStream<Socket>,
        ping: &mut tokio::time::Interval,
        leave_by: Option<Instant>,
    ) -> Happening {
        let is_reading = self.is_reading();
        let timeout = self.core.poll_timeout().map(|mono| self.clock.instant(mono));
        let pins_due = self.next_due();
        tokio::select! {
            message = stream.next(), if is_reading => Happening::Message(message),
            done = self.worker.next() => Happening::Done(done),
            done = self.files.next() => Happening::FileDone(done),
            told = self.elsewhere.next() => Happening::Told(told),
            request = self.requests.recv(), if self.requests_are_open && !self.is_leaving => {
                Happening::Request(request)
            }
            permit = self.events.reserve(), if !self.pending.is_empty() => {
                send_next(permit, &mut self.pending);
                Happening::EventGone
            }
            () = until(timeout) => Happening::Timeout,
            () = until(pins_due) => Happening::PinsDue,
            _ = ping.tick() => Happening::Ping,
            () = until(leave_by) => Happening::LeaveDue,
        }
    }

    /// What another server says, or that it cannot be asked.
    fn on_told(&mut self, told: Told) {
        match told {
            Told::Keys {
                user,
                keys,
                history,
                by,
            } => self.input(Input::Vouched {
                user,
                keys,
                history,
                by,
            }),
            Told::NoWitness(text) => self.pending.push_back(Event::Notice { from: None, text }),
            // Not told to anybody.
            Told::Done => {}
        }
    }

    /// Who leaves hears no more: each frame could bring new work.
    fn is_reading(&self) -> bool {
        !self.is_leaving
            && !self.desk.is_catching_up()
            && self.pending.len() < EVENTS_COUNT_MAX
            && self.jobs_under_way() < JOBS_COUNT_MAX
    }

    fn jobs_under_way(&self) -> usize {
        let others = self.files.under_way().saturating_add(self.elsewhere.under_way());
        self.worker.under_way().saturating_add(others)
    }

    async fn on_message(&mut self, message: Option<Result<Message, tungstenite::Error>>) -> Result<(), End> {
        match message {
            Some(Ok(Message::Text(text))) => Ok(self.on_text(text.as_str().to_owned()).await?),
            Some(Ok(Message::Binary(_))) => Err(lost("the server sent a binary message")),
            Some(Ok(Message::Close(Some(frame)))) => {
                let code = u16::from(frame.code);
                Err(lost(format!(
                    "the server closed it ({code} {:?})",
                    frame.reason.as_str()
                )))
            }
            Some(Ok(Message::Close(None))) | None => Err(lost("the server closed it")),
            // The library answers pings itself.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(()),
            Some(Err(error)) => Err(lost(error)),
        }
    }

    /// Closes the link, or at least stops using it.
    async fn leave(&mut self, sink: &mut SplitSink<Socket, Message>) -> End {
        match tokio::time::timeout(LEAVE_WAIT_MAX, sink.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the link ended before it was closed"),
            Err(_elapsed) => tracing::debug!("the server did not take the close"),
        }
        match self.stopped.take() {
            Some(stopped) => End::Fatal(stopped),
            None => End::Left,
        }
    }
}

pub(super) async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Gives up after [`WRITE_WAIT_MAX`], or when the time to leave has come.
async fn write(sink: &mut SplitSink<Socket, Message>, message: Message, leave_by: Option<Instant>) -> Result<(), End> {
    let wait = leave_by.map_or(WRITE_WAIT_MAX, |at| at.saturating_duration_since(Instant::now()));
    match tokio::time::timeout(wait, sink.send(message)).await {
        Ok(sent) => sent.map_err(lost),
        Err(_elapsed) => Err(lost("the server does not take what we send")),
    }
}

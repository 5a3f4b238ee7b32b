//! The task that owns the socket and the state machine.
//!
//! It feeds `socp-core`'s client and does what that asks, in order: a pin is stored before anything that rests on it
//! happens. Key operations are the [`Worker`]'s. What arrives while the faces do not read waits here up to a limit; then
//! the socket is not read either, so that the server feels it.

mod between;
mod clock;
mod held;
mod post;
mod pump;

use crate::client::{Options, Receipt};
use crate::elsewhere::Elsewhere;
use crate::error::ClientError;
use crate::files::{FileJob, FileLane, OutgoingFile};
use crate::histories::Histories;
use crate::link::{Backoff, Socket};
use crate::profile::Profile;
use crate::seal::{self, Delegate, SealCheck};
use crate::worker::{Done, Job, Saying, Worker};
use clock::Clock;
use post::{Desk, Kept};
use pump::End;
use socp_core::Verified;
use socp_core::client::{
    AccountChange, AccountFault, ChannelReport, Client as Core, Command, Config, Event, FileProgress, FileReport,
    FileWork, Input, Output, PasswordFault, Person, PostState, Program, ResolveError, Sealed, SendFault, ServerPin,
    Stop, Target, TellFault, Ticket, TrustRecord, UserPin,
};
use socp_crypto::{CryptoError, PublicKey, UserKeys, random_bytes};
use socp_proto::payload::{MailboxRequest, RegisterFinish, RegistrationRequest, RegistrationResponse};
use socp_proto::{Fingerprint, Frame, KeyText, Meta, ServerId, UserId, Voice};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;

/// Events that may wait for a face before the socket is no longer read.
const EVENTS_COUNT_MAX: usize = 1_024;
/// Key operations that may be under way before the socket is no longer read.
const JOBS_COUNT_MAX: usize = 256;
/// Pins that are stored in one transaction.
const PINS_COUNT_MAX: usize = 1_024;
/// How long a pin on which nothing rests yet may wait for others, so that they share a transaction.
const PINS_WAIT_MAX: Duration = Duration::from_millis(100);

/// What a handle asks for.
#[derive(Debug)]
pub(crate) enum Request {
    Tell {
        to: UserId,
        text: String,
        reply: oneshot::Sender<Result<Receipt, TellFault>>,
    },
    /// A face has shown a message, and somebody has read it or not.
    Shown {
        msg_ref: String,
        is_read: bool,
    },
    TellAll {
        text: String,
        reply: oneshot::Sender<Result<ChannelReport, TellFault>>,
    },
    SendFile {
        target: Target,
        file: OutgoingFile,
        progress: mpsc::Sender<FileProgress>,
        reply: oneshot::Sender<Result<FileReport, SendFault>>,
    },
    List {
        reply: oneshot::Sender<Result<Vec<Person>, String>>,
    },
    Resolve {
        text: String,
        reply: oneshot::Sender<Result<Person, ResolveError>>,
    },
    BeginPassword {
        request: RegistrationRequest,
        reply: PasswordBegun,
    },
    FinishPassword {
        finish: Box<RegisterFinish>,
        reply: oneshot::Sender<Result<(), PasswordFault>>,
    },
    ChangeAccount {
        change: AccountChange,
        reply: oneshot::Sender<Result<(), AccountFault>>,
    },
    /// Whether the server knows such changes.
    CanChangeAccount {
        reply: oneshot::Sender<bool>,
    },
    Close,
}

/// Who waits for the server's part of a new password.
type PasswordBegun = oneshot::Sender<Result<(ServerId, RegistrationResponse), PasswordFault>>;

/// Who waits for the end of a command.
#[derive(Debug)]
enum Waiter {
    Tell {
        to: UserId,
        text: String,
        reply: oneshot::Sender<Result<Receipt, TellFault>>,
    },
    TellAll(oneshot::Sender<Result<ChannelReport, TellFault>>),
    SendFile {
        progress: mpsc::Sender<FileProgress>,
        reply: oneshot::Sender<Result<FileReport, SendFault>>,
    },
    List(oneshot::Sender<Result<Vec<Person>, String>>),
    Resolve(oneshot::Sender<Result<Person, ResolveError>>),
    BeginPassword(PasswordBegun),
    FinishPassword(oneshot::Sender<Result<(), PasswordFault>>),
    ChangeAccount(oneshot::Sender<Result<(), AccountFault>>),
}

/// How long the last work on files may take when we end.
const FILES_END_WAIT_MAX: Duration = Duration::from_secs(2);

/// Connects and lets the driver run; what arrives comes out of the returned channel.
pub(crate) async fn start(
    profile: Profile,
    keys: UserKeys,
    options: Options,
    requests: mpsc::Receiver<Request>,
) -> Result<mpsc::Receiver<Event>, ClientError> {
    let (events, stream) = mpsc::channel(EVENTS_COUNT_MAX);
    let driver = Driver::new(profile, keys, options, requests, events).await?;
    let (entered, entry) = oneshot::channel();
    tokio::spawn(driver.run(entered));
    entry.await.map_err(|_| ClientError::Ended)??;
    Ok(stream)
}

type Entered = oneshot::Sender<Result<(), ClientError>>;

/// Pins that are not stored yet. Until they are, nothing is done that could rest on one.
#[derive(Debug, Default)]
struct Unsaved {
    pins: Vec<UserPin>,
    /// What users' programs can do, and where they are.
    programs: Vec<Program>,
    due: Option<Instant>,
}

impl Unsaved {
    /// True when there are enough for a transaction.
    fn push(&mut self, pin: UserPin) -> bool {
        self.due.get_or_insert_with(|| Instant::now() + PINS_WAIT_MAX);
        self.pins.push(pin);
        self.pins.len() >= PINS_COUNT_MAX
    }

    fn push_program(&mut self, program: Program) {
        self.due.get_or_insert_with(|| Instant::now() + PINS_WAIT_MAX);
        self.programs.push(program);
    }

    fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }
}

/// Another pin does not, nor that a user came or left.
fn rests_on_no_pin(output: &Output) -> bool {
    matches!(
        output,
        Output::SaveUser(_) | Output::SaveProgram(_) | Output::Event(Event::Presence(_))
    )
}

struct Driver {
    profile: Profile,
    options: Options,
    core: Core,
    clock: Clock,
    worker: Worker,
    files: FileLane,
    elsewhere: Elsewhere,
    /// The profile as this program last read it.
    version_elsewhere: i64,
    /// What the core sends belongs on the link that there is.
    is_linked: bool,
    server_key: Option<(PublicKey, Fingerprint)>,
    /// Which key signs for it on this link.
    delegate: Option<Delegate>,
    requests: mpsc::Receiver<Request>,
    requests_are_open: bool,
    events: mpsc::Sender<Event>,
    pending: VecDeque<Event>,
    unsaved: Unsaved,
    desk: Desk,
    histories: Arc<Histories>,
    waiters: BTreeMap<Ticket, Waiter>,
    next_ticket: Ticket,
    entered: Option<Entered>,
    backoff: Backoff,
    /// The core wants the link closed, once what it queued is out.
    is_leaving: bool,
    /// Why connecting again would not help.
    stopped: Option<ClientError>,
}

impl Driver {
    async fn new(
        profile: Profile,
        keys: UserKeys,
        options: Options,
        requests: mpsc::Receiver<Request>,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, ClientError> {
        let (address, reader) = (options.server.clone(), profile.clone());
        let read = blocking(move || {
            let url = address.as_str();
            let others = reader.other_servers(url)?;
            let version = reader.version_elsewhere()?;
            let read = (reader.server(url)?, reader.pins()?, reader.trust_record()?);
            let mailbox = Kept::read(&reader, read.0.as_ref())?;
            Ok((read, mailbox, (reader.tls_pin(url)?, others, version)))
        });
        let ((server, pins, trust), kept, (tls_pin, others, version_elsewhere)) = read.await?;
        let options = Options {
            server: options.server.or_pin(tls_pin),
            ..options
        };
        let server_key = server.as_ref().map(|pin| parse_key(&pin.key)).transpose()?;
        let downloads = options.downloads.clone();
        let files_max = downloads.as_ref().map(|downloads| downloads.size_max);
        let mut config = config(&profile, server, pins)?;
        config.files_max = files_max;
        config.trust = trust;
        config.voice = kept.voice;
        config.is_acknowledged = kept.after.is_some();
        config.mailbox = options.reads.then_some(MailboxRequest {
            device: kept.device,
            after: kept.after.unwrap_or(0),
        });
        let known_server = config.server.as_ref().map(|server| server.id.clone());
        let desk = Desk::new(kept.history, kept.voice, known_server, kept.born);
        let (core, user) = (Core::new(config), profile.identity().user_id.clone());
        Ok(Self {
            profile,
            options,
            core,
            clock: Clock::start(),
            worker: Worker::start(keys.clone()),
            files: FileLane::start(user, keys, downloads.map(|downloads| downloads.dir)),
            elsewhere: Elsewhere::start(others),
            version_elsewhere,
            is_linked: false,
            server_key,
            delegate: None,
            requests,
            requests_are_open: true,
            events,
            pending: VecDeque::new(),
            unsaved: Unsaved::default(),
            desk,
            histories: Arc::default(),
            waiters: BTreeMap::new(),
            next_ticket: 0,
            entered: None,
            backoff: Backoff::default(),
            is_leaving: false,
            stopped: None,
        })
    }

    /// Link after link, until there is no point in another.
    async fn run(mut self, entered: Entered) {
        self.entered = Some(entered);
        let mut fault = None;
        loop {
            match self.link().await {
                End::Left => break,
                End::Fatal(error) => {
                    fault = Some(error);
                    break;
                }
                End::Lost(_, error) if self.entered.is_some() => {
                    fault = error;
                    break;
                }
                // The core has told the faces.
                End::Lost(..) if !self.options.reconnect => break,
                End::Lost(reason, _) => {
                    tracing::info!(reason, "connection lost");
                    match self.wait_to_redial().await {
                        Ok(()) => {}
                        Err(End::Left | End::Lost(..)) => break,
                        Err(End::Fatal(error)) => {
                            fault = Some(error);
                            break;
                        }
                    }
                }
            }
        }
        self.finish(fault).await;
    }

    /// Tells whoever still waits how it ended.
    async fn finish(mut self, fault: Option<ClientError>) {
        let fault = self.stopped.take().or(fault);
        if let Some(entered) = self.entered.take() {
            let told = entered.send(Err(fault.unwrap_or(ClientError::Ended)));
            if told.is_err() {
                tracing::debug!("nobody waits for the connection any more");
            }
            return;
        }
        match fault {
            // The core has told the faces.
            None | Some(ClientError::Stopped(_)) => {}
            Some(error) => self.pending.push_back(Event::Offline {
                reason: error.to_string(),
            }),
        }
        self.waiters.clear();
        if let Err(error) = self.settle_history(true).await {
            tracing::warn!(%error, "messages may be shown twice");
        }
        // What arrived in part is removed before the program may end, and what is complete is told of.
        match tokio::time::timeout(FILES_END_WAIT_MAX, self.finish_files()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last files are not told of"),
            Err(_elapsed) => tracing::debug!("the disk is slow"),
        }
        self.requests.close();
        for event in std::mem::take(&mut self.pending) {
            if self.events.send(event).await.is_err() {
                return;
            }
        }
    }

    async fn finish_files(&mut self) -> Result<(), ClientError> {
        while self.files.under_way() > 0 {
            let done = self.files.next().await;
            self.on_file_done(done)?;
            self.drain().await?;
        }
        Ok(())
    }

    /// Takes what the thread of the files has done; nothing is its end.
    fn on_file_done(&mut self, done: Option<Option<Done>>) -> Result<(), ClientError> {
        match done.ok_or(ClientError::Ended)? {
            Some(Done::Input(input)) => self.input(*input),
            Some(Done::Signed(_) | Done::Made(_) | Done::Fault(_)) | None => {}
        }
        Ok(())
    }

    fn on_request(&mut self, request: Request) {
        let ticket = self.next_ticket;
        self.next_ticket = ticket.wrapping_add(1);
        let (command, waiter) = match request {
            Request::Tell { to, text, reply } => {
                let waiter = Waiter::Tell {
                    to: to.clone(),
                    text: text.clone(),
                    reply,
                };
                (Command::Tell { ticket, to, text }, Some(waiter))
            }
            Request::Shown { msg_ref, is_read } => return self.desk.on_shown(msg_ref, is_read),
            Request::TellAll { text, reply } => (Command::TellAll { ticket, text }, Some(Waiter::TellAll(reply))),
            Request::SendFile {
                target,
                file,
                progress,
                reply,
            } => {
                let source = file.source().clone();
                let seed = match random_bytes() {
                    Ok(seed) => seed,
                    Err(error) => return forget(reply.send(Err(SendFault::Source(error.to_string())))),
                };
                self.files.ask(FileJob::Source(ticket, file));
                let command = Command::SendFile {
                    ticket,
                    target,
                    source,
                    seed,
                };
                (command, Some(Waiter::SendFile { progress, reply }))
            }
            Request::List { reply } => (Command::List { ticket }, Some(Waiter::List(reply))),
            Request::Resolve { text, reply } => (Command::Resolve { ticket, text }, Some(Waiter::Resolve(reply))),
            Request::BeginPassword { request, reply } => {
                let waiter = Some(Waiter::BeginPassword(reply));
                (Command::BeginPassword { ticket, request }, waiter)
            }
            Request::FinishPassword { finish, reply } => {
                let waiter = Some(Waiter::FinishPassword(reply));
                (Command::FinishPassword { ticket, finish }, waiter)
            }
            Request::ChangeAccount { change, reply } => (
                Command::ChangeAccount { ticket, change },
                Some(Waiter::ChangeAccount(reply)),
            ),
            Request::CanChangeAccount { reply } => return forget(reply.send(self.core.takes_histories())),
            Request::Close => (Command::Close, None),
        };
        if let Some(waiter) = waiter {
            self.waiters.insert(ticket, waiter);
        }
        self.input(Input::Command(command));
    }

    fn input(&mut self, input: Input) {
        let now = self.clock.now();
        self.core.handle(now, input);
    }

    /// Does everything that the core has queued.
    async fn drain(&mut self) -> Result<(), ClientError> {
        loop {
            while let Some(output) = self.core.poll_output() {
                if !rests_on_no_pin(&output) {
                    self.save_pins().await?;
                }
                self.perform(output).await?;
            }
            self.settle_history(self.is_leaving).await?;
            match self.desk.next_answer() {
                Some(done) => self.input(Input::Post(done)),
                None => break,
            }
        }
        if self.unsaved.is_due() {
            self.save_pins().await?;
        }
        Ok(())
    }

    /// When something that waits for more of its kind is to be written.
    fn next_due(&self) -> Option<Instant> {
        [self.unsaved.due, self.desk.shown_due].into_iter().flatten().min()
    }

    async fn perform(&mut self, output: Output) -> Result<(), ClientError> {
        match output {
            Output::Send(draft) if self.is_linked => self.worker.ask(Job::Sign(draft)),
            // What was meant for a link that is gone must not be the first thing on the next.
            Output::Send(_) => {}
            Output::File(work) => self.on_file_work(work),
            Output::Post(work) => self.on_post_work(work).await?,
            Output::SaveProgram(program) => self.unsaved.push_program(program),
            Output::Seal {
                place,
                ticket,
                key,
                text,
                from,
                to,
                ts,
            } => {
                let saying = Saying { place, from, to, ts };
                self.worker.ask(Job::Seal {
                    ticket,
                    key,
                    text,
                    saying,
                });
            }
            Output::Open {
                place,
                ticket,
                key,
                ciphertext,
                content_sig,
                from,
                to,
                ts,
            } => {
                let sealed = Sealed {
                    ciphertext,
                    content_sig,
                };
                let saying = Saying { place, from, to, ts };
                self.worker.ask(Job::Open {
                    ticket,
                    key,
                    sealed,
                    saying,
                });
            }
            Output::SaveUser(pin) => {
                if self.unsaved.push(pin) {
                    self.save_pins().await?;
                }
            }
            Output::SaveServer(pin) => self.save_server(pin).await?,
            Output::FollowServer { server, before } => {
                let profile = self.profile.clone();
                blocking(move || profile.follow_server(&server, &before)).await?;
            }
            Output::SaveTrust(news) => {
                let (profile, url) = (self.profile.clone(), self.options.server.as_str().to_owned());
                blocking(move || profile.save_trust(&url, &news)).await?;
            }
            Output::AskElsewhere(user) => self.elsewhere.ask(user),
            Output::Event(event) => self.on_event(event),
            Output::Disconnect => self.is_leaving = true,
        }
        Ok(())
    }

    /// Signatures keep their place among the messages; what touches a disk, or decrypts, is done beside them.
    fn on_file_work(&mut self, work: FileWork) {
        match work {
            FileWork::Sign {
                ticket,
                payload,
                to,
                ts,
            } => {
                let from = self.profile.identity().user_id.clone();
                self.worker.ask(Job::SignContent {
                    ticket,
                    payload,
                    from,
                    to,
                    ts,
                });
            }
            FileWork::Check { ticket, key, frame } => self.worker.ask(Job::CheckContent { ticket, key, frame }),
            work @ (FileWork::Seal(_)
            | FileWork::Close { .. }
            | FileWork::Begin { .. }
            | FileWork::Write { .. }
            | FileWork::Keep { .. }
            | FileWork::Discard { .. }) => self.files.ask(FileJob::Work(work)),
        }
    }

    /// Stores the pins that wait, all in one transaction.
    async fn save_pins(&mut self) -> Result<(), ClientError> {
        let Unsaved { pins, programs, due: _ } = std::mem::take(&mut self.unsaved);
        if pins.is_empty() && programs.is_empty() {
            return Ok(());
        }
        let profile = self.profile.clone();
        blocking(move || profile.save_pins(&pins, &programs)).await
    }

    async fn save_server(&mut self, pin: ServerPin) -> Result<(), ClientError> {
        self.server_key = Some(parse_key(&pin.key)?);
        self.desk.server = Some(pin.id.clone());
        let (profile, url) = (self.profile.clone(), self.options.server.as_str().to_owned());
        blocking(move || profile.save_server(&url, &pin)).await
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Sent {
                ticket,
                msg_ref,
                state,
                server,
            } => {
                let receipt = Receipt { msg_ref, state, server };
                self.answer_tell(ticket, Ok(receipt));
            }
            Event::Failed { ticket, why } => self.answer_tell(ticket, Err(why)),
            Event::FileProgress { ticket, progress } => self.on_file_progress(ticket, progress),
            Event::FileSent { ticket, result } => {
                if let Some(Waiter::SendFile { reply, .. }) = self.waiters.remove(&ticket) {
                    forget(reply.send(result));
                }
            }
            Event::ChannelSent { ticket, result } => {
                if let Some(Waiter::TellAll(reply)) = self.waiters.remove(&ticket) {
                    forget(reply.send(result));
                }
            }
            Event::Listed { ticket, result } => {
                if let Some(Waiter::List(reply)) = self.waiters.remove(&ticket) {
                    forget(reply.send(result));
                }
            }
            Event::Resolved { ticket, result } => {
                if let Some(Waiter::Resolve(reply)) = self.waiters.remove(&ticket) {
                    forget(reply.send(result));
                }
            }
            Event::PasswordBegun { ticket, result } => {
                if let Some(Waiter::BeginPassword(reply)) = self.waiters.remove(&ticket) {
                    forget(reply.send(result));
                }
            }
            Event::PasswordSet { ticket, result } => {
                if let Some(Waiter::FinishPassword(reply)) = self.waiters.remove(&ticket) {
                    forget(reply.send(result));
                }
            }
            Event::AccountChanged { ticket, result } => {
                if let Some(Waiter::ChangeAccount(reply)) = self.waiters.remove(&ticket) {
                    forget(reply.send(result));
                }
            }
            Event::Stopped(stop) => self.on_stopped(stop),
            Event::Online { .. } => self.on_online(event),
            Event::Offline { .. }
            | Event::Message(_)
            | Event::Channel(_)
            | Event::File(_)
            | Event::Notice { .. }
            | Event::Presence(_)
            | Event::Post(_)
            | Event::Gap { .. }
            | Event::KeyChanged { .. }
            | Event::Error { .. } => self.pending.push_back(event),
        }
    }

    fn on_file_progress(&self, ticket: Ticket, news: FileProgress) {
        if let Some(Waiter::SendFile { progress, .. }) = self.waiters.get(&ticket)
            && progress.try_send(news).is_err()
        {
            tracing::trace!("progress that nobody reads");
        }
    }

    fn on_stopped(&mut self, stop: Stop) {
        if self.entered.is_none() {
            self.pending.push_back(Event::Stopped(stop.clone()));
        }
        self.stopped = Some(ClientError::Stopped(stop));
    }

    fn on_online(&mut self, event: Event) {
        self.backoff.reset();
        if self.options.reads && self.entered.is_some() {
            self.desk.begin_to_catch_up();
        }
        if let Some(entered) = self.entered.take() {
            forget(entered.send(Ok(())));
        }
        self.pending.push_back(event);
    }

    fn answer_tell(&mut self, ticket: Ticket, result: Result<Receipt, TellFault>) {
        let Some(Waiter::Tell { to, text, reply }) = self.waiters.remove(&ticket) else {
            return;
        };
        // A server that acknowledges is one that said so; then the message was written down before.
        if let Ok(Receipt {
            msg_ref,
            state: PostState::Sent,
            server: None,
        }) = &result
        {
            self.desk.on_sent(to, text, msg_ref.clone());
        }
        forget(reply.send(result));
    }

    /// What a text from the server is to the core: a frame with its signature checked, or not.
    async fn on_text(&mut self, text: String) -> Result<(), ClientError> {
        let frame = match Frame::parse(&text) {
            Ok(frame) => frame,
            Err(error) => {
                self.input(Input::Bad {
                    reason: error.to_string(),
                });
                return Ok(());
            }
        };
        tracing::trace!(kind = frame.envelope.kind.name(), "frame");
        // At first contact the key that a frame names must at least be its own; whether to pin it is the core's to say.
        let mut key = match &self.server_key {
            Some(key) => Some(key.clone()),
            None => named_key(&frame),
        };
        if let (Some(pinned), Some(history)) = (&self.server_key, seal::successors(&frame)) {
            let (pinned, histories) = (pinned.clone(), Arc::clone(&self.histories));
            let (key_text, history) = (KeyText::from_der(pinned.0.spki_der()), history.clone());
            let next = blocking(move || Ok(histories.follow(&key_text, &history)));
            if let Some(next) = next.await? {
                self.server_key = Some(parse_key(&next)?);
                key.clone_from(&self.server_key);
            }
        }
        let (delegate, unix) = (self.delegate.clone(), self.clock.now().unix);
        let histories = Arc::clone(&self.histories);
        let checked = blocking(move || {
            let checked = seal::check(&frame, key.as_ref(), delegate.as_ref(), unix);
            Ok((checked, histories.without_false_ones(frame)))
        });
        let input = match checked.await? {
            (SealCheck::Good(by), Some(frame)) => Input::Frame(Verified::checked(frame, by)),
            (SealCheck::Delegating(delegate), _) => {
                self.delegate = Some(delegate);
                return Ok(());
            }
            (SealCheck::Bad, Some(frame)) => Input::Unverified(frame),
            (SealCheck::Good(_) | SealCheck::Bad, None) => Input::Bad {
                reason: "news of somebody's keys that are not signed with the keys before".to_owned(),
            },
        };
        self.input(input);
        Ok(())
    }

    /// Decisions about keys are made in other programs with this profile, while this one runs.
    async fn read_decisions(&mut self) -> Result<(), ClientError> {
        let (profile, before) = (self.profile.clone(), self.version_elsewhere);
        let read = blocking(move || {
            let version = profile.version_elsewhere()?;
            if version == before {
                return Ok(None);
            }
            Ok(Some((version, profile.trust_record()?, profile.pins()?)))
        });
        if let Some((version, trust, pins)) = read.await? {
            self.version_elsewhere = version;
            self.input(Input::Decided { trust, pins });
        }
        Ok(())
    }

    fn on_maybe_request(&mut self, request: Option<Request>) {
        match request {
            Some(request) => self.on_request(request),
            None => self.requests_are_open = false,
        }
    }

    fn is_abandoned(&self) -> bool {
        !self.requests_are_open && self.events.is_closed()
    }
}

/// Hands the oldest event over; whoever dropped the stream wants none.
fn send_next(permit: Result<mpsc::Permit<'_, Event>, mpsc::error::SendError<()>>, pending: &mut VecDeque<Event>) {
    match permit {
        Ok(permit) => {
            if let Some(event) = pending.pop_front() {
                permit.send(event);
            }
        }
        Err(_closed) => pending.clear(),
    }
}

/// An answer that nobody waits for any more is nobody's loss.
fn forget<T>(sent: Result<(), T>) {
    if sent.is_err() {
        tracing::debug!("nobody waits for an answer any more");
    }
}

/// Runs what would hold up the runtime on a thread for such things.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ClientError> + Send + 'static,
) -> Result<T, ClientError> {
    // Fails only when the runtime is going down, or if the work panics, which ours does not.
    spawn_blocking(work).await.map_err(|_| ClientError::Ended)?
}

fn config(profile: &Profile, server: Option<ServerPin>, pins: Vec<UserPin>) -> Result<Config, ClientError> {
    let identity = profile.identity();
    let meta = Meta::named(identity.name.as_deref(), identity.display_name.as_deref())
        .map_err(|error| ClientError::Name(error.to_string()))?;
    Ok(Config {
        user: identity.user_id.clone(),
        keys: identity.pair(),
        history: identity.history.clone(),
        meta,
        program: concat!("socp/", env!("CARGO_PKG_VERSION")).to_owned(),
        server,
        pins,
        trust: TrustRecord::default(),
        files_max: None,
        mailbox: None,
        voice: Voice::from_bytes([0; 8]),
        is_acknowledged: false,
    })
}

fn parse_key(text: &KeyText) -> Result<(PublicKey, Fingerprint), CryptoError> {
    Ok((PublicKey::from_spki_der(&text.der())?, text.fingerprint()))
}

/// The key that a frame says it is signed with.
fn named_key(frame: &Frame) -> Option<(PublicKey, Fingerprint)> {
    let text = frame.envelope.payload.get("server_pub")?.as_str()?.to_owned();
    parse_key(&KeyText::try_from(text).ok()?).ok()
}

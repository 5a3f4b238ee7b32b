//! The handle that faces hold: ask, and read what arrives.

use crate::driver::{self, Request};
use crate::error::ClientError;
use crate::files::OutgoingFile;
use crate::link::ServerUrl;
use crate::profile::Profile;
use socp_core::client::{
    AccountChange, ChannelReport, Event, FileProgress, FileReport, Person, PostState, SendFault, Target, TellFault,
};
use socp_crypto::opaque::Registration;
use socp_crypto::{IdentityText, Password, UserKeys};
use socp_proto::payload::{AccountDelete, RegisterFinish};
use socp_proto::{KeyStatement, ServerId, UserId};
use std::future::Future;
use std::path::PathBuf;
use tokio::sync::{mpsc, oneshot};

/// Requests that may wait for the driver.
const REQUESTS_COUNT_MAX: usize = 64;
/// News of a file on its way out that may wait; of more, the newest are left out.
const PROGRESS_COUNT_MAX: usize = 8;

/// What becomes of files that arrive.
#[derive(Debug, Clone)]
pub struct Downloads {
    /// The folder; made when the first file arrives.
    pub dir: PathBuf,
    /// Larger files are refused.
    pub size_max: u64,
}

/// How to connect.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to.
    pub server: ServerUrl,
    /// Whether a lost connection is dialled again, with growing waits.
    pub reconnect: bool,
    /// Where files that arrive are kept; without, they are ignored.
    pub downloads: Option<Downloads>,
    /// Whether this program shows what arrives, so that the user's mailbox is read (PROTOCOL II.6).
    pub reads: bool,
}

impl Options {
    /// One connection; when it is lost, that is the end.
    #[must_use]
    pub fn once(server: ServerUrl) -> Self {
        Self {
            server,
            reconnect: false,
            downloads: None,
            reads: false,
        }
    }

    /// A connection that is dialled again when it is lost.
    #[must_use]
    pub fn lasting(server: ServerUrl) -> Self {
        Self {
            server,
            reconnect: true,
            downloads: None,
            reads: true,
        }
    }

    /// The same, reading the user's mailbox: what arrives is to be shown, and marked with [`Client::shown`].
    #[must_use]
    pub fn reading(mut self) -> Self {
        self.reads = true;
        self
    }

    /// The same, with a place for files that arrive.
    #[must_use]
    pub fn keeping_files(mut self, downloads: Downloads) -> Self {
        self.downloads = Some(downloads);
        self
    }
}

/// How far a message has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The message's reference, the same for everyone (PROTOCOL I.7); empty while the message only waits here.
    pub msg_ref: String,
    /// How far it is.
    pub state: PostState,
    /// The server that has it, where one has said so.
    pub server: Option<ServerId>,
}

/// A user's connection; cheap to clone. It lives until [`Client::close`], or until every handle and the
/// [`EventStream`] are dropped.
#[derive(Debug, Clone)]
pub struct Client {
    requests: mpsc::Sender<Request>,
    user: UserId,
}

impl Client {
    /// Connects, and returns once the server has let us in. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`], [`ClientError::Stopped`], or what is wrong with the profile.
    pub async fn connect(
        profile: Profile,
        keys: UserKeys,
        options: Options,
    ) -> Result<(Self, EventStream), ClientError> {
        let user = profile.identity().user_id.clone();
        let (requests, request_queue) = mpsc::channel(REQUESTS_COUNT_MAX);
        let events = driver::start(profile, keys, options, request_queue).await?;
        Ok((Self { requests, user }, EventStream { events }))
    }

    /// Who we are.
    #[must_use]
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// Sends a text, and returns when the server has taken it.
    ///
    /// # Errors
    /// [`ClientError::Tell`] says why it was not, or not surely, taken.
    pub async fn tell(&self, to: UserId, text: String) -> Result<Receipt, ClientError> {
        self.begin_tell(to, text).await?.await
    }

    /// Hands a text over for sending; the future that this returns ends as [`Client::tell`] does. Messages leave in
    /// the order in which they were handed over.
    ///
    /// # Errors
    /// [`ClientError::Ended`] if the connection is.
    pub async fn begin_tell(
        &self,
        to: UserId,
        text: String,
    ) -> Result<impl Future<Output = Result<Receipt, ClientError>> + Send + 'static, ClientError> {
        let (reply, answer) = oneshot::channel();
        self.request(Request::Tell { to, text, reply }).await?;
        Ok(async move {
            let result: Result<Receipt, TellFault> = answer.await.map_err(|_| ClientError::Ended)?;
            Ok(result?)
        })
    }

    /// Says that a message was shown, so that no other program of this profile shows it again; `is_read`: to somebody who
    /// reads along, so that its author's program may be told.
    ///
    /// # Errors
    /// [`ClientError::Ended`] if the connection is.
    pub async fn shown(&self, msg_ref: &str, is_read: bool) -> Result<(), ClientError> {
        let msg_ref = msg_ref.to_owned();
        self.request(Request::Shown { msg_ref, is_read }).await
    }

    /// Sends a text to everyone else who is online, a copy each, and returns when the server has taken or refused them.
    ///
    /// # Errors
    /// [`ClientError::Tell`] if it went to nobody; who of several did not get it is in the report.
    pub async fn tell_all(&self, text: String) -> Result<ChannelReport, ClientError> {
        self.begin_tell_all(text).await?.await
    }

    /// Hands a text for everyone over; the future that this returns ends as [`Client::tell_all`] does.
    ///
    /// # Errors
    /// [`ClientError::Ended`] if the connection is.
    pub async fn begin_tell_all(
        &self,
        text: String,
    ) -> Result<impl Future<Output = Result<ChannelReport, ClientError>> + Send + 'static, ClientError> {
        let (reply, answer) = oneshot::channel();
        self.request(Request::TellAll { text, reply }).await?;
        Ok(async move { Ok(answer.await.map_err(|_| ClientError::Ended)??) })
    }

    /// Hands a file over for sending. One is sent at a time; [`SendingFile`] tells how it gets on.
    ///
    /// # Errors
    /// [`ClientError::Ended`] if the connection is.
    pub async fn begin_file(&self, target: Target, file: OutgoingFile) -> Result<SendingFile, ClientError> {
        let (reply, result) = oneshot::channel();
        let (sender, progress) = mpsc::channel(PROGRESS_COUNT_MAX);
        self.request(Request::SendFile {
            target,
            file,
            progress: sender,
            reply,
        })
        .await?;
        Ok(SendingFile { progress, result })
    }

    /// Everyone online or pinned, sorted by id.
    ///
    /// # Errors
    /// [`ClientError::List`] if the server's list cannot be had.
    pub async fn list(&self) -> Result<Vec<Person>, ClientError> {
        let (reply, answer) = oneshot::channel();
        self.request(Request::List { reply }).await?;
        answer.await.map_err(|_| ClientError::Ended)?.map_err(ClientError::List)
    }

    /// The one user meant by an id, a prefix of one, `name` or `name@server`.
    ///
    /// # Errors
    /// [`ClientError::Resolve`] if that is nobody or several.
    pub async fn resolve(&self, text: &str) -> Result<Person, ClientError> {
        let (reply, answer) = oneshot::channel();
        self.request(Request::Resolve {
            text: text.to_owned(),
            reply,
        })
        .await?;
        Ok(answer.await.map_err(|_| ClientError::Ended)??)
    }

    /// Sets the password of our account at the server, which never sees it, and has the server keep the identity so that
    /// only the password opens it. A password that was set before is replaced. Takes a good part of a second.
    ///
    /// # Errors
    /// [`ClientError::Password`] says why there is no new password.
    pub async fn set_password(&self, password: Password, identity: IdentityText) -> Result<(), ClientError> {
        let (registration, request) = driver::blocking(move || Ok(Registration::begin(password)?)).await?;
        let (reply, answer) = oneshot::channel();
        self.request(Request::BeginPassword { request, reply }).await?;
        let (server, response) = answer.await.map_err(|_| ClientError::Ended)??;
        let finish = driver::blocking(move || {
            let (record, export) = registration.finish(&server, &response)?;
            let sealed = export.seal(identity.expose().as_bytes())?;
            Ok(Box::new(RegisterFinish { record, sealed }))
        });
        let (reply, answer) = oneshot::channel();
        let finish = finish.await?;
        self.request(Request::FinishPassword { finish, reply }).await?;
        Ok(answer.await.map_err(|_| ClientError::Ended)??)
    }

    /// Whether the server knows changes of accounts (PROTOCOL II.13).
    ///
    /// # Errors
    /// [`ClientError::Ended`] if the connection is.
    pub async fn can_change_account(&self) -> Result<bool, ClientError> {
        let (reply, answer) = oneshot::channel();
        self.request(Request::CanChangeAccount { reply }).await?;
        answer.await.map_err(|_| ClientError::Ended)
    }

    /// Tells the server that we have other keys from now on, or none, and returns when it has stored that. It then ends
    /// every session of ours.
    ///
    /// # Errors
    /// [`ClientError::Account`] says why it was not, or not surely, stored.
    pub async fn update_keys(&self, statement: KeyStatement) -> Result<(), ClientError> {
        self.change_account(AccountChange::Keys(Box::new(statement))).await
    }

    /// Has the server forget us, and returns when it has.
    ///
    /// # Errors
    /// As [`Client::update_keys`].
    pub async fn delete_account(&self, delete: AccountDelete) -> Result<(), ClientError> {
        self.change_account(AccountChange::Delete(delete)).await
    }

    async fn change_account(&self, change: AccountChange) -> Result<(), ClientError> {
        let (reply, answer) = oneshot::channel();
        self.request(Request::ChangeAccount { change, reply }).await?;
        Ok(answer.await.map_err(|_| ClientError::Ended)??)
    }

    /// Takes leave of the server and ends the connection; returns when that is done.
    pub async fn close(&self) {
        if self.requests.send(Request::Close).await.is_ok() {
            self.requests.closed().await;
        }
    }

    async fn request(&self, request: Request) -> Result<(), ClientError> {
        self.requests.send(request).await.map_err(|_| ClientError::Ended)
    }
}

/// A file on its way out.
#[derive(Debug)]
pub struct SendingFile {
    progress: mpsc::Receiver<FileProgress>,
    result: oneshot::Receiver<Result<FileReport, SendFault>>,
}

impl SendingFile {
    /// How far it is now; nothing more when it has ended.
    pub async fn progress(&mut self) -> Option<FileProgress> {
        self.progress.recv().await
    }

    /// How it ended.
    ///
    /// # Errors
    /// [`ClientError::SendFile`] if it was sent to nobody; who of several did not get it is in the report.
    pub async fn finish(self) -> Result<FileReport, ClientError> {
        Ok(self.result.await.map_err(|_| ClientError::Ended)??)
    }
}

/// What arrives, in order. While nobody reads, the connection stops reading too, so read it or drop it.
#[derive(Debug)]
pub struct EventStream {
    events: mpsc::Receiver<Event>,
}

impl EventStream {
    /// The next event; none when the connection has ended for good.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

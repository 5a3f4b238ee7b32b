//! A SOCP client: connection, pins, profile. Every face of the program speaks to the network through this.
//!
//! A [`Profile`] is a directory with one identity, the keys of everyone met and the servers used. [`Client::connect`]
//! takes an unlocked profile to a server and returns a handle for asking and a stream of what arrives:
//!
//! ```no_run
//! # async fn example() -> Result<(), socp_client::ClientError> {
//! use socp_client::{Client, Options, Profile, ServerUrl};
//! let profile = Profile::open_or_create("alice".as_ref(), Some("alice"), None, None)?;
//! let keys = profile.unlock(None)?;
//! let options = Options::once(ServerUrl::parse("ws://127.0.0.1:8765")?);
//! let (client, mut events) = Client::connect(profile, keys, options).await?;
//! let bob = client.resolve("bob").await?;
//! client.tell(bob.user_id, "hello".to_owned()).await?;
//! while let Some(event) = events.next().await {
//!     tracing::debug!(?event);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The rules are `socp-core`'s; here are a task that owns the socket and the state machine, a thread that does key
//! operations in the order in which they are asked for, and the database.

mod client;
mod driver;
mod elsewhere;
mod error;
mod files;
mod histories;
mod history;
mod link;
mod login;
mod profile;
mod rotation;
mod safe_text;
mod seal;
mod worker;

pub use client::{Client, Downloads, EventStream, Options, Receipt, SendingFile};
pub use elsewhere::{Word, ask_server};
pub use error::ClientError;
pub use files::OutgoingFile;
pub use history::{Direction, History, HistoryEntry};
pub use link::{ServerUrl, connect};
pub use login::log_in;
pub use profile::{AtRest, CardOutcome, Identity, Profile, Protection, ServerAlarm, Verdict};
pub use rotation::{NewKeys, Replaced};
pub use safe_text::is_hostile;
pub use socp_core::client::channel::CHANNEL_ID;
pub use socp_core::client::{
    AccountFault, Alarm, ChannelReport, Event, FileFault, FileNews, FileProgress, FileReport, FileStage, Gap, Message,
    Person, PostNews, PostState, ResolveError, SendFault, SentRef, ServerPin, Source, Standing, Stop, Target,
    TellFault, Teller, Trust, TrustRecord, UserPin, resolve,
};

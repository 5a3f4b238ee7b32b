//! The second path: what other servers say of a user's keys (PROTOCOL II.11).
//!
//! Another server is asked without saying hello, so that nobody sees the user come and go there, and it need not know who
//! asks. What it says is compared by the core; where it cannot be reached, or does not answer strangers, nothing is said.

use crate::error::ClientError;
use crate::link::{ServerUrl, dial};
use crate::seal::{self, SealCheck};
use futures_util::{SinkExt as _, StreamExt as _};
use socp_core::client::{ServerPin, UserPin};
use socp_crypto::{PublicKey, check_history};
use socp_proto::payload::{PubkeyRequest, PubkeyResponse};
use socp_proto::{Address, Draft, Fingerprint, Frame, Id, KeyHistory, KeyText, Payload, PublicPair, UserId};
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

/// How long another server may take, from dialling to its answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(5);
/// Users about whom questions may wait; about more, nobody is asked.
const QUESTIONS_COUNT_MAX: usize = 32;
/// Frames that are read before the answer is given up.
const FRAMES_COUNT_MAX: usize = 8;
/// Who asks: nobody in particular.
const STRANGER: &str = "stranger";

/// What a server says of a user's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The keys for signatures and for encryption; none if it does not know the user.
    pub keys: Option<(KeyText, KeyText)>,
    /// How they came about, if they ever changed; every signature in it is good.
    pub history: Option<KeyHistory>,
    /// Whether the answer is signed with the key that is pinned for that server.
    pub is_signed: bool,
}

impl Word {
    /// Whether its keys come after the pinned ones, or withdraw them, signed by those.
    #[must_use]
    pub fn follows(&self, pin: &UserPin) -> bool {
        let pinned = PublicPair {
            pubkey: pin.pubkey.clone(),
            enc_pubkey: pin.enc_pubkey.clone(),
        };
        self.history.as_ref().is_some_and(|history| {
            let goes_on = history.newest() != pinned || history.is_revoked();
            goes_on && !pin.revoked && history.contains(&pinned)
        })
    }
}

/// Asks a server for a user's keys, without saying who asks.
///
/// # Errors
/// [`ClientError::Unreachable`], [`ClientError::NoWitness`] where it does not sign with the key that is pinned for it, or
/// [`ClientError::NoWord`] where it does not answer that.
pub async fn ask_server(url: &ServerUrl, pin: Option<&ServerPin>, user: &UserId) -> Result<Word, ClientError> {
    match tokio::time::timeout(ANSWER_WAIT_MAX, ask_patiently(url, pin, user)).await {
        Ok(word) => word,
        Err(_elapsed) => Err(no_word(url, "no answer came in time")),
    }
}

fn no_word(url: &ServerUrl, why: impl ToString) -> ClientError {
    ClientError::NoWord {
        url: url.as_str().to_owned(),
        why: why.to_string(),
    }
}

async fn ask_patiently(url: &ServerUrl, pin: Option<&ServerPin>, user: &UserId) -> Result<Word, ClientError> {
    let key = pin.map(|pin| parse(&pin.key)).transpose()?;
    let (mut socket, _tls) = dial(url).await?;
    let request = Payload::PubkeyRequest(PubkeyRequest { user_id: user.clone() });
    let stranger = Id::try_from(STRANGER).map_err(|error| no_word(url, error))?;
    let draft = Draft::new(stranger, Address::everyone(), unix_ms(), &request);
    let said = socket.send(Message::text(draft.sign(&[]).to_text())).await;
    said.map_err(|error| no_word(url, error))?;
    let mut delegate = None;
    for _ in 0..FRAMES_COUNT_MAX {
        let message = socket.next().await.ok_or_else(|| no_word(url, "it closed the link"))?;
        let Message::Text(text) = message.map_err(|error| no_word(url, error))? else {
            continue;
        };
        let frame = Frame::parse(text.as_str()).map_err(|error| no_word(url, error))?;
        let is_signed = match seal::check(&frame, key.as_ref(), delegate.as_ref(), unix_ms()) {
            SealCheck::Good(_) => true,
            SealCheck::Delegating(other) => {
                delegate = Some(other);
                continue;
            }
            SealCheck::Bad => false,
        };
        #[expect(clippy::wildcard_enum_match_arm, reason = "nothing else answers")]
        match frame.payload {
            // Else somebody in between could make us doubt, or not doubt, whomever they like.
            Payload::PubkeyResponse(_) if key.is_some() && !is_signed => {
                let url = url.as_str().to_owned();
                return Err(ClientError::NoWitness { url });
            }
            Payload::PubkeyResponse(answer) if answer.user_id == *user => {
                return word_of(answer, is_signed).await;
            }
            Payload::Error(error) => return Err(no_word(url, format!("it says {} {}", error.code, error.detail))),
            _ => {}
        }
    }
    Err(no_word(url, "it says other things"))
}

/// What an answer says. That keys are withdrawn their owner alone can say, by a history.
async fn word_of(answer: PubkeyResponse, is_signed: bool) -> Result<Word, ClientError> {
    let history = match answer.history {
        Some(history) => checked(&answer.user_id, history).await?,
        None => None,
    };
    let keys = answer.pubkey.filter(|_| !answer.revoked || history.is_some());
    let keys = keys.map(|key| (key.clone(), answer.enc_pubkey.unwrap_or(key)));
    Ok(Word {
        keys,
        history,
        is_signed,
    })
}

/// A history, if it is this user's and every signature in it is good.
async fn checked(user: &UserId, history: KeyHistory) -> Result<Option<KeyHistory>, ClientError> {
    if !history.is_of(user) {
        return Ok(None);
    }
    let check = move || check_history(&history).is_ok().then_some(history);
    let checked = tokio::task::spawn_blocking(check).await;
    checked.map_err(|_panic| ClientError::Ended)
}

fn parse(key: &KeyText) -> Result<(PublicKey, Fingerprint), ClientError> {
    Ok((PublicKey::from_spki_der(&key.der())?, key.fingerprint()))
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What one server said, or that nothing more will be said of a user.
#[derive(Debug)]
pub(crate) enum Told {
    Keys {
        user: UserId,
        keys: (KeyText, KeyText),
        history: Option<KeyHistory>,
        by: String,
    },
    /// A server is no witness, for people; once for each server.
    NoWitness(String),
    Done,
}

fn told_of(
    user: &UserId,
    url: &ServerUrl,
    word: Result<Word, ClientError>,
    no_witnesses: &mut BTreeSet<String>,
) -> Option<Told> {
    let by = url.as_str().to_owned();
    match word {
        Ok(Word { keys, history, .. }) => {
            let user = user.clone();
            keys.map(|keys| Told::Keys {
                user,
                keys,
                history,
                by,
            })
        }
        Err(error @ ClientError::NoWitness { .. }) => {
            no_witnesses.insert(by).then(|| Told::NoWitness(error.to_string()))
        }
        Err(error) => {
            tracing::debug!(%error, "no second word on a key");
            None
        }
    }
}

/// Questions to other servers under way, one after the other.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    questions: mpsc::Sender<UserId>,
    told: mpsc::Receiver<Told>,
    under_way: usize,
}

impl Elsewhere {
    /// Needs a tokio runtime. The task ends with it.
    pub(crate) fn start(servers: Vec<(ServerUrl, ServerPin)>) -> Self {
        let (questions, mut queue) = mpsc::channel::<UserId>(QUESTIONS_COUNT_MAX);
        let (answers, told) = mpsc::channel(QUESTIONS_COUNT_MAX);
        tokio::spawn(async move {
            let mut no_witnesses = BTreeSet::new();
            while let Some(user) = queue.recv().await {
                let asked = servers.iter().map(|(url, pin)| ask_server(url, Some(pin), &user));
                let words = futures_util::future::join_all(asked).await;
                for ((url, _), word) in servers.iter().zip(words) {
                    let told = told_of(&user, url, word, &mut no_witnesses);
                    if let Some(told) = told
                        && answers.send(told).await.is_err()
                    {
                        return;
                    }
                }
                if answers.send(Told::Done).await.is_err() {
                    return;
                }
            }
        });
        Self {
            questions,
            told,
            under_way: 0,
        }
    }

    pub(crate) fn ask(&mut self, user: UserId) {
        match self.questions.try_send(user) {
            Ok(()) => self.under_way = self.under_way.saturating_add(1),
            Err(error) => tracing::debug!(%error, "nobody else is asked about a key"),
        }
    }

    pub(crate) fn under_way(&self) -> usize {
        self.under_way
    }

    /// What another server said; none when a question is through.
    pub(crate) async fn next(&mut self) -> Option<Told> {
        match self.told.recv().await {
            Some(told @ (Told::Keys { .. } | Told::NoWitness(_))) => Some(told),
            Some(Told::Done) => {
                self.under_way = self.under_way.saturating_sub(1);
                None
            }
            // The task ends only with the runtime, or with us.
            None => std::future::pending().await,
        }
    }
}

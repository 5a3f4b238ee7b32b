//! Key operations, one after the other on a thread of their own.
//!
//! An RSA signature costs milliseconds, a long message most of a second. One thread keeps the order in which things
//! are asked for: frames leave as the core queued them, messages are shown as they came.

use socp_core::client::{FileDone, Input, Making, OpenFault, Place, PostId, Sealed, Ticket};
use socp_crypto::content::channel_preimage;
use socp_crypto::frame_content::Saying as FrameSaying;
use socp_crypto::{
    ContentCheck, ContentParts, CryptoError, PublicKey, UserKeys, check_content, content_preimage_of, sign_content,
    verify_content,
};
use socp_proto::limits::DIRECT_TEXT_BYTES_MAX;
use socp_proto::payload::{DirectMessage, msg_ref};
use socp_proto::{Address, Base64Url, Draft, Fingerprint, Frame, KeyText, Payload, UserId, escaped_form};
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// Parsed keys that are kept (a conversation has few).
const KEYS_COUNT_MAX: usize = 256;

/// Who says what to whom, where and when: what a content signature covers beside the ciphertext (PROTOCOL I.7, I.8).
#[derive(Debug)]
pub(crate) struct Saying {
    pub(crate) place: Place,
    pub(crate) from: UserId,
    pub(crate) to: UserId,
    pub(crate) ts: u64,
}

/// One operation.
#[derive(Debug)]
pub(crate) enum Job {
    Sign(Draft),
    /// A frame that is signed already, in its turn.
    Pass(String),
    /// Encrypt and sign a message, once and for all.
    Make {
        making: Box<Making>,
        text: String,
        saying: Saying,
    },
    Seal {
        ticket: Ticket,
        key: KeyText,
        text: String,
        saying: Saying,
    },
    Open {
        ticket: Ticket,
        key: KeyText,
        sealed: Sealed,
        saying: Saying,
    },
    /// The content signature of a payload of ours, of a kind that has one.
    SignContent {
        ticket: Ticket,
        payload: Box<Payload>,
        from: UserId,
        to: UserId,
        ts: u64,
    },
    /// Whether the content signature of a frame fits this key.
    CheckContent {
        ticket: Ticket,
        key: KeyText,
        frame: Box<Frame>,
    },
}

/// A message that was encrypted and signed: the frame, its reference and time; or whose key cannot be used, and why.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) id: PostId,
    pub(crate) result: Result<(String, String, u64), (UserId, String)>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Done {
    /// A frame to send.
    Signed(String),
    /// A message that is to be kept.
    Made(Made),
    /// Something for the core.
    Input(Box<Input>),
    /// Our own key does not work.
    Fault(CryptoError),
}

/// The jobs under way. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct Worker {
    jobs: mpsc::UnboundedSender<Job>,
    done: mpsc::UnboundedReceiver<Done>,
    under_way: usize,
}

impl Worker {
    pub(crate) fn start(own: UserKeys) -> Self {
        let (jobs, mut queue) = mpsc::unbounded_channel();
        let (results, done) = mpsc::unbounded_channel();
        let mut bench = Bench {
            own,
            keys: BTreeMap::new(),
        };
        tokio::task::spawn_blocking(move || {
            while let Some(job) = queue.blocking_recv() {
                if results.send(bench.perform(job)).is_err() {
                    return;
                }
            }
        });
        Self {
            jobs,
            done,
            under_way: 0,
        }
    }

    /// The queue is as long as the driver lets it become.
    pub(crate) fn ask(&mut self, job: Job) {
        // The thread only ends with us.
        if self.jobs.send(job).is_ok() {
            self.under_way = self.under_way.saturating_add(1);
        }
    }

    pub(crate) fn under_way(&self) -> usize {
        self.under_way
    }

    pub(crate) async fn next(&mut self) -> Option<Done> {
        let done = self.done.recv().await?;
        self.under_way = self.under_way.saturating_sub(1);
        Some(done)
    }
}

struct Bench {
    own: UserKeys,
    keys: BTreeMap<Fingerprint, PublicKey>,
}

impl Bench {
    fn perform(&mut self, job: Job) -> Done {
        match job {
            Job::Sign(draft) => match self.own.sign.sign(draft.signed_text().as_bytes()) {
                Ok(sig) => Done::Signed(draft.sign(&sig).to_text()),
                Err(fault) => Done::Fault(fault),
            },
            Job::Pass(text) => Done::Signed(text),
            Job::Make { making, text, saying } => self.make(&making, &text, saying),
            Job::Seal {
                ticket,
                key,
                text,
                saying,
            } => {
                let result = self.seal(&key, &text, &saying).map_err(|fault| fault.to_string());
                let place = saying.place;
                Done::Input(Box::new(Input::Sealed { place, ticket, result }))
            }
            Job::Open {
                ticket,
                key,
                sealed,
                saying,
            } => {
                let result = self.open(&key, &sealed, &saying);
                Done::Input(Box::new(Input::Opened { ticket, result }))
            }
            Job::SignContent {
                ticket,
                payload,
                from,
                to,
                ts,
            } => {
                let saying = FrameSaying {
                    from: from.as_str(),
                    to: to.as_str(),
                    ts,
                };
                let result = self.sign_payload(&payload, saying).map_err(|fault| fault.to_string());
                Done::Input(Box::new(Input::File(FileDone::Signed { ticket, result })))
            }
            Job::CheckContent { ticket, key, frame } => {
                let verdict = self.public(&key).and_then(|author| check_content(&frame, &author));
                let is_good = matches!(verdict, Ok(ContentCheck::Good));
                Done::Input(Box::new(Input::File(FileDone::Checked { ticket, is_good })))
            }
        }
    }

    fn make(&mut self, making: &Making, text: &str, saying: Saying) -> Done {
        let sealed = match self.seal(&making.key, text, &saying) {
            Ok(sealed) => sealed,
            Err(fault) => {
                let result = Err((saying.to, fault.to_string()));
                return Done::Made(Made { id: making.id, result });
            }
        };
        let (msg_ref, ts) = (msg_ref(&sealed.content_sig), saying.ts);
        let message = Payload::MsgDirect(DirectMessage {
            ciphertext: sealed.ciphertext,
            sender_pub: making.sender_pub.clone(),
            content_sig: sealed.content_sig,
            home: making.home.clone(),
        });
        let draft = Draft::new(&saying.from, Address::from(&saying.to), ts, &message);
        match self.own.sign.sign(draft.signed_text().as_bytes()) {
            Ok(sig) => Done::Made(Made {
                id: making.id,
                result: Ok((draft.sign(&sig).to_text(), msg_ref, ts)),
            }),
            Err(fault) => Done::Fault(fault),
        }
    }

    fn seal(&mut self, key: &KeyText, text: &str, saying: &Saying) -> Result<Sealed, CryptoError> {
        let ciphertext = Base64Url::encode(&self.public(key)?.seal(text.as_bytes())?);
        let signature = match saying.place {
            Place::Direct | Place::Word => sign_content(&self.own.sign, parts(&ciphertext, saying))?,
            Place::Channel => self.own.sign.sign(&channel_bytes(&ciphertext, saying))?,
        };
        Ok(Sealed {
            ciphertext,
            content_sig: Base64Url::encode(&signature),
        })
    }

    fn sign_payload(&self, payload: &Payload, saying: FrameSaying<'_>) -> Result<Base64Url, CryptoError> {
        let preimage = content_preimage_of(payload, saying)?;
        let preimage = preimage.ok_or(CryptoError::Internal("a payload without content signature"))?;
        Ok(Base64Url::encode(&self.own.sign.sign(&preimage)?))
    }

    fn open(&mut self, key: &KeyText, sealed: &Sealed, saying: &Saying) -> Result<String, OpenFault> {
        let author = self
            .public(key)
            .map_err(|fault| OpenFault::Internal(fault.to_string()))?;
        let signature = sealed.content_sig.decode();
        let verdict = match saying.place {
            Place::Direct | Place::Word => {
                verify_content(&author, parts(&sealed.ciphertext, saying), &signature).map(drop)
            }
            Place::Channel => author.verify(&channel_bytes(&sealed.ciphertext, saying), &signature),
        };
        match verdict {
            Ok(()) => {}
            Err(CryptoError::Internal(what)) => return Err(OpenFault::Internal(what.to_owned())),
            Err(_) => return Err(OpenFault::Signature),
        }
        let opened = self.own.open(&sealed.ciphertext.decode(), DIRECT_TEXT_BYTES_MAX);
        let plaintext = opened.map_err(|_| OpenFault::Decrypt)?;
        let text = std::str::from_utf8(plaintext.expose()).map_err(|_| OpenFault::NotText)?;
        Ok(text.to_owned())
    }

    fn public(&mut self, text: &KeyText) -> Result<PublicKey, CryptoError> {
        if let Some(key) = self.keys.get(&text.fingerprint()) {
            return Ok(key.clone());
        }
        let key = PublicKey::from_spki_der(&text.der())?;
        if self.keys.len() >= KEYS_COUNT_MAX {
            self.keys.clear();
        }
        self.keys.insert(text.fingerprint(), key.clone());
        Ok(key)
    }
}

fn parts<'a>(ciphertext: &'a Base64Url, saying: &'a Saying) -> ContentParts<'a> {
    ContentParts {
        ciphertext: ciphertext.as_str(),
        from: saying.from.as_str(),
        to: saying.to.as_str(),
        ts: saying.ts,
    }
}

fn channel_bytes(ciphertext: &Base64Url, saying: &Saying) -> Vec<u8> {
    channel_preimage(ciphertext.as_str(), saying.from.as_str(), saying.ts)
}

/// Whether a frame's transport signature fits this key, in either canonical form (PROTOCOL I.1).
pub(crate) fn is_signed_by(key: &PublicKey, frame: &Frame) -> bool {
    let signature = frame.envelope.sig.decode();
    if signature.is_empty() {
        return false;
    }
    let text = frame.envelope.signed_text();
    let verifies = |text: &str| key.verify(text.as_bytes(), &signature).is_ok();
    verifies(&text) || escaped_form(&text).is_some_and(|escaped| verifies(&escaped))
}

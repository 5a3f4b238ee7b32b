//! What is sent: users and their key, and messages made before the measured window.
//!
//! A server takes the same content once, so every message needs a content signature of its own. Where the server
//! verifies it, it must be real, which costs five milliseconds: those are made ahead and kept in the cache directory for
//! the next run. PSS is salted (RFC 8017 §8.1), so that one content, signed again and again, gives as many signatures.
//! Where the server does not verify, a number in the place of the signature will do.

use color_eyre::eyre::{Result, WrapErr as _, bail, eyre};
use data_encoding::BASE64URL_NOPAD;
use socp_crypto::content::channel_preimage;
use socp_crypto::{ContentFamily, PrivateKey, SIGNATURE_BYTES, random_bytes};
use socp_proto::limits::CONTENT_AGE_MAX_MS;
use socp_proto::payload::{ChannelMessage, DirectMessage, msg_ref};
use socp_proto::{Address, Base64Url, Draft, KeyText, Payload, ServerId, UserId};
use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Characters at the head of a signature that tell it from the others: nine bytes.
const MARK_CHARS: usize = 12;
type Mark = [u8; MARK_CHARS];

/// What kind of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Direct,
    Channel,
}

/// Which users and contents one run has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// Part of every user id. Our own servers begin empty each time, so that theirs can be the same and what was signed
    /// can be used again; a running server remembers.
    tag: u32,
}

impl Run {
    pub(super) fn on_fresh_servers() -> Self {
        Self { tag: 0 }
    }

    pub(super) fn on_a_running_server() -> Result<Self> {
        let bytes = random_bytes::<4>()?;
        Ok(Self {
            tag: u32::from_be_bytes(bytes).max(1),
        })
    }

    pub(super) fn author(self, number: usize) -> Result<UserId> {
        self.user(1, number)
    }

    pub(super) fn reader(self, number: usize) -> Result<UserId> {
        self.user(2, number)
    }

    fn user(self, role: u16, number: usize) -> Result<UserId> {
        let text = format!("{:08x}-{role:04x}-4000-8000-{number:012x}", self.tag);
        Ok(UserId::try_from(text)?)
    }
}

/// Where the key and the signatures of earlier runs are.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    dir: PathBuf,
}

impl Cache {
    pub(super) fn open(dir: Option<&Path>) -> Result<Self> {
        let dir = match dir {
            Some(dir) => dir.to_owned(),
            None => directories::ProjectDirs::from("", "", "socp")
                .ok_or_else(|| eyre!("this system has no cache directory for you; give one with --cache"))?
                .cache_dir()
                .join("bench"),
        };
        fs::create_dir_all(&dir).wrap_err_with(|| format!("cannot make {}", dir.display()))?;
        Ok(Self { dir })
    }

    /// The key of all users of a benchmark. It protects nothing, so it is kept as it is.
    pub(super) fn key(&self) -> Result<PrivateKey> {
        let path = self.dir.join("key.der");
        if path.exists() {
            let der = fs::read(&path).wrap_err_with(|| format!("cannot read {}", path.display()))?;
            return PrivateKey::from_pkcs8_der(&der)
                .wrap_err_with(|| format!("{} is damaged; remove it", path.display()));
        }
        let key = PrivateKey::generate()?;
        self.write("key.der", key.to_pkcs8_der()?.expose())?;
        Ok(key)
    }

    /// Readable by its owner only, and never half written.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.dir.join(name);
        let wrong = || format!("cannot write {}", path.display());
        let mut file = tempfile::NamedTempFile::new_in(&self.dir).wrap_err_with(wrong)?;
        file.write_all(bytes).wrap_err_with(wrong)?;
        file.persist(&path).wrap_err_with(wrong)?;
        Ok(())
    }
}

/// Whom a message is from and for, and how long it is.
#[derive(Debug)]
pub(super) struct Saying {
    pub(super) run: Run,
    pub(super) kind: Kind,
    pub(super) from: UserId,
    pub(super) to: Address,
    pub(super) text_bytes: usize,
    /// Where its author saw the reader last, if that is said.
    pub(super) home: Option<ServerId>,
}

/// One author's messages. They differ in nothing but their signature.
#[derive(Debug)]
pub(super) struct Contents {
    /// The frame before and behind its content signature.
    frame: (String, String),
    pub(super) ciphertext: String,
    pub(super) from: UserId,
    signatures: Signatures,
}

#[derive(Debug)]
enum Signatures {
    /// Real ones, and which is which.
    Made(Vec<String>, HashMap<Mark, u64>),
    /// The message's number in eight bytes, the author's in one, and something.
    Counted {
        author: u8,
        tail: String,
        /// How many there are, if not as many as are wanted.
        count: Option<u64>,
    },
}

impl Contents {
    /// As many as are wanted, each made of its number; for a server that does not verify them.
    pub(super) fn counted(saying: &Saying, author: usize, key: &PrivateKey) -> Result<Self> {
        let body = Body::new(saying, key, now_ms()?)?;
        let tail = BASE64URL_NOPAD.encode(&random_bytes::<{ SIGNATURE_BYTES - 9 }>()?);
        let author = u8::try_from(author % 256)?;
        let count = None;
        body.into_contents(Signatures::Counted { author, tail, count }, saying)
    }

    /// No more than so many.
    pub(super) fn up_to(mut self, most: usize) -> Self {
        match &mut self.signatures {
            Signatures::Made(texts, _) => texts.truncate(most),
            Signatures::Counted { count, .. } => *count = u64::try_from(most).ok(),
        }
        self
    }

    /// `count` signed ones, those of earlier runs first. Takes five milliseconds of a core for each new one.
    pub(super) fn signed(saying: &Saying, count: usize, key: &PrivateKey, cache: &Cache) -> Result<Self> {
        let fingerprint = BASE64URL_NOPAD.encode(&key.public_key().fingerprint());
        let name: String = fingerprint.chars().take(16).collect();
        let name = format!("{name}-{}-{}-{}.sigs", saying.from, saying.to, saying.text_bytes);
        let is_kept = saying.run.tag == 0;
        let kept = if is_kept {
            read_kept(&cache.dir.join(&name))?
        } else {
            None
        };
        let mut kept = match kept {
            Some(kept) => kept,
            None => Kept {
                body: Body::new(saying, key, now_ms()?)?,
                signatures: Vec::new(),
            },
        };
        let missing = count.saturating_sub(kept.signatures.len());
        if missing > 0 {
            let preimage = kept.body.preimage(saying)?;
            kept.signatures.extend(sign_many(key, &preimage, missing)?);
            if is_kept {
                cache.write(&name, &kept.to_bytes()?)?;
            }
        }
        let texts: Vec<String> = kept
            .signatures
            .iter()
            .take(count)
            .map(|signature| BASE64URL_NOPAD.encode(signature))
            .collect();
        let marks = (0..).zip(&texts).map(|(index, text)| Some((mark_of(text)?, index)));
        let marks: Option<HashMap<Mark, u64>> = marks.collect();
        let marks = marks.ok_or_else(|| eyre!("a signature is too short"))?;
        kept.body.into_contents(Signatures::Made(texts, marks), saying)
    }

    /// The frame of this number, if there are so many.
    pub(super) fn frame(&self, index: u64) -> Option<String> {
        let (head, tail) = (self.frame.0.as_str(), self.frame.1.as_str());
        match &self.signatures {
            Signatures::Made(texts, _) => {
                let text = texts.get(usize::try_from(index).ok()?)?;
                Some([head, text, tail].concat())
            }
            Signatures::Counted { count: Some(count), .. } if index >= *count => None,
            Signatures::Counted { tail: rest, .. } => Some([head, &self.number(index), rest, tail].concat()),
        }
    }

    /// How an answer names the message of this number.
    pub(super) fn reference(&self, index: u64) -> Option<String> {
        let text = match &self.signatures {
            Signatures::Made(texts, _) => texts.get(usize::try_from(index).ok()?)?.clone(),
            Signatures::Counted { tail, .. } => [&self.number(index), tail.as_str()].concat(),
        };
        Some(msg_ref(&Base64Url::try_from(text).ok()?))
    }

    /// A number in the place of the head of a signature.
    fn number(&self, index: u64) -> String {
        let mut number = [0; 9];
        let (count, last) = number.split_at_mut(8);
        count.copy_from_slice(&index.to_be_bytes());
        if let Signatures::Counted { author, .. } = &self.signatures {
            last.fill(*author);
        }
        BASE64URL_NOPAD.encode(&number)
    }

    /// Which of ours has this content signature.
    pub(super) fn index_of(&self, signature: &str) -> Option<u64> {
        let mark = mark_of(signature)?;
        match &self.signatures {
            Signatures::Made(_, marks) => marks.get(&mark).copied(),
            Signatures::Counted { author, .. } => {
                let mut number = [0; 9];
                BASE64URL_NOPAD.decode_mut(&mark, &mut number).ok()?;
                let (count, last) = number.split_first_chunk::<8>()?;
                (last == [*author]).then(|| u64::from_be_bytes(*count))
            }
        }
    }
}

fn mark_of(signature: &str) -> Option<Mark> {
    signature.as_bytes().first_chunk::<MARK_CHARS>().copied()
}

/// What all messages of one author have in common.
#[derive(Debug)]
struct Body {
    ts: u64,
    ciphertext: Vec<u8>,
    author_spki: Vec<u8>,
}

impl Body {
    fn new(saying: &Saying, key: &PrivateKey, ts: u64) -> Result<Self> {
        Ok(Self {
            ts,
            ciphertext: key.public_key().seal(&vec![b'x'; saying.text_bytes])?,
            author_spki: key.public_key().spki_der().to_vec(),
        })
    }

    fn preimage(&self, saying: &Saying) -> Result<Vec<u8>> {
        let ciphertext = BASE64URL_NOPAD.encode(&self.ciphertext);
        let from = saying.from.as_str();
        match saying.kind {
            Kind::Channel => Ok(channel_preimage(&ciphertext, from, self.ts)),
            Kind::Direct => {
                let parts = socp_crypto::ContentParts {
                    ciphertext: &ciphertext,
                    from,
                    to: saying.to.as_str(),
                    ts: self.ts,
                };
                let preimage = socp_crypto::content::content_preimage(ContentFamily::Text, parts);
                preimage.ok_or_else(|| eyre!("a content has no preimage"))
            }
        }
    }

    fn into_contents(self, signatures: Signatures, saying: &Saying) -> Result<Contents> {
        let ciphertext = Base64Url::encode(&self.ciphertext);
        let content_sig = Base64Url::encode(&[0xa5; SIGNATURE_BYTES]);
        let place = content_sig.as_str().to_owned();
        let sender_pub = KeyText::from_der(&self.author_spki);
        let text = ciphertext.as_str().to_owned();
        let payload = match saying.kind {
            Kind::Direct => Payload::MsgDirect(DirectMessage {
                ciphertext,
                sender_pub,
                content_sig,
                home: saying.home.clone(),
            }),
            Kind::Channel => Payload::MsgPublicChannel(ChannelMessage {
                ciphertext,
                sender_pub,
                content_sig,
                group_id: Some("public".to_owned()),
            }),
        };
        let draft = Draft::new(saying.from.clone(), saying.to.clone(), self.ts, &payload);
        let frame = draft.sign(&[]).to_text();
        let (head, tail) = frame
            .split_once(&place)
            .ok_or_else(|| eyre!("a frame without content signature"))?;
        Ok(Contents {
            frame: (head.to_owned(), tail.to_owned()),
            ciphertext: text,
            from: saying.from.clone(),
            signatures,
        })
    }
}

/// What an earlier run signed: the time, the length of the ciphertext, key and ciphertext, then the signatures.
struct Kept {
    body: Body,
    signatures: Vec<[u8; SIGNATURE_BYTES]>,
}

impl Kept {
    fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        bytes.extend(self.body.ts.to_be_bytes());
        for part in [&self.body.ciphertext, &self.body.author_spki] {
            bytes.extend(u64::try_from(part.len())?.to_be_bytes());
            bytes.extend(part);
        }
        bytes.extend(self.signatures.as_flattened());
        Ok(bytes)
    }

    fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let ts = take_number(&mut bytes)?;
        let [ciphertext, author_spki] = [take_part(&mut bytes)?, take_part(&mut bytes)?];
        let (signatures, []) = bytes.as_chunks::<SIGNATURE_BYTES>() else {
            return None;
        };
        let body = Body {
            ts,
            ciphertext,
            author_spki,
        };
        Some(Self {
            body,
            signatures: signatures.to_vec(),
        })
    }
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    *bytes = rest;
    Some(u64::from_be_bytes(*number))
}

fn take_part(bytes: &mut &[u8]) -> Option<Vec<u8>> {
    let len = usize::try_from(take_number(bytes)?).ok()?;
    let (part, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(part.to_vec())
}

/// What is kept, unless it is so old that servers would soon refuse it.
fn read_kept(path: &Path) -> Result<Option<Kept>> {
    if !path.exists() {
        return Ok(None);
    }
    let bytes = fs::read(path).wrap_err_with(|| format!("cannot read {}", path.display()))?;
    let Some(kept) = Kept::from_bytes(&bytes) else {
        bail!("{} is damaged; remove it", path.display());
    };
    let is_fresh = now_ms()?.saturating_sub(kept.body.ts) < CONTENT_AGE_MAX_MS / 2;
    Ok(is_fresh.then_some(kept))
}

/// On all cores.
fn sign_many(key: &PrivateKey, message: &[u8], count: usize) -> Result<Vec<[u8; SIGNATURE_BYTES]>> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let share = count.div_ceil(threads);
    let mut all = Vec::with_capacity(count);
    std::thread::scope(|scope| -> Result<()> {
        let sign = || (0..share).map(|_| key.sign(message)).collect::<Result<Vec<_>, _>>();
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(sign)).collect();
        for worker in workers {
            all.extend(worker.join().map_err(|_| eyre!("signing failed"))??);
        }
        Ok(())
    })?;
    all.truncate(count);
    Ok(all)
}

/// Milliseconds since the Unix epoch.
pub(super) fn now_ms() -> Result<u64> {
    Ok(u64::try_from(
        SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis(),
    )?)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A key out of the test vectors, since making one takes long.
    pub(in super::super) fn key() -> PrivateKey {
        let text = include_str!("../../../../../vectors/keys.json");
        let file: serde_json::Value = serde_json::from_str(text).unwrap();
        let case = file["cases"]
            .as_array()
            .unwrap()
            .iter()
            .find_map(|case| case["pkcs8_b64u"].as_str());
        let der = BASE64URL_NOPAD.decode(case.unwrap().as_bytes()).unwrap();
        PrivateKey::from_pkcs8_der(&der).unwrap()
    }

    fn saying() -> Saying {
        let run = Run::on_fresh_servers();
        Saying {
            run,
            kind: Kind::Direct,
            from: run.author(3).unwrap(),
            to: run.reader(3).unwrap().into(),
            text_bytes: 5,
            home: None,
        }
    }

    #[test]
    fn a_counted_signature_tells_its_number() {
        let key = key();
        let contents = Contents::counted(&saying(), 3, &key).unwrap();
        for index in [0, 1, 70_000, u64::MAX] {
            let text = contents.frame(index).unwrap();
            let frame = socp_proto::Frame::parse(&text).unwrap();
            let socp_proto::Payload::MsgDirect(message) = frame.payload else {
                panic!("{text}");
            };
            assert_eq!(message.content_sig.decode().len(), SIGNATURE_BYTES);
            assert_eq!(contents.index_of(message.content_sig.as_str()), Some(index));
        }
        let of_another = Contents::counted(&saying(), 4, &key).unwrap();
        let sig = BASE64URL_NOPAD.encode(&[0; SIGNATURE_BYTES]);
        assert_eq!((of_another.index_of(&sig), contents.index_of("AAAA")), (None, None));
    }

    #[test]
    fn signatures_are_real_differ_and_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(Some(dir.path())).unwrap();
        cache.write("key.der", key().to_pkcs8_der().unwrap().expose()).unwrap();
        let key = cache.key().unwrap();
        let first = Contents::signed(&saying(), 2, &key, &cache).unwrap();
        let more = Contents::signed(&saying(), 3, &cache.key().unwrap(), &cache).unwrap();
        let frames: Vec<String> = (0..3).map(|index| more.frame(index).unwrap()).collect();
        assert_eq!(first.frame(0).as_ref(), frames.first());
        assert_eq!((first.frame(2), more.frame(3)), (None, None));
        for (index, text) in (0..).zip(&frames) {
            let frame = socp_proto::Frame::parse(text).unwrap();
            let verdict = socp_crypto::check_content(&frame, key.public_key()).unwrap();
            assert!(matches!(verdict, socp_crypto::ContentCheck::Good));
            let signature = socp_crypto::frame_content::signature_of(&frame.payload).unwrap();
            assert_eq!(more.index_of(signature.as_str()), Some(index));
        }
    }

    #[test]
    fn a_damaged_cache_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sigs");
        fs::write(&path, [0; 20]).unwrap();
        assert!(read_kept(&path).is_err_and(|error| error.to_string().contains("x.sigs is damaged")));
    }
}

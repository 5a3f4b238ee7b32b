//! Disk and keys of file transfer, on a thread of their own (SOCP §9.4, PROTOCOL I.9).
//!
//! Chunks are encrypted and decrypted one after the other, in the order in which they are asked for, beside the thread
//! of the messages: a long file holds nobody up. No more than one chunk of a file is in memory at a time, here; what
//! waits for the thread is bounded by the driver.

mod download;
mod safe_name;
mod source;

pub(crate) use download::clean_up;
pub use source::OutgoingFile;

use crate::worker::Done;
use download::Download;
use socp_core::client::{FileDone, FileFault, FileWork, Input, SealChunk, Sealed, SendFault, Source, Ticket};
use socp_crypto::content::{FileChunkParts, file_chunk_preimage};
use socp_crypto::{ContentCheck, CryptoError, PublicKey, UserKeys, check_content};
use socp_proto::limits::FILE_CHUNK_BYTES;
use socp_proto::{Base64Url, Frame, KeyText, Payload, UserId};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tokio::sync::mpsc;

/// One thing to do.
#[derive(Debug)]
pub(crate) enum FileJob {
    /// A file of ours, named by the command's ticket.
    Source(Ticket, OutgoingFile),
    Work(FileWork),
}

/// The jobs under way. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct FileLane {
    jobs: mpsc::UnboundedSender<FileJob>,
    done: mpsc::UnboundedReceiver<Option<Done>>,
    under_way: usize,
}

impl FileLane {
    /// `downloads` is where files that arrive are kept.
    pub(crate) fn start(user: UserId, keys: UserKeys, downloads: Option<PathBuf>) -> Self {
        let (jobs, mut queue) = mpsc::unbounded_channel();
        let (results, done) = mpsc::unbounded_channel();
        let mut desk = Desk {
            user,
            keys,
            downloads,
            sources: BTreeMap::new(),
            incoming: BTreeMap::new(),
            author: None,
        };
        tokio::task::spawn_blocking(move || {
            if let Some(dir) = &desk.downloads {
                clean_up(dir);
            }
            while let Some(job) = queue.blocking_recv() {
                let done = desk.perform(job).map(|done| Done::Input(Box::new(Input::File(done))));
                if results.send(done).is_err() {
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
    pub(crate) fn ask(&mut self, job: FileJob) {
        // The thread only ends with us.
        if self.jobs.send(job).is_ok() {
            self.under_way = self.under_way.saturating_add(1);
        }
    }

    pub(crate) fn under_way(&self) -> usize {
        self.under_way
    }

    /// What came of the oldest job; nothing, where nobody waits for it.
    pub(crate) async fn next(&mut self) -> Option<Option<Done>> {
        let done = self.done.recv().await?;
        self.under_way = self.under_way.saturating_sub(1);
        Some(done)
    }
}

/// What the thread works with.
struct Desk {
    user: UserId,
    keys: UserKeys,
    downloads: Option<PathBuf>,
    sources: BTreeMap<Ticket, OutgoingFile>,
    incoming: BTreeMap<Ticket, Download>,
    /// The key that was used last; a transfer has one.
    author: Option<(KeyText, PublicKey)>,
}

impl Desk {
    fn perform(&mut self, job: FileJob) -> Option<FileDone> {
        let work = match job {
            FileJob::Source(ticket, file) => {
                self.sources.insert(ticket, file);
                return None;
            }
            FileJob::Work(work) => work,
        };
        match work {
            // These are done beside the messages, in their order.
            FileWork::Sign { .. } | FileWork::Check { .. } => None,
            FileWork::Seal(chunk) => {
                let (ticket, index, ts) = (chunk.ticket, chunk.index, chunk.ts);
                let result = self.seal(chunk);
                Some(FileDone::Sealed {
                    ticket,
                    index,
                    ts,
                    result,
                })
            }
            FileWork::Close { source } => {
                self.sources.remove(&source);
                None
            }
            FileWork::Begin {
                ticket,
                key,
                frame,
                source,
            } => {
                let result = self.begin(ticket, &key, &frame, source);
                Some(FileDone::Begun { ticket, result })
            }
            FileWork::Write { ticket, key, frame } => {
                let result = self.write(ticket, &key, &frame)?;
                Some(FileDone::Written { ticket, result })
            }
            FileWork::Keep { ticket } => {
                let download = self.incoming.remove(&ticket)?;
                let dir = self.downloads.as_ref()?;
                let result = download.keep(dir).map(|path| path.to_string_lossy().into_owned());
                Some(FileDone::Kept { ticket, result })
            }
            FileWork::Discard { ticket } => {
                self.incoming.remove(&ticket);
                Some(FileDone::Discarded { ticket })
            }
        }
    }

    fn seal(&mut self, chunk: SealChunk) -> Result<Sealed, SendFault> {
        let gone = || SendFault::Source("the file is not open any more".to_owned());
        let source = self.sources.get_mut(&chunk.source).ok_or_else(gone)?;
        let bytes = source.read(chunk.index, chunk.total)?;
        let failed = |error: CryptoError| SendFault::Source(format!("a part cannot be encrypted: {error}"));
        let ciphertext = Base64Url::encode(
            &self
                .public(&chunk.key)
                .and_then(|key| key.seal(&bytes))
                .map_err(failed)?,
        );
        let preimage = file_chunk_preimage(&FileChunkParts {
            ciphertext: ciphertext.as_str(),
            from: self.user.as_str(),
            to: chunk.to.as_str(),
            ts: chunk.ts,
            file_id: &chunk.file_id,
            index: chunk.index,
            total: chunk.total,
        });
        let content_sig = Base64Url::encode(&self.keys.sign.sign(&preimage).map_err(failed)?);
        Ok(Sealed {
            ciphertext,
            content_sig,
        })
    }

    fn begin(&mut self, ticket: Ticket, key: &KeyText, frame: &Frame, source: Source) -> Result<(), FileFault> {
        self.check(key, frame)?;
        let nowhere = || FileFault::Disk("there is no folder for files".to_owned());
        let dir = self.downloads.as_ref().ok_or_else(nowhere)?;
        self.incoming.insert(ticket, Download::create(dir, source)?);
        Ok(())
    }

    /// Nothing where the transfer is over.
    fn write(&mut self, ticket: Ticket, key: &KeyText, frame: &Frame) -> Option<Result<u64, FileFault>> {
        if !self.incoming.contains_key(&ticket) {
            return None;
        }
        let bytes = self.check(key, frame).and_then(|()| self.open(frame));
        let download = self.incoming.get_mut(&ticket)?;
        Some(bytes.and_then(|bytes| {
            download.write(bytes.expose())?;
            Ok(u64::try_from(bytes.expose().len()).unwrap_or(u64::MAX))
        }))
    }

    fn open(&self, frame: &Frame) -> Result<socp_crypto::SecretBytes, FileFault> {
        let Payload::FileChunk(chunk) = &frame.payload else {
            return Err(FileFault::Decrypt);
        };
        let opened = self.keys.open(&chunk.ciphertext.decode(), FILE_CHUNK_BYTES);
        opened.map_err(|_| FileFault::Decrypt)
    }

    /// What the author signed must be theirs; what is not signed, the state machine judges (PROTOCOL I.9).
    fn check(&mut self, key: &KeyText, frame: &Frame) -> Result<(), FileFault> {
        let author = self.public(key).map_err(|_| FileFault::Signature)?;
        match check_content(frame, &author) {
            Ok(ContentCheck::Good | ContentCheck::Absent) => Ok(()),
            Ok(ContentCheck::Wrong) | Err(_) => Err(FileFault::Signature),
        }
    }

    fn public(&mut self, text: &KeyText) -> Result<PublicKey, CryptoError> {
        if let Some((known, key)) = &self.author
            && known == text
        {
            return Ok(key.clone());
        }
        let key = PublicKey::from_spki_der(&text.der())?;
        self.author = Some((text.clone(), key.clone()));
        Ok(key)
    }
}

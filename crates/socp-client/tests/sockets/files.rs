//! Files with real keys and a real disk.

use crate::puppet::*;
use socp_client::{
    Client, Downloads, Event, EventStream, FileFault, FileNews, FileStage, OutgoingFile, Profile, Target,
};
use socp_crypto::content::{FileEndParts, file_end_preimage};
use socp_crypto::digest::Hasher;
use socp_crypto::frame_content::Saying;
use socp_crypto::{ContentCheck, PrivateKey, PublicKey, UserKeys, check_content, content_preimage_of};
use socp_proto::payload::{FileChunk, FileEnd, FileMode, FileStart, FileStatus};
use socp_proto::{Base64Url, Frame, FrameKind, KeyText, Payload, UserId};
use std::future::Future;
use std::path::{Path, PathBuf};
use tokio::task::JoinHandle;

const CHUNK: usize = 446;
const TS: u64 = 7;

/// What Alice's program says to send these bytes, one frame after the other.
struct Author {
    key: PrivateKey,
    reader: PublicKey,
    us: PublicKey,
    me: UserId,
    file_id: &'static str,
    bytes: Vec<u8>,
}

impl Author {
    fn signed(&self, payload: Payload) -> Payload {
        let saying = Saying {
            from: ALICE,
            to: self.me.as_str(),
            ts: TS,
        };
        let preimage = content_preimage_of(&payload, saying).unwrap().unwrap();
        let sig = Some(Base64Url::encode(&self.key.sign(&preimage).unwrap()));
        match payload {
            Payload::FileStart(start) => Payload::FileStart(FileStart {
                content_sig: sig,
                ..start
            }),
            Payload::FileChunk(chunk) => Payload::FileChunk(FileChunk {
                content_sig: sig,
                ..chunk
            }),
            other => other,
        }
    }

    fn start(&self, sha256: Option<&str>) -> Payload {
        let mut hasher = Hasher::new();
        hasher.update(&self.bytes);
        self.signed(Payload::FileStart(FileStart {
            file_id: self.file_id.to_owned(),
            name: "../../\u{202e}photo.png".to_owned(),
            size: self.bytes.len().try_into().unwrap(),
            sha256: sha256.map_or_else(|| hasher.finish_hex(), str::to_owned),
            mode: FileMode::Dm,
            sender_pub: Some(KeyText::from_der(self.key.public_key().spki_der())),
            content_sig: None,
        }))
    }

    fn chunks(&self) -> Vec<Payload> {
        let total = self.bytes.chunks(CHUNK).count().try_into().ok();
        let pieces = (0..).zip(self.bytes.chunks(CHUNK));
        let chunk = |(index, piece): (u64, &[u8])| {
            self.signed(Payload::FileChunk(FileChunk {
                file_id: self.file_id.to_owned(),
                index,
                ciphertext: Base64Url::encode(&self.reader.seal(piece).unwrap()),
                total,
                sender_pub: None,
                content_sig: None,
            }))
        };
        pieces.map(chunk).collect()
    }

    fn end(&self) -> Payload {
        Payload::FileEnd(FileEnd {
            file_id: self.file_id.to_owned(),
            status: None,
            detail: None,
            sender_pub: None,
            content_sig: None,
        })
    }

    fn whole(&self) -> Vec<Payload> {
        let mut whole = vec![self.start(None)];
        whole.extend(self.chunks());
        whole.push(self.end());
        whole
    }
}

/// Any bytes, no two chunks the same.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|n| (n * 7 + n / 251).to_le_bytes()[0]).collect()
}

/// Who takes part. Keys take seconds to make on a busy machine, so they are there before anybody waits for anybody.
struct Cast {
    dir: tempfile::TempDir,
    profile: Profile,
    keys: UserKeys,
    server: PrivateKey,
    alice: PrivateKey,
    reconnects: bool,
}

impl Cast {
    async fn gather() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (profile, keys) = profile(&dir.path().join("profile"));
        let (server, alice) = tokio::join!(generate(), generate());
        Self {
            dir,
            profile,
            keys,
            server,
            alice,
            reconnects: false,
        }
    }

    fn downloads(&self) -> PathBuf {
        self.dir.path().join("downloads")
    }

    /// Lets the client connect to a server that does as told once it has let it in, with Alice pinned.
    async fn play<F: Future<Output = T> + Send + 'static, T: Send + 'static>(
        &self,
        script: impl FnOnce(Puppet, Author) -> F + Send + 'static,
    ) -> (Client, EventStream, JoinHandle<T>) {
        let (listener, options) = listen().await;
        let mut options = options.keeping_files(Downloads {
            dir: self.downloads(),
            size_max: 10_000,
        });
        options.reconnect = self.reconnects;
        let author = Author {
            key: self.alice.clone(),
            reader: self.keys.enc.public_key().clone(),
            us: self.keys.sign.public_key().clone(),
            me: self.profile.identity().user_id.clone(),
            file_id: "f-1",
            bytes: bytes(1_000),
        };
        let server = self.server.clone();
        let puppet = tokio::spawn(async move {
            let mut puppet = Puppet::accept(&listener, &server).await;
            puppet.welcome(&author.me).await;
            puppet.say(&author.me, &key_of(ALICE, Some(&author.key))).await;
            script(puppet, author).await
        });
        let (client, events) = Client::connect(self.profile.clone(), self.keys.clone(), options)
            .await
            .unwrap();
        (client, events, puppet)
    }

    /// Lets the client receive these frames; how it ended, and what its author was told.
    async fn receive(&self, frames: impl FnOnce(&Author) -> Vec<Payload> + Send + 'static) -> (FileNews, Frame) {
        let us = self.keys.sign.public_key().clone();
        let script = move |mut puppet: Puppet, author: Author| async move {
            for payload in frames(&author) {
                puppet.say_for(alice(), &author.me, TS, &payload).await;
            }
            let status = puppet.expect(FrameKind::FileEnd).await;
            assert_eq!(check_content(&status, &us), Ok(ContentCheck::Good));
            status
        };
        let (_client, mut events, puppet) = self.play(script).await;
        let news = loop {
            if let Event::File(news) = next(&mut events).await
                && matches!(news.stage, FileStage::Received(_) | FileStage::Failed(_))
            {
                break news;
            }
        };
        (news, puppet.await.unwrap())
    }
}

fn alice() -> UserId {
    UserId::try_from(ALICE).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn status(frame: &Frame) -> (FileStatus, Option<String>) {
    match &frame.payload {
        Payload::FileEnd(end) => (end.status.unwrap(), end.detail.clone()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_file_arrives_under_a_safe_name_and_its_author_is_told() {
    let cast = Cast::gather().await;
    let (news, told) = cast.receive(Author::whole).await;
    let FileStage::Received(path) = &news.stage else {
        panic!("{news:?}")
    };
    assert!(path.ends_with("downloads/_photo.png"), "{path}");
    assert_eq!(std::fs::read(path).unwrap(), bytes(1_000));
    assert_eq!(names(&cast.downloads()), ["_photo.png"]);
    let mut hasher = Hasher::new();
    hasher.update(&bytes(1_000));
    assert_eq!(status(&told), (FileStatus::Received, Some(hasher.finish_hex())));
    assert!(news.verified);
}

#[tokio::test]
async fn a_file_that_was_tampered_with_leaves_nothing_and_its_author_is_told() {
    type Tamper = fn(&Author) -> Vec<Payload>;
    let flipped: Tamper = |author| {
        let mut whole = author.whole();
        if let Payload::FileChunk(chunk) = &mut whole[2] {
            let mut bytes = chunk.ciphertext.decode();
            bytes[100] ^= 1;
            chunk.ciphertext = Base64Url::encode(&bytes);
        }
        whole
    };
    let swapped_content: Tamper = |author| {
        // Another's block in place of the author's, with the author's signature.
        let mut whole = author.whole();
        if let Payload::FileChunk(chunk) = &mut whole[1] {
            chunk.ciphertext = Base64Url::encode(&author.reader.seal(b"mine").unwrap());
        }
        whole
    };
    let dropped: Tamper = |author| {
        let mut whole = author.whole();
        whole.remove(2);
        whole
    };
    let reordered: Tamper = |author| {
        let mut whole = author.whole();
        whole.swap(1, 2);
        whole
    };
    let wrong_hash: Tamper = |author| {
        let mut whole = author.whole();
        whole[0] = author.start(Some(&"0".repeat(64)));
        whole
    };
    let too_much: Tamper = |author| {
        let mut whole = author.whole();
        if let Payload::FileStart(start) = &whole[0] {
            let start = FileStart {
                size: start.size - 100,
                ..start.clone()
            };
            whole[0] = author.signed(Payload::FileStart(start));
        }
        whole
    };
    let forged_start: Tamper = |author| {
        let mut whole = author.whole();
        if let Payload::FileStart(start) = &mut whole[0] {
            start.name = "other.exe".to_owned();
        }
        whole
    };
    let too_big: Tamper = |author| {
        let mut whole = author.whole();
        if let Payload::FileStart(start) = &whole[0] {
            let start = FileStart {
                size: 10_001,
                ..start.clone()
            };
            whole[0] = author.signed(Payload::FileStart(start));
        }
        whole
    };
    let table = [
        (flipped, FileFault::Signature),
        (swapped_content, FileFault::Signature),
        (dropped, FileFault::Order { expected: 1, got: 2 }),
        (reordered, FileFault::Order { expected: 0, got: 1 }),
        (wrong_hash, FileFault::Hash),
        (too_much, FileFault::Size { got: 1_000, size: 900 }),
        (forged_start, FileFault::Signature),
        (
            too_big,
            FileFault::TooBig {
                size: 10_001,
                max: 10_000,
            },
        ),
    ];
    let cast = Cast::gather().await;
    for (tamper, fault) in table {
        let (news, told) = cast.receive(tamper).await;
        assert_eq!(news.stage, FileStage::Failed(fault.clone()));
        assert_eq!(status(&told), (FileStatus::Failed, Some(fault.to_string())));
        assert!(names(&cast.downloads()).is_empty(), "{fault}");
    }
}

#[tokio::test]
async fn a_program_that_leaves_amid_a_file_leaves_nothing_of_it() {
    let cast = Cast::gather().await;
    let script = |mut puppet: Puppet, author: Author| async move {
        for payload in author.whole().into_iter().take(2) {
            puppet.say_for(alice(), &author.me, TS, &payload).await;
        }
        puppet
    };
    let (client, mut events, puppet) = cast.play(script).await;
    while !matches!(next(&mut events).await, Event::File(_)) {}
    assert_eq!(names(&cast.downloads()).len(), 1);
    client.close().await;
    assert!(names(&cast.downloads()).is_empty());
    drop(puppet.await.unwrap());
}

#[tokio::test]
async fn a_file_that_is_kept_when_its_link_is_gone_is_told_of_at_once_whether_another_comes_or_not() {
    for reconnects in [false, true] {
        let mut cast = Cast::gather().await;
        cast.reconnects = reconnects;
        let script = |mut puppet: Puppet, mut author: Author| async move {
            // Enough to decrypt that the link is gone before the file is there.
            author.bytes = bytes(10_000);
            for payload in author.whole() {
                puppet.say_for(alice(), &author.me, TS, &payload).await;
            }
        };
        let (client, mut events, puppet) = cast.play(script).await;
        puppet.await.unwrap();
        let stage = loop {
            if let Event::File(news) = next(&mut events).await
                && matches!(news.stage, FileStage::Received(_) | FileStage::Failed(_))
            {
                break news.stage;
            }
        };
        assert!(matches!(stage, FileStage::Received(_)), "{stage:?}");
        assert_eq!(names(&cast.downloads()), ["_photo.png"]);
        // Nobody listens any more, so there is nobody to wait for.
        client.close().await;
    }
}

/// The server's part while our client sends; the bytes that its reader decrypts.
async fn take(puppet: &mut Puppet, us: &PublicKey, me: &UserId, alice: &PrivateKey) -> (FileStart, Vec<u8>) {
    let (mut start, mut received) = (None, Vec::new());
    loop {
        let frame = puppet.next().await;
        match &frame.payload {
            Payload::PubkeyRequest(request) => {
                let answer = key_of(request.user_id.as_str(), None);
                puppet.say(me, &answer).await;
                continue;
            }
            Payload::FileStart(manifest) => start = Some(manifest.clone()),
            Payload::FileChunk(chunk) => {
                assert_eq!(chunk.index, u64::try_from(received.len() / CHUNK).unwrap());
                received.extend_from_slice(alice.open(&chunk.ciphertext.decode(), CHUNK).unwrap().expose());
            }
            Payload::FileEnd(_) => return (start.unwrap(), received),
            other => panic!("{other:?}"),
        }
        assert_eq!(check_content(&frame, us), Ok(ContentCheck::Good));
    }
}

fn word(alice: &PrivateKey, me: &UserId, file_id: &str, status: FileStatus, detail: &str) -> Payload {
    let text = match status {
        FileStatus::Receiving => "receiving",
        FileStatus::Received => "received",
        FileStatus::Failed => "failed",
    };
    let preimage = file_end_preimage(&FileEndParts {
        detail,
        file_id,
        from: ALICE,
        status: text,
        to: me.as_str(),
        ts: TS,
    });
    Payload::FileEnd(FileEnd {
        file_id: file_id.to_owned(),
        status: Some(status),
        detail: (!detail.is_empty()).then(|| detail.to_owned()),
        sender_pub: Some(KeyText::from_der(alice.public_key().spki_der())),
        content_sig: Some(Base64Url::encode(&alice.sign(&preimage.unwrap()).unwrap())),
    })
}

#[tokio::test]
async fn a_file_of_ours_opens_with_the_readers_key_and_a_forged_word_about_it_counts_for_nothing() {
    let (cast, mallory) = tokio::join!(Cast::gather(), generate());
    let path = cast.dir.path().join("photo.png");
    std::fs::write(&path, bytes(1_000)).unwrap();
    let script = |mut puppet: Puppet, Author { key, us, me, .. }: Author| async move {
        let (start, received) = take(&mut puppet, &us, &me, &key).await;
        assert_eq!(
            (start.name.as_str(), start.size, start.mode),
            ("photo.png", 1_000, FileMode::Dm)
        );
        assert_eq!(received, bytes(1_000));
        let forged = word(&mallory, &me, &start.file_id, FileStatus::Failed, "forged");
        puppet.say_for(alice(), &me, TS, &forged).await;
        let true_word = word(&key, &me, &start.file_id, FileStatus::Received, "");
        puppet.say_for(alice(), &me, TS, &true_word).await;
        puppet
    };
    let (client, _events, puppet) = cast.play(script).await;
    let file = OutgoingFile::open(&path, 1_000).unwrap();
    let sending = client.begin_file(Target::User(alice()), file).await.unwrap();
    let report = sending.finish().await.unwrap();
    assert_eq!((report.received.len(), report.failed.len()), (1, 0));
    drop(puppet.await.unwrap());
}

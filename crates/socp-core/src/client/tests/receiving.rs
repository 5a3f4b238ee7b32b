//! Files on their way in: what is kept, what is given up, and who is told.

use super::super::receiving::{
    BEGUN_PER_AUTHOR_COUNT_MAX, BEGUN_PERIOD_MS, FILE_IDLE_MAX_MS, FILE_REPORT_CHUNKS, FILE_WINDOW_CHUNKS,
    INCOMING_COUNT_MAX, INCOMING_PER_AUTHOR_COUNT_MAX, KEPT_BYTES_MAX,
};
use super::super::testkit::*;
use super::super::*;
use socp_proto::payload::{FileChunk, FileEnd, FileMode, FileStart, FileStatus};
use socp_proto::{Base64Url, FrameKind};

const CHUNK: u64 = 446;

/// A manifest of so many full chunks.
fn start_of(id: &str, chunks: u64, is_signed: bool) -> FileStart {
    FileStart {
        file_id: id.to_owned(),
        name: "photo.png".to_owned(),
        size: chunks * CHUNK,
        sha256: "A".repeat(64),
        mode: FileMode::Dm,
        sender_pub: is_signed.then(|| key(66)),
        content_sig: is_signed.then(|| Base64Url::encode(&[3; 8])),
    }
}

fn start(id: &str, chunks: u64) -> Payload {
    Payload::FileStart(start_of(id, chunks, true))
}

fn chunk_of(id: &str, index: u64, total: Option<u64>, is_signed: bool) -> Payload {
    Payload::FileChunk(FileChunk {
        file_id: id.to_owned(),
        index,
        ciphertext: Base64Url::encode(&[7; 512]),
        total,
        sender_pub: is_signed.then(|| key(66)),
        content_sig: is_signed.then(|| Base64Url::encode(&index.to_be_bytes())),
    })
}

fn chunk(id: &str, index: u64, total: u64) -> Payload {
    chunk_of(id, index, Some(total), true)
}

fn end(id: &str) -> Payload {
    Payload::FileEnd(FileEnd {
        file_id: id.to_owned(),
        status: None,
        detail: None,
        sender_pub: None,
        content_sig: None,
    })
}

/// A kit whose driver does all that is asked, well unless told otherwise.
struct Receiver {
    kit: Kit,
    begun: Result<(), FileFault>,
    written: Result<u64, FileFault>,
    kept: Result<String, FileFault>,
    events: Vec<Event>,
    work: Vec<&'static str>,
    /// What was told to whom.
    words: Vec<(String, FileStatus, Option<String>)>,
    is_slow_to_sign: bool,
    unsigned: Vec<Ticket>,
}

impl Receiver {
    fn new() -> Self {
        Self::with(Kit::with_alice())
    }

    fn with(kit: Kit) -> Self {
        Self {
            kit,
            begun: Ok(()),
            written: Ok(CHUNK),
            kept: Ok("/downloads/photo.png".to_owned()),
            events: Vec::new(),
            work: Vec::new(),
            words: Vec::new(),
            is_slow_to_sign: false,
            unsigned: Vec::new(),
        }
    }

    fn says(&mut self, from: &str, payload: Payload) {
        let outputs = self.kit.frame(from, payload, 200);
        self.perform(outputs);
    }

    fn alice(&mut self, payloads: impl IntoIterator<Item = Payload>) {
        for payload in payloads {
            self.says(ALICE, payload);
        }
    }

    fn perform(&mut self, outputs: Vec<Output>) {
        let mut queue: std::collections::VecDeque<Output> = outputs.into();
        while let Some(output) = queue.pop_front() {
            let more = match output {
                Output::File(FileWork::Begin {
                    ticket,
                    key: with,
                    source,
                    ..
                }) => {
                    assert_eq!((with, source.sha256), (key(2), "a".repeat(64)));
                    self.work.push("begin");
                    let result = self.begun.clone();
                    self.kit.input(Input::File(FileDone::Begun { ticket, result }))
                }
                Output::File(FileWork::Write { ticket, key: with, .. }) => {
                    assert_eq!(with, key(2), "the pinned key counts, whatever is in the frame");
                    self.work.push("write");
                    let result = self.written.clone();
                    self.kit.input(Input::File(FileDone::Written { ticket, result }))
                }
                Output::File(FileWork::Keep { ticket }) => {
                    self.work.push("keep");
                    let result = self.kept.clone();
                    self.kit.input(Input::File(FileDone::Kept { ticket, result }))
                }
                Output::File(FileWork::Discard { ticket }) => {
                    self.work.push("discard");
                    self.kit.input(Input::File(FileDone::Discarded { ticket }))
                }
                Output::File(FileWork::Sign {
                    ticket, payload, to, ..
                }) => {
                    let Payload::FileEnd(end) = *payload else {
                        panic!("{payload:?}")
                    };
                    self.words
                        .push((to.as_str().to_owned(), end.status.unwrap(), end.detail));
                    if self.is_slow_to_sign {
                        self.unsigned.push(ticket);
                        continue;
                    }
                    let result = Ok(Base64Url::encode(&ticket.to_be_bytes()));
                    let outputs = self.kit.input(Input::File(FileDone::Signed { ticket, result }));
                    assert_eq!(sent(&outputs).first(), Some(&FrameKind::FileEnd));
                    outputs
                }
                Output::Event(event) => {
                    self.events.push(event);
                    continue;
                }
                _ => continue,
            };
            queue.extend(more);
        }
    }

    fn stages(&self) -> Vec<&FileStage> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::File(news) => Some(&news.stage),
                _ => None,
            })
            .collect()
    }

    fn fault(&self) -> Option<FileFault> {
        match self.stages().last() {
            Some(FileStage::Failed(fault)) => Some(fault.clone()),
            _ => None,
        }
    }

    fn clear(&mut self) {
        self.events.clear();
        self.work.clear();
        self.words.clear();
    }
}

#[test]
fn a_file_is_written_checked_and_kept() {
    let mut receiver = Receiver::new();
    receiver.alice([start("f", 2), chunk("f", 0, 2), chunk("f", 1, 2), end("f")]);
    assert_eq!(receiver.work, ["begin", "write", "write", "keep"]);
    assert!(
        matches!(&receiver.stages()[..], [FileStage::Started, FileStage::Received(path)] if path.ends_with(".png"))
    );
    // The author learns which file it was.
    assert_eq!(
        receiver.words,
        [(ALICE.to_owned(), FileStatus::Received, Some("a".repeat(64)))]
    );
    // The same once more, as somebody might replay it.
    receiver.clear();
    receiver.alice([start("f", 2), chunk("f", 0, 2), chunk("f", 1, 2), end("f")]);
    assert!(receiver.work.is_empty() && receiver.events.is_empty() && receiver.words.is_empty());
}

#[test]
fn who_leaves_right_after_a_file_still_tells_its_author() {
    for is_signed in [true, false] {
        let mut receiver = Receiver::new();
        receiver.is_slow_to_sign = true;
        receiver.alice([start("f", 0), end("f")]);
        assert!(matches!(receiver.stages()[..], [.., FileStage::Received(_)]));
        let outputs = receiver.kit.input(Input::Command(Command::Close));
        assert_eq!(sent(&outputs), [], "not before the word is signed");
        let [ticket] = receiver.unsigned[..] else {
            panic!("{:?}", receiver.unsigned)
        };
        let outputs = if is_signed {
            let result = Ok(Base64Url::encode(&[9; 8]));
            receiver.kit.input(Input::File(FileDone::Signed { ticket, result }))
        } else {
            receiver.kit.wait(2_000)
        };
        let words: &[FrameKind] = if is_signed { &[FrameKind::FileEnd] } else { &[] };
        assert_eq!(sent(&outputs), [words, &[FrameKind::CtrlClose]].concat());
        assert!(outputs.contains(&Output::Disconnect), "{outputs:?}");
    }
}

#[test]
fn who_leaves_amid_a_file_keeps_nothing_and_tells_its_author() {
    let mut receiver = Receiver::new();
    receiver.alice([start("f", 2), chunk("f", 0, 2)]);
    let outputs = receiver.kit.input(Input::Command(Command::Close));
    assert!(!outputs.contains(&Output::Disconnect), "{outputs:?}");
    receiver.perform(outputs);
    assert_eq!(receiver.work, ["begin", "write", "discard"]);
    assert_eq!(receiver.fault(), Some(FileFault::Left));
    let why = Some(FileFault::Left.to_string());
    assert_eq!(receiver.words, [(ALICE.to_owned(), FileStatus::Failed, why)]);
}

#[test]
fn a_beginning_that_is_refused_is_not_shown_as_verified() {
    let mut receiver = Receiver::new();
    receiver.begun = Err(FileFault::Signature);
    receiver.alice([start("f", 1)]);
    assert_eq!(receiver.fault(), Some(FileFault::Signature));
    let shown = receiver.events.iter().filter_map(|event| match event {
        Event::File(news) => Some((news.verified, news.is_begun)),
        _ => None,
    });
    assert_eq!(shown.collect::<Vec<_>>(), [(false, false)]);
}

#[test]
fn an_empty_file_is_kept() {
    let mut receiver = Receiver::new();
    receiver.alice([start("f", 0), end("f")]);
    assert_eq!(receiver.work, ["begin", "keep"]);
}

#[test]
fn every_fault_is_told_to_both_people_and_nothing_stays() {
    type Check = fn(&FileFault) -> bool;
    let order: Check = |fault| matches!(fault, FileFault::Order { .. });
    let total: Check = |fault| matches!(fault, FileFault::Total { .. });
    let table: Vec<(&str, Vec<Payload>, Check)> = vec![
        ("dropped", vec![chunk("f", 1, 3)], order),
        ("repeated", vec![chunk("f", 0, 3), chunk("f", 0, 3)], order),
        ("out of order", vec![chunk("f", 0, 3), chunk("f", 2, 3)], order),
        (
            "one too many",
            (0..4).map(|index| chunk("f", index, 3)).collect(),
            order,
        ),
        ("other total", vec![chunk("f", 0, 4)], total),
        ("too few for the size", vec![chunk("f", 0, 2)], total),
        ("more than bytes", vec![chunk("f", 0, 100_000)], total),
        ("changing total", vec![chunk("f", 0, 3), chunk("f", 1, 5)], total),
        ("no signature", vec![chunk_of("f", 0, Some(3), false)], |fault| {
            *fault == FileFault::Unsigned(0)
        }),
        ("early end", vec![chunk("f", 0, 3), end("f")], |fault| {
            *fault == FileFault::Missing { got: 1, total: 3 }
        }),
        ("end at once", vec![end("f")], |fault| {
            *fault == FileFault::Missing { got: 0, total: 3 }
        }),
        ("begun again", vec![start("f", 3)], |fault| {
            *fault == FileFault::Repeated
        }),
    ];
    for (what, payloads, is_right) in table {
        let mut receiver = Receiver::new();
        receiver.alice([start("f", 3)]);
        receiver.alice(payloads);
        let fault = receiver.fault().unwrap_or_else(|| panic!("{what} is taken"));
        assert!(is_right(&fault), "{what} gives {fault}");
        assert_eq!(receiver.work.last(), Some(&"discard"), "{what}");
        assert_eq!(
            receiver.words,
            [(ALICE.to_owned(), FileStatus::Failed, Some(fault.to_string()))]
        );
        // What still comes of it is of no interest.
        receiver.clear();
        receiver.alice([chunk("f", 0, 3), end("f")]);
        assert!(receiver.work.is_empty() && receiver.events.is_empty());
    }
}

#[test]
fn what_the_driver_finds_wrong_ends_it_as_well() {
    let disk = || FileFault::Disk("no space left".to_owned());
    let whole = || [start("f", 1), chunk("f", 0, 1), end("f")];
    type Break = fn(&mut Receiver, FileFault);
    let at_begin: Break = |receiver, fault| receiver.begun = Err(fault);
    let at_write: Break = |receiver, fault| receiver.written = Err(fault);
    let at_end: Break = |receiver, fault| receiver.kept = Err(fault);
    let size = || FileFault::Size { got: 400, size: 446 };
    for (broken, fault) in [
        (at_begin, FileFault::Signature),
        (at_begin, disk()),
        (at_write, FileFault::Signature),
        (at_write, FileFault::Decrypt),
        (at_write, size()),
        (at_write, disk()),
        (at_end, FileFault::Hash),
        (at_end, size()),
        (at_end, disk()),
    ] {
        let mut receiver = Receiver::new();
        broken(&mut receiver, fault.clone());
        receiver.alice(whole());
        assert_eq!(receiver.fault(), Some(fault.clone()));
        assert_eq!(receiver.work.last(), Some(&"discard"));
        let detail = Some(fault.to_string());
        assert_eq!(receiver.words, [(ALICE.to_owned(), FileStatus::Failed, detail)]);
    }
}

#[test]
fn nobody_is_told_before_what_was_written_is_gone() {
    let mut receiver = Receiver::new();
    receiver.alice([start("f", 3)]);
    receiver.clear();
    let outputs = receiver.kit.frame(ALICE, chunk("f", 1, 3), 200);
    assert!(
        matches!(&outputs[..], [Output::File(FileWork::Discard { .. })]),
        "{outputs:?}"
    );
    receiver.alice([chunk("f", 1, 3), start("f", 3), end("f")]);
    assert!(receiver.work.is_empty() && receiver.events.is_empty() && receiver.words.is_empty());
    receiver.perform(outputs);
    assert!(matches!(receiver.fault(), Some(FileFault::Order { .. })));
    assert_eq!(receiver.words.len(), 1);
}

#[test]
fn a_forged_beginning_does_not_keep_the_true_one_out() {
    let mut receiver = Receiver::new();
    receiver.begun = Err(FileFault::Signature);
    receiver.alice([start("f", 1)]);
    receiver.clear();
    receiver.begun = Ok(());
    receiver.alice([start("f", 1), chunk("f", 0, 1), end("f")]);
    assert!(matches!(receiver.stages().last(), Some(FileStage::Received(_))));
}

#[test]
fn silence_and_a_broken_link_end_it() {
    let mut receiver = Receiver::new();
    receiver.alice([start("f", 3), chunk("f", 0, 3)]);
    let outputs = receiver.kit.wait(FILE_IDLE_MAX_MS - 1);
    receiver.perform(outputs);
    receiver.alice([chunk("f", 1, 3)]);
    let outputs = receiver.kit.wait(FILE_IDLE_MAX_MS - 1);
    receiver.perform(outputs);
    assert_eq!(receiver.fault(), None);
    let outputs = receiver.kit.wait(1);
    receiver.perform(outputs);
    assert_eq!(receiver.fault(), Some(FileFault::Idle(60)));

    let mut receiver = Receiver::new();
    receiver.alice([start("f", 3)]);
    let reason = "reset".to_owned();
    let outputs = receiver.kit.input(Input::Disconnected { reason });
    receiver.perform(outputs);
    assert_eq!((receiver.fault(), receiver.words.len()), (Some(FileFault::Lost), 0));
}

/// The link breaks, and comes back; what is asked for in each moment.
fn break_link(receiver: &mut Receiver) -> Vec<Output> {
    let reason = "reset".to_owned();
    receiver.kit.input(Input::Disconnected { reason })
}

fn mend_link(receiver: &mut Receiver) {
    let mut outputs = receiver.kit.input(Input::Connected { tls: None });
    outputs.extend(receiver.kit.server_says(Payload::Ack(ack(SERVER, 200))));
    receiver.perform(outputs);
}

#[test]
fn a_file_that_is_complete_when_the_link_breaks_is_kept_and_its_author_told_on_the_next() {
    let mut receiver = Receiver::new();
    receiver.alice([start("f", 1), chunk("f", 0, 1)]);
    let keep = receiver.kit.frame(ALICE, end("f"), 200);
    assert!(matches!(keep[..], [Output::File(FileWork::Keep { .. })]), "{keep:?}");
    // Behind the end nothing counts, not even another beginning.
    receiver.alice([start("f", 1), chunk("f", 0, 1)]);
    let outputs = break_link(&mut receiver);
    receiver.perform(outputs);
    assert_eq!(receiver.fault(), None);
    receiver.perform(keep);
    assert!(matches!(receiver.stages().last(), Some(FileStage::Received(_))));
    assert_eq!(receiver.words, [], "nobody can be told yet");
    let outputs = break_link(&mut receiver);
    receiver.perform(outputs);
    mend_link(&mut receiver);
    let digest = Some("a".repeat(64));
    assert_eq!(receiver.words, [(ALICE.to_owned(), FileStatus::Received, digest)]);
    assert_eq!(receiver.work, ["begin", "write", "keep"]);
}

#[test]
fn a_file_that_was_given_up_when_the_link_breaks_has_the_fault_that_it_had() {
    let mut receiver = Receiver::new();
    receiver.alice([start("f", 3)]);
    let discard = receiver.kit.frame(ALICE, chunk("f", 1, 3), 200);
    let outputs = break_link(&mut receiver);
    receiver.perform(outputs);
    assert_eq!(receiver.fault(), None, "it is not gone yet");
    receiver.perform(discard);
    let fault = FileFault::Order { expected: 0, got: 1 };
    assert_eq!(receiver.fault(), Some(fault.clone()));
    mend_link(&mut receiver);
    let why = Some(fault.to_string());
    assert_eq!(receiver.words, [(ALICE.to_owned(), FileStatus::Failed, why)]);
}

#[test]
fn who_leaves_while_the_link_is_broken_waits_for_nobody() {
    let mut receiver = Receiver::new();
    receiver.alice([start("f", 1), chunk("f", 0, 1)]);
    let keep = receiver.kit.frame(ALICE, end("f"), 200);
    break_link(&mut receiver);
    let outputs = receiver.kit.input(Input::Command(Command::Close));
    assert!(outputs.contains(&Output::Disconnect), "{outputs:?}");
    receiver.perform(keep);
    assert!(matches!(receiver.stages().last(), Some(FileStage::Received(_))));
}

#[test]
fn what_is_too_large_or_too_much_is_refused_before_anything_is_written() {
    let mut receiver = Receiver::new();
    receiver.alice([start("f", FILES_MAX / CHUNK + 1)]);
    assert!(matches!(
        receiver.fault(),
        Some(FileFault::TooBig { max: FILES_MAX, .. })
    ));
    assert!(!receiver.work.contains(&"begin"));

    let mut receiver = Receiver::new();
    for author in ["bob", "carol"] {
        receiver.says(SERVER, advertise(author, 2));
    }
    let mut taken = 0;
    for author in [ALICE, "bob", "carol"] {
        for n in 0..=INCOMING_PER_AUTHOR_COUNT_MAX {
            receiver.clear();
            receiver.says(author, start(&format!("f-{n}"), 3));
            let is_full = n == INCOMING_PER_AUTHOR_COUNT_MAX || taken == INCOMING_COUNT_MAX;
            taken += usize::from(!is_full);
            let fault = is_full.then_some(FileFault::TooMany);
            assert_eq!(receiver.fault(), fault, "{author} {n}");
        }
    }
    // Two authors may send files of one id.
    assert_eq!(taken, INCOMING_COUNT_MAX);
}

#[test]
fn one_author_begins_so_many_files_within_a_minute() {
    let mut receiver = Receiver::new();
    let send = |receiver: &mut Receiver, id: &str| {
        receiver.clear();
        receiver.alice([start(id, 0), end(id)]);
        receiver.fault()
    };
    // What was found to be forged keeps nobody out.
    receiver.begun = Err(FileFault::Signature);
    for n in 0..BEGUN_PER_AUTHOR_COUNT_MAX {
        assert_eq!(send(&mut receiver, &format!("forged-{n}")), Some(FileFault::Signature));
    }
    receiver.begun = Ok(());
    for n in 0..BEGUN_PER_AUTHOR_COUNT_MAX {
        assert_eq!(send(&mut receiver, &format!("f-{n}")), None);
    }
    let fault = send(&mut receiver, "more");
    assert!(matches!(fault, Some(FileFault::TooOften { .. })), "{fault:?}");
    let outputs = receiver.kit.wait(BEGUN_PERIOD_MS);
    receiver.perform(outputs);
    assert_eq!(send(&mut receiver, "later"), None);
}

#[test]
fn one_run_keeps_so_many_bytes() {
    let mut receiver = Receiver::new();
    let file_max = FILES_MAX;
    let mut send = |n: u64, size: u64| {
        let id = format!("f-{n}");
        let mut manifest = start_of(&id, 1, false);
        manifest.size = size;
        receiver.clear();
        let outputs = receiver.kit.wait(BEGUN_PERIOD_MS / 10);
        receiver.perform(outputs);
        receiver.alice([Payload::FileStart(manifest), end(&id)]);
        receiver.fault()
    };
    let file_count = KEPT_BYTES_MAX / file_max;
    for n in 0..file_count {
        assert_eq!(send(n, file_max), None, "{n}");
    }
    assert_eq!(
        send(file_count, file_max),
        Some(FileFault::Enough { max: KEPT_BYTES_MAX })
    );
}

#[test]
fn only_authors_of_ours_with_a_long_way_to_go_get_reports() {
    let total = FILE_WINDOW_CHUNKS + 1;
    let reports = |is_signed: bool, total: u64| {
        let mut receiver = Receiver::new();
        receiver.alice([Payload::FileStart(start_of("f", total, is_signed))]);
        receiver.alice((0..total).map(|index| chunk_of("f", index, Some(total), is_signed)));
        let is_report = |word: &&(String, FileStatus, Option<String>)| word.1 == FileStatus::Receiving;
        let details = receiver
            .words
            .iter()
            .filter(is_report)
            .map(|word| word.2.clone().unwrap());
        details.map(|detail| detail.parse().unwrap()).collect::<Vec<u64>>()
    };
    assert_eq!(reports(true, total), [0, FILE_REPORT_CHUNKS, 2 * FILE_REPORT_CHUNKS]);
    assert!(reports(true, FILE_WINDOW_CHUNKS).is_empty());
    assert!(reports(false, total).is_empty());
}

#[test]
fn files_of_programs_that_do_not_sign_rest_on_their_hash() {
    let mut receiver = Receiver::new();
    // Not signed, no total, chunks of any size.
    receiver.written = Ok(100);
    receiver.alice([Payload::FileStart(start_of("f", 1, false))]);
    receiver.alice((0..5).map(|index| chunk_of("f", index, None, false)));
    receiver.alice([end("f")]);
    assert_eq!(
        receiver.work,
        ["begin", "write", "write", "write", "write", "write", "keep"]
    );
    let verified: Vec<bool> = receiver
        .events
        .iter()
        .filter_map(|event| match event {
            Event::File(news) => Some(news.verified),
            _ => None,
        })
        .collect();
    assert_eq!(verified, [false, false]);
    // Still no more chunks than bytes.
    let mut receiver = Receiver::new();
    receiver.alice([Payload::FileStart(start_of("f", 1, false))]);
    receiver.alice((0..=CHUNK).map(|index| chunk_of("f", index, None, false)));
    assert!(matches!(receiver.fault(), Some(FileFault::Order { .. })));
}

#[test]
fn a_strangers_file_waits_for_the_key() {
    let mut receiver = Receiver::with(Kit::online());
    let asked = receiver.kit.frame(ALICE, start("f", 2), 200);
    assert_eq!(sent(&asked), [FrameKind::PubkeyRequest]);
    receiver.alice([chunk("f", 0, 2), chunk("f", 1, 2), end("f")]);
    assert!(receiver.work.is_empty());
    receiver.says(SERVER, pubkey(ALICE, Some(2)));
    assert_eq!(receiver.work, ["begin", "write", "write", "keep"]);
    assert!(matches!(receiver.stages().last(), Some(FileStage::Received(_))));

    let mut receiver = Receiver::with(Kit::online());
    receiver.alice([start("f", 2)]);
    receiver.says(SERVER, pubkey(ALICE, None));
    assert!(matches!(receiver.fault(), Some(FileFault::NoKey(_))));

    let mut receiver = Receiver::with(Kit::online());
    receiver.alice([start("f", 1_000)]);
    receiver.alice((0..100).map(|index| chunk("f", index, 1_000)));
    assert!(matches!(receiver.fault(), Some(FileFault::NoKey(_))));
}

#[test]
fn what_is_not_for_us_is_ignored_or_mentioned_once() {
    let mut receiver = Receiver::new();
    let to_all = |id: &str| {
        let frame = frame_to(ALICE, "public", start(id, 1));
        Input::Frame(Verified::checked(frame, key(200).fingerprint()))
    };
    for id in ["f", "g"] {
        let outputs = receiver.kit.input(to_all(id));
        receiver.perform(outputs);
    }
    assert!(
        matches!(&receiver.events[..], [Event::Notice { .. }]),
        "{:?}",
        receiver.events
    );
    receiver.clear();
    receiver.says(ME, start("h", 1));
    receiver.alice([chunk("unknown", 0, 1), end("unknown")]);
    let unsigned = receiver
        .kit
        .input(Input::Unverified(frame_to(ALICE, ME, start("i", 1))));
    assert!(matches!(&unsigned[..], [Output::Event(Event::Notice { .. })]));
    assert!(receiver.work.is_empty() && receiver.events.is_empty() && receiver.words.is_empty());
}

#[test]
fn a_program_that_takes_no_files_ignores_them() {
    let mut receiver = Receiver::with(Kit::taking_no_files());
    receiver.alice([start("f", 1), chunk("f", 0, 1), end("f")]);
    assert!(receiver.work.is_empty() && receiver.events.is_empty() && receiver.words.is_empty());
}

#[test]
fn how_far_it_is_is_told_once_a_second() {
    let mut receiver = Receiver::new();
    receiver.alice([start("f", 30)]);
    for index in 0..30 {
        receiver.kit.now.mono += 100;
        receiver.alice([chunk("f", index, 30)]);
    }
    let told: Vec<_> = receiver
        .stages()
        .iter()
        .filter_map(|stage| match stage {
            FileStage::Receiving(bytes) => Some(*bytes),
            _ => None,
        })
        .collect();
    assert_eq!(told, [10 * CHUNK, 20 * CHUNK, 30 * CHUNK]);
}

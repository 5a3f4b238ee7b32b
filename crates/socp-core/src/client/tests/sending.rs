//! Files on their way out: order, pace, verdicts.

use super::super::sending::{FILES_COUNT_MAX, UNREPORTED_CHUNKS_PER_S};
use super::super::testkit::*;
use super::super::*;
use super::files::*;
use crate::client::receiving::{FILE_REPORT_CHUNKS, FILE_WINDOW_CHUNKS};
use socp_proto::payload::{FileStatus, ListResponse, msg_ref};
use socp_proto::{Base64Url, FrameKind};

const CHUNK: u64 = 446;

/// A kit whose driver signs and seals at once, and what left since.
struct Sender {
    kit: Kit,
    frames: Vec<Draft>,
    events: Vec<Event>,
    /// Whether fences are answered.
    answers: bool,
    /// Chunks from this one on cannot be read.
    unreadable_from: u64,
}

use socp_proto::Draft;

impl Sender {
    fn new(kit: Kit) -> Self {
        Self {
            kit,
            frames: Vec::new(),
            events: Vec::new(),
            answers: true,
            unreadable_from: u64::MAX,
        }
    }

    fn send(&mut self, target: Target, size: u64) {
        let outputs = self.kit.input(Input::Command(Command::SendFile {
            ticket: 7,
            target,
            source: source(size),
            seed: [7; 32],
        }));
        self.perform(outputs);
    }

    fn send_to_alice(chunks: u64) -> Self {
        let mut sender = Self::new(Kit::with_alice());
        sender.send(Target::User(user(ALICE)), chunks * CHUNK);
        sender
    }

    fn perform(&mut self, outputs: Vec<Output>) {
        let mut queue: std::collections::VecDeque<Output> = outputs.into();
        while let Some(output) = queue.pop_front() {
            let more = match output {
                Output::File(FileWork::Sign { ticket, .. }) => {
                    let result = Ok(signature(0, ticket));
                    self.kit.input(Input::File(FileDone::Signed { ticket, result }))
                }
                Output::File(FileWork::Seal(chunk)) => self.kit.input(Input::File(FileDone::Sealed {
                    ticket: chunk.ticket,
                    index: chunk.index,
                    ts: chunk.ts,
                    result: if chunk.index < self.unreadable_from {
                        Ok(Sealed {
                            ciphertext: Base64Url::encode(&[9; 512]),
                            content_sig: signature(1, chunk.index),
                        })
                    } else {
                        Err(SendFault::Source("changed".to_owned()))
                    },
                })),
                Output::File(FileWork::Check { ticket, key: with, .. }) => {
                    let is_good = with == key(2);
                    self.kit.input(Input::File(FileDone::Checked { ticket, is_good }))
                }
                Output::Send(draft) if draft.kind == FrameKind::PubkeyRequest && self.answers => {
                    self.kit.server_says(pubkey(ME, Some(1)))
                }
                Output::Send(draft) => {
                    self.frames.push(draft);
                    continue;
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

    fn status(&mut self, from: &str, status: FileStatus, detail: Option<&str>) {
        let file_id = self.file_id();
        let outputs = self.kit.frame(from, status_of(&file_id, status, detail), 200);
        self.perform(outputs);
    }

    fn report(&mut self, chunks: u64) {
        self.status(ALICE, FileStatus::Receiving, Some(&chunks.to_string()));
    }

    fn wait(&mut self, ms: u64) {
        let outputs = self.kit.wait(ms);
        self.perform(outputs);
    }

    fn says(&mut self, payload: Payload) {
        let outputs = self.kit.server_says(payload);
        self.perform(outputs);
    }

    fn file_id(&self) -> String {
        self.frames
            .iter()
            .rev()
            .find_map(|draft| Some(draft.payload.get("file_id")?.as_str()?.to_owned()))
            .unwrap()
    }

    fn kinds(&self) -> Vec<FrameKind> {
        self.frames.iter().map(|draft| draft.kind).collect()
    }

    fn chunks(&self) -> u64 {
        let is_chunk = |draft: &&Draft| draft.kind == FrameKind::FileChunk;
        self.frames.iter().filter(is_chunk).count().try_into().unwrap()
    }

    fn result(&self) -> Option<Result<FileReport, SendFault>> {
        self.events.iter().find_map(|event| match event {
            Event::FileSent { ticket: 7, result } => Some(result.clone()),
            _ => None,
        })
    }

    fn report_at_end(&self) -> FileReport {
        self.result().expect("it has not ended").expect("it went to nobody")
    }

    fn fault(&self) -> SendFault {
        let report = self.report_at_end();
        assert!(report.received.is_empty() && report.unconfirmed.is_empty() && report.gone.is_empty());
        report.failed[0].1.clone()
    }
}

fn signature(kind: u8, number: u64) -> Base64Url {
    Base64Url::encode(&[&[kind], &number.to_be_bytes()[..]].concat())
}

#[test]
fn a_file_goes_in_order_and_ends_with_the_receivers_word() {
    let mut sender = Sender::send_to_alice(3);
    use FrameKind::{FileChunk, FileEnd, FileStart};
    assert_eq!(sender.kinds(), [FileStart, FileChunk, FileChunk, FileChunk, FileEnd]);
    let start = &sender.frames[0].payload;
    assert_eq!(
        (start["size"].as_u64(), start["mode"].as_str()),
        (Some(3 * CHUNK), Some("dm"))
    );
    assert!(start.contains_key("content_sig") && start.contains_key("sender_pub"));
    for (index, draft) in sender.frames[1..4].iter().enumerate() {
        let payload = &draft.payload;
        assert_eq!(
            (payload["index"].as_u64(), payload["total"].as_u64()),
            (index.try_into().ok(), Some(3))
        );
        assert!(payload.contains_key("content_sig") && payload.contains_key("sender_pub"));
        assert_eq!((draft.from.as_str(), draft.to.as_str()), (ME, ALICE));
    }
    assert_eq!(sender.frames[4].payload.len(), 1, "an end says nothing but whose");
    let id = sender.file_id();
    assert!(id.len() == 36 && id.as_bytes()[14] == b'4', "{id} is no UUID v4");
    assert_eq!(sender.result(), None);
    sender.status(ALICE, FileStatus::Received, None);
    assert_eq!(sender.report_at_end().received.len(), 1);
}

#[test]
fn an_empty_file_has_no_chunks() {
    let mut sender = Sender::send_to_alice(0);
    assert_eq!(sender.kinds(), [FrameKind::FileStart, FrameKind::FileEnd]);
    sender.status(ALICE, FileStatus::Received, None);
    assert_eq!(sender.report_at_end().received.len(), 1);
}

#[test]
fn no_chunk_goes_before_the_server_has_taken_the_beginning() {
    let mut sender = Sender::new(Kit::with_alice());
    sender.answers = false;
    sender.send(Target::User(user(ALICE)), CHUNK);
    assert_eq!(sender.kinds(), [FrameKind::FileStart, FrameKind::PubkeyRequest]);
    sender.says(pubkey(ME, Some(1)));
    assert_eq!(sender.chunks(), 1);
}

#[test]
fn no_more_than_a_window_goes_beyond_what_is_reported() {
    let mut sender = Sender::send_to_alice(1_000);
    assert_eq!(sender.chunks(), FILE_WINDOW_CHUNKS);
    for step in 0..40 {
        let written = step * FILE_REPORT_CHUNKS;
        sender.report(written);
        assert_eq!(sender.chunks(), written + FILE_WINDOW_CHUNKS);
    }
    // What was never sent cannot be written, and what is older changes nothing.
    let before = sender.chunks();
    for lie in ["900", "-1", "", "x", "16"] {
        sender.status(ALICE, FileStatus::Receiving, Some(lie));
        assert_eq!(sender.chunks(), before, "{lie:?}");
    }
    sender.wait(59_000);
    assert_eq!(sender.result(), None);
    sender.wait(1_000);
    assert_eq!(sender.fault(), SendFault::Silent);
}

#[test]
fn a_receiver_that_repeats_itself_is_silent_all_the_same() {
    let mut sender = Sender::send_to_alice(1_000);
    sender.report(16);
    for _ in 0..2 {
        sender.wait(29_000);
        sender.report(16);
        sender.report(0);
        assert_eq!(sender.result(), None);
    }
    sender.wait(2_000);
    assert_eq!(sender.fault(), SendFault::Silent);
}

#[test]
fn a_doubt_is_also_about_an_end_that_the_server_has_not_surely_taken() {
    let refusal = || error(ErrorCode::UnknownType, "FILE_CHUNK", None);
    let mut sender = Sender::new(Kit::with_alice());
    sender.answers = false;
    sender.send(Target::User(user(ALICE)), CHUNK);
    sender.says(pubkey(ME, Some(1)));
    assert_eq!(
        sender
            .kinds()
            .iter()
            .filter(|kind| **kind == FrameKind::FileEnd)
            .count(),
        1
    );
    sender.says(refusal());
    assert!(matches!(sender.fault(), SendFault::Tell(TellFault::Refused { .. })));
    // What the server has taken up to its end, it cannot mean.
    let mut sender = Sender::send_to_alice(1);
    sender.says(refusal());
    assert_eq!(sender.result(), None);
}

#[test]
fn the_server_is_not_flooded_either() {
    let mut sender = Sender::send_to_alice(1_000);
    sender.answers = false;
    sender.report(32);
    let unanswered = sender.chunks() - FILE_WINDOW_CHUNKS;
    assert!(unanswered <= 32, "{unanswered} chunks without a fence");
    sender.report(48);
    assert_eq!(sender.chunks() - FILE_WINDOW_CHUNKS, unanswered);
    sender.wait(ANSWER_WAIT_MAX_MS);
    assert_eq!(sender.fault(), SendFault::Tell(TellFault::NoAnswer));
}

#[test]
fn a_program_that_does_not_report_is_sent_so_many_in_a_second() {
    let mut sender = Sender::send_to_alice(FILE_WINDOW_CHUNKS + 100);
    sender.wait(4_999);
    assert_eq!(sender.chunks(), FILE_WINDOW_CHUNKS);
    sender.wait(1);
    let mut seconds = 0;
    while sender.kinds().last() != Some(&FrameKind::FileEnd) {
        let due = sender.kit.client.poll_timeout().expect("it waits for nothing");
        assert!(due >= sender.kit.now.mono, "it is woken for nothing");
        for _ in 0..40 {
            sender.wait(25);
        }
        seconds += 1;
        let most = FILE_WINDOW_CHUNKS + seconds * UNREPORTED_CHUNKS_PER_S;
        assert!(sender.chunks() <= most, "{} chunks after {seconds} s", sender.chunks());
    }
    assert_eq!(seconds, 3);
    let wait = sender.kit.client.poll_timeout().unwrap() - sender.kit.now.mono;
    assert!(wait > 15_000, "the wait does not grow with the size");
    sender.wait(wait);
    assert_eq!(sender.report_at_end().unconfirmed.len(), 1);
}

#[test]
fn a_report_that_comes_late_counts_all_the_same() {
    let mut sender = Sender::send_to_alice(1_000);
    sender.wait(5_000);
    sender.wait(1_000);
    let sent = sender.chunks();
    sender.report(sent);
    assert_eq!(sender.chunks(), sent + FILE_WINDOW_CHUNKS);
}

#[test]
fn a_word_counts_only_from_the_receiver_with_the_receivers_signature() {
    let mut sender = Sender::send_to_alice(1);
    sender.says(advertise("mallory", 6));
    sender.status("mallory", FileStatus::Received, None);
    assert_eq!(sender.result(), None);
    // Signed by another key than the pinned one.
    let file_id = sender.file_id();
    let asked = sender
        .kit
        .frame(ALICE, status_of(&file_id, FileStatus::Received, None), 200);
    let [Output::File(FileWork::Check { ticket, key: with, .. })] = &asked[..] else {
        panic!("{asked:?}")
    };
    assert_eq!(*with, key(2));
    let (ticket, is_good) = (*ticket, false);
    let outputs = sender.kit.input(Input::File(FileDone::Checked { ticket, is_good }));
    sender.perform(outputs);
    assert_eq!(sender.result(), None);
    let elsewhere = sender
        .kit
        .frame(ALICE, status_of("other", FileStatus::Received, None), 200);
    assert!(elsewhere.is_empty());
}

#[test]
fn nobody_has_received_a_file_before_its_end() {
    let mut sender = Sender::send_to_alice(1_000);
    sender.status(ALICE, FileStatus::Received, None);
    assert_eq!(sender.result(), None);
}

#[test]
fn a_receiver_that_gives_up_and_leaves_is_believed_about_why() {
    let mut sender = Sender::send_to_alice(1_000);
    sender.status(ALICE, FileStatus::Failed, Some("left"));
    sender.says(error(ErrorCode::UserNotFound, ALICE, None));
    assert_eq!(sender.fault(), SendFault::GivenUp("left".to_owned()));
}

#[test]
fn a_receiver_that_gives_up_is_the_end_unless_another_program_of_theirs_goes_on() {
    let failed = |sender: &mut Sender| sender.status(ALICE, FileStatus::Failed, Some("disk full"));
    let mut sender = Sender::send_to_alice(1_000);
    sender.report(0);
    failed(&mut sender);
    let before = sender.chunks();
    sender.report(0);
    assert_eq!(sender.chunks(), before);
    sender.wait(2_000);
    assert_eq!(sender.fault(), SendFault::GivenUp("disk full".to_owned()));

    let mut sender = Sender::send_to_alice(1_000);
    failed(&mut sender);
    sender.report(16);
    sender.wait(2_000);
    assert_eq!((sender.result(), sender.chunks()), (None, 48));

    let mut sender = Sender::send_to_alice(1);
    failed(&mut sender);
    sender.status(ALICE, FileStatus::Received, None);
    assert_eq!(sender.report_at_end().received.len(), 1);
}

#[test]
fn a_receiver_that_keeps_another_file_did_not_get_ours() {
    let mut sender = Sender::send_to_alice(1);
    sender.status(ALICE, FileStatus::Received, Some(&"1".repeat(64)));
    assert_eq!(sender.fault(), SendFault::Exchanged);
    let mut sender = Sender::send_to_alice(1);
    sender.status(ALICE, FileStatus::Received, Some(&"0".repeat(64)));
    assert_eq!(sender.report_at_end().received.len(), 1);
}

#[test]
fn what_the_server_refuses_is_not_sent_to_its_end() {
    let chunk_ref = || Some(msg_ref(&signature(1, 5)));
    let start_ref = || Some(msg_ref(&signature(0, 0)));
    type Check = fn(&SendFault) -> bool;
    let not_online: Check = |fault| matches!(fault, SendFault::Tell(TellFault::NotOnline(_)));
    let refused: Check = |fault| matches!(fault, SendFault::Tell(TellFault::Refused { .. }));
    let table = [
        (error(ErrorCode::UserNotFound, ALICE, start_ref()), not_online),
        (error(ErrorCode::InvalidSig, "content_sig", chunk_ref()), refused),
        (error(ErrorCode::UnknownType, "FILE_CHUNK", None), refused),
    ];
    for (answer, is_right) in table {
        let mut sender = Sender::send_to_alice(1_000);
        sender.says(answer.clone());
        let fault = sender.fault();
        assert!(is_right(&fault), "{answer:?} gives {fault}");
        let before = sender.frames.len();
        sender.report(16);
        assert_eq!(sender.frames.len(), before);
    }
}

#[test]
fn who_took_the_manifest_and_is_not_there_for_the_rest_has_left() {
    // The server's word on a chunk may come before it says who has left.
    let mut sender = Sender::send_to_alice(1_000);
    sender.says(error(ErrorCode::UserNotFound, ALICE, Some(msg_ref(&signature(1, 5)))));
    let gone = sender.report_at_end().gone;
    assert_eq!(
        gone.iter().map(|person| person.user_id.as_str()).collect::<Vec<_>>(),
        [ALICE]
    );
    // It may as well be about nothing in particular.
    let mut sender = Sender::send_to_alice(1_000);
    sender.report(16);
    sender.says(error(ErrorCode::UserNotFound, ALICE, None));
    assert_eq!(sender.report_at_end().gone.len(), 1);
}

#[test]
fn refusals_of_further_parts_are_no_news() {
    let mut sender = Sender::send_to_alice(1_000);
    sender.says(error(ErrorCode::UserNotFound, ALICE, Some(msg_ref(&signature(1, 0)))));
    let before = sender.events.len();
    sender.says(error(ErrorCode::UserNotFound, ALICE, Some(msg_ref(&signature(1, 1)))));
    assert_eq!(sender.events.len(), before, "{:?}", sender.events);
}

#[test]
fn a_broken_link_is_the_end_for_all() {
    let mut sender = Sender::send_to_alice(1_000);
    sender.says(advertise("bob", 2));
    sender.send(Target::Everyone, CHUNK);
    let reason = "reset".to_owned();
    let outputs = sender.kit.input(Input::Disconnected { reason });
    let ended = events(outputs);
    let failures: Vec<_> = ended
        .iter()
        .filter_map(|event| match event {
            Event::FileSent { result: Ok(report), .. } => Some(report.failed.len()),
            _ => None,
        })
        .collect();
    assert_eq!(failures, [1, 2]);
    sender.kit.input(Input::Connected { tls: None });
    let refused = sender.kit.input(Input::Command(Command::SendFile {
        ticket: 8,
        target: Target::Everyone,
        source: source(1),
        seed: [0; 32],
    }));
    assert!(matches!(
        &events(refused)[..],
        [Event::FileSent {
            result: Err(SendFault::Tell(TellFault::Offline)),
            ..
        }]
    ));
}

#[test]
fn a_file_that_cannot_be_read_to_its_end_is_ended_early_for_everyone() {
    let mut sender = Sender::new(Kit::with_alice());
    sender.says(advertise("bob", 2));
    sender.unreadable_from = 2;
    sender.send(Target::Everyone, 5 * CHUNK);
    assert_eq!((sender.chunks(), sender.kinds().last()), (2, Some(&FrameKind::FileEnd)));
    let report = sender.report_at_end();
    assert_eq!(report.failed.len(), 2);
    assert!(
        report
            .failed
            .iter()
            .all(|(_, fault)| matches!(fault, SendFault::Source(_)))
    );
}

#[test]
fn leaving_ends_the_transfer_before_the_session() {
    let mut sender = Sender::send_to_alice(1_000);
    let outputs = sender.kit.input(Input::Command(Command::Close));
    assert_eq!(sent(&outputs), [FrameKind::FileEnd, FrameKind::CtrlClose]);
    sender.perform(outputs);
    assert_eq!(sender.fault(), SendFault::Cancelled);
}

#[test]
fn members_of_the_channel_get_it_one_after_the_other() {
    let mut sender = Sender::new(Kit::with_alice());
    sender.says(advertise("bob", 2));
    sender.says(advertise("carol", 2));
    sender.says(advertise("carol", 4));
    sender.says(advertise("dora", 2));
    sender.send(Target::Everyone, 3 * CHUNK);
    let recipients: Vec<_> = sender
        .frames
        .iter()
        .filter(|draft| draft.kind == FrameKind::FileStart)
        .map(|draft| {
            (
                draft.to.as_str().to_owned(),
                draft.payload["mode"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    let expected = [ALICE, "bob", "dora"].map(|to| (to.to_owned(), "public".to_owned()));
    assert_eq!(recipients, expected);
    let ids: std::collections::BTreeSet<_> = sender
        .frames
        .iter()
        .filter_map(|draft| draft.payload.get("file_id")?.as_str())
        .collect();
    assert_eq!(ids.len(), 3, "every transfer has its own id");
    sender.says(Payload::UserRemove(UserRemove {
        user_id: user("dora"),
        server_id: server(SERVER),
        deletion: None,
    }));
    sender.says(error(ErrorCode::UserNotFound, "dora", None));
    let alice_id = sender.frames[0].payload["file_id"].as_str().unwrap().to_owned();
    let outputs = sender
        .kit
        .frame(ALICE, status_of(&alice_id, FileStatus::Received, None), 200);
    sender.perform(outputs);
    sender.wait(60_000);
    let report = sender.report_at_end();
    let ids = |people: &[Person]| {
        people
            .iter()
            .map(|person| person.user_id.as_str().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (ids(&report.received), ids(&report.unconfirmed), ids(&report.gone)),
        (vec![ALICE.to_owned()], vec!["bob".to_owned()], vec!["dora".to_owned()])
    );
    assert!(matches!(
        &report.failed[..],
        [(_, SendFault::Tell(TellFault::KeyChanged { .. }))]
    ));
}

#[test]
fn a_channel_without_members_or_without_a_list_is_refused() {
    let mut sender = Sender::new(Kit::online());
    sender.send(Target::Everyone, 1);
    assert_eq!(sender.result(), Some(Err(SendFault::Tell(TellFault::Alone))));
    let mut kit = Kit::new(Some(server_pin()));
    kit.input(Input::Connected { tls: None });
    kit.server_says(Payload::Ack(ack(SERVER, 200)));
    let mut sender = Sender::new(kit);
    sender.send(Target::Everyone, 1);
    assert_eq!(sender.result(), None);
    sender.says(Payload::ListResponse(ListResponse::default()));
    assert_eq!(sender.result(), Some(Err(SendFault::Tell(TellFault::Alone))));
}

#[test]
fn an_unknown_key_is_asked_for_first_and_a_second_file_waits() {
    let mut sender = Sender::new(Kit::online());
    sender.answers = false;
    sender.send(Target::User(user(ALICE)), CHUNK);
    assert_eq!(sender.kinds(), [FrameKind::PubkeyRequest]);
    sender.answers = true;
    sender.says(pubkey(ALICE, Some(2)));
    assert_eq!(sender.chunks(), 1);
    let mut sender = Sender::new(Kit::online());
    sender.answers = false;
    sender.send(Target::User(user("nobody")), CHUNK);
    sender.says(pubkey("nobody", None));
    assert!(matches!(sender.fault(), SendFault::Tell(TellFault::UnknownUser(_))));
}

#[test]
fn files_that_wait_are_bounded() {
    let mut sender = Sender::send_to_alice(1_000);
    for _ in 1..FILES_COUNT_MAX {
        sender.send(Target::User(user(ALICE)), 1);
        assert_eq!(sender.result(), None);
    }
    sender.send(Target::User(user(ALICE)), 1);
    assert_eq!(sender.result(), Some(Err(SendFault::Tell(TellFault::Busy))));
    assert_eq!(
        sender
            .kinds()
            .iter()
            .filter(|kind| **kind == FrameKind::FileStart)
            .count(),
        1
    );
}

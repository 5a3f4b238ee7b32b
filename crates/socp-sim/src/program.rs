//! Users' programs with `ack/1` (PROTOCOL II.6): what they keep over their own crashes, and what they answer.
//!
//! A user has one or two devices, and uses one at a time. A device's program may vanish at any moment: what has come
//! and is not written then has not come, and what is written and not acknowledged comes again.

use crate::event::{Event, Item};
use crate::net::{Host, UserNo};
use crate::oracle::Reading;
use crate::random::Dice;
use crate::toys::{self, Parcel};
use crate::user::User;
use crate::world::World;
use socp_core::server::LinkId;
use socp_proto::payload::{Ack, ErrorNotice, MailboxRequest, Status, msg_ref};
use socp_proto::{DeviceId, Draft, ErrorCode, Payload};
use std::collections::BTreeSet;
use std::rc::Rc;

/// All programs of a user.
#[derive(Debug)]
pub(crate) struct Programs {
    devices: Vec<Program>,
    /// Which is in use.
    current: usize,
    /// They read a mailbox; else they only write.
    reads: bool,
}

/// One program.
#[derive(Debug)]
struct Program {
    device: DeviceId,
    /// On its disk: what its server has not answered for.
    outbox: Vec<Outgoing>,
    /// On its disk: the last number that it has.
    after: u64,
    /// On its disk: which messages it has shown.
    shown: BTreeSet<usize>,
    /// In memory: what has come.
    unwritten: Vec<Came>,
    /// In memory: the link on which it will say again what could not be stored.
    resends_on: Option<LinkId>,
}

/// A message on its way to the author's server, exactly as it is sent, and sent again.
#[derive(Debug, Clone)]
struct Outgoing {
    reference: String,
    parcel: Rc<Parcel>,
}

/// Something that came.
#[derive(Debug)]
struct Came {
    seq: Option<u64>,
    what: What,
}

#[derive(Debug)]
enum What {
    Message(usize),
    /// A message of the user's own goes nowhere.
    Refusal(String),
    /// It does not verify, so that it is not shown.
    Forgery,
}

/// How long a program takes to write what has come, ms.
const WRITE_MS: (u64, u64) = (1, 300);
/// How long it takes to acknowledge what it has written, ms.
const ACK_MS: (u64, u64) = (1, 2_000);
/// How often in a hundred it acknowledges what it has written.
const ACKS: u64 = 85;
/// After which time it says again what could not be stored, ms.
const RESEND_MS: (u64, u64) = (1_000, 8_000);
/// How often in a hundred a user who is offline writes something.
const OFFLINE_WRITES: u64 = 15;

impl Programs {
    pub(crate) fn new(seed: u64, user: UserNo) -> Self {
        let mut dice = Dice::new(seed, &format!("devices {user}"));
        let reads = dice.chance(85);
        let count = if reads && dice.chance(40) { 2 } else { 1 };
        let mut device = || {
            let mut bytes = [0; 16];
            for half in bytes.chunks_mut(8) {
                half.copy_from_slice(&dice.number().to_be_bytes());
            }
            Program {
                device: DeviceId::from_bytes(bytes),
                outbox: Vec::new(),
                after: 0,
                shown: BTreeSet::new(),
                unwritten: Vec::new(),
                resends_on: None,
            }
        };
        Self {
            devices: (0..count).map(|_| device()).collect(),
            current: 0,
            reads,
        }
    }

    fn current(&mut self) -> &mut Program {
        &mut self.devices[self.current]
    }
}

impl World {
    fn program(&mut self, user: UserNo) -> Option<&mut Program> {
        let programs = self.users[user].programs.as_mut();
        programs.map(|programs| programs.current())
    }

    /// Whoever has a mailbox has it at home.
    pub(crate) fn stays_at_home(&self, user: UserNo) -> bool {
        let programs = self.users[user].programs.as_ref();
        programs.is_some_and(|programs| programs.reads)
    }

    /// A user comes with one of the devices.
    pub(crate) fn take_some_device(&mut self, user: UserNo) {
        if let Some(programs) = &mut self.users[user].programs {
            programs.current = self.program_dice.index(programs.devices.len());
        }
    }

    /// What a program says of its mailbox in its hello.
    pub(crate) fn mailbox_request(&self, user: UserNo) -> Option<MailboxRequest> {
        let programs = self.users[user].programs.as_ref()?;
        let program = &programs.devices[programs.current];
        programs.reads.then_some(MailboxRequest {
            device: program.device,
            after: program.after,
        })
    }

    /// Whether a user has a program that shows messages.
    pub(crate) fn is_reader(&self, user: UserNo) -> bool {
        let programs = self.users[user].programs.as_ref();
        programs.is_none_or(|programs| programs.reads)
    }

    /// A user writes although there is no server.
    pub(crate) fn maybe_write(&mut self, user: UserNo) {
        let may_write = self.stays_at_home(user) && !self.is_resting;
        if may_write && self.program_dice.chance(OFFLINE_WRITES) {
            self.write_to_somebody(user);
        }
    }

    /// A user writes to somebody, who may be away.
    pub(crate) fn write_to_somebody(&mut self, user: UserNo) {
        if self.is_resting {
            return; // What is said now could miss a device that was here for the last time.
        }
        let mut recipient = self.program_dice.index(self.users.len());
        for _ in 0..20 {
            if self.oracle.is_attached(recipient) || self.program_dice.chance(15) {
                break;
            }
            recipient = self.program_dice.index(self.users.len());
        }
        if recipient == user || !self.is_reader(recipient) {
            return;
        }
        let ts = self.user_unix(user);
        let to = self.users[recipient].id.clone();
        let home = self.nodes[self.users[recipient].home].config.server_id.clone();
        let home = self.program_dice.chance(80).then_some(home);
        let number = self.oracle.next_message();
        let User { id, key, .. } = &self.users[user];
        let text = format!("message {number} from {user} to {recipient}");
        let mut message = toys::direct((id.as_str(), key), to.as_str(), ts, text.as_bytes());
        message.home = home;
        let reference = msg_ref(&message.content_sig);
        let judge_at = self.oracle.on_said(self.queue.now(), user, recipient, ts, &message);
        if let Some(at) = judge_at {
            self.queue.at(at, Event::Judge { said: number });
        }
        let draft = Draft::new(id, &to, ts, &Payload::MsgDirect(message));
        match Parcel::read(&draft.sign(&[]).to_text()) {
            Ok(parcel) => {
                let parcel = Rc::new(parcel);
                self.put_into_outbox(user, Outgoing { reference, parcel });
            }
            Err(why) => self.oracle.broken(format!("u{user} says what is no frame: {why}")),
        }
    }

    /// First to the program's own disk, then to the server, if there is one.
    fn put_into_outbox(&mut self, user: UserNo, outgoing: Outgoing) {
        let session = self.users[user].session.as_ref().filter(|session| session.is_up);
        let place = session.map(|session| (session.link, session.keeps));
        let Some(program) = self.program(user) else { return };
        // Nobody answers for it where the server is of before.
        if place.is_none_or(|(_, keeps)| keeps) {
            program.outbox.push(outgoing.clone());
            let device = program.device;
            self.oracle.on_written(&outgoing.reference, device);
        }
        if let Some((link, _)) = place {
            let item = Item::Frame(outgoing.parcel);
            self.net.send(&mut self.queue, link, item);
        }
    }

    /// A server has let the user in.
    pub(crate) fn on_program_up(&mut self, user: UserNo) {
        let Some(keeps) = self.users[user].session.as_ref().map(|session| session.keeps) else {
            return;
        };
        let Some(programs) = &self.users[user].programs else {
            return;
        };
        let reading = match (keeps, programs.reads) {
            (false, _) => Reading::ToTheLetter,
            (true, true) => Reading::Mailbox,
            (true, false) => Reading::Nothing,
        };
        self.oracle.on_reading(user, reading);
        self.send_outbox(user);
        if let Some(program) = self.program(user).filter(|_| !keeps) {
            program.outbox.clear();
        }
    }

    /// Everything that has no answer is sent, in the order in which it was written.
    fn send_outbox(&mut self, user: UserNo) {
        let Some(link) = self.users[user].session.as_ref().map(|session| session.link) else {
            return;
        };
        let Some(program) = self.program(user) else { return };
        let parcels: Vec<Rc<Parcel>> = program.outbox.iter().map(|out| Rc::clone(&out.parcel)).collect();
        for parcel in parcels {
            self.oracle.stats.sent_again += 1;
            self.net.send(&mut self.queue, link, Item::Frame(parcel));
        }
    }

    /// A server says what became of messages.
    pub(crate) fn on_program_ack(&mut self, user: UserNo, host: Host, ack: Ack) {
        let (Some(status), Some(at)) = (ack.status, ack.server_id) else {
            return;
        };
        let is_promise = status == Status::Stored && at == self.nodes[host].config.server_id;
        let references = std::iter::once(ack.msg_ref).chain(ack.also);
        for reference in references {
            if is_promise {
                self.oracle.on_promise(user, host, &reference);
            }
            self.settle(user, &reference);
        }
    }

    fn settle(&mut self, user: UserNo, reference: &str) {
        if let Some(program) = self.program(user) {
            program.outbox.retain(|out| out.reference != reference);
        }
    }

    /// A server refuses a message, or tells that another did.
    pub(crate) fn on_program_error(&mut self, user: UserNo, notice: &ErrorNotice) {
        let Some(reference) = &notice.msg_ref else { return };
        if notice.code == ErrorCode::NotStored {
            let link = self.users[user].session.as_ref().map(|session| session.link);
            // Once for all that is refused at a time: else each refusal would lead to as many as there are messages.
            let is_new = |program: &mut Program| std::mem::replace(&mut program.resends_on, link) != link;
            let is_new = self.program(user).is_some_and(is_new);
            if let Some(link) = link.filter(|_| is_new) {
                let ms = self.program_dice.between(RESEND_MS.0, RESEND_MS.1);
                self.queue.after(ms, Event::ProgramResends { user, link });
            }
            return;
        }
        let what = What::Refusal(reference.clone());
        self.take_in(user, Came { seq: notice.seq, what });
    }

    pub(crate) fn on_program_resends(&mut self, user: UserNo, link: LinkId) {
        if let Some(program) = self.program(user).filter(|program| program.resends_on == Some(link)) {
            program.resends_on = None;
        }
        if self.is_at(user, link) {
            self.send_outbox(user);
        }
    }

    fn is_at(&self, user: UserNo, link: LinkId) -> bool {
        let session = self.users[user].session.as_ref();
        session.is_some_and(|session| session.link == link)
    }

    /// A message has come; which, if it is a genuine one.
    pub(crate) fn on_program_mail(&mut self, user: UserNo, seq: Option<u64>, number: Option<usize>) {
        let what = number.map_or(What::Forgery, What::Message);
        self.take_in(user, Came { seq, what });
    }

    fn take_in(&mut self, user: UserNo, came: Came) {
        let Some(link) = self.users[user].session.as_ref().map(|session| session.link) else {
            return;
        };
        let Some(program) = self.program(user) else { return };
        program.unwritten.push(came);
        if program.unwritten.len() == 1 {
            let ms = self.program_dice.between(WRITE_MS.0, WRITE_MS.1);
            self.queue.after(ms, Event::ProgramWrites { user, link });
        }
    }

    /// What has come is written, in one go.
    pub(crate) fn on_program_writes(&mut self, user: UserNo, link: LinkId) {
        if !self.is_at(user, link) {
            return; // It crashed before.
        }
        let Some(program) = self.program(user) else { return };
        let device = program.device;
        let mut last = 0;
        for Came { seq, what } in std::mem::take(&mut program.unwritten) {
            last = last.max(seq.unwrap_or(0));
            match what {
                What::Message(number) => self.show(user, device, number),
                What::Refusal(reference) => {
                    self.oracle.on_refusal(user, &reference);
                    self.settle(user, &reference);
                }
                What::Forgery => {}
            }
        }
        if last == 0 {
            return;
        }
        if let Some(program) = self.program(user) {
            program.after = program.after.max(last);
        }
        if let Some(session) = &mut self.users[user].session {
            session.written = session.written.max(last);
        }
        if self.program_dice.chance(ACKS) {
            let ms = self.program_dice.between(ACK_MS.0, ACK_MS.1);
            self.queue.after(ms, Event::ProgramAcks { user, link });
        }
    }

    /// A message is shown, unless this program has shown it before.
    fn show(&mut self, user: UserNo, device: DeviceId, number: usize) {
        let is_new = self.program(user).is_some_and(|program| program.shown.insert(number));
        if is_new {
            self.oracle.on_shown(user, device, number);
        }
    }

    pub(crate) fn on_program_acks(&mut self, user: UserNo, link: LinkId) {
        let session = self.users[user].session.as_ref().filter(|session| session.link == link);
        let Some(written) = session.map(|session| session.written) else {
            return; // It crashed before.
        };
        let ts = self.user_unix(user);
        let ack = Ack {
            msg_ref: Ack::MAILBOX.to_owned(),
            up_to: Some(written),
            ..Ack::default()
        };
        self.user_sends(user, "*", ts, &Payload::Ack(ack), false);
    }

    /// A program ends: what was not written has not come.
    pub(crate) fn program_stops(&mut self, user: UserNo) {
        if let Some(program) = self.program(user) {
            program.unwritten.clear();
        }
    }

    /// Everybody with a program is back, with one device after the other.
    pub(crate) fn on_return(&mut self, round: usize) {
        for user in 0..self.users.len() {
            let Some(programs) = &mut self.users[user].programs else {
                continue;
            };
            let wanted = round % programs.devices.len();
            let is_it = std::mem::replace(&mut programs.current, wanted) == wanted;
            let home = self.users[user].home;
            let session = self.users[user].session.as_ref();
            if session.is_some_and(|session| is_it && session.is_up && session.host == home) {
                continue;
            }
            self.part(user);
            self.come(user, home);
        }
    }
}

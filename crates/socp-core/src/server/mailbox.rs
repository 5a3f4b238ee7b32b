//! The mailboxes of our users (PROTOCOL II.6): which numbers wait for whom, and how much room that takes. What the
//! messages say is on the disk alone.

use super::kept::{DeviceRecord, MailRow, MailboxMemory};
use socp_proto::limits::{
    MAILBOX_AUTHOR_BYTES_MAX, MAILBOX_AUTHOR_COUNT_MAX, MAILBOX_BYTES_MAX, MAILBOX_COUNT_MAX,
    MAILBOX_DEVICES_COUNT_MAX, MAILBOX_KEPT_MS, MAILBOX_SERVER_BYTES_MAX, MAILBOX_SERVER_COUNT_MAX,
    MAILBOXES_BYTES_MAX, MAILBOXES_COUNT_MAX, MAILBOXES_SERVER_BYTES_MAX, MAILBOXES_SERVER_COUNT_MAX,
};
use socp_proto::{DeviceId, ServerId, UserId};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// How many of a number's last bits count within one run of a server; the others are the run (PROTOCOL II.6).
const RUN_SHIFT: u32 = 20;

/// How often is written down that a device is there (our choice).
const DEVICE_HEARD_INTERVAL_MS: u64 = 86_400_000;

/// All mailboxes.
#[derive(Debug)]
pub(super) struct Mailboxes {
    by_user: BTreeMap<UserId, Mailbox>,
    tally: Tally,
    /// The first number of this run.
    first: u64,
}

/// One user's mailbox; there is one where there is a device, or something that waits for one.
#[derive(Debug, Default)]
struct Mailbox {
    devices: BTreeMap<DeviceId, Device>,
    /// What waits, by number.
    rows: VecDeque<MailRow>,
    tally: Tally,
    by_author: Amounts,
    last: u64,
}

/// How much there is, by mark.
#[derive(Debug, Default)]
struct Amounts {
    // Never iterated.
    by_mark: HashMap<u64, Amount>,
}

impl Amounts {
    fn of(&self, mark: u64) -> Amount {
        self.by_mark.get(&mark).copied().unwrap_or_default()
    }

    fn add(&mut self, mark: u64, bytes: usize) {
        self.by_mark.entry(mark).or_default().add(bytes);
    }

    fn take(&mut self, mark: u64, bytes: usize) {
        if let Some(amount) = self.by_mark.get_mut(&mark) {
            amount.take(bytes);
            if amount.count == 0 {
                self.by_mark.remove(&mark);
            }
        }
    }
}

/// How much there is in all, and over which servers it came.
#[derive(Debug, Default)]
struct Tally {
    total: Amount,
    by_server: Amounts,
}

impl Tally {
    fn add(&mut self, row: &MailRow) {
        self.total.add(row.bytes);
        self.by_server.add(row.via, row.bytes);
    }

    fn take(&mut self, row: &MailRow) {
        self.total.take(row.bytes);
        self.by_server.take(row.via, row.bytes);
    }
}

#[derive(Debug, Clone, Copy)]
struct Device {
    up_to: u64,
    /// When it was heard of last, ms since the Unix epoch.
    at: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Amount {
    count: usize,
    bytes: usize,
}

impl Amount {
    fn add(&mut self, bytes: usize) {
        self.count = self.count.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn take(&mut self, bytes: usize) {
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    fn fits(self, bytes: usize, (count_max, bytes_max): (usize, usize)) -> bool {
        self.count < count_max && self.bytes.saturating_add(bytes) <= bytes_max
    }
}

/// Why a mailbox takes no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// It is full.
    Mailbox,
    /// It has too much of this author.
    Author,
    /// It has too much that came over this server, or all mailboxes have: whose authors may be made up.
    Peer,
    /// The server has no more room at all.
    Server,
}

/// From whom something is, and over which server it came: as what it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Whence {
    pub(super) author: u64,
    /// 0: from here.
    pub(super) via: u64,
}

impl Whence {
    pub(super) fn of(author: &UserId, via: Option<&ServerId>) -> Self {
        Self {
            author: mark_of(author.as_str()),
            via: via.map_or(0, |server| mark_of(server.as_str())),
        }
    }
}

/// Of a length that nobody finds a second id to.
fn mark_of(id: &str) -> u64 {
    let hash = socp_proto::sha256(id.as_bytes());
    u64::from_be_bytes(hash.first_chunk().copied().unwrap_or_default())
}

impl Mailboxes {
    /// What the store remembers; `run` is larger at each start of the server.
    pub(super) fn new(run: u64, remembered: Vec<MailboxMemory>) -> Self {
        let mut mailboxes = Self {
            by_user: BTreeMap::new(),
            tally: Tally::default(),
            first: run << RUN_SHIFT,
        };
        for MailboxMemory { user, devices, rows } in remembered {
            let mut mailbox = Mailbox::default();
            for DeviceRecord { device, up_to, at, .. } in devices {
                mailbox.last = mailbox.last.max(up_to);
                mailbox.devices.insert(device, Device { up_to, at });
            }
            for row in rows {
                mailboxes.tally.add(&row);
                mailbox.push(row);
            }
            mailboxes.by_user.insert(user, mailbox);
        }
        mailboxes
    }

    /// Whether something is kept for this user.
    pub(super) fn has(&self, user: &UserId) -> bool {
        self.by_user
            .get(user)
            .is_some_and(|mailbox| !mailbox.devices.is_empty())
    }

    /// The last number in a user's mailbox.
    pub(super) fn last(&self, user: &UserId) -> u64 {
        self.by_user.get(user).map_or(0, |mailbox| mailbox.last)
    }

    /// The number of the newest message that waits in a user's mailbox.
    pub(super) fn newest(&self, user: &UserId) -> u64 {
        let newest = self.by_user.get(user).and_then(|mailbox| mailbox.rows.back());
        newest.map_or(0, |row| row.seq)
    }

    /// Whether this number may have been given to something. One of an earlier run may, though it is not known any more: what
    /// had it was sent, and lost before it was on the disk. Whoever has that has all before it, and all that comes is behind.
    pub(super) fn was_given(&self, user: &UserId, seq: u64) -> bool {
        seq < self.first || seq <= self.last(user)
    }

    /// Whether there is something behind this number.
    pub(super) fn has_behind(&self, user: &UserId, seq: u64) -> bool {
        self.newest(user) > seq
    }

    /// Whether a user's mailbox has room for this.
    pub(super) fn room_for(&self, user: &UserId, whence: Whence, bytes: usize) -> Result<(), Full> {
        let Some(mailbox) = self.by_user.get(user) else {
            return Ok(());
        };
        let is_from_here = whence.via == 0;
        let by_server = |tally: &Tally| match is_from_here {
            true => Amount::default(),
            false => tally.by_server.of(whence.via),
        };
        // Whoever has too much costs nobody else anything: their own shares come first.
        let table = [
            (
                mailbox.by_author.of(whence.author),
                (MAILBOX_AUTHOR_COUNT_MAX, MAILBOX_AUTHOR_BYTES_MAX),
                Full::Author,
            ),
            (
                by_server(&mailbox.tally),
                (MAILBOX_SERVER_COUNT_MAX, MAILBOX_SERVER_BYTES_MAX),
                Full::Peer,
            ),
            (
                by_server(&self.tally),
                (MAILBOXES_SERVER_COUNT_MAX, MAILBOXES_SERVER_BYTES_MAX),
                Full::Peer,
            ),
            (
                mailbox.tally.total,
                (MAILBOX_COUNT_MAX, MAILBOX_BYTES_MAX),
                Full::Mailbox,
            ),
            (
                self.tally.total,
                (MAILBOXES_COUNT_MAX, MAILBOXES_BYTES_MAX),
                Full::Server,
            ),
        ];
        let full = table.into_iter().find(|(amount, max, _)| !amount.fits(bytes, *max));
        full.map_or(Ok(()), |(.., full)| Err(full))
    }

    /// Whether there is room for one more notice, of what became of a user's own messages: it counts for the user's own share,
    /// and for nothing that others could have filled.
    pub(super) fn has_room_for_notice(&self, user: &UserId, whence: Whence, bytes: usize) -> bool {
        let max = (MAILBOX_AUTHOR_COUNT_MAX, MAILBOX_AUTHOR_BYTES_MAX);
        let mailbox = self.by_user.get(user);
        mailbox.is_none_or(|mailbox| mailbox.by_author.of(whence.author).fits(bytes, max))
    }

    /// Drops some of what at least one device has, the oldest first, so that a device that is gone for good does not keep
    /// the others from getting more: only of what there is too much of. Which numbers; none if there was nothing.
    pub(super) fn make_room(&mut self, user: &UserId, full: Full, whence: Whence) -> Vec<u64> {
        let Some(mailbox) = self.by_user.get_mut(user) else {
            return Vec::new();
        };
        let read = mailbox.devices.values().map(|device| device.up_to).max().unwrap_or(0);
        let (is_too_many, max): (&dyn Fn(&MailRow) -> bool, usize) = match full {
            Full::Author => (&|row| row.author == whence.author, MAILBOX_AUTHOR_COUNT_MAX),
            Full::Peer => (&|row| row.via == whence.via, MAILBOX_SERVER_COUNT_MAX),
            Full::Mailbox | Full::Server => (&|_| true, MAILBOX_COUNT_MAX),
        };
        let read = mailbox.rows.iter().take_while(|row| row.seq <= read);
        let gone: Vec<MailRow> = read.filter(|row| is_too_many(row)).take(max / 4).copied().collect();
        for row in &gone {
            mailbox.take_out(row.seq);
            self.tally.take(row);
        }
        gone.iter().map(|row| row.seq).collect()
    }

    /// Adds a message and numbers it: behind all before it, also those that were lost before they were on the disk.
    pub(super) fn add(&mut self, user: &UserId, whence: Whence, bytes: usize, at: u64) -> MailRow {
        let mailbox = self.by_user.entry(user.clone()).or_default();
        let Whence { author, via } = whence;
        let row = MailRow {
            seq: mailbox.last.saturating_add(1).max(self.first),
            bytes,
            author,
            via,
            at,
        };
        mailbox.push(row);
        self.tally.add(&row);
        row
    }

    /// A message is not there after all.
    pub(super) fn remove(&mut self, user: &UserId, seq: u64) {
        let Some(mailbox) = self.by_user.get_mut(user) else {
            return;
        };
        if let Some(row) = mailbox.take_out(seq) {
            self.tally.take(&row);
        }
    }

    /// A device says hello, and how far it has got; what is to be remembered of that, and which device makes room for it:
    /// not one of those that are `there`, if there is another.
    pub(super) fn meet(
        &mut self,
        user: &UserId,
        (device, after): (DeviceId, u64),
        there: &[DeviceId],
        now: u64,
    ) -> (DeviceRecord, Option<DeviceId>) {
        let was_given = self.was_given(user, after);
        let mailbox = self.by_user.entry(user.clone()).or_default();
        let (known, at) = mailbox
            .devices
            .get(&device)
            .map_or((0, now), |device| (device.up_to, device.at.max(now)));
        let up_to = if was_given { after.max(known) } else { known };
        let mut gone = None;
        if known == 0 && !mailbox.devices.contains_key(&device) && mailbox.devices.len() >= MAILBOX_DEVICES_COUNT_MAX {
            let longest = mailbox.devices.iter();
            let longest = longest.min_by_key(|(id, device)| (there.contains(id), device.at));
            gone = longest.map(|(device, _)| *device);
            mailbox.devices.retain(|device, _| Some(*device) != gone);
        }
        mailbox.devices.insert(device, Device { up_to, at });
        let record = DeviceRecord {
            user: user.clone(),
            device,
            up_to,
            at,
        };
        (record, gone)
    }

    /// A device is there; what is to be remembered of that, once a day.
    pub(super) fn hear_of(&mut self, user: &UserId, device: DeviceId, now: u64) -> Option<DeviceRecord> {
        let known = self.by_user.get_mut(user)?.devices.get_mut(&device)?;
        if now.saturating_sub(known.at) < DEVICE_HEARD_INTERVAL_MS {
            return None;
        }
        known.at = now;
        Some(DeviceRecord {
            user: user.clone(),
            device,
            up_to: known.up_to,
            at: now,
        })
    }

    /// A device has everything up to this number; nothing where it has said so before.
    pub(super) fn advance(&mut self, user: &UserId, device: DeviceId, up_to: u64, now: u64) -> Option<DeviceRecord> {
        let known = self.by_user.get_mut(user)?.devices.get_mut(&device)?;
        if up_to <= known.up_to {
            return None;
        }
        // A clock that was set back must not make it look silent later.
        let at = known.at.max(now);
        *known = Device { up_to, at };
        Some(DeviceRecord {
            user: user.clone(),
            device,
            up_to,
            at,
        })
    }

    /// Drops what every device has; up to which number, if that is anything.
    pub(super) fn drop_read(&mut self, user: &UserId) -> Option<u64> {
        let mailbox = self.by_user.get_mut(user)?;
        let read = mailbox.devices.values().map(|device| device.up_to).min()?;
        let is_read = |row: &MailRow| row.seq <= read;
        drop_front(mailbox, &mut self.tally, is_read)
    }

    /// Drops what is too old, and devices that were silent for too long: which, and up to which number what is dropped.
    pub(super) fn expire(&mut self, now: u64) -> Vec<(UserId, Vec<DeviceId>, Option<u64>)> {
        let since = now.saturating_sub(MAILBOX_KEPT_MS);
        let mut expired = Vec::new();
        for (user, mailbox) in &mut self.by_user {
            let is_silent = |device: &Device| device.at < since;
            let silent = mailbox.devices.iter().filter(|(_, device)| is_silent(device));
            let silent: Vec<DeviceId> = silent.map(|(device, _)| *device).collect();
            mailbox.devices.retain(|_, device| !is_silent(device));
            let read = mailbox.devices.values().map(|device| device.up_to).min();
            // Where no device is known any more, because its row was lost, one may come back.
            let is_over = |row: &MailRow| row.at < since || read.is_some_and(|read| row.seq <= read);
            let up_to = drop_front(mailbox, &mut self.tally, is_over);
            if !silent.is_empty() || up_to.is_some() {
                expired.push((user.clone(), silent, up_to));
            }
        }
        self.by_user
            .retain(|_, mailbox| !mailbox.devices.is_empty() || !mailbox.rows.is_empty());
        expired
    }

    /// A user is forgotten.
    pub(super) fn forget(&mut self, user: &UserId) {
        if let Some(mailbox) = self.by_user.remove(user) {
            for row in &mailbox.rows {
                self.tally.take(row);
            }
        }
    }

    /// How many messages wait in all, and how many bytes they have.
    pub(super) fn total(&self) -> (usize, usize) {
        let Amount { count, bytes } = self.tally.total;
        (count, bytes)
    }
}

/// Drops messages from the front; up to which number.
fn drop_front(mailbox: &mut Mailbox, tally: &mut Tally, is_over: impl Fn(&MailRow) -> bool) -> Option<u64> {
    let mut up_to = None;
    while let Some(row) = mailbox.rows.front().copied().filter(&is_over) {
        mailbox.rows.pop_front();
        mailbox.forget(&row);
        tally.take(&row);
        up_to = Some(row.seq);
    }
    up_to
}

impl Mailbox {
    fn push(&mut self, row: MailRow) {
        self.last = self.last.max(row.seq);
        self.tally.add(&row);
        self.by_author.add(row.author, row.bytes);
        self.rows.push_back(row);
    }

    fn take_out(&mut self, seq: u64) -> Option<MailRow> {
        let index = self.rows.binary_search_by_key(&seq, |row| row.seq).ok()?;
        let row = self.rows.remove(index)?;
        self.forget(&row);
        Some(row)
    }

    fn forget(&mut self, row: &MailRow) {
        self.tally.take(row);
        self.by_author.take(row.author, row.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> UserId {
        UserId::try_from("u").unwrap()
    }

    fn from(author: u64) -> Whence {
        Whence { author, via: 0 }
    }

    fn device(number: u8) -> DeviceId {
        DeviceId::from_bytes([number; 16])
    }

    #[test]
    fn a_message_goes_when_every_device_has_it() {
        let mut mailboxes = Mailboxes::new(1, Vec::new());
        mailboxes.meet(&user(), (device(1), 0), &[], 0);
        mailboxes.meet(&user(), (device(2), 0), &[], 0);
        let seqs: Vec<u64> = (0..3).map(|_| mailboxes.add(&user(), from(7), 10, 0).seq).collect();
        assert_eq!(seqs, [1 << 20, (1 << 20) + 1, (1 << 20) + 2]);
        let [first, second, third] = seqs.try_into().unwrap();
        assert!(mailboxes.advance(&user(), device(1), third, 1).is_some());
        assert_eq!(mailboxes.drop_read(&user()), None);
        assert!(mailboxes.advance(&user(), device(2), second, 1).is_some());
        assert!(mailboxes.advance(&user(), device(2), first, 1).is_none(), "said before");
        assert_eq!(mailboxes.drop_read(&user()), Some(second));
        assert_eq!(mailboxes.total(), (1, 10));
    }

    #[test]
    fn numbers_go_on_behind_those_of_an_earlier_run() {
        let mut mailboxes = Mailboxes::new(5, Vec::new());
        mailboxes.meet(&user(), (device(1), 0), &[], 0);
        let seq = mailboxes.add(&user(), from(7), 10, 0).seq;
        let memory = |run| {
            let devices = vec![DeviceRecord {
                user: user(),
                device: device(1),
                up_to: seq,
                at: 0,
            }];
            let memory = MailboxMemory {
                user: user(),
                devices,
                rows: Vec::new(),
            };
            Mailboxes::new(run, vec![memory]).add(&user(), from(7), 1, 0).seq
        };
        assert!(memory(6) > seq && memory(5) > seq && memory(0) > seq);
    }

    #[test]
    fn a_device_that_has_what_was_lost_here_has_all_before_it() {
        let mut mailboxes = Mailboxes::new(5, Vec::new());
        mailboxes.meet(&user(), (device(1), 0), &[], 0);
        let kept = mailboxes.add(&user(), from(7), 10, 0).seq;
        let lost = mailboxes.add(&user(), from(7), 10, 0).seq;
        let memory = MailboxMemory {
            user: user(),
            devices: vec![DeviceRecord {
                user: user(),
                device: device(1),
                up_to: 0,
                at: 0,
            }],
            rows: vec![MailRow {
                seq: kept,
                bytes: 10,
                author: 7,
                via: 0,
                at: 0,
            }],
        };
        let mut mailboxes = Mailboxes::new(6, vec![memory]);
        assert!(mailboxes.was_given(&user(), lost));
        let (record, _) = mailboxes.meet(&user(), (device(1), lost), &[], 1);
        assert_eq!(record.up_to, lost);
        assert_eq!(mailboxes.drop_read(&user()), Some(kept));
        let next = mailboxes.add(&user(), from(7), 10, 1).seq;
        assert!(next > lost);
        // That number nobody has had yet.
        assert!(!mailboxes.was_given(&user(), next + 1));
        let (record, _) = mailboxes.meet(&user(), (device(2), next + 1), &[], 1);
        assert_eq!(record.up_to, 0);
    }

    #[test]
    fn one_author_cannot_fill_a_mailbox() {
        let mut mailboxes = Mailboxes::new(0, Vec::new());
        mailboxes.meet(&user(), (device(1), 0), &[], 0);
        for _ in 0..MAILBOX_AUTHOR_COUNT_MAX {
            assert_eq!(mailboxes.room_for(&user(), from(7), 10), Ok(()));
            mailboxes.add(&user(), from(7), 10, 0);
        }
        assert_eq!(mailboxes.room_for(&user(), from(7), 10), Err(Full::Author));
        assert_eq!(
            mailboxes.room_for(&user(), from(8), MAILBOX_AUTHOR_BYTES_MAX + 1),
            Err(Full::Author)
        );
        for author in [8, 9, 10] {
            for _ in 0..MAILBOX_AUTHOR_COUNT_MAX {
                assert_eq!(mailboxes.room_for(&user(), from(author), 10), Ok(()));
                mailboxes.add(&user(), from(author), 10, 0);
            }
        }
        assert_eq!(mailboxes.room_for(&user(), from(11), 10), Err(Full::Mailbox));
        let has_room_for_notice = |author| mailboxes.has_room_for_notice(&user(), from(author), 10);
        assert!(
            has_room_for_notice(11) && !has_room_for_notice(7),
            "others cannot fill that"
        );
        let first = mailboxes.last(&user()) + 1 - u64::try_from(MAILBOX_COUNT_MAX).unwrap();
        mailboxes.remove(&user(), first);
        assert_eq!(mailboxes.room_for(&user(), from(11), 10), Ok(()));
        mailboxes.advance(&user(), device(1), first + 1, 0);
        assert_eq!(mailboxes.drop_read(&user()), Some(first + 1));
        assert_eq!(mailboxes.room_for(&user(), from(7), 10), Ok(()));
    }

    #[test]
    fn a_server_that_makes_up_authors_has_half_of_a_mailbox_and_half_of_all() {
        let mut mailboxes = Mailboxes::new(0, Vec::new());
        let x = ServerId::try_from("x").unwrap();
        let made_up = |number: usize| Whence::of(&UserId::try_from(number.to_string()).unwrap(), Some(&x));
        mailboxes.meet(&user(), (device(1), 0), &[], 0);
        for number in 0..MAILBOX_SERVER_COUNT_MAX {
            assert_eq!(mailboxes.room_for(&user(), made_up(number), 10), Ok(()));
            mailboxes.add(&user(), made_up(number), 10, 0);
        }
        let next = made_up(MAILBOX_SERVER_COUNT_MAX);
        assert_eq!(mailboxes.room_for(&user(), next, 10), Err(Full::Peer));
        assert_eq!(mailboxes.room_for(&user(), from(7), 10), Ok(()));
        let other = Whence::of(&user(), Some(&ServerId::try_from("y").unwrap()));
        assert_eq!(mailboxes.room_for(&user(), other, 10), Ok(()));
        // The same in all mailboxes, by bytes.
        let second = UserId::try_from("v").unwrap();
        mailboxes.meet(&second, (device(1), 0), &[], 0);
        let rest = MAILBOXES_SERVER_BYTES_MAX - 10 * MAILBOX_SERVER_COUNT_MAX;
        mailboxes.add(&second, next, rest, 0);
        mailboxes.forget(&second);
        let third = UserId::try_from("w").unwrap();
        mailboxes.meet(&third, (device(1), 0), &[], 0);
        assert_eq!(
            mailboxes.room_for(&third, next, 10),
            Ok(()),
            "what was forgotten counts no more"
        );
        mailboxes.meet(&second, (device(1), 0), &[], 0);
        mailboxes.add(&second, next, rest, 0);
        assert_eq!(mailboxes.room_for(&third, next, 10), Err(Full::Peer));
        assert_eq!(mailboxes.room_for(&third, other, 10), Ok(()));
    }

    #[test]
    fn what_one_device_has_makes_room_where_another_is_gone_for_good() {
        let mut mailboxes = Mailboxes::new(0, Vec::new());
        mailboxes.meet(&user(), (device(1), 0), &[], 0);
        mailboxes.meet(&user(), (device(2), 0), &[], 0);
        assert!(
            mailboxes.make_room(&user(), Full::Mailbox, from(0)).is_empty(),
            "there is nothing"
        );
        for author in 0..4 {
            for _ in 0..MAILBOX_AUTHOR_COUNT_MAX {
                mailboxes.add(&user(), from(author), 10, 0);
            }
        }
        assert!(
            mailboxes.make_room(&user(), Full::Mailbox, from(0)).is_empty(),
            "nobody has anything"
        );
        let last = mailboxes.last(&user());
        mailboxes.advance(&user(), device(2), last, 0);
        let gone = mailboxes.make_room(&user(), Full::Author, from(3));
        assert_eq!(gone.len(), MAILBOX_AUTHOR_COUNT_MAX / 4);
        assert!(
            gone.iter()
                .all(|seq| *seq > last - u64::try_from(MAILBOX_AUTHOR_COUNT_MAX).unwrap()),
            "of theirs alone"
        );
        assert_eq!(mailboxes.room_for(&user(), from(3), 10), Ok(()));
        assert_eq!(mailboxes.room_for(&user(), from(0), 10), Err(Full::Author));
        let gone = mailboxes.make_room(&user(), Full::Mailbox, from(9));
        assert_eq!(
            gone,
            (1..=u64::try_from(MAILBOX_COUNT_MAX / 4).unwrap()).collect::<Vec<_>>()
        );
        assert_eq!(mailboxes.room_for(&user(), from(0), 10), Ok(()));
        assert_eq!(
            mailboxes.total().0,
            MAILBOX_COUNT_MAX - MAILBOX_AUTHOR_COUNT_MAX / 4 - MAILBOX_COUNT_MAX / 4
        );
    }

    #[test]
    fn of_too_many_devices_the_one_that_was_silent_for_longest_goes() {
        let mut mailboxes = Mailboxes::new(0, Vec::new());
        for number in 0..16 {
            let (_, gone) = mailboxes.meet(&user(), (device(number), 0), &[], 100 - u64::from(number));
            assert_eq!(gone, None);
        }
        let (_, gone) = mailboxes.meet(&user(), (device(15), 0), &[], 200);
        assert_eq!(gone, None, "it is known");
        let (_, gone) = mailboxes.meet(&user(), (device(16), 0), &[], 200);
        assert_eq!(gone, Some(device(14)));
    }

    #[test]
    fn what_waits_for_a_device_whose_row_was_lost_waits_on() {
        let rows = vec![MailRow {
            seq: 9,
            bytes: 10,
            author: 7,
            via: 0,
            at: 5,
        }];
        let memory = MailboxMemory {
            user: user(),
            devices: Vec::new(),
            rows,
        };
        let mut mailboxes = Mailboxes::new(1, vec![memory]);
        assert!(!mailboxes.has(&user()), "nobody is known to fetch more");
        assert!(mailboxes.expire(MAILBOX_KEPT_MS).is_empty());
        mailboxes.meet(&user(), (device(1), 0), &[], MAILBOX_KEPT_MS);
        assert!(mailboxes.has(&user()) && mailboxes.has_behind(&user(), 0));
        assert_eq!(mailboxes.expire(MAILBOX_KEPT_MS + 6), [(user(), vec![], Some(9))]);
        assert_eq!(mailboxes.total(), (0, 0));
    }

    #[test]
    fn what_nobody_reads_goes_after_thirty_days_and_so_do_silent_devices() {
        let mut mailboxes = Mailboxes::new(0, Vec::new());
        mailboxes.meet(&user(), (device(1), 0), &[], 0);
        mailboxes.meet(&user(), (device(2), 0), &[], 10);
        mailboxes.add(&user(), from(7), 10, 5);
        let new = mailboxes.add(&user(), from(7), 10, 20).seq;
        mailboxes.advance(&user(), device(2), new, 20);
        assert!(mailboxes.expire(MAILBOX_KEPT_MS).is_empty());
        let expired = mailboxes.expire(MAILBOX_KEPT_MS + 6);
        assert_eq!(
            expired,
            [(user(), vec![device(1)], Some(new))],
            "the other device has both"
        );
        let expired = mailboxes.expire(MAILBOX_KEPT_MS + 21);
        assert_eq!(expired, [(user(), vec![device(2)], None)]);
        assert!(!mailboxes.has(&user()));
        assert_eq!(mailboxes.total(), (0, 0));
    }
}

//! Nothing acknowledged is lost (PROTOCOL II.6): two servers that are killed again and again, while people at both write to
//! each other and fall down themselves.
//!
//! Each message that was acknowledged as stored by its author's own server is shown once by every device of its reader, in
//! the order in which its author wrote to that reader. Also: no number comes that the device has on its disk, none means
//! two messages, and nothing comes that its author has not signed.
//!
//! `SOCP_TEST_KILLS` sets how often a server is killed, `SOCP_TEST_SEED` repeats the moments (not the scheduling of the
//! machine).

use crate::ack_client::Who;
use crate::ack_device::{Book, Device, Plan, Reader};
use crate::data_dirs::with_key;
use crate::pages::get;
use crate::process::{PATIENCE, Served, eventually, free_ports, socp};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a server is killed in the ordinary suite.
const KILLS: u64 = 200;

/// Between two messages of one author.
const INTERVAL: Duration = Duration::from_millis(45);

/// A server lives at most for so long, from when it is ready.
const LIFE_MAX: Duration = Duration::from_millis(500);

/// Who is where: the server's place, the user, and how many devices they have.
const PEOPLE: [(usize, &str, u8); 4] = [(0, "ann", 2), (0, "abe", 1), (1, "ben", 2), (1, "bea", 1)];

/// A number out of the environment.
pub(crate) fn set_by(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// The two servers, of which one may be dead.
struct Servers<'a> {
    dir: &'a Path,
    addresses: [String; 2],
    more: [Vec<String>; 2],
    running: [Option<Served>; 2],
}

const NAMES: [&str; 2] = ["srv-a", "srv-b"];

impl<'a> Servers<'a> {
    fn start(dir: &'a Path) -> Self {
        let port = free_ports(2);
        let mut servers = Self {
            dir,
            addresses: [port, port + 1].map(|port| format!("127.0.0.1:{port}")),
            more: Default::default(),
            running: Default::default(),
        };
        for (name, key) in NAMES.iter().zip(["server", "bob"]) {
            with_key(&dir.join(name), key);
        }
        let begun = Instant::now();
        servers.revive(0);
        servers.more[1] = vec!["--bootstrap".to_owned(), servers.at(0).bootstrap()];
        servers.revive(1);
        for (here, there) in [(0, 1), (1, 0)] {
            let id = servers.at(there).server_id.clone();
            eventually("the link", || {
                servers.at(here).process.logged(begun, &["peer linked", &id])
            });
        }
        servers
    }

    fn at(&self, place: usize) -> &Served {
        self.running[place].as_ref().unwrap()
    }

    /// Kills one; it must not have died by itself.
    fn kill(&mut self, place: usize) {
        let mut served = self.running[place].take().unwrap();
        let log = served.process.log();
        assert!(!served.process.has_ended(), "{} died: {log:#?}", NAMES[place]);
        let panicked = log.iter().find(|line| line.contains("panicked"));
        assert_eq!(panicked, None, "{}", NAMES[place]);
        drop(served);
    }

    fn revive(&mut self, place: usize) {
        let more: Vec<&str> = self.more[place].iter().map(String::as_str).collect();
        let served = Served::start_on(self.dir, NAMES[place], &self.addresses[place], &more);
        self.running[place] = Some(served);
    }

    /// Starts one, and kills it after this time, wherever it is by then.
    fn kill_at_start(&self, place: usize, after: Duration) {
        let more: Vec<&str> = self.more[place].iter().map(String::as_str).collect();
        let process = Served::spawn(socp(), self.dir, NAMES[place], &self.addresses[place], &more);
        std::thread::sleep(after);
        drop(process);
    }

    /// How much waits at a server, in mailboxes and for other servers.
    fn waiting(&self, place: usize) -> [u64; 2] {
        let text = get(&self.addresses[place], "/metrics", "");
        ["mailboxes", "outbound"].map(|kept| {
            let line = text.lines().find(|line| line.contains(&format!("\"{kept}\"")));
            let count = line
                .and_then(|line| line.rsplit(' ').next())
                .and_then(|count| count.parse().ok());
            count.unwrap_or_else(|| panic!("no count of {kept} in {text}"))
        })
    }
}

/// Everybody, on threads of their own.
struct People {
    book: Arc<Book>,
    /// Name in the book, user, thread.
    devices: Vec<(String, &'static str, JoinHandle<()>)>,
}

impl People {
    fn arrive(servers: &Servers<'_>, seed: u64) -> Self {
        let book = Arc::<Book>::default();
        let mut devices = Vec::new();
        for (place, user, count) in PEOPLE {
            let others = PEOPLE.iter().filter(|(_, other, _)| *other != user);
            let readers: Vec<Reader> = others
                .map(|(place, other, _)| ((*other).into(), servers.at(*place).server_id.clone()))
                .collect();
            for number in 0..count {
                let who = Who::new(user, number);
                let name = format!("{} {}", who.user, who.device);
                let plan = Plan {
                    who,
                    address: servers.addresses[place].clone(),
                    seed: seed.wrapping_add(1 + u64::try_from(devices.len()).unwrap()),
                    // One device of each writes.
                    writes_to: if number == 0 { readers.clone() } else { Vec::new() },
                    interval: INTERVAL,
                };
                let device = Device::new(plan, &book);
                devices.push((name, user, std::thread::spawn(|| device.live())));
            }
        }
        let people = Self { book, devices };
        eventually("all to be there", || {
            people.check_alive();
            (people.book.hellos.load(Ordering::Relaxed) >= people.devices.len()).then_some(())
        });
        people.book.is_writing.store(true, Ordering::Relaxed);
        people
    }

    /// Whoever saw a rule broken has said so and ended.
    fn check_alive(&self) {
        for (name, _, thread) in &self.devices {
            assert!(!thread.is_finished(), "{name} saw a rule broken (above)");
        }
    }

    /// Waits until everything is answered and everything that was stored is shown on every device.
    fn settle(self, servers: &Servers<'_>) {
        self.book.is_writing.store(false, Ordering::Relaxed);
        let begun = Instant::now();
        loop {
            self.check_alive();
            let messages = self.book.messages.lock().unwrap();
            let unanswered = messages.unanswered();
            let missing: Vec<_> = self
                .devices
                .iter()
                .map(|(name, user, _)| (name, messages.missing(name, user)))
                .filter(|(_, missing)| !missing.is_empty())
                .collect();
            if unanswered == 0 && missing.is_empty() {
                break;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "LOST: {unanswered} unanswered, missing: {missing:?}"
            );
            drop(missing);
            drop(messages);
            std::thread::sleep(Duration::from_millis(50));
        }
        // Everybody has acknowledged everything, so nothing is kept any more.
        eventually("the shelves to be empty", || {
            self.check_alive();
            ([0, 1].map(|place| servers.waiting(place)) == [[0; 2]; 2]).then_some(())
        });
        self.book.is_over.store(true, Ordering::Relaxed);
        for (name, _, thread) in self.devices {
            assert!(thread.join().is_ok(), "{name} saw a rule broken (above)");
        }
    }
}

#[test]
fn what_is_acknowledged_survives_every_kill() {
    let kills = set_by("SOCP_TEST_KILLS", KILLS);
    let seed = set_by("SOCP_TEST_SEED", rand::random_range(0..1_000_000));
    println!("SOCP_TEST_KILLS={kills} SOCP_TEST_SEED={seed}");
    let dir = tempfile::tempdir().unwrap();
    let mut servers = Servers::start(dir.path());
    let people = People::arrive(&servers, seed);
    let mut rng = StdRng::seed_from_u64(seed);
    let begun = Instant::now();
    let mut killed = 0;
    while killed < kills {
        // Not waiting for anything: the moments are to be any.
        std::thread::sleep(rng.random_range(Duration::ZERO..LIFE_MAX));
        people.check_alive();
        let place = rng.random_range(0..2);
        servers.kill(place);
        killed += 1;
        if rng.random_ratio(1, 8) {
            servers.kill_at_start(place, rng.random_range(Duration::ZERO..Duration::from_millis(150)));
            killed += 1;
        }
        servers.revive(place);
    }
    let took = begun.elapsed();
    let book = Arc::clone(&people.book);
    people.settle(&servers);
    let count = |number: &std::sync::atomic::AtomicUsize| number.load(Ordering::Relaxed);
    let messages = book.messages.lock().unwrap();
    println!(
        "{killed} kills in {took:.1?}, {} cuts, {} hellos; {} messages stored, {} refused, {} sent again, {} came again",
        count(&book.cuts),
        count(&book.hellos),
        messages.stored.len(),
        messages.refused.len(),
        count(&book.sent_again),
        count(&book.came_again),
    );
    // Nobody is unknown and nothing is full here: a refusal would be a fault.
    assert_eq!(messages.refused.len(), 0, "{:?}", messages.refused);
    for (_, from, _) in PEOPLE {
        for (_, to, _) in PEOPLE.iter().filter(|(_, to, _)| *to != from) {
            let between = |message: &&(Arc<str>, Arc<str>, u64)| (&*message.0, &*message.1) == (from, *to);
            assert_ne!(messages.stored.iter().filter(between).count(), 0, "{from} to {to}");
        }
    }
    for place in [0, 1] {
        servers.kill(place);
    }
}

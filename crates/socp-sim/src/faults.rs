//! What goes wrong, and when: a plan drawn from the seed.
//!
//! Faults come in storms with calm between, so that each run shows both that nothing bad happens during a storm and
//! that everything works again after it.

use crate::event::Event;
use crate::net::Host;
use crate::options::{FaultKind, Options};
use crate::queue::Time;
use crate::random::Dice;
use crate::world::World;
use std::collections::BTreeSet;

/// The servers have this long to meet, ms.
pub(crate) const MEETING_MS: u64 = 90_000;
/// Length of a storm, ms.
const STORM_MS: u64 = 150_000;
/// Length of the calm behind it, ms: long enough for the network to find itself, and to show that it has.
const LULL_MS: u64 = 210_000;
/// Shortest and longest time that a fault takes, ms.
const FAULT_MS: (u64, u64) = (8_000, 100_000);

/// Shortest and longest time between two power cuts, ms.
const POWER_PAUSE_MS: (u64, u64) = (400, 1_600);
/// Shortest and longest time without power, ms.
const POWER_LESS_MS: (u64, u64) = (50, 900);

/// One thing that goes wrong.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) begins: Time,
    pub(crate) ends: Time,
    what: What,
}

/// What goes wrong.
#[derive(Debug, Clone)]
enum What {
    Loss {
        a: Host,
        b: Host,
        percent: u64,
    },
    Doubling {
        a: Host,
        b: Host,
        percent: u64,
    },
    Disorder {
        a: Host,
        b: Host,
        percent: u64,
    },
    Delay {
        a: Host,
        b: Host,
        ms: u64,
    },
    Slow {
        a: Host,
        b: Host,
        frame_ms: u64,
    },
    /// Nothing goes from one side to the other; `is_one_way`: but the other way.
    Partition {
        side: BTreeSet<Host>,
        is_one_way: bool,
        is_cut: bool,
    },
    ClockJump {
        host: Host,
        ms: i64,
    },
    Crash {
        host: Host,
        is_machine: bool,
    },
    /// A machine loses its power for a moment.
    Power {
        host: Host,
    },
    /// A disk refuses to write.
    Disk {
        host: Host,
    },
}

/// The plan for a run.
pub(crate) fn plan(options: &Options) -> Vec<Trouble> {
    let kinds = options.faults.passing();
    let mut dice = Dice::new(options.seed, "faults");
    let end = MEETING_MS + options.minutes * 60_000;
    let mut troubles = Vec::new();
    let mut begins = MEETING_MS;
    while begins < end && !kinds.is_empty() {
        let storm_end = (begins + STORM_MS).min(end);
        let count = dice.between(2, 3 + u64::try_from(options.servers / 3).unwrap_or(0));
        for _ in 0..count {
            let Some(kind) = dice.pick(&kinds).copied() else { break };
            let at = dice.between(begins, storm_end);
            let length = dice.between(FAULT_MS.0, FAULT_MS.1);
            troubles.push(Trouble {
                begins: at,
                ends: (at + length).min(storm_end + 1_000),
                what: draw(&mut dice, kind, options.servers),
            });
        }
        begins = storm_end + LULL_MS;
    }
    troubles.extend(power_cuts(options));
    troubles
}

/// One power cut after the other.
fn power_cuts(options: &Options) -> Vec<Trouble> {
    let mut dice = Dice::new(options.seed, "power");
    let mut begins = MEETING_MS;
    let cuts = (0..options.power.unwrap_or(0)).map(|_| {
        begins += dice.between(POWER_PAUSE_MS.0, POWER_PAUSE_MS.1);
        Trouble {
            begins,
            ends: begins + dice.between(POWER_LESS_MS.0, POWER_LESS_MS.1),
            what: What::Power {
                host: dice.index(options.servers),
            },
        }
    });
    cuts.collect()
}

fn draw(dice: &mut Dice, kind: FaultKind, servers: usize) -> What {
    let a = dice.index(servers);
    let b = (a + 1 + dice.index(servers.saturating_sub(1))) % servers;
    let percent = dice.between(5, 60);
    let side = |dice: &mut Dice| {
        let count = dice.between(1, u64::try_from(servers / 2).unwrap_or(1).max(1));
        (0..count).map(|_| dice.index(servers)).collect()
    };
    match kind {
        FaultKind::Loss => What::Loss { a, b, percent },
        FaultKind::Doubling => What::Doubling { a, b, percent },
        FaultKind::Disorder => What::Disorder { a, b, percent },
        FaultKind::Delay => What::Delay {
            a,
            b,
            ms: dice.between(500, 12_000),
        },
        FaultKind::Slow => What::Slow {
            a,
            b,
            frame_ms: dice.between(20, 400),
        },
        FaultKind::Partition | FaultKind::OneWay => What::Partition {
            side: side(dice),
            is_one_way: kind == FaultKind::OneWay,
            is_cut: dice.chance(30),
        },
        FaultKind::Clock => {
            let ms = i64::try_from(dice.between(60_000, 1_200_000)).unwrap_or(0);
            let ms = if dice.chance(50) { ms } else { -ms };
            What::ClockJump { host: a, ms }
        }
        FaultKind::Disk => What::Disk { host: a },
        FaultKind::Crash | FaultKind::Hostile => What::Crash {
            host: a,
            is_machine: dice.chance(40),
        },
    }
}

impl World {
    pub(crate) fn on_fault_begins(&mut self, index: usize) {
        let what = self.plan[index].what.clone();
        self.tell(|| format!("fault: {what:?}"));
        self.oracle.on_fault_begins();
        self.oracle.stats.faults += 1;
        match what {
            What::Partition {
                side,
                is_one_way,
                is_cut,
            } => self.partition(&side, is_one_way, is_cut, true),
            What::ClockJump { host, ms } => self.nodes[host].clock_ms += ms,
            What::Crash { host, is_machine } => {
                if self.nodes[host].is_up() {
                    self.crash(host, is_machine);
                }
            }
            What::Power { host } => {
                self.oracle.stats.power_cuts += 1;
                if self.nodes[host].is_up() {
                    self.crash(host, true);
                }
            }
            What::Disk { host } => {
                self.nodes[host].refusals += 1;
                self.oracle.on_disk_refuses(host, true);
            }
            What::Loss { a, b, .. }
            | What::Doubling { a, b, .. }
            | What::Disorder { a, b, .. }
            | What::Delay { a, b, .. }
            | What::Slow { a, b, .. } => {
                self.spoil(a, b, &what, true);
                self.spoil(b, a, &what, true);
            }
        }
    }

    pub(crate) fn on_fault_ends(&mut self, index: usize) {
        let what = self.plan[index].what.clone();
        self.tell(|| format!("fault over: {what:?}"));
        match what {
            What::Partition { side, is_one_way, .. } => self.partition(&side, is_one_way, false, false),
            What::ClockJump { host, ms } => self.nodes[host].clock_ms -= ms,
            What::Crash { host, .. } => {
                if !self.nodes[host].is_up() {
                    self.prepare_restart(host);
                    self.queue.after(0, Event::Start { host });
                }
            }
            What::Power { host } => {
                if !self.nodes[host].is_up() {
                    self.queue.after(0, Event::Start { host });
                }
            }
            What::Disk { host } => {
                self.nodes[host].refusals -= 1;
                self.oracle.on_disk_refuses(host, self.nodes[host].refusals > 0);
            }
            What::Loss { a, b, .. } | What::Doubling { a, b, .. } | What::Disorder { a, b, .. } => {
                self.spoil(a, b, &what, false);
                self.spoil(b, a, &what, false);
                // What was lost or came out of order is made good by new connections only.
                self.cut_between(a, b);
            }
            What::Delay { a, b, .. } | What::Slow { a, b, .. } => {
                self.spoil(a, b, &what, false);
                self.spoil(b, a, &what, false);
            }
        }
        self.oracle.on_fault_ends();
    }

    /// Makes a path bad, or good again.
    fn spoil(&mut self, from: Host, to: Host, what: &What, begins: bool) {
        let path = self.net.path(from, to);
        let set = |field: &mut u64, value: u64| *field = if begins { value } else { 0 };
        match what {
            What::Loss { percent, .. } => set(&mut path.loss, *percent),
            What::Doubling { percent, .. } => set(&mut path.doubling, *percent),
            What::Disorder { percent, .. } => set(&mut path.disorder, *percent),
            What::Delay { ms, .. } => set(&mut path.delay_ms, *ms),
            What::Slow { frame_ms, .. } => set(&mut path.frame_ms, *frame_ms),
            What::Partition { .. }
            | What::ClockJump { .. }
            | What::Crash { .. }
            | What::Power { .. }
            | What::Disk { .. } => {}
        }
    }

    fn partition(&mut self, side: &BTreeSet<Host>, is_one_way: bool, is_cut: bool, begins: bool) {
        let honest = self.nodes.len();
        for from in side {
            for to in (0..honest).filter(|to| !side.contains(to)) {
                self.block(*from, to, begins);
                if !is_one_way {
                    self.block(to, *from, begins);
                }
                if is_cut {
                    self.cut_between(*from, to);
                }
            }
        }
    }

    /// Blocks a direction, or frees it.
    pub(crate) fn block(&mut self, from: Host, to: Host, begins: bool) {
        let path = self.net.path(from, to);
        if begins {
            path.blocks += 1;
        } else {
            path.blocks = path.blocks.saturating_sub(1);
            self.net.resume(&mut self.queue, from, to);
        }
    }

    /// Breaks all connections between two hosts.
    pub(crate) fn cut_between(&mut self, a: Host, b: Host) {
        for link in self.net.links_between(a, b) {
            self.net.cut(&mut self.queue, link);
        }
    }

    /// A server may come back under another address, or with a bootstrap list that somebody talked its operator into.
    fn prepare_restart(&mut self, host: Host) {
        let honest = self.nodes.len();
        let life = self.nodes[host].life;
        if self.fault_dice.chance(20) {
            let name = format!("h{host}-{life}");
            self.addresses.remove(&format!("{}:1", self.nodes[host].config.host));
            self.addresses.insert(format!("{name}:1"), host);
            self.tell(|| format!("h{host} moves to {name}"));
            self.nodes[host].config.host = name;
        }
        if let Some(liar) = self.hostiles.first().map(|hostile| hostile.name())
            && self.fault_dice.chance(40)
        {
            let entries = &mut self.nodes[host].config.bootstrap;
            if entries.iter().all(|entry| entry.host != liar) {
                self.tell(|| format!("h{host} has the liar of {honest} on its list"));
                self.nodes[host]
                    .config
                    .bootstrap
                    .push(socp_core::server::BootstrapEntry {
                        tls: None,
                        host: liar,
                        port: 1,
                        key: None,
                    });
            }
        }
    }
}

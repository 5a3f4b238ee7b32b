//! What to run: everything that, with the program, decides what happens.

use socp_core::server::Mutation;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// Frames are lost on a path for a while, then its connections break.
    Loss,
    /// Frames come twice.
    Doubling,
    /// A path is slow to arrive.
    Delay,
    /// Frames come out of order.
    Disorder,
    /// Some servers cannot reach the others.
    Partition,
    /// What some servers say does not reach the others.
    OneWay,
    /// A path carries few frames a second.
    Slow,
    /// Clocks are off, and jump.
    Clock,
    /// Servers die and start again with what was on disk.
    Crash,
    /// Servers that lie.
    Hostile,
    /// Disks refuse to write for a while.
    Disk,
}

impl FaultKind {
    const ALL: [(Self, &'static str); 11] = [
        (Self::Loss, "loss"),
        (Self::Doubling, "dup"),
        (Self::Delay, "delay"),
        (Self::Disorder, "reorder"),
        (Self::Partition, "partition"),
        (Self::OneWay, "oneway"),
        (Self::Slow, "slow"),
        (Self::Clock, "clock"),
        (Self::Crash, "crash"),
        (Self::Hostile, "hostile"),
        (Self::Disk, "disk"),
    ];
}

/// Which kinds of faults there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FaultSet(BTreeSet<FaultKind>);

impl FaultSet {
    /// All kinds.
    #[must_use]
    pub fn all() -> Self {
        Self(FaultKind::ALL.iter().map(|(kind, _)| *kind).collect())
    }

    /// Whether this kind is among them.
    #[must_use]
    pub fn has(&self, kind: FaultKind) -> bool {
        self.0.contains(&kind)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Kinds that begin and end; hostile servers are there all the time.
    pub(crate) fn passing(&self) -> Vec<FaultKind> {
        let passing = self.0.iter().filter(|kind| **kind != FaultKind::Hostile);
        passing.copied().collect()
    }
}

impl FromStr for FaultSet {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => return Ok(Self::default()),
            "all" => return Ok(Self::all()),
            _ => {}
        }
        let kind = |name: &str| {
            let found = FaultKind::ALL.iter().find(|(_, known)| *known == name);
            found.map(|(kind, _)| *kind).ok_or_else(|| {
                let known: Vec<&str> = FaultKind::ALL.iter().map(|(_, known)| *known).collect();
                format!(
                    "no fault is called {name:?}; use all, none or some of {}",
                    known.join(",")
                )
            })
        };
        text.split(',').map(kind).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for FaultSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        if self.0.len() == FaultKind::ALL.len() {
            return f.write_str("all");
        }
        let names = FaultKind::ALL.iter().filter(|(kind, _)| self.has(*kind));
        let names: Vec<&str> = names.map(|(_, name)| *name).collect();
        f.write_str(&names.join(","))
    }
}

/// Which servers can reach each other, once all have met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topology {
    /// All.
    Mesh,
    /// Each the one before and the one behind it.
    Ring,
    /// Each the first.
    Star,
}

impl Topology {
    const ALL: [(Self, &'static str); 3] = [(Self::Mesh, "mesh"), (Self::Ring, "ring"), (Self::Star, "star")];

    /// Whether two servers can reach each other.
    pub(crate) fn joins(self, a: usize, b: usize, count: usize) -> bool {
        match self {
            Self::Mesh => true,
            Self::Ring => (a + 1) % count == b || (b + 1) % count == a,
            Self::Star => a == 0 || b == 0,
        }
    }
}

impl FromStr for Topology {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(_, name)| *name == text);
        found
            .map(|(topology, _)| *topology)
            .ok_or_else(|| format!("no topology is called {text:?}; use mesh, ring or star"))
    }
}

/// What all servers do wrong, so that the oracle can be seen to notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Their state machine leaves a rule out.
    Core(Mutation),
    /// They change what they hand to users.
    AlteredContent,
    /// They let users in and do not say so.
    SilentHello,
    /// They do not answer requests for the list.
    SilentList,
    /// They do not tell each other the version of the group `public`.
    SecretVersion,
}

impl Flaw {
    const ALL: [(Self, &'static str); 14] = [
        (Self::Core(Mutation::NoGapCheck), "no-gap-check"),
        (Self::Core(Mutation::NoSeenCache), "no-seen-cache"),
        (Self::Core(Mutation::ForwardToOrigin), "forward-to-origin"),
        (Self::Core(Mutation::NoPinCheck), "no-pin-check"),
        (Self::Core(Mutation::RemoveWithoutMapping), "remove-without-mapping"),
        (Self::Core(Mutation::NoProofCheck), "no-proof-check"),
        (Self::Core(Mutation::GossipBeatsLocal), "gossip-beats-local"),
        (Self::Core(Mutation::AckBeforeDisk), "ack-before-disk"),
        (Self::Core(Mutation::ForgetOutbound), "forget-outbound"),
        (Self::Core(Mutation::OneDeviceIsEnough), "one-device-is-enough"),
        (Self::AlteredContent, "altered-content"),
        (Self::SilentHello, "silent-hello"),
        (Self::SilentList, "silent-list"),
        (Self::SecretVersion, "secret-version"),
    ];

    fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(known, _)| *known == self);
        found.map_or("", |(_, name)| name)
    }
}

impl From<Mutation> for Flaw {
    fn from(mutation: Mutation) -> Self {
        Self::Core(mutation)
    }
}

impl FromStr for Flaw {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(_, name)| *name == text);
        found.map(|(flaw, _)| *flaw).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|(_, name)| *name).collect();
            format!("no mutation is called {text:?}; use one of {}", known.join(", "))
        })
    }
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What all chance comes from.
    pub seed: u64,
    /// Honest servers.
    pub servers: usize,
    /// Users.
    pub users: usize,
    /// How long faults go on, in minutes of virtual time.
    pub minutes: u64,
    /// Which.
    pub faults: FaultSet,
    /// Who can reach whom.
    pub topology: Topology,
    /// What all servers do wrong.
    pub flaw: Option<Flaw>,
    /// So many users who do not exist are advertised by each hostile server, which does nothing else then.
    pub flood: Option<u64>,
    /// So many times a server loses power, one about every second, with users who come and go all the time.
    pub power: Option<u64>,
    /// Whether a presence change that crosses a link twice is a fault; only where nothing is lost or late.
    pub counts_crossings: bool,
    /// Whether servers now and then lose a batch of presence that a peer tells them, and nothing else.
    pub loses_batches: bool,
    /// Whether the notes of servers go to standard error.
    pub is_verbose: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            servers: 10,
            users: 100,
            minutes: 10,
            faults: FaultSet::all(),
            topology: Topology::Mesh,
            flaw: None,
            flood: None,
            power: None,
            counts_crossings: false,
            loses_batches: false,
            is_verbose: false,
        }
    }
}

/// As arguments of the program.
impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "--seed {} --servers {} --users {} --minutes {} --faults {}",
            self.seed, self.servers, self.users, self.minutes, self.faults
        )?;
        if self.topology != Topology::Mesh {
            let name = Topology::ALL.iter().find(|(topology, _)| *topology == self.topology);
            write!(f, " --topology {}", name.map_or("mesh", |(_, name)| name))?;
        }
        if let Some(flaw) = self.flaw {
            write!(f, " --mutation {}", flaw.name())?;
        }
        if let Some(flood) = self.flood {
            write!(f, " --flood {flood}")?;
        }
        if let Some(power) = self.power {
            write!(f, " --power {power}")?;
        }
        if self.counts_crossings {
            f.write_str(" --count-crossings")?;
        }
        if self.loses_batches {
            f.write_str(" --lose-batches")?;
        }
        Ok(())
    }
}

/// From the arguments of the program, as [`Options`] shows them.
impl FromStr for Options {
    type Err = String;
    fn from_str(line: &str) -> Result<Self, String> {
        let mut options = Self::default();
        let mut words = line.split_whitespace();
        while let Some(name) = words.next() {
            if name == "--count-crossings" {
                options.counts_crossings = true;
                continue;
            }
            if name == "--lose-batches" {
                options.loses_batches = true;
                continue;
            }
            let value = words.next().ok_or_else(|| format!("{name} has no value"))?;
            let number = || {
                value
                    .parse::<u64>()
                    .map_err(|_| format!("{name} {value}: not a number"))
            };
            let count = || {
                value
                    .parse::<usize>()
                    .map_err(|_| format!("{name} {value}: not a number"))
            };
            match name {
                "--seed" => options.seed = number()?,
                "--servers" => options.servers = count()?,
                "--users" => options.users = count()?,
                "--minutes" => options.minutes = number()?,
                "--faults" => options.faults = value.parse()?,
                "--topology" => options.topology = value.parse()?,
                "--mutation" => options.flaw = Some(value.parse()?),
                "--flood" => options.flood = Some(number()?),
                "--power" => options.power = Some(number()?),
                _ => return Err(format!("no option is called {name}")),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_reads_back() {
        let line = "--seed 7 --servers 3 --users 9 --minutes 2 --faults loss,crash --topology ring \
                    --mutation no-pin-check --flood 5 --power 9 --count-crossings --lose-batches";
        let options: Options = line.parse().unwrap();
        assert_eq!(
            options.to_string(),
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        );
        assert!("--seed".parse::<Options>().is_err());
        assert!("--seeds 1..2".parse::<Options>().is_err());
        assert!("--faults rain".parse::<Options>().is_err());
    }
}

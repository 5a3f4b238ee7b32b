//! What a server counts, for `GET /metrics`.
//!
//! Each server has a registry of its own, since a process may run several. Labels are types with few values: never an
//! id, an address or anything else that somebody else chooses, so the number of series is bounded. Most things are
//! counted where they happen; how many links and users there are is asked of the hub at a scrape.

use crate::hub::answers::{HubStatus, LinkCounts};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use socp_proto::FrameKind;
use std::time::{Duration, Instant};

/// How the text is called (OpenMetrics 1.0, which Prometheus reads).
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Which way a frame went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// To us.
    In,
    /// From us.
    Out,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It came and counted.
    Accepted,
    /// It came and was refused; the class says why.
    Refused(&'static str),
    /// It had come before.
    Duplicate,
    /// It came and meant nothing here.
    Ignored,
    /// It is in line to its link.
    Queued,
    /// It did not get there.
    Dropped(Loss),
}

impl Outcome {
    fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::Accepted => ("accepted", ""),
            Self::Refused(class) => ("refused", class),
            Self::Duplicate => ("duplicate", ""),
            Self::Ignored => ("ignored", ""),
            Self::Queued => ("queued", ""),
            Self::Dropped(loss) => ("dropped", loss.name()),
        }
    }
}

/// Why something was dropped without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// A link's outbox had no room.
    OutboxFull,
    /// The link ended before.
    LinkGone,
    /// It could not be signed.
    Signing,
    /// No place among the unfinished connections.
    Connection,
    /// A pong that nobody asked for.
    Pong,
    /// No way to the user.
    Undeliverable,
    /// A directory signature that is not the home server's.
    DirectorySignature,
    /// The end of an account that its user has not signed.
    Deletion,
}

impl Loss {
    fn name(self) -> &'static str {
        match self {
            Self::OutboxFull => "outbox_full",
            Self::LinkGone => "link_gone",
            Self::Signing => "signing_failed",
            Self::Connection => "too_many_connections",
            Self::Pong => "unasked_pong",
            Self::Undeliverable => "undeliverable",
            Self::DirectorySignature => "directory_signature",
            Self::Deletion => "deletion",
        }
    }
}

/// The type of a frame that was not one.
pub(crate) const UNREADABLE: &str = "unreadable";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FrameLabels {
    direction: &'static str,
    r#type: &'static str,
    outcome: &'static str,
    reason: &'static str,
}

/// One label whose values are written in this program.
macro_rules! label {
    ($name:ident, $label:ident) => {
        #[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name {
            $label: &'static str,
        }
    };
}

label!(Reason, reason);
label!(Class, class);
label!(Role, role);
label!(Place, place);
label!(Kind, kind);
label!(Done, outcome);
label!(To, to);

/// Everything that one server counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    began: Instant,
    frames: Family<FrameLabels, Counter>,
    drops: Family<Reason, Counter>,
    refusals: Family<Class, Counter>,
    warnings: Family<Kind, Counter>,
    routed: Family<To, Counter>,
    dials: Family<Done, Counter>,
    commits: Family<Done, Counter>,
    records: Counter,
    pruned: Counter,
    commit_time: Histogram,
    signing_time: Histogram,
    verification_time: Histogram,
    /// Jobs that wait for the pool, or are at work there.
    pub(crate) pool_queue: Gauge,
    /// Records that are not on disk yet.
    pub(crate) store_queue: Gauge,
    store_failing: Gauge,
    gauges: Gauges,
}

/// What the hub says at a scrape.
#[derive(Debug, Default)]
struct Gauges {
    links: Family<Role, Gauge>,
    users: Family<Place, Gauge>,
    pins: Gauge,
    records: Gauge,
    channel_version: Gauge,
    kept: Family<Place, Gauge>,
    kept_bytes: Gauge,
    hub_queue: Gauge,
    outbox_frames_max: Gauge,
    outbox_bytes_max: Gauge,
    limits: Family<Kind, Gauge>,
    uptime: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        // Doubling from 50 µs to 6.5 s; from 0.25 ms to 16 s for the disk.
        let key_times = || Histogram::new(exponential_buckets(0.000_05, 2.0, 18));
        let mut metrics = Self {
            registry: Registry::with_prefix("socp"),
            began: Instant::now(),
            frames: Family::default(),
            drops: Family::default(),
            refusals: Family::default(),
            warnings: Family::default(),
            routed: Family::default(),
            dials: Family::default(),
            commits: Family::default(),
            records: Counter::default(),
            pruned: Counter::default(),
            commit_time: Histogram::new(exponential_buckets(0.000_25, 2.0, 17)),
            signing_time: key_times(),
            verification_time: key_times(),
            pool_queue: Gauge::default(),
            store_queue: Gauge::default(),
            store_failing: Gauge::default(),
            gauges: Gauges::default(),
        };
        metrics.register_counts();
        metrics.register_work();
        metrics.gauges.register(&mut metrics.registry);
        metrics
    }

    fn register_counts(&mut self) {
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        let registry = &mut self.registry;
        registry.register("build", "The program", version);
        registry.register(
            "frames",
            "Frames by direction, type, outcome and reason",
            self.frames.clone(),
        );
        registry.register(
            "drops",
            "What was dropped without an answer, by reason",
            self.drops.clone(),
        );
        registry.register(
            "refusals",
            "What was refused, by class, late refusals and closed links included",
            self.refusals.clone(),
        );
        registry.register(
            "warnings",
            "What an operator should look at, by kind; the log says more",
            self.warnings.clone(),
        );
        registry.register(
            "routed",
            "Content that went out to its user here, or to another server",
            self.routed.clone(),
        );
        registry.register("dials", "Attempts to connect to another server", self.dials.clone());
    }

    fn register_work(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "signing_seconds",
            "Time to sign a payload or statement",
            self.signing_time.clone(),
        );
        registry.register(
            "verification_seconds",
            "Time to verify everything in a frame",
            self.verification_time.clone(),
        );
        registry.register("pool_queue", "Jobs in the signing pool", self.pool_queue.clone());
        registry.register(
            "store_queue",
            "Records on their way to the disk",
            self.store_queue.clone(),
        );
        registry.register("store_commits", "Commits of the database", self.commits.clone());
        registry.register("store_records", "Records that are on disk", self.records.clone());
        registry.register(
            "store_pruned",
            "Delivered hashes that grew too old or too many",
            self.pruned.clone(),
        );
        registry.register("store_commit_seconds", "Time for one commit", self.commit_time.clone());
        registry.register(
            "store_failing",
            "1 while the last commit failed",
            self.store_failing.clone(),
        );
    }

    /// Counts one frame.
    pub(crate) fn frame(&self, direction: Direction, kind: Option<FrameKind>, outcome: Outcome) {
        self.frames(direction, kind, outcome, 1);
    }

    /// Counts the same frame on several links.
    pub(crate) fn frames(&self, direction: Direction, kind: Option<FrameKind>, outcome: Outcome, count: u64) {
        let (name, reason) = outcome.labels();
        let labels = FrameLabels {
            direction: match direction {
                Direction::In => "in",
                Direction::Out => "out",
            },
            r#type: kind.map_or(UNREADABLE, FrameKind::name),
            outcome: name,
            reason,
        };
        self.frames.get_or_create(&labels).inc_by(count);
        if let Outcome::Dropped(loss) = outcome {
            self.drops.get_or_create(&Reason { reason: loss.name() }).inc_by(count);
        }
    }

    /// Counts something that was dropped and is no frame of ours.
    pub(crate) fn dropped(&self, loss: Loss) {
        self.drops.get_or_create(&Reason { reason: loss.name() }).inc();
    }

    /// How much was dropped for this reason.
    #[cfg(test)]
    pub(crate) fn drops_of(&self, loss: Loss) -> u64 {
        self.drops.get_or_create(&Reason { reason: loss.name() }).get()
    }

    /// How often the operator was warned of this.
    #[cfg(test)]
    pub(crate) fn warnings_of(&self, kind: &'static str) -> u64 {
        self.warnings.get_or_create(&Kind { kind }).get()
    }

    /// Whether the last commit failed.
    #[cfg(test)]
    pub(crate) fn store_failing(&self) -> bool {
        self.store_failing.get() == 1
    }

    /// Counts a refusal of the core.
    pub(crate) fn refused(&self, class: &'static str) {
        self.refusals.get_or_create(&Class { class }).inc();
    }

    /// Counts something that the operator should look at.
    pub(crate) fn warned(&self, kind: &'static str) {
        self.warnings.get_or_create(&Kind { kind }).inc();
    }

    /// Counts content on its way.
    pub(crate) fn routed(&self, is_local: bool) {
        let to = if is_local { "user" } else { "server" };
        self.routed.get_or_create(&To { to }).inc();
    }

    /// Counts an attempt to connect.
    pub(crate) fn dialled(&self, is_connected: bool) {
        let outcome = if is_connected { "connected" } else { "failed" };
        self.dials.get_or_create(&Done { outcome }).inc();
    }

    /// Counts a commit of so many records.
    pub(crate) fn committed(&self, records: usize, took: Duration, is_done: bool) {
        let outcome = if is_done { "written" } else { "failed" };
        self.commits.get_or_create(&Done { outcome }).inc();
        self.commit_time.observe(took.as_secs_f64());
        self.store_failing.set(i64::from(!is_done));
        if is_done {
            self.records.inc_by(u64::try_from(records).unwrap_or(u64::MAX));
        }
    }

    /// Counts rows that were not needed any more.
    pub(crate) fn pruned(&self, rows: usize) {
        self.pruned.inc_by(u64::try_from(rows).unwrap_or(u64::MAX));
    }

    /// Does `work` and counts the time it took as signing.
    pub(crate) fn time_signing<T>(&self, work: impl FnOnce() -> T) -> T {
        timed(&self.signing_time, work)
    }

    /// Does `work` and counts the time it took as verifying.
    pub(crate) fn time_verifying<T>(&self, work: impl FnOnce() -> T) -> T {
        timed(&self.verification_time, work)
    }

    /// How long the server has been running.
    pub(crate) fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    /// The text of a scrape.
    pub(crate) fn text(&self, status: &HubStatus) -> Result<String, std::fmt::Error> {
        self.gauges.set(status, self.uptime());
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn timed<T>(histogram: &Histogram, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = work();
    histogram.observe(begun.elapsed().as_secs_f64());
    done
}

impl Gauges {
    fn register(&self, registry: &mut Registry) {
        registry.register("links", "Connections by whose they are", self.links.clone());
        registry.register("users", "Users online by where they are", self.users.clone());
        registry.register("pins", "Servers whose key is pinned", self.pins.clone());
        registry.register(
            "home_users",
            "Users whose home this is, online or not",
            self.records.clone(),
        );
        registry.register(
            "channel_version",
            "The version of the public channel",
            self.channel_version.clone(),
        );
        registry.register("kept_messages", "Messages that wait, by where", self.kept.clone());
        registry.register("mailbox_bytes", "Bytes that wait in mailboxes", self.kept_bytes.clone());
        registry.register("hub_queue", "Inputs that wait for the hub", self.hub_queue.clone());
        registry.register(
            "outbox_frames_max",
            "Frames that wait in the fullest outbox",
            self.outbox_frames_max.clone(),
        );
        registry.register(
            "outbox_bytes_max",
            "Bytes that wait in the largest outbox",
            self.outbox_bytes_max.clone(),
        );
        registry.register("bounds", "Where queues are full", self.limits.clone());
        registry.register("uptime_seconds", "Time since the start", self.uptime.clone());
    }

    fn set(&self, hub: &HubStatus, uptime: Duration) {
        let LinkCounts { new, peers, users } = hub.links;
        for (role, count) in [("new", new), ("peer", peers), ("user", users)] {
            self.links.get_or_create(&Role { role }).set(number(count));
        }
        let core = &hub.core;
        for (place, count) in [
            ("local", core.local_users),
            ("remote", core.remote_users),
            ("stale", core.stale_users),
        ] {
            self.users.get_or_create(&Place { place }).set(number(count));
        }
        self.pins.set(number(core.pins));
        self.records.set(number(core.records));
        self.channel_version
            .set(i64::try_from(core.channel_version).unwrap_or(i64::MAX));
        let (mail, mail_bytes) = core.mail;
        for (place, count) in [("mailboxes", mail), ("outbound", core.outbound)] {
            self.kept.get_or_create(&Place { place }).set(number(count));
        }
        self.kept_bytes.set(number(mail_bytes));
        self.hub_queue.set(number(hub.hub_queue));
        self.outbox_frames_max.set(number(hub.outbox_frames_max));
        self.outbox_bytes_max.set(number(hub.outbox_bytes_max));
        for (kind, bound) in crate::hub::answers::BOUNDS {
            self.limits.get_or_create(&Kind { kind }).set(number(bound));
        }
        self.uptime.set(i64::try_from(uptime.as_secs()).unwrap_or(i64::MAX));
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

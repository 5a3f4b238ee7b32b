//! What a run tells: which rule broke, what led to it, and how to see it again.

use crate::options::Options;
use crate::queue::Time;
use std::collections::BTreeMap;
use std::fmt;

/// What a run must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A message said in a calm network arrives.
    Lost,
    /// A message arrives once.
    Twice,
    /// A message arrives as it was said.
    Altered,
    /// A message reaches nobody but its reader, and its fate nobody but its author.
    WrongReader,
    /// Nobody speaks in another's name.
    Forged,
    /// An author is not told that nobody was there when somebody was.
    FalseAnswer,
    /// An author is told when nobody was there.
    NoAnswer,
    /// What is acknowledged as stored is on a disk.
    Unstored,
    /// What was acknowledged as stored reaches every device of its reader, or its author hears that it does not.
    Forgotten,
    /// What one program says arrives in the order in which it was said.
    OutOfOrder,
    /// Whoever does nothing wrong is not refused.
    Refused,
    /// A hello and a request for the list get an answer.
    Unanswered,
    /// Everyone online is shown.
    Missing,
    /// Nobody is shown who is not online.
    Ghost,
    /// Everyone is shown at the right server.
    Misplaced,
    /// A presence change crosses a link once.
    CrossedTwice,
    /// Servers that are linked agree on the version of the group `public`.
    Disagreed,
    /// No honest link is lost in a calm network.
    LinkLost,
    /// A pin is for life.
    PinChanged,
    /// A server knows no more users than it may.
    Overfull,
    /// What servers say is frames.
    Nonsense,
}

/// A rule that broke.
#[derive(Debug, Clone)]
pub struct Violation {
    /// When, ms since the world began.
    pub at: Time,
    /// Which.
    pub rule: Rule,
    /// How.
    pub what: String,
    /// Whom it concerns.
    pub who: Vec<String>,
}

/// A run in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Users who came to a server.
    pub arrivals: u64,
    /// Messages said.
    pub said: u64,
    /// Of these, how many reached their reader.
    pub delivered: u64,
    /// Of these, how many had to and did.
    pub must_delivered: u64,
    /// Authors told that nobody was there.
    pub told_not_found: u64,
    /// Of these, how many had to be.
    pub must_told: u64,
    /// Deliveries that their readers refuse: not signed by who is named.
    pub refused_by_readers: u64,
    /// Deliveries from users whom nobody knows.
    pub from_strangers: u64,
    /// Hellos refused.
    pub hellos_refused: u64,
    /// Lists held against the truth.
    pub lists_judged: u64,
    /// Pushed presence held against the truth.
    pub views_judged: u64,
    /// Whether the versions of the group that servers show were held against each other.
    pub versions_judged: u64,
    /// Presence changes counted on links.
    pub crossings: u64,
    /// Presence changes that servers told each other in batches.
    pub batch_changes: u64,
    /// Batches that got lost on the way.
    pub batches_lost: u64,
    /// Links that honest servers closed.
    pub closes: u64,
    /// The most users of others that a server knew at once; looked at in a flood.
    pub users_known_most: u64,
    /// Users who do not exist whom hostile servers made up.
    pub invented: u64,
    /// Frames to users.
    pub user_frames: u64,
    /// Notes of servers.
    pub notes: u64,
    /// What hostile servers did.
    pub schemes: u64,
    /// Faults of the network and its machines.
    pub faults: u64,
    /// Messages that a program was told are stored.
    pub stored: u64,
    /// How often one of these was looked for on a device of its reader.
    pub stored_judged: u64,
    /// Of these, how often the author had heard that it goes nowhere.
    pub given_up: u64,
    /// Messages that programs sent again.
    pub sent_again: u64,
    /// Power cuts.
    pub power_cuts: u64,
    /// Records that a disk refused to write.
    pub refused_writes: u64,
    /// Frames that honest servers sent each other, by type.
    pub frames: BTreeMap<&'static str, u64>,
}

/// A run.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was run.
    pub options: Options,
    /// What broke, in order; the run ends at the first.
    pub violations: Vec<Violation>,
    /// What led to the first.
    pub story: Vec<String>,
    /// Virtual time, ms.
    pub ended_at: Time,
    /// Things that happened.
    pub events: u64,
    /// The same for the same run.
    pub trace: u64,
    /// In numbers.
    pub stats: Stats,
}

impl Report {
    /// Whether every rule held.
    #[must_use]
    pub fn is_green(&self) -> bool {
        self.violations.is_empty()
    }

    /// The line that replays it.
    #[must_use]
    pub fn replay(&self) -> String {
        format!("cargo run -p socp-sim --release -- {}", self.options)
    }

    /// One JSON object.
    #[must_use]
    pub fn to_json(&self) -> String {
        let violation = self.violations.first();
        let object = serde_json::json!({
            "seed": self.options.seed,
            "green": self.is_green(),
            "rule": violation.map(|violation| format!("{:?}", violation.rule)),
            "what": violation.map(|violation| violation.what.clone()),
            "at_ms": violation.map(|violation| violation.at),
            "replay": self.replay(),
            "virtual_ms": self.ended_at,
            "events": self.events,
            "trace": format!("{:016x}", self.trace),
            "arrivals": self.stats.arrivals,
            "said": self.stats.said,
            "delivered": self.stats.delivered,
            "must_delivered": self.stats.must_delivered,
            "must_told": self.stats.must_told,
            "lists_judged": self.stats.lists_judged,
            "views_judged": self.stats.views_judged,
            "versions_judged": self.stats.versions_judged,
            "faults": self.stats.faults,
            "schemes": self.stats.schemes,
            "closes": self.stats.closes,
            "user_frames": self.stats.user_frames,
            "invented": self.stats.invented,
            "users_known_most": self.stats.users_known_most,
            "crossings": self.stats.crossings,
            "batch_changes": self.stats.batch_changes,
            "batches_lost": self.stats.batches_lost,
            "stored": self.stats.stored,
            "stored_judged": self.stats.stored_judged,
            "given_up": self.stats.given_up,
            "sent_again": self.stats.sent_again,
            "power_cuts": self.stats.power_cuts,
            "refused_writes": self.stats.refused_writes,
            "frames": self.stats.frames,
        });
        object.to_string()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stats {
            arrivals,
            said,
            delivered,
            must_delivered,
            must_told,
            lists_judged,
            views_judged,
            faults,
            schemes,
            ..
        } = &self.stats;
        writeln!(
            f,
            "seed {}: {} after {} s, {} events, trace {:016x}",
            self.options.seed,
            if self.is_green() { "green" } else { "BROKEN" },
            self.ended_at / 1000,
            self.events,
            self.trace
        )?;
        writeln!(
            f,
            "  {arrivals} arrivals, {said} messages, {delivered} delivered ({must_delivered} had to be), \
             {must_told} authors had to be told that nobody was there, {lists_judged} lists and {views_judged} views \
             judged, {faults} faults, {schemes} schemes"
        )?;
        if self.stats.stored > 0 {
            let Stats {
                stored,
                stored_judged,
                given_up,
                sent_again,
                power_cuts,
                refused_writes,
                ..
            } = &self.stats;
            writeln!(
                f,
                "  {stored} messages stored, {stored_judged} looked for on devices, {given_up} given up, {sent_again} \
                 sent again, {power_cuts} power cuts, {refused_writes} writes refused"
            )?;
        }
        for line in &self.story {
            writeln!(f, "  {line}")?;
        }
        for violation in self.violations.iter().take(5) {
            writeln!(f, "  {:>9} {:?}: {}", violation.at, violation.rule, violation.what)?;
        }
        if !self.is_green() {
            writeln!(f, "  replay: {}", self.replay())?;
        }
        Ok(())
    }
}

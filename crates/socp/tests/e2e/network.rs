//! Five servers through a kill, restarts, a move and a partition: what people see afterwards.

use crate::process::eventually;
use crate::sites::{Site, Talker, agree, commands_agree, everyone_talks, expected};
use crate::wires::Wires;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long the partition lasts.
const PARTITION: Duration = Duration::from_secs(60);
/// A link without a frame for so long is dead (SOCP §11).
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// Frames come at least this often on a link that works.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// All lists agree within this after the links are back.
const AGREEMENT_MAX: Duration = Duration::from_secs(5);

/// These are in the bootstrap lists of the others.
const INTRODUCERS: [&str; 3] = ["a", "b", "c"];
/// Who is at home where.
const PEOPLE: [(&str, &str); 7] = [
    ("ann", "a"),
    ("bea", "b"),
    ("ben", "b"),
    ("cai", "c"),
    ("dan", "d"),
    ("dora", "d"),
    ("eve", "e"),
];

/// The network as it is now.
struct Story {
    wires: Wires,
    dir: TempDir,
    sites: BTreeMap<&'static str, Site>,
    people: BTreeMap<&'static str, Talker>,
    /// The bootstrap entries of the introducers, whether or not they are still there.
    introducers: BTreeMap<&'static str, String>,
}

impl Story {
    fn begin() -> Self {
        let mut story = Self {
            wires: Wires::new(),
            dir: tempfile::tempdir().unwrap(),
            sites: BTreeMap::new(),
            people: BTreeMap::new(),
            introducers: BTreeMap::new(),
        };
        for name in ["a", "b", "c", "d", "e"] {
            let site = Site::start(&story.wires, story.dir.path(), name, &story.introducers_for(name));
            if INTRODUCERS.contains(&name) {
                story.introducers.insert(name, site.bootstrap());
            }
            story.sites.insert(name, site);
        }
        for (person, site) in PEOPLE {
            let talker = Talker::register(story.dir.path(), person, &story.sites[site].served.url);
            story.people.insert(person, talker);
        }
        story
    }

    fn introducers_for(&self, name: &str) -> Vec<String> {
        let others = self.introducers.iter().filter(|(other, _)| **other != name);
        others.map(|(_, entry)| entry.clone()).collect()
    }

    /// All lists agree, at all servers and in every chat, and everybody can talk to everybody. With the time at which
    /// the last link was back, that was soon enough.
    fn check(&mut self, when: &str, links_back: Option<Instant>) {
        let all = expected(self.sites.values(), self.people.values());
        let agreed = agree(self.sites.values_mut(), &all);
        for talker in self.people.values_mut() {
            talker.sees(&all);
        }
        commands_agree(self.people.values(), &all);
        let mut people: Vec<&mut Talker> = self.people.values_mut().collect();
        let (pairs, took) = everyone_talks(&mut people, when);
        let agreement = links_back.map(|links| agreed.saturating_duration_since(links));
        println!("{when}: agreement {agreement:?} after the links were back; {pairs} pairs talked in {took:?}");
        assert!(
            agreement.is_none_or(|took| took <= AGREEMENT_MAX),
            "{when}: {agreement:?}"
        );
    }

    /// When the last of the links between this server and the others was back, as both ends have logged.
    fn links_back(&self, name: &str, since: Instant) -> Instant {
        let site = &self.sites[name];
        let others = self.sites.values().filter(|other| other.id != site.id);
        let links = others.map(|other| {
            eventually("a link", || {
                Some(site.linked(since, other)?.max(other.linked(since, site)?))
            })
        });
        links.max().unwrap()
    }

    fn restart(&mut self, name: &'static str, signal: &str) {
        let site = self.sites.remove(name).unwrap();
        let site = site.restart(self.dir.path(), signal, &self.introducers_for(name));
        self.sites.insert(name, site);
    }

    /// Another port for the server, another address for its people.
    fn move_away(&mut self, name: &'static str) {
        let site = self.sites.remove(name).unwrap();
        let site = site.restart_elsewhere(&self.wires, self.dir.path(), &self.introducers_for(name));
        for (person, home) in PEOPLE.iter().filter(|(_, home)| *home == name) {
            let talker = self.people.remove(person).unwrap();
            self.people.insert(person, talker.moved(&site.served.url));
            assert_eq!(*home, name);
        }
        self.sites.insert(name, site);
    }

    /// Waits until this server is alone, and everyone else without it; how long that took at its own end and at one
    /// that was not started anew meanwhile.
    fn sees_the_silence(&mut self, name: &'static str, witness: &str, since: Instant) -> [Duration; 2] {
        let (site, other) = (&self.sites[name], &self.sites[witness]);
        let lost = |one: &Site, other: &Site| eventually("the loss", || one.lost(since, other)).duration_since(since);
        let waits = [lost(site, other), lost(other, site)];
        let is_here = |person: &&str| PEOPLE.contains(&(*person, name));
        let (mut inside, mut outside) = (Vec::new(), Vec::new());
        for (person, talker) in &self.people {
            let side = if is_here(person) { &mut inside } else { &mut outside };
            side.push(talker);
        }
        let cut_off = expected(std::iter::once(&self.sites[name]), inside);
        let rest = expected(self.sites.values().filter(|site| site.name != name), outside);
        agree(self.sites.get_mut(name), &cut_off);
        agree(self.sites.values_mut().filter(|site| site.name != name), &rest);
        waits
    }
}

#[test]
fn who_was_at_a_lost_server_is_gone_from_every_list_and_comes_back() {
    let (wires, dir) = (Wires::new(), tempfile::tempdir().unwrap());
    let a = Site::start(&wires, dir.path(), "a", &[]);
    let introducers = [a.bootstrap()];
    let b = Site::start(&wires, dir.path(), "b", &introducers);
    let mut people =
        [("ann", &a), ("bea", &b)].map(|(name, site)| Talker::register(dir.path(), name, &site.served.url));
    let mut sites = [a, b];
    let check = |sites: &mut [Site], people: &mut [Talker]| {
        let all = expected(&*sites, &*people);
        agree(sites, &all);
        people.iter_mut().for_each(|talker| talker.sees(&all));
        commands_agree(&*people, &all);
    };
    check(&mut sites, &mut people);

    sites[1].served.process.signal_and_wait("KILL");
    check(&mut sites[..1], &mut people[..1]);

    let [a, b] = sites;
    let mut sites = [a, b.started_again(dir.path(), &introducers)];
    check(&mut sites, &mut people);
}

#[test]
fn five_servers_agree_and_talk_after_a_kill_restarts_a_move_and_a_partition() {
    let mut story = Story::begin();
    story.check("at first", None);

    let mut gone = story.sites.remove("a").unwrap();
    gone.served.process.signal_and_wait("KILL");
    story.people.remove("ann");
    story.check("without an introducer", None);

    let begun = Instant::now();
    story.restart("b", "TERM");
    let links = story.links_back("b", begun);
    story.check("b restarted", Some(links));

    let begun = Instant::now();
    let e = story.sites["e"].id.clone();
    story.wires.cut_off(&e);
    // Both come back into a network of which one server is missing.
    story.restart("c", "KILL");
    story.move_away("d");
    let waits = story.sees_the_silence("e", "b", begun);
    println!("the silence was noticed after {waits:?}");
    for wait in waits {
        assert!(
            (SILENCE_MAX - HEARTBEAT..SILENCE_MAX + HEARTBEAT).contains(&wait),
            "{wait:?}"
        );
    }
    eventually("the time to be over", || (begun.elapsed() >= PARTITION).then_some(()));

    let healed = Instant::now();
    story.wires.join(&e);
    let links = story.links_back("e", healed);
    println!(
        "the links were back {:?} after the partition ended",
        links.duration_since(healed)
    );
    story.check("after the partition", Some(links));
}

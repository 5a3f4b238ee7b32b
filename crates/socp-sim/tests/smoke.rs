//! Small worlds that run with the ordinary tests: all faults, the same run twice, three shapes, and what once broke.

use socp_sim::{FaultSet, Options, Report, Topology, run};

fn green(options: Options) -> Report {
    let report = run(options);
    assert!(report.is_green(), "{report}");
    report
}

fn small(seed: u64) -> Options {
    Options {
        seed,
        servers: 6,
        users: 30,
        minutes: 3,
        ..Options::default()
    }
}

fn smoke(seed: u64) {
    let report = green(small(seed));
    let stats = &report.stats;
    assert!(stats.faults > 0 && stats.schemes > 0, "{report}");
    assert!(stats.must_delivered > 100, "nothing had to arrive: {report}");
    assert!(stats.lists_judged >= 6 && stats.views_judged >= 6, "{report}");
    assert_eq!(stats.versions_judged, 1, "{report}");
}

#[test]
fn all_faults_seed_1() {
    smoke(1);
}

#[test]
fn all_faults_seed_2() {
    smoke(2);
}

#[test]
fn all_faults_seed_3() {
    smoke(3);
}

#[test]
fn all_faults_seed_4() {
    smoke(4);
}

#[test]
fn one_seed_is_one_run() {
    let options = Options {
        minutes: 1,
        ..small(11)
    };
    let (first, again) = (run(options.clone()), run(options.clone()));
    assert_eq!((first.trace, first.events), (again.trace, again.events));
    assert_eq!(first.stats, again.stats);
    let other = run(Options { seed: 12, ..options });
    assert_ne!(first.trace, other.trace);
}

/// Twenty servers that have all met, then reach their neighbours only; a change crosses no link twice, whether all
/// servers tell of their users in batches or some do.
fn shape(topology: Topology) {
    for seed in [1, 3] {
        shape_of(topology, seed);
    }
}

fn shape_of(topology: Topology, seed: u64) {
    let report = green(Options {
        seed,
        servers: 20,
        users: 40,
        minutes: 1,
        faults: FaultSet::default(),
        topology,
        counts_crossings: true,
        ..Options::default()
    });
    assert!(report.stats.crossings > 1_000, "{report}");
    assert!(report.stats.must_delivered > 100, "{report}");
}

#[test]
fn a_change_crosses_each_link_of_a_mesh_of_20_once() {
    shape(Topology::Mesh);
}

#[test]
fn a_change_crosses_each_link_of_a_star_of_20_once() {
    shape(Topology::Star);
}

#[test]
fn a_change_crosses_each_link_of_a_ring_of_20_once() {
    shape(Topology::Ring);
}

/// What a flood of users who do not exist leaves behind is bounded, whatever their number.
#[test]
fn users_who_do_not_exist_fill_nobody_up() {
    let flood = |count| {
        green(Options {
            servers: 2,
            users: 6,
            minutes: 2,
            faults: "hostile".parse().unwrap(),
            flood: Some(count),
            ..Options::default()
        })
    };
    let (few, many) = (flood(10_000), flood(60_000));
    assert_eq!((few.stats.invented, many.stats.invented), (10_000, 60_000));
    // The bound is of users, and six are real.
    assert_eq!(few.stats.users_known_most, many.stats.users_known_most);
    assert!((5_000..=5_006).contains(&many.stats.users_known_most), "{many}");
    // Nor does the number of frames grow with that of the lies.
    assert!(many.stats.user_frames < few.stats.user_frames * 2, "{many}");
}

/// Every line of `regressions.txt` broke a rule once.
#[test]
fn what_once_broke_holds() {
    let lines = include_str!("../regressions.txt").lines();
    let mut count = 0;
    for line in lines.filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let (_, arguments) = line.split_once(" -- ").expect("a line that replays a run");
        green(arguments.parse().expect("arguments of the program"));
        count += 1;
    }
    assert!(count > 0, "there is nothing in regressions.txt");
}

//! The oracle notices servers that do not keep what they acknowledge, and nothing when they do (PROTOCOL II.6).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use socp_sim::{FaultSet, Mutation, Options, Rule, run};

/// A small world in which servers lose power all the time.
fn world() -> Options {
    Options {
        seed: 1,
        servers: 3,
        users: 12,
        minutes: 0,
        faults: FaultSet::default(),
        power: Some(60),
        ..Options::default()
    }
}

fn is_caught(mutation: Mutation, expected: Rule) {
    let flaw = Some(mutation.into());
    let report = run(Options { flaw, ..world() });
    let rule = report.violations.first().map(|violation| violation.rule);
    assert_eq!(rule, Some(expected), "{report}");
}

#[test]
fn what_is_acknowledged_survives_power_cuts() {
    let report = run(world());
    assert!(report.is_green(), "{report}");
    let stats = &report.stats;
    assert!(
        stats.power_cuts == 60 && stats.stored_judged > 100 && stats.sent_again > 10,
        "{report}"
    );
}

#[test]
fn acknowledging_before_the_disk_is_caught() {
    is_caught(Mutation::AckBeforeDisk, Rule::Unstored);
}

#[test]
fn forgetting_what_waits_for_a_lost_server_is_caught() {
    is_caught(Mutation::ForgetOutbound, Rule::Forgotten);
}

#[test]
fn mail_that_goes_when_one_device_has_it_is_caught() {
    is_caught(Mutation::OneDeviceIsEnough, Rule::Forgotten);
}

#[test]
fn keeping_the_same_twice_is_caught() {
    is_caught(Mutation::NoSeenCache, Rule::Twice);
}

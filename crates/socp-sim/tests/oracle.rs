//! The oracle notices servers that leave a rule out, and nothing in the same world when they do not.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use socp_sim::{FaultSet, Flaw, Mutation, Options, Rule, run};

/// A small world in which the rule matters.
fn world(faults: &str) -> Options {
    Options {
        servers: 5,
        users: 30,
        minutes: 3,
        faults: faults.parse().unwrap(),
        counts_crossings: faults == "none",
        ..Options::default()
    }
}

fn is_caught(flaw: impl Into<Flaw>, options: Options, expected: &[Rule]) {
    let honest = run(options.clone());
    assert!(honest.is_green(), "without the flaw: {honest}");
    let flaw = Some(flaw.into());
    let report = run(Options { flaw, ..options });
    let rule = report.violations.first().map(|violation| violation.rule);
    assert!(rule.is_some_and(|rule| expected.contains(&rule)), "{flaw:?}: {report}");
    assert!(report.replay().contains("--mutation"), "{}", report.replay());
}

#[test]
fn servers_without_a_seen_cache_are_caught() {
    is_caught(Mutation::NoSeenCache, world("hostile"), &[Rule::Twice]);
}

#[test]
fn gossip_that_goes_back_to_its_origin_is_caught() {
    is_caught(Mutation::ForwardToOrigin, world("none"), &[Rule::CrossedTwice]);
}

#[test]
fn batches_that_are_lost_and_not_missed_are_caught() {
    let options = Options {
        loses_batches: true,
        ..world("none")
    };
    let rules = [
        Rule::Missing,
        Rule::Ghost,
        Rule::Misplaced,
        Rule::Lost,
        Rule::FalseAnswer,
        Rule::NoAnswer,
    ];
    is_caught(
        Mutation::NoGapCheck,
        Options {
            counts_crossings: false,
            ..options
        },
        &rules,
    );
}

#[test]
fn servers_that_check_no_pins_are_caught() {
    let rules = [Rule::PinChanged, Rule::LinkLost, Rule::Lost, Rule::Missing];
    is_caught(Mutation::NoPinCheck, world("hostile"), &rules);
}

#[test]
fn servers_that_ask_for_no_proof_are_caught() {
    let rules = [Rule::Missing, Rule::Lost, Rule::LinkLost, Rule::FalseAnswer];
    is_caught(Mutation::NoProofCheck, world("hostile"), &rules);
}

#[test]
fn removals_that_count_whatever_the_mapping_are_caught() {
    let rules = [Rule::Missing, Rule::Lost, Rule::FalseAnswer];
    is_caught(Mutation::RemoveWithoutMapping, world("hostile"), &rules);
}

#[test]
fn gossip_that_displaces_local_users_is_caught() {
    let rules = [
        Rule::Misplaced,
        Rule::Lost,
        Rule::FalseAnswer,
        Rule::Missing,
        Rule::Ghost,
    ];
    is_caught(Mutation::GossipBeatsLocal, world("hostile"), &rules);
}

#[test]
fn altered_content_is_caught() {
    is_caught(Flaw::AlteredContent, world("hostile"), &[Rule::Altered]);
}

#[test]
fn a_hello_without_an_answer_is_caught() {
    is_caught(Flaw::SilentHello, world("all"), &[Rule::Unanswered]);
}

#[test]
fn a_request_for_the_list_without_an_answer_is_caught() {
    is_caught(Flaw::SilentList, world("all"), &[Rule::Unanswered]);
}

#[test]
fn servers_that_keep_the_version_of_the_group_secret_are_caught() {
    is_caught(Flaw::SecretVersion, world("all"), &[Rule::Disagreed]);
}

#[test]
fn a_set_of_faults_reads_and_says_which() {
    assert_eq!("loss,crash".parse::<FaultSet>().unwrap().to_string(), "loss,crash");
    assert!("rain".parse::<FaultSet>().unwrap_err().contains("partition"));
}

//! A server that was away for a week (PROTOCOL II.6).

use super::super::*;
use super::kept::{acknowledge, comes, tell_home};
use super::world::*;
use socp_proto::limits::MAILBOX_AUTHOR_COUNT_MAX;

/// How many messages wait: 100,000 with `SOCP_TEST_WAITING=100000`.
fn count() -> usize {
    let count = std::env::var("SOCP_TEST_WAITING").map(|count| count.parse().unwrap());
    count.unwrap_or(1_000)
}

const WEEK_MS: u64 = 7 * 86_400_000;

/// As many of each author as a mailbox takes of one.
fn names(letter: char) -> Vec<&'static str> {
    let pairs = count().div_ceil(MAILBOX_AUTHOR_COUNT_MAX);
    let names = (0..pairs).map(|number| &*format!("{letter}{number}").leak());
    names.collect()
}

#[test]
fn a_server_that_comes_back_after_a_week_gets_everything_within_a_minute_in_order() {
    let mut world = World::mesh(&["a", "b"]);
    let (authors, readers) = (names('u'), names('v'));
    let per_pair = count() / readers.len();
    for reader in &readers {
        let reader = comes(&mut world, reader, "b", Some((1, 0)));
        world.cut(reader.wire);
    }
    world.wait(5_000);
    world.stop("b");
    // A part of it each day.
    for day in 0..7 {
        let numbers = (0..per_pair).filter(|number| number % 7 == day);
        let numbers: Vec<usize> = numbers.collect();
        for (author, reader) in authors.iter().zip(&readers) {
            let author = comes(&mut world, author, "a", None);
            for number in &numbers {
                tell_home(&mut world, author, reader, number.to_string().as_bytes(), "b");
            }
            world.wait(1);
            world.cut(author.wire);
            world.take(author.wire);
        }
        world.wait(WEEK_MS / 7);
    }
    assert_eq!(world.node("a").shelves.outbound.len(), readers.len() * per_pair);
    // Nobody writes, and nobody is there.
    world.start(&["b"]);
    world.wait(60_000);
    assert!(world.node("a").shelves.outbound.is_empty(), "b answers for all of it");
    for reader in &readers {
        let user = comes(&mut world, reader, "b", Some((1, 0)));
        let mut shown: Vec<usize> = Vec::new();
        while shown.len() < per_pair {
            let frames = world.take(user.wire);
            let delivered = frames.iter().filter_map(|frame| match &frame.payload {
                Payload::UserDeliver(deliver) => Some(deliver),
                _ => None,
            });
            let before = shown.len();
            let mut up_to = 0;
            for deliver in delivered {
                let text = String::from_utf8(deliver.ciphertext.decode()).unwrap();
                shown.push(text.parse().unwrap());
                up_to = deliver.seq.unwrap();
            }
            assert!(shown.len() > before, "{reader} gets no more after {before}");
            acknowledge(&mut world, user, up_to);
        }
        let mut in_order: Vec<usize> = (0..per_pair).collect();
        in_order.sort_by_key(|number| (number % 7, *number));
        assert_eq!(shown, in_order, "{reader}");
        world.cut(user.wire);
    }
}

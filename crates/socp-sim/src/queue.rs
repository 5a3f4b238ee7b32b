//! The virtual clock: what happens when, in one order for all.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Virtual time, ms since the world began.
pub(crate) type Time = u64;

/// Everything that will happen, earliest first; of two things at the same time the one planned first.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    heap: BinaryHeap<Entry<E>>,
    planned: u64,
    now: Time,
}

#[derive(Debug)]
struct Entry<E> {
    at: Time,
    number: u64,
    event: E,
}

impl<E> Queue<E> {
    pub(crate) fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            planned: 0,
            now: 0,
        }
    }

    /// What the virtual clock shows.
    pub(crate) fn now(&self) -> Time {
        self.now
    }

    /// Plans something; what should have happened already happens next.
    pub(crate) fn at(&mut self, at: Time, event: E) {
        self.planned += 1;
        let entry = Entry {
            at: at.max(self.now),
            number: self.planned,
            event,
        };
        self.heap.push(entry);
    }

    pub(crate) fn after(&mut self, ms: u64, event: E) {
        self.at(self.now + ms, event);
    }

    /// The next event; the clock moves on to it.
    pub(crate) fn next(&mut self) -> Option<E> {
        let entry = self.heap.pop()?;
        self.now = entry.at;
        Some(entry.event)
    }
}

impl<E> Entry<E> {
    fn rank(&self) -> (Time, u64) {
        (self.at, self.number)
    }
}

// The heap gives the greatest first, so the earlier is the greater.
impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.rank().cmp(&self.rank())
    }
}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl<E> Eq for Entry<E> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_first_then_as_planned() {
        let mut queue = Queue::new();
        queue.at(5, 'b');
        queue.at(3, 'a');
        queue.at(5, 'c');
        assert_eq!(queue.next(), Some('a'));
        queue.at(1, 'x');
        assert_eq!(
            [queue.next(), queue.next(), queue.next()],
            [Some('x'), Some('b'), Some('c')]
        );
        assert_eq!(queue.now(), 5);
    }
}

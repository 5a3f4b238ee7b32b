//! Frames of one link that are being verified, in the order in which they came.

use super::Checked;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Frames of one link that may be verified at the same time.
const IN_VERIFICATION_MAX: usize = 32;

/// The line between a link's reader and who hands to the hub what it read; one task each. While nothing waits it takes
/// no memory, and whoever reads may hand over by itself.
#[derive(Default)]
pub(super) struct InOrder {
    line: Mutex<Line>,
    has_more: Notify,
    has_room: Notify,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Checked>,
    /// The one that was taken last is still on its way.
    is_busy: bool,
    is_ended: bool,
}

impl InOrder {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether everything has been handed over.
    pub(super) fn is_idle(&self) -> bool {
        let line = self.line();
        !line.is_busy && line.waiting.is_empty()
    }

    /// Puts something in line once there is room.
    pub(super) async fn put(&self, checked: Checked) {
        while self.line().waiting.len() >= IN_VERIFICATION_MAX {
            self.has_room.notified().await;
        }
        self.line().waiting.push_back(checked);
        self.has_more.notify_one();
    }

    /// Nothing more comes.
    pub(super) fn end(&self) {
        self.line().is_ended = true;
        self.has_more.notify_one();
    }

    /// The next in line, when the one before has been handed over; nothing after the end.
    pub(super) async fn next(&self) -> Option<Checked> {
        loop {
            if let Some(next) = self.try_next() {
                return next;
            }
            self.has_more.notified().await;
        }
    }

    fn try_next(&self) -> Option<Option<Checked>> {
        let mut line = self.line();
        let next = line.waiting.pop_front();
        line.is_busy = next.is_some();
        if line.waiting.is_empty() {
            line.waiting = VecDeque::new();
        }
        if next.is_none() && !line.is_ended {
            return None;
        }
        drop(line);
        self.has_room.notify_one();
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use socp_core::server::{Input, LinkId};

    fn alive(number: u64) -> Checked {
        Checked::now(Input::Alive { link: LinkId(number) })
    }

    fn number_of(checked: Option<Checked>) -> Option<u64> {
        match checked {
            Some(Checked::Now(input)) => {
                let Input::Alive { link } = *input else {
                    panic!("{input:?}");
                };
                Some(link.0)
            }
            Some(Checked::Later(_)) => panic!("nothing is verified here"),
            None => None,
        }
    }

    #[tokio::test]
    async fn a_line_keeps_its_order_and_its_bound_and_nothing_when_it_is_empty() {
        let in_order = InOrder::default();
        assert!(in_order.is_idle());
        for number in 0..32 {
            in_order.put(alive(number)).await;
        }
        assert!(in_order.put(alive(32)).now_or_never().is_none());
        assert_eq!(number_of(in_order.next().await), Some(0));
        in_order.put(alive(32)).await;
        for number in 1..=32 {
            assert_eq!(number_of(in_order.next().await), Some(number));
            assert!(!in_order.is_idle(), "the last one is not handed over yet");
        }
        assert!(in_order.next().now_or_never().is_none());
        assert!(in_order.is_idle());
        assert_eq!(in_order.line().waiting.capacity(), 0);
        in_order.put(alive(33)).await;
        in_order.end();
        assert_eq!(number_of(in_order.next().await), Some(33));
        assert_eq!(number_of(in_order.next().await), None);
    }
}

//! Connections that have not finished a hello, counted per address and in all (PROTOCOL I.11).

use crate::pool::{Class, Line};
use socp_proto::limits::{PENDING_COUNT_MAX, PENDING_PER_ADDRESS_COUNT_MAX};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// The counts.
#[derive(Debug, Default, Clone)]
pub(crate) struct PendingCounts(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    // Never iterated.
    by_address: HashMap<IpAddr, OfAddress>,
}

/// What one address has.
#[derive(Debug)]
struct OfAddress {
    count: usize,
    /// What all its strangers together have the pool do.
    line: Arc<Line>,
    /// The same for their logins.
    logins: Arc<Line>,
}

impl OfAddress {
    fn new() -> Self {
        Self {
            count: 0,
            line: Line::of(Class::Stranger),
            logins: Line::of(Class::Login),
        }
    }
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub(crate) struct PendingPlace {
    counts: PendingCounts,
    address: IpAddr,
    line: Arc<Line>,
    logins: Arc<Line>,
}

impl PendingCounts {
    /// A place for a connection from this address, if there is one.
    pub(crate) fn enter(&self, address: IpAddr) -> Option<PendingPlace> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.total >= PENDING_COUNT_MAX {
            return None;
        }
        let of_address = counts.by_address.entry(address).or_insert_with(OfAddress::new);
        if of_address.count >= PENDING_PER_ADDRESS_COUNT_MAX {
            return None;
        }
        of_address.count = of_address.count.saturating_add(1);
        let (line, logins) = (Arc::clone(&of_address.line), Arc::clone(&of_address.logins));
        counts.total = counts.total.saturating_add(1);
        drop(counts);
        Some(PendingPlace {
            counts: self.clone(),
            address,
            line,
            logins,
        })
    }
}

impl PendingPlace {
    /// Where its jobs wait for the pool, with those of every stranger from there.
    pub(crate) fn line(&self) -> Arc<Line> {
        Arc::clone(&self.line)
    }

    /// Where its logins wait, with those of everybody from there.
    pub(crate) fn logins(&self) -> Arc<Line> {
        Arc::clone(&self.logins)
    }

    /// From where it is.
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }
}

impl Drop for PendingPlace {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total = counts.total.saturating_sub(1);
        // It is there as long as it has places.
        let Some(of_address) = counts.by_address.get_mut(&self.address) else {
            return;
        };
        of_address.count = of_address.count.saturating_sub(1);
        if of_address.count == 0 {
            counts.by_address.remove(&self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_every_place_and_gives_its_places_back() {
        let counts = PendingCounts::default();
        let (one, other) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let places: Vec<_> = (0..PENDING_PER_ADDRESS_COUNT_MAX)
            .map(|_| counts.enter(one).unwrap())
            .collect();
        assert!(counts.enter(one).is_none());
        let elsewhere = counts.enter(other).unwrap();
        assert!(places.iter().all(|place| Arc::ptr_eq(&place.line(), &places[0].line())));
        assert!(!Arc::ptr_eq(&elsewhere.line(), &places[0].line()));
        drop(elsewhere);
        drop(places);
        assert!(counts.enter(one).is_some());
        assert!(counts.0.lock().unwrap().by_address.is_empty());
    }
}

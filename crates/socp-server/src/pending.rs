//! Connections that have not finished a hello, counted per address and in all (PROTOCOL I.11).

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
    by_address: HashMap<IpAddr, usize>,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub(crate) struct PendingPlace {
    counts: PendingCounts,
    address: IpAddr,
}

impl PendingCounts {
    /// A place for a connection from this address, if there is one.
    pub(crate) fn enter(&self, address: IpAddr) -> Option<PendingPlace> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = counts.by_address.get(&address).copied().unwrap_or(0);
        if counts.total >= PENDING_COUNT_MAX || of_address >= PENDING_PER_ADDRESS_COUNT_MAX {
            return None;
        }
        counts.total = counts.total.saturating_add(1);
        counts.by_address.insert(address, of_address.saturating_add(1));
        drop(counts);
        Some(PendingPlace {
            counts: self.clone(),
            address,
        })
    }
}

impl Drop for PendingPlace {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total = counts.total.saturating_sub(1);
        let left = counts
            .by_address
            .get(&self.address)
            .copied()
            .unwrap_or(0)
            .saturating_sub(1);
        match left {
            0 => counts.by_address.remove(&self.address),
            left => counts.by_address.insert(self.address, left),
        };
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
        assert!(counts.enter(other).is_some());
        drop(places);
        assert!(counts.enter(one).is_some());
        assert!(counts.0.lock().unwrap().by_address.is_empty());
    }
}

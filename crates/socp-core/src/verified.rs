//! Proof, in the type, that a signature was checked.

use socp_proto::Fingerprint;

/// A value whose signature the driver has checked, with the fingerprint of the key that checked it.
///
/// Which key *ought* to have signed is the core's decision: it compares [`Verified::by`] with what it has pinned, so a
/// driver that verified with a key since replaced does no harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T> {
    value: T,
    by: Fingerprint,
}

impl<T> Verified<T> {
    /// States that the signature on `value` was checked against the key with this fingerprint. For drivers only.
    pub fn checked(value: T, by: Fingerprint) -> Self {
        Self { value, by }
    }

    /// The key that checked it.
    pub fn by(&self) -> Fingerprint {
        self.by
    }

    /// The value.
    pub fn get(&self) -> &T {
        &self.value
    }

    /// The value, taken out.
    pub fn into_inner(self) -> T {
        self.value
    }
}

//! A clock reading, which is all that a core knows of time.

/// Milliseconds of a clock that never goes back; only differences mean anything.
pub type Mono = u64;

/// Milliseconds since the Unix epoch, as the machine believes; may jump.
pub type Unix = u64;

/// One reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For waiting and for ages.
    pub mono: Mono,
    /// For `ts` fields.
    pub unix: Unix,
}

//! Time of a stream: timestamps and watermarks, epochs, idleness.

use std::fmt;

/// Event or processing time in milliseconds since the epoch (a wall clock counts as UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Before everything: no watermark yet.
    pub const MIN: Timestamp = Timestamp(i64::MIN);
    /// The watermark at the end of the input.
    pub const MAX: Timestamp = Timestamp(i64::MAX);
}

/// Number of a checkpoint, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether an input may still hold the watermark back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Rows may come.
    Active,
    /// Nothing came for the idle timeout; ignored in the watermark minimum.
    Idle,
}

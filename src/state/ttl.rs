//! When keys were last written, for `table.exec.state.ttl`.
//!
//! Operators read no clock: the time comes with their timers, which are called before batches. A key may live up to an
//! eighth of the TTL longer than it has to.

use crate::stream::Timestamp;

/// Last writes of slots.
#[derive(Debug)]
pub struct TimeToLive {
    ttl: i64,
    now: i64,
    sweep: i64,
    /// By slot.
    written: Vec<i64>,
}

impl TimeToLive {
    /// For keys that live `ttl_ms` after their last write; `None` or nothing positive: for ever.
    pub fn new(ttl_ms: Option<i64>) -> Option<Self> {
        let ttl = ttl_ms.filter(|ttl| *ttl > 0)?;
        Some(TimeToLive { ttl, now: i64::MIN, sweep: i64::MIN, written: Vec::new() })
    }

    /// A slot has been written.
    #[inline]
    pub fn touch(&mut self, slot: u32) {
        self.set(slot, self.now);
    }

    /// When a slot was last written.
    pub fn written(&self, slot: u32) -> i64 {
        self.written.get(slot as usize).copied().unwrap_or(self.now)
    }

    /// Restores what [`TimeToLive::written`] gave.
    #[inline]
    pub fn set(&mut self, slot: u32, at: i64) {
        let slot = slot as usize;
        if slot >= self.written.len() {
            self.written.resize(slot + 1, self.now);
        }
        self.written[slot] = at;
    }

    /// When to call [`TimeToLive::expired`].
    pub fn next_timer(&self) -> Timestamp {
        Timestamp(self.sweep)
    }

    /// The time is `now`: those of the live slots that have outlived their time.
    pub fn expired(&mut self, now: Timestamp, live: &[u32]) -> Vec<u32> {
        if self.now == i64::MIN {
            // Nobody knows how old these are: they count as written now.
            self.written.iter_mut().filter(|w| **w == i64::MIN).for_each(|w| *w = now.0);
        }
        self.now = now.0;
        self.sweep = now.0 + (self.ttl / 8).max(1);
        let oldest = now.0 - self.ttl;
        live.iter().copied().filter(|s| self.written.get(*s as usize).is_some_and(|w| *w <= oldest)).collect()
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        self.written.capacity() * 8
    }
}

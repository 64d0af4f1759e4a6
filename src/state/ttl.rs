//! When keys were last written, for `table.exec.state.ttl`.
//!
//! Operators read no clock: the time comes with their timers, which are called before the batches that arrive after
//! them. The clock so moves in steps, and what is written while it stands was written at the end of the step at the
//! latest. That is its stamp: no state goes before its TTL is over, and none stays longer than a step beyond it.
//!
//! ```text
//!  step   │     n     │    n+1    │ …            stamp = end of step n
//!         ▲ timer  ▲ written                     gone at the first timer from stamp + TTL on
//! ```

use crate::stream::Timestamp;

/// The longest step of a clock, in milliseconds.
const LONGEST_STEP: i64 = 60_000;

/// A clock that moves in steps of a twentieth of the TTL.
#[derive(Debug, Clone, Copy)]
pub struct StepClock {
    ttl: i64,
    step: i64,
    /// End of the current step; `None` before the first timer.
    stamp: Option<i64>,
}

impl StepClock {
    /// For state that lives at least `ttl_ms` milliseconds after its last write.
    pub fn new(ttl_ms: i64) -> Self {
        let ttl = ttl_ms.max(1);
        // A whole number of steps makes the TTL, but for a few milliseconds: else it would end within one.
        let steps = ttl / (ttl / 20).clamp(1, LONGEST_STEP);
        StepClock { ttl, step: (ttl - 1) / steps + 1, stamp: None }
    }

    /// Milliseconds that state lives.
    pub fn ttl(&self) -> i64 {
        self.ttl
    }

    /// Milliseconds of a step.
    pub fn step(&self) -> i64 {
        self.step
    }

    /// The time at the latest of what is written now; `None` while no timer has told the time.
    #[inline]
    pub fn stamp(&self) -> Option<i64> {
        self.stamp
    }

    /// The time is `now`. It does not go back.
    pub fn advance(&mut self, now: Timestamp) {
        let stamp = now.0.div_euclid(self.step).saturating_mul(self.step).saturating_add(self.step - 1);
        self.stamp = self.stamp.max(Some(stamp));
    }

    /// When the clock moves next; at once as long as it was never set.
    pub fn next_timer(&self) -> Timestamp {
        Timestamp(self.stamp.map_or(i64::MIN, |stamp| stamp.saturating_add(1)))
    }

    /// Whether the time of state with this stamp is over.
    #[inline]
    pub fn is_over(&self, stamp: i64, now: Timestamp) -> bool {
        stamp.saturating_add(self.ttl) <= now.0
    }
}

/// Last writes of slots.
#[derive(Debug)]
pub struct TimeToLive {
    clock: StepClock,
    /// No slot is due before.
    due: i64,
    /// By slot: the stamp of its last write; [`i64::MIN`] while no timer has told the time.
    written: Vec<i64>,
}

impl TimeToLive {
    /// For keys that live `ttl_ms` after their last write; `None` or nothing positive: for ever.
    pub fn new(ttl_ms: Option<i64>) -> Option<Self> {
        let ttl = ttl_ms.filter(|ttl| *ttl > 0)?;
        Some(TimeToLive { clock: StepClock::new(ttl), due: i64::MIN, written: Vec::new() })
    }

    /// A slot has been written.
    #[inline]
    pub fn touch(&mut self, slot: u32) {
        self.set(slot, self.clock.stamp().unwrap_or(i64::MIN));
    }

    /// When a slot was last written, at the latest.
    pub fn written(&self, slot: u32) -> i64 {
        self.written.get(slot as usize).copied().or(self.clock.stamp()).unwrap_or(i64::MIN)
    }

    /// Restores what [`TimeToLive::written`] gave.
    #[inline]
    pub fn set(&mut self, slot: u32, at: i64) {
        let slot = slot as usize;
        if slot >= self.written.len() {
            self.written.resize(slot + 1, i64::MIN);
        }
        self.written[slot] = at;
    }

    /// When to call [`TimeToLive::expired`].
    pub fn next_timer(&self) -> Timestamp {
        self.clock.next_timer()
    }

    /// The time is `now`: those of the live slots that have outlived their time. `live` is asked only if some may have.
    pub fn expired(&mut self, now: Timestamp, live: impl FnOnce() -> Vec<u32>) -> Vec<u32> {
        self.clock.advance(now);
        if now.0 < self.due {
            return Vec::new();
        }
        let stamp = self.clock.stamp().unwrap_or(now.0);
        let (mut gone, mut oldest) = (Vec::new(), stamp);
        for slot in live() {
            let slot_at = slot as usize;
            if slot_at >= self.written.len() {
                // Restored without a time.
                self.written.resize(slot_at + 1, i64::MIN);
            }
            let Some(written) = self.written.get_mut(slot_at) else { continue };
            if *written == i64::MIN {
                // Nobody knows how old it is: it counts as written now.
                *written = stamp;
            }
            if self.clock.is_over(*written, now) {
                gone.push(slot);
            } else {
                oldest = oldest.min(*written);
            }
        }
        self.due = oldest.saturating_add(self.clock.ttl());
        gone
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        self.written.capacity() * 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes slot 0 at each millisecond of a while; the clock is told the time by its timers alone, as in a job.
    #[test]
    fn never_early_and_at_most_a_step_late() {
        for ttl in [1, 2, 7, 19, 20, 21, 100, 999, 1000, 1234] {
            for begun in [0, 3, 17, 500, 12_345] {
                for wait in 0..ttl.min(60) {
                    let mut t = TimeToLive::new(Some(ttl)).unwrap();
                    let step = t.clock.step();
                    let timers = |t: &mut TimeToLive, until: i64, written: Option<i64>| {
                        while t.next_timer().0 <= until {
                            let now = t.next_timer().0.max(begun);
                            let gone = t.expired(Timestamp(now), || vec![0]);
                            if let Some(written) = written
                                && !gone.is_empty()
                            {
                                return Some(now - written);
                            }
                        }
                        None
                    };
                    let written = begun + wait;
                    timers(&mut t, written, None);
                    t.touch(0);
                    let lived = timers(&mut t, written + 10 * ttl + 100, Some(written)).unwrap();
                    let latest = ttl + step + ttl.min(20);
                    assert!((ttl..=latest).contains(&lived), "ttl {ttl}, step {step}: lived {lived}");
                }
            }
        }
    }

    #[test]
    fn restored_stamps_and_unknown_times() {
        let mut t = TimeToLive::new(Some(1000)).unwrap();
        // Written before anybody knows the time: it counts from the first timer on.
        t.touch(0);
        t.set(1, 4_999);
        assert_eq!(t.written(0), i64::MIN);
        assert_eq!(t.expired(Timestamp(5_000), || vec![0, 1]), Vec::<u32>::new());
        assert_eq!(t.expired(Timestamp(5_998), || vec![0, 1]), Vec::<u32>::new());
        assert_eq!(t.expired(Timestamp(5_999), || vec![0, 1]), vec![1]);
        assert_eq!(t.expired(Timestamp(6_048), || vec![0]), Vec::<u32>::new());
        assert_eq!(t.expired(Timestamp(6_049), || vec![0]), vec![0]);
        assert!(TimeToLive::new(Some(0)).is_none());
    }
}

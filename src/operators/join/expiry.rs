//! When the rows of a side were last written, for its TTL: a clock in ticks, and the rows of every tick.

use std::collections::VecDeque;

use crate::state::ttl::StepClock;

/// Rows that are forgotten when they were not written for some time.
pub(super) struct Expiry {
    ttl_ms: i64,
    tick_ms: i64,
    /// Current tick.
    now: i64,
    /// By id: tick of the last write, cut to 32 bits.
    touched: Vec<u32>,
    /// Ids by tick.
    ticks: VecDeque<(i64, Vec<u32>)>,
    /// By id: tag in the identity index.
    tags: Vec<u32>,
}

impl Expiry {
    pub(super) fn new(ttl_ms: i64) -> Self {
        let tick_ms = StepClock::new(ttl_ms).step();
        Expiry { ttl_ms, tick_ms, now: 0, touched: Vec::new(), ticks: VecDeque::new(), tags: Vec::new() }
    }

    /// How long a row lives.
    pub(super) fn ttl_ms(&self) -> i64 {
        self.ttl_ms
    }

    /// Row `id` was written.
    #[inline]
    pub(super) fn touch(&mut self, id: u32) {
        let at = id as usize;
        if at >= self.touched.len() {
            self.touched.resize(at + 1, 0);
        }
        self.touched[at] = self.now as u32;
        match self.ticks.back_mut() {
            Some((tick, ids)) if *tick == self.now => ids.push(id),
            _ => self.ticks.push_back((self.now, vec![id])),
        }
    }

    /// Row `id`, one of `capacity`, has this tag in the identity index.
    #[inline]
    pub(super) fn set_tag(&mut self, id: u32, tag: u32, capacity: usize) {
        self.tags.resize(capacity.max(self.tags.len()), 0);
        self.tags[id as usize] = tag;
    }

    /// The tag of row `id`; 0 where rows have none.
    pub(super) fn tag(&self, id: u32) -> u32 {
        self.tags.get(id as usize).copied().unwrap_or(0)
    }

    /// Sets the clock, forwards or back, for rows that are restored.
    #[inline]
    pub(super) fn restart(&mut self, now_ms: i64) {
        self.now = now_ms / self.tick_ms;
    }

    /// Takes over the time of another clock.
    pub(super) fn set_clock(&mut self, other: &Expiry) {
        self.now = other.now;
    }

    /// After the whole restore: ticks in order.
    pub(super) fn finish_restore(&mut self) {
        self.ticks.make_contiguous().sort_by_key(|(tick, _)| *tick);
        self.now = self.ticks.back().map_or(0, |(tick, _)| *tick);
    }

    /// Milliseconds of the last write of rows, at the latest: the end of its tick.
    pub(super) fn touched(&self, ids: &[u32]) -> Vec<i64> {
        ids.iter()
            .map(|id| {
                // The upper bits are those of now, unless the lower ones have wrapped since.
                let age = (self.now as u32).wrapping_sub(self.touched[*id as usize]);
                (self.now - i64::from(age) + 1) * self.tick_ms - 1
            })
            .collect()
    }

    /// Whether row `id` was last written in this tick.
    pub(super) fn was_touched(&self, id: u32, tick: i64) -> bool {
        self.touched[id as usize] == tick as u32
    }

    /// Advances the clock; gives the ticks whose time is over, with the rows written in them.
    pub(super) fn due(&mut self, now_ms: i64) -> Vec<(i64, Vec<u32>)> {
        self.now = self.now.max(now_ms / self.tick_ms);
        let mut due = Vec::new();
        while let Some((tick, _)) = self.ticks.front() {
            // Its rows may have been written at the end of it.
            if (tick + 1) * self.tick_ms - 1 + self.ttl_ms > now_ms {
                break;
            }
            if let Some(front) = self.ticks.pop_front() {
                due.push(front);
            }
        }
        due
    }

    /// When the clock has to be advanced next; at once as long as it was never set.
    pub(super) fn next_tick(&self) -> i64 {
        if self.now == 0 { i64::MIN } else { (self.now + 1) * self.tick_ms }
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        (self.touched.capacity() + self.tags.capacity()) * 4
            + self.ticks.iter().map(|(_, ids)| ids.capacity() * 4).sum::<usize>()
    }
}

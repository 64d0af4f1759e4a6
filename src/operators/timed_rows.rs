//! Rows by key and time, and when they go: one side of a join over time.
//!
//! ```text
//!  slot of the key ─► last ⇄ row ⇄ row ⇄ first         in the order of their times, equal ones of their arrival
//!  expiry ─► bucket of times ─► rows
//! ```

use std::collections::BTreeMap;

use arrow::datatypes::DataType;

use crate::error::Result;
use crate::operators::join::rows::{NO_ROW, RowStore};

/// When rows go by themselves.
struct Expiry {
    /// Milliseconds from the time of a row to the time at which it goes.
    keep: i64,
    /// Width of a bucket in ms: one that is reached in its midst is gone through again.
    width: i64,
    /// Rows by the bucket of the time at which they go.
    buckets: BTreeMap<i64, Vec<u32>>,
}

/// Rows by key and time; see the module.
pub(in crate::operators) struct TimedRows {
    pub(in crate::operators) store: RowStore,
    /// By id: row time in ms.
    pub(in crate::operators) times: Vec<i64>,
    /// By id.
    pub(in crate::operators) slots: Vec<u32>,
    /// By id: the next earlier row of the key.
    pub(in crate::operators) before: Vec<u32>,
    /// By id: the next later one.
    after: Vec<u32>,
    /// By id, whether it has had a match; where rows without one come out.
    pub(in crate::operators) matched: Option<Vec<bool>>,
    /// By slot: the latest row.
    pub(in crate::operators) last: Vec<u32>,
    expiry: Option<Expiry>,
}

impl TimedRows {
    /// For rows of these types that go `(keep, width)` ms after their times, found in buckets of that width; or only when
    /// they are removed.
    pub(in crate::operators) fn new(types: Vec<DataType>, expiry: Option<(i64, i64)>, tracks: bool) -> Self {
        let expiry =
            expiry.map(|(keep, width)| Expiry { keep, width: width.max(1), buckets: BTreeMap::new() });
        TimedRows {
            store: RowStore::new(types),
            times: Vec::new(),
            slots: Vec::new(),
            before: Vec::new(),
            after: Vec::new(),
            matched: tracks.then(Vec::new),
            last: Vec::new(),
            expiry,
        }
    }

    /// Makes room for slots.
    pub(in crate::operators) fn grow_slots(&mut self, slots: usize) {
        if slots > self.last.len() {
            self.last.resize(slots, NO_ROW);
        }
    }

    /// Whether a row of `time` goes with the watermark, or has gone.
    pub(in crate::operators) fn is_expired(&self, time: i64, watermark: i64) -> bool {
        self.expiry.as_ref().is_some_and(|e| time.saturating_add(e.keep) <= watermark)
    }

    /// The latest row of a key up to `time`.
    pub(in crate::operators) fn latest(&self, slot: u32, time: i64) -> u32 {
        let mut at = self.last[slot as usize];
        while at != NO_ROW && self.times[at as usize] > time {
            at = self.before[at as usize];
        }
        at
    }

    /// Adds row `row` of the batch that `append_pending` of the store will be called with.
    pub(in crate::operators) fn add(&mut self, row: u32, slot: u32, time: i64, matched: bool) -> Result<u32> {
        let id = self.store.add(row)?;
        let capacity = self.store.capacity();
        if capacity > self.times.len() {
            self.times.resize(capacity, 0);
            self.slots.resize(capacity, 0);
            self.before.resize(capacity, NO_ROW);
            self.after.resize(capacity, NO_ROW);
            if let Some(matched) = &mut self.matched {
                matched.resize(capacity, false);
            }
        }
        // Rows mostly come in order.
        let (mut later, mut at) = (NO_ROW, self.last[slot as usize]);
        while at != NO_ROW && self.times[at as usize] > time {
            (later, at) = (at, self.before[at as usize]);
        }
        self.times[id as usize] = time;
        self.slots[id as usize] = slot;
        self.before[id as usize] = at;
        self.after[id as usize] = later;
        if at != NO_ROW {
            self.after[at as usize] = id;
        }
        match later {
            NO_ROW => self.last[slot as usize] = id,
            later => self.before[later as usize] = id,
        }
        if let Some(all) = &mut self.matched {
            all[id as usize] = matched;
        }
        if let Some(Expiry { keep, width, buckets }) = &mut self.expiry {
            let bucket = time.saturating_add(*keep).div_euclid(*width);
            buckets.entry(bucket).or_default().push(id);
        }
        Ok(id)
    }

    /// Up to `most` rows that go with a watermark; none if all that do are gone. They stay until [`Side::remove`].
    pub(in crate::operators) fn take_due(&mut self, watermark: i64, most: usize) -> Vec<u32> {
        let (mut due, mut left) = (Vec::new(), Vec::new());
        let Some(Expiry { keep, width, buckets }) = &mut self.expiry else { return due };
        while due.len() < most
            && let Some(bucket) = buckets.first_entry()
        {
            let begin = bucket.key().saturating_mul(*width);
            if begin > watermark {
                break;
            }
            let (number, mut ids) = bucket.remove_entry();
            if begin.saturating_add(*width - 1) <= watermark {
                // From its end, so that a large one is not moved again and again.
                let rest = ids.len().saturating_sub(most - due.len());
                due.extend(ids.drain(rest..));
                left = ids;
            } else {
                for id in ids {
                    let goes = self.times[id as usize].saturating_add(*keep) <= watermark;
                    if goes && due.len() < most { due.push(id) } else { left.push(id) }
                }
            }
            if !left.is_empty() {
                buckets.insert(number, left);
                break;
            }
        }
        due
    }

    /// Removes a row; true if it was the last one of its key.
    pub(in crate::operators) fn remove(&mut self, id: u32) -> bool {
        let (before, after) = (self.before[id as usize], self.after[id as usize]);
        if before != NO_ROW {
            self.after[before as usize] = after;
        }
        let slot = self.slots[id as usize] as usize;
        match after {
            NO_ROW => self.last[slot] = before,
            after => self.before[after as usize] = before,
        }
        self.store.remove(id);
        self.last[slot] == NO_ROW
    }

    /// All rows, key by key, the earliest of each first.
    pub(in crate::operators) fn ids(&self) -> Vec<u32> {
        let mut ids = Vec::with_capacity(self.store.len());
        for last in self.last.iter().filter(|last| **last != NO_ROW) {
            let (from, mut at) = (ids.len(), *last);
            while at != NO_ROW {
                ids.push(at);
                at = self.before[at as usize];
            }
            ids[from..].reverse();
        }
        ids
    }

    /// Bytes held.
    pub(in crate::operators) fn size(&self) -> usize {
        let by_id = self.times.capacity() * 8
            + (self.slots.capacity() + self.before.capacity() + self.after.capacity()) * 4
            + self.matched.as_ref().map_or(0, Vec::capacity);
        self.store.size() + by_id + self.last.capacity() * 4 + self.store.len() * 4
    }
}

//! Rows of one side by key and time, and when they go.
//!
//! ```text
//!  slot of the key ─► last ⇄ row ⇄ row ⇄ first         in the order of their times, as far as they wait
//!  expiry ─► bucket of times ─► rows
//! ```

use std::collections::BTreeMap;

use arrow::datatypes::DataType;

use crate::error::Result;
use crate::operators::join::rows::{NO_ROW, RowStore};

/// Buckets that the rows of a side are divided among, about: one that is reached in its midst is gone through again.
const BUCKETS: i64 = 256;

/// One side.
pub(super) struct Side {
    pub(super) store: RowStore,
    /// By id: row time in ms.
    pub(super) times: Vec<i64>,
    /// By id.
    pub(super) slots: Vec<u32>,
    /// By id: the next earlier row of the key.
    pub(super) before: Vec<u32>,
    /// By id: the next later one.
    after: Vec<u32>,
    /// By id, whether it has had a match; where rows without one come out.
    pub(super) matched: Option<Vec<bool>>,
    /// By slot: the latest row.
    pub(super) last: Vec<u32>,
    /// Milliseconds from the time of a row to the last time that it can meet on the other side.
    keep: i64,
    /// Width of a bucket in ms.
    width: i64,
    /// Rows by the bucket of the time at which they go.
    expiry: BTreeMap<i64, Vec<u32>>,
}

impl Side {
    /// For rows of these types that meet others up to `keep` ms later, of a range of `range` ms.
    pub(super) fn new(types: Vec<DataType>, keep: i64, range: i64, tracks: bool) -> Self {
        Side {
            store: RowStore::new(types),
            times: Vec::new(),
            slots: Vec::new(),
            before: Vec::new(),
            after: Vec::new(),
            matched: tracks.then(Vec::new),
            last: Vec::new(),
            keep,
            width: (range / BUCKETS).max(1),
            expiry: BTreeMap::new(),
        }
    }

    /// Makes room for slots.
    pub(super) fn grow_slots(&mut self, slots: usize) {
        if slots > self.last.len() {
            self.last.resize(slots, NO_ROW);
        }
    }

    /// Whether nothing that is still to come can meet a row of `time`.
    pub(super) fn is_expired(&self, time: i64, watermark: i64) -> bool {
        time.saturating_add(self.keep) <= watermark
    }

    /// Adds row `row` of the batch that `append_pending` of the store will be called with.
    pub(super) fn add(&mut self, row: u32, slot: u32, time: i64, matched: bool) -> Result<u32> {
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
        let bucket = time.saturating_add(self.keep).div_euclid(self.width);
        self.expiry.entry(bucket).or_default().push(id);
        Ok(id)
    }

    /// Up to `most` rows that go with a watermark; none if all that do are gone. They stay until [`Side::remove`].
    pub(super) fn take_due(&mut self, watermark: i64, most: usize) -> Vec<u32> {
        let (mut due, mut left) = (Vec::new(), Vec::new());
        while due.len() < most
            && let Some(bucket) = self.expiry.first_entry()
        {
            let begin = bucket.key().saturating_mul(self.width);
            if begin > watermark {
                break;
            }
            let is_whole = begin.saturating_add(self.width - 1) <= watermark;
            let (number, ids) = bucket.remove_entry();
            for id in ids {
                let goes = is_whole || self.times[id as usize].saturating_add(self.keep) <= watermark;
                if goes && due.len() < most { due.push(id) } else { left.push(id) }
            }
            if !left.is_empty() {
                self.expiry.insert(number, left);
                break;
            }
        }
        due
    }

    /// Removes a row; true if it was the last one of its key.
    pub(super) fn remove(&mut self, id: u32) -> bool {
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

    /// Rows in the order of their ids.
    pub(super) fn ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = self.expiry.values().flatten().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        let by_id = self.times.capacity() * 8
            + (self.slots.capacity() + self.before.capacity() + self.after.capacity()) * 4
            + self.matched.as_ref().map_or(0, Vec::capacity);
        self.store.size() + by_id + self.last.capacity() * 4 + self.store.len() * 4
    }
}

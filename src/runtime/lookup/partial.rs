//! `lookup.cache` = `PARTIAL`: the rows of the keys that were asked for last.
//!
//! | state | when it goes |
//! |---|---|
//! | key → where its rows are, when they came and were used | the least recently used key beyond `max-rows`; after `expire-after-write`, `expire-after-access` |
//! | answers, as batches | when no key is left in them; gathered anew when most of their rows are of no use |

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::DataType;
use async_trait::async_trait;
use tokio::time::Instant;

use crate::edges::lookup::{Found, LookupBatch, LookupRows, LookupSource, PartialCacheOptions};
use crate::error::Result;
use crate::state::GroupDirectory;
use crate::state::directory::NO_SLOT;
use crate::stream::BATCH_ROWS;

/// Keeps what was looked up.
pub struct PartialCache {
    inner: Arc<dyn LookupSource>,
    options: PartialCacheOptions,
    kept: Mutex<Kept>,
}

impl std::fmt::Debug for PartialCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartialCache").field("options", &self.options).finish_non_exhaustive()
    }
}

/// No entry.
const NONE: u32 = u32::MAX;

/// The rows of one key, in a list by the time of use.
#[derive(Debug, Clone, Copy)]
struct Entry {
    found: Found,
    written: Instant,
    read: Instant,
    /// The key used after it, and the one before.
    newer: u32,
    older: u32,
}

struct Kept {
    keys: GroupDirectory,
    /// By slot.
    entries: Vec<Option<Entry>>,
    newest: u32,
    oldest: u32,
    /// Answers, with the number of keys that have rows in them.
    batches: Vec<Option<(LookupBatch, usize)>>,
    free: Vec<u32>,
    /// Rows of the answers, and those among them that belong to a key.
    held_rows: usize,
    live_rows: usize,
    swept: Instant,
}

impl PartialCache {
    /// Keeps rows of `inner`, whose keys have these types.
    ///
    /// # Errors
    /// Unsupported for types that cannot be keys.
    pub fn new(
        inner: Arc<dyn LookupSource>,
        key_types: &[DataType],
        options: PartialCacheOptions,
    ) -> Result<Self> {
        let kept = Kept {
            keys: GroupDirectory::new(key_types)?,
            entries: Vec::new(),
            newest: NONE,
            oldest: NONE,
            batches: Vec::new(),
            free: Vec::new(),
            held_rows: 0,
            live_rows: 0,
            swept: Instant::now(),
        };
        Ok(PartialCache { inner, options, kept: Mutex::new(kept) })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of keys.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.kept().keys.len()
    }
}

#[async_trait]
impl LookupSource for PartialCache {
    async fn lookup(&self, keys: &RecordBatch) -> Result<LookupRows> {
        let mut all = Merge::new(keys.num_rows());
        let missing = self.kept().find(keys, &self.options, &mut all)?;
        if !missing.is_empty() {
            let asked = take_record_batch(keys, &UInt32Array::from(missing.clone()))?;
            let answer = self.inner.lookup(&asked).await?;
            self.kept().keep(&asked, &answer, &self.options)?;
            all.add(&answer, &missing);
        }
        Ok(all.finish())
    }
}

impl Kept {
    /// Adds what is known to `all` and gives the positions of the other keys.
    fn find(
        &mut self,
        keys: &RecordBatch,
        options: &PartialCacheOptions,
        all: &mut Merge,
    ) -> Result<Vec<u32>> {
        let now = Instant::now();
        let mut slots = Vec::new();
        self.keys.lookup(keys.columns(), keys.num_rows(), &mut slots)?;
        let (mut missing, mut expired) = (Vec::new(), Vec::new());
        for (i, slot) in slots.into_iter().enumerate() {
            let entry = if slot == NO_SLOT { None } else { self.entries[slot as usize] };
            match entry {
                Some(entry) if !entry.is_over(now, options) => {
                    self.unlink(slot);
                    self.link(slot, Entry { read: now, ..entry });
                    let batch = self.batches.get(entry.found.batch as usize).and_then(Option::as_ref);
                    if let (true, Some((batch, _))) = (entry.found.rows > 0, batch) {
                        all.add_one(i, entry.found, batch);
                    }
                }
                Some(_) => {
                    expired.push(slot);
                    missing.push(i as u32);
                }
                None => missing.push(i as u32),
            }
        }
        self.forget(&expired);
        Ok(missing)
    }

    /// Keeps the answer for some keys.
    fn keep(&mut self, keys: &RecordBatch, answer: &LookupRows, options: &PartialCacheOptions) -> Result<()> {
        let now = Instant::now();
        let wanted: Vec<u32> = (0..keys.num_rows() as u32)
            .filter(|i| options.cache_missing_key || answer.found[*i as usize].rows > 0)
            .collect();
        // In an answer of more keys than are kept the last ones stay.
        let most = options.max_rows.unwrap_or(usize::MAX);
        let wanted = &wanted[wanted.len().saturating_sub(most)..];
        let keys = take_record_batch(keys, &UInt32Array::from(wanted.to_vec()))?;
        let mut slots = Vec::new();
        self.keys.intern(keys.columns(), keys.num_rows(), &mut slots)?;
        self.entries.resize(self.keys.capacity().max(self.entries.len()), None);
        let mut places: HashMap<u32, u32> = HashMap::new();
        for (slot, i) in slots.into_iter().zip(wanted) {
            self.drop_entry(slot);
            let mut found = answer.found[*i as usize];
            if found.rows > 0 {
                let place = match places.get(&found.batch) {
                    Some(place) => *place,
                    None => {
                        let place = self.add_batch(answer.batches[found.batch as usize].clone());
                        places.insert(found.batch, place);
                        place
                    }
                };
                found.batch = place;
                if let Some(Some((_, keys))) = self.batches.get_mut(place as usize) {
                    *keys += 1;
                }
                self.live_rows += found.rows as usize;
            }
            self.link(slot, Entry { found, written: now, read: now, newer: NONE, older: NONE });
        }
        self.make_room(now, options)?;
        Ok(())
    }

    fn add_batch(&mut self, batch: LookupBatch) -> u32 {
        self.held_rows += batch.rows.num_rows();
        match self.free.pop() {
            Some(place) => {
                self.batches[place as usize] = Some((batch, 0));
                place
            }
            None => {
                self.batches.push(Some((batch, 0)));
                self.batches.len() as u32 - 1
            }
        }
    }

    /// Forgets what is too much or too old.
    fn make_room(&mut self, now: Instant, options: &PartialCacheOptions) -> Result<()> {
        while let Some(most) = options.max_rows
            && self.keys.len() > most
            && self.oldest != NONE
        {
            self.forget(&[self.oldest]);
        }
        let shortest = [options.expire_after_write, options.expire_after_access].into_iter().flatten().min();
        if let Some(shortest) = shortest
            && now >= self.swept + (shortest / 2).max(Duration::from_millis(10))
        {
            self.swept = now;
            let over = |(slot, entry): (usize, &Option<Entry>)| {
                entry.as_ref().is_some_and(|e| e.is_over(now, options)).then_some(slot as u32)
            };
            let over: Vec<u32> = self.entries.iter().enumerate().filter_map(over).collect();
            self.forget(&over);
        }
        if self.held_rows > 2 * self.live_rows + 2 * BATCH_ROWS { self.gather() } else { Ok(()) }
    }

    fn forget(&mut self, slots: &[u32]) {
        slots.iter().for_each(|slot| self.drop_entry(*slot));
        self.keys.remove(slots);
    }

    /// Takes away the entry of a slot, if it has one.
    fn drop_entry(&mut self, slot: u32) {
        let Some(entry) = self.entries[slot as usize] else { return };
        self.unlink(slot);
        self.entries[slot as usize] = None;
        if entry.found.rows == 0 {
            return;
        }
        self.live_rows -= entry.found.rows as usize;
        let place = &mut self.batches[entry.found.batch as usize];
        if let Some((batch, keys)) = place {
            *keys -= 1;
            if *keys == 0 {
                self.held_rows -= batch.rows.num_rows();
                *place = None;
                self.free.push(entry.found.batch);
            }
        }
    }

    fn link(&mut self, slot: u32, entry: Entry) {
        let older = self.newest;
        self.entries[slot as usize] = Some(Entry { newer: NONE, older, ..entry });
        if let Some(Some(older)) = self.entries.get_mut(older as usize) {
            older.newer = slot;
        } else {
            self.oldest = slot;
        }
        self.newest = slot;
    }

    fn unlink(&mut self, slot: u32) {
        let Some(Entry { newer, older, .. }) = self.entries[slot as usize] else { return };
        match self.entries.get_mut(newer as usize) {
            Some(Some(newer)) => newer.older = older,
            _ => self.newest = older,
        }
        match self.entries.get_mut(older as usize) {
            Some(Some(older)) => older.newer = newer,
            _ => self.oldest = newer,
        }
    }

    /// Brings the rows that are of use together in new batches.
    fn gather(&mut self) -> Result<()> {
        let old = std::mem::take(&mut self.batches);
        self.free.clear();
        self.held_rows = 0;
        let mut parts: Vec<RecordBatch> = Vec::new();
        let mut of: Vec<u32> = Vec::new();
        let mut rows = 0;
        let slots: Vec<u32> = (0..self.entries.len() as u32).collect();
        for slot in slots {
            let Some(Entry { found, .. }) = self.entries[slot as usize] else { continue };
            let batch = old.get(found.batch as usize).and_then(Option::as_ref);
            if let (true, Some((batch, _))) = (found.rows > 0, batch) {
                parts.push(batch.rows.slice(found.first as usize, found.rows as usize));
                of.push(slot);
                rows += found.rows as usize;
            }
            if rows >= BATCH_ROWS {
                self.put_together(&mut parts, &mut of)?;
                rows = 0;
            }
        }
        self.put_together(&mut parts, &mut of)
    }

    fn put_together(&mut self, parts: &mut Vec<RecordBatch>, of: &mut Vec<u32>) -> Result<()> {
        let Some(schema) = parts.first().map(RecordBatch::schema) else { return Ok(()) };
        let place = self.add_batch(concat_batches(&schema, parts.iter())?.into());
        if let Some(Some((_, keys))) = self.batches.get_mut(place as usize) {
            *keys = of.len();
        }
        let mut first = 0;
        for slot in of.drain(..) {
            if let Some(entry) = &mut self.entries[slot as usize] {
                entry.found = Found { batch: place, first, rows: entry.found.rows };
                first += entry.found.rows;
            }
        }
        parts.clear();
        Ok(())
    }
}

impl Entry {
    fn is_over(&self, now: Instant, options: &PartialCacheOptions) -> bool {
        let over = |since: Instant, limit: Option<Duration>| limit.is_some_and(|limit| now >= since + limit);
        over(self.written, options.expire_after_write) || over(self.read, options.expire_after_access)
    }
}

/// Answers for parts of some keys, put together without copying rows.
pub(super) struct Merge {
    batches: Vec<LookupBatch>,
    /// Where a cached batch, by its place in the cache, is among them.
    places: HashMap<u32, u32>,
    found: Vec<Found>,
}

impl Merge {
    pub(super) fn new(keys: usize) -> Self {
        Merge { batches: Vec::new(), places: HashMap::new(), found: vec![Found::default(); keys] }
    }

    /// The rows of the keys `at`, in order. A key without rows stays as it is.
    pub(super) fn add(&mut self, answer: &LookupRows, at: &[u32]) {
        let first = self.batches.len() as u32;
        self.batches.extend(answer.batches.iter().cloned());
        for (found, at) in answer.found.iter().zip(at).filter(|(found, _)| found.rows > 0) {
            self.found[*at as usize] = Found { batch: first + found.batch, ..*found };
        }
    }

    /// The rows of one key in a batch of the cache.
    fn add_one(&mut self, at: usize, found: Found, batch: &LookupBatch) {
        let batches = &mut self.batches;
        let place = *self.places.entry(found.batch).or_insert_with(|| {
            batches.push(batch.clone());
            batches.len() as u32 - 1
        });
        self.found[at] = Found { batch: place, ..found };
    }

    pub(super) fn finish(self) -> LookupRows {
        LookupRows { batches: self.batches.into(), found: self.found }
    }
}

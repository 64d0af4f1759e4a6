//! State of one side: rows in chains by join key, and how a batch changes it.
//!
//! ```text
//!  slot of the key ─► head ─► row ⇄ row ⇄ row        rows[slot]: how many, duplicates counted
//! ```
//!
//! | layout | rows per key | a retraction finds its row by |
//! |---|---|---|
//! | append-only | chain | – |
//! | join key is unique | one | the key |
//! | unique key | chain | unique key |
//! | bag | chain of distinct rows with their number | all stored columns |
//! | count | only their number | – |

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

use super::expiry::Expiry;
use super::identity::{Groups, IdentityIndex};
use super::rows::{NO_ROW, RowStore};
use crate::error::Result;
use crate::state::NO_SLOT;
use crate::stream::BATCH_ROWS;

/// What becomes of a row of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Looks for its matches.
    Probe,
    /// A key that never matches.
    NoMatch,
    /// A retraction of a row that was never there.
    Ignore,
}

/// How rows are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    AppendOnly,
    OnePerKey,
    Unique,
    Bag,
    Count,
}

/// What a batch did to its own side, row by row.
#[derive(Default)]
pub(super) struct Applied {
    pub(super) actions: Vec<Action>,
    /// `1` where the key got its first row, `-1` where it lost its last one.
    pub(super) turns: Vec<i8>,
    /// Rows that were stored, for their degree.
    pub(super) ids: Vec<u32>,
}

/// One side.
pub(super) struct SideState {
    pub(super) layout: Layout,
    pub(super) store: RowStore,
    /// By slot: first row of the chain.
    pub(super) heads: Vec<u32>,
    /// By slot: number of rows, duplicates counted.
    pub(super) rows: Vec<u32>,
    /// By id.
    pub(super) next: Vec<u32>,
    /// By id; only where rows can go.
    prev: Vec<u32>,
    /// By id; only where rows can go.
    slots: Vec<u32>,
    /// By id, in bags: how often the row is there.
    counts: Vec<u32>,
    /// By id: number of matches, where the operator keeps them.
    pub(super) degrees: Option<Vec<u32>>,
    identity: Option<IdentityIndex>,
    pub(super) expiry: Option<Expiry>,
    removable: bool,
    /// Stored columns that are unique; layout `Unique`.
    unique: Vec<usize>,
    /// Slots that may have lost their last row.
    pub(super) idle: Vec<u32>,
    /// Keys with rows; count layout.
    pub(super) keys: usize,
    /// Rows since the last snapshot, where those before never change.
    pub(super) news: Option<News>,
}

/// Rows that no snapshot holds yet.
#[derive(Default)]
pub(super) struct News {
    /// Id of the first.
    pub(super) from: u32,
    /// Slot of each.
    pub(super) slots: Vec<u32>,
}

impl SideState {
    pub(super) fn new(
        layout: Layout,
        types: Vec<DataType>,
        unique: &[usize],
        with_degrees: bool,
        ttl_ms: Option<i64>,
    ) -> Self {
        let identity = match layout {
            Layout::Unique => Some(IdentityIndex::new(unique.to_vec())),
            Layout::Bag => Some(IdentityIndex::new((0..types.len()).collect())),
            _ => None,
        };
        SideState {
            layout,
            store: RowStore::new(types),
            heads: Vec::new(),
            rows: Vec::new(),
            next: Vec::new(),
            prev: Vec::new(),
            slots: Vec::new(),
            counts: Vec::new(),
            degrees: with_degrees.then(Vec::new),
            identity,
            expiry: ttl_ms.map(Expiry::new),
            removable: ttl_ms.is_some() || !matches!(layout, Layout::AppendOnly | Layout::Count),
            unique: unique.to_vec(),
            idle: Vec::new(),
            keys: 0,
            news: None,
        }
    }

    /// Makes room for slots.
    pub(super) fn grow_slots(&mut self, slots: usize) {
        self.heads.resize(slots, NO_ROW);
        self.rows.resize(slots, 0);
    }

    /// How often row `id` is there.
    #[inline]
    pub(super) fn count(&self, id: u32) -> u32 {
        if self.layout == Layout::Bag { self.counts[id as usize] } else { 1 }
    }

    /// Applies a batch in order. Rows whose action is not `Probe` leave no trace.
    pub(super) fn apply(
        &mut self,
        stored: &[ArrayRef],
        slots: &[u32],
        codes: Option<&[u8]>,
        applied: &mut Applied,
    ) -> Result<()> {
        let n = slots.len();
        applied.turns.clear();
        applied.turns.resize(n, 0);
        applied.ids.clear();
        applied.ids.resize(n, NO_ROW);
        if self.layout == Layout::Count {
            self.apply_counts(slots, codes, applied);
            return Ok(());
        }
        let mut groups = match &self.identity {
            None => Groups::default(),
            Some(index) => {
                let actions = &applied.actions;
                index.group(&self.store, stored, slots, |row| actions[row] == Action::Probe, &self.slots)?
            }
        };
        for (row, slot) in slots.iter().copied().enumerate() {
            if applied.actions[row] != Action::Probe {
                continue;
            }
            let retracts = codes.is_some_and(|c| c[row] & 1 == 1);
            let current = match self.layout {
                Layout::AppendOnly => NO_ROW,
                Layout::OnePerKey => self.heads[slot as usize],
                _ => groups.current[groups.of_row[row] as usize],
            };
            let before = self.rows[slot as usize];
            if retracts {
                if current == NO_ROW {
                    self.idle.push(slot);
                    // State that has expired is retracted downstream all the same.
                    if self.expiry.is_none() {
                        applied.actions[row] = Action::Ignore;
                    }
                    continue;
                }
                if self.layout == Layout::Bag && self.counts[current as usize] > 1 {
                    self.counts[current as usize] -= 1;
                    self.rows[slot as usize] -= 1;
                    self.touch(current);
                } else {
                    self.unlink(current, slot, groups.tag(row));
                    groups.set(row, NO_ROW);
                }
                if before == 1 {
                    applied.turns[row] = -1;
                }
                continue;
            }
            if current != NO_ROW && self.layout == Layout::Bag {
                self.counts[current as usize] += 1;
                self.rows[slot as usize] += 1;
                self.touch(current);
                applied.ids[row] = current;
                continue;
            }
            if current != NO_ROW {
                // A new row of a unique key without retraction of the old one replaces it.
                self.unlink(current, slot, groups.tag(row));
            }
            let id = self.store.add(row as u32)?;
            self.link(id, slot, 1, groups.tag(row));
            groups.set(row, id);
            applied.ids[row] = id;
            if before == 0 {
                applied.turns[row] = 1;
            }
        }
        self.store.append_pending(stored, n)
    }

    fn apply_counts(&mut self, slots: &[u32], codes: Option<&[u8]>, applied: &mut Applied) {
        for (row, slot) in slots.iter().enumerate() {
            if applied.actions[row] != Action::Probe {
                continue;
            }
            let rows = &mut self.rows[*slot as usize];
            if codes.is_some_and(|c| c[row] & 1 == 1) {
                self.idle.push(*slot);
                if *rows == 0 {
                    applied.actions[row] = Action::Ignore;
                    continue;
                }
                *rows -= 1;
                if *rows == 0 {
                    self.keys -= 1;
                    applied.turns[row] = -1;
                }
            } else {
                if *rows == 0 {
                    self.keys += 1;
                    applied.turns[row] = 1;
                }
                *rows = rows.saturating_add(1);
            }
        }
    }

    /// Takes over a number of rows of a key; count layout.
    pub(super) fn restore_count(&mut self, slot: u32, count: u32) {
        self.keys += 1;
        self.rows[slot as usize] = count;
    }

    fn link(&mut self, id: u32, slot: u32, count: u32, tag: u32) {
        let at = id as usize;
        let capacity = self.store.capacity();
        if self.next.len() < capacity {
            self.next.resize(capacity, NO_ROW);
        }
        let head = std::mem::replace(&mut self.heads[slot as usize], id);
        self.next[at] = head;
        self.rows[slot as usize] += count;
        if let Some(news) = &mut self.news {
            // Where no row goes, ids come in order.
            news.slots.push(slot);
        }
        if self.removable {
            if self.prev.len() < capacity {
                self.prev.resize(capacity, NO_ROW);
                self.slots.resize(capacity, NO_SLOT);
            }
            self.prev[at] = NO_ROW;
            self.slots[at] = slot;
            if head != NO_ROW {
                self.prev[head as usize] = id;
            }
        }
        if self.layout == Layout::Bag {
            if self.counts.len() < capacity {
                self.counts.resize(capacity, 0);
            }
            self.counts[at] = count;
        }
        if let Some(degrees) = &mut self.degrees {
            if degrees.len() < capacity {
                degrees.resize(capacity, 0);
            }
            degrees[at] = 0;
        }
        if let Some(index) = &mut self.identity {
            index.insert(tag, id);
            if let Some(expiry) = &mut self.expiry {
                expiry.set_tag(id, tag, capacity);
            }
        }
        self.touch(id);
    }

    fn unlink(&mut self, id: u32, slot: u32, tag: u32) {
        let at = id as usize;
        let (prev, next) = (self.prev[at], self.next[at]);
        if prev == NO_ROW {
            self.heads[slot as usize] = next;
        } else {
            self.next[prev as usize] = next;
        }
        if next != NO_ROW {
            self.prev[next as usize] = prev;
        }
        self.rows[slot as usize] -= self.count(id);
        self.slots[at] = NO_SLOT;
        if let Some(index) = &mut self.identity {
            index.remove(tag, id);
        }
        self.store.remove(id);
        self.idle.push(slot);
    }

    /// Row `id` was written.
    #[inline]
    pub(super) fn touch(&mut self, id: u32) {
        if let Some(expiry) = &mut self.expiry {
            expiry.touch(id);
        }
    }

    /// Takes restored rows: `stored` columns with slots, counts, degrees and times of last write.
    pub(super) fn restore(
        &mut self,
        stored: &[ArrayRef],
        slots: &[u32],
        counts: Option<&[i64]>,
        degrees: Option<&[i64]>,
        touched: Option<&[i64]>,
    ) -> Result<()> {
        let tags = match &self.identity {
            Some(index) => index.tags(stored, slots)?,
            None => vec![0; slots.len()],
        };
        for (row, slot) in slots.iter().enumerate() {
            let id = self.store.add(row as u32)?;
            if let (Some(expiry), Some(touched)) = (&mut self.expiry, touched) {
                expiry.restart(touched[row]);
            }
            self.link(id, *slot, counts.map_or(1, |c| c[row] as u32), tags[row]);
            if let (Some(to), Some(degrees)) = (&mut self.degrees, degrees) {
                to[id as usize] = degrees[row] as u32;
            }
        }
        self.store.append_pending(stored, slots.len())
    }

    /// After the whole restore: ticks in order.
    pub(super) fn finish_restore(&mut self) {
        if let Some(expiry) = &mut self.expiry {
            expiry.finish_restore();
        }
    }

    /// Milliseconds of the last write of rows.
    pub(super) fn touched(&self, ids: &[u32]) -> Vec<i64> {
        self.expiry.as_ref().map_or_else(Vec::new, |expiry| expiry.touched(ids))
    }

    /// Advances the clock and forgets rows that have expired.
    pub(super) fn expire(&mut self, now_ms: i64) {
        let Some(expiry) = &mut self.expiry else { return };
        for (tick, ids) in expiry.due(now_ms) {
            for id in ids {
                let at = id as usize;
                let Some(expiry) = &self.expiry else { return };
                // Not if it was written again later, or is another row by now.
                if self.slots[at] == NO_SLOT || !expiry.was_touched(id, tick) {
                    continue;
                }
                let tag = expiry.tag(id);
                self.unlink(id, self.slots[at], tag);
            }
        }
    }

    /// When the clock has to be advanced next; at once as long as it was never set.
    pub(super) fn next_tick(&self) -> Option<i64> {
        self.expiry.as_ref().map(Expiry::next_tick)
    }

    /// After a batch.
    pub(super) fn maintain(&mut self) -> Result<()> {
        self.store.maintain()?;
        if let Some(index) = &mut self.identity {
            index.shrink();
        }
        if self.store.capacity() > 16_384 && self.store.len() < self.store.capacity() / 4 {
            self.rebuild()?;
        }
        Ok(())
    }

    /// Numbers the rows anew, when most ids are free.
    fn rebuild(&mut self) -> Result<()> {
        let types = self.store.types().to_vec();
        let ttl_ms = self.expiry.as_ref().map(Expiry::ttl_ms);
        let mut fresh = SideState::new(self.layout, types, &self.unique, self.degrees.is_some(), ttl_ms);
        fresh.grow_slots(self.heads.len());
        fresh.idle = std::mem::take(&mut self.idle);
        let all: Vec<usize> = (0..self.store.types().len()).collect();
        let (mut slots, mut ids): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
        let end = self.heads.len() as u32;
        for slot in 0..=end {
            if slot < end && self.rows[slot as usize] > 0 {
                let from = ids.len();
                ids.extend(self.chain(slot));
                ids[from..].reverse();
                slots.resize(ids.len(), slot);
            }
            if ids.len() < BATCH_ROWS && slot < end {
                continue;
            }
            for run in self.store.runs(&ids) {
                let (slots, ids) = (&slots[run.clone()], &ids[run]);
                let counts: Vec<i64> = ids.iter().map(|id| i64::from(self.count(*id))).collect();
                let degrees: Option<Vec<i64>> =
                    self.degrees.as_ref().map(|d| ids.iter().map(|id| i64::from(d[*id as usize])).collect());
                let touched = self.expiry.as_ref().map(|_| self.touched(ids));
                let stored = self.store.gather(&all, ids)?;
                fresh.restore(&stored, slots, Some(&counts), degrees.as_deref(), touched.as_deref())?;
            }
            slots.clear();
            ids.clear();
        }
        fresh.finish_restore();
        if let (Some(to), Some(from)) = (&mut fresh.expiry, &self.expiry) {
            to.set_clock(from);
        }
        *self = fresh;
        Ok(())
    }

    /// Whether rows stay as they are once they are stored.
    pub(super) fn only_grows(&self) -> bool {
        self.layout == Layout::AppendOnly && !self.removable && self.degrees.is_none()
    }

    /// The rows since the last call, and notes those from now on.
    pub(super) fn take_news(&mut self) -> Option<News> {
        let from = self.store.capacity() as u32;
        self.news.replace(News { from, slots: Vec::new() })
    }

    /// Ids of the rows of a key, newest first.
    pub(super) fn chain(&self, slot: u32) -> impl Iterator<Item = u32> {
        let mut id = self.heads[slot as usize];
        std::iter::from_fn(move || {
            let this = id;
            (this != NO_ROW).then(|| {
                id = self.next[this as usize];
                this
            })
        })
    }

    /// Rows, or keys where only their number is kept.
    pub(super) fn entries(&self) -> usize {
        if self.layout == Layout::Count { self.keys } else { self.store.len() }
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        let by_id = self.next.capacity()
            + self.prev.capacity()
            + self.slots.capacity()
            + self.counts.capacity()
            + self.degrees.as_ref().map_or(0, Vec::capacity);
        self.store.size()
            + (by_id + self.heads.capacity() + self.rows.capacity() + self.idle.capacity()) * 4
            + self.identity.as_ref().map_or(0, IdentityIndex::size)
            + self.expiry.as_ref().map_or(0, Expiry::size)
            + self.news.as_ref().map_or(0, |news| news.slots.capacity() * 4)
    }
}

impl Groups {
    #[inline]
    fn tag(&self, row: usize) -> u32 {
        self.of_row.get(row).map_or(0, |g| self.tags[*g as usize])
    }

    #[inline]
    fn set(&mut self, row: usize, id: u32) {
        if let Some(group) = self.of_row.get(row) {
            self.current[*group as usize] = id;
        }
    }
}

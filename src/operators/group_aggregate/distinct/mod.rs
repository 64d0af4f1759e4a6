//! Distinct values of one argument list, shared by all DISTINCT aggregates over it.
//!
//! ```text
//!  COUNT(DISTINCT x)                         one table   (slot, value) → a bit, or a count, per filter
//!  COUNT(DISTINCT x) FILTER (WHERE f)   ──►                  │ a value came or went under filter i
//!  SUM(DISTINCT x)                                           ▼
//!                                            counts[slot, i] ± 1   and, for other aggregates, ± the row
//! ```
//!
//! Append-only input needs one bit per filter; updating input a count. Values with ordinals are stored as such, all
//! others as slots of a dictionary.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use hashbrown::HashTable;

use super::dictionary::{Dictionary, parts};
use super::states::Entries;
use crate::error::{Error, Result};
use crate::state::NO_SLOT;
use crate::state::ordinal::{from_ordinals, is_ordinal, to_ordinals};
use by_slot::BySlot;

mod by_slot;

#[cfg(test)]
thread_local! {
    /// Values that the sets of this thread have gone through to write or to forget them.
    pub(crate) static VISITED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Filters per set: a bit of a 32-bit word each.
pub(crate) const MOST_FILTERS: usize = 32;

#[derive(Clone, Copy)]
struct Entry {
    value: i64,
    slot: u32,
    /// Bits, or the number of a block of counts.
    payload: u32,
}

/// Rows where a value came (+1) or went (−1) under one filter.
#[derive(Debug, Default)]
pub(crate) struct Transitions {
    pub(crate) rows: Vec<u32>,
    pub(crate) slots: Vec<u32>,
    pub(crate) signs: Vec<i8>,
}

/// See the module.
pub(crate) struct DistinctSet {
    types: Vec<DataType>,
    filters: usize,
    table: HashTable<Entry>,
    /// Distinct values by slot and filter.
    counts: Vec<i64>,
    /// Entries by slot, so that a group without any is cleared at once.
    entries: Vec<u32>,
    dictionary: Option<Dictionary>,
    /// Occurrences by block and filter, when rows are taken back.
    occurrences: Option<Occurrences>,
    /// The values of each slot, for tables whose groups go, or are read, a few at a time.
    by_slot: Option<BySlot>,
    /// Whether NULL is a value.
    nulls: bool,
    /// By filter: whether a state wants the rows of transitions.
    wanted: u32,
    values: Vec<i64>,
    masks: Vec<u32>,
}

#[derive(Default)]
struct Occurrences {
    counts: Vec<i64>,
    free: Vec<u32>,
}

#[inline]
fn hash(slot: u32, value: i64) -> u64 {
    // Lives in memory only. A full multiplication folded, as wyhash does.
    let a = (value as u64) ^ 0x9e37_79b9_7f4a_7c15;
    let b = (u64::from(slot) << 1 | 1).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let m = u128::from(a ^ b.rotate_left(32)) * u128::from(b ^ 0xa076_1d64_78bd_642f);
    (m as u64) ^ (m >> 64) as u64
}

impl DistinctSet {
    /// For arguments of `types` under `filters` different filters. `nulls`: NULL is a value like others.
    pub(crate) fn new(types: Vec<DataType>, filters: usize, retracts: bool, nulls: bool) -> Result<Self> {
        if filters > MOST_FILTERS {
            return Err(Error::unsupported(format!(
                "more than {MOST_FILTERS} different filters on DISTINCT aggregates over the same argument"
            )));
        }
        let dictionary = match types.as_slice() {
            [ty] if is_ordinal(ty) && !nulls => None,
            many => Some(Dictionary::new(many)?),
        };
        Ok(DistinctSet {
            types,
            filters,
            table: HashTable::new(),
            counts: Vec::new(),
            entries: Vec::new(),
            dictionary,
            occurrences: retracts.then(Occurrences::default),
            by_slot: None,
            nulls,
            wanted: 0,
            values: Vec::new(),
            masks: Vec::new(),
        })
    }

    /// Another aggregate than COUNT follows the values under `filter`.
    pub(crate) fn want_transitions(&mut self, filter: usize) {
        self.wanted |= 1 << filter;
    }

    /// Keeps the values of each slot together from now on; nothing has come yet.
    pub(crate) fn list_by_slot(&mut self) {
        self.by_slot = Some(BySlot::default());
    }

    /// Counts how often values come from now on, so that they can be taken back; nothing has come yet.
    pub(crate) fn count_occurrences(&mut self) {
        self.occurrences = Some(Occurrences::default());
    }

    pub(crate) fn resize(&mut self, slots: usize) {
        if let Some(lists) = &mut self.by_slot {
            lists.resize(slots);
        }
        self.counts.resize(slots * self.filters, 0);
        self.entries.resize(slots, 0);
    }

    /// Takes rows: `filters` by number, `None` for no filter. Gives the transitions of the filters that are wanted.
    pub(crate) fn update(
        &mut self,
        slots: &[u32],
        signs: Option<&[i8]>,
        columns: &[ArrayRef],
        filters: &[Option<&BooleanArray>],
    ) -> Result<Vec<Transitions>> {
        let rows = slots.len();
        self.set_masks(rows, columns, filters);
        self.set_values(columns, rows)?;
        let mut transitions: Vec<Transitions> = Vec::new();
        if self.wanted != 0 {
            transitions.resize_with(self.filters, Transitions::default);
        }
        for row in 0..rows {
            let mask = self.masks[row];
            if mask == 0 {
                if let Some(dictionary) = &mut self.dictionary {
                    dictionary.passed_by(dictionary.rows[row]);
                }
                continue;
            }
            let (slot, value) = (slots[row], self.values[row]);
            let sign = signs.map_or(1, |s| s[row]);
            let changed = match self.occurrences {
                None => self.set_bits(slot, value, mask),
                Some(_) => self.count(slot, value, mask, i64::from(sign)),
            };
            let first = slot as usize * self.filters;
            let mut left = changed;
            while left != 0 {
                self.counts[first + left.trailing_zeros() as usize] += i64::from(sign);
                left &= left - 1;
            }
            let mut left = changed & self.wanted;
            while left != 0 {
                let t = &mut transitions[left.trailing_zeros() as usize];
                t.rows.push(row as u32);
                t.slots.push(slot);
                t.signs.push(sign);
                left &= left - 1;
            }
        }
        self.sweep();
        Ok(transitions)
    }

    fn sweep(&mut self) {
        if let Some(lists) = &mut self.by_slot {
            lists.compact(&self.entries, |slot, value| find(&self.table, slot, value).is_some());
        }
        if let Some(dictionary) = &mut self.dictionary {
            dictionary.sweep();
        }
    }

    /// The filters that each row passes as bits; none for rows with a null argument.
    fn set_masks(&mut self, rows: usize, columns: &[ArrayRef], filters: &[Option<&BooleanArray>]) {
        let always = filters.iter().enumerate().fold(0, |m, (i, f)| m | u32::from(f.is_none()) << i);
        self.masks.clear();
        self.masks.resize(rows, always);
        for (i, filter) in filters.iter().enumerate() {
            if let Some(filter) = filter {
                for (mask, passes) in self.masks.iter_mut().zip(filter.values()) {
                    *mask |= u32::from(passes) << i;
                }
            }
        }
        if self.nulls {
            return;
        }
        let mut nulls: Option<NullBuffer> = None;
        for column in columns {
            nulls = NullBuffer::union(nulls.as_ref(), column.logical_nulls().as_ref());
        }
        if let Some(nulls) = nulls.filter(|n| n.null_count() > 0) {
            for (mask, valid) in self.masks.iter_mut().zip(&nulls) {
                *mask *= u32::from(valid);
            }
        }
    }

    fn set_values(&mut self, columns: &[ArrayRef], rows: usize) -> Result<()> {
        match (&mut self.dictionary, columns) {
            (None, [column]) => to_ordinals(column, &mut self.values),
            (None, _) => Err(Error::internal("a DISTINCT aggregate got another number of arguments")),
            (Some(dictionary), _) => {
                dictionary.intern(columns, rows)?;
                self.values.clear();
                self.values.extend(dictionary.rows.iter().map(|s| i64::from(*s)));
                Ok(())
            }
        }
    }

    /// Adds an entry if it is new.
    #[inline]
    fn entry(&mut self, slot: u32, value: i64, payload: impl FnOnce() -> u32) -> &mut Entry {
        let entry = self.table.entry(
            hash(slot, value),
            |e| e.value == value && e.slot == slot,
            |e| hash(e.slot, e.value),
        );
        match entry {
            hashbrown::hash_table::Entry::Occupied(e) => e.into_mut(),
            hashbrown::hash_table::Entry::Vacant(e) => {
                self.entries[slot as usize] += 1;
                if let Some(dictionary) = &mut self.dictionary {
                    dictionary.hold(value);
                }
                if let Some(lists) = &mut self.by_slot {
                    lists.push(slot, value);
                }
                e.insert(Entry { value, slot, payload: payload() }).into_mut()
            }
        }
    }

    /// Sets bits and tells which were not set.
    #[inline]
    fn set_bits(&mut self, slot: u32, value: i64, mask: u32) -> u32 {
        let entry = self.entry(slot, value, || 0);
        let new = mask & !entry.payload;
        entry.payload |= mask;
        new
    }

    /// Counts and tells under which filters the value came or went.
    fn count(&mut self, slot: u32, value: i64, mask: u32, sign: i64) -> u32 {
        let filters = self.filters;
        let Some(mut occurrences) = self.occurrences.take() else { return 0 };
        let block = self.entry(slot, value, || occurrences.give_out(filters)).payload;
        let counts = &mut occurrences.counts[block as usize * filters..(block as usize + 1) * filters];
        let (mut changed, mut left) = (0, mask);
        while left != 0 {
            let filter = left.trailing_zeros() as usize;
            counts[filter] += sign;
            // Taken back before it came: neither is a transition.
            if counts[filter] == if sign > 0 { 1 } else { 0 } {
                changed |= 1 << filter;
            }
            left &= left - 1;
        }
        if counts.iter().all(|c| *c == 0) {
            occurrences.free.push(block);
            self.forget(slot, value);
        }
        self.occurrences = Some(occurrences);
        changed
    }

    fn forget(&mut self, slot: u32, value: i64) {
        let found = self.table.find_entry(hash(slot, value), |e| e.value == value && e.slot == slot);
        if let Ok(entry) = found {
            entry.remove();
            self.entries[slot as usize] -= 1;
            if let Some(lists) = &mut self.by_slot {
                lists.lost(slot, self.entries[slot as usize]);
            }
            if let Some(dictionary) = &mut self.dictionary {
                dictionary.release(value);
            }
        }
    }

    /// COUNT(DISTINCT …) of slots under a filter.
    pub(crate) fn evaluate(&self, filter: usize, slots: &[u32]) -> ArrayRef {
        let of = |s: &u32| self.counts[*s as usize * self.filters + filter];
        Arc::new(slots.iter().map(of).collect::<Int64Array>())
    }

    /// Back to no values.
    pub(crate) fn clear(&mut self, slots: &[u32]) {
        let mut gone = 0;
        for slot in slots.iter().map(|s| *s as usize) {
            self.counts[slot * self.filters..(slot + 1) * self.filters].fill(0);
            gone += self.entries[slot] as usize;
        }
        if gone == 0 {
            return;
        }
        // All are gone through at once if most of them go.
        let lists = self.by_slot.as_mut().filter(|_| gone < self.table.len() / 4);
        if let Some(lists) = lists {
            for slot in slots {
                for value in lists.take(*slot) {
                    #[cfg(test)]
                    VISITED.set(VISITED.get() + 1);
                    let is_it = |e: &Entry| e.value == value && e.slot == *slot;
                    if let Ok(entry) = self.table.find_entry(hash(*slot, value), is_it) {
                        let (entry, _) = entry.remove();
                        forget_entry(entry, self.filters, &mut self.occurrences, &mut self.dictionary);
                    }
                }
            }
        } else {
            let mut is_gone = vec![false; self.entries.len()];
            slots.iter().for_each(|s| is_gone[*s as usize] = true);
            let (dictionary, occurrences) = (&mut self.dictionary, &mut self.occurrences);
            let filters = self.filters;
            self.table.retain(|e| {
                #[cfg(test)]
                VISITED.set(VISITED.get() + 1);
                if is_gone[e.slot as usize] {
                    forget_entry(*e, filters, occurrences, dictionary);
                }
                !is_gone[e.slot as usize]
            });
            if let Some(lists) = &mut self.by_slot {
                slots.iter().for_each(|slot| drop(lists.take(*slot)));
            }
        }
        slots.iter().for_each(|slot| self.entries[*slot as usize] = 0);
        self.sweep();
    }

    /// All entries, in parts that make a batch each: the values, then a count per filter.
    pub(crate) fn write_entries(&self) -> Result<Vec<Entries>> {
        self.write(self.table.iter().map(|e| (e.slot, *e)))
    }

    /// As [`DistinctSet::write_entries`] of some slots; in place of a slot stands its place in `slots`. Those of a set that
    /// lists its values by slot are found without going through the others.
    pub(crate) fn write_entries_of(&self, slots: &[u32]) -> Result<Vec<Entries>> {
        if let Some(lists) = &self.by_slot {
            let of = slots.iter().zip(0..).flat_map(|(slot, place)| {
                let values = lists.values(*slot, self.entries[*slot as usize]).into_owned();
                values.into_iter().filter_map(move |v| Some((place, *find(&self.table, *slot, v)?)))
            });
            return self.write(of);
        }
        let mut places = vec![NO_SLOT; self.entries.len()];
        slots.iter().zip(0..).for_each(|(slot, place)| places[*slot as usize] = place);
        let of = self.table.iter().map(|e| (places[e.slot as usize], *e));
        self.write(of.filter(|(place, _)| *place != NO_SLOT))
    }

    fn write(&self, written: impl Iterator<Item = (u32, Entry)>) -> Result<Vec<Entries>> {
        let expected = written.size_hint().0;
        let mut slots = Vec::with_capacity(expected);
        let mut values = Vec::with_capacity(expected);
        let mut counts = vec![Vec::with_capacity(expected); self.filters];
        for (slot, e) in written {
            #[cfg(test)]
            VISITED.set(VISITED.get() + 1);
            slots.push(slot);
            values.push(e.value);
            for (filter, column) in counts.iter_mut().enumerate() {
                column.push(match &self.occurrences {
                    None => i64::from(e.payload >> filter & 1),
                    Some(o) => o.counts[e.payload as usize * self.filters + filter],
                });
            }
        }
        let entries = |part: Range<usize>| {
            let values = &values[part.clone()];
            let mut columns = match (&self.dictionary, self.types.as_slice()) {
                (None, [ty]) => vec![from_ordinals(ty, values.to_vec(), None)?],
                (Some(d), _) => d.values(&values.iter().map(|v| *v as u32).collect::<Vec<_>>())?,
                _ => return Err(Error::internal("a DISTINCT aggregate without arguments")),
            };
            let counts = counts.iter().map(|c| Int64Array::from(c[part.clone()].to_vec()));
            columns.extend(counts.map(|c| Arc::new(c) as ArrayRef));
            Ok(Entries { slots: slots[part.clone()].to_vec(), columns })
        };
        parts(self.dictionary.as_ref(), &values).into_iter().map(entries).collect()
    }

    /// Inverse of [`DistinctSet::write_entries`].
    pub(crate) fn read_entries(&mut self, entries: &Entries) -> Result<()> {
        let broken = || Error::internal("the state of a DISTINCT aggregate has other columns than it should");
        let (values, counts) = entries.columns.split_at_checked(self.types.len()).ok_or_else(broken)?;
        let counts: Vec<&Int64Array> =
            counts.iter().map(|c| c.as_any().downcast_ref()).collect::<Option<_>>().ok_or_else(broken)?;
        if counts.len() != self.filters {
            return Err(broken());
        }
        self.set_values(values, entries.slots.len())?;
        for (row, slot) in entries.slots.iter().enumerate() {
            let value = self.values[row];
            for (filter, column) in counts.iter().enumerate() {
                let count = column.value(row);
                if count == 0 {
                    continue;
                }
                match self.occurrences {
                    None => {
                        self.set_bits(*slot, value, 1 << filter);
                    }
                    Some(_) => {
                        self.count(*slot, value, 1 << filter, count);
                    }
                }
                self.counts[*slot as usize * self.filters + filter] += i64::from(count > 0);
            }
        }
        Ok(())
    }

    /// Bytes held.
    pub(crate) fn size(&self) -> usize {
        let dictionary = self.dictionary.as_ref().map_or(0, Dictionary::size);
        let occurrences = self.occurrences.as_ref().map_or(0, |o| o.counts.capacity() * 8);
        let lists = self.by_slot.as_ref().map_or(0, BySlot::size);
        self.table.capacity() * (size_of::<Entry>() + 1)
            + self.counts.capacity() * 8
            + self.entries.capacity() * 4
            + dictionary
            + occurrences
            + lists
    }

    /// Number of (group, value) pairs.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }
}

fn find(table: &HashTable<Entry>, slot: u32, value: i64) -> Option<&Entry> {
    table.find(hash(slot, value), |e| e.value == value && e.slot == slot)
}

/// Gives back what an entry that is gone held.
fn forget_entry(
    entry: Entry,
    filters: usize,
    occurrences: &mut Option<Occurrences>,
    dictionary: &mut Option<Dictionary>,
) {
    if let Some(occurrences) = occurrences {
        let block = entry.payload as usize;
        occurrences.counts[block * filters..(block + 1) * filters].fill(0);
        occurrences.free.push(entry.payload);
    }
    if let Some(dictionary) = dictionary {
        dictionary.release(entry.value);
    }
}

impl Occurrences {
    fn give_out(&mut self, filters: usize) -> u32 {
        if let Some(block) = self.free.pop() {
            return block;
        }
        let block = self.counts.len() / filters;
        self.counts.resize((block + 1) * filters, 0);
        block as u32
    }
}

#[cfg(test)]
mod tests;

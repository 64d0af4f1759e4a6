//! Finds the stored row that a change speaks of.
//!
//! ```text
//!  identity columns + slot ─► 64-bit hash ─┬► rows of the batch that are the same  ┐ verified by comparing columns
//!                                          └► tag ─► table: stored rows            ┘
//!                                                        │
//!                                            groups: one per row content, with the stored row it is now
//! ```
//!
//! Identity columns are the unique key of the side, or all of its stored columns. The groups of a batch are found at once,
//! with kernels; applying its changes in order then only looks at numbers.

use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array, make_comparator};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{SortOptions, take};
use arrow::datatypes::DataType;
use hashbrown::HashTable;

use super::rows::{NO_ROW, RowStore};
use crate::error::Result;
use crate::state::hash_columns;

/// Index of stored rows by identity.
pub(super) struct IdentityIndex {
    /// Among the stored columns.
    columns: Vec<usize>,
    /// Tag and id. The tag is the upper half of the hash; equal tags are told apart by comparing rows.
    table: HashTable<(u32, u32)>,
}

/// Rows of a batch by identity.
#[derive(Default)]
pub(super) struct Groups {
    /// Group of each row; rows that were left out have any.
    pub(super) of_row: Vec<u32>,
    /// By group: the stored row, or [`NO_ROW`].
    pub(super) current: Vec<u32>,
    /// By group.
    pub(super) tags: Vec<u32>,
}

#[inline]
fn spread(tag: u32) -> u64 {
    u64::from(tag).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl IdentityIndex {
    pub(super) fn new(columns: Vec<usize>) -> Self {
        IdentityIndex { columns, table: HashTable::new() }
    }

    pub(super) fn size(&self) -> usize {
        self.table.capacity() * 9
    }

    fn hashes(&self, stored: &[ArrayRef], slots: &[u32]) -> Result<Vec<u64>> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|c| stored[*c].clone()).collect();
        let mut hashes = Vec::new();
        hash_columns(&columns, slots.len(), &mut hashes)?;
        for (hash, slot) in hashes.iter_mut().zip(slots) {
            let mixed = (*hash ^ u64::from(*slot)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            *hash = mixed ^ (mixed >> 29);
        }
        Ok(hashes)
    }

    /// Tags of rows, for [`IdentityIndex::insert`].
    pub(super) fn tags(&self, stored: &[ArrayRef], slots: &[u32]) -> Result<Vec<u32>> {
        Ok(self.hashes(stored, slots)?.iter().map(|h| (h >> 32) as u32).collect())
    }

    pub(super) fn insert(&mut self, tag: u32, id: u32) {
        self.table.insert_unique(spread(tag), (tag, id), |(tag, _)| spread(*tag));
    }

    pub(super) fn remove(&mut self, tag: u32, id: u32) {
        if let Ok(entry) = self.table.find_entry(spread(tag), |e| *e == (tag, id)) {
            entry.remove();
        }
    }

    /// Gives memory back when most entries are gone.
    pub(super) fn shrink(&mut self) {
        if self.table.capacity() > 4096 && self.table.len() * 4 < self.table.capacity() {
            self.table.shrink_to(self.table.len() * 2, |(tag, _)| spread(*tag));
        }
    }

    /// Groups the rows of a batch for which `takes_part`. `slot_of` gives the slots of stored rows.
    pub(super) fn group(
        &self,
        store: &RowStore,
        stored: &[ArrayRef],
        slots: &[u32],
        takes_part: impl Fn(usize) -> bool,
        slot_of: &[u32],
    ) -> Result<Groups> {
        let hashes = self.hashes(stored, slots)?;
        let columns: Vec<ArrayRef> = self.columns.iter().map(|c| stored[*c].clone()).collect();
        let n = slots.len();
        // Leader of each row: the first of the batch with the same identity.
        let mut leader: Vec<u32> = (0..n as u32).collect();
        let mut leaders: HashTable<u32> = HashTable::with_capacity(n);
        let (mut followers, mut followed) = (Vec::new(), Vec::new());
        for row in (0..n).filter(|row| takes_part(*row)) {
            let hash = hashes[row];
            let is_same = |l: &u32| hashes[*l as usize] == hash && slots[*l as usize] == slots[row];
            match leaders.find(hash, is_same) {
                Some(l) => {
                    leader[row] = *l;
                    followers.push(row as u32);
                    followed.push(*l);
                }
                None => {
                    leaders.insert_unique(hash, row as u32, |l| hashes[*l as usize]);
                }
            }
        }
        if !followers.is_empty() {
            let same = equal_rows(
                &take_rows(&columns, &followers)?,
                &take_rows(&columns, &followed)?,
                followers.len(),
            )?;
            for (k, row) in followers.iter().enumerate().filter(|(k, _)| !same.value(*k)) {
                // Other rows of the same hash: practically never.
                leader[*row as usize] =
                    self.other_leader(&columns, &hashes, slots, &leader, *row, followed[k])?;
            }
        }

        let mut groups = Groups { of_row: vec![0; n], ..Groups::default() };
        let mut group_rows: Vec<u32> = Vec::new();
        for row in (0..n).filter(|row| takes_part(*row)) {
            groups.of_row[row] = if leader[row] as usize == row {
                group_rows.push(row as u32);
                groups.tags.push((hashes[row] >> 32) as u32);
                (group_rows.len() - 1) as u32
            } else {
                groups.of_row[leader[row] as usize]
            };
        }
        groups.current.resize(group_rows.len(), NO_ROW);

        let (mut candidates, mut ids) = (Vec::new(), Vec::new());
        for (group, row) in group_rows.iter().enumerate() {
            let (tag, slot) = (groups.tags[group], slots[*row as usize]);
            let found = self.table.find(spread(tag), |(t, id)| *t == tag && slot_of[*id as usize] == slot);
            if let Some((_, id)) = found {
                candidates.push(group as u32);
                ids.push(*id);
            }
        }
        if !candidates.is_empty() {
            let rows: Vec<u32> = candidates.iter().map(|g| group_rows[*g as usize]).collect();
            let same =
                equal_rows(&take_rows(&columns, &rows)?, &store.gather(&self.columns, &ids)?, ids.len())?;
            for (k, (group, id)) in candidates.iter().zip(&ids).enumerate() {
                groups.current[*group as usize] = if same.value(k) {
                    *id
                } else {
                    self.other_stored(store, &columns, rows[k], groups.tags[*group as usize], slots, slot_of)?
                };
            }
        }
        Ok(groups)
    }

    /// The stored row equal to `row` among all of its tag.
    fn other_stored(
        &self,
        store: &RowStore,
        columns: &[ArrayRef],
        row: u32,
        tag: u32,
        slots: &[u32],
        slot_of: &[u32],
    ) -> Result<u32> {
        let slot = slots[row as usize];
        let ids: Vec<u32> = self
            .table
            .iter_hash(spread(tag))
            .filter(|(t, id)| *t == tag && slot_of[*id as usize] == slot)
            .map(|(_, id)| *id)
            .collect();
        let same = equal_rows(
            &take_rows(columns, &vec![row; ids.len()])?,
            &store.gather(&self.columns, &ids)?,
            ids.len(),
        )?;
        Ok((0..ids.len()).find(|k| same.value(*k)).map_or(NO_ROW, |k| ids[k]))
    }

    /// The first earlier row of the batch that is equal to `row` though the first of its hash is not.
    fn other_leader(
        &self,
        columns: &[ArrayRef],
        hashes: &[u64],
        slots: &[u32],
        leader: &[u32],
        row: u32,
        not: u32,
    ) -> Result<u32> {
        let at = row as usize;
        for other in not + 1..row {
            let o = other as usize;
            if hashes[o] == hashes[at]
                && slots[o] == slots[at]
                && leader[o] == other
                && equal_rows(&take_rows(columns, &[row])?, &take_rows(columns, &[other])?, 1)?.value(0)
            {
                return Ok(other);
            }
        }
        Ok(row)
    }
}

fn take_rows(columns: &[ArrayRef], rows: &[u32]) -> Result<Vec<ArrayRef>> {
    let rows = UInt32Array::from(rows.to_vec());
    columns.iter().map(|c| Ok(take(c, &rows, None)?)).collect()
}

/// Row by row, NULL equal to NULL.
fn equal_rows(a: &[ArrayRef], b: &[ArrayRef], rows: usize) -> Result<BooleanArray> {
    let mut all = BooleanArray::from(vec![true; rows]);
    for (x, y) in a.iter().zip(b) {
        if *x.data_type() == DataType::Null {
            continue;
        }
        let same = if x.data_type().is_nested() {
            let compare = make_comparator(x.as_ref(), y.as_ref(), SortOptions::default())?;
            (0..rows).map(|i| Some(compare(i, i).is_eq())).collect()
        } else {
            not_distinct(x, y)?
        };
        all = arrow::compute::and(&all, &same)?;
    }
    Ok(all)
}

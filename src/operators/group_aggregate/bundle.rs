//! What a bundle has touched, and the changes it makes.
//!
//! ```text
//!  first touch of a group: remember its result ─► … rows … ─► end of bundle: compare with the new result
//!
//!   before │ after  │ emitted
//!   –      │ result │ +I
//!   result │ other  │ -U, +U (or only +U)
//!   result │ same   │ nothing
//!   result │ –      │ -D
//!   –      │ –      │ nothing
//! ```

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array, make_comparator};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{SortOptions, concat, interleave, take};
use arrow::datatypes::DataType;

use super::table::AggregateTable;
use crate::error::Result;
use crate::functions::room::in_parts;
use crate::stream::RowKind;

/// Groups touched since the last emission.
#[derive(Default)]
pub(super) struct Bundle {
    /// In order of their first row.
    pub(super) touched: Vec<u32>,
    /// Whether a slot is in `touched`.
    marks: Vec<bool>,
    /// For each touched group: the row of its old result, if it had one.
    old_rows: Vec<Option<u32>>,
    /// Old results, a piece per call of `touch`.
    olds: Vec<Vec<ArrayRef>>,
    old_count: u32,
}

/// Changes in the order of the touched groups.
pub(super) struct Changes {
    pub(super) keys: Vec<ArrayRef>,
    pub(super) results: Vec<ArrayRef>,
    pub(super) kinds: Vec<u8>,
}

impl Bundle {
    /// Remembers the results of groups that are about to change.
    pub(super) fn touch(&mut self, table: &AggregateTable, slots: &[u32]) -> Result<()> {
        self.marks.resize(table.rows.len(), false);
        let mut existing = Vec::new();
        for slot in slots {
            let mark = &mut self.marks[*slot as usize];
            if *mark {
                continue;
            }
            *mark = true;
            self.touched.push(*slot);
            self.old_rows.push(if table.rows[*slot as usize] > 0 {
                existing.push(*slot);
                self.old_count += 1;
                Some(self.old_count - 1)
            } else {
                None
            });
        }
        for slots in existing.chunks(table.groups_of_a_part(existing.len().max(1))) {
            let parts = in_parts(slots.len(), |part| table.evaluate(&slots[part]))?;
            self.olds.extend(parts.into_iter().filter(|columns| !columns.is_empty()));
        }
        Ok(())
    }

    /// Whether a group has changed in this bundle.
    pub(super) fn holds(&self, slot: u32) -> bool {
        self.marks.get(slot as usize).copied().unwrap_or(false)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.touched.is_empty()
    }

    /// Groups touched.
    pub(super) fn len(&self) -> usize {
        self.touched.len()
    }

    /// Ends the bundle: its changes, in parts that make a batch each. `retracts`: rows may have been taken away, so that
    /// equal counts do not mean no change.
    pub(super) fn finish(
        &mut self,
        table: &AggregateTable,
        retracts: bool,
        update_before: bool,
    ) -> Result<Vec<Changes>> {
        let (mut made, mut from) = (Vec::with_capacity(1), 0);
        while from < self.touched.len() {
            let to = self.touched.len().min(from.saturating_add(table.groups_of_a_part(usize::MAX)));
            made.extend(in_parts(to - from, |part| {
                self.changes(from + part.start..from + part.end, table, retracts, update_before)
            })?);
            from = to;
        }
        for slot in self.touched.drain(..) {
            self.marks[slot as usize] = false;
        }
        self.old_rows.clear();
        self.olds.clear();
        self.old_count = 0;
        Ok(made)
    }

    /// The changes of a run of touched groups.
    fn changes(
        &self,
        run: Range<usize>,
        table: &AggregateTable,
        retracts: bool,
        update_before: bool,
    ) -> Result<Changes> {
        let touched = &self.touched[run.clone()];
        let first_old = self.old_rows[run.start..].iter().flatten().next().map_or(0, |row| *row);
        // Old rows are in the order of the groups.
        let old_rows: Vec<Option<u32>> =
            self.old_rows[run].iter().map(|r| r.map(|r| r - first_old)).collect();
        let old_count = old_rows.iter().flatten().count();
        let alive: Vec<u32> = touched.iter().copied().filter(|s| table.rows[*s as usize] > 0).collect();
        let new = table.evaluate(&alive)?;
        let old = self.old(first_old as usize..first_old as usize + old_count)?;
        let changed = if !retracts && table.counts_rows() {
            None
        } else {
            Some(changed(table, touched, &old_rows, old_count, &old, &new)?)
        };

        // Which touched group, and which row of old (0) or new (1), each output row takes.
        let mut groups: Vec<u32> = Vec::with_capacity(touched.len() * 2);
        let mut rows: Vec<(usize, usize)> = Vec::with_capacity(touched.len() * 2);
        let mut kinds: Vec<u8> = Vec::with_capacity(touched.len() * 2);
        let mut new_row = 0;
        for (group, (slot, old_row)) in touched.iter().zip(&old_rows).enumerate() {
            let mut push = |side: usize, row: usize, kind: RowKind| {
                groups.push(group as u32);
                rows.push((side, row));
                kinds.push(kind as u8);
            };
            let is_alive = table.rows[*slot as usize] > 0;
            match (*old_row, is_alive) {
                (None, true) => push(1, new_row, RowKind::Insert),
                (Some(old), true) => {
                    if changed.as_ref().is_none_or(|c| c[old as usize]) {
                        if update_before {
                            push(0, old as usize, RowKind::UpdateBefore);
                        }
                        push(1, new_row, RowKind::UpdateAfter);
                    }
                }
                (Some(old), false) => push(0, old as usize, RowKind::Delete),
                (None, false) => {}
            }
            new_row += usize::from(is_alive);
        }

        let keys = table.directory.keys(touched)?;
        let keys =
            if groups.len() == touched.len() && groups.iter().enumerate().all(|(i, g)| i == *g as usize) {
                keys
            } else {
                let groups = UInt32Array::from(groups);
                keys.iter().map(|k| Ok(take(k, &groups, None)?)).collect::<Result<_>>()?
            };
        let only_new = rows.len() == alive.len() && rows.iter().all(|(side, _)| *side == 1);
        let results = if only_new {
            new
        } else if old.is_empty() {
            let rows = UInt32Array::from_iter_values(rows.iter().map(|(_, row)| *row as u32));
            new.iter().map(|n| Ok(take(n, &rows, None)?)).collect::<Result<_>>()?
        } else {
            old.iter()
                .zip(&new)
                .map(|(o, n)| Ok(interleave(&[o.as_ref(), n.as_ref()], &rows)?))
                .collect::<Result<_>>()?
        };
        Ok(Changes { keys, results, kinds })
    }

    /// Some of the old results.
    fn old(&self, rows: Range<usize>) -> Result<Vec<ArrayRef>> {
        let mut pieces: Vec<Vec<ArrayRef>> = Vec::new();
        let mut at = 0;
        for columns in &self.olds {
            let length = columns.first().map_or(0, |c| c.len());
            let (from, to) = (rows.start.max(at), rows.end.min(at + length));
            if from < to {
                pieces.push(columns.iter().map(|c| c.slice(from - at, to - from)).collect());
            }
            at += length;
        }
        join(pieces)
    }
}

/// By old row: whether the group lives on with another result.
fn changed(
    table: &AggregateTable,
    touched: &[u32],
    old_row_of: &[Option<u32>],
    old_count: usize,
    old: &[ArrayRef],
    new: &[ArrayRef],
) -> Result<Vec<bool>> {
    let (mut old_rows, mut new_rows) = (Vec::new(), Vec::new());
    let mut new_row = 0_u32;
    for (slot, old_row) in touched.iter().zip(old_row_of) {
        if table.rows[*slot as usize] > 0 {
            if let Some(old_row) = old_row {
                old_rows.push(*old_row);
                new_rows.push(new_row);
            }
            new_row += 1;
        }
    }
    let mut changed = vec![false; old_count];
    let (old_rows, new_rows) = (UInt32Array::from(old_rows), UInt32Array::from(new_rows));
    for (o, n) in old.iter().zip(new) {
        let differs = differs(&take(o, &old_rows, None)?, &take(n, &new_rows, None)?)?;
        for (row, differs) in old_rows.values().iter().zip(differs.values()) {
            changed[*row as usize] |= differs;
        }
    }
    Ok(changed)
}

/// Row by row, NULL equal to NULL.
fn differs(a: &ArrayRef, b: &ArrayRef) -> Result<BooleanArray> {
    if *a.data_type() == DataType::Null {
        return Ok(BooleanArray::from(vec![false; a.len()]));
    }
    if !a.data_type().is_nested() {
        return Ok(distinct(a, b)?);
    }
    let compare = make_comparator(a.as_ref(), b.as_ref(), SortOptions::default())?;
    Ok((0..a.len()).map(|i| Some(compare(i, i).is_ne())).collect())
}

fn join(mut pieces: Vec<Vec<ArrayRef>>) -> Result<Vec<ArrayRef>> {
    if pieces.len() <= 1 {
        return Ok(pieces.pop().unwrap_or_default());
    }
    let width = pieces.first().map_or(0, Vec::len);
    (0..width)
        .map(|i| {
            let parts: Vec<&dyn Array> = pieces.iter().map(|p| p[i].as_ref()).collect();
            Ok(Arc::clone(&concat(&parts)?))
        })
        .collect()
}

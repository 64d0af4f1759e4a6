//! What is left of the state tables that several checkpoints have written in increments.
//!
//! ```text
//!  newest ─► its rows                                        keys of its rows, and those it makes void
//!  older  ─► rows of keys that no newer one has a word on  ◄───┘
//!  …
//! ```
//!
//! Tables that are written whole each time are those of the newest.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, UInt8Type};

use crate::error::{Error, Result};
use crate::state::{GroupDirectory, NO_SLOT};
use crate::stream::key_group::KEY_GROUPS;
use crate::stream::snapshot::{ALL_TABLES, OperatorSnapshot, PartKind, TablePart};

/// Keys that newer checkpoints have a word on.
#[derive(Default)]
struct Known {
    keys: Option<GroupDirectory>,
}

fn broken() -> Error {
    Error::data("increments of a state table do not fit together")
}

impl Known {
    fn columns(rows: &RecordBatch, key: &[usize]) -> Result<Vec<ArrayRef>> {
        key.iter().map(|c| rows.columns().get(*c).cloned().ok_or_else(broken)).collect()
    }

    fn add(&mut self, keys: &[ArrayRef], rows: usize) -> Result<()> {
        let types: Vec<DataType> = keys.iter().map(|c| c.data_type().clone()).collect();
        let directory = match &mut self.keys {
            Some(directory) if directory.types() == types => directory,
            Some(_) => return Err(broken()),
            none => none.insert(GroupDirectory::new(&types)?),
        };
        directory.intern(keys, rows, &mut Vec::new())
    }

    /// By row: whether it still counts.
    fn counts(&mut self, keys: &[ArrayRef], rows: usize) -> Result<Vec<bool>> {
        let Some(directory) = &mut self.keys else { return Ok(vec![true; rows]) };
        let mut slots = Vec::new();
        directory.lookup(keys, rows, &mut slots)?;
        Ok(slots.into_iter().map(|slot| slot == NO_SLOT).collect())
    }
}

/// Rows of a part that count.
fn left(part: TablePart, mask: &[bool]) -> Result<Option<TablePart>> {
    if mask.iter().all(|counts| *counts) {
        return Ok(Some(part));
    }
    let mask = BooleanArray::from(mask.to_vec());
    let rows = filter_record_batch(&part.rows, &mask)?;
    if rows.num_rows() == 0 {
        return Ok(None);
    }
    let groups = part.key_groups.map(|g| arrow::compute::filter(&g, &mask)).transpose()?;
    let groups = groups.map(|g| arrow::array::AsArray::as_primitive::<UInt8Type>(&g).clone());
    Ok(Some(TablePart { rows, key_groups: groups, kind: part.kind }))
}

/// The state that snapshots of one operator leave, oldest first; the last is the one to go on from.
///
/// # Errors
/// Data for layers that do not fit together.
pub fn merge(layers: Vec<OperatorSnapshot>) -> Result<OperatorSnapshot> {
    let mut known: BTreeMap<String, Known> = BTreeMap::new();
    let mut void_groups = [false; KEY_GROUPS as usize];
    let mut found: BTreeMap<String, Vec<Vec<TablePart>>> = BTreeMap::new();
    for (age, layer) in layers.into_iter().rev().enumerate() {
        let mut newly_void = void_groups;
        for (table, parts) in layer {
            let known = known.entry(table.clone()).or_default();
            let (mut kept, mut words): (Vec<TablePart>, Vec<(Vec<ArrayRef>, usize)>) =
                (Vec::new(), Vec::new());
            for part in parts {
                let rows = part.rows.num_rows();
                let in_group = |part: &TablePart| -> Vec<bool> {
                    let groups = part.key_groups.iter().flat_map(|g| g.values());
                    groups.map(|g| !void_groups.get(usize::from(*g)).copied().unwrap_or(false)).collect()
                };
                match &part.kind {
                    PartKind::Whole if age == 0 => kept.push(part),
                    PartKind::Whole => {}
                    PartKind::Append => {
                        let mask = in_group(&part);
                        kept.extend(left(part, &mask)?);
                    }
                    PartKind::Increment(key) => {
                        let keys = Known::columns(&part.rows, key)?;
                        let mut mask = known.counts(&keys, rows)?;
                        mask.iter_mut().zip(in_group(&part)).for_each(|(counts, alive)| *counts &= alive);
                        words.push((keys, rows));
                        kept.extend(left(part, &mask)?);
                    }
                    PartKind::Void(_) if table == ALL_TABLES => {
                        for group in part.key_groups.iter().flat_map(|g| g.values()) {
                            if let Some(void) = newly_void.get_mut(usize::from(*group)) {
                                *void = true;
                            }
                        }
                    }
                    PartKind::Void(_) => words.push((part.rows.columns().to_vec(), rows)),
                }
            }
            // Of older ones; those of the same age stand beside each other.
            for (keys, rows) in words {
                known.add(&keys, rows)?;
            }
            found.entry(table).or_default().push(kept);
        }
        void_groups = newly_void;
    }
    let oldest_first = |layers: Vec<Vec<TablePart>>| layers.into_iter().rev().flatten().collect();
    let merged = found.into_iter().filter(|(table, _)| table != ALL_TABLES);
    Ok(merged.map(|(table, layers)| (table, oldest_first(layers))).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatchOptions, UInt8Array};
    use arrow::datatypes::Schema;

    use super::*;

    fn rows(of: &[(i64, i64)]) -> (RecordBatch, Option<UInt8Array>) {
        let column =
            |at: fn(&(i64, i64)) -> i64| -> ArrayRef { Arc::new(of.iter().map(at).collect::<Int64Array>()) };
        let batch = RecordBatch::try_from_iter([("k", column(|r| r.0)), ("v", column(|r| r.1))]).unwrap();
        (batch, Some(UInt8Array::from_iter_values(of.iter().map(|r| r.0 as u8))))
    }

    fn part(kind: PartKind, of: &[(i64, i64)]) -> TablePart {
        let (rows, key_groups) = rows(of);
        match kind {
            PartKind::Void(_) => TablePart { rows: rows.project(&[0]).unwrap(), key_groups, kind },
            kind => TablePart { rows, key_groups, kind },
        }
    }

    fn key() -> PartKind {
        PartKind::Increment(vec![0])
    }

    fn layer(parts: Vec<(&str, TablePart)>) -> OperatorSnapshot {
        let mut layer = OperatorSnapshot::new();
        parts.into_iter().for_each(|(table, part)| layer.entry(table.to_owned()).or_default().push(part));
        layer
    }

    fn values(state: &OperatorSnapshot, table: &str) -> Vec<(i64, i64)> {
        let number = |part: &TablePart, column: usize, row: usize| {
            arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(part.rows.column(column))
                .value(row)
        };
        let parts = state.get(table).into_iter().flatten();
        let mut all: Vec<(i64, i64)> = parts
            .flat_map(|p| (0..p.rows.num_rows()).map(move |row| (number(p, 0, row), number(p, 1, row))))
            .collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn newer_rows_stand_for_older_ones() {
        let base = layer(vec![
            ("t", part(key(), &[(1, 10), (2, 20), (2, 21), (3, 30), (4, 40)])),
            ("w", part(PartKind::Whole, &[(9, 1)])),
            ("a", part(PartKind::Append, &[(1, 1), (7, 7)])),
        ]);
        // 2 has one row now, 3 is gone, 5 is new.
        let second = layer(vec![
            ("t", part(key(), &[(2, 22), (5, 50)])),
            ("t", part(PartKind::Void(vec![0]), &[(3, 0)])),
            ("a", part(PartKind::Append, &[(1, 2)])),
        ]);
        // 3 comes back, twice.
        let third =
            layer(vec![("t", part(key(), &[(3, 31), (3, 32)])), ("w", part(PartKind::Whole, &[(9, 3)]))]);
        let merged = merge(vec![base.clone(), second.clone(), third]).unwrap();
        assert_eq!(values(&merged, "t"), [(1, 10), (2, 22), (3, 31), (3, 32), (4, 40), (5, 50)]);
        assert_eq!(values(&merged, "w"), [(9, 3)]);
        assert_eq!(values(&merged, "a"), [(1, 1), (1, 2), (7, 7)]);
        let merged = merge(vec![base.clone(), second]).unwrap();
        assert_eq!(values(&merged, "t"), [(1, 10), (2, 22), (4, 40), (5, 50)]);
        assert!(values(&merged, "w").is_empty(), "what is written whole was empty");
        // A subtask that has written all it has.
        let groups = UInt8Array::from(vec![1, 2, 3]);
        let options = RecordBatchOptions::new().with_row_count(Some(3));
        let nothing = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
        let void = TablePart { rows: nothing, key_groups: Some(groups), kind: PartKind::Void(vec![]) };
        let whole = layer(vec![("t", part(key(), &[(2, 99)])), (ALL_TABLES, void)]);
        let merged = merge(vec![base, whole]).unwrap();
        assert_eq!(values(&merged, "t"), [(2, 99), (4, 40)]);
        assert_eq!(values(&merged, "a"), [(7, 7)]);
        assert!(!merged.contains_key(ALL_TABLES));
    }

    #[test]
    fn without_key_columns_there_is_one_key() {
        let one = |value| layer(vec![("t", part(PartKind::Increment(vec![]), &[(0, value)]))]);
        assert_eq!(values(&merge(vec![one(1), one(2)]).unwrap(), "t"), [(0, 2)]);
        assert_eq!(values(&merge(vec![one(1), layer(vec![])]).unwrap(), "t"), [(0, 1)]);
    }
}

//! Snapshots of operator state: named tables of typed Arrow columns, split by key group.
//!
//! ```text
//! operator uid → table name → [ part ]      part = RecordBatch + the key group of each row (or none: broadcast)
//! ```
//!
//! Only typed columns are written, never hash layouts or row encodings, so that a snapshot outlives the code that
//! wrote it and can be read at another parallelism: each subtask keeps the rows of its own key groups.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{BooleanArray, RecordBatch, UInt8Array};
use arrow::compute::filter_record_batch;

use crate::error::{Error, Result};
use crate::stream::key_group::{KeyGroup, KeyGroupRange};

/// Rows of one state table.
#[derive(Debug, Clone)]
pub struct TablePart {
    /// Typed columns.
    pub rows: RecordBatch,
    /// Key group of each row; `None` for rows that every subtask reads.
    pub key_groups: Option<UInt8Array>,
}

/// State of one operator (all subtasks), by table name.
pub type OperatorSnapshot = BTreeMap<String, Vec<TablePart>>;

/// Collects the state of one operator instance.
#[derive(Debug, Default)]
pub struct SnapshotWriter {
    tables: OperatorSnapshot,
}

impl SnapshotWriter {
    /// An empty writer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds rows of keyed state with the key group of each row.
    ///
    /// # Errors
    /// Internal if the lengths differ.
    pub fn keyed(&mut self, table: &str, rows: RecordBatch, key_groups: UInt8Array) -> Result<()> {
        if rows.num_rows() != key_groups.len() {
            return Err(Error::internal(format!("state table {table}: a key group per row is needed")));
        }
        self.push(table, TablePart { rows, key_groups: Some(key_groups) });
        Ok(())
    }

    /// Adds rows that every subtask reads at restore (watermarks, counters).
    pub fn broadcast(&mut self, table: &str, rows: RecordBatch) {
        self.push(table, TablePart { rows, key_groups: None });
    }

    fn push(&mut self, table: &str, part: TablePart) {
        self.tables.entry(table.to_owned()).or_default().push(part);
    }

    /// What was written.
    pub fn finish(self) -> OperatorSnapshot {
        self.tables
    }
}

/// Reads the rows of an operator's snapshot that belong to a key-group range.
#[derive(Debug)]
pub struct SnapshotReader {
    tables: OperatorSnapshot,
    range: KeyGroupRange,
    /// Tables that were asked for.
    asked: RefCell<BTreeSet<String>>,
}

impl SnapshotReader {
    /// A view of `tables` restricted to `range`.
    pub fn new(tables: OperatorSnapshot, range: KeyGroupRange) -> Self {
        SnapshotReader { tables, range, asked: RefCell::default() }
    }

    /// Checks that the operator has asked for every table that holds rows: what it does not know it would lose.
    ///
    /// # Errors
    /// Validation naming the table.
    pub fn finish(self) -> Result<()> {
        let asked = self.asked.into_inner();
        let holds_rows = |parts: &[TablePart]| parts.iter().any(|p| p.rows.num_rows() > 0);
        match self.tables.iter().find(|(name, parts)| !asked.contains(*name) && holds_rows(parts)) {
            None => Ok(()),
            Some((name, _)) => Err(Error::validation(format!(
                "the snapshot holds state '{name}', which the operator does not know"
            ))
            .hint("the snapshot was written by another version, or by another query")),
        }
    }

    /// The owned key groups.
    pub fn range(&self) -> KeyGroupRange {
        self.range
    }

    /// Batches of a table in the order they were written, keyed rows filtered to the owned groups.
    ///
    /// # Errors
    /// From Arrow's filter kernel.
    pub fn table(&self, table: &str) -> Result<Vec<RecordBatch>> {
        self.asked.borrow_mut().insert(table.to_owned());
        let mut found = Vec::new();
        for part in self.tables.get(table).into_iter().flatten() {
            let Some(groups) = &part.key_groups else {
                found.push(part.rows.clone());
                continue;
            };
            let mask: BooleanArray =
                groups.values().iter().map(|g| Some(self.range.contains(KeyGroup(*g)))).collect();
            let rows = filter_record_batch(&part.rows, &mask)?;
            if rows.num_rows() > 0 {
                found.push(rows);
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::ArrayRef;
    use std::sync::Arc;

    #[test]
    fn state_that_nobody_asks_for_is_an_error() {
        let rows = |n| {
            let column: ArrayRef = Arc::new(UInt8Array::from(vec![0; n]));
            RecordBatch::try_from_iter([("n", column)]).unwrap()
        };
        let mut writer = SnapshotWriter::new();
        writer.broadcast("watermark", rows(1));
        writer.broadcast("old", rows(0));
        let tables = writer.finish();
        let reader = SnapshotReader::new(tables.clone(), KeyGroupRange::ALL);
        assert_eq!(reader.table("watermark").unwrap().len(), 1);
        reader.finish().unwrap();
        let reader = SnapshotReader::new(tables, KeyGroupRange::ALL);
        assert_eq!(reader.table("old").unwrap().len(), 1);
        assert!(reader.finish().unwrap_err().to_string().contains("'watermark'"));
    }
}

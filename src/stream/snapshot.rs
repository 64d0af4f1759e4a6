//! Snapshots of operator state: named tables of typed Arrow columns, split by key group.
//!
//! ```text
//! operator uid → table name → [ part ]      part = RecordBatch + the key group of each row (or none: broadcast)
//! ```
//!
//! A snapshot is whole, or says what has changed since the one before: tables by key are written in increments, of which
//! a later one makes void what an earlier one has of a key ([`PartKind`]). All other tables are whole each time.
//!
//! Only typed columns are written, never hash layouts or row encodings, so that a snapshot outlives the code that
//! wrote it and can be read at another parallelism: each subtask keeps the rows of its own key groups.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt8Array,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

use crate::error::{Error, Result};
use crate::stream::key_group::{KeyGroup, KeyGroupRange};

/// What the rows of a part are to what earlier snapshots hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PartKind {
    /// Of a table that is written whole each time.
    #[default]
    Whole,
    /// Of a table that is written in increments, by the key in these of its columns: rows of a key stand for all that
    /// earlier snapshots hold of it.
    Increment(Vec<usize>),
    /// Rows beside those of earlier snapshots. The operator knows which of them do not count any more.
    Append,
    /// Keys, of which earlier snapshots hold nothing that counts any more in these columns of the table. In the table
    /// [`ALL_TABLES`]: nothing of these key groups counts in any table.
    Void(Vec<usize>),
}

/// The table of [`SnapshotWriter::watermark`].
const WATERMARK: &str = "watermark";

/// Stands for all tables of an operator.
pub const ALL_TABLES: &str = "";

/// Rows of one state table.
#[derive(Debug, Clone)]
pub struct TablePart {
    /// Typed columns.
    pub rows: RecordBatch,
    /// Key group of each row; `None` for rows that every subtask reads.
    pub key_groups: Option<UInt8Array>,
    /// What they are to earlier ones.
    pub kind: PartKind,
}

/// What a snapshot is to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SnapshotMode {
    /// Everything; nothing follows.
    #[default]
    Whole,
    /// Everything, and the changes from now on follow.
    First,
    /// What has changed since the last one.
    Changes,
}

/// State of one operator (all subtasks), by table name.
pub type OperatorSnapshot = BTreeMap<String, Vec<TablePart>>;

/// Collects the state of one operator instance.
#[derive(Debug, Default)]
pub struct SnapshotWriter {
    tables: OperatorSnapshot,
    mode: SnapshotMode,
    /// Stands before the names of tables.
    scope: String,
}

impl SnapshotWriter {
    /// An empty writer.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty writer for a snapshot of this kind.
    pub fn of(mode: SnapshotMode) -> Self {
        SnapshotWriter { mode, ..Self::default() }
    }

    /// What is to be written.
    pub fn mode(&self) -> SnapshotMode {
        self.mode
    }

    /// Adds rows of a table that is written in increments, by the key in its columns `key`.
    ///
    /// # Errors
    /// Internal if the lengths differ.
    pub fn increment(
        &mut self,
        table: &str,
        rows: RecordBatch,
        key_groups: UInt8Array,
        key: &[usize],
    ) -> Result<()> {
        self.with_groups(table, rows, key_groups, PartKind::Increment(key.to_vec()))
    }

    /// Adds rows beside those of earlier snapshots.
    ///
    /// # Errors
    /// As [`SnapshotWriter::increment`].
    pub fn append(&mut self, table: &str, rows: RecordBatch, key_groups: UInt8Array) -> Result<()> {
        self.with_groups(table, rows, key_groups, PartKind::Append)
    }

    /// Lets something write all that it has, whatever is asked for; it owns these key groups.
    ///
    /// # Errors
    /// Of `write`.
    pub fn whole(
        &mut self,
        groups: KeyGroupRange,
        write: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let mode = std::mem::take(&mut self.mode);
        let written = write(self);
        self.mode = mode;
        void_groups(&mut self.tables, groups);
        written
    }

    /// Lets a part of an operator write its tables under names of their own; [`SnapshotReader::within`] reads them.
    ///
    /// # Errors
    /// Of `write`.
    pub fn within(&mut self, scope: &str, write: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let outer = self.scope.len();
        self.scope.push_str(scope);
        self.scope.push('.');
        let written = write(self);
        self.scope.truncate(outer);
        written
    }

    /// Says that nothing counts which earlier snapshots hold of these keys, in the columns `key` of a table.
    ///
    /// # Errors
    /// As [`SnapshotWriter::increment`].
    pub fn void(
        &mut self,
        table: &str,
        keys: RecordBatch,
        key_groups: UInt8Array,
        key: &[usize],
    ) -> Result<()> {
        self.with_groups(table, keys, key_groups, PartKind::Void(key.to_vec()))
    }

    fn with_groups(
        &mut self,
        table: &str,
        rows: RecordBatch,
        key_groups: UInt8Array,
        kind: PartKind,
    ) -> Result<()> {
        if rows.num_rows() != key_groups.len() {
            return Err(Error::internal(format!("state table {table}: a key group per row is needed")));
        }
        self.push(table, TablePart { rows, key_groups: Some(key_groups), kind });
        Ok(())
    }

    /// Adds rows of keyed state with the key group of each row.
    ///
    /// # Errors
    /// Internal if the lengths differ.
    pub fn keyed(&mut self, table: &str, rows: RecordBatch, key_groups: UInt8Array) -> Result<()> {
        self.with_groups(table, rows, key_groups, PartKind::Whole)
    }

    /// Adds rows that every subtask reads at restore (watermarks, counters).
    pub fn broadcast(&mut self, table: &str, rows: RecordBatch) {
        self.push(table, TablePart { rows, key_groups: None, kind: PartKind::Whole });
    }

    /// Adds the watermark that an operator has heard of, so that what was late before a restore is late after it.
    ///
    /// # Errors
    /// From Arrow.
    pub fn watermark(&mut self, watermark: i64) -> Result<()> {
        let schema = Schema::new(vec![Field::new(WATERMARK, DataType::Int64, false)]);
        let value: ArrayRef = Arc::new(Int64Array::from(vec![watermark]));
        self.broadcast(WATERMARK, RecordBatch::try_new(Arc::new(schema), vec![value])?);
        Ok(())
    }

    fn push(&mut self, table: &str, part: TablePart) {
        self.tables.entry(format!("{}{table}", self.scope)).or_default().push(part);
    }

    /// What was written.
    pub fn finish(self) -> OperatorSnapshot {
        self.tables
    }
}

/// Makes void what earlier snapshots hold of some key groups, in all tables of an operator: this one is whole.
pub fn void_groups(tables: &mut OperatorSnapshot, groups: KeyGroupRange) {
    let groups = UInt8Array::from_iter_values((groups.start..groups.end).map(|g| g as u8));
    let options = RecordBatchOptions::new().with_row_count(Some(groups.len()));
    let nothing = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options);
    if let Ok(rows) = nothing {
        let part = TablePart { rows, key_groups: Some(groups), kind: PartKind::Void(Vec::new()) };
        tables.entry(ALL_TABLES.to_owned()).or_default().push(part);
    }
}

/// Reads the rows of an operator's snapshot that belong to a key-group range.
#[derive(Debug)]
pub struct SnapshotReader {
    tables: OperatorSnapshot,
    range: KeyGroupRange,
    /// Tables that were asked for.
    asked: RefCell<BTreeSet<String>>,
    /// Stands before the names of tables.
    scope: RefCell<String>,
}

impl SnapshotReader {
    /// A view of `tables` restricted to `range`.
    pub fn new(tables: OperatorSnapshot, range: KeyGroupRange) -> Self {
        SnapshotReader { tables, range, asked: RefCell::default(), scope: RefCell::default() }
    }

    /// Checks that the operator has asked for every table that holds rows: what it does not know it would lose.
    ///
    /// # Errors
    /// Validation naming the table.
    pub fn finish(self) -> Result<()> {
        let asked = self.asked.into_inner();
        let holds_rows = |parts: &[TablePart]| parts.iter().any(|p| p.rows.num_rows() > 0);
        let is_lost = |name: &str| name != ALL_TABLES && !asked.contains(name);
        match self.tables.iter().find(|(name, parts)| is_lost(name) && holds_rows(parts)) {
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

    /// The least watermark that a subtask had heard of, if any wrote one: no row is dropped that is not late.
    ///
    /// # Errors
    /// As [`SnapshotReader::table`].
    pub fn watermark(&self) -> Result<Option<i64>> {
        let mut least = None;
        for batch in self.table(WATERMARK)? {
            let column = batch.columns().first().and_then(|c| c.as_primitive_opt::<Int64Type>());
            for value in column.into_iter().flatten().flatten() {
                least = Some(least.map_or(value, |l: i64| l.min(value)));
            }
        }
        Ok(least)
    }

    /// Lets a part of an operator read what [`SnapshotWriter::within`] wrote.
    ///
    /// # Errors
    /// Of `read`.
    pub fn within(&self, scope: &str, read: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        let outer = self.scope.borrow().len();
        self.scope.borrow_mut().push_str(&format!("{scope}."));
        let done = read(self);
        self.scope.borrow_mut().truncate(outer);
        done
    }

    /// Batches of a table in the order they were written, keyed rows filtered to the owned groups.
    ///
    /// # Errors
    /// From Arrow's filter kernel.
    pub fn table(&self, table: &str) -> Result<Vec<RecordBatch>> {
        let table = format!("{}{table}", self.scope.borrow());
        let mut found = Vec::new();
        let parts = self.tables.get(&table).into_iter().flatten();
        for part in parts.filter(|part| !matches!(part.kind, PartKind::Void(_))) {
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
        self.asked.borrow_mut().insert(table);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

//! `INTERSECT` and `EXCEPT`, each with and without `ALL`: multisets of whole rows.
//!
//! ```text
//!  left  ── all columns ──► slot: (l, r) ─► copies before and after ─┬─► +I where there is one more
//!  right ── all columns ──►                                          └─► -D where there is one less
//! ```
//!
//! | operator | copies of a row that stands `l` times on the left and `r` times on the right |
//! |---|---|
//! | `INTERSECT` | 1 if `l > 0` and `r > 0` |
//! | `INTERSECT ALL` | min(`l`, `r`) |
//! | `EXCEPT` | 1 if `l > 0` and `r = 0` |
//! | `EXCEPT ALL` | max(`l` - `r`, 0) |
//!
//! One input row changes one count by one and therefore adds or takes away at most one row: the output of a batch is
//! rows of that batch, never more than it has, and no key is ever decoded from state.
//!
//! | state | dropped |
//! |---|---|
//! | row → (l, r) | when both are 0 |
//!
//! Input: any changelog on both ports; NULLs are equal. Output: `+I` and `-D`. The changes of a batch to one row are
//! folded into their sum, except with bundles of one row. A retraction of a row that its side does not hold is
//! ignored. Watermarks pass; a barrier writes all rows with their counts; nothing happens at the end.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take_arrays;
use arrow::datatypes::{DataType, Int64Type, SchemaRef};

use crate::error::{Error, Result};
use crate::operators::keyed_rows::{PART_ROWS, anonymous};
use crate::runtime::operator::{Operator, OperatorMetrics, Output, Progress, Spillable};
use crate::state::GroupDirectory;
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};
use crate::stream::{ChangeBatch, RowKind, RowKinds};

const ROWS: &str = "rows";

/// Which rows are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SetOperationKind {
    /// Rows of both sides, once.
    Intersect,
    /// Rows of both sides, as often as on the side that has fewer.
    IntersectAll,
    /// Rows of the left side that the right one has not, once.
    Except,
    /// Rows of the left side, each taken away as often as the right side has it.
    ExceptAll,
}

impl SetOperationKind {
    /// How often a row is in the result.
    #[inline]
    fn copies(self, [left, right]: [i64; 2]) -> i64 {
        match self {
            SetOperationKind::Intersect => i64::from(left > 0 && right > 0),
            SetOperationKind::IntersectAll => left.min(right),
            SetOperationKind::Except => i64::from(left > 0 && right == 0),
            SetOperationKind::ExceptAll => (left - right).max(0),
        }
    }

    /// As it is written.
    pub fn sql(self) -> &'static str {
        match self {
            SetOperationKind::Intersect => "INTERSECT",
            SetOperationKind::IntersectAll => "INTERSECT ALL",
            SetOperationKind::Except => "EXCEPT",
            SetOperationKind::ExceptAll => "EXCEPT ALL",
        }
    }

    /// Whether a row can be in the result more than once.
    pub fn is_all(self) -> bool {
        matches!(self, SetOperationKind::IntersectAll | SetOperationKind::ExceptAll)
    }
}

/// What the operator does.
#[derive(Debug, Clone)]
pub struct SetOperationConfig {
    /// Which.
    pub kind: SetOperationKind,
    /// Columns of both inputs and of the result.
    pub schema: SchemaRef,
    /// Rows per bundle; of interest is only whether it is 1.
    pub bundle_rows: Option<usize>,
}

/// The operator; see the module.
#[derive(Debug)]
pub struct SetOperationOperator {
    config: SetOperationConfig,
    directory: GroupDirectory,
    /// Rows on the left and on the right, by slot.
    counts: Vec<[i64; 2]>,
    /// Sum of the changes of the batch at hand, by slot; 0 in between.
    net: Vec<i32>,
    /// Whether equal keys can differ in their bits (floats): then rows come from the directory, so that a row is taken
    /// away as it was added.
    normalize: bool,
    slots: Vec<u32>,
    changes: Vec<i8>,
    idle: Vec<u32>,
}

impl SetOperationOperator {
    /// An empty operator.
    ///
    /// # Errors
    /// Unsupported for columns that cannot be keys (maps).
    pub fn new(config: SetOperationConfig) -> Result<Self> {
        let types: Vec<DataType> = config.schema.fields().iter().map(|f| f.data_type().clone()).collect();
        let directory = GroupDirectory::new(&types).map_err(|e| e.context(config.kind.sql()))?;
        let normalize = types.iter().any(has_float);
        Ok(SetOperationOperator {
            config,
            directory,
            counts: Vec::new(),
            net: Vec::new(),
            normalize,
            slots: Vec::new(),
            changes: Vec::new(),
            idle: Vec::new(),
        })
    }

    fn grow(&mut self) {
        let slots = self.directory.capacity();
        if slots > self.counts.len() {
            self.counts.resize(slots, [0; 2]);
            self.net.resize(slots, 0);
        }
    }

    /// Counts the rows of a batch; `changes` gets how many copies each of them adds.
    fn count(&mut self, side: usize, batch: &ChangeBatch) {
        let kind = self.config.kind;
        let codes = batch.kinds.as_ref().map(RowKinds::codes);
        self.changes.clear();
        for (row, slot) in self.slots.iter().enumerate() {
            let counts = &mut self.counts[*slot as usize];
            let retracts = codes.is_some_and(|c| c[row] & 1 == 1);
            let before = kind.copies(*counts);
            if !retracts {
                counts[side] += 1;
            } else if counts[side] > 0 {
                counts[side] -= 1;
            }
            if *counts == [0; 2] {
                self.idle.push(*slot);
            }
            self.changes.push((kind.copies(*counts) - before) as i8);
        }
    }

    /// Leaves of the changes to one row as many as their sum says.
    fn fold(&mut self) {
        let mixed = self.changes.contains(&1) && self.changes.contains(&-1);
        if !mixed || self.config.bundle_rows == Some(1) {
            return;
        }
        for (slot, change) in self.slots.iter().zip(&self.changes) {
            self.net[*slot as usize] += i32::from(*change);
        }
        for (slot, change) in self.slots.iter().zip(&mut self.changes) {
            let net = &mut self.net[*slot as usize];
            if i32::from(*change) * *net > 0 {
                *net -= i32::from(*change);
            } else {
                *change = 0;
            }
        }
    }

    /// The changes of a batch as rows.
    fn emit(&self, batch: &ChangeBatch, out: &mut Output) -> Result<()> {
        let rows: Vec<u32> =
            (0..self.changes.len() as u32).filter(|i| self.changes[*i as usize] != 0).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let kinds = rows
            .iter()
            .map(|i| if self.changes[*i as usize] > 0 { RowKind::Insert } else { RowKind::Delete } as u8)
            .collect();
        let n = rows.len();
        let columns = if self.normalize {
            let slots: Vec<u32> = rows.iter().map(|i| self.slots[*i as usize]).collect();
            self.directory.keys(&slots)?
        } else if n == batch.num_rows() {
            batch.rows.columns().to_vec()
        } else {
            take_arrays(batch.rows.columns(), &UInt32Array::from(rows), None)?
        };
        let options = RecordBatchOptions::new().with_row_count(Some(n));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.config.schema), columns, &options)?;
        out.emit(ChangeBatch::with_kinds(rows, RowKinds::new(kinds)));
        Ok(())
    }

    /// Gives back the slots of rows that neither side holds.
    fn forget_idle(&mut self) {
        if self.idle.is_empty() {
            return;
        }
        self.idle.sort_unstable();
        self.idle.dedup();
        let counts = &self.counts;
        self.idle.retain(|s| counts[*s as usize] == [0; 2]);
        self.directory.remove(&self.idle);
        self.idle.clear();
    }
}

impl Operator for SetOperationOperator {
    fn name(&self) -> &'static str {
        "SetOperation"
    }

    fn process(&mut self, port: usize, batch: ChangeBatch, out: &mut Output) -> Result<Progress> {
        if port > 1 {
            return Err(Error::internal("a set operation has two inputs"));
        }
        let mut slots = std::mem::take(&mut self.slots);
        self.directory.intern(batch.rows.columns(), batch.num_rows(), &mut slots)?;
        self.slots = slots;
        self.grow();
        self.count(port, &batch);
        self.fold();
        self.emit(&batch, out)?;
        self.forget_idle();
        Ok(Progress::Done)
    }

    fn spillable(&self) -> Spillable {
        Spillable::Timeless
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        let written = self.directory.to_write(writer.mode())?;
        let key: Vec<usize> = (0..self.directory.types().len()).collect();
        self.directory.void(writer, ROWS, (&key, key.len()), &written, |_| true)?;
        for run in self.directory.cut(&written.slots, PART_ROWS) {
            let slots = &written.slots[run];
            let mut columns = self.directory.keys(slots)?;
            for side in 0..2 {
                let counts: Int64Array = slots.iter().map(|s| self.counts[*s as usize][side]).collect();
                columns.push(Arc::new(counts));
            }
            let groups = self.directory.key_groups(slots);
            writer.increment(ROWS, anonymous(columns, slots.len())?, groups, &key)?;
        }
        Ok(())
    }

    fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        let broken = || Error::internal("the state of a set operation has other columns than it should");
        for batch in reader.table(ROWS)? {
            let width = self.directory.types().len();
            let (keys, counts) = batch.columns().split_at_checked(width).ok_or_else(broken)?;
            let [left, right] = counts else { return Err(broken()) };
            if keys.iter().zip(self.directory.types()).any(|(k, t)| k.data_type() != t) {
                return Err(broken());
            }
            let values = |c: &ArrayRef| -> Result<Int64Array> {
                Ok(c.as_primitive_opt::<Int64Type>().ok_or_else(broken)?.clone())
            };
            let (left, right) = (values(left)?, values(right)?);
            let mut slots = Vec::new();
            self.directory.intern(keys, batch.num_rows(), &mut slots)?;
            self.grow();
            for ((slot, left), right) in slots.iter().zip(left.values()).zip(right.values()) {
                self.counts[*slot as usize] = [*left, *right];
            }
        }
        Ok(())
    }

    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics {
            state_entries: self.directory.len() as u64,
            state_bytes: (self.directory.size() + self.counts.capacity() * 16 + self.net.capacity() * 4)
                as u64,
            ..OperatorMetrics::default()
        }
    }
}

fn has_float(ty: &DataType) -> bool {
    match ty {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => true,
        DataType::List(item) => has_float(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|f| has_float(f.data_type())),
        _ => false,
    }
}

#[cfg(test)]
mod tests;

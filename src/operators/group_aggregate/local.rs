//! The first of two phases: aggregates before the exchange, so that it carries a row per group instead of all rows.
//!
//! ```text
//!  batch ─► keys, arguments, filters ─► slots ─► states      flush: keys, row count, state columns ─► exchange
//! ```
//!
//! | state | dropped |
//! |---|---|
//! | key → row count, state of each call | at every flush |
//!
//! Rows that are taken back count negative: a partial result may be a difference. Flushed when enough rows have come
//! and whenever the driver asks, so that a barrier finds nothing. Where groups are hardly fewer than rows, rows pass as
//! groups of their own for a while, which spares the hash table.

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use std::sync::Arc;

use super::GroupAggregateConfig;
use super::exprs::Evaluated;
use super::table::AggregateTable;
use crate::error::{Error, Result};
use crate::operators::emit::emit_in_slices;
use crate::operators::keyed_rows::PART_ROWS;
use crate::runtime::operator::{Operator, OperatorMetrics, Output, Progress};
use crate::stream::BATCH_ROWS;
use crate::stream::ChangeBatch;

/// Rows after which partial results are sent on, unless the configuration says otherwise.
const FLUSH_ROWS: usize = 4 * BATCH_ROWS;

/// Batches that pass as they are before grouping is tried again.
const PASSING: usize = 32;

/// The operator; see the module.
pub struct LocalGroupAggregateOperator {
    table: AggregateTable,
    schema: SchemaRef,
    flush_rows: usize,
    rows: usize,
    /// Batches that still pass ungrouped.
    passing: usize,
    slots: Vec<u32>,
    signs: Vec<i8>,
}

impl std::fmt::Debug for LocalGroupAggregateOperator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalGroupAggregateOperator").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl LocalGroupAggregateOperator {
    /// An instance of the first phase of `config`.
    ///
    /// # Errors
    /// As [`super::GroupAggregateOperator::new`]; internal if the states cannot be merged.
    pub fn new(config: &GroupAggregateConfig) -> Result<Self> {
        let table = config.table()?;
        let schema = table.partial_schema()?;
        let schema = schema.ok_or_else(|| Error::internal("these aggregates have no partial results"))?;
        let flush_rows = config.bundle_rows.unwrap_or(FLUSH_ROWS);
        Ok(LocalGroupAggregateOperator {
            table,
            schema,
            flush_rows,
            rows: 0,
            passing: 0,
            slots: Vec::new(),
            signs: Vec::new(),
        })
    }

    /// Columns of the partial results: keys, row count, states; `None` if some state cannot be merged.
    ///
    /// # Errors
    /// As [`LocalGroupAggregateOperator::new`].
    pub fn schema(config: &GroupAggregateConfig) -> Result<Option<SchemaRef>> {
        config.table()?.partial_schema()
    }

    fn emit(&self, keys: Vec<ArrayRef>, rows: Int64Array, slots: &[u32], out: &mut Output) -> Result<()> {
        let mut columns = keys;
        columns.push(Arc::new(rows));
        columns.extend(self.table.partials(slots)?);
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        emit_in_slices(&ChangeBatch::insert_only(rows), out);
        Ok(())
    }

    /// Sends every row as a group of its own.
    fn pass(&mut self, batch: &Evaluated, signed: bool, out: &mut Output) -> Result<()> {
        let slots: Vec<u32> = (0..batch.rows as u32).collect();
        self.table.grow_to(batch.rows);
        self.table.update(batch, &slots, signed.then_some(&self.signs))?;
        let rows: Int64Array = if signed {
            self.signs.iter().map(|s| i64::from(*s)).collect()
        } else {
            Int64Array::from_value(1, batch.rows)
        };
        self.emit(self.table.key_columns(batch), rows, &slots, out)?;
        self.table.clear(&slots);
        Ok(())
    }

    fn send(&mut self, out: &mut Output) -> Result<()> {
        let slots = self.table.directory.slots();
        if slots.is_empty() {
            return Ok(());
        }
        if self.rows >= BATCH_ROWS && slots.len() * 2 > self.rows {
            self.passing = PASSING;
        }
        self.rows = 0;
        for run in self.table.directory.cut(&slots, self.table.groups_of_a_part(PART_ROWS)) {
            let slots = &slots[run];
            let rows: Int64Array = slots.iter().map(|s| self.table.rows[*s as usize]).collect();
            self.emit(self.table.directory.keys(slots)?, rows, slots, out)?;
        }
        self.table.clear(&slots);
        slots.iter().for_each(|s| self.table.rows[*s as usize] = 0);
        self.table.directory.clear();
        Ok(())
    }
}

impl Operator for LocalGroupAggregateOperator {
    fn name(&self) -> &'static str {
        "LocalGroupAggregate"
    }

    fn remembers(&self) -> bool {
        false
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, out: &mut Output) -> Result<Progress> {
        let evaluated = self.table.evaluate_exprs(&batch.rows)?;
        self.signs.clear();
        if let Some(kinds) = &batch.kinds {
            self.signs.extend(kinds.codes().iter().map(|c| 1 - 2 * (*c as i8 & 1)));
        }
        let signed = batch.kinds.is_some();
        if self.passing > 0 {
            self.passing -= 1;
            self.pass(&evaluated, signed, out)?;
            return Ok(Progress::Done);
        }
        let keys = self.table.key_columns(&evaluated);
        let mut slots = std::mem::take(&mut self.slots);
        self.table.directory.intern(&keys, evaluated.rows, &mut slots)?;
        self.table.grow();
        let counts = &mut self.table.rows;
        if signed {
            slots.iter().zip(&self.signs).for_each(|(s, by)| counts[*s as usize] += i64::from(*by));
        } else {
            slots.iter().for_each(|s| counts[*s as usize] += 1);
        }
        self.table.update(&evaluated, &slots, signed.then_some(&self.signs))?;
        self.rows += slots.len();
        self.slots = slots;
        let groups = self.table.groups_of_a_part(usize::MAX);
        if self.rows >= self.flush_rows || self.table.len() >= groups {
            self.send(out)?;
        }
        Ok(Progress::Done)
    }

    fn flush(&mut self, out: &mut Output) -> Result<Progress> {
        self.send(out)?;
        Ok(Progress::Done)
    }

    fn on_end(&mut self, out: &mut Output) -> Result<Progress> {
        self.flush(out)
    }

    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics {
            state_entries: self.table.entries() as u64,
            state_bytes: self.table.size() as u64,
            ..OperatorMetrics::default()
        }
    }
}

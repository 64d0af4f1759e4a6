//! `ORDER BY` a row time, ascending, with or without more columns: rows go out in order as the watermark passes them.
//!
//! ```text
//!  batch ─► late? dropped : kept in typed columns under an id ─► … ─► watermark ─► rows up to it, sorted ─► +I
//! ```
//!
//! | state | dropped |
//! |---|---|
//! | rows that wait, with their sort keys | when the watermark has passed them |
//!
//! Input and output: append-only. One instance sorts everything. Rows at or below the watermark are late and dropped;
//! equal rows go out in the order of their arrival. A barrier writes the rows that wait; the end is the last watermark.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, UInt8Array};
use arrow::datatypes::{DataType, Int64Type, SchemaRef, TimeUnit};

use crate::error::{Error, Result};
use crate::operators::keyed_rows::{PART_ROWS, anonymous};
use crate::operators::top_n::SortColumn;
use crate::runtime::operator::{Operator, OperatorMetrics, Output, Progress};
use crate::state::RowStore;
use crate::state::sort_key::{SortKeyEncoder, SortKeys, ordinal_of};
use crate::stream::key_group::KeyGroup;
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};
use crate::stream::{BATCH_ROWS, ChangeBatch, Timestamp};

const ROWS: &str = "rows";

/// Rows in the order of their time.
#[derive(Debug, Clone)]
pub struct TemporalSortConfig {
    /// Columns in and out.
    pub schema: SchemaRef,
    /// The row time, ascending.
    pub time: usize,
    /// The order of rows of one time.
    pub then: Vec<SortColumn>,
}

/// The operator; see the module.
pub struct TemporalSortOperator {
    config: TemporalSortConfig,
    encoder: SortKeyEncoder,
    /// Time in milliseconds, by id.
    times: Vec<i64>,
    /// The order within a time, by id.
    keys: SortKeys,
    rows: RowStore,
    waiting: Vec<u32>,
    /// Ids of the rows that go out next, a batch each.
    due: VecDeque<Vec<u32>>,
    free: Vec<u32>,
    watermark: Timestamp,
    per_milli: i64,
    arrivals: u64,
    late_rows: u64,
    null_times: u64,
}

impl std::fmt::Debug for TemporalSortOperator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TemporalSortOperator").field("config", &self.config).finish_non_exhaustive()
    }
}

impl TemporalSortOperator {
    /// An instance without rows.
    ///
    /// # Errors
    /// Internal if the time is no timestamp; unsupported for columns that cannot be kept or compared.
    pub fn new(config: TemporalSortConfig) -> Result<Self> {
        let types: Vec<DataType> = config.schema.fields().iter().map(|f| f.data_type().clone()).collect();
        let per_milli = match types.get(config.time) {
            Some(DataType::Timestamp(TimeUnit::Millisecond, _)) => 1,
            Some(DataType::Timestamp(TimeUnit::Microsecond, _)) => 1_000,
            Some(DataType::Timestamp(TimeUnit::Nanosecond, _)) => 1_000_000,
            _ => return Err(Error::internal("a sort by time without a row time")),
        };
        let ascending = SortColumn { column: config.time, options: Default::default() };
        let sort: Vec<_> = std::iter::once(&ascending)
            .chain(&config.then)
            .map(|o| (config.schema.field(o.column).data_type().clone(), o.options))
            .collect();
        Ok(TemporalSortOperator {
            encoder: SortKeyEncoder::new(&sort)?,
            rows: RowStore::new(&types)?,
            config,
            times: Vec::new(),
            keys: SortKeys::default(),
            waiting: Vec::new(),
            due: VecDeque::new(),
            free: Vec::new(),
            watermark: Timestamp::MIN,
            per_milli,
            arrivals: 0,
            late_rows: 0,
            null_times: 0,
        })
    }

    fn keep(&mut self, columns: &[ArrayRef], rows: usize, arrivals: Option<&Int64Array>) -> Result<()> {
        let sort: Vec<ArrayRef> = std::iter::once(self.config.time)
            .chain(self.config.then.iter().map(|o| o.column))
            .map(|c| Arc::clone(&columns[c]))
            .collect();
        let keys = self.encoder.encode(&sort, rows)?;
        let time = SortKeyEncoder::new(&[(sort[0].data_type().clone(), Default::default())])?;
        let times = time.encode(&sort[..1], rows)?;
        let source = self.rows.source(columns)?;
        let (mut ids, mut kept) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        let nulls = sort[0].nulls();
        for row in 0..rows {
            let millis = ordinal_of(times.prefix(row)).div_euclid(self.per_milli);
            if nulls.is_some_and(|n| n.is_null(row)) {
                self.null_times += 1;
                continue;
            }
            if millis <= self.watermark.0 {
                self.late_rows += 1;
                continue;
            }
            let id = self.free.pop().unwrap_or_else(|| {
                self.times.push(0);
                (self.times.len() - 1) as u32
            });
            self.times[id as usize] = millis;
            let arrival = arrivals.map_or(self.arrivals, |a| a.value(row) as u64);
            self.arrivals = self.arrivals.max(arrival) + 1;
            self.keys.put(id, &keys, row, arrival);
            ids.push(id);
            kept.push(row as u32);
        }
        self.rows.put(&ids, &source, &kept);
        self.waiting.extend(ids);
        Ok(())
    }
}

impl Operator for TemporalSortOperator {
    fn name(&self) -> &'static str {
        "TemporalSort"
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, _out: &mut Output) -> Result<Progress> {
        if batch.kinds.is_some() {
            return Err(Error::internal("TemporalSort: updates in append-only input"));
        }
        self.keep(batch.rows.columns(), batch.num_rows(), None)?;
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, watermark: Timestamp, out: &mut Output) -> Result<Progress> {
        self.watermark = self.watermark.max(watermark);
        let times = &self.times;
        let is_due = |id: &u32| times[*id as usize] <= watermark.0;
        let mut due: Vec<u32> = self.waiting.iter().copied().filter(is_due).collect();
        if due.is_empty() {
            return Ok(Progress::Done);
        }
        self.waiting.retain(|id| !is_due(id));
        let keys = &self.keys;
        due.sort_unstable_by(|a, b| if keys.is_before(*a, *b) { Ordering::Less } else { Ordering::Greater });
        self.due = self.rows.cut(&due, BATCH_ROWS).into_iter().map(|run| due[run].to_vec()).collect();
        self.resume(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        while let Some(due) = self.due.pop_front() {
            let options = RecordBatchOptions::new().with_row_count(Some(due.len()));
            let columns = self.rows.gather(&due)?;
            let rows = RecordBatch::try_new_with_options(Arc::clone(&self.config.schema), columns, &options)?;
            out.emit(ChangeBatch::insert_only(rows));
            self.rows.free(&due);
            due.iter().for_each(|id| self.keys.free(*id));
            self.free.extend(due);
            if out.is_full(4 * BATCH_ROWS) && !self.due.is_empty() {
                return Ok(Progress::More);
            }
        }
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        for run in self.rows.cut(&self.waiting, PART_ROWS) {
            let ids = &self.waiting[run];
            let mut columns = self.rows.gather(ids)?;
            columns
                .push(Arc::new(ids.iter().map(|id| self.keys.arrival(*id) as i64).collect::<Int64Array>()));
            // Without keys all rows are those of one group.
            let groups = UInt8Array::from(vec![KeyGroup::of_hash(0).0; ids.len()]);
            writer.keyed(ROWS, anonymous(columns, ids.len())?, groups)?;
        }
        writer.watermark(self.watermark.0)
    }

    fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        for batch in reader.table(ROWS)? {
            let Some((arrivals, columns)) = batch.columns().split_last() else { continue };
            let arrivals = arrivals
                .as_primitive_opt::<Int64Type>()
                .ok_or_else(|| Error::internal("the state of a sort has other columns than it should"))?;
            self.keep(columns, batch.num_rows(), Some(arrivals))?;
        }
        self.watermark = Timestamp(reader.watermark()?.unwrap_or(i64::MIN));
        Ok(())
    }

    fn metrics(&self) -> OperatorMetrics {
        let bytes = self.rows.size()
            + self.keys.size()
            + self.times.capacity() * 8
            + (self.waiting.capacity() + self.free.capacity()) * 4;
        OperatorMetrics {
            late_rows_dropped: self.late_rows,
            null_times_dropped: self.null_times,
            state_entries: self.waiting.len() as u64,
            state_bytes: bytes as u64,
            ..OperatorMetrics::default()
        }
    }
}

#[cfg(test)]
mod tests;

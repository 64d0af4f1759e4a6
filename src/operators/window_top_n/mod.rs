//! Window top-N: `ROW_NUMBER() OVER (PARTITION BY window_start, window_end, … ORDER BY …) <= n` over windows, each told once.
//!
//! ```text
//!  rows ══ partition ══► rows of their window, now and then only the best of each partition ─► watermark ─► ranked ─► +I
//! ```
//!
//! | state | key → value | dropped |
//! |---|---|---|
//! | directory | partition → slot | with its window |
//! | windows | time of the window → its rows, with their sort keys | when the watermark has passed the window |
//!
//! A window holds at most twice the rows that can still come out, and a batch. Input and output: append-only. Rows of a
//! window that has passed are late and dropped; rows that are equal in the order stand in the order of their arrival. The
//! time of the windows stays a row time. A barrier writes the rows that wait; the end is the last watermark.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::datatypes::{DataType, Int64Type};

use crate::error::{Error, Result};
use crate::operators::keyed_rows::{PART_ROWS, anonymous};
use crate::operators::top_n::{RankEnd, RankFunction, RankOutput, TopNConfig};
use crate::operators::window_aggregate::assign::to_millis;
use crate::runtime::operator::{Operator, OperatorMetrics, Output, Progress, Spillable};
use crate::state::sort_key::{SortKeyEncoder, SortKeys};
use crate::state::{GroupDirectory, RowStore};
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};
use crate::stream::{BATCH_ROWS, ChangeBatch, Timestamp};

const ROWS: &str = "rows";

/// Rows of a window that are kept without a look at their ranks.
const LEAST_ROWS: usize = 4 * BATCH_ROWS;

/// A top-N within windows.
#[derive(Debug, Clone)]
pub struct WindowTopNConfig {
    /// Row numbers of append-only rows up to a constant; the partition holds the columns of the window.
    pub top: TopNConfig,
    /// The time of the window, or its end.
    pub time: usize,
    /// How far the time of the window is behind that column, in ms.
    pub behind: i64,
}

/// Rows of a window.
#[derive(Default)]
struct Window {
    ids: Vec<u32>,
    /// How many of them were left when ranks were looked at last.
    ranked: usize,
}

/// The operator; see the module.
pub struct WindowTopNOperator {
    config: WindowTopNConfig,
    start: u64,
    end: u64,
    directory: GroupDirectory,
    encoder: SortKeyEncoder,
    rows: RowStore,
    /// Order within a partition, by id.
    keys: SortKeys,
    /// Partition, by id.
    slots: Vec<u32>,
    free: Vec<u32>,
    /// By the time of the window in ms.
    windows: BTreeMap<i64, Window>,
    /// Rows that go out, a batch each, with their ranks.
    due: VecDeque<(Vec<u32>, Vec<u64>)>,
    watermark: i64,
    arrivals: u64,
    late_rows: u64,
}

impl std::fmt::Debug for WindowTopNOperator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WindowTopNOperator").field("config", &self.config).finish_non_exhaustive()
    }
}

impl WindowTopNOperator {
    /// An instance without rows.
    ///
    /// # Errors
    /// Internal for what is no window top-N; unsupported for columns that cannot be kept or compared.
    pub fn new(config: WindowTopNConfig) -> Result<Self> {
        let top = &config.top;
        top.validate()?;
        let end = match top.end {
            RankEnd::Constant(end)
                if top.function == RankFunction::RowNumber && !top.input_retracts && !top.latest_first =>
            {
                end
            }
            _ => return Err(Error::internal("this cannot be a window top-N")),
        };
        let ty = |c: usize| top.input_schema.field(c).data_type().clone();
        let types: Vec<DataType> = top.input_schema.fields().iter().map(|f| f.data_type().clone()).collect();
        let order: Vec<_> = top.order.iter().map(|o| (ty(o.column), o.options)).collect();
        let partition: Vec<DataType> = top.partition.iter().map(|c| ty(*c)).collect();
        Ok(WindowTopNOperator {
            start: top.start,
            end,
            directory: GroupDirectory::new(&partition)?,
            encoder: SortKeyEncoder::new(&order)?,
            rows: RowStore::new(&types)?,
            config,
            keys: SortKeys::default(),
            slots: Vec::new(),
            free: Vec::new(),
            windows: BTreeMap::new(),
            due: VecDeque::new(),
            watermark: i64::MIN,
            arrivals: 0,
            late_rows: 0,
        })
    }

    fn keep(&mut self, columns: &[ArrayRef], rows: usize, arrivals: Option<&Int64Array>) -> Result<()> {
        let top = &self.config.top;
        let of = |columns_of: &mut dyn Iterator<Item = usize>| -> Vec<ArrayRef> {
            columns_of.map(|c| Arc::clone(&columns[c])).collect()
        };
        let partition = of(&mut top.partition.iter().copied());
        let keys = self.encoder.encode(&of(&mut top.order.iter().map(|o| o.column)), rows)?;
        let mut times = Vec::with_capacity(rows);
        to_millis(&columns[self.config.time], &mut times)?;
        let mut slots = Vec::new();
        self.directory.intern(&partition, rows, &mut slots)?;
        let source = self.rows.source(columns)?;
        let (mut ids, mut kept, mut idle) = (Vec::with_capacity(rows), Vec::with_capacity(rows), Vec::new());
        for row in 0..rows {
            let time = times[row].saturating_sub(self.config.behind);
            if time <= self.watermark {
                self.late_rows += 1;
                idle.push(slots[row]);
                continue;
            }
            let id = self.free.pop().unwrap_or_else(|| {
                self.slots.push(0);
                (self.slots.len() - 1) as u32
            });
            self.slots[id as usize] = slots[row];
            let arrival = arrivals.map_or(self.arrivals, |a| a.value(row) as u64);
            self.arrivals = self.arrivals.max(arrival) + 1;
            self.keys.put(id, &keys, row, arrival);
            self.windows.entry(time).or_default().ids.push(id);
            ids.push(id);
            kept.push(row as u32);
        }
        self.rows.put(&ids, &source, &kept);
        // All rows of such a partition are of the window that has passed.
        idle.sort_unstable();
        idle.dedup();
        self.directory.remove(&idle);
        self.prune();
        Ok(())
    }

    /// Drops rows that can come out no more, where a window has gathered many.
    fn prune(&mut self) {
        let full = |w: &Window| w.ids.len() > LEAST_ROWS && w.ids.len() > 2 * w.ranked;
        let times: Vec<i64> = self.windows.iter().filter(|(_, w)| full(w)).map(|(t, _)| *t).collect();
        for time in times {
            let Some(mut window) = self.windows.remove(&time) else { continue };
            let ids = std::mem::take(&mut window.ids);
            let mut over = Vec::new();
            for (id, rank) in self.ranked(ids) {
                if rank <= self.end { window.ids.push(id) } else { over.push(id) }
            }
            window.ranked = window.ids.len();
            self.windows.insert(time, window);
            self.forget(&over);
        }
    }

    /// The rows of a window, partition by partition, with their ranks.
    fn ranked(&self, mut ids: Vec<u32>) -> impl Iterator<Item = (u32, u64)> {
        let (slots, keys) = (&self.slots, &self.keys);
        ids.sort_unstable_by(|a, b| {
            let within = || if keys.is_before(*a, *b) { Ordering::Less } else { Ordering::Greater };
            slots[*a as usize].cmp(&slots[*b as usize]).then_with(within)
        });
        let mut before: Option<(u32, u64)> = None;
        let ranks: Vec<u64> = ids
            .iter()
            .map(|id| {
                let slot = slots[*id as usize];
                let rank = before.filter(|(s, _)| *s == slot).map_or(1, |(_, rank)| rank + 1);
                before = Some((slot, rank));
                rank
            })
            .collect();
        ids.into_iter().zip(ranks)
    }

    fn forget(&mut self, ids: &[u32]) {
        self.rows.free(ids);
        ids.iter().for_each(|id| self.keys.free(*id));
        self.free.extend(ids);
    }

    /// Ranks the rows of windows that have passed.
    fn fire(&mut self) {
        while let Some(window) = self.windows.first_entry().filter(|w| *w.key() <= self.watermark) {
            let ids = window.remove().ids;
            let mut slots: Vec<u32> = ids.iter().map(|id| self.slots[*id as usize]).collect();
            slots.sort_unstable();
            slots.dedup();
            let (mut out, mut over, mut ranks) = (Vec::new(), Vec::new(), Vec::new());
            for (id, rank) in self.ranked(ids) {
                if (self.start..=self.end).contains(&rank) {
                    out.push(id);
                    ranks.push(rank);
                } else {
                    over.push(id);
                }
            }
            for run in self.rows.cut(&out, BATCH_ROWS) {
                self.due.push_back((out[run.clone()].to_vec(), ranks[run].to_vec()));
            }
            self.forget(&over);
            self.directory.remove(&slots);
        }
    }

    fn batch(&self, ids: &[u32], ranks: Vec<u64>) -> Result<RecordBatch> {
        let columns = self.rows.gather(ids)?;
        let top = &self.config.top;
        let output = top.output.iter().zip(top.output_schema.fields()).map(|(output, field)| {
            let column: ArrayRef = match (output, field.data_type()) {
                (RankOutput::Column(c), _) => Arc::clone(&columns[*c]),
                (RankOutput::Rank, DataType::UInt64) => Arc::new(UInt64Array::from(ranks.clone())),
                (RankOutput::Rank, _) => {
                    Arc::new(Int64Array::from_iter_values(ranks.iter().map(|r| *r as i64)))
                }
            };
            column
        });
        let options = RecordBatchOptions::new().with_row_count(Some(ids.len()));
        let schema = Arc::clone(&top.output_schema);
        Ok(RecordBatch::try_new_with_options(schema, output.collect(), &options)?)
    }
}

impl Operator for WindowTopNOperator {
    fn name(&self) -> &'static str {
        "WindowRank"
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, _out: &mut Output) -> Result<Progress> {
        if batch.kinds.is_some() {
            return Err(Error::internal("WindowRank: updates in append-only input"));
        }
        self.keep(batch.rows.columns(), batch.num_rows(), None)?;
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, watermark: Timestamp, out: &mut Output) -> Result<Progress> {
        self.watermark = self.watermark.max(watermark.0);
        self.fire();
        self.resume(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        while let Some((ids, ranks)) = self.due.pop_front() {
            out.emit(ChangeBatch::insert_only(self.batch(&ids, ranks)?));
            self.forget(&ids);
            if out.is_full(4 * BATCH_ROWS) && !self.due.is_empty() {
                return Ok(Progress::More);
            }
        }
        Ok(Progress::Done)
    }

    fn next_due(&self) -> Timestamp {
        self.windows.keys().next().map_or(Timestamp::MAX, |time| Timestamp(*time))
    }

    fn spillable(&self) -> Spillable {
        Spillable::ByWatermark
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        for window in self.windows.values() {
            for run in self.rows.cut(&window.ids, PART_ROWS) {
                let ids = &window.ids[run];
                let mut columns = self.rows.gather(ids)?;
                let arrivals = ids.iter().map(|id| self.keys.arrival(*id) as i64);
                columns.push(Arc::new(arrivals.collect::<Int64Array>()));
                let slots: Vec<u32> = ids.iter().map(|id| self.slots[*id as usize]).collect();
                writer.keyed(ROWS, anonymous(columns, ids.len())?, self.directory.key_groups(&slots))?;
            }
        }
        writer.watermark(self.watermark)
    }

    fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        for batch in reader.table(ROWS)? {
            let broken = || Error::internal("the state of a window top-N has other columns than it should");
            let (arrivals, columns) = batch.columns().split_last().ok_or_else(broken)?;
            let arrivals = arrivals.as_primitive_opt::<Int64Type>().ok_or_else(broken)?;
            if columns.len() != self.config.top.input_schema.fields().len() {
                return Err(broken());
            }
            self.keep(columns, batch.num_rows(), Some(arrivals))?;
        }
        self.watermark = reader.watermark()?.unwrap_or(i64::MIN);
        Ok(())
    }

    fn metrics(&self) -> OperatorMetrics {
        let entries: usize = self.windows.values().map(|w| w.ids.len()).sum();
        let by_id = (self.slots.capacity() + self.free.capacity() + entries) * 4;
        OperatorMetrics {
            late_rows_dropped: self.late_rows,
            state_entries: entries as u64,
            state_bytes: (self.directory.size() + self.rows.size() + self.keys.size() + by_id) as u64,
            ..OperatorMetrics::default()
        }
    }
}

#[cfg(test)]
mod tests;

//! Deduplication: the first or last row of each key, `ROW_NUMBER() OVER (PARTITION BY … ORDER BY …) = 1` over
//! append-only input.
//!
//! ```text
//!  batch ─► keys (slots) ─► best row of each key in the bundle ─► better than the one kept? ─► +I / -U +U
//!
//!  first row by row time:   … ─► kept until the watermark reaches its time ─► +I, and never again
//! ```
//!
//! | state | dropped |
//! |---|---|
//! | key → sort key of the row that is out, its columns only where a consumer needs `-U` | with a TTL, keys not written for that long |
//! | first row by row time: key → the row that waits, then only that one is out | as above |
//!
//! Input: append-only. Output: inserts and updates; for the first row by row time inserts only, and rows at or below the
//! watermark are late and dropped. A bundle (one input batch by default) folds the changes of a key; bundles of one row
//! give Flink's changelog row by row. Watermarks pass after the rows they release; a barrier finds no open bundle and
//! writes a row per key. At the end the watermark has released everything.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt64Array,
};
use arrow::datatypes::{DataType, Int64Type, SchemaRef, TimeUnit};

use crate::error::{Error, Result};
use crate::operators::keyed_rows::{Bundles, PART_ROWS, RowChanges, anonymous};
use crate::operators::top_n::{RankOutput, SortColumn, emit_in_slices};
use crate::runtime::operator::{Operator, OperatorMetrics, Output, Progress};
use crate::state::row_store::SourceRows;
use crate::state::sort_key::{BatchKeys, SortKeyEncoder, SortKeys, ordinal_of};
use crate::state::ttl::TimeToLive;
use crate::state::{GroupDirectory, NO_SLOT, RowStore};
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};
use crate::stream::{ChangeBatch, RowKind, RowKinds, Timestamp};

const ROWS: &str = "rows";

/// One row of every key.
#[derive(Debug, Clone)]
pub struct DeduplicateConfig {
    /// Columns of the input.
    pub input_schema: SchemaRef,
    /// Columns of the output.
    pub output_schema: SchemaRef,
    /// Where each output column comes from; the rank is 1.
    pub output: Vec<RankOutput>,
    /// Key columns of the input.
    pub partition: Vec<usize>,
    /// The row that comes first in this order stays.
    pub order: Vec<SortColumn>,
    /// Of rows that are equal in the order the latest stays, instead of the earliest.
    pub keep_latest: bool,
    /// Rows wait for the watermark: the order is one row time, ascending.
    pub wait_for_watermark: bool,
    /// Whether a consumer needs `-U` before `+U`.
    pub emit_update_before: bool,
    /// Input rows per bundle. `None`: one input batch.
    pub bundle_rows: Option<usize>,
    /// How long an untouched key is kept.
    pub ttl_ms: Option<i64>,
}

/// The operator; see the module.
pub struct DeduplicateOperator {
    config: DeduplicateConfig,
    directory: GroupDirectory,
    encoder: SortKeyEncoder,
    /// Input columns that are kept, ascending.
    kept: Vec<usize>,
    /// By slot.
    keys: SortKeys,
    rows: RowStore,
    occupied: Vec<bool>,
    /// Waiting for the watermark: whether the row of a slot is out.
    released: Vec<bool>,
    /// Slots whose row waits.
    waiting: Vec<u32>,
    watermark: Timestamp,
    /// Ordinals of the row time per millisecond.
    per_milli: i64,
    arrivals: u64,
    late_rows: u64,
    ttl: Option<TimeToLive>,
    /// By slot: best row of the bundle, [`NO_SLOT`] between bundles.
    best: Vec<u32>,
    touched: Vec<u32>,
    bundles: Bundles,
    slots: Vec<u32>,
}

impl std::fmt::Debug for DeduplicateOperator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeduplicateOperator").field("config", &self.config).finish_non_exhaustive()
    }
}

impl DeduplicateOperator {
    /// An instance without rows.
    ///
    /// # Errors
    /// Internal for a plan that does not fit together; unsupported for columns that cannot be kept or compared.
    pub fn new(config: DeduplicateConfig) -> Result<Self> {
        let inputs = config.input_schema.fields().len();
        let columns = config.output.iter().filter_map(|o| match o {
            RankOutput::Column(c) => Some(*c),
            RankOutput::Rank => None,
        });
        let order = config.order.iter().map(|o| o.column);
        if columns.clone().chain(order.clone()).chain(config.partition.iter().copied()).any(|c| c >= inputs)
            || config.output.len() != config.output_schema.fields().len()
        {
            return Err(Error::internal("deduplication: the columns do not fit the input"));
        }
        let ty = |c: &usize| config.input_schema.field(*c).data_type().clone();
        // Without -U nobody sees an old row again: its place in the order is all there is to know.
        let needs_rows = config.emit_update_before || config.wait_for_watermark;
        let mut kept: Vec<usize> = order.chain(columns.filter(|_| needs_rows)).collect();
        kept.sort_unstable();
        kept.dedup();
        let sort: Vec<_> = config.order.iter().map(|o| (ty(&o.column), o.options)).collect();
        let per_milli = match sort.as_slice() {
            [(DataType::Timestamp(TimeUnit::Microsecond, _), _)] => 1_000,
            [(DataType::Timestamp(TimeUnit::Nanosecond, _), _)] => 1_000_000,
            _ => 1,
        };
        if config.wait_for_watermark
            && !matches!(sort.as_slice(), [(DataType::Timestamp(..), o)] if !o.descending)
        {
            return Err(Error::internal("deduplication: only an ascending row time waits for the watermark"));
        }
        Ok(DeduplicateOperator {
            directory: GroupDirectory::new(&config.partition.iter().map(ty).collect::<Vec<_>>())?,
            encoder: SortKeyEncoder::new(&sort)?,
            rows: RowStore::new(&kept.iter().map(ty).collect::<Vec<_>>())?,
            kept,
            keys: SortKeys::default(),
            occupied: Vec::new(),
            released: Vec::new(),
            waiting: Vec::new(),
            watermark: Timestamp::MIN,
            per_milli,
            arrivals: 0,
            late_rows: 0,
            ttl: TimeToLive::new(config.ttl_ms),
            best: Vec::new(),
            touched: Vec::new(),
            bundles: Bundles::default(),
            slots: Vec::new(),
            config,
        })
    }

    fn place_of(&self, column: usize) -> Result<usize> {
        self.kept
            .binary_search(&column)
            .map_err(|_| Error::internal(format!("deduplication: column {column} is not kept")))
    }

    fn sort_keys(&self, columns: &[ArrayRef], rows: usize) -> Result<BatchKeys> {
        self.encoder.encode(columns, rows)
    }

    /// Makes room for all slots that the directory has given out.
    fn grow(&mut self) {
        let slots = self.directory.capacity();
        if slots > self.occupied.len() {
            self.occupied.resize(slots, false);
            self.best.resize(slots, NO_SLOT);
            if self.config.wait_for_watermark {
                self.released.resize(slots, false);
            }
        }
    }

    #[inline]
    fn replaces(&self, order: Ordering) -> bool {
        match order {
            Ordering::Less => true,
            Ordering::Equal => self.config.keep_latest,
            Ordering::Greater => false,
        }
    }

    /// Finds the rows of a bundle that replace the one kept: `touched` slots, their row in `best`.
    fn find_best(&mut self, keys: &BatchKeys, from: usize, slots: &[u32]) {
        for (i, slot) in slots.iter().enumerate() {
            let (row, at) = (from + i, *slot as usize);
            if self.config.wait_for_watermark {
                let time = ordinal_of(keys.prefix(row)).div_euclid(self.per_milli);
                if time <= self.watermark.0 {
                    self.late_rows += 1;
                    continue;
                }
                if self.released[at] {
                    continue;
                }
            }
            let best = self.best[at];
            let is_better = if best != NO_SLOT {
                self.replaces(keys.compare(row, best as usize))
            } else {
                !self.occupied[at] || self.replaces(self.keys.compare(keys, row, *slot))
            };
            if is_better {
                if best == NO_SLOT {
                    self.touched.push(*slot);
                }
                self.best[at] = row as u32;
            }
        }
    }

    /// Keeps the best rows of the bundle, and forgets what was only needed to find them.
    fn keep_best(&mut self, keys: &BatchKeys, source: &SourceRows) {
        let rows: Vec<u32> = self.touched.iter().map(|s| self.best[*s as usize]).collect();
        self.rows.put(&self.touched, source, &rows);
        for (slot, row) in self.touched.iter().zip(rows) {
            self.keys.put(*slot, keys, row as usize, self.arrivals);
            self.arrivals += 1;
            self.best[*slot as usize] = NO_SLOT;
            self.occupied[*slot as usize] = true;
            if let Some(ttl) = &mut self.ttl {
                ttl.touch(*slot);
            }
        }
        self.touched.clear();
    }

    /// The changes of the bundle, as they go out.
    fn changes(&self, rows: &RecordBatch) -> Result<Option<ChangeBatch>> {
        if self.touched.is_empty() {
            return Ok(None);
        }
        let mut changes = RowChanges::default();
        let mut old = Vec::new();
        for slot in &self.touched {
            let new = self.best[*slot as usize];
            if !self.occupied[*slot as usize] {
                changes.new_row(new, RowKind::Insert);
                continue;
            }
            if self.config.emit_update_before {
                changes.old_row(old.len(), RowKind::UpdateBefore);
                old.push(*slot);
            }
            changes.new_row(new, RowKind::UpdateAfter);
        }
        let old = if old.is_empty() { Vec::new() } else { self.rows.gather(&old)? };
        let columns = self.output(changes.kinds.len(), |column| {
            let old = if old.is_empty() { None } else { old.get(self.place_of(column)?) };
            changes.column(rows.column(column), old)
        })?;
        Ok(Some(ChangeBatch::with_kinds(columns, RowKinds::new(changes.kinds))))
    }

    fn output(&self, rows: usize, column: impl Fn(usize) -> Result<ArrayRef>) -> Result<RecordBatch> {
        let schema = &self.config.output_schema;
        let columns = self
            .config
            .output
            .iter()
            .zip(schema.fields())
            .map(|(output, field)| match (output, field.data_type()) {
                (RankOutput::Column(c), _) => column(*c),
                (RankOutput::Rank, DataType::UInt64) => {
                    Ok(Arc::new(UInt64Array::from(vec![1; rows])) as ArrayRef)
                }
                (RankOutput::Rank, _) => Ok(Arc::new(Int64Array::from(vec![1; rows])) as ArrayRef),
            })
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
    }

    fn take(&mut self, batch: &RecordBatch, slots: &[u32], out: &mut Output) -> Result<()> {
        let columns: Vec<ArrayRef> =
            self.config.order.iter().map(|o| Arc::clone(batch.column(o.column))).collect();
        let keys = self.sort_keys(&columns, batch.num_rows())?;
        let kept: Vec<ArrayRef> = self.kept.iter().map(|c| Arc::clone(batch.column(*c))).collect();
        let source = self.rows.source(&kept)?;
        if self.config.wait_for_watermark {
            self.find_best(&keys, 0, slots);
            let new = self.touched.iter().copied().filter(|s| !self.occupied[*s as usize]);
            self.waiting.extend(new);
            self.keep_best(&keys, &source);
            // Late rows of keys never seen.
            let mut unknown: Vec<u32> =
                slots.iter().copied().filter(|s| !self.occupied[*s as usize]).collect();
            unknown.sort_unstable();
            unknown.dedup();
            self.directory.remove(&unknown);
            return Ok(());
        }
        let mut from = 0;
        while from < slots.len() {
            let to = self.bundles.end(slots, from, self.config.bundle_rows);
            self.find_best(&keys, from, &slots[from..to]);
            if let Some(changes) = self.changes(batch)? {
                emit_in_slices(&changes, out);
            }
            self.keep_best(&keys, &source);
            from = to;
        }
        Ok(())
    }
}

impl Operator for DeduplicateOperator {
    fn name(&self) -> &'static str {
        "Deduplicate"
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, out: &mut Output) -> Result<Progress> {
        if batch.kinds.is_some() {
            return Err(Error::internal("Deduplicate: updates in append-only input"));
        }
        let rows = &batch.rows;
        let key: Vec<ArrayRef> = self.config.partition.iter().map(|c| Arc::clone(rows.column(*c))).collect();
        let mut slots = std::mem::take(&mut self.slots);
        self.directory.intern(&key, rows.num_rows(), &mut slots)?;
        self.grow();
        self.take(rows, &slots, out)?;
        self.slots = slots;
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, watermark: Timestamp, out: &mut Output) -> Result<Progress> {
        self.watermark = self.watermark.max(watermark);
        if self.waiting.is_empty() {
            return Ok(Progress::Done);
        }
        let (keys, per_milli) = (&self.keys, self.per_milli);
        let is_due = |slot: &u32| ordinal_of(keys.prefix(*slot)).div_euclid(per_milli) <= watermark.0;
        let mut due: Vec<u32> = self.waiting.iter().copied().filter(is_due).collect();
        if due.is_empty() {
            return Ok(Progress::Done);
        }
        self.waiting.retain(|slot| !is_due(slot));
        due.sort_unstable_by(|a, b| if keys.is_before(*a, *b) { Ordering::Less } else { Ordering::Greater });
        for due in due.chunks(PART_ROWS) {
            let rows = self.rows.gather(due)?;
            let rows = self.output(due.len(), |column| Ok(Arc::clone(&rows[self.place_of(column)?])))?;
            emit_in_slices(&ChangeBatch::insert_only(rows), out);
        }
        due.iter().for_each(|slot| self.released[*slot as usize] = true);
        self.rows.free(&due);
        Ok(Progress::Done)
    }

    fn on_timer(&mut self, now: Timestamp, _out: &mut Output) -> Result<Progress> {
        if let Some(ttl) = &mut self.ttl {
            let expired = ttl.expired(now, &self.directory.slots());
            if !expired.is_empty() {
                for slot in &expired {
                    self.occupied[*slot as usize] = false;
                    self.keys.free(*slot);
                    if let Some(released) = self.released.get_mut(*slot as usize) {
                        *released = false;
                    }
                }
                let occupied = &self.occupied;
                self.waiting.retain(|slot| occupied[*slot as usize]);
                self.rows.free(&expired);
                self.directory.remove(&expired);
            }
        }
        Ok(Progress::Done)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        self.ttl.as_ref().map(TimeToLive::next_timer)
    }

    fn spillable(&self) -> bool {
        !self.config.wait_for_watermark
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        for slots in self.directory.slots().chunks(PART_ROWS) {
            let mut columns = self.directory.keys(slots)?;
            columns.extend(self.rows.gather(slots)?);
            if self.config.wait_for_watermark {
                let released: Vec<bool> = slots.iter().map(|s| self.released[*s as usize]).collect();
                columns.push(Arc::new(BooleanArray::from(released)));
            }
            if let Some(ttl) = &self.ttl {
                columns.push(Arc::new(slots.iter().map(|s| ttl.written(*s)).collect::<Int64Array>()));
            }
            writer.keyed(ROWS, anonymous(columns, slots.len())?, self.directory.key_groups(slots))?;
        }
        Ok(())
    }

    fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        let broken = || Error::internal("the state of a deduplication has other columns than it should");
        for batch in reader.table(ROWS)? {
            let n = batch.num_rows();
            let (key, columns) =
                batch.columns().split_at_checked(self.config.partition.len()).ok_or_else(broken)?;
            let (kept, mut rest) = columns.split_at_checked(self.kept.len()).ok_or_else(broken)?;
            let mut slots = Vec::new();
            self.directory.intern(key, n, &mut slots)?;
            self.grow();
            let source = self.rows.source(kept)?;
            let all: Vec<u32> = (0..n as u32).collect();
            self.rows.put(&slots, &source, &all);
            let order = self
                .config
                .order
                .iter()
                .map(|o| Ok(Arc::clone(&kept[self.place_of(o.column)?])))
                .collect::<Result<Vec<_>>>()?;
            let keys = self.sort_keys(&order, n)?;
            for (row, slot) in slots.iter().enumerate() {
                self.keys.put(*slot, &keys, row, self.arrivals);
                self.arrivals += 1;
                self.occupied[*slot as usize] = true;
            }
            if self.config.wait_for_watermark {
                let (released, others) = rest.split_first().ok_or_else(broken)?;
                let released = released.as_boolean_opt().ok_or_else(broken)?;
                for (slot, is_released) in slots.iter().zip(released.values()) {
                    self.released[*slot as usize] = is_released;
                    if !is_released {
                        self.waiting.push(*slot);
                    }
                }
                rest = others;
            }
            if let (Some(ttl), Some(written)) =
                (&mut self.ttl, rest.first().and_then(|c| c.as_primitive_opt::<Int64Type>()))
            {
                slots.iter().zip(written.values()).for_each(|(s, w)| ttl.set(*s, *w));
            }
        }
        Ok(())
    }

    fn metrics(&self) -> OperatorMetrics {
        let bytes = self.directory.size()
            + self.keys.size()
            + self.rows.size()
            + self.occupied.capacity()
            + self.released.capacity()
            + (self.best.capacity() + self.waiting.capacity()) * 4
            + self.ttl.as_ref().map_or(0, TimeToLive::size);
        OperatorMetrics {
            late_rows_dropped: self.late_rows,
            state_entries: self.directory.len() as u64,
            state_bytes: bytes as u64,
        }
    }
}

#[cfg(test)]
mod tests;

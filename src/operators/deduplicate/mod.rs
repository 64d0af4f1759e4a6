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
use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};

use crate::error::{Error, Result};
use crate::operators::emit::emit_in_slices;
use crate::operators::keyed_rows::{Bundles, KeyedRows, RowChanges};
use crate::operators::top_n::{RankOutput, SortColumn};
use crate::runtime::operator::{Operator, OperatorMetrics, Output, Progress, Spillable};
use crate::state::NO_SLOT;
use crate::state::row_store::SourceRows;
use crate::state::sort_key::{BatchKeys, SortKeyEncoder, SortKeys, ordinal_of};
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};
use crate::stream::{BATCH_ROWS, ChangeBatch, RowKind, RowKinds, Timestamp};

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
    /// By slot; the columns that are needed again.
    rows: KeyedRows,
    encoder: SortKeyEncoder,
    /// By slot.
    keys: SortKeys,
    /// Waiting for the watermark: whether the row of a slot is out.
    released: Vec<bool>,
    /// Slots whose row waits.
    waiting: Vec<u32>,
    /// Slots whose row goes out next, a batch each.
    due: VecDeque<Vec<u32>>,
    watermark: Timestamp,
    /// Ordinals of the row time per millisecond.
    per_milli: i64,
    arrivals: u64,
    late_rows: u64,
    null_times: u64,
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
            rows: KeyedRows::new(
                "a deduplication",
                &config.input_schema,
                &config.partition,
                kept,
                config.ttl_ms,
            )?,
            encoder: SortKeyEncoder::new(&sort)?,
            keys: SortKeys::default(),
            released: Vec::new(),
            waiting: Vec::new(),
            due: VecDeque::new(),
            watermark: Timestamp::MIN,
            per_milli,
            arrivals: 0,
            late_rows: 0,
            null_times: 0,
            best: Vec::new(),
            touched: Vec::new(),
            bundles: Bundles::default(),
            slots: Vec::new(),
            config,
        })
    }

    /// Makes room for all slots that the directory has given out.
    fn grow(&mut self) {
        let slots = self.rows.capacity();
        if slots > self.best.len() {
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
    fn find_best(&mut self, keys: &BatchKeys, nulls: Option<&NullBuffer>, from: usize, slots: &[u32]) {
        for (i, slot) in slots.iter().enumerate() {
            let (row, at) = (from + i, *slot as usize);
            if self.config.wait_for_watermark {
                let time = ordinal_of(keys.prefix(row)).div_euclid(self.per_milli);
                if nulls.is_some_and(|n| n.is_null(row)) {
                    self.null_times += 1;
                    continue;
                }
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
                !self.rows.has(*slot) || self.replaces(self.keys.compare(keys, row, *slot))
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
        }
        self.touched.clear();
    }

    /// Sends the changes of the bundle.
    fn send_changes(&self, rows: &RecordBatch, out: &mut Output) -> Result<()> {
        if self.touched.is_empty() {
            return Ok(());
        }
        let mut changes = RowChanges::default();
        let mut old = Vec::new();
        for slot in &self.touched {
            let new = self.best[*slot as usize];
            if !self.rows.has(*slot) {
                changes.new_row(new, RowKind::Insert);
                continue;
            }
            if self.config.emit_update_before {
                changes.old_row(old.len(), RowKind::UpdateBefore);
                old.push(*slot);
            }
            changes.new_row(new, RowKind::UpdateAfter);
        }
        for (changes, old) in changes.parts(&self.rows, old) {
            let old = self.rows.gather(&old)?;
            let columns = self.output(changes.kinds.len(), |column| {
                let old = if old.is_empty() { None } else { old.get(self.rows.place_of(column)?) };
                changes.column(rows.column(column), old)
            })?;
            emit_in_slices(&ChangeBatch::with_kinds(columns, RowKinds::new(changes.kinds)), out);
        }
        Ok(())
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
        let keys = self.encoder.encode(&columns, batch.num_rows())?;
        let nulls = columns.first().and_then(|c| c.nulls());
        let source = self.rows.source(batch.columns())?;
        if self.config.wait_for_watermark {
            self.find_best(&keys, nulls, 0, slots);
            let new = self.touched.iter().copied().filter(|s| !self.rows.has(*s));
            self.waiting.extend(new);
            self.keep_best(&keys, &source);
            // Late rows of keys never seen.
            self.rows.forget_empty(slots);
            return Ok(());
        }
        let mut from = 0;
        while from < slots.len() {
            let to = self.bundles.end(slots, from, self.config.bundle_rows);
            self.find_best(&keys, nulls, from, &slots[from..to]);
            self.send_changes(batch, out)?;
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
        let mut slots = std::mem::take(&mut self.slots);
        self.rows.slots(rows.columns(), rows.num_rows(), &mut slots)?;
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
        self.due = self.rows.cut(&due, BATCH_ROWS).into_iter().map(|run| due[run].to_vec()).collect();
        self.resume(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        while let Some(due) = self.due.pop_front() {
            let rows = self.rows.gather(&due)?;
            let rows = self.output(due.len(), |column| Ok(Arc::clone(&rows[self.rows.place_of(column)?])))?;
            out.emit(ChangeBatch::insert_only(rows));
            due.iter().for_each(|slot| self.released[*slot as usize] = true);
            self.rows.touch(&due);
            self.rows.free_columns(&due);
            if out.is_full(4 * BATCH_ROWS) && !self.due.is_empty() {
                return Ok(Progress::More);
            }
        }
        Ok(Progress::Done)
    }

    fn on_timer(&mut self, now: Timestamp, _out: &mut Output) -> Result<Progress> {
        let expired = self.rows.expire(now);
        if !expired.is_empty() {
            for slot in &expired {
                self.keys.free(*slot);
                if let Some(released) = self.released.get_mut(*slot as usize) {
                    *released = false;
                }
            }
            let rows = &self.rows;
            self.waiting.retain(|slot| rows.has(*slot));
            self.rows.forget(&expired);
        }
        Ok(Progress::Done)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        self.rows.next_timer()
    }

    fn next_due(&self) -> Timestamp {
        let first = self.waiting.iter().map(|slot| ordinal_of(self.keys.prefix(*slot))).min();
        first.map_or(Timestamp::MAX, |time| Timestamp(time.div_euclid(self.per_milli)))
    }

    fn spillable(&self) -> Spillable {
        if self.config.wait_for_watermark { Spillable::ByWatermark } else { Spillable::Timeless }
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        let (waits, released) = (self.config.wait_for_watermark, &self.released);
        self.rows.snapshot(writer, |slots| {
            let released = || slots.iter().map(|s| Some(released[*s as usize])).collect::<BooleanArray>();
            waits.then(|| Arc::new(released()) as ArrayRef).into_iter().collect()
        })?;
        if waits { writer.watermark(self.watermark.0) } else { Ok(()) }
    }

    fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        let waits = self.config.wait_for_watermark;
        let (config, encoder, keys, arrivals) =
            (&self.config, &self.encoder, &mut self.keys, &mut self.arrivals);
        let (released, waiting) = (&mut self.released, &mut self.waiting);
        self.rows.restore(reader, usize::from(waits), |state, restored| {
            let order = config
                .order
                .iter()
                .map(|o| Ok(Arc::clone(&restored.rows[state.place_of(o.column)?])))
                .collect::<Result<Vec<_>>>()?;
            let encoded = encoder.encode(&order, restored.slots.len())?;
            for (row, slot) in restored.slots.iter().enumerate() {
                keys.put(*slot, &encoded, row, *arrivals);
                *arrivals += 1;
            }
            if let Some(flags) = restored.more.first() {
                let flags = flags.as_boolean_opt().ok_or_else(|| state.broken())?;
                released.resize(state.capacity(), false);
                for (slot, is_released) in restored.slots.iter().zip(flags.values()) {
                    released[*slot as usize] = is_released;
                    if !is_released {
                        waiting.push(*slot);
                    }
                }
            }
            Ok(())
        })?;
        self.grow();
        if waits && let Some(watermark) = reader.watermark()? {
            self.watermark = Timestamp(watermark);
        }
        Ok(())
    }

    fn metrics(&self) -> OperatorMetrics {
        let bytes = self.keys.size()
            + self.released.capacity()
            + (self.best.capacity() + self.waiting.capacity()) * 4;
        OperatorMetrics {
            late_rows_dropped: self.late_rows,
            null_times_dropped: self.null_times,
            ..self.rows.metrics(bytes)
        }
    }
}

#[cfg(test)]
mod tests;

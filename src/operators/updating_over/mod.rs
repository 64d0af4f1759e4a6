//! `f(…) OVER (…)` whose results change: by other columns than a time, over rows that change, with frames that end behind
//! the row, and functions that look at rows behind it.
//!
//! ```text
//!  rows (±) ══ partition ══► rows of the partition in their order ─► the functions of batch over these rows
//!                                                                        │ end of bundle
//!        +I of new rows, -U +U where a result is another, -D of rows taken back ◄───┘
//! ```
//!
//! | state | key → value | dropped |
//! |---|---|---|
//! | partitions (`rows`) | partition → its rows in order, each with the results that were shown | row by row when it is taken back; all by the TTL |
//!
//! Input: append-only, or any changelog; output: every row with its results, updated as rows come before and behind it. A bundle
//! computes each partition that it touches once, from its rows: what a row means for the rows behind it has to be said of
//! all of them. So a bundle costs as much as the partitions that it touches have rows; the functions over a time up to the
//! current row (`over_aggregate`) cost as much as the new rows. A row that is taken back and not there is ignored. A barrier
//! writes the partitions that have changed.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array,
};
use arrow::compute::{interleave, take};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use datafusion::physical_expr::window::WindowExpr;

use crate::error::{Error, Result};
use crate::operators::emit::emit_in_slices;
use crate::operators::keyed_rows::PART_ROWS;
use crate::operators::top_n::SortColumn;
use crate::runtime::operator::{Operator, OperatorMetrics, Output, Progress, Spillable};
use crate::state::directory::anonymous;
use crate::state::sort_key::{BatchKeys, SortKeyEncoder, SortKeys};
use crate::state::ttl::TimeToLive;
use crate::state::{GroupDirectory, RowStore};
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};
use crate::stream::{ChangeBatch, RowKind, RowKinds, Timestamp};

const ROWS: &str = "rows";

/// What the planner hands over.
#[derive(Debug, Clone)]
pub struct UpdatingOverConfig {
    /// Columns of the rows.
    pub input_schema: SchemaRef,
    /// The same and one for each function.
    pub output_schema: SchemaRef,
    /// The partition.
    pub partition: Vec<usize>,
    /// The order within it; rows that are equal in it stand as they came.
    pub order: Vec<SortColumn>,
    /// The functions, over the rows of a partition in their order.
    pub functions: Vec<Arc<dyn WindowExpr>>,
    /// Whether a consumer needs `-U` before `+U`.
    pub emit_update_before: bool,
    /// Input rows per bundle; `None`: one input batch.
    pub bundle_rows: Option<usize>,
    /// Milliseconds after its last change that a partition is forgotten.
    pub ttl_ms: Option<i64>,
}

impl UpdatingOverConfig {
    fn types(&self) -> (Vec<DataType>, Vec<DataType>) {
        let of =
            |schema: &SchemaRef| schema.fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
        let (input, mut output) = (of(&self.input_schema), of(&self.output_schema));
        let results = output.split_off(input.len().min(output.len()));
        (input, results)
    }
}

#[derive(Debug, Default)]
struct Partition {
    /// Ids of its rows, in order.
    rows: Vec<u32>,
    /// Ids of rows that were taken back and are still shown.
    gone: Vec<u32>,
    touched: bool,
}

/// The operator; see the module.
pub struct UpdatingOverOperator {
    config: UpdatingOverConfig,
    directory: GroupDirectory,
    /// By slot.
    partitions: Vec<Partition>,
    encoder: SortKeyEncoder,
    store: RowStore,
    results: RowStore,
    /// By id: the order, and whether results are shown.
    keys: SortKeys,
    shown: Vec<bool>,
    free: Vec<u32>,
    arrivals: u64,
    live: u64,
    ttl: Option<TimeToLive>,
    slots: Vec<u32>,
}

impl std::fmt::Debug for UpdatingOverOperator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpdatingOverOperator").field("config", &self.config).finish_non_exhaustive()
    }
}

impl UpdatingOverOperator {
    /// An instance without rows.
    ///
    /// # Errors
    /// Internal if the parts do not fit together; unsupported for columns that cannot be kept or ordered.
    pub fn new(config: UpdatingOverConfig) -> Result<Self> {
        let (input, results) = config.types();
        if results.len() != config.functions.len() {
            return Err(Error::internal("an OVER window with other functions than columns"));
        }
        for (function, ty) in config.functions.iter().zip(&results) {
            let made = function.field()?;
            if made.data_type() != ty {
                return Err(Error::internal(format!(
                    "{} is planned as {ty} but computed as {}",
                    function.name(),
                    made.data_type()
                )));
            }
        }
        let ty = |c: usize| config.input_schema.field(c).data_type().clone();
        let partition: Vec<DataType> = config.partition.iter().map(|c| ty(*c)).collect();
        let order: Vec<_> = config.order.iter().map(|o| (ty(o.column), o.options)).collect();
        Ok(UpdatingOverOperator {
            directory: GroupDirectory::new(&partition)?,
            partitions: Vec::new(),
            encoder: SortKeyEncoder::new(&order)?,
            store: RowStore::new(&input)?,
            results: RowStore::new(&results)?,
            keys: SortKeys::default(),
            shown: Vec::new(),
            free: Vec::new(),
            arrivals: 0,
            live: 0,
            ttl: TimeToLive::new(config.ttl_ms),
            slots: Vec::new(),
            config,
        })
    }

    fn of_order(&self, columns: &[ArrayRef], rows: usize) -> Result<BatchKeys> {
        let order: Vec<ArrayRef> = self.config.order.iter().map(|o| Arc::clone(&columns[o.column])).collect();
        self.encoder.encode(&order, rows)
    }

    /// Slots of the partitions of rows.
    fn intern(&mut self, columns: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
        let keys: Vec<ArrayRef> = self.config.partition.iter().map(|c| Arc::clone(&columns[*c])).collect();
        let mut slots = std::mem::take(&mut self.slots);
        self.directory.intern(&keys, rows, &mut slots)?;
        let capacity = self.directory.capacity().max(self.partitions.len());
        self.partitions.resize_with(capacity, Partition::default);
        Ok(slots)
    }

    fn new_id(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.shown.push(false);
            (self.shown.len() - 1) as u32
        })
    }

    /// Takes a bundle into the partitions; gives those that it touches.
    fn take(&mut self, batch: &ChangeBatch) -> Result<Vec<u32>> {
        let (columns, rows) = (batch.rows.columns(), batch.num_rows());
        let slots = self.intern(columns, rows)?;
        let order = self.of_order(columns, rows)?;
        let source = self.store.source(columns)?;
        let mut touched = Vec::new();
        for (row, slot) in slots.iter().enumerate() {
            if let Some(ttl) = &mut self.ttl {
                ttl.touch(*slot);
            }
            if !std::mem::replace(&mut self.partitions[*slot as usize].touched, true) {
                touched.push(*slot);
            }
            if batch.kind(row).is_retraction() {
                self.take_back(*slot, |store, id| store.is_equal(&source, row, id), &order, row);
                continue;
            }
            let id = self.new_id();
            self.store.put(&[id], &source, &[row as u32]);
            self.keys.put(id, &order, row, self.arrivals);
            self.arrivals += 1;
            self.live += 1;
            let (keys, own) = (&self.keys, &mut self.partitions[*slot as usize].rows);
            // Mostly at the end.
            let at = match own.last() {
                Some(last) if !keys.is_before(*last, id) => {
                    own.partition_point(|other| keys.is_before(*other, id))
                }
                _ => own.len(),
            };
            own.insert(at, id);
        }
        self.slots = slots;
        Ok(touched)
    }

    /// Takes the first row of a partition away that is equal to one of the batch.
    fn take_back(
        &mut self,
        slot: u32,
        is_equal: impl Fn(&RowStore, u32) -> bool,
        order: &BatchKeys,
        row: usize,
    ) {
        let partition = &mut self.partitions[slot as usize];
        let (keys, store) = (&self.keys, &self.store);
        let first = partition.rows.partition_point(|id| keys.compare(order, row, *id).is_gt());
        let ties = partition.rows[first..].iter().take_while(|id| keys.compare(order, row, **id).is_eq());
        let Some(place) = ties.enumerate().find(|(_, id)| is_equal(store, **id)).map(|(i, _)| first + i)
        else {
            return;
        };
        let id = partition.rows.remove(place);
        if self.shown[id as usize] {
            partition.gone.push(id);
        } else {
            self.release(&[id]);
        }
    }

    /// Gives ids back.
    fn release(&mut self, ids: &[u32]) {
        let shown: Vec<u32> =
            ids.iter().copied().filter(|id| std::mem::take(&mut self.shown[*id as usize])).collect();
        self.store.free(ids);
        self.results.free(&shown);
        ids.iter().for_each(|id| self.keys.free(*id));
        self.free.extend_from_slice(ids);
        self.live -= ids.len() as u64;
    }

    /// Computes the partitions and shows what has changed.
    fn show(&mut self, touched: &[u32], out: &mut Output) -> Result<()> {
        let mut empty = Vec::new();
        for slot in touched {
            let mut partition = std::mem::take(&mut self.partitions[*slot as usize]);
            partition.touched = false;
            let gone = std::mem::take(&mut partition.gone);
            self.show_gone(&gone, out)?;
            self.release(&gone);
            self.show_rows(&partition.rows, out)?;
            if partition.rows.is_empty() {
                empty.push(*slot);
            }
            self.partitions[*slot as usize] = partition;
        }
        self.directory.remove(&empty);
        Ok(())
    }

    fn show_gone(&self, gone: &[u32], out: &mut Output) -> Result<()> {
        for part in self.store.cut(gone, PART_ROWS) {
            let ids = &gone[part];
            let mut columns = self.store.gather(ids)?;
            columns.extend(self.results.gather(ids)?);
            self.emit(columns, vec![RowKind::Delete as u8; ids.len()], out)?;
        }
        Ok(())
    }

    /// Results of all functions for the rows of a partition.
    fn compute(&self, ids: &[u32]) -> Result<(Vec<ArrayRef>, Vec<ArrayRef>)> {
        let columns = self.store.gather(ids)?;
        let options = RecordBatchOptions::new().with_row_count(Some(ids.len()));
        let rows = RecordBatch::try_new_with_options(
            Arc::clone(&self.config.input_schema),
            columns.clone(),
            &options,
        )?;
        let results = self.config.functions.iter().map(|f| Ok(f.evaluate(&rows)?)).collect::<Result<_>>()?;
        Ok((columns, results))
    }

    fn show_rows(&mut self, ids: &[u32], out: &mut Output) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let (columns, new) = self.compute(ids)?;
        let source = self.results.source(&new)?;
        let is_other = |(row, id): &(usize, &u32)| {
            !self.shown[**id as usize] || !self.results.is_equal(&source, *row, **id)
        };
        let changed: Vec<(u32, u32)> =
            ids.iter().enumerate().filter(is_other).map(|(row, id)| (row as u32, *id)).collect();
        for part in changed.chunks(PART_ROWS) {
            let before: Vec<u32> =
                part.iter().map(|(_, id)| *id).filter(|id| self.shown[*id as usize]).collect();
            let old = if before.is_empty() { Vec::new() } else { self.results.gather(&before)? };
            let (mut rows, mut places, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
            let mut old_row = 0;
            for (row, id) in part {
                let is_shown = self.shown[*id as usize];
                if is_shown && self.config.emit_update_before {
                    rows.push(*row);
                    places.push((0, old_row));
                    kinds.push(RowKind::UpdateBefore as u8);
                }
                old_row += usize::from(is_shown);
                rows.push(*row);
                places.push((1, *row as usize));
                kinds.push(if is_shown { RowKind::UpdateAfter } else { RowKind::Insert } as u8);
            }
            let of = UInt32Array::from(rows);
            let mut all: Vec<ArrayRef> =
                columns.iter().map(|c| Ok(take(c, &of, None)?)).collect::<Result<_>>()?;
            for (i, new) in new.iter().enumerate() {
                all.push(match old.get(i) {
                    Some(old) => interleave(&[old.as_ref(), new.as_ref()], &places)?,
                    None => take(new, &of, None)?,
                });
            }
            self.emit(all, kinds, out)?;
            let (rows, ids): (Vec<u32>, Vec<u32>) = part.iter().copied().unzip();
            self.results.put(&ids, &source, &rows);
            ids.iter().for_each(|id| self.shown[*id as usize] = true);
        }
        Ok(())
    }

    fn emit(&self, columns: Vec<ArrayRef>, kinds: Vec<u8>, out: &mut Output) -> Result<()> {
        let options = RecordBatchOptions::new().with_row_count(Some(kinds.len()));
        let schema = Arc::clone(&self.config.output_schema);
        let rows = RecordBatch::try_new_with_options(schema, columns, &options)?;
        emit_in_slices(&ChangeBatch::with_kinds(rows, RowKinds::new(kinds)), out);
        Ok(())
    }

    /// Forgets partitions without a word.
    fn forget(&mut self, slots: &[u32]) {
        for slot in slots {
            let partition = std::mem::take(&mut self.partitions[*slot as usize]);
            self.release(&partition.rows);
        }
        self.directory.remove(slots);
    }
}

impl Operator for UpdatingOverOperator {
    fn name(&self) -> &'static str {
        "UpdatingOverAggregate"
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, out: &mut Output) -> Result<Progress> {
        let rows = batch.num_rows();
        let step = self.config.bundle_rows.unwrap_or(rows).clamp(1, rows.max(1));
        let mut from = 0;
        while from < rows {
            let mut to = (from + step).min(rows);
            // Halves of an update stay together.
            if to < rows && batch.holds_next(to - 1) {
                to += 1;
            }
            let touched = self.take(&batch.slice(from, to - from))?;
            self.show(&touched, out)?;
            from = to;
        }
        Ok(Progress::Done)
    }

    fn on_timer(&mut self, now: Timestamp, _out: &mut Output) -> Result<Progress> {
        if let Some(ttl) = &mut self.ttl {
            let directory = &self.directory;
            let expired = ttl.expired(now, || directory.slots());
            self.forget(&expired);
        }
        Ok(Progress::Done)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        self.ttl.as_ref().map(TimeToLive::next_timer)
    }

    fn spillable(&self) -> Spillable {
        Spillable::Timeless
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        let written = self.directory.to_write(writer.mode())?;
        let key: Vec<usize> = (0..self.config.partition.len()).collect();
        self.directory.void(writer, ROWS, (&key, key.len()), &written, |_| true)?;
        for slot in &written.slots {
            let ids = &self.partitions[*slot as usize].rows;
            for part in self.store.cut(ids, PART_ROWS) {
                let ids = &ids[part];
                let one = self.directory.keys(&[*slot])?;
                let first = UInt32Array::from(vec![0; ids.len()]);
                let mut columns: Vec<ArrayRef> =
                    one.iter().map(|k| Ok(take(k, &first, None)?)).collect::<Result<_>>()?;
                columns.extend(self.store.gather(ids)?);
                columns.extend(self.results.gather(ids)?);
                columns.push(Arc::new(
                    ids.iter().map(|id| self.keys.arrival(*id) as i64).collect::<Int64Array>(),
                ));
                let shown: Vec<bool> = ids.iter().map(|id| self.shown[*id as usize]).collect();
                columns.push(Arc::new(BooleanArray::from(shown)));
                let groups = self.directory.key_groups(&vec![*slot; ids.len()]);
                writer.increment(ROWS, anonymous(columns, ids.len())?, groups, &key)?;
            }
        }
        Ok(())
    }

    fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        let broken = || Error::internal("the state of an OVER window has other columns than it should");
        let (input, results) = self.config.types();
        let keys = self.config.partition.len();
        for batch in reader.table(ROWS)? {
            let rows = batch.num_rows();
            let (_, rest) = batch.columns().split_at_checked(keys).ok_or_else(broken)?;
            let (columns, rest) = rest.split_at_checked(input.len()).ok_or_else(broken)?;
            let (shown, rest) = rest.split_at_checked(results.len()).ok_or_else(broken)?;
            let [arrivals, is_shown] = rest else { return Err(broken()) };
            let arrivals = arrivals.as_primitive_opt::<Int64Type>().ok_or_else(broken)?;
            let is_shown = is_shown.as_boolean_opt().ok_or_else(broken)?;
            let slots = self.intern(columns, rows)?;
            let order = self.of_order(columns, rows)?;
            let (source, of_results) = (self.store.source(columns)?, self.results.source(shown)?);
            for (row, slot) in slots.iter().enumerate() {
                let id = self.new_id();
                self.store.put(&[id], &source, &[row as u32]);
                let arrival = arrivals.value(row) as u64;
                self.arrivals = self.arrivals.max(arrival + 1);
                self.keys.put(id, &order, row, arrival);
                if is_shown.value(row) {
                    self.results.put(&[id], &of_results, &[row as u32]);
                    self.shown[id as usize] = true;
                }
                self.live += 1;
                self.partitions[*slot as usize].rows.push(id);
            }
            self.slots = slots;
        }
        let keys = &self.keys;
        for partition in &mut self.partitions {
            partition.rows.sort_by(|a, b| {
                if a == b {
                    std::cmp::Ordering::Equal
                } else if keys.is_before(*a, *b) {
                    std::cmp::Ordering::Less
                } else {
                    std::cmp::Ordering::Greater
                }
            });
        }
        Ok(())
    }

    fn metrics(&self) -> OperatorMetrics {
        let lists: usize =
            self.partitions.iter().map(|p| size_of::<Partition>() + p.rows.capacity() * 4).sum();
        OperatorMetrics {
            state_entries: self.live,
            state_bytes: (self.directory.size()
                + self.store.size()
                + self.results.size()
                + self.keys.size()
                + lists
                + self.ttl.as_ref().map_or(0, TimeToLive::size)) as u64,
            ..OperatorMetrics::default()
        }
    }
}

#[cfg(test)]
mod tests;

//! What operators with one row per key share: that row in state, where a bundle ends, how its changes become a batch.
//!
//! ```text
//!  batch ─► key columns ─► slots ─► row of each key, when it was last written
//! ```
//!
//! | snapshot table | columns |
//! |---|---|
//! | `rows` | the key if it is no part of the row, the columns kept, the operator's own, with a TTL the last write |

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{interleave, take};
use arrow::datatypes::{Field, Int64Type, Schema, SchemaRef};

use crate::error::{Error, Result};
use crate::operators::emit::emit_in_slices;
use crate::runtime::operator::{OperatorMetrics, Output};
use crate::state::row_store::SourceRows;
use crate::state::ttl::TimeToLive;
use crate::state::{GroupDirectory, RowStore};
use crate::stream::bytes::cut;
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};
use crate::stream::{BATCH_BYTES, ChangeBatch, RowKind, RowKinds, Timestamp};

const ROWS: &str = "rows";

/// Rows of one part of a snapshot.
pub(crate) const PART_ROWS: usize = 32_768;

/// State columns, named by position.
pub(crate) fn anonymous(columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let fields: Vec<Field> = columns
        .iter()
        .enumerate()
        .map(|(i, c)| Field::new(format!("c{i}"), c.data_type().clone(), true))
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
}

/// One row of every key, and when it was last written.
pub(crate) struct KeyedRows {
    /// Whose state it is, for errors.
    owner: &'static str,
    directory: GroupDirectory,
    /// By slot.
    rows: RowStore,
    /// By slot: whether there is a row.
    occupied: Vec<bool>,
    ttl: Option<TimeToLive>,
    /// Key columns of the input.
    keys: Vec<usize>,
    /// Input columns that are kept.
    kept: Vec<usize>,
    /// Whether the rows kept have the key columns, so that a snapshot needs them no second time.
    is_whole: bool,
}

/// What a batch of a snapshot restored.
pub(crate) struct RestoredRows {
    pub(crate) slots: Vec<u32>,
    /// The columns kept.
    pub(crate) rows: Vec<ArrayRef>,
    /// The operator's own columns.
    pub(crate) more: Vec<ArrayRef>,
}

impl KeyedRows {
    /// Keeps the columns `kept` of the input by its columns `keys`.
    pub(crate) fn new(
        owner: &'static str,
        input: &SchemaRef,
        keys: &[usize],
        kept: Vec<usize>,
        ttl_ms: Option<i64>,
    ) -> Result<Self> {
        let types = |of: &[usize]| of.iter().map(|c| input.field(*c).data_type().clone()).collect::<Vec<_>>();
        Ok(KeyedRows {
            owner,
            directory: GroupDirectory::new(&types(keys))?,
            rows: RowStore::new(&types(&kept))?,
            occupied: Vec::new(),
            ttl: TimeToLive::new(ttl_ms),
            keys: keys.to_vec(),
            kept,
            is_whole: false,
        })
    }

    /// Keeps whole rows of the input by its columns `keys`.
    pub(crate) fn whole(
        owner: &'static str,
        input: &SchemaRef,
        keys: &[usize],
        ttl_ms: Option<i64>,
    ) -> Result<Self> {
        let all = (0..input.fields().len()).collect();
        Ok(KeyedRows { is_whole: true, ..KeyedRows::new(owner, input, keys, all, ttl_ms)? })
    }

    /// The slots of the keys of some input rows, new ones for new keys.
    pub(crate) fn slots(&mut self, input: &[ArrayRef], rows: usize, slots: &mut Vec<u32>) -> Result<()> {
        let keys: Vec<ArrayRef> = self.keys.iter().map(|c| Arc::clone(&input[*c])).collect();
        self.intern(&keys, rows, slots)
    }

    fn intern(&mut self, keys: &[ArrayRef], rows: usize, slots: &mut Vec<u32>) -> Result<()> {
        self.directory.intern(keys, rows, slots)?;
        let capacity = self.directory.capacity();
        if capacity > self.occupied.len() {
            self.occupied.resize(capacity, false);
        }
        Ok(())
    }

    /// Slots that the directory has given out: how long a vector by slot has to be.
    pub(crate) fn capacity(&self) -> usize {
        self.occupied.len()
    }

    /// Whether there is a row.
    #[inline]
    pub(crate) fn has(&self, slot: u32) -> bool {
        self.occupied[slot as usize]
    }

    /// Whether rows have a time to live.
    pub(crate) fn expires(&self) -> bool {
        self.ttl.is_some()
    }

    /// Input rows, to be compared and put.
    pub(crate) fn source(&self, input: &[ArrayRef]) -> Result<SourceRows> {
        let kept: Vec<ArrayRef> = self.kept.iter().map(|c| Arc::clone(&input[*c])).collect();
        self.rows.source(&kept)
    }

    /// Where an input column lies among the kept ones, which are ascending.
    pub(crate) fn place_of(&self, column: usize) -> Result<usize> {
        self.kept
            .binary_search(&column)
            .map_err(|_| Error::internal(format!("the state of {}: column {column} is not kept", self.owner)))
    }

    /// Whether an input row is the one of a slot.
    pub(crate) fn is_equal(&self, source: &SourceRows, row: usize, slot: u32) -> bool {
        self.rows.is_equal(source, row, slot)
    }

    /// Bytes of the row of a slot, if it has one.
    pub(crate) fn row_bytes(&self, slot: u32) -> usize {
        if self.has(slot) { self.rows.row_bytes(slot) } else { 0 }
    }

    /// Cuts slots into runs whose rows make a batch.
    pub(crate) fn cut(&self, slots: &[u32], rows: usize) -> Vec<Range<usize>> {
        self.rows.cut(slots, rows)
    }

    /// The kept columns of the rows of some slots.
    pub(crate) fn gather(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        if slots.is_empty() { Ok(Vec::new()) } else { self.rows.gather(slots) }
    }

    /// Writes rows: `rows` of the source to `slots`.
    pub(crate) fn put(&mut self, slots: &[u32], source: &SourceRows, rows: &[u32]) {
        self.store(slots, source, rows);
        if let Some(ttl) = &mut self.ttl {
            slots.iter().for_each(|slot| ttl.touch(*slot));
        }
    }

    fn store(&mut self, slots: &[u32], source: &SourceRows, rows: &[u32]) {
        self.rows.put(slots, source, rows);
        slots.iter().for_each(|slot| self.occupied[*slot as usize] = true);
    }

    /// Frees the columns of rows that nobody reads again; that they are there is still known.
    pub(crate) fn free_columns(&mut self, slots: &[u32]) {
        self.rows.free(slots);
    }

    /// Takes rows away; their keys stay until [`KeyedRows::forget`].
    pub(crate) fn remove(&mut self, slots: &[u32]) {
        self.rows.free(slots);
        slots.iter().for_each(|slot| self.occupied[*slot as usize] = false);
    }

    /// Gives back slots without a row.
    pub(crate) fn forget(&mut self, slots: &[u32]) {
        self.directory.remove(slots);
    }

    /// Gives back those of the slots of a batch that have no row.
    pub(crate) fn forget_empty(&mut self, slots: &[u32]) {
        let mut empty: Vec<u32> = slots.iter().copied().filter(|slot| !self.has(*slot)).collect();
        empty.sort_unstable();
        empty.dedup();
        self.forget(&empty);
    }

    /// Notes that the operator's own state of some keys changes; what is put or taken away is noted anyway.
    pub(crate) fn touch(&mut self, slots: &[u32]) {
        self.directory.touch(slots);
    }

    /// Slots with a row.
    fn live(&self) -> Vec<u32> {
        let mut slots = self.directory.slots();
        slots.retain(|slot| self.has(*slot));
        slots
    }

    /// Takes away the rows that have outlived their time and gives their slots, which stay until [`KeyedRows::forget`].
    pub(crate) fn expire(&mut self, now: Timestamp) -> Vec<u32> {
        let Some(mut ttl) = self.ttl.take() else { return Vec::new() };
        let expired = ttl.expired(now, || self.live());
        self.ttl = Some(ttl);
        self.remove(&expired);
        expired
    }

    /// When to call [`KeyedRows::expire`].
    pub(crate) fn next_timer(&self) -> Option<Timestamp> {
        self.ttl.as_ref().map(TimeToLive::next_timer)
    }

    /// Writes all rows, or those that have changed, with the operator's own columns for some slots.
    pub(crate) fn snapshot(
        &mut self,
        writer: &mut SnapshotWriter,
        more: impl Fn(&[u32]) -> Vec<ArrayRef>,
    ) -> Result<()> {
        let written = self.directory.to_write(writer.mode())?;
        let key = if self.is_whole { self.keys.clone() } else { (0..self.keys.len()).collect() };
        self.directory.void(writer, ROWS, (&key, key.len()), &written, |slot| self.has(slot))?;
        let live: Vec<u32> = written.slots.iter().copied().filter(|slot| self.has(*slot)).collect();
        for run in self.rows.cut(&live, PART_ROWS) {
            let slots = &live[run];
            let mut columns = if self.is_whole { Vec::new() } else { self.directory.keys(slots)? };
            columns.extend(self.rows.gather(slots)?);
            columns.extend(more(slots));
            if let Some(ttl) = &self.ttl {
                columns.push(Arc::new(slots.iter().map(|s| ttl.written(*s)).collect::<Int64Array>()));
            }
            let rows = anonymous(columns, slots.len())?;
            writer.increment(ROWS, rows, self.directory.key_groups(slots), &key)?;
        }
        Ok(())
    }

    /// Writes a table of its own with a row for each of the slots.
    pub(crate) fn write(
        &self,
        writer: &mut SnapshotWriter,
        table: &str,
        columns: Vec<ArrayRef>,
        slots: &[u32],
    ) -> Result<()> {
        writer.keyed(table, anonymous(columns, slots.len())?, self.directory.key_groups(slots))
    }

    /// Loads the rows of a snapshot, which have `more` columns of the operator's own; gives them batch by batch.
    pub(crate) fn restore(
        &mut self,
        reader: &SnapshotReader,
        more: usize,
        mut restored: impl FnMut(&Self, RestoredRows) -> Result<()>,
    ) -> Result<()> {
        for batch in reader.table(ROWS)? {
            let n = batch.num_rows();
            let width = if self.is_whole { 0 } else { self.keys.len() };
            let (keys, columns) = batch.columns().split_at_checked(width).ok_or_else(|| self.broken())?;
            let (rows, rest) = columns.split_at_checked(self.kept.len()).ok_or_else(|| self.broken())?;
            let (more, rest) = rest.split_at_checked(more).ok_or_else(|| self.broken())?;
            let mut slots = Vec::new();
            if self.is_whole {
                self.slots(rows, n, &mut slots)?;
            } else {
                self.intern(keys, n, &mut slots)?;
            }
            let source = self.rows.source(rows)?;
            self.store(&slots, &source, &(0..n as u32).collect::<Vec<_>>());
            if let (Some(ttl), Some(written)) =
                (&mut self.ttl, rest.first().and_then(|c| c.as_primitive_opt::<Int64Type>()))
            {
                slots.iter().zip(written.values()).for_each(|(s, w)| ttl.set(*s, *w));
            }
            restored(self, RestoredRows { slots, rows: rows.to_vec(), more: more.to_vec() })?;
        }
        Ok(())
    }

    /// The error for a snapshot of something else.
    pub(crate) fn broken(&self) -> Error {
        Error::internal(format!("the state of {} has other columns than it should", self.owner))
    }

    /// The metrics of an operator that holds `more` bytes beside these.
    pub(crate) fn metrics(&self, more: usize) -> OperatorMetrics {
        let bytes = self.directory.size()
            + self.rows.size()
            + self.occupied.capacity()
            + self.ttl.as_ref().map_or(0, TimeToLive::size)
            + more;
        OperatorMetrics {
            state_entries: self.directory.len() as u64,
            state_bytes: bytes as u64,
            ..OperatorMetrics::default()
        }
    }
}

/// Finds the ends of bundles.
#[derive(Debug, Default)]
pub(crate) struct Bundles {
    /// By slot; all false between calls.
    seen: Vec<bool>,
}

impl Bundles {
    /// Where the bundle that starts at row `from` ends. Row by row: as long as no key comes twice, a run of rows is as
    /// good as one row after the other.
    pub(crate) fn end(&mut self, slots: &[u32], from: usize, bundle_rows: Option<usize>) -> usize {
        match bundle_rows {
            None => slots.len(),
            Some(1) => {
                let mut to = from;
                while let Some(slot) = slots.get(to).map(|s| *s as usize) {
                    if slot >= self.seen.len() {
                        self.seen.resize(slot + 1, false);
                    }
                    if std::mem::replace(&mut self.seen[slot], true) {
                        break;
                    }
                    to += 1;
                }
                slots[from..to].iter().for_each(|s| self.seen[*s as usize] = false);
                to
            }
            Some(rows) => slots.len().min(from.saturating_add(rows)),
        }
    }
}

/// Changes in order: rows of the batch at hand (0) and of the old rows read from state (1).
#[derive(Debug, Default)]
pub(crate) struct RowChanges {
    picks: Vec<(usize, usize)>,
    pub(crate) kinds: Vec<u8>,
}

impl RowChanges {
    /// A row of the batch.
    pub(crate) fn new_row(&mut self, row: u32, kind: RowKind) {
        self.picks.push((0, row as usize));
        self.kinds.push(kind as u8);
    }

    /// An old row.
    pub(crate) fn old_row(&mut self, row: usize, kind: RowKind) {
        self.picks.push((1, row));
        self.kinds.push(kind as u8);
    }

    /// One column of the changes.
    pub(crate) fn column(&self, new: &ArrayRef, old: Option<&ArrayRef>) -> Result<ArrayRef> {
        Ok(match old {
            Some(old) if !old.is_empty() => interleave(&[new.as_ref(), old.as_ref()], &self.picks)?,
            _ => {
                let rows: UInt32Array = self.picks.iter().map(|(_, row)| *row as u32).collect();
                take(new, &rows, None)?
            }
        })
    }

    /// The changes in parts that make a batch each, an update always whole, with the slots of their old rows. `old` are
    /// all of these.
    pub(crate) fn parts(self, rows: &KeyedRows, old: Vec<u32>) -> Vec<(RowChanges, Vec<u32>)> {
        if rows.rows.are_few_bytes(old.len()) {
            return vec![(self, old)];
        }
        // New rows are those of a batch, which is small enough.
        let bytes = |(side, row): &(usize, usize)| if *side == 0 { 0 } else { rows.row_bytes(old[*row]) };
        let widths: Vec<usize> = self.picks.iter().map(bytes).collect();
        let joined = |row: usize| self.kinds[row] == RowKind::UpdateBefore as u8;
        let part = |run: Range<usize>| {
            let mut slots = Vec::new();
            let pick = |(side, row): &(usize, usize)| {
                if *side == 0 {
                    return (0, *row);
                }
                slots.push(old[*row]);
                (1, slots.len() - 1)
            };
            let picks = self.picks[run.clone()].iter().map(pick).collect();
            (RowChanges { picks, kinds: self.kinds[run].to_vec() }, slots)
        };
        cut(&widths, BATCH_BYTES, joined).into_iter().map(part).collect()
    }

    /// Sends changes of whole rows.
    pub(crate) fn emit(
        self,
        new: &RecordBatch,
        old: &[ArrayRef],
        schema: &SchemaRef,
        out: &mut Output,
    ) -> Result<()> {
        if self.kinds.is_empty() {
            return Ok(());
        }
        let columns = new
            .columns()
            .iter()
            .enumerate()
            .map(|(i, new)| self.column(new, old.get(i)))
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.kinds.len()));
        let rows = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?;
        emit_in_slices(&ChangeBatch::with_kinds(rows, RowKinds::new(self.kinds)), out);
        Ok(())
    }
}

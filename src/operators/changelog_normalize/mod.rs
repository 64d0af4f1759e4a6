//! Turns an upsert stream into a full changelog: behind sources that tell only the new row of a key.
//!
//! ```text
//!  +I/+U row, -D key ─► keys (slots) ─► last row of each key in the bundle ─┐
//!                                             the row kept ─────────────────┴─► +I / -U +U / nothing / -D whole row
//! ```
//!
//! | state | dropped |
//! |---|---|
//! | key → its row | when the key is deleted; with a TTL, keys not written for that long |
//!
//! Input: upserts by key, where `-D` may carry the key alone and a first row may be `+U`. Output: a full changelog. An
//! update that changes nothing is dropped (unless a TTL has to be renewed, as in Flink), and so is the delete of a key that
//! is not there. A bundle (one input batch by default) folds the changes of a key; bundles of one row give Flink's
//! changelog row by row. Watermarks pass; a barrier finds no open bundle and writes a row per key.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Int64Type, SchemaRef};

use crate::error::{Error, Result};
use crate::operators::keyed_rows::{Bundles, PART_ROWS, RowChanges, anonymous};
use crate::operators::top_n::emit_in_slices;
use crate::runtime::operator::{Operator, OperatorMetrics, Output, Progress};
use crate::state::row_store::SourceRows;
use crate::state::ttl::TimeToLive;
use crate::state::{GroupDirectory, NO_SLOT, RowStore};
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};
use crate::stream::{ChangeBatch, RowKind, RowKinds, Timestamp};

const ROWS: &str = "rows";

/// An upsert stream by key.
#[derive(Debug, Clone)]
pub struct ChangelogNormalizeConfig {
    /// Columns in and out.
    pub schema: SchemaRef,
    /// Key columns.
    pub keys: Vec<usize>,
    /// Whether a consumer needs `-U` before `+U`.
    pub emit_update_before: bool,
    /// Input rows per bundle. `None`: one input batch.
    pub bundle_rows: Option<usize>,
    /// How long an untouched key is kept.
    pub ttl_ms: Option<i64>,
}

/// The operator; see the module.
pub struct ChangelogNormalizeOperator {
    config: ChangelogNormalizeConfig,
    directory: GroupDirectory,
    /// By slot.
    rows: RowStore,
    occupied: Vec<bool>,
    ttl: Option<TimeToLive>,
    /// By slot: last row of the bundle, [`NO_SLOT`] between bundles.
    last: Vec<u32>,
    touched: Vec<u32>,
    bundles: Bundles,
    slots: Vec<u32>,
}

impl std::fmt::Debug for ChangelogNormalizeOperator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChangelogNormalizeOperator").field("config", &self.config).finish_non_exhaustive()
    }
}

impl ChangelogNormalizeOperator {
    /// An instance without rows.
    ///
    /// # Errors
    /// Internal for keys that are no columns; unsupported for columns that cannot be kept.
    pub fn new(config: ChangelogNormalizeConfig) -> Result<Self> {
        let fields = config.schema.fields();
        if config.keys.is_empty() || config.keys.iter().any(|k| *k >= fields.len()) {
            return Err(Error::internal("changelog normalization: there is no key"));
        }
        let keys: Vec<_> = config.keys.iter().map(|k| fields[*k].data_type().clone()).collect();
        let types: Vec<_> = fields.iter().map(|f| f.data_type().clone()).collect();
        Ok(ChangelogNormalizeOperator {
            directory: GroupDirectory::new(&keys)?,
            rows: RowStore::new(&types)?,
            occupied: Vec::new(),
            ttl: TimeToLive::new(config.ttl_ms),
            last: Vec::new(),
            touched: Vec::new(),
            bundles: Bundles::default(),
            slots: Vec::new(),
            config,
        })
    }

    /// Makes room for all slots that the directory has given out.
    fn grow(&mut self) {
        let slots = self.directory.capacity();
        if slots > self.occupied.len() {
            self.occupied.resize(slots, false);
            self.last.resize(slots, NO_SLOT);
        }
    }

    /// Takes the rows `from..` of a batch, one per slot, as a bundle.
    fn take(
        &mut self,
        batch: &ChangeBatch,
        source: &SourceRows,
        from: usize,
        slots: &[u32],
        out: &mut Output,
    ) -> Result<()> {
        for (i, slot) in slots.iter().enumerate() {
            let last = &mut self.last[*slot as usize];
            if *last == NO_SLOT {
                self.touched.push(*slot);
            }
            *last = (from + i) as u32;
        }
        let mut changes = RowChanges::default();
        let mut old = Vec::new();
        let (mut stored, mut stored_rows, mut deleted) = (Vec::new(), Vec::new(), Vec::new());
        for slot in self.touched.drain(..) {
            let row = std::mem::replace(&mut self.last[slot as usize], NO_SLOT);
            let is_known = self.occupied[slot as usize];
            if batch.kind(row as usize).is_retraction() {
                if is_known {
                    changes.old_row(old.len(), RowKind::Delete);
                    old.push(slot);
                }
                deleted.push(slot);
                continue;
            }
            if let Some(ttl) = &mut self.ttl {
                ttl.touch(slot);
            } else if is_known && self.rows.is_equal(source, row as usize, slot) {
                continue;
            }
            if is_known && self.config.emit_update_before {
                changes.old_row(old.len(), RowKind::UpdateBefore);
                old.push(slot);
            }
            changes.new_row(row, if is_known { RowKind::UpdateAfter } else { RowKind::Insert });
            stored.push(slot);
            stored_rows.push(row);
        }
        if !changes.kinds.is_empty() {
            let old = if old.is_empty() { Vec::new() } else { self.rows.gather(&old)? };
            let columns = batch
                .rows
                .columns()
                .iter()
                .enumerate()
                .map(|(i, new)| changes.column(new, old.get(i)))
                .collect::<Result<Vec<_>>>()?;
            let options = RecordBatchOptions::new().with_row_count(Some(changes.kinds.len()));
            let rows = RecordBatch::try_new_with_options(Arc::clone(&self.config.schema), columns, &options)?;
            emit_in_slices(&ChangeBatch::with_kinds(rows, RowKinds::new(changes.kinds)), out);
        }
        self.rows.put(&stored, source, &stored_rows);
        stored.iter().for_each(|s| self.occupied[*s as usize] = true);
        self.rows.free(&deleted);
        deleted.iter().for_each(|s| self.occupied[*s as usize] = false);
        Ok(())
    }
}

impl Operator for ChangelogNormalizeOperator {
    fn name(&self) -> &'static str {
        "ChangelogNormalize"
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, out: &mut Output) -> Result<Progress> {
        let columns = batch.rows.columns();
        let keys: Vec<ArrayRef> = self.config.keys.iter().map(|k| Arc::clone(&columns[*k])).collect();
        let mut slots = std::mem::take(&mut self.slots);
        self.directory.intern(&keys, batch.num_rows(), &mut slots)?;
        self.grow();
        let source = self.rows.source(columns)?;
        let mut from = 0;
        while from < slots.len() {
            let to = self.bundles.end(&slots, from, self.config.bundle_rows);
            self.take(&batch, &source, from, &slots[from..to], out)?;
            from = to;
        }
        let mut unknown: Vec<u32> = slots.iter().copied().filter(|s| !self.occupied[*s as usize]).collect();
        unknown.sort_unstable();
        unknown.dedup();
        self.directory.remove(&unknown);
        self.slots = slots;
        Ok(Progress::Done)
    }

    fn on_timer(&mut self, now: Timestamp, _out: &mut Output) -> Result<Progress> {
        if let Some(ttl) = &mut self.ttl {
            let expired = ttl.expired(now, &self.directory.slots());
            if !expired.is_empty() {
                expired.iter().for_each(|s| self.occupied[*s as usize] = false);
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
        true
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        for slots in self.directory.slots().chunks(PART_ROWS) {
            let mut columns = self.rows.gather(slots)?;
            if let Some(ttl) = &self.ttl {
                columns.push(Arc::new(slots.iter().map(|s| ttl.written(*s)).collect::<Int64Array>()));
            }
            writer.keyed(ROWS, anonymous(columns, slots.len())?, self.directory.key_groups(slots))?;
        }
        Ok(())
    }

    fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        let width = self.config.schema.fields().len();
        for batch in reader.table(ROWS)? {
            let n = batch.num_rows();
            let Some((columns, rest)) = batch.columns().split_at_checked(width) else {
                return Err(Error::internal("the state of a normalization has other columns than it should"));
            };
            let keys: Vec<ArrayRef> = self.config.keys.iter().map(|k| Arc::clone(&columns[*k])).collect();
            let mut slots = Vec::new();
            self.directory.intern(&keys, n, &mut slots)?;
            self.grow();
            let source = self.rows.source(columns)?;
            self.rows.put(&slots, &source, &(0..n as u32).collect::<Vec<_>>());
            slots.iter().for_each(|s| self.occupied[*s as usize] = true);
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
            + self.rows.size()
            + self.occupied.capacity()
            + self.last.capacity() * 4
            + self.ttl.as_ref().map_or(0, TimeToLive::size);
        OperatorMetrics {
            late_rows_dropped: 0,
            state_entries: self.directory.len() as u64,
            state_bytes: bytes as u64,
        }
    }
}

#[cfg(test)]
mod tests;

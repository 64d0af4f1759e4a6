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

use arrow::datatypes::SchemaRef;

use crate::error::{Error, Result};
use crate::operators::keyed_rows::{Bundles, KeyedRows, RowChanges};
use crate::runtime::operator::{Operator, OperatorMetrics, Output, Progress, Spillable};
use crate::state::NO_SLOT;
use crate::state::row_store::SourceRows;
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};
use crate::stream::{ChangeBatch, RowKind, Timestamp};

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
    rows: KeyedRows,
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
        Ok(ChangelogNormalizeOperator {
            rows: KeyedRows::whole("a normalization", &config.schema, &config.keys, config.ttl_ms)?,
            last: Vec::new(),
            touched: Vec::new(),
            bundles: Bundles::default(),
            slots: Vec::new(),
            config,
        })
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
            let is_known = self.rows.has(slot);
            if batch.kind(row as usize).is_retraction() {
                if is_known {
                    changes.old_row(old.len(), RowKind::Delete);
                    old.push(slot);
                }
                deleted.push(slot);
                continue;
            }
            if is_known && !self.rows.expires() && self.rows.is_equal(source, row as usize, slot) {
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
        for (changes, old) in changes.parts(&self.rows, old) {
            changes.emit(&batch.rows, &self.rows.gather(&old)?, &self.config.schema, out)?;
        }
        self.rows.put(&stored, source, &stored_rows);
        self.rows.remove(&deleted);
        Ok(())
    }
}

impl Operator for ChangelogNormalizeOperator {
    fn name(&self) -> &'static str {
        "ChangelogNormalize"
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, out: &mut Output) -> Result<Progress> {
        let columns = batch.rows.columns();
        let mut slots = std::mem::take(&mut self.slots);
        self.rows.slots(columns, batch.num_rows(), &mut slots)?;
        self.last.resize(self.rows.capacity(), NO_SLOT);
        let source = self.rows.source(columns)?;
        let mut from = 0;
        while from < slots.len() {
            let to = self.bundles.end(&slots, from, self.config.bundle_rows);
            self.take(&batch, &source, from, &slots[from..to], out)?;
            from = to;
        }
        self.rows.forget_empty(&slots);
        self.slots = slots;
        Ok(Progress::Done)
    }

    fn on_timer(&mut self, now: Timestamp, _out: &mut Output) -> Result<Progress> {
        let expired = self.rows.expire(now);
        self.rows.forget(&expired);
        Ok(Progress::Done)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        self.rows.next_timer()
    }

    fn spillable(&self) -> Spillable {
        Spillable::Timeless
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        self.rows.snapshot(writer, |_| Vec::new())
    }

    fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        self.rows.restore(reader, 0, |_, _| Ok(()))?;
        self.last.resize(self.rows.capacity(), NO_SLOT);
        Ok(())
    }

    fn metrics(&self) -> OperatorMetrics {
        self.rows.metrics(self.last.capacity() * 4)
    }
}

#[cfg(test)]
mod tests;

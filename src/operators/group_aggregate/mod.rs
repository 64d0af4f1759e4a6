//! Updating aggregates: `GROUP BY` without windows, and global aggregates.
//!
//! ```text
//!  batch ─► keys, arguments, filters ─► slots ─► remember results of touched groups ─► update states
//!                                                                                          │ end of bundle
//!                                        +I / -U +U / -D of groups that changed ◄──────────┘
//! ```
//!
//! | state | dropped |
//! |---|---|
//! | key → row count, state of each call (`table`) | when retractions bring the row count to 0; unchanged for the TTL |
//!
//! Input: append-only, or any changelog when the configuration says so. Output: `+I` for a new group, `-U`/`+U` where
//! the result changed, `-D` when the last row is gone. A bundle (one input batch by default) folds the changes of a
//! group into one; with bundles of one row the output is Flink's changelog row by row. A retraction for a group that
//! does not exist is ignored. Watermarks pass; a barrier finds no open bundle and writes all groups.

mod at_end;
mod bundle;
mod call;
mod config;
mod dictionary;
pub(crate) mod distinct;
mod exprs;
mod local;
mod merging;
mod planner;
mod running;
mod states;
mod table;
mod ttl;

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;

use crate::error::{Error, Result};
use crate::operators::emit::emit_in_slices;
use crate::runtime::operator::{Operator, OperatorMetrics, Output, Progress, Spillable};
use crate::stream::bytes::batch_bytes;
use crate::stream::key_group::{KeyGroup, KeyGroupRange};
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};
use crate::stream::{BATCH_BYTES, ChangeBatch, RowKind, RowKinds, Timestamp};
pub use at_end::FinalGroupAggregateOperator;
use bundle::{Bundle, Changes};
pub use call::AggregateCall;
pub(crate) use call::evaluate_all;
pub use config::{GroupAggregateConfig, GroupOutput};
pub(crate) use exprs::Evaluated;
pub use local::LocalGroupAggregateOperator;
pub(crate) use table::AggregateTable;
use ttl::Expiry;

/// The operator; see the module.
pub struct GroupAggregateOperator {
    config: GroupAggregateConfig,
    range: KeyGroupRange,
    table: AggregateTable,
    expiry: Option<Expiry>,
    bundle: Bundle,
    /// Input rows of the open bundle.
    bundle_rows: usize,
    /// Slots whose row count fell to 0 since their states were last cleaned.
    emptied: Vec<u32>,
    /// Whether a slot is in `emptied`.
    is_emptied: Vec<bool>,
    /// Slots to give back if they are still without rows when no row at hand names them any more.
    idle: Vec<u32>,
    slots: Vec<u32>,
    signs: Vec<i8>,
}

impl std::fmt::Debug for GroupAggregateOperator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupAggregateOperator").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Changes of one bundle, not yet cut into batches.
type Piece = (RecordBatch, Vec<u8>);

impl GroupAggregateOperator {
    /// An instance that owns the key groups `range`.
    ///
    /// # Errors
    /// What [`GroupAggregateConfig::validate`] finds; unsupported for an aggregate that cannot take rows back over
    /// updating input.
    pub fn new(config: GroupAggregateConfig, range: KeyGroupRange) -> Result<Self> {
        config.validate()?;
        let mut table = config.table()?;
        let expiry = config.ttl_ms.map(Expiry::new);
        table.changed = expiry.as_ref().map(|_| Vec::new());
        Ok(GroupAggregateOperator {
            expiry,
            config,
            range,
            table,
            bundle: Bundle::default(),
            bundle_rows: 0,
            emptied: Vec::new(),
            is_emptied: Vec::new(),
            idle: Vec::new(),
            slots: Vec::new(),
            signs: Vec::new(),
        })
    }

    /// Takes rows into the open bundle.
    fn apply(&mut self, batch: &Evaluated, slots: &[u32], signs: Option<&[i8]>) -> Result<()> {
        self.bundle.touch(&self.table, slots)?;
        let Some(signs) = signs else {
            slots.iter().for_each(|s| self.table.rows[*s as usize] += 1);
            return self.table.update(batch, slots, None);
        };
        self.is_emptied.resize(self.table.rows.len(), false);
        // Rows from `from` on are counted but not yet in the states; `kept` are those not ignored.
        let mut kept: Vec<u32> = Vec::with_capacity(slots.len());
        for (row, (slot, sign)) in slots.iter().zip(signs).enumerate() {
            let at = *slot as usize;
            if *sign > 0 {
                if self.table.rows[at] == 0 && self.is_emptied[at] {
                    // The group died and comes back within the bundle: Flink starts it anew.
                    self.update_kept(batch, slots, signs, &kept)?;
                    kept.clear();
                    self.clean_emptied();
                }
                self.table.rows[at] += 1;
            } else {
                if self.table.rows[at] == 0 {
                    self.idle.push(*slot);
                    continue;
                }
                self.table.rows[at] -= 1;
                if self.table.rows[at] == 0 && !self.is_emptied[at] {
                    self.is_emptied[at] = true;
                    self.emptied.push(*slot);
                }
            }
            kept.push(row as u32);
        }
        self.update_kept(batch, slots, signs, &kept)
    }

    fn update_kept(&mut self, batch: &Evaluated, slots: &[u32], signs: &[i8], kept: &[u32]) -> Result<()> {
        if kept.len() == slots.len() {
            return self.table.update(batch, slots, Some(signs));
        }
        if kept.is_empty() {
            return Ok(());
        }
        let slots: Vec<u32> = kept.iter().map(|r| slots[*r as usize]).collect();
        let signs: Vec<i8> = kept.iter().map(|r| signs[*r as usize]).collect();
        self.table.update(&batch.take(kept)?, &slots, Some(&signs))
    }

    /// Takes partial results: keys, row count, states.
    fn take_partials(&mut self, batch: &RecordBatch, pieces: &mut Vec<Piece>) -> Result<()> {
        let broken =
            || Error::internal("partial results of an aggregate have other columns than they should");
        let width = self.config.keys.len();
        let (keys, rest) = batch.columns().split_at_checked(width).ok_or_else(broken)?;
        let (counts, states) = rest.split_first().ok_or_else(broken)?;
        let counts: &Int64Array = counts.as_any().downcast_ref().ok_or_else(broken)?;
        let mut slots = std::mem::take(&mut self.slots);
        self.table.directory.intern(keys, batch.num_rows(), &mut slots)?;
        self.table.grow();
        self.stamp(&slots);
        self.bundle.touch(&self.table, &slots)?;
        self.table.merge(&slots, states)?;
        self.is_emptied.resize(self.table.rows.len(), false);
        for (slot, by) in slots.iter().zip(counts.values()) {
            let rows = &mut self.table.rows[*slot as usize];
            // Fewer than none: rows were taken back that never came.
            *rows = (*rows + by).max(0);
            if *rows == 0 && !self.is_emptied[*slot as usize] {
                self.is_emptied[*slot as usize] = true;
                self.emptied.push(*slot);
            }
        }
        self.slots = slots;
        self.bundle_rows += batch.num_rows();
        if self.config.bundle_rows.is_none_or(|size| self.bundle_rows >= size) {
            self.close_bundle(pieces)?;
        }
        self.forget_idle();
        Ok(())
    }

    fn stamp(&mut self, slots: &[u32]) {
        if let (Some(expiry), Some(changed)) = (&self.expiry, &mut self.table.changed) {
            slots.iter().for_each(|s| changed[*s as usize] = expiry.now());
        }
    }

    /// Cleans the states of groups that have died.
    fn clean_emptied(&mut self) {
        for slot in &self.emptied {
            self.is_emptied[*slot as usize] = false;
        }
        let dead: Vec<u32> = self.emptied.drain(..).filter(|s| self.table.rows[*s as usize] == 0).collect();
        self.table.clear(&dead);
        self.idle.extend(dead);
    }

    /// Ends the bundle.
    fn close_bundle(&mut self, pieces: &mut Vec<Piece>) -> Result<()> {
        self.bundle_rows = 0;
        if self.bundle.is_empty() {
            return Ok(());
        }
        let changes =
            self.bundle.finish(&self.table, self.config.input_retracts, self.config.emit_update_before)?;
        self.clean_emptied();
        for changes in changes.into_iter().filter(|c| !c.kinds.is_empty()) {
            pieces.push(self.piece(changes)?);
        }
        Ok(())
    }

    fn piece(&self, changes: Changes) -> Result<Piece> {
        let columns = self
            .config
            .output
            .iter()
            .map(|o| {
                Arc::clone(match *o {
                    GroupOutput::Key(i) => &changes.keys[i],
                    GroupOutput::Aggregate(i) => &changes.results[i],
                })
            })
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(changes.kinds.len()));
        let rows =
            RecordBatch::try_new_with_options(Arc::clone(&self.config.output_schema), columns, &options)?;
        Ok((rows, changes.kinds))
    }

    fn emit(&self, pieces: Vec<Piece>, out: &mut Output) -> Result<()> {
        let (mut run, mut bytes) = (Vec::with_capacity(pieces.len()), 0);
        for piece in pieces {
            let more = batch_bytes(&piece.0);
            if bytes + more > BATCH_BYTES && !run.is_empty() {
                self.emit_joined(std::mem::take(&mut run), out)?;
                bytes = 0;
            }
            bytes += more;
            run.push(piece);
        }
        self.emit_joined(run, out)
    }

    fn emit_joined(&self, mut pieces: Vec<Piece>, out: &mut Output) -> Result<()> {
        let (rows, kinds) = if pieces.len() > 1 {
            let rows = concat_batches(&self.config.output_schema, pieces.iter().map(|p| &p.0))?;
            (rows, pieces.into_iter().flat_map(|p| p.1).collect())
        } else if let Some(piece) = pieces.pop() {
            piece
        } else {
            return Ok(());
        };
        emit_in_slices(&ChangeBatch::with_kinds(rows, RowKinds::new(kinds)), out);
        Ok(())
    }

    /// Gives back the slots of groups without rows.
    fn forget_idle(&mut self) {
        if self.idle.is_empty() || !self.bundle.is_empty() {
            return;
        }
        self.idle.sort_unstable();
        self.idle.dedup();
        let rows = &self.table.rows;
        self.idle.retain(|s| rows[*s as usize] == 0);
        self.table.directory.remove(&self.idle);
        self.idle.clear();
    }

    fn take(&mut self, batch: &ChangeBatch, pieces: &mut Vec<Piece>) -> Result<()> {
        let evaluated = self.table.evaluate_exprs(&batch.rows)?;
        let keys = self.table.key_columns(&evaluated);
        let mut slots = std::mem::take(&mut self.slots);
        self.table.directory.intern(&keys, evaluated.rows, &mut slots)?;
        self.table.grow();
        self.stamp(&slots);
        let mut signs = std::mem::take(&mut self.signs);
        signs.clear();
        let signed = if let Some(kinds) = &batch.kinds {
            signs.extend(kinds.codes().iter().map(|c| 1 - 2 * (*c as i8 & 1)));
            true
        } else if self.config.input_retracts && !(self.emptied.is_empty() && self.bundle.is_empty()) {
            // Only the careful path knows groups that died in this bundle.
            signs.resize(slots.len(), 1);
            true
        } else {
            false
        };
        let mut from = 0;
        while from < slots.len() {
            // Groups with large results make small bundles: a bundle holds the results before and after it.
            let most = from.saturating_add(self.table.groups_of_a_part(usize::MAX));
            let to = self.bundle_end(&slots[..slots.len().min(most)], from);
            let part = evaluated.slice(from, to - from);
            self.apply(&part, &slots[from..to], signed.then(|| &signs[from..to]))?;
            self.bundle_rows += to - from;
            let is_full = match self.config.bundle_rows {
                None | Some(1) => true,
                Some(size) => {
                    self.bundle_rows >= size || self.bundle.len() >= self.table.groups_of_a_part(usize::MAX)
                }
            };
            if is_full {
                self.close_bundle(pieces)?;
            }
            from = to;
        }
        (self.slots, self.signs) = (slots, signs);
        self.forget_idle();
        Ok(())
    }

    /// Where the bundle that goes on at row `from` ends within this batch.
    fn bundle_end(&mut self, slots: &[u32], from: usize) -> usize {
        match self.config.bundle_rows {
            None => slots.len(),
            // Row by row: as long as no group comes twice, a run of rows is as good as one row after the other.
            Some(1) => {
                self.is_emptied.resize(self.table.rows.len(), false);
                let mut to = from;
                while to < slots.len() && !self.is_emptied[slots[to] as usize] {
                    self.is_emptied[slots[to] as usize] = true;
                    to += 1;
                }
                slots[from..to].iter().for_each(|s| self.is_emptied[*s as usize] = false);
                to
            }
            Some(size) => slots.len().min(from + (size - self.bundle_rows)),
        }
    }
}

impl Operator for GroupAggregateOperator {
    fn name(&self) -> &'static str {
        "GroupAggregate"
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, out: &mut Output) -> Result<Progress> {
        if batch.kinds.is_some() && (!self.config.input_retracts || self.config.merges_partials) {
            return Err(Error::internal("GroupAggregate: updates in append-only input"));
        }
        let mut pieces = Vec::new();
        if self.config.merges_partials {
            let mut from = 0;
            while from < batch.num_rows() {
                let rows = self.table.groups_of_a_part(usize::MAX).min(batch.num_rows() - from);
                self.take_partials(&batch.rows.slice(from, rows), &mut pieces)?;
                from += rows;
            }
        } else {
            self.take(&batch, &mut pieces)?;
        }
        self.emit(pieces, out)?;
        Ok(Progress::Done)
    }

    fn on_timer(&mut self, now: Timestamp, _out: &mut Output) -> Result<Progress> {
        if let Some(expiry) = &mut self.expiry {
            expiry.advance(now, &mut self.table, &self.bundle);
        }
        Ok(Progress::Done)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        self.expiry.as_ref().map(Expiry::next)
    }

    fn flush(&mut self, out: &mut Output) -> Result<Progress> {
        let mut pieces = Vec::new();
        self.close_bundle(&mut pieces)?;
        self.forget_idle();
        self.emit(pieces, out)?;
        Ok(Progress::Done)
    }

    fn on_end(&mut self, out: &mut Output) -> Result<Progress> {
        let progress = self.flush(out)?;
        let owns_the_group = self.config.keys.is_empty() && self.range.contains(KeyGroup::of_hash(0));
        if self.config.emit_default_row_on_end && owns_the_group && self.table.len() == 0 {
            let mut slots = Vec::new();
            self.table.directory.intern(&[], 1, &mut slots)?;
            self.table.grow();
            let results = self.table.evaluate(&slots)?;
            let changes = Changes { keys: Vec::new(), results, kinds: vec![RowKind::Insert as u8] };
            let piece = self.piece(changes)?;
            self.emit(vec![piece], out)?;
            self.table.directory.remove(&slots);
        }
        Ok(progress)
    }

    fn spillable(&self) -> Spillable {
        Spillable::Timeless.if_keyed(!self.config.keys.is_empty())
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        if !self.bundle.is_empty() {
            return Err(Error::internal("a group aggregate was not flushed before a barrier"));
        }
        self.table.snapshot(writer)
    }

    fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        self.table.restore(reader)
    }

    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics {
            state_entries: self.table.entries() as u64,
            state_bytes: self.table.size() as u64,
            ..OperatorMetrics::default()
        }
    }
}

#[cfg(test)]
mod tests;

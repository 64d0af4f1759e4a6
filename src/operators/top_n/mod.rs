//! Top-N: `ROW_NUMBER`, `RANK` or `DENSE_RANK() OVER (PARTITION BY … ORDER BY …)` with a bound on the number; `ORDER BY …
//! LIMIT`; `LIMIT`.
//!
//! ```text
//!  batch ─► partitions (slots) ─► sort keys ─► worse than the last row of a full partition? dropped (append-only input)
//!                                              │
//!              partition's tree of row ids ◄───┴── row kept in typed columns under an id
//!                       │ end of bundle
//!                       └─► +I / -U +U / -D of rows whose rank changed (`changes`)
//! ```
//!
//! | state | dropped |
//! |---|---|
//! | partition → tree of rows (`forest`), row → sort key and columns (`state`) | append-only input: what falls below the last rank; retracting input: rows taken back. Partitions without rows; with a TTL, partitions not written for that long |
//!
//! Input: append-only, or any changelog when the configuration says so; a retraction of a row that is not there is
//! ignored. Output: any changelog; with rank numbers a row that moves is an update of its rank. A bundle (one input
//! batch by default) folds changes; bundles of one row give Flink's changelog row by row. Watermarks pass; a barrier
//! finds no open bundle and writes all rows with their order of arrival. Nothing happens at the end, but in batch, where all
//! ranks come out then and none before.

mod changes;
mod config;
mod forest;
mod state;

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::datatypes::DataType;

use crate::error::{Error, Result};
use crate::operators::emit::emit_in_slices;
use crate::runtime::operator::{Operator, OperatorMetrics, Output, Progress, Spillable};
use crate::state::row_store::SourceRows;
use crate::state::sort_key::BatchKeys;
use crate::state::ttl::TimeToLive;
use crate::stream::bytes::cut;
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};
use crate::stream::{BATCH_BYTES, BATCH_ROWS, ChangeBatch, RowKind, RowKinds, Timestamp};
use changes::{Bundle, Change, Compared, Ranked};
pub use config::{RankEnd, RankFunction, RankOutput, SortColumn, TopNConfig};
use forest::NIL;
use state::{RankState, row_hashes};

/// Changes to gather before they go out.
const ENOUGH: usize = 4 * BATCH_ROWS;

/// The operator; see the module.
pub struct TopNOperator {
    config: TopNConfig,
    /// Whether places, or ties, are compared, rather than membership.
    by_place: bool,
    compared: Compared,
    /// Where each output column lies in the state; `None`: the rank.
    output: Vec<Option<usize>>,
    state: RankState,
    bundle: Bundle,
    /// Whether the bundle is being ended.
    closing: bool,
    /// Whether nothing comes out before the end.
    at_end: bool,
    /// The end: partitions whose ranks are still to come out.
    ending: Vec<u32>,
    /// The batch at work.
    pending: Option<Pending>,
    changes: Vec<Change>,
    /// Rows taken from the batch at work, not yet stored: ids, rows.
    accepted: (Vec<u32>, Vec<u32>),
    /// Rows that left their tree; consumers may still have to be told.
    dead: Vec<u32>,
    /// Partitions that lost their last row.
    emptied: Vec<u32>,
    slots: Vec<u32>,
}

/// A batch on its way through the operator.
struct Pending {
    batch: ChangeBatch,
    slots: Vec<u32>,
    keys: BatchKeys,
    source: SourceRows,
    /// Retracting input: hash of each row, and the id of each row that is added.
    hashes: Vec<u64>,
    ids: Vec<u32>,
    /// Rows done.
    from: usize,
}

impl std::fmt::Debug for TopNOperator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopNOperator").field("config", &self.config).finish_non_exhaustive()
    }
}

impl TopNOperator {
    /// An instance without rows.
    ///
    /// # Errors
    /// What [`TopNConfig::validate`] finds; unsupported for columns that cannot be kept or compared.
    pub fn new(config: TopNConfig) -> Result<Self> {
        config.validate()?;
        let state = RankState::new(&config)?;
        let output = config
            .output
            .iter()
            .map(|o| match o {
                RankOutput::Rank => Ok(None),
                RankOutput::Column(c) => state.place_of(*c).map(Some),
            })
            .collect::<Result<_>>()?;
        let shows_rank = config.output.contains(&RankOutput::Rank);
        let has_ties = config.function != RankFunction::RowNumber;
        // One row a partition: a new one replaces the old one. Row by row Flink says so only over append-only input.
        let replaces = config.end == RankEnd::Constant(1)
            && !(config.input_retracts && !config.latest_first && config.bundle_rows == Some(1));
        Ok(TopNOperator {
            by_place: shows_rank || config.start > 1 || replaces || has_ties,
            compared: if has_ties {
                Compared::Ties { shows_rank }
            } else {
                Compared::Places { first: u32::try_from(config.start).unwrap_or(u32::MAX) }
            },
            config,
            output,
            state,
            bundle: Bundle::default(),
            closing: false,
            at_end: false,
            ending: Vec::new(),
            pending: None,
            changes: Vec::new(),
            accepted: Default::default(),
            dead: Vec::new(),
            emptied: Vec::new(),
            slots: Vec::new(),
        })
    }

    /// An instance over append-only input whose ranks come out at the end, each row once.
    ///
    /// # Errors
    /// As [`TopNOperator::new`].
    pub fn at_end(config: TopNConfig) -> Result<Self> {
        if config.input_retracts || config.bundle_rows.is_some() || config.ttl_ms.is_some() {
            return Err(Error::internal("top-N: nothing is final before the end"));
        }
        Ok(TopNOperator { at_end: true, ..TopNOperator::new(config)? })
    }

    fn begin(&mut self, batch: ChangeBatch) -> Result<Pending> {
        let rows = batch.num_rows();
        let mut slots = std::mem::take(&mut self.slots);
        self.state.slots(&batch.rows, &mut slots)?;
        if let Some(ttl) = &mut self.state.ttl {
            slots.iter().for_each(|s| ttl.touch(*s));
        }
        let keys = self.state.sort_keys(&batch.rows)?;
        let kept = self.state.kept_columns(&batch.rows);
        let source = self.state.rows.source(&kept)?;
        let (mut hashes, mut ids) = (Vec::new(), Vec::new());
        if self.config.input_retracts {
            // A row may be taken back in the batch that brought it.
            hashes = row_hashes(&kept, &slots)?;
            let codes = batch.kinds.as_ref().map(RowKinds::codes);
            let is_added = |row: usize| codes.is_none_or(|c| c[row] & 1 == 0);
            let added: Vec<u32> = (0..rows as u32).filter(|row| is_added(*row as usize)).collect();
            let new: Vec<u32> = added.iter().map(|_| self.state.allocate()).collect();
            self.state.rows.put(&new, &source, &added);
            ids.resize(rows, NIL);
            added.iter().zip(new).for_each(|(row, id)| ids[*row as usize] = id);
        }
        Ok(Pending { batch, slots, keys, source, hashes, ids, from: 0 })
    }

    /// Takes one row into the open bundle.
    #[inline]
    fn take_row(&mut self, pending: &Pending, row: usize) {
        let slot = pending.slots[row];
        let end = self.state.end(slot);
        if !self.config.input_retracts {
            let worst = self.state.worst[slot as usize];
            if end == 0 {
                self.emptied.push(slot);
                return;
            }
            if worst != NIL && !self.state.stands_before(&pending.keys, row, worst) {
                // Below the last rank, now and for ever.
                return;
            }
            let id = self.state.allocate();
            self.accepted.0.push(id);
            self.accepted.1.push(row as u32);
            self.add(pending, row, slot, id, end);
            if self.state.forest.len(self.state.roots[slot as usize]) > end {
                let last = self.state.forest.last(self.state.roots[slot as usize]);
                self.state.unlink(slot, last);
                self.dead.push(last);
            }
            self.state.note_worst(slot);
        } else if pending.ids[row] != NIL {
            let id = pending.ids[row];
            self.add(pending, row, slot, id, end);
            self.state.index_row(id, &pending.source, row, pending.hashes[row]);
        } else if let Some(id) = self.state.find_row(slot, &pending.source, row, pending.hashes[row]) {
            self.remove(slot, id, end);
        } else if self.state.roots[slot as usize] == NIL {
            self.emptied.push(slot);
        }
    }

    fn touch(&mut self, slot: u32) {
        let (state, config) = (&self.state, &self.config);
        self.bundle.touch(slot, |slot, rows| state.collect(slot, config.function, config.start, rows));
    }

    fn add(&mut self, pending: &Pending, row: usize, slot: u32, id: u32, end: u32) {
        self.state.put_key(id, &pending.keys, row);
        if self.at_end {
            self.state.link(slot, id);
            return;
        }
        if self.by_place {
            self.touch(slot);
            self.state.link(slot, id);
            return;
        }
        self.state.link(slot, id);
        if self.state.rank(slot, id) < end {
            let pushed_out = self.state.forest.nth(self.state.roots[slot as usize], end);
            if pushed_out != NIL {
                self.bundle.set_member(pushed_out, false);
            }
            self.bundle.set_member(id, true);
        }
    }

    fn remove(&mut self, slot: u32, id: u32, end: u32) {
        if self.by_place {
            self.touch(slot);
        } else if self.state.rank(slot, id) < end {
            self.bundle.set_member(id, false);
            let moved_up = self.state.forest.nth(self.state.roots[slot as usize], end);
            if moved_up != NIL {
                self.bundle.set_member(moved_up, true);
            }
        }
        self.state.unlink(slot, id);
        self.dead.push(id);
        if self.state.roots[slot as usize] == NIL {
            self.emptied.push(slot);
        }
    }

    /// Goes on with the batch at work.
    fn advance(&mut self, out: &mut Output) -> Result<Progress> {
        let Some(mut pending) = self.pending.take() else { return Ok(Progress::Done) };
        let (rows, enough) = (pending.batch.num_rows(), self.enough());
        loop {
            if self.closing {
                let (state, config) = (&self.state, &self.config);
                let is_closed = self.bundle.close(
                    |slot, rows| state.collect(slot, config.function, config.start, rows),
                    self.compared,
                    config.emit_update_before,
                    enough,
                    &mut self.changes,
                );
                self.closing = !is_closed;
            }
            let is_done = !self.closing && pending.from == rows;
            if is_done || self.changes.len() >= enough {
                self.send(&pending, out)?;
                if is_done {
                    self.forget_emptied();
                    self.slots = pending.slots;
                    return Ok(Progress::Done);
                }
                self.pending = Some(pending);
                return Ok(Progress::More);
            }
            let bundle = self.config.bundle_rows.unwrap_or(rows);
            let to = rows.min(pending.from.saturating_add(bundle));
            for row in pending.from..to {
                self.take_row(&pending, row);
            }
            pending.from = to;
            self.closing = !self.at_end;
        }
    }

    /// Stores the rows taken, and sends the changes.
    fn send(&mut self, pending: &Pending, out: &mut Output) -> Result<()> {
        let (ids, rows) = &mut self.accepted;
        self.state.rows.put(ids, &pending.source, rows);
        ids.clear();
        rows.clear();
        self.send_changes(out)?;
        if !self.closing {
            self.bundle.forget(&self.dead);
            self.state.forget(&self.dead);
            self.dead.clear();
        }
        Ok(())
    }

    /// Sends the changes gathered.
    fn send_changes(&mut self, out: &mut Output) -> Result<()> {
        let changes = std::mem::take(&mut self.changes);
        let is_narrow = self.state.rows.are_few_bytes(changes.len());
        let width = |c: &Change| if is_narrow { 0 } else { self.state.rows.row_bytes(c.id) };
        let widths: Vec<usize> = changes.iter().map(width).collect();
        for part in cut(&widths, BATCH_BYTES, |row| changes[row].kind == RowKind::UpdateBefore) {
            self.send_rows(&changes[part], out)?;
        }
        self.changes = changes;
        self.changes.clear();
        Ok(())
    }

    /// The end: what is left of the ranks.
    fn send_ranks(&mut self, out: &mut Output) -> Result<Progress> {
        let (enough, first) = (self.enough(), u32::try_from(self.config.start).unwrap_or(u32::MAX));
        let mut ranked = Ranked::default();
        while let Some(slot) = self.ending.pop() {
            self.state.collect(slot, self.config.function, self.config.start, &mut ranked);
            let ranks = ranked.ids.drain(..).zip(first..);
            self.changes.extend(ranks.map(|(id, rank)| Change { id, rank, kind: RowKind::Insert }));
            if self.changes.len() >= enough {
                self.send_changes(out)?;
                return Ok(Progress::More);
            }
        }
        self.send_changes(out)?;
        // Nobody asks again: what rests is not written down once more, and of many partitions none keeps its room.
        *self = TopNOperator::at_end(self.config.clone())?;
        Ok(Progress::Done)
    }

    fn send_rows(&self, changes: &[Change], out: &mut Output) -> Result<()> {
        let ids: Vec<u32> = changes.iter().map(|c| c.id).collect();
        let kept = self.state.rows.gather(&ids)?;
        let columns: Vec<ArrayRef> = self
            .output
            .iter()
            .zip(self.config.output_schema.fields())
            .map(|(place, field)| match (place, field.data_type()) {
                (Some(place), _) => Arc::clone(&kept[*place]),
                (None, DataType::UInt64) => {
                    Arc::new(changes.iter().map(|c| u64::from(c.rank)).collect::<UInt64Array>())
                }
                (None, _) => Arc::new(changes.iter().map(|c| i64::from(c.rank)).collect::<Int64Array>()),
            })
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(ids.len()));
        let schema = Arc::clone(&self.config.output_schema);
        let rows = RecordBatch::try_new_with_options(schema, columns, &options)?;
        let kinds = changes.iter().map(|c| c.kind as u8).collect();
        emit_in_slices(&ChangeBatch::with_kinds(rows, RowKinds::new(kinds)), out);
        Ok(())
    }

    /// Changes that wait before they are sent: as many as make a few batches.
    fn enough(&self) -> usize {
        let average = self.state.rows.size() / self.state.live().max(1);
        ENOUGH.min(2 * BATCH_BYTES / average.max(1)).max(1)
    }

    /// Gives back the slots of partitions without rows.
    fn forget_emptied(&mut self) {
        if self.emptied.is_empty() {
            return;
        }
        self.emptied.sort_unstable();
        self.emptied.dedup();
        let roots = &self.state.roots;
        self.emptied.retain(|s| roots[*s as usize] == NIL);
        self.state.directory.remove(&self.emptied);
        self.emptied.clear();
    }
}

impl Operator for TopNOperator {
    fn name(&self) -> &'static str {
        "Rank"
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, out: &mut Output) -> Result<Progress> {
        if batch.kinds.is_some() && !self.config.input_retracts {
            return Err(Error::internal("Rank: updates in append-only input"));
        }
        if batch.num_rows() == 0 {
            return Ok(Progress::Done);
        }
        self.pending = Some(self.begin(batch)?);
        self.advance(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        if !self.ending.is_empty() {
            return self.send_ranks(out);
        }
        self.advance(out)
    }

    fn on_end(&mut self, out: &mut Output) -> Result<Progress> {
        if !self.at_end {
            return Ok(Progress::Done);
        }
        self.ending = self.state.directory.slots();
        self.send_ranks(out)
    }

    fn next_due(&self) -> Timestamp {
        Timestamp::MAX
    }

    fn on_timer(&mut self, now: Timestamp, _out: &mut Output) -> Result<Progress> {
        if let Some(ttl) = &mut self.state.ttl {
            let expired = ttl.expired(now, || self.state.directory.slots());
            if !expired.is_empty() {
                self.state.expire(&expired);
            }
        }
        Ok(Progress::Done)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        self.state.ttl.as_ref().map(TimeToLive::next_timer)
    }

    fn spillable(&self) -> Spillable {
        // What rests has to hear of the end if something comes out then.
        if self.at_end { Spillable::ByWatermark } else { Spillable::Timeless }
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        if self.pending.is_some() {
            return Err(Error::internal("Rank: a barrier in the middle of a batch"));
        }
        self.state.snapshot(writer)
    }

    fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        self.state.restore(reader)?;
        if !self.by_place {
            let mut shown = Vec::new();
            for slot in self.state.directory.slots() {
                let root = self.state.roots[slot as usize];
                self.state.forest.collect(root, 0, self.state.end(slot), &mut shown);
            }
            shown.into_iter().for_each(|id| self.bundle.set_shown(id));
        }
        Ok(())
    }

    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics {
            state_entries: self.state.live() as u64,
            state_bytes: (self.state.size() + self.bundle.size()) as u64,
            ..OperatorMetrics::default()
        }
    }
}

#[cfg(test)]
mod tests;

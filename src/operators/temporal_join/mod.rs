//! Event-time temporal joins: `l JOIN r FOR SYSTEM_TIME AS OF l.ts ON l.k = r.k`, each left row with the version of its key
//! that was valid at its time.
//!
//! ```text
//!  left  ══ key ══► waits until the watermark of both sides has passed its time ─┐
//!                                                                                ├─► latest version up to its time ─► out
//!  right ══ key ══► versions of the key by time ─────────────────────────────────┘    residual condition
//! ```
//!
//! | state | key → value | dropped |
//! |---|---|---|
//! | directory | join key → slot, shared by both sides | when neither side has rows of the key |
//! | left (`timed_rows`) | slot → rows that wait, with their kinds and the order of their arrival | when the watermark passes their time |
//! | right (`timed_rows`) | slot → versions by time, of which a delete is one without a match | when the watermark passes a later one |
//!
//! Inner and left joins. The left side may be any changelog: its rows come out with their kinds, updates as deletes and
//! inserts. Of the right side each `+I` and `+U` is a version, each `-D` the end of one, which is remembered for what may
//! come late; `-U` says nothing. A late left row is dropped and counted, as in Flink, whether it gives a row or takes one
//! back: its version may be gone. A late version counts for what comes after it. Rows go
//! out on the watermark, in the order in which the left ones came, before it moves on: the row time of the left stays one.
//! The end is the last watermark. Snapshots are whole.

mod snapshot;

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::DataType;

use crate::error::{Error, Result};
use crate::operators::interval_join::stored_columns;
use crate::operators::join::rows::NO_ROW;
use crate::operators::join::{JoinColumn, JoinConfig, JoinKind, JoinSide, most_pairs};
use crate::operators::timed_rows::TimedRows;
use crate::operators::window_aggregate::assign::to_millis;
use crate::runtime::operator::{Operator, OperatorMetrics, Output, Progress, Spillable};
use crate::state::GroupDirectory;
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};
use crate::stream::{BATCH_ROWS, ChangeBatch, RowKind, RowKinds, Timestamp};

/// Width in ms of the buckets of time in which left rows wait.
const BUCKET_MS: i64 = 50;

/// An event-time temporal join.
#[derive(Debug, Clone)]
pub struct TemporalJoinConfig {
    /// Keys, residual condition, what comes out; inner or left.
    pub join: JoinConfig,
    /// Row time columns of the left and the right.
    pub times: [usize; 2],
}

/// The operator; see the module.
pub struct TemporalJoinOperator {
    config: TemporalJoinConfig,
    directory: GroupDirectory,
    left: TimedRows,
    /// By left id: its kind, where the left side takes rows back.
    kinds: Option<Vec<RowKind>>,
    /// By left id: the number of its arrival.
    arrivals: Vec<u64>,
    right: TimedRows,
    /// By right id: whether it ends a version.
    ends: Vec<bool>,
    /// For each side, the input columns that are stored.
    stored: [Vec<usize>; 2],
    next_arrival: u64,
    watermark: i64,
    /// Left rows whose time has come.
    due: VecDeque<u32>,
    /// Keys of which versions may go.
    touched: Vec<u32>,
    /// Slots that may have lost their last row.
    idle: Vec<u32>,
    late_rows: u64,
    null_times: u64,
}

impl std::fmt::Debug for TemporalJoinOperator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TemporalJoinOperator").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Which rows of a batch have a key and a time.
struct Arrived {
    slots: Vec<u32>,
    times: Vec<i64>,
    has_time: Vec<bool>,
    has_key: Vec<bool>,
}

impl TemporalJoinOperator {
    /// An instance.
    ///
    /// # Errors
    /// Internal if the parts do not fit together; unsupported for key types that cannot be keys.
    pub fn new(config: TemporalJoinConfig) -> Result<Self> {
        config.join.validate()?;
        if !matches!(config.join.kind, JoinKind::Inner | JoinKind::Left) {
            return Err(Error::internal("this cannot be a temporal join"));
        }
        let stored = [JoinSide::Left, JoinSide::Right].map(|side| stored_columns(&config.join, side));
        let types = |side: JoinSide| -> Vec<DataType> {
            let schema = &config.join.input(side).schema;
            stored[side as usize].iter().map(|c| schema.field(*c).data_type().clone()).collect()
        };
        Ok(TemporalJoinOperator {
            directory: GroupDirectory::new(&config.join.key_types())?,
            left: TimedRows::new(types(JoinSide::Left), Some((0, BUCKET_MS)), false),
            kinds: config.join.left.retracts.then(Vec::new),
            arrivals: Vec::new(),
            right: TimedRows::new(types(JoinSide::Right), None, false),
            ends: Vec::new(),
            stored,
            config,
            next_arrival: 0,
            watermark: i64::MIN,
            due: VecDeque::new(),
            touched: Vec::new(),
            idle: Vec::new(),
            late_rows: 0,
            null_times: 0,
        })
    }

    fn arrive(&mut self, side: JoinSide, rows: &RecordBatch) -> Result<Arrived> {
        let n = rows.num_rows();
        let time = rows.column(self.config.times[side as usize]);
        let mut times = Vec::with_capacity(n);
        to_millis(time, &mut times)?;
        let mut has_time = vec![true; n];
        if let Some(nulls) = time.logical_nulls().filter(|n| n.null_count() > 0) {
            self.null_times += nulls.null_count() as u64;
            has_time.iter_mut().enumerate().for_each(|(row, has)| *has = nulls.is_valid(row));
        }
        let input = self.config.join.input(side);
        let keys: Vec<ArrayRef> = input.keys.iter().map(|k| rows.column(*k).clone()).collect();
        let mut has_key = vec![true; n];
        for (key, null_safe) in keys.iter().zip(&self.config.join.null_safe) {
            if let Some(nulls) = key.logical_nulls().filter(|n| n.null_count() > 0 && !null_safe) {
                has_key.iter_mut().enumerate().for_each(|(row, has)| *has &= nulls.is_valid(row));
            }
        }
        let mut slots = Vec::new();
        self.directory.intern(&keys, n, &mut slots)?;
        self.left.grow_slots(self.directory.capacity());
        self.right.grow_slots(self.directory.capacity());
        Ok(Arrived { slots, times, has_time, has_key })
    }

    fn take_left(&mut self, batch: &ChangeBatch) -> Result<()> {
        let Arrived { slots, times, has_time, .. } = self.arrive(JoinSide::Left, &batch.rows)?;
        for row in 0..batch.num_rows() {
            let kind = batch.kind(row);
            let is_late = times[row] <= self.watermark;
            if !has_time[row] || is_late {
                self.late_rows += u64::from(has_time[row]);
                self.idle.push(slots[row]);
                continue;
            }
            self.keep_left(row as u32, slots[row], times[row], kind)?;
        }
        let columns: Vec<ArrayRef> = self.stored[0].iter().map(|c| batch.rows.column(*c).clone()).collect();
        self.left.store.append_pending(&columns, batch.num_rows())
    }

    fn keep_left(&mut self, row: u32, slot: u32, time: i64, kind: RowKind) -> Result<()> {
        let id = self.left.add(row, slot, time, false)? as usize;
        if id >= self.arrivals.len() {
            self.arrivals.resize(id + 1, 0);
            if let Some(kinds) = &mut self.kinds {
                kinds.resize(id + 1, RowKind::Insert);
            }
        }
        self.arrivals[id] = self.next_arrival;
        self.next_arrival += 1;
        if let Some(kinds) = &mut self.kinds {
            // Halves of an update may come out at different times.
            kinds[id] = if kind.is_retraction() { RowKind::Delete } else { RowKind::Insert };
        }
        Ok(())
    }

    fn take_right(&mut self, batch: &ChangeBatch) -> Result<()> {
        let Arrived { slots, times, has_time, has_key } = self.arrive(JoinSide::Right, &batch.rows)?;
        for row in 0..batch.num_rows() {
            let kind = batch.kind(row);
            if kind == RowKind::UpdateBefore || !has_time[row] || !has_key[row] {
                self.idle.push(slots[row]);
                continue;
            }
            self.keep_right(row as u32, slots[row], times[row], kind == RowKind::Delete)?;
        }
        let columns: Vec<ArrayRef> = self.stored[1].iter().map(|c| batch.rows.column(*c).clone()).collect();
        self.right.store.append_pending(&columns, batch.num_rows())
    }

    fn keep_right(&mut self, row: u32, slot: u32, time: i64, is_end: bool) -> Result<()> {
        let id = self.right.add(row, slot, time, false)? as usize;
        if id >= self.ends.len() {
            self.ends.resize(id + 1, false);
        }
        self.ends[id] = is_end;
        self.touched.push(slot);
        Ok(())
    }

    /// Hands out left rows whose time has come.
    fn hand_out(&mut self, out: &mut Output) -> Result<Progress> {
        while !self.due.is_empty() {
            // Of a wide version each row that has it gets one.
            let most = most_pairs(self.left.store.widest().saturating_add(self.right.store.widest()));
            let ids: Vec<u32> = self.due.drain(..self.due.len().min(most)).collect();
            let versions: Vec<u32> = ids.iter().map(|id| self.version(*id)).collect();
            let versions = self.that_hold(&ids, versions)?;
            let pads = self.config.join.kind == JoinKind::Left;
            let (left, right): (Vec<u32>, Vec<u32>) =
                ids.iter().zip(versions).filter(|(_, version)| pads || *version != NO_ROW).unzip();
            for run in self.left.store.runs(&left) {
                self.emit(&left[run.clone()], &right[run], out)?;
            }
            for id in ids {
                if self.left.remove(id) {
                    self.idle.push(self.left.slots[id as usize]);
                }
            }
            self.left.store.maintain()?;
            if out.is_full(2 * BATCH_ROWS) && !self.due.is_empty() {
                return Ok(Progress::More);
            }
        }
        self.forget_versions()?;
        Ok(Progress::Done)
    }

    /// The version of a left row's key at its time.
    fn version(&self, id: u32) -> u32 {
        let version = self.right.latest(self.left.slots[id as usize], self.left.times[id as usize]);
        if version != NO_ROW && self.ends[version as usize] { NO_ROW } else { version }
    }

    /// The versions for which the residual condition holds.
    fn that_hold(&self, ids: &[u32], versions: Vec<u32>) -> Result<Vec<u32>> {
        let Some(filter) = &self.config.join.filter else { return Ok(versions) };
        let columns = filter.columns.iter().map(|(side, c)| self.gather(*side, *c, ids, &versions));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(ids.len()));
        // Beside what has no version there is NULL, also in columns that have none.
        let fields = filter.schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true));
        let schema = Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()));
        let rows = RecordBatch::try_new_with_options(schema, columns, &options)?;
        let holds = filter.condition.evaluate(&rows)?.into_array(ids.len())?;
        let holds = holds
            .as_boolean_opt()
            .ok_or_else(|| Error::internal(format!("the condition {} is not boolean", filter.condition)))?;
        let keep = |(i, version): (usize, u32)| {
            if holds.is_valid(i) && holds.value(i) { version } else { NO_ROW }
        };
        Ok(versions.into_iter().enumerate().map(keep).collect())
    }

    /// A column of left rows, or of their versions.
    fn gather(&self, side: JoinSide, column: usize, left: &[u32], right: &[u32]) -> Result<ArrayRef> {
        let (rows, ids) = match side {
            JoinSide::Left => (&self.left, left),
            JoinSide::Right => (&self.right, right),
        };
        let place = self.stored[side as usize].iter().position(|c| *c == column);
        let place = place.ok_or_else(|| Error::internal("a join does not store a column that it reads"))?;
        rows.store.gather(&[place], ids)?.pop().ok_or_else(|| Error::internal("a column got lost"))
    }

    fn emit(&self, left: &[u32], right: &[u32], out: &mut Output) -> Result<()> {
        if left.is_empty() {
            return Ok(());
        }
        let columns = self.config.join.output.iter().map(|column| match *column {
            JoinColumn::Input(side, c) => self.gather(side, c, left, right),
            JoinColumn::Mark => Err(Error::internal("a mark in a temporal join")),
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(left.len()));
        let schema = self.config.join.output_schema.clone();
        let rows = RecordBatch::try_new_with_options(schema, columns, &options)?;
        out.emit(match &self.kinds {
            None => ChangeBatch::insert_only(rows),
            Some(kinds) => {
                let codes = left.iter().map(|id| kinds[*id as usize] as u8).collect();
                ChangeBatch::with_kinds(rows, RowKinds::new(codes))
            }
        });
        Ok(())
    }

    /// Drops versions that were over before the watermark, and keys without rows.
    fn forget_versions(&mut self) -> Result<()> {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        touched.retain(|slot| {
            let valid = self.right.latest(*slot, self.watermark);
            let mut over = if valid == NO_ROW { NO_ROW } else { self.right.before[valid as usize] };
            while over != NO_ROW {
                let earlier = self.right.before[over as usize];
                self.right.remove(over);
                over = earlier;
            }
            let last = self.right.last[*slot as usize];
            last != NO_ROW && self.right.times[last as usize] > self.watermark
        });
        self.touched = touched;
        self.right.store.maintain()?;
        if self.idle.is_empty() {
            return Ok(());
        }
        self.idle.sort_unstable();
        self.idle.dedup();
        let (left, right) = (&self.left, &self.right);
        self.idle.retain(|s| left.last[*s as usize] == NO_ROW && right.last[*s as usize] == NO_ROW);
        self.directory.remove(&self.idle);
        self.idle.clear();
        Ok(())
    }
}

impl Operator for TemporalJoinOperator {
    fn name(&self) -> &'static str {
        "TemporalJoin"
    }

    fn process(&mut self, port: usize, batch: ChangeBatch, _out: &mut Output) -> Result<Progress> {
        if port == 0 {
            self.take_left(&batch)?
        } else {
            self.take_right(&batch)?
        }
        Ok(Progress::Done)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        self.hand_out(out)
    }

    fn on_watermark(&mut self, watermark: Timestamp, out: &mut Output) -> Result<Progress> {
        self.watermark = self.watermark.max(watermark.0);
        let mut due = self.left.take_due(self.watermark, usize::MAX);
        due.sort_unstable_by_key(|id| self.arrivals[*id as usize]);
        self.due.extend(due);
        self.hand_out(out)
    }

    fn spillable(&self) -> Spillable {
        Spillable::ByWatermark.if_keyed(!self.config.join.left.keys.is_empty())
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        self.write(writer)
    }

    fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        self.read(reader)
    }

    fn metrics(&self) -> OperatorMetrics {
        let rows = self.left.store.len() + self.right.store.len();
        let by_id = self.arrivals.capacity() * 8
            + self.ends.capacity()
            + self.kinds.as_ref().map_or(0, Vec::capacity)
            + self.due.capacity() * 4;
        OperatorMetrics {
            late_rows_dropped: self.late_rows,
            null_times_dropped: self.null_times,
            state_entries: rows as u64,
            state_bytes: (self.directory.size() + self.left.size() + self.right.size() + by_id) as u64,
            ..OperatorMetrics::default()
        }
    }
}

#[cfg(test)]
mod tests;

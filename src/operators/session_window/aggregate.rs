//! `GROUP BY window_start, window_end, keys` over sessions that are partitioned by the same keys.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Int64Type, SchemaRef};

use super::sessions::{Place, Session, Sessions};
use super::{PAUSE_ROWS, Times, broken, window_columns};
use crate::error::{Error, Result};
use crate::functions::room::in_parts;
use crate::operators::emit::emit_in_slices;
use crate::operators::group_aggregate::{AggregateCall, AggregateTable};
use crate::operators::keyed_rows::{PART_ROWS, anonymous};
use crate::operators::window_aggregate::{WindowAggregateConfig, WindowKind, WindowOutput};
use crate::runtime::operator::{Operator, OperatorMetrics, Output, Progress, Spillable};
use crate::state::GroupDirectory;
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};
use crate::stream::{BATCH_ROWS, ChangeBatch, Timestamp};

const SESSIONS: &str = "sessions";

/// A piece that is not in the table yet: its number among the new ones of the batch.
const FRESH: u32 = 1 << 31;

/// The operator; see the module above.
pub struct SessionAggregateOperator {
    config: WindowAggregateConfig,
    times: Times,
    keys: GroupDirectory,
    /// Members of a session are the slots of its pieces.
    sessions: Sessions,
    /// Groups by (keys, number of the piece).
    table: AggregateTable,
    /// Groups by (keys, number) of sessions of several pieces; empty in between.
    merged: AggregateTable,
    next_piece: i64,
    /// Sessions that have ended.
    due: VecDeque<Vec<Session>>,
    late_rows: u64,
    null_times: u64,
}

impl std::fmt::Debug for SessionAggregateOperator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionAggregateOperator").field("config", &self.config).finish_non_exhaustive()
    }
}

fn new_table(config: &WindowAggregateConfig) -> Result<AggregateTable> {
    let (input, calls) = (&config.input_schema, &config.aggregates);
    AggregateTable::new(input, &config.keys, &[DataType::Int64], calls, false)
}

impl SessionAggregateOperator {
    /// Whether the pieces of a session can be merged. Where not, its rows have to be kept.
    ///
    /// # Errors
    /// Unsupported for aggregates that there are not in streams.
    pub fn can_merge(input: &SchemaRef, calls: &[AggregateCall]) -> Result<bool> {
        Ok(AggregateTable::new(input, &[], &[DataType::Int64], calls, false)?.merges())
    }

    /// An instance without state.
    ///
    /// # Errors
    /// What [`WindowAggregateConfig::validate`] finds; internal if the window is no session, or aggregates do not merge.
    pub fn new(config: WindowAggregateConfig) -> Result<Self> {
        config.validate()?;
        let WindowKind::Session { gap } = config.window.kind else {
            return Err(Error::internal("a session aggregate over other windows"));
        };
        if config.input_retracts || !Self::can_merge(&config.input_schema, &config.aggregates)? {
            return Err(Error::internal("a session aggregate of what cannot be merged"));
        }
        let key_types = config.keys.iter().map(|k| Ok(k.data_type(&config.input_schema)?));
        Ok(SessionAggregateOperator {
            times: Times::new(&config.window, config.time_column, config.by_proctime),
            keys: GroupDirectory::new(&key_types.collect::<Result<Vec<_>>>()?)?,
            sessions: Sessions::new(config.window, gap),
            table: new_table(&config)?,
            merged: new_table(&config)?,
            config,
            next_piece: 0,
            due: VecDeque::new(),
            late_rows: 0,
            null_times: 0,
        })
    }

    fn add_rows(&mut self, rows: &RecordBatch) -> Result<()> {
        let evaluated = self.table.evaluate_exprs(rows)?;
        let key_columns = self.table.key_columns(&evaluated);
        let nulls = self.times.of_rows(rows)?.and_then(|c| c.nulls());
        let mut key_slots = Vec::new();
        self.keys.intern(&key_columns, rows.num_rows(), &mut key_slots)?;
        let (mut kept, mut slots, mut dropped) = (Vec::new(), Vec::new(), Vec::new());
        // Rows that open a session each.
        let mut fresh: Vec<u32> = Vec::new();
        for (row, (key, t)) in key_slots.iter().zip(&self.times.millis).enumerate() {
            if nulls.is_some_and(|n| n.is_null(row)) {
                self.null_times += 1;
                dropped.push(*key);
                continue;
            }
            let (number, is_new) = match self.sessions.add(*key, *t) {
                Place::Late => {
                    self.late_rows += 1;
                    dropped.push(*key);
                    continue;
                }
                Place::New(number) => (number, true),
                Place::In(number) => (number, false),
            };
            let session = self.sessions.session(*key, number).ok_or_else(broken)?;
            if is_new {
                session.members.push(FRESH | fresh.len() as u32);
                fresh.push(row as u32);
            }
            slots.push(*session.members.first().ok_or_else(broken)?);
            kept.push(row as u32);
        }
        if !fresh.is_empty() {
            self.add_pieces(&fresh, &key_columns, &key_slots, &mut slots)?;
        }
        if !kept.is_empty() {
            let evaluated = if kept.len() == rows.num_rows() { evaluated } else { evaluated.take(&kept)? };
            self.table.directory.touch(&slots);
            slots.iter().for_each(|s| self.table.rows[*s as usize] += 1);
            self.table.update(&evaluated, &slots, None)?;
        }
        self.forget_idle(dropped);
        Ok(())
    }

    /// Gives groups to the pieces that the rows `fresh` began, in place of their numbers.
    fn add_pieces(
        &mut self,
        fresh: &[u32],
        key_columns: &[ArrayRef],
        key_slots: &[u32],
        slots: &mut [u32],
    ) -> Result<()> {
        let rows = UInt32Array::from(fresh.to_vec());
        let mut keys: Vec<ArrayRef> =
            key_columns.iter().map(|c| Ok(take(c, &rows, None)?)).collect::<Result<_>>()?;
        let numbers = self.next_piece..self.next_piece + fresh.len() as i64;
        self.next_piece = numbers.end;
        keys.push(Arc::new(Int64Array::from_iter_values(numbers)));
        let mut given = Vec::new();
        self.table.directory.intern(&keys, fresh.len(), &mut given)?;
        self.table.grow();
        let settle = |slot: &mut u32| {
            if *slot & FRESH != 0
                && let Some(group) = given.get((*slot & !FRESH) as usize)
            {
                *slot = *group;
            }
        };
        slots.iter_mut().for_each(settle);
        let mut changed: Vec<u32> =
            fresh.iter().filter_map(|row| key_slots.get(*row as usize)).copied().collect();
        changed.sort_unstable();
        changed.dedup();
        for key in changed {
            self.sessions.of_key(key).iter_mut().flat_map(|s| &mut s.members).for_each(settle);
        }
        Ok(())
    }

    /// Forgets those keys that have no session.
    fn forget_idle(&mut self, mut keys: Vec<u32>) {
        keys.retain(|key| self.sessions.is_idle(*key));
        keys.sort_unstable();
        keys.dedup();
        self.keys.remove(&keys);
    }

    /// Takes out the sessions that have ended.
    fn end_sessions(&mut self, out: &mut Output) -> Result<Progress> {
        let (keys, mut ended): (Vec<u32>, Vec<Session>) = self.sessions.take_ended().into_iter().unzip();
        self.forget_idle(keys);
        while !ended.is_empty() {
            let rest = ended.split_off(ended.len().min(BATCH_ROWS));
            self.due.push_back(std::mem::replace(&mut ended, rest));
        }
        self.resume(out)
    }

    /// The results of some sessions; their groups go.
    fn finish(&mut self, sessions: &[Session], out: &mut Output) -> Result<()> {
        let (whole, pieced): (Vec<&Session>, Vec<&Session>) =
            sessions.iter().partition(|s| s.members.len() == 1);
        let pieces: Vec<u32> = whole.iter().filter_map(|s| s.members.first()).copied().collect();
        self.emit(&self.table, &pieces, &whole, out)?;
        if !pieced.is_empty() {
            let (mut groups, mut numbers) = (Vec::new(), Vec::new());
            for (session, number) in pieced.iter().zip(0_i64..) {
                groups.extend_from_slice(&session.members);
                numbers.resize(groups.len(), number);
            }
            let mut slots = Vec::new();
            for run in self.table.directory.cut(&groups, PART_ROWS) {
                let (groups, numbers) = match (groups.get(run.clone()), numbers.get(run)) {
                    (Some(groups), Some(numbers)) => (groups, numbers),
                    _ => return Err(broken()),
                };
                let mut keys = self.table.directory.keys(groups)?;
                // All but the number of the piece.
                keys.pop();
                keys.push(Arc::new(Int64Array::from(numbers.to_vec())));
                self.merged.directory.intern(&keys, groups.len(), &mut slots)?;
                self.merged.grow();
                self.merged.merge_groups(&slots, &self.table, groups)?;
            }
            let all = self.merged.directory.slots();
            let keys = self.merged.directory.keys(&all)?;
            let numbers = keys.last().and_then(|c| c.as_primitive_opt::<Int64Type>()).ok_or_else(broken)?;
            let of: Vec<&Session> =
                numbers.values().iter().filter_map(|n| pieced.get(*n as usize)).copied().collect();
            self.emit(&self.merged, &all, &of, out)?;
            self.merged.clear(&all);
            all.iter().for_each(|slot| self.merged.rows[*slot as usize] = 0);
            self.merged.directory.clear();
        }
        let over: Vec<u32> = sessions.iter().flat_map(|s| s.members.iter().copied()).collect();
        self.table.clear(&over);
        over.iter().for_each(|slot| self.table.rows[*slot as usize] = 0);
        self.table.directory.remove(&over);
        Ok(())
    }

    /// Rows of the result: groups of `table`, one for each session.
    fn emit(
        &self,
        table: &AggregateTable,
        groups: &[u32],
        sessions: &[&Session],
        out: &mut Output,
    ) -> Result<()> {
        for run in table.directory.cut(groups, table.groups_of_a_part(usize::MAX)) {
            let (groups, sessions) = match (groups.get(run.clone()), sessions.get(run)) {
                (Some(groups), Some(sessions)) => (groups, sessions),
                _ => return Err(broken()),
            };
            let batches = in_parts(groups.len(), |part| {
                let (slots, of) = (&groups[part.clone()], &sessions[part]);
                let (keys, results) = (table.directory.keys(slots)?, table.evaluate(slots)?);
                let (starts, ends) = of.iter().map(|s| (s.start, s.end)).unzip();
                let [start, end, time] = window_columns(&self.config.window, starts, ends);
                let columns = self.config.output.iter().map(|column| match *column {
                    WindowOutput::Key(i) => Arc::clone(&keys[i]),
                    WindowOutput::Start => Arc::clone(&start),
                    WindowOutput::End => Arc::clone(&end),
                    WindowOutput::Time => Arc::clone(&time),
                    WindowOutput::Aggregate(i) => Arc::clone(&results[i]),
                });
                let options = RecordBatchOptions::new().with_row_count(Some(slots.len()));
                let schema = Arc::clone(&self.config.output_schema);
                Ok(RecordBatch::try_new_with_options(schema, columns.collect(), &options)?)
            })?;
            batches.into_iter().for_each(|rows| emit_in_slices(&ChangeBatch::insert_only(rows), out));
        }
        Ok(())
    }

    /// The number of each piece.
    fn pieces(&self, slots: &[u32]) -> Result<(Vec<ArrayRef>, Int64Array)> {
        let mut keys = self.table.directory.keys(slots)?;
        let numbers = keys.pop().ok_or_else(broken)?;
        Ok((keys, numbers.as_primitive_opt::<Int64Type>().ok_or_else(broken)?.clone()))
    }
}

impl Operator for SessionAggregateOperator {
    fn name(&self) -> &'static str {
        "SessionAggregate"
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, _out: &mut Output) -> Result<Progress> {
        if batch.kinds.is_some() {
            return Err(Error::internal("SessionAggregate: updates in append-only input"));
        }
        self.add_rows(&batch.rows)?;
        Ok(Progress::Done)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        while let Some(sessions) = self.due.pop_front() {
            self.finish(&sessions, out)?;
            if out.is_full(PAUSE_ROWS) && !self.due.is_empty() {
                return Ok(Progress::More);
            }
        }
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, watermark: Timestamp, out: &mut Output) -> Result<Progress> {
        if self.times.is_by_proctime() {
            return Ok(Progress::Done);
        }
        self.sessions.advance(watermark.0);
        self.end_sessions(out)
    }

    fn takes_time(&self) -> bool {
        self.times.is_by_proctime()
    }

    fn on_timer(&mut self, now: Timestamp, out: &mut Output) -> Result<Progress> {
        if !self.times.is_by_proctime() {
            return Ok(Progress::Done);
        }
        self.times.set_now(now);
        self.sessions.advance(now.0);
        self.end_sessions(out)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        self.sessions.next_due().filter(|_| self.times.is_by_proctime()).map(Timestamp)
    }

    fn next_due(&self) -> Timestamp {
        self.sessions.next_due().map_or(Timestamp::MAX, Timestamp)
    }

    fn spillable(&self) -> Spillable {
        Spillable::ByWatermark.if_keyed(!self.config.keys.is_empty() && !self.times.is_by_proctime())
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        self.table.snapshot(writer)?;
        let (mut slots, mut starts, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for (_, session) in self.sessions.iter() {
            slots.extend_from_slice(&session.members);
            starts.resize(slots.len(), session.start);
            ends.resize(slots.len(), session.end);
        }
        for run in self.table.directory.cut(&slots, PART_ROWS) {
            let part = (slots.get(run.clone()), starts.get(run.clone()), ends.get(run));
            let (Some(slots), Some(starts), Some(ends)) = part else { return Err(broken()) };
            let (mut columns, numbers) = self.pieces(slots)?;
            let groups = crate::state::key::key_groups(&columns, slots.len())?;
            columns.push(Arc::new(Int64Array::from(starts.to_vec())));
            columns.push(Arc::new(Int64Array::from(ends.to_vec())));
            columns.push(Arc::new(numbers));
            writer.keyed(SESSIONS, anonymous(columns, slots.len())?, groups)?;
        }
        writer.watermark(self.sessions.reached())
    }

    fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        self.table.restore(reader)?;
        for batch in reader.table(SESSIONS)? {
            let width = self.config.keys.len();
            let (keys, columns) = batch.columns().split_at_checked(width).ok_or_else(broken)?;
            let column = |i: usize| columns.get(i).and_then(|c| c.as_primitive_opt::<Int64Type>());
            let (Some(starts), Some(ends), Some(numbers)) = (column(0), column(1), column(2)) else {
                return Err(broken());
            };
            let mut key_slots = Vec::new();
            self.keys.intern(keys, batch.num_rows(), &mut key_slots)?;
            let mut pieces = keys.to_vec();
            pieces.push(Arc::new(numbers.clone()));
            let mut slots = Vec::new();
            self.table.directory.lookup(&pieces, batch.num_rows(), &mut slots)?;
            for (row, (key, slot)) in key_slots.iter().zip(&slots).enumerate() {
                if *slot as usize >= self.table.rows.len() {
                    return Err(broken());
                }
                self.sessions.restore(*key, starts.value(row), ends.value(row), *slot);
                self.next_piece = self.next_piece.max(numbers.value(row) + 1);
            }
        }
        self.sessions.advance(reader.watermark()?.unwrap_or(i64::MIN));
        Ok(())
    }

    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics {
            late_rows_dropped: self.late_rows,
            null_times_dropped: self.null_times,
            state_entries: self.table.entries() as u64,
            state_bytes: (self.table.size() + self.keys.size() + self.sessions.size()) as u64,
            ..OperatorMetrics::default()
        }
    }
}

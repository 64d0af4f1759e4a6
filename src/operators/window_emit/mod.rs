//! Windows of GROUP BY that show results before they end and after: Flink's early and late fire.
//!
//! ```text
//!  rows ─► one copy per window ─► groups by (keys, window end)
//!                                     │ early delay: at once, or by a timer      │ watermark ≥ due: whatever has changed
//!                                     │ late delay, until due + allowed lateness │ then the window is forgotten
//!                                     ▼
//!                        +I, then -U +U where the result is another than the one shown
//! ```
//!
//! | state | key → value | dropped |
//! |---|---|---|
//! | table (`groups`, …) | keys, window end → states of the aggregates | when the watermark has passed the end and the allowed lateness |
//! | shown (`shown`) | keys, window end → the result that was shown last | likewise |
//! | open, passed, timers | end, time → groups | derived |
//!
//! Input: append-only, or any changelog; output: updates of the row of a group and window. A row is late, dropped and counted,
//! when all of its windows are forgotten. With a delay of 0 a window is shown with every bundle of rows, row by row with
//! bundles of one row; any other delay is of processing time, from the first row on. Where Flink loses the changes that wait
//! for a late delay when the lateness ends, they are shown here. A barrier writes groups and what was shown; after a
//! restore, delays begin anew. By processing time, windows end by the clock and those that are open at the end are lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, TimestampMillisecondArray,
    UInt32Array,
};
use arrow::compute::{interleave, take};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

use crate::error::{Error, Result};
use crate::operators::emit::emit_in_slices;
use crate::operators::group_aggregate::AggregateTable;
use crate::operators::keyed_rows::PART_ROWS;
use crate::operators::window_aggregate::assign::to_millis;
use crate::operators::window_aggregate::{
    WallClock, WindowAggregateConfig, WindowKind, WindowOutput, WindowPhase,
};
use crate::runtime::operator::{Operator, OperatorMetrics, Output, Progress, Spillable};
use crate::state::RowStore;
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};
use crate::stream::{ChangeBatch, RowKind, RowKinds, Timestamp};

const SHOWN: &str = "shown";

/// `table.exec.emit.*`: when windows show results besides their end. Times are milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmitStrategy {
    /// Delay before the end; `None`: not before it.
    pub early: Option<i64>,
    /// Delay behind the end; `None`: at once, for rows that are not too late.
    pub late: Option<i64>,
    /// How long behind its end a window takes rows.
    pub lateness: i64,
}

/// What the planner hands over.
#[derive(Debug, Clone)]
pub struct EmittingWindowConfig {
    /// The aggregate, in phase `Single`, over TUMBLE or HOP.
    pub aggregate: WindowAggregateConfig,
    /// When it shows results.
    pub emit: EmitStrategy,
    /// Whether a consumer needs `-U` before `+U`.
    pub emit_update_before: bool,
    /// Input rows per bundle; `None`: one input batch.
    pub bundle_rows: Option<usize>,
}

/// What is known of a group of a window.
#[derive(Debug, Clone, Copy, Default)]
struct Group {
    end: i64,
    /// Whether it is among those of its window.
    listed: bool,
    /// Whether a result is shown.
    shown: bool,
    /// Whether rows came since.
    changed: bool,
    /// Whether the window has ended.
    ended: bool,
    timer: Option<i64>,
}

/// The operator; see the module.
pub struct EmittingWindowOperator {
    config: EmittingWindowConfig,
    /// Length and distance of windows.
    size: i64,
    slide: i64,
    clock: Option<WallClock>,
    table: AggregateTable,
    shown: RowStore,
    /// By slot.
    groups: Vec<Group>,
    /// Window end → slots; of windows that have not ended.
    open: BTreeMap<i64, Vec<u32>>,
    /// The same of windows that have, and still take rows.
    passed: BTreeMap<i64, Vec<u32>>,
    timers: BTreeMap<i64, Vec<u32>>,
    watermark: i64,
    now: i64,
    late_rows: u64,
    null_times: u64,
    times: Vec<i64>,
    slots: Vec<u32>,
}

impl std::fmt::Debug for EmittingWindowOperator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmittingWindowOperator").field("config", &self.config).finish_non_exhaustive()
    }
}

impl EmittingWindowOperator {
    /// An instance without groups.
    ///
    /// # Errors
    /// Internal for windows that are neither TUMBLE nor HOP; what [`WindowAggregateConfig::validate`] finds.
    pub fn new(config: EmittingWindowConfig) -> Result<Self> {
        let own = &config.aggregate;
        let (size, slide) = match own.window.kind {
            WindowKind::Tumble { size } => (size, size),
            WindowKind::Hop { size, slide } => (size, slide),
            other => return Err(Error::internal(format!("windows {other:?} are shown at their end only"))),
        };
        if own.phase != WindowPhase::Single {
            return Err(Error::internal("windows that show results early are aggregated in one phase"));
        }
        own.validate_output()?;
        let table = AggregateTable::new(
            &own.input_schema,
            &own.keys,
            &[DataType::Int64],
            &own.aggregates,
            own.input_retracts,
        )?;
        let results: Vec<DataType> = own.aggregates.iter().map(|a| a.return_type().clone()).collect();
        Ok(EmittingWindowOperator {
            size,
            slide,
            clock: own.window.zone.map(WallClock::new),
            table,
            shown: RowStore::new(&results)?,
            groups: Vec::new(),
            open: BTreeMap::new(),
            passed: BTreeMap::new(),
            timers: BTreeMap::new(),
            watermark: i64::MIN,
            now: i64::MIN,
            late_rows: 0,
            null_times: 0,
            times: Vec::new(),
            slots: Vec::new(),
            config,
        })
    }

    fn has_ended(&self, end: i64) -> bool {
        self.watermark != i64::MIN && self.config.aggregate.window.due(end) <= self.watermark
    }

    /// Whether a window is forgotten.
    fn is_over(&self, end: i64) -> bool {
        let last = self.config.aggregate.window.due(end).saturating_add(self.config.emit.lateness);
        self.watermark != i64::MIN && last <= self.watermark
    }

    /// Rows with the ends of their windows, the latest first.
    fn assign(&mut self, rows: &RecordBatch) -> Result<Vec<(u32, i64)>> {
        let own = &self.config.aggregate;
        let mut pairs = Vec::with_capacity(rows.num_rows());
        let mut nulls = None;
        if own.by_proctime {
            self.times.clear();
            self.times.resize(rows.num_rows(), self.now);
        } else {
            let column = rows
                .columns()
                .get(own.time_column)
                .ok_or_else(|| Error::internal("a window without its time column"))?;
            to_millis(column, &mut self.times)?;
            nulls = column.nulls().filter(|n| n.null_count() > 0).cloned();
        }
        if let Some(clock) = &mut self.clock {
            self.times.iter_mut().for_each(|t| *t = clock.shift(*t));
        }
        for (row, time) in self.times.iter().enumerate() {
            if nulls.as_ref().is_some_and(|n| n.is_null(row)) {
                self.null_times += 1;
                continue;
            }
            let before = pairs.len();
            let mut start = own.window.slice_end(*time).saturating_sub(self.slide);
            let mut is_in_one = false;
            while start > time.saturating_sub(self.size) {
                is_in_one = true;
                let end = start.saturating_add(self.size);
                if !self.is_over(end) {
                    pairs.push((row as u32, end));
                }
                let Some(next) = start.checked_sub(self.slide) else { break };
                start = next;
            }
            self.late_rows += u64::from(is_in_one && pairs.len() == before);
        }
        Ok(pairs)
    }

    /// Takes rows into the groups of their windows; gives the groups in the order in which they were touched.
    fn add(&mut self, batch: &ChangeBatch) -> Result<Vec<u32>> {
        let pairs = self.assign(&batch.rows)?;
        if pairs.is_empty() {
            return Ok(Vec::new());
        }
        let rows = UInt32Array::from_iter_values(pairs.iter().map(|(row, _)| *row));
        let evaluated = self.table.evaluate_exprs(&batch.rows)?.take(rows.values())?;
        let mut keys = self.table.key_columns(&evaluated);
        keys.push(Arc::new(Int64Array::from_iter_values(pairs.iter().map(|(_, end)| *end))) as ArrayRef);
        let mut slots = std::mem::take(&mut self.slots);
        self.table.directory.intern(&keys, pairs.len(), &mut slots)?;
        self.table.grow();
        self.groups.resize(self.table.rows.len(), Group::default());
        let signs: Option<Vec<i8>> = batch
            .kinds
            .as_ref()
            .map(|k| pairs.iter().map(|(row, _)| 1 - 2 * (k.codes()[*row as usize] as i8 & 1)).collect());
        let mut touched = Vec::new();
        for (i, (slot, (_, end))) in slots.iter().zip(&pairs).enumerate() {
            let place = *slot as usize;
            self.table.rows[place] += signs.as_ref().map_or(1, |s| i64::from(s[i]));
            let group = &mut self.groups[place];
            if !group.changed {
                group.changed = true;
                touched.push(*slot);
            }
            if !std::mem::replace(&mut group.listed, true) {
                group.end = *end;
                self.list(*slot, *end);
            }
        }
        self.table.update(&evaluated, &slots, signs.as_deref())?;
        self.slots = slots;
        Ok(touched)
    }

    fn list(&mut self, slot: u32, end: i64) {
        let windows = if self.has_ended(end) { &mut self.passed } else { &mut self.open };
        windows.entry(end).or_default().push(slot);
    }

    /// Which of the touched groups are shown at once; timers are set for others.
    fn settle(&mut self, touched: Vec<u32>) -> Vec<u32> {
        let mut at_once = Vec::new();
        for slot in touched {
            let group = self.groups[slot as usize];
            let delay = if !self.has_ended(group.end) {
                match self.config.emit.early {
                    None => continue,
                    Some(delay) => delay,
                }
            } else if group.ended {
                self.config.emit.late.unwrap_or(0)
            } else {
                // The window ended before it had a row: nobody has seen it yet.
                0
            };
            if delay == 0 {
                at_once.push(slot);
            } else if group.timer.is_none() {
                self.set_timer(slot, self.now.saturating_add(delay));
            }
        }
        at_once
    }

    fn set_timer(&mut self, slot: u32, at: i64) {
        self.groups[slot as usize].timer = Some(at);
        self.timers.entry(at).or_default().push(slot);
    }

    /// Shows the groups that have changed.
    fn show(&mut self, slots: &[u32], out: &mut Output) -> Result<()> {
        let changed: Vec<u32> =
            slots.iter().copied().filter(|s| std::mem::take(&mut self.groups[*s as usize].changed)).collect();
        for part in self.table.directory.cut(&changed, self.table.groups_of_a_part(PART_ROWS)) {
            self.show_part(&changed[part], out)?;
        }
        Ok(())
    }

    fn show_part(&mut self, slots: &[u32], out: &mut Output) -> Result<()> {
        let is_alive = |s: &u32| self.table.rows[*s as usize] > 0;
        let alive: Vec<u32> = slots.iter().copied().filter(is_alive).collect();
        let before: Vec<u32> = slots.iter().copied().filter(|s| self.groups[*s as usize].shown).collect();
        let new = self.table.evaluate(&alive)?;
        let has_results = !new.is_empty();
        let source = if has_results { Some(self.shown.source(&new)?) } else { None };
        let old = if has_results && !before.is_empty() { self.shown.gather(&before)? } else { Vec::new() };
        // Which of the slots, and which row of old (0) or new (1), each output row takes.
        let (mut places, mut rows, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
        let (mut put, mut put_rows) = (Vec::new(), Vec::new());
        let (mut old_row, mut new_row) = (0, 0);
        for (place, slot) in slots.iter().enumerate() {
            let mut push = |row: (usize, usize), kind: RowKind| {
                places.push(place as u32);
                rows.push(row);
                kinds.push(kind as u8);
            };
            let group = &mut self.groups[*slot as usize];
            let is_alive = self.table.rows[*slot as usize] > 0;
            let is_same = |row: usize| source.as_ref().is_none_or(|s| self.shown.is_equal(s, row, *slot));
            let shows = match (group.shown, is_alive) {
                (false, true) => {
                    push((1, new_row), RowKind::Insert);
                    true
                }
                (true, true) if !is_same(new_row) => {
                    if self.config.emit_update_before {
                        push((0, old_row), RowKind::UpdateBefore);
                    }
                    push((1, new_row), RowKind::UpdateAfter);
                    true
                }
                (true, false) => {
                    push((0, old_row), RowKind::Delete);
                    false
                }
                _ => false,
            };
            if shows {
                put.push(*slot);
                put_rows.push(new_row as u32);
            }
            old_row += usize::from(group.shown);
            group.shown = is_alive;
            new_row += usize::from(is_alive);
        }
        if let Some(source) = &source {
            self.shown.put(&put, source, &put_rows);
        }
        if kinds.is_empty() {
            return Ok(());
        }
        let batch = self.output(slots, (&places, &rows), (&old, &new))?;
        emit_in_slices(&ChangeBatch::with_kinds(batch, RowKinds::new(kinds)), out);
        Ok(())
    }

    /// Output rows: which of `slots` each is of, and which of the old (0) and new (1) results.
    fn output(
        &self,
        slots: &[u32],
        (places, rows): (&[u32], &[(usize, usize)]),
        (old, new): (&[ArrayRef], &[ArrayRef]),
    ) -> Result<RecordBatch> {
        let own = &self.config.aggregate;
        let keys = self.table.directory.keys(slots)?;
        let of_slots = UInt32Array::from(places.to_vec());
        let ends: Vec<i64> = places.iter().map(|p| self.groups[slots[*p as usize] as usize].end).collect();
        let times = |of: &dyn Fn(i64) -> i64| {
            TimestampMillisecondArray::from_iter_values(ends.iter().map(|end| of(*end)))
        };
        let missing = || Error::internal("a window aggregate without one of its columns");
        let columns = own.output.iter().map(|column| {
            Ok(match *column {
                WindowOutput::Key(i) => take(keys.get(i).ok_or_else(missing)?, &of_slots, None)?,
                WindowOutput::Start => Arc::new(times(&|end| end.saturating_sub(self.size))),
                WindowOutput::End => Arc::new(times(&|end| end)),
                WindowOutput::Time => {
                    let zone = own.window.zone.map(|_| "UTC");
                    Arc::new(times(&|end| own.window.window_time(end)).with_timezone_opt(zone))
                }
                WindowOutput::Aggregate(i) => {
                    let new = new.get(i).ok_or_else(missing)?;
                    match old.get(i) {
                        Some(old) => interleave(&[old.as_ref(), new.as_ref()], rows)?,
                        None => {
                            take(new, &rows.iter().map(|(_, r)| *r as u32).collect::<UInt32Array>(), None)?
                        }
                    }
                }
            })
        });
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(places.len()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&own.output_schema), columns, &options)?)
    }

    /// Shows windows that have ended, and forgets those whose lateness is over.
    fn advance(&mut self, out: &mut Output) -> Result<()> {
        while let Some((end, _)) = self.open.first_key_value()
            && self.has_ended(*end)
        {
            let Some((end, slots)) = self.open.pop_first() else { break };
            self.show(&slots, out)?;
            for slot in &slots {
                self.groups[*slot as usize].ended = true;
            }
            self.passed.entry(end).or_default().extend(slots);
        }
        while let Some((end, _)) = self.passed.first_key_value()
            && self.is_over(*end)
        {
            let Some((_, slots)) = self.passed.pop_first() else { break };
            self.show(&slots, out)?;
            self.forget(&slots);
        }
        Ok(())
    }

    fn forget(&mut self, slots: &[u32]) {
        let with_rows: Vec<u32> = slots.iter().copied().filter(|s| self.groups[*s as usize].shown).collect();
        if !self.config.aggregate.aggregates.is_empty() {
            self.shown.free(&with_rows);
        }
        self.table.clear(slots);
        for slot in slots {
            self.table.rows[*slot as usize] = 0;
            let group = std::mem::take(&mut self.groups[*slot as usize]);
            if let Some(at) = group.timer
                && let Some(others) = self.timers.get_mut(&at)
            {
                others.retain(|other| other != slot);
                if others.is_empty() {
                    self.timers.remove(&at);
                }
            }
        }
        self.table.directory.remove(slots);
    }
}

impl Operator for EmittingWindowOperator {
    fn name(&self) -> &'static str {
        "GroupWindowAggregate"
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, out: &mut Output) -> Result<Progress> {
        if batch.kinds.is_some() && !self.config.aggregate.input_retracts {
            return Err(Error::internal("GroupWindowAggregate: updates in append-only input"));
        }
        let rows = batch.num_rows();
        let step = self.config.bundle_rows.unwrap_or(rows).clamp(1, rows.max(1));
        for from in (0..rows).step_by(step) {
            let touched = self.add(&batch.slice(from, step.min(rows - from)))?;
            let at_once = self.settle(touched);
            self.show(&at_once, out)?;
        }
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, watermark: Timestamp, out: &mut Output) -> Result<Progress> {
        if !self.config.aggregate.by_proctime {
            self.watermark = self.watermark.max(watermark.0);
            self.advance(out)?;
        }
        Ok(Progress::Done)
    }

    fn takes_time(&self) -> bool {
        let is_delayed = |delay: Option<i64>| delay.is_some_and(|d| d > 0);
        self.config.aggregate.by_proctime
            || is_delayed(self.config.emit.early)
            || is_delayed(self.config.emit.late)
    }

    fn on_timer(&mut self, now: Timestamp, out: &mut Output) -> Result<Progress> {
        // A clock that was set back stands still.
        self.now = self.now.max(now.0);
        if self.config.aggregate.by_proctime {
            self.watermark = self.now;
            self.advance(out)?;
        }
        while let Some((at, _)) = self.timers.first_key_value()
            && *at <= self.now
        {
            let Some((_, slots)) = self.timers.pop_first() else { break };
            for slot in &slots {
                self.groups[*slot as usize].timer = None;
            }
            self.show(&slots, out)?;
        }
        Ok(Progress::Done)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        let timer = self.timers.first_key_value().map(|(at, _)| *at);
        let window = &self.config.aggregate.window;
        let ends = self.open.first_key_value().map(|(end, _)| window.due(*end));
        let ends = ends.filter(|_| self.config.aggregate.by_proctime);
        timer.into_iter().chain(ends).min().map(Timestamp)
    }

    fn spillable(&self) -> Spillable {
        Spillable::ByWatermark.if_keyed(!self.config.aggregate.keys.is_empty() && !self.takes_time())
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        self.table.snapshot(writer)?;
        let all = self.table.directory.slots();
        let shown: Vec<u32> = all.into_iter().filter(|s| self.groups[*s as usize].shown).collect();
        for part in self.table.directory.cut(&shown, self.table.groups_of_a_part(PART_ROWS)) {
            let slots = &shown[part];
            let mut columns = self.table.directory.keys(slots)?;
            if !self.config.aggregate.aggregates.is_empty() {
                columns.extend(self.shown.gather(slots)?);
            }
            let field = |(i, c): (usize, &ArrayRef)| Field::new(format!("c{i}"), c.data_type().clone(), true);
            let schema = Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>());
            let rows = RecordBatch::try_new(Arc::new(schema), columns)?;
            // Keys without the window end, as of the groups.
            let keys = self.config.aggregate.keys.len();
            let groups = crate::state::key::key_groups(&rows.columns()[..keys], rows.num_rows())?;
            writer.keyed(SHOWN, rows, groups)?;
        }
        writer.watermark(self.watermark)
    }

    fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        let broken = || Error::internal("the state of windows has other columns than it should");
        self.watermark = reader.watermark()?.unwrap_or(i64::MIN);
        self.table.restore(reader)?;
        self.groups.resize(self.table.rows.len(), Group::default());
        let all = self.table.directory.slots();
        for part in self.table.directory.cut(&all, PART_ROWS) {
            let slots = &all[part];
            let keys = self.table.directory.keys(slots)?;
            let ends = keys.last().and_then(|c| c.as_primitive_opt::<Int64Type>()).ok_or_else(broken)?;
            for (slot, end) in slots.iter().zip(ends.values()) {
                let ended = self.has_ended(*end);
                let delay = if ended { self.config.emit.late } else { self.config.emit.early };
                // Without a delay all that had changed was shown before the barrier.
                let changed = if ended { delay.is_some_and(|d| d > 0) } else { delay != Some(0) };
                let group = Group { end: *end, listed: true, changed, ended, ..Group::default() };
                self.groups[*slot as usize] = group;
                self.list(*slot, *end);
                if delay.is_some_and(|d| d > 0) {
                    self.set_timer(*slot, i64::MIN);
                }
            }
        }
        let keys = self.table.directory.types().len();
        for batch in reader.table(SHOWN)? {
            let (own, results) = batch.columns().split_at_checked(keys).ok_or_else(broken)?;
            let mut slots = Vec::new();
            self.table.directory.lookup(own, batch.num_rows(), &mut slots)?;
            if slots.iter().any(|s| self.groups.get(*s as usize).is_none()) {
                return Err(broken());
            }
            if !results.is_empty() {
                let source = self.shown.source(results)?;
                let rows: Vec<u32> = (0..batch.num_rows() as u32).collect();
                self.shown.put(&slots, &source, &rows);
            }
            slots.iter().for_each(|s| self.groups[*s as usize].shown = true);
        }
        Ok(())
    }

    fn metrics(&self) -> OperatorMetrics {
        let lists = self.open.len() + self.passed.len() + self.timers.len();
        OperatorMetrics {
            late_rows_dropped: self.late_rows,
            null_times_dropped: self.null_times,
            state_entries: self.table.entries() as u64,
            state_bytes: (self.table.size()
                + self.shown.size()
                + self.groups.capacity() * size_of::<Group>()
                + lists * 64) as u64,
            ..OperatorMetrics::default()
        }
    }
}

#[cfg(test)]
mod tests;

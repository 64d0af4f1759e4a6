//! Interval joins: `l.k = r.k AND l.ts BETWEEN r.ts - INTERVAL … AND r.ts + INTERVAL …`, over row times; window joins.
//!
//! ```text
//!  left  ══ key ══► ┌ rows of the key by time ─► own side: add ──────────────────────┐
//!                   │                                                                ├─► pairs ─► take, gather ─► out
//!  right ══ key ══► └ rows of the key by time ─► other side: rows within the interval ┘    residual condition
//!
//!  watermark ─► rows that nothing can meet any more: out, padded, where they have had no match ─► gone
//! ```
//!
//! | state | key → value | dropped |
//! |---|---|---|
//! | directory | join key → slot, shared by both sides | when neither side has rows of the key |
//! | side (`timed_rows`) | slot → chain of rows by time: the columns that come out or that the condition reads | when the watermark passes the last time that they can meet |
//! | matched | row → whether it has had a match; where rows without one come out | with its row |
//!
//! A window join, `l.window_start = r.window_start AND l.window_end = r.window_end AND …`, is one whose times are those of
//! the windows and have to be equal: a window is forgotten when it has passed, and a row that is late for it is dropped.
//!
//! Inner, outer, semi and anti joins; the right side of a semi or anti join comes out nowhere. Rows without a time meet
//! nothing. A late row meets what is still there, and is kept only if something can still come for it: as in Flink. Input
//! and output are append-only. Both row times stay row times: the watermark goes on behind by as much as a row of either
//! side may wait. A batch that meets a lot, and a watermark that lets many rows go, are handed out in parts; barriers come
//! between; the end is the last watermark. Snapshots are whole.

mod snapshot;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::DataType;

use crate::error::{Error, Result};
use crate::operators::join::emit::{Emitter, INSERT};
use crate::operators::join::rows::NO_ROW;
use crate::operators::join::{JoinColumn, JoinConfig, JoinKind, JoinSide, OUTPUT_ROWS, filter, most_pairs};
use crate::operators::timed_rows::TimedRows;
use crate::operators::window_aggregate::assign::to_millis;
use crate::runtime::operator::{Operator, OperatorMetrics, Output, Progress, Spillable};
use crate::state::GroupDirectory;
use crate::stream::bytes::widest_row;
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};
use crate::stream::{BATCH_ROWS, ChangeBatch, Timestamp};

/// Buckets of time that the rows of a side are divided among, about.
const BUCKETS: i64 = 256;

/// An interval join.
#[derive(Debug, Clone)]
pub struct IntervalJoinConfig {
    /// Keys, residual condition, what comes out.
    pub join: JoinConfig,
    /// Row time columns of the left and the right.
    pub times: [usize; 2],
    /// Least and greatest left time less right time, in ms.
    pub bounds: (i64, i64),
    /// Of a window join: how far the time of a window is behind its end, where the times are ends of windows, in ms.
    pub window: Option<i64>,
}

impl IntervalJoinConfig {
    /// How long a row of `side` waits for the last one that it can meet, in ms.
    fn keep(&self, side: JoinSide) -> i64 {
        match side {
            JoinSide::Left => self.bounds.0.saturating_neg(),
            JoinSide::Right => self.bounds.1,
        }
    }

    /// How far behind the watermark rows come out.
    fn delay(&self) -> i64 {
        self.keep(JoinSide::Left).max(self.keep(JoinSide::Right)).max(0)
    }

    /// Times of the other side that a row of `side` meets.
    fn range(&self, side: JoinSide, time: i64) -> (i64, i64) {
        let (least, greatest) = self.bounds;
        match side {
            JoinSide::Left => (time.saturating_sub(greatest), time.saturating_sub(least)),
            JoinSide::Right => (time.saturating_add(least), time.saturating_add(greatest)),
        }
    }

    /// Whether a row of `side` without match comes out, and so does one with its first match.
    fn tracks(&self, side: JoinSide) -> bool {
        self.join.kind.pads(side) || (self.join.kind.is_left_only() && side == JoinSide::Left)
    }

    /// Whether a row of `side` without match comes out in the end.
    fn gives_unmatched(&self, side: JoinSide) -> bool {
        self.join.kind.pads(side) || (self.join.kind == JoinKind::LeftAnti && side == JoinSide::Left)
    }

    fn validate(&self) -> Result<()> {
        self.join.validate()?;
        if self.window.is_some() && self.bounds != (0, 0) {
            return Err(Error::internal("windows that meet at different times"));
        }
        let known = matches!(
            self.join.kind,
            JoinKind::Inner
                | JoinKind::Left
                | JoinKind::Right
                | JoinKind::Full
                | JoinKind::LeftSemi
                | JoinKind::LeftAnti
        );
        let appends = !self.join.left.retracts && !self.join.right.retracts;
        if known && appends { Ok(()) } else { Err(Error::internal("this cannot be an interval join")) }
    }
}

/// A batch under way.
struct Work {
    side: JoinSide,
    rows: RecordBatch,
    /// Bytes of the widest of them.
    widest: usize,
    /// Pairs that are handed out at once.
    most: usize,
    slots: Vec<u32>,
    times: Vec<i64>,
    /// Whether a row has a key and a time.
    probes: Vec<bool>,
    /// Ids of rows that are kept.
    ids: Vec<u32>,
    matched: Vec<bool>,
    /// Next row.
    row: usize,
    /// Next stored row of its chain; `None` before its first.
    next: Option<u32>,
}

/// The operator; see the module.
pub struct IntervalJoinOperator {
    config: IntervalJoinConfig,
    directory: GroupDirectory,
    /// Left, right.
    sides: [TimedRows; 2],
    /// For each side, the input columns that are stored.
    stored: [Vec<usize>; 2],
    /// No row of each input, for output of stored rows alone.
    nothing: [RecordBatch; 2],
    watermark: i64,
    work: Option<Work>,
    /// Whether rows are to go that the watermark has passed.
    expiring: bool,
    emitter: Emitter,
    /// Slots that may have lost their last row.
    idle: Vec<u32>,
    null_times: u64,
    late_rows: u64,
}

impl std::fmt::Debug for IntervalJoinOperator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IntervalJoinOperator").field("config", &self.config).finish_non_exhaustive()
    }
}

impl IntervalJoinOperator {
    /// An instance.
    ///
    /// # Errors
    /// Internal if the parts do not fit together; unsupported for key types that cannot be keys.
    pub fn new(config: IntervalJoinConfig) -> Result<Self> {
        config.validate()?;
        let range = config.bounds.1.saturating_sub(config.bounds.0);
        let stored = [JoinSide::Left, JoinSide::Right].map(|side| stored_columns(&config.join, side));
        let side = |side: JoinSide| {
            let schema = &config.join.input(side).schema;
            let types: Vec<DataType> =
                stored[side as usize].iter().map(|c| schema.field(*c).data_type().clone()).collect();
            TimedRows::new(types, Some((config.keep(side), range / BUCKETS)), config.tracks(side))
        };
        Ok(IntervalJoinOperator {
            directory: GroupDirectory::new(&config.join.key_types())?,
            sides: [side(JoinSide::Left), side(JoinSide::Right)],
            nothing: [&config.join.left, &config.join.right]
                .map(|input| RecordBatch::new_empty(input.schema.clone())),
            stored,
            config,
            watermark: i64::MIN,
            work: None,
            expiring: false,
            emitter: Emitter::default(),
            idle: Vec::new(),
            null_times: 0,
            late_rows: 0,
        })
    }

    fn begin(&mut self, side: JoinSide, rows: RecordBatch) -> Result<()> {
        let (own, n) = (side as usize, rows.num_rows());
        let input = self.config.join.input(side);
        let time = rows.column(self.config.times[own]);
        let mut times = Vec::with_capacity(n);
        to_millis(time, &mut times)?;
        if let Some(behind) = self.config.window {
            times.iter_mut().for_each(|t| *t = t.saturating_sub(behind));
        }
        let keys: Vec<ArrayRef> = input.keys.iter().map(|k| rows.column(*k).clone()).collect();
        let mut slots = Vec::new();
        self.directory.intern(&keys, n, &mut slots)?;
        self.sides.iter_mut().for_each(|s| s.grow_slots(self.directory.capacity()));
        let mut probes = vec![true; n];
        let mut late = vec![false; n];
        if self.config.window.is_some() {
            late.iter_mut().zip(&times).for_each(|(late, time)| *late = *time <= self.watermark);
        }
        if let Some(nulls) = time.logical_nulls().filter(|n| n.null_count() > 0) {
            if !self.config.gives_unmatched(side) {
                self.null_times += nulls.null_count() as u64;
            }
            probes.iter_mut().enumerate().for_each(|(row, p)| *p &= nulls.is_valid(row));
            // What has no window is late for none.
            late.iter_mut().enumerate().for_each(|(row, late)| *late &= nulls.is_valid(row));
        }
        for (key, null_safe) in keys.iter().zip(&self.config.join.null_safe) {
            if let Some(nulls) = key.logical_nulls().filter(|n| n.null_count() > 0 && !null_safe) {
                probes.iter_mut().enumerate().for_each(|(row, p)| *p &= nulls.is_valid(row));
            }
        }
        let (mut ids, mut matched) = (vec![NO_ROW; n], vec![false; n]);
        let kept = &mut self.sides[own];
        for row in 0..n {
            if late[row] {
                // Its window has passed: it comes out nowhere, not even as one without a match.
                self.late_rows += 1;
                (probes[row], matched[row]) = (false, true);
            }
            if probes[row] && !kept.is_expired(times[row], self.watermark) {
                ids[row] = kept.add(row as u32, slots[row], times[row], false)?;
            } else {
                self.idle.push(slots[row]);
            }
        }
        let stored: Vec<ArrayRef> = self.stored[own].iter().map(|c| rows.column(*c).clone()).collect();
        kept.store.append_pending(&stored, n)?;
        let widest = widest_row(rows.columns(), n);
        self.work = Some(Work {
            side,
            widest,
            most: most_pairs(widest.saturating_add(self.sides[side.other() as usize].store.widest())),
            rows,
            slots,
            times,
            probes,
            ids,
            matched,
            row: 0,
            next: None,
        });
        Ok(())
    }

    /// Goes on with the batch under way.
    fn advance(&mut self, out: &mut Output) -> Result<Progress> {
        let Some(mut work) = self.work.take() else { return Ok(Progress::Done) };
        let (mut rows, mut ids): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
        while work.row < work.slots.len() {
            rows.clear();
            ids.clear();
            let first = work.row;
            self.candidates(&mut work, &mut rows, &mut ids);
            let other = work.side.other() as usize;
            let holds = match &self.config.join.filter {
                None => None,
                Some(condition) => Some(filter::holds(
                    condition,
                    work.side,
                    (&work.rows, work.widest),
                    (&self.sides[other].store, &self.stored[other]),
                    &rows,
                    &ids,
                )?),
            };
            for (i, (row, id)) in rows.iter().zip(&ids).enumerate() {
                if holds.as_ref().is_none_or(|h| h[i]) {
                    self.take_match(&mut work, *row, *id);
                }
            }
            // What is not kept has met all that it can.
            if self.config.gives_unmatched(work.side) {
                for row in first..work.row {
                    if work.ids[row] == NO_ROW && !work.matched[row] {
                        self.emitter.push(row as u32, NO_ROW, INSERT);
                    }
                }
            }
            self.flush_rows(&work, out)?;
            if out.is_full(OUTPUT_ROWS) && work.row < work.slots.len() {
                self.work = Some(work);
                return Ok(Progress::More);
            }
        }
        self.forget()?;
        Ok(Progress::Done)
    }

    /// Rows of the batch beside stored rows that their times let them meet, up to as many as are handed out at once.
    fn candidates(&self, work: &mut Work, rows: &mut Vec<u32>, ids: &mut Vec<u32>) {
        let other = &self.sides[work.side.other() as usize];
        while work.row < work.slots.len() && ids.len() < work.most {
            let row = work.row;
            let (least, greatest) = self.config.range(work.side, work.times[row]);
            let enter = || if work.probes[row] { other.last[work.slots[row] as usize] } else { NO_ROW };
            let mut at = work.next.unwrap_or_else(enter);
            while at != NO_ROW && ids.len() < work.most {
                let time = other.times[at as usize];
                if time < least {
                    at = NO_ROW;
                    break;
                }
                if time <= greatest {
                    rows.push(row as u32);
                    ids.push(at);
                }
                at = other.before[at as usize];
            }
            if at == NO_ROW {
                work.row += 1;
                work.next = None;
            } else {
                work.next = Some(at);
            }
        }
    }

    /// Row `row` of the batch meets the stored row `id`.
    fn take_match(&mut self, work: &mut Work, row: u32, id: u32) {
        let (own, other) = (work.side as usize, work.side.other() as usize);
        let first_of_own = !std::mem::replace(&mut work.matched[row as usize], true);
        if first_of_own
            && let Some(matched) = &mut self.sides[own].matched
            && work.ids[row as usize] != NO_ROW
        {
            matched[work.ids[row as usize] as usize] = true;
        }
        let met = self.sides[other].matched.as_mut().map(|m| std::mem::replace(&mut m[id as usize], true));
        match (self.config.join.kind, work.side) {
            (JoinKind::LeftAnti, _) => {}
            (JoinKind::LeftSemi, JoinSide::Left) if first_of_own => self.emitter.push(row, NO_ROW, INSERT),
            (JoinKind::LeftSemi, JoinSide::Right) if met == Some(false) => {
                self.emitter.push(NO_ROW, id, INSERT);
            }
            (JoinKind::LeftSemi, _) => {}
            _ => self.emitter.push(row, id, INSERT),
        }
    }

    fn flush_rows(&mut self, work: &Work, out: &mut Output) -> Result<()> {
        let other = work.side.other() as usize;
        let store = &self.sides[other].store;
        let rows = (&work.rows, work.widest);
        self.emitter.flush(&self.config.join, work.side, rows, store, &self.stored[other], out)
    }

    /// Lets rows go that the watermark has passed.
    fn expire(&mut self, out: &mut Output) -> Result<Progress> {
        self.expiring = true;
        for side in [JoinSide::Left, JoinSide::Right] {
            loop {
                let own = side as usize;
                let due = self.sides[own].take_due(self.watermark, BATCH_ROWS);
                if due.is_empty() {
                    break;
                }
                if self.config.gives_unmatched(side) {
                    let matched = self.sides[own].matched.as_deref().unwrap_or_default();
                    for id in due.iter().filter(|id| !matched[**id as usize]) {
                        self.emitter.push(NO_ROW, *id, INSERT);
                    }
                    let beside = side.other();
                    let (store, stored) = (&self.sides[own].store, &self.stored[own]);
                    let nothing = (&self.nothing[beside as usize], 0);
                    self.emitter.flush(&self.config.join, beside, nothing, store, stored, out)?;
                }
                for id in due {
                    if self.sides[own].remove(id) {
                        self.idle.push(self.sides[own].slots[id as usize]);
                    }
                }
                self.forget()?;
                if out.is_full(OUTPUT_ROWS) {
                    return Ok(Progress::More);
                }
            }
        }
        self.expiring = false;
        Ok(Progress::Done)
    }

    /// Gives back what rows and keys that are gone have held.
    fn forget(&mut self) -> Result<()> {
        for side in &mut self.sides {
            side.store.maintain()?;
        }
        if self.idle.is_empty() {
            return Ok(());
        }
        self.idle.sort_unstable();
        self.idle.dedup();
        let [left, right] = &self.sides;
        self.idle.retain(|s| left.last[*s as usize] == NO_ROW && right.last[*s as usize] == NO_ROW);
        self.directory.remove(&self.idle);
        self.idle.clear();
        Ok(())
    }
}

/// The input columns of a side that come out or that the condition reads.
pub(super) fn stored_columns(config: &JoinConfig, side: JoinSide) -> Vec<usize> {
    let mut stored = Vec::new();
    let output = config.output.iter().filter_map(|column| match *column {
        JoinColumn::Input(of, c) => Some((of, c)),
        JoinColumn::Mark => None,
    });
    let read = config.filter.iter().flat_map(|f| f.columns.iter().copied());
    for (of, c) in output.chain(read) {
        if of == side && !stored.contains(&c) {
            stored.push(c);
        }
    }
    stored
}

impl Operator for IntervalJoinOperator {
    fn name(&self) -> &'static str {
        if self.config.window.is_some() { "WindowJoin" } else { "IntervalJoin" }
    }

    fn process(&mut self, port: usize, batch: ChangeBatch, out: &mut Output) -> Result<Progress> {
        if batch.kinds.is_some() {
            return Err(Error::internal("IntervalJoin: updates in append-only input"));
        }
        let side = if port == 0 { JoinSide::Left } else { JoinSide::Right };
        self.begin(side, batch.rows)?;
        self.advance(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        if self.expiring { self.expire(out) } else { self.advance(out) }
    }

    fn on_watermark(&mut self, watermark: Timestamp, out: &mut Output) -> Result<Progress> {
        self.watermark = self.watermark.max(watermark.0);
        self.expire(out)
    }

    fn output_watermark(&self) -> Option<Timestamp> {
        let delay = self.config.delay();
        let is_held = delay > 0 && self.watermark < i64::MAX;
        is_held.then(|| Timestamp(self.watermark.saturating_sub(delay)))
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
        OperatorMetrics {
            null_times_dropped: self.null_times,
            late_rows_dropped: self.late_rows,
            state_entries: self.sides.iter().map(|s| s.store.len() as u64).sum(),
            state_bytes: (self.directory.size() + self.sides.iter().map(TimedRows::size).sum::<usize>())
                as u64,
            ..OperatorMetrics::default()
        }
    }
}

#[cfg(test)]
mod tests;

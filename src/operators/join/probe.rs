//! What an arriving batch makes of the rows stored on the other side.
//!
//! Two ways. Where the condition is equality of keys alone, whether a row has a match is a question of how many rows its key
//! has on the other side: only a key's first and last row touch padded, semi and anti rows, so that a key with many rows
//! on both sides costs no more than its output. Where a residual condition decides (or rows expire one by one), each row
//! that may come out padded, semi or anti counts its matches: its degree (`tracked`).
//!
//! An update, `-U` and `+U` of one key next to each other, is matched as one: `-U +U` per match in an inner join. Outer joins
//! give `-D` and `+I`, as Flink's do.

use arrow::array::RecordBatch;

use super::config::{JoinKind, JoinSide};
use super::emit::{DELETE, Emitter, INSERT, UPDATE_AFTER, UPDATE_BEFORE};
use super::rows::NO_ROW;
use super::side::{Action, Applied, SideState};
use super::{JoinOperator, Shape};
use crate::error::Result;
use crate::runtime::operator::{Output, Progress};
use crate::stream::RowKinds;
use crate::stream::{BATCH_BYTES, BATCH_ROWS};

/// Rows given out in one call before the driver gets its turn.
pub(in crate::operators) const OUTPUT_ROWS: usize = 4 * BATCH_ROWS;

/// Pairs that are handed out at once however wide their rows may be: one wide row must not make all batches tiny.
const LEAST_PAIRS: usize = 16;

/// Pairs to hand out at once where rows have at most so many bytes.
pub(in crate::operators) fn most_pairs(widest: usize) -> usize {
    (BATCH_BYTES / widest.max(1)).clamp(LEAST_PAIRS, BATCH_ROWS)
}

/// A batch under way.
pub(super) struct Work {
    pub(super) side: JoinSide,
    pub(super) rows: RecordBatch,
    /// Bytes of the widest of them.
    pub(super) widest: usize,
    /// Pairs that are handed out at once.
    pub(super) most: usize,
    pub(super) kinds: Option<RowKinds>,
    pub(super) slots: Vec<u32>,
    pub(super) applied: Applied,
    /// Next row.
    pub(super) row: usize,
    /// Whether the chain of `row` has been entered.
    pub(super) started: bool,
    /// Next stored row of the chain.
    pub(super) next: u32,
    /// Matches by row, where degrees are kept.
    pub(super) matched: Vec<u32>,
    /// Next slot of a walk over all keys.
    pub(super) slot: u32,
}

impl Work {
    #[inline]
    pub(super) fn code(&self, row: usize) -> u8 {
        self.kinds.as_ref().map_or(INSERT, |k| k.codes()[row])
    }

    #[inline]
    pub(super) fn retracts(&self, row: usize) -> bool {
        self.code(row) & 1 == 1
    }

    #[inline]
    pub(super) fn plain_kind(&self, row: usize) -> u8 {
        if self.retracts(row) { DELETE } else { INSERT }
    }

    /// Whether `row` and the next one are an update that stays within its key.
    #[inline]
    pub(super) fn is_pair(&self, row: usize) -> bool {
        let Some(kinds) = &self.kinds else { return false };
        kinds.codes()[row] == UPDATE_BEFORE
            && kinds.codes().get(row + 1) == Some(&UPDATE_AFTER)
            && self.slots[row] == self.slots[row + 1]
            && self.applied.actions[row] == self.applied.actions[row + 1]
            && self.applied.actions[row] != Action::Ignore
    }

    /// Enters the chain of the next row, if that has not been done.
    #[inline]
    pub(super) fn enter(&mut self, other: &SideState) {
        if !self.started {
            self.started = true;
            let probes = self.applied.actions[self.row] == Action::Probe;
            self.next = if probes { other.heads[self.slots[self.row] as usize] } else { NO_ROW };
        }
    }

    #[inline]
    pub(super) fn leave(&mut self, width: usize) {
        self.started = false;
        self.row += width;
    }

    /// One output row per time that the stored row is there.
    #[inline]
    pub(super) fn emit_pair(
        &self,
        row: u32,
        id: u32,
        times: u32,
        as_update: bool,
        before: bool,
        to: &mut Emitter,
    ) {
        for _ in 0..times {
            if !as_update {
                to.push(row, id, DELETE);
                to.push(row + 1, id, INSERT);
            } else {
                if before {
                    to.push(row, id, UPDATE_BEFORE);
                }
                to.push(row + 1, id, UPDATE_AFTER);
            }
        }
    }
}

#[inline]
pub(super) fn repeat(to: &mut Emitter, times: u32, own: u32, other: u32, kind: u8) {
    for _ in 0..times {
        to.push(own, other, kind);
    }
}

impl JoinOperator {
    /// Goes on with the batch under way.
    pub(super) fn advance(&mut self, out: &mut Output) -> Result<Progress> {
        let Some(mut work) = self.work.take() else { return Ok(Progress::Done) };
        let mut emitter = std::mem::take(&mut self.emitter);
        let progress = match (self.shape, work.side) {
            (Shape::Tracked, _) => self.probe_tracked(&mut work, &mut emitter, out),
            (Shape::NullAware, JoinSide::Left) => self.null_aware_left(&mut work, &mut emitter, out),
            (Shape::NullAware, JoinSide::Right) => self.null_aware_right(&mut work, &mut emitter, out),
            (Shape::Plain, side) if self.config.kind.is_left_only() => match side {
                JoinSide::Left => self.probe_left_only(&mut work, &mut emitter, out),
                JoinSide::Right => self.turn_left_only(&mut work, &mut emitter, out),
            },
            (Shape::Plain, _) => self.probe_plain(&mut work, &mut emitter, out),
        };
        self.emitter = emitter;
        let progress = progress?;
        if progress == Progress::More {
            self.work = Some(work);
        } else {
            self.end_batch(work)?;
        }
        Ok(progress)
    }

    /// Hands out a full batch; true when the driver should get its turn.
    pub(super) fn hand_out(&self, work: &Work, emitter: &mut Emitter, out: &mut Output) -> Result<bool> {
        if emitter.len() < work.most {
            return Ok(false);
        }
        self.flush_rows(work, emitter, out)?;
        Ok(out.is_full(OUTPUT_ROWS))
    }

    pub(super) fn flush_rows(&self, work: &Work, emitter: &mut Emitter, out: &mut Output) -> Result<()> {
        let other = work.side.other() as usize;
        let store = &self.sides[other].store;
        let rows = (&work.rows, work.widest);
        emitter.flush(&self.config, work.side, rows, store, &self.stored[other], out)
    }

    /// Inner and outer joins on keys alone.
    fn probe_plain(&mut self, work: &mut Work, emitter: &mut Emitter, out: &mut Output) -> Result<Progress> {
        let kind = self.config.kind;
        let as_update = kind == JoinKind::Inner;
        let before = self.config.emit_update_before;
        let (pads_own, pads_other) = (kind.pads(work.side), kind.pads(work.side.other()));
        let other = &self.sides[work.side.other() as usize];
        while work.row < work.slots.len() {
            let row = work.row;
            let pair = work.is_pair(row);
            let width = 1 + usize::from(pair);
            if !work.started {
                work.enter(other);
                if work.next == NO_ROW {
                    if pads_own {
                        for row in row..row + width {
                            if work.applied.actions[row] != Action::Ignore {
                                emitter.push(row as u32, NO_ROW, work.plain_kind(row));
                            }
                        }
                    }
                    work.leave(width);
                    if self.hand_out(work, emitter, out)? {
                        return Ok(Progress::More);
                    }
                    continue;
                }
            }
            let retracts = work.retracts(row);
            let turn = if pads_other && !pair { work.applied.turns[row] } else { 0 };
            let at = row as u32;
            while work.next != NO_ROW {
                let id = work.next;
                work.next = other.next[id as usize];
                let times = other.count(id);
                if pair {
                    work.emit_pair(at, id, times, as_update, before, emitter);
                } else if retracts {
                    repeat(emitter, times, at, id, DELETE);
                    if turn < 0 {
                        repeat(emitter, times, NO_ROW, id, INSERT);
                    }
                } else {
                    if turn > 0 {
                        repeat(emitter, times, NO_ROW, id, DELETE);
                    }
                    repeat(emitter, times, at, id, INSERT);
                }
                if self.hand_out(work, emitter, out)? {
                    return Ok(Progress::More);
                }
            }
            work.leave(width);
        }
        self.flush_rows(work, emitter, out)?;
        Ok(Progress::Done)
    }

    /// Left rows of semi, anti and mark joins on keys alone.
    fn probe_left_only(
        &mut self,
        work: &mut Work,
        emitter: &mut Emitter,
        out: &mut Output,
    ) -> Result<Progress> {
        let right = &self.sides[JoinSide::Right as usize];
        while work.row < work.slots.len() {
            let row = work.row;
            let pair = work.is_pair(row);
            let has_match =
                work.applied.actions[row] == Action::Probe && right.rows[work.slots[row] as usize] > 0;
            self.emit_left_only(work, row, pair, [has_match, has_match], emitter);
            work.row += 1 + usize::from(pair);
            if self.hand_out(work, emitter, out)? {
                return Ok(Progress::More);
            }
        }
        self.flush_rows(work, emitter, out)?;
        Ok(Progress::Done)
    }

    /// A left row (or both of an update) of a join that gives left rows only.
    pub(super) fn emit_left_only(
        &self,
        work: &Work,
        row: usize,
        pair: bool,
        matched: [bool; 2],
        to: &mut Emitter,
    ) {
        let kind = self.config.kind;
        let passes = |has_match: bool| match kind {
            JoinKind::LeftSemi => has_match,
            JoinKind::LeftMark => true,
            _ => !has_match,
        };
        let at = row as u32;
        let mut push = |own: u32, code: u8, has_match: bool| {
            if kind == JoinKind::LeftMark {
                to.push_marked(own, NO_ROW, code, has_match);
            } else {
                to.push(own, NO_ROW, code);
            }
        };
        if pair && passes(matched[0]) && passes(matched[1]) {
            if self.config.emit_update_before {
                push(at, UPDATE_BEFORE, matched[0]);
            }
            push(at + 1, UPDATE_AFTER, matched[1]);
            return;
        }
        for (i, has_match) in matched.into_iter().enumerate().take(1 + usize::from(pair)) {
            if passes(has_match) && work.applied.actions[row + i] != Action::Ignore {
                push(at + i as u32, work.plain_kind(row + i), has_match);
            }
        }
    }

    /// Right rows of semi, anti and mark joins on keys alone: the first and the last one of a key turn its left rows.
    fn turn_left_only(
        &mut self,
        work: &mut Work,
        emitter: &mut Emitter,
        out: &mut Output,
    ) -> Result<Progress> {
        let left = &self.sides[JoinSide::Left as usize];
        while work.row < work.slots.len() {
            let row = work.row;
            let pair = work.is_pair(row);
            let turn = if pair { 0 } else { work.applied.turns[row] };
            if turn != 0 {
                work.enter(left);
                while work.next != NO_ROW {
                    let id = work.next;
                    work.next = left.next[id as usize];
                    self.turn_left_row(id, left.count(id), turn > 0, emitter);
                    if self.hand_out(work, emitter, out)? {
                        return Ok(Progress::More);
                    }
                }
            }
            work.leave(1 + usize::from(pair));
        }
        self.flush_rows(work, emitter, out)?;
        Ok(Progress::Done)
    }

    /// A stored left row got its first match, or lost its last one.
    pub(super) fn turn_left_row(&self, id: u32, times: u32, matches: bool, to: &mut Emitter) {
        for _ in 0..times {
            match self.config.kind {
                JoinKind::LeftSemi => to.push(NO_ROW, id, if matches { INSERT } else { DELETE }),
                JoinKind::LeftMark => {
                    if self.config.emit_update_before {
                        to.push_marked(NO_ROW, id, UPDATE_BEFORE, !matches);
                    }
                    to.push_marked(NO_ROW, id, UPDATE_AFTER, matches);
                }
                _ => to.push(NO_ROW, id, if matches { DELETE } else { INSERT }),
            }
        }
    }
}

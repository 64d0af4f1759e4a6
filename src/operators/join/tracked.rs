//! Joins whose rows count their matches: with a residual condition, or where rows expire one by one (see `probe`).
//!
//! ```text
//!  rows of the batch ─► chains ─► block of candidates ─► condition ─► matches ─► output, degrees of both sides
//! ```

use super::config::{JoinKind, JoinSide};
use super::emit::{DELETE, Emitter, INSERT};
use super::probe::{OUTPUT_ROWS, Work, repeat};
use super::rows::NO_ROW;
use super::side::Action;
use super::{JoinOperator, filter};
use crate::error::Result;
use crate::runtime::operator::{Output, Progress};
use crate::stream::BATCH_ROWS;

/// Candidates of one row (or of an update, two rows in turn) within a block.
struct Span {
    row: usize,
    pair: bool,
    from: usize,
    to: usize,
    complete: bool,
}

impl JoinOperator {
    /// Joins whose rows count their matches.
    pub(super) fn probe_tracked(
        &mut self,
        work: &mut Work,
        emitter: &mut Emitter,
        out: &mut Output,
    ) -> Result<Progress> {
        work.matched.resize(work.slots.len(), 0);
        let mut spans: Vec<Span> = Vec::new();
        let (mut rows, mut ids): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
        while work.row < work.slots.len() {
            spans.clear();
            rows.clear();
            ids.clear();
            let other = &self.sides[work.side.other() as usize];
            // Equal rows are stored once and come as often as they are there.
            let mut pairs = 0;
            while work.row < work.slots.len() && pairs < work.most && spans.len() < BATCH_ROWS {
                work.enter(other);
                let row = work.row;
                let pair = work.is_pair(row);
                let from = ids.len();
                while work.next != NO_ROW && pairs < work.most {
                    pairs += other.count(work.next) as usize;
                    for row in row..=row + usize::from(pair) {
                        rows.push(row as u32);
                        ids.push(work.next);
                    }
                    work.next = other.next[work.next as usize];
                }
                let complete = work.next == NO_ROW;
                spans.push(Span { row, pair, from, to: ids.len(), complete });
                if complete {
                    work.leave(1 + usize::from(pair));
                }
            }
            let holds = self.evaluate(work, &rows, &ids)?;
            for span in &spans {
                self.take_span(work, span, &ids, holds.as_deref(), emitter, out)?;
            }
            if self.hand_out(work, emitter, out)? || out.is_full(OUTPUT_ROWS) {
                self.flush_rows(work, emitter, out)?;
                return Ok(Progress::More);
            }
        }
        self.flush_rows(work, emitter, out)?;
        Ok(Progress::Done)
    }

    /// Whether the residual condition holds, candidate by candidate; `None` when there is none.
    fn evaluate(&self, work: &Work, rows: &[u32], ids: &[u32]) -> Result<Option<Vec<bool>>> {
        let Some(filter) = &self.config.filter else { return Ok(None) };
        let other = work.side.other() as usize;
        let stored = (&self.sides[other].store, self.stored[other].as_slice());
        filter::holds(filter, work.side, (&work.rows, work.widest), stored, rows, ids).map(Some)
    }

    fn take_span(
        &mut self,
        work: &mut Work,
        span: &Span,
        ids: &[u32],
        holds: Option<&[bool]>,
        emitter: &mut Emitter,
        out: &mut Output,
    ) -> Result<()> {
        let kind = self.config.kind;
        let left_only = kind.is_left_only();
        let width = 1 + usize::from(span.pair);
        let other = work.side.other() as usize;
        for k in (span.from..span.to).step_by(width) {
            let id = ids[k];
            let hit = |i: usize| holds.is_none_or(|h| h[k + i]);
            let times = self.sides[other].count(id);
            let both = span.pair && hit(0) && hit(1);
            for i in 0..width {
                if hit(i) {
                    work.matched[span.row + i] = work.matched[span.row + i].saturating_add(times);
                }
            }
            if both {
                if !left_only {
                    let before = self.config.emit_update_before;
                    work.emit_pair(span.row as u32, id, times, kind == JoinKind::Inner, before, emitter);
                }
            } else {
                for i in 0..width {
                    if hit(i) {
                        self.take_match(work, span.row + i, id, times, emitter);
                    }
                }
            }
            self.hand_out(work, emitter, out)?;
        }
        if !span.complete {
            return Ok(());
        }
        let own = work.side as usize;
        for row in span.row..span.row + width {
            if let Some(degrees) = &mut self.sides[own].degrees {
                let id = work.applied.ids[row];
                if id != NO_ROW {
                    degrees[id as usize] = work.matched[row];
                }
            }
            if kind.pads(work.side) && work.matched[row] == 0 && work.applied.actions[row] != Action::Ignore {
                emitter.push(row as u32, NO_ROW, work.plain_kind(row));
            }
        }
        if left_only && work.side == JoinSide::Left {
            let matched = [work.matched[span.row] > 0, work.matched[span.row + width - 1] > 0];
            self.emit_left_only(work, span.row, span.pair, matched, emitter);
        }
        self.hand_out(work, emitter, out)?;
        Ok(())
    }

    /// Row `row` of the batch matches the stored row `id`.
    fn take_match(&mut self, work: &Work, row: usize, id: u32, times: u32, to: &mut Emitter) {
        let (kind, at, retracts) = (self.config.kind, row as u32, work.retracts(row));
        let other = &mut self.sides[work.side.other() as usize];
        // Whether the stored row got its first match, or lost its last one.
        let mut turned = false;
        if let Some(degrees) = &mut other.degrees {
            let degree = &mut degrees[id as usize];
            if retracts {
                turned = *degree == 1;
                *degree = degree.saturating_sub(1);
            } else {
                turned = *degree == 0;
                *degree += 1;
            }
            other.touch(id);
        }
        if kind.is_left_only() {
            if work.side == JoinSide::Right && turned {
                self.turn_left_row(id, times, !retracts, to);
            }
            return;
        }
        let turned = turned && kind.pads(work.side.other());
        if retracts {
            repeat(to, times, at, id, DELETE);
            if turned {
                repeat(to, times, NO_ROW, id, INSERT);
            }
        } else {
            if turned {
                repeat(to, times, NO_ROW, id, DELETE);
            }
            repeat(to, times, at, id, INSERT);
        }
    }
}

//! `x NOT IN (SELECT y …)`: an anti join in which NULL makes the answer unknown.
//!
//! | right side | left rows that pass |
//! |---|---|
//! | empty | all, also NULL |
//! | holds a NULL | none |
//! | otherwise | not NULL, and not on the right side |
//!
//! A right row can therefore turn all left rows; ordinary ones turn those of their key.

use super::JoinOperator;
use super::config::JoinSide;
use super::emit::{DELETE, Emitter, INSERT};
use super::probe::Work;
use super::rows::NO_ROW;
use crate::error::Result;
use crate::runtime::operator::{Output, Progress};

/// Rows on the right side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RightRows {
    total: u64,
    nulls: u64,
    /// Slot of the NULL key, if it has one.
    pub(super) null_slot: Option<u32>,
}

impl RightRows {
    pub(super) fn add(&mut self, count: u64, is_null: bool) {
        self.total += count;
        self.nulls += if is_null { count } else { 0 };
    }

    fn answer(&self) -> Answer {
        match (self.total, self.nulls) {
            (0, _) => Answer::All,
            (_, 0) => Answer::Others,
            _ => Answer::None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    All,
    None,
    Others,
}

impl JoinOperator {
    pub(super) fn null_aware_left(
        &mut self,
        work: &mut Work,
        emitter: &mut Emitter,
        out: &mut Output,
    ) -> Result<Progress> {
        let right = &self.sides[JoinSide::Right as usize];
        while work.row < work.slots.len() {
            let row = work.row;
            let pair = work.is_pair(row);
            let slot = work.slots[row];
            let passes = match self.right_rows.answer() {
                Answer::All => true,
                Answer::None => false,
                Answer::Others => Some(slot) != self.right_rows.null_slot && right.rows[slot as usize] == 0,
            };
            self.emit_left_only(work, row, pair, [!passes, !passes], emitter);
            work.row += 1 + usize::from(pair);
            if self.hand_out(work, emitter, out)? {
                return Ok(Progress::More);
            }
        }
        self.flush_rows(work, emitter, out)?;
        Ok(Progress::Done)
    }

    /// Right rows one by one; their counts are kept here, as what a row turns depends on all before it.
    pub(super) fn null_aware_right(
        &mut self,
        work: &mut Work,
        emitter: &mut Emitter,
        out: &mut Output,
    ) -> Result<Progress> {
        while work.row < work.slots.len() {
            let row = work.row;
            let slot = work.slots[row];
            let is_null = self.right_rows.null_slot == Some(slot);
            let before = self.right_rows.answer();
            let (had, has) = {
                let rows = &mut self.sides[JoinSide::Right as usize].rows[slot as usize];
                let had = *rows;
                if !work.started {
                    if !work.retracts(row) {
                        *rows += 1;
                    } else if had == 0 {
                        self.sides[JoinSide::Right as usize].idle.push(slot);
                        work.row += 1;
                        continue;
                    } else {
                        *rows -= 1;
                    }
                    (had, *rows)
                } else {
                    (had, had)
                }
            };
            if !work.started {
                let keys = &mut self.sides[JoinSide::Right as usize].keys;
                *keys = *keys + usize::from(had == 0) - usize::from(has == 0);
                if has > had {
                    self.right_rows.add(1, is_null);
                } else {
                    self.right_rows.total -= 1;
                    self.right_rows.nulls -= u64::from(is_null);
                    self.sides[JoinSide::Right as usize].idle.push(slot);
                }
                self.plan_walk(work, before, had, has, slot);
            }
            if !self.walk(work, emitter, out)? {
                return Ok(Progress::More);
            }
            work.started = false;
            work.row += 1;
        }
        self.flush_rows(work, emitter, out)?;
        Ok(Progress::Done)
    }

    /// Which left rows the right row turns.
    fn plan_walk(&mut self, work: &mut Work, before: Answer, had: u32, has: u32, slot: u32) {
        let after = self.right_rows.answer();
        let null_slot = self.right_rows.null_slot;
        work.started = true;
        work.slot = 0;
        work.next = NO_ROW;
        self.walk = match (before, after) {
            (Answer::All, Answer::None) => Walk { kind: DELETE, over: Over::All },
            (Answer::None, Answer::All) => Walk { kind: INSERT, over: Over::All },
            (Answer::Others, Answer::None) => Walk { kind: DELETE, over: Over::Unmatched },
            (Answer::None, Answer::Others) => Walk { kind: INSERT, over: Over::Unmatched },
            (Answer::All, Answer::Others) => Walk { kind: DELETE, over: Over::Keys(Some(slot), null_slot) },
            (Answer::Others, Answer::All) => Walk { kind: INSERT, over: Over::Keys(Some(slot), null_slot) },
            (Answer::Others, Answer::Others) if had == 0 => {
                Walk { kind: DELETE, over: Over::Keys(Some(slot), None) }
            }
            (Answer::Others, Answer::Others) if has == 0 => {
                Walk { kind: INSERT, over: Over::Keys(Some(slot), None) }
            }
            _ => Walk { kind: INSERT, over: Over::Keys(None, None) },
        };
    }

    /// Goes on with the walk; false when the driver should get its turn.
    fn walk(&mut self, work: &mut Work, emitter: &mut Emitter, out: &mut Output) -> Result<bool> {
        let [left, right] = &self.sides;
        let Walk { kind, over } = self.walk;
        let slots = left.heads.len() as u32;
        loop {
            while work.next != NO_ROW {
                let id = work.next;
                work.next = left.next[id as usize];
                for _ in 0..left.count(id) {
                    emitter.push(NO_ROW, id, kind);
                }
                if self.hand_out(work, emitter, out)? {
                    return Ok(false);
                }
            }
            let slot = match over {
                Over::Keys(a, b) => match work.slot {
                    0 => a,
                    1 => b,
                    _ => return Ok(true),
                },
                Over::All | Over::Unmatched if work.slot >= slots => return Ok(true),
                Over::All => Some(work.slot),
                Over::Unmatched => Some(work.slot)
                    .filter(|s| Some(*s) != self.right_rows.null_slot && right.rows[*s as usize] == 0),
            };
            work.slot += 1;
            work.next = slot.map_or(NO_ROW, |s| left.heads[s as usize]);
        }
    }
}

/// A walk over left rows that are turned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk {
    kind: u8,
    over: Over,
}

impl Default for Walk {
    fn default() -> Self {
        Walk { kind: INSERT, over: Over::Keys(None, None) }
    }
}

#[derive(Debug, Clone, Copy)]
enum Over {
    All,
    /// Those that pass as long as the right side holds rows, none of them NULL.
    Unmatched,
    Keys(Option<u32>, Option<u32>),
}

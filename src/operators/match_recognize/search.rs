//! The search for the match that begins at a row: depth first, in the order of preference, over rows that are still coming.
//!
//! ```text
//!  rows    r0  r1  r2  r3 │ not there yet
//!  path    A   B   B   B  │ ?            waits: nothing is decided while a preferred path can go on
//!  choices     ↑   ↑   ↑                 where the path ends, the last choice is taken the other way
//! ```
//!
//! A search that has to wait keeps its path and its choices and goes on where it was.
//!
//! What was tried is noted, so that it is not tried again. Where no definition looks at other rows, what has failed at a
//! row fails there always, also for matches that begin later: a key costs as much as it has rows times the length of the
//! pattern. Otherwise what has failed fails behind the same variables; that is noted for patterns that can come to these
//! in several ways, `((a b?)+ c?)+`. These can be so many that no search comes to an end: one that has tried
//! [`TESTS`] rows fails.

use std::collections::VecDeque;

use super::pattern::{Instruction, Program};
use crate::error::{Error, Result};

/// What a search has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// The path is the match.
    Match,
    /// No match begins here.
    Nothing,
    /// More rows have to come.
    Waits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Choice {
    /// Where the other way goes on.
    at: u32,
    /// Rows on the path by then.
    rows: u32,
}

/// The rows that a search sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sight {
    /// Rows that are there, from the first row of the match on.
    pub(super) rows: usize,
    /// Of these, the ones that are near enough to the first one.
    pub(super) within: usize,
    /// Whether no row can come that belongs to a match from here.
    pub(super) closed: bool,
    /// Whether no row can come at all.
    pub(super) ended: bool,
}

/// The path of a search: variables of rows.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Path {
    /// The variable of each row.
    pub(super) variables: Vec<u8>,
    /// For variables that definitions refer to: their rows.
    places: Vec<Vec<u32>>,
    /// For each aggregate in definitions: rows of the path that are the same as when it was computed last.
    same: Vec<u32>,
}

impl Path {
    fn push(&mut self, variable: u8) {
        if let Some(places) = self.places.get_mut(variable as usize) {
            places.push(self.variables.len() as u32);
        }
        self.variables.push(variable);
    }

    fn truncate(&mut self, rows: usize) {
        if rows < self.variables.len() {
            self.variables.truncate(rows);
            for same in &mut self.same {
                *same = (*same).min(rows as u32);
            }
            for places in &mut self.places {
                while places.last().is_some_and(|p| *p as usize >= rows) {
                    places.pop();
                }
            }
        }
    }

    /// Rows of the path that are the same as when this was asked before about an aggregate.
    pub(super) fn same(&mut self, aggregate: usize) -> u32 {
        if self.same.len() <= aggregate {
            self.same.resize(aggregate + 1, 0);
        }
        std::mem::replace(&mut self.same[aggregate], self.variables.len() as u32)
    }

    /// Rows of a variable.
    pub(super) fn places(&self, variable: u8) -> &[u32] {
        self.places.get(variable as usize).map_or(&[], Vec::as_slice)
    }
}

/// A path that was taken, by its last step.
#[derive(Debug, Clone, Copy)]
struct Step {
    variable: u8,
    first_child: u32,
    next_sibling: u32,
}

const NO_STEP: u32 = u32::MAX;

/// Tests of rows that a search makes at most. Where definitions look at other rows, ways to a match can be as many as a
/// power of the rows.
const TESTS: u64 = if cfg!(test) { 1_000_000 } else { 100_000_000 };

/// Paths that it notes at most: some ten bytes each.
const PATHS: usize = if cfg!(test) { 500_000 } else { 10_000_000 };

fn endless() -> Error {
    Error::data("MATCH_RECOGNIZE has tried too many ways to match the rows of a key from one first row").hint(
        "bound the rows of a match by WITHIN, or write a pattern with fewer ways to match the same rows: (A | B)+ and A* A* have many",
    )
}

/// A search, under way or not begun.
#[derive(Debug, Default)]
pub(super) struct Search {
    at: u32,
    pub(super) path: Path,
    choices: Vec<Choice>,
    /// Splits passed since the last row, where turns may be empty.
    passed: Vec<u32>,
    /// Bits of what was tried, some words for each row from the first one on, or for each of the steps.
    tried: VecDeque<u64>,
    /// Paths taken, the empty one first; where notes are by path.
    steps: Vec<Step>,
    /// The steps of the path at hand.
    taken: Vec<u32>,
    /// Rows tested since the search began.
    tested: u64,
    /// Whether a path ended because time was over, which it may not be for a later first row.
    timed_out: bool,
}

impl Search {
    /// A search from the first row; `referred`: variables whose rows are looked up, as many as the greatest and one.
    pub(super) fn new(referred: usize) -> Self {
        let path = Path { variables: Vec::new(), places: vec![Vec::new(); referred], same: Vec::new() };
        Search { path, ..Search::default() }
    }

    /// Begins anew, `rows` further on. What has failed stays failed unless a match was found.
    pub(super) fn restart(&mut self, program: &Program, rows: usize, matched: bool) {
        if matched || self.timed_out || !self.steps.is_empty() {
            self.tried.clear();
            self.steps.clear();
            self.taken.clear();
        } else if !self.tried.is_empty() {
            let words = (rows * words(program)).min(self.tried.len());
            self.tried.drain(..words);
        }
        self.timed_out = false;
        self.tested = 0;
        self.at = 0;
        self.path.truncate(0);
        self.choices.clear();
        self.passed.clear();
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        self.path.variables.capacity()
            + self.path.places.iter().map(|p| p.capacity() * 4).sum::<usize>()
            + self.choices.capacity() * 8
            + self.tried.capacity() * 8
            + self.steps.capacity() * size_of::<Step>()
            + self.taken.capacity() * 4
    }

    /// Goes on until something is decided or rows are missing. `fits`: whether the row behind the path can be one of a
    /// variable. `local`: whether that depends on the row alone.
    pub(super) fn run(
        &mut self,
        program: &Program,
        sight: Sight,
        local: bool,
        mut fits: impl FnMut(u8, &mut Path) -> Result<bool>,
    ) -> Result<Found> {
        let by_path = !local && program.ambiguous;
        loop {
            match program.instructions[self.at as usize] {
                Instruction::Match => return Ok(Found::Match),
                Instruction::Jump(to) => self.at = to,
                Instruction::Split(first, second) => {
                    if program.guarded {
                        if self.passed.contains(&self.at) {
                            if !self.back() {
                                return Ok(Found::Nothing);
                            }
                            continue;
                        }
                        self.passed.push(self.at);
                    }
                    self.choices.push(Choice { at: second, rows: self.path.variables.len() as u32 });
                    self.at = first;
                }
                Instruction::Take { variable, number } => {
                    let row = self.path.variables.len();
                    self.tested += 1;
                    if self.tested > TESTS || self.steps.len() > PATHS {
                        return Err(endless());
                    }
                    let takes = if row < sight.within {
                        let place = if by_path { self.step() } else { row };
                        (!local && !by_path || self.first_try(program, place, number))
                            && fits(variable, &mut self.path)?
                    } else if row == sight.rows && !sight.closed && !sight.ended {
                        return Ok(Found::Waits);
                    } else {
                        // The end of the rows is the same for all.
                        self.timed_out |= row < sight.rows || !sight.ended;
                        false
                    };
                    if takes {
                        self.path.push(variable);
                        if by_path {
                            self.take(variable);
                        }
                        self.passed.clear();
                        self.at += 1;
                    } else if !self.back() {
                        return Ok(Found::Nothing);
                    }
                }
            }
        }
    }

    /// Takes the last choice the other way; false if there is none.
    fn back(&mut self) -> bool {
        let Some(choice) = self.choices.pop() else { return false };
        if (choice.rows as usize) < self.path.variables.len() {
            self.path.truncate(choice.rows as usize);
            self.taken.truncate(choice.rows as usize);
            self.passed.clear();
        }
        self.at = choice.at;
        true
    }

    /// The number of the path at hand.
    fn step(&mut self) -> usize {
        if self.steps.is_empty() {
            self.steps.push(Step { variable: 0, first_child: NO_STEP, next_sibling: NO_STEP });
        }
        self.taken.last().map_or(0, |s| *s as usize)
    }

    /// The path at hand has one step more.
    fn take(&mut self, variable: u8) {
        let parent = self.step();
        let mut child = self.steps[parent].first_child;
        while child != NO_STEP && self.steps[child as usize].variable != variable {
            child = self.steps[child as usize].next_sibling;
        }
        if child == NO_STEP {
            child = self.steps.len() as u32;
            let next_sibling = std::mem::replace(&mut self.steps[parent].first_child, child);
            self.steps.push(Step { variable, first_child: NO_STEP, next_sibling });
        }
        self.taken.push(child);
    }

    /// Notes that an instruction is tried at a row, or behind a path; false if it was before.
    fn first_try(&mut self, program: &Program, place: usize, number: u32) -> bool {
        let words = words(program);
        let at = place * words + number as usize / 64;
        if at >= self.tried.len() {
            self.tried.resize((place + 1) * words, 0);
        }
        let bit = 1u64 << (number % 64);
        let word = &mut self.tried[at];
        let first = *word & bit == 0;
        *word |= bit;
        first
    }
}

/// Words of notes for a row.
fn words(program: &Program) -> usize {
    (program.takes as usize).div_ceil(64)
}

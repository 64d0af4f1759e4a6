//! Row patterns, and the programs that the search runs.
//!
//! ```text
//!  A (B | C)* D{2}   ─►  0 A   1 split 2, 6   2 split 3, 4   3 B → 1   4 C → 1   6 D   7 D   8 match
//! ```
//!
//! A split names first what is preferred: the earlier alternative, one more turn of a greedy quantifier, the end of a
//! reluctant one.

use crate::error::{Error, Result};

/// Instructions that a program may have: repetitions are written out.
const MOST: usize = 10_000;

/// A pattern over variables by their numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub enum Pattern {
    /// A row that is one of a variable.
    Variable(u8),
    /// One after the other.
    Concat(Vec<Pattern>),
    /// The first that fits.
    Alternation(Vec<Pattern>),
    /// `from` to `to` times; as often as possible if greedy, as seldom otherwise.
    Repeat {
        /// What is repeated.
        inner: Box<Pattern>,
        /// At least.
        from: u32,
        /// At most, if there is a limit.
        to: Option<u32>,
        /// Whether more is better.
        greedy: bool,
    },
}

impl Pattern {
    /// Whether it is a row of variables with their quantifiers, each of them once.
    fn is_plain(&self, seen: &mut Vec<u8>) -> bool {
        match self {
            Pattern::Variable(v) => {
                let is_new = !seen.contains(v);
                seen.push(*v);
                is_new
            }
            Pattern::Concat(parts) => parts.iter().all(|p| p.is_plain(seen)),
            Pattern::Alternation(_) => false,
            Pattern::Repeat { inner, .. } => matches!(**inner, Pattern::Variable(_)) && inner.is_plain(seen),
        }
    }

    /// The fewest rows that it matches.
    pub fn least_rows(&self) -> u64 {
        match self {
            Pattern::Variable(_) => 1,
            Pattern::Concat(parts) => parts.iter().map(Pattern::least_rows).fold(0, u64::saturating_add),
            Pattern::Alternation(parts) => parts.iter().map(Pattern::least_rows).min().unwrap_or(0),
            Pattern::Repeat { inner, from, .. } => inner.least_rows().saturating_mul(u64::from(*from)),
        }
    }
}

/// What the search does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instruction {
    /// Takes a row of that variable; `number` counts such instructions.
    Take { variable: u8, number: u32 },
    /// Goes on at the first, and at the second if that fails.
    Split(u32, u32),
    /// Goes on elsewhere.
    Jump(u32),
    /// The pattern has matched.
    Match,
}

/// A pattern as instructions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    pub(super) instructions: Vec<Instruction>,
    /// Instructions that take a row.
    pub(super) takes: u32,
    /// Whether something is repeated that can be empty: turns that take no row have to end.
    pub(super) guarded: bool,
    /// Whether one row of variables may be come to in several ways.
    pub(super) ambiguous: bool,
}

impl Program {
    /// The program of a pattern.
    ///
    /// # Errors
    /// Unsupported if it is too long.
    pub fn new(pattern: &Pattern) -> Result<Self> {
        let ambiguous = !pattern.is_plain(&mut Vec::new());
        let mut program = Program { instructions: Vec::new(), takes: 0, guarded: false, ambiguous };
        program.add(pattern)?;
        program.push(Instruction::Match)?;
        Ok(program)
    }

    fn push(&mut self, instruction: Instruction) -> Result<u32> {
        if self.instructions.len() >= MOST {
            return Err(Error::unsupported(format!(
                "a row pattern that comes to more than {MOST} steps with its repetitions written out"
            ))
            .hint("count fewer repetitions, or count them in DEFINE: COUNT(a.x) < 100"));
        }
        self.instructions.push(instruction);
        Ok((self.instructions.len() - 1) as u32)
    }

    fn here(&self) -> u32 {
        self.instructions.len() as u32
    }

    fn set(&mut self, at: u32, instruction: Instruction) {
        self.instructions[at as usize] = instruction;
    }

    fn add(&mut self, pattern: &Pattern) -> Result<()> {
        match pattern {
            Pattern::Variable(variable) => {
                let number = self.takes;
                self.takes += 1;
                self.push(Instruction::Take { variable: *variable, number })?;
            }
            Pattern::Concat(parts) => parts.iter().try_for_each(|p| self.add(p))?,
            Pattern::Alternation(parts) => {
                let mut ends = Vec::new();
                for (i, part) in parts.iter().enumerate() {
                    if i + 1 == parts.len() {
                        self.add(part)?;
                        break;
                    }
                    let split = self.push(Instruction::Jump(0))?;
                    self.add(part)?;
                    ends.push(self.push(Instruction::Jump(0))?);
                    self.set(split, Instruction::Split(split + 1, self.here()));
                }
                let end = self.here();
                ends.into_iter().for_each(|at| self.set(at, Instruction::Jump(end)));
            }
            Pattern::Repeat { inner, from, to, greedy } => {
                for _ in 0..*from {
                    self.add(inner)?;
                }
                let split = |more: u32, enough: u32| {
                    if *greedy { Instruction::Split(more, enough) } else { Instruction::Split(enough, more) }
                };
                match to {
                    None => {
                        self.guarded |= inner.least_rows() == 0;
                        let turn = self.push(Instruction::Jump(0))?;
                        self.add(inner)?;
                        self.push(Instruction::Jump(turn))?;
                        self.set(turn, split(turn + 1, self.here()));
                    }
                    Some(to) => {
                        let mut turns = Vec::new();
                        for _ in *from..*to {
                            turns.push(self.push(Instruction::Jump(0))?);
                            self.add(inner)?;
                        }
                        let end = self.here();
                        turns.into_iter().for_each(|at| self.set(at, split(at + 1, end)));
                    }
                }
            }
        }
        Ok(())
    }
}

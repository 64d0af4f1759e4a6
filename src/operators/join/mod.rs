//! Regular joins: `JOIN … ON`, and what IN, EXISTS and their negations become.
//!
//! ```text
//!  left  ══ key ══► ┌ slot of the key ─► own side: link / unlink row ─┐
//!                   │                                                 ├─► (row of the batch, stored row, kind) ─► take, gather ─► out
//!  right ══ key ══► └ slot of the key ─► other side: chain of the key ┘        residual condition on blocks of candidates
//! ```
//!
//! | state | key → value | dropped |
//! |---|---|---|
//! | directory | join key → slot, shared by both sides | when neither side has rows of the key |
//! | side (`side`, `rows`) | slot → chain of rows: the columns that come out or that the condition reads | when retracted, or not written for the side's TTL |
//! | identity (`identity`) | unique key, or whole row → stored row | with its row; only where rows are retracted |
//! | degree | row → number of its matches | with its row; only with a residual condition or a TTL, see `probe` |
//!
//! The right side of a semi, anti or mark join on keys alone is only counted. Left and right rows whose key is NULL match
//! nothing and are not stored (NOT IN: `null_aware`).
//!
//! Input: any changelog. Output: an inner or semi join sends the kinds that it gets, outer and anti joins all. Watermarks
//! pass. A batch that matches a lot is handed out in parts ([`Progress::More`]); barriers come between batches. The end
//! needs nothing.

mod config;
pub(in crate::operators) mod emit;
mod expiry;
pub(in crate::operators) mod filter;
mod identity;
mod multi;
mod null_aware;
mod probe;
pub(in crate::operators) mod rows;
mod side;
mod snapshot;
mod tracked;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;

pub use config::{JoinColumn, JoinConfig, JoinFilter, JoinInput, JoinKind, JoinSide, UniqueKey};
pub use multi::{MultiJoinConfig, MultiJoinInput, MultiJoinOperator};

use crate::error::{Error, Result};
use crate::runtime::operator::{Operator, OperatorMetrics, Output, Progress, Spillable};
use crate::state::GroupDirectory;
use crate::stream::bytes::widest_row;
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};
use crate::stream::{ChangeBatch, Timestamp};
use emit::Emitter;
use null_aware::{RightRows, Walk};
pub(in crate::operators) use probe::{OUTPUT_ROWS, most_pairs};

use probe::Work;
use rows::NO_ROW;
use side::{Action, Applied, Layout, SideState};

/// Which of the ways of `probe` and `null_aware` a join goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// The number of rows per key tells whether a row has a match.
    Plain,
    /// Rows are tried one by one.
    Tracked,
    /// NOT IN.
    NullAware,
}

/// The operator; see the module.
pub struct JoinOperator {
    config: JoinConfig,
    shape: Shape,
    directory: GroupDirectory,
    /// Left, right.
    sides: [SideState; 2],
    /// For each side, the input columns that are stored.
    stored: [Vec<usize>; 2],
    right_rows: RightRows,
    walk: Walk,
    work: Option<Work>,
    emitter: Emitter,
    /// Allocations of the last batch.
    spare: (Vec<u32>, Applied, Vec<u32>),
    idle: Vec<u32>,
}

impl std::fmt::Debug for JoinOperator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinOperator").field("config", &self.config).finish_non_exhaustive()
    }
}

impl JoinOperator {
    /// An instance.
    ///
    /// # Errors
    /// What [`JoinConfig::validate`] finds; unsupported for key types that cannot be keys.
    pub fn new(config: JoinConfig) -> Result<Self> {
        config.validate()?;
        let expires = config.left.ttl_ms.is_some() || config.right.ttl_ms.is_some();
        let shape = if config.kind == JoinKind::NullAwareLeftAnti {
            if expires {
                return Err(Error::internal("a null-aware anti join cannot forget rows"));
            }
            Shape::NullAware
        } else if config.filter.is_some() || (expires && config.kind != JoinKind::Inner) {
            Shape::Tracked
        } else {
            Shape::Plain
        };
        let directory = GroupDirectory::new(&config.key_types())?;
        let (left, left_stored) = side_state(&config, JoinSide::Left, shape);
        let (right, right_stored) = side_state(&config, JoinSide::Right, shape);
        Ok(JoinOperator {
            config,
            shape,
            directory,
            sides: [left, right],
            stored: [left_stored, right_stored],
            right_rows: RightRows::default(),
            walk: Walk::default(),
            work: None,
            emitter: Emitter::default(),
            spare: (Vec::new(), Applied::default(), Vec::new()),
            idle: Vec::new(),
        })
    }

    fn begin_batch(&mut self, side: JoinSide, batch: ChangeBatch) -> Result<()> {
        let input = self.config.input(side);
        if batch.kinds.is_some() && !input.retracts {
            return Err(Error::internal("Join: updates in append-only input"));
        }
        let n = batch.num_rows();
        let (mut slots, mut applied, matched) = std::mem::take(&mut self.spare);
        let keys: Vec<ArrayRef> = input.keys.iter().map(|k| batch.rows.column(*k).clone()).collect();
        self.directory.intern(&keys, n, &mut slots)?;
        self.sides.iter_mut().for_each(|s| s.grow_slots(self.directory.capacity()));
        applied.actions.clear();
        applied.actions.resize(n, Action::Probe);
        for (key, null_safe) in keys.iter().zip(&self.config.null_safe) {
            let Some(nulls) = key.logical_nulls().filter(|n| n.null_count() > 0) else { continue };
            for row in (0..n).filter(|row| nulls.is_null(*row)) {
                if self.shape == Shape::NullAware {
                    self.right_rows.null_slot = Some(slots[row]);
                } else if !null_safe {
                    applied.actions[row] = Action::NoMatch;
                    self.idle.push(slots[row]);
                }
            }
        }
        let own = side as usize;
        let stored: Vec<ArrayRef> = self.stored[own].iter().map(|c| batch.rows.column(*c).clone()).collect();
        // The counts of a null-aware join change as its rows are looked at.
        if !(self.shape == Shape::NullAware && side == JoinSide::Right) {
            let codes = batch.kinds.as_ref().map(|k| k.codes());
            self.sides[own].apply(&stored, &slots, codes, &mut applied)?;
        }
        let widest = widest_row(batch.rows.columns(), n);
        self.work = Some(Work {
            side,
            widest,
            most: most_pairs(widest.saturating_add(self.sides[side.other() as usize].store.widest())),
            rows: batch.rows,
            kinds: batch.kinds,
            slots,
            applied,
            row: 0,
            started: false,
            next: NO_ROW,
            matched,
            slot: 0,
        });
        Ok(())
    }

    fn end_batch(&mut self, work: Work) -> Result<()> {
        let Work { slots, applied, mut matched, .. } = work;
        matched.clear();
        self.spare = (slots, applied, matched);
        self.forget()
    }

    /// Gives back what rows and keys that are gone have held.
    fn forget(&mut self) -> Result<()> {
        for side in &mut self.sides {
            side.maintain()?;
            self.idle.append(&mut side.idle);
        }
        if self.idle.is_empty() {
            return Ok(());
        }
        self.idle.sort_unstable();
        self.idle.dedup();
        let [left, right] = &self.sides;
        self.idle.retain(|s| left.rows[*s as usize] == 0 && right.rows[*s as usize] == 0);
        self.directory.remove(&self.idle);
        if self.right_rows.null_slot.is_some_and(|s| self.idle.binary_search(&s).is_ok()) {
            self.right_rows.null_slot = None;
        }
        self.idle.clear();
        Ok(())
    }
}

/// The state of one side, and which input columns it stores.
fn side_state(config: &JoinConfig, side: JoinSide, shape: Shape) -> (SideState, Vec<usize>) {
    let input = config.input(side);
    let only_counts = side == JoinSide::Right && config.kind.is_left_only() && shape != Shape::Tracked;
    if only_counts {
        return (SideState::new(Layout::Count, Vec::new(), &[], false, None), Vec::new());
    }
    let mut stored: Vec<usize> = Vec::new();
    let mut store = |c: usize| match stored.iter().position(|s| *s == c) {
        Some(i) => i,
        None => {
            stored.push(c);
            stored.len() - 1
        }
    };
    for column in &config.output {
        if let JoinColumn::Input(s, c) = *column
            && s == side
        {
            store(c);
        }
    }
    for (s, c) in config.filter.iter().flat_map(|f| &f.columns) {
        if *s == side {
            store(*c);
        }
    }
    let mut unique = Vec::new();
    let layout = match &input.unique {
        _ if !input.retracts => Layout::AppendOnly,
        UniqueKey::JoinKey => Layout::OnePerKey,
        UniqueKey::None => Layout::Bag,
        UniqueKey::Columns(columns) => {
            // The slot stands for the join key.
            unique.extend(columns.iter().filter(|c| !input.keys.contains(c)).map(|c| store(*c)));
            Layout::Unique
        }
    };
    let with_degrees = shape == Shape::Tracked
        && (config.kind.pads(side) || (config.kind.is_left_only() && side == JoinSide::Left));
    let types: Vec<DataType> = stored.iter().map(|c| input.schema.field(*c).data_type().clone()).collect();
    (SideState::new(layout, types, &unique, with_degrees, input.ttl_ms), stored)
}

impl Operator for JoinOperator {
    fn name(&self) -> &'static str {
        "Join"
    }

    fn process(&mut self, port: usize, batch: ChangeBatch, out: &mut Output) -> Result<Progress> {
        let side = if port == 0 { JoinSide::Left } else { JoinSide::Right };
        self.begin_batch(side, batch)?;
        self.advance(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        self.advance(out)
    }

    fn on_timer(&mut self, now: Timestamp, _out: &mut Output) -> Result<Progress> {
        self.sides.iter_mut().for_each(|s| s.expire(now.0));
        self.forget()?;
        Ok(Progress::Done)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        self.sides.iter().filter_map(SideState::next_tick).min().map(Timestamp)
    }

    fn spillable(&self) -> Spillable {
        // NOT IN looks at all rows of its right side.
        Spillable::Timeless.if_keyed(!self.config.left.keys.is_empty() && self.shape != Shape::NullAware)
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        self.write(writer)
    }

    fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        self.read(reader)
    }

    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics {
            state_entries: self.sides.iter().map(|s| s.entries() as u64).sum(),
            state_bytes: (self.directory.size() + self.sides.iter().map(SideState::size).sum::<usize>())
                as u64,
            ..OperatorMetrics::default()
        }
    }
}

#[cfg(test)]
mod tests;

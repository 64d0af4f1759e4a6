//! Sums of slices, so that a HOP window is merged from two of them and not from all its slices.
//!
//! ```text
//!  slices      1  2  3  4  5  6 │ 7  8  9
//!  suffixes    └──┴──┴──┴──┴──┤ │             1..=6, 2..=6, …, 6: made at once, from the back
//!  front                      │ └──┴──┤       7..=9: grows by a slice a window
//!  window            └────────┴───────┘       3..=9 = suffix 3..=6 + front 7..=9
//! ```
//!
//! When a window begins behind the boundary (here 6), suffixes are made anew with the boundary at its end: a slice is
//! merged into a suffix once and into the front once, however many windows it is in. That pays where most slices have
//! most of the keys; where the slices of a window hold hardly more rows than its result, they are merged as they are.
//!
//! State: none of its own. It is made from the slices again whenever it is missing.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;

use crate::error::Result;
use crate::operators::window_aggregate::partial::PartialSet;

/// So many times more rows than its result a window's slices must hold: making suffixes and a front costs about six
/// times the result for each window. Tests have few rows.
const WORTH: usize = if cfg!(test) { 1 } else { 8 };

/// See the module. Slices are named by their ends.
#[derive(Default)]
pub(super) struct Sliding {
    suffixes: BTreeMap<i64, RecordBatch>,
    boundary: i64,
    front: Option<RecordBatch>,
    /// The last slice that the front has.
    reached: i64,
    /// Rows of the last window's result.
    rows: usize,
    /// Windows to go before suffixes are made again, after a slice that was summed up changed.
    pause: usize,
}

impl Sliding {
    /// Whether the window with `rows` rows in `slices` slices is to be merged here.
    pub(super) fn pays(&mut self, rows: usize, slices: usize) -> bool {
        if self.pause > 0 {
            self.pause -= 1;
            return false;
        }
        slices > 2 && self.rows > 0 && rows > WORTH * self.rows
    }

    /// A window had `rows` rows.
    pub(super) fn had(&mut self, rows: usize) {
        self.rows = rows;
    }

    /// A slice changes: sums that hold it are forgotten, and not made again for `windows` windows.
    pub(super) fn changes(&mut self, slice: i64, windows: usize) {
        if !self.suffixes.is_empty() && slice <= self.reached {
            self.forget();
            self.pause = windows;
        }
    }

    /// Forgets all sums.
    pub(super) fn forget(&mut self) {
        self.suffixes.clear();
        self.front = None;
    }

    /// Merges the window of the slices `first..=end` into `into`, an empty table. `slices` are those of it with rows, in
    /// order; `spare` is an empty table to work with.
    pub(super) fn merge(
        &mut self,
        first: i64,
        end: i64,
        slices: &[(i64, &[RecordBatch])],
        into: &mut PartialSet,
        spare: &mut PartialSet,
    ) -> Result<()> {
        self.suffixes = self.suffixes.split_off(&first);
        if self.suffixes.is_empty() {
            self.front = None;
            (self.boundary, self.reached) = (end, end);
            for (slice, batches) in slices.iter().rev() {
                merge_all(spare, batches)?;
                let sum = spare.drain()?;
                spare.merge(sum.columns(), sum.num_rows())?;
                self.suffixes.insert(*slice, sum);
            }
            spare.drain()?;
        }
        let new: Vec<_> =
            slices.iter().filter(|(slice, _)| *slice > self.reached && *slice > self.boundary).collect();
        if !new.is_empty() {
            merge_all(spare, self.front.as_slice())?;
            for (_, batches) in new {
                merge_all(spare, batches)?;
            }
            self.front = Some(spare.drain()?);
        }
        self.reached = end;
        let suffix = self.suffixes.first_key_value().map(|(_, sum)| sum.clone());
        merge_all(into, suffix.as_slice())?;
        merge_all(into, self.front.as_slice())
    }

    /// Bytes of all sums.
    pub(super) fn size(&self) -> usize {
        self.suffixes.values().chain(&self.front).map(RecordBatch::get_array_memory_size).sum()
    }
}

fn merge_all(table: &mut PartialSet, batches: &[RecordBatch]) -> Result<()> {
    batches.iter().try_for_each(|batch| table.merge(batch.columns(), batch.num_rows()))
}

//! Slices with their partial aggregates, and the windows that are merged from them.
//!
//! ```text
//!  slice end → { live table, [ frozen partial batches ] }         due → window ends with rows, not fired yet
//!       ▲                                                           │ watermark ≥ due
//!     rows                                                          ▼
//!                             merge the slices of the window ─► results; slices of no later window go
//! ```
//!
//! A slice whose only window fires straight from its live table is never frozen, so that TUMBLE costs one table and
//! no merge. Frozen batches are what a snapshot writes. CUMULATE folds the slices of a fired window into one, so that
//! each row is merged once per window rather than once per slice and window; HOP keeps sums of slices (`sliding`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};

use crate::error::Result;
use crate::operators::window_aggregate::partial::{Columns, PartialSet, Shape};
use crate::operators::window_aggregate::sliding::Sliding;
use crate::operators::window_aggregate::window::{WindowKind, WindowSpec};
use crate::stream::snapshot::SnapshotMode;

/// Frozen batches of a slice that are merged into one at the next snapshot.
const MOST_PARTIALS: usize = 4;

/// A fired window.
pub(super) struct Fired {
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) keys: Vec<ArrayRef>,
    pub(super) results: Vec<ArrayRef>,
    pub(super) rows: usize,
}

#[derive(Default)]
struct Slice {
    live: Option<PartialSet>,
    frozen: Vec<RecordBatch>,
    /// How many of them snapshots have.
    written: usize,
    /// Start of an attached window.
    start: Option<i64>,
}

/// See the module.
pub(super) struct Slices {
    window: WindowSpec,
    shape: Arc<Shape>,
    slices: BTreeMap<i64, Slice>,
    /// Per slice or later: the next window end to fire, with something in it.
    pending: BTreeSet<i64>,
    /// Emptied tables, kept for their allocations.
    spare: Vec<PartialSet>,
    /// For HOP.
    sliding: Sliding,
    watermark: i64,
}

impl Slices {
    pub(super) fn new(window: WindowSpec, shape: Arc<Shape>) -> Self {
        Slices {
            window,
            shape,
            slices: BTreeMap::new(),
            pending: BTreeSet::new(),
            spare: Vec::new(),
            sliding: Sliding::default(),
            watermark: i64::MIN,
        }
    }

    /// Whether every window with this slice has fired.
    pub(super) fn is_late(&self, slice_end: i64) -> bool {
        self.is_fired(self.window.last_window_end(slice_end))
    }

    fn is_fired(&self, end: i64) -> bool {
        self.watermark != i64::MIN && self.window.due(end) <= self.watermark
    }

    fn table(&mut self, slice_end: i64, start: Option<i64>) -> Result<&mut PartialSet> {
        if let WindowKind::Hop { size, slide } = self.window.kind {
            self.sliding.changes(slice_end, usize::try_from(size / slide.max(1)).unwrap_or(0));
        }
        if !self.slices.contains_key(&slice_end) {
            self.expect_window(slice_end);
        }
        let slice = self.slices.entry(slice_end).or_default();
        slice.start = slice.start.or(start);
        match &mut slice.live {
            Some(live) => Ok(live),
            none => {
                let table = match self.spare.pop() {
                    Some(table) => table,
                    None => PartialSet::new(&self.shape)?,
                };
                Ok(none.insert(table))
            }
        }
    }

    /// A slice came to be: its first window that has not fired will.
    fn expect_window(&mut self, slice_end: i64) {
        let width = self.window.slice_width();
        let last = self.window.last_window_end(slice_end);
        let mut end = slice_end;
        while end < last && self.is_fired(end) {
            end += width;
        }
        self.pending.insert(end);
    }

    /// Adds input rows of one slice.
    pub(super) fn update(&mut self, slice_end: i64, start: Option<i64>, columns: &Columns) -> Result<()> {
        self.table(slice_end, start)?.update(columns)
    }

    /// Adds partial results of one slice.
    pub(super) fn merge(&mut self, slice_end: i64, columns: &[ArrayRef], rows: usize) -> Result<()> {
        self.table(slice_end, None)?.merge(columns, rows)
    }

    /// The watermark rose: [`Slices::fire`] now finds the windows that are due.
    pub(super) fn advance(&mut self, watermark: i64) {
        self.watermark = self.watermark.max(watermark);
    }

    /// The end of the window that fires next.
    pub(super) fn next_end(&self) -> Option<i64> {
        self.pending.first().copied()
    }

    /// Whether a window waits to be fired.
    pub(super) fn has_due(&self) -> bool {
        self.pending.first().is_some_and(|end| self.is_fired(*end))
    }

    /// Fires the next due window, in order of window ends.
    pub(super) fn fire(&mut self) -> Result<Option<Vec<Fired>>> {
        if !self.has_due() {
            return Ok(None);
        }
        let Some(end) = self.pending.pop_first() else { return Ok(None) };
        let first = match self.window.kind {
            WindowKind::Tumble { .. } | WindowKind::Session { .. } | WindowKind::Attached { .. } => end,
            WindowKind::Hop { .. } | WindowKind::Cumulate { .. } => {
                self.window.window_start(end).saturating_add(self.window.slice_width())
            }
        };
        let start = match self.window.kind {
            WindowKind::Attached { .. } => {
                self.slices.get(&end).and_then(|s| s.start).unwrap_or_else(|| self.window.window_start(end))
            }
            _ => self.window.window_start(end),
        };
        let mut table = if first == end { self.take_slice(end)? } else { self.merged(first, end)? };
        // The window after this one shares slices with it.
        let next = end.saturating_add(self.window.slice_width());
        let latest = self.slices.range(..=end).next_back().map(|(slice_end, _)| *slice_end);
        if next > end && latest.is_some_and(|latest| self.window.last_window_end(latest) >= next) {
            self.pending.insert(next);
        }
        let (keys, results, rows) = table.finish()?;
        self.sliding.had(rows);
        self.spare.push(table);
        Ok(Some(vec![Fired { start, end, keys, results, rows }]))
    }

    /// All of a slice that no other window needs.
    fn take_slice(&mut self, end: i64) -> Result<PartialSet> {
        let last = self.window.last_window_end(end) == end;
        if !last {
            return self.merged(end, end);
        }
        let slice = self.slices.remove(&end).unwrap_or_default();
        let mut table = match slice.live {
            Some(live) => live,
            None => self.spare_table()?,
        };
        for batch in &slice.frozen {
            table.merge(batch.columns(), batch.num_rows())?;
        }
        Ok(table)
    }

    fn spare_table(&mut self) -> Result<PartialSet> {
        match self.spare.pop() {
            Some(table) => Ok(table),
            None => PartialSet::new(&self.shape),
        }
    }

    /// The merged slices `first..=end`; drops the slices that no later window needs.
    fn merged(&mut self, first: i64, end: i64) -> Result<PartialSet> {
        let mut table = self.spare_table()?;
        let (mut rows, mut count) = (0, 0);
        for (_, slice) in self.slices.range_mut(first..=end) {
            freeze(slice, &mut self.spare)?;
            rows += slice.frozen.iter().map(RecordBatch::num_rows).sum::<usize>();
            count += 1;
        }
        let slices = self.slices.range(first..=end).map(|(slice_end, s)| (*slice_end, s.frozen.as_slice()));
        if matches!(self.window.kind, WindowKind::Hop { .. }) && self.sliding.pays(rows, count) {
            let slices: Vec<_> = slices.collect();
            let mut spare = match self.spare.pop() {
                Some(spare) => spare,
                None => PartialSet::new(&self.shape)?,
            };
            self.sliding.merge(first, end, &slices, &mut table, &mut spare)?;
            self.spare.push(spare);
        } else {
            self.sliding.forget();
            for batch in slices.flat_map(|(_, batches)| batches) {
                table.merge(batch.columns(), batch.num_rows())?;
            }
        }
        let window = self.window;
        let over: Vec<i64> = self
            .slices
            .range(..=end)
            .map(|(slice_end, _)| *slice_end)
            .filter(|slice_end| window.last_window_end(*slice_end) <= end)
            .collect();
        for slice_end in over {
            self.slices.remove(&slice_end);
        }
        if matches!(self.window.kind, WindowKind::Cumulate { .. }) && self.window.last_window_end(end) > end {
            let inner: Vec<i64> = self.slices.range(first..=end).map(|(slice_end, _)| *slice_end).collect();
            for slice_end in inner {
                self.slices.remove(&slice_end);
            }
            let folded = table.drain()?;
            table.merge(folded.columns(), folded.num_rows())?;
            self.slices.insert(end, Slice { frozen: vec![folded], ..Slice::default() });
        }
        Ok(table)
    }

    /// Whether frozen batches stay as they are until their last window has fired.
    pub(super) fn appends(&self) -> bool {
        !matches!(self.window.kind, WindowKind::Cumulate { .. })
    }

    /// Freezes everything and shows every frozen batch with its slice end and attached start, or those that no snapshot
    /// has.
    pub(super) fn freeze(&mut self, mode: SnapshotMode) -> Result<Vec<(i64, Option<i64>, RecordBatch)>> {
        let is_changes = mode == SnapshotMode::Changes && self.appends();
        let mut all = Vec::new();
        for (end, slice) in &mut self.slices {
            freeze(slice, &mut self.spare)?;
            if slice.frozen.len() > MOST_PARTIALS && !is_changes {
                let mut table = match self.spare.pop() {
                    Some(table) => table,
                    None => PartialSet::new(&self.shape)?,
                };
                for batch in &slice.frozen {
                    table.merge(batch.columns(), batch.num_rows())?;
                }
                slice.frozen = vec![table.drain()?];
                self.spare.push(table);
            }
            let from = if is_changes { slice.written } else { 0 };
            slice.written = slice.frozen.len();
            all.extend(slice.frozen.iter().skip(from).map(|batch| (*end, slice.start, batch.clone())));
        }
        Ok(all)
    }

    /// Adds a batch that was frozen once.
    pub(super) fn thaw(&mut self, slice_end: i64, start: Option<i64>, batch: RecordBatch) {
        if !self.slices.contains_key(&slice_end) {
            self.expect_window(slice_end);
        }
        let slice = self.slices.entry(slice_end).or_default();
        slice.start = slice.start.or(start);
        slice.frozen.push(batch);
    }

    /// The watermark up to which all windows have fired; lower than the last one seen while windows wait to be fired.
    pub(super) fn fired_up_to(&self) -> i64 {
        match self.pending.first() {
            Some(end) if self.is_fired(*end) => self.window.due(*end).saturating_sub(1),
            _ => self.watermark,
        }
    }

    /// Empties all slices in order, for a local phase.
    pub(super) fn drain(&mut self) -> Result<Vec<(i64, RecordBatch)>> {
        self.pending.clear();
        let mut all = Vec::new();
        for (end, slice) in std::mem::take(&mut self.slices) {
            all.extend(slice.frozen.into_iter().map(|batch| (end, batch)));
            if let Some(mut live) = slice.live {
                all.push((end, live.drain()?));
                self.spare.push(live);
            }
        }
        Ok(all)
    }

    /// Groups in state, counting each slice's.
    pub(super) fn entries(&self) -> usize {
        let of = |s: &Slice| {
            s.live.as_ref().map_or(0, PartialSet::len)
                + s.frozen.iter().map(RecordBatch::num_rows).sum::<usize>()
        };
        self.slices.values().map(of).sum()
    }

    /// Bytes in state.
    pub(super) fn size(&self) -> usize {
        let of = |s: &Slice| {
            s.live.as_ref().map_or(0, PartialSet::size)
                + s.frozen.iter().map(RecordBatch::get_array_memory_size).sum::<usize>()
        };
        let spare = self.spare.iter().map(PartialSet::size).sum::<usize>();
        self.slices.values().map(of).sum::<usize>() + self.sliding.size() + spare
    }
}

fn freeze(slice: &mut Slice, spare: &mut Vec<PartialSet>) -> Result<()> {
    if let Some(mut live) = slice.live.take() {
        if live.len() > 0 {
            slice.frozen.push(live.drain()?);
        }
        spare.push(live);
    }
    Ok(())
}

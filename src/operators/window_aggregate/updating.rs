//! Windows over the states of updating aggregates: for updating input, and for DISTINCT in windows that do not overlap.
//!
//! ```text
//!  rows (± sign) ─► one copy per window that has not fired ─► table of groups by (keys, window end)
//!                                                                   │ watermark ≥ due
//!                                                                   ▼
//!                                               results of groups with rows; their slots are free again
//!
//!  HOP:  rows (± sign) ─► table of groups by (keys, slice end) ─► at a window end the groups of its slices are merged
//! ```
//!
//! A row is taken back in the slice that it was added to, so when a window fires each of its slices is what its rows
//! leave, and states that can be added up, the least and the greatest value, and distinct values merge into those of the
//! window. COUNT(DISTINCT …) stays from one window to the next: the values of the slice that comes are added and those of the
//! slice that goes taken back. What cannot be merged (collections, whose order is that of arrival) counts once per window, size/slide times for
//! HOP.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};

use crate::error::{Error, Result};
use crate::functions::room::in_parts;
use crate::operators::group_aggregate::AggregateTable;
use crate::operators::keyed_rows::PART_ROWS;
use crate::operators::window_aggregate::assign::Assignment;
use crate::operators::window_aggregate::config::WindowAggregateConfig;
use crate::operators::window_aggregate::slices::Fired;
use crate::operators::window_aggregate::window::{WindowKind, WindowSpec};
use crate::stream::RowKinds;
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};

/// See the module.
pub(super) struct UpdatingWindows {
    window: WindowSpec,
    table: AggregateTable,
    /// Window end, of HOP slice end → slots of its groups, and its start if it is attached.
    ends: BTreeMap<i64, WindowGroups>,
    sharing: Option<Sharing>,
    /// Whether a slot is in `ends`.
    noted: Vec<bool>,
    watermark: i64,
    slots: Vec<u32>,
}

#[derive(Default)]
struct WindowGroups {
    slots: Vec<u32>,
    start: Option<i64>,
}

/// How windows share slices.
struct Sharing {
    /// Groups by keys of the window that fires; but for distinct values empty in between.
    merged: AggregateTable,
    /// Whether distinct values stay in `merged`.
    keeps: bool,
    /// Those of slices up to this end are there; `i64::MIN`: of none.
    included: i64,
    /// Per slice or later: the next window end to fire.
    pending: BTreeSet<i64>,
}

impl UpdatingWindows {
    pub(super) fn new(config: &WindowAggregateConfig) -> Result<Self> {
        // An attached window carries its start in the key, so that it is in the snapshot.
        let more = if config.window.is_attached() { 2 } else { 1 };
        let mut table = AggregateTable::new(
            &config.input_schema,
            &config.keys,
            &vec![DataType::Int64; more],
            &config.aggregates,
            config.input_retracts,
        )?;
        table.list_distincts();
        let sharing = match config.window.kind {
            WindowKind::Hop { .. } if table.merges_with_distincts() => {
                let (schema, calls) = (&config.input_schema, &config.aggregates);
                let mut merged = AggregateTable::new(schema, &config.keys, &[], calls, false)?;
                let keeps = merged.count_distincts();
                Some(Sharing { merged, keeps, included: i64::MIN, pending: BTreeSet::new() })
            }
            _ => None,
        };
        Ok(UpdatingWindows {
            window: config.window,
            table,
            ends: BTreeMap::new(),
            sharing,
            noted: Vec::new(),
            watermark: i64::MIN,
            slots: Vec::new(),
        })
    }

    fn is_fired(&self, end: i64) -> bool {
        self.watermark != i64::MIN && self.window.due(end) <= self.watermark
    }

    /// Adds rows to the windows of their slices. `starts`: of attached windows, by row.
    pub(super) fn add(
        &mut self,
        rows: &RecordBatch,
        kinds: Option<&RowKinds>,
        live: &Assignment,
        starts: Option<&[i64]>,
    ) -> Result<()> {
        if let Some(sharing) = &mut self.sharing
            && live.slices.iter().any(|(slice_end, _)| *slice_end <= sharing.included)
        {
            // A slice changes whose values are in `merged` as they were.
            sharing.empty();
        }
        // In the order of rows: a row has to come before it is taken back.
        let mut pairs: Vec<(u32, i64)> = Vec::new();
        for (slice_end, slice_rows) in &live.slices {
            if self.sharing.is_some() {
                pairs.extend(slice_rows.iter().map(|row| (*row, *slice_end)));
                continue;
            }
            let (last, width) = (self.window.last_window_end(*slice_end), self.window.slice_width());
            let mut end = *slice_end;
            loop {
                if !self.is_fired(end) {
                    pairs.extend(slice_rows.iter().map(|row| (*row, end)));
                }
                if end >= last {
                    break;
                }
                end += width;
            }
        }
        if pairs.is_empty() {
            return Ok(());
        }
        pairs.sort_unstable();
        let indices: Vec<u32> = pairs.iter().map(|(row, _)| *row).collect();
        let evaluated = self.table.evaluate_exprs(rows)?;
        // As many copies as rows need not be one of each.
        let is_all = indices.len() == rows.num_rows() && indices.iter().zip(0..).all(|(row, i)| *row == i);
        let evaluated = if is_all { evaluated } else { evaluated.take(&indices)? };
        let mut keys = self.table.key_columns(&evaluated);
        keys.push(Arc::new(Int64Array::from_iter_values(pairs.iter().map(|(_, end)| *end))) as ArrayRef);
        if let Some(starts) = starts {
            keys.push(Arc::new(Int64Array::from_iter_values(indices.iter().map(|r| starts[*r as usize]))));
        }
        let signs: Option<Vec<i8>> =
            kinds.map(|k| indices.iter().map(|r| 1 - 2 * (k.codes()[*r as usize] as i8 & 1)).collect());
        let mut slots = std::mem::take(&mut self.slots);
        let known = self.table.len();
        self.table.directory.intern(&keys, pairs.len(), &mut slots)?;
        self.table.grow();
        if self.table.len() > known {
            self.note_new(&slots, &pairs, starts);
        }
        match &signs {
            None => slots.iter().for_each(|s| self.table.rows[*s as usize] += 1),
            Some(signs) => {
                slots.iter().zip(signs).for_each(|(s, n)| self.table.rows[*s as usize] += i64::from(*n));
            }
        }
        self.table.update(&evaluated, &slots, signs.as_deref())?;
        self.slots = slots;
        Ok(())
    }

    /// Notes the slots that are in no window yet.
    fn note_new(&mut self, slots: &[u32], pairs: &[(u32, i64)], starts: Option<&[i64]>) {
        self.noted.resize(self.table.rows.len(), false);
        for (slot, (row, end)) in slots.iter().zip(pairs) {
            if !std::mem::replace(&mut self.noted[*slot as usize], true) {
                self.note(*slot, *end, starts.map(|s| s[*row as usize]));
            }
        }
    }

    fn note(&mut self, slot: u32, end: i64, start: Option<i64>) {
        if !self.ends.contains_key(&end) {
            self.expect_window(end);
        }
        let groups = self.ends.entry(end).or_default();
        groups.slots.push(slot);
        groups.start = start;
    }

    /// A slice came to be: its first window that has not fired will.
    fn expect_window(&mut self, slice_end: i64) {
        let (last, width) = (self.window.last_window_end(slice_end), self.window.slice_width());
        let mut end = slice_end;
        while end < last && self.is_fired(end) {
            end += width;
        }
        if let Some(sharing) = &mut self.sharing {
            sharing.pending.insert(end);
        }
    }

    pub(super) fn is_late(&self, slice_end: i64) -> bool {
        self.is_fired(self.window.last_window_end(slice_end))
    }

    pub(super) fn advance(&mut self, watermark: i64) {
        self.watermark = self.watermark.max(watermark);
    }

    /// The end of the window that fires next.
    pub(super) fn next_end(&self) -> Option<i64> {
        match &self.sharing {
            Some(sharing) => sharing.pending.first().copied(),
            None => self.ends.keys().next().copied(),
        }
    }

    pub(super) fn has_due(&self) -> bool {
        self.next_end().is_some_and(|end| self.is_fired(end))
    }

    /// Fires the next due window, in order of window ends.
    pub(super) fn fire(&mut self) -> Result<Option<Vec<Fired>>> {
        if !self.has_due() {
            return Ok(None);
        }
        if self.sharing.is_some() {
            return self.fire_merged();
        }
        let Some((end, groups)) = self.ends.pop_first() else { return Ok(None) };
        let start = groups.start.unwrap_or_else(|| self.window.window_start(end));
        let fired = results(&self.table, &self.with_rows(&groups.slots), (start, end))?;
        self.forget(&groups.slots);
        Ok(Some(fired))
    }

    /// Merges the slices of the next window, and drops those that no later one needs.
    fn fire_merged(&mut self) -> Result<Option<Vec<Fired>>> {
        let Some(mut sharing) = self.sharing.take() else { return Ok(None) };
        let Some(end) = sharing.pending.pop_first() else { return Ok(None) };
        let start = self.window.window_start(end);
        let first = start.saturating_add(self.window.slice_width());
        let included = sharing.included;
        let Sharing { merged, pending, keeps, .. } = &mut sharing;
        for (slice_end, slice) in self.ends.range(first..=end) {
            let groups = self.with_rows(&slice.slots);
            for run in self.table.directory.cut(&groups, PART_ROWS) {
                let groups = &groups[run];
                merged_slots(merged, &self.table, groups, &mut self.slots)?;
                merged.merge_groups(&self.slots, &self.table, groups)?;
                if *slice_end > included {
                    merged.merge_distincts(&self.slots, &self.table, groups, 1)?;
                }
            }
        }
        let groups = merged.directory.slots();
        let (alive, gone): (Vec<u32>, Vec<u32>) = groups.iter().partition(|s| merged.rows[**s as usize] > 0);
        merged.directory.remove(&gone);
        let fired = results(merged, &alive, (start, end))?;
        merged.clear_states(&alive);
        alive.iter().for_each(|slot| merged.rows[*slot as usize] = 0);
        // The window after this one shares slices with it.
        let next = end.saturating_add(self.window.slice_width());
        let latest = self.ends.range(..=end).next_back().map(|(slice_end, _)| *slice_end);
        if next > end && latest.is_some_and(|latest| self.window.last_window_end(latest) >= next) {
            pending.insert(next);
        }
        let mut over = Vec::new();
        while let Some(slice) = self.ends.first_entry()
            && self.window.last_window_end(*slice.key()) <= end
        {
            over.extend(slice.remove().slots);
        }
        if *keeps && !self.ends.is_empty() {
            let groups = self.with_rows(&over);
            for run in self.table.directory.cut(&groups, PART_ROWS) {
                let groups = &groups[run];
                merged_slots(merged, &self.table, groups, &mut self.slots)?;
                merged.merge_distincts(&self.slots, &self.table, groups, -1)?;
            }
            sharing.included = end;
        } else {
            sharing.empty();
        }
        self.forget(&over);
        self.sharing = Some(sharing);
        Ok(Some(fired))
    }

    /// Those groups whose rows were not all taken back; the others are no result.
    fn with_rows(&self, slots: &[u32]) -> Vec<u32> {
        slots.iter().copied().filter(|s| self.table.rows[*s as usize] > 0).collect()
    }

    fn forget(&mut self, slots: &[u32]) {
        self.table.clear(slots);
        for slot in slots {
            self.table.rows[*slot as usize] = 0;
            self.noted[*slot as usize] = false;
        }
        self.table.directory.remove(slots);
    }

    pub(super) fn fired_up_to(&self) -> i64 {
        match self.next_end() {
            Some(end) if self.is_fired(end) => self.window.due(end).saturating_sub(1),
            _ => self.watermark,
        }
    }

    pub(super) fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        self.table.snapshot(writer)
    }

    pub(super) fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        self.table.restore(reader)?;
        let all = self.table.directory.slots();
        self.noted.resize(self.table.rows.len(), false);
        for run in self.table.directory.cut(&all, PART_ROWS) {
            let slots = &all[run];
            let keys = self.table.directory.keys(slots)?;
            let at = keys.len() - if self.window.is_attached() { 2 } else { 1 };
            let column = |i: usize| {
                let column: Option<&Int64Array> = keys.get(i).and_then(|c| c.as_primitive_opt::<Int64Type>());
                column.ok_or_else(|| Error::internal("state of a window aggregate has no window end"))
            };
            let ends = column(at)?;
            let starts = if self.window.is_attached() { Some(column(at + 1)?) } else { None };
            for (i, slot) in slots.iter().enumerate() {
                self.noted[*slot as usize] = true;
                self.note(*slot, ends.value(i), starts.map(|s| s.value(i)));
            }
        }
        Ok(())
    }

    pub(super) fn entries(&self) -> usize {
        self.table.entries()
    }

    pub(super) fn size(&self) -> usize {
        self.table.size() + self.sharing.as_ref().map_or(0, |sharing| sharing.merged.size())
    }
}

impl Sharing {
    /// Nothing stays for the next window.
    fn empty(&mut self) {
        let groups = self.merged.directory.slots();
        self.merged.clear(&groups);
        self.merged.directory.clear();
        self.included = i64::MIN;
    }
}

/// The slots in `merged` of groups of `table`, whose keys have the slice end as well.
fn merged_slots(
    merged: &mut AggregateTable,
    table: &AggregateTable,
    groups: &[u32],
    slots: &mut Vec<u32>,
) -> Result<()> {
    let mut keys = table.directory.keys(groups)?;
    keys.pop();
    merged.directory.intern(&keys, groups.len(), slots)?;
    merged.grow();
    Ok(())
}

/// The results of groups of `table` for the window `(start, end)`.
fn results(table: &AggregateTable, groups: &[u32], (start, end): (i64, i64)) -> Result<Vec<Fired>> {
    let mut fired = Vec::with_capacity(1);
    for run in table.directory.cut(groups, table.groups_of_a_part(usize::MAX)) {
        let groups = &groups[run];
        fired.extend(in_parts(groups.len(), |part| {
            let slots = &groups[part];
            let (keys, results) = (table.directory.keys(slots)?, table.evaluate(slots)?);
            Ok(Fired { start, end, keys, results, rows: slots.len() })
        })?);
    }
    Ok(fired)
}

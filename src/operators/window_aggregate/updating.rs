//! Windows over the states of updating aggregates: for updating input, and for DISTINCT in windows that do not overlap.
//!
//! ```text
//!  rows (± sign) ─► one copy per window that has not fired ─► table of groups by (keys, window end)
//!                                                                   │ watermark ≥ due
//!                                                                   ▼
//!                                               results of groups with rows; their slots are free again
//! ```
//!
//! Slices cannot be shared here: what a retraction undoes is not in the partial states of the slice alone (the least
//! value, a distinct value). So a row counts once per window, size/slide times for HOP.

use std::collections::BTreeMap;
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
use crate::operators::window_aggregate::window::WindowSpec;
use crate::stream::RowKinds;
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};

/// See the module.
pub(super) struct UpdatingWindows {
    window: WindowSpec,
    table: AggregateTable,
    /// Window end → slots of its groups, and its start if it is attached.
    ends: BTreeMap<i64, WindowGroups>,
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

impl UpdatingWindows {
    pub(super) fn new(config: &WindowAggregateConfig) -> Result<Self> {
        // An attached window carries its start in the key, so that it is in the snapshot.
        let more = if config.window.is_attached() { 2 } else { 1 };
        let table = AggregateTable::new(
            &config.input_schema,
            &config.keys,
            &vec![DataType::Int64; more],
            &config.aggregates,
            config.input_retracts,
        )?;
        Ok(UpdatingWindows {
            window: config.window,
            table,
            ends: BTreeMap::new(),
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
        // In the order of rows: a row has to come before it is taken back.
        let mut pairs: Vec<(u32, i64)> = Vec::new();
        for (slice_end, slice_rows) in &live.slices {
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
                let groups = self.ends.entry(*end).or_default();
                groups.slots.push(*slot);
                groups.start = starts.map(|s| s[*row as usize]);
            }
        }
    }

    pub(super) fn is_late(&self, slice_end: i64) -> bool {
        self.is_fired(self.window.last_window_end(slice_end))
    }

    pub(super) fn advance(&mut self, watermark: i64) {
        self.watermark = self.watermark.max(watermark);
    }

    pub(super) fn has_due(&self) -> bool {
        self.ends.keys().next().is_some_and(|end| self.is_fired(*end))
    }

    /// Fires the next due window, in order of window ends.
    pub(super) fn fire(&mut self) -> Result<Option<Vec<Fired>>> {
        if !self.has_due() {
            return Ok(None);
        }
        let Some((end, groups)) = self.ends.pop_first() else { return Ok(None) };
        // A group whose rows were all taken back is no result.
        let alive: Vec<u32> =
            groups.slots.iter().copied().filter(|s| self.table.rows[*s as usize] > 0).collect();
        let start = groups.start.unwrap_or_else(|| self.window.window_start(end));
        let table = &self.table;
        let mut fired = Vec::with_capacity(1);
        for run in table.directory.cut(&alive, table.groups_of_a_part(usize::MAX)) {
            let alive = &alive[run];
            fired.extend(in_parts(alive.len(), |part| {
                let slots = &alive[part];
                let (keys, results) = (table.directory.keys(slots)?, table.evaluate(slots)?);
                Ok(Fired { start, end, keys, results, rows: slots.len() })
            })?);
        }
        self.table.clear(&groups.slots);
        for slot in &groups.slots {
            self.table.rows[*slot as usize] = 0;
            self.noted[*slot as usize] = false;
        }
        self.table.directory.remove(&groups.slots);
        Ok(Some(fired))
    }

    pub(super) fn fired_up_to(&self) -> i64 {
        match self.ends.keys().next() {
            Some(end) if self.is_fired(*end) => self.window.due(*end).saturating_sub(1),
            _ => self.watermark,
        }
    }

    pub(super) fn snapshot(&self, writer: &mut SnapshotWriter) -> Result<()> {
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
                let groups = self.ends.entry(ends.value(i)).or_default();
                groups.slots.push(*slot);
                groups.start = starts.map(|s| s.value(i));
            }
        }
        Ok(())
    }

    pub(super) fn entries(&self) -> usize {
        self.table.entries()
    }

    pub(super) fn size(&self) -> usize {
        self.table.size()
    }
}

//! The aggregates of one frame: rows enter it in their order and leave it in the same.
//!
//! ```text
//!  rows of a partition    … ─ leaves ─[ ─ ─ ─ frame ─ ─ ─ current ]
//!  events                 + row (+ its peers), − what leaves, result        one after the other, partition by partition
//! ```

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{interleave, take};

use super::config::{FrameBounds, OverAggregateConfig, OverFrame};
use super::history::History;
use crate::error::Result;
use crate::operators::calc::column_exprs;
use crate::operators::group_aggregate::{AggregateTable, Evaluated};
use crate::state::ttl::TimeToLive;
use crate::stream::Timestamp;
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};

/// Rows in the order in which frames take them.
pub(super) struct Chunk<'a> {
    pub(super) rows: &'a RecordBatch,
    /// By row, in ms.
    pub(super) times: &'a [i64],
    /// Whether rows of one partition and time stand side by side, all of them.
    pub(super) has_peers: bool,
}

/// Partitions of which all rows leave the frame by themselves: those of RANGE with a bound.
struct Leaving {
    width: i64,
    /// By time: partitions that may have no row left.
    buckets: BTreeMap<i64, Vec<u32>>,
    /// By slot: whether it is in a bucket.
    noted: Vec<bool>,
}

/// See the module.
pub(super) struct Frame {
    bounds: FrameBounds,
    table: AggregateTable,
    /// Where rows leave.
    history: Option<History>,
    leaving: Option<Leaving>,
    ttl: Option<TimeToLive>,
    slots: Vec<u32>,
}

impl Frame {
    pub(super) fn new(config: &OverAggregateConfig, frame: &OverFrame) -> Result<Self> {
        let is_bounded = frame.bounds.is_bounded();
        let input = &config.input_schema;
        let keys = column_exprs(input, &config.partition);
        let table = AggregateTable::new(input, &keys, &[], &frame.calls, is_bounded)?;
        let history = match is_bounded {
            true => Some(History::new(table.evaluated_types(input)?)?),
            false => None,
        };
        let leaving = match frame.bounds {
            FrameBounds::Range(Some(length)) => {
                let width = (length / 16).clamp(1, 60_000);
                Some(Leaving { width, buckets: BTreeMap::new(), noted: Vec::new() })
            }
            _ => None,
        };
        let ttl = if leaving.is_some() { None } else { TimeToLive::new(config.ttl_ms) };
        Ok(Frame { bounds: frame.bounds, table, history, leaving, ttl, slots: Vec::new() })
    }

    /// Results of all calls for the rows of a chunk.
    pub(super) fn take(&mut self, chunk: &Chunk<'_>) -> Result<Vec<ArrayRef>> {
        let evaluated = self.table.evaluate_exprs(chunk.rows)?;
        let keys = self.table.key_columns(&evaluated);
        let mut slots = std::mem::take(&mut self.slots);
        self.table.directory.intern(&keys, evaluated.rows, &mut slots)?;
        self.table.grow();
        if let Some(ttl) = &mut self.ttl {
            slots.iter().for_each(|slot| ttl.touch(*slot));
        }
        let ends = self.ends(chunk, &slots);
        let results = match self.history {
            Some(_) => self.slide(&evaluated, chunk.times, &slots, &ends)?,
            None => self.table.running(&evaluated, &slots, None, &ends)?,
        };
        self.slots = slots;
        if ends.len() == evaluated.rows {
            return Ok(results);
        }
        // Peers have one result.
        let (mut of_row, mut from) = (Vec::with_capacity(evaluated.rows), 0);
        for (i, end) in ends.iter().enumerate() {
            of_row.extend(std::iter::repeat_n(i as u32, end - from));
            from = *end;
        }
        let of_row = UInt32Array::from(of_row);
        results.iter().map(|r| Ok(take(r, &of_row, None)?)).collect()
    }

    /// After which rows there is a result.
    fn ends(&self, chunk: &Chunk<'_>, slots: &[u32]) -> Vec<usize> {
        if !chunk.has_peers || matches!(self.bounds, FrameBounds::Rows(_)) {
            return (1..=slots.len()).collect();
        }
        let differs =
            |row: &usize| slots.get(*row) != slots.get(row - 1) || chunk.times[*row] != chunk.times[row - 1];
        let mut ends: Vec<usize> = (1..slots.len()).filter(differs).collect();
        ends.extend((!slots.is_empty()).then_some(slots.len()));
        ends
    }

    /// As [`AggregateTable::running`], with the rows that leave.
    fn slide(
        &mut self,
        evaluated: &Evaluated,
        times: &[i64],
        slots: &[u32],
        ends: &[usize],
    ) -> Result<Vec<ArrayRef>> {
        let Some(history) = &mut self.history else { return Ok(Vec::new()) };
        history.grow(self.table.directory.capacity());
        let ids = history.put(&evaluated.columns, times)?;
        let most = 2 * evaluated.rows;
        let (mut events, mut signs) = (Vec::with_capacity(most), Vec::with_capacity(most));
        let (mut event_slots, mut event_ends) = (Vec::with_capacity(most), Vec::with_capacity(ends.len()));
        let (mut left, mut from) = (Vec::new(), 0);
        for end in ends {
            for row in from..*end {
                history.queue(slots[row]).push_back(ids[row]);
                events.push((0, row));
                event_slots.push(slots[row]);
                signs.push(1);
            }
            let (slot, time) = (slots[end - 1], times[end - 1]);
            while let Some(id) = match self.bounds {
                FrameBounds::Rows(Some(before)) => {
                    let queue = history.queue(slot);
                    if queue.len() as u64 > before.saturating_add(1) { queue.pop_front() } else { None }
                }
                FrameBounds::Range(Some(length)) => history.pop_before(slot, time.saturating_sub(length)),
                _ => None,
            } {
                events.push((1, left.len()));
                event_slots.push(slot);
                signs.push(-1);
                left.push(id);
            }
            event_ends.push(events.len());
            from = *end;
            if let (Some(leaving), FrameBounds::Range(Some(length))) = (&mut self.leaving, self.bounds) {
                leaving.note(slot, time.saturating_add(length));
            }
        }
        let before = history.gather(&left)?;
        let columns = evaluated.columns.iter().zip(&before);
        let columns = columns
            .map(|(now, before)| Ok(interleave(&[now as &dyn Array, before as &dyn Array], &events)?))
            .collect::<Result<Vec<_>>>()?;
        history.forget(&left);
        let batch = self.table.evaluated(columns, events.len())?;
        self.table.running(&batch, &event_slots, Some(&signs), &event_ends)
    }

    /// Forgets partitions whose rows are all out of every frame that is still to come.
    pub(super) fn advance(&mut self, watermark: i64) {
        let (Some(leaving), Some(history), FrameBounds::Range(Some(length))) =
            (&mut self.leaving, &mut self.history, self.bounds)
        else {
            return;
        };
        let mut gone = Vec::new();
        for slot in leaving.passed(watermark) {
            match history.latest(slot).map(|time| time.saturating_add(length)) {
                Some(end) if end > watermark => leaving.note(slot, end),
                _ => gone.push(slot),
            }
        }
        self.drop_slots(&gone);
    }

    /// Forgets partitions that have outlived their time.
    pub(super) fn expire(&mut self, now: Timestamp) {
        let Some(ttl) = &mut self.ttl else { return };
        let directory = &self.table.directory;
        let gone = ttl.expired(now, || directory.slots());
        self.drop_slots(&gone);
    }

    /// When to call [`Frame::expire`].
    pub(super) fn next_timer(&self) -> Option<Timestamp> {
        self.ttl.as_ref().map(TimeToLive::next_timer)
    }

    fn drop_slots(&mut self, slots: &[u32]) {
        if slots.is_empty() {
            return;
        }
        if let Some(history) = &mut self.history {
            history.clear(slots);
        }
        self.table.clear(slots);
        slots.iter().for_each(|slot| self.table.rows[*slot as usize] = 0);
        self.table.directory.remove(slots);
    }

    pub(super) fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        self.table.snapshot(writer)?;
        match &self.history {
            Some(history) => history.write(writer, &self.table.directory),
            None => Ok(()),
        }
    }

    pub(super) fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        self.table.restore(reader)?;
        let (Some(history), leaving, bounds) = (&mut self.history, &mut self.leaving, self.bounds) else {
            return Ok(());
        };
        history.grow(self.table.directory.capacity());
        history.read(reader, &mut self.table.directory, |slot, time| {
            if let (Some(leaving), FrameBounds::Range(Some(length))) = (leaving.as_mut(), bounds) {
                leaving.note(slot, time.saturating_add(length));
            }
        })
    }

    /// Partitions and rows held.
    pub(super) fn entries(&self) -> usize {
        self.table.entries() + self.history.as_ref().map_or(0, History::entries)
    }

    pub(super) fn size(&self) -> usize {
        let leaving = self.leaving.as_ref().map_or(0, |l| l.noted.capacity() + self.table.len() * 4);
        self.table.size() + self.history.as_ref().map_or(0, History::size) + leaving
    }
}

impl Leaving {
    fn note(&mut self, slot: u32, end: i64) {
        if slot as usize >= self.noted.len() {
            self.noted.resize(slot as usize + 1, false);
        }
        if !std::mem::replace(&mut self.noted[slot as usize], true) {
            self.buckets.entry(end.div_euclid(self.width)).or_default().push(slot);
        }
    }

    /// Partitions of the buckets that the watermark has passed.
    fn passed(&mut self, watermark: i64) -> Vec<u32> {
        let mut passed = Vec::new();
        let end = |bucket: i64, width: i64| bucket.saturating_mul(width).saturating_add(width - 1);
        while let Some(first) = self.buckets.first_entry().filter(|b| end(*b.key(), self.width) <= watermark)
        {
            passed.extend(first.remove());
        }
        passed.iter().for_each(|slot| self.noted[*slot as usize] = false);
        passed
    }
}

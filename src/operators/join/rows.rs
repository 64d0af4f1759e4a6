//! Rows of one side in columnar segments, addressed by ids that stay when rows move.
//!
//! ```text
//!  id ─► position (segment, offset) ─► columns of the segment
//!
//!  appended batch ─► open segments: neighbours of like size are merged, as the digits of a binary counter
//!                       │ half full
//!                       ▼
//!                    closed segment ── more than half of its rows removed ──► live rows are appended anew
//! ```
//!
//! So tiny batches cost a logarithm of copies, full ones none, and memory follows the live rows.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{concat, interleave, take};
use arrow::datatypes::DataType;

use crate::error::{Error, Result};
use crate::stream::BATCH_BYTES;
use crate::stream::bytes::{bytes_of, cut, row_bytes};

/// No row: the end of a chain, the missing side of a padded row.
pub(in crate::operators) const NO_ROW: u32 = u32::MAX;

/// Bits of a position that are the offset in its segment.
const OFFSET_BITS: u32 = 13;
const SEGMENT_ROWS: usize = 1 << OFFSET_BITS;
/// Marks the position of a row that waits to be appended.
const PENDING: u32 = 1 << 31;
const FREE: u32 = u32::MAX;

/// Bytes up to which segments are merged.
const SEGMENT_BYTES: usize = 4 * BATCH_BYTES;

/// Bytes of a row from which on its segment knows the bytes of each of its rows.
const WIDE: usize = 1 << 10;

struct Segment {
    columns: Vec<ArrayRef>,
    /// Id of each row, [`NO_ROW`] once it is removed.
    ids: Vec<u32>,
    live: usize,
    bytes: usize,
    /// Bytes of each row, where one is wide.
    widths: Vec<usize>,
}

/// Rows of one side.
pub(in crate::operators) struct RowStore {
    types: Vec<DataType>,
    segments: Vec<Option<Segment>>,
    free_segments: Vec<u32>,
    /// Segments less than half full, the largest first.
    open: Vec<u32>,
    /// Segments that have lost half of their rows.
    sparse: Vec<u32>,
    /// By id.
    positions: Vec<u32>,
    free_ids: Vec<u32>,
    /// Ids that come free when the batch is through, so that none is given out twice within one.
    released: Vec<u32>,
    /// Rows of the batch at hand (its row, id); the id is [`NO_ROW`] when it was removed again.
    pending: Vec<(u32, u32)>,
    live: usize,
    bytes: usize,
    /// Bytes of the widest row there ever was.
    widest: usize,
}

impl RowStore {
    pub(in crate::operators) fn new(types: Vec<DataType>) -> Self {
        RowStore {
            types,
            segments: Vec::new(),
            free_segments: Vec::new(),
            open: Vec::new(),
            sparse: Vec::new(),
            positions: Vec::new(),
            free_ids: Vec::new(),
            released: Vec::new(),
            pending: Vec::new(),
            live: 0,
            bytes: 0,
            widest: 0,
        }
    }

    /// One more than the greatest id: the length of vectors by id.
    pub(in crate::operators) fn capacity(&self) -> usize {
        self.positions.len()
    }

    /// Live rows.
    pub(in crate::operators) fn len(&self) -> usize {
        self.live
    }

    /// Bytes held; cheap.
    pub(in crate::operators) fn size(&self) -> usize {
        self.bytes
            + (self.positions.capacity() + self.free_ids.capacity() + self.released.capacity()) * 4
            + self.pending.capacity() * 8
            + self.segments.capacity() * size_of::<Option<Segment>>()
    }

    /// An id for row `row` of the batch that [`RowStore::append_pending`] will be called with.
    pub(in crate::operators) fn add(&mut self, row: u32) -> Result<u32> {
        let position = PENDING | self.pending.len() as u32;
        self.live += 1;
        let id = match self.free_ids.pop() {
            Some(id) => {
                self.positions[id as usize] = position;
                id
            }
            None => {
                if self.positions.len() >= PENDING as usize {
                    return Err(Error::data("one side of a join holds more than 2^31 rows in one subtask")
                        .hint("raise parallelism.default, or bound the state by table.exec.state.ttl"));
                }
                self.positions.push(position);
                (self.positions.len() - 1) as u32
            }
        };
        self.pending.push((row, id));
        Ok(id)
    }

    /// Removes a row. Its id is given out again after [`RowStore::maintain`].
    pub(in crate::operators) fn remove(&mut self, id: u32) {
        let position = std::mem::replace(&mut self.positions[id as usize], FREE);
        if position == FREE {
            return;
        }
        self.live -= 1;
        self.released.push(id);
        if position & PENDING != 0 {
            self.pending[(position & !PENDING) as usize].1 = NO_ROW;
            return;
        }
        if self.types.is_empty() {
            return;
        }
        let (number, offset) = split(position);
        let Some(segment) = &mut self.segments[number] else { return };
        segment.ids[offset] = NO_ROW;
        segment.live -= 1;
        if segment.live == 0 {
            self.drop_segment(number as u32);
        } else if segment.live == segment.ids.len() / 2 {
            self.sparse.push(number as u32);
        }
    }

    /// Stores the pending rows out of the columns of their batch.
    pub(in crate::operators) fn append_pending(&mut self, columns: &[ArrayRef], rows: usize) -> Result<()> {
        let mut pending = std::mem::take(&mut self.pending);
        if self.types.is_empty() {
            for (_, id) in pending.drain(..).filter(|(_, id)| *id != NO_ROW) {
                self.positions[id as usize] = 0;
            }
            self.pending = pending;
            return Ok(());
        }
        pending.retain(|(_, id)| *id != NO_ROW);
        if !pending.is_empty() {
            let ids: Vec<u32> = pending.iter().map(|(_, id)| *id).collect();
            if pending.len() == rows && !columns.iter().any(is_wasteful) {
                // In order and complete: the arrays are shared.
                self.append(columns.to_vec(), ids)?;
            } else {
                let chosen = UInt32Array::from_iter_values(pending.iter().map(|(row, _)| *row));
                let columns =
                    columns.iter().map(|c| Ok(take(c, &chosen, None)?)).collect::<Result<Vec<_>>>()?;
                self.append(columns, ids)?;
            }
        }
        pending.clear();
        self.pending = pending;
        Ok(())
    }

    fn append(&mut self, columns: Vec<ArrayRef>, ids: Vec<u32>) -> Result<()> {
        if ids.len() <= SEGMENT_ROWS {
            self.add_segment(columns, ids);
        } else {
            let all = UInt32Array::from_iter_values(0..ids.len() as u32);
            let mut from = 0;
            while from < ids.len() {
                let n = SEGMENT_ROWS.min(ids.len() - from);
                let part = all.slice(from, n);
                let part = columns.iter().map(|c| Ok(take(c, &part, None)?)).collect::<Result<_>>()?;
                self.add_segment(part, ids[from..from + n].to_vec());
                from += n;
            }
        }
        while let [.., before, last] = self.open[..] {
            let size = |s: u32| self.segments[s as usize].as_ref().map_or((0, 0), |s| (s.ids.len(), s.bytes));
            let ((a, a_bytes), (b, b_bytes)) = (size(before), size(last));
            if a > 2 * b || a + b > SEGMENT_ROWS || a_bytes + b_bytes > SEGMENT_BYTES {
                break;
            }
            self.open.truncate(self.open.len() - 2);
            self.merge(before, last)?;
        }
        Ok(())
    }

    fn add_segment(&mut self, columns: Vec<ArrayRef>, ids: Vec<u32>) {
        let number = self.free_segments.pop().unwrap_or_else(|| {
            self.segments.push(None);
            (self.segments.len() - 1) as u32
        });
        for (offset, id) in ids.iter().enumerate() {
            self.positions[*id as usize] = (number << OFFSET_BITS) | offset as u32;
        }
        let bytes = columns.iter().map(|c| c.get_array_memory_size()).sum::<usize>() + ids.capacity() * 4;
        if ids.len() < SEGMENT_ROWS / 2 && bytes < SEGMENT_BYTES / 2 {
            self.open.push(number);
        }
        self.bytes += bytes;
        let live = ids.len();
        let all = bytes_of(&columns);
        let mut widths = if all > WIDE { row_bytes(&columns, live) } else { Vec::new() };
        let widest = widths.iter().copied().max().unwrap_or(all);
        self.widest = self.widest.max(widest);
        if widest <= WIDE {
            widths = Vec::new();
        }
        self.segments[number as usize] = Some(Segment { columns, ids, live, bytes, widths });
    }

    fn merge(&mut self, a: u32, b: u32) -> Result<()> {
        let (Some(first), Some(second)) = (self.take_segment(a), self.take_segment(b)) else {
            return Ok(());
        };
        let mut columns = Vec::with_capacity(self.types.len());
        for (x, y) in first.columns.iter().zip(&second.columns) {
            columns.push(concat(&[x.as_ref(), y.as_ref()])?);
        }
        let mut ids = first.ids;
        ids.extend(second.ids);
        if first.live + second.live < ids.len() {
            let (kept, chosen) = live_rows(&ids);
            columns = columns.iter().map(|c| Ok(take(c, &chosen, None)?)).collect::<Result<_>>()?;
            ids = kept;
        }
        self.add_segment(columns, ids);
        Ok(())
    }

    fn take_segment(&mut self, number: u32) -> Option<Segment> {
        let segment = self.segments[number as usize].take()?;
        self.bytes -= segment.bytes;
        self.free_segments.push(number);
        Some(segment)
    }

    fn drop_segment(&mut self, number: u32) {
        self.take_segment(number);
        self.open.retain(|s| *s != number);
    }

    /// After a batch: gives removed ids back and compacts what has become sparse.
    pub(in crate::operators) fn maintain(&mut self) -> Result<()> {
        self.free_ids.append(&mut self.released);
        for number in std::mem::take(&mut self.sparse) {
            // The number may stand for a later, dense segment by now.
            let is_sparse =
                self.segments[number as usize].as_ref().is_some_and(|s| s.live <= s.ids.len() / 2);
            if !is_sparse {
                continue;
            }
            self.open.retain(|s| *s != number);
            if let Some(segment) = self.take_segment(number) {
                let (ids, chosen) = live_rows(&segment.ids);
                let columns =
                    segment.columns.iter().map(|c| Ok(take(c, &chosen, None)?)).collect::<Result<_>>()?;
                self.append(columns, ids)?;
            }
        }
        Ok(())
    }

    /// The rows from id `from` on, segment by segment: their ids and columns, which are shared. For stores of which no row is
    /// ever removed, so that ids ascend within segments.
    pub(in crate::operators) fn since(&self, from: u32) -> impl Iterator<Item = (&[u32], Vec<ArrayRef>)> {
        self.segments.iter().flatten().filter_map(move |segment| {
            let known = segment.ids.partition_point(|id| *id < from);
            let ids = segment.ids.get(known..).filter(|ids| !ids.is_empty())?;
            Some((ids, segment.columns.iter().map(|c| c.slice(known, ids.len())).collect()))
        })
    }

    /// Columns `columns` of the rows `ids`; [`NO_ROW`] gives NULLs.
    pub(in crate::operators) fn gather(&self, columns: &[usize], ids: &[u32]) -> Result<Vec<ArrayRef>> {
        if columns.is_empty() {
            return Ok(Vec::new());
        }
        let mut used: Vec<&Segment> = Vec::new();
        let mut local: Vec<u32> = vec![NO_ROW; self.segments.len()];
        let mut places: Vec<(usize, usize)> = Vec::with_capacity(ids.len());
        let mut has_nulls = false;
        for id in ids {
            if *id == NO_ROW {
                has_nulls = true;
                places.push((usize::MAX, 0));
                continue;
            }
            let (number, offset) = split(self.positions[*id as usize]);
            let place = &mut local[number];
            if *place == NO_ROW {
                let segment = self.segments[number].as_ref();
                used.push(segment.ok_or_else(|| Error::internal("a row of a join was lost"))?);
                *place = (used.len() - 1) as u32;
            }
            places.push((*place as usize, offset));
        }
        if let ([segment], false) = (used.as_slice(), has_nulls) {
            let offsets = UInt32Array::from_iter_values(places.iter().map(|(_, offset)| *offset as u32));
            return columns.iter().map(|c| Ok(take(&segment.columns[*c], &offsets, None)?)).collect();
        }
        if has_nulls {
            let null = used.len();
            places.iter_mut().filter(|(s, _)| *s == usize::MAX).for_each(|p| p.0 = null);
        }
        columns
            .iter()
            .map(|c| {
                let mut arrays: Vec<&dyn Array> = used.iter().map(|s| s.columns[*c].as_ref()).collect();
                let null;
                if has_nulls {
                    null = new_null_array(&self.types[*c], 1);
                    arrays.push(null.as_ref());
                }
                Ok(interleave(&arrays, &places)?)
            })
            .collect()
    }

    /// Cuts rows into runs whose columns make a batch.
    pub(in crate::operators) fn runs(&self, ids: &[u32]) -> Vec<Range<usize>> {
        if self.widest.saturating_mul(ids.len()) <= BATCH_BYTES {
            return std::iter::once(0..ids.len()).collect();
        }
        let widths: Vec<usize> = ids.iter().map(|id| self.row_bytes(*id)).collect();
        cut(&widths, BATCH_BYTES, |_| false)
    }

    /// Cuts pairs of rows of a batch and stored rows into runs that make a batch. `widest` are the bytes of the widest row
    /// of `batch`.
    pub(in crate::operators) fn pair_runs(
        &self,
        batch: &RecordBatch,
        widest: usize,
        own: &[u32],
        ids: &[u32],
        joined: impl Fn(usize) -> bool,
    ) -> Vec<Range<usize>> {
        if widest.saturating_add(self.widest).saturating_mul(ids.len()) <= BATCH_BYTES {
            return std::iter::once(0..ids.len()).collect();
        }
        let bytes = row_bytes(batch.columns(), batch.num_rows());
        let of_own = |row: &u32| bytes.get(*row as usize).copied().unwrap_or(0);
        let widths: Vec<usize> =
            own.iter().zip(ids).map(|(row, id)| of_own(row) + self.row_bytes(*id)).collect();
        cut(&widths, BATCH_BYTES, joined)
    }

    /// Bytes that no row has more of, or hardly.
    pub(in crate::operators) fn widest(&self) -> usize {
        self.widest
    }

    /// About the bytes of a row.
    pub(in crate::operators) fn row_bytes(&self, id: u32) -> usize {
        if id == NO_ROW || self.types.is_empty() {
            return 0;
        }
        let (number, offset) = split(self.positions[id as usize]);
        let segment = self.segments[number].as_ref();
        segment.map_or(0, |s| s.widths.get(offset).copied().unwrap_or(WIDE.min(self.widest)))
    }

    /// Types of the columns.
    pub(in crate::operators) fn types(&self) -> &[DataType] {
        &self.types
    }
}

#[inline]
fn split(position: u32) -> (usize, usize) {
    ((position >> OFFSET_BITS) as usize, (position & (SEGMENT_ROWS as u32 - 1)) as usize)
}

fn live_rows(ids: &[u32]) -> (Vec<u32>, UInt32Array) {
    let (kept, chosen): (Vec<u32>, Vec<u32>) =
        ids.iter().enumerate().filter(|(_, id)| **id != NO_ROW).map(|(row, id)| (*id, row as u32)).unzip();
    (kept, UInt32Array::from(chosen))
}

/// Whether an array keeps much more alive than it shows: a slice of something large.
fn is_wasteful(column: &ArrayRef) -> bool {
    let shown = column.to_data().get_slice_memory_size().unwrap_or(0);
    Arc::clone(column).get_array_memory_size() > 2 * shown + 4096
}

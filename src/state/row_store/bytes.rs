//! The variable-width columns of rows, by id.
//!
//! ```text
//!  starts[id] ─► chunk, offset ─► ┆ length of column 0, 1, … as LEB128 ┆ bytes of column 0, 1, … ┆
//! ```
//!
//! All of a row is found with two accesses, however many columns it has. Chunks have a fixed size, so that growing copies
//! nothing and touches no memory twice; a record never crosses the end of one. Records of freed rows are dead
//! until more than half of all bytes are, then the rest moves to new chunks.

use crate::error::Result;
use crate::functions::room::check_column;

/// Below this many dead bytes packing does not pay.
const PACK_FROM: usize = 65_536;

/// Bytes of a chunk; the first one grows up to it, a longer record has its own.
const CHUNK: usize = 4 << 20;

/// Of an id without a record.
const NOWHERE: u64 = u64::MAX;

/// See the module.
#[derive(Default)]
pub(super) struct Bytes {
    /// Number of columns.
    columns: usize,
    chunks: Vec<Vec<u8>>,
    /// By id: number of the chunk in the upper half, offset in the lower.
    starts: Vec<u64>,
    /// Bytes of records, dead ones too.
    used: usize,
    dead: usize,
    /// Bytes of the longest record there ever was.
    widest: usize,
}

impl Bytes {
    /// Adds a column to a store without rows and gives its number.
    pub(super) fn add_column(&mut self) -> usize {
        self.columns += 1;
        self.columns - 1
    }

    /// Whether there are no columns, and so nothing to store.
    pub(super) fn is_unused(&self) -> bool {
        self.columns == 0
    }

    /// Makes room for ids below `capacity`.
    pub(super) fn grow(&mut self, capacity: usize) {
        self.starts.resize(capacity, NOWHERE);
    }

    /// Stores the values of a row, one of each column, over what was there.
    pub(super) fn put<'a>(&mut self, id: usize, values: impl Iterator<Item = &'a [u8]> + Clone) {
        self.forget(id);
        let length = values.clone().map(|v| varint_length(v.len()) + v.len()).sum();
        let start = self.reserve(length);
        self.widest = self.widest.max(length);
        self.starts[id] = start;
        self.used += length;
        let Some(chunk) = self.chunks.last_mut() else { return };
        for value in values.clone() {
            let mut rest = value.len();
            while rest >= 0x80 {
                chunk.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            chunk.push(rest as u8);
        }
        values.for_each(|value| chunk.extend_from_slice(value));
    }

    /// Where the next record of `length` bytes goes: the end of the last chunk, a new one if it does not fit there.
    fn reserve(&mut self, length: usize) -> u64 {
        let fits = self.chunks.last().is_some_and(|c| c.len() + length <= CHUNK);
        if !fits {
            // The first one starts small: most states are.
            let size = if self.chunks.is_empty() { length } else { length.max(CHUNK) };
            self.chunks.push(Vec::with_capacity(size));
        }
        let offset = self.chunks.last().map_or(0, Vec::len);
        ((self.chunks.len() as u64 - 1) << 32) | offset as u64
    }

    /// The chunk from the start of a record on.
    #[inline]
    fn record(&self, id: usize) -> Option<&[u8]> {
        let start = self.starts.get(id).copied().filter(|s| *s != NOWHERE)?;
        self.chunks.get((start >> 32) as usize)?.get(start as u32 as usize..)
    }

    /// Bytes that no record has more of.
    pub(super) fn widest(&self) -> usize {
        self.widest
    }

    /// Bytes of a record.
    pub(super) fn length(&self, id: usize) -> usize {
        let Some(record) = self.record(id) else { return 0 };
        let mut at = 0;
        let values: usize = (0..self.columns).map(|_| varint(record, &mut at)).sum();
        at + values
    }

    /// The value of a column; empty for an id without a record.
    pub(super) fn get(&self, id: usize, column: usize) -> &[u8] {
        let Some(record) = self.record(id) else { return &[] };
        let (mut at, mut before, mut length) = (0, 0, 0);
        for i in 0..self.columns {
            let n = varint(record, &mut at);
            match i.cmp(&column) {
                std::cmp::Ordering::Less => before += n,
                std::cmp::Ordering::Equal => length = n,
                std::cmp::Ordering::Greater => {}
            }
        }
        &record[at + before..at + before + length]
    }

    /// Offsets and bytes of every column.
    ///
    /// # Errors
    /// Data if a column has more bytes than one array can hold.
    pub(super) fn gather(&self, ids: &[u32]) -> Result<Vec<(Vec<i32>, Vec<u8>)>> {
        let mut totals = vec![0_usize; self.columns];
        // Heads first: their cache misses do not wait for one another, and what is behind them is then on its way.
        let mut lengths: Vec<u32> = Vec::with_capacity(ids.len() * self.columns);
        let mut values: Vec<&[u8]> = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(record) = self.record(*id as usize) else {
                lengths.extend(std::iter::repeat_n(0, self.columns));
                values.push(&[]);
                continue;
            };
            let mut at = 0;
            for total in &mut totals {
                let length = varint(record, &mut at);
                *total += length;
                lengths.push(length as u32);
            }
            values.push(&record[at..]);
        }
        totals.iter().try_for_each(|total| check_column(*total))?;
        let mut made: Vec<(Vec<i32>, Vec<u8>)> = totals
            .iter()
            .map(|total| {
                let mut offsets = Vec::with_capacity(ids.len() + 1);
                offsets.push(0);
                (offsets, Vec::with_capacity(*total))
            })
            .collect();
        if self.columns > 0 {
            for (lengths, mut rest) in lengths.chunks_exact(self.columns).zip(values) {
                for (length, (offsets, data)) in lengths.iter().zip(&mut made) {
                    let (value, behind) = rest.split_at(*length as usize);
                    data.extend_from_slice(value);
                    offsets.push(data.len() as i32);
                    rest = behind;
                }
            }
        }
        Ok(made)
    }

    /// Forgets the record of an id.
    pub(super) fn forget(&mut self, id: usize) {
        self.dead += self.length(id);
        if let Some(start) = self.starts.get_mut(id) {
            *start = NOWHERE;
        }
    }

    /// Moves what lives to new chunks once most is dead.
    pub(super) fn pack(&mut self) {
        if self.dead < PACK_FROM || self.dead < self.used / 2 {
            return;
        }
        let mut packed = Bytes { columns: self.columns, widest: self.widest, ..Bytes::default() };
        packed.starts.resize(self.starts.len(), NOWHERE);
        for id in 0..self.starts.len() {
            let length = self.length(id);
            let Some(record) = self.record(id) else { continue };
            packed.starts[id] = packed.reserve(length);
            packed.used += length;
            if let Some(chunk) = packed.chunks.last_mut() {
                chunk.extend_from_slice(&record[..length]);
            }
        }
        *self = packed;
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        self.chunks.iter().map(Vec::capacity).sum::<usize>() + self.starts.capacity() * size_of::<u64>()
    }
}

/// Bytes of `n` as LEB128.
fn varint_length(n: usize) -> usize {
    (n.checked_ilog2().unwrap_or(0) / 7) as usize + 1
}

/// The number at `at`, which moves behind it.
#[inline]
fn varint(bytes: &[u8], at: &mut usize) -> usize {
    let mut n = 0;
    let mut shift = 0;
    while let Some(byte) = bytes.get(*at) {
        *at += 1;
        n |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
        shift += 7;
    }
    n
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(bytes: &mut Bytes, id: usize, values: &[&[u8]]) {
        bytes.grow(bytes.starts.len().max(id + 1));
        bytes.put(id, values.iter().copied());
    }

    #[test]
    fn lengths_around_each_byte_of_a_number() {
        for n in [0, 1, 127, 128, 129, 16_383, 16_384, 2_097_151, 2_097_152] {
            let mut bytes = Bytes::default();
            for _ in 0..2 {
                bytes.add_column();
            }
            let long = vec![7; n];
            put(&mut bytes, 0, &[&long, b"behind"]);
            put(&mut bytes, 2, &[b"", &long]);
            assert_eq!(bytes.get(0, 0), long);
            assert_eq!(bytes.get(0, 1), b"behind");
            assert_eq!(bytes.get(1, 1), b"", "an id without a record");
            assert_eq!(bytes.get(2, 1), long);
            assert_eq!(bytes.used, 2 * (varint_length(n) + n) + 1 + 6 + 1);
            let made = bytes.gather(&[2, 1, 0]).unwrap();
            assert_eq!(made[0].0, [0, 0, 0, n as i32]);
            assert_eq!(made[1].0, [0, n as i32, n as i32, n as i32 + 6]);
        }
    }

    #[test]
    fn records_longer_than_a_chunk_and_at_its_end() {
        let mut bytes = Bytes::default();
        bytes.add_column();
        let half = vec![1; CHUNK / 2];
        let long = vec![2; 2 * CHUNK + 1];
        for (id, value) in [&half, &half, &long, &half].into_iter().enumerate() {
            put(&mut bytes, id, &[value]);
        }
        assert_eq!(bytes.chunks.len(), 4, "none crosses the end of a chunk");
        for (id, value) in [&half, &half, &long, &half].into_iter().enumerate() {
            assert_eq!(bytes.get(id, 0), value);
        }
        // More than half is dead: the first and the long one.
        bytes.forget(2);
        bytes.forget(0);
        bytes.pack();
        assert_eq!(bytes.dead, 0);
        assert!(bytes.size() < 3 * CHUNK, "{}", bytes.size());
        assert_eq!((bytes.get(0, 0), bytes.get(2, 0)), (&[][..], &[][..]));
        assert_eq!((bytes.get(1, 0), bytes.get(3, 0)), (&half[..], &half[..]));
        put(&mut bytes, 0, &[b"again"]);
        assert_eq!(bytes.get(0, 0), b"again");
    }
}

//! Deals the row numbers 0, 1, 2, … out to readers, at any parallelism and again after a restore at another one.
//!
//! ```text
//!  block size 4, two readers:   0 1 2 3 | 4 5 6 7 | 8 9 10 11 | …
//!                               lane 0    lane 1    lane 0
//! ```
//!
//! Blocks and not ranges, so that all readers move through event time together and the watermark follows.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Every `modulus`-th block from `residue` on, with the next row to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    block: u64,
    modulus: u64,
    residue: u64,
    next: u64,
}

impl Lane {
    /// A stable name.
    pub fn name(&self) -> String {
        format!("lane-{}-of-{}", self.residue, self.modulus)
    }

    /// The next rows: at most `max`, below `end`, of one block.
    fn peek(&self, max: u64, end: u64) -> Range<u64> {
        let block_end = (self.next / self.block).saturating_add(1).saturating_mul(self.block);
        self.next..self.next.saturating_add(max.max(1)).min(block_end).min(end)
    }

    fn advance(&mut self, to: u64) {
        self.next = to;
        if to.is_multiple_of(self.block) {
            self.next = to.saturating_add((self.modulus - 1).saturating_mul(self.block));
        }
    }

    /// `parts` lanes that make the same rows.
    fn split(&self, parts: u64) -> impl Iterator<Item = Lane> + '_ {
        let modulus = self.modulus.saturating_mul(parts);
        let current = self.next / self.block;
        (0..parts).map(move |part| {
            let residue = self.residue + self.modulus * part;
            let skip = (residue + modulus - current % modulus) % modulus;
            let next = if skip == 0 { self.next } else { (current + skip).saturating_mul(self.block) };
            Lane { block: self.block, modulus, residue, next }
        })
    }
}

/// The lanes of one reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lanes(Vec<Lane>);

impl Lanes {
    /// A fresh deal.
    pub fn deal(block: u64, readers: usize) -> Vec<Lanes> {
        let block = block.max(1);
        let modulus = readers.max(1) as u64;
        (0..modulus)
            .map(|residue| Lanes(vec![Lane { block, modulus, residue, next: residue * block }]))
            .collect()
    }

    /// Deals restored lanes out to possibly more or fewer readers.
    pub fn redeal(mut lanes: Vec<Lane>, readers: usize) -> Vec<Lanes> {
        let readers = readers.max(1);
        if !lanes.is_empty() && lanes.len() < readers {
            let parts = readers.div_ceil(lanes.len()) as u64;
            lanes = lanes.iter().flat_map(|l| l.split(parts)).collect();
        }
        lanes.sort_by_key(|l| l.next);
        let mut dealt = vec![Lanes(Vec::new()); readers];
        for (i, lane) in lanes.into_iter().enumerate() {
            if let Some(reader) = dealt.get_mut(i % readers) {
                reader.0.push(lane);
            }
        }
        dealt
    }

    /// The next rows in the order of their numbers: at most `max`, below `end`.
    pub fn peek(&self, max: u64, end: u64) -> Option<Range<u64>> {
        self.0.iter().min_by_key(|l| l.next).map(|l| l.peek(max, end)).filter(|r| r.start < r.end)
    }

    /// The rows of the last [`Lanes::peek`] are made up to `to`.
    pub fn advance(&mut self, to: u64) {
        if let Some(lane) = self.0.iter_mut().min_by_key(|l| l.next) {
            lane.advance(to);
        }
    }

    /// The lanes, for snapshots.
    pub fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.0.iter()
    }
}

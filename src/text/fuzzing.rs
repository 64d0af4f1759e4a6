//! What the fuzz targets of all modules share: random numbers and a loop with a time limit.
//!
//! Targets are tests. Each runs for a second, or for as many as `TIDELAKE_FUZZ_SECONDS` says; `TIDELAKE_FUZZ_SEED` begins
//! elsewhere. Each tells at its end how many inputs it had, which `--nocapture` shows.

#![expect(clippy::disallowed_methods, reason = "a time limit is about the clock")]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

/// Longest time that one call may take.
const MOST: Duration = Duration::from_secs(5);

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(crate) fn one<'t, T: ?Sized>(&mut self, of: &[&'t T]) -> &'t T {
        of[self.below(of.len())]
    }

    /// Up to `most` pieces of a list.
    pub(crate) fn text(&mut self, pieces: &[&str], most: usize) -> String {
        (0..self.below(most + 1)).map(|_| pieces[self.below(pieces.len())]).collect()
    }

    /// A copy with a few bytes changed, added or cut off.
    pub(crate) fn damaged(&mut self, good: &[u8]) -> Vec<u8> {
        let mut bad = good.to_vec();
        for _ in 0..=self.below(3) {
            match self.below(4) {
                0 => bad.truncate(self.below(bad.len().max(1))),
                1 if !bad.is_empty() => {
                    let at = self.below(bad.len());
                    bad[at] = self.next() as u8;
                }
                2 if !bad.is_empty() => {
                    // Lengths and signs are in single bits.
                    let at = self.below(bad.len());
                    bad[at] ^= 1 << self.below(8);
                }
                _ => bad.insert(self.below(bad.len() + 1), self.next() as u8),
            }
        }
        bad
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|v| v.parse().ok())
}

/// Calls `f`, which has `each` inputs, with random numbers until the time is over.
pub(crate) fn fuzz(target: &str, each: u64, mut f: impl FnMut(&mut Random)) {
    let end = Instant::now() + Duration::from_secs(setting("TIDELAKE_FUZZ_SECONDS").unwrap_or(1));
    let first = setting("TIDELAKE_FUZZ_SEED").unwrap_or(1);
    let mut seed = first;
    while Instant::now() < end {
        let start = Instant::now();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| f(&mut Random(seed)))) {
            println!("fuzz {target}: TIDELAKE_FUZZ_SEED={seed} makes it panic");
            resume_unwind(panic);
        }
        assert!(start.elapsed() < MOST, "{target}: seed {seed} takes {:?}", start.elapsed());
        seed += 1;
    }
    println!("fuzz {target}: {} inputs, seeds {first} to {}", (seed - first) * each, seed - 1);
}

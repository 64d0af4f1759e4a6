//! Random numbers by position instead of by sequence: the n-th value of a column is a hash of its seed and n.

/// Finalizer of SplitMix64 (Steele, Lea, Flood 2014): a bijection that scatters neighbouring inputs.
#[inline]
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// SplitMix64's step: odd, its bits close to random.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// A stream of random values addressed by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream(u64);

impl Stream {
    /// The stream `salt` of a seed.
    pub fn new(seed: u64, salt: u64) -> Self {
        Stream(mix(mix(seed).wrapping_add(salt.wrapping_mul(GAMMA))))
    }

    /// Value number `n`.
    #[inline]
    pub fn at(self, n: u64) -> u64 {
        mix(self.0.wrapping_add(n.wrapping_mul(GAMMA)))
    }

    /// A generator for the many values one row needs.
    #[inline]
    pub fn sequence(self, n: u64) -> Sequence {
        Sequence(self.at(n))
    }
}

/// Successive random values.
#[derive(Debug, Clone)]
pub struct Sequence(u64);

impl Sequence {
    /// The values of a fixed seed.
    pub fn seeded(seed: u64) -> Self {
        Sequence(mix(seed))
    }

    /// The next value.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        mix(self.0)
    }

    /// Below `n`; 0 if `n` is 0.
    #[inline]
    pub fn below(&mut self, n: u64) -> u64 {
        below(self.next_u64(), n)
    }
}

/// Scales 64 random bits to `0..n` by multiplication; the bias is below n / 2^64.
#[inline]
pub fn below(random: u64, n: u64) -> u64 {
    ((u128::from(random) * u128::from(n)) >> 64) as u64
}

/// As [`below`] from 32 bits, for small `n`.
#[inline]
pub fn below32(random: u32, n: u32) -> u32 {
    ((u64::from(random) * u64::from(n)) >> 32) as u32
}

/// In `[0, 1)` with 53 bits.
#[inline]
pub fn unit(random: u64) -> f64 {
    (random >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// A seed nobody asked to repeat.
pub fn fresh_seed() -> u64 {
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    high ^ low
}

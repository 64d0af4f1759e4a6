//! Key groups: the 128 parts of the key space that state is spread by.

/// Number of key groups, fixed for ever: it is part of the state format.
pub const KEY_GROUPS: u16 = 128;

/// One of the 128 partitions of the key space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyGroup(pub u8);

impl KeyGroup {
    /// The group of a stable 64-bit key hash: its top 7 bits.
    pub fn of_hash(hash: u64) -> Self {
        KeyGroup((hash >> 57) as u8)
    }
}

/// A half-open range of key groups owned by one subtask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyGroupRange {
    /// First group.
    pub start: u16,
    /// One past the last group.
    pub end: u16,
}

impl KeyGroupRange {
    /// All groups.
    pub const ALL: KeyGroupRange = KeyGroupRange { start: 0, end: KEY_GROUPS };

    /// The range of `subtask` out of `parallelism`.
    pub fn of_subtask(subtask: usize, parallelism: usize) -> Self {
        let n = KEY_GROUPS as usize;
        KeyGroupRange {
            start: (subtask * n).div_ceil(parallelism) as u16,
            end: ((subtask + 1) * n).div_ceil(parallelism) as u16,
        }
    }

    /// Whether `group` belongs to it.
    pub fn contains(&self, group: KeyGroup) -> bool {
        (self.start..self.end).contains(&u16::from(group.0))
    }
}

/// The subtask out of `parallelism` that owns `group`.
pub fn subtask_of(group: KeyGroup, parallelism: usize) -> usize {
    // Inverse of `KeyGroupRange::of_subtask`.
    (group.0 as usize * parallelism) / KEY_GROUPS as usize
}

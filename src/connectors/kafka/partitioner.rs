//! Which partition a record goes to, where librdkafka is not left to decide.

use crate::error::{Error, Result};

/// `sink.partitioner`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Partitioner {
    /// Kafka's own: murmur2 of the key, records without a key spread in runs.
    Default,
    /// Each writer has one partition.
    Fixed,
    /// Record by record in turn.
    RoundRobin,
}

impl Partitioner {
    /// From the option's value.
    pub(super) fn parse(value: Option<String>) -> Result<Self> {
        match value.as_deref().map(str::trim) {
            None => Ok(Partitioner::Default),
            Some(v) if v.eq_ignore_ascii_case("default") => Ok(Partitioner::Default),
            Some(v) if v.eq_ignore_ascii_case("fixed") => Ok(Partitioner::Fixed),
            Some(v) if v.eq_ignore_ascii_case("round-robin") => Ok(Partitioner::RoundRobin),
            Some(v) => Err(Error::unsupported(format!("'sink.partitioner' = '{v}' is not supported"))
                .hint("expected default, fixed or round-robin; Java classes cannot be loaded")),
        }
    }
}

/// Chooses partitions for one writer.
#[derive(Debug)]
pub(super) struct Chooser {
    kind: Partitioner,
    subtask: usize,
    next: usize,
}

impl Chooser {
    /// For the writer of `subtask`.
    pub(super) fn new(kind: Partitioner, subtask: usize) -> Self {
        Chooser { kind, subtask, next: subtask }
    }

    /// The partition of a record out of `partitions`.
    pub(super) fn choose(&mut self, key: Option<&[u8]>, partitions: usize) -> usize {
        let n = partitions.max(1);
        match (self.kind, key) {
            (Partitioner::Fixed, _) => self.subtask % n,
            (Partitioner::Default, Some(key)) => (murmur2(key) & 0x7fff_ffff) as usize % n,
            (Partitioner::Default, None) => self.next % n,
            (Partitioner::RoundRobin, _) => {
                self.next = (self.next + 1) % n;
                self.next
            }
        }
    }

    /// A batch has been written: records without a key move on to the next partition.
    pub(super) fn end_batch(&mut self) {
        if self.kind == Partitioner::Default {
            self.next = self.next.wrapping_add(1);
        }
    }
}

/// The reader that owns a partition, as Flink's source enumerator assigns them: partitions of a topic in turn,
/// beginning at a reader that depends on the topic's name.
pub(super) fn owner(topic: &str, partition: i32, readers: usize) -> usize {
    let n = readers.max(1);
    let hash = topic.encode_utf16().fold(0i32, |h, c| h.wrapping_mul(31).wrapping_add(i32::from(c)));
    let start = (hash.wrapping_mul(31) & 0x7fff_ffff) as usize % n;
    (start + partition.max(0) as usize) % n
}

/// `org.apache.kafka.common.utils.Utils.murmur2`.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h: u32 = 0x9747_b28c ^ data.len() as u32;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = chunk.iter().rev().fold(0u32, |k, b| (k << 8) | u32::from(*b));
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        h ^= rest.iter().rev().fold(0u32, |k, b| (k << 8) | u32::from(*b));
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_is_kafkas() {
        // Vectors of Kafka's UtilsTest.
        for (text, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
    }

    #[test]
    fn partitions_spread_over_readers_in_turn() {
        let owners: Vec<usize> = (0..4).map(|p| owner("orders", p, 4)).collect();
        let mut sorted = owners.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 1, 2, 3]);
        assert!((0..9).all(|p| owner("überraschung", p, 1) == 0));
    }

    #[test]
    fn choosers() {
        let mut c = Chooser::new(Partitioner::Fixed, 5);
        assert_eq!(c.choose(Some(b"k"), 4), 1);
        let mut c = Chooser::new(Partitioner::RoundRobin, 0);
        assert_eq!((0..4).map(|_| c.choose(None, 3)).collect::<Vec<_>>(), [1, 2, 0, 1]);
        let mut c = Chooser::new(Partitioner::Default, 0);
        assert_eq!(c.choose(Some(b"foobar"), 7), c.choose(Some(b"foobar"), 7));
        let first = c.choose(None, 2);
        c.end_batch();
        assert_ne!(first, c.choose(None, 2));
    }
}

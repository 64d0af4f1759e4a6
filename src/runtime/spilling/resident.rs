//! What the process holds of the machine's memory, whoever in it that is: batches under way, buffers of libraries, and
//! what the allocator has not given back yet.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How old the answer may be; asking the system takes microseconds.
const FRESH: Duration = Duration::from_millis(2);

static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
static ASKED: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);

/// Resident bytes; 0 where the system does not tell (everywhere but on Linux).
pub fn resident_bytes() -> usize {
    let now = u64::try_from(BEGUN.elapsed().as_micros()).unwrap_or(u64::MAX);
    let asked = ASKED.load(Ordering::Relaxed);
    let fresh = asked > 0 && now.saturating_sub(asked) < FRESH.as_micros() as u64;
    // One of those who ask at once reads.
    if !fresh && ASKED.compare_exchange(asked, now.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        BYTES.store(read().unwrap_or(0), Ordering::Relaxed);
    }
    BYTES.load(Ordering::Relaxed)
}

fn read() -> Option<usize> {
    // In pages: size, resident, … The page size of the targets that have this file.
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    text.split_whitespace().nth(1)?.parse::<usize>().ok()?.checked_mul(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_written_to_becomes_resident() {
        let before = resident_bytes();
        assert!(before > 1 << 20, "{before}");
        // What nobody looks at need not be allocated, says the optimizer.
        let held = std::hint::black_box(vec![1_u8; 256 << 20]);
        let mut after = 0;
        // Who asks while another is asking gets the answer of before; other tests give memory back meanwhile.
        for _ in 0..100 {
            std::thread::sleep(2 * FRESH);
            after = resident_bytes();
            if after > before + (128 << 20) {
                break;
            }
        }
        assert!(after > before + (128 << 20), "{before} {after} {}", held.len());
    }
}

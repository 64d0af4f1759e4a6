//! When a generated row is due.

use std::ops::Range;
use std::time::{Duration, Instant};

/// Longest time that rows wait to travel together.
const TICK: Duration = Duration::from_millis(20);

/// Whether so many rows at such a rate take longer than one cares to wait for the first.
pub fn takes_time(rows: u64, per_second: f64) -> bool {
    rows as f64 > per_second
}

/// When rows are due.
#[derive(Debug, Clone)]
pub enum Pace {
    /// At once.
    Unlimited,
    /// So many a second, as a token bucket that holds one second's worth.
    Rate {
        /// Rows a second, for all readers together until [`Pace::of_reader`].
        per_second: f64,
        /// Rows that may go now; fractional.
        tokens: f64,
        /// When tokens were last added.
        filled: Option<Instant>,
    },
    /// Row `n` is due `n` × `micros` after the start.
    Timeline {
        /// Microseconds between rows.
        micros: f64,
        /// Time of the first row made and its number.
        start: Option<(Instant, u64)>,
    },
}

impl Pace {
    /// `per_second` rows a second.
    pub fn rate(per_second: f64) -> Self {
        Pace::Rate { per_second, tokens: 0.0, filled: None }
    }

    /// One reader's share.
    #[must_use]
    pub fn of_reader(&self, readers: usize) -> Self {
        match self {
            Pace::Rate { per_second, .. } => Pace::rate(per_second / readers.max(1) as f64),
            other => other.clone(),
        }
    }

    /// Waits until rows of `range` are due and gives the end of those that are. Cancel-safe.
    pub async fn wait(&mut self, range: &Range<u64>) -> u64 {
        loop {
            match self.due(range, Instant::now()) {
                Ok(end) => return end,
                Err(wait) => tokio::time::sleep(wait.min(Duration::from_secs(3600))).await,
            }
        }
    }

    /// The end of the rows of `range` that are due, or how long to wait for the first ones.
    fn due(&mut self, range: &Range<u64>, now: Instant) -> Result<u64, Duration> {
        match self {
            Pace::Unlimited => Ok(range.end),
            Pace::Rate { per_second, tokens, filled } => {
                let wanted = (range.end - range.start) as f64;
                let batch = wanted.min((*per_second * TICK.as_secs_f64()).floor().max(1.0));
                *tokens = match filled {
                    None => batch,
                    Some(before) => {
                        let earned = now.duration_since(*before).as_secs_f64() * *per_second;
                        (*tokens + earned).min(per_second.max(1.0))
                    }
                };
                *filled = Some(now);
                if *tokens >= batch {
                    return Ok(range.start + tokens.floor().min(wanted) as u64);
                }
                Err(seconds((batch - *tokens) / *per_second))
            }
            Pace::Timeline { micros, start } => {
                let (began, first) = *start.get_or_insert((now, range.start));
                let passed = now.duration_since(began).as_secs_f64() * 1e6;
                let due = first.saturating_add((passed / *micros).floor() as u64).saturating_add(1);
                if due > range.start {
                    return Ok(due.min(range.end));
                }
                Err(seconds(((range.start - first) as f64 * *micros - passed) / 1e6))
            }
        }
    }

    /// `rows` were made.
    pub fn took(&mut self, rows: u64) {
        if let Pace::Rate { tokens, .. } = self {
            *tokens -= rows as f64;
        }
    }
}

/// At least as long as a timer can wait.
fn seconds(s: f64) -> Duration {
    Duration::from_secs_f64(s.clamp(0.001, 1e9))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows made until `end` seconds, of a reader that always wants 500, and the largest step.
    fn run(pace: &mut Pace, begun: Instant, from: f64, end: f64) -> (u64, u64) {
        let (mut now, mut made, mut largest) = (from, 0, 0);
        while now < end {
            match pace.due(&(made..made + 500), begun + Duration::from_secs_f64(now)) {
                Ok(until) => {
                    assert!(until > made);
                    largest = largest.max(until - made);
                    pace.took(until - made);
                    made = until;
                }
                Err(wait) => now += wait.as_secs_f64(),
            }
        }
        (made, largest)
    }

    #[test]
    fn a_rate_is_kept_and_bursts_are_bounded() {
        let (mut pace, begun) = (Pace::rate(1000.0), Instant::now());
        let (made, largest) = run(&mut pace, begun, 0.0, 3.0);
        assert!((2950..3050).contains(&made), "{made}");
        assert!(largest <= 30, "{largest}");
        // After a pause of a minute: one second's worth.
        let (made, _) = run(&mut pace, begun, 63.0, 63.001);
        assert!((1000..1030).contains(&made), "{made}");
    }

    #[test]
    fn slow_rates_give_single_rows() {
        let (mut pace, begun) = (Pace::rate(0.5), Instant::now());
        assert_eq!(run(&mut pace, begun, 0.0, 5.0), (3, 1));
    }

    #[test]
    fn readers_share_a_rate() {
        let Pace::Rate { per_second, .. } = Pace::rate(10.0).of_reader(4) else { panic!("a rate") };
        assert_eq!(per_second, 2.5);
    }

    #[test]
    fn a_timeline_makes_rows_when_they_are_due() {
        let (mut pace, begun) = (Pace::Timeline { micros: 100_000.0, start: None }, Instant::now());
        assert_eq!(pace.due(&(10..20), begun), Ok(11));
        let wait = pace.due(&(11..20), begun).unwrap_err();
        assert_eq!(wait.as_millis(), 100);
        assert_eq!(pace.due(&(11..20), begun + Duration::from_millis(101)), Ok(12));
        assert_eq!(pace.due(&(12..20), begun + Duration::from_secs(5)), Ok(20));
    }
}

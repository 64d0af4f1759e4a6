//! When a failed job is started again: Flink's restart strategies.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// `restart-strategy.type` and its options.
#[derive(Debug, Clone, PartialEq)]
pub enum RestartStrategy {
    /// Never.
    None,
    /// So many times, always after the same time.
    FixedDelay {
        /// Restarts in all.
        attempts: u32,
        /// Time before each.
        delay: Duration,
    },
    /// Unless too many failures come within some time.
    FailureRate {
        /// Failures within `interval` from which on the job fails.
        max_failures: u32,
        /// The time that failures are counted in.
        interval: Duration,
        /// Time before each restart.
        delay: Duration,
    },
    /// Always, after longer and longer times.
    ExponentialDelay {
        /// Time before the first restart.
        initial: Duration,
        /// The longest time.
        max: Duration,
        /// How much longer each time is.
        multiplier: f64,
        /// After so long without a failure the times are short again.
        reset: Duration,
        /// Restarts until then; `None`: any number.
        attempts: Option<u32>,
    },
}

/// The failures of a job so far.
#[derive(Debug)]
pub struct Restarts {
    strategy: RestartStrategy,
    failures: VecDeque<Instant>,
    attempts: u32,
    delay: Duration,
}

impl Restarts {
    /// None yet.
    pub fn new(strategy: RestartStrategy) -> Self {
        Restarts { strategy, failures: VecDeque::new(), attempts: 0, delay: Duration::ZERO }
    }

    /// The job failed at `now`: the time before it starts again, `None` if it does not.
    pub fn failed(&mut self, now: Instant) -> Option<Duration> {
        let last = self.failures.back().copied();
        self.failures.push_back(now);
        self.attempts += 1;
        match &self.strategy {
            RestartStrategy::None => None,
            RestartStrategy::FixedDelay { attempts, delay } => (self.attempts <= *attempts).then_some(*delay),
            RestartStrategy::FailureRate { max_failures, interval, delay } => {
                while self.failures.front().is_some_and(|at| now.duration_since(*at) > *interval) {
                    self.failures.pop_front();
                }
                (self.failures.len() <= *max_failures as usize).then_some(*delay)
            }
            RestartStrategy::ExponentialDelay { initial, max, multiplier, reset, attempts } => {
                let is_calm = last.is_none_or(|at| now.duration_since(at) > *reset + self.delay);
                if is_calm {
                    (self.attempts, self.delay) = (1, *initial);
                } else {
                    self.delay = self.delay.mul_f64(*multiplier).min(*max);
                }
                self.failures = VecDeque::from([now]);
                attempts.is_none_or(|most| self.attempts <= most).then_some(self.delay)
            }
        }
    }

    /// How often the job has failed, as far as it still counts.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(strategy: RestartStrategy, seconds: &[u64]) -> Vec<Option<u64>> {
        let (begin, mut restarts) = (Instant::now(), Restarts::new(strategy));
        let failed = |s: &u64| restarts.failed(begin + Duration::from_secs(*s));
        seconds.iter().map(failed).map(|d| d.map(|d| d.as_secs())).collect()
    }

    #[test]
    fn strategies_as_in_flink() {
        let s = Duration::from_secs;
        assert_eq!(delays(RestartStrategy::None, &[1]), [None]);
        let fixed = RestartStrategy::FixedDelay { attempts: 2, delay: s(3) };
        assert_eq!(delays(fixed, &[1, 100, 200]), [Some(3), Some(3), None]);
        let rate = RestartStrategy::FailureRate { max_failures: 2, interval: s(60), delay: s(1) };
        assert_eq!(delays(rate.clone(), &[0, 50, 120, 170]), [Some(1); 4]);
        assert_eq!(delays(rate, &[0, 10, 20]), [Some(1), Some(1), None]);
        let exponential = |attempts| RestartStrategy::ExponentialDelay {
            initial: s(1),
            max: s(5),
            multiplier: 2.0,
            reset: s(60),
            attempts,
        };
        let seconds = [0, 10, 20, 30, 200, 210];
        let expected = [Some(1), Some(2), Some(4), Some(5), Some(1), Some(2)];
        assert_eq!(delays(exponential(None), &seconds), expected);
        assert_eq!(delays(exponential(Some(2)), &[0, 10, 20, 200]), [Some(1), Some(2), None, Some(1)]);
    }
}

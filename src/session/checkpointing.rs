//! Options of checkpoints and restarts.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::config::SessionConfig;
use crate::checkpoint::savepoint::Opener;
use crate::checkpoint::store::{Holder, shown_time};
use crate::checkpoint::{JobStore, Storage};
use crate::edges::Notices;
use crate::error::Result;
use crate::options::parse_duration;
use crate::runtime::coordinator::{CheckpointOptions, SavepointPlace};
use crate::runtime::restart::RestartStrategy;
use crate::runtime::supervisor::{Keeping, StartFrom};

/// Folder for checkpoints.
pub const CHECKPOINT_DIR: &str = "execution.checkpointing.dir";

/// Where and how the jobs of a session are kept.
#[derive(Debug, Clone)]
pub struct JobKeeper {
    jobs: Storage,
    name: String,
    fresh: bool,
    options: CheckpointOptions,
    restarts: RestartStrategy,
    retains_stopped: bool,
    savepoints: SavepointPlace,
}

/// The savepoint that the jobs of a session start from; `None` if the options name none.
///
/// # Errors
/// Validation.
pub fn start_from(config: &SessionConfig, base_dir: &Path) -> Result<Option<StartFrom>> {
    let path = config.text("execution.state-recovery.path");
    if path.is_empty() {
        return Ok(None);
    }
    let place = Opener::new(config.values().clone(), base_dir.to_owned()).open(path)?.absolute();
    let ignores_unclaimed = config.bool("execution.state-recovery.ignore-unclaimed-state")?;
    Ok(Some(StartFrom { place, ignores_unclaimed }))
}

impl JobKeeper {
    /// What the options ask for; `None` without a folder. With `fresh` jobs begin anew.
    ///
    /// # Errors
    /// Validation.
    pub fn new(config: &SessionConfig, base_dir: &Path, fresh: bool) -> Result<Option<Self>> {
        let dir = config.text(CHECKPOINT_DIR);
        if dir.is_empty() {
            return Ok(None);
        }
        let opener = Opener::new(config.values().clone(), base_dir.to_owned());
        Ok(Some(JobKeeper {
            jobs: opener.open(dir)?,
            name: config.text("pipeline.name").to_owned(),
            fresh,
            options: config.checkpoint_options()?,
            restarts: config.restart_strategy()?,
            retains_stopped: config.retains_stopped()?,
            savepoints: SavepointPlace {
                opener,
                dir: config.text("execution.checkpointing.savepoint-dir").to_owned(),
            },
        }))
    }

    /// Takes over the job that writes to `tables`.
    ///
    /// # Errors
    /// External; Validation if another live process has it.
    #[expect(clippy::disallowed_methods, reason = "tells who holds the job since when")]
    pub async fn take(&self, tables: &[&str], notices: &Notices) -> Result<Keeping> {
        let name = if self.name.is_empty() {
            format!("insert-into_{}", tables.join(","))
        } else {
            self.name.clone()
        };
        let me = Holder::this(chrono::Utc::now().timestamp_millis());
        let store = JobStore::open(&self.jobs, &name, me, self.fresh).await?;
        if let Some(left) = store.left_behind().await? {
            let taken = shown_time(left.taken);
            notices.once("left behind", || {
                format!("job '{name}' begins anew; checkpoint {} of {taken} is left behind", left.sequence)
            });
        }
        Ok(Keeping {
            store: Arc::new(store),
            options: self.options.clone(),
            restarts: self.restarts.clone(),
            retains_stopped: self.retains_stopped,
            savepoints: self.savepoints.clone(),
        })
    }
}

impl SessionConfig {
    /// Checks all options of checkpoints and restarts.
    pub(super) fn validate_checkpointing(&self) -> Result<()> {
        self.checkpoint_options()?;
        self.restart_strategy()?;
        self.retains_stopped()?;
        self.bool("execution.state-recovery.ignore-unclaimed-state")?;
        self.parsed("execution.state-recovery.claim-mode", "NO_CLAIM: a savepoint stays its owner's", |v| {
            v.eq_ignore_ascii_case("NO_CLAIM").then_some(())
        })?;
        // Barriers are always aligned, which is exactly once and at least as good as the other.
        self.parsed("execution.checkpointing.mode", "EXACTLY_ONCE or AT_LEAST_ONCE", |v| {
            ["EXACTLY_ONCE", "AT_LEAST_ONCE"].iter().find(|m| m.eq_ignore_ascii_case(v)).map(|_| ())
        })
    }

    fn time(&self, key: &str) -> Result<Duration> {
        self.parsed(key, "a duration such as '10 s'", parse_duration)
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Result<T> {
        self.parsed(key, "a number", |v| v.parse().ok())
    }

    fn checkpoint_options(&self) -> Result<CheckpointOptions> {
        Ok(CheckpointOptions {
            retained: self.parsed("execution.checkpointing.num-retained", "a number above 0", |v| {
                v.parse().ok().filter(|n| *n > 0)
            })?,
            timeout: self.time("execution.checkpointing.timeout")?,
            min_pause: self.time("execution.checkpointing.min-pause")?,
            tolerable_failures: self.number("execution.checkpointing.tolerable-failed-checkpoints")?,
        })
    }

    fn retains_stopped(&self) -> Result<bool> {
        self.parsed(
            "execution.checkpointing.externalized-checkpoint-retention",
            "RETAIN_ON_CANCELLATION, DELETE_ON_CANCELLATION or NO_EXTERNALIZED_CHECKPOINTS",
            |v| match v.to_ascii_uppercase().as_str() {
                "RETAIN_ON_CANCELLATION" => Some(true),
                "DELETE_ON_CANCELLATION" | "NO_EXTERNALIZED_CHECKPOINTS" => Some(false),
                _ => None,
            },
        )
    }

    pub(super) fn restart_strategy(&self) -> Result<RestartStrategy> {
        let kind = self.parsed(
            "restart-strategy.type",
            "exponential-delay, fixed-delay, failure-rate or none",
            |v| match v.to_ascii_lowercase().replace('-', "").as_str() {
                "none" | "off" | "disable" => Some(0),
                "fixeddelay" => Some(1),
                "failurerate" => Some(2),
                "exponentialdelay" => Some(3),
                _ => None,
            },
        )?;
        let fixed = RestartStrategy::FixedDelay {
            attempts: self.number("restart-strategy.fixed-delay.attempts")?,
            delay: self.time("restart-strategy.fixed-delay.delay")?,
        };
        let rate = RestartStrategy::FailureRate {
            max_failures: self.number("restart-strategy.failure-rate.max-failures-per-interval")?,
            interval: self.time("restart-strategy.failure-rate.failure-rate-interval")?,
            delay: self.time("restart-strategy.failure-rate.delay")?,
        };
        let exponential = RestartStrategy::ExponentialDelay {
            initial: self.time("restart-strategy.exponential-delay.initial-backoff")?,
            max: self.time("restart-strategy.exponential-delay.max-backoff")?,
            multiplier: self.parsed(
                "restart-strategy.exponential-delay.backoff-multiplier",
                "a number of at least 1",
                |v| v.parse().ok().filter(|n: &f64| *n >= 1.0 && n.is_finite()),
            )?,
            reset: self.time("restart-strategy.exponential-delay.reset-backoff-threshold")?,
            attempts: self.parsed(
                "restart-strategy.exponential-delay.attempts-before-reset-backoff",
                "a number, or empty for any",
                |v| if v.is_empty() { Some(None) } else { v.parse().ok().map(Some) },
            )?,
        };
        Ok(match kind {
            0 => RestartStrategy::None,
            1 => fixed,
            2 => rate,
            _ => exponential,
        })
    }
}

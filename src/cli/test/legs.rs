//! A streaming statement in legs: a job until its sources pause, its last checkpoint, a fresh job at another parallelism.
//!
//! ```text
//!  SQL ─► job at 1 ─► k batches ─► checkpoint ─► SQL ─► job at 2 ─► k batches ─► checkpoint ─► … ─► end of the sources
//! ```

use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;

use crate::checkpoint::store::Holder;
use crate::checkpoint::{JobStore, Storage};
use crate::error::{Error, Result};
use crate::runtime::coordinator::{CheckpointOptions, JobOptions, SavepointPlace};
use crate::runtime::job::JobSummary;
use crate::runtime::restart::RestartStrategy;
use crate::runtime::supervisor::Keeping;
use crate::session::Session;

/// Time between the checkpoints of a leg: the first writes everything, the others what has changed.
const INTERVAL: Duration = Duration::from_millis(3);

/// Legs with batches as small as asked for; each later one has batches of twice the size, so that long inputs end.
const SMALL: usize = 8;

/// How statements are cut.
#[derive(Debug, Clone)]
pub(super) struct Legs {
    /// Batches per source and leg.
    pub(super) batches: usize,
    /// Rows per batch.
    pub(super) rows: usize,
    /// Parallelism of the legs, in turns.
    pub(super) parallelism: Vec<usize>,
}

/// The legs of one statement.
pub(super) struct Course<'a> {
    legs: &'a Legs,
    /// Number of the leg under way.
    leg: usize,
    /// Where the checkpoints are, which are taken all the time.
    store: Arc<JobStore>,
}

impl<'a> Course<'a> {
    pub(super) async fn new(legs: &'a Legs) -> Result<Self> {
        let jobs = Storage::in_bucket("memory://jobs", "", Arc::new(InMemory::new()));
        let store = JobStore::open(&jobs, "legs", Holder::this(0), false).await?;
        Ok(Course { legs, leg: 0, store: Arc::new(store) })
    }

    /// Sees to it that the next job of `session` is the next leg.
    pub(super) fn prepare(&self, session: &mut Session) -> Result<()> {
        if let Some(parallelism) = self.legs.parallelism.get(self.leg % self.legs.parallelism.len().max(1)) {
            session.set("parallelism.default", &parallelism.to_string())?;
        }
        let growth = self.leg.saturating_sub(SMALL).min(12);
        session.set_job_options(JobOptions {
            keeping: Some(Keeping {
                store: self.store.clone(),
                options: CheckpointOptions {
                    retained: 1,
                    timeout: Duration::from_secs(60),
                    min_pause: Duration::ZERO,
                    tolerable_failures: 0,
                },
                restarts: RestartStrategy::None,
                retains_stopped: true,
                savepoints: SavepointPlace::default(),
            }),
            checkpoint_interval: Some(INTERVAL),
            pause_after: Some(self.legs.batches),
            batch_rows: Some(self.legs.rows << growth),
            ..JobOptions::default()
        });
        Ok(())
    }

    /// Whether another leg has to follow one that ended so.
    pub(super) async fn goes_on(&mut self, summary: JobSummary) -> Result<bool> {
        if summary.stopped && self.store.list().await?.is_empty() {
            return Err(Error::internal("a job paused without a checkpoint"));
        }
        self.leg += 1;
        Ok(summary.stopped)
    }
}

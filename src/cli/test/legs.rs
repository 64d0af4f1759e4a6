//! A streaming statement in legs: a job until its sources pause, a snapshot in the files of a checkpoint, a fresh job at
//! another parallelism.
//!
//! ```text
//!  SQL ─► job at 1 ─► k batches ─► snapshot ─► SQL ─► job at 2 ─► k batches ─► snapshot ─► … ─► end of the sources
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::checkpoint::{JobSnapshot, segment};
use crate::error::{Error, Result};
use crate::runtime::coordinator::JobOptions;
use crate::runtime::job::JobSummary;
use crate::session::Session;

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
    taken: Arc<Mutex<Option<Result<Arc<JobSnapshot>>>>>,
}

/// The snapshot as it comes back from the files of a checkpoint.
fn through_files(snapshot: &JobSnapshot) -> Result<JobSnapshot> {
    let mut read = JobSnapshot { operators: BTreeMap::new(), ..snapshot.clone() };
    for (uid, tables) in &snapshot.operators {
        let state = read.operators.entry(uid.clone()).or_default();
        for file in segment::encode(uid, tables)? {
            segment::decode(uid, &file.bytes, state)?;
        }
    }
    Ok(read)
}

impl<'a> Course<'a> {
    pub(super) fn new(legs: &'a Legs) -> Self {
        Course { legs, leg: 0, taken: Arc::default() }
    }

    fn snapshot(&self) -> std::sync::MutexGuard<'_, Option<Result<Arc<JobSnapshot>>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that the next job of `session` is the next leg.
    pub(super) fn prepare(&self, session: &mut Session) -> Result<()> {
        if let Some(parallelism) = self.legs.parallelism.get(self.leg % self.legs.parallelism.len().max(1)) {
            session.set("parallelism.default", &parallelism.to_string())?;
        }
        let growth = self.leg.saturating_sub(SMALL).min(12);
        let taken = self.taken.clone();
        let restore = self.snapshot().take().transpose()?;
        session.set_job_options(JobOptions {
            restore,
            on_snapshot: Some(Arc::new(move |_, snapshot| {
                let kept = through_files(snapshot).map(Arc::new);
                *taken.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
            })),
            pause_after: Some(self.legs.batches),
            batch_rows: Some(self.legs.rows << growth),
            ..JobOptions::default()
        });
        Ok(())
    }

    /// Whether another leg has to follow one that ended so.
    pub(super) fn goes_on(&mut self, summary: JobSummary) -> Result<bool> {
        if summary.stopped && self.snapshot().is_none() {
            return Err(Error::internal("a job paused without a snapshot"));
        }
        self.leg += 1;
        Ok(summary.stopped)
    }
}

//! The task driver: one per chain and subtask. It alone knows channels, alignment, the watermark minimum, timers,
//! barriers and cancellation.
//!
//! ```text
//!  run_source    reader ─► head ─┐
//!                                ├─► chain ─► events to the coordinator
//!  run_channels  queues ─► align ┘
//! ```

mod channels;
mod source;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use tokio::sync::{mpsc, watch};

pub use channels::run_channels;
pub use source::run_source;

use crate::edges::{Committable, SplitState};
use crate::error::{Error, Result};
use crate::runtime::chain::Chain;
use crate::runtime::channel::Cancellation;
use crate::runtime::job::JobMetrics;
use crate::runtime::message::Barrier;
use crate::stream::snapshot::OperatorSnapshot;
use crate::stream::{Activity, Epoch, Timestamp};

/// What a task tells the coordinator.
#[derive(Debug)]
pub enum TaskEvent {
    /// It has passed a barrier.
    Snapshot {
        /// Which task.
        task: usize,
        /// Which barrier.
        epoch: Epoch,
        /// State by operator uid.
        operators: Vec<(String, OperatorSnapshot)>,
        /// Positions, from source tasks.
        splits: Vec<SplitState>,
        /// How far time is, from source tasks.
        time: Option<(Timestamp, Activity)>,
        /// From sink tasks.
        committable: Option<Committable>,
    },
    /// A source has read as much as it may and waits for the last barrier.
    Paused {
        /// Which task.
        task: usize,
    },
    /// It has reached the end of its input.
    Finished {
        /// Which task.
        task: usize,
        /// State by operator uid, if snapshots are kept.
        operators: Vec<(String, OperatorSnapshot)>,
        /// Positions, from source tasks, if snapshots are kept.
        splits: Vec<SplitState>,
        /// From sink tasks.
        committable: Option<Committable>,
    },
}

/// Ties of a task to its job.
#[derive(Clone)]
pub struct TaskContext {
    /// Number of the task.
    pub task: usize,
    /// To the coordinator.
    pub events: mpsc::UnboundedSender<TaskEvent>,
    /// Barriers to inject (source tasks).
    pub barriers: watch::Receiver<Option<Barrier>>,
    /// Newest complete epoch.
    pub committed: watch::Receiver<u64>,
    /// Set when the job fails.
    pub cancellation: Cancellation,
    /// Counters.
    pub metrics: Arc<JobMetrics>,
    /// Whether somebody keeps snapshots.
    pub keep: bool,
    /// Batches after which a source stops.
    pub pause_after: Option<usize>,
}

impl TaskContext {
    fn report(&self, event: TaskEvent) {
        // The coordinator outlives its tasks unless the whole job is being dropped.
        let _ = self.events.send(event);
    }

    /// Newest epoch that completed since the last call.
    fn newly_committed(&mut self) -> Option<Epoch> {
        match self.committed.has_changed() {
            Ok(true) => Some(Epoch(*self.committed.borrow_and_update())),
            _ => None,
        }
    }
}

/// Epoch under which the last committables of ended inputs are prepared: after every periodic one.
pub const FINAL_EPOCH: Epoch = Epoch(u64::MAX);

/// Runs the work of a task; a panic is an error, so that the task still cleans up.
///
/// # Errors
/// Those of the work; Internal if it panics.
pub async fn unpanicked<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| Err(Error::panicked(&*panic)))
}

pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn until(timer: Option<Timestamp>) -> Option<Instant> {
    timer.map(|t| Instant::now() + Duration::from_millis(t.0.saturating_sub(now().0).max(0) as u64))
}

pub(in crate::runtime) async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(i) => tokio::time::sleep_until(i.into()).await,
        None => std::future::pending().await,
    }
}

/// Before a batch: timers that are due while there is always another one, and the time for those who take it.
async fn due_timers(chain: &mut Chain) -> Result<()> {
    let timer = chain.next_timer();
    if timer.is_some() || chain.takes_time() {
        let now = now();
        if chain.takes_time() || timer.is_some_and(|t| t <= now) {
            chain.timer(now).await?;
        }
    }
    Ok(())
}

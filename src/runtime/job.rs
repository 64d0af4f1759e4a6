//! A job as its user holds it: progress, graceful stop, the end.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::edges::source::{NO_LAG, UNKNOWN_LAG};
use crate::edges::{Notices, SourceMetrics};
use crate::error::Result;
use crate::runtime::gauges::Gauges;
use crate::stream::Timestamp;

/// Counters of one job; shared by its tasks, read by the progress line.
#[derive(Debug, Default)]
pub struct JobMetrics {
    /// Rows read by all sources.
    pub rows_in: AtomicU64,
    /// Rows handed to all sinks.
    pub rows_out: AtomicU64,
    /// Bytes written by all sinks.
    pub bytes_out: AtomicU64,
    /// Rows dropped because they came behind the watermark.
    pub late_rows_dropped: AtomicU64,
    /// Rows dropped because their row time is NULL.
    pub null_times_dropped: AtomicU64,
    /// Lowest watermark of the sources in milliseconds; `i64::MIN` before the first.
    pub watermark: AtomicI64,
    /// Bytes of state written to disk.
    pub spilled_bytes: AtomicU64,
    /// Completed checkpoints, in batch completed INSERTs.
    pub checkpoints: AtomicU64,
    /// When the last of them was.
    committed: std::sync::Mutex<Option<Instant>>,
    /// What the job has to tell.
    pub notices: Notices,
    /// What there is to tell if late rows turn out to be dropped, by key.
    late: std::sync::Mutex<BTreeMap<String, String>>,
    /// What its operators hold.
    pub operators: Gauges,
    /// Counters of each source.
    pub sources: std::sync::Mutex<Vec<Arc<SourceMetrics>>>,
}

impl JobMetrics {
    /// All zero, no watermark.
    pub fn new() -> Arc<Self> {
        Arc::new(JobMetrics { watermark: AtomicI64::new(i64::MIN), ..Default::default() })
    }

    /// Counters for a new source.
    pub fn add_source(&self) -> Arc<SourceMetrics> {
        let metrics = Arc::new(SourceMetrics { lag: AtomicI64::new(NO_LAG), ..Default::default() });
        if let Ok(mut all) = self.sources.lock() {
            all.push(metrics.clone());
        }
        metrics
    }

    /// Counters of the sources there are so far.
    pub fn sources_so_far(&self) -> Vec<Arc<SourceMetrics>> {
        self.sources.lock().map(|all| all.clone()).unwrap_or_default()
    }

    /// These sources are not read after all.
    pub fn forget_sources(&self, forgotten: &[Arc<SourceMetrics>]) {
        if let Ok(mut all) = self.sources.lock() {
            all.retain(|s| !forgotten.iter().any(|f| Arc::ptr_eq(s, f)));
        }
    }

    /// Rows of a source are all behind the watermark: tells it if late rows are dropped, and whether it did. With
    /// `remember` it may be told when the job has ended.
    pub fn all_are_late(&self, key: &str, text: String, remember: bool) -> bool {
        let dropped = self.late_rows_dropped.load(Ordering::Relaxed) > 0;
        if dropped {
            self.notices.once(key, || text);
        } else if remember && let Ok(mut late) = self.late.lock() {
            late.insert(key.to_owned(), text);
        }
        dropped
    }

    /// Tells what was remembered if late rows were dropped.
    pub fn tell_what_is_late(&self) {
        if self.late_rows_dropped.load(Ordering::Relaxed) == 0 {
            return;
        }
        for (key, text) in self.late.lock().map(|mut late| std::mem::take(&mut *late)).unwrap_or_default() {
            self.notices.once(&key, || text);
        }
    }

    /// A checkpoint is complete: what it holds is visible.
    pub fn committed(&self) {
        self.checkpoints.fetch_add(1, Ordering::Relaxed);
        if let Ok(mut at) = self.committed.lock() {
            *at = Some(Instant::now());
        }
    }

    /// A consistent enough copy.
    pub fn progress(&self) -> JobProgress {
        let mut p = JobProgress {
            rows_in: self.rows_in.load(Ordering::Relaxed),
            rows_out: self.rows_out.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            late_rows_dropped: self.late_rows_dropped.load(Ordering::Relaxed),
            null_times_dropped: self.null_times_dropped.load(Ordering::Relaxed),
            spilled_bytes: self.spilled_bytes.load(Ordering::Relaxed),
            ..JobProgress::default()
        };
        let committed = self.committed.lock().ok().and_then(|at| *at);
        p.last_commit = committed.map(|at| (self.checkpoints.load(Ordering::Relaxed), at.elapsed()));
        (p.state_entries, p.partial_matches) = self.operators.sums();
        let wm = self.watermark.load(Ordering::Relaxed);
        p.watermark = (wm != i64::MIN && wm != i64::MAX).then_some(Timestamp(wm));
        for s in self.sources.lock().iter().flat_map(|all| all.iter()) {
            p.bytes_in += s.bytes.load(Ordering::Relaxed);
            p.skipped_records += s.skipped.load(Ordering::Relaxed);
            p.nulled_fields += s.nulled.load(Ordering::Relaxed);
            p.rested_rows += s.rested.load(Ordering::Relaxed);
            let total = s.total_bytes.load(Ordering::Relaxed);
            if total > 0 {
                p.total_bytes = Some(p.total_bytes.unwrap_or(0) + total);
            }
            match s.lag.load(Ordering::Relaxed) {
                UNKNOWN_LAG => p.lag_unknown = true,
                lag => {
                    if let Ok(lag) = u64::try_from(lag) {
                        p.lag = Some(p.lag.unwrap_or(0) + lag);
                    }
                }
            }
        }
        p
    }
}

/// How far a job is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobProgress {
    /// Rows read by all sources.
    pub rows_in: u64,
    /// Rows handed to all sinks (or to the reader of a query).
    pub rows_out: u64,
    /// Bytes read, as stored.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// Bytes to read in all, when known.
    pub total_bytes: Option<u64>,
    /// Lowest watermark of the sources, once there is one and before the end.
    pub watermark: Option<Timestamp>,
    /// Records behind the newest, when a source knows.
    pub lag: Option<u64>,
    /// A source that has a newest record cannot tell at present how far behind it is.
    pub lag_unknown: bool,
    /// Rows dropped because they came behind the watermark.
    pub late_rows_dropped: u64,
    /// Rows dropped because their row time is NULL.
    pub null_times_dropped: u64,
    /// Keys, groups and rows in the state of its operators.
    pub state_entries: u64,
    /// Matches of row patterns that have begun and are undecided.
    pub partial_matches: u64,
    /// Records skipped by `ignore-parse-errors`.
    pub skipped_records: u64,
    /// Fields that it made NULL.
    pub nulled_fields: u64,
    /// Rows with a field that has no column and stands in the one for the rest.
    pub rested_rows: u64,
    /// Bytes of state written to disk, once the job has ended.
    pub spilled_bytes: u64,
    /// Number of the last commit, and how long ago it was.
    pub last_commit: Option<(u64, Duration)>,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobSummary {
    /// Counters at the end.
    pub progress: JobProgress,
    /// Ended because somebody called [`RunningJob::stop`].
    pub stopped: bool,
}

/// What a job is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stop {
    No,
    AfterCommit,
    AtOnce,
}

/// Asks a job to stop.
#[derive(Debug, Clone)]
pub struct StopHandle(watch::Sender<Stop>);

impl StopHandle {
    /// A handle that nobody has used yet.
    pub fn new() -> Self {
        StopHandle(watch::Sender::new(Stop::No))
    }

    /// Asks for a final checkpoint and the end. Idempotent.
    pub fn stop(&self) {
        self.ask(Stop::AfterCommit);
    }

    /// Asks for the end without another commit: the job fails as cancelled and takes back what no commit holds.
    pub fn cancel(&self) {
        self.ask(Stop::AtOnce);
    }

    fn ask(&self, stop: Stop) {
        self.0.send_modify(|asked| *asked = stop.max(*asked));
    }

    /// Whether a stop was asked for, of either kind.
    pub fn is_stopped(&self) -> bool {
        *self.0.borrow() > Stop::No
    }

    /// Resolves when a stop is asked for, of either kind.
    pub async fn stopped(&self) {
        self.reached(Stop::AfterCommit).await;
    }

    /// Resolves when the end is asked for without another commit.
    pub async fn cancelled(&self) {
        self.reached(Stop::AtOnce).await;
    }

    async fn reached(&self, stop: Stop) {
        let mut receiver = self.0.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = receiver.wait_for(|asked| *asked >= stop).await;
    }
}

impl Default for StopHandle {
    fn default() -> Self {
        Self::new()
    }
}

/// When the rows of a job become visible, and whether it ends by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobNature {
    /// It reads a table without an end: stopping it is how it ends.
    pub endless: bool,
    /// Rows are visible once they are committed. Otherwise some of them are as soon as they are written.
    pub holds_back: bool,
    /// Time between its commits; `None` commits at the end only.
    pub interval: Option<Duration>,
    /// Its checkpoints are kept: started again it goes on from the last.
    pub is_kept: bool,
}

/// A job that runs: INSERT, statement set or query.
pub struct RunningJob {
    metrics: Arc<JobMetrics>,
    nature: JobNature,
    stop: StopHandle,
    done: Pin<Box<dyn Future<Output = Result<()>> + Send>>,
}

impl RunningJob {
    /// A job whose end is `done`.
    pub fn new(
        metrics: Arc<JobMetrics>,
        nature: JobNature,
        stop: StopHandle,
        done: impl Future<Output = Result<()>> + Send + 'static,
    ) -> Self {
        RunningJob { metrics, nature, stop, done: Box::pin(done) }
    }

    /// What kind of job it is.
    pub fn nature(&self) -> JobNature {
        self.nature
    }

    /// How far it is.
    pub fn progress(&self) -> JobProgress {
        self.metrics.progress()
    }

    /// Its counters, to be read while [`RunningJob::wait`] runs.
    pub fn metrics(&self) -> Arc<JobMetrics> {
        self.metrics.clone()
    }

    /// Asks for a graceful end: final checkpoint, commit, exit. Idempotent.
    pub fn stop(&self) {
        self.stop.stop();
    }

    /// A handle for stopping it while [`RunningJob::wait`] runs.
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Waits for the end. A query's rows have to be read meanwhile.
    ///
    /// # Errors
    /// The first failure of any task.
    pub async fn wait(self) -> Result<JobSummary> {
        self.done.await?;
        self.metrics.tell_what_is_late();
        Ok(JobSummary { progress: self.metrics.progress(), stopped: self.stop.is_stopped() })
    }
}

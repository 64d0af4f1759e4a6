//! How far each topic is.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::config::{Layout, Route};
use crate::runtime::job::{JobMetrics, JobProgress};

/// What a flow is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It looks for its table and its columns.
    Starting,
    /// The topic has no records yet.
    Empty,
    /// Its job runs.
    Running,
    /// It begins again with more columns.
    Evolving,
    /// It was stopped, or everything is read.
    Ended,
    /// It has failed.
    Suspended,
}

impl Phase {
    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Empty => "empty",
            Phase::Running => "running",
            Phase::Evolving => "evolving",
            Phase::Ended => "ended",
            Phase::Suspended => "suspended",
        }
    }
}

#[derive(Debug)]
struct State {
    phase: Phase,
    layout: Layout,
    /// Of the job that runs.
    metrics: Option<Arc<JobMetrics>>,
    /// Of those that have ended.
    before: JobProgress,
    /// Of the last job.
    last_commit: Option<(u64, Duration)>,
}

/// How far a topic is. Shared by its flow and by those who show it.
#[derive(Debug)]
pub struct Status {
    /// From where to where.
    pub route: Route,
    state: Mutex<State>,
}

/// A look at a [`Status`].
#[derive(Debug, Clone, Copy)]
pub struct Snapshot {
    /// What it is at.
    pub phase: Phase,
    /// Counters over all of its jobs.
    pub progress: JobProgress,
}

impl Status {
    /// Of a topic that nothing is known of.
    pub fn new(route: Route) -> Self {
        let state = State {
            phase: Phase::Starting,
            layout: Layout::default(),
            metrics: None,
            before: JobProgress::default(),
            last_commit: None,
        };
        Status { route, state: Mutex::new(state) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it is at now.
    pub fn set_phase(&self, phase: Phase) {
        self.state().phase = phase;
    }

    /// A job has begun.
    pub(super) fn began(&self, metrics: &Arc<JobMetrics>, layout: &Layout) {
        let mut state = self.state();
        state.phase = Phase::Running;
        state.layout = layout.clone();
        state.metrics = Some(Arc::clone(metrics));
    }

    /// The job has ended.
    pub(super) fn ended(&self) {
        let mut state = self.state();
        if let Some(metrics) = state.metrics.take() {
            let progress = metrics.progress();
            state.last_commit = progress.last_commit.or(state.last_commit);
            state.before = sum(&state.before, &progress);
        }
    }

    /// Whether `layout` is another than that of the job.
    pub(super) fn is_outgrown_by(&self, layout: &Layout) -> bool {
        self.state().layout != *layout
    }

    /// How far it is.
    pub fn look(&self) -> Snapshot {
        let state = self.state();
        let mut progress = state.before;
        if let Some(metrics) = &state.metrics {
            progress = sum(&progress, &metrics.progress());
        }
        Snapshot { phase: state.phase, progress }
    }
}

/// Counters of both; what is so at a time only is that of the later one.
pub(super) fn sum(a: &JobProgress, b: &JobProgress) -> JobProgress {
    let commits = |p: &JobProgress| p.last_commit.map_or(0, |(n, _)| n);
    let last = b.last_commit.or(a.last_commit).map(|(_, ago)| ago);
    JobProgress {
        rows_in: a.rows_in + b.rows_in,
        rows_out: a.rows_out + b.rows_out,
        bytes_in: a.bytes_in + b.bytes_in,
        bytes_out: a.bytes_out + b.bytes_out,
        skipped_records: a.skipped_records + b.skipped_records,
        nulled_fields: a.nulled_fields + b.nulled_fields,
        rested_rows: a.rested_rows + b.rested_rows,
        last_commit: last.map(|ago| (commits(a) + commits(b), ago)),
        ..*b
    }
}

//! Runs a stream graph: starts the tasks (`deploy`), injects barriers, commits epochs (`commits`), ends the job.
//!
//! ```text
//!  interval / stop ─► barrier N ─► sources … sinks ─► all tasks have passed N ─► committers commit N ─► tasks told
//!  end of bounded input ─► all tasks finished ─► committers commit the rest
//!  first failure ─► every task is cancelled, writers abort, prepared committables are aborted
//! ```
//!
//! With a folder for checkpoints (`saving`) the state and what the sinks have prepared is durable before any of them
//! commits, and a job that goes on from there commits again.
//!
//! At most one barrier is under way. A task that has finished counts as having passed every later barrier; what it hands
//! over at its end belongs to the epoch that it ended in, which may be the one after the barrier under way.

mod commits;
mod deploy;
mod savepoints;
mod saving;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::checkpoint::JobSnapshot;
use crate::edges::{Claim, Committable, Shared, SinkCommitter, SplitState};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::channel::Cancellation;
use crate::runtime::graph::StreamGraph;
use crate::runtime::job::{JobMetrics, StopHandle};
use crate::runtime::message::{Barrier, BarrierKind};
use crate::runtime::restart::RestartStrategy;
use crate::runtime::spilling::memory::StateMemory;
use crate::runtime::supervisor::{Keeping, StartFrom};
use crate::runtime::task::{FINAL_EPOCH, TaskContext, TaskEvent, sleep_until};
use crate::stream::key_group::KeyGroupRange;
use crate::stream::snapshot::{OperatorSnapshot, SnapshotMode};
use crate::stream::watermark::WatermarkTracker;
use crate::stream::{Activity, Epoch, Timestamp};
pub use savepoints::SavepointPlace;
use savepoints::{Savepoints, answered};
pub(crate) use saving::finish;
pub use saving::{Base, CheckpointOptions, Checkpoints};
use saving::{Last, Saving, saved};

/// Receives the snapshot of each completed epoch.
pub type SnapshotHook = Arc<dyn Fn(Epoch, &JobSnapshot) + Send + Sync>;

/// How to run a job.
#[derive(Clone, Default)]
pub struct JobOptions {
    /// Time between checkpoints; `None` commits at the end only.
    pub checkpoint_interval: Option<Duration>,
    /// Memory for operator state, beyond which it rests on disk; `None` for no limit.
    pub memory: Option<StateMemory>,
    /// State to begin with.
    pub restore: Option<Arc<JobSnapshot>>,
    /// Called with each complete snapshot.
    pub on_snapshot: Option<SnapshotHook>,
    /// Every source task stops after so many batches; when all have stopped or ended, the job ends as if it had been
    /// stopped by hand. So it runs in legs, each from the last snapshot of the one before.
    pub pause_after: Option<usize>,
    /// Rows per batch that sources aim for; `None` for what suits throughput.
    pub batch_rows: Option<usize>,
    /// Where its checkpoints are kept; `None` if nothing of it outlives its process.
    pub checkpoints: Option<Checkpoints>,
    /// What is kept of a job that is not told by the session's options.
    pub keeping: Option<Keeping>,
    /// What it starts from if there is no checkpoint of its own that stems from it.
    pub start: Option<StartFrom>,
    /// What its sink has said of where the job stands, if that is kept in the table.
    pub claim: Option<Claim>,
    /// When a job that goes on from its table is started again.
    pub restarts: Option<RestartStrategy>,
}

struct TaskInfo {
    /// Uid of the source at its head.
    source: Option<String>,
    /// Index of the sink at its end.
    sink: Option<usize>,
    finished: bool,
    /// A source that has stopped at [`JobOptions::pause_after`].
    paused: bool,
    /// Number of its chain.
    chain: usize,
    /// Its part of keyed state.
    key_groups: KeyGroupRange,
    /// Its state at the end of its input, for the snapshots that follow.
    ended: Option<EndState>,
}

/// State of operators and positions of a task that has ended.
type EndState = (Vec<(String, OperatorSnapshot)>, Vec<SplitState>);

/// The end of the job at one sink.
struct SinkTask {
    uid: String,
    committer: Box<dyn SinkCommitter>,
    /// See [`crate::edges::Sink::decision`].
    decision: Option<String>,
    /// Handed over and not committed yet, with the epoch that it belongs to.
    prepared: Vec<(u64, Committable)>,
}

impl SinkTask {
    /// Takes what belongs to `epoch` and those before it.
    fn take(&mut self, epoch: u64) -> Vec<Committable> {
        let (due, later) = std::mem::take(&mut self.prepared).into_iter().partition(|(of, _)| *of <= epoch);
        self.prepared = later;
        Vec::into_iter(due).map(|(_, committable)| committable).collect()
    }
}

struct Pending {
    epoch: Epoch,
    kind: BarrierKind,
    begun: Instant,
    waiting: BTreeSet<usize>,
    /// Tasks whose snapshot is in `snapshot`.
    taken: BTreeSet<usize>,
    /// Per source, how far time is in each task.
    times: BTreeMap<String, Vec<(Timestamp, Activity)>>,
    snapshot: JobSnapshot,
}

struct Coordinator {
    tasks: Vec<TaskInfo>,
    /// Uids of the nodes of each chain.
    chains: Vec<Vec<String>>,
    /// Nodes that had ended in the snapshot that the job was restored from.
    ended_before: BTreeSet<String>,
    sinks: Vec<SinkTask>,
    /// What the sinks have in common.
    shared: Shared,
    pending: Option<Pending>,
    /// A checkpoint that every task has passed and that is being written.
    saving: Option<Saving>,
    savepoints: Savepoints,
    /// Checkpoints in a row that could not be written.
    failures: u32,
    /// When the last one was complete.
    completed: Option<Instant>,
    barriers: watch::Sender<Option<Barrier>>,
    committed: watch::Sender<u64>,
    epoch: u64,
    options: JobOptions,
    metrics: Arc<JobMetrics>,
}

/// Runs a graph to its end.
///
/// # Errors
/// The first failure of any task, sink or committer.
pub async fn run_graph(
    graph: StreamGraph,
    options: JobOptions,
    metrics: Arc<JobMetrics>,
    stop: StopHandle,
) -> Result<()> {
    let cancellation = Cancellation::new();
    let (events_sender, mut events) = mpsc::unbounded_channel();
    let (barriers, barriers_receiver) = watch::channel(None);
    let (committed, committed_receiver) = watch::channel(0);
    let mut coordinator = Coordinator {
        tasks: Vec::new(),
        chains: Vec::new(),
        ended_before: BTreeSet::new(),
        sinks: Vec::new(),
        shared: Shared::default(),
        pending: None,
        saving: None,
        savepoints: Savepoints::default(),
        failures: 0,
        completed: None,
        barriers,
        committed,
        epoch: match (&options.checkpoints, &options.restore) {
            (Some(checkpoints), _) => checkpoints.next.saturating_sub(1),
            (None, restore) => restore.as_ref().map_or(0, |r| r.epoch),
        },
        options,
        metrics: metrics.clone(),
    };
    let context = TaskContext {
        task: 0,
        events: events_sender,
        barriers: barriers_receiver,
        committed: committed_receiver,
        cancellation: cancellation.clone(),
        metrics,
        keep: coordinator.keeps(),
        pause_after: coordinator.options.pause_after,
    };
    let mut set = JoinSet::new();
    let mut outcome = coordinator.start(graph, &context, &mut set).await;
    drop(context);
    if outcome.is_ok() {
        outcome = coordinator.run(&mut set, &mut events, &stop).await;
    }
    if let Some(memory) = &coordinator.options.memory {
        let spilled = memory.spilled_bytes();
        coordinator.metrics.spilled_bytes.store(spilled, std::sync::atomic::Ordering::Relaxed);
    }
    coordinator.refuse_savepoints(&outcome).await;
    if outcome.is_err() {
        cancellation.cancel();
        // Tasks see the cancellation at their next await and abort their writers.
        while let Some(ended) = set.join_next().await {
            outcome = prefer(outcome, flatten(ended));
        }
        while let Ok(event) = events.try_recv() {
            coordinator.keep_committable(event);
        }
        for sink in &mut coordinator.sinks {
            let prepared = sink.take(u64::MAX);
            sink.committer.abort(None, prepared).await;
        }
    }
    outcome
}

fn flatten(ended: std::result::Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    ended.map_err(Error::from).and_then(|r| r)
}

/// The error that tells more: a cancellation is only the echo of another failure.
fn prefer(a: Result<()>, b: Result<()>) -> Result<()> {
    match (&a, &b) {
        (Err(x), Err(y)) if x.kind() == ErrorKind::Cancelled && y.kind() != ErrorKind::Cancelled => b,
        (Ok(()), Err(_)) => b,
        _ => a,
    }
}

impl Coordinator {
    /// What the next snapshot is to hold.
    fn mode(&self) -> Option<SnapshotMode> {
        match &self.options.checkpoints {
            Some(checkpoints) => Some(checkpoints.mode()),
            None => self.keeps().then_some(SnapshotMode::Whole),
        }
    }

    /// Whether snapshots are kept.
    fn keeps(&self) -> bool {
        let JobOptions { on_snapshot, checkpoints, claim, .. } = &self.options;
        on_snapshot.is_some() || checkpoints.is_some() || claim.is_some()
    }

    async fn run(
        &mut self,
        set: &mut JoinSet<Result<()>>,
        events: &mut mpsc::UnboundedReceiver<TaskEvent>,
        stop: &StopHandle,
    ) -> Result<()> {
        let mut ticks = self.options.checkpoint_interval.map(|interval| {
            let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            ticks
        });
        let (mut stopping, mut over) = (false, false);
        loop {
            let is_quiet = self.pending.is_none() && self.saving.is_none();
            // Sources wait for the last commit, to tell their readers.
            if !over && is_quiet && !self.tasks.is_empty() && self.tasks.iter().all(|t| t.finished) {
                over = true;
                // After a stop the last barrier was the last checkpoint.
                if self.options.checkpoints.is_some() && !stopping {
                    self.save_end();
                } else {
                    self.commit_end().await?;
                }
                continue;
            }
            let tick = async {
                match &mut ticks {
                    Some(t) => {
                        t.tick().await;
                    }
                    None => std::future::pending().await,
                }
            };
            if is_quiet && !stopping && !over && self.is_asked() {
                self.begin_savepoint(stop).await;
                continue;
            }
            let (expires, look) = (self.expires(), self.next_look());
            let may_begin = is_quiet && !stopping && !self.savepoints.is_draining;
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(Error::cancelled()),
                Some(event) = events.recv() => {
                    self.on_event(event).await?;
                    if self.is_paused() {
                        stop.stop();
                    }
                }
                saved = saved(&mut self.saving) => self.on_saved(saved).await?,
                ended = set.join_next(), if !self.is_ending() => match ended {
                    Some(ended) => flatten(ended)?,
                    None => {
                        while let Ok(event) = events.try_recv() {
                            self.on_event(event).await?;
                        }
                        if !over {
                            self.commit_end().await?;
                        }
                        return self.finish_copy().await;
                    }
                },
                () = stop.stopped(), if may_begin => {
                    stopping = true;
                    self.trigger(BarrierKind::Final);
                }
                () = tick, if may_begin => match (self.earliest(), &mut ticks) {
                    (Some(at), Some(ticks)) => ticks.reset_at(at.into()),
                    _ => self.trigger(BarrierKind::Checkpoint),
                },
                () = sleep_until(expires) => return Err(self.expired()),
                () = sleep_until(look), if !stopping && !over => self.look_for_requests(),
                request = answered(&mut self.savepoints.looking) => self.on_request(request),
                made = answered(&mut self.savepoints.copying) => self.on_copied(made)?,
            }
        }
    }

    /// Whether the last checkpoint of all is being written: what ends then must not end the job before that is done.
    fn is_ending(&self) -> bool {
        self.saving.as_ref().is_some_and(|s| s.is_end)
    }

    /// Whether every source has stopped or ended, and one at least has not ended.
    fn is_paused(&self) -> bool {
        let mut sources = self.tasks.iter().filter(|t| t.source.is_some());
        self.options.pause_after.is_some()
            && self.tasks.iter().any(|t| t.paused && !t.finished)
            && sources.all(|t| t.paused || t.finished)
    }

    fn trigger(&mut self, kind: BarrierKind) {
        let waiting: BTreeSet<usize> =
            self.tasks.iter().enumerate().filter(|(_, t)| !t.finished).map(|(i, _)| i).collect();
        if waiting.is_empty() {
            return;
        }
        self.epoch += 1;
        let epoch = Epoch(self.epoch);
        let (taken, times, snapshot) = (BTreeSet::new(), BTreeMap::new(), JobSnapshot::default());
        let begun = Instant::now();
        self.pending = Some(Pending { epoch, kind, begun, waiting, taken, times, snapshot });
        let keep = self.mode();
        self.barriers.send_replace(Some(Barrier { epoch, kind, keep }));
    }

    fn keep_committable(&mut self, event: TaskEvent) {
        let (TaskEvent::Snapshot { task, committable, .. } | TaskEvent::Finished { task, committable, .. }) =
            event
        else {
            return;
        };
        if let (Some(committable), Some(sink)) = (committable, self.tasks.get(task).and_then(|t| t.sink)) {
            self.sinks[sink].prepared.push((self.epoch, committable));
        }
    }

    /// The epoch that a task which has ended ended in: the one under way, unless it had passed its barrier before.
    fn epoch_of_end(&self, task: usize) -> u64 {
        match &self.pending {
            Some(pending) if !pending.taken.contains(&task) => pending.epoch.0,
            _ => self.epoch + 1,
        }
    }

    async fn on_event(&mut self, event: TaskEvent) -> Result<()> {
        match event {
            TaskEvent::Paused { task } => {
                self.tasks[task].paused = true;
            }
            TaskEvent::Finished { task, operators, splits, committable } => {
                self.tasks[task].finished = true;
                self.tasks[task].ended = Some((operators, splits));
                let epoch = self.epoch_of_end(task);
                if let (Some(committable), Some(sink)) = (committable, self.tasks[task].sink) {
                    self.sinks[sink].prepared.push((epoch, committable));
                }
                if let Some(pending) = &mut self.pending {
                    pending.waiting.remove(&task);
                }
            }
            TaskEvent::Snapshot { task, epoch, operators, splits, time, committable } => {
                if let Some(pending) = self.pending.as_mut().filter(|p| p.epoch == epoch) {
                    pending.waiting.remove(&task);
                    pending.taken.insert(task);
                    pending.snapshot.add_operators(operators);
                    if let Some(uid) = &self.tasks[task].source {
                        pending.snapshot.sources.entry(uid.clone()).or_default().extend(splits);
                        pending.times.entry(uid.clone()).or_default().extend(time);
                    }
                }
                if self.pending.as_ref().is_some_and(|p| p.kind == BarrierKind::Final) {
                    self.tasks[task].finished = true;
                }
                if let (Some(committable), Some(sink)) = (committable, self.tasks[task].sink) {
                    self.sinks[sink].prepared.push((epoch.0, committable));
                }
            }
        }
        if self.pending.as_ref().is_some_and(|p| p.waiting.is_empty())
            && let Some(pending) = self.pending.take()
        {
            self.passed(pending).await?;
        }
        Ok(())
    }

    /// Every task has passed the barrier.
    async fn passed(&mut self, mut pending: Pending) -> Result<()> {
        if self.keeps() {
            pending.snapshot.epoch = pending.epoch.0;
            let reached = pending.times.iter();
            let reached = reached.map(|(uid, tasks)| (uid.clone(), WatermarkTracker::combined(tasks)));
            pending.snapshot.watermarks = reached.collect();
            self.add_ended(&pending.taken, &mut pending.snapshot);
        }
        if let Some(hook) = &self.options.on_snapshot {
            hook(pending.epoch, &pending.snapshot);
        }
        if self.options.checkpoints.is_some() {
            let last = (pending.kind == BarrierKind::Final).then_some(Last::Stop);
            self.save(pending.snapshot, pending.begun, last);
            return Ok(());
        }
        self.tell_positions(&pending.snapshot, pending.kind == BarrierKind::Final);
        self.commit(pending.epoch).await?;
        self.complete(pending.epoch);
        Ok(())
    }
}

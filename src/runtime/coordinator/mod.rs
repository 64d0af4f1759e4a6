//! Runs a stream graph: starts the tasks (`deploy`), injects barriers, commits epochs, ends the job.
//!
//! ```text
//!  interval / stop ─► barrier N ─► sources … sinks ─► all tasks have passed N ─► committers commit N ─► tasks told
//!  end of bounded input ─► all tasks finished ─► committers commit the rest
//!  first failure ─► every task is cancelled, writers abort, prepared committables are aborted
//! ```
//!
//! At most one barrier is under way. A task that has finished counts as having passed every later barrier; what it
//! handed over is committed with the next epoch that completes.

mod deploy;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::edges::{Committable, SinkCommitter, SplitState};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::channel::Cancellation;
use crate::runtime::graph::StreamGraph;
use crate::runtime::job::{JobMetrics, StopHandle};
use crate::runtime::message::{Barrier, BarrierKind};
use crate::runtime::spilling::memory::StateMemory;
use crate::runtime::task::{FINAL_EPOCH, TaskContext, TaskEvent};
use crate::stream::snapshot::OperatorSnapshot;
use crate::stream::watermark::WatermarkTracker;
use crate::stream::{Activity, Epoch, Timestamp};

/// State of a whole job at one epoch, by operator uid.
#[derive(Debug, Clone, Default)]
pub struct JobSnapshot {
    /// State of operators.
    pub operators: BTreeMap<String, OperatorSnapshot>,
    /// Positions of sources.
    pub sources: BTreeMap<String, Vec<SplitState>>,
    /// Watermarks that sources had reached.
    pub watermarks: BTreeMap<String, Timestamp>,
    /// Nodes of chains all of whose tasks have ended: they have said what they say at the end.
    pub ended: BTreeSet<String>,
    /// Number of its checkpoint; a job that goes on from it counts on.
    pub epoch: u64,
}

impl JobSnapshot {
    fn add_operators(&mut self, operators: Vec<(String, OperatorSnapshot)>) {
        for (uid, tables) in operators {
            let all = self.operators.entry(uid).or_default();
            for (table, parts) in tables {
                all.entry(table).or_default().extend(parts);
            }
        }
    }
}

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
    /// Its state at the end of its input, for the snapshots that follow.
    ended: Option<EndState>,
}

/// State of operators and positions of a task that has ended.
type EndState = (Vec<(String, OperatorSnapshot)>, Vec<SplitState>);

struct Pending {
    epoch: Epoch,
    kind: BarrierKind,
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
    committers: Vec<Box<dyn SinkCommitter>>,
    /// Handed over and not committed yet, per sink.
    prepared: Vec<Vec<Committable>>,
    pending: Option<Pending>,
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
        committers: Vec::new(),
        prepared: Vec::new(),
        pending: None,
        barriers,
        committed,
        epoch: options.restore.as_ref().map_or(0, |r| r.epoch),
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
        keep: coordinator.options.on_snapshot.is_some(),
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
    if outcome.is_err() {
        cancellation.cancel();
        // Tasks see the cancellation at their next await and abort their writers.
        while let Some(ended) = set.join_next().await {
            outcome = prefer(outcome, flatten(ended));
        }
        while let Ok(event) = events.try_recv() {
            coordinator.keep_committable(event);
        }
        for (committer, prepared) in coordinator.committers.iter_mut().zip(coordinator.prepared) {
            committer.abort(None, prepared).await;
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
            // Sources wait for the last commit, to tell their readers.
            if !over
                && !self.tasks.is_empty()
                && self.pending.is_none()
                && self.tasks.iter().all(|t| t.finished)
            {
                over = true;
                self.commit(FINAL_EPOCH).await?;
                self.committed.send_replace(FINAL_EPOCH.0);
            }
            let tick = async {
                match &mut ticks {
                    Some(t) => {
                        t.tick().await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(Error::cancelled()),
                Some(event) = events.recv() => {
                    self.on_event(event).await?;
                    if self.is_paused() {
                        stop.stop();
                    }
                }
                ended = set.join_next() => match ended {
                    Some(ended) => flatten(ended)?,
                    None => {
                        while let Ok(event) = events.try_recv() {
                            self.on_event(event).await?;
                        }
                        return if over { Ok(()) } else { self.commit(FINAL_EPOCH).await };
                    }
                },
                () = stop.stopped(), if !stopping && self.pending.is_none() => {
                    stopping = true;
                    self.trigger(BarrierKind::Final);
                }
                () = tick, if !stopping && self.pending.is_none() => self.trigger(BarrierKind::Checkpoint),
            }
        }
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
        self.pending = Some(Pending { epoch, kind, waiting, taken, times, snapshot });
        let keep = self.options.on_snapshot.is_some();
        self.barriers.send_replace(Some(Barrier { epoch, kind, keep }));
    }

    fn keep_committable(&mut self, event: TaskEvent) {
        let (TaskEvent::Snapshot { task, committable, .. } | TaskEvent::Finished { task, committable, .. }) =
            event
        else {
            return;
        };
        if let (Some(committable), Some(sink)) = (committable, self.tasks.get(task).and_then(|t| t.sink)) {
            self.prepared[sink].push(committable);
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
                if let (Some(committable), Some(sink)) = (committable, self.tasks[task].sink) {
                    self.prepared[sink].push(committable);
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
                    self.prepared[sink].push(committable);
                }
            }
        }
        if self.pending.as_ref().is_some_and(|p| p.waiting.is_empty())
            && let Some(mut pending) = self.pending.take()
        {
            if let Some(hook) = &self.options.on_snapshot {
                pending.snapshot.epoch = pending.epoch.0;
                let reached = pending.times.iter();
                let reached = reached.map(|(uid, tasks)| (uid.clone(), WatermarkTracker::combined(tasks)));
                pending.snapshot.watermarks = reached.collect();
                self.add_ended(&pending.taken, &mut pending.snapshot);
                hook(pending.epoch, &pending.snapshot);
            }
            self.commit(pending.epoch).await?;
            self.metrics.committed();
            self.committed.send_replace(pending.epoch.0);
        }
        Ok(())
    }

    /// Adds the state of tasks that had ended before the barrier.
    fn add_ended(&self, taken: &BTreeSet<usize>, snapshot: &mut JobSnapshot) {
        let mut running: BTreeSet<usize> = BTreeSet::new();
        for (i, task) in self.tasks.iter().enumerate() {
            let Some((operators, splits)) = task.ended.as_ref().filter(|_| !taken.contains(&i)) else {
                running.insert(task.chain);
                continue;
            };
            snapshot.add_operators(operators.clone());
            if let Some(uid) = &task.source {
                snapshot.sources.entry(uid.clone()).or_default().extend(splits.iter().cloned());
            }
        }
        let ended = self.chains.iter().enumerate().filter(|(chain, _)| !running.contains(chain));
        snapshot.ended.extend(ended.flat_map(|(_, nodes)| nodes.iter().cloned()));
    }

    async fn commit(&mut self, epoch: Epoch) -> Result<()> {
        let last = epoch == FINAL_EPOCH;
        let epoch = if last { Epoch(self.epoch + 1) } else { epoch };
        for (sink, committer) in self.committers.iter_mut().enumerate() {
            let prepared = std::mem::take(&mut self.prepared[sink]);
            // Without any earlier epoch the committer is called even for nothing: an OVERWRITE by no rows is one.
            if last && prepared.is_empty() && self.epoch > 0 {
                continue;
            }
            if let Err(e) = committer.commit(epoch, prepared.clone()).await {
                // The other sinks still have theirs, to be aborted.
                committer.abort(Some(epoch), prepared).await;
                return Err(e);
            }
        }
        Ok(())
    }
}

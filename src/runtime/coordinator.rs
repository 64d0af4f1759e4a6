//! Runs a stream graph: opens sources and sinks, starts the tasks, injects barriers, commits epochs, ends the job.
//!
//! ```text
//!  interval / stop ─► barrier N ─► sources … sinks ─► all tasks have passed N ─► committers commit N ─► tasks told
//!  end of bounded input ─► all tasks finished ─► committers commit the rest
//!  first failure ─► every task is cancelled, writers abort, prepared committables are aborted
//! ```
//!
//! At most one barrier is under way. A task that has finished counts as having passed every later barrier; what it
//! handed over is committed with the next epoch that completes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::edges::{Committable, SinkCommitter, SplitState};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::runtime::chain::{Chain, Tail};
use crate::runtime::channel::{Cancellation, Receiver, Sender, mailbox};
use crate::runtime::exchange::{ExchangeOutput, Partitioning};
use crate::runtime::graph::{NodeId, NodeKind, OperatorFactory, StreamGraph, SubtaskContext};
use crate::runtime::job::{JobMetrics, StopHandle};
use crate::runtime::message::{Barrier, BarrierKind};
use crate::runtime::operator::Operator;
use crate::runtime::sink::SinkDriver;
use crate::runtime::source::SourceHead;
use crate::runtime::spilling::memory::StateMemory;
use crate::runtime::spilling::{SpillingConfig, SpillingOperator};
use crate::runtime::task::{FINAL_EPOCH, TaskContext, TaskEvent, run_channels, run_source};
use crate::stream::key_group::KeyGroupRange;
use crate::stream::snapshot::{OperatorSnapshot, SnapshotReader};
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
    /// `execution.checkpointing.interval`; `None` commits at the end only.
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
            committer.abort(prepared).await;
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
    /// Opens sources and sinks and starts all tasks.
    async fn start(
        &mut self,
        mut graph: StreamGraph,
        context: &TaskContext,
        set: &mut JoinSet<Result<()>>,
    ) -> Result<()> {
        let chains = graph.chains();
        let mut chain_of: Vec<usize> = vec![0; graph.nodes.len()];
        for (c, nodes) in chains.iter().enumerate() {
            for n in nodes {
                chain_of[*n] = c;
            }
        }
        // Channels: for each chain that does not begin with a source, one mailbox per subtask.
        let mut receivers: Vec<Vec<(Receiver, Vec<usize>)>> = Vec::new();
        // Outgoing edges per chain: (partitioning, senders per [upstream subtask][target]).
        let mut outputs: Vec<Vec<(Partitioning, Vec<Vec<Sender>>)>> =
            (0..chains.len()).map(|_| Vec::new()).collect();
        for nodes in &chains {
            let head = &graph.nodes[nodes[0]];
            let mut mailboxes = Vec::new();
            if !head.inputs.is_empty() {
                let mut ports = Vec::new();
                for edge in &head.inputs {
                    let upstream = match edge.partitioning {
                        Partitioning::Forward => 1,
                        _ => graph.nodes[edge.from].parallelism,
                    };
                    ports.extend(std::iter::repeat_n(edge.port, upstream));
                }
                let mut senders: Vec<Vec<Sender>> = Vec::new();
                for _ in 0..head.parallelism {
                    let (tx, rx) = mailbox(ports.len());
                    senders.push(tx);
                    mailboxes.push((rx, ports.clone()));
                }
                let mut first_queue = 0;
                for edge in &head.inputs {
                    let upstream = graph.nodes[edge.from].parallelism;
                    let forward = edge.partitioning == Partitioning::Forward;
                    let per_subtask = (0..upstream)
                        .map(|u| {
                            if forward {
                                vec![senders[u][first_queue].clone()]
                            } else {
                                senders.iter().map(|s| s[first_queue + u].clone()).collect()
                            }
                        })
                        .collect();
                    outputs[chain_of[edge.from]].push((edge.partitioning.clone(), per_subtask));
                    first_queue += if forward { 1 } else { upstream };
                }
            }
            receivers.push(mailboxes);
        }

        let restore = self.options.restore.clone();
        if let Some(snapshot) = &restore {
            check_places(snapshot, &graph)?;
        }
        let mut specs = Vec::new();
        for (c, nodes) in chains.iter().enumerate() {
            specs.push(
                self.build_chain(&mut graph, nodes, std::mem::take(&mut outputs[c]), &restore, context)
                    .await?,
            );
        }
        for (spec, mailboxes) in specs.into_iter().zip(receivers) {
            let ChainSpec { nodes, source, sink, tasks } = spec;
            self.chains.push(nodes);
            let mut mailboxes = mailboxes.into_iter();
            for (chain, head) in tasks {
                let mut context = context.clone();
                context.task = self.tasks.len();
                self.tasks.push(TaskInfo {
                    source: source.clone(),
                    sink,
                    finished: false,
                    paused: false,
                    chain: self.chains.len() - 1,
                    ended: None,
                });
                match head {
                    Some((reader, head)) => set.spawn(run_source(reader, head, chain, context)),
                    None => {
                        let (receiver, ports) = mailboxes
                            .next()
                            .ok_or_else(|| Error::internal("a task has neither source nor channels"))?;
                        set.spawn(run_channels(receiver, ports, chain, context))
                    }
                };
            }
        }
        Ok(())
    }

    async fn build_chain(
        &mut self,
        graph: &mut StreamGraph,
        nodes: &[NodeId],
        outputs: Vec<(Partitioning, Vec<Vec<Sender>>)>,
        restore: &Option<Arc<JobSnapshot>>,
        context: &TaskContext,
    ) -> Result<ChainSpec> {
        let parallelism = graph.nodes[nodes[0]].parallelism;
        let mut heads = Vec::new();
        let mut source_uid = None;
        let mut operators: Vec<Vec<(String, Box<dyn Operator>)>> =
            (0..parallelism).map(|_| Vec::new()).collect();
        let mut writers = None;
        let mut sink_index = None;
        for id in nodes {
            let node = &graph.nodes[*id];
            match &node.kind {
                NodeKind::Source { source, scan, spec } => {
                    let restored = restore.as_ref().and_then(|r| r.sources.get(&node.uid)).cloned();
                    let watermark = restore.as_ref().and_then(|r| r.watermarks.get(&node.uid)).copied();
                    let mut scan = scan.clone();
                    scan.batch_rows = self.options.batch_rows.unwrap_or(scan.batch_rows);
                    let readers =
                        source.readers(scan, parallelism, restored).await.context(|| node.detail.clone())?;
                    if readers.len() != parallelism {
                        return Err(Error::internal(format!("{}: {} readers", node.detail, readers.len())));
                    }
                    heads = readers
                        .into_iter()
                        .map(|r| (r, SourceHead::new(spec.clone()).restored(watermark)))
                        .collect();
                    source_uid = Some(node.uid.clone());
                }
                NodeKind::Operator(factory) => {
                    for (subtask, chain) in operators.iter_mut().enumerate() {
                        let key_groups = KeyGroupRange::of_subtask(subtask, parallelism);
                        let context = SubtaskContext {
                            subtask,
                            parallelism,
                            key_groups,
                            emit_update_before: node.changelog.update_before,
                        };
                        let mut operator = factory(context)?;
                        if let (Some(memory), Some(keys)) = (&self.options.memory, node.exchange_keys())
                            && operator.spillable()
                        {
                            operator = spilling(operator, factory.clone(), context, keys, memory);
                        }
                        if let Some(tables) = restore.as_ref().and_then(|r| r.operators.get(&node.uid)) {
                            let reader = SnapshotReader::new(tables.clone(), key_groups);
                            operator
                                .restore(&reader)
                                .and_then(|()| reader.finish())
                                .context(|| format!("restoring {}", node.name))?;
                        }
                        chain.push((node.uid.clone(), operator));
                    }
                }
                NodeKind::Sink { sink, mode } => {
                    let opened = sink.open(*mode, parallelism).await.context(|| node.detail.clone())?;
                    sink_index = Some(self.committers.len());
                    self.committers.push(opened.committer);
                    self.prepared.push(Vec::new());
                    writers = Some(opened.writers);
                }
            }
        }
        let tails: Vec<Tail> = match writers {
            Some(writers) => {
                let drive = |w| Tail::Sink(SinkDriver::new(w, context.metrics.clone()));
                writers.into_iter().map(drive).collect()
            }
            None => (0..parallelism)
                .map(|subtask| {
                    Tail::Exchanges(
                        outputs
                            .iter()
                            .map(|(p, per_subtask)| {
                                ExchangeOutput::new(p.clone(), per_subtask[subtask].clone(), subtask)
                            })
                            .collect(),
                    )
                })
                .collect(),
        };
        if tails.len() != parallelism {
            return Err(Error::internal(format!(
                "a sink opened {} writers for {parallelism} subtasks",
                tails.len()
            )));
        }
        // What a chain is depends on the parallelism, but never has a node ended before one above it.
        let has_ended =
            |(uid, _): &(String, Box<dyn Operator>)| restore.as_ref().is_some_and(|r| r.ended.contains(uid));
        let ended = operators.first().and_then(|o| o.iter().rposition(has_ended)).map_or(0, |last| last + 1);
        let mut heads = heads.into_iter();
        let tasks = operators
            .into_iter()
            .zip(tails)
            .map(|(operators, tail)| {
                let chain =
                    Chain::new(operators, tail, context.metrics.clone(), context.cancellation.clone())
                        .after_end_of(ended);
                (chain, heads.next())
            })
            .collect();
        let nodes = nodes.iter().map(|id| graph.nodes[*id].uid.clone()).collect();
        Ok(ChainSpec { nodes, source: source_uid, sink: sink_index, tasks })
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
        let mut stopping = false;
        loop {
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
                        return self.commit(FINAL_EPOCH).await;
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
            self.metrics.checkpoints.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
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
        for (committer, prepared) in self.committers.iter_mut().zip(&mut self.prepared) {
            // Without any earlier epoch the committer is called even for nothing: an OVERWRITE by no rows is one.
            if last && prepared.is_empty() && self.epoch > 0 {
                continue;
            }
            committer.commit(epoch, std::mem::take(prepared)).await?;
        }
        Ok(())
    }
}

/// The reader at the head of a source task, and what is done to its rows.
type SourceParts = (Box<dyn crate::edges::SourceReader>, SourceHead);

/// A chain ready to start: per subtask its operators and, for a source, its head.
struct ChainSpec {
    /// Uids of its nodes.
    nodes: Vec<String>,
    source: Option<String>,
    sink: Option<usize>,
    tasks: Vec<(Chain, Option<SourceParts>)>,
}

/// `operator`, able to run with more state than memory.
fn spilling(
    operator: Box<dyn Operator>,
    factory: OperatorFactory,
    context: SubtaskContext,
    keys: Vec<Vec<usize>>,
    memory: &StateMemory,
) -> Box<dyn Operator> {
    let config = SpillingConfig {
        factory: Arc::new(move |key_groups| factory(SubtaskContext { key_groups, ..context })),
        keys,
        range: context.key_groups,
    };
    Box::new(SpillingOperator::new(operator, config, memory.share()))
}

/// State that no operator of the plan would take up must not be dropped in silence.
fn check_places(snapshot: &JobSnapshot, graph: &StreamGraph) -> Result<()> {
    let has_rows = |tables: &OperatorSnapshot| tables.values().flatten().any(|part| part.rows.num_rows() > 0);
    let known = |uid: &String| graph.nodes.iter().any(|node| &node.uid == uid);
    match snapshot.operators.iter().find(|(uid, tables)| has_rows(tables) && !known(uid)) {
        None => Ok(()),
        Some((uid, _)) => {
            Err(Error::validation(format!("the plan has no operator {uid}, whose state is in the snapshot"))
                .hint("the query has changed since; EXPLAIN shows the operators' uids"))
        }
    }
}

//! Starts the tasks of a graph: opens sources and sinks, builds operators with their restored state, connects chains.
//!
//! ```text
//!  graph ─► chains ─► per chain and subtask: [reader + head | receivers] ─► operators ─► [exchanges | sink writer] ─► task
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::{Coordinator, SinkTask, TaskInfo};
use crate::checkpoint::JobSnapshot;
use crate::edges::SinkContext;
use crate::error::{Error, Result, ResultExt};
use crate::failpoint::failpoint;
use crate::runtime::chain::{Chain, Tail};
use crate::runtime::channel::{Receiver, Sender, mailbox};
use crate::runtime::exchange::{ExchangeOutput, Partitioning};
use crate::runtime::graph::{Node, NodeId, NodeKind, OperatorFactory, StreamGraph, SubtaskContext};
use crate::runtime::operator::{Operator, Spillable};
use crate::runtime::sink::SinkDriver;
use crate::runtime::source::SourceHead;
use crate::runtime::spilling::memory::StateMemory;
use crate::runtime::spilling::{SpillingConfig, SpillingOperator};
use crate::runtime::task::{TaskContext, run_channels, run_source};
use crate::stream::Epoch;
use crate::stream::key_group::KeyGroupRange;
use crate::stream::snapshot::{OperatorSnapshot, SnapshotReader};

impl Coordinator {
    /// Opens sources and sinks and starts all tasks.
    pub(super) async fn start(
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

        // Not kept for as long as the job runs.
        let restore = self.options.restore.take();
        if let Some(snapshot) = &restore {
            check_places(snapshot, &graph)?;
            self.ended_before.clone_from(&snapshot.ended);
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
            let parallelism = tasks.len();
            for (subtask, (chain, head)) in tasks.into_iter().enumerate() {
                let mut context = context.clone();
                context.task = self.tasks.len();
                self.tasks.push(TaskInfo {
                    source: source.clone(),
                    sink,
                    finished: false,
                    paused: false,
                    chain: self.chains.len() - 1,
                    key_groups: KeyGroupRange::of_subtask(subtask, parallelism),
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
                            && operator.spillable() != Spillable::No
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
                    let checkpoints = self.options.checkpoints.as_ref();
                    let identity = checkpoints.map(|c| c.identity(&node.uid));
                    let decision = identity.as_ref().and_then(|i| sink.decision(i));
                    let context = SinkContext {
                        mode: *mode,
                        parallelism,
                        identity,
                        epoch: Epoch(self.epoch),
                        shared: self.shared.clone(),
                        claim: self.options.claim.clone(),
                        is_updating: !node.changelog.is_append_only(),
                    };
                    let mut opened = sink.open(&context).await.context(|| node.detail.clone())?;
                    if let (Some(snapshot), Some(checkpoints)) = (restore, checkpoints) {
                        let committables = snapshot.committables.get(&node.uid).cloned();
                        let committables = committables.filter(|_| checkpoints.commit_again);
                        failpoint("sink-opened");
                        let recovered =
                            opened.committer.recover(Epoch(snapshot.epoch), committables.unwrap_or_default());
                        recovered.await.context(|| node.detail.clone())?;
                        failpoint("sink-recovered");
                    }
                    sink_index = Some(self.sinks.len());
                    self.sinks.push(SinkTask {
                        uid: node.uid.clone(),
                        committer: opened.committer,
                        decision,
                        prepared: Vec::new(),
                    });
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
        let forgets = |uid: &String| {
            operators.iter().flatten().any(|(of, operator)| of == uid && !operator.remembers())
        };
        let nodes = nodes.iter().map(|id| graph.nodes[*id].uid.clone());
        let nodes = nodes.filter(|uid| !forgets(uid)).collect();
        let mut heads = heads.into_iter();
        let tasks = operators
            .into_iter()
            .zip(tails)
            .map(|(operators, tail)| {
                let chain =
                    Chain::new(operators, tail, context.metrics.clone(), context.cancellation.clone())
                        .after_end_of(ended)
                        .within(self.options.memory.clone());
                (chain, heads.next())
            })
            .collect();
        Ok(ChainSpec { nodes, source: source_uid, sink: sink_index, tasks })
    }
}

/// The reader at the head of a source task, and what is done to its rows.
type SourceParts = (Box<dyn crate::edges::SourceReader>, SourceHead);

/// A chain ready to start: per subtask its operators and, for a source, its head.
struct ChainSpec {
    /// Uids of its nodes whose end is remembered.
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

/// What no node of the plan would take up must not be dropped in silence: state would be lost, a source would begin anew,
/// and what has ended would end a second time.
fn check_places(snapshot: &JobSnapshot, graph: &StreamGraph) -> Result<()> {
    let has_rows = |tables: &OperatorSnapshot| tables.values().flatten().any(|part| part.rows.num_rows() > 0);
    let is_source = |node: &&Node| matches!(node.kind, NodeKind::Source { .. });
    let nodes: BTreeSet<&String> = graph.nodes.iter().map(|node| &node.uid).collect();
    let sources: BTreeSet<&String> = graph.nodes.iter().filter(is_source).map(|node| &node.uid).collect();
    let mut states = snapshot.operators.iter().filter(|(_, tables)| has_rows(tables)).map(|(uid, _)| uid);
    let mut positions = snapshot.sources.keys().chain(snapshot.watermarks.keys());
    let unclaimed = if let Some(uid) = states.find(|uid| !nodes.contains(uid)) {
        format!("operator {uid}, whose state is")
    } else if let Some(uid) = positions.find(|uid| !sources.contains(uid)) {
        format!("source {uid}, whose position is")
    } else if let Some(uid) = snapshot.ended.iter().find(|uid| !nodes.contains(uid)) {
        format!("operator {uid}, which had ended and is")
    } else {
        return Ok(());
    };
    Err(Error::validation(format!("the plan has no {unclaimed} in the snapshot"))
        .hint("the query has changed since; EXPLAIN shows the uids of sources and operators"))
}

//! The stream graph: sources, operators and sinks with their exchanges, and its cut into chains.

use std::sync::Arc;

use crate::edges::{ScanRequest, Sink, Source, WriteMode};
use crate::error::Result;
use crate::runtime::exchange::Partitioning;
use crate::runtime::operator::Operator;
use crate::runtime::source::SourceSpec;
use crate::stream::key_group::KeyGroupRange;

/// Index of a node in its graph.
pub type NodeId = usize;

/// What an operator instance may know of its place.
#[derive(Debug, Clone, Copy)]
pub struct SubtaskContext {
    /// From 0.
    pub subtask: usize,
    /// Number of subtasks.
    pub parallelism: usize,
    /// Key groups it owns.
    pub key_groups: KeyGroupRange,
    /// Whether somebody downstream needs the old rows of updates; with `false` an update is one `+U`.
    pub emit_update_before: bool,
}

/// Makes one instance of an operator per subtask.
pub type OperatorFactory = Arc<dyn Fn(SubtaskContext) -> Result<Box<dyn Operator>> + Send + Sync>;

/// What kinds of changes flow out of a node, besides `+I`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChangelogMode {
    /// `-U`: the old row of an update is sent.
    pub update_before: bool,
    /// `+U`: rows are updated.
    pub update_after: bool,
    /// `-D`: rows are deleted.
    pub delete: bool,
}

impl ChangelogMode {
    /// `+I` only.
    pub const APPEND_ONLY: Self = ChangelogMode { update_before: false, update_after: false, delete: false };
    /// Inserts and whole updates, no deletes.
    pub const UPDATES: Self = ChangelogMode { update_before: true, update_after: true, delete: false };
    /// Inserts and deletes.
    pub const DELETES: Self = ChangelogMode { update_before: false, update_after: false, delete: true };
    /// `+I`, `-U`, `+U`, `-D`.
    pub const ALL: Self = ChangelogMode { update_before: true, update_after: true, delete: true };
    /// `+I`, `+U`, `-D` by key.
    pub const UPSERT: Self = ChangelogMode { update_before: false, update_after: true, delete: true };

    /// Whether every row is `+I`.
    pub fn is_append_only(self) -> bool {
        self == Self::APPEND_ONLY
    }

    /// Everything that either side may send.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        ChangelogMode {
            update_before: self.update_before || other.update_before,
            update_after: self.update_after || other.update_after,
            delete: self.delete || other.delete,
        }
    }

    /// Flink's notation, as users read it in plans: `[I,UB,UA,D]`.
    pub fn notation(self) -> String {
        let kinds = [("UB", self.update_before), ("UA", self.update_after), ("D", self.delete)];
        let sent: String =
            kinds.iter().filter(|(_, sent)| *sent).map(|(kind, _)| format!(",{kind}")).collect();
        format!("[I{sent}]")
    }
}

/// Whether a consumer needs the `-U` rows of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateBefore {
    /// It retracts rows, or cannot tell which row a `+U` replaces.
    Required,
    /// It hands rows on: as its own consumers need them.
    Inherit,
    /// A `+U` tells it enough.
    NotNeeded,
}

/// What a node does.
#[expect(clippy::large_enum_variant, reason = "a handful of nodes per job, never moved in a loop")]
#[derive(Clone)]
pub enum NodeKind {
    /// Reads.
    Source {
        /// The table.
        source: Arc<dyn Source>,
        /// What to read of it.
        scan: ScanRequest,
        /// Computed columns and watermark.
        spec: SourceSpec,
    },
    /// Transforms.
    Operator(OperatorFactory),
    /// Writes.
    Sink {
        /// The table.
        sink: Arc<dyn Sink>,
        /// Append or overwrite.
        mode: WriteMode,
    },
}

/// An input of a node.
#[derive(Debug, Clone)]
pub struct Edge {
    /// Where rows come from.
    pub from: NodeId,
    /// Input port of the receiving operator.
    pub port: usize,
    /// How they find their subtask.
    pub partitioning: Partitioning,
    /// Whether the node needs the old rows of updates.
    pub update_before: UpdateBefore,
}

/// A node of the graph.
#[derive(Clone)]
pub struct Node {
    /// Stable name of its state, derived from the structure of the plan.
    pub uid: String,
    /// Operator name, as in Flink's plans.
    pub name: &'static str,
    /// Its arguments, for EXPLAIN.
    pub detail: String,
    /// Number of subtasks.
    pub parallelism: usize,
    /// Inputs in port order.
    pub inputs: Vec<Edge>,
    /// Kinds of changes it sends on; `update_before` is what it could send until
    /// the planner has seen all consumers.
    pub changelog: ChangelogMode,
    /// What it does.
    pub kind: NodeKind,
}

impl Node {
    /// Key columns of each input, if rows come to all of them by key.
    pub fn exchange_keys(&self) -> Option<Vec<Vec<usize>>> {
        let keys = self.inputs.iter().map(|edge| match &edge.partitioning {
            Partitioning::Hash(columns) => Some(columns.clone()),
            _ => None,
        });
        keys.collect()
    }
}

/// Nodes in topological order: inputs stand before their consumers.
#[derive(Clone, Default)]
pub struct StreamGraph {
    /// The nodes.
    pub nodes: Vec<Node>,
}

impl StreamGraph {
    /// Adds a node and gives its id.
    pub fn add(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Whether an edge needs no channel: forward, or between two single subtasks.
    fn is_direct(&self, edge: &Edge, to: &Node) -> bool {
        let from = &self.nodes[edge.from];
        from.parallelism == to.parallelism
            && (edge.partitioning == Partitioning::Forward || from.parallelism == 1)
    }

    /// Number of edges that leave each node.
    pub fn consumers(&self) -> Vec<usize> {
        let mut counts = vec![0; self.nodes.len()];
        for edge in self.nodes.iter().flat_map(|n| &n.inputs) {
            counts[edge.from] += 1;
        }
        counts
    }

    /// Whether all sinks get nothing but rows that stay.
    pub fn sinks_append_only(&self) -> bool {
        let sinks = self.nodes.iter().filter(|n| matches!(n.kind, NodeKind::Sink { .. }));
        sinks.flat_map(|n| &n.inputs).all(|edge| self.nodes[edge.from].changelog.is_append_only())
    }

    /// Cuts the graph into chains: lists of nodes where each takes its only input directly from the one before, which
    /// has no other consumer.
    pub fn chains(&self) -> Vec<Vec<NodeId>> {
        let consumers = self.consumers();
        let mut chain_of: Vec<usize> = Vec::with_capacity(self.nodes.len());
        let mut chains: Vec<Vec<NodeId>> = Vec::new();
        for (id, node) in self.nodes.iter().enumerate() {
            let chained = match node.inputs.as_slice() {
                [edge] if self.is_direct(edge, node) && consumers[edge.from] == 1 => {
                    Some(chain_of[edge.from])
                }
                _ => None,
            };
            let chain = chained.unwrap_or_else(|| {
                chains.push(Vec::new());
                chains.len() - 1
            });
            chains[chain].push(id);
            chain_of.push(chain);
        }
        chains
    }
}

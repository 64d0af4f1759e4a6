//! The text of EXPLAIN for a stream graph.

use std::fmt::Write;

use crate::runtime::exchange::Partitioning;
use crate::runtime::graph::{NodeId, NodeKind, StreamGraph};

/// The graph as text, sinks first, inputs indented: EXPLAIN's execution plan.
pub fn explain(graph: &StreamGraph, changelog_mode: bool) -> String {
    let consumers = graph.consumers();
    let mut text = String::new();
    for (id, _) in graph.nodes.iter().enumerate().rev() {
        if consumers[id] == 0 {
            explain_node(graph, id, 0, changelog_mode, &mut text);
        }
    }
    text
}

fn explain_node(graph: &StreamGraph, id: NodeId, depth: usize, changelog_mode: bool, text: &mut String) {
    let node = &graph.nodes[id];
    // Writing to a String cannot fail.
    let _ = write!(text, "{}{}", "  ".repeat(depth), node.name);
    let mut arguments = node.detail.clone();
    if changelog_mode && !matches!(node.kind, NodeKind::Sink { .. }) {
        if !arguments.is_empty() {
            arguments.push_str(", ");
        }
        let _ = write!(arguments, "changelogMode={}", node.changelog.notation());
    }
    let _ = writeln!(text, "({arguments}) parallelism={} uid={}", node.parallelism, node.uid);
    for edge in &node.inputs {
        let depth = match &edge.partitioning {
            Partitioning::Forward => depth + 1,
            other => {
                let how = match other {
                    Partitioning::Hash(columns) => {
                        format!(
                            "hash[{}]",
                            columns.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
                        )
                    }
                    Partitioning::Rebalance => "rebalance".to_owned(),
                    _ => "single".to_owned(),
                };
                let _ = writeln!(text, "{}Exchange({how})", "  ".repeat(depth + 1));
                depth + 2
            }
        };
        explain_node(graph, edge.from, depth, changelog_mode, text);
    }
}

//! Whether a plan takes up what a checkpoint holds. State belongs to nodes by their uids, which follow from the structure
//! of the plan.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::checkpoint::Manifest;
use crate::checkpoint::manifest::PlanNode;
use crate::error::{Error, Result};
use crate::runtime::graph::StreamGraph;

/// The plan, as manifests hold it.
pub(super) fn plan_of(graph: &StreamGraph) -> Vec<PlanNode> {
    let node = |node: &crate::runtime::graph::Node| PlanNode {
        uid: node.uid.clone(),
        name: node.name.to_owned(),
        detail: node.detail.clone(),
    };
    graph.nodes.iter().map(node).collect()
}

/// Uids of what the checkpoint holds and no node of the plan takes up.
pub(super) fn unclaimed<'a>(manifest: &'a Manifest, plan: &[PlanNode]) -> BTreeSet<&'a str> {
    let known: BTreeSet<&str> = plan.iter().map(|node| node.uid.as_str()).collect();
    let held = manifest.operators.keys().chain(manifest.sources.keys()).chain(manifest.sinks.keys());
    held.map(String::as_str).filter(|uid| !known.contains(uid)).collect()
}

/// `GroupAggregate 0011223344556677, …`: nodes as the checkpoint knows them.
pub(super) fn named(manifest: &Manifest, uids: &BTreeSet<&str>) -> String {
    let named = |uid: &&str| match manifest.plan.iter().find(|node| node.uid == **uid) {
        Some(node) => format!("{} {uid}", node.name),
        None => (*uid).to_owned(),
    };
    uids.iter().map(named).collect::<Vec<_>>().join(", ")
}

/// Checks that the plan takes up all that the checkpoint holds.
///
/// # Errors
/// Validation that shows both plans.
pub(super) fn check(manifest: &Manifest, plan: &[PlanNode]) -> Result<()> {
    let held = unclaimed(manifest, plan);
    if held.is_empty() {
        return Ok(());
    }
    let mut text = format!(
        "checkpoint {} of job '{}' is of another plan, which has {}",
        manifest.sequence,
        manifest.job,
        named(manifest, &held)
    );
    for (title, nodes) in [("the plan of the checkpoint", manifest.plan.as_slice()), ("the plan now", plan)] {
        let _ = write!(text, "\n  {title}:");
        for node in nodes {
            let _ = write!(text, "\n    {} {}({})", node.uid, node.name, node.detail);
        }
    }
    text.push('\n');
    Err(Error::validation(text)
        .hint("begin anew with --fresh, or give the changed job another 'pipeline.name'"))
}

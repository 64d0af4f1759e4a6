//! Who needs the old rows of updates: `-U` is left out where nobody does.

use crate::runtime::graph::{NodeKind, StreamGraph, UpdateBefore};

/// Takes `-U` from every node none of whose consumers needs it; called once, when the graph is complete.
pub fn drop_unneeded_update_before(graph: &mut StreamGraph) {
    let mut needed = vec![false; graph.nodes.len()];
    for id in (0..graph.nodes.len()).rev() {
        for edge in &graph.nodes[id].inputs {
            needed[edge.from] |= match edge.update_before {
                UpdateBefore::Required => true,
                UpdateBefore::Inherit => needed[id],
                UpdateBefore::NotNeeded => false,
            };
        }
    }
    for (id, needed) in needed.into_iter().enumerate() {
        let node = &graph.nodes[id];
        // Who only hands on sends what comes, also when another consumer of its input asked for it.
        let hands_on = !node.inputs.is_empty()
            && node.inputs.iter().all(|e| e.update_before == UpdateBefore::Inherit)
            && node.inputs.iter().any(|e| graph.nodes[e.from].changelog.update_before);
        let sent = node.changelog.update_before;
        graph.nodes[id].changelog.update_before &= needed || hands_on;
        if let NodeKind::Source { spec, .. } = &mut graph.nodes[id].kind {
            // Its reader sends what the topic or file holds.
            spec.drop_update_before = sent && !needed;
        }
    }
}

//! Runs a job without state whose sink keeps how far its source was read, in the commits of the rows themselves.
//!
//! ```text
//!  claim the table: generation, epoch, positions ─► run the graph from there ─► end
//!        ▲                                                   │ something outside failed
//!        └──────────────── wait (restart-strategy) ◄─────────┘
//! ```
//!
//! Nothing of it is anywhere but in the table: it can be started on another machine, and rolls back with the table.

use std::sync::Arc;
use std::time::Instant;

use crate::checkpoint::JobSnapshot;
use crate::edges::{Claim, Sink, Source};
use crate::error::{Error, Result, ResultExt};
use crate::runtime::coordinator::{JobOptions, run_graph};
use crate::runtime::graph::{NodeKind, StreamGraph};
use crate::runtime::job::{JobMetrics, StopHandle};
use crate::runtime::restart::{RestartStrategy, Restarts};

/// Operators that have nothing to go on from.
const STATELESS: &[&str] = &["Calc", "ConstraintEnforcer", "Correlate", "Expand", "Union"];

/// The two ends of a job that goes on from its table. It may write to others beside it, at least once.
pub(super) struct Kept {
    sink: Arc<dyn Sink>,
    shown: String,
    source: Arc<dyn Source>,
    uid: String,
}

/// The ends of a job whose sink keeps positions; `None` if none does.
///
/// # Errors
/// Unsupported if positions are not all that the job would need.
pub(super) fn kept_by_sink(graph: &StreamGraph) -> Result<Option<Kept>> {
    let (mut sinks, mut others, mut sources, mut stateful) = (Vec::new(), Vec::new(), Vec::new(), None);
    for node in &graph.nodes {
        match &node.kind {
            NodeKind::Sink { sink, .. } if sink.keeps_positions() => sinks.push((sink, node)),
            NodeKind::Sink { sink, .. } => others.push(sink),
            NodeKind::Source { source, .. } => sources.push((source, node)),
            NodeKind::Operator(_) if STATELESS.contains(&node.name) => {}
            NodeKind::Operator(_) => stateful = Some(node.name),
        }
    }
    if sinks.is_empty() {
        return Ok(None);
    }
    let refused = |what: String| {
        Error::unsupported(format!("{what}, and its table keeps nothing but how far one source was read"))
            .hint(
                "without the option 'source-positions' the job can be kept in 'execution.checkpointing.dir'",
            )
    };
    if let Some(name) = stateful {
        return Err(refused(format!("the job has state ({name})")));
    }
    // Rows that are out before the table commits can come twice, and are never missing.
    if others.iter().any(|sink| sink.holds_back()) {
        return Err(refused(format!("the job writes to {} tables", sinks.len() + others.len())));
    }
    match (sinks.as_slice(), sources.as_slice()) {
        ([(sink, at)], [(source, node)]) => Ok(Some(Kept {
            sink: Arc::clone(sink),
            shown: at.detail.clone(),
            source: Arc::clone(source),
            uid: node.uid.clone(),
        })),
        (_, [_]) => Err(refused(format!("the job writes to {} tables", sinks.len()))),
        _ => Err(refused(format!("the job reads {} sources", sources.len()))),
    }
}

/// Two places would say where the job goes on.
pub(super) fn two_memories() -> Error {
    Error::validation(
        "the job would go on from its table ('source-positions' = 'table') and from a checkpoint, and they may differ",
    )
    .hint("leave out the table option, or 'execution.checkpointing.dir' and 'execution.state-recovery.path'")
}

/// Runs the job to its end, over the failures of what is around it.
///
/// # Errors
/// The first failure that another attempt does not cure, or that the strategy does not allow another attempt for.
pub(super) async fn run(
    graph: &StreamGraph,
    kept: &Kept,
    options: &JobOptions,
    metrics: &Arc<JobMetrics>,
    stop: &StopHandle,
) -> Result<()> {
    let mut restarts = Restarts::new(options.restarts.clone().unwrap_or(RestartStrategy::None));
    loop {
        let failure = match attempt(graph, kept, options, metrics, stop).await {
            Err(e) if e.is_retryable() && !stop.is_stopped() => e,
            ended => return ended,
        };
        let Some(delay) = restarts.failed(Instant::now()) else {
            return Err(failure.context(format!("after {} failures", restarts.attempts())));
        };
        let key = format!("restart {:?}", Instant::now());
        metrics.notices.once(&key, || {
            format!("the job failed and starts again from its table in {delay:.1?}: {failure}")
        });
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = stop.stopped() => return Err(failure),
        }
    }
}

async fn attempt(
    graph: &StreamGraph,
    kept: &Kept,
    options: &JobOptions,
    metrics: &Arc<JobMetrics>,
    stop: &StopHandle,
) -> Result<()> {
    let claim = kept.sink.claim().await.context(|| kept.shown.clone())?;
    let Claim { epoch, positions, .. } = claim.clone();
    let positions = positions.map(|p| kept.source.adopt(p)).transpose()?;
    let snapshot = JobSnapshot {
        epoch: epoch.0,
        sources: positions.into_iter().map(|p| (kept.uid.clone(), p)).collect(),
        ..JobSnapshot::default()
    };
    let options = JobOptions { claim: Some(claim), restore: Some(Arc::new(snapshot)), ..options.clone() };
    run_graph(graph.clone(), options, metrics.clone(), stop.clone()).await
}

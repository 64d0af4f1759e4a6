//! Runs a job of which checkpoints are kept: from the newest of them, and again when it fails.
//!
//! ```text
//!  which checkpoint? (checkpoint::recovery) ─► load ─► run the graph ─► end
//!        ▲                                                │ something outside failed
//!        └──────────── wait (restart-strategy) ◄──────────┘
//! ```
//!
//! Data, statements and defects fail again in the same way, so they end the job at once.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use uuid::Uuid;

use crate::checkpoint::manifest::PlanNode;
use crate::checkpoint::recovery::{Recovery, recover};
use crate::checkpoint::store::shown_time;
use crate::checkpoint::{JobStore, Manifest};
use crate::edges::{SinkContext, SinkIdentity};
use crate::error::{Error, Result, ResultExt};
use crate::runtime::coordinator::{CheckpointOptions, Checkpoints, JobOptions, finish, run_graph};
use crate::runtime::graph::{NodeKind, StreamGraph};
use crate::runtime::job::{JobMetrics, StopHandle};
use crate::runtime::restart::{RestartStrategy, Restarts};
use crate::stream::Epoch;

/// What is kept of a job, and what becomes of it when it fails.
#[derive(Debug, Clone)]
pub struct Keeping {
    /// The folder of the job.
    pub store: Arc<JobStore>,
    /// How checkpoints are taken.
    pub options: CheckpointOptions,
    /// When it is started again.
    pub restarts: RestartStrategy,
    /// Whether a job that was stopped leaves something to go on from.
    pub retains_stopped: bool,
}

/// Runs a graph to its end, over the failures of what is around it.
///
/// # Errors
/// The first failure that another attempt does not cure, or that the strategy does not allow another attempt for.
pub async fn run_job(
    graph: StreamGraph,
    options: JobOptions,
    keeping: Option<Keeping>,
    metrics: Arc<JobMetrics>,
    stop: StopHandle,
) -> Result<()> {
    let Some(keeping) = keeping else { return run_graph(graph, options, metrics, stop).await };
    let mut restarts = Restarts::new(keeping.restarts.clone());
    loop {
        let failure = match attempt(&graph, &options, &keeping, &metrics, &stop).await {
            Err(e) if e.is_retryable() && !stop.is_stopped() => e,
            Ok(()) if stop.is_stopped() && !keeping.retains_stopped => return keeping.store.finish().await,
            ended => return ended,
        };
        let Some(delay) = restarts.failed(Instant::now()) else {
            return Err(failure.context(format!("after {} failures", restarts.attempts())));
        };
        let key = format!("restart {:?}", Instant::now());
        metrics.notices.once(&key, || {
            format!("the job failed and starts again from its last checkpoint in {delay:.1?}: {failure}")
        });
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = stop.stopped() => return Err(failure),
        }
    }
}

async fn attempt(
    graph: &StreamGraph,
    options: &JobOptions,
    keeping: &Keeping,
    metrics: &Arc<JobMetrics>,
    stop: &StopHandle,
) -> Result<()> {
    let store = &keeping.store;
    let plan: Vec<PlanNode> = graph.nodes.iter().map(plan_node).collect();
    check_decisions(graph, store)?;
    let recovery =
        recover(store, async |manifest: &Manifest| is_committed(graph, store, manifest).await).await?;
    let (mut options, mut lineage, mut parent, mut commit_again) =
        (options.clone(), Uuid::now_v7(), None, false);
    if let Some(Recovery { manifest, commit_again: again }) = recovery {
        check_plan(&manifest, &plan)?;
        let size = manifest.state_bytes() as f64 / 1e6;
        let from = format!("checkpoint {} of {}", manifest.sequence, shown_time(manifest.taken));
        metrics.notices.once(&format!("resume {:?}", Instant::now()), || match manifest.is_end {
            true => format!("job '{}' had ended with {from}: only what was left of it is done", manifest.job),
            false => format!("job '{}' goes on from {from} ({size:.1} MB of state)", manifest.job),
        });
        if manifest.is_end {
            if again {
                commit_end(graph, store, &manifest).await?;
            }
            finish(store, metrics).await;
            return Ok(());
        }
        options.restore = Some(Arc::new(store.load(&manifest).await?));
        (lineage, parent, commit_again) = (manifest.lineage, Some(manifest.sequence), again);
    }
    options.checkpoints = Some(Checkpoints {
        store: store.clone(),
        options: keeping.options.clone(),
        lineage,
        parent,
        next: store.next_sequence().await?,
        commit_again,
        plan: Arc::new(plan),
        // Nobody has noted what has changed yet.
        base: None,
    });
    run_graph(graph.clone(), options, metrics.clone(), stop.clone()).await
}

fn plan_node(node: &crate::runtime::graph::Node) -> PlanNode {
    PlanNode { uid: node.uid.clone(), name: node.name.to_owned(), detail: node.detail.clone() }
}

fn identity(store: &JobStore, lineage: Uuid, uid: &str) -> SinkIdentity {
    SinkIdentity { job: store.job().to_owned(), lineage, generation: store.generation(), uid: uid.to_owned() }
}

/// Two transactions cannot decide on one checkpoint.
fn check_decisions(graph: &StreamGraph, store: &JobStore) -> Result<()> {
    let decisions: BTreeSet<String> = graph
        .nodes
        .iter()
        .filter_map(|node| match &node.kind {
            NodeKind::Sink { sink, .. } => sink.decision(&identity(store, Uuid::nil(), &node.uid)),
            _ => None,
        })
        .collect();
    if decisions.len() > 1 {
        let all: Vec<String> = decisions.into_iter().collect();
        return Err(Error::unsupported(format!(
            "one job cannot write exactly once in several transactions: {}",
            all.join(" and ")
        ))
        .hint("give the tables the same 'sink.transactional-id-prefix' and cluster, or write them in different jobs"));
    }
    Ok(())
}

/// Asks the sink whose transaction decides.
async fn is_committed(graph: &StreamGraph, store: &JobStore, manifest: &Manifest) -> Result<bool> {
    for node in &graph.nodes {
        let NodeKind::Sink { sink, .. } = &node.kind else { continue };
        let identity = identity(store, manifest.lineage, &node.uid);
        if sink.decision(&identity).is_some() && sink.decision(&identity) == manifest.decision {
            let asked = sink.is_committed(&identity, Epoch(manifest.sequence)).await;
            return asked.context(|| node.detail.clone());
        }
    }
    Err(Error::validation(format!(
        "nobody knows whether checkpoint {} counts: its transaction ({}) is that of no sink of the plan",
        manifest.sequence,
        manifest.decision.as_deref().unwrap_or_default()
    ))
    .hint("restore the options of the sink, or begin anew with --fresh"))
}

/// The job had ended, and died before all of its last rows were committed.
async fn commit_end(graph: &StreamGraph, store: &JobStore, manifest: &Manifest) -> Result<()> {
    for node in &graph.nodes {
        let NodeKind::Sink { sink, mode } = &node.kind else { continue };
        let Some(committables) = manifest.sinks.get(&node.uid) else { continue };
        let context = SinkContext {
            identity: Some(identity(store, manifest.lineage, &node.uid)),
            epoch: Epoch(manifest.sequence),
            ..SinkContext::new(*mode, node.parallelism)
        };
        let mut opened = sink.open(&context).await.context(|| node.detail.clone())?;
        let committables = committables.iter().map(|c| c.0.clone()).collect();
        opened
            .committer
            .recover(Epoch(manifest.sequence), committables)
            .await
            .context(|| node.detail.clone())?;
        for mut writer in opened.writers {
            writer.abort().await;
        }
    }
    store.mark_committed(manifest.sequence).await
}

/// Whether the plan takes up all that the checkpoint holds.
fn check_plan(manifest: &Manifest, plan: &[PlanNode]) -> Result<()> {
    let known: BTreeSet<&str> = plan.iter().map(|node| node.uid.as_str()).collect();
    let held = manifest.operators.keys().chain(manifest.sources.keys()).chain(manifest.sinks.keys());
    let held: BTreeSet<&str> = held.map(String::as_str).filter(|uid| !known.contains(uid)).collect();
    if held.is_empty() {
        return Ok(());
    }
    let named = |uid: &&str| match manifest.plan.iter().find(|node| node.uid == **uid) {
        Some(node) => format!("{} {uid}", node.name),
        None => (*uid).to_owned(),
    };
    let mut text = format!(
        "checkpoint {} of job '{}' is of another plan, which has {}",
        manifest.sequence,
        manifest.job,
        held.iter().map(named).collect::<Vec<_>>().join(", ")
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

//! Runs a job of which checkpoints are kept: from the newest of them or a savepoint, and again when it fails.
//!
//! ```text
//!  which checkpoint? (checkpoint::recovery) ─► claims ─► load ─► run the graph ─► end
//!        ▲    none: a savepoint? (start)                              │ something outside failed
//!        └──────────── wait (restart-strategy) ◄──────────────────────┘
//! ```
//!
//! Data, statements and defects fail again in the same way, so they end the job at once.

mod claims;
mod from_table;
mod start;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use uuid::Uuid;

use crate::checkpoint::recovery::{Recovery, recover};
use crate::checkpoint::store::shown_time;
use crate::checkpoint::{JobStore, Manifest};
use crate::edges::{SinkContext, SinkIdentity};
use crate::error::{Error, Result, ResultExt};
use crate::runtime::coordinator::{
    CheckpointOptions, Checkpoints, JobOptions, SavepointPlace, finish, run_graph,
};
use crate::runtime::graph::{NodeKind, StreamGraph};
use crate::runtime::job::{JobMetrics, StopHandle};
use crate::runtime::restart::{RestartStrategy, Restarts};
use crate::stream::Epoch;
pub use start::StartFrom;

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
    /// Where savepoints go.
    pub savepoints: SavepointPlace,
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
    if let Some(kept) = from_table::kept_by_sink(&graph)? {
        return match keeping {
            None if options.start.is_none() && options.restore.is_none() => {
                from_table::run(&graph, &kept, &options, &metrics, &stop).await
            }
            _ => Err(from_table::two_memories()),
        };
    }
    let Some(keeping) = keeping else {
        let mut options = options;
        if let Some(start) = options.start.take() {
            let (_, snapshot) = start.begin(None, &claims::plan_of(&graph), &metrics).await?;
            options.restore = Some(Arc::new(snapshot));
        }
        return run_graph(graph, options, metrics, stop).await;
    };
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
    let plan = claims::plan_of(graph);
    check_decisions(graph, store)?;
    let start = options.start.as_ref();
    let newest = store.newest().await?;
    let recovery = match (&newest, start) {
        (Some(newest), Some(start)) if !start.is_begun(newest).await? => None,
        _ => recover(store, async |manifest: &Manifest| is_committed(graph, store, manifest).await).await?,
    };
    let (mut options, mut lineage, mut parent, mut commit_again) =
        (options.clone(), Uuid::now_v7(), None, false);
    let (start, mut origin) = (options.start.take(), None);
    if let Some(Recovery { manifest, commit_again: again }) = recovery {
        claims::check(&manifest, &plan)?;
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
        origin = manifest.origin;
    } else if let Some(start) = start {
        let (from, snapshot) = start.begin(Some(store), &plan, metrics).await?;
        if let Some(left) = newest.filter(|newest| newest.origin.as_ref() != Some(&from)) {
            let (number, taken) = (left.sequence, shown_time(left.taken));
            metrics.notices.once("left behind", || format!("checkpoint {number} of {taken} is left behind"));
        }
        (origin, options.restore) = (Some(from), Some(Arc::new(snapshot)));
    } else if let Some(from) = newest.and_then(|newest| newest.origin) {
        return Err(Error::validation(format!(
            "the first checkpoint after the start from a savepoint does not count, and there is none before: {}",
            store.storage()
        ))
        .hint(format!("SET 'execution.state-recovery.path' = '{}' starts from it again", from.path)));
    }
    options.checkpoints = Some(Checkpoints {
        store: store.clone(),
        options: keeping.options.clone(),
        lineage,
        parent,
        next: store.next_sequence().await?,
        commit_again,
        origin,
        savepoints: keeping.savepoints.clone(),
        plan: Arc::new(plan),
        // Nobody has noted what has changed yet.
        base: None,
    });
    run_graph(graph.clone(), options, metrics.clone(), stop.clone()).await
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

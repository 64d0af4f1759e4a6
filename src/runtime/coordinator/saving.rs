//! Checkpoints that outlive the process.
//!
//! ```text
//!  every task has passed barrier N ─► state files ─► manifest N, with what the sinks have prepared: N counts
//!      ─► sinks commit, a transaction that cannot be repeated first ─► N is marked as committed ─► old ones are collected
//! ```
//!
//! The first checkpoint of a process writes the whole state, those after it what has changed since, until that is as
//! much as the whole again. State and manifest are written while rows of the next epoch flow; only the next barrier
//! waits. Once a manifest may be there, what it holds is never aborted: the job, started again, commits it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use uuid::Uuid;

use super::savepoints::SavepointPlace;
use super::{Coordinator, FINAL_EPOCH};
use crate::checkpoint::manifest::{Origin, Packed, PlanNode, SegmentRef, SourceState, Timeline};
use crate::checkpoint::{JobSnapshot, JobStore, Manifest};
use crate::edges::{Committable, SinkIdentity};
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::runtime::job::JobMetrics;
use crate::runtime::task::now;
use crate::stream::Epoch;
use crate::stream::snapshot::SnapshotMode;

/// How checkpoints are taken.
#[derive(Debug, Clone)]
pub struct CheckpointOptions {
    /// Complete checkpoints that are kept.
    pub retained: usize,
    /// How long one may take.
    pub timeout: Duration,
    /// Time between the end of one and the begin of the next.
    pub min_pause: Duration,
    /// How many in a row may fail to be written before the job fails.
    pub tolerable_failures: u32,
}

/// Where the checkpoints of a job are kept, and what it goes on from.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    /// The folder of the job.
    pub store: Arc<JobStore>,
    /// How they are taken.
    pub options: CheckpointOptions,
    /// The job from its first start to its end.
    pub lineage: Uuid,
    /// The checkpoint that it goes on from, or the last complete one.
    pub parent: Option<u64>,
    /// Number of the next one.
    pub next: u64,
    /// Whether the sinks may not have committed what the restored checkpoint holds.
    pub commit_again: bool,
    /// The savepoint that the job has begun with.
    pub origin: Option<Origin>,
    /// Where savepoints go.
    pub savepoints: SavepointPlace,
    /// The plan, for manifests.
    pub plan: Arc<Vec<PlanNode>>,
    /// The state files that the next checkpoint can stand on; `None` if it has to write everything.
    pub base: Option<Base>,
}

/// State files of the last checkpoint, to which the next one adds what has changed.
#[derive(Debug, Clone)]
pub struct Base {
    files: BTreeMap<String, Vec<SegmentRef>>,
    /// Bytes of the checkpoint that wrote everything, and of those since.
    bytes: (u64, u64),
    /// Checkpoints since.
    count: u32,
}

/// Bytes of changes up to which nobody minds them beside a smaller base.
const LEAST_BASE: u64 = 4 << 20;
/// Most checkpoints in a row that write changes: each has files of its own to be read again.
const MOST_CHANGES: u32 = 100;

impl Checkpoints {
    /// What the next checkpoint is to hold. What has changed since the first one may be as much as that; then everything
    /// is written anew, so that a checkpoint costs at most twice what has changed, and recovery reads at most twice the
    /// state.
    pub(super) fn mode(&self) -> SnapshotMode {
        match &self.base {
            Some(base) if base.bytes.1 <= base.bytes.0.max(LEAST_BASE) && base.count < MOST_CHANGES => {
                SnapshotMode::Changes
            }
            _ => SnapshotMode::First,
        }
    }

    /// Whether the next checkpoint adds to files of an operator.
    pub(super) fn stands_on(&self, uid: &str) -> bool {
        self.mode() == SnapshotMode::Changes
            && self.base.as_ref().is_some_and(|base| base.files.contains_key(uid))
    }

    /// The checkpoint `manifest` is complete, and the next one can stand on it.
    fn stand_on(&mut self, manifest: &Manifest) {
        let files = manifest.operators.clone();
        let Timeline { bytes, is_changes, .. } = manifest.timeline;
        self.base = Some(match self.base.take().filter(|_| is_changes) {
            Some(base) => Base { files, bytes: (base.bytes.0, base.bytes.1 + bytes), count: base.count + 1 },
            None => Base { files, bytes: (bytes, 0), count: 0 },
        });
    }

    /// How sinks know the sink `uid` of the job.
    pub fn identity(&self, uid: &str) -> SinkIdentity {
        SinkIdentity {
            job: self.store.job().to_owned(),
            lineage: self.lineage,
            generation: self.store.generation(),
            uid: uid.to_owned(),
        }
    }
}

/// Why a checkpoint is the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// Every input has ended.
    End,
    /// The job was stopped, and goes on from it.
    Stop,
}

/// A checkpoint that is being written.
pub(super) struct Saving {
    epoch: u64,
    pub(super) is_end: bool,
    /// Whether the tasks have ended with it, so that there is no next one.
    is_last: bool,
    /// By sink: what it has prepared.
    prepared: Vec<Vec<Committable>>,
    task: JoinHandle<Result<Manifest, NotSaved>>,
}

/// Why a checkpoint has not been written.
pub(super) enum NotSaved {
    /// Its state could not be: it does not count, and the next one takes its place.
    State(Error),
    /// Its manifest may be there or not: only a job that goes on from what is there knows.
    Manifest(Error),
}

/// Waits for what is being written, if anything is.
pub(super) async fn saved(saving: &mut Option<Saving>) -> Result<Manifest, NotSaved> {
    match saving {
        Some(saving) => (&mut saving.task).await.map_err(|e| NotSaved::Manifest(e.into()))?,
        None => std::future::pending().await,
    }
}

impl Coordinator {
    /// Begins to write a snapshot that every task has handed over; `begun` is when its barrier started. It is the last one
    /// if the job has ended or was stopped with it.
    pub(super) fn save(&mut self, snapshot: JobSnapshot, begun: Instant, last: Option<Last>) {
        let (is_end, is_last) = (last == Some(Last::End), last.is_some());
        let mode = self.mode().filter(|_| !is_end).unwrap_or_default();
        let Some(checkpoints) = self.options.checkpoints.clone() else { return };
        let prepared: Vec<Vec<Committable>> = self.sinks.iter_mut().map(|s| s.take(snapshot.epoch)).collect();
        let decided = self.sinks.iter().zip(&prepared).filter(|(_, prepared)| !prepared.is_empty());
        let decision = decided.filter_map(|(sink, _)| sink.decision.clone()).next();
        let sinks = self.sinks.iter().zip(&prepared).filter(|(_, prepared)| !prepared.is_empty());
        let packed = |prepared: &Vec<Committable>| prepared.iter().cloned().map(Packed).collect();
        let sinks = sinks.map(|(sink, prepared)| (sink.uid.clone(), packed(prepared))).collect();
        let manifest = Manifest {
            version: 1,
            job: checkpoints.store.job().to_owned(),
            lineage: checkpoints.lineage,
            sequence: snapshot.epoch,
            parent: checkpoints.parent,
            epoch: snapshot.epoch,
            generation: checkpoints.store.generation(),
            taken: now().0,
            is_end,
            decision,
            origin: checkpoints.origin.clone(),
            savepoint: None,
            plan: checkpoints.plan.to_vec(),
            operators: BTreeMap::new(),
            sources: sources(&snapshot),
            sinks,
            ended: snapshot.ended.clone(),
            timeline: Timeline {
                align_ms: millis(begun.elapsed()),
                is_changes: mode == SnapshotMode::Changes,
                ..Timeline::default()
            },
        };
        let epoch = snapshot.epoch;
        let base = checkpoints.base.filter(|_| mode == SnapshotMode::Changes).map(|base| base.files);
        let task = tokio::spawn(write(checkpoints.store, snapshot, manifest, base.unwrap_or_default()));
        self.saving = Some(Saving { epoch, is_end, is_last, prepared, task });
    }

    /// The job has ended by itself: its last checkpoint has no state any more, only what is to be committed. If it was
    /// ended for a savepoint it has.
    pub(super) fn save_end(&mut self) {
        self.epoch += 1;
        let snapshot = match self.savepoints.is_draining {
            true => self.drained(self.epoch),
            false => JobSnapshot { epoch: self.epoch, ..JobSnapshot::default() },
        };
        self.save(snapshot, Instant::now(), Some(Last::End));
    }

    /// A checkpoint has been written, or not.
    pub(super) async fn on_saved(&mut self, saved: Result<Manifest, NotSaved>) -> Result<()> {
        let (Some(saving), Some(checkpoints)) = (self.saving.take(), self.options.checkpoints.clone()) else {
            return Ok(());
        };
        let manifest = match saved {
            Ok(manifest) => manifest,
            Err(NotSaved::State(e)) => return self.not_saved(saving, e, &checkpoints),
            Err(NotSaved::Manifest(e)) => return Err(e.context(format!("checkpoint {}", saving.epoch))),
        };
        self.failures = 0;
        let epoch = Epoch(saving.epoch);
        let mut order: Vec<usize> = (0..self.sinks.len()).collect();
        order.sort_by_key(|i| self.sinks[*i].decision.is_none());
        for i in order {
            let prepared = saving.prepared.get(i).cloned().unwrap_or_default();
            self.sinks[i].committer.commit(epoch, prepared).await?;
            failpoint("sink-committed");
        }
        let store = &checkpoints.store;
        store.mark_committed(saving.epoch).await?;
        failpoint("checkpoint-complete");
        if let Some(kept) = &mut self.options.checkpoints {
            kept.parent = Some(saving.epoch);
            kept.stand_on(&manifest);
        }
        self.make_savepoint(&manifest);
        if saving.is_end {
            self.finish_copy().await?;
            finish(store, &self.metrics).await;
        } else if !self.is_copying()
            && let Err(e) = store.collect(checkpoints.options.retained).await
        {
            let key = "old checkpoints";
            self.metrics.notices.once(key, || format!("old checkpoints could not be removed: {e}"));
        }
        failpoint("collected");
        self.complete(if saving.is_end { FINAL_EPOCH } else { epoch });
        Ok(())
    }

    fn not_saved(&mut self, saving: Saving, e: Error, checkpoints: &Checkpoints) -> Result<()> {
        let epoch = saving.epoch;
        let e = e.context(format!("checkpoint {epoch}"));
        // A transaction holds the rows of one epoch; the manifest of another cannot take it over.
        let is_decided = self.sinks.iter().any(|s| s.decision.is_some());
        if !e.is_retryable() || saving.is_last || is_decided {
            return Err(e);
        }
        self.savepoint_failed(&e);
        self.failures += 1;
        let most = checkpoints.options.tolerable_failures;
        if self.failures > most {
            return Err(e);
        }
        let text = format!("{e}; {} of {most} failures in a row that are tolerated", self.failures);
        self.metrics.notices.once(&format!("checkpoint {epoch}"), || text);
        // Operators have forgotten what had changed by then.
        if let Some(kept) = &mut self.options.checkpoints {
            kept.base = None;
        }
        // The next checkpoint holds it, too.
        for (sink, prepared) in self.sinks.iter_mut().zip(saving.prepared) {
            let before = prepared.into_iter().map(|committable| (epoch, committable));
            sink.prepared.splice(0..0, before);
        }
        Ok(())
    }

    /// When the barrier under way has taken too long.
    pub(super) fn expires(&self) -> Option<Instant> {
        let timeout = self.options.checkpoints.as_ref()?.options.timeout;
        self.pending.as_ref().map(|p| p.begun + timeout)
    }

    pub(super) fn expired(&self) -> Error {
        let epoch = self.pending.as_ref().map_or(self.epoch, |p| p.epoch.0);
        let waiting = self.pending.as_ref().map_or(0, |p| p.waiting.len());
        Error::external(format!(
            "checkpoint {epoch} expired before it was complete: {waiting} of {} tasks had not passed its barrier",
            self.tasks.len()
        ))
        .hint("'execution.checkpointing.timeout' sets how long one may take")
    }

    /// When the next checkpoint may begin, if that is later than now.
    pub(super) fn earliest(&self) -> Option<Instant> {
        let pause = self.options.checkpoints.as_ref()?.options.min_pause;
        self.completed.map(|at| at + pause).filter(|at| *at > Instant::now())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn sources(snapshot: &JobSnapshot) -> BTreeMap<String, SourceState> {
    let mut sources: BTreeMap<String, SourceState> = BTreeMap::new();
    for (uid, positions) in &snapshot.sources {
        sources.entry(uid.clone()).or_default().positions.clone_from(positions);
    }
    for (uid, watermark) in &snapshot.watermarks {
        sources.entry(uid.clone()).or_default().watermark = Some(watermark.0);
    }
    sources
}

/// Removes what is kept of a job that has ended and whose sinks have committed.
pub(crate) async fn finish(store: &JobStore, metrics: &JobMetrics) {
    if let Err(e) = store.finish().await {
        metrics.notices.once("checkpoints of the end", || {
            format!("the job has ended, but its checkpoints could not be removed: {e}; run again, it only removes them")
        });
    }
}

/// Writes the state and then the manifest.
async fn write(
    store: Arc<JobStore>,
    snapshot: JobSnapshot,
    mut manifest: Manifest,
    base: BTreeMap<String, Vec<SegmentRef>>,
) -> Result<Manifest, NotSaved> {
    /// One process may write a number several times, when it restarts the job.
    static ATTEMPT: AtomicU64 = AtomicU64::new(0);
    let started = Instant::now();
    let attempt = format!("-{}", ATTEMPT.fetch_add(1, Ordering::Relaxed));
    manifest.operators =
        store.write_state(snapshot.epoch, &attempt, &snapshot.operators).await.map_err(NotSaved::State)?;
    failpoint("state-written");
    drop(snapshot);
    let written = manifest.operators.values().flatten();
    manifest.timeline.bytes = written.clone().map(|s| s.bytes).sum();
    manifest.timeline.rows = written.map(|s| s.rows).sum();
    manifest.timeline.write_ms = millis(started.elapsed());
    for (uid, files) in base {
        let lasting: Vec<SegmentRef> = files.into_iter().filter(|file| file.lasts).collect();
        if !lasting.is_empty() {
            manifest.operators.entry(uid).or_default().splice(0..0, lasting);
        }
    }
    store.write_manifest(&manifest).await.map_err(NotSaved::Manifest)?;
    failpoint("manifest-written");
    Ok(manifest)
}

//! What is committed, when every task has passed a barrier or has ended.
//!
//! ```text
//!  snapshot + what had ended before ─► positions, to sinks that keep them ─► committers ─► tasks are told
//! ```

use std::collections::BTreeSet;
use std::time::Instant;

use super::Coordinator;
use crate::checkpoint::JobSnapshot;
use crate::edges::SplitState;
use crate::error::Result;
use crate::runtime::task::FINAL_EPOCH;
use crate::stream::Epoch;
use crate::stream::snapshot::void_groups;

impl Coordinator {
    /// Tells sinks that keep it how far the source has been read.
    pub(super) fn tell_positions(&mut self, snapshot: &JobSnapshot, last: bool) {
        if self.options.claim.is_none() {
            return;
        }
        let positions: Vec<SplitState> = snapshot.sources.values().flatten().cloned().collect();
        for sink in &mut self.sinks {
            sink.committer.on_positions(positions.clone(), last);
        }
    }

    /// An epoch is complete everywhere.
    pub(super) fn complete(&mut self, epoch: Epoch) {
        self.completed = Some(Instant::now());
        self.metrics.committed();
        self.committed.send_replace(epoch.0);
    }

    /// What is left to commit at the end of a job whose checkpoints are not kept, or which was stopped.
    pub(super) async fn commit_end(&mut self) -> Result<()> {
        let prepared = self.sinks.iter().any(|s| !s.prepared.is_empty());
        // Without a stop, after which the last barrier was the last commit: records without rows count, too.
        let ended = self.options.claim.is_some() && self.tasks.iter().all(|t| t.ended.is_some());
        if ended {
            let mut snapshot = JobSnapshot::default();
            self.add_ended(&BTreeSet::new(), &mut snapshot);
            self.tell_positions(&snapshot, true);
        }
        // Without any earlier epoch the committers are called even for nothing: an OVERWRITE by no rows is one.
        if prepared || ended || self.epoch == 0 {
            self.commit(Epoch(self.epoch + 1)).await?;
        }
        self.committed.send_replace(FINAL_EPOCH.0);
        Ok(())
    }

    /// Adds the state of tasks that had ended before the barrier.
    pub(super) fn add_ended(&self, taken: &BTreeSet<usize>, snapshot: &mut JobSnapshot) {
        let mut running: BTreeSet<usize> = BTreeSet::new();
        for (i, task) in self.tasks.iter().enumerate() {
            let Some((operators, splits)) = task.ended.as_ref().filter(|_| !taken.contains(&i)) else {
                running.insert(task.chain);
                continue;
            };
            let mut operators = operators.clone();
            // All that they have, and not what has changed.
            for (uid, tables) in &mut operators {
                if self.options.checkpoints.as_ref().is_some_and(|c| c.stands_on(uid)) {
                    void_groups(tables, task.key_groups);
                }
            }
            snapshot.add_operators(operators);
            if let Some(uid) = &task.source {
                snapshot.sources.entry(uid.clone()).or_default().extend(splits.iter().cloned());
            }
        }
        let ended = self.chains.iter().enumerate().filter(|(chain, _)| !running.contains(chain));
        snapshot.ended.extend(ended.flat_map(|(_, nodes)| nodes.iter().cloned()));
        // What had ended before the job was restored has, while its tasks are not there again.
        snapshot.ended.extend(self.ended_before.iter().cloned());
    }

    /// Commits what the sinks have prepared.
    pub(super) async fn commit(&mut self, epoch: Epoch) -> Result<()> {
        for sink in &mut self.sinks {
            let prepared = sink.take(epoch.0);
            if let Err(e) = sink.committer.commit(epoch, prepared.clone()).await {
                // The other sinks still have theirs, to be aborted.
                sink.committer.abort(Some(epoch), prepared).await;
                return Err(e);
            }
        }
        Ok(())
    }
}

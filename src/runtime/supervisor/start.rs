//! Starting a job from a savepoint, or from a checkpoint of another job.

use super::claims;
use crate::checkpoint::manifest::{Origin, PlanNode};
use crate::checkpoint::savepoint::Savepoint;
use crate::checkpoint::store::shown_time;
use crate::checkpoint::{JobSnapshot, JobStore, Manifest, Storage};
use crate::error::{Error, Result};
use crate::runtime::job::JobMetrics;

/// What a job starts from.
#[derive(Debug, Clone)]
pub struct StartFrom {
    /// The savepoint, or the checkpoint.
    pub place: Storage,
    /// Whether state that no node of the plan takes up is left behind. Otherwise it is an error.
    pub ignores_unclaimed: bool,
}

impl StartFrom {
    /// Whether a job with the checkpoint `newest` has begun with it. Whoever says where it was need not have it any more.
    ///
    /// # Errors
    /// As [`Savepoint::open`].
    pub(super) async fn is_begun(&self, newest: &Manifest) -> Result<bool> {
        let Some(origin) = &newest.origin else { return Ok(false) };
        Ok(origin.path == self.place.to_string()
            || origin.id == Savepoint::open(self.place.clone()).await?.id())
    }

    /// The state that a job with this plan begins with; `own` is its folder. Nothing is left to be committed.
    ///
    /// # Errors
    /// External; Data for damaged files; Validation if the savepoint does not fit the plan, or is the job's own checkpoint.
    pub(super) async fn begin(
        &self,
        own: Option<&JobStore>,
        plan: &[PlanNode],
        metrics: &JobMetrics,
    ) -> Result<(Origin, JobSnapshot)> {
        let savepoint = &Savepoint::open(self.place.clone()).await?;
        let manifest = &savepoint.manifest;
        let is_own = |own: &JobStore| savepoint.job_folder().is_some_and(|job| job.same_place(own.storage()));
        if own.is_some_and(is_own) {
            return Err(Error::validation("the job would start from its own checkpoint, which it removes")
                .context(savepoint.to_string())
                .hint(
                    "without 'execution.state-recovery.path' it goes on from its newest checkpoint; with another \
                     'pipeline.name' it can start from any",
                ));
        }
        if manifest.savepoint.as_ref().is_some_and(|mark| mark.drained) {
            return Err(Error::validation(
                "its job was drained for it: its windows are closed, and time is at its end",
            )
            .context(savepoint.to_string())
            .hint("a savepoint that is taken without --drain can be started from"));
        }
        let left = claims::unclaimed(manifest, plan);
        if !self.ignores_unclaimed {
            claims::check(manifest, plan).map_err(|e| {
                e.context(savepoint.to_string()).hint(
                    "SET 'execution.state-recovery.ignore-unclaimed-state' = 'true' leaves that state behind",
                )
            })?;
        } else if !left.is_empty() {
            metrics.notices.once("unclaimed state", || {
                format!(
                    "state that nothing in the plan takes up is left behind: {}",
                    claims::named(manifest, &left)
                )
            });
        }
        let mut snapshot = savepoint.load().await?;
        snapshot.committables.clear();
        snapshot.operators.retain(|uid, _| !left.contains(uid.as_str()));
        snapshot.sources.retain(|uid, _| !left.contains(uid.as_str()));
        snapshot.watermarks.retain(|uid, _| !left.contains(uid.as_str()));
        snapshot.ended.retain(|uid| plan.iter().any(|node| node.uid == *uid));
        let (size, taken) = (manifest.state_bytes() as f64 / 1e6, shown_time(manifest.taken));
        metrics
            .notices
            .once("start", || format!("the job starts from {savepoint} of {taken} ({size:.1} MB of state)"));
        Ok((Origin { id: savepoint.id(), path: self.place.to_string() }, snapshot))
    }
}

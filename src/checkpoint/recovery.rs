//! Which checkpoint a job goes on from.
//!
//! ```text
//!  newest manifest ─► the job has ended with it                       ─► nothing to do but to remove it
//!                  ─► its sinks have committed                        ─► that one
//!                  ─► not marked, and the manifest decides             ─► that one; its sinks commit again
//!                  ─► not marked, and a transaction decides: committed ─► that one; the other sinks commit again
//!                                                            not       ─► its parent, which was complete before it
//! ```
//!
//! Commits can be repeated, all but those of transactions: whoever cannot repeat its commit decides whether the
//! checkpoint counts, and the others follow.

use super::manifest::Manifest;
use super::store::{JobStore, Listed};
use crate::error::Result;

/// What to go on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The checkpoint.
    pub manifest: Manifest,
    /// Whether its sinks may not have committed yet.
    pub commit_again: bool,
}

/// What a listing says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// There is nothing.
    Begin,
    /// The job has ended, and its process died before it could say so.
    Ended,
    /// It is the newest, and certain.
    GoOn,
    /// It is the newest, and its sinks have to commit (again).
    CommitAgain,
    /// It is the newest, and a transaction says whether it counts.
    Ask,
}

/// What the newest checkpoint is.
pub fn judge(newest: Option<(Listed, &Manifest)>) -> Verdict {
    match newest {
        None => Verdict::Begin,
        Some((listed, manifest)) if listed.committed && manifest.is_end => Verdict::Ended,
        Some((listed, _)) if listed.committed => Verdict::GoOn,
        Some((_, manifest)) if manifest.decision.is_some() => Verdict::Ask,
        Some(_) => Verdict::CommitAgain,
    }
}

/// Finds the checkpoint to go on from; `ask` says whether the transaction of a checkpoint has been committed.
///
/// # Errors
/// External; Data for a damaged manifest.
pub async fn recover(
    store: &JobStore,
    ask: impl AsyncFnOnce(&Manifest) -> Result<bool>,
) -> Result<Option<Recovery>> {
    let listed = store.list().await?;
    let Some(newest) = listed.last().copied() else { return Ok(None) };
    let manifest = store.manifest(newest.sequence).await?;
    Ok(match judge(Some((newest, &manifest))) {
        Verdict::Begin => None,
        Verdict::Ended | Verdict::GoOn => Some(Recovery { manifest, commit_again: false }),
        Verdict::CommitAgain => Some(Recovery { manifest, commit_again: true }),
        Verdict::Ask if ask(&manifest).await? => Some(Recovery { manifest, commit_again: true }),
        Verdict::Ask => match manifest.parent {
            // Only when a checkpoint was complete is the next one begun.
            Some(parent) => Some(Recovery { manifest: store.manifest(parent).await?, commit_again: false }),
            None => None,
        },
    })
}

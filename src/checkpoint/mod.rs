//! Checkpoints: the state of a whole job at one epoch, in files that outlive its process.
//!
//! ```text
//!  <dir>/<job>/
//!    lock                            held by the live process (local folders)
//!    generation/0000000003.json      one per process that took the job, created if absent: the newest owns it
//!    chk/0000000042/manifest.json    the checkpoint: epoch, positions, committables, which segments
//!    chk/0000000042/committed        its sinks have committed
//!    state/<uid>/3-42-0.segment      rows of an operator's state tables
//!    savepoint/<id>.request.json     somebody wants a savepoint of the job
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`storage`] | a folder on disk or in a bucket, whose files are created once |
//! | [`segment`] | the format of state files |
//! | [`increments`] | what is left of tables that several checkpoints have written |
//! | [`manifest`] | the format of manifests |
//! | [`store`] | the folder of one job: take it over, write, list, read, collect |
//! | [`recovery`] | which checkpoint a job goes on from |
//! | [`savepoint`] | a checkpoint by itself, in a folder that can be copied |
//! | [`requests`] | asking a job for a savepoint |
//!
//! Every file is created once and never changed, so that the same protocol holds on local disks and object stores.
//! Manifests are numbered without gaps, each names its parent, and the one that creates a number owns it: a process that
//! was taken for dead finds its number taken and stops before its sinks commit anything.

mod holder;
pub mod increments;
pub mod manifest;
pub mod recovery;
pub mod requests;
pub mod savepoint;
pub mod segment;
pub mod storage;
pub mod store;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::edges::{Committable, SplitState};
use crate::stream::Timestamp;
use crate::stream::snapshot::OperatorSnapshot;

pub use manifest::Manifest;
pub use storage::Storage;
pub use store::JobStore;

/// State of a whole job at one epoch, by operator uid.
#[derive(Debug, Clone, Default)]
pub struct JobSnapshot {
    /// State of operators.
    pub operators: BTreeMap<String, OperatorSnapshot>,
    /// Positions of sources.
    pub sources: BTreeMap<String, Vec<SplitState>>,
    /// Watermarks that sources had reached.
    pub watermarks: BTreeMap<String, Timestamp>,
    /// Nodes of chains all of whose tasks have ended: they have said what they say at the end.
    pub ended: BTreeSet<String>,
    /// What its sinks commit, by sink uid.
    pub committables: BTreeMap<String, Vec<Committable>>,
    /// Number of its epoch; a job that goes on from it counts on.
    pub epoch: u64,
}

impl JobSnapshot {
    /// Adds the state of a task's operators.
    pub fn add_operators(&mut self, operators: Vec<(String, OperatorSnapshot)>) {
        for (uid, tables) in operators {
            let all = self.operators.entry(uid).or_default();
            for (table, parts) in tables {
                all.entry(table).or_default().extend(parts);
            }
        }
    }
}

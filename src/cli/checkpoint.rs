//! `tidelake checkpoint`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};

use crate::checkpoint::store::{list, manifest, shown_time};
use crate::checkpoint::{Manifest, Storage};
use crate::error::Result;

use super::args::{CheckpointCommand, ListArgs};
use super::render::print;

pub(super) async fn main(command: CheckpointCommand) -> ExitCode {
    let CheckpointCommand::List(args) = command;
    match list_all(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

/// What can be said of a checkpoint from its manifest and its mark.
fn status(manifest: &Manifest, committed: bool) -> &'static str {
    match (manifest.is_end, committed, &manifest.decision) {
        (true, true, _) => "ended",
        (false, true, _) => "complete",
        (_, false, Some(_)) => "undecided",
        (_, false, None) => "committing",
    }
}

async fn list_all(args: ListArgs) -> Result<()> {
    let settings: BTreeMap<String, String> = args.set.into_iter().collect();
    let jobs = Storage::open(&args.dir, &std::env::current_dir()?, &|key| settings.get(key).cloned())?;
    let mut found: Vec<(Manifest, bool)> = Vec::new();
    for folder in jobs.folders().await? {
        let storage = jobs.folder(&folder);
        for listed in list(&storage).await? {
            found.push((manifest(&storage, listed.sequence).await?, listed.committed));
        }
    }
    let texts = |of: &dyn Fn(&(Manifest, bool)) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(found.iter().map(of)))
    };
    let numbers = |of: &dyn Fn(&Manifest) -> u64| -> ArrayRef {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        Arc::new(Int64Array::from_iter_values(found.iter().map(|(m, _)| number(of(m)))))
    };
    let batch = RecordBatch::try_from_iter([
        ("job", texts(&|(m, _)| m.job.clone())),
        ("checkpoint", numbers(&|m| m.sequence)),
        ("taken", texts(&|(m, _)| shown_time(m.taken))),
        ("status", texts(&|(m, committed)| status(m, *committed).to_owned())),
        ("state bytes", numbers(&|m| m.state_bytes())),
        ("state rows", numbers(&|m| m.operators.values().flatten().map(|s| s.rows).sum())),
        ("written bytes", numbers(&|m| m.timeline.bytes)),
        ("align ms", numbers(&|m| m.timeline.align_ms)),
        ("write ms", numbers(&|m| m.timeline.write_ms)),
    ])?;
    print(&batch, args.format)
}

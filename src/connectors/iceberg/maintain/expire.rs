//! Old snapshots leave the table, and with them the files that only they named.
//!
//! ```text
//!  refs ─► snapshots that stay: heads, tags, the newest n, the young ones
//!  others ─► RemoveSnapshots (one commit) ─► their manifest lists, manifests, data and delete files
//!                                            minus all that the snapshots that stay name ─► deleted
//! ```
//!
//! What a job that may come back has committed is told by the snapshots of its commits; where those go, a property tells it.
//!
//! Killed between commit and deletion it leaves files that nothing names: the sweep for orphans finds them.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use iceberg::spec::{MAIN_BRANCH, ManifestFile, SnapshotRef, TableMetadata};
use iceberg::table::Table;
use iceberg::{ErrorKind, TableRequirement, TableUpdate};
use serde::Deserialize;

use super::super::backend::Update;
use super::super::commit::Target;
use super::super::mark::outliving;
use super::super::produce::load;
use super::{Maintained, Maintenance};
use crate::error::{Error, Result};
use crate::failpoint::failpoint;

const SNAPSHOT_AGE: Duration = Duration::from_secs(5 * 24 * 3600);
/// How often others may commit in between.
const ATTEMPTS: usize = 10;
/// Files that are deleted at the same time.
const PARALLEL_DELETES: usize = 16;

/// A branch or tag, with what it keeps.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Reference {
    snapshot_id: i64,
    #[serde(default)]
    min_snapshots_to_keep: Option<usize>,
    #[serde(default)]
    max_snapshot_age_ms: Option<u64>,
}

/// Lets snapshots go.
///
/// # Errors
/// External.
pub(super) async fn expire(target: &Target, what: &Maintenance, done: &mut Maintained) -> Result<()> {
    for _ in 0..ATTEMPTS {
        let table = target.lake.load(&target.ident).await?;
        let expired = old(table.metadata(), what)?;
        if expired.is_empty() {
            return Ok(());
        }
        let ids: HashSet<i64> = expired.iter().map(|s| s.snapshot_id()).collect();
        let metadata = table.metadata();
        let mut update = Update {
            requirements: vec![
                TableRequirement::UuidMatch { uuid: metadata.uuid() },
                TableRequirement::RefSnapshotIdMatch {
                    r#ref: MAIN_BRANCH.to_owned(),
                    snapshot_id: metadata.current_snapshot_id(),
                },
            ],
            changes: vec![TableUpdate::RemoveSnapshots { snapshot_ids: ids.iter().copied().collect() }],
        };
        let outliving = outliving(metadata, &ids);
        if !outliving.is_empty() {
            update.changes.insert(0, TableUpdate::SetProperties { updates: outliving });
        }
        let named = files_of(target, &table, |id| ids.contains(&id)).await?;
        if !what.dry_run {
            if let Err(e) = target.lake.backend().commit(&table, update).await {
                if e.kind() == ErrorKind::CatalogCommitConflicts {
                    continue;
                }
                // Perhaps it was done all the same: the next run or the sweep for orphans finds out.
                return Err(target.lake.error("expiry of snapshots", &e));
            }
            failpoint("snapshots-expired");
        }
        // What was committed meanwhile may name files of them: manifests are handed on.
        let now = if what.dry_run { table } else { target.lake.load(&target.ident).await? };
        let kept = files_of(target, &now, |id| !ids.contains(&id)).await?;
        let gone: Vec<String> = named.difference(&kept).cloned().collect();
        done.expired += ids.len();
        done.expired_files += gone.len();
        if !what.dry_run {
            delete(&now, gone).await;
        }
        return Ok(());
    }
    done.skipped.push("old snapshots: others commit all the time".to_owned());
    Ok(())
}

/// Deletes files. Best effort: what stays is found as an orphan.
pub(super) async fn delete(table: &Table, files: Vec<String>) {
    let delete = |path: String| async move {
        let _ = table.file_io().delete(&path).await;
    };
    futures::stream::iter(files).for_each_concurrent(PARALLEL_DELETES, delete).await;
}

/// The snapshots that go.
fn old(metadata: &TableMetadata, what: &Maintenance) -> Result<Vec<SnapshotRef>> {
    let property = |key: &str| metadata.properties().get(key).and_then(|v| v.parse::<u64>().ok());
    let age = what.snapshot_age.unwrap_or_else(|| {
        property("history.expire.max-snapshot-age-ms").map_or(SNAPSHOT_AGE, Duration::from_millis)
    });
    let least = what.snapshots_to_keep.unwrap_or_else(|| {
        property("history.expire.min-snapshots-to-keep").and_then(|n| usize::try_from(n).ok()).unwrap_or(1)
    });
    let now = chrono::Utc::now().timestamp_millis();
    let is_young = |s: &SnapshotRef, age: u64| now.saturating_sub(s.timestamp_ms()).unsigned_abs() < age;
    let default_age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    // The crate does not give them.
    let json = serde_json::to_value(metadata).map_err(|e| Error::internal(e.to_string()))?;
    let refs = json.get("refs").cloned().unwrap_or_default();
    let refs: HashMap<String, Reference> = serde_json::from_value(refs).unwrap_or_default();
    let is_tag =
        |name: &str| json.pointer(&format!("/refs/{}/type", escape(name))).is_some_and(|t| t == "tag");
    let mut kept: HashSet<i64> = metadata.current_snapshot_id().into_iter().collect();
    for (name, reference) in &refs {
        kept.insert(reference.snapshot_id);
        if is_tag(name) {
            continue;
        }
        // A branch keeps its young snapshots and its newest ones.
        let (least, age) = (reference.min_snapshots_to_keep.unwrap_or(least), reference.max_snapshot_age_ms);
        let mut next = metadata.snapshot_by_id(reference.snapshot_id);
        let mut n = 0;
        while let Some(snapshot) = next {
            n += 1;
            if n > least && !is_young(snapshot, age.unwrap_or(default_age)) {
                break;
            }
            kept.insert(snapshot.snapshot_id());
            next = snapshot.parent_snapshot_id().and_then(|id| metadata.snapshot_by_id(id));
        }
    }
    let goes = |s: &&SnapshotRef| !kept.contains(&s.snapshot_id()) && !is_young(s, default_age);
    Ok(metadata.snapshots().filter(goes).cloned().collect())
}

fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// All files that some snapshots read, and their lists and manifests.
pub(super) async fn files_of(
    target: &Target,
    table: &Table,
    of: impl Fn(i64) -> bool,
) -> Result<HashSet<String>> {
    let external = |e: iceberg::Error| target.lake.error("a manifest", &e);
    let mut files = HashSet::new();
    let mut all: HashMap<String, ManifestFile> = HashMap::new();
    for snapshot in table.metadata().snapshots().filter(|s| of(s.snapshot_id())) {
        files.insert(snapshot.manifest_list().to_owned());
        let list = table.manifest_list_reader(snapshot).load().await.map_err(external)?;
        all.extend(list.entries().iter().map(|m| (m.manifest_path.clone(), m.clone())));
    }
    let mut read = load(table, all.into_values().collect());
    while let Some((file, manifest)) = read.try_next().await.map_err(external)? {
        files.insert(file.manifest_path.clone());
        // Files that went are read by older snapshots, as far as there are any.
        let live = manifest.entries().iter().filter(|e| e.is_alive());
        files.extend(live.map(|e| e.file_path().to_owned()));
    }
    Ok(files)
}

//! Files in the folder of a table that nothing names: of runs that died, and of commits that lost against others.
//!
//! ```text
//!  list data/ and metadata/ ─► older than three days ─► minus what snapshots, metadata log and statistics name ─► deleted
//! ```
//!
//! Where a table shares its folder with another one, which had its name before it was renamed, nothing is swept.
//!
//! A young file may belong to a commit under way, of whatever process: it stays. What the table names is read after the files
//! are listed, so that what was committed in between counts as named.

use std::collections::HashSet;
use std::sync::Arc;

use futures::TryStreamExt;
use iceberg::spec::TableMetadata;
use iceberg::table::Table;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path as StorePath;
use url::Url;

use super::super::commit::Target;
use super::expire::{delete, files_of};
use super::{Maintained, Maintenance};
use crate::edges::s3;
use crate::error::{Error, Result, ResultExt};

/// A file that was found.
struct Found {
    /// As a key that any spelling of its address gives.
    key: String,
    /// As the storage takes it.
    location: String,
    bytes: u64,
    /// Old enough to be nobody's.
    is_old: bool,
}

/// Deletes what nothing names.
///
/// # Errors
/// External.
pub(super) async fn sweep(target: &Target, what: &Maintenance, done: &mut Maintained) -> Result<()> {
    let table = target.lake.load(&target.ident).await?;
    let root = table.metadata().location().trim_end_matches('/').to_owned();
    let is_shared = target.lake.backend().is_in_use(&root, Some(&target.ident)).await;
    let is_shared = is_shared.map_err(|e| target.lake.error(target.lake.shown(&target.ident), &e))?;
    let shared = format!("orphans: another table has, or had, its files in {root}, too");
    if is_shared == Some(true) {
        done.skipped.push(shared);
        return Ok(());
    }
    let Some(found) = list(target, &root, what).await? else {
        done.skipped.push(format!("orphans: files at {root} cannot be listed"));
        return Ok(());
    };
    let table = target.lake.load(&target.ident).await?;
    if table.metadata().location().trim_end_matches('/') != root {
        return Ok(());
    }
    let named: HashSet<String> = named(target, &table).await?.iter().map(|path| key(path)).collect();
    let unnamed: Vec<Found> = found.into_iter().filter(|f| !named.contains(&f.key)).collect();
    if is_shared.is_none() && is_of_two(&table, &unnamed).await {
        done.skipped.push(shared);
        return Ok(());
    }
    let orphans: Vec<Found> = unnamed.into_iter().filter(|f| f.is_old).collect();
    done.orphans += orphans.len();
    done.orphan_bytes += orphans.iter().map(|f| f.bytes).sum::<u64>();
    if !what.dry_run {
        delete(&table, orphans.into_iter().map(|f| f.location).collect()).await;
    }
    Ok(())
}

/// Whether there is metadata of another table among the files: a server may give a new table the folder of one that was renamed.
async fn is_of_two(table: &Table, unnamed: &[Found]) -> bool {
    for file in unnamed.iter().filter(|f| is_metadata(&f.location)) {
        let other = TableMetadata::read_from(table.file_io(), &file.location).await;
        if other.is_ok_and(|other| other.uuid() != table.metadata().uuid()) {
            return true;
        }
    }
    false
}

fn is_metadata(location: &str) -> bool {
    location.ends_with(".metadata.json")
}

/// The address of a file without what may be spelled in two ways: `s3a://b/x`, `file:/x`, `/x`.
fn key(location: &str) -> String {
    let path = match location.split_once("://") {
        Some(("file", path)) => path,
        Some((_, path)) => return path.trim_start_matches('/').to_owned(),
        None => location.strip_prefix("file:").unwrap_or(location),
    };
    format!("/{}", path.trim_start_matches('/'))
}

/// Old files, and metadata of any age, in the folders of a table; `None` if its storage cannot be listed.
async fn list(target: &Target, root: &str, what: &Maintenance) -> Result<Option<Vec<Found>>> {
    let culprit = || format!("files at {root}");
    let (store, prefix): (Arc<dyn ObjectStore>, String) = if s3::is_s3(root) {
        let address = Url::parse(root).map_err(|e| Error::external(e.to_string())).context(culprit)?;
        let Some(bucket) = address.host_str() else { return Ok(None) };
        let properties = &target.lake.config.properties;
        let setting = |key: &str| {
            let own = match key {
                "s3.access-key" => "s3.access-key-id",
                "s3.secret-key" => "s3.secret-access-key",
                other => other,
            };
            properties.get(own).cloned()
        };
        (s3::bucket(bucket, &setting).context(culprit)?, address.path().trim_start_matches('/').to_owned())
    } else if let Some(path) =
        key(root).strip_prefix('/').filter(|_| !root.contains("://") || root.starts_with("file:"))
    {
        let store = LocalFileSystem::new_with_prefix("/").map_err(|e| Error::external(e.to_string()))?;
        (Arc::new(store), path.to_owned())
    } else {
        return Ok(None);
    };
    let before = chrono::Utc::now()
        - chrono::TimeDelta::from_std(what.orphan_age).map_err(|e| Error::validation(e.to_string()))?;
    let mut found = Vec::new();
    for folder in ["data", "metadata"] {
        let at =
            StorePath::parse(format!("{prefix}/{folder}")).map_err(|e| Error::external(e.to_string()))?;
        let mut files = store.list(Some(&at));
        while let Some(file) =
            files.try_next().await.map_err(|e| Error::external(e.to_string())).context(culprit)?
        {
            let is_old = file.last_modified < before;
            if !is_old && !is_metadata(file.location.as_ref()) {
                continue;
            }
            let Some(rest) = file.location.as_ref().strip_prefix(prefix.as_str()) else { continue };
            let location = format!("{root}{rest}");
            found.push(Found { key: key(&location), location, bytes: file.size, is_old });
        }
    }
    Ok(Some(found))
}

/// All that a table names.
async fn named(target: &Target, table: &Table) -> Result<HashSet<String>> {
    let metadata = table.metadata();
    let mut files = files_of(target, table, |_| true).await?;
    files.extend(table.metadata_location().map(str::to_owned));
    files.extend(metadata.metadata_log().iter().map(|l| l.metadata_file.clone()));
    files.extend(metadata.statistics_iter().map(|s| s.statistics_path.clone()));
    files.extend(metadata.partition_statistics_iter().map(|s| s.statistics_path.clone()));
    // What Hadoop's catalogs keep there.
    let root = metadata.location().trim_end_matches('/');
    files.insert(format!("{root}/metadata/version-hint.text"));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::key;

    #[test]
    fn spellings_of_an_address() {
        assert_eq!(key("file:///a/b"), "/a/b");
        assert_eq!(key("file:/a/b"), key("/a/b"));
        assert_eq!(key("s3://lake/a"), key("s3a://lake/a"));
    }
}

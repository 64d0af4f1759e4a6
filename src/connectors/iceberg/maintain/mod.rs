//! Keeping tables small: what commits leave behind is put together and thrown away.
//!
//! ```text
//!  table ─► compact   small files and files with deleted rows ─► few big ones: snapshots that change no row
//!        ─► expire    old snapshots leave the table ─► files that only they named are deleted
//!        ─► orphans   files in the folder of the table that nothing names, from runs that died
//! ```
//!
//! All of it is done by commits like those of rows, beside writers of this and other processes and engines: whoever comes
//! second looks again. Nothing is deleted that a reader of a kept snapshot may want, nor what is young enough to be a
//! commit under way. How far a source was read is in the properties of the table and survives all of it.

mod compact;
mod expire;
mod orphans;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use iceberg::TableIdent;

use super::commit::Target;
use super::config::CatalogConfig;
use super::lake::Lake;
use crate::edges::Notices;
use crate::error::{Error, Result, ResultExt};
use crate::options::Options;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maintenance {
    /// Put small files together.
    pub compact: bool,
    /// Size of the files that are made; `None`: `write.target-file-size-bytes` of the table.
    pub target_file_size: Option<u64>,
    /// Files of a partition that are worth it.
    pub min_input_files: usize,
    /// Let old snapshots go.
    pub expire: bool,
    /// Age of snapshots that go; `None`: `history.expire.max-snapshot-age-ms` of the table, or five days.
    pub snapshot_age: Option<Duration>,
    /// Newest snapshots that stay whatever their age; `None`: `history.expire.min-snapshots-to-keep`, or one.
    pub snapshots_to_keep: Option<usize>,
    /// Delete files that nothing names.
    pub orphans: bool,
    /// Age of files that may be deleted: younger ones may belong to a commit under way.
    pub orphan_age: Duration,
    /// Only say what would be done.
    pub dry_run: bool,
}

impl Default for Maintenance {
    fn default() -> Self {
        Maintenance {
            compact: true,
            target_file_size: None,
            min_input_files: 5,
            expire: true,
            snapshot_age: None,
            snapshots_to_keep: None,
            orphans: true,
            orphan_age: Duration::from_secs(3 * 24 * 3600),
            dry_run: false,
        }
    }
}

/// What was done to a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Maintained {
    /// The table.
    pub table: String,
    /// Files that were put together, and what they became.
    pub compacted: (usize, usize),
    /// Bytes of those files.
    pub compacted_bytes: u64,
    /// Snapshots that went.
    pub expired: usize,
    /// Files that were deleted with them.
    pub expired_files: usize,
    /// Files that nothing named.
    pub orphans: usize,
    /// Their bytes.
    pub orphan_bytes: u64,
    /// What was left alone, and why.
    pub skipped: Vec<String>,
}

/// Maintains tables of a catalog: those whose `namespace.table` is `wanted`. `each` is told of every table as it is done.
///
/// # Errors
/// Validation for options of the catalog; External if it cannot be reached. What fails for a table is told to `each`, and
/// the others are done.
pub async fn maintain(
    options: &BTreeMap<String, String>,
    base_dir: &Path,
    wanted: &(dyn Fn(&str) -> bool + Sync),
    what: &Maintenance,
    each: &mut (dyn FnMut(&str, Result<Maintained>) + Send),
) -> Result<()> {
    let taken = Options::new("catalog", "iceberg", options);
    taken.take("type");
    let config = CatalogConfig::parse("tableflow", &taken, base_dir)?;
    taken.finish()?;
    let lake = Lake::open(config).await?;
    let failed = |e: iceberg::Error| lake.error("the catalog", &e);
    let mut namespaces = lake.client().list_namespaces(None).await.map_err(failed)?;
    namespaces.sort_by_key(|n| n.join("."));
    for namespace in namespaces {
        let mut tables = lake.client().list_tables(&namespace).await.map_err(failed)?;
        tables.sort_by(|a, b| a.name().cmp(b.name()));
        for ident in tables {
            let name = format!("{}.{}", ident.namespace().join("."), ident.name());
            if wanted(&name) {
                let done = maintain_table(&lake, &ident, what).await;
                each(&name, done);
            }
        }
    }
    Ok(())
}

/// Maintains one table.
///
/// # Errors
/// External; Unsupported for what the table has that is not understood.
pub(super) async fn maintain_table(
    lake: &Arc<Lake>,
    ident: &TableIdent,
    what: &Maintenance,
) -> Result<Maintained> {
    let target = Target { lake: Arc::clone(lake), ident: ident.clone(), notices: Notices::default() };
    let shown = lake.shown(ident);
    let mut done = Maintained {
        table: format!("{}.{}", ident.namespace().join("."), ident.name()),
        ..Maintained::default()
    };
    let collects = {
        let table = lake.load(ident).await?;
        !table.metadata().properties().get("gc.enabled").is_some_and(|v| v.eq_ignore_ascii_case("false"))
    };
    let steps = async {
        if what.compact {
            compact::compact(&target, what, &mut done).await?;
        }
        if !collects && (what.expire || what.orphans) {
            done.skipped.push("nothing is deleted: its property 'gc.enabled' is false".to_owned());
            return Ok(());
        }
        if what.expire {
            expire::expire(&target, what, &mut done).await?;
        }
        if what.orphans {
            orphans::sweep(&target, what, &mut done).await?;
        }
        Ok::<_, Error>(())
    };
    steps.await.context(|| shown)?;
    Ok(done)
}

//! Whole files go: INSERT OVERWRITE and TRUNCATE.
//!
//! | table | what goes |
//! |---|---|
//! | without partitions, TRUNCATE | all files |
//! | with partitions | the files of the partitions that the new rows are in (Iceberg's dynamic overwrite) |

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use futures::TryStreamExt;
use iceberg::TableIdent;
use iceberg::spec::{DataFile, Struct, TableMetadata};
use iceberg::table::Table;
use uuid::Uuid;

use super::super::commit::{Change, Content, IcebergCommitter, Target, data_files};
use super::super::connection::Connection;
use super::super::mark::Mark;
use super::super::prepared::Prepared;
use super::super::produce::{Edits, load, manifests};
use super::super::turns::turn;
use super::{can_take_rows, overtaken};
use crate::edges::{Committable, Notices, SinkCommitter};
use crate::error::{Error, Result};
use crate::stream::Epoch;

/// New rows take the place of those that are there.
struct Overwrite<'a> {
    shown: &'a str,
    files: &'a [Prepared],
    /// Whatever the partitions.
    whole: bool,
}

#[async_trait]
impl Content for Overwrite<'_> {
    async fn edits(&mut self, table: &Table, metadata: &TableMetadata) -> Result<Option<Edits>> {
        let external = |e: iceberg::Error| Error::external(format!("{}: {}", self.shown, e.message()));
        let added = data_files(self.shown, self.files, metadata)?;
        let spec = metadata.default_partition_spec_id();
        let partitions: HashSet<&Struct> = added.iter().map(DataFile::partition).collect();
        let whole = self.whole || metadata.default_partition_spec().is_unpartitioned();
        let mut removed = HashSet::new();
        let mut read = load(table, manifests(table).await.map_err(external)?);
        while let Some((file, manifest)) = read.try_next().await.map_err(external)? {
            for entry in manifest.entries().iter().filter(|e| e.is_alive()) {
                let is_of =
                    file.partition_spec_id == spec && partitions.contains(entry.data_file().partition());
                if whole || is_of {
                    removed.insert(entry.file_path().to_owned());
                }
            }
        }
        Ok(Some(Edits { added, removed, ..Edits::default() }))
    }
}

/// Takes all rows of a table away.
///
/// # Errors
/// External; Unsupported for tables whose rows cannot be taken away.
pub(in super::super) async fn truncate(
    connection: &Connection,
    ident: &TableIdent,
    notices: &Notices,
) -> Result<()> {
    let lake = connection.open().await?;
    let table = lake.load(ident).await?;
    can_take_rows(&lake, ident, table.metadata().format_version())?;
    let uuid = table.metadata().uuid();
    let target = Target { lake, ident: ident.clone(), notices: notices.clone() };
    commit(&target, Mark { pipeline: Uuid::now_v7(), epoch: 1, table: uuid, continues: None }, &[], true)
        .await
}

async fn commit(target: &Target, mark: Mark, files: &[Prepared], whole: bool) -> Result<()> {
    let shown = target.lake.shown(&target.ident);
    let change = Change {
        what: if whole { "TRUNCATE TABLE" } else { "INSERT OVERWRITE" }.to_owned(),
        judge: &mark,
        summary: mark.summary(),
        properties: HashMap::new(),
        evolution: None,
        recovered: false,
    };
    let _turn = turn(&target.lake, &target.ident).await;
    overtaken(&shown, target.commit(&change, &mut Overwrite { shown: &shown, files, whole }).await?)
}

/// Commits an INSERT OVERWRITE.
pub(in super::super) struct OverwriteCommitter {
    target: Target,
    pipeline: Uuid,
    table: Uuid,
    is_partitioned: bool,
}

impl OverwriteCommitter {
    /// For files of the job `pipeline`.
    pub fn new(target: Target, pipeline: Uuid, table: &TableMetadata) -> Self {
        let is_partitioned = !table.default_partition_spec().is_unpartitioned();
        OverwriteCommitter { target, pipeline, table: table.uuid(), is_partitioned }
    }
}

#[async_trait]
impl SinkCommitter for OverwriteCommitter {
    async fn commit(&mut self, epoch: Epoch, committables: Vec<Committable>) -> Result<()> {
        let files: Vec<Prepared> =
            committables.iter().map(|c| Prepared::from_bytes(c)).collect::<Result<_>>()?;
        // No row, no partition.
        if files.is_empty() && self.is_partitioned {
            return Ok(());
        }
        let mark = Mark { pipeline: self.pipeline, epoch: epoch.0, table: self.table, continues: None };
        commit(&self.target, mark, &files, false).await
    }

    async fn abort(&mut self, tried: Option<Epoch>, committables: Vec<Committable>) {
        IcebergCommitter::new(self.target.clone(), None, None).abort(tried, committables).await;
    }
}

//! Rows leave their places, and come again with new values if they are updated.
//!
//! ```text
//!  $file, $row, new values ─► RowChangeWriter ─► places + data files ─► RowChangeCommitter: one snapshot
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use futures::TryStreamExt;
use iceberg::TableIdent;
use iceberg::spec::{DataContentType, Operation, Struct, TableMetadata};
use iceberg::table::Table;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::commit::{Change, Content, IcebergCommitter, Target, data_files};
use super::super::lake::Lake;
use super::super::mark::{Mark, ancestry};
use super::super::prepared::Prepared;
use super::super::produce::{Edits, load, manifests};
use super::super::sink::{WriteOptions, write_setup};
use super::super::turns::turn;
use super::super::upsert::{Left, position_deletes};
use super::super::writer::IcebergWriter;
use super::places::Places;
use super::{overtaken, place_fields};
use crate::edges::{
    Committable, Notices, OpenedSink, Sink, SinkChangelog, SinkCommitter, SinkContext, SinkWriter,
};
use crate::error::{Error, Result, ResultExt};
use crate::stream::{ChangeBatch, Epoch};

/// The sink of an UPDATE or DELETE.
#[derive(Debug)]
pub(super) struct RowChangeSink {
    lake: Arc<Lake>,
    ident: TableIdent,
    /// The snapshot whose rows change.
    base: Option<i64>,
    /// Places, then the new values.
    schema: SchemaRef,
    /// What new values are of; `None` if rows only go.
    rows: Option<SchemaRef>,
    notices: Notices,
}

impl RowChangeSink {
    /// For rows of the snapshot `base`, which get new values of the schema `rows`, or go.
    pub fn new(
        lake: Arc<Lake>,
        ident: TableIdent,
        base: Option<i64>,
        rows: Option<SchemaRef>,
        notices: Notices,
    ) -> Self {
        let values = rows.iter().flat_map(|r| r.fields().iter().cloned());
        let schema = Arc::new(Schema::new(place_fields().into_iter().chain(values).collect::<Vec<_>>()));
        RowChangeSink { lake, ident, base, schema, rows, notices }
    }
}

#[async_trait]
impl Sink for RowChangeSink {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn changelog(&self) -> SinkChangelog {
        SinkChangelog::AppendOnly
    }

    async fn open(&self, context: &SinkContext) -> Result<OpenedSink> {
        let table = self.lake.load(&self.ident).await?;
        let (run, uuid) = (Uuid::now_v7(), table.metadata().uuid());
        let setup = match &self.rows {
            Some(rows) => {
                let lake = Arc::clone(&self.lake);
                Some(Arc::new(write_setup(lake, table, rows, &WriteOptions::default(), run, run)?))
            }
            None => None,
        };
        let writers = (0..context.parallelism.max(1))
            .map(|i| {
                let rows = setup.as_ref().map(|s| IcebergWriter::new(Arc::clone(s), i)).transpose()?;
                Ok(Box::new(RowChangeWriter { places: Places::default(), rows }) as Box<dyn SinkWriter>)
            })
            .collect::<Result<Vec<_>>>()?;
        let target =
            Target { lake: Arc::clone(&self.lake), ident: self.ident.clone(), notices: self.notices.clone() };
        let committer = RowChangeCommitter { target, base: self.base, run, table: uuid };
        Ok(OpenedSink { writers, committer: Box::new(committer) })
    }
}

/// What a writer hands over.
#[derive(Debug, Serialize, Deserialize)]
struct Changed {
    places: BTreeMap<String, String>,
    rows: Option<Prepared>,
}

struct RowChangeWriter {
    places: Places,
    rows: Option<IcebergWriter>,
}

#[async_trait]
impl SinkWriter for RowChangeWriter {
    async fn write(&mut self, batch: ChangeBatch) -> Result<()> {
        self.places.take(&batch.rows)?;
        if let Some(writer) = &mut self.rows {
            let values: Vec<usize> = (place_fields().len()..batch.rows.num_columns()).collect();
            writer.write(ChangeBatch::insert_only(batch.rows.project(&values)?)).await?;
        }
        Ok(())
    }

    async fn prepare(&mut self, epoch: Epoch) -> Result<Option<Committable>> {
        let rows = match &mut self.rows {
            Some(writer) => writer.prepare(epoch).await?,
            None => None,
        };
        let rows = rows.map(|bytes| Prepared::from_bytes(&bytes)).transpose()?;
        let places = std::mem::take(&mut self.places).store()?;
        if places.is_empty() && rows.is_none() {
            return Ok(None);
        }
        let changed = Changed { places, rows };
        serde_json::to_vec(&changed).map(Some).map_err(|e| Error::internal(e.to_string()))
    }

    async fn abort(&mut self) {
        if let Some(writer) = &mut self.rows {
            writer.abort().await;
        }
    }

    fn bytes_written(&self) -> u64 {
        self.rows.as_ref().map_or(0, SinkWriter::bytes_written)
    }
}

struct RowChangeCommitter {
    target: Target,
    base: Option<i64>,
    run: Uuid,
    table: Uuid,
}

fn parse(committables: &[Committable]) -> Result<(Places, Vec<Prepared>)> {
    let (mut places, mut files) = (Places::default(), Vec::new());
    for bytes in committables {
        let changed: Changed = serde_json::from_slice(bytes)
            .map_err(|e| Error::internal(format!("changed rows that were handed over are damaged: {e}")))?;
        places.take_over(changed.places)?;
        files.extend(changed.rows);
    }
    Ok((places, files))
}

#[async_trait]
impl SinkCommitter for RowChangeCommitter {
    async fn commit(&mut self, epoch: Epoch, committables: Vec<Committable>) -> Result<()> {
        let (places, files) = parse(&committables)?;
        if places.is_empty() {
            return Ok(());
        }
        let shown = self.target.lake.shown(&self.target.ident);
        let mark = Mark { pipeline: self.run, epoch: epoch.0, table: self.table, continues: None };
        let change = Change {
            what: if files.is_empty() { "DELETE" } else { "UPDATE" }.to_owned(),
            judge: &mark,
            summary: mark.summary(),
            properties: HashMap::new(),
            evolution: None,
            recovered: false,
        };
        let mut content = ChangedRows { shown: &shown, base: self.base, places: &places, files: &files };
        let _turn = turn(&self.target.lake, &self.target.ident).await;
        overtaken(&shown, self.target.commit(&change, &mut content).await?)
    }

    async fn abort(&mut self, tried: Option<Epoch>, committables: Vec<Committable>) {
        let Ok((_, files)) = parse(&committables) else { return };
        let files = files.iter().filter_map(|p| p.to_bytes().ok()).collect();
        IcebergCommitter::new(self.target.clone(), None, None).abort(tried, files).await;
    }
}

/// Rows that leave their places, and files with rows.
struct ChangedRows<'a> {
    shown: &'a str,
    base: Option<i64>,
    places: &'a Places,
    files: &'a [Prepared],
}

impl ChangedRows<'_> {
    /// Whether nothing but appends has come since the rows were read.
    fn may_follow(&self, metadata: &TableMetadata) -> bool {
        for snapshot in ancestry(metadata) {
            if Some(snapshot.snapshot_id()) == self.base {
                return true;
            }
            if snapshot.summary().operation != Operation::Append {
                return false;
            }
        }
        false
    }
}

#[async_trait]
impl Content for ChangedRows<'_> {
    async fn edits(&mut self, table: &Table, metadata: &TableMetadata) -> Result<Option<Edits>> {
        if !self.may_follow(table.metadata()) {
            return Ok(None);
        }
        let external = |e: iceberg::Error| Error::external(format!("{}: {}", self.shown, e.message()));
        let mut of: Vec<(String, i32, Struct)> = Vec::new();
        let mut removed = HashSet::new();
        let mut read = load(table, manifests(table).await.map_err(external)?);
        while let Some((manifest_file, manifest)) = read.try_next().await.map_err(external)? {
            let data = |e: &&iceberg::spec::ManifestEntryRef| {
                e.is_alive() && e.content_type() == DataContentType::Data
            };
            for entry in manifest.entries().iter().filter(data) {
                let Some(places) = self.places.of(entry.file_path()) else { continue };
                let path = entry.file_path().to_owned();
                if places.len() == entry.record_count() {
                    removed.insert(path);
                } else {
                    of.push((path, manifest_file.partition_spec_id, entry.data_file().partition().clone()));
                }
            }
        }
        if of.len() + removed.len() < self.places.files() {
            return Ok(None);
        }
        let small = |row| {
            u32::try_from(row).map_err(|_| Error::unsupported("a data file with more than 4 billion rows"))
        };
        let left = of
            .iter()
            .map(|(path, spec, partition)| {
                let rows =
                    self.places.of(path).into_iter().flatten().map(small).collect::<Result<Vec<_>>>()?;
                Ok(Left { path, spec: *spec, partition, rows })
            })
            .collect::<Result<Vec<_>>>()?;
        let deletes =
            position_deletes::write(table, metadata, &left).await.context(|| self.shown.to_owned())?;
        let added = data_files(self.shown, self.files, metadata)?;
        Ok(Some(Edits { added, deletes, removed, ..Edits::default() }))
    }
}

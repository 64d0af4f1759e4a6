//! Tables about a table: `t$snapshots`, `t$history`, `t$files`, `t$manifests`.
//!
//! | table | a row is | columns |
//! |---|---|---|
//! | `t$snapshots` | a snapshot that is kept | committed_at, snapshot_id, parent_id, operation, manifest_list, summary |
//! | `t$history` | a time at which a snapshot became the table | made_current_at, snapshot_id, parent_id, is_current_ancestor |
//! | `t$files` | a data or delete file of the newest snapshot | content, file_path, file_format, spec_id, record_count, file_size_in_bytes, sequence_number |
//! | `t$manifests` | a manifest of the newest snapshot | content, path, length, spec_id, added_snapshot_id, added, existing and deleted files |
//!
//! Names are those of Iceberg's other engines. What they hold is read when the query is planned.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int32Array, Int64Array, MapBuilder, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{Schema, SchemaRef};
use futures::TryStreamExt;
use iceberg::spec::{DataContentType, ManifestContentType};
use iceberg::table::Table;

use super::mark::ancestry;
use super::produce::{load, manifests};
use crate::catalog::{ExternalTable, ObjectPath, ResolvedTable, TableDef};
use crate::connectors::values::ValuesSource;
use crate::edges::{ConnectorEnv, Sink, Source};
use crate::error::{Error, Location, Result};
use crate::sql::ast::{ColumnDef, ColumnKind};
use crate::types::{LogicalType, MAX_LENGTH, TypeRoot};

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetadataTable {
    Snapshots,
    History,
    Files,
    Manifests,
}

impl MetadataTable {
    /// The table and what is wanted of it, of a name `t$snapshots`.
    pub fn parse(name: &str) -> Option<(&str, MetadataTable)> {
        let (table, of) = name.rsplit_once('$')?;
        let of = match of.to_ascii_lowercase().as_str() {
            "snapshots" => MetadataTable::Snapshots,
            "history" => MetadataTable::History,
            "files" => MetadataTable::Files,
            "manifests" => MetadataTable::Manifests,
            _ => return None,
        };
        (!table.is_empty()).then_some((table, of))
    }

    fn columns(self) -> Vec<(&'static str, TypeRoot)> {
        let text = || TypeRoot::Varchar(MAX_LENGTH);
        let (time, long, int) = (TypeRoot::TimestampLtz(6), TypeRoot::BigInt, TypeRoot::Int);
        match self {
            MetadataTable::Snapshots => {
                let strings = || Box::new(LogicalType::string());
                vec![
                    ("committed_at", time),
                    ("snapshot_id", long.clone()),
                    ("parent_id", long),
                    ("operation", text()),
                    ("manifest_list", text()),
                    ("summary", TypeRoot::Map(strings(), strings())),
                ]
            }
            MetadataTable::History => vec![
                ("made_current_at", time),
                ("snapshot_id", long.clone()),
                ("parent_id", long),
                ("is_current_ancestor", TypeRoot::Boolean),
            ],
            MetadataTable::Files => vec![
                ("content", int.clone()),
                ("file_path", text()),
                ("file_format", text()),
                ("spec_id", int),
                ("record_count", long.clone()),
                ("file_size_in_bytes", long.clone()),
                ("sequence_number", long),
            ],
            MetadataTable::Manifests => vec![
                ("content", int.clone()),
                ("path", text()),
                ("length", long.clone()),
                ("partition_spec_id", int.clone()),
                ("added_snapshot_id", long),
                ("added_files_count", int.clone()),
                ("existing_files_count", int.clone()),
                ("deleted_files_count", int),
            ],
        }
    }

    /// Its definition, with what it holds.
    ///
    /// # Errors
    /// External.
    pub async fn define(self, path: ObjectPath, table: &Table) -> Result<TableDef> {
        let columns = self.columns();
        let fields: Vec<_> =
            columns.iter().map(|(name, root)| LogicalType::nullable(root.clone()).to_field(name)).collect();
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let found = match self {
            MetadataTable::Snapshots => snapshots(table)?,
            MetadataTable::History => history(table),
            MetadataTable::Files => files(table).await?,
            MetadataTable::Manifests => manifest_rows(table).await?,
        };
        let found = found.iter().zip(schema.fields()).map(|(c, f)| cast(c, f.data_type()));
        let rows = RecordBatch::try_new(Arc::clone(&schema), found.collect::<Result<Vec<_>, _>>()?)?;
        let column = |(name, root): (&str, TypeRoot)| ColumnDef {
            name: name.to_owned(),
            ty: Some(LogicalType::nullable(root)),
            kind: ColumnKind::Physical,
            comment: None,
        };
        Ok(TableDef {
            columns: columns.into_iter().map(column).collect(),
            watermark: None,
            primary_key: None,
            partitioned_by: Vec::new(),
            comment: None,
            options: Default::default(),
            temporary: false,
            location: Location::default(),
            external: Some(Arc::new(Facts { schema, rows })),
            path,
        })
    }
}

/// What a metadata table holds.
#[derive(Debug)]
struct Facts {
    schema: SchemaRef,
    rows: RecordBatch,
}

impl ExternalTable for Facts {
    fn source(&self, _: &ResolvedTable, _: &ConnectorEnv) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(ValuesSource::new(Arc::clone(&self.schema), vec![self.rows.clone()])))
    }

    fn sink(&self, table: &ResolvedTable, _: &ConnectorEnv) -> Result<Arc<dyn Sink>> {
        Err(Error::validation(format!(
            "{} says what a table is made of, and cannot be written",
            table.def.path
        )))
    }
}

fn times(ms: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(
        TimestampMicrosecondArray::from_iter_values(ms.map(|ms| ms.saturating_mul(1000)))
            .with_timezone("UTC"),
    )
}

fn snapshots(table: &Table) -> Result<Vec<ArrayRef>> {
    let mut all: Vec<_> = table.metadata().snapshots().collect();
    all.sort_by_key(|s| (s.timestamp_ms(), s.sequence_number()));
    let mut summaries = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for snapshot in &all {
        let mut told: Vec<_> = snapshot.summary().additional_properties.iter().collect();
        told.sort();
        for (key, value) in told {
            summaries.keys().append_value(key);
            summaries.values().append_value(value);
        }
        summaries.append(true)?;
    }
    Ok(vec![
        times(all.iter().map(|s| s.timestamp_ms())),
        Arc::new(Int64Array::from_iter_values(all.iter().map(|s| s.snapshot_id()))),
        Arc::new(Int64Array::from_iter(all.iter().map(|s| s.parent_snapshot_id()))),
        Arc::new(StringArray::from_iter_values(all.iter().map(|s| s.summary().operation.as_str()))),
        Arc::new(StringArray::from_iter_values(all.iter().map(|s| s.manifest_list()))),
        Arc::new(summaries.finish()),
    ])
}

fn history(table: &Table) -> Vec<ArrayRef> {
    let metadata = table.metadata();
    let log = metadata.history();
    let line: HashSet<i64> = ancestry(metadata).map(|s| s.snapshot_id()).collect();
    let parent = |id: i64| metadata.snapshot_by_id(id).and_then(|s| s.parent_snapshot_id());
    vec![
        times(log.iter().map(|l| l.timestamp_ms())),
        Arc::new(Int64Array::from_iter_values(log.iter().map(|l| l.snapshot_id))),
        Arc::new(Int64Array::from_iter(log.iter().map(|l| parent(l.snapshot_id)))),
        Arc::new(BooleanArray::from_iter(log.iter().map(|l| Some(line.contains(&l.snapshot_id))))),
    ]
}

fn external(e: &iceberg::Error) -> Error {
    Error::external(format!("a manifest: {}", e.message()))
}

async fn files(table: &Table) -> Result<Vec<ArrayRef>> {
    let mut rows = Vec::new();
    let mut read = load(table, manifests(table).await.map_err(|e| external(&e))?);
    while let Some((manifest, entries)) = read.try_next().await.map_err(|e| external(&e))? {
        for entry in entries.entries().iter().filter(|e| e.is_alive()) {
            rows.push((manifest.partition_spec_id, entry.sequence_number(), entry.data_file().clone()));
        }
    }
    rows.sort_by(|a, b| (a.1, a.2.file_path()).cmp(&(b.1, b.2.file_path())));
    let content = |c: DataContentType| match c {
        DataContentType::Data => 0,
        DataContentType::PositionDeletes => 1,
        DataContentType::EqualityDeletes => 2,
    };
    let long = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    Ok(vec![
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| content(r.2.content_type())))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.2.file_path()))),
        Arc::new(StringArray::from_iter_values(
            rows.iter().map(|r| r.2.file_format().to_string().to_uppercase()),
        )),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.0))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| long(r.2.record_count())))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| long(r.2.file_size_in_bytes())))),
        Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.1))),
    ])
}

async fn manifest_rows(table: &Table) -> Result<Vec<ArrayRef>> {
    let all = manifests(table).await.map_err(|e| external(&e))?;
    let int = |n: Option<u32>| n.and_then(|n| i32::try_from(n).ok());
    Ok(vec![
        Arc::new(Int32Array::from_iter_values(
            all.iter().map(|m| i32::from(m.content == ManifestContentType::Deletes)),
        )),
        Arc::new(StringArray::from_iter_values(all.iter().map(|m| m.manifest_path.as_str()))),
        Arc::new(Int64Array::from_iter_values(all.iter().map(|m| m.manifest_length))),
        Arc::new(Int32Array::from_iter_values(all.iter().map(|m| m.partition_spec_id))),
        Arc::new(Int64Array::from_iter_values(all.iter().map(|m| m.added_snapshot_id))),
        Arc::new(Int32Array::from_iter(all.iter().map(|m| int(m.added_files_count)))),
        Arc::new(Int32Array::from_iter(all.iter().map(|m| int(m.existing_files_count)))),
        Arc::new(Int32Array::from_iter(all.iter().map(|m| int(m.deleted_files_count)))),
    ])
}

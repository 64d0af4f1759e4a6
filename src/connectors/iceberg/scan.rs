//! What a read of a table reads: a snapshot, its files, their rows in the declared types.
//!
//! ```text
//!  table + Version ─► Scan ── plan(filters) ──► FileScanTask …     manifests, partitions and file statistics prune
//!                       ├── added(snapshot) ─► FileScanTask …     what one commit has brought, for streaming reads
//!                       └── read(task): `read` ─► batches         field ids, deletes, declared types
//! ```
//!
//! Columns are found by name in the *current* schema and by field id in the files, so that a table whose schema has
//! changed since the snapshot reads right. State: the pinned snapshot; delete files already read.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::logical_expr::Expr;
use futures::TryStreamExt;
use iceberg::TableIdent;
use iceberg::scan::FileScanTask;
use iceberg::spec::{
    DEFAULT_SCHEMA_NAME_MAPPING, DataFileFormat, ManifestContentType, ManifestEntryRef, ManifestStatus,
    NameMapping, PrimitiveType, SchemaRef as IcebergSchemaRef, SnapshotRef, TableMetadata, Type,
};
use iceberg::table::Table;

use super::deletes::{self, DeleteFiles};
use super::lake::Lake;
use super::predicate::to_predicate;
use crate::error::{Error, Result, ResultExt};
use crate::types::LogicalType;

/// Which state of the table is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Version {
    /// The newest when the read begins.
    Current,
    /// `snapshot-id`.
    Snapshot(i64),
    /// `as-of-timestamp`: the snapshot that was current at that time (milliseconds since the epoch).
    AsOf(i64),
    /// `branch` or `tag`.
    Reference(String),
}

impl Version {
    fn resolve(&self, table: &Table) -> Result<Option<i64>> {
        let metadata = table.metadata();
        match self {
            Version::Current => Ok(metadata.current_snapshot_id()),
            Version::Snapshot(id) => match metadata.snapshot_by_id(*id) {
                Some(s) => Ok(Some(s.snapshot_id())),
                None => Err(Error::validation(format!("there is no snapshot {id}"))
                    .hint(format!("snapshots of the table: {}", known_snapshots(table)))),
            },
            Version::AsOf(ms) => {
                match metadata.history().iter().rev().find(|log| log.timestamp_ms() <= *ms) {
                    Some(log) => Ok(Some(log.snapshot_id)),
                    None => Err(Error::validation(format!("the table has no snapshot as old as {ms} ms"))
                        .hint(format!("snapshots of the table: {}", known_snapshots(table)))),
                }
            }
            Version::Reference(name) => match metadata.snapshot_for_ref(name) {
                Some(s) => Ok(Some(s.snapshot_id())),
                None => Err(Error::validation(format!("there is no branch or tag '{name}'"))),
            },
        }
    }
}

/// The newest snapshots, for messages.
pub(super) fn known_snapshots(table: &Table) -> String {
    let log = table.metadata().history();
    let shown: Vec<String> =
        log.iter().rev().take(5).map(|l| format!("{} (at {} ms)", l.snapshot_id, l.timestamp_ms())).collect();
    if shown.is_empty() { "none yet".to_owned() } else { shown.join(", ") }
}

/// A column to read.
#[derive(Debug)]
struct Column {
    id: i32,
    /// Its Iceberg type when the declared type reads it without conversion: only then may filters be pushed down.
    exact: Option<PrimitiveType>,
}

/// A pinned read of a table.
pub(super) struct Scan {
    table: Table,
    shown: String,
    snapshot: Option<i64>,
    schema: SchemaRef,
    columns: Vec<Column>,
    /// What to read when only the number of rows matters.
    cheapest: i32,
    /// Row groups are pruned and rows filtered by the reader: not where old files hold other types.
    filter_rows: bool,
    delete_files: DeleteFiles,
}

impl Scan {
    /// Loads the table and resolves `version` and the declared columns.
    ///
    /// # Errors
    /// External, or Validation if the table lacks a column.
    pub async fn new(
        lake: &Lake,
        ident: &TableIdent,
        version: &Version,
        schema: SchemaRef,
    ) -> Result<Arc<Scan>> {
        let shown = lake.shown(ident);
        let table = lake.load(ident).await?;
        let snapshot = version.resolve(&table).context(|| shown.clone())?;
        Scan::at(table, shown, snapshot, schema)
    }

    /// Resolves the declared columns of a table that is loaded.
    ///
    /// # Errors
    /// Validation if the table lacks a column.
    pub fn at(table: Table, shown: String, snapshot: Option<i64>, schema: SchemaRef) -> Result<Arc<Scan>> {
        let current = table.metadata().current_schema();
        let columns = schema
            .fields()
            .iter()
            .map(|f| {
                let found =
                    current.as_struct().fields().iter().find(|i| i.name == *f.name()).ok_or_else(|| {
                        let names: Vec<&str> =
                            current.as_struct().fields().iter().map(|i| i.name.as_str()).collect();
                        Error::validation(format!("{shown}: there is no column `{}`", f.name()))
                            .hint(format!("its columns: {}", names.join(", ")))
                    })?;
                let own = super::types::to_logical(found)?;
                let declared = LogicalType::from_field(f)?;
                if !readable(&own, &declared) {
                    return Err(Error::validation(format!(
                        "{shown}: column `{}` is {own} and cannot be read as {declared}",
                        f.name()
                    )));
                }
                let exact = match found.field_type.as_ref() {
                    Type::Primitive(p) if own.to_arrow() == *f.data_type() => Some(p.clone()),
                    _ => None,
                };
                Ok(Column { id: found.id, exact })
            })
            .collect::<Result<Vec<_>>>()?;
        let fields = current.as_struct().fields();
        let cheapest = fields
            .iter()
            .find(|f| {
                use PrimitiveType as P;
                matches!(f.field_type.as_ref(), Type::Primitive(P::Boolean | P::Int | P::Date | P::Long))
            })
            .or_else(|| fields.first())
            .map_or(1, |f| f.id);
        let filter_rows = !has_evolved(table.metadata());
        let delete_files = DeleteFiles::default();
        Ok(Arc::new(Scan { table, shown, snapshot, schema, columns, cheapest, filter_rows, delete_files }))
    }

    /// The declared schema.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Ids of declared columns.
    pub fn ids(&self, projection: &[usize]) -> Vec<i32> {
        projection.iter().filter_map(|i| self.columns.get(*i)).map(|c| c.id).collect()
    }

    /// The column to read when only the number of rows matters.
    pub fn cheapest(&self) -> i32 {
        self.cheapest
    }

    /// Delete files that were read.
    pub fn delete_files(&self) -> &DeleteFiles {
        &self.delete_files
    }

    /// The table in messages.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The pinned snapshot; `None` for a table without any.
    pub fn snapshot(&self) -> Option<i64> {
        self.snapshot
    }

    /// The files that may hold rows for which all `filters` are true, sorted by path.
    ///
    /// # Errors
    /// External, or Unsupported for files that cannot be read.
    pub async fn plan(&self, filters: &[Expr]) -> Result<Vec<FileScanTask>> {
        let Some(snapshot) = self.snapshot else { return Ok(Vec::new()) };
        let wrap = |e: iceberg::Error| Error::external(e.message().to_owned()).context(self.shown.clone());
        let metadata = self.table.metadata();
        // The planner binds names in the schema of the snapshot, which may be older than the current one.
        let then = metadata.snapshot_by_id(snapshot).and_then(|s| s.schema(metadata).ok());
        let lookup = |name: &str| {
            let column = self.columns.get(self.schema.index_of(name).ok()?)?;
            let field = then.as_ref()?.field_by_id(column.id)?;
            let ty = column.exact.clone()?;
            // The bounds of files from before a column was widened are of its old type: the crate, which compares them with
            // literals of the new one, finds no relation and leaves the files out.
            always_was(metadata, column.id, &ty).then(|| (field.name.clone(), ty))
        };
        let mut builder = self.table.scan().snapshot_id(snapshot).select_empty();
        if let Some(p) = to_predicate(filters, &lookup) {
            builder = builder.with_filter(p);
        }
        let stream = builder.build().map_err(wrap)?.plan_files().await.map_err(wrap)?;
        let mut tasks: Vec<FileScanTask> = stream.try_collect().await.map_err(wrap)?;
        for task in &mut tasks {
            self.check(task)?;
            // Positions count the rows of the whole file, so nothing may filter before deletes are applied.
            if !task.deletes.is_empty() || !self.filter_rows {
                task.predicate = None;
            }
        }
        tasks.sort_by(|a, b| (&a.data_file_path, a.start).cmp(&(&b.data_file_path, b.start)));
        Ok(tasks)
    }

    /// The files that a snapshot has added, sorted by path. What it has deleted is not looked at.
    ///
    /// # Errors
    /// As [`Scan::plan`].
    pub async fn added(&self, snapshot: &SnapshotRef) -> Result<Vec<FileScanTask>> {
        let wrap = |e: iceberg::Error| Error::external(e.message().to_owned()).context(self.shown.clone());
        let (metadata, id) = (self.table.metadata(), snapshot.snapshot_id());
        let mapping = metadata.properties().get(DEFAULT_SCHEMA_NAME_MAPPING);
        let mapping = mapping.map(|text| serde_json::from_str::<NameMapping>(text)).transpose();
        let mapping = mapping.map_err(|e| {
            Error::data(format!("the property {DEFAULT_SCHEMA_NAME_MAPPING} is damaged: {e}"))
                .context(self.shown.clone())
        })?;
        let mapping = mapping.map(Arc::new);
        let manifests = self.table.manifest_list_reader(snapshot).load().await.map_err(wrap)?;
        let mut tasks = Vec::new();
        for manifest in manifests.entries() {
            if manifest.content != ManifestContentType::Data || manifest.added_snapshot_id != id {
                continue;
            }
            let manifest = manifest.load_manifest(self.table.file_io()).await.map_err(wrap)?;
            let added =
                |e: &&ManifestEntryRef| e.status() == ManifestStatus::Added && e.snapshot_id() == Some(id);
            for entry in manifest.entries().iter().filter(added) {
                let task = FileScanTask::builder()
                    .with_file_size_in_bytes(entry.file_size_in_bytes())
                    .with_start(0)
                    .with_length(entry.file_size_in_bytes())
                    .with_record_count(Some(entry.record_count()))
                    .with_data_file_path(entry.file_path().to_owned())
                    .with_data_file_format(entry.file_format())
                    .with_schema(Arc::clone(metadata.current_schema()))
                    .with_project_field_ids(Vec::new())
                    .with_partition(Some(entry.data_file().partition().clone()))
                    .with_name_mapping(mapping.clone())
                    .with_case_sensitive(true)
                    .build();
                self.check(&task)?;
                tasks.push(task);
            }
        }
        tasks.sort_by(|a, b| a.data_file_path.cmp(&b.data_file_path));
        Ok(tasks)
    }

    /// Refuses what cannot be read.
    fn check(&self, task: &FileScanTask) -> Result<()> {
        if task.data_file_format != DataFileFormat::Parquet {
            return Err(Error::unsupported(format!(
                "{}: the data file {} is {}, and only Parquet can be read",
                self.shown, task.data_file_path, task.data_file_format
            )));
        }
        deletes::check(task).context(|| self.shown.clone())
    }
}

/// Whether the table ever had other columns than today. Schemas are numbered from 0, and others may have taken away those that
/// no snapshot names.
pub(super) fn has_evolved(metadata: &TableMetadata) -> bool {
    metadata.schemas_iter().len() > 1 || metadata.current_schema_id() != 0
}

/// Whether a column had this type in all schemas of the table, as far as it was there.
fn always_was(metadata: &TableMetadata, id: i32, ty: &PrimitiveType) -> bool {
    use PrimitiveType as P;
    let is_other = |s: &IcebergSchemaRef| {
        s.field_by_id(id).is_some_and(|f| !matches!(f.field_type.as_ref(), Type::Primitive(p) if p == ty))
    };
    if metadata.schemas_iter().any(is_other) {
        return false;
    }
    let last = metadata.schemas_iter().map(|s| s.schema_id()).max().unwrap_or(0);
    let are_all_known = usize::try_from(last).is_ok_and(|last| metadata.schemas_iter().len() == last + 1);
    let is_wide = !matches!(ty, P::Boolean | P::Int | P::Float | P::Date | P::String | P::Binary | P::Uuid);
    are_all_known || !is_wide
}

/// A whole file, wherever it is named, to be read with `schema`.
pub(super) fn whole_file(path: &str, bytes: u64, schema: &IcebergSchemaRef) -> FileScanTask {
    FileScanTask::builder()
        .with_file_size_in_bytes(bytes)
        .with_start(0)
        .with_length(0)
        .with_data_file_path(path.to_owned())
        .with_data_file_format(DataFileFormat::Parquet)
        .with_schema(Arc::clone(schema))
        .with_project_field_ids(Vec::new())
        .with_case_sensitive(true)
        .build()
}

/// Whether values of one type can be read as another without losing their meaning.
fn readable(own: &LogicalType, declared: &LogicalType) -> bool {
    use arrow::datatypes::DataType as D;
    fn compatible(from: &D, to: &D) -> bool {
        match (from, to) {
            (D::Struct(a), D::Struct(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(x, y)| compatible(x.data_type(), y.data_type()))
            }
            (D::List(a), D::List(b)) | (D::Map(a, _), D::Map(b, _)) => {
                compatible(a.data_type(), b.data_type())
            }
            (D::Timestamp(_, a), D::Timestamp(_, b)) => a.is_some() == b.is_some(),
            (D::Decimal128(_, a), D::Decimal128(_, b)) => a == b,
            (a, b) if a.is_integer() => b.is_integer(),
            (D::Float32 | D::Float64, D::Float32 | D::Float64) => true,
            (a, b) => a == b,
        }
    }
    compatible(&own.to_arrow(), &declared.to_arrow())
}

/// An empty schema's worth of columns is still a projection.
pub(super) fn all_columns(schema: &Schema) -> Vec<usize> {
    (0..schema.fields().len()).collect()
}

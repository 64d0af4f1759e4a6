//! Definitions of tables and views.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;

use crate::edges::{ConnectorEnv, RowChanges, Sink, Source};
use crate::error::{Error, Location, Result};
use crate::sql::ast::{ColumnDef, ColumnKind, PrimaryKey, Query, SqlExpr, WatermarkDef};

/// `catalog.database.object`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectPath {
    /// Catalog name.
    pub catalog: String,
    /// Database name.
    pub database: String,
    /// Table, view or function name.
    pub object: String,
}

impl fmt::Display for ObjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.catalog, self.database, self.object)
    }
}

/// A table as declared.
#[derive(Debug, Clone)]
pub struct TableDef {
    /// Full name.
    pub path: ObjectPath,
    /// Columns in order.
    pub columns: Vec<ColumnDef>,
    /// Event time.
    pub watermark: Option<WatermarkDef>,
    /// Unenforced key.
    pub primary_key: Option<PrimaryKey>,
    /// `PARTITIONED BY`: column names, or for Iceberg transforms such as `days(ts)`, `bucket(16, id)`.
    pub partitioned_by: Vec<SqlExpr>,
    /// `COMMENT '…'`.
    pub comment: Option<String>,
    /// `WITH (…)`. May hold secrets.
    pub options: BTreeMap<String, String>,
    /// `TEMPORARY`.
    pub temporary: bool,
    /// Where the CREATE statement stands.
    pub location: Location,
    /// A table that lives in an external catalog brings its own source and sink.
    pub external: Option<Arc<dyn ExternalTable>>,
}

/// A view as declared.
#[derive(Debug, Clone)]
pub struct ViewDef {
    /// Full name.
    pub path: ObjectPath,
    /// Column names, when given.
    pub columns: Vec<String>,
    /// The query with its hints and its text.
    pub query: Query,
    /// `COMMENT '…'`.
    pub comment: Option<String>,
    /// `TEMPORARY`.
    pub temporary: bool,
    /// Catalog and database that unqualified names of the query mean.
    pub resolve_in: (String, String),
}

/// A table or a view.
#[derive(Debug, Clone)]
pub enum CatalogObject {
    /// A table.
    Table(Arc<TableDef>),
    /// A view.
    View(Arc<ViewDef>),
}

/// Source and sink of a table that lives in an external catalog.
#[async_trait]
pub trait ExternalTable: Send + Sync + fmt::Debug {
    /// A reader of the table, with the options of `table` (which includes `/*+ OPTIONS */`) applied.
    ///
    /// # Errors
    /// For bad options, or if the catalog fails.
    fn source(&self, table: &ResolvedTable, env: &ConnectorEnv) -> Result<Arc<dyn Source>>;

    /// A writer.
    ///
    /// # Errors
    /// As [`ExternalTable::source`].
    fn sink(&self, table: &ResolvedTable, env: &ConnectorEnv) -> Result<Arc<dyn Sink>>;

    /// The two ends of an UPDATE or, without `updates`, of a DELETE.
    ///
    /// # Errors
    /// Unsupported if rows of the table cannot be changed; External.
    async fn row_changes(
        &self,
        table: &ResolvedTable,
        _env: &ConnectorEnv,
        _updates: bool,
    ) -> Result<RowChanges> {
        Err(unchangeable(&table.def.path))
    }

    /// Takes all rows away.
    ///
    /// # Errors
    /// As [`ExternalTable::row_changes`].
    async fn truncate(&self, table: &ResolvedTable, _env: &ConnectorEnv) -> Result<()> {
        Err(unchangeable(&table.def.path))
    }
}

/// The error for a table whose rows stay as they are.
pub fn unchangeable(table: &ObjectPath) -> Error {
    Error::unsupported(format!("rows of the table {table} cannot be changed or taken away"))
        .hint("UPDATE, DELETE and TRUNCATE are for the tables of an Iceberg catalog")
}

/// A table definition with the options in force (hints merged) and its Arrow schemas: what a connector gets.
#[derive(Debug, Clone)]
pub struct ResolvedTable {
    /// The definition.
    pub def: Arc<TableDef>,
    /// `WITH` options with `/*+ OPTIONS */` merged over them.
    pub options: BTreeMap<String, String>,
    /// Physical columns in declared order.
    pub physical: SchemaRef,
    /// Metadata columns in declared order.
    pub metadata: Vec<MetadataColumn>,
}

/// A metadata column as a connector sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct MetadataColumn {
    /// Metadata key, e.g. `offset`, `timestamp`, `value.source.timestamp`.
    pub key: String,
    /// Column name and *declared* type; the connector casts from its own type.
    pub field: Field,
    /// VIRTUAL: not part of the sink schema.
    pub read_only: bool,
}

/// The options of a file of CSV as they were written before Flink 1.11, in today's keys: scripts of then still run in Flink.
/// Other old tables stay as they are, and are told that they have no connector.
fn without_legacy_keys(options: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let is = |key: &str, value: &str| options.get(key).is_some_and(|v| v == value);
    if options.contains_key("connector") || !is("connector.type", "filesystem") || !is("format.type", "csv") {
        return options;
    }
    let today = |(key, value): (String, String)| {
        let key = match key.as_str() {
            "connector.type" => "connector".to_owned(),
            "connector.path" => "path".to_owned(),
            "format.type" => "format".to_owned(),
            "connector.property-version" | "format.property-version" | "update-mode" => return None,
            key => match key.strip_prefix("format.") {
                Some(option) => format!("csv.{option}"),
                None => key.to_owned(),
            },
        };
        Some((key, value))
    };
    options.into_iter().filter_map(today).collect()
}

impl ResolvedTable {
    /// Resolves a definition with hint options merged over its own.
    ///
    /// # Errors
    /// Validation if a physical or metadata column has no type.
    pub fn new(def: Arc<TableDef>, hint_options: &BTreeMap<String, String>) -> Result<Self> {
        let mut options = def.options.clone();
        options.extend(hint_options.iter().map(|(k, v)| (k.clone(), v.clone())));
        let mut physical = Vec::new();
        let mut metadata = Vec::new();
        for column in &def.columns {
            let typed = || {
                column.ty.as_ref().ok_or_else(|| {
                    Error::validation(format!("column `{}` of {} has no type", column.name, def.path))
                })
            };
            match &column.kind {
                ColumnKind::Physical => {
                    let mut field = typed()?.to_field(&column.name);
                    if def.primary_key.as_ref().is_some_and(|k| k.columns.contains(&column.name)) {
                        field.set_nullable(false);
                    }
                    physical.push(field);
                }
                ColumnKind::Metadata { key, read_only } => metadata.push(MetadataColumn {
                    key: key.clone(),
                    field: typed()?.to_field(&column.name),
                    read_only: *read_only,
                }),
                ColumnKind::Computed(_) => {}
            }
        }
        let options = without_legacy_keys(options);
        Ok(ResolvedTable { def, options, physical: Arc::new(Schema::new(physical)), metadata })
    }

    /// What its source yields: physical columns, then metadata columns.
    pub fn scan_schema(&self) -> SchemaRef {
        let mut fields: Vec<_> = self.physical.fields().iter().cloned().collect();
        fields.extend(self.metadata.iter().map(|m| Arc::new(m.field.clone())));
        Arc::new(Schema::new(fields))
    }

    /// The PRIMARY KEY as columns of [`ResolvedTable::sink_schema`].
    pub fn sink_primary_key(&self) -> Option<Vec<usize>> {
        let key = self.def.primary_key.as_ref()?;
        let schema = self.sink_schema();
        key.columns.iter().map(|c| schema.index_of(c).ok()).collect()
    }

    /// What its sink takes, in *declared* order: physical columns and metadata columns that are not VIRTUAL.
    pub fn sink_schema(&self) -> SchemaRef {
        let mut fields = Vec::new();
        for column in &self.def.columns {
            match &column.kind {
                ColumnKind::Physical => {
                    if let Ok(field) = self.physical.field_with_name(&column.name) {
                        fields.push(field.clone());
                    }
                }
                ColumnKind::Metadata { read_only: false, .. } => {
                    if let Some(m) = self.metadata.iter().find(|m| m.field.name() == &column.name) {
                        fields.push(m.field.clone());
                    }
                }
                _ => {}
            }
        }
        Arc::new(Schema::new(fields))
    }
}

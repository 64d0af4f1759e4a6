//! Tables that a program brings along: a source of its own, or Arrow batches in memory.
//!
//! ```text
//!  source or batches, watermark, key ─► SourceTable ─► Session::register_table ─► TableDef with an ExternalTable
//! ```
//!
//! To the planner such a table is one as any catalog may hold: nothing beyond this file knows of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, SchemaRef};

use super::Session;
use crate::catalog::{ExternalTable, ResolvedTable};
use crate::connectors::conform::conform_batch;
use crate::connectors::values::ValuesSource;
use crate::edges::{ConnectorEnv, Sink, Source};
use crate::error::{Error, Location, Result, ResultExt};
use crate::sql::ast::{ColumnDef, ColumnKind, CreateTable, Name, PrimaryKey, SqlExpr, WatermarkDef};
use crate::sql::parse_expr;
use crate::types::LogicalType;

/// A table over rows of the program's own, to be added by [`Session::register_table`].
///
/// Its columns are those of the rows, with the SQL types of [`LogicalType::from_arrow`].
#[derive(Debug, Clone)]
pub struct SourceTable {
    rows: Rows,
    watermark: Option<(String, String)>,
    primary_key: Vec<String>,
}

#[derive(Debug, Clone)]
enum Rows {
    Source(Arc<dyn Source>),
    Batches(SchemaRef, Vec<RecordBatch>),
}

impl SourceTable {
    /// A table that is read from `source`, as a stream or, if it is bounded, in batch. Its schema has to have the Arrow
    /// types of [`LogicalType::to_arrow`].
    pub fn new(source: Arc<dyn Source>) -> Self {
        SourceTable { rows: Rows::Source(source), watermark: None, primary_key: Vec::new() }
    }

    /// A table of rows in memory, in the order of `batches`, each of which has `schema`. Arrow types that SQL knows in
    /// another form, such as `Utf8View` or dictionaries, are converted once, when the table is registered.
    pub fn from_batches(schema: SchemaRef, batches: Vec<RecordBatch>) -> Self {
        SourceTable { rows: Rows::Batches(schema, batches), watermark: None, primary_key: Vec::new() }
    }

    /// `WATERMARK FOR column AS expr`: makes `column` the event time, with `expr` such as
    /// `` `at` - INTERVAL '5' SECOND ``.
    #[must_use]
    pub fn with_watermark(mut self, column: impl Into<String>, expr: impl Into<String>) -> Self {
        self.watermark = Some((column.into(), expr.into()));
        self
    }

    /// `PRIMARY KEY (columns) NOT ENFORCED`: the program answers for it that no two rows share these columns. They
    /// have to be NOT NULL.
    #[must_use]
    pub fn with_primary_key<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.primary_key = columns.into_iter().map(Into::into).collect();
        self
    }

    /// The statement that would declare it, were there a connector.
    fn declaration(&self, name: &str) -> Result<CreateTable> {
        let schema = match &self.rows {
            Rows::Source(source) => source.schema(),
            Rows::Batches(schema, _) => schema.clone(),
        };
        let watermark = match &self.watermark {
            None => None,
            Some((column, expr)) => {
                // It stands in no script: its place there would be taken for one in the query that reads the table.
                let parsed = parse_expr(expr).context(|| format!("watermark `{expr}`"))?;
                let expr = SqlExpr { location: Location::default(), ..parsed };
                Some(WatermarkDef { column: column.clone(), expr })
            }
        };
        let key = (!self.primary_key.is_empty())
            .then(|| PrimaryKey { name: None, columns: self.primary_key.clone() });
        Ok(CreateTable {
            name: Name { parts: vec![name.to_owned()], location: Location::default() },
            temporary: true,
            if_not_exists: false,
            columns: schema.fields().iter().map(column).collect::<Result<_>>()?,
            column_names_only: Vec::new(),
            watermark,
            primary_key: key,
            comment: None,
            partitioned_by: Vec::new(),
            options: BTreeMap::new(),
            like: None,
            query: None,
        })
    }

    /// Its source, which yields exactly `schema`.
    fn into_source(self, schema: SchemaRef) -> Result<Arc<dyn Source>> {
        match self.rows {
            Rows::Source(source) => {
                for (found, declared) in source.schema().fields().iter().zip(schema.fields()) {
                    check(found, declared)?;
                }
                Ok(source)
            }
            Rows::Batches(own, batches) => {
                let conform = |(i, batch): (usize, &RecordBatch)| {
                    if batch.schema_ref().fields() != own.fields() {
                        return Err(Error::validation(format!(
                            "batch {i} has another schema than the table"
                        ))
                        .hint(format!("it has {}, the table {own}", batch.schema_ref())));
                    }
                    conform_batch(batch.columns(), batch.num_rows(), &schema).context(|| format!("batch {i}"))
                };
                let batches = batches.iter().enumerate().map(conform).collect::<Result<_>>()?;
                Ok(Arc::new(ValuesSource::new(schema, batches)))
            }
        }
    }
}

fn column(field: &FieldRef) -> Result<ColumnDef> {
    let of_column = || format!("column `{}`", field.name());
    let ty = LogicalType::from_field(field).context(of_column)?;
    if *field.data_type() == DataType::Null {
        return Err(Error::validation("it has no type but NULL")
            .context(of_column())
            .hint("give it the Arrow type of the values that may come"));
    }
    Ok(ColumnDef { name: field.name().clone(), ty: Some(ty), kind: ColumnKind::Physical, comment: None })
}

/// Whether a source yields a column as the table has it.
fn check(found: &FieldRef, declared: &FieldRef) -> Result<()> {
    let name = found.name();
    if found.data_type() != declared.data_type() {
        return Err(Error::validation(format!("column `{name}`: the source yields {}", found.data_type()))
            .hint(format!("{} is {} in Arrow", LogicalType::from_field(declared)?, declared.data_type())));
    }
    if found.is_nullable() && !declared.is_nullable() {
        return Err(Error::validation(format!(
            "column `{name}` is part of the primary key and can be NULL in the source"
        ))
        .hint("make its field NOT NULL"));
    }
    Ok(())
}

impl Session {
    /// Adds `table` as a temporary table `name` of the current database: it lives as long as the session, or until
    /// `DROP TEMPORARY TABLE`. The name is taken as it is, without quotes and with its case. Queries read the table in
    /// batch and as a stream; nothing can be inserted into it.
    ///
    /// # Errors
    /// Validation if there is a temporary table of that name, for Arrow types without a SQL type, and for a watermark
    /// or key that does not fit the columns; Data if batches hold values that their columns do not allow.
    pub async fn register_table(&self, name: &str, table: SourceTable) -> Result<()> {
        let of_table = || format!("table `{name}`");
        let create = table.declaration(name).context(of_table)?;
        let mut def = self.catalogs.define_table(&create, None).await.context(of_table)?;
        // The watermark is planned here, so that an error in it is not told by the first query.
        self.table_schema(&Arc::new(def.clone())).context(of_table)?;
        let schema = ResolvedTable::new(Arc::new(def.clone()), &BTreeMap::new())?.scan_schema();
        let source = table.into_source(schema).context(of_table)?;
        def.external = Some(Arc::new(Registered(source)));
        self.catalogs.create_table(def, false).await.map(|_| ())
    }
}

/// The source behind a registered table.
#[derive(Debug)]
struct Registered(Arc<dyn Source>);

impl ExternalTable for Registered {
    fn source(&self, table: &ResolvedTable, _env: &ConnectorEnv) -> Result<Arc<dyn Source>> {
        match table.options.keys().next() {
            None => Ok(self.0.clone()),
            Some(key) => Err(Error::validation(format!(
                "table {}: the option '{key}' has no meaning for a table that the program has registered",
                table.def.path
            ))
            .hint("leave the OPTIONS hint out")),
        }
    }

    fn sink(&self, table: &ResolvedTable, _env: &ConnectorEnv) -> Result<Arc<dyn Sink>> {
        Err(Error::unsupported(format!(
            "table {} is a source that the program has registered, and cannot be written to",
            table.def.path
        ))
        .hint("insert into a table that CREATE TABLE has made"))
    }
}

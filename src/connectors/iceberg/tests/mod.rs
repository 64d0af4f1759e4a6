//! Tests on real catalogs: SQLite on local disk always; the REST server of `TIDELAKE_TEST_REST_CATALOG` and the object
//! store of `TIDELAKE_TEST_S3` (bucket `lake`, or `TIDELAKE_TEST_S3_BUCKET`) when they are set.

mod alter;
mod commits;
mod deletes;
mod faults;
mod kept;
mod maintenance;
mod partitions;
mod reads;
mod streaming;
mod types;
mod upsert;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use datafusion::prelude::{SessionConfig, SessionContext};
use tempfile::TempDir;
use uuid::Uuid;

use super::create_catalog;
use crate::catalog::{Catalog, CatalogObject, ObjectPath, ResolvedTable, TableDef};
use crate::edges::SinkContext;
use crate::edges::{
    Committable, ConnectorEnv, OpenedSink, ScanRequest, Sink, Source, SourceEvent, SourceReader, WriteMode,
};
use crate::error::Location;
use crate::sql::ast::{ColumnDef, ColumnKind, PrimaryKey, SqlExpr};
use crate::stream::{ChangeBatch, Epoch};
use crate::types::{LogicalType, TypeRoot};

/// A catalog and a database of its own.
pub struct Lake {
    pub name: &'static str,
    pub options: BTreeMap<String, String>,
    pub catalog: Arc<dyn Catalog>,
    pub database: String,
    /// The warehouse, when it is a folder of this test.
    pub folder: Option<PathBuf>,
    pub dir: TempDir,
}

/// All catalogs that can be reached; prints which.
pub async fn lakes() -> Vec<Lake> {
    let mut found = vec![lake("sqlite", &[("warehouse", "my warehouse")]).await];
    match std::env::var("TIDELAKE_TEST_REST_CATALOG") {
        Ok(uri) => found.push(lake("rest", &[("catalog-type", "rest"), ("uri", &uri)]).await),
        Err(_) => eprintln!("iceberg: no REST catalog (TIDELAKE_TEST_REST_CATALOG is not set)"),
    }
    match std::env::var("TIDELAKE_TEST_S3") {
        Ok(endpoint) => {
            let bucket = std::env::var("TIDELAKE_TEST_S3_BUCKET").unwrap_or_else(|_| "lake".into());
            let warehouse = format!("s3://{bucket}/{}", Uuid::new_v4());
            found.push(
                lake(
                    "s3",
                    &[
                        ("warehouse", &warehouse),
                        ("uri", "sqlite:catalog.db"),
                        ("s3.endpoint", &endpoint),
                        ("s3.access-key-id", "test"),
                        ("s3.secret-access-key", "testsecret"),
                        ("s3.region", "us-east-1"),
                        ("s3.path-style-access", "true"),
                    ],
                )
                .await,
            );
        }
        Err(_) => eprintln!("iceberg: no object store (TIDELAKE_TEST_S3 is not set)"),
    }
    eprintln!("iceberg: runs on {}", found.iter().map(|l| l.name).collect::<Vec<_>>().join(", "));
    found
}

pub async fn sqlite() -> Lake {
    lake("sqlite", &[("warehouse", "wh")]).await
}

async fn lake(name: &'static str, options: &[(&str, &str)]) -> Lake {
    let dir = TempDir::new().unwrap();
    let options: BTreeMap<String, String> =
        options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let catalog = create_catalog("lake", &options, dir.path()).await.unwrap();
    let database = format!("db_{}", Uuid::new_v4().simple());
    catalog.create_database(&database, None, BTreeMap::new(), false).await.unwrap();
    let folder = (name == "sqlite").then(|| dir.path().join(&options["warehouse"]));
    Lake { name, options, catalog, database, folder, dir }
}

pub fn column(name: &str, ty: LogicalType) -> ColumnDef {
    ColumnDef { name: name.into(), ty: Some(ty), kind: ColumnKind::Physical, comment: None }
}

pub fn nullable(root: TypeRoot) -> LogicalType {
    LogicalType::nullable(root)
}

pub fn sql_expr(text: &str) -> SqlExpr {
    let expr = datafusion::sql::sqlparser::parser::Parser::new(
        &datafusion::sql::sqlparser::dialect::MySqlDialect {},
    )
    .try_with_sql(text)
    .unwrap()
    .parse_expr()
    .unwrap();
    SqlExpr { expr, text: text.into(), location: Location { line: 3, column: 7 } }
}

impl Lake {
    pub fn def(&self, table: &str, columns: Vec<ColumnDef>, partitioned_by: &[&str]) -> TableDef {
        TableDef {
            path: ObjectPath {
                catalog: "lake".into(),
                database: self.database.clone(),
                object: table.into(),
            },
            columns,
            watermark: None,
            primary_key: None,
            partitioned_by: partitioned_by.iter().map(|t| sql_expr(t)).collect(),
            comment: None,
            options: BTreeMap::new(),
            temporary: false,
            location: Location { line: 1, column: 1 },
            external: None,
        }
    }

    pub async fn create(&self, table: &str, columns: Vec<ColumnDef>, partitioned_by: &[&str]) {
        self.catalog.create_table(self.def(table, columns, partitioned_by), false).await.unwrap();
    }

    pub async fn table(&self, table: &str) -> Arc<TableDef> {
        match self.catalog.get(&self.database, table).await.unwrap() {
            Some(CatalogObject::Table(t)) => t,
            other => panic!("{other:?}"),
        }
    }

    pub async fn resolved(&self, table: &str, hints: &[(&str, &str)]) -> ResolvedTable {
        let hints = hints.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        ResolvedTable::new(self.table(table).await, &hints).unwrap()
    }

    pub async fn source(&self, table: &str, hints: &[(&str, &str)]) -> crate::Result<Arc<dyn Source>> {
        let resolved = self.resolved(table, hints).await;
        resolved.def.external.clone().unwrap().source(&resolved, &env(self))
    }

    pub async fn sink(&self, table: &str, hints: &[(&str, &str)]) -> crate::Result<Arc<dyn Sink>> {
        let resolved = self.resolved(table, hints).await;
        resolved.def.external.clone().unwrap().sink(&resolved, &env(self))
    }

    /// Appends batches as one epoch.
    pub async fn append(&self, table: &str, batches: &[RecordBatch]) {
        let sink = self.sink(table, &[]).await.unwrap();
        let mut opened = sink.open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap();
        let committables = write(&mut opened, batches, Epoch(1)).await;
        opened.committer.commit(Epoch(1), committables).await.unwrap();
    }

    /// The answer of a SQL query over the table `t`.
    pub async fn query(&self, table: &str, sql: &str) -> RecordBatch {
        let source = self.source(table, &[]).await.unwrap();
        query(source, sql).await
    }

    /// Names of the data files below the warehouse.
    pub fn data_files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.folder.clone().unwrap()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "parquet") {
                    found.push(path);
                }
            }
        }
        found
    }
}

pub fn env(lake: &Lake) -> ConnectorEnv {
    ConnectorEnv {
        config: Arc::default(),
        time_zone: chrono_tz::UTC,
        batch: true,
        base_dir: lake.dir.path().to_path_buf(),
        notices: crate::edges::Notices::default(),
    }
}

pub fn context() -> SessionContext {
    SessionContext::new_with_config(SessionConfig::new().with_target_partitions(3))
}

pub async fn query(source: Arc<dyn Source>, sql: &str) -> RecordBatch {
    let ctx = context();
    ctx.register_table("t", source.batch_provider().await.unwrap().unwrap()).unwrap();
    let frame = ctx.sql(sql).await.unwrap();
    let schema: SchemaRef = Arc::new(frame.schema().as_arrow().clone());
    let batches = frame.collect().await.unwrap();
    concat_batches(&batches.first().map_or(schema, RecordBatch::schema), &batches).unwrap()
}

pub async fn write(opened: &mut OpenedSink, batches: &[RecordBatch], epoch: Epoch) -> Vec<Committable> {
    let n = opened.writers.len();
    for (i, b) in batches.iter().enumerate() {
        opened.writers[i % n].write(ChangeBatch::insert_only(b.clone())).await.unwrap();
    }
    let mut committables = Vec::new();
    for w in &mut opened.writers {
        committables.extend(w.prepare(epoch).await.unwrap());
    }
    committables
}

/// All rows of readers, which end by themselves.
pub async fn drain(readers: &mut [Box<dyn SourceReader>]) -> Vec<RecordBatch> {
    let mut rows = Vec::new();
    for reader in readers {
        loop {
            match reader.next().await.unwrap() {
                SourceEvent::Batch { batch, .. } => rows.push(batch.rows),
                SourceEvent::End => break,
                SourceEvent::SplitsStarted(_)
                | SourceEvent::SplitFinished(_)
                | SourceEvent::Dropped { .. } => {}
            }
        }
    }
    rows
}

pub fn request(batch_rows: usize) -> ScanRequest {
    ScanRequest { batch_rows, ..ScanRequest::default() }
}

pub fn key(columns: &[&str]) -> PrimaryKey {
    PrimaryKey { name: None, columns: columns.iter().map(|c| (*c).to_owned()).collect() }
}

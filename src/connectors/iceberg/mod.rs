//! Apache Iceberg tables: a catalog, a source for both engines and an exactly-once append sink.
//!
//! ```text
//!  CREATE CATALOG lake WITH ('type' = 'iceberg', …)          CREATE TABLE t (…) WITH ('connector' = 'iceberg', …)
//!        │ config, lake   SQLite or REST; local files or S3            │
//!        ▼                                                             ▼
//!  IcebergCatalog (catalog, types, partition)                    IcebergFactory
//!        └──────────────┬──────────────────────────────────────────────┘
//!                       ├─ IcebergSource  scan, predicate, deletes ─► batches (source) or DataFusion (provider)
//!                       │                 monitor ─► what is appended, without an end
//!                       └─ IcebergSink    writer ─► data files ─► commit ─► produce: one snapshot per epoch ─► backend
//!                                         upsert: rows that replace each other by key
//!  UPDATE, DELETE, INSERT OVERWRITE, TRUNCATE ─► row_changes: rows by their places, or whole files ─► the same commits
//!  tidelake maintain, tableflow ─► maintain: compact, expire, orphans ─► the same commits
//! ```
//!
//! Not offered, and refused with the way out: branches as targets, deletion vectors, data files other than
//! Parquet, views.

mod alter;
mod backend;
mod catalog;
mod claim;
mod commit;
mod config;
mod connection;
mod deletes;
mod evolution;
mod judge;
mod lake;
mod maintain;
mod mark;
mod metadata_tables;
mod monitor;
mod nested;
mod new_ids;
mod options;
mod outage;
mod partition;
mod paths;
mod predicate;
mod prepared;
mod produce;
mod provider;
mod read;
mod row_changes;
mod scan;
mod sink;
mod sort_order;
mod source;
mod turns;
mod types;
mod upsert;
mod writer;

#[cfg(test)]
mod tests;

pub use catalog::IcebergCatalog;
pub use maintain::{Maintained, Maintenance, maintain};
pub use mark::{KeptCommit, KeptPositions, TableFacts};

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use iceberg::TableIdent;

use self::config::{CatalogConfig, CatalogKind};
use self::connection::Connection;
use self::lake::{Lake, table_ident};
use self::options::{READ_OPTIONS, ReadOptions};
use self::scan::Version;
use self::sink::{IcebergSink, Known, WriteOptions};
use self::sort_order::SORT_ORDER;
use self::source::IcebergSource;
use crate::catalog::{Catalog, ResolvedTable, TableDef};
use crate::connectors::ConnectorFactory;
use crate::edges::lookup::{LookupCache, lookup_option_keys};
use crate::edges::{ConnectorEnv, Sink, Source};
use crate::error::{Error, Result, ResultExt};
use crate::options::Options;
use crate::sql::ast::ColumnKind;

/// Opens the catalog of `CREATE CATALOG name WITH (options)`; relative paths are relative to `base_dir`.
///
/// # Errors
/// Validation for bad options, External if the catalog cannot be reached.
pub async fn create_catalog(
    name: &str,
    options: &BTreeMap<String, String>,
    base_dir: &Path,
) -> Result<Arc<dyn Catalog>> {
    let taken = Options::new(format!("catalog {name}"), "iceberg", options);
    taken.take("type");
    if let Some(other) = options.get("property-version").filter(|v| *v != "1") {
        return Err(taken.invalid("property-version", other, "1"));
    }
    taken.take("property-version");
    // Nothing is cached, so both values mean the same.
    taken.bool("cache-enabled", false)?;
    let config = CatalogConfig::parse(name, &taken, base_dir)?;
    taken.finish()?;
    let embedded = config.kind == CatalogKind::Sql;
    let catalog = IcebergCatalog::new(name, options.clone(), Lake::shared(&config).await?);
    catalog.ensure_default_database(embedded).await.context(|| format!("catalog `{name}`"))?;
    Ok(Arc::new(catalog))
}

/// What a table of the catalog `name` keeps of how far its source was read (`'source-positions' = 'table'`); `None` if it
/// keeps nothing.
///
/// # Errors
/// As [`create_catalog`]; Validation if there is no such table or what it keeps is damaged.
pub async fn kept_positions(
    name: &str,
    options: &BTreeMap<String, String>,
    base_dir: &Path,
    database: &str,
    table: &str,
) -> Result<Option<KeptPositions>> {
    let taken = Options::new(format!("catalog {name}"), "iceberg", options);
    let lake = Lake::open(CatalogConfig::parse(name, &taken, base_dir)?).await?;
    let found = lake.load(&table_ident(database, table)?).await?;
    KeptPositions::read(found.metadata()).context(|| lake.shown(found.identifier()))
}

/// The tables of a database that keep how far their source was read, sorted by name.
///
/// # Errors
/// As [`kept_positions`].
pub async fn kept_tables(
    name: &str,
    options: &BTreeMap<String, String>,
    base_dir: &Path,
    database: &str,
) -> Result<Vec<(String, KeptPositions, TableFacts)>> {
    let taken = Options::new(format!("catalog {name}"), "iceberg", options);
    let lake = Lake::open(CatalogConfig::parse(name, &taken, base_dir)?).await?;
    let tables = lake.client().list_tables(&lake::namespace(database)?).await;
    let mut tables = tables.map_err(|e| lake.error(format!("database {name}.{database}"), &e))?;
    tables.sort_by(|a, b| a.name().cmp(b.name()));
    let mut found = Vec::new();
    for ident in tables {
        let table = lake.load(&ident).await?;
        let kept = KeptPositions::read(table.metadata()).context(|| lake.shown(&ident))?;
        if let Some(kept) = kept {
            found.push((ident.name().to_owned(), kept, TableFacts::of(table.metadata())));
        }
    }
    Ok(found)
}

/// `'connector' = 'iceberg'`: a table of an Iceberg catalog declared in another catalog, for instance by `LIKE`, which
/// may then have computed columns and a watermark.
#[derive(Debug, Default, Clone, Copy)]
pub struct IcebergFactory;

/// Table properties of Iceberg that `LIKE` copies: they describe the table and are read from it.
const PROPERTY_PREFIXES: &[&str] =
    &["write.", "read.", "commit.", "history.", "gc.", "schema.", "compatibility.", "tidelake."];

impl IcebergFactory {
    fn table(
        table: &ResolvedTable,
        env: &ConnectorEnv,
        take: impl FnOnce(&Options) -> Result<()>,
    ) -> Result<(Connection, TableIdent)> {
        if let Some(m) = table.metadata.first() {
            return Err(Error::validation(format!(
                "table {}: Iceberg tables have no metadata column '{}'",
                table.def.path, m.key
            )));
        }
        let options = Options::new(&table.def.path, "iceberg", &table.options);
        let name = options.take("catalog-name").unwrap_or_else(|| table.def.path.catalog.clone());
        let database = options.take("catalog-database").unwrap_or_else(|| table.def.path.database.clone());
        let object = options.take("catalog-table").unwrap_or_else(|| table.def.path.object.clone());
        let config = CatalogConfig::parse(&name, &options, &env.base_dir)?;
        for prefix in PROPERTY_PREFIXES {
            options.prefix(prefix);
        }
        options.take("format-version");
        options.take(SORT_ORDER);
        take(&options)?;
        options.finish()?;
        Ok((Connection::lazy(config), table_ident(&database, &object)?))
    }
}

impl ConnectorFactory for IcebergFactory {
    fn identifier(&self) -> &'static str {
        "iceberg"
    }

    fn source(&self, table: &ResolvedTable, env: &ConnectorEnv) -> Result<Arc<dyn Source>> {
        let mut read = ReadOptions::At(Version::Current);
        let mut lookup = LookupCache::None;
        let (connection, ident) = Self::table(table, env, |options| {
            read = ReadOptions::parse(options)?;
            lookup = LookupCache::parse(options, false)?;
            // A table declared once may carry the options of its INSERTs as well.
            let writes = ["target-file-size-bytes", "compression-codec", "distribution-mode", "write-format"];
            for key in writes.iter().chain(sink::JOB_OPTIONS) {
                options.take(key);
            }
            Ok(())
        })?;
        let (schema, notices) = (table.scan_schema(), env.notices.clone());
        Ok(Arc::new(IcebergSource::new(connection, ident, read, schema, lookup, notices)))
    }

    fn sink(&self, table: &ResolvedTable, env: &ConnectorEnv) -> Result<Arc<dyn Sink>> {
        let mut write = WriteOptions::default();
        let (connection, ident) = Self::table(table, env, |options| {
            write = WriteOptions::parse(options)?;
            // A table declared once may carry the options of its reads as well.
            for key in READ_OPTIONS.iter().copied().chain(lookup_option_keys()) {
                options.take(key);
            }
            Ok(())
        })?;
        let known = Known::Template(Box::new(template(table, &ident)));
        Ok(Arc::new(IcebergSink::new(
            connection,
            ident,
            table.sink_schema(),
            write,
            known,
            env.notices.clone(),
        )))
    }
}

/// The Iceberg table that a declared table stands for: its physical columns, key, partitions and table properties.
fn template(table: &ResolvedTable, ident: &TableIdent) -> TableDef {
    let mut def = (*table.def).clone();
    def.path.database = ident.namespace().join(".");
    def.path.object = ident.name().to_owned();
    def.columns.retain(|c| c.kind == ColumnKind::Physical);
    def.watermark = None;
    def.options.retain(|k, _| {
        k == "format-version" || k == SORT_ORDER || PROPERTY_PREFIXES.iter().any(|p| k.starts_with(p))
    });
    def
}

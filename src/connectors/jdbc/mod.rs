//! The connector `jdbc`: tables of PostgreSQL, MySQL and MariaDB. The name and the options are those of Flink's connector; no
//! JVM and no driver is involved.
//!
//! ```text
//!  source  SELECT … [WHERE c BETWEEN …] ─► task per split ─► text values ─► batches
//!  lookup  SELECT … WHERE (k, …) IN (…) ─► rows of each key                  (behind `lookup.cache`)
//!  sink    rows ─► last of each key ─► BEGIN; DELETE …; INSERT … ON CONFLICT / ON DUPLICATE KEY …; COMMIT
//! ```
//!
//! | option | meaning |
//! |---|---|
//! | `url` | `jdbc:postgresql://host:port/database`, `jdbc:mysql://…`, `jdbc:mariadb://…`, with parameters behind `?`; encryption: `tls` |
//! | `table-name` | the table, `schema.table` where it has a schema |
//! | `username`, `password` | |
//! | `connection.max-retry-timeout` | how long connecting may take: 60 s |
//! | `scan.partition.column`, `.num`, `.lower-bound`, `.upper-bound` | read in parts, by ranges of a number; rows outside the bounds are not read, as in Flink |
//! | `scan.fetch-size` | rows that are asked for at once |
//! | `lookup.*` | [`crate::edges::lookup`]; `lookup.max-retries`: 3 |
//! | `sink.buffer-flush.max-rows`, `.interval`, `sink.max-retries`, `sink.parallelism` | when rows are written: 100 rows, 1 s; what is tried again: 3 times |
//! | `driver`, `scan.auto-commit`, `filter.handling.policy` | accepted: nothing depends on them |
//!
//! Values travel as text. A sink with a PRIMARY KEY writes by key, so that writing again after a failure changes nothing; without
//! one, rows may be there twice then: at least once, as in Flink. All is flushed at a checkpoint.

mod client;
mod config;
mod dialect;
mod lookup;
mod mysql;
mod postgres;
mod sink;
mod source;
#[cfg(test)]
mod tests;
mod tls;
mod values;

use std::sync::Arc;

use crate::catalog::ResolvedTable;
use crate::connectors::ConnectorFactory;
use crate::edges::{ConnectorEnv, Sink, Source};
use crate::error::Result;

use config::JdbcTable;
use sink::JdbcSink;
use source::JdbcSource;

/// Makes tables of databases.
#[derive(Debug, Default)]
pub struct JdbcFactory;

impl ConnectorFactory for JdbcFactory {
    fn identifier(&self) -> &'static str {
        "jdbc"
    }

    fn source(&self, table: &ResolvedTable, _env: &ConnectorEnv) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(JdbcSource::new(JdbcTable::parse(table)?, table.scan_schema())))
    }

    fn sink(&self, table: &ResolvedTable, _env: &ConnectorEnv) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(JdbcSink::new(JdbcTable::parse(table)?, table.sink_schema(), table.sink_primary_key())))
    }
}

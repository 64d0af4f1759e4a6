//! The connectors `rest-lookup` and `http`: tables whose rows are the answers of an HTTP service, for lookup joins. Names and
//! options are those of getindata's flink-http-connector, and of Apache's, which has grown out of it.
//!
//! ```text
//!  keys of a batch ─► a request each: GET …?k=v, or k and v in the body or the path ─► some at a time ─► answers
//!                                                                                      │ status: rows, none, again, failed
//!  rows of each key ◄─ key columns that an answer leaves out are those asked for ◄─ format
//! ```
//!
//! | option | meaning |
//! |---|---|
//! | `url` | `http://…` or `https://…`; `{name}` in it stands for a column, by `request.url-map` |
//! | `format` | of the answers: `json`, one object or an array of them; any format of records |
//! | `lookup-method` | `GET` (keys as parameters), `POST` or `PUT` (keys as a JSON object in the body) |
//! | `lookup.*` | [`crate::edges::lookup`], without `FULL`; `lookup.max-retries`: 3 |
//! | `source.lookup.header.NAME` | a header; `Authorization` is the user and password of Basic, unless it begins so |
//! | `source.lookup.use-raw-authorization-header` | `Authorization` as it stands |
//! | `source.lookup.request.timeout`, `.connection.timeout` | of a request: 30 s; of a connection |
//! | `source.lookup.request.thread-pool.size` | requests at a time of a subtask's batch: 8 |
//! | `source.lookup.success-codes`, `.retry-codes`, `.ignored-response-codes` | `2XX`; `500,503,504`; none, such as `404` |
//! | `source.lookup.retry-strategy.type` and what belongs to it | `fixed-delay` of 1 s, `exponential-delay` |
//! | `source.lookup.continue-on-error` | a request that fails finds no row |
//! | `source.lookup.result-type` | accepted: an array is as many rows as it has objects in either case |
//! | `request.query-param-fields`, `.body-fields`, `.url-map` | which keys go where |
//! | `security.cert.server`, `.cert.client`, `.key.client` | PEM files of trusted certificates, of an own one and its key |
//! | `asyncPolling` | accepted: requests never hold up what is behind them |
//!
//! Those with a dot begin with `gid.connector.http.` where the connector is `rest-lookup`, with `http.` where it is `http`.

mod config;
mod lookup;
mod request;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use crate::catalog::ResolvedTable;
use crate::connectors::{ConnectorFactory, not_a};
use crate::edges::lookup::LookupTable;
use crate::edges::{ConnectorEnv, ScanRequest, Sink, Source, SourceReader, SplitState};
use crate::error::{Error, Result};

use config::RestTable;
use lookup::RestLookups;

/// Makes tables of HTTP services, under one of two names.
#[derive(Debug, Clone, Copy)]
pub struct RestFactory {
    identifier: &'static str,
    prefix: &'static str,
}

impl RestFactory {
    /// `rest-lookup`, as getindata names it.
    pub fn rest_lookup() -> Self {
        RestFactory { identifier: "rest-lookup", prefix: "gid.connector.http." }
    }

    /// `http`, as Apache names it.
    pub fn http() -> Self {
        RestFactory { identifier: "http", prefix: "http." }
    }
}

impl ConnectorFactory for RestFactory {
    fn identifier(&self) -> &'static str {
        self.identifier
    }

    fn source(&self, table: &ResolvedTable, env: &ConnectorEnv) -> Result<Arc<dyn Source>> {
        let parsed = RestTable::parse(table, env, self.identifier, self.prefix)?;
        Ok(Arc::new(RestSource {
            connector: self.identifier,
            schema: table.scan_schema(),
            table: Arc::new(parsed),
        }))
    }

    fn sink(&self, table: &ResolvedTable, _env: &ConnectorEnv) -> Result<Arc<dyn Sink>> {
        Err(not_a("sink", table, self.identifier))
    }
}

/// A table that is asked and never read.
#[derive(Debug)]
struct RestSource {
    connector: &'static str,
    schema: SchemaRef,
    table: Arc<RestTable>,
}

#[async_trait]
impl Source for RestSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn bounded(&self) -> bool {
        false
    }

    fn lookup(&self) -> Option<LookupTable> {
        let points = RestLookups::new(Arc::clone(&self.table), Arc::clone(&self.schema));
        Some(LookupTable { cache: self.table.cache.clone(), points: Some(Arc::new(points)) })
    }

    async fn readers(
        &self,
        _scan: ScanRequest,
        _parallelism: usize,
        _restored: Option<Vec<SplitState>>,
    ) -> Result<Vec<Box<dyn SourceReader>>> {
        Err(Error::unsupported(format!(
            "table {}: the connector '{}' can only be asked for the rows of keys, not for all that there are",
            self.table.name, self.connector
        ))
        .hint("use it as the right side of a lookup join: JOIN t FOR SYSTEM_TIME AS OF a.proc_time ON a.k = t.k, in streaming mode"))
    }
}

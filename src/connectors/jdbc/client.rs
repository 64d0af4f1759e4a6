//! Connections to either kind of database, and a few of them to be used in turn.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::config::Address;
use super::dialect::Dialect;
use super::mysql::MysqlClient;
use super::postgres::PostgresClient;
use super::values::Cells;
use crate::edges::lookup::turn::waiting;
use crate::error::{Error, Result};

/// A connection. One that failed, or whose call was given up, must not be used again.
pub(super) enum Client {
    Postgres(PostgresClient),
    Mysql(Box<MysqlClient>),
}

impl Client {
    pub(super) async fn connect(address: &Address) -> Result<Self> {
        let connecting = async {
            let mut client = match address.dialect {
                Dialect::Postgres => Client::Postgres(PostgresClient::connect(address).await?),
                Dialect::Mysql => Client::Mysql(Box::new(MysqlClient::connect(address).await?)),
            };
            client.execute(address.dialect.session()).await?;
            Ok(client)
        };
        match tokio::time::timeout(address.timeout, connecting).await {
            Ok(client) => client,
            Err(_) => Err(Error::external(format!("no connection within {} s", address.timeout.as_secs()))),
        }
        .map_err(|e: Error| e.context(format!("database {address}")))
    }

    /// Runs statements without a result.
    pub(super) async fn execute(&mut self, sql: &str) -> Result<()> {
        match self {
            Client::Postgres(client) => client.execute(sql).await,
            Client::Mysql(client) => client.execute(sql).await,
        }
    }

    /// Runs a query of so many columns.
    pub(super) async fn query(&mut self, sql: &str, columns: usize) -> Result<Cells> {
        match self {
            Client::Postgres(client) => client.query(sql, columns).await,
            Client::Mysql(client) => {
                client.begin(sql).await?;
                let mut all = Cells::new(columns);
                while client.fetch(&mut all, usize::MAX).await? {}
                Ok(all)
            }
        }
    }

    /// Begins a query whose rows are fetched in parts.
    pub(super) async fn begin(&mut self, sql: &str) -> Result<()> {
        match self {
            Client::Postgres(client) => client.begin(sql).await,
            Client::Mysql(client) => client.begin(sql).await,
        }
    }

    /// The next part of it, empty at its end.
    pub(super) async fn fetch(&mut self, columns: usize, rows: usize) -> Result<Cells> {
        match self {
            Client::Postgres(client) => client.fetch(columns, rows).await,
            Client::Mysql(client) => {
                let mut part = Cells::new(columns);
                client.fetch(&mut part, rows).await?;
                Ok(part)
            }
        }
    }
}

/// How long is waited before something is tried again for the n-th time.
pub(super) fn pause(attempt: u32) -> Duration {
    Duration::from_millis(200u64.saturating_mul(1 << attempt.min(5)))
}

/// Connections that are used in turn.
pub(super) struct Pool {
    address: Address,
    idle: Mutex<Vec<Client>>,
    permits: Semaphore,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({})", self.address)
    }
}

/// Connections of one pool.
const MOST_CONNECTIONS: usize = 4;

impl Pool {
    pub(super) fn new(address: Address) -> Self {
        Pool { address, idle: Mutex::default(), permits: Semaphore::new(MOST_CONNECTIONS) }
    }

    /// Runs a query; one that fails is tried again on another connection.
    pub(super) async fn query(&self, sql: &str, columns: usize, retries: u32) -> Result<Cells> {
        let closed = |_| Error::internal("a pool was closed");
        let _permit = waiting(self.permits.acquire()).await.map_err(closed)?;
        let mut attempt = 0;
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let is_reused = idle.is_some();
            let answer = async {
                let mut client = match idle {
                    Some(client) => client,
                    None => Client::connect(&self.address).await?,
                };
                let cells = client.query(sql, columns).await?;
                Ok::<_, Error>((client, cells))
            };
            match answer.await {
                Ok((client, cells)) => {
                    self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(client);
                    return Ok(cells);
                }
                // The server may have closed it and the others long ago: no attempt.
                Err(e) if is_reused && e.is_retryable() => {
                    self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
                }
                Err(e) if attempt >= retries || !e.is_retryable() => return Err(e),
                Err(_) => {
                    tokio::time::sleep(pause(attempt)).await;
                    attempt += 1;
                }
            }
        }
    }
}

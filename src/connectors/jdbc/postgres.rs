//! A connection to PostgreSQL: text in, text out, large results through a cursor.

use std::time::Duration;

use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, SimpleQueryMessage};

use super::config::Address;
use super::tls::{Encryption, PostgresTls};
use super::values::Cells;
use crate::error::{Error, ErrorKind, Result};

/// A connection.
pub(super) struct PostgresClient {
    client: tokio_postgres::Client,
    /// Ends with the client; aborted all the same, as a call that was given up may leave it waiting.
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for PostgresClient {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl PostgresClient {
    pub(super) async fn connect(address: &Address) -> Result<Self> {
        let mut config = Config::new();
        config.host(&address.host).port(address.port).dbname(&address.database).application_name("tidelake");
        // A server that is gone without a word is noticed within minutes.
        config
            .keepalives_idle(Duration::from_secs(60))
            .keepalives_interval(Duration::from_secs(15))
            .keepalives_retries(4);
        if let Some(user) = &address.user {
            config.user(user);
        }
        if let Some(password) = &address.password {
            config.password(password);
        }
        if let Some(schema) = &address.schema {
            config.options(format!("-c search_path={schema}"));
        }
        config.ssl_mode(match address.tls.encryption {
            Encryption::Never => SslMode::Disable,
            Encryption::Preferred => SslMode::Prefer,
            Encryption::Required | Encryption::Trusted | Encryption::Host => SslMode::Require,
        });
        let tls = PostgresTls(address.tls.connector()?);
        let (client, connection) = config.connect(tls).await.map_err(error)?;
        // What goes wrong is told to whoever waits for an answer.
        let driver = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(PostgresClient { client, driver })
    }

    pub(super) async fn execute(&mut self, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).await.map_err(error)
    }

    pub(super) async fn query(&mut self, sql: &str, columns: usize) -> Result<Cells> {
        let mut cells = Cells::new(columns);
        for message in self.client.simple_query(sql).await.map_err(error)? {
            let SimpleQueryMessage::Row(row) = message else { continue };
            if row.len() < columns {
                return Err(Error::external("the database answered fewer columns than were asked for"));
            }
            for column in 0..columns {
                cells.push(column, row.try_get(column).map_err(error)?.map(str::as_bytes));
            }
            if columns == 0 {
                cells.push_row();
            }
        }
        Ok(cells)
    }

    pub(super) async fn begin(&mut self, sql: &str) -> Result<()> {
        self.execute(&format!("BEGIN READ ONLY; DECLARE tidelake_rows NO SCROLL CURSOR FOR {sql}")).await
    }

    pub(super) async fn fetch(&mut self, columns: usize, rows: usize) -> Result<Cells> {
        self.query(&format!("FETCH {rows} FROM tidelake_rows"), columns).await
    }
}

/// What the server said, or that it is not there.
fn error(e: tokio_postgres::Error) -> Error {
    let Some(said) = e.as_db_error() else {
        let cause = std::error::Error::source(&e).map(|c| format!(": {c}")).unwrap_or_default();
        return Error::external(format!("{e}{cause}"));
    };
    let detail = said.detail().map(|d| format!(" ({d})")).unwrap_or_default();
    let message = format!("{}{detail}", said.message());
    let kind = kind_of(said.code().code());
    let error = Error::new(kind, message);
    match said.hint() {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// The kind of an error by its SQLSTATE, which both databases have.
pub(super) fn kind_of(state: &str) -> ErrorKind {
    match state.get(..2) {
        Some("42" | "28" | "3D" | "3F" | "0A") => ErrorKind::Validation,
        Some("22" | "23") => ErrorKind::Data,
        _ => ErrorKind::External,
    }
}

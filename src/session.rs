//! A session: configuration, catalogs and the execution of statements one after the other.

use std::path::PathBuf;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::stream::BoxStream;

use crate::error::Result;
use crate::runtime::ChangeBatch;
use crate::runtime::job::RunningJob;
use crate::sql::ast::ParsedStatement;

/// How to begin a session.
#[derive(Debug, Clone, Default)]
pub struct SessionOptions {
    /// `key=value` options set before the first statement (`-s`).
    pub config: Vec<(String, String)>,
    /// What relative paths are relative to; the working directory if empty.
    pub base_dir: PathBuf,
}

/// What a statement gave.
pub enum StatementResult {
    /// DDL, SET, USE: done, perhaps with something to tell (printed to stderr).
    Done {
        /// A notice for the user.
        notice: Option<String>,
    },
    /// SHOW, DESCRIBE, EXPLAIN: rows to print as a table.
    Rows(SchemaRef, Vec<RecordBatch>),
    /// A query: read its rows until they end, then wait for its job.
    Query(RunningQuery),
    /// INSERT or statement set: wait for it.
    Insert(RunningJob),
}

/// A query that runs.
pub struct RunningQuery {
    /// Its columns.
    pub schema: SchemaRef,
    /// Batch mode: rows have no kinds.
    pub batch: bool,
    /// Its rows, as they come. Ends with the query; an error ends it too.
    pub rows: BoxStream<'static, Result<ChangeBatch>>,
    /// The job that makes them.
    pub job: RunningJob,
}

/// Executes statements.
pub struct Session {
    options: SessionOptions,
}

impl Session {
    /// A session with the default catalog.
    ///
    /// # Errors
    /// Validation for bad options.
    pub fn new(options: SessionOptions) -> Result<Self> {
        Ok(Session { options })
    }

    /// Executes one statement.
    ///
    /// # Errors
    /// With the location of the cause in the statement's script.
    pub async fn execute(&mut self, statement: &ParsedStatement) -> Result<StatementResult> {
        let _ = (&self.options, statement);
        Err(crate::error::Error::internal("not wired yet"))
    }
}

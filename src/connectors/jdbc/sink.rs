//! Writing a table: by its primary key, or appending.
//!
//! ```text
//!  batches ─► buffer ─► last row of each key ─► BEGIN; DELETE … WHERE k IN …; INSERT … ON CONFLICT …; COMMIT
//!              └ `max-rows`, `interval`, a barrier
//! ```
//!
//! What is written twice after a failure changes nothing where there is a key.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use super::client::{Client, pause};
use super::config::JdbcTable;
use super::values::Literals;
use crate::edges::{
    Committable, NoCommit, OpenedSink, Sink, SinkChangelog, SinkContext, SinkWriter, WriteMode,
};
use crate::error::{Error, Result, ResultExt};
use crate::state::GroupDirectory;
use crate::stream::{ChangeBatch, Epoch};

/// Rows of one statement, and its length in bytes.
const MOST_ROWS: usize = 1000;
const MOST_BYTES: usize = 1 << 20;

/// A table of a database as a sink.
#[derive(Debug)]
pub(super) struct JdbcSink {
    table: Arc<JdbcTable>,
    schema: SchemaRef,
    primary_key: Option<Vec<usize>>,
}

impl JdbcSink {
    pub(super) fn new(table: JdbcTable, schema: SchemaRef, primary_key: Option<Vec<usize>>) -> Self {
        JdbcSink { table: Arc::new(table), schema, primary_key }
    }
}

#[async_trait]
impl Sink for JdbcSink {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn changelog(&self) -> SinkChangelog {
        if self.primary_key.is_some() { SinkChangelog::Upsert } else { SinkChangelog::AppendOnly }
    }

    fn primary_key(&self) -> Option<Vec<usize>> {
        self.primary_key.clone()
    }

    fn always_upserts(&self) -> bool {
        self.primary_key.is_some()
    }

    fn holds_back(&self) -> bool {
        false
    }

    async fn open(&self, context: &SinkContext) -> Result<OpenedSink> {
        if context.mode == WriteMode::Overwrite {
            return Err(Error::unsupported(format!("INSERT OVERWRITE into the table {}", self.table.name))
                .hint("use INSERT INTO; with a PRIMARY KEY it replaces rows of equal keys"));
        }
        let names: Vec<String> =
            self.schema.fields().iter().map(|f| self.table.address.dialect.column(f.name())).collect();
        let mut client = Client::connect(&self.table.address).await?;
        // The table and its columns are there.
        let check = format!("SELECT {} FROM {} WHERE 1 = 0", names.join(", "), self.table.table);
        client.query(&check, names.len()).await.context(|| format!("table {}", self.table.name))?;
        let mut client = Some(client);
        let writers = (0..context.parallelism)
            .map(|_| {
                Box::new(JdbcWriter {
                    table: self.table.clone(),
                    names: names.clone(),
                    key: self.primary_key.clone(),
                    client: client.take(),
                    buffer: Vec::new(),
                    rows: 0,
                    since: None,
                    bytes: 0,
                }) as Box<dyn SinkWriter>
            })
            .collect();
        Ok(OpenedSink { writers, committer: Box::new(NoCommit) })
    }
}

struct JdbcWriter {
    table: Arc<JdbcTable>,
    names: Vec<String>,
    key: Option<Vec<usize>>,
    client: Option<Client>,
    buffer: Vec<ChangeBatch>,
    rows: usize,
    /// When the first row of the buffer came.
    since: Option<Instant>,
    bytes: u64,
}

impl JdbcWriter {
    async fn write_out(&mut self) -> Result<()> {
        let batches = std::mem::take(&mut self.buffer);
        (self.rows, self.since) = (0, None);
        if batches.is_empty() {
            return Ok(());
        }
        let statements = self.statements(&batches).context(|| format!("table {}", self.table.name))?;
        let mut attempt = 0;
        loop {
            let is_reused = self.client.is_some();
            match self.run(&statements).await {
                Ok(()) => {
                    self.bytes += statements.iter().map(|s| s.len() as u64).sum::<u64>();
                    return Ok(());
                }
                // The server may have closed the connection long ago: no attempt.
                Err(e) if is_reused && e.is_retryable() => {}
                Err(e) if attempt >= self.table.sink_retries || !e.is_retryable() => {
                    return Err(e.context(format!("table {}", self.table.name)));
                }
                Err(_) => {
                    tokio::time::sleep(pause(attempt)).await;
                    attempt += 1;
                }
            }
        }
    }

    /// One transaction. A connection that fails in it is not used again.
    async fn run(&mut self, statements: &[String]) -> Result<()> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => Client::connect(&self.table.address).await?,
        };
        client.execute("BEGIN").await?;
        for statement in statements {
            client.execute(statement).await?;
        }
        client.execute("COMMIT").await?;
        self.client = Some(client);
        Ok(())
    }

    fn statements(&self, batches: &[ChangeBatch]) -> Result<Vec<String>> {
        let mut statements = Vec::new();
        let columns = self.names.join(", ");
        let insert = format!("INSERT INTO {} ({columns}) VALUES ", self.table.table);
        let Some(key) = &self.key else {
            for batch in batches {
                let all: Vec<usize> = (0..batch.num_rows()).collect();
                self.add(&batch.rows, &all, None, &insert, "", &mut statements)?;
            }
            return Ok(statements);
        };
        let names_of = |of: &dyn Fn(&usize) -> bool| -> Vec<String> {
            let chosen = self.names.iter().enumerate().filter(|(i, _)| of(i));
            chosen.map(|(_, name)| name.clone()).collect()
        };
        let key_names: Vec<String> = key.iter().filter_map(|k| self.names.get(*k).cloned()).collect();
        let others = names_of(&|i| !key.contains(i));
        let replace = self.table.address.dialect.on_conflict(&key_names, &others);
        let compared = key_names.join(", ");
        let delete = format!("DELETE FROM {} WHERE ({compared}) IN (", self.table.table);
        for (batch, last) in batches.iter().zip(last_of_keys(batches, key)?) {
            // The old row of an update that another key has taken over goes, as in Flink.
            let is_deleted = |row: &usize| batch.kind(*row).is_retraction();
            let (deleted, written): (Vec<usize>, Vec<usize>) = last.into_iter().partition(is_deleted);
            self.add(&batch.rows, &deleted, Some(key), &delete, ")", &mut statements)?;
            self.add(&batch.rows, &written, None, &insert, &replace, &mut statements)?;
        }
        Ok(statements)
    }

    /// Statements over some rows of a batch, of all columns or of some.
    fn add(
        &self,
        batch: &RecordBatch,
        rows: &[usize],
        columns: Option<&[usize]>,
        begin: &str,
        end: &str,
        statements: &mut Vec<String>,
    ) -> Result<()> {
        let columns: Vec<ArrayRef> = match columns {
            None => batch.columns().to_vec(),
            Some(columns) => columns.iter().map(|c| batch.column(*c).clone()).collect(),
        };
        let literals = Literals::new(&columns, self.table.address.dialect)?;
        let mut statement = String::new();
        let mut of_statement = 0;
        for row in rows {
            if statement.is_empty() {
                statement.push_str(begin);
            } else {
                statement.push_str(", ");
            }
            literals.write_row(*row, &mut statement)?;
            of_statement += 1;
            if of_statement >= MOST_ROWS || statement.len() >= MOST_BYTES {
                statement.push_str(end);
                statements.push(std::mem::take(&mut statement));
                of_statement = 0;
            }
        }
        if !statement.is_empty() {
            statement.push_str(end);
            statements.push(statement);
        }
        Ok(())
    }
}

/// By batch, the rows behind which no other row of their key comes.
fn last_of_keys(batches: &[ChangeBatch], key: &[usize]) -> Result<Vec<Vec<usize>>> {
    let Some(first) = batches.first() else { return Ok(Vec::new()) };
    let types: Vec<_> = key.iter().map(|k| first.rows.column(*k).data_type().clone()).collect();
    let mut directory = GroupDirectory::new(&types)?;
    let mut slots_of = Vec::new();
    for batch in batches {
        let columns: Vec<ArrayRef> = key.iter().map(|k| batch.rows.column(*k).clone()).collect();
        let mut slots = Vec::new();
        directory.intern(&columns, batch.num_rows(), &mut slots)?;
        slots_of.push(slots);
    }
    let mut seen = vec![false; directory.capacity()];
    let mut last: Vec<Vec<usize>> = Vec::new();
    for slots in slots_of.iter().rev() {
        let mut rows = Vec::new();
        for (row, slot) in slots.iter().enumerate().rev() {
            if let Some(seen) = seen.get_mut(*slot as usize)
                && !std::mem::replace(seen, true)
            {
                rows.push(row);
            }
        }
        rows.reverse();
        last.push(rows);
    }
    last.reverse();
    Ok(last)
}

#[async_trait]
impl SinkWriter for JdbcWriter {
    async fn write(&mut self, batch: ChangeBatch) -> Result<()> {
        self.rows += batch.num_rows();
        self.since.get_or_insert_with(Instant::now);
        self.buffer.push(batch);
        if self.rows >= self.table.flush_rows { self.write_out().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<()> {
        match self.next_flush() {
            Some(at) if at <= Instant::now() => self.write_out().await,
            _ => Ok(()),
        }
    }

    fn next_flush(&self) -> Option<Instant> {
        Some(self.since? + self.table.flush_interval?)
    }

    async fn prepare(&mut self, _epoch: Epoch) -> Result<Option<Committable>> {
        self.write_out().await?;
        Ok(None)
    }

    fn bytes_written(&self) -> u64 {
        self.bytes
    }
}

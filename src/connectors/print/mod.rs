//! `'connector' = 'print'`: a line per row on standard output (or error), as Flink's print connector writes it.
//!
//! ```text
//!  [identifier:][task> ]+I[1, a, null]         the task is named when there are several
//! ```
//!
//! Lines of a batch are written at once, under the lock of the stream: lines of several tasks never mix.
//! Rows are visible when they arrive; nothing is held back for a checkpoint.

use std::io::Write;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use crate::catalog::ResolvedTable;
use crate::connectors::synthetic::refuse_metadata;
use crate::connectors::{ConnectorFactory, not_a};
use crate::edges::{
    Committable, ConnectorEnv, NoCommit, OpenedSink, Sink, SinkChangelog, SinkContext, SinkWriter, Source,
};
use crate::error::{Error, Result};
use crate::options::Options;
use crate::stream::{ChangeBatch, Epoch};
use crate::text::{Column, Style};

/// Makes `print` sinks.
#[derive(Debug, Default)]
pub struct PrintFactory;

impl ConnectorFactory for PrintFactory {
    fn identifier(&self) -> &'static str {
        "print"
    }

    fn source(&self, table: &ResolvedTable, _env: &ConnectorEnv) -> Result<Arc<dyn Source>> {
        Err(not_a("source", table, "print"))
    }

    fn sink(&self, table: &ResolvedTable, _env: &ConnectorEnv) -> Result<Arc<dyn Sink>> {
        refuse_metadata(table, "print")?;
        let options = Options::new(&table.def.path, "print", &table.options);
        let identifier = options.take("print-identifier").unwrap_or_default();
        let standard_error = options.bool("standard-error", false)?;
        options.finish()?;
        Ok(Arc::new(PrintSink {
            schema: table.sink_schema(),
            primary_key: table.sink_primary_key(),
            identifier,
            standard_error,
        }))
    }
}

#[derive(Debug)]
struct PrintSink {
    schema: SchemaRef,
    primary_key: Option<Vec<usize>>,
    identifier: String,
    standard_error: bool,
}

#[async_trait]
impl Sink for PrintSink {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn changelog(&self) -> SinkChangelog {
        SinkChangelog::All
    }

    fn holds_back(&self) -> bool {
        false
    }

    fn primary_key(&self) -> Option<Vec<usize>> {
        self.primary_key.clone()
    }

    async fn open(&self, context: &SinkContext) -> Result<OpenedSink> {
        let writers = (0..context.parallelism)
            .map(|task| {
                Box::new(PrintWriter {
                    prefix: prefix(&self.identifier, task, context.parallelism),
                    standard_error: self.standard_error,
                    text: String::new(),
                    written: 0,
                }) as Box<dyn SinkWriter>
            })
            .collect();
        Ok(OpenedSink { writers, committer: Box::new(NoCommit) })
    }
}

fn prefix(identifier: &str, task: usize, tasks: usize) -> String {
    match (identifier, tasks) {
        ("", 0 | 1) => String::new(),
        (id, 0 | 1) => format!("{id}> "),
        ("", _) => format!("{}> ", task + 1),
        (id, _) => format!("{id}:{}> ", task + 1),
    }
}

struct PrintWriter {
    prefix: String,
    standard_error: bool,
    /// Kept between batches for its allocation.
    text: String,
    written: u64,
}

#[async_trait]
impl SinkWriter for PrintWriter {
    async fn write(&mut self, batch: ChangeBatch) -> Result<()> {
        self.text.clear();
        format_rows(&batch, &self.prefix, &mut self.text)?;
        let written = if self.standard_error {
            std::io::stderr().lock().write_all(self.text.as_bytes())
        } else {
            let mut out = std::io::stdout().lock();
            out.write_all(self.text.as_bytes()).and_then(|()| out.flush())
        };
        written.map_err(|e| Error::external(format!("cannot print rows: {e}")))?;
        self.written += self.text.len() as u64;
        Ok(())
    }

    async fn prepare(&mut self, _epoch: Epoch) -> Result<Option<Committable>> {
        Ok(None)
    }

    fn bytes_written(&self) -> u64 {
        self.written
    }
}

fn format_rows(batch: &ChangeBatch, prefix: &str, out: &mut String) -> Result<()> {
    let columns = batch
        .rows
        .columns()
        .iter()
        .map(|c| Column::new(c, Style::Java, chrono_tz::UTC))
        .collect::<Result<Vec<_>>>()?;
    for row in 0..batch.num_rows() {
        out.push_str(prefix);
        out.push_str(batch.kind(row).symbol());
        out.push('[');
        for (i, column) in columns.iter().enumerate() {
            if i > 0 {
                out.push_str(", ");
            }
            column.write(row, out)?;
        }
        out.push_str("]\n");
    }
    Ok(())
}

#[cfg(test)]
mod tests;

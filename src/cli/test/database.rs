//! A session as sqllogictest drives it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use futures::StreamExt;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType};

use crate::cli::display::DisplayOptions;
use crate::cli::materialize::Materialized;
use crate::error::{Error, Result};
use crate::runtime::ChangeBatch;
use crate::session::{RunningQuery, Session, SessionOptions, StatementResult};
use crate::text::{Column, Style};

/// Longest time that one statement may take: an endless query must not hang a test run.
const LIMIT: Duration = Duration::from_secs(300);

pub(super) struct Database {
    session: Session,
    display: DisplayOptions,
    changelog: Arc<AtomicBool>,
}

impl Database {
    pub(super) fn open(config: Vec<(String, String)>, changelog: Arc<AtomicBool>) -> Result<Self> {
        let display = DisplayOptions::new(&config);
        let session = Session::new(SessionOptions { config, ..SessionOptions::default() })?;
        Ok(Database { session, display, changelog })
    }

    async fn execute(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>> {
        let mut output = DBOutput::StatementComplete(0);
        for statement in crate::sql::parse_script(sql)? {
            let result = self.session.execute(&statement).await?;
            self.display.executed(&statement.statement);
            output = match result {
                StatementResult::Done { .. } => DBOutput::StatementComplete(0),
                StatementResult::Insert(job) => {
                    DBOutput::StatementComplete(job.wait().await?.progress.rows_out)
                }
                StatementResult::Rows(schema, rows) => self.rows(&schema, &rows, true)?,
                StatementResult::Query(query) => self.query(query).await?,
            };
        }
        Ok(output)
    }

    async fn query(&self, query: RunningQuery) -> Result<DBOutput<DefaultColumnType>> {
        let RunningQuery { schema, batch, mut rows, job } = query;
        if self.changelog.load(Ordering::Relaxed) && !batch {
            let mut lines = Vec::new();
            while let Some(changes) = rows.next().await {
                self.changes(&changes?, &mut lines)?;
            }
            job.wait().await?;
            return Ok(DBOutput::Rows { types: vec![DefaultColumnType::Text], rows: lines });
        }
        let mut table = Materialized::new(schema.clone())?;
        while let Some(changes) = rows.next().await {
            table.apply(&changes?)?;
        }
        job.wait().await?;
        self.rows(&schema, &table.finish()?, false)
    }

    fn columns(&self, batch: &RecordBatch) -> Result<Vec<Column>> {
        batch.columns().iter().map(|c| Column::new(c, Style::Sql, self.display.zone())).collect()
    }

    /// Rows as cells; a single column of text is split into its lines if `lines`.
    fn rows(
        &self,
        schema: &SchemaRef,
        batches: &[RecordBatch],
        lines: bool,
    ) -> Result<DBOutput<DefaultColumnType>> {
        let types = schema.fields().iter().map(|f| column_type(f.data_type())).collect();
        let mut rows = Vec::new();
        for batch in batches {
            let columns = self.columns(batch)?;
            for row in 0..batch.num_rows() {
                let cells = columns
                    .iter()
                    .map(|c| {
                        let mut cell = String::new();
                        c.write(row, &mut cell)?;
                        Ok(cell)
                    })
                    .collect::<Result<Vec<String>>>()?;
                match cells.as_slice() {
                    [text] if lines && text.contains('\n') => {
                        rows.extend(text.trim_end().lines().map(|l| vec![shown(l.to_owned())]));
                    }
                    _ => rows.push(cells.into_iter().map(shown).collect()),
                }
            }
        }
        Ok(DBOutput::Rows { types, rows })
    }

    /// Changes as lines `+I[1, NULL]`.
    fn changes(&self, batch: &ChangeBatch, lines: &mut Vec<Vec<String>>) -> Result<()> {
        let columns = self.columns(&batch.rows)?;
        for row in 0..batch.num_rows() {
            let mut line = format!("{}[", batch.kind(row).symbol());
            for (i, column) in columns.iter().enumerate() {
                if i > 0 {
                    line.push_str(", ");
                }
                column.write(row, &mut line)?;
            }
            line.push(']');
            lines.push(vec![shown(line)]);
        }
        Ok(())
    }
}

/// A cell as it can stand in a file: never empty, never of several lines.
fn shown(cell: String) -> String {
    if cell.trim().is_empty() {
        return if cell.is_empty() { "(empty)".into() } else { format!("({} blanks)", cell.chars().count()) };
    }
    if cell.contains(['\n', '\r']) {
        return cell.replace('\r', "\\r").replace('\n', "\\n");
    }
    cell
}

fn column_type(ty: &DataType) -> DefaultColumnType {
    match ty {
        t if t.is_integer() => DefaultColumnType::Integer,
        t if t.is_numeric() => DefaultColumnType::FloatingPoint,
        _ => DefaultColumnType::Text,
    }
}

#[async_trait]
impl AsyncDB for Database {
    type Error = Error;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>> {
        match tokio::time::timeout(LIMIT, self.execute(sql)).await {
            Ok(result) => result,
            Err(_) => Err(Error::cancelled().context(format!("no end within {} s", LIMIT.as_secs()))),
        }
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "tidelake"
    }

    async fn sleep(duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_never_blank_nor_broken() {
        assert_eq!(shown(String::new()), "(empty)");
        assert_eq!(shown("  ".into()), "(2 blanks)");
        assert_eq!(shown("a\nb\r".into()), "a\\nb\\r");
        assert_eq!(shown("x y".into()), "x y");
    }
}

//! A session as sqllogictest drives it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use futures::StreamExt;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType};

use super::legs::{Course, Legs};
use super::runs::Run;
use crate::cli::display::DisplayOptions;
use crate::cli::materialize::Materialized;
use crate::error::{Error, Result};
use crate::runtime::coordinator::JobOptions;
use crate::runtime::job::JobSummary;
use crate::session::{RunningQuery, Session, SessionOptions, StatementResult};
use crate::sql::ast::{ParsedStatement, Statement};
use crate::stream::ChangeBatch;
use crate::text::{Column, Style};

/// Longest time that one statement may take: an endless query must not hang a test run.
const LIMIT: Duration = Duration::from_secs(300);

/// How the result of a query is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Shape {
    /// The rows that are left, in cells.
    #[default]
    Table,
    /// A line per change.
    Changes,
    /// The rows that are left, a line each as a change is, without its kind.
    RowsLeft,
}

/// What a database shares with who drives it.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// How the next query is shown.
    shape: Mutex<Shape>,
    /// Jobs that went on from a snapshot.
    pub(super) restores: AtomicUsize,
    /// Jobs that had state on disk.
    pub(super) spilled: AtomicUsize,
}

impl Shared {
    pub(super) fn show(&self, shape: Shape) {
        *self.shape.lock().unwrap_or_else(PoisonError::into_inner) = shape;
    }

    fn shape(&self) -> Shape {
        *self.shape.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session and how its statements are run.
pub(super) struct Database {
    session: Session,
    display: DisplayOptions,
    legs: Option<Legs>,
    /// For what does not run in legs.
    whole: JobOptions,
    shared: Arc<Shared>,
}

/// What the jobs of a statement have given so far.
#[derive(Default)]
struct Given {
    written: u64,
    /// Changes, if they are shown.
    lines: Option<Vec<Vec<String>>>,
    /// The rows that are left otherwise.
    table: Option<(SchemaRef, Materialized)>,
}

impl Database {
    pub(super) fn open(config: Vec<(String, String)>, run: &Run, shared: Arc<Shared>) -> Result<Self> {
        let display = DisplayOptions::new(&config);
        let mut session = Session::new(SessionOptions { config, ..SessionOptions::default() })?;
        let legs = run.restore_every.map(|batches| Legs {
            batches,
            rows: run.batch_rows.unwrap_or(1),
            parallelism: run.parallelism.clone(),
        });
        let whole = JobOptions { batch_rows: run.batch_rows, ..JobOptions::default() };
        session.set_job_options(whole.clone());
        Ok(Database { session, display, legs, whole, shared })
    }

    async fn execute(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>> {
        let mut output = DBOutput::StatementComplete(0);
        for statement in crate::sql::parse_script(sql)? {
            let runs = matches!(
                statement.statement,
                Statement::Query(_) | Statement::Insert(_) | Statement::StatementSet(_)
            );
            output = match self.legs.clone().filter(|_| runs) {
                None => self.run_once(&statement).await?,
                Some(legs) => {
                    let parallelism = self.session.config().parallelism()?;
                    let output = self.run_in_legs(&statement, &legs).await;
                    self.session.set("parallelism.default", &parallelism.to_string())?;
                    self.session.set_job_options(self.whole.clone());
                    output?
                }
            };
            self.display.executed(&statement.statement);
        }
        Ok(output)
    }

    async fn run_once(&mut self, statement: &ParsedStatement) -> Result<DBOutput<DefaultColumnType>> {
        let mut given = Given::default();
        match self.session.execute(statement).await? {
            StatementResult::Rows(schema, rows) => return self.rows(&schema, &rows, true),
            StatementResult::Done { .. } => {}
            StatementResult::Insert(job) => {
                self.ended(job.wait().await?, &mut given);
            }
            StatementResult::Query(query) => {
                self.query(query, &mut given).await?;
            }
        }
        self.output(given)
    }

    async fn run_in_legs(
        &mut self,
        statement: &ParsedStatement,
        legs: &Legs,
    ) -> Result<DBOutput<DefaultColumnType>> {
        let mut given = Given::default();
        let mut course = Course::new(legs).await?;
        loop {
            course.prepare(&mut self.session)?;
            let summary = match self.session.execute(statement).await? {
                StatementResult::Insert(job) => self.ended(job.wait().await?, &mut given),
                StatementResult::Query(query) => self.query(query, &mut given).await?,
                _ => return Err(Error::internal("neither a query nor an INSERT")),
            };
            if !course.goes_on(summary).await? {
                return self.output(given);
            }
            self.shared.restores.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn query(&self, query: RunningQuery, given: &mut Given) -> Result<JobSummary> {
        let RunningQuery { schema, batch, mut rows, job, .. } = query;
        if self.shared.shape() == Shape::Changes && !batch {
            while let Some(changes) = rows.next().await {
                self.changes(&changes?, given.lines.get_or_insert_default())?;
            }
            given.lines.get_or_insert_default();
        } else {
            let table = match &mut given.table {
                Some((_, table)) => table,
                none => &mut none.insert((schema.clone(), Materialized::new(schema)?)).1,
            };
            while let Some(changes) = rows.next().await {
                table.apply(&changes?)?;
            }
        }
        Ok(self.ended(job.wait().await?, given))
    }

    fn ended(&self, summary: JobSummary, given: &mut Given) -> JobSummary {
        given.written += summary.progress.rows_out;
        if summary.progress.spilled_bytes > 0 {
            self.shared.spilled.fetch_add(1, Ordering::Relaxed);
        }
        summary
    }

    fn output(&self, given: Given) -> Result<DBOutput<DefaultColumnType>> {
        let types = vec![DefaultColumnType::Text];
        match (given.lines, given.table) {
            (Some(rows), _) => Ok(DBOutput::Rows { types, rows }),
            (None, None) => Ok(DBOutput::StatementComplete(given.written)),
            (None, Some((_, table))) if self.shared.shape() == Shape::RowsLeft => {
                let mut lines = Vec::new();
                for rows in table.finish()? {
                    self.changes(&ChangeBatch::insert_only(rows?), &mut lines)?;
                }
                lines.iter_mut().flatten().for_each(|line| drop(line.drain(..2)));
                Ok(DBOutput::Rows { types, rows: lines })
            }
            (None, Some((schema, table))) => {
                let rows: Vec<RecordBatch> = table.finish()?.collect::<Result<_>>()?;
                self.rows(&schema, &rows, false)
            }
        }
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

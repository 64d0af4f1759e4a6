//! `tidelake run`.

use std::io::{BufWriter, Write};
use std::process::ExitCode;
use std::time::Instant;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use futures::StreamExt;

use crate::error::{Error, Result};
use crate::runtime::job::RunningJob;
use crate::session::config::PROCESS_MEMORY;
use crate::session::{RunningQuery, Session, SessionOptions, StatementResult};
use crate::sql::ast::{ParsedStatement, Statement};
use crate::stream::ChangeBatch;

use super::args::{Format, ResultMode, RunArgs};
use super::display::DisplayOptions;
use super::interrupt::{INTERRUPTED, Interrupts};
use super::materialize::Materialized;
use super::progress::{self, ProgressLine, count};
use super::render::{RenderOptions, RowWriter, is_reader_gone};
use super::script::{Failure, Script, scripts};

pub(super) async fn main(args: RunArgs) -> ExitCode {
    let interrupts = Interrupts::listen();
    match run(args, &interrupts).await {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("{}", failure.render());
            ExitCode::FAILURE
        }
    }
}

async fn run(args: RunArgs, interrupts: &Interrupts) -> Result<ExitCode, Failure> {
    let scripts = scripts(&args.input)?;
    let mut set = args.input.set;
    set.extend(args.memory.map(|size| (PROCESS_MEMORY.to_owned(), size)));
    let mut shell = Shell::new(set, interrupts.clone())?;
    shell.format = args.format;
    shell.result_mode = args.result_mode;
    for script in &scripts {
        // All of a script is parsed before any of it runs: a typo at its end must not leave half of it done.
        for statement in script.statements()? {
            match shell.execute(script, &statement).await? {
                Flow::Continue => {}
                Flow::End(code) => return Ok(code),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What follows a statement.
pub(super) enum Flow {
    /// The next one.
    Continue,
    /// Nothing: the user stopped it, or nobody reads the output.
    End(ExitCode),
}

/// A session with a terminal.
pub(super) struct Shell {
    session: Session,
    display: DisplayOptions,
    interrupts: Interrupts,
    format: Format,
    result_mode: ResultMode,
}

impl Shell {
    pub(super) fn new(config: Vec<(String, String)>, interrupts: Interrupts) -> Result<Self> {
        let display = DisplayOptions::new(&config);
        let session = Session::new(SessionOptions { config, ..SessionOptions::default() })?;
        Ok(Shell { session, display, interrupts, format: Format::Table, result_mode: ResultMode::Changelog })
    }

    /// Executes a statement and shows what it gives.
    pub(super) async fn execute(
        &mut self,
        script: &Script,
        statement: &ParsedStatement,
    ) -> Result<Flow, Failure> {
        let failure = |e: Error| script.failure(e);
        let result = self.session.execute(statement).await.map_err(failure)?;
        self.display.executed(&statement.statement);
        let shown = match result {
            StatementResult::Done { notice } => {
                if let Some(notice) = notice {
                    eprintln!("{notice}");
                }
                Ok(Flow::Continue)
            }
            StatementResult::Rows(schema, rows) => self.show_rows(&schema, &rows),
            StatementResult::Query(query) => self.show_query(query).await,
            StatementResult::Insert(job) => self.wait(job, name_of(&statement.statement)).await,
        };
        match shown {
            Err(e) if is_reader_gone(&e) => Ok(Flow::End(ExitCode::SUCCESS)),
            other => other.map_err(|e| failure(e.at(statement.location))),
        }
    }

    fn options(&self, changelog: bool) -> RenderOptions {
        RenderOptions {
            format: self.format,
            changelog,
            zone: self.display.zone(),
            max_width: self.display.max_width(),
        }
    }

    /// SHOW, DESCRIBE, EXPLAIN.
    fn show_rows(&self, schema: &SchemaRef, rows: &[RecordBatch]) -> Result<Flow> {
        let mut out = BufWriter::new(std::io::stdout().lock());
        if let (Format::Table, Some(text)) = (self.format, only_text(rows)) {
            // A plan or a definition: a frame around it would only break its lines.
            writeln!(out, "{}", text.trim_end_matches('\n'))
                .and_then(|()| out.flush())
                .map_err(Error::from)?;
            return Ok(Flow::Continue);
        }
        let options = RenderOptions { max_width: usize::MAX, ..self.options(false) };
        let mut writer = RowWriter::new(out, schema, options);
        for batch in rows {
            writer.write(&ChangeBatch::insert_only(batch.clone()))?;
        }
        writer.finish()?;
        Ok(Flow::Continue)
    }

    async fn show_query(&self, query: RunningQuery) -> Result<Flow> {
        let RunningQuery { schema, batch, mut rows, job } = query;
        let started = Instant::now();
        let stop = job.stop_handle();
        let _guard = self.interrupts.guard(stop.clone());
        let keep = !batch && self.result_mode == ResultMode::Final;
        // On a terminal the rows themselves are the progress.
        let line = (keep || !std::io::IsTerminal::is_terminal(&std::io::stdout()))
            .then(|| ProgressLine::start(job.metrics()));
        let changelog = !batch && !keep;
        let mut writer = RowWriter::new(BufWriter::new(std::io::stdout()), &schema, self.options(changelog));
        let mut table = if keep { Some(Materialized::new(schema)?) } else { None };
        while let Some(changes) = rows.next().await {
            let changes = changes?;
            match &mut table {
                Some(table) => table.apply(&changes)?,
                None => {
                    let mut written = writer.write(&changes);
                    if !batch {
                        written = written.and_then(|()| writer.flush());
                    }
                    if written.is_err() {
                        stop.stop();
                        return written.map(|()| Flow::Continue);
                    }
                }
            }
        }
        // An error of the job says more than the rows that are left.
        let summary = job.wait().await?;
        drop(line);
        if let Some(table) = table {
            for batch in table.finish()? {
                writer.write(&ChangeBatch::insert_only(batch))?;
            }
        }
        let printed = writer.finish()?;
        if self.format == Format::Table {
            match (changelog, printed) {
                (false, 0) => eprintln!("Empty set"),
                (false, n) => eprintln!("{} {} in set", count(n), if n == 1 { "row" } else { "rows" }),
                (true, n) => {
                    eprintln!("Received a total of {} {}", count(n), if n == 1 { "row" } else { "rows" })
                }
            }
        }
        if let Some(text) = progress::summary(None, &summary.progress, started.elapsed()) {
            eprintln!("{text}");
        }
        // A batch query that was stopped has not given its answer.
        Ok(self.flow_after_job(if batch { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS }))
    }

    /// INSERT and statement sets.
    async fn wait(&self, job: RunningJob, what: &str) -> Result<Flow> {
        let started = Instant::now();
        let _guard = self.interrupts.guard(job.stop_handle());
        let line = ProgressLine::start(job.metrics());
        let summary = job.wait().await;
        drop(line);
        if let Some(text) = progress::summary(Some(what), &summary?.progress, started.elapsed()) {
            eprintln!("{text}");
        }
        Ok(self.flow_after_job(ExitCode::SUCCESS))
    }

    fn flow_after_job(&self, when_stopped: ExitCode) -> Flow {
        if self.interrupts.interrupted() { Flow::End(when_stopped) } else { Flow::Continue }
    }
}

fn name_of(statement: &Statement) -> &'static str {
    match statement {
        Statement::StatementSet(_) => "STATEMENT SET",
        Statement::CreateTable(_) => "CREATE TABLE AS",
        _ => "INSERT",
    }
}

/// The text of a result that is one text of several lines.
fn only_text(rows: &[RecordBatch]) -> Option<&str> {
    let [batch] = rows else { return None };
    if batch.num_rows() != 1 || batch.num_columns() != 1 || *batch.column(0).data_type() != DataType::Utf8 {
        return None;
    }
    Some(batch.column(0).as_string::<i32>().value(0)).filter(|text| text.contains('\n'))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn run_text(text: &str, interrupts: &Interrupts) -> Result<bool, Failure> {
        let script = Script { name: "t.sql".into(), text: text.into() };
        let mut shell = Shell::new(Vec::new(), interrupts.clone())?;
        for statement in script.statements()? {
            if let Flow::End(code) = shell.execute(&script, &statement).await? {
                assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
                return Ok(true);
            }
        }
        Ok(false)
    }

    const ENDLESS: &str = "CREATE TABLE g (a INT) WITH ('connector' = 'datagen', 'rows-per-second' = '100');
        CREATE TABLE b (a INT) WITH ('connector' = 'blackhole');";

    #[tokio::test(flavor = "multi_thread")]
    async fn a_signal_ends_an_endless_insert_and_the_script_with_it() {
        let interrupts = Interrupts::default();
        let signal = interrupts.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            signal.signalled();
        });
        let text = format!("{ENDLESS} INSERT INTO b SELECT a FROM g; SELECT not_reached;");
        let ended = tokio::time::timeout(Duration::from_secs(20), run_text(&text, &interrupts)).await;
        assert!(matches!(ended, Ok(Ok(true))), "{ended:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn statements_follow_each_other_until_one_fails() {
        let interrupts = Interrupts::default();
        let text = "CREATE TABLE g (a INT) WITH ('connector' = 'datagen', 'number-of-rows' = '10');
            CREATE TABLE b (a INT) WITH ('connector' = 'blackhole');
            INSERT INTO b SELECT a FROM g;";
        assert!(matches!(run_text(text, &interrupts).await, Ok(false)));
        let failure =
            run_text(&format!("{text} INSERT INTO b\nSELECT nope FROM g;"), &interrupts).await.unwrap_err();
        let rendered = failure.render();
        assert!(rendered.starts_with("error: t.sql:4:8: "), "{rendered}");
    }

    #[tokio::test]
    async fn a_script_that_does_not_parse_does_nothing() {
        let failure = run_text("CREATE TABLE x (a INT); SELEC 1", &Interrupts::default()).await.unwrap_err();
        assert!(failure.render().starts_with("error: t.sql:1:25: "), "{}", failure.render());
    }
}

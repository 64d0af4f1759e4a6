//! `tidelake run`.

use std::io::{BufWriter, Write};
use std::process::ExitCode;
use std::time::Instant;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use futures::StreamExt;

use crate::edges::PROCESS_MEMORY;
use crate::error::{Error, Result};
use crate::runtime::job::{JobNature, RunningJob};
use crate::session::{RunningQuery, Session, SessionOptions, StatementResult};
use crate::sql::ast::{ParsedStatement, Statement};
use crate::stream::ChangeBatch;

use super::args::{Format, ResultMode, RunArgs};
use super::display::DisplayOptions;
use super::http::Server;
use super::interrupt::Interrupts;
use super::job_metrics::AtHand;
use super::materialize::Materialized;
use super::progress::{self, ProgressLine, count, counted};
use super::render::{RenderOptions, RowWriter, is_reader_gone};
use super::script::{Failure, Script, scripts};
use super::stderr::{Telling, say};

pub(super) async fn main(args: RunArgs) -> ExitCode {
    let interrupts = Interrupts::listen();
    match run(args, interrupts).await {
        Ok(code) => code,
        Err(failure) => {
            say(&failure.render());
            ExitCode::FAILURE
        }
    }
}

async fn run(args: RunArgs, interrupts: Interrupts) -> Result<ExitCode, Failure> {
    let scripts = scripts(&args.input)?;
    let mut set = args.input.set;
    set.extend(args.memory.map(|size| (PROCESS_MEMORY.to_owned(), size)));
    let mut shell = Shell::new(
        SessionOptions { config: set, fresh: args.fresh, ..SessionOptions::default() },
        interrupts,
    )?;
    if shell.session.config().process_memory().is_ok_and(|bytes| bytes < LITTLE_MEMORY)
        && let Some(hooks) = super::ALLOCATOR.get()
    {
        (hooks.little_memory)();
    }
    if let Some(file) = &args.tableflow {
        let made = super::tableflow::live(&mut shell.session, file).await;
        made.map_err(|e| Failure::from(e.context("--tableflow")))?;
    }
    let server = match args.metrics_addr {
        Some(address) => Some(Server::serve(address, shell.at_hand.pages()).await?),
        None => None,
    };
    if let Some(server) = &server {
        say(&format!("metrics: http://{}/metrics", server.address()));
    }
    shell.format = args.format;
    shell.result_mode = args.result_mode;
    shell.run(&scripts, |statement| statement).await
}

/// Below that many bytes for a process, free memory is worth more than the time that it takes to get it anew.
const LITTLE_MEMORY: usize = 1 << 30;

/// The part of the memory that a result kept for the end may take: one in so many.
const RESULT_PARTS: usize = 8;

/// What follows a statement.
#[derive(Debug, PartialEq, Eq)]
enum Flow {
    /// The next one.
    Continue,
    /// Nothing: nobody reads the output.
    Quit,
    /// Nothing: a signal ended a job without an end, as it should.
    Ended,
    /// Nothing: a signal came before the statement was done.
    Interrupted,
}

/// A session with a terminal.
pub(super) struct Shell {
    session: Session,
    display: DisplayOptions,
    interrupts: Interrupts,
    at_hand: AtHand,
    format: Format,
    result_mode: ResultMode,
}

impl Shell {
    pub(super) fn new(options: SessionOptions, interrupts: Interrupts) -> Result<Self> {
        let display = DisplayOptions::new(&options.config);
        let session = Session::new(options)?;
        Ok(Shell {
            session,
            display,
            interrupts,
            at_hand: AtHand::default(),
            format: Format::Table,
            result_mode: ResultMode::Changelog,
        })
    }

    /// Runs the statements of scripts, each as `prepare` makes it, until one fails or a signal comes.
    pub(super) async fn run(
        &mut self,
        scripts: &[Script],
        prepare: impl Fn(ParsedStatement) -> ParsedStatement,
    ) -> Result<ExitCode, Failure> {
        for (i, script) in scripts.iter().enumerate() {
            // All of a script is parsed before any of it runs: a typo at its end must not leave half of it done.
            let statements = script.statements()?;
            let later = scripts.get(i + 1..).unwrap_or_default();
            for (n, statement) in statements.iter().enumerate() {
                let not_run = not_run(script, statements.get(n + 1..).unwrap_or_default(), later);
                let place = format!("{}:{}", script.name, statement.location.line);
                let also = not_run.as_ref().map_or_else(String::new, |not_run| format!("; {not_run}"));
                self.interrupts.begin(format!("the statement at {place} is not done{also}"));
                let flow = self.execute(script, &prepare(statement.clone())).await?;
                let interrupted = || self.interrupts.signal().map(|s| ExitCode::from(s.exit_code()));
                match (flow, interrupted()) {
                    (Flow::Continue, None) => {}
                    (Flow::Quit, _) => return Ok(ExitCode::SUCCESS),
                    (flow, code) => {
                        if let Some(not_run) = &not_run {
                            say(not_run);
                        }
                        let done = flow == Flow::Ended || flow == Flow::Continue && not_run.is_none();
                        return Ok(code.filter(|_| !done).unwrap_or(ExitCode::SUCCESS));
                    }
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Executes a statement and shows what it gives.
    async fn execute(&mut self, script: &Script, statement: &ParsedStatement) -> Result<Flow, Failure> {
        let failure = |e: Error| script.failure(e);
        let result = self.session.execute(statement).await.map_err(failure)?;
        self.display.executed(&statement.statement);
        let shown = match result {
            StatementResult::Done { notice } => {
                if let Some(notice) = notice {
                    say(&notice);
                }
                Ok(Flow::Continue)
            }
            StatementResult::Rows(schema, rows) => self.show_rows(&schema, &rows),
            StatementResult::Query(query) => self.show_query(query).await,
            StatementResult::Insert(job) => self.wait(job, &statement.statement).await,
        };
        match shown {
            Err(e) if is_reader_gone(&e) => Ok(Flow::Quit),
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
        let RunningQuery { schema, types, batch, append_only, mut rows, job } = query;
        let started = Instant::now();
        let (nature, stop) = (job.nature(), job.stop_handle());
        let _guard = self.interrupts.guard(&job);
        self.at_hand.begin(&job);
        let telling = Telling::start(&job);
        let changelog = !batch && self.result_mode == ResultMode::Changelog;
        // What nothing is taken back of need not be kept for the end.
        let keep = !append_only && !changelog;
        // On a terminal the rows themselves are the progress.
        let line = (keep || !std::io::IsTerminal::is_terminal(&std::io::stdout()))
            .then(|| ProgressLine::start(&job));
        let mut writer = RowWriter::new(BufWriter::new(std::io::stdout()), &schema, self.options(changelog))
            .with_types(types);
        let mut table = match keep {
            true => {
                let config = self.session.config();
                let room = config.process_memory()? / RESULT_PARTS;
                Some(Materialized::new(schema)?.spilling(room, config.temporary_folder()))
            }
            false => None,
        };
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
                        stop.cancel();
                        return written.map(|()| Flow::Continue);
                    }
                }
            }
        }
        // An error of the job says more than the rows that are left.
        let ended = job.wait().await;
        drop((line, telling));
        let summary = match ended {
            Ok(summary) => summary,
            Err(e) if self.interrupts.ended(&e) => {
                let printed = match table {
                    Some(_) => "nothing of its result is printed",
                    None => {
                        writer.finish()?;
                        "the rows printed are not all of its result"
                    }
                };
                say(&format!("interrupted: SELECT was stopped before its end; {printed}"));
                return Ok(Flow::Interrupted);
            }
            Err(e) => return Err(e),
        };
        if let Some(table) = table {
            for batch in table.finish()? {
                writer.write(&ChangeBatch::insert_only(batch?))?;
            }
        }
        let printed = writer.finish()?;
        if self.format == Format::Table {
            say(&match (changelog, printed) {
                (false, 0) => "Empty set".to_owned(),
                (false, n) => format!("{} in set", counted(n, "row")),
                (true, n) => format!("Received a total of {}", counted(n, "row")),
            });
        }
        if let Some(text) = progress::summary(None, &summary.progress, started.elapsed()) {
            say(&text);
        }
        Ok(self.flow_after(nature))
    }

    /// INSERT and statement sets.
    async fn wait(&self, job: RunningJob, statement: &Statement) -> Result<Flow> {
        let started = Instant::now();
        let (nature, metrics) = (job.nature(), job.metrics());
        let _guard = self.interrupts.guard(&job);
        self.at_hand.begin(&job);
        let (line, telling) = (ProgressLine::start(&job), Telling::start(&job));
        let ended = job.wait().await;
        drop((line, telling));
        match ended {
            Ok(summary) => {
                let what = name_of(statement);
                if let Some(text) = progress::summary(Some(what), &summary.progress, started.elapsed()) {
                    say(&text);
                }
                // Somebody may have stopped it with a savepoint.
                Ok(if summary.stopped { Flow::Ended } else { self.flow_after(nature) })
            }
            Err(e) if self.interrupts.ended(&e) => {
                let commits = metrics.checkpoints.load(std::sync::atomic::Ordering::Relaxed);
                say(&interrupted_insert(statement, nature, commits));
                Ok(Flow::Interrupted)
            }
            Err(e) => Err(e),
        }
    }

    /// After a job that ended well.
    fn flow_after(&self, job: JobNature) -> Flow {
        if job.endless && self.interrupts.signal().is_some() { Flow::Ended } else { Flow::Continue }
    }
}

/// The statements that a signal leaves out, if there are any.
fn not_run(script: &Script, rest: &[ParsedStatement], later: &[Script]) -> Option<String> {
    // A script that does not parse has one thing to say at least.
    let in_later = later.iter().map(|s| s.statements().map_or(1, |all| all.len()));
    let n = rest.len() + in_later.sum::<usize>();
    let place = match (rest.first(), later.first()) {
        (Some(next), _) => format!("{}:{}", script.name, next.location.line),
        (None, Some(next)) => next.name.clone(),
        (None, None) => return None,
    };
    let statements = counted(n as u64, "statement");
    match n {
        0 => None,
        1 => Some(format!("not run: {statements}, {place}")),
        _ => Some(format!("not run: {statements}, from {place} on")),
    }
}

/// What an INSERT that was stopped before its end leaves.
fn interrupted_insert(statement: &Statement, job: JobNature, commits: u64) -> String {
    let mut text = format!("interrupted: {} was stopped before its end; ", name_of(statement));
    text += &match (job.holds_back, commits) {
        (true, 0) => "nothing of it is committed".to_owned(),
        (true, 1) => "what its first commit holds stays, the rest is not committed".to_owned(),
        (true, n) => format!("what its first {} commits hold stays, the rest is not committed", count(n)),
        (false, _) => "rows that it had written may stay".to_owned(),
    };
    if job.is_kept {
        text += "; run again it goes on from its last checkpoint";
    }
    if matches!(statement, Statement::CreateTable(_)) {
        text += "; the table that it created stays";
    }
    text
}

fn name_of(statement: &Statement) -> &'static str {
    match statement {
        Statement::StatementSet(_) => "STATEMENT SET",
        Statement::CreateTable(_) => "CREATE TABLE AS",
        Statement::RowChange(change) => change.keyword(),
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
    use crate::cli::interrupt::Signal;

    async fn run_text(text: &str, interrupts: &Interrupts) -> Result<String, Failure> {
        let script = Script { name: "t.sql".into(), text: text.into() };
        let code = Shell::new(SessionOptions::default(), interrupts.clone())?.run(&[script], |s| s).await?;
        Ok(format!("{code:?}"))
    }

    fn code(code: u8) -> String {
        format!("{:?}", ExitCode::from(code))
    }

    async fn signalled_after_a_while(text: &str, signal: Signal) -> String {
        let interrupts = Interrupts::default();
        let signalled = interrupts.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            signalled.signalled(signal);
        });
        tokio::time::timeout(Duration::from_secs(20), run_text(text, &interrupts)).await.unwrap().unwrap()
    }

    const ENDLESS: &str = "CREATE TABLE g (a INT) WITH ('connector' = 'datagen', 'rows-per-second' = '100');
        CREATE TABLE b (a INT) WITH ('connector' = 'blackhole');";

    #[tokio::test(flavor = "multi_thread")]
    async fn a_signal_ends_an_endless_insert_and_the_script_with_it() {
        let text = format!("{ENDLESS} INSERT INTO b SELECT a FROM g; SELECT not_reached;");
        assert_eq!(signalled_after_a_while(&text, Signal::Terminate).await, code(0));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_signal_before_the_end_is_no_success() {
        let bounded = ENDLESS.replace("'100'", "'10', 'number-of-rows' = '100000'");
        for mode in ["batch", "streaming"] {
            for (job, signal) in
                [("INSERT INTO b SELECT a FROM g", Signal::Interrupt), ("SELECT a FROM g", Signal::Terminate)]
            {
                let text =
                    format!("SET 'execution.runtime-mode' = '{mode}'; {bounded} {job}; SELECT not_reached;");
                assert_eq!(signalled_after_a_while(&text, signal).await, code(signal.exit_code()), "{mode}");
            }
        }
    }

    #[test]
    fn what_is_not_run_is_told() {
        let script = |name: &str, text: &str| Script { name: name.into(), text: text.into() };
        let (a, b) = (script("a.sql", "SELECT 1;\nSELECT 2;\nSELECT 3;"), script("b.sql", "SELEC"));
        let statements = a.statements().unwrap();
        let told = |from: usize, later: &[Script]| not_run(&a, &statements[from..], later);
        assert_eq!(told(3, &[]), None);
        assert_eq!(told(2, &[]).unwrap(), "not run: 1 statement, a.sql:3");
        assert_eq!(told(1, &[]).unwrap(), "not run: 2 statements, from a.sql:2 on");
        assert_eq!(told(3, std::slice::from_ref(&b)).unwrap(), "not run: 1 statement, b.sql");
        assert_eq!(told(1, &[b]).unwrap(), "not run: 3 statements, from a.sql:2 on");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn statements_follow_each_other_until_one_fails() {
        let interrupts = Interrupts::default();
        let text = "CREATE TABLE g (a INT) WITH ('connector' = 'datagen', 'number-of-rows' = '10');
            CREATE TABLE b (a INT) WITH ('connector' = 'blackhole');
            INSERT INTO b SELECT a FROM g;";
        assert_eq!(run_text(text, &interrupts).await.unwrap(), code(0));
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

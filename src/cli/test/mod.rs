//! `tidelake test`: sqllogictest files (`.slt`), each in batch and in streaming, against the same expectations.
//!
//! ```text
//!  file × mode × parallelism ─► fresh session ─► records in order ─► rows as text ─► compared (or --update)
//! ```
//!
//! What the [format](https://sqlite.org/sqllogictest/doc/trunk/about.wiki) leaves open is decided so:
//!
//! - Rows are sorted (`rowsort`) unless the query says `nosort`.
//! - In streaming a query's result is the table that its changelog leaves behind.
//! - A query labelled `changelog` (`query T nosort changelog`) is its changelog itself, a line `+I[1, NULL]` per change
//!   in the order of emission. The order of changes depends on parallelism, bundles, batches, memory and restores:
//!   with any of them set, and in batch, the rows are compared that the changes leave behind.
//! - With `--restore-every k` a streaming statement is a chain of jobs: each reads `k` batches of a few rows from
//!   every source, and hands its snapshot to the next one, at the next `--parallelism`. After some such jobs batches
//!   grow, so that long inputs end.
//! - `skipif` and `onlyif` know `batch`, `streaming`, `python`: where its interpreter is there, `exact`: where changelogs are compared as such, and `whole`:
//!   streaming where short inputs are one batch, without `--batch-rows` and `--restore-every`.
//! - NULL is `NULL`, the empty text `(empty)`; a line break within a value is `\n`. Results that are one column of
//!   text with line breaks (EXPLAIN, SHOW CREATE) are one row a line.
//! - `$__TEST_DIR__` is a folder of the run's own, after `control substitution on`.
//! - The session zone is UTC unless set.
//! - `hash-threshold` is refused: a hash hides what went wrong.

mod changelog;
mod database;
mod legs;
mod python;
mod runs;
mod update;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use futures::StreamExt;
use sqllogictest::{
    Control, DefaultColumnType, MakeConnection, Normalizer, Record, RecordOutput, Runner, SortMode,
};

use crate::error::{Error, Result, ResultExt};

pub use super::args::Mode;
use super::args::TestArgs;
use super::progress::count;
use changelog::{is_changelog, with_rows_left};
use database::{Database, Shape, Shared};
use runs::Run;

/// What to run.
#[derive(Debug, Clone)]
pub struct TestOptions {
    /// Files, or folders to search.
    pub paths: Vec<PathBuf>,
    /// The modes.
    pub mode: Mode,
    /// Parallelisms of streaming runs; of the jobs of one run when they are restored.
    pub parallelism: Vec<usize>,
    /// Rows per bundle in streaming runs.
    pub bundle_size: Option<usize>,
    /// Rows per source batch in streaming runs.
    pub batch_rows: Option<usize>,
    /// Batches after which streaming jobs are restored into fresh ones; a run for each.
    pub restore_every: Vec<usize>,
    /// Memory of streaming runs.
    pub memory: Option<String>,
    /// Rewrite expectations.
    pub update: bool,
    /// Options set before the first statement.
    pub config: Vec<(String, String)>,
    /// Only files whose path contains it.
    pub filter: Option<String>,
    /// Files at a time.
    pub jobs: usize,
    /// Colours in messages.
    pub color: bool,
}

impl TestOptions {
    /// Files or folders in both modes at parallelism 1.
    pub fn new(paths: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        TestOptions {
            paths: paths.into_iter().map(Into::into).collect(),
            mode: Mode::Both,
            parallelism: vec![1],
            bundle_size: None,
            batch_rows: None,
            restore_every: Vec::new(),
            memory: None,
            update: false,
            config: Vec::new(),
            filter: None,
            jobs: 1,
            color: false,
        }
    }
}

/// What came of it.
#[derive(Debug, Default, Clone)]
pub struct TestReport {
    /// Files run.
    pub files: usize,
    /// Queries compared, each counted once a run.
    pub queries: usize,
    /// Other statements executed.
    pub statements: usize,
    /// Jobs that went on from a snapshot.
    pub restores: usize,
    /// Jobs that had state on disk.
    pub spilled: usize,
    /// What did not match.
    pub failures: Vec<TestFailure>,
}

/// A record that did not match.
#[derive(Debug, Clone)]
pub struct TestFailure {
    /// The file.
    pub file: String,
    /// Line of the record; 0 for the file as a whole.
    pub line: u32,
    /// In which run: `batch`, `streaming, parallelism 2`.
    pub run: String,
    /// What is wrong, with a diff.
    pub message: String,
}

impl fmt::Display for TestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, " ({}): {}", self.run, self.message.trim_end())
    }
}

impl fmt::Display for TestReport {
    /// The summary line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (files, queries, failures) = (self.files as u64, self.queries as u64, self.failures.len() as u64);
        let s = |n: u64| if n == 1 { "" } else { "s" };
        write!(f, "{} file{}, ", count(files), s(files))?;
        write!(f, "{} quer{}, ", count(queries), if queries == 1 { "y" } else { "ies" })?;
        write!(f, "{} failure{}", count(failures), s(failures))?;
        if self.restores > 0 {
            write!(f, ", {} restore{}", count(self.restores as u64), s(self.restores as u64))?;
        }
        if self.spilled > 0 {
            write!(f, ", {} job{} with state on disk", count(self.spilled as u64), s(self.spilled as u64))?;
        }
        Ok(())
    }
}

impl TestReport {
    fn add(&mut self, other: TestReport) {
        self.files += other.files;
        self.queries += other.queries;
        self.statements += other.statements;
        self.restores += other.restores;
        self.spilled += other.spilled;
        self.failures.extend(other.failures);
    }
}

pub(super) async fn main(args: TestArgs) -> ExitCode {
    let options = TestOptions {
        paths: args.paths,
        mode: args.mode,
        parallelism: args.parallelism,
        bundle_size: args.bundle_size,
        batch_rows: args.batch_rows,
        restore_every: args.restore_every,
        memory: args.memory,
        update: args.update,
        config: args.set,
        filter: args.filter,
        jobs: args.jobs,
        color: std::io::IsTerminal::is_terminal(&std::io::stdout()),
    };
    let started = Instant::now();
    match run(options).await {
        Ok(report) => {
            for failure in &report.failures {
                println!("{failure}\n");
            }
            println!("{report} ({:.1} s)", started.elapsed().as_secs_f64());
            if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Runs test files.
///
/// # Errors
/// For missing paths and files that cannot be written. What does not match is in the report.
pub async fn run(options: TestOptions) -> Result<TestReport> {
    let files = find(&options)?;
    if files.is_empty() {
        return Err(Error::validation("no .slt file found"));
    }
    let options = Arc::new(options);
    let tasks = files.into_iter().map(|file| {
        let options = options.clone();
        async move { tokio::spawn(async move { run_file(&file, &options).await }).await? }
    });
    let outcomes: Vec<Result<TestReport>> =
        futures::stream::iter(tasks).buffered(options.jobs.max(1)).collect().await;
    let mut report = TestReport::default();
    for outcome in outcomes {
        report.add(outcome?);
    }
    Ok(report)
}

/// [`run`] on a runtime of its own.
///
/// # Errors
/// As [`run`].
pub fn run_blocking(options: TestOptions) -> Result<TestReport> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(8 << 20).build()?;
    let report = runtime.block_on(run(options));
    runtime.shutdown_background();
    report
}

fn find(options: &TestOptions) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in &options.paths {
        let kind = std::fs::metadata(path).context(|| path.display().to_string())?;
        if kind.is_dir() {
            search(path, &mut found)?;
        } else {
            found.push(path.clone());
        }
    }
    found.sort();
    found.dedup();
    if let Some(filter) = &options.filter {
        found.retain(|f| f.to_string_lossy().contains(filter.as_str()));
    }
    Ok(found)
}

fn search(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            search(&path, found)?;
        } else if path.extension().is_some_and(|e| e == "slt") {
            found.push(path);
        }
    }
    Ok(())
}

async fn run_file(file: &Path, options: &TestOptions) -> Result<TestReport> {
    let mut report = TestReport { files: 1, ..TestReport::default() };
    let records = match parse(file) {
        Ok(records) if options.update => {
            update::update(file, records, options).await?;
            parse(file)
        }
        other => other,
    };
    let records = match records {
        Ok(records) => records,
        Err((line, message)) => {
            let file = file.display().to_string();
            report.failures.push(TestFailure { file, line, run: "not run".into(), message });
            return Ok(report);
        }
    };
    for run in Run::all(options) {
        let mut session = TestSession::open(&run, options).await;
        for record in &records {
            if matches!(record, Record::Halt { .. }) {
                break;
            }
            let record = session.prepare(record, &run);
            match session.runner.run_async(record.clone()).await {
                Ok(RecordOutput::Nothing) => {}
                Ok(_) if matches!(record, Record::Query { .. }) => report.queries += 1,
                Ok(_) => report.statements += 1,
                Err(e) => {
                    if matches!(record, Record::Query { .. }) {
                        report.queries += 1;
                    }
                    let place = e.location();
                    report.failures.push(TestFailure {
                        file: place.file().to_owned(),
                        line: place.line(),
                        run: run.to_string(),
                        message: e.kind().display(options.color).to_string(),
                    });
                }
            }
        }
        session.runner.shutdown_async().await;
        report.restores += session.shared.restores.load(Ordering::Relaxed);
        report.spilled += session.shared.spilled.load(Ordering::Relaxed);
    }
    Ok(report)
}

type TestRecord = Record<DefaultColumnType>;

/// The records of a file, or the line that is wrong and why.
fn parse(file: &Path) -> Result<Vec<TestRecord>, (u32, String)> {
    // The parser of the crate panics on what it cannot read.
    let readable = file.to_str().map(|path| std::fs::read_to_string(path).map(|_| path));
    let path = match readable {
        Some(Ok(path)) => path,
        Some(Err(e)) => return Err((0, format!("cannot be read: {e}"))),
        None => return Err((0, "the path is not UTF-8".into())),
    };
    let records = sqllogictest::parse_file(path).map_err(|e| (e.location().line(), e.kind().to_string()))?;
    for record in &records {
        if let Record::HashThreshold { loc, .. } = record {
            let message = "hash-threshold is not supported: write the rows out, --update does it for you";
            return Err((loc.line(), message.into()));
        }
    }
    Ok(records)
}

/// A runner with what it shares with its database.
struct TestSession<M: MakeConnection<Conn = Database>> {
    runner: Runner<Database, M>,
    shared: Arc<Shared>,
}

/// Opens the sessions of one run.
struct Connect {
    config: Vec<(String, String)>,
    run: Run,
    shared: Arc<Shared>,
}

impl MakeConnection for Connect {
    type Conn = Database;
    type MakeFuture = std::future::Ready<Result<Database>>;

    fn make(&mut self) -> Self::MakeFuture {
        std::future::ready(Database::open(self.config.clone(), &self.run, self.shared.clone()))
    }
}

impl TestSession<Connect> {
    async fn open(run: &Run, options: &TestOptions) -> Self {
        let shared = Arc::new(Shared::default());
        let connect = Connect { config: run.config(options), run: run.clone(), shared: shared.clone() };
        let mut runner = Runner::new(connect);
        runner.add_label(run.label());
        if run.compares_changelogs() {
            runner.add_label("exact");
        }
        if !run.batch && run.batch_rows.is_none() {
            runner.add_label("whole");
        }
        if python::is_there() {
            runner.add_label("python");
        }
        let sorted = Record::Control(Control::SortMode(SortMode::RowSort));
        runner.apply_record(sorted).await;
        TestSession { runner, shared }
    }

    /// The record as it is compared in a run; tells the database how to show it.
    fn prepare(&self, record: &TestRecord, run: &Run) -> TestRecord {
        let (shape, record) = match (is_changelog(record), run.compares_changelogs()) {
            (false, _) => (Shape::Table, record.clone()),
            (true, true) => (Shape::Changes, record.clone()),
            (true, false) => (Shape::RowsLeft, with_rows_left(record.clone())),
        };
        self.shared.show(shape);
        record
    }
}

const NORMALIZER: Normalizer = sqllogictest::runner::default_normalizer;

#[cfg(test)]
mod tests;

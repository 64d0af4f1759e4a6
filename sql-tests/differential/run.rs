//! Runs a case in batch and in streaming and compares.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use tidelake::checkpoint::JobSnapshot;
use tidelake::runtime::coordinator::JobOptions;
use tidelake::session::{RunningQuery, Session, SessionOptions, StatementResult};
use tidelake::stream::ChangeBatch;
use tidelake::text::{Column, Style};
use tidelake::{Error, ErrorKind, Result};

use super::functions;
use super::query::{Generator, Rel};
use super::random::Random;
use super::source::{Pause, definition, versions};
use super::tables::{TIMES, Table};

/// How a streaming run is done.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) parallelism: usize,
    pub(crate) bundle: Option<usize>,
    /// Not left to the planner: it decides by the parallelism, and a job goes on at another one.
    pub(crate) phases: &'static str,
    /// Batches of each split before a snapshot, and the parallelism that goes on from it; once or more.
    pub(crate) restarts: Vec<(usize, usize)>,
    /// Memory of the process; with so little, state goes to disk.
    pub(crate) memory: Option<&'static str>,
    /// Whether windows in GROUP BY tell what they have before they end.
    pub(crate) early: bool,
    /// Of the session, in both modes.
    pub(crate) zone: &'static str,
}

/// A query over tables, and how it is run.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) tables: Vec<Table>,
    /// Views that the query reads.
    pub(crate) prelude: Vec<String>,
    pub(crate) query: Rel,
    pub(crate) settings: Settings,
}

impl Case {
    /// The case of a seed; all of one construct, if that is `only` wanted.
    pub(crate) fn random(seed: u64, only: Option<&'static str>) -> Case {
        let mut r = Random::new(seed);
        let table = if only.is_some() { Table::random_timed } else { Table::random };
        let mut tables: Vec<Table> = (0..1 + r.below(3)).map(|i| table(format!("T{i}"), &mut r)).collect();
        // All of them, or none: row times of two types do not go with each other.
        let zone =
            if r.one_in(5) { r.pick::<&str>(&["UTC", "Asia/Kolkata", "America/New_York"]) } else { "" };
        if !zone.is_empty() {
            tables = tables.into_iter().map(Table::zoned).collect();
        }
        // Around 1970, or a change of the clock in New York.
        let eras = [-TIMES, 1_710_054_000_000 - TIMES, 1_730_613_600_000 - TIMES];
        if r.one_in(5) {
            let ms = *r.pick(&eras);
            tables = tables.into_iter().map(|t| t.moved(ms)).collect();
        }
        let depth = if only.is_some() { 1 + r.below(2) } else { 1 + r.below(4) };
        let mut generator = Generator { tables: &tables, random: &mut r, prelude: Vec::new(), only };
        let query = generator.relation(depth);
        let prelude = generator.prelude;
        let mut restarts: Vec<(usize, usize)> = Vec::new();
        let mut after = 0;
        while restarts.len() < 3 && r.one_in(2) {
            after += r.below(5);
            restarts.push((after, *r.pick(&[1, 2, 4, 3])));
        }
        let settings = Settings {
            parallelism: *r.pick(&[1, 1, 2, 4]),
            bundle: *r.pick(&[None, None, Some(1), Some(3)]),
            phases: r.pick::<&str>(&["ONE_PHASE", "TWO_PHASE"]),
            restarts,
            memory: *r.pick(&[None, None, Some("1 kb"), Some("20 kb")]),
            early: r.one_in(4),
            zone: if zone.is_empty() { "UTC" } else { zone },
        };
        Case { tables, prelude, query, settings }
    }

    /// Whether its windows, if there are any, can tell early: those of window functions and sessions cannot.
    fn fires_early(&self) -> bool {
        let sql = [self.prelude.join(" "), self.query.sql()].join(" ");
        !sql.contains("DESCRIPTOR(") && !sql.contains("SESSION(")
    }

    /// What goes before the query: functions and views.
    pub(crate) fn statements(&self) -> Vec<String> {
        let all = [self.prelude.join(" "), self.query.sql()].join(" ");
        functions::used(&all).into_iter().map(str::to_owned).chain(self.prelude.iter().cloned()).collect()
    }

    /// What it shows: constructs over event time, functions of users, changes of tables with a row time.
    pub(crate) fn constructs(&self) -> Vec<&'static str> {
        let mut all = self.query.constructs();
        let sql = [self.prelude.join(" "), self.query.sql()].join(" ");
        all.extend(sql.contains("udf_").then_some("user function"));
        if !all.is_empty() && self.tables.iter().any(|t| t.timed && !t.is_append_only()) {
            all.push("(a table with a row time that changes)");
        }
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sql, batch) = (self.query.sql(), self.query.batch_sql());
        let all = [self.prelude.join(" "), sql.clone()].join(" ");
        for table in &self.tables {
            let read = |c: char| !c.is_alphanumeric();
            if all.split(read).any(|word| word == table.name || word == table.versions()) {
                write!(f, "{table}")?;
            }
        }
        for statement in self.statements() {
            writeln!(f, "{statement};")?;
        }
        writeln!(f, "{sql};")?;
        if batch != sql {
            writeln!(f, "in batch: {batch};")?;
        }
        write!(f, "{:?}", self.settings)
    }
}

/// What came of a case.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// With so many rows.
    Same(usize),
    /// Neither mode, or not streaming, runs such a query: why.
    Refused(String),
    Different(String),
}

impl Outcome {
    pub(crate) fn is_different(&self) -> bool {
        matches!(self, Outcome::Different(_))
    }
}

/// Rows as text with how often they stand there.
pub(crate) type Rows = BTreeMap<String, i64>;

async fn session(case: &Case, mode: &str, parallelism: usize, pause: &Arc<Pause>) -> Result<Session> {
    let mut config = vec![
        ("execution.runtime-mode".to_owned(), mode.to_owned()),
        ("parallelism.default".to_owned(), parallelism.to_string()),
        ("table.local-time-zone".to_owned(), case.settings.zone.to_owned()),
    ];
    config.push(("table.optimizer.agg-phase-strategy".to_owned(), case.settings.phases.to_owned()));
    if let (Some(rows), "streaming") = (case.settings.bundle, mode) {
        config.push(("table.exec.mini-batch.size".to_owned(), rows.to_string()));
    }
    if let (Some(memory), "streaming") = (case.settings.memory, mode) {
        config.push(("taskmanager.memory.process.size".to_owned(), memory.to_owned()));
    }
    if case.settings.early && mode == "streaming" && case.fires_early() {
        config.push(("table.exec.emit.early-fire.enabled".to_owned(), "true".to_owned()));
        config.push(("table.exec.emit.early-fire.delay".to_owned(), "0 ms".to_owned()));
    }
    let mut session = Session::new(SessionOptions { config, ..SessionOptions::default() })?;
    for table in &case.tables {
        session.catalogs().create_table(definition(table, pause), false).await?;
        if table.has_versions() {
            session.catalogs().create_table(versions(table, pause), false).await?;
        }
    }
    for statement in case.statements() {
        for statement in tidelake::sql::parse_script(&statement)? {
            session.execute(&statement).await?;
        }
    }
    Ok(session)
}

async fn start(session: &mut Session, sql: &str) -> Result<RunningQuery> {
    let statements = tidelake::sql::parse_script(sql)?;
    let [statement] = statements.as_slice() else { return Err(Error::internal("one query")) };
    match session.execute(statement).await? {
        StatementResult::Query(query) => Ok(query),
        _ => Err(Error::internal("a query")),
    }
}

fn apply(rows: &mut Rows, changes: &ChangeBatch) -> Result<()> {
    let zone = "UTC".parse().expect("a zone");
    let columns = changes
        .rows
        .columns()
        .iter()
        .map(|c| Column::new(c, Style::Sql, zone))
        .collect::<Result<Vec<_>>>()?;
    let mut line = String::new();
    for row in 0..changes.num_rows() {
        line.clear();
        for column in &columns {
            column.write(row, &mut line)?;
            line.push_str(" | ");
        }
        let change = if changes.kind(row).is_retraction() { -1 } else { 1 };
        match rows.get_mut(&line) {
            Some(count) => *count += change,
            None => {
                rows.insert(line.clone(), change);
            }
        }
    }
    Ok(())
}

async fn batch(case: &Case, sql: &str) -> Result<Rows> {
    let mut session = session(case, "batch", 1, &Pause::new(None)).await?;
    rows_of(&mut session, sql).await
}

/// Runs a query to its end; gives the rows it leaves.
pub(crate) async fn rows_of(session: &mut Session, sql: &str) -> Result<Rows> {
    let RunningQuery { rows: mut stream, job, .. } = start(session, sql).await?;
    let mut rows = Rows::new();
    while let Some(changes) = stream.next().await {
        apply(&mut rows, &changes?)?;
    }
    job.wait().await?;
    rows.retain(|_, count| *count != 0);
    Ok(rows)
}

/// Plays the tables up to the pause, if there is one, into `rows`; gives the snapshot taken there.
async fn stream(
    case: &Case,
    sql: &str,
    parallelism: usize,
    after: Option<usize>,
    restore: Option<Arc<JobSnapshot>>,
    rows: &mut Rows,
) -> Result<Option<Arc<JobSnapshot>>> {
    let pause = Pause::new(after);
    let mut session = session(case, "streaming", parallelism, &pause).await?;
    let taken: Arc<Mutex<Option<Arc<JobSnapshot>>>> = Arc::default();
    let keep = taken.clone();
    session.set_job_options(JobOptions {
        restore,
        on_snapshot: Some(Arc::new(move |_, snapshot| {
            *keep.lock().expect("no panic") = Some(Arc::new(snapshot.clone()));
        })),
        ..JobOptions::default()
    });
    let RunningQuery { rows: mut stream, job, .. } = start(&mut session, sql).await?;
    let stop = job.stop_handle();
    let mut paused = std::pin::pin!(async {
        pause.reached().await;
        stop.stop();
    });
    let mut stopped = false;
    loop {
        tokio::select! {
            changes = stream.next() => match changes {
                Some(changes) => apply(rows, &changes?)?,
                None => break,
            },
            () = &mut paused, if after.is_some() && !stopped => stopped = true,
        }
    }
    job.wait().await?;
    Ok(taken.lock().expect("no panic").take())
}

async fn streaming(case: &Case, sql: &str) -> Result<Rows> {
    let mut rows = Rows::new();
    let mut parallelism = case.settings.parallelism;
    let mut snapshot = None;
    for (after, then) in &case.settings.restarts {
        let taken = stream(case, sql, parallelism, Some(*after), snapshot, &mut rows).await?;
        // Without a snapshot the query read no table and has ended.
        if taken.is_none() {
            rows.retain(|_, count| *count != 0);
            return Ok(rows);
        }
        (snapshot, parallelism) = (taken, *then);
    }
    stream(case, sql, parallelism, None, snapshot, &mut rows).await?;
    rows.retain(|_, count| *count != 0);
    Ok(rows)
}

/// Runs a case in both modes.
pub(crate) async fn run(case: &Case) -> Outcome {
    let sql = case.query.sql();
    let limit = Duration::from_secs(30);
    let expected = match tokio::time::timeout(limit, batch(case, &case.query.batch_sql())).await {
        Ok(Ok(rows)) => rows,
        Ok(Err(e)) => return Outcome::Refused(format!("batch: {}", e.message())),
        Err(_) => return Outcome::Refused("batch: no end".to_owned()),
    };
    let got = match tokio::time::timeout(limit, streaming(case, &sql)).await {
        Ok(Ok(rows)) => rows,
        Ok(Err(e)) if e.kind() == ErrorKind::Unsupported => {
            return Outcome::Refused(format!("streaming: {}", e.message()));
        }
        Ok(Err(e)) => return Outcome::Different(format!("streaming fails: {e}")),
        Err(_) => return Outcome::Different("streaming does not end".to_owned()),
    };
    if got == expected {
        return Outcome::Same(expected.len());
    }
    let mut text = String::new();
    for (row, count) in &expected {
        let n = got.get(row).copied().unwrap_or(0);
        if n != *count {
            text += &format!("  {count} in batch, {n} in streaming: {row}\n");
        }
    }
    for (row, n) in got.iter().filter(|(row, _)| !expected.contains_key(*row)) {
        text += &format!("  0 in batch, {n} in streaming: {row}\n");
    }
    Outcome::Different(text)
}

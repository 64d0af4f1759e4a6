//! One topic on its way into its table, from its first record to the end of the process.
//!
//! ```text
//!          ┌── what columns? the table's, and what its records show beyond them ◄──┐
//!          ▼                                                                       │ rows came that have fields
//!  CREATE TABLE source, sink; INSERT INTO sink SELECT * FROM source ─► a job ──────┤ without a column
//!                                                                                  └─► stopped, ended, suspended
//! ```
//!
//! The job is one of the engine's own: Kafka source, decoder, Iceberg sink, a commit per interval. Where it stands is in the
//! table, so that nothing has to be remembered here. New columns are found in the rest column of the rows that are committed;
//! the job is stopped with a commit and goes on with them a moment later.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::array::{Array, AsArray};
use futures::StreamExt;
use tokio::sync::Mutex;

use super::Observer;
use super::config::{Layout, OnError, Route, TableflowConfig};
use super::forecast::{Forecast, SPAN, forecast, row_size};
use super::status::{Phase, Status};
use crate::connectors::kafka;
use crate::error::{Error, ErrorKind, Result};
use crate::formats::confluent::UnknownFields;
use crate::runtime::job::{RunningJob, StopHandle};
use crate::session::{Session, StatementResult};
use crate::sql::quote_ident;

/// Records that columns are inferred from.
pub(super) const SAMPLE_RECORDS: usize = 5_000;
/// Bytes of them.
pub(super) const SAMPLE_BYTES: usize = 16 << 20;
/// How often an empty topic is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Least time between two looks for new columns.
const EVOLVE_EVERY: Duration = Duration::from_secs(5);

/// The way out for records that cannot be decoded.
const BAD_RECORDS: &str = "--on-error rescue keeps such records as rows with their bytes and the error, --on-error skip leaves them out";

/// How long is waited for Kafka, the catalog or the registry before another attempt, at first and at most.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(30);

/// What all flows of a process share.
pub(super) struct Common {
    /// Plans and starts their jobs.
    pub session: Mutex<Session>,
    /// What the user asks.
    pub config: TableflowConfig,
    /// Asks all for their end.
    pub stop: StopHandle,
    /// Hears of what happens meanwhile.
    pub observer: Arc<dyn Observer>,
    names: AtomicU64,
}

impl Common {
    /// For a session that has the catalog.
    pub fn new(
        session: Session,
        config: TableflowConfig,
        stop: StopHandle,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Common { session: Mutex::new(session), config, stop, observer, names: AtomicU64::new(0) }
    }

    /// A name for a table of the session that no other has.
    pub(super) fn name(&self, what: &str) -> String {
        format!("{what}_{}", self.names.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) async fn run(&self, sql: &str) -> Result<StatementResult> {
        self.session.lock().await.execute_sql(sql).await
    }

    /// The texts or bytes of the first column of a query in batch mode, as far as they are wanted.
    pub(super) async fn values(&self, sql: &str, most: usize, bytes: usize) -> Result<Vec<Vec<u8>>> {
        let query = {
            let mut session = self.session.lock().await;
            session.set("execution.runtime-mode", "batch")?;
            let started = session.query(sql).await;
            session.set("execution.runtime-mode", "streaming")?;
            started?
        };
        let (mut rows, mut values, mut size) = (query.rows, Vec::new(), 0);
        let stop = query.job.stop_handle();
        while let Some(batch) = rows.next().await {
            let batch = batch?.rows;
            let column = batch.column(0);
            for i in (0..column.len()).filter(|i| !column.is_null(*i)) {
                let value = match column.as_binary_opt::<i32>() {
                    Some(bytes) => bytes.value(i),
                    None => column.as_string::<i32>().value(i).as_bytes(),
                };
                size += value.len();
                values.push(value.to_vec());
            }
            if values.len() >= most || size >= bytes {
                stop.cancel();
                drop(rows);
                return Ok(values);
            }
        }
        query.job.wait().await?;
        Ok(values)
    }
}

/// A topic on its way into its table.
pub(super) struct Flow {
    /// From where to where.
    pub route: Route,
    /// How it goes.
    pub status: Arc<Status>,
    /// What all share.
    pub common: Arc<Common>,
    /// Ids of schemas whose records had fields without a column.
    pub(super) schemas: std::sync::Mutex<Vec<u32>>,
}

/// Why a job has ended without a failure.
enum Ended {
    /// It was stopped, or all is read.
    Done,
    /// Its rows have fields that could be columns.
    Outgrown,
}

impl Flow {
    /// The flow of a topic.
    pub fn new(route: Route, status: Arc<Status>, common: Arc<Common>) -> Self {
        Flow { route, status, common, schemas: std::sync::Mutex::default() }
    }

    /// Runs until it is stopped, all is read or something fails that no other attempt cures.
    ///
    /// # Errors
    /// The failure.
    pub async fn run(&self) -> Result<()> {
        let ended = self.run_jobs().await.map_err(|e| {
            let e = if e.kind() == ErrorKind::Data { e.hint(BAD_RECORDS) } else { e };
            e.context(self.route.to_string())
        });
        self.status.set_phase(match &ended {
            Ok(()) => Phase::Ended,
            Err(_) => Phase::Suspended,
        });
        ended
    }

    async fn run_jobs(&self) -> Result<()> {
        let mut delay = RETRY_FIRST;
        loop {
            let job = match self.next_job().await {
                Ok(Some(job)) => job,
                Ok(None) => return Ok(()),
                // Kafka, the catalog or the registry may be back soon.
                Err(e) if e.is_retryable() && !self.common.config.once => {
                    self.tell(&format!("{e}; trying again in {delay:.0?}"));
                    tokio::select! {
                        () = tokio::time::sleep(delay) => {}
                        () = self.common.stop.stopped() => return Err(e),
                    }
                    delay = (delay * 2).min(RETRY_MOST);
                    continue;
                }
                Err(e) => return Err(e),
            };
            delay = RETRY_FIRST;
            match self.attend(job).await {
                Ok(Ended::Done) => return Ok(()),
                Ok(Ended::Outgrown) => self.status.set_phase(Phase::Evolving),
                // Nothing of the record is written; with its columns it is read again.
                Err(e) => match UnknownFields::of(&e) {
                    Some(UnknownFields { schema }) if !self.lock_schemas().contains(&schema) => {
                        self.lock_schemas().push(schema);
                        self.status.set_phase(Phase::Evolving);
                    }
                    // A value that does not fit its column may fit the one that the newest schema makes of it.
                    _ if e.kind() == ErrorKind::Data && self.is_outgrown().await => {
                        self.status.set_phase(Phase::Evolving);
                    }
                    _ => return Err(e),
                },
            }
        }
    }

    /// Whether there are other columns by now than those of the last job.
    async fn is_outgrown(&self) -> bool {
        let now = self.layout().await.unwrap_or_default();
        !now.columns.is_empty() && self.status.is_outgrown_by(&now)
    }

    /// The next job, begun; `None` if it is time to end.
    async fn next_job(&self) -> Result<Option<RunningJob>> {
        let Some(layout) = self.wait_for_columns().await? else { return Ok(None) };
        let job = self.start(&layout).await?;
        self.status.began(&job.metrics(), &layout);
        Ok(Some(job))
    }

    fn tell(&self, text: &str) {
        self.common.observer.notice(&format!("{}: {text}", self.route));
    }

    pub(super) fn lock_schemas(&self) -> std::sync::MutexGuard<'_, Vec<u32>> {
        self.schemas.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The columns to write; `None` if it is time to end and there is nothing to be written.
    async fn wait_for_columns(&self) -> Result<Option<Layout>> {
        loop {
            let layout = self.layout().await?;
            if !layout.columns.is_empty() {
                return Ok(Some(layout));
            }
            self.status.set_phase(Phase::Empty);
            if self.common.config.once || self.common.stop.is_stopped() {
                return Ok(None);
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = self.common.stop.stopped() => return Ok(None),
            }
        }
    }

    pub(super) async fn drop_table(&self, name: &str) {
        // It is gone with the session at the latest.
        let _ = self.common.run(&format!("DROP TEMPORARY TABLE {}", quote_ident(name))).await;
    }

    /// Makes the topic of the table `dead` if it is not there.
    async fn ensure_dead_letters(&self, dead: &str) -> Result<()> {
        let (table, env) = super::resolved(&*self.common.session.lock().await, dead).await?;
        tokio::task::spawn_blocking(move || kafka::ensure_topics(&table, &env)).await?
    }

    /// Starts the job.
    async fn start(&self, layout: &Layout) -> Result<RunningJob> {
        let (common, route) = (&self.common, &self.route);
        let names = [common.name("source"), common.name("sink"), common.name("dead")];
        let job = common.config.job(route, layout, names.each_ref().map(String::as_str));
        for table in &job.tables {
            common.run(table).await?;
        }
        let [.., dead] = &names;
        let ready = match common.config.on_error {
            OnError::DeadLetters => self.ensure_dead_letters(dead).await,
            _ => Ok(()),
        };
        let started = match ready {
            Ok(()) => common.run(&job.insert).await,
            Err(e) => Err(e),
        };
        for name in names.iter().take(job.tables.len()) {
            self.drop_table(name).await;
        }
        match started? {
            StatementResult::Insert(job) => Ok(job),
            _ => Err(Error::internal("an INSERT that is no job")),
        }
    }

    /// Waits for the end of a job, and ends it when its rows have outgrown its columns.
    async fn attend(&self, job: RunningJob) -> Result<Ended> {
        let (metrics, stop) = (job.metrics(), job.stop_handle());
        let config = &self.common.config;
        let evolves = config.has_rest() && !config.once;
        let mut done = std::pin::pin!(job.wait());
        let mut ticks = tokio::time::interval(config.commit_interval.max(EVOLVE_EVERY));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut looked_at, mut outgrown, mut stopping) = (0, false, false);
        loop {
            tokio::select! {
                ended = &mut done => {
                    self.status.ended();
                    metrics.notices.take().iter().for_each(|text| self.tell(text));
                    return ended.map(|_| if outgrown && !stopping { Ended::Outgrown } else { Ended::Done });
                }
                text = metrics.notices.next() => self.tell(&text),
                () = self.common.stop.stopped(), if !stopping => {
                    stopping = true;
                    stop.stop();
                }
                _ = ticks.tick(), if evolves && !outgrown && !stopping => {
                    let rested = metrics.progress().rested_rows;
                    if rested == looked_at {
                        continue;
                    }
                    looked_at = rested;
                    // A table that cannot be looked at now is the job's to notice.
                    if self.is_outgrown().await {
                        outgrown = true;
                        stop.stop();
                    }
                }
            }
        }
    }

    /// The statements that it would run, with what it knows by now.
    ///
    /// # Errors
    /// Of Kafka and of the catalog.
    pub async fn explain(&self) -> Result<String> {
        let config = &self.common.config;
        let Route { topic, namespace, table } = &self.route;
        let exists = self.table().await?.is_some();
        let layout = self.layout().await?;
        if layout.columns.is_empty() {
            return Ok(format!(
                "-- topic {topic} has no records yet: {namespace}.{table} is made with the first ones\n"
            ));
        }
        let note = if exists { "exists and goes on" } else { "is made" };
        let job = config.job(&self.route, &layout, ["source", "sink", "dead_letters"]);
        let tables = job.tables.iter().map(|t| format!("{t};\n\n")).collect::<String>();
        let forecast = self.forecast(&layout).await?.map(|f| format!("-- {f}\n")).unwrap_or_default();
        Ok(format!(
            "-- topic {topic}: the table {namespace}.{table} {note}\n{forecast}{tables}{};\n",
            job.insert
        ))
    }

    /// The files that it will make, as far as the last hour and a sample of its rows tell. What rows of keys replace each other
    /// is not known before the whole topic is read.
    async fn forecast(&self, layout: &Layout) -> Result<Option<Forecast>> {
        let (common, config) = (&self.common, &self.common.config);
        if config.is_keyed() {
            return Ok(None);
        }
        let name = common.name("forecast");
        let mut bounds = config.bounds();
        bounds.insert("scan.bounded.mode".to_owned(), "latest-offset".to_owned());
        common.run(&config.source_table(&name, &self.route.topic, layout, &bounds)).await?;
        let looked = self.rate_and_size(&name).await;
        self.drop_table(&name).await;
        let (records, partitions, row) = looked?;
        // A task without a partition of the topic writes nothing.
        let tasks = config.parallelism.min(partitions) as u64;
        let files = forecast(records, config.commit_interval, tasks, row);
        Ok(Some(Forecast { is_partitioned: !config.partition_by.is_empty(), ..files }))
    }

    async fn rate_and_size(&self, name: &str) -> Result<(u64, usize, Option<f64>)> {
        let common = &self.common;
        let (table, env) = super::resolved(&*common.session.lock().await, name).await?;
        #[expect(clippy::disallowed_methods, reason = "brokers are asked by the clock that records bear")]
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let since = now.saturating_sub(SPAN).as_millis() as i64;
        let (records, partitions) =
            tokio::task::spawn_blocking(move || kafka::come_since(&table, &env, since)).await??;
        let sql = format!("SELECT * FROM {} LIMIT {SAMPLE_RECORDS}", quote_ident(name));
        let query = {
            let mut session = common.session.lock().await;
            session.set("execution.runtime-mode", "batch")?;
            let started = session.query(&sql).await;
            session.set("execution.runtime-mode", "streaming")?;
            started?
        };
        // A bad record among them is for the flow to tell.
        let Ok(rows) = query.collect().await else { return Ok((records, partitions, None)) };
        let rows: Vec<_> = rows.into_iter().map(|b| b.rows).collect();
        Ok((records, partitions, row_size(&rows)?))
    }
}

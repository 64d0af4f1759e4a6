//! A session: configuration, catalogs and the execution of statements one after the other.
//!
//! ```text
//!  ParsedStatement ─► DDL, SHOW, USE, SET   ─► CatalogManager, SessionConfig
//!                  ─► query, INSERT, EXPLAIN ─► Planner ─► batch or streaming? ─► Execution ─► RunningQuery / RunningJob
//! ```
//!
//! A program that embeds tidelake makes a [`Session`], adds tables of its own ([`Session::register_table`]) and reads
//! the rows of [`Session::query`] as Arrow batches; `examples/embed.rs` shows it.

mod alter;
pub mod checkpointing;
pub mod config;
mod ddl;
pub mod execution;
mod keys;
mod names;
mod row_changes;
mod sorted_joins;
mod source_table;

#[cfg(test)]
mod tests;

pub use source_table::SourceTable;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::displayable;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::mpsc;

use crate::catalog::{CatalogManager, CatalogObject, ResolvedTable, TableDef};
use crate::connectors::collect::CollectSink;
use crate::edges::{ConnectorEnv, Notices, Sink, WriteMode};
use crate::error::{Error, Result};
use crate::functions::{FunctionContext, SystemClock};
use crate::plan::insert::{InsertColumns, plan_insert, plan_partition};
use crate::plan::planner::{FunctionRegistry, PlanEnv, Planner};
use crate::plan::planner_options::PlannerOptions;
use crate::plan::state_ttl::StateTtls;
use crate::plan::stream::{LateTarget, explain};
use crate::runtime::coordinator::JobOptions;
use crate::runtime::job::{JobMetrics, RunningJob};
use crate::session::checkpointing::{JobKeeper, start_from};
use crate::session::config::{RuntimeMode, SessionConfig};
use crate::session::execution::{Execution, OptimizedQuery, PlannedInsert, datafusion_options, tables_read};
use crate::session::names::{SessionNames, sink_of};
use crate::sql::ast::{ExplainDetail, Insert, ParsedStatement, Query, Statement};
use crate::sql::{parse_name, parse_script};
use crate::stream::ChangeBatch;
use crate::types::LogicalType;

/// How to begin a session.
#[derive(Debug, Clone, Default)]
pub struct SessionOptions {
    /// `key=value` options set before the first statement (`-s`).
    pub config: Vec<(String, String)>,
    /// What relative paths are relative to; the working directory if empty.
    pub base_dir: PathBuf,
    /// Jobs begin anew, whatever checkpoints there are of them (`--fresh`).
    pub fresh: bool,
    /// Definitions in catalogs that outlive the session are only rehearsed: later statements see them, nobody else does.
    pub rehearsal: bool,
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
    /// Their SQL types.
    pub types: Vec<LogicalType>,
    /// Batch mode: rows have no kinds.
    pub batch: bool,
    /// Every row stays: none is updated or deleted later.
    pub append_only: bool,
    /// Its rows, as they come. They end with the query; a failure is told by [`RunningJob::wait`].
    pub rows: BoxStream<'static, Result<ChangeBatch>>,
    /// The job that makes them.
    pub job: RunningJob,
}

impl RunningQuery {
    /// All its rows, once it has ended: of a batch query the answer, of a stream every change in order.
    ///
    /// # Errors
    /// The first failure of its job.
    pub async fn collect(mut self) -> Result<Vec<ChangeBatch>> {
        let mut all = Vec::new();
        while let Some(changes) = self.rows.next().await {
            all.push(changes?);
        }
        self.job.wait().await?;
        Ok(all)
    }
}

/// Executes statements. Planning asks catalogs, which may be far away, while it blocks a thread: queries need Tokio's
/// multi-threaded runtime.
pub struct Session {
    config: SessionConfig,
    base_dir: PathBuf,
    catalogs: Arc<CatalogManager>,
    job_options: JobOptions,
    fresh: bool,
    rehearsal: bool,
}

/// A statement's queries, planned in the mode they run in.
struct Prepared {
    execution: Execution,
    env: PlanEnv,
}

impl Session {
    /// A session with the default catalog.
    ///
    /// # Errors
    /// Validation for bad options.
    pub fn new(options: SessionOptions) -> Result<Self> {
        let mut config = SessionConfig::default();
        for (key, value) in &options.config {
            config.set(key, value)?;
        }
        let base_dir =
            if options.base_dir.as_os_str().is_empty() { std::env::current_dir()? } else { options.base_dir };
        Ok(Session {
            config,
            base_dir,
            catalogs: Arc::new(CatalogManager::new()?),
            job_options: JobOptions::default(),
            fresh: options.fresh,
            rehearsal: options.rehearsal,
        })
    }

    /// Its options.
    pub fn config(&self) -> &SessionConfig {
        &self.config
    }

    /// Sets an option, as `SET` does; gives a notice if it has no meaning here.
    ///
    /// # Errors
    /// Validation for unknown keys and values that make no sense.
    pub fn set(&mut self, key: &str, value: &str) -> Result<Option<String>> {
        self.config.set(key, value)
    }

    /// Its catalogs, to add tables and catalogs that are not declared in SQL.
    pub fn catalogs(&self) -> &Arc<CatalogManager> {
        &self.catalogs
    }

    /// Restore state, hooks and pauses for the streaming jobs of the statements that follow.
    pub fn set_job_options(&mut self, options: JobOptions) {
        self.job_options = options;
    }

    /// Executes the one statement of `sql`. Scripts of several go through [`parse_script`] and [`Session::execute`].
    ///
    /// # Errors
    /// With the location of the cause in `sql`; Validation for more or less than one statement.
    pub async fn execute_sql(&mut self, sql: &str) -> Result<StatementResult> {
        self.execute(&one_statement(sql)?).await
    }

    /// Starts the query `sql`, whose rows can then be read.
    ///
    /// # Errors
    /// As [`Session::execute_sql`]; Validation for a statement that is no query.
    pub async fn query(&mut self, sql: &str) -> Result<RunningQuery> {
        let ParsedStatement { statement, location, .. } = one_statement(sql)?;
        let Statement::Query(query) = statement else {
            return Err(Error::validation("the statement is no query")
                .at(location)
                .hint("execute_sql takes every kind of statement"));
        };
        self.start_query(&query).await.map_err(|e| e.at(location))
    }

    /// Executes one statement.
    ///
    /// # Errors
    /// With the location of the cause in the statement's script.
    pub async fn execute(&mut self, statement: &ParsedStatement) -> Result<StatementResult> {
        self.execute_inner(&statement.statement).await.map_err(|e| e.at(statement.location))
    }

    async fn execute_inner(&mut self, statement: &Statement) -> Result<StatementResult> {
        match statement {
            Statement::Query(query) => Ok(StatementResult::Query(self.start_query(query).await?)),
            Statement::Insert(insert) => self.run_inserts(std::slice::from_ref(insert)).await,
            Statement::StatementSet(inserts) => self.run_inserts(inserts).await,
            Statement::RowChange(change) => self.run_row_change(change).await,
            Statement::Truncate(table) => self.truncate(table).await,
            Statement::Explain { details, target } => self.explain(details, target).await,
            Statement::Set(None) => {
                let rows = keys::KEYS.iter().map(|(key, default, _)| {
                    let value = self.config.values().get(*key).map_or(*default, String::as_str);
                    vec![(*key).to_owned(), value.to_owned()]
                });
                let others = self
                    .config
                    .values()
                    .iter()
                    .filter(|(k, _)| !keys::KEYS.iter().any(|(known, ..)| known == k));
                let others = others.map(|(k, v)| vec![k.clone(), crate::options::redact(k, v).to_owned()]);
                table(&["key", "value"], rows.chain(others).collect())
            }
            Statement::Set(Some((key, value))) => Ok(StatementResult::Done { notice: self.set(key, value)? }),
            Statement::Reset(key) => {
                self.config.reset(key.as_deref())?;
                Ok(StatementResult::Done { notice: None })
            }
            other => self.execute_ddl(other).await,
        }
    }

    async fn start_query(&self, query: &Query) -> Result<RunningQuery> {
        let (prepared, plan) = self.prepare_query(query)?;
        prepared.execution.run_query(&plan).await
    }

    fn connector_env(&self, batch: bool, notices: Notices) -> Result<ConnectorEnv> {
        Ok(ConnectorEnv {
            config: Arc::new(self.config.values().clone()),
            time_zone: self.config.time_zone()?,
            batch,
            base_dir: self.base_dir.clone(),
            notices,
        })
    }

    fn prepare(&self, batch: bool) -> Result<Prepared> {
        if !Handle::try_current().is_ok_and(|h| h.runtime_flavor() == RuntimeFlavor::MultiThread) {
            return Err(Error::validation("a session plans on a multi-threaded Tokio runtime only")
                .hint("tokio::runtime::Builder::new_multi_thread() makes one, and so does #[tokio::main]"));
        }
        let metrics = JobMetrics::new();
        let functions = FunctionContext {
            time_zone: self.config.time_zone()?,
            batch,
            query_start: chrono::Utc::now().timestamp_millis(),
            clock: Arc::new(SystemClock),
            current_database: self.catalogs.current_database(),
        };
        let env = PlanEnv {
            names: Arc::new(SessionNames::new(self.catalogs.clone(), self.config.hints_allowed()?)),
            functions: Arc::new(FunctionRegistry::new(&functions)),
            config: Arc::new(datafusion_options(&self.config)?),
            connectors: self.connector_env(batch, metrics.notices.clone())?,
            metrics: metrics.clone(),
            state_ttls: StateTtls::default(),
        };
        let execution = Execution::try_new(&self.config, &functions, metrics)?
            .with_state_ttls(env.state_ttls.clone())
            .with_job_options(self.job_options.clone())
            .with_keeper(JobKeeper::new(&self.config, &self.base_dir, self.fresh)?)
            .starting_from(start_from(&self.config, &self.base_dir)?);
        Ok(Prepared { execution, env })
    }

    /// Plans in streaming mode, and again in batch mode if that is what the tables and the options ask for.
    fn prepare_in_mode<T>(
        &self,
        plan: impl Fn(&PlanEnv) -> Result<T>,
        plans: impl Fn(&T) -> Vec<LogicalPlan>,
    ) -> Result<(Prepared, T)> {
        let mode = self.config.runtime_mode()?;
        if mode != RuntimeMode::Batch {
            let mut prepared = self.prepare(false)?;
            let late = self.late_table(&prepared.env)?;
            prepared.execution = prepared.execution.with_late_rows(late);
            let planned = plan(&prepared.env)?;
            let plans = plans(&planned);
            let read = tables_read(&plans)?;
            if mode == RuntimeMode::Streaming || read.live() || read.streams_only {
                return Ok((prepared, planned));
            }
        }
        let prepared = self.prepare(true)?;
        let planned = plan(&prepared.env)?;
        Ok((prepared, planned))
    }

    /// The table that `table.exec.late-data.table` names.
    fn late_table(&self, env: &PlanEnv) -> Result<Option<LateTarget>> {
        let name = self.config.late_table();
        if name.is_empty() {
            return Ok(None);
        }
        let context = |e: Error| e.context("table.exec.late-data.table");
        let parts = parse_name(name).map_err(context)?;
        let Some(CatalogObject::Table(def)) = env.names.lookup(&parts, None).map_err(context)? else {
            return Err(context(Error::validation(format!("the table {name} does not exist")))
                .hint("CREATE TABLE it, or RESET 'table.exec.late-data.table'"));
        };
        let mut resolved = ResolvedTable::new(def, &BTreeMap::new())?;
        PlannerOptions::take(&mut resolved).map_err(context)?;
        let sink = sink_of(&resolved, &env.connectors).map_err(context)?;
        Ok(Some(LateTarget { sink, name: name.to_owned() }))
    }

    fn prepare_query(&self, query: &Query) -> Result<(Prepared, LogicalPlan)> {
        self.prepare_in_mode(|env| Planner::plan_query(env, query), |plan| vec![plan.clone()])
    }

    fn prepare_inserts(&self, inserts: &[Insert]) -> Result<(Prepared, Vec<PlannedInsert>)> {
        self.prepare_in_mode(
            |env| inserts.iter().map(|i| self.plan_insert(env, i)).collect::<Result<Vec<_>>>(),
            |planned| planned.iter().map(|p| p.plan.clone()).collect(),
        )
    }

    fn plan_insert(&self, env: &PlanEnv, insert: &Insert) -> Result<PlannedInsert> {
        let name = insert.table.parts.join(".");
        let at = |e: Error| e.at(insert.table.location);
        let def = match env.names.lookup(&insert.table.parts, None).map_err(at)? {
            Some(CatalogObject::Table(def)) => def,
            Some(CatalogObject::View(_)) => {
                return Err(at(Error::validation(format!("'{name}' is a view and cannot be written to"))));
            }
            None => return Err(at(Error::validation(format!("Object '{name}' not found")))),
        };
        let types = def.columns.iter().filter_map(|c| Some((c.name.clone(), c.ty.clone()?))).collect();
        let mut resolved = ResolvedTable::new(def, &insert.options)?;
        // A table that is read and written says more than a sink needs to know.
        let planned = PlannerOptions::take(&mut resolved).map_err(at)?;
        let sink = sink_of(&resolved, &env.connectors).map_err(at)?;
        let query = Planner::plan_query(env, &insert.query)?;
        let planner = Planner::new(env.clone(), Vec::new());
        let columns = InsertColumns {
            columns: insert.columns.clone(),
            partition: plan_partition(&planner, &insert.partition)?,
            location: insert.query.location,
            types,
        };
        let plan = plan_insert(query, &name, &sink.schema(), &columns)?;
        let mode = if insert.overwrite { WriteMode::Overwrite } else { WriteMode::Append };
        Ok(PlannedInsert {
            plan,
            sink,
            mode,
            keyword: "INSERT INTO",
            table: name,
            on_conflict: insert.on_conflict,
            parallelism: planned.sink_parallelism,
        })
    }

    async fn run_inserts(&self, inserts: &[Insert]) -> Result<StatementResult> {
        let (prepared, planned) = self.prepare_inserts(inserts)?;
        Ok(StatementResult::Insert(prepared.execution.run_inserts(planned).await?))
    }

    async fn explain(&self, details: &[ExplainDetail], target: &Statement) -> Result<StatementResult> {
        for detail in details {
            if matches!(detail, ExplainDetail::JsonExecutionPlan | ExplainDetail::PlanAdvice) {
                return Err(Error::unsupported(format!("EXPLAIN {detail:?} is not supported"))
                    .hint("supported details: ANALYZE, CHANGELOG_MODE, ESTIMATED_COST"));
            }
        }
        let analyze = details.contains(&ExplainDetail::Analyze);
        if analyze && !matches!(target, Statement::Query(_)) {
            return Err(Error::unsupported("EXPLAIN ANALYZE of an INSERT is not supported: it would be run")
                .hint("EXPLAIN ANALYZE takes a query, e.g. that of the INSERT"));
        }
        let (prepared, queries) = match target {
            Statement::Query(query) => {
                let (prepared, plan) = self.prepare_query(query)?;
                let schema = Arc::new(plan.schema().as_arrow().clone());
                let (sender, _) = mpsc::channel(1);
                let sink: Arc<dyn Sink> = Arc::new(CollectSink::new(schema, sender));
                let planned = PlannedInsert::unnamed(plan, sink);
                (prepared, vec![(planned, false)])
            }
            Statement::Insert(insert) => {
                let (prepared, planned) = self.prepare_inserts(std::slice::from_ref(insert))?;
                (prepared, planned.into_iter().map(|p| (p, true)).collect())
            }
            Statement::StatementSet(inserts) => {
                let (prepared, planned) = self.prepare_inserts(inserts)?;
                (prepared, planned.into_iter().map(|p| (p, true)).collect())
            }
            // It needs no plan, and must not be done for being explained.
            Statement::Truncate(name) => {
                let text = format!("TRUNCATE TABLE {}: all rows go", name.parts.join("."));
                return table(&["result"], vec![vec![text]]);
            }
            Statement::Alter(alter) => return self.explain_alter(alter).await,
            Statement::RowChange(change) => {
                let (prepared, planned) = self.prepare_row_change(change)?;
                (prepared, vec![(planned, true)])
            }
            _ => {
                return Err(Error::unsupported("EXPLAIN of this statement is not supported")
                    .hint("EXPLAIN takes a query, an INSERT or a statement set"));
            }
        };
        let Prepared { execution, .. } = prepared;
        if analyze && !execution.batch {
            return Err(Error::unsupported("EXPLAIN ANALYZE does not run in streaming mode")
                .hint("SET 'execution.runtime-mode' = 'batch'"));
        }
        let mut text = String::from("== Abstract Syntax Tree ==\n");
        for (query, _) in &queries {
            text += &format!("{}\n", query.plan.display_indent());
        }
        text += "\n== Optimized Logical Plan ==\n";
        let mut optimized = Vec::new();
        for (query, enforced) in queries {
            let plan = execution.optimize(&query.plan)?;
            text += &format!("{}\n", plan.display_indent());
            optimized.push(OptimizedQuery {
                plan,
                sink: query.sink,
                mode: query.mode,
                table: query.table,
                on_conflict: query.on_conflict,
                parallelism: query.parallelism,
                enforced,
            });
        }
        if analyze {
            text += "\n== Execution ==\n";
            for query in &optimized {
                text += &execution.analyze(&query.plan).await?;
            }
            return table(&["result"], vec![vec![text]]);
        }
        text += "\n== Optimized Execution Plan ==\n";
        if execution.batch {
            for query in &optimized {
                let physical = execution.physical(&query.plan).await?;
                let shown = displayable(physical.as_ref());
                text += &if details.contains(&ExplainDetail::EstimatedCost) {
                    shown.set_show_statistics(true).indent(false).to_string()
                } else {
                    shown.indent(false).to_string()
                };
            }
        } else {
            text += &explain(&execution.graph(&optimized)?, details.contains(&ExplainDetail::ChangelogMode));
        }
        table(&["result"], vec![vec![text]])
    }

    /// Columns of a table with the types of computed ones inferred.
    fn table_schema(&self, def: &Arc<TableDef>) -> Result<SchemaRef> {
        Planner::table_schema(&self.prepare(false)?.env, def)
    }
}

fn one_statement(sql: &str) -> Result<ParsedStatement> {
    let mut statements = parse_script(sql)?;
    match (statements.pop(), statements.len()) {
        (Some(statement), 0) => Ok(statement),
        (_, others) => Err(Error::validation(format!(
            "one statement is expected here, and the text has {}",
            if others == 0 { "none".to_owned() } else { (others + 1).to_string() }
        ))
        .hint("sql::parse_script takes a text apart, for Session::execute")),
    }
}

/// Text rows as a result.
fn table(columns: &[&str], rows: Vec<Vec<String>>) -> Result<StatementResult> {
    let schema: SchemaRef = Arc::new(Schema::new(
        columns.iter().map(|c| Field::new(*c, DataType::Utf8, false)).collect::<Vec<_>>(),
    ));
    let arrays = (0..columns.len())
        .map(|i| {
            Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.get(i).map_or("", String::as_str))))
                as _
        })
        .collect();
    let batch = RecordBatch::try_new(schema.clone(), arrays)?;
    Ok(StatementResult::Rows(schema, vec![batch]))
}

//! From planned queries to running jobs, in both modes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::config::ConfigOptions;
use datafusion::datasource::source_as_provider;
use datafusion::execution::context::ExecutionProps;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion::prelude::SessionConfig as DataFusionConfig;
use futures::StreamExt;
use tokio::sync::mpsc;

use crate::connectors::collect::CollectSink;
use crate::edges::not_null::NotNullEnforcer;
use crate::edges::{Sink, WriteMode};
use crate::error::{Error, Location, Result};
use crate::functions::{FunctionContext, has_times};
use crate::plan::batch::bounded::bounded;
use crate::plan::batch::match_recognize::MatchRecognizeExecPlanner;
use crate::plan::nodes::changelog::changelog_node;
use crate::plan::nodes::match_recognize::MatchRecognizeNode;
use crate::plan::nodes::temporal_join::temporal_join_node;
use crate::plan::output_types::output_types;
use crate::plan::passes;
use crate::plan::state_ttl::StateTtls;
use crate::plan::stream::{LateTarget, SinkTarget, StreamOptions, StreamPlanner};
use crate::plan::table::ConnectorTable;
use crate::plan::time_attribute::time_attribute;
use crate::runtime::batch::{self, InsertTarget};
use crate::runtime::coordinator::JobOptions;
use crate::runtime::graph::StreamGraph;
use crate::runtime::job::{JobMetrics, JobNature, RunningJob, StopHandle};
use crate::runtime::spilling::memory::StateMemory;
use crate::runtime::spilling::pool::ProcessPool;
use crate::runtime::supervisor::{StartFrom, run_job};
use crate::session::RunningQuery;
use crate::session::checkpointing::JobKeeper;
use crate::session::config::{LIVE_INTERVAL, SessionConfig};
use crate::session::sorted_joins::batch_plan;
use crate::sql::ast::ConflictStrategy;
use crate::sql::with_room;
use crate::stream::ChangeBatch;
use crate::types::{LogicalType, TimeAttribute};

/// Planning and execution of one statement.
pub struct Execution {
    /// DataFusion's state: rules, options.
    pub state: SessionState,
    /// Counters of the job.
    pub metrics: Arc<JobMetrics>,
    /// Whether it runs in batch mode.
    pub batch: bool,
    stream: StreamOptions,
    job: JobOptions,
    /// Time between the commits of INSERTs whose rows are worth seeing before the end.
    live_interval: Option<Duration>,
    enforcer: NotNullEnforcer,
    /// Where the checkpoints of INSERTs are kept.
    keeper: Option<JobKeeper>,
    /// What they start from.
    start: Option<StartFrom>,
}

/// An INSERT that is planned, down to the columns of its sink.
pub struct PlannedInsert {
    /// Rows with the sink's columns, not optimized.
    pub plan: LogicalPlan,
    /// Where they go.
    pub sink: Arc<dyn Sink>,
    /// Append or overwrite.
    pub mode: WriteMode,
    /// How the statement begins: `INSERT INTO`.
    pub keyword: &'static str,
    /// Name for messages.
    pub table: String,
    /// `ON CONFLICT`, and where it stands.
    pub on_conflict: Option<(ConflictStrategy, Location)>,
    /// `sink.parallelism`
    pub parallelism: Option<usize>,
}

impl PlannedInsert {
    /// Rows that go to the user.
    pub fn unnamed(plan: LogicalPlan, sink: Arc<dyn Sink>) -> Self {
        PlannedInsert {
            plan,
            sink,
            mode: WriteMode::Append,
            keyword: "INSERT INTO",
            table: "collect".to_owned(),
            on_conflict: None,
            parallelism: None,
        }
    }
}

/// A query that is optimized, with its sink.
pub struct OptimizedQuery {
    /// Rows with the sink's columns.
    pub plan: LogicalPlan,
    /// Where they go.
    pub sink: Arc<dyn Sink>,
    /// Append or overwrite.
    pub mode: WriteMode,
    /// Name for messages and plans.
    pub table: String,
    /// `ON CONFLICT`, and where it stands.
    pub on_conflict: Option<(ConflictStrategy, Location)>,
    /// `sink.parallelism`
    pub parallelism: Option<usize>,
    /// Whether NOT NULL columns of the sink are checked.
    pub enforced: bool,
}

/// DataFusion's options for a session.
///
/// # Errors
/// Validation.
pub fn datafusion_options(config: &SessionConfig) -> Result<ConfigOptions> {
    let mut options = ConfigOptions::new();
    options.execution.target_partitions = config.parallelism()?;
    // Its expressions do not agree with themselves on what can be NULL (IS TRUE, for one).
    options.execution.skip_physical_aggregate_schema_check = true;
    options.execution.time_zone = Some(config.time_zone()?.name().to_owned());
    options.execution.parquet.schema_force_view_types = false;
    options.sql_parser.enable_ident_normalization = false;
    options.sql_parser.parse_float_as_decimal = true;
    options.sql_parser.map_string_types_to_utf8view = false;
    options.optimizer.max_passes = 3;
    // It loses the group of NULL: SELECT DISTINCT a … ORDER BY a LIMIT 1.
    options.optimizer.enable_topk_aggregation = false;
    // The bounds of row groups know no NaN.
    options.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    Ok(options)
}

impl Execution {
    /// The surroundings of one statement.
    ///
    /// # Errors
    /// Validation for options that make no sense.
    pub fn try_new(
        config: &SessionConfig,
        functions: &FunctionContext,
        metrics: Arc<JobMetrics>,
    ) -> Result<Self> {
        let batch = functions.batch;
        let analyzer = passes::analyzer_rules(functions, batch);
        let optimizer = passes::logical_rules(batch);
        let mut options = datafusion_options(config)?;
        // Sorts and aggregates of batch spill beyond it.
        let memory = config.process_memory()?;
        // What a sort keeps free for merging what it has spilled, in each partition.
        let merging = &mut options.execution.sort_spill_reservation_bytes;
        *merging = (*merging).min(memory / 32);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(ProcessPool::of(memory))
            .with_temp_file_path(config.temporary_folder())
            .build_arc()?;
        let state_memory = StateMemory::new(memory, config.temporary_folder());
        let state = SessionStateBuilder::new()
            .with_runtime_env(runtime)
            .with_config(
                DataFusionConfig::from(options.clone()).with_extension(Arc::new(state_memory.clone())),
            )
            .with_analyzer_rules(analyzer)
            .with_optimizer_rules(optimizer)
            .with_physical_optimizer_rules(passes::physical_rules())
            .build();
        let mut props = ExecutionProps::new();
        props.mark_start_execution(Arc::new(options));
        Ok(Execution {
            state,
            metrics,
            batch,
            stream: StreamOptions {
                parallelism: config.parallelism()?,
                bundle_rows: config.bundle_rows()?,
                agg_phase: config.agg_phase()?,
                multi_join: config.multi_join()?,
                idle_timeout: config.idle_timeout()?,
                keyed_shuffle: config.keyed_shuffle()?,
                upsert_materialize: config.upsert_materialize()?,
                require_on_conflict: config.require_on_conflict()?,
                state_ttl: config.state_ttl()?,
                state_ttls: StateTtls::default(),
                emit: config.emit()?,
                late: None,
                lookups: config.lookups()?,
                props,
            },
            job: JobOptions {
                checkpoint_interval: config.checkpoint_interval(None)?,
                memory: Some(state_memory),
                restarts: Some(config.restart_strategy()?),
                ..JobOptions::default()
            },
            live_interval: config.checkpoint_interval(Some(LIVE_INTERVAL))?,
            enforcer: config.not_null_enforcer()?,
            keeper: None,
            start: None,
        })
    }

    /// Keeps the checkpoints of streaming INSERTs.
    #[must_use]
    pub fn with_keeper(mut self, keeper: Option<JobKeeper>) -> Self {
        self.keeper = keeper;
        self
    }

    /// Starts streaming INSERTs from a savepoint.
    #[must_use]
    pub fn starting_from(mut self, start: Option<StartFrom>) -> Self {
        self.start = start;
        self
    }

    /// With a table for late rows.
    #[must_use]
    pub fn with_late_rows(mut self, target: Option<LateTarget>) -> Self {
        self.stream.late = target;
        self
    }

    /// Takes the STATE_TTL hints of the queries that are planned.
    #[must_use]
    pub fn with_state_ttls(mut self, state_ttls: StateTtls) -> Self {
        self.stream.state_ttls = state_ttls;
        self
    }

    /// Adds restore state, hooks and pauses to streaming jobs.
    #[must_use]
    pub fn with_job_options(mut self, options: JobOptions) -> Self {
        self.job.restore = options.restore;
        self.job.on_snapshot = options.on_snapshot;
        self.job.pause_after = options.pause_after;
        self.job.batch_rows = options.batch_rows;
        if options.keeping.is_some() {
            (self.job.keeping, self.job.checkpoint_interval) = (options.keeping, options.checkpoint_interval);
        }
        self
    }

    /// Analyzes and optimizes.
    ///
    /// # Errors
    /// Validation for type clashes.
    pub fn optimize(&self, plan: &LogicalPlan) -> Result<LogicalPlan> {
        with_room(|| passes::optimize(plan, &self.state, self.batch))
    }

    /// The batch plan of an optimized plan.
    ///
    /// # Errors
    /// Of sources that cannot be read, and of DataFusion's planner.
    pub async fn physical(&self, optimized: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
        physical_plan(&self.state, optimized).await
    }

    /// Runs the batch plan of an optimized plan for nothing but what its operators count: the plan with that.
    ///
    /// # Errors
    /// Those of the query.
    pub async fn analyze(&self, optimized: &LogicalPlan) -> Result<String> {
        let plan = bounded(self.physical(optimized).await?, self.state.config().batch_size())?;
        let begun = Instant::now();
        let (mut batches, mut rows) = (execute_stream(Arc::clone(&plan), self.state.task_ctx())?, 0);
        while let Some(batch) = batches.next().await.transpose()? {
            rows += batch.num_rows();
        }
        let read: u64 = self.metrics.sources_so_far().iter().map(|s| s.bytes.load(Ordering::Relaxed)).sum();
        Ok(format!(
            "{rows} rows in {:.3} s, of {} rows read; {read} bytes of files\n{}",
            begun.elapsed().as_secs_f64(),
            self.metrics.rows_in.load(Ordering::Relaxed),
            DisplayableExecutionPlan::with_metrics(plan.as_ref()).indent(false)
        ))
    }

    /// The stream graph of optimized plans with their sinks.
    ///
    /// # Errors
    /// Unsupported for what does not run as a stream.
    pub fn graph(&self, queries: &[OptimizedQuery]) -> Result<StreamGraph> {
        with_room(|| self.graph_of(queries))
    }

    fn graph_of(&self, queries: &[OptimizedQuery]) -> Result<StreamGraph> {
        let mut planner = StreamPlanner::new(self.stream.clone());
        for query in queries {
            planner.survey(&query.plan)?;
        }
        for query in queries {
            let target = SinkTarget {
                sink: query.sink.clone(),
                mode: query.mode,
                name: query.table.clone(),
                enforcer: query.enforced.then_some(self.enforcer),
                on_conflict: query.on_conflict,
                parallelism: query.parallelism,
            };
            planner.add_query(&query.plan, &target)?;
        }
        planner.add_late_sink();
        Ok(planner.finish())
    }

    /// Runs a query.
    ///
    /// # Errors
    /// Of planning; failures of the run come with the rows' end, from the job.
    pub async fn run_query(self, plan: &LogicalPlan) -> Result<RunningQuery> {
        let types = if has_times(plan.schema().fields()) {
            with_room(|| output_types(plan))?
        } else {
            plan.schema().fields().iter().map(LogicalType::from_field).collect::<Result<_>>()?
        };
        let optimized = self.optimize(plan)?;
        let schema = Arc::new(optimized.schema().as_arrow().clone());
        let (sender, mut receiver) = mpsc::channel::<ChangeBatch>(4);
        let stop = StopHandle::new();
        let metrics = self.metrics.clone();
        let batch = self.batch;
        let nature = JobNature { endless: tables_read([&optimized])?.endless, ..JobNature::default() };
        let mut append_only = batch;
        let task = if batch {
            let plan = batch_plan(&self.state, &optimized, &self.metrics).await?;
            let context = self.state.task_ctx();
            tokio::spawn(batch::run_query(plan, context, sender, metrics.clone(), stop.clone()))
        } else {
            let sink: Arc<dyn Sink> = Arc::new(CollectSink::new(schema.clone(), sender));
            let graph = self.graph(&[OptimizedQuery {
                plan: optimized,
                sink,
                mode: WriteMode::Append,
                table: "collect".to_owned(),
                on_conflict: None,
                parallelism: None,
                enforced: false,
            }])?;
            append_only = graph.sinks_append_only();
            let keeping = self.job.keeping.clone();
            tokio::spawn(run_job(graph, self.job, keeping, metrics.clone(), stop.clone()))
        };
        let rows = futures::stream::poll_fn(move |cx| receiver.poll_recv(cx).map(|b| b.map(Ok))).boxed();
        let job = RunningJob::new(metrics, nature, stop, join(task));
        Ok(RunningQuery { schema, types, batch, append_only, rows, job })
    }

    /// Runs INSERTs: as one streaming job, or one after the other in batch.
    ///
    /// # Errors
    /// Of planning; failures of the run come from the job.
    pub async fn run_inserts(mut self, inserts: Vec<PlannedInsert>) -> Result<RunningJob> {
        let stop = StopHandle::new();
        let metrics = self.metrics.clone();
        let tables = tables_read(inserts.iter().map(|i| &i.plan))?;
        if tables.live() || self.keeper.is_some() {
            self.job.checkpoint_interval = self.live_interval;
        }
        let nature = JobNature {
            endless: tables.endless,
            holds_back: inserts.iter().all(|i| i.sink.holds_back()),
            interval: self.job.checkpoint_interval.filter(|_| !self.batch),
            is_kept: self.keeper.is_some() && !self.batch,
        };
        let task = if self.batch {
            let mut planned = Vec::new();
            for insert in inserts {
                if let Some((strategy, location)) =
                    insert.on_conflict.filter(|(s, _)| *s != ConflictStrategy::Deduplicate)
                {
                    return Err(Error::unsupported(format!(
                        "ON CONFLICT DO {} is not supported in batch mode, where the last row of a key stays",
                        strategy.keyword()
                    ))
                    .hint("SET 'execution.runtime-mode' = 'streaming'")
                    .at(location));
                }
                let optimized = self.optimize(&insert.plan)?;
                let target = InsertTarget {
                    sink: insert.sink,
                    mode: insert.mode,
                    what: format!("{} {}", insert.keyword, insert.table),
                    enforcer: self.enforcer,
                };
                let state = in_order(&self.state, &optimized);
                planned.push((batch_plan(&state, &optimized, &self.metrics).await?, target));
            }
            let stop = stop.clone();
            tokio::spawn(async move {
                for (plan, target) in planned {
                    let context = self.state.task_ctx();
                    batch::run_insert(plan, context, &target, &self.metrics, &stop).await?;
                }
                Ok(())
            })
        } else {
            let written: Vec<&str> = inserts.iter().map(|i| i.table.as_str()).collect();
            self.job.start = self.start.take();
            let keeping = match &self.keeper {
                Some(keeper) => Some(keeper.take(&written, &metrics.notices).await?),
                None => self.job.keeping.clone(),
            };
            let mut queries = Vec::new();
            for insert in inserts {
                if insert.mode == WriteMode::Overwrite {
                    return Err(Error::unsupported("INSERT OVERWRITE is only allowed in batch mode")
                        .hint("SET 'execution.runtime-mode' = 'batch'"));
                }
                queries.push(OptimizedQuery {
                    plan: self.optimize(&insert.plan)?,
                    sink: insert.sink,
                    mode: insert.mode,
                    table: insert.table,
                    on_conflict: insert.on_conflict,
                    parallelism: insert.parallelism,
                    enforced: true,
                });
            }
            let graph = self.graph(&queries)?;
            tokio::spawn(run_job(graph, self.job, keeping, metrics.clone(), stop.clone()))
        };
        Ok(RunningJob::new(metrics, nature, stop, join(task)))
    }
}

/// How a plan whose rows are written is executed: where they are only passed on, those of a file stay in its order. Topics
/// keep the order that they are written in, and event time rests on it.
fn in_order(state: &SessionState, plan: &LogicalPlan) -> SessionState {
    let mut state = state.clone();
    let passes_on = |node: &LogicalPlan| {
        matches!(
            node,
            LogicalPlan::Projection(_)
                | LogicalPlan::Filter(_)
                | LogicalPlan::SubqueryAlias(_)
                | LogicalPlan::TableScan(_)
                | LogicalPlan::Union(_)
        )
    };
    if !plan.exists(|node| Ok(!passes_on(node))).unwrap_or(true) {
        let optimizer = &mut state.config_mut().options_mut().optimizer;
        optimizer.repartition_file_scans = false;
        optimizer.enable_round_robin_repartition = false;
    }
    state
}

/// The batch plan of an optimized plan.
///
/// # Errors
/// Of sources that cannot be read, and of DataFusion's planner.
pub(super) async fn physical_plan(
    state: &SessionState,
    optimized: &LogicalPlan,
) -> Result<Arc<dyn ExecutionPlan>> {
    let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(MatchRecognizeExecPlanner)]);
    let mut planning = planner.create_physical_plan(optimized, state);
    Ok(std::future::poll_fn(|cx| with_room(|| planning.as_mut().poll(cx))).await?)
}

/// The end of a spawned job.
async fn join(task: tokio::task::JoinHandle<Result<()>>) -> Result<()> {
    task.await.map_err(Error::from)?
}

/// What the tables of a plan say about how long it runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TablesRead {
    /// One of them has no end, and so has the job.
    pub endless: bool,
    /// The rows of one come at a pace of their own.
    pub paced: bool,
    /// They are joined in a way that only streams know, or their changes are looked at.
    pub streams_only: bool,
}

impl TablesRead {
    /// Whether rows are worth seeing before the end.
    pub fn live(&self) -> bool {
        self.endless || self.paced
    }
}

/// Whether a plan is a MATCH_RECOGNIZE over rows as they come.
fn is_matched_by_proctime(plan: &LogicalPlan) -> bool {
    let LogicalPlan::Extension(e) = plan else { return false };
    let Some(node) = e.node.as_any().downcast_ref::<MatchRecognizeNode>() else { return false };
    let first = node.order.first();
    first.is_some_and(|o| time_attribute(&o.expr, &node.input) == Some(TimeAttribute::Processing))
}

/// Looks at the tables of plans.
///
/// # Errors
/// From DataFusion, if a table has no provider.
pub fn tables_read<'a>(plans: impl IntoIterator<Item = &'a LogicalPlan>) -> Result<TablesRead> {
    let mut found = TablesRead::default();
    for plan in plans {
        plan.apply_with_subqueries(|node| {
            found.streams_only |= temporal_join_node(node).is_some()
                || changelog_node(node).is_some()
                || is_matched_by_proctime(node);
            if let LogicalPlan::TableScan(scan) = node {
                let provider = source_as_provider(&scan.source)?;
                if let Some(table) = provider.downcast_ref::<ConnectorTable>() {
                    found.endless |= !table.source.bounded();
                    found.paced |= table.source.paced();
                }
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    Ok(found)
}

//! Logical plan to stream graph.
//!
//! ```text
//!  TableScan [+ computed columns + watermark] ─► Source          Filter, Projection ─► Calc
//!  WindowTvf + Aggregate by its window        ─► [local] ══ keys ══► WindowAggregate
//!  Aggregate                                  ─►         ══ keys ══► GroupAggregate
//!  Join                                       ─► left, right ══ keys ══► Join, IntervalJoin
//!  TemporalJoin                               ─► left, right ══ keys ══► TemporalJoin
//!  LookupJoin                                 ─► left ─► LookupJoin: the right side is asked, and no source
//!  MatchRecognize                             ─►         ══ partition ══► Match
//!  Union ─► Union            Values ─► Source            INSERT ─► Sink
//!  Window[ROW_NUMBER] + Filter, Sort + Limit  ─►         ══ keys ══► Rank, Deduplicate, WindowRank
//!  Window                                     ─►         ══ keys ══► OverAggregate, Rank
//! ```
//!
//! Windows are assigned lazily: a relation carries its *pending* window as virtual columns until an aggregate turns it
//! into slices, or something else needs the columns and the rows are expanded (`relation`).

mod aggregate;
mod changelog;
mod explain;
mod grouping_sets;
mod interval_join;
mod join;
mod late;
mod lookup_join;
mod match_recognize;
mod merge;
mod multi_join;
mod no_matches;
mod normalize;
mod over;
mod rank;
mod relation;
mod set_operation;
mod shared_scan;
mod sink;
mod sort;
mod source;
mod temporal_join;
mod top_n;
mod unnest;
mod update_before;
mod window_emit;

pub use explain::explain;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Projection};
use datafusion::physical_expr::create_physical_expr;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::PhysicalExpr;

use crate::error::{Error, Result};
use crate::functions::CURRENT_WATERMARK;
use crate::operators::calc::{CalcConfig, CalcOperator};
use crate::operators::union::UnionOperator;
use crate::plan::nodes::changelog::changelog_node;
use crate::plan::nodes::lookup_join::lookup_join_node;
use crate::plan::nodes::match_recognize::MatchRecognizeNode;
use crate::plan::nodes::set_operation::SetOperationNode;
use crate::plan::nodes::temporal_join::temporal_join_node;
use crate::plan::nodes::unnest::UnnestNode;
use crate::plan::nodes::watermark::WatermarkNode;
use crate::plan::nodes::window_tvf::WindowTvfNode;
use crate::plan::state_ttl::StateTtls;
use crate::plan::stream::shared_scan::SharedScan;
use crate::plan::stream::update_before::drop_unneeded_update_before;
use crate::runtime::alignment::AlignmentGroup;
use crate::runtime::exchange::Partitioning;
use crate::runtime::graph::{
    ChangelogMode, Edge, Node, NodeId, NodeKind, OperatorFactory, StreamGraph, UpdateBefore,
};
use crate::types::sql_name;

pub use late::LateTarget;
pub use lookup_join::LookupOptions;
pub use relation::{ColumnRef, Relation};
pub use sink::SinkTarget;
pub use window_emit::EmitOptions;

/// `table.optimizer.agg-phase-strategy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AggPhase {
    /// Two phases where they pay.
    #[default]
    Auto,
    /// All rows go through the exchange.
    OnePhase,
    /// Two phases wherever states can be merged.
    TwoPhase,
}

/// Whether something is put into a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenNeeded {
    /// Never.
    None,
    /// Where it is needed.
    Auto,
    /// Always.
    Force,
}

/// What lowering needs of the session.
#[derive(Debug, Clone)]
pub struct StreamOptions {
    /// `parallelism.default`.
    pub parallelism: usize,
    /// `table.exec.mini-batch.size`: rows per bundle of updating aggregates; `None` for one input batch.
    pub bundle_rows: Option<usize>,
    /// `table.optimizer.agg-phase-strategy`.
    pub agg_phase: AggPhase,
    /// `table.optimizer.multi-join.enabled`.
    pub multi_join: bool,
    /// `table.exec.source.idle-timeout`.
    pub idle_timeout: Option<Duration>,
    /// `table.exec.sink.keyed-shuffle`.
    pub keyed_shuffle: WhenNeeded,
    /// `table.exec.sink.upsert-materialize`.
    pub upsert_materialize: WhenNeeded,
    /// `table.exec.sink.require-on-conflict`.
    pub require_on_conflict: bool,
    /// `table.exec.state.ttl` in milliseconds; `None` keeps state for ever.
    pub state_ttl: Option<i64>,
    /// STATE_TTL hints; they come before `state_ttl`.
    pub state_ttls: StateTtls,
    /// `table.exec.emit.*`.
    pub emit: EmitOptions,
    /// `table.exec.late-data.table`.
    pub late: Option<LateTarget>,
    /// `table.exec.async-lookup.*`.
    pub lookups: LookupOptions,
    /// Evaluation context of expressions.
    pub props: ExecutionProps,
}

/// Builds one stream graph, possibly with several sinks.
pub struct StreamPlanner {
    options: StreamOptions,
    graph: StreamGraph,
    /// Tables that the queries read.
    scans: HashMap<String, SharedScan>,
    uids: HashMap<String, usize>,
    /// Groups of tables that are read at about the same time.
    alignments: HashMap<String, Arc<AlignmentGroup>>,
    /// Nodes of late rows.
    late: Vec<NodeId>,
    /// Nested fields that the queries read.
    nested: BTreeSet<Vec<String>>,
    /// Of the next deduplication by a row time all rows are wanted, not only the latest.
    takes_history: bool,
    /// The sink takes the changes of an upsert source as they are.
    passes_upserts: bool,
}

impl StreamPlanner {
    /// An empty graph.
    pub fn new(options: StreamOptions) -> Self {
        StreamPlanner {
            options,
            graph: StreamGraph::default(),
            scans: HashMap::new(),
            uids: HashMap::new(),
            alignments: HashMap::new(),
            late: Vec::new(),
            nested: BTreeSet::new(),
            takes_history: false,
            passes_upserts: false,
        }
    }

    /// The graph built so far.
    pub fn finish(mut self) -> StreamGraph {
        drop_unneeded_update_before(&mut self.graph);
        self.graph
    }

    fn lower(&mut self, plan: &LogicalPlan) -> Result<Relation> {
        match plan {
            LogicalPlan::SubqueryAlias(alias) => {
                let mut relation = self.lower(&alias.input)?;
                relation.schema = alias.schema.clone();
                Ok(relation)
            }
            LogicalPlan::TableScan(_) => self.lower_source(plan),
            LogicalPlan::Values(values) => self.lower_values(values),
            LogicalPlan::EmptyRelation(empty) => self.lower_empty(empty),
            LogicalPlan::Extension(extension) => {
                if let Some(watermark) = extension.node.as_any().downcast_ref::<WatermarkNode>() {
                    match &watermark.input {
                        LogicalPlan::EmptyRelation(empty) => self.lower_empty_timed(empty, &watermark.column),
                        _ => self.lower_source(plan),
                    }
                } else if let Some(window) = extension.node.as_any().downcast_ref::<WindowTvfNode>() {
                    self.lower_window(window)
                } else if let Some(operation) = extension.node.as_any().downcast_ref::<SetOperationNode>() {
                    self.lower_set_operation(operation)
                } else if let Some(node) = changelog_node(plan) {
                    self.lower_changelog(node)
                } else if let Some(join) = lookup_join_node(plan) {
                    self.lower_lookup_join(join)
                } else if let Some(join) = temporal_join_node(plan) {
                    self.lower_temporal_join(join)
                } else if let Some(unnest) = extension.node.as_any().downcast_ref::<UnnestNode>() {
                    self.lower_unnest(unnest)
                } else if let Some(node) = extension.node.as_any().downcast_ref::<MatchRecognizeNode>() {
                    self.lower_match_recognize(node)
                } else {
                    Err(not_yet(extension.node.name()))
                }
            }
            LogicalPlan::Filter(filter) => {
                if let Some(top_n) = top_n::top_n(filter)? {
                    return self.lower_top_n(&top_n, filter, None);
                }
                let input = self.lower(&filter.input)?;
                self.lower_filter(&filter.predicate, input)
            }
            LogicalPlan::Projection(projection) => self.lower_projection(projection),
            LogicalPlan::Aggregate(aggregate) => self.lower_aggregate(aggregate),
            LogicalPlan::Union(union) => {
                let inputs = union.inputs.iter().map(|i| self.lower(i)).collect::<Result<Vec<_>>>()?;
                self.lower_union(inputs, union)
            }
            LogicalPlan::Join(join) => self.lower_join(join, None),
            LogicalPlan::Sort(sort) => self.lower_sort(sort),
            LogicalPlan::Limit(limit) => self.lower_limit(limit),
            LogicalPlan::Window(window) => self.lower_over(window),
            LogicalPlan::Unnest(_) => Err(not_yet("UNNEST")),
            LogicalPlan::Distinct(_) => Err(not_yet("DISTINCT ON")),
            other => Err(not_yet(&other.display().to_string())),
        }
    }

    /// How long an operator keeps state of the rows of `input`, in milliseconds; `None` for ever.
    fn state_ttl(&self, input: &LogicalPlan) -> Option<i64> {
        self.options.state_ttls.of(input).unwrap_or(self.options.state_ttl)
    }

    fn lower_filter(&mut self, predicate: &Expr, input: Relation) -> Result<Relation> {
        if input.filters_window(predicate)? {
            let input = self.materialize(input)?;
            return self.lower_filter(predicate, input);
        }
        check_watermark_calls(std::slice::from_ref(predicate), &input)?;
        let condition = self.physical(predicate, &input)?;
        let config =
            CalcConfig { condition: Some(condition), projection: None, schema: input.physical.clone() };
        let detail = format!("where=[{predicate}]");
        let node = self.add_calc(config, detail, &input);
        Ok(Relation { node, changelog: self.graph.nodes[node].changelog, ..input })
    }

    fn lower_projection(&mut self, projection: &Projection) -> Result<Relation> {
        let merged = merge::merged(projection)?;
        let projection = merged.as_ref().unwrap_or(projection);
        // `SELECT … WHERE …` becomes one calc.
        let mut below = projection.input.as_ref();
        while let LogicalPlan::SubqueryAlias(alias) = below {
            below = alias.input.as_ref();
        }
        if let LogicalPlan::Filter(filter) = below
            && let Some(top_n) = top_n::top_n(filter)?
        {
            let above = Some((projection.expr.as_slice(), projection.input.schema()));
            let input = self.lower_top_n(&top_n, filter, above)?;
            return self.add_projection(&projection.expr, projection.schema.clone(), input, None);
        }
        let wanted = join::columns_below(projection, below)?;
        let (mut input, condition) = match below {
            LogicalPlan::Join(join) => (self.lower_join(join, wanted.as_deref())?, None),
            LogicalPlan::Filter(filter) => {
                let input = match filter.input.as_ref() {
                    LogicalPlan::Join(join) => self.lower_join(join, wanted.as_deref())?,
                    other => self.lower(other)?,
                };
                if input.filters_window(&filter.predicate)? {
                    (self.lower_filter(&filter.predicate, input)?, None)
                } else {
                    check_watermark_calls(std::slice::from_ref(&filter.predicate), &input)?;
                    let physical = self.physical(&filter.predicate, &input)?;
                    (input, Some((physical, filter.predicate.to_string())))
                }
            }
            _ => (self.lower(below)?, None),
        };
        input.schema = match wanted {
            Some(wanted) => join::chosen_schema(projection.input.schema(), &wanted)?,
            None => projection.input.schema().clone(),
        };
        let needs_columns = projection
            .expr
            .iter()
            .map(|e| Ok(input.column_of(e).is_none() && input.uses_window(e)?))
            .collect::<Result<Vec<bool>>>()?
            .contains(&true);
        if needs_columns {
            input = self.materialize(input)?;
        }
        self.add_projection(&projection.expr, projection.schema.clone(), input, condition)
    }

    /// A calc that computes `exprs` of the rows that meet a condition.
    fn add_projection(
        &mut self,
        exprs: &[Expr],
        schema: DFSchemaRef,
        input: Relation,
        condition: Option<(Arc<dyn PhysicalExpr>, String)>,
    ) -> Result<Relation> {
        check_watermark_calls(exprs, &input)?;
        let props = self.options.props.clone();
        let detail_select = exprs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let (relation, exprs) = input.project(exprs, schema, |e, schema| physical_expr(e, schema, &props))?;
        let mut detail = format!("select=[{detail_select}]");
        let condition = condition.map(|(physical, text)| {
            detail.push_str(&format!(", where=[{text}]"));
            physical
        });
        let config = CalcConfig { condition, projection: Some(exprs), schema: relation.physical.clone() };
        let node = self.add_calc(config, detail, &input);
        Ok(Relation { node, changelog: self.graph.nodes[node].changelog, ..relation })
    }

    fn lower_union(
        &mut self,
        inputs: Vec<Relation>,
        union: &datafusion::logical_expr::Union,
    ) -> Result<Relation> {
        let inputs = inputs
            .into_iter()
            .map(|i| {
                let i = self.materialize(i)?;
                self.trim(i)
            })
            .collect::<Result<Vec<_>>>()?;
        let parallelism = inputs.iter().map(|i| self.graph.nodes[i.node].parallelism).max().unwrap_or(1);
        let changelog = inputs.iter().fold(ChangelogMode::APPEND_ONLY, |all, i| all.union(i.changelog));
        let mut rowtime = inputs.first().map(|i| i.rowtime.clone()).unwrap_or_default();
        let mut proctime = inputs.first().map(|i| i.proctime.clone()).unwrap_or_default();
        for input in &inputs {
            rowtime.retain(|c| input.rowtime.contains(c));
            proctime.retain(|c| input.proctime.contains(c));
        }
        let schema = Arc::new(union.schema.as_arrow().clone());
        let edges = inputs
            .iter()
            .map(|i| Edge {
                from: i.node,
                port: 0,
                partitioning: if self.graph.nodes[i.node].parallelism == parallelism {
                    Partitioning::Forward
                } else if i.changelog.is_append_only() {
                    Partitioning::Rebalance
                } else {
                    // All to one subtask: spread out, a retraction could overtake its row.
                    Partitioning::Hash(Vec::new())
                },
                update_before: UpdateBefore::Inherit,
            })
            .collect();
        let operator_schema = schema.clone();
        let factory: OperatorFactory =
            Arc::new(move |_| Ok(Box::new(UnionOperator::new(operator_schema.clone()))));
        let from: Vec<NodeId> = inputs.iter().map(|i| i.node).collect();
        let uid = self.uid("Union", "", &from);
        let node = self.graph.add(Node {
            uid,
            name: "Union",
            detail: String::new(),
            parallelism,
            inputs: edges,
            changelog,
            kind: NodeKind::Operator(factory),
        });
        let relation = Relation::plain(node, union.schema.clone(), schema, changelog, rowtime);
        Ok(relation.with_proctime(proctime))
    }

    fn add_calc(&mut self, config: CalcConfig, detail: String, input: &Relation) -> NodeId {
        let mut changelog = input.changelog;
        let mut update_before = UpdateBefore::Inherit;
        if let Some(condition) = &config.condition
            && changelog.update_after
        {
            let columns: Vec<usize> = collect_columns(condition).iter().map(|c| c.index()).collect();
            // A condition on a key holds for both halves of an update or for none.
            if !input.keys.iter().any(|key| columns.iter().all(|c| key.contains(c))) {
                update_before = UpdateBefore::Required;
                // Halves that are torn apart become a delete or an insert.
                changelog.delete = true;
            }
        }
        let factory: OperatorFactory =
            Arc::new(move |_| Ok(Box::new(CalcOperator::try_new(config.clone())?)));
        let node = self.add_operator("Calc", detail, input, changelog, None, factory);
        self.graph.nodes[node].inputs.iter_mut().for_each(|edge| edge.update_before = update_before);
        node
    }

    /// Adds an operator behind `input`: chained, handing on what comes, or behind a keyed exchange on `keys` (gathered
    /// when there are none), retracting.
    fn add_operator(
        &mut self,
        name: &'static str,
        detail: String,
        input: &Relation,
        changelog: ChangelogMode,
        keys: Option<Vec<usize>>,
        factory: OperatorFactory,
    ) -> NodeId {
        let upstream = self.graph.nodes[input.node].parallelism;
        let (partitioning, parallelism, update_before) = match keys {
            None => (Partitioning::Forward, upstream, UpdateBefore::Inherit),
            Some(keys) if keys.is_empty() => (Partitioning::Single, 1, UpdateBefore::Required),
            Some(keys) => (Partitioning::Hash(keys), self.options.parallelism, UpdateBefore::Required),
        };
        let uid = self.uid(name, &detail, &[input.node]);
        self.graph.add(Node {
            uid,
            name,
            detail,
            parallelism,
            inputs: vec![Edge { from: input.node, port: 0, partitioning, update_before }],
            changelog,
            kind: NodeKind::Operator(factory),
        })
    }

    /// A name that depends on the structure of the plan only, unique in the graph.
    fn uid(&mut self, name: &str, detail: &str, inputs: &[NodeId]) -> String {
        let mut text = format!("{name}|{detail}");
        for input in inputs {
            text.push('|');
            text.push_str(&self.graph.nodes[*input].uid);
        }
        let hash = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes()));
        let n = self.uids.entry(hash.clone()).or_default();
        *n += 1;
        if *n == 1 { hash } else { format!("{hash}-{n}") }
    }

    /// Compiles an expression over the physical columns of a relation.
    fn physical(&self, expr: &Expr, input: &Relation) -> Result<Arc<dyn PhysicalExpr>> {
        physical_expr(expr, &input.physical_df_schema()?, &self.options.props)
    }
}

/// Checks that the arguments of `CURRENT_WATERMARK` are row times.
fn check_watermark_calls(exprs: &[Expr], input: &Relation) -> Result<()> {
    for expr in exprs {
        expr.apply(|e| {
            if let Expr::ScalarFunction(f) = e
                && f.name() == CURRENT_WATERMARK
                && let [arg] = f.args.as_slice()
            {
                let column = input.column_of(arg).and_then(|i| input.columns.get(i));
                let is_row_time = match column {
                    Some(ColumnRef::Physical(p)) => input.rowtime.contains(p),
                    Some(ColumnRef::Time) => true,
                    _ => false,
                };
                if !is_row_time {
                    return Err(Error::validation(format!(
                        "The argument of CURRENT_WATERMARK() must be a rowtime attribute, but was '{}'",
                        sql_name(&arg.get_type(&input.schema)?)
                    ))
                    .hint("give it the column with the watermark, without computing")
                    .into());
                }
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    Ok(())
}

/// Compiles an expression.
fn physical_expr(expr: &Expr, schema: &DFSchema, props: &ExecutionProps) -> Result<Arc<dyn PhysicalExpr>> {
    Ok(create_physical_expr(expr, schema, props)?)
}

fn not_yet(what: &str) -> Error {
    Error::unsupported(format!("{what} is not supported in streaming mode yet"))
        .hint("over bounded tables SET 'execution.runtime-mode' = 'batch' runs it")
}

#[cfg(test)]
mod tests;

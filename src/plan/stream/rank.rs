//! Lowering of top-N: ROW_NUMBER, RANK or DENSE_RANK with a bound.
//!
//! ```text
//!  Filter[rn <= n AND rest] ─ (Projection | SubqueryAlias)* ─ Window[ROW_NUMBER() AS rn]
//!     ─► ══ partition ══► Rank ─► Calc[rest] ─► Calc[projection]
//! ```
//!
//! The rank is computed only where somebody reads it. A condition on it that bounds it from above without being a
//! plain comparison (`rn IN (1, 3)`) gives the bound and stays as a filter.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DFSchemaRef, ScalarValue, TableReference};
use datafusion::logical_expr::expr::{WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, Operator, SortExpr, Window};

use crate::error::{Error, Result};
use crate::operators::deduplicate::{DeduplicateConfig, DeduplicateOperator};
use crate::operators::top_n::{RankEnd, RankFunction, RankOutput, SortColumn, TopNConfig, TopNOperator};
use crate::plan::stream::{ColumnRef, Relation, StreamPlanner, not_yet};
use crate::plan::watermark::WatermarkNode;
use crate::runtime::graph::{ChangelogMode, OperatorFactory};

/// A filter over a rank.
pub(super) struct TopN<'a> {
    window: &'a Window,
    function: RankFunction,
    params: &'a WindowFunctionParams,
    /// The columns of the filtered relation, over the window's schema.
    columns: Vec<Expr>,
    start: u64,
    end: Bound,
    /// What else the filter demands, over the window's schema.
    rest: Option<Expr>,
}

/// Upper bound of the rank.
#[derive(Debug, Clone)]
pub(super) enum Bound {
    Constant(u64),
    Column(Expr),
}

/// The ranks wanted of a relation, with all columns named by position.
pub(super) struct Rank {
    pub(super) name: &'static str,
    pub(super) function: RankFunction,
    pub(super) start: u64,
    pub(super) end: Bound,
    pub(super) partition: Vec<Expr>,
    pub(super) order: Vec<SortExpr>,
    /// The first sort key is the processing time: what follows it does not matter.
    pub(super) by_arrival: Option<Arrival>,
    /// Columns of the input that go on.
    pub(super) columns: Vec<usize>,
    /// The column of the rank, if it goes on.
    pub(super) rank: Option<(Option<TableReference>, FieldRef)>,
}

/// All ranks.
const UNBOUNDED: u64 = u64::MAX;

/// Order by processing time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    EarliestFirst,
    LatestFirst,
}

/// The order by processing time, if that is the first sort key over `plan`.
pub(super) fn by_arrival(order: &[SortExpr], plan: &LogicalPlan) -> Result<Option<Arrival>> {
    let Some(first) = order.first() else { return Ok(None) };
    if !is_proctime(&first.expr, plan)? {
        return Ok(None);
    }
    Ok(Some(if first.asc { Arrival::EarliestFirst } else { Arrival::LatestFirst }))
}

/// Whether an expression over `plan` is the processing time.
fn is_proctime(expr: &Expr, plan: &LogicalPlan) -> Result<bool> {
    match without_casts(expr) {
        Expr::ScalarFunction(f) => Ok(f.name().eq_ignore_ascii_case("proctime")),
        Expr::Column(column) => {
            let Some(i) = plan.schema().maybe_index_of_column(column) else { return Ok(false) };
            match plan {
                LogicalPlan::Projection(p) => is_proctime(&p.expr[i], &p.input),
                LogicalPlan::SubqueryAlias(a) => is_proctime(&nth_column(&a.input, i), &a.input),
                LogicalPlan::Filter(f) => is_proctime(&nth_column(&f.input, i), &f.input),
                LogicalPlan::Extension(e) => match e.node.as_any().downcast_ref::<WatermarkNode>() {
                    Some(node) => is_proctime(&nth_column(&node.input, i), &node.input),
                    None => Ok(false),
                },
                _ => Ok(false),
            }
        }
        _ => Ok(false),
    }
}

fn nth_column(plan: &LogicalPlan, i: usize) -> Expr {
    Expr::Column(Column::from(plan.schema().qualified_field(i)))
}

/// The window below projections and aliases, and the columns of `plan` as expressions over the window's schema.
fn window_columns(plan: &LogicalPlan) -> Result<Option<(&Window, Vec<Expr>)>> {
    Ok(match plan {
        LogicalPlan::Window(window) => {
            Some((window, window.schema.columns().into_iter().map(Expr::Column).collect()))
        }
        LogicalPlan::SubqueryAlias(alias) => window_columns(&alias.input)?,
        LogicalPlan::Projection(projection) => match window_columns(&projection.input)? {
            None => None,
            Some((window, columns)) => {
                let exprs = projection
                    .expr
                    .iter()
                    .map(|e| substitute(e.clone(), projection.input.schema(), &columns))
                    .collect::<Result<_>>()?;
                Some((window, exprs))
            }
        },
        _ => None,
    })
}

/// `expr` over `schema`, whose columns are `columns`, as an expression over what those are over.
fn substitute(expr: Expr, schema: &DFSchema, columns: &[Expr]) -> Result<Expr> {
    let substituted = expr.transform(|e| {
        Ok(match &e {
            Expr::Column(c) => match schema.maybe_index_of_column(c) {
                Some(i) => Transformed::yes(columns[i].clone().unalias()),
                None => Transformed::no(e),
            },
            _ => Transformed::no(e),
        })
    })?;
    Ok(substituted.data)
}

/// Sees a filter as a top-N, if it stands over a window.
///
/// # Errors
/// Unsupported for a window that is none, as Flink says it.
pub(super) fn top_n(filter: &Filter) -> Result<Option<TopN<'_>>> {
    let Some((window, columns)) = window_columns(&filter.input)? else { return Ok(None) };
    let predicate = substitute(filter.predicate.clone(), filter.input.schema(), &columns)?;
    let (function, params) = rank_function(window)?;
    let rank = rank_column(window);
    let mut start = 1;
    let mut constant: Option<u64> = None;
    let mut bound = |n: Option<u64>| constant = constant.into_iter().chain(n).min();
    let mut by_column = Vec::new();
    let mut rest = Vec::new();
    for condition in split_conjunction_owned(predicate) {
        match rank_range(&condition, &rank) {
            Some(range) => {
                start = start.max(range.from);
                bound(range.to);
                continue;
            }
            None if condition.column_refs().len() > 1 => {
                if let Some(column) = rank_below_column(&condition, &rank) {
                    by_column.push((column, condition));
                    continue;
                }
            }
            None => {}
        }
        bound(upper_bound(&condition, &rank));
        rest.push(condition);
    }
    let mut by_column = by_column.into_iter();
    let end = match (constant, by_column.next()) {
        (Some(n), other) => {
            rest.extend(other.map(|(_, condition)| condition));
            Bound::Constant(n)
        }
        (None, Some((column, _))) => Bound::Column(column),
        // Every row has a number, as in an OVER window.
        (None, None) if start == 1 => Bound::Constant(UNBOUNDED),
        (None, None) => {
            return Err(Error::unsupported(
                "Rank end is not specified. Currently rank only support TopN, which means the rank end must be specified.",
            )
            .hint("bound the row number from above: WHERE rn <= 10"));
        }
    };
    // One bound is enough for the operator; the others are conditions on the number that it gives.
    rest.extend(by_column.map(|(_, condition)| condition));
    if let Bound::Constant(0) = end {
        return Err(Error::unsupported("Rank end should not less than zero, but now is 0"));
    }
    Ok(Some(TopN { window, function, params, columns, start, end, rest: conjunction(rest) }))
}

/// The only function of a window, which has to be one of ranks.
fn rank_function(window: &Window) -> Result<(RankFunction, &WindowFunctionParams)> {
    let [expr] = window.window_expr.as_slice() else {
        return Err(Error::unsupported(
            "Over Agg: Unsupported use of OVER windows. All aggregates must be computed on the same window.",
        ));
    };
    let mut expr = expr;
    while let Expr::Alias(alias) = expr {
        expr = &alias.expr;
    }
    let Expr::WindowFunction(function) = expr else { return Err(not_yet("an OVER window")) };
    let WindowFunction { fun, params } = function.as_ref();
    let function = match fun.name().to_ascii_lowercase().as_str() {
        "row_number" => RankFunction::RowNumber,
        "rank" => RankFunction::Rank,
        "dense_rank" => RankFunction::DenseRank,
        _ => return Err(not_yet("an OVER window")),
    };
    if params.order_by.is_empty() || params.order_by.iter().all(|s| matches!(s.expr, Expr::Literal(..))) {
        return Err(Error::validation(
            "Over Agg: The window rank function requires order by clause with non-constant fields. please re-check the over window statement.",
        ));
    }
    Ok((function, params))
}

/// The rank of a window, which is its last column.
fn rank_column(window: &Window) -> Expr {
    let last = window.schema.fields().len().saturating_sub(1);
    Expr::Column(Column::from(window.schema.qualified_field(last)))
}

fn without_casts(mut expr: &Expr) -> &Expr {
    loop {
        expr = match expr {
            Expr::Cast(cast) => &cast.expr,
            Expr::TryCast(cast) => &cast.expr,
            Expr::Alias(alias) => &alias.expr,
            other => return other,
        };
    }
}

struct Range {
    from: u64,
    to: Option<u64>,
}

/// The ranks that a condition of the form `rank <= n` leaves.
fn rank_range(condition: &Expr, rank: &Expr) -> Option<Range> {
    match condition {
        Expr::BinaryExpr(binary) => {
            let (left, right) = (without_casts(&binary.left), without_casts(&binary.right));
            let (op, number) = if left == rank {
                (binary.op, number(right)?)
            } else if right == rank {
                (binary.op.swap()?, number(left)?)
            } else {
                return None;
            };
            let last = |n: f64| Some(n.max(0.0) as u64);
            let first = |n: f64| n.max(1.0) as u64;
            Some(match op {
                Operator::LtEq => Range { from: 1, to: last(number.floor()) },
                Operator::Lt => Range { from: 1, to: last(number.ceil() - 1.0) },
                Operator::Gt => Range { from: first(number.floor() + 1.0), to: None },
                Operator::GtEq => Range { from: first(number.ceil()), to: None },
                Operator::Eq if number.fract() == 0.0 => Range { from: first(number), to: last(number) },
                _ => return None,
            })
        }
        Expr::Between(between) if !between.negated && without_casts(&between.expr) == rank => Some(Range {
            from: number(without_casts(&between.low))?.ceil().max(1.0) as u64,
            to: Some(number(without_casts(&between.high))?.floor().max(0.0) as u64),
        }),
        _ => None,
    }
}

/// `rank <= column` with a bare column.
fn rank_below_column(condition: &Expr, rank: &Expr) -> Option<Expr> {
    let Expr::BinaryExpr(binary) = condition else { return None };
    let (left, right) = (without_casts(&binary.left), without_casts(&binary.right));
    match binary.op {
        Operator::LtEq if left == rank && matches!(right, Expr::Column(_)) => Some(right.clone()),
        Operator::GtEq if right == rank && matches!(left, Expr::Column(_)) => Some(left.clone()),
        _ => None,
    }
}

/// A bound that follows from a condition on the rank of any form.
fn upper_bound(condition: &Expr, rank: &Expr) -> Option<u64> {
    if let Some(range) = rank_range(condition, rank) {
        return range.to;
    }
    match condition {
        Expr::BinaryExpr(b) if b.op == Operator::Or => {
            Some(upper_bound(&b.left, rank)?.max(upper_bound(&b.right, rank)?))
        }
        Expr::BinaryExpr(b) if b.op == Operator::And => {
            match (upper_bound(&b.left, rank), upper_bound(&b.right, rank)) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            }
        }
        Expr::InList(list) if !list.negated && without_casts(&list.expr) == rank => list
            .list
            .iter()
            .map(|e| Some(number(without_casts(e))?.max(0.0) as u64))
            .collect::<Option<Vec<u64>>>()?
            .into_iter()
            .max(),
        _ => None,
    }
}

/// A numeric constant. Ranks are far below what a double holds exactly.
fn number(expr: &Expr) -> Option<f64> {
    let Expr::Literal(value, _) = expr else { return None };
    match value.cast_to(&DataType::Float64).ok()? {
        ScalarValue::Float64(number) if value.data_type().is_numeric() => number,
        _ => None,
    }
}

impl StreamPlanner {
    /// A top-N; `above` are the expressions of a projection over it and the columns they see: only what they read is
    /// kept.
    pub(super) fn lower_top_n(
        &mut self,
        top_n: &TopN<'_>,
        filter: &Filter,
        above: Option<(&[Expr], &DFSchemaRef)>,
    ) -> Result<Relation> {
        // Aliases between the filter and the projection rename columns.
        let named = above.map_or(filter.input.schema(), |(_, schema)| schema);
        let window_schema = &top_n.window.schema;
        let rank_at = window_schema.fields().len() - 1;
        // Columns of the window that are read above it, through the columns of the filtered relation.
        let mut used: BTreeSet<usize> = BTreeSet::new();
        let mut made: Vec<usize> = (0..top_n.columns.len()).collect();
        if let Some((above, _)) = above {
            let read: BTreeSet<usize> = above
                .iter()
                .flat_map(|e| e.column_refs())
                .filter_map(|c| named.maybe_index_of_column(c))
                .collect();
            made.retain(|i| read.contains(i));
        }
        for expr in made.iter().map(|i| &top_n.columns[*i]).chain(&top_n.rest) {
            used.extend(
                expr.column_refs().into_iter().filter_map(|c| window_schema.maybe_index_of_column(c)),
            );
        }
        let rank = used.remove(&rank_at).then(|| {
            let (qualifier, field) = window_schema.qualified_field(rank_at);
            (qualifier.cloned(), Arc::clone(field))
        });
        let by_arrival = by_arrival(&top_n.params.order_by, &top_n.window.input)?;
        let mut input = self.lower(&top_n.window.input)?;
        input.schema = top_n.window.input.schema().clone();
        let relation = self.lower_rank(
            input,
            Rank {
                name: "Rank",
                function: top_n.function,
                start: top_n.start,
                end: top_n.end.clone(),
                partition: top_n.params.partition_by.clone(),
                order: if by_arrival.is_some() { Vec::new() } else { top_n.params.order_by.clone() },
                by_arrival,
                columns: used.into_iter().collect(),
                rank,
            },
        )?;
        let relation = match &top_n.rest {
            Some(rest) => self.lower_filter(rest, relation)?,
            None => relation,
        };
        // Projections between the window and the filter.
        let exprs: Vec<Expr> = made.iter().map(|i| top_n.columns[*i].clone().unalias()).collect();
        let fields = made.iter().map(|i| {
            let (qualifier, field) = named.qualified_field(*i);
            (qualifier.cloned(), Arc::clone(field))
        });
        let schema: DFSchemaRef =
            Arc::new(DFSchema::new_with_metadata(fields.collect(), Default::default())?);
        let is_identity = exprs.len() == relation.schema.fields().len()
            && exprs.iter().enumerate().all(|(i, e)| relation.column_of(e) == Some(i));
        if is_identity {
            return Ok(Relation { schema, ..relation });
        }
        self.add_projection(&exprs, schema, relation, None)
    }

    /// A rank without a bound: every row goes on, and its number changes as rows come before it.
    pub(super) fn lower_row_numbers(&mut self, window: &Window) -> Result<Relation> {
        let (function, params) = rank_function(window)?;
        let rank_at = window.schema.fields().len() - 1;
        let (qualifier, field) = window.schema.qualified_field(rank_at);
        let by_arrival = by_arrival(&params.order_by, &window.input)?;
        let mut input = self.lower(&window.input)?;
        input.schema = window.input.schema().clone();
        let rank = Rank {
            name: "Rank",
            function,
            start: 1,
            end: Bound::Constant(UNBOUNDED),
            partition: params.partition_by.clone(),
            order: if by_arrival.is_some() { Vec::new() } else { params.order_by.clone() },
            by_arrival,
            columns: (0..rank_at).collect(),
            rank: Some((qualifier.cloned(), Arc::clone(field))),
        };
        self.lower_rank(input, rank)
    }

    pub(super) fn lower_rank(&mut self, input: Relation, rank: Rank) -> Result<Relation> {
        let input = self.materialize(input)?;
        // The processing time is the order of arrival.
        let latest_first = rank.by_arrival == Some(Arrival::LatestFirst);
        let keys: Vec<Expr> =
            rank.partition.iter().cloned().chain(rank.order.iter().map(|s| s.expr.clone())).collect();
        let (input, key_columns) = self.with_key_columns(input, &keys)?;
        let (partition, order) = key_columns.split_at(rank.partition.len());
        let order: Vec<SortColumn> = order
            .iter()
            .zip(&rank.order)
            .map(|(column, sort)| SortColumn {
                column: *column,
                options: SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first },
            })
            .collect();
        let end = match &rank.end {
            Bound::Constant(n) => RankEnd::Constant(*n),
            Bound::Column(expr) => {
                let column = input.column_of(expr).and_then(|i| match input.columns[i] {
                    ColumnRef::Physical(p) => Some(p),
                    _ => None,
                });
                match column {
                    Some(column) if partition.contains(&column) => RankEnd::Column(column),
                    _ => {
                        return Err(Error::unsupported(format!(
                            "the row number is bounded by {expr}, which differs between rows of a partition"
                        ))
                        .hint("bound it by a constant, or add the column to PARTITION BY"));
                    }
                }
            }
        };
        let physical = |i: &usize| match input.columns[*i] {
            ColumnRef::Physical(p) => Ok(p),
            _ => Err(Error::internal("a column of a pending window below a rank")),
        };
        let columns = rank.columns.iter().map(physical).collect::<Result<Vec<_>>>()?;
        let mut output: Vec<RankOutput> = columns.iter().copied().map(RankOutput::Column).collect();
        let mut fields: Vec<_> = rank
            .columns
            .iter()
            .map(|i| {
                let (qualifier, field) = input.schema.qualified_field(*i);
                (qualifier.cloned(), Arc::clone(field))
            })
            .collect();
        let shows_rank = rank.rank.is_some();
        if let Some(field) = rank.rank {
            output.push(RankOutput::Rank);
            fields.push(field);
        }
        let schema: DFSchemaRef = Arc::new(DFSchema::new_with_metadata(fields, Default::default())?);
        let output_schema: SchemaRef = Arc::new(schema.as_arrow().clone());
        // Rows that arrive one after the other share no rank.
        let function = if rank.by_arrival.is_some() { RankFunction::RowNumber } else { rank.function };
        let has_ties = function != RankFunction::RowNumber;
        let input_retracts = !input.changelog.is_append_only();
        let config = TopNConfig {
            input_schema: input.physical.clone(),
            output_schema: output_schema.clone(),
            output,
            partition: partition.to_vec(),
            order,
            latest_first,
            function,
            start: rank.start,
            end,
            // Rows that share the last rank are as many as there are, and one better row removes them all.
            input_retracts: input_retracts || has_ties,
            // Each subtask is told when the whole graph is known.
            emit_update_before: true,
            bundle_rows: self.options.bundle_rows,
            ttl_ms: self.options.state_ttl,
        };
        config.validate()?;
        let changelog = if input_retracts || has_ties {
            ChangelogMode::ALL
        } else if config.order.is_empty() && !latest_first && config.start == 1 {
            // The first rows to arrive stay the first.
            ChangelogMode::APPEND_ONLY
        } else if config.end == RankEnd::Constant(1) {
            ChangelogMode::UPDATES
        } else {
            ChangelogMode::ALL
        };
        let place = |column: &usize| columns.iter().position(|c| c == column);
        let partition_key: Option<Vec<usize>> = partition.iter().map(place).collect();
        // A row that moves to another partition may come from another subtask: its new version can overtake the old one.
        let stays =
            |key: &Vec<usize>| input.changelog.is_append_only() || partition.iter().all(|c| key.contains(c));
        let keys = if has_ties {
            input.keys.iter().filter(|k| stays(k)).filter_map(|k| k.iter().map(&place).collect()).collect()
        } else if config.end == RankEnd::Constant(1)
            || (config.start > 1 && RankEnd::Constant(config.start) == config.end)
        {
            partition_key.into_iter().collect()
        } else if shows_rank {
            // A row that falls out below the last rank is only told as an update of that rank.
            partition_key
                .into_iter()
                .map(|mut key| {
                    key.push(columns.len());
                    key
                })
                .collect()
        } else if config.start > 1 {
            Vec::new()
        } else {
            input.keys.iter().filter(|k| stays(k)).filter_map(|k| k.iter().map(&place).collect()).collect()
        };
        let exchange = Some(config.partition.clone());
        if !config.input_retracts
            && config.start == 1
            && config.end == RankEnd::Constant(1)
            && (!config.order.is_empty() || latest_first)
        {
            return self.lower_deduplicate(config, &input, schema, keys);
        }
        let detail = describe(&config, &schema);
        let factory: OperatorFactory = Arc::new(move |subtask| {
            let config = TopNConfig { emit_update_before: subtask.emit_update_before, ..config.clone() };
            Ok(Box::new(TopNOperator::new(config)?))
        });
        let node = self.add_operator(rank.name, detail, &input, changelog, exchange, factory);
        Ok(Relation::plain(node, schema, output_schema, changelog, BTreeSet::new()).with_keys(keys))
    }

    /// One row of each key of append-only rows. By a row time: descending, the latest of equal times stays; ascending,
    /// the first row goes out once the watermark has passed it, and no other follows.
    fn lower_deduplicate(
        &mut self,
        top: TopNConfig,
        input: &Relation,
        schema: DFSchemaRef,
        keys: Vec<Vec<usize>>,
    ) -> Result<Relation> {
        let by_rowtime = matches!(top.order.as_slice(), [o] if input.rowtime.contains(&o.column));
        let keeps_last = top.order.first().is_some_and(|o| o.options.descending);
        let wait_for_watermark = by_rowtime && !keeps_last;
        let names = |columns: &mut dyn Iterator<Item = usize>| {
            columns.map(|c| top.input_schema.field(c).name().clone()).collect::<Vec<_>>().join(", ")
        };
        let detail = if by_rowtime {
            let keep = if keeps_last { "LastRow" } else { "FirstRow" };
            format!("keep=[{keep}], key=[{}], order=[ROWTIME]", names(&mut top.partition.iter().copied()))
        } else {
            describe(&top, &schema)
        };
        let changelog = if wait_for_watermark { ChangelogMode::APPEND_ONLY } else { ChangelogMode::UPDATES };
        let name = if by_rowtime { "Deduplicate" } else { "Rank" };
        let rowtime: BTreeSet<usize> = top
            .output
            .iter()
            .enumerate()
            .filter(|(_, o)| matches!(o, RankOutput::Column(c) if wait_for_watermark && input.rowtime.contains(c)))
            .map(|(i, _)| i)
            .collect();
        let exchange = Some(top.partition.clone());
        let output_schema = top.output_schema.clone();
        let config = DeduplicateConfig {
            input_schema: top.input_schema,
            output_schema: top.output_schema,
            output: top.output,
            partition: top.partition,
            order: top.order,
            keep_latest: (by_rowtime && keeps_last) || top.latest_first,
            wait_for_watermark,
            emit_update_before: true,
            bundle_rows: top.bundle_rows,
            ttl_ms: top.ttl_ms,
        };
        let factory: OperatorFactory = Arc::new(move |subtask| {
            let config =
                DeduplicateConfig { emit_update_before: subtask.emit_update_before, ..config.clone() };
            Ok(Box::new(DeduplicateOperator::new(config)?))
        });
        let node = self.add_operator(name, detail, input, changelog, exchange, factory);
        Ok(Relation::plain(node, schema, output_schema, changelog, rowtime).with_keys(keys))
    }
}

/// As Flink's plans describe it.
fn describe(config: &TopNConfig, schema: &DFSchema) -> String {
    let name = |column: &usize| config.input_schema.field(*column).name().clone();
    let list = |names: Vec<String>| names.join(", ");
    let strategy = if config.input_retracts { "RetractStrategy" } else { "AppendFastStrategy" };
    let range = match config.end {
        RankEnd::Constant(UNBOUNDED) => format!("rankStart={}", config.start),
        RankEnd::Constant(end) => format!("rankStart={}, rankEnd={end}", config.start),
        RankEnd::Column(column) => format!("rankStart={}, rankEnd={}", config.start, name(&column)),
    };
    let order: Vec<String> = config
        .order
        .iter()
        .map(|o| {
            let direction = if o.options.descending { "DESC" } else { "ASC" };
            // NULLs are low unless something else is said.
            let nulls = match (o.options.descending, o.options.nulls_first) {
                (false, false) => " NULLS LAST",
                (true, true) => " NULLS FIRST",
                _ => "",
            };
            format!("{} {direction}{nulls}", name(&o.column))
        })
        .collect();
    let select: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
    format!(
        "strategy=[{strategy}], rankRange=[{range}], partitionBy=[{}], orderBy=[{}], select=[{}]",
        list(config.partition.iter().map(name).collect()),
        list(order),
        list(select)
    )
}

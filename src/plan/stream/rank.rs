//! Lowering of top-N: ROW_NUMBER, RANK or DENSE_RANK with a bound.
//!
//! ```text
//!  Filter[rn <= n AND rest] ─ (Projection | SubqueryAlias)* ─ Window[ROW_NUMBER() AS rn]
//!     ─► ══ partition ══► Rank ─► Calc[rest] ─► Calc[projection]
//! ```
//!
//! `top_n` recognizes the filter. The rank is computed only where somebody reads it.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::{DFSchema, DFSchemaRef, TableReference};
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, SortExpr};

use crate::error::{Error, Result};
use crate::operators::calc::CalcConfig;
use crate::operators::deduplicate::{DeduplicateConfig, DeduplicateOperator};
use crate::operators::top_n::{RankEnd, RankFunction, RankOutput, SortColumn, TopNConfig, TopNOperator};
use crate::operators::window_top_n::{WindowTopNConfig, WindowTopNOperator};
use crate::plan::stream::aggregate::column_exprs;
use crate::plan::stream::relation::AttachedWindow;
use crate::plan::stream::top_n::{Bound, TopN, UNBOUNDED, without_casts};
use crate::plan::stream::{ColumnRef, Relation, StreamPlanner};
use crate::plan::time_attribute::time_attribute;
use crate::runtime::graph::{ChangelogMode, OperatorFactory};
use crate::types::TimeAttribute;

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
    /// Of a deduplication by a row time all rows are wanted, not only the latest.
    pub(super) takes_history: bool,
}

/// Order by processing time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    EarliestFirst,
    LatestFirst,
}

/// The order by processing time, if that is the first sort key over `plan`.
pub(super) fn by_arrival(order: &[SortExpr], plan: &LogicalPlan) -> Option<Arrival> {
    let first = order.first()?;
    if time_attribute(without_casts(&first.expr), plan) != Some(TimeAttribute::Processing) {
        return None;
    }
    Some(if first.asc { Arrival::EarliestFirst } else { Arrival::LatestFirst })
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
        let takes_history = std::mem::take(&mut self.takes_history);
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
        let by_arrival = by_arrival(&top_n.params.order_by, &top_n.window.input);
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
                takes_history,
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
        if !input_retracts
            && !has_ties
            && rank.by_arrival.is_none()
            && let RankEnd::Constant(last) = config.end
            && last < UNBOUNDED
            && let Some((time, behind)) = window_of(&input, &config.partition)
        {
            return self.lower_window_top_n(WindowTopNConfig { top: config, time, behind }, &input, schema);
        }
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
            return self.lower_deduplicate(config, &input, schema, keys, rank.takes_history);
        }
        let proctime =
            input.mapped_proctime(|c| config.output.iter().position(|o| *o == RankOutput::Column(c)));
        let detail = describe(&config, &schema);
        let factory: OperatorFactory = Arc::new(move |subtask| {
            let config = TopNConfig { emit_update_before: subtask.emit_update_before, ..config.clone() };
            Ok(Box::new(TopNOperator::new(config)?))
        });
        let node = self.add_operator(rank.name, detail, &input, changelog, exchange, factory);
        let relation = Relation::plain(node, schema, output_schema, changelog, BTreeSet::new());
        Ok(relation.with_keys(keys).with_proctime(proctime))
    }

    /// The first rows of each partition of a window, told when it has passed.
    fn lower_window_top_n(
        &mut self,
        config: WindowTopNConfig,
        input: &Relation,
        schema: DFSchemaRef,
    ) -> Result<Relation> {
        let top = &config.top;
        let place = |c: usize| top.output.iter().position(|o| *o == RankOutput::Column(c));
        let attached = input.attached.and_then(|window| {
            Some(AttachedWindow { start: place(window.start)?, end: place(window.end)?, ..window })
        });
        let rowtime = input.rowtime.iter().filter_map(|c| place(*c)).collect();
        let proctime = input.mapped_proctime(place);
        let partition: Option<Vec<usize>> = top.partition.iter().map(|c| place(*c)).collect();
        let rank = top.output.iter().position(|o| *o == RankOutput::Rank);
        let is_one = top.start == 1 && top.end == RankEnd::Constant(1);
        let keys = match (partition, rank) {
            (Some(key), _) if is_one => vec![key],
            (Some(key), Some(rank)) => vec![key.into_iter().chain([rank]).collect()],
            _ => Vec::new(),
        };
        let (detail, exchange) = (describe(top, &schema), Some(top.partition.clone()));
        let (output_schema, changelog) = (top.output_schema.clone(), ChangelogMode::APPEND_ONLY);
        let factory: OperatorFactory =
            Arc::new(move |_| Ok(Box::new(WindowTopNOperator::new(config.clone())?)));
        let node = self.add_operator("WindowRank", detail, input, changelog, exchange, factory);
        let relation = Relation::plain(node, schema, output_schema, changelog, rowtime).with_keys(keys);
        Ok(Relation { attached, proctime, ..relation })
    }

    /// One row of each key of append-only rows. By a row time: descending, the latest of equal times stays; ascending,
    /// the first row goes out once the watermark has passed it, and no other follows.
    fn lower_deduplicate(
        &mut self,
        top: TopNConfig,
        input: &Relation,
        schema: DFSchemaRef,
        keys: Vec<Vec<usize>>,
        takes_history: bool,
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
            .filter(|(_, o)| matches!(o, RankOutput::Column(c) if by_rowtime && input.rowtime.contains(c)))
            .map(|(i, _)| i)
            .collect();
        let proctime = input.mapped_proctime(|c| top.output.iter().position(|o| *o == RankOutput::Column(c)));
        let output_schema = top.output_schema.clone();
        if takes_history && by_rowtime && keeps_last {
            let columns: Option<Vec<usize>> = top
                .output
                .iter()
                .map(|o| if let RankOutput::Column(c) = o { Some(*c) } else { None })
                .collect();
            if let Some(columns) = columns {
                let projection = Some(column_exprs(&input.physical, &columns));
                let config = CalcConfig { condition: None, projection, schema: output_schema.clone() };
                let detail = format!("history=[{}]", names(&mut top.partition.iter().copied()));
                let node = self.add_calc(config, detail, input);
                let changelog = self.graph.nodes[node].changelog;
                return Ok(Relation::plain(node, schema, output_schema, changelog, rowtime).with_keys(keys));
            }
        }
        let exchange = Some(top.partition.clone());
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
        let relation = Relation::plain(node, schema, output_schema, changelog, rowtime);
        Ok(relation.with_keys(keys).with_proctime(proctime))
    }
}

/// Where the partition holds the window of the rows: the column of its time, or of its end and how far the time is behind.
fn window_of(input: &Relation, partition: &[usize]) -> Option<(usize, i64)> {
    let window = input.attached.filter(|w| partition.contains(&w.start) && partition.contains(&w.end))?;
    match input.rowtime.first() {
        Some(time) => Some((*time, 0)),
        // In a zone the end is a wall clock, which no watermark can be compared with.
        None => window.zone.is_none().then_some((window.end, 1)),
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

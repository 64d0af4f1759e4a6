//! Lowering of OVER.
//!
//! ```text
//!  Window[f OVER w, g OVER w, h OVER v]
//!     ─► ══ partition of w ══► OverAggregate[f, g] ─► ══ partition of v ══► OverAggregate[h]
//! ```
//!
//! Functions over one partition and order share an operator. By a time attribute that is an OVER aggregate; ranks by anything
//! else are a top-N without a bound, whose numbers change as rows come before others. Whatever else batch can do is an
//! `UpdatingOverAggregate`, whose results change as well.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::{DFSchema, DFSchemaRef, ScalarValue};
use datafusion::logical_expr::expr::{
    AggregateFunction, NullTreatment, WindowFunction, WindowFunctionParams,
};
use datafusion::logical_expr::{
    AggregateUDF, Expr, SortExpr, Window, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition,
};
use datafusion::physical_planner::create_window_expr;

use crate::error::{Error, Result};
use crate::functions;
use crate::functions::aggregate::sliding::out_of_window;
use crate::operators::late_rows::LateRule;
use crate::operators::over_aggregate::{
    FrameBounds, LagCall, OverAggregateConfig, OverAggregateOperator, OverFrame, OverOrder, OverOutput,
};
use crate::operators::top_n::{RankFunction, SortColumn};
use crate::operators::updating_over::{UpdatingOverConfig, UpdatingOverOperator};
use crate::plan::interval::milliseconds;
use crate::plan::stream::rank::{Arrival, Rank, by_arrival};
use crate::plan::stream::top_n::{Bound, UNBOUNDED};
use crate::plan::stream::{ColumnRef, Relation, StreamPlanner, not_yet};
use crate::runtime::graph::{ChangelogMode, OperatorFactory};

/// A function of a window node, and its place among them.
type Call<'a> = (usize, &'a WindowFunction);

/// What the aggregates of a frame are called in plans.
fn describe_frame(bounds: FrameBounds) -> String {
    let (units, before) = match bounds {
        FrameBounds::Rows(n) => ("ROWS", n.map(|n| n.to_string())),
        FrameBounds::Range(ms) => ("RANGE", ms.map(|ms| format!("{ms} ms"))),
    };
    format!("{units} BETWEEN {} PRECEDING AND CURRENT ROW", before.as_deref().unwrap_or("UNBOUNDED"))
}

impl StreamPlanner {
    /// All functions of a window node.
    pub(super) fn lower_over(&mut self, window: &Window) -> Result<Relation> {
        let calls = window.window_expr.iter().map(function_of).collect::<Result<Vec<_>>>()?;
        let input = self.lower(&window.input)?;
        let mut relation = self.materialize(input)?;
        relation.schema = window.input.schema().clone();
        let width = relation.schema.fields().len();
        let mut left: Vec<Call<'_>> = calls.into_iter().enumerate().collect();
        let mut lowered: Vec<usize> = Vec::new();
        while let Some((_, first)) = left.first() {
            let (partition, order) = (&first.params.partition_by, &first.params.order_by);
            let (group, others): (Vec<_>, Vec<_>) = left
                .iter()
                .partition(|(_, f)| f.params.partition_by == *partition && f.params.order_by == *order);
            let places = group.iter().map(|(i, _)| *i);
            lowered.extend(places);
            relation = self.lower_group(relation, window, &group)?;
            left = others;
        }
        // Columns of the functions stand in the order in which these were lowered.
        let mut columns = relation.columns[..width].to_vec();
        for i in 0..lowered.len() {
            let at = lowered.iter().position(|l| *l == i);
            let column = at.and_then(|at| relation.columns.get(width + at));
            columns.push(*column.ok_or_else(|| Error::internal("an OVER window lost a function"))?);
        }
        Ok(Relation { columns, schema: window.schema.clone(), ..relation })
    }

    /// The functions over one partition and order.
    fn lower_group(&mut self, input: Relation, window: &Window, group: &[Call<'_>]) -> Result<Relation> {
        let Some((_, first)) = group.first() else { return Ok(input) };
        let WindowFunctionParams { partition_by, order_by, .. } = &first.params;
        let arrival = by_arrival(order_by, &window.input);
        let by_time = match order_by.as_slice() {
            [sort] => input.column_of(&sort.expr).is_some_and(
                |c| matches!(input.columns[c], ColumnRef::Physical(p) if input.rowtime.contains(&p)),
            ),
            _ => false,
        };
        let is_appended = input.changelog.is_append_only();
        let is_descending = order_by.first().is_some_and(|sort| !sort.asc);
        if is_appended && (by_time || arrival.is_some()) {
            if arrival.is_some() || !is_descending && group.iter().all(|(_, f)| !looks_ahead(f)) {
                if is_descending {
                    return Err(Error::unsupported("The window can only be ordered in ASCENDING mode.")
                        .hint("order by the processing time without DESC"));
                }
                return self.lower_over_time(input, window, group, partition_by, order_by, arrival);
            }
            // The rows behind a row are not there yet: its results change as they come.
            return self.lower_updating_over(input, window, group, partition_by, order_by);
        }
        if arrival.is_none() && group.iter().any(|(_, f)| rank_of(f).is_none()) {
            return self.lower_updating_over(input, window, group, partition_by, order_by);
        }
        let mut relation = input;
        for (place, function) in group {
            let Some(rank) = rank_of(function) else {
                return Err(not_by_time(&relation));
            };
            relation = self.lower_row_number(relation, window, (*place, function), rank, arrival)?;
        }
        Ok(relation)
    }

    /// Functions whose results change as rows come before and behind a row, or change themselves.
    fn lower_updating_over(
        &mut self,
        input: Relation,
        window: &Window,
        group: &[Call<'_>],
        partition: &[Expr],
        order: &[SortExpr],
    ) -> Result<Relation> {
        let mut keys: Vec<Expr> = partition.to_vec();
        keys.extend(order.iter().map(|sort| sort.expr.clone()));
        let (input, columns) = self.with_key_columns(input, &keys)?;
        let (partition, ordered) = columns.split_at(partition.len());
        let schema = input.physical_df_schema()?;
        let mut functions = Vec::with_capacity(group.len());
        for (place, function) in group {
            let expr = window.window_expr.get(*place).ok_or_else(|| {
                Error::internal(format!("{} is no function of its window", function.fun.name()))
            })?;
            functions.push(create_window_expr(expr, &schema, &self.options.props)?);
        }
        let added: Vec<_> = group.iter().map(|(place, _)| function_field(window, *place)).collect();
        let physical = with_functions(&input.physical, &added);
        let first = input.physical.fields().len();
        let name = |c: &usize| input.physical.field(*c).name().clone();
        let by: Vec<String> = ordered
            .iter()
            .zip(order)
            .map(|(c, sort)| format!("{} {}", name(c), if sort.asc { "ASC" } else { "DESC" }))
            .collect();
        let selected: Vec<String> = group
            .iter()
            .map(|(_, f)| {
                let args: Vec<String> = f.params.args.iter().map(ToString::to_string).collect();
                format!(
                    "{}({}) {}",
                    f.fun.name().to_ascii_uppercase(),
                    args.join(", "),
                    f.params.window_frame
                )
            })
            .collect();
        let detail = format!(
            "partitionBy=[{}], orderBy=[{}], select=[*, {}]",
            partition.iter().map(name).collect::<Vec<_>>().join(", "),
            by.join(", "),
            selected.join(", ")
        );
        let order = ordered.iter().zip(order).map(|(column, sort)| SortColumn {
            column: *column,
            options: SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first },
        });
        let config = UpdatingOverConfig {
            input_schema: input.physical.clone(),
            output_schema: physical.clone(),
            partition: partition.to_vec(),
            order: order.collect(),
            functions,
            // Each subtask is told when the whole graph is known.
            emit_update_before: true,
            bundle_rows: self.options.bundle_rows,
            ttl_ms: self.state_ttl(&window.input),
        };
        UpdatingOverOperator::new(config.clone())?;
        let exchange = Some(partition.to_vec());
        let factory: OperatorFactory = Arc::new(move |subtask| {
            let config =
                UpdatingOverConfig { emit_update_before: subtask.emit_update_before, ..config.clone() };
            Ok(Box::new(UpdatingOverOperator::new(config)?))
        });
        let changelog =
            if input.changelog.is_append_only() { ChangelogMode::UPDATES } else { ChangelogMode::ALL };
        let node = self.add_operator("UpdatingOverAggregate", detail, &input, changelog, exchange, factory);
        let (schema, columns) = with_places(&input, &added, first, &physical)?;
        // Rows come again when their results change, behind others of a later time.
        Ok(Relation {
            node,
            schema,
            physical,
            columns,
            changelog,
            rowtime: BTreeSet::new(),
            attached: None,
            ..input
        })
    }

    /// A rank without a bound: every row goes on, and its number changes as rows come before it.
    fn lower_row_number(
        &mut self,
        input: Relation,
        window: &Window,
        (place, function): Call<'_>,
        rank: RankFunction,
        by_arrival: Option<Arrival>,
    ) -> Result<Relation> {
        let WindowFunctionParams { partition_by, order_by, .. } = &function.params;
        if order_by.iter().all(|s| matches!(s.expr, Expr::Literal(..))) {
            return Err(Error::validation(
                "Over Agg: The window rank function requires order by clause with non-constant fields. please re-check the over window statement.",
            ));
        }
        let (qualifier, field) = function_field(window, place);
        let columns = (0..input.schema.fields().len()).collect();
        let rank = Rank {
            name: "Rank",
            function: rank,
            start: 1,
            end: Bound::Constant(UNBOUNDED),
            partition: partition_by.clone(),
            order: if by_arrival.is_some() { Vec::new() } else { order_by.clone() },
            by_arrival,
            columns,
            rank: Some((qualifier, field)),
            takes_history: false,
        };
        self.lower_rank(input, rank)
    }

    fn lower_over_time(
        &mut self,
        input: Relation,
        window: &Window,
        group: &[Call<'_>],
        partition: &[Expr],
        order: &[SortExpr],
        arrival: Option<Arrival>,
    ) -> Result<Relation> {
        // Columns that are read by their number: the partition, the time, what LAG looks at.
        let mut keys: Vec<Expr> = partition.to_vec();
        if arrival.is_none() {
            keys.extend(order.iter().map(|sort| sort.expr.clone()));
        }
        let first_lag = keys.len();
        let is_lag = |f: &WindowFunction| f.fun.name().eq_ignore_ascii_case("lag");
        let lagged = group.iter().filter(|(_, f)| is_lag(f)).filter_map(|(_, f)| f.params.args.first());
        keys.extend(lagged.cloned());
        let (input, columns) = self.with_key_columns(input, &keys)?;
        let input = match arrival {
            Some(_) => input,
            None => {
                let (partition, time) = columns.split_at(partition.len());
                let time = time.first().copied().unwrap_or_default();
                self.without_late_rows(input, partition, time, LateRule::Passed, "OverAggregate")?
            }
        };
        let schema = input.physical_df_schema()?;
        let mut lag_columns = columns[first_lag..].iter().copied();
        let (mut frames, mut lags, mut output) = (Vec::<OverFrame>::new(), Vec::new(), Vec::new());
        let mut selected = Vec::new();
        for (_, function) in group {
            let WindowFunctionParams { args, filter, null_treatment, distinct, .. } = &function.params;
            let name = function.fun.name().to_ascii_uppercase();
            output.push(match (rank_of(function), &function.fun) {
                (Some(RankFunction::RowNumber), _) => OverOutput::RowNumber,
                (Some(RankFunction::Rank), _) => OverOutput::Rank,
                (Some(RankFunction::DenseRank), _) => OverOutput::DenseRank,
                (None, WindowFunctionDefinition::WindowUDF(_)) if is_lag(function) => {
                    if *null_treatment == Some(NullTreatment::IgnoreNulls) {
                        return Err(not_yet("LAG with IGNORE NULLS"));
                    }
                    let column = lag_columns.next();
                    let column = column.ok_or_else(|| Error::validation("LAG needs an argument"))?;
                    lags.push(lag_call(args, column, &input.physical)?);
                    OverOutput::Lag(lags.len() - 1)
                }
                (None, WindowFunctionDefinition::WindowUDF(_)) if aggregate_of(function).is_none() => {
                    let message = format!("{name} Function is not supported in stream mode.");
                    return Err(Error::unsupported(message).hint(
                        "it depends on rows that come later: over bounded tables SET 'execution.runtime-mode' = 'batch' runs it",
                    ));
                }
                (None, _) => {
                    let udf = aggregate_of(function)
                        .ok_or_else(|| Error::internal(format!("{name} is no aggregate")))?;
                    let bounds = frame_bounds(&function.params)?;
                    let frame = frames.iter().position(|f| f.bounds == bounds).unwrap_or_else(|| {
                        frames.push(OverFrame { bounds, calls: Vec::new() });
                        frames.len() - 1
                    });
                    let call = Expr::AggregateFunction(AggregateFunction::new_udf(
                        udf,
                        args.clone(),
                        *distinct,
                        filter.clone(),
                        Vec::new(),
                        // FIRST_VALUE and LAST_VALUE skip NULLs by themselves.
                        null_treatment.filter(|n| *n != NullTreatment::IgnoreNulls),
                    ));
                    let calls = self.calls(std::slice::from_ref(&call), &schema, &input.physical)?;
                    let of = &mut frames[frame].calls;
                    of.extend(calls);
                    OverOutput::Aggregate { frame, call: of.len() - 1 }
                }
            });
            let args: Vec<String> = args.iter().map(ToString::to_string).collect();
            let distinct = if *distinct { "DISTINCT " } else { "" };
            selected.push(format!("{name}({distinct}{})", args.join(", ")));
        }
        let added: Vec<_> = group.iter().map(|(place, _)| function_field(window, *place)).collect();
        let physical = with_functions(&input.physical, &added);
        let first = input.physical.fields().len();
        let name = |c: &usize| input.physical.field(*c).name().clone();
        let order = match arrival {
            Some(_) => OverOrder::Arrival,
            None => OverOrder::RowTime(columns[partition.len()]),
        };
        let by = match order {
            OverOrder::Arrival => "PROCTIME".to_owned(),
            OverOrder::RowTime(c) => name(&c),
        };
        let windows: Vec<String> = frames.iter().map(|f| describe_frame(f.bounds)).collect();
        let keys: Vec<usize> = columns[..partition.len()].to_vec();
        let detail = format!(
            "partitionBy=[{}], orderBy=[{by} ASC], window=[{}], select=[*, {}]",
            keys.iter().map(name).collect::<Vec<_>>().join(", "),
            windows.join(", "),
            selected.join(", ")
        );
        let config = OverAggregateConfig {
            input_schema: input.physical.clone(),
            output_schema: physical.clone(),
            partition: keys.clone(),
            order,
            frames,
            lags,
            output,
            ttl_ms: self.state_ttl(&window.input),
        };
        config.validate()?;
        let factory: OperatorFactory =
            Arc::new(move |_| Ok(Box::new(OverAggregateOperator::new(config.clone())?)));
        let mode = ChangelogMode::APPEND_ONLY;
        let node = self.add_operator("OverAggregate", detail, &input, mode, Some(keys), factory);
        let (schema, places) = with_places(&input, &added, first, &physical)?;
        // Rows wait for the time that they are ordered by; others may be behind the watermark when they come out.
        let rowtime = match order {
            OverOrder::RowTime(time) => BTreeSet::from([time]),
            OverOrder::Arrival => input.rowtime.clone(),
        };
        Ok(Relation { node, schema, physical, columns: places, rowtime, ..input })
    }
}

/// Fields of functions, with their qualifiers.
type Added = [(Option<datafusion::common::TableReference>, arrow::datatypes::FieldRef)];

/// The physical columns of an input, and those of functions.
fn with_functions(input: &SchemaRef, added: &Added) -> SchemaRef {
    let mut fields: Vec<Arc<Field>> = input.fields().iter().cloned().collect();
    let first = fields.len();
    let made = added.iter().map(|(_, field)| field.as_ref().clone());
    fields.extend(made.enumerate().map(|(i, f)| Arc::new(f.with_name(format!("__over_{}", first + i)))));
    Arc::new(Schema::new(fields))
}

/// The columns of the plan behind functions whose physical columns begin at `first`.
fn with_places(
    input: &Relation,
    added: &Added,
    first: usize,
    physical: &SchemaRef,
) -> Result<(DFSchemaRef, Vec<ColumnRef>)> {
    let mut all: Vec<_> = input.schema.iter().map(|(q, f)| (q.cloned(), Arc::clone(f))).collect();
    all.extend(added.iter().cloned());
    let schema = Arc::new(DFSchema::new_with_metadata(all, Default::default())?);
    let mut places = input.columns.clone();
    places.extend((first..physical.fields().len()).map(ColumnRef::Physical));
    Ok((schema, places))
}

/// Whether a function needs rows behind the current one.
fn looks_ahead(function: &WindowFunction) -> bool {
    let params = &function.params;
    if rank_of(function).is_some() {
        return false;
    }
    match &function.fun {
        WindowFunctionDefinition::WindowUDF(_) if function.fun.name().eq_ignore_ascii_case("lag") => {
            let offset = params.args.get(1).and_then(|e| match e {
                Expr::Literal(value, _) => value.cast_to(&arrow::datatypes::DataType::Int64).ok(),
                _ => None,
            });
            params.null_treatment == Some(NullTreatment::IgnoreNulls)
                || matches!(offset, Some(ScalarValue::Int64(Some(n))) if n < 0)
        }
        WindowFunctionDefinition::WindowUDF(_) if aggregate_of(function).is_none() => true,
        _ => frame_bounds(params).is_err(),
    }
}

/// Qualifier and field of a function in the schema of its node.
fn function_field(
    window: &Window,
    place: usize,
) -> (Option<datafusion::common::TableReference>, arrow::datatypes::FieldRef) {
    let width = window.input.schema().fields().len();
    let (qualifier, field) = window.schema.qualified_field(width + place);
    (qualifier.cloned(), Arc::clone(field))
}

/// The function of an expression of a window node.
pub(super) fn function_of(mut expr: &Expr) -> Result<&WindowFunction> {
    while let Expr::Alias(alias) = expr {
        expr = &alias.expr;
    }
    match expr {
        Expr::WindowFunction(function) => Ok(function),
        other => Err(not_yet(&other.to_string())),
    }
}

/// The rank that a function is.
pub(super) fn rank_of(function: &WindowFunction) -> Option<RankFunction> {
    match function.fun.name().to_ascii_lowercase().as_str() {
        "row_number" => Some(RankFunction::RowNumber),
        "rank" => Some(RankFunction::Rank),
        "dense_rank" => Some(RankFunction::DenseRank),
        _ => None,
    }
}

/// The aggregate that a function is. DataFusion has FIRST_VALUE and LAST_VALUE twice.
fn aggregate_of(function: &WindowFunction) -> Option<Arc<AggregateUDF>> {
    match &function.fun {
        WindowFunctionDefinition::AggregateUDF(udf) => Some(out_of_window(udf)),
        WindowFunctionDefinition::WindowUDF(udf) => functions::aggregate_functions()
            .into_iter()
            .find(|a| matches!(a.name(), "first_value" | "last_value") && a.name() == udf.name()),
    }
}

fn not_by_time(input: &Relation) -> Error {
    Error::unsupported(format!(
        "an OVER aggregate by processing time over the updates of {} is not supported",
        if input.keys.is_empty() { "rows without a key" } else { "rows by a key" }
    ))
    .hint("order by a column of the rows, or take the aggregate before the rows are updated")
}

/// Where a frame begins; it has to end with the current row.
fn frame_bounds(params: &WindowFunctionParams) -> Result<FrameBounds> {
    let frame = &params.window_frame;
    if frame.end_bound != WindowFrameBound::CurrentRow {
        return Err(Error::unsupported("OVER RANGE FOLLOWING windows are not supported yet.").hint(
            "end the frame with CURRENT ROW; over bounded tables SET 'execution.runtime-mode' = 'batch' takes any frame",
        ));
    }
    let start = match &frame.start_bound {
        WindowFrameBound::Preceding(value) if value.is_null() => None,
        WindowFrameBound::Preceding(value) => Some(value.clone()),
        WindowFrameBound::CurrentRow => match frame.units {
            WindowFrameUnits::Rows => Some(ScalarValue::UInt64(Some(0))),
            _ => Some(ScalarValue::new_interval_mdn(0, 0, 0)),
        },
        WindowFrameBound::Following(_) => return Err(not_yet("a frame that begins behind its row")),
    };
    match (frame.units, start) {
        (WindowFrameUnits::Rows, None) => Ok(FrameBounds::Rows(None)),
        (WindowFrameUnits::Range, None) => Ok(FrameBounds::Range(None)),
        (WindowFrameUnits::Rows, Some(ScalarValue::UInt64(Some(n)))) => Ok(FrameBounds::Rows(Some(n))),
        (WindowFrameUnits::Range, Some(value)) => Ok(FrameBounds::Range(Some(length(&value)?))),
        (units, _) => Err(not_yet(&format!("a frame of {units}"))),
    }
}

/// The length of an interval of days and shorter parts.
fn length(value: &ScalarValue) -> Result<i64> {
    milliseconds(value).filter(|ms| *ms >= 0).ok_or_else(|| {
        Error::unsupported(format!("a RANGE of {value} before the current row"))
            .hint("use an interval of days or less that is not negative, as INTERVAL '1' HOUR")
    })
}

fn lag_call(args: &[Expr], column: usize, schema: &SchemaRef) -> Result<LagCall> {
    let ty = schema.field(column).data_type();
    let literal = |i: usize| match args.get(i) {
        None => Ok(None),
        Some(Expr::Literal(value, _)) => Ok(Some(value.clone())),
        Some(other) => Err(Error::unsupported(format!("LAG with {other}, which is no constant"))
            .hint("offset and default have to be constants")),
    };
    let offset = match literal(1)? {
        None => 1,
        Some(value) => match value.cast_to(&arrow::datatypes::DataType::Int64)? {
            ScalarValue::Int64(Some(n)) => u64::try_from(n).map_err(|_| {
                Error::unsupported("LAG with a negative offset looks at rows that come later")
                    .hint("over bounded tables SET 'execution.runtime-mode' = 'batch' runs it")
            })?,
            _ => return Err(Error::validation("the offset of LAG is NULL")),
        },
    };
    let default = match literal(2)? {
        Some(value) => value.cast_to(ty)?,
        None => ScalarValue::try_from(ty)?,
    };
    Ok(LagCall { column, offset, default })
}

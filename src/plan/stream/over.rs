//! Lowering of OVER.
//!
//! ```text
//!  Window[f OVER w, g OVER w, h OVER v]
//!     ─► ══ partition of w ══► OverAggregate[f, g] ─► ══ partition of v ══► OverAggregate[h]
//! ```
//!
//! Functions over one partition and order share an operator. By a time attribute that is an OVER aggregate; ranks by anything
//! else are a top-N without a bound, whose numbers change as rows come before others.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::{DFSchema, DFSchemaRef, ScalarValue};
use datafusion::logical_expr::expr::{
    AggregateFunction, NullTreatment, WindowFunction, WindowFunctionParams,
};
use datafusion::logical_expr::{
    AggregateUDF, Expr, SortExpr, Window, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition,
};

use crate::error::{Error, Result};
use crate::functions;
use crate::functions::aggregate::sliding::out_of_window;
use crate::operators::over_aggregate::{
    FrameBounds, LagCall, OverAggregateConfig, OverAggregateOperator, OverFrame, OverOrder, OverOutput,
};
use crate::operators::top_n::RankFunction;
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
        if is_appended && (by_time || arrival.is_some()) {
            if order_by.first().is_some_and(|sort| !sort.asc) {
                return Err(Error::unsupported("The window can only be ordered in ASCENDING mode.")
                    .hint("order by the time attribute without DESC, or run in batch mode"));
            }
            return self.lower_over_time(input, window, group, partition_by, order_by, arrival);
        }
        let mut relation = input;
        for (place, function) in group {
            let Some(rank) = rank_of(function) else {
                return Err(not_by_time(&relation, order_by));
            };
            relation = self.lower_row_number(relation, window, (*place, function), rank, arrival)?;
        }
        Ok(relation)
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
        let mut fields: Vec<Arc<Field>> = input.physical.fields().iter().cloned().collect();
        let made = added.iter().map(|(_, field)| field.as_ref().clone());
        let first = fields.len();
        fields.extend(made.enumerate().map(|(i, f)| Arc::new(f.with_name(format!("__over_{}", first + i)))));
        let physical: SchemaRef = Arc::new(Schema::new(fields));
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
        let mut all: Vec<_> = input.schema.iter().map(|(q, f)| (q.cloned(), Arc::clone(f))).collect();
        all.extend(added);
        let schema: DFSchemaRef = Arc::new(DFSchema::new_with_metadata(all, Default::default())?);
        let mut places = input.columns.clone();
        places.extend((first..physical.fields().len()).map(ColumnRef::Physical));
        // Rows wait for the time that they are ordered by; others may be behind the watermark when they come out.
        let rowtime = match order {
            OverOrder::RowTime(time) => BTreeSet::from([time]),
            OverOrder::Arrival => input.rowtime.clone(),
        };
        Ok(Relation { node, schema, physical, columns: places, rowtime, ..input })
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

fn not_by_time(input: &Relation, order: &[SortExpr]) -> Error {
    if !input.changelog.is_append_only() {
        return Error::unsupported(
            "an OVER aggregate over updating input is not supported in streaming mode",
        )
        .hint("take the aggregate before the rows are updated, or run over bounded tables in batch mode");
    }
    let what = match order {
        [] => "the window has no ORDER BY".to_owned(),
        [one] => format!("{} is none", one.expr),
        _ => "the window is ordered by several columns".to_owned(),
    };
    Error::unsupported(format!(
        "OVER windows' ordering in stream mode must be defined on a time attribute, and {what}"
    ))
    .hint(
        "ORDER BY a column with a WATERMARK, alone and ascending; over bounded tables SET 'execution.runtime-mode' = 'batch' takes any order",
    )
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

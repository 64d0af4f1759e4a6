//! Plans the window functions among the table factors: `TUMBLE`, `HOP`, `CUMULATE`, `SESSION`; `TO_CHANGELOG` and
//! `FROM_CHANGELOG` are planned by [`super::changelog`].

use std::sync::Arc;

use arrow::datatypes::DataType;
use chrono_tz::Tz;
use datafusion::common::{DFSchema, Result as DfResult, ScalarValue};
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::sqlparser::ast::{
    self, FunctionArg, FunctionArgExpr, FunctionArguments, Spanned, TableAlias, TableFactor,
};

use crate::error::{Error, Location};
use crate::operators::window_aggregate::{WindowKind, WindowSpec};
use crate::sql::ast::TABLE_ARGUMENT;
use crate::sql::suggestion;

use crate::plan::errors::sql_names;
use crate::plan::interval;
use crate::plan::nodes::window_tvf::{WindowColumns, WindowTvfNode};
use crate::plan::syntax::changelog::{FUNCTIONS, plan_changelog};

/// Plans the window functions among the table factors.
#[derive(Debug)]
pub struct WindowTvfPlanner {
    /// The session zone, which windows over TIMESTAMP_LTZ are aligned in.
    pub time_zone: Tz,
}

impl RelationPlanner for WindowTvfPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<RelationPlanning> {
        let call = match &relation {
            TableFactor::TableFunction { expr: ast::Expr::Function(f), alias } => {
                let FunctionArguments::List(list) = &f.args else {
                    return Ok(RelationPlanning::Original(Box::new(relation)));
                };
                Some((f.name.clone(), list.args.clone(), alias.clone()))
            }
            TableFactor::Table { name, args: Some(args), alias, .. } => {
                Some((name.clone(), args.args.clone(), alias.clone()))
            }
            TableFactor::Function { name, args, alias, lateral: false, .. } => {
                Some((name.clone(), args.clone(), alias.clone()))
            }
            _ => None,
        };
        let Some((name, args, alias)) = call else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let function = name.to_string().to_ascii_uppercase();
        let span = name.span().start;
        let location = Location { line: span.line, column: span.column };
        let plan = match function.as_str() {
            "TUMBLE" | "HOP" | "CUMULATE" | "SESSION" => {
                self.plan_window(&function, args, context).map_err(|e| Error::from(e).at(location))?
            }
            _ if FUNCTIONS.contains(&function.as_str()) => {
                plan_changelog(&function, args, context).map_err(|e| Error::from(e).at(location))?
            }
            _ => {
                const KNOWN: [&str; 7] =
                    ["TUMBLE", "HOP", "CUMULATE", "SESSION", "UNNEST", "TO_CHANGELOG", "FROM_CHANGELOG"];
                let upper = name.to_string().to_uppercase();
                return Err(Error::unsupported(format!("the table function {upper} is not known"))
                    .hint(suggestion(&upper, &KNOWN, "table functions are"))
                    .at(location)
                    .into());
            }
        };
        let alias: Option<TableAlias> = alias;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

/// The parameters of a window function by name, in positional order.
fn parameters(function: &str) -> &'static [&'static str] {
    match function {
        "TUMBLE" => &["DATA", "TIMECOL", "SIZE", "OFFSET"],
        "HOP" => &["DATA", "TIMECOL", "SLIDE", "SIZE", "OFFSET"],
        "SESSION" => &["DATA", "TIMECOL", "GAP"],
        _ => &["DATA", "TIMECOL", "STEP", "SIZE", "OFFSET"],
    }
}

impl WindowTvfPlanner {
    fn plan_window(
        &self,
        function: &str,
        args: Vec<FunctionArg>,
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<LogicalPlan> {
        let names = parameters(function);
        let signature = || format!("{function}({})", names.join(", "));
        let mut values: Vec<Option<ast::Expr>> = vec![None; names.len()];
        for (i, arg) in args.into_iter().enumerate() {
            let (slot, value) = match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => (Some(i), e),
                FunctionArg::Named { name, arg: FunctionArgExpr::Expr(e), .. } => {
                    (names.iter().position(|n| n.eq_ignore_ascii_case(&name.value)), e)
                }
                other => {
                    return Err(Error::validation(format!("unexpected argument {other}"))
                        .hint(signature())
                        .into());
                }
            };
            match slot.and_then(|s| values.get_mut(s)) {
                Some(place) if place.is_none() => *place = Some(value),
                _ => {
                    return Err(Error::validation(format!(
                        "argument {} of {function} is unknown or given twice",
                        i + 1
                    ))
                    .hint(format!("the signature is {}", signature()))
                    .into());
                }
            }
        }
        let mut values = names.iter().zip(values);
        let mut next = |required: bool| match values.next() {
            Some((_, Some(v))) => Ok(Some(v)),
            Some((name, None)) if required => {
                Err(Error::validation(format!("{function} lacks its argument {name}"))
                    .hint(format!("the signature is {}", signature())))
            }
            _ => Ok(None),
        };
        let (data, time) = (next(true)?, next(true)?);
        let (input, partition) = match data {
            Some(data) => {
                let (table, partition) = table_argument(data, function)?;
                let input = context.plan(table)?;
                let columns = partition.iter().map(|column| windowed_column(column, &input));
                let partition = columns.collect::<DfResult<Vec<_>>>()?;
                (input, partition)
            }
            None => return Err(Error::internal("the window function has no table").into()),
        };
        let time = time_column(time, &input, function)?;
        let mut interval = |required: bool, what: &str| -> DfResult<i64> {
            match next(required)? {
                None => Ok(0),
                Some(e) => {
                    milliseconds(context.sql_expr_to_logical_expr(e, &DFSchema::empty())?, function, what)
                }
            }
        };
        let kind = match function {
            "TUMBLE" => WindowKind::Tumble { size: interval(true, "size")? },
            "HOP" => {
                let slide = interval(true, "slide")?;
                WindowKind::Hop { slide, size: interval(true, "size")? }
            }
            "SESSION" => WindowKind::Session { gap: interval(true, "gap")? },
            _ => {
                let step = interval(true, "step")?;
                WindowKind::Cumulate { step, size: interval(true, "size")? }
            }
        };
        let offset = interval(false, "offset")?;
        use datafusion::logical_expr::ExprSchemable;
        let zone = match time.get_type(input.schema())? {
            DataType::Timestamp(_, Some(_)) => Some(self.time_zone),
            _ => None,
        };
        let window = WindowSpec { kind, offset, zone };
        window.validate()?;
        window.validate_slices()?;
        let columns = WindowColumns::Function;
        let node = WindowTvfNode::try_new(input, time, partition, window, columns)?;
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
    }
}

/// `TABLE t PARTITION BY k` as a table factor and columns.
pub(super) fn table_argument(data: ast::Expr, function: &str) -> DfResult<(TableFactor, Vec<ast::Ident>)> {
    let wrong = || {
        Error::validation(format!("the first argument of {function} has to be a table")).hint(
            if FUNCTIONS.contains(&function) {
                format!("write {function}(input => TABLE t)")
            } else {
                format!("write {function}(TABLE t, DESCRIPTOR(ts), …)")
            },
        )
    };
    let mut partition = Vec::new();
    let parts = match data {
        ast::Expr::Function(f) if f.name.to_string().eq_ignore_ascii_case(TABLE_ARGUMENT) => match f.args {
            FunctionArguments::List(list) => {
                let mut args = list.args.into_iter();
                let table = match args.next() {
                    Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(ast::Expr::Identifier(i)))) => vec![i],
                    Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(ast::Expr::CompoundIdentifier(
                        parts,
                    )))) => parts,
                    _ => return Err(wrong().into()),
                };
                for arg in args {
                    match arg {
                        FunctionArg::Unnamed(FunctionArgExpr::Expr(ast::Expr::Identifier(column))) => {
                            partition.push(column);
                        }
                        _ => return Err(wrong().into()),
                    }
                }
                table
            }
            _ => return Err(wrong().into()),
        },
        ast::Expr::Subquery(subquery) => {
            let table = TableFactor::Derived { lateral: false, subquery, alias: None, sample: None };
            return Ok((table, partition));
        }
        _ => return Err(wrong().into()),
    };
    if let Some(column) = partition.first()
        && function != "SESSION"
    {
        let start = column.span.start;
        return Err(Error::validation(format!(
            "Only tables with set semantics may be partitioned. Invalid PARTITION BY clause in the 0-th operand of table function '{function}'"
        ))
        .hint(if FUNCTIONS.contains(&function) {
            "leave PARTITION BY out: changes go on where they are"
        } else {
            "group by the column, besides window_start and window_end"
        })
        .at(Location { line: start.line, column: start.column })
        .into());
    }
    let table = TableFactor::Table {
        name: ast::ObjectName::from(parts),
        alias: None,
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    };
    Ok((table, partition))
}

/// A column of the windowed table.
fn windowed_column(column: &ast::Ident, input: &LogicalPlan) -> DfResult<Expr> {
    let found = input.schema().iter().find(|(_, f)| f.name() == &column.value);
    let (qualifier, field) = found.ok_or_else(|| {
        let start = column.span.start;
        let names: Vec<&str> = input.schema().fields().iter().map(|f| f.name().as_str()).collect();
        Error::validation(format!("column '{}' not found in the windowed table", column.value))
            .hint(format!("its columns are {}", names.join(", ")))
            .at(Location { line: start.line, column: start.column })
    })?;
    Ok(Expr::Column(datafusion::common::Column::from((qualifier, field.as_ref()))))
}

/// `DESCRIPTOR(ts)` as a column of the input.
fn time_column(descriptor: Option<ast::Expr>, input: &LogicalPlan, function: &str) -> DfResult<Expr> {
    let wrong = || {
        Error::validation(format!("the second argument of {function} has to be a DESCRIPTOR with one column"))
            .hint(format!("write {function}(TABLE t, DESCRIPTOR(ts), …)"))
    };
    let Some(ast::Expr::Function(f)) = descriptor else { return Err(wrong().into()) };
    if !f.name.to_string().eq_ignore_ascii_case("DESCRIPTOR") {
        return Err(wrong().into());
    }
    let FunctionArguments::List(list) = f.args else { return Err(wrong().into()) };
    match list.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(ast::Expr::Identifier(column)))] => {
            windowed_column(column, input)
        }
        _ => Err(wrong().into()),
    }
}

/// A constant day-second interval in milliseconds.
pub(in crate::plan) fn milliseconds(expr: Expr, function: &str, what: &str) -> DfResult<i64> {
    let context = SimplifyContext::default();
    let expr = ExprSimplifier::new(context).simplify(expr)?;
    if let Expr::Literal(value, _) = &expr
        && let Some(length) = interval::milliseconds(value)
    {
        return Ok(length);
    }
    match &expr {
        Expr::Literal(
            ScalarValue::IntervalMonthDayNano(Some(_)) | ScalarValue::IntervalYearMonth(Some(_)),
            _,
        ) => Err(Error::unsupported(format!("the {what} of {function} is given in months or years"))
            .hint("only SECOND, MINUTE, HOUR and DAY are supported as the time unit")
            .into()),
        other => Err(Error::validation(format!(
            "the {what} of {function} has to be a constant interval, not {}",
            sql_names(&other.to_string())
        ))
        .hint("write INTERVAL '10' MINUTE")
        .into()),
    }
}

//! Recognizes top-N: a filter that bounds a rank of the window below it.
//!
//! A condition on the rank that bounds it from above without being a plain comparison (`rn IN (1, 3)`) gives the bound and
//! stays as a filter.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::logical_expr::expr::WindowFunctionParams;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, Operator, Window};

use crate::error::{Error, Result};
use crate::operators::top_n::RankFunction;
use crate::plan::stream::over::{function_of, rank_of};

/// A filter over a rank.
pub(super) struct TopN<'a> {
    pub(super) window: &'a Window,
    pub(super) function: RankFunction,
    pub(super) params: &'a WindowFunctionParams,
    /// The columns of the filtered relation, over the window's schema.
    pub(super) columns: Vec<Expr>,
    pub(super) start: u64,
    pub(super) end: Bound,
    /// What else the filter demands, over the window's schema.
    pub(super) rest: Option<Expr>,
}

/// Upper bound of the rank.
#[derive(Debug, Clone)]
pub(super) enum Bound {
    Constant(u64),
    Column(Expr),
}

/// All ranks.
pub(super) const UNBOUNDED: u64 = u64::MAX;

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
/// Unsupported for a rank that cannot be bounded, as Flink says it.
pub(super) fn top_n(filter: &Filter) -> Result<Option<TopN<'_>>> {
    let Some((window, columns)) = window_columns(&filter.input)? else { return Ok(None) };
    let predicate = substitute(filter.predicate.clone(), filter.input.schema(), &columns)?;
    let Some((function, params)) = rank_function(window)? else { return Ok(None) };
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

/// The rank that is the only function of a window.
fn rank_function(window: &Window) -> Result<Option<(RankFunction, &WindowFunctionParams)>> {
    let [expr] = window.window_expr.as_slice() else { return Ok(None) };
    let function = function_of(expr)?;
    let params = &function.params;
    let Some(rank) = rank_of(function) else { return Ok(None) };
    if params.order_by.is_empty() || params.order_by.iter().all(|s| matches!(s.expr, Expr::Literal(..))) {
        return Err(Error::validation(
            "Over Agg: The window rank function requires order by clause with non-constant fields. please re-check the over window statement.",
        ));
    }
    Ok(Some((rank, params)))
}

/// The rank of a window, which is its last column.
fn rank_column(window: &Window) -> Expr {
    let last = window.schema.fields().len().saturating_sub(1);
    Expr::Column(Column::from(window.schema.qualified_field(last)))
}

pub(super) fn without_casts(mut expr: &Expr) -> &Expr {
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

//! What is compared with what: operators, `IN`, `BETWEEN`, `CASE x WHEN`, the keys of joins.
//!
//! DataFusion turns both sides of a comparison into one type of its own choice, all items of a list and both bounds into
//! the same one. Casts that it would choose otherwise than Flink are put in before it looks.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{ExprSchema, Result as DfResult};
use datafusion::logical_expr::expr::{Between, InList};
use datafusion::logical_expr::utils::{conjunction, disjunction};
use datafusion::logical_expr::{
    BinaryExpr, Case, Expr, ExprSchemable, Join, JoinConstraint, LogicalPlan, Operator,
};

use crate::error::{Error, Result};
use crate::functions::collection::common_decimal;
use crate::functions::context::FunctionContext;
use crate::functions::infix::{clash, is_decimal, is_string, is_temporal};
use crate::functions::{arith, cast};
use crate::text::units_per_second;
use crate::types::sql_name;

/// An expression, its own comparisons with the casts that Flink's meaning asks for; those of its parts are settled. With
/// `keys` its equalities can become keys of a join.
///
/// # Errors
/// Comparisons that Flink refuses.
pub(crate) fn of(
    e: Expr,
    keys: bool,
    schema: &dyn ExprSchema,
    context: &FunctionContext,
) -> DfResult<Transformed<Expr>> {
    match e {
        Expr::BinaryExpr(e) if compares(e.op) => {
            let BinaryExpr { left, op, right } = e;
            let types = (&left.get_type(schema)?, &right.get_type(schema)?);
            check_comparable(&op, types.0, types.1)?;
            let how = match op {
                Operator::Eq if keys => Comparison::Key,
                Operator::Eq | Operator::NotEq => Comparison::Equality,
                _ => Comparison::Order,
            };
            let (left, right, changed) = cast_sides(*left, *right, types, how, context)?;
            Ok(transformed(binary(left, op, right), changed))
        }
        Expr::InList(e) => in_list(e, schema, context),
        Expr::Between(e) => between(e, schema, context),
        Expr::Case(e) if e.expr.is_some() => case_of(e, schema, context),
        other => {
            check(&other, schema)?;
            Ok(Transformed::no(other))
        }
    }
}

/// Refuses what Flink refuses among the rest: conditions that are none, patterns of numbers, the largest MAP.
fn check(e: &Expr, schema: &dyn ExprSchema) -> DfResult<()> {
    match e {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And | Operator::Or, right }) => {
            for side in [left, right] {
                if !is_condition(side) {
                    check_condition(&side.get_type(schema)?)?;
                }
            }
        }
        Expr::Not(e)
        | Expr::IsTrue(e)
        | Expr::IsNotTrue(e)
        | Expr::IsFalse(e)
        | Expr::IsNotFalse(e)
        | Expr::IsUnknown(e)
        | Expr::IsNotUnknown(e) => check_condition(&e.get_type(schema)?)?,
        Expr::Case(case) => {
            for (when, _) in &case.when_then_expr {
                check_condition(&when.get_type(schema)?)?;
            }
        }
        Expr::Like(like) | Expr::SimilarTo(like) => {
            let types = (&like.expr.get_type(schema)?, &like.pattern.get_type(schema)?);
            let fits = |t: &DataType| is_string(t) || *t == DataType::Null;
            if !fits(types.0) || !fits(types.1) {
                return Err(clash(&"LIKE", types.0, types.1).into());
            }
        }
        Expr::AggregateFunction(call) if matches!(call.func.name(), "min" | "max") => {
            for arg in &call.params.args {
                let t = arg.get_type(schema)?;
                if matches!(t, DataType::Map(..)) {
                    let name = call.func.name().to_uppercase();
                    return Err(Error::unsupported(format!(
                        "{name} does not support the type {}",
                        sql_name(&t)
                    ))
                    .hint("take it of a value of the map: m['key']")
                    .into());
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// Whether an expression is seen to be BOOLEAN without a look at its parts: of a long row of ANDs, each would ask for the
/// types of all others.
pub(crate) fn is_condition(e: &Expr) -> bool {
    match e {
        Expr::BinaryExpr(e) => compares(e.op) || matches!(e.op, Operator::And | Operator::Or),
        Expr::Not(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::Between(_)
        | Expr::InList(_)
        | Expr::Like(_) => true,
        Expr::ScalarFunction(f) if f.name() == cast::CAST_TAG => f.args.first().is_some_and(is_condition),
        _ => false,
    }
}

/// Refuses a condition that is no BOOLEAN.
pub(crate) fn check_condition(t: &DataType) -> Result<()> {
    if matches!(t, DataType::Boolean | DataType::Null) { Ok(()) } else { Err(no_condition(&sql_name(t))) }
}

/// The error for a condition of that type.
pub fn no_condition(ty: &str) -> Error {
    Error::validation(format!("a condition has to be BOOLEAN, this one is {ty}"))
        .hint("compare it with something, such as x <> 0")
}

/// A join whose keys have the types that `=` compares them in: those of USING are no expressions of the query.
///
/// # Errors
/// Comparisons that Flink refuses.
pub(crate) fn of_join_keys(
    plan: LogicalPlan,
    context: &FunctionContext,
) -> DfResult<Transformed<LogicalPlan>> {
    let LogicalPlan::Join(mut join) = plan else { return Ok(Transformed::no(plan)) };
    let mut changed = false;
    let mut on = Vec::with_capacity(join.on.len());
    for (left, right) in std::mem::take(&mut join.on) {
        let types = (&left.get_type(join.left.schema())?, &right.get_type(join.right.schema())?);
        check_comparable(&"=", types.0, types.1)?;
        let (left, right, cast) = cast_sides(left, right, types, Comparison::Key, context)?;
        changed |= cast;
        on.push((left, right));
    }
    // The keys of USING have to be columns.
    let join_constraint = if changed { JoinConstraint::On } else { join.join_constraint };
    Ok(transformed(LogicalPlan::Join(Join { on, join_constraint, ..join }), changed))
}

fn transformed<T>(value: T, changed: bool) -> Transformed<T> {
    if changed { Transformed::yes(value) } else { Transformed::no(value) }
}

fn binary(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

fn compares(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// `x IN (a, b)` is `x = a OR x = b`, and one list for all items that x is compared with in the same type. Beside a FLOAT
/// or a DOUBLE the items become what x is: Flink finds a FLOAT in `(0.1)`, though it is not equal to the DECIMAL. So do
/// numbers beside a text, and texts beside a number.
fn in_list(e: InList, schema: &dyn ExprSchema, context: &FunctionContext) -> DfResult<Transformed<Expr>> {
    let InList { expr, list, negated } = e;
    let t = expr.get_type(schema)?;
    let mut changed = false;
    let mut lists: Vec<(Option<DataType>, Vec<Expr>)> = Vec::new();
    for item in list {
        let own = item.get_type(schema)?;
        check_comparable(&"IN", &t, &own)?;
        let one_is_text = is_string(&t) && own.is_numeric() || t.is_numeric() && is_string(&own);
        let (to_expr, to_item) = if t.is_floating() && own.is_numeric() || one_is_text {
            (None, (own != t).then(|| t.clone()))
        } else {
            comparison_casts(&t, &own, Comparison::Equality)
        };
        changed |= to_expr.is_some() || to_item.is_some();
        let item = match to_item {
            Some(to) => cast::cast_expr(item, &own, &to, false, context)?,
            None => item,
        };
        match lists.iter_mut().find(|(to, _)| *to == to_expr) {
            Some((_, items)) => items.push(item),
            None => lists.push((to_expr, vec![item])),
        }
    }
    let single = |list| Expr::InList(InList { expr: expr.clone(), list, negated });
    if !changed {
        let list = lists.pop().map(|(_, items)| items).unwrap_or_default();
        return Ok(Transformed::no(single(list)));
    }
    let mut parts = Vec::with_capacity(lists.len());
    for (to, list) in lists {
        parts.push(match to {
            Some(to) => {
                let expr = Box::new(cast::cast_expr(expr.as_ref().clone(), &t, &to, false, context)?);
                Expr::InList(InList { expr, list, negated })
            }
            None => single(list),
        });
    }
    let joined = if negated { conjunction(parts) } else { disjunction(parts) };
    Ok(Transformed::yes(joined.unwrap_or_else(|| single(Vec::new()))))
}

/// `x BETWEEN a AND b` is `x >= a AND x <= b`; one expression only where x is compared with both in the same type.
fn between(e: Between, schema: &dyn ExprSchema, context: &FunctionContext) -> DfResult<Transformed<Expr>> {
    let Between { expr, negated, low, high } = e;
    let (t, mut a, mut b) = (expr.get_type(schema)?, low.get_type(schema)?, high.get_type(schema)?);
    let (mut low, mut high) = (low, high);
    // A text between a number and a text: all become what the number is.
    if is_string(&t) && a.is_numeric() && is_string(&b) {
        *high = cast::cast_expr(*high, &b, &a, false, context)?;
        b = a.clone();
    } else if is_string(&t) && is_string(&a) && b.is_numeric() {
        *low = cast::cast_expr(*low, &a, &b, false, context)?;
        a = b.clone();
    }
    check_comparable(&">=", &t, &a)?;
    check_comparable(&"<=", &t, &b)?;
    let same = comparison_casts(&t, &a, Comparison::Order).0 == comparison_casts(&t, &b, Comparison::Order).0;
    let (from, low, c1) = cast_sides(expr.as_ref().clone(), *low, (&t, &a), Comparison::Order, context)?;
    let (to, high, c2) = cast_sides(*expr, *high, (&t, &b), Comparison::Order, context)?;
    if same {
        let e = Between { expr: Box::new(from), negated, low: Box::new(low), high: Box::new(high) };
        return Ok(transformed(Expr::Between(e), c1 || c2));
    }
    Ok(Transformed::yes(if negated {
        binary(binary(from, Operator::Lt, low), Operator::Or, binary(to, Operator::Gt, high))
    } else {
        binary(binary(from, Operator::GtEq, low), Operator::And, binary(to, Operator::LtEq, high))
    }))
}

/// `CASE x WHEN a` is `CASE WHEN x = a`, and written so where casts are needed.
fn case_of(e: Case, schema: &dyn ExprSchema, context: &FunctionContext) -> DfResult<Transformed<Expr>> {
    let Some(expr) = &e.expr else { return Ok(Transformed::no(Expr::Case(e))) };
    let t = expr.get_type(schema)?;
    let mut types = Vec::with_capacity(e.when_then_expr.len());
    for (when, _) in &e.when_then_expr {
        let own = when.get_type(schema)?;
        check_comparable(&"=", &t, &own)?;
        types.push(own);
    }
    if types.iter().all(|own| comparison_casts(&t, own, Comparison::Equality) == (None, None)) {
        return Ok(Transformed::no(Expr::Case(e)));
    }
    let mut when_then_expr = Vec::with_capacity(types.len());
    for ((when, then), own) in e.when_then_expr.into_iter().zip(&types) {
        let (left, right, _) =
            cast_sides(expr.as_ref().clone(), *when, (&t, own), Comparison::Equality, context)?;
        when_then_expr.push((Box::new(binary(left, Operator::Eq, right)), then));
    }
    Ok(Transformed::yes(Expr::Case(Case { expr: None, when_then_expr, else_expr: e.else_expr })))
}

/// What a comparison is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// `<` and its like, and what treats NULL as a value.
    Order,
    /// `=` and `<>`.
    Equality,
    /// `=` in the condition of a join.
    Key,
}

/// Both sides of a comparison with the casts of [`comparison_casts`], and whether there are any.
pub(crate) fn cast_sides(
    left: Expr,
    right: Expr,
    (lt, rt): (&DataType, &DataType),
    how: Comparison,
    context: &FunctionContext,
) -> Result<(Expr, Expr, bool)> {
    let (to_left, to_right) = comparison_casts(lt, rt, how);
    let changed = to_left.is_some() || to_right.is_some();
    let cast = |e: Expr, from: &DataType, to: Option<DataType>| match to {
        Some(to) => cast::cast_expr(e, from, &to, false, context),
        None => Ok(e),
    };
    Ok((cast(left, lt, to_left)?, cast(right, rt, to_right)?, changed))
}

/// What the left and the right side of a comparison are cast to, before DataFusion decides on what is left.
pub(crate) fn comparison_casts(
    lt: &DataType,
    rt: &DataType,
    how: Comparison,
) -> (Option<DataType>, Option<DataType>) {
    use DataType::Timestamp;
    let becomes = |text: &DataType, other: &DataType| {
        is_string(text) && (is_temporal(other) || how == Comparison::Order && other.is_numeric())
    };
    if becomes(lt, rt) {
        return (Some(rt.clone()), None);
    }
    if becomes(rt, lt) {
        return (None, Some(lt.clone()));
    }
    match (lt, rt) {
        // The finer of both: no digit is lost.
        (Timestamp(a, x), Timestamp(b, y)) => {
            let unit = if units_per_second(*a) < units_per_second(*b) { b } else { a };
            let to = Timestamp(*unit, x.as_ref().or(y.as_ref()).cloned());
            ((*lt != to).then(|| to.clone()), (*rt != to).then_some(to))
        }
        (DataType::Date32, Timestamp(u, z)) => (Some(Timestamp(*u, z.clone())), None),
        (Timestamp(u, z), DataType::Date32) => (None, Some(Timestamp(*u, z.clone()))),
        _ => match numeric_comparison(lt, rt, how) {
            Some(to) => ((*lt != to).then(|| to.clone()), (*rt != to).then_some(to)),
            None => (None, None),
        },
    }
}

/// The type that two numbers are compared in, where DataFusion's choice (a DECIMAL beside a DOUBLE, which few doubles
/// fit; 38 digits) is not Flink's:
///
/// | | FLOAT | DOUBLE | DECIMAL |
/// |---|---|---|---|
/// | integer | FLOAT | DOUBLE | exactly |
/// | DECIMAL | DOUBLE | DOUBLE | exactly |
/// | FLOAT | | DOUBLE; `FLOAT = DOUBLE`, in this order, as FLOAT | |
///
/// As keys of a join DECIMALs get the type of their union, which cuts digits behind the point if there are more than 38.
pub(crate) fn numeric_comparison(lt: &DataType, rt: &DataType, how: Comparison) -> Option<DataType> {
    use DataType::{Decimal256, Float32, Float64};
    if lt == rt || !lt.is_numeric() || !rt.is_numeric() {
        return None;
    }
    match (lt, rt) {
        (Float32, Float64) if how != Comparison::Order => Some(Float32),
        (Float32 | Float64, Float32 | Float64) => Some(Float64),
        (Float32, exact) | (exact, Float32) if !is_decimal(exact) => Some(Float32),
        (Float32 | Float64, _) | (_, Float32 | Float64) => Some(Float64),
        _ => {
            let ((p1, s1), (p2, s2)) = (arith::decimal_of(lt)?, arith::decimal_of(rt)?);
            let scale = s1.max(s2);
            let digits = (p1 - s1).max(p2 - s2) + scale;
            match how {
                _ if digits <= 38 => None,
                Comparison::Key => common_decimal(&[lt.clone(), rt.clone()]),
                _ => Some(Decimal256(digits, scale as i8)),
            }
        }
    }
}

/// Refuses comparisons that Flink refuses: it compares a text with a number by order alone, and in lists.
pub(crate) fn check_comparable(op: &dyn std::fmt::Display, lt: &DataType, rt: &DataType) -> Result<()> {
    let takes_texts = matches!(op.to_string().as_str(), "<" | "<=" | ">" | ">=" | "IN");
    let mixed = |a: &DataType, b: &DataType| {
        (is_string(a) && (b.is_numeric() && !takes_texts || *b == DataType::Boolean))
            || (*a == DataType::Boolean && b.is_numeric())
            || (a.is_numeric() && is_temporal(b))
    };
    if mixed(lt, rt) || mixed(rt, lt) { Err(clash(op, lt, rt)) } else { Ok(()) }
}

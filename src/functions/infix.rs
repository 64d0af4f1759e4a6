//! Operators whose meaning in Flink differs from DataFusion's: decided when SQL becomes an expression, by the types
//! of both sides. What agrees stays DataFusion's `BinaryExpr`.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::{Cast, NullTreatment, ScalarFunction};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, RawWindowExpr};
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::sql::sqlparser::ast::BinaryOperator as Op;

use crate::error::{Error, Result};
use crate::functions::aggregate::sliding;
use crate::functions::arith::{self, Arith};
use crate::functions::comparisons::{self, Comparison};
use crate::functions::context::FunctionContext;
use crate::functions::rules::settle_cases;
use crate::functions::strings;
use crate::types::sql_name;

/// Plans operators, constructors and subscripts the way Flink reads them.
#[derive(Debug)]
pub struct FlinkExprPlanner {
    context: FunctionContext,
    map: Arc<datafusion::logical_expr::ScalarUDF>,
}

impl FlinkExprPlanner {
    /// For a session.
    pub fn new(context: &FunctionContext) -> Self {
        FlinkExprPlanner { context: context.clone(), map: crate::functions::collection::map_constructor() }
    }
}

impl ExprPlanner for FlinkExprPlanner {
    fn plan_binary_op(
        &self,
        mut expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> DfResult<PlannerResult<RawBinaryExpr>> {
        expr.left = settle_cases(expr.left, schema, &self.context)?;
        expr.right = settle_cases(expr.right, schema, &self.context)?;
        let logical = matches!(expr.op, Op::And | Op::Or);
        if logical && comparisons::is_condition(&expr.left) && comparisons::is_condition(&expr.right) {
            return Ok(PlannerResult::Original(expr));
        }
        let lt = expr.left.get_type(schema)?;
        let rt = expr.right.get_type(schema)?;
        Ok(self.plan_typed(expr, &lt, &rt)?)
    }

    /// FIRST_VALUE and LAST_VALUE skip NULLs; rows leave the frames of aggregates.
    fn plan_window(&self, mut expr: RawWindowExpr) -> DfResult<PlannerResult<RawWindowExpr>> {
        if matches!(expr.func_def.name(), "first_value" | "last_value") && expr.null_treatment.is_none() {
            expr.null_treatment = Some(NullTreatment::IgnoreNulls);
        }
        expr.func_def = sliding::in_window(expr.func_def);
        Ok(PlannerResult::Original(expr))
    }

    fn plan_make_map(&self, args: Vec<Expr>) -> DfResult<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(&self.map), args))))
    }
}

pub(crate) fn is_decimal(t: &DataType) -> bool {
    matches!(t, DataType::Decimal128(_, _))
}

pub(crate) fn is_string(t: &DataType) -> bool {
    matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

pub(crate) fn is_temporal(t: &DataType) -> bool {
    matches!(t, DataType::Date32 | DataType::Time32(_) | DataType::Timestamp(_, _))
}

impl FlinkExprPlanner {
    fn plan_typed(
        &self,
        e: RawBinaryExpr,
        lt: &DataType,
        rt: &DataType,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        match e.op {
            Op::Plus | Op::Minus | Op::Multiply | Op::Divide | Op::Modulo => self.arithmetic(e, lt, rt),
            Op::Eq | Op::NotEq | Op::Lt | Op::LtEq | Op::Gt | Op::GtEq => self.comparison(e, lt, rt),
            Op::StringConcat => {
                let fits = |t: &DataType| is_string(t) || matches!(t, DataType::Null | DataType::Binary);
                if !fits(lt) || !fits(rt) {
                    return Err(clash(&e.op, lt, rt));
                }
                let Some(concat) = strings::concatenation(lt, rt) else {
                    return Ok(PlannerResult::Original(e));
                };
                // a || b || c is made in one go.
                let mut parts = match e.left {
                    Expr::ScalarFunction(f) if f.func == concat => f.args,
                    left => vec![left],
                };
                parts.push(e.right);
                Ok(PlannerResult::Planned(concat.call(parts)))
            }
            Op::And | Op::Or => {
                for t in [lt, rt] {
                    comparisons::check_condition(t)?;
                }
                Ok(PlannerResult::Original(e))
            }
            _ => Ok(PlannerResult::Original(e)),
        }
    }

    fn arithmetic(
        &self,
        e: RawBinaryExpr,
        lt: &DataType,
        rt: &DataType,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let op = match e.op {
            Op::Plus => Arith::Add,
            Op::Minus => Arith::Sub,
            Op::Multiply => Arith::Mul,
            Op::Divide => Arith::Div,
            _ => Arith::Rem,
        };
        let number = |t: &DataType| t.is_numeric() || matches!(t, DataType::Null);
        if !number(lt) || !number(rt) {
            if is_string(lt) || is_string(rt) || *lt == DataType::Boolean || *rt == DataType::Boolean {
                return Err(clash(&e.op, lt, rt));
            }
            if let Some(f) = arith::interval_function(op, lt, rt) {
                return Ok(PlannerResult::Planned(f.call(vec![e.left, e.right])));
            }
            if !is_arithmetic(op, lt, rt) {
                return Err(clash(&e.op, lt, rt));
            }
            return Ok(PlannerResult::Original(e));
        }
        let floating = lt.is_floating() || rt.is_floating();
        if floating && (is_decimal(lt) || is_decimal(rt)) {
            let (left, right) = (to_double(e.left, lt), to_double(e.right, rt));
            if op == Arith::Rem {
                return Ok(PlannerResult::Planned(arith::function(op).call(vec![left, right])));
            }
            return Ok(PlannerResult::Original(RawBinaryExpr { op: e.op, left, right }));
        }
        if floating {
            return Ok(PlannerResult::Original(e));
        }
        let exact = (is_decimal(lt) || is_decimal(rt))
            && !matches!(lt, DataType::Null)
            && !matches!(rt, DataType::Null);
        if exact && matches!(op, Arith::Add | Arith::Sub | Arith::Mul) {
            if arith::native_decimal(op, lt, rt) {
                let (left, right) = (to_decimal(e.left, lt), to_decimal(e.right, rt));
                return Ok(PlannerResult::Original(RawBinaryExpr { op: e.op, left, right }));
            }
            return Ok(PlannerResult::Planned(arith::function(op).call(vec![e.left, e.right])));
        }
        if matches!(op, Arith::Div | Arith::Rem) {
            return Ok(PlannerResult::Planned(arith::function(op).call(vec![e.left, e.right])));
        }
        Ok(PlannerResult::Original(e))
    }

    fn comparison(
        &self,
        e: RawBinaryExpr,
        lt: &DataType,
        rt: &DataType,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        comparisons::check_comparable(&e.op, lt, rt)?;
        let how = match e.op {
            Op::Eq | Op::NotEq => Comparison::Equality,
            _ => Comparison::Order,
        };
        // Whether it will be a key of a join is not known yet; the analyzer casts what depends on that.
        if matches!(comparisons::numeric_comparison(lt, rt, how), Some(DataType::Decimal256(..))) {
            return Ok(PlannerResult::Original(e));
        }
        let (left, right, _) = comparisons::cast_sides(e.left, e.right, (lt, rt), how, &self.context)?;
        Ok(PlannerResult::Original(RawBinaryExpr { op: e.op, left, right }))
    }
}

pub(crate) fn clash(op: &dyn std::fmt::Display, lt: &DataType, rt: &DataType) -> Error {
    Error::validation(format!(
        "cannot apply '{op}' to arguments of type <{}> {op} <{}>",
        sql_name(lt),
        sql_name(rt)
    ))
    .hint(if is_temporal(lt) != is_temporal(rt) && (lt.is_numeric() || rt.is_numeric()) {
        "times are compared with times, and moved by intervals: ts + INTERVAL '1' DAY"
    } else {
        "CAST one side to the type of the other"
    })
}

/// Whether DataFusion's arithmetic on times and intervals is Flink's.
fn is_arithmetic(op: Arith, lt: &DataType, rt: &DataType) -> bool {
    let interval = |t: &DataType| matches!(t, DataType::Interval(_) | DataType::Duration(_));
    let null = |t: &DataType| matches!(t, DataType::Null);
    match op {
        Arith::Add => {
            (is_temporal(lt) || interval(lt) || null(lt)) && (interval(rt) || null(rt))
                || interval(lt) && is_temporal(rt)
        }
        Arith::Sub => {
            (is_temporal(lt) || null(lt)) && (is_temporal(rt) || interval(rt) || null(rt))
                || interval(lt) && (interval(rt) || null(rt))
        }
        _ => null(lt) || null(rt),
    }
}

fn to_double(e: Expr, t: &DataType) -> Expr {
    if *t == DataType::Float64 { e } else { Expr::Cast(Cast::new(Box::new(e), DataType::Float64)) }
}

fn to_decimal(e: Expr, t: &DataType) -> Expr {
    match arith::decimal_of(t) {
        Some((p, s)) if !is_decimal(t) => {
            Expr::Cast(Cast::new(Box::new(e), DataType::Decimal128(p, s as i8)))
        }
        _ => e,
    }
}

//! Operators whose meaning in Flink differs from DataFusion's: decided when SQL becomes an expression, by the types
//! of both sides. What agrees stays DataFusion's `BinaryExpr`.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::{Cast, ScalarFunction};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::sql::sqlparser::ast::BinaryOperator as Op;

use crate::error::{Error, Result};
use crate::functions::arith::{self, Arith};
use crate::functions::cast;
use crate::functions::context::FunctionContext;
use crate::functions::rules::settle_cases;
use crate::functions::signature::family;

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
        let lt = expr.left.get_type(schema)?;
        let rt = expr.right.get_type(schema)?;
        Ok(self.plan_typed(expr, &lt, &rt)?)
    }

    fn plan_make_map(&self, args: Vec<Expr>) -> DfResult<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(&self.map), args))))
    }
}

fn is_decimal(t: &DataType) -> bool {
    matches!(t, DataType::Decimal128(_, _))
}

fn is_string(t: &DataType) -> bool {
    matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_temporal(t: &DataType) -> bool {
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
                if fits(lt) && fits(rt) { Ok(PlannerResult::Original(e)) } else { Err(clash(&e.op, lt, rt)) }
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
        mut e: RawBinaryExpr,
        lt: &DataType,
        rt: &DataType,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        if lt == rt {
            return Ok(PlannerResult::Original(e));
        }
        check_comparable(&e.op, lt, rt)?;
        if let Some((to, left)) = comparison_cast(lt, rt) {
            let side = if left { &mut e.left } else { &mut e.right };
            let from = if left { lt } else { rt };
            let taken = std::mem::replace(side, Expr::Literal(datafusion::common::ScalarValue::Null, None));
            *side = cast::cast_expr(taken, from, &to, false, &self.context)?;
        }
        Ok(PlannerResult::Original(e))
    }
}

/// Which side of a comparison to cast (true: the left one), and to what.
pub(crate) fn comparison_cast(lt: &DataType, rt: &DataType) -> Option<(DataType, bool)> {
    use DataType::Timestamp;
    if is_string(lt) && is_temporal(rt) {
        return Some((rt.clone(), true));
    }
    if is_temporal(lt) && is_string(rt) {
        return Some((lt.clone(), false));
    }
    match (lt, rt) {
        (Timestamp(u, None), Timestamp(_, Some(z))) => Some((Timestamp(*u, Some(z.clone())), true)),
        (Timestamp(_, Some(z)), Timestamp(u, None)) => Some((Timestamp(*u, Some(z.clone())), false)),
        (DataType::Date32, Timestamp(u, z)) => Some((Timestamp(*u, z.clone()), true)),
        (Timestamp(u, z), DataType::Date32) => Some((Timestamp(*u, z.clone()), false)),
        _ => None,
    }
}

/// Refuses comparisons that Flink refuses.
pub(crate) fn check_comparable(op: &dyn std::fmt::Display, lt: &DataType, rt: &DataType) -> Result<()> {
    let mixed = |a: &DataType, b: &DataType| {
        (is_string(a) && (b.is_numeric() || *b == DataType::Boolean))
            || (*a == DataType::Boolean && b.is_numeric())
            || (a.is_numeric() && is_temporal(b))
    };
    if mixed(lt, rt) || mixed(rt, lt) { Err(clash(op, lt, rt)) } else { Ok(()) }
}

fn clash(op: &dyn std::fmt::Display, lt: &DataType, rt: &DataType) -> Error {
    Error::validation(format!(
        "cannot apply '{op}' to arguments of type <{}> {op} <{}>",
        family(lt),
        family(rt)
    ))
    .hint("CAST one side to the type of the other")
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

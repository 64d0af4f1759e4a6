//! Type-aware rewrites between SQL and DataFusion's own type coercion.
//!
//! Runs before every other analyzer rule, so each `Cast` found is one the user wrote (or a typed literal).

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ExprSchema, ScalarValue};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::binary::type_union_resolution;
use datafusion::logical_expr::expr::{Cast, ScalarFunction, TryCast};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion::optimizer::analyzer::AnalyzerRule;

use crate::error::Result;
use crate::functions::cast::CAST_TAG;
use crate::functions::collection::{common_decimal, common_timestamp, days_of};
use crate::functions::context::FunctionContext;
use crate::functions::{cast, comparisons, type_of};

/// Gives casts and comparisons Flink's meaning.
#[derive(Debug)]
pub struct FlinkSemantics {
    context: FunctionContext,
}

impl FlinkSemantics {
    /// For a session.
    pub fn new(context: &FunctionContext) -> Self {
        FlinkSemantics { context: context.clone() }
    }
}

impl AnalyzerRule for FlinkSemantics {
    fn name(&self) -> &str {
        "flink_semantics"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> DfResult<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(|plan| self.plan(plan))?.data)
    }
}

impl FlinkSemantics {
    fn plan(&self, plan: LogicalPlan) -> DfResult<Transformed<LogicalPlan>> {
        let mut schema = merge_schema(&plan.inputs());
        if let LogicalPlan::TableScan(scan) = &plan {
            schema
                .merge(&DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?);
        }
        let names = NamePreserver::new(&plan);
        let keys = matches!(plan, LogicalPlan::Join(_));
        let out = plan.map_expressions(|e| {
            let name = names.save(&e);
            let e = type_of::settle_by_arrow(e, &schema, self.context.time_zone)?;
            let e = e.transform_data(|e| rewrite(e, keys, &schema, &self.context))?;
            Ok(e.update_data(|e| name.restore(e)))
        })?;
        let out = out.transform_data(|plan| comparisons::of_join_keys(plan, &self.context))?;
        if out.transformed { out.map_data(LogicalPlan::recompute_schema) } else { recompute(out) }
    }
}

/// Types below may have changed even where no expression did.
fn recompute(plan: Transformed<LogicalPlan>) -> DfResult<Transformed<LogicalPlan>> {
    match plan.data {
        LogicalPlan::TableScan(_) | LogicalPlan::EmptyRelation(_) | LogicalPlan::Extension(_) => Ok(plan),
        _ => plan.map_data(LogicalPlan::recompute_schema),
    }
}

/// The rewrite for a single expression over a schema: computed columns, watermarks, defaults. DataFusion's type
/// coercion comes after it.
///
/// # Errors
/// Casts and comparisons that Flink refuses.
pub fn analyze_expr(expr: Expr, schema: &DFSchema, context: &FunctionContext) -> Result<Expr> {
    let settled = type_of::settle_by_arrow(expr, schema, context.time_zone)?;
    Ok(rewrite(settled.data, false, schema, context)?.data)
}

/// `keys`: its equalities can become keys of a join.
fn rewrite(
    expr: Expr,
    keys: bool,
    schema: &DFSchema,
    context: &FunctionContext,
) -> DfResult<Transformed<Expr>> {
    expr.transform_up(|e| match e {
        Expr::Cast(Cast { expr, field }) => retyped(*expr, field.data_type(), false, schema, context),
        Expr::TryCast(TryCast { expr, field }) => retyped(*expr, field.data_type(), true, schema, context),
        e @ Expr::Case(_) => {
            comparisons::of(e, keys, schema, context)?.transform_data(|e| settle_case(e, schema, context))
        }
        Expr::ScalarFunction(f) if f.func.name() == CAST_TAG => {
            Ok(Transformed::yes(cast::untag(Expr::ScalarFunction(f))))
        }
        Expr::ScalarFunction(f) if matches!(f.func.name(), "make_array" | "coalesce") => {
            settle_parts(f, schema, context)
        }
        other => comparisons::of(other, keys, schema, context),
    })
}

/// Gives all branches of every CASE their common type, so that the types DataFusion derives before its own coercion
/// (it takes the first branch's) are already right. What stands below an operator was settled when that was planned.
pub(crate) fn settle_cases(expr: Expr, schema: &dyn ExprSchema, context: &FunctionContext) -> DfResult<Expr> {
    let mut found = false;
    expr.apply(|e| {
        found = matches!(e, Expr::Case(_));
        Ok(match e {
            Expr::Case(_) => TreeNodeRecursion::Stop,
            Expr::BinaryExpr(_) => TreeNodeRecursion::Jump,
            _ => TreeNodeRecursion::Continue,
        })
    })?;
    if !found {
        return Ok(expr);
    }
    Ok(expr
        .transform_up(|e| match e {
            e @ Expr::Case(_) => settle_case(e, schema, context),
            other => Ok(Transformed::no(other)),
        })?
        .data)
}

fn settle_case(e: Expr, schema: &dyn ExprSchema, context: &FunctionContext) -> DfResult<Transformed<Expr>> {
    let Expr::Case(mut case) = e else { return Ok(Transformed::no(e)) };
    let mut types = Vec::with_capacity(case.when_then_expr.len() + 1);
    for then in case.when_then_expr.iter().map(|(_, t)| t).chain(&case.else_expr) {
        types.push(then.get_type(schema)?);
    }
    let known: Vec<DataType> = types.iter().filter(|t| **t != DataType::Null).cloned().collect();
    if known.windows(2).all(|w| w.first() == w.last()) {
        return Ok(Transformed::no(Expr::Case(case)));
    }
    let common =
        common_decimal(&known).or_else(|| common_timestamp(&known)).or_else(|| type_union_resolution(&known));
    let Some(common) = common else { return Ok(Transformed::no(Expr::Case(case))) };
    let branches = case.when_then_expr.iter_mut().map(|(_, t)| t).chain(case.else_expr.iter_mut());
    for (branch, own) in branches.zip(types) {
        if own != common && own != DataType::Null {
            let taken = std::mem::replace(&mut **branch, Expr::Literal(ScalarValue::Null, None));
            **branch = cast::cast_expr(taken, &own, &common, false, context)?;
        }
    }
    Ok(Transformed::yes(Expr::Case(case)))
}

/// The timestamps of `ARRAY[…]` in the finest of their types, and its numbers in the type that holds them all; the days of
/// COALESCE, in which Flink takes timestamps beside dates for dates.
fn settle_parts(
    mut call: ScalarFunction,
    schema: &dyn ExprSchema,
    context: &FunctionContext,
) -> DfResult<Transformed<Expr>> {
    let types = call.args.iter().map(|e| e.get_type(schema)).collect::<DfResult<Vec<_>>>()?;
    let known: Vec<DataType> = types.iter().filter(|t| **t != DataType::Null).cloned().collect();
    let common = match call.func.name() {
        "coalesce" => days_of(&known),
        _ => common_timestamp(&known).or_else(|| common_decimal(&known)),
    };
    let common = common.filter(|common| known.iter().any(|t| t != common));
    let Some(common) = common else { return Ok(Transformed::no(Expr::ScalarFunction(call))) };
    call.args =
        (call.args.into_iter().zip(&types))
            .map(|(e, own)| {
                if *own == DataType::Null { Ok(e) } else { cast::cast_expr(e, own, &common, false, context) }
            })
            .collect::<Result<_>>()?;
    Ok(Transformed::yes(Expr::ScalarFunction(call)))
}

fn retyped(
    e: Expr,
    to: &DataType,
    lenient: bool,
    schema: &dyn ExprSchema,
    context: &FunctionContext,
) -> DfResult<Transformed<Expr>> {
    let e = cast::untag(e);
    let from = e.get_type(schema)?;
    Ok(Transformed::yes(cast::cast_expr(e, &from, to, lenient, context)?))
}

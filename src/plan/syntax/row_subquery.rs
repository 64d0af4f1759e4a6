//! `(a, b) IN (SELECT x, y …)`: the planner wants one column of a sub-query, so its columns become one row.
//!
//! ```text
//!  (a, b) IN (SELECT x, y …) ─► row(a, b) IN (SELECT * FROM __columns((SELECT x, y …)))      on the tree
//!                            ─► Projection[row(x, y)] (…)                                    planned
//!                            ─► joins on a = x AND b = y                                     `logical::subquery`
//!  (a, b) IN ((1, 2), (3, 4)) ─► a = 1 AND b = 2 OR a = 3 AND b = 4                          on the tree
//! ```

use std::ops::ControlFlow;

use datafusion::common::Result as DfResult;
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, ScalarUDF};
use datafusion::sql::sqlparser::ast::{
    self, Expr as SqlExpr, FunctionArg, FunctionArgExpr, Ident, ObjectName, Query, SelectItem, SetExpr,
    TableFactor, TableWithJoins, VisitMut, VisitorMut, WildcardAdditionalOptions,
};

use crate::error::Error;
use crate::functions::{FunctionContext, scalar_functions};
use crate::plan::logical::subquery::carry::columns;
use crate::sql::select_from;

/// The table function, and the name of its column.
pub const COLUMNS: &str = "__columns";

/// Makes one row of the columns of sub-queries that rows are compared with.
pub fn rewrite_row_subqueries(query: &mut Query) {
    let _ = query.visit(&mut Rewriter);
}

struct Rewriter;

impl VisitorMut for Rewriter {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut SqlExpr) -> ControlFlow<()> {
        if let SqlExpr::InList { expr: left, list, negated } = expr
            && let Some(any) = any_row(left, list)
        {
            *expr = if *negated {
                SqlExpr::UnaryOp { op: ast::UnaryOperator::Not, expr: Box::new(any) }
            } else {
                any
            };
        }
        if let SqlExpr::InSubquery { expr: left, subquery, negated: _ } = expr
            && is_row(left)
        {
            let select = select_from(
                vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())],
                TableWithJoins {
                    relation: TableFactor::Function {
                        lateral: false,
                        name: ObjectName::from(vec![Ident::new(COLUMNS)]),
                        args: vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(SqlExpr::Subquery(
                            subquery.clone(),
                        )))],
                        with_ordinality: false,
                        alias: None,
                    },
                    joins: Vec::new(),
                },
            );
            *subquery.as_mut() = Query {
                with: None,
                body: Box::new(SetExpr::Select(Box::new(select))),
                order_by: None,
                limit_clause: None,
                fetch: None,
                locks: Vec::new(),
                for_clause: None,
                settings: None,
                format_clause: None,
                pipe_operators: Vec::new(),
            };
        }
        ControlFlow::Continue(())
    }
}

/// `(a, b) IN ((1, 2), …)` as `(a = 1 AND b = 2 OR …)`: part by part, since rows are equal or not but never unknown.
fn any_row(left: &SqlExpr, list: &[SqlExpr]) -> Option<SqlExpr> {
    let parts = row_parts(left)?;
    let combined = |left: SqlExpr, op: ast::BinaryOperator, right: SqlExpr| SqlExpr::BinaryOp {
        left: Box::new(left),
        op,
        right: Box::new(right),
    };
    let nested = |e: &SqlExpr| Box::new(SqlExpr::Nested(Box::new(e.clone())));
    let mut any: Option<SqlExpr> = None;
    for row in list {
        let values = row_parts(row).filter(|values| values.len() == parts.len())?;
        let equal = parts
            .iter()
            .zip(values)
            .map(|(part, value)| combined(*nested(part), ast::BinaryOperator::Eq, *nested(value)))
            .reduce(|all, next| combined(all, ast::BinaryOperator::And, next))?;
        any = Some(match any {
            Some(before) => combined(before, ast::BinaryOperator::Or, equal),
            None => equal,
        });
    }
    any.map(|any| SqlExpr::Nested(Box::new(any)))
}

fn row_parts(expr: &SqlExpr) -> Option<&[SqlExpr]> {
    match expr {
        SqlExpr::Tuple(parts) if parts.len() > 1 => Some(parts),
        SqlExpr::Nested(inner) => row_parts(inner),
        _ => None,
    }
}

fn is_row(expr: &SqlExpr) -> bool {
    let call = matches!(expr, SqlExpr::Function(f) if f.name.to_string().eq_ignore_ascii_case("row"));
    call || row_parts(expr).is_some()
}

/// Plans what [`rewrite_row_subqueries`] made.
#[derive(Debug)]
pub struct RowSubqueryPlanner;

impl RelationPlanner for RowSubqueryPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<RelationPlanning> {
        let TableFactor::Function { name, args, .. } = &relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let [FunctionArg::Unnamed(FunctionArgExpr::Expr(SqlExpr::Subquery(subquery)))] = args.as_slice()
        else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        if name.to_string() != COLUMNS {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        }
        let subquery: Box<ast::Query> = subquery.clone();
        let plan =
            context.plan(TableFactor::Derived { lateral: false, subquery, alias: None, sample: None })?;
        let parts = columns(&plan).into_iter().map(Expr::Column).collect();
        let row = row()?.call(parts).alias(COLUMNS);
        let plan = LogicalPlanBuilder::from(plan).project(vec![row])?.build()?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, None))))
    }
}

fn row() -> Result<std::sync::Arc<ScalarUDF>, Error> {
    scalar_functions(&FunctionContext::default())
        .into_iter()
        .find(|f| f.name() == "row")
        .ok_or_else(|| Error::internal("ROW is missing"))
}

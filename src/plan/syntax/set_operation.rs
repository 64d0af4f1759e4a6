//! INTERSECT and EXCEPT as table functions, since the planner asks about tables only.
//!
//! ```text
//!  a INTERSECT ALL b ─► SELECT * FROM __intersect_all((a), (b)) ─► SetOperationNode(a, b)
//! ```

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::common::Result as DfResult;
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{Extension, LogicalPlan};
use datafusion::sql::sqlparser::ast::{self};
use datafusion::sql::sqlparser::ast::{
    FunctionArg, FunctionArgExpr, Ident, ObjectName, Query, SelectItem, SetExpr, SetOperator, SetQuantifier,
    TableFactor, TableWithJoins, VisitMut, VisitorMut, WildcardAdditionalOptions,
};

use crate::error::Error;
use crate::operators::set_operation::SetOperationKind;
use crate::sql::select_from;

use crate::plan::nodes::set_operation::SetOperationNode;

const KINDS: [(SetOperationKind, &str); 4] = [
    (SetOperationKind::Intersect, "__intersect"),
    (SetOperationKind::IntersectAll, "__intersect_all"),
    (SetOperationKind::Except, "__except"),
    (SetOperationKind::ExceptAll, "__except_all"),
];

/// Makes table functions of the INTERSECTs and EXCEPTs of a query and its sub-queries.
pub fn rewrite_set_operations(query: &mut Query) {
    let _ = query.visit(&mut Rewriter);
}

struct Rewriter;

impl VisitorMut for Rewriter {
    type Break = ();

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        rewrite(&mut query.body);
        ControlFlow::Continue(())
    }
}

fn rewrite(body: &mut SetExpr) {
    let SetExpr::SetOperation { op, set_quantifier, left, right } = body else { return };
    rewrite(left);
    rewrite(right);
    let all = *set_quantifier == SetQuantifier::All;
    let kind = match (*op, all) {
        (SetOperator::Intersect, false) => SetOperationKind::Intersect,
        (SetOperator::Intersect, true) => SetOperationKind::IntersectAll,
        (SetOperator::Except | SetOperator::Minus, false) => SetOperationKind::Except,
        (SetOperator::Except | SetOperator::Minus, true) => SetOperationKind::ExceptAll,
        (SetOperator::Union, _) => return,
    };
    let name = KINDS.iter().find(|(k, _)| *k == kind).map_or("", |(_, name)| name);
    let side = |side: &mut SetExpr| {
        let body = std::mem::replace(
            side,
            SetExpr::Values(ast::Values { explicit_row: false, value_keyword: false, rows: Vec::new() }),
        );
        let query = match body {
            SetExpr::Query(query) => query,
            body => Box::new(query_of(body)),
        };
        FunctionArg::Unnamed(FunctionArgExpr::Expr(ast::Expr::Subquery(query)))
    };
    let args = vec![side(left), side(right)];
    let relation = TableFactor::Function {
        lateral: false,
        name: ObjectName::from(vec![Ident::new(name)]),
        args,
        with_ordinality: false,
        alias: None,
    };
    *body = SetExpr::Select(Box::new(select_from(
        vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())],
        TableWithJoins { relation, joins: Vec::new() },
    )));
}

/// A query that is nothing but its body.
pub(super) fn query_of(body: SetExpr) -> Query {
    Query {
        with: None,
        body: Box::new(body),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }
}

/// Plans what [`rewrite_set_operations`] made.
#[derive(Debug)]
pub struct SetOperationPlanner;

impl RelationPlanner for SetOperationPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<RelationPlanning> {
        let kind = match &relation {
            TableFactor::Function { name, .. } => {
                let name = name.to_string();
                KINDS.iter().find(|(_, n)| *n == name).map(|(k, _)| *k)
            }
            _ => None,
        };
        let (Some(kind), TableFactor::Function { args, .. }) = (kind, &relation) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let mut sides = Vec::with_capacity(2);
        for arg in args {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(ast::Expr::Subquery(query))) = arg else {
                continue;
            };
            let subquery = query.clone();
            sides.push(context.plan(TableFactor::Derived {
                lateral: false,
                subquery,
                alias: None,
                sample: None,
            })?);
        }
        let (Some(right), Some(left)) = (sides.pop(), sides.pop()) else {
            return Err(Error::internal("a set operation has two sides").into());
        };
        let node = SetOperationNode::try_new(left, right, kind)?;
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, None))))
    }
}

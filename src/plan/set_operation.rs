//! `INTERSECT` and `EXCEPT` in a plan. DataFusion lowers them to semi and anti joins, which forgets how often a row
//! stands on either side: here they are nodes of their own, with the multiset answer of the standard.
//!
//! ```text
//!  a INTERSECT ALL b ─► SELECT * FROM __intersect_all((a), (b))      on the tree, since the planner asks about tables only
//!     └─► SetOperationNode(a, b)
//!           streaming: one operator with a count per side and row
//!           batch:     Projection[row] ([Unnest[copies]] (Filter[copies > 0] (Projection[row, copies(l, r)]
//!                        (Aggregate[row; sum(l), sum(r)] (Union (Projection[row, 1 l, 0 r] (a), Projection[row, 0 l, 1 r] (b))))))
//! ```

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result as DfResult};
use datafusion::functions_aggregate::expr_fn::sum;
use datafusion::functions_nested::expr_fn::array_repeat;
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{
    Expr, Extension, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNodeCore, cast, lit, when,
};
use datafusion::sql::sqlparser::ast::{self};
use datafusion::sql::sqlparser::ast::{
    FunctionArg, FunctionArgExpr, Ident, ObjectName, Query, SelectItem, SetExpr, SetOperator, SetQuantifier,
    TableFactor, TableWithJoins, VisitMut, VisitorMut, WildcardAdditionalOptions,
};

use crate::error::{Error, Result};
use crate::functions::common_type;
use crate::operators::set_operation::SetOperationKind;
use crate::sql::select_from;

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
        alias: None,
    };
    *body = SetExpr::Select(Box::new(select_from(
        vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())],
        TableWithJoins { relation, joins: Vec::new() },
    )));
}

fn query_of(body: SetExpr) -> Query {
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

/// A set operation of two relations with the same number of columns.
#[derive(Debug, Clone)]
pub struct SetOperationNode {
    /// Names the columns.
    pub left: LogicalPlan,
    /// The other side.
    pub right: LogicalPlan,
    /// Which.
    pub kind: SetOperationKind,
    schema: DFSchemaRef,
}

impl SetOperationNode {
    /// A set operation.
    ///
    /// # Errors
    /// Validation if the numbers of columns differ or a column has no common type.
    pub fn try_new(left: LogicalPlan, right: LogicalPlan, kind: SetOperationKind) -> DfResult<Self> {
        let (l, r) = (left.schema().fields(), right.schema().fields());
        if l.len() != r.len() {
            return Err(Error::validation(format!(
                "Column count mismatch in {}: {} on the left, {} on the right",
                kind.sql(),
                l.len(),
                r.len()
            ))
            .into());
        }
        let fields = l
            .iter()
            .zip(r)
            .enumerate()
            .map(|(i, (l, r))| {
                let (a, b) = (l.data_type(), r.data_type());
                let ty = if a == b {
                    a.clone()
                } else {
                    common_type(kind.sql(), &[a.clone(), b.clone()]).map_err(|_| {
                        Error::validation(format!(
                            "Type mismatch in column {} of {}: {a} on the left, {b} on the right",
                            i + 1,
                            kind.sql()
                        ))
                        .hint("cast one side to the type of the other")
                    })?
                };
                // What the plain plan of batch mode has too.
                let nullable = l.is_nullable() || r.is_nullable();
                Ok((None, Arc::new(Field::new(l.name(), ty, nullable))))
            })
            .collect::<Result<Vec<_>>>()?;
        let schema = DFSchema::new_with_metadata(fields, left.schema().metadata().clone())?;
        Ok(SetOperationNode { left, right, kind, schema: Arc::new(schema) })
    }

    /// For each column of `side` an expression of the result's type.
    pub fn casts(&self, side: &LogicalPlan) -> Vec<Expr> {
        side.schema()
            .columns()
            .into_iter()
            .zip(side.schema().fields())
            .zip(self.schema.fields())
            .map(|((column, from), to)| {
                let column = Expr::Column(column);
                if from.data_type() == to.data_type() { column } else { cast(column, to.data_type().clone()) }
            })
            .collect()
    }

    fn key(&self) -> (&LogicalPlan, &LogicalPlan, SetOperationKind) {
        (&self.left, &self.right, self.kind)
    }
}

impl PartialEq for SetOperationNode {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for SetOperationNode {}

impl Hash for SetOperationNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl PartialOrd for SetOperationNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.key().partial_cmp(&other.key())
    }
}

impl UserDefinedLogicalNodeCore for SetOperationNode {
    fn name(&self) -> &str {
        "SetOperation"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "SetOperation: {}", self.kind.sql())
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        match (inputs.pop(), inputs.pop()) {
            (Some(right), Some(left)) => Self::try_new(left, right, self.kind),
            _ => datafusion::common::internal_err!("a set operation has two inputs"),
        }
    }

    // Every column counts: the default of `necessary_children_exprs` asks for all of them.
}

/// The node as a plain plan.
pub(super) fn lower_to_plain(operation: &SetOperationNode) -> DfResult<LogicalPlan> {
    const LEFT: &str = "__left";
    const RIGHT: &str = "__right";
    const COPIES: &str = "__copies";
    let names: Vec<String> = (0..operation.schema.fields().len()).map(|i| format!("__{i}")).collect();
    let side = |plan: &LogicalPlan, left: i64, right: i64| -> DfResult<LogicalPlan> {
        let mut exprs: Vec<Expr> =
            operation.casts(plan).into_iter().zip(&names).map(|(e, name)| e.alias(name.as_str())).collect();
        exprs.push(lit(left).alias(LEFT));
        exprs.push(lit(right).alias(RIGHT));
        LogicalPlanBuilder::from(plan.clone()).project(exprs)?.build()
    };
    let column = |name: &str| Expr::Column(Column::from_name(name));
    let rows: Vec<Expr> = names.iter().map(|n| column(n)).collect();
    let (l, r) = (column(LEFT), column(RIGHT));
    let kind = operation.kind;
    let copies = match kind {
        SetOperationKind::Intersect | SetOperationKind::IntersectAll => {
            when(l.clone().lt(r.clone()), l.clone()).otherwise(r.clone())?
        }
        SetOperationKind::Except => when(r.clone().eq(lit(0_i64)), l.clone()).otherwise(lit(0_i64))?,
        SetOperationKind::ExceptAll => l.clone() - r.clone(),
    };
    let mut counted = rows.clone();
    counted.push(copies.alias(COPIES));
    let mut plan = LogicalPlanBuilder::from(side(&operation.left, 1, 0)?)
        .union(side(&operation.right, 0, 1)?)?
        .aggregate(rows.clone(), vec![sum(l).alias(LEFT), sum(r).alias(RIGHT)])?
        .project(counted)?
        .filter(column(COPIES).gt(lit(0_i64)))?;
    if kind.is_all() {
        let mut repeated = rows.clone();
        repeated.push(array_repeat(lit(true), column(COPIES)).alias(COPIES));
        plan = plan.project(repeated)?.unnest_column(Column::from_name(COPIES))?;
    }
    let result = rows.into_iter().zip(operation.schema.fields()).map(|(e, f)| e.alias(f.name().as_str()));
    plan.project(result)?.build()
}

/// Whether values of the type can be compared for equality.
pub(crate) fn is_comparable(ty: &DataType) -> bool {
    match ty {
        DataType::Map(..) => false,
        DataType::List(item) => is_comparable(item.data_type()),
        DataType::Struct(fields) => fields.iter().all(|f| is_comparable(f.data_type())),
        _ => true,
    }
}

//! Plans FROM clauses with USING or NATURAL, join by join.
//!
//! | join | common column |
//! |---|---|
//! | INNER, LEFT | that of the left side |
//! | RIGHT | that of the right side |
//! | FULL | COALESCE of both |

use datafusion::common::{Column, JoinType, Result as DfResult, TableReference};
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, ScalarUDF, cast};
use datafusion::sql::sqlparser::ast::{
    Ident, Join, JoinConstraint, JoinOperator, ObjectName, TableFactor, TableWithJoins,
};

use super::rename::rename;
use super::{HIDDEN, MARK, UsingJoins, columns, constraint, is_merging, merges, number};
use crate::error::{Error, Result};
use crate::functions::{FunctionContext, common_type, scalar_functions};
use crate::plan::planner::location_of;
use crate::sql::suggestion;

/// Name of the relation that stands for a plan, before its number.
const PLANNED: &str = "__planned_";

/// Plans what [`UsingJoins::mark`] made.
#[derive(Debug)]
pub struct UsingPlanner(pub UsingJoins);

impl RelationPlanner for UsingPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<RelationPlanning> {
        if let Some(plan) = self.planned(&relation) {
            return Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, None))));
        }
        let number = number(&relation);
        match relation {
            TableFactor::NestedJoin { table_with_joins, alias }
                if number.is_some() || merges(&table_with_joins) =>
            {
                let mut plan = self.joins(*table_with_joins, context)?;
                let mut alias = alias;
                if let Some(number) = number {
                    self.0.learn(number, plan.schema());
                    alias = None;
                } else if alias.is_some() {
                    plan = visible(plan)?;
                }
                Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
            }
            other => Ok(RelationPlanning::Original(Box::new(other))),
        }
    }
}

/// A join in parentheses that has a name shows no hidden columns.
fn visible(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let exprs: Vec<Expr> = columns(plan.schema())
        .into_iter()
        .filter(|c| !c.is_hidden())
        .map(|c| Expr::Column(Column::new(c.qualifier, c.name)).alias(c.label))
        .collect();
    LogicalPlanBuilder::from(plan).project(exprs)?.build()
}

impl UsingPlanner {
    /// The plan that a relation stands for.
    fn planned(&self, relation: &TableFactor) -> Option<LogicalPlan> {
        let TableFactor::Table { name, .. } = relation else { return None };
        let [part] = name.0.as_slice() else { return None };
        let number: usize = part.as_ident()?.value.strip_prefix(PLANNED)?.parse().ok()?;
        self.0.known().plans.get(number).cloned()
    }

    /// A relation that stands for a plan.
    fn stand_in(&self, plan: LogicalPlan) -> TableFactor {
        let number = {
            let mut known = self.0.known();
            known.plans.push(plan);
            known.plans.len() - 1
        };
        TableFactor::Table {
            name: ObjectName::from(vec![Ident::with_quote('`', format!("{PLANNED}{number}"))]),
            alias: None,
            args: None,
            with_hints: Vec::new(),
            version: None,
            with_ordinality: false,
            partitions: Vec::new(),
            json_path: None,
            sample: None,
            index_hints: Vec::new(),
        }
    }

    fn joins(&self, t: TableWithJoins, context: &mut dyn RelationPlannerContext) -> DfResult<LogicalPlan> {
        let mut plan = context.plan(t.relation)?;
        for mut join in t.joins {
            if is_merging(&join) {
                plan = merge(plan, join, context)?;
                continue;
            }
            // Everything else is DataFusion's, which knows LATERAL.
            let known = columns(plan.schema());
            rename(&mut join, &known);
            if matches!(join.relation, TableFactor::NestedJoin { .. }) {
                join.relation = self.stand_in(context.plan(join.relation)?);
            }
            let relation = self.stand_in(plan);
            let table_with_joins = Box::new(TableWithJoins { relation, joins: vec![join] });
            plan = context.plan(TableFactor::NestedJoin { table_with_joins, alias: None })?;
        }
        Ok(plan)
    }
}

fn join_type(operator: &JoinOperator) -> JoinType {
    match operator {
        JoinOperator::Left(_) | JoinOperator::LeftOuter(_) => JoinType::Left,
        JoinOperator::Right(_) | JoinOperator::RightOuter(_) => JoinType::Right,
        JoinOperator::FullOuter(_) => JoinType::Full,
        _ => JoinType::Inner,
    }
}

/// A column that both sides have.
struct Common {
    name: String,
    left: Column,
    right: Column,
}

fn merge(left: LogicalPlan, join: Join, context: &mut dyn RelationPlannerContext) -> DfResult<LogicalPlan> {
    let lateral = matches!(
        join.relation,
        TableFactor::Derived { lateral: true, .. }
            | TableFactor::Function { lateral: true, .. }
            | TableFactor::UNNEST { .. }
    );
    if lateral {
        let what = "USING and NATURAL with a table that reads the tables before it are not supported";
        return Err(Error::unsupported(what).hint("write the condition with ON").into());
    }
    let join_type = join_type(&join.join_operator);
    let right = context.plan(join.relation)?;
    let commons = match constraint(&join.join_operator) {
        Some(JoinConstraint::Using(names)) => {
            let mut commons = Vec::with_capacity(names.len());
            for name in names {
                commons.push(common(name, &left, &right)?);
            }
            commons
        }
        _ => natural(&left, &right),
    };
    let conditions =
        commons.iter().map(|c| Expr::Column(compared(&left, c)).eq(Expr::Column(c.right.clone())));
    let (left_columns, right_columns) = (left.schema().columns(), right.schema().columns());
    let builder = LogicalPlanBuilder::from(left.clone());
    let joined = match (join_type, commons.is_empty()) {
        (JoinType::Inner, true) => builder.cross_join(right.clone())?,
        _ => builder.join_on(right.clone(), join_type, conditions)?,
    };
    let mut exprs = Vec::with_capacity(left_columns.len() + right_columns.len());
    for c in &commons {
        exprs.push(merged(c, join_type, &left, &right)?);
    }
    for column in left_columns {
        let hidden = commons.iter().any(|c| c.left == column);
        // The common column of a join before lives on in this one's.
        if !(hidden && is_merged(&column)) {
            exprs.push(kept(column, hidden));
        }
    }
    for column in right_columns {
        let hidden = commons.iter().any(|c| c.right == column);
        if !(hidden && is_merged(&column)) {
            exprs.push(kept(column, hidden));
        }
    }
    joined.project(exprs)?.build()
}

/// What the left side compares: the common column of the joins before. Behind a RIGHT JOIN it is that of the first table
/// all the same, as in Flink, though the common column has the values of the second one.
fn compared(left: &LogicalPlan, c: &Common) -> Column {
    let own = format!("{HIDDEN}{}", c.name);
    let first = || left.schema().columns().into_iter().find(|c| c.name == own);
    let later = is_merged(&c.left) && takes_the_right_side(left);
    later.then(first).flatten().unwrap_or_else(|| c.left.clone())
}

/// Whether the common columns of a join made here are those of a right side.
fn takes_the_right_side(plan: &LogicalPlan) -> bool {
    let LogicalPlan::Projection(projection) = plan else { return false };
    let LogicalPlan::Join(join) = projection.input.as_ref() else { return false };
    match join.join_type {
        JoinType::Right => true,
        JoinType::Full => false,
        _ => takes_the_right_side(&join.left),
    }
}

fn is_merged(column: &Column) -> bool {
    column.relation.as_ref().is_some_and(|q| q.table().starts_with(MARK))
}

fn kept(column: Column, hidden: bool) -> Expr {
    let (qualifier, name) = (column.relation.clone(), column.name.clone());
    let column = Expr::Column(column);
    if hidden { column.alias_qualified(qualifier, format!("{HIDDEN}{name}")) } else { column }
}

/// The common column: its value, and the type that both sides have in common.
fn merged(c: &Common, join_type: JoinType, left: &LogicalPlan, right: &LogicalPlan) -> DfResult<Expr> {
    let (l, r) = (Expr::Column(c.left.clone()), Expr::Column(c.right.clone()));
    let types = [l.get_type(left.schema())?, r.get_type(right.schema())?];
    let common = common_type("USING", &types)?;
    let [l, r] = [(l, &types[0]), (r, &types[1])]
        .map(|(e, own)| if *own == common { e } else { cast(e, common.clone()) });
    let value = match join_type {
        JoinType::Right => r,
        JoinType::Full => coalesce()?.call(vec![l, r]),
        _ => l,
    };
    let table = c.left.relation.as_ref().map_or("", TableReference::table);
    let table = table.strip_prefix(MARK).unwrap_or(table);
    Ok(value.alias_qualified(Some(TableReference::bare(format!("{MARK}{table}"))), &c.name))
}

fn coalesce() -> Result<std::sync::Arc<ScalarUDF>> {
    scalar_functions(&FunctionContext::default())
        .into_iter()
        .find(|f| f.name() == "coalesce")
        .ok_or_else(|| Error::internal("COALESCE is missing"))
}

/// The first column of that name, a common one before others.
fn find(plan: &LogicalPlan, name: &str) -> Option<Column> {
    let named: Vec<Column> = plan.schema().columns().into_iter().filter(|c| c.name == name).collect();
    named.iter().find(|c| is_merged(c)).or(named.first()).cloned()
}

fn common(name: &ObjectName, left: &LogicalPlan, right: &LogicalPlan) -> Result<Common> {
    let [part] = name.0.as_slice() else {
        return Err(Error::syntax(format!("USING takes names of columns without a table, not {name}")));
    };
    let Some(ident) = part.as_ident() else {
        return Err(Error::syntax(format!("USING takes names of columns, not {name}")));
    };
    let at = location_of(ident.span);
    let side = |plan: &LogicalPlan, which: &str| {
        find(plan, &ident.value).ok_or_else(|| {
            let columns = columns(plan.schema());
            let known: Vec<&str> =
                columns.iter().filter(|c| !c.is_hidden()).map(|c| c.name.as_str()).collect();
            let hint = suggestion(&ident.value, &known, "its columns are");
            Error::validation(format!(
                "Column '{}' of USING not found on the {which} side of the join",
                ident.value
            ))
            .hint(hint)
            .at(at)
        })
    };
    Ok(Common { name: ident.value.clone(), left: side(left, "left")?, right: side(right, "right")? })
}

/// All columns that both sides have, in the order of the left one.
fn natural(left: &LogicalPlan, right: &LogicalPlan) -> Vec<Common> {
    let mut commons: Vec<Common> = Vec::new();
    for column in left.schema().columns() {
        let name = column.name;
        if name.starts_with(HIDDEN) || commons.iter().any(|c| c.name == name) {
            continue;
        }
        if let (Some(l), Some(r)) = (find(left, &name), find(right, &name)) {
            commons.push(Common { name, left: l, right: r });
        }
    }
    commons
}

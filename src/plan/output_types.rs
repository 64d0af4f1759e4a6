//! The SQL types of what a plan yields, as Flink infers them: for DESCRIBE.
//!
//! ```text
//!  plan before analysis ─► node by node, from the leaves ─► types of columns ─► Scope ─► types of expressions
//! ```
//!
//! Where nothing more is known, the types are those of the Arrow schema.

use std::any::Any;

use arrow::datatypes::FieldRef;
use datafusion::common::JoinType;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{Aggregate, Distinct, Expr, Join, LogicalPlan, Union, Values};

use crate::error::Result;
use crate::functions::{Scope, same_arrow};
use crate::plan::nodes::lookup_join::LookupJoinNode;
use crate::plan::nodes::set_operation::SetOperationNode;
use crate::plan::nodes::temporal_join::{TemporalJoinNode, VersionedTableNode};
use crate::plan::nodes::view::ViewNode;
use crate::plan::nodes::watermark::WatermarkNode;
use crate::plan::nodes::window_tvf::WindowTvfNode;
use crate::plan::table::ConnectorTable;
use crate::types::{LogicalType, TypeRoot};

/// One type for each column.
///
/// # Errors
/// For columns without a SQL type.
pub fn output_types(plan: &LogicalPlan) -> Result<Vec<LogicalType>> {
    let known = by_arrow(plan)?;
    // What is not understood is no reason to fail.
    let Ok(Some(inferred)) = inferred(plan) else { return Ok(known) };
    if inferred.len() != known.len() {
        return Ok(known);
    }
    let fits = |a: &LogicalType, b: &LogicalType| {
        same_arrow(&a.to_arrow(), &b.to_arrow())
            || a.to_arrow().is_numeric() && b.to_arrow().is_numeric()
            || is_interval(&a.root) && is_interval(&b.root)
    };
    Ok(inferred.into_iter().zip(known).map(|(i, k)| if fits(&i, &k) { i } else { k }).collect())
}

fn is_interval(root: &TypeRoot) -> bool {
    matches!(root, TypeRoot::IntervalYearMonth | TypeRoot::IntervalDayTime)
}

fn by_arrow(plan: &LogicalPlan) -> Result<Vec<LogicalType>> {
    plan.schema().fields().iter().map(LogicalType::from_field).collect()
}

/// The types of expressions over an input.
fn over(input: &LogicalPlan, exprs: &[Expr]) -> Result<Vec<LogicalType>> {
    let columns = output_types(input)?;
    let scope = Scope::new(input.schema(), &columns)?;
    exprs.iter().map(|e| scope.type_of(e)).collect()
}

fn inferred(plan: &LogicalPlan) -> Result<Option<Vec<LogicalType>>> {
    Ok(Some(match plan {
        LogicalPlan::Projection(p) => over(&p.input, &p.expr)?,
        LogicalPlan::Filter(f) => output_types(&f.input)?,
        LogicalPlan::Sort(s) => output_types(&s.input)?,
        LogicalPlan::Limit(l) => output_types(&l.input)?,
        LogicalPlan::SubqueryAlias(a) => output_types(&a.input)?,
        LogicalPlan::Distinct(Distinct::All(input)) => output_types(input)?,
        LogicalPlan::Subquery(s) => output_types(&s.subquery)?,
        LogicalPlan::Window(w) => {
            let mut types = output_types(&w.input)?;
            let scope = Scope::new(w.input.schema(), &types)?;
            let made = w.window_expr.iter().map(|e| scope.type_of(e)).collect::<Result<Vec<_>>>()?;
            drop(scope);
            types.extend(made);
            types
        }
        LogicalPlan::Aggregate(a) => return aggregate(a).map(Some),
        LogicalPlan::Join(j) => join(j)?,
        LogicalPlan::Union(u) => union(u)?,
        LogicalPlan::Values(v) => values(v)?,
        LogicalPlan::TableScan(scan) => {
            let provider = source_as_provider(&scan.source)?;
            let types = match (provider.downcast_ref::<ConnectorTable>(), provider.get_logical_plan()) {
                (Some(table), _) => {
                    let schema = table.source.schema();
                    let known = schema.fields().iter().zip(&table.types);
                    let of = |(f, declared): (&FieldRef, &Option<LogicalType>)| match declared {
                        Some(ty) => Ok(ty.clone()),
                        None => LogicalType::from_field(f),
                    };
                    known.map(of).collect::<Result<Vec<_>>>()?
                }
                (None, Some(plan)) => output_types(&plan)?,
                (None, None) => return Ok(None),
            };
            match &scan.projection {
                Some(columns) => columns.iter().filter_map(|i| types.get(*i).cloned()).collect(),
                None => types,
            }
        }
        LogicalPlan::Extension(e) => return of_own_node(plan, e.node.as_any()),
        _ => return Ok(None),
    }))
}

/// What of the types goes through a node of ours.
fn of_own_node(plan: &LogicalPlan, node: &dyn Any) -> Result<Option<Vec<LogicalType>>> {
    Ok(Some(if let Some(view) = ViewNode::of(plan) {
        output_types(view)?
    } else if let Some(node) = node.downcast_ref::<WatermarkNode>() {
        output_types(&node.input)?
    } else if let Some(node) = node.downcast_ref::<VersionedTableNode>() {
        output_types(&node.input)?
    } else if let Some(node) = node.downcast_ref::<WindowTvfNode>() {
        // The bounds and the time of the window are as Arrow has them.
        let mut types = output_types(&node.input)?;
        let added = plan.schema().fields().iter().skip(types.len());
        types.extend(added.map(LogicalType::from_field).collect::<Result<Vec<_>>>()?);
        types
    } else if let Some(node) = node.downcast_ref::<SetOperationNode>() {
        columns(&[output_types(&node.left)?, output_types(&node.right)?], plan)
    } else if let Some(node) = node.downcast_ref::<TemporalJoinNode>() {
        joined(output_types(&node.left)?, output_types(&node.right)?, node.kind)
    } else if let Some(node) = node.downcast_ref::<LookupJoinNode>() {
        joined(output_types(&node.left)?, output_types(&node.right)?, node.kind)
    } else {
        return Ok(None);
    }))
}

fn aggregate(a: &Aggregate) -> Result<Vec<LogicalType>> {
    let columns = output_types(&a.input)?;
    let scope = Scope::new(a.input.schema(), &columns)?;
    let mut types = Vec::with_capacity(a.group_expr.len() + a.aggr_expr.len());
    for e in &a.group_expr {
        types.push(scope.type_of(e)?);
    }
    // Among grouping sets may be the empty one.
    let sets = a.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_)));
    let grouped = !a.group_expr.is_empty() && !sets;
    for e in &a.aggr_expr {
        types.push(scope.type_of_aggregate(e, grouped)?);
    }
    Ok(types)
}

fn join(j: &Join) -> Result<Vec<LogicalType>> {
    Ok(joined(output_types(&j.left)?, output_types(&j.right)?, j.join_type))
}

fn joined(left: Vec<LogicalType>, right: Vec<LogicalType>, kind: JoinType) -> Vec<LogicalType> {
    let nullable = |side: Vec<LogicalType>, optional: bool| {
        side.into_iter().map(move |t| LogicalType { nullable: t.nullable || optional, ..t })
    };
    let (left_optional, right_optional) = match kind {
        JoinType::Left => (false, true),
        JoinType::Right => (true, false),
        JoinType::Full => (true, true),
        JoinType::Inner => (false, false),
        JoinType::LeftSemi | JoinType::LeftAnti => return left,
        JoinType::RightSemi | JoinType::RightAnti => return right,
        JoinType::LeftMark => {
            return left.into_iter().chain([LogicalType::not_null(TypeRoot::Boolean)]).collect();
        }
        JoinType::RightMark => {
            return right.into_iter().chain([LogicalType::not_null(TypeRoot::Boolean)]).collect();
        }
    };
    nullable(left, left_optional).chain(nullable(right, right_optional)).collect()
}

/// The types of the first that fit all, nullable where one of them is.
fn column(rows: &[Vec<LogicalType>], i: usize) -> Option<LogicalType> {
    let of = || rows.iter().filter_map(|r| r.get(i));
    let nullable = of().any(|t| t.nullable);
    let root = crate::functions::common_root(of())?;
    Some(LogicalType { root, nullable })
}

fn union(u: &Union) -> Result<Vec<LogicalType>> {
    let inputs = u.inputs.iter().map(|p| output_types(p)).collect::<Result<Vec<_>>>()?;
    Ok((0..u.schema.fields().len()).map_while(|i| column(&inputs, i)).collect())
}

/// The columns of a plan that has the rows of several.
fn columns(inputs: &[Vec<LogicalType>], plan: &LogicalPlan) -> Vec<LogicalType> {
    (0..plan.schema().fields().len()).map_while(|i| column(inputs, i)).collect()
}

fn values(v: &Values) -> Result<Vec<LogicalType>> {
    let scope = Scope::new(&datafusion::common::DFSchema::empty(), &[])?;
    let rows = v
        .values
        .iter()
        .map(|row| row.iter().map(|e| scope.type_of(e)).collect::<Result<Vec<_>>>())
        .collect::<Result<Vec<_>>>()?;
    Ok((0..v.schema.fields().len()).map_while(|i| column(&rows, i)).collect())
}

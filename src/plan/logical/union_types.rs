//! The inputs of a UNION in the types of its result, before expressions above it ask for them.
//!
//! The planner gives a UNION the types of its first input, and only the analyzer's type coercion finds the common ones: what
//! is decided by type before that (`TYPEOF`, integer or decimal division) would go by the wrong one.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, Union, cast};

use crate::error::{Error, Result};
use crate::functions::common_type;
use crate::types::sql_name;

/// Casts the inputs of all UNIONs.
///
/// # Errors
/// Validation for columns without a common type; from DataFusion, if a plan cannot be built again.
pub fn settle_union_types(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut mixed = false;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Union(union) = node {
            mixed |= common_types(union)?.is_some();
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    if !mixed {
        return Ok(plan);
    }
    let settled = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Union(union) = node else { return Ok(Transformed::yes(node.recompute_schema()?)) };
        let Some(types) = common_types(&union)? else {
            return Ok(Transformed::no(LogicalPlan::Union(union)));
        };
        let inputs = union.inputs.iter().map(|i| casted(i, &types)).collect::<DfResult<Vec<_>>>()?;
        Ok(Transformed::yes(LogicalPlan::Union(Union::try_new(inputs)?)))
    })?;
    Ok(settled.data)
}

/// The types of the result; `None` if the inputs have them.
fn common_types(union: &Union) -> Result<Option<Vec<DataType>>> {
    let mut differ = false;
    let mut types = Vec::with_capacity(union.schema.fields().len());
    for i in 0..union.schema.fields().len() {
        let fields = union.inputs.iter().filter_map(|input| input.schema().fields().get(i));
        let of_inputs: Vec<DataType> = fields.map(|f| f.data_type().clone()).collect();
        differ |= of_inputs.windows(2).any(|pair| pair.first() != pair.last());
        let is_date = |t: &DataType| matches!(t, DataType::Date32);
        let is_time = |t: &DataType| matches!(t, DataType::Timestamp(..));
        let common = if of_inputs.iter().any(is_date) && of_inputs.iter().any(is_time) {
            None
        } else {
            common_type("UNION", &of_inputs).ok()
        };
        types.push(common.ok_or_else(|| {
            let types: Vec<String> = of_inputs.iter().map(sql_name).collect();
            Error::validation(format!("Type mismatch in column {} of UNION: {}", i + 1, types.join(" and ")))
                .hint("cast one side to the type of the other")
        })?);
    }
    Ok(differ.then_some(types))
}

fn casted(input: &Arc<LogicalPlan>, types: &[DataType]) -> DfResult<Arc<LogicalPlan>> {
    let columns = input.schema().columns();
    let exprs: Vec<Expr> = columns
        .into_iter()
        .zip(input.schema().fields())
        .zip(types)
        .map(|((column, field), ty)| {
            let name = column.clone();
            let column = Expr::Column(column);
            if field.data_type() == ty {
                column
            } else {
                cast(column, ty.clone()).alias_qualified(name.relation, name.name)
            }
        })
        .collect();
    Ok(Arc::new(LogicalPlan::Projection(Projection::try_new(exprs, Arc::clone(input))?)))
}

/// Fails for an aggregate inside of another one.
///
/// # Errors
/// Validation, as Flink says it.
pub fn refuse_nested_aggregates(plan: &LogicalPlan) -> Result<()> {
    let mut nested = false;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Aggregate(aggregate) = node {
            for call in &aggregate.aggr_expr {
                let mut calls = 0;
                let _ = datafusion::common::tree_node::TreeNode::apply(call, |e| {
                    calls += usize::from(matches!(e, Expr::AggregateFunction(_)));
                    Ok(TreeNodeRecursion::Continue)
                });
                nested |= calls > 1;
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    if nested {
        return Err(Error::validation("Aggregate expressions cannot be nested").hint(
            "compute the inner one in a sub-query: SELECT SUM(s) FROM (SELECT SUM(v) AS s FROM t GROUP BY k)",
        ));
    }
    Ok(())
}

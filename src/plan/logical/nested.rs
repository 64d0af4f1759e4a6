//! Which nested fields of a table a plan reads, so that sources can skip the others.
//!
//! Conservative and by name: a column that is used as a whole anywhere in the plan is needed as a whole, whatever
//! table it belongs to.

use std::collections::BTreeSet;

use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::error::Result;
use crate::plan::nodes::set_operation::SetOperationNode;

/// Paths below columns, `[bid, price]`; a path of one name is a whole column.
///
/// # Errors
/// None in practice; from DataFusion's traversal.
pub fn nested_paths(plan: &LogicalPlan) -> Result<BTreeSet<Vec<String>>> {
    let mut paths = BTreeSet::new();
    // What the plan yields is read as a whole.
    whole_columns(plan, &mut paths);
    plan.apply_with_subqueries(|node| {
        match node {
            // A scan names columns without reading below them.
            LogicalPlan::TableScan(_) => {}
            LogicalPlan::Projection(projection) => {
                for expr in &projection.expr {
                    if !passes_through(expr) {
                        collect(expr, &mut paths)?;
                    }
                }
            }
            other => {
                other.apply_expressions(|expr| {
                    collect(expr, &mut paths)?;
                    Ok(TreeNodeRecursion::Continue)
                })?;
                // A set operation compares whole rows.
                let compares = matches!(other, LogicalPlan::Extension(e)
                    if e.node.as_any().is::<SetOperationNode>());
                let keeps_names = !compares
                    && matches!(
                        other,
                        LogicalPlan::Filter(_)
                            | LogicalPlan::SubqueryAlias(_)
                            | LogicalPlan::Aggregate(_)
                            | LogicalPlan::Extension(_)
                            | LogicalPlan::Sort(_)
                            | LogicalPlan::Limit(_)
                    );
                if !keeps_names {
                    for input in other.inputs() {
                        whole_columns(input, &mut paths);
                    }
                }
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(paths)
}

fn whole_columns(plan: &LogicalPlan, paths: &mut BTreeSet<Vec<String>>) {
    paths.extend(plan.schema().fields().iter().map(|f| vec![f.name().clone()]));
}

/// Whether a projection hands a column on under its own name: its uses above are found by themselves.
fn passes_through(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) => true,
        Expr::Alias(alias) => matches!(alias.expr.as_ref(), Expr::Column(c) if c.name == alias.name),
        _ => false,
    }
}

fn collect(expr: &Expr, paths: &mut BTreeSet<Vec<String>>) -> datafusion::common::Result<()> {
    expr.apply(|e| {
        if let Some(path) = path_of(e) {
            paths.insert(path);
            return Ok(TreeNodeRecursion::Jump);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

/// `get_field(get_field(bid, 'a'), 'b')` as `[bid, a, b]`.
fn path_of(expr: &Expr) -> Option<Vec<String>> {
    match expr {
        Expr::Column(c) => Some(vec![c.name.clone()]),
        Expr::ScalarFunction(f) if f.name() == "get_field" => {
            let (base, names) = f.args.split_first()?;
            let mut path = path_of(base)?;
            for name in names {
                match name {
                    Expr::Literal(ScalarValue::Utf8(Some(n)) | ScalarValue::Utf8View(Some(n)), _) => {
                        path.push(n.clone());
                    }
                    _ => return None,
                }
            }
            Some(path)
        }
        _ => None,
    }
}

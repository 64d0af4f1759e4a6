//! Expressions that depend on SQL types which Arrow does not know: TYPEOF, and the texts of times.
//!
//! Seen while casts still have the types that they were written with, and sub-queries are expressions: before relations are
//! settled.

use chrono_tz::Tz;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;

use crate::error::Result;
use crate::functions::{Scope, may_read_types, reads_types, settle_types};
use crate::plan::output_types::output_types;

/// Settles them in a plan.
///
/// # Errors
/// For expressions that have no type.
pub fn settle_exact_types(plan: LogicalPlan, zone: Tz) -> Result<LogicalPlan> {
    let settled = plan.transform_up_with_subqueries(|node| {
        // Most nodes have nothing of the kind, and need no schema to be seen to have nothing.
        let mut casts = false;
        node.apply_expressions(|e| {
            casts |= may_read_types(e);
            Ok(if casts { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        let inputs = node.inputs();
        if !casts || !node.expressions().iter().any(|e| reads_types(e, &merge_schema(&inputs))) {
            return Ok(Transformed::no(node));
        }
        let mut fields = Vec::new();
        let mut types = Vec::new();
        for input in inputs {
            fields.extend(input.schema().iter().map(|(q, f)| (q.cloned(), f.clone())));
            types.extend(output_types(input)?);
        }
        let scope = Scope::new(&DFSchema::new_with_metadata(fields, Default::default())?, &types)?;
        let names = NamePreserver::new(&node);
        let out = node.map_expressions(|e| {
            let name = names.save(&e);
            Ok(settle_types(e, &scope, zone)?.update_data(|e| name.restore(e)))
        })?;
        match out.data {
            node @ LogicalPlan::Extension(_) => Ok(Transformed::yes(node)),
            node => Ok(Transformed::yes(node.recompute_schema()?)),
        }
    })?;
    Ok(settled.data)
}

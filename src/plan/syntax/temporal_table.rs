//! Plans `t FOR SYSTEM_TIME AS OF o.ts`: the table, under a node that says of which time its rows are to be.

use std::sync::Arc;

use datafusion::common::{Column, Result as DfResult, TableReference};
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{Extension, LogicalPlan};
use datafusion::sql::sqlparser::ast::{Expr, Ident, TableFactor, TableVersion};

use crate::error::Error;
use crate::plan::nodes::temporal_join::VersionedTableNode;
use crate::plan::planner::location_of;

/// Plans the versioned tables among the table factors.
#[derive(Debug)]
pub struct TemporalTablePlanner;

impl RelationPlanner for TemporalTablePlanner {
    fn plan_relation(
        &self,
        mut relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<RelationPlanning> {
        let version = match &mut relation {
            TableFactor::Table { version, .. } => version.take(),
            _ => None,
        };
        let Some(TableVersion::ForSystemTimeAsOf(time)) = version else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let parts: &[Ident] = match &time {
            Expr::Identifier(name) => std::slice::from_ref(name),
            Expr::CompoundIdentifier(parts) => parts,
            _ => &[],
        };
        let place = parts.first().map(|p| location_of(p.span)).unwrap_or_default();
        let names: Vec<String> = parts.iter().map(|p| context.normalize_ident(p.clone())).collect();
        let column = match names.as_slice() {
            [name] => Column::new_unqualified(name),
            [table, name] => Column::new(Some(TableReference::bare(table.as_str())), name),
            [schema, table, name] => {
                Column::new(Some(TableReference::partial(schema.as_str(), table.as_str())), name)
            }
            [catalog, schema, table, name] => {
                let table = TableReference::full(catalog.as_str(), schema.as_str(), table.as_str());
                Column::new(Some(table), name)
            }
            _ => return Err(Error::internal("a version of a table that is no column").at(place).into()),
        };
        let input = context.plan(relation)?;
        let node = VersionedTableNode { input, time: column, place };
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, None))))
    }
}

//! Plans `t FOR SYSTEM_TIME AS OF o.ts`: the table, under a node that says of which time its rows are to be; and
//! `t FOR SYSTEM_TIME AS OF TIMESTAMP '…'`: the table as it was then.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use chrono_tz::Tz;
use datafusion::common::{Column, DFSchema, Result as DfResult, ScalarValue, TableReference};
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr as PlannedExpr, Extension, LogicalPlan};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectName, ObjectNamePart, Spanned, TableAlias, TableFactor, TableVersion,
};

use crate::catalog::{ObjectPath, TableDef};
use crate::error::{Error, Result};
use crate::plan::nodes::temporal_join::VersionedTableNode;
use crate::plan::planner::location_of;
use crate::sql::ast::{AS_OF_MARK, HINT_MARK};

/// Plans the versioned tables among the table factors.
#[derive(Debug)]
pub struct TemporalTablePlanner {
    /// The session's: `TIMESTAMP '…'` is local.
    pub time_zone: Tz,
}

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
            _ => {
                let time = self.constant(time, context)?;
                return Ok(RelationPlanning::Original(Box::new(at(relation, time)?)));
            }
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

impl TemporalTablePlanner {
    /// A constant time, in milliseconds since the epoch.
    fn constant(&self, time: Expr, context: &mut dyn RelationPlannerContext) -> DfResult<i64> {
        let place = location_of(time.span());
        let refused = || {
            Error::unsupported(
                "FOR SYSTEM_TIME AS OF takes a time attribute of the table before it, or a constant time",
            )
            .hint("write FOR SYSTEM_TIME AS OF TIMESTAMP '2024-01-01 00:00:00'")
            .at(place)
        };
        let planned = context.sql_to_expr(time, &DFSchema::empty()).map_err(|_| refused())?;
        let simplified = ExprSimplifier::new(SimplifyContext::default()).simplify(planned)?;
        let PlannedExpr::Literal(value, _) = simplified else { return Err(refused().into()) };
        if !matches!(value.data_type(), DataType::Timestamp(..)) || value.is_null() {
            return Err(refused().into());
        }
        // A local time is one of the session's zone.
        let zone = Some(Arc::from(self.time_zone.name()));
        match value.cast_to(&DataType::Timestamp(TimeUnit::Millisecond, zone))? {
            ScalarValue::TimestampMillisecond(Some(ms), _) => Ok(ms),
            _ => Err(refused().into()),
        }
    }
}

/// The table, with the time in the mark of its name.
fn at(mut relation: TableFactor, time: i64) -> Result<TableFactor> {
    let TableFactor::Table { name: ObjectName(parts), alias, .. } = &mut relation else {
        return Err(Error::internal("a version of something that is no table"));
    };
    let Some(ObjectNamePart::Identifier(last)) = parts.last_mut() else {
        return Err(Error::internal("a table without a name"));
    };
    let (name, hint) = match last.value.split_once(HINT_MARK) {
        Some((name, hint)) => (name.to_owned(), hint.to_owned()),
        None => (last.value.clone(), String::new()),
    };
    if alias.is_none() {
        let name = Ident { value: name.clone(), ..last.clone() };
        *alias = Some(TableAlias { explicit: true, name, columns: Vec::new(), at: None });
    }
    last.value = format!("{name}{HINT_MARK}{hint}{AS_OF_MARK}{time}");
    Ok(relation)
}

/// Reads a table as it was at `time`.
///
/// # Errors
/// Unsupported for tables that have no versions.
pub fn travel(def: &TableDef, hint: &mut BTreeMap<String, String>, time: String) -> Result<()> {
    let has_versions = def.external.is_some() || def.options.get("connector").is_some_and(|c| c == "iceberg");
    if !has_versions {
        return Err(no_versions(&def.path));
    }
    hint.insert("as-of-timestamp".to_owned(), time);
    Ok(())
}

/// The error for what is only as it is now.
pub fn no_versions(path: &ObjectPath) -> Error {
    Error::unsupported(format!("{path} has no versions of other times"))
        .hint("FOR SYSTEM_TIME AS OF a constant time is for Iceberg tables")
}

//! Joins as of a processing time: the right side is looked up, if its connector can be.

use std::sync::Arc;

use datafusion::common::Result as DfResult;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Extension, Join, LogicalPlan, Operator, TableScan};

use crate::edges::SourceChangelog;
use crate::edges::lookup::LookupCache;
use crate::error::{Error, Result};
use crate::plan::nodes::lookup_join::LookupJoinNode;
use crate::plan::nodes::temporal_join::VersionedTableNode;
use crate::plan::nodes::view::open_views;
use crate::plan::nodes::watermark::WatermarkNode;
use crate::plan::table::ConnectorTable;

/// The join as a lookup join.
///
/// # Errors
/// Unsupported if the table cannot be looked up; Validation without an equality to look up by.
pub(super) fn lookup_join(join: &Join, table: &VersionedTableNode, condition: Expr) -> DfResult<LogicalPlan> {
    let right = open_views(table.input.clone())?;
    check_table(&right).map_err(|e| e.at(table.place))?;
    let sides = [join.left.schema(), right.schema()];
    let has_key = split_conjunction(&condition).into_iter().any(|part| {
        let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = part else { return false };
        let reads = |expr: &Expr, side: usize| {
            let refs = expr.column_refs();
            (!refs.is_empty(), refs.iter().all(|c| sides[side].maybe_index_of_column(c).is_some()))
        };
        let of_both = |a: &Expr, b: &Expr| reads(a, 0).1 && reads(b, 1) == (true, true);
        of_both(left, right) || of_both(right, left)
    });
    if !has_key {
        return Err(Error::validation(
            "a lookup join needs an equality condition on a field of the table that is looked up",
        )
        .hint("for example ON o.k = t.k; IS NOT DISTINCT FROM is none")
        .at(table.place)
        .into());
    }
    let node = LookupJoinNode::try_new(join.left.as_ref().clone(), right, join.join_type, condition)?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

/// The scan below filters, projections and names; `None` if there is anything else.
pub fn looked_up_scan(plan: &LogicalPlan) -> Option<&TableScan> {
    match plan {
        LogicalPlan::TableScan(scan) => Some(scan),
        LogicalPlan::SubqueryAlias(alias) => looked_up_scan(&alias.input),
        LogicalPlan::Projection(projection) => looked_up_scan(&projection.input),
        LogicalPlan::Filter(filter) => looked_up_scan(&filter.input),
        LogicalPlan::Extension(e) => {
            let watermark = e.node.as_any().downcast_ref::<WatermarkNode>();
            watermark.and_then(|w| looked_up_scan(&w.input))
        }
        _ => None,
    }
}

fn check_table(plan: &LogicalPlan) -> Result<()> {
    let what = "Processing-time temporal join is not supported yet";
    let Some(scan) = looked_up_scan(plan) else {
        return Err(Error::unsupported(format!("{what}: the right side is no table that can be looked up"))
            .hint("join a table of a connector that can be (filesystem, Iceberg, jdbc), or a view that filters and projects it"));
    };
    let provider = source_as_provider(&scan.source)?;
    let Some(table) = provider.downcast_ref::<ConnectorTable>() else {
        return Err(Error::internal(format!("{} has no connector", scan.table_name)));
    };
    let Some(lookup) = table.source.lookup() else {
        return Err(Error::unsupported(format!("{what}: table {} cannot be looked up", table.name))
            .hint("tables that end and take no changes can be: filesystem, Iceberg, jdbc. For a stream of changes declare WATERMARK and PRIMARY KEY and join as of a row time"));
    };
    // What is asked key by key need not end.
    let is_asked = lookup.points.is_some() && !matches!(lookup.cache, LookupCache::Full(_));
    if table.source.changelog() != SourceChangelog::AppendOnly || !(is_asked || table.source.bounded()) {
        return Err(Error::unsupported(format!(
            "{what}: table {} takes changes or has no end, and cannot be looked up",
            table.name
        ))
        .hint("join it as of a row time"));
    }
    Ok(())
}

//! Texts as views where rows are filtered right above a scan: a view is made without copying the text, and compared by its
//! first bytes. What is left is made plain again.
//!
//! ```text
//!  FilterExec ─► DataSourceExec      ─►      ProjectionExec(texts as STRING) ─► FilterExec ─► DataSourceExec(texts as views)
//! ```
//!
//! Conditions that cannot fail are put in the order of what they cost: numbers first, patterns last.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result as DfResult, ScalarValue, Statistics};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder, FileSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr, in_list,
};
use datafusion::physical_expr::{PhysicalExpr, conjunction, split_conjunction};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

use super::guarded::GuardedSource;

type Expr = Arc<dyn PhysicalExpr>;

/// Conditions of a filter that are put in order.
const MOST_CONDITIONS: usize = 64;

/// The plan of a filter with texts as views; `None` if it is not one over a scan of texts.
///
/// # Errors
/// From DataFusion.
pub fn filter_on_views(filter: &FilterExec) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
    let scan = filter.input().downcast_ref::<DataSourceExec>();
    let Some(config) = scan.and_then(|s| s.data_source().downcast_ref::<FileScanConfig>()) else {
        return Ok(None);
    };
    let Some(source) = config.file_source().downcast_ref::<GuardedSource>() else { return Ok(None) };
    let file_schema = source.table_schema().file_schema();
    let conditions = split_conjunction(filter.predicate());
    // More of them stand as they are, balanced: put together anew they would be as deep as they are many.
    if conditions.len() > MOST_CONDITIONS {
        return Ok(None);
    }
    if filter.fetch().is_some() || !file_schema.fields().iter().any(|f| *f.data_type() == DataType::Utf8) {
        return Ok(None);
    }
    let constants = source.table_schema().table_partition_cols().clone();
    let table = TableSchema::new(Arc::new(with_views(file_schema)), constants);
    let predicate = source.filter().map(|p| on_views(p, table.table_schema())).transpose()?;
    let Some(source) = source.over(&table, predicate)? else { return Ok(None) };
    let groups = config.file_groups.iter().map(|group| {
        let files = group.iter().cloned().map(|mut file| {
            file.statistics = file.statistics.map(|s| Arc::new(viewed(Arc::unwrap_or_clone(s), &table)));
            file
        });
        FileGroup::new(files.collect())
    });
    let config = FileScanConfigBuilder::from(config.clone())
        .with_file_groups(groups.collect())
        .with_statistics(viewed(config.statistics(), &table))
        .with_source(source)
        .build();
    let scan = DataSourceExec::from_data_source(config);

    let conditions = conditions.into_iter().map(|c| on_views(Arc::clone(c), &scan.schema()));
    let predicate = conjunction(cheapest_first(conditions.collect::<DfResult<_>>()?));
    let projection = filter.projection().as_ref().map(|p| p.to_vec());
    let filtered = FilterExecBuilder::new(predicate, scan)
        .with_default_selectivity(filter.default_selectivity())
        .apply_projection(projection)?
        .build()?;
    let (schema, found) = (filter.schema(), filtered.schema());
    let columns = schema.fields().iter().zip(found.fields()).enumerate().map(|(i, (wanted, found))| {
        let column: Expr = Arc::new(Column::new(found.name(), i));
        let expr = if wanted.data_type() == found.data_type() { column } else { plain(column) };
        ProjectionExpr { expr, alias: wanted.name().clone() }
    });
    let columns: Vec<ProjectionExpr> = columns.collect();
    Ok(Some(Arc::new(ProjectionExec::try_new(columns, Arc::new(filtered))?)))
}

fn with_views(schema: &Schema) -> Schema {
    let view = |field: &Field| match field.data_type() {
        DataType::Utf8 => field.clone().with_data_type(DataType::Utf8View),
        _ => field.clone(),
    };
    Schema::new(schema.fields().iter().map(|f| view(f)).collect::<Vec<_>>())
}

/// Bounds in the types of views.
fn viewed(mut statistics: Statistics, table: &TableSchema) -> Statistics {
    for (column, field) in statistics.column_statistics.iter_mut().zip(table.table_schema().fields()) {
        if *field.data_type() == DataType::Utf8View {
            for bound in [&mut column.min_value, &mut column.max_value] {
                *bound = match std::mem::take(bound) {
                    Precision::Exact(v) => Precision::Exact(view(v)),
                    Precision::Inexact(v) => Precision::Inexact(view(v)),
                    Precision::Absent => Precision::Absent,
                };
            }
        }
    }
    statistics
}

fn view(value: ScalarValue) -> ScalarValue {
    match value {
        ScalarValue::Utf8(text) => ScalarValue::Utf8View(text),
        other => other,
    }
}

fn plain(column: Expr) -> Expr {
    Arc::new(CastExpr::new(column, DataType::Utf8, None))
}

/// An expression over columns of which some are views now: compared as such with literals, and plain texts to everything
/// else.
fn on_views(expr: Expr, schema: &Schema) -> DfResult<Expr> {
    let is_view = |e: &Expr| {
        e.downcast_ref::<Column>().is_some_and(|c| {
            schema.fields().get(c.index()).is_some_and(|f| *f.data_type() == DataType::Utf8View)
        })
    };
    let as_view = |e: &Expr| -> Option<Expr> {
        if is_view(e) {
            return Some(Arc::clone(e));
        }
        let literal = e.downcast_ref::<Literal>()?.value().clone();
        matches!(literal, ScalarValue::Utf8(_)).then(|| Arc::new(Literal::new(view(literal))) as Expr)
    };
    let settled = |e: Expr| Ok(Transformed::new(e, true, TreeNodeRecursion::Jump));
    expr.transform_down(|e| {
        if let Some(binary) = e.downcast_ref::<BinaryExpr>()
            && binary.op().supports_propagation()
            && let (Some(left), Some(right)) = (as_view(binary.left()), as_view(binary.right()))
            && (is_view(&left) || is_view(&right))
        {
            return settled(Arc::new(BinaryExpr::new(left, *binary.op(), right)));
        }
        if let Some(like) = e.downcast_ref::<LikeExpr>()
            && let (Some(text), Some(pattern)) = (as_view(like.expr()), as_view(like.pattern()))
        {
            return settled(Arc::new(LikeExpr::new(like.negated(), like.case_insensitive(), text, pattern)));
        }
        if let Some(among) = e.downcast_ref::<InListExpr>()
            && is_view(among.expr())
            && let Some(list) = among.list().iter().map(as_view).collect::<Option<Vec<_>>>()
        {
            return settled(in_list(Arc::clone(among.expr()), list, &among.negated(), schema)?);
        }
        if is_view(&e) { settled(plain(e)) } else { Ok(Transformed::no(e)) }
    })
    .data()
}

/// Conditions that cannot fail, those that cost least before the others; then those that can, as they stood.
fn cheapest_first(conditions: Vec<Expr>) -> Vec<Expr> {
    let mut ranked: Vec<(u32, Expr)> =
        conditions.into_iter().map(|c| (cost(&c).unwrap_or(u32::MAX), c)).collect();
    ranked.sort_by_key(|(cost, _)| *cost);
    ranked.into_iter().map(|(_, condition)| condition).collect()
}

/// What a condition costs; `None` if it can fail.
fn cost(expr: &Expr) -> Option<u32> {
    let own = if expr.is::<Column>() || expr.is::<Literal>() {
        0
    } else if expr.is::<IsNullExpr>() || expr.is::<IsNotNullExpr>() || expr.is::<NotExpr>() {
        1
    } else if expr.is::<LikeExpr>() {
        20
    } else if expr.is::<InListExpr>() {
        8
    } else {
        let binary = expr.downcast_ref::<BinaryExpr>()?;
        let is_text =
            |e: &Expr| e.downcast_ref::<Literal>().is_some_and(|l| l.value().try_as_str().is_some());
        match binary.op() {
            Operator::And | Operator::Or => 1,
            Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom => {
                if is_text(binary.left()) || is_text(binary.right()) {
                    4
                } else {
                    2
                }
            }
            _ => return None,
        }
    };
    // The items of a list are looked up at once.
    let parts = expr.children();
    let parts = if expr.is::<InListExpr>() { parts.get(..1)? } else { &parts[..] };
    parts.iter().map(|part| cost(part)).try_fold(own, |sum, cost| Some(sum + cost?))
}

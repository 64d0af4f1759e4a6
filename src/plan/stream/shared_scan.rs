//! Which scans of a job are one source.
//!
//! ```text
//!  all plans of the job ─► survey ─► table + watermark ─► SharedScan: every column and row that some query reads
//!                                                               │ first query that is lowered
//!                                                               ▼
//!                                                          one Source node ─► [Calc with the query's columns] ─► …
//! ```
//!
//! The inserts of a statement set, and the sides of a self join, read a topic once whatever columns each of them wants.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::utils::{conjunction, disjunction};
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};

use crate::error::{Error, Result};
use crate::plan::nodes::lookup_join::lookup_join_node;
use crate::plan::nodes::temporal_join::temporal_join_node;
use crate::plan::nodes::watermark::WatermarkNode;
use crate::plan::stream::StreamPlanner;
use crate::plan::table::ConnectorTable;
use crate::runtime::graph::NodeId;

/// A column as a query calls it, and what it is of the table's columns (without qualifiers).
pub(super) type NamedExpr = (String, Expr);

/// One place in a plan that reads a table.
pub(super) struct ScanUse<'a> {
    /// Equal for uses that can share a source.
    pub key: String,
    /// The scan.
    pub scan: &'a TableScan,
    /// The watermark over it, if any.
    pub watermark: Option<&'a WatermarkNode>,
    /// Columns of the plan, in its order.
    pub columns: Vec<NamedExpr>,
}

/// A table as the whole job reads it.
pub(super) struct SharedScan {
    /// Always a [`ConnectorTable`].
    pub provider: Arc<dyn TableProvider>,
    /// Every column that some query reads.
    pub columns: Vec<NamedExpr>,
    /// For each use, its filters.
    filters: Vec<Vec<Expr>>,
    /// For each use, the filters right behind its watermark.
    filters_behind: Vec<Vec<Expr>>,
    /// For each use, how many rows it needs.
    fetch: Vec<Option<usize>>,
    /// Whether a key that changes twice within one batch has to be told twice.
    pub each_version: bool,
    /// The source node, once a query has been lowered.
    pub node: Option<NodeId>,
}

impl SharedScan {
    /// The connector's table.
    pub fn table(&self) -> Result<&ConnectorTable> {
        connector_table(&self.provider)
    }

    /// Predicates of which a row that some query wants fulfills each.
    pub fn filters(&self) -> Vec<Expr> {
        of_any_use(&self.filters)
    }

    /// Those among them that stand behind the watermark.
    pub fn filters_behind_watermark(&self) -> Vec<Expr> {
        of_any_use(&self.filters_behind)
    }

    /// Whether one query reads it, all of its rows.
    pub fn is_read_once_whole(&self) -> bool {
        matches!((self.filters.as_slice(), self.fetch.as_slice()), ([filters], [None]) if filters.is_empty())
    }

    /// Rows that are enough.
    pub fn limit(&self) -> Option<usize> {
        match self.fetch.as_slice() {
            [only] => *only,
            _ => None,
        }
    }
}

fn of_any_use(filters: &[Vec<Expr>]) -> Vec<Expr> {
    match filters {
        [only] => only.clone(),
        all => {
            let each: Option<Vec<Expr>> = all.iter().map(|f| conjunction(f.clone())).collect();
            each.and_then(disjunction).into_iter().collect()
        }
    }
}

pub(super) fn connector_table(provider: &Arc<dyn TableProvider>) -> Result<&ConnectorTable> {
    provider
        .downcast_ref::<ConnectorTable>()
        .ok_or_else(|| Error::internal(format!("no streaming source: {provider:?}")))
}

/// Sees a plan as a use of a table: a scan, or a watermark over projections over one.
pub(super) fn scan_use(plan: &LogicalPlan) -> Result<Option<ScanUse<'_>>> {
    let (watermark, input) = match plan {
        LogicalPlan::TableScan(_) => (None, plan),
        LogicalPlan::Extension(e) => match e.node.as_any().downcast_ref::<WatermarkNode>() {
            // Nothing is read where no row can meet the conditions.
            Some(node) if matches!(node.input, LogicalPlan::EmptyRelation(_)) => return Ok(None),
            Some(node) => (Some(node), &node.input),
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    let Some((scan, exprs)) = scan_columns(input)? else {
        return Err(Error::internal(format!("a watermark stands over {}", input.display())));
    };
    let provider = source_as_provider(&scan.source)?;
    let mut key = connector_table(&provider)?.identity.to_string();
    if let Some(node) = watermark {
        let expr = substitute(&node.watermark, input.schema(), &exprs)?;
        let column = substitute(&node.column, input.schema(), &exprs)?;
        key.push_str(&format!(" {column} {expr}"));
    }
    let names = input.schema().fields().iter().map(|f| f.name().clone());
    Ok(Some(ScanUse { key, scan, watermark, columns: names.zip(exprs).collect() }))
}

/// A plan of projections over one scan: what its columns are of the scan's.
fn scan_columns(plan: &LogicalPlan) -> Result<Option<(&TableScan, Vec<Expr>)>> {
    Ok(match plan {
        LogicalPlan::TableScan(scan) => {
            let columns = scan.projected_schema.fields().iter();
            Some((scan, columns.map(|f| Expr::Column(Column::new_unqualified(f.name()))).collect()))
        }
        LogicalPlan::SubqueryAlias(alias) => scan_columns(&alias.input)?,
        LogicalPlan::Projection(projection) => match scan_columns(&projection.input)? {
            None => None,
            Some((scan, inner)) => {
                let schema = projection.input.schema();
                let exprs =
                    projection.expr.iter().map(|e| substitute(e, schema, &inner)).collect::<Result<_>>()?;
                Some((scan, exprs))
            }
        },
        _ => None,
    })
}

/// `expr` with the columns of `schema` replaced by `exprs`.
pub(super) fn substitute(expr: &Expr, schema: &DFSchema, exprs: &[Expr]) -> Result<Expr> {
    let replaced = expr.clone().unalias().transform(|e| {
        Ok(match &e {
            Expr::Column(c) => match schema.maybe_index_of_column(c) {
                Some(i) => Transformed::yes(exprs[i].clone()),
                None => Transformed::no(e),
            },
            _ => Transformed::no(e),
        })
    })?;
    Ok(replaced.data)
}

pub(super) fn unqualified(expr: &Expr) -> Result<Expr> {
    let stripped = expr.clone().transform(|e| {
        Ok(match e {
            Expr::Column(c) => Transformed::yes(Expr::Column(Column::new_unqualified(c.name))),
            other => Transformed::no(other),
        })
    })?;
    Ok(stripped.data)
}

impl StreamPlanner {
    /// Notes which tables, columns and rows a plan reads. Every plan of the job is surveyed before the first is added.
    ///
    /// # Errors
    /// Internal for plans that cannot be lowered either.
    pub fn survey(&mut self, plan: &LogicalPlan) -> Result<()> {
        self.nested.extend(crate::plan::logical::nested::nested_paths(plan)?);
        self.survey_scans(plan, None)?;
        self.survey_versions(plan, false)
    }

    /// Notes the tables of which each version counts: those that rows are joined to as of their time.
    fn survey_versions(&mut self, plan: &LogicalPlan, each: bool) -> Result<()> {
        if let Some(found) = scan_use(plan)? {
            if let Some(shared) = self.scans.get_mut(&found.key) {
                shared.each_version |= each;
            }
            return Ok(());
        }
        if let Some(join) = lookup_join_node(plan) {
            return self.survey_versions(&join.left, each);
        }
        if let Some(join) = temporal_join_node(plan) {
            self.survey_versions(&join.left, each)?;
            return self.survey_versions(&join.right, true);
        }
        plan.inputs().into_iter().try_for_each(|input| self.survey_versions(input, each))
    }

    /// `above` is the predicate of a filter above the plan with nothing but chosen columns in between, over the plan's
    /// columns.
    fn survey_scans(&mut self, plan: &LogicalPlan, above: Option<&Expr>) -> Result<()> {
        if let Some(join) = lookup_join_node(plan) {
            // The other side is asked, not read.
            return self.survey_scans(&join.left, None);
        }
        let Some(found) = scan_use(plan)? else {
            let below = match (plan, above) {
                (LogicalPlan::Filter(filter), _) => Some(filter.predicate.clone()),
                (LogicalPlan::Projection(projection), Some(predicate))
                    if projection.expr.iter().all(|e| matches!(e, Expr::Column(_))) =>
                {
                    Some(substitute(predicate, &projection.schema, &projection.expr)?)
                }
                _ => None,
            };
            return plan.inputs().into_iter().try_for_each(|input| self.survey_scans(input, below.as_ref()));
        };
        let mut filters_behind = Vec::new();
        if let (Some(node), Some(predicate)) = (found.watermark, above) {
            let exprs: Vec<Expr> = found.columns.iter().map(|(_, e)| e.clone()).collect();
            filters_behind.push(substitute(predicate, node.input.schema(), &exprs)?);
        }
        let provider = source_as_provider(&found.scan.source)?;
        let filters = found.scan.filters.iter().map(unqualified).collect::<Result<Vec<_>>>()?;
        let shared = self.scans.entry(found.key).or_insert_with(|| SharedScan {
            provider,
            columns: Vec::new(),
            filters: Vec::new(),
            filters_behind: Vec::new(),
            fetch: Vec::new(),
            each_version: false,
            node: None,
        });
        shared.filters.push(filters);
        shared.filters_behind.push(filters_behind);
        shared.fetch.push(found.scan.fetch);
        for column in found.columns {
            if !shared.columns.contains(&column) {
                shared.columns.push(column);
            }
        }
        Ok(())
    }
}

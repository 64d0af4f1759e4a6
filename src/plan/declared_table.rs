//! A declared table in a plan: the scan of its connector, computed and metadata columns in declared order, watermark.
//!
//! ```text
//!  TableScan (physical ++ metadata) ─► Projection (declared order, computed columns) ─► WatermarkNode
//! ```

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::{DFSchema, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, LogicalPlanBuilder};

use crate::catalog::{ResolvedTable, TableDef};
use crate::connectors::values::ValuesSource;
use crate::error::{Error, Result};
use crate::plan::logical::exact_types::settle_exact_types;
use crate::plan::nodes::watermark::WatermarkNode;
use crate::plan::planner::{PlanEnv, Planner};
use crate::plan::planner_options::PlannerOptions;
use crate::plan::table::{ConnectorTable, DerivedTable, WatermarkOptions};
use crate::sql::ast::{ColumnKind, SqlExpr};
use crate::types::LogicalType;

impl Planner {
    /// A table with its computed columns and its watermark.
    pub(super) fn plan_table(
        &self,
        def: &Arc<TableDef>,
        hint: &BTreeMap<String, String>,
    ) -> Result<Arc<dyn TableProvider>> {
        let mut resolved = ResolvedTable::new(def.clone(), hint)?;
        // Hashed, as options may hold secrets.
        let identity = xxhash_rust::xxh3::xxh3_64(format!("{} {:?}", def.path, resolved.options).as_bytes());
        let planned = PlannerOptions::take(&mut resolved).map_err(|e| e.at(def.location))?;
        let source =
            self.env.names.source(&resolved, &self.env.connectors).map_err(|e| e.at(def.location))?;
        let types = declared_types(def, &source.schema());
        let base = ConnectorTable {
            name: def.path.object.clone(),
            identity,
            types,
            source,
            primary_key: primary_key(def),
            duplicates: self
                .env
                .connectors
                .config
                .get("table.exec.source.cdc-events-duplicate")
                .is_some_and(|v| v.trim().eq_ignore_ascii_case("true")),
            watermarks: planned.watermarks,
            parallelism: planned.source_parallelism,
            metrics: self.env.metrics.clone(),
        };
        self.with_derived_columns(def, &resolved, Arc::new(base))
    }

    /// Computed columns, the declared order and the watermark over a scan of `base`.
    fn with_derived_columns(
        &self,
        def: &TableDef,
        resolved: &ResolvedTable,
        base: Arc<dyn TableProvider>,
    ) -> Result<Arc<dyn TableProvider>> {
        let plain = def.watermark.is_none()
            && def.columns.iter().all(|c| matches!(c.kind, ColumnKind::Physical))
            && resolved.metadata.is_empty();
        if plain {
            return Ok(base);
        }
        let reference = TableReference::bare(def.path.object.clone());
        let scan = LogicalPlanBuilder::scan(reference.clone(), provider_as_source(base), None)?;
        let scan_schema = scan.schema().clone();
        let columns = self.columns(def, &scan_schema, &reference)?;
        let plan = scan.project(columns)?.build()?;
        let mut plan = settle_exact_types(plan, self.env.connectors.time_zone)?;
        if let Some(watermark) = &def.watermark {
            let schema = plan.schema().clone();
            let (qualifier, field) =
                schema.iter().find(|(_, f)| f.name() == &watermark.column).ok_or_else(|| {
                    Error::validation(format!("the watermark column '{}' is not defined", watermark.column))
                        .at(watermark.expr.location)
                })?;
            let column = Expr::Column(datafusion::common::Column::from((qualifier, field.as_ref())));
            let expr = self.plan_expr(&watermark.expr, &schema)?;
            plan = LogicalPlan::Extension(Extension {
                node: Arc::new(WatermarkNode { input: plan, column, watermark: expr }),
            });
        }
        Ok(Arc::new(DerivedTable::new(plan)))
    }

    /// The declared columns as expressions over the scan; computed columns may use each other in any order.
    fn columns(&self, def: &TableDef, scan: &DFSchema, reference: &TableReference) -> Result<Vec<Expr>> {
        use datafusion::common::tree_node::{Transformed, TreeNode};
        use datafusion::logical_expr::ExprSchemable;
        let mut computed: BTreeMap<&str, Expr> = BTreeMap::new();
        let mut waiting: Vec<(&str, &SqlExpr)> = def
            .columns
            .iter()
            .filter_map(|c| match &c.kind {
                ColumnKind::Computed(e) => Some((c.name.as_str(), e)),
                _ => None,
            })
            .collect();
        while !waiting.is_empty() {
            let mut schema = scan.clone();
            for (name, expr) in &computed {
                let (_, field) = expr.to_field(scan)?;
                let field = Arc::new(field.as_ref().clone().with_name(*name));
                let added =
                    DFSchema::new_with_metadata(vec![(Some(reference.clone()), field)], HashMap::new())?;
                schema.merge(&added);
            }
            let mut left = Vec::new();
            let mut failure = None;
            let before = waiting.len();
            for (name, expr) in waiting {
                match self.plan_expr(expr, &schema) {
                    Ok(planned) => {
                        let expanded = planned.transform(|e| {
                            Ok(match &e {
                                Expr::Column(c) => match computed.get(c.name.as_str()) {
                                    Some(inner) if !scan.has_column(c) => Transformed::yes(inner.clone()),
                                    _ => Transformed::no(e),
                                },
                                _ => Transformed::no(e),
                            })
                        })?;
                        computed.insert(name, expanded.data);
                    }
                    Err(e) => {
                        failure = Some(e);
                        left.push((name, expr));
                    }
                }
            }
            if left.len() == before
                && let Some(e) = failure
            {
                return Err(e.context(format!("computed column of table {}", def.path.object)));
            }
            waiting = left;
        }
        def.columns
            .iter()
            .map(|c| {
                let expr = match computed.remove(c.name.as_str()) {
                    Some(e) => e,
                    None => {
                        let (qualifier, field) =
                            scan.iter().find(|(_, f)| f.name() == &c.name).ok_or_else(|| {
                                Error::internal(format!("the source of {} lacks column {}", def.path, c.name))
                            })?;
                        return Ok(Expr::Column(datafusion::common::Column::from((
                            qualifier,
                            field.as_ref(),
                        ))));
                    }
                };
                Ok(expr.alias_qualified(Some(reference.clone()), c.name.clone()))
            })
            .collect()
    }

    /// The columns of a table with the types of computed ones, without touching its connector: for DESCRIBE.
    ///
    /// # Errors
    /// Validation if an expression does not plan.
    pub fn table_schema(env: &PlanEnv, def: &Arc<TableDef>) -> Result<SchemaRef> {
        let planner = Planner::new(env.clone(), Vec::new());
        let resolved = ResolvedTable::new(def.clone(), &BTreeMap::new())?;
        let base = ConnectorTable {
            name: def.path.object.clone(),
            identity: 0,
            types: declared_types(def, &resolved.scan_schema()),
            source: Arc::new(ValuesSource::new(resolved.scan_schema(), Vec::new())),
            primary_key: primary_key(def),
            duplicates: false,
            watermarks: WatermarkOptions::default(),
            parallelism: None,
            metrics: env.metrics.clone(),
        };
        Ok(planner.with_derived_columns(def, &resolved, Arc::new(base))?.schema())
    }
}

/// The columns of a source as they are declared, with what of their types Arrow does not know.
fn declared_types(def: &TableDef, schema: &SchemaRef) -> Vec<Option<LogicalType>> {
    let declared = |name: &String| def.columns.iter().find(|c| c.name == *name).and_then(|c| c.ty.clone());
    schema.fields().iter().map(|f| declared(f.name())).collect()
}

fn primary_key(def: &TableDef) -> Vec<String> {
    def.primary_key.as_ref().map(|k| k.columns.clone()).unwrap_or_default()
}

//! Lowering of tables and constant rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchemaRef, ScalarValue};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{
    EmptyRelation, Expr, LogicalPlan, Operator as BinaryOperator, TableScan, Values,
};

use crate::connectors::values::ValuesSource;
use crate::connectors::{ScanRequest, Source, SourceChangelog};
use crate::error::{Error, Result};
use crate::plan::stream::{Relation, StreamPlanner, not_yet, physical_expr};
use crate::plan::table::ConnectorTable;
use crate::plan::watermark::WatermarkNode;
use crate::runtime::graph::{ChangelogMode, Node, NodeKind};
use crate::runtime::operator::BATCH_ROWS;
use crate::runtime::source::{SourceSpec, WatermarkExpr};

/// A scan and the columns made of it, as expressions over the scan.
struct ScanColumns<'a> {
    scan: &'a TableScan,
    exprs: Vec<Expr>,
}

/// Sees a plan as projections over one scan, if it is.
fn scan_columns(plan: &LogicalPlan) -> Result<Option<ScanColumns<'_>>> {
    Ok(match plan {
        LogicalPlan::TableScan(scan) => {
            let exprs = scan.projected_schema.columns().into_iter().map(Expr::Column).collect();
            Some(ScanColumns { scan, exprs })
        }
        LogicalPlan::SubqueryAlias(alias) => scan_columns(&alias.input)?,
        LogicalPlan::Projection(projection) => match scan_columns(&projection.input)? {
            None => None,
            Some(inner) => {
                let schema = projection.input.schema();
                let exprs = projection
                    .expr
                    .iter()
                    .map(|e| {
                        let substituted = e.clone().transform(|e| {
                            Ok(match &e {
                                Expr::Column(c) => match schema.maybe_index_of_column(c) {
                                    Some(i) => Transformed::yes(inner.exprs[i].clone().unalias()),
                                    None => Transformed::no(e),
                                },
                                _ => Transformed::no(e),
                            })
                        })?;
                        Ok(substituted.data)
                    })
                    .collect::<Result<_>>()?;
                Some(ScanColumns { scan: inner.scan, exprs })
            }
        },
        _ => None,
    })
}

impl StreamPlanner {
    /// A scan, or a watermark over one.
    pub(super) fn lower_source(&mut self, plan: &LogicalPlan) -> Result<Relation> {
        let (watermark, input) = match plan {
            LogicalPlan::Extension(e) => match e.node.as_any().downcast_ref::<WatermarkNode>() {
                Some(node) => (Some(node), &node.input),
                None => return Err(not_yet(e.node.name())),
            },
            _ => (None, plan),
        };
        let Some(ScanColumns { scan, exprs }) = scan_columns(input)? else {
            return Err(Error::internal(format!("a watermark stands over {}", input.display())));
        };
        let provider = source_as_provider(&scan.source)?;
        let table = provider
            .as_any()
            .downcast_ref::<ConnectorTable>()
            .ok_or_else(|| Error::internal(format!("table {} has no streaming source", scan.table_name)))?;
        let changelog = match table.source.changelog() {
            SourceChangelog::AppendOnly => ChangelogMode::APPEND_ONLY,
            SourceChangelog::Retract => ChangelogMode::ALL,
            SourceChangelog::Upsert => return Err(not_yet("an upsert source")),
        };
        let key = format!("{}\n{}\n{:?}", table.identity, plan.display_indent(), self.nested);
        if let Some(shared) = self.sources.get(&key) {
            return Ok(Relation { schema: plan.schema().clone(), ..shared.clone() });
        }
        let schema = input.schema();
        let scan_schema = scan.projected_schema.as_ref();
        let identity = exprs.len() == scan_schema.fields().len()
            && exprs.iter().enumerate().all(
                |(i, e)| matches!(e, Expr::Column(c) if scan_schema.maybe_index_of_column(c) == Some(i)),
            );
        let physical: SchemaRef = Arc::new(schema.as_arrow().clone());
        let projection = if identity {
            None
        } else {
            let compiled = exprs
                .iter()
                .map(|e| physical_expr(&e.clone().unalias(), scan_schema, &self.options.props))
                .collect::<Result<Vec<_>>>()?;
            Some((compiled, physical.clone()))
        };
        let mut rowtime = BTreeSet::new();
        let watermark = match watermark {
            None => None,
            Some(node) => {
                let (expr, column) = self.watermark(node, schema)?;
                rowtime.insert(column);
                Some(expr)
            }
        };
        let mut detail = format!("table=[{}]", table.name);
        let names: Vec<&str> = physical.fields().iter().map(|f| f.name().as_str()).collect();
        detail.push_str(&format!(", fields=[{}]", names.join(", ")));
        if let LogicalPlan::Extension(e) = plan
            && let Some(node) = e.node.as_any().downcast_ref::<WatermarkNode>()
        {
            detail.push_str(&format!(", watermark=[{}]", node.watermark));
        }
        let request = ScanRequest {
            projection: scan.projection.clone(),
            filters: scan.filters.clone(),
            limit: scan.fetch,
            nested: Some(self.nested.iter().cloned().collect()),
            batch_rows: BATCH_ROWS,
            metrics: table.metrics.add_source(),
        };
        let idle_timeout =
            table.idle_timeout.or(self.options.idle_timeout).filter(|t| !t.is_zero() && watermark.is_some());
        let uid = self.uid("Source", &detail, &[]);
        let node = self.graph.add(Node {
            uid,
            name: "Source",
            detail,
            parallelism: self.options.parallelism,
            inputs: Vec::new(),
            changelog,
            kind: NodeKind::Source {
                source: table.source.clone(),
                scan: request,
                spec: SourceSpec { projection, watermark, idle_timeout },
            },
        });
        let primary_key: Option<Vec<usize>> = table
            .primary_key
            .iter()
            .map(|name| {
                exprs.iter().position(|e| matches!(e.clone().unalias(), Expr::Column(c) if &c.name == name))
            })
            .collect();
        let keys = primary_key.filter(|k| !k.is_empty()).into_iter().collect();
        let relation =
            Relation::plain(node, plan.schema().clone(), physical, changelog, rowtime).with_keys(keys);
        self.sources.insert(key, relation.clone());
        Ok(relation)
    }

    /// The watermark over the columns of `schema`, and its row time column.
    fn watermark(&self, node: &WatermarkNode, schema: &DFSchemaRef) -> Result<(WatermarkExpr, usize)> {
        let column_of = |e: &Expr| match e {
            Expr::Column(c) => schema.maybe_index_of_column(c),
            _ => None,
        };
        let column = column_of(&node.column)
            .ok_or_else(|| Error::internal(format!("the row time {} was lost", node.column)))?;
        let delay = |left: &Expr, right: &Expr, sign: i64| -> Option<i64> {
            (column_of(left) == Some(column)).then_some(())?;
            let Expr::Literal(value, _) = right else { return None };
            let nanos = match value {
                ScalarValue::IntervalMonthDayNano(Some(v)) if v.months == 0 => {
                    i64::from(v.days) * 86_400_000_000_000 + v.nanoseconds
                }
                ScalarValue::IntervalDayTime(Some(v)) => {
                    i64::from(v.days) * 86_400_000_000_000 + i64::from(v.milliseconds) * 1_000_000
                }
                _ => return None,
            };
            Some(sign * nanos.div_euclid(1_000_000))
        };
        let simple = match &node.watermark {
            e if column_of(e) == Some(column) => Some(0),
            Expr::BinaryExpr(b) => match b.op {
                BinaryOperator::Minus => delay(&b.left, &b.right, 1),
                BinaryOperator::Plus => delay(&b.left, &b.right, -1),
                _ => None,
            },
            _ => None,
        };
        let expr = match simple {
            Some(delay_ms) => WatermarkExpr::Delay { column, delay_ms },
            None => WatermarkExpr::Any {
                column,
                expr: physical_expr(&node.watermark, schema, &self.options.props)?,
            },
        };
        Ok((expr, column))
    }

    /// `VALUES`.
    pub(super) fn lower_values(&mut self, values: &Values) -> Result<Relation> {
        let schema: SchemaRef = Arc::new(values.schema.as_arrow().clone());
        let empty = datafusion::common::DFSchema::empty();
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let one_row =
            RecordBatch::try_new_with_options(Arc::new(arrow::datatypes::Schema::empty()), vec![], &options)?;
        let mut columns: Vec<ArrayRef> = Vec::new();
        for (i, field) in schema.fields().iter().enumerate() {
            let cells = values
                .values
                .iter()
                .map(|row| {
                    let expr = physical_expr(&row[i], &empty, &self.options.props)?;
                    let cell = expr.evaluate(&one_row)?.into_array(1)?;
                    Ok(arrow::compute::cast(&cell, field.data_type())?)
                })
                .collect::<Result<Vec<_>>>()?;
            let cells: Vec<&dyn arrow::array::Array> = cells.iter().map(AsRef::as_ref).collect();
            columns.push(arrow::compute::concat(&cells)?);
        }
        let rows = RecordBatch::try_new(schema.clone(), columns)?;
        Ok(self.constant(ValuesSource::new(schema, vec![rows]), values.schema.clone(), "Values"))
    }

    /// `SELECT` without `FROM`, or a relation that the optimizer found to be empty.
    pub(super) fn lower_empty(&mut self, empty: &EmptyRelation) -> Result<Relation> {
        let schema: SchemaRef = Arc::new(empty.schema.as_arrow().clone());
        let batches = if empty.produce_one_row {
            let options = RecordBatchOptions::new().with_row_count(Some(1));
            let columns =
                schema.fields().iter().map(|f| arrow::array::new_null_array(f.data_type(), 1)).collect();
            vec![RecordBatch::try_new_with_options(schema.clone(), columns, &options)?]
        } else {
            Vec::new()
        };
        Ok(self.constant(ValuesSource::new(schema, batches), empty.schema.clone(), "Values"))
    }

    fn constant(&mut self, source: ValuesSource, schema: DFSchemaRef, name: &'static str) -> Relation {
        let physical = source.schema();
        let uid = self.uid(name, &format!("{source:?}"), &[]);
        let node = self.graph.add(Node {
            uid,
            name,
            detail: String::new(),
            parallelism: 1,
            inputs: Vec::new(),
            changelog: ChangelogMode::APPEND_ONLY,
            kind: NodeKind::Source {
                source: Arc::new(source),
                scan: ScanRequest { batch_rows: BATCH_ROWS, ..ScanRequest::default() },
                spec: SourceSpec::default(),
            },
        });
        Relation::plain(node, schema, physical, ChangelogMode::APPEND_ONLY, BTreeSet::new())
    }
}

//! Lowering of tables and constant rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
use datafusion::common::{Column, DFSchema, DFSchemaRef};
use datafusion::logical_expr::{
    EmptyRelation, Expr, ExprSchemable, LogicalPlan, Operator as BinaryOperator, Values,
};

use crate::connectors::values::ValuesSource;
use crate::edges::{ScanRequest, Source, SourceChangelog};
use crate::error::{Error, Result};
use crate::plan::interval::milliseconds;
use crate::plan::nodes::watermark::WatermarkNode;
use crate::plan::stream::shared_scan::scan_use;
use crate::plan::stream::{ColumnRef, Relation, StreamPlanner, not_yet, physical_expr};
use crate::plan::time_attribute::is_proctime_call;
use crate::runtime::alignment::Alignment;
use crate::runtime::graph::{ChangelogMode, Node, NodeKind};
use crate::runtime::source::{SourceSpec, WatermarkExpr};
use crate::stream::BATCH_ROWS;

impl StreamPlanner {
    /// A scan, or a watermark over one: the source that all its users in the job share.
    pub(super) fn lower_source(&mut self, plan: &LogicalPlan) -> Result<Relation> {
        let Some(found) = scan_use(plan)? else { return Err(not_yet(&plan.display().to_string())) };
        let shared = self
            .scans
            .get_mut(&found.key)
            .ok_or_else(|| Error::internal(format!("{} was not surveyed", found.scan.table_name)))?;
        let table = shared.table()?;
        let changelog = match table.source.changelog() {
            SourceChangelog::AppendOnly => ChangelogMode::APPEND_ONLY,
            SourceChangelog::Retract => ChangelogMode::ALL,
            SourceChangelog::Upsert => ChangelogMode::UPSERT,
        };
        let normalized = table.normalized_by()?.is_some() && !self.passes_upserts;
        if table.normalized_by()?.is_some() {
            // The key is read in any case.
            for name in table.primary_key.clone() {
                let column = Expr::Column(Column::new_unqualified(name.clone()));
                if !shared.columns.iter().any(|(_, e)| *e == column) {
                    shared.columns.push((name, column));
                }
            }
        }
        let shared = self
            .scans
            .get(&found.key)
            .ok_or_else(|| Error::internal(format!("{} was not surveyed", found.scan.table_name)))?;
        let table = shared.table()?;
        let source_schema = table.source.schema();
        let mut read: Vec<usize> = Vec::new();
        for (_, expr) in &shared.columns {
            for column in expr.column_refs() {
                read.push(source_schema.index_of(&column.name)?);
            }
        }
        read.sort_unstable();
        read.dedup();
        let scan_schema = DFSchema::try_from(source_schema.project(&read)?)?;
        let fields = shared.columns.iter().map(|(name, expr)| {
            let (_, field) = expr.to_field(&scan_schema)?;
            Ok(Arc::new(field.as_ref().clone().with_name(name)))
        });
        let physical: SchemaRef = Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?));
        let column_of = |name: &str| {
            shared.columns.iter().position(|(_, e)| matches!(e, Expr::Column(c) if c.name == name))
        };
        let primary_key: Option<Vec<usize>> = table.primary_key.iter().map(|c| column_of(c)).collect();
        let columns = found
            .columns
            .iter()
            .map(|column| {
                let position = shared.columns.iter().position(|c| c == column);
                position.map(ColumnRef::Physical).ok_or_else(|| Error::internal("a column was not surveyed"))
            })
            .collect::<Result<Vec<_>>>()?;
        let mut relation =
            Relation::plain(0, plan.schema().clone(), physical.clone(), changelog, BTreeSet::new())
                .with_keys(primary_key.filter(|k| !k.is_empty()).into_iter().collect());
        relation.columns = columns;
        let is_proctime = |(_, column): &(usize, &(String, Expr))| is_proctime_call(&column.1);
        relation.proctime = shared.columns.iter().enumerate().filter(is_proctime).map(|(i, _)| i).collect();
        let watermark = match found.watermark {
            None => None,
            Some(node) => {
                let (expr, column) = self.watermark(node, &relation)?;
                relation.rowtime.insert(column);
                Some(expr)
            }
        };
        if let Some(node) = shared.node {
            relation.node = node;
            relation.changelog = self.graph.nodes[node].changelog;
            return self.trim(relation);
        }
        let identity =
            shared.columns.len() == read.len()
                && shared.columns.iter().enumerate().all(
                    |(i, (_, e))| matches!(e, Expr::Column(c) if scan_schema.field(i).name() == &c.name),
                );
        let projection = if identity {
            None
        } else {
            let compiled = shared
                .columns
                .iter()
                .map(|(_, e)| physical_expr(e, &scan_schema, &self.options.props))
                .collect::<Result<Vec<_>>>()?;
            Some((compiled, physical.clone()))
        };
        let names: Vec<&str> = physical.fields().iter().map(|f| f.name().as_str()).collect();
        let mut detail = format!("table=[{}], fields=[{}]", table.name, names.join(", "));
        if let Some(node) = found.watermark {
            detail.push_str(&format!(", watermark=[{}]", node.watermark));
        }
        // Only of `column - delay` is it known what a dropped row does to the watermark.
        let filters_behind_watermark = match &watermark {
            Some(WatermarkExpr::Delay { .. }) => shared.filters_behind_watermark(),
            _ => Vec::new(),
        };
        let request = ScanRequest {
            projection: (read.len() < source_schema.fields().len()).then_some(read),
            filters: shared.filters(),
            filters_behind_watermark,
            limit: shared.limit(),
            nested: Some(self.nested.iter().cloned().collect()),
            batch_rows: BATCH_ROWS,
            metrics: table.metrics.add_source(),
        };
        let parallelism = table.parallelism.unwrap_or(self.options.parallelism);
        let has_time = watermark.is_some();
        let idle_timeout = table.watermarks.idle_timeout.or(self.options.idle_timeout);
        let idle_timeout = idle_timeout.filter(|t| !t.is_zero() && has_time);
        let alignment = table.watermarks.alignment.as_ref().filter(|_| has_time).map(|options| Alignment {
            group: Arc::clone(self.alignments.entry(options.group.clone()).or_default()),
            max_drift: options.max_drift,
            update_interval: options.update_interval,
        });
        let kind = NodeKind::Source {
            source: table.source.clone(),
            scan: request,
            spec: SourceSpec {
                projection,
                watermark,
                idle_timeout,
                on_event: table.watermarks.on_event && has_time,
                alignment,
                in_turn: table.source.reads_in_turn(),
                table: table.name.clone(),
                ..SourceSpec::default()
            },
        };
        let uid = self.uid("Source", &detail, &[]);
        relation.node = self.graph.add(Node {
            uid,
            name: "Source",
            detail,
            parallelism,
            inputs: Vec::new(),
            changelog,
            kind,
        });
        if normalized {
            let key = relation.keys.first().cloned().unwrap_or_default();
            let each_version = self.scans.get(&found.key).is_some_and(|shared| shared.each_version);
            let bundle = self.options.bundle_rows;
            if each_version {
                self.options.bundle_rows = Some(1);
            }
            let normalized = self.lower_changelog_normalize(relation, &key);
            self.options.bundle_rows = bundle;
            relation = normalized?;
        }
        if let Some(shared) = self.scans.get_mut(&found.key) {
            shared.node = Some(relation.node);
        }
        self.trim(relation)
    }

    /// The watermark over the physical columns of `relation`, and its row time column.
    fn watermark(&self, node: &WatermarkNode, relation: &Relation) -> Result<(WatermarkExpr, usize)> {
        let column_of = |e: &Expr| match relation.column_of(e).map(|i| relation.columns[i]) {
            Some(ColumnRef::Physical(p)) => Some(p),
            _ => None,
        };
        let column = column_of(&node.column)
            .ok_or_else(|| Error::internal(format!("the row time {} was lost", node.column)))?;
        let delay = |left: &Expr, right: &Expr, sign: i64| -> Option<i64> {
            (column_of(left) == Some(column)).then_some(())?;
            let Expr::Literal(value, _) = right else { return None };
            Some(sign * milliseconds(value)?)
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
            None => WatermarkExpr::Any { column, expr: self.physical(&node.watermark, relation)? },
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
        // By what is written: RAND() and LOCALTIMESTAMP give another value whenever a job is planned again.
        let written: Vec<String> = values.values.iter().flatten().map(ToString::to_string).collect();
        let detail = format!("{:?} {}", values.schema.field_names(), written.join(", "));
        Ok(self.constant(ValuesSource::new(schema, vec![rows]), values.schema.clone(), &detail))
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
        let detail = format!("{:?} {}", empty.schema.field_names(), empty.produce_one_row);
        let is_time = |c: &usize| {
            matches!(
                schema.field(*c).data_type(),
                DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, _)
            )
        };
        let times = (0..schema.fields().len()).filter(is_time).collect();
        let mut relation =
            self.constant(ValuesSource::new(schema.clone(), batches), empty.schema.clone(), &detail);
        if !empty.produce_one_row {
            // Which of the columns were row times is not known any more; of no rows, every time may be one.
            relation.rowtime = times;
        }
        Ok(relation)
    }

    /// No rows, of which a column is the row time.
    pub(super) fn lower_empty_timed(&mut self, empty: &EmptyRelation, time: &Expr) -> Result<Relation> {
        let mut relation = self.lower_empty(empty)?;
        relation.rowtime = relation.column_of(time).into_iter().collect();
        Ok(relation)
    }

    fn constant(&mut self, source: ValuesSource, schema: DFSchemaRef, detail: &str) -> Relation {
        let physical = source.schema();
        let uid = self.uid("Values", detail, &[]);
        let node = self.graph.add(Node {
            uid,
            name: "Values",
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

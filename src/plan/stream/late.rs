//! `table.exec.late-data.table`: rows that an operator would drop because they are late go to a table.
//!
//! ```text
//!  input ══ key ══► LateRows ─┬─► Calc[not late] ══ key ══► the operator
//!                             └─► Calc[late, columns of the table] ─► Union ─► Sink
//! ```
//!
//! Columns of the table are found by their names among those of the rows; `late_operator` is the name of the operator and
//! `late_watermark` the watermark at the row, and what else the rows do not have is NULL.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::physical_expr::expressions::{Column, Literal, NotExpr};
use datafusion::physical_plan::PhysicalExpr;

use crate::edges::{Sink, WriteMode};
use crate::error::{Error, Result};
use crate::operators::calc::{CalcConfig, column_exprs};
use crate::operators::late_rows::{LateRowsOperator, LateRule};
use crate::operators::union::UnionOperator;
use crate::plan::stream::{ColumnRef, Relation, StreamPlanner};
use crate::runtime::exchange::Partitioning;
use crate::runtime::graph::{ChangelogMode, Edge, Node, NodeId, NodeKind, OperatorFactory, UpdateBefore};
use crate::types::sql_name;

/// The table for late rows.
#[derive(Debug, Clone)]
pub struct LateTarget {
    /// It.
    pub sink: Arc<dyn Sink>,
    /// Its name.
    pub name: String,
}

const OPERATOR: &str = "late_operator";
const WATERMARK: &str = "late_watermark";

impl StreamPlanner {
    /// Takes the late rows out of the input of an operator that would drop them, if there is a table for them. `keys`:
    /// those of the operator's exchange.
    pub(super) fn without_late_rows(
        &mut self,
        input: Relation,
        keys: &[usize],
        time: usize,
        rule: LateRule,
        operator: &str,
    ) -> Result<Relation> {
        let Some(target) = self.options.late.clone().filter(|_| input.changelog.is_append_only()) else {
            return Ok(input);
        };
        let schema = LateRowsOperator::schema(&input.physical);
        let made = schema.clone();
        let factory: OperatorFactory =
            Arc::new(move |_| Ok(Box::new(LateRowsOperator::new(rule, time, made.clone()))));
        let mode = ChangelogMode::APPEND_ONLY;
        let detail = format!("before=[{operator}]");
        let marked = self.add_operator("LateRows", detail, &input, mode, Some(keys.to_vec()), factory);
        let at = Relation { node: marked, ..input.clone() };
        let width = input.physical.fields().len();
        let is_late: Arc<dyn PhysicalExpr> = Arc::new(Column::new("__late", width));
        let late = CalcConfig {
            condition: Some(Arc::clone(&is_late)),
            projection: Some(self.late_columns(&input, &target, operator)?),
            schema: target.sink.schema(),
        };
        let late = self.add_calc(late, format!("late rows of {operator}"), &at);
        self.late.push(late);
        let all: Vec<usize> = (0..width).collect();
        let in_time = CalcConfig {
            condition: Some(Arc::new(NotExpr::new(is_late))),
            projection: Some(column_exprs(&input.physical, &all)),
            schema: input.physical.clone(),
        };
        let node = self.add_calc(in_time, format!("rows in time of {operator}"), &at);
        Ok(Relation { node, ..input })
    }

    /// The columns of the table, over the marked rows.
    fn late_columns(
        &self,
        input: &Relation,
        target: &LateTarget,
        operator: &str,
    ) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
        let width = input.physical.fields().len();
        let schema = target.sink.schema();
        let columns = schema.fields().iter().map(|field| {
            let own = input.schema.fields().iter().zip(&input.columns).find_map(|(f, place)| match place {
                ColumnRef::Physical(p) if f.name() == field.name() => Some(*p),
                _ => None,
            });
            // The time of windows, which stands for their start and end.
            let own = own.or_else(|| input.physical.index_of(field.name()).ok());
            let (column, ty): (Arc<dyn PhysicalExpr>, DataType) = match (own, field.name().as_str()) {
                (Some(p), name) => {
                    (Arc::new(Column::new(name, p)), input.physical.field(p).data_type().clone())
                }
                (None, OPERATOR) => {
                    let text = ScalarValue::Utf8(Some(operator.to_owned()));
                    (Arc::new(Literal::new(text)), DataType::Utf8)
                }
                (None, WATERMARK) => {
                    let marked = LateRowsOperator::schema(&input.physical);
                    let ty = marked.field(width + 1).data_type().clone();
                    (Arc::new(Column::new("__watermark", width + 1)), ty)
                }
                (None, _) if field.is_nullable() => {
                    let null = ScalarValue::try_from(field.data_type())?;
                    (Arc::new(Literal::new(null)), field.data_type().clone())
                }
                (None, name) => {
                    return Err(Error::validation(format!(
                        "the table for late rows {} has the column `{name}`, which is NOT NULL and not among those of {operator}",
                        target.name
                    ))
                    .hint("let it be NULL, or leave it out"));
                }
            };
            if ty != *field.data_type() {
                return Err(Error::validation(format!(
                    "the table for late rows {} has the column `{}` of type {}, which is {} before {operator}",
                    target.name,
                    field.name(),
                    sql_name(field.data_type()),
                    sql_name(&ty)
                ))
                .hint("columns are found by their names and have their types"));
            }
            Ok(column)
        });
        columns.collect()
    }

    /// Ends the late rows of all operators in the table for them.
    pub fn add_late_sink(&mut self) {
        let Some(target) = self.options.late.clone().filter(|_| !self.late.is_empty()) else { return };
        let nodes = std::mem::take(&mut self.late);
        let parallelism = nodes.iter().map(|n| self.graph.nodes[*n].parallelism).max().unwrap_or(1);
        let schema: SchemaRef = target.sink.schema();
        let edges = nodes.iter().map(|n| Edge {
            from: *n,
            port: 0,
            partitioning: if self.graph.nodes[*n].parallelism == parallelism {
                Partitioning::Forward
            } else {
                Partitioning::Rebalance
            },
            update_before: UpdateBefore::Inherit,
        });
        let inputs: Vec<Edge> = edges.collect();
        let factory: OperatorFactory = Arc::new(move |_| Ok(Box::new(UnionOperator::new(schema.clone()))));
        let uid = self.uid("Union", "late rows", &nodes);
        let union: NodeId = self.graph.add(Node {
            uid,
            name: "Union",
            detail: "late rows".to_owned(),
            parallelism,
            inputs,
            changelog: ChangelogMode::APPEND_ONLY,
            kind: NodeKind::Operator(factory),
        });
        let uid = self.uid("Sink", &target.name, &[union]);
        let partitioning = match target.sink.distribute_by() {
            Some(columns) if parallelism > 1 => Partitioning::Hash(columns),
            _ => Partitioning::Forward,
        };
        self.graph.add(Node {
            uid,
            name: "Sink",
            detail: format!("table=[{}], late rows", target.name),
            parallelism,
            inputs: vec![Edge { from: union, port: 0, partitioning, update_before: UpdateBefore::Inherit }],
            changelog: ChangelogMode::APPEND_ONLY,
            kind: NodeKind::Sink { sink: target.sink, mode: WriteMode::Append },
        });
    }
}

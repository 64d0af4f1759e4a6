//! A lowered relation: the node that produces it, and how the plan's columns lie in its batches.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use chrono_tz::Tz;
use datafusion::common::{Column, DFSchema, DFSchemaRef};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::PhysicalExpr;

use crate::error::{Error, Result};
use crate::operators::calc::CalcConfig;
use crate::operators::session_window::{SessionWindowConfig, SessionWindowOperator};
use crate::operators::window_aggregate::WindowSpec;
use crate::operators::window_table_function::WindowTableFunctionOperator;
use crate::plan::nodes::window_tvf::{WINDOW_END, WINDOW_START, WINDOW_TIME, WindowColumns, WindowTvfNode};
use crate::plan::stream::StreamPlanner;
use crate::plan::time_attribute::{is_proctime_call, shifted_time};
use crate::runtime::graph::{ChangelogMode, NodeId, OperatorFactory};
use crate::types::sql_name;

/// Where a column of the plan is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnRef {
    /// In the batches.
    Physical(usize),
    /// `window_start` of the pending window.
    Start,
    /// `window_end`.
    End,
    /// `window_time`.
    Time,
}

/// A window that has not been assigned to rows yet.
#[derive(Debug, Clone)]
pub struct PendingWindow {
    /// The windows.
    pub spec: WindowSpec,
    /// Physical column of the time.
    pub time_column: usize,
    /// Physical columns that partition sessions.
    pub partition: Vec<usize>,
    /// Rows are of the processing time at which they come.
    pub by_proctime: bool,
    /// It stands in GROUP BY.
    pub of_group: bool,
    /// As it reads in plans.
    pub text: String,
}

/// Physical columns that hold the window of each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachedWindow {
    /// `window_start`.
    pub start: usize,
    /// `window_end`.
    pub end: usize,
    /// Zone of the windows, if they are over instants.
    pub zone: Option<Tz>,
    /// Windows that end together may start at different times.
    pub is_session: bool,
    /// They end by the clock.
    pub by_proctime: bool,
}

/// A lowered relation.
#[derive(Debug, Clone)]
pub struct Relation {
    /// The node that produces it.
    pub node: NodeId,
    /// Columns of the plan.
    pub schema: DFSchemaRef,
    /// Columns of the batches; may hold hidden ones that the plan does not know.
    pub physical: SchemaRef,
    /// For each column of the plan, where it is.
    pub columns: Vec<ColumnRef>,
    /// Kinds of changes.
    pub changelog: ChangelogMode,
    /// Physical columns that are row time attributes.
    pub rowtime: BTreeSet<usize>,
    /// Physical columns that are processing time attributes. They hold the clock of when their rows were read; what works
    /// by processing time takes the `now` of its own task instead.
    pub proctime: BTreeSet<usize>,
    /// The pending window, if any.
    pub window: Option<PendingWindow>,
    /// Window columns made by an earlier window, if any.
    pub attached: Option<AttachedWindow>,
    /// Sets of physical columns of which each is unique in the table that the changes add up to, at any time: upsert
    /// keys. `[[]]` is a table of at most one row.
    pub keys: Vec<Vec<usize>>,
}

impl Relation {
    /// A relation whose batches hold exactly the plan's columns.
    pub fn plain(
        node: NodeId,
        schema: DFSchemaRef,
        physical: SchemaRef,
        changelog: ChangelogMode,
        rowtime: BTreeSet<usize>,
    ) -> Self {
        let columns = (0..physical.fields().len()).map(ColumnRef::Physical).collect();
        Relation {
            node,
            schema,
            physical,
            columns,
            changelog,
            rowtime,
            proctime: BTreeSet::new(),
            window: None,
            attached: None,
            keys: Vec::new(),
        }
    }

    /// The same with upsert keys.
    #[must_use]
    pub fn with_keys(self, keys: Vec<Vec<usize>>) -> Self {
        Relation { keys, ..self }
    }

    /// The same with processing time attributes.
    #[must_use]
    pub fn with_proctime(self, proctime: BTreeSet<usize>) -> Self {
        Relation { proctime, ..self }
    }

    /// Processing time attributes after physical column `i` has become `to(i)`.
    pub fn mapped_proctime(&self, to: impl Fn(usize) -> Option<usize>) -> BTreeSet<usize> {
        self.proctime.iter().filter_map(|c| to(*c)).collect()
    }

    /// Upsert keys after physical column `i` has become `to(i)`; a key that lost a column is none.
    pub fn mapped_keys(&self, to: impl Fn(usize) -> Option<usize>) -> Vec<Vec<usize>> {
        self.keys.iter().filter_map(|key| key.iter().map(|c| to(*c)).collect()).collect()
    }

    /// Whether some upsert key lies within the physical `columns`.
    pub fn is_unique_by(&self, columns: &[usize]) -> bool {
        self.keys.iter().any(|key| key.iter().all(|c| columns.contains(c)))
    }

    /// Index of the plan's column that `expr` is, aliases aside.
    pub fn column_of(&self, expr: &Expr) -> Option<usize> {
        match expr {
            Expr::Column(c) => self.schema.maybe_index_of_column(c),
            Expr::Alias(a) => self.column_of(&a.expr),
            _ => None,
        }
    }

    /// Whether `expr` uses a column of the pending window.
    ///
    /// # Errors
    /// Internal if a column is unknown.
    pub fn uses_window(&self, expr: &Expr) -> Result<bool> {
        if self.window.is_none() {
            return Ok(false);
        }
        for column in expr.column_refs() {
            let i = self.schema.maybe_index_of_column(column).ok_or_else(|| {
                Error::internal(format!("column {column} is not in {:?}", self.schema.columns()))
            })?;
            if !matches!(self.columns[i], ColumnRef::Physical(_)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a condition on `expr` has to wait for the pending window: where it uses its columns, and where it would take rows
    /// out of the middle of sessions. Those of whole partitions may go before.
    ///
    /// # Errors
    /// Internal if a column is unknown.
    pub fn filters_window(&self, expr: &Expr) -> Result<bool> {
        let Some(window) = self.window.as_ref().filter(|w| w.spec.is_session()) else {
            return self.uses_window(expr);
        };
        let is_key = |c: &Column| {
            let place = self.schema.maybe_index_of_column(c).and_then(|i| self.columns.get(i));
            matches!(place, Some(ColumnRef::Physical(p)) if window.partition.contains(p))
        };
        Ok(expr.is_volatile() || !expr.column_refs().into_iter().all(is_key))
    }

    /// The physical columns under the plan's names; hidden ones get names of their own.
    ///
    /// # Errors
    /// From DataFusion, if names collide.
    pub fn physical_df_schema(&self) -> Result<DFSchema> {
        let mut fields: Vec<_> = self
            .physical
            .fields()
            .iter()
            .enumerate()
            .map(|(i, f)| (None, Arc::new(f.as_ref().clone().with_name(format!("__hidden_{i}")))))
            .collect();
        for (i, (qualifier, field)) in self.schema.iter().enumerate() {
            if let ColumnRef::Physical(p) = self.columns[i] {
                fields[p] = (qualifier.cloned(), field.clone());
            }
        }
        Ok(DFSchema::new_with_metadata(fields, HashMap::new())?)
    }

    /// The relation after a projection, and the expressions that make its batches. Columns of the pending window stay
    /// virtual; its time and what partitions it are kept as hidden columns if the projection drops them.
    ///
    /// # Errors
    /// Of `compile`.
    pub fn project(
        &self,
        exprs: &[Expr],
        schema: DFSchemaRef,
        compile: impl Fn(&Expr, &DFSchema) -> Result<Arc<dyn PhysicalExpr>>,
    ) -> Result<(Relation, Vec<Arc<dyn PhysicalExpr>>)> {
        let input_schema = self.physical_df_schema()?;
        let mut compiled: Vec<Arc<dyn PhysicalExpr>> = Vec::new();
        let mut fields: Vec<Arc<Field>> = Vec::new();
        let mut columns = Vec::new();
        let (mut rowtime, mut proctime) = (BTreeSet::new(), BTreeSet::new());
        let mut window = self.window.clone();
        let mut moved: HashMap<usize, usize> = HashMap::new();
        let (mut start, mut end) = (None, None);
        for (expr, field) in exprs.iter().zip(schema.fields()) {
            let source = self.column_of(expr).map(|i| self.columns[i]);
            match source {
                Some(virtual_column) if !matches!(virtual_column, ColumnRef::Physical(_)) => {
                    columns.push(virtual_column);
                    continue;
                }
                Some(ColumnRef::Physical(p)) => {
                    moved.entry(p).or_insert(compiled.len());
                    if self.rowtime.contains(&p) {
                        rowtime.insert(compiled.len());
                    }
                    if self.proctime.contains(&p) {
                        proctime.insert(compiled.len());
                    }
                    if let Some(attached) = self.attached {
                        if attached.start == p {
                            start = start.or(Some(compiled.len()));
                        }
                        if attached.end == p {
                            end = end.or(Some(compiled.len()));
                        }
                    }
                }
                _ if shifted_time(expr).and_then(|e| self.column_of(e)).is_some_and(|i| {
                    matches!(self.columns.get(i), Some(ColumnRef::Physical(p)) if self.rowtime.contains(p))
                }) =>
                {
                    rowtime.insert(compiled.len());
                }
                _ if is_proctime_call(expr) => {
                    proctime.insert(compiled.len());
                }
                _ => {}
            }
            columns.push(ColumnRef::Physical(compiled.len()));
            compiled.push(compile(expr, &input_schema)?);
            fields.push(field.clone());
        }
        if let Some(window) = &mut window {
            for needed in std::iter::once(&mut window.time_column).chain(&mut window.partition) {
                *needed = match moved.get(needed) {
                    Some(i) => *i,
                    None => {
                        let (qualifier, field) = input_schema.qualified_field(*needed);
                        let column = Expr::Column(Column::from((qualifier, field.as_ref())));
                        moved.insert(*needed, compiled.len());
                        compiled.push(compile(&column, &input_schema)?);
                        fields.push(field.clone());
                        compiled.len() - 1
                    }
                };
            }
        }
        let attached = match (self.attached, start, end) {
            (Some(a), Some(start), Some(end)) => Some(AttachedWindow { start, end, ..a }),
            _ => None,
        };
        let relation = Relation {
            node: self.node,
            schema,
            physical: Arc::new(Schema::new(fields)),
            columns,
            changelog: self.changelog,
            rowtime,
            proctime,
            window,
            attached,
            keys: self.mapped_keys(|c| moved.get(&c).copied()),
        };
        Ok((relation, compiled))
    }
}

impl StreamPlanner {
    /// A window function: the window becomes pending.
    pub(super) fn lower_window(&mut self, window: &WindowTvfNode) -> Result<Relation> {
        let input = self.lower(&window.input)?;
        let mut input = self.materialize(input)?;
        let time = input.column_of(&window.time).and_then(|i| match input.columns[i] {
            ColumnRef::Physical(p) => Some(p),
            _ => None,
        });
        let time_column =
            time.ok_or_else(|| Error::internal(format!("the time column {} was lost", window.time)))?;
        let by_proctime = input.proctime.contains(&time_column);
        if !by_proctime && !input.rowtime.contains(&time_column) {
            let ty = sql_name(input.physical.field(time_column).data_type());
            let message = match window.columns {
                WindowColumns::Function => format!(
                    "the window function requires the timecol is a time attribute type, but {} is {ty}",
                    window.time,
                ),
                WindowColumns::Group => format!(
                    "Window aggregate can only be defined over a time attribute column, but {ty} encountered"
                ),
            };
            return Err(Error::validation(message).hint(
                "declare WATERMARK FOR it in CREATE TABLE, and do not compute with it before the window",
            ));
        }
        if by_proctime && !input.changelog.is_append_only() {
            return Err(Error::unsupported(
                "windows by processing time over a table whose rows are updated are not supported",
            )
            .hint("an update would leave the window of the row that it replaces: window by a row time"));
        }
        if window.window.is_session() && !input.changelog.is_append_only() {
            return Err(Error::unsupported(
                "SESSION windows over a table whose rows are updated are not supported in streaming mode",
            )
            .hint("window the rows before they are updated, or run in batch mode"));
        }
        let physical = |e: &Expr| match input.columns.get(input.column_of(e)?)? {
            ColumnRef::Physical(p) => Some(*p),
            _ => None,
        };
        let partition: Option<Vec<usize>> = window.partition.iter().map(physical).collect();
        let partition =
            partition.ok_or_else(|| Error::internal("a column that partitions sessions was lost"))?;
        use datafusion::logical_expr::UserDefinedLogicalNodeCore;
        input.schema = window.schema().clone();
        input.columns.extend([ColumnRef::Start, ColumnRef::End, ColumnRef::Time]);
        let (spec, text) = (window.window, window.describe());
        let of_group = window.columns == WindowColumns::Group;
        input.window = Some(PendingWindow { spec, time_column, partition, by_proctime, of_group, text });
        input.attached = None;
        // From here on window_time is the time attribute.
        input.rowtime.clear();
        Ok(input)
    }

    /// Expands the pending window, if there is one: its columns become physical.
    pub(super) fn materialize(&mut self, input: Relation) -> Result<Relation> {
        let Some(window) = input.window.clone() else { return Ok(input) };
        let plain = arrow::datatypes::DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None);
        let mut fields: Vec<Arc<Field>> = input.physical.fields().iter().cloned().collect();
        let first = fields.len();
        for (name, ty) in
            [(WINDOW_START, plain.clone()), (WINDOW_END, plain), (WINDOW_TIME, window.spec.time_type())]
        {
            fields.push(Arc::new(Field::new(name, ty, false)));
        }
        let physical: SchemaRef = Arc::new(Schema::new(fields));
        let (spec, time_column, by_proctime) = (window.spec, window.time_column, window.by_proctime);
        let is_session = spec.is_session();
        let node = if is_session {
            let config = SessionWindowConfig {
                input_schema: input.physical.clone(),
                output_schema: physical.clone(),
                window: spec,
                time_column,
                partition: window.partition.clone(),
                by_proctime,
            };
            let factory: OperatorFactory =
                Arc::new(move |_| Ok(Box::new(SessionWindowOperator::new(config.clone())?)));
            let (keys, mode) = (Some(window.partition), ChangelogMode::APPEND_ONLY);
            self.add_operator("SessionWindow", window.text, &input, mode, keys, factory)
        } else {
            let schema = physical.clone();
            let factory: OperatorFactory = Arc::new(move |_| {
                let operator = WindowTableFunctionOperator::new(spec, time_column, schema.clone());
                Ok(Box::new(if by_proctime { operator.by_proctime() } else { operator }))
            });
            self.add_operator("WindowTableFunction", window.text, &input, input.changelog, None, factory)
        };
        let (mut rowtime, mut proctime) = (BTreeSet::new(), input.proctime.clone());
        if by_proctime { &mut proctime } else { &mut rowtime }.insert(first + 2);
        let columns = input
            .columns
            .iter()
            .map(|c| match c {
                ColumnRef::Physical(p) => ColumnRef::Physical(*p),
                ColumnRef::Start => ColumnRef::Physical(first),
                ColumnRef::End => ColumnRef::Physical(first + 1),
                ColumnRef::Time => ColumnRef::Physical(first + 2),
            })
            .collect();
        Ok(Relation {
            node,
            physical,
            columns,
            rowtime,
            proctime,
            window: None,
            attached: Some(AttachedWindow {
                start: first,
                end: first + 1,
                zone: spec.zone,
                is_session,
                by_proctime,
            }),
            // A row is in several windows, once in each.
            keys: input.keys.iter().map(|k| k.iter().copied().chain([first, first + 1]).collect()).collect(),
            ..input
        })
    }

    /// Brings the batches to exactly the plan's columns in the plan's order.
    pub(super) fn trim(&mut self, input: Relation) -> Result<Relation> {
        let identity = input.columns.len() == input.physical.fields().len()
            && input.columns.iter().enumerate().all(|(i, c)| *c == ColumnRef::Physical(i));
        if identity {
            return Ok(input);
        }
        let exprs: Vec<Expr> = input.schema.columns().into_iter().map(Expr::Column).collect();
        let props = self.options.props.clone();
        let (relation, projection) =
            input.project(&exprs, input.schema.clone(), |e, s| super::physical_expr(e, s, &props))?;
        let names = exprs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let config =
            CalcConfig { condition: None, projection: Some(projection), schema: relation.physical.clone() };
        let node = self.add_calc(config, format!("select=[{names}]"), &input);
        Ok(Relation { node, ..relation })
    }
}

//! Window functions in batch: scalar functions, the UNNEST of a row's windows where it can have several, and the rows of a key
//! in order where they make sessions.
//!
//! ```text
//!  WindowTvfNode(x), TUMBLE  ─► Projection[x.*, start(ts), end(ts), time(ts)] (Filter[ts IS NOT NULL] (x))
//!  WindowTvfNode(x), SESSION ─► Projection[x.*, w.start, w.end, w.time] (Window[session(clock(ts)) OVER (PARTITION BY keys ORDER BY clock(ts)) AS w] …)
//!  WindowTvfNode(x), others  ─► Projection[x.*, w.start, w.end, w.time] (Unnest[w] (Projection[x.*, windows(ts) AS w] …))
//! ```

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit, TimestampMillisecondType};
use datafusion::common::{Column, Result as DfResult};
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, PartitionEvaluator,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, WindowUDF, WindowUDFImpl,
};

use crate::error::Error;
use crate::operators::window_aggregate::{WindowKind, WindowSpec};
use crate::operators::window_table_function::{AssignedWindows, assign_windows, wall_clock};
use crate::plan::nodes::window_tvf::{WINDOW_END, WINDOW_START, WINDOW_TIME, WindowColumns, WindowTvfNode};
use crate::plan::time_attribute::time_attribute;
use crate::types::TimeAttribute;

/// The node as a plain plan.
pub(super) fn lower_window(window: &WindowTvfNode) -> DfResult<LogicalPlan> {
    if time_attribute(&window.time, &window.input) == Some(TimeAttribute::Processing) {
        let what = match window.columns {
            WindowColumns::Function => "Processing time Window TableFunction is not supported yet",
            WindowColumns::Group => {
                "Window can not be defined over a proctime attribute column for batch mode"
            }
        };
        return Err(Error::unsupported(what).hint("SET 'execution.runtime-mode' = 'streaming'").into());
    }
    let keeps_tables = window.columns == WindowColumns::Group;
    let columns: Vec<Expr> = window
        .input
        .schema()
        .columns()
        .into_iter()
        .map(|c| {
            let name = c.name.clone();
            let column = Expr::Column(c);
            if keeps_tables { column } else { column.alias(name) }
        })
        .collect();
    let call = |part| {
        let function = ScalarUDF::new_from_impl(WindowFunction::new(window.window, part));
        function.call(vec![window.time.clone()])
    };
    let [start, end, time] = window.columns.names();
    let input = LogicalPlanBuilder::from(window.input.clone()).filter(window.time.clone().is_not_null())?;
    if matches!(window.window.kind, WindowKind::Tumble { .. }) {
        let mut exprs = columns;
        exprs.push(call(Part::Start).alias(start));
        exprs.push(call(Part::End).alias(end));
        exprs.push(call(Part::Time).alias(time));
        return input.project(exprs)?.build();
    }
    const WINDOWS: &str = "__windows";
    let with_windows = if window.window.is_session() {
        let wall = call(Part::Wall);
        let sessions = WindowUDF::new_from_impl(SessionFunction::new(window.window))
            .call(vec![wall.clone()])
            .partition_by(window.partition.clone())
            .order_by(vec![wall.sort(true, false)])
            .build()?
            .alias(WINDOWS);
        let mut exprs = columns;
        exprs.push(Expr::Column(Column::from_name(WINDOWS)));
        input.window(vec![sessions])?.project(exprs)?
    } else {
        let mut exprs = columns;
        exprs.push(call(Part::All).alias(WINDOWS));
        input.project(exprs)?.unnest_column(Column::from_name(WINDOWS))?
    };
    let mut exprs: Vec<Expr> = window
        .input
        .schema()
        .columns()
        .into_iter()
        .map(|c| Expr::Column(if keeps_tables { c } else { Column::from_name(c.name) }))
        .collect();
    // Not get_field: the optimizer moves that below the UNNEST, where the column is still a list.
    for (name, part) in [(start, Part::Start), (end, Part::End), (time, Part::Time)] {
        let function = ScalarUDF::new_from_impl(WindowField(WindowFunction::new(window.window, part)));
        exprs.push(function.call(vec![Expr::Column(Column::from_name(WINDOWS))]).alias(name));
    }
    with_windows.project(exprs)?.build()
}

/// What a window function returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Start,
    End,
    Time,
    /// A list of all three.
    All,
    /// The time as the wall clock that windows go by.
    Wall,
}

/// The windows of a time, as a scalar function.
#[derive(Debug)]
struct WindowFunction {
    window: WindowSpec,
    part: Part,
    signature: Signature,
}

impl WindowFunction {
    fn new(window: WindowSpec, part: Part) -> Self {
        WindowFunction { window, part, signature: Signature::any(1, Volatility::Immutable) }
    }

    fn fields(&self) -> Fields {
        fields(&self.window)
    }
}

/// The columns of a window.
fn fields(window: &WindowSpec) -> Fields {
    let plain = DataType::Timestamp(TimeUnit::Millisecond, None);
    Fields::from(vec![
        Field::new(WINDOW_START, plain.clone(), false),
        Field::new(WINDOW_END, plain, false),
        Field::new(WINDOW_TIME, window.time_type(), false),
    ])
}

impl PartialEq for WindowFunction {
    fn eq(&self, other: &Self) -> bool {
        self.window == other.window && self.part == other.part
    }
}

impl Eq for WindowFunction {}

impl Hash for WindowFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        format!("{:?}{:?}", self.window, self.part).hash(state);
    }
}

impl ScalarUDFImpl for WindowFunction {
    fn name(&self) -> &str {
        match self.part {
            Part::Start => WINDOW_START,
            Part::End => WINDOW_END,
            Part::Time => WINDOW_TIME,
            Part::All => "windows",
            Part::Wall => "window_clock",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DfResult<DataType> {
        Ok(match self.part {
            Part::Start | Part::End | Part::Wall => DataType::Timestamp(TimeUnit::Millisecond, None),
            Part::Time => self.window.time_type(),
            Part::All => DataType::List(Arc::new(Field::new("item", DataType::Struct(self.fields()), false))),
        })
    }

    fn return_field_from_args(
        &self,
        _args: datafusion::logical_expr::ReturnFieldArgs,
    ) -> DfResult<arrow::datatypes::FieldRef> {
        // Rows without a time are filtered out before.
        Ok(Arc::new(Field::new(self.name(), self.return_type(&[])?, false)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let rows = args.number_rows;
        let times = match args.args.into_iter().next() {
            Some(times) => times.into_array(rows)?,
            None => return datafusion::common::internal_err!("windows of nothing"),
        };
        if self.part == Part::Wall {
            return Ok(ColumnarValue::Array(wall_clock(&self.window, &times)?));
        }
        let assigned = assign_windows(&self.window, &times)?;
        let (row_of, [start, end, time]) = assigned.columns(&self.window);
        let column: ArrayRef = match self.part {
            Part::Start => start,
            Part::End => end,
            Part::Time => time,
            Part::Wall => return datafusion::common::internal_err!("the clock of a window"),
            Part::All => {
                let mut lengths = vec![0usize; times.len()];
                for row in &row_of {
                    lengths[*row as usize] += 1;
                }
                let windows = StructArray::try_new(self.fields(), vec![start, end, time], None)?;
                let item = Arc::new(Field::new("item", DataType::Struct(self.fields()), false));
                Arc::new(ListArray::try_new(
                    item,
                    OffsetBuffer::from_lengths(lengths),
                    Arc::new(windows),
                    None,
                )?)
            }
        };
        if self.part != Part::All && column.len() != times.len() {
            return datafusion::common::internal_err!("a NULL row time reached a window");
        }
        Ok(ColumnarValue::Array(column))
    }
}

/// One field of a window.
#[derive(Debug, PartialEq, Eq, Hash)]
struct WindowField(WindowFunction);

impl ScalarUDFImpl for WindowField {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> DfResult<DataType> {
        self.0.return_type(arg_types)
    }

    fn return_field_from_args(
        &self,
        args: datafusion::logical_expr::ReturnFieldArgs,
    ) -> DfResult<arrow::datatypes::FieldRef> {
        self.0.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let rows = args.number_rows;
        let windows = match args.args.into_iter().next() {
            Some(windows) => windows.into_array(rows)?,
            None => return datafusion::common::internal_err!("a field of nothing"),
        };
        match windows.as_struct_opt().and_then(|s| s.column_by_name(self.name())) {
            Some(column) => Ok(ColumnarValue::Array(column.clone())),
            None => datafusion::common::internal_err!("windows are {}", windows.data_type()),
        }
    }
}

/// The session of each row, of the rows of a key in the order of their wall-clock times.
#[derive(Debug)]
struct SessionFunction {
    window: WindowSpec,
    signature: Signature,
}

impl SessionFunction {
    fn new(window: WindowSpec) -> Self {
        SessionFunction { window, signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl PartialEq for SessionFunction {
    fn eq(&self, other: &Self) -> bool {
        self.window == other.window
    }
}

impl Eq for SessionFunction {}

impl Hash for SessionFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        format!("{:?}", self.window).hash(state);
    }
}

impl WindowUDFImpl for SessionFunction {
    fn name(&self) -> &str {
        "session_window"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn partition_evaluator(&self, _args: PartitionEvaluatorArgs) -> DfResult<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(SessionEvaluator(self.window)))
    }

    fn field(&self, args: WindowUDFFieldArgs) -> DfResult<FieldRef> {
        Ok(Arc::new(Field::new(args.name(), DataType::Struct(fields(&self.window)), false)))
    }
}

#[derive(Debug)]
struct SessionEvaluator(WindowSpec);

impl PartitionEvaluator for SessionEvaluator {
    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
        let WindowKind::Session { gap } = self.0.kind else {
            return datafusion::common::internal_err!("a session of another window");
        };
        let times = values.first().and_then(|c| c.as_primitive_opt::<TimestampMillisecondType>());
        let Some(times) = times.filter(|t| t.len() == rows) else {
            return datafusion::common::internal_err!("sessions without times");
        };
        let times = times.values();
        let (mut starts, mut ends) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        for session in times.chunk_by(|a, b| b.saturating_sub(*a) <= gap) {
            if let (Some(first), Some(last)) = (session.first(), session.last()) {
                starts.extend(std::iter::repeat_n(*first, session.len()));
                ends.extend(std::iter::repeat_n(last.saturating_add(gap), session.len()));
            }
        }
        let assigned = AssignedWindows { rows: Vec::new(), starts, ends };
        let (_, columns) = assigned.columns(&self.0);
        Ok(Arc::new(StructArray::try_new(fields(&self.0), columns.to_vec(), None)?))
    }
}

//! Window table functions in batch: scalar functions, and the UNNEST of a row's windows where it can have several.
//!
//! ```text
//!  WindowTvfNode(x), TUMBLE  ─► Projection[x.*, start(ts), end(ts), time(ts)] (Filter[ts IS NOT NULL] (x))
//!  WindowTvfNode(x), others  ─► Projection[x.*, w.start, w.end, w.time] (Unnest[w] (Projection[x.*, windows(ts) AS w] …))
//! ```

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use datafusion::common::{Column, Result as DfResult};
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};

use crate::operators::window_aggregate::{WindowKind, WindowSpec};
use crate::operators::window_table_function::assign_windows;
use crate::plan::nodes::window_tvf::{WINDOW_END, WINDOW_START, WINDOW_TIME, WindowTvfNode};

/// The node as a plain plan.
pub(super) fn lower_window(window: &WindowTvfNode) -> DfResult<LogicalPlan> {
    let columns: Vec<Expr> = window
        .input
        .schema()
        .columns()
        .into_iter()
        .map(|c| {
            let name = c.name.clone();
            Expr::Column(c).alias(name)
        })
        .collect();
    let call = |part| {
        let function = ScalarUDF::new_from_impl(WindowFunction::new(window.window, part));
        function.call(vec![window.time.clone()])
    };
    let input = LogicalPlanBuilder::from(window.input.clone()).filter(window.time.clone().is_not_null())?;
    if matches!(window.window.kind, WindowKind::Tumble { .. }) {
        let mut exprs = columns;
        exprs.push(call(Part::Start).alias(WINDOW_START));
        exprs.push(call(Part::End).alias(WINDOW_END));
        exprs.push(call(Part::Time).alias(WINDOW_TIME));
        return input.project(exprs)?.build();
    }
    const WINDOWS: &str = "__windows";
    let mut exprs = columns;
    exprs.push(call(Part::All).alias(WINDOWS));
    let unnested = input.project(exprs)?.unnest_column(Column::from_name(WINDOWS))?;
    let mut exprs: Vec<Expr> = window
        .input
        .schema()
        .fields()
        .iter()
        .map(|f| Expr::Column(Column::from_name(f.name().as_str())))
        .collect();
    // Not get_field: the optimizer moves that below the UNNEST, where the column is still a list.
    for (name, part) in [(WINDOW_START, Part::Start), (WINDOW_END, Part::End), (WINDOW_TIME, Part::Time)] {
        let function = ScalarUDF::new_from_impl(WindowField(WindowFunction::new(window.window, part)));
        exprs.push(function.call(vec![Expr::Column(Column::from_name(WINDOWS))]).alias(name));
    }
    unnested.project(exprs)?.build()
}

/// What a window function returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Start,
    End,
    Time,
    /// A list of all three.
    All,
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
        let plain = DataType::Timestamp(TimeUnit::Millisecond, None);
        Fields::from(vec![
            Field::new(WINDOW_START, plain.clone(), false),
            Field::new(WINDOW_END, plain, false),
            Field::new(WINDOW_TIME, self.window.time_type(), false),
        ])
    }
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
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DfResult<DataType> {
        Ok(match self.part {
            Part::Start | Part::End => DataType::Timestamp(TimeUnit::Millisecond, None),
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
        let assigned = assign_windows(&self.window, &times)?;
        let (row_of, [start, end, time]) = assigned.columns(&self.window);
        let column: ArrayRef = match self.part {
            Part::Start => start,
            Part::End => end,
            Part::Time => time,
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

//! Window table functions in a plan: columns of the input ++ window_start, window_end, window_time.
//!
//! ```text
//!  FROM [TABLE(]TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' MINUTE)[)]
//!     └─► WindowTvfNode      planned by `syntax::window_tvf`
//!  GROUP BY TUMBLE(ts, INTERVAL '10' MINUTE)
//!     └─► WindowTvfNode      by `logical::group_window`, below the aggregate
//!           streaming: slices in a window aggregate, sessions, or rows expanded by an operator
//!           batch:     `batch::window_tvf`
//! ```

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::{DFSchema, DFSchemaRef, Result as DfResult, TableReference};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use crate::error::Error;
use crate::operators::window_aggregate::{WindowKind, WindowSpec};
use crate::types::sql_name;

/// Name of the first added column.
pub const WINDOW_START: &str = "window_start";
/// Name of the second added column.
pub const WINDOW_END: &str = "window_end";
/// Name of the third added column.
pub const WINDOW_TIME: &str = "window_time";

/// Who asks for the windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowColumns {
    /// A table function: its columns are a table of their own.
    Function,
    /// GROUP BY: the columns keep their tables, and those of the window have names that nobody writes.
    Group,
}

impl WindowColumns {
    /// Names of the added columns: start, end, time.
    pub fn names(self) -> [&'static str; 3] {
        match self {
            WindowColumns::Function => [WINDOW_START, WINDOW_END, WINDOW_TIME],
            WindowColumns::Group => ["w$start", "w$end", "w$rowtime"],
        }
    }
}

/// Adds a row's windows to it.
#[derive(Debug, Clone)]
pub struct WindowTvfNode {
    /// The windowed table.
    pub input: LogicalPlan,
    /// Its time attribute.
    pub time: Expr,
    /// Columns of which each combination has sessions of its own.
    pub partition: Vec<Expr>,
    /// The windows.
    pub window: WindowSpec,
    /// How the columns are called.
    pub columns: WindowColumns,
    schema: DFSchemaRef,
}

impl WindowTvfNode {
    /// A window function over `input`.
    ///
    /// # Errors
    /// Validation if the time column is no timestamp of at most millisecond precision, or columns collide.
    pub fn try_new(
        input: LogicalPlan,
        time: Expr,
        partition: Vec<Expr>,
        window: WindowSpec,
        columns: WindowColumns,
    ) -> DfResult<Self> {
        use datafusion::logical_expr::ExprSchemable;
        let time_type = match time.get_type(input.schema())? {
            DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Millisecond, zone),
            other => {
                return Err(Error::validation(format!(
                    "the window function requires the timecol is a time attribute type, but `{time}` is {}",
                    sql_name(&other)
                ))
                .into());
            }
        };
        let plain = DataType::Timestamp(TimeUnit::Millisecond, None);
        let of_table = |(qualifier, field): (Option<&TableReference>, &FieldRef)| {
            (qualifier.filter(|_| columns == WindowColumns::Group).cloned(), field.clone())
        };
        let mut fields: Vec<_> = input.schema().iter().map(of_table).collect();
        for (name, ty) in columns.names().into_iter().zip([plain.clone(), plain, time_type]) {
            fields.push((None, Arc::new(Field::new(name, ty, false))));
        }
        let schema = DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?;
        Ok(WindowTvfNode { input, time, partition, window, columns, schema: Arc::new(schema) })
    }

    fn name_of_kind(&self) -> &'static str {
        match self.window.kind {
            WindowKind::Tumble { .. } => "TUMBLE",
            WindowKind::Hop { .. } => "HOP",
            WindowKind::Cumulate { .. } => "CUMULATE",
            WindowKind::Session { .. } => "SESSION",
            WindowKind::Attached { .. } => "ATTACHED",
        }
    }

    /// As it reads in plans: `TUMBLE(ts, size=600000 ms)`.
    pub fn describe(&self) -> String {
        let mut text = format!("{}({}", self.name_of_kind(), self.time);
        match self.window.kind {
            WindowKind::Tumble { size } => text += &format!(", size={size} ms"),
            WindowKind::Hop { size, slide } => text += &format!(", slide={slide} ms, size={size} ms"),
            WindowKind::Cumulate { size, step } => text += &format!(", step={step} ms, size={size} ms"),
            WindowKind::Session { gap } => {
                let keys: Vec<String> = self.partition.iter().map(ToString::to_string).collect();
                text += &format!(", partition keys=[{}], gap={gap} ms", keys.join(", "));
            }
            WindowKind::Attached { .. } => {}
        }
        if self.window.offset != 0 {
            text += &format!(", offset={} ms", self.window.offset);
        }
        text.push(')');
        text
    }

    fn key(&self) -> (&LogicalPlan, &Expr, &[Expr], String) {
        (&self.input, &self.time, &self.partition, format!("{:?} {:?}", self.window, self.columns))
    }
}

impl PartialEq for WindowTvfNode {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for WindowTvfNode {}

impl Hash for WindowTvfNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl PartialOrd for WindowTvfNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.key().partial_cmp(&other.key())
    }
}

impl UserDefinedLogicalNodeCore for WindowTvfNode {
    fn name(&self) -> &str {
        "WindowTableFunction"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        std::iter::once(&self.time).chain(&self.partition).cloned().collect()
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        let mut kept: HashSet<String> = self.columns.names().map(str::to_owned).into();
        if self.window.is_session() {
            // A row that is missing divides its session; those of another key it does not touch.
            let is_key = |name: &str| {
                let is = |e: &Expr| matches!(e, Expr::Column(c) if c.name == name);
                self.partition.iter().any(is)
            };
            let fields = self.input.schema().fields().iter();
            kept.extend(fields.map(|f| f.name()).filter(|name| !is_key(name)).cloned());
        }
        kept
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "WindowTableFunction: {}", self.describe())
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        if exprs.is_empty() {
            return datafusion::common::internal_err!("a window function has a time");
        }
        let partition = exprs.split_off(1);
        match (exprs.pop(), inputs.pop()) {
            (Some(time), Some(input)) => Self::try_new(input, time, partition, self.window, self.columns),
            _ => datafusion::common::internal_err!("a window function has one input"),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let inputs = self.input.schema().fields().len();
        Some(vec![output_columns.iter().copied().filter(|i| *i < inputs).collect()])
    }
}

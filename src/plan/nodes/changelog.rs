//! `TO_CHANGELOG` and `FROM_CHANGELOG` in a plan: kinds of changes as values of a column, and back.
//!
//! ```text
//!  FROM TO_CHANGELOG(input => TABLE t)       op ++ columns of t     planned by `syntax::changelog`
//!  FROM FROM_CHANGELOG(input => TABLE t)     columns of t without op
//!       streaming: an operator that reads or writes kinds        batch: refused, it has no kinds
//! ```

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result as DfResult};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use crate::stream::RowKind;

/// Which way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ChangelogFunction {
    /// Kinds become values of a new first column.
    To {
        /// Its name.
        op: String,
        /// The value of each kind by its code; changes without one are dropped.
        codes: [Option<String>; 4],
    },
    /// The values of a column become kinds.
    From {
        /// The column.
        op: Column,
        /// Values with their kinds.
        codes: Vec<(String, RowKind)>,
    },
}

/// See the module.
#[derive(Debug, Clone)]
pub struct ChangelogNode {
    /// The table.
    pub input: LogicalPlan,
    /// Which way.
    pub function: ChangelogFunction,
    schema: DFSchemaRef,
}

impl ChangelogNode {
    /// The node with its schema. The columns are a table of their own.
    ///
    /// # Errors
    /// From DataFusion, if names collide.
    pub fn try_new(input: LogicalPlan, function: ChangelogFunction) -> DfResult<Self> {
        let mut fields = Vec::new();
        if let ChangelogFunction::To { op, .. } = &function {
            fields.push((None, Arc::new(Field::new(op, DataType::Utf8, true))));
        }
        let op = op_column(&function, &input);
        let columns = input.schema().fields().iter().enumerate().filter(|(i, _)| Some(*i) != op);
        fields.extend(columns.map(|(_, field)| (None, Arc::clone(field))));
        let schema = Arc::new(DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?);
        Ok(ChangelogNode { input, function, schema })
    }

    /// Index of the column of FROM_CHANGELOG with the kinds.
    pub fn op_column(&self) -> Option<usize> {
        op_column(&self.function, &self.input)
    }

    /// The column of the input that column `i` is.
    pub fn input_column(&self, i: usize) -> Option<usize> {
        match (&self.function, self.op_column()) {
            (ChangelogFunction::To { .. }, _) => i.checked_sub(1),
            (ChangelogFunction::From { .. }, op) => Some(i + usize::from(op.is_some_and(|op| i >= op))),
        }
    }

    /// As it reads in plans.
    pub fn describe(&self) -> String {
        match &self.function {
            ChangelogFunction::To { op, codes } => {
                let of = |kind: usize| codes.get(kind).cloned().flatten().unwrap_or_else(|| "-".to_owned());
                format!("op=[{op}], +I=[{}], -U=[{}], +U=[{}], -D=[{}]", of(0), of(1), of(2), of(3))
            }
            ChangelogFunction::From { op, codes } => {
                let codes: Vec<String> =
                    codes.iter().map(|(code, kind)| format!("{code}={}", kind.symbol())).collect();
                format!("op=[{}], codes=[{}]", op.name, codes.join(", "))
            }
        }
    }

    fn key(&self) -> (&LogicalPlan, String) {
        (&self.input, format!("{:?}", self.function))
    }
}

fn op_column(function: &ChangelogFunction, input: &LogicalPlan) -> Option<usize> {
    match function {
        ChangelogFunction::To { .. } => None,
        ChangelogFunction::From { op, .. } => input.schema().maybe_index_of_column(op),
    }
}

impl PartialEq for ChangelogNode {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for ChangelogNode {}

impl Hash for ChangelogNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl PartialOrd for ChangelogNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.key().partial_cmp(&other.key())
    }
}

impl UserDefinedLogicalNodeCore for ChangelogNode {
    fn name(&self) -> &str {
        match self.function {
            ChangelogFunction::To { .. } => "ToChangelog",
            ChangelogFunction::From { .. } => "FromChangelog",
        }
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        match &self.function {
            ChangelogFunction::To { .. } => Vec::new(),
            ChangelogFunction::From { op, .. } => vec![Expr::Column(op.clone())],
        }
    }

    /// Conditions would tell other changes below than above.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.schema.fields().iter().map(|f| f.name().clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {}", self.name(), self.describe())
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        let Some(input) = inputs.pop() else {
            return datafusion::common::internal_err!("a changelog function has one input");
        };
        let function = match (&self.function, exprs.pop()) {
            (ChangelogFunction::From { codes, .. }, Some(Expr::Column(op))) => {
                ChangelogFunction::From { op, codes: codes.clone() }
            }
            (to @ ChangelogFunction::To { .. }, None) => to.clone(),
            _ => return datafusion::common::internal_err!("a changelog function with other expressions"),
        };
        Self::try_new(input, function)
    }

    /// All of them: with fewer columns fewer rows change.
    fn necessary_children_exprs(&self, _output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![(0..self.input.schema().fields().len()).collect()])
    }
}

/// The changelog function that a plan is, if it is one.
pub fn changelog_node(plan: &LogicalPlan) -> Option<&ChangelogNode> {
    match plan {
        LogicalPlan::Extension(e) => e.node.as_any().downcast_ref::<ChangelogNode>(),
        _ => None,
    }
}

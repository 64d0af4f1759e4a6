//! `INTERSECT` and `EXCEPT` in a plan. DataFusion lowers them to semi and anti joins, which forgets how often a row
//! stands on either side: here they are nodes of their own, with the multiset answer of the standard.
//!
//! ```text
//!  a INTERSECT ALL b ─► SetOperationNode(a, b)       planned by `syntax::set_operation`
//!     streaming: one operator with a count per side and row;  batch: `batch::set_operation`
//! ```

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::{DFSchema, DFSchemaRef, Result as DfResult};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore, cast};

use crate::error::{Error, Result};
use crate::functions::common_type;
use crate::operators::set_operation::SetOperationKind;
use crate::types::sql_name;

/// A set operation of two relations with the same number of columns.
#[derive(Debug, Clone)]
pub struct SetOperationNode {
    /// Names the columns.
    pub left: LogicalPlan,
    /// The other side.
    pub right: LogicalPlan,
    /// Which.
    pub kind: SetOperationKind,
    schema: DFSchemaRef,
}

impl SetOperationNode {
    /// A set operation.
    ///
    /// # Errors
    /// Validation if the numbers of columns differ or a column has no common type.
    pub fn try_new(left: LogicalPlan, right: LogicalPlan, kind: SetOperationKind) -> DfResult<Self> {
        let (l, r) = (left.schema().fields(), right.schema().fields());
        if l.len() != r.len() {
            return Err(Error::validation(format!(
                "Column count mismatch in {}: {} on the left, {} on the right",
                kind.sql(),
                l.len(),
                r.len()
            ))
            .into());
        }
        let fields = l
            .iter()
            .zip(r)
            .enumerate()
            .map(|(i, (l, r))| {
                let (a, b) = (l.data_type(), r.data_type());
                let ty = if a == b {
                    a.clone()
                } else {
                    common_type(kind.sql(), &[a.clone(), b.clone()]).map_err(|_| {
                        Error::validation(format!(
                            "Type mismatch in column {} of {}: {} on the left, {} on the right",
                            i + 1,
                            kind.sql(),
                            sql_name(a),
                            sql_name(b)
                        ))
                        .hint("cast one side to the type of the other")
                    })?
                };
                // What the plain plan of batch mode has too.
                let nullable = l.is_nullable() || r.is_nullable();
                Ok((None, Arc::new(Field::new(l.name(), ty, nullable))))
            })
            .collect::<Result<Vec<_>>>()?;
        let schema = DFSchema::new_with_metadata(fields, left.schema().metadata().clone())?;
        Ok(SetOperationNode { left, right, kind, schema: Arc::new(schema) })
    }

    /// For each column of `side` an expression of the result's type.
    pub fn casts(&self, side: &LogicalPlan) -> Vec<Expr> {
        side.schema()
            .columns()
            .into_iter()
            .zip(side.schema().fields())
            .zip(self.schema.fields())
            .map(|((column, from), to)| {
                let column = Expr::Column(column);
                if from.data_type() == to.data_type() { column } else { cast(column, to.data_type().clone()) }
            })
            .collect()
    }

    fn key(&self) -> (&LogicalPlan, &LogicalPlan, SetOperationKind) {
        (&self.left, &self.right, self.kind)
    }
}

impl PartialEq for SetOperationNode {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for SetOperationNode {}

impl Hash for SetOperationNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl PartialOrd for SetOperationNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.key().partial_cmp(&other.key())
    }
}

impl UserDefinedLogicalNodeCore for SetOperationNode {
    fn name(&self) -> &str {
        "SetOperation"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "SetOperation: {}", self.kind.sql())
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        match (inputs.pop(), inputs.pop()) {
            (Some(right), Some(left)) => Self::try_new(left, right, self.kind),
            _ => datafusion::common::internal_err!("a set operation has two inputs"),
        }
    }

    // Every column counts: the default of `necessary_children_exprs` asks for all of them.
}

/// Whether values of the type can be compared for equality.
pub(crate) fn is_comparable(ty: &DataType) -> bool {
    match ty {
        DataType::Map(..) => false,
        DataType::List(item) => is_comparable(item.data_type()),
        DataType::Struct(fields) => fields.iter().all(|f| is_comparable(f.data_type())),
        _ => true,
    }
}

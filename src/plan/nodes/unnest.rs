//! `UNNEST` in a plan: columns of the input ++ columns of the elements of one of its collections.
//!
//! ```text
//!  FROM t CROSS JOIN UNNEST(t.a) AS u(x) WITH ORDINALITY
//!     └─► Join(t, Subquery(UnnestNode(one row, outer_ref(t.a))))     as `syntax::unnest` plans it
//!     └─► UnnestNode(t, t.a)                                         by `logical::join_unnests`
//!           streaming: an operator;  batch: `batch::unnest`
//! ```

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result as DfResult, TableReference};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, UserDefinedLogicalNodeCore};

use crate::error::Error;
use crate::operators::unnest::Shape;

/// A row for every element of a collection.
#[derive(Debug, Clone)]
pub struct UnnestNode {
    /// What is beside the elements.
    pub input: LogicalPlan,
    /// The array, map or multiset.
    pub collection: Expr,
    /// Whether a row without elements gives one with NULLs.
    pub outer: bool,
    /// Whether the elements are numbered.
    pub ordinality: bool,
    /// Columns of the input that go on, by name; all of them when `None`.
    pub kept: Option<Vec<Column>>,
    /// Name of the elements as a relation.
    qualifier: TableReference,
    /// Names of their columns; Flink's own when empty.
    names: Vec<String>,
    schema: DFSchemaRef,
}

impl UnnestNode {
    /// The node with its schema.
    ///
    /// # Errors
    /// Validation if the collection is none, or is given another number of names than it has columns.
    pub fn try_new(
        input: LogicalPlan,
        collection: Expr,
        (outer, ordinality): (bool, bool),
        kept: Option<Vec<Column>>,
        qualifier: TableReference,
        names: Vec<String>,
    ) -> DfResult<Self> {
        let shape = Shape::of(&collection.get_type(input.schema())?)?;
        let mut added: Vec<FieldRef> = shape.fields;
        if ordinality {
            added.push(Arc::new(Field::new("ORDINALITY", DataType::Int32, false)));
        }
        if !names.is_empty() && names.len() != added.len() {
            return Err(Error::validation(format!(
                "List of column aliases must have same degree as table; table has {} columns ({}), whereas alias list has {} columns",
                added.len(),
                added.iter().map(|f| format!("'{}'", f.name())).collect::<Vec<_>>().join(", "),
                names.len()
            ))
            .into());
        }
        let mut fields: Vec<(Option<TableReference>, FieldRef)> = input
            .schema()
            .iter()
            .filter(|(q, f)| {
                kept.as_ref()
                    .is_none_or(|k| k.iter().any(|c| c.relation.as_ref() == *q && c.name == *f.name()))
            })
            .map(|(q, f)| (q.cloned(), Arc::clone(f)))
            .collect();
        for (i, field) in added.into_iter().enumerate() {
            let mut field = field.as_ref().clone();
            if let Some(name) = names.get(i) {
                field.set_name(name.clone());
            }
            let nullable = outer || field.is_nullable();
            fields.push((Some(qualifier.clone()), Arc::new(field.with_nullable(nullable))));
        }
        let schema = DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?;
        Ok(UnnestNode {
            input,
            collection,
            outer,
            ordinality,
            kept,
            qualifier,
            names,
            schema: Arc::new(schema),
        })
    }

    /// The same over another input.
    ///
    /// # Errors
    /// As [`UnnestNode::try_new`].
    pub fn over(&self, input: LogicalPlan, collection: Expr, outer: bool) -> DfResult<Self> {
        let (qualifier, names) = (self.qualifier.clone(), self.names.clone());
        Self::try_new(input, collection, (outer, self.ordinality), None, qualifier, names)
    }

    /// The same with only these columns of the input.
    ///
    /// # Errors
    /// As [`UnnestNode::try_new`].
    pub fn keeping(&self, kept: Vec<Column>) -> DfResult<Self> {
        let (qualifier, names) = (self.qualifier.clone(), self.names.clone());
        let flags = (self.outer, self.ordinality);
        Self::try_new(self.input.clone(), self.collection.clone(), flags, Some(kept), qualifier, names)
    }

    /// Indices of the input's columns that go on.
    pub fn passed(&self) -> Vec<usize> {
        let columns = self.input.schema().columns();
        (0..columns.len()).filter(|i| self.kept.as_ref().is_none_or(|k| k.contains(&columns[*i]))).collect()
    }

    /// Columns of the elements, with their qualifier.
    pub fn added(&self) -> impl Iterator<Item = (Option<&TableReference>, &FieldRef)> {
        self.schema.iter().skip(self.passed().len())
    }

    fn key(&self) -> (&LogicalPlan, &Expr, (bool, bool), &Option<Vec<Column>>, String) {
        let names = format!("{}({})", self.qualifier, self.names.join(","));
        (&self.input, &self.collection, (self.outer, self.ordinality), &self.kept, names)
    }
}

impl PartialEq for UnnestNode {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for UnnestNode {}

impl Hash for UnnestNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl PartialOrd for UnnestNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.key().partial_cmp(&other.key())
    }
}

impl UserDefinedLogicalNodeCore for UnnestNode {
    fn name(&self) -> &str {
        "UnnestCollection"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.collection.clone()]
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.added().map(|(_, f)| f.name().clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "UnnestCollection: {}", self.collection)?;
        if self.ordinality {
            f.write_str(" WITH ORDINALITY")?;
        }
        if self.outer {
            f.write_str(", outer")?;
        }
        Ok(())
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        match (exprs.pop(), inputs.pop()) {
            (Some(collection), Some(input)) => {
                let (qualifier, names) = (self.qualifier.clone(), self.names.clone());
                let flags = (self.outer, self.ordinality);
                Self::try_new(input, collection, flags, self.kept.clone(), qualifier, names)
            }
            _ => datafusion::common::internal_err!("UNNEST has one expression and one input"),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let passed = self.passed();
        // Columns of its own expression are added by the optimizer.
        Some(vec![output_columns.iter().filter_map(|i| passed.get(*i).copied()).collect()])
    }
}

/// The UNNEST that a plan is, if it is one.
pub fn unnest_node(plan: &LogicalPlan) -> Option<&UnnestNode> {
    match plan {
        LogicalPlan::Extension(e) => e.node.as_any().downcast_ref::<UnnestNode>(),
        _ => None,
    }
}

//! UNNEST in batch: DataFusion's own, over the elements as a list of rows.
//!
//! ```text
//!  UnnestNode(t, t.a) ─► Projection[t.*, fields of e] (Unnest[e] (Projection[t.*, elements(t.a) AS e] (t)))
//! ```

use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::{Column, Result as DfResult};
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};

use crate::operators::unnest::{Collections, as_rows};

use crate::plan::nodes::unnest::UnnestNode;

/// The node as a plain plan.
pub(super) fn lower_unnest(node: &UnnestNode) -> DfResult<LogicalPlan> {
    const ELEMENTS: &str = "__elements";
    let columns: Vec<Expr> = node
        .passed()
        .into_iter()
        .map(|i| Expr::Column(Column::from(node.input.schema().qualified_field(i))))
        .collect();
    let elements = Elements::new(node);
    let fields = elements.fields.clone();
    let mut exprs = columns.clone();
    exprs.push(ScalarUDF::new_from_impl(elements).call(vec![node.collection.clone()]).alias(ELEMENTS));
    let unnested = LogicalPlanBuilder::from(node.input.clone())
        .project(exprs)?
        .unnest_column(Column::from_name(ELEMENTS))?;
    let mut exprs = columns;
    for (i, (qualifier, field)) in node.added().enumerate() {
        let part = ScalarUDF::new_from_impl(ElementField { fields: fields.clone(), index: i });
        let column = Expr::Column(Column::from_name(ELEMENTS));
        exprs.push(part.call(vec![column]).alias_qualified(qualifier.cloned(), field.name()));
    }
    unnested.project(exprs)?.build()
}

/// The elements of a collection as a list of rows.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Elements {
    fields: Fields,
    outer: bool,
    ordinality: bool,
    signature: Signature,
}

impl Elements {
    fn new(node: &UnnestNode) -> Self {
        let fields =
            node.added().enumerate().map(|(i, (_, f))| f.as_ref().clone().with_name(format!("f{i}")));
        Elements {
            fields: fields.collect(),
            outer: node.outer,
            ordinality: node.ordinality,
            signature: Signature::any(1, Volatility::Immutable),
        }
    }

    fn item(&self) -> FieldRef {
        Arc::new(Field::new("item", DataType::Struct(self.fields.clone()), false))
    }
}

impl ScalarUDFImpl for Elements {
    fn name(&self) -> &str {
        "elements"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::List(self.item()))
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), self.return_type(&[])?, false)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let rows = args.number_rows;
        let collections = match args.args.into_iter().next() {
            Some(value) => Collections::try_new(&value.into_array(rows)?, self.outer)?,
            None => return datafusion::common::internal_err!("elements of nothing"),
        };
        let (all, lengths) = collections.all();
        let columns = collections.elements(&all, self.ordinality)?;
        let elements = as_rows(self.fields.clone(), columns, all.rows.len())?;
        let offsets = OffsetBuffer::from_lengths(lengths);
        let list: ArrayRef = Arc::new(ListArray::try_new(self.item(), offsets, Arc::new(elements), None)?);
        Ok(ColumnarValue::Array(list))
    }
}

/// One column of an element. Not get_field: the optimizer moves that below the UNNEST.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ElementField {
    fields: Fields,
    index: usize,
}

impl ScalarUDFImpl for ElementField {
    fn name(&self) -> &str {
        "element_field"
    }

    fn signature(&self) -> &Signature {
        const ANY: &Signature = &Signature {
            type_signature: datafusion::logical_expr::TypeSignature::Any(1),
            volatility: Volatility::Immutable,
            parameter_names: None,
        };
        ANY
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DfResult<DataType> {
        Ok(self.fields[self.index].data_type().clone())
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(Arc::clone(&self.fields[self.index]))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let rows = args.number_rows;
        let elements = match args.args.into_iter().next() {
            Some(elements) => elements.into_array(rows)?,
            None => return datafusion::common::internal_err!("a field of nothing"),
        };
        match elements.as_struct_opt().and_then(|s| s.columns().get(self.index)) {
            Some(column) => Ok(ColumnarValue::Array(column.clone())),
            None => datafusion::common::internal_err!("elements are {}", elements.data_type()),
        }
    }
}

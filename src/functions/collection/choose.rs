//! `COALESCE`, `GREATEST`, `LEAST`, `ROW`, `CARDINALITY` of nothing in particular: functions of values of any type.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, StructArray};
use arrow::compute::kernels::cmp;
use arrow::compute::kernels::zip::zip;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};

use super::{common, days_of};
use crate::error::{Error, Result};
use crate::functions::udf::{Builtin, Ret};

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let mut out = vec![
        Builtin::new("row", "a a*", Ret::Of(|types, _| Ok(DataType::Struct(row_fields(types)))), |c| {
            let columns = (0..c.len()).map(|i| c.full(i)).collect::<Result<Vec<_>>>()?;
            let types: Vec<DataType> = columns.iter().map(|a| a.data_type().clone()).collect();
            Ok(Arc::new(StructArray::try_new(row_fields(&types), columns, None)?))
        })
        .nulls(crate::functions::udf::Nulls::Never)
        .build(),
    ];
    for (name, kind) in [("coalesce", Kind::Coalesce), ("greatest", Kind::Greatest), ("least", Kind::Least)] {
        out.push(Arc::new(ScalarUDF::new_from_impl(Choose {
            name,
            kind,
            signature: Signature::new(TypeSignature::UserDefined, Volatility::Immutable),
        })));
    }
    out
}

fn row_fields(types: &[DataType]) -> Fields {
    types.iter().enumerate().map(|(i, t)| Field::new(format!("EXPR${i}"), t.clone(), true)).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Coalesce,
    Greatest,
    Least,
}

/// A function that picks one of its arguments, all cast to their common type.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Choose {
    name: &'static str,
    kind: Kind,
    signature: Signature,
}

impl ScalarUDFImpl for Choose {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(match self.common(types) {
            Ok(t) => vec![t; types.len()],
            Err(_) => types.to_vec(),
        })
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        if types.is_empty() {
            return Err(Error::validation(format!("{} takes arguments", self.name.to_uppercase())).into());
        }
        Ok(self.common(types)?)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        let mut nullable = args.arg_fields.iter().map(|f| f.is_nullable());
        let nullable = match self.kind {
            Kind::Coalesce => nullable.all(|n| n),
            Kind::Greatest | Kind::Least => nullable.any(|n| n),
        };
        Ok(Arc::new(Field::new(self.name, self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let mut arrays = args.args.into_iter().map(|a| a.into_array(rows));
        let Some(first) = arrays.next() else {
            return Err(Error::internal(format!("{} without arguments", self.name)).into());
        };
        let mut out = first?;
        for next in arrays {
            out = self.step(&out, &next?)?;
        }
        if constant {
            return Ok(ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&out, 0)?));
        }
        Ok(ColumnarValue::Array(out))
    }
}

impl Choose {
    fn common(&self, types: &[DataType]) -> Result<DataType> {
        if self.kind == Kind::Coalesce {
            let known: Vec<DataType> = types.iter().filter(|t| **t != DataType::Null).cloned().collect();
            if let Some(days) = days_of(&known) {
                return Ok(days);
            }
        }
        common(self.name, types)
    }

    fn step(&self, a: &ArrayRef, b: &ArrayRef) -> Result<ArrayRef> {
        let take_first = match self.kind {
            Kind::Coalesce => {
                if a.null_count() == 0 {
                    return Ok(Arc::clone(a));
                }
                arrow::compute::is_not_null(a)?
            }
            Kind::Greatest => self.better(a, &cmp::gt_eq(a, b)?),
            Kind::Least => self.better(a, &cmp::lt_eq(a, b)?),
        };
        Ok(zip(&take_first, a, b)?)
    }

    /// The first where it wins or is NULL; a NULL second makes the comparison NULL and is then taken.
    fn better(&self, a: &ArrayRef, wins: &BooleanArray) -> BooleanArray {
        (0..a.len()).map(|i| Some(a.is_null(i) || (wins.is_valid(i) && wins.value(i)))).collect()
    }
}

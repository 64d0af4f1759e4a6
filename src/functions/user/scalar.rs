//! Scalar functions of the user, as DataFusion wants them.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array, new_empty_array, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::compute::{filter, take};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature as DfSignature,
    TypeSignature, Volatility,
};

use super::Signature;
use super::engine::Engine;
use crate::error::{Error, Result};
use crate::sql::ast::SqlExpr;

/// The function for a script.
pub(super) fn foreign(signature: &Arc<Signature>, engine: Arc<dyn Engine>) -> Arc<ScalarUDF> {
    build(signature, Does::Script(engine))
}

/// A call that the planner replaces by the expression of the function.
pub(super) fn inlined(body: Inlined) -> Arc<ScalarUDF> {
    let signature = Arc::clone(&body.signature);
    build(&signature, Does::Expression(body))
}

fn build(signature: &Arc<Signature>, does: Does) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(Foreign {
        signature: Arc::clone(signature),
        types: DfSignature::new(TypeSignature::UserDefined, signature.volatility),
        does,
    }))
}

/// A function that is an expression.
#[derive(Debug, Clone)]
pub struct Inlined {
    /// Its parameters and result.
    pub signature: Arc<Signature>,
    /// The expression over the parameters.
    pub expr: Arc<SqlExpr>,
    /// Catalog and database that names in it are relative to.
    pub resolve_in: (String, String),
}

impl Inlined {
    /// The expression of a function, if it is one in SQL.
    pub fn of(f: &ScalarUDF) -> Option<&Inlined> {
        match &f.inner().downcast_ref::<Foreign>()?.does {
            Does::Expression(body) => Some(body),
            Does::Script(_) => None,
        }
    }
}

#[derive(Debug)]
enum Does {
    Expression(Inlined),
    Script(Arc<dyn Engine>),
}

#[derive(Debug)]
struct Foreign {
    signature: Arc<Signature>,
    types: DfSignature,
    does: Does,
}

impl PartialEq for Foreign {
    fn eq(&self, other: &Self) -> bool {
        // A function that is created again is another one.
        Arc::ptr_eq(&self.signature, &other.signature)
    }
}

impl Eq for Foreign {}

impl Hash for Foreign {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.signature.name.hash(state);
    }
}

impl ScalarUDFImpl for Foreign {
    fn name(&self) -> &str {
        &self.signature.name
    }

    fn signature(&self) -> &DfSignature {
        &self.types
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DfResult<DataType> {
        Ok(self.signature.result())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        self.signature.accept(args.arg_fields)?;
        Ok(Arc::new(Field::new(self.name(), self.signature.result(), self.signature.result_is_nullable())))
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> DfResult<Vec<DataType>> {
        // A mismatch is told by `return_field_from_args`, and arguments are cast as they are evaluated.
        Ok(arg_types.to_vec())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let Does::Script(engine) = &self.does else {
            return Err(Error::internal(format!("{} was not put in its place", self.name())).into());
        };
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let once = constant && self.types.volatility != Volatility::Volatile;
        let rows = if once { 1 } else { args.number_rows };
        let arrays = args.args.iter().map(|a| a.to_array(rows)).collect::<DfResult<Vec<_>>>()?;
        let out = self.evaluate(engine.as_ref(), &arrays, rows).map_err(DataFusionError::from)?;
        if once {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&out, 0)?));
        }
        Ok(ColumnarValue::Array(out))
    }
}

impl Foreign {
    fn evaluate(&self, engine: &dyn Engine, args: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let args = self.signature.arguments(args)?;
        if rows == 0 {
            return Ok(new_empty_array(&self.signature.result()));
        }
        let nulls = args
            .iter()
            .filter(|_| self.signature.strict)
            .fold(None, |nulls, a| NullBuffer::union(nulls.as_ref(), a.logical_nulls().as_ref()));
        match nulls.filter(|n| n.null_count() > 0) {
            None => call(engine, &args, rows),
            Some(nulls) if nulls.null_count() == rows => Ok(new_null_array(&self.signature.result(), rows)),
            Some(nulls) => {
                let valid = BooleanArray::new(nulls.inner().clone(), None);
                let known = args.iter().map(|a| Ok(filter(a, &valid)?)).collect::<Result<Vec<_>>>()?;
                let out = call(engine, &known, rows - nulls.null_count())?;
                let mut next = 0;
                let places: UInt32Array = nulls
                    .iter()
                    .map(|valid| {
                        next += u32::from(valid);
                        valid.then(|| next - 1)
                    })
                    .collect();
                Ok(take(&out, &places, None)?)
            }
        }
    }
}

/// Rows that a script gets at a time: what it makes of them has to fit its memory.
const CALL_ROWS: usize = 8192;

fn call(engine: &dyn Engine, args: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
    if rows <= CALL_ROWS {
        return engine.call(args, rows);
    }
    let mut parts: Vec<ArrayRef> = Vec::new();
    for from in (0..rows).step_by(CALL_ROWS) {
        let length = CALL_ROWS.min(rows - from);
        let args: Vec<ArrayRef> = args.iter().map(|a| a.slice(from, length)).collect();
        parts.push(engine.call(&args, length)?);
    }
    let parts: Vec<&dyn Array> = parts.iter().map(|p| p.as_ref()).collect();
    Ok(arrow::compute::concat(&parts)?)
}

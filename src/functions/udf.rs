//! The frame in which the built-in scalar functions stand.
//!
//! ```text
//!  call in SQL ─► parameter forms pick and coerce argument types ─► result type ─► eval(Call) → array
//! ```
//!
//! A function is a [`Builtin`]: a name, the forms of its parameters in a small notation, a result type, and a
//! closure over a [`Call`]. Constant arguments arrive as arrays of one row with a mark, so that patterns and
//! formats are compiled once a batch; a call with constants only is evaluated once.
//!
//! Notation of parameters, separated by blanks, forms by `|`: `s` string, `x` bytes, `i` INT, `l` BIGINT,
//! `d` DOUBLE, `n` any number, `b` BOOLEAN, `t` date, time or timestamp, `I` interval, `a` anything, `A` array, `M` map,
//! `V` variant, `B` bitmap;
//! a trailing `?` makes it optional, `*` allows any number of it.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayAccessor, ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, NullBufferBuilder,
    PrimitiveArray, StringArray,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};

use crate::error::{Error, Result};
use crate::functions::room::{append, check_room, room};
use crate::functions::signature::{self, Form};
use crate::stream::bytes::array_bytes;

/// How a result type follows from the arguments.
#[derive(Clone)]
pub(crate) enum Ret {
    /// Always that type.
    Type(DataType),
    /// The type of the argument.
    Arg(usize),
    /// Computed from types and constants.
    Of(ReturnType),
}

/// Computes a result type from the argument types and the constant arguments.
pub(crate) type ReturnType = fn(&[DataType], &[Option<&ScalarValue>]) -> Result<DataType>;

/// Nullability of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nulls {
    /// Null exactly when an argument is.
    Propagate,
    /// May be null for other reasons.
    May,
    /// Never null.
    Never,
}

/// Evaluates a call.
pub(crate) type Eval = Arc<dyn Fn(&Call<'_>) -> Result<ArrayRef> + Send + Sync>;

/// A built-in scalar function.
pub(crate) struct Builtin {
    name: &'static str,
    forms: Vec<Form>,
    ret: Ret,
    nulls: Nulls,
    signature: Signature,
    eval: Eval,
}

impl Builtin {
    /// A pure function that is null when an argument is.
    pub(crate) fn new(
        name: &'static str,
        forms: &str,
        ret: Ret,
        eval: impl Fn(&Call<'_>) -> Result<ArrayRef> + Send + Sync + 'static,
    ) -> Self {
        Builtin {
            name,
            forms: signature::parse_forms(forms),
            ret,
            nulls: Nulls::Propagate,
            signature: Signature::new(TypeSignature::UserDefined, Volatility::Immutable),
            eval: Arc::new(eval),
        }
    }

    /// Sets when results are null.
    #[must_use]
    pub(crate) fn nulls(mut self, nulls: Nulls) -> Self {
        self.nulls = nulls;
        self
    }

    /// Sets how often it has to be evaluated.
    #[must_use]
    pub(crate) fn volatility(mut self, volatility: Volatility) -> Self {
        self.signature.volatility = volatility;
        self
    }

    /// As DataFusion wants it.
    pub(crate) fn build(self) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::new_from_impl(self))
    }
}

/// Whether a function is one of these and NULL exactly when an argument is.
pub(crate) fn is_strict(f: &ScalarUDF) -> bool {
    f.inner().downcast_ref::<Builtin>().is_some_and(|b| b.nulls == Nulls::Propagate)
}

impl fmt::Debug for Builtin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builtin").field("name", &self.name).finish_non_exhaustive()
    }
}

impl PartialEq for Builtin {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.eval, &other.eval)
    }
}

impl Eq for Builtin {}

impl Hash for Builtin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Builtin {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> DfResult<DataType> {
        let none = vec![None; arg_types.len()];
        Ok(self.result_type(arg_types, &none)?)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        let ty = self.result_type(&types, args.scalar_arguments)?;
        let nullable = match self.nulls {
            Nulls::Propagate => args.arg_fields.iter().any(|f| f.is_nullable()),
            Nulls::May => true,
            Nulls::Never => false,
        };
        Ok(Arc::new(Field::new(self.name, ty, nullable)))
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> DfResult<Vec<DataType>> {
        // A mismatch is told by `return_field_from_args`, whose errors DataFusion passes on unchanged.
        Ok(signature::coerce(&self.forms, arg_types).unwrap_or_else(|| arg_types.to_vec()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let once = constant && self.signature.volatility != Volatility::Volatile;
        let rows = if once { 1 } else { args.number_rows };
        let mut arrays = Vec::with_capacity(args.args.len());
        let mut single = Vec::with_capacity(args.args.len());
        for a in &args.args {
            match a {
                ColumnarValue::Array(a) => {
                    arrays.push(Arc::clone(a));
                    single.push(false);
                }
                ColumnarValue::Scalar(s) => {
                    arrays.push(s.to_array()?);
                    single.push(true);
                }
            }
        }
        let call = Call { arrays, single, rows, return_type: args.return_field.data_type() };
        let out = (self.eval)(&call).map_err(|e| match e.overflow() {
            Some(_) => e.context(self.name.trim_start_matches('_').to_uppercase()),
            None => e,
        });
        let out = out.map_err(DataFusionError::from)?;
        if once {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&out, 0)?));
        }
        Ok(ColumnarValue::Array(out))
    }
}

impl Builtin {
    fn result_type(&self, types: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
        if signature::coerce(&self.forms, types).is_none() {
            return Err(signature::mismatch(self.name, &self.forms, types));
        }
        match &self.ret {
            Ret::Type(t) => Ok(t.clone()),
            Ret::Arg(i) => Ok(types.get(*i).cloned().unwrap_or(DataType::Null)),
            Ret::Of(f) => f(types, constants),
        }
    }
}

/// The arguments of one evaluation.
pub(crate) struct Call<'a> {
    arrays: Vec<ArrayRef>,
    single: Vec<bool>,
    /// Rows to produce.
    pub(crate) rows: usize,
    /// The type to produce.
    pub(crate) return_type: &'a DataType,
}

impl Call<'_> {
    /// How many arguments there are.
    pub(crate) fn len(&self) -> usize {
        self.arrays.len()
    }

    /// Whether argument `i` was given.
    pub(crate) fn has(&self, i: usize) -> bool {
        i < self.arrays.len()
    }

    /// Whether argument `i` is one constant.
    pub(crate) fn is_constant(&self, i: usize) -> bool {
        self.single.get(i).copied().unwrap_or(false)
    }

    /// Type of argument `i`.
    pub(crate) fn ty(&self, i: usize) -> &DataType {
        self.arrays.get(i).map_or(&DataType::Null, |a| a.data_type())
    }

    /// Argument `i` with one value a row.
    pub(crate) fn full(&self, i: usize) -> Result<ArrayRef> {
        let a = self.raw(i)?;
        if self.is_constant(i) && self.rows != 1 {
            let bytes = array_bytes(a.as_ref()).saturating_mul(self.rows);
            if bytes > room() {
                return Err(Error::batch_overflow(Some(bytes)));
            }
            return Ok(ScalarValue::try_from_array(a, 0)?.to_array_of_size(self.rows)?);
        }
        Ok(Arc::clone(a))
    }

    /// Argument `i`: one value if it is constant, else one a row.
    pub(crate) fn raw(&self, i: usize) -> Result<&ArrayRef> {
        self.arrays.get(i).ok_or_else(|| Error::internal(format!("argument {i} is missing")))
    }

    fn array<A: 'static>(&self, i: usize) -> Result<&A> {
        let a = self.raw(i)?;
        a.as_any().downcast_ref::<A>().ok_or_else(|| {
            Error::internal(format!("argument {i} came as {} instead of the declared type", a.data_type()))
        })
    }

    fn typed<A: 'static>(&self, i: usize) -> Result<Col<'_, A>> {
        Ok(Col { array: self.array(i)?, single: self.is_constant(i) })
    }

    /// Argument `i` as the array of its strings: one if it is constant.
    pub(crate) fn strings(&self, i: usize) -> Result<&StringArray> {
        self.array(i)
    }

    /// Argument `i` as strings.
    pub(crate) fn str(&self, i: usize) -> Result<Col<'_, StringArray>> {
        self.typed(i)
    }

    /// Argument `i` as bytes.
    pub(crate) fn bytes(&self, i: usize) -> Result<Col<'_, BinaryArray>> {
        self.typed(i)
    }

    /// Argument `i` as booleans.
    pub(crate) fn bool(&self, i: usize) -> Result<Col<'_, BooleanArray>> {
        self.typed(i)
    }

    /// Argument `i` as primitives.
    pub(crate) fn prim<T: ArrowPrimitiveType>(&self, i: usize) -> Result<Col<'_, PrimitiveArray<T>>> {
        self.typed(i)
    }
}

/// One argument, by row.
pub(crate) struct Col<'a, A> {
    array: &'a A,
    single: bool,
}

impl<'a, A> Col<'a, A>
where
    &'a A: ArrayAccessor,
{
    /// The value of a row.
    #[inline]
    pub(crate) fn get(&self, row: usize) -> Option<<&'a A as ArrayAccessor>::Item> {
        let row = if self.single { 0 } else { row };
        if self.array.is_null(row) { None } else { Some(self.array.value(row)) }
    }
}

/// Builds strings: `f` appends row `i` to the text of the rows before and says whether it is not null.
pub(crate) fn build_strings(
    rows: usize,
    mut f: impl FnMut(usize, &mut String) -> Result<bool>,
) -> Result<ArrayRef> {
    let mut text = String::with_capacity(rows * 16);
    let mut offsets = Vec::with_capacity(rows + 1);
    let mut nulls = NullBufferBuilder::new(rows);
    offsets.push(0);
    for i in 0..rows {
        let from = text.len();
        if f(i, &mut text)? {
            check_room(from, text.len() - from)?;
            nulls.append_non_null();
        } else {
            text.truncate(from);
            nulls.append_null();
        }
        offsets.push(text.len() as i32);
    }
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    Ok(Arc::new(StringArray::try_new(offsets, text.into_bytes().into(), nulls.finish())?))
}

/// Builds primitives row by row.
pub(crate) fn build_prims<T: ArrowPrimitiveType>(
    rows: usize,
    mut f: impl FnMut(usize) -> Result<Option<T::Native>>,
) -> Result<ArrayRef> {
    let mut out = arrow::array::PrimitiveBuilder::<T>::with_capacity(rows);
    for i in 0..rows {
        out.append_option(f(i)?);
    }
    Ok(Arc::new(out.finish()))
}

/// Builds booleans row by row.
pub(crate) fn build_bools(rows: usize, mut f: impl FnMut(usize) -> Result<Option<bool>>) -> Result<ArrayRef> {
    let mut out = arrow::array::BooleanBuilder::with_capacity(rows);
    for i in 0..rows {
        out.append_option(f(i)?);
    }
    Ok(Arc::new(out.finish()))
}

/// Builds bytes row by row: `f` writes row `i` into the buffer and says whether it is not null.
pub(crate) fn build_bytes(
    rows: usize,
    mut f: impl FnMut(usize, &mut Vec<u8>) -> Result<bool>,
) -> Result<ArrayRef> {
    let mut out = arrow::array::BinaryBuilder::with_capacity(rows, rows * 16);
    let mut buffer = Vec::new();
    for i in 0..rows {
        buffer.clear();
        if f(i, &mut buffer)? {
            append(&mut out, &buffer)?;
        } else {
            out.append_null();
        }
    }
    Ok(Arc::new(out.finish()))
}

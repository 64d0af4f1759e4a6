//! `CAST` and `TRY_CAST` with Flink's meaning.
//!
//! ```text
//!  Expr::Cast ─► agrees with Arrow? keep it ─► else the function CAST(x) for that target type
//!                                              number: wrap, saturate, NULL on DECIMAL overflow
//!                                              text:   parse (fail or NULL) · print
//!                                              time:   fields and zones
//! ```

pub(crate) mod number;
pub(crate) mod parse;
pub(crate) mod text;
pub(crate) mod time;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, ListArray, MapArray, StructArray, new_null_array};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use chrono_tz::Tz;
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::{Cast, ScalarFunction, TryCast};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::error::{Error, Result};
use crate::functions::context::FunctionContext;
use crate::functions::json::variant;
use crate::functions::udf::{Builtin, Ret};
use crate::types::{LogicalType, is_bitmap, is_variant, sql_name};

/// Name of the identity function that marks the argument of a cast, see the rewrite of calls.
pub(crate) const CAST_TAG: &str = "__as";

/// The mark of the condition of an IF.
pub(super) const IF_TAG: &str = "IF";

/// The identity with a mark.
pub(crate) fn tag_function() -> Arc<ScalarUDF> {
    Builtin::new(CAST_TAG, "a s", Ret::Arg(0), |c| c.full(0)).build()
}

/// The argument of a cast without its mark.
pub(crate) fn untag(e: Expr) -> Expr {
    match e {
        Expr::ScalarFunction(mut f) if f.name() == CAST_TAG && !f.args.is_empty() => f.args.swap_remove(0),
        other => other,
    }
}

/// How a cast answers what it cannot convert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Mode {
    /// NULL instead of an error.
    pub(crate) lenient: bool,
    /// The session zone.
    pub(crate) zone: Tz,
}

/// An expression that casts, literal results folded.
///
/// # Errors
/// Casts that Flink refuses; literals that do not convert.
pub(crate) fn cast_expr(
    e: Expr,
    from: &DataType,
    to: &DataType,
    lenient: bool,
    context: &FunctionContext,
) -> Result<Expr> {
    if from == to {
        return Ok(e);
    }
    check_castable(from, to)?;
    let mode = Mode { lenient, zone: context.time_zone };
    if let Expr::Literal(value, metadata) = &e
        && !to.is_nested()
    {
        let array = cast_array(&value.to_array()?, to, mode)?;
        return Ok(Expr::Literal(ScalarValue::try_from_array(&array, 0)?, metadata.clone()));
    }
    if is_native(from, to, context.time_zone) {
        return Ok(if lenient {
            Expr::TryCast(TryCast::new(Box::new(e), to.clone()))
        } else {
            Expr::Cast(Cast::new(Box::new(e), to.clone()))
        });
    }
    let udf = ScalarUDF::new_from_impl(FlinkCast {
        from: None,
        to: to.clone(),
        mode,
        signature: Signature::any(1, Volatility::Immutable),
    });
    Ok(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(udf), vec![e])))
}

/// The text of an expression, with the digits of times that its SQL type has and Arrow's has not.
pub(super) fn text_of(e: Expr, from: LogicalType, zone: Tz) -> Expr {
    let udf = ScalarUDF::new_from_impl(FlinkCast {
        from: Some(from),
        to: DataType::Utf8,
        mode: Mode { lenient: false, zone },
        signature: Signature::any(1, Volatility::Immutable),
    });
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(udf), vec![e]))
}

fn check_castable(from: &DataType, to: &DataType) -> Result<()> {
    if is_bitmap(from) || is_bitmap(to) || is_variant(to) {
        return if *from == DataType::Null
            || is_bitmap(from) && matches!(to, DataType::Utf8 | DataType::Binary)
        {
            Ok(())
        } else {
            Err(unsupported(from, to))
        };
    }
    if is_variant(from) {
        return Ok(());
    }
    let numeric_time = |a: &DataType, b: &DataType| {
        a.is_numeric() && matches!(b, DataType::Timestamp(_, _) | DataType::Date32 | DataType::Time32(_))
    };
    let bool_time = |a: &DataType, b: &DataType| {
        *a == DataType::Boolean
            && matches!(b, DataType::Timestamp(_, _) | DataType::Date32 | DataType::Time32(_))
    };
    let bad = numeric_time(from, to)
        || numeric_time(to, from)
        || bool_time(from, to)
        || bool_time(to, from)
        || (from.is_nested() && !to.is_nested() && *to != DataType::Utf8)
        || (!from.is_nested() && to.is_nested() && *from != DataType::Null);
    if bad {
        if from.is_nested() || to.is_nested() {
            return Err(
                unsupported(from, to).hint("ARRAY, MAP and ROW are cast to their like, and to STRING")
            );
        }
        return Err(unsupported(from, to).hint(
            "numbers become instants with TO_TIMESTAMP_LTZ(n, precision), times become numbers with EXTRACT or \
             TIMESTAMPDIFF",
        ));
    }
    Ok(())
}

/// Whether Arrow's cast does exactly what Flink does and cannot fail.
pub(crate) fn is_native(from: &DataType, to: &DataType, zone: Tz) -> bool {
    use DataType as D;
    if matches!(from, D::Null) {
        return true;
    }
    match (from, to) {
        (D::Int8, D::Int16 | D::Int32 | D::Int64 | D::Float32 | D::Float64)
        | (D::Int16, D::Int32 | D::Int64 | D::Float32 | D::Float64)
        | (D::Int32, D::Int64 | D::Float32 | D::Float64)
        | (D::Int64, D::Float32 | D::Float64)
        | (D::Float32, D::Float64) => true,
        (D::Int8 | D::Int16 | D::Int32 | D::Int64, D::Decimal128(p, s)) => {
            crate::functions::arith::decimal_of(from)
                .is_some_and(|(d, _)| d as i16 <= i16::from(*p) - i16::from(*s))
        }
        (D::Decimal128(p1, s1), D::Decimal128(p2, s2)) => {
            s2 >= s1 && i16::from(*p2) - i16::from(*s2) >= i16::from(*p1) - i16::from(*s1)
        }
        // Comparisons alone go there: two DECIMALs may need more than 38 digits to be told apart.
        (D::Int8 | D::Int16 | D::Int32 | D::Int64 | D::Decimal128(..), D::Decimal256(..)) => true,
        (D::Utf8 | D::LargeUtf8 | D::Utf8View, D::Utf8) => true,
        (D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_), D::Binary) => true,
        (D::Timestamp(_, None), D::Timestamp(_, Some(_)))
        | (D::Timestamp(_, Some(_)), D::Timestamp(_, None)) => {
            // Only a finer or equal unit: Arrow truncates toward zero, Flink toward the past.
            zone == Tz::UTC && finer(from, to)
        }
        (D::Timestamp(_, _), D::Timestamp(_, _)) => finer(from, to),
        (D::Date32, D::Timestamp(TimeUnit::Millisecond, None)) => true,
        _ => false,
    }
}

fn finer(from: &DataType, to: &DataType) -> bool {
    let rank = |t: &DataType| match t {
        DataType::Timestamp(TimeUnit::Second, _) => 0,
        DataType::Timestamp(TimeUnit::Millisecond, _) => 1,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 2,
        // Nanoseconds cover the years 1677 to 2262 only; Arrow's cast there can overflow.
        _ => 3,
    };
    rank(to) >= rank(from) && (rank(to) < 3 || rank(from) == 3)
}

/// `CAST(x AS type)` where Arrow's differs.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct FlinkCast {
    /// What is cast, if that is more than its Arrow type.
    from: Option<LogicalType>,
    to: DataType,
    mode: Mode,
    signature: Signature,
}

impl ScalarUDFImpl for FlinkCast {
    fn name(&self) -> &str {
        if self.mode.lenient { "TRY_CAST" } else { "CAST" }
    }

    fn schema_name(&self, args: &[Expr]) -> DfResult<String> {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        Ok(format!("{}({} AS {})", self.name(), args.join(", "), sql_name(&self.to)))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DfResult<DataType> {
        Ok(self.to.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        let nullable = self.mode.lenient
            || matches!(self.to, DataType::Decimal128(_, _))
            || args.arg_fields.iter().any(|f| f.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.to.clone(), nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let cast = |a: &ArrayRef| match &self.from {
            Some(ty) => text::to_text_of(a, ty, self.mode.zone),
            None => cast_array(a, &self.to, self.mode),
        };
        match args.args.first() {
            Some(ColumnarValue::Array(a)) => Ok(ColumnarValue::Array(cast(a)?)),
            Some(ColumnarValue::Scalar(s)) => {
                let out = cast(&s.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&out, 0)?))
            }
            None => Err(Error::internal("CAST without an argument").into()),
        }
    }
}

/// Casts an array.
///
/// # Errors
/// The first value that does not convert, unless lenient.
pub(crate) fn cast_array(a: &ArrayRef, to: &DataType, mode: Mode) -> Result<ArrayRef> {
    use DataType as D;
    let from = a.data_type();
    if from == to {
        return Ok(Arc::clone(a));
    }
    if is_native(from, to, mode.zone) {
        return Ok(arrow::compute::cast(a, to)?);
    }
    match (from, to) {
        (D::Null, _) => Ok(new_null_array(to, a.len())),
        _ if variant::is_cast(from, to) => variant::cast(a, to, mode),
        (D::LargeUtf8 | D::Utf8View, _) => cast_array(&arrow::compute::cast(a, &D::Utf8)?, to, mode),
        (_, D::Utf8) => match from {
            D::Binary => bytes_to_text(a.as_binary::<i32>(), mode),
            _ => text::to_text(a, mode.zone),
        },
        (D::Utf8, D::Binary) => Ok(arrow::compute::cast(a, to)?),
        (D::Utf8, D::List(_) | D::Map(_, _) | D::Struct(_)) => Err(unsupported(from, to)),
        (D::Utf8, _) => parse::parse(a.as_string::<i32>(), to, mode),
        (D::List(_), D::List(f)) => {
            let l = a.as_list::<i32>();
            let values = cast_array(l.values(), f.data_type(), mode)?;
            let lost = lost(l.values(), &values, mode);
            let nulls = with_lost(l.nulls(), l.len(), lost.as_ref(), |i| {
                let o = l.value_offsets();
                o.get(i).copied().unwrap_or(0) as usize..o.get(i + 1).copied().unwrap_or(0) as usize
            });
            Ok(Arc::new(ListArray::try_new(Arc::clone(f), l.offsets().clone(), values, nulls)?))
        }
        (D::Map(_, _), D::Map(f, sorted)) => {
            let m = a.as_map();
            let DataType::Struct(fields) = f.data_type() else { return Err(unsupported(from, to)) };
            let mut columns = Vec::with_capacity(2);
            let mut lost_entries: Option<BooleanBuffer> = None;
            for (column, field) in m.entries().columns().iter().zip(fields) {
                let cast = cast_array(column, field.data_type(), mode)?;
                if let Some(l) = lost(column, &cast, mode) {
                    lost_entries = Some(lost_entries.map_or(l.clone(), |known| &known | &l));
                }
                columns.push(cast);
            }
            let nulls = with_lost(m.nulls(), m.len(), lost_entries.as_ref(), |i| {
                let o = m.value_offsets();
                o.get(i).copied().unwrap_or(0) as usize..o.get(i + 1).copied().unwrap_or(0) as usize
            });
            // Arrow knows no NULL among keys; the maps that have one are NULL.
            if let (Some(key), Some(field)) = (columns.first_mut(), fields.first())
                && !field.is_nullable()
                && key.null_count() > 0
            {
                *key = without_nulls(key)?;
            }
            let entries = StructArray::try_new(fields.clone(), columns, None)?;
            Ok(Arc::new(MapArray::try_new(Arc::clone(f), m.offsets().clone(), entries, nulls, *sorted)?))
        }
        (D::Struct(_), D::Struct(fields)) => {
            let s = a.as_struct();
            if s.num_columns() != fields.len() {
                return Err(unsupported(from, to));
            }
            let columns = s
                .columns()
                .iter()
                .zip(fields)
                .map(|(c, f)| cast_array(c, f.data_type(), mode))
                .collect::<Result<Vec<_>>>()?;
            let mut nulls = s.nulls().cloned();
            for (before, after) in s.columns().iter().zip(&columns) {
                let lost = lost(before, after, mode);
                nulls = with_lost(nulls.as_ref(), s.len(), lost.as_ref(), |i| i..i + 1);
            }
            Ok(Arc::new(StructArray::try_new(fields.clone(), columns, nulls)?))
        }
        _ if time::is_time(from) || time::is_time(to) => {
            time::cast(a, to, mode)?.ok_or_else(|| unsupported(from, to))
        }
        _ => number::cast(a, to, mode)?.ok_or_else(|| unsupported(from, to)),
    }
}

/// The values that TRY_CAST could not convert: what they are in becomes NULL as a whole. A DECIMAL that is too large is a
/// NULL in its place.
fn lost(before: &ArrayRef, after: &ArrayRef, mode: Mode) -> Option<BooleanBuffer> {
    let overflows = matches!(after.data_type(), DataType::Decimal128(..)) && before.data_type().is_numeric();
    if !mode.lenient || overflows || after.null_count() == before.logical_null_count() {
        return None;
    }
    let valid = |a: &ArrayRef| match a.logical_nulls() {
        Some(n) => n.inner().clone(),
        None => BooleanBuffer::new_set(a.len()),
    };
    Some(&valid(before) & &!&valid(after))
}

/// The nulls of a column, and of the rows that have lost values.
fn with_lost(
    nulls: Option<&NullBuffer>,
    rows: usize,
    lost: Option<&BooleanBuffer>,
    range: impl Fn(usize) -> Range<usize>,
) -> Option<NullBuffer> {
    let Some(lost) = lost else { return nulls.cloned() };
    let whole = (0..rows).map(|i| nulls.is_none_or(|n| n.is_valid(i)) && !range(i).any(|k| lost.value(k)));
    Some(whole.collect::<NullBuffer>())
}

/// Some value in place of each NULL.
fn without_nulls(a: &ArrayRef) -> Result<ArrayRef> {
    let data = a.to_data().into_builder().nulls(None).build()?;
    Ok(arrow::array::make_array(data))
}

fn unsupported(from: &DataType, to: &DataType) -> Error {
    Error::validation(format!("cannot cast {} to {}", sql_name(from), sql_name(to)))
}

fn bytes_to_text(a: &BinaryArray, mode: Mode) -> Result<ArrayRef> {
    let mut out = arrow::array::StringBuilder::with_capacity(a.len(), a.value_data().len());
    for v in a {
        match v.map(std::str::from_utf8) {
            None => out.append_null(),
            Some(Ok(s)) => out.append_value(s),
            Some(Err(_)) if mode.lenient => out.append_null(),
            Some(Err(e)) => {
                return Err(Error::data(format!(
                    "CAST of bytes to STRING: invalid UTF-8 at byte {}",
                    e.valid_up_to()
                ))
                .hint("TRY_CAST gives NULL instead"));
            }
        }
    }
    Ok(Arc::new(out.finish()))
}

/// A value that does not convert.
pub(crate) fn failed(value: &str, to: &DataType) -> Error {
    let name = sql_name(to);
    let shown: String = value.chars().take(100).collect();
    Error::data(format!("CAST: '{shown}' is no {name}")).hint("TRY_CAST gives NULL instead")
}

//! Fixed-width values as 64-bit integers of the same order, so that tables and trees need one layout for all of them.
//!
//! Integers, booleans, dates, times and timestamps widen; floats become the integer whose order is theirs, with one
//! zero and one NaN, which is greater than everything else. Decimals, intervals and all other types have none.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    IntervalUnit, IntervalYearMonthType, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};

use crate::error::{Error, Result};
use crate::state::key::canonical_bits;

/// Whether values of the type have an ordinal.
pub fn is_ordinal(ty: &DataType) -> bool {
    use DataType as D;
    matches!(
        ty,
        D::Boolean
            | D::Int8
            | D::Int16
            | D::Int32
            | D::Int64
            | D::Float32
            | D::Float64
            | D::Date32
            | D::Date64
            | D::Time32(_)
            | D::Time64(_)
            | D::Timestamp(..)
            | D::Interval(IntervalUnit::YearMonth)
    )
}

macro_rules! integer_types {
    ($ty:expr, $apply:ident, $other:expr) => {{
        use DataType as D;
        match $ty {
            D::Int8 => $apply!(Int8Type),
            D::Int16 => $apply!(Int16Type),
            D::Int32 => $apply!(Int32Type),
            D::Int64 => $apply!(Int64Type),
            D::Date32 => $apply!(Date32Type),
            D::Date64 => $apply!(Date64Type),
            D::Time32(TimeUnit::Second) => $apply!(Time32SecondType),
            D::Time32(_) => $apply!(Time32MillisecondType),
            D::Time64(TimeUnit::Microsecond) => $apply!(Time64MicrosecondType),
            D::Time64(_) => $apply!(Time64NanosecondType),
            D::Timestamp(TimeUnit::Second, _) => $apply!(TimestampSecondType),
            D::Timestamp(TimeUnit::Millisecond, _) => $apply!(TimestampMillisecondType),
            D::Timestamp(TimeUnit::Microsecond, _) => $apply!(TimestampMicrosecondType),
            D::Timestamp(TimeUnit::Nanosecond, _) => $apply!(TimestampNanosecondType),
            D::Interval(IntervalUnit::YearMonth) => $apply!(IntervalYearMonthType),
            _ => $other,
        }
    }};
}

/// Writes the ordinals of `array` to `out` (cleared first); null rows get any value.
///
/// # Errors
/// Internal for a type without ordinals.
pub fn to_ordinals(array: &dyn Array, out: &mut Vec<i64>) -> Result<()> {
    write_ordinals(array, out, |v| order(canonical_bits(v)))
}

/// As [`to_ordinals`], but `-0.0` stays itself, below `0.0`: for values that come out again.
///
/// # Errors
/// Internal for a type without ordinals.
pub fn to_exact_ordinals(array: &dyn Array, out: &mut Vec<i64>) -> Result<()> {
    write_ordinals(array, out, |v| order(if v.is_nan() { canonical_bits(v) } else { v.to_bits() }))
}

fn write_ordinals(array: &dyn Array, out: &mut Vec<i64>, of_float: impl Fn(f64) -> i64) -> Result<()> {
    out.clear();
    macro_rules! widen {
        ($t:ty) => {
            out.extend(array.as_primitive::<$t>().values().iter().map(|v| i64::from(*v)))
        };
    }
    match array.data_type() {
        DataType::Boolean => out.extend(array.as_boolean().values().iter().map(i64::from)),
        DataType::Float32 => {
            out.extend(array.as_primitive::<Float32Type>().values().iter().map(|v| of_float(f64::from(*v))));
        }
        DataType::Float64 => {
            out.extend(array.as_primitive::<Float64Type>().values().iter().map(|v| of_float(*v)));
        }
        ty => integer_types!(ty, widen, return Err(no_ordinals(ty))),
    }
    Ok(())
}

/// The array of type `ty` that has these ordinals.
///
/// # Errors
/// Internal for a type without ordinals.
pub fn from_ordinals(ty: &DataType, values: Vec<i64>, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    macro_rules! narrow {
        ($t:ty) => {{
            // Every ordinal came from a value of this type, so that nothing is cut off.
            let values: Vec<<$t as ArrowPrimitiveType>::Native> =
                values.into_iter().map(|v| v as <$t as ArrowPrimitiveType>::Native).collect();
            std::sync::Arc::new(PrimitiveArray::<$t>::new(values.into(), nulls).with_data_type(ty.clone()))
        }};
    }
    Ok(match ty {
        DataType::Boolean => {
            std::sync::Arc::new(BooleanArray::new(values.iter().map(|v| *v != 0).collect(), nulls))
        }
        DataType::Float32 => {
            let values: Vec<f32> = values.into_iter().map(|v| to_float(v) as f32).collect();
            std::sync::Arc::new(PrimitiveArray::<Float32Type>::new(values.into(), nulls))
        }
        DataType::Float64 => {
            let values: Vec<f64> = values.into_iter().map(to_float).collect();
            std::sync::Arc::new(PrimitiveArray::<Float64Type>::new(values.into(), nulls))
        }
        _ => integer_types!(ty, narrow, return Err(no_ordinals(ty))),
    })
}

fn no_ordinals(ty: &DataType) -> Error {
    Error::internal(format!("values of type {ty} have no ordinals"))
}

#[inline]
fn order(bits: u64) -> i64 {
    let bits = bits as i64;
    // The usual trick of IEEE total order: flip all but the sign of negative values.
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

#[inline]
fn to_float(ordinal: i64) -> f64 {
    f64::from_bits((ordinal ^ (((ordinal >> 63) as u64) >> 1) as i64) as u64)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Date32Array, Float32Array, Float64Array, Int64Array, TimestampMicrosecondArray};

    use super::*;

    fn round_trip(array: &dyn Array) -> Vec<i64> {
        let mut ordinals = Vec::new();
        to_ordinals(array, &mut ordinals).unwrap();
        let back = from_ordinals(array.data_type(), ordinals.clone(), array.nulls().cloned()).unwrap();
        assert_eq!(&back.to_data(), &array.to_data());
        ordinals
    }

    #[test]
    fn values_survive() {
        round_trip(&Int64Array::from(vec![i64::MIN, 0, i64::MAX]));
        round_trip(&BooleanArray::from(vec![true, false]));
        round_trip(&Date32Array::from(vec![i32::MIN, i32::MAX]));
        round_trip(&Float32Array::from(vec![f32::MIN, -1.5, 0.0, 0.1, f32::INFINITY]));
        round_trip(&TimestampMicrosecondArray::from(vec![Some(-1), None]).with_timezone("UTC"));
    }

    #[test]
    fn floats_keep_their_order() {
        let o = round_trip(&Float64Array::from(vec![
            f64::NEG_INFINITY,
            f64::MIN,
            -1.0,
            -f64::MIN_POSITIVE,
            0.0,
            1e-300,
            1.0,
            f64::INFINITY,
            f64::NAN,
        ]));
        assert!(o.is_sorted(), "{o:?}");
        let odd = Float64Array::from(vec![-0.0, 0.0, -f64::NAN, f64::NAN]);
        let (mut one, mut exact) = (Vec::new(), Vec::new());
        to_ordinals(&odd, &mut one).unwrap();
        to_exact_ordinals(&odd, &mut exact).unwrap();
        assert_eq!((one[0], one[2]), (one[1], one[3]));
        assert!(exact[0] < exact[1] && exact[2] == exact[3]);
        let back = from_ordinals(&DataType::Float64, exact, None).unwrap();
        assert!(back.as_primitive::<Float64Type>().value(0).is_sign_negative());
    }
}

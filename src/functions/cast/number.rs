//! Casts among numbers and BOOLEAN: integers wrap, DOUBLE saturates, a DECIMAL that does not fit becomes NULL.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Decimal128Array, Decimal128Builder,
    PrimitiveArray,
};
use arrow::datatypes::{
    DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType,
};

use super::Mode;
use super::parse::decimal_of_text;
use crate::error::Result;
use crate::functions::arith::fits;

/// `None` when the pair of types has no cast.
pub(super) fn cast(a: &ArrayRef, to: &DataType, mode: Mode) -> Result<Option<ArrayRef>> {
    use DataType as D;
    Ok(match a.data_type() {
        D::Boolean => {
            let ints: ArrayRef = Arc::new(
                a.as_boolean().iter().map(|b| b.map(i32::from)).collect::<PrimitiveArray<Int32Type>>(),
            );
            return match to {
                t if t.is_numeric() => super::cast_array(&ints, to, mode).map(Some),
                _ => Ok(None),
            };
        }
        D::Int8 => from_integer(a.as_primitive::<Int8Type>(), to, i64::from),
        D::Int16 => from_integer(a.as_primitive::<Int16Type>(), to, i64::from),
        D::Int32 => from_integer(a.as_primitive::<Int32Type>(), to, i64::from),
        D::Int64 => from_integer(a.as_primitive::<Int64Type>(), to, |v| v),
        D::Float32 => from_float(a.as_primitive::<Float32Type>(), to, f64::from),
        D::Float64 => from_float(a.as_primitive::<Float64Type>(), to, |v| v),
        D::Decimal128(_, s) => from_decimal(a.as_primitive::<Decimal128Type>(), *s as u8, to),
        // Literals of both kinds of intervals have this type.
        D::Interval(IntervalUnit::MonthDayNano) if *to == D::Interval(IntervalUnit::YearMonth) => {
            map::<_, IntervalYearMonthType>(a.as_primitive::<IntervalMonthDayNanoType>(), |v| v.months)
        }
        D::Interval(IntervalUnit::YearMonth) if *to == D::Interval(IntervalUnit::MonthDayNano) => {
            let months = a.as_primitive::<IntervalYearMonthType>();
            map::<_, IntervalMonthDayNanoType>(months, |v| IntervalMonthDayNano::new(v, 0, 0))
        }
        D::Interval(IntervalUnit::YearMonth) => {
            from_integer(a.as_primitive::<IntervalYearMonthType>(), to, i64::from)
        }
        t if t.is_unsigned_integer() => {
            let wide = arrow::compute::cast(a, &D::Int64)?;
            return super::cast_array(&wide, to, mode).map(Some);
        }
        _ => None,
    })
}

fn map<T: ArrowPrimitiveType, O: ArrowPrimitiveType>(
    a: &PrimitiveArray<T>,
    f: impl Fn(T::Native) -> O::Native,
) -> Option<ArrayRef> {
    Some(Arc::new(a.unary::<_, O>(f)))
}

fn decimals<T: ArrowPrimitiveType>(
    a: &PrimitiveArray<T>,
    p: u8,
    s: i8,
    f: impl Fn(T::Native) -> Option<i128>,
) -> Option<ArrayRef> {
    let mut out = Decimal128Builder::with_capacity(a.len()).with_precision_and_scale(p, s).ok()?;
    for v in a {
        out.append_option(v.and_then(&f).filter(|v| fits(*v, p)));
    }
    Some(Arc::new(out.finish()))
}

fn from_integer<T: ArrowPrimitiveType>(
    a: &PrimitiveArray<T>,
    to: &DataType,
    wide: impl Fn(T::Native) -> i64,
) -> Option<ArrayRef> {
    match to {
        DataType::Int8 => map::<_, Int8Type>(a, |v| wide(v) as i8),
        DataType::Int16 => map::<_, Int16Type>(a, |v| wide(v) as i16),
        DataType::Int32 => map::<_, Int32Type>(a, |v| wide(v) as i32),
        DataType::Int64 => map::<_, Int64Type>(a, wide),
        DataType::Float32 => map::<_, Float32Type>(a, |v| wide(v) as f32),
        DataType::Float64 => map::<_, Float64Type>(a, |v| wide(v) as f64),
        DataType::Boolean => {
            Some(Arc::new(a.iter().map(|v| v.map(|v| wide(v) != 0)).collect::<BooleanArray>()))
        }
        DataType::Interval(IntervalUnit::YearMonth) => map::<_, IntervalYearMonthType>(a, |v| wide(v) as i32),
        DataType::Decimal128(p, s) => {
            let factor = 10i128.pow(*s as u32);
            decimals(a, *p, *s, |v| i128::from(wide(v)).checked_mul(factor))
        }
        _ => None,
    }
}

fn from_float<T: ArrowPrimitiveType>(
    a: &PrimitiveArray<T>,
    to: &DataType,
    wide: impl Fn(T::Native) -> f64,
) -> Option<ArrayRef>
where
    T::Native: std::fmt::Display,
{
    match to {
        // Java goes through INT for the small ones: saturate, then wrap.
        DataType::Int8 => map::<_, Int8Type>(a, |v| wide(v) as i32 as i8),
        DataType::Int16 => map::<_, Int16Type>(a, |v| wide(v) as i32 as i16),
        DataType::Int32 => map::<_, Int32Type>(a, |v| wide(v) as i32),
        DataType::Int64 => map::<_, Int64Type>(a, |v| wide(v) as i64),
        DataType::Float32 => map::<_, Float32Type>(a, |v| wide(v) as f32),
        DataType::Float64 => map::<_, Float64Type>(a, wide),
        DataType::Boolean => {
            Some(Arc::new(a.iter().map(|v| v.map(|v| wide(v) != 0.0)).collect::<BooleanArray>()))
        }
        // Through the shortest text, as BigDecimal.valueOf does.
        DataType::Decimal128(p, s) => {
            decimals(a, *p, *s, |v| decimal_of_text(&format!("{:e}", wide(v)), *s as u8))
        }
        _ => None,
    }
}

fn from_decimal(a: &Decimal128Array, scale: u8, to: &DataType) -> Option<ArrayRef> {
    let factor = 10i128.pow(u32::from(scale));
    let whole = move |v: i128| (v / factor) as i64;
    match to {
        DataType::Int8 => map::<_, Int8Type>(a, |v| whole(v) as i8),
        DataType::Int16 => map::<_, Int16Type>(a, |v| whole(v) as i16),
        DataType::Int32 => map::<_, Int32Type>(a, |v| whole(v) as i32),
        DataType::Int64 => map::<_, Int64Type>(a, whole),
        DataType::Float32 => map::<_, Float32Type>(a, |v| decimal_to_double(v, scale) as f32),
        DataType::Float64 => map::<_, Float64Type>(a, |v| decimal_to_double(v, scale)),
        DataType::Boolean => Some(Arc::new(a.iter().map(|v| v.map(|v| v != 0)).collect::<BooleanArray>())),
        DataType::Decimal128(p, s) => decimals(a, *p, *s, |v| rescale(v, scale, *s as u8)),
        _ => None,
    }
}

/// Exactly rounded: both sides below 2^53 divide exactly, everything else goes through text.
pub(crate) fn decimal_to_double(v: i128, scale: u8) -> f64 {
    if v.unsigned_abs() < (1 << 53) && scale <= 22 {
        return v as f64 / 10f64.powi(i32::from(scale));
    }
    format!("{v}e-{scale}").parse().unwrap_or(f64::NAN)
}

/// To another scale, half up; `None` on overflow.
pub(crate) fn rescale(v: i128, from: u8, to: u8) -> Option<i128> {
    if to >= from {
        return v.checked_mul(10i128.checked_pow(u32::from(to - from))?);
    }
    let factor = 10i128.checked_pow(u32::from(from - to))?;
    let (q, r) = (v / factor, v % factor);
    Some(if r.abs() * 2 >= factor { q + v.signum() } else { q })
}

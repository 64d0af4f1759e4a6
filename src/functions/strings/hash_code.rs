//! `HASH_CODE`: the `hashCode` of the Java objects that stand for values in Flink; of a text its size.

use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time32MillisecondType,
};

use crate::error::{Error, Result};
use crate::functions::cast::time::Times;
use crate::functions::udf::{Builtin, Call, Ret, build_prims};
use crate::types::sql_name;

pub(super) fn function() -> Builtin {
    Builtin::new("hash_code", "s|n|b|t", Ret::Type(DataType::Int32), evaluate)
}

fn evaluate(c: &Call<'_>) -> Result<ArrayRef> {
    fn each<T: ArrowPrimitiveType>(a: &ArrayRef, hash: impl Fn(T::Native) -> i32) -> ArrayRef {
        Arc::new(a.as_primitive::<T>().unary::<_, Int32Type>(hash))
    }
    let a = c.full(0)?;
    Ok(match a.data_type() {
        DataType::Utf8 => {
            let s = c.str(0)?;
            return build_prims::<Int32Type>(c.rows, |i| Ok(s.get(i).map(of_text)));
        }
        DataType::Boolean => {
            let values = c.bool(0)?;
            return build_prims::<Int32Type>(c.rows, |i| {
                Ok(values.get(i).map(|v| if v { 1231 } else { 1237 }))
            });
        }
        DataType::Int8 => each::<Int8Type>(&a, i32::from),
        DataType::Int16 => each::<Int16Type>(&a, i32::from),
        DataType::Int32 => each::<Int32Type>(&a, |v| v),
        DataType::Int64 => each::<Int64Type>(&a, of_long),
        DataType::Float32 => {
            each::<Float32Type>(&a, |v| if v.is_nan() { f32::NAN } else { v }.to_bits() as i32)
        }
        DataType::Float64 => {
            each::<Float64Type>(&a, |v| of_long(if v.is_nan() { f64::NAN } else { v }.to_bits() as i64))
        }
        DataType::Decimal128(_, scale) => {
            let scale = i32::from(*scale);
            each::<Decimal128Type>(&a, |v| of_decimal(v, scale))
        }
        DataType::Date32 => each::<Date32Type>(&a, |v| v),
        DataType::Time32(_) => each::<Time32MillisecondType>(&a, |v| v),
        DataType::Timestamp(..) => {
            let times = Times::new(&a)?;
            return build_prims::<Int32Type>(c.rows, |i| {
                Ok(times.get(i).map(|(seconds, nanos)| {
                    let millis = seconds.wrapping_mul(1000).wrapping_add(nanos / 1_000_000);
                    let hash = (millis ^ (millis >> 32)) as i32;
                    hash.wrapping_mul(31).wrapping_add((nanos % 1_000_000) as i32)
                }))
            });
        }
        other => return Err(Error::validation(format!("HASH_CODE takes no {}", sql_name(other)))),
    })
}

fn of_text(s: &str) -> i32 {
    let step = |hash: i32, unit: u16| hash.wrapping_mul(31).wrapping_add(i32::from(unit));
    let hash = match s.is_ascii() {
        true => s.bytes().fold(0, |hash, b| step(hash, u16::from(b))),
        false => s.encode_utf16().fold(0, step),
    };
    hash.wrapping_abs()
}

fn of_long(v: i64) -> i32 {
    (v ^ (v as u64 >> 32) as i64) as i32
}

/// That of a BigDecimal: its digits as words of 32 bits, and its scale.
fn of_decimal(v: i128, scale: i32) -> i32 {
    let size = v.unsigned_abs();
    let words = [96, 64, 32, 0].map(|shift| (size >> shift) as u32 as i32);
    let hash = words.into_iter().fold(0i32, |hash, word| hash.wrapping_mul(31).wrapping_add(word));
    let hash = if v < 0 { hash.wrapping_neg() } else { hash };
    hash.wrapping_mul(31).wrapping_add(scale)
}

//! Stable 64-bit hash of typed key columns.
//!
//! ```text
//!  column 0 ─► xxh3(value) ─┐
//!  column 1 ─► xxh3(value) ─┴► xxh3(previous ‖ this) ─► … ─► hash ─► top 7 bits: key group
//! ```
//!
//! It decides which key group a row belongs to and is therefore part of the on-disk state format: **never change
//! what it returns** (the tests hold golden vectors). The encoding of one value, hashed by XXH3-64 with seed 0:
//!
//! | type | bytes |
//! |---|---|
//! | integers, booleans, dates, times, timestamps, year-month intervals | the value as 64-bit two's complement, little endian |
//! | floats | the bits as a 64-bit float, little endian; `-0.0` as `0.0`, every NaN as one |
//! | decimals up to 128 bits | the unscaled value, 128 bits, little endian |
//! | day-time and month-day-nano intervals | their parts, each little endian |
//! | strings and binaries | their bytes |
//! | lists | the element hashes, 8 bytes little endian each |
//! | rows | the field hashes combined as key columns are |
//! | maps | the wrapping sum of the entry hashes, 8 bytes little endian (entries have no order) |
//!
//! NULL has a hash of its own, [`NULL_HASH`]. A key of several columns is combined from left to right by hashing the
//! 16 bytes `previous ‖ this`. No columns (a global aggregate) hash to 0. The type is not part of the encoding, so an
//! INT and a BIGINT of the same value meet in the same group; scale, unit and zone are not either.

use arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait, UInt8Array};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type,
    DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType,
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalDayTimeType,
    IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};
use crate::stream::key_group::KeyGroup;

/// The hash of NULL: XXH3-64 of the five bytes `\0NULL`.
pub const NULL_HASH: u64 = 0xb2e5_01bb_02ea_9362;

/// Writes the hash of each of the `rows` rows of `columns` to `out` (cleared first).
///
/// # Errors
/// Unsupported for a column type without an encoding; internal when a column is not `rows` long.
pub fn hash_columns(columns: &[ArrayRef], rows: usize, out: &mut Vec<u64>) -> Result<()> {
    out.clear();
    out.resize(rows, 0);
    for (i, column) in columns.iter().enumerate() {
        if column.len() != rows {
            return Err(Error::internal("key columns of different lengths"));
        }
        if i == 0 {
            hash_into(column, out, &mut |_, this| this)?;
        } else {
            hash_into(column, out, &mut combine)?;
        }
    }
    Ok(())
}

/// The key group of each hash.
pub fn key_groups_of(hashes: &[u64]) -> UInt8Array {
    hashes.iter().map(|h| KeyGroup::of_hash(*h).0).collect::<Vec<u8>>().into()
}

/// The key group of each row of `columns`.
///
/// # Errors
/// As [`hash_columns`].
pub fn key_groups(columns: &[ArrayRef], rows: usize) -> Result<UInt8Array> {
    let mut hashes = Vec::new();
    hash_columns(columns, rows, &mut hashes)?;
    Ok(key_groups_of(&hashes))
}

/// Hash of a 64-bit integer key.
#[inline]
pub fn hash_i64(value: i64) -> u64 {
    xxh3_64(&value.to_le_bytes())
}

#[inline]
fn combine(previous: u64, this: u64) -> u64 {
    let mut bytes = [0_u8; 16];
    bytes[..8].copy_from_slice(&previous.to_le_bytes());
    bytes[8..].copy_from_slice(&this.to_le_bytes());
    xxh3_64(&bytes)
}

/// Bits of a float with one zero and one NaN.
#[inline]
pub fn canonical_bits(value: f64) -> u64 {
    if value.is_nan() {
        f64::NAN.to_bits() & !(1 << 63)
    } else if value == 0.0 {
        0
    } else {
        value.to_bits()
    }
}

/// Applies `f(previous, hash of this value)` to each row.
fn hash_into<F: FnMut(u64, u64) -> u64>(array: &dyn Array, out: &mut [u64], f: &mut F) -> Result<()> {
    use DataType as D;
    match array.data_type() {
        D::Null => out.iter_mut().for_each(|o| *o = f(*o, NULL_HASH)),
        D::Boolean => {
            let a = array.as_boolean();
            each(a, out, f, |i| hash_i64(i64::from(a.value(i))));
        }
        D::Int8 => ints::<Int8Type, _>(array, out, f),
        D::Int16 => ints::<Int16Type, _>(array, out, f),
        D::Int32 => ints::<Int32Type, _>(array, out, f),
        D::Int64 => ints::<Int64Type, _>(array, out, f),
        D::UInt8 => ints::<UInt8Type, _>(array, out, f),
        D::UInt16 => ints::<UInt16Type, _>(array, out, f),
        D::UInt32 => ints::<UInt32Type, _>(array, out, f),
        D::UInt64 => primitives::<UInt64Type, _>(array, out, f, |v| xxh3_64(&v.to_le_bytes())),
        D::Float32 => primitives::<Float32Type, _>(array, out, f, |v| hash_f64(f64::from(v))),
        D::Float64 => primitives::<Float64Type, _>(array, out, f, hash_f64),
        D::Date32 => ints::<Date32Type, _>(array, out, f),
        D::Date64 => ints::<Date64Type, _>(array, out, f),
        D::Time32(TimeUnit::Second) => ints::<Time32SecondType, _>(array, out, f),
        D::Time32(_) => ints::<Time32MillisecondType, _>(array, out, f),
        D::Time64(TimeUnit::Microsecond) => ints::<Time64MicrosecondType, _>(array, out, f),
        D::Time64(_) => ints::<Time64NanosecondType, _>(array, out, f),
        D::Timestamp(TimeUnit::Second, _) => ints::<TimestampSecondType, _>(array, out, f),
        D::Timestamp(TimeUnit::Millisecond, _) => ints::<TimestampMillisecondType, _>(array, out, f),
        D::Timestamp(TimeUnit::Microsecond, _) => ints::<TimestampMicrosecondType, _>(array, out, f),
        D::Timestamp(TimeUnit::Nanosecond, _) => ints::<TimestampNanosecondType, _>(array, out, f),
        D::Duration(TimeUnit::Second) => ints::<DurationSecondType, _>(array, out, f),
        D::Duration(TimeUnit::Millisecond) => ints::<DurationMillisecondType, _>(array, out, f),
        D::Duration(TimeUnit::Microsecond) => ints::<DurationMicrosecondType, _>(array, out, f),
        D::Duration(TimeUnit::Nanosecond) => ints::<DurationNanosecondType, _>(array, out, f),
        D::Interval(IntervalUnit::YearMonth) => ints::<IntervalYearMonthType, _>(array, out, f),
        D::Interval(IntervalUnit::DayTime) => {
            primitives::<IntervalDayTimeType, _>(array, out, f, |v| {
                let mut bytes = [0_u8; 8];
                bytes[..4].copy_from_slice(&v.days.to_le_bytes());
                bytes[4..].copy_from_slice(&v.milliseconds.to_le_bytes());
                xxh3_64(&bytes)
            });
        }
        D::Interval(IntervalUnit::MonthDayNano) => {
            primitives::<IntervalMonthDayNanoType, _>(array, out, f, |v| {
                let mut bytes = [0_u8; 16];
                bytes[..4].copy_from_slice(&v.months.to_le_bytes());
                bytes[4..8].copy_from_slice(&v.days.to_le_bytes());
                bytes[8..].copy_from_slice(&v.nanoseconds.to_le_bytes());
                xxh3_64(&bytes)
            });
        }
        D::Decimal32(..) => primitives::<Decimal32Type, _>(array, out, f, |v| hash_i128(i128::from(v))),
        D::Decimal64(..) => primitives::<Decimal64Type, _>(array, out, f, |v| hash_i128(i128::from(v))),
        D::Decimal128(..) => primitives::<Decimal128Type, _>(array, out, f, hash_i128),
        D::Utf8 => {
            let a = array.as_string::<i32>();
            each(a, out, f, |i| xxh3_64(a.value(i).as_bytes()));
        }
        D::LargeUtf8 => {
            let a = array.as_string::<i64>();
            each(a, out, f, |i| xxh3_64(a.value(i).as_bytes()));
        }
        D::Utf8View => {
            let a = array.as_string_view();
            each(a, out, f, |i| xxh3_64(a.value(i).as_bytes()));
        }
        D::Binary => {
            let a = array.as_binary::<i32>();
            each(a, out, f, |i| xxh3_64(a.value(i)));
        }
        D::LargeBinary => {
            let a = array.as_binary::<i64>();
            each(a, out, f, |i| xxh3_64(a.value(i)));
        }
        D::BinaryView => {
            let a = array.as_binary_view();
            each(a, out, f, |i| xxh3_64(a.value(i)));
        }
        D::FixedSizeBinary(_) => {
            let a = array.as_fixed_size_binary();
            each(a, out, f, |i| xxh3_64(a.value(i)));
        }
        D::Dictionary(_, value_type) => {
            let plain = arrow::compute::cast(array, value_type)?;
            hash_into(&plain, out, f)?;
        }
        D::Struct(_) => {
            let a = array.as_struct();
            let mut hashes = Vec::new();
            hash_columns(a.columns(), a.len(), &mut hashes)?;
            each(a, out, f, |i| hashes[i]);
        }
        D::List(_) => lists::<i32, _>(array, out, f)?,
        D::LargeList(_) => lists::<i64, _>(array, out, f)?,
        D::Map(..) => {
            let a = array.as_map();
            let mut entries = Vec::new();
            hash_columns(a.entries().columns(), a.entries().len(), &mut entries)?;
            let offsets = a.value_offsets();
            each(a, out, f, |i| {
                let sum = entries[offsets[i] as usize..offsets[i + 1] as usize]
                    .iter()
                    .fold(0_u64, |sum, h| sum.wrapping_add(*h));
                xxh3_64(&sum.to_le_bytes())
            });
        }
        other => {
            return Err(Error::unsupported(format!("values of type {other} cannot be keys")));
        }
    }
    Ok(())
}

fn lists<O: OffsetSizeTrait, F: FnMut(u64, u64) -> u64>(
    array: &dyn Array,
    out: &mut [u64],
    f: &mut F,
) -> Result<()> {
    let a = array.as_list::<O>();
    let mut items = Vec::new();
    hash_columns(std::slice::from_ref(a.values()), a.values().len(), &mut items)?;
    let offsets = a.value_offsets();
    let mut bytes = Vec::new();
    each(a, out, f, |i| {
        bytes.clear();
        for h in &items[offsets[i].as_usize()..offsets[i + 1].as_usize()] {
            bytes.extend_from_slice(&h.to_le_bytes());
        }
        xxh3_64(&bytes)
    });
    Ok(())
}

#[inline]
fn hash_f64(value: f64) -> u64 {
    xxh3_64(&canonical_bits(value).to_le_bytes())
}

#[inline]
fn hash_i128(value: i128) -> u64 {
    xxh3_64(&value.to_le_bytes())
}

fn ints<T, F>(array: &dyn Array, out: &mut [u64], f: &mut F)
where
    T: ArrowPrimitiveType,
    T::Native: Into<i64>,
    F: FnMut(u64, u64) -> u64,
{
    primitives::<T, F>(array, out, f, |v| hash_i64(v.into()));
}

fn primitives<T: ArrowPrimitiveType, F: FnMut(u64, u64) -> u64>(
    array: &dyn Array,
    out: &mut [u64],
    f: &mut F,
    hash: impl Fn(T::Native) -> u64,
) {
    let a = array.as_primitive::<T>();
    if a.null_count() == 0 {
        for (o, v) in out.iter_mut().zip(a.values()) {
            *o = f(*o, hash(*v));
        }
    } else {
        each(a, out, f, |i| hash(a.value(i)));
    }
}

fn each<F: FnMut(u64, u64) -> u64>(
    array: &dyn Array,
    out: &mut [u64],
    f: &mut F,
    mut hash: impl FnMut(usize) -> u64,
) {
    match array.nulls().filter(|n| n.null_count() > 0) {
        None => {
            for (i, o) in out.iter_mut().enumerate() {
                *o = f(*o, hash(i));
            }
        }
        Some(nulls) => {
            for (i, o) in out.iter_mut().enumerate() {
                *o = f(*o, if nulls.is_valid(i) { hash(i) } else { NULL_HASH });
            }
        }
    }
}

#[cfg(test)]
mod tests;

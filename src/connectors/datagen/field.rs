//! The values of one column, or of what is inside of one.

use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int8Array, Int16Array, Int32Array, Int64Array, IntervalMonthDayNanoArray, IntervalYearMonthArray,
    ListArray, MapArray, StringArray, StructArray, Time32MillisecondArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, UInt32Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, IntervalMonthDayNanoType, TimeUnit};
use arrow::row::{RowConverter, SortField};

use crate::connectors::synthetic::clock::Now;
use crate::connectors::synthetic::random::{Stream, below, unit};
use crate::error::{Error, Result};
use crate::functions::room::check_value;

/// Where NULLs are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nulls {
    /// Share of values that are NULL.
    pub rate: f64,
}

/// How values are made. `ty` of the [`Field`] decides what they are made into.
#[derive(Debug)]
pub(super) enum Values {
    Booleans,
    /// Also intervals: months, milliseconds.
    Integers {
        min: i64,
        max: i64,
    },
    Floats {
        min: f64,
        max: f64,
    },
    /// Unscaled.
    Decimals {
        min: i128,
        max: i128,
    },
    /// Hexadecimal digits for strings, any bytes for binaries.
    Bytes {
        length: u32,
        variable: bool,
    },
    Today,
    TimeOfDay,
    /// Up to so many milliseconds ago.
    Past {
        max_past: u64,
    },
    Sequence {
        start: i64,
    },
    Array {
        element: Box<Field>,
        length: u32,
    },
    Map {
        key: Box<Field>,
        value: Box<Field>,
        length: u32,
    },
    Row {
        fields: Vec<Field>,
    },
}

/// A generator of values by number.
#[derive(Debug)]
pub(super) struct Field {
    pub values: Values,
    pub nulls: Option<Nulls>,
    /// Tells the random values of fields apart.
    pub salt: u64,
    pub ty: DataType,
}

/// Added to the salt for the choice of NULLs and of lengths.
const NULLS: u64 = 0x6e75_6c6c;
const LENGTHS: u64 = 0x6c65_6e67;

impl Field {
    /// Bytes that no value has more of.
    pub(super) fn bytes_of_one(&self) -> u64 {
        match &self.values {
            Values::Bytes { length, .. } => u64::from(*length),
            Values::Array { element, length } => element.bytes_of_one().saturating_mul((*length).into()),
            Values::Map { key, value, length } => {
                (key.bytes_of_one() + value.bytes_of_one()).saturating_mul((*length).into())
            }
            Values::Row { fields } => fields.iter().map(Field::bytes_of_one).fold(0, u64::saturating_add),
            _ => 16,
        }
    }

    /// The values of these numbers.
    pub(super) fn generate(&self, seed: u64, numbers: Range<u64>, now: &Now) -> Result<ArrayRef> {
        let n = usize::try_from(numbers.end - numbers.start).unwrap_or(0);
        let stream = Stream::new(seed, self.salt);
        let nulls = self.nulls.and_then(|Nulls { rate }| {
            let stream = Stream::new(seed, self.salt.wrapping_add(NULLS));
            let valid: NullBuffer = numbers.clone().map(|i| unit(stream.at(i)) >= rate).collect();
            (valid.null_count() > 0).then_some(valid)
        });
        let random = || numbers.clone().map(|i| stream.at(i));
        match &self.values {
            Values::Booleans => {
                Ok(Arc::new(BooleanArray::new(random().map(|r| r >> 63 == 1).collect(), nulls)))
            }
            Values::Integers { min, max } => {
                let (min, span) = (*min, max.wrapping_sub(*min) as u64);
                // A span of all 64 bits has one value more than fits.
                let draw = move |r: u64| match span.checked_add(1) {
                    Some(count) => min.wrapping_add(below(r, count) as i64),
                    None => r as i64,
                };
                self.integers(random().map(draw), nulls)
            }
            Values::Sequence { start } => {
                let values = numbers.clone().map(|i| start.wrapping_add(i as i64));
                self.sequence(values, nulls)
            }
            Values::Floats { min, max } => {
                let values = random().map(|r| {
                    let u = unit(r);
                    min * (1.0 - u) + max * u
                });
                Ok(match self.ty {
                    DataType::Float32 => {
                        Arc::new(Float32Array::new(values.map(|v| v as f32).collect(), nulls))
                    }
                    _ => Arc::new(Float64Array::new(values.collect(), nulls)),
                })
            }
            Values::Decimals { min, max } => {
                let count = (max - min).unsigned_abs() + 1;
                let values = random().map(|r| {
                    let offset = match u64::try_from(count) {
                        Ok(count) => u128::from(below(r, count)),
                        Err(_) => {
                            let high = Stream::new(r, self.salt).at(0);
                            (u128::from(high) << 64 | u128::from(r)) % count
                        }
                    };
                    min + offset as i128
                });
                Ok(Arc::new(Decimal128Array::new(values.collect(), nulls).with_data_type(self.ty.clone())))
            }
            Values::Bytes { length, variable } => self.bytes(seed, numbers, *length, *variable, nulls),
            Values::Today => {
                let days = numbers.map(|i| ((now.at(i) + now.local_offset()).div_euclid(86_400_000)) as i32);
                Ok(Arc::new(Date32Array::new(days.collect(), nulls)))
            }
            Values::TimeOfDay => {
                let times = numbers.map(|i| ((now.at(i) + now.local_offset()).rem_euclid(86_400_000)) as i32);
                Ok(Arc::new(Time32MillisecondArray::new(times.collect(), nulls)))
            }
            Values::Past { max_past } => {
                let times = numbers.clone().map(|i| now.at(i) - below(stream.at(i), *max_past) as i64);
                self.timestamps(times, nulls)
            }
            Values::Array { element, length } => {
                let DataType::List(field) = &self.ty else { return Err(self.mismatch()) };
                let values = element.generate(seed, widen(&numbers, *length), now)?;
                let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(*length as usize, n));
                Ok(Arc::new(ListArray::try_new(field.clone(), offsets, values, nulls)?))
            }
            Values::Map { key, value, length } => {
                let DataType::Map(field, sorted) = &self.ty else { return Err(self.mismatch()) };
                let DataType::Struct(entry) = field.data_type() else { return Err(self.mismatch()) };
                let keys = key.generate(seed, widen(&numbers, *length), now)?;
                let values = value.generate(seed, widen(&numbers, *length), now)?;
                let (keys, values, lengths) = distinct_keys(keys, values, *length as usize, n)?;
                let entries = StructArray::try_new(entry.clone(), vec![keys, values], None)?;
                let offsets = OffsetBuffer::from_lengths(lengths);
                Ok(Arc::new(MapArray::try_new(field.clone(), offsets, entries, nulls, *sorted)?))
            }
            Values::Row { fields } => {
                let DataType::Struct(types) = &self.ty else { return Err(self.mismatch()) };
                let columns = fields
                    .iter()
                    .map(|f| f.generate(seed, numbers.clone(), now))
                    .collect::<Result<Vec<_>>>()?;
                if columns.is_empty() {
                    return Ok(Arc::new(StructArray::new_empty_fields(n, nulls)));
                }
                Ok(Arc::new(StructArray::try_new(types.clone(), columns, nulls)?))
            }
        }
    }

    fn mismatch(&self) -> Error {
        Error::internal(format!("datagen: values do not fit {}", self.ty))
    }

    fn integers(&self, values: impl Iterator<Item = i64>, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
        Ok(match &self.ty {
            DataType::Int8 => Arc::new(Int8Array::new(values.map(|v| v as i8).collect(), nulls)),
            DataType::Int16 => Arc::new(Int16Array::new(values.map(|v| v as i16).collect(), nulls)),
            DataType::Int32 => Arc::new(Int32Array::new(values.map(|v| v as i32).collect(), nulls)),
            DataType::Int64 => Arc::new(Int64Array::new(values.collect(), nulls)),
            DataType::Interval(arrow::datatypes::IntervalUnit::YearMonth) => {
                Arc::new(IntervalYearMonthArray::new(values.map(|v| v as i32).collect(), nulls))
            }
            DataType::Interval(_) => {
                let parts = values.map(|ms| {
                    let (days, rest) = (ms / 86_400_000, ms % 86_400_000);
                    IntervalMonthDayNanoType::make_value(0, days as i32, rest * 1_000_000)
                });
                Arc::new(IntervalMonthDayNanoArray::new(parts.collect(), nulls))
            }
            _ => return Err(self.mismatch()),
        })
    }

    fn sequence(&self, values: impl Iterator<Item = i64>, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
        Ok(match &self.ty {
            DataType::Utf8 => {
                let (mut text, mut ends) = (String::new(), vec![0i32]);
                for v in values {
                    let _ = write!(text, "{v}");
                    ends.push(text.len() as i32);
                }
                Arc::new(StringArray::try_new(
                    OffsetBuffer::new(ends.into()),
                    text.into_bytes().into(),
                    nulls,
                )?)
            }
            DataType::Float32 => Arc::new(Float32Array::new(values.map(|v| v as f32).collect(), nulls)),
            DataType::Float64 => Arc::new(Float64Array::new(values.map(|v| v as f64).collect(), nulls)),
            DataType::Decimal128(_, scale) => {
                let factor = 10i128.pow(u32::from(scale.unsigned_abs()));
                let unscaled = values.map(|v| i128::from(v) * factor).collect();
                Arc::new(Decimal128Array::new(unscaled, nulls).with_data_type(self.ty.clone()))
            }
            _ => return self.integers(values, nulls),
        })
    }

    fn timestamps(&self, millis: impl Iterator<Item = i64>, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
        let DataType::Timestamp(unit, _) = &self.ty else { return Err(self.mismatch()) };
        let array: ArrayRef = match unit {
            TimeUnit::Microsecond => Arc::new(TimestampMicrosecondArray::new(
                millis.map(|v| v.saturating_mul(1_000)).collect(),
                nulls,
            )),
            TimeUnit::Nanosecond => Arc::new(TimestampNanosecondArray::new(
                millis.map(|v| v.saturating_mul(1_000_000)).collect(),
                nulls,
            )),
            _ => Arc::new(TimestampMillisecondArray::new(millis.collect(), nulls)),
        };
        // Adds the zone of instants.
        Ok(if array.data_type() == &self.ty { array } else { cast(&array, &self.ty)? })
    }

    fn bytes(
        &self,
        seed: u64,
        numbers: Range<u64>,
        length: u32,
        variable: bool,
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef> {
        let hex = self.ty == DataType::Utf8;
        let (stream, lengths) =
            (Stream::new(seed, self.salt), Stream::new(seed, self.salt.wrapping_add(LENGTHS)));
        let n = usize::try_from(numbers.end - numbers.start).unwrap_or(0);
        check_value(length as usize).map_err(|e| e.context("datagen").hint("lower the 'length'"))?;
        let mut bytes: Vec<u8> = Vec::with_capacity(n * length as usize + 16);
        let mut ends = Vec::with_capacity(n + 1);
        ends.push(0i32);
        for i in numbers {
            let wanted = if variable && length > 0 {
                1 + below(lengths.at(i), u64::from(length)) as usize
            } else {
                length as usize
            };
            let end = bytes.len() + wanted;
            let mut random = stream.sequence(i);
            while bytes.len() < end {
                let eight = random.next_u64().to_le_bytes();
                if hex {
                    for b in eight {
                        bytes.extend_from_slice(&[hex_digit(b >> 4), hex_digit(b & 15)]);
                    }
                } else {
                    bytes.extend_from_slice(&eight);
                }
            }
            bytes.truncate(end);
            ends.push(i32::try_from(end).map_err(|_| Error::batch_overflow(Some(end)).context("datagen"))?);
        }
        let offsets = OffsetBuffer::new(ends.into());
        Ok(if hex {
            Arc::new(StringArray::try_new(offsets, bytes.into(), nulls)?)
        } else {
            Arc::new(BinaryArray::try_new(offsets, bytes.into(), nulls)?)
        })
    }
}

/// The digit of a number below 16.
fn hex_digit(n: u8) -> u8 {
    n + if n < 10 { b'0' } else { b'a' - 10 }
}

/// The numbers of the elements of these rows.
fn widen(numbers: &Range<u64>, length: u32) -> Range<u64> {
    let length = u64::from(length);
    numbers.start.wrapping_mul(length)
        ..numbers.start.wrapping_mul(length) + (numbers.end - numbers.start) * length
}

/// Maps hold a key once: of equal keys the first one stays. Gives the number of entries of each map.
fn distinct_keys(
    keys: ArrayRef,
    values: ArrayRef,
    length: usize,
    maps: usize,
) -> Result<(ArrayRef, ArrayRef, Vec<usize>)> {
    let converter = RowConverter::new(vec![SortField::new(keys.data_type().clone())])?;
    let rows = converter.convert_columns(std::slice::from_ref(&keys))?;
    let mut kept: Vec<u32> = Vec::with_capacity(keys.len());
    let mut lengths = Vec::with_capacity(maps);
    for map in 0..maps {
        let (from, before) = (map * length, kept.len());
        for i in from..from + length {
            let seen = kept.get(before..).unwrap_or_default();
            if !seen.iter().any(|k| rows.row(*k as usize) == rows.row(i)) {
                kept.push(i as u32);
            }
        }
        lengths.push(kept.len() - before);
    }
    if kept.len() == keys.len() {
        return Ok((keys, values, lengths));
    }
    let kept = UInt32Array::from(kept);
    Ok((take(&keys, &kept, None)?, take(&values, &kept, None)?, lengths))
}

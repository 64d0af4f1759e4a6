//! Values as text: the one place that turns Arrow arrays into what people and sinks read.
//!
//! | style | used by | like |
//! |---|---|---|
//! | [`Style::Sql`] | tables, CSV and tests of the command line | Flink's `CAST(… AS STRING)`: `TRUE`, `2020-01-02 10:00:00.120`, `(1, NULL)` |
//! | [`Style::Json`] | `--format json` | one JSON value: decimals and times are strings, bytes base64 |
//! | [`Style::Java`] | the print connector | Java's `Row.toString`: `true`, `2020-01-02T10:00`, `+I[1, null]` |
//!
//! A [`Column`] is downcast once a batch; writing a value allocates nothing.

mod base64;
mod bitmap;
pub(crate) mod calendar;
mod decimal;
mod double;
#[cfg(test)]
pub(crate) mod fuzzing;
mod integer;
mod interval;
mod json_string;
mod sink;
mod time;

use std::fmt::Write;
use std::ops::RangeInclusive;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array,
    Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, IntervalMonthDayNanoArray,
    IntervalYearMonthArray, ListArray, MapArray, StringArray,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, TimeUnit,
};
use chrono::{DateTime, Offset, TimeZone};
use chrono_tz::Tz;

use crate::error::{Error, Result};
use crate::types::{LogicalType, TypeRoot, is_bitmap, is_variant};

pub(crate) use base64::{read_base64, read_base64_leniently, write_base64};
pub(crate) use bitmap::write_bitmap;
pub(crate) use decimal::{DecimalStyle, write_big_decimal, write_decimal};
pub(crate) use double::{write_f32, write_f64};
pub(crate) use integer::write_int;
pub(crate) use interval::{write_day_time, write_duration, write_months, write_period};
pub(crate) use json_string::{Escapes, write_json_string};
pub(crate) use time::{
    TimeStyle, day_of, seconds_and_nanos, units_per_second, write_date, write_fraction_of_second, write_time,
    write_timestamp,
};

/// How values look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Flink's casts to STRING.
    Sql,
    /// JSON values.
    Json,
    /// Java's `toString`.
    Java,
}

/// A column ready to be written value by value.
pub struct Column {
    array: ArrayRef,
    style: Style,
    kind: Kind,
    /// Most digits of the fractions of seconds.
    digits: usize,
}

enum Kind {
    Null,
    Text(StringArray),
    Bytes(BinaryArray),
    Boolean(BooleanArray),
    Int8(Int8Array),
    Int16(Int16Array),
    Int32(Int32Array),
    Int64(Int64Array),
    Float32(Float32Array),
    Float64(Float64Array),
    Decimal(Decimal128Array, i8),
    Date(Date32Array),
    /// Nanoseconds of the day.
    Time(Int64Array, i64),
    /// Wall clock, or an instant with the zone to show it in.
    Timestamp(Int64Array, TimeUnit, Option<Tz>),
    Months(IntervalYearMonthArray),
    DayTime(IntervalMonthDayNanoArray),
    List(ListArray, Box<Column>),
    Map(MapArray, Box<Column>, Box<Column>),
    Row(Vec<(String, Column)>),
    /// JSON.
    Variant(StringArray),
    Bitmap(BinaryArray),
}

impl Column {
    /// Prepares an array. Instants are shown in `zone`.
    ///
    /// # Errors
    /// Unsupported for Arrow types without a SQL type.
    pub fn new(array: &ArrayRef, style: Style, zone: Tz) -> Result<Self> {
        let below = |a: &ArrayRef| Column::new(a, style, zone).map(Box::new);
        // Foreign layouts (views, large and dictionary arrays of other people's files) become ours first.
        let array = match LogicalType::from_arrow(array.data_type(), true)?.to_arrow() {
            _ if matches!(array.data_type(), DataType::Struct(_) | DataType::List(_) | DataType::Map(..)) => {
                array.clone()
            }
            _ if matches!(
                array.data_type(),
                DataType::Timestamp(..) | DataType::Time32(_) | DataType::Time64(_)
            ) =>
            {
                array.clone()
            }
            own if own == *array.data_type() => array.clone(),
            own => cast(array, &own)?,
        };
        let kind = match array.data_type() {
            DataType::Null => Kind::Null,
            DataType::Utf8 => Kind::Text(array.as_string::<i32>().clone()),
            DataType::Binary => Kind::Bytes(array.as_binary::<i32>().clone()),
            DataType::Boolean => Kind::Boolean(array.as_boolean().clone()),
            DataType::Int8 => Kind::Int8(array.as_primitive::<Int8Type>().clone()),
            DataType::Int16 => Kind::Int16(array.as_primitive::<Int16Type>().clone()),
            DataType::Int32 => Kind::Int32(array.as_primitive::<Int32Type>().clone()),
            DataType::Int64 => Kind::Int64(array.as_primitive::<Int64Type>().clone()),
            DataType::Float32 => Kind::Float32(array.as_primitive::<Float32Type>().clone()),
            DataType::Float64 => Kind::Float64(array.as_primitive::<Float64Type>().clone()),
            DataType::Decimal128(_, s) => Kind::Decimal(array.as_primitive::<Decimal128Type>().clone(), *s),
            DataType::Date32 => Kind::Date(array.as_primitive::<Date32Type>().clone()),
            DataType::Time32(unit) | DataType::Time64(unit) => {
                let integers = match array.data_type() {
                    DataType::Time32(_) => cast(&cast(&array, &DataType::Int32)?, &DataType::Int64)?,
                    _ => cast(&array, &DataType::Int64)?,
                };
                Kind::Time(
                    integers.as_primitive::<Int64Type>().clone(),
                    1_000_000_000 / units_per_second(*unit),
                )
            }
            DataType::Timestamp(unit, tz) => {
                let integers = cast(&array, &DataType::Int64)?;
                let zone = tz.as_ref().map(|_| zone);
                Kind::Timestamp(integers.as_primitive::<Int64Type>().clone(), *unit, zone)
            }
            DataType::Interval(IntervalUnit::YearMonth) => {
                Kind::Months(array.as_primitive::<IntervalYearMonthType>().clone())
            }
            DataType::Interval(IntervalUnit::MonthDayNano) => {
                Kind::DayTime(array.as_primitive::<IntervalMonthDayNanoType>().clone())
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                Kind::List(list.clone(), below(list.values())?)
            }
            DataType::Map(..) => {
                let map = array.as_map();
                Kind::Map(map.clone(), below(map.keys())?, below(map.values())?)
            }
            ty if is_variant(ty) => Kind::Variant(array.as_struct().column(0).as_string::<i32>().clone()),
            ty if is_bitmap(ty) => Kind::Bitmap(array.as_struct().column(0).as_binary::<i32>().clone()),
            DataType::Struct(fields) => {
                let row = array.as_struct();
                let columns = fields
                    .iter()
                    .zip(row.columns())
                    .map(|(f, c)| Ok((f.name().clone(), Column::new(c, style, zone)?)))
                    .collect::<Result<_>>()?;
                Kind::Row(columns)
            }
            other => return Err(Error::unsupported(format!("the Arrow type {other} cannot be printed"))),
        };
        Ok(Column { array, style, kind, digits: 9 })
    }

    /// The same with no more digits of times than the SQL type has.
    #[must_use]
    pub fn with_type(mut self, ty: &LogicalType) -> Self {
        let fit = |column: Box<Column>, ty: &LogicalType| Box::new(column.with_type(ty));
        self.kind = match (self.kind, &ty.root) {
            (
                kind @ (Kind::Time(..) | Kind::Timestamp(..)),
                TypeRoot::Time(p) | TypeRoot::Timestamp(p) | TypeRoot::TimestampLtz(p),
            ) => {
                self.digits = usize::from(*p);
                kind
            }
            (Kind::List(a, values), TypeRoot::Array(e)) => Kind::List(a, fit(values, e)),
            (Kind::Map(a, keys, values), TypeRoot::Map(k, v)) => Kind::Map(a, fit(keys, k), fit(values, v)),
            (Kind::Map(a, keys, values), TypeRoot::Multiset(e)) => Kind::Map(a, fit(keys, e), values),
            (Kind::Row(columns), TypeRoot::Row(fields)) => {
                let of = |i: usize| fields.get(i).map(|f| &f.ty);
                let fitted = columns.into_iter().enumerate().map(|(i, (name, column))| match of(i) {
                    Some(ty) => (name, column.with_type(ty)),
                    None => (name, column),
                });
                Kind::Row(fitted.collect())
            }
            (kind, _) => kind,
        };
        self
    }

    /// Whether the value is NULL.
    pub fn is_null(&self, row: usize) -> bool {
        matches!(self.kind, Kind::Null) || self.array.is_null(row)
    }

    /// Whether values are numbers, to be set flush right.
    pub fn is_numeric(&self) -> bool {
        use Kind as K;
        matches!(
            self.kind,
            K::Int8(_)
                | K::Int16(_)
                | K::Int32(_)
                | K::Int64(_)
                | K::Float32(_)
                | K::Float64(_)
                | K::Decimal(..)
        )
    }

    /// Appends the value.
    ///
    /// # Errors
    /// Data for times outside of the calendar.
    pub fn write(&self, row: usize, out: &mut String) -> Result<()> {
        if self.is_null(row) {
            out.push_str(if self.style == Style::Sql { "NULL" } else { "null" });
            return Ok(());
        }
        let json = self.style == Style::Json;
        match &self.kind {
            Kind::Null => {}
            Kind::Text(a) if json => write_json_string(a.value(row), Escapes::JSON, out),
            Kind::Text(a) => out.push_str(a.value(row)),
            Kind::Bytes(a) => self.write_bytes(a.value(row), out),
            Kind::Boolean(a) => out.push_str(match (a.value(row), self.style) {
                (true, Style::Sql) => "TRUE",
                (false, Style::Sql) => "FALSE",
                (true, _) => "true",
                (false, _) => "false",
            }),
            Kind::Int8(a) => write_int(a.value(row), out),
            Kind::Int16(a) => write_int(a.value(row), out),
            Kind::Int32(a) => write_int(a.value(row), out),
            Kind::Int64(a) => write_int(a.value(row), out),
            Kind::Float32(a) => {
                let v = a.value(row);
                self.quoted(json && !v.is_finite(), out, |out| write_f32(v, out));
            }
            Kind::Float64(a) => {
                let v = a.value(row);
                self.quoted(json && !v.is_finite(), out, |out| write_f64(v, out));
            }
            Kind::Decimal(a, scale) => {
                let v = a.value(row);
                match self.style {
                    Style::Java => write_decimal(v, *scale, DecimalStyle::Java, out),
                    _ => self.quoted(json, out, |out| write_decimal(v, *scale, DecimalStyle::Full, out)),
                }
            }
            _ => return self.write_other(row, out),
        }
        Ok(())
    }

    fn write_other(&self, row: usize, out: &mut String) -> Result<()> {
        let json = self.style == Style::Json;
        let java = self.style == Style::Java;
        if json && !matches!(self.kind, Kind::List(..) | Kind::Map(..) | Kind::Row(..) | Kind::Variant(_)) {
            out.push('"');
        }
        let quote = out.len();
        match &self.kind {
            Kind::Date(a) => {
                let day = i64::from(a.value(row));
                check_day(day)?;
                write_date(day, self.times(), out);
            }
            Kind::Time(a, nanos) => write_time(a.value(row) * nanos, self.times(), out),
            Kind::Timestamp(a, unit, zone) => self.write_timestamp(a.value(row), *unit, *zone, out)?,
            Kind::Months(a) if java => write_period(a.value(row), out),
            Kind::Months(a) => write_months(a.value(row), out),
            Kind::Variant(a) => {
                out.push_str(a.value(row));
                return Ok(());
            }
            Kind::Bitmap(a) => write_bitmap(a.value(row), out),
            Kind::DayTime(a) => {
                let (months, days, nanos) = IntervalMonthDayNanoType::to_parts(a.value(row));
                if months != 0 && days == 0 && nanos == 0 {
                    // The literals of both kinds of intervals share this type.
                    if java {
                        write_period(months, out)
                    } else {
                        write_months(months, out)
                    }
                    if json {
                        out.push('"');
                    }
                    return Ok(());
                }
                if months != 0 {
                    // Not a Flink type: only an expression of DataFusion's could make one.
                    write_int(months, out);
                    out.push_str(" months ");
                }
                if java { write_duration(days, nanos, out) } else { write_day_time(days, nanos, out) }
            }
            Kind::List(a, values) => {
                let offsets = a.value_offsets();
                let (from, to) = bounds(offsets, row);
                out.push('[');
                for i in from..to {
                    self.separate(i > from, out);
                    values.write(i, out)?;
                }
                out.push(']');
                return Ok(());
            }
            Kind::Map(a, keys, values) => {
                let (from, to) = bounds(a.value_offsets(), row);
                out.push('{');
                for i in from..to {
                    self.separate(i > from, out);
                    if json {
                        keys.write_json_key(i, out)?;
                        out.push(':');
                    } else {
                        keys.write(i, out)?;
                        out.push('=');
                    }
                    values.write(i, out)?;
                }
                out.push('}');
                return Ok(());
            }
            Kind::Row(fields) => {
                out.push_str(match self.style {
                    Style::Sql => "(",
                    Style::Json => "{",
                    Style::Java => "+I[",
                });
                for (i, (name, column)) in fields.iter().enumerate() {
                    self.separate(i > 0, out);
                    if json {
                        write_json_string(name, Escapes::JSON, out);
                        out.push(':');
                    }
                    column.write(row, out)?;
                }
                out.push(match self.style {
                    Style::Sql => ')',
                    Style::Json => '}',
                    Style::Java => ']',
                });
                return Ok(());
            }
            _ => {}
        }
        debug_assert!(out.len() > quote);
        if json {
            out.push('"');
        }
        Ok(())
    }

    fn times(&self) -> TimeStyle {
        if self.style == Style::Java { TimeStyle::JAVA } else { TimeStyle::TABLE.at_most(self.digits) }
    }

    /// A wall clock, or an instant: as `zone` shows it, or for Java in UTC with a `Z`.
    fn write_timestamp(&self, value: i64, unit: TimeUnit, zone: Option<Tz>, out: &mut String) -> Result<()> {
        let (mut seconds, nanos) = seconds_and_nanos(value, unit);
        let java_instant = zone.is_some() && self.style == Style::Java;
        if let Some(zone) = zone.filter(|_| !java_instant) {
            seconds += offset(seconds, zone)?;
        }
        check_day(day_of(seconds))?;
        if java_instant {
            write_timestamp(seconds, nanos, TimeStyle::JAVA_INSTANT, out);
            out.push('Z');
        } else {
            write_timestamp(seconds, nanos, self.times(), out);
        }
        Ok(())
    }

    /// A key of a JSON object is a string whatever the key's type.
    fn write_json_key(&self, row: usize, out: &mut String) -> Result<()> {
        let start = out.len();
        self.write(row, out)?;
        if !out.get(start..).is_some_and(|key| key.starts_with('"')) {
            let key = out.split_off(start);
            write_json_string(&key, Escapes::JSON, out);
        }
        Ok(())
    }

    fn quoted(&self, quote: bool, out: &mut String, write: impl FnOnce(&mut String)) {
        if quote {
            out.push('"');
        }
        write(out);
        if quote {
            out.push('"');
        }
    }

    fn separate(&self, needed: bool, out: &mut String) {
        if needed {
            out.push_str(if self.style == Style::Json { "," } else { ", " });
        }
    }

    fn write_bytes(&self, bytes: &[u8], out: &mut String) {
        match self.style {
            Style::Sql => {
                out.push_str("x'");
                for b in bytes {
                    let _ = write!(out, "{b:02x}");
                }
                out.push('\'');
            }
            Style::Json => {
                out.push('"');
                write_base64(bytes, out);
                out.push('"');
            }
            Style::Java => {
                out.push('[');
                for (i, b) in bytes.iter().enumerate() {
                    self.separate(i > 0, out);
                    write_int(*b as i8, out);
                }
                out.push(']');
            }
        }
    }
}

/// Days that have a date, as far as the calendar of the zones reaches.
const DAYS: RangeInclusive<i64> = calendar::days(-262_143, 1, 1)..=calendar::days(262_142, 12, 31);

fn check_day(day: i64) -> Result<()> {
    if DAYS.contains(&day) {
        return Ok(());
    }
    Err(Error::data(format!("day {day} is outside of the calendar")))
}

/// How far the clocks of `zone` are ahead of UTC.
fn offset(seconds: i64, zone: Tz) -> Result<i64> {
    let utc = DateTime::from_timestamp(seconds, 0)
        .ok_or_else(|| Error::data(format!("second {seconds} is outside of the calendar")))?;
    Ok(zone.offset_from_utc_datetime(&utc.naive_utc()).fix().local_minus_utc().into())
}

fn bounds(offsets: &[i32], row: usize) -> (usize, usize) {
    let at = |i: usize| offsets.get(i).copied().unwrap_or(0) as usize;
    (at(row), at(row + 1))
}

#[cfg(test)]
mod tests;

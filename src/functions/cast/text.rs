//! Values as text, the way `CAST(x AS STRING)` prints them in Flink.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, Time32MillisecondType,
    TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use chrono_tz::Tz;

use crate::error::{Error, Result};
use crate::functions::context::instant_to_wall;
use crate::functions::json::variant;
use crate::functions::udf::build_strings;
use crate::text::{
    DecimalStyle, TimeStyle, seconds_and_nanos, write_bitmap, write_date, write_day_time, write_decimal,
    write_f32, write_f64, write_int, write_months, write_time, write_timestamp,
};
use crate::types::{LogicalType, TypeRoot, is_bitmap, is_variant};

/// Writes one value of an array; the row is not null.
type Print = Box<dyn Fn(usize, &mut String)>;

/// The whole array as text.
pub(crate) fn to_text(a: &ArrayRef, zone: Tz) -> Result<ArrayRef> {
    print_all(a, &printer(a, zone)?)
}

fn print_all(a: &ArrayRef, print: &Print) -> Result<ArrayRef> {
    build_strings(a.len(), |i, out| {
        if a.is_null(i) {
            return Ok(false);
        }
        print(i, out);
        Ok(true)
    })
}

/// The whole array as text, times with the digits of their SQL type.
pub(crate) fn to_text_of(a: &ArrayRef, ty: &LogicalType, zone: Tz) -> Result<ArrayRef> {
    print_all(a, &printer_of(a, Some(ty), zone)?)
}

/// A printer for the values of an array.
pub(crate) fn printer(a: &ArrayRef, zone: Tz) -> Result<Print> {
    printer_of(a, None, zone)
}

/// As [`printer`], times with the digits of the SQL type, where that is known.
fn printer_of(a: &ArrayRef, ty: Option<&LogicalType>, zone: Tz) -> Result<Print> {
    use DataType as D;
    let root = ty.map(|t| &t.root);
    let digits = match root {
        Some(TypeRoot::Timestamp(p) | TypeRoot::TimestampLtz(p)) => Some(usize::from(*p)),
        _ => None,
    };
    macro_rules! plain {
        ($t:ty) => {{
            let a = a.as_primitive::<$t>().clone();
            Box::new(move |i, out| write_int(a.value(i), out))
        }};
    }
    macro_rules! timestamp {
        ($t:ty, $unit:expr, $digits:expr, $zoned:expr) => {{
            let a = a.as_primitive::<$t>().clone();
            let (unit, zoned) = ($unit, $zoned);
            let style = TimeStyle::CAST.with_digits(digits.unwrap_or($digits));
            Box::new(move |i, out| {
                let (mut seconds, nanos) = seconds_and_nanos(a.value(i), unit);
                if zoned {
                    seconds = instant_to_wall(seconds.saturating_mul(1_000_000), zone) / 1_000_000;
                }
                write_timestamp(seconds, nanos, style, out);
            })
        }};
    }
    Ok(match a.data_type() {
        D::Boolean => {
            let a = a.as_boolean().clone();
            Box::new(move |i, out| out.push_str(if a.value(i) { "TRUE" } else { "FALSE" }))
        }
        D::Int8 => plain!(Int8Type),
        D::Int16 => plain!(Int16Type),
        D::Int32 => plain!(Int32Type),
        D::Int64 => plain!(Int64Type),
        D::Float32 => {
            let a = a.as_primitive::<Float32Type>().clone();
            Box::new(move |i, out| write_f32(a.value(i), out))
        }
        D::Float64 => {
            let a = a.as_primitive::<Float64Type>().clone();
            Box::new(move |i, out| write_f64(a.value(i), out))
        }
        D::Decimal128(_, s) => {
            let (a, s) = (a.as_primitive::<Decimal128Type>().clone(), *s);
            Box::new(move |i, out| write_decimal(a.value(i), s, DecimalStyle::Full, out))
        }
        D::Utf8 => {
            let a = a.as_string::<i32>().clone();
            Box::new(move |i, out| out.push_str(a.value(i)))
        }
        D::Binary => {
            let a = a.as_binary::<i32>().clone();
            Box::new(move |i, out| out.push_str(&String::from_utf8_lossy(a.value(i))))
        }
        D::Date32 => {
            let a = a.as_primitive::<Date32Type>().clone();
            Box::new(move |i, out| write_date(a.value(i).into(), TimeStyle::CAST, out))
        }
        D::Time32(TimeUnit::Millisecond) => {
            let a = a.as_primitive::<Time32MillisecondType>().clone();
            let style = match root {
                Some(TypeRoot::Time(p)) => TimeStyle::CAST.of_time(usize::from(*p)),
                _ => TimeStyle::CAST,
            };
            Box::new(move |i, out| write_time(i64::from(a.value(i)) * 1_000_000, style, out))
        }
        D::Timestamp(unit, z) => match unit {
            TimeUnit::Second => timestamp!(TimestampSecondType, TimeUnit::Second, 0, z.is_some()),
            TimeUnit::Millisecond => {
                timestamp!(TimestampMillisecondType, TimeUnit::Millisecond, 3, z.is_some())
            }
            TimeUnit::Microsecond => {
                timestamp!(TimestampMicrosecondType, TimeUnit::Microsecond, 6, z.is_some())
            }
            TimeUnit::Nanosecond => timestamp!(TimestampNanosecondType, TimeUnit::Nanosecond, 9, z.is_some()),
        },
        D::Interval(IntervalUnit::YearMonth) => {
            let a = a.as_primitive::<IntervalYearMonthType>().clone();
            Box::new(move |i, out| write_months(a.value(i), out))
        }
        D::Interval(IntervalUnit::MonthDayNano) => {
            let a = a.as_primitive::<IntervalMonthDayNanoType>().clone();
            Box::new(move |i, out| {
                let v = a.value(i);
                if v.months != 0 {
                    write_months(v.months, out);
                } else {
                    write_day_time(v.days, v.nanoseconds, out);
                }
            })
        }
        D::List(_) => {
            let l = a.as_list::<i32>().clone();
            let of = match root {
                Some(TypeRoot::Array(e)) => Some(&**e),
                _ => None,
            };
            let element = printer_of(l.values(), of, zone)?;
            Box::new(move |i, out| {
                let o = l.value_offsets();
                let (from, to) = (o.get(i).copied().unwrap_or(0), o.get(i + 1).copied().unwrap_or(0));
                out.push('[');
                for j in from as usize..to as usize {
                    if j > from as usize {
                        out.push_str(", ");
                    }
                    write_or_null(l.values(), j, &element, out);
                }
                out.push(']');
            })
        }
        D::Map(_, _) => {
            let m = a.as_map().clone();
            let (key, value) = match root {
                Some(TypeRoot::Map(k, v)) => (Some(&**k), Some(&**v)),
                Some(TypeRoot::Multiset(e)) => (Some(&**e), None),
                _ => (None, None),
            };
            let (key, value) = (printer_of(m.keys(), key, zone)?, printer_of(m.values(), value, zone)?);
            Box::new(move |i, out| {
                let o = m.value_offsets();
                let (from, to) = (o.get(i).copied().unwrap_or(0), o.get(i + 1).copied().unwrap_or(0));
                out.push('{');
                for j in from as usize..to as usize {
                    if j > from as usize {
                        out.push_str(", ");
                    }
                    write_or_null(m.keys(), j, &key, out);
                    out.push('=');
                    write_or_null(m.values(), j, &value, out);
                }
                out.push('}');
            })
        }
        t if is_variant(t) => {
            let texts = variant::texts(a).clone();
            Box::new(move |i, out| out.push_str(texts.value(i)))
        }
        t if is_bitmap(t) => {
            let bytes = a.as_struct().column(0).as_binary::<i32>().clone();
            Box::new(move |i, out| write_bitmap(bytes.value(i), out))
        }
        D::Struct(_) => {
            let s = a.as_struct().clone();
            let of = |i: usize| match root {
                Some(TypeRoot::Row(fields)) => fields.get(i).map(|f| &f.ty),
                _ => None,
            };
            let columns = s.columns().iter().enumerate();
            let fields = columns.map(|(i, c)| printer_of(c, of(i), zone)).collect::<Result<Vec<_>>>()?;
            Box::new(move |i, out| {
                out.push('(');
                for (n, (column, print)) in s.columns().iter().zip(&fields).enumerate() {
                    if n > 0 {
                        out.push_str(", ");
                    }
                    write_or_null(column, i, print, out);
                }
                out.push(')');
            })
        }
        D::Null => Box::new(|_, out| out.push_str("NULL")),
        other => {
            // Unsigned and large variants do not arise from SQL types; take Arrow's way to ours first.
            let ours = match other {
                D::LargeUtf8 | D::Utf8View => D::Utf8,
                t if t.is_unsigned_integer() => D::Int64,
                _ => {
                    return Err(Error::unsupported(format!(
                        "no cast from {} to STRING",
                        crate::types::sql_name(other)
                    )));
                }
            };
            return printer(&arrow::compute::cast(a, &ours)?, zone);
        }
    })
}

fn write_or_null(a: &ArrayRef, i: usize, print: &Print, out: &mut String) {
    if a.is_null(i) { out.push_str("NULL") } else { print(i, out) }
}

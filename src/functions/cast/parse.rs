//! Text as values: `CAST('…' AS type)`. Blanks around are ignored; what does not parse fails or becomes NULL.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanBuilder, PrimitiveBuilder, StringArray};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, Time32MillisecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};

use super::{Mode, failed};
use crate::error::{Error, Result};
use crate::functions::arith::fits;
use crate::functions::context::wall_to_instant;
use crate::functions::temporal::calendar;

pub(super) fn parse(a: &StringArray, to: &DataType, mode: Mode) -> Result<ArrayRef> {
    use DataType as D;
    Ok(match to {
        D::Boolean => {
            let mut out = BooleanBuilder::with_capacity(a.len());
            for s in a {
                // Blanks around are no part of other values, but of these.
                let value = s.and_then(boolean);
                if let (Some(s), None, false) = (s, value, mode.lenient) {
                    return Err(failed(s, to));
                }
                out.append_option(value);
            }
            Arc::new(out.finish())
        }
        D::Int8 => prims::<Int8Type>(a, to, mode, |s| integer(s).and_then(|v| v.try_into().ok()))?,
        D::Int16 => prims::<Int16Type>(a, to, mode, |s| integer(s).and_then(|v| v.try_into().ok()))?,
        D::Int32 => prims::<Int32Type>(a, to, mode, |s| integer(s).and_then(|v| v.try_into().ok()))?,
        D::Int64 => prims::<Int64Type>(a, to, mode, integer)?,
        D::Float32 => prims::<Float32Type>(a, to, mode, |s| java_float(s)?.parse().ok())?,
        D::Float64 => prims::<Float64Type>(a, to, mode, |s| java_float(s)?.parse().ok())?,
        D::Decimal128(p, s) => {
            let (p, s) = (*p, *s);
            prims::<Decimal128Type>(a, to, mode, |t| decimal_of_text(t, s as u8).filter(|v| fits(*v, p)))?
        }
        D::Date32 => prims::<Date32Type>(a, to, mode, |s| calendar::parse_date(s)?.try_into().ok())?,
        D::Time32(TimeUnit::Millisecond) => prims::<Time32MillisecondType>(a, to, mode, |s| {
            (calendar::parse_time(s)? / 1_000_000).try_into().ok()
        })?,
        D::Timestamp(unit, zone) => {
            let shift =
                |micros: i64| if zone.is_some() { wall_to_instant(micros, mode.zone) } else { micros };
            let value = move |s: &str, per_second: i64| {
                let (seconds, nanos) = calendar::parse_timestamp(s)?;
                let seconds = shift(seconds.checked_mul(1_000_000)?) / 1_000_000;
                seconds.checked_mul(per_second)?.checked_add(nanos / (1_000_000_000 / per_second))
            };
            match unit {
                TimeUnit::Second => prims::<TimestampSecondType>(a, to, mode, |s| value(s, 1))?,
                TimeUnit::Millisecond => prims::<TimestampMillisecondType>(a, to, mode, |s| value(s, 1000))?,
                TimeUnit::Microsecond => {
                    prims::<TimestampMicrosecondType>(a, to, mode, |s| value(s, 1_000_000))?
                }
                TimeUnit::Nanosecond => {
                    prims::<TimestampNanosecondType>(a, to, mode, |s| value(s, 1_000_000_000))?
                }
            }
        }
        _ => return Err(Error::validation(format!("cannot cast STRING to {}", crate::types::sql_name(to)))),
    })
}

fn one<T>(s: Option<&str>, to: &DataType, mode: Mode, f: impl Fn(&str) -> Option<T>) -> Result<Option<T>> {
    match s {
        None => Ok(None),
        Some(s) => match f(s.trim()) {
            Some(v) => Ok(Some(v)),
            None if mode.lenient => Ok(None),
            None => Err(failed(s, to)),
        },
    }
}

fn prims<T: ArrowPrimitiveType>(
    a: &StringArray,
    to: &DataType,
    mode: Mode,
    f: impl Fn(&str) -> Option<T::Native>,
) -> Result<ArrayRef> {
    let mut out = PrimitiveBuilder::<T>::with_capacity(a.len());
    for s in a {
        out.append_option(one(s, to, mode, &f)?);
    }
    Ok(Arc::new(out.finish().with_data_type(to.clone())))
}

fn boolean(s: &str) -> Option<bool> {
    const YES: [&str; 5] = ["t", "true", "y", "yes", "1"];
    const NO: [&str; 5] = ["f", "false", "n", "no", "0"];
    if YES.iter().any(|w| s.eq_ignore_ascii_case(w)) {
        Some(true)
    } else if NO.iter().any(|w| s.eq_ignore_ascii_case(w)) {
        Some(false)
    } else {
        None
    }
}

/// An integer, a fraction cut off.
fn integer(s: &str) -> Option<i64> {
    if let Ok(v) = s.parse() {
        return Some(v);
    }
    let (whole, fraction) = s.split_once('.')?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    match whole {
        "" | "+" | "-" => Some(0),
        w => w.parse().ok(),
    }
}

/// What `Double.parseDouble` takes, in Rust's spelling.
fn java_float(s: &str) -> Option<&str> {
    match s {
        "NaN" => Some("NaN"),
        "Infinity" | "+Infinity" => Some("inf"),
        "-Infinity" => Some("-inf"),
        // Rust also reads words such as "inf" and "nan", Java does not.
        _ if s
            .bytes()
            .any(|b| b.is_ascii_alphabetic() && !matches!(b, b'e' | b'E' | b'd' | b'D' | b'f' | b'F')) =>
        {
            None
        }
        _ => Some(s.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(s)),
    }
}

/// The unscaled value at `scale`, half up; reads exponents too.
pub(crate) fn decimal_of_text(s: &str, scale: u8) -> Option<i128> {
    let (mantissa, exponent) = match s.split_once(['e', 'E']) {
        Some((m, e)) => (m, e.parse::<i32>().ok()?),
        None => (s, 0),
    };
    let (negative, mantissa) = match mantissa.as_bytes().first()? {
        b'-' => (true, mantissa.get(1..)?),
        b'+' => (false, mantissa.get(1..)?),
        _ => (false, mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value: i128 = 0;
    let mut round = false;
    // Digits that count: those left of the position `scale` right of the (moved) point.
    let keep = i64::try_from(whole.len()).ok()? + i64::from(exponent) + i64::from(scale);
    let mut seen = 0i64;
    for b in whole.bytes().chain(fraction.bytes()) {
        if !b.is_ascii_digit() {
            return None;
        }
        if seen < keep {
            value = value.checked_mul(10)?.checked_add(i128::from(b - b'0'))?;
        } else if seen == keep {
            round = b >= b'5';
        }
        seen += 1;
    }
    if value != 0 {
        for _ in seen..keep {
            value = value.checked_mul(10)?;
        }
    }
    value = value.checked_add(i128::from(round))?;
    Some(if negative { -value } else { value })
}

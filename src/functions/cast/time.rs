//! Casts among DATE, TIME, TIMESTAMP and TIMESTAMP_LTZ: a wall clock becomes an instant through the session zone, and
//! precision is cut off toward the past.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveBuilder};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Time32MillisecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};

use super::Mode;
use crate::error::{Error, Result};
use crate::functions::context::{instant_to_wall, wall_to_instant};

/// Whether a type is a date or time.
pub(super) fn is_time(t: &DataType) -> bool {
    matches!(t, DataType::Date32 | DataType::Time32(_) | DataType::Timestamp(_, _))
}

const DAY: i64 = 86_400;

/// `None` when the pair of types has no cast.
pub(super) fn cast(a: &ArrayRef, to: &DataType, mode: Mode) -> Result<Option<ArrayRef>> {
    use DataType as D;
    if !is_time(a.data_type()) || !is_time(to) {
        return Ok(None);
    }
    // A TIME becomes a time of the first day and gives no date.
    if matches!((a.data_type(), to), (D::Time32(_), D::Date32) | (D::Date32, D::Time32(_))) {
        return Ok(None);
    }
    let from_zone = matches!(a.data_type(), D::Timestamp(_, Some(_)));
    let to_zone = matches!(to, D::Timestamp(_, Some(_)));
    let read = Times::new(a)?;
    // Seconds and nanoseconds in the target's notion of time.
    let at = |i: usize| -> Option<(i64, i64)> {
        let (seconds, nanos) = read.get(i)?;
        let seconds = match (from_zone, to_zone) {
            (true, false) => instant_to_wall(seconds.checked_mul(1_000_000)?, mode.zone) / 1_000_000,
            (false, true) => wall_to_instant(seconds.checked_mul(1_000_000)?, mode.zone) / 1_000_000,
            _ => seconds,
        };
        Some((seconds, nanos))
    };
    let n = a.len();
    let out = match to {
        D::Date32 => build::<Date32Type>(n, to, |i| at(i)?.0.div_euclid(DAY).try_into().ok()),
        D::Time32(_) => build::<Time32MillisecondType>(n, to, |i| {
            let (s, nanos) = at(i)?;
            (s.rem_euclid(DAY) * 1000 + nanos / 1_000_000).try_into().ok()
        }),
        D::Timestamp(TimeUnit::Second, _) => build::<TimestampSecondType>(n, to, |i| Some(at(i)?.0)),
        D::Timestamp(TimeUnit::Millisecond, _) => {
            build::<TimestampMillisecondType>(n, to, |i| join(at(i)?, 1000))
        }
        D::Timestamp(TimeUnit::Microsecond, _) => {
            build::<TimestampMicrosecondType>(n, to, |i| join(at(i)?, 1_000_000))
        }
        _ => build::<TimestampNanosecondType>(n, to, |i| join(at(i)?, 1_000_000_000)),
    };
    Ok(Some(out))
}

fn join((seconds, nanos): (i64, i64), per_second: i64) -> Option<i64> {
    seconds.checked_mul(per_second)?.checked_add(nanos / (1_000_000_000 / per_second))
}

fn build<T: ArrowPrimitiveType>(n: usize, to: &DataType, f: impl Fn(usize) -> Option<T::Native>) -> ArrayRef {
    let mut out = PrimitiveBuilder::<T>::with_capacity(n);
    for i in 0..n {
        out.append_option(f(i));
    }
    Arc::new(out.finish().with_data_type(to.clone()))
}

/// Reads dates, times and timestamps as seconds since the epoch and nanoseconds of the second.
pub(crate) struct Times {
    array: ArrayRef,
    kind: Kind,
}

enum Kind {
    Days,
    DayMillis,
    PerSecond(i64),
}

impl Times {
    /// For an array of such a type.
    pub(crate) fn new(a: &ArrayRef) -> Result<Self> {
        use DataType as D;
        let kind = match a.data_type() {
            D::Date32 => Kind::Days,
            D::Time32(TimeUnit::Millisecond) => Kind::DayMillis,
            D::Timestamp(TimeUnit::Second, _) => Kind::PerSecond(1),
            D::Timestamp(TimeUnit::Millisecond, _) => Kind::PerSecond(1000),
            D::Timestamp(TimeUnit::Microsecond, _) => Kind::PerSecond(1_000_000),
            D::Timestamp(TimeUnit::Nanosecond, _) => Kind::PerSecond(1_000_000_000),
            other => return Err(Error::internal(format!("{other} is no date or time"))),
        };
        let array = match kind {
            Kind::Days | Kind::DayMillis => arrow::compute::cast(a, &D::Int32)?,
            Kind::PerSecond(_) => arrow::compute::cast(a, &D::Int64)?,
        };
        Ok(Times { array, kind })
    }

    /// Seconds and nanoseconds of a row.
    #[inline]
    pub(crate) fn get(&self, i: usize) -> Option<(i64, i64)> {
        if self.array.is_null(i) {
            return None;
        }
        Some(match self.kind {
            Kind::Days => {
                (i64::from(self.array.as_primitive::<arrow::datatypes::Int32Type>().value(i)) * DAY, 0)
            }
            Kind::DayMillis => {
                let v = i64::from(self.array.as_primitive::<arrow::datatypes::Int32Type>().value(i));
                (v.div_euclid(1000), v.rem_euclid(1000) * 1_000_000)
            }
            Kind::PerSecond(n) => {
                let v = self.array.as_primitive::<arrow::datatypes::Int64Type>().value(i);
                (v.div_euclid(n), v.rem_euclid(n) * (1_000_000_000 / n))
            }
        })
    }
}

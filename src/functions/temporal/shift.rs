//! Moving and comparing times: `TIMESTAMPADD`, `TIMESTAMPDIFF`, `OVERLAPS`, TIME ± interval, interval × number.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Float64Type, Int32Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType,
    IntervalUnit, Time32MillisecondType, TimeUnit,
};
use datafusion::logical_expr::ScalarUDF;

use super::calendar::{add_months, civil};
use super::fields::{Unit, check_unit, unit_argument};
use crate::error::{Error, Result};
use crate::functions::cast::time::Times;
use crate::functions::cast::{Mode, cast_array};
use crate::functions::context::{FunctionContext, instant_to_wall, wall_to_instant};
use crate::functions::udf::{Builtin, Call, Nulls, Ret, build_bools, build_prims};
use crate::text::units_per_second;

const DAY: i64 = 86_400;
const DAY_MILLIS: i64 = DAY * 1000;

pub(super) fn functions(context: &FunctionContext) -> Vec<Arc<ScalarUDF>> {
    let (a, b, o) = (context.clone(), context.clone(), context.clone());
    vec![
        Builtin::new(
            "timestampadd",
            "s l t",
            Ret::Of(|types, constants| {
                let unit = check_unit(constants)?.unwrap_or(Unit::Day);
                Ok(match types.get(2) {
                    Some(DataType::Date32)
                        if matches!(
                            unit,
                            Unit::Hour | Unit::Minute | Unit::Second | Unit::Millisecond | Unit::Microsecond
                        ) =>
                    {
                        DataType::Timestamp(TimeUnit::Microsecond, None)
                    }
                    Some(t) => t.clone(),
                    None => DataType::Null,
                })
            }),
            move |c| add(c, &a),
        )
        .build(),
        Builtin::new(
            "timestampdiff",
            "s t t",
            Ret::Of(|_, constants| {
                check_unit(constants)?;
                Ok(DataType::Int32)
            }),
            move |c| diff(c, &b),
        )
        .build(),
        Builtin::new("__overlaps", "t a t a", Ret::Type(DataType::Boolean), move |c| overlaps(c, &o)).build(),
    ]
}

fn add(c: &Call<'_>, context: &FunctionContext) -> Result<ArrayRef> {
    let unit = unit_argument(c, 0)?;
    let n = c.prim::<Int64Type>(1)?;
    let a = c.full(2)?;
    let to = c.return_type;
    if matches!(to, DataType::Time32(_)) {
        let a = a.as_primitive::<Time32MillisecondType>();
        let size = fixed_millis(unit).ok_or_else(|| wrong_unit(unit, "TIME"))?;
        return build_prims::<Time32MillisecondType>(c.rows, |i| {
            let (Some(n), true) = (n.get(i), a.is_valid(i)) else { return Ok(None) };
            let v = (i64::from(a.value(i)) + n.wrapping_mul(size)).rem_euclid(DAY_MILLIS);
            Ok(Some(v as i32))
        });
    }
    if *to == DataType::Date32 {
        let a = a.as_primitive::<arrow::datatypes::Date32Type>();
        return build_prims::<arrow::datatypes::Date32Type>(c.rows, |i| {
            let (Some(n), true) = (n.get(i), a.is_valid(i)) else { return Ok(None) };
            let day = i64::from(a.value(i));
            let moved = match (months_of(unit), unit) {
                (Some(m), _) => add_months(day, n.wrapping_mul(m)),
                (None, Unit::Week) => day + n.wrapping_mul(7),
                _ => day + n,
            };
            Ok(i32::try_from(moved).ok())
        });
    }
    let a = cast_array(&a, to, Mode { lenient: false, zone: context.time_zone })?;
    let (per_second, zoned) = match to {
        DataType::Timestamp(unit, z) => (units_per_second(*unit), z.is_some()),
        other => return Err(Error::internal(format!("TIMESTAMPADD into {other}"))),
    };
    let values = arrow::compute::cast(&a, &DataType::Int64)?;
    let values = values.as_primitive::<Int64Type>();
    let zone = context.time_zone;
    let out = build_prims::<Int64Type>(c.rows, |i| {
        let (Some(n), true) = (n.get(i), values.is_valid(i)) else { return Ok(None) };
        let v = values.value(i);
        Ok(match months_of(unit) {
            None => fixed_millis(unit)
                .and_then(|size| {
                    i64::try_from(i128::from(n) * i128::from(size) * i128::from(per_second) / 1000).ok()
                })
                .and_then(|d| v.checked_add(d)),
            Some(m) => {
                let (mut s, rest) = (v.div_euclid(per_second), v.rem_euclid(per_second));
                if zoned {
                    s = instant_to_wall(s.saturating_mul(1_000_000), zone) / 1_000_000;
                }
                let day = add_months(s.div_euclid(DAY), n.wrapping_mul(m));
                s = day * DAY + s.rem_euclid(DAY);
                if zoned {
                    s = wall_to_instant(s.saturating_mul(1_000_000), zone) / 1_000_000;
                }
                s.checked_mul(per_second).and_then(|s| s.checked_add(rest))
            }
        })
    })?;
    Ok(arrow::compute::cast(&out, to)?)
}

fn wrong_unit(unit: Unit, what: &str) -> Error {
    Error::validation(format!("{unit:?} is no unit to move a {what} by"))
}

fn months_of(unit: Unit) -> Option<i64> {
    match unit {
        Unit::Month => Some(1),
        Unit::Quarter => Some(3),
        Unit::Year => Some(12),
        Unit::Decade => Some(120),
        Unit::Century => Some(1200),
        Unit::Millennium => Some(12_000),
        _ => None,
    }
}

fn fixed_millis(unit: Unit) -> Option<i64> {
    match unit {
        Unit::Week => Some(7 * DAY_MILLIS),
        Unit::Day => Some(DAY_MILLIS),
        Unit::Hour => Some(3_600_000),
        Unit::Minute => Some(60_000),
        Unit::Second => Some(1000),
        Unit::Millisecond => Some(1),
        _ => None,
    }
}

/// Wall clocks in milliseconds.
fn wall_millis(a: &ArrayRef, context: &FunctionContext) -> Result<impl Fn(usize) -> Option<i64> + use<>> {
    let zoned = matches!(a.data_type(), DataType::Timestamp(_, Some(_)));
    let times = Times::new(a)?;
    let zone = context.time_zone;
    Ok(move |i| {
        let (mut s, nanos) = times.get(i)?;
        if zoned {
            s = instant_to_wall(s.checked_mul(1_000_000)?, zone) / 1_000_000;
        }
        Some(s.checked_mul(1000)? + nanos / 1_000_000)
    })
}

fn diff(c: &Call<'_>, context: &FunctionContext) -> Result<ArrayRef> {
    let unit = unit_argument(c, 0)?;
    let (a, b) = (c.full(1)?, c.full(2)?);
    let (a, b) = (wall_millis(&a, context)?, wall_millis(&b, context)?);
    if months_of(unit).is_none() && fixed_millis(unit).is_none() {
        return Err(wrong_unit(unit, "time"));
    }
    build_prims::<Int32Type>(c.rows, |i| {
        let (Some(a), Some(b)) = (a(i), b(i)) else { return Ok(None) };
        let whole = match months_of(unit) {
            Some(m) => months_between(a, b) / m,
            None => (b - a) / fixed_millis(unit).unwrap_or(1),
        };
        Ok(Some(whole as i32))
    })
}

/// Whole months from `a` to `b` as Calcite counts them: by days first, where the end of a shorter month completes a
/// month; a time of day takes one off only where the day is exactly met, also when counting backwards.
fn months_between(a: i64, b: i64) -> i64 {
    let (day_a, day_b) = (a.div_euclid(DAY_MILLIS), b.div_euclid(DAY_MILLIS));
    let months = if day_b < day_a { -months_of_days(day_b, day_a) } else { months_of_days(day_a, day_b) };
    let early = b.rem_euclid(DAY_MILLIS) < a.rem_euclid(DAY_MILLIS);
    months - i64::from(early && add_months(day_a, months) == day_b)
}

/// Whole months between two days in order.
fn months_of_days(from: i64, to: i64) -> i64 {
    let ((y0, m0, _), (y1, m1, _)) = (civil(from), civil(to));
    let months = (y1 - y0) * 12 + i64::from(m1) - i64::from(m0);
    months - i64::from(add_months(from, months) > to)
}

/// Start and end of the period in a row.
type Period = Box<dyn Fn(usize) -> Option<(i64, i64)>>;

fn overlaps(c: &Call<'_>, context: &FunctionContext) -> Result<ArrayRef> {
    let period = |t: usize, x: usize| -> Result<Period> {
        let start = wall_millis(&c.full(t)?, context)?;
        let other = c.full(x)?;
        if matches!(other.data_type(), DataType::Interval(_)) {
            let other = arrow::compute::cast(&other, &DataType::Interval(IntervalUnit::MonthDayNano))?;
            let length = other.as_primitive::<IntervalMonthDayNanoType>().clone();
            return Ok(Box::new(move |i| {
                let from = start(i)?;
                if length.is_null(i) {
                    return None;
                }
                let v = length.value(i);
                let day = add_months(from.div_euclid(DAY_MILLIS), i64::from(v.months)) + i64::from(v.days);
                let to = day * DAY_MILLIS + from.rem_euclid(DAY_MILLIS) + v.nanoseconds / 1_000_000;
                Some((from.min(to), from.max(to)))
            }));
        }
        let end = wall_millis(&other, context)?;
        Ok(Box::new(move |i| {
            let (from, to) = (start(i)?, end(i)?);
            Some((from.min(to), from.max(to)))
        }))
    };
    let (left, right) = (period(0, 1)?, period(2, 3)?);
    build_bools(c.rows, |i| {
        let (Some((a, b)), Some((x, y))) = (left(i), right(i)) else { return Ok(None) };
        Ok(Some(b >= x && y >= a))
    })
}

static INTERVAL_TIMES: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    let interval = DataType::Interval(IntervalUnit::MonthDayNano);
    Builtin::new("__interval_times", "a a", Ret::Type(interval), |c| {
        let (a, b) = (c.full(0)?, c.full(1)?);
        let (interval, factor) = if matches!(a.data_type(), DataType::Interval(_)) { (a, b) } else { (b, a) };
        let interval = arrow::compute::cast(&interval, &DataType::Interval(IntervalUnit::MonthDayNano))?;
        let factor = arrow::compute::cast(&factor, &DataType::Float64)?;
        let (interval, factor) =
            (interval.as_primitive::<IntervalMonthDayNanoType>(), factor.as_primitive::<Float64Type>());
        build_prims::<IntervalMonthDayNanoType>(c.rows, |i| {
            if interval.is_null(i) || factor.is_null(i) {
                return Ok(None);
            }
            let (v, f) = (interval.value(i), factor.value(i));
            let millis = (i64::from(v.days) * DAY_MILLIS + v.nanoseconds / 1_000_000) as f64 * f;
            Ok(Some(IntervalMonthDayNano::new(
                (f64::from(v.months) * f) as i32,
                0,
                (millis as i64).saturating_mul(1_000_000),
            )))
        })
    })
    .nulls(Nulls::Propagate)
    .build()
});

/// interval × number.
pub(crate) fn interval_times() -> Arc<ScalarUDF> {
    Arc::clone(&INTERVAL_TIMES)
}

static TIME_PLUS: LazyLock<[Arc<ScalarUDF>; 2]> =
    LazyLock::new(|| [time_shift("__time_minus", -1), time_shift("__time_plus", 1)]);

fn time_shift(name: &'static str, sign: i64) -> Arc<ScalarUDF> {
    Builtin::new(name, "t a", Ret::Arg(0), move |c| {
        let (a, b) = (c.full(0)?, c.full(1)?);
        let b = arrow::compute::cast(&b, &DataType::Interval(IntervalUnit::MonthDayNano))?;
        let (a, b) =
            (a.as_primitive::<Time32MillisecondType>(), b.as_primitive::<IntervalMonthDayNanoType>());
        build_prims::<Time32MillisecondType>(c.rows, |i| {
            if a.is_null(i) || b.is_null(i) {
                return Ok(None);
            }
            let moved = i64::from(a.value(i)) + sign * (b.value(i).nanoseconds / 1_000_000);
            Ok(Some(moved.rem_euclid(DAY_MILLIS) as i32))
        })
    })
    .build()
}

/// TIME ± interval, around midnight.
pub(crate) fn time_plus(sign: i64) -> Arc<ScalarUDF> {
    let [minus, plus] = &*TIME_PLUS;
    Arc::clone(if sign < 0 { minus } else { plus })
}

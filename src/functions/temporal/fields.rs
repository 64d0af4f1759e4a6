//! Fields of dates and times: `EXTRACT`, `YEAR` … `SECOND`, and `FLOOR`/`CEIL … TO unit`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Builder};
use arrow::datatypes::{
    DataType, Date32Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
    IntervalYearMonthType,
};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ScalarUDF;

use super::calendar::{add_months, civil, days, iso_week, iso_weekday};
use crate::error::{Error, Result};
use crate::functions::cast::time::Times;
use crate::functions::context::{FunctionContext, instant_to_wall, wall_to_instant};
use crate::functions::udf::{Builtin, Call, Ret, ReturnType, build_prims};
use crate::text::units_per_second;
use crate::types::sql_name;

/// Unit of EXTRACT and of FLOOR/CEIL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Nanosecond,
    Microsecond,
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    Dow,
    IsoDow,
    Doy,
    Week,
    Month,
    Quarter,
    Year,
    IsoYear,
    Decade,
    Century,
    Millennium,
    Epoch,
}

impl Unit {
    /// Reads a unit name.
    pub(crate) fn parse(s: &str) -> Result<Self> {
        Ok(match s.to_ascii_uppercase().as_str() {
            "NANOSECOND" => Unit::Nanosecond,
            "MICROSECOND" => Unit::Microsecond,
            "MILLISECOND" => Unit::Millisecond,
            "SECOND" => Unit::Second,
            "MINUTE" => Unit::Minute,
            "HOUR" => Unit::Hour,
            "DAY" => Unit::Day,
            "DOW" => Unit::Dow,
            "ISODOW" => Unit::IsoDow,
            "DOY" => Unit::Doy,
            "WEEK" => Unit::Week,
            "MONTH" => Unit::Month,
            "QUARTER" => Unit::Quarter,
            "YEAR" => Unit::Year,
            "ISOYEAR" => Unit::IsoYear,
            "DECADE" => Unit::Decade,
            "CENTURY" => Unit::Century,
            "MILLENNIUM" => Unit::Millennium,
            "EPOCH" => Unit::Epoch,
            _ => {
                return Err(Error::validation(format!("'{s}' is not a valid time unit")).hint(
                    "units are NANOSECOND, MICROSECOND, MILLISECOND, SECOND, MINUTE, HOUR, DAY, DOW, ISODOW, DOY, \
                     WEEK, MONTH, QUARTER, YEAR, ISOYEAR, DECADE, CENTURY, MILLENNIUM, EPOCH",
                ));
            }
        })
    }
}

const DAY: i64 = 86_400;

pub(super) fn functions(context: &FunctionContext) -> Vec<Arc<ScalarUDF>> {
    let mut out = Vec::new();
    let c = context.clone();
    out.push(
        Builtin::new("extract", "s t|s a", Ret::Of(extract_type), move |call| {
            let unit = unit_argument(call, 0)?;
            extract(call, 1, unit, &c)
        })
        .build(),
    );
    let named: [(&'static str, Unit); 10] = [
        ("year", Unit::Year),
        ("quarter", Unit::Quarter),
        ("month", Unit::Month),
        ("week", Unit::Week),
        ("dayofyear", Unit::Doy),
        ("dayofmonth", Unit::Day),
        ("dayofweek", Unit::Dow),
        ("hour", Unit::Hour),
        ("minute", Unit::Minute),
        ("second", Unit::Second),
    ];
    for (name, unit) in named {
        let c = context.clone();
        let (forms, ret): (_, ReturnType) = match unit {
            Unit::Year => ("t|I", |t, constants| check_interval(Unit::Year, t.first(), constants.first())),
            Unit::Quarter => {
                ("t|I", |t, constants| check_interval(Unit::Quarter, t.first(), constants.first()))
            }
            Unit::Month => ("t|I", |t, constants| check_interval(Unit::Month, t.first(), constants.first())),
            Unit::Day => ("t|I", |t, constants| check_interval(Unit::Day, t.first(), constants.first())),
            Unit::Hour => ("t|I", |t, constants| check_interval(Unit::Hour, t.first(), constants.first())),
            Unit::Minute => {
                ("t|I", |t, constants| check_interval(Unit::Minute, t.first(), constants.first()))
            }
            Unit::Second => {
                ("t|I", |t, constants| check_interval(Unit::Second, t.first(), constants.first()))
            }
            _ => ("t", |_, _| Ok(DataType::Int64)),
        };
        let field = move |call: &Call<'_>| extract(call, 0, unit, &c);
        out.push(Builtin::new(name, forms, Ret::Of(ret), field).build());
    }
    out
}

/// BIGINT, if an interval of that type and value can have the field.
fn check_interval(
    unit: Unit,
    ty: Option<&DataType>,
    constant: Option<&Option<&ScalarValue>>,
) -> Result<DataType> {
    match (ty, constant) {
        (Some(DataType::Interval(IntervalUnit::YearMonth)), _) => check_kind(unit, true)?,
        (_, Some(Some(ScalarValue::IntervalMonthDayNano(Some(v))))) if *v != IntervalMonthDayNano::ZERO => {
            check_kind(unit, v.months != 0)?;
        }
        _ => {}
    }
    Ok(DataType::Int64)
}

/// Whether intervals of months, or of days and times, have the field.
fn check_kind(unit: Unit, months: bool) -> Result<()> {
    let of_months = matches!(
        unit,
        Unit::Year | Unit::Quarter | Unit::Month | Unit::Decade | Unit::Century | Unit::Millennium
    );
    let of_times = matches!(
        unit,
        Unit::Day | Unit::Hour | Unit::Minute | Unit::Second | Unit::Millisecond | Unit::Epoch
    );
    if months && of_months || !months && of_times {
        return Ok(());
    }
    let (kind, has) = if months {
        ("INTERVAL YEAR TO MONTH", "YEAR, QUARTER and MONTH")
    } else {
        ("INTERVAL DAY TO SECOND", "DAY, HOUR, MINUTE, SECOND and MILLISECOND")
    };
    let name = format!("{unit:?}").to_uppercase();
    Err(Error::validation(format!("an {kind} has no field {name}")).hint(format!("it has {has}")))
}

fn extract_type(types: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    let unit = check_unit(constants)?;
    match types.get(1) {
        Some(DataType::Interval(_)) => match unit {
            Some(unit) => check_interval(unit, types.get(1), constants.get(1)),
            None => Ok(DataType::Int64),
        },
        Some(DataType::Date32 | DataType::Time32(_) | DataType::Timestamp(..)) | None => Ok(DataType::Int64),
        Some(DataType::Null) => Ok(DataType::Int64),
        Some(other) => Err(no_fields(other)),
    }
}

fn no_fields(t: &DataType) -> Error {
    Error::validation(format!("EXTRACT cannot take a field from {}", sql_name(t)))
        .hint("CAST it to a DATE, TIME or TIMESTAMP")
}

/// Refuses a first argument that is no unit.
pub(super) fn check_unit(constants: &[Option<&ScalarValue>]) -> Result<Option<Unit>> {
    let text = constants.first().copied().flatten().and_then(|v| v.try_as_str().flatten());
    text.map(Unit::parse).transpose()
}

/// The constant unit in argument `i`.
pub(crate) fn unit_argument(call: &Call<'_>, i: usize) -> Result<Unit> {
    match call.str(i)?.get(0) {
        Some(s) => Unit::parse(s),
        None => Err(Error::validation("the time unit is missing")),
    }
}

fn extract(call: &Call<'_>, i: usize, unit: Unit, context: &FunctionContext) -> Result<ArrayRef> {
    let a = call.full(i)?;
    match a.data_type() {
        DataType::Interval(_) => return extract_interval(&a, unit),
        DataType::Date32 | DataType::Time32(_) | DataType::Timestamp(_, _) => {}
        other => return Err(no_fields(other)),
    }
    let zoned = matches!(a.data_type(), DataType::Timestamp(_, Some(_)));
    let times = Times::new(&a)?;
    let mut out = Int64Builder::with_capacity(a.len());
    for row in 0..a.len() {
        out.append_option(times.get(row).map(|(mut seconds, nanos)| {
            // Also for EPOCH: Flink counts the seconds of the wall clock.
            if zoned {
                seconds = instant_to_wall(seconds.saturating_mul(1_000_000), context.time_zone) / 1_000_000;
            }
            field(unit, seconds, nanos)
        }));
    }
    Ok(Arc::new(out.finish()))
}

fn field(unit: Unit, seconds: i64, nanos: i64) -> i64 {
    let day = seconds.div_euclid(DAY);
    let clock = seconds.rem_euclid(DAY);
    match unit {
        Unit::Nanosecond => nanos,
        Unit::Microsecond => nanos / 1000,
        Unit::Millisecond => nanos / 1_000_000,
        Unit::Second => clock % 60,
        Unit::Minute => clock / 60 % 60,
        Unit::Hour => clock / 3600,
        Unit::Epoch => seconds,
        Unit::Dow => iso_weekday(day) % 7 + 1,
        Unit::IsoDow => iso_weekday(day),
        Unit::Week => iso_week(day).1,
        Unit::IsoYear => iso_week(day).0,
        _ => {
            let (y, m, d) = civil(day);
            match unit {
                Unit::Day => i64::from(d),
                Unit::Month => i64::from(m),
                Unit::Quarter => i64::from(m.div_ceil(3)),
                Unit::Doy => day - days(y, 1, 1) + 1,
                Unit::Decade => y / 10,
                Unit::Century => (y + 99) / 100,
                Unit::Millennium => (y + 999) / 1000,
                _ => y,
            }
        }
    }
}

fn extract_interval(a: &ArrayRef, unit: Unit) -> Result<ArrayRef> {
    if let Some(a) = a.as_primitive_opt::<IntervalYearMonthType>() {
        check_kind(unit, true)?;
        return Ok(Arc::new(a.unary::<_, Int64Type>(|v| field_of_months(unit, i64::from(v)))));
    }
    let a = a.as_primitive::<IntervalMonthDayNanoType>();
    // Literals and columns of both kinds share this type; one that is zero may be of either.
    build_prims::<Int64Type>(a.len(), |i| {
        if a.is_null(i) {
            return Ok(None);
        }
        let v = a.value(i);
        if v == IntervalMonthDayNano::ZERO {
            return Ok(Some(i64::from(unit == Unit::Quarter)));
        }
        check_kind(unit, v.months != 0)?;
        if v.months != 0 {
            return Ok(Some(field_of_months(unit, i64::from(v.months))));
        }
        let millis = i64::from(v.days) * 86_400_000 + v.nanoseconds / 1_000_000;
        Ok(Some(match unit {
            Unit::Day => millis / 86_400_000,
            Unit::Hour => millis / 3_600_000 % 24,
            Unit::Minute => millis / 60_000 % 60,
            Unit::Second => millis / 1000 % 60,
            Unit::Millisecond => millis % 1000,
            _ => millis / 1000,
        }))
    })
}

fn field_of_months(unit: Unit, months: i64) -> i64 {
    match unit {
        Unit::Quarter => months % 12 / 3 + 1,
        Unit::Month => months % 12,
        Unit::Decade => months / 120,
        Unit::Century => months / 1200,
        Unit::Millennium => months / 12_000,
        _ => months / 12,
    }
}

/// `FLOOR(t TO unit)` and `CEIL(t TO unit)`: argument 0 is the time, 1 the unit.
pub(crate) fn round(call: &Call<'_>, up: bool, context: &FunctionContext) -> Result<ArrayRef> {
    let unit = unit_argument(call, 1)?;
    let a = call.full(0)?;
    let to = a.data_type().clone();
    match &to {
        DataType::Date32 => {
            let a = a.as_primitive::<Date32Type>();
            Ok(Arc::new(a.unary_opt::<_, Date32Type>(|d| {
                round_day(unit, i64::from(d), up, true).and_then(|d| d.try_into().ok())
            })))
        }
        DataType::Timestamp(u, zone) => {
            let per_second = units_per_second(*u);
            let values = arrow::compute::cast(&a, &DataType::Int64)?;
            let zoned = zone.is_some();
            let out = values.as_primitive::<Int64Type>().unary_opt::<_, Int64Type>(|v| {
                if !zoned {
                    return round_units(unit, v, per_second, up);
                }
                let (s, rest) = (v.div_euclid(per_second), v.rem_euclid(per_second));
                let wall = instant_to_wall(s.checked_mul(1_000_000)?, context.time_zone) / 1_000_000;
                let r = round_units(unit, wall * per_second + rest, per_second, up)?;
                let (s, rest) = (r.div_euclid(per_second), r.rem_euclid(per_second));
                let s = wall_to_instant(s.checked_mul(1_000_000)?, context.time_zone) / 1_000_000;
                Some(s * per_second + rest)
            });
            Ok(arrow::compute::cast(&out, &to)?)
        }
        DataType::Time32(_) => {
            let values = arrow::compute::cast(&a, &DataType::Int32)?;
            let values = arrow::compute::cast(&values, &DataType::Int64)?;
            let out =
                values.as_primitive::<Int64Type>().unary_opt::<_, arrow::datatypes::Time32MillisecondType>(
                    |v| round_units(unit, v, 1000, up).and_then(|v| v.try_into().ok()),
                );
            Ok(Arc::new(out))
        }
        other => Err(Error::validation(format!("{} cannot be rounded to a time unit", sql_name(other)))),
    }
}

fn round_units(unit: Unit, v: i64, per_second: i64, up: bool) -> Option<i64> {
    let step = match unit {
        Unit::Nanosecond => per_second / 1_000_000_000,
        Unit::Microsecond => per_second / 1_000_000,
        Unit::Millisecond => per_second / 1000,
        Unit::Second => per_second,
        Unit::Minute => per_second * 60,
        Unit::Hour => per_second * 3600,
        Unit::Day => per_second * DAY,
        _ => {
            let length = per_second * DAY;
            // A time of day counts for CEIL before 1970, where Flink divides toward it.
            let later = up && v < 0 && v.rem_euclid(length) != 0;
            let day = round_day(unit, v.div_euclid(length) + i64::from(later), up, false)?;
            return day.checked_mul(length);
        }
    };
    if step <= 1 {
        return Some(v);
    }
    let floor = v.div_euclid(step) * step;
    Some(if up && floor != v { floor + step } else { floor })
}

/// A day rounded to a coarser unit. As in Flink the first day of a week, month or year never moves up, whatever its time
/// of day, while that of a quarter, decade, century or millennium always does, and so does a pure date to DAY.
fn round_day(unit: Unit, day: i64, up: bool, date: bool) -> Option<i64> {
    let (y, m, _) = civil(day);
    let of_years = |n: i64, first: i64| {
        let start = (y - first).div_euclid(n) * n + first;
        (days(start, 1, 1), days(start + n, 1, 1))
    };
    let (floor, next) = match unit {
        Unit::Week => {
            let sunday = day - iso_weekday(day) % 7;
            (sunday, sunday + 7)
        }
        Unit::Month => {
            let first = days(y, m, 1);
            (first, add_months(first, 1))
        }
        Unit::Quarter => {
            let first = days(y, (m - 1) / 3 * 3 + 1, 1);
            (first, add_months(first, 3))
        }
        Unit::Year => of_years(1, 0),
        Unit::Decade => of_years(10, 0),
        Unit::Century => of_years(100, 1),
        Unit::Millennium => of_years(1000, 1),
        Unit::IsoYear => {
            let start = |y: i64| {
                let jan4 = days(y, 1, 4);
                jan4 - iso_weekday(jan4) + 1
            };
            let y = iso_week(day).0;
            (start(y), start(y + 1))
        }
        _ => return Some(if up && date && unit == Unit::Day { day + 1 } else { day }),
    };
    let always = matches!(unit, Unit::Quarter | Unit::Decade | Unit::Century | Unit::Millennium);
    Some(if up && (always || floor != day) { next } else { floor })
}

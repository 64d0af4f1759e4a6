//! Dates, times and intervals as Flink (`java = false`) and Java (`java = true`) write them.

use std::fmt::Write;

use arrow::datatypes::TimeUnit;
use chrono::{DateTime, Datelike, Offset, TimeZone};
use chrono_tz::Tz;

use crate::error::{Error, Result};

const NANOS_PER_SECOND: i64 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

pub(super) fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => NANOS_PER_SECOND,
    }
}

/// Days since the epoch as `YYYY-MM-DD`.
pub(super) fn write_date(days: i64, out: &mut String) -> Result<()> {
    let date = i32::try_from(days)
        .ok()
        .and_then(|d| chrono::NaiveDate::from_num_days_from_ce_opt(d.checked_add(719_163)?))
        .ok_or_else(|| Error::data(format!("day {days} is outside of the calendar")))?;
    let _ = write!(out, "{:04}-{:02}-{:02}", date.year(), date.month(), date.day());
    Ok(())
}

/// `HH:MM:SS` and a fraction of 3, 6 or 9 digits unless it is zero. Java leaves out seconds that are zero.
pub(super) fn write_time_of_day(nanos: i64, java: bool, out: &mut String) {
    let seconds = nanos / NANOS_PER_SECOND;
    let fraction = nanos % NANOS_PER_SECOND;
    let _ = write!(out, "{:02}:{:02}", seconds / 3600, seconds / 60 % 60);
    if java && seconds % 60 == 0 && fraction == 0 {
        return;
    }
    let _ = write!(out, ":{:02}", seconds % 60);
    write_fraction(fraction, out);
}

fn write_fraction(nanos: i64, out: &mut String) {
    let _ = match nanos {
        0 => Ok(()),
        n if n % 1_000_000 == 0 => write!(out, ".{:03}", n / 1_000_000),
        n if n % 1_000 == 0 => write!(out, ".{:06}", n / 1_000),
        n => write!(out, ".{n:09}"),
    };
}

/// A wall clock.
pub(super) fn write_timestamp(value: i64, unit: TimeUnit, java: bool, out: &mut String) -> Result<()> {
    let per_second = per_second(unit);
    write_wall(
        value.div_euclid(per_second),
        value.rem_euclid(per_second) * (NANOS_PER_SECOND / per_second),
        java,
        out,
    )
}

fn write_wall(seconds: i64, nanos: i64, java: bool, out: &mut String) -> Result<()> {
    write_date(seconds.div_euclid(SECONDS_PER_DAY), out)?;
    out.push(if java { 'T' } else { ' ' });
    write_time_of_day(seconds.rem_euclid(SECONDS_PER_DAY) * NANOS_PER_SECOND + nanos, java, out);
    Ok(())
}

/// An instant: a wall clock in `zone`, or for Java in UTC with a `Z`.
pub(super) fn write_instant(
    value: i64,
    unit: TimeUnit,
    zone: Tz,
    java: bool,
    out: &mut String,
) -> Result<()> {
    let per_second = per_second(unit);
    let seconds = value.div_euclid(per_second);
    let nanos = value.rem_euclid(per_second) * (NANOS_PER_SECOND / per_second);
    if java {
        write_date(seconds.div_euclid(SECONDS_PER_DAY), out)?;
        out.push('T');
        // Instants keep their seconds.
        write_time_of_day(seconds.rem_euclid(SECONDS_PER_DAY) * NANOS_PER_SECOND + nanos, false, out);
        out.push('Z');
        return Ok(());
    }
    let utc = DateTime::from_timestamp(seconds, 0)
        .ok_or_else(|| Error::data(format!("second {seconds} is outside of the calendar")))?;
    let offset = zone.offset_from_utc_datetime(&utc.naive_utc()).fix().local_minus_utc();
    write_wall(seconds + i64::from(offset), nanos, false, out)
}

/// `+1-02`, or Java's `P14M`.
pub(super) fn write_months(months: i32, java: bool, out: &mut String) {
    let _ = if java {
        write!(out, "P{months}M")
    } else {
        let sign = if months < 0 { '-' } else { '+' };
        write!(out, "{sign}{}-{:02}", months.unsigned_abs() / 12, months.unsigned_abs() % 12)
    };
}

/// `+1 02:03:04.500`, or Java's `PT26H3M4.5S`.
pub(super) fn write_day_time(months: i32, days: i32, nanos: i64, java: bool, out: &mut String) {
    if months != 0 {
        // Not a Flink type: only an expression of DataFusion's could make one.
        let _ = write!(out, "{months} months ");
    }
    let total = i128::from(days) * i128::from(SECONDS_PER_DAY * NANOS_PER_SECOND) + i128::from(nanos);
    let magnitude = total.unsigned_abs();
    let (seconds, fraction) =
        ((magnitude / NANOS_PER_SECOND as u128) as u64, (magnitude % NANOS_PER_SECOND as u128) as u64);
    if !java {
        let sign = if total < 0 { '-' } else { '+' };
        let _ = write!(
            out,
            "{sign}{} {:02}:{:02}:{:02}.{:03}",
            seconds / 86_400,
            seconds / 3600 % 24,
            seconds / 60 % 60,
            seconds % 60,
            fraction / 1_000_000
        );
        return;
    }
    out.push_str("PT");
    if total == 0 {
        out.push_str("0S");
        return;
    }
    let sign = if total < 0 { "-" } else { "" };
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if h > 0 {
        let _ = write!(out, "{sign}{h}H");
    }
    if m > 0 {
        let _ = write!(out, "{sign}{m}M");
    }
    if s > 0 || fraction > 0 {
        let _ = write!(out, "{sign}{s}");
        if fraction > 0 {
            let digits = format!("{fraction:09}");
            let _ = write!(out, ".{}", digits.trim_end_matches('0'));
        }
        out.push('S');
    }
}

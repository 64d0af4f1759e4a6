//! Printing by a pattern of `DateTimeFormatter`. A wall clock has no zone: Flink formats a `LocalDateTime`, also for
//! TIMESTAMP_LTZ.

use super::names::period_name;
use super::strict::{Field, Number, Part, Shape, Sign};
use super::{Moment, week, weekday};
use crate::functions::temporal::calendar::iso_weekday;

/// Prints a moment.
pub(super) fn format(parts: &[Part], out: &mut String, m: &Moment) -> Result<(), String> {
    for part in parts {
        one(part, out, m)?;
    }
    Ok(())
}

fn one(part: &Part, out: &mut String, m: &Moment) -> Result<(), String> {
    match part {
        Part::Literal(text) => out.push_str(text),
        Part::Number(n) => number(n, out, value(n.field, m))?,
        Part::Text(named, field, width) => out.push_str(named.name(value(*field, m), *width)),
        Part::Period(width) => out.push_str(period_name(m.second / 60, *width)),
        Part::Zone(letter, _) => {
            return Err(format!("the letter '{letter}' needs a time zone, which a timestamp does not have"));
        }
        Part::Pad(width, inner) => {
            let start = out.len();
            one(inner, out, m)?;
            let written = out.get(start..).map_or(0, |s| s.chars().count());
            let Some(missing) = width.checked_sub(written) else {
                return Err(format!("{written} characters do not fit into {width} letters 'p'"));
            };
            out.insert_str(start, &" ".repeat(missing));
        }
        Part::Optional(inner) => {
            // A section with a zone is left out.
            if !has_zone(inner) {
                format(inner, out, m)?;
            }
        }
    }
    Ok(())
}

fn has_zone(parts: &[Part]) -> bool {
    parts.iter().any(|part| match part {
        Part::Zone(..) => true,
        Part::Pad(_, inner) => has_zone(std::slice::from_ref(inner)),
        _ => false,
    })
}

/// The number of a field.
pub(super) fn value(field: Field, m: &Moment) -> i64 {
    let hour = m.hour();
    match field {
        Field::Era => i64::from(m.year > 0),
        Field::YearOfEra => {
            if m.year > 0 {
                m.year
            } else {
                1 - m.year
            }
        }
        Field::Year => m.year,
        Field::Month => i64::from(m.month),
        Field::Day => i64::from(m.day_of_month),
        Field::DayOfYear => m.day_of_year(),
        Field::JulianDay => m.day + 40_587,
        Field::Quarter => i64::from(m.month - 1) / 3 + 1,
        Field::WeekYear => week(m.day).0,
        Field::Week => week(m.day).1,
        Field::WeekOfMonth => m.week_of_month(),
        Field::Weekday => iso_weekday(m.day),
        Field::LocalWeekday => weekday(m.day),
        Field::AlignedDay => i64::from(m.day_of_month - 1) % 7 + 1,
        Field::Half => hour / 12,
        Field::HalfHour => hour % 12,
        Field::ClockHalfHour => {
            if hour % 12 == 0 {
                12
            } else {
                hour % 12
            }
        }
        Field::ClockHour => {
            if hour == 0 {
                24
            } else {
                hour
            }
        }
        Field::Hour => hour,
        Field::Minute => m.second / 60 % 60,
        Field::Second => m.second % 60,
        Field::Nano => m.nanos,
        Field::MilliOfDay => m.second * 1000 + m.nanos / 1_000_000,
        Field::NanoOfDay => m.second * 1_000_000_000 + m.nanos,
    }
}

fn padded(out: &mut String, value: u64, width: usize) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value);
    (digits.len()..width).for_each(|_| out.push('0'));
    out.push_str(digits);
}

fn number(n: &Number, out: &mut String, value: i64) -> Result<(), String> {
    let width = n.min;
    match n.shape {
        Shape::TwoDigits => {
            padded(out, value.unsigned_abs() % 100, 2);
        }
        Shape::Fraction => {
            let start = out.len();
            padded(out, value.unsigned_abs(), 9);
            out.truncate(start + n.max.min(9));
        }
        Shape::Plain => {
            let mut buffer = itoa::Buffer::new();
            let digits = buffer.format(value.unsigned_abs());
            if digits.len() > n.max {
                return Err(format!("{value} has more than {} digits", n.max));
            }
            match n.sign {
                Sign::Never if value < 0 => return Err(format!("{value} is negative")),
                Sign::ExceedsPad if value >= 0 && digits.len() > width => out.push('+'),
                _ if value < 0 => out.push('-'),
                _ => {}
            }
            (digits.len()..width).for_each(|_| out.push('0'));
            out.push_str(digits);
        }
    }
    Ok(())
}

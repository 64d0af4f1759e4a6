//! Interval literals in all of Flink's forms, as months or milliseconds in the one form DataFusion reads.

use datafusion::sql::sqlparser::ast::{DateTimeField, Expr, Interval};

use super::literal::{string_of, text, typed_integer};
use crate::error::{Error, Result};

/// Units from coarse to fine, with their size in months or milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    Year,
    Quarter,
    Month,
    Week,
    Day,
    Hour,
    Minute,
    Second,
}

pub(super) fn rewrite(expr: &mut Expr) -> Result<()> {
    let Expr::Interval(i) = expr else { return Ok(()) };
    let value = match string_of(&i.value).or_else(|| typed_integer(&i.value)) {
        Some(v) => v.to_owned(),
        None => {
            return Err(Error::validation("an INTERVAL needs a literal value")
                .hint("write INTERVAL '10' MINUTE, or multiply: x * INTERVAL '1' MINUTE"));
        }
    };
    let shown = format!("INTERVAL '{value}'");
    let Some(first) = &i.leading_field else {
        return Err(Error::syntax(format!("{shown} has no unit")).hint("e.g. INTERVAL '10' MINUTE"));
    };
    let first = unit(first, &shown)?;
    let last = i.last_field.as_ref().map(|f| unit(f, &shown)).transpose()?.unwrap_or(first);
    let plain = match parse(&value, first, last) {
        Some(Amount::Months(m)) => format!("{m} months"),
        Some(Amount::Millis(ms)) => format!("{ms} milliseconds"),
        None => {
            return Err(Error::validation(format!("{shown} does not fit its unit"))
                .hint("e.g. INTERVAL '2-10' YEAR TO MONTH, INTERVAL '1 02:03:04.5' DAY TO SECOND"));
        }
    };
    *expr = Expr::Interval(Interval {
        value: Box::new(text(&plain)),
        leading_field: None,
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    });
    Ok(())
}

fn unit(field: &DateTimeField, shown: &str) -> Result<Unit> {
    use DateTimeField as F;
    Ok(match field {
        F::Year | F::Years => Unit::Year,
        F::Quarter => Unit::Quarter,
        F::Month | F::Months => Unit::Month,
        F::Week(None) | F::Weeks => Unit::Week,
        F::Day | F::Days => Unit::Day,
        F::Hour | F::Hours => Unit::Hour,
        F::Minute | F::Minutes => Unit::Minute,
        F::Second | F::Seconds => Unit::Second,
        F::Custom(i) if i.value.eq_ignore_ascii_case("quarters") => Unit::Quarter,
        other => {
            return Err(Error::validation(format!("{shown} {other}: unknown unit")).hint(
                "units are YEAR, QUARTER, MONTH, WEEK, DAY, HOUR, MINUTE, SECOND; a millisecond is '0.001' SECOND",
            ));
        }
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Amount {
    Months(i64),
    Millis(i64),
}

fn parse(value: &str, first: Unit, last: Unit) -> Option<Amount> {
    let value = value.trim();
    let (sign, body) = match value.strip_prefix('-') {
        Some(rest) => (-1, rest.trim_start()),
        None => (1, value.strip_prefix('+').unwrap_or(value)),
    };
    if last <= Unit::Month {
        let months = match (first, last) {
            (Unit::Year, Unit::Month) => {
                let (y, m) = body.split_once('-')?;
                whole(y)?.checked_mul(12)?.checked_add(whole(m).filter(|m| *m < 12)?)?
            }
            (Unit::Year, Unit::Year) => whole(body)?.checked_mul(12)?,
            (Unit::Quarter, Unit::Quarter) => whole(body)?.checked_mul(3)?,
            (Unit::Month, Unit::Month) => whole(body)?,
            _ => return None,
        };
        return Some(Amount::Months(sign * months));
    }
    if first <= Unit::Month || last < first {
        return None;
    }
    // "d hh:mm:ss.f", from the first to the last unit.
    let mut parts: Vec<&str> = Vec::new();
    let mut rest = body;
    if first == Unit::Day && last > Unit::Day {
        let (d, r) = rest.split_once(' ')?;
        parts.push(d);
        rest = r.trim_start();
    }
    parts.extend(rest.split(':'));
    let mut units = vec![first];
    while *units.last()? < last {
        units.push(match units.last()? {
            Unit::Day => Unit::Hour,
            Unit::Hour => Unit::Minute,
            Unit::Minute => Unit::Second,
            _ => return None,
        });
    }
    if units.len() != parts.len() {
        return None;
    }
    let mut millis = 0i64;
    for (i, (unit, part)) in units.iter().zip(&parts).enumerate() {
        let size = match unit {
            Unit::Week => 604_800_000,
            Unit::Day => 86_400_000,
            Unit::Hour => 3_600_000,
            Unit::Minute => 60_000,
            _ => 1000,
        };
        let limit = match (i, unit) {
            (0, _) => i64::MAX,
            (_, Unit::Hour) => 24,
            _ => 60,
        };
        let (n, fraction) = match part.split_once('.') {
            Some((n, f)) if *unit == Unit::Second => {
                (if n.is_empty() { 0 } else { whole(n)? }, millis_of(f)?)
            }
            Some(_) => return None,
            None => (whole(part)?, 0),
        };
        if n >= limit {
            return None;
        }
        millis = millis.checked_add(n.checked_mul(size)?.checked_add(fraction)?)?;
    }
    Some(Amount::Millis(sign * millis))
}

fn whole(s: &str) -> Option<i64> {
    if s.is_empty() || !s.bytes().all(|b| b.is_ascii_digit()) { None } else { s.parse().ok() }
}

fn millis_of(fraction: &str) -> Option<i64> {
    if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let three: String = fraction.chars().chain("000".chars()).take(3).collect();
    three.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_interval() {
        let ms = |v, f, l| parse(v, f, l);
        assert_eq!(ms("10", Unit::Minute, Unit::Minute), Some(Amount::Millis(600_000)));
        assert_eq!(ms("-1", Unit::Day, Unit::Day), Some(Amount::Millis(-86_400_000)));
        assert_eq!(ms("0.001", Unit::Second, Unit::Second), Some(Amount::Millis(1)));
        assert_eq!(ms("2-10", Unit::Year, Unit::Month), Some(Amount::Months(34)));
        assert_eq!(ms("10 00:12", Unit::Day, Unit::Minute), Some(Amount::Millis(864_720_000)));
        assert_eq!(ms("1 02:03:04.5", Unit::Day, Unit::Second), Some(Amount::Millis(93_784_500)));
        assert_eq!(ms("2", Unit::Week, Unit::Week), Some(Amount::Millis(1_209_600_000)));
        assert_eq!(ms("1:61", Unit::Hour, Unit::Minute), None);
        assert_eq!(ms("x", Unit::Day, Unit::Day), None);
        assert_eq!(ms("2-12", Unit::Year, Unit::Month), None);
    }
}

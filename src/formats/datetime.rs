//! Dates and times as text, in the patterns of Flink's formats.
//!
//! Parsing works on bytes and gives plain integers; nothing is allocated. Rules taken from Flink (java.time):
//! fractions have up to nine digits, years beyond 9999 carry a sign, a timestamp's `24:00:00` is the next midnight and
//! its day of month is cut to the last day of the month, while a plain date has to exist.

use arrow::datatypes::TimeUnit;

use crate::text::calendar::{days, month_length};
use crate::text::{self, TimeStyle, seconds_and_nanos, units_per_second};

/// Nanoseconds of a day.
const DAY_NANOS: i64 = 86_400_000_000_000;

/// How timestamps are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimestampFormat {
    /// `2020-01-01 00:00:00.123`, with a trailing `Z` for TIMESTAMP_LTZ.
    Sql,
    /// `2020-01-01T00:00:00.123`, with a trailing `Z` for TIMESTAMP_LTZ.
    Iso8601,
}

impl TimestampFormat {
    fn style(self) -> TimeStyle {
        match self {
            TimestampFormat::Sql => TimeStyle::RECORD,
            TimestampFormat::Iso8601 => TimeStyle::RECORD_ISO,
        }
    }
}

fn digits(b: &[u8]) -> Option<i64> {
    let mut n = 0i64;
    for c in b {
        let d = c.wrapping_sub(b'0');
        if d > 9 {
            return None;
        }
        n = n * 10 + i64::from(d);
    }
    Some(n)
}

/// Splits a date off the front: `yyyy-MM-dd`, or `+yyyyy-MM-dd` with up to six digits. Day 1 to 31.
fn date_parts(b: &[u8]) -> Option<(i64, u32, u32, &[u8])> {
    let (negative, signed, rest) = match b.first()? {
        b'+' => (false, true, b.get(1..)?),
        b'-' => (true, true, b.get(1..)?),
        _ => (false, false, b),
    };
    let n = rest.iter().position(|c| *c == b'-')?;
    if !(n == 4 || (signed && (5..=6).contains(&n))) || (signed && !negative && n == 4) {
        return None;
    }
    let year = digits(rest.get(..n)?)? * if negative { -1 } else { 1 };
    let b = rest.get(n..)?;
    if *b.get(3)? != b'-' {
        return None;
    }
    let month = digits(b.get(1..3)?)? as u32;
    let day = digits(b.get(4..6)?)? as u32;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some((year, month, day, b.get(6..)?))
}

/// Nanoseconds of the day of `HH:mm:ss[.fffffffff]` and what follows. `24:00:00` gives a full day.
fn time_parts(b: &[u8], seconds_optional: bool) -> Option<(i64, &[u8])> {
    let hour = digits(b.get(..2)?)?;
    if *b.get(2)? != b':' {
        return None;
    }
    let minute = digits(b.get(3..5)?)?;
    let (second, mut rest) = match b.get(5) {
        Some(b':') => (digits(b.get(6..8)?)?, b.get(8..)?),
        _ if seconds_optional => (0, b.get(5..)?),
        _ => return None,
    };
    let mut nanos = 0;
    if b.get(5) == Some(&b':') && rest.first() == Some(&b'.') {
        let fraction = rest.get(1..)?;
        let n = fraction.iter().position(|c| !c.is_ascii_digit()).unwrap_or(fraction.len());
        if n == 0 || n > 9 {
            return None;
        }
        nanos = digits(fraction.get(..n)?)?;
        for _ in n..9 {
            nanos *= 10;
        }
        rest = fraction.get(n..)?;
    }
    if minute > 59 || second > 59 || hour > 24 || (hour == 24 && (minute, second, nanos) != (0, 0, 0)) {
        return None;
    }
    Some((((hour * 60 + minute) * 60 + second) * 1_000_000_000 + nanos, rest))
}

/// `yyyy-MM-dd`; the day has to exist.
pub(crate) fn parse_date(text: &str) -> Option<i32> {
    match date_parts(text.as_bytes())? {
        (y, m, d, []) if d <= month_length(y, m) => i32::try_from(days(y, m, d)).ok(),
        _ => None,
    }
}

/// `java.sql.Date.valueOf`, which Flink's csv uses: `yyyy-[m]m-[d]d`, days up to 31 roll over into the next month.
pub(crate) fn parse_date_lenient(text: &str) -> Option<i32> {
    let mut parts = text.split('-');
    let (y, m, d) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || y.len() != 4 || !(1..=2).contains(&m.len()) || !(1..=2).contains(&d.len()) {
        return None;
    }
    let (y, m, d) = (digits(y.as_bytes())?, digits(m.as_bytes())? as u32, digits(d.as_bytes())? as u32);
    if !(1..=12).contains(&m) || !(1..=31).contains(&d) {
        return None;
    }
    i32::try_from(days(y, m, d)).ok()
}

/// Milliseconds of the day. With `midnight_24` the text `24:00:00` means 0, without it is refused; with
/// `seconds_optional` `HH:mm` is enough.
pub(crate) fn parse_time(text: &str, midnight_24: bool, seconds_optional: bool) -> Option<i32> {
    match time_parts(text.as_bytes(), seconds_optional)? {
        (DAY_NANOS, []) if !midnight_24 => None,
        (nanos, []) => i32::try_from((nanos % DAY_NANOS) / 1_000_000).ok(),
        _ => None,
    }
}

/// A timestamp in `unit`; `zoned` expects the trailing `Z` of TIMESTAMP_LTZ. Digits finer than `unit` are cut.
pub(crate) fn parse_timestamp(
    text: &str,
    format: TimestampFormat,
    zoned: bool,
    unit: TimeUnit,
) -> Option<i64> {
    let (y, m, d, rest) = date_parts(text.as_bytes())?;
    let separator = *rest.first()?;
    if separator != format.style().separator && !(format == TimestampFormat::Iso8601 && separator == b't') {
        return None;
    }
    let seconds_optional = format == TimestampFormat::Iso8601 && !zoned;
    let (nanos, rest) = time_parts(rest.get(1..)?, seconds_optional)?;
    if !(if zoned { matches!(rest, b"Z") } else { rest.is_empty() }) {
        return None;
    }
    let day = days(y, m, d.min(month_length(y, m)));
    to_unit(day, nanos, unit)
}

fn to_unit(days: i64, nanos: i64, unit: TimeUnit) -> Option<i64> {
    let per_second: i64 = units_per_second(unit);
    days.checked_mul(86_400 * per_second)?.checked_add(nanos / (1_000_000_000 / per_second))
}

/// Appends a timestamp given in `unit`, with the trailing `Z` of TIMESTAMP_LTZ if `zoned`.
pub(crate) fn write_timestamp(
    out: &mut Vec<u8>,
    value: i64,
    unit: TimeUnit,
    format: TimestampFormat,
    zoned: bool,
) {
    let (seconds, nanos) = seconds_and_nanos(value, unit);
    text::write_timestamp(seconds, nanos, format.style(), out);
    if zoned {
        out.push(b'Z');
    }
}

/// Writes timestamps as [`write_timestamp`] does, and keeps the text of the last second for those that share it.
#[derive(Debug)]
pub(crate) struct TimestampWriter {
    format: TimestampFormat,
    second: Option<i64>,
    /// Of `second`, without a fraction.
    text: Vec<u8>,
}

impl TimestampWriter {
    pub(crate) fn new(format: TimestampFormat) -> Self {
        TimestampWriter { format, second: None, text: Vec::new() }
    }

    #[inline]
    pub(crate) fn write(&mut self, out: &mut Vec<u8>, value: i64, unit: TimeUnit, zoned: bool) {
        let (second, nanos) = seconds_and_nanos(value, unit);
        if self.second != Some(second) {
            self.second = Some(second);
            self.text.clear();
            text::write_timestamp(second, 0, self.format.style(), &mut self.text);
        }
        out.extend_from_slice(&self.text);
        text::write_fraction_of_second(nanos, self.format.style(), out);
        if zoned {
            out.push(b'Z');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_second_is_kept() {
        for format in [TimestampFormat::Sql, TimestampFormat::Iso8601] {
            let mut kept = TimestampWriter::new(format);
            for value in
                [0, 1, 999, 1000, 1010, -1, -1000, -1001, 1_577_836_800_500, 1_577_836_800_000, i64::MAX]
            {
                for (unit, zoned) in
                    [(TimeUnit::Millisecond, false), (TimeUnit::Second, true), (TimeUnit::Nanosecond, true)]
                {
                    if unit == TimeUnit::Second && value == i64::MAX {
                        continue;
                    }
                    let (mut a, mut b) = (Vec::new(), Vec::new());
                    kept.write(&mut a, value, unit, zoned);
                    write_timestamp(&mut b, value, unit, format, zoned);
                    assert_eq!(String::from_utf8(a), String::from_utf8(b), "{value} {unit:?}");
                }
            }
        }
    }

    #[test]
    fn timestamps() {
        use TimestampFormat::{Iso8601, Sql};
        let ms = |s: &str| parse_timestamp(s, Sql, false, TimeUnit::Millisecond);
        assert_eq!(ms("1970-01-02 00:00:00"), Some(86_400_000));
        assert_eq!(ms("1970-01-01 00:00:00.1239"), Some(123));
        assert_eq!(ms("1969-12-31 23:59:59.999"), Some(-1));
        assert_eq!(ms("2020-02-30 10:00:00"), ms("2020-02-29 10:00:00"));
        assert_eq!(ms("2020-01-01 24:00:00"), ms("2020-01-02 00:00:00"));
        for bad in [
            "",
            "2020-01-01",
            "2020-01-01T00:00:00",
            "2020-01-01 00:00",
            "2020-01-01 00:00:00Z",
            "2020-1-01 00:00:00",
            "2020-01-01 00:00:00.",
            "2020-01-01 00:00:00.1234567890",
            " 2020-01-01 00:00:00",
            "10000-01-01 00:00:00",
            "2020-13-01 00:00:00",
            "2020-01-01 24:00:01",
            "2020-01-01 0é:00:00",
        ] {
            assert_eq!(ms(bad), None, "{bad}");
        }
        assert_eq!(
            parse_timestamp("2020-01-01T00:00:00.5Z", Iso8601, true, TimeUnit::Nanosecond),
            Some(1_577_836_800_500_000_000)
        );
        assert_eq!(parse_timestamp("9999-01-01 00:00:00", Sql, false, TimeUnit::Nanosecond), None);
        let mut out = Vec::new();
        write_timestamp(&mut out, -1, TimeUnit::Microsecond, Sql, true);
        assert_eq!(out, b"1969-12-31 23:59:59.999999Z");
    }

    #[test]
    fn dates_and_times() {
        assert_eq!(parse_date("2020-02-29"), Some(18_321));
        assert_eq!(parse_date("2021-02-29"), None);
        assert_eq!(parse_date("+10000-01-01"), Some(2_932_897));
        assert_eq!(parse_date_lenient("2020-2-30"), parse_date("2020-03-01"));
        assert_eq!(parse_date_lenient("2020-0-1"), None);
        assert_eq!(parse_time("10:11:12.345", true, false), Some(36_672_345));
        assert_eq!(parse_time("24:00:00", true, false), Some(0));
        assert_eq!(parse_time("24:00:00", false, false), None);
        assert_eq!(parse_time("10:11", false, true), Some(36_660_000));
        assert_eq!(parse_time("10:11", false, false), None);
    }
}

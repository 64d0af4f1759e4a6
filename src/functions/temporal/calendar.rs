//! Reads the default text forms of dates and times; beside that the arithmetic of the calendar.

pub(crate) use crate::text::calendar::{add_months, civil, days, iso_week, iso_weekday, month_length};

fn number(s: &str, longest: usize) -> Option<i64> {
    if s.is_empty() || s.len() > longest || !s.bytes().all(|b| b.is_ascii_digit()) {
        None
    } else {
        s.parse().ok()
    }
}

/// `y[-M[-d]]`; what follows a blank (or a `T`) is ignored.
pub(crate) fn parse_date(s: &str) -> Option<i64> {
    let s = s.trim();
    let date = s.split([' ', 'T']).next()?;
    let mut parts = date.split('-');
    let year = number(parts.next()?, 4)?;
    let month = parts.next().map_or(Some(1), |p| number(p, 2))?;
    let day = parts.next().map_or(Some(1), |p| number(p, 2))?;
    if parts.next().is_some() {
        return None;
    }
    checked_day(year, month, day)
}

fn checked_day(year: i64, month: i64, day: i64) -> Option<i64> {
    let m = u32::try_from(month).ok().filter(|m| (1..=12).contains(m))?;
    let d = u32::try_from(day).ok().filter(|d| (1..=month_length(year, m)).contains(d))?;
    Some(days(year, m, d))
}

fn clamped_day(year: i64, month: i64, day: i64) -> Option<i64> {
    let m = u32::try_from(month).ok().filter(|m| (1..=12).contains(m))?;
    checked_day(year, month, day.min(i64::from(month_length(year, m))))
}

/// `H[:m[:s[.f]]]` as nanoseconds of the day.
pub(crate) fn parse_time(s: &str) -> Option<i64> {
    let (clock, fraction) = s.split_once('.').unwrap_or((s, ""));
    let mut parts = clock.split(':');
    let h = number(parts.next()?, 2).filter(|h| *h < 24)?;
    let m = parts.next().map_or(Some(0), |p| number(p, 2)).filter(|m| *m < 60)?;
    let sec = parts.next().map_or(Some(0), |p| number(p, 2)).filter(|s| *s < 60)?;
    if parts.next().is_some() || (!fraction.is_empty() && clock.matches(':').count() < 2) {
        return None;
    }
    Some((h * 3600 + m * 60 + sec) * 1_000_000_000 + nanos(fraction)?)
}

fn nanos(fraction: &str) -> Option<i64> {
    if fraction.is_empty() {
        return Some(0);
    }
    let n = number(fraction, 9)?;
    Some(n * 10i64.pow(9 - fraction.len() as u32))
}

/// `y-M-d[ H:m:s[.f]]` as seconds since the epoch and nanoseconds.
pub(crate) fn parse_timestamp(s: &str) -> Option<(i64, i64)> {
    let s = s.trim();
    let (date, clock) = match s.split_once(' ') {
        Some((d, c)) => (d, Some(c.trim_start())),
        None => (s, None),
    };
    let mut parts = date.split('-');
    let (y, m, d) = (number(parts.next()?, 4)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    if parts.next().is_some() {
        return None;
    }
    // As java.time resolves by default: a day up to 31 that the month lacks is its last.
    let day = (1..=31).contains(&d).then(|| clamped_day(y, m, d)).flatten()?;
    let nanos = match clock {
        Some(c) if c.matches(':').count() == 2 => parse_time(c)?,
        Some(_) => return None,
        None => 0,
    };
    Some((day * 86_400 + nanos / 1_000_000_000, nanos % 1_000_000_000))
}

/// `y-M-d[ H:m:s[.f]]` as `java.sql.Timestamp.valueOf` and `java.sql.Date.valueOf` read it: months and days are in range,
/// everything else rolls over.
pub(crate) fn parse_rolling(s: &str) -> Option<(i64, i64)> {
    let s = s.trim();
    let (date, clock) = s.split_once(' ').map_or((s, None), |(d, c)| (d, Some(c.trim())));
    let mut parts = date.split('-');
    let year = number(parts.next()?, 4).filter(|_| date.find('-') == Some(4))?;
    let (month, day) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let days = days(year, month as u32, 1) + day - 1;
    let Some(clock) = clock else { return Some((days * 86_400, 0)) };
    let (clock, fraction) = clock.split_once('.').map_or((clock, None), |(c, f)| (c, Some(f)));
    let parts: Vec<i64> = clock.split(':').map(|p| number(p, 9)).collect::<Option<_>>()?;
    let [hour, minute, second] = parts.as_slice() else { return None };
    let nanos = match fraction {
        Some("") => return None,
        Some(f) => nanos(f)?,
        None => 0,
    };
    Some((days * 86_400 + hour * 3600 + minute * 60 + second, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms() {
        assert_eq!(parse_date("2020-02-30"), None);
        assert_eq!(parse_date("2017-09-15 00:00:00"), Some(days(2017, 9, 15)));
        assert_eq!(parse_timestamp("2020-01-01T01:02:03"), None);
        assert_eq!(parse_timestamp("2020-01-01 10"), None);
        assert_eq!(parse_time("1:2"), Some(3_720_000_000_000));
        assert_eq!(parse_time("24:00"), None);
    }
}

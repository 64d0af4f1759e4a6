//! Calendar arithmetic and the default text forms of dates and times.

use std::fmt::Write;

/// Year, month and day of a day since the epoch (proleptic Gregorian).
pub(crate) fn civil(days: i64) -> (i64, u32, u32) {
    // Howard Hinnant's algorithm over eras of 400 years.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = (doy - (153 * mp + 2) / 5 + 1) as u32;
    let month = if mp < 10 { mp + 3 } else { mp - 9 } as u32;
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

/// Day since the epoch.
pub(crate) fn days(year: i64, month: u32, day: u32) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let m = i64::from(month);
    let doy = (153 * (if m > 2 { m - 3 } else { m + 9 }) + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

/// Length of a month.
pub(crate) fn month_length(year: i64, month: u32) -> u32 {
    match month {
        2 if (year % 4 == 0 && year % 100 != 0) || year % 400 == 0 => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// A day moved by months, clamped to the end of the month.
pub(crate) fn add_months(day: i64, months: i64) -> i64 {
    let (y, m, d) = civil(day);
    let total = y * 12 + i64::from(m) - 1 + months;
    let (y, m) = (total.div_euclid(12), total.rem_euclid(12) as u32 + 1);
    days(y, m, d.min(month_length(y, m)))
}

/// Monday 1 to Sunday 7.
pub(crate) fn iso_weekday(day: i64) -> i64 {
    (day + 3).rem_euclid(7) + 1
}

/// ISO year and week.
pub(crate) fn iso_week(day: i64) -> (i64, i64) {
    // The week belongs to the year of its Thursday.
    let thursday = day - iso_weekday(day) + 4;
    let (year, _, _) = civil(thursday);
    (year, (thursday - days(year, 1, 1)) / 7 + 1)
}

/// `yyyy-MM-dd`.
pub(crate) fn write_date(out: &mut String, day: i64) {
    let (y, m, d) = civil(day);
    let _ = write!(out, "{y:04}-{m:02}-{d:02}");
}

/// `HH:mm:ss[.fff]`, trailing zeros of the fraction left out.
pub(crate) fn write_time(out: &mut String, millis: i64) {
    let _ = write!(out, "{:02}:{:02}:{:02}", millis / 3_600_000, millis / 60_000 % 60, millis / 1000 % 60);
    let fraction = millis % 1000;
    if fraction != 0 {
        let text = format!(".{fraction:03}");
        out.push_str(text.trim_end_matches('0'));
    }
}

/// `yyyy-MM-dd HH:mm:ss` and exactly `digits` fraction digits; `rest` counts units of the last digit.
pub(crate) fn write_timestamp(out: &mut String, seconds: i64, rest: i64, digits: usize) {
    write_date(out, seconds.div_euclid(86_400));
    let s = seconds.rem_euclid(86_400);
    let _ = write!(out, " {:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
    if digits > 0 {
        let _ = write!(out, ".{rest:0digits$}");
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_civil_dates_agree() {
        for day in (-800_000..800_000).step_by(17) {
            let (y, m, d) = civil(day);
            assert_eq!(days(y, m, d), day);
        }
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(iso_week(days(2021, 1, 3)), (2020, 53));
        assert_eq!(iso_weekday(0), 4);
        assert_eq!(add_months(days(2021, 10, 31), 4), days(2022, 2, 28));
    }

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

//! Dates and times as text: one writer, and a [`TimeStyle`] for what its readers differ in.

use arrow::datatypes::TimeUnit;

use super::calendar::civil;
use super::sink::Sink;

pub(super) const NANOS_PER_SECOND: i64 = 1_000_000_000;
pub(super) const SECONDS_PER_DAY: i64 = 86_400;

/// How dates and times look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeStyle {
    /// Years beyond 9999 carry a plus, and a minus stands before four digits: `+10000`, `-0001`. Otherwise they have
    /// at least four characters: `10000`, `-001`.
    signed_years: bool,
    /// Between date and time.
    pub(crate) separator: u8,
    /// Seconds are left out when they and the fraction are zero.
    short: bool,
    fraction: Fraction,
    /// Digits that are never more.
    most: usize,
}

/// How many digits of a fraction are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fraction {
    /// As many digits as it needs.
    Needed,
    /// 3, 6 or 9 digits, none if it is zero.
    Thousands,
    /// So many digits.
    Digits(usize),
    /// As many as it needs, but one at least and no more than these.
    Most(usize),
}

impl TimeStyle {
    /// Tables and JSON of the command line: `2020-01-02 10:00:00.120`.
    pub(crate) const TABLE: TimeStyle = TimeStyle {
        signed_years: false,
        separator: b' ',
        short: false,
        fraction: Fraction::Thousands,
        most: 9,
    };
    /// `toString` of Java's local times: `2020-01-02T10:00`, `10:00:00.120`.
    pub(crate) const JAVA: TimeStyle = TimeStyle { separator: b'T', short: true, ..TimeStyle::TABLE };
    /// `toString` of Java's instants, but for the `Z`: `2020-01-02T10:00:00`.
    pub(crate) const JAVA_INSTANT: TimeStyle = TimeStyle { short: false, ..TimeStyle::JAVA };
    /// Casts of TIME to STRING: `10:00:00.12`.
    pub(crate) const CAST: TimeStyle = TimeStyle { fraction: Fraction::Needed, ..TimeStyle::TABLE };
    /// Records of Flink's formats: `+10000-01-01 10:00:00.12`.
    pub(crate) const RECORD: TimeStyle = TimeStyle { signed_years: true, ..TimeStyle::CAST };
    /// The same with a `T`.
    pub(crate) const RECORD_ISO: TimeStyle = TimeStyle { separator: b'T', ..TimeStyle::RECORD };

    /// The style with exactly so many digits of the fraction.
    pub(crate) const fn with_digits(self, digits: usize) -> TimeStyle {
        TimeStyle { fraction: Fraction::Digits(digits), ..self }
    }

    /// As Flink writes a TIME of so many digits: `10:00:00.0` of 1 to 3, `10:00:00` of none.
    pub(crate) const fn of_time(self, digits: usize) -> TimeStyle {
        TimeStyle { fraction: Fraction::Most(digits), ..self }
    }

    /// The style with no more digits of a fraction than a type has.
    pub(crate) const fn at_most(self, digits: usize) -> TimeStyle {
        TimeStyle { most: digits, ..self }
    }
}

/// How many of `unit` make a second.
pub(crate) const fn units_per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => NANOS_PER_SECOND,
    }
}

/// Seconds since the epoch and nanoseconds of a timestamp in `unit`.
#[inline]
pub(crate) fn seconds_and_nanos(value: i64, unit: TimeUnit) -> (i64, i64) {
    let per_second = units_per_second(unit);
    (value.div_euclid(per_second), value.rem_euclid(per_second) * (NANOS_PER_SECOND / per_second))
}

/// The day since the epoch of a second since the epoch.
pub(crate) const fn day_of(seconds: i64) -> i64 {
    seconds.div_euclid(SECONDS_PER_DAY)
}

/// Appends the date of a day since the epoch.
#[inline]
pub(crate) fn write_date<S: Sink>(day: i64, style: TimeStyle, out: &mut S) {
    let (year, month, day) = civil(day);
    let ([m1, m2], [d1, d2]) = (two(month), two(day));
    match u32::try_from(year) {
        Ok(year @ 0..=9999) => {
            let ([y1, y2], [y3, y4]) = (two(year / 100), two(year % 100));
            out.push_ascii(&[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2]);
        }
        _ => {
            write_long_year(year, style.signed_years, out);
            out.push_ascii(&[b'-', m1, m2, b'-', d1, d2]);
        }
    }
}

#[cold]
fn write_long_year<S: Sink>(year: i64, signed: bool, out: &mut S) {
    if year < 0 {
        out.push_byte(b'-');
    } else if signed {
        out.push_byte(b'+');
    }
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(year.unsigned_abs());
    // Unsigned, the minus is one of the four characters.
    let width: usize = if year < 0 && !signed { 3 } else { 4 };
    out.push_zeros(width.saturating_sub(digits.len()));
    out.push_str(digits);
}

/// Appends the time of a nanosecond of the day.
#[inline]
pub(crate) fn write_time<S: Sink>(nanos: i64, style: TimeStyle, out: &mut S) {
    let nanos = nanos.rem_euclid(SECONDS_PER_DAY * NANOS_PER_SECOND);
    let (seconds, nanos) = ((nanos / NANOS_PER_SECOND) as u32, (nanos % NANOS_PER_SECOND) as u32);
    let [h1, h2] = two(seconds / 3600);
    let [m1, m2] = two(seconds / 60 % 60);
    if style.short && seconds % 60 == 0 && nanos == 0 {
        return out.push_ascii(&[h1, h2, b':', m1, m2]);
    }
    let [s1, s2] = two(seconds % 60);
    out.push_ascii(&[h1, h2, b':', m1, m2, b':', s1, s2]);
    write_fraction(nanos, style.fraction, style.most, out);
}

/// Appends the fraction of a second, with its point.
pub(super) fn write_fraction<S: Sink>(nanos: u32, fraction: Fraction, most: usize, out: &mut S) {
    let mut text = *b".000000000";
    let mut rest = nanos;
    for c in text.iter_mut().skip(1).rev() {
        *c += (rest % 10) as u8;
        rest /= 10;
    }
    // The point stands in front, so that the place of a digit is how many digits there are up to it.
    let needed = text.iter().rposition(|c| *c != b'0').unwrap_or(0);
    let digits = match fraction {
        Fraction::Needed => needed,
        Fraction::Thousands => needed.next_multiple_of(3),
        Fraction::Digits(digits) => digits,
        Fraction::Most(digits) => needed.max(1).min(digits),
    };
    let digits = digits.min(most);
    if digits > 0 {
        out.push_ascii(text.get(..=digits).unwrap_or(&text));
    }
}

/// Appends the nanoseconds of a second, for which [`write_timestamp`] has written the rest with none.
///
/// Right for styles that write as many digits as are needed, and no others.
#[inline]
pub(crate) fn write_fraction_of_second<S: Sink>(nanos: i64, style: TimeStyle, out: &mut S) {
    if nanos > 0 {
        write_fraction(nanos as u32, style.fraction, style.most, out);
    }
}

/// Appends a wall clock: seconds since the epoch, and nanoseconds.
#[inline]
pub(crate) fn write_timestamp<S: Sink>(seconds: i64, nanos: i64, style: TimeStyle, out: &mut S) {
    write_date(day_of(seconds), style, out);
    out.push_byte(style.separator);
    write_time(seconds.rem_euclid(SECONDS_PER_DAY) * NANOS_PER_SECOND + nanos, style, out);
}

/// Two digits.
#[inline]
pub(super) fn two(value: u32) -> [u8; 2] {
    [b'0' + (value / 10) as u8, b'0' + (value % 10) as u8]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::calendar::days;

    fn both(write: impl Fn(&mut Vec<u8>), write_string: impl Fn(&mut String)) -> String {
        let (mut bytes, mut string) = (Vec::new(), String::new());
        write(&mut bytes);
        write_string(&mut string);
        assert_eq!(string.as_bytes(), bytes);
        string
    }

    #[test]
    fn years() {
        let date = |year, style| {
            let day = days(year, 2, 3);
            both(|out| write_date(day, style, out), |out| write_date(day, style, out))
        };
        for (year, plain, signed) in [
            (2020, "2020-02-03", "2020-02-03"),
            (7, "0007-02-03", "0007-02-03"),
            (0, "0000-02-03", "0000-02-03"),
            (9999, "9999-02-03", "9999-02-03"),
            (10_000, "10000-02-03", "+10000-02-03"),
            (-1, "-001-02-03", "-0001-02-03"),
            (-1234, "-1234-02-03", "-1234-02-03"),
            (-12_345, "-12345-02-03", "-12345-02-03"),
        ] {
            assert_eq!(date(year, TimeStyle::TABLE), plain);
            assert_eq!(date(year, TimeStyle::RECORD), signed);
        }
    }

    #[test]
    fn fractions() {
        let all = |seconds, nanos| {
            use TimeStyle as S;
            [
                S::TABLE,
                S::JAVA,
                S::JAVA_INSTANT,
                S::RECORD_ISO,
                S::CAST.with_digits(0),
                S::CAST.with_digits(6),
            ]
            .map(|style| {
                let text = both(
                    |out| write_timestamp(seconds, nanos, style, out),
                    |out| write_timestamp(seconds, nanos, style, out),
                );
                text.strip_prefix("1970-01-01").unwrap().to_owned()
            })
        };
        assert_eq!(
            all(36_000, 0),
            [" 10:00:00", "T10:00", "T10:00:00", "T10:00:00", " 10:00:00", " 10:00:00.000000"]
        );
        assert_eq!(
            all(59, 120_000_000),
            [
                " 00:00:59.120",
                "T00:00:59.120",
                "T00:00:59.120",
                "T00:00:59.12",
                " 00:00:59",
                " 00:00:59.120000"
            ]
        );
        let micros = [" 23:59:00.000010", "T23:59:00.000010", "T23:59:00.000010", "T23:59:00.00001"];
        assert_eq!(all(86_340, 10_000)[..4], micros);
        let nanos =
            [" 00:00:00.000000001", "T00:00:00.000000001", "T00:00:00.000000001", "T00:00:00.000000001"];
        assert_eq!(all(0, 1)[..4], nanos);
        assert_eq!(seconds_and_nanos(-1, TimeUnit::Millisecond), (-1, 999_000_000));
        assert_eq!(seconds_and_nanos(i64::MIN, TimeUnit::Second), (i64::MIN, 0));
    }
}

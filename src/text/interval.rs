//! Intervals as text.

use super::integer::write_int;
use super::sink::Sink;
use super::time::{
    Fraction, NANOS_PER_SECOND, SECONDS_PER_DAY, TimeStyle, day_of, two, write_fraction, write_time,
};

/// Appends an interval of months: `+1-02`.
pub(crate) fn write_months<S: Sink>(months: i32, out: &mut S) {
    out.push_byte(if months < 0 { b'-' } else { b'+' });
    write_int(months.unsigned_abs() / 12, out);
    out.push_byte(b'-');
    out.push_ascii(&two(months.unsigned_abs() % 12));
}

/// Appends an interval of months as Java's `Period.toString`: `P14M`.
pub(crate) fn write_period<S: Sink>(months: i32, out: &mut S) {
    out.push_byte(b'P');
    write_int(months, out);
    out.push_byte(b'M');
}

/// Appends an interval of days and times: `+1 02:03:04.500`.
pub(crate) fn write_day_time<S: Sink>(days: i32, nanos: i64, out: &mut S) {
    let (negative, seconds, nanos) = length(days, nanos);
    out.push_byte(if negative { b'-' } else { b'+' });
    write_int(day_of(seconds), out);
    out.push_byte(b' ');
    let clock = seconds % SECONDS_PER_DAY * NANOS_PER_SECOND + nanos;
    write_time(clock, TimeStyle::TABLE.with_digits(3), out);
}

/// Appends an interval of days and times as Java's `Duration.toString`: `PT26H3M4.5S`.
pub(crate) fn write_duration<S: Sink>(days: i32, nanos: i64, out: &mut S) {
    let (negative, seconds, nanos) = length(days, nanos);
    out.push_str("PT");
    let sign = |out: &mut S| {
        if negative {
            out.push_byte(b'-');
        }
    };
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if h > 0 {
        sign(out);
        write_int(h, out);
        out.push_byte(b'H');
    }
    if m > 0 {
        sign(out);
        write_int(m, out);
        out.push_byte(b'M');
    }
    if s > 0 || nanos > 0 || seconds == 0 {
        sign(out);
        write_int(s, out);
        write_fraction(nanos as u32, Fraction::Needed, 9, out);
        out.push_byte(b'S');
    }
}

/// Sign, seconds and nanoseconds of an interval.
fn length(days: i32, nanos: i64) -> (bool, i64, i64) {
    let second = i128::from(NANOS_PER_SECOND);
    let total = i128::from(days) * i128::from(SECONDS_PER_DAY) * second + i128::from(nanos);
    let magnitude = total.abs();
    (total < 0, (magnitude / second) as i64, (magnitude % second) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals() {
        let text = |write: &dyn Fn(&mut String)| {
            let mut out = String::new();
            write(&mut out);
            out
        };
        let months = |m| [text(&|out| write_months(m, out)), text(&|out| write_period(m, out))];
        assert_eq!(months(14), ["+1-02", "P14M"]);
        assert_eq!(months(-1), ["-0-01", "P-1M"]);
        assert_eq!(months(i32::MIN), ["-178956970-08", "P-2147483648M"]);
        let times = |d, n| [text(&|out| write_day_time(d, n, out)), text(&|out| write_duration(d, n, out))];
        assert_eq!(times(1, 7_384_500_000_000), ["+1 02:03:04.500", "PT26H3M4.5S"]);
        assert_eq!(times(0, -500_000_000), ["-0 00:00:00.500", "PT-0.5S"]);
        assert_eq!(times(0, 0), ["+0 00:00:00.000", "PT0S"]);
        assert_eq!(times(-1, -60_000_000_000), ["-1 00:01:00.000", "PT-24H-1M"]);
        assert_eq!(times(i32::MAX, 0), ["+2147483647 00:00:00.000", "PT51539607528H"]);
    }
}

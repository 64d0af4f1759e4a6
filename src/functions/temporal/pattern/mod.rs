//! Date patterns of Java, in the two forms that Flink's functions read them:
//!
//! | style | Java's class | read by |
//! |---|---|---|
//! | strict | `java.time.format.DateTimeFormatter` | DATE_FORMAT of times, TO_TIMESTAMP, TO_TIMESTAMP_LTZ |
//! | lenient | `java.text.SimpleDateFormat` | DATE_FORMAT of strings, FROM_UNIXTIME, UNIX_TIMESTAMP, TO_DATE |
//!
//! The same letter may mean another thing in the two: `u` is the year or the day of the week, `S` a fraction or
//! milliseconds. Names are English. Weeks begin on Sunday and the first one holds January 1st, which is what Java takes
//! where the locale of the machine names no other country. Letters are those of Java 17, which Flink runs on.

mod lenient;
mod lenient_read;
mod names;
mod resolve;
mod strict;
mod strict_format;
mod strict_read;
mod zones;

use chrono_tz::Tz;

use super::calendar::{civil, days};

/// Which of Java's two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// `java.time.format.DateTimeFormatter`: the whole text, in exactly that form.
    Strict,
    /// `java.text.SimpleDateFormat`: the beginning of the text, numbers out of range roll over.
    Lenient,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Parts {
    Strict(Vec<strict::Part>),
    Lenient(Vec<lenient::Token>),
}

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(Parts);

/// What a text said, as a wall clock and, if the pattern has one, an offset from UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// Seconds of the wall clock since 1970-01-01.
    pub(crate) seconds: i64,
    /// Nanoseconds of the second.
    pub(crate) nanos: i64,
    /// Offset in seconds.
    pub(crate) offset: Option<i64>,
}

/// A wall clock, taken apart.
#[derive(Debug, Clone, Copy)]
struct Moment {
    day: i64,
    year: i64,
    month: u32,
    day_of_month: u32,
    /// Second of the day.
    second: i64,
    nanos: i64,
}

impl Moment {
    fn new(seconds: i64, nanos: i64) -> Self {
        let day = seconds.div_euclid(86_400);
        let (year, month, day_of_month) = civil(day);
        Moment { day, year, month, day_of_month, second: seconds.rem_euclid(86_400), nanos }
    }

    fn hour(&self) -> i64 {
        self.second / 3600
    }

    fn day_of_year(&self) -> i64 {
        self.day - days(self.year, 1, 1) + 1
    }

    /// Week of the month; the first one holds day 1.
    fn week_of_month(&self) -> i64 {
        let first = self.day - i64::from(self.day_of_month) + 1;
        (i64::from(self.day_of_month) + weekday(first) - 2) / 7 + 1
    }
}

/// Sunday 1 to Saturday 7.
fn weekday(day: i64) -> i64 {
    (day + 4).rem_euclid(7) + 1
}

/// Year and number of the week: it belongs to the year of its Saturday.
fn week(day: i64) -> (i64, i64) {
    let sunday = day - weekday(day) + 1;
    let (year, _, _) = civil(sunday + 6);
    let new_year = days(year, 1, 1);
    (year, (sunday - (new_year - weekday(new_year) + 1)) / 7 + 1)
}

/// The day of a year of weeks, its week and the day of that, Sunday 1.
fn day_of_week_date(year: i64, week: i64, weekday_number: i64) -> i64 {
    let new_year = days(year, 1, 1);
    new_year - weekday(new_year) + (week - 1) * 7 + weekday_number
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// What is wrong with it, in Java's words.
    pub(crate) fn compile(text: &str, style: Style) -> Result<Self, String> {
        Ok(Pattern(match style {
            Style::Strict => Parts::Strict(strict::compile(text)?),
            Style::Lenient => Parts::Lenient(lenient::compile(text)?),
        }))
    }

    /// Compiles a pattern; `None` if it is not valid.
    pub(crate) fn new(text: &str, style: Style) -> Option<Self> {
        Self::compile(text, style).ok()
    }

    /// Longest run of `S`.
    pub(crate) fn fraction_digits(&self) -> usize {
        match &self.0 {
            Parts::Strict(parts) => strict::fraction_digits(parts),
            Parts::Lenient(tokens) => lenient::fraction_digits(tokens),
        }
    }

    /// Seconds between which all wall clocks are printed in the same way, from a multiple of them on; `None` if fractions of
    /// a second are shown.
    pub(crate) fn grain(&self) -> Option<i64> {
        match &self.0 {
            Parts::Strict(parts) => strict::grain(parts),
            Parts::Lenient(tokens) => lenient::grain(tokens),
        }
    }

    /// Prints a wall clock of `zone`.
    ///
    /// # Errors
    /// A field that a wall clock has not, a number that does not fit.
    pub(crate) fn format(&self, out: &mut String, seconds: i64, nanos: i64, zone: Tz) -> Result<(), String> {
        let moment = Moment::new(seconds, nanos);
        match &self.0 {
            Parts::Strict(parts) => strict_format::format(parts, out, &moment),
            Parts::Lenient(tokens) => lenient::format(tokens, out, &moment, zone),
        }
    }

    /// Why no time can be printed by the pattern, if so.
    pub(crate) fn unprintable(&self) -> Option<String> {
        self.format(&mut String::new(), 0, 0, Tz::UTC).err()
    }

    /// Reads a text; `None` if it does not fit.
    pub(crate) fn parse(&self, text: &str) -> Option<Parsed> {
        self.parse_since(text, 2000)
    }

    /// As [`Pattern::parse`]; two digits of a lenient pattern are the year of that end from `first_year` on.
    pub(crate) fn parse_since(&self, text: &str, first_year: i64) -> Option<Parsed> {
        match &self.0 {
            Parts::Strict(parts) => strict_read::read(parts, text)?.resolve(),
            Parts::Lenient(tokens) => lenient_read::read(tokens, text, first_year)?.resolve(),
        }
    }
}

#[cfg(test)]
mod tests;

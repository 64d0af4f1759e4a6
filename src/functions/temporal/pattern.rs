//! Date patterns of Java: `DateTimeFormatter` (strict, whole input) and `SimpleDateFormat` (lenient, prefix).
//!
//! Letters: `y u Y M L d D H h K k m s S n a E w z Z X x`, quoted text, and every other character for itself.

use std::fmt::Write;

use chrono::{Offset, TimeZone};
use chrono_tz::Tz;

use super::calendar::{civil, days, iso_week, iso_weekday, month_length};

/// Which of Java's two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// `java.time.format.DateTimeFormatter`.
    Strict,
    /// `java.text.SimpleDateFormat`.
    Lenient,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Field(char, usize),
    Text(String),
}

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    tokens: Vec<Token>,
    style: Style,
}

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

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

impl Pattern {
    /// Compiles a pattern; `None` if it is not valid.
    pub(crate) fn new(text: &str, style: Style) -> Option<Self> {
        let mut tokens: Vec<Token> = Vec::new();
        let mut literal = String::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            if c == '\'' {
                if chars.peek() == Some(&'\'') {
                    chars.next();
                    literal.push('\'');
                    continue;
                }
                loop {
                    match chars.next()? {
                        '\'' if chars.peek() == Some(&'\'') => {
                            chars.next();
                            literal.push('\'');
                        }
                        '\'' => break,
                        other => literal.push(other),
                    }
                }
            } else if c.is_ascii_alphabetic() {
                if !"yuYMLdDHhKkmsSnaEwzZXxVO".contains(c) {
                    return None;
                }
                if !literal.is_empty() {
                    tokens.push(Token::Text(std::mem::take(&mut literal)));
                }
                let mut n = 1;
                while chars.peek() == Some(&c) {
                    chars.next();
                    n += 1;
                }
                tokens.push(Token::Field(c, n));
            } else if matches!(c, '[' | ']' | '{' | '}' | '#') && style == Style::Strict {
                return None;
            } else {
                literal.push(c);
            }
        }
        if !literal.is_empty() {
            tokens.push(Token::Text(literal));
        }
        Some(Pattern { tokens, style })
    }

    /// Longest run of `S`.
    pub(crate) fn fraction_digits(&self) -> usize {
        self.tokens
            .iter()
            .map(|t| match t {
                Token::Field('S', n) => *n,
                _ => 0,
            })
            .max()
            .unwrap_or(0)
    }

    /// Prints a wall clock of `zone`.
    pub(crate) fn format(&self, out: &mut String, seconds: i64, nanos: i64, zone: Tz) {
        let day = seconds.div_euclid(86_400);
        let clock = seconds.rem_euclid(86_400);
        let (year, month, dom) = civil(day);
        let hour = clock / 3600;
        for t in &self.tokens {
            let (c, n) = match t {
                Token::Text(s) => {
                    out.push_str(s);
                    continue;
                }
                Token::Field(c, n) => (*c, *n),
            };
            let mut number = |v: i64| {
                let _ = write!(out, "{v:0n$}");
            };
            match c {
                'u' if self.style == Style::Lenient => number(iso_weekday(day)),
                'y' | 'u' if n == 2 => number(year.rem_euclid(100)),
                'y' | 'u' => number(year),
                'Y' => {
                    let y = iso_week(day).0;
                    number(if n == 2 { y.rem_euclid(100) } else { y });
                }
                'M' | 'L' => match n {
                    1 | 2 => number(i64::from(month)),
                    _ => out.push_str(named(&MONTHS, month as usize - 1, n)),
                },
                'd' => number(i64::from(dom)),
                'D' => number(day - days(year, 1, 1) + 1),
                'w' => number(iso_week(day).1),
                'E' => out.push_str(named(&WEEKDAYS, iso_weekday(day) as usize - 1, n)),
                'a' => out.push_str(if hour < 12 { "AM" } else { "PM" }),
                'H' => number(hour),
                'k' => number(if hour == 0 { 24 } else { hour }),
                'K' => number(hour % 12),
                'h' => number(if hour % 12 == 0 { 12 } else { hour % 12 }),
                'm' => number(clock / 60 % 60),
                's' => number(clock % 60),
                'n' => number(nanos),
                'S' if self.style == Style::Lenient => number(nanos / 1_000_000),
                'S' => {
                    let digits = format!("{nanos:09}");
                    out.extend(digits.chars().chain(std::iter::repeat('0')).take(n));
                }
                'z' | 'V' => {
                    let _ = write!(out, "{}", zone.name());
                }
                _ => write_offset(out, c, n, offset_of(seconds, zone)),
            }
        }
    }

    /// Reads a text; `None` if it does not fit.
    pub(crate) fn parse(&self, text: &str) -> Option<Parsed> {
        let mut f = Fields::default();
        let mut rest = text;
        for (i, t) in self.tokens.iter().enumerate() {
            match t {
                Token::Text(s) => {
                    if self.style == Style::Lenient && s.starts_with(' ') {
                        rest = rest.trim_start_matches(' ').strip_prefix(s.trim_start_matches(' '))?;
                    } else {
                        rest = rest.strip_prefix(s.as_str())?;
                    }
                }
                Token::Field(c, n) => {
                    let adjacent =
                        matches!(self.tokens.get(i + 1), Some(Token::Field(c, _)) if is_number(*c));
                    rest = self.field(*c, *n, adjacent, rest, &mut f)?;
                }
            }
        }
        if self.style == Style::Strict && !rest.is_empty() {
            return None;
        }
        f.resolve(self.style)
    }

    fn field<'a>(&self, c: char, n: usize, adjacent: bool, text: &'a str, f: &mut Fields) -> Option<&'a str> {
        let lenient = self.style == Style::Lenient;
        let text = if lenient { text.trim_start_matches(' ') } else { text };
        match c {
            'M' | 'L' if n >= 3 => {
                let (i, rest) = word(&MONTHS, text)?;
                f.month = i as i64 + 1;
                return Some(rest);
            }
            'E' => return Some(word(&WEEKDAYS, text)?.1),
            'a' => {
                let half = text.get(..2)?;
                f.pm = Some(if half.eq_ignore_ascii_case("PM") {
                    true
                } else if half.eq_ignore_ascii_case("AM") {
                    false
                } else {
                    return None;
                });
                return text.get(2..);
            }
            'z' | 'V' => {
                let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "/_+-:".contains(c)));
                let (name, rest) = text.split_at(end.unwrap_or(text.len()));
                let zone = crate::functions::context::parse_zone(name)?;
                f.zone = Some(zone);
                return Some(rest);
            }
            'Z' | 'X' | 'x' | 'O' => {
                let (offset, rest) = read_offset(text)?;
                f.offset = Some(offset);
                return Some(rest);
            }
            _ => {}
        }
        // How many digits a number may have.
        let (least, most) = match (lenient, c, n) {
            (true, _, _) if adjacent => (1, n),
            (true, _, _) => (1, 19),
            (false, 'S', n) => (n, n),
            (false, 'y' | 'u' | 'Y', 2) => (2, 2),
            (false, 'y' | 'u' | 'Y', n) if adjacent => (n, n),
            (false, 'y' | 'u' | 'Y', n) => (n, 10),
            (false, _, 1) if adjacent => (1, 1),
            (false, _, 1) => (1, 19),
            (false, _, n) => (n, n),
        };
        let digits = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
        if digits < least {
            return None;
        }
        let (number, rest) = text.split_at(digits);
        let v: i64 = number.parse().ok()?;
        let within = |low: i64, high: i64| if lenient || (low..=high).contains(&v) { Some(v) } else { None };
        match c {
            'y' | 'u' | 'Y' => f.year = if n == 2 && digits <= 2 { 2000 + v } else { v },
            'M' | 'L' => f.month = within(1, 12)?,
            'd' => f.day = within(1, 31)?,
            'D' => f.day_of_year = Some(within(1, 366)?),
            'H' => f.hour = within(0, 23)?,
            'k' => f.hour = within(1, 24)? % 24,
            'K' => f.half_hour = Some(within(0, 11)?),
            'h' => f.half_hour = Some(within(1, 12)? % 12),
            'm' => f.minute = within(0, 59)?,
            's' => f.second = within(0, 59)?,
            'n' => f.nanos = within(0, 999_999_999)?,
            'S' if lenient => f.nanos = v.checked_mul(1_000_000)?,
            'S' => {
                let nine: String = number.chars().chain("000000000".chars()).take(9).collect();
                f.nanos = nine.parse().ok()?;
            }
            'w' => {}
            _ => return None,
        }
        Some(rest)
    }
}

fn is_number(c: char) -> bool {
    !matches!(c, 'a' | 'E' | 'z' | 'V' | 'Z' | 'X' | 'x' | 'O')
}

fn named<'a>(names: &[&'a str], i: usize, n: usize) -> &'a str {
    let full = names.get(i).copied().unwrap_or("");
    if n >= 4 { full } else { full.get(..3).unwrap_or(full) }
}

fn word<'a>(names: &[&str], text: &'a str) -> Option<(usize, &'a str)> {
    for (i, name) in names.iter().enumerate() {
        for form in [*name, name.get(..3)?] {
            if text.get(..form.len()).is_some_and(|t| t.eq_ignore_ascii_case(form)) {
                return Some((i, text.get(form.len()..)?));
            }
        }
    }
    None
}

/// Offset of a zone at a wall clock, in seconds.
fn offset_of(seconds: i64, zone: Tz) -> i64 {
    let Some(wall) = chrono::DateTime::from_timestamp(seconds, 0).map(|t| t.naive_utc()) else { return 0 };
    zone.offset_from_local_datetime(&wall).earliest().map_or(0, |o| i64::from(o.fix().local_minus_utc()))
}

fn write_offset(out: &mut String, c: char, n: usize, offset: i64) {
    if offset == 0 && c == 'X' {
        out.push('Z');
        return;
    }
    let a = offset.abs();
    let (h, m) = (a / 3600, a / 60 % 60);
    out.push(if offset < 0 { '-' } else { '+' });
    let _ = match (c, n) {
        ('X' | 'x', 1) if m == 0 => write!(out, "{h:02}"),
        ('X' | 'x', 3) | ('O', _) => write!(out, "{h:02}:{m:02}"),
        _ => write!(out, "{h:02}{m:02}"),
    };
}

fn read_offset(text: &str) -> Option<(i64, &str)> {
    if let Some(rest) = text.strip_prefix('Z') {
        return Some((0, rest));
    }
    let text = text.strip_prefix("GMT").unwrap_or(text);
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let h: i64 = text.get(1..3)?.parse().ok()?;
    let rest = text.get(3..)?;
    let tail = rest.strip_prefix(':').unwrap_or(rest);
    match tail.get(..2).and_then(|m| m.parse::<i64>().ok()) {
        Some(m) => Some((sign * (h * 3600 + m * 60), tail.get(2..)?)),
        None => Some((sign * h * 3600, rest)),
    }
}

struct Fields {
    year: i64,
    month: i64,
    day: i64,
    day_of_year: Option<i64>,
    hour: i64,
    half_hour: Option<i64>,
    pm: Option<bool>,
    minute: i64,
    second: i64,
    nanos: i64,
    offset: Option<i64>,
    zone: Option<Tz>,
}

impl Default for Fields {
    fn default() -> Self {
        Fields {
            year: 1970,
            month: 1,
            day: 1,
            day_of_year: None,
            hour: 0,
            half_hour: None,
            pm: None,
            minute: 0,
            second: 0,
            nanos: 0,
            offset: None,
            zone: None,
        }
    }
}

impl Fields {
    fn resolve(self, style: Style) -> Option<Parsed> {
        let months = self.year.checked_mul(12)?.checked_add(self.month - 1)?;
        let (year, month) = (months.div_euclid(12), months.rem_euclid(12) as u32 + 1);
        if year.abs() > 200_000 {
            return None;
        }
        let day = match self.day_of_year {
            Some(d) => days(year, 1, 1) + d - 1,
            // DateTimeFormatter resolves 31 February to the month's end, SimpleDateFormat rolls over.
            None if style == Style::Strict => {
                days(year, month, (self.day as u32).min(month_length(year, month)))
            }
            None => days(year, month, 1) + self.day - 1,
        };
        let hour = match self.half_hour {
            Some(h) => h + if self.pm == Some(true) { 12 } else { 0 },
            None => self.hour,
        };
        let clock = hour.checked_mul(3600)? + self.minute.checked_mul(60)? + self.second;
        let seconds = day.checked_mul(86_400)?.checked_add(clock)? + self.nanos.div_euclid(1_000_000_000);
        let offset = self.offset.or_else(|| self.zone.map(|z| offset_of(seconds, z)));
        Some(Parsed { seconds, nanos: self.nanos.rem_euclid(1_000_000_000), offset })
    }
}

//! Reading by a pattern of `SimpleDateFormat`: blanks before numbers are skipped, numbers out of range roll over, what
//! follows is not looked at. Of fields that contradict each other the last one counts, as `GregorianCalendar` decides.

use super::lenient::Token;
use super::names::{Named, Width};
use super::zones;
use super::{Parsed, day_of_week_date, weekday};
use crate::functions::temporal::calendar::{days, month_length};

/// A value and when it was set; 0 for never.
#[derive(Debug, Clone, Copy, Default)]
struct Set {
    value: i64,
    stamp: usize,
}

/// What a text says.
#[derive(Debug, Default)]
pub(super) struct Fields {
    stamps: usize,
    era: Set,
    year: Set,
    week_year: Set,
    month: Set,
    day: Set,
    day_of_year: Set,
    week_of_year: Set,
    week_of_month: Set,
    day_in_month: Set,
    /// Sunday 1.
    weekday: Set,
    half: Set,
    half_hour: Set,
    hour: Set,
    minute: Set,
    second: Set,
    millis: Set,
    zone: Option<zones::Read>,
}

/// Reads the beginning of a text.
pub(super) fn read(tokens: &[Token], text: &str, first_year: i64) -> Option<Fields> {
    let mut fields = Fields::default();
    let mut at = 0;
    for (i, token) in tokens.iter().enumerate() {
        match token {
            Token::Text(literal) => {
                at += text.get(at..)?.starts_with(literal.as_str()).then_some(literal.len())?;
            }
            Token::Field(letter, count) => {
                let adjacent = matches!(tokens.get(i + 1), Some(Token::Field(..)));
                at = field(*letter, *count, adjacent, text, at, first_year, &mut fields)?;
            }
        }
    }
    Some(fields)
}

fn field(
    letter: char,
    count: usize,
    adjacent: bool,
    text: &str,
    start: usize,
    first_year: i64,
    f: &mut Fields,
) -> Option<usize> {
    let skipped = text.get(start..)?.trim_start_matches([' ', '\t']);
    let at = text.len() - skipped.len();
    if skipped.is_empty() {
        return None;
    }
    f.stamps += 1;
    let stamp = f.stamps;
    // Before names, blanks are not skipped.
    let here = text.get(start..)?;
    let named = |named: Named| {
        let long = named.read(here, Width::Long, true);
        long.or_else(|| named.read(here, Width::Short, true))
    };
    match letter {
        'G' => {
            let (value, length) = Named::Era.read(here, Width::Short, true)?;
            f.era = Set { value, stamp };
            return Some(start + length);
        }
        'M' | 'L' if count >= 3 => {
            let (value, length) = named(Named::Month)?;
            f.month = Set { value, stamp };
            return Some(start + length);
        }
        'E' => {
            let (value, length) = named(Named::Weekday)?;
            f.weekday = Set { value: value % 7 + 1, stamp };
            return Some(start + length);
        }
        'a' => {
            let (value, length) = named(Named::Half)?;
            f.half = Set { value, stamp };
            return Some(start + length);
        }
        'z' | 'Z' | 'X' => {
            let (zone, length) =
                if letter == 'X' { zones::read_iso(count, skipped)? } else { zones::read_lenient(skipped)? };
            f.zone = Some(zone);
            return Some(at + length);
        }
        _ => {}
    }
    // Before another field, no more than the letters of this one.
    let within = if adjacent { text.get(..start + count)? } else { text };
    let (mut value, end) = whole(within, at)?;
    let two_digits =
        end - at == 2 && text.get(at..end).is_some_and(|t| t.bytes().all(|b| b.is_ascii_digit()));
    if matches!(letter, 'y' | 'Y') && count <= 2 && two_digits {
        let turn = first_year.rem_euclid(100);
        value += first_year - turn + if value < turn { 100 } else { 0 };
    }
    let set = match letter {
        'y' => &mut f.year,
        'Y' => &mut f.week_year,
        'M' | 'L' => &mut f.month,
        'd' => &mut f.day,
        'D' => &mut f.day_of_year,
        'w' => &mut f.week_of_year,
        'W' => &mut f.week_of_month,
        'F' => &mut f.day_in_month,
        'u' => {
            value = if (1..=7).contains(&value) { value % 7 + 1 } else { value };
            &mut f.weekday
        }
        'k' => {
            value = if value == 24 { 0 } else { value };
            &mut f.hour
        }
        'H' => &mut f.hour,
        'h' => {
            value = if value == 12 { 0 } else { value };
            &mut f.half_hour
        }
        'K' => &mut f.half_hour,
        'm' => &mut f.minute,
        's' => &mut f.second,
        _ => &mut f.millis,
    };
    *set = Set { value, stamp };
    Some(end)
}

/// A whole number with an optional minus, as large as Java's `int`.
fn whole(text: &str, at: usize) -> Option<(i64, usize)> {
    let rest = text.get(at..)?;
    let unsigned = rest.strip_prefix('-').unwrap_or(rest);
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return None;
    }
    let length = rest.len() - unsigned.len() + digits;
    let value = rest.get(..length)?.parse().ok().filter(|v: &i64| i32::try_from(*v).is_ok())?;
    Some((value, at + length))
}

/// When both were set: the later one.
fn both(a: Set, b: Set) -> usize {
    if a.stamp == 0 || b.stamp == 0 { 0 } else { a.stamp.max(b.stamp) }
}

impl Fields {
    /// The wall clock; `None` where it is out of range.
    pub(super) fn resolve(self) -> Option<Parsed> {
        let day = self.date().filter(|d| d.abs() < 80_000_000)?;
        let half_hour = both(self.half_hour, self.half);
        let best = match half_hour.max(self.hour.stamp) {
            0 => self.half_hour.stamp.max(self.half.stamp),
            best => best,
        };
        let hour = if best == self.hour.stamp {
            self.hour.value
        } else {
            self.half_hour.value + self.half.value * 12
        };
        let millis = ((hour * 60 + self.minute.value) * 60 + self.second.value) * 1000 + self.millis.value;
        let millis = day * 86_400_000 + millis;
        let seconds = millis.div_euclid(1000);
        let offset = self.zone.map(|zone| match zone {
            zones::Read::Offset(offset) => offset,
            zones::Read::Zone(zone) => zones::offset_at(seconds, zone),
        });
        Some(Parsed { seconds, nanos: millis.rem_euclid(1000) * 1_000_000, offset })
    }

    fn date(&self) -> Option<i64> {
        if self.week_year.stamp > self.year.stamp {
            let number = if self.week_of_year.stamp > 0 { self.week_of_year.value } else { 1 };
            let weekday = if self.weekday.stamp > 0 { self.weekday.value } else { 1 };
            return Some(day_of_week_date(self.week_year.value, number, weekday));
        }
        let year = if self.year.stamp > 0 { self.year.value } else { 1970 };
        let year = if self.era.stamp > 0 && self.era.value == 0 { 1 - year } else { year };
        let months = year * 12 + if self.month.stamp > 0 { self.month.value - 1 } else { 0 };
        let (in_year, month) = (months.div_euclid(12), months.rem_euclid(12) as u32 + 1);
        let first = days(in_year, month, 1);

        let week_of_month = both(self.week_of_month, self.weekday);
        let day_in_month = both(self.day_in_month, self.weekday);
        let week_of_year = both(self.week_of_year, self.weekday);
        let complete = [self.day.stamp, week_of_month, day_in_month, self.day_of_year.stamp, week_of_year];
        let [day, of_month, in_month, of_year, of_weeks] = match complete.iter().max() {
            // No combination is complete: a week alone, a day of the week alone.
            Some(0) => [
                0,
                self.week_of_month.stamp,
                self.day_in_month.stamp.max(self.weekday.stamp),
                0,
                self.week_of_year.stamp,
            ],
            _ => complete,
        };
        let best = day.max(of_month).max(in_month).max(of_year).max(of_weeks);
        let sunday = |first: i64| first - weekday(first) + 1;
        let wanted = if self.weekday.stamp > 0 { self.weekday.value } else { 1 };
        Some(if best == 0 || best == day {
            first + if self.day.stamp > 0 { self.day.value - 1 } else { 0 }
        } else if best == of_month
            && self.week_of_month.stamp >= self.week_of_year.stamp
            && self.week_of_month.stamp >= self.day_in_month.stamp
        {
            sunday(first) + (self.week_of_month.value - 1) * 7 + (wanted - 1)
        } else if best == in_month && self.day_in_month.stamp >= self.week_of_year.stamp {
            let number = if self.day_in_month.stamp > 0 { self.day_in_month.value } else { 1 };
            let until = if number >= 0 {
                first + 7 * number - 1
            } else {
                first + i64::from(month_length(in_year, month)) + 7 * (number + 1) - 1
            };
            until - (weekday(until) - wanted).rem_euclid(7)
        } else if best == of_year {
            days(year, 1, 1) + self.day_of_year.value - 1
        } else {
            sunday(days(year, 1, 1)) + (self.week_of_year.value - 1) * 7 + (wanted - 1)
        })
    }
}

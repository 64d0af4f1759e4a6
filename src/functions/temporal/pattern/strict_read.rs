//! Reading by a pattern of `DateTimeFormatter`, strictly: names in their case, numbers as wide as the pattern says.

use chrono_tz::Tz;

use super::names::read_period;
use super::strict::{FIELDS, Field, Number, Part, Shape, Sign};
use super::zones;

/// What a text says, field by field.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields {
    numbers: [Option<i64>; FIELDS],
    pub(super) period: Option<usize>,
    pub(super) offset: Option<i64>,
    pub(super) zone: Option<Tz>,
}

impl Fields {
    pub(super) fn get(&self, field: Field) -> Option<i64> {
        self.numbers.get(field as usize).copied().flatten()
    }

    pub(super) fn take(&mut self, field: Field) -> Option<i64> {
        self.numbers.get_mut(field as usize).and_then(Option::take)
    }

    /// Sets a field; `None` if it has another value already.
    pub(super) fn set(&mut self, field: Field, value: i64) -> Option<()> {
        let known = self.numbers.get_mut(field as usize)?;
        match known {
            Some(other) if *other != value => None,
            _ => {
                *known = Some(value);
                Some(())
            }
        }
    }
}

/// Reads all of a text.
pub(super) fn read(parts: &[Part], text: &str) -> Option<Fields> {
    let mut fields = Fields::default();
    let end = all(parts, text, 0, &mut fields)?;
    (end == text.len()).then_some(fields)
}

fn all(parts: &[Part], text: &str, mut at: usize, fields: &mut Fields) -> Option<usize> {
    for part in parts {
        at = one(part, text, at, fields)?;
    }
    Some(at)
}

fn one(part: &Part, text: &str, at: usize, fields: &mut Fields) -> Option<usize> {
    let rest = text.get(at..)?;
    match part {
        Part::Literal(literal) => rest.starts_with(literal.as_str()).then_some(at + literal.len()),
        Part::Number(n) => number(n, text, at, fields),
        Part::Text(named, field, width) => {
            let (value, length) = named.read(rest, *width, false)?;
            fields.set(*field, value)?;
            Some(at + length)
        }
        Part::Period(width) => {
            let (period, length) = read_period(rest, *width)?;
            fields.period = Some(period);
            Some(at + length)
        }
        Part::Zone(letter, count) => {
            let (zone, length) = zones::read(*letter, *count, rest)?;
            match zone {
                zones::Read::Offset(offset) => fields.offset = Some(offset),
                zones::Read::Zone(zone) => fields.zone = Some(zone),
            }
            Some(at + length)
        }
        Part::Pad(width, inner) => {
            let end = rest.char_indices().map(|(i, _)| i).chain([rest.len()]).nth(*width)? + at;
            let within = text.get(..end)?;
            let blanks = within.get(at..)?.chars().take_while(|c| *c == ' ').count();
            (one(inner, within, at + blanks, fields)? == end).then_some(end)
        }
        Part::Optional(inner) => {
            let before = fields.clone();
            Some(all(inner, text, at, fields).unwrap_or_else(|| {
                *fields = before;
                at
            }))
        }
    }
}

fn number(n: &Number, text: &str, at: usize, fields: &mut Fields) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut start = at;
    // Signs only where the width is open.
    let minus = bytes.get(at) == Some(&b'-');
    let plus = bytes.get(at) == Some(&b'+');
    if minus || plus {
        match n.sign {
            Sign::Normal if minus => {}
            Sign::ExceedsPad => {}
            _ => return None,
        }
        start += 1;
    }
    let digits = |most: usize| bytes.iter().skip(start).take(most).take_while(|b| b.is_ascii_digit()).count();
    let behind = n.behind.unwrap_or(0);
    let mut length = digits(n.max + behind);
    if length < n.min {
        return None;
    }
    if behind > 0 {
        length = digits(n.min.max(length.saturating_sub(behind)));
    }
    let end = start + length;
    let mut value: i64 = text.get(start..end)?.parse().ok()?;
    match n.shape {
        Shape::TwoDigits => value += 2000,
        Shape::Fraction => value *= 10i64.pow(9u32.saturating_sub(length as u32)),
        Shape::Plain if minus && value == 0 => return None,
        Shape::Plain if minus => value = -value,
        Shape::Plain if n.sign == Sign::ExceedsPad && plus != (length > n.min) => return None,
        Shape::Plain => {}
    }
    fields.set(n.field, value)?;
    Some(end)
}

//! Patterns of `SimpleDateFormat`: letters to tokens, and printing.

use std::fmt::Write;

use chrono_tz::Tz;

use super::names::{Named, Width};
use super::{Moment, week, zones};
use crate::functions::temporal::calendar::iso_weekday;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Field(char, usize),
    Text(String),
}

const LETTERS: &str = "GyYMLwWDdFEuaHkKhmsSzZX";

/// Compiles a pattern.
pub(super) fn compile(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut literal = String::new();
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\'' {
            if chars.next_if_eq(&'\'').is_some() {
                literal.push('\'');
            } else {
                quoted = !quoted;
            }
        } else if quoted || !c.is_ascii_alphabetic() {
            literal.push(c);
        } else {
            if !LETTERS.contains(c) {
                return Err(format!("unknown letter '{c}'"));
            }
            if !literal.is_empty() {
                tokens.push(Token::Text(std::mem::take(&mut literal)));
            }
            let mut n = 1;
            while chars.next_if_eq(&c).is_some() {
                n += 1;
            }
            if c == 'X' && n > 3 {
                return Err("too many letters 'X' in a row".into());
            }
            tokens.push(Token::Field(c, n));
        }
    }
    if quoted {
        return Err("a quote is not closed".into());
    }
    if !literal.is_empty() {
        tokens.push(Token::Text(literal));
    }
    Ok(tokens)
}

/// Longest run of `S`.
pub(super) fn fraction_digits(tokens: &[Token]) -> usize {
    let digits = |t: &Token| if let Token::Field('S', n) = t { *n } else { 0 };
    tokens.iter().map(digits).max().unwrap_or(0)
}

/// As [`super::Pattern::grain`].
pub(super) fn grain(tokens: &[Token]) -> Option<i64> {
    let of = |token: &Token| match token {
        Token::Text(_) => Some(86_400),
        Token::Field('S', _) => None,
        // The offset of a zone changes at any second.
        Token::Field('s' | 'z' | 'Z' | 'X', _) => Some(1),
        Token::Field('m', _) => Some(60),
        Token::Field('H' | 'h' | 'K' | 'k' | 'a', _) => Some(3600),
        Token::Field(..) => Some(86_400),
    };
    tokens.iter().try_fold(86_400, |grain, token| of(token).map(|g| g.min(grain)))
}

/// Prints a moment of `zone`.
pub(super) fn format(tokens: &[Token], out: &mut String, m: &Moment, zone: Tz) -> Result<(), String> {
    let hour = m.hour();
    let seconds = m.day * 86_400 + m.second;
    for token in tokens {
        let (letter, n) = match token {
            Token::Text(text) => {
                out.push_str(text);
                continue;
            }
            Token::Field(letter, n) => (*letter, *n),
        };
        let width = if n >= 4 { Width::Long } else { Width::Short };
        let year = |year: i64| {
            let of_era = if year > 0 { year } else { 1 - year };
            if n == 2 { of_era % 100 } else { of_era }
        };
        let number = match letter {
            'G' => {
                out.push_str(Named::Era.name(i64::from(m.year > 0), Width::Short));
                continue;
            }
            'M' | 'L' if n >= 3 => {
                out.push_str(Named::Month.name(i64::from(m.month), width));
                continue;
            }
            'E' => {
                out.push_str(Named::Weekday.name(iso_weekday(m.day), width));
                continue;
            }
            'a' => {
                out.push_str(Named::Half.name(hour / 12, Width::Short));
                continue;
            }
            'z' => {
                match (n, zone) {
                    (4.., Tz::UTC) => out.push_str("Coordinated Universal Time"),
                    (4.., _) => {
                        return Err(format!("the long name of the time zone {zone} is not known; write z"));
                    }
                    _ => zones::write_name(out, seconds, zone),
                }
                continue;
            }
            'Z' => {
                zones::write_offset(out, zones::offset_at(seconds, zone), "", false);
                continue;
            }
            'X' => {
                match zones::offset_at(seconds, zone) {
                    0 => out.push('Z'),
                    offset => zones::write_offset(out, offset, if n == 3 { ":" } else { "" }, n == 1),
                }
                continue;
            }
            'y' => year(m.year),
            'Y' => year(week(m.day).0),
            'M' | 'L' => i64::from(m.month),
            'w' => week(m.day).1,
            'W' => m.week_of_month(),
            'D' => m.day_of_year(),
            'd' => i64::from(m.day_of_month),
            'F' => i64::from(m.day_of_month - 1) / 7 + 1,
            'u' => iso_weekday(m.day),
            'H' => hour,
            'k' => {
                if hour == 0 {
                    24
                } else {
                    hour
                }
            }
            'K' => hour % 12,
            'h' => {
                if hour % 12 == 0 {
                    12
                } else {
                    hour % 12
                }
            }
            'm' => m.second / 60 % 60,
            's' => m.second % 60,
            _ => m.nanos / 1_000_000,
        };
        let _ = write!(out, "{number:0n$}");
    }
    Ok(())
}

//! Offsets and names of time zones in patterns.

use std::fmt::Write;

use chrono::{Offset, TimeZone};
use chrono_tz::{OffsetName, Tz};

use crate::functions::context::parse_zone;

/// What a text says of a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// Seconds east of UTC.
    Offset(i64),
    Zone(Tz),
}

/// Offset of a zone at a wall clock, in seconds.
pub(super) fn offset_at(seconds: i64, zone: Tz) -> i64 {
    let Some(wall) = chrono::DateTime::from_timestamp(seconds, 0).map(|t| t.naive_utc()) else { return 0 };
    zone.offset_from_local_datetime(&wall).earliest().map_or(0, |o| i64::from(o.fix().local_minus_utc()))
}

/// The short name of a zone at a wall clock: `CEST`, or `GMT+03:00` where there is none.
pub(super) fn write_name(out: &mut String, seconds: i64, zone: Tz) {
    let wall = chrono::DateTime::from_timestamp(seconds, 0).map(|t| t.naive_utc());
    let at = wall.and_then(|wall| zone.offset_from_local_datetime(&wall).earliest());
    match at.as_ref().and_then(OffsetName::abbreviation) {
        Some(name) if name.bytes().all(|b| b.is_ascii_alphabetic()) => out.push_str(name),
        _ => {
            out.push_str("GMT");
            write_offset(out, offset_at(seconds, zone), ":", false);
        }
    }
}

/// `+hh`, the separator and `mm`; without minutes if `hours_only` and there are none.
pub(super) fn write_offset(out: &mut String, offset: i64, separator: &str, hours_only: bool) {
    let minutes = offset.abs() / 60;
    let _ = write!(out, "{}{:02}", if offset < 0 { '-' } else { '+' }, minutes / 60);
    if !hours_only {
        let _ = write!(out, "{separator}{:02}", minutes % 60);
    }
}

/// What a letter of a strict pattern finds at the beginning of a text, and how much it takes.
pub(super) fn read(letter: char, count: usize, text: &str) -> Option<(Read, usize)> {
    // The text for no offset; a colon; minutes needed; seconds allowed.
    let (zero, colon, minutes, seconds) = match (letter, count) {
        ('z' | 'v' | 'V', _) => return read_name(text),
        ('O', _) | ('Z', 4) => return read_localized(text, count == 1),
        ('Z', 5) => ("Z", true, true, true),
        ('Z', _) => ("+0000", false, true, false),
        ('X', 1) => ("Z", false, false, false),
        ('x', 1) => ("+00", false, false, false),
        ('X', n) => ("Z", n % 2 == 1, true, n > 3),
        (_, n) => (if n % 2 == 1 { "+00:00" } else { "+0000" }, n % 2 == 1, true, n > 3),
    };
    if text.starts_with(zero) {
        return Some((Read::Offset(0), zero.len()));
    }
    let sign = sign(text)?;
    let (hours, mut length) = (digits(text, 1)?, 3);
    let mut offset = hours * 3600;
    let part = |at: usize| {
        let at = if colon { at + text.get(at..)?.starts_with(':').then_some(1)? } else { at };
        Some((digits(text, at)?, at + 2))
    };
    match part(length) {
        Some((m, end)) => {
            (offset, length) = (offset + m * 60, end);
            if let Some((s, end)) = part(length).filter(|_| seconds) {
                (offset, length) = (offset + s, end);
            }
        }
        None if minutes => return None,
        None => {}
    }
    (hours <= 18).then_some((Read::Offset(sign * offset), length))
}

fn sign(text: &str) -> Option<i64> {
    match text.as_bytes().first()? {
        b'+' => Some(1),
        b'-' => Some(-1),
        _ => None,
    }
}

/// Two digits up to 59.
fn digits(text: &str, at: usize) -> Option<i64> {
    let two = text.get(at..at + 2).filter(|t| t.bytes().all(|b| b.is_ascii_digit()))?;
    two.parse().ok().filter(|n| *n < 60)
}

/// Two digits up to 23.
fn hours(text: &str, at: usize) -> Option<i64> {
    digits(text, at).filter(|h| *h < 24)
}

/// `GMT+1`, `GMT+01:00`.
fn read_localized(text: &str, short: bool) -> Option<(Read, usize)> {
    let rest = text.strip_prefix("GMT")?;
    let Some(sign) = sign(rest) else { return Some((Read::Offset(0), 3)) };
    if !short {
        let minutes = digits(rest, 4).filter(|_| rest.get(3..4) == Some(":"))?;
        return Some((Read::Offset(sign * (digits(rest, 1)? * 3600 + minutes * 60)), 9));
    }
    let hours = rest.bytes().skip(1).take(2).take_while(u8::is_ascii_digit).count();
    let offset = rest.get(1..=hours)?.parse::<i64>().ok()? * 3600;
    let minutes = digits(rest, hours + 2).filter(|_| rest.get(hours + 1..hours + 2) == Some(":"));
    let length = 3 + 1 + hours + if minutes.is_some() { 3 } else { 0 };
    Some((Read::Offset(sign * (offset + minutes.unwrap_or(0) * 60)), length))
}

/// An offset, or the longest name of a zone.
fn read_name(text: &str) -> Option<(Read, usize)> {
    if text.starts_with('Z') && !text.get(1..2).is_some_and(|c| c.bytes().all(|b| b.is_ascii_alphabetic())) {
        return Some((Read::Offset(0), 1));
    }
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "/_+-:".contains(c))).unwrap_or(text.len());
    (1..=end).rev().find_map(|n| parse_zone(text.get(..n)?).map(|zone| (Read::Zone(zone), n)))
}

/// Short names and their minutes east of UTC.
const ABBREVIATIONS: [(&str, i64); 24] = [
    ("CEST", 120),
    ("EEST", 180),
    ("WEST", 60),
    ("AEST", 600),
    ("AEDT", 660),
    ("AKST", -540),
    ("AKDT", -480),
    ("CET", 60),
    ("EET", 120),
    ("WET", 0),
    ("BST", 60),
    ("MSK", 180),
    ("IST", 330),
    ("JST", 540),
    ("KST", 540),
    ("EST", -300),
    ("EDT", -240),
    ("CST", -360),
    ("CDT", -300),
    ("MST", -420),
    ("MDT", -360),
    ("PST", -480),
    ("PDT", -420),
    ("HST", -600),
];

/// What `z` and `Z` of a lenient pattern find: `+0100`, `GMT+1:00`, names.
pub(super) fn read_lenient(text: &str) -> Option<(Read, usize)> {
    if let Some((name, minutes)) = ABBREVIATIONS.iter().find(|(name, _)| text.starts_with(name)) {
        return Some((Read::Offset(minutes * 60), name.len()));
    }
    if let Some(sign) = sign(text) {
        let (hours, minutes) = (hours(text, 1)?, digits(text, 3)?);
        return Some((Read::Offset(sign * (hours * 3600 + minutes * 60)), 5));
    }
    if text.get(..3).is_some_and(|t| t.eq_ignore_ascii_case("GMT")) {
        let rest = text.get(3..)?;
        let Some(sign) = sign(rest) else { return Some((Read::Offset(0), 3)) };
        let hours = rest.bytes().skip(1).take(2).take_while(u8::is_ascii_digit).count();
        let minutes = digits(rest, hours + 2).filter(|_| rest.get(hours + 1..hours + 2) == Some(":"))?;
        let offset = rest.get(1..=hours)?.parse::<i64>().ok()? * 3600 + minutes * 60;
        return Some((Read::Offset(sign * offset), 3 + 1 + hours + 3));
    }
    read_name(text)
}

/// What `X` of a lenient pattern finds.
pub(super) fn read_iso(count: usize, text: &str) -> Option<(Read, usize)> {
    if text.starts_with('Z') {
        return Some((Read::Offset(0), 1));
    }
    let sign = sign(text)?;
    let hours = hours(text, 1)?;
    if count == 1 {
        return Some((Read::Offset(sign * hours * 3600), 3));
    }
    let at = if count == 3 { text.get(3..4).filter(|c| *c == ":").map(|_| 4)? } else { 3 };
    Some((Read::Offset(sign * (hours * 3600 + digits(text, at)? * 60)), at + 2))
}

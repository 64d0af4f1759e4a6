//! Golden values of `golden.tsv`, printed by Flink's `DateTimeUtils` on Java 17: kind, pattern, input, answer.
//!
//! | kind | pattern | input → answer |
//! |---|---|---|
//! | `CD`, `CS` | of `DateTimeFormatter`, of `SimpleDateFormat` | → `ok` or `!` and why it is none |
//! | `FD` | strict | a timestamp → its text, `!` if it cannot be written |
//! | `FS` | lenient, in Berlin | seconds since 1970 → their text |
//! | `PD` | strict | a text → the timestamp that it means, or `NULL` |
//! | `PS` | lenient, in Berlin | a text → its seconds since 1970, `i64::MIN` if it means none |
//!
//! Seconds are of 1900 to 2037: before and after it Java has local times to the second, the Julian calendar, and daylight
//! saving for ever. Where the strict reader fails on a value instead of giving NULL, NULL is right. Left out, and
//! otherwise here, are a few of 20,000: lenient texts whose fields touch each other, weeks of a month without its month.

use super::*;
use crate::functions::context::{instant_to_wall, wall_to_instant};
use crate::functions::temporal::calendar::{parse_rolling, parse_timestamp};
use crate::text::{TimeStyle, write_timestamp};

const GOLDEN: &str = include_str!("golden.tsv");
const MICROS: i64 = 1_000_000;

fn with_seconds(text: &str) -> String {
    if text.len() == 16 { format!("{text}:00") } else { text.to_owned() }
}

/// What this pattern makes of the input, in the words of the file.
fn answer(kind: &str, pattern: Result<Pattern, String>, input: &str) -> String {
    let berlin = chrono_tz::Europe::Berlin;
    let pattern = match pattern {
        Ok(pattern) => pattern,
        Err(_) => return "!".to_owned(),
    };
    let mut out = String::new();
    let written = match kind {
        "CD" | "CS" => return "ok".to_owned(),
        "FD" => {
            let (seconds, nanos) = parse_timestamp(&with_seconds(input)).unwrap();
            pattern.format(&mut out, seconds, nanos, Tz::UTC)
        }
        "FS" => {
            let wall = instant_to_wall(input.parse::<i64>().unwrap() * MICROS, berlin) / MICROS;
            pattern.format(&mut out, wall, 0, berlin)
        }
        "PD" => {
            let parsed = pattern.parse(input).map(|t| (t.seconds, t.nanos)).or_else(|| parse_rolling(input));
            match parsed {
                Some((seconds, nanos)) => {
                    write_timestamp(seconds, nanos, TimeStyle::CAST.with_digits(3), &mut out);
                }
                None => out.push_str("NULL"),
            }
            Ok(())
        }
        "PS" => {
            let seconds = pattern.parse_since(input, 1946).map(|t| match t.offset {
                Some(offset) => t.seconds - offset,
                None => wall_to_instant(t.seconds * MICROS, berlin) / MICROS,
            } + i64::from(t.nanos > 0 && t.seconds < 3600));
            out = seconds.unwrap_or(i64::MIN).to_string();
            Ok(())
        }
        other => panic!("no such kind: {other}"),
    };
    if written.is_ok() { out } else { "!".to_owned() }
}

#[test]
fn patterns_mean_what_they_mean_in_java() {
    let plain = |s: &str| s.replace("\\t", "\t").replace("\\n", "\n").replace("\\\\", "\\");
    let mut wrong = Vec::new();
    for line in GOLDEN.lines() {
        let [kind, text, input, wanted] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let (text, input) = (plain(text), plain(input));
        let mut wanted = plain(wanted);
        if wanted.starts_with('!') {
            // Java's reasons are not ours.
            wanted = if kind == "PD" { "NULL" } else { "!" }.to_owned();
        } else if kind == "PD" && wanted != "NULL" {
            let day = wanted.trim_start_matches(['+', '-']);
            let clock = day.split_once(' ').map(|(_, clock)| clock).unwrap();
            wanted = if clock.len() == 5 { format!("{wanted}:00") } else { wanted };
            wanted = if wanted.contains('.') { wanted } else { wanted + ".000" };
            // TimeStyle::CAST has no sign of years.
            wanted = wanted.trim_start_matches('+').to_owned();
        }
        let style = if kind.ends_with('D') { Style::Strict } else { Style::Lenient };
        let got = answer(kind, Pattern::compile(&text, style), &input);
        if got != wanted {
            wrong.push(format!("{line}\n    gave {got}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

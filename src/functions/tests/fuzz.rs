//! Random texts for everything that reads text: casts, JSON and its paths, formats of PRINTF, regular expressions, SQL.
//! Nothing panics, nothing takes long, and what can be read is read again as the same.
//!
//! Each target runs for a second, or for as many as `TIDELAKE_FUZZ_SECONDS` says; `TIDELAKE_FUZZ_SEED` begins elsewhere.

#![expect(clippy::disallowed_methods, reason = "a time limit is about the clock")]

use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, TimeUnit};

use super::*;
use crate::functions::cast::{Mode, cast_array};
use crate::functions::json::fuzz_target;
use crate::functions::strings::java_regex;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Up to `most` pieces of a list.
    fn text(&mut self, pieces: &[&str], most: usize) -> String {
        (0..self.below(most + 1)).map(|_| pieces[self.below(pieces.len())]).collect()
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|v| v.parse().ok())
}

/// Calls `f` with random numbers until the time is over; no call may take longer than five seconds.
fn fuzz(mut f: impl FnMut(&mut Random)) {
    let end = Instant::now() + Duration::from_secs(setting("TIDELAKE_FUZZ_SECONDS").unwrap_or(1));
    let mut seed = setting("TIDELAKE_FUZZ_SEED").unwrap_or(1);
    while Instant::now() < end {
        let start = Instant::now();
        f(&mut Random(seed));
        assert!(start.elapsed() < Duration::from_secs(5), "seed {seed} takes {:?}", start.elapsed());
        seed += 1;
    }
}

const VALUES: &[&str] = &[
    "0",
    "1",
    "9",
    "12",
    "99999999999",
    "-",
    "+",
    ".",
    "e",
    "E",
    "e400",
    "_",
    " ",
    "\t",
    ":",
    "T",
    "Z",
    "true",
    "f",
    "yes",
    "NaN",
    "Infinity",
    "2020-01-02",
    "0001-1-1",
    "24:00:00",
    "10:11:12.123456789",
    "é",
    "日",
    "\0",
    "x",
    "(",
    ",",
];

#[test]
fn casts_of_text() {
    let mut types = vec![
        DataType::Boolean,
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Float32,
        DataType::Float64,
        DataType::Decimal128(38, 10),
        DataType::Decimal128(3, 3),
        DataType::Date32,
        DataType::Time32(TimeUnit::Millisecond),
        DataType::Binary,
    ];
    for unit in [TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond] {
        types.extend([DataType::Timestamp(unit, None), DataType::Timestamp(unit, Some("UTC".into()))]);
    }
    fuzz(|random| {
        let texts: Vec<String> = (0..64).map(|_| random.text(VALUES, 6)).collect();
        let a: ArrayRef = Arc::new(StringArray::from(texts));
        let to = &types[random.below(types.len())];
        let mode = Mode { lenient: true, zone: Tz::Europe__Berlin };
        let values = cast_array(&a, to, mode).unwrap();
        assert_eq!(values.len(), a.len());
        if matches!(to, DataType::Binary) || matches!(to, DataType::Timestamp(_, Some(_))) {
            return;
        }
        // What was read has a text, from which it is read again.
        let back = cast_array(&to_text(&values, mode.zone).unwrap(), to, mode).unwrap();
        let texts = to_text(&back, mode.zone).unwrap();
        assert_eq!(
            texts.as_string::<i32>(),
            to_text(&values, mode.zone).unwrap().as_string::<i32>(),
            "{to}: {a:?}"
        );
    });
}

const JSON: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"a\"",
    "\"\"",
    "\"\\u00e9\"",
    "\"\\ud800\"",
    "\"",
    "\\",
    "1",
    "-0",
    "1.50",
    "1e2",
    "1e999",
    "true",
    "null",
    "nul",
    " ",
    "\n",
    "é",
    "{\"a\":",
    "[[",
    "]]",
    "{\"a\":{\"b\":[1,2,{\"c\":null}]}}",
];

const PATHS: &[&str] = &[
    "$",
    ".",
    "..",
    "*",
    "a",
    "b",
    "c",
    "[",
    "]",
    "['a']",
    "[0]",
    "[-1]",
    "[0,1]",
    "[1:]",
    "[:-1]",
    "[?(",
    ")]",
    "@.a",
    "@",
    "==",
    "!=",
    ">",
    "&&",
    "||",
    "!",
    "(",
    ")",
    "1",
    "'x'",
    "/a+/i",
    " in ",
    " size ",
    "lax ",
    "strict ",
    ".length()",
    "é",
    "\\",
];

#[test]
fn documents_and_paths() {
    fuzz(|random| {
        let document = random.text(JSON, 12);
        let path =
            if random.below(2) == 0 { random.text(PATHS, 6) } else { format!("${}", random.text(PATHS, 6)) };
        fuzz_target(&document, &path);
    });
    fuzz_target(&"[".repeat(1_000_000), "$..a");
    fuzz_target("[]", &format!("${}", "[?(".repeat(10_000)));
    fuzz_target("[]", &format!("$[?({}@.a{})]", "!(".repeat(10_000), ")".repeat(10_000)));
}

const PATTERNS: &[&str] = &[
    "a",
    "b",
    "\\d",
    "\\W",
    "\\s",
    "\\Q",
    "\\E",
    "\\p{Alpha}",
    "\\P{L}",
    "\\u00e9",
    "\\1",
    "\\Z",
    ".",
    "*",
    "+",
    "?",
    "{2,3}",
    "{",
    "(",
    ")",
    "(?:",
    "(?=",
    "(?s)",
    "[",
    "[^",
    "]",
    "-",
    "&&",
    "~",
    "|",
    "^",
    "$",
    "é",
    "\\",
];

#[test]
fn regular_expressions() {
    fuzz(|random| {
        let pattern = random.text(PATTERNS, 12);
        if let Ok(regex) = java_regex::compile(&pattern) {
            let text = random.text(&["a", "b", "1", " ", "\n", "é", "aaaaaaaaaaaaaaaaaaaaaaaa"], 20);
            let _ = regex.find_iter(&text).count();
        }
    });
}

const FORMATS: &[&str] = &[
    "%", "d", "s", "S", "f", "e", "g", "x", "o", "c", "b", "h", "a", "n", "t", "1$", "2$", "<", "-", "#",
    "+", " ", "0", ",", "(", "5", "12", ".", ".0", ".3", "é",
];

#[test]
fn formats_of_printf() {
    let session = Session::new("UTC");
    let arguments =
        ["", ", 5", ", -1.5e0", ", 'é'", ", TRUE, CAST(NULL AS INT)", ", 1.50, DATE '2020-01-01'"];
    fuzz(|random| {
        let calls: Vec<String> = (0..20)
            .map(|n| {
                let format = format!("%{}", random.text(FORMATS, 6));
                format!("PRINTF('{format}'{}) AS c{n}", arguments[random.below(arguments.len())])
            })
            .collect();
        session.run(&format!("SELECT {}", calls.join(", "))).unwrap();
    });
}

const SQL: &[&str] = &[
    "SELECT ",
    "FROM ",
    "WHERE ",
    "GROUP BY ",
    "t ",
    "a ",
    "1 ",
    "'x' ",
    "( ",
    ") ",
    ", ",
    "* ",
    ". ",
    "= ",
    "< ",
    "+ ",
    "CASE ",
    "WHEN ",
    "THEN ",
    "END ",
    "CAST( ",
    "AS INT) ",
    "BETWEEN SYMMETRIC ",
    "AND ",
    "IS JSON ",
    "NOT ",
    "JSON_VALUE( ",
    "RETURNING ",
    "JSON_OBJECT( ",
    "KEY ",
    "VALUE ",
    "NULL ON NULL ",
    "DEFAULT ",
    "ON EMPTY ",
    "ON ERROR ",
    "ARRAY[ ",
    "] ",
    "MAP[ ",
    "OVERLAPS ",
    "INTERVAL '1' DAY ",
    "WITH WRAPPER ",
    "; ",
    "`",
    "\"",
    "'",
    "/*",
    "--",
    "\n",
    "é ",
    "JOIN ",
    "ON ",
];

#[test]
fn sql_text() {
    fuzz(|random| {
        let text = if random.below(2) == 0 {
            random.text(SQL, 20)
        } else {
            format!("SELECT {}", random.text(SQL, 12))
        };
        let _ = crate::sql::parse_script(&text);
        let _ = crate::sql::parse_type(&text);
        if let Ok(mut expr) = crate::sql::parse_expr(&text) {
            let _ = functions::rewrite_expr_ast(&mut expr.expr);
        }
    });
}

//! Random texts for everything that reads text: casts, JSON and its paths, formats of PRINTF and of times, regular
//! expressions, arguments of functions, SQL. Nothing panics, nothing takes long, and what can be read is read again as the
//! same. How long: [`crate::text::fuzzing`].

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, TimeUnit};

use super::*;
use crate::functions::cast::{Mode, cast_array};
use crate::functions::json::fuzz_target;
use crate::functions::strings::java_regex;
use crate::functions::temporal::pattern::{Pattern, Style};
use crate::text::fuzzing::{Random, fuzz};

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
    fuzz("casts of text", 64, |random| {
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
    fuzz("documents and paths", 1, |random| {
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
    fuzz("regular expressions", 1, |random| {
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
    fuzz("formats of printf", 20, |random| {
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
    fuzz("sql text", 1, |random| {
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

const TIMES: &[&str] = &[
    "y",
    "yyyy",
    "u",
    "M",
    "MM",
    "MMM",
    "MMMM",
    "d",
    "dd",
    "D",
    "E",
    "EEEE",
    "H",
    "HH",
    "h",
    "K",
    "k",
    "m",
    "mm",
    "s",
    "ss",
    "S",
    "SSS",
    "SSSSSSSSS",
    "n",
    "N",
    "A",
    "a",
    "G",
    "Q",
    "w",
    "W",
    "F",
    "Y",
    "L",
    "z",
    "Z",
    "X",
    "XXX",
    "x",
    "O",
    "V",
    "VV",
    "p",
    "[",
    "]",
    "{",
    "}",
    "#",
    "'",
    "''",
    "'T'",
    "-",
    "/",
    ":",
    " ",
    ".",
    "é",
    "\\",
    "0",
];

#[test]
fn patterns_of_times() {
    let texts = [
        "2020", "-", "02", "29", " ", ":", "10", "11.5", "PM", "Mon", "March", "AD", "+02:00", "Z", "é", "T",
    ];
    fuzz("patterns of times", 1, |random| {
        let pattern = random.text(TIMES, 8);
        let text = random.text(&texts, 8);
        for style in [Style::Strict, Style::Lenient] {
            let Some(pattern) = Pattern::new(&pattern, style) else { continue };
            let _ = pattern.parse(&text);
            let seconds = (random.next() >> random.below(64)) as i64 % 100_000_000_000;
            let mut printed = String::new();
            if pattern
                .format(&mut printed, seconds, (random.next() % 1_000_000_000) as i64, Tz::Europe__Berlin)
                .is_ok()
            {
                let _ = pattern.parse(&printed);
            }
            let _ = (pattern.grain(), pattern.fraction_digits());
        }
    });
}

/// Arguments of all types, ordinary and odd.
const ARGUMENTS: &[&str] = &[
    "NULL",
    "0",
    "1",
    "-1",
    "2",
    "5",
    "2147483647",
    "-2147483648",
    "9223372036854775807",
    "1.5",
    "-0.001",
    "1e0",
    "1e300",
    "CAST('NaN' AS DOUBLE)",
    "CAST('Infinity' AS DOUBLE)",
    "CAST(1.5 AS FLOAT)",
    "CAST(-128 AS TINYINT)",
    "CAST(12345678901234567890123456789012345678 AS DECIMAL(38, 0))",
    "TRUE",
    "''",
    "'a'",
    "'é日😀'",
    "'a,b=c'",
    "' 1 '",
    "'%s %d'",
    "'(a|b)*'",
    "'[{\"a\": 1}]'",
    "'$.a[0]'",
    "'yyyy-MM-dd'",
    "'UTF-16'",
    "'Europe/Berlin'",
    "'http://u@h:1/p?q=1#f'",
    "'2020-02-29 10:11:12.5'",
    "DATE '2020-02-29'",
    "DATE '0001-01-01'",
    "TIME '23:59:59.999'",
    "TIMESTAMP '2020-02-29 10:11:12.123456789'",
    "TIMESTAMP '9999-12-31 23:59:59.999'",
    "CAST(TIMESTAMP '2020-03-29 02:30:00' AS TIMESTAMP_LTZ(3))",
    "INTERVAL '1 02:03:04.5' DAY TO SECOND",
    "INTERVAL '-2-11' YEAR TO MONTH",
    "X''",
    "X'00FF80'",
    "ARRAY[1, NULL, 3]",
    "ARRAY['a', 'é']",
    "ARRAY[ARRAY[1]]",
    "MAP['a', 1, 'b', NULL]",
    "MAP[1, ARRAY['x']]",
    "ROW(1, 'a', NULL)",
    "PARSE_JSON('{\"a\": [1]}')",
    "BITMAP_BUILD(ARRAY[1, -1])",
    "CAST(NULL AS STRING)",
    "CAST(NULL AS INT)",
    "CAST(NULL AS TIMESTAMP(9))",
    "CAST(NULL AS ARRAY<INT>)",
];

/// Calls whose results are as large as they are asked to be.
const LARGE: &[&str] = &["REPEAT", "LPAD", "RPAD"];

const OPERATORS: &[&str] =
    &["+", "-", "*", "/", "%", "=", "<>", "<", ">=", "||", "LIKE", "IS DISTINCT FROM", "AND", "IN"];

const TYPES: &[&str] = &[
    "INT",
    "TINYINT",
    "STRING",
    "CHAR(3)",
    "DECIMAL(5, 2)",
    "DOUBLE",
    "TIMESTAMP(1)",
    "TIMESTAMP_LTZ(9)",
    "DATE",
    "TIME(2)",
    "BYTES",
    "BOOLEAN",
    "ARRAY<STRING>",
];

/// Makes expressions of calls, operators and casts.
struct Expressions {
    functions: Vec<String>,
}

impl Expressions {
    fn part(&self, random: &mut Random, depth: usize) -> String {
        if depth > 0 && random.below(3) == 0 {
            self.whole(random, depth - 1)
        } else {
            random.one(ARGUMENTS).to_owned()
        }
    }

    fn whole(&self, random: &mut Random, depth: usize) -> String {
        match random.below(8) {
            0 => {
                let (a, b) = (self.part(random, depth), self.part(random, depth));
                match random.one(OPERATORS) {
                    "IN" => format!("({a} IN ({b}, {}))", self.part(random, depth)),
                    operator => format!("({a} {operator} {b})"),
                }
            }
            1 => format!("CAST({} AS {})", self.part(random, depth), random.one(TYPES)),
            2 => format!("{}[{}]", self.part(random, depth), self.part(random, depth)),
            _ => {
                let name = &self.functions[random.below(self.functions.len())];
                let args: Vec<String> = (0..random.below(4)).map(|_| self.part(random, depth)).collect();
                format!("{name}({})", args.join(", "))
            }
        }
    }
}

#[test]
fn arguments_of_functions() {
    let session = Session::new("Europe/Berlin");
    let functions = functions::names().into_iter().filter(|n| !LARGE.contains(&n.as_str())).collect();
    let expressions = Expressions { functions };
    fuzz("arguments of functions", 1, |random| {
        let _ = session.run(&format!("SELECT {}", expressions.whole(random, 2)));
    });
}

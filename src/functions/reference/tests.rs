//! The page of the functions and the tests of their examples are what the text says.
//!
//! `TIDELAKE_UPDATE_DOCS=1 cargo test --lib functions::reference` writes both anew.

use std::fmt::Write as _;
use std::path::Path;

use super::*;

const PAGE: &str = "docs/functions.md";
const EXAMPLES: &str = "sql-tests/function_examples.slt";

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

fn code(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}

fn page() -> String {
    let count = |f: fn(&Status) -> bool| ENTRIES.iter().filter(|e| f(&e.status)).count();
    let mut out = format!(
        "# Functions\n\n\
         The functions, operators and constructors of Flink SQL, in the order of its documentation: {} are supported, {} \
         of them differ from Flink's, and {} are not supported. `DESCRIBE FUNCTION f` shows the same in a session, and \
         `SHOW FUNCTIONS` all names. Every example is run by `{EXAMPLES}`. Where Flink takes only an INT, such as a length \
         or a number of digits, a BIGINT is taken, too.\n\n\
         This page is made from `src/functions/reference/functions.txt`: `TIDELAKE_UPDATE_DOCS=1 cargo test --lib \
         functions::reference` writes it anew.\n",
        count(|s| !matches!(s, Status::Not(_))),
        count(|s| matches!(s, Status::Different(_))),
        count(|s| matches!(s, Status::Not(_))),
    );
    let mut section = "";
    for e in ENTRIES.iter() {
        if e.section != section {
            section = e.section;
            let _ =
                write!(out, "\n## {section}\n\n| | what | example | Flink's |\n| --- | --- | --- | --- |\n");
        }
        let example = match e.example {
            "" => String::new(),
            example => {
                let mode = e.mode.map_or(String::new(), |mode| format!(" in {mode}"));
                format!("{} → {}{mode}", code(example), code(&e.answer.replace('⏎', ", ")))
            }
        };
        let status = match e.status {
            Status::Supported => "supported".to_owned(),
            Status::Different(reason) => format!("different: {}", cell(reason)),
            Status::Not(instead) => format!("not supported: {}", cell(instead)),
        };
        let _ = writeln!(out, "| {} | {} | {example} | {status} |", code(e.signature), cell(e.description));
    }
    out.push_str(
        "\n## Beyond Flink\n\nFunctions of DataFusion under names that Flink does not use. They are what DataFusion's \
         documentation says, and no part of what is compared with Flink.\n\n",
    );
    let names: Vec<String> = others().iter().map(|n| format!("`{n}`")).collect();
    let _ = writeln!(out, "{}.", names.join(", "));
    out
}

fn examples() -> String {
    let mut out = String::from(
        "# The examples of docs/functions.md. Made by `TIDELAKE_UPDATE_DOCS=1 cargo test --lib functions::reference`.\n\n\
         statement ok\n\
         CREATE TABLE events (ts TIMESTAMP(3), x INT, WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'path' = \
         'sql-tests/files/two-events.csv', 'format' = 'csv')\n\n\
         statement ok\n\
         CREATE VIEW kinds AS SELECT * FROM (VALUES ('INSERT', 'a'), ('INSERT', 'b'), ('DELETE', 'a')) AS k(op, k)\n",
    );
    for e in ENTRIES.iter().filter(|e| !e.example.is_empty()) {
        let rows = e.answer.replace('⏎', "\n");
        let mode = e.mode.map_or(String::new(), |mode| format!("onlyif {mode}\n"));
        let _ = write!(out, "\n{mode}query T\nSELECT {}\n----\n{rows}\n", e.example);
    }
    out
}

fn holds(path: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("TIDELAKE_UPDATE_DOCS").is_some() {
        std::fs::write(&file, text).unwrap();
    }
    let known = std::fs::read_to_string(&file).unwrap_or_default();
    let first = known.lines().zip(text.lines()).enumerate().find(|(_, (a, b))| a != b);
    assert!(
        known == text,
        "{path} is out of date, from {first:?} on: run this test with TIDELAKE_UPDATE_DOCS=1"
    );
}

#[test]
fn the_page_is_up_to_date() {
    holds(PAGE, &page());
}

#[test]
fn the_examples_are_up_to_date() {
    holds(EXAMPLES, &examples());
}

#[test]
fn every_entry_is_whole() {
    for e in ENTRIES.iter() {
        let what = format!("{e:?}");
        assert!(!e.names.is_empty() && !e.signature.is_empty() && !e.description.is_empty(), "{what}");
        assert!(e.example.is_empty() == e.answer.is_empty(), "an example has an answer: {what}");
        let is_there = !matches!(e.status, Status::Not(_));
        assert!(!is_there || !e.example.is_empty(), "what is supported has an example: {what}");
        assert!(e.description.ends_with(['.', '…']), "{what}");
    }
}

#[test]
fn every_function_of_flink_is_there() {
    let known: Vec<String> = registry::names();
    // Names that are no syntax and that are told to be supported are registered.
    for e in ENTRIES.iter().filter(|e| !matches!(e.status, Status::Not(_))) {
        for name in &e.names {
            let is_call = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            let syntax = matches!(
                e.section,
                "Comparison"
                    | "Logical"
                    | "Table functions"
                    | "Group windows"
                    | "MATCH_RECOGNIZE"
                    | "Value construction"
            ) || SYNTAX.contains(name);
            assert!(!is_call || syntax || known.iter().any(|k| k == name), "{name} is not registered");
        }
    }
}

/// Words that the parser turns into something else.
const SYNTAX: &[&str] = &[
    "CASE",
    "CAST",
    "DATE",
    "INTERVAL",
    "JSON",
    "OVERLAPS",
    "POSITION",
    "PROCTIME",
    "TIME",
    "TIMESTAMP",
    "TRIM",
    "TRY_CAST",
];

#[test]
fn descriptions() {
    let upper = describe("upper").unwrap();
    assert_eq!((upper.kind, upper.deterministic), ("SCALAR", true));
    assert_eq!(upper.signature, "UPPER(s)");
    assert_eq!(upper.example.as_deref(), Some("SELECT UPPER('abcé'); → ABCÉ"));
    assert_eq!(describe("SUM").map(|i| i.kind), Some("AGGREGATE"));
    assert_eq!(describe("rank").map(|i| i.kind), Some("WINDOW"));
    assert_eq!(describe("TUMBLE").map(|i| i.kind), Some("TABLE"));
    assert_eq!(describe("rand").map(|i| i.deterministic), Some(false));
    assert_eq!(describe("median").and_then(|i| i.note).as_deref(), Some("not one of Flink's"));
    assert_eq!(describe("nothing_at_all"), None);
    assert_eq!(describe("__json_raw"), None);
}

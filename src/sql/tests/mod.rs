mod alter;
mod ddl;
mod errors;
mod functions;
mod lexical;
mod queries;
mod statements;
mod unparse;

use crate::error::{Error, ErrorKind};
use crate::sql::ast::{ParsedStatement, Statement};
use crate::sql::parse_script;

/// The only statement of a script.
fn one(sql: &str) -> Statement {
    let mut all = all(sql);
    assert_eq!(all.len(), 1, "{sql}");
    all.remove(0).statement
}

fn all(sql: &str) -> Vec<ParsedStatement> {
    parse_script(sql).unwrap_or_else(|e| panic!("{sql}\n{e}"))
}

fn fails(sql: &str) -> Error {
    match parse_script(sql) {
        Ok(s) => panic!("should not parse: {sql}\n{s:?}"),
        Err(e) => e,
    }
}

/// Asserts kind, place (`line:column`) and parts of the message or hint.
fn refused(kind: ErrorKind, at: &str, sql: &str, parts: &[&str]) {
    let e = fails(sql);
    let text = e.to_string();
    assert_eq!(e.location().map(|l| l.to_string()).as_deref(), Some(at), "{sql}\n{text}");
    assert_eq!(e.kind(), kind, "{sql}\n{text}");
    for part in parts {
        assert!(text.contains(part), "{sql}\nno `{part}` in: {text}");
    }
}

//! Patterns of LIKE and SIMILAR TO.
//!
//! DataFusion's LIKE always escapes with `\`, Flink's with nothing unless `ESCAPE` says so; a pattern is therefore
//! rewritten into the `\` form, at planning where it is a literal.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::logical_expr::ScalarUDF;
use regex::Regex;

use crate::error::{Error, Result};
use crate::functions::udf::{Builtin, Ret, build_bools, build_strings};

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Builtin::new("__like_pattern", "s s", Ret::Type(DataType::Utf8), |c| {
            let (pattern, escape) = (c.str(0)?, c.str(1)?);
            build_strings(c.rows, |i, out| {
                let (Some(p), Some(e)) = (pattern.get(i), escape.get(i)) else { return Ok(false) };
                out.push_str(&to_backslash(p, e.chars().next())?);
                Ok(true)
            })
        })
        .build(),
        Builtin::new("__similar_to", "s s s", Ret::Type(DataType::Boolean), |c| {
            let (value, pattern, escape) = (c.str(0)?, c.str(1)?, c.str(2)?);
            let mut compiled: Option<(String, Regex)> = None;
            build_bools(c.rows, |i| {
                let (Some(v), Some(p), Some(e)) = (value.get(i), pattern.get(i), escape.get(i)) else {
                    return Ok(None);
                };
                if compiled.as_ref().is_none_or(|(known, _)| known != p) {
                    let text = similar_to_regex(p, e.chars().next())?;
                    let regex = Regex::new(&text)
                        .map_err(|_| Error::validation(format!("SIMILAR TO: '{p}' is no valid pattern")))?;
                    compiled = Some((p.to_owned(), regex));
                }
                Ok(compiled.as_ref().map(|(_, r)| r.is_match(v)))
            })
        })
        .build(),
    ]
}

/// A LIKE pattern with escape character `escape` as one with `\`.
pub(crate) fn to_backslash(pattern: &str, escape: Option<char>) -> Result<String> {
    if escape.is_none() && !pattern.contains('\\') {
        return Ok(pattern.to_owned());
    }
    let mut out = String::with_capacity(pattern.len() + 4);
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if Some(c) == escape {
            match chars.next() {
                Some(n) if n == '%' || n == '_' || Some(n) == escape => {
                    if n == '%' || n == '_' || n == '\\' {
                        out.push('\\');
                    }
                    out.push(n);
                }
                _ => {
                    return Err(Error::validation(format!(
                        "invalid escape sequence in LIKE pattern '{pattern}'"
                    ))
                    .hint(format!("after the escape character {c} only %, _ or itself may follow")));
                }
            }
        } else {
            if c == '\\' {
                out.push('\\');
            }
            out.push(c);
        }
    }
    Ok(out)
}

/// A SIMILAR TO pattern as a regular expression for the whole value.
fn similar_to_regex(pattern: &str, escape: Option<char>) -> Result<String> {
    const CLASSES: [(&str, &str); 7] = [
        ("[:ALPHA:]", r"\p{Alphabetic}"),
        ("[:UPPER:]", r"\p{Uppercase}"),
        ("[:LOWER:]", r"\p{Lowercase}"),
        ("[:DIGIT:]", r"\d"),
        ("[:SPACE:]", " "),
        ("[:WHITESPACE:]", r"\s"),
        ("[:ALNUM:]", r"\p{Alphabetic}\d"),
    ];
    let mut out = String::from("(?s)^(?:");
    let mut rest = pattern;
    let mut in_class = false;
    while let Some(c) = rest.chars().next() {
        if in_class
            && let Some((name, regex)) = CLASSES.iter().find(|(n, _)| starts_with_ignore_case(rest, n))
        {
            out.push_str(regex);
            rest = rest.get(name.len()..).unwrap_or("");
            continue;
        }
        rest = rest.get(c.len_utf8()..).unwrap_or("");
        if Some(c) == escape {
            let Some(n) = rest.chars().next() else {
                return Err(Error::validation(format!("invalid escape sequence in pattern '{pattern}'")));
            };
            rest = rest.get(n.len_utf8()..).unwrap_or("");
            out.push_str(&regex::escape(&n.to_string()));
            continue;
        }
        match c {
            '%' if !in_class => out.push_str(".*"),
            '_' if !in_class => out.push('.'),
            '[' => {
                in_class = true;
                out.push('[');
            }
            ']' => {
                in_class = false;
                out.push(']');
            }
            '|' | '*' | '+' | '?' | '{' | '}' | '(' | ')' | '^' | '-' => out.push(c),
            other => out.push_str(&regex::escape(&other.to_string())),
        }
    }
    out.push_str(")$");
    Ok(out)
}

fn starts_with_ignore_case(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|t| t.eq_ignore_ascii_case(prefix))
}

//! `/*+ … */`: OPTIONS after a table; STATE_TTL, LOOKUP and the join hints after SELECT. Everything else is refused by name.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use crate::error::{Error, Location, Result};
use crate::options::parse_duration;
use crate::sql::lookup_hint::LookupHint;

const SUPPORTED: &str = "supported: t /*+ OPTIONS('key' = 'value') */ after a table name, \
    SELECT /*+ STATE_TTL('t' = '1 d'), LOOKUP('table' = 't', …) */";

/// Hints that choose among join algorithms; one fits all here.
const JOIN_HINTS: &[&str] = &["BROADCAST", "SHUFFLE_HASH", "SHUFFLE_MERGE", "NEST_LOOP", "MULTI_JOIN"];

/// A table that a hint after SELECT names.
#[derive(Debug, Clone, PartialEq)]
pub struct HintedTable {
    /// Name of the hint.
    pub hint: String,
    /// Table, view or alias.
    pub table: String,
    /// STATE_TTL: milliseconds.
    pub state_ttl_ms: Option<i64>,
    /// LOOKUP: its options.
    pub lookup: Option<LookupHint>,
    /// Where it stands.
    pub location: Location,
}

/// Reads `/*+ OPTIONS('k' = 'v', …) */`.
pub(crate) fn table_options(c: &mut Cursor) -> Result<BTreeMap<String, String>> {
    c.bump();
    if !c.eat_keyword("OPTIONS") {
        return Err(unsupported(c));
    }
    let options = options(c)?;
    match c.peek() {
        Some(l) if l.is_hint_close() => {
            c.bump();
            Ok(options)
        }
        Some(l) if l.token == Token::Comma => {
            c.bump();
            Err(unsupported(c))
        }
        _ => Err(c.expected("`*/`")),
    }
}

/// Reads the hints after SELECT; the cursor is at their opening.
pub(crate) fn query_hints(c: &mut Cursor, found: &mut Vec<HintedTable>) -> Result<()> {
    c.bump();
    loop {
        let name = match c.peek().and_then(|l| l.bare_word()) {
            Some(name) => name.to_uppercase(),
            None => return Err(c.expected("the name of a hint").hint(SUPPORTED)),
        };
        if name == "STATE_TTL" {
            c.bump();
            c.parenthesized(|c| {
                let location = c.location();
                let table = c.string("the name of a table in single quotes")?;
                c.expect(&Token::Eq)?;
                let at = c.location();
                let value = option_value(c)?;
                let millis = parse_duration(&value).and_then(|d| i64::try_from(d.as_millis()).ok());
                let millis = millis.ok_or_else(|| {
                    Error::validation(format!("invalid time '{value}' in STATE_TTL"))
                        .at(at)
                        .hint("for example '1 d', '6 h' or '30 min'; '0 s' keeps state for ever")
                })?;
                found.push(HintedTable {
                    hint: name.clone(),
                    table,
                    state_ttl_ms: Some(millis),
                    lookup: None,
                    location,
                });
                Ok(())
            })?;
        } else if name == "LOOKUP" {
            let location = c.location();
            c.bump();
            let (table, hint) = LookupHint::parse(options(c)?).map_err(|e| e.at(location))?;
            found.push(HintedTable {
                hint: name.clone(),
                table,
                state_ttl_ms: None,
                lookup: Some(hint),
                location,
            });
        } else if JOIN_HINTS.contains(&name.as_str()) {
            c.bump();
            c.parenthesized(|c| {
                let location = c.location();
                let quoted = matches!(c.peek().map(|l| &l.token), Some(Token::SingleQuotedString(_)));
                let table = if quoted {
                    c.string("the name of a table")?
                } else {
                    let parts = c.name("the name of a table", 3)?.parts;
                    parts.last().cloned().unwrap_or_default()
                };
                found.push(HintedTable {
                    hint: name.clone(),
                    table,
                    state_ttl_ms: None,
                    lookup: None,
                    location,
                });
                Ok(())
            })?;
        } else {
            return Err(unsupported(c));
        }
        match c.peek() {
            Some(l) if l.is_hint_close() => {
                c.bump();
                return Ok(());
            }
            Some(l) if l.token == Token::Comma => c.bump(),
            _ => return Err(c.expected("`,` or `*/`")),
        };
    }
}

/// The error for OPTIONS that follow no table name.
pub(crate) fn misplaced(at: Location) -> Error {
    Error::syntax("this hint does not follow a table name").at(at).hint(SUPPORTED)
}

fn unsupported(c: &Cursor) -> Error {
    match c.peek().and_then(|l| l.bare_word()) {
        Some(name) if name.eq_ignore_ascii_case("OPTIONS") => misplaced(c.location()),
        Some(name) => Error::unsupported(format!("the hint {} is not supported", name.to_uppercase()))
            .at(c.location())
            .hint(SUPPORTED),
        None => c.expected("the name of a hint").hint(SUPPORTED),
    }
}

/// `('k' = 'v', …)`, as in WITH.
///
/// # Errors
/// Syntax; Validation for a key that appears twice.
pub(crate) fn options(c: &mut Cursor) -> Result<BTreeMap<String, String>> {
    let mut options = BTreeMap::new();
    c.parenthesized(|c| {
        let at = c.location();
        let key = c.string("an option key in single quotes")?;
        c.expect(&Token::Eq)?;
        let value = option_value(c)?;
        if options.insert(key.clone(), value).is_some() {
            return Err(Error::validation(format!("the option '{key}' is set twice"))
                .at(at)
                .hint("keep one of them"));
        }
        Ok(())
    })?;
    Ok(options)
}

fn option_value(c: &mut Cursor) -> Result<String> {
    match c.peek().map(|l| &l.token) {
        Some(Token::Number(n, _)) => {
            Err(c.expected("an option value in single quotes").hint(format!("write '{n}'")))
        }
        _ => c.string("an option value in single quotes"),
    }
}

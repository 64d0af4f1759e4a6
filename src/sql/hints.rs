//! `/*+ … */`: OPTIONS after a table is understood, everything else is refused by name.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use crate::error::{Error, Location, Result};

const SUPPORTED: &str = "supported: t /*+ OPTIONS('key' = 'value') */ after a table name";

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

/// The error for a hint after SELECT; the cursor is at its opening.
pub(crate) fn refuse_query_hint(c: &mut Cursor) -> Error {
    c.bump();
    unsupported(c)
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

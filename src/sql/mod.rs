//! The SQL front end: text to statements.
//!
//! ```text
//!  script text ─► lexer ─► split ─► parser ─► ast::Statement
//!                                     └─ query: fix-ups ─► sqlparser with FlinkDialect ─► validate
//!                                               depth: what nests too deep     chain: long rows of operators
//!  errors ──────► report: `error: FILE:LINE:COL: what, and what to do`, the source line, an underline
//! ```
//!
//! Every token is consumed or refused: what is not understood is an error with line, column and what is supported.
//! All places are places in the whole script.

mod alter;
pub mod ast;
mod chain;
mod cursor;
mod depth;
mod dialect;
mod hints;
mod json;
mod keywords;
mod lexer;
mod literals;
mod lookup_hint;
mod match_recognize;
mod parser;
mod query;
mod report;
mod split;
mod table_parts;
mod types;
mod unparse;
mod validate;
mod values;

#[cfg(test)]
mod tests;

pub(crate) use chain::balanced;
pub use depth::with_room;
pub use dialect::FlinkDialect;
pub use keywords::{nearest_name, quote_ident, suggestion};
pub(crate) use parser::NO_ANALYZE;
pub use report::render_error;
pub use types::cast_type;
pub use unparse::format_expr;
pub(crate) use validate::select_from;

use ast::{ParsedStatement, Query};
use cursor::Cursor;

use crate::error::{Location, Result};
use crate::sql::ast::SqlExpr;
use crate::types::LogicalType;

/// Parses every statement of a script.
///
/// # Errors
/// Syntax, Validation and Unsupported, with the place in the script.
pub fn parse_script(text: &str) -> Result<Vec<ParsedStatement>> {
    let tokens = lexer::tokenize(text)?;
    let mut statements = Vec::new();
    for tokens in split::statements(&tokens)? {
        let mut c = Cursor::new(text, tokens);
        let location = c.location();
        let statement = parser::statement(&mut c)?;
        statements.push(ParsedStatement { statement, location, text: c.source(0, tokens.len()).to_owned() });
    }
    Ok(statements)
}

/// Parses a text that is one query.
///
/// # Errors
/// As [`parse_script`].
pub fn parse_query(text: &str) -> Result<Query> {
    let tokens = lexer::tokenize(text)?;
    query::parse_query(&mut Cursor::new(text, &tokens))
}

/// Parses a text that is one expression.
///
/// # Errors
/// As [`parse_script`].
pub fn parse_expr(text: &str) -> Result<SqlExpr> {
    let tokens = lexer::tokenize(text)?;
    let mut c = Cursor::new(text, &tokens);
    let expr = query::parse_expr(&mut c, |_| false)?;
    c.expect_end()?;
    Ok(expr)
}

/// Parses the body of a function that is one expression and begins at a place of a script.
///
/// # Errors
/// As [`parse_script`], with the place in that script.
pub(crate) fn parse_body_expr(body: &str, at: Location) -> Result<SqlExpr> {
    parse_expr(&placed(body, at)).map_err(|e| e.at(at))
}

/// Parses the body of a function that is one query and begins at a place of a script.
///
/// # Errors
/// As [`parse_script`], with the place in that script.
pub(crate) fn parse_body_query(body: &str, at: Location) -> Result<Query> {
    let text = placed(body, at);
    let tokens = lexer::tokenize(&text)?;
    let mut c = Cursor::new(&text, &tokens);
    let parsed = query::parse_query(&mut c).and_then(|q| c.expect_end().map(|()| q));
    parsed.map_err(|e| e.at(at))
}

/// A text as far down and to the right as it stands in its script, without a semicolon at its end.
fn placed(body: &str, at: Location) -> String {
    let (lines, columns) = (at.line.saturating_sub(1) as usize, at.column.saturating_sub(1) as usize);
    let body = body.trim_end();
    let body = body.strip_suffix(';').unwrap_or(body);
    format!("{}{}{body}", "\n".repeat(lines), " ".repeat(columns))
}

/// Parses a text that is the name of a table, of one to three parts.
///
/// # Errors
/// As [`parse_script`].
pub fn parse_name(text: &str) -> Result<Vec<String>> {
    let tokens = lexer::tokenize(text)?;
    let mut c = Cursor::new(text, &tokens);
    let name = c.name("a table name", 3)?;
    c.expect_end()?;
    Ok(name.parts)
}

/// Parses a text that is one type, such as `ROW<a INT NOT NULL, b ARRAY<STRING>>`.
///
/// # Errors
/// As [`parse_script`].
pub fn parse_type(text: &str) -> Result<LogicalType> {
    let tokens = lexer::tokenize(text)?;
    let mut c = Cursor::new(text, &tokens);
    let ty = types::data_type(&mut c)?;
    c.expect_end()?;
    Ok(ty)
}

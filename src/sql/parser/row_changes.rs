//! `UPDATE`, `DELETE` and `TRUNCATE TABLE`.
//!
//! ```text
//!  UPDATE t SET a = e, … WHERE c ─► SELECT e, … FROM $target AS t WHERE c
//!  DELETE FROM t WHERE c         ─► SELECT 0    FROM $target AS t WHERE c
//! ```
//!
//! What rows change, and into what, is a query over the table: it is read as one, so that all a query can say can be said here.

use datafusion::sql::sqlparser::tokenizer::Token;

use crate::error::{Error, Location, Result};
use crate::sql::ast::{ROW_CHANGE_TARGET, RowChange, Statement};
use crate::sql::cursor::Cursor;
use crate::sql::lexer::{Lexeme, word};
use crate::sql::{keywords, query};

/// `UPDATE t [[AS] a] SET column = expression, … [WHERE condition]`.
pub(super) fn update(c: &mut Cursor) -> Result<Statement> {
    let at = c.location();
    c.expect_keyword("UPDATE")?;
    let table = c.name("a table name", 3)?;
    let alias = alias(c, &["SET"])?;
    c.expect_keyword("SET")?;
    let mut set: Vec<(String, Location)> = Vec::new();
    let mut values: Vec<&[Lexeme]> = Vec::new();
    loop {
        let (column, place) = c.identifier("a column name")?;
        if set.iter().any(|(name, _)| *name == column) {
            return Err(Error::validation(format!(
                "the column {} is set twice",
                keywords::quote_ident(&column)
            ))
            .at(place));
        }
        c.expect(&Token::Eq)?;
        let value = c.take_until(|l| l.token == Token::Comma || l.is_keyword("WHERE"));
        if value.is_empty() {
            return Err(c.expected("an expression"));
        }
        set.push((column, place));
        values.push(value);
        if !c.eat(&Token::Comma) {
            break;
        }
    }
    change(c, at, table, alias, set, &values)
}

/// `DELETE FROM t [[AS] a] [WHERE condition]`.
pub(super) fn delete(c: &mut Cursor) -> Result<Statement> {
    let at = c.location();
    c.expect_keywords(&["DELETE", "FROM"])?;
    let table = c.name("a table name", 3)?;
    let alias = alias(c, &["WHERE"])?;
    change(c, at, table, alias, Vec::new(), &[])
}

/// `TRUNCATE TABLE t`.
pub(super) fn truncate(c: &mut Cursor) -> Result<Statement> {
    c.expect_keywords(&["TRUNCATE", "TABLE"])?;
    Ok(Statement::Truncate(c.name("a table name", 3)?))
}

/// A name of the table for this statement.
fn alias(c: &mut Cursor, next: &[&str]) -> Result<Option<String>> {
    let is_named = c.eat_keyword("AS");
    if !is_named && (c.at_end() || next.iter().any(|k| c.at_keyword(k))) {
        return Ok(None);
    }
    if !is_named && c.peek().is_some_and(Lexeme::is_hint_open) {
        return Err(Error::unsupported("a hint on the table of an UPDATE or DELETE is not supported")
            .at(c.location()));
    }
    c.identifier("a name for the table").map(|(name, _)| Some(name))
}

fn change(
    c: &mut Cursor,
    at: Location,
    table: crate::sql::ast::Name,
    alias: Option<String>,
    set: Vec<(String, Location)>,
    values: &[&[Lexeme]],
) -> Result<Statement> {
    let has_condition = c.at_keyword("WHERE");
    if !has_condition && !c.at_end() {
        return Err(c.expected_keyword(&["WHERE"]));
    }
    let condition = c.rest();
    c.seek(c.pos() + condition.len());
    let name = alias.or_else(|| table.parts.last().cloned()).unwrap_or_default();
    // What is not written stands where the statement begins.
    let lo = condition.first().or_else(|| values.first().and_then(|v| v.first())).map_or(0, |l| l.lo);
    let made = |token| Lexeme { token, start: at, end: at, lo, hi: lo };
    let keyword = |k: &str| made(word(k.to_owned(), None));
    let mut tokens = vec![keyword("SELECT")];
    if values.is_empty() {
        tokens.push(made(Token::Number("0".into(), false)));
    }
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            tokens.push(made(Token::Comma));
        }
        // In brackets, so that nothing of it is taken for an alias.
        tokens.push(made(Token::LParen));
        tokens.extend(value.iter().cloned());
        tokens.push(made(Token::RParen));
    }
    tokens.extend([
        keyword("FROM"),
        made(word(ROW_CHANGE_TARGET.to_owned(), Some('`'))),
        keyword("AS"),
        made(word(name, Some('`'))),
    ]);
    tokens.extend(condition.iter().cloned());
    let query = query::parse_query(&mut Cursor::new(c.text, &tokens))?;
    Ok(Statement::RowChange(RowChange { table, set, query, has_condition }))
}

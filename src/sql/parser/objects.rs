//! `CREATE VIEW|CATALOG|DATABASE`, `DROP`, `USE`.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::tokenizer::Token;

use super::{comment, if_not_exists};
use crate::error::{Error, Result};
use crate::sql::ast::{CreateView, DropKind, Statement};
use crate::sql::cursor::Cursor;
use crate::sql::{hints, keywords, query};

pub(super) fn create_view(c: &mut Cursor, temporary: bool) -> Result<Statement> {
    c.expect_keyword("VIEW")?;
    let if_not_exists = if_not_exists(c)?;
    let name = c.name("a view name", 3)?;
    let mut columns: Vec<String> = Vec::new();
    if c.at(&Token::LParen) {
        c.parenthesized(|c| {
            let (column, at) = c.identifier("a column name")?;
            if columns.contains(&column) {
                return Err(Error::validation(format!(
                    "the column {} appears twice",
                    keywords::quote_ident(&column)
                ))
                .at(at));
            }
            if c.at_keyword("COMMENT") {
                return Err(Error::unsupported("comments on the columns of a view are not supported")
                    .at(c.location()));
            }
            columns.push(column);
            Ok(())
        })?;
    }
    let comment = comment(c)?;
    c.expect_keyword("AS")?;
    let query = query::parse_query(c)?;
    Ok(Statement::CreateView(CreateView { name, temporary, if_not_exists, columns, comment, query }))
}

pub(super) fn create_catalog(c: &mut Cursor) -> Result<Statement> {
    c.expect_keyword("CATALOG")?;
    let if_not_exists = if_not_exists(c)?;
    let (name, location) = c.identifier("a catalog name")?;
    let comment = comment(c)?;
    let options = with(c)?;
    Ok(Statement::CreateCatalog { name, if_not_exists, comment, options, location })
}

pub(super) fn create_database(c: &mut Cursor) -> Result<Statement> {
    c.expect_keyword("DATABASE")?;
    let if_not_exists = if_not_exists(c)?;
    let name = c.name("a database name", 2)?;
    let comment = comment(c)?;
    let options = with(c)?;
    Ok(Statement::CreateDatabase { name, if_not_exists, comment, options })
}

fn with(c: &mut Cursor) -> Result<BTreeMap<String, String>> {
    if c.eat_keyword("WITH") { hints::options(c) } else { Ok(BTreeMap::new()) }
}

pub(super) fn drop(c: &mut Cursor) -> Result<Statement> {
    c.bump();
    let temporary = c.eat_keyword("TEMPORARY");
    let at = c.location();
    if super::functions::begins(c) {
        return super::functions::drop(c, temporary);
    }
    let kinds: &[&str] =
        if temporary { &["TABLE", "VIEW"] } else { &["TABLE", "VIEW", "DATABASE", "CATALOG"] };
    let (kind, what, parts) = match c.eat_one_of(kinds) {
        Some("TABLE") => (DropKind::Table, "a table name", 3),
        Some("VIEW") => (DropKind::View, "a view name", 3),
        Some("DATABASE") => (DropKind::Database, "a database name", 2),
        Some(_) => (DropKind::Catalog, "a catalog name", 1),
        None => {
            let other = ["MODEL", "MATERIALIZED", "CONNECTION"].iter().find(|k| c.at_keyword(k));
            return Err(match other {
                Some(k) => Error::unsupported(format!("DROP {k} is not supported"))
                    .at(at)
                    .hint("DROP takes a TABLE, VIEW, DATABASE, CATALOG or FUNCTION"),
                None => c.expected_keyword(kinds),
            });
        }
    };
    let if_exists = c.at_keyword("IF");
    if if_exists {
        c.expect_keywords(&["IF", "EXISTS"])?;
    }
    let name = c.name(what, parts)?;
    let mut cascade = false;
    if kind == DropKind::Database && !c.eat_keyword("RESTRICT") {
        cascade = c.eat_keyword("CASCADE");
    }
    Ok(Statement::Drop { kind, name, if_exists, temporary, cascade })
}

pub(super) fn use_(c: &mut Cursor) -> Result<Statement> {
    c.bump();
    if c.at_keyword("MODULES") {
        return Err(Error::unsupported("USE MODULES is not supported")
            .at(c.location())
            .hint("USE CATALOG c, or USE database"));
    }
    // `catalog` is no reserved word: alone it is the name of a database.
    if c.at_keyword("CATALOG") && c.nth(1).is_some_and(|l| l.token != Token::Period) {
        c.bump();
        return Ok(Statement::UseCatalog(c.name("a catalog name", 1)?));
    }
    Ok(Statement::UseDatabase(c.name("a database name", 2)?))
}

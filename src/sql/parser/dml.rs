//! `INSERT`, statement sets, `EXPLAIN`.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::tokenizer::Token;

use super::{is_query, row_changes};
use crate::error::{Error, Location, Result};
use crate::sql::ast::{ConflictStrategy, ExplainDetail, Insert, Statement};
use crate::sql::cursor::Cursor;
use crate::sql::lexer::Lexeme;
use crate::sql::{hints, keywords, query};

pub(super) fn insert(c: &mut Cursor) -> Result<Insert> {
    c.expect_keyword("INSERT")?;
    let overwrite = match c.eat_one_of(&["INTO", "OVERWRITE"]) {
        Some("INTO") => false,
        Some(_) => true,
        None => return Err(c.expected_keyword(&["INTO", "OVERWRITE"])),
    };
    c.eat_keyword("TABLE");
    let table = c.name("a table name", 3)?;
    let hinted = c.peek().is_some_and(Lexeme::is_hint_open);
    let options = if hinted { hints::table_options(c)? } else { BTreeMap::new() };
    let mut partition: Vec<(String, crate::sql::ast::SqlExpr)> = Vec::new();
    if c.eat_keyword("PARTITION") {
        partition = c.parenthesized(|c| {
            let (column, _) = c.identifier("a partition column")?;
            c.expect(&Token::Eq)?;
            Ok((column, query::parse_expr(c, |l| l.token == Token::Comma)?))
        })?;
    }
    let mut columns: Vec<(String, Location)> = Vec::new();
    if column_list_ahead(c) {
        c.parenthesized(|c| {
            let (column, at) = c.identifier("a column name")?;
            if columns.iter().any(|(name, _)| *name == column) {
                return Err(Error::validation(format!(
                    "the column {} appears twice",
                    keywords::quote_ident(&column)
                ))
                .at(at));
            }
            columns.push((column, at));
            Ok(())
        })?;
    }
    if !is_query(c) {
        return Err(c.expected("a query or VALUES"));
    }
    let query = query::parse_query_until(c, on_conflict_ahead)?;
    let on_conflict = on_conflict(c)?;
    Ok(Insert { table, options, overwrite, partition, columns, query, on_conflict })
}

/// Whether `(` begins a column list and not a query.
fn column_list_ahead(c: &Cursor) -> bool {
    c.at(&Token::LParen)
        && !["SELECT", "WITH", "VALUES", "TABLE"].iter().any(|k| c.nth_is_keyword(1, k))
        && c.nth(1).is_some_and(|l| l.token != Token::LParen)
}

/// Whether `ON CONFLICT DO` follows; `ON conflict = …` of a join does not look like that.
fn on_conflict_ahead(c: &Cursor) -> bool {
    c.at_keyword("ON") && c.nth_is_keyword(1, "CONFLICT") && c.nth_is_keyword(2, "DO")
}

/// `ON CONFLICT DO NOTHING | ERROR | DEDUPLICATE`.
fn on_conflict(c: &mut Cursor) -> Result<Option<(ConflictStrategy, Location)>> {
    let location = c.location();
    if !c.eat_keyword("ON") {
        return Ok(None);
    }
    c.expect_keywords(&["CONFLICT", "DO"])?;
    let strategy = match c.eat_one_of(&["NOTHING", "ERROR", "DEDUPLICATE"]) {
        Some("NOTHING") => ConflictStrategy::Nothing,
        Some("ERROR") => ConflictStrategy::Error,
        Some(_) => ConflictStrategy::Deduplicate,
        None => return Err(c.expected_keyword(&["NOTHING", "ERROR", "DEDUPLICATE"])),
    };
    if !c.at_end() {
        return Err(c.expected("the end of the statement"));
    }
    Ok(Some((strategy, location)))
}

/// `EXECUTE INSERT …`, `EXECUTE STATEMENT SET BEGIN … END`, `BEGIN STATEMENT SET; … END`.
pub(super) fn execute(c: &mut Cursor) -> Result<Statement> {
    if c.eat_keyword("BEGIN") {
        c.expect_keywords(&["STATEMENT", "SET"])?;
        c.expect(&Token::SemiColon)?;
        return set_body(c);
    }
    c.expect_keyword("EXECUTE")?;
    if c.at_keyword("INSERT") {
        return Ok(Statement::Insert(insert(c)?));
    }
    if c.at_keyword("PLAN") {
        return Err(Error::unsupported("EXECUTE PLAN is not supported")
            .at(c.location())
            .hint("run the statement itself"));
    }
    if is_query(c) {
        return Ok(Statement::Query(query::parse_query(c)?));
    }
    statement_set(c)
}

/// `STATEMENT SET BEGIN … END`.
fn statement_set(c: &mut Cursor) -> Result<Statement> {
    c.expect_keywords(&["STATEMENT", "SET", "BEGIN"])?;
    set_body(c)
}

fn set_body(c: &mut Cursor) -> Result<Statement> {
    let mut inserts = Vec::new();
    loop {
        if c.at_keyword("END") && c.nth(1).is_none_or(|l| l.token == Token::SemiColon) {
            break;
        }
        let tokens = c.take_until(|l| l.token == Token::SemiColon);
        let mut inner = Cursor::new(c.text, tokens);
        inner.eat_keyword("EXECUTE");
        if !inner.at_keyword("INSERT") {
            let e =
                if tokens.is_empty() { c.expected("INSERT or END") } else { inner.expected("INSERT or END") };
            return Err(e.hint("a statement set holds INSERT statements, each ended by a semicolon"));
        }
        inserts.push(insert(&mut inner)?);
        inner.expect_end()?;
        c.expect(&Token::SemiColon)?;
    }
    if inserts.is_empty() {
        return Err(c.expected("INSERT").hint("a statement set holds at least one INSERT"));
    }
    c.expect_keyword("END")?;
    Ok(Statement::StatementSet(inserts))
}

const DETAILS: [&str; 5] =
    ["ESTIMATED_COST", "CHANGELOG_MODE", "JSON_EXECUTION_PLAN", "PLAN_ADVICE", "ANALYZE"];

pub(super) fn explain(c: &mut Cursor) -> Result<Statement> {
    c.bump();
    let mut details: Vec<ExplainDetail> = Vec::new();
    if c.at_keywords(&["PLAN", "FOR"]) {
        c.expect_keywords(&["PLAN", "FOR"])?;
    } else {
        while let Some(word) = c.eat_one_of(&DETAILS) {
            let detail = match word {
                "ESTIMATED_COST" => ExplainDetail::EstimatedCost,
                "CHANGELOG_MODE" => ExplainDetail::ChangelogMode,
                "JSON_EXECUTION_PLAN" => ExplainDetail::JsonExecutionPlan,
                "ANALYZE" => ExplainDetail::Analyze,
                _ => ExplainDetail::PlanAdvice,
            };
            if !details.contains(&detail) {
                details.push(detail);
            }
            if !c.eat(&Token::Comma) {
                break;
            }
            if !DETAILS.iter().any(|d| c.at_keyword(d)) {
                return Err(c.expected_keyword(&DETAILS));
            }
        }
    }
    let target = if is_query(c) {
        Statement::Query(query::parse_query(c)?)
    } else if c.at_keyword("INSERT") {
        Statement::Insert(insert(c)?)
    } else if c.at_keyword("UPDATE") {
        row_changes::update(c)?
    } else if c.at_keyword("DELETE") {
        row_changes::delete(c)?
    } else if c.at_keyword("EXECUTE") || c.at_keyword("BEGIN") {
        execute(c)?
    } else if c.at_keyword("STATEMENT") {
        statement_set(c)?
    } else {
        let mut words = vec!["SELECT", "INSERT", "UPDATE", "DELETE", "STATEMENT SET"];
        words.extend(["PLAN FOR"]);
        words.extend(DETAILS);
        return Err(c.expected_keyword(&words));
    };
    Ok(Statement::Explain { details, target: Box::new(target) })
}

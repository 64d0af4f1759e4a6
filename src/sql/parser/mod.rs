//! Statements: one file per family, each reading from a [`Cursor`].
//!
//! ```text
//!  tokens of one statement ─► first keyword ─┬─ create_table  CREATE TABLE
//!                                            ├─ alter         ALTER of everything, ANALYZE
//!                                            ├─ objects       CREATE/DROP/USE of everything else
//!                                            ├─ functions     CREATE/ALTER/DROP FUNCTION
//!                                            ├─ dml           INSERT, statement sets, EXPLAIN
//!                                            ├─ row_changes   UPDATE, DELETE, TRUNCATE
//!                                            ├─ show          SHOW, DESCRIBE, SET, RESET
//!                                            └─ query         everything that yields rows
//! ```

mod alter;
mod create_table;
mod dml;
mod functions;
mod objects;
mod row_changes;
mod show;

pub(crate) use alter::NO_ANALYZE;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::ast::Statement;
use super::cursor::Cursor;
use super::{keywords, query};
use crate::error::{Error, Result};

/// First words of the statements there are.
const STATEMENTS: &[&str] = &[
    "SELECT", "WITH", "VALUES", "INSERT", "EXECUTE", "BEGIN", "EXPLAIN", "CREATE", "DROP", "USE", "SHOW",
    "DESCRIBE", "DESC", "SET", "RESET", "UPDATE", "DELETE", "TRUNCATE", "ALTER",
];

const SUPPORTED: &str = "statements are SELECT, WITH, VALUES, INSERT, UPDATE, DELETE, TRUNCATE, EXECUTE STATEMENT SET, EXPLAIN, \
    CREATE|ALTER|DROP TABLE|VIEW|CATALOG|DATABASE|FUNCTION, USE, SHOW, DESCRIBE, SET and RESET";

/// The statement at the cursor, to its end.
///
/// # Errors
/// Syntax and Unsupported, with the place.
pub(crate) fn statement(c: &mut Cursor) -> Result<Statement> {
    if is_query(c) {
        return Ok(Statement::Query(query::parse_query(c)?));
    }
    let at = c.location();
    let Some(first) = c.peek().and_then(|l| l.bare_word()) else {
        return Err(c.expected("a statement").hint(SUPPORTED));
    };
    let upper = first.to_ascii_uppercase();
    let statement = match upper.as_str() {
        "INSERT" => Statement::Insert(dml::insert(c)?),
        "EXECUTE" | "BEGIN" => dml::execute(c)?,
        "UPDATE" => row_changes::update(c)?,
        "DELETE" => row_changes::delete(c)?,
        "TRUNCATE" => row_changes::truncate(c)?,
        "EXPLAIN" => dml::explain(c)?,
        "CREATE" => create(c)?,
        "ALTER" => alter::alter(c)?,
        "ANALYZE" => alter::analyze(c)?,
        "DROP" => objects::drop(c)?,
        "USE" => objects::use_(c)?,
        "SHOW" => show::show(c)?,
        "DESCRIBE" | "DESC" => show::describe(c)?,
        "SET" => show::set(c)?,
        "RESET" => show::reset(c)?,
        "CALL" | "COMPILE" | "LOAD" | "MERGE" | "REPLACE" | "STOP" | "UNLOAD" | "UPSERT" | "ADD"
        | "REMOVE" | "QUIT" | "EXIT" | "CLEAR" | "HELP" => {
            return Err(Error::unsupported(format!("{upper} statements are not supported"))
                .at(at)
                .hint(SUPPORTED));
        }
        _ => {
            let e = c.expected("a statement");
            return Err(match keywords::nearest(first, STATEMENTS) {
                Some(k) => e.hint(format!("did you mean {k}?")),
                None => e.hint(SUPPORTED),
            });
        }
    };
    c.expect_end()?;
    Ok(statement)
}

/// Whether a query begins at the cursor.
fn is_query(c: &Cursor) -> bool {
    ["SELECT", "WITH", "VALUES", "TABLE"].iter().any(|k| c.at_keyword(k)) || c.at(&Token::LParen)
}

fn create(c: &mut Cursor) -> Result<Statement> {
    c.bump();
    let or = c.at_keyword("OR").then(|| c.location());
    let replace = c.eat_keywords(&["OR", "REPLACE"]);
    let temporary = c.eat_keyword("TEMPORARY");
    let at = c.location();
    if functions::begins(c) {
        return functions::create(c, temporary, replace);
    }
    if let Some(or) = or {
        return Err(Error::unsupported("CREATE OR REPLACE is not supported but for functions")
            .at(or)
            .hint("write DROP … IF EXISTS, then CREATE"));
    }
    match c.peek().and_then(|l| l.bare_word()).map(str::to_ascii_uppercase).as_deref() {
        Some("TABLE") => Ok(Statement::CreateTable(Box::new(create_table::create_table(c, temporary)?))),
        Some("VIEW") => objects::create_view(c, temporary),
        Some("CATALOG") if !temporary => objects::create_catalog(c),
        Some("DATABASE") if !temporary => objects::create_database(c),
        Some(kind @ ("MODEL" | "MATERIALIZED" | "CONNECTION")) => {
            let kind = if kind == "MATERIALIZED" { "MATERIALIZED TABLE" } else { kind };
            Err(Error::unsupported(format!("CREATE {kind} is not supported"))
                .at(at)
                .hint("CREATE makes a TABLE, VIEW, CATALOG, DATABASE or FUNCTION"))
        }
        _ if temporary => Err(c.expected_keyword(&["TABLE", "VIEW", "FUNCTION"])),
        _ => Err(c.expected_keyword(&["TABLE", "VIEW", "CATALOG", "DATABASE", "FUNCTION"])),
    }
}

/// `IF NOT EXISTS`.
fn if_not_exists(c: &mut Cursor) -> Result<bool> {
    if !c.at_keywords(&["IF", "NOT"]) {
        return Ok(false);
    }
    c.expect_keywords(&["IF", "NOT", "EXISTS"])?;
    Ok(true)
}

/// `COMMENT '…'`.
fn comment(c: &mut Cursor) -> Result<Option<String>> {
    if c.eat_keyword("COMMENT") { c.string("a comment in single quotes").map(Some) } else { Ok(None) }
}

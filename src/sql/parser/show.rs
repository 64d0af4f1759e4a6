//! `SHOW`, `DESCRIBE`, `SET`, `RESET`.

use datafusion::sql::sqlparser::tokenizer::Token;

use crate::error::{Error, Result};
use crate::sql::ast::{Name, NamePattern, Show, Statement};
use crate::sql::cursor::Cursor;

const SHOWN: [&str; 8] =
    ["CATALOGS", "DATABASES", "TABLES", "VIEWS", "COLUMNS", "FUNCTIONS", "CURRENT", "CREATE"];

pub(super) fn show(c: &mut Cursor) -> Result<Statement> {
    c.bump();
    let at = c.location();
    let Some(what) = c.eat_one_of(&SHOWN) else {
        if c.eat_keywords(&["USER", "FUNCTIONS"]) {
            return Ok(Statement::Show(Show::UserFunctions(pattern(c)?)));
        }
        let others = [
            "MATERIALIZED",
            "PARTITIONS",
            "PROCEDURES",
            "FULL",
            "MODULES",
            "JARS",
            "JOBS",
            "MODELS",
            "CONNECTIONS",
        ];
        return Err(match others.iter().find(|k| c.at_keyword(k)) {
            Some(k) => Error::unsupported(format!("SHOW {k} is not supported")).at(at).hint(
                "SHOW takes CATALOGS, DATABASES, TABLES, VIEWS, COLUMNS FROM t, FUNCTIONS, CURRENT CATALOG|DATABASE, CREATE TABLE|VIEW|CATALOG|FUNCTION",
            ),
            None => c.expected_keyword(&SHOWN),
        });
    };
    Ok(Statement::Show(match what {
        "CATALOGS" => Show::Catalogs(pattern(c)?),
        "DATABASES" => Show::Databases(from(c, "a catalog name", 1)?, pattern(c)?),
        "TABLES" => Show::Tables(from(c, "a database name", 2)?, pattern(c)?),
        "VIEWS" => Show::Views(from(c, "a database name", 2)?, pattern(c)?),
        "COLUMNS" => match from(c, "a table name", 3)? {
            Some(table) => Show::Columns(table, pattern(c)?),
            None => return Err(c.expected_keyword(&["FROM", "IN"])),
        },
        "FUNCTIONS" => Show::Functions(pattern(c)?),
        "CURRENT" => match c.eat_one_of(&["CATALOG", "DATABASE"]) {
            Some("CATALOG") => Show::CurrentCatalog,
            Some(_) => Show::CurrentDatabase,
            None => return Err(c.expected_keyword(&["CATALOG", "DATABASE"])),
        },
        _ => match c.eat_one_of(&["TABLE", "VIEW", "CATALOG", "FUNCTION"]) {
            Some("TABLE") => Show::CreateTable(c.name("a table name", 3)?),
            Some("VIEW") => Show::CreateView(c.name("a view name", 3)?),
            Some("FUNCTION") => Show::CreateFunction(function_name(c)?),
            Some(_) => Show::CreateCatalog(c.name("a catalog name", 1)?),
            None => return Err(c.expected_keyword(&["TABLE", "VIEW", "CATALOG", "FUNCTION"])),
        },
    }))
}

/// `FROM name` or `IN name`.
fn from(c: &mut Cursor, what: &str, parts: usize) -> Result<Option<Name>> {
    if c.eat_one_of(&["FROM", "IN"]).is_some() { c.name(what, parts).map(Some) } else { Ok(None) }
}

/// `[NOT] LIKE|ILIKE 'pattern'`.
fn pattern(c: &mut Cursor) -> Result<Option<NamePattern>> {
    let negated = c.eat_keyword("NOT");
    let case_insensitive = match c.eat_one_of(&["LIKE", "ILIKE"]) {
        Some(word) => word == "ILIKE",
        None if negated => return Err(c.expected_keyword(&["LIKE", "ILIKE"])),
        None => return Ok(None),
    };
    let pattern = c.string("a pattern in single quotes")?;
    Ok(Some(NamePattern { negated, case_insensitive, pattern }))
}

pub(super) fn describe(c: &mut Cursor) -> Result<Statement> {
    c.bump();
    // The words below are no reserved words: alone they are names of tables.
    let more = c.nth(1).is_some_and(|l| l.token != Token::Period);
    if more {
        if c.eat_keyword("FUNCTION") {
            let extended = c.eat_keyword("EXTENDED");
            return Ok(Statement::DescribeFunction { name: function_name(c)?, extended });
        }
        for word in ["MODEL", "JOB", "CONNECTION"] {
            if c.at_keyword(word) {
                return Err(Error::unsupported(format!("DESCRIBE {word} is not supported"))
                    .at(c.location())
                    .hint("DESCRIBE takes [TABLE] t, CATALOG c, DATABASE d or FUNCTION f"));
            }
        }
    }
    let kind = if more { c.eat_one_of(&["CATALOG", "DATABASE"]) } else { None };
    c.eat_keyword("TABLE");
    if c.at_keyword("EXTENDED") {
        return Err(Error::unsupported("DESCRIBE … EXTENDED is not supported")
            .at(c.location())
            .hint("leave EXTENDED out"));
    }
    Ok(match kind {
        Some("CATALOG") => Statement::DescribeCatalog(c.name("a catalog name", 1)?),
        Some(_) => Statement::DescribeDatabase(c.name("a database name", 2)?),
        None => Statement::DescribeTable(c.name("a table name", 3)?),
    })
}

/// The name of a function: many are reserved words.
fn function_name(c: &mut Cursor) -> Result<Name> {
    let location = c.location();
    match c.peek().and_then(|l| l.bare_word()) {
        Some(word) if c.nth(1).is_none() => {
            let parts = vec![word.to_owned()];
            c.bump();
            Ok(Name { parts, location })
        }
        _ => c.name("a function name", 3),
    }
}

/// `SET`, `SET 'k' = 'v'` and, as Flink's client tolerates, `SET k = v`.
pub(super) fn set(c: &mut Cursor) -> Result<Statement> {
    c.bump();
    if c.at_end() {
        return Ok(Statement::Set(None));
    }
    let key = key(c)?;
    c.expect(&Token::Eq)?;
    let from = c.pos();
    let quoted = matches!(c.peek().map(|l| &l.token), Some(Token::SingleQuotedString(_)));
    let value = if quoted {
        c.string("a value")?
    } else {
        while c.bump().is_some() {}
        c.source(from, c.pos()).trim().to_owned()
    };
    if from == c.pos() {
        return Err(c.expected("a value in single quotes"));
    }
    Ok(Statement::Set(Some((key, value))))
}

pub(super) fn reset(c: &mut Cursor) -> Result<Statement> {
    c.bump();
    Ok(Statement::Reset(if c.at_end() { None } else { Some(key(c)?) }))
}

/// A configuration key, quoted or bare.
fn key(c: &mut Cursor) -> Result<String> {
    if matches!(c.peek().map(|l| &l.token), Some(Token::SingleQuotedString(_))) {
        return c.string("a key");
    }
    let from = c.pos();
    while c.peek().is_some_and(|l| l.token != Token::Eq) {
        let glued = matches!(
            c.peek().map(|l| &l.token),
            Some(Token::Word(_) | Token::Period | Token::Minus | Token::Number(..))
        );
        if !glued {
            return Err(c.expected("a key in single quotes"));
        }
        c.bump();
    }
    let key = c.source(from, c.pos());
    if key.is_empty() || key.contains(char::is_whitespace) {
        c.seek(from);
        return Err(c.expected("a key in single quotes").hint("write SET 'key' = 'value'"));
    }
    Ok(key.to_owned())
}

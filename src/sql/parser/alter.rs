//! `ALTER …` and `ANALYZE TABLE …`.
//!
//! Columns, keys and watermarks of `ADD` and `MODIFY` are read as those of CREATE TABLE are.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::create_table::{Place, element, empty_table};
use super::functions;
use crate::error::{Error, Location, Result};
use crate::sql::alter::{
    Alter, Analyze, CatalogAction, ColumnPosition, PlacedColumn, TableAction, TableChange, TableElements,
    ViewAction,
};
use crate::sql::ast::Statement;
use crate::sql::cursor::Cursor;
use crate::sql::{hints, query};

const TABLE_ACTIONS: [&str; 6] = ["RENAME", "SET", "RESET", "ADD", "MODIFY", "DROP"];

/// `ALTER TABLE|VIEW|DATABASE|CATALOG|FUNCTION …`.
pub(super) fn alter(c: &mut Cursor) -> Result<Statement> {
    c.expect_keyword("ALTER")?;
    let temporary = c.eat_keyword("TEMPORARY");
    let at = c.location();
    if functions::begins(c) {
        return functions::alter(c, temporary).map(Statement::Alter);
    }
    if temporary {
        return match c.peek().and_then(|l| l.bare_word()).map(str::to_ascii_uppercase).as_deref() {
            Some(kind @ ("TABLE" | "VIEW")) => {
                Err(Error::unsupported(format!("ALTER TEMPORARY {kind} is not supported, as in Flink"))
                    .at(at)
                    .hint(format!("DROP TEMPORARY {kind}, and create it again")))
            }
            _ => Err(c.expected_keyword(&["FUNCTION"])),
        };
    }
    let kinds = ["TABLE", "VIEW", "DATABASE", "CATALOG"];
    let alter = match c.eat_one_of(&kinds) {
        Some("TABLE") => table(c)?,
        Some("VIEW") => view(c)?,
        Some("DATABASE") => {
            let name = c.name("a database name", 2)?;
            c.expect_keyword("SET")?;
            Alter::Database { name, options: hints::options(c)? }
        }
        Some(_) => catalog(c)?,
        None => {
            let other = ["MODEL", "MATERIALIZED", "CONNECTION"].iter().find(|k| c.at_keyword(k));
            return Err(match other {
                Some(k) => Error::unsupported(format!("ALTER {k} is not supported"))
                    .at(at)
                    .hint("ALTER takes a TABLE, VIEW, DATABASE, CATALOG or FUNCTION"),
                None => c.expected_keyword(&["TABLE", "VIEW", "DATABASE", "CATALOG", "FUNCTION"]),
            });
        }
    };
    Ok(Statement::Alter(alter))
}

/// `IF EXISTS`.
pub(super) fn if_exists(c: &mut Cursor) -> Result<bool> {
    if !c.at_keyword("IF") {
        return Ok(false);
    }
    c.expect_keywords(&["IF", "EXISTS"])?;
    Ok(true)
}

/// `[IF EXISTS] t action` behind `ALTER TABLE`.
fn table(c: &mut Cursor) -> Result<Alter> {
    let if_exists = if_exists(c)?;
    let name = c.name("a table name", 3)?;
    let change = match c.eat_one_of(&TABLE_ACTIONS) {
        Some("RENAME") if c.eat_keyword("TO") => {
            let action = TableAction::RenameTo(c.name("the new name of the table", 3)?);
            return Ok(Alter::Table { name, if_exists, action });
        }
        Some("RENAME") => {
            c.eat_keyword("COLUMN");
            let from = column_name(c, "a column name, or TO and the new name of the table")?;
            c.expect_keyword("TO")?;
            TableChange::RenameColumn { from, to: column_name(c, "the new name of the column")? }
        }
        Some("SET") => TableChange::Set(hints::options(c)?),
        Some("RESET") => TableChange::Reset(keys(c)?),
        Some("ADD") => TableChange::Add(Box::new(elements(c, "ADD")?)),
        Some("MODIFY") => TableChange::Modify(Box::new(elements(c, "MODIFY")?)),
        Some(_) => drop_of_table(c)?,
        None => return Err(c.expected_keyword(&TABLE_ACTIONS)),
    };
    Ok(Alter::Table { name, if_exists, action: TableAction::Change(change) })
}

/// `('k', …)`.
fn keys(c: &mut Cursor) -> Result<Vec<(String, Location)>> {
    if c.at(&Token::LParen) && c.nth(1).is_some_and(|l| l.token == Token::RParen) {
        return Err(Error::validation("RESET needs at least one key").at(c.location()));
    }
    c.parenthesized(|c| {
        let at = c.location();
        Ok((c.string("an option key in single quotes")?, at))
    })
}

/// What is no column: partitions and distribution.
fn no_column(c: &Cursor, verb: &str) -> Result<()> {
    if c.at_keyword("PARTITION") {
        let e = Error::unsupported(format!("{verb} PARTITION is not supported")).at(c.location());
        return Err(if verb == "DROP" {
            e.hint("of an Iceberg table, DELETE FROM t WHERE … takes the rows of a partition away; of files, delete the folder")
        } else {
            e.hint("partitions need no declaration: they are found in the folders of files and in the metadata of Iceberg tables")
        });
    }
    if c.at_keyword("DISTRIBUTION") {
        return Err(Error::unsupported("DISTRIBUTION is not supported")
            .at(c.location())
            .hint("for Iceberg tables PARTITIONED BY (bucket(16, id)) makes buckets"));
    }
    Ok(())
}

/// A column name of one part.
fn column_name(c: &mut Cursor, what: &str) -> Result<(String, Location)> {
    let (name, at) = c.identifier(what)?;
    if c.at(&Token::Period) {
        return Err(nested(at));
    }
    Ok((name, at))
}

fn nested(at: Location) -> Error {
    Error::unsupported("a field of a row cannot be altered by itself, as in Flink")
        .at(at)
        .hint("write the whole type of the column: MODIFY r ROW<a INT, b STRING, …>")
}

/// `element` or `(element, …)` behind `ADD` or `MODIFY`.
fn elements(c: &mut Cursor, verb: &str) -> Result<TableElements> {
    no_column(c, verb)?;
    let mut elements = TableElements::default();
    if c.at(&Token::LParen) {
        c.parenthesized(|c| one(c, verb, &mut elements))?;
    } else {
        c.eat_keyword("COLUMN");
        one(c, verb, &mut elements)?;
    }
    Ok(elements)
}

/// A column with its position, a watermark or a key.
fn one(c: &mut Cursor, verb: &str, elements: &mut TableElements) -> Result<()> {
    no_column(c, verb)?;
    let at = c.location();
    if c.nth(1).is_some_and(|l| l.token == Token::Period) {
        return Err(nested(at));
    }
    let mut table = empty_table();
    element(c, &mut table, Place::Alter)?;
    if let Some(name) = table.column_names_only.first() {
        return Err(Error::syntax(format!("the column `{name}` has no type"))
            .at(at)
            .hint("write a type after each name"));
    }
    if let Some(key) = table.primary_key
        && elements.primary_key.replace((key, at)).is_some()
    {
        return Err(Error::validation("a table has at most one primary key").at(at));
    }
    if let Some(watermark) = table.watermark
        && elements.watermark.replace((watermark, at)).is_some()
    {
        return Err(Error::validation("a table has at most one watermark").at(at));
    }
    if let Some(column) = table.columns.pop() {
        let position = position(c)?;
        elements.columns.push(PlacedColumn { column, location: at, position });
    }
    if !c.at_end() && !c.at(&Token::Comma) && !c.at(&Token::RParen) {
        return Err(c.expected("FIRST, AFTER column, or the end of the column").hint(
            "a column is: name type [NOT NULL] [PRIMARY KEY NOT ENFORCED | METADATA [FROM 'key'] [VIRTUAL]] [COMMENT '…'] \
             [FIRST | AFTER column], or name AS expression; several stand in brackets",
        ));
    }
    Ok(())
}

fn position(c: &mut Cursor) -> Result<Option<ColumnPosition>> {
    if c.eat_keyword("FIRST") {
        return Ok(Some(ColumnPosition::First));
    }
    if !c.eat_keyword("AFTER") {
        return Ok(None);
    }
    let (name, at) = column_name(c, "the column before it")?;
    Ok(Some(ColumnPosition::After(name, at)))
}

/// What follows `ALTER TABLE t DROP`.
fn drop_of_table(c: &mut Cursor) -> Result<TableChange> {
    no_column(c, "DROP")?;
    let at = c.location();
    if c.eat_keyword("PRIMARY") {
        c.expect_keyword("KEY")?;
        return Ok(TableChange::DropPrimaryKey(at));
    }
    if c.eat_keyword("CONSTRAINT") {
        let (name, at) = c.identifier("the constraint's name")?;
        return Ok(TableChange::DropConstraint(name, at));
    }
    if c.eat_keyword("WATERMARK") {
        return Ok(TableChange::DropWatermark(at));
    }
    if c.at(&Token::LParen) {
        return Ok(TableChange::DropColumns(c.parenthesized(|c| column_name(c, "a column name"))?));
    }
    c.eat_keyword("COLUMN");
    let what = "a column name, PRIMARY KEY, CONSTRAINT or WATERMARK";
    Ok(TableChange::DropColumns(vec![column_name(c, what)?]))
}

/// `v action` behind `ALTER VIEW`.
fn view(c: &mut Cursor) -> Result<Alter> {
    let name = c.name("a view name", 3)?;
    let action = match c.eat_one_of(&["RENAME", "AS"]) {
        Some("RENAME") => {
            c.expect_keyword("TO")?;
            ViewAction::RenameTo(c.name("the new name of the view", 3)?)
        }
        Some(_) => ViewAction::As(Box::new(query::parse_query(c)?)),
        None if c.at(&Token::LParen) => {
            return Err(c.expected_keyword(&["RENAME", "AS"]).hint(
                "the columns of a view that is altered are those of its new query: name them there with AS",
            ));
        }
        None => return Err(c.expected_keyword(&["RENAME", "AS"])),
    };
    Ok(Alter::View { name, action })
}

/// `c action` behind `ALTER CATALOG`.
fn catalog(c: &mut Cursor) -> Result<Alter> {
    let name = c.name("a catalog name", 1)?;
    let action = match c.eat_one_of(&["SET", "RESET", "COMMENT"]) {
        Some("SET") => CatalogAction::Set(hints::options(c)?),
        Some("RESET") => CatalogAction::Reset(keys(c)?),
        Some(_) => CatalogAction::Comment(c.string("a comment in single quotes")?),
        None => return Err(c.expected_keyword(&["SET", "RESET", "COMMENT"])),
    };
    Ok(Alter::Catalog { name, action })
}

/// `ANALYZE TABLE …`, `ANALYZE TABLES …`.
pub(super) fn analyze(c: &mut Cursor) -> Result<Statement> {
    c.expect_keyword("ANALYZE")?;
    if c.at_keyword("TABLES") {
        return Err(Error::unsupported("ANALYZE TABLES is not supported").at(c.location()).hint(NO_ANALYZE));
    }
    c.expect_keyword("TABLE")?;
    let table = c.name("a table name", 3)?;
    let mut partition = Vec::new();
    if c.eat_keyword("PARTITION") {
        partition = c.parenthesized(|c| {
            let column = c.identifier("a partition column")?;
            if c.eat(&Token::Eq) && c.bump().is_none() {
                return Err(c.expected("the value of the partition"));
            }
            Ok(column)
        })?;
    }
    c.expect_keywords(&["COMPUTE", "STATISTICS"])?;
    let mut columns = Vec::new();
    if c.eat_keyword("FOR") && !c.eat_keywords(&["ALL", "COLUMNS"]) {
        if !c.eat_keyword("COLUMNS") {
            return Err(c.expected_keyword(&["COLUMNS", "ALL COLUMNS"]));
        }
        columns.push(c.identifier("a column name")?);
        while c.eat(&Token::Comma) {
            columns.push(c.identifier("a column name")?);
        }
    }
    Ok(Statement::Analyze(Analyze { table, partition, columns }))
}

/// Why there is nothing to analyze.
pub(crate) const NO_ANALYZE: &str = "leave it out: row counts, minima and maxima are read from the files of Parquet and from the \
    metadata of Iceberg tables whenever a query is planned, and are never out of date";

//! `CREATE TABLE`.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::ast::{Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Value};
use datafusion::sql::sqlparser::tokenizer::Token;

use super::{comment, if_not_exists};
use crate::error::{Error, Location, Result};
use crate::sql::ast::{ColumnDef, ColumnKind, PrimaryKey, SqlExpr, WatermarkDef};
use crate::sql::ast::{CreateTable, Like, LikeAction, LikeFeature, Name};
use crate::sql::cursor::Cursor;
use crate::sql::lexer::Lexeme;
use crate::sql::{hints, query, types};

pub(super) fn create_table(c: &mut Cursor, temporary: bool) -> Result<CreateTable> {
    c.expect_keyword("TABLE")?;
    let if_not_exists = if_not_exists(c)?;
    let name = c.name("a table name", 3)?;
    let mut table = CreateTable { name, temporary, if_not_exists, ..empty_table() };
    if c.at(&Token::LParen) {
        c.parenthesized(|c| element(c, &mut table, Place::Create))?;
    }
    table.comment = comment(c)?;
    if c.at_keyword("DISTRIBUTED") {
        return Err(Error::unsupported("DISTRIBUTED is not supported")
            .at(c.location())
            .hint("leave it out; for Iceberg tables PARTITIONED BY (bucket(16, id)) makes buckets"));
    }
    if c.eat_keyword("PARTITIONED") {
        c.expect_keyword("BY")?;
        table.partitioned_by = c.parenthesized(partition)?;
    }
    if c.eat_keyword("WITH") {
        table.options = hints::options(c)?;
    }
    if c.eat_keyword("LIKE") {
        table.like = Some(like(c)?);
    } else if c.at_keyword("AS") {
        as_query(c, &mut table)?;
    }
    if !c.at_end() {
        let e = c.expected("the end of the statement");
        return Err(match c.peek().and_then(Lexeme::bare_word).map(str::to_ascii_uppercase).as_deref() {
            Some("COMMENT" | "PARTITIONED" | "WITH" | "LIKE" | "AS" | "DISTRIBUTED") => {
                e.hint("the order is (columns) COMMENT PARTITIONED BY WITH, then LIKE or AS")
            }
            _ => e,
        });
    }
    if let (Some(name), None) = (table.column_names_only.first(), &table.query) {
        return Err(Error::syntax(format!("the column `{name}` has no type")).at(table.name.location).hint(
            "a list of bare names is for CREATE TABLE … AS query only; otherwise write a type after each name",
        ));
    }
    if table.columns.is_empty() && table.query.is_none() && table.like.is_none() {
        return Err(Error::syntax("a table needs columns")
            .at(table.name.location)
            .hint("write (name type, …) after the table name, or LIKE another table, or AS query"));
    }
    Ok(table)
}

/// A table of which nothing is said.
pub(super) fn empty_table() -> CreateTable {
    CreateTable {
        name: Name { parts: Vec::new(), location: Location::default() },
        temporary: false,
        if_not_exists: false,
        columns: Vec::new(),
        column_names_only: Vec::new(),
        watermark: None,
        primary_key: None,
        comment: None,
        partitioned_by: Vec::new(),
        options: BTreeMap::new(),
        like: None,
        query: None,
    }
}

fn as_query(c: &mut Cursor, table: &mut CreateTable) -> Result<()> {
    let at = c.location();
    c.expect_keyword("AS")?;
    if table.temporary {
        return Err(Error::unsupported("CREATE TEMPORARY TABLE … AS is not supported, as in Flink")
            .at(at)
            .hint("leave TEMPORARY out, or create a temporary view"));
    }
    if !table.column_names_only.is_empty() && !table.columns.is_empty() {
        return Err(Error::syntax("columns with and without types in one list").at(at).hint(
            "before AS query, either list bare names to reorder the query's columns, or define columns with types",
        ));
    }
    table.query = Some(query::parse_query(c)?);
    Ok(())
}

/// Which statement a column stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// CREATE TABLE: `,` or `)` follows.
    Create,
    /// ALTER TABLE: its position may follow, or nothing.
    Alter,
}

/// A column, a watermark or a key.
pub(super) fn element(c: &mut Cursor, table: &mut CreateTable, place: Place) -> Result<()> {
    let at = c.location();
    if c.eat_keyword("WATERMARK") {
        c.expect_keyword("FOR")?;
        let (column, _) = c.identifier("the row-time column")?;
        if c.at(&Token::Period) {
            return Err(Error::unsupported(
                "the row-time column must be a column of the table, not a field of one",
            )
            .at(c.location())
            .hint("define a computed column for the field and put the watermark on that"));
        }
        c.expect_keyword("AS")?;
        let expr = query::parse_expr(c, |l| l.token == Token::Comma)?;
        if table.watermark.replace(WatermarkDef { column, expr }).is_some() {
            return Err(Error::validation("a table has at most one watermark").at(at));
        }
        return Ok(());
    }
    let named =
        if c.eat_keyword("CONSTRAINT") { Some(c.identifier("the constraint's name")?.0) } else { None };
    if c.at_keyword("PRIMARY") || c.at_keyword("UNIQUE") {
        key_word(c)?;
        let columns = c.parenthesized(|c| Ok(c.identifier("a column name")?.0))?;
        not_enforced(c)?;
        return set_key(table, PrimaryKey { name: named, columns }, at);
    }
    if named.is_some() {
        return Err(c.expected_keyword(&["PRIMARY KEY"]));
    }
    column(c, table, place)
}

/// `PRIMARY KEY`; UNIQUE is refused.
fn key_word(c: &mut Cursor) -> Result<()> {
    if c.at_keyword("UNIQUE") {
        return Err(Error::unsupported("UNIQUE constraints are not supported, as in Flink")
            .at(c.location())
            .hint("PRIMARY KEY (…) NOT ENFORCED is the only constraint"));
    }
    c.expect_keywords(&["PRIMARY", "KEY"])
}

fn not_enforced(c: &mut Cursor) -> Result<()> {
    if c.eat_keywords(&["NOT", "ENFORCED"]) {
        return Ok(());
    }
    Err(Error::validation("a PRIMARY KEY is never enforced: the data belongs to the connector")
        .at(c.location())
        .hint("write NOT ENFORCED after it"))
}

fn set_key(table: &mut CreateTable, key: PrimaryKey, at: crate::error::Location) -> Result<()> {
    if table.primary_key.replace(key).is_some() {
        return Err(Error::validation("a table has at most one primary key").at(at));
    }
    Ok(())
}

fn column(c: &mut Cursor, table: &mut CreateTable, place: Place) -> Result<()> {
    let (name, at) = c.identifier("a column name")?;
    if c.at(&Token::Comma) || c.at(&Token::RParen) {
        table.column_names_only.push(name);
        return Ok(());
    }
    if c.eat_keyword("AS") {
        let expr = query::parse_expr(c, |l| {
            let is_position = place == Place::Alter && (l.is_keyword("FIRST") || l.is_keyword("AFTER"));
            l.token == Token::Comma || l.is_keyword("COMMENT") || is_position
        })?;
        let comment = comment(c)?;
        table.columns.push(ColumnDef { name, ty: None, kind: ColumnKind::Computed(expr), comment });
        return Ok(());
    }
    let ty = types::data_type(c)?;
    let mut kind = ColumnKind::Physical;
    if c.eat_keyword("METADATA") {
        let key =
            if c.eat_keyword("FROM") { c.string("a metadata key in single quotes")? } else { name.clone() };
        kind = ColumnKind::Metadata { key, read_only: c.eat_keyword("VIRTUAL") };
    } else {
        let constraint =
            if c.eat_keyword("CONSTRAINT") { Some(c.identifier("the constraint's name")?.0) } else { None };
        if constraint.is_some() || c.at_keyword("PRIMARY") || c.at_keyword("UNIQUE") {
            key_word(c)?;
            not_enforced(c)?;
            set_key(table, PrimaryKey { name: constraint, columns: vec![name.clone()] }, at)?;
        }
    }
    let comment = comment(c)?;
    if place == Place::Create && !c.at(&Token::Comma) && !c.at(&Token::RParen) {
        let e = c.expected("`,` or `)` after the column");
        return Err(match c.peek().and_then(Lexeme::bare_word).map(str::to_ascii_uppercase).as_deref() {
            Some("DEFAULT") => e.hint("columns have no default values in Flink"),
            Some("VIRTUAL" | "FROM") => e.hint("METADATA comes first: name type METADATA FROM 'key' VIRTUAL"),
            Some("NOT" | "NULL") => e.hint("NOT NULL comes right after the type"),
            _ => e.hint("a column is: name type [NOT NULL] [PRIMARY KEY NOT ENFORCED | METADATA [FROM 'key'] [VIRTUAL]] [COMMENT '…'], or name AS expression"),
        });
    }
    table.columns.push(ColumnDef { name, ty: Some(ty), kind, comment });
    Ok(())
}

/// Iceberg's partition transforms and the position of their column argument.
const TRANSFORMS: &[(&str, usize)] = &[
    ("year", 0),
    ("years", 0),
    ("month", 0),
    ("months", 0),
    ("day", 0),
    ("days", 0),
    ("hour", 0),
    ("hours", 0),
    ("bucket", 1),
    ("truncate", 1),
    ("identity", 0),
    ("void", 0),
];

/// A column name or `transform(…)`.
fn partition(c: &mut Cursor) -> Result<SqlExpr> {
    let one = matches!(c.nth(1).map(|l| &l.token), Some(Token::Comma | Token::RParen));
    if one {
        // The reserved-word check and its hint are those of a name.
        let start = c.pos();
        c.identifier("a partition column")?;
        c.seek(start);
    }
    let expr = query::parse_expr(c, |l| l.token == Token::Comma)?;
    let fine = match &expr.expr {
        Expr::Identifier(_) => true,
        Expr::Function(f) => {
            let args = match &f.args {
                FunctionArguments::List(list) => list.args.as_slice(),
                _ => &[],
            };
            let column = |a: &FunctionArg| {
                matches!(a, FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(_))))
            };
            let number = |a: &FunctionArg| match a {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(v))) => {
                    matches!(&v.value, Value::Number(n, _) if n.parse::<u32>().is_ok_and(|n| n > 0))
                }
                _ => false,
            };
            let name = f.name.to_string();
            match (TRANSFORMS.iter().find(|(t, _)| t.eq_ignore_ascii_case(&name)), args) {
                (Some((_, 0)), [a]) => column(a),
                (Some((_, 1)), [n, a]) => number(n) && column(a),
                _ => false,
            }
        }
        _ => false,
    };
    if fine {
        return Ok(expr);
    }
    Err(Error::validation(format!("cannot partition by {}", expr.text)).at(expr.location).hint(
        "write a column, or for Iceberg tables years(ts), months(ts), days(ts), hours(ts), bucket(16, id) or truncate(4, s)",
    ))
}

fn like(c: &mut Cursor) -> Result<Like> {
    let source = c.name("the table to be like", 3)?;
    let mut options = Vec::new();
    if !c.eat(&Token::LParen) {
        return Ok(Like { source, options });
    }
    const ACTIONS: [&str; 3] = ["INCLUDING", "EXCLUDING", "OVERWRITING"];
    const FEATURES: [&str; 8] = [
        "ALL",
        "CONSTRAINTS",
        "DISTRIBUTION",
        "PARTITIONS",
        "GENERATED",
        "OPTIONS",
        "WATERMARKS",
        "METADATA",
    ];
    loop {
        let at = c.location();
        let action = match c.eat_one_of(&ACTIONS) {
            Some("INCLUDING") => LikeAction::Including,
            Some("EXCLUDING") => LikeAction::Excluding,
            Some(_) => LikeAction::Overwriting,
            None => return Err(c.expected_keyword(&ACTIONS)),
        };
        let (feature, mergeable) = match c.eat_one_of(&FEATURES) {
            Some("ALL") => (LikeFeature::All, false),
            Some("CONSTRAINTS") => (LikeFeature::Constraints, false),
            Some("DISTRIBUTION") => (LikeFeature::Distribution, false),
            Some("PARTITIONS") => (LikeFeature::Partitions, false),
            Some("GENERATED") => (LikeFeature::Generated, true),
            Some("OPTIONS") => (LikeFeature::Options, true),
            Some("WATERMARKS") => (LikeFeature::Watermarks, true),
            Some(_) => (LikeFeature::Metadata, true),
            None => return Err(c.expected_keyword(&FEATURES)),
        };
        if action == LikeAction::Overwriting && !mergeable {
            return Err(Error::validation(
                "OVERWRITING is for GENERATED, OPTIONS, WATERMARKS and METADATA only",
            )
            .at(at)
            .hint("write INCLUDING or EXCLUDING"));
        }
        if options.iter().any(|(_, f)| *f == feature) {
            return Err(Error::validation("each feature may appear once in the options of LIKE").at(at));
        }
        options.push((action, feature));
        if c.eat(&Token::RParen) {
            return Ok(Like { source, options });
        }
        c.eat(&Token::Comma);
    }
}

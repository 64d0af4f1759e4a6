//! Flink's type syntax: `DECIMAL(10, 2) NOT NULL`, `ROW<a INT, b ARRAY<STRING>>`, `TIMESTAMP(3) WITH LOCAL TIME ZONE`.

use datafusion::sql::sqlparser::ast::DataType;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use super::keywords;
use crate::error::{Error, Location, Result};
use crate::types::{LogicalType, MAX_LENGTH, RowField, TypeRoot};

const NAMES: &[&str] = &[
    "ARRAY",
    "BIGINT",
    "BINARY",
    "BITMAP",
    "BOOLEAN",
    "BYTES",
    "CHAR",
    "CHARACTER",
    "DATE",
    "DEC",
    "DECIMAL",
    "DOUBLE",
    "FLOAT",
    "INT",
    "INTEGER",
    "INTERVAL",
    "MAP",
    "MULTISET",
    "NUMERIC",
    "ROW",
    "SMALLINT",
    "STRING",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMP_LTZ",
    "TINYINT",
    "VARBINARY",
    "VARCHAR",
    "VARIANT",
];

/// The type in a cast: the parser leaves every one as a custom type whose only name part is the canonical text.
///
/// # Errors
/// As [`super::parse_type`].
pub fn cast_type(data_type: &DataType) -> Option<Result<LogicalType>> {
    match data_type {
        DataType::Custom(name, modifiers) if modifiers.is_empty() => match name.0.as_slice() {
            [part] => part.as_ident().map(|i| super::parse_type(&i.value)),
            _ => None,
        },
        _ => None,
    }
}

/// A type with its nullability.
pub(crate) fn data_type(c: &mut Cursor) -> Result<LogicalType> {
    c.nested(|c| {
        let root = root(c)?;
        let mut ty = LogicalType { root, nullable: nullability(c)? };
        // The suffix forms `INT ARRAY`, `INT NOT NULL MULTISET`.
        while let Some(suffix) = c.eat_one_of(&["ARRAY", "MULTISET"]) {
            let element = Box::new(ty);
            let root = if suffix == "ARRAY" { TypeRoot::Array(element) } else { TypeRoot::Multiset(element) };
            ty = LogicalType { root, nullable: nullability(c)? };
        }
        Ok(ty)
    })
}

fn nullability(c: &mut Cursor) -> Result<bool> {
    if c.at_keywords(&["NOT", "NULL"]) {
        c.expect_keywords(&["NOT", "NULL"])?;
        return Ok(false);
    }
    c.eat_keyword("NULL");
    Ok(true)
}

fn root(c: &mut Cursor) -> Result<TypeRoot> {
    let at = c.location();
    let Some(word) = c.peek().and_then(|l| l.bare_word()) else {
        return Err(c.expected("a type"));
    };
    let upper = word.to_ascii_uppercase();
    c.bump();
    Ok(match upper.as_str() {
        "STRING" => TypeRoot::Varchar(MAX_LENGTH),
        "BYTES" => TypeRoot::Varbinary(MAX_LENGTH),
        "CHAR" | "CHARACTER" if c.eat_keyword("VARYING") => TypeRoot::Varchar(length(c, "VARCHAR")?),
        "CHAR" | "CHARACTER" => TypeRoot::Char(length(c, "CHAR")?),
        "VARCHAR" => TypeRoot::Varchar(length(c, "VARCHAR")?),
        "BINARY" if c.eat_keyword("VARYING") => TypeRoot::Varbinary(length(c, "VARBINARY")?),
        "BINARY" => TypeRoot::Binary(length(c, "BINARY")?),
        "VARBINARY" => TypeRoot::Varbinary(length(c, "VARBINARY")?),
        "BOOLEAN" => TypeRoot::Boolean,
        "DECIMAL" | "DEC" | "NUMERIC" => decimal(c)?,
        "TINYINT" => TypeRoot::TinyInt,
        "SMALLINT" => TypeRoot::SmallInt,
        "INT" | "INTEGER" => TypeRoot::Int,
        "BIGINT" => TypeRoot::BigInt,
        "FLOAT" => TypeRoot::Float,
        "DOUBLE" => {
            c.eat_keyword("PRECISION");
            TypeRoot::Double
        }
        "DATE" => TypeRoot::Date,
        "TIME" => {
            let p = precision(c, "TIME", 0)?;
            if c.eat_keyword("WITHOUT") {
                c.expect_keywords(&["TIME", "ZONE"])?;
            }
            TypeRoot::Time(p)
        }
        "TIMESTAMP" => timestamp(c, at)?,
        "TIMESTAMP_LTZ" => TypeRoot::TimestampLtz(precision(c, "TIMESTAMP_LTZ", 6)?),
        "INTERVAL" => interval(c)?,
        "ARRAY" => TypeRoot::Array(Box::new(one_argument(c)?)),
        "MULTISET" => TypeRoot::Multiset(Box::new(one_argument(c)?)),
        "MAP" => {
            c.expect(&Token::Lt)?;
            let key = data_type(c)?;
            c.expect(&Token::Comma)?;
            let value = data_type(c)?;
            c.expect(&Token::Gt)?;
            TypeRoot::Map(Box::new(key), Box::new(value))
        }
        "ROW" => row(c)?,
        "VARIANT" => TypeRoot::Variant,
        "BITMAP" => TypeRoot::Bitmap,
        "NULL" => TypeRoot::Null,
        "RAW" | "STRUCTURED" | "DESCRIPTOR" => {
            return Err(Error::unsupported(format!("the type {upper} is not supported"))
                .at(at)
                .hint(supported()));
        }
        _ => {
            let e = Error::syntax(format!("unknown type `{word}`")).at(at);
            return Err(match (foreign(&upper), keywords::nearest(word, NAMES)) {
                (Some(flink), _) | (None, Some(flink)) => e.hint(format!("did you mean {flink}?")),
                (None, None) => e.hint(supported()),
            });
        }
    })
}

fn supported() -> String {
    format!("types are {}", NAMES.join(", "))
}

/// What Flink calls a type of other systems.
fn foreign(name: &str) -> Option<&'static str> {
    Some(match name {
        "TEXT" | "NVARCHAR" | "VARCHAR2" | "CLOB" | "UUID" => "STRING",
        "BLOB" | "BYTEA" => "BYTES",
        "BOOL" => "BOOLEAN",
        "INT8" | "LONG" | "INT64" => "BIGINT",
        "INT4" | "INT32" | "MEDIUMINT" => "INT",
        "INT2" | "SHORT" | "INT16" => "SMALLINT",
        "BYTE" => "TINYINT",
        "REAL" | "FLOAT4" | "FLOAT32" => "FLOAT",
        "FLOAT8" | "FLOAT64" => "DOUBLE",
        "NUMBER" => "DECIMAL",
        "DATETIME" => "TIMESTAMP",
        "TIMESTAMPTZ" | "TIMESTAMP_TZ" => "TIMESTAMP_LTZ",
        "STRUCT" | "RECORD" => "ROW",
        "LIST" => "ARRAY",
        _ => return None,
    })
}

/// A number in range, at which errors point.
fn bounded(c: &mut Cursor, what: &str, min: u64, max: u64) -> Result<u64> {
    let at = c.location();
    let n = c.integer(what)?;
    if (min..=max).contains(&n) {
        Ok(n)
    } else {
        Err(Error::validation(format!("{what} must be between {min} and {max}, not {n}")).at(at))
    }
}

fn length(c: &mut Cursor, name: &str) -> Result<u32> {
    if !c.eat(&Token::LParen) {
        return Ok(1);
    }
    let n = bounded(c, &format!("the length of {name}"), 1, u64::from(MAX_LENGTH))?;
    c.expect(&Token::RParen)?;
    Ok(u32::try_from(n).unwrap_or(MAX_LENGTH))
}

fn small(c: &mut Cursor, what: &str, min: u8, max: u8) -> Result<u8> {
    Ok(u8::try_from(bounded(c, what, u64::from(min), u64::from(max))?).unwrap_or(max))
}

fn precision(c: &mut Cursor, name: &str, default: u8) -> Result<u8> {
    if !c.eat(&Token::LParen) {
        return Ok(default);
    }
    let p = small(c, &format!("the precision of {name}"), 0, 9)?;
    c.expect(&Token::RParen)?;
    Ok(p)
}

fn decimal(c: &mut Cursor) -> Result<TypeRoot> {
    if !c.eat(&Token::LParen) {
        return Ok(TypeRoot::Decimal(10, 0));
    }
    let p = small(c, "the precision of DECIMAL", 1, 38)?;
    let s = if c.eat(&Token::Comma) { small(c, "the scale of DECIMAL", 0, p)? } else { 0 };
    c.expect(&Token::RParen)?;
    Ok(TypeRoot::Decimal(p, s))
}

fn timestamp(c: &mut Cursor, at: Location) -> Result<TypeRoot> {
    let p = precision(c, "TIMESTAMP", 6)?;
    if c.eat_keyword("WITHOUT") {
        c.expect_keywords(&["TIME", "ZONE"])?;
    } else if c.at_keyword("WITH") {
        c.bump();
        if c.eat_keyword("LOCAL") {
            c.expect_keywords(&["TIME", "ZONE"])?;
            return Ok(TypeRoot::TimestampLtz(p));
        }
        c.expect_keywords(&["TIME", "ZONE"])?;
        return Err(Error::unsupported("the type TIMESTAMP WITH TIME ZONE is not supported")
            .at(at)
            .hint("use TIMESTAMP_LTZ for an instant, or TIMESTAMP for a wall clock"));
    }
    Ok(TypeRoot::Timestamp(p))
}

fn interval(c: &mut Cursor) -> Result<TypeRoot> {
    const UNITS: [&str; 6] = ["YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND"];
    let rank = |unit: &str| UNITS.iter().position(|u| *u == unit).unwrap_or(0);
    let unit = |c: &mut Cursor, allowed: &[&'static str]| -> Result<&'static str> {
        let Some(unit) = c.eat_one_of(allowed) else { return Err(c.expected_keyword(allowed)) };
        if c.eat(&Token::LParen) {
            small(c, "the precision of an INTERVAL", 0, 9)?;
            if c.eat(&Token::Comma) {
                small(c, "the precision of an INTERVAL", 0, 9)?;
            }
            c.expect(&Token::RParen)?;
        }
        Ok(unit)
    };
    let first = unit(c, &UNITS)?;
    let months = rank(first) < 2;
    if first != "MONTH" && first != "SECOND" && c.eat_keyword("TO") {
        let last = if months { UNITS.get(rank(first) + 1..2) } else { UNITS.get(rank(first) + 1..) };
        unit(c, last.unwrap_or(&[]))?;
    }
    Ok(if months { TypeRoot::IntervalYearMonth } else { TypeRoot::IntervalDayTime })
}

fn one_argument(c: &mut Cursor) -> Result<LogicalType> {
    c.expect(&Token::Lt)?;
    let ty = data_type(c)?;
    c.expect(&Token::Gt)?;
    Ok(ty)
}

fn row(c: &mut Cursor) -> Result<TypeRoot> {
    let close = if c.eat(&Token::Lt) {
        Token::Gt
    } else if c.eat(&Token::LParen) {
        Token::RParen
    } else {
        return Err(c.expected("`<` after ROW"));
    };
    let mut fields: Vec<RowField> = Vec::new();
    loop {
        let (name, at) = c.identifier("a field name")?;
        if fields.iter().any(|f| f.name == name) {
            return Err(Error::validation(format!(
                "the field {} appears twice in a ROW",
                keywords::quote_ident(&name)
            ))
            .at(at));
        }
        let ty = data_type(c)?;
        let comment = matches!(c.peek().map(|l| &l.token), Some(Token::SingleQuotedString(_)));
        let comment = if comment { Some(c.string("a comment")?) } else { None };
        fields.push(RowField { name, ty, comment });
        if c.eat(&close) {
            return Ok(TypeRoot::Row(fields));
        }
        if !c.eat(&Token::Comma) {
            return Err(c.expected(&format!("`,` or `{close}`")));
        }
    }
}

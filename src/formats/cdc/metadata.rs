//! What a change message tells beside its rows.

use arrow::datatypes::{Field, TimeUnit};

use super::Dialect;
use crate::formats::column::{Column, ColumnValues};
use crate::formats::datetime::{TimestampFormat, parse_timestamp};
use crate::formats::json::fail::Fail;
use crate::formats::json::object::ObjectReader;
use crate::formats::json::scan::Scanner;
use crate::formats::json::shape::Shape;
use crate::types::{LogicalType, TypeRoot};

/// A metadata key of a format.
#[derive(Debug)]
pub(super) struct Metadata {
    pub(super) dialect: Dialect,
    key: &'static str,
    /// The field of the message it comes from.
    pub(super) root: &'static str,
    what: What,
}

/// What is read there.
#[derive(Debug, Clone, Copy)]
enum What {
    /// The value as STRING.
    Text,
    /// `ARRAY<STRING>`
    Texts,
    /// `MAP<STRING, STRING>`
    TextMap,
    /// `MAP<STRING, INT>`
    IntMap,
    /// An instant as a number, times so many milliseconds.
    Instant(i64),
    /// A field of an object, as STRING.
    InnerText(&'static str),
    /// A field of an object, as an instant in milliseconds.
    InnerInstant(&'static str),
    /// An instant as text, in UTC.
    InstantText,
}

const fn entry(dialect: Dialect, key: &'static str, root: &'static str, what: What) -> Metadata {
    Metadata { dialect, key, root, what }
}

/// All keys, those of a dialect together.
pub(super) const METADATA: &[Metadata] = &[
    entry(Dialect::Debezium, "schema", "schema", What::Text),
    entry(Dialect::Debezium, "ingestion-timestamp", "ts_ms", What::Instant(1)),
    entry(Dialect::Debezium, "source.timestamp", "source", What::InnerInstant("ts_ms")),
    entry(Dialect::Debezium, "source.database", "source", What::InnerText("db")),
    entry(Dialect::Debezium, "source.schema", "source", What::InnerText("schema")),
    entry(Dialect::Debezium, "source.table", "source", What::InnerText("table")),
    entry(Dialect::Debezium, "source.properties", "source", What::TextMap),
    entry(Dialect::Canal, "database", "database", What::Text),
    entry(Dialect::Canal, "table", "table", What::Text),
    entry(Dialect::Canal, "sql-type", "sqlType", What::IntMap),
    entry(Dialect::Canal, "pk-names", "pkNames", What::Texts),
    entry(Dialect::Canal, "ingestion-timestamp", "ts", What::Instant(1)),
    entry(Dialect::Canal, "event-timestamp", "es", What::Instant(1)),
    entry(Dialect::Maxwell, "database", "database", What::Text),
    entry(Dialect::Maxwell, "table", "table", What::Text),
    entry(Dialect::Maxwell, "primary-key-columns", "primary_key_columns", What::Texts),
    // Maxwell counts seconds.
    entry(Dialect::Maxwell, "ingestion-timestamp", "ts", What::Instant(1000)),
    entry(Dialect::Ogg, "table", "table", What::Text),
    entry(Dialect::Ogg, "primary-keys", "primary_keys", What::Texts),
    entry(Dialect::Ogg, "ingestion-timestamp", "current_ts", What::InstantText),
    entry(Dialect::Ogg, "event-timestamp", "op_ts", What::InstantText),
];

impl Metadata {
    /// Key and type.
    pub(super) fn field(&self) -> Field {
        let text = LogicalType::string;
        let ty = match self.what {
            What::Text | What::InnerText(_) => text(),
            What::Texts => LogicalType::nullable(TypeRoot::Array(Box::new(text()))),
            What::TextMap => map_to(text()),
            What::IntMap => map_to(LogicalType::nullable(TypeRoot::Int)),
            What::Instant(_) | What::InnerInstant(_) => LogicalType::nullable(TypeRoot::TimestampLtz(3)),
            What::InstantText => LogicalType::nullable(TypeRoot::TimestampLtz(6)),
        };
        ty.to_field(self.key)
    }

    /// Reads it from the value that the scanner stands at.
    pub(super) fn read(
        &self,
        s: &mut Scanner<'_>,
        reader: &mut ObjectReader,
        shape: &mut Shape,
        column: &mut Column,
    ) -> Result<(), Fail> {
        match self.what {
            What::Text | What::Texts | What::TextMap | What::IntMap => reader.value(s, shape, column),
            What::Instant(factor) => instant(s, factor, column),
            What::InstantText => {
                let text = (s.peek() == b'"').then(|| s.string()).transpose()?;
                let parsed = text.as_deref().and_then(|t| {
                    let t = t.trim_end_matches('Z');
                    let sql = parse_timestamp(t, TimestampFormat::Sql, false, TimeUnit::Microsecond);
                    sql.or_else(|| parse_timestamp(t, TimestampFormat::Iso8601, false, TimeUnit::Microsecond))
                });
                push_instant(column, Some(parsed.ok_or(Fail::Mismatch)?));
                Ok(())
            }
            What::InnerText(name) | What::InnerInstant(name) => {
                let mut at = [None];
                if s.peek() != b'{' {
                    return Err(Fail::Mismatch);
                }
                find_fields(s, &[name], &mut at)?;
                match (at, self.what) {
                    ([None], _) => column.push_null(),
                    ([Some(pos)], What::InnerInstant(_)) => {
                        s.pos = pos;
                        instant(s, 1, column)?;
                    }
                    ([Some(pos)], _) => {
                        s.pos = pos;
                        reader.value(s, shape, column)?;
                    }
                }
                Ok(())
            }
        }
    }
}

fn map_to(value: LogicalType) -> LogicalType {
    let key = LogicalType::not_null(TypeRoot::Varchar(crate::types::MAX_LENGTH));
    LogicalType::nullable(TypeRoot::Map(Box::new(key), Box::new(value)))
}

/// A number, also one in quotes.
fn instant(s: &mut Scanner<'_>, factor: i64, column: &mut Column) -> Result<(), Fail> {
    let number: Option<i64> = match s.peek() {
        b'"' => s.string()?.trim().parse().ok(),
        b'-' | b'0'..=b'9' => s.number()?.0.parse().ok(),
        _ => None,
    };
    let millis = number.and_then(|n| n.checked_mul(factor)).ok_or(Fail::Mismatch)?;
    push_instant(column, Some(millis));
    Ok(())
}

fn push_instant(column: &mut Column, value: Option<i64>) {
    match (&mut column.values, value) {
        (ColumnValues::Timestamp(v, ..), Some(value)) => v.push(value),
        _ => column.push_null(),
    }
}

/// Takes an object and notes where the values of the fields `names` begin; a field that is missing or `null` has no
/// place. The last one counts of a name that stands twice.
pub(super) fn find_fields(s: &mut Scanner<'_>, names: &[&str], at: &mut [Option<usize>]) -> Result<(), Fail> {
    at.fill(None);
    s.pos += 1;
    s.skip_blanks();
    if s.peek() == b'}' {
        s.pos += 1;
        return Ok(());
    }
    loop {
        s.skip_blanks();
        let known = names.iter().position(|name| s.take_name(name));
        if known.is_none() {
            if s.peek() != b'"' {
                return Err(Fail::Syntax("an object has a field without a name"));
            }
            s.raw_string()?;
        }
        s.skip_blanks();
        s.expect(b':', "a field name is not followed by ':'")?;
        s.skip_blanks();
        if let Some(place) = known.and_then(|i| at.get_mut(i)) {
            *place = (s.peek() != b'n').then_some(s.pos);
        }
        s.skip_value(0)?;
        if !s.more(b'}')? {
            return Ok(());
        }
    }
}

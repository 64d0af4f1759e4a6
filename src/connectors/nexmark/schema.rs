//! The table of nexmark-flink, and what of it a query reads.

use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef, TimeUnit};

use crate::catalog::ResolvedTable;
use crate::edges::ScanRequest;
use crate::error::{Error, Result};

use super::segments::EventKind;

const TIME: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

const PERSON: [(&str, DataType); 8] = [
    ("id", DataType::Int64),
    ("name", DataType::Utf8),
    ("emailAddress", DataType::Utf8),
    ("creditCard", DataType::Utf8),
    ("city", DataType::Utf8),
    ("state", DataType::Utf8),
    ("dateTime", TIME),
    ("extra", DataType::Utf8),
];

const AUCTION: [(&str, DataType); 10] = [
    ("id", DataType::Int64),
    ("itemName", DataType::Utf8),
    ("description", DataType::Utf8),
    ("initialBid", DataType::Int64),
    ("reserve", DataType::Int64),
    ("dateTime", TIME),
    ("expires", TIME),
    ("seller", DataType::Int64),
    ("category", DataType::Int64),
    ("extra", DataType::Utf8),
];

const BID: [(&str, DataType); 7] = [
    ("auction", DataType::Int64),
    ("bidder", DataType::Int64),
    ("price", DataType::Int64),
    ("channel", DataType::Utf8),
    ("url", DataType::Utf8),
    ("dateTime", TIME),
    ("extra", DataType::Utf8),
];

/// The kind whose events a struct column holds, by its name.
pub(super) fn kind_of_column(name: &str) -> Option<(EventKind, &'static [(&'static str, DataType)])> {
    match name {
        "person" => Some((EventKind::Person, &PERSON)),
        "auction" => Some((EventKind::Auction, &AUCTION)),
        "bid" => Some((EventKind::Bid, &BID)),
        _ => None,
    }
}

/// Checks that the declared columns are those of Nexmark (any of them, in any order).
pub(super) fn check(table: &ResolvedTable) -> Result<()> {
    for field in table.physical.fields() {
        check_column(field).map_err(|e| e.context(format!("table {}", table.def.path)))?;
    }
    Ok(())
}

fn check_column(field: &Field) -> Result<()> {
    let wrong = |what: String| {
        Err(Error::validation(what).hint(
            "columns are those of nexmark-flink: event_type INT, person ROW<id BIGINT, name STRING, …>, \
             auction ROW<…>, bid ROW<auction BIGINT, bidder BIGINT, price BIGINT, …>",
        ))
    };
    let name = field.name();
    if name == "event_type" {
        return match field.data_type() {
            DataType::Int32 => Ok(()),
            _ => wrong("column `event_type` has to be INT".into()),
        };
    }
    let Some((_, known)) = kind_of_column(name) else {
        return wrong(format!("the connector 'nexmark' has no column `{name}`"));
    };
    let DataType::Struct(children) = field.data_type() else {
        return wrong(format!("column `{name}` has to be a ROW"));
    };
    if !field.is_nullable() {
        return wrong(format!("column `{name}` cannot be NOT NULL: it is NULL in the other events"));
    }
    for child in children {
        match known.iter().find(|(n, _)| n == child.name()) {
            Some((_, ty)) if ty == child.data_type() => {}
            Some((n, ty)) => {
                let ty = crate::types::LogicalType::from_arrow(ty, true)?;
                return wrong(format!("field `{n}` of column `{name}` has to be {ty}"));
            }
            None => return wrong(format!("column `{name}` has no field `{}`", child.name())),
        }
    }
    Ok(())
}

/// A projected column.
#[derive(Debug)]
pub(super) enum Column {
    EventType,
    Event { kind: EventKind, children: Vec<Child> },
}

/// A field of a struct column.
#[derive(Debug)]
pub(super) struct Child {
    pub field: FieldRef,
    /// Whether the query reads it; otherwise it stays NULL.
    pub read: bool,
}

/// What a scan reads, in order.
pub(super) fn columns(schema: &SchemaRef, scan: &ScanRequest) -> Result<Vec<Column>> {
    let all: Vec<usize> = (0..schema.fields().len()).collect();
    let mut found = Vec::new();
    for i in scan.projection.as_deref().unwrap_or(&all) {
        let field = schema.fields().get(*i).ok_or_else(|| Error::internal("projection out of range"))?;
        found.push(match (kind_of_column(field.name()), field.data_type()) {
            (Some((kind, _)), DataType::Struct(fields)) => {
                let children = fields
                    .iter()
                    .map(|child| Child {
                        field: child.clone(),
                        read: !child.is_nullable() || reads(scan, field.name(), child.name()),
                    })
                    .collect();
                Column::Event { kind, children }
            }
            _ => Column::EventType,
        });
    }
    Ok(found)
}

fn reads(scan: &ScanRequest, column: &str, child: &str) -> bool {
    scan.nested.as_ref().is_none_or(|paths| {
        paths.iter().any(|path| match path.as_slice() {
            [] => false,
            [only] => only == column,
            [first, second, ..] => first == column && second == child,
        })
    })
}

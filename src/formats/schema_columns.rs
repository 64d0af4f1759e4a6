//! From a registered schema to the columns of a table that is made from its topic.
//!
//! | Avro | Protobuf | JSON Schema | SQL |
//! |---|---|---|---|
//! | boolean | bool | boolean | BOOLEAN |
//! | int | int32, sint32, sfixed32 | | INT |
//! | long | int64, …, uint32, fixed32 | integer | BIGINT |
//! | | uint64, fixed64 | | DECIMAL(20, 0) |
//! | float, double | float, double | number | FLOAT, DOUBLE |
//! | string, enum, uuid | string, enum | string, enum | STRING |
//! | bytes, fixed(n), duration | bytes | | BYTES, BINARY(n) |
//! | decimal | | | DECIMAL(p, s); bytes above 38 digits |
//! | date, time-… | | format date, time | DATE, TIME(3) |
//! | timestamp-… | google.protobuf.Timestamp | format date-time | TIMESTAMP_LTZ of that precision (Protobuf: 9) |
//! | local-timestamp-… | | | TIMESTAMP |
//! | array, map, record | repeated, map, message | array, additionalProperties, object | ARRAY, MAP, ROW |
//! | union with null | wrappers, `optional`, `oneof` | not required, or `null` in `type` | nullable |
//! | union of several | | | a ROW with a nullable field for each, `oneof` is the fields themselves |
//! | | | several types, no type, an object without properties | STRING with the JSON text |
//!
//! What contains itself is refused. What holds nothing (`null`, an empty record) is left out and told.

use super::{avro, json, protobuf};
use crate::error::{Result, ResultExt};
use crate::registry::{RegisteredSchema, SchemaKind};
use crate::types::LogicalType;

/// A column of a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaColumn {
    /// Its name, as the records have it.
    pub name: String,
    /// Its type with its nullability.
    pub ty: LogicalType,
    /// What the schema says about it.
    pub comment: Option<String>,
    /// The number of a Protobuf field, which stays when the field is renamed.
    pub number: Option<u32>,
    /// Earlier names of an Avro field.
    pub aliases: Vec<String>,
}

/// The columns of a schema.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SchemaColumns {
    /// In the order of the schema.
    pub columns: Vec<SchemaColumn>,
    /// Fields that hold nothing and are no columns.
    pub left_out: Vec<String>,
}

/// The columns of the records of a schema. A Protobuf schema stands for its first message, or for `message` (its full name).
///
/// The decoders of the formats read such columns from records of the schema.
///
/// # Errors
/// Data for a schema that is not valid, Unsupported for one that contains itself.
pub fn schema_columns(schema: &RegisteredSchema, message: Option<&str>) -> Result<SchemaColumns> {
    let columns = match schema.kind {
        SchemaKind::Avro => avro::schema::AvroSchema::parse(&schema.text, &schema.references)
            .and_then(|parsed| avro::columns::columns(&parsed)),
        SchemaKind::Json => json::schema::columns(&schema.text, &schema.references),
        SchemaKind::Protobuf => protobuf::columns::columns(schema, message),
    };
    columns.context(|| format!("schema {}", schema.id))
}

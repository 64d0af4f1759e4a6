//! The Avro schema of a table, as Flink's `AvroSchemaConverter` makes it.
//!
//! NULL is a union with `null` first; a ROW is a record whose name is that of the row around it, `_` and the field's.
//! With the legacy mapping TIMESTAMP is `timestamp-millis`, as Flink has had it from the beginning; without it TIMESTAMP
//! is `local-timestamp-…` and TIMESTAMP_LTZ `timestamp-…`.

use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::types::{is_bitmap, is_variant, sql_name};

/// Name of the record of a row.
const RECORD: &str = "org.apache.flink.avro.generated.record";

/// How timestamps are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timestamps {
    /// `timestamp_mapping.legacy`.
    pub(crate) legacy: bool,
}

/// The schema of rows of `schema`. `timestamps` names the option, for messages.
pub(crate) fn derive(schema: &Schema, timestamps: Timestamps, option: &str) -> Result<String> {
    let deriver = Deriver { timestamps, option };
    Ok(deriver.record(schema.fields(), RECORD)?.to_string())
}

/// A name that Avro takes.
fn check_name(name: &str) -> Result<()> {
    let mut chars = name.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if first && chars.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Ok(());
    }
    Err(Error::validation(format!("`{name}` is no name for a field in Avro"))
        .hint("a name begins with a letter or '_' and goes on with letters, digits and '_'"))
}

struct Deriver<'a> {
    timestamps: Timestamps,
    option: &'a str,
}

impl Deriver<'_> {
    fn record(&self, fields: &Fields, name: &str) -> Result<Value> {
        let mut all = Vec::with_capacity(fields.len());
        for field in fields {
            check_name(field.name())?;
            let ty = self
                .nullable(field, &format!("{name}_{}", field.name()))
                .map_err(|e| e.context(format!("column `{}`", field.name())))?;
            all.push(match field.is_nullable() {
                true => json!({"name": field.name(), "type": ty, "default": null}),
                false => json!({"name": field.name(), "type": ty}),
            });
        }
        let (space, short) = name.rsplit_once('.').unwrap_or(("", name));
        Ok(json!({"type": "record", "name": short, "namespace": space, "fields": all}))
    }

    fn nullable(&self, field: &Field, name: &str) -> Result<Value> {
        let ty = self.ty(field.data_type(), name)?;
        let union = field.is_nullable() && ty != json!("null");
        Ok(if union { json!(["null", ty]) } else { ty })
    }

    fn ty(&self, ty: &DataType, name: &str) -> Result<Value> {
        Ok(match ty {
            DataType::Null => json!("null"),
            DataType::Boolean => json!("boolean"),
            DataType::Int8 | DataType::Int16 | DataType::Int32 => json!("int"),
            DataType::Int64 => json!("long"),
            DataType::Float32 => json!("float"),
            DataType::Float64 => json!("double"),
            DataType::Utf8 => json!("string"),
            DataType::Binary => json!("bytes"),
            DataType::Date32 => json!({"type": "int", "logicalType": "date"}),
            DataType::Time32(TimeUnit::Millisecond) => json!({"type": "int", "logicalType": "time-millis"}),
            DataType::Decimal128(p, s) => {
                json!({"type": "bytes", "logicalType": "decimal", "precision": p, "scale": s})
            }
            DataType::Timestamp(unit, zone) => {
                let logical = self.timestamp(*unit, zone.is_some())?;
                json!({"type": "long", "logicalType": logical})
            }
            DataType::List(item) => json!({"type": "array", "items": self.nullable(item, name)?}),
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(kv) => match kv.as_ref() {
                    [key, value] if key.data_type() == &DataType::Utf8 => {
                        json!({"type": "map", "values": self.nullable(value, name)?})
                    }
                    _ => {
                        return Err(Error::unsupported(format!(
                            "Avro format doesn't support non-string as key type of map. The type is: {}",
                            sql_name(ty)
                        )));
                    }
                },
                _ => return Err(unsupported(ty)),
            },
            ty if is_variant(ty) || is_bitmap(ty) => return Err(unsupported(ty)),
            DataType::Struct(fields) => self.record(fields, name)?,
            _ => return Err(unsupported(ty)),
        })
    }

    fn timestamp(&self, unit: TimeUnit, instant: bool) -> Result<&'static str> {
        let legacy = self.timestamps.legacy;
        match (unit, instant) {
            (_, true) if legacy => Err(Error::unsupported(
                "Avro has no type for TIMESTAMP_LTZ with the legacy mapping of timestamps",
            )
            .hint(format!("add '{}' = 'false' to the WITH clause", self.option))),
            (TimeUnit::Second | TimeUnit::Millisecond, false) if legacy => Ok("timestamp-millis"),
            (_, false) if legacy => Err(Error::unsupported(
                "Avro does not support TIMESTAMP type with a precision above 3 with the legacy mapping of timestamps",
            )
            .hint(format!(
                "add '{}' = 'false' to the WITH clause, or declare TIMESTAMP(3)",
                self.option
            ))),
            (TimeUnit::Second | TimeUnit::Millisecond, true) => Ok("timestamp-millis"),
            (TimeUnit::Microsecond, true) => Ok("timestamp-micros"),
            (TimeUnit::Nanosecond, true) => Ok("timestamp-nanos"),
            (TimeUnit::Second | TimeUnit::Millisecond, false) => Ok("local-timestamp-millis"),
            (TimeUnit::Microsecond, false) => Ok("local-timestamp-micros"),
            (TimeUnit::Nanosecond, false) => Ok("local-timestamp-nanos"),
        }
    }
}

fn unsupported(ty: &DataType) -> Error {
    Error::unsupported(format!("Avro has no type for {}", sql_name(ty)))
}

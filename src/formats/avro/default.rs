//! Defaults of fields: from JSON to Avro's bytes, so that they are read like anything else.

use serde_json::Value;

use super::encode::{put_bytes, put_long};
use super::schema::{AvroSchema, Enum, Record, Shape, TypeId};
use crate::error::{Error, Result};

/// Appends the value `json` of a type.
///
/// # Errors
/// Data if it is no value of the type.
pub(super) fn encode_default(schema: &AvroSchema, id: TypeId, json: &Value, out: &mut Vec<u8>) -> Result<()> {
    let wrong = || Error::data(format!("{json} is no {}", schema.describe(id)));
    match (schema.shape(id), json) {
        (Shape::Null, Value::Null) => {}
        (Shape::Boolean, Value::Bool(b)) => out.push(u8::from(*b)),
        (Shape::Int | Shape::Long, Value::Number(n)) => put_long(out, n.as_i64().ok_or_else(wrong)?),
        (Shape::Float, Value::Number(n)) => {
            out.extend_from_slice(&(n.as_f64().ok_or_else(wrong)? as f32).to_le_bytes());
        }
        (Shape::Double, Value::Number(n)) => {
            out.extend_from_slice(&n.as_f64().ok_or_else(wrong)?.to_le_bytes());
        }
        (Shape::String, Value::String(text)) => put_bytes(out, text.as_bytes()),
        // Bytes are written as the characters with their numbers.
        (Shape::Bytes, Value::String(text)) => put_bytes(out, &latin(text).ok_or_else(wrong)?),
        (Shape::Fixed { size, .. }, Value::String(text)) => {
            let bytes = latin(text).filter(|b| b.len() == *size).ok_or_else(wrong)?;
            out.extend_from_slice(&bytes);
        }
        (Shape::Enum(Enum { symbols, .. }), Value::String(text)) => {
            let at = symbols.iter().position(|s| s == text).ok_or_else(wrong)?;
            put_long(out, at as i64);
        }
        (Shape::Array(item), Value::Array(items)) => {
            if !items.is_empty() {
                put_long(out, items.len() as i64);
                items.iter().try_for_each(|v| encode_default(schema, *item, v, out))?;
            }
            put_long(out, 0);
        }
        (Shape::Map(value), Value::Object(entries)) => {
            if !entries.is_empty() {
                put_long(out, entries.len() as i64);
                for (key, v) in entries {
                    put_bytes(out, key.as_bytes());
                    encode_default(schema, *value, v, out)?;
                }
            }
            put_long(out, 0);
        }
        (Shape::Record(Record { fields, .. }), Value::Object(given)) => {
            for field in fields {
                let value = given.get(&field.name).or(field.default.as_ref()).ok_or_else(wrong)?;
                encode_default(schema, field.ty, value, out)?;
            }
        }
        (Shape::Union(branches), json) => {
            // Avro says the first branch; writers also take any that fits.
            let start = out.len();
            for (i, branch) in branches.iter().enumerate() {
                put_long(out, i as i64);
                if encode_default(schema, *branch, json, out).is_ok() {
                    return Ok(());
                }
                out.truncate(start);
            }
            return Err(wrong());
        }
        _ => return Err(wrong()),
    }
    Ok(())
}

fn latin(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
}

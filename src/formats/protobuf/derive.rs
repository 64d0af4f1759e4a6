//! A Protobuf schema of a table's columns.
//!
//! A column that may be NULL is `optional`, so that NULL is not zero when it is read again; fields are numbered in the
//! order of the columns. The schema is proto3, with one message, `Record`, and messages for its rows within it.

use std::fmt::Write as _;

use arrow::datatypes::{DataType, Fields, Schema};

use crate::error::{Error, Result};
use crate::types::sql_name;

/// The text of the schema.
///
/// # Errors
/// Unsupported for types that Protobuf has no counterpart for.
pub(super) fn derive(schema: &Schema) -> Result<String> {
    let mut timestamps = false;
    let mut body = String::new();
    message(schema.fields(), "Record", 0, &mut body, &mut timestamps)?;
    let import = if timestamps { "import \"google/protobuf/timestamp.proto\";\n\n" } else { "" };
    Ok(format!("syntax = \"proto3\";\n\n{import}{body}"))
}

fn message(fields: &Fields, name: &str, depth: usize, out: &mut String, timestamps: &mut bool) -> Result<()> {
    let pad = "  ".repeat(depth);
    let mut lines = String::new();
    let mut inner = String::new();
    for (i, field) in fields.iter().enumerate() {
        // The numbers 19000 to 19999 are Protobuf's own.
        let number = if i < 18_999 { i + 1 } else { i + 1_001 };
        let mut chars = field.name().chars();
        let starts = chars.next().is_some_and(|c| c.is_ascii_alphabetic());
        if !starts || !chars.all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(Error::validation(format!("`{}` is no name for a field in Protobuf", field.name()))
                .hint("a name begins with a letter and goes on with letters, digits and '_'"));
        }
        let place = |e: Error| e.context(format!("column `{}`", field.name()));
        let nested = format!("{}Row", camel(field.name()));
        let mut one = |ty: &DataType| scalar(ty, &nested, depth, &mut inner, timestamps).map_err(place);
        let ty = match field.data_type() {
            DataType::List(item) => format!("repeated {}", one(item.data_type())?),
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(kv) => match kv.as_ref() {
                    [key, value] => {
                        let key = match key.data_type() {
                            DataType::Utf8 => "string",
                            DataType::Boolean => "bool",
                            DataType::Int8 | DataType::Int16 | DataType::Int32 => "int32",
                            DataType::Int64 => "int64",
                            other => {
                                let e = format!("Protobuf has no maps with keys of type {}", sql_name(other));
                                return Err(place(Error::unsupported(e)));
                            }
                        };
                        format!("map<{key}, {}>", one(value.data_type())?)
                    }
                    _ => return Err(place(unsupported(field.data_type()))),
                },
                _ => return Err(place(unsupported(field.data_type()))),
            },
            ty @ (DataType::Struct(_) | DataType::Timestamp(..)) => one(ty)?,
            ty if field.is_nullable() => format!("optional {}", one(ty)?),
            ty => one(ty)?,
        };
        writeln!(lines, "{pad}  {ty} {} = {number};", field.name()).map_err(|_| Error::internal("text"))?;
    }
    write!(out, "{pad}message {name} {{\n{inner}{lines}{pad}}}\n").map_err(|_| Error::internal("text"))
}

/// The name of a type that stands alone; a row becomes a message `nested` in `inner`.
fn scalar(
    ty: &DataType,
    nested: &str,
    depth: usize,
    inner: &mut String,
    timestamps: &mut bool,
) -> Result<String> {
    Ok(match ty {
        DataType::Boolean => "bool",
        DataType::Int8 | DataType::Int16 | DataType::Int32 => "int32",
        DataType::Int64 => "int64",
        DataType::Float32 => "float",
        DataType::Float64 => "double",
        DataType::Utf8 => "string",
        DataType::Binary => "bytes",
        DataType::Timestamp(..) => {
            *timestamps = true;
            "google.protobuf.Timestamp"
        }
        DataType::Struct(fields) => {
            message(fields, nested, depth + 1, inner, timestamps)?;
            nested
        }
        _ => return Err(unsupported(ty)),
    }
    .to_owned())
}

fn camel(name: &str) -> String {
    let part = |p: &str| {
        let mut chars = p.chars();
        chars.next().map(|c| c.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
    };
    name.split('_').map(part).collect()
}

fn unsupported(ty: &DataType) -> Error {
    Error::unsupported(format!("Protobuf has no type for {}", sql_name(ty)))
        .hint("CAST it to STRING, or wrap an array in a ROW")
}

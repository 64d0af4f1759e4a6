//! The format `json`: one object a record.
//!
//! ```text
//!  record ─► Scanner ─► RowShape (fields found by position, then by name) ─► ObjectReader ─► column builders ─► batch
//!  batch  ─► JsonEncoder ─► records
//! ```
//!
//! Rules, all as in Flink: fields match by exact case and a missing one is NULL; numeric texts are accepted for numbers;
//! anything but a string read into STRING keeps its JSON text; BYTES are Base64; a top-level array is one row per
//! element; an empty record gives no row. With `ignore-parse-errors` a field of the wrong type becomes NULL and a record
//! that is no JSON is skipped.
//!
//! One rule is stricter: text after the first object of a record is an error (Flink drops it without a word), unless
//! parse errors are ignored. An option of our own, `rest-column`, names a column for all that has none (`rest`).

mod confluent;
mod decode;
pub(crate) mod encode;
pub(crate) mod fail;
pub(crate) mod object;
pub(crate) mod rest;
mod scalar;
pub(crate) mod scan;
pub(crate) mod schema;
pub(crate) mod shape;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};

pub use confluent::JsonConfluentFormat;
pub(crate) use encode::{range, timestamp_value};

use super::datetime::TimestampFormat;
use super::{RecordEncoder, RecordFormat, RowDecoder};
use crate::error::{Error, Result};
use crate::options::Options;

/// Options of the format `json`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JsonOptions {
    fail_on_missing_field: bool,
    ignore_parse_errors: bool,
    timestamp_format: TimestampFormat,
    decimal_as_plain_number: bool,
    pub(crate) ignore_null_fields: bool,
}

impl JsonOptions {
    /// Takes the options that all formats of JSON have.
    pub(crate) fn new(options: &Options, prefix: &str) -> Result<Self> {
        let key = |name: &str| format!("{prefix}{name}");
        let timestamp_format =
            match options.one_of(&key("timestamp-format.standard"), &["SQL", "ISO-8601"])? {
                Some("ISO-8601") => TimestampFormat::Iso8601,
                _ => TimestampFormat::Sql,
            };
        // Arrow's maps have no NULL keys, so there is nothing that these could act on.
        options.one_of(&key("map-null-key.mode"), &["FAIL", "DROP", "LITERAL"])?;
        options.take(&key("map-null-key.literal"));
        Ok(JsonOptions {
            fail_on_missing_field: false,
            ignore_parse_errors: options.bool(&key("ignore-parse-errors"), false)?,
            timestamp_format,
            decimal_as_plain_number: options.bool(&key("encode.decimal-as-plain-number"), false)?,
            ignore_null_fields: options.bool(&key("encode.ignore-null-fields"), false)?,
        })
    }
}

/// The format `json` with its options.
#[derive(Debug)]
pub struct JsonFormat {
    schema: SchemaRef,
    options: JsonOptions,
    /// `rest-column`.
    rest: Option<usize>,
}

impl JsonFormat {
    /// Takes the options that begin with `prefix`.
    ///
    /// # Errors
    /// Validation for bad options, Unsupported for column types that JSON cannot hold.
    pub fn new(options_given: &Options, prefix: &str, schema: SchemaRef) -> Result<Self> {
        let options = options_given;
        let key = |name: &str| format!("{prefix}{name}");
        let fail_on_missing_field = options.bool(&key("fail-on-missing-field"), false)?;
        let options_of_all = JsonOptions::new(options, prefix)?;
        if fail_on_missing_field && options_of_all.ignore_parse_errors {
            return Err(Error::validation(format!(
                "{} and {} shouldn't both be true.",
                key("fail-on-missing-field"),
                key("ignore-parse-errors")
            )));
        }
        // Flink's choice between two parsers with one meaning.
        options.bool(&key("decode.json-parser.enabled"), true)?;
        let options = JsonOptions { fail_on_missing_field, ..options_of_all };
        check_types(&schema)?;
        let rest = rest_column(options_given, &key("rest-column"), &schema)?;
        if rest.is_some() && fail_on_missing_field {
            return Err(Error::validation(format!(
                "{} and {} contradict each other",
                key("fail-on-missing-field"),
                key("rest-column")
            )));
        }
        Ok(JsonFormat { schema, options, rest })
    }
}

impl JsonFormat {
    /// A decoder of the columns of a projection.
    fn decoder(&self, projection: &[usize]) -> Result<decode::JsonDecoder> {
        match self.rest.filter(|rest| projection.contains(rest)) {
            None => {
                decode::JsonDecoder::new(Arc::new(self.schema.project(projection)?), self.options, None, None)
            }
            // Only with all columns is it known what has none, or does not fit its own.
            Some(rest) => {
                let schema = loosened(&self.schema, projection);
                decode::JsonDecoder::new(schema, self.options, Some(rest), Some(projection.to_vec()))
            }
        }
    }
}

/// A schema in which the columns that are not wanted may be NULL.
pub(crate) fn loosened(schema: &SchemaRef, wanted: &[usize]) -> SchemaRef {
    let fields = schema.fields().iter().enumerate().map(|(i, field)| match wanted.contains(&i) {
        true => Arc::clone(field),
        false => Arc::new(field.as_ref().clone().with_nullable(true)),
    });
    Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()))
}

/// The column that an option names for what has no column.
///
/// # Errors
/// Validation if it is no such column.
pub(crate) fn rest_column(options: &Options, key: &str, schema: &SchemaRef) -> Result<Option<usize>> {
    let Some(name) = options.take(key) else { return Ok(None) };
    match schema.column_with_name(&name) {
        Some((i, field)) if *field.data_type() == DataType::Utf8 && field.is_nullable() => Ok(Some(i)),
        Some(_) => Err(options.invalid(key, &name, "a column of type STRING that may be NULL")),
        None => Err(options.invalid(key, &name, "one of the columns")),
    }
}

/// Refuses columns that JSON cannot hold.
pub(crate) fn check_types(schema: &arrow::datatypes::Schema) -> Result<()> {
    schema.fields().iter().try_for_each(|field| {
        check_type(field.data_type()).map_err(|e| e.context(format!("column `{}`", field.name())))
    })
}

fn check_type(ty: &DataType) -> Result<()> {
    match ty {
        DataType::List(item) => check_type(item.data_type()),
        DataType::Struct(fields) => fields.iter().try_for_each(|f| check_type(f.data_type())),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(kv) if kv.len() == 2 => {
                if kv.first().is_some_and(|k| k.data_type() != &DataType::Utf8) {
                    return Err(Error::unsupported(format!(
                        "JSON format doesn't support non-string as key type of map. The type is: {}",
                        crate::types::LogicalType::from_arrow(ty, true)
                            .map_or_else(|_| ty.to_string(), |t| t.to_string())
                    )));
                }
                kv.iter().try_for_each(|f| check_type(f.data_type()))
            }
            _ => Err(Error::unsupported(format!("json does not support the type {ty}"))),
        },
        DataType::Interval(_) => Err(Error::unsupported("json does not support interval types")),
        _ => super::column::Column::new(ty).map(|_| ()),
    }
}

impl RecordFormat for JsonFormat {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn row_decoder(&self, projection: &[usize]) -> Result<Box<dyn RowDecoder>> {
        Ok(Box::new(self.decoder(projection)?))
    }

    fn encoder(&self) -> Result<Box<dyn RecordEncoder>> {
        Ok(Box::new(encode::JsonEncoder::new(self.schema.clone(), self.options)))
    }
}

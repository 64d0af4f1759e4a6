//! The format `csv`: one record a line, columns by position.
//!
//! ```text
//!  record ─► Splitter (delimiter, quotes, escapes) ─► typed column builders ─► batch
//!  batch  ─► CsvEncoder ─► records
//! ```
//!
//! Rules, all as in Flink: a record has to have every column (with `ignore-parse-errors` missing ones are NULL) and no
//! more; an empty field is '' for STRING and an error for a number, unless `null-literal` or `empty-string-as-null` makes
//! it NULL; ARRAY and ROW are one field with `array-element-delimiter` between the items; with `ignore-parse-errors` a
//! bad field becomes NULL and a record that cannot be split is skipped.
//!
//! One option goes beyond Flink, which cannot read files with a header: **`csv.ignore-first-line`** = `true` skips the
//! first record of every file.

mod decode;
mod encode;
mod split;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};

use super::{RecordEncoder, RecordFormat, RowDecoder};
use crate::error::{Error, Result};
use crate::options::Options;
use crate::types::LogicalType;

/// Options of the format `csv`.
#[derive(Debug, Clone)]
struct CsvOptions {
    delimiter: u8,
    quote: Option<u8>,
    escape: Option<u8>,
    allow_comments: bool,
    ignore_parse_errors: bool,
    /// Between the items of an ARRAY or ROW; empty: a cell is one item.
    item_delimiter: String,
    null_literal: Option<String>,
    empty_string_as_null: bool,
    trim_spaces: bool,
    ignore_trailing: bool,
    allow_trailing_comma: bool,
    scientific_decimals: bool,
    ignore_first_line: bool,
}

/// The format `csv` with its options.
#[derive(Debug)]
pub struct CsvFormat {
    schema: SchemaRef,
    options: Arc<CsvOptions>,
}

impl CsvFormat {
    /// Takes the options that begin with `prefix`.
    ///
    /// # Errors
    /// Validation for bad options, Unsupported for column types that CSV cannot hold.
    pub fn new(options: &Options, prefix: &str, schema: SchemaRef) -> Result<Self> {
        let key = |name: &str| format!("{prefix}{name}");
        let character = |name: &str| -> Result<Option<u8>> {
            let Some(text) = options.take(&key(name)) else { return Ok(None) };
            match unescape_java(&text).as_bytes() {
                [c] if c.is_ascii() && !matches!(c, b'\n' | b'\r') => Ok(Some(*c)),
                _ => Err(options.invalid(&key(name), &text, "a single ASCII character")),
            }
        };
        let disable_quote = options.bool(&key("disable-quote-character"), false)?;
        let quote = character("quote-character")?;
        if disable_quote && quote.is_some() {
            return Err(Error::validation(format!(
                "Format cannot define a quote character and disabled quote character at the same time: {} and {}",
                key("quote-character"),
                key("disable-quote-character")
            )));
        }
        let parsed = CsvOptions {
            delimiter: character("field-delimiter")?.unwrap_or(b','),
            quote: if disable_quote { None } else { Some(quote.unwrap_or(b'"')) },
            escape: character("escape-character")?,
            allow_comments: options.bool(&key("allow-comments"), false)?,
            ignore_parse_errors: options.bool(&key("ignore-parse-errors"), false)?,
            item_delimiter: options
                .take(&key("array-element-delimiter"))
                .map_or_else(|| ";".to_owned(), |t| unescape_java(&t)),
            null_literal: options.take(&key("null-literal")),
            empty_string_as_null: options.bool(&key("empty-string-as-null"), false)?,
            trim_spaces: options.bool(&key("trim-spaces"), false)?,
            ignore_trailing: options.bool(&key("ignore-trailing-unmappable"), false)?,
            allow_trailing_comma: options.bool(&key("allow-trailing-comma"), true)?,
            scientific_decimals: options.bool(&key("write-bigdecimal-in-scientific-notation"), true)?,
            ignore_first_line: options.bool(&key("ignore-first-line"), false)?,
        };
        // Too few columns are an error anyhow, unless parse errors are ignored.
        let fail_on_missing = options.bool(&key("fail-on-missing-columns"), false)?;
        if fail_on_missing && parsed.ignore_parse_errors {
            return Err(Error::validation(format!(
                "{} and {} shouldn't both be true.",
                key("fail-on-missing-columns"),
                key("ignore-parse-errors")
            )));
        }
        let special = [Some(parsed.delimiter), parsed.quote, parsed.escape];
        for (i, a) in special.iter().enumerate() {
            if a.is_some() && special.get(i + 1..).is_some_and(|rest| rest.contains(a)) {
                return Err(Error::validation(
                    "the field delimiter, quote character and escape character of the csv format have to differ",
                ));
            }
        }
        for field in schema.fields() {
            check_type(field.data_type(), true)
                .map_err(|e| e.context(format!("column `{}`", field.name())))?;
        }
        Ok(CsvFormat { schema, options: Arc::new(parsed) })
    }
}

/// Flink runs its single-character options through Java's unescaping: `\t` is a tab.
fn unescape_java(text: &str) -> String {
    match text {
        "\\t" => "\t".to_owned(),
        "\\\\" => "\\".to_owned(),
        "\\n" => "\n".to_owned(),
        "\\r" => "\r".to_owned(),
        "\\\"" => "\"".to_owned(),
        "\\'" => "'".to_owned(),
        _ => text
            .strip_prefix("\\u")
            .filter(|hex| hex.len() == 4)
            .and_then(|hex| u32::from_str_radix(hex, 16).ok())
            .and_then(char::from_u32)
            .map_or_else(|| text.to_owned(), String::from),
    }
}

fn check_type(ty: &DataType, top: bool) -> Result<()> {
    match ty {
        DataType::List(item) if top => check_type(item.data_type(), false),
        DataType::Struct(fields) if top => fields.iter().try_for_each(|f| check_type(f.data_type(), false)),
        DataType::List(_) | DataType::Struct(_) | DataType::Map(..) | DataType::Interval(_) => {
            let name = LogicalType::from_arrow(ty, true).map_or_else(|_| ty.to_string(), |t| t.to_string());
            let place = if top { "" } else { " inside of another ARRAY or ROW" };
            Err(Error::unsupported(format!("the csv format does not support {name}{place}"))
                .hint("use the json format"))
        }
        _ => super::column::Column::new(ty).map(|_| ()),
    }
}

impl RecordFormat for CsvFormat {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn row_decoder(&self, projection: &[usize]) -> Result<Box<dyn RowDecoder>> {
        Ok(Box::new(decode::CsvDecoder::new(&self.schema, projection, self.options.clone())?))
    }

    fn encoder(&self) -> Result<Box<dyn RecordEncoder>> {
        Ok(Box::new(encode::CsvEncoder::new(self.options.clone())))
    }

    fn splittable(&self) -> bool {
        // A quoted field may hold line breaks, and whether a line break is inside of quotes can only be told from the
        // beginning of the file.
        self.options.quote.is_none() && self.options.escape.is_none()
    }

    fn skips_first_line(&self) -> bool {
        self.options.ignore_first_line
    }
}

//! CSV records to columns.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};

use super::CsvOptions;
use super::split::{cell, frame, is_comment};
use crate::error::{Error, Result};
use crate::formats::column::{Batch, Column, ColumnValues, RowKind};
use crate::formats::datetime::{TimestampFormat, parse_date_lenient, parse_time, parse_timestamp};
use crate::formats::number::{ParsedDecimal, parse_decimal, parse_f32, parse_f64};
use crate::formats::record::{Frame, RowDecoder};
use crate::text::read_base64;
use crate::types::LogicalType;

/// A field that is not of its column's type.
struct Mismatch;

/// Decoder of CSV records.
pub(super) struct CsvDecoder {
    /// All columns of the table, for messages.
    schema: SchemaRef,
    /// For each column of the table its place in the batch.
    targets: Vec<Option<usize>>,
    /// The columns that are read.
    batch: Batch,
    options: Arc<CsvOptions>,
    skipped: u64,
    nulled: u64,
}

impl CsvDecoder {
    pub(super) fn new(schema: &SchemaRef, projection: &[usize], options: Arc<CsvOptions>) -> Result<Self> {
        let projected: Schema = schema.project(projection)?;
        let targets = (0..schema.fields().len()).map(|i| projection.iter().position(|p| *p == i)).collect();
        let batch = Batch::new(Arc::new(projected))?;
        Ok(CsvDecoder { schema: schema.clone(), targets, batch, options, skipped: 0, nulled: 0 })
    }

    fn record(&mut self, text: &str) -> Result<()> {
        let columns = self.targets.len();
        let mut next = Some(0);
        let mut count = 0;
        if text.is_empty() && columns > 1 && !self.options.ignore_parse_errors {
            return Err(Self::too_few(columns, 1, text));
        }
        while let Some(pos) = next {
            if count == columns {
                if self.options.ignore_trailing || (self.options.allow_trailing_comma && pos == text.len()) {
                    break;
                }
                return Err(Error::data(format!("too many fields: {columns} expected in {}", clip(text)))
                    .hint("set 'csv.ignore-trailing-unmappable' = 'true' to leave out the rest"));
            }
            let cell = cell(text, pos, &self.options).map_err(|what| {
                Error::data(format!("cannot parse the record as CSV: {what} in {}", clip(text)))
            })?;
            next = cell.next;
            if let Some(target) = self.targets.get(count).copied().flatten() {
                self.field(count, target, &cell.text)?;
            }
            count += 1;
        }
        if count < columns && !self.options.ignore_parse_errors {
            return Err(Self::too_few(columns, count, text));
        }
        self.batch.close_row().map_err(|field| {
            Error::data(format!("column `{}` is NOT NULL and the record has no value for it", field.name()))
        })
    }

    fn too_few(columns: usize, count: usize, text: &str) -> Error {
        Error::data(format!("Row length mismatch. {columns} fields expected but was {count}: {}", clip(text)))
            .hint("set 'csv.ignore-parse-errors' = 'true' to read missing fields as NULL")
    }

    #[inline]
    fn field(&mut self, index: usize, target: usize, text: &str) -> Result<()> {
        let Some(column) = self.batch.columns.get_mut(target) else {
            return Err(Error::internal("a csv field without a column"));
        };
        if self.options.null_literal.as_deref() == Some(text)
            || (self.options.empty_string_as_null && text.is_empty())
        {
            column.push_null();
            return Ok(());
        }
        let len = column.len();
        if convert(column, text, &self.options, &mut self.nulled).is_ok() {
            return Ok(());
        }
        column.truncate(len);
        if self.options.ignore_parse_errors {
            column.push_null();
            self.nulled += 1;
            return Ok(());
        }
        let name = self.schema.fields().get(index).map_or("?", |f| f.name().as_str());
        let ty = LogicalType::from_arrow(column.data_type(), true)
            .map_or_else(|_| column.data_type().to_string(), |t| t.to_string());
        let error = Error::data(format!("field `{name}`: cannot read {} as {ty}", clip(text)));
        Err(if text.is_empty() {
            error.hint("set 'csv.null-literal' = '' to read empty fields as NULL")
        } else {
            error.hint("set 'csv.ignore-parse-errors' = 'true' to read such fields as NULL")
        })
    }
}

impl RowDecoder for CsvDecoder {
    fn frame(&mut self, data: &[u8], end: bool) -> Option<Frame> {
        frame(data, end, &self.options)
    }

    fn decode(&mut self, record: &[u8]) -> Result<()> {
        let rows = self.batch.rows();
        let record = record.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(record);
        if self.options.allow_comments && (is_comment(record) || record.iter().all(|b| *b == b' ')) {
            return Ok(());
        }
        let decoded = match std::str::from_utf8(record) {
            Ok(text) => {
                self.record(text.strip_suffix('\n').map_or(text, |t| t.strip_suffix('\r').unwrap_or(t)))
            }
            Err(e) => Err(Error::data(format!(
                "cannot parse the record as CSV: byte {} is not UTF-8",
                e.valid_up_to() + 1
            ))),
        };
        if decoded.is_err() {
            self.batch.truncate(rows);
            if self.options.ignore_parse_errors {
                self.skipped += 1;
                return Ok(());
            }
        }
        decoded
    }

    fn rows(&self) -> usize {
        self.batch.rows()
    }

    fn bytes(&self) -> usize {
        self.batch.bytes()
    }

    fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    fn take_nulled(&mut self) -> u64 {
        std::mem::take(&mut self.nulled)
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        self.batch.finish()
    }
}

fn clip(text: &str) -> String {
    const MAX: usize = 120;
    match text.char_indices().nth(MAX) {
        None => format!("'{text}'"),
        Some((end, _)) => format!("'{}…'", text.get(..end).unwrap_or_default()),
    }
}

/// Appends a value that is not NULL.
#[inline]
fn convert(column: &mut Column, text: &str, options: &CsvOptions, nulled: &mut u64) -> Result<(), Mismatch> {
    fn int<T: std::str::FromStr>(text: &str) -> Result<T, Mismatch> {
        text.trim().parse().map_err(|_| Mismatch)
    }
    match &mut column.values {
        ColumnValues::Utf8(v) => v.push(text.as_bytes()),
        ColumnValues::Int8(v) => v.push(int(text)?),
        ColumnValues::Int16(v) => v.push(int(text)?),
        ColumnValues::Int32(v) => v.push(int(text)?),
        ColumnValues::Int64(v) => v.push(int(text)?),
        ColumnValues::Float32(v) => v.push(parse_f32(text).ok_or(Mismatch)?),
        ColumnValues::Float64(v) => v.push(parse_f64(text).ok_or(Mismatch)?),
        ColumnValues::Boolean(v) => v.push(text.trim().eq_ignore_ascii_case("true")),
        ColumnValues::Decimal(v, precision, scale) => match parse_decimal(text, *precision, *scale) {
            ParsedDecimal::Value(d) => v.push(d),
            ParsedDecimal::TooLarge => column.push_null(),
            ParsedDecimal::Invalid => return Err(Mismatch),
        },
        ColumnValues::Date(v) => v.push(parse_date_lenient(text).ok_or(Mismatch)?),
        ColumnValues::Time(v) => v.push(parse_time(text, false, true).ok_or(Mismatch)?),
        ColumnValues::Timestamp(v, unit, zoned) => {
            let parsed = parse_timestamp(text.trim(), TimestampFormat::Sql, *zoned, *unit);
            v.push(parsed.ok_or(Mismatch)?);
        }
        ColumnValues::Binary(v) => {
            read_base64(text.trim().as_bytes(), v.buffer()).ok_or(Mismatch)?;
            v.close();
        }
        ColumnValues::List(v) => {
            let items = v.children.first_mut().ok_or(Mismatch)?;
            if !text.is_empty() {
                for item in items_of(text, options) {
                    item_value(items, item, options, nulled)?;
                }
            }
            v.close();
        }
        ColumnValues::Row(v) if v.kind == RowKind::Variant => v.push_variant(text).ok_or(Mismatch)?,
        ColumnValues::Row(v) if v.kind == RowKind::Bitmap => v.push_bitmap(text.trim()).ok_or(Mismatch)?,
        ColumnValues::Row(v) => {
            let count = items_of(text, options).count();
            let fields = v.children.len();
            // Without strictness missing fields at the end become NULL, but an empty text is no row.
            let fits = if options.ignore_parse_errors {
                count <= fields && !text.is_empty()
            } else {
                count == fields
            };
            if !fits {
                return Err(Mismatch);
            }
            for (child, item) in v.children.iter_mut().zip(items_of(text, options)) {
                item_value(child, item, options, nulled)?;
            }
            v.close();
        }
        ColumnValues::Map(_) | ColumnValues::Null(_) => return Err(Mismatch),
    }
    Ok(())
}

fn items_of<'a>(text: &'a str, options: &'a CsvOptions) -> impl Iterator<Item = &'a str> {
    let whole = options.item_delimiter.is_empty();
    text.split(if whole { "\0" } else { &options.item_delimiter })
}

/// An item of an ARRAY or a field of a ROW.
fn item_value(
    column: &mut Column,
    text: &str,
    options: &CsvOptions,
    nulled: &mut u64,
) -> Result<(), Mismatch> {
    if options.null_literal.as_deref() == Some(text) {
        column.push_null();
        return Ok(());
    }
    let len = column.len();
    match convert(column, text, options, nulled) {
        Err(Mismatch) if options.ignore_parse_errors => {
            column.truncate(len);
            column.push_null();
            *nulled += 1;
            Ok(())
        }
        other => other,
    }
}

//! Columns to CSV text, as Flink's Jackson writes it.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time32MillisecondType, TimeUnit,
};

use super::CsvOptions;
use crate::error::{Error, Result};
use crate::formats::RecordEncoder;
use crate::formats::datetime::{TimestampFormat, write_timestamp};
use crate::formats::json::{range, timestamp_value};
use crate::text::{
    DecimalStyle, TimeStyle, write_base64, write_date, write_decimal, write_f32, write_f64, write_int,
    write_time,
};

/// Longest text that is looked at for whether it needs quotes; Jackson quotes longer ones anyhow.
const MAX_QUOTE_CHECK: usize = 24;

/// Encoder of CSV records.
pub(super) struct CsvEncoder {
    options: Arc<CsvOptions>,
    /// Text of the cell at work.
    cell: Vec<u8>,
    /// The smallest character that needs no quotes.
    safe: u8,
}

impl CsvEncoder {
    pub(super) fn new(options: Arc<CsvOptions>) -> Self {
        let special =
            [options.delimiter, options.quote.unwrap_or(0), options.escape.unwrap_or(0), b'\r', b'\n'];
        let comment = if options.allow_comments { b'#' } else { 0 };
        let safe = special.iter().copied().max().unwrap_or(0).max(comment) + 1;
        CsvEncoder { options, cell: Vec::new(), safe }
    }

    fn needs_quotes(&self) -> bool {
        let text = &self.cell;
        // Every UTF-16 unit of non-ASCII text is safe, so bytes can stand for characters here.
        let long = text.len() > MAX_QUOTE_CHECK
            && std::str::from_utf8(text).map_or(text.len(), |t| t.encode_utf16().count()) > MAX_QUOTE_CHECK;
        long || text.iter().any(|b| *b < self.safe)
    }

    fn write_cell(&self, out: &mut Vec<u8>) {
        let text = &self.cell;
        let Some(quote) = self.options.quote.filter(|_| self.needs_quotes()) else {
            match self.options.escape {
                Some(escape) if self.options.quote.is_none() => {
                    for b in text {
                        if *b == escape || *b == self.options.delimiter {
                            out.push(escape);
                        }
                        out.push(*b);
                    }
                }
                _ => out.extend_from_slice(text),
            }
            return;
        };
        out.push(quote);
        for b in text {
            if *b == quote {
                out.push(quote);
            } else if Some(*b) == self.options.escape {
                out.push(*b);
            }
            out.push(*b);
        }
        out.push(quote);
    }
}

impl RecordEncoder for CsvEncoder {
    fn encode(&mut self, rows: &RecordBatch, buffer: &mut Vec<u8>, ends: &mut Vec<usize>) -> Result<()> {
        for row in 0..rows.num_rows() {
            for (i, column) in rows.columns().iter().enumerate() {
                if i > 0 {
                    buffer.push(self.options.delimiter);
                }
                if column.is_null(row) {
                    buffer.extend_from_slice(self.options.null_literal.as_deref().unwrap_or("").as_bytes());
                    continue;
                }
                let mut cell = std::mem::take(&mut self.cell);
                cell.clear();
                let text = value(&mut cell, &**column, row, &self.options);
                self.cell = cell;
                if text? {
                    self.write_cell(buffer);
                } else {
                    buffer.extend_from_slice(&self.cell);
                }
            }
            ends.push(buffer.len());
        }
        Ok(())
    }
}

/// Appends a value; gives whether it may need quotes.
fn value(out: &mut Vec<u8>, array: &dyn Array, row: usize, options: &CsvOptions) -> Result<bool> {
    match array.data_type() {
        DataType::Boolean => {
            out.extend_from_slice(if array.as_boolean().value(row) { b"true" } else { b"false" });
        }
        DataType::Int8 => write_int(array.as_primitive::<Int8Type>().value(row), out),
        DataType::Int16 => write_int(array.as_primitive::<Int16Type>().value(row), out),
        DataType::Int32 => write_int(array.as_primitive::<Int32Type>().value(row), out),
        DataType::Int64 => write_int(array.as_primitive::<Int64Type>().value(row), out),
        DataType::Float32 => write_f32(array.as_primitive::<Float32Type>().value(row), out),
        DataType::Float64 => write_f64(array.as_primitive::<Float64Type>().value(row), out),
        DataType::Decimal128(_, scale) => {
            let v = array.as_primitive::<Decimal128Type>().value(row);
            let style =
                if options.scientific_decimals { DecimalStyle::JavaTrimmed } else { DecimalStyle::Trimmed };
            write_decimal(v, (*scale).max(0), style, out);
        }
        DataType::Date32 => {
            write_date(array.as_primitive::<Date32Type>().value(row).into(), TimeStyle::RECORD, out);
            return Ok(true);
        }
        DataType::Time32(TimeUnit::Millisecond) => {
            let millis = array.as_primitive::<Time32MillisecondType>().value(row);
            write_time(i64::from(millis) * 1_000_000, TimeStyle::RECORD, out);
            return Ok(true);
        }
        DataType::Timestamp(unit, zone) => {
            let v = timestamp_value(array, *unit, row);
            write_timestamp(out, v, *unit, TimestampFormat::Sql, zone.is_some());
            return Ok(true);
        }
        DataType::Utf8 => {
            out.extend_from_slice(array.as_string::<i32>().value(row).as_bytes());
            return Ok(true);
        }
        DataType::Binary => {
            write_base64(array.as_binary::<i32>().value(row), out);
            return Ok(true);
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let (start, end) = range(list.value_offsets(), row);
            for i in start..end {
                item(out, &**list.values(), i, i > start, options)?;
            }
            return Ok(true);
        }
        DataType::Struct(_) => {
            for (i, child) in array.as_struct().columns().iter().enumerate() {
                item(out, &**child, row, i > 0, options)?;
            }
            return Ok(true);
        }
        other => return Err(Error::unsupported(format!("csv does not support the Arrow type {other}"))),
    }
    Ok(false)
}

fn item(out: &mut Vec<u8>, array: &dyn Array, i: usize, later: bool, options: &CsvOptions) -> Result<()> {
    if later {
        out.extend_from_slice(options.item_delimiter.as_bytes());
    }
    if array.is_null(i) {
        out.extend_from_slice(options.null_literal.as_deref().unwrap_or("").as_bytes());
        return Ok(());
    }
    value(out, array, i, options).map(|_| ())
}

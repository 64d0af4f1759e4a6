//! Columns to CSV text, as Flink's Jackson writes it.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time32MillisecondType, TimeUnit,
};
use memchr::{memchr, memchr2};

use super::CsvOptions;
use crate::error::{Error, Result};
use crate::formats::RecordEncoder;
use crate::formats::datetime::{TimestampFormat, TimestampWriter, write_timestamp};
use crate::formats::json::{range, timestamp_value};
use crate::text::{
    DecimalStyle, TimeStyle, write_base64, write_date, write_decimal, write_f32, write_f64, write_int,
    write_time,
};

/// Longest text that is looked at for whether it needs quotes; Jackson quotes longer ones anyhow.
const MAX_QUOTE_CHECK: usize = 24;

/// Most bytes of UTF-8 that a UTF-16 unit stands for.
const MAX_UTF16_BYTES: usize = 3;

/// Encoder of CSV records.
pub(super) struct CsvEncoder {
    options: Arc<CsvOptions>,
    times: TimestampWriter,
    /// Text of the cell at work, if it may need quotes.
    cell: Vec<u8>,
    /// The smallest character that needs no quotes.
    safe: u8,
}

/// A column, its type looked at once for all rows.
enum Cells<'a> {
    Long(&'a Int64Array),
    Text(&'a StringArray),
    Timestamp(TimeUnit, bool),
    Other,
}

impl<'a> Cells<'a> {
    fn of(array: &'a dyn Array) -> Self {
        match array.data_type() {
            DataType::Int64 => Cells::Long(array.as_primitive()),
            DataType::Utf8 => Cells::Text(array.as_string()),
            DataType::Timestamp(unit, zone) => Cells::Timestamp(*unit, zone.is_some()),
            _ => Cells::Other,
        }
    }
}

impl CsvEncoder {
    pub(super) fn new(options: Arc<CsvOptions>) -> Self {
        let special =
            [options.delimiter, options.quote.unwrap_or(0), options.escape.unwrap_or(0), b'\r', b'\n'];
        let comment = if options.allow_comments { b'#' } else { 0 };
        let safe = special.iter().copied().max().unwrap_or(0).max(comment) + 1;
        CsvEncoder { options, times: TimestampWriter::new(TimestampFormat::Sql), cell: Vec::new(), safe }
    }

    fn needs_quotes(&self, text: &[u8]) -> bool {
        // Every UTF-16 unit of non-ASCII text is safe, so bytes can stand for characters here.
        is_long(text) || text.iter().any(|b| *b < self.safe)
    }

    fn write_text(&self, text: &[u8], out: &mut Vec<u8>) {
        let Some(quote) = self.options.quote.filter(|_| self.needs_quotes(text)) else {
            match self.options.escape {
                Some(escape) if self.options.quote.is_none() => {
                    write_doubled(text, escape, self.options.delimiter, |_| escape, out);
                }
                _ => out.extend_from_slice(text),
            }
            return;
        };
        out.push(quote);
        write_doubled(text, quote, self.options.escape.unwrap_or(quote), |b| b, out);
        out.push(quote);
    }
}

impl RecordEncoder for CsvEncoder {
    fn encode(&mut self, rows: &RecordBatch, buffer: &mut Vec<u8>, ends: &mut Vec<usize>) -> Result<()> {
        let columns: Vec<_> = rows.columns().iter().map(|c| (c.nulls(), Cells::of(&**c), &**c)).collect();
        for row in 0..rows.num_rows() {
            for (i, (nulls, cells, column)) in columns.iter().enumerate() {
                if i > 0 {
                    buffer.push(self.options.delimiter);
                }
                if nulls.is_some_and(|n| n.is_null(row)) {
                    buffer.extend_from_slice(self.options.null_literal.as_deref().unwrap_or("").as_bytes());
                    continue;
                }
                match cells {
                    Cells::Long(numbers) => write_int(numbers.value(row), buffer),
                    Cells::Text(texts) => self.write_text(texts.value(row).as_bytes(), buffer),
                    _ => {
                        let mut cell = std::mem::take(&mut self.cell);
                        cell.clear();
                        let text = match cells {
                            Cells::Timestamp(unit, zoned) => {
                                let value = timestamp_value(*column, *unit, row);
                                self.times.write(&mut cell, value, *unit, *zoned);
                                Ok(true)
                            }
                            _ => value(&mut cell, *column, row, &self.options),
                        };
                        match text {
                            Ok(true) => self.write_text(&cell, buffer),
                            Ok(false) => buffer.extend_from_slice(&cell),
                            Err(e) => return Err(e),
                        }
                        self.cell = cell;
                    }
                }
            }
            ends.push(buffer.len());
        }
        Ok(())
    }
}

/// Whether a text has more than [`MAX_QUOTE_CHECK`] UTF-16 units.
fn is_long(text: &[u8]) -> bool {
    if text.len() <= MAX_QUOTE_CHECK {
        return false;
    }
    text.len() > MAX_QUOTE_CHECK * MAX_UTF16_BYTES
        || text.is_ascii()
        || std::str::from_utf8(text).map_or(text.len(), |t| t.encode_utf16().count()) > MAX_QUOTE_CHECK
}

/// Appends a text with something in front of each `a` and `b`, which are rare.
fn write_doubled(text: &[u8], a: u8, b: u8, front: impl Fn(u8) -> u8, out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = if a == b { memchr(a, rest) } else { memchr2(a, b, rest) } {
        let (before, found) = rest.split_at(at);
        out.extend_from_slice(before);
        let Some((found, after)) = found.split_first() else { break };
        out.extend_from_slice(&[front(*found), *found]);
        rest = after;
    }
    out.extend_from_slice(rest);
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

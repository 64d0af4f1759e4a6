//! Columns to JSON text, as Flink's Jackson writes it.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, SchemaRef, Time32MillisecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};

use super::JsonOptions;
use crate::error::{Error, Result};
use crate::formats::RecordEncoder;
use crate::formats::datetime::write_timestamp;
use crate::text::{
    DecimalStyle, Escapes, TimeStyle, write_base64, write_date, write_decimal, write_f32, write_f64,
    write_int, write_json_string, write_time,
};
use crate::types::{is_bitmap, is_variant};

/// Encoder of JSON records.
pub(crate) struct JsonEncoder {
    schema: SchemaRef,
    /// `"name":` of every column.
    names: Vec<Vec<u8>>,
    options: JsonOptions,
    /// What every record begins with.
    prefix: Vec<u8>,
}

impl JsonEncoder {
    pub(crate) fn new(schema: SchemaRef, options: JsonOptions) -> Self {
        let names = schema.fields().iter().map(|f| quoted_name(f.name())).collect();
        JsonEncoder { schema, names, options, prefix: Vec::new() }
    }

    /// Begins every record with these bytes.
    pub(crate) fn with_prefix(mut self, prefix: &[u8]) -> Self {
        self.prefix = prefix.to_vec();
        self
    }
}

fn quoted_name(name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 3);
    write_json_string(name, Escapes::JACKSON, &mut out);
    out.push(b':');
    out
}

impl RecordEncoder for JsonEncoder {
    fn encode(&mut self, rows: &RecordBatch, buffer: &mut Vec<u8>, ends: &mut Vec<usize>) -> Result<()> {
        if rows.num_columns() != self.schema.fields().len() {
            return Err(Error::internal("rows to encode have other columns than the format"));
        }
        let columns: Vec<&dyn Array> = rows.columns().iter().map(|c| &**c).collect();
        for row in 0..rows.num_rows() {
            buffer.extend_from_slice(&self.prefix);
            self.object(buffer, &self.names, &columns, row)?;
            ends.push(buffer.len());
        }
        Ok(())
    }
}

impl JsonEncoder {
    /// Appends a row of its schema as an object.
    pub(crate) fn write_row(&self, out: &mut Vec<u8>, columns: &[&dyn Array], row: usize) -> Result<()> {
        self.object(out, &self.names, columns, row)
    }

    fn object(&self, out: &mut Vec<u8>, names: &[Vec<u8>], columns: &[&dyn Array], row: usize) -> Result<()> {
        out.push(b'{');
        let mut first = true;
        for (name, column) in names.iter().zip(columns) {
            let null = column.is_null(row);
            if null && self.options.ignore_null_fields {
                continue;
            }
            if !first {
                out.push(b',');
            }
            first = false;
            out.extend_from_slice(name);
            if null {
                out.extend_from_slice(b"null");
            } else {
                self.value(out, *column, row)?;
            }
        }
        out.push(b'}');
        Ok(())
    }

    fn value_or_null(&self, out: &mut Vec<u8>, array: &dyn Array, row: usize) -> Result<()> {
        if array.is_null(row) {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        self.value(out, array, row)
    }

    fn value(&self, out: &mut Vec<u8>, array: &dyn Array, row: usize) -> Result<()> {
        match array.data_type() {
            DataType::Boolean => {
                out.extend_from_slice(if array.as_boolean().value(row) { b"true" } else { b"false" });
            }
            DataType::Int8 => write_int(array.as_primitive::<Int8Type>().value(row), out),
            DataType::Int16 => write_int(array.as_primitive::<Int16Type>().value(row), out),
            DataType::Int32 => write_int(array.as_primitive::<Int32Type>().value(row), out),
            DataType::Int64 => write_int(array.as_primitive::<Int64Type>().value(row), out),
            DataType::Float32 => {
                let v = array.as_primitive::<Float32Type>().value(row);
                quoted_unless(out, v.is_finite(), |out| write_f32(v, out));
            }
            DataType::Float64 => {
                let v = array.as_primitive::<Float64Type>().value(row);
                quoted_unless(out, v.is_finite(), |out| write_f64(v, out));
            }
            DataType::Decimal128(_, scale) => {
                let v = array.as_primitive::<Decimal128Type>().value(row);
                let style = if self.options.decimal_as_plain_number {
                    DecimalStyle::Trimmed
                } else {
                    DecimalStyle::JavaTrimmed
                };
                write_decimal(v, (*scale).max(0), style, out);
            }
            DataType::Date32 => {
                let v = array.as_primitive::<Date32Type>().value(row);
                quoted_unless(out, false, |out| write_date(v.into(), TimeStyle::RECORD, out));
            }
            DataType::Time32(TimeUnit::Millisecond) => {
                let v = array.as_primitive::<Time32MillisecondType>().value(row);
                quoted_unless(out, false, |out| write_time(i64::from(v) * 1_000_000, TimeStyle::RECORD, out));
            }
            DataType::Timestamp(unit, zone) => {
                let v = timestamp_value(array, *unit, row);
                quoted_unless(out, false, |out| {
                    write_timestamp(out, v, *unit, self.options.timestamp_format, zone.is_some());
                });
            }
            DataType::Utf8 => write_json_string(array.as_string::<i32>().value(row), Escapes::JACKSON, out),
            DataType::Binary => {
                let v = array.as_binary::<i32>().value(row);
                quoted_unless(out, false, |out| write_base64(v, out));
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                let (start, end) = range(list.value_offsets(), row);
                out.push(b'[');
                for i in start..end {
                    if i > start {
                        out.push(b',');
                    }
                    self.value_or_null(out, &**list.values(), i)?;
                }
                out.push(b']');
            }
            DataType::Map(..) => {
                let map = array.as_map();
                let (start, end) = range(map.value_offsets(), row);
                let Some(keys) = map.keys().as_string_opt::<i32>() else {
                    return Err(Error::unsupported("json does not support maps with keys other than STRING"));
                };
                out.push(b'{');
                for i in start..end {
                    if i > start {
                        out.push(b',');
                    }
                    write_json_string(keys.value(i), Escapes::JACKSON, out);
                    out.push(b':');
                    self.value_or_null(out, &**map.values(), i)?;
                }
                out.push(b'}');
            }
            // A VARIANT is JSON already.
            ty if is_variant(ty) => {
                let text = array.as_struct().column(0).as_string::<i32>();
                out.extend_from_slice(text.value(row).as_bytes());
            }
            ty if is_bitmap(ty) => {
                let v = array.as_struct().column(0).as_binary::<i32>().value(row);
                quoted_unless(out, false, |out| write_base64(v, out));
            }
            DataType::Struct(fields) => {
                let row_array = array.as_struct();
                let names: Vec<Vec<u8>> = fields.iter().map(|f| quoted_name(f.name())).collect();
                let columns: Vec<&dyn Array> = row_array.columns().iter().map(|c| &**c).collect();
                self.object(out, &names, &columns, row)?;
            }
            DataType::Null => out.extend_from_slice(b"null"),
            other => return Err(Error::unsupported(format!("json does not support the Arrow type {other}"))),
        }
        Ok(())
    }
}

/// Start and end of the items of a list.
pub(crate) fn range(offsets: &[i32], row: usize) -> (usize, usize) {
    let at = |i: usize| offsets.get(i).map_or(0, |o| usize::try_from(*o).unwrap_or(0));
    (at(row), at(row + 1))
}

/// A timestamp in its own unit.
pub(crate) fn timestamp_value(array: &dyn Array, unit: TimeUnit, row: usize) -> i64 {
    match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().value(row),
        TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().value(row),
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().value(row),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().value(row),
    }
}

fn quoted_unless(out: &mut Vec<u8>, bare: bool, write: impl FnOnce(&mut Vec<u8>)) {
    if bare {
        return write(out);
    }
    out.push(b'"');
    write(out);
    out.push(b'"');
}

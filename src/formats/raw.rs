//! The format `raw`: one physical column that is the record itself. In files every line is a row.
//!
//! STRING and BYTES take the bytes as they are, numbers their binary form (`raw.endianness`), BOOLEAN one byte.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, SchemaRef,
};
use arrow::record_batch::RecordBatchOptions;

use super::column::{Column, ColumnValues};
use super::{RecordEncoder, RecordFormat, RowDecoder};
use crate::error::{Error, Result};
use crate::options::Options;

/// The format `raw` with its options.
#[derive(Debug)]
pub struct RawFormat {
    schema: SchemaRef,
    big_endian: bool,
}

impl RawFormat {
    /// Takes the options that begin with `prefix`.
    ///
    /// # Errors
    /// Validation unless there is exactly one column, of a type that raw supports.
    pub fn new(options: &Options, prefix: &str, schema: SchemaRef) -> Result<Self> {
        let key = format!("{prefix}charset");
        if let Some(charset) = options.take(&key)
            && !matches!(charset.to_ascii_uppercase().as_str(), "UTF-8" | "UTF8" | "US-ASCII" | "ASCII")
        {
            return Err(options.invalid(&key, &charset, "UTF-8, the only supported charset"));
        }
        let endianness = options.one_of(&format!("{prefix}endianness"), &["big-endian", "little-endian"])?;
        let [field] = schema.fields().as_ref() else {
            let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
            return Err(Error::validation(format!(
                "the 'raw' format only supports a single physical column. However the defined schema contains multiple physical columns: [{}]",
                names.join(", ")
            )));
        };
        match field.data_type() {
            DataType::Utf8
            | DataType::Binary
            | DataType::Boolean
            | DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Float32
            | DataType::Float64 => {}
            other => {
                let ty = crate::types::LogicalType::from_arrow(other, true)
                    .map_or_else(|_| other.to_string(), |t| t.to_string());
                return Err(Error::unsupported(format!(
                    "the 'raw' format doesn't support '{ty}' as column type"
                )));
            }
        }
        Ok(RawFormat { schema, big_endian: endianness != Some("little-endian") })
    }
}

impl RecordFormat for RawFormat {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn row_decoder(&self, projection: &[usize]) -> Result<Box<dyn RowDecoder>> {
        let mut columns = Vec::new();
        for _ in projection {
            columns.push(Column::new(self.schema.field(0).data_type())?);
        }
        Ok(Box::new(RawDecoder {
            schema: Arc::new(self.schema.project(projection)?),
            columns,
            rows: 0,
            big_endian: self.big_endian,
        }))
    }

    fn encoder(&self) -> Result<Box<dyn RecordEncoder>> {
        Ok(Box::new(RawEncoder { big_endian: self.big_endian }))
    }
}

struct RawDecoder {
    schema: SchemaRef,
    columns: Vec<Column>,
    rows: usize,
    big_endian: bool,
}

fn fixed<const N: usize>(record: &[u8], big_endian: bool) -> Result<[u8; N]> {
    let mut bytes: [u8; N] = record.try_into().map_err(|_| {
        Error::data(format!("a raw value of {} bytes was found where the column needs {N}", record.len()))
    })?;
    if !big_endian {
        bytes.reverse();
    }
    Ok(bytes)
}

fn push(column: &mut Column, record: &[u8], big: bool) -> Result<()> {
    match &mut column.values {
        ColumnValues::Utf8(v) => {
            if let Err(e) = std::str::from_utf8(record) {
                return Err(Error::data(format!("byte {} of the record is not UTF-8", e.valid_up_to() + 1))
                    .hint("declare the column as BYTES to read any bytes"));
            }
            v.push(record);
        }
        ColumnValues::Binary(v) => v.push(record),
        ColumnValues::Boolean(v) => {
            let [b] = fixed::<1>(record, big)?;
            v.push(b != 0);
        }
        ColumnValues::Int8(v) => v.push(i8::from_be_bytes(fixed(record, big)?)),
        ColumnValues::Int16(v) => v.push(i16::from_be_bytes(fixed(record, big)?)),
        ColumnValues::Int32(v) => v.push(i32::from_be_bytes(fixed(record, big)?)),
        ColumnValues::Int64(v) => v.push(i64::from_be_bytes(fixed(record, big)?)),
        ColumnValues::Float32(v) => v.push(f32::from_be_bytes(fixed(record, big)?)),
        ColumnValues::Float64(v) => v.push(f64::from_be_bytes(fixed(record, big)?)),
        _ => return Err(Error::internal("a raw column of an unsupported type")),
    }
    Ok(())
}

impl RowDecoder for RawDecoder {
    fn decode(&mut self, record: &[u8]) -> Result<()> {
        for c in &mut self.columns {
            push(c, record, self.big_endian)?;
        }
        self.rows += 1;
        Ok(())
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn bytes(&self) -> usize {
        self.columns.iter().map(Column::bytes).sum()
    }

    fn take_skipped(&mut self) -> u64 {
        0
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        let arrays: Vec<ArrayRef> = self.columns.iter_mut().map(Column::finish).collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.rows)));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)?)
    }
}

struct RawEncoder {
    big_endian: bool,
}

impl RecordEncoder for RawEncoder {
    fn encode(&mut self, rows: &RecordBatch, buffer: &mut Vec<u8>, ends: &mut Vec<usize>) -> Result<()> {
        let Some(array) = rows.columns().first() else {
            return Err(Error::internal("raw rows without a column"));
        };
        for row in 0..rows.num_rows() {
            let start = buffer.len();
            if !array.is_null(row) {
                let number = match array.data_type() {
                    DataType::Utf8 => {
                        buffer.extend_from_slice(array.as_string::<i32>().value(row).as_bytes());
                        false
                    }
                    DataType::Binary => {
                        buffer.extend_from_slice(array.as_binary::<i32>().value(row));
                        false
                    }
                    DataType::Boolean => {
                        buffer.push(u8::from(array.as_boolean().value(row)));
                        false
                    }
                    DataType::Int8 => put(buffer, array.as_primitive::<Int8Type>().value(row).to_be_bytes()),
                    DataType::Int16 => {
                        put(buffer, array.as_primitive::<Int16Type>().value(row).to_be_bytes())
                    }
                    DataType::Int32 => {
                        put(buffer, array.as_primitive::<Int32Type>().value(row).to_be_bytes())
                    }
                    DataType::Int64 => {
                        put(buffer, array.as_primitive::<Int64Type>().value(row).to_be_bytes())
                    }
                    DataType::Float32 => {
                        put(buffer, array.as_primitive::<Float32Type>().value(row).to_be_bytes())
                    }
                    DataType::Float64 => {
                        put(buffer, array.as_primitive::<Float64Type>().value(row).to_be_bytes())
                    }
                    other => {
                        return Err(Error::unsupported(format!("the 'raw' format doesn't support {other}")));
                    }
                };
                if number
                    && !self.big_endian
                    && let Some(written) = buffer.get_mut(start..)
                {
                    written.reverse();
                }
            }
            ends.push(buffer.len());
        }
        Ok(())
    }
}

fn put<const N: usize>(buffer: &mut Vec<u8>, bytes: [u8; N]) -> bool {
    buffer.extend_from_slice(&bytes);
    true
}

//! The format `parquet`: files only, columns by name.
//!
//! ```text
//!  file ─► footer ─► row groups (pruned by statistics) ─► columns by name ─► cast to the declared types ─► batches
//!  batches ─► ArrowWriter ─► file
//! ```
//!
//! Reading: a column that the file lacks is NULL; types are cast where nothing is lost (wider numbers, other text and
//! binary encodings, dictionaries, INT96 and other time units), and a value that does not fit is an error.
//!
//! A page that cannot be read is an error that names its column and its place, whatever the decoder makes of it.
//!
//! Writing: timestamps are INT64 in the unit of the column, or in `parquet.timestamp.time.unit`. Flink's older INT96 form
//! can be read and is never written.

mod damage;
mod pages;
mod plain;
mod read;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::error::{Error, Result};
use crate::options::Options;
use crate::types::{is_bitmap, is_variant, sql_name};

pub(crate) use pages::check_pages;
pub(crate) use plain::{DictionaryInput, Footer};
pub(crate) use read::{ParquetFile, average_row_bytes, fewer_rows, is_overflow};

/// The format `parquet` with its options.
#[derive(Debug, Clone)]
pub struct ParquetFormat {
    schema: SchemaRef,
    /// The schema of written files.
    write_schema: SchemaRef,
    properties: WriterProperties,
}

/// The type in a type that no file can hold so that others understand it.
fn unsupported(ty: &DataType) -> Option<&DataType> {
    match ty {
        DataType::Interval(_) | DataType::Null => Some(ty),
        ty if is_variant(ty) || is_bitmap(ty) => Some(ty),
        DataType::List(item) => unsupported(item.data_type()),
        DataType::Map(entries, _) => unsupported(entries.data_type()),
        DataType::Struct(fields) => fields.iter().find_map(|f| unsupported(f.data_type())),
        _ => None,
    }
}

impl ParquetFormat {
    /// Takes the options that begin with `prefix`.
    ///
    /// # Errors
    /// Validation for bad options, Unsupported for column types that Parquet cannot hold.
    pub fn new(options: &Options, prefix: &str, schema: SchemaRef) -> Result<Self> {
        let key = |name: &str| format!("{prefix}{name}");
        let compression = options
            .one_of(&key("compression"), &["SNAPPY", "UNCOMPRESSED", "GZIP", "ZSTD", "LZ4", "LZ4_RAW"])?;
        let compression = match compression {
            Some("UNCOMPRESSED") => Compression::UNCOMPRESSED,
            Some("GZIP") => Compression::GZIP(GzipLevel::default()),
            Some("ZSTD") => Compression::ZSTD(ZstdLevel::default()),
            Some("LZ4" | "LZ4_RAW") => Compression::LZ4_RAW,
            _ => Compression::SNAPPY,
        };
        let unit = match options.one_of(&key("timestamp.time.unit"), &["nanos", "micros", "millis"])? {
            Some("nanos") => Some(TimeUnit::Nanosecond),
            Some("micros") => Some(TimeUnit::Microsecond),
            Some("millis") => Some(TimeUnit::Millisecond),
            _ => None,
        };
        if !options.bool(&key("write.int64.timestamp"), true)? {
            return Err(Error::unsupported(format!(
                "'{}' = 'false' is not supported",
                key("write.int64.timestamp")
            ))
            .hint("timestamps are written as INT64, which every reader of today understands"));
        }
        if !options.bool(&key("utc-timezone"), true)? {
            return Err(Error::unsupported(format!("'{}' = 'false' is not supported", key("utc-timezone")))
                .hint("timestamps in files are taken as UTC; a TIMESTAMP column keeps its wall clock"));
        }
        let size = |name: &str| -> Result<Option<usize>> {
            Ok(options.bytes(&key(name))?.map(|n| usize::try_from(n).unwrap_or(usize::MAX).max(1)))
        };
        let mut builder = WriterProperties::builder()
            .set_compression(compression)
            .set_max_row_group_bytes(Some(size("block.size")?.unwrap_or(128 << 20)))
            .set_dictionary_enabled(options.bool(&key("enable.dictionary"), true)?)
            .set_created_by(concat!("tidelake ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_coerce_types(true);
        if let Some(n) = size("page.size")? {
            builder = builder.set_data_page_size_limit(n);
        }
        if let Some(n) = size("dictionary.page.size")? {
            builder = builder.set_dictionary_page_size_limit(n);
        }
        for field in schema.fields() {
            if let Some(ty) = unsupported(field.data_type()) {
                return Err(Error::unsupported(format!(
                    "column `{}`: the parquet format does not support the type {}",
                    field.name(),
                    sql_name(ty)
                ))
                .hint(match ty {
                    ty if is_variant(ty) => "write JSON_STRING(v)",
                    ty if is_bitmap(ty) => "write BITMAP_TO_BYTES(b)",
                    _ => "CAST it",
                }));
            }
        }
        let fields: Vec<Field> = schema
            .fields()
            .iter()
            .map(|f| match (f.data_type(), unit) {
                (DataType::Timestamp(_, zone), Some(unit)) => {
                    f.as_ref().clone().with_data_type(DataType::Timestamp(unit, zone.clone()))
                }
                _ => f.as_ref().clone(),
            })
            .collect();
        Ok(ParquetFormat { schema, write_schema: Arc::new(Schema::new(fields)), properties: builder.build() })
    }

    /// The columns of the table that are in files.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// A writer of one file; [`ParquetFormat::coerce`] its batches.
    ///
    /// # Errors
    /// Unsupported types.
    pub(crate) fn writer<W: Write + Send>(&self, out: W) -> Result<ArrowWriter<W>> {
        Ok(ArrowWriter::try_new(out, self.write_schema.clone(), Some(self.properties.clone()))?)
    }

    /// A batch with the types of the file.
    ///
    /// # Errors
    /// Data for timestamps that do not fit the unit.
    pub(crate) fn coerce(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let columns: Vec<ArrayRef> = rows
            .columns()
            .iter()
            .zip(self.write_schema.fields())
            .map(
                |(c, f)| {
                    if c.data_type() == f.data_type() { Ok(c.clone()) } else { Ok(cast(c, f.data_type())?) }
                },
            )
            .collect::<Result<_>>()?;
        Ok(RecordBatch::try_new(self.write_schema.clone(), columns)?)
    }
}

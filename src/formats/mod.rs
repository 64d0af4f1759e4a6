//! Formats: bytes to rows and back.
//!
//! ```text
//!  options "json.…" ─► record_format ─► RecordFormat ─► RecordDecoder   Kafka keys and values: pushed records → batches
//!                     (message_format)
//!                                            │     └──► RowDecoder      files: cuts records out of bytes, rows → batches
//!                                            └────────► RecordEncoder   rows → records
//! ```
//!
//! | format | records (Kafka values) | files |
//! |---|---|---|
//! | json | yes | one object a line |
//! | csv | yes | one record a line |
//! | raw | yes | one line a row |
//! | debezium-json, canal-json, maxwell-json, ogg-json | yes | one message a line |
//! | avro | yes | object container files |
//! | avro-confluent, json-confluent, protobuf-confluent | yes, with the id of their schema | no |
//! | protobuf | yes | no |
//! | parquet | no | yes |
//!
//! Those with an id in front ask a schema registry ([`crate::registry`]); Confluent's names `avro-registry`,
//! `json-registry` and `proto-registry` mean the same. [`schema_columns()`] tells the columns of a registered schema.
//!
//! Options and results are those of Flink's formats of the same names. The formats of change data capture give rows with
//! kinds ([`RowDecoder::take_kinds`], [`Decoded::kinds`]) and take them ([`RecordEncoder::encode_changes`]); all others
//! know inserts only and don't pay for it.

pub mod avro;
mod bytes;
pub mod cdc;
pub(crate) mod column;
pub mod confluent;
pub mod csv;
pub(crate) mod datetime;
#[cfg(test)]
mod fuzz;
pub mod json;
pub(crate) mod number;
pub mod parquet;
pub mod protobuf;
pub mod raw;
mod record;
pub(crate) mod renamed;
mod schema_columns;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, SchemaRef};

use crate::edges::SourceChangelog;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::stream::{ChangeBatch, RowKinds};

pub use record::{Frame, RowDecoder};
pub use schema_columns::{SchemaColumn, SchemaColumns, schema_columns};

/// A timestamp of an Arrow column as SQL text; the column has to hold timestamps.
pub(crate) fn write_timestamp_sql(column: &arrow::array::ArrayRef, row: usize) -> String {
    let mut out = Vec::new();
    if let arrow::datatypes::DataType::Timestamp(unit, _) = column.data_type() {
        let value = json::timestamp_value(column, *unit, row);
        datetime::write_timestamp(&mut out, value, *unit, datetime::TimestampFormat::Sql, false);
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A record that could not be decoded.
#[derive(Debug)]
pub struct BadRecord {
    /// Index among the records pushed since the last flush.
    pub record: usize,
    /// Why.
    pub error: Error,
    /// The record itself, where it is listed and does not end the job.
    pub bytes: Vec<u8>,
}

/// Rows decoded from pushed records.
#[derive(Debug)]
pub struct Decoded {
    /// The rows.
    pub rows: RecordBatch,
    /// Their kinds, `None` when all are `+I`.
    pub kinds: Option<RowKinds>,
    /// For each row the index of its record among those pushed since the last flush; `None` when record `i` gave row `i`.
    pub records: Option<Vec<u32>>,
    /// Records dropped by `ignore-parse-errors`.
    pub skipped: u64,
    /// Fields made NULL by it.
    pub nulled: u64,
    /// Rows with a field that has no column and stands in the one for the rest.
    pub rested: u64,
    /// Records that gave no row because they are bad, if they are [listed](RecordDecoder::list_bad), in their order.
    pub bad: Vec<BadRecord>,
}

/// Decodes self-contained records such as Kafka values into batches.
pub trait RecordDecoder: Send {
    /// Takes one record. Cheap: copies the bytes, decodes at [`RecordDecoder::flush`].
    fn push(&mut self, record: &[u8]);

    /// Records pushed and not yet flushed.
    fn pending(&self) -> usize;

    /// From now on bad records do not fail a flush: they give no row and are listed in [`Decoded::bad`].
    fn list_bad(&mut self);

    /// Decodes everything pushed since the last flush.
    ///
    /// # Errors
    /// The first bad record, unless parse errors are ignored or bad records are listed. The decoder is empty afterwards.
    fn flush(&mut self) -> Result<Decoded, BadRecord>;
}

/// Encodes rows as self-contained records.
pub trait RecordEncoder: Send {
    /// Appends the encoded rows to `buffer` and the end offset of each row's record to `ends`.
    ///
    /// # Errors
    /// Data for values the format cannot hold.
    fn encode(&mut self, rows: &RecordBatch, buffer: &mut Vec<u8>, ends: &mut Vec<usize>) -> Result<()>;

    /// Appends what is left at the end of a file.
    ///
    /// # Errors
    /// As [`RecordEncoder::encode`].
    fn finish(&mut self, _buffer: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }

    /// As [`RecordEncoder::encode`], for rows of any kind.
    ///
    /// # Errors
    /// Also Internal, if a format that knows inserts only is given updates: planning refuses that.
    fn encode_changes(
        &mut self,
        batch: &ChangeBatch,
        buffer: &mut Vec<u8>,
        ends: &mut Vec<usize>,
    ) -> Result<()> {
        match batch.kinds {
            None => self.encode(&batch.rows, buffer, ends),
            Some(_) => Err(Error::internal("updates reached a format that only knows inserts")),
        }
    }
}

/// A format of self-contained records with its options, for one schema.
pub trait RecordFormat: Send + Sync + Debug {
    /// The columns it reads and writes.
    fn schema(&self) -> &SchemaRef;

    /// The kinds of changes its records stand for, read and written.
    fn changelog(&self) -> SourceChangelog {
        SourceChangelog::AppendOnly
    }

    /// What can be read of a record beside its columns: metadata keys with their types.
    fn metadata(&self) -> Vec<Field> {
        Vec::new()
    }

    /// A decoder that yields the columns `projection` (indices into the schema, in that order), for files.
    ///
    /// # Errors
    /// Unsupported for column types that the format cannot read.
    fn row_decoder(&self, projection: &[usize]) -> Result<Box<dyn RowDecoder>>;

    /// As [`RecordFormat::row_decoder`], with `metadata` (indices into [`RecordFormat::metadata`]) as further columns.
    ///
    /// # Errors
    /// As [`RecordFormat::row_decoder`].
    fn row_decoder_with(&self, projection: &[usize], metadata: &[usize]) -> Result<Box<dyn RowDecoder>> {
        if metadata.is_empty() {
            self.row_decoder(projection)
        } else {
            Err(Error::internal("metadata of a format that has none"))
        }
    }

    /// An encoder of rows with the whole schema.
    ///
    /// # Errors
    /// Unsupported for column types that the format cannot write.
    fn encoder(&self) -> Result<Box<dyn RecordEncoder>>;

    /// Whether what comes first in a file tells how to read the rest, so that reading within the file begins with it.
    fn has_header(&self) -> bool {
        false
    }

    /// What stands between the records of a file.
    fn separator(&self) -> &'static [u8] {
        b"\n"
    }

    /// Whether a file can be entered after any line break: no record holds one.
    fn splittable(&self) -> bool {
        true
    }

    /// Whether the first record of every file is a header to skip.
    fn skips_first_line(&self) -> bool {
        false
    }

    /// A decoder of pushed records that yields the columns `projection`, then `metadata`.
    ///
    /// # Errors
    /// As [`RecordFormat::row_decoder`].
    fn record_decoder(&self, projection: &[usize], metadata: &[usize]) -> Result<Box<dyn RecordDecoder>> {
        Ok(Box::new(record::BufferedRecords::new(self.row_decoder_with(projection, metadata)?)))
    }
}

/// Names that [`record_format`] knows: formats of files.
pub const RECORD_FORMATS: &[&str] =
    &["json", "csv", "raw", "avro", "debezium-json", "canal-json", "maxwell-json", "ogg-json"];

/// Names that [`message_format`] knows beside [`RECORD_FORMATS`]: their records have no end of their own.
pub const MESSAGE_FORMATS: &[&str] = &[
    "avro-confluent",
    "avro-registry",
    "json-confluent",
    "json-registry",
    "protobuf",
    "protobuf-confluent",
    "proto-registry",
];

/// Where the records of a format stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordPlace {
    /// The topic, where there is exactly one.
    pub topic: Option<String>,
    /// Whether they are keys.
    pub key: bool,
}

/// As [`record_format`], for records that stand alone, such as Kafka's.
///
/// # Errors
/// As there.
pub fn message_format(
    name: &str,
    options: &Options,
    prefix: &str,
    schema: SchemaRef,
    place: &RecordPlace,
) -> Result<Arc<dyn RecordFormat>> {
    match name {
        "avro" => Ok(Arc::new(avro::AvroFormat::new(options, prefix, schema)?)),
        "avro-confluent" | "avro-registry" => {
            Ok(Arc::new(avro::AvroFormat::confluent(options, prefix, schema, place)?))
        }
        "json-confluent" | "json-registry" => {
            Ok(Arc::new(json::JsonConfluentFormat::new(options, prefix, schema, place)?))
        }
        "protobuf" => Ok(Arc::new(protobuf::ProtobufFormat::new(options, prefix, schema)?)),
        "protobuf-confluent" | "proto-registry" => {
            Ok(Arc::new(protobuf::ProtobufFormat::confluent(options, prefix, schema, place)?))
        }
        _ if RECORD_FORMATS.contains(&name) => record_format(name, options, prefix, schema),
        other => Err(Error::validation(format!("there is no format '{other}' for records")).hint(format!(
            "supported formats: {}, {}",
            RECORD_FORMATS.join(", "),
            MESSAGE_FORMATS.join(", ")
        ))),
    }
}

/// The format `name` for rows of `schema`, with its options taken from `options` under `prefix`: `json.`, or
/// `value.json.`, `key.csv.` where a connector has several formats.
///
/// # Errors
/// Validation for an unknown format or a bad option; Unsupported for columns that the format cannot hold.
pub fn record_format(
    name: &str,
    options: &Options,
    prefix: &str,
    schema: SchemaRef,
) -> Result<Arc<dyn RecordFormat>> {
    match name {
        "json" => Ok(Arc::new(json::JsonFormat::new(options, prefix, schema)?)),
        "csv" => Ok(Arc::new(csv::CsvFormat::new(options, prefix, schema)?)),
        "raw" => Ok(Arc::new(raw::RawFormat::new(options, prefix, schema)?)),
        "avro" => Ok(Arc::new(avro::AvroFileFormat::new(options, prefix, schema)?)),
        "debezium-json" | "canal-json" | "maxwell-json" | "ogg-json" => {
            Ok(Arc::new(cdc::CdcFormat::new(name, options, prefix, schema)?))
        }
        other => Err(Error::validation(format!("there is no format '{other}' for records"))
            .hint(format!("supported formats: {}", RECORD_FORMATS.join(", ")))),
    }
}

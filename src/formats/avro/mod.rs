//! The formats `avro`, `avro-confluent` and, in files, `avro` as object container files.
//!
//! ```text
//!                     writer's schema ─┐ (of the table, of the registry by id, of the file)
//!  record ─► header ─► Program ◄───────┴ columns     compiled once per schema: plan
//!              │          └─► decode: bytes ─► column builders ─► batch
//!              └ id                   a bad record is taken back, the rows before it stay
//!  batch ─► encode ◄── Sheet ◄── schema of the table (derive, as Flink) or of the option `schema`
//! ```
//!
//! | file | what |
//! |---|---|
//! | `schema` | Avro's JSON to types |
//! | `derive` | a table's columns to a schema |
//! | `columns` | a schema to columns, for tables that are made from topics |
//! | `plan`, `decode`, `cursor` | records to columns |
//! | `encode`, `default` | columns to records |
//! | `container` | files |
//!
//! Reading is by the writer's schema, as in Flink; other than there, the unit of a timestamp is the writer's, whatever the
//! table's precision is.

pub(crate) mod columns;
mod container;
mod cursor;
mod decode;
mod default;
pub(crate) mod derive;
mod encode;
mod plan;
pub(crate) mod schema;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};

use super::column::Batch;
use super::confluent::{self, Programs, Registry};
use super::renamed::Renamed;
use super::{RecordEncoder, RecordFormat, RecordPlace, RowDecoder};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::options::Options;
use crate::registry::SchemaKind;
pub use container::AvroFileFormat;
use derive::{Timestamps, derive};
use encode::Encoder;
use plan::Program;
use schema::AvroSchema;

/// The formats `avro` and `avro-confluent` with their options.
#[derive(Debug)]
pub struct AvroFormat {
    schema: SchemaRef,
    /// The schema given by the option or made from the table.
    text: Result<String>,
    /// The same, if it was given.
    reader: Option<Arc<AvroSchema>>,
    /// Where writers' schemas are; without, they are `text`.
    registry: Option<Registry>,
    ignore: bool,
}

impl AvroFormat {
    /// Plain records: takes the options that begin with `prefix`.
    ///
    /// # Errors
    /// Validation for bad options, Unsupported for columns that Avro has no type for.
    pub fn new(options: &Options, prefix: &str, schema: SchemaRef) -> Result<Self> {
        let encoding = format!("{prefix}encoding");
        if options.one_of(&encoding, &["binary", "json"])? == Some("json") {
            return Err(Error::unsupported(format!("'{encoding}' = 'json'"))
                .hint("'binary' is supported; the format 'json' reads and writes JSON"));
        }
        let format = Self::build(options, prefix, schema, None)?;
        // It is also what records are read with.
        if let Err(e) = &format.text {
            return Err(e.duplicate());
        }
        Ok(format)
    }

    /// Records with the id of their schema: takes the options that begin with `prefix`.
    ///
    /// # Errors
    /// As [`AvroFormat::new`].
    pub fn confluent(
        options: &Options,
        prefix: &str,
        schema: SchemaRef,
        place: &RecordPlace,
    ) -> Result<Self> {
        let registry = Registry::new(options, prefix, place)?;
        Self::build(options, prefix, schema, Some(registry))
    }

    fn build(options: &Options, prefix: &str, schema: SchemaRef, registry: Option<Registry>) -> Result<Self> {
        let key = |name: &str| format!("{prefix}{name}");
        let option = key("timestamp_mapping.legacy");
        let timestamps = Timestamps { legacy: options.bool(&option, true)? };
        let ignore = options.bool(&key("ignore-parse-errors"), false)?;
        let given = options.take(&key("schema"));
        let (text, reader) = match given {
            Some(text) => {
                let place = || format!("'{}'", key("schema"));
                let reader = Arc::new(AvroSchema::parse(&text, &[]).context(place)?);
                Program::new(Arc::clone(&reader), Some(&reader), schema.fields()).map_err(|e| {
                    Error::validation(format!(
                        "Schema provided for the avro format does not match the table data type: {}",
                        e.message()
                    ))
                    .context(place())
                })?;
                (Ok(text), Some(reader))
            }
            None => (derive(&schema, timestamps, &option), None),
        };
        // What Avro cannot hold at all is refused now; TIMESTAMP_LTZ in the legacy mapping can still be read by the
        // writer's schema.
        super::column::Batch::new(Arc::clone(&schema))?;
        if let (Err(e), Some(_)) = (&text, &registry)
            && derive(&schema, Timestamps { legacy: false }, &option).is_err()
        {
            return Err(e.duplicate());
        }
        Ok(AvroFormat { schema, text, reader, registry, ignore })
    }

    fn own_schema(&self) -> Result<Given<'_>> {
        match &self.text {
            Ok(text) => Ok(Given { text, schema: AvroSchema::parse(text, &[])? }),
            Err(e) => Err(e.duplicate()),
        }
    }
}

/// The schema to write with.
struct Given<'a> {
    text: &'a str,
    schema: AvroSchema,
}

impl RecordFormat for AvroFormat {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn row_decoder(&self, projection: &[usize]) -> Result<Box<dyn RowDecoder>> {
        let schema = Arc::new(self.schema.project(projection)?);
        let source = match &self.registry {
            Some(registry) => {
                let bounds = registry.bounds(&self.schema);
                let programs = Programs::new(registry.client.clone(), SchemaKind::Avro, bounds);
                Source::Registry(programs, registry.renamed.clone())
            }
            None => {
                let own = Arc::new(self.own_schema()?.schema);
                Source::Own(Program::new(own, self.reader.as_deref(), schema.fields())?)
            }
        };
        let batch = Batch::new(Arc::clone(&schema))?;
        let reader = self.reader.clone();
        Ok(Box::new(AvroDecoder { schema, batch, source, reader, ignore: self.ignore, skipped: 0 }))
    }

    fn encoder(&self) -> Result<Box<dyn RecordEncoder>> {
        let Given { text, schema } = self.own_schema()?;
        let encoder = Encoder::new(&schema, &self.schema)?;
        let prefix = match &self.registry {
            Some(registry) => confluent::header(registry.id(SchemaKind::Avro, text.to_owned())?).to_vec(),
            None => Vec::new(),
        };
        Ok(Box::new(AvroEncoder { encoder, prefix }))
    }

    fn splittable(&self) -> bool {
        false
    }
}

/// Where the writer's schema comes from.
enum Source {
    Own(Program),
    /// The registry, and what fields were called before.
    Registry(Programs<Program>, Renamed),
}

struct AvroDecoder {
    schema: SchemaRef,
    batch: Batch,
    source: Source,
    reader: Option<Arc<AvroSchema>>,
    ignore: bool,
    skipped: u64,
}

impl AvroDecoder {
    fn read(&mut self, record: &[u8]) -> Result<()> {
        match &mut self.source {
            Source::Own(program) => program.read(record, &mut self.batch),
            Source::Registry(programs, renamed) => {
                let (id, body) = confluent::split(record)?;
                let (reader, schema): (_, &Schema) = (self.reader.as_deref(), &self.schema);
                let program = programs.get(id, |found| {
                    let writer = AvroSchema::parse(&found.text, &found.references)?;
                    let columns = renamed.in_schema(schema.fields(), |name| writer.has_field(name));
                    Program::new(Arc::new(writer), reader, &columns)
                })?;
                program.read(body, &mut self.batch)
            }
        }
    }
}

impl RowDecoder for AvroDecoder {
    fn decode(&mut self, record: &[u8]) -> Result<()> {
        let rows = self.batch.rows();
        let Err(e) = self.read(record) else { return Ok(()) };
        self.batch.truncate(rows);
        if self.ignore && e.kind() == ErrorKind::Data {
            self.skipped += 1;
            return Ok(());
        }
        Err(e)
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

    fn finish(&mut self) -> Result<RecordBatch> {
        self.batch.finish()
    }
}

struct AvroEncoder {
    encoder: Encoder,
    prefix: Vec<u8>,
}

impl RecordEncoder for AvroEncoder {
    fn encode(&mut self, rows: &RecordBatch, buffer: &mut Vec<u8>, ends: &mut Vec<usize>) -> Result<()> {
        self.encoder.encode(rows, buffer, ends, &self.prefix)
    }
}

//! The format `json-confluent`: JSON with the id of its JSON Schema in front.
//!
//! Reading takes the id off and leaves the rest to the format `json`: the columns of the table say what is wanted, and
//! fields are found by name whatever the schema. Writing registers the schema of the table's columns.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::decode::JsonDecoder;
use super::encode::JsonEncoder;
use super::{JsonFormat, schema};
use crate::error::Result;
use crate::formats::confluent::{Registry, header, split};
use crate::formats::{RecordEncoder, RecordFormat, RecordPlace, RowDecoder};
use crate::options::Options;
use crate::registry::SchemaKind;

/// The format `json-confluent` with its options: those of `json`, and those of the registry.
#[derive(Debug)]
pub struct JsonConfluentFormat {
    json: JsonFormat,
    registry: Registry,
    /// The schema to register, if it was given.
    given: Option<String>,
}

impl JsonConfluentFormat {
    /// Takes the options that begin with `prefix`.
    ///
    /// # Errors
    /// Validation for bad options, Unsupported for column types that JSON cannot hold.
    pub fn new(options: &Options, prefix: &str, schema: SchemaRef, place: &RecordPlace) -> Result<Self> {
        let registry = Registry::new(options, prefix, place)?;
        let key = format!("{prefix}schema");
        let given = options.take(&key);
        if let Some(text) = &given
            && let Err(e) = serde_json::from_str::<serde_json::Value>(text)
        {
            return Err(options.invalid(&key, text, &format!("a JSON Schema ({e})")));
        }
        Ok(JsonConfluentFormat { json: JsonFormat::new(options, prefix, schema)?, registry, given })
    }
}

impl RecordFormat for JsonConfluentFormat {
    fn schema(&self) -> &SchemaRef {
        &self.json.schema
    }

    fn row_decoder(&self, projection: &[usize]) -> Result<Box<dyn RowDecoder>> {
        let inner = self.json.decoder(projection)?;
        Ok(Box::new(Decoder { inner, ignore: self.json.options.ignore_parse_errors, skipped: 0 }))
    }

    fn encoder(&self) -> Result<Box<dyn RecordEncoder>> {
        let text = match &self.given {
            Some(text) => text.clone(),
            None => schema::derive(&self.json.schema)?,
        };
        let prefix = header(self.registry.id(SchemaKind::Json, text)?);
        Ok(Box::new(JsonEncoder::new(self.json.schema.clone(), self.json.options).with_prefix(&prefix)))
    }

    fn splittable(&self) -> bool {
        false
    }
}

struct Decoder {
    inner: JsonDecoder,
    ignore: bool,
    /// Records without a header.
    skipped: u64,
}

impl RowDecoder for Decoder {
    fn decode(&mut self, record: &[u8]) -> Result<()> {
        match split(record) {
            Ok((_, json)) => self.inner.decode(json),
            Err(_) if self.ignore => {
                self.skipped += 1;
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    fn rows(&self) -> usize {
        self.inner.rows()
    }

    fn bytes(&self) -> usize {
        self.inner.bytes()
    }

    fn take_skipped(&mut self) -> u64 {
        self.inner.take_skipped() + std::mem::take(&mut self.skipped)
    }

    fn take_nulled(&mut self) -> u64 {
        self.inner.take_nulled()
    }

    fn take_rested(&mut self) -> u64 {
        self.inner.take_rested()
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        self.inner.finish()
    }
}

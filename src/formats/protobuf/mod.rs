//! The formats `protobuf` and `protobuf-confluent`.
//!
//! ```text
//!  .proto, descriptors, registry ─► descriptor ─► plan ◄─ columns     once per message
//!  record ─► (header, path of the message) ─► decode: field numbers ─► column builders ─► batch
//!  batch ─► encode ─► records
//! ```
//!
//! | file | what |
//! |---|---|
//! | `descriptor` | what describes messages; the only place besides `plan` and `columns` that knows the libraries for it |
//! | `derive`, `columns` | a table's columns to a schema, and back |
//! | `plan` | a message and columns to a table of field numbers |
//! | `decode`, `encode`, `wire` | records |
//!
//! Flink's `protobuf` needs compiled Java classes; here a schema is enough: the option `schema-file`, `descriptor-file` or
//! `schema`, with `message-class-name` naming the message (a Java class name will do).

pub(crate) mod columns;
mod decode;
mod derive;
mod descriptor;
mod encode;
mod plan;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::{Fields, SchemaRef};
use prost_reflect::{FileDescriptor, MessageDescriptor};

use super::column::Batch;
use super::confluent::{self, Programs, Registry};
use super::renamed::Renamed;
use super::{RecordEncoder, RecordFormat, RecordPlace, RowDecoder};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::options::Options;
use crate::registry::SchemaKind;
use encode::Encoder;
use plan::{MessagePlan, Reading, plan};

/// The formats `protobuf` and `protobuf-confluent` with their options.
#[derive(Debug)]
pub struct ProtobufFormat {
    schema: SchemaRef,
    source: Messages,
    defaults: bool,
    null_text: String,
    ignore: bool,
}

/// Where the description of messages comes from.
#[derive(Debug)]
enum Messages {
    /// The options.
    Own(MessageDescriptor),
    /// The registry; the text of a schema to write with, and the message in it, if they were given.
    Registry(Box<Registry>, Option<String>, Option<String>),
}

impl ProtobufFormat {
    /// Plain messages: takes the options that begin with `prefix`.
    ///
    /// # Errors
    /// Validation for bad options and columns that the message doesn't have, External for files that cannot be read.
    pub fn new(options: &Options, prefix: &str, schema: SchemaRef) -> Result<Self> {
        let key = |name: &str| format!("{prefix}{name}");
        let name = options.require(&key("message-class-name"))?;
        let given = ["schema-file", "descriptor-file", "schema"]
            .map(|option| options.take(&key(option)).map(|value| (option, value)));
        let mut given = given.into_iter().flatten();
        let pool = match (given.next(), given.next()) {
            (Some((option, value)), None) => match option {
                "schema-file" => descriptor::from_file(&value).map(|file| file.parent_pool().clone()),
                "descriptor-file" => descriptor::from_descriptor_set(&value),
                _ => descriptor::from_text(&value, &[]).map(|file| file.parent_pool().clone()),
            }
            .context(|| format!("'{}'", key(option)))?,
            _ => {
                return Err(Error::validation(format!(
                    "the format needs exactly one of '{}', '{}' and '{}'",
                    key("schema-file"),
                    key("descriptor-file"),
                    key("schema")
                ))
                .hint("Java classes cannot be loaded: give the .proto file they were made from"));
            }
        };
        let message =
            descriptor::by_name(&pool, &name).context(|| format!("'{}'", key("message-class-name")))?;
        let format = Self::build(options, prefix, schema, Messages::Own(message.clone()))?;
        plan(&message, format.schema.fields(), format.reading(false))?;
        Ok(format)
    }

    /// Messages with the id of their schema: takes the options that begin with `prefix`.
    ///
    /// # Errors
    /// As [`ProtobufFormat::new`].
    pub fn confluent(
        options: &Options,
        prefix: &str,
        schema: SchemaRef,
        place: &RecordPlace,
    ) -> Result<Self> {
        let registry = Box::new(Registry::new(options, prefix, place)?);
        let key = |name: &str| format!("{prefix}{name}");
        let (text, name) = (options.take(&key("schema")), options.take(&key("message-class-name")));
        if let Some(text) = &text {
            descriptor::from_text(text, &[]).context(|| format!("'{}'", key("schema")))?;
        }
        Self::build(options, prefix, schema, Messages::Registry(registry, text, name))
    }

    fn build(options: &Options, prefix: &str, schema: SchemaRef, source: Messages) -> Result<Self> {
        let key = |name: &str| format!("{prefix}{name}");
        Batch::new(Arc::clone(&schema))?;
        Ok(ProtobufFormat {
            schema,
            source,
            defaults: options.bool(&key("read-default-values"), false)?,
            null_text: options.take(&key("write-null-string-literal")).unwrap_or_default(),
            ignore: options.bool(&key("ignore-parse-errors"), false)?,
        })
    }

    fn reading(&self, lenient: bool) -> Reading {
        Reading { defaults: self.defaults, lenient }
    }
}

impl RecordFormat for ProtobufFormat {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn row_decoder(&self, projection: &[usize]) -> Result<Box<dyn RowDecoder>> {
        let schema = Arc::new(self.schema.project(projection)?);
        let source = match &self.source {
            Messages::Own(message) => Source::Own(plan(message, schema.fields(), self.reading(false))?),
            Messages::Registry(registry, _, name) => {
                let bounds = registry.bounds(&self.schema);
                let programs = Programs::new(registry.client.clone(), SchemaKind::Protobuf, bounds);
                Source::Registry(programs, name.clone(), registry.renamed.clone())
            }
        };
        let reading = self.reading(true);
        let batch = Batch::new(Arc::clone(&schema))?;
        Ok(Box::new(ProtobufDecoder { schema, batch, source, reading, ignore: self.ignore, skipped: 0 }))
    }

    fn encoder(&self) -> Result<Box<dyn RecordEncoder>> {
        let (message, prefix) = match &self.source {
            Messages::Own(message) => (message.clone(), Vec::new()),
            Messages::Registry(registry, given, name) => {
                let text = match given {
                    Some(text) => text.clone(),
                    None => derive::derive(&self.schema)?,
                };
                let file = descriptor::from_text(&text, &[])?;
                let message = match name {
                    Some(name) => descriptor::by_name(file.parent_pool(), name)?,
                    None => descriptor::declared(file.messages())
                        .next()
                        .ok_or_else(|| Error::validation("the Protobuf schema has no message"))?,
                };
                let path = descriptor::path_of(&file, &message).ok_or_else(|| {
                    Error::validation(format!(
                        "the message {} is not in the schema itself",
                        message.full_name()
                    ))
                })?;
                let mut prefix = confluent::header(registry.id(SchemaKind::Protobuf, text)?).to_vec();
                put_path(&mut prefix, &path);
                (message, prefix)
            }
        };
        let plan = plan(&message, self.schema.fields(), self.reading(false))?;
        Ok(Box::new(ProtobufEncoder { encoder: Encoder { plan, null_text: self.null_text.clone() }, prefix }))
    }

    fn splittable(&self) -> bool {
        false
    }
}

/// Writes the path of a message: `[0]` is a lone 0.
fn put_path(out: &mut Vec<u8>, path: &[usize]) {
    if path == [0] {
        out.push(0);
        return;
    }
    wire::put_varint(out, (path.len() as u64) << 1);
    path.iter().for_each(|index| wire::put_varint(out, (*index as u64) << 1));
}

/// The messages of one schema that were met.
struct Known {
    file: FileDescriptor,
    plans: Mutex<Vec<PlanOfPath>>,
}

type PlanOfPath = (Vec<usize>, Result<Arc<MessagePlan>>);

impl Known {
    fn plan(
        &self,
        path: &[usize],
        wanted: Option<&str>,
        columns: &Fields,
        renamed: &Renamed,
        reading: Reading,
    ) -> Result<Arc<MessagePlan>> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, plan)) = plans.iter().find(|(p, _)| p == path) {
            return plan.as_ref().map(Arc::clone).map_err(Error::duplicate);
        }
        let make = || {
            let message = descriptor::at_path(&self.file, path)
                .ok_or_else(|| Error::data(format!("the schema has no message at {path:?}")))?;
            if let Some(name) = wanted {
                let named = descriptor::by_name(self.file.parent_pool(), name)?;
                if named != message {
                    return Err(Error::data(format!(
                        "the record is a {}, not the {} that the table is of",
                        message.full_name(),
                        named.full_name()
                    )));
                }
            }
            // The table is right about its columns; it is the record that does not fit.
            let columns = renamed.in_schema(columns, |name| message.get_field_by_name(name).is_some());
            plan(&message, &columns, reading).map(Arc::new).map_err(|e| {
                let data = Error::data(e.message());
                match e.hint_text() {
                    Some(hint) => data.hint(hint),
                    None => data,
                }
            })
        };
        let made = make();
        let answer = made.as_ref().map(Arc::clone).map_err(Error::duplicate);
        // Paths of garbage are not collected.
        if plans.len() < 1000 {
            plans.push((path.to_vec(), made));
        }
        answer
    }
}

enum Source {
    Own(MessagePlan),
    /// The registry, the name of the message, and what fields were called before.
    Registry(Programs<Known>, Option<String>, Renamed),
}

struct ProtobufDecoder {
    schema: SchemaRef,
    batch: Batch,
    source: Source,
    reading: Reading,
    ignore: bool,
    skipped: u64,
}

impl ProtobufDecoder {
    fn read(&mut self, record: &[u8]) -> Result<()> {
        let at = self.batch.rows();
        match &mut self.source {
            Source::Own(plan) => decode::read_message(plan, record, &mut self.batch.columns, at)?,
            Source::Registry(programs, name, renamed) => {
                let (id, body) = confluent::split(record)?;
                let known = programs.get(id, |found| {
                    let file = descriptor::from_text(&found.text, &found.references)?;
                    Ok(Known { file, plans: Mutex::default() })
                })?;
                let (path, body) = decode::message_path(body)?;
                let plan = known
                    .plan(&path, name.as_deref(), self.schema.fields(), renamed, self.reading)
                    .context(|| format!("schema {id}"))?;
                decode::read_message(&plan, body, &mut self.batch.columns, at)?;
            }
        }
        self.batch.close_row().map_err(|field| {
            Error::data(format!("NULL for column `{}`, which is declared NOT NULL", field.name()))
        })
    }
}

impl RowDecoder for ProtobufDecoder {
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

struct ProtobufEncoder {
    encoder: Encoder,
    prefix: Vec<u8>,
}

impl RecordEncoder for ProtobufEncoder {
    fn encode(&mut self, rows: &RecordBatch, buffer: &mut Vec<u8>, ends: &mut Vec<usize>) -> Result<()> {
        self.encoder.encode(rows, buffer, ends, &self.prefix)
    }
}

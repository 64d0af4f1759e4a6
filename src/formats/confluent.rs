//! Records with the id of their schema before them, as Confluent's serializers write them.
//!
//! ```text
//!  0 │ id of the schema, 4 bytes, highest first │ the record
//! ```
//!
//! The formats `avro-confluent`, `json-confluent` and `protobuf-confluent` share this, the options of the registry, and
//! where their schemas are registered: under `subject`, or `<topic>-key` and `<topic>-value` in a Kafka table of one topic.
//! An option of our own, `unknown-fields` = `error`, refuses records whose schema has fields that the table lacks (Avro and
//! Protobuf; Flink leaves them out). Another one, `renamed-fields` = `old:new`, gives the fields of older schemas to the columns
//! that they have become.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};

use super::RecordPlace;
use super::renamed::Renamed;
use crate::error::{Error, ErrorKind, Result};
use crate::options::Options;
use crate::registry::{NewSchema, RegisteredSchema, RegistryClient, RegistryConfig, SchemaKind};

/// What a record begins with.
const MAGIC: u8 = 0;
/// Bytes before the record.
const HEADER: usize = 5;
/// Ids that a decoder remembers not to have understood: records of garbage have any.
const MAX_FAILURES: usize = 1000;

/// Where schemas come from and go to.
#[derive(Debug, Clone)]
pub(crate) struct Registry {
    pub(crate) client: RegistryClient,
    subject: Option<String>,
    /// The option that names it.
    subject_key: String,
    register: bool,
    /// `unknown-fields` = `error`.
    strict: bool,
    /// `renamed-fields`.
    pub(crate) renamed: Renamed,
}

/// Records have fields that the table has no columns for, by their schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownFields {
    /// Id of the schema.
    pub schema: u32,
}

impl std::fmt::Display for UnknownFields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "schema {} has fields without a column", self.schema)
    }
}

impl std::error::Error for UnknownFields {}

impl UnknownFields {
    /// What an error says of it.
    pub fn of(error: &Error) -> Option<Self> {
        std::error::Error::source(error)?.downcast_ref().copied()
    }

    /// Refuses a schema with fields, at any level, that `columns` lack.
    fn check(schema: &RegisteredSchema, bounds: &Bounds) -> Result<()> {
        let found = super::schema_columns(schema, None)?.columns;
        let columns =
            bounds.renamed.in_schema(bounds.columns.fields(), |name| found.iter().any(|f| f.name == name));
        for found in &found {
            let column = columns.iter().find(|f| *f.name() == found.name);
            let missing = match column {
                None => Some(found.name.clone()),
                Some(column) => lacking(&found.ty.to_arrow(), column.data_type(), &found.name),
            };
            if let Some(path) = missing {
                return Err(Error::data(format!("records have the field `{path}`, and the table has not"))
                    .hint("add the column, or leave such fields out with 'unknown-fields' = 'ignore'")
                    .caused_by(UnknownFields { schema: schema.id }));
            }
        }
        Ok(())
    }
}

/// Columns that the schemas of records may not go beyond.
pub(crate) struct Bounds {
    columns: SchemaRef,
    renamed: Renamed,
}

/// A field inside of a type that another type lacks.
fn lacking(found: &DataType, have: &DataType, path: &str) -> Option<String> {
    match (found, have) {
        (DataType::Struct(found), DataType::Struct(have)) => found.iter().find_map(|f| {
            let path = format!("{path}.{}", f.name());
            match have.iter().find(|h| h.name() == f.name()) {
                None => Some(path),
                Some(h) => lacking(f.data_type(), h.data_type(), &path),
            }
        }),
        (DataType::List(found), DataType::List(have)) => lacking(found.data_type(), have.data_type(), path),
        (DataType::Map(found, _), DataType::Map(have, _)) => match (found.data_type(), have.data_type()) {
            (DataType::Struct(found), DataType::Struct(have)) => {
                lacking(found.get(1)?.data_type(), have.get(1)?.data_type(), path)
            }
            _ => None,
        },
        _ => None,
    }
}

impl Registry {
    /// Takes the options that begin with `prefix`.
    pub(crate) fn new(options: &Options, prefix: &str, place: &RecordPlace) -> Result<Self> {
        let key = |name: &str| format!("{prefix}{name}");
        let registry = RegistryConfig::from_options(options, prefix)?;
        let given = options.take(&key("subject")).or_else(|| options.take(&key("schema-registry.subject")));
        if given.as_deref() == Some("") {
            return Err(options.invalid(&key("subject"), "", "the name of a subject"));
        }
        let side = if place.key { "key" } else { "value" };
        let subject = given.or_else(|| place.topic.as_ref().map(|topic| format!("{topic}-{side}")));
        let strict = options.one_of(&key("unknown-fields"), &["ignore", "error"])? == Some("error");
        Ok(Registry {
            renamed: Renamed::take(options, &key("renamed-fields"))?,
            strict,
            client: RegistryClient::new(registry.config)?,
            subject,
            subject_key: key("subject"),
            register: registry.register,
        })
    }

    /// The subject to write under.
    pub(crate) fn subject(&self) -> Result<&str> {
        self.subject.as_deref().ok_or_else(|| {
            Error::validation(format!("Option '{}' is required for serialization", self.subject_key))
                .hint("it is the topic's name with -key or -value when the table has one topic")
        })
    }

    /// The columns that the schemas of records may not go beyond, if that is asked for.
    pub(crate) fn bounds(&self, columns: &SchemaRef) -> Option<Bounds> {
        self.strict.then(|| Bounds { columns: Arc::clone(columns), renamed: self.renamed.clone() })
    }

    /// The id to write with.
    pub(crate) fn id(&self, kind: SchemaKind, text: String) -> Result<u32> {
        let subject = self.subject()?;
        let schema = NewSchema { kind, text, references: Vec::new() };
        self.client.register_blocking(subject, schema, self.register)
    }
}

/// What records with that id begin with.
pub(crate) fn header(id: u32) -> [u8; HEADER] {
    let [a, b, c, d] = id.to_be_bytes();
    [MAGIC, a, b, c, d]
}

/// The id of a record, and the rest of it.
pub(crate) fn split(record: &[u8]) -> Result<(u32, &[u8])> {
    let hint = "the format is for records of Confluent's serializers; use the plain format for others";
    match record {
        [MAGIC, a, b, c, d, rest @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), rest)),
        [MAGIC, ..] | [] => {
            Err(Error::data(format!("a record of {} bytes has no room for the id of a schema", record.len()))
                .hint(hint))
        }
        [other, ..] => Err(Error::data(format!(
            "Unknown data format. Magic number does not match: the record begins with {other:#04x}, not 0x00"
        ))
        .hint(hint)),
    }
}

/// What a decoder has made of each schema.
pub(crate) struct Programs<P> {
    client: RegistryClient,
    kind: SchemaKind,
    /// Columns that no schema may go beyond.
    bounds: Option<Bounds>,
    last: Option<(u32, Arc<P>)>,
    known: HashMap<u32, Result<Arc<P>>>,
}

impl<P> Programs<P> {
    /// For schemas of one kind.
    pub(crate) fn new(client: RegistryClient, kind: SchemaKind, bounds: Option<Bounds>) -> Self {
        Programs { client, kind, bounds, last: None, known: HashMap::new() }
    }

    /// The program for a schema, made by `make` when it is met first.
    pub(crate) fn get(
        &mut self,
        id: u32,
        make: impl FnOnce(&RegisteredSchema) -> Result<P>,
    ) -> Result<Arc<P>> {
        if let Some((last, program)) = &self.last
            && *last == id
        {
            return Ok(Arc::clone(program));
        }
        let program = match self.known.get(&id) {
            Some(Ok(program)) => Arc::clone(program),
            Some(Err(e)) => return Err(e.duplicate()),
            None => {
                let made = self.client.schema_blocking(id).and_then(|schema| {
                    if schema.kind != self.kind {
                        return Err(Error::data(format!(
                            "schema {id} is {}, not {}",
                            schema.kind, self.kind
                        )));
                    }
                    if let Some(bounds) = &self.bounds {
                        UnknownFields::check(&schema, bounds)?;
                    }
                    make(&schema).map(Arc::new).map_err(|e| e.context(format!("schema {id}")))
                });
                match made {
                    Ok(program) => {
                        self.known.insert(id, Ok(Arc::clone(&program)));
                        program
                    }
                    Err(e) => {
                        // A registry that cannot be reached may be there for the next record.
                        if e.kind() != ErrorKind::External && self.known.len() < MAX_FAILURES {
                            self.known.insert(id, Err(e.duplicate()));
                        }
                        return Err(e);
                    }
                }
            }
        };
        self.last = Some((id, Arc::clone(&program)));
        Ok(program)
    }
}

#[cfg(test)]
mod tests {
    use super::{header, split};

    #[test]
    fn headers() {
        assert_eq!(header(0x0102_0304), [0, 1, 2, 3, 4]);
        assert_eq!(split(&[0, 0, 0, 1, 0, 7, 8]).unwrap(), (256, &[7u8, 8][..]));
        assert_eq!(split(&[0, 0, 0, 0, 1]).unwrap(), (1, &[][..]));
        for (record, says) in [
            (&b""[..], "a record of 0 bytes has no room"),
            (&[0, 1, 2], "a record of 3 bytes has no room"),
            (b"{\"a\":1}", "begins with 0x7b, not 0x00"),
        ] {
            let e = split(record).unwrap_err().to_string();
            assert!(e.contains(says), "{e}");
        }
    }
}

//! Avro schemas: JSON to types.
//!
//! Types stand in one list and name each other by place, so that a recursive schema is no special case. Read on our own
//! because a registry keeps what other writers accept: unknown logical types and attributes mean nothing, a default
//! counts only when it is needed, and names of other schemas come from references.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// A type by its place in [`AvroSchema::types`].
pub(crate) type TypeId = usize;

/// How deep types may be nested.
const MAX_DEPTH: usize = 100;

/// What an Avro type means beyond its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Logical {
    Decimal(u8, u8),
    Uuid,
    Date,
    TimeMillis,
    TimeMicros,
    TimestampMillis,
    TimestampMicros,
    TimestampNanos,
    LocalTimestampMillis,
    LocalTimestampMicros,
    LocalTimestampNanos,
    Duration,
}

/// The shape of a type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Record(Record),
    Enum(Enum),
    Fixed { name: String, size: usize },
    Array(TypeId),
    Map(TypeId),
    Union(Vec<TypeId>),
}

/// A record with its full name.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) fields: Vec<AvroField>,
}

/// An enumeration with its full name.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Enum {
    pub(crate) name: String,
    pub(crate) symbols: Vec<String>,
}

/// A field of a record.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AvroField {
    pub(crate) name: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) ty: TypeId,
    pub(crate) default: Option<Value>,
    pub(crate) doc: Option<String>,
}

/// A type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AvroType {
    pub(crate) shape: Shape,
    pub(crate) logical: Option<Logical>,
}

/// A schema.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AvroSchema {
    pub(crate) types: Vec<AvroType>,
    pub(crate) root: TypeId,
}

impl AvroSchema {
    /// Reads a schema and those it references, which stand before what uses them.
    ///
    /// # Errors
    /// Data with the place in the schema.
    pub(crate) fn parse(text: &str, references: &[(String, String)]) -> Result<Self> {
        let mut reader = Reader { types: Vec::new(), names: HashMap::new() };
        for (name, text) in references {
            reader.read(text).map_err(|e| e.context(format!("reference '{name}'")))?;
        }
        let root = reader.read(text)?;
        Ok(AvroSchema { types: reader.types, root })
    }

    /// Whether its records have a field.
    pub(crate) fn has_field(&self, name: &str) -> bool {
        let record = |id: TypeId| match self.shape(id) {
            Shape::Record(r) => Some(r),
            _ => None,
        };
        let root = match self.shape(self.root) {
            Shape::Union(branches) => branches.iter().find_map(|b| record(*b)),
            _ => record(self.root),
        };
        root.is_some_and(|r| r.fields.iter().any(|f| f.name == name))
    }

    /// A type of it.
    pub(crate) fn shape(&self, id: TypeId) -> &Shape {
        self.types.get(id).map_or(&Shape::Null, |t| &t.shape)
    }

    /// What a type means.
    pub(crate) fn logical(&self, id: TypeId) -> Option<Logical> {
        self.types.get(id).and_then(|t| t.logical)
    }

    /// A type in words, for messages.
    pub(crate) fn describe(&self, id: TypeId) -> String {
        let base = match self.shape(id) {
            Shape::Record(r) => format!("record {}", r.name),
            Shape::Enum(e) => format!("enum {}", e.name),
            Shape::Fixed { name, size } => format!("fixed({size}) {name}"),
            Shape::Array(item) => format!("array of {}", self.describe_name(*item)),
            Shape::Map(value) => format!("map of {}", self.describe_name(*value)),
            Shape::Union(branches) => {
                let all: Vec<String> = branches.iter().map(|b| self.describe_name(*b)).collect();
                format!("union [{}]", all.join(", "))
            }
            _ => self.branch_name(id).to_owned(),
        };
        match self.logical(id) {
            None => base,
            Some(Logical::Decimal(p, s)) => format!("{base} as decimal({p}, {s})"),
            Some(logical) => format!("{base} as {}", logical.name()),
        }
    }

    /// Like [`AvroSchema::describe`], without going into the type.
    fn describe_name(&self, id: TypeId) -> String {
        match self.logical(id) {
            Some(logical) => logical.name().to_owned(),
            None => self.branch_name(id).to_owned(),
        }
    }

    /// What a branch of a union is called: the name of a named type without its namespace, else the type.
    pub(crate) fn branch_name(&self, id: TypeId) -> &str {
        let simple = |name: &'_ str| -> usize { name.rfind('.').map_or(0, |dot| dot + 1) };
        match self.shape(id) {
            Shape::Null => "null",
            Shape::Boolean => "boolean",
            Shape::Int => "int",
            Shape::Long => "long",
            Shape::Float => "float",
            Shape::Double => "double",
            Shape::Bytes => "bytes",
            Shape::String => "string",
            Shape::Array(_) => "array",
            Shape::Map(_) => "map",
            Shape::Union(_) => "union",
            Shape::Record(Record { name, .. })
            | Shape::Enum(Enum { name, .. })
            | Shape::Fixed { name, .. } => name.get(simple(name)..).unwrap_or(name),
        }
    }

    /// What the branches of a union are called as fields of a row: their names, with the namespace where two would be the
    /// same.
    pub(crate) fn member_names(&self, branches: &[TypeId]) -> Vec<String> {
        let short: Vec<&str> = branches.iter().map(|b| self.branch_name(*b)).collect();
        let twice = |name: &str| short.iter().filter(|other| other.eq_ignore_ascii_case(name)).count() > 1;
        let name = |(id, short): (&TypeId, &&str)| match self.shape(*id) {
            Shape::Record(Record { name, .. })
            | Shape::Enum(Enum { name, .. })
            | Shape::Fixed { name, .. }
                if twice(short) =>
            {
                name.replace('.', "_")
            }
            _ => (*short).to_owned(),
        };
        branches.iter().zip(&short).map(name).collect()
    }
}

impl Logical {
    fn name(self) -> &'static str {
        match self {
            Logical::Decimal(..) => "decimal",
            Logical::Uuid => "uuid",
            Logical::Date => "date",
            Logical::TimeMillis => "time-millis",
            Logical::TimeMicros => "time-micros",
            Logical::TimestampMillis => "timestamp-millis",
            Logical::TimestampMicros => "timestamp-micros",
            Logical::TimestampNanos => "timestamp-nanos",
            Logical::LocalTimestampMillis => "local-timestamp-millis",
            Logical::LocalTimestampMicros => "local-timestamp-micros",
            Logical::LocalTimestampNanos => "local-timestamp-nanos",
            Logical::Duration => "duration",
        }
    }

    /// The logical type of an object, if it fits the type it stands on; others mean nothing, as Avro says.
    fn of(object: &Map<String, Value>, shape: &Shape) -> Option<Self> {
        let number = |key: &str| object.get(key).and_then(Value::as_u64).and_then(|n| u8::try_from(n).ok());
        Some(match (object.get("logicalType")?.as_str()?, shape) {
            ("decimal", Shape::Bytes | Shape::Fixed { .. }) => {
                let (precision, scale) = (number("precision")?, number("scale").unwrap_or(0));
                if object.get("scale").is_some() && number("scale").is_none() {
                    return None;
                }
                Some(Logical::Decimal(precision, scale)).filter(|_| precision > 0 && scale <= precision)?
            }
            ("uuid", Shape::String | Shape::Fixed { size: 16, .. }) => Logical::Uuid,
            ("date", Shape::Int) => Logical::Date,
            ("time-millis", Shape::Int) => Logical::TimeMillis,
            ("time-micros", Shape::Long) => Logical::TimeMicros,
            ("timestamp-millis", Shape::Long) => Logical::TimestampMillis,
            ("timestamp-micros", Shape::Long) => Logical::TimestampMicros,
            ("timestamp-nanos", Shape::Long) => Logical::TimestampNanos,
            ("local-timestamp-millis", Shape::Long) => Logical::LocalTimestampMillis,
            ("local-timestamp-micros", Shape::Long) => Logical::LocalTimestampMicros,
            ("local-timestamp-nanos", Shape::Long) => Logical::LocalTimestampNanos,
            ("duration", Shape::Fixed { size: 12, .. }) => Logical::Duration,
            _ => return None,
        })
    }
}

struct Reader {
    types: Vec<AvroType>,
    /// Named types by full name.
    names: HashMap<String, TypeId>,
}

fn bad(what: impl Into<String>) -> Error {
    Error::data(format!("the Avro schema is not valid: {}", what.into()))
}

fn primitive(name: &str) -> Option<Shape> {
    Some(match name {
        "null" => Shape::Null,
        "boolean" => Shape::Boolean,
        "int" => Shape::Int,
        "long" => Shape::Long,
        "float" => Shape::Float,
        "double" => Shape::Double,
        "bytes" => Shape::Bytes,
        "string" => Shape::String,
        _ => return None,
    })
}

/// The full name of `name` within `space`.
fn full(name: &str, space: &str) -> String {
    if name.contains('.') || space.is_empty() { name.to_owned() } else { format!("{space}.{name}") }
}

fn space_of(full: &str) -> &str {
    full.rsplit_once('.').map_or("", |(space, _)| space)
}

fn texts(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

impl Reader {
    fn read(&mut self, text: &str) -> Result<TypeId> {
        let json: Value = match serde_json::from_str(text) {
            Ok(json) => json,
            // Some registries keep the name of a primitive type without quotes.
            Err(_) if primitive(text.trim()).is_some() => Value::String(text.trim().to_owned()),
            Err(e) => return Err(bad(format!("it is no JSON: {e}"))),
        };
        self.any(&json, "", 0)
    }

    fn add(&mut self, shape: Shape, logical: Option<Logical>) -> TypeId {
        self.types.push(AvroType { shape, logical });
        self.types.len() - 1
    }

    fn any(&mut self, json: &Value, space: &str, depth: usize) -> Result<TypeId> {
        if depth > MAX_DEPTH {
            return Err(bad(format!("types are nested more than {MAX_DEPTH} deep")));
        }
        match json {
            Value::String(name) => match primitive(name) {
                Some(shape) => Ok(self.add(shape, None)),
                None => self.named(name, space),
            },
            Value::Array(branches) => {
                let ids =
                    branches.iter().map(|b| self.any(b, space, depth + 1)).collect::<Result<Vec<_>>>()?;
                if ids.iter().any(|id| matches!(self.types.get(*id).map(|t| &t.shape), Some(Shape::Union(_))))
                {
                    return Err(bad("a union within a union"));
                }
                Ok(self.add(Shape::Union(ids), None))
            }
            Value::Object(object) => self.object(object, space, depth),
            other => Err(bad(format!("a type cannot be {other}"))),
        }
    }

    fn named(&self, name: &str, space: &str) -> Result<TypeId> {
        let found = self.names.get(&full(name, space)).or_else(|| self.names.get(name));
        found.copied().ok_or_else(|| bad(format!("the type '{name}' is not defined")))
    }

    fn object(&mut self, object: &Map<String, Value>, space: &str, depth: usize) -> Result<TypeId> {
        let ty = object.get("type").ok_or_else(|| bad("a type without \"type\""))?;
        let Value::String(name) = ty else { return self.any(ty, space, depth + 1) };
        let shape = match name.as_str() {
            "array" => {
                let items = object.get("items").ok_or_else(|| bad("an array without \"items\""))?;
                Shape::Array(self.any(items, space, depth + 1)?)
            }
            "map" => {
                let values = object.get("values").ok_or_else(|| bad("a map without \"values\""))?;
                Shape::Map(self.any(values, space, depth + 1)?)
            }
            "record" | "error" | "enum" | "fixed" => return self.define(name, object, space, depth),
            other => match primitive(other) {
                Some(shape) => shape,
                None => return self.named(other, space),
            },
        };
        let logical = Logical::of(object, &shape);
        Ok(self.add(shape, logical))
    }

    fn define(
        &mut self,
        what: &str,
        object: &Map<String, Value>,
        space: &str,
        depth: usize,
    ) -> Result<TypeId> {
        let short = object
            .get("name")
            .and_then(Value::as_str)
            .ok_or_else(|| bad(format!("a {what} without \"name\"")))?;
        let space = object.get("namespace").and_then(Value::as_str).unwrap_or(space);
        let name = full(short, space);
        let fail = |text: String| bad(format!("{what} {name}: {text}"));
        if self.names.contains_key(&name) {
            return Err(fail("defined twice".to_owned()));
        }
        let shape = match what {
            "enum" => Shape::Enum(Enum { name: name.clone(), symbols: texts(object.get("symbols")) }),
            "fixed" => {
                let size = object.get("size").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
                Shape::Fixed { name: name.clone(), size: size.ok_or_else(|| fail("no \"size\"".to_owned()))? }
            }
            // Its fields may name it.
            _ => Shape::Record(Record { name: name.clone(), fields: Vec::new() }),
        };
        let logical = Logical::of(object, &shape);
        let id = self.add(shape, logical);
        self.names.insert(name.clone(), id);
        let own_space = space_of(&name).to_owned();
        for alias in texts(object.get("aliases")) {
            self.names.entry(full(&alias, &own_space)).or_insert(id);
        }
        if !matches!(what, "record" | "error") {
            return Ok(id);
        }
        let fields = object.get("fields").and_then(Value::as_array);
        let fields = fields.ok_or_else(|| fail("no \"fields\"".to_owned()))?;
        let mut all: Vec<AvroField> = Vec::with_capacity(fields.len());
        for field in fields {
            let text = |key: &str| field.get(key).and_then(Value::as_str).map(str::to_owned);
            let field_name = text("name").ok_or_else(|| fail("a field without \"name\"".to_owned()))?;
            if all.iter().any(|f| f.name == field_name) {
                return Err(fail(format!("the field '{field_name}' is there twice")));
            }
            let ty =
                field.get("type").ok_or_else(|| fail(format!("field '{field_name}' without \"type\"")))?;
            all.push(AvroField {
                ty: self
                    .any(ty, &own_space, depth + 1)
                    .map_err(|e| e.context(format!("field '{field_name}'")))?,
                aliases: texts(field.get("aliases")),
                default: field.get("default").cloned(),
                doc: text("doc"),
                name: field_name,
            });
        }
        if let Some(AvroType { shape: Shape::Record(record), .. }) = self.types.get_mut(id) {
            record.fields = all;
        }
        Ok(id)
    }
}

//! From a writer's schema and a table's columns to the steps that read a record.
//!
//! ```text
//!  writer's schema ─┐
//!  reader's schema ─┼─► compile, once ─► RowPlan: for every field of the writer, in order: into that column, or skip
//!  columns         ─┘                    and for every column that the writer lacks: its default
//! ```
//!
//! What Avro calls schema resolution happens here: fields meet by name (or an alias of the reader's schema), numbers are
//! promoted, branches of unions are read each in its own way. What cannot be read is an error of the schema where it is
//! always in the way, and of the record where only a branch of a union is.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};

use super::default::encode_default;
use super::schema::{AvroField, AvroSchema, Enum, Logical, Record, Shape, TypeId};
use crate::error::{Error, Result};
use crate::types::sql_name;

/// How a number of time changes its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    One,
    Times(i64),
    Over(i64),
}

/// What bytes become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BytesTo {
    /// Text, which has to be UTF-8.
    Text,
    Raw,
    /// A number with so many digits after the point.
    Decimal(u8),
    /// The text of a UUID.
    Uuid,
}

/// How a value is read.
#[derive(Debug)]
pub(super) enum Node {
    /// It cannot be; why.
    Refuse(Arc<str>),
    Null,
    Boolean,
    /// `true`: of 32 bits.
    Number(bool, Scale),
    Float,
    Double,
    Bytes(BytesTo),
    Fixed(usize, BytesTo),
    Enum(Vec<String>),
    List(Box<Node>),
    Map(Box<Node>),
    Row(RowPlan),
    Union(Vec<Node>),
    /// A union as a row with a field for every branch but `null`.
    Members(Vec<Option<(usize, Node)>>),
}

/// A field of the writer.
#[derive(Debug)]
pub(super) enum Step {
    Read { column: usize, node: Node, name: String },
    Skip(TypeId),
}

/// How a record is read.
#[derive(Debug, Default)]
pub(super) struct RowPlan {
    pub(super) steps: Vec<Step>,
    /// Columns that the writer lacks: their values, encoded.
    pub(super) defaults: Vec<(usize, Node, Vec<u8>)>,
}

/// How a whole record is read.
#[derive(Debug)]
pub(super) enum Root {
    Row(RowPlan),
    /// A record that may be `null`: by branch.
    Union(Vec<Option<RowPlan>>),
    /// No record, read into the only column.
    Value(Node),
}

/// A program for the records of one writer's schema.
#[derive(Debug)]
pub(crate) struct Program {
    pub(super) schema: Arc<AvroSchema>,
    pub(super) root: Root,
}

impl Program {
    /// For records of `schema` into `columns`. `reader` gives aliases and defaults.
    ///
    /// # Errors
    /// Data if the columns cannot be read from such records.
    pub(crate) fn new(
        schema: Arc<AvroSchema>,
        reader: Option<&AvroSchema>,
        columns: &Fields,
    ) -> Result<Self> {
        let compiler = Compiler { schema: &schema, reader };
        let record = reader.and_then(|r| record_of(r, r.root));
        let root = match schema.shape(schema.root) {
            Shape::Record(r) => Root::Row(compiler.row(r, record, columns)?),
            Shape::Union(branches) => {
                let plan = |id: &TypeId| match schema.shape(*id) {
                    Shape::Null => Ok(None),
                    Shape::Record(r) => compiler.row(r, record, columns).map(Some),
                    _ => Err(no_record(&schema)),
                };
                match branches.iter().map(plan).collect::<Result<Vec<_>>>() {
                    Ok(plans) => Root::Union(plans),
                    Err(e) => compiler.single(columns).map_err(|_| e)?,
                }
            }
            _ => compiler.single(columns)?,
        };
        Ok(Program { schema: Arc::clone(&schema), root })
    }
}

fn no_record(schema: &AvroSchema) -> Error {
    Error::data(format!("the schema of the record is a {}, not a record", schema.describe(schema.root)))
        .hint("a table of one column can be read from it")
}

/// The record behind a type, which may be nullable.
fn record_of(schema: &AvroSchema, id: TypeId) -> Option<&Record> {
    match schema.shape(id) {
        Shape::Record(r) => Some(r),
        Shape::Union(branches) => branches.iter().find_map(|b| match schema.shape(*b) {
            Shape::Record(r) => Some(r),
            _ => None,
        }),
        _ => None,
    }
}

struct Compiler<'a> {
    schema: &'a AvroSchema,
    reader: Option<&'a AvroSchema>,
}

impl Compiler<'_> {
    fn single(&self, columns: &Fields) -> Result<Root> {
        match columns.as_ref() {
            [column] => Ok(Root::Value(self.value(self.schema.root, None, column)?)),
            // Nothing is wanted of it: the value is read into nowhere.
            [] => Ok(Root::Row(RowPlan { steps: vec![Step::Skip(self.schema.root)], defaults: Vec::new() })),
            _ => Err(no_record(self.schema)),
        }
    }

    fn row(&self, writer: &Record, reader: Option<&Record>, columns: &Fields) -> Result<RowPlan> {
        let mut plan = RowPlan::default();
        let declared = |name: &str| reader.and_then(|r| r.fields.iter().find(|f| f.name == name));
        // The column that a field of the writer goes to.
        let target = |field: &AvroField| {
            columns.iter().position(|c| *c.name() == field.name).or_else(|| {
                columns.iter().position(|c| {
                    declared(c.name()).is_some_and(|r| r.aliases.contains(&field.name))
                        && !writer.fields.iter().any(|f| f.name == *c.name())
                })
            })
        };
        let mut found = vec![false; columns.len()];
        for field in &writer.fields {
            let column = target(field).and_then(|i| columns.get(i).map(|c| (i, c)));
            let Some((i, column)) = column else {
                plan.steps.push(Step::Skip(field.ty));
                continue;
            };
            if let Some(found) = found.get_mut(i) {
                *found = true;
            }
            let of_reader = declared(column.name()).map(|f| f.ty);
            let node = self
                .value(field.ty, of_reader, column)
                .map_err(|e| e.context(format!("field '{}'", field.name)))?;
            plan.steps.push(Step::Read { column: i, node, name: field.name.clone() });
        }
        for (i, column) in columns.iter().enumerate().filter(|(i, _)| found.get(*i) == Some(&false)) {
            if let (Some(field), Some(reader)) = (declared(column.name()), self.reader)
                && let Some(default) = &field.default
            {
                let mut bytes = Vec::new();
                encode_default(reader, field.ty, default, &mut bytes)
                    .map_err(|e| e.context(format!("the default of field '{}'", field.name)))?;
                let own = Compiler { schema: reader, reader: Some(reader) };
                plan.defaults.push((i, own.value(field.ty, Some(field.ty), column)?, bytes));
            } else if !column.is_nullable() {
                return Err(Error::data(format!(
                    "the writer's schema {} has no field '{}', which is declared NOT NULL",
                    writer.name,
                    column.name()
                ))
                .hint("make the column nullable, or give a reader's schema with a default in the option 'schema'"));
            }
        }
        Ok(plan)
    }

    /// Reads a value into a column; a NULL that must not be is refused.
    fn value(&self, id: TypeId, reader: Option<TypeId>, column: &Field) -> Result<Node> {
        let ty = column.data_type();
        match self.schema.shape(id) {
            Shape::Null if column.is_nullable() => Ok(Node::Null),
            Shape::Null => {
                Ok(Node::Refuse(format!("NULL for `{}`, which is declared NOT NULL", column.name()).into()))
            }
            Shape::Union(branches) => {
                let others =
                    branches.iter().filter(|b| !matches!(self.schema.shape(**b), Shape::Null)).count();
                if let DataType::Struct(fields) = ty
                    && others > 1
                    && let Some(members) = self.members(branches, fields, column)
                {
                    return members;
                }
                let mut readable = 0;
                let mut refused = None;
                let mut nodes = Vec::with_capacity(branches.len());
                for branch in branches {
                    let null = matches!(self.schema.shape(*branch), Shape::Null);
                    match self.value(*branch, reader, column) {
                        Ok(node) => {
                            readable += usize::from(!null);
                            nodes.push(node);
                        }
                        Err(e) => {
                            nodes.push(Node::Refuse(e.message().into()));
                            refused = Some(e);
                        }
                    }
                }
                match refused {
                    Some(e) if readable == 0 => Err(e),
                    _ => Ok(Node::Union(nodes)),
                }
            }
            _ => self.plain(id, reader, ty),
        }
    }

    /// A union into a row that has a field for every branch; `None` if the row has other fields.
    fn members(&self, branches: &[TypeId], fields: &Fields, column: &Field) -> Option<Result<Node>> {
        let mut members = Vec::with_capacity(branches.len());
        for (branch, name) in branches.iter().zip(self.schema.member_names(branches)) {
            if matches!(self.schema.shape(*branch), Shape::Null) {
                members.push(None);
                continue;
            }
            let (at, field) = fields.iter().enumerate().find(|(_, f)| *f.name() == name)?;
            match self.value(*branch, None, field) {
                Ok(node) => members.push(Some((at, node))),
                Err(e) => return Some(Err(e)),
            }
        }
        if members.iter().flatten().count() != fields.len() || fields.iter().any(|f| !f.is_nullable()) {
            return None;
        }
        let null_in = members.iter().any(Option::is_none) && !column.is_nullable();
        // Such a NULL is found when the record is read.
        Some(Ok(Node::Members(members)).and_then(|node| {
            if null_in {
                Err(Error::data(format!(
                    "the union can be NULL, and `{}` is declared NOT NULL",
                    column.name()
                )))
            } else {
                Ok(node)
            }
        }))
    }

    fn plain(&self, id: TypeId, reader: Option<TypeId>, ty: &DataType) -> Result<Node> {
        let logical = self.schema.logical(id);
        let mismatch = || {
            Error::data(format!("a {} cannot be read as {}", self.schema.describe(id), sql_name(ty)))
                .hint("declare the column with the type that the schema has")
        };
        Ok(match (self.schema.shape(id), ty) {
            (Shape::Boolean, DataType::Boolean) => Node::Boolean,
            (shape @ (Shape::Int | Shape::Long), _) => {
                let scale = number_scale(logical, ty).ok_or_else(mismatch)?;
                Node::Number(*shape == Shape::Int, scale)
            }
            (Shape::Float, DataType::Float32 | DataType::Float64) => Node::Float,
            (Shape::Double, DataType::Float64) => Node::Double,
            (Shape::String | Shape::Bytes | Shape::Fixed { .. }, _) => {
                let text = *self.schema.shape(id) == Shape::String;
                let to = match (ty, logical) {
                    (DataType::Decimal128(..), Some(Logical::Decimal(_, scale))) => BytesTo::Decimal(scale),
                    (DataType::Binary, _) => BytesTo::Raw,
                    (_, Some(Logical::Decimal(..))) => return Err(mismatch()),
                    (DataType::Utf8, Some(Logical::Uuid)) if !text => BytesTo::Uuid,
                    (DataType::Utf8, _) if !matches!(self.schema.shape(id), Shape::Fixed { .. }) => {
                        BytesTo::Text
                    }
                    _ => return Err(mismatch()),
                };
                match self.schema.shape(id) {
                    Shape::Fixed { size, .. } => Node::Fixed(*size, to),
                    _ => Node::Bytes(to),
                }
            }
            (Shape::Enum(Enum { symbols, .. }), DataType::Utf8) => Node::Enum(symbols.clone()),
            (Shape::Array(item), DataType::List(field)) => {
                let of_reader = self.reader.zip(reader).and_then(|(r, id)| item_of(r, id));
                Node::List(Box::new(self.value(*item, of_reader, field)?))
            }
            (Shape::Map(value), DataType::Map(entries, _)) => {
                let of_reader = self.reader.zip(reader).and_then(|(r, id)| item_of(r, id));
                match entries_of(entries) {
                    Some((key, field)) if key.data_type() == &DataType::Utf8 => {
                        Node::Map(Box::new(self.value(*value, of_reader, field)?))
                    }
                    _ => return Err(mismatch()),
                }
            }
            (Shape::Record(record), DataType::Struct(fields)) => {
                let of_reader = self.reader.zip(reader).and_then(|(r, id)| record_of(r, id));
                Node::Row(self.row(record, of_reader, fields)?)
            }
            _ => return Err(mismatch()),
        })
    }
}

/// Key and value of a map.
pub(super) fn entries_of(entries: &FieldRef) -> Option<(&FieldRef, &FieldRef)> {
    match entries.data_type() {
        DataType::Struct(kv) => match kv.as_ref() {
            [key, value] => Some((key, value)),
            _ => None,
        },
        _ => None,
    }
}

/// The items of an array or the values of a map, which may be nullable.
fn item_of(schema: &AvroSchema, id: TypeId) -> Option<TypeId> {
    let plain = |id: TypeId| match schema.shape(id) {
        Shape::Array(item) | Shape::Map(item) => Some(*item),
        _ => None,
    };
    match schema.shape(id) {
        Shape::Union(branches) => branches.iter().find_map(|b| plain(*b)),
        _ => plain(id),
    }
}

/// How a whole number becomes a value of the type; `None` if it cannot.
fn number_scale(logical: Option<Logical>, ty: &DataType) -> Option<Scale> {
    use Logical as L;
    Some(match (ty, logical) {
        (
            DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Float32
            | DataType::Float64,
            _,
        ) => Scale::One,
        (DataType::Date32, Some(L::Date) | None) => Scale::One,
        (DataType::Time32(TimeUnit::Millisecond), Some(L::TimeMillis) | None) => Scale::One,
        (DataType::Time32(TimeUnit::Millisecond), Some(L::TimeMicros)) => Scale::Over(1000),
        (DataType::Timestamp(unit, _), logical) => {
            let from: i64 = match logical {
                // A number without a meaning has the table's unit.
                None => return Some(Scale::One),
                Some(L::TimestampMillis | L::LocalTimestampMillis) => 1_000,
                Some(L::TimestampMicros | L::LocalTimestampMicros) => 1_000_000,
                Some(L::TimestampNanos | L::LocalTimestampNanos) => 1_000_000_000,
                Some(_) => return None,
            };
            let to: i64 = match unit {
                TimeUnit::Second => 1,
                TimeUnit::Millisecond => 1_000,
                TimeUnit::Microsecond => 1_000_000,
                TimeUnit::Nanosecond => 1_000_000_000,
            };
            match to.cmp(&from) {
                std::cmp::Ordering::Equal => Scale::One,
                std::cmp::Ordering::Greater => Scale::Times(to / from),
                std::cmp::Ordering::Less => Scale::Over(from / to),
            }
        }
        _ => return None,
    })
}

//! From a message's description and a table's columns to a table of field numbers.
//!
//! Shared by reading and writing: what a field is on the wire, which column it belongs to, and what stands for nothing.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, Syntax, Value};

use crate::error::{Error, Result};
use crate::types::sql_name;

/// A scalar on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalar {
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    Float,
    Double,
    String,
    Bytes,
}

/// The values of an enumeration.
#[derive(Debug, Default)]
pub(super) struct Names {
    by_number: HashMap<i32, String>,
    by_name: HashMap<String, i32>,
}

impl Names {
    fn new(desc: &EnumDescriptor) -> Self {
        let mut names = Names::default();
        for value in desc.values() {
            // Of aliases the first one counts.
            names.by_number.entry(value.number()).or_insert_with(|| value.name().to_owned());
            names.by_name.insert(value.name().to_owned(), value.number());
        }
        names
    }

    pub(super) fn name(&self, number: i32) -> Option<&str> {
        self.by_number.get(&number).map(String::as_str)
    }

    pub(super) fn number(&self, name: &str) -> Option<i32> {
        self.by_name.get(name).copied()
    }
}

/// What a field holds.
#[derive(Debug)]
pub(super) enum Holds {
    Scalar(Scalar),
    Enum(Names),
    Message(Arc<MessagePlan>),
    /// `google.protobuf.Timestamp` as a timestamp.
    Timestamp,
    /// A message with one scalar, `value`, that may be absent: `google.protobuf.Int64Value` and its like.
    Wrapper(Scalar),
}

/// What a column gets when the message has nothing for it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Absent {
    Null,
    /// The column is NOT NULL.
    Refuse,
    /// A list or a map without items.
    Empty,
    Value(Given),
    /// A row of what stands for nothing.
    Row,
}

/// A value that is not on the wire.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Given {
    Bool(bool),
    Number(i128),
    Float(f64),
    Bytes(Vec<u8>),
}

/// How often a field is there.
#[derive(Debug)]
pub(super) enum Shape {
    One,
    /// `true`: written packed.
    List(bool),
    /// A map with its key.
    Map(Scalar),
}

/// A field that has a column.
#[derive(Debug)]
pub(super) struct PlannedField {
    pub(super) number: u32,
    pub(super) name: String,
    pub(super) column: usize,
    pub(super) shape: Shape,
    pub(super) holds: Holds,
    pub(super) absent: Absent,
    /// Without presence: zero is not written.
    pub(super) implicit: bool,
    /// The other columns of its `oneof`.
    pub(super) rivals: Vec<usize>,
}

/// How a message is read and written.
#[derive(Debug, Default)]
pub(super) struct MessagePlan {
    pub(super) name: String,
    /// By number.
    pub(super) fields: Vec<PlannedField>,
    /// Place in `fields` of the numbers below a limit.
    direct: Vec<Option<u16>>,
}

/// Numbers up to here are found without a search.
const DIRECT: u32 = 256;

impl MessagePlan {
    /// The field with a number, if it has a column.
    #[inline]
    pub(super) fn find(&self, number: u32) -> Option<&PlannedField> {
        match self.direct.get(number as usize) {
            Some(place) => place.and_then(|p| self.fields.get(usize::from(p))),
            None => {
                let place = self.fields.binary_search_by_key(&number, |f| f.number).ok()?;
                self.fields.get(place)
            }
        }
    }
}

/// What the options say.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reading {
    /// `read-default-values`.
    pub(super) defaults: bool,
    /// A column without a field is NULL: the schema is of another writer.
    pub(super) lenient: bool,
}

/// Plans messages of `desc` for `columns`.
///
/// # Errors
/// Validation if a column has no field or one of another type.
pub(super) fn plan(desc: &MessageDescriptor, columns: &Fields, reading: Reading) -> Result<MessagePlan> {
    let proto3 = desc.parent_file().syntax() == Syntax::Proto3;
    let mut fields = Vec::with_capacity(columns.len());
    for (i, column) in columns.iter().enumerate() {
        let Some(field) = desc.get_field_by_name(column.name()) else {
            if reading.lenient && column.is_nullable() {
                continue;
            }
            let names: Vec<String> = desc.fields().map(|f| f.name().to_owned()).collect();
            return Err(Error::validation(format!(
                "the message {} has no field '{}'",
                desc.full_name(),
                column.name()
            ))
            .hint(format!("its fields are {}", names.join(", "))));
        };
        let planned = planned(&field, i, column, reading, proto3)
            .map_err(|e| e.context(format!("field '{}'", field.name())))?;
        fields.push((field, planned));
    }
    // Of a oneof only one is set.
    let rivals: Vec<Vec<usize>> = fields
        .iter()
        .map(|(field, own)| match field.containing_oneof() {
            Some(oneof) if !oneof.is_synthetic() => fields
                .iter()
                .filter(|(f, p)| p.column != own.column && f.containing_oneof().as_ref() == Some(&oneof))
                .map(|(_, p)| p.column)
                .collect(),
            _ => Vec::new(),
        })
        .collect();
    let mut fields: Vec<PlannedField> = fields
        .into_iter()
        .zip(rivals)
        .map(|((_, planned), rivals)| PlannedField { rivals, ..planned })
        .collect();
    fields.sort_by_key(|f| f.number);
    let highest = fields.iter().map(|f| f.number).filter(|n| *n < DIRECT).max();
    let mut direct = vec![None; highest.map_or(0, |n| n as usize + 1)];
    for (place, field) in fields.iter().enumerate() {
        if let Some(slot) = direct.get_mut(field.number as usize) {
            *slot = u16::try_from(place).ok();
        }
    }
    // Every number below the table's end is answered by it.
    if fields.len() > usize::from(u16::MAX) {
        direct.clear();
    }
    Ok(MessagePlan { name: desc.full_name().to_owned(), fields, direct })
}

fn planned(
    field: &FieldDescriptor,
    column: usize,
    of: &Field,
    reading: Reading,
    proto3: bool,
) -> Result<PlannedField> {
    if field.is_group() {
        return Err(Error::unsupported("groups are not supported"));
    }
    let ty = of.data_type();
    let implicit = !field.supports_presence() && !field.is_list() && !field.is_map();
    let (shape, holds, absent) = if field.is_map() {
        let Kind::Message(entry) = field.kind() else { return Err(mismatch(field, ty)) };
        let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
        let DataType::Map(entries, _) = ty else { return Err(mismatch(field, ty)) };
        let DataType::Struct(kv) = entries.data_type() else { return Err(mismatch(field, ty)) };
        let [key_field, value_field] = kv.as_ref() else { return Err(mismatch(field, ty)) };
        let key_scalar = scalar(&key.kind()).ok_or_else(|| mismatch(field, ty))?;
        check_scalar(key_scalar, key_field.data_type()).ok_or_else(|| mismatch(field, ty))?;
        (Shape::Map(key_scalar), holds(&value, value_field.data_type(), reading)?, Absent::Empty)
    } else if field.is_list() {
        let DataType::List(item) = ty else { return Err(mismatch(field, ty)) };
        (Shape::List(field.is_packed()), holds(field, item.data_type(), reading)?, Absent::Empty)
    } else {
        let holds = holds(field, ty, reading)?;
        let message = matches!(holds, Holds::Message(_) | Holds::Timestamp | Holds::Wrapper(_));
        let absent = match &holds {
            Holds::Message(_) if reading.defaults => Absent::Row,
            // Presence is known: nothing was written.
            _ if message || (!implicit && !reading.defaults) => Absent::Null,
            _ => Absent::Value(given(field, &holds, ty)?),
        };
        (Shape::One, holds, absent)
    };
    let absent = match absent {
        Absent::Empty if of.is_nullable() && !reading.defaults => Absent::Null,
        Absent::Null if !of.is_nullable() => Absent::Refuse,
        other => other,
    };
    let implicit = implicit && proto3;
    let (number, name) = (field.number(), field.name().to_owned());
    Ok(PlannedField { number, name, column, shape, holds, absent, implicit, rivals: Vec::new() })
}

fn mismatch(field: &FieldDescriptor, ty: &DataType) -> Error {
    let kind = match field.kind() {
        Kind::Message(m) => format!("message {}", m.full_name()),
        Kind::Enum(e) => format!("enum {}", e.full_name()),
        other => format!("{other:?}"),
    };
    let many = if field.is_map() {
        "map "
    } else if field.is_list() {
        "repeated "
    } else {
        ""
    };
    Error::validation(format!("Protobuf's {many}{kind} and the column type {} don't fit", sql_name(ty)))
        .hint("declare the column with the type that the schema has")
}

fn scalar(kind: &Kind) -> Option<Scalar> {
    Some(match kind {
        Kind::Double => Scalar::Double,
        Kind::Float => Scalar::Float,
        Kind::Int32 => Scalar::Int32,
        Kind::Int64 => Scalar::Int64,
        Kind::Uint32 => Scalar::Uint32,
        Kind::Uint64 => Scalar::Uint64,
        Kind::Sint32 => Scalar::Sint32,
        Kind::Sint64 => Scalar::Sint64,
        Kind::Fixed32 => Scalar::Fixed32,
        Kind::Fixed64 => Scalar::Fixed64,
        Kind::Sfixed32 => Scalar::Sfixed32,
        Kind::Sfixed64 => Scalar::Sfixed64,
        Kind::Bool => Scalar::Bool,
        Kind::String => Scalar::String,
        Kind::Bytes => Scalar::Bytes,
        Kind::Message(_) | Kind::Enum(_) => return None,
    })
}

/// Whether a column can hold the scalar.
fn check_scalar(scalar: Scalar, ty: &DataType) -> Option<()> {
    let fits = match scalar {
        Scalar::Bool => ty == &DataType::Boolean,
        Scalar::Float => matches!(ty, DataType::Float32 | DataType::Float64),
        Scalar::Double => ty == &DataType::Float64,
        Scalar::String => ty == &DataType::Utf8,
        Scalar::Bytes => ty == &DataType::Binary,
        _ => matches!(
            ty,
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Decimal128(..)
        ),
    };
    fits.then_some(())
}

/// The scalar in a wrapper.
fn wrapped(message: &MessageDescriptor) -> Option<Scalar> {
    let name = message.full_name().strip_prefix("google.protobuf.")?;
    Some(match name {
        "DoubleValue" => Scalar::Double,
        "FloatValue" => Scalar::Float,
        "Int64Value" => Scalar::Int64,
        "UInt64Value" => Scalar::Uint64,
        "Int32Value" => Scalar::Int32,
        "UInt32Value" => Scalar::Uint32,
        "BoolValue" => Scalar::Bool,
        "StringValue" => Scalar::String,
        "BytesValue" => Scalar::Bytes,
        _ => return None,
    })
}

fn holds(field: &FieldDescriptor, ty: &DataType, reading: Reading) -> Result<Holds> {
    let kind = field.kind();
    Ok(match &kind {
        Kind::Enum(desc) if matches!(ty, DataType::Utf8 | DataType::Int32 | DataType::Int64) => {
            Holds::Enum(Names::new(desc))
        }
        Kind::Message(desc) => match ty {
            // What is in a message of another writer may lack fields, too; its own plan says so.
            DataType::Struct(fields) => Holds::Message(Arc::new(plan(desc, fields, reading)?)),
            DataType::Timestamp(..) if desc.full_name() == "google.protobuf.Timestamp" => Holds::Timestamp,
            _ => match wrapped(desc) {
                Some(scalar) if check_scalar(scalar, ty).is_some() => Holds::Wrapper(scalar),
                _ => return Err(mismatch(field, ty)),
            },
        },
        _ => match scalar(&kind) {
            Some(scalar) if check_scalar(scalar, ty).is_some() => Holds::Scalar(scalar),
            _ => return Err(mismatch(field, ty)),
        },
    })
}

/// The default of a field.
fn given(field: &FieldDescriptor, holds: &Holds, ty: &DataType) -> Result<Given> {
    Ok(match (field.default_value(), holds) {
        (Value::EnumNumber(n), Holds::Enum(names)) if ty == &DataType::Utf8 => {
            Given::Bytes(names.name(n).unwrap_or_default().as_bytes().to_vec())
        }
        (Value::EnumNumber(n), _) => Given::Number(n.into()),
        (Value::Bool(b), _) => Given::Bool(b),
        (Value::I32(n), _) => Given::Number(n.into()),
        (Value::I64(n), _) => Given::Number(n.into()),
        (Value::U32(n), _) => Given::Number(n.into()),
        (Value::U64(n), _) => Given::Number(n.into()),
        (Value::F32(n), _) => Given::Float(n.into()),
        (Value::F64(n), _) => Given::Float(n),
        (Value::String(text), _) => Given::Bytes(text.into_bytes()),
        (Value::Bytes(bytes), _) => Given::Bytes(bytes.to_vec()),
        _ => return Err(Error::internal("a message as the default of a scalar")),
    })
}

/// Parts of a second in a unit.
pub(super) fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

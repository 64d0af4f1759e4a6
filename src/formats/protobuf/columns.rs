//! The columns of a Protobuf message.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use super::descriptor::{by_name, declared, from_text};
use crate::error::{Error, Result};
use crate::formats::schema_columns::{SchemaColumn, SchemaColumns};
use crate::registry::RegisteredSchema;
use crate::types::{LogicalType, MAX_LENGTH, RowField, TypeRoot};

/// The columns of a message of a registered schema: its first one, or that of a name.
///
/// # Errors
/// Data for a schema that is not valid, Unsupported for a message that contains itself.
pub(crate) fn columns(schema: &RegisteredSchema, message: Option<&str>) -> Result<SchemaColumns> {
    let file = from_text(&schema.text, &schema.references)?;
    let message = match message {
        Some(name) => by_name(file.parent_pool(), name)?,
        None => declared(file.messages())
            .next()
            .ok_or_else(|| Error::data("the Protobuf schema has no message"))?,
    };
    let mut walk = Walk { open: Vec::new(), left_out: Vec::new() };
    let fields = walk.message(&message, "")?;
    let column = |f: RowField| {
        let number = message.get_field_by_name(&f.name).map(|field| field.number());
        SchemaColumn { name: f.name, ty: f.ty, comment: f.comment, number, aliases: Vec::new() }
    };
    let columns = fields.into_iter().map(column).collect();
    Ok(SchemaColumns { columns, left_out: walk.left_out })
}

struct Walk {
    /// Messages around.
    open: Vec<MessageDescriptor>,
    left_out: Vec<String>,
}

impl Walk {
    fn message(&mut self, message: &MessageDescriptor, place: &str) -> Result<Vec<RowField>> {
        if self.open.contains(message) {
            return Err(Error::unsupported(format!("the message {} contains itself", message.full_name()))
                .hint("a table has no recursive types; read the topic with 'format' = 'raw', or change the schema"));
        }
        self.open.push(message.clone());
        let mut fields: Vec<FieldDescriptor> = message.fields().collect();
        // As they are declared, not by number.
        fields.sort_by_key(|f| f.path().last().copied().unwrap_or_default());
        let mut all = Vec::with_capacity(fields.len());
        for field in fields {
            let at =
                if place.is_empty() { field.name().to_owned() } else { format!("{place}.{}", field.name()) };
            match self.field(&field, &at).map_err(|e| e.context(format!("field '{at}'")))? {
                Some(ty) => all.push(RowField { name: field.name().to_owned(), ty, comment: None }),
                None => self.left_out.push(at),
            }
        }
        self.open.pop();
        Ok(all)
    }

    /// The type of a field; `None` if it is a group or a message without fields.
    fn field(&mut self, field: &FieldDescriptor, place: &str) -> Result<Option<LogicalType>> {
        if field.is_group() {
            return Ok(None);
        }
        if field.is_map() {
            let Kind::Message(entry) = field.kind() else { return Ok(None) };
            let key = self.kind(&entry.map_entry_key_field().kind(), place)?;
            let value = self.kind(&entry.map_entry_value_field().kind(), &format!("{place}{{}}"))?;
            let (Some(key), Some(value)) = (key, value) else { return Ok(None) };
            let root =
                TypeRoot::Map(Box::new(LogicalType::not_null(key)), Box::new(LogicalType::not_null(value)));
            return Ok(Some(LogicalType::not_null(root)));
        }
        if field.is_list() {
            let item = self.kind(&field.kind(), &format!("{place}[]"))?;
            let array = |item| TypeRoot::Array(Box::new(LogicalType::not_null(item)));
            return Ok(item.map(|item| LogicalType::not_null(array(item))));
        }
        let nullable = field.supports_presence() && !field.is_required();
        Ok(self.kind(&field.kind(), place)?.map(|root| LogicalType { root, nullable }))
    }

    fn kind(&mut self, kind: &Kind, place: &str) -> Result<Option<TypeRoot>> {
        Ok(Some(match kind {
            Kind::Double => TypeRoot::Double,
            Kind::Float => TypeRoot::Float,
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => TypeRoot::Int,
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint32 | Kind::Fixed32 => TypeRoot::BigInt,
            Kind::Uint64 | Kind::Fixed64 => TypeRoot::Decimal(20, 0),
            Kind::Bool => TypeRoot::Boolean,
            Kind::String | Kind::Enum(_) => TypeRoot::Varchar(MAX_LENGTH),
            Kind::Bytes => TypeRoot::Varbinary(MAX_LENGTH),
            Kind::Message(message) => match message.full_name() {
                "google.protobuf.Timestamp" => TypeRoot::TimestampLtz(9),
                "google.protobuf.DoubleValue" => TypeRoot::Double,
                "google.protobuf.FloatValue" => TypeRoot::Float,
                "google.protobuf.Int64Value" | "google.protobuf.UInt32Value" => TypeRoot::BigInt,
                "google.protobuf.UInt64Value" => TypeRoot::Decimal(20, 0),
                "google.protobuf.Int32Value" => TypeRoot::Int,
                "google.protobuf.BoolValue" => TypeRoot::Boolean,
                "google.protobuf.StringValue" => TypeRoot::Varchar(MAX_LENGTH),
                "google.protobuf.BytesValue" => TypeRoot::Varbinary(MAX_LENGTH),
                _ => {
                    let fields = self.message(message, place)?;
                    if fields.is_empty() {
                        return Ok(None);
                    }
                    TypeRoot::Row(fields)
                }
            },
        }))
    }
}

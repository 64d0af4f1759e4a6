//! Columns to messages, with the plan that reads them.
//!
//! NULL is not written; in a list or a map, where something has to stand, it is the empty value of the type, and for texts
//! what `write-null-string-literal` says, as in Flink.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
};

use super::plan::{Holds, MessagePlan, PlannedField, Scalar, Shape, per_second};
use super::wire::{put_bytes, put_tag, put_varint, put_with_length};
use crate::error::{Error, Result};
use crate::formats::json::{range, timestamp_value};

fn lost() -> Error {
    Error::internal("rows to encode have other columns than the format")
}

/// Writes rows as messages.
#[derive(Debug)]
pub(super) struct Encoder {
    pub(super) plan: MessagePlan,
    /// What stands for NULL among texts.
    pub(super) null_text: String,
}

impl Encoder {
    /// Appends every row to `out`, each after `prefix`, and the end of each to `ends`.
    ///
    /// # Errors
    /// Data for values that the message cannot hold.
    pub(super) fn encode(
        &self,
        rows: &RecordBatch,
        out: &mut Vec<u8>,
        ends: &mut Vec<usize>,
        prefix: &[u8],
    ) -> Result<()> {
        let bound = Message::new(&self.plan, rows.columns(), &self.null_text)?;
        for row in 0..rows.num_rows() {
            out.extend_from_slice(prefix);
            bound.put(row, out)?;
            ends.push(out.len());
        }
        Ok(())
    }
}

/// A plan with the arrays of a batch.
struct Message<'a> {
    plan: &'a MessagePlan,
    fields: Vec<Bound<'a>>,
}

/// A field with its array; of a list or a map with that of the items and the keys.
struct Bound<'a> {
    field: &'a PlannedField,
    array: &'a dyn Array,
    items: Option<&'a dyn Array>,
    keys: Option<&'a dyn Array>,
    message: Option<Message<'a>>,
    null_text: &'a str,
}

impl<'a> Message<'a> {
    fn new(plan: &'a MessagePlan, columns: &'a [ArrayRef], null_text: &'a str) -> Result<Self> {
        let bind = |field: &'a PlannedField| -> Result<Bound<'a>> {
            let array: &'a dyn Array = &**columns.get(field.column).ok_or_else(lost)?;
            let (items, keys): (Option<&'a dyn Array>, Option<&'a dyn Array>) = match field.shape {
                Shape::One => (None, None),
                Shape::List(_) => (Some(&**array.as_list_opt::<i32>().ok_or_else(lost)?.values()), None),
                Shape::Map(_) => {
                    let map = array.as_map_opt().ok_or_else(lost)?;
                    (Some(&**map.values()), Some(&**map.keys()))
                }
            };
            let message = match &field.holds {
                Holds::Message(plan) => {
                    let rows = items.unwrap_or(array).as_struct_opt().ok_or_else(lost)?;
                    Some(Message::new(plan, rows.columns(), null_text)?)
                }
                _ => None,
            };
            Ok(Bound { field, array, items, keys, message, null_text })
        };
        Ok(Message { plan, fields: plan.fields.iter().map(bind).collect::<Result<_>>()? })
    }

    fn put(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        for bound in &self.fields {
            if bound.array.is_null(row) {
                continue;
            }
            let rival = bound.field.rivals.iter().find_map(|rival| {
                self.fields.iter().find(|b| b.field.column == *rival && !b.array.is_null(row))
            });
            if let Some(rival) = rival {
                return Err(Error::data(format!(
                    "'{}' and '{}' of the message {} cannot both be set: they are of one oneof",
                    bound.field.name, rival.field.name, self.plan.name
                )));
            }
            bound.put(row, out).map_err(|e| e.context(format!("column `{}`", bound.field.name)))?;
        }
        Ok(())
    }
}

impl Bound<'_> {
    fn put(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        let number = self.field.number;
        match (&self.field.shape, self.items) {
            (Shape::One, _) => {
                let start = out.len();
                put_tag(out, number, self.kind());
                let value = out.len();
                self.value(self.array, row, out)?;
                // Without presence, zero is what a reader takes for nothing.
                if self.field.implicit && out.get(value..).is_some_and(|v| v.iter().all(|b| *b == 0)) {
                    out.truncate(start);
                }
            }
            (Shape::List(packed), Some(items)) => {
                let (start, end) =
                    range(self.array.as_list_opt::<i32>().ok_or_else(lost)?.value_offsets(), row);
                if *packed && self.kind() != 2 {
                    if end > start {
                        put_tag(out, number, 2);
                        put_with_length(out, |out| (start..end).try_for_each(|i| self.item(items, i, out)))?;
                    }
                } else {
                    for i in start..end {
                        put_tag(out, number, self.kind());
                        self.item(items, i, out)?;
                    }
                }
            }
            (Shape::Map(key), Some(values)) => {
                let keys = self.keys.ok_or_else(lost)?;
                let (start, end) = range(self.array.as_map_opt().ok_or_else(lost)?.value_offsets(), row);
                for i in start..end {
                    put_tag(out, number, 2);
                    put_with_length(out, |out| {
                        put_tag(out, 1, kind_of(*key));
                        put_scalar(*key, keys, i, out)?;
                        put_tag(out, 2, self.kind());
                        self.item(values, i, out)
                    })?;
                }
            }
            _ => return Err(lost()),
        }
        Ok(())
    }

    /// The wire type of a value.
    fn kind(&self) -> u8 {
        match &self.field.holds {
            Holds::Scalar(scalar) => kind_of(*scalar),
            Holds::Enum(_) => 0,
            Holds::Message(_) | Holds::Timestamp | Holds::Wrapper(_) => 2,
        }
    }

    /// An item of a list or a map, which may be NULL.
    fn item(&self, items: &dyn Array, i: usize, out: &mut Vec<u8>) -> Result<()> {
        if !items.is_null(i) {
            return self.value(items, i, out);
        }
        match &self.field.holds {
            Holds::Scalar(Scalar::String) => put_bytes(out, self.null_text.as_bytes()),
            Holds::Scalar(scalar) => match kind_of(*scalar) {
                1 => out.extend_from_slice(&[0; 8]),
                5 => out.extend_from_slice(&[0; 4]),
                _ => out.push(0),
            },
            _ => out.push(0),
        }
        Ok(())
    }

    fn value(&self, array: &dyn Array, row: usize, out: &mut Vec<u8>) -> Result<()> {
        match &self.field.holds {
            Holds::Scalar(scalar) => put_scalar(*scalar, array, row, out),
            Holds::Enum(names) => {
                let number = match array.data_type() {
                    DataType::Utf8 => {
                        let text = array.as_string_opt::<i32>().ok_or_else(lost)?.value(row);
                        // What was read as a number because it has no name goes back as one.
                        names
                            .number(text)
                            .or_else(|| text.parse().ok())
                            .ok_or_else(|| Error::data(format!("'{text}' is no value of the enumeration")))?
                    }
                    _ => i32::try_from(number(array, row)?)
                        .map_err(|_| Error::data("an enumeration's number has 32 bits"))?,
                };
                put_varint(out, i64::from(number) as u64);
                Ok(())
            }
            Holds::Message(_) => {
                let message = self.message.as_ref().ok_or_else(lost)?;
                put_with_length(out, |out| message.put(row, out))
            }
            Holds::Timestamp => {
                let DataType::Timestamp(unit, _) = array.data_type() else { return Err(lost()) };
                let (value, per) = (timestamp_value(array, *unit, row), per_second(*unit));
                let (seconds, part) = (value.div_euclid(per), value.rem_euclid(per));
                put_with_length(out, |out| {
                    if seconds != 0 {
                        put_tag(out, 1, 0);
                        put_varint(out, seconds as u64);
                    }
                    if part != 0 {
                        put_tag(out, 2, 0);
                        put_varint(out, (part * (1_000_000_000 / per)) as u64);
                    }
                    Ok(())
                })
            }
            Holds::Wrapper(scalar) => put_with_length(out, |out| {
                put_tag(out, 1, kind_of(*scalar));
                put_scalar(*scalar, array, row, out)
            }),
        }
    }
}

fn kind_of(scalar: Scalar) -> u8 {
    match scalar {
        Scalar::Fixed64 | Scalar::Sfixed64 | Scalar::Double => 1,
        Scalar::Fixed32 | Scalar::Sfixed32 | Scalar::Float => 5,
        Scalar::String | Scalar::Bytes => 2,
        _ => 0,
    }
}

fn primitive<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> Result<T::Native> {
    Ok(array.as_primitive_opt::<T>().ok_or_else(lost)?.value(row))
}

fn number(array: &dyn Array, row: usize) -> Result<i128> {
    Ok(match array.data_type() {
        DataType::Int8 => primitive::<Int8Type>(array, row)?.into(),
        DataType::Int16 => primitive::<Int16Type>(array, row)?.into(),
        DataType::Int32 => primitive::<Int32Type>(array, row)?.into(),
        DataType::Int64 => primitive::<Int64Type>(array, row)?.into(),
        DataType::Decimal128(_, scale) => {
            let value = primitive::<Decimal128Type>(array, row)?;
            let power = 10i128.pow(u32::from(scale.unsigned_abs()).min(38));
            if value % power != 0 {
                return Err(Error::data(
                    "a decimal with digits after the point where the message has a whole number",
                ));
            }
            value / power
        }
        _ => return Err(lost()),
    })
}

fn put_scalar(scalar: Scalar, array: &dyn Array, row: usize, out: &mut Vec<u8>) -> Result<()> {
    match scalar {
        Scalar::Bool => out.push(u8::from(array.as_boolean_opt().ok_or_else(lost)?.value(row))),
        Scalar::Float => {
            let value = match array.data_type() {
                DataType::Float32 => primitive::<Float32Type>(array, row)?,
                _ => primitive::<Float64Type>(array, row)? as f32,
            };
            out.extend_from_slice(&value.to_le_bytes());
        }
        Scalar::Double => out.extend_from_slice(&primitive::<Float64Type>(array, row)?.to_le_bytes()),
        Scalar::String => {
            put_bytes(out, array.as_string_opt::<i32>().ok_or_else(lost)?.value(row).as_bytes())
        }
        Scalar::Bytes => put_bytes(out, array.as_binary_opt::<i32>().ok_or_else(lost)?.value(row)),
        _ => {
            let value = number(array, row)?;
            let range = |what: &str| Error::data(format!("{value} is out of the range of Protobuf's {what}"));
            let signed32 = || i32::try_from(value).map_err(|_| range("32-bit numbers"));
            let signed64 = || i64::try_from(value).map_err(|_| range("64-bit numbers"));
            let unsigned32 = || u32::try_from(value).map_err(|_| range("unsigned 32-bit numbers"));
            let unsigned64 = || u64::try_from(value).map_err(|_| range("unsigned 64-bit numbers"));
            match scalar {
                Scalar::Int32 => put_varint(out, i64::from(signed32()?) as u64),
                Scalar::Int64 => put_varint(out, signed64()? as u64),
                Scalar::Uint32 => put_varint(out, unsigned32()?.into()),
                Scalar::Uint64 => put_varint(out, unsigned64()?),
                Scalar::Sint32 => {
                    let n = signed32()?;
                    put_varint(out, u64::from(((n << 1) ^ (n >> 31)) as u32));
                }
                Scalar::Sint64 => {
                    let n = signed64()?;
                    put_varint(out, ((n << 1) ^ (n >> 63)) as u64);
                }
                Scalar::Fixed32 => out.extend_from_slice(&unsigned32()?.to_le_bytes()),
                Scalar::Sfixed32 => out.extend_from_slice(&signed32()?.to_le_bytes()),
                Scalar::Fixed64 => out.extend_from_slice(&unsigned64()?.to_le_bytes()),
                _ => out.extend_from_slice(&signed64()?.to_le_bytes()),
            }
        }
    }
    Ok(())
}

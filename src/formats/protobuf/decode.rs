//! Messages to columns: fields come in any order and any number, and go straight into the builders.
//!
//! A field that comes again replaces what is there (the last one counts); a message that comes again is merged with what
//! is there, which is rare: its parts are put together and read once more. Lists stay open until the message ends.

use std::borrow::Cow;

use arrow::datatypes::TimeUnit;

use super::plan::{Absent, Given, Holds, MessagePlan, PlannedField, Scalar, Shape, per_second};
use super::wire::{Reader, Wire, zigzag};
use crate::error::{Error, Result};
use crate::formats::column::{Column, ColumnValues, ListValues};
use crate::types::sql_name;

fn lost() -> Error {
    Error::internal("the columns of a message are not those it was planned for")
}

fn wrong(wire: Wire<'_>) -> Error {
    Error::data(format!(
        "{} where the schema has another type: the record was written with another schema",
        wire.name()
    ))
}

/// Reads a message into row `at` of `columns`, all of which have a value for it afterwards if they are planned for.
pub(super) fn read_message(plan: &MessagePlan, data: &[u8], columns: &mut [Column], at: usize) -> Result<()> {
    // Fields whose parts were put together: those to come are in.
    let mut merged: Vec<u32> = Vec::new();
    let mut reader = Reader::new(data);
    while !reader.is_empty() {
        let Some((number, wire)) = reader.field()? else { continue };
        let Some(field) = plan.find(number) else { continue };
        if merged.contains(&number) {
            continue;
        }
        let column = columns.get(field.column).ok_or_else(lost)?;
        let again = column.len() > at && matches!(field.shape, Shape::One);
        let wire = match (again, &field.holds, wire) {
            (true, Holds::Message(_) | Holds::Timestamp | Holds::Wrapper(_), Wire::Length(_)) => {
                merged.push(number);
                Payload::Owned(all_parts(data, number)?)
            }
            _ => Payload::Wire(wire),
        };
        for rival in &field.rivals {
            columns.get_mut(*rival).ok_or_else(lost)?.truncate(at);
        }
        let column = columns.get_mut(field.column).ok_or_else(lost)?;
        if again {
            column.truncate(at);
        }
        read_field(field, wire.wire(), column).map_err(|e| e.context(format!("field '{}'", field.name)))?;
    }
    for field in &plan.fields {
        let column = columns.get_mut(field.column).ok_or_else(lost)?;
        finish_field(field, column, at)?;
    }
    Ok(())
}

enum Payload<'a> {
    Wire(Wire<'a>),
    Owned(Vec<u8>),
}

impl Payload<'_> {
    fn wire(&self) -> Wire<'_> {
        match self {
            Payload::Wire(wire) => *wire,
            Payload::Owned(bytes) => Wire::Length(bytes),
        }
    }
}

/// A message that is there several times is the one that its parts make when they are put together.
fn all_parts(data: &[u8], wanted: u32) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut reader = Reader::new(data);
    while !reader.is_empty() {
        if let Some((number, Wire::Length(part))) = reader.field()?
            && number == wanted
        {
            all.extend_from_slice(part);
        }
    }
    Ok(all)
}

fn read_field(field: &PlannedField, wire: Wire<'_>, column: &mut Column) -> Result<()> {
    match (&field.shape, &mut column.values) {
        (Shape::One, _) => read_value(&field.holds, wire, column),
        (Shape::List(_), ColumnValues::List(list)) => {
            let items = list.children.first_mut().ok_or_else(lost)?;
            match (&field.holds, wire) {
                (Holds::Scalar(scalar), Wire::Length(packed))
                    if !matches!(scalar, Scalar::String | Scalar::Bytes) =>
                {
                    let mut reader = Reader::new(packed);
                    while !reader.is_empty() {
                        push_scalar(*scalar, one_of_packed(*scalar, &mut reader)?, items)?;
                    }
                    Ok(())
                }
                (Holds::Enum(_), Wire::Length(packed)) => {
                    let mut reader = Reader::new(packed);
                    while !reader.is_empty() {
                        read_value(&field.holds, Wire::Varint(reader.varint()?), items)?;
                    }
                    Ok(())
                }
                (holds, wire) => read_value(holds, wire, items),
            }
        }
        (Shape::Map(key), ColumnValues::Map(map)) => {
            let Wire::Length(entry) = wire else { return Err(wrong(wire)) };
            read_entry(*key, &field.holds, entry, map)
        }
        _ => Err(lost()),
    }
}

fn one_of_packed<'a>(scalar: Scalar, reader: &mut Reader<'a>) -> Result<Wire<'a>> {
    Ok(match scalar {
        Scalar::Fixed32 | Scalar::Sfixed32 | Scalar::Float => Wire::Fixed32(reader.fixed32()?),
        Scalar::Fixed64 | Scalar::Sfixed64 | Scalar::Double => Wire::Fixed64(reader.fixed64()?),
        _ => Wire::Varint(reader.varint()?),
    })
}

/// An entry of a map is a message of key and value, each of which may be absent.
fn read_entry(key: Scalar, value: &Holds, entry: &[u8], map: &mut ListValues) -> Result<()> {
    let [keys, values] = map.children.as_mut_slice() else { return Err(lost()) };
    let (mut key_wire, mut value_wire) = (None, None);
    let mut reader = Reader::new(entry);
    while !reader.is_empty() {
        match reader.field()? {
            Some((1, wire)) => key_wire = Some(wire),
            Some((2, wire)) => value_wire = Some(wire),
            _ => {}
        }
    }
    push_scalar(key, key_wire.unwrap_or_else(|| zero(key)), keys)?;
    let absent = match value {
        Holds::Scalar(scalar) => zero(*scalar),
        Holds::Enum(_) => Wire::Varint(0),
        Holds::Message(_) | Holds::Timestamp | Holds::Wrapper(_) => Wire::Length(&[]),
    };
    read_value(value, value_wire.unwrap_or(absent), values)
}

fn zero(scalar: Scalar) -> Wire<'static> {
    match scalar {
        Scalar::Fixed32 | Scalar::Sfixed32 | Scalar::Float => Wire::Fixed32(0),
        Scalar::Fixed64 | Scalar::Sfixed64 | Scalar::Double => Wire::Fixed64(0),
        Scalar::String | Scalar::Bytes => Wire::Length(&[]),
        _ => Wire::Varint(0),
    }
}

fn read_value(holds: &Holds, wire: Wire<'_>, column: &mut Column) -> Result<()> {
    match (holds, wire) {
        (Holds::Scalar(scalar), wire) => push_scalar(*scalar, wire, column),
        (Holds::Enum(names), Wire::Varint(number)) => {
            // Negative numbers take ten bytes.
            let number = number as i32;
            match &mut column.values {
                ColumnValues::Utf8(v) => {
                    match names.name(number) {
                        Some(name) => v.push(name.as_bytes()),
                        // A value that the schema does not know yet: its number is all there is.
                        None => v.push(itoa::Buffer::new().format(number).as_bytes()),
                    }
                    Ok(())
                }
                _ => push_number(number.into(), column),
            }
        }
        (Holds::Message(plan), Wire::Length(data)) => {
            let ColumnValues::Row(row) = &mut column.values else { return Err(lost()) };
            let at = row.len();
            read_message(plan, data, &mut row.children, at)?;
            row.close();
            Ok(())
        }
        (Holds::Timestamp, Wire::Length(data)) => {
            let (seconds, nanos) = seconds_and_nanos(data)?;
            push_timestamp(seconds, nanos, column)
        }
        (Holds::Wrapper(scalar), Wire::Length(data)) => {
            let mut value = zero(*scalar);
            let mut reader = Reader::new(data);
            while !reader.is_empty() {
                if let Some((1, wire)) = reader.field()? {
                    value = wire;
                }
            }
            push_scalar(*scalar, value, column)
        }
        (_, wire) => Err(wrong(wire)),
    }
}

fn seconds_and_nanos(data: &[u8]) -> Result<(i64, i32)> {
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader::new(data);
    while !reader.is_empty() {
        match reader.field()? {
            Some((1, Wire::Varint(n))) => seconds = n as i64,
            Some((2, Wire::Varint(n))) => nanos = n as i32,
            _ => {}
        }
    }
    Ok((seconds, nanos))
}

fn push_timestamp(seconds: i64, nanos: i32, column: &mut Column) -> Result<()> {
    let name = sql_name(column.data_type());
    let ColumnValues::Timestamp(v, unit, _) = &mut column.values else { return Err(lost()) };
    let unit: TimeUnit = *unit;
    let per = per_second(unit);
    // Below the unit is cut off, towards the past.
    let part = i64::from(nanos).div_euclid(1_000_000_000 / per);
    let value = seconds.checked_mul(per).and_then(|v| v.checked_add(part));
    v.push(
        value.ok_or_else(|| Error::data(format!("{seconds} s since 1970 is out of the range of {name}")))?,
    );
    Ok(())
}

fn push_scalar(scalar: Scalar, wire: Wire<'_>, column: &mut Column) -> Result<()> {
    let number: i128 = match (scalar, wire) {
        (Scalar::Int32, Wire::Varint(n)) => i128::from(n as i32),
        (Scalar::Int64, Wire::Varint(n)) => i128::from(n as i64),
        (Scalar::Uint32, Wire::Varint(n)) => i128::from(n as u32),
        (Scalar::Uint64, Wire::Varint(n)) => i128::from(n),
        (Scalar::Sint32, Wire::Varint(n)) => i128::from(zigzag(u64::from(n as u32))),
        (Scalar::Sint64, Wire::Varint(n)) => i128::from(zigzag(n)),
        (Scalar::Fixed32, Wire::Fixed32(n)) => i128::from(n),
        (Scalar::Sfixed32, Wire::Fixed32(n)) => i128::from(n as i32),
        (Scalar::Fixed64, Wire::Fixed64(n)) => i128::from(n),
        (Scalar::Sfixed64, Wire::Fixed64(n)) => i128::from(n as i64),
        (Scalar::Bool, Wire::Varint(n)) => match &mut column.values {
            ColumnValues::Boolean(v) => {
                v.push(n != 0);
                return Ok(());
            }
            _ => return Err(lost()),
        },
        (Scalar::Float, Wire::Fixed32(n)) => return push_float(f32::from_bits(n).into(), column),
        (Scalar::Double, Wire::Fixed64(n)) => return push_float(f64::from_bits(n), column),
        (Scalar::String, Wire::Length(text)) => {
            if let Err(e) = std::str::from_utf8(text) {
                return Err(Error::data(format!("byte {} of a text is not UTF-8", e.valid_up_to() + 1)));
            }
            return push_bytes(text, column);
        }
        (Scalar::Bytes, Wire::Length(bytes)) => return push_bytes(bytes, column),
        (_, wire) => return Err(wrong(wire)),
    };
    push_number(number, column)
}

fn push_bytes(bytes: &[u8], column: &mut Column) -> Result<()> {
    match &mut column.values {
        ColumnValues::Utf8(v) | ColumnValues::Binary(v) => v.push(bytes),
        _ => return Err(lost()),
    }
    Ok(())
}

fn push_float(value: f64, column: &mut Column) -> Result<()> {
    match &mut column.values {
        ColumnValues::Float32(v) => v.push(value as f32),
        ColumnValues::Float64(v) => v.push(value),
        _ => return Err(lost()),
    }
    Ok(())
}

#[inline]
fn push_number(value: i128, column: &mut Column) -> Result<()> {
    macro_rules! fit {
        ($v:expr) => {
            match value.try_into() {
                Ok(small) => {
                    $v.push(small);
                    return Ok(());
                }
                Err(_) => {}
            }
        };
    }
    match &mut column.values {
        ColumnValues::Int64(v) => fit!(v),
        ColumnValues::Int32(v) => fit!(v),
        ColumnValues::Int16(v) => fit!(v),
        ColumnValues::Int8(v) => fit!(v),
        ColumnValues::Decimal(v, precision, scale) => {
            let limit = 10i128.pow(u32::from((*precision).min(38)));
            let scaled = value.checked_mul(10i128.pow(u32::from((*scale).min(38))));
            if let Some(scaled) = scaled.filter(|s| s.abs() < limit) {
                v.push(scaled);
                return Ok(());
            }
        }
        _ => return Err(lost()),
    }
    Err(Error::data(format!("{value} is out of the range of {}", sql_name(column.data_type())))
        .hint("unsigned 32 bits fit into BIGINT, unsigned 64 bits into DECIMAL(20, 0)"))
}

/// Ends a field: closes a list, or puts in what stands for nothing.
fn finish_field(field: &PlannedField, column: &mut Column, at: usize) -> Result<()> {
    if column.len() > at {
        return Ok(());
    }
    if let ColumnValues::List(list) | ColumnValues::Map(list) = &mut column.values {
        if list.is_open() || field.absent == Absent::Empty {
            list.close();
        } else {
            column.push_null();
        }
        return Ok(());
    }
    match &field.absent {
        Absent::Null => column.push_null(),
        Absent::Refuse => {
            return Err(Error::data(format!(
                "nothing for field '{}', which is declared NOT NULL",
                field.name
            )));
        }
        Absent::Empty => return Err(lost()),
        Absent::Value(given) => push_given(given, column)?,
        Absent::Row => {
            let Holds::Message(plan) = &field.holds else { return Err(lost()) };
            let ColumnValues::Row(row) = &mut column.values else { return Err(lost()) };
            let at = row.len();
            read_message(plan, &[], &mut row.children, at)?;
            row.close();
        }
    }
    Ok(())
}

fn push_given(given: &Given, column: &mut Column) -> Result<()> {
    match given {
        Given::Bool(b) => match &mut column.values {
            ColumnValues::Boolean(v) => v.push(*b),
            _ => return Err(lost()),
        },
        Given::Number(n) => push_number(*n, column)?,
        Given::Float(n) => push_float(*n, column)?,
        Given::Bytes(bytes) => push_bytes(bytes, column)?,
    }
    Ok(())
}

/// The indexes of the message in a file, before the message itself: their number and each one, zigzag; a lone 0 is `[0]`.
pub(super) fn message_path(data: &[u8]) -> Result<(Cow<'static, [usize]>, &[u8])> {
    let mut reader = Reader::new(data);
    let count = zigzag(reader.varint()?);
    if count == 0 {
        return Ok((Cow::Borrowed(&[0]), reader.rest()));
    }
    let count = usize::try_from(count).ok().filter(|n| *n <= data.len());
    let count = count
        .ok_or_else(|| Error::data("the record names its message by an impossible number of indexes"))?;
    let index = |reader: &mut Reader<'_>| {
        usize::try_from(zigzag(reader.varint()?))
            .map_err(|_| Error::data("the record names its message by a negative index"))
    };
    let path = (0..count).map(|_| index(&mut reader)).collect::<Result<Vec<_>>>()?;
    Ok((Cow::Owned(path), reader.rest()))
}

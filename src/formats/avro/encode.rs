//! Columns to Avro records.
//!
//! ```text
//!  writer's schema + columns ─► Sheet, once ─► per batch: arrays bound to it ─► per row: bytes
//! ```

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StructArray};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, Schema, Time32MillisecondType, TimeUnit,
};

use super::plan::entries_of;
use super::schema::{AvroSchema, Enum, Logical, Record, Shape, TypeId};
use crate::error::{Error, Result};
use crate::formats::json::{range, timestamp_value};
use crate::types::sql_name;

/// A number in zigzag form.
#[inline]
pub(super) fn put_long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Bytes with their length.
#[inline]
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_long(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

/// How a value that is there is written.
#[derive(Debug)]
enum Put {
    Boolean,
    Number(Unit),
    /// `true`: widened to 64 bits.
    Float(bool),
    Double,
    Bytes,
    /// Fixed with its size.
    Fixed(usize),
    /// Two's complement with the scale of the schema; fixed with its size.
    Decimal(u8, Option<usize>),
    Uuid,
    Enum(Vec<String>),
    List(Box<Sheet>),
    Map(Box<Sheet>),
    Row(Vec<(Source, Sheet)>),
    Null,
}

/// How a timestamp's or a time's unit changes.
#[derive(Debug, Clone, Copy)]
enum Unit {
    Same,
    Times(i64),
    Over(i64),
}

/// Where a field of a record comes from.
#[derive(Debug)]
enum Source {
    Column(usize),
    /// No column has it: the bytes of its default.
    Default(Vec<u8>),
}

/// How a type is written.
#[derive(Debug)]
struct Sheet {
    /// Numbers of the branches of a union: of the value, and of NULL.
    branches: Option<(i64, Option<i64>)>,
    put: Put,
}

/// Writes rows as records of a schema.
#[derive(Debug)]
pub(crate) struct Encoder {
    sheet: Sheet,
    /// The schema is no record: the only column is the value.
    single: bool,
}

impl Encoder {
    /// For rows of `columns` as records of `schema`.
    ///
    /// # Errors
    /// Validation if the columns don't fit the schema.
    pub(crate) fn new(schema: &AvroSchema, columns: &Schema) -> Result<Self> {
        let row = DataType::Struct(columns.fields().clone());
        let record = match schema.shape(schema.root) {
            Shape::Record(_) => true,
            Shape::Union(branches) => branches.iter().any(|b| matches!(schema.shape(*b), Shape::Record(_))),
            _ => false,
        };
        if record {
            return Ok(Encoder { sheet: sheet(schema, schema.root, &row)?, single: false });
        }
        match columns.fields().as_ref() {
            [column] => {
                let sheet = sheet(schema, schema.root, column.data_type())?;
                Ok(Encoder { sheet, single: true })
            }
            _ => Err(Error::validation(format!(
                "the schema is a {}, not a record: a table with one column can be written with it",
                schema.describe(schema.root)
            ))),
        }
    }

    /// Appends every row to `out`, each after `prefix`, and the end of each to `ends`.
    ///
    /// # Errors
    /// Data for values that the schema cannot hold.
    pub(crate) fn encode(
        &self,
        rows: &RecordBatch,
        out: &mut Vec<u8>,
        ends: &mut Vec<usize>,
        prefix: &[u8],
    ) -> Result<()> {
        let array: ArrayRef = match (self.single, rows.columns().first()) {
            (true, Some(column)) => std::sync::Arc::clone(column),
            _ => std::sync::Arc::new(StructArray::try_new_with_length(
                rows.schema().fields().clone(),
                rows.columns().to_vec(),
                None,
                rows.num_rows(),
            )?),
        };
        let bound = Bound::new(&self.sheet, &array)?;
        for row in 0..rows.num_rows() {
            out.extend_from_slice(prefix);
            bound.put(row, out)?;
            ends.push(out.len());
        }
        Ok(())
    }
}

/// How a column is written as a type.
fn sheet(schema: &AvroSchema, id: TypeId, column: &DataType) -> Result<Sheet> {
    let Shape::Union(branches) = schema.shape(id) else {
        return Ok(Sheet { branches: None, put: put(schema, id, column)? });
    };
    let null = branches.iter().position(|b| matches!(schema.shape(*b), Shape::Null)).map(|i| i as i64);
    let mut refused = None;
    for (i, branch) in branches.iter().enumerate() {
        if Some(i as i64) == null && column != &DataType::Null {
            continue;
        }
        match put(schema, *branch, column) {
            Ok(put) => return Ok(Sheet { branches: Some((i as i64, null)), put }),
            Err(e) => refused = refused.or(Some(e)),
        }
    }
    Err(refused.unwrap_or_else(|| Error::validation("a union without a branch for the column")))
}

fn put(schema: &AvroSchema, id: TypeId, column: &DataType) -> Result<Put> {
    let logical = schema.logical(id);
    let mismatch =
        || Error::validation(format!("{} cannot be written as {}", sql_name(column), schema.describe(id)));
    Ok(match (schema.shape(id), column) {
        (Shape::Null, DataType::Null) => Put::Null,
        (Shape::Boolean, DataType::Boolean) => Put::Boolean,
        (Shape::Int, DataType::Int8 | DataType::Int16 | DataType::Int32) => Put::Number(Unit::Same),
        (Shape::Int, DataType::Date32) if matches!(logical, None | Some(Logical::Date)) => {
            Put::Number(Unit::Same)
        }
        (Shape::Int, DataType::Time32(_)) if matches!(logical, None | Some(Logical::TimeMillis)) => {
            Put::Number(Unit::Same)
        }
        (Shape::Long, DataType::Time32(_)) if logical == Some(Logical::TimeMicros) => {
            Put::Number(Unit::Times(1000))
        }
        (Shape::Long, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64) => {
            Put::Number(Unit::Same)
        }
        (Shape::Long, DataType::Timestamp(unit, _)) => {
            use Logical as L;
            let from = per_second(*unit);
            let to = match logical {
                None => from,
                Some(L::TimestampMillis | L::LocalTimestampMillis) => 1_000,
                Some(L::TimestampMicros | L::LocalTimestampMicros) => 1_000_000,
                Some(L::TimestampNanos | L::LocalTimestampNanos) => 1_000_000_000,
                Some(_) => return Err(mismatch()),
            };
            Put::Number(match to.cmp(&from) {
                std::cmp::Ordering::Equal => Unit::Same,
                std::cmp::Ordering::Greater => Unit::Times(to / from),
                std::cmp::Ordering::Less => Unit::Over(from / to),
            })
        }
        (Shape::Float, DataType::Float32) => Put::Float(false),
        (Shape::Double, DataType::Float32) => Put::Float(true),
        (Shape::Double, DataType::Float64) => Put::Double,
        (Shape::String, DataType::Utf8) => Put::Bytes,
        (Shape::Bytes, DataType::Utf8 | DataType::Binary) if logical.is_none() => Put::Bytes,
        (Shape::Fixed { .. }, DataType::Utf8) if logical == Some(Logical::Uuid) => Put::Uuid,
        (Shape::Fixed { size, .. }, DataType::Binary) => Put::Fixed(*size),
        (Shape::Bytes, DataType::Decimal128(..)) => match logical {
            Some(Logical::Decimal(_, scale)) => Put::Decimal(scale, None),
            _ => return Err(mismatch()),
        },
        (Shape::Fixed { size, .. }, DataType::Decimal128(..)) => match logical {
            Some(Logical::Decimal(_, scale)) => Put::Decimal(scale, Some(*size)),
            _ => return Err(mismatch()),
        },
        (Shape::Enum(Enum { symbols, .. }), DataType::Utf8) => Put::Enum(symbols.clone()),
        (Shape::Array(item), DataType::List(field)) => {
            Put::List(Box::new(sheet(schema, *item, field.data_type())?))
        }
        (Shape::Map(value), DataType::Map(entries, _)) => match entries_of(entries) {
            Some((key, field)) if key.data_type() == &DataType::Utf8 => {
                Put::Map(Box::new(sheet(schema, *value, field.data_type())?))
            }
            _ => return Err(mismatch()),
        },
        (Shape::Record(Record { name, fields }), DataType::Struct(columns)) => {
            if let Some(extra) = columns.iter().find(|c| !fields.iter().any(|f| f.name == *c.name())) {
                return Err(Error::validation(format!(
                    "the record {name} of the schema has no field for the column `{}`",
                    extra.name()
                )));
            }
            let mut all = Vec::with_capacity(fields.len());
            for field in fields {
                let found = columns.iter().enumerate().find(|(_, c)| *c.name() == field.name);
                let place = || format!("field '{}'", field.name);
                all.push(match (found, &field.default) {
                    (Some((i, column)), _) => {
                        let sheet =
                            sheet(schema, field.ty, column.data_type()).map_err(|e| e.context(place()))?;
                        (Source::Column(i), sheet)
                    }
                    (None, Some(default)) => {
                        let mut bytes = Vec::new();
                        super::default::encode_default(schema, field.ty, default, &mut bytes)
                            .map_err(|e| e.context(place()))?;
                        (Source::Default(bytes), Sheet { branches: None, put: Put::Null })
                    }
                    (None, None) => {
                        return Err(Error::validation(format!(
                            "no column for the field '{}' of the record {name}, which has no default",
                            field.name
                        )));
                    }
                });
            }
            Put::Row(all)
        }
        _ => return Err(mismatch()),
    })
}

fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// A sheet with the arrays of a batch.
struct Bound<'a> {
    sheet: &'a Sheet,
    array: &'a dyn Array,
    children: Vec<Bound<'a>>,
}

impl<'a> Bound<'a> {
    fn new(sheet: &'a Sheet, array: &'a ArrayRef) -> Result<Self> {
        let children = match &sheet.put {
            Put::List(item) => {
                let list = array.as_list_opt::<i32>().ok_or_else(lost)?;
                vec![Bound::new(item, list.values())?]
            }
            Put::Map(value) => {
                let map = array.as_map_opt().ok_or_else(lost)?;
                vec![Bound::new(value, map.values())?]
            }
            Put::Row(fields) => {
                let row = array.as_struct_opt().ok_or_else(lost)?;
                fields
                    .iter()
                    .map(|(source, sheet)| match source {
                        Source::Column(i) => Bound::new(sheet, row.columns().get(*i).ok_or_else(lost)?),
                        Source::Default(_) => Ok(Bound { sheet, array: &**array, children: Vec::new() }),
                    })
                    .collect::<Result<Vec<_>>>()?
            }
            _ => Vec::new(),
        };
        Ok(Bound { sheet, array: &**array, children })
    }

    fn put(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        let null = self.array.is_null(row) && !matches!(self.sheet.put, Put::Null);
        match self.sheet.branches {
            None if null => {
                return Err(Error::data("NULL where the schema has no null").hint(
                    "declare the column NOT NULL and leave NULLs out, or use a schema with a union with null",
                ));
            }
            None => {}
            Some((_, Some(branch))) if null => {
                put_long(out, branch);
                return Ok(());
            }
            Some((_, None)) if null => {
                return Err(Error::data("NULL where the union of the schema has no null"));
            }
            Some((branch, _)) => put_long(out, branch),
        }
        self.value(row, out)
    }

    fn value(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        let array = self.array;
        match &self.sheet.put {
            Put::Null => {}
            Put::Boolean => out.push(u8::from(array.as_boolean_opt().ok_or_else(lost)?.value(row))),
            Put::Number(unit) => {
                let value = number(array, row)?;
                let value = match unit {
                    Unit::Same => value,
                    Unit::Times(by) => value
                        .checked_mul(*by)
                        .ok_or_else(|| Error::data("a timestamp is out of the range of the schema's type"))?,
                    Unit::Over(by) => value.div_euclid(*by),
                };
                put_long(out, value);
            }
            Put::Float(wide) => {
                let value = primitive::<Float32Type>(array, row)?;
                match wide {
                    true => out.extend_from_slice(&f64::from(value).to_le_bytes()),
                    false => out.extend_from_slice(&value.to_le_bytes()),
                }
            }
            Put::Double => out.extend_from_slice(&primitive::<Float64Type>(array, row)?.to_le_bytes()),
            Put::Bytes => put_bytes(out, bytes(array, row)?),
            Put::Fixed(size) => {
                let value = bytes(array, row)?;
                if value.len() != *size {
                    return Err(Error::data(format!("{} bytes where the schema has {size}", value.len())));
                }
                out.extend_from_slice(value);
            }
            Put::Uuid => {
                let text = array.as_string_opt::<i32>().ok_or_else(lost)?.value(row);
                let uuid =
                    uuid::Uuid::try_parse(text).map_err(|_| Error::data(format!("'{text}' is no UUID")))?;
                out.extend_from_slice(uuid.as_bytes());
            }
            Put::Decimal(scale, size) => put_decimal(array, row, *scale, *size, out)?,
            Put::Enum(symbols) => {
                let text = array.as_string_opt::<i32>().ok_or_else(lost)?.value(row);
                let index = symbols.iter().position(|s| s == text).ok_or_else(|| {
                    Error::data(format!("'{text}' is no symbol of the enumeration"))
                        .hint(format!("its symbols are {}", symbols.join(", ")))
                })?;
                put_long(out, index as i64);
            }
            Put::List(_) => {
                let list = array.as_list_opt::<i32>().ok_or_else(lost)?;
                let (start, end) = range(list.value_offsets(), row);
                let items = self.children.first().ok_or_else(lost)?;
                if end > start {
                    put_long(out, (end - start) as i64);
                    (start..end).try_for_each(|i| items.put(i, out))?;
                }
                out.push(0);
            }
            Put::Map(_) => {
                let map = array.as_map_opt().ok_or_else(lost)?;
                let keys = map.keys().as_string_opt::<i32>().ok_or_else(lost)?;
                let (start, end) = range(map.value_offsets(), row);
                let values = self.children.first().ok_or_else(lost)?;
                if end > start {
                    put_long(out, (end - start) as i64);
                    for i in start..end {
                        put_bytes(out, keys.value(i).as_bytes());
                        values.put(i, out)?;
                    }
                }
                out.push(0);
            }
            Put::Row(fields) => {
                for ((source, _), child) in fields.iter().zip(&self.children) {
                    match source {
                        Source::Column(i) => {
                            child.put(row, out).map_err(|e| match array.as_struct_opt() {
                                Some(s) => match s.fields().get(*i) {
                                    Some(f) => e.context(format!("column `{}`", f.name())),
                                    None => e,
                                },
                                None => e,
                            })?;
                        }
                        Source::Default(bytes) => out.extend_from_slice(bytes),
                    }
                }
            }
        }
        Ok(())
    }
}

fn lost() -> Error {
    Error::internal("rows to encode have other columns than the format")
}

fn primitive<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> Result<T::Native> {
    Ok(array.as_primitive_opt::<T>().ok_or_else(lost)?.value(row))
}

fn number(array: &dyn Array, row: usize) -> Result<i64> {
    Ok(match array.data_type() {
        DataType::Int8 => primitive::<Int8Type>(array, row)?.into(),
        DataType::Int16 => primitive::<Int16Type>(array, row)?.into(),
        DataType::Int32 => primitive::<Int32Type>(array, row)?.into(),
        DataType::Int64 => primitive::<Int64Type>(array, row)?,
        DataType::Date32 => primitive::<Date32Type>(array, row)?.into(),
        DataType::Time32(TimeUnit::Millisecond) => primitive::<Time32MillisecondType>(array, row)?.into(),
        DataType::Timestamp(unit, _) => timestamp_value(array, *unit, row),
        _ => return Err(lost()),
    })
}

fn bytes(array: &dyn Array, row: usize) -> Result<&[u8]> {
    match array.data_type() {
        DataType::Utf8 => Ok(array.as_string_opt::<i32>().ok_or_else(lost)?.value(row).as_bytes()),
        _ => Ok(array.as_binary_opt::<i32>().ok_or_else(lost)?.value(row)),
    }
}

fn put_decimal(
    array: &dyn Array,
    row: usize,
    scale: u8,
    size: Option<usize>,
    out: &mut Vec<u8>,
) -> Result<()> {
    let DataType::Decimal128(_, own) = array.data_type() else { return Err(lost()) };
    let value = primitive::<Decimal128Type>(array, row)?;
    let own = u8::try_from(*own).map_err(|_| lost())?;
    let power = 10i128.checked_pow(u32::from(own.abs_diff(scale)));
    let scaled = match (own.cmp(&scale), power) {
        (std::cmp::Ordering::Equal, _) => Some(value),
        (std::cmp::Ordering::Less, Some(power)) => value.checked_mul(power),
        (std::cmp::Ordering::Greater, Some(power)) if value % power == 0 => Some(value / power),
        _ => None,
    };
    let scaled =
        scaled.ok_or_else(|| Error::data(format!("a decimal does not fit the schema's scale of {scale}")))?;
    let bytes = scaled.to_be_bytes();
    match size {
        Some(size) => {
            let fill = if scaled < 0 { 0xff } else { 0 };
            let cut = bytes.len().saturating_sub(size);
            let (high, low) = bytes.split_at(cut);
            let sign = low.first().is_some_and(|b| *b >= 0x80) == (scaled < 0);
            if high.iter().any(|b| *b != fill) || (cut > 0 && !sign) {
                return Err(Error::data(format!("a decimal does not fit the schema's {size} bytes")));
            }
            out.extend(std::iter::repeat_n(fill, size.saturating_sub(bytes.len())));
            out.extend_from_slice(low);
        }
        None => {
            // The shortest form that keeps the sign, as Java's BigInteger has it.
            let mut begin = 0;
            while begin < 15 {
                let (this, next) = (bytes.get(begin).copied(), bytes.get(begin + 1).copied());
                match (this, next) {
                    (Some(0), Some(n)) if n < 0x80 => begin += 1,
                    (Some(0xff), Some(n)) if n >= 0x80 => begin += 1,
                    _ => break,
                }
            }
            put_bytes(out, bytes.get(begin..).unwrap_or_default());
        }
    }
    Ok(())
}

//! Runs a program over a record: bytes straight into column builders.

use super::cursor::{Cursor, no_branch};
use super::plan::{BytesTo, Node, Program, Root, RowPlan, Scale, Step};
use super::schema::AvroSchema;
use crate::error::{Error, Result};
use crate::formats::column::{Batch, Column, ColumnValues};
use crate::types::sql_name;

impl Program {
    /// Reads a record into the open row of `batch` and closes it; a record that is `null` as a whole gives no row. After
    /// an error the batch holds part of a row, which the caller takes back.
    ///
    /// # Errors
    /// Data.
    pub(crate) fn read(&self, record: &[u8], batch: &mut Batch) -> Result<()> {
        let mut cursor = Cursor::new(record);
        if self.read_next(&mut cursor, batch)? {
            close(batch)?;
        }
        if cursor.left() > 0 {
            return Err(Error::data(format!(
                "{} bytes are left after the last field: the record was written with another schema",
                cursor.left()
            )));
        }
        Ok(())
    }

    /// Reads the next record of a block; tells whether there is a row to close.
    pub(super) fn read_next(&self, cursor: &mut Cursor<'_>, batch: &mut Batch) -> Result<bool> {
        match &self.root {
            Root::Row(plan) => read_row(plan, &self.schema, cursor, &mut batch.columns)?,
            Root::Union(branches) => {
                let index = cursor.index()?;
                match branches.get(index).ok_or_else(|| no_branch(index, branches.len()))? {
                    None => return Ok(false),
                    Some(plan) => read_row(plan, &self.schema, cursor, &mut batch.columns)?,
                }
            }
            Root::Value(node) => {
                let column = batch.columns.first_mut().ok_or_else(lost)?;
                read_value(node, &self.schema, cursor, column)?;
            }
        }
        Ok(true)
    }
}

/// Closes a row.
pub(super) fn close(batch: &mut Batch) -> Result<()> {
    batch.close_row().map_err(|field| {
        Error::data(format!("NULL for column `{}`, which is declared NOT NULL", field.name()))
    })
}

fn lost() -> Error {
    Error::internal("the columns of a record are not those it was planned for")
}

fn read_row(
    plan: &RowPlan,
    schema: &AvroSchema,
    cursor: &mut Cursor<'_>,
    columns: &mut [Column],
) -> Result<()> {
    for step in &plan.steps {
        match step {
            Step::Read { column, node, name } => {
                let column = columns.get_mut(*column).ok_or_else(lost)?;
                read_value(node, schema, cursor, column).map_err(|e| e.context(format!("field '{name}'")))?;
            }
            Step::Skip(ty) => cursor.skip(schema, *ty, 0)?,
        }
    }
    for (column, node, bytes) in &plan.defaults {
        let column = columns.get_mut(*column).ok_or_else(lost)?;
        read_value(node, schema, &mut Cursor::new(bytes), column)?;
    }
    Ok(())
}

fn read_value(node: &Node, schema: &AvroSchema, cursor: &mut Cursor<'_>, column: &mut Column) -> Result<()> {
    match node {
        Node::Refuse(why) => return Err(Error::data(&**why)),
        Node::Null => column.push_null(),
        Node::Boolean => match &mut column.values {
            ColumnValues::Boolean(v) => v.push(cursor.boolean()?),
            _ => return Err(lost()),
        },
        Node::Number(short, scale) => {
            let value = if *short { cursor.int()? } else { cursor.long()? };
            push_number(value, *scale, column)?;
        }
        Node::Float => {
            let value = cursor.float()?;
            match &mut column.values {
                ColumnValues::Float32(v) => v.push(value),
                ColumnValues::Float64(v) => v.push(f64::from(value)),
                _ => return Err(lost()),
            }
        }
        Node::Double => match &mut column.values {
            ColumnValues::Float64(v) => v.push(cursor.double()?),
            _ => return Err(lost()),
        },
        Node::Bytes(to) => push_bytes(cursor.bytes()?, *to, column)?,
        Node::Fixed(size, to) => push_bytes(cursor.take(*size)?, *to, column)?,
        Node::Enum(symbols) => {
            let index = cursor.index()?;
            let symbol = symbols.get(index).ok_or_else(|| {
                Error::data(format!("symbol {index} of an enumeration of {}", symbols.len()))
            })?;
            match &mut column.values {
                ColumnValues::Utf8(v) => v.push(symbol.as_bytes()),
                _ => return Err(lost()),
            }
        }
        Node::List(item) => {
            let ColumnValues::List(list) = &mut column.values else { return Err(lost()) };
            let items = list.children.first_mut().ok_or_else(lost)?;
            loop {
                let count = cursor.block()?;
                if count == 0 {
                    break;
                }
                for _ in 0..count {
                    read_value(item, schema, cursor, items)?;
                }
            }
            list.close();
        }
        Node::Map(value) => {
            let ColumnValues::Map(map) = &mut column.values else { return Err(lost()) };
            let [keys, values] = map.children.as_mut_slice() else { return Err(lost()) };
            loop {
                let count = cursor.block()?;
                if count == 0 {
                    break;
                }
                for _ in 0..count {
                    push_bytes(cursor.bytes()?, BytesTo::Text, keys)?;
                    read_value(value, schema, cursor, values)?;
                }
            }
            map.close();
        }
        Node::Row(plan) => {
            let ColumnValues::Row(row) = &mut column.values else { return Err(lost()) };
            read_row(plan, schema, cursor, &mut row.children)?;
            row.close();
        }
        Node::Union(branches) => {
            let index = cursor.index()?;
            let branch = branches.get(index).ok_or_else(|| no_branch(index, branches.len()))?;
            read_value(branch, schema, cursor, column)?;
        }
        Node::Members(branches) => {
            let index = cursor.index()?;
            match branches.get(index).ok_or_else(|| no_branch(index, branches.len()))? {
                None => column.push_null(),
                Some((at, node)) => {
                    let ColumnValues::Row(row) = &mut column.values else { return Err(lost()) };
                    let member = row.children.get_mut(*at).ok_or_else(lost)?;
                    read_value(node, schema, cursor, member)?;
                    row.close();
                }
            }
        }
    }
    Ok(())
}

fn push_number(value: i64, scale: Scale, column: &mut Column) -> Result<()> {
    let out_of_range = |ty| Error::data(format!("{value} is out of the range of {}", sql_name(&ty)));
    let scaled = match scale {
        Scale::One => value,
        Scale::Times(by) => value.checked_mul(by).ok_or_else(|| out_of_range(column.data_type().clone()))?,
        Scale::Over(by) => value.div_euclid(by),
    };
    match &mut column.values {
        ColumnValues::Int64(v) | ColumnValues::Timestamp(v, ..) => v.push(scaled),
        ColumnValues::Int32(v) | ColumnValues::Date(v) => match i32::try_from(scaled) {
            Ok(small) => v.push(small),
            Err(_) => return Err(out_of_range(column.data_type().clone())),
        },
        ColumnValues::Time(v) => match i32::try_from(scaled) {
            Ok(ms) if (0..86_400_000).contains(&ms) => v.push(ms),
            _ => return Err(Error::data(format!("{scaled} ms is no time of a day"))),
        },
        ColumnValues::Int16(v) => match i16::try_from(scaled) {
            Ok(small) => v.push(small),
            Err(_) => return Err(out_of_range(column.data_type().clone())),
        },
        ColumnValues::Int8(v) => match i8::try_from(scaled) {
            Ok(small) => v.push(small),
            Err(_) => return Err(out_of_range(column.data_type().clone())),
        },
        ColumnValues::Float32(v) => v.push(scaled as f32),
        ColumnValues::Float64(v) => v.push(scaled as f64),
        _ => return Err(lost()),
    }
    Ok(())
}

fn push_bytes(bytes: &[u8], to: BytesTo, column: &mut Column) -> Result<()> {
    match (&mut column.values, to) {
        (ColumnValues::Utf8(v), BytesTo::Text) => {
            if let Err(e) = std::str::from_utf8(bytes) {
                return Err(Error::data(format!("byte {} of a text is not UTF-8", e.valid_up_to() + 1)));
            }
            v.push(bytes);
        }
        (ColumnValues::Binary(v), BytesTo::Raw) => v.push(bytes),
        (ColumnValues::Utf8(v), BytesTo::Uuid) => {
            let uuid = uuid::Uuid::from_slice(bytes).map_err(|_| Error::data("a UUID has 16 bytes"))?;
            v.push(uuid.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()).as_bytes());
        }
        (ColumnValues::Decimal(v, precision, scale), BytesTo::Decimal(from)) => {
            let value = decimal(bytes).and_then(|value| rescale(value, from, *scale));
            let limit = 10i128.pow(u32::from((*precision).min(38)));
            match value.filter(|v| v.abs() < limit) {
                Some(value) => v.push(value),
                None => {
                    return Err(Error::data(format!(
                        "a decimal has more digits before the point than DECIMAL({precision}, {scale}) takes"
                    ))
                    .hint("declare the column with the precision that the schema has"));
                }
            }
        }
        _ => return Err(lost()),
    }
    Ok(())
}

/// A number in two's complement, highest byte first; `None` if it has more than 128 bits.
fn decimal(bytes: &[u8]) -> Option<i128> {
    let negative = bytes.first().is_some_and(|b| *b >= 0x80);
    let fill = if negative { 0xff } else { 0 };
    let extra = bytes.len().saturating_sub(16);
    let (high, low) = bytes.split_at(extra);
    let mut all = [fill; 16];
    all.get_mut(16 - low.len()..)?.copy_from_slice(low);
    let value = i128::from_be_bytes(all);
    // What is beyond 128 bits may only repeat the sign.
    (high.iter().all(|b| *b == fill) && (high.is_empty() || (value < 0) == negative)).then_some(value)
}

/// The same number with other digits after the point, rounded half up.
fn rescale(value: i128, from: u8, to: u8) -> Option<i128> {
    if from == to {
        return Some(value);
    }
    let power = 10i128.checked_pow(u32::from(from.abs_diff(to)))?;
    if to > from {
        return value.checked_mul(power);
    }
    let (whole, rest) = (value / power, value % power);
    let up = rest.unsigned_abs() >= power.unsigned_abs().div_ceil(2);
    Some(whole + if up { value.signum() } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::{decimal, rescale};

    #[test]
    fn decimals() {
        assert_eq!(decimal(&[]), Some(0));
        assert_eq!(decimal(&[0xff]), Some(-1));
        assert_eq!(decimal(&[0x00, 0xff]), Some(255));
        assert_eq!(decimal(&[0xff; 20]), Some(-1));
        assert_eq!(decimal(&[0; 20]), Some(0));
        let mut large = [0u8; 17];
        large[0] = 1;
        assert_eq!(decimal(&large), None);
        let mut sign = [0u8; 17];
        sign[1] = 0x80;
        assert_eq!(decimal(&sign), None);
        assert_eq!(rescale(12345, 2, 4), Some(1_234_500));
        assert_eq!(rescale(12345, 2, 1), Some(1235));
        assert_eq!(rescale(-12345, 2, 1), Some(-1235));
        assert_eq!(rescale(12344, 2, 1), Some(1234));
        assert_eq!(rescale(i128::MAX, 0, 38), None);
    }
}

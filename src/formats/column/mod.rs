//! Column builders that can take rows back.
//!
//! A text record is decoded straight into the columns of the batch. When it turns out to be bad in the middle, its
//! rows are cut off again ([`Column::truncate`]), so that no record is parsed twice and none is half there. Arrow's own
//! builders cannot shrink.

mod batch;
mod nested;
mod values;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, FieldRef, IntervalUnit, TimeUnit};

use crate::error::{Error, Result};
use crate::types::{is_bitmap, is_variant};

pub(crate) use batch::Batch;
pub(crate) use nested::{ListValues, RowKind, RowValues};
pub(crate) use values::{BoolValues, ByteValues, NullValues, Values};

/// The values of a column.
#[derive(Debug)]
pub(crate) enum ColumnValues {
    /// BOOLEAN
    Boolean(BoolValues),
    /// TINYINT
    Int8(Values<i8>),
    /// SMALLINT
    Int16(Values<i16>),
    /// INT, INTERVAL YEAR TO MONTH
    Int32(Values<i32>),
    /// BIGINT
    Int64(Values<i64>),
    /// FLOAT
    Float32(Values<f32>),
    /// DOUBLE
    Float64(Values<f64>),
    /// DECIMAL(p, s)
    Decimal(Values<i128>, u8, u8),
    /// DATE
    Date(Values<i32>),
    /// TIME, in milliseconds
    Time(Values<i32>),
    /// TIMESTAMP, TIMESTAMP_LTZ (true)
    Timestamp(Values<i64>, TimeUnit, bool),
    /// STRING
    Utf8(ByteValues),
    /// BYTES
    Binary(ByteValues),
    /// ARRAY
    List(Box<ListValues>),
    /// MAP, MULTISET
    Map(Box<ListValues>),
    /// ROW
    Row(Box<RowValues>),
    /// The type of NULL
    Null(NullValues),
}

/// Does the same with values of every kind.
macro_rules! each {
    ($values:expr, $v:ident => $what:expr) => {
        match $values {
            ColumnValues::Boolean($v) => $what,
            ColumnValues::Int8($v) => $what,
            ColumnValues::Int16($v) => $what,
            ColumnValues::Int32($v) | ColumnValues::Date($v) | ColumnValues::Time($v) => $what,
            ColumnValues::Int64($v) | ColumnValues::Timestamp($v, ..) => $what,
            ColumnValues::Float32($v) => $what,
            ColumnValues::Float64($v) => $what,
            ColumnValues::Decimal($v, ..) => $what,
            ColumnValues::Utf8($v) | ColumnValues::Binary($v) => $what,
            ColumnValues::List($v) | ColumnValues::Map($v) => $what,
            ColumnValues::Row($v) => $what,
            ColumnValues::Null($v) => $what,
        }
    };
}

/// A column being built.
#[derive(Debug)]
pub(crate) struct Column {
    ty: DataType,
    pub(crate) values: ColumnValues,
}

impl Column {
    /// A builder for an Arrow type that a SQL type maps to.
    ///
    /// # Errors
    /// Unsupported for the others.
    pub(crate) fn new(ty: &DataType) -> Result<Self> {
        let unsupported = || Error::unsupported(format!("text formats do not support the Arrow type {ty}"));
        let children = |fields: &[FieldRef]| {
            fields.iter().map(|f| Column::new(f.data_type())).collect::<Result<Vec<_>>>()
        };
        let list = |fields: &[FieldRef]| Ok::<_, Error>(Box::new(ListValues::new(children(fields)?)));
        let values = match ty {
            DataType::Boolean => ColumnValues::Boolean(BoolValues::default()),
            DataType::Int8 => ColumnValues::Int8(Values::default()),
            DataType::Int16 => ColumnValues::Int16(Values::default()),
            DataType::Int32 | DataType::Interval(IntervalUnit::YearMonth) => {
                ColumnValues::Int32(Values::default())
            }
            DataType::Int64 => ColumnValues::Int64(Values::default()),
            DataType::Float32 => ColumnValues::Float32(Values::default()),
            DataType::Float64 => ColumnValues::Float64(Values::default()),
            DataType::Decimal128(p, s) => {
                ColumnValues::Decimal(Values::default(), *p, u8::try_from(*s).map_err(|_| unsupported())?)
            }
            DataType::Date32 => ColumnValues::Date(Values::default()),
            DataType::Time32(TimeUnit::Millisecond) => ColumnValues::Time(Values::default()),
            DataType::Timestamp(unit, zone) => {
                ColumnValues::Timestamp(Values::default(), *unit, zone.is_some())
            }
            DataType::Utf8 => ColumnValues::Utf8(ByteValues::default()),
            DataType::Binary => ColumnValues::Binary(ByteValues::default()),
            DataType::List(item) => ColumnValues::List(list(std::slice::from_ref(item))?),
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(kv) if kv.len() == 2 => ColumnValues::Map(list(kv)?),
                _ => return Err(unsupported()),
            },
            DataType::Struct(fields) => {
                let kind = match ty {
                    ty if is_variant(ty) => RowKind::Variant,
                    ty if is_bitmap(ty) => RowKind::Bitmap,
                    _ => RowKind::Fields,
                };
                ColumnValues::Row(Box::new(RowValues::new(children(fields)?, kind)))
            }
            DataType::Null => ColumnValues::Null(NullValues::default()),
            _ => return Err(unsupported()),
        };
        Ok(Column { ty: ty.clone(), values })
    }

    /// Its Arrow type.
    pub(crate) fn data_type(&self) -> &DataType {
        &self.ty
    }

    /// Values so far.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        each!(&self.values, v => v.len())
    }

    /// Bytes of the values so far.
    pub(crate) fn bytes(&self) -> usize {
        each!(&self.values, v => v.bytes())
    }

    /// Appends NULL.
    pub(crate) fn push_null(&mut self) {
        each!(&mut self.values, v => v.push_null());
    }

    /// Takes back what comes after the first `len` values, and what is there of an unfinished one.
    pub(crate) fn truncate(&mut self, len: usize) {
        each!(&mut self.values, v => v.truncate(len));
    }

    /// Whether the last value is NULL.
    pub(crate) fn last_is_null(&self) -> bool {
        each!(&self.values, v => v.last_is_null())
    }

    /// The values as an array; the builder is empty afterwards.
    ///
    /// # Errors
    /// Data if a column outgrows Arrow's offsets or breaks a nested NOT NULL.
    pub(crate) fn finish(&mut self) -> Result<ArrayRef> {
        each!(&mut self.values, v => v.finish(&self.ty))
    }
}

fn finish_all(columns: &mut [Column]) -> Result<Vec<ArrayRef>> {
    columns.iter_mut().map(Column::finish).collect()
}

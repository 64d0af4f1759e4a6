//! Column builders that can take rows back.
//!
//! A text record is decoded straight into the columns of the batch. When it turns out to be bad in the middle, its
//! rows are cut off again ([`Column::truncate`]), so that no record is parsed twice and none is half there. Arrow's own
//! builders cannot shrink.

use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, BooleanBufferBuilder, StructArray, make_array};
use arrow::buffer::{Buffer, NullBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, IntervalUnit, SchemaRef, TimeUnit};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use crate::error::{Error, Result};

/// Validity bits, kept only from the first NULL on.
#[derive(Debug, Default)]
pub(crate) struct Validity {
    bits: Option<BooleanBufferBuilder>,
    len: usize,
}

impl Validity {
    #[inline]
    fn push(&mut self, valid: bool) {
        match &mut self.bits {
            Some(bits) => bits.append(valid),
            None if valid => {}
            None => {
                let mut bits = BooleanBufferBuilder::new(self.len + 64);
                bits.append_n(self.len, true);
                bits.append(false);
                self.bits = Some(bits);
            }
        }
        self.len += 1;
    }

    fn truncate(&mut self, len: usize) {
        if len < self.len {
            if let Some(bits) = &mut self.bits {
                bits.truncate(len);
            }
            self.len = len;
        }
    }

    fn finish(&mut self) -> Option<NullBuffer> {
        self.len = 0;
        let nulls = self.bits.take().map(|mut b| NullBuffer::new(b.finish()));
        nulls.filter(|n| n.null_count() > 0)
    }
}

/// Fixed-width values.
#[derive(Debug)]
pub(crate) struct Values<T> {
    values: Vec<T>,
    validity: Validity,
}

impl<T> Default for Values<T> {
    fn default() -> Self {
        Values { values: Vec::new(), validity: Validity::default() }
    }
}

impl<T: Default + arrow::datatypes::ArrowNativeType> Values<T> {
    /// Appends a value.
    #[inline]
    pub(crate) fn push(&mut self, v: T) {
        self.values.push(v);
        self.validity.push(true);
    }

    #[inline]
    fn push_null(&mut self) {
        self.values.push(T::default());
        self.validity.push(false);
    }

    fn truncate(&mut self, len: usize) {
        self.values.truncate(len);
        self.validity.truncate(len);
    }

    fn finish(&mut self, ty: &DataType) -> Result<ArrayRef> {
        let next = Vec::with_capacity(self.values.len());
        let values = std::mem::replace(&mut self.values, next);
        let len = values.len();
        let data = ArrayData::builder(ty.clone())
            .len(len)
            .add_buffer(Buffer::from_vec(values))
            .nulls(self.validity.finish())
            .build()?;
        Ok(make_array(data))
    }
}

/// Texts or byte strings.
#[derive(Debug)]
pub(crate) struct ByteValues {
    offsets: Vec<i32>,
    data: Vec<u8>,
    validity: Validity,
}

impl Default for ByteValues {
    fn default() -> Self {
        ByteValues { offsets: vec![0], data: Vec::new(), validity: Validity::default() }
    }
}

impl ByteValues {
    /// The buffer that the next value is written into; [`ByteValues::close`] ends it.
    #[inline]
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.data
    }

    /// Ends the value written into [`ByteValues::buffer`].
    #[inline]
    pub(crate) fn close(&mut self) {
        // Batches are cut long before 2 GiB; a value beyond is caught in `finish` by the decreasing offset.
        self.offsets.push(i32::try_from(self.data.len()).unwrap_or(-1));
        self.validity.push(true);
    }

    /// Appends a value.
    #[inline]
    pub(crate) fn push(&mut self, v: &[u8]) {
        self.data.extend_from_slice(v);
        self.close();
    }

    fn push_null(&mut self) {
        self.offsets.push(i32::try_from(self.data.len()).unwrap_or(-1));
        self.validity.push(false);
    }

    fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    fn truncate(&mut self, len: usize) {
        self.offsets.truncate(len + 1);
        let end = self.offsets.last().copied().unwrap_or(0).max(0);
        self.data.truncate(end as usize);
        self.validity.truncate(len);
    }

    fn finish(&mut self, ty: &DataType) -> Result<ArrayRef> {
        if i32::try_from(self.data.len()).is_err() {
            return Err(Error::data("a batch holds more than 2 GiB of text in one column"));
        }
        let len = self.len();
        let offsets = std::mem::replace(&mut self.offsets, Vec::with_capacity(len + 1));
        self.offsets.push(0);
        let next = Vec::with_capacity(self.data.len());
        let data = std::mem::replace(&mut self.data, next);
        let data = ArrayData::builder(ty.clone())
            .len(len)
            .add_buffer(Buffer::from_vec(offsets))
            .add_buffer(Buffer::from_vec(data))
            .nulls(self.validity.finish())
            .build()?;
        Ok(make_array(data))
    }
}

/// Lists, maps and multisets: offsets into child columns.
#[derive(Debug)]
pub(crate) struct ListValues {
    offsets: Vec<i32>,
    validity: Validity,
    /// One child for a list, key and value for a map.
    pub(crate) children: Vec<Column>,
}

impl ListValues {
    /// Ends a list whose items were appended to the children.
    pub(crate) fn close(&mut self) {
        let end = self.children.first().map_or(0, Column::len);
        self.offsets.push(i32::try_from(end).unwrap_or(-1));
        self.validity.push(true);
    }

    /// Where the items of the open list begin in the children.
    pub(crate) fn open_start(&self) -> usize {
        self.offsets.last().copied().unwrap_or(0).max(0) as usize
    }
}

/// Rows within rows.
#[derive(Debug)]
pub(crate) struct RowValues {
    len: usize,
    validity: Validity,
    /// One per field.
    pub(crate) children: Vec<Column>,
}

impl RowValues {
    /// Ends a row: fields that were not given become NULL.
    pub(crate) fn close(&mut self) {
        for c in &mut self.children {
            if c.len() == self.len {
                c.push_null();
            }
        }
        self.len += 1;
        self.validity.push(true);
    }

    /// Rows closed so far.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

/// The values of a column.
#[derive(Debug)]
pub(crate) enum ColumnValues {
    /// BOOLEAN
    Boolean(Box<BooleanBufferBuilder>, Validity),
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
    Null(usize),
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
        let list =
            |children| Box::new(ListValues { offsets: vec![0], validity: Validity::default(), children });
        let values = match ty {
            DataType::Boolean => {
                ColumnValues::Boolean(Box::new(BooleanBufferBuilder::new(0)), Validity::default())
            }
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
            DataType::List(item) => ColumnValues::List(list(children(std::slice::from_ref(item))?)),
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(kv) if kv.len() == 2 => ColumnValues::Map(list(children(kv)?)),
                _ => return Err(unsupported()),
            },
            DataType::Struct(fields) => ColumnValues::Row(Box::new(RowValues {
                len: 0,
                validity: Validity::default(),
                children: children(fields)?,
            })),
            DataType::Null => ColumnValues::Null(0),
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
        match &self.values {
            ColumnValues::Boolean(_, v) => v.len,
            ColumnValues::Int8(v) => v.values.len(),
            ColumnValues::Int16(v) => v.values.len(),
            ColumnValues::Int32(v) | ColumnValues::Date(v) | ColumnValues::Time(v) => v.values.len(),
            ColumnValues::Int64(v) | ColumnValues::Timestamp(v, ..) => v.values.len(),
            ColumnValues::Float32(v) => v.values.len(),
            ColumnValues::Float64(v) => v.values.len(),
            ColumnValues::Decimal(v, ..) => v.values.len(),
            ColumnValues::Utf8(v) | ColumnValues::Binary(v) => v.len(),
            ColumnValues::List(v) | ColumnValues::Map(v) => v.validity.len,
            ColumnValues::Row(v) => v.len,
            ColumnValues::Null(n) => *n,
        }
    }

    /// Appends NULL.
    pub(crate) fn push_null(&mut self) {
        match &mut self.values {
            ColumnValues::Boolean(b, v) => {
                b.append(false);
                v.push(false);
            }
            ColumnValues::Int8(v) => v.push_null(),
            ColumnValues::Int16(v) => v.push_null(),
            ColumnValues::Int32(v) | ColumnValues::Date(v) | ColumnValues::Time(v) => v.push_null(),
            ColumnValues::Int64(v) | ColumnValues::Timestamp(v, ..) => v.push_null(),
            ColumnValues::Float32(v) => v.push_null(),
            ColumnValues::Float64(v) => v.push_null(),
            ColumnValues::Decimal(v, ..) => v.push_null(),
            ColumnValues::Utf8(v) | ColumnValues::Binary(v) => v.push_null(),
            ColumnValues::List(v) | ColumnValues::Map(v) => {
                v.close();
                v.validity.truncate(v.offsets.len() - 2);
                v.validity.push(false);
            }
            ColumnValues::Row(v) => {
                v.close();
                v.validity.truncate(v.len - 1);
                v.validity.push(false);
            }
            ColumnValues::Null(n) => *n += 1,
        }
    }

    /// Appends to a BOOLEAN column.
    pub(crate) fn push_bool(&mut self, value: bool) {
        if let ColumnValues::Boolean(bits, validity) = &mut self.values {
            bits.append(value);
            validity.push(true);
        }
    }

    /// Takes back what comes after the first `len` values, and what is there of an unfinished one.
    pub(crate) fn truncate(&mut self, len: usize) {
        match &mut self.values {
            ColumnValues::Boolean(b, v) => {
                if len < b.len() {
                    b.truncate(len);
                }
                v.truncate(len);
            }
            ColumnValues::Int8(v) => v.truncate(len),
            ColumnValues::Int16(v) => v.truncate(len),
            ColumnValues::Int32(v) | ColumnValues::Date(v) | ColumnValues::Time(v) => v.truncate(len),
            ColumnValues::Int64(v) | ColumnValues::Timestamp(v, ..) => v.truncate(len),
            ColumnValues::Float32(v) => v.truncate(len),
            ColumnValues::Float64(v) => v.truncate(len),
            ColumnValues::Decimal(v, ..) => v.truncate(len),
            ColumnValues::Utf8(v) | ColumnValues::Binary(v) => v.truncate(len),
            ColumnValues::List(v) | ColumnValues::Map(v) => {
                v.offsets.truncate(len + 1);
                v.validity.truncate(len);
                // Also takes back items of a list that was never closed.
                let end = v.open_start();
                v.children.iter_mut().for_each(|c| c.truncate(end));
            }
            ColumnValues::Row(v) => {
                v.len = v.len.min(len);
                v.validity.truncate(len);
                v.children.iter_mut().for_each(|c| c.truncate(len));
            }
            ColumnValues::Null(n) => *n = len.min(*n),
        }
    }

    /// Whether the last value is NULL.
    pub(crate) fn last_is_null(&self) -> bool {
        let validity = match &self.values {
            ColumnValues::Boolean(_, v) => v,
            ColumnValues::Int8(v) => &v.validity,
            ColumnValues::Int16(v) => &v.validity,
            ColumnValues::Int32(v) | ColumnValues::Date(v) | ColumnValues::Time(v) => &v.validity,
            ColumnValues::Int64(v) | ColumnValues::Timestamp(v, ..) => &v.validity,
            ColumnValues::Float32(v) => &v.validity,
            ColumnValues::Float64(v) => &v.validity,
            ColumnValues::Decimal(v, ..) => &v.validity,
            ColumnValues::Utf8(v) | ColumnValues::Binary(v) => &v.validity,
            ColumnValues::List(v) | ColumnValues::Map(v) => &v.validity,
            ColumnValues::Row(v) => &v.validity,
            ColumnValues::Null(_) => return true,
        };
        match &validity.bits {
            Some(bits) => validity.len > 0 && !bits.get_bit(validity.len - 1),
            None => false,
        }
    }

    /// The values as an array; the builder is empty afterwards.
    ///
    /// # Errors
    /// Data if a column outgrows Arrow's offsets or breaks a nested NOT NULL.
    pub(crate) fn finish(&mut self) -> Result<ArrayRef> {
        let ty = self.ty.clone();
        match &mut self.values {
            ColumnValues::Boolean(b, v) => {
                let values = b.finish();
                let data = ArrayData::builder(ty)
                    .len(values.len())
                    .add_buffer(values.into_inner())
                    .nulls(v.finish())
                    .build()?;
                Ok(make_array(data))
            }
            ColumnValues::Int8(v) => v.finish(&ty),
            ColumnValues::Int16(v) => v.finish(&ty),
            ColumnValues::Int32(v) | ColumnValues::Date(v) | ColumnValues::Time(v) => v.finish(&ty),
            ColumnValues::Int64(v) | ColumnValues::Timestamp(v, ..) => v.finish(&ty),
            ColumnValues::Float32(v) => v.finish(&ty),
            ColumnValues::Float64(v) => v.finish(&ty),
            ColumnValues::Decimal(v, ..) => v.finish(&ty),
            ColumnValues::Utf8(v) | ColumnValues::Binary(v) => v.finish(&ty),
            ColumnValues::List(v) => {
                let child = finish_all(&mut v.children)?.pop();
                finish_list(v, &ty, child.ok_or_else(no_child)?)
            }
            ColumnValues::Map(v) => {
                let kv = finish_all(&mut v.children)?;
                let DataType::Map(entries, _) = &ty else { return Err(no_child()) };
                let DataType::Struct(fields) = entries.data_type() else { return Err(no_child()) };
                let entries: ArrayRef = Arc::new(StructArray::try_new(fields.clone(), kv, None)?);
                finish_list(v, &ty, entries)
            }
            ColumnValues::Row(v) => {
                let len = std::mem::take(&mut v.len);
                let children = finish_all(&mut v.children)?;
                let DataType::Struct(fields) = &ty else { return Err(no_child()) };
                let nulls = v.validity.finish();
                let array = StructArray::try_new_with_length(Fields::clone(fields), children, nulls, len)?;
                Ok(Arc::new(array))
            }
            ColumnValues::Null(n) => Ok(arrow::array::new_null_array(&ty, std::mem::take(n))),
        }
    }
}

fn no_child() -> Error {
    Error::internal("a nested column has lost its child")
}

fn finish_all(columns: &mut [Column]) -> Result<Vec<ArrayRef>> {
    columns.iter_mut().map(Column::finish).collect()
}

fn finish_list(v: &mut ListValues, ty: &DataType, child: ArrayRef) -> Result<ArrayRef> {
    let offsets = std::mem::replace(&mut v.offsets, vec![0]);
    let data = ArrayData::builder(ty.clone())
        .len(offsets.len() - 1)
        .add_buffer(Buffer::from_vec(offsets))
        .add_child_data(child.to_data())
        .nulls(v.validity.finish())
        .build()?;
    Ok(make_array(data))
}

/// The columns of a batch being built.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Schema of the batch.
    pub(crate) schema: SchemaRef,
    /// One per field.
    pub(crate) columns: Vec<Column>,
    rows: usize,
    /// Columns that are NOT NULL.
    required: Vec<usize>,
}

impl Batch {
    /// Builders for `schema`.
    ///
    /// # Errors
    /// Unsupported types.
    pub(crate) fn new(schema: SchemaRef) -> Result<Self> {
        let column = |f: &FieldRef| {
            Column::new(f.data_type()).map_err(|e| e.context(format!("column `{}`", f.name())))
        };
        let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
        let required =
            schema.fields().iter().enumerate().filter(|(_, f)| !f.is_nullable()).map(|(i, _)| i).collect();
        Ok(Batch { schema, columns, rows: 0, required })
    }

    /// Closed rows.
    #[inline]
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Ends a row: columns without a value get NULL.
    ///
    /// # Errors
    /// The NOT NULL column that is NULL.
    #[inline]
    pub(crate) fn close_row(&mut self) -> Result<(), &Field> {
        for c in &mut self.columns {
            if c.len() == self.rows {
                c.push_null();
            }
        }
        for i in &self.required {
            if self.columns.get(*i).is_some_and(Column::last_is_null) {
                return Err(self.schema.field(*i));
            }
        }
        self.rows += 1;
        Ok(())
    }

    /// Takes back what comes after the first `rows` rows, an open row included.
    pub(crate) fn truncate(&mut self, rows: usize) {
        self.columns.iter_mut().for_each(|c| c.truncate(rows));
        self.rows = self.rows.min(rows);
    }

    /// The rows; the builder is empty afterwards.
    ///
    /// # Errors
    /// As [`Column::finish`].
    pub(crate) fn finish(&mut self) -> Result<RecordBatch> {
        let rows = std::mem::take(&mut self.rows);
        let arrays = finish_all(&mut self.columns)?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)?)
    }
}

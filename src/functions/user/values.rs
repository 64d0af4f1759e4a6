//! Results of a script, value by value, as a column.
//!
//! ```text
//!  value ─► Builder::null, push_*, begin_list … ─► column of a wire type
//! ```

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, ListArray, MapArray, NullBufferBuilder, PrimitiveBuilder,
    StringBuilder, StructArray,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    DataType, FieldRef, Fields, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
};

use crate::error::{Error, Result};

/// Collects the values of one column.
pub(super) struct Builder {
    /// Whether NULL may be among them.
    pub(super) nullable: bool,
    pub(super) kind: Kind,
}

/// By type.
pub(super) enum Kind {
    Bool(BooleanBuilder),
    Int8(PrimitiveBuilder<Int8Type>),
    Int16(PrimitiveBuilder<Int16Type>),
    Int32(PrimitiveBuilder<Int32Type>),
    Int64(PrimitiveBuilder<Int64Type>),
    Float32(PrimitiveBuilder<Float32Type>),
    Float64(PrimitiveBuilder<Float64Type>),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    List(ListBuilder),
    /// Entries are rows of key and value.
    Map(ListBuilder, bool),
    Row(RowBuilder),
}

/// Values that have elements.
pub(super) struct ListBuilder {
    pub(super) item: Box<Builder>,
    field: FieldRef,
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

/// Values that have fields.
pub(super) struct RowBuilder {
    pub(super) fields: Fields,
    pub(super) columns: Vec<Builder>,
    nulls: NullBufferBuilder,
    rows: usize,
}

impl ListBuilder {
    fn new(field: &FieldRef, rows: usize) -> Result<Self> {
        Ok(ListBuilder {
            item: Box::new(Builder::new(field.data_type(), field.is_nullable(), rows)?),
            field: Arc::clone(field),
            offsets: vec![0],
            nulls: NullBufferBuilder::new(rows),
        })
    }

    /// Ends the elements of a value.
    ///
    /// # Errors
    /// Data, for more elements than a column holds.
    pub(super) fn end(&mut self, valid: bool) -> Result<()> {
        let length = self.item.len();
        let length = i32::try_from(length)
            .map_err(|_| Error::data(format!("{length} elements are too many for a batch")))?;
        self.offsets.push(length);
        self.nulls.append(valid);
        Ok(())
    }

    fn parts(mut self) -> Result<(FieldRef, OffsetBuffer<i32>, ArrayRef, Option<arrow::buffer::NullBuffer>)> {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        Ok((self.field, offsets, self.item.finish()?, self.nulls.finish()))
    }
}

impl RowBuilder {
    /// Ends a row whose fields are pushed.
    pub(super) fn end(&mut self, valid: bool) {
        self.nulls.append(valid);
        self.rows += 1;
    }
}

impl Builder {
    /// For values of a wire type.
    ///
    /// # Errors
    /// Internal for other types.
    pub(super) fn new(ty: &DataType, nullable: bool, rows: usize) -> Result<Self> {
        let kind = match ty {
            DataType::Boolean => Kind::Bool(BooleanBuilder::with_capacity(rows)),
            DataType::Int8 => Kind::Int8(PrimitiveBuilder::with_capacity(rows)),
            DataType::Int16 => Kind::Int16(PrimitiveBuilder::with_capacity(rows)),
            DataType::Int32 => Kind::Int32(PrimitiveBuilder::with_capacity(rows)),
            DataType::Int64 => Kind::Int64(PrimitiveBuilder::with_capacity(rows)),
            DataType::Float32 => Kind::Float32(PrimitiveBuilder::with_capacity(rows)),
            DataType::Float64 => Kind::Float64(PrimitiveBuilder::with_capacity(rows)),
            DataType::Utf8 => Kind::Text(StringBuilder::with_capacity(rows, rows * 16)),
            DataType::Binary => Kind::Bytes(BinaryBuilder::with_capacity(rows, rows * 16)),
            DataType::List(item) => Kind::List(ListBuilder::new(item, rows)?),
            DataType::Map(entries, sorted) => Kind::Map(ListBuilder::new(entries, rows)?, *sorted),
            DataType::Struct(fields) => Kind::Row(RowBuilder {
                fields: fields.clone(),
                columns: fields
                    .iter()
                    .map(|f| Builder::new(f.data_type(), f.is_nullable(), rows))
                    .collect::<Result<_>>()?,
                nulls: NullBufferBuilder::new(rows),
                rows: 0,
            }),
            other => return Err(Error::internal(format!("values of {other} from a script"))),
        };
        Ok(Builder { nullable, kind })
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        use arrow::array::ArrayBuilder;
        match &self.kind {
            Kind::Bool(b) => b.len(),
            Kind::Int8(b) => b.len(),
            Kind::Int16(b) => b.len(),
            Kind::Int32(b) => b.len(),
            Kind::Int64(b) => b.len(),
            Kind::Float32(b) => b.len(),
            Kind::Float64(b) => b.len(),
            Kind::Text(b) => b.len(),
            Kind::Bytes(b) => b.len(),
            Kind::List(b) | Kind::Map(b, _) => b.offsets.len() - 1,
            Kind::Row(b) => b.rows,
        }
    }

    /// A NULL.
    ///
    /// # Errors
    /// Data where NOT NULL is declared.
    pub(super) fn null(&mut self) -> Result<()> {
        if !self.nullable {
            return Err(Error::data("NULL, where NOT NULL is declared"));
        }
        self.absent()
    }

    /// A value that nobody will see, within a NULL.
    fn absent(&mut self) -> Result<()> {
        match &mut self.kind {
            Kind::Bool(b) => b.append_null(),
            Kind::Int8(b) => b.append_null(),
            Kind::Int16(b) => b.append_null(),
            Kind::Int32(b) => b.append_null(),
            Kind::Int64(b) => b.append_null(),
            Kind::Float32(b) => b.append_null(),
            Kind::Float64(b) => b.append_null(),
            Kind::Text(b) => b.append_null(),
            Kind::Bytes(b) => b.append_null(),
            Kind::List(b) | Kind::Map(b, _) => b.end(false)?,
            Kind::Row(b) => {
                for column in &mut b.columns {
                    column.filler()?;
                }
                b.end(false);
            }
        }
        Ok(())
    }

    /// The field of a row that is NULL: some value where it cannot be NULL itself.
    fn filler(&mut self) -> Result<()> {
        if self.nullable {
            return self.absent();
        }
        match &mut self.kind {
            Kind::Bool(b) => b.append_value(false),
            Kind::Int8(b) => b.append_value(0),
            Kind::Int16(b) => b.append_value(0),
            Kind::Int32(b) => b.append_value(0),
            Kind::Int64(b) => b.append_value(0),
            Kind::Float32(b) => b.append_value(0.0),
            Kind::Float64(b) => b.append_value(0.0),
            Kind::Text(b) => b.append_value(""),
            Kind::Bytes(b) => b.append_value(b""),
            Kind::List(b) | Kind::Map(b, _) => b.end(true)?,
            Kind::Row(b) => {
                for column in &mut b.columns {
                    column.filler()?;
                }
                b.end(true);
            }
        }
        Ok(())
    }

    /// The column.
    ///
    /// # Errors
    /// Internal.
    pub(super) fn finish(self) -> Result<ArrayRef> {
        Ok(match self.kind {
            Kind::Bool(mut b) => Arc::new(b.finish()),
            Kind::Int8(mut b) => Arc::new(b.finish()),
            Kind::Int16(mut b) => Arc::new(b.finish()),
            Kind::Int32(mut b) => Arc::new(b.finish()),
            Kind::Int64(mut b) => Arc::new(b.finish()),
            Kind::Float32(mut b) => Arc::new(b.finish()),
            Kind::Float64(mut b) => Arc::new(b.finish()),
            Kind::Text(mut b) => Arc::new(b.finish()),
            Kind::Bytes(mut b) => Arc::new(b.finish()),
            Kind::List(b) => {
                let (field, offsets, items, nulls) = b.parts()?;
                Arc::new(ListArray::try_new(field, offsets, items, nulls)?)
            }
            Kind::Map(b, sorted) => {
                let (field, offsets, entries, nulls) = b.parts()?;
                let entries = entries
                    .as_any()
                    .downcast_ref::<StructArray>()
                    .cloned()
                    .ok_or_else(|| Error::internal("entries of a map that are no rows"))?;
                Arc::new(MapArray::try_new(field, offsets, entries, nulls, sorted)?)
            }
            Kind::Row(mut b) => {
                let columns = b.columns.into_iter().map(Builder::finish).collect::<Result<Vec<_>>>()?;
                Arc::new(StructArray::try_new_with_length(b.fields, columns, b.nulls.finish(), b.rows)?)
            }
        })
    }
}

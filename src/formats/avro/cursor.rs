//! Avro's binary encoding, read from front to back.

use super::schema::{AvroSchema, Record, Shape, TypeId};
use crate::error::{Error, Result};

/// How deep values that nobody wants may be nested: recursive schemas set no limit of their own.
const MAX_DEPTH: usize = 500;

/// Items beyond the bytes of a record: items of no width (NULLs, empty records) cost the writer nothing.
const FREE_ITEMS: usize = 1 << 16;

/// The bytes of a record.
pub(crate) struct Cursor<'a> {
    data: &'a [u8],
    pos: usize,
    /// Items that may still come: what takes a byte each cannot be more than there are bytes.
    items: usize,
}

fn short() -> Error {
    Error::data("the record ends in the middle of a value")
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Cursor { data, pos: 0, items: data.len() + FREE_ITEMS }
    }

    /// Bytes not read yet.
    pub(crate) fn left(&self) -> usize {
        self.data.len() - self.pos
    }

    /// Where it is.
    pub(crate) fn pos(&self) -> usize {
        self.pos
    }

    #[inline]
    pub(crate) fn byte(&mut self) -> Result<u8> {
        let byte = *self.data.get(self.pos).ok_or_else(short)?;
        self.pos += 1;
        Ok(byte)
    }

    /// A number in zigzag form.
    #[inline]
    pub(crate) fn long(&mut self) -> Result<i64> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(i64::from(first >> 1) ^ -i64::from(first & 1));
        }
        let mut value = u64::from(first & 0x7f);
        let mut shift = 7;
        loop {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                // The tenth byte has room for one bit.
                if shift == 63 && byte > 1 {
                    return Err(Error::data("a number of more than 64 bits"));
                }
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
            shift += 7;
            if shift > 63 {
                return Err(Error::data("a number of more than 64 bits"));
            }
        }
    }

    /// A number of 32 bits.
    #[inline]
    pub(crate) fn int(&mut self) -> Result<i64> {
        let value = self.long()?;
        match i32::try_from(value) {
            Ok(_) => Ok(value),
            Err(_) => Err(Error::data(format!("{value} is too large for Avro's int"))),
        }
    }

    #[inline]
    pub(crate) fn boolean(&mut self) -> Result<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Error::data(format!("a boolean cannot be {other}"))),
        }
    }

    pub(crate) fn float(&mut self) -> Result<f32> {
        Ok(f32::from_le_bytes(self.array()?))
    }

    pub(crate) fn double(&mut self) -> Result<f64> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| short())
    }

    /// So many bytes.
    #[inline]
    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let end = self.pos.checked_add(length).ok_or_else(short)?;
        let bytes = self.data.get(self.pos..end).ok_or_else(short)?;
        self.pos = end;
        Ok(bytes)
    }

    /// Bytes with their length before them.
    #[inline]
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.long()?;
        let length =
            usize::try_from(length).map_err(|_| Error::data(format!("a value of {length} bytes")))?;
        self.take(length)
    }

    /// The branch of a union, or the symbol of an enumeration.
    #[inline]
    pub(crate) fn index(&mut self) -> Result<usize> {
        let index = self.long()?;
        usize::try_from(index).map_err(|_| Error::data(format!("branch or symbol {index}")))
    }

    /// Items of the next block of an array or a map; none ends it.
    pub(crate) fn block(&mut self) -> Result<usize> {
        let mut count = self.long()?;
        if count < 0 {
            // The size in bytes, for those who skip.
            self.long()?;
            count = count.checked_neg().unwrap_or(i64::MAX);
        }
        let items = usize::try_from(count).unwrap_or(usize::MAX);
        self.items = self.items.checked_sub(items).ok_or_else(|| {
            Error::data(format!("a block of {items} items in a record of {} bytes", self.data.len()))
        })?;
        Ok(items)
    }

    /// Reads a value that nobody wants.
    pub(crate) fn skip(&mut self, schema: &AvroSchema, id: TypeId, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Error::data(format!("values are nested more than {MAX_DEPTH} deep")));
        }
        match schema.shape(id) {
            Shape::Null => {}
            Shape::Boolean => {
                self.boolean()?;
            }
            Shape::Int | Shape::Long | Shape::Enum(_) => {
                self.long()?;
            }
            Shape::Float => {
                self.take(4)?;
            }
            Shape::Double => {
                self.take(8)?;
            }
            Shape::Bytes | Shape::String => {
                self.bytes()?;
            }
            Shape::Fixed { size, .. } => {
                self.take(*size)?;
            }
            Shape::Record(Record { fields, .. }) => {
                fields.iter().try_for_each(|f| self.skip(schema, f.ty, depth + 1))?;
            }
            Shape::Union(branches) => {
                let index = self.index()?;
                let branch = branches.get(index).ok_or_else(|| no_branch(index, branches.len()))?;
                self.skip(schema, *branch, depth + 1)?;
            }
            Shape::Array(item) => self.skip_blocks(|c| c.skip(schema, *item, depth + 1))?,
            Shape::Map(value) => self.skip_blocks(|c| {
                c.bytes()?;
                c.skip(schema, *value, depth + 1)
            })?,
        }
        Ok(())
    }

    fn skip_blocks(&mut self, mut one: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        loop {
            let count = self.long()?;
            if count < 0 {
                let size = self.long()?;
                let size =
                    usize::try_from(size).map_err(|_| Error::data(format!("a block of {size} bytes")))?;
                self.take(size)?;
                continue;
            }
            if count == 0 {
                return Ok(());
            }
            let items = usize::try_from(count).unwrap_or(usize::MAX);
            self.items = self.items.checked_sub(items).ok_or_else(|| {
                Error::data(format!("a block of {items} items in a record of {} bytes", self.data.len()))
            })?;
            for _ in 0..items {
                one(self)?;
            }
        }
    }
}

/// A union's value that is none of its branches.
pub(crate) fn no_branch(index: usize, branches: usize) -> Error {
    Error::data(format!("branch {index} of a union of {branches}"))
}

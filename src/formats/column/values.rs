//! Values that hold no columns: validity bits, fixed widths, texts.

use arrow::array::{ArrayData, ArrayRef, BooleanBufferBuilder, make_array, new_null_array};
use arrow::buffer::{Buffer, NullBuffer};
use arrow::datatypes::{ArrowNativeType, DataType};

use crate::error::{Error, Result};

/// Validity bits, kept only from the first NULL on.
#[derive(Debug, Default)]
pub(super) struct Validity {
    bits: Option<BooleanBufferBuilder>,
    len: usize,
}

impl Validity {
    #[inline]
    pub(super) fn push(&mut self, valid: bool) {
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

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn last_is_null(&self) -> bool {
        match &self.bits {
            Some(bits) => self.len > 0 && !bits.get_bit(self.len - 1),
            None => false,
        }
    }

    pub(super) fn truncate(&mut self, len: usize) {
        if len < self.len {
            if let Some(bits) = &mut self.bits {
                bits.truncate(len);
            }
            self.len = len;
        }
    }

    pub(super) fn finish(&mut self) -> Option<NullBuffer> {
        self.len = 0;
        let nulls = self.bits.take().map(|mut b| NullBuffer::new(b.finish()));
        nulls.filter(|n| n.null_count() > 0)
    }
}

/// Values of the type of NULL.
#[derive(Debug, Default)]
pub(crate) struct NullValues(usize);

impl NullValues {
    pub(super) fn len(&self) -> usize {
        self.0
    }

    pub(super) fn push_null(&mut self) {
        self.0 += 1;
    }

    pub(super) fn bytes(&self) -> usize {
        0
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.0 = self.0.min(len);
    }

    pub(super) fn last_is_null(&self) -> bool {
        true
    }

    pub(super) fn finish(&mut self, ty: &DataType) -> Result<ArrayRef> {
        Ok(new_null_array(ty, std::mem::take(&mut self.0)))
    }
}

/// Truth values.
#[derive(Debug)]
pub(crate) struct BoolValues {
    bits: BooleanBufferBuilder,
    validity: Validity,
}

impl Default for BoolValues {
    fn default() -> Self {
        BoolValues { bits: BooleanBufferBuilder::new(0), validity: Validity::default() }
    }
}

impl BoolValues {
    /// Appends a value.
    #[inline]
    pub(crate) fn push(&mut self, v: bool) {
        self.bits.append(v);
        self.validity.push(true);
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.validity.len()
    }

    #[inline]
    pub(super) fn push_null(&mut self) {
        self.bits.append(false);
        self.validity.push(false);
    }

    pub(super) fn bytes(&self) -> usize {
        self.validity.len() / 8
    }

    pub(super) fn truncate(&mut self, len: usize) {
        if len < self.bits.len() {
            self.bits.truncate(len);
        }
        self.validity.truncate(len);
    }

    pub(super) fn last_is_null(&self) -> bool {
        self.validity.last_is_null()
    }

    pub(super) fn finish(&mut self, ty: &DataType) -> Result<ArrayRef> {
        let values = self.bits.finish();
        let data = ArrayData::builder(ty.clone())
            .len(values.len())
            .add_buffer(values.into_inner())
            .nulls(self.validity.finish())
            .build()?;
        Ok(make_array(data))
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

impl<T: Default + ArrowNativeType> Values<T> {
    /// Appends a value.
    #[inline]
    pub(crate) fn push(&mut self, v: T) {
        self.values.push(v);
        self.validity.push(true);
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    #[inline]
    pub(super) fn push_null(&mut self) {
        self.values.push(T::default());
        self.validity.push(false);
    }

    pub(super) fn bytes(&self) -> usize {
        self.values.len() * size_of::<T>()
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.values.truncate(len);
        self.validity.truncate(len);
    }

    pub(super) fn last_is_null(&self) -> bool {
        self.validity.last_is_null()
    }

    pub(super) fn finish(&mut self, ty: &DataType) -> Result<ArrayRef> {
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
        self.end(true);
    }

    /// Appends a value.
    #[inline]
    pub(crate) fn push(&mut self, v: &[u8]) {
        self.data.extend_from_slice(v);
        self.end(true);
    }

    #[inline]
    fn end(&mut self, valid: bool) {
        // Batches are cut long before 2 GiB; a value beyond is caught in `finish` by the decreasing offset.
        self.offsets.push(i32::try_from(self.data.len()).unwrap_or(-1));
        self.validity.push(valid);
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    #[inline]
    pub(super) fn push_null(&mut self) {
        self.end(false);
    }

    pub(super) fn bytes(&self) -> usize {
        self.data.len() + 4 * self.len()
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.offsets.truncate(len + 1);
        let end = self.offsets.last().copied().unwrap_or(0).max(0);
        self.data.truncate(end as usize);
        self.validity.truncate(len);
    }

    pub(super) fn last_is_null(&self) -> bool {
        self.validity.last_is_null()
    }

    pub(super) fn finish(&mut self, ty: &DataType) -> Result<ArrayRef> {
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

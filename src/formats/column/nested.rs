//! Values that hold columns: lists, maps, rows.

use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, StructArray, make_array};
use arrow::buffer::Buffer;
use arrow::datatypes::DataType;

use super::values::Validity;
use super::{Column, ColumnValues, finish_all};
use crate::error::{Error, Result};
use crate::functions::bitmap;
use crate::functions::json::variant;
use crate::text::read_base64;

/// Lists, maps and multisets: offsets into child columns.
#[derive(Debug)]
pub(crate) struct ListValues {
    offsets: Vec<i32>,
    validity: Validity,
    /// One child for a list, key and value for a map.
    pub(crate) children: Vec<Column>,
}

impl ListValues {
    pub(super) fn new(children: Vec<Column>) -> Self {
        ListValues { offsets: vec![0], validity: Validity::default(), children }
    }

    /// Ends a list whose items were appended to the children.
    pub(crate) fn close(&mut self) {
        self.end(true);
    }

    fn end(&mut self, valid: bool) {
        let end = self.children.first().map_or(0, Column::len);
        self.offsets.push(i32::try_from(end).unwrap_or(-1));
        self.validity.push(valid);
    }

    /// Whether there are items that belong to no closed list yet.
    pub(crate) fn is_open(&self) -> bool {
        let end = self.offsets.last().map_or(0, |o| usize::try_from(*o).unwrap_or(0));
        self.children.first().is_some_and(|c| c.len() > end)
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.validity.len()
    }

    pub(super) fn push_null(&mut self) {
        self.end(false);
    }

    pub(super) fn bytes(&self) -> usize {
        self.children.iter().map(Column::bytes).sum::<usize>() + 4 * self.len()
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.offsets.truncate(len + 1);
        self.validity.truncate(len);
        // Also takes back items of a list that was never closed.
        let end = self.offsets.last().copied().unwrap_or(0).max(0) as usize;
        self.children.iter_mut().for_each(|c| c.truncate(end));
    }

    pub(super) fn last_is_null(&self) -> bool {
        self.validity.last_is_null()
    }

    pub(super) fn finish(&mut self, ty: &DataType) -> Result<ArrayRef> {
        let mut children = finish_all(&mut self.children)?;
        let items: ArrayRef = match ty {
            DataType::Map(entries, _) => {
                let DataType::Struct(fields) = entries.data_type() else { return Err(no_child()) };
                Arc::new(StructArray::try_new(fields.clone(), children, None)?)
            }
            _ => children.pop().ok_or_else(no_child)?,
        };
        let offsets = std::mem::replace(&mut self.offsets, vec![0]);
        let data = ArrayData::builder(ty.clone())
            .len(offsets.len() - 1)
            .add_buffer(Buffer::from_vec(offsets))
            .add_child_data(items.to_data())
            .nulls(self.validity.finish())
            .build()?;
        Ok(make_array(data))
    }
}

/// What is in a struct of Arrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowKind {
    /// The fields of a ROW.
    Fields,
    /// A VARIANT, as its text.
    Variant,
    /// A BITMAP, as its bytes.
    Bitmap,
}

/// Rows within rows.
#[derive(Debug)]
pub(crate) struct RowValues {
    validity: Validity,
    /// What a row is.
    pub(crate) kind: RowKind,
    /// One per field.
    pub(crate) children: Vec<Column>,
}

impl RowValues {
    pub(super) fn new(children: Vec<Column>, kind: RowKind) -> Self {
        RowValues { validity: Validity::default(), kind, children }
    }

    /// Appends the VARIANT that a JSON text is; `None` if it is none.
    pub(crate) fn push_variant(&mut self, json: &str) -> Option<()> {
        let text = variant::of_json(json)?;
        let Some(ColumnValues::Utf8(v)) = self.children.first_mut().map(|c| &mut c.values) else {
            return None;
        };
        v.push(text.as_bytes());
        self.close();
        Some(())
    }

    /// Appends the BITMAP whose bytes a text is in Base64; `None` if it is none.
    pub(crate) fn push_bitmap(&mut self, base64: &str) -> Option<()> {
        let mut bytes = Vec::new();
        read_base64(base64.as_bytes(), &mut bytes)?;
        let bitmap = bitmap::read(&bytes)?;
        let Some(ColumnValues::Binary(v)) = self.children.first_mut().map(|c| &mut c.values) else {
            return None;
        };
        // Equal bitmaps are equal bytes here, however others have written them.
        bytes.clear();
        bitmap::append(&bitmap, &mut bytes).ok()?;
        v.push(&bytes);
        self.close();
        Some(())
    }

    /// Ends a row: fields that were not given become NULL.
    pub(crate) fn close(&mut self) {
        self.end(true);
    }

    fn end(&mut self, valid: bool) {
        let len = self.len();
        for c in &mut self.children {
            if c.len() == len {
                c.push_null();
            }
        }
        self.validity.push(valid);
    }

    /// Rows closed so far.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.validity.len()
    }

    pub(super) fn push_null(&mut self) {
        self.end(false);
    }

    pub(super) fn bytes(&self) -> usize {
        self.children.iter().map(Column::bytes).sum()
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.validity.truncate(len);
        self.children.iter_mut().for_each(|c| c.truncate(len));
    }

    pub(super) fn last_is_null(&self) -> bool {
        self.validity.last_is_null()
    }

    pub(super) fn finish(&mut self, ty: &DataType) -> Result<ArrayRef> {
        let len = self.len();
        let nulls = self.validity.finish();
        let children = finish_all(&mut self.children)?;
        let DataType::Struct(fields) = ty else { return Err(no_child()) };
        Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), children, nulls, len)?))
    }
}

fn no_child() -> Error {
    Error::internal("a nested column has lost its child")
}

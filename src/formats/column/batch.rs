//! The columns of a batch.

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, FieldRef, SchemaRef};

use super::{Column, finish_all};
use crate::error::Result;

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

    /// Bytes of the values so far.
    pub(crate) fn bytes(&self) -> usize {
        self.columns.iter().map(Column::bytes).sum()
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

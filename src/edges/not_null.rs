//! What a sink's NOT NULL columns mean for rows (`table.exec.sink.not-null-enforcer`).

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt8Array};
use arrow::buffer::NullBuffer;
use arrow::compute::{filter, filter_record_batch};
use arrow::datatypes::SchemaRef;

use crate::error::{Error, Result};
use crate::stream::{ChangeBatch, RowKinds};

/// What happens to a row with a NULL in a NOT NULL column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotNullEnforcer {
    /// The job fails.
    Error,
    /// The row is dropped.
    Drop,
}

/// Brings a batch to the sink's schema.
///
/// # Errors
/// Data for a NULL in a NOT NULL column when the policy says so.
pub fn enforce(batch: ChangeBatch, schema: &SchemaRef, policy: NotNullEnforcer) -> Result<ChangeBatch> {
    let mut nulls: Option<NullBuffer> = None;
    for (column, field) in batch.rows.columns().iter().zip(schema.fields()) {
        if field.is_nullable() || column.null_count() == 0 {
            continue;
        }
        if policy == NotNullEnforcer::Error {
            return Err(Error::data(format!(
                "Column '{}' is NOT NULL, however, a null value is being written into it",
                field.name()
            ))
            .hint("SET 'table.exec.sink.not-null-enforcer' = 'DROP' drops such rows"));
        }
        nulls = NullBuffer::union(nulls.as_ref(), column.nulls());
    }
    let batch = match nulls {
        None => batch,
        Some(valid) => {
            let mask = BooleanArray::new(valid.into_inner(), None);
            let rows = filter_record_batch(&batch.rows, &mask)?;
            let kinds = match &batch.kinds {
                None => None,
                Some(k) => {
                    let kept = filter(&k.to_array(), &mask)?;
                    let kept: &UInt8Array = kept.as_primitive();
                    let mut codes = kept.values().to_vec();
                    ChangeBatch::heal_pairs(&mut codes);
                    Some(RowKinds::new(codes))
                }
            };
            ChangeBatch { rows, kinds }
        }
    };
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let rows = RecordBatch::try_new_with_options(schema.clone(), batch.rows.columns().to_vec(), &options)?;
    Ok(ChangeBatch { rows, kinds: batch.kinds })
}

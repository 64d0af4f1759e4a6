//! How much room there is for what functions make.
//!
//! ```text
//!  parts of rows ─► expressions over all rows ─► a column outgrows its room ─► half of the rows, and so on
//!                    builders look at the room before each value
//! ```
//!
//! A value has at most 2 GB, and so have all values of a column together. Where rows can be evaluated in parts the room
//! is a small multiple of what batches aim for: growing texts make more batches, not larger ones. Elsewhere (in
//! conditions, say) a column may take all that fits.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, GenericByteBuilder, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{ByteArrayType, SchemaRef};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_plan::PhysicalExpr;

use crate::error::guard::within_columns;
use crate::error::{Error, Result};
use crate::stream::BATCH_BYTES;
use crate::stream::bytes::array_bytes;

/// Bytes of the longest value, and of all values of a column.
const MOST: usize = i32::MAX as usize;

/// Bytes of a column where rows can be evaluated in parts.
const PART: usize = 4 * BATCH_BYTES;

thread_local! {
    static ROOM: Cell<usize> = const { Cell::new(MOST) };
}

/// Bytes that the values of a column of several rows may have, for the expression at work in this thread.
pub(crate) fn room() -> usize {
    ROOM.get()
}

/// Checks the length of a value before it is made.
///
/// # Errors
/// Data if it is too long.
#[inline]
pub(crate) fn check_value(bytes: usize) -> Result<()> {
    if bytes > MOST { Err(Error::value_overflow(bytes)) } else { Ok(()) }
}

/// Checks the length of a column before it is made.
///
/// # Errors
/// Data if it is too long.
#[inline]
pub(crate) fn check_column(bytes: usize) -> Result<()> {
    if bytes > MOST { Err(Error::batch_overflow(Some(bytes))) } else { Ok(()) }
}

/// Checks whether a value of `bytes` fits behind what a column has already.
///
/// # Errors
/// Data if it is too long, or too much for the batch.
#[inline]
pub(crate) fn check_room(taken: usize, bytes: usize) -> Result<()> {
    if bytes > MOST {
        return Err(Error::value_overflow(bytes));
    }
    // What cannot be parted is not held back.
    if taken > 0 && taken + bytes > room() { Err(Error::batch_overflow(Some(taken + bytes))) } else { Ok(()) }
}

/// Appends a value to a column, if it fits.
///
/// # Errors
/// As [`check_room`].
pub(crate) fn append<T: ByteArrayType>(
    out: &mut GenericByteBuilder<T>,
    value: impl AsRef<T::Native>,
) -> Result<()> {
    let bytes: &[u8] = value.as_ref().as_ref();
    check_room(out.values_slice().len(), bytes.len())?;
    out.append_value(value);
    Ok(())
}

/// The rows of a batch in parts: as many at once as have room in a column.
#[derive(Debug)]
pub(crate) struct Parts {
    rows: usize,
    /// Where the next part begins.
    at: usize,
    /// Rows to try.
    step: usize,
    /// Whether there was a part: no rows are one, too.
    begun: bool,
}

impl Parts {
    /// All of `rows` rows in one part, until that proves too large.
    pub(crate) fn of(rows: usize) -> Self {
        Parts { rows, at: 0, step: rows, begun: false }
    }

    /// Evaluates something over the next part; `None` at the end. `joined` tells whether a row stays with the next one.
    ///
    /// # Errors
    /// Those of `evaluate`, for the smallest part.
    pub(crate) fn next<T>(
        &mut self,
        joined: impl Fn(usize) -> bool,
        mut evaluate: impl FnMut(Range<usize>) -> Result<T>,
    ) -> Result<Option<T>> {
        if self.begun && self.is_at_end() {
            return Ok(None);
        }
        loop {
            let mut end = self.rows.min(self.at + self.step.max(1));
            while end < self.rows && joined(end - 1) {
                end += 1;
            }
            // What cannot be parted has all the room there is.
            let least = (self.at + 1..end).all(|row| joined(row - 1));
            let outer = ROOM.replace(if least { MOST } else { PART });
            let evaluated = within_columns(|| evaluate(self.at..end));
            ROOM.set(outer);
            match evaluated {
                Err(e) if !least && e.is_batch_overflow() => self.step = (end - self.at) / 2,
                evaluated => {
                    (self.at, self.begun) = (end, true);
                    return evaluated.map(Some);
                }
            }
        }
    }

    /// Whether no row is left.
    pub(crate) fn is_at_end(&self) -> bool {
        self.at >= self.rows
    }

    /// [`Parts::next`] of expressions over the rows of `batch`.
    ///
    /// # Errors
    /// As [`project`].
    pub(crate) fn project(
        &mut self,
        batch: &RecordBatch,
        exprs: &[Arc<dyn PhysicalExpr>],
        schema: &SchemaRef,
        joined: impl Fn(usize) -> bool,
    ) -> Result<Option<RecordBatch>> {
        self.next(joined, |part| {
            if part.len() == batch.num_rows() {
                project(batch, exprs, schema)
            } else {
                project(&batch.slice(part.start, part.len()), exprs, schema)
            }
        })
    }
}

/// Evaluates something over `rows` rows, in parts if a column of all would be too large.
///
/// # Errors
/// Those of `evaluate`, for its smallest part.
pub(crate) fn in_parts<T>(
    rows: usize,
    mut evaluate: impl FnMut(Range<usize>) -> Result<T>,
) -> Result<Vec<T>> {
    let (mut made, mut parts) = (Vec::with_capacity(1), Parts::of(rows));
    while let Some(part) = parts.next(|_| false, &mut evaluate)? {
        made.push(part);
    }
    Ok(made)
}

/// Expressions over the rows of a batch.
///
/// # Errors
/// Of the expressions, and if a NULL or a wrong type meets `schema`; Data if a column is too large.
pub(crate) fn project(
    rows: &RecordBatch,
    exprs: &[Arc<dyn PhysicalExpr>],
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let n = rows.num_rows();
    let columns = exprs.iter().map(|e| evaluate(e, rows)).collect::<Result<Vec<ArrayRef>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(n));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// An expression over the rows of a batch.
///
/// # Errors
/// As [`project`].
pub(crate) fn evaluate(expr: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> Result<ArrayRef> {
    column(expr.evaluate(rows)?, rows.num_rows())
}

/// A value as a column.
fn column(value: ColumnarValue, rows: usize) -> Result<ArrayRef> {
    let value = match value {
        ColumnarValue::Array(array) => return Ok(array),
        ColumnarValue::Scalar(value) => value,
    };
    let one = value.to_array()?;
    if rows == 1 {
        return Ok(one);
    }
    let bytes = array_bytes(one.as_ref()).saturating_mul(rows);
    if bytes > room() { Err(Error::batch_overflow(Some(bytes))) } else { Ok(value.to_array_of_size(rows)?) }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int32Array};
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::common::ScalarValue;
    use datafusion::physical_plan::expressions::{Column, Literal};

    use super::*;

    fn rows(n: i32) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int32Array::from_iter_values(0..n));
        RecordBatch::try_from_iter([("n", column)]).unwrap()
    }

    /// Lengths of the batches of `n`, a text of `bytes`, over so many rows.
    fn lengths(count: i32, bytes: usize, joined: impl Fn(usize) -> bool) -> Vec<usize> {
        let text = ScalarValue::Utf8(Some("x".repeat(bytes)));
        let exprs: [Arc<dyn PhysicalExpr>; 2] = [Arc::new(Column::new("n", 0)), Arc::new(Literal::new(text))];
        let fields = vec![Field::new("n", DataType::Int32, false), Field::new("s", DataType::Utf8, true)];
        let schema = Arc::new(Schema::new(fields));
        let (rows, mut parts, mut batches) = (rows(count), Parts::of(count as usize), Vec::new());
        while let Some(batch) = parts.project(&rows, &exprs, &schema, &joined).unwrap() {
            batches.push(batch);
        }
        let all =
            batches.iter().flat_map(|b| b.column(0).as_primitive::<arrow::datatypes::Int32Type>().values());
        assert!(all.copied().eq(0..count));
        assert_eq!(room(), MOST);
        batches.iter().map(RecordBatch::num_rows).collect()
    }

    #[test]
    fn what_grows_becomes_more_batches() {
        let alone = |_| false;
        assert_eq!(lengths(100, 10, alone), [100]);
        assert_eq!(lengths(0, 10, alone), [0]);
        // 32 MB of room hold three texts of 10 MB; 9 rows are tried, then 4, then 2.
        assert_eq!(lengths(9, 10 << 20, alone), [2, 2, 2, 2, 1]);
        assert_eq!(lengths(3, 40 << 20, alone), [1, 1, 1]);
        // Two rows that stay together are one part, whatever they need.
        assert_eq!(lengths(4, 20 << 20, |row| row == 1), [1, 2, 1]);
    }

    #[test]
    fn a_panic_over_offsets_is_no_other_failure() {
        let made = in_parts(4, |part| if part.len() > 1 { panic!("offset overflow") } else { Ok(part) });
        assert_eq!(made.unwrap(), [0..1, 1..2, 2..3, 3..4]);
        let e = in_parts::<()>(4, |_| Err(Error::value_overflow(MOST + 1))).unwrap_err();
        assert!(e.to_string().contains("2 GB"), "{e}");
        let e = in_parts::<()>(1, |_| Err(Error::batch_overflow(None))).unwrap_err();
        assert!(e.is_batch_overflow());
    }

    #[test]
    fn a_value_has_two_gigabytes() {
        assert!(check_value(MOST).is_ok());
        assert_eq!(check_value(MOST + 1).unwrap_err().overflow(), Some(crate::error::Overflow::Value));
        let of_two_rows = |taken, bytes| {
            let mut parts = Parts::of(2);
            parts
                .next(|_| false, |part| if part.len() == 2 { check_room(taken, bytes) } else { Ok(()) })
                .unwrap();
            parts.step == 2
        };
        assert!(of_two_rows(0, PART + 1));
        assert!(of_two_rows(5, PART - 5));
        assert!(!of_two_rows(6, PART - 5));
        assert!(check_room(6, PART).is_ok());
    }
}

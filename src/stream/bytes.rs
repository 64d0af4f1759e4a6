//! How many bytes rows have, and batches cut so that none has too many.
//!
//! ```text
//!  8192 rows of 20 bytes  ─► one batch
//!  8192 rows of 1 MB      ─► batches of 8 rows
//! ```
//!
//! A batch is bounded by rows and by bytes: what is on its way takes a few MB wherever it stands, however wide rows are.
//! And no column comes near the 2 GB that 32-bit offsets can count; expressions that make rows wider have room for it.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, SchemaRef};

use crate::error::Result;

/// Bytes per batch that sources, operators and exchanges aim for; a wider row is a batch of its own.
pub const BATCH_BYTES: usize = 8 << 20;

/// Bytes of what columns show: of slices what lies within them.
pub fn bytes_of(columns: &[ArrayRef]) -> usize {
    columns.iter().map(|c| array_bytes(c.as_ref())).sum()
}

/// Bytes of the rows of a batch.
pub fn batch_bytes(batch: &RecordBatch) -> usize {
    bytes_of(batch.columns())
}

/// Bytes of what an array shows.
pub fn array_bytes(array: &dyn Array) -> usize {
    let n = array.len();
    if n == 0 {
        return 0;
    }
    match array.data_type() {
        DataType::Utf8 => span(array.as_string::<i32>().value_offsets()).len() + 4 * n,
        DataType::Binary => span(array.as_binary::<i32>().value_offsets()).len() + 4 * n,
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            elements_bytes(span(list.value_offsets()), list.values()) + 4 * n
        }
        DataType::Map(..) => {
            let map = array.as_map();
            elements_bytes(span(map.value_offsets()), map.entries()) + 4 * n
        }
        DataType::Struct(_) => bytes_of(array.as_struct().columns()),
        other => match fixed_width(other) {
            Some(width) => width * n,
            // No type of SQL is kept so; a good guess is enough.
            None => array.to_data().get_slice_memory_size().unwrap_or(0),
        },
    }
}

/// Bytes of each row of some columns.
pub fn row_bytes(columns: &[ArrayRef], rows: usize) -> Vec<usize> {
    let mut bytes = vec![0; rows];
    columns.iter().for_each(|c| add_row_bytes(c.as_ref(), &mut bytes));
    bytes
}

/// Bytes of the widest of the rows of some columns, or a little more.
pub fn widest_row(columns: &[ArrayRef], rows: usize) -> usize {
    /// Not worth a closer look.
    const NARROW: usize = 1 << 10;
    let all = bytes_of(columns);
    if all <= NARROW { all } else { row_bytes(columns, rows).into_iter().max().unwrap_or(0) }
}

/// Cuts rows of these widths into runs of at most `limit` bytes; a wider row is a run of its own. `joined` tells whether
/// a row stays with the next one.
pub fn cut(widths: &[usize], limit: usize, joined: impl Fn(usize) -> bool) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let (mut start, mut bytes, mut at) = (0, 0_usize, 0);
    while at < widths.len() {
        // Rows that stay together.
        let mut end = at + 1;
        while end < widths.len() && joined(end - 1) {
            end += 1;
        }
        let more: usize = widths[at..end].iter().sum();
        if at > start && bytes.saturating_add(more) > limit {
            runs.push(start..at);
            (start, bytes) = (at, 0);
        }
        bytes = bytes.saturating_add(more);
        at = end;
    }
    if start < widths.len() {
        runs.push(start..widths.len());
    }
    runs
}

/// Cuts a batch into slices of at most `limit` bytes.
pub fn slices(batch: RecordBatch, limit: usize) -> Vec<RecordBatch> {
    let rows = batch.num_rows();
    if rows <= 1 || batch_bytes(&batch) <= limit {
        return vec![batch];
    }
    let widths = row_bytes(batch.columns(), rows);
    cut(&widths, limit, |_| false).into_iter().map(|r| batch.slice(r.start, r.len())).collect()
}

/// Joins neighbours as long as what they make stays below [`BATCH_BYTES`].
///
/// # Errors
/// From Arrow.
pub fn joined(
    schema: &SchemaRef,
    batches: impl IntoIterator<Item = RecordBatch>,
) -> Result<Vec<RecordBatch>> {
    let (mut made, mut run, mut bytes) = (Vec::new(), Vec::new(), 0);
    for batch in batches {
        let more = batch_bytes(&batch);
        if bytes + more > BATCH_BYTES && !run.is_empty() {
            made.push(concat_batches(schema, &std::mem::take(&mut run))?);
            bytes = 0;
        }
        bytes += more;
        run.push(batch);
    }
    if !run.is_empty() {
        made.push(concat_batches(schema, &run)?);
    }
    Ok(made)
}

fn fixed_width(ty: &DataType) -> Option<usize> {
    match ty {
        DataType::Null => Some(0),
        DataType::Boolean => Some(1),
        DataType::FixedSizeBinary(width) => usize::try_from(*width).ok(),
        other => other.primitive_width(),
    }
}

/// What offsets cover.
fn span(offsets: &[i32]) -> Range<usize> {
    let at = |offset: Option<&i32>| offset.map_or(0, |o| usize::try_from(*o).unwrap_or(0));
    at(offsets.first())..at(offsets.last())
}

fn elements_bytes(of: Range<usize>, elements: &dyn Array) -> usize {
    match fixed_width(elements.data_type()) {
        Some(width) => width * of.len(),
        None => array_bytes(elements.slice(of.start, of.len()).as_ref()),
    }
}

fn add_row_bytes(array: &dyn Array, rows: &mut [usize]) {
    match array.data_type() {
        DataType::Utf8 => add_spans(array.as_string::<i32>().value_offsets(), rows),
        DataType::Binary => add_spans(array.as_binary::<i32>().value_offsets(), rows),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            add_elements(list.value_offsets(), list.values(), rows);
        }
        DataType::Map(..) => {
            let map = array.as_map();
            add_elements(map.value_offsets(), map.entries(), rows);
        }
        DataType::Struct(_) => {
            array.as_struct().columns().iter().for_each(|c| add_row_bytes(c.as_ref(), rows))
        }
        other => {
            let width = fixed_width(other).unwrap_or_else(|| array_bytes(array) / rows.len().max(1));
            rows.iter_mut().for_each(|r| *r += width);
        }
    }
}

fn add_spans(offsets: &[i32], rows: &mut [usize]) {
    for (row, ends) in rows.iter_mut().zip(offsets.windows(2)) {
        *row += span(ends).len() + 4;
    }
}

fn add_elements(offsets: &[i32], elements: &dyn Array, rows: &mut [usize]) {
    if let Some(width) = fixed_width(elements.data_type()) {
        for (row, ends) in rows.iter_mut().zip(offsets.windows(2)) {
            *row += span(ends).len() * width + 4;
        }
        return;
    }
    let all = span(offsets);
    let mut bytes = vec![0; all.len()];
    add_row_bytes(elements.slice(all.start, all.len()).as_ref(), &mut bytes);
    for (row, ends) in rows.iter_mut().zip(offsets.windows(2)) {
        let of = span(ends);
        *row += bytes[of.start - all.start..of.end - all.start].iter().sum::<usize>() + 4;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, ListArray, MapBuilder, StringArray, StringBuilder, StructArray};
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::Field;

    use super::*;

    fn columns() -> Vec<ArrayRef> {
        let texts = || -> ArrayRef { Arc::new(StringArray::from(vec!["", "a", "bbbb", "cc"])) };
        let item = Arc::new(Field::new("item", DataType::Utf8, true));
        let lists =
            ListArray::try_new(item, OffsetBuffer::from_lengths([1, 0, 3, 0]), texts(), None).unwrap();
        let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        for n in [0, 2, 0, 1] {
            for k in 0..n {
                maps.keys().append_value(format!("k{k}"));
                maps.values().append_value("v");
            }
            maps.append(true).unwrap();
        }
        let inner = StructArray::from(vec![(Arc::new(Field::new("s", DataType::Utf8, true)), texts())]);
        let numbers = Int64Array::from(vec![1, 2, 3, 4]);
        vec![texts(), Arc::new(lists), Arc::new(maps.finish()), Arc::new(inner), Arc::new(numbers)]
    }

    #[test]
    fn the_bytes_of_rows_add_up_in_every_slice() {
        let columns = columns();
        // 8 of the number, 4 a text, list and map, and 4 a text of theirs.
        assert_eq!(row_bytes(&columns, 4), [28, 24 + 1 + 2 * 11 + 1, 24 + 4 + 19 + 4, 24 + 2 + 11 + 2]);
        for from in 0..4 {
            for n in 0..=4 - from {
                let slices: Vec<ArrayRef> = columns.iter().map(|c| c.slice(from, n)).collect();
                let rows = row_bytes(&slices, n);
                assert_eq!(rows, row_bytes(&columns, 4)[from..from + n]);
                assert_eq!(rows.iter().sum::<usize>(), bytes_of(&slices), "{from} {n}");
                assert!(widest_row(&slices, n) >= rows.into_iter().max().unwrap_or(0));
            }
        }
    }

    #[test]
    fn batches_are_cut_by_bytes() {
        let text = |n: usize| "x".repeat(n);
        let column: ArrayRef =
            Arc::new(StringArray::from(vec![text(6), text(6), text(50), text(0), text(4)]));
        let batch = RecordBatch::try_from_iter([("s", column)]).unwrap();
        let lengths =
            |limit| slices(batch.clone(), limit).iter().map(RecordBatch::num_rows).collect::<Vec<_>>();
        assert_eq!(lengths(1000), [5]);
        assert_eq!(lengths(20), [2, 1, 2]);
        assert_eq!(lengths(0), [1; 5]);
        assert_eq!(cut(&[10, 10, 10, 10], 20, |row| row == 1), [0..1, 1..3, 3..4]);
        assert_eq!(cut(&[10, 10], 5, |_| true).first(), Some(&(0..2)));
        assert!(cut(&[], 5, |_| false).is_empty());
    }
}

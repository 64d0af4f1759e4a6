//! The table that a changelog leaves behind: `--result-mode final`, and what tests compare.
//!
//! ```text
//!  +I +U  adds a row        -U -D  takes one equal row away
//! ```
//!
//! A multiset of encoded rows with their order of arrival. State: one encoded row and a count per distinct row,
//! dropped when its count returns to zero.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, MapArray, RecordBatch, RecordBatchOptions, StructArray,
};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, SchemaRef};
use arrow::row::{RowConverter, SortField};
use hashbrown::HashMap;
use hashbrown::hash_map::EntryRef;

use crate::error::{Error, Result};
use crate::stream::bytes::cut;
use crate::stream::{BATCH_BYTES, ChangeBatch};

/// Rows per batch of the result.
const BATCH: usize = 8192;

#[derive(Debug)]
struct Entry {
    /// Below zero while a retraction waits for its row.
    count: i64,
    /// Order of first arrival.
    arrived: u64,
}

/// The rows that are left.
pub(super) struct Materialized {
    schema: SchemaRef,
    converter: RowConverter,
    /// By encoded row.
    rows: HashMap<Box<[u8]>, Entry>,
    arrivals: u64,
    /// Net number of rows; all there is of a result without columns.
    total: i64,
}

impl Materialized {
    pub(super) fn new(schema: SchemaRef) -> Result<Self> {
        let fields = schema.fields().iter().map(|f| SortField::new(without_maps(f.data_type()))).collect();
        Ok(Materialized {
            converter: RowConverter::new(fields)?,
            schema,
            rows: HashMap::new(),
            arrivals: 0,
            total: 0,
        })
    }

    /// Applies changes.
    pub(super) fn apply(&mut self, batch: &ChangeBatch) -> Result<()> {
        let n = batch.num_rows();
        for i in 0..n {
            self.total += if batch.kind(i).is_retraction() { -1 } else { 1 };
        }
        if self.schema.fields().is_empty() {
            return Ok(());
        }
        let columns: Vec<ArrayRef> = batch.rows.columns().iter().map(maps_to_lists).collect::<Result<_>>()?;
        let rows = self.converter.convert_columns(&columns)?;
        for (i, row) in rows.iter().enumerate() {
            let change = if batch.kind(i).is_retraction() { -1 } else { 1 };
            self.arrivals += 1;
            let arrived = self.arrivals;
            match self.rows.entry_ref(row.as_ref()) {
                EntryRef::Vacant(new) => {
                    new.insert(Entry { count: change, arrived });
                }
                EntryRef::Occupied(mut known) => {
                    known.get_mut().count += change;
                    if known.get().count == 0 {
                        known.remove();
                    }
                }
            }
        }
        Ok(())
    }

    /// The rows in the order they arrived.
    ///
    /// # Errors
    /// Internal if a row was taken away that was never there.
    pub(super) fn finish(self) -> Result<Vec<RecordBatch>> {
        let unmatched = Error::internal("a row was retracted that had not been inserted");
        if self.schema.fields().is_empty() {
            let rows = usize::try_from(self.total).map_err(|_| unmatched)?;
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            return Ok(vec![RecordBatch::try_new_with_options(self.schema, vec![], &options)?]);
        }
        let mut left: Vec<(Box<[u8]>, Entry)> = self.rows.into_iter().collect();
        if left.iter().any(|(_, e)| e.count < 0) {
            return Err(unmatched);
        }
        left.sort_unstable_by_key(|(_, e)| e.arrived);
        let parser = self.converter.parser();
        let rows: Vec<_> = left
            .iter()
            .flat_map(|(row, e)| std::iter::repeat_n(parser.parse(row), e.count as usize))
            .collect();
        let widths: Vec<usize> = rows.iter().map(|r| r.data().len().max(BATCH_BYTES / BATCH)).collect();
        cut(&widths, BATCH_BYTES, |_| false)
            .into_iter()
            .map(|run| {
                let chunk = rows.get(run).unwrap_or_default();
                let columns = self.converter.convert_rows(chunk.iter().copied())?;
                let columns = columns
                    .iter()
                    .zip(self.schema.fields())
                    .map(|(c, f)| lists_to_maps(c, f.data_type()))
                    .collect::<Result<_>>()?;
                Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
            })
            .collect()
    }
}

// Arrow's row encoding knows no maps: they travel as the lists of entries that they are.

fn without_maps(ty: &DataType) -> DataType {
    let below = |f: &FieldRef| -> FieldRef {
        Arc::new(Field::new(f.name(), without_maps(f.data_type()), f.is_nullable()))
    };
    match ty {
        DataType::Map(entries, _) => DataType::List(below(entries)),
        DataType::List(item) => DataType::List(below(item)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(below).collect::<Fields>()),
        other => other.clone(),
    }
}

fn has_map(ty: &DataType) -> bool {
    match ty {
        DataType::Map(..) => true,
        DataType::List(item) => has_map(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|f| has_map(f.data_type())),
        _ => false,
    }
}

fn maps_to_lists(array: &ArrayRef) -> Result<ArrayRef> {
    if !has_map(array.data_type()) {
        return Ok(array.clone());
    }
    Ok(match (array.data_type(), without_maps(array.data_type())) {
        (DataType::Map(..), DataType::List(item)) => {
            let map = array.as_map();
            let entries = maps_to_lists(&(Arc::new(map.entries().clone()) as ArrayRef))?;
            Arc::new(ListArray::try_new(item, map.offsets().clone(), entries, map.nulls().cloned())?)
        }
        (DataType::List(_), DataType::List(item)) => {
            let list = array.as_list::<i32>();
            let values = maps_to_lists(list.values())?;
            Arc::new(ListArray::try_new(item, list.offsets().clone(), values, list.nulls().cloned())?)
        }
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let row = array.as_struct();
            let columns = row.columns().iter().map(maps_to_lists).collect::<Result<_>>()?;
            Arc::new(StructArray::try_new(fields, columns, row.nulls().cloned())?)
        }
        _ => array.clone(),
    })
}

fn lists_to_maps(array: &ArrayRef, ty: &DataType) -> Result<ArrayRef> {
    if !has_map(ty) {
        return Ok(array.clone());
    }
    Ok(match ty {
        DataType::Map(field, sorted) => {
            let list = array.as_list::<i32>();
            let entries = lists_to_maps(list.values(), field.data_type())?;
            let entries = entries.as_struct().clone();
            let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
            Arc::new(MapArray::try_new(field.clone(), offsets, entries, nulls, *sorted)?)
        }
        DataType::List(item) => {
            let list = array.as_list::<i32>();
            let values = lists_to_maps(list.values(), item.data_type())?;
            Arc::new(ListArray::try_new(item.clone(), list.offsets().clone(), values, list.nulls().cloned())?)
        }
        DataType::Struct(fields) => {
            let row = array.as_struct();
            let columns = row
                .columns()
                .iter()
                .zip(fields)
                .map(|(c, f)| lists_to_maps(c, f.data_type()))
                .collect::<Result<_>>()?;
            Arc::new(StructArray::try_new(fields.clone(), columns, row.nulls().cloned())?)
        }
        _ => array.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::RowKinds;
    use arrow::array::{Int32Array, Int32Builder, MapBuilder, StringArray, StringBuilder};
    use arrow::datatypes::Schema;

    fn batch(values: &[Option<i32>], kinds: &[u8]) -> ChangeBatch {
        let rows =
            RecordBatch::try_from_iter([("a", Arc::new(Int32Array::from(values.to_vec())) as ArrayRef)])
                .unwrap();
        ChangeBatch::with_kinds(rows, RowKinds::new(kinds.to_vec()))
    }

    fn left(batches: &[ChangeBatch]) -> Result<Vec<Option<i32>>> {
        let mut table = Materialized::new(batches[0].schema())?;
        for b in batches {
            table.apply(b)?;
        }
        let batches = table.finish()?;
        Ok(batches
            .iter()
            .flat_map(|b| {
                b.column(0).as_primitive::<arrow::datatypes::Int32Type>().iter().collect::<Vec<_>>()
            })
            .collect())
    }

    #[test]
    fn duplicates_are_counted_and_one_is_taken_at_a_time() {
        let inserted = batch(&[Some(1), Some(2), Some(1), None, None], &[0, 0, 0, 0, 0]);
        assert_eq!(left(std::slice::from_ref(&inserted)).unwrap(), [Some(1), Some(1), Some(2), None, None]);
        let taken = batch(&[Some(1), None, None, Some(3)], &[3, 3, 1, 2]);
        assert_eq!(left(&[inserted, taken]).unwrap(), [Some(1), Some(2), Some(3)]);
    }

    #[test]
    fn a_retraction_before_its_row_is_made_good() {
        let early = batch(&[Some(1), Some(1)], &[1, 0]);
        assert_eq!(left(&[early]).unwrap(), []);
        let e = left(&[batch(&[Some(1)], &[3])]).unwrap_err();
        assert!(e.to_string().contains("retracted"), "{e}");
    }

    #[test]
    fn nothing_is_nothing() {
        assert_eq!(left(&[batch(&[], &[])]).unwrap(), []);
        let schema = Arc::new(Schema::empty());
        let options = RecordBatchOptions::new().with_row_count(Some(3));
        let rows = RecordBatch::try_new_with_options(schema.clone(), vec![], &options).unwrap();
        let mut table = Materialized::new(schema).unwrap();
        table.apply(&ChangeBatch::insert_only(rows.clone())).unwrap();
        table.apply(&ChangeBatch::with_kinds(rows.slice(0, 1), RowKinds::new(vec![3]))).unwrap();
        assert_eq!(table.finish().unwrap()[0].num_rows(), 2);
    }

    #[test]
    fn maps_survive() {
        let mut maps = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
        maps.keys().append_value("k");
        maps.values().append_value(1);
        maps.append(true).unwrap();
        maps.append(false).unwrap();
        let rows = RecordBatch::try_from_iter([
            ("m", Arc::new(maps.finish()) as ArrayRef),
            ("s", Arc::new(StringArray::from(vec!["", "x"])) as ArrayRef),
        ])
        .unwrap();
        let mut table = Materialized::new(rows.schema()).unwrap();
        table.apply(&ChangeBatch::insert_only(rows.clone())).unwrap();
        assert_eq!(table.finish().unwrap(), [rows]);
    }
}

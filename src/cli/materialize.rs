//! The table that a changelog leaves behind: `--result-mode final`, and what tests compare.
//!
//! ```text
//!  +I +U  adds a row        -U -D  takes one equal row away
//! ```
//!
//! A multiset of encoded rows with their order of arrival. State: one encoded row and a count per distinct row,
//! dropped when its count returns to zero. What outgrows its room goes to disk in parts by the rows' hashes, and is put
//! together part by part at the end: then rows come in the order of their arrival within each part only.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Int64Array, ListArray, MapArray, RecordBatch, RecordBatchOptions,
    StructArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int64Type, SchemaRef, UInt64Type};
use arrow::row::{RowConverter, SortField};
use hashbrown::HashMap;
use hashbrown::hash_map::EntryRef;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};
use crate::runtime::spilling::file::SpillFile;
use crate::runtime::spilling::store::SpillStore;
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

/// Files that outgrown rows are divided among.
const PARTS: u64 = 128;

/// Bytes of an entry beside its row.
const ENTRY_BYTES: usize = 64;

/// Rows on disk: what came of each row while it was in memory, several times perhaps.
struct Outgrown {
    store: SpillStore,
    /// Bytes that may be in memory.
    room: usize,
    parts: Vec<SpillFile>,
}

/// The rows that are left.
pub(super) struct Materialized {
    schema: SchemaRef,
    converter: RowConverter,
    /// By encoded row.
    rows: HashMap<Box<[u8]>, Entry>,
    /// Bytes of `rows`.
    bytes: usize,
    outgrown: Option<Outgrown>,
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
            bytes: 0,
            outgrown: None,
            arrivals: 0,
            total: 0,
        })
    }

    /// Keeps `room` bytes in memory, and the rest in `folder`.
    pub(super) fn spilling(mut self, room: usize, folder: PathBuf) -> Self {
        self.outgrown = Some(Outgrown { store: SpillStore::new(folder), room, parts: Vec::new() });
        self
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
            add(&mut self.rows, &mut self.bytes, row.as_ref(), change, self.arrivals);
        }
        self.spill_if_over()
    }

    fn spill_if_over(&mut self) -> Result<()> {
        let Some(outgrown) = &mut self.outgrown else { return Ok(()) };
        if self.bytes <= outgrown.room {
            return Ok(());
        }
        let mut parts: Vec<Vec<(Box<[u8]>, Entry)>> = (0..PARTS).map(|_| Vec::new()).collect();
        for (row, entry) in self.rows.drain() {
            if let Some(part) = parts.get_mut((xxh3_64(&row) % PARTS) as usize) {
                part.push((row, entry));
            }
        }
        self.rows = HashMap::new();
        self.bytes = 0;
        while outgrown.parts.len() < parts.len() {
            outgrown.parts.push(SpillFile::new(outgrown.store.new_file()?));
        }
        for (mut part, file) in parts.into_iter().zip(&mut outgrown.parts) {
            part.sort_unstable_by_key(|(_, e)| e.arrived);
            let widths: Vec<usize> = part.iter().map(|(row, _)| row.len() + ENTRY_BYTES).collect();
            for run in cut(&widths, BATCH_BYTES, |_| false) {
                let run = part.get(run).unwrap_or_default();
                let columns: [(&str, ArrayRef); 3] = [
                    ("row", Arc::new(BinaryArray::from_iter_values(run.iter().map(|(row, _)| row)))),
                    ("count", Arc::new(Int64Array::from_iter_values(run.iter().map(|(_, e)| e.count)))),
                    ("arrived", Arc::new(UInt64Array::from_iter_values(run.iter().map(|(_, e)| e.arrived)))),
                ];
                file.append_rows(0, None, &ChangeBatch::insert_only(RecordBatch::try_from_iter(columns)?))?;
            }
        }
        Ok(())
    }

    /// The rows, in the order they arrived.
    ///
    /// # Errors
    /// Internal if a row was taken away that was never there.
    pub(super) fn finish(mut self) -> Result<impl Iterator<Item = Result<RecordBatch>>> {
        let mut first = None;
        if self.schema.fields().is_empty() {
            let rows = usize::try_from(self.total).map_err(|_| unmatched())?;
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            first = Some(RecordBatch::try_new_with_options(self.schema.clone(), vec![], &options)?);
        }
        let mut parts = Vec::new();
        if let Some(outgrown) = &mut self.outgrown
            && !outgrown.parts.is_empty()
        {
            outgrown.room = 0;
            self.spill_if_over()?;
            parts = self.outgrown.as_mut().map(|o| std::mem::take(&mut o.parts)).unwrap_or_default();
        }
        let whole = std::mem::take(&mut self.rows);
        let mut left =
            Left { table: self, parts: parts.into_iter(), rows: Vec::new().into_iter(), row: None };
        left.begin(whole)?;
        Ok(first.map(Ok).into_iter().chain(left))
    }
}

fn unmatched() -> Error {
    Error::internal("a row was retracted that had not been inserted")
}

fn add(rows: &mut HashMap<Box<[u8]>, Entry>, bytes: &mut usize, row: &[u8], change: i64, arrived: u64) {
    match rows.entry_ref(row) {
        EntryRef::Vacant(new) => {
            new.insert(Entry { count: change, arrived });
            *bytes += row.len() + ENTRY_BYTES;
        }
        EntryRef::Occupied(mut known) => {
            known.get_mut().count += change;
            if known.get().count == 0 {
                known.remove();
                *bytes -= row.len() + ENTRY_BYTES;
            }
        }
    }
}

/// Hands out the rows that are left, a batch at a time.
struct Left {
    table: Materialized,
    parts: std::vec::IntoIter<SpillFile>,
    /// Of the part under way.
    rows: std::vec::IntoIter<(Box<[u8]>, Entry)>,
    /// A row of which there are more than one batch takes, and how many are left.
    row: Option<(Box<[u8]>, usize)>,
}

impl Left {
    fn begin(&mut self, rows: HashMap<Box<[u8]>, Entry>) -> Result<()> {
        let mut left: Vec<(Box<[u8]>, Entry)> = rows.into_iter().collect();
        if left.iter().any(|(_, e)| e.count < 0) {
            return Err(unmatched());
        }
        left.sort_unstable_by_key(|(_, e)| e.arrived);
        self.rows = left.into_iter();
        Ok(())
    }

    /// Puts the next part together; `false` if there is none.
    fn next_part(&mut self) -> Result<bool> {
        // A part that no row fell into has no file.
        let Some(file) = self.parts.find(|file| file.bytes > 0) else { return Ok(false) };
        let (mut rows, mut bytes) = (HashMap::new(), 0);
        for (_, _, batch) in file.read_rows()? {
            let [row, count, arrived] = batch.rows.columns() else {
                return Err(Error::internal("rows on disk have other columns"));
            };
            let (row, count) = (row.as_binary::<i32>(), count.as_primitive::<Int64Type>());
            let arrived = arrived.as_primitive::<UInt64Type>();
            for ((row, count), arrived) in row.iter().zip(count.values()).zip(arrived.values()) {
                add(&mut rows, &mut bytes, row.unwrap_or_default(), *count, *arrived);
            }
        }
        self.begin(rows)?;
        Ok(true)
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let mut taken: Vec<(Box<[u8]>, usize)> = Vec::new();
        let (mut count, mut bytes) = (0, 0);
        while count < BATCH && bytes < BATCH_BYTES {
            let under_way = self.row.take().or_else(|| {
                let (row, entry) = self.rows.next()?;
                Some((row, usize::try_from(entry.count).unwrap_or(0)))
            });
            let Some((row, left)) = under_way else {
                if count > 0 || !self.next_part()? {
                    break;
                }
                continue;
            };
            let fit = (BATCH - count).min((BATCH_BYTES - bytes) / row.len().max(1)).max(1);
            let times = left.min(fit);
            if left > times {
                self.row = Some((row.clone(), left - times));
            }
            count += times;
            bytes += times * row.len();
            taken.push((row, times));
        }
        if taken.is_empty() {
            return Ok(None);
        }
        let parser = self.table.converter.parser();
        let rows = taken.iter().flat_map(|(row, times)| std::iter::repeat_n(parser.parse(row), *times));
        let columns = self.table.converter.convert_rows(rows)?;
        let types = self.table.schema.fields().iter();
        let columns = columns.iter().zip(types).map(|(c, f)| lists_to_maps(c, f.data_type()));
        Ok(Some(RecordBatch::try_new(self.table.schema.clone(), columns.collect::<Result<_>>()?)?))
    }
}

impl Iterator for Left {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_batch().transpose()
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

    fn batches(table: Materialized) -> Vec<RecordBatch> {
        table.finish().unwrap().collect::<Result<_>>().unwrap()
    }

    fn left(batches: &[ChangeBatch]) -> Result<Vec<Option<i32>>> {
        left_of(Materialized::new(batches[0].schema())?, batches)
    }

    fn left_of(mut table: Materialized, batches: &[ChangeBatch]) -> Result<Vec<Option<i32>>> {
        for b in batches {
            table.apply(b)?;
        }
        let batches: Vec<RecordBatch> = table.finish()?.collect::<Result<_>>()?;
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
    fn what_outgrows_its_room_is_put_together_again() {
        let folder = tempfile::tempdir().unwrap();
        // Rows that go again, rows that come twice, rows that stay, in batches far from each other.
        let some = |rows: Vec<i32>, kind: u8| {
            let n = rows.len();
            batch(&rows.into_iter().map(|v| (v % 7 != 0).then_some(v)).collect::<Vec<_>>(), &vec![kind; n])
        };
        let changes = [
            some((0..3000).collect(), 0),
            some((1000..2000).collect(), 3),
            some((0..500).collect(), 2),
            some((2000..3000).collect(), 1),
            some((1000..1100).collect(), 0),
            some(vec![8; 20_000], 0),
        ];
        let table = || Materialized::new(changes[0].schema()).unwrap();
        let mut expected = left_of(table(), &changes).unwrap();
        assert_eq!(expected.len(), 3000 - 1000 + 500 - 1000 + 100 + 20_000);
        for room in [0, 10_000, 1 << 30] {
            let mut rows = left_of(table().spilling(room, folder.path().to_owned()), &changes).unwrap();
            if room == 1 << 30 {
                assert_eq!(rows, expected, "in the order of their arrival");
            }
            rows.sort_unstable();
            expected.sort_unstable();
            assert_eq!(rows, expected, "{room} bytes");
        }
        // Most parts are empty.
        let small = || table().spilling(0, folder.path().to_owned());
        let mut few = left_of(small(), &[some(vec![1, 2, 3], 0), some(vec![2], 3)]).unwrap();
        few.sort_unstable();
        assert_eq!(few, [Some(1), Some(3)]);
        let e = left_of(small(), &[some(vec![1], 0), some(vec![2], 3)]).unwrap_err();
        assert!(e.to_string().contains("retracted"), "{e}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
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
        assert_eq!(batches(table)[0].num_rows(), 2);
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
        assert_eq!(batches(table), [rows]);
    }
}

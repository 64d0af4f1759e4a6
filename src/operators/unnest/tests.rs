use std::sync::Arc;

use arrow::array::{Array, AsArray, Int32Array, ListArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use datafusion::physical_expr::expressions::Column;

use super::*;
use crate::operators::harness::format_batch;
use crate::stream::RowKinds;

fn operator(outer: bool, ordinality: bool) -> UnnestOperator {
    let mut fields = vec![Field::new("id", DataType::Int32, true), Field::new("x", DataType::Int32, true)];
    if ordinality {
        fields.push(Field::new("n", DataType::Int32, true));
    }
    UnnestOperator::new(UnnestConfig {
        collection: Arc::new(Column::new("a", 1)),
        passed: vec![0],
        outer,
        ordinality,
        schema: Arc::new(Schema::new(fields)),
    })
}

fn batch(lists: Vec<Option<Vec<Option<i32>>>>) -> RecordBatch {
    let ids = Int32Array::from_iter_values(0..lists.len() as i32);
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(lists);
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int32, false),
        Field::new("a", lists.data_type().clone(), true),
    ]);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(ids), Arc::new(lists)]).unwrap()
}

/// Everything that comes out, as lines, and the sizes of the batches.
fn run(operator: &mut UnnestOperator, batch: ChangeBatch) -> (Vec<String>, Vec<usize>) {
    let mut out = Output::new();
    let mut progress = operator.process(0, batch, &mut out).unwrap();
    let (mut lines, mut sizes) = (Vec::new(), Vec::new());
    loop {
        for batch in out.drain() {
            sizes.push(batch.num_rows());
            lines.extend(format_batch(&batch));
        }
        if progress == Progress::Done {
            return (lines, sizes);
        }
        progress = operator.resume(&mut out).unwrap();
    }
}

#[test]
fn null_and_empty_arrays_give_nothing_or_a_row_of_nulls() {
    let rows = batch(vec![Some(vec![Some(1), None]), None, Some(vec![]), Some(vec![Some(7)])]);
    let (inner, _) = run(&mut operator(false, true), ChangeBatch::insert_only(rows.clone()));
    assert_eq!(inner, ["+I 0 1 1", "+I 0 null 2", "+I 3 7 1"]);
    let (outer, _) = run(&mut operator(true, true), ChangeBatch::insert_only(rows));
    assert_eq!(outer, ["+I 0 1 1", "+I 0 null 2", "+I 1 null null", "+I 2 null null", "+I 3 7 1"]);
}

#[test]
fn slices_begin_where_they_begin() {
    let rows = batch(vec![Some(vec![Some(1), Some(2)]), Some(vec![Some(3)]), None, Some(vec![Some(4)])]);
    let (lines, _) = run(&mut operator(false, false), ChangeBatch::insert_only(rows.slice(1, 3)));
    assert_eq!(lines, ["+I 1 3", "+I 3 4"]);
}

#[test]
fn updates_stay_updates_only_one_to_one() {
    let one = || Some(vec![Some(1)]);
    let rows = batch(vec![one(), one(), one(), Some(vec![Some(1), Some(2)]), None, one(), one()]);
    let kinds = RowKinds::new(vec![1, 2, 1, 2, 1, 2, 3]);
    let (lines, _) = run(&mut operator(false, false), ChangeBatch::with_kinds(rows, kinds));
    assert_eq!(lines, ["-U 0 1", "+U 1 1", "-D 2 1", "+I 3 1", "+I 3 2", "+I 5 1", "-D 6 1"]);
}

#[test]
fn long_arrays_come_in_several_batches_and_pairs_stay_together() {
    let long = Some((0..BATCH_ROWS as i32 - 1).map(Some).collect::<Vec<_>>());
    let one = || Some(vec![Some(1)]);
    let rows = batch(vec![long.clone(), one(), one(), long]);
    let kinds = RowKinds::new(vec![0, 1, 2, 0]);
    let (lines, sizes) = run(&mut operator(false, false), ChangeBatch::with_kinds(rows, kinds));
    assert_eq!(sizes, [BATCH_ROWS + 1, BATCH_ROWS - 1]);
    assert_eq!(lines[BATCH_ROWS - 1..=BATCH_ROWS], ["-U 1 1", "+U 2 1"]);
    assert_eq!(lines.len(), 2 * BATCH_ROWS);
}

fn map(entries: &[(&str, i32)], multiset: bool) -> ArrayRef {
    use arrow::array::{Int32Builder, MapBuilder, MapFieldNames, StringBuilder};
    let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
    let mut b = MapBuilder::new(Some(names), StringBuilder::new(), Int32Builder::new())
        .with_values_field(Field::new("value", DataType::Int32, !multiset));
    for (k, v) in entries {
        b.keys().append_value(k);
        b.values().append_value(*v);
    }
    b.append(true).unwrap();
    Arc::new(b.finish())
}

#[test]
fn maps_give_entries_and_multisets_copies() {
    let entries = map(&[("a", 1), ("b", 2)], false);
    let all = Collections::try_new(&entries, false).unwrap();
    let (part, lengths) = all.all();
    let columns = all.elements(&part, false).unwrap();
    assert_eq!((columns.len(), lengths), (2, vec![2]));
    let copies = map(&[("a", 1), ("b", 2), ("c", 0)], true);
    let all = Collections::try_new(&copies, false).unwrap();
    let (part, lengths) = all.all();
    let columns = all.elements(&part, true).unwrap();
    assert_eq!(columns[0].as_string::<i32>(), &StringArray::from(vec!["a", "b", "b"]));
    assert_eq!(columns[1].as_primitive::<Int32Type>(), &Int32Array::from(vec![1, 2, 3]));
    assert_eq!(lengths, [3]);
}

#[test]
fn only_collections_are_unnested() {
    let e = Shape::of(&DataType::Int32).unwrap_err();
    assert!(e.to_string().contains("Cannot apply 'UNNEST'"), "{e}");
}

#[test]
fn wide_rows_are_copied_a_few_at_a_time() {
    let rows = batch(vec![Some((0..20).map(Some).collect()), Some(vec![]), Some(vec![Some(7)])]);
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..3).map(|_| "x".repeat(1 << 20))));
    let columns = vec![Arc::clone(rows.column(0)), Arc::clone(rows.column(1)), texts];
    let mut fields: Vec<_> = rows.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new("s", DataType::Utf8, true)));
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let mut operator = UnnestOperator::new(UnnestConfig {
        collection: Arc::new(Column::new("a", 1)),
        passed: vec![2],
        outer: false,
        ordinality: false,
        schema: Arc::new(Schema::new(vec![
            Field::new("s", DataType::Utf8, true),
            Field::new("x", DataType::Int32, true),
        ])),
    });
    let (lines, sizes) = run(&mut operator, ChangeBatch::insert_only(rows));
    assert_eq!((lines.len(), sizes), (21, vec![7, 7, 7]));
}

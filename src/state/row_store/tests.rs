use arrow::array::{
    BinaryArray, Decimal128Array, Float64Array, Int16Array, Int64Array, Int64Builder,
    IntervalMonthDayNanoArray, MapBuilder, StringArray, StringBuilder, TimestampMillisecondArray,
    UInt32Array,
};
use arrow::compute::take;
use arrow::datatypes::{Int64Type, IntervalMonthDayNano};

use super::*;

fn columns() -> Vec<ArrayRef> {
    let mut maps = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    maps.keys().append_value("k");
    maps.values().append_value(1);
    maps.append(true).unwrap();
    maps.append(false).unwrap();
    maps.append(true).unwrap();
    maps.append(true).unwrap();
    vec![
        Arc::new(Int64Array::from(vec![Some(1), None, Some(3), Some(4)])),
        Arc::new(StringArray::from(vec![Some("a"), Some(""), None, Some("a longer text")])),
        Arc::new(BooleanArray::from(vec![Some(true), None, Some(false), Some(true)])),
        Arc::new(Int16Array::from(vec![1, 2, 3, 4])),
        Arc::new(Float64Array::from(vec![0.5, -0.0, f64::NAN, 1e300])),
        Arc::new(
            Decimal128Array::from(vec![Some(1), Some(-5), None, Some(i128::MAX / 7)])
                .with_precision_and_scale(38, 2)
                .unwrap(),
        ),
        Arc::new(BinaryArray::from(vec![Some(&b"\x00\x01"[..]), None, Some(b""), Some(b"z")])),
        Arc::new(
            TimestampMillisecondArray::from(vec![Some(0), None, Some(-1), Some(7)]).with_timezone("UTC"),
        ),
        Arc::new(IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(1, 2, 3); 4])),
        Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(vec![
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
            Some(vec![Some(9)]),
        ])),
        Arc::new(maps.finish()),
        Arc::new(NullArray::new(4)),
    ]
}

fn same(a: &[ArrayRef], b: &[ArrayRef]) {
    for (a, b) in a.iter().zip(b) {
        assert_eq!(a.data_type(), b.data_type());
        assert_eq!(a, b, "{}", a.data_type());
    }
}

fn store(columns: &[ArrayRef]) -> RowStore {
    RowStore::new(&columns.iter().map(|c| c.data_type().clone()).collect::<Vec<_>>()).unwrap()
}

#[test]
fn rows_come_out_as_they_went_in() {
    let columns = columns();
    let mut store = store(&columns);
    let source = store.source(&columns).unwrap();
    store.put(&[5, 0, 2, 9], &source, &[0, 1, 2, 3]);
    same(&store.gather(&[5, 0, 2, 9]).unwrap(), &columns);
    let indices = UInt32Array::from(vec![3, 3, 1]);
    let expected: Vec<ArrayRef> = columns.iter().map(|c| take(c, &indices, None).unwrap()).collect();
    same(&store.gather(&[9, 9, 0]).unwrap(), &expected);
    assert_eq!(store.gather(&[]).unwrap()[1].len(), 0);
}

#[test]
fn slices_are_read_from_where_they_start() {
    let columns = columns();
    let mut store = store(&columns);
    let slice: Vec<ArrayRef> = columns.iter().map(|c| c.slice(1, 3)).collect();
    let source = store.source(&slice).unwrap();
    store.put(&[0, 1, 2], &source, &[0, 1, 2]);
    same(&store.gather(&[0, 1, 2]).unwrap(), &slice);
    let empty: Vec<ArrayRef> = columns.iter().map(|c| c.slice(0, 0)).collect();
    store.put(&[], &store.source(&empty).unwrap(), &[]);
}

#[test]
fn equality_sees_every_column() {
    let columns = columns();
    let mut store = store(&columns);
    let source = store.source(&columns).unwrap();
    store.put(&[0, 1, 2, 3], &source, &[0, 1, 2, 3]);
    for row in 0..4 {
        for id in 0..4 {
            assert_eq!(store.is_equal(&source, row, id), row as u32 == id, "{row} {id}");
        }
    }
    // All values of column 8 are equal.
    for changed in (0..columns.len() - 1).filter(|c| *c != 8) {
        let mut others = columns.clone();
        others[changed] = take(&columns[changed], &UInt32Array::from(vec![3, 0, 1, 2]), None).unwrap();
        let source = store.source(&others).unwrap();
        let equal = (0..4).filter(|i| store.is_equal(&source, *i, *i as u32)).count();
        assert!(equal < 4 && (equal == 0 || changed > 1), "column {changed}: {equal}");
    }
}

#[test]
fn overwritten_and_freed_bytes_are_packed() {
    let text: ArrayRef = Arc::new(StringArray::from_iter_values((0..100).map(|i| format!("{i:0>1000}"))));
    let mut store = RowStore::new(&[DataType::Utf8]).unwrap();
    let source = store.source(std::slice::from_ref(&text)).unwrap();
    let all: Vec<u32> = (0..100).collect();
    for _ in 0..50 {
        store.put(&all, &source, &all);
    }
    store.free(&all[..90]);
    assert!(store.size() < 1_000_000, "{}", store.size());
    same(&store.gather(&all[90..]).unwrap(), &[text.slice(90, 10)]);
}

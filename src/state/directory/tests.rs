use arrow::array::{
    BinaryArray, BooleanArray, Int32Array, Int64Array, StringArray, TimestampMillisecondArray,
};

use super::*;
use crate::state::key::key_groups;

fn intern(d: &mut GroupDirectory, columns: &[ArrayRef]) -> Vec<u32> {
    let mut slots = Vec::new();
    d.intern(columns, columns[0].len(), &mut slots).unwrap();
    slots
}

fn lookup(d: &mut GroupDirectory, columns: &[ArrayRef]) -> Vec<u32> {
    let mut slots = Vec::new();
    d.lookup(columns, columns[0].len(), &mut slots).unwrap();
    slots
}

/// Interns, reads back, looks up, removes and reuses; `columns` hold five rows: a, b, NULL, a, NULL.
fn check(columns: Vec<ArrayRef>) {
    let types: Vec<DataType> = columns.iter().map(|c| c.data_type().clone()).collect();
    let mut d = GroupDirectory::new(&types).unwrap();
    assert_eq!(lookup(&mut d, &columns), vec![NO_SLOT; 5]);
    assert!(d.is_empty());
    assert_eq!(intern(&mut d, &columns), vec![0, 1, 2, 0, 2]);
    assert_eq!(lookup(&mut d, &columns), vec![0, 1, 2, 0, 2]);
    assert_eq!((d.len(), d.capacity(), d.slots()), (3, 3, vec![0, 1, 2]));
    let back = d.keys(&[2, 1, 0]).unwrap();
    for (b, c) in back.iter().zip(&columns) {
        let reversed = arrow::compute::take(c, &Int32Array::from(vec![2, 1, 0]), None).unwrap();
        assert_eq!(b, &reversed);
    }
    assert_eq!(d.key_groups(&[0, 1, 2]), key_groups(&columns, 5).unwrap().slice(0, 3));
    d.remove(&[2, 0]);
    assert_eq!((d.len(), d.slots()), (1, vec![1]));
    assert_eq!(lookup(&mut d, &columns), vec![NO_SLOT, 1, NO_SLOT, NO_SLOT, NO_SLOT]);
    assert_eq!(intern(&mut d, &columns), vec![0, 1, 2, 0, 2]);
    d.remove(&[0, 1, 2]);
    assert!(d.is_empty() && d.slots().is_empty());
    d.clear();
    assert_eq!(intern(&mut d, &columns), vec![0, 1, 2, 0, 2]);
}

fn ints() -> ArrayRef {
    Arc::new(Int64Array::from(vec![Some(0), Some(-5), None, Some(0), None]))
}

fn strings() -> ArrayRef {
    Arc::new(StringArray::from(vec![Some(""), Some("β"), None, Some(""), None]))
}

#[test]
fn one_column() {
    check(vec![ints()]);
    check(vec![strings()]);
    check(vec![Arc::new(BinaryArray::from_opt_vec(vec![
        Some(b"\0".as_slice()),
        Some(b""),
        None,
        Some(b"\0"),
        None,
    ]))]);
    check(vec![Arc::new(BooleanArray::from(vec![Some(false), Some(true), None, Some(false), None]))]);
    check(vec![Arc::new(
        TimestampMillisecondArray::from(vec![Some(-1), Some(1), None, Some(-1), None]).with_timezone("UTC"),
    )]);
    check(vec![Arc::new(Float64Array::from(vec![Some(0.0), Some(f64::NAN), None, Some(0.0), None]))]);
}

#[test]
fn several_columns() {
    check(vec![ints(), strings()]);
    let decimals = arrow::array::Decimal128Array::from(vec![Some(1), Some(-1), None, Some(1), None]);
    check(vec![Arc::new(decimals)]);
    check(vec![strings(), ints(), strings()]);
}

#[test]
fn floats_that_are_equal_share_a_slot() {
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN]));
    let mut one = GroupDirectory::new(&[DataType::Float64]).unwrap();
    assert_eq!(intern(&mut one, std::slice::from_ref(&floats)), vec![0, 0, 1, 1]);
    let mut two = GroupDirectory::new(&[DataType::Float64, DataType::Float64]).unwrap();
    assert_eq!(intern(&mut two, &[floats.clone(), floats]), vec![0, 0, 1, 1]);
}

#[test]
fn no_columns_is_one_group() {
    let mut d = GroupDirectory::new(&[]).unwrap();
    let mut slots = Vec::new();
    d.lookup(&[], 1, &mut slots).unwrap();
    assert_eq!(slots, vec![NO_SLOT]);
    d.intern(&[], 0, &mut slots).unwrap();
    assert!(d.is_empty());
    d.intern(&[], 3, &mut slots).unwrap();
    assert_eq!(slots, vec![0, 0, 0]);
    assert!(d.keys(&[0]).unwrap().is_empty());
    assert_eq!(d.key_groups(&[0]).values().to_vec(), vec![0]);
    d.remove(&[0]);
    assert!(d.is_empty() && d.slots().is_empty());
    d.intern(&[], 1, &mut slots).unwrap();
    assert_eq!((slots, d.len()), (vec![0], 1));
}

#[test]
fn arena_is_packed() {
    let mut d = GroupDirectory::new(&[DataType::Utf8]).unwrap();
    let batch = |from: usize| -> ArrayRef {
        Arc::new(StringArray::from_iter_values((from..from + 1000).map(|i| format!("{i:0100}"))))
    };
    let keep = intern(&mut d, &[batch(0)]);
    for round in 1..20 {
        let slots = intern(&mut d, &[batch(round * 1000)]);
        d.remove(&slots);
    }
    assert_eq!(d.len(), 1000);
    assert!(d.size() < 1_500_000, "{}", d.size());
    assert_eq!(lookup(&mut d, &[batch(0)]), keep);
    assert_eq!(&d.keys(&keep).unwrap()[0], &batch(0));
}

#[test]
fn maps_are_refused() {
    let ty = crate::types::LogicalType {
        root: crate::types::TypeRoot::Map(
            Box::new(crate::types::LogicalType::not_null(crate::types::TypeRoot::Int)),
            Box::new(crate::types::LogicalType::not_null(crate::types::TypeRoot::Int)),
        ),
        nullable: true,
    };
    assert!(GroupDirectory::new(&[ty.to_arrow()]).unwrap_err().message().contains("cannot be keys"));
}

use arrow::array::StringArray;

use super::*;

fn ints(values: &[Option<i64>]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn strings(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn counts(set: &DistinctSet, filter: usize, slots: &[u32]) -> Vec<i64> {
    let array = set.evaluate(filter, slots);
    array.as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec()
}

#[test]
fn filters_share_a_table() {
    let mut set = DistinctSet::new(vec![DataType::Int64], 2, false, false).unwrap();
    set.resize(2);
    let filter = BooleanArray::from(vec![false, true, true, true]);
    let values = ints(&[Some(7), Some(7), None, Some(8)]);
    set.update(&[0, 0, 0, 1], None, std::slice::from_ref(&values), &[None, Some(&filter)]).unwrap();
    assert_eq!(counts(&set, 0, &[0, 1]), vec![1, 1]);
    assert_eq!(counts(&set, 1, &[0, 1]), vec![1, 1]);
    set.update(&[0, 1, 1, 1], None, &[values], &[None, Some(&filter)]).unwrap();
    assert_eq!(counts(&set, 0, &[0, 1]), vec![1, 2]);
    assert_eq!(set.len(), 3);
}

#[test]
fn values_come_and_go() {
    for columns in [
        vec![strings(&[Some("a"), Some("b"), Some("a")])],
        vec![ints(&[Some(1), Some(2), Some(1)]), strings(&[Some("x"), Some("x"), Some("x")])],
    ] {
        let types = columns.iter().map(|c| c.data_type().clone()).collect();
        let mut set = DistinctSet::new(types, 1, true, false).unwrap();
        set.want_transitions(0);
        set.resize(1);
        let t = set.update(&[0, 0, 0], None, &columns, &[None]).unwrap();
        assert_eq!((t[0].rows.clone(), t[0].signs.clone()), (vec![0, 1], vec![1, 1]));
        assert_eq!(counts(&set, 0, &[0]), vec![2]);
        let t = set.update(&[0, 0, 0], Some(&[-1, -1, -1]), &columns, &[None]).unwrap();
        assert_eq!((t[0].rows.clone(), t[0].signs.clone()), (vec![1, 2], vec![-1, -1]));
        assert_eq!((set.len(), counts(&set, 0, &[0])), (0, vec![0]));
        assert!(set.dictionary.as_ref().unwrap().values.is_empty());
        // Gone and back within one batch.
        set.update(&[0, 0, 0], Some(&[1, 1, 1]), &columns, &[None]).unwrap();
        let both = [columns.iter().map(|c| c.slice(1, 1)).collect::<Vec<_>>()].concat();
        set.update(&[0], Some(&[-1]), &both, &[None]).unwrap();
        assert_eq!((set.len(), counts(&set, 0, &[0])), (1, vec![1]));
    }
}

#[test]
fn dictionary_survives_release_and_reuse_in_one_batch() {
    let mut set = DistinctSet::new(vec![DataType::Utf8], 1, true, false).unwrap();
    set.resize(2);
    let a = strings(&[Some("a"), Some("a"), Some("a"), Some("b")]);
    set.update(&[0, 0, 1, 1], Some(&[1, -1, 1, 1]), &[a], &[None]).unwrap();
    assert_eq!(counts(&set, 0, &[0, 1]), vec![0, 2]);
    let entries = set.write_entries().unwrap().remove(0);
    assert_eq!(entries.slots, vec![1, 1]);
    set.clear(&[1]);
    assert_eq!((set.len(), counts(&set, 0, &[0, 1])), (0, vec![0, 0]));
    assert!(set.dictionary.as_ref().unwrap().values.is_empty());
    set.read_entries(&entries).unwrap();
    assert_eq!(counts(&set, 0, &[0, 1]), vec![0, 2]);
}

#[test]
fn taken_back_before_it_came() {
    let mut set = DistinctSet::new(vec![DataType::Int64], 1, true, false).unwrap();
    set.resize(1);
    set.update(&[0], Some(&[-1]), &[ints(&[Some(1)])], &[None]).unwrap();
    assert_eq!(counts(&set, 0, &[0]), vec![0]);
    set.update(&[0], Some(&[1]), &[ints(&[Some(1)])], &[None]).unwrap();
    assert_eq!((set.len(), counts(&set, 0, &[0])), (0, vec![0]));
}

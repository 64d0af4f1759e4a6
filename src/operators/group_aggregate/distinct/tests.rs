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

/// The same with and without lists: random values that come, go, and come back, slots that are cleared one by one.
#[test]
fn values_by_slot_are_those_of_the_table() {
    for strings_too in [false, true] {
        let types = if strings_too { vec![DataType::Utf8] } else { vec![DataType::Int64] };
        let column = |value: i64| -> ArrayRef {
            if strings_too { strings(&[Some(&format!("v{value}"))]) } else { ints(&[Some(value)]) }
        };
        let mut listed = DistinctSet::new(types.clone(), 1, true, false).unwrap();
        listed.list_by_slot();
        let mut plain = DistinctSet::new(types, 1, true, false).unwrap();
        for set in [&mut listed, &mut plain] {
            set.resize(50);
        }
        let mut state = 7_u64;
        let mut roll = |sides: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % sides
        };
        let mut there: Vec<(u32, i64)> = Vec::new();
        for step in 0..20_000 {
            match roll(100) {
                0 => {
                    let slots = [roll(50) as u32, roll(50) as u32];
                    for set in [&mut listed, &mut plain] {
                        set.clear(&slots);
                    }
                    there.retain(|(slot, _)| !slots.contains(slot));
                }
                1..50 if !there.is_empty() => {
                    let (slot, value) = there.swap_remove(roll(there.len() as u64) as usize);
                    for set in [&mut listed, &mut plain] {
                        set.update(&[slot], Some(&[-1]), &[column(value)], &[None]).unwrap();
                    }
                }
                _ => {
                    let (slot, value) = (roll(50) as u32, roll(30) as i64);
                    there.push((slot, value));
                    for set in [&mut listed, &mut plain] {
                        set.update(&[slot], Some(&[1]), &[column(value)], &[None]).unwrap();
                    }
                }
            }
            if step % 500 == 0 {
                let all: Vec<u32> = (0..50).collect();
                assert_eq!(counts(&listed, 0, &all), counts(&plain, 0, &all));
                let written = |set: &DistinctSet| {
                    let mut rows: Vec<String> = Vec::new();
                    for Entries { slots, columns } in set.write_entries_of(&[7, 49, 3]).unwrap() {
                        let show =
                            |c: &ArrayRef, row| arrow::util::display::array_value_to_string(c, row).unwrap();
                        let row = |row: usize| {
                            format!("{} {} {}", slots[row], show(&columns[0], row), show(&columns[1], row))
                        };
                        rows.extend((0..slots.len()).map(row));
                    }
                    rows.sort();
                    rows
                };
                assert_eq!(written(&listed), written(&plain));
                let lists = listed.by_slot.as_ref().unwrap();
                assert!(lists.size() < 50 * 24 + 8 * (4 * listed.len() + 50 * 40), "{}", lists.size());
            }
        }
    }
}

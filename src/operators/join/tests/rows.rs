//! The row store, and what a join holds.

use arrow::array::{AsArray, Int64Array, StringArray};
use arrow::datatypes::Int64Type;

use super::*;
use crate::operators::join::rows::RowStore;

fn columns(values: std::ops::Range<i64>) -> Vec<ArrayRef> {
    let texts: StringArray = values.clone().map(|v| Some(format!("text {v}"))).collect();
    vec![Arc::new(values.collect::<Int64Array>()), Arc::new(texts)]
}

#[test]
fn rows_stay_found_while_they_move() {
    let mut store = RowStore::new(vec![DataType::Int64, DataType::Utf8]);
    let mut value_of: Vec<Option<i64>> = Vec::new();
    let mut value = 0_i64;
    for step in 0..400_i64 {
        let n = [1, 7, 3, 600, 9000][(step % 5) as usize * usize::from(step % 50 < 5)] + step % 3;
        for row in 0..n {
            let id = store.add(row as u32).unwrap() as usize;
            value_of.resize(value_of.len().max(id + 1), None);
            assert_eq!(value_of[id], None);
            value_of[id] = Some(value + row);
        }
        store.append_pending(&columns(value..value + n), n as usize).unwrap();
        value += n;
        for (id, value) in value_of.iter_mut().enumerate() {
            if value.is_some_and(|v| (v * 7919 + step) % 11 < 2) {
                store.remove(id as u32);
                *value = None;
            }
        }
        store.maintain().unwrap();
    }
    let live: Vec<u32> = (0..value_of.len() as u32).filter(|id| value_of[*id as usize].is_some()).collect();
    assert_eq!(store.len(), live.len());
    let found = store.gather(&[1, 0], &live).unwrap();
    for (i, id) in live.iter().enumerate() {
        let value = value_of[*id as usize].unwrap();
        assert_eq!(found[1].as_primitive::<Int64Type>().value(i), value);
        assert_eq!(found[0].as_string::<i32>().value(i), format!("text {value}"));
    }
    let nulls = store.gather(&[0], &[live[0], NO_ROW]).unwrap();
    assert_eq!((nulls[0].is_null(0), nulls[0].is_null(1)), (false, true));
}

#[test]
fn memory_follows_live_rows() {
    let mut config = config(JoinKind::Inner);
    config.left.unique = UniqueKey::None;
    let mut joins = Joins::new(config);
    let row = |kind: &str, i: usize| format!("L {kind} {} {i}", i % 1000);
    let script = |kind: &str, rows: std::ops::Range<usize>| -> String {
        rows.map(|i| row(kind, i)).collect::<Vec<_>>().join("\n")
    };
    let empty = joins.bytes();
    joins.run(&script("+I", 0..20_000));
    let full = joins.bytes();
    joins.run(&script("-D", 0..19_900));
    assert_eq!(joins.entries(), 100);
    let rest = joins.bytes();
    assert!(full > empty + 20_000 * 16, "{empty} {full}");
    assert!(rest < full * 2 / 3, "{full} {rest}");
    joins.run(&script("-D", 19_900..20_000));
    assert_eq!(joins.entries(), 0);
    assert_eq!(joins.subtasks[0].directory.len(), 0);
}

#[test]
fn the_counted_side_holds_keys_only() {
    let mut joins = Joins::new(config(JoinKind::LeftSemi));
    joins.run("R +I 1 1\nR +I 1 2\nR +I 2 1\nL +I 5 5");
    assert_eq!(joins.entries(), 3);
    assert!(joins.subtasks[0].stored[1].is_empty());
}

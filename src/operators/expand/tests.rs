use arrow::datatypes::{Field, Schema};

use super::*;
use crate::operators::harness::{OperatorHarness, check};

fn harness(sets: Vec<(&[bool], u64)>, row_by_row: bool) -> OperatorHarness {
    let input = Arc::new(Schema::new(vec![
        Field::new("k", DataType::Utf8, true),
        Field::new("x", DataType::Int64, true),
    ]));
    let mut fields: Vec<Field> = input.fields().iter().map(|f| f.as_ref().clone()).collect();
    fields.extend([Field::new("k2", DataType::Utf8, true), Field::new("$e", DataType::UInt8, false)]);
    let config = ExpandConfig {
        keys: vec![0],
        sets: sets.into_iter().map(|(kept, id)| ExpandSet { kept: kept.to_vec(), id }).collect(),
        schema: Arc::new(Schema::new(fields)),
        row_by_row,
    };
    OperatorHarness::new(input, &[], move |_| Ok(Box::new(ExpandOperator::new(config.clone())?)))
}

#[test]
fn a_copy_per_set() {
    let mut h = harness(vec![(&[true], 0), (&[false], 1)], false);
    check(
        &mut h,
        "+I a 1
         +I null 2",
        "+I a 1 a 0
         +I null 2 null 0
         +I a 1 null 1
         +I null 2 null 1",
    );
}

#[test]
fn updates_stay_pairs() {
    let mut h = harness(vec![(&[true], 0), (&[false], 1)], false);
    check(
        &mut h,
        "-U a 1
         +U a 2",
        "-U a 1 a 0
         +U a 2 a 0
         -U a 1 null 1
         +U a 2 null 1",
    );
}

#[test]
fn row_by_row_in_order_of_rows() {
    let mut h = harness(vec![(&[true], 0), (&[false], 1)], true);
    check(
        &mut h,
        "-U a 1
         +U a 2",
        "-D a 1 a 0
         -D a 1 null 1
         +I a 2 a 0
         +I a 2 null 1",
    );
}

#[test]
fn many_sets_come_in_several_goes() {
    for row_by_row in [false, true] {
        let sets: Vec<(&[bool], u64)> = (0..40_u64).map(|i| (&[true][..], i)).collect();
        let mut h = harness(sets, row_by_row);
        let script: Vec<String> = (0..3000).map(|i| format!("+I a {i}")).collect();
        let out = h.run(&script.join("\n"));
        assert_eq!(out.lines().count(), 3000 * 40);
    }
}

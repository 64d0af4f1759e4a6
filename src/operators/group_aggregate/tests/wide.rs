//! Results of 1 MB.

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};

use super::*;
use crate::runtime::operator::{Operator, Output};
use crate::stream::bytes::batch_bytes;
use crate::stream::key_group::KeyGroupRange;
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};
use crate::stream::{BATCH_BYTES, ChangeBatch};

/// A row for each of `groups` groups.
fn batch(groups: usize, text: &str) -> ChangeBatch {
    let schema = schema(&[("k", DataType::Utf8), ("v", DataType::Utf8)]);
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values((0..groups).map(|i| format!("g{i}"))));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..groups).map(|_| text)));
    ChangeBatch::insert_only(RecordBatch::try_new(schema, vec![keys, texts]).unwrap())
}

/// Kinds and lengths of the results, in order, in batches none of which is large.
fn run(operator: &mut dyn Operator, batch: ChangeBatch) -> Vec<(u8, usize)> {
    let mut out = Output::new();
    let _ = operator.process(0, batch, &mut out).unwrap();
    let mut changes = Vec::new();
    for batch in out.take() {
        assert!(batch_bytes(&batch.rows) <= BATCH_BYTES + (2 << 20));
        let texts = batch.rows.column(1).as_string::<i32>().clone();
        changes.extend((0..batch.num_rows()).map(|i| (batch.kind(i) as u8, texts.value(i).len())));
    }
    changes
}

#[test]
fn large_results_are_compared_and_sent_a_few_at_a_time() {
    let s = schema(&[("k", DataType::Utf8), ("v", DataType::Utf8)]);
    let max = || on(&s, f::min_max::max_udaf(), "v");
    let c = config(&s, &["k"], vec![max()]);
    let mut operator = GroupAggregateOperator::new(c.clone(), KeyGroupRange::ALL).unwrap();
    let wide = "m".repeat(1 << 20);
    assert_eq!(run(&mut operator, batch(40, &wide)), vec![(0, 1 << 20); 40]);
    // Narrow rows that leave wide results as they are, and others that replace them.
    assert_eq!(run(&mut operator, batch(40, "a")), vec![]);
    let mut writer = SnapshotWriter::new();
    operator.snapshot(&mut writer).unwrap();
    let state = writer.finish();
    assert!(state["groups"].iter().all(|p| batch_bytes(&p.rows) <= BATCH_BYTES), "{}", state["groups"].len());
    let mut restored = GroupAggregateOperator::new(c, KeyGroupRange::ALL).unwrap();
    restored.restore(&SnapshotReader::new(state, KeyGroupRange::ALL)).unwrap();
    let changes = run(&mut restored, batch(40, "z"));
    assert_eq!(changes.len(), 80);
    assert!(changes.chunks(2).all(|pair| pair == [(1, 1 << 20), (2, 1)]));
}

#[test]
fn large_values_with_counts_are_written_in_parts() {
    let s = schema(&[("k", DataType::Utf8), ("v", DataType::Utf8)]);
    let mut c = config(&s, &["k"], vec![on(&s, f::min_max::max_udaf(), "v")]);
    c.input_retracts = true;
    let mut operator = GroupAggregateOperator::new(c.clone(), KeyGroupRange::ALL).unwrap();
    let wide = |letter: &str| letter.repeat(1 << 20);
    run(&mut operator, batch(20, &wide("a")));
    run(&mut operator, batch(20, &wide("b")));
    let mut writer = SnapshotWriter::new();
    operator.snapshot(&mut writer).unwrap();
    let state = writer.finish();
    assert!(state.values().flatten().all(|p| batch_bytes(&p.rows) <= BATCH_BYTES + 4096));
    let rows = |table: &str| state[table].iter().map(|p| p.rows.num_rows()).sum::<usize>();
    assert_eq!((rows("groups"), rows("state_0")), (20, 40));
    let mut restored = GroupAggregateOperator::new(c, KeyGroupRange::ALL).unwrap();
    restored.restore(&SnapshotReader::new(state, KeyGroupRange::ALL)).unwrap();
    let mut back = batch(20, &wide("b"));
    back.kinds = Some(crate::stream::RowKinds::new(vec![3; 20]));
    let changes = run(&mut restored, back);
    assert_eq!(changes, [(1, 1 << 20), (2, 1 << 20)].repeat(20));
}

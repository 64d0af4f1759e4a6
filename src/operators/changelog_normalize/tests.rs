use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};

use super::*;
use crate::operators::harness::{OperatorHarness, check, materialize};

fn config() -> ChangelogNormalizeConfig {
    let schema = Arc::new(Schema::new(vec![
        Field::new("n", DataType::Utf8, true),
        Field::new("k", DataType::Int64, true),
        Field::new("v", DataType::Float64, true),
    ]));
    ChangelogNormalizeConfig {
        schema,
        keys: vec![1],
        emit_update_before: true,
        bundle_rows: None,
        ttl_ms: None,
    }
}

fn harness(config: ChangelogNormalizeConfig) -> OperatorHarness {
    OperatorHarness::new(config.schema.clone(), &config.keys.clone(), move |_| {
        Ok(Box::new(ChangelogNormalizeOperator::new(config.clone())?))
    })
}

const SCRIPT: &str = "+I a 1 0.5
    +U b 2 1
    +U a 1 0.5
    -D null 3 null
    +U a2 1 0.5
    | 1 x3
    +U a2 1 0.5
    +U b 2 null
    -D null 1 null
    -D null 1 null
    +I c 1 7";

#[test]
fn row_by_row_as_flink() {
    let mut c = config();
    c.bundle_rows = Some(1);
    check(
        &mut harness(c),
        SCRIPT,
        "+I a 1 0.5
         +I b 2 1.0
         -U a 1 0.5
         +U a2 1 0.5
         | 1 x3
         -U b 2 1.0
         +U b 2 null
         -D a2 1 0.5
         +I c 1 7.0",
    );
}

#[test]
fn a_bundle_folds() {
    let mut c = config();
    c.emit_update_before = false;
    let mut h = harness(c);
    check(
        &mut h,
        SCRIPT,
        "+I a2 1 0.5
         +I b 2 1.0
         | 1 x3
         +U c 1 7.0
         +U b 2 null",
    );
    h.run("-D null 1 null\n-D null 2 null");
    assert_eq!(h.metrics().state_entries, 0);
}

#[test]
fn a_ttl_is_renewed_by_updates_that_change_nothing() {
    let mut c = config();
    c.ttl_ms = Some(10_000);
    let mut h = harness(c);
    check(
        &mut h,
        "@ 12:00:00
         +I a 1 1
         +I b 2 2
         @ 12:00:08
         +U a 1 1
         | 1 x2
         @ 12:00:12
         +U a 1 2
         +U b 2 3",
        "+I a 1 1.0
         +I b 2 2.0
         -U a 1 1.0
         +U a 1 1.0
         | 1 x2
         -U a 1 1.0
         +U a 1 2.0
         +I b 2 3.0",
    );
}

#[test]
fn random_upserts() {
    let mut dice = 3_u64;
    let mut roll = move |sides: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % sides
    };
    for case in 0..30 {
        let mut c = config();
        c.bundle_rows = [None, Some(1), Some(4)][case % 3];
        let mut model: BTreeMap<u64, String> = BTreeMap::new();
        let mut script = String::new();
        for step in 0..150 {
            let (k, n) = (roll(8), roll(3));
            if roll(4) == 0 {
                script += &format!("-D null {k} null\n");
                model.remove(&k);
            } else {
                let text = "x".repeat(n as usize * 7 + 1);
                script += &format!("+U {text} {k} {n}\n");
                model.insert(k, format!("{text} {k} {n}.0"));
            }
            if roll(7) == 0 {
                script += "\n";
            }
            if roll(30) == 0 {
                script += &format!("| {step} x{}\n", 1 + roll(4));
            }
        }
        let mut expected: Vec<String> = model.into_values().collect();
        expected.sort();
        assert_eq!(materialize(&harness(c).run(&script)), expected, "{script}");
    }
}

#[test]
fn wide_old_rows_go_out_a_few_at_a_time() {
    use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};

    use crate::stream::bytes::batch_bytes;
    use crate::stream::{BATCH_BYTES, RowKinds};

    let mut operator = ChangelogNormalizeOperator::new(config()).unwrap();
    let mut run = |bytes: usize, kind: RowKind| {
        let text = "x".repeat(bytes);
        let names: ArrayRef = Arc::new(StringArray::from_iter_values((0..20).map(|_| &text)));
        let numbers: ArrayRef = Arc::new(Float64Array::from(vec![1.0; 20]));
        let columns = vec![names, Arc::new(Int64Array::from_iter_values(0..20)) as ArrayRef, numbers];
        let rows = RecordBatch::try_new(config().schema, columns).unwrap();
        let batch = ChangeBatch { rows, kinds: Some(RowKinds::new(vec![kind as u8; 20])) };
        let mut out = Output::new();
        let _ = operator.process(0, batch, &mut out).unwrap();
        let batches = out.take();
        assert!(batches.iter().all(|b| batch_bytes(&b.rows) <= BATCH_BYTES));
        let kinds = batches.iter().flat_map(|b| (0..b.num_rows()).map(|i| b.kind(i)).collect::<Vec<_>>());
        (batches.len(), kinds.collect::<Vec<_>>())
    };
    run(1 << 20, RowKind::Insert);
    let pair = [RowKind::UpdateBefore, RowKind::UpdateAfter];
    assert_eq!(run(1, RowKind::UpdateAfter), (3, pair.repeat(20)));
    run(1 << 20, RowKind::UpdateAfter);
    assert_eq!(run(0, RowKind::Delete), (3, vec![RowKind::Delete; 20]));
}

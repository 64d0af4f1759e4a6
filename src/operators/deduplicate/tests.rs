use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{Field, Schema};

use super::*;
use crate::operators::harness::{OperatorHarness, check, failure, materialize};

/// `k`, `n`, `t`.
fn config(descending: bool) -> DeduplicateConfig {
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("k", DataType::Utf8, true),
        Field::new("n", DataType::Utf8, true),
        Field::new("t", DataType::Timestamp(TimeUnit::Millisecond, None), true),
    ]));
    DeduplicateConfig {
        input_schema: schema.clone(),
        output_schema: schema,
        output: (0..3).map(RankOutput::Column).collect(),
        partition: vec![0],
        order: vec![SortColumn { column: 2, options: SortOptions { descending, nulls_first: !descending } }],
        keep_latest: descending,
        wait_for_watermark: !descending,
        emit_update_before: true,
        bundle_rows: None,
        ttl_ms: None,
    }
}

fn harness(config: DeduplicateConfig) -> OperatorHarness {
    OperatorHarness::new(config.input_schema.clone(), &[0], move |_| {
        Ok(Box::new(DeduplicateOperator::new(config.clone())?))
    })
}

const ROWS: &str = "+I 1 a 00:00:05
    +I 1 b 00:00:03
    +I 2 x 00:00:03
    +I 1 c 00:00:05
    +I 3 q 00:00:07
    +I 1 d 00:00:06
    +I 2 y 00:00:01
    +I 3 r 00:00:07
    +I null n 00:00:08
    +I null m 00:00:09";

#[test]
fn last_row_row_by_row_as_flink() {
    let mut c = config(true);
    c.bundle_rows = Some(1);
    let expected = "+I 1 a 00:00:05
        +I 2 x 00:00:03
        -U 1 a 00:00:05
        +U 1 c 00:00:05
        +I 3 q 00:00:07
        -U 1 c 00:00:05
        +U 1 d 00:00:06
        -U 3 q 00:00:07
        +U 3 r 00:00:07
        +I null n 00:00:08
        -U null n 00:00:08
        +U null m 00:00:09";
    check(&mut harness(c.clone()), ROWS, expected);
    // Over other columns the first of equal rows stays.
    c.keep_latest = false;
    let out = harness(c).run(ROWS);
    assert!(!out.contains(" c ") && !out.contains(" r "), "{out}");
}

#[test]
fn a_bundle_folds_and_keeps_no_rows_without_need() {
    let mut c = config(true);
    c.emit_update_before = false;
    let mut h = harness(c);
    check(
        &mut h,
        &format!("{ROWS}\n\n| 1 x3\n+I 1 e 00:00:06\n+I 1 f 00:00:02\n+I 2 z 00:00:02\n+I 4 w null"),
        "+I 1 d 00:00:06
         +I 2 x 00:00:03
         +I 3 r 00:00:07
         +I null m 00:00:09
         | 1 x3
         +U 1 e 00:00:06
         +I 4 w null",
    );
}

#[test]
fn first_row_goes_out_with_the_watermark() {
    let mut h = harness(config(false));
    check(
        &mut h,
        "+I 1 a 00:00:05
         +I 1 b 00:00:03
         +I 2 x 00:00:04

         ~ 00:00:03
         +I 1 z 00:00:01
         +I 2 y 00:00:02
         +I 3 q 00:00:03
         +I 4 p 00:00:09
         +I 2 w 00:00:04
         | 1 x2
         ~ 00:00:04
         +I 1 c 00:00:06
         +I 4 o 00:00:08
         .",
        "+I 1 b 00:00:03
         ~ 00:00:03
         | 1 x2
         +I 2 x 00:00:04
         ~ 00:00:04
         +I 4 o 00:00:08",
    );
    assert_eq!(h.metrics().state_entries, 3);
    // The same where state rests on disk, but for when rows come out.
    let mut resting = harness(config(false)).resting();
    let out = resting.run(
        "+I 1 a 00:00:05
         +I 1 b 00:00:03
         ~ 00:00:03
         +I 1 z 00:00:01
         +I 3 q 00:00:03
         +I 2 w 00:00:04
         ~ 00:00:04
         +I 2 x 00:00:04
         | 1 x2
         +I 1 c 00:00:06
         .",
    );
    assert_eq!(materialize(&out), ["1 b 00:00:03", "2 w 00:00:04"], "{out}");
}

#[test]
fn late_rows_are_counted() {
    let mut h = harness(config(false));
    h.run("~ 00:00:10\n+I 1 a 00:00:10\n+I 2 a 00:00:11\n+I 3 a null");
    let metrics = h.metrics();
    assert_eq!((metrics.late_rows_dropped, metrics.null_times_dropped, metrics.state_entries), (1, 1, 1));
}

#[test]
fn keys_that_nobody_writes_are_forgotten() {
    let mut c = config(true);
    c.ttl_ms = Some(10_000);
    let mut h = harness(c);
    check(
        &mut h,
        "@ 12:00:00
         +I 1 a 00:00:05
         +I 2 a 00:00:05
         @ 12:00:08
         +I 2 b 00:00:06
         | 1 x2
         @ 12:00:12
         +I 1 c 00:00:01
         +I 2 c 00:00:01",
        "+I 1 a 00:00:05
         +I 2 a 00:00:05
         -U 2 a 00:00:05
         +U 2 b 00:00:06
         | 1 x2
         +I 1 c 00:00:01",
    );
}

#[test]
fn random_rows_in_random_bundles() {
    let mut dice = 7_u64;
    let mut roll = move |sides: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % sides
    };
    for case in 0..40 {
        let mut c = config(true);
        c.bundle_rows = [None, Some(1), Some(3)][case % 3];
        c.order.push(SortColumn { column: 1, options: SortOptions { descending: false, nulls_first: true } });
        let mut model: BTreeMap<u64, (std::cmp::Reverse<u64>, u64)> = BTreeMap::new();
        let mut script = String::new();
        for step in 0..120 {
            let (k, n, t) = (roll(9), roll(4), roll(6));
            script += &format!("+I k{k} n{n} 00:00:0{t}\n");
            let row = (std::cmp::Reverse(t), n);
            model.entry(k).and_modify(|best| *best = row.min(*best)).or_insert(row);
            if roll(6) == 0 {
                script += "\n";
            }
            if roll(25) == 0 {
                script += &format!("| {step} x{}\n", 1 + roll(4));
            }
        }
        let mut expected: Vec<String> =
            model.into_iter().map(|(k, (t, n))| format!("k{k} n{n} 00:00:0{}", t.0)).collect();
        expected.sort();
        assert_eq!(materialize(&harness(c).run(&script)), expected, "{script}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut c = config(true);
    c.wait_for_watermark = true;
    assert!(DeduplicateOperator::new(c).is_err());
    let message = failure(&mut harness(config(true)), "-D 1 a 00:00:01");
    assert!(message.contains("updates in append-only input"), "{message}");
    assert_eq!(harness(config(true)).run("| 1 x4\n."), "| 1 x4");
}

#[test]
fn what_a_watermark_releases_goes_out_in_parts() {
    use arrow::array::{StringArray, TimestampMillisecondArray};

    let config = config(false);
    let schema = config.input_schema.clone();
    let mut operator = DeduplicateOperator::new(config).unwrap();
    let rows = 6 * BATCH_ROWS;
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|n| n.to_string())));
    let times = Arc::new(TimestampMillisecondArray::from_iter_values((0..rows as i64).rev()));
    let batch = RecordBatch::try_new(schema, vec![keys.clone(), keys, times]).unwrap();
    let mut out = Output::new();
    assert_eq!(operator.process(0, ChangeBatch::insert_only(batch), &mut out).unwrap(), Progress::Done);
    let mut progress = operator.on_watermark(Timestamp(rows as i64), &mut out).unwrap();
    assert_eq!(progress, Progress::More, "others get their turn between the parts");
    let mut given = 0;
    loop {
        let part = out.take().iter().map(ChangeBatch::num_rows).sum::<usize>();
        assert!(part <= 4 * BATCH_ROWS, "{part} rows at once");
        given += part;
        if progress == Progress::Done {
            break;
        }
        progress = operator.resume(&mut out).unwrap();
    }
    assert_eq!(given, rows);
}

use arrow::compute::SortOptions;
use arrow::datatypes::{Field, Schema};

use super::*;
use crate::operators::harness::{OperatorHarness, check, failure};

fn harness(then: Vec<SortColumn>) -> OperatorHarness {
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("n", DataType::Utf8, true),
        Field::new("t", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new("v", DataType::Int64, true),
    ]));
    let config = TemporalSortConfig { schema: schema.clone(), time: 1, then };
    OperatorHarness::new(schema, &[], move |_| Ok(Box::new(TemporalSortOperator::new(config.clone())?)))
}

const SCRIPT: &str = "+I a 00:00:05 1
    +I b 00:00:03 2
    +I c 00:00:05 3

    +I d 00:00:04 null
    +I e 00:00:06 1
    ~ 00:00:03
    +I late 00:00:02 1
    +I late 00:00:03 1
    +I f 00:00:05 2
    | 1 x1
    +I g 00:00:04 5
    ~ 00:00:05
    +I h 00:00:06 1
    .";

#[test]
fn rows_go_out_in_order() {
    let mut h = harness(Vec::new());
    check(
        &mut h,
        SCRIPT,
        "+I b 00:00:03 2
         ~ 00:00:03
         | 1 x1
         +I d 00:00:04 null
         +I g 00:00:04 5
         +I a 00:00:05 1
         +I c 00:00:05 3
         +I f 00:00:05 2
         ~ 00:00:05
         +I e 00:00:06 1
         +I h 00:00:06 1",
    );
    assert_eq!(h.metrics().state_entries, 0);
}

#[test]
fn more_columns_and_late_rows() {
    let options = SortOptions { descending: true, nulls_first: false };
    let mut h = harness(vec![SortColumn { column: 2, options }]);
    check(
        &mut h,
        SCRIPT,
        "+I b 00:00:03 2
         ~ 00:00:03
         | 1 x1
         +I g 00:00:04 5
         +I d 00:00:04 null
         +I c 00:00:05 3
         +I f 00:00:05 2
         +I a 00:00:05 1
         ~ 00:00:05
         +I e 00:00:06 1
         +I h 00:00:06 1",
    );
    let mut h = harness(Vec::new());
    h.run("~ 00:00:03\n+I late 00:00:03 1\n+I early 00:00:04 1\n+I never null 1");
    let metrics = h.metrics();
    assert_eq!((metrics.late_rows_dropped, metrics.null_times_dropped, metrics.state_entries), (1, 1, 1));
    let message = failure(&mut h, "-D a 00:00:09 1");
    assert!(message.contains("updates in append-only input"), "{message}");
}

#[test]
fn what_a_watermark_releases_goes_out_in_parts() {
    use arrow::array::TimestampMicrosecondArray;
    use arrow::datatypes::TimestampMicrosecondType;

    let time = Field::new("t", DataType::Timestamp(TimeUnit::Microsecond, None), true);
    let schema: SchemaRef = Arc::new(Schema::new(vec![time]));
    let config = TemporalSortConfig { schema: schema.clone(), time: 0, then: Vec::new() };
    let mut operator = TemporalSortOperator::new(config).unwrap();
    let rows = 6 * BATCH_ROWS as i64;
    let times = TimestampMicrosecondArray::from_iter_values((0..rows).rev().map(|n| n * 1000));
    let batch = RecordBatch::try_new(schema, vec![Arc::new(times)]).unwrap();
    let mut out = Output::new();
    assert_eq!(operator.process(0, ChangeBatch::insert_only(batch), &mut out).unwrap(), Progress::Done);
    let mut progress = operator.on_watermark(Timestamp(rows), &mut out).unwrap();
    assert_eq!(progress, Progress::More, "others get their turn between the parts");
    let mut next = 0;
    loop {
        let batches = out.take();
        assert!(batches.iter().map(ChangeBatch::num_rows).sum::<usize>() <= 4 * BATCH_ROWS);
        for batch in batches {
            for t in batch.rows.column(0).as_primitive::<TimestampMicrosecondType>().values() {
                assert_eq!(*t, next * 1000);
                next += 1;
            }
        }
        if progress == Progress::Done {
            break;
        }
        progress = operator.resume(&mut out).unwrap();
    }
    assert_eq!((next, operator.metrics().state_entries), (rows, 0));
}

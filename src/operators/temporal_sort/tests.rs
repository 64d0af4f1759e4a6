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

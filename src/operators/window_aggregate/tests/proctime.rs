//! Windows by processing time.

use super::*;
use crate::operators::window_table_function::WindowTableFunctionOperator;

fn zoned() -> SchemaRef {
    let mut fields: Vec<_> = input().fields().iter().cloned().collect();
    let time = DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, Some("UTC".into()));
    fields[0] = Arc::new(Field::new("ts", time, true));
    Arc::new(Schema::new(fields))
}

fn by_proctime(kind: WindowKind) -> WindowAggregateConfig {
    let config = config(kind);
    let window = WindowSpec { zone: Some(chrono_tz::UTC), ..config.window };
    WindowAggregateConfig { input_schema: zoned(), window, by_proctime: true, ..config }
}

#[test]
fn rows_are_of_the_clock_and_windows_fire_by_it() {
    for parallelism in [1, 2, 4] {
        let mut h = harness(by_proctime(WindowKind::Tumble { size: 10 * MINUTE }));
        check(
            &mut h,
            &format!(
                "@ 00:01:00
                 +I null a 1
                 +I 00:55:00 a 2
                 ~ 09:00:00
                 @ 00:09:59.998
                 +I null a 4
                 | 1 x{parallelism}
                 @ 00:09:59.998
                 +I null a 8
                 @ 00:09:59.999
                 @ 00:10:00
                 +I null a 16
                 @ 00:05:00
                 +I null a 32
                 @ 00:19:59.999
                 +I null a 64
                 ."
            ),
            &format!(
                "~ 09:00:00
                 | 1 x{parallelism}
                 +I 00:00:00 00:10:00 a 4 15 8
                 +I 00:10:00 00:20:00 a 2 48 32"
            ),
        );
        let metrics = h.metrics();
        assert_eq!((metrics.late_rows_dropped, metrics.null_times_dropped, metrics.state_entries), (0, 0, 1));
    }
}

#[test]
fn overlapping_windows() {
    let mut h = harness(by_proctime(WindowKind::Hop { size: 10 * MINUTE, slide: 5 * MINUTE }));
    check(
        &mut h,
        "@ 00:06:00
         +I null a 1
         @ 00:11:00
         +I null a 2
         @ 00:30:00
         .",
        "+I 00:00:00 00:10:00 a 1 1 1
         +I 00:05:00 00:15:00 a 2 3 2
         +I 00:10:00 00:20:00 a 1 2 2",
    );
    let mut h = harness(by_proctime(WindowKind::Cumulate { size: 10 * MINUTE, step: 5 * MINUTE }));
    check(
        &mut h,
        "@ 00:01:00
         +I null a 1
         @ 00:06:00
         +I null a 2
         @ 00:10:00
         .",
        "+I 00:00:00 00:05:00 a 1 1 1
         +I 00:00:00 00:10:00 a 2 3 2",
    );
}

#[test]
fn a_timer_waits_for_the_first_window() {
    let config = by_proctime(WindowKind::Tumble { size: 10 * MINUTE });
    let batch = crate::operators::harness::parse_batch(&config.input_schema, &["+I null a 1"]);
    let mut operator = WindowAggregateOperator::new(config, KeyGroupRange::ALL).unwrap();
    assert!(operator.takes_time());
    assert_eq!(operator.next_timer(), None);
    let mut out = Output::new();
    assert_eq!(operator.on_timer(Timestamp(MINUTE), &mut out).unwrap(), Progress::Done);
    assert_eq!(operator.process(0, batch, &mut out).unwrap(), Progress::Done);
    assert_eq!(operator.next_timer(), Some(Timestamp(10 * MINUTE - 1)));
    assert_eq!(operator.on_timer(Timestamp(10 * MINUTE - 1), &mut out).unwrap(), Progress::Done);
    assert_eq!(out.take().len(), 1);
    assert_eq!(operator.next_timer(), None);
}

#[test]
fn rows_alone_get_the_windows_of_the_clock() {
    let window =
        WindowSpec { kind: WindowKind::Tumble { size: MINUTE }, offset: 0, zone: Some(chrono_tz::UTC) };
    let mut fields: Vec<_> = zoned().fields().iter().cloned().collect();
    let plain = DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None);
    for (name, ty) in
        [("window_start", plain.clone()), ("window_end", plain), ("window_time", window.time_type())]
    {
        fields.push(Arc::new(Field::new(name, ty, false)));
    }
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let mut h = OperatorHarness::new(zoned(), &[1], move |_| {
        Ok(Box::new(WindowTableFunctionOperator::new(window, 0, schema.clone()).by_proctime()))
    });
    check(
        &mut h,
        "@ 00:00:10
         +I null a 1
         +I 09:00:00 a 2
         @ 00:01:00
         +I null a 3
         .",
        "+I null a 1 00:00:00 00:01:00 00:00:59.999Z
         +I 09:00:00Z a 2 00:00:00 00:01:00 00:00:59.999Z
         +I null a 3 00:01:00 00:02:00 00:01:59.999Z",
    );
}

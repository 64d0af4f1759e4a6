//! Results as Apache Flink 2.3.0 printed them for the same rows, with a watermark after every row.

use super::*;

/// A row and the watermark (row time − 1 ms) that follows it, seven times.
const ROWS: &str = "+I 00:01:00 a 1
                    ~ 59999
                    +I 00:11:00 a 2
                    ~ 659999
                    +I 00:02:00 b 5
                    +I 00:16:00 b 7
                    ~ 959999
                    +I 00:12:00 a 1
                    +I 00:01:00 a 1
                    +I 00:29:00 a 7
                    .";

fn results(kind: WindowKind, time: bool) -> String {
    let mut c = config(kind);
    c.output = vec![WindowOutput::Start, WindowOutput::End];
    if time {
        c.output.push(WindowOutput::Time);
    }
    c.output.extend([WindowOutput::Key(0), WindowOutput::Aggregate(0), WindowOutput::Aggregate(1)]);
    set_output(&mut c);
    let output = harness(c).run(ROWS);
    // Within a window the order of keys means nothing.
    let mut rows: Vec<&str> = output.lines().filter(|l| l.starts_with('+')).collect();
    rows.sort_unstable();
    rows.join("\n")
}

#[test]
fn cumulate_with_late_rows() {
    assert_eq!(
        results(WindowKind::Cumulate { size: 15 * MINUTE, step: 5 * MINUTE }, true),
        "+I 00:00:00 00:05:00 00:04:59.999 a 1 1\n\
         +I 00:00:00 00:10:00 00:09:59.999 a 1 1\n\
         +I 00:00:00 00:15:00 00:14:59.999 a 2 3\n\
         +I 00:00:00 00:15:00 00:14:59.999 b 1 5\n\
         +I 00:15:00 00:20:00 00:19:59.999 b 1 7\n\
         +I 00:15:00 00:25:00 00:24:59.999 b 1 7\n\
         +I 00:15:00 00:30:00 00:29:59.999 a 1 7\n\
         +I 00:15:00 00:30:00 00:29:59.999 b 1 7"
    );
}

#[test]
fn hop_with_late_rows() {
    assert_eq!(
        results(WindowKind::Hop { size: 10 * MINUTE, slide: 5 * MINUTE }, false),
        "+I 00:00:00 00:10:00 a 1 1\n\
         +I 00:05:00 00:15:00 a 1 2\n\
         +I 00:10:00 00:20:00 a 2 3\n\
         +I 00:10:00 00:20:00 b 1 7\n\
         +I 00:15:00 00:25:00 b 1 7\n\
         +I 00:20:00 00:30:00 a 1 7\n\
         +I 00:25:00 00:35:00 a 1 7\n\
         +I 1969-12-31T23:55:00 00:05:00 a 1 1"
    );
}

/// Hours of the night when Berlin's clocks go back: both hours from 2 to 3 are one window.
#[test]
fn hours_in_a_zone() {
    let mut c = config(WindowKind::Tumble { size: 60 * MINUTE });
    let mut fields: Vec<Field> = c.input_schema.fields().iter().map(|f| f.as_ref().clone()).collect();
    fields[0] = Field::new(
        "ts",
        DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, Some("UTC".into())),
        true,
    );
    c.input_schema = Arc::new(Schema::new(fields));
    c.output = vec![
        WindowOutput::Start,
        WindowOutput::End,
        WindowOutput::Time,
        WindowOutput::Aggregate(0),
        WindowOutput::Aggregate(1),
    ];
    c.keys.clear();
    set_output_after(&mut c, Some(chrono_tz::Tz::Europe__Berlin));
    check(
        &mut harness(c),
        "+I 2025-10-25T21:59:59Z x 1
         +I 2025-10-25T22:00:00Z x 2
         +I 2025-10-26T00:30:00Z x 3
         +I 2025-10-26T01:30:00Z x 4
         +I 2025-10-26T22:59:59Z x 5
         +I 2025-10-26T23:00:00Z x 6
         .",
        "+I 2025-10-25T23:00:00 2025-10-26T00:00:00 2025-10-25T21:59:59.999Z 1 1
         +I 2025-10-26T00:00:00 2025-10-26T01:00:00 2025-10-25T22:59:59.999Z 1 2
         +I 2025-10-26T02:00:00 2025-10-26T03:00:00 2025-10-26T00:59:59.999Z 2 7
         +I 2025-10-26T23:00:00 2025-10-27T00:00:00 2025-10-26T22:59:59.999Z 1 5
         +I 2025-10-27T00:00:00 2025-10-27T01:00:00 2025-10-26T23:59:59.999Z 1 6",
    );
}

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};

use super::*;
use crate::operators::harness::{OperatorHarness, check, failure};

/// Rows (id, n, v) by the primary key n; id is the query's key, if it has one.
fn harness(upsert_key: &[usize], ttl_ms: Option<i64>) -> OperatorHarness {
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("n", DataType::Utf8, true),
        Field::new("v", DataType::Float64, true),
    ]));
    let config =
        ConflictConfig { schema: schema.clone(), key: vec![1], upsert_key: upsert_key.to_vec(), ttl_ms };
    OperatorHarness::new(schema, &[1], move |_| Ok(Box::new(ConflictOperator::new(config.clone())?)))
}

#[test]
fn rows_that_meet_only_in_between_do_no_harm() {
    check(
        &mut harness(&[0], None),
        "+I 1 a 1
         +I 2 a 2
         -D 1 a 1
         +I 3 b 3
         ~ 12:00:00
         -U 2 a 2
         +U 2 c 2
         | 1 x3
         +I 4 a 9
         +I null null 0
         -D 9 z 9
         ~ 12:00:01
         +U 4 a 10
         -U 3 b 3
         +U 3 b 3
         -D null null 0
         .",
        "+I 2 a 2.0
         +I 3 b 3.0
         ~ 12:00:00
         | 1 x3
         +I 2 c 2.0
         +U 4 a 9.0
         +I null null 0.0
         ~ 12:00:01
         +U 4 a 10.0
         -D null null 0.0",
    );
}

#[test]
fn rows_that_meet_at_a_watermark_fail() {
    let text = failure(&mut harness(&[0], None), "+I 1 a 1\n~ 12:00:00\n+I 2 a 1\n~ 12:00:01");
    assert!(text.contains("Conflicting key: [n=a]"), "{text}");
    let text = failure(&mut harness(&[0], None).resting(), "+I 1 a 1\n~ 12:00:00\n+I 2 a 1\n~ 12:00:01\n.");
    assert!(text.contains("[n=a]"), "on disk: {text}");
    let leaves = "+I 1 a 1\n~ 12:00:00\n+I 2 a 1\n\n-D 1 a 1\n~ 12:00:01\n| 1 x2\n+U 2 a 3\n.";
    let out = harness(&[0], None).resting().run(leaves);
    assert!(
        out.ends_with("+U 2 a 3.0"),
        "rows that meet between two watermarks do no harm on disk, either: {out}"
    );
    let text = failure(&mut harness(&[0], None), "+I 1 null 1\n+I 2 null 1\n.");
    assert!(text.contains("[n=null]"), "{text}");
}

#[test]
fn without_a_key_of_the_query_all_rows_are_different() {
    let text = failure(&mut harness(&[], None), "+I 1 a 1\n~ 12:00:00\n+I 1 a 1\n.");
    assert!(text.contains("[n=a]"), "{text}");
    check(&mut harness(&[], None), "+I 1 a 1\n+I 1 a 1\n-D 1 a 1\n-U 1 a 2\n.", "+I 1 a 1.0");
}

#[test]
fn a_row_expires() {
    check(
        &mut harness(&[0], Some(10_000)),
        "@ 12:00:00
         +I 1 a 1
         ~ 12:00:00
         @ 12:00:09
         +I 2 a 1
         @ 12:00:20
         ~ 12:00:20",
        "+I 1 a 1.0
         ~ 12:00:00
         +I 2 a 1.0
         ~ 12:00:20",
    );
}

#[test]
fn time_that_is_told_again_after_a_restore_settles_nothing() {
    check(
        &mut harness(&[0], None),
        "+I 1 a 1
         ~ 12:00:00
         +I 2 a 1
         | 1 x2
         ~ 12:00:00
         -D 1 a 1
         ~ 12:00:01",
        "+I 1 a 1.0
         ~ 12:00:00
         | 1 x2
         ~ 12:00:00
         +U 2 a 1.0
         ~ 12:00:01",
    );
}

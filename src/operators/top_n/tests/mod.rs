use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{Field, Schema, SchemaRef};

use super::*;
use crate::operators::harness::{OperatorHarness, check, failure, materialize};

mod model;

/// `k`, `n`, `v`.
fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Utf8, true),
        Field::new("n", DataType::Utf8, true),
        Field::new("v", DataType::Int64, true),
    ]))
}

fn by(column: usize, descending: bool) -> SortColumn {
    SortColumn { column, options: SortOptions { descending, nulls_first: !descending } }
}

fn config(start: u64, end: u64, with_rank: bool) -> TopNConfig {
    let mut output = vec![RankOutput::Column(0), RankOutput::Column(1), RankOutput::Column(2)];
    let mut fields: Vec<_> = schema().fields().iter().cloned().collect();
    if with_rank {
        output.push(RankOutput::Rank);
        fields.push(Arc::new(Field::new("rn", DataType::Int64, false)));
    }
    TopNConfig {
        input_schema: schema(),
        output_schema: Arc::new(Schema::new(fields)),
        output,
        partition: vec![0],
        order: vec![by(2, false)],
        latest_first: false,
        function: RankFunction::RowNumber,
        start,
        end: RankEnd::Constant(end),
        input_retracts: false,
        emit_update_before: true,
        bundle_rows: None,
        ttl_ms: None,
    }
}

fn harness(config: TopNConfig) -> OperatorHarness {
    OperatorHarness::new(config.input_schema.clone(), &config.partition.clone(), move |_| {
        Ok(Box::new(TopNOperator::new(config.clone())?))
    })
}

fn row_by_row(config: TopNConfig) -> TopNConfig {
    TopNConfig { bundle_rows: Some(1), ..config }
}

fn retracting(config: TopNConfig) -> TopNConfig {
    TopNConfig { input_retracts: true, ..config }
}

const ROWS: &str = "+I 1 a 5
    +I 1 b 3
    +I 1 c 7
    +I 2 x 1
    +I 1 d 3
    +I 1 e 9
    +I 1 f 2
    +I 2 y 1
    +I 1 g 2";

#[test]
fn members_row_by_row_as_flink() {
    for config in [config(1, 2, false), retracting(config(1, 2, false))] {
        check(
            &mut harness(row_by_row(config)),
            ROWS,
            "+I 1 a 5
             +I 1 b 3
             +I 2 x 1
             -D 1 a 5
             +I 1 d 3
             -D 1 d 3
             +I 1 f 2
             +I 2 y 1
             -D 1 b 3
             +I 1 g 2",
        );
    }
}

#[test]
fn places_row_by_row_as_flink() {
    for config in [config(1, 2, true), retracting(config(1, 2, true))] {
        check(
            &mut harness(row_by_row(config)),
            ROWS,
            "+I 1 a 5 1
             -U 1 a 5 1
             +U 1 b 3 1
             +I 1 a 5 2
             +I 2 x 1 1
             -U 1 a 5 2
             +U 1 d 3 2
             -U 1 b 3 1
             +U 1 f 2 1
             -U 1 d 3 2
             +U 1 b 3 2
             +I 2 y 1 2
             -U 1 b 3 2
             +U 1 g 2 2",
        );
    }
}

#[test]
fn ranges_compare_places_without_showing_them() {
    check(
        &mut harness(row_by_row(config(2, 3, false))),
        ROWS,
        "+I 1 a 5
         +I 1 c 7
         -U 1 a 5
         +U 1 d 3
         -U 1 c 7
         +U 1 a 5
         -U 1 d 3
         +U 1 b 3
         -U 1 a 5
         +U 1 d 3
         +I 2 y 1
         -U 1 b 3
         +U 1 g 2
         -U 1 d 3
         +U 1 b 3",
    );
}

#[test]
fn a_bundle_folds() {
    let script = format!("{ROWS}\n\n+I 1 h 0\n+I 1 i 0\n+I 1 j 0");
    check(
        &mut harness(config(1, 2, false)),
        &script,
        "+I 2 x 1
         +I 1 f 2
         +I 2 y 1
         +I 1 g 2
         -D 1 g 2
         +I 1 h 0
         -D 1 f 2
         +I 1 i 0",
    );
    let mut without_old = config(1, 2, true);
    without_old.emit_update_before = false;
    check(
        &mut harness(without_old),
        &script,
        "+I 1 f 2 1
         +I 1 g 2 2
         +I 2 x 1 1
         +I 2 y 1 2
         +U 1 h 0 1
         +U 1 i 0 2",
    );
    check(
        &mut harness(config(1, 1, false)),
        &script,
        "+I 1 f 2
         +I 2 x 1
         -U 1 f 2
         +U 1 h 0",
    );
}

#[test]
fn rows_come_back_when_others_are_taken_away() {
    check(
        &mut harness(row_by_row(retracting(config(1, 2, true)))),
        "+I 1 a 1
         +I 1 b 2
         +I 1 c 3
         -D 1 a 1
         -U 1 b 2
         +U 1 b 9
         -D 1 z 1
         -D 7 z 1
         -D 1 c 3
         -D 1 b 9
         +I 1 q 4",
        "+I 1 a 1 1
         +I 1 b 2 2
         -U 1 a 1 1
         +U 1 b 2 1
         -U 1 b 2 2
         +U 1 c 3 2
         -U 1 b 2 1
         +U 1 c 3 1
         -D 1 c 3 2
         +I 1 b 9 2
         -U 1 c 3 1
         +U 1 b 9 1
         -D 1 b 9 2
         -D 1 b 9 1
         +I 1 q 4 1",
    );
}

#[test]
fn equal_rows_are_taken_back_one_by_one() {
    let mut h = harness(retracting(config(1, 3, true)));
    let out = h.run(
        "+I 1 a 1
         +I 1 a 1
         +I 1 a 1
         +I 1 b 1

         -D 1 a 1
         -D 1 a 1
         | 1 x3
         -D 1 a 1
         +I null null null
         +I null null 1

         -D null null null
         -D 1 b 1
         | 2",
    );
    assert_eq!(materialize(&out), ["null null 1 1"], "{out}");
    assert_eq!(h.metrics().state_entries, 1);
}

#[test]
fn a_row_added_and_taken_back_in_one_batch_is_never_seen() {
    check(
        &mut harness(retracting(config(1, 2, false))),
        "+I 1 a 1
         -D 1 a 1
         +I 1 b 1
         -U 1 b 1
         +U 1 b 1",
        "+I 1 b 1",
    );
}

#[test]
fn without_order_the_first_rows_stay() {
    let mut c = row_by_row(config(2, 3, false));
    (c.order, c.partition) = (Vec::new(), Vec::new());
    check(&mut harness(c.clone()), ROWS, "+I 1 b 3\n+I 1 c 7");
    check(
        &mut harness(retracting(c)),
        "+I 1 a 5
         +I 1 b 3
         +I 1 c 7
         +I 1 d 8
         -D 1 a 5",
        "+I 1 b 3
         +I 1 c 7
         -U 1 b 3
         +U 1 c 7
         -U 1 c 7
         +U 1 d 8",
    );
}

#[test]
fn several_sort_columns_and_nulls() {
    let mut c = config(1, 4, true);
    c.order = vec![by(2, true), by(1, false)];
    check(
        &mut harness(c),
        "+I 1 b 1
         +I 1 a null
         +I 1 a 1
         +I 1 null 1
         +I 1 z 5
         +I 1 y 0",
        "+I 1 z 5 1
         +I 1 null 1 2
         +I 1 a 1 3
         +I 1 b 1 4",
    );
    let mut c = config(1, 1, false);
    c.order[0].options.nulls_first = false;
    check(&mut harness(c), "+I 1 a null\n+I 1 b 9223372036854775807", "+I 1 b 9223372036854775807");
}

#[test]
fn the_end_may_be_a_partition_column() {
    let mut c = row_by_row(config(1, 1, false));
    (c.partition, c.end, c.order) = (vec![2], RankEnd::Column(2), vec![by(1, false)]);
    let mut h = harness(c);
    check(
        &mut h,
        "+I 1 b 1
         +I 1 b 2
         +I 1 a 1
         | 1 x2
         +I 1 c 2
         +I 1 a 2
         +I 1 a 0
         +I 1 a null",
        "+I 1 b 1
         +I 1 b 2
         -D 1 b 1
         +I 1 a 1
         | 1 x2
         +I 1 c 2
         -D 1 c 2
         +I 1 a 2",
    );
}

#[test]
fn more_output_than_a_batch_holds_is_sent_in_pieces() {
    let mut c = row_by_row(config(1, 400, true));
    c.partition = Vec::new();
    let mut h = harness(c);
    let script: String = (0..500).map(|i| format!("+I 1 a {}\n", 1_000 - i)).collect();
    let out = h.run(&script);
    let rows = materialize(&out);
    assert_eq!(rows.len(), 400);
    assert!(rows.contains(&"1 a 501 1".to_owned()) && rows.contains(&"1 a 900 400".to_owned()));
    assert_eq!(h.metrics().state_entries, 400);
}

#[test]
fn partitions_that_nobody_writes_are_forgotten() {
    for input_retracts in [false, true] {
        let mut c = config(1, 1, false);
        (c.ttl_ms, c.input_retracts) = (Some(10_000), input_retracts);
        let mut h = harness(c);
        check(
            &mut h,
            "@ 12:00:00
             +I 1 a 5
             +I 2 a 5
             @ 12:00:08
             +I 2 b 6
             | 1 x2
             @ 12:00:12
             +I 1 c 7
             +I 2 c 7
             @ 12:00:20",
            "+I 1 a 5
             +I 2 a 5
             | 1 x2
             +I 1 c 7",
        );
        let kept = if input_retracts { 4 } else { 2 };
        assert_eq!(h.metrics().state_entries, kept);
        h.run("@ 12:01:00");
        assert_eq!(h.metrics().state_entries, 0);
    }
}

#[test]
fn plans_that_do_not_fit_are_refused() {
    let mut c = config(1, 1, false);
    c.end = RankEnd::Column(2);
    assert!(TopNOperator::new(c).is_err());
    let message = failure(&mut harness(config(1, 1, false)), "-D 1 a 1");
    assert!(message.contains("updates in append-only input"), "{message}");
    let mut h = harness(config(1, 1, false));
    assert_eq!(h.run("| 1 x4\n."), "| 1 x4");
}

/// The rows of one key of a sink, of which the latest is seen.
#[test]
fn the_latest_row_of_a_sink_key() {
    let mut c = retracting(config(1, 1, false));
    (c.order, c.latest_first, c.emit_update_before) = (Vec::new(), true, false);
    for bundle_rows in [None, Some(1)] {
        c.bundle_rows = bundle_rows;
        let mut h = harness(c.clone());
        check(
            &mut h,
            "+I 1 a 1

             +I 1 b 2

             +I 1 c 3

             -D 1 b 2
             | 1 x2
             -D 1 c 3
             +I 2 z 1

             +I 1 d 4

             -U 1 d 4

             -D 1 a 1
             -D 1 q 1",
            "+I 1 a 1
             +U 1 b 2
             +U 1 c 3
             | 1 x2
             +U 1 a 1
             +I 2 z 1
             +U 1 d 4
             +U 1 a 1
             -D 1 a 1",
        );
    }
}

fn tied(function: RankFunction, start: u64, end: u64, with_rank: bool) -> TopNConfig {
    TopNConfig { function, ..retracting(config(start, end, with_rank)) }
}

#[test]
fn rows_that_share_a_rank_come_and_go_together() {
    check(
        &mut harness(row_by_row(tied(RankFunction::Rank, 1, 2, true))),
        "+I 1 a 5
         +I 1 b 5
         +I 1 c 5
         +I 1 d 3
         +I 1 e 3
         -D 1 d 3",
        "+I 1 a 5 1
         +I 1 b 5 1
         +I 1 c 5 1
         -U 1 a 5 1
         +U 1 a 5 2
         -U 1 b 5 1
         +U 1 b 5 2
         -U 1 c 5 1
         +U 1 c 5 2
         +I 1 d 3 1
         -D 1 a 5 2
         -D 1 b 5 2
         -D 1 c 5 2
         +I 1 e 3 1
         -D 1 d 3 1
         +I 1 a 5 2
         +I 1 b 5 2
         +I 1 c 5 2",
    );
    check(
        &mut harness(row_by_row(tied(RankFunction::DenseRank, 2, 2, false))),
        "+I 1 a 5
         +I 1 b 5
         +I 1 c 7
         +I 1 d 7
         +I 1 e 9
         +I 1 f 6
         -D 1 a 5
         -D 1 b 5",
        "+I 1 c 7
         +I 1 d 7
         -D 1 c 7
         -D 1 d 7
         +I 1 f 6
         -D 1 f 6
         +I 1 c 7
         +I 1 d 7",
    );
}

#[test]
fn with_ties_too_the_old_version_of_a_row_goes_first() {
    let config = tied(RankFunction::DenseRank, 1, 3, false);
    check(&mut harness(config), "+I 1 b 5\n\n-D 1 b 5\n+I 1 a 5", "+I 1 b 5\n-D 1 b 5\n+I 1 a 5");
}

#[test]
fn ties_survive_a_restore_and_equal_rows_are_two() {
    let mut h = harness(tied(RankFunction::Rank, 1, 3, true));
    let out = h.run(
        "+I 1 a 1
         +I 1 a 1
         +I 1 b null
         +I 1 c 2
         | 1 x3
         -D 1 a 1
         +I 1 d null
         | 3 x2
         -D 1 b null
         -U 1 c 2
         +U 1 c 1",
    );
    assert_eq!(materialize(&out), ["1 a 1 2", "1 c 1 2", "1 d null 1"], "{out}");
}

use std::fmt::Write;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::functions_aggregate as f;
use datafusion::logical_expr::AggregateUDF;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::col;

use super::*;
use crate::operators::group_aggregate::{
    AggregateCall, GroupAggregateConfig, GroupAggregateOperator, GroupOutput,
};
use crate::operators::harness::{OperatorHarness, materialize, parse_batch};
use crate::runtime::spilling::memory::StateMemory;
use crate::runtime::spilling::pool::ProcessPool;

fn input() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("v", DataType::Int64, true),
        Field::new("s", DataType::Utf8, true),
    ]))
}

fn call(udaf: Arc<AggregateUDF>, arg: &str) -> AggregateCall {
    let expr = AggregateExprBuilder::new(udaf, vec![col(arg, &input()).unwrap()])
        .schema(input())
        .alias("x")
        .build()
        .unwrap();
    AggregateCall::new(Arc::new(expr), None)
}

/// COUNT, SUM and a retractable MAX per key.
fn config() -> GroupAggregateConfig {
    let aggregates = vec![
        call(f::count::count_udaf(), "v"),
        call(f::sum::sum_udaf(), "v"),
        call(f::min_max::max_udaf(), "s"),
    ];
    let mut fields = vec![Field::new("k", DataType::Int64, true)];
    fields.extend(aggregates.iter().map(|a| Field::new("a", a.return_type().clone(), true)));
    GroupAggregateConfig {
        input_schema: input(),
        output_schema: Arc::new(Schema::new(fields)),
        output: std::iter::once(GroupOutput::Key(0)).chain((0..3).map(GroupOutput::Aggregate)).collect(),
        keys: vec![col("k", &input()).unwrap()],
        aggregates,
        input_retracts: true,
        emit_update_before: true,
        bundle_rows: None,
        merges_partials: false,
        ttl_ms: None,
        emit_default_row_on_end: false,
    }
}

fn in_memory() -> OperatorHarness {
    OperatorHarness::new(input(), &[0], |range| Ok(Box::new(GroupAggregateOperator::new(config(), range)?)))
}

/// With room for `limit` bytes of state.
fn spilling(limit: usize) -> (OperatorHarness, StateMemory) {
    let memory = StateMemory::new(limit * 2, std::env::temp_dir());
    let budget = memory.clone();
    let harness = OperatorHarness::new(input(), &[0], move |range| {
        let factory: PartitionFactory =
            Arc::new(|range| Ok(Box::new(GroupAggregateOperator::new(config(), range)?)));
        let config = SpillingConfig { factory: factory.clone(), keys: vec![vec![0]], range };
        Ok(Box::new(SpillingOperator::new(factory(range)?, config, budget.share())))
    });
    (harness, memory)
}

/// Inserts and deletes of rows of 500 keys, deletes only of rows that were inserted.
struct Changes {
    seed: u64,
    live: Vec<String>,
}

impl Changes {
    fn random(&mut self, below: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed % below
    }

    fn script(&mut self, rows: usize) -> String {
        let mut script = String::new();
        for i in 0..rows {
            if i % 97 == 96 {
                script.push('\n');
            }
            if !self.live.is_empty() && self.random(3) == 0 {
                let at = self.random(self.live.len() as u64) as usize;
                let row = self.live.swap_remove(at);
                writeln!(script, "-D {row}").unwrap();
            } else {
                let key = if self.random(50) == 0 { "null".to_owned() } else { self.random(500).to_string() };
                let row = format!("{key} {} name{}", self.random(1000), self.random(30));
                writeln!(script, "+I {row}").unwrap();
                self.live.push(row);
            }
        }
        script.push('\n');
        script
    }
}

#[test]
fn gives_the_same_table_with_little_memory() {
    for limit in [1, 20_000, 100_000] {
        let mut changes = Changes { seed: 7 + limit as u64, live: Vec::new() };
        let script = changes.script(2_000) + ".\n";
        let (mut small, memory) = spilling(limit);
        assert_eq!(
            materialize(&small.run(&script)),
            materialize(&in_memory().run(&script)),
            "a limit of {limit} bytes"
        );
        assert!(memory.spilled_bytes() > 0, "nothing went to disk with {limit} bytes");
    }
}

#[test]
fn stays_whole_while_memory_suffices() {
    let mut changes = Changes { seed: 3, live: Vec::new() };
    let (mut plenty, memory) = spilling(1 << 30);
    let script = changes.script(2_000) + ".\n";
    assert_eq!(plenty.run(&script), in_memory().run(&script), "the very same changes");
    assert_eq!(memory.spilled_bytes(), 0);
}

#[test]
fn survives_barriers_at_other_parallelisms() {
    let mut changes = Changes { seed: 11, live: Vec::new() };
    let (mut small, _memory) = spilling(30_000);
    let mut plain = in_memory();
    let (mut spilled_rows, mut rows) = (String::new(), String::new());
    for (epoch, parallelism) in [2, 4, 1, 3].into_iter().enumerate() {
        let script = changes.script(2_000) + &format!("| {epoch} x{parallelism}\n");
        spilled_rows.push_str(&small.run(&script));
        rows.push_str(&plain.run(&script));
        spilled_rows.push('\n');
        rows.push('\n');
        let without_barriers = |text: &str| {
            let rows: Vec<&str> = text.lines().filter(|l| !l.starts_with('|') && !l.is_empty()).collect();
            rows.join("\n")
        };
        assert_eq!(materialize(&without_barriers(&spilled_rows)), materialize(&without_barriers(&rows)));
    }
}

#[test]
fn waiting_rows_are_worked_on_after_a_while() {
    let mut changes = Changes { seed: 5, live: Vec::new() };
    let (mut small, _memory) = spilling(1);
    let mut plain = in_memory();
    let script = changes.script(1_000);
    let later = "@ 12:00:00\n@ 12:00:01\n@ 13:00:00\n";
    let out = small.run(&(script.clone() + later));
    assert_eq!(materialize(&out), materialize(&plain.run(&script)));
}

#[test]
fn restored_state_goes_to_disk_at_once() {
    let mut changes = Changes { seed: 13, live: Vec::new() };
    let (mut small, memory) = spilling(10_000);
    let script = changes.script(1_000);
    let rows = small.run(&(script.clone() + "| 1\n"));
    let before = memory.spilled_bytes();
    small.run("| 2 x2\n");
    assert!(memory.spilled_bytes() > before, "the fresh operators hold all of it");
    let more = changes.script(500) + ".\n";
    let rows = rows + "\n" + &small.run(&more);
    assert_eq!(materialize(&rows), materialize(&in_memory().run(&(script + &more))));
}

#[test]
fn statements_of_a_process_share_one_budget() {
    // More than the tests hold, so that only what is reported counts.
    let limit = 123_456_789_000;
    let (one, other) =
        (StateMemory::new(limit, std::env::temp_dir()), StateMemory::new(limit, std::env::temp_dir()));
    let (mut big, mut small) = (one.share(), other.share());
    let fair = small.fair();
    big.report(3 * fair);
    small.report(fair + 1);
    assert!(small.is_over(1.0), "the other statement's state counts");
    drop(big);
    assert!(!small.is_over(1.0), "it is given back");
    let pool = ProcessPool::of(limit);
    assert!(Arc::ptr_eq(&pool, &ProcessPool::of(limit)), "joins and sorts of batch, too");
}

#[test]
fn state_that_cannot_rest_counts_and_is_told() {
    // A budget of its own, and more than the tests hold.
    let memory = StateMemory::new(123_456_000_000, std::env::temp_dir());
    let (mut small, _idle) = (memory.share(), memory.share());
    let (mut big, notices) = (None, crate::edges::Notices::default());
    let fair = small.fair();
    small.report(fair + 1);
    assert!(!small.is_over(1.0));
    memory.hold(&mut big, 1000, "Sort", &notices);
    assert!(big.is_none(), "what is small is not counted");
    memory.hold(&mut big, fair, "Sort", &notices);
    assert!(small.is_over(1.0), "others make room");
    assert!(notices.take().is_empty());
    memory.hold(&mut big, 3 * fair, "Sort", &notices);
    memory.hold(&mut big, 4 * fair, "Sort", &notices);
    let told = notices.take();
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("Sort holds ") && told[0].contains("--memory leaves 61694 MB"), "{told:?}");
}

#[test]
fn the_watermark_waits_for_the_rows_that_wait() {
    let memory = StateMemory::new(2, std::env::temp_dir());
    let factory: PartitionFactory =
        Arc::new(|range| Ok(Box::new(GroupAggregateOperator::new(config(), range)?)));
    let (range, whole) = (KeyGroupRange::ALL, factory(KeyGroupRange::ALL).unwrap());
    let spilling = SpillingConfig { factory, keys: vec![vec![0]], range };
    let mut operator = SpillingOperator::new(whole, spilling, memory.share());
    let through = |operator: &mut SpillingOperator, mut progress: Progress, out: &mut Output| {
        out.take();
        while progress == Progress::More {
            progress = operator.resume(out).unwrap();
            out.take();
        }
    };
    let script = Changes { seed: 17, live: Vec::new() }.script(4_000);
    let (mut held, mut waited, mut out) = (None, 0, Output::new());
    for (i, rows) in script.split("\n\n").filter(|rows| !rows.trim().is_empty()).enumerate() {
        let watermark = Timestamp(i as i64);
        let progress = operator.on_watermark(watermark, &mut out).unwrap();
        through(&mut operator, progress, &mut out);
        let batch = parse_batch(&input(), &rows.lines().collect::<Vec<_>>());
        let progress = operator.process(0, batch, &mut out).unwrap();
        through(&mut operator, progress, &mut out);
        // Without a TTL there is a timer only for rows that wait.
        held = operator.next_timer().map(|_| held.unwrap_or(watermark));
        assert_eq!(operator.output_watermark(), held, "after batch {i}");
        waited += usize::from(held.is_some());
    }
    assert!(waited > 0 && memory.spilled_bytes() > 0, "no row has waited");
    let progress = operator.on_end(&mut out).unwrap();
    through(&mut operator, progress, &mut out);
    assert_eq!(operator.output_watermark(), None);
}

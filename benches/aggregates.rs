//! Times the aggregate operators alone, in one thread: `cargo bench --bench aggregates`.
//!
//! | case | query |
//! |---|---|
//! | keyed | `SELECT k, COUNT(*), SUM(v) … GROUP BY k`, 100,000 BIGINT keys |
//! | q16 | 4 counts and 8 distinct counts by (channel, day), as Nexmark's q16 |
//! | tumble | `SELECT k, COUNT(*) … GROUP BY window_start, window_end, k`, 100,000 keys |

#![allow(clippy::disallowed_methods, reason = "measures time")]
#![allow(clippy::indexing_slicing, reason = "a measurement that fails may panic")]

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::{AggregateUDF, Operator as BinaryOperator};
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{binary, col, lit};
use datafusion::physical_plan::PhysicalExpr;
use tidelake::operators::group_aggregate::{
    AggregateCall, GroupAggregateConfig, GroupAggregateOperator, GroupOutput,
};
use tidelake::operators::window_aggregate::{
    WindowAggregateConfig, WindowAggregateOperator, WindowKind, WindowOutput, WindowPhase, WindowSpec,
};
use tidelake::runtime::{Operator, Output};
use tidelake::stream::key_group::KeyGroupRange;
use tidelake::stream::{ChangeBatch, Timestamp};

const BATCH: usize = 8192;
const BATCHES: usize = 400;

type Expr = Arc<dyn PhysicalExpr>;
type Failure = Box<dyn std::error::Error>;

fn call(
    schema: &SchemaRef,
    udaf: Arc<AggregateUDF>,
    arg: Expr,
    distinct: bool,
    filter: Option<Expr>,
) -> Result<AggregateCall, Failure> {
    let builder = AggregateExprBuilder::new(udaf, vec![arg]).schema(schema.clone()).alias("x");
    let expr = builder.with_distinct(distinct).build()?;
    Ok(AggregateCall::new(Arc::new(expr), filter))
}

fn group(
    schema: &SchemaRef,
    keys: Vec<Expr>,
    aggregates: Vec<AggregateCall>,
) -> Result<GroupAggregateOperator, Failure> {
    let mut output: Vec<GroupOutput> = (0..keys.len()).map(GroupOutput::Key).collect();
    output.extend((0..aggregates.len()).map(GroupOutput::Aggregate));
    let mut fields = Vec::new();
    for key in &keys {
        fields.push(Field::new("k", key.data_type(schema)?, true));
    }
    fields.extend(aggregates.iter().map(|a| Field::new("a", a.return_type().clone(), true)));
    let config = GroupAggregateConfig {
        input_schema: schema.clone(),
        output_schema: Arc::new(Schema::new(fields)),
        output,
        keys,
        aggregates,
        input_retracts: false,
        emit_update_before: true,
        bundle_rows: None,
        merges_partials: false,
        ttl_ms: None,
        emit_default_row_on_end: false,
    };
    Ok(GroupAggregateOperator::new(config, KeyGroupRange::ALL)?)
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % sides) as i64
    }
}

/// Runs all batches and prints the time per row.
fn time(name: &str, operator: &mut dyn Operator, batches: &[RecordBatch]) -> Result<(), Failure> {
    let mut out = Output::new();
    let (mut rows, mut emitted) = (0, 0);
    let start = Instant::now();
    for batch in batches {
        rows += batch.num_rows();
        let _ = operator.process(0, ChangeBatch::insert_only(batch.clone()), &mut out)?;
        emitted += out.drain().map(|b| b.num_rows()).sum::<usize>();
    }
    let _ = operator.on_watermark(Timestamp::MAX, &mut out)?;
    emitted += out.drain().map(|b| b.num_rows()).sum::<usize>();
    let took = start.elapsed();
    println!(
        "{name:8} {:7.1} ns/row  {rows} rows in, {emitted} out, state {} MB",
        took.as_nanos() as f64 / rows as f64,
        operator.metrics().state_bytes / 1_000_000
    );
    Ok(())
}

fn keyed() -> Result<(), Failure> {
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("v", DataType::Int64, true),
    ]));
    let mut dice = Dice(1);
    let batches: Vec<RecordBatch> = (0..BATCHES)
        .map(|_| {
            let k: Int64Array = (0..BATCH).map(|_| dice.roll(100_000)).collect();
            let v: Int64Array = (0..BATCH).map(|_| dice.roll(1000)).collect();
            RecordBatch::try_new(schema.clone(), vec![Arc::new(k) as ArrayRef, Arc::new(v)])
        })
        .collect::<Result<_, _>>()?;
    let calls = vec![
        call(&schema, count_udaf(), lit(1_i64), false, None)?,
        call(&schema, sum_udaf(), col("v", &schema)?, false, None)?,
    ];
    time("keyed", &mut group(&schema, vec![col("k", &schema)?], calls)?, &batches)
}

fn q16() -> Result<(), Failure> {
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("channel", DataType::Utf8, true),
        Field::new("day", DataType::Utf8, true),
        Field::new("price", DataType::Int64, true),
        Field::new("bidder", DataType::Int64, true),
        Field::new("auction", DataType::Int64, true),
    ]));
    let mut dice = Dice(2);
    let batches: Vec<RecordBatch> = (0..BATCHES)
        .map(|i| {
            // Nexmark: half of the bids on four hot channels, the rest on ten thousand.
            let channel: StringArray = (0..BATCH)
                .map(|_| {
                    Some(if dice.roll(2) == 0 {
                        format!("hot-{}", dice.roll(4))
                    } else {
                        format!("channel-{}", dice.roll(10_000))
                    })
                })
                .collect();
            let day = StringArray::from(vec![format!("2026-01-{:02}", i * 10 / BATCHES + 10); BATCH]);
            let mut ints = |sides| Arc::new((0..BATCH).map(|_| dice.roll(sides)).collect::<Int64Array>());
            let columns: Vec<ArrayRef> =
                vec![Arc::new(channel), Arc::new(day), ints(20_000_000), ints(50_000), ints(100_000)];
            RecordBatch::try_new(schema.clone(), columns)
        })
        .collect::<Result<_, _>>()?;
    let price = |op, limit: i64| -> Result<Expr, Failure> {
        Ok(binary(col("price", &schema)?, op, lit(limit), &schema)?)
    };
    let filters = || -> Result<Vec<Option<Expr>>, Failure> {
        let middle = binary(
            price(BinaryOperator::GtEq, 10_000)?,
            BinaryOperator::And,
            price(BinaryOperator::Lt, 1_000_000)?,
            &schema,
        )?;
        Ok(vec![
            None,
            Some(price(BinaryOperator::Lt, 10_000)?),
            Some(middle),
            Some(price(BinaryOperator::GtEq, 1_000_000)?),
        ])
    };
    let mut calls = Vec::new();
    for filter in filters()? {
        calls.push(call(&schema, count_udaf(), lit(1_i64), false, filter)?);
    }
    for column in ["bidder", "auction"] {
        for filter in filters()? {
            calls.push(call(&schema, count_udaf(), col(column, &schema)?, true, filter)?);
        }
    }
    let keys = vec![col("channel", &schema)?, col("day", &schema)?];
    time("q16", &mut group(&schema, keys, calls)?, &batches)
}

fn tumble() -> Result<(), Failure> {
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("k", DataType::Int64, true),
    ]));
    let mut dice = Dice(3);
    let mut now = 0;
    let batches: Vec<RecordBatch> = (0..BATCHES)
        .map(|_| {
            let ts: TimestampMillisecondArray = (0..BATCH)
                .map(|_| {
                    now += dice.roll(2);
                    now
                })
                .collect::<Vec<i64>>()
                .into();
            let k: Int64Array = (0..BATCH).map(|_| dice.roll(100_000)).collect();
            RecordBatch::try_new(schema.clone(), vec![Arc::new(ts) as ArrayRef, Arc::new(k)])
        })
        .collect::<Result<_, _>>()?;
    for (name, kind) in [
        ("tumble", WindowKind::Tumble { size: 100_000 }),
        ("hop", WindowKind::Hop { size: 100_000, slide: 20_000 }),
    ] {
        let timestamp = DataType::Timestamp(TimeUnit::Millisecond, None);
        let config = WindowAggregateConfig {
            input_schema: schema.clone(),
            output_schema: Arc::new(Schema::new(vec![
                Field::new("k", DataType::Int64, true),
                Field::new("start", timestamp.clone(), false),
                Field::new("end", timestamp, false),
                Field::new("n", DataType::Int64, true),
            ])),
            output: vec![
                WindowOutput::Key(0),
                WindowOutput::Start,
                WindowOutput::End,
                WindowOutput::Aggregate(0),
            ],
            window: WindowSpec { kind, offset: 0, zone: None },
            time_column: 0,
            keys: vec![col("k", &schema)?],
            aggregates: vec![call(&schema, count_udaf(), lit(1_i64), false, None)?],
            phase: WindowPhase::Single,
            input_retracts: false,
            by_proctime: false,
        };
        time(name, &mut WindowAggregateOperator::new(config, KeyGroupRange::ALL)?, &batches)?;
    }
    Ok(())
}

fn main() -> Result<(), Failure> {
    keyed()?;
    q16()?;
    tumble()
}

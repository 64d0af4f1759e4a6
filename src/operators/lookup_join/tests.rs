use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{AsArray, Int32Array, StringArray};
use arrow::datatypes::Int32Type;
use async_trait::async_trait;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator as Op;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use tokio::sync::Semaphore;

use super::pairs::codes_of;
use super::*;
use crate::edges::{Committable, SinkWriter};
use crate::operators::harness::{OperatorHarness, check, failure, format_batch, parse_batch};
use crate::operators::join::JoinSide;
use crate::runtime::chain::{Chain, Tail};
use crate::runtime::channel::Cancellation;
use crate::runtime::job::JobMetrics;
use crate::runtime::message::{Barrier, BarrierKind};
use crate::runtime::sink::SinkDriver;
use crate::stream::snapshot::SnapshotMode;
use crate::stream::watermark::Change;
use crate::stream::{Activity, Epoch};

/// A table of numbers and names in memory. Answers come at once, or as permits are given.
#[derive(Debug)]
struct Memory {
    rows: BTreeMap<i32, Vec<&'static str>>,
    /// Keys that were asked for.
    log: Mutex<Vec<Vec<i32>>>,
    permits: Option<Semaphore>,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

impl Memory {
    fn new(permits: Option<usize>) -> Arc<Self> {
        Arc::new(Memory {
            rows: BTreeMap::from([(1, vec!["one", "uno"]), (2, vec!["two"]), (3, vec!["three"])]),
            log: Mutex::default(),
            permits: permits.map(Semaphore::new),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
        })
    }

    fn permit(&self, n: usize) {
        self.permits.as_ref().unwrap().add_permits(n);
    }
}

fn right() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int32, false),
        Field::new("name", DataType::Utf8, true),
    ]))
}

fn left() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int32, false),
        Field::new("k", DataType::Int32, true),
    ]))
}

#[async_trait]
impl LookupSource for Memory {
    async fn lookup(&self, keys: &RecordBatch) -> Result<LookupRows> {
        let keys = keys.column(0).as_primitive::<Int32Type>().values().to_vec();
        self.log.lock().unwrap().push(keys.clone());
        if let Some(permits) = &self.permits {
            let now = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
            self.most_in_flight.fetch_max(now, Ordering::Relaxed);
            permits.acquire().await.unwrap().forget();
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
        if keys.contains(&99) {
            return Err(Error::external("99 is too much"));
        }
        let (mut ks, mut names, mut of) = (Vec::new(), Vec::new(), Vec::new());
        for (i, key) in keys.iter().enumerate() {
            for name in self.rows.get(key).into_iter().flatten() {
                ks.push(*key);
                names.push(*name);
                of.push(i as u32);
            }
        }
        let columns: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(ks)), Arc::new(StringArray::from(names))];
        LookupRows::of_keys(RecordBatch::try_new(right(), columns)?, &of, keys.len())
    }
}

fn config(lookup: Arc<dyn LookupSource>, outer: bool) -> LookupJoinConfig {
    let mut fields: Vec<Field> = left().fields().iter().map(|f| f.as_ref().clone()).collect();
    fields.push(Field::new("name", DataType::Utf8, true));
    LookupJoinConfig {
        table: "t".to_owned(),
        outer,
        keys: vec![Arc::new(Column::new("k", 1))],
        key_types: vec![DataType::Int32],
        lookup,
        right: right(),
        filter: None,
        output: vec![
            JoinColumn::Input(JoinSide::Left, 0),
            JoinColumn::Input(JoinSide::Left, 1),
            JoinColumn::Input(JoinSide::Right, 1),
        ],
        output_schema: Arc::new(Schema::new(fields)),
        keeps_updates: true,
        capacity: 2,
        timeout: None,
    }
}

fn harness(config: LookupJoinConfig) -> OperatorHarness {
    OperatorHarness::new(left(), &[0], move |_| Ok(Box::new(LookupJoinOperator::new(config.clone())?)))
}

#[test]
fn rows_stand_beside_what_is_found_for_them() {
    let memory = Memory::new(None);
    let mut inner = harness(config(memory.clone(), false));
    check(
        &mut inner,
        "+I 1 1\n+I 2 null\n+I 3 9\n+I 4 2\n+I 5 1\n~ 5",
        "+I 1 1 one\n+I 1 1 uno\n+I 4 2 two\n+I 5 1 one\n+I 5 1 uno\n~ 5",
    );
    let mut outer = harness(config(memory.clone(), true));
    check(
        &mut outer,
        "+I 1 null\n+I 2 9\n+I 3 3\n\n+I 4 null",
        "+I 1 null null\n+I 2 9 null\n+I 3 3 three\n+I 4 null null",
    );
    // Each key once a batch, NULL never.
    assert_eq!(*memory.log.lock().unwrap(), [vec![1, 9, 2], vec![9, 3]]);
}

#[test]
fn the_rest_of_the_condition_reads_both_sides() {
    // id < 3 OR name = 'uno', with k = 1 for all rows.
    let memory = Memory::new(None);
    let mut config = config(memory.clone(), true);
    let schema =
        Schema::new(vec![Field::new("id", DataType::Int32, false), Field::new("name", DataType::Utf8, true)]);
    let compare = |name: &str, i, op, value: ScalarValue| -> Arc<dyn PhysicalExpr> {
        Arc::new(BinaryExpr::new(Arc::new(Column::new(name, i)), op, Arc::new(Literal::new(value))))
    };
    config.filter = Some(JoinFilter {
        condition: Arc::new(BinaryExpr::new(
            compare("id", 0, Op::Gt, ScalarValue::Int32(Some(3))),
            Op::Or,
            compare("name", 1, Op::Eq, ScalarValue::from("uno")),
        )),
        columns: vec![(JoinSide::Left, 0), (JoinSide::Right, 1)],
        schema: Arc::new(schema),
    });
    let mut outer = harness(config.clone());
    check(
        &mut outer,
        "+I 1 1\n+I 2 2\n+I 4 1\n+I 5 null",
        "+I 1 1 uno\n+I 2 2 null\n+I 4 1 one\n+I 4 1 uno\n+I 5 null null",
    );
    config.keys = vec![Arc::new(Literal::new(ScalarValue::Int32(Some(1))))];
    config.outer = false;
    check(&mut harness(config), "+I 1 7\n+I 4 8", "+I 1 7 uno\n+I 4 8 one\n+I 4 8 uno");
    assert_eq!(memory.log.lock().unwrap().last(), Some(&vec![1]));
}

#[test]
fn retractions_are_looked_up_again() {
    let mut inner = harness(config(Memory::new(None), false));
    check(
        &mut inner,
        "+I 1 2\n\n-U 1 2\n+U 1 3\n\n-U 1 3\n+U 1 9\n\n-U 1 9\n+U 1 1\n\n-D 1 1",
        "+I 1 2 two
         -U 1 2 two
         +U 1 3 three
         -D 1 3 three
         +I 1 1 one
         +I 1 1 uno
         -D 1 1 one
         -D 1 1 uno",
    );
}

#[test]
fn halves_of_updates_stay_halves_only_beside_each_other() {
    // -U +U, each with one row; each with two; what lay between them found nothing.
    assert_eq!(codes_of(&[1, 2], &[0, 1], [None, None]), [1, 2]);
    assert_eq!(codes_of(&[1, 2], &[0, 0, 1, 1], [None, None]), [3, 3, 0, 0]);
    assert_eq!(codes_of(&[1, 2], &[0, 1, 1], [None, None]), [3, 0, 0]);
    assert_eq!(codes_of(&[1, 2, 1, 2], &[0, 3], [None, None]), [3, 0]);
    assert_eq!(codes_of(&[0, 3, 2], &[0, 1, 1], [None, None]), [0, 3, 3]);
    // Of the first or of the last row there is more in another part.
    assert_eq!(codes_of(&[1, 2], &[0, 1], [Some(0), None]), [3, 0]);
    assert_eq!(codes_of(&[1, 2], &[0, 1], [None, Some(1)]), [3, 0]);
    assert_eq!(codes_of(&[1, 2, 1, 2], &[0, 1, 2, 3], [None, Some(3)]), [1, 2, 3, 0]);
}

#[test]
fn updates_of_rows_that_may_have_several_are_deleted_and_inserted() {
    // One row for each half, but not the same one: its key is another.
    let config = LookupJoinConfig { keeps_updates: false, ..config(Memory::new(None), false) };
    check(
        &mut harness(config),
        "+I 1 2\n\n-U 1 2\n+U 1 3\n\n-U 1 3\n+U 1 1\n\n-D 1 1",
        "+I 1 2 two
         -D 1 2 two
         +I 1 3 three
         -D 1 3 three
         +I 1 1 one
         +I 1 1 uno
         -D 1 1 one
         -D 1 1 uno",
    );
}

#[test]
fn many_matches_come_in_parts() {
    #[derive(Debug)]
    struct Many;
    #[async_trait]
    impl LookupSource for Many {
        async fn lookup(&self, keys: &RecordBatch) -> Result<LookupRows> {
            let rows = 3 * BATCH_ROWS;
            let columns: Vec<ArrayRef> = vec![
                Arc::new(Int32Array::from_iter_values(0..rows as i32)),
                Arc::new(StringArray::from_iter_values((0..rows).map(|i| i.to_string()))),
            ];
            let batch = RecordBatch::try_new(right(), columns)?;
            LookupRows::of_keys(batch, &vec![0; rows], keys.num_rows())
        }
    }
    let mut operator = LookupJoinOperator::new(config(Arc::new(Many), true)).unwrap();
    let mut out = Output::new();
    let batch = parse_batch(&left(), &["+I 1 1", "+I 2 null", "+I 3 1"]);
    let mut progress = operator.process(0, batch, &mut out).unwrap();
    let (mut rows, mut nulls, mut calls) = (0, 0, 1);
    loop {
        for batch in out.drain() {
            assert!(batch.num_rows() <= BATCH_ROWS);
            rows += batch.num_rows();
            nulls += batch.rows.column(2).null_count();
        }
        if progress == Progress::Done {
            break;
        }
        progress = operator.resume(&mut out).unwrap();
        calls += 1;
    }
    assert_eq!((rows, nulls), (6 * BATCH_ROWS + 1, 1));
    assert!(calls > 2, "{calls}");
}

#[test]
fn a_failure_names_the_table() {
    let mut harness = harness(config(Memory::new(None), false));
    assert_eq!(failure(&mut harness, "+I 1 99"), "lookup in table t: 99 is too much");
}

type Log = Arc<Mutex<Vec<String>>>;

struct LogWriter(Log);

#[async_trait]
impl SinkWriter for LogWriter {
    async fn write(&mut self, batch: ChangeBatch) -> Result<()> {
        self.0.lock().unwrap().extend(format_batch(&batch));
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Timestamp) {
        let end = watermark == Timestamp::MAX;
        self.0.lock().unwrap().push(if end { "~end".to_owned() } else { format!("~{}", watermark.0) });
    }

    fn on_activity(&mut self, activity: Activity) {
        self.0.lock().unwrap().push(format!("{activity:?}"));
    }

    async fn prepare(&mut self, epoch: Epoch) -> Result<Option<Committable>> {
        self.0.lock().unwrap().push(format!("| {epoch}"));
        Ok(None)
    }
}

fn chain(config: LookupJoinConfig) -> (Chain, Log, Cancellation) {
    let log = Log::default();
    let metrics = JobMetrics::new();
    let tail = Tail::Sink(SinkDriver::new(Box::new(LogWriter(log.clone())), metrics.clone()));
    let operator: Box<dyn Operator> = Box::new(LookupJoinOperator::new(config).unwrap());
    let cancellation = Cancellation::new();
    (Chain::new(vec![("j".to_owned(), operator)], tail, metrics, cancellation.clone()), log, cancellation)
}

fn rows(line: &str) -> ChangeBatch {
    parse_batch(&left(), &[line])
}

fn seen(log: &Log) -> String {
    log.lock().unwrap().drain(..).collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn rows_come_out_in_order_and_watermarks_behind_them() {
    let memory = Memory::new(Some(0));
    let (mut chain, log, _) = chain(config(memory.clone(), false));
    chain.watermark(Timestamp(1)).await.unwrap();
    chain.batch(0, rows("+I 1 1")).await.unwrap();
    chain.watermark(Timestamp(2)).await.unwrap();
    chain.flush().await.unwrap();
    assert_eq!(seen(&log), "~1");
    memory.permit(1);
    chain.answered().await;
    chain.give_out().await.unwrap();
    assert_eq!(seen(&log), "+I 1 1 one, +I 1 1 uno, ~2");
    // A batch without a key has no answer to wait for, but waits its turn.
    chain.batch(0, rows("+I 2 2")).await.unwrap();
    memory.permit(2);
    chain.batch(0, rows("+I 3 3")).await.unwrap();
    chain.watermark(Timestamp(3)).await.unwrap();
    chain.end(Epoch(1)).await.unwrap();
    assert_eq!(seen(&log), "+I 2 2 two, +I 3 3 three, ~3, ~end, | 1");
}

#[tokio::test]
async fn a_barrier_waits_for_what_was_asked_before_it() {
    let memory = Memory::new(Some(0));
    let (mut chain, log, _) = chain(config(memory.clone(), true));
    chain.batch(0, rows("+I 1 2")).await.unwrap();
    chain.watermark(Timestamp(7)).await.unwrap();
    let permitting = memory.clone();
    let later = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        permitting.permit(1);
    });
    let keep = Some(SnapshotMode::Whole);
    let barrier = Barrier { epoch: Epoch(3), kind: BarrierKind::Checkpoint, keep };
    let (snapshots, _) = chain.barrier(barrier).await.unwrap();
    assert_eq!(seen(&log), "+I 1 2 two, ~7, | 3");
    assert!(snapshots.iter().all(|(_, tables)| tables.is_empty()));
    later.await.unwrap();
    // So does idleness.
    chain.batch(0, rows("+I 2 3")).await.unwrap();
    memory.permit(1);
    chain.change(Change { watermark: None, activity: Some(Activity::Idle) }).await.unwrap();
    assert_eq!(seen(&log), "+I 2 3 three, Idle");
}

#[tokio::test]
async fn so_many_wait_at_the_same_time() {
    let memory = Memory::new(Some(0));
    let (mut chain, log, _) = chain(config(memory.clone(), false));
    let permitting = memory.clone();
    let later = tokio::spawn(async move {
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(2)).await;
            permitting.permit(1);
        }
    });
    for i in 0..10 {
        chain.batch(0, rows(&format!("+I {i} 2"))).await.unwrap();
    }
    chain.end(Epoch(1)).await.unwrap();
    later.await.unwrap();
    let expected: Vec<String> = (0..10).map(|i| format!("+I {i} 2 two")).collect();
    assert_eq!(seen(&log), format!("{}, ~end, | 1", expected.join(", ")));
    assert_eq!(memory.most_in_flight.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn cancellation_gets_through_while_an_answer_hangs() {
    let memory = Memory::new(Some(0));
    let (mut chain, _, cancellation) = chain(config(memory.clone(), false));
    chain.batch(0, rows("+I 1 1")).await.unwrap();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        cancellation.cancel();
    });
    let barrier = Barrier { epoch: Epoch(1), kind: BarrierKind::Checkpoint, keep: None };
    let e = chain.barrier(barrier).await.unwrap_err();
    assert_eq!(e.kind(), crate::error::ErrorKind::Cancelled, "{e}");
    // Nobody waits for the answer any more: it is not worked for.
    assert_eq!(memory.in_flight.load(Ordering::Relaxed), 1);
    drop(chain);
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(Arc::strong_count(&memory), 1);
}

#[tokio::test]
async fn answers_that_take_too_long_and_failures_end_the_job() {
    let memory = Memory::new(Some(0));
    let timeout = Some(Duration::from_millis(10));
    let (mut chain, _, _) = chain(LookupJoinConfig { timeout, ..config(memory.clone(), false) });
    chain.batch(0, rows("+I 1 1")).await.unwrap();
    let e = chain.end(Epoch(1)).await.unwrap_err().to_string();
    assert!(e.contains("lookup in table t: no answer within 10 ms"), "{e}");
    assert!(e.contains("table.exec.async-lookup.timeout"), "{e}");

    let (mut chain, ..) = self::chain(LookupJoinConfig { capacity: 3, ..config(memory.clone(), false) });
    chain.batch(0, rows("+I 1 3")).await.unwrap();
    chain.batch(0, rows("+I 2 99")).await.unwrap();
    memory.permit(2);
    let e = chain.end(Epoch(1)).await.unwrap_err().to_string();
    assert!(e.contains("99 is too much"), "{e}");
}

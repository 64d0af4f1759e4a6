//! What a chain tells of time while its operators hold rows back.

use std::sync::{Arc, Mutex};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use async_trait::async_trait;

use super::batch;
use crate::edges::{Committable, SinkWriter};
use crate::error::Result;
use crate::runtime::chain::{Chain, Tail};
use crate::runtime::channel::Cancellation;
use crate::runtime::job::JobMetrics;
use crate::runtime::operator::{Operator, Output, Progress};
use crate::runtime::sink::SinkDriver;
use crate::stream::watermark::Change;
use crate::stream::{Activity, ChangeBatch, Epoch, Timestamp};

type Log = Arc<Mutex<Vec<String>>>;

/// Holds rows until a timer, a barrier or the end; tells what it hears of time.
struct Holder {
    name: &'static str,
    rows: Vec<ChangeBatch>,
    watermark: Timestamp,
    held: Option<Timestamp>,
    log: Log,
}

impl Holder {
    fn release(&mut self, out: &mut Output) -> Result<Progress> {
        self.held = None;
        self.rows.drain(..).for_each(|rows| out.emit(rows));
        Ok(Progress::Done)
    }

    fn log(&self, text: String) {
        self.log.lock().unwrap().push(format!("{} {text}", self.name));
    }
}

impl Operator for Holder {
    fn name(&self) -> &'static str {
        self.name
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, _out: &mut Output) -> Result<Progress> {
        self.held.get_or_insert(self.watermark);
        self.rows.push(batch);
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, watermark: Timestamp, _out: &mut Output) -> Result<Progress> {
        self.watermark = watermark;
        self.log(format!("~{}", shown(watermark)));
        Ok(Progress::Done)
    }

    fn output_watermark(&self) -> Option<Timestamp> {
        self.held
    }

    fn on_timer(&mut self, _now: Timestamp, out: &mut Output) -> Result<Progress> {
        self.release(out)
    }

    fn on_end(&mut self, out: &mut Output) -> Result<Progress> {
        self.log("end".to_owned());
        self.release(out)
    }

    fn drain(&mut self, out: &mut Output) -> Result<Progress> {
        self.release(out)
    }
}

struct LogWriter(Log);

#[async_trait]
impl SinkWriter for LogWriter {
    async fn write(&mut self, batch: ChangeBatch) -> Result<()> {
        let rows = batch.rows.column(0).as_primitive::<Int64Type>().values().to_vec();
        self.0.lock().unwrap().push(format!("{rows:?}"));
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Timestamp) {
        self.0.lock().unwrap().push(format!("~{}", shown(watermark)));
    }

    fn on_activity(&mut self, activity: Activity) {
        self.0.lock().unwrap().push(format!("{activity:?}"));
    }

    async fn prepare(&mut self, _epoch: Epoch) -> Result<Option<Committable>> {
        Ok(None)
    }
}

fn shown(watermark: Timestamp) -> String {
    if watermark == Timestamp::MAX { "end".to_owned() } else { watermark.0.to_string() }
}

fn chain(names: &[&'static str]) -> (Chain, Log) {
    let log = Log::default();
    let holder = |name: &&'static str| {
        let holder =
            Holder { name, rows: Vec::new(), watermark: Timestamp::MIN, held: None, log: log.clone() };
        (name.to_string(), Box::new(holder) as Box<dyn Operator>)
    };
    let metrics = JobMetrics::new();
    let tail = Tail::Sink(SinkDriver::new(Box::new(LogWriter(log.clone())), metrics.clone()));
    (Chain::new(names.iter().map(holder).collect(), tail, metrics, Cancellation::new()), log)
}

fn rows(v: i64) -> ChangeBatch {
    ChangeBatch::insert_only(batch(vec![v]))
}

#[tokio::test]
async fn a_watermark_waits_for_the_rows_before_it() {
    let (mut chain, log) = chain(&["a"]);
    chain.watermark(Timestamp(1)).await.unwrap();
    chain.batch(0, rows(1)).await.unwrap();
    chain.watermark(Timestamp(2)).await.unwrap();
    chain.batch(0, rows(2)).await.unwrap();
    chain.watermark(Timestamp(3)).await.unwrap();
    assert_eq!(log.lock().unwrap().join(" "), "a ~1 ~1 a ~2 a ~3");
    chain.timer(Timestamp(0)).await.unwrap();
    chain.watermark(Timestamp(4)).await.unwrap();
    assert_eq!(log.lock().unwrap().join(" "), "a ~1 ~1 a ~2 a ~3 [1] [2] ~3 a ~4 ~4");
}

#[tokio::test]
async fn each_operator_ends_before_those_behind_it_hear_of_the_end_of_time() {
    let (mut chain, log) = chain(&["a", "b"]);
    chain.batch(0, rows(1)).await.unwrap();
    chain.watermark(Timestamp(5)).await.unwrap();
    chain.end(Epoch(1)).await.unwrap();
    assert_eq!(log.lock().unwrap().join(" "), "a ~5 a ~end a end b ~5 b ~end b end [1] ~5 ~end");
}

#[tokio::test]
async fn idleness_comes_behind_what_was_held_back() {
    let (mut chain, log) = chain(&["a"]);
    chain.batch(0, rows(1)).await.unwrap();
    chain.change(Change { watermark: Some(Timestamp(5)), activity: Some(Activity::Idle) }).await.unwrap();
    assert_eq!(log.lock().unwrap().join(" "), "a ~5 [1] ~5 Idle");
}

//! SQL inside a program: queries in, Arrow batches out, over tables and functions that the program brings along.
//!
//! ```sh
//! cargo run --release --example embed
//! ```

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use tidelake::arrow::array::{
    ArrayRef, AsArray, Float64Array, ListArray, RecordBatch, StringArray, StructArray,
    TimestampMillisecondArray,
};
use tidelake::arrow::buffer::OffsetBuffer;
use tidelake::arrow::datatypes::{DataType, Field, Fields, Float64Type, Schema, SchemaRef, TimeUnit};
use tidelake::arrow::util::display::array_value_to_string;
use tidelake::arrow::util::pretty::pretty_format_batches;
use tidelake::edges::{ScanRequest, Source, SourceEvent, SourceReader, SplitState, project};
use tidelake::functions::user::UserFunction;
use tidelake::session::{Session, SessionOptions, SourceTable};
use tidelake::stream::ChangeBatch;
use tidelake::{Error, Result};
use tokio::sync::{Mutex, mpsc};

#[tokio::main]
async fn main() -> Result<()> {
    print!("{}", embed().await?);
    Ok(())
}

/// Everything below, as text.
pub async fn embed() -> Result<String> {
    let mut out = String::new();
    let mut session = Session::new(SessionOptions::default())?;
    batches(&mut session, &mut out).await?;
    changes(&mut session, &mut out).await?;
    live(&mut session, &mut out).await?;
    functions(&mut session, &mut out).await?;
    Ok(out)
}

/// A table in memory. All tables are bounded, so the query runs in batch.
async fn batches(session: &mut Session, out: &mut String) -> Result<()> {
    let rows =
        readings(&[("attic", 0, 21.5), ("cellar", 5, 12.0), ("attic", 30, 24.0), ("cellar", 40, 11.5)])?;
    session.register_table("history", SourceTable::from_batches(schema(), vec![rows])).await?;

    let sql =
        "SELECT sensor, COUNT(*) AS n, MAX(celsius) AS highest FROM history GROUP BY sensor ORDER BY sensor";
    let answer = session.query(sql).await?.collect().await?;
    let answer: Vec<RecordBatch> = answer.into_iter().map(|changes| changes.rows).collect();
    out.push_str(&format!("batch:\n{}\n", pretty_format_batches(&answer)?));
    Ok(())
}

/// The same table as a stream: the answer is a sequence of changes, here one for every row.
async fn changes(session: &mut Session, out: &mut String) -> Result<()> {
    session.set("execution.runtime-mode", "streaming")?;
    session.set("table.exec.mini-batch.size", "1")?;
    let query = session.query("SELECT sensor, MAX(celsius) AS highest FROM history GROUP BY sensor").await?;
    out.push_str("\nstreaming:\n");
    for changes in query.collect().await? {
        print_changes(&changes, out)?;
    }
    Ok(())
}

/// A source of the program that does not end by itself. Its windows come as soon as time has passed their end.
async fn live(session: &mut Session, out: &mut String) -> Result<()> {
    let (sender, receiver) = mpsc::channel(4);
    let source = Arc::new(LiveSource { receiver: Mutex::new(Some(receiver)) });
    let table = SourceTable::new(source).with_watermark("at", "`at` - INTERVAL '10' SECOND");
    session.register_table("live", table).await?;

    let sql = "SELECT window_end, COUNT(*) AS n, MAX(celsius) AS highest
        FROM TUMBLE(TABLE live, DESCRIPTOR(`at`), INTERVAL '1' MINUTE)
        GROUP BY window_start, window_end";
    let mut query = session.query(sql).await?;

    out.push_str("\nlive:\n");
    send(&sender, &[("attic", 0, 21.5), ("cellar", 20, 12.0)], out).await?;
    // At 75 s, less the ten seconds that rows may be late, the first minute is over.
    send(&sender, &[("attic", 75, 24.0)], out).await?;
    if let Some(first) = query.rows.next().await {
        print_changes(&first?, out)?;
    }
    send(&sender, &[("cellar", 80, 11.5)], out).await?;
    // Without a sender the source ends, and the query with it; `query.job.stop()` would end it too.
    drop(sender);
    for rest in query.collect().await? {
        print_changes(&rest, out)?;
    }
    Ok(())
}

/// Functions of the program: a value for each row, and rows for each row.
async fn functions(session: &mut Session, out: &mut String) -> Result<()> {
    let fahrenheit = UserFunction::builder("fahrenheit").parameter("celsius", "DOUBLE").strict();
    let fahrenheit = fahrenheit.scalar("DOUBLE", |args, _rows| {
        let celsius = args.first().ok_or_else(|| Error::internal("one argument is declared"))?;
        let values = celsius.as_primitive::<Float64Type>().unary(|c| c * 1.8 + 32.0);
        Ok(Arc::new(values as Float64Array) as ArrayRef)
    })?;
    session.register_function(fahrenheit)?;

    // A table function gives an array of rows: here one of a single column for each word.
    let words = UserFunction::builder("words").parameter("text", "STRING").strict();
    let words = words.table(&[("word", "STRING")], |args, _rows| {
        let texts = args.first().ok_or_else(|| Error::internal("one argument is declared"))?;
        let texts = texts.as_string::<i32>().iter().flatten();
        let split: Vec<Vec<&str>> = texts.map(|text| text.split_whitespace().collect()).collect();
        let fields = Fields::from(vec![Field::new("word", DataType::Utf8, true)]);
        let column: ArrayRef = Arc::new(StringArray::from(split.concat()));
        let rows = StructArray::try_new(fields.clone(), vec![column], None)?;
        let item = Arc::new(Field::new_list_field(DataType::Struct(fields), false));
        let offsets = OffsetBuffer::from_lengths(split.iter().map(Vec::len));
        Ok(Arc::new(ListArray::try_new(item, offsets, Arc::new(rows), None)?) as ArrayRef)
    })?;
    session.register_function(words)?;

    let sql = "SELECT sensor, word, fahrenheit(highest) AS f
        FROM (SELECT sensor, MAX(celsius) AS highest FROM history GROUP BY sensor),
        LATERAL TABLE(words(CONCAT('warm ', sensor))) AS w(word)
        WHERE word <> sensor ORDER BY sensor";
    session.set("execution.runtime-mode", "batch")?;
    let answer = session.query(sql).await?.collect().await?;
    let answer: Vec<RecordBatch> = answer.into_iter().map(|changes| changes.rows).collect();
    out.push_str(&format!("\nfunctions:\n{}\n", pretty_format_batches(&answer)?));
    Ok(())
}

/// Rows that come through a channel.
#[derive(Debug)]
struct LiveSource {
    receiver: Mutex<Option<mpsc::Receiver<RecordBatch>>>,
}

#[async_trait]
impl Source for LiveSource {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn bounded(&self) -> bool {
        false
    }

    async fn readers(
        &self,
        scan: ScanRequest,
        parallelism: usize,
        _restored: Option<Vec<SplitState>>,
    ) -> Result<Vec<Box<dyn SourceReader>>> {
        let used = || Error::unsupported("the readings of a channel can be read by one query only");
        let mut receiver = Some(self.receiver.lock().await.take().ok_or_else(used)?);
        let reader = |_| -> Box<dyn SourceReader> {
            // The first subtask reads; the others see a channel that has ended.
            let receiver = receiver.take().unwrap_or_else(|| mpsc::channel(1).1);
            Box::new(LiveReader { receiver, projection: scan.projection.clone() })
        };
        Ok((0..parallelism).map(reader).collect())
    }
}

struct LiveReader {
    receiver: mpsc::Receiver<RecordBatch>,
    projection: Option<Vec<usize>>,
}

#[async_trait]
impl SourceReader for LiveReader {
    async fn next(&mut self) -> Result<SourceEvent> {
        let Some(rows) = self.receiver.recv().await else { return Ok(SourceEvent::End) };
        let rows = project(&rows, self.projection.as_deref())?;
        Ok(SourceEvent::Batch { split: 0, batch: ChangeBatch::insert_only(rows) })
    }

    fn snapshot(&self) -> Result<Vec<SplitState>> {
        // A channel has no position to go back to.
        Ok(Vec::new())
    }
}

fn schema() -> SchemaRef {
    let at = DataType::Timestamp(TimeUnit::Millisecond, None);
    Arc::new(Schema::new(vec![
        Field::new("sensor", DataType::Utf8, false),
        Field::new("at", at, false),
        Field::new("celsius", DataType::Float64, false),
    ]))
}

/// A batch of sensor, second and temperature.
fn readings(rows: &[(&str, i64, f64)]) -> Result<RecordBatch> {
    let sensor: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.0)));
    let at: ArrayRef = Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|r| r.1 * 1000)));
    let celsius: ArrayRef = Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.2)));
    Ok(RecordBatch::try_new(schema(), vec![sensor, at, celsius])?)
}

async fn send(to: &mpsc::Sender<RecordBatch>, rows: &[(&str, i64, f64)], out: &mut String) -> Result<()> {
    out.push_str(&format!("{} sent\n", rows.len()));
    to.send(readings(rows)?).await.map_err(|_| Error::external("the query has ended"))
}

/// Kind and values of each row.
fn print_changes(changes: &ChangeBatch, out: &mut String) -> Result<()> {
    for row in 0..changes.num_rows() {
        let values = changes.rows.columns().iter().map(|c| array_value_to_string(c, row));
        let values = values.collect::<Result<Vec<_>, _>>()?;
        out.push_str(&format!("{} {}\n", changes.kind(row).symbol(), values.join("  ")));
    }
    Ok(())
}

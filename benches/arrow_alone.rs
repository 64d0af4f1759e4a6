//! What the libraries below do by themselves: the yardstick of `benches/run`.
//!
//! ```text
//! arrow_alone json FILE COLUMNS       decode JSON lines into batches of 8,192 rows; COLUMNS is `all` or a,b,c
//! arrow_alone parquet FILE COLUMNS    the same rows, held in memory, encoded as Parquet with zstd
//! arrow_alone topic BROKER NAME N     create a Kafka topic of N partitions for the measurements
//! arrow_alone tpch FOLDER SCALE       write the tables of TPC-H as text, columns separated by `|`
//! ```
//!
//! Prints one JSON object: rows, bytes of JSON, CPU seconds of the measured part (of this one thread).

#![allow(clippy::disallowed_methods, reason = "measures time")]
#![allow(clippy::indexing_slicing, reason = "a measurement that fails may panic")]

use std::error::Error;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const BATCH_ROWS: usize = 8192;

fn main() -> Result<()> {
    // `cargo bench` adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["json", file, columns] => json(file, columns),
        ["parquet", file, columns] => parquet(file, columns),
        ["topic", broker, name, partitions] => topic(broker, name, partitions.parse()?),
        ["tpch", folder, scale] => tpch(folder, scale.parse()?),
        _ => {
            println!(
                "usage: arrow_alone json|parquet FILE COLUMNS, topic BROKER NAME PARTITIONS, or tpch FOLDER SCALE"
            );
            Ok(())
        }
    }
}

/// The columns of the flights in `data/`, or some of them.
fn schema(columns: &str) -> Result<SchemaRef> {
    let ts = DataType::Timestamp(TimeUnit::Millisecond, None);
    let all = [
        ("sched_dep", ts),
        ("dep_time", DataType::Int32),
        ("dep_delay", DataType::Int32),
        ("arr_time", DataType::Int32),
        ("sched_arr_time", DataType::Int32),
        ("arr_delay", DataType::Int32),
        ("carrier", DataType::Utf8),
        ("flight", DataType::Int32),
        ("tailnum", DataType::Utf8),
        ("origin", DataType::Utf8),
        ("dest", DataType::Utf8),
        ("air_time", DataType::Int32),
        ("distance", DataType::Int32),
    ];
    let wanted: Vec<&str> = columns.split(',').collect();
    let fields: Vec<Field> = all
        .into_iter()
        .filter(|(name, _)| columns == "all" || wanted.contains(name))
        .map(|(name, ty)| Field::new(name, ty, true))
        .collect();
    if columns != "all" && fields.len() != wanted.len() {
        return Err(format!("unknown column in {columns}").into());
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// CPU seconds this thread has used so far.
fn cpu() -> Result<f64> {
    let mut text = String::new();
    File::open("/proc/thread-self/schedstat")?.read_to_string(&mut text)?;
    let nanos: u64 = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(nanos as f64 / 1e9)
}

fn report(rows: usize, bytes: u64, cpu: f64) {
    println!("{}", serde_json::json!({ "rows": rows, "bytes": bytes, "cpu": cpu }));
}

fn decode(file: &str, columns: &str, mut take: impl FnMut(RecordBatch) -> Result<()>) -> Result<()> {
    let input = BufReader::with_capacity(1 << 20, File::open(file)?);
    let reader = arrow_json::ReaderBuilder::new(schema(columns)?).with_batch_size(BATCH_ROWS).build(input)?;
    for batch in reader {
        take(batch?)?;
    }
    Ok(())
}

fn json(file: &str, columns: &str) -> Result<()> {
    let begin = cpu()?;
    let mut rows = 0;
    decode(file, columns, |batch| {
        rows += batch.num_rows();
        Ok(())
    })?;
    report(rows, std::fs::metadata(file)?.len(), cpu()? - begin);
    Ok(())
}

fn parquet(file: &str, columns: &str) -> Result<()> {
    let mut batches = Vec::new();
    decode(file, columns, |batch| {
        batches.push(batch);
        Ok(())
    })?;
    let begin = cpu()?;
    let properties =
        WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?)).build();
    let mut writer = ArrowWriter::try_new(std::io::sink(), schema(columns)?, Some(properties))?;
    let mut rows = 0;
    for batch in &batches {
        rows += batch.num_rows();
        writer.write(batch)?;
    }
    writer.close()?;
    report(rows, std::fs::metadata(file)?.len(), cpu()? - begin);
    Ok(())
}

fn topic(broker: &str, name: &str, partitions: i32) -> Result<()> {
    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
    let admin: AdminClient<_> = rdkafka::ClientConfig::new().set("bootstrap.servers", broker).create()?;
    let new = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for result in runtime.block_on(admin.create_topics([&new], &AdminOptions::new()))? {
        result.map_err(|(topic, code)| format!("{topic}: {code}"))?;
    }
    Ok(())
}

/// The eight tables, a file each.
fn tpch(folder: &str, scale: f64) -> Result<()> {
    use tpchgen::generators as g;
    fn write<T: std::fmt::Display>(folder: &str, name: &str, rows: impl Iterator<Item = T>) -> Result<()> {
        let mut out = BufWriter::new(File::create(format!("{folder}/{name}.csv"))?);
        for row in rows {
            // Each line ends with a delimiter too many.
            writeln!(out, "{}", row.to_string().trim_end_matches('|'))?;
        }
        Ok(out.flush()?)
    }
    write(folder, "region", g::RegionGenerator::default().iter())?;
    write(folder, "nation", g::NationGenerator::default().iter())?;
    write(folder, "supplier", g::SupplierGenerator::new(scale, 1, 1).iter())?;
    write(folder, "part", g::PartGenerator::new(scale, 1, 1).iter())?;
    write(folder, "partsupp", g::PartSuppGenerator::new(scale, 1, 1).iter())?;
    write(folder, "customer", g::CustomerGenerator::new(scale, 1, 1).iter())?;
    write(folder, "orders", g::OrderGenerator::new(scale, 1, 1).iter())?;
    write(folder, "lineitem", g::LineItemGenerator::new(scale, 1, 1).iter())
}

//! The connector `filesystem`: files of a local disk or an S3-compatible store as a table.
//!
//! ```text
//!  path ─► Location ─► Discovery ─► files ─► splits ─► TextSplit │ ParquetSplit ─► Layout ─► batches
//!          local, s3   folders,              queue     read ahead, decode          partition and metadata columns
//!                      patterns
//!                      └─► `scan` (batch, Parquet) ─► DataFusion's own source, where it gives what the readers give
//!  rows ─► FileSinkWriter ─► hidden part files ─► committables ─► FileCommitter ─► visible files
//! ```
//!
//! | option | meaning |
//! |---|---|
//! | `path` | file, folder (read at any depth) or pattern; relative paths start at the working directory; `file://`, `s3://bucket/…`; pipes, standard input as `/dev/stdin` |
//! | `format` | `json`, `csv`, `raw`, `debezium-json`, `canal-json`, `maxwell-json`, `ogg-json`, `parquet`; `.gz` and `.zst` files are unpacked for all but the last |
//! | `source.monitor-interval` | look for new files that often: the table never ends |
//! | `source.path.regex-pattern` | read only files whose whole path matches |
//! | `partition.default-name` | folder of NULL in partition columns |
//! | `sink.rolling-policy.file-size`, `.rollover-interval` | when to begin a new file |
//! | `sink.partition-commit.policy.kind` = `success-file`, `.success-file.name` | mark partitions that are complete |
//! | `sink.partition-commit.trigger`, `.delay`, `.watermark-time-zone` | when they are: some time after they were begun, or when the watermark passes the time they stand for |
//! | `partition.time-extractor.timestamp-pattern`, `.timestamp-formatter` | the time a partition stands for: `$day $hour:00:00` |
//! | `lookup.full-cache.periodic-reload.interval` | how often a table that is looked up is read again; without it once |
//! | `s3.endpoint`, `s3.access-key`, `s3.secret-key`, `s3.region`, `s3.path.style.access` | for `s3://`; also by SET, or as AWS_* in the environment |
//!
//! Names that begin with `_` or `.` are never read. Files of change messages are read one after the other by name, by one
//! reader: the changes of a row have to stay in order.

mod commit;
mod discover;
mod layout;
mod location;
mod monitor;
mod parquet;
#[cfg(test)]
mod parquet_tests;
mod part;
mod partition;
mod pipe;
mod scan;
mod sink;
#[cfg(test)]
mod sink_tests;
mod source;
mod split;
#[cfg(test)]
mod tests;
mod text;
mod trigger;

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use regex::Regex;

use self::discover::Discovery;
use self::layout::Layout;
use self::location::Location;
use self::monitor::Monitor;
use self::partition::Partitioning;
pub use self::scan::{filter_on_views, row_widths};
pub use self::sink::FilesystemSink;
use self::sink::SinkOptions;
pub use self::source::FilesystemSource;
use crate::catalog::ResolvedTable;
use crate::connectors::ConnectorFactory;
use crate::edges::lookup::LookupCache;
use crate::edges::{ConnectorEnv, Sink, Source};
use crate::error::{Error, Result, ResultExt};
use crate::formats::parquet::ParquetFormat;
use crate::formats::{RECORD_FORMATS, RecordFormat, record_format};
use crate::options::Options;

/// What the files hold.
#[derive(Debug, Clone)]
enum FileFormat {
    /// Records one after the other.
    Records(Arc<dyn RecordFormat>),
    /// Row groups.
    Parquet(Arc<ParquetFormat>),
}

/// Makes tables of files.
#[derive(Debug, Default)]
pub struct FilesystemFactory;

impl ConnectorFactory for FilesystemFactory {
    fn identifier(&self) -> &'static str {
        "filesystem"
    }

    fn source(&self, table: &ResolvedTable, env: &ConnectorEnv) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(source(table, env)?))
    }

    fn sink(&self, table: &ResolvedTable, env: &ConnectorEnv) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(sink(table, env)?))
    }
}

/// Everything a table says of itself; a table may be read and written, so all options are looked at for both.
struct Parsed {
    table: String,
    location: Location,
    partitioning: Partitioning,
    regex: Option<Regex>,
    monitor: Option<Duration>,
    lookup: LookupCache,
    format: FileFormat,
    extension: String,
    sink: SinkOptions,
}

fn parse(table: &ResolvedTable, env: &ConnectorEnv) -> Result<Parsed> {
    let options = Options::new(&table.def.path, "filesystem", &table.options);
    let location = Location::new(&options.require("path")?, &options, env)?;
    let partitioning = Partitioning::new(table, &options)?;
    let regex = match options.take("source.path.regex-pattern") {
        Some(text) => Some(
            Regex::new(&format!("^(?:{text})$"))
                .map_err(|_| options.invalid("source.path.regex-pattern", &text, "a regular expression"))?,
        ),
        None => None,
    };
    let monitor = options.duration("source.monitor-interval")?;
    let lookup = LookupCache::parse(&options, false)?;
    let sink = SinkOptions::new(&options, &partitioning)?;
    let file_fields: Vec<_> = table
        .physical
        .fields()
        .iter()
        .filter(|f| !partitioning.columns.iter().any(|p| p.name() == f.name()))
        .cloned()
        .collect();
    if file_fields.is_empty() && !partitioning.columns.is_empty() {
        return Err(Error::validation(format!(
            "table {}: every column is a partition column, nothing is left for the files",
            table.def.path
        )));
    }
    let name = options.require("format")?;
    let format = file_format(&name, &options, Arc::new(Schema::new(file_fields)))
        .context(|| format!("table {}", table.def.path))?;
    options.finish()?;
    Ok(Parsed {
        table: table.def.path.to_string(),
        location,
        partitioning,
        regex,
        monitor,
        lookup,
        format,
        extension: format!(
            ".{}",
            match name.as_str() {
                "raw" => "txt",
                change if change.ends_with("-json") => "json",
                other => other,
            }
        ),
        sink,
    })
}

fn source(table: &ResolvedTable, env: &ConnectorEnv) -> Result<FilesystemSource> {
    let parsed = parse(table, env)?;
    Ok(FilesystemSource {
        table: parsed.table,
        layout: Layout::new(table, &parsed.partitioning)?,
        partitioning: parsed.partitioning,
        discovery: Discovery { location: parsed.location, regex: parsed.regex },
        format: parsed.format,
        monitor: parsed.monitor.map(|interval| Monitor {
            interval,
            patience: monitor::PATIENCE,
            notices: env.notices.clone(),
        }),
        lookup: parsed.lookup,
        split_bytes: FilesystemSource::SPLIT_BYTES,
    })
}

fn sink(table: &ResolvedTable, env: &ConnectorEnv) -> Result<FilesystemSink> {
    let parsed = parse(table, env)?;
    if let Some(column) = table.metadata.iter().find(|m| !m.read_only) {
        return Err(Error::validation(format!(
            "table {}: the metadata column `{}` cannot be written",
            parsed.table,
            column.field.name()
        ))
        .hint("declare it as VIRTUAL"));
    }
    let schema = table.sink_schema();
    let index = |name: &str| {
        schema.index_of(name).map_err(|_| Error::internal(format!("the sink has no column `{name}`")))
    };
    let partition_columns =
        parsed.partitioning.columns.iter().map(|f| index(f.name())).collect::<Result<Vec<usize>>>()?;
    let file_columns = (0..schema.fields().len()).filter(|i| !partition_columns.contains(i)).collect();
    Ok(FilesystemSink {
        table: parsed.table,
        primary_key: table.sink_primary_key(),
        schema,
        location: parsed.location,
        partitioning: parsed.partitioning,
        partition_columns,
        file_columns,
        format: parsed.format,
        extension: parsed.extension,
        options: parsed.sink,
    })
}

fn file_format(name: &str, options: &Options, schema: SchemaRef) -> Result<FileFormat> {
    if name == "parquet" {
        return Ok(FileFormat::Parquet(Arc::new(ParquetFormat::new(options, "parquet.", schema)?)));
    }
    if !RECORD_FORMATS.contains(&name) {
        let expected = format!("one of {}, parquet", RECORD_FORMATS.join(", "));
        return Err(options.invalid("format", name, &expected));
    }
    Ok(FileFormat::Records(record_format(name, options, &format!("{name}."), schema)?))
}

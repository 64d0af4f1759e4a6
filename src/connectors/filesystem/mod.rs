//! The connector `filesystem`: files of a local disk or an S3-compatible store as a table.
//!
//! ```text
//!  path ─► Location ─► Discovery ─► files ─► splits ─► TextSplit │ ParquetSplit ─► Layout ─► batches
//!          local, s3   folders,              queue     read ahead, decode          partition and metadata columns
//!                      patterns
//!  rows ─► FileSinkWriter ─► hidden part files ─► committables ─► FileCommitter ─► visible files
//! ```
//!
//! | option | meaning |
//! |---|---|
//! | `path` | file, folder (read at any depth) or pattern; relative paths start at the working directory; `file://`, `s3://bucket/…` |
//! | `format` | `json`, `csv`, `raw`, `parquet`; `.gz` and `.zst` files are unpacked for the first three |
//! | `source.monitor-interval` | look for new files that often: the table never ends |
//! | `source.path.regex-pattern` | read only files whose whole path matches |
//! | `partition.default-name` | folder of NULL in partition columns |
//! | `sink.rolling-policy.file-size`, `.rollover-interval` | when to begin a new file |
//! | `s3.endpoint`, `s3.access-key`, `s3.secret-key`, `s3.region`, `s3.path.style.access` | for `s3://`; also by SET, or as AWS_* in the environment |
//!
//! Names that begin with `_` or `.` are never read.

mod discover;
mod layout;
mod location;
mod partition;
mod source;
mod split;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;

use regex::Regex;

use self::discover::Discovery;
use self::layout::Layout;
use self::location::Location;
use self::partition::Partitioning;
pub use self::source::FilesystemSource;
use crate::catalog::ResolvedTable;
use crate::connectors::options::Options;
use crate::connectors::{ConnectorEnv, ConnectorFactory, Sink, Source, not_a};
use crate::error::Result;
use crate::formats::{RecordFormat, record_format};

/// What the files hold.
#[derive(Debug, Clone)]
enum FileFormat {
    /// Records one after the other.
    Records(Arc<dyn RecordFormat>),
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

    fn sink(&self, table: &ResolvedTable, _env: &ConnectorEnv) -> Result<Arc<dyn Sink>> {
        Err(not_a("sink", table, "filesystem"))
    }
}

fn source(table: &ResolvedTable, env: &ConnectorEnv) -> Result<FilesystemSource> {
    let options = Options::new(&table.def.path, "filesystem", &table.options);
    let location = Location::new(&options.require("path")?, &options, env)?;
    let partitioning = Partitioning::new(table, &options)?;
    let layout = Layout::new(table, &partitioning)?;
    let regex = match options.take("source.path.regex-pattern") {
        Some(text) => Some(
            Regex::new(&format!("^(?:{text})$"))
                .map_err(|_| options.invalid("source.path.regex-pattern", &text, "a regular expression"))?,
        ),
        None => None,
    };
    let monitor = options.duration("source.monitor-interval")?;
    let format = file_format(&options, layout.file_schema.clone())?;
    options.finish()?;
    Ok(FilesystemSource {
        table: table.def.path.to_string(),
        layout,
        partitioning,
        discovery: Discovery { location, regex },
        format,
        monitor,
        split_bytes: FilesystemSource::SPLIT_BYTES,
    })
}

fn file_format(options: &Options, schema: arrow::datatypes::SchemaRef) -> Result<FileFormat> {
    let name = options.require("format")?;
    Ok(FileFormat::Records(record_format(&name, options, &format!("{name}."), schema)?))
}

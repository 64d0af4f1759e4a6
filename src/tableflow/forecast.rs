//! What files a flow will make at the rate at which records come now.
//!
//! ```text
//!  offsets an hour ago ─► records an hour ─┐
//!  rows of a sample as Parquet ─► bytes ───┼─► files an hour, and how large they are
//!  commit interval, tasks ─────────────────┘
//! ```

use std::time::Duration;

use arrow::array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use crate::error::Result;

/// How far is looked back for the rate.
pub(super) const SPAN: Duration = Duration::from_secs(3600);

/// The files of an hour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Forecast {
    /// Records that have come within [`SPAN`].
    pub records: u64,
    /// Data files that their commits make.
    pub files: u64,
    /// Bytes of each, if a row is known to take so many.
    pub bytes: Option<u64>,
    /// The table has partitions: each that has rows has files of its own.
    pub is_partitioned: bool,
}

/// For so many records an hour, a commit each `interval` by `tasks`, and bytes of a row.
pub(super) fn forecast(records: u64, interval: Duration, tasks: u64, row: Option<f64>) -> Forecast {
    let commits = SPAN.as_secs_f64() / interval.as_secs_f64().max(0.001);
    // A commit without rows makes no file, and a row is in one.
    let files = ((commits * tasks.max(1) as f64).ceil() as u64).min(records);
    let bytes = row.filter(|_| files > 0).map(|row| (records as f64 / files as f64 * row) as u64);
    Forecast { records, files, bytes, is_partitioned: false }
}

impl std::fmt::Display for Forecast {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.records == 0 {
            return f.write_str("no record has come within the last hour");
        }
        write!(f, "about {} records an hour: {} files", self.records, self.files)?;
        let bytes = match self.is_partitioned {
            true => {
                f.write_str(" for each partition of the table that all of them have rows for")?;
                None
            }
            false => self.bytes,
        };
        match bytes {
            Some(bytes) => write!(f, " of {} each, before they are put together", size(bytes)),
            None => f.write_str(", before they are put together"),
        }
    }
}

/// Bytes in words.
fn size(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} bytes"),
        10_000..=9_999_999 => format!("{} KB", bytes / 1_000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

/// Bytes that a row of a sample takes in a file, with its share of what every file has; `None` without rows.
///
/// # Errors
/// Of the encoder.
pub(super) fn row_size(rows: &[RecordBatch]) -> Result<Option<f64>> {
    let count: usize = rows.iter().map(RecordBatch::num_rows).sum();
    let Some(first) = rows.first().filter(|_| count > 0) else { return Ok(None) };
    let compression = Compression::ZSTD(parquet::basic::ZstdLevel::default());
    let properties = WriterProperties::builder().set_compression(compression).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), first.schema(), Some(properties))?;
    for batch in rows {
        writer.write(batch)?;
    }
    Ok(Some(writer.into_inner()?.len() as f64 / count as f64))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    #[test]
    fn rates_become_files() {
        let minute = Duration::from_secs(60);
        assert_eq!(forecast(0, minute, 4, None).to_string(), "no record has come within the last hour");
        assert_eq!(
            forecast(3_600_000, minute, 1, Some(20.0)).to_string(),
            "about 3600000 records an hour: 60 files of 1200 KB each, before they are put together"
        );
        assert_eq!(
            forecast(7, minute, 1, Some(900.0)),
            Forecast { records: 7, files: 7, bytes: Some(900), is_partitioned: false }
        );
        let partitioned = Forecast { is_partitioned: true, ..forecast(7_000, minute, 1, Some(900.0)) };
        assert_eq!(
            partitioned.to_string(),
            "about 7000 records an hour: 60 files for each partition of the table that all of them have rows for, before they are put together"
        );
        assert_eq!(forecast(1_000, minute, 2, None).files, 120);
        assert_eq!(forecast(1_000, Duration::ZERO, 1, None).files, 1_000);
        assert!(forecast(u64::MAX, minute, 1, Some(1e9)).to_string().contains("MB"));
    }

    #[test]
    fn rows_are_weighed_as_they_are_stored() {
        assert_eq!(row_size(&[]).unwrap(), None);
        let n: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1000));
        let batch = RecordBatch::try_from_iter([("n", n)]).unwrap();
        assert_eq!(row_size(&[batch.slice(0, 0)]).unwrap(), None);
        let size = row_size(&[batch]).unwrap().unwrap();
        assert!(size > 0.5 && size < 20.0, "{size}");
    }
}

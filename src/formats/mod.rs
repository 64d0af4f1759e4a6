//! Formats: bytes to rows and back.
//!
//! | format | records (Kafka values) | files |
//! |---|---|---|
//! | json | yes | one object a line |
//! | csv | yes | one record a line |
//! | raw | yes | one line a row |
//! | parquet | no | yes |

use arrow::array::RecordBatch;

use crate::error::{Error, Result};

/// A record that could not be decoded.
#[derive(Debug)]
pub struct BadRecord {
    /// Index among the records pushed since the last flush.
    pub record: usize,
    /// Why.
    pub error: Error,
}

/// Rows decoded from pushed records.
#[derive(Debug)]
pub struct Decoded {
    /// The rows.
    pub rows: RecordBatch,
    /// For each row the index of its record among those pushed since the last flush; `None` when record `i` gave row `i`.
    pub records: Option<Vec<u32>>,
    /// Records (or parts of them) dropped or nulled by `ignore-parse-errors`.
    pub skipped: u64,
}

/// Decodes self-contained records such as Kafka values into batches.
pub trait RecordDecoder: Send {
    /// Takes one record. Cheap: copies the bytes, decodes at [`RecordDecoder::flush`].
    fn push(&mut self, record: &[u8]);

    /// Records pushed and not yet flushed.
    fn pending(&self) -> usize;

    /// Decodes everything pushed since the last flush.
    ///
    /// # Errors
    /// The first bad record, unless parse errors are ignored. The decoder is empty afterwards.
    fn flush(&mut self) -> Result<Decoded, BadRecord>;
}

/// Encodes rows as self-contained records.
pub trait RecordEncoder: Send {
    /// Appends the encoded rows to `buffer` and the end offset of each row's record to `ends`.
    ///
    /// # Errors
    /// Data for values the format cannot hold.
    fn encode(&mut self, rows: &RecordBatch, buffer: &mut Vec<u8>, ends: &mut Vec<usize>) -> Result<()>;
}

//! Decoding record by record, for files and for pushed records alike.

use std::io::BufRead;

use arrow::array::RecordBatch;

use super::confluent::UnknownFields;
use super::{BadRecord, Decoded, RecordDecoder};
use crate::error::Result;
use crate::stream::RowKinds;

/// Where a record ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Length of the record itself.
    pub record: usize,
    /// Length with its terminator.
    pub total: usize,
}

/// Decodes records one after the other into a batch. A record adds all its rows or none.
pub trait RowDecoder: Send {
    /// The first record of `data`; `None` if it does not end within `data` and more may follow. `end`: nothing follows,
    /// so the last record needs no terminator. `data` is not empty.
    fn frame(&mut self, data: &[u8], end: bool) -> Option<Frame> {
        frame_line(data, end)
    }

    /// Decodes one record.
    ///
    /// # Errors
    /// Data, unless parse errors are ignored. The batch is as before then.
    fn decode(&mut self, record: &[u8]) -> Result<()>;

    /// Rows of the batch so far.
    fn rows(&self) -> usize;

    /// About the bytes of the batch so far.
    fn bytes(&self) -> usize;

    /// Records given up since the last call, because parse errors are ignored.
    fn take_skipped(&mut self) -> u64;

    /// Fields that became NULL since the last call for the same reason.
    fn take_nulled(&mut self) -> u64 {
        0
    }

    /// Records since the last call of which a field has no column and stands in the one for the rest.
    fn take_rested(&mut self) -> u64 {
        0
    }

    /// The batch so far; the next one is empty.
    ///
    /// # Errors
    /// Data if a column is too large.
    fn finish(&mut self) -> Result<RecordBatch>;

    /// The kinds of the rows that [`RowDecoder::finish`] gave last, one code a row; `None` if all are `+I`.
    fn take_kinds(&mut self) -> Option<RowKinds> {
        None
    }
}

/// A line ends at `\n`; a `\r` before it is not part of it.
pub(crate) fn frame_line(data: &[u8], end: bool) -> Option<Frame> {
    let mut rest = data;
    // `skip_until` is the standard library's way to a vectorized search for one byte.
    let total = rest.skip_until(b'\n').unwrap_or(data.len());
    let line = data.get(..total).unwrap_or(data);
    match line.strip_suffix(b"\n") {
        Some(line) => Some(Frame { record: line.strip_suffix(b"\r").unwrap_or(line).len(), total }),
        None if end => Some(Frame { record: line.strip_suffix(b"\r").unwrap_or(line).len(), total }),
        None => None,
    }
}

/// [`RecordDecoder`] over a [`RowDecoder`]: keeps the pushed bytes until the flush.
pub(crate) struct BufferedRecords {
    decoder: Box<dyn RowDecoder>,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    lists_bad: bool,
}

impl BufferedRecords {
    pub(crate) fn new(decoder: Box<dyn RowDecoder>) -> Self {
        BufferedRecords { decoder, bytes: Vec::new(), ends: Vec::new(), lists_bad: false }
    }
}

impl RecordDecoder for BufferedRecords {
    fn push(&mut self, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        self.ends.push(self.bytes.len());
    }

    fn pending(&self) -> usize {
        self.ends.len()
    }

    fn list_bad(&mut self) {
        self.lists_bad = true;
    }

    fn flush(&mut self) -> Result<Decoded, BadRecord> {
        let decoded = decode_all(&mut *self.decoder, &self.bytes, &self.ends, self.lists_bad);
        self.bytes.clear();
        self.ends.clear();
        if decoded.is_err() {
            // Rows of the records before the bad one are of no use to the caller.
            self.decoder.finish().ok();
            self.decoder.take_kinds();
        }
        decoded
    }
}

fn decode_all(
    decoder: &mut dyn RowDecoder,
    bytes: &[u8],
    ends: &[usize],
    lists_bad: bool,
) -> Result<Decoded, BadRecord> {
    let mut start = 0;
    let mut rows = 0;
    let mut bad = Vec::new();
    // Filled from the first record on that does not give exactly one row.
    let mut records: Option<Vec<u32>> = None;
    for (record, end) in ends.iter().enumerate() {
        let data = bytes.get(start..*end).unwrap_or_default();
        start = *end;
        if let Err(error) = decoder.decode(data) {
            let record =
                BadRecord { record, error, bytes: if lists_bad { data.to_vec() } else { Vec::new() } };
            // That the columns are too few is no defect of the record.
            if !lists_bad || UnknownFields::of(&record.error).is_some() {
                return Err(record);
            }
            bad.push(record);
        }
        let now = decoder.rows();
        if records.is_none() && now != rows + 1 {
            records = Some((0..rows as u32).collect());
        }
        if let Some(records) = &mut records {
            records.resize(now, record as u32);
        }
        rows = now;
    }
    let last = ends.len().saturating_sub(1);
    let rows = decoder.finish().map_err(|error| BadRecord { record: last, error, bytes: Vec::new() })?;
    Ok(Decoded {
        rows,
        kinds: decoder.take_kinds(),
        records,
        // Those that are listed are not skipped.
        skipped: decoder.take_skipped().saturating_sub(bad.len() as u64),
        nulled: decoder.take_nulled(),
        rested: decoder.take_rested(),
        bad,
    })
}

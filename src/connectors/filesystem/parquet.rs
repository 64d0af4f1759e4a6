//! Reading one split of a Parquet file: the row groups that begin within it.
//!
//! ```text
//!  blocking pool:  footer ─► row groups ─► decode ─► batches ─┐ channel of 2
//!  reader:                                            batch ◄─┘
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::{Buf, Bytes};
use datafusion::logical_expr::Expr;
use parquet::file::reader::{ChunkReader, Length};
use tokio::sync::mpsc;

use super::location::{FileEntry, Store};
use super::split::{Position, Split, SplitFile};
use crate::edges::SourceMetrics;
use crate::error::guard::guarded;
use crate::error::{Error, Result};
use crate::formats::parquet::ParquetFile;

/// What to read of every file.
#[derive(Debug, Clone)]
pub(super) struct ParquetScan {
    /// The projected columns.
    pub(super) schema: SchemaRef,
    /// All columns that filters may name.
    pub(super) table: SchemaRef,
    pub(super) filters: Arc<[Expr]>,
    pub(super) batch_rows: usize,
}

/// A batch and the position after it.
struct Piece {
    batch: RecordBatch,
    group: u64,
    rows: u64,
}

/// Reader of one split.
pub(super) struct ParquetSplit {
    pieces: mpsc::Receiver<Result<Piece>>,
    committed: Option<Position>,
    end: u64,
}

impl ParquetSplit {
    /// Starts reading.
    pub(super) fn open(split: &Split, store: Store, scan: ParquetScan, metrics: Arc<SourceMetrics>) -> Self {
        let (sender, pieces) = mpsc::channel(2);
        let task = split.clone();
        tokio::task::spawn_blocking(move || {
            let read = guarded(|| pump(&store, &task, &scan, &metrics, &sender));
            if let Err(e) = read {
                let shown = store.display(&task.file.entry.path);
                sender.blocking_send(Err(e.context(format!("file {shown}")))).ok();
            }
        });
        ParquetSplit { pieces, committed: split.resume, end: split.end }
    }

    /// The next batch; `None` at the end of the split. Cancel-safe.
    ///
    /// # Errors
    /// Data for a damaged file.
    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let Some(piece) = self.pieces.recv().await else { return Ok(None) };
        let Piece { batch, group, rows } = piece?;
        self.committed = Some(Position { offset: group, rows, end: self.end, ..Position::default() });
        Ok(Some(batch))
    }

    /// Where to go on after the last batch; `None` if there was none.
    pub(super) fn position(&self) -> Option<Position> {
        self.committed
    }
}

fn pump(
    store: &Store,
    split: &Split,
    scan: &ParquetScan,
    metrics: &SourceMetrics,
    sender: &mpsc::Sender<Result<Piece>>,
) -> Result<()> {
    read(store, split, scan, metrics, |piece| sender.blocking_send(Ok(piece)).is_ok())
}

/// Reads a whole file for nothing but the error that it has.
///
/// # Errors
/// Data for a damaged file.
pub(super) fn reread(store: &Store, file: &Arc<SplitFile>, scan: &ParquetScan) -> Result<()> {
    let split = Split { file: Arc::clone(file), start: 0, end: u64::MAX, resume: None };
    guarded(|| read(store, &split, scan, &SourceMetrics::default(), |_| true))
}

/// Hands out the rows of a split until nobody wants more.
fn read(
    store: &Store,
    split: &Split,
    scan: &ParquetScan,
    metrics: &SourceMetrics,
    mut hand_out: impl FnMut(Piece) -> bool,
) -> Result<()> {
    let entry = &split.file.entry;
    let input = StoreFile::new(store.clone(), entry);
    let file = ParquetFile::open(input, scan.schema.clone())?;
    let resume = split.resume.unwrap_or_default();
    let mut pruned = entry.size;
    let groups = file.row_groups(split.start, split.end, &scan.filters, &scan.table);
    for group in groups.into_iter().filter(|g| *g as u64 >= resume.offset) {
        let mut rows = if group as u64 == resume.offset { resume.rows } else { 0 };
        // Where it is damaged is looked for when it is known to be.
        let damaged = |e: Error| match file.damage(group) {
            Some(place) => e.context(format!("row group {group}, {place}")),
            None => e.context(format!("row group {group}")),
        };
        let mut reader = file.read(group, rows, scan.batch_rows).map_err(damaged)?;
        while let Some(batch) = reader.next().map_err(damaged)? {
            rows += batch.num_rows() as u64;
            if !hand_out(Piece { batch, group: group as u64, rows }) {
                return Ok(());
            }
        }
        let bytes = file.row_group_bytes(group).min(pruned);
        pruned -= bytes;
        metrics.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
    // A whole file that is done counts with its footer and what was not looked at.
    if split.end == u64::MAX && split.start == 0 {
        metrics.bytes.fetch_add(pruned, Ordering::Relaxed);
    }
    Ok(())
}

/// A file as the Parquet reader wants it.
#[derive(Debug, Clone)]
pub(super) struct StoreFile {
    store: Store,
    path: Arc<str>,
    size: u64,
}

impl StoreFile {
    pub(super) fn new(store: Store, entry: &FileEntry) -> Self {
        StoreFile { store, path: entry.path.as_str().into(), size: entry.size }
    }

    /// Whether it is cheap to read a little of it.
    pub(super) fn is_local(&self) -> bool {
        matches!(self.store, Store::Local)
    }
}

impl Length for StoreFile {
    fn len(&self) -> u64 {
        self.size
    }
}

/// Bytes fetched at once when the reader does not say how many it wants.
const PIECE: u64 = 1 << 20;

/// Sequential reads in pieces.
pub(super) struct PieceReader {
    file: StoreFile,
    at: u64,
    piece: Bytes,
}

impl io::Read for PieceReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            let n = PIECE.min(self.file.size.saturating_sub(self.at));
            if n == 0 {
                return Ok(0);
            }
            self.piece = self.file.store.read_range(&self.file.path, self.at, n as usize)?;
            self.at += n;
        }
        (&mut self.piece).reader().read(out)
    }
}

impl ChunkReader for StoreFile {
    type T = PieceReader;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(PieceReader { file: self.clone(), at: start, piece: Bytes::new() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        Ok(self.store.read_range(&self.path, start, length)?)
    }
}

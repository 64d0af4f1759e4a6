//! Reading one split of a file of records.
//!
//! ```text
//!  blocking pool:  file ─► (gunzip, unzstd) ─► chunks ─┐ channel of 2
//!  reader:         chunk ─► frame ─► decode ─► batch ◄─┘
//! ```
//!
//! A thread of the blocking pool reads ahead while the reader decodes. Chunks are recycled: fresh memory costs more than
//! reading into it. Every chunk leaves room before its bytes for the beginning of a record that the chunk before it
//! ended in.

use std::io::{BufReader, Read};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use super::location::Store;
use super::split::{Position, Split};
use crate::edges::SourceMetrics;
use crate::error::guard::guarded;
use crate::error::{Error, Result, ResultExt};
use crate::formats::{RecordFormat, RowDecoder};
use crate::stream::BATCH_BYTES;

/// Bytes per chunk.
const CHUNK: usize = 512 << 10;
/// Room before the bytes of a chunk.
const HEAD: usize = 64 << 10;
/// Beyond the end of the split only its last record is wanted.
const TAIL_CHUNK: usize = 64 << 10;
/// Longest record.
const MAX_RECORD: usize = 1 << 30;

/// How a file is compressed, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    pub(super) fn of(path: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
        if name.ends_with(".gz") || name.ends_with(".gzip") {
            Compression::Gzip
        } else if name.ends_with(".zst") || name.ends_with(".zstd") {
            Compression::Zstd
        } else {
            Compression::None
        }
    }

    fn open(self, raw: impl Read + Send + 'static) -> Result<Box<dyn Read + Send>> {
        Ok(match self {
            Compression::None => Box::new(raw),
            // Several members or frames one after the other are one text.
            Compression::Gzip => {
                Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(CHUNK, raw)))
            }
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::new(raw)?),
        })
    }
}

/// Buffers to read into.
#[derive(Debug, Default, Clone)]
pub(super) struct ChunkPool(Arc<Mutex<Vec<Vec<u8>>>>);

impl ChunkPool {
    fn take(&self) -> Vec<u8> {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| vec![0; HEAD + CHUNK])
    }

    fn give(&self, buffer: Vec<u8>) {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.len() == HEAD + CHUNK && free.len() < 4 {
            free.push(buffer);
        }
    }
}

/// A buffer whose bytes from `HEAD` to `end` were read.
struct Chunk {
    buffer: Vec<u8>,
    end: usize,
}

/// Reader of one split.
pub(super) struct TextSplit {
    /// For messages.
    shown: String,
    chunks: mpsc::Receiver<Result<Chunk>>,
    pool: ChunkPool,
    buffer: Vec<u8>,
    /// The part of `buffer` not decoded yet.
    pos: usize,
    filled: usize,
    /// Offset of `pos` in the uncompressed text.
    offset: u64,
    /// Bytes of the records of the batch at work.
    taken: usize,
    /// Bytes that are too few for the record at `pos`, which is looked at again when there are twice as many: a long one
    /// comes in many chunks.
    too_few: usize,
    ended: bool,
    /// The split begins in the middle of a record that belongs to the one before.
    skip_partial: bool,
    skip_header: bool,
    /// The format has a header, which counts in bytes instead of lines.
    binary: bool,
    /// The reading begins after the header, which the decoder has to see first.
    header_due: bool,
    /// The line that begins at `pos`, counted where the file cannot be read again to find it.
    pipe_line: Option<u64>,
    /// Offset after the last batch that was handed out.
    committed: u64,
    split: Split,
    store: Store,
}

impl TextSplit {
    /// Starts reading.
    pub(super) fn open(
        split: Split,
        store: Store,
        format: &dyn RecordFormat,
        pool: ChunkPool,
        metrics: Arc<SourceMetrics>,
    ) -> Self {
        // A cut lies anywhere: the record that begins at it or after it is the first one. Looking from the byte before
        // tells whether one begins exactly there.
        let (offset, skip_partial) = match split.resume {
            Some(p) => (p.offset, false),
            None if split.start > 0 => (split.start - 1, true),
            None => (0, false),
        };
        let (sender, chunks) = mpsc::channel(2);
        let shown = store.display(&split.file.entry.path);
        {
            let (store, pool, split, shown) = (store.clone(), pool.clone(), split.clone(), shown.clone());
            tokio::task::spawn_blocking(move || {
                let sent = guarded(|| pump(&store, &split, offset, &pool, &metrics, &sender));
                if let Err(e) = sent {
                    sender.blocking_send(Err(e.context(format!("file {shown}")))).ok();
                }
            });
        }
        TextSplit {
            shown,
            chunks,
            buffer: pool.take(),
            pool,
            pos: HEAD,
            filled: HEAD,
            offset,
            taken: 0,
            too_few: 0,
            ended: false,
            skip_partial,
            skip_header: format.skips_first_line() && offset == 0,
            binary: format.has_header(),
            header_due: format.has_header() && offset > 0,
            pipe_line: split.file.entry.pipe.then_some(1),
            committed: split.resume.map_or(split.start, |p| p.offset),
            split,
            store,
        }
    }

    /// The next batch of about `rows` rows; `None` at the end of the split. Cancel-safe: `decoder` keeps what was
    /// decoded, and the position moves only with a batch.
    ///
    /// # Errors
    /// A bad record with file and line, or what reading met.
    pub(super) async fn next(
        &mut self,
        decoder: &mut dyn RowDecoder,
        rows: usize,
    ) -> Result<Option<RecordBatch>> {
        if self.header_due {
            let header = self.header(decoder).await.context(|| format!("file {}", self.shown))?;
            decoder.decode(&header).context(|| format!("file {}", self.shown))?;
            self.header_due = false;
        }
        loop {
            if let Err(e) = self.decode(decoder, rows) {
                let line = if self.binary { Ok(None) } else { self.line().await.map(Some) };
                let at = match line {
                    Ok(None) => format!(" byte {}", self.offset),
                    Ok(Some(n)) => format!(" line {n}"),
                    Err(_) => String::new(),
                };
                return Err(e.context(format!("file {}{at}", self.shown)));
            }
            let finished = (self.ended && self.pos == self.filled) || self.past_end();
            if self.is_full(decoder, rows) || (finished && decoder.rows() > 0) {
                return self.hand_out(decoder).map(Some);
            }
            if finished {
                return Ok(None);
            }
            match self.chunks.try_recv() {
                Ok(chunk) => self.refill(chunk?)?,
                Err(TryRecvError::Disconnected) => self.ended = true,
                // Nobody knows when a pipe has more.
                Err(TryRecvError::Empty) if self.pipe_line.is_some() && decoder.rows() > 0 => {
                    return self.hand_out(decoder).map(Some);
                }
                Err(TryRecvError::Empty) => match self.chunks.recv().await {
                    Some(chunk) => self.refill(chunk?)?,
                    None => self.ended = true,
                },
            }
        }
    }

    /// What comes first in the file.
    async fn header(&self, decoder: &mut dyn RowDecoder) -> Result<Vec<u8>> {
        let mut size = HEAD;
        loop {
            let (store, file) = (self.store.clone(), self.split.file.clone());
            let reading = move || {
                let raw = store.open(&file.entry, 0)?;
                let mut bytes = Vec::new();
                Compression::of(&file.entry.path).open(raw)?.take(size as u64).read_to_end(&mut bytes)?;
                Ok::<_, Error>(bytes)
            };
            let mut bytes = tokio::task::spawn_blocking(reading).await??;
            let whole = bytes.len() < size;
            if let Some(frame) = decoder.frame(&bytes, whole) {
                bytes.truncate(frame.record);
                return Ok(bytes);
            }
            if whole || size > MAX_RECORD {
                return Err(Error::data("the file has no header"));
            }
            size *= 4;
        }
    }

    fn hand_out(&mut self, decoder: &mut dyn RowDecoder) -> Result<RecordBatch> {
        self.committed = self.offset;
        self.taken = 0;
        decoder.finish().context(|| format!("file {}", self.shown))
    }

    /// Whether the batch is large enough, in rows or in bytes.
    fn is_full(&self, decoder: &dyn RowDecoder, rows: usize) -> bool {
        // Of long records only little may be wanted.
        decoder.rows() >= rows || (self.taken >= BATCH_BYTES && decoder.bytes() >= BATCH_BYTES)
    }

    fn past_end(&self) -> bool {
        !self.skip_partial && self.offset >= self.split.end
    }

    fn decode(&mut self, decoder: &mut dyn RowDecoder, rows: usize) -> Result<()> {
        while !self.is_full(decoder, rows) && self.pos < self.filled && !self.past_end() {
            let data = self.buffer.get(self.pos..self.filled).unwrap_or_default();
            if self.skip_partial {
                let line = data.iter().position(|b| *b == b'\n');
                let n = line.map_or(data.len(), |n| n + 1);
                self.skip_partial = line.is_none();
                self.advance(n);
                continue;
            }
            if data.len() < 2 * self.too_few && !self.ended && self.pipe_line.is_none() {
                break;
            }
            let Some(frame) = decoder.frame(data, self.ended) else {
                self.too_few = data.len();
                break;
            };
            self.too_few = 0;
            self.taken += frame.total;
            if self.skip_header {
                self.skip_header = false;
            } else {
                decoder.decode(data.get(..frame.record).unwrap_or_default())?;
            }
            self.advance(frame.total);
        }
        Ok(())
    }

    fn advance(&mut self, n: usize) {
        if let Some(line) = &mut self.pipe_line {
            let passed = self.buffer.get(self.pos..self.pos + n).unwrap_or_default();
            *line += passed.iter().filter(|b| **b == b'\n').count() as u64;
        }
        self.pos += n;
        self.offset += n as u64;
    }

    /// Puts what is left of the chunk before in front of the new one.
    fn refill(&mut self, chunk: Chunk) -> Result<()> {
        let left = self.filled - self.pos;
        if left > MAX_RECORD {
            return Err(Error::data(format!("a record is longer than {MAX_RECORD} bytes"))
                .context(format!("file {}", self.shown)));
        }
        let Chunk { mut buffer, end } = chunk;
        if left <= HEAD {
            let room = buffer.get_mut(HEAD - left..HEAD);
            if let (Some(room), Some(rest)) = (room, self.buffer.get(self.pos..self.filled)) {
                room.copy_from_slice(rest);
            }
            (self.pos, self.filled) = (HEAD - left, end);
            self.pool.give(std::mem::replace(&mut self.buffer, buffer));
        } else {
            // A record larger than the room: collected in a growing buffer.
            self.buffer.truncate(self.filled);
            self.buffer.extend_from_slice(buffer.get(HEAD..end).unwrap_or_default());
            self.filled = self.buffer.len();
            self.pool.give(buffer);
        }
        Ok(())
    }

    /// The line that begins at the current position.
    async fn line(&self) -> Result<u64> {
        if let Some(line) = self.pipe_line {
            return Ok(line);
        }
        let (store, file, upto) = (self.store.clone(), self.split.file.clone(), self.offset);
        tokio::task::spawn_blocking(move || {
            let raw = store.open(&file.entry, 0)?;
            let mut text = Compression::of(&file.entry.path).open(raw)?.take(upto);
            let (mut lines, mut buffer) = (1, vec![0; CHUNK]);
            loop {
                let n = text.read(&mut buffer)?;
                if n == 0 {
                    return Ok(lines);
                }
                lines += buffer.iter().take(n).filter(|b| **b == b'\n').count() as u64;
            }
        })
        .await?
    }

    /// Where to go on after the last batch; `None` if nothing of the split was handed out.
    pub(super) fn position(&self) -> Option<Position> {
        let begun = self.split.resume.is_some() || self.committed > self.split.start;
        begun.then(|| Position { offset: self.committed, end: self.split.end, ..Position::default() })
    }
}

impl Drop for TextSplit {
    fn drop(&mut self) {
        self.pool.give(std::mem::take(&mut self.buffer));
    }
}

/// Reads a file into chunks until its end, or until nobody listens any more.
fn pump(
    store: &Store,
    split: &Split,
    offset: u64,
    pool: &ChunkPool,
    metrics: &Arc<SourceMetrics>,
    sender: &mpsc::Sender<Result<Chunk>>,
) -> Result<()> {
    let path = &split.file.entry.path;
    let compression = Compression::of(path);
    let plain = compression == Compression::None;
    let raw = store.open(&split.file.entry, if plain { offset } else { 0 })?;
    let mut text = compression.open(CountingReader { inner: raw, metrics: metrics.clone() })?;
    if !plain && offset > 0 {
        // A compressed file cannot be entered in the middle.
        std::io::copy(&mut (&mut text).take(offset), &mut std::io::sink())?;
    }
    let mut at = offset;
    loop {
        let mut buffer = pool.take();
        let size = if at < split.end {
            // The last chunk ends with the split.
            usize::try_from(split.end - at).unwrap_or(CHUNK).min(CHUNK)
        } else {
            TAIL_CHUNK
        };
        let mut end = HEAD;
        while end < HEAD + size {
            let n = match text.read(buffer.get_mut(end..HEAD + size).unwrap_or_default()) {
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e.into()),
            };
            if n == 0 {
                break;
            }
            end += n;
            // What a pipe has is handed on; the rest of the chunk may be long in coming.
            if split.file.entry.pipe {
                break;
            }
        }
        let last = end == HEAD;
        at += (end - HEAD) as u64;
        if last || sender.blocking_send(Ok(Chunk { buffer, end })).is_err() {
            return Ok(());
        }
    }
}

/// Counts the bytes as stored.
struct CountingReader<R> {
    inner: R,
    metrics: Arc<SourceMetrics>,
}

impl<R: Read> Read for CountingReader<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(out)?;
        self.metrics.bytes.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

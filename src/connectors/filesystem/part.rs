//! One part file while it is written.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use object_store::multipart::PartId;
use parquet::arrow::ArrowWriter;

use super::FileFormat;
use super::commit::StagedFile;
use super::location::{Store, key};
use super::sink::FilesystemSink;
use crate::error::{Error, Result, ResultExt};
use crate::formats::parquet::ParquetFormat;
use crate::formats::{RecordEncoder, RecordFormat};
use crate::stream::ChangeBatch;

/// Bytes collected before a local file is written to.
const LOCAL_BUFFER: usize = 1 << 20;
/// Bytes of a part of a multipart upload (stores ask for 5 MiB at least).
const UPLOAD_PART: usize = 8 << 20;

/// A file being written.
pub(super) struct PartFile {
    encoder: Encoder,
    target: Target,
    buffer: Vec<u8>,
    bytes: u64,
    begun: Instant,
    shown: String,
    buffer_size: usize,
}

enum Encoder {
    Records { format: Arc<dyn RecordFormat>, encoder: Box<dyn RecordEncoder>, out: Vec<u8>, ends: Vec<usize> },
    Parquet { format: Arc<ParquetFormat>, writer: Box<ArrowWriter<SharedBuffer>>, out: SharedBuffer },
}

enum Target {
    Local { file: Arc<std::fs::File>, staged: String, path: String },
    Upload { store: Store, path: String, id: String, parts: Vec<String> },
}

/// Bytes that the Parquet writer has finished: a whole row group at once, in pieces so that it is not copied as it grows.
#[derive(Debug, Clone, Default)]
struct SharedBuffer(Arc<Mutex<VecDeque<Vec<u8>>>>);

impl Write for SharedBuffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut pieces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match pieces.back_mut().filter(|last| last.len() + bytes.len() <= LOCAL_BUFFER) {
            Some(last) => last.extend_from_slice(bytes),
            None => pieces.push_back(bytes.to_vec()),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl SharedBuffer {
    fn pop(&self) -> Option<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// Explains the errors that people meet when they write.
pub(super) fn explain(e: std::io::Error) -> Error {
    match e.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            Error::external(format!("the disk is full: {e}")).hint("free some space and run the job again")
        }
        std::io::ErrorKind::PermissionDenied => Error::external(format!("cannot write: {e}")),
        _ => Error::from(e),
    }
}

fn create_new(path: &str) -> std::io::Result<std::fs::File> {
    if let Some(parent) = std::path::Path::new(path).parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::File::create_new(path)
}

impl PartFile {
    /// Begins `name` in the partition `folder`.
    ///
    /// # Errors
    /// External if the store refuses.
    pub(super) async fn create(sink: &FilesystemSink, run: &str, folder: &str, name: &str) -> Result<Self> {
        let relative = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        let path = sink.location.join(&relative);
        let shown = sink.store().display(&path);
        let (target, buffer_size) = match sink.store() {
            Store::Local => {
                let staged = format!("{}/{relative}", sink.staging(run));
                // Here and not in a thread for what blocks: nobody could remove a file that comes into being after this
                // was cancelled.
                let file = create_new(&staged).map_err(|e| explain(e).context(format!("file {shown}")))?;
                (Target::Local { file: Arc::new(file), staged, path }, LOCAL_BUFFER)
            }
            Store::Bucket { uploads, .. } => {
                let id = uploads.create_multipart(&key(&path)).await.context(|| format!("file {shown}"))?;
                (Target::Upload { store: sink.store().clone(), path, id, parts: Vec::new() }, UPLOAD_PART)
            }
        };
        let encoder = match &sink.format {
            FileFormat::Records(format) => Encoder::Records {
                format: format.clone(),
                encoder: format.encoder()?,
                out: Vec::new(),
                ends: Vec::new(),
            },
            FileFormat::Parquet(format) => {
                let out = SharedBuffer::default();
                let writer = Box::new(format.writer(out.clone())?);
                Encoder::Parquet { format: format.clone(), writer, out }
            }
        };
        Ok(PartFile {
            encoder,
            target,
            buffer: Vec::new(),
            bytes: 0,
            begun: Instant::now(),
            shown,
            buffer_size,
        })
    }

    /// Bytes so far, those still being encoded included.
    pub(super) fn bytes(&self) -> u64 {
        let pending = match &self.encoder {
            Encoder::Records { .. } => 0,
            Encoder::Parquet { writer, .. } => writer.in_progress_size() as u64,
        };
        self.bytes + self.buffer.len() as u64 + pending
    }

    /// Time since it was begun.
    pub(super) fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Appends rows.
    ///
    /// # Errors
    /// Data for values that the format cannot hold, External if the store refuses.
    pub(super) async fn write(&mut self, batch: &ChangeBatch) -> Result<()> {
        match &mut self.encoder {
            Encoder::Records { format, encoder, out, ends } => {
                out.clear();
                ends.clear();
                encoder.encode_changes(batch, out, ends)?;
                let mut start = 0;
                for end in ends.iter() {
                    self.buffer.extend_from_slice(out.get(start..*end).unwrap_or_default());
                    self.buffer.extend_from_slice(format.separator());
                    start = *end;
                }
            }
            Encoder::Parquet { format, writer, .. } => {
                writer.write(&format.coerce(&batch.rows)?)?;
                return self.take_finished().await;
            }
        }
        if self.buffer.len() >= self.buffer_size { self.flush().await } else { Ok(()) }
    }

    /// Takes over what the Parquet writer has finished.
    async fn take_finished(&mut self) -> Result<()> {
        let Encoder::Parquet { out, .. } = &self.encoder else { return Ok(()) };
        let out = out.clone();
        while let Some(mut piece) = out.pop() {
            self.buffer.append(&mut piece);
            if self.buffer.len() >= self.buffer_size {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Hands the buffer to the store.
    async fn flush(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.buffer);
        self.bytes += bytes.len() as u64;
        let shown = self.shown.clone();
        match &mut self.target {
            Target::Local { file, .. } => {
                let file = file.clone();
                let (mut bytes, written) = tokio::task::spawn_blocking(move || {
                    let written = (&*file).write_all(&bytes);
                    (bytes, written)
                })
                .await?;
                written.map_err(|e| explain(e).context(format!("file {shown}")))?;
                bytes.clear();
                self.buffer = bytes;
            }
            Target::Upload { store, path, id, parts } => {
                let Store::Bucket { uploads, .. } = store else {
                    return Err(Error::internal("an upload to the local disk"));
                };
                let path = key(path);
                let PartId { content_id } = uploads
                    .put_part(&path, id, parts.len(), bytes.into())
                    .await
                    .context(|| format!("file {shown}"))?;
                parts.push(content_id);
            }
        }
        Ok(())
    }

    /// Ends the file and makes it durable, though not visible.
    ///
    /// # Errors
    /// As [`PartFile::write`].
    pub(super) async fn finish(&mut self) -> Result<StagedFile> {
        match &mut self.encoder {
            Encoder::Parquet { writer, .. } => {
                writer.finish()?;
            }
            Encoder::Records { encoder, .. } => encoder.finish(&mut self.buffer)?,
        }
        self.take_finished().await?;
        self.flush().await?;
        let shown = &self.shown;
        Ok(match &self.target {
            Target::Local { file, staged, path } => {
                let file = file.clone();
                tokio::task::spawn_blocking(move || file.sync_all())
                    .await?
                    .map_err(|e| explain(e).context(format!("file {shown}")))?;
                StagedFile::Local { staged: staged.clone(), path: path.clone() }
            }
            Target::Upload { path, id, parts, .. } => {
                StagedFile::Upload { path: path.clone(), id: id.clone(), parts: parts.clone() }
            }
        })
    }

    /// Removes what was written.
    pub(super) async fn discard(self) {
        match self.target {
            Target::Local { staged, path, .. } => {
                StagedFile::Local { staged, path }.discard(&Store::Local).await;
            }
            Target::Upload { store, path, id, parts } => {
                StagedFile::Upload { path, id, parts }.discard(&store).await;
            }
        }
    }
}

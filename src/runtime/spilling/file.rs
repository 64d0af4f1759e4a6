//! Arrow tables on disk, for state that is not needed just now. A cache, not a checkpoint: files live as long as the job.
//!
//! A file is a sequence of Arrow IPC streams; the schema metadata of each says which state table it is.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt8Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt8Type};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;

use crate::error::{Error, Result};
use crate::runtime::spilling::WAY_OUT;
use crate::stream::snapshot::{OperatorSnapshot, PartKind, TablePart};
use crate::stream::{ChangeBatch, RowKinds, Timestamp};

const TABLE: &str = "tidelake.table";
const BYTES: &str = "__tidelake_bytes";

/// A file that is removed with its handle.
#[derive(Debug)]
pub struct SpillFile {
    path: PathBuf,
    /// Bytes written.
    pub bytes: u64,
}

impl Drop for SpillFile {
    fn drop(&mut self) {
        // The folder goes at the end anyway.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// One batch with a byte beside each row: its key group or its kind.
struct Stream<'a> {
    name: &'a str,
    rows: &'a RecordBatch,
    bytes: Option<UInt8Array>,
}

impl SpillFile {
    /// An empty file at `path`.
    pub fn new(path: PathBuf) -> Self {
        SpillFile { path, bytes: 0 }
    }

    /// Appends operator state.
    ///
    /// # Errors
    /// External when the disk fails or is full.
    pub fn append_state(&mut self, state: &OperatorSnapshot) -> Result<()> {
        let streams = state.iter().flat_map(|(name, parts)| {
            parts.iter().map(|p| Stream { name, rows: &p.rows, bytes: p.key_groups.clone() })
        });
        self.append(streams)
    }

    /// Appends rows of input `port`, and the watermark that came right before them.
    ///
    /// # Errors
    /// As [`SpillFile::append_state`].
    pub fn append_rows(
        &mut self,
        port: usize,
        watermark: Option<Timestamp>,
        batch: &ChangeBatch,
    ) -> Result<()> {
        let bytes = batch.kinds.as_ref().map(RowKinds::to_array);
        let name = match watermark {
            Some(Timestamp(ms)) => format!("{port}@{ms}"),
            None => port.to_string(),
        };
        self.append([Stream { name: &name, rows: &batch.rows, bytes }])
    }

    fn append<'a>(&mut self, streams: impl IntoIterator<Item = Stream<'a>>) -> Result<()> {
        let path = self.path.clone();
        let written = move |e: std::io::Error| full(&path, &e);
        let file = OpenOptions::new().create(true).append(true).open(&self.path).map_err(&written)?;
        let mut out = BufWriter::with_capacity(1 << 18, file);
        for stream in streams {
            let rows = with_bytes(&stream)?;
            // What does not fit the buffer is written at once, and fails as an error of Arrow.
            let failed = |e: ArrowError| match e {
                ArrowError::IoError(_, e) => written(e),
                other => other.into(),
            };
            let mut writer = StreamWriter::try_new(&mut out, &rows.schema()).map_err(failed)?;
            writer.write(&rows).and_then(|()| writer.finish()).map_err(failed)?;
        }
        out.flush().map_err(&written)?;
        self.bytes = std::fs::metadata(&self.path).map_err(&written)?.len();
        Ok(())
    }

    /// Reads operator state back.
    ///
    /// # Errors
    /// External when the file is gone or damaged.
    pub fn read_state(&self) -> Result<OperatorSnapshot> {
        let mut state = OperatorSnapshot::new();
        self.read(|name, rows, bytes| {
            let part = TablePart { rows, key_groups: bytes, kind: PartKind::Whole };
            state.entry(name.to_owned()).or_default().push(part);
        })?;
        Ok(state)
    }

    /// Reads rows back in the order they were written, each with its input and the watermark right before it.
    ///
    /// # Errors
    /// As [`SpillFile::read_state`].
    pub fn read_rows(&self) -> Result<Vec<(usize, Option<Timestamp>, ChangeBatch)>> {
        let mut batches = Vec::new();
        let mut is_broken = false;
        self.read(|name, rows, bytes| {
            let (port, watermark) = name.split_once('@').map_or((name, None), |(p, w)| (p, Some(w)));
            let batch = ChangeBatch { rows, kinds: bytes.map(|b| RowKinds::from_array(&b)) };
            match (port.parse(), watermark.map(str::parse).transpose()) {
                (Ok(port), Ok(watermark)) => batches.push((port, watermark.map(Timestamp), batch)),
                _ => is_broken = true,
            }
        })?;
        if is_broken {
            return Err(Error::external(format!("spilled rows {} are damaged", self.path.display())));
        }
        Ok(batches)
    }

    fn read(&self, mut found: impl FnMut(&str, RecordBatch, Option<UInt8Array>)) -> Result<()> {
        let lost = |e: std::io::Error| Error::external(format!("spilled state {}: {e}", self.path.display()));
        let mut input = BufReader::with_capacity(1 << 18, File::open(&self.path).map_err(lost)?);
        while !input.fill_buf().map_err(lost)?.is_empty() {
            let mut reader = StreamReader::try_new(&mut input, None)?;
            let schema = reader.schema();
            let name = schema.metadata().get(TABLE).cloned().unwrap_or_default();
            for batch in reader.by_ref() {
                let (rows, bytes) = without_bytes(&batch?)?;
                found(&name, rows, bytes);
            }
        }
        Ok(())
    }
}

fn full(path: &Path, e: &std::io::Error) -> Error {
    let path = path.display();
    Error::external(format!("state that outgrew the memory cannot be written to {path}: {e}")).hint(WAY_OUT)
}

/// The rows under a schema that names the table, the bytes as last column.
fn with_bytes(stream: &Stream<'_>) -> Result<RecordBatch> {
    let mut fields: Vec<Arc<Field>> = stream.rows.schema().fields().iter().cloned().collect();
    let mut columns: Vec<ArrayRef> = stream.rows.columns().to_vec();
    if let Some(bytes) = &stream.bytes {
        fields.push(Arc::new(Field::new(BYTES, DataType::UInt8, false)));
        columns.push(Arc::new(bytes.clone()));
    }
    let metadata = HashMap::from([(TABLE.to_owned(), stream.name.to_owned())]);
    let schema: SchemaRef = Arc::new(Schema::new_with_metadata(fields, metadata));
    let options = RecordBatchOptions::new().with_row_count(Some(stream.rows.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

fn without_bytes(batch: &RecordBatch) -> Result<(RecordBatch, Option<UInt8Array>)> {
    let schema = batch.schema();
    let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
    let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
    let mut bytes = None;
    if fields.last().is_some_and(|f| f.name() == BYTES) {
        fields.pop();
        bytes = columns.pop().map(|c| c.as_primitive::<UInt8Type>().clone());
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let rows = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?;
    Ok((rows, bytes))
}

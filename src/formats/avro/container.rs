//! Avro's object container files: a header with the writer's schema, then blocks of rows.
//!
//! ```text
//!  "Obj" 1 │ metadata: schema, codec │ sync   then per block: rows │ bytes │ (compressed) rows │ sync
//! ```
//!
//! Header and blocks are the "records" that a file is cut into: the header tells how to read what follows, a block gives
//! all its rows or none. A job that goes on within a file is given the header first (`RecordFormat::has_header`).

use std::io::{Read, Write};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use xxhash_rust::xxh3::xxh3_128;

use super::cursor::Cursor;
use super::decode::close;
use super::encode::{Encoder, put_bytes, put_long};
use super::plan::Program;
use super::schema::AvroSchema;
use super::{AvroFormat, Given};
use crate::error::{Error, ErrorKind, Result};
use crate::formats::column::Batch;
use crate::formats::{Frame, RecordEncoder, RecordFormat, RowDecoder};
use crate::options::Options;

const MAGIC: &[u8] = b"Obj\x01";
const SYNC: usize = 16;
/// Rows are collected until they have so many bytes, as Java's writer does.
const BLOCK: usize = 64_000;
/// Rows of a block beyond its bytes.
const FREE_ROWS: usize = 1 << 20;
/// Bytes of a block at most.
const MAX_BLOCK: usize = 1 << 30;

/// How blocks are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    Null,
    Deflate,
    Snappy,
    Zstandard,
}

impl Codec {
    fn name(self) -> &'static str {
        match self {
            Codec::Null => "null",
            Codec::Deflate => "deflate",
            Codec::Snappy => "snappy",
            Codec::Zstandard => "zstandard",
        }
    }

    fn of(name: &str) -> Result<Self> {
        Ok(match name {
            "null" => Codec::Null,
            "deflate" => Codec::Deflate,
            "snappy" => Codec::Snappy,
            "zstandard" => Codec::Zstandard,
            other => {
                return Err(Error::unsupported(format!("Avro files compressed with '{other}'"))
                    .hint("null, deflate, snappy and zstandard are supported"));
            }
        })
    }

    fn compress(self, bytes: &[u8], out: &mut Vec<u8>) -> Result<()> {
        match self {
            Codec::Null => out.extend_from_slice(bytes),
            Codec::Deflate => {
                let mut encoder = flate2::write::DeflateEncoder::new(out, flate2::Compression::default());
                encoder.write_all(bytes)?;
                encoder.finish()?;
            }
            Codec::Snappy => {
                let compressed = snap::raw::Encoder::new().compress_vec(bytes);
                out.extend(compressed.map_err(|e| Error::data(format!("a block for snappy: {e}")))?);
                out.extend_from_slice(&checksum(bytes).to_be_bytes());
            }
            Codec::Zstandard => out.extend(zstd::bulk::compress(bytes, 0)?),
        }
        Ok(())
    }

    /// The bytes of a block; `room` is kept between blocks.
    fn expand<'a>(self, bytes: &'a [u8], room: &'a mut Vec<u8>) -> Result<&'a [u8]> {
        let damaged =
            |e: &dyn std::fmt::Display| Error::data(format!("a block of {} is damaged: {e}", self.name()));
        room.clear();
        let limit = MAX_BLOCK as u64 + 1;
        match self {
            Codec::Null => return Ok(bytes),
            Codec::Deflate => {
                flate2::read::DeflateDecoder::new(bytes)
                    .take(limit)
                    .read_to_end(room)
                    .map_err(|e| damaged(&e))?;
            }
            Codec::Zstandard => {
                let decoder = zstd::stream::read::Decoder::new(bytes).map_err(|e| damaged(&e))?;
                decoder.take(limit).read_to_end(room).map_err(|e| damaged(&e))?;
            }
            Codec::Snappy => {
                let (body, sum) = bytes.split_last_chunk::<4>().ok_or_else(|| damaged(&"it is too short"))?;
                let length = snap::raw::decompress_len(body).map_err(|e| damaged(&e))?;
                if length <= MAX_BLOCK {
                    room.resize(length, 0);
                    snap::raw::Decoder::new().decompress(body, room).map_err(|e| damaged(&e))?;
                    if checksum(room) != u32::from_be_bytes(*sum) {
                        return Err(damaged(&"its checksum is another one"));
                    }
                }
            }
        }
        if room.len() > MAX_BLOCK {
            return Err(damaged(&format!("it has more than {MAX_BLOCK} bytes")));
        }
        Ok(room)
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// The format `avro` of files.
#[derive(Debug)]
pub struct AvroFileFormat {
    records: AvroFormat,
    codec: Codec,
}

impl AvroFileFormat {
    /// Takes the options that begin with `prefix`.
    ///
    /// # Errors
    /// As [`AvroFormat::new`].
    pub fn new(options: &Options, prefix: &str, schema: SchemaRef) -> Result<Self> {
        let codec = options.one_of(&format!("{prefix}codec"), &["null", "deflate", "snappy", "zstandard"])?;
        let codec = Codec::of(codec.unwrap_or("snappy"))?;
        Ok(AvroFileFormat { records: AvroFormat::new(options, prefix, schema)?, codec })
    }
}

impl RecordFormat for AvroFileFormat {
    fn schema(&self) -> &SchemaRef {
        &self.records.schema
    }

    fn row_decoder(&self, projection: &[usize]) -> Result<Box<dyn RowDecoder>> {
        let schema = Arc::new(self.records.schema.project(projection)?);
        let batch = Batch::new(Arc::clone(&schema))?;
        let reader = self.records.reader.clone();
        let ignore = self.records.ignore;
        Ok(Box::new(Decoder { schema, reader, batch, ignore, skipped: 0, file: None, room: Vec::new() }))
    }

    fn encoder(&self) -> Result<Box<dyn RecordEncoder>> {
        let Given { text, schema } = self.records.own_schema()?;
        let encoder = Encoder::new(&schema, &self.records.schema)?;
        // Always the same for the same schema: files of the same rows are the same.
        let sync = xxh3_128(text.as_bytes()).to_be_bytes();
        Ok(Box::new(FileEncoder {
            encoder,
            text: text.to_owned(),
            codec: self.codec,
            sync,
            begun: false,
            block: Vec::new(),
            rows: Vec::new(),
        }))
    }

    fn separator(&self) -> &'static [u8] {
        b""
    }

    fn splittable(&self) -> bool {
        false
    }

    fn has_header(&self) -> bool {
        true
    }
}

/// What the header of a file says.
struct File {
    text: Vec<u8>,
    program: Arc<Program>,
    codec: Codec,
    sync: [u8; SYNC],
}

struct Decoder {
    schema: SchemaRef,
    reader: Option<Arc<AvroSchema>>,
    batch: Batch,
    ignore: bool,
    skipped: u64,
    /// The file at work.
    file: Option<File>,
    room: Vec<u8>,
}

/// Metadata by key.
type Metadata<'a> = Vec<(&'a [u8], &'a [u8])>;

/// The header: its metadata and marker.
fn header<'a>(cursor: &mut Cursor<'a>) -> Result<(Metadata<'a>, [u8; SYNC])> {
    if cursor.take(MAGIC.len())? != MAGIC {
        return Err(Error::data("it is no Avro file: it does not begin with \"Obj\" and 1"));
    }
    let mut all = Vec::new();
    loop {
        let items = cursor.block()?;
        if items == 0 {
            break;
        }
        for _ in 0..items {
            all.push((cursor.bytes()?, cursor.bytes()?));
        }
    }
    let sync = cursor.take(SYNC)?.try_into().map_err(|_| Error::internal("a marker of another length"))?;
    Ok((all, sync))
}

/// The rows and the bytes of a block, and its end, the marker not counted.
fn block(cursor: &mut Cursor<'_>) -> Result<(usize, usize)> {
    let (rows, size) = (cursor.long()?, cursor.long()?);
    match (usize::try_from(rows), usize::try_from(size)) {
        (Ok(rows), Ok(size)) if size <= MAX_BLOCK => Ok((rows, size)),
        _ => Err(Error::data(format!("a block of {rows} rows in {size} bytes"))),
    }
}

impl Decoder {
    fn begin(&mut self, data: &[u8]) -> Result<()> {
        let (metadata, sync) = header(&mut Cursor::new(data))?;
        let of = |key: &[u8]| metadata.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
        let codec = String::from_utf8_lossy(of(b"avro.codec").unwrap_or(b"null")).into_owned();
        let codec = Codec::of(&codec)?;
        let text = of(b"avro.schema").ok_or_else(|| Error::data("the file has no schema"))?;
        let known = self.file.as_ref().filter(|f| f.text == text).map(|f| Arc::clone(&f.program));
        let program = match known {
            Some(program) => program,
            None => {
                let schema = std::str::from_utf8(text)
                    .map_err(|_| Error::data("the schema of the file is no text"))?;
                let writer = Arc::new(AvroSchema::parse(schema, &[])?);
                Arc::new(Program::new(writer, self.reader.as_deref(), self.schema.fields())?)
            }
        };
        self.file = Some(File { text: text.to_vec(), program, codec, sync });
        Ok(())
    }

    fn read(&mut self, data: &[u8]) -> Result<()> {
        if data.first() == MAGIC.first() {
            return self.begin(data);
        }
        let Some(file) = &self.file else {
            return Err(Error::data("it is no Avro file: it does not begin with \"Obj\" and 1"));
        };
        let mut cursor = Cursor::new(data);
        let (rows, size) = block(&mut cursor)?;
        let bytes = cursor.take(size)?;
        if cursor.take(SYNC)? != file.sync {
            return Err(Error::data(
                "the block does not end with the marker of the file: the file is damaged",
            ));
        }
        let bytes = file.codec.expand(bytes, &mut self.room)?;
        // Rows of no width (all NULL) cost nothing: without a limit a few bytes would fill the memory.
        if rows > bytes.len() + FREE_ROWS {
            return Err(Error::data(format!("a block of {rows} rows in {} bytes", bytes.len())));
        }
        let mut cursor = Cursor::new(bytes);
        for row in 0..rows {
            let read = file.program.read_next(&mut cursor, &mut self.batch);
            let closed = read.and_then(|is_row| if is_row { close(&mut self.batch) } else { Ok(()) });
            closed.map_err(|e| e.context(format!("row {} of the block", row + 1)))?;
        }
        if cursor.left() > 0 {
            return Err(Error::data(format!(
                "{} bytes are left after the last row of the block",
                cursor.left()
            )));
        }
        Ok(())
    }
}

impl RowDecoder for Decoder {
    fn frame(&mut self, data: &[u8], end: bool) -> Option<Frame> {
        // What is no Avro file is not read to its end to find out.
        let begins = data.iter().zip(MAGIC).all(|(a, b)| a == b);
        if !begins && (self.file.is_none() || data.first() == MAGIC.first()) {
            return Some(Frame { record: data.len(), total: data.len() });
        }
        let mut cursor = Cursor::new(data);
        let whole = if data.first() == MAGIC.first() {
            header(&mut cursor).is_ok()
        } else {
            // What is damaged is found by `decode`.
            match block(&mut cursor) {
                Ok((_, size)) => cursor.take(size + SYNC).is_ok(),
                Err(_) => data.len() >= 20,
            }
        };
        let length = match (whole, end) {
            (true, _) if cursor.pos() > 0 => cursor.pos(),
            (_, true) => data.len(),
            _ => return None,
        };
        Some(Frame { record: length, total: length })
    }

    fn decode(&mut self, data: &[u8]) -> Result<()> {
        let rows = self.batch.rows();
        let Err(e) = self.read(data) else { return Ok(()) };
        self.batch.truncate(rows);
        // Without its header nothing of a file can be read.
        if self.ignore && e.kind() == ErrorKind::Data && data.first() != MAGIC.first() && self.file.is_some()
        {
            self.skipped += 1;
            return Ok(());
        }
        Err(e)
    }

    fn rows(&self) -> usize {
        self.batch.rows()
    }

    fn bytes(&self) -> usize {
        self.batch.bytes()
    }

    fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        self.batch.finish()
    }
}

/// Writes one file.
struct FileEncoder {
    encoder: Encoder,
    text: String,
    codec: Codec,
    sync: [u8; SYNC],
    begun: bool,
    /// Rows of the block at work.
    block: Vec<u8>,
    /// Ends of the rows in it.
    rows: Vec<usize>,
}

impl FileEncoder {
    fn begin(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        out.extend_from_slice(MAGIC);
        put_long(out, 2);
        put_bytes(out, b"avro.schema");
        put_bytes(out, self.text.as_bytes());
        put_bytes(out, b"avro.codec");
        put_bytes(out, self.codec.name().as_bytes());
        put_long(out, 0);
        out.extend_from_slice(&self.sync);
    }

    fn end_block(&mut self, out: &mut Vec<u8>) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut compressed = Vec::with_capacity(self.block.len());
        self.codec.compress(&self.block, &mut compressed)?;
        put_long(out, self.rows.len() as i64);
        put_bytes(out, &compressed);
        out.extend_from_slice(&self.sync);
        self.block.clear();
        self.rows.clear();
        Ok(())
    }
}

impl RecordEncoder for FileEncoder {
    fn encode(&mut self, rows: &RecordBatch, buffer: &mut Vec<u8>, ends: &mut Vec<usize>) -> Result<()> {
        self.begin(buffer);
        // In pieces, so that no block grows far beyond its size.
        for start in (0..rows.num_rows()).step_by(512) {
            let piece = rows.slice(start, 512.min(rows.num_rows() - start));
            self.encoder.encode(&piece, &mut self.block, &mut self.rows, &[])?;
            if self.block.len() >= BLOCK {
                self.end_block(buffer)?;
            }
        }
        ends.push(buffer.len());
        Ok(())
    }

    fn finish(&mut self, buffer: &mut Vec<u8>) -> Result<()> {
        self.begin(buffer);
        self.end_block(buffer)
    }
}

//! The format of state files.
//!
//! ```text
//!  "TLSEG001"  block  block  …  footer (JSON)  its length (u32)  its checksum (u64)  "TLSEG001"
//!
//!  block  = one Arrow IPC stream of one batch: rows of one state table in the order of their key groups,
//!           the key group of each row as the last column unless every subtask reads them
//!  footer = operator, and per block: table, place, rows, what they are to earlier files, key groups, checksum
//! ```
//!
//! Numbers are little-endian, checksums are xxh3. Blocks that travel to an object store are compressed (LZ4); on a local
//! disk compressing costs more than it saves. A reader at another parallelism takes the blocks that meet its key
//! groups. Only typed columns, no hash layout and no row encoding: a file outlives the code that wrote it.

use std::io::Cursor;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, RecordBatchOptions, UInt8Array, UInt32Array};
use arrow::compute::take_arrays;
use arrow::datatypes::{DataType, Field, Schema, UInt8Type};
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::guard::guarded;
use crate::error::{Error, Result, ResultExt};
use crate::stream::BATCH_BYTES;
use crate::stream::bytes::{batch_bytes, slices};
use crate::stream::snapshot::{OperatorSnapshot, PartKind, TablePart};

const MAGIC: &[u8; 8] = b"TLSEG001";
/// Length and checksum of the footer, and the magic.
const TAIL: usize = 4 + 8 + 8;
const KEY_GROUP: &str = "__key_group";

/// Bytes after which another file is begun.
const FILE_BYTES: usize = 128 << 20;

/// A file to be written.
#[derive(Debug)]
pub struct Segment {
    /// Its content.
    pub bytes: Bytes,
    /// Rows in it.
    pub rows: u64,
    /// Whether later checkpoints need it, too: it has rows of tables that are written in increments.
    pub lasts: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Footer {
    version: u32,
    operator: String,
    blocks: Vec<Block>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Block {
    table: String,
    offset: u64,
    length: u64,
    rows: u64,
    /// What it is to earlier files; whole if it is not said.
    #[serde(default, skip_serializing_if = "is_whole")]
    kind: Kind,
    /// Columns of the key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    key: Vec<usize>,
    /// Least and greatest key group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_groups: Option<(u8, u8)>,
    checksum: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    #[default]
    Whole,
    Increment,
    Append,
    Void,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_whole(kind: &Kind) -> bool {
    *kind == Kind::Whole
}

impl Block {
    fn part_kind(&self) -> PartKind {
        match self.kind {
            Kind::Whole => PartKind::Whole,
            Kind::Increment => PartKind::Increment(self.key.clone()),
            Kind::Append => PartKind::Append,
            Kind::Void => PartKind::Void(self.key.clone()),
        }
    }
}

/// The state of an operator as files.
///
/// # Errors
/// From Arrow.
pub fn encode(operator: &str, tables: &OperatorSnapshot, compress: bool) -> Result<Vec<Segment>> {
    let compression = compress.then_some(CompressionType::LZ4_FRAME);
    let options = IpcWriteOptions::default().try_with_compression(compression)?;
    let parts = tables.values().flatten();
    let mut left: usize = parts.map(|part| batch_bytes(&part.rows) + part.rows.num_rows()).sum();
    let mut made = Vec::new();
    let mut file = Writer::new(operator, &options, left);
    for (table, parts) in tables {
        for part in parts.iter().filter(|p| p.rows.num_rows() > 0) {
            for block in slices(in_order(part)?, BATCH_BYTES) {
                if file.bytes.len() >= FILE_BYTES {
                    left = left.saturating_sub(file.bytes.len());
                    let next = Writer::new(operator, &options, left);
                    made.push(std::mem::replace(&mut file, next).finish()?);
                }
                file.add(table, &block, part)?;
            }
        }
    }
    if !file.footer.blocks.is_empty() {
        made.push(file.finish()?);
    }
    Ok(made)
}

/// The rows of a part in the order of their key groups, rows of one group as they were; key groups as the last column. Rows
/// beside those of earlier files stay as they are: there are too many of them to be moved for those who read.
fn in_order(part: &TablePart) -> Result<RecordBatch> {
    let Some(groups) = &part.key_groups else { return Ok(part.rows.clone()) };
    let mut columns = part.rows.columns().to_vec();
    columns.push(Arc::new(groups.clone()));
    if part.kind != PartKind::Append && !groups.values().is_sorted() {
        columns = take_arrays(&columns, &order_of(groups.values()), None)?;
    }
    let mut fields: Vec<_> = part.rows.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(KEY_GROUP, DataType::UInt8, false)));
    let options = RecordBatchOptions::new().with_row_count(Some(part.rows.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
}

/// Rows in the order of their key groups (counted, in two passes), those of one group as they were.
#[expect(clippy::indexing_slicing, reason = "256 places for a byte, as many as rows for a row")]
fn order_of(groups: &[u8]) -> UInt32Array {
    let mut next = [0_u32; 256];
    for group in groups {
        next[usize::from(*group)] += 1;
    }
    let mut before = 0;
    for count in &mut next {
        before += std::mem::replace(count, before);
    }
    let mut order = vec![0_u32; groups.len()];
    for (row, group) in groups.iter().enumerate() {
        let place = &mut next[usize::from(*group)];
        order[*place as usize] = row as u32;
        *place += 1;
    }
    order.into()
}

struct Writer {
    bytes: Vec<u8>,
    footer: Footer,
    options: IpcWriteOptions,
}

impl Writer {
    /// For a file of about `bytes`.
    fn new(operator: &str, options: &IpcWriteOptions, bytes: usize) -> Self {
        let footer = Footer { version: 1, operator: operator.to_owned(), blocks: Vec::new() };
        // A file that grows is moved again and again.
        let mut content = Vec::with_capacity(bytes.saturating_add(bytes / 16).min(FILE_BYTES + BATCH_BYTES));
        content.extend_from_slice(MAGIC);
        Writer { bytes: content, footer, options: options.clone() }
    }

    fn add(&mut self, table: &str, rows: &RecordBatch, part: &TablePart) -> Result<()> {
        let keyed = part.key_groups.is_some();
        let (kind, key) = match &part.kind {
            PartKind::Whole => (Kind::Whole, Vec::new()),
            PartKind::Increment(key) => (Kind::Increment, key.clone()),
            PartKind::Append => (Kind::Append, Vec::new()),
            PartKind::Void(key) => (Kind::Void, key.clone()),
        };
        let offset = self.bytes.len();
        let options = self.options.clone();
        let mut writer = StreamWriter::try_new_with_options(&mut self.bytes, &rows.schema(), options)?;
        writer.write(rows)?;
        writer.finish()?;
        drop(writer);
        let groups = rows.columns().last().filter(|_| keyed).map(|c| c.as_primitive::<UInt8Type>().values());
        let key_groups = groups.and_then(|g| Some((*g.iter().min()?, *g.iter().max()?)));
        let block = self.bytes.get(offset..).unwrap_or_default();
        self.footer.blocks.push(Block {
            table: table.to_owned(),
            offset: offset as u64,
            length: block.len() as u64,
            rows: rows.num_rows() as u64,
            kind,
            key,
            key_groups,
            checksum: checksum(block),
        });
        Ok(())
    }

    fn finish(mut self) -> Result<Segment> {
        let footer = serde_json::to_vec(&self.footer).map_err(|e| Error::internal(e.to_string()))?;
        self.bytes.extend_from_slice(&footer);
        let length = u32::try_from(footer.len()).map_err(|_| Error::internal("a state file of 4 GB"))?;
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(&xxh3_64(&footer).to_le_bytes());
        self.bytes.extend_from_slice(MAGIC);
        let rows = self.footer.blocks.iter().map(|b| b.rows).sum();
        let lasts = self.footer.blocks.iter().any(|b| b.kind != Kind::Whole);
        Ok(Segment { bytes: self.bytes.into(), rows, lasts })
    }
}

/// Checksums as manifests and footers write them.
pub(super) fn checksum(bytes: &[u8]) -> String {
    format!("{:016x}", xxh3_64(bytes))
}

/// Adds the rows of a file to the state of `operator`.
///
/// # Errors
/// Data for a file that is damaged, of another operator, or of a later version.
pub fn decode(operator: &str, bytes: &Bytes, into: &mut OperatorSnapshot) -> Result<()> {
    let footer = footer(bytes)?;
    if footer.operator != operator {
        return Err(Error::data(format!(
            "the file holds state of operator {}, not of {operator}",
            footer.operator
        )));
    }
    for block in &footer.blocks {
        let part = read_block(bytes, block).context(|| format!("block at byte {}", block.offset))?;
        into.entry(block.table.clone()).or_default().push(part);
    }
    Ok(())
}

fn damaged(what: &str) -> Error {
    Error::data(format!("the state file is damaged: {what}"))
}

fn footer(bytes: &[u8]) -> Result<Footer> {
    let tail = bytes.len().checked_sub(TAIL).and_then(|at| bytes.get(at..)).unwrap_or_default();
    let (Some(length), Some(sum), Some(magic)) =
        (tail.first_chunk::<4>(), tail.get(4..12).and_then(<[u8]>::first_chunk::<8>), tail.get(12..))
    else {
        return Err(damaged("it is too short"));
    };
    if magic != MAGIC || !bytes.starts_with(MAGIC) {
        let known = magic.starts_with(b"TLSEG") && bytes.get(..8) == Some(magic);
        return Err(if known {
            Error::data("the state file was written by a later version").hint("run that version")
        } else {
            damaged("it does not begin and end as state files do")
        });
    }
    let length = u32::from_le_bytes(*length) as usize;
    let end = bytes.len() - TAIL;
    let footer = end.checked_sub(length).and_then(|from| bytes.get(from..end));
    let footer = footer.filter(|f| xxh3_64(f) == u64::from_le_bytes(*sum));
    let footer = footer.ok_or_else(|| damaged("its footer does not match its checksum"))?;
    let footer: Footer = serde_json::from_slice(footer).map_err(|e| damaged(&format!("its footer: {e}")))?;
    match footer.version {
        1 => Ok(footer),
        n => Err(Error::data(format!("the state file has version {n}")).hint("run a later version")),
    }
}

fn read_block(bytes: &[u8], block: &Block) -> Result<TablePart> {
    let place = |from: u64, length: u64| -> Option<Range<usize>> {
        let from = usize::try_from(from).ok()?;
        Some(from..from.checked_add(usize::try_from(length).ok()?)?)
    };
    let content = place(block.offset, block.length).and_then(|range| bytes.get(range));
    let content = content.filter(|c| checksum(c) == block.checksum);
    let content = content.ok_or_else(|| damaged("a block does not match its checksum"))?;
    guarded(|| {
        let mut reader = StreamReader::try_new(Cursor::new(content), None)?;
        let rows = reader.next().transpose()?.ok_or_else(|| damaged("a block without rows"))?;
        if block.key_groups.is_none() {
            return Ok(TablePart { rows, key_groups: None, kind: block.part_kind() });
        }
        let at = rows.num_columns().checked_sub(1).ok_or_else(|| damaged("a block without key groups"))?;
        let columns: Vec<usize> = (0..at).collect();
        let groups: Option<UInt8Array> = rows.column(at).as_primitive_opt::<UInt8Type>().cloned();
        let groups = groups.filter(|g| g.null_count() == 0);
        let groups = groups.ok_or_else(|| damaged("a block without key groups"))?;
        Ok(TablePart { rows: rows.project(&columns)?, key_groups: Some(groups), kind: block.part_kind() })
    })
}

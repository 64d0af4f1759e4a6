//! What waits for a partition, rows and watermarks in the order in which they came: in memory, the older part on disk.
//!
//! ```text
//!  oldest                                                      newest
//!  file: rows │ watermark, rows │ rows │ …  ─►  memory: rows │ watermark │ rows │ watermark
//! ```

use std::collections::VecDeque;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

use crate::error::{Error, Result};
use crate::runtime::spilling::file::SpillFile;
use crate::runtime::spilling::memory::StateShare;
use crate::stream::bytes::batch_bytes;
use crate::stream::{BATCH_BYTES, ChangeBatch, RowKinds, Timestamp};

/// Something that waits.
#[derive(Debug)]
pub(super) enum Waiting {
    /// Rows of an input.
    Rows(usize, ChangeBatch),
    /// The watermark rose between the rows before it and those after it.
    Time(Timestamp),
}

/// The queue of one partition.
#[derive(Default)]
pub(super) struct Queue {
    /// What is older than all in memory.
    file: Option<SpillFile>,
    memory: Vec<Waiting>,
    /// Bytes in memory.
    pub bytes: usize,
    /// Rows in memory and on disk.
    pub rows: usize,
}

impl Queue {
    pub(super) fn push(&mut self, port: usize, batch: ChangeBatch, bytes: usize) {
        self.rows += batch.num_rows();
        self.bytes += bytes;
        self.memory.push(Waiting::Rows(port, batch));
    }

    /// The watermark rose: of several without rows between them the last one counts.
    pub(super) fn tell_time(&mut self, watermark: Timestamp) {
        match self.memory.last_mut() {
            Some(Waiting::Time(last)) => *last = watermark,
            _ => self.memory.push(Waiting::Time(watermark)),
        }
    }

    /// Bytes on disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.file.as_ref().map_or(0, |f| f.bytes)
    }

    /// Moves the rows in memory to disk. A watermark goes with the rows behind it.
    pub(super) fn spill(&mut self, share: &StateShare) -> Result<()> {
        let mut before = None;
        for waiting in coalesce(std::mem::take(&mut self.memory))? {
            let (port, batch) = match waiting {
                Waiting::Rows(port, batch) => (port, batch),
                Waiting::Time(watermark) => {
                    before = Some(watermark);
                    continue;
                }
            };
            let file = match &mut self.file {
                Some(file) => file,
                none => none.insert(SpillFile::new(share.store().new_file()?)),
            };
            let written = file.bytes;
            file.append_rows(port, before.take(), &batch)?;
            share.spilled(file.bytes - written);
        }
        self.memory.extend(before.map(Waiting::Time));
        self.bytes = 0;
        Ok(())
    }

    /// Takes everything out, the oldest first.
    pub(super) fn take(&mut self) -> Result<VecDeque<Waiting>> {
        let mut all = VecDeque::new();
        if let Some(file) = self.file.take() {
            for (port, watermark, batch) in file.read_rows()? {
                all.extend(watermark.map(Waiting::Time));
                all.push_back(Waiting::Rows(port, batch));
            }
        }
        all.extend(coalesce(std::mem::take(&mut self.memory))?);
        (self.bytes, self.rows) = (0, 0);
        Ok(all)
    }
}

/// Joins runs of batches of one input, as long as they stay small in bytes. Nothing is joined over a watermark.
fn coalesce(waiting: Vec<Waiting>) -> Result<Vec<Waiting>> {
    let mut joined = Vec::with_capacity(waiting.len().min(64));
    let mut run: Vec<ChangeBatch> = Vec::new();
    let (mut of, mut bytes) = (0, 0);
    let close = |run: &mut Vec<ChangeBatch>, of: usize, joined: &mut Vec<Waiting>| {
        if !run.is_empty() {
            joined.push(Waiting::Rows(of, concat(std::mem::take(run))?));
        }
        Ok::<(), Error>(())
    };
    for next in waiting {
        match next {
            Waiting::Time(_) => {
                close(&mut run, of, &mut joined)?;
                joined.push(next);
            }
            Waiting::Rows(port, batch) => {
                let more = batch_bytes(&batch.rows);
                if port != of || bytes + more > BATCH_BYTES {
                    close(&mut run, of, &mut joined)?;
                }
                bytes = if run.is_empty() { more } else { bytes + more };
                of = port;
                run.push(batch);
            }
        }
    }
    close(&mut run, of, &mut joined)?;
    Ok(joined)
}

fn concat(mut run: Vec<ChangeBatch>) -> Result<ChangeBatch> {
    if run.len() == 1 {
        return Ok(run.swap_remove(0));
    }
    let schema = run[0].schema();
    let rows: RecordBatch = concat_batches(&schema, run.iter().map(|b| &b.rows))?;
    if run.iter().all(|b| b.kinds.is_none()) {
        return Ok(ChangeBatch::insert_only(rows));
    }
    let mut codes = Vec::with_capacity(rows.num_rows());
    for batch in &run {
        match &batch.kinds {
            Some(kinds) => codes.extend_from_slice(kinds.codes()),
            None => codes.resize(codes.len() + batch.num_rows(), 0),
        }
    }
    Ok(ChangeBatch::with_kinds(rows, RowKinds::new(codes)))
}

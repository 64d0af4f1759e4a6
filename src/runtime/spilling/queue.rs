//! Rows that wait for a partition: in memory, the older ones on disk.

use std::collections::VecDeque;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

use crate::error::Result;
use crate::runtime::spilling::file::SpillFile;
use crate::runtime::spilling::memory::StateShare;
use crate::stream::bytes::batch_bytes;
use crate::stream::{BATCH_BYTES, ChangeBatch, RowKinds};

/// The queue of one partition.
#[derive(Default)]
pub(super) struct Queue {
    /// Rows on disk by input: older than those in memory.
    files: Vec<Option<SpillFile>>,
    memory: Vec<(usize, ChangeBatch)>,
    /// Bytes in memory.
    pub bytes: usize,
    /// Rows in memory and on disk.
    pub rows: usize,
}

impl Queue {
    pub(super) fn push(&mut self, port: usize, batch: ChangeBatch, bytes: usize) {
        self.rows += batch.num_rows();
        self.bytes += bytes;
        self.memory.push((port, batch));
    }

    /// Bytes on disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.files.iter().flatten().map(|f| f.bytes).sum()
    }

    /// Moves what is in memory to disk.
    pub(super) fn spill(&mut self, share: &StateShare) -> Result<()> {
        for (port, batch) in coalesce(std::mem::take(&mut self.memory))? {
            if self.files.len() <= port {
                self.files.resize_with(port + 1, || None);
            }
            let file = match &mut self.files[port] {
                Some(file) => file,
                none => none.insert(SpillFile::new(share.store().new_file()?)),
            };
            let before = file.bytes;
            file.append_rows(&batch)?;
            share.spilled(file.bytes - before);
        }
        self.bytes = 0;
        Ok(())
    }

    /// Takes everything out, oldest first per input.
    pub(super) fn take(&mut self) -> Result<VecDeque<(usize, ChangeBatch)>> {
        let mut all = VecDeque::new();
        for (port, file) in std::mem::take(&mut self.files).into_iter().enumerate() {
            let Some(file) = file else { continue };
            all.extend(file.read_rows()?.into_iter().map(|batch| (port, batch)));
        }
        all.extend(coalesce(std::mem::take(&mut self.memory))?);
        (self.bytes, self.rows) = (0, 0);
        Ok(all)
    }
}

/// Joins runs of batches of one input, as long as they stay small in bytes.
fn coalesce(batches: Vec<(usize, ChangeBatch)>) -> Result<Vec<(usize, ChangeBatch)>> {
    let mut joined = Vec::new();
    let mut run: Vec<ChangeBatch> = Vec::new();
    let (mut of, mut bytes) = (0, 0);
    for (port, batch) in batches {
        let more = batch_bytes(&batch.rows);
        if (port != of || bytes + more > BATCH_BYTES) && !run.is_empty() {
            joined.push((of, concat(std::mem::take(&mut run))?));
            bytes = 0;
        }
        of = port;
        bytes += more;
        run.push(batch);
    }
    if !run.is_empty() {
        joined.push((of, concat(run)?));
    }
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

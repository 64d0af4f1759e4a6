//! Sending batches to the subtasks of the next operator.
//!
//! A keyed exchange hashes the key columns, finds the subtask of each row's key group, sorts the row numbers by subtask
//! (counting sort) and takes each column **once**; the targets get zero-copy slices of the result.

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{take, take_record_batch};

use crate::error::Result;
use crate::runtime::channel::{Cancellation, Sender};
use crate::runtime::message::Message;
use crate::state::key::hash_columns;
use crate::stream::key_group::{KeyGroup, subtask_of};
use crate::stream::{ChangeBatch, RowKinds};

/// How rows find their subtask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Partitioning {
    /// Subtask i sends to subtask i; equal parallelism.
    Forward,
    /// By key group of these columns.
    Hash(Vec<usize>),
    /// Batches in turn.
    Rebalance,
    /// All to the one subtask there is.
    Single,
}

/// One outgoing edge of a subtask.
pub struct ExchangeOutput {
    partitioning: Partitioning,
    targets: Vec<Sender>,
    next: usize,
    hashes: Vec<u64>,
}

impl ExchangeOutput {
    /// An edge to `targets`, one per receiving subtask (exactly one for `Forward` and `Single`).
    pub fn new(partitioning: Partitioning, targets: Vec<Sender>, subtask: usize) -> Self {
        ExchangeOutput { partitioning, targets, next: subtask, hashes: Vec::new() }
    }

    /// Sends rows.
    ///
    /// # Errors
    /// Cancelled if the job fails meanwhile; kernels' errors.
    pub async fn send(&mut self, batch: ChangeBatch, cancellation: &Cancellation) -> Result<()> {
        if let [only] = self.targets.as_slice() {
            return only.send(Message::Batch(batch), cancellation).await;
        }
        match &self.partitioning {
            Partitioning::Forward | Partitioning::Single | Partitioning::Rebalance => {
                let target = self.next % self.targets.len();
                self.next = target + 1;
                self.targets[target].send(Message::Batch(batch), cancellation).await
            }
            Partitioning::Hash(columns) => {
                let keys: Vec<ArrayRef> = columns.iter().map(|c| batch.rows.column(*c).clone()).collect();
                self.hashes.clear();
                hash_columns(&keys, batch.num_rows(), &mut self.hashes)?;
                for (target, part) in split(&batch, &self.hashes, self.targets.len())? {
                    self.targets[target].send(Message::Batch(part), cancellation).await?;
                }
                Ok(())
            }
        }
    }

    /// Sends a control message to every target.
    ///
    /// # Errors
    /// Cancelled.
    pub async fn broadcast(&mut self, message: &Message, cancellation: &Cancellation) -> Result<()> {
        for target in &self.targets {
            target.send(message.clone(), cancellation).await?;
        }
        Ok(())
    }
}

/// Splits a batch by the subtask of each row's hash; rows keep their order within a target, update pairs that are torn
/// apart become `-D` and `+I`.
///
/// # Errors
/// From `take`.
pub fn split(batch: &ChangeBatch, hashes: &[u64], targets: usize) -> Result<Vec<(usize, ChangeBatch)>> {
    split_by(batch, hashes, targets, |hash| subtask_of(KeyGroup::of_hash(hash), targets))
}

/// Splits a batch by `target` of each row's hash, below `targets`; as [`split`].
///
/// # Errors
/// From `take`.
pub fn split_by(
    batch: &ChangeBatch,
    hashes: &[u64],
    targets: usize,
    target: impl Fn(u64) -> usize,
) -> Result<Vec<(usize, ChangeBatch)>> {
    let mut counts = vec![0usize; targets];
    let rows_target: Vec<u16> = hashes
        .iter()
        .map(|h| {
            let t = target(*h);
            counts[t] += 1;
            t as u16
        })
        .collect();
    if let Some(only) = counts.iter().position(|c| *c == hashes.len()) {
        return Ok(if hashes.is_empty() { Vec::new() } else { vec![(only, batch.clone())] });
    }
    let mut starts = Vec::with_capacity(targets);
    let mut sum = 0;
    for c in &counts {
        starts.push(sum);
        sum += c;
    }
    let mut indices = vec![0u32; hashes.len()];
    let mut at = starts.clone();
    for (row, t) in rows_target.iter().enumerate() {
        let slot = &mut at[*t as usize];
        indices[*slot] = row as u32;
        *slot += 1;
    }
    let indices = UInt32Array::from(indices);
    let rows: RecordBatch = take_record_batch(&batch.rows, &indices)?;
    let codes = match &batch.kinds {
        None => None,
        Some(k) => Some(take(&k.to_array(), &indices, None)?),
    };
    let codes = codes.as_deref().and_then(|a| a.as_any().downcast_ref::<arrow::array::UInt8Array>());
    let mut parts = Vec::with_capacity(targets);
    for (t, (start, count)) in starts.into_iter().zip(counts).enumerate() {
        if count == 0 {
            continue;
        }
        let rows = rows.slice(start, count);
        let part = match codes {
            None => ChangeBatch::insert_only(rows),
            Some(codes) => {
                let mut codes = codes.values()[start..start + count].to_vec();
                ChangeBatch::heal_pairs(&mut codes);
                ChangeBatch::with_kinds(rows, RowKinds::new(codes))
            }
        };
        parts.push((t, part));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn batch(values: impl IntoIterator<Item = i64>) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from_iter_values(values))]).unwrap()
    }

    #[test]
    fn splitting_keeps_whole_update_pairs_and_heals_torn_ones() {
        let rows = batch([1, 1, 2, 3]);
        let kinds = RowKinds::new(vec![1, 2, 1, 2]);
        let mut hashes = vec![0u64, 0, 0, u64::MAX];
        let parts = split(&ChangeBatch::with_kinds(rows.clone(), kinds.clone()), &hashes, 2).unwrap();
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[0].1.kinds.as_ref().unwrap().codes(), &[1, 2, 3]);
        // The lone +U became +I, so that no kinds are needed.
        assert_eq!(parts[1].1.kinds, None);
        hashes.fill(u64::MAX);
        let whole = split(&ChangeBatch::with_kinds(rows, kinds.clone()), &hashes, 4).unwrap();
        assert_eq!(whole.len(), 1);
        assert_eq!((whole[0].0, whole[0].1.kinds.clone()), (3, Some(kinds)));
        assert!(split(&ChangeBatch::insert_only(batch([])), &[], 2).unwrap().is_empty());
    }
}

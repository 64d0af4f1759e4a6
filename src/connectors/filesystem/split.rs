//! Splits: what one reader reads at a time, and the queue that readers share.
//!
//! A big uncompressed file of lines and a big Parquet file are cut into byte ranges; every other file is one split. Cuts
//! depend on nothing but the file's size, so a split has the same name whenever it is planned again.
//!
//! | state | what for | when dropped |
//! |---|---|---|
//! | queue of splits | not begun yet | taken by a reader |
//! | splits begun before a restore, per reader | where they go on, until the reader comes to them | taken by the reader |
//! | names of finished splits, per reader | a restored job does not read them again | never: a file counts once |
//! | position of the split at work, per reader | where a restored job goes on | with the split |
//!
//! A snapshot holds what a reader has finished and begun, not what is still queued: readers take their snapshots at
//! different moments, and a split that left the queue in between would be counted twice or not at all. What is left to
//! do is the difference between the listing and what was begun.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::ArrayRef;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::location::FileEntry;
use crate::edges::SplitState;
use crate::error::{Error, Result};

/// Bytes per split of a file that can be cut.
pub(super) const SPLIT_BYTES: u64 = 32 << 20;

/// A file with the values of its partition.
#[derive(Debug)]
pub(super) struct SplitFile {
    pub(super) entry: FileEntry,
    /// One array of one row per partition column.
    pub(super) partition: Vec<ArrayRef>,
}

/// A range of a file.
#[derive(Debug, Clone)]
pub(super) struct Split {
    pub(super) file: Arc<SplitFile>,
    pub(super) start: u64,
    /// `u64::MAX` for a whole file.
    pub(super) end: u64,
    /// Where to go on, from a snapshot.
    pub(super) resume: Option<Position>,
}

/// How far a split has been read, as it stands in snapshots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Nothing is left.
    #[serde(default)]
    pub(super) done: bool,
    /// Text: offset of the next record in the uncompressed text. Parquet: number of the row group.
    #[serde(default)]
    pub(super) offset: u64,
    /// Parquet: rows read of that row group.
    #[serde(default)]
    pub(super) rows: u64,
    /// End of the split.
    #[serde(default)]
    pub(super) end: u64,
}

impl Split {
    /// Stable name.
    pub(super) fn name(&self) -> String {
        format!("{}#{}", self.file.entry.path, self.start)
    }
}

impl Position {
    pub(super) fn state(&self, split: String) -> Result<SplitState> {
        let position = serde_json::to_string(self).map_err(|e| Error::internal(e.to_string()))?;
        Ok(SplitState { split, position })
    }

    fn parse(state: &SplitState) -> Result<Self> {
        serde_json::from_str(&state.position).map_err(|e| {
            Error::data(format!(
                "the snapshot holds a position of '{}' that is not understood: {e}",
                state.split
            ))
        })
    }
}

/// Cuts a file.
pub(super) fn cut(file: SplitFile, splittable: bool, split_bytes: u64) -> Vec<Split> {
    let file = Arc::new(file);
    let size = file.entry.size;
    if !splittable || size <= split_bytes + split_bytes / 4 {
        return vec![Split { file, start: 0, end: u64::MAX, resume: None }];
    }
    let mut splits = Vec::new();
    let mut start = 0;
    while start < size {
        let mut end = start + split_bytes;
        // No tiny rest, and the last split reads whatever the file has by then.
        if size.saturating_sub(end) < split_bytes / 4 {
            end = u64::MAX;
        }
        splits.push(Split { file: file.clone(), start, end, resume: None });
        start = end;
    }
    splits
}

/// What a snapshot says of the splits of all readers.
#[derive(Debug, Default)]
pub(super) struct Restored {
    positions: HashMap<String, Position>,
}

impl Restored {
    pub(super) fn new(states: &[SplitState]) -> Result<Self> {
        let positions =
            states.iter().map(|s| Ok((s.split.clone(), Position::parse(s)?))).collect::<Result<_>>()?;
        Ok(Restored { positions })
    }

    /// The splits that are left to read: begun ones, and those nobody has begun.
    ///
    /// # Errors
    /// External if a file is gone that was begun.
    pub(super) fn remaining(&self, splits: Vec<Split>) -> Result<(VecDeque<Split>, VecDeque<Split>)> {
        let found: HashSet<String> = splits.iter().map(Split::name).collect();
        if let Some((name, _)) = self.positions.iter().find(|(name, p)| !p.done && !found.contains(*name)) {
            let path = name.rsplit_once('#').map_or(name.as_str(), |(path, _)| path);
            return Err(Error::external(format!(
                "the file {path} is gone, which the snapshot is in the middle of"
            )));
        }
        let mut left = VecDeque::new();
        let mut fresh = VecDeque::new();
        for mut split in splits {
            match self.positions.get(&split.name()) {
                Some(p) if p.done => {}
                Some(p) => {
                    split.resume = Some(*p);
                    split.end = p.end;
                    left.push_back(split);
                }
                None => fresh.push_back(split),
            }
        }
        Ok((left, fresh))
    }

    /// Names of the splits that are done.
    pub(super) fn done(&self) -> Vec<String> {
        let mut done: Vec<String> =
            self.positions.iter().filter(|(_, p)| p.done).map(|(name, _)| name.clone()).collect();
        done.sort();
        done
    }
}

/// Splits nobody has begun, shared by the readers of a source.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<QueueState>,
    /// Rings when splits or an error arrive.
    pub(super) arrived: Notify,
}

#[derive(Debug, Default)]
struct QueueState {
    splits: VecDeque<Split>,
    /// Files that were ever queued, when the folder is monitored.
    seen: HashSet<String>,
    error: Option<Error>,
}

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds splits.
    pub(super) fn push(&self, splits: impl IntoIterator<Item = Split>) {
        self.lock().splits.extend(splits);
        self.arrived.notify_waiters();
    }

    /// Takes the next split.
    ///
    /// # Errors
    /// What the monitor of the folder met.
    pub(super) fn pop(&self) -> Result<Option<Split>> {
        let mut state = self.lock();
        if let Some(e) = &state.error {
            return Err(e.duplicate());
        }
        Ok(state.splits.pop_front())
    }

    /// Whether the file was not seen before; it is from now on.
    pub(super) fn see(&self, path: &str) -> bool {
        self.lock().seen.insert(path.to_owned())
    }

    /// Tells all readers of an error.
    pub(super) fn fail(&self, error: Error) {
        self.lock().error = Some(error);
        self.arrived.notify_waiters();
    }
}

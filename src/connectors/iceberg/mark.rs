//! Marks: what the snapshots and properties of a table tell about the jobs that write to it.
//!
//! | key | in | of |
//! |---|---|---|
//! | `tidelake.pipeline` | summary, properties | the job and its place in the plan; of a table that keeps positions, the table's own |
//! | `tidelake.epoch` | summary, properties | the commit, ascending |
//! | `tidelake.generation` | summary, properties | the process that commits, ascending |
//! | `tidelake.claim` | properties | the one process of that generation |
//! | `tidelake.positions` | properties | how far the source is read: `{split: position}` |
//! | `tidelake.committed.P` | properties | the last commit of the pipeline P whose snapshot has expired |
//! | `tidelake.positions` | summary | what the snapshot holds of the source: `{split: [from, to]}` |
//!
//! A job with checkpoints writes pipeline and epoch into its snapshots, and nothing else. Properties outlive the expiry of
//! snapshots; summaries tell when somebody has rolled the table back, which properties don't notice.

use std::collections::{BTreeMap, HashMap, HashSet};

use iceberg::spec::{SnapshotRef, TableMetadata};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::judge::{Judge, Verdict};
use crate::edges::SplitState;
use crate::error::{Error, Result};

const PIPELINE: &str = "tidelake.pipeline";
const EPOCH: &str = "tidelake.epoch";
const GENERATION: &str = "tidelake.generation";
const CLAIM: &str = "tidelake.claim";
const POSITIONS: &str = "tidelake.positions";
const COMMITTED: &str = "tidelake.committed.";

/// How far each split of a source is read, as its connector says it.
pub(super) type Positions = BTreeMap<String, Value>;

/// As a source gives them.
///
/// # Errors
/// Internal if a position is no JSON.
pub(super) fn from_states(states: &[SplitState]) -> Result<Positions> {
    let position = |s: &SplitState| {
        let value = serde_json::from_str(&s.position)
            .map_err(|e| Error::internal(format!("the position of {}: {e}", s.split)))?;
        Ok((s.split.clone(), value))
    };
    states.iter().map(position).collect()
}

/// As a source takes them.
pub(super) fn to_states(positions: &Positions) -> Vec<SplitState> {
    let state = |(split, p): (&String, &Value)| SplitState { split: split.clone(), position: p.to_string() };
    positions.iter().map(state).collect()
}

fn number(of: &HashMap<String, String>, key: &str) -> Option<u64> {
    of.get(key).and_then(|v| v.parse().ok())
}

/// The snapshots that the table is made of, the newest first.
pub(super) fn ancestry(metadata: &TableMetadata) -> impl Iterator<Item = &SnapshotRef> {
    std::iter::successors(metadata.current_snapshot(), |s| {
        s.parent_snapshot_id().and_then(|id| metadata.snapshot_by_id(id))
    })
}

/// The summary of a snapshot, if the pipeline made it.
fn marked<'a>(snapshot: &'a SnapshotRef, pipeline: &str) -> Option<&'a HashMap<String, String>> {
    let summary = &snapshot.summary().additional_properties;
    (summary.get(PIPELINE).map(String::as_str) == Some(pipeline)).then_some(summary)
}

/// What the marks of snapshots that go say, as properties: the last commit of each job that may come back and ask. (A table
/// that keeps positions says it in its properties anyhow; a pipeline of version 7 is that of one run, which does not come back.)
pub(super) fn outliving(metadata: &TableMetadata, expired: &HashSet<i64>) -> HashMap<String, String> {
    let mut seen = HashSet::new();
    let mut kept = HashMap::new();
    for snapshot in ancestry(metadata) {
        let summary = &snapshot.summary().additional_properties;
        let Some(pipeline) = summary.get(PIPELINE) else { continue };
        let comes_back = Uuid::parse_str(pipeline).is_ok_and(|p| p.get_version_num() == 8);
        if seen.insert(pipeline)
            && comes_back
            && expired.contains(&snapshot.snapshot_id())
            && let Some(epoch) = summary.get(EPOCH)
        {
            kept.insert(format!("{COMMITTED}{pipeline}"), epoch.clone());
        }
    }
    kept
}

/// Identifies one commit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    /// Whose it is.
    pub pipeline: Uuid,
    /// Its number.
    pub epoch: u64,
    /// The table.
    pub table: Uuid,
    /// In a table that keeps positions: generation, and the epoch that it continues.
    pub continues: Option<(u64, u64)>,
}

impl Judge for Mark {
    fn judge(&self, metadata: &TableMetadata) -> Verdict {
        if metadata.uuid() != self.table {
            return Verdict::Replaced;
        }
        if let Some((generation, epoch)) = self.continues {
            return match Ledger::read(metadata) {
                Ok(Some(at)) if at.pipeline != self.pipeline || at.is_rolled_back => Verdict::Diverged,
                Ok(Some(at)) if at.generation > generation => Verdict::Fenced(at.generation),
                Ok(Some(at)) if at.generation == generation && at.epoch == self.epoch => Verdict::Committed,
                Ok(Some(at)) if at.generation == generation && at.epoch == epoch => Verdict::Go,
                _ => Verdict::Diverged,
            };
        }
        let pipeline = self.pipeline.to_string();
        match ancestry(metadata).find_map(|s| marked(s, &pipeline)) {
            // Epochs of a pipeline are committed in order, so its newest marker tells.
            Some(newest) if number(newest, EPOCH).unwrap_or(0) >= self.epoch => Verdict::Committed,
            Some(_) => Verdict::Go,
            None => match number(metadata.properties(), &format!("{COMMITTED}{pipeline}")) {
                Some(epoch) if epoch >= self.epoch => Verdict::Committed,
                _ => Verdict::Go,
            },
        }
    }
}

/// Who wrote a snapshot.
fn engine() -> HashMap<String, String> {
    HashMap::from([
        ("engine-name".to_owned(), "tidelake".to_owned()),
        ("engine-version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ])
}

impl Mark {
    /// The summary of its snapshot.
    pub fn summary(&self) -> HashMap<String, String> {
        let mut summary = engine();
        summary.insert(PIPELINE.to_owned(), self.pipeline.to_string());
        summary.insert(EPOCH.to_owned(), self.epoch.to_string());
        summary
    }
}

/// What a table that keeps positions says of where its job stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ledger {
    /// Of the table.
    pub pipeline: Uuid,
    /// Of the process that commits.
    pub generation: u64,
    /// Of the last commit.
    pub epoch: u64,
    /// The one process of that generation.
    pub claim: Uuid,
    /// How far the source is read; `None` before the first commit.
    pub positions: Option<Positions>,
    /// The table has been taken back to a state before the last commit.
    pub is_rolled_back: bool,
}

impl Ledger {
    /// What the table says; `None` if it keeps no positions.
    ///
    /// # Errors
    /// Validation if its properties are damaged.
    pub fn read(metadata: &TableMetadata) -> Result<Option<Ledger>> {
        let properties = metadata.properties();
        let Some(pipeline) = properties.get(PIPELINE) else { return Ok(None) };
        let damaged = |key: &str| {
            Error::validation(format!("the table property '{key}' is damaged or missing")).hint(
                "it says how far the source is read; restore it from an older metadata file of the table",
            )
        };
        let uuid = |key| properties.get(key).and_then(|v| v.parse().ok()).ok_or_else(|| damaged(key));
        let count = |key| number(properties, key).ok_or_else(|| damaged(key));
        let (generation, epoch) = (count(GENERATION)?, count(EPOCH)?);
        let positions = match properties.get(POSITIONS) {
            Some(text) => Some(serde_json::from_str(text).map_err(|_| damaged(POSITIONS))?),
            None => None,
        };
        let is_last = |summary: &HashMap<String, String>| {
            number(summary, EPOCH) == Some(epoch) && number(summary, GENERATION) == Some(generation)
        };
        let is_rolled_back = match ancestry(metadata).find_map(|s| marked(s, pipeline)) {
            Some(newest) => !is_last(newest),
            // Expired, unless they are still there and only not in the line of the table.
            None => metadata.snapshots().any(|s| marked(s, pipeline).is_some()),
        };
        Ok(Some(Ledger {
            pipeline: uuid(PIPELINE)?,
            generation,
            epoch,
            claim: uuid(CLAIM)?,
            positions,
            is_rolled_back,
        }))
    }

    /// How far the source is read for the rows that are in the table, from its snapshots; `None` if too many of them have
    /// expired to know.
    pub fn positions_of_rows(metadata: &TableMetadata) -> Option<Positions> {
        let pipeline = metadata.properties().get(PIPELINE)?;
        let mut all = Positions::new();
        for snapshot in ancestry(metadata) {
            if let Some(summary) = marked(snapshot, pipeline) {
                for (split, (_, to)) in ranges(summary) {
                    all.entry(split).or_insert(to);
                }
                if summary.contains_key(CLAIM) {
                    // A claim names all splits.
                    return Some(all);
                }
            }
        }
        None
    }

    /// The properties that say all this.
    pub fn properties(&self) -> HashMap<String, String> {
        let mut properties = HashMap::from([
            (PIPELINE.to_owned(), self.pipeline.to_string()),
            (GENERATION.to_owned(), self.generation.to_string()),
            (EPOCH.to_owned(), self.epoch.to_string()),
            (CLAIM.to_owned(), self.claim.to_string()),
        ]);
        if let Some(positions) = &self.positions {
            properties.insert(POSITIONS.to_owned(), Value::from_iter(positions.clone()).to_string());
        }
        properties
    }

    /// The summary of the commit that goes from `before` to this.
    pub fn summary(&self, before: &Positions) -> HashMap<String, String> {
        let mut summary = engine();
        summary.insert(PIPELINE.to_owned(), self.pipeline.to_string());
        summary.insert(EPOCH.to_owned(), self.epoch.to_string());
        summary.insert(GENERATION.to_owned(), self.generation.to_string());
        let moved = self.positions.iter().flatten().filter(|(split, to)| before.get(*split) != Some(to));
        let moved = moved.map(|(split, to)| {
            let from = before.get(split).cloned().unwrap_or(Value::Null);
            (split.clone(), Value::Array(vec![from, to.clone()]))
        });
        summary.insert(POSITIONS.to_owned(), Value::from_iter(moved).to_string());
        summary
    }

    /// The summary of the snapshot that takes the table over.
    pub fn claim_summary(&self) -> HashMap<String, String> {
        let all = self.positions.iter().flatten();
        let all = all.map(|(split, at)| (split.clone(), Value::Array(vec![at.clone(), at.clone()])));
        let mut summary = self.summary(&Positions::new());
        summary.insert(POSITIONS.to_owned(), Value::from_iter(all).to_string());
        summary.insert(CLAIM.to_owned(), self.claim.to_string());
        summary
    }
}

/// What a snapshot holds of a source: from where to where of each split.
pub(super) fn ranges(summary: &HashMap<String, String>) -> BTreeMap<String, (Value, Value)> {
    let parsed =
        summary.get(POSITIONS).and_then(|t| serde_json::from_str::<BTreeMap<String, [Value; 2]>>(t).ok());
    parsed.into_iter().flatten().map(|(split, [from, to])| (split, (from, to))).collect()
}

/// A process that takes a table over.
#[derive(Debug)]
pub(super) struct ClaimMark {
    /// The table.
    pub table: Uuid,
    /// What it said when it was looked at.
    pub before: Option<Ledger>,
    /// The new claim.
    pub claim: Uuid,
}

impl Judge for ClaimMark {
    fn judge(&self, metadata: &TableMetadata) -> Verdict {
        match Ledger::read(metadata) {
            _ if metadata.uuid() != self.table => Verdict::Replaced,
            Ok(Some(now)) if now.claim == self.claim => Verdict::Committed,
            Ok(now) if now == self.before => Verdict::Go,
            _ => Verdict::Diverged,
        }
    }
}

/// What a table keeps of how far its source was read.
#[derive(Debug, Clone)]
pub struct KeptPositions {
    /// How far each split is read, as its connector says it.
    pub now: BTreeMap<String, Value>,
    /// The commits that are in the table, the oldest first; older ones may have expired.
    pub commits: Vec<KeptCommit>,
    /// The newest snapshot.
    pub head: Option<i64>,
    /// Number of the last commit.
    pub epoch: u64,
    /// Number of the process that writes.
    pub generation: u64,
    /// The table has been taken back to a state before the last commit.
    pub is_rolled_back: bool,
}

/// What a table is made of, as its newest snapshot says.
#[derive(Debug, Clone, Serialize)]
pub struct TableFacts {
    /// Rows, deleted ones among them; `None` where nobody has counted.
    pub rows: Option<u64>,
    /// Data files.
    pub data_files: Option<u64>,
    /// Delete files.
    pub delete_files: Option<u64>,
    /// Bytes of all of them.
    pub bytes: Option<u64>,
    /// Snapshots that are kept.
    pub snapshots: usize,
    /// When the newest was made: milliseconds since the epoch.
    pub last_commit_ms: Option<i64>,
    /// The topic whose table it is, if tableflow has made it.
    #[serde(skip)]
    pub topic: Option<String>,
}

impl TableFacts {
    /// Of a table.
    pub(super) fn of(metadata: &TableMetadata) -> Self {
        let head = metadata.current_snapshot();
        let total = |key: &str| head.and_then(|h| number(&h.summary().additional_properties, key));
        TableFacts {
            rows: total("total-records"),
            data_files: total("total-data-files"),
            delete_files: total("total-delete-files"),
            bytes: total("total-files-size"),
            snapshots: metadata.snapshots().len(),
            last_commit_ms: head.map(|h| h.timestamp_ms()),
            topic: metadata.properties().get("tidelake.topic").cloned(),
        }
    }
}

/// A commit with positions.
#[derive(Debug, Clone)]
pub struct KeptCommit {
    /// Its snapshot.
    pub snapshot: i64,
    /// Its number.
    pub epoch: u64,
    /// Rows that it added.
    pub rows: u64,
    /// It only takes the table over.
    pub is_claim: bool,
    /// From where to where each split was read for it.
    pub ranges: BTreeMap<String, (Value, Value)>,
}

impl KeptPositions {
    /// What the table says; `None` if it keeps no positions.
    ///
    /// # Errors
    /// As [`Ledger::read`].
    pub(super) fn read(metadata: &TableMetadata) -> Result<Option<Self>> {
        let Some(ledger) = Ledger::read(metadata)? else { return Ok(None) };
        let pipeline = ledger.pipeline.to_string();
        let commit = |s: &SnapshotRef| {
            let summary = marked(s, &pipeline)?;
            Some(KeptCommit {
                snapshot: s.snapshot_id(),
                epoch: number(summary, EPOCH)?,
                rows: number(summary, "added-records").unwrap_or(0),
                is_claim: summary.contains_key(CLAIM),
                ranges: ranges(summary),
            })
        };
        let mut commits: Vec<KeptCommit> = ancestry(metadata).filter_map(commit).collect();
        commits.reverse();
        let now = ledger.positions.clone().unwrap_or_default();
        let Ledger { epoch, generation, is_rolled_back, .. } = ledger;
        let head = metadata.current_snapshot_id();
        Ok(Some(KeptPositions { now, commits, head, epoch, generation, is_rolled_back }))
    }
}

//! The format of manifests: what a checkpoint is made of.
//!
//! A manifest is a JSON document and, in a line of its own, the xxh3 checksum of its bytes:
//!
//! ```text
//!  { "version": 1, "sequence": 42, … }
//!  xxh3:0011223344556677
//! ```

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::segment::checksum;
use crate::edges::{Committable, SplitState};
use crate::error::{Error, Result};

/// A checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the format.
    pub version: u32,
    /// Name of the job.
    pub job: String,
    /// The job from its first start to its end, however often it was restarted: sinks know it by this.
    pub lineage: Uuid,
    /// Number of the checkpoint, without gaps.
    pub sequence: u64,
    /// The checkpoint that the job had gone on from or taken before this one.
    pub parent: Option<u64>,
    /// Number of its epoch.
    pub epoch: u64,
    /// The process that took it.
    pub generation: u64,
    /// When it was taken, in milliseconds.
    pub taken: i64,
    /// Whether the job has ended with it: once it is committed there is nothing to go on from.
    pub is_end: bool,
    /// What decides whether it counts, if that is not the manifest itself: a transaction that cannot be repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// The savepoint that the job has begun with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// What makes it a savepoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub savepoint: Option<SavepointMark>,
    /// The plan, node by node.
    pub plan: Vec<PlanNode>,
    /// State files by operator uid.
    pub operators: BTreeMap<String, Vec<SegmentRef>>,
    /// Sources by uid.
    pub sources: BTreeMap<String, SourceState>,
    /// Committables by sink uid.
    pub sinks: BTreeMap<String, Vec<Packed>>,
    /// Nodes of chains that had ended.
    pub ended: BTreeSet<String>,
    /// How long it took.
    pub timeline: Timeline,
}

/// What a job has begun with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The savepoint or checkpoint.
    pub id: Uuid,
    /// Where it was.
    pub path: String,
}

/// Tells savepoints from checkpoints: they stand by themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavepointMark {
    /// By which checkpoints name it as their origin.
    pub id: Uuid,
    /// Whether the sources of its job were ended for it: its windows are closed, and time is at its end.
    pub drained: bool,
}

/// A node of the plan, as EXPLAIN shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanNode {
    /// Its uid.
    pub uid: String,
    /// Operator name.
    pub name: String,
    /// Its arguments.
    pub detail: String,
}

/// A state file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRef {
    /// Path in the job's folder.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Rows in it.
    pub rows: u64,
    /// The checkpoint that wrote it.
    pub epoch: u64,
    /// Whether later checkpoints need it, too.
    #[serde(default)]
    pub lasts: bool,
}

/// Where a source is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceState {
    /// What to read next, by split.
    pub positions: Vec<SplitState>,
    /// The watermark it had reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<i64>,
}

/// A committable, as base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed(pub Committable);

impl Serialize for Packed {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Packed).map_err(serde::de::Error::custom)
    }
}

/// How long the parts of a checkpoint took, in milliseconds, and how much it wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// From the barrier's start until every task had passed it and handed over its state.
    pub align_ms: u64,
    /// Until the state was written.
    pub write_ms: u64,
    /// Bytes of state written.
    pub bytes: u64,
    /// Rows of state written.
    pub rows: u64,
    /// Whether that was only what had changed.
    #[serde(default)]
    pub is_changes: bool,
}

impl Manifest {
    /// As a file.
    ///
    /// # Errors
    /// Internal.
    pub fn to_bytes(&self) -> Result<Bytes> {
        let mut text = serde_json::to_string_pretty(self).map_err(|e| Error::internal(e.to_string()))?;
        let sum = checksum(text.as_bytes());
        text += &format!("\nxxh3:{sum}\n");
        Ok(text.into())
    }

    /// From a file.
    ///
    /// # Errors
    /// Data for a damaged file or one of a later version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let damaged = |what: &str| Error::data(format!("the manifest is damaged: {what}"));
        let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is no text"))?;
        let (text, sum) =
            text.trim_end().rsplit_once("\nxxh3:").ok_or_else(|| damaged("it has no checksum"))?;
        if checksum(text.as_bytes()) != sum {
            return Err(damaged("it does not match its checksum"));
        }
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let version: Version = serde_json::from_str(text).map_err(|e| damaged(&e.to_string()))?;
        if version.version != 1 {
            return Err(Error::data(format!("the manifest has version {}", version.version))
                .hint("run a later version"));
        }
        serde_json::from_str(text).map_err(|e| damaged(&e.to_string()))
    }

    /// Bytes of all state it stands on.
    pub fn state_bytes(&self) -> u64 {
        self.operators.values().flatten().map(|s| s.bytes).sum()
    }
}

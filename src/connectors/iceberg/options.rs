//! Options of reads, in the names of Flink's Iceberg connector.

use std::time::Duration;

use super::scan::Version;
use crate::error::{Error, Result};
use crate::options::Options;

/// How a table is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ReadOptions {
    /// One state of it.
    At(Version),
    /// What is committed to it, without an end.
    Streaming(StreamingRead),
}

/// A read that never ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StreamingRead {
    /// `branch`; `None` for the main one.
    pub branch: Option<String>,
    /// `starting-strategy` with what belongs to it.
    pub start: Start,
    /// `monitor-interval`: how often it is looked for new snapshots.
    pub interval: Duration,
    /// `max-planning-snapshot-count`: the most that are read together.
    pub max_snapshots: usize,
    /// `max-allowed-planning-failures`: how many looks in a row may fail; `None` for any number.
    pub max_failures: Option<u32>,
}

/// What is read first. A snapshot means what it has appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// All that is in the table, then what is appended to it.
    TableScan,
    /// The newest snapshot.
    Latest,
    /// The oldest snapshot that is there.
    Earliest,
    /// This one.
    Snapshot(i64),
    /// The first one at this time (milliseconds since the epoch) or later.
    Timestamp(i64),
}

const STRATEGIES: &[&str] = &[
    "TABLE_SCAN_THEN_INCREMENTAL",
    "INCREMENTAL_FROM_LATEST_SNAPSHOT",
    "INCREMENTAL_FROM_EARLIEST_SNAPSHOT",
    "INCREMENTAL_FROM_SNAPSHOT_ID",
    "INCREMENTAL_FROM_SNAPSHOT_TIMESTAMP",
];

/// Options that a table may have for reads when it is written to.
pub(super) const READ_OPTIONS: &[&str] = &[
    "streaming",
    "monitor-interval",
    "starting-strategy",
    "start-snapshot-id",
    "start-snapshot-timestamp",
    "max-planning-snapshot-count",
    "max-allowed-planning-failures",
];

impl ReadOptions {
    /// Takes the read options.
    ///
    /// # Errors
    /// Validation for contradictions, Unsupported for what cannot be done.
    pub fn parse(options: &Options) -> Result<Self> {
        for (key, instead) in [
            ("start-tag", "'start-snapshot-id' names the snapshot of the tag"),
            ("end-tag", "a batch read of 'tag' holds all up to it"),
            ("end-snapshot-id", "a batch read of 'snapshot-id' holds all up to it"),
            (
                "watermark-column",
                "declare a WATERMARK: CREATE TABLE t (WATERMARK FOR c AS c) WITH (…) LIKE table",
            ),
            (
                "watermark-column-time-unit",
                "compute the row time: CREATE TABLE t (ts AS TO_TIMESTAMP_LTZ(c, 3), …)",
            ),
        ] {
            if options.take(key).is_some() {
                return Err(Error::unsupported(format!(
                    "the option '{key}' of Iceberg reads is not supported"
                ))
                .hint(instead));
            }
        }
        let is_streaming = options.bool("streaming", false)?;
        let streaming = StreamingRead::parse(options, is_streaming)?;
        let mut chosen = Vec::new();
        if let Some(id) = options.parse("snapshot-id", "a snapshot id")? {
            chosen.push(("snapshot-id", Version::Snapshot(id)));
        }
        if let Some(ms) = options.parse("as-of-timestamp", "milliseconds since 1970-01-01 00:00:00 UTC")? {
            chosen.push(("as-of-timestamp", Version::AsOf(ms)));
        }
        for key in ["branch", "tag"] {
            if let Some(name) = options.take(key) {
                chosen.push((key, Version::Reference(name)));
            }
        }
        if chosen.len() > 1 {
            return Err(Error::validation(
                "only one of 'snapshot-id', 'as-of-timestamp', 'branch' and 'tag' can be given",
            ));
        }
        match (chosen.pop(), is_streaming) {
            (Some(("branch", Version::Reference(name))), true) => {
                Ok(ReadOptions::Streaming(StreamingRead { branch: Some(name), ..streaming }))
            }
            (Some((key, _)), true) => Err(Error::validation(format!(
                "'{key}' is one state of the table, and 'streaming' = 'true' reads what is appended to it"
            ))
            .hint("'starting-strategy' with 'start-snapshot-id' or 'start-snapshot-timestamp' says where it begins")),
            (None, true) => Ok(ReadOptions::Streaming(streaming)),
            (version, false) => Ok(ReadOptions::At(version.map_or(Version::Current, |(_, version)| version))),
        }
    }
}

impl StreamingRead {
    fn parse(options: &Options, is_streaming: bool) -> Result<Self> {
        let strategy =
            options.take("starting-strategy").map(|s| (s.to_ascii_uppercase().replace('-', "_"), s));
        let id = options.parse("start-snapshot-id", "a snapshot id")?;
        let time = options.parse("start-snapshot-timestamp", "milliseconds since 1970-01-01 00:00:00 UTC")?;
        if !is_streaming && (id.is_some() || time.is_some()) {
            return Err(Error::unsupported("a batch read between two snapshots is not supported")
                .hint("with 'streaming' = 'true' all from 'start-snapshot-id' on is read; 'snapshot-id' reads one state"));
        }
        let start = match (strategy.as_ref().map(|(name, _)| name.as_str()), id, time) {
            (Some("TABLE_SCAN_THEN_INCREMENTAL"), None, None) => Start::TableScan,
            (Some("INCREMENTAL_FROM_LATEST_SNAPSHOT") | None, None, None) => Start::Latest,
            (Some("INCREMENTAL_FROM_EARLIEST_SNAPSHOT"), None, None) => Start::Earliest,
            (Some("INCREMENTAL_FROM_SNAPSHOT_ID") | None, Some(id), None) => Start::Snapshot(id),
            (Some("INCREMENTAL_FROM_SNAPSHOT_TIMESTAMP") | None, None, Some(time)) => Start::Timestamp(time),
            (Some(name), ..) if !STRATEGIES.contains(&name) => {
                let given = strategy.as_ref().map_or("", |(_, given)| given);
                return Err(options.invalid("starting-strategy", given, &STRATEGIES.join(", ")));
            }
            _ => {
                return Err(Error::validation(
                    "'start-snapshot-id' belongs to INCREMENTAL_FROM_SNAPSHOT_ID, 'start-snapshot-timestamp' to \
                     INCREMENTAL_FROM_SNAPSHOT_TIMESTAMP, and no other 'starting-strategy' has one of them",
                ));
            }
        };
        let max_failures = match options.parse::<i32>("max-allowed-planning-failures", "a number, or -1")? {
            None => Some(3),
            Some(-1) => None,
            Some(n) => Some(u32::try_from(n).map_err(|_| {
                options.invalid(
                    "max-allowed-planning-failures",
                    &n.to_string(),
                    "a number, or -1 for any number",
                )
            })?),
        };
        let max_snapshots = options.parse::<usize>("max-planning-snapshot-count", "a number above 0")?;
        if max_snapshots == Some(0) {
            return Err(options.invalid("max-planning-snapshot-count", "0", "a number above 0"));
        }
        let interval = options.duration("monitor-interval")?.unwrap_or(Duration::from_secs(60));
        if interval.is_zero() {
            return Err(options.invalid("monitor-interval", "0", "a duration above 0"));
        }
        Ok(StreamingRead {
            branch: None,
            start,
            interval,
            max_snapshots: max_snapshots.unwrap_or(usize::MAX),
            max_failures,
        })
    }
}

//! When a partition counts as complete, so that its success file is written (`sink.partition-commit.*`).
//!
//! ```text
//!  folders of committed files ─► pending ──┐
//!  writers' watermarks ─► the minimum ─────┼─► due: the trigger's time + delay has passed, or all input has ended
//!  wall clock ─────────────────────────────┘
//! ```
//!
//! | state | what for | when dropped |
//! |---|---|---|
//! | pending folders, with the time they were first seen | partitions without success file | when it is written |
//! | watermark of each writer | how far event time has come | never |
//!
//! A partition that gets rows after it was complete is pending again, and due at once.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::partition::Partitioning;
use crate::error::{Error, Result, ResultExt};
use crate::functions::context::wall_to_instant;
use crate::functions::parse_zone;
use crate::functions::temporal::calendar;
use crate::functions::temporal::pattern::{Pattern, Style};
use crate::options::Options;
use crate::stream::watermark::WatermarkTracker;
use crate::stream::{Activity, Timestamp};

const PATTERN: &str = "partition.time-extractor.timestamp-pattern";
const FORMATTER: &str = "partition.time-extractor.timestamp-formatter";
const TRIGGER: &str = "sink.partition-commit.trigger";

/// What the options say about it.
#[derive(Debug, Clone)]
pub(super) struct Trigger {
    /// Event time of a partition; `None` when processing time decides.
    extractor: Option<TimeExtractor>,
    /// Milliseconds to wait longer.
    delay: i64,
    zone: Tz,
}

/// Finds the time that a partition stands for.
#[derive(Debug, Clone)]
struct TimeExtractor {
    partitioning: Partitioning,
    /// With `$column` for values; the value of the first column without it.
    pattern: Option<String>,
    /// Flink's own form without it.
    formatter: Option<Pattern>,
}

impl Trigger {
    /// Takes the options of the trigger and of the time extractor.
    ///
    /// # Errors
    /// Validation for bad ones, Unsupported for user classes.
    pub(super) fn new(options: &Options, partitioning: &Partitioning) -> Result<Self> {
        let trigger = options.one_of(TRIGGER, &["process-time", "partition-time"])?;
        let delay = options.duration("sink.partition-commit.delay")?.unwrap_or_default();
        let key = "sink.partition-commit.watermark-time-zone";
        let zone = match options.take(key) {
            None => Tz::UTC,
            Some(name) => parse_zone(&name).ok_or_else(|| {
                options.invalid(key, &name, "a zone name such as 'Europe/Berlin', 'UTC' or 'GMT+08:00'")
            })?,
        };
        let key = "partition.time-extractor.kind";
        if let Some(kind) = options.take(key).filter(|k| k != "default") {
            return Err(Error::unsupported(format!("'{key}' = '{kind}' is not supported"))
                .hint(format!("supported: default, with '{PATTERN}' and '{FORMATTER}'")));
        }
        let pattern = options.take(PATTERN);
        if let Some(pattern) = &pattern {
            partitioning
                .check_time_pattern(pattern)
                .map_err(|expected| options.invalid(PATTERN, pattern, &expected))?;
        }
        let formatter = match options.take(FORMATTER) {
            None => None,
            Some(text) => Some(Pattern::new(&text, Style::Strict).ok_or_else(|| {
                options.invalid(
                    FORMATTER,
                    &text,
                    "a pattern of Java's DateTimeFormatter such as 'yyyyMMdd HH:mm'",
                )
            })?),
        };
        let by_partition = trigger == Some("partition-time");
        if by_partition && partitioning.columns.is_empty() {
            return Err(Error::validation(format!("'{TRIGGER}' = 'partition-time' needs partitions"))
                .hint("add PARTITIONED BY to the table, or remove the option"));
        }
        let extractor =
            by_partition.then(|| TimeExtractor { partitioning: partitioning.clone(), pattern, formatter });
        Ok(Trigger { extractor, delay: i64::try_from(delay.as_millis()).unwrap_or(i64::MAX), zone })
    }

    /// Whether partitions may have to wait, and so the writers have to tell how far they are.
    pub(super) fn waits(&self) -> bool {
        self.extractor.is_some() || self.delay > 0
    }

    /// Whether a partition that was first seen at `seen` is complete.
    fn is_due(&self, folder: &str, seen: i64, watermark: Timestamp, now: i64) -> Result<bool> {
        // At the end everything is, as in Flink even what has no time.
        if !self.waits() || watermark == Timestamp::MAX {
            return Ok(true);
        }
        let Some(extractor) = &self.extractor else { return Ok(now > seen.saturating_add(self.delay)) };
        if watermark == Timestamp::MIN {
            return Ok(false);
        }
        let wall = extractor.extract(folder).context(|| format!("partition '{folder}'"))?;
        let time = wall_to_instant(wall.saturating_mul(1000), self.zone).div_euclid(1000);
        Ok(watermark.0 > time.saturating_add(self.delay))
    }
}

impl TimeExtractor {
    /// Milliseconds of the wall clock that the partition stands for.
    fn extract(&self, folder: &str) -> Result<i64> {
        let values = self.partitioning.texts(folder);
        let text = match &self.pattern {
            Some(pattern) => self.partitioning.substitute(pattern, &values),
            None => values.into_iter().next().unwrap_or_default(),
        };
        let time = match &self.formatter {
            Some(formatter) => formatter.parse(&text).map(|p| p.seconds * 1000 + p.nanos / 1_000_000),
            None => parse_partition_time(&text),
        };
        time.ok_or_else(|| {
            Error::data(format!("'{text}' is no time by which the partition could be committed")).hint(format!(
                "'{PATTERN}' has to make a time such as '2020-01-01 10:00:00' or '2020-01-01' of the partition columns; \
                 '{FORMATTER}' takes other forms"
            ))
        })
    }
}

/// `y-M-d` or `y-M-d H:m:s[.fraction]` in milliseconds, fields beyond their range carrying over, as Flink reads it.
fn parse_partition_time(text: &str) -> Option<i64> {
    let (date, time) = match text.split_once(' ') {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut parts = date.splitn(3, '-');
    let year = number(parts.next()?, 10)?;
    let (month, day) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let months = year * 12 + month - 1;
    let month = u32::try_from(months.rem_euclid(12) + 1).ok()?;
    let days = calendar::days(months.div_euclid(12), month, 1) + day - 1;
    // Milliseconds cannot hold all years of ten digits; far from them, nothing below overflows.
    let mut millis = days.checked_mul(86_400_000).filter(|m| m.abs() < i64::MAX / 2)?;
    if let Some(time) = time {
        let mut parts = time.splitn(3, ':');
        let (hour, minute) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
        let seconds = parts.next()?;
        let (second, fraction) =
            seconds.split_once('.').map_or((seconds, None), |(second, fraction)| (second, Some(fraction)));
        millis += ((hour * 60 + minute) * 60 + number(second, 2)?) * 1000;
        if let Some(fraction) = fraction {
            let digits = fraction.len() as u32;
            millis += number(fraction, 9)? * 1000 / 10_i64.pow(digits);
        }
    }
    Some(millis)
}

/// 1 to `digits` digits.
fn number(text: &str, digits: usize) -> Option<i64> {
    let fits = (1..=digits).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    fits.then(|| text.parse().ok()).flatten()
}

/// How far a writer is, sent along with its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WriterTime {
    pub(super) subtask: usize,
    pub(super) watermark: i64,
    /// Whether it waits for nothing, so that it does not hold back the others.
    pub(super) idle: bool,
}

/// Partitions that wait for their success file.
#[derive(Debug)]
pub(super) struct PendingPartitions {
    trigger: Trigger,
    watermarks: WatermarkTracker,
    pending: BTreeMap<String, i64>,
}

impl PendingPartitions {
    /// Of a job with so many writers.
    pub(super) fn new(trigger: Trigger, writers: usize) -> Self {
        PendingPartitions { trigger, watermarks: WatermarkTracker::new(writers), pending: BTreeMap::new() }
    }

    /// A folder, relative to the table, got files.
    pub(super) fn add(&mut self, folder: &str, now: i64) {
        if !self.pending.contains_key(folder) {
            self.pending.insert(folder.to_owned(), now);
        }
    }

    /// A writer has come so far.
    pub(super) fn advance(&mut self, time: WriterTime) {
        let activity = if time.idle { Activity::Idle } else { Activity::Active };
        self.watermarks.on_watermark(time.subtask, Timestamp(time.watermark));
        self.watermarks.on_activity(time.subtask, activity);
        if time.watermark == Timestamp::MAX.0 {
            self.watermarks.on_end(time.subtask);
        }
    }

    /// Folders that are complete.
    ///
    /// # Errors
    /// Data for partitions whose values make no time.
    pub(super) fn due(&self, now: i64) -> Result<Vec<String>> {
        let watermark = self.watermarks.current();
        let mut due = Vec::new();
        for (folder, seen) in &self.pending {
            if self.trigger.is_due(folder, *seen, watermark, now)? {
                due.push(folder.clone());
            }
        }
        Ok(due)
    }

    /// The success file of a folder is written.
    pub(super) fn done(&mut self, folder: &str) {
        self.pending.remove(folder);
    }
}

/// The wall clock in milliseconds.
pub(super) fn now_millis() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_times() {
        let day = 18_262 * 86_400_000;
        for (text, expected) in [
            ("2020-01-01", Some(day)),
            ("2020-1-1", Some(day)),
            ("2020-01-01 00:00:01", Some(day + 1000)),
            ("2020-01-01 1:2:3.45", Some(day + 3_723_450)),
            // Fields carry over.
            ("2019-12-32 00:00:00", Some(day)),
            ("2019-13-01", Some(day)),
            ("2019-12-31 24:00:00", Some(day)),
            ("1969-12-31 23:59:59.999", Some(-1)),
            ("9999999999-01-01 00:00:00", None),
            ("2020-01-01 00:00", None),
            ("2020-01-01 ", None),
            ("2020-01-01T00:00:00", None),
            ("2020-01-01 00:00:00.", None),
            ("2020-01-01 00:00:00:00", None),
            ("2020-01", None),
            ("20200101", None),
            ("-1-1-1", None),
            ("", None),
            ("é-é-é", None),
        ] {
            assert_eq!(parse_partition_time(text), expected, "{text}");
        }
    }
}

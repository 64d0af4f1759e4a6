//! Two ways for event time to go wrong that nobody sees in the rows, told once for each source.
//!
//! ```text
//!  split 0   ──rows──rows──rows──►        split 1   (nothing)      time stands still: windows never close
//!  one row of the year 2099 ─► watermark 2099 ─► rows of today     all of them are late: dropped
//! ```

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::DateTime;

use crate::edges::Notices;
use crate::runtime::job::JobMetrics;
use crate::stream::Timestamp;

/// How long a split is without rows before that is worth a word.
const STALLED: Duration = Duration::from_secs(10);
/// So many rows one after the other behind the watermark are no stragglers.
const MANY: u64 = 100;
/// Fewer are, if others follow them in this time.
const A_WHILE: Duration = Duration::from_secs(5);

/// What all subtasks of a source have seen.
#[derive(Debug, Default)]
pub struct SourceTime(Mutex<Seen>);

#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    /// When the last row came.
    last_row: Option<Instant>,
    /// The highest watermark of a split.
    highest: Option<Timestamp>,
}

impl SourceTime {
    /// A split had rows, and its watermark is `watermark`.
    pub(super) fn rows(&self, watermark: Timestamp, now: Instant) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.last_row = Some(now);
        seen.highest = seen.highest.max(Some(watermark));
    }

    fn seen(&self) -> Seen {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells of a split without rows, or a subtask without splits, if others of its source go on and it holds their time back.
pub(super) fn tell_stalled(
    (table, what): (&str, &str),
    source: &SourceTime,
    last_row: Instant,
    watermark: Timestamp,
    now: Instant,
    notices: &Notices,
) {
    let seen = source.seen();
    let go_on = seen.last_row.is_some_and(|at| at > last_row && now < at + STALLED);
    let Some(highest) = seen.highest.filter(|highest| go_on && *highest > watermark) else { return };
    if now < last_row + STALLED {
        return;
    }
    notices.once(&format!("stalled {table}"), || {
        let held = match watermark {
            Timestamp::MIN => "before its first row".to_owned(),
            watermark => format!("at {}", shown(watermark)),
        };
        format!(
            "table {table}: {what} for {} s holds the watermark back {held}, others have reached {}: windows stay open; \
             let time go on without it by 'scan.watermark.idle-timeout' = '10 s' in the \
             table's options, or SET 'table.exec.source.idle-timeout' = '10 s'",
            now.saturating_duration_since(last_row).as_secs(),
            shown(highest),
        )
    });
}

/// Rows of one subtask that came behind the watermark, one after the other.
#[derive(Debug, Default)]
pub(super) struct Behind {
    rows: u64,
    since: Option<Instant>,
    /// All rows of the subtask.
    all: u64,
    told: bool,
    /// The latest of their row times and the watermark before it.
    latest: Option<(Timestamp, Timestamp)>,
    /// Name of the column of row times.
    column: String,
}

impl Behind {
    /// `rows` came, some of them in time.
    pub(super) fn ahead(&mut self, rows: u64) {
        self.all += rows;
        (self.rows, self.since, self.latest) = (0, None, None);
    }

    /// `rows` came; `latest` of `column` is the latest of their row times, before them the watermark was `watermark`.
    pub(super) fn rows(
        &mut self,
        rows: u64,
        column: &str,
        latest: Timestamp,
        watermark: Timestamp,
        now: Instant,
    ) {
        if latest >= watermark {
            return self.ahead(rows);
        }
        self.all += rows;
        self.rows += rows;
        if self.column.is_empty() {
            column.clone_into(&mut self.column);
        }
        self.since.get_or_insert(now);
        let before = self.latest.map_or(latest, |(before, _)| before.max(latest));
        self.latest = Some((before, watermark));
    }

    /// Tells of them, if there are many and the job drops late rows. At the end of the input it is not known yet
    /// whether those will be dropped: the metrics remember.
    pub(super) fn tell(&mut self, table: &str, metrics: &JobMetrics, now: Instant, end: bool) {
        let Some((latest, watermark)) = self.latest.filter(|_| !self.told) else { return };
        let a_while = self.since.is_some_and(|since| now >= since + A_WHILE);
        let most = end && self.rows * 2 > self.all;
        if self.rows < MANY && !a_while && !most {
            return;
        }
        let column = &self.column;
        let text = format!(
            "table {table}: its last {} rows came behind the watermark, and late rows are dropped: the latest of them \
             has `{column}` {}, the watermark is {}; a longer delay keeps such rows, e.g. WATERMARK FOR `{column}` AS \
             `{column}` - INTERVAL '1' HOUR; a row with a wrong time that is far ahead has to be filtered out before",
            self.rows,
            shown(latest),
            shown(watermark),
        );
        self.told = metrics.all_are_late(&format!("late {table}"), text, end);
    }
}

fn shown(time: Timestamp) -> String {
    match DateTime::from_timestamp_millis(time.0) {
        Some(time) => time.format("%Y-%m-%d %H:%M:%S").to_string(),
        None => format!("{} ms", time.0),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    const T: &str = "orders";

    #[test]
    fn a_split_without_rows_is_told_once_if_others_go_on() {
        let (source, notices, begin) = (SourceTime::default(), Notices::default(), Instant::now());
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let check = |split: Timestamp, now: Instant| {
            tell_stalled((T, "a partition without rows"), &source, begin, split, now, &notices)
        };
        check(Timestamp::MIN, at(60));
        assert!(notices.take().is_empty(), "nobody has rows");
        source.rows(Timestamp(60_000), at(9));
        check(Timestamp::MIN, at(9));
        assert!(notices.take().is_empty(), "it may still have some");
        check(Timestamp(60_000), at(11));
        assert!(notices.take().is_empty(), "it holds nothing back");
        check(Timestamp::MIN, at(30));
        assert!(notices.take().is_empty(), "the others have stopped, too");
        check(Timestamp::MIN, at(11));
        check(Timestamp(5_000), at(12));
        let told = notices.take();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("table orders: a partition without rows for 11 s"), "{told:?}");
        assert!(
            told[0].contains("back before its first row, others have reached 1970-01-01 00:01:00"),
            "{told:?}"
        );
        assert!(told[0].contains("scan.watermark.idle-timeout"), "{told:?}");
    }

    #[test]
    fn rows_behind_the_watermark_are_told_when_there_is_nothing_else() {
        let (metrics, now) = (JobMetrics::new(), Instant::now());
        let later = now + Duration::from_secs(10);
        let (old, watermark) = (Timestamp(1_000), Timestamp(2_000));
        let mut behind = Behind::default();
        behind.rows(MANY, "ts", old, watermark, now);
        behind.tell(T, &metrics, now, false);
        assert!(metrics.notices.take().is_empty(), "nothing is dropped");
        metrics.late_rows_dropped.store(1, Ordering::Relaxed);
        behind.rows(1, "ts", watermark, watermark, now);
        behind.rows(MANY - 1, "ts", old, watermark, now);
        behind.tell(T, &metrics, now, false);
        assert!(metrics.notices.take().is_empty(), "others are not behind");
        behind.tell(T, &metrics, later, false);
        behind.tell(T, &metrics, later, false);
        let told = metrics.notices.take();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("its last 99 rows") && told[0].contains("WATERMARK FOR `ts`"), "{told:?}");
    }

    #[test]
    fn at_the_end_it_is_remembered_until_late_rows_are_counted() {
        let (metrics, now) = (JobMetrics::new(), Instant::now());
        let mut behind = Behind::default();
        behind.ahead(1);
        behind.rows(2, "ts", Timestamp(1_000), Timestamp(9_000), now);
        behind.tell(T, &metrics, now, true);
        metrics.tell_what_is_late();
        assert!(metrics.notices.take().is_empty());
        metrics.late_rows_dropped.store(2, Ordering::Relaxed);
        metrics.tell_what_is_late();
        assert_eq!(metrics.notices.take().len(), 1);
    }
}

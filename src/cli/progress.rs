//! The progress line: redrawn in place on a terminal, nothing in a pipe.

use std::time::{Duration, Instant};

use chrono::DateTime;

use crate::runtime::job::{JobNature, JobProgress, RunningJob};

use super::stderr;

const FIRST: Duration = Duration::from_millis(700);
const EVERY: Duration = Duration::from_millis(500);

/// Draws the progress of one job until it is dropped.
pub(super) struct ProgressLine(Option<tokio::task::JoinHandle<()>>);

impl ProgressLine {
    /// Starts drawing if standard error is a terminal.
    pub(super) fn start(job: &RunningJob) -> Self {
        let (metrics, nature) = (job.metrics(), job.nature());
        if !stderr::is_terminal() {
            return ProgressLine(None);
        }
        ProgressLine(Some(tokio::spawn(async move {
            let started = Instant::now();
            let mut before = (JobProgress::default(), started);
            tokio::time::sleep(FIRST).await;
            loop {
                let now = (metrics.progress(), Instant::now());
                let seconds = now.1.duration_since(before.1).as_secs_f64();
                let line = line(nature, &now.0, &before.0, seconds, started.elapsed());
                stderr::draw(&fit(&line, columns()));
                before = now;
                tokio::time::sleep(EVERY).await;
            }
        })))
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
            stderr::clear();
        }
    }
}

fn columns() -> usize {
    std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok()).unwrap_or(120)
}

/// Cut to the width of the terminal, since a wrapped line cannot be redrawn in place.
fn fit(line: &str, width: usize) -> String {
    if line.chars().count() < width {
        return line.to_owned();
    }
    let mut cut: String = line.chars().take(width.saturating_sub(2)).collect();
    cut.push('…');
    cut
}

/// The text of the line: rates over the last `seconds`, everything else since the beginning.
fn line(job: JobNature, now: &JobProgress, before: &JobProgress, seconds: f64, elapsed: Duration) -> String {
    let per_second = |now: u64, before: u64| {
        (now.saturating_sub(before) as f64 / if seconds > 0.0 { seconds } else { 1.0 }) as u64
    };
    let mut parts = vec![
        format!("{} in ({}/s)", counted(now.rows_in, "row"), count(per_second(now.rows_in, before.rows_in))),
        format!("{} out ({}/s)", count(now.rows_out), count(per_second(now.rows_out, before.rows_out))),
    ];
    if now.bytes_in > 0 {
        let read = size(now.bytes_in);
        parts.push(match now.total_bytes {
            Some(total) if total > 0 => {
                let percent = (now.bytes_in as f64 / total as f64 * 100.0).min(100.0);
                format!("{read} of {} ({percent:.0} %)", size(total))
            }
            _ => format!("{read} read"),
        });
    }
    if now.bytes_out > 0 {
        parts.push(format!("{} written", size(now.bytes_out)));
    }
    if let Some(time) = now.watermark.and_then(|w| DateTime::from_timestamp_millis(w.0)) {
        parts.push(format!("watermark {}", time.format("%Y-%m-%d %H:%M:%S")));
    }
    if now.lag_unknown {
        parts.push("lag unknown".to_owned());
    } else if let Some(lag) = now.lag {
        parts.push(format!("lag {}", count(lag)));
    }
    if now.partial_matches > 0 {
        parts.push(match now.partial_matches {
            1 => "1 partial match".to_owned(),
            n => format!("{} partial matches", count(n)),
        });
    }
    parts.extend(commits(job, now));
    parts.extend(losses(now));
    parts.push(duration(elapsed));
    parts.join(" · ")
}

/// How much of what was written can be seen.
fn commits(job: JobNature, now: &JobProgress) -> Option<String> {
    match (now.last_commit, job.interval) {
        (Some((number, ago)), _) => {
            // Whole seconds: a line that is redrawn every half a second need not be more exact.
            let ago = duration(Duration::from_secs(ago.as_secs())).replace(".00 s", " s");
            Some(format!("commit {} {ago} ago", count(number)))
        }
        (None, Some(_)) => Some("no commit yet".to_owned()),
        (None, None) if job.endless && job.holds_back => Some("commits at the end only".to_owned()),
        (None, None) => None,
    }
}

/// What was left out of the result, if anything.
fn losses(progress: &JobProgress) -> Vec<String> {
    let mut parts = Vec::new();
    if progress.late_rows_dropped > 0 {
        parts.push(format!("{} dropped", counted(progress.late_rows_dropped, "late row")));
    }
    if progress.null_times_dropped > 0 {
        parts.push(format!("{} without a time dropped", counted(progress.null_times_dropped, "row")));
    }
    if progress.skipped_records > 0 {
        parts.push(format!("{} skipped", counted(progress.skipped_records, "bad record")));
    }
    if progress.nulled_fields > 0 {
        parts.push(format!("{} read as NULL", counted(progress.nulled_fields, "bad field")));
    }
    parts
}

/// The line for the end of a job: what it did, or only what it left out.
pub(super) fn summary(what: Option<&str>, progress: &JobProgress, elapsed: Duration) -> Option<String> {
    let losses = losses(progress);
    let Some(what) = what else {
        return if losses.is_empty() { None } else { Some(losses.join(", ")) };
    };
    let mut parts =
        vec![format!("{} in", counted(progress.rows_in, "row")), format!("{} out", count(progress.rows_out))];
    if progress.bytes_out > 0 {
        parts.push(format!("{} written", size(progress.bytes_out)));
    }
    parts.extend(losses);
    parts.push(duration(elapsed));
    Some(format!("{what}: {}", parts.join(", ")))
}

/// `1 row`, `1,234 rows`.
pub(super) fn counted(n: u64, what: &str) -> String {
    format!("{} {what}{}", count(n), if n == 1 { "" } else { "s" })
}

/// `1,234,567`.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

pub(super) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

fn duration(d: Duration) -> String {
    let seconds = d.as_secs();
    if seconds < 60 {
        format!("{:.2} s", d.as_secs_f64())
    } else if seconds < 3600 {
        format!("{}:{:02} min", seconds / 60, seconds % 60)
    } else {
        format!("{}:{:02}:{:02} h", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Timestamp;

    #[test]
    fn the_line_says_what_is_known() {
        let before = JobProgress { rows_in: 1_000_000, ..Default::default() };
        let now = JobProgress {
            rows_in: 1_234_567,
            rows_out: 42,
            bytes_in: 45_300_000,
            total_bytes: Some(120_000_000),
            watermark: Some(Timestamp(1_704_067_205_000)),
            lag: Some(1234),
            late_rows_dropped: 3,
            null_times_dropped: 1,
            ..Default::default()
        };
        assert_eq!(
            line(JobNature::default(), &now, &before, 2.0, Duration::from_millis(12_300)),
            "1,234,567 rows in (117,283/s) · 42 out (21/s) · 45.3 MB of 120.0 MB (38 %) · \
             watermark 2024-01-01 00:00:05 · lag 1,234 · 3 late rows dropped · 1 row without a time dropped · 12.30 s"
        );
        let away = JobProgress { lag: Some(3), lag_unknown: true, partial_matches: 1, ..Default::default() };
        let text = line(JobNature::default(), &away, &before, 1.0, Duration::ZERO);
        assert!(text.contains(" · lag unknown · 1 partial match · "), "{text}");
        let many = JobProgress { partial_matches: 1_200, ..Default::default() };
        let text = line(JobNature::default(), &many, &before, 1.0, Duration::ZERO);
        assert!(text.contains(" · 1,200 partial matches · "), "{text}");
        let nothing = JobProgress::default();
        let line = line(JobNature::default(), &nothing, &nothing, 0.0, Duration::ZERO);
        assert_eq!(line, "0 rows in (0/s) · 0 out (0/s) · 0.00 s");
    }

    #[test]
    fn what_can_be_seen_by_others_is_told() {
        let every = JobNature {
            endless: true,
            holds_back: true,
            interval: Some(Duration::from_secs(10)),
            is_kept: false,
        };
        let nothing = JobProgress::default();
        assert_eq!(commits(every, &nothing).unwrap(), "no commit yet");
        assert_eq!(
            commits(JobNature { interval: None, ..every }, &nothing).unwrap(),
            "commits at the end only"
        );
        assert_eq!(commits(JobNature::default(), &nothing), None);
        let after = |ms| JobProgress {
            last_commit: Some((1200, Duration::from_millis(ms))),
            ..JobProgress::default()
        };
        assert_eq!(commits(every, &after(7_900)).unwrap(), "commit 1,200 7 s ago");
        assert_eq!(commits(every, &after(90_000)).unwrap(), "commit 1,200 1:30 min ago");
    }

    #[test]
    fn the_end_is_told_in_one_line() {
        let p = JobProgress {
            rows_in: 1000,
            rows_out: 10,
            bytes_out: 2048,
            skipped_records: 2,
            ..Default::default()
        };
        let text = summary(Some("INSERT"), &p, Duration::from_secs(75)).unwrap();
        assert_eq!(text, "INSERT: 1,000 rows in, 10 out, 2.0 kB written, 2 bad records skipped, 1:15 min");
        assert_eq!(summary(None, &p, Duration::ZERO).unwrap(), "2 bad records skipped");
        let one = JobProgress {
            rows_in: 1,
            rows_out: 1,
            late_rows_dropped: 1,
            skipped_records: 1,
            nulled_fields: 1,
            ..Default::default()
        };
        let text = "1 late row dropped, 1 bad record skipped, 1 bad field read as NULL";
        assert_eq!(summary(None, &one, Duration::ZERO).unwrap(), text);
        assert!(
            summary(Some("INSERT"), &one, Duration::ZERO).unwrap().starts_with("INSERT: 1 row in, 1 out, ")
        );
        assert_eq!(summary(None, &JobProgress::default(), Duration::ZERO), None);
    }

    #[test]
    fn numbers() {
        assert_eq!([0, 999, 1000, 1_000_000].map(count), ["0", "999", "1,000", "1,000,000"]);
        assert_eq!([0, 999, 1500, 2_500_000_000].map(size), ["0 B", "999 B", "1.5 kB", "2.5 GB"]);
        assert_eq!(duration(Duration::from_secs(3725)), "1:02:05 h");
        assert_eq!(fit("abcdef", 5), "abc…");
    }
}

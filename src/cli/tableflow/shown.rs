//! What is shown of flows: a line that is redrawn on a terminal, and one for each that ends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::cli::progress::{count, counted, size};
use crate::cli::stderr::{self, say};
use crate::error::Error;
use crate::tableflow::{Observer, Phase, Status};

/// Topics from which on memory is saved where it would otherwise be spent for speed.
const MANY: usize = 100;

/// The topics that there are.
#[derive(Default)]
pub(super) struct Shown(Mutex<Vec<Arc<Status>>>);

impl Shown {
    /// All of them, in the order in which they were found.
    pub(super) fn all(&self) -> Vec<Arc<Status>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Observer for Shown {
    fn topic(&self, status: &Arc<Status>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Arc::clone(status));
        if all.len() == MANY
            && let Some(hooks) = crate::cli::ALLOCATOR.get()
        {
            (hooks.many_tables)();
        }
    }

    fn ended(&self, status: &Arc<Status>, failure: Option<&Error>) {
        let now = status.look();
        let p = now.progress;
        let mut text = format!("{}: {}", status.route, counted(p.rows_out, "row"));
        if p.skipped_records > 0 {
            text += &format!(", {} skipped", counted(p.skipped_records, "bad record"));
        }
        if p.rested_rows > 0 {
            text += &format!(", {} with fields in _rest", counted(p.rested_rows, "row"));
        }
        say(&text);
        if let Some(e) = failure {
            say(&format!("error: {e}"));
            say(&format!(
                "suspended: {}; what is committed stays, and the same command goes on there",
                status.route
            ));
        }
    }

    fn notice(&self, text: &str) {
        say(text);
    }
}

/// Draws the line of progress until it is dropped.
pub(super) struct Line(Option<tokio::task::JoinHandle<()>>);

impl Line {
    /// Begins, if there is a terminal.
    pub(super) fn start(shown: &Arc<Shown>) -> Self {
        if !stderr::is_terminal() {
            return Line(None);
        }
        let shown = Arc::clone(shown);
        Line(Some(tokio::spawn(async move {
            let mut before = (0, 0, Instant::now());
            loop {
                tokio::time::sleep(Duration::from_millis(500)).await;
                let all = shown.all();
                let looks: Vec<_> = all.iter().map(|s| s.look()).collect();
                let rows: u64 = looks.iter().map(|l| l.progress.rows_in).sum();
                let bytes: u64 = looks.iter().map(|l| l.progress.bytes_in).sum();
                let seconds = before.2.elapsed().as_secs_f64().max(0.001);
                let rate = |now: u64, before: u64| (now.saturating_sub(before) as f64 / seconds) as u64;
                let mut parts = vec![
                    counted(all.len() as u64, "topic"),
                    format!("{} ({}/s)", counted(rows, "row"), count(rate(rows, before.0))),
                    format!("{} ({}/s)", size(bytes), size(rate(bytes, before.1))),
                ];
                let lags: Vec<u64> = looks.iter().filter_map(|l| l.progress.lag).collect();
                if looks.iter().any(|l| l.progress.lag_unknown) {
                    parts.push("lag unknown".to_owned());
                } else if !lags.is_empty() {
                    parts.push(format!("lag {}", count(lags.iter().sum())));
                }
                if let Some(ago) =
                    looks.iter().filter_map(|l| l.progress.last_commit).map(|(_, ago)| ago).min()
                {
                    parts.push(format!("last commit {} s ago", ago.as_secs()));
                }
                for phase in [Phase::Starting, Phase::Empty, Phase::Evolving, Phase::Suspended] {
                    let n = looks.iter().filter(|l| l.phase == phase).count();
                    if n > 0 {
                        parts.push(format!("{n} {}", phase.word()));
                    }
                }
                stderr::draw(&parts.join(" · "));
                before = (rows, bytes, Instant::now());
            }
        })))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
            stderr::clear();
        }
    }
}

//! Looks for new files of a table that never ends.
//!
//! ```text
//!  every source.monitor-interval: list ─► files not seen before ─► splits ─► Queue ─► readers
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::logical_expr::Expr;

use super::source::FilesystemSource;
use super::split::{Queue, Split};
use crate::edges::Notices;
use crate::error::{Error, ErrorKind};

/// How long a store may fail before the job does: as long as Kafka's brokers may be away.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How a folder is looked at.
#[derive(Debug, Clone)]
pub(super) struct Monitor {
    pub(super) interval: Duration,
    /// How long its store may fail without a break.
    pub(super) patience: Duration,
    /// Where failures are told.
    pub(super) notices: Notices,
}

impl Monitor {
    /// Queues the new files of a table for as long as there is somebody to read them.
    pub(super) fn watch(&self, source: FilesystemSource, queue: &Arc<Queue>, filters: Vec<Expr>) {
        let (monitor, queue) = (self.clone(), Arc::downgrade(queue));
        tokio::spawn(async move {
            let mut failing = Failing::new(&monitor, &source);
            loop {
                tokio::time::sleep(monitor.interval).await;
                let files = source.files(&filters).await;
                let Some(queue) = queue.upgrade() else { return failing.ends(None) };
                match files {
                    Ok(files) => {
                        failing.ends(Some(Instant::now()));
                        let new = files.into_iter().flatten().filter(|f| queue.see(&f.entry.path));
                        let splits: Vec<Split> = new.flat_map(|f| source.cut(f)).collect();
                        if !splits.is_empty() {
                            queue.push(splits);
                        }
                    }
                    Err(e) if e.kind() == ErrorKind::External => {
                        if let Some(e) = failing.again(e, Instant::now()) {
                            failing.ends(None);
                            return queue.fail(e.context(source.context()));
                        }
                    }
                    Err(e) => return queue.fail(e.context(source.context())),
                }
            }
        });
    }
}

/// Failures of the store without a success between them.
struct Failing<'a> {
    monitor: &'a Monitor,
    table: &'a str,
    since: Option<Instant>,
}

impl<'a> Failing<'a> {
    fn new(monitor: &'a Monitor, source: &'a FilesystemSource) -> Self {
        Failing { monitor, table: &source.table, since: None }
    }

    fn key(&self) -> String {
        format!("folder of {}", self.table)
    }

    /// It failed again; the error for the job if that lasts too long.
    fn again(&mut self, e: Error, now: Instant) -> Option<Error> {
        let Some(since) = self.since else {
            self.since = Some(now);
            self.monitor.notices.begins(&self.key(), || {
                format!(
                    "table {}: cannot look for new files: {}; trying again for {} s",
                    self.table,
                    e.message(),
                    self.monitor.patience.as_secs()
                )
            });
            return None;
        };
        let lasting = now.saturating_duration_since(since);
        (lasting >= self.monitor.patience)
            .then(|| e.context(format!("no look for new files has succeeded for {} s", lasting.as_secs())))
    }

    /// It is over `now`, or nobody will know.
    fn ends(&mut self, now: Option<Instant>) {
        let Some(since) = self.since.take() else { return };
        let text = now.map(|now| {
            let lasted = now.saturating_duration_since(since).as_secs();
            format!("table {}: new files can be looked for again, after {lasted} s", self.table)
        });
        self.monitor.notices.ends(&self.key(), text);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{drain, id_table, lines, open};
    use super::*;
    use crate::edges::{ScanRequest, Source};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_monitored_folder_that_cannot_be_listed_is_told_and_ends_the_job() {
        let dir = tempfile::tempdir().unwrap();
        let t = id_table(&[("path", "a/in"), ("source.monitor-interval", "5 ms")]);
        let mut s = open(&t, dir.path()).unwrap();
        let monitor = s.monitor.as_mut().unwrap();
        monitor.patience = Duration::from_millis(300);
        let notices = monitor.notices.clone();
        let mut readers = s.readers(ScanRequest::default(), 1, None).await.unwrap();
        // A file in the place of a folder above it: not a folder that is missing.
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&a, "x").unwrap();
        let told = notices.next().await;
        assert!(told.contains("cannot look for new files: ") && told.contains("a directory"), "{told}");
        std::fs::rename(&a, &b).unwrap();
        assert!(notices.next().await.contains("new files can be looked for again"));
        std::fs::create_dir_all(dir.path().join("a/in")).unwrap();
        std::fs::write(dir.path().join("a/in/x"), lines(0..3)).unwrap();
        drain(&mut *readers[0], 3).await.unwrap();
        std::fs::remove_dir_all(&a).unwrap();
        std::fs::rename(&b, &a).unwrap();
        let e = drain(&mut *readers[0], 1).await.unwrap_err();
        assert!(e.message().contains("no look for new files has succeeded for 0 s: "), "{e}");
    }
}

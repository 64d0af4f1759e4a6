//! The ways to run a file.

use std::fmt;

use super::{Mode, TestOptions};
use crate::edges::PROCESS_MEMORY;

/// Rows per source batch of jobs that are restored, unless `--batch-rows` says otherwise: short inputs shall have
/// several batches too.
const LEG_ROWS: usize = 2;

/// One way to run a file.
#[derive(Debug, Clone, Default)]
pub(super) struct Run {
    pub(super) batch: bool,
    /// Several for a job that goes on at the next one with every restore.
    pub(super) parallelism: Vec<usize>,
    pub(super) bundle_size: Option<usize>,
    pub(super) memory: Option<String>,
    pub(super) batch_rows: Option<usize>,
    /// Batches per source after which a job is restored into a fresh one.
    pub(super) restore_every: Option<usize>,
}

impl Run {
    /// All of what was asked for.
    pub(super) fn all(options: &TestOptions) -> Vec<Run> {
        let mut runs = Vec::new();
        if options.mode != Mode::Streaming {
            let parallelism = options.parallelism.first().copied().unwrap_or(1);
            runs.push(Run { batch: true, parallelism: vec![parallelism], ..Run::default() });
        }
        if options.mode != Mode::Batch {
            let streaming = Run {
                bundle_size: options.bundle_size,
                memory: options.memory.clone(),
                batch_rows: options.batch_rows,
                ..Run::default()
            };
            if options.restore_every.is_empty() {
                let at = |p: &usize| Run { parallelism: vec![*p], ..streaming.clone() };
                runs.extend(options.parallelism.iter().map(at));
            } else {
                let every = |batches: &usize| Run {
                    parallelism: options.parallelism.clone(),
                    restore_every: Some(*batches),
                    batch_rows: options.batch_rows.or(Some(LEG_ROWS)),
                    ..streaming.clone()
                };
                runs.extend(options.restore_every.iter().map(every));
            }
        }
        runs
    }

    pub(super) fn label(&self) -> &'static str {
        if self.batch { "batch" } else { "streaming" }
    }

    /// Whether the order of changes is that of the expectations.
    pub(super) fn compares_changelogs(&self) -> bool {
        !self.batch
            && self.parallelism == [1]
            && self.bundle_size.is_none()
            && self.memory.is_none()
            && self.batch_rows.is_none()
            && self.restore_every.is_none()
    }

    /// The options set before the first statement.
    pub(super) fn config(&self, options: &TestOptions) -> Vec<(String, String)> {
        let mut config = vec![("table.local-time-zone".to_owned(), "UTC".to_owned())];
        config.extend(options.config.iter().cloned());
        config.push(("execution.runtime-mode".to_owned(), self.label().to_owned()));
        if let Some(parallelism) = self.parallelism.first() {
            config.push(("parallelism.default".to_owned(), parallelism.to_string()));
        }
        if let Some(rows) = self.bundle_size {
            config.push(("table.exec.mini-batch.size".to_owned(), rows.to_string()));
        }
        if let Some(size) = &self.memory {
            config.push((PROCESS_MEMORY.to_owned(), size.clone()));
        }
        config
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())?;
        if !self.batch && self.parallelism != [1] {
            let numbers: Vec<String> = self.parallelism.iter().map(usize::to_string).collect();
            write!(f, ", parallelism {}", numbers.join(" → "))?;
        }
        if let Some(rows) = self.bundle_size {
            write!(f, ", bundles of {rows}")?;
        }
        if let Some(rows) = self.batch_rows {
            write!(f, ", batches of {rows}")?;
        }
        if let Some(batches) = self.restore_every {
            write!(f, ", restored after every {batches}")?;
        }
        if let Some(size) = &self.memory {
            write!(f, ", memory {size}")?;
        }
        Ok(())
    }
}

//! Whether a table may take a commit: a check that is one step with the commit that it is for.
//!
//! ```text
//!  load the table ─► Judge: may it take the commit? ─ yes ─► a snapshot on top of its head, which requires that head
//!                        └ no: the verdict says why               └ it has moved: from the beginning
//! ```

use std::fmt::Debug;

use iceberg::spec::TableMetadata;

/// What a table says about a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may come.
    Go,
    /// It is there.
    Committed,
    /// Another table took its name.
    Replaced,
    /// Another process, of this generation, has taken the table over.
    Fenced(u64),
    /// What the table holds is not what the commit continues.
    Diverged,
}

/// Says whether a table may take a commit.
pub(super) trait Judge: Debug + Send + Sync {
    /// Looks at the newest state of the table.
    fn judge(&self, metadata: &TableMetadata) -> Verdict;
}

//! What is committed to a table, one snapshot after the other.
//!
//! ```text
//!  every monitor-interval: load ─► snapshots behind the last one ─► files that they have added ─► Discovery ─► readers
//! ```
//!
//! As in Flink only snapshots that append are read; those that rewrite files without changing rows have nothing new, and
//! those that delete or overwrite are told and passed over.
//!
//! State: the last snapshot that was found. Each reader keeps the one that it has come to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::datatypes::SchemaRef;
use iceberg::TableIdent;
use iceberg::scan::FileScanTask;
use iceberg::spec::{Operation, SnapshotRef};
use iceberg::table::Table;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

use super::connection::Connection;
use super::options::{Start, StreamingRead};
use super::outage::Outage;
use super::scan::{Scan, Version, known_snapshots};
use crate::edges::Notices;
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::task::unpanicked;

/// Files that were found together: those of one snapshot are in no order of time.
pub(super) struct Discovery {
    /// The last snapshot that was looked at; `None` if the table has none.
    pub to: Option<i64>,
    /// What reads them.
    pub scan: Arc<Scan>,
    /// By the snapshot that has added them, oldest first.
    pub files: Vec<(i64, FileScanTask)>,
    /// Before it is open no reader hands rows of them out.
    pub gate: Gate,
}

/// Opens when every reader has announced its files: a row of one must not make those of another late.
pub(super) struct Gate {
    missing: AtomicUsize,
    opened: Notify,
}

impl Gate {
    /// For so many readers.
    pub fn new(readers: usize) -> Self {
        Gate { missing: AtomicUsize::new(readers), opened: Notify::new() }
    }

    /// A reader has announced its files.
    pub fn announced(&self) {
        if self.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.opened.notify_waiters();
        }
    }

    /// Waits for all.
    pub async fn open(&self) {
        loop {
            let mut opened = std::pin::pin!(self.opened.notified());
            // From here on nothing is missed.
            opened.as_mut().enable();
            if self.missing.load(Ordering::Acquire) == 0 {
                return;
            }
            opened.await;
        }
    }
}

/// Snapshots of a branch, oldest first, as far as they are kept.
pub(super) struct Lineage {
    snapshots: Vec<SnapshotRef>,
    /// Whether the first one is the first of the table.
    is_whole: bool,
    shown: String,
    known: String,
}

impl Lineage {
    /// Of a table that is loaded.
    ///
    /// # Errors
    /// Validation if there is no such branch.
    pub fn new(table: &Table, branch: Option<&str>, shown: &str) -> Result<Self> {
        let metadata = table.metadata();
        let mut next = match branch {
            None => metadata.current_snapshot().cloned(),
            Some(name) => match metadata.snapshot_for_ref(name) {
                Some(head) => Some(Arc::clone(head)),
                None if name == "main" => None,
                None => {
                    return Err(
                        Error::validation(format!("there is no branch '{name}'")).context(shown.to_owned())
                    );
                }
            },
        };
        let (mut snapshots, mut is_whole) = (Vec::new(), true);
        while let Some(snapshot) = next {
            let parent = snapshot.parent_snapshot_id();
            next = parent.and_then(|id| metadata.snapshot_by_id(id)).cloned();
            is_whole = parent.is_none();
            snapshots.push(snapshot);
        }
        snapshots.reverse();
        Ok(Lineage { snapshots, is_whole, shown: shown.to_owned(), known: known_snapshots(table) })
    }

    /// The newest.
    pub fn newest(&self) -> Option<i64> {
        self.snapshots.last().map(|s| s.snapshot_id())
    }

    /// A snapshot.
    ///
    /// # Errors
    /// As [`Lineage::after`].
    pub fn get(&self, id: i64) -> Result<&SnapshotRef> {
        self.snapshots.get(self.after(Some(id))? - 1).ok_or_else(|| self.gone(&id.to_string()))
    }

    /// How many snapshots are there up to `id`, which is one of them.
    ///
    /// # Errors
    /// Data if it has expired or was rolled back: what came after it is not known any more.
    pub fn after(&self, id: Option<i64>) -> Result<usize> {
        match id {
            None if self.is_whole => Ok(0),
            None => Err(self.gone("of the beginning")),
            Some(id) => {
                let place = self.snapshots.iter().position(|s| s.snapshot_id() == id);
                place.map(|place| place + 1).ok_or_else(|| self.gone(&id.to_string()))
            }
        }
    }

    fn gone(&self, snapshot: &str) -> Error {
        Error::data(format!(
            "snapshot {snapshot}, up to or in which the table was read, is not among those of the branch any more: it has \
             expired or was rolled back, so that nobody knows what is left to be read"
        ))
        .context(self.shown.clone())
        .hint("keep snapshots for longer than a job may stand still, and begin anew with --fresh")
    }

    /// Checks that a snapshot of which files are left to be read is there.
    ///
    /// # Errors
    /// As [`Lineage::after`].
    pub fn check(&self, id: i64) -> Result<()> {
        self.get(id).map(|_| ())
    }

    /// The snapshots behind the first `skipped`, oldest first.
    pub fn behind(&self, skipped: usize) -> &[SnapshotRef] {
        self.snapshots.get(skipped..).unwrap_or_default()
    }

    /// How many snapshots come before the start.
    fn start(&self, start: Start) -> Result<usize> {
        let missing = |what: String| {
            Error::validation(what)
                .context(self.shown.clone())
                .hint(format!("snapshots of the table: {}", self.known))
        };
        match start {
            Start::TableScan => Ok(self.snapshots.len()),
            Start::Latest => Ok(self.snapshots.len().saturating_sub(1)),
            Start::Earliest => Ok(0),
            Start::Snapshot(id) => {
                let place = self.snapshots.iter().position(|s| s.snapshot_id() == id);
                place.ok_or_else(|| missing(format!("the branch has no snapshot {id} to start from")))
            }
            Start::Timestamp(time) => {
                let place = self.snapshots.iter().position(|s| s.timestamp_ms() >= time);
                place.ok_or_else(|| {
                    missing(format!("the branch has no snapshot at {time} ms or later to start from"))
                })
            }
        }
    }
}

/// Looks at a table.
#[derive(Debug, Clone)]
pub(super) struct Monitor {
    pub connection: Connection,
    pub ident: TableIdent,
    pub schema: SchemaRef,
    pub read: StreamingRead,
    /// Readers of the table.
    pub parallelism: usize,
    /// Where is told what is not read.
    pub notices: Notices,
}

impl Monitor {
    /// The table as it is now.
    ///
    /// # Errors
    /// External; Validation if it is gone or lacks a column.
    pub async fn load(&self) -> Result<(Lineage, Arc<Scan>)> {
        let lake = self.connection.open().await?;
        let (table, shown) = (lake.load(&self.ident).await?, lake.shown(&self.ident));
        let lineage = Lineage::new(&table, self.read.branch.as_deref(), &shown)?;
        let newest = lineage.newest();
        Ok((lineage, Scan::at(table, shown, newest, Arc::clone(&self.schema))?))
    }

    /// The table in the state of a snapshot.
    ///
    /// # Errors
    /// As [`Monitor::load`]; Validation if the snapshot is gone.
    pub async fn load_at(&self, snapshot: i64) -> Result<Arc<Scan>> {
        let lake = self.connection.open().await?;
        Scan::new(&lake, &self.ident, &Version::Snapshot(snapshot), Arc::clone(&self.schema)).await
    }

    /// What is read first, after the table scan if that is what it begins with.
    ///
    /// # Errors
    /// As [`Monitor::load`]; Validation if it cannot start there.
    pub async fn first(&self) -> Result<Discovery> {
        let (lineage, scan) = self.load().await?;
        let skipped = lineage.start(self.read.start)?;
        self.discover(&lineage, skipped, scan).await
    }

    /// What the snapshots behind the first `skipped` have added.
    async fn discover(&self, lineage: &Lineage, skipped: usize, scan: Arc<Scan>) -> Result<Discovery> {
        let behind = lineage.behind(skipped);
        let read = behind.get(..behind.len().min(self.read.max_snapshots)).unwrap_or_default();
        let before = skipped.checked_sub(1).and_then(|last| lineage.behind(last).first());
        let to = read.last().or(before).map(|s| s.snapshot_id());
        let mut files = Vec::new();
        for snapshot in read {
            let added = self.added(&scan, snapshot).await?;
            files.extend(added.into_iter().map(|file| (snapshot.snapshot_id(), file)));
        }
        Ok(Discovery { to, scan, files, gate: Gate::new(self.parallelism) })
    }

    /// The files that a snapshot has appended.
    ///
    /// # Errors
    /// As [`Scan::added`].
    pub async fn added(&self, scan: &Scan, snapshot: &SnapshotRef) -> Result<Vec<FileScanTask>> {
        match snapshot.summary().operation {
            Operation::Append => scan.added(snapshot).await,
            // The same rows in other files.
            Operation::Replace => Ok(Vec::new()),
            Operation::Overwrite | Operation::Delete => {
                let (id, shown) = (snapshot.snapshot_id(), scan.shown());
                self.notices.once(&format!("changes of {shown}"), || {
                    format!(
                        "{shown}: snapshot {id} changes or deletes rows; a streaming read passes over such snapshots"
                    )
                });
                Ok(Vec::new())
            }
        }
    }

    /// Looks for new snapshots behind `last` for as long as there are readers.
    pub fn watch(self, last: Option<i64>, readers: Vec<UnboundedSender<Result<Arc<Discovery>>>>) {
        tokio::spawn(async move {
            let Some(first) = readers.first() else { return };
            let looking = unpanicked(self.look_on(last, &readers));
            tokio::select! {
                ended = looking => {
                    if let Err(e) = ended {
                        let _ = first.send(Err(e));
                    }
                }
                () = first.closed() => {}
            }
        });
    }

    async fn look_on(
        &self,
        mut last: Option<i64>,
        readers: &[UnboundedSender<Result<Arc<Discovery>>>],
    ) -> Result<()> {
        let what = format!("table {}: cannot look for new snapshots", self.ident);
        let mut outage = Outage::new(what, &self.notices);
        let (mut failures, mut is_behind) = (0, true);
        loop {
            if !is_behind {
                tokio::time::sleep(self.read.interval).await;
            }
            is_behind = false;
            match self.look(last).await {
                Ok(found) => {
                    failures = 0;
                    outage.is_over();
                    let Some((discovery, more)) = found else { continue };
                    (last, is_behind) = (discovery.to, more);
                    let discovery = Arc::new(discovery);
                    for reader in readers {
                        // Readers end together.
                        let _ = reader.send(Ok(Arc::clone(&discovery)));
                    }
                    // One at a time: whoever is behind has enough to do.
                    discovery.gate.open().await;
                }
                Err(e) => {
                    failures += 1;
                    let may = self.read.max_failures.is_none_or(|most| failures <= most);
                    if e.kind() != ErrorKind::External || !may {
                        return Err(e);
                    }
                    outage.lasts(&e);
                }
            }
        }
    }

    /// The next snapshots, and whether there are more; `None` if there are none.
    async fn look(&self, last: Option<i64>) -> Result<Option<(Discovery, bool)>> {
        let (lineage, scan) = self.load().await?;
        if lineage.newest() == last {
            return Ok(None);
        }
        let newest = lineage.newest();
        let discovery = self.discover(&lineage, lineage.after(last)?, scan).await?;
        let more = discovery.to != newest;
        Ok(Some((discovery, more)))
    }
}

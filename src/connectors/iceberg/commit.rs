//! Commits: one snapshot per epoch, never two, whatever fails in between.
//!
//! ```text
//!  Prepared (per writer) ─┐            ┌ load the table ─► Judge: is (pipeline, epoch) in the ancestry already?
//!  Prepared ──────────────┼─► Content ─┤                      │ no: Content says what changes; produce a snapshot of it
//!  …                     ─┘            └ again, on conflict ◄─┴─► Backend: commit, which requires that main has not moved
//! ```
//!
//! Check and commit are one step: the commit's requirement is the head that was checked. A conflict leads to a new check. An
//! unknown outcome (timeout, dropped connection) is settled by loading the table again.
//!
//! State: none beyond the table itself; the marker is in the snapshot summary (`mark`). Where the table keeps how far the
//! source was read, that is committed with the rows, by one process at a time (`kept`).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use iceberg::spec::{DataFile, TableMetadata};
use iceberg::table::Table;
use iceberg::{ErrorKind, TableIdent, TableUpdate};
use uuid::Uuid;

use super::backend::Update;
use super::evolution::Evolution;
use super::judge::{Judge, Verdict};
use super::lake::Lake;
use super::mark::{Ledger, Mark, Positions, from_states};
use super::outage::Outage;
use super::prepared::Prepared;
use super::produce::{Edits, discard, holds_any, produce};
use super::turns::turn;
use super::upsert::{KeyColumns, KeyIndex, Upsert};
use crate::edges::{Committable, Notices, SinkCommitter, SplitState};
use crate::error::{Error, Result, ResultExt};
use crate::failpoint::failpoint;
use crate::stream::Epoch;

/// Attempts when others commit at the same time; each of them means that somebody made progress.
const MAX_CONFLICTS: u32 = 200;
/// Attempts after errors of the catalog or the store.
const MAX_FAILURES: u32 = 4;

/// A commit to a table: who may make it, and what is said with it.
pub(super) struct Change<'a, J> {
    /// What it is, for messages.
    pub what: String,
    /// Whether the table may take it.
    pub judge: &'a J,
    /// Summary of its snapshot.
    pub summary: HashMap<String, String>,
    /// Table properties that it sets.
    pub properties: HashMap<String, String>,
    /// Columns that it changes.
    pub evolution: Option<&'a Evolution>,
    /// By a job that goes on after its process has died, so that it may have been done before.
    pub recovered: bool,
}

/// What a commit changes of the rows.
#[async_trait]
pub(super) trait Content: Send {
    /// What changes on top of the head of `table`, which will have the columns of `metadata`; `None` if that head is not one
    /// that it can come on top of. Asked again when the head has moved.
    ///
    /// # Errors
    /// Unsupported if the table cannot take it any more; External.
    async fn edits(&mut self, table: &Table, metadata: &TableMetadata) -> Result<Option<Edits>>;

    /// What became of the edits that were asked for last: the snapshot that holds them, or nothing.
    fn settled(&mut self, _snapshot: Option<i64>) {}
}

/// Rows are added.
pub(super) struct Append<'a> {
    /// The table in messages.
    pub shown: &'a str,
    /// The files that hold them.
    pub files: &'a [Prepared],
}

#[async_trait]
impl Content for Append<'_> {
    async fn edits(&mut self, _: &Table, metadata: &TableMetadata) -> Result<Option<Edits>> {
        Ok(Some(Edits { added: data_files(self.shown, self.files, metadata)?, ..Edits::default() }))
    }
}

/// The files that writers have prepared, as the table will describe them.
///
/// # Errors
/// Unsupported if the table is partitioned otherwise by now.
pub(super) fn data_files(
    shown: &str,
    prepared: &[Prepared],
    metadata: &TableMetadata,
) -> Result<Vec<DataFile>> {
    let mut files = Vec::new();
    for p in prepared {
        if p.spec != metadata.default_partition_spec_id() {
            return Err(Error::unsupported(format!(
                "{shown}: the partitioning of the table was changed while files were being written"
            ))
            .hint("start the job again: it will write with the new partitioning"));
        }
        files.extend(p.data_files(metadata, metadata.current_schema())?);
    }
    Ok(files)
}

/// How a commit ended that was not refused by the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Landed {
    /// It is in the table.
    Committed,
    /// Somebody else has changed what it continues or replaces; nothing of it is in the table.
    Diverged,
}

enum Attempt {
    Landed(Landed),
    Conflict(Error),
    Failed(Error),
}

/// A table and its catalog, to commit to.
#[derive(Clone)]
pub(super) struct Target {
    pub lake: Arc<Lake>,
    pub ident: TableIdent,
    /// For failures that are waited for.
    pub notices: Notices,
}

impl Target {
    /// Commits, over conflicts and failures of the catalog.
    ///
    /// # Errors
    /// Validation if another process has taken the table over; External.
    pub async fn commit<J: Judge>(
        &self,
        change: &Change<'_, J>,
        content: &mut dyn Content,
    ) -> Result<Landed> {
        let (mut conflicts, mut failures) = (0, 0);
        let what = format!("{}: cannot commit", self.lake.shown(&self.ident));
        let mut outage = Outage::new(what, &self.notices);
        loop {
            let outcome = self.attempt(change, content).await?;
            let error = match outcome {
                Attempt::Landed(landed) => {
                    outage.is_over();
                    return Ok(landed);
                }
                Attempt::Conflict(e) => {
                    conflicts += 1;
                    if conflicts > MAX_CONFLICTS {
                        return Err(e.hint(
                            "too many others commit to the table at the same time; commit less often",
                        ));
                    }
                    None
                }
                Attempt::Failed(e) => Some(e),
            };
            if let Some(e) = error {
                failures += 1;
                if failures > MAX_FAILURES {
                    return Err(e);
                }
                outage.lasts(&e);
            }
            tokio::time::sleep(backoff(conflicts + failures * 4)).await;
        }
    }

    /// One try and, unless nothing can have come of it, a look at what became of it.
    async fn attempt<J: Judge>(&self, change: &Change<'_, J>, content: &mut dyn Content) -> Result<Attempt> {
        let shown = self.lake.shown(&self.ident);
        let failed = |e: &iceberg::Error| {
            let error = self.lake.error(format!("{shown}: {}", change.what), e);
            let conflict = e.kind() == ErrorKind::CatalogCommitConflicts || e.retryable();
            if conflict { Attempt::Conflict(error) } else { Attempt::Failed(error) }
        };
        let table = match self.lake.client().load_table(&self.ident).await {
            Ok(t) => t,
            Err(e) => return Ok(failed(&e)),
        };
        if let Some(landed) = self.told(change.judge.judge(table.metadata()))? {
            return Ok(Attempt::Landed(landed));
        }
        let (metadata, mut update) = match change.evolution {
            Some(evolution) => evolution.apply(&table).context(|| shown.clone())?,
            None => (table.metadata_ref(), Update::default()),
        };
        if !change.properties.is_empty() {
            update.changes.push(TableUpdate::SetProperties { updates: change.properties.clone() });
        }
        let Some(mut edits) = content.edits(&table, &metadata).await? else {
            return Ok(Attempt::Landed(Landed::Diverged));
        };
        edits.summary.extend(change.summary.clone());
        // Reads every manifest of the table. Worth it only after a restart, where the snapshot with the marker may have
        // expired meanwhile.
        if change.recovered && !edits.added.is_empty() {
            let paths: HashSet<&str> = edits.added.iter().map(DataFile::file_path).collect();
            match holds_any(&table, &paths).await {
                Ok(false) => {}
                Ok(true) => return Ok(Attempt::Landed(Landed::Committed)),
                Err(e) => return Ok(failed(&e)),
            }
        }
        let deletes: Vec<String> = edits.deletes.iter().map(|(_, f)| f.file_path().to_owned()).collect();
        failpoint("iceberg-committing");
        let produced = match produce(&table, &metadata, edits).await {
            Ok(produced) => produced,
            Err(e) => {
                content.settled(None);
                return Ok(failed(&e));
            }
        };
        failpoint("iceberg-snapshot-written");
        update.requirements.extend(produced.update.requirements);
        update.changes.extend(produced.update.changes);
        let committed = self.lake.backend().commit(&table, update).await;
        failpoint("iceberg-committed");
        // After success: a catalog may have said so and lost it. After a conflict: a proxy that sends a request twice answers
        // with the conflict of the second.
        let now = match self.lake.client().load_table(&self.ident).await {
            Ok(t) => t,
            Err(e) => {
                content.settled(None);
                return Ok(failed(&e));
            }
        };
        let is_there = now.metadata().snapshot_by_id(produced.snapshot).is_some();
        content.settled(is_there.then_some(produced.snapshot));
        match (self.told(change.judge.judge(now.metadata()))?, committed) {
            (Some(landed), _) => Ok(Attempt::Landed(landed)),
            (None, Err(e)) => {
                if e.kind() == ErrorKind::CatalogCommitConflicts && !is_there {
                    discard(&table, &produced.written).await;
                    discard(&table, &deletes).await;
                }
                Ok(failed(&e))
            }
            (None, Ok(())) => Ok(Attempt::Failed(Error::external(format!(
                "{shown}: the catalog accepted the {} and lost it",
                change.what
            )))),
        }
    }

    /// What a verdict means; `None` if the commit may come.
    fn told(&self, verdict: Verdict) -> Result<Option<Landed>> {
        let shown = self.lake.shown(&self.ident);
        match verdict {
            Verdict::Go => Ok(None),
            Verdict::Committed => Ok(Some(Landed::Committed)),
            Verdict::Diverged => Ok(Some(Landed::Diverged)),
            Verdict::Replaced => Err(Error::external(format!(
                "{shown} was dropped and created again while rows were being written"
            ))
            .hint("nothing was written to the new table; start the job again")),
            Verdict::Fenced(generation) => Err(Error::validation(format!(
                "{shown} was taken over by another process (generation {generation}), which writes the same rows"
            ))
            .hint("nothing is lost and nothing is written twice; let one of the two run")),
        }
    }
}

/// Grows to two seconds, with jitter so that rivals do not meet again.
fn backoff(attempt: u32) -> Duration {
    let ceiling = 20u64 << attempt.min(6);
    let jitter = Uuid::new_v4().as_u64_pair().0 % ceiling.max(1);
    Duration::from_millis((ceiling / 2 + jitter).min(2_000))
}

/// The one committer of a job for one table.
pub(super) struct IcebergCommitter {
    target: Target,
    /// Where the table keeps how far the source was read.
    kept: Option<Kept>,
    /// Changes of columns that come with the first rows.
    evolution: Option<Evolution>,
    /// Where the rows of the keys are, from the first changes by key on.
    index: Option<KeyIndex>,
}

impl IcebergCommitter {
    /// For a table. What it `kept` is gone on from; `evolution` comes with the first rows.
    pub fn new(target: Target, kept: Option<Kept>, evolution: Option<Evolution>) -> Self {
        IcebergCommitter { target, kept, evolution, index: None }
    }

    fn shown(&self) -> String {
        self.target.lake.shown(&self.target.ident)
    }

    async fn commit_epoch(
        &mut self,
        epoch: Epoch,
        committables: &[Committable],
        recovered: bool,
    ) -> Result<()> {
        let prepared = Self::parse(committables).context(|| self.shown())?;
        if self.kept.is_some() {
            return self.commit_kept(epoch, &prepared).await;
        }
        let Some(first) = prepared.first() else { return Ok(()) };
        let mark = Mark { pipeline: first.pipeline, epoch: epoch.0, table: first.table, continues: None };
        self.check(&prepared, mark)?;
        let change = Change {
            what: format!("commit of epoch {epoch}"),
            judge: &mark,
            summary: mark.summary(),
            properties: HashMap::new(),
            evolution: self.evolution.as_ref(),
            recovered,
        };
        match commit_rows(&self.target, &change, &mut self.index, &prepared).await? {
            Landed::Committed => {
                self.evolution = None;
                Ok(())
            }
            Landed::Diverged => Err(Error::internal("a commit that continues nothing has diverged")),
        }
    }

    /// Epochs of preparation may differ: writers whose input ended earlier wait for the next commit.
    fn check(&self, prepared: &[Prepared], mark: Mark) -> Result<()> {
        if prepared.iter().any(|p| p.pipeline != mark.pipeline || p.table != mark.table) {
            return Err(Error::internal(format!(
                "{}: files of different jobs in the commit of epoch {}",
                self.shown(),
                mark.epoch
            )));
        }
        Ok(())
    }

    /// Commits rows together with how far the source was read for them.
    async fn commit_kept(&mut self, epoch: Epoch, prepared: &[Prepared]) -> Result<()> {
        let Some((mark, next)) = self.kept.as_ref().and_then(|k| k.next(epoch, !prepared.is_empty())) else {
            return Ok(());
        };
        self.check(prepared, mark)?;
        let Some(kept) = &self.kept else { return Ok(()) };
        let before = kept.at.positions.clone().unwrap_or_default();
        let change = Change {
            what: format!("commit of epoch {epoch}"),
            judge: &mark,
            summary: next.summary(&before),
            properties: next.properties(),
            // A column comes with the first row that may have it.
            evolution: self.evolution.as_ref().filter(|_| !prepared.is_empty()),
            recovered: false,
        };
        let landed = commit_rows(&self.target, &change, &mut self.index, prepared).await?;
        if landed == Landed::Diverged {
            return Err(diverged(&self.shown()));
        }
        if !prepared.is_empty() {
            self.evolution = None;
        }
        if let Some(kept) = &mut self.kept {
            kept.committed(next);
        }
        Ok(())
    }

    fn parse(committables: &[Committable]) -> Result<Vec<Prepared>> {
        committables.iter().map(|c| Prepared::from_bytes(c)).collect()
    }
}

/// Commits what writers have prepared: added, or by key.
async fn commit_rows<J: Judge>(
    target: &Target,
    change: &Change<'_, J>,
    index: &mut Option<KeyIndex>,
    files: &[Prepared],
) -> Result<Landed> {
    let shown = target.lake.shown(&target.ident);
    let _turn = turn(&target.lake, &target.ident).await;
    if !files.iter().any(|p| p.by_key) {
        return target.commit(change, &mut Append { shown: &shown, files }).await;
    }
    let table = target.lake.load(&target.ident).await?;
    let columns = KeyColumns::of(table.metadata().current_schema()).context(|| shown.clone())?;
    let columns = columns.ok_or_else(|| {
        Error::validation(format!("{shown} has no PRIMARY KEY any more (identifier fields of its schema)"))
            .hint("rows cannot be replaced without one; write to a new table")
    })?;
    let index = match index {
        Some(index) if index.is_of(&columns) => index,
        _ => index.insert(KeyIndex::new(shown.clone(), columns)),
    };
    let landed =
        target.commit(change, &mut Upsert { shown: &shown, index, files, deletes: Vec::new() }).await?;
    if landed == Landed::Committed {
        for keys in files.iter().filter_map(|p| p.deleted.as_ref()) {
            // Nobody needs them any more.
            let _ = table.file_io().delete(&keys.path).await;
        }
    }
    Ok(landed)
}

/// The table does not hold what the next commit continues.
pub(super) fn diverged(shown: &str) -> Error {
    Error::validation(format!(
        "{shown} is not in the state that this job has left it in: it was rolled back, or its properties were changed"
    ))
    .hint(
        "nothing more was written. 'source-positions.on-rollback' = 'resume' reads again what was taken back when the job \
         is started again",
    )
}

/// A table that keeps how far the source was read, as the last commit has left it.
pub(super) struct Kept {
    /// What the table says.
    pub at: Ledger,
    /// The table.
    pub table: Uuid,
    reached: Option<(Positions, bool)>,
    committed: Instant,
}

/// How long a commit of positions alone may wait for rows.
const EMPTY_COMMITS_EVERY: Duration = Duration::from_secs(300);

impl Kept {
    /// As the table says it.
    pub fn new(at: Ledger, table: Uuid) -> Self {
        Kept { at, table, reached: None, committed: Instant::now() }
    }

    /// The commit of `epoch`, if there is one to be made. Records without rows (bad ones, markers of transactions) move the
    /// positions as well, but are not worth a snapshot each.
    fn next(&self, epoch: Epoch, has_rows: bool) -> Option<(Mark, Ledger)> {
        let (positions, last) = self.reached.as_ref()?;
        let moved = self.at.positions.as_ref() != Some(positions);
        let due = has_rows || moved && (*last || self.committed.elapsed() >= EMPTY_COMMITS_EVERY);
        let continues = Some((self.at.generation, self.at.epoch));
        let mark = Mark { pipeline: self.at.pipeline, epoch: epoch.0, table: self.table, continues };
        due.then(|| (mark, Ledger { epoch: epoch.0, positions: Some(positions.clone()), ..self.at.clone() }))
    }

    fn committed(&mut self, at: Ledger) {
        self.at = at;
        self.committed = Instant::now();
    }
}

#[async_trait]
impl SinkCommitter for IcebergCommitter {
    fn on_positions(&mut self, positions: Vec<SplitState>, last: bool) {
        if let (Some(kept), Ok(positions)) = (&mut self.kept, from_states(&positions)) {
            kept.reached = Some((positions, last));
        }
    }

    async fn commit(&mut self, epoch: Epoch, committables: Vec<Committable>) -> Result<()> {
        self.commit_epoch(epoch, &committables, false).await
    }

    async fn recover(&mut self, epoch: Epoch, committables: Vec<Committable>) -> Result<()> {
        self.commit_epoch(epoch, &committables, true).await
    }

    async fn abort(&mut self, tried: Option<Epoch>, committables: Vec<Committable>) {
        let Ok(prepared) = Self::parse(&committables) else { return };
        // Files may only go when it is certain that no snapshot names them.
        let Ok(table) = self.target.lake.client().load_table(&self.target.ident).await else { return };
        for p in prepared {
            // A commit has the number of the whole epoch, not those under which its parts were prepared.
            let epoch = tried.map_or(p.epoch, |e| e.0);
            let continues = self.kept.as_ref().map(|k| (k.at.generation, k.at.epoch));
            let mark = Mark { pipeline: p.pipeline, epoch, table: p.table, continues };
            // A commit whose answer was lost may still arrive, unless the table has another head by now.
            let is_out = match mark.judge(table.metadata()) {
                Verdict::Go => tried.is_none() || continues.is_none(),
                Verdict::Fenced(_) => true,
                Verdict::Committed | Verdict::Replaced | Verdict::Diverged => false,
            };
            if is_out {
                for path in p.all_paths() {
                    let _ = table.file_io().delete(path).await;
                }
            }
        }
    }
}

//! Commits: one snapshot per epoch, never two, whatever fails in between.
//!
//! ```text
//!  Prepared (per writer) ─┐
//!  Prepared ──────────────┼─► fast append ─► FencedCatalog.load_table: is (pipeline, epoch) in the ancestry already?
//!  …                     ─┘                         │ no: append to exactly this table        │ yes: nothing to do
//!                                                   └─► update_table, which requires that main has not moved
//! ```
//!
//! The crate's transaction loads the table, rebases the append onto it and retries conflicts by itself. Because the
//! check runs inside `load_table`, check and commit are one step: the commit's requirement is the head that was
//! checked. A conflict leads to a new check. An unknown outcome (timeout, dropped connection, a COMMIT error that the
//! SQL catalog swallows) is settled by loading the table again.
//!
//! State: none beyond the table itself; the marker `tidelake.pipeline` / `tidelake.epoch` is in the snapshot summary.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use iceberg::spec::{DataFile, TableMetadata, deserialize_data_file_from_json, serialize_data_file_to_json};
use iceberg::table::Table;
use iceberg::transaction::{ApplyTransactionAction, Transaction};
use iceberg::{ErrorKind, Namespace, NamespaceIdent, TableCommit, TableCreation, TableIdent};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::lake::Lake;
use super::outage::Outage;
use crate::edges::{Committable, Notices, SinkCommitter};
use crate::error::{Error, Result, ResultExt};
use crate::failpoint::failpoint;
use crate::stream::Epoch;

const PIPELINE: &str = "tidelake.pipeline";
const EPOCH: &str = "tidelake.epoch";

/// Attempts when others commit at the same time; each of them means that somebody made progress.
const MAX_CONFLICTS: u32 = 200;
/// Attempts after errors of the catalog or the store.
const MAX_FAILURES: u32 = 4;

/// The data files of one writer and epoch, as stored in checkpoints.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Prepared {
    version: u32,
    pipeline: Uuid,
    epoch: u64,
    table: Uuid,
    spec: i32,
    paths: Vec<String>,
    files: Vec<String>,
}

impl Prepared {
    /// Describes `files`, written for the current default partition spec of `table`.
    ///
    /// # Errors
    /// Internal if a file cannot be described.
    pub fn new(table: &Table, pipeline: Uuid, epoch: Epoch, files: &[DataFile]) -> Result<Self> {
        let metadata = table.metadata();
        let described = files
            .iter()
            .map(|f| {
                serialize_data_file_to_json(
                    f.clone(),
                    metadata.default_partition_type(),
                    metadata.format_version(),
                )
                .map_err(|e| Error::internal(format!("data file {}: {}", f.file_path(), e.message())))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Prepared {
            version: 1,
            pipeline,
            epoch: epoch.0,
            table: metadata.uuid(),
            spec: metadata.default_partition_spec_id(),
            paths: files.iter().map(|f| f.file_path().to_owned()).collect(),
            files: described,
        })
    }

    /// For the checkpoint.
    ///
    /// # Errors
    /// Internal.
    pub fn to_bytes(&self) -> Result<Committable> {
        serde_json::to_vec(self).map_err(|e| Error::internal(e.to_string()))
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let p: Prepared = serde_json::from_slice(bytes).map_err(|e| {
            Error::internal(format!("prepared Iceberg files in the checkpoint are damaged: {e}"))
        })?;
        if p.version != 1 {
            return Err(Error::internal(format!(
                "prepared Iceberg files have the unknown version {}",
                p.version
            )));
        }
        Ok(p)
    }

    fn data_files(&self, metadata: &TableMetadata) -> Result<Vec<DataFile>> {
        let wrap = |e: iceberg::Error| Error::internal(format!("a prepared data file: {}", e.message()));
        let spec = metadata
            .partition_spec_by_id(self.spec)
            .ok_or_else(|| Error::internal(format!("the table has no partition spec {}", self.spec)))?;
        let schema = metadata.current_schema();
        let types = spec.partition_type(schema).map_err(wrap)?;
        self.files
            .iter()
            .map(|json| deserialize_data_file_from_json(json, self.spec, &types, schema).map_err(wrap))
            .collect()
    }
}

/// What the ancestry of a table says about an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Go,
    Committed,
    /// Another table took its name.
    Replaced,
}

/// Identifies one commit.
#[derive(Debug, Clone, Copy)]
struct Mark {
    pipeline: Uuid,
    epoch: u64,
    table: Uuid,
}

impl Mark {
    fn judge(&self, metadata: &TableMetadata) -> Verdict {
        if metadata.uuid() != self.table {
            return Verdict::Replaced;
        }
        let pipeline = self.pipeline.to_string();
        let mut next = metadata.current_snapshot();
        while let Some(snapshot) = next {
            let summary = &snapshot.summary().additional_properties;
            if summary.get(PIPELINE) == Some(&pipeline) {
                // Epochs of a pipeline are committed in order, so its newest marker tells.
                let newest = summary.get(EPOCH).and_then(|e| e.parse::<u64>().ok()).unwrap_or(0);
                return if newest >= self.epoch { Verdict::Committed } else { Verdict::Go };
            }
            next = snapshot.parent_snapshot_id().and_then(|id| metadata.snapshot_by_id(id));
        }
        Verdict::Go
    }

    fn properties(&self) -> HashMap<String, String> {
        HashMap::from([
            (PIPELINE.to_owned(), self.pipeline.to_string()),
            (EPOCH.to_owned(), self.epoch.to_string()),
            ("engine-name".to_owned(), "tidelake".to_owned()),
            ("engine-version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ])
    }
}

/// A catalog whose `load_table` refuses to hand out a table that has the commit already.
#[derive(Debug)]
struct FencedCatalog {
    inner: Arc<dyn iceberg::Catalog>,
    mark: Mark,
    verdict: Mutex<Verdict>,
}

impl FencedCatalog {
    fn verdict(&self) -> Verdict {
        self.verdict.lock().map_or(Verdict::Go, |v| *v)
    }
}

#[async_trait]
impl iceberg::Catalog for FencedCatalog {
    async fn load_table(&self, ident: &TableIdent) -> iceberg::Result<Table> {
        let table = self.inner.load_table(ident).await?;
        let verdict = self.mark.judge(table.metadata());
        if let Ok(mut v) = self.verdict.lock() {
            *v = verdict;
        }
        match verdict {
            Verdict::Go => Ok(table),
            // Not retryable, so the transaction stops here.
            other => Err(iceberg::Error::new(ErrorKind::PreconditionFailed, format!("{other:?}"))),
        }
    }

    async fn update_table(&self, commit: TableCommit) -> iceberg::Result<Table> {
        self.inner.update_table(commit).await
    }

    async fn list_namespaces(&self, parent: Option<&NamespaceIdent>) -> iceberg::Result<Vec<NamespaceIdent>> {
        self.inner.list_namespaces(parent).await
    }

    async fn create_namespace(
        &self,
        namespace: &NamespaceIdent,
        properties: HashMap<String, String>,
    ) -> iceberg::Result<Namespace> {
        self.inner.create_namespace(namespace, properties).await
    }

    async fn get_namespace(&self, namespace: &NamespaceIdent) -> iceberg::Result<Namespace> {
        self.inner.get_namespace(namespace).await
    }

    async fn namespace_exists(&self, namespace: &NamespaceIdent) -> iceberg::Result<bool> {
        self.inner.namespace_exists(namespace).await
    }

    async fn update_namespace(
        &self,
        namespace: &NamespaceIdent,
        properties: HashMap<String, String>,
    ) -> iceberg::Result<()> {
        self.inner.update_namespace(namespace, properties).await
    }

    async fn drop_namespace(&self, namespace: &NamespaceIdent) -> iceberg::Result<()> {
        self.inner.drop_namespace(namespace).await
    }

    async fn list_tables(&self, namespace: &NamespaceIdent) -> iceberg::Result<Vec<TableIdent>> {
        self.inner.list_tables(namespace).await
    }

    async fn create_table(
        &self,
        namespace: &NamespaceIdent,
        creation: TableCreation,
    ) -> iceberg::Result<Table> {
        self.inner.create_table(namespace, creation).await
    }

    async fn drop_table(&self, table: &TableIdent) -> iceberg::Result<()> {
        self.inner.drop_table(table).await
    }

    async fn purge_table(&self, table: &TableIdent) -> iceberg::Result<()> {
        self.inner.purge_table(table).await
    }

    async fn table_exists(&self, table: &TableIdent) -> iceberg::Result<bool> {
        self.inner.table_exists(table).await
    }

    async fn rename_table(&self, src: &TableIdent, dest: &TableIdent) -> iceberg::Result<()> {
        self.inner.rename_table(src, dest).await
    }

    async fn register_table(&self, table: &TableIdent, location: String) -> iceberg::Result<Table> {
        self.inner.register_table(table, location).await
    }
}

/// The one committer of a job for one table.
pub(super) struct IcebergCommitter {
    lake: Arc<Lake>,
    ident: TableIdent,
    notices: Notices,
}

impl IcebergCommitter {
    /// For the table `ident`; failures that are waited for go to `notices`.
    pub fn new(lake: Arc<Lake>, ident: TableIdent, notices: Notices) -> Self {
        IcebergCommitter { lake, ident, notices }
    }

    async fn commit_epoch(&self, epoch: Epoch, committables: &[Committable], recovered: bool) -> Result<()> {
        let prepared = Self::parse(committables).context(|| self.lake.shown(&self.ident))?;
        let Some(first) = prepared.first() else { return Ok(()) };
        let mark = Mark { pipeline: first.pipeline, epoch: epoch.0, table: first.table };
        // Epochs of preparation may differ: writers whose input ended earlier wait for the next commit.
        if prepared.iter().any(|p| p.pipeline != mark.pipeline || p.table != mark.table) {
            return Err(Error::internal(format!(
                "{}: files of different jobs in the commit of epoch {epoch}",
                self.lake.shown(&self.ident)
            )));
        }
        self.commit_all(&prepared, mark, recovered).await
    }

    /// `recovered`: by a job that goes on after its process has died, so that it may have been done before.
    async fn commit_all(&self, prepared: &[Prepared], mark: Mark, recovered: bool) -> Result<()> {
        let (mut conflicts, mut failures) = (0, 0);
        let what = format!("{}: cannot commit", self.lake.shown(&self.ident));
        let mut outage = Outage::new(what, &self.notices);
        loop {
            let outcome = self.attempt(prepared, mark, recovered).await?;
            let error = match outcome {
                Attempt::Committed => {
                    outage.is_over();
                    return Ok(());
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

    /// One transaction and, unless it certainly succeeded, a look at what became of it.
    async fn attempt(&self, prepared: &[Prepared], mark: Mark, recovered: bool) -> Result<Attempt> {
        let shown = self.lake.shown(&self.ident);
        let failed = |e: &iceberg::Error| {
            let error = self.lake.error(format!("{shown}: commit of epoch {}", mark.epoch), e);
            let conflict = e.kind() == ErrorKind::CatalogCommitConflicts || e.retryable();
            if conflict { Attempt::Conflict(error) } else { Attempt::Failed(error) }
        };
        let table = match self.lake.client().load_table(&self.ident).await {
            Ok(t) => t,
            Err(e) => return Ok(failed(&e)),
        };
        match mark.judge(table.metadata()) {
            Verdict::Committed => return Ok(Attempt::Committed),
            Verdict::Replaced => return Err(self.replaced()),
            Verdict::Go => {}
        }
        let metadata = table.metadata();
        let mut files = Vec::new();
        for p in prepared {
            if p.spec != metadata.default_partition_spec_id() {
                return Err(Error::unsupported(format!(
                    "{shown}: the partitioning of the table was changed while files were being written"
                ))
                .hint("start the job again: it will write with the new partitioning"));
            }
            files.extend(p.data_files(metadata)?);
        }
        let fenced =
            FencedCatalog { inner: Arc::clone(self.lake.client()), mark, verdict: Mutex::new(Verdict::Go) };
        let transaction = Transaction::new(&table);
        let action = transaction
            .fast_append()
            .add_data_files(files)
            // Reads every manifest of the table. Worth it only after a restart, where the snapshot with the marker
            // may have expired meanwhile.
            .with_check_duplicate(recovered)
            .set_snapshot_properties(mark.properties());
        failpoint("iceberg-committing");
        let committed = match action.apply(transaction) {
            Ok(t) => t.commit(&fenced).await,
            Err(e) => Err(e),
        };
        failpoint("iceberg-committed");
        match (committed, fenced.verdict()) {
            (Err(_), Verdict::Committed) => Ok(Attempt::Committed),
            (Err(_), Verdict::Replaced) => Err(self.replaced()),
            (Err(e), Verdict::Go) if recovered && e.message().contains("already referenced by table") => {
                Ok(Attempt::Committed)
            }
            (result, _) => {
                // Also after success: the SQL catalog reports success when its COMMIT failed.
                let now = match self.lake.client().load_table(&self.ident).await {
                    Ok(t) => mark.judge(t.metadata()),
                    Err(e) => return Ok(failed(&e)),
                };
                match (now, result) {
                    (Verdict::Committed, _) => Ok(Attempt::Committed),
                    (Verdict::Replaced, _) => Err(self.replaced()),
                    (Verdict::Go, Err(e)) => Ok(failed(&e)),
                    (Verdict::Go, Ok(_)) => Ok(Attempt::Failed(Error::external(format!(
                        "{shown}: the catalog accepted the commit of epoch {} and lost it",
                        mark.epoch
                    )))),
                }
            }
        }
    }

    fn replaced(&self) -> Error {
        Error::external(format!(
            "{} was dropped and created again while rows were being written",
            self.lake.shown(&self.ident)
        ))
        .hint("nothing was written to the new table; start the job again")
    }

    fn parse(committables: &[Committable]) -> Result<Vec<Prepared>> {
        committables.iter().map(|c| Prepared::from_bytes(c)).collect()
    }
}

enum Attempt {
    Committed,
    Conflict(Error),
    Failed(Error),
}

/// Grows to two seconds, with jitter so that rivals do not meet again.
fn backoff(attempt: u32) -> Duration {
    let ceiling = 20u64 << attempt.min(6);
    let jitter = Uuid::new_v4().as_u64_pair().0 % ceiling.max(1);
    Duration::from_millis((ceiling / 2 + jitter).min(2_000))
}

#[async_trait]
impl SinkCommitter for IcebergCommitter {
    async fn commit(&mut self, epoch: Epoch, committables: Vec<Committable>) -> Result<()> {
        self.commit_epoch(epoch, &committables, false).await
    }

    async fn recover(&mut self, epoch: Epoch, committables: Vec<Committable>) -> Result<()> {
        self.commit_epoch(epoch, &committables, true).await
    }

    async fn abort(&mut self, tried: Option<Epoch>, committables: Vec<Committable>) {
        let Ok(prepared) = Self::parse(&committables) else { return };
        // Files may only go when it is certain that no snapshot names them.
        let Ok(table) = self.lake.client().load_table(&self.ident).await else { return };
        for p in prepared {
            // A commit has the number of the whole epoch, not those under which its parts were prepared.
            let epoch = tried.map_or(p.epoch, |e| e.0);
            let mark = Mark { pipeline: p.pipeline, epoch, table: p.table };
            if mark.judge(table.metadata()) == Verdict::Go {
                for path in p.paths {
                    let _ = table.file_io().delete(path).await;
                }
            }
        }
    }
}

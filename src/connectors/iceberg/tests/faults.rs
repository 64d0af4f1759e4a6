//! A catalog that fails in the ways that make committing twice, or not at all, easy.

use std::sync::Mutex;

use arrow::array::{AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use async_trait::async_trait;
use iceberg::table::Table;
use iceberg::{Error, ErrorKind, Namespace, NamespaceIdent, Result, TableCommit, TableCreation, TableIdent};

use super::super::commit::{IcebergCommitter, Target};
use super::super::lake;
use super::reads::raw;
use super::*;
use crate::edges::Notices;
use crate::edges::SinkCommitter;
use crate::edges::SinkContext;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// The update is applied and the answer is lost.
    AppliedUnknown,
    /// The update is not applied and the answer is lost.
    NotAppliedUnknown,
    /// The update is applied and a proxy that sent it twice answers with the second conflict.
    AppliedConflict,
    /// The answer is success, and nothing was stored.
    SwallowedCommit,
    /// Somebody else commits first.
    Overtaken,
}

/// Fails one update per entry, then behaves.
#[derive(Debug)]
struct Faulty {
    inner: Arc<dyn iceberg::Catalog>,
    faults: Mutex<Vec<Fault>>,
    updates: Mutex<usize>,
}

#[async_trait]
impl iceberg::Catalog for Faulty {
    async fn update_table(&self, commit: TableCommit) -> Result<Table> {
        *self.updates.lock().unwrap() += 1;
        let fault = self.faults.lock().unwrap().pop();
        let unknown = || Error::new(ErrorKind::Unexpected, "the commit state is unknown");
        let conflict = || Error::new(ErrorKind::CatalogCommitConflicts, "conflict").with_retryable(true);
        let ident = commit.identifier().clone();
        match fault {
            None => self.inner.update_table(commit).await,
            Some(Fault::AppliedUnknown) => {
                self.inner.update_table(commit).await?;
                Err(unknown())
            }
            Some(Fault::NotAppliedUnknown) => Err(unknown()),
            Some(Fault::AppliedConflict) => {
                self.inner.update_table(commit).await?;
                Err(conflict())
            }
            Some(Fault::SwallowedCommit) => self.inner.load_table(&ident).await,
            Some(Fault::Overtaken) => Err(conflict()),
        }
    }
    async fn load_table(&self, t: &TableIdent) -> Result<Table> {
        self.inner.load_table(t).await
    }
    async fn list_namespaces(&self, p: Option<&NamespaceIdent>) -> Result<Vec<NamespaceIdent>> {
        self.inner.list_namespaces(p).await
    }
    async fn create_namespace(
        &self,
        n: &NamespaceIdent,
        p: std::collections::HashMap<String, String>,
    ) -> Result<Namespace> {
        self.inner.create_namespace(n, p).await
    }
    async fn get_namespace(&self, n: &NamespaceIdent) -> Result<Namespace> {
        self.inner.get_namespace(n).await
    }
    async fn namespace_exists(&self, n: &NamespaceIdent) -> Result<bool> {
        self.inner.namespace_exists(n).await
    }
    async fn update_namespace(
        &self,
        n: &NamespaceIdent,
        p: std::collections::HashMap<String, String>,
    ) -> Result<()> {
        self.inner.update_namespace(n, p).await
    }
    async fn drop_namespace(&self, n: &NamespaceIdent) -> Result<()> {
        self.inner.drop_namespace(n).await
    }
    async fn list_tables(&self, n: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        self.inner.list_tables(n).await
    }
    async fn create_table(&self, n: &NamespaceIdent, c: TableCreation) -> Result<Table> {
        self.inner.create_table(n, c).await
    }
    async fn drop_table(&self, t: &TableIdent) -> Result<()> {
        self.inner.drop_table(t).await
    }
    async fn purge_table(&self, t: &TableIdent) -> Result<()> {
        self.inner.purge_table(t).await
    }
    async fn table_exists(&self, t: &TableIdent) -> Result<bool> {
        self.inner.table_exists(t).await
    }
    async fn rename_table(&self, a: &TableIdent, b: &TableIdent) -> Result<()> {
        self.inner.rename_table(a, b).await
    }
    async fn register_table(&self, t: &TableIdent, l: String) -> Result<Table> {
        self.inner.register_table(t, l).await
    }
}

fn committer(over: &Arc<lake::Lake>, table: &Table) -> IcebergCommitter {
    let (lake, ident) = (Arc::clone(over), table.identifier().clone());
    IcebergCommitter::new(Target { lake, ident, notices: Notices::default() }, None, None)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_ends_in_exactly_one_commit() {
    use Fault::*;
    let scripts: Vec<Vec<Fault>> = vec![
        vec![AppliedUnknown],
        vec![NotAppliedUnknown],
        vec![AppliedConflict],
        vec![SwallowedCommit],
        vec![Overtaken, Overtaken],
        // From the last to the first.
        vec![AppliedUnknown, Overtaken, SwallowedCommit, NotAppliedUnknown],
    ];
    for faults in scripts {
        let lake = sqlite().await;
        lake.create("t", vec![column("id", nullable(TypeRoot::BigInt))], &[]).await;
        let schema = lake.resolved("t", &[]).await.physical;
        let (opened, table) = raw(&lake, "t").await;
        let faulty = Arc::new(Faulty {
            inner: Arc::clone(opened.client()),
            faults: Mutex::new(faults.clone()),
            updates: Mutex::new(0),
        });
        let over = lake::Lake::over(opened.config.clone(), faulty.clone());
        let mut sink =
            lake.sink("t", &[]).await.unwrap().open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap();
        let rows = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from_iter_values(0..10))]).unwrap();
        let committables = write(&mut sink, &[rows], Epoch(7)).await;
        // Once by the run that wrote the files, once by a run after a restart, where the crate also checks duplicates.
        committer(&over, &table).commit(Epoch(7), committables.clone()).await.unwrap();
        committer(&over, &table).recover(Epoch(7), committables).await.unwrap();
        assert!(faulty.faults.lock().unwrap().is_empty(), "{faults:?}");
        let got = lake.query("t", "SELECT count(*) AS c FROM t").await;
        assert_eq!(got.column(0).as_primitive::<Int64Type>().value(0), 10, "{faults:?}");
        let (_, table) = raw(&lake, "t").await;
        assert_eq!(table.metadata().snapshots().len(), 1, "{faults:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_that_stays_broken_gives_an_error() {
    let lake = sqlite().await;
    lake.create("t", vec![column("id", nullable(TypeRoot::BigInt))], &[]).await;
    let schema = lake.resolved("t", &[]).await.physical;
    let (opened, table) = raw(&lake, "t").await;
    let faulty = Arc::new(Faulty {
        inner: Arc::clone(opened.client()),
        faults: Mutex::new(vec![Fault::NotAppliedUnknown; 100]),
        updates: Mutex::new(0),
    });
    let over = lake::Lake::over(opened.config.clone(), faulty);
    let mut sink =
        lake.sink("t", &[]).await.unwrap().open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap();
    let rows = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![1]))]).unwrap();
    let committables = write(&mut sink, &[rows], Epoch(1)).await;
    let mut committer = committer(&over, &table);
    let e = committer.commit(Epoch(1), committables).await.unwrap_err().to_string();
    assert!(e.contains("commit of epoch 1") && e.contains("state is unknown"), "{e}");
}

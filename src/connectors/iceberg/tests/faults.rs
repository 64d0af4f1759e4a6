//! A catalog that fails in the ways that make committing twice, or not at all, easy.

use std::sync::Mutex;

use arrow::array::{AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use async_trait::async_trait;
use iceberg::table::Table;
use iceberg::{Error, ErrorKind, Result};

use super::super::backend::{Backend, Update};
use super::super::commit::{IcebergCommitter, Target};
use super::super::lake;
use super::reads::raw;
use super::*;
use crate::edges::Notices;
use crate::edges::SinkCommitter;
use crate::edges::SinkContext;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fault {
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

/// Fails one commit per entry, then behaves.
#[derive(Debug)]
struct Faulty {
    inner: Arc<dyn Backend>,
    faults: Mutex<Vec<Fault>>,
    commits: Mutex<usize>,
}

#[async_trait]
impl Backend for Faulty {
    async fn commit(&self, base: &Table, update: Update) -> Result<()> {
        *self.commits.lock().unwrap() += 1;
        let fault = self.faults.lock().unwrap().pop();
        let unknown = || Error::new(ErrorKind::Unexpected, "the commit state is unknown");
        let conflict = || Error::new(ErrorKind::CatalogCommitConflicts, "conflict").with_retryable(true);
        match fault {
            None => self.inner.commit(base, update).await,
            Some(Fault::AppliedUnknown) => {
                self.inner.commit(base, update).await?;
                Err(unknown())
            }
            Some(Fault::NotAppliedUnknown) => Err(unknown()),
            Some(Fault::AppliedConflict) => {
                self.inner.commit(base, update).await?;
                Err(conflict())
            }
            Some(Fault::SwallowedCommit) => Ok(()),
            Some(Fault::Overtaken) => Err(conflict()),
        }
    }
}

/// A lake whose commits fail, from the last of `faults` to the first.
pub(super) fn faulty(opened: &lake::Lake, faults: Vec<Fault>) -> Arc<lake::Lake> {
    let inner = Arc::clone(opened.backend());
    opened.over(Arc::new(Faulty { inner, faults: Mutex::new(faults), commits: Mutex::new(0) }))
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
            inner: Arc::clone(opened.backend()),
            faults: Mutex::new(faults.clone()),
            commits: Mutex::new(0),
        });
        let over = opened.over(faulty.clone());
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
    let over = faulty(&opened, vec![Fault::NotAppliedUnknown; 100]);
    let mut sink =
        lake.sink("t", &[]).await.unwrap().open(&SinkContext::new(WriteMode::Append, 1)).await.unwrap();
    let rows = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![1]))]).unwrap();
    let committables = write(&mut sink, &[rows], Epoch(1)).await;
    let mut committer = committer(&over, &table);
    let e = committer.commit(Epoch(1), committables).await.unwrap_err().to_string();
    assert!(e.contains("commit of epoch 1") && e.contains("state is unknown"), "{e}");
}

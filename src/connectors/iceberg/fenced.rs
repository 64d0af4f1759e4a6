//! A check that is one step with the commit that it is for.
//!
//! ```text
//!  Transaction::commit ─► FencedCatalog.load_table ─► Judge: may this table take the commit?
//!                              │ yes: the transaction builds on exactly this table, and requires its head
//!                              └ no: the transaction ends; the verdict says why
//! ```
//!
//! The crate's transaction loads the table, rebases onto it and retries conflicts by itself. Whatever was checked before it
//! began is out of date by then; what is checked in `load_table` is not.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use iceberg::spec::TableMetadata;
use iceberg::table::Table;
use iceberg::{ErrorKind, Namespace, NamespaceIdent, TableCommit, TableCreation, TableIdent};

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

/// A catalog whose `load_table` refuses to hand out a table that has the commit already.
#[derive(Debug)]
pub(super) struct FencedCatalog<'a, J> {
    inner: Arc<dyn iceberg::Catalog>,
    judge: &'a J,
    verdict: Mutex<Verdict>,
    /// What a commit would make of the table, if none is to be made.
    rehearsed: Option<Mutex<Option<Table>>>,
}

impl<'a, J: Judge> FencedCatalog<'a, J> {
    /// `inner`, as far as `judge` lets through.
    pub fn new(inner: &Arc<dyn iceberg::Catalog>, judge: &'a J) -> Self {
        FencedCatalog { inner: Arc::clone(inner), judge, verdict: Mutex::new(Verdict::Go), rehearsed: None }
    }

    /// A catalog that only tells what a commit would make of a table.
    pub fn rehearsal(inner: &Arc<dyn iceberg::Catalog>, judge: &'a J) -> Self {
        FencedCatalog { rehearsed: Some(Mutex::default()), ..Self::new(inner, judge) }
    }

    /// What was said of the table that was loaded last.
    pub fn verdict(&self) -> Verdict {
        self.verdict.lock().map_or(Verdict::Go, |v| *v)
    }
}

#[async_trait]
impl<J: Judge> iceberg::Catalog for FencedCatalog<'_, J> {
    async fn load_table(&self, ident: &TableIdent) -> iceberg::Result<Table> {
        let table = self.inner.load_table(ident).await?;
        let verdict = self.judge.judge(table.metadata());
        if let Ok(mut v) = self.verdict.lock() {
            *v = verdict;
        }
        if let Some(mut loaded) = self.rehearsed.as_ref().and_then(|r| r.lock().ok()) {
            *loaded = Some(table.clone());
        }
        match verdict {
            Verdict::Go => Ok(table),
            // Not retryable, so the transaction stops here.
            other => Err(iceberg::Error::new(ErrorKind::PreconditionFailed, format!("{other:?}"))),
        }
    }

    async fn update_table(&self, commit: TableCommit) -> iceberg::Result<Table> {
        let Some(rehearsed) = &self.rehearsed else { return self.inner.update_table(commit).await };
        match rehearsed.lock().ok().and_then(|mut loaded| loaded.take()) {
            Some(table) => commit.apply(table),
            None => {
                Err(iceberg::Error::new(ErrorKind::Unexpected, "a commit to a table that was not loaded"))
            }
        }
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

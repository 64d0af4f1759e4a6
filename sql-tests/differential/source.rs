//! A table that plays its history: a changelog in streaming, the rows that are left in batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use tidelake::catalog::{
    DEFAULT_CATALOG, DEFAULT_DATABASE, ExternalTable, ObjectPath, ResolvedTable, TableDef,
};
use tidelake::connectors::values::ValuesSource;
use tidelake::edges::{
    ConnectorEnv, ScanRequest, Sink, Source, SourceChangelog, SourceEvent, SourceReader, SplitState, project,
};
use tidelake::sql::ast::{ColumnDef, ColumnKind, PrimaryKey, Statement, WatermarkDef};
use tidelake::stream::ChangeBatch;
use tidelake::{Error, Location, Result};
use tokio::sync::Notify;

use super::tables::{Table, WATERMARK};

/// Where all sources of a run stop, so that a snapshot can be taken there.
#[derive(Debug, Default)]
pub(crate) struct Pause {
    /// Batches that each split yields before it waits; `None` plays everything.
    pub(crate) after: Option<usize>,
    opened: AtomicUsize,
    waiting: AtomicUsize,
    reached: Notify,
}

impl Pause {
    pub(crate) fn new(after: Option<usize>) -> Arc<Self> {
        Arc::new(Pause { after, ..Pause::default() })
    }

    /// Resolves when every reader waits.
    pub(crate) async fn reached(&self) {
        loop {
            let reached = self.reached.notified();
            let opened = self.opened.load(Ordering::SeqCst);
            if opened > 0 && self.waiting.load(Ordering::SeqCst) == opened {
                return;
            }
            reached.await;
        }
    }
}

/// A table in the catalog of a session.
#[derive(Debug)]
pub(crate) struct Played {
    table: Table,
    pause: Arc<Pause>,
}

/// The catalog's definition of a table.
pub(crate) fn definition(table: &Table, pause: &Arc<Pause>) -> TableDef {
    let columns = table.columns.iter().enumerate().map(|(i, (ty, nullable))| ColumnDef {
        name: format!("c{i}"),
        ty: Some(ty.logical(*nullable)),
        kind: ColumnKind::Physical,
        comment: None,
    });
    TableDef {
        path: ObjectPath {
            catalog: DEFAULT_CATALOG.to_owned(),
            database: DEFAULT_DATABASE.to_owned(),
            object: table.name.clone(),
        },
        columns: columns.collect(),
        watermark: table.timed.then(|| watermark(table)),
        primary_key: table.keyed.then(|| PrimaryKey { name: None, columns: vec!["c0".to_owned()] }),
        partitioned_by: Vec::new(),
        comment: None,
        options: Default::default(),
        temporary: false,
        location: Location::default(),
        external: Some(Arc::new(Played { table: table.clone(), pause: pause.clone() })),
    }
}

/// The same with the first column as primary key: a table of versions.
pub(crate) fn versions(table: &Table, pause: &Arc<Pause>) -> TableDef {
    let mut definition = definition(table, pause);
    definition.path.object = table.versions();
    definition.primary_key = Some(PrimaryKey { name: None, columns: vec!["c0".to_owned()] });
    definition
}

fn watermark(table: &Table) -> WatermarkDef {
    let time = table.time();
    let ddl = format!("CREATE TABLE t ({time} TIMESTAMP(3), WATERMARK FOR {time} AS {time} - {WATERMARK})");
    let statements = tidelake::sql::parse_script(&ddl).expect("a table");
    match statements.into_iter().next().map(|s| s.statement) {
        Some(Statement::CreateTable(table)) => table.watermark.expect("a watermark"),
        other => panic!("{other:?}"),
    }
}

impl ExternalTable for Played {
    fn source(&self, _table: &ResolvedTable, env: &ConnectorEnv) -> Result<Arc<dyn Source>> {
        let schema = self.table.schema();
        if env.batch {
            let rows = self.table.record_batch(&self.table.net());
            return Ok(Arc::new(ValuesSource::new(schema, vec![rows])));
        }
        let splits = (0..self.table.splits.len()).map(|s| Arc::new(self.table.batches(s))).collect();
        Ok(Arc::new(PlayedSource {
            schema,
            splits,
            append_only: self.table.is_append_only(),
            pause: self.pause.clone(),
        }))
    }

    fn sink(&self, _table: &ResolvedTable, _env: &ConnectorEnv) -> Result<Arc<dyn Sink>> {
        Err(Error::unsupported("nothing is written here"))
    }
}

/// Plays change batches, a split after the other in turns.
#[derive(Debug)]
pub(crate) struct PlayedSource {
    pub(crate) schema: SchemaRef,
    pub(crate) splits: Vec<Arc<Vec<ChangeBatch>>>,
    pub(crate) append_only: bool,
    pub(crate) pause: Arc<Pause>,
}

#[async_trait]
impl Source for PlayedSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn bounded(&self) -> bool {
        true
    }

    fn changelog(&self) -> SourceChangelog {
        if self.append_only { SourceChangelog::AppendOnly } else { SourceChangelog::Retract }
    }

    async fn readers(
        &self,
        scan: ScanRequest,
        parallelism: usize,
        restored: Option<Vec<SplitState>>,
    ) -> Result<Vec<Box<dyn SourceReader>>> {
        self.pause.opened.fetch_add(parallelism, Ordering::SeqCst);
        let position = |split: usize| -> usize {
            let state = restored.iter().flatten().find(|s| s.split == split.to_string());
            state.map_or(0, |s| s.position.parse().expect("a number"))
        };
        Ok((0..parallelism)
            .map(|subtask| -> Box<dyn SourceReader> {
                let splits = (0..self.splits.len()).filter(|s| s % parallelism == subtask);
                Box::new(PlayedReader {
                    splits: splits.map(|s| (s, position(s), self.splits[s].clone())).collect(),
                    turn: 0,
                    projection: scan.projection.clone(),
                    pause: self.pause.clone(),
                    waits: false,
                    announced: false,
                })
            })
            .collect())
    }
}

struct PlayedReader {
    /// Number, next batch, batches.
    splits: Vec<(usize, usize, Arc<Vec<ChangeBatch>>)>,
    turn: usize,
    projection: Option<Vec<usize>>,
    pause: Arc<Pause>,
    waits: bool,
    announced: bool,
}

#[async_trait]
impl SourceReader for PlayedReader {
    async fn next(&mut self) -> Result<SourceEvent> {
        if !std::mem::replace(&mut self.announced, true) {
            // The watermark waits for all of them.
            return Ok(SourceEvent::SplitsStarted(self.splits.iter().map(|(s, ..)| *s as u32).collect()));
        }
        let end = self.pause.after.unwrap_or(usize::MAX);
        for _ in 0..self.splits.len() {
            self.turn = (self.turn + 1) % self.splits.len();
            let (split, next, batches) = &mut self.splits[self.turn];
            if *next < batches.len().min(end) {
                let batch = &batches[*next];
                *next += 1;
                let rows = project(&batch.rows, self.projection.as_deref())?;
                let batch = ChangeBatch { rows, kinds: batch.kinds.clone() };
                return Ok(SourceEvent::Batch { split: *split as u32, batch });
            }
        }
        if self.pause.after.is_none() {
            return Ok(SourceEvent::End);
        }
        // Nothing ends before the snapshot, so that there is something to go on with.
        if !self.waits {
            self.waits = true;
            self.pause.waiting.fetch_add(1, Ordering::SeqCst);
            self.pause.reached.notify_one();
        }
        std::future::pending().await
    }

    fn snapshot(&self) -> Result<Vec<SplitState>> {
        let state = |(split, next, _): &(usize, usize, _)| SplitState {
            split: split.to_string(),
            position: next.to_string(),
        };
        Ok(self.splits.iter().map(state).collect())
    }
}

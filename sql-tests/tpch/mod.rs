//! TPC-H as streaming queries: every table a stream of inserts, then one of inserts, updates and deletes; the table a
//! query leaves is that of batch over the rows that are left of its tables.
//!
//! ```text
//!  tpchgen ─► rows ─► history per row (insert, update, delete, again) in random order ─► changelog ─► streaming ─┐
//!                                      └ rows that are left ───────────────────────────► batch ──────────────────┴─► the same
//! ```
//!
//! | variable | what |
//! |---|---|
//! | `TIDELAKE_TPCH_SCALE` | the scale factor; 0.001 is a thousandth of the benchmark's smallest |
//! | `TIDELAKE_TPCH_QUERY` | a file with one query to run instead |

mod tables;

use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take;
use async_trait::async_trait;
use tidelake::catalog::{
    DEFAULT_CATALOG, DEFAULT_DATABASE, ExternalTable, ObjectPath, ResolvedTable, TableDef,
};
use tidelake::connectors::values::ValuesSource;
use tidelake::edges::{ConnectorEnv, Sink, Source};
use tidelake::session::{Session, SessionOptions};
use tidelake::sql::ast::{ColumnDef, ColumnKind, PrimaryKey};
use tidelake::stream::{ChangeBatch, RowKinds};
use tidelake::{Error, Location, Result};

use super::differential::random::Random;
use super::differential::run::{Rows, rows_of};
use super::differential::source::{Pause, PlayedSource};
use tables::Table;

/// Splits of a table's stream.
const SPLITS: usize = 4;
const BATCH_ROWS: usize = 1_000;
const INSERT: u8 = 0;
const UPDATE_BEFORE: u8 = 1;
const UPDATE_AFTER: u8 = 2;
const DELETE: u8 = 3;

/// A row of the stream: its kind, where its key comes from and where its other columns come from.
type Change = (u8, u32, u32);

/// The history of a table, and what is left of it.
#[derive(Debug)]
struct History {
    splits: Vec<Arc<Vec<ChangeBatch>>>,
    net: RecordBatch,
    append_only: bool,
}

impl History {
    fn random(table: &Table, updates: bool, r: &mut Random) -> History {
        let rows = table.rows.num_rows();
        let mut changes: Vec<Vec<(u64, Change)>> = vec![Vec::new(); SPLITS];
        let mut net: Vec<(u32, u32)> = Vec::new();
        for key in 0..rows as u32 {
            // Times of what happens to the row, in order.
            let mut times: Vec<u64> = (0..6).map(|_| r.next()).collect();
            times.sort_unstable();
            let history = &mut changes[r.below(SPLITS)];
            let mut now = Some(key);
            history.push((times[0], (INSERT, key, key)));
            for time in times.iter().skip(1).filter(|_| updates) {
                let other = r.below(rows) as u32;
                match now {
                    Some(old) if r.one_in(6) => {
                        history.push((*time, (UPDATE_BEFORE, key, old)));
                        history.push((*time, (UPDATE_AFTER, key, other)));
                        now = Some(other);
                    }
                    Some(old) if r.one_in(12) => {
                        history.push((*time, (DELETE, key, old)));
                        now = None;
                    }
                    None if r.one_in(2) => {
                        history.push((*time, (INSERT, key, other)));
                        now = Some(other);
                    }
                    _ => {}
                }
            }
            net.extend(now.map(|value| (key, value)));
        }
        let splits = changes.into_iter().map(|mut history| {
            history.sort_by_key(|(time, _)| *time);
            let changes: Vec<Change> = history.into_iter().map(|(_, change)| change).collect();
            Arc::new(batches(table, &changes))
        });
        History { splits: splits.collect(), net: rows_at(table, &net), append_only: !updates }
    }
}

fn batches(table: &Table, changes: &[Change]) -> Vec<ChangeBatch> {
    let mut found = Vec::new();
    let mut rest = changes;
    while !rest.is_empty() {
        let mut end = rest.len().min(BATCH_ROWS);
        // Halves of an update stay together.
        if end < rest.len() && rest[end].0 == UPDATE_AFTER {
            end += 1;
        }
        let (batch, after) = rest.split_at(end);
        rest = after;
        let places: Vec<(u32, u32)> = batch.iter().map(|(_, key, value)| (*key, *value)).collect();
        let kinds = RowKinds::new(batch.iter().map(|(kind, ..)| *kind).collect());
        found.push(ChangeBatch::with_kinds(rows_at(table, &places), kinds));
    }
    found
}

/// Rows with the key of one row and the other columns of another.
fn rows_at(table: &Table, places: &[(u32, u32)]) -> RecordBatch {
    let keys: UInt32Array = places.iter().map(|(key, _)| *key).collect();
    let values: UInt32Array = places.iter().map(|(_, value)| *value).collect();
    let columns = table.columns.iter().zip(table.rows.columns()).map(|((name, _), column)| {
        take(column, if table.key.contains(name) { &keys } else { &values }, None).expect("rows of the table")
    });
    RecordBatch::try_new(table.rows.schema(), columns.collect()).expect("the table's columns")
}

/// A table in the catalog of a session.
#[derive(Debug)]
struct Played(Arc<History>);

#[async_trait]
impl ExternalTable for Played {
    fn source(&self, _table: &ResolvedTable, env: &ConnectorEnv) -> Result<Arc<dyn Source>> {
        let schema = self.0.net.schema();
        if env.batch {
            return Ok(Arc::new(ValuesSource::new(schema, vec![self.0.net.clone()])));
        }
        Ok(Arc::new(PlayedSource {
            schema,
            splits: self.0.splits.clone(),
            append_only: self.0.append_only,
            pause: Pause::new(None),
        }))
    }

    fn sink(&self, _table: &ResolvedTable, _env: &ConnectorEnv) -> Result<Arc<dyn Sink>> {
        Err(Error::unsupported("nothing is written here"))
    }
}

fn definition(table: &Table, history: &Arc<History>) -> TableDef {
    let columns = table.columns.iter().map(|(name, ty)| ColumnDef {
        name: (*name).to_owned(),
        ty: Some(ty.clone()),
        kind: ColumnKind::Physical,
        comment: None,
    });
    TableDef {
        path: ObjectPath {
            catalog: DEFAULT_CATALOG.to_owned(),
            database: DEFAULT_DATABASE.to_owned(),
            object: table.name.to_owned(),
        },
        columns: columns.collect(),
        watermark: None,
        primary_key: Some(PrimaryKey {
            name: None,
            columns: table.key.iter().map(|k| (*k).to_owned()).collect(),
        }),
        partitioned_by: Vec::new(),
        comment: None,
        options: Default::default(),
        temporary: false,
        location: Location::default(),
        external: Some(Arc::new(Played(history.clone()))),
    }
}

async fn session(
    tables: &[(Table, Arc<History>)],
    mode: &str,
    parallelism: usize,
    memory: Option<&str>,
) -> Session {
    let mut config = vec![
        ("execution.runtime-mode".to_owned(), mode.to_owned()),
        ("parallelism.default".to_owned(), parallelism.to_string()),
        ("table.local-time-zone".to_owned(), "UTC".to_owned()),
    ];
    config.extend(memory.map(|size| ("taskmanager.memory.process.size".to_owned(), size.to_owned())));
    let session = Session::new(SessionOptions { config, ..SessionOptions::default() }).expect("a session");
    for (table, history) in tables {
        session.catalogs().create_table(definition(table, history), false).await.expect("a table");
    }
    session
}

/// How a run is done: with updates and deletes or not, parallelism, memory.
type Setting = (bool, usize, Option<&'static str>);

const SETTINGS: [Setting; 5] =
    [(false, 1, None), (true, 1, None), (true, 2, None), (true, 1, Some("200 kb")), (true, 4, Some("1 mb"))];

async fn compare(tables: &[(Table, Arc<History>)], setting: Setting) {
    let (_, parallelism, memory) = setting;
    let files: Vec<String> = match std::env::var("TIDELAKE_TPCH_QUERY") {
        Ok(file) => vec![file],
        Err(_) => (1..=22).map(|n| format!("{}/benches/tpch/q{n}.sql", env!("CARGO_MANIFEST_DIR"))).collect(),
    };
    let mut filled = 0;
    for file in &files {
        let sql = std::fs::read_to_string(file).expect("the query");
        let mut batch = session(tables, "batch", 1, None).await;
        let expected: Rows =
            rows_of(&mut batch, &sql).await.unwrap_or_else(|e| panic!("{file} in batch: {e}"));
        let mut stream = session(tables, "streaming", parallelism, memory).await;
        let got = rows_of(&mut stream, &sql).await.unwrap_or_else(|e| panic!("{file}, {setting:?}: {e}"));
        let lost: Vec<_> = expected.iter().filter(|(row, n)| got.get(*row) != Some(*n)).collect();
        let added: Vec<_> = got.iter().filter(|(row, n)| expected.get(*row) != Some(*n)).collect();
        assert!(
            lost.is_empty() && added.is_empty(),
            "{file}, {setting:?}: {} rows in batch\nonly in batch: {lost:#?}\nonly in streaming: {added:#?}",
            expected.len(),
        );
        filled += usize::from(!expected.is_empty());
    }
    // At this scale some conditions are met by no row.
    assert!(filled >= files.len() * 2 / 3, "only {filled} of {} queries gave rows", files.len());
}

#[test]
fn streaming_tpch_leaves_the_rows_of_batch() {
    let scale = std::env::var("TIDELAKE_TPCH_SCALE").ok().map_or(0.002, |s| s.parse().expect("a number"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .thread_stack_size(16 << 20)
        .build()
        .expect("a runtime");
    let work = async move {
        for setting in SETTINGS {
            let mut r = Random::new(22);
            let tables: Vec<(Table, Arc<History>)> = tables::generate(scale)
                .into_iter()
                .map(|table| {
                    let history = Arc::new(History::random(&table, setting.0, &mut r));
                    (table, history)
                })
                .collect();
            compare(&tables, setting).await;
        }
    };
    runtime.block_on(async { tokio::spawn(work).await.expect("every query gives the same in both modes") });
}

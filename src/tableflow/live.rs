//! Tables with the tails of their topics: what is committed, and what has come since.
//!
//! ```text
//!  table ─► head: its snapshot, and how far the topic is read for it
//!             │ snapshot                      │ offsets
//!             ▼                               ▼
//!  SELECT … FROM table OPTIONS('snapshot-id') UNION ALL SELECT … FROM topic from those offsets on
//! ```
//!
//! Tables by key are there in batch mode only ([`keyed_tail`](super::keyed_tail)).
//!
//! Both are of one commit, so that no row is missing and none comes twice: in batch mode up to the end that the topic has, as a
//! stream without an end. The views are in the catalog `live`, in the databases and under the names of the tables.

use std::collections::BTreeSet;

use super::config::{Layout, OnError, Route, RowMode, TableflowConfig};
use super::keyed_tail::Tail;
use super::layout::columns_of;
use super::registered::earlier_names;
use super::statements::quote_text;
use super::verify::at;
use super::{Topics, discover};
use crate::catalog::{CatalogObject, ObjectPath};
use crate::connectors::iceberg::{KeptPositions, kept_positions};
use crate::error::{Error, Result, ResultExt};
use crate::session::Session;
use crate::session::config::RuntimeMode;
use crate::sql::ast::ColumnKind;
use crate::sql::quote_ident;

/// The catalog of the views.
const LIVE: &str = "live";

/// Makes the views of the tables of some flows in a session, which goes on in their catalog. Gives what there is to be told of
/// tables that have none.
///
/// # Errors
/// Of Kafka and of the catalogs.
pub async fn live(session: &mut Session, flows: &[(TableflowConfig, Topics)]) -> Result<Vec<String>> {
    super::execute(session, &format!("CREATE CATALOG {LIVE} WITH ('type' = 'generic_in_memory')")).await?;
    super::execute(session, &format!("USE CATALOG {LIVE}")).await?;
    let (mut told, mut first, mut made) = (Vec::new(), None, BTreeSet::new());
    for (n, (config, topics)) in flows.iter().enumerate() {
        config.check()?;
        let lake = format!("{LIVE}_lake_{n}");
        super::execute(session, &config.create_catalog_named(&lake)).await?;
        let found = discover(session, config, topics).await?;
        for route in config.routes(&found)? {
            let view = (route.namespace.clone(), route.table.clone());
            if !made.insert(view) {
                return Err(Error::validation(format!(
                    "two flows have the table {}.{}",
                    route.namespace, route.table
                )));
            }
            let shown = route.to_string();
            match one(session, config, &lake, &route).await.context(|| shown.clone())? {
                None => {
                    first.get_or_insert(route.namespace);
                }
                Some(why) => told.push(format!("{shown} has no view: {why}")),
            }
        }
    }
    if let Some(namespace) = first {
        super::execute(session, &format!("USE {}", quote_ident(&namespace))).await?;
    }
    Ok(told)
}

/// The view of a table, or why there is none.
async fn one(
    session: &mut Session,
    config: &TableflowConfig,
    lake: &str,
    route: &Route,
) -> Result<Option<String>> {
    let Route { topic, namespace, table } = route;
    let path = ObjectPath { catalog: lake.to_owned(), database: namespace.clone(), object: table.clone() };
    let Some(CatalogObject::Table(def)) = session.catalogs().find(&path).await? else {
        return Ok(Some("the table is not there yet".to_owned()));
    };
    let config = config.of_table(&def.options);
    let is_batch = session.config().runtime_mode()? == RuntimeMode::Batch;
    let key = match config.mode {
        RowMode::Upsert(format) if is_batch => Some(format),
        _ if config.is_keyed() => {
            let when = if is_batch { "" } else { " in streaming mode" };
            return Ok(Some(format!(
                "its rows replace each other by key, and are read as they are committed{when}"
            )));
        }
        _ => None,
    };
    let base = std::env::current_dir()?;
    let kept = kept_positions("tableflow", &config.catalog, &base, namespace, table).await?;
    let Some(KeptPositions { now, head: Some(head), is_rolled_back: false, .. }) = kept else {
        return Ok(Some("it does not say how far its topic is read".to_owned()));
    };
    let now = now.values().map(at).collect::<Result<Vec<_>>>()?;
    if let Some(other) = now.iter().find(|a| a.topic != *topic) {
        return Ok(Some(format!("it follows the topic {}", other.topic)));
    }
    let mut bounds = config.bounds();
    bounds.remove("scan.bounded.mode");
    if !now.is_empty() {
        let offsets: Vec<String> =
            now.iter().map(|a| format!("partition:{},offset:{}", a.partition, a.offset)).collect();
        bounds.insert("scan.startup.mode".to_owned(), "specific-offsets".to_owned());
        bounds.insert("scan.startup.specific-offsets".to_owned(), offsets.join(";"));
    }
    if is_batch {
        bounds.insert("scan.bounded.mode".to_owned(), "latest-offset".to_owned());
    }
    // What goes elsewhere is no row of the table.
    let on_error = if config.on_error == OnError::DeadLetters { OnError::Rescue } else { config.on_error };
    let reading = TableflowConfig { on_error, ..config.clone() };
    let renamed = earlier_names(&config, topic).await?;
    let layout = Layout { columns: columns_of(&def, &config)?, renamed, ..Layout::default() };
    super::execute(session, &format!("CREATE DATABASE IF NOT EXISTS {LIVE}.{}", quote_ident(namespace)))
        .await?;
    super::execute(session, &format!("USE {LIVE}.{}", quote_ident(namespace))).await?;
    if let Some(format) = key {
        let (config, def) = (&config, &*def);
        let tail = Tail { config, format, route, def, lake, head, from: &now, layout };
        let view = tail.view(session).await?;
        super::execute(session, &format!("CREATE TEMPORARY VIEW {} AS\n{view}", quote_ident(table))).await?;
        return Ok(None);
    }
    let tail = format!("{table}$tail");
    super::execute(session, &reading.source_table(&tail, topic, &layout, &bounds)).await?;
    let own = layout.columns.iter().map(|c| c.name.clone());
    let of_source: BTreeSet<String> = own.chain(config.further_names()).collect();
    let (mut committed, mut come) = (Vec::new(), Vec::new());
    for column in def.columns.iter().filter(|c| matches!(c.kind, ColumnKind::Physical)) {
        let name = quote_ident(&column.name);
        let ty = column.ty.as_ref().ok_or_else(|| Error::internal("a column without a type"))?;
        committed.push(name.clone());
        come.push(match of_source.contains(&column.name) {
            true => format!("CAST({name} AS {ty}) AS {name}"),
            false => format!("CAST(NULL AS {ty}) AS {name}"),
        });
    }
    let filter = if config.on_error == OnError::DeadLetters { " WHERE _error IS NULL" } else { "" };
    let view = format!(
        "CREATE TEMPORARY VIEW {} AS\nSELECT {} FROM {lake}.{}.{} /*+ OPTIONS('snapshot-id' = {}) */\nUNION ALL\nSELECT {} FROM {}{filter}",
        quote_ident(table),
        committed.join(", "),
        quote_ident(namespace),
        quote_ident(table),
        quote_text(&head.to_string()),
        come.join(", "),
        quote_ident(&tail),
    );
    super::execute(session, &view).await?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use arrow::array::{AsArray, RecordBatch};
    use arrow::datatypes::Int64Type;
    use futures::StreamExt;
    use tempfile::TempDir;

    use super::super::config::tests::config;
    use super::super::{Deaf, run};
    use super::*;
    use crate::runtime::job::StopHandle;
    use crate::session::SessionOptions;

    async fn write(session: &mut Session, from: i64, to: i64) {
        let rows = format!(
            "INSERT INTO records SELECT CONCAT('{{\"id\":', CAST(n AS STRING), '}}') FROM (SELECT n FROM numbers WHERE n >= {from} AND n < {to})"
        );
        super::super::execute(session, &rows).await.unwrap();
    }

    fn ids(batches: &[RecordBatch]) -> Vec<i64> {
        let mut ids: Vec<i64> =
            batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        ids.sort_unstable();
        ids
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_committed_and_what_has_come_since_are_one_table() {
        let folder = TempDir::new().unwrap();
        let servers = format!("embedded://live-{}", std::process::id());
        let config = TableflowConfig {
            servers: servers.clone(),
            catalog: BTreeMap::from([
                ("catalog-type".to_owned(), "sql".to_owned()),
                ("warehouse".to_owned(), folder.path().display().to_string()),
            ]),
            once: true,
            ..config()
        };
        let mut writer = Session::new(SessionOptions {
            config: vec![("execution.runtime-mode".to_owned(), "batch".to_owned())],
            ..SessionOptions::default()
        })
        .unwrap();
        for sql in [
            "CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '300', 'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '299')".to_owned(),
            format!("CREATE TABLE records (v STRING) WITH ('connector' = 'kafka', 'topic' = 'numbers', 'properties.bootstrap.servers' = '{servers}', 'embedded.partitions' = '3', 'format' = 'raw')"),
        ] {
            super::super::execute(&mut writer, &sql).await.unwrap();
        }
        write(&mut writer, 0, 100).await;
        let topics = Topics::new(&["numbers".to_owned()]).unwrap();
        let failed = run(config.clone(), &topics, StopHandle::new(), Arc::new(Deaf)).await.unwrap();
        assert_eq!(failed, 0);
        write(&mut writer, 100, 150).await;
        for mode in ["batch", "streaming"] {
            let options = SessionOptions {
                config: vec![("execution.runtime-mode".to_owned(), mode.to_owned())],
                ..SessionOptions::default()
            };
            let mut session = Session::new(options).unwrap();
            let told = live(&mut session, &[(config.clone(), topics.clone())]).await.unwrap();
            assert!(told.is_empty(), "{told:?}");
            // Committed meanwhile: it is the tail all the same.
            if mode == "batch" {
                run(config.clone(), &topics, StopHandle::new(), Arc::new(Deaf)).await.unwrap();
            }
            let mut query = session.query("SELECT id, _offset FROM numbers").await.unwrap();
            let expected = if mode == "batch" { 150 } else { 200 };
            if mode == "streaming" {
                write(&mut writer, 150, 200).await;
            }
            let (mut rows, mut found) = (Vec::new(), 0);
            while found < expected {
                let Some(batch) = query.rows.next().await else { break };
                let batch = batch.unwrap().rows;
                found += batch.num_rows();
                rows.push(batch);
            }
            if mode == "batch" {
                assert!(query.rows.next().await.is_none());
            }
            query.job.stop_handle().cancel();
            assert_eq!(ids(&rows), (0..expected as i64).collect::<Vec<_>>(), "{mode}");
        }
    }
}

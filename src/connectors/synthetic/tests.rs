use std::collections::BTreeMap;

use crate::catalog::{ObjectPath, ResolvedTable, TableDef};
use crate::edges::{ConnectorEnv, ScanRequest, Source, SourceEvent, SourceReader};
use crate::error::Location;
use crate::sql::ast::{ColumnDef, ColumnKind};
use crate::types::LogicalType;

use super::lanes::Lanes;
use super::*;

/// A table of physical columns.
pub(crate) fn table(columns: &[(&str, LogicalType)], options: &[(&str, &str)]) -> ResolvedTable {
    let options: BTreeMap<String, String> =
        options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let def = TableDef {
        path: ObjectPath { catalog: "c".into(), database: "d".into(), object: "t".into() },
        columns: columns
            .iter()
            .map(|(name, ty)| ColumnDef {
                name: (*name).to_owned(),
                ty: Some(ty.clone()),
                kind: ColumnKind::Physical,
                comment: None,
            })
            .collect(),
        watermark: None,
        primary_key: None,
        partitioned_by: Vec::new(),
        comment: None,
        options,
        temporary: false,
        location: Location { line: 1, column: 1 },
        external: None,
    };
    ResolvedTable::new(Arc::new(def), &BTreeMap::new()).unwrap()
}

/// Surroundings for factories.
pub(crate) fn env() -> ConnectorEnv {
    ConnectorEnv {
        config: Arc::default(),
        time_zone: chrono_tz::UTC,
        batch: false,
        base_dir: std::path::PathBuf::new(),
        notices: crate::edges::Notices::default(),
    }
}

/// What the readers give, at most `most` batches each.
pub(crate) async fn drain(readers: &mut [Box<dyn SourceReader>], most: usize) -> Vec<RecordBatch> {
    let mut all = Vec::new();
    for reader in readers {
        let mut batches = 0;
        while batches < most {
            match reader.next().await.unwrap() {
                SourceEvent::Batch { batch, .. } => {
                    all.push(batch.rows);
                    batches += 1;
                }
                SourceEvent::End => break,
                _ => {}
            }
        }
    }
    all
}

/// Rows of all batches as sorted texts.
pub(crate) fn sorted_rows(batches: &[RecordBatch]) -> Vec<String> {
    use crate::text::{Column, Style};
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<Column> =
            batch.columns().iter().map(|c| Column::new(c, Style::Java, chrono_tz::UTC).unwrap()).collect();
        for i in 0..batch.num_rows() {
            let mut row = String::new();
            for column in &columns {
                column.write(i, &mut row).unwrap();
                row.push('|');
            }
            rows.push(row);
        }
    }
    rows.sort();
    rows
}

/// Reads a bounded source to its end; after `cut` batches of each reader it goes on from a snapshot at `then` readers.
pub(crate) async fn read_all(
    source: &dyn Source,
    parallelism: usize,
    cut: usize,
    then: usize,
) -> Vec<RecordBatch> {
    let scan = || ScanRequest { batch_rows: 1000, ..ScanRequest::default() };
    let mut readers = source.readers(scan(), parallelism, None).await.unwrap();
    let mut all = drain(&mut readers, cut).await;
    let splits = readers.iter().flat_map(|r| r.snapshot().unwrap()).collect();
    drop(readers);
    let mut readers = source.readers(scan(), then, Some(splits)).await.unwrap();
    all.extend(drain(&mut readers, usize::MAX).await);
    all
}

fn numbers(mut lanes: Vec<Lanes>, end: u64, most: usize) -> (Vec<u64>, Vec<Lane>) {
    let mut found = Vec::new();
    for reader in &mut lanes {
        for _ in 0..most {
            let Some(range) = reader.peek(3, end) else { break };
            reader.advance(range.end);
            found.extend(range);
        }
    }
    (found, lanes.iter().flat_map(Lanes::iter).cloned().collect())
}

#[test]
fn every_number_is_dealt_once_whatever_the_parallelism_before_and_after() {
    for before in [1, 2, 3, 7] {
        for after in [1, 2, 4, 9] {
            for cut in [0, 1, 2, 5, 50] {
                let (mut found, state) = numbers(Lanes::deal(8, before), 501, cut);
                let (rest, _) = numbers(Lanes::redeal(state, after), 501, usize::MAX);
                found.extend(rest);
                found.sort_unstable();
                assert_eq!(found, (0..501).collect::<Vec<_>>(), "{before} -> {after} after {cut}");
            }
        }
    }
}

#[test]
fn a_reader_makes_its_numbers_in_order() {
    let (_, state) = numbers(Lanes::deal(8, 5), 501, 3);
    for reader in Lanes::redeal(state, 2) {
        let (found, _) = numbers(vec![reader], 501, usize::MAX);
        assert!(found.is_sorted());
    }
}

#[test]
fn times_of_options() {
    assert_eq!(parse_time("1500"), Some(1500));
    assert_eq!(parse_time("1970-01-02"), Some(86_400_000));
    assert_eq!(parse_time("1970-01-01 00:00:01.5"), Some(1500));
    assert_eq!(parse_time("1970-01-01T00:00:01"), Some(1000));
    assert_eq!(parse_time("yesterday"), None);
}

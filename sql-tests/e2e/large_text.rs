//! Texts of 1 MB: more of them than a column can hold or memory allows go from format to format, grow and come back.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::e2e::support::{Place, Ran};

/// As many texts as have more than 2^31 bytes together.
const ROWS: usize = 2_200;
const LENGTH: usize = 1_000_000;

/// Beyond `--memory 1gb`: what is on its way, code, caches of libraries.
const MOST_MEMORY: u64 = (1 << 30) + (300 << 20);

/// JSON lines; the text of a line is one letter, again and again.
fn write_lines(path: &Path) {
    let mut out = zstd::stream::write::Encoder::new(File::create(path).unwrap(), 1).unwrap().auto_finish();
    for id in 0..ROWS {
        let letter = [b"abcdefghijklmnopqrstuvwxyz"[id % 26]];
        write!(out, r#"{{"id":{id},"s":""#).unwrap();
        out.write_all(&letter.repeat(LENGTH)).unwrap();
        out.write_all(b"\"}\n").unwrap();
    }
}

fn tables(place: &Place) -> String {
    format!(
        "CREATE TABLE lines (id INT, s STRING) WITH (
           'connector' = 'filesystem', 'path' = '{}', 'format' = 'json');
         CREATE TABLE files (id INT, s STRING) WITH (
           'connector' = 'filesystem', 'path' = '{}', 'format' = 'parquet');
         CREATE CATALOG lake WITH ('type' = 'iceberg', 'catalog-type' = 'sql', 'warehouse' = '{}');
         CREATE DATABASE IF NOT EXISTS lake.db;
         CREATE TABLE IF NOT EXISTS lake.db.texts (id INT, s STRING);",
        place.path("lines.json.zst"),
        place.path("files"),
        place.path("lake")
    )
}

/// What is known of all texts of a table, and of three times each of some.
fn questions(table: &str) -> String {
    format!(
        "SELECT COUNT(*) AS n, SUM(CAST(CHAR_LENGTH(s) AS BIGINT)) AS l, MAX(CHAR_LENGTH(s)) AS m,
           COUNT(DISTINCT LEFT(s, 1)) AS d FROM {table};
         SELECT COUNT(*) AS n, SUM(CAST(CHAR_LENGTH(t) AS BIGINT)) AS l, MAX(RIGHT(t, 2)) AS m
           FROM (SELECT s || s || s AS t FROM {table} WHERE id < 900);"
    )
}

fn answers() -> [Value; 2] {
    [
        json!({"n": ROWS, "l": ROWS * LENGTH, "m": LENGTH, "d": 26}),
        json!({"n": 900, "l": 2_700_000_000_u64, "m": "zz"}),
    ]
}

fn run(place: &Place, mode: &str, sql: &str) -> Ran {
    let script = format!("{}\nSET 'execution.runtime-mode' = '{mode}';\n{sql}", tables(place));
    let args = ["--memory", "1gb", "--format", "json", "--result-mode", "final"];
    let ran = place.run(&script, &args).ok();
    if let Some(peak) = ran.peak_memory {
        assert!(peak < MOST_MEMORY, "{mode}: {} MB of memory", peak >> 20);
    }
    ran
}

#[test]
fn more_text_than_a_column_can_hold_goes_through_every_format() {
    let place = Place::new();
    write_lines(Path::new(&place.path("lines.json.zst")));
    let written =
        run(&place, "batch", &format!("INSERT INTO files SELECT * FROM lines;\n{}", questions("files")));
    assert_eq!(written.rows(), answers());
    let lake = format!("INSERT INTO lake.db.texts SELECT * FROM files;\n{}", questions("lake.db.texts"));
    let written = run(&place, "streaming", &lake);
    assert_eq!(written.rows(), answers());
    assert_eq!(run(&place, "streaming", &questions("files")).rows(), answers());
    assert_eq!(run(&place, "batch", &questions("lake.db.texts")).rows(), answers());
}

/// What is joined, collected and shown is bounded as well: rows of 1 MB, each of them as often as there are partners.
#[test]
fn results_and_joins_of_large_texts_hold_to_the_limit() {
    let place = Place::new();
    let rows = 300;
    let sql = format!(
        "CREATE TABLE n (id INT) WITH ('connector' = 'datagen', 'number-of-rows' = '{rows}', 'rows-per-second' = '1000000',
           'fields.id.kind' = 'sequence', 'fields.id.start' = '0', 'fields.id.end' = '{}');
         CREATE VIEW texts AS SELECT id, LPAD(CAST(id AS STRING), 1000000, 'x') AS s FROM n;
         CREATE TABLE nothing (id INT, s STRING, t STRING) WITH ('connector' = 'blackhole');
         INSERT INTO nothing SELECT a.id, a.s, b.s FROM texts AS a JOIN texts AS b ON a.id = b.id;
         SELECT COUNT(*) AS n, SUM(CAST(CHAR_LENGTH(a.s || b.s) AS BIGINT)) AS l
           FROM texts AS a JOIN texts AS b ON a.id / 10 = b.id / 10;
         SELECT s FROM texts WHERE id < 100;",
        rows - 1
    );
    for mode in ["batch", "streaming"] {
        let mode = format!("execution.runtime-mode={mode}");
        let ran = place
            .run(&sql, &["--memory", "1gb", "--format", "csv", "--result-mode", "final", "-s", &mode])
            .ok();
        let lines: Vec<&str> = ran.stdout.lines().collect();
        assert_eq!(lines[..2], ["n,l", "3000,6000000000"], "{mode}");
        assert_eq!((lines.len(), lines[3].len()), (103, 1_000_000), "{mode}");
        if let Some(peak) = ran.peak_memory {
            assert!(peak < MOST_MEMORY, "{mode}: {} MB of memory", peak >> 20);
        }
    }
}

#[test]
fn a_text_beyond_2_gb_is_an_error_of_its_function() {
    for mode in ["batch", "streaming"] {
        for (call, needles) in [
            (
                "REPEAT('ab', 2147483647)",
                ["REPEAT: the result would have 4 GB", "at most 2 GB; make it shorter"],
            ),
            ("RPAD(a, 2147483647, 'é')", ["RPAD: the result would have 4 GB", "at most 2 GB"]),
            ("LPAD(a, 2147483647, 'é')", ["LPAD: the result would have 4 GB", "at most 2 GB"]),
            ("PRINTF('%2147483648s', a)", ["PRINTF", "2 GB"]),
            (
                "REPLACE(REPEAT(a, 100000), 'a', REPEAT('b', 100000))",
                ["REPLACE: the result would have", "2 GB"],
            ),
        ] {
            let sql = format!(
                "SET 'execution.runtime-mode' = '{mode}';
                 SELECT CHAR_LENGTH({call}) FROM (VALUES ('a'), ('aa')) AS t(a);"
            );
            Place::new().run(&sql, &[]).fails_with(&needles);
        }
    }
}

use super::*;
use sqllogictest::QueryExpect;

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn files_are_found_sorted_and_filtered() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["b.slt", "a/x.slt", "a/y.txt"] {
        write(dir.path(), name, "");
    }
    let mut options = TestOptions::new([dir.path(), &dir.path().join("b.slt")]);
    let names = |options: &TestOptions| -> Vec<String> {
        let found = find(options).unwrap();
        found.iter().map(|f| f.strip_prefix(dir.path()).unwrap().display().to_string()).collect()
    };
    assert_eq!(names(&options), ["a/x.slt", "b.slt"]);
    // The whole path is searched, the name of the temporary folder included: what is asked for cannot stand in it.
    options.filter = Some("a/x.".into());
    assert_eq!(names(&options), ["a/x.slt"]);
    let missing = find(&TestOptions::new(["/does/not/exist"])).unwrap_err();
    assert!(missing.to_string().contains("/does/not/exist"), "{missing}");
}

#[test]
fn runs_and_their_settings() {
    let mut options = TestOptions::new(["x"]);
    options.parallelism = vec![1, 4];
    options.config = vec![("table.local-time-zone".into(), "Asia/Tokyo".into())];
    let runs = Run::all(&options);
    assert_eq!(
        runs.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["batch", "streaming", "streaming, parallelism 4"]
    );
    assert_eq!(runs.iter().map(Run::compares_changelogs).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!((&runs[1].parallelism, &runs[2].parallelism), (&vec![1], &vec![4]));
    let config = runs[2].config(&options);
    let last = |key: &str| config.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
    assert_eq!(last("table.local-time-zone"), Some("Asia/Tokyo"));
    assert_eq!(last("execution.runtime-mode"), Some("streaming"));
    assert_eq!(last("parallelism.default"), Some("4"));
    options.mode = Mode::Streaming;
    options.bundle_size = Some(1);
    assert_eq!(Run::all(&options)[0].to_string(), "streaming, bundles of 1");
    options.bundle_size = None;
    options.restore_every = vec![1, 7];
    options.memory = Some("1 kb".into());
    let runs = Run::all(&options);
    assert_eq!(
        runs.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "streaming, parallelism 1 → 4, batches of 2, restored after every 1, memory 1 kb",
            "streaming, parallelism 1 → 4, batches of 2, restored after every 7, memory 1 kb"
        ]
    );
    assert!(!runs.iter().any(Run::compares_changelogs));
    assert!(runs[0].config(&options).iter().any(|(_, v)| v == "1 kb"));
}

#[test]
fn bad_files_say_where() {
    let dir = tempfile::tempdir().unwrap();
    let hashed = write(dir.path(), "h.slt", "\nhash-threshold 8\n");
    let (line, message) = parse(&hashed).unwrap_err();
    assert_eq!(line, 2);
    assert!(message.contains("hash-threshold is not supported"));
    let (line, _) = parse(&write(dir.path(), "w.slt", "statement maybe\nSELECT 1\n")).unwrap_err();
    assert_eq!(line, 1);
    let latin = dir.path().join("l.slt");
    std::fs::write(&latin, b"# \xff").unwrap();
    assert!(parse(&latin).unwrap_err().1.contains("cannot be read"));
}

#[test]
fn changelog_queries_are_told_by_their_label() {
    let dir = tempfile::tempdir().unwrap();
    let text = "query T nosort changelog\nSELECT 1\n----\n+I[1]\n\nquery T nosort other\nSELECT 1\n----\n1\n\nquery I\nSELECT 1\n----\n1\n";
    let records = parse(&write(dir.path(), "c.slt", text)).unwrap();
    let changelogs: Vec<bool> =
        records.iter().filter(|r| matches!(r, Record::Query { .. })).map(is_changelog).collect();
    assert_eq!(changelogs, [true, false, false]);
}

#[test]
fn the_summary_counts() {
    let mut report = TestReport { files: 1, queries: 1234, statements: 2, ..TestReport::default() };
    assert_eq!(report.to_string(), "1 file, 1,234 queries, 0 failures");
    let (file, run) = ("a.slt".to_owned(), "batch".to_owned());
    report.add(TestReport {
        files: 1,
        failures: vec![TestFailure { file, line: 7, run, message: "wrong\n".into() }],
        ..TestReport::default()
    });
    assert_eq!(report.to_string(), "2 files, 1,234 queries, 1 failure");
    assert_eq!(report.failures[0].to_string(), "a.slt:7 (batch): wrong");
    let report = TestReport { restores: 1, spilled: 2, ..TestReport::default() };
    assert_eq!(report.to_string(), "0 files, 0 queries, 0 failures, 1 restore, 2 jobs with state on disk");
}

#[test]
fn changelogs_leave_rows() {
    let dir = tempfile::tempdir().unwrap();
    let text = "query T nosort changelog\nSELECT 1\n----\n+I[2]\n+I[1]\n-U[1]\n+U[3]\n+I[2]\n-D[3]\n";
    let records = parse(&write(dir.path(), "c.slt", text)).unwrap();
    let left = with_rows_left(records[0].clone());
    let Record::Query { expected: QueryExpect::Results { results, sort_mode, .. }, .. } = left else {
        panic!("a query")
    };
    assert_eq!((results, sort_mode), (vec!["[2]".to_owned(), "[2]".to_owned()], Some(SortMode::RowSort)));
}

const RESTORED: &str = "statement ok
CREATE TABLE g (a INT, b AS a / 2) WITH ('connector' = 'datagen', 'rows-per-second' = '100000', 'fields.a.kind' = 'sequence', 'fields.a.start' = '1', 'fields.a.end' = '40')

query II
SELECT b, COUNT(*) FROM g WHERE a < 5 GROUP BY b
----
0 1
1 2
2 1

query T nosort changelog
SELECT COUNT(*) FROM g
----
+I[1]
-U[1]
+U[40]

statement ok
SET 'parallelism.default' = '3'

query IIT
SELECT l.b, COUNT(*), SUM(r.b) FROM g l JOIN g r ON l.b = r.b WHERE l.a < 4 GROUP BY l.b
----
0 1 0
1 4 4
";

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_restored_and_state_rests_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "r.slt", RESTORED);
    let mut options = TestOptions::new([&path]);
    options.mode = Mode::Streaming;
    options.parallelism = vec![1, 3, 2];
    options.restore_every = vec![1, 3];
    options.memory = Some("1".into());
    options.config = vec![("io.tmp.dirs".into(), dir.path().display().to_string())];
    let report = run(options).await.unwrap();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert_eq!(report.queries, 6);
    assert!(report.restores > 12 && report.spilled > 12, "{report}");
}

const MIXED: &str = "# about counting
statement ok
CREATE TABLE g (a INT) WITH ('connector' = 'datagen', 'rows-per-second' = '100000', 'fields.a.kind' = 'sequence', 'fields.a.start' = '1', 'fields.a.end' = '3')

query I
SELECT a FROM g
----
3
1

statement error nope
SELECT nope FROM g

onlyif streaming
query T nosort changelog
SELECT a FROM g WHERE a > 1

query TT
SELECT CAST(NULL AS STRING), CAST('' AS STRING)

query I
SELECT missing FROM g
----
7

skipif batch
skipif streaming
query I
SELECT 1
----
2
";

#[tokio::test(flavor = "multi_thread")]
async fn a_file_runs_in_both_modes_and_can_be_updated() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "m.slt", MIXED);
    let mut options = TestOptions::new([&path]);
    options.parallelism = vec![1, 2];
    let report = run(options.clone()).await.unwrap();
    // In each of three runs: the wrong rows, the missing ones, and the column that is not there; in two the changelog.
    assert_eq!((report.files, report.queries, report.failures.len()), (1, 11, 11), "{:?}", report.failures);
    assert!(report.failures[0].to_string().contains("m.slt:5 (batch)"), "{}", report.failures[0]);
    assert!(
        report.failures.iter().any(|f| f.run == "streaming, parallelism 2" && f.message.contains("+   1"))
    );

    options.update = true;
    let report = run(options.clone()).await.unwrap();
    assert_eq!(report.failures.len(), 3, "only what fails is left: {:?}", report.failures);
    let updated = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        updated,
        MIXED
            .replace("3\n1\n\n", "1\n2\n3\n\n")
            .replace("a > 1\n", "a > 1\n----\n+I[2]\n+I[3]\n")
            .replace("AS STRING)\n\n", "AS STRING)\n----\nNULL (empty)\n\n")
    );
}

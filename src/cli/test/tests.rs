use super::*;

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
    options.filter = Some("a/".into());
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
    let config = runs[2].config(&options);
    let last = |key: &str| config.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
    assert_eq!(last("table.local-time-zone"), Some("Asia/Tokyo"));
    assert_eq!(last("execution.runtime-mode"), Some("streaming"));
    assert_eq!(last("parallelism.default"), Some("4"));
    options.mode = Mode::Streaming;
    options.bundle_size = Some(1);
    assert_eq!(Run::all(&options)[0].to_string(), "streaming, bundles of 1");
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
    let mut report = TestReport { files: 1, queries: 1234, statements: 2, failures: vec![] };
    assert_eq!(report.to_string(), "1 file, 1,234 queries, 0 failures");
    let (file, run) = ("a.slt".to_owned(), "batch".to_owned());
    report.add(TestReport {
        files: 1,
        failures: vec![TestFailure { file, line: 7, run, message: "wrong\n".into() }],
        ..TestReport::default()
    });
    assert_eq!(report.to_string(), "2 files, 1,234 queries, 1 failure");
    assert_eq!(report.failures[0].to_string(), "a.slt:7 (batch): wrong");
}

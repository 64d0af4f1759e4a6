//! What is wrong gives one clear error and exit code 1: no panic, and no file that a reader would take for whole.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::support::{Place, Ran, finish, root, service, tidelake, unique, visible_files};

fn csv(name: &str, columns: &str, path: &str) -> String {
    format!(
        "CREATE TABLE {name} ({columns}) WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = 'csv');\n"
    )
}

fn json(name: &str, columns: &str, path: &str) -> String {
    format!(
        "CREATE TABLE {name} ({columns}) WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = 'json');\n"
    )
}

#[test]
fn malformed_json_names_file_and_line() {
    let place = Place::new();
    let path = place.write("orders.json", "{\"id\": 1}\n{\"id\": 2}\n{\"id\": 3,,}\n{\"id\": 4}\n");
    for mode in ["batch", "streaming"] {
        let sql = format!("{}SELECT SUM(id) FROM t;\n", json("t", "id INT", &path));
        place
            .run(&sql, &["-s", &format!("execution.runtime-mode={mode}")])
            .fails_with(&["orders.json", "line 3|:3"]);
    }
}

#[test]
fn malformed_csv_names_file_line_and_column() {
    let place = Place::new();
    let path = place.write("orders.csv", "1,10\n2,20\n3,thirty\n");
    let sql = format!("{}SELECT SUM(amount) FROM t;\n", csv("t", "id INT, amount INT", &path));
    place.run(&sql, &[]).fails_with(&["orders.csv", "line 3|:3", "amount", "thirty"]);
}

#[test]
fn truncated_and_foreign_parquet_name_the_file() {
    let place = Place::new();
    let whole = fs::read(root().join("data/flights.parquet")).unwrap();
    place.write("short/flights.parquet", &whole[..whole.len() / 2]);
    place.write("other/flights.parquet", "this is no Parquet file, only text that is long enough");
    place.write("empty/flights.parquet", "");
    // The middle of the file is damaged, its footer is not.
    let mut damaged = whole;
    let middle = damaged.len() / 2;
    damaged[middle..middle + 4096].fill(0xA5);
    place.write("damaged/flights.parquet", damaged);
    for which in ["short", "other", "empty", "damaged"] {
        let sql = format!(
            "CREATE TABLE t (carrier STRING, tailnum STRING, dest STRING, dep_time INT, arr_time INT, arr_delay INT, air_time INT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'parquet');\n\
             SELECT MAX(carrier), MAX(tailnum), MAX(dest), MAX(dep_time), MAX(arr_time), MAX(arr_delay), MAX(air_time) FROM t;\n",
            place.path(which)
        );
        place.run(&sql, &[]).fails_with(&["flights.parquet"]);
    }
}

/// Some decoders of damaged pages panic and some find no rows: both gave an answer as if the file ended there.
#[test]
fn a_page_that_cannot_be_read_is_an_error_with_its_place() {
    use parquet::file::reader::FileReader;
    use parquet::file::serialized_reader::SerializedFileReader;
    let place = Place::new();
    let table = |path: &str| {
        format!(
            "CREATE TABLE t (id INT, name STRING) WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = 'parquet', \
             'parquet.compression' = 'UNCOMPRESSED', 'parquet.enable.dictionary' = 'false', 'parquet.page.size' = '4000');\n"
        )
    };
    let rows = "CREATE TABLE g (id INT, name STRING) WITH ('connector' = 'datagen', 'number-of-rows' = '5000', 'rows-per-second' = '1000000');\n";
    place.run(&format!("{}{rows}INSERT INTO t SELECT * FROM g;\n", table(&place.path("whole"))), &[]).ok();
    let whole = place.visible_files("whole").remove(0);
    let metadata = SerializedFileReader::new(fs::File::open(&whole).unwrap()).unwrap().metadata().clone();
    let first_page = |column: usize| metadata.row_group(0).column(column).data_page_offset() as usize;
    let bytes = fs::read(&whole).unwrap();
    // The header of the first page of `name` says that it is one of version 2, whose header it does not have.
    let mut other = bytes.clone();
    assert_eq!(other[first_page(1)..][..2], [0x15, 0x00], "the type of a page comes first");
    other[first_page(1) + 1] = 0x06;
    // Another page of it says that it is longer than anything.
    let mut longer = bytes.clone();
    let middle = (first_page(1) + bytes.len()) / 2;
    longer[middle..middle + 3000].fill(0xFF);
    for (name, damaged, places) in [
        ("other", other, &["row group 0", "column `name`, page 0"][..]),
        ("longer", longer, &["row group 0", "column `name`, page "]),
    ] {
        let path = place.write(&format!("{name}/part.parquet"), damaged);
        for mode in ["batch", "streaming"] {
            let sql = format!("{}SELECT COUNT(*), MAX(id), MAX(name) FROM t;\n", table(&path));
            let ran = place.run(&sql, &["-s", &format!("execution.runtime-mode={mode}"), "--format", "json"]);
            ran.fails_with(&[&["part.parquet"], places].concat());
            assert_eq!(ran.stdout, "", "{name} {mode}");
        }
    }
}

#[test]
fn what_was_ignored_is_counted_as_what_it_is() {
    let place = Place::new();
    let ignoring = |table: String, format: &str| {
        table.replace("'format' =", &format!("'{format}.ignore-parse-errors' = 'true', 'format' ="))
    };
    // Two bad fields in one record, and none that is no record at all.
    let path = place.write("x.csv", "1,10\na,b\n3,30\n");
    let sql = ignoring(csv("t", "id INT, amount INT", &path), "csv");
    let ran = place
        .run(&format!("{sql}SELECT COUNT(id) AS n, SUM(amount) AS s FROM t;\n"), &["--format", "json"])
        .ok();
    assert_eq!(
        (ran.stdout.as_str(), ran.stderr.trim()),
        ("{\"n\":2,\"s\":40}\n", "2 bad fields read as NULL")
    );
    let path = place.write("x.json", "{\"id\": 1}\nno json\n{\"id\": \"x\"}\n");
    let sql = ignoring(json("t", "id INT", &path), "json");
    let ran = place
        .run(&format!("{sql}SELECT COUNT(*) AS n FROM t WHERE id IS NULL;\n"), &["--format", "json"])
        .ok();
    assert_eq!(
        (ran.stdout.as_str(), ran.stderr.trim()),
        ("{\"n\":1}\n", "1 bad record skipped, 1 bad field read as NULL")
    );
}

#[test]
fn a_missing_file_is_named() {
    let place = Place::new();
    let sql = format!("{}SELECT * FROM t;\n", csv("t", "id INT", &place.path("nothing-here.csv")));
    place.run(&sql, &[]).fails_with(&["nothing-here.csv"]);
    place.run("", &[]).ok();
    let mut c = tidelake();
    c.args(["run", "no-such-script.sql"]);
    finish(c, Duration::from_secs(20)).fails_with(&["no-such-script.sql"]);
}

#[test]
fn errors_point_at_their_place_in_the_script() {
    let place = Place::new();
    let ran = place.run("-- a comment\nSELECT 1;\n\nSELECT 1 +\n  nope;\n", &[]);
    ran.fails_with(&["script.sql:5:3", "nope"]);
    assert!(ran.stdout.contains('1'), "the statement before it has run\n{}", ran.stdout);
    place.run("SELEC 1;\n", &[]).fails_with(&["script.sql:1:1"]);
    place.run("SELECT * FROM a WHERE;\n", &[]).fails_with(&["script.sql:1:"]);
}

#[test]
fn unknown_options_are_refused_and_the_known_ones_listed() {
    let place = Place::new();
    let path = place.write("a.csv", "1\n");
    let table = |options: &str| {
        format!(
            "CREATE TABLE t (id INT) WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = 'csv'{options});\nSELECT * FROM t;\n"
        )
    };
    place.run(&table(""), &[]).ok();
    place
        .run(&table(", 'csv.feild-delimiter' = ';'"), &[])
        .fails_with(&["csv.feild-delimiter", "csv.field-delimiter"]);
    place.run(&table(", 'parallelism' = '3'"), &[]).fails_with(&["'parallelism'|: parallelism"]);
    place.run(&table(", 'csv.ignore-parse-errors' = 'perhaps'"), &[]).fails_with(&[
        "csv.ignore-parse-errors",
        "perhaps",
        "true",
    ]);
}

#[test]
fn a_type_clash_names_the_column() {
    let place = Place::new();
    let sink = csv("sink", "id INT, name STRING", &place.path("out"));
    place.run(&format!("{sink}INSERT INTO sink SELECT 'x', 'y';\n"), &[]).fails_with(&["id"]);
    place.run(&format!("{sink}INSERT INTO sink SELECT 1;\n"), &[]).fails_with(&["column"]);
    place.run("SELECT 1 + TRUE;\n", &[]).fails_with(&["script.sql:1:", "boolean"]);
    assert!(place.visible_files("out").is_empty());
}

#[test]
fn a_broker_that_is_down_is_an_error_and_no_hang() {
    let place = Place::new();
    let table = "CREATE TABLE t (id INT) WITH ('connector' = 'kafka', 'topic' = 'orders', 'properties.bootstrap.servers' = '127.0.0.1:1', \
                 'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset', 'format' = 'json');\n";
    place.run(&format!("{table}SELECT * FROM t;\n"), &[]).fails_with(&["127.0.0.1:1"]);
    place.run(&format!("{table}INSERT INTO t VALUES (1);\n"), &[]).fails_with(&["127.0.0.1:1"]);
}

#[test]
fn a_topic_that_does_not_exist_is_named() {
    let place = Place::new();
    // Reading makes a topic on the embedded broker of the same process, so another process has to be asked.
    let (broker, mut process) =
        match service("TIDELAKE_TEST_KAFKA", "the test of a missing topic asks `tidelake broker`") {
            Some(broker) => (broker, None),
            None => {
                let mut child =
                    tidelake().arg("broker").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
                let mut address = String::new();
                BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
                (address.trim().to_owned(), Some(child))
            }
        };
    let sql = format!(
        "CREATE TABLE t (id INT) WITH ('connector' = 'kafka', 'topic' = 'no-such-topic', 'properties.bootstrap.servers' = '{broker}', \
         'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset', 'format' = 'json');\nSELECT * FROM t;\n"
    );
    let ran = place.run(&sql, &[]);
    if let Some(child) = &mut process {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    ran.fails_with(&["no-such-topic"]);
}

#[test]
fn a_bad_record_in_a_topic_is_named_by_partition_and_offset() {
    let place = Place::new();
    let topic = format!("bad_{}", unique());
    let options = format!(
        "'connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = 'embedded', 'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset'"
    );
    let sql = format!(
        "CREATE TABLE lines (line STRING) WITH ({options}, 'format' = 'raw');\n\
         CREATE TABLE orders (id INT) WITH ({options}, 'format' = 'json');\n\
         INSERT INTO lines VALUES ('{{\"id\": 1}}'), ('no json');\n\
         SELECT SUM(id) FROM orders;\n"
    );
    place.run(&sql, &[]).fails_with(&[&topic, "partition", "offset"]);
    let ignoring = sql.replace("'format' = 'json'", "'format' = 'json', 'json.ignore-parse-errors' = 'true'");
    let ran = place.run(&ignoring, &["--format", "json", "--result-mode", "final"]).ok();
    assert!(ran.stdout.trim_end().ends_with(":1}"), "{}", ran.stdout);
}

#[test]
fn a_failed_insert_leaves_no_visible_file() {
    let place = Place::new();
    let mut lines = String::new();
    for i in 0..200_000 {
        writeln!(lines, "{i},{}", if i == 199_000 { "bad" } else { "7" }).unwrap();
    }
    let input = place.write("in.csv", lines);
    for (mode, format) in [
        ("batch", "csv"),
        ("streaming", "csv"),
        ("batch", "json"),
        ("batch", "parquet"),
        ("streaming", "parquet"),
    ] {
        let out = place.path(&format!("out-{mode}-{format}"));
        let sql = format!(
            "{}CREATE TABLE sink (id INT, n INT) WITH ('connector' = 'filesystem', 'path' = '{out}', 'format' = '{format}');\nINSERT INTO sink SELECT id, n FROM source;\n",
            csv("source", "id INT, n INT", &input)
        );
        place.run(&sql, &["-s", &format!("execution.runtime-mode={mode}")]).fails_with(&["in.csv", "199001"]);
        let left = place.visible_files(&format!("out-{mode}-{format}"));
        assert!(left.is_empty(), "{mode} {format} left {left:?}");
    }
}

/// Runs a script with `out` as a file system of so many KiB in a mount namespace of its own, and lists what is left on it
/// before it goes (`left: PATH` on standard output). Without the right to mount, files cannot grow past 64 KiB instead.
fn on_a_small_disk(out: &str, kib: u32, script: &str, args: &str) -> (Ran, bool) {
    let tidelake = env!("CARGO_BIN_EXE_tidelake");
    let mounts = format!("mount -t tmpfs -o size={kib}k tmpfs '{out}'");
    let namespaces = Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-c", &mounts])
        .status()
        .is_ok_and(|s| s.success());
    let line = if namespaces {
        format!(
            "{mounts} || exit 99\n'{tidelake}' run '{script}' {args}; code=$?\nfind '{out}' -type f | sed 's/^/left: /'\nexit $code"
        )
    } else {
        format!("trap '' XFSZ; ulimit -f 64; exec '{tidelake}' run '{script}' {args}")
    };
    let mut c = Command::new(if namespaces { "unshare" } else { "bash" });
    if namespaces {
        c.args(["--mount", "--map-root-user", "sh", "-c", &line]);
    } else {
        c.args(["-c", &line]);
    }
    c.current_dir(root());
    (finish(c, Duration::from_secs(120)), namespaces)
}

#[test]
fn a_full_disk_is_an_error_and_leaves_no_visible_file() {
    let place = Place::new();
    let out = place.path("disk");
    fs::create_dir(&out).unwrap();
    let script = place.write(
        "full.sql",
        format!(
            "CREATE TABLE flights (carrier STRING, flight INT, tailnum STRING) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'parquet');\n\
             CREATE TABLE sink (carrier STRING, flight INT, tailnum STRING) WITH ('connector' = 'filesystem', 'path' = '{out}/sink', 'format' = 'json');\n\
             INSERT INTO sink SELECT * FROM flights;\n",
            root().join("data/flights.parquet").display()
        ),
    );
    let (ran, namespaces) = on_a_small_disk(&out, 256, &script, "");
    ran.fails_with(&["no space left|storage full|file too large"]);
    if namespaces {
        let visible: Vec<&str> = ran
            .stdout
            .lines()
            .filter_map(|l| l.strip_prefix("left: "))
            .filter(|p| !p[out.len()..].split('/').any(|part| part.starts_with(['.', '_'])))
            .collect();
        assert!(visible.is_empty(), "left {visible:?}");
    } else {
        assert!(visible_files(out.as_ref()).is_empty());
    }
}

#[test]
fn a_full_disk_for_what_outgrew_the_memory_is_named_with_the_way_out() {
    let place = Place::new();
    let out = place.path("spill");
    fs::create_dir(&out).unwrap();
    let flights = format!(
        "CREATE TABLE flights (carrier STRING, flight INT, tailnum STRING, dep_time INT, sched_dep TIMESTAMP(3)) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'parquet');\n\
         CREATE TABLE sink (carrier STRING, flight INT, tailnum STRING, dep_time INT, sched_dep TIMESTAMP(3)) WITH ('connector' = 'blackhole');\n",
        root().join("data/flights.parquet").display()
    );
    for (mode, memory, query) in [
        (
            "streaming",
            "1",
            "SELECT tailnum, sched_dep, COUNT(*) AS n FROM flights GROUP BY tailnum, sched_dep;\n",
        ),
        ("batch", "12MB", "SELECT * FROM flights ORDER BY tailnum, sched_dep;\n"),
        ("batch", "12MB", "INSERT INTO sink SELECT * FROM flights ORDER BY tailnum, sched_dep;\n"),
    ] {
        let script = place.write("full.sql", format!("{flights}{query}"));
        let args = format!(
            "-s execution.runtime-mode={mode} --memory {memory} -s io.tmp.dirs='{out}' --format json"
        );
        let (ran, _) = on_a_small_disk(&out, 1024, &script, &args);
        ran.fails_with(&[&out, "no space left|storage full|file too large", "--memory", "io.tmp.dirs"]);
    }
}

#[test]
fn secrets_stay_out_of_messages() {
    let place = Place::new();
    let sql = "CREATE TABLE t (id INT) WITH ('connector' = 'kafka', 'topic' = 'x', 'properties.bootstrap.servers' = '127.0.0.1:1', 'properties.sasl.password' = 'hunter2', 'format' = 'json', 'wrong' = '1');\nSHOW CREATE TABLE t;\nSELECT * FROM t;\n";
    let ran = place.run(sql, &[]);
    ran.fails_with(&["wrong"]);
    assert!(!format!("{}{}", ran.stdout, ran.stderr).contains("hunter2"), "{}{}", ran.stdout, ran.stderr);
}

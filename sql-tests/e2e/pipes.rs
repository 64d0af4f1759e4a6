//! Piped data as tables: standard input, named pipes, process substitution.

use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::support::{Place, Ran, Running, finish, root};

/// Runs a line of bash in the root of the project; `$TIDELAKE` is the binary.
fn bash(line: &str) -> Ran {
    let mut c = Command::new("bash");
    c.args(["-c", line]).current_dir(root()).env("TZ", "UTC").env("TIDELAKE", env!("CARGO_BIN_EXE_tidelake"));
    finish(c, Duration::from_secs(60))
}

fn table(name: &str, path: &str, format: &str) -> String {
    format!(
        "CREATE TABLE {name} (id INT, name STRING) WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = '{format}');\n"
    )
}

const QUERY: &str = "SELECT COUNT(*) AS n, SUM(id) AS total, MAX(name) AS last FROM t;\n";
const ANSWER: &str = "{\"n\":3,\"total\":6,\"last\":\"c\"}\n";

#[test]
fn piped_data_is_a_table() {
    let place = Place::new();
    let json = place
        .write("x.json", "{\"id\":1,\"name\":\"a\"}\n{\"id\":2,\"name\":\"b\"}\n{\"id\":3,\"name\":\"c\"}\n");
    let csv = place.write("x.csv", "1,a\n2,b\n3,c\n");
    for (data, format) in [(&json, "json"), (&csv, "csv")] {
        let script = place.write("q.sql", table("t", "/dev/stdin", format) + QUERY);
        for mode in ["batch", "streaming"] {
            let run = format!(
                "\"$TIDELAKE\" run {script} --format json --result-mode final -s execution.runtime-mode={mode} -s parallelism.default=2"
            );
            assert_eq!(bash(&format!("cat {data} | {run}")).ok().stdout, ANSWER, "{format} {mode}");
            // A file in the place of standard input is a file.
            assert_eq!(bash(&format!("{run} < {data}")).ok().stdout, ANSWER, "{format} {mode}");
        }
        let fifo = place.path(&format!("fifo-{format}"));
        let script = place.write("fifo.sql", table("t", &fifo, format) + QUERY + QUERY);
        let run = format!("\"$TIDELAKE\" run {script} --format json");
        // Another writer can follow in a pipe with a name.
        let ran =
            bash(&format!("mkfifo {fifo} && (cat {data} > {fifo}; sleep 1; cat {data} > {fifo}) & {run}"));
        assert_eq!(ran.ok().stdout, ANSWER.repeat(2), "{format}");
    }
    // The shell names the pipe, so the statement is made around its name.
    let sql = table("t", "$1", "json") + QUERY;
    let ran = bash(&format!("run() {{ \"$TIDELAKE\" run --format json -e \"{sql}\"; }}; run <(cat {json})"));
    assert_eq!(ran.ok().stdout, ANSWER);
}

#[test]
fn an_error_in_piped_data_names_its_line() {
    let place = Place::new();
    let data = place.write("x.csv", "1,a\n2,b\nthree,c\n4,d\n");
    let script = place.write("q.sql", table("t", "/dev/stdin", "csv") + QUERY);
    bash(&format!("cat {data} | \"$TIDELAKE\" run {script}")).fails_with(&["/dev/stdin", "line 3", "three"]);
}

#[test]
fn what_cannot_be_done_with_a_pipe_is_refused() {
    let place = Place::new();
    let script = place.write("q.sql", table("t", "/dev/stdin", "parquet") + QUERY);
    bash(&format!("cat data/flights.parquet | \"$TIDELAKE\" run {script}")).fails_with(&[
        "/dev/stdin",
        "Parquet",
        "save it as a file",
    ]);
    let twice = "SELECT COUNT(*) FROM t AS a JOIN t AS b ON a.id < b.id;\n";
    for sql in [twice.to_owned(), QUERY.repeat(2)] {
        let script = place.write("q.sql", table("t", "/dev/stdin", "csv") + &sql);
        bash(&format!("echo 1,a | \"$TIDELAKE\" run {script} -s execution.runtime-mode=batch"))
            .fails_with(&["/dev/stdin", "read once only", "INSERT it into a table"]);
    }
    let watched =
        table("t", "/dev/stdin", "csv").replace("'format'", "'source.monitor-interval' = '1 s', 'format'");
    let script = place.write("q.sql", watched + QUERY);
    bash(&format!("echo 1,a | \"$TIDELAKE\" run {script}")).fails_with(&["source.monitor-interval", "pipe"]);
}

/// Rows are seen before the other end is closed.
#[test]
fn a_stream_reads_a_pipe_as_it_is_written() {
    let place = Place::new();
    let script = place.write("q.sql", table("t", "/dev/stdin", "csv") + "SELECT * FROM t;\n");
    let mut c = Command::new(env!("CARGO_BIN_EXE_tidelake"));
    c.args(["run", &script, "--format", "json", "-s", "execution.runtime-mode=streaming"])
        .current_dir(root());
    let (reader, writer) = std::io::pipe().unwrap();
    c.stdin(Stdio::from(reader));
    let running = Running::start(c);
    let mut writer = File::from(std::os::fd::OwnedFd::from(writer));
    for i in 1..4 {
        writeln!(writer, "{i},x").unwrap();
        running.until("row", |stdout, _| stdout.lines().count() == i);
    }
    drop(writer);
    running.finish(Duration::from_secs(60)).ok();
}

//! Tables of PostgreSQL and MariaDB or MySQL, read, looked up and written through the binary.
//!
//! On the databases of `TIDELAKE_TEST_JDBC_POSTGRES` and `TIDELAKE_TEST_JDBC_MYSQL` (JDBC URLs with user and password), with
//! their own clients `psql` and `mariadb` as whoever else uses them. `sql-tests/tools/database` starts both.

use std::process::Command;
use std::time::Duration;

use super::support::{Place, Ran, service, unique};

/// A database and who speaks to it.
struct Database {
    postgres: bool,
    url: String,
}

fn databases() -> Vec<Database> {
    let of = |variable, postgres| {
        service(variable, "no tables of it are read and written").map(|url| Database { postgres, url })
    };
    [of("TIDELAKE_TEST_JDBC_POSTGRES", true), of("TIDELAKE_TEST_JDBC_MYSQL", false)]
        .into_iter()
        .flatten()
        .collect()
}

impl Database {
    /// What the database's own client prints: a line per row, cells between bars.
    fn sql(&self, sql: &str) -> String {
        let url = url::Url::parse(self.url.strip_prefix("jdbc:").unwrap()).unwrap();
        let parameter = |name: &str| url.query_pairs().find(|(k, _)| k == name).unwrap().1.into_owned();
        let (user, password, database) = (parameter("user"), parameter("password"), &url.path()[1..]);
        let (host, port) = (url.host_str().unwrap(), url.port().unwrap().to_string());
        let mut client = if self.postgres {
            let mut c = Command::new("psql");
            c.args([
                "-h",
                host,
                "-p",
                &port,
                "-U",
                &user,
                "-d",
                database,
                "-v",
                "ON_ERROR_STOP=1",
                "-qAtX",
                "-c",
                sql,
            ]);
            c.env("PGPASSWORD", password);
            c
        } else {
            let mut c = Command::new("mariadb");
            let password = format!("-p{password}");
            c.args([
                "--no-defaults",
                "-h",
                host,
                "-P",
                &port,
                "-u",
                &user,
                &password,
                "-N",
                "-B",
                database,
                "-e",
                sql,
            ]);
            c
        };
        let out = client.output().unwrap();
        assert!(out.status.success(), "{sql}\n{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim_end().replace('\t', "|")
    }

    /// `WITH` options of a table.
    fn with(&self, table: &str, more: &str) -> String {
        format!("WITH ('connector' = 'jdbc', 'url' = '{}', 'table-name' = '{table}'{more})", self.url)
    }

    fn pick<'a>(&self, postgres: &'a str, mysql: &'a str) -> &'a str {
        if self.postgres { postgres } else { mysql }
    }
}

const MODES: [&str; 2] = ["execution.runtime-mode=batch", "execution.runtime-mode=streaming"];

fn run(place: &Place, sql: &str, more: &[&str]) -> Ran {
    let mut args = vec!["--format", "csv", "--result-mode", "final"];
    args.extend(more);
    place.run(sql, &args)
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().skip(1).map(str::to_owned).collect();
    lines.sort();
    lines
}

const TYPES: &str = "id INT NOT NULL, a TINYINT, b SMALLINT, c BIGINT, d FLOAT, e DOUBLE, f DECIMAL(20, 4), g BOOLEAN, \
    h STRING, i BYTES, j DATE, k TIME(0), l TIMESTAMP(6), m TIMESTAMP(3)";

#[test]
fn values_of_every_type_go_both_ways() {
    for db in databases() {
        let (place, read, written) = (Place::new(), format!("r{}", unique()), format!("w{}", unique()));
        let types = db.pick(
            "id int primary key, a smallint, b smallint, c bigint, d real, e double precision, f numeric(20, 4), g boolean, h text, i bytea, j date, k time, l timestamp(6), m timestamp(3)",
            "id int primary key, a tinyint, b smallint, c bigint, d float, e double, f decimal(20, 4), g boolean, h text, i blob, j date, k time, l datetime(6), m datetime(3)",
        );
        for table in [&read, &written] {
            db.sql(&format!("CREATE TABLE {table} ({types})"));
        }
        let bytes = db.pick("'\\x00ff10'", "x'00ff10'");
        let text = db.pick("E'it''s \\\\ \"é\"\\n2'", "'it''s \\\\ \"é\"\\n2'");
        db.sql(&format!(
            "INSERT INTO {read} VALUES \
             (1, -7, 300, 9007199254740993, 1.5, -2.25e-10, 1234567890123456.7891, TRUE, {text}, {bytes}, '1969-12-31', '23:59:59', '1969-12-31 23:59:59.999999', '2024-02-29 12:00:00.123'), \
             (2, 127, -32768, -9223372036854775808, 0, 1e300, -0.0001, FALSE, '', '', '0999-01-01', '00:00:00', '9999-12-31 00:00:00', '2024-01-01 00:00:00'), \
             (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)"
        ));
        let tables = format!(
            "CREATE TABLE r ({TYPES}, PRIMARY KEY (id) NOT ENFORCED) {}; CREATE TABLE w ({TYPES}, PRIMARY KEY (id) NOT ENFORCED) {};",
            db.with(&read, ""),
            db.with(&written, "")
        );
        let expected = [
            "1,-7,300,9007199254740993,1.5,-2.25E-10,1234567890123456.7891,TRUE,\"it's \\ \"\"é\"\"",
            "2\",x'00ff10',1969-12-31,23:59:59,1969-12-31 23:59:59.999999,2024-02-29 12:00:00.123",
            "2,127,-32768,-9223372036854775808,0.0,1.0E300,-0.0001,FALSE,\"\",x'',0999-01-01,00:00:00,9999-12-31 00:00:00,2024-01-01 00:00:00",
            "3,,,,,,,,,,,,,",
        ];
        let shown = |ran: &Ran| ran.stdout.clone();
        let mut seen = Vec::new();
        for mode in MODES {
            seen.push(sorted(&run(&place, &format!("{tables} SELECT * FROM r"), &["-s", mode]).ok().stdout));
            run(&place, &format!("{tables} INSERT INTO w SELECT * FROM r"), &["-s", mode]).ok();
            assert_eq!(db.sql(&format!("SELECT COUNT(*) FROM {written}")), "3");
            // To the database the rows are the same.
            let same = db.pick("IS NOT DISTINCT FROM", "<=>");
            let columns: Vec<String> =
                "abcdefghijklm".chars().map(|c| format!("r.{c} {same} w.{c}")).collect();
            let equal = format!(
                "SELECT COUNT(*) FROM {read} r JOIN {written} w ON r.id = w.id AND {}",
                columns.join(" AND ")
            );
            assert_eq!(db.sql(&equal), "3", "{mode}");
            let back = run(&place, &format!("{tables} SELECT * FROM w"), &["-s", mode]).ok();
            assert_eq!(sorted(&shown(&back)), seen[0], "{mode}");
        }
        assert_eq!(seen[0], seen[1]);
        let mut expected: Vec<String> = expected.iter().map(|e| (*e).to_owned()).collect();
        expected.sort();
        assert_eq!(seen[0], expected);
        // Columns that are not read, and none at all.
        let counted =
            run(&place, &format!("{tables} SELECT COUNT(*), COUNT(h) FROM r WHERE id > 1"), &[]).ok();
        assert_eq!(sorted(&counted.stdout), ["2,1"]);
        let counted = run(&place, &format!("{tables} SELECT COUNT(*) FROM r"), &["-s", MODES[1]]).ok();
        assert_eq!(sorted(&counted.stdout), ["3"]);
    }
}

#[test]
fn a_table_is_read_in_parts() {
    for db in databases() {
        let (place, table) = (Place::new(), format!("p{}", unique()));
        db.sql(&format!("CREATE TABLE {table} (id bigint primary key, v varchar(20))"));
        let rows: Vec<String> = (0..3000).map(|i| format!("({i}, 'v{i}')")).collect();
        db.sql(&format!("INSERT INTO {table} VALUES {}", rows.join(", ")));
        let parts = ", 'scan.partition.column' = 'id', 'scan.partition.num' = '7', 'scan.partition.lower-bound' = '0', \
                     'scan.partition.upper-bound' = '2499', 'scan.fetch-size' = '100'";
        for (more, count) in [(", 'scan.fetch-size' = '11'", 3000), (parts, 2500)] {
            let sql = format!(
                "CREATE TABLE t (id BIGINT, v STRING) {}; SELECT COUNT(*), COUNT(DISTINCT id), MIN(v), MAX(id) FROM t",
                db.with(&table, more)
            );
            for mode in MODES {
                for parallelism in ["parallelism.default=1", "parallelism.default=3"] {
                    let ran = run(&place, &sql, &["-s", mode, "-s", parallelism]).ok();
                    assert_eq!(sorted(&ran.stdout), [format!("{count},{count},v0,{}", count - 1)]);
                }
            }
        }
    }
}

#[test]
fn rows_are_looked_up() {
    for db in databases() {
        let (place, table) = (Place::new(), format!("l{}", unique()));
        db.sql(&format!(
            "CREATE TABLE {table} (id int, region varchar(10), name varchar(20), least decimal(10, 2))"
        ));
        let quote = db.pick("'it''s \\'", "'it''s \\\\'");
        db.sql(&format!(
            "INSERT INTO {table} VALUES (10, 'EU', 'Ada', 20), (11, 'US', 'Bob', 200), (12, 'EU', {quote}, 80), (10, 'US', 'Ada II', 300), (NULL, 'EU', 'Nil', 0)"
        ));
        let orders = "CREATE TABLE orders (id INT, customer INT, region STRING, amount INT, pt AS PROCTIME()) \
            WITH ('connector' = 'filesystem', 'path' = 'sql-tests/files/lookup/orders.csv', 'format' = 'csv', 'csv.null-literal' = '');";
        for cache in [
            "",
            ", 'lookup.cache' = 'PARTIAL', 'lookup.partial-cache.max-rows' = '2'",
            ", 'lookup.cache' = 'FULL'",
        ] {
            let tables = format!(
                "{orders} CREATE TABLE d (id INT, region STRING, name STRING, least DECIMAL(10, 2)) {};",
                db.with(&table, cache)
            );
            for (query, expected) in [
                (
                    "SELECT o.id, d.name FROM orders AS o LEFT JOIN d FOR SYSTEM_TIME AS OF o.pt AS d ON o.customer = d.id AND o.region = d.region",
                    vec!["1,Ada", "10,Ada", "2,Bob", "3,", "4,it's \\", "5,Ada II", "6,", "7,", "8,", "9,"],
                ),
                (
                    "SELECT o.id, d.name FROM orders AS o JOIN d FOR SYSTEM_TIME AS OF o.pt AS d ON o.customer = d.id AND d.region = 'EU' AND o.amount > d.least",
                    vec!["1,Ada", "5,Ada"],
                ),
                (
                    "SELECT o.id, COUNT(*) FROM orders AS o JOIN d FOR SYSTEM_TIME AS OF o.pt AS d ON d.id = o.customer WHERE d.least >= 80 GROUP BY o.id",
                    vec!["1,1", "10,1", "2,1", "4,1", "5,1", "8,1"],
                ),
                (
                    "SELECT t.customer, t.n, d.name FROM (SELECT customer, COUNT(*) AS n, PROCTIME() AS pt FROM orders GROUP BY customer) AS t \
                     JOIN d FOR SYSTEM_TIME AS OF t.pt AS d ON t.customer = d.id AND d.region = 'EU'",
                    vec!["10,3,Ada", "12,1,it's \\"],
                ),
            ] {
                for mode in MODES {
                    let args = ["-s", mode, "-s", "table.exec.mini-batch.size=1"];
                    let ran = run(&place, &format!("{tables} {query}"), &args).ok();
                    assert_eq!(sorted(&ran.stdout), expected, "{cache} {mode} {query}");
                }
            }
        }
        // A key of another type can be compared only where the table is in memory.
        let other = |cache: &str| {
            format!(
                "{orders} CREATE TABLE d (id INT, name STRING) {}; \
                 SELECT o.id, d.name FROM orders AS o JOIN d FOR SYSTEM_TIME AS OF o.pt AS d ON CAST(o.customer AS STRING) = CAST(d.id AS STRING) AND o.id = 2",
                db.with(&table, cache)
            )
        };
        run(&place, &other(""), &["-s", MODES[1]]).fails_with(&["compares none of them"]);
        let ran = run(&place, &other(", 'lookup.cache' = 'FULL'"), &["-s", MODES[1]]).ok();
        assert_eq!(sorted(&ran.stdout), ["2,Bob"]);
    }
}

#[test]
fn a_row_that_comes_late_is_waited_for() {
    for db in databases() {
        let (place, table) = (Place::new(), format!("m{}", unique()));
        db.sql(&format!("CREATE TABLE {table} (id int primary key, name varchar(20))"));
        let sql = format!(
            "CREATE TABLE d (id INT, name STRING) {}; \
             SELECT /*+ LOOKUP('table' = 'd', 'retry-predicate' = 'lookup_miss', 'retry-strategy' = 'fixed_delay', 'fixed-delay' = '100 ms', 'max-attempts' = '100') */ \
             o.id, d.name FROM (SELECT id, PROCTIME() AS pt FROM (VALUES (1)) AS v(id)) AS o LEFT JOIN d FOR SYSTEM_TIME AS OF o.pt AS d ON o.id = d.id",
            db.with(&table, "")
        );
        let running = place.start(&sql, &["--format", "csv", "-s", MODES[1]]);
        std::thread::sleep(Duration::from_millis(1500));
        db.sql(&format!("INSERT INTO {table} VALUES (1, 'late')"));
        let ran = running.finish(Duration::from_secs(30)).ok();
        assert!(ran.stdout.contains("+I,1,late"), "{}", ran.stdout);
    }
}

#[test]
fn changes_are_written_by_key() {
    for db in databases() {
        let (place, table) = (Place::new(), format!("u{}", unique()));
        db.sql(&format!("CREATE TABLE {table} (customer int, region varchar(10), total bigint, primary key (customer, region))"));
        db.sql(&format!("INSERT INTO {table} VALUES (10, 'EU', -1), (77, 'EU', -1)"));
        let tables = format!(
            "CREATE TABLE orders (id INT, customer INT, region STRING, amount INT) \
             WITH ('connector' = 'filesystem', 'path' = 'sql-tests/files/lookup/orders.csv', 'format' = 'csv', 'csv.null-literal' = ''); \
             CREATE TABLE totals (customer INT, region STRING, total BIGINT, PRIMARY KEY (customer, region) NOT ENFORCED) {};",
            db.with(&table, ", 'sink.buffer-flush.max-rows' = '2'")
        );
        let query = "INSERT INTO totals SELECT customer, region, SUM(amount) FROM orders WHERE customer IS NOT NULL AND region IS NOT NULL GROUP BY customer, region";
        let expected = "10|EU|115\n10|US|310\n11|EU|250\n11|US|250\n12|EU|75\n14|US|NULL\n77|EU|-1\n99|EU|5";
        let expected = if db.postgres { expected.replace("|NULL", "|") } else { expected.to_owned() };
        for mode in MODES {
            for bundle in ["table.exec.mini-batch.size=1", "table.exec.mini-batch.size=100"] {
                run(&place, &format!("{tables} {query}"), &["-s", mode, "-s", bundle]).ok();
                assert_eq!(db.sql(&format!("SELECT * FROM {table} ORDER BY 1, 2")), expected);
            }
        }
        // Rows that go: those of a top-1 that another row has taken the place of.
        let best = format!("b{}", unique());
        db.sql(&format!("CREATE TABLE {best} (id int primary key, amount int)"));
        let sql = format!(
            "{tables} CREATE TABLE best (id INT, amount INT, PRIMARY KEY (id) NOT ENFORCED) {}; \
             INSERT INTO best SELECT id, amount FROM (SELECT *, ROW_NUMBER() OVER (ORDER BY amount DESC) AS n FROM orders WHERE amount IS NOT NULL) WHERE n = 1",
            db.with(&best, "")
        );
        run(&place, &sql, &["-s", MODES[1], "-s", "table.exec.mini-batch.size=1"]).ok();
        assert_eq!(db.sql(&format!("SELECT * FROM {best}")), "5|310");
        // Without a key rows are appended, and changes refused.
        let log = format!("g{}", unique());
        db.sql(&format!("CREATE TABLE {log} (id int, region varchar(10))"));
        let append = format!("{tables} CREATE TABLE log (id INT, region STRING) {};", db.with(&log, ""));
        for mode in MODES {
            run(&place, &format!("{append} INSERT INTO log SELECT id, region FROM orders"), &["-s", mode])
                .ok();
        }
        assert_eq!(db.sql(&format!("SELECT COUNT(*), COUNT(DISTINCT id) FROM {log}")), "20|10");
        run(
            &place,
            &format!("{append} INSERT INTO log SELECT customer, MAX(region) FROM orders GROUP BY customer"),
            &["-s", MODES[1]],
        )
        .fails_with(&["update", "log"]);
    }
}

#[test]
fn rows_are_flushed_while_a_job_goes_on() {
    for db in databases() {
        let (place, table) = (Place::new(), format!("f{}", unique()));
        db.sql(&format!("CREATE TABLE {table} (id int primary key)"));
        let sql = format!(
            "CREATE TABLE g (id INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'datagen', 'rows-per-second' = '20', 'fields.id.kind' = 'sequence', 'fields.id.start' = '1', 'fields.id.end' = '100000'); \
             CREATE TABLE s (id INT, PRIMARY KEY (id) NOT ENFORCED) {}; INSERT INTO s SELECT id FROM g",
            db.with(
                &table,
                ", 'sink.buffer-flush.max-rows' = '100000', 'sink.buffer-flush.interval' = '200 ms'"
            )
        );
        let running = place.start(&sql, &["-s", "execution.checkpointing.interval=1 h"]);
        let count = || db.sql(&format!("SELECT COUNT(*) FROM {table}")).parse::<u64>().unwrap();
        let begun = std::time::Instant::now();
        while count() < 5 {
            assert!(begun.elapsed() < Duration::from_secs(30), "no row was flushed");
            std::thread::sleep(Duration::from_millis(50));
        }
        running.signal("INT");
        // It ends by itself, some day: stopped before, it writes no more. What it has written has no gaps.
        assert_eq!(running.finish(Duration::from_secs(30)).code, Some(130));
        assert_eq!(db.sql(&format!("SELECT COUNT(*) - MAX(id) FROM {table}")), "0");
    }
}

#[test]
fn what_goes_wrong_is_told_without_the_password() {
    for db in databases() {
        let (place, table) = (Place::new(), format!("e{}", unique()));
        db.sql(&format!("CREATE TABLE {table} (id int, v varchar(10))"));
        db.sql(&format!("INSERT INTO {table} VALUES (1, 'x')"));
        let url = db.url.split('?').next().unwrap();
        let select = |columns: &str, options: &str| {
            format!("CREATE TABLE t ({columns}) WITH ('connector' = 'jdbc', {options}); SELECT * FROM t")
        };
        let good = format!("'url' = '{}', 'table-name' = ", db.url);
        let login = "'username' = 'tide', 'password' = 'hunter2', 'connection.max-retry-timeout' = '2 s'";
        for (sql, needles) in [
            (
                select("id INT", &format!("'url' = '{url}', 'table-name' = 'x', {login}")),
                vec!["password|access denied"],
            ),
            (select("id INT", &format!("{good}'nothing'")), vec!["nothing"]),
            (select("other INT", &format!("{good}'{table}'")), vec!["other"]),
            (select("v INT", &format!("{good}'{table}'")), vec!["column `v`", "'x'"]),
            (select("a ARRAY<INT>", &format!("{good}'{table}'")), vec!["column `a`", "not read or write"]),
            (
                select(
                    "id INT",
                    &format!("'url' = 'jdbc:postgresql://127.0.0.1:1/test', 'table-name' = 'x', {login}"),
                ),
                vec!["database postgresql://127.0.0.1:1/test"],
            ),
            (
                select(
                    "id INT",
                    &format!("'url' = 'jdbc:mysql://127.0.0.1:1/test', 'table-name' = 'x', {login}"),
                ),
                vec!["database mysql://127.0.0.1:1/test"],
            ),
        ] {
            for mode in MODES {
                let ran = run(&place, &sql, &["-s", mode]);
                assert!(!ran.stderr.contains("hunter2") && !ran.stderr.contains("cret"), "{}", ran.stderr);
                ran.fails_with(&needles);
            }
        }
    }
}

#[test]
fn connections_are_encrypted_as_the_url_says() {
    for db in databases() {
        // The certificate of the server is of an authority that `database` has made; without openssl there is none.
        if !db.url.contains(".pem") {
            eprintln!("skipped: {} has no certificate", db.url.split('?').next().unwrap());
            continue;
        }
        let (place, view) = (Place::new(), format!("tls{}", unique()));
        let of_postgres = "SELECT CASE WHEN ssl THEN version ELSE '' END AS tls FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let of_mysql = "SELECT variable_value AS tls FROM information_schema.session_status WHERE variable_name = 'Ssl_version'";
        db.sql(&format!("CREATE VIEW {view} AS {}", db.pick(of_postgres, of_mysql)));
        let select = |url: &str| {
            let with = format!(
                "'connector' = 'jdbc', 'url' = '{url}', 'table-name' = '{view}', 'connection.max-retry-timeout' = '10 s'"
            );
            format!("CREATE TABLE t (tls STRING) WITH ({with}); SELECT tls FROM t")
        };
        let mode = |mode: &str| db.pick("&sslmode=", "&sslMode=").to_owned() + mode;
        let bare = db
            .url
            .split(['&', '?'])
            .filter(|p| !p.contains(".pem"))
            .collect::<Vec<_>>()
            .join("&")
            .replacen('&', "?", 1);
        let shown = |url: &str| sorted(&run(&place, &select(url), &[]).ok().stdout).join("");
        for url in [
            bare.clone(),
            bare.clone() + &mode("require"),
            db.url.clone() + &mode("require"),
            db.url.clone() + &mode("verify-ca"),
            db.url.clone() + &mode(db.pick("verify-full", "VERIFY_IDENTITY")),
        ] {
            assert!(shown(&url).starts_with("TLSv1."), "{url}: {}", shown(&url));
        }
        assert_eq!(shown(&(bare.clone() + &mode("disable"))).trim_matches('"'), "");
        let trusted_by_nobody = bare + &mode(db.pick("verify-full", "VERIFY_IDENTITY"));
        run(&place, &select(&trusted_by_nobody), &[]).fails_with(&["certificate|authority"]);
        let by_name = db.url.replace("127.0.0.1", "localhost");
        assert!(shown(&(by_name + &mode("verify-ca"))).starts_with("TLSv1."));
    }
}

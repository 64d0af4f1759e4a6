//! One SQLite catalog and several processes, and the job that the README begins with.

use std::fs;
use std::time::Duration;

use super::support::{Place, Running, root, tidelake, unique};

/// Runs a script in so many processes at once; what their errors say.
fn at_once(script: &str, processes: usize) -> Vec<String> {
    let start = |_| {
        let mut c = tidelake();
        c.args(["run", script, "--format", "json"]);
        Running::start(c)
    };
    let running: Vec<Running> = (0..processes).map(start).collect();
    let ended = running.into_iter().map(|r| r.finish(Duration::from_secs(60)));
    ended.filter(|ran| ran.code != Some(0)).map(|ran| ran.stderr).collect()
}

#[test]
fn whoever_comes_second_finds_what_the_first_has_created() {
    for _ in 0..3 {
        let place = Place::new();
        let catalog = format!(
            "CREATE CATALOG lake WITH ('type' = 'iceberg', 'warehouse' = '{}');\n",
            place.path("lake")
        );
        let script = place.write(
            "create.sql",
            format!(
                "{catalog}CREATE DATABASE IF NOT EXISTS lake.shop;\n\
                 CREATE TABLE IF NOT EXISTS lake.shop.orders (id INT);\n\
                 CREATE TABLE IF NOT EXISTS lake.shop.single AS SELECT 1 AS id;\n"
            ),
        );
        let errors = at_once(&script, 8);
        assert!(errors.is_empty(), "{errors:?}");
        // The table was filled by the one that created it.
        let count = format!("{catalog}SELECT COUNT(*) AS n FROM lake.shop.single;\n");
        assert_eq!(place.run(&count, &["--format", "json"]).ok().stdout, "{\"n\":1}\n");
    }
}

#[test]
fn without_if_not_exists_the_second_is_told() {
    for (before, create) in [
        ("", "CREATE DATABASE lake.shop;\n"),
        ("CREATE DATABASE IF NOT EXISTS lake.shop;\n", "CREATE TABLE lake.shop.orders (id INT);\n"),
    ] {
        let place = Place::new();
        let catalog = format!(
            "CREATE CATALOG lake WITH ('type' = 'iceberg', 'warehouse' = '{}');\n",
            place.path("lake")
        );
        let errors = at_once(&place.write("create.sql", format!("{catalog}{before}{create}")), 6);
        assert_eq!(errors.len(), 5, "{errors:?}");
        for error in errors {
            assert!(error.contains("already exists") && !error.contains("UNIQUE"), "{error}");
        }
    }
}

/// What it says is what would be: dropped tables are gone for the statements that follow, created ones are there.
#[test]
fn explain_leaves_a_catalog_as_it_is() {
    let place = Place::new();
    let catalog =
        format!("CREATE CATALOG lake WITH ('type' = 'iceberg', 'warehouse' = '{}');\n", place.path("lake"));
    let made = format!(
        "{catalog}CREATE DATABASE lake.shop; CREATE DATABASE lake.attic;\n\
         CREATE TABLE lake.shop.orders (id INT); CREATE TABLE lake.attic.items (id INT);\n\
         INSERT INTO lake.shop.orders VALUES (1), (2);\n"
    );
    place.run(&made, &[]).ok();
    let script = place.write(
        "job.sql",
        format!(
            "{catalog}DROP TABLE lake.shop.orders;\n\
             CREATE TABLE lake.shop.orders (id BIGINT, customer STRING NOT NULL) PARTITIONED BY (bucket(4, id));\n\
             CREATE TABLE IF NOT EXISTS lake.attic.items (id STRING);\n\
             CREATE DATABASE lake.fresh; CREATE TABLE lake.fresh.counts (n BIGINT, PRIMARY KEY (n) NOT ENFORCED);\n\
             INSERT INTO lake.shop.orders SELECT id + 1, 'x' FROM lake.attic.items;\n\
             INSERT INTO lake.fresh.counts SELECT COUNT(*) FROM lake.shop.orders WHERE customer <> '';\n\
             DROP DATABASE lake.attic CASCADE; SHOW TABLES IN lake.fresh; SHOW DATABASES IN lake;\n"
        ),
    );
    for mode in ["batch", "streaming"] {
        let mut explain = tidelake();
        explain.args(["explain", &script, "-s", &format!("execution.runtime-mode={mode}")]);
        let said = Running::start(explain).finish(Duration::from_secs(60)).ok().stdout;
        for part in ["lake.shop.orders", "customer", "counts", "fresh", "shop"] {
            assert!(said.contains(part), "{part} in {said}");
        }
        let last = said.rsplit("SHOW DATABASES").next().unwrap();
        assert!(!last.rsplit("database").next().unwrap().contains("attic"), "{said}");
    }
    let now = format!(
        "{catalog}SELECT COUNT(*) AS n FROM lake.shop.orders;\nSELECT COUNT(*) AS n FROM lake.attic.items;\n"
    );
    assert_eq!(place.run(&now, &["--format", "json"]).ok().stdout, "{\"n\":2}\n{\"n\":0}\n");
    let e = place.run(&format!("{catalog}SHOW TABLES IN lake.fresh;\n"), &[]);
    assert!(e.code != Some(0) && e.stderr.contains("fresh"), "{}", e.stderr);
}

/// The first job of the README, on the embedded broker and a SQLite catalog, with some orders.
#[test]
fn the_job_of_the_readme_runs_as_it_stands() {
    let place = Place::new();
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let job = readme.split("```sql\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let (rest, sqlite) = ("'catalog-type' = 'rest', 'uri' = 'http://localhost:8181'", place.path("lake"));
    let (server, topic) = ("'localhost:9092'", format!("'topic' = 'orders_{}'", unique()));
    assert!(job.contains(rest) && job.contains(server) && job.contains("INSERT INTO lake."), "{job}");
    let job = job
        .replace(rest, &format!("'warehouse' = '{sqlite}'"))
        .replace(server, "'embedded'")
        .replace("'topic' = 'orders'", &topic)
        .replacen(
            "INSERT INTO lake.",
            "INSERT INTO orders VALUES (1, 'ada', 1.50, TIMESTAMP '2024-01-01 00:00:10'), (2, 'ada', 2.25, TIMESTAMP '2024-01-01 00:00:50'), \
             (3, 'bob', 9.99, TIMESTAMP '2024-01-01 00:02:00');\nINSERT INTO lake.",
            1,
        );
    let running = place.start(&job, &[]);
    let catalog = job.split_once("CREATE CATALOG").map(|(_, rest)| rest.split_once(';').unwrap().0).unwrap();
    let query = format!("CREATE CATALOG{catalog};\nSELECT customer, revenue FROM lake.shop.revenue;\n");
    // Without a setting and without Ctrl-C the closed window is committed.
    let mut found = String::new();
    for _ in 0..40 {
        std::thread::sleep(Duration::from_secs(1));
        let script = place.write("query.sql", &query);
        let mut c = tidelake();
        c.args(["run", &script, "--format", "json"]);
        found = Running::start(c).finish(Duration::from_secs(60)).stdout;
        if !found.is_empty() {
            break;
        }
    }
    running.signal("INT");
    let ran = running.finish(Duration::from_secs(60)).ok();
    assert_eq!(found, "{\"customer\":\"ada\",\"revenue\":\"3.75\"}\n", "{ran:?}");
}

use super::{fails, manager, ok};

#[test]
fn short_names_mean_the_current_catalog_and_database() {
    let m = manager();
    ok(&m, "CREATE CATALOG c WITH ('type' = 'generic_in_memory', 'default-database' = 'd')");
    ok(&m, "CREATE TABLE c.d.t (a INT); CREATE DATABASE c.e; CREATE TABLE c.e.u (a INT)");
    fails(&m, "DESCRIBE t", &["`t` does not exist in default_catalog.default_database"]);
    ok(&m, "USE CATALOG c; DESCRIBE t; DESCRIBE e.u; DESCRIBE c.e.u; USE e; DESCRIBE u; USE c.d; DESCRIBE t");
    assert_eq!(ok(&m, "SHOW CURRENT CATALOG"), ["c"]);
    assert_eq!(ok(&m, "SHOW CURRENT DATABASE"), ["d"]);
    assert_eq!(ok(&m, "SHOW TABLES FROM e"), ["u"]);
    assert_eq!(ok(&m, "SHOW DATABASES IN c"), ["d", "e"]);
    fails(&m, "USE CATALOG default_catalogue", &["did you mean `default_catalog`?"]);
    fails(&m, "USE nope", &["`nope` does not exist in the catalog `c`"]);
    fails(&m, "SHOW TABLES FROM nope", &["`nope`"]);
}

#[test]
fn names_are_case_sensitive() {
    let m = manager();
    ok(&m, "CREATE TABLE t (a INT); CREATE TABLE T (a INT, A INT)");
    assert_eq!(ok(&m, "SHOW TABLES"), ["T", "t"]);
    fails(&m, "DESCRIBE DEFAULT_DATABASE.t", &["did you mean `default_database`?"]);
}

#[test]
fn create_again() {
    let m = manager();
    ok(&m, "CREATE TABLE t (a INT); CREATE TABLE IF NOT EXISTS t (b STRING)");
    assert_eq!(ok(&m, "DESCRIBE t"), ["a|INT|true|-|-|-"]);
    let e = fails(&m, "CREATE TABLE t (b INT)", &["already exists", "IF NOT EXISTS"]);
    assert_eq!(e.location().unwrap().to_string(), "1:14");
    fails(&m, "CREATE VIEW t AS SELECT 1", &["table default_catalog.default_database.t already exists"]);
    fails(&m, "CREATE DATABASE default_database", &["already exists"]);
    ok(&m, "CREATE DATABASE IF NOT EXISTS default_database");
    fails(&m, "CREATE CATALOG default_catalog WITH ('type'='generic_in_memory')", &["already exists"]);
    fails(
        &m,
        "CREATE CATALOG x WITH ('type'='generic_in_memory', 'warehouse'='y')",
        &["'warehouse'", "'default-database'"],
    );
}

#[test]
fn drops() {
    let m = manager();
    ok(&m, "CREATE TABLE t (a INT); CREATE VIEW v AS SELECT 1");
    fails(&m, "DROP TABLE v", &["is a view", "DROP VIEW"]);
    fails(&m, "DROP VIEW t", &["is a table", "DROP TABLE"]);
    ok(&m, "DROP TABLE IF EXISTS v");
    ok(&m, "DROP TABLE t; DROP VIEW v; DROP TABLE IF EXISTS t; DROP VIEW IF EXISTS v");
    let e = fails(&m, "DROP TABLE t", &["does not exist", "IF EXISTS"]);
    assert_eq!(e.location().unwrap().to_string(), "1:12");
    fails(&m, "DROP DATABASE default_database", &["in use"]);
    fails(&m, "DROP CATALOG default_catalog", &["in use"]);
    ok(&m, "CREATE DATABASE d; CREATE TABLE d.t (a INT)");
    fails(&m, "DROP DATABASE d", &["not empty", "CASCADE"]);
    fails(&m, "DROP DATABASE d RESTRICT", &["not empty"]);
    ok(&m, "DROP DATABASE d CASCADE; DROP DATABASE IF EXISTS d");
    fails(&m, "DROP DATABASE d", &["does not exist"]);
    ok(&m, "CREATE CATALOG c WITH ('type'='generic_in_memory'); DROP CATALOG c; DROP CATALOG IF EXISTS c");
    fails(&m, "DROP CATALOG c", &["does not exist"]);
}

#[test]
fn temporary_objects_shadow_persistent_ones() {
    let m = manager();
    ok(&m, "CREATE TABLE t (a INT); CREATE TEMPORARY TABLE t (b STRING)");
    assert_eq!(ok(&m, "DESCRIBE t"), ["b|STRING|true|-|-|-"]);
    assert_eq!(ok(&m, "SHOW TABLES"), ["t"]);
    fails(&m, "DROP TABLE t", &["temporary object hides", "DROP TEMPORARY TABLE"]);
    fails(&m, "CREATE TEMPORARY VIEW t AS SELECT 1", &["temporary table"]);
    fails(&m, "DROP TEMPORARY VIEW t", &["does not exist"]);
    ok(&m, "CREATE TEMPORARY TABLE IF NOT EXISTS t (c INT); DROP TEMPORARY TABLE t");
    assert_eq!(ok(&m, "DESCRIBE t"), ["a|INT|true|-|-|-"]);
    fails(&m, "DROP TEMPORARY TABLE t", &["does not exist"]);
    ok(&m, "DROP TEMPORARY TABLE IF EXISTS t; CREATE TEMPORARY VIEW v AS SELECT 1");
    assert_eq!(ok(&m, "SHOW VIEWS"), ["v"]);
    assert_eq!(ok(&m, "SHOW TABLES"), ["t", "v"]);
}

//! Kafka to windows to Iceberg, end to end through the binary.
//!
//! On the services of the environment where they are given (the variables of CONTRIBUTING.md), on the embedded broker and catalog otherwise.

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};

use super::support::{Place, service, unique};

const FLIGHT: &str = "sched_dep TIMESTAMP(3), dep_delay INT, carrier STRING, origin STRING, distance INT";

/// The broker, and a topic on it that exists (the embedded broker makes its topics itself).
fn broker(topic: &str, partitions: i32) -> String {
    let Some(broker) = service("TIDELAKE_TEST_KAFKA", "pipelines run on the embedded broker") else {
        return "embedded".to_owned();
    };
    let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", &broker).create().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    for made in runtime.block_on(admin.create_topics([&new], &AdminOptions::new())).unwrap() {
        made.unwrap();
    }
    broker
}

/// January's flights through a topic, in hourly windows, into an Iceberg table: the same rows as straight from the file.
fn kafka_to_iceberg(catalog: &str, parallelism: usize) {
    let place = Place::new();
    let topic = format!("flights_{}", unique());
    let namespace = format!("nyc_{}", unique());
    let broker = broker(&topic, 3);
    let window = "window_start, origin, COUNT(*) AS n, COUNT(dep_delay) AS departed, SUM(distance) AS miles, MAX(dep_delay) AS worst";
    let sql = format!(
        "CREATE TABLE flights ({FLIGHT}, WATERMARK FOR sched_dep AS sched_dep - INTERVAL '1' MINUTE) WITH ('connector' = 'filesystem', 'path' = 'data/flights.parquet', 'format' = 'parquet');\n\
         CREATE TABLE topic ({FLIGHT}, WATERMARK FOR sched_dep AS sched_dep - INTERVAL '5' DAY) WITH ('connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{broker}',\n\
           'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset', 'format' = 'json');\n\
         CREATE CATALOG lake WITH ({catalog});\n\
         CREATE DATABASE lake.{namespace};\n\
         CREATE TABLE lake.{namespace}.hourly (window_start TIMESTAMP(6), origin STRING, n BIGINT, departed BIGINT, miles INT, worst INT) PARTITIONED BY (origin);\n\
         INSERT INTO topic SELECT {columns} FROM flights WHERE sched_dep < TIMESTAMP '2013-02-01 00:00:00';\n\
         SET 'execution.runtime-mode' = 'streaming';\n\
         INSERT INTO lake.{namespace}.hourly SELECT {window} FROM TUMBLE(TABLE topic, DESCRIPTOR(sched_dep), INTERVAL '1' HOUR) GROUP BY window_start, window_end, origin;\n\
         SET 'execution.runtime-mode' = 'batch';\n\
         SELECT 'lake' AS side, COUNT(*) AS windows, SUM(n) AS n, SUM(departed) AS departed, SUM(miles) AS miles, MAX(worst) AS worst FROM lake.{namespace}.hourly;\n\
         SELECT 'file' AS side, COUNT(*) AS windows, SUM(n) AS n, SUM(departed) AS departed, SUM(miles) AS miles, MAX(worst) AS worst FROM (SELECT {window} FROM TUMBLE(TABLE flights, DESCRIPTOR(sched_dep), INTERVAL '1' HOUR) WHERE sched_dep < TIMESTAMP '2013-02-01 00:00:00' GROUP BY window_start, window_end, origin);\n\
         SELECT 'topic' AS side, COUNT(*) AS n, COUNT(dep_delay) AS departed, SUM(CAST(distance AS BIGINT)) AS miles FROM topic;\n",
        columns = "sched_dep, dep_delay, carrier, origin, distance",
        catalog = catalog.replace("$LAKE", &place.path("lake")),
    );
    let ran =
        place.run(&sql, &["--format", "json", "-s", &format!("parallelism.default={parallelism}")]).ok();
    let rows = ran.rows();
    assert_eq!(rows.len(), 3, "{}", ran.stdout);
    for column in ["windows", "n", "departed", "miles", "worst"] {
        assert_eq!(rows[0][column], rows[1][column], "{column}\n{}", ran.stdout);
    }
    assert_eq!(rows[0]["n"], 27_004, "{}", ran.stdout);
    assert_eq!(rows[2]["n"], 27_004, "{}", ran.stdout);
    assert_eq!(rows[2]["departed"], rows[0]["departed"], "{}", ran.stdout);
}

#[test]
fn kafka_to_iceberg_with_the_embedded_catalog() {
    kafka_to_iceberg("'type' = 'iceberg', 'catalog-type' = 'sql', 'warehouse' = '$LAKE'", 1);
}

#[test]
fn kafka_to_iceberg_at_parallelism_three() {
    kafka_to_iceberg("'type' = 'iceberg', 'catalog-type' = 'sql', 'warehouse' = '$LAKE'", 3);
}

#[test]
fn kafka_to_iceberg_with_a_rest_catalog() {
    match service("TIDELAKE_TEST_REST_CATALOG", "the pipeline into a REST catalog uses the embedded catalog")
    {
        Some(uri) => {
            kafka_to_iceberg(&format!("'type' = 'iceberg', 'catalog-type' = 'rest', 'uri' = '{uri}'"), 2)
        }
        None => kafka_to_iceberg("'type' = 'iceberg', 'catalog-type' = 'sql', 'warehouse' = '$LAKE'", 2),
    }
}

#[test]
fn kafka_to_iceberg_on_an_s3_store() {
    match service("TIDELAKE_TEST_S3", "the pipeline onto an S3 store writes to the local disk") {
        Some(endpoint) => kafka_to_iceberg(
            &format!(
                "'type' = 'iceberg', 'catalog-type' = 'sql', 'uri' = 'sqlite:$LAKE.db?mode=rwc', 'warehouse' = 's3://lake/{}', 's3.endpoint' = '{endpoint}', \
                 's3.region' = 'us-east-1', 's3.access-key-id' = 'any', 's3.secret-access-key' = 'any', 's3.path-style-access' = 'true'",
                unique()
            ),
            1,
        ),
        None => kafka_to_iceberg("'type' = 'iceberg', 'catalog-type' = 'sql', 'warehouse' = '$LAKE'", 1),
    }
}

#[test]
fn a_statement_set_reads_once_and_writes_twice() {
    let place = Place::new();
    let topic = format!("set_{}", unique());
    let broker = broker(&topic, 2);
    let sql = format!(
        "CREATE TABLE flights ({FLIGHT}) WITH ('connector' = 'filesystem', 'path' = 'data/flights-2013-w01.json', 'format' = 'json');\n\
         CREATE TABLE topic ({FLIGHT}) WITH ('connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{broker}', 'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset', 'format' = 'json');\n\
         CREATE TABLE copy ({FLIGHT}) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'parquet');\n\
         EXECUTE STATEMENT SET BEGIN INSERT INTO topic SELECT sched_dep, dep_delay, carrier, origin, distance FROM flights; INSERT INTO copy SELECT sched_dep, dep_delay, carrier, origin, distance FROM flights; END;\n\
         SELECT COUNT(*) AS n, SUM(distance) AS miles FROM topic;\n\
         SELECT COUNT(*) AS n, SUM(distance) AS miles FROM copy;\n",
        place.path("copy"),
    );
    let rows = place.run(&sql, &["--format", "json", "-s", "parallelism.default=2"]).ok().rows();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0], rows[1]);
    assert_eq!(rows[0]["n"], 6_099);
}

//! Event time that stands still, and event time that has run away: told once, with the option that helps.

use std::time::Duration;

use super::support::{Place, unique};

#[test]
fn a_partition_without_rows_is_told_with_the_option_that_helps() {
    let place = Place::new();
    // One partition of two gets all the rows.
    let topic = |name: &str, more: &str| {
        format!(
            "CREATE TABLE {name} (id BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'kafka', 'topic' = 'orders_{}', \
             'properties.bootstrap.servers' = 'embedded', 'embedded.partitions' = '2', 'scan.startup.mode' = 'earliest-offset', \
             'sink.partitioner' = 'fixed', 'format' = 'json'{more});\n",
            unique()
        )
    };
    let sql = format!(
        "CREATE TABLE gen (id BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '20', 'fields.id.kind' = 'sequence', \
         'fields.id.start' = '1', 'fields.id.end' = '1000000');\n{}\
         CREATE TABLE windows (s TIMESTAMP(3), n BIGINT) WITH ('connector' = 'print');\n\
         EXECUTE STATEMENT SET BEGIN\n\
         INSERT INTO orders SELECT id, TIMESTAMPADD(SECOND, CAST(id AS INT), TIMESTAMP '2024-01-01 00:00:00.000') FROM gen;\n\
         INSERT INTO windows SELECT window_start, COUNT(*) FROM TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '5' SECOND) GROUP BY window_start, window_end;\n\
         END;\n",
        topic("orders", "")
    );
    let running = place.start(&sql, &[]);
    running.until("notice", |_, stderr| stderr.contains("scan.watermark.idle-timeout"));
    let (stdout, stderr) = running.so_far();
    assert!(!stdout.contains("+I["), "no window closes\n{stdout}");
    assert!(stderr.contains("orders: a partition without rows for 1"), "{stderr}");
    running.signal("INT");
    let ran = running.finish(Duration::from_secs(60)).ok();
    assert_eq!(ran.stderr.matches("idle-timeout' = ").count(), 2, "{ran:?}");
    // With what the notice says windows close.
    let helped = sql.replace("'format' = 'json'", "'format' = 'json', 'scan.watermark.idle-timeout' = '1 s'");
    let running = place.start(&helped, &[]);
    running.until("window", |stdout, _| stdout.contains("+I["));
    running.signal("INT");
    assert!(!running.finish(Duration::from_secs(60)).ok().stderr.contains("without rows"));
}

#[test]
fn a_source_whose_rows_are_all_late_is_told() {
    let place = Place::new();
    // The first row is far ahead of all others.
    let sql = |bounds: &str| {
        format!(
            "CREATE TABLE gen (id BIGINT, ts AS CASE WHEN id = 1 THEN TIMESTAMP '2099-01-01 00:00:00.000' ELSE TIMESTAMPADD(SECOND, CAST(id AS INT), TIMESTAMP '2024-01-01 00:00:00.000') END, \
             WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('connector' = 'datagen', 'rows-per-second' = '50', \
             'fields.id.kind' = 'sequence', 'fields.id.start' = '1', 'fields.id.end' = '{bounds}');\n\
             SELECT window_start, COUNT(*) AS n FROM TUMBLE(TABLE gen, DESCRIPTOR(ts), INTERVAL '5' SECOND) GROUP BY window_start, window_end;\n"
        )
    };
    let running = place.start(&sql("1000000"), &[]);
    running.until("notice", |_, stderr| stderr.contains("rows came behind the watermark"));
    running.signal("INT");
    let ran = running.finish(Duration::from_secs(60));
    assert_eq!(ran.stderr.matches("rows came behind the watermark").count(), 1, "{ran:?}");
    for part in ["gen: its last ", "the watermark is 2098-12-31 23:59:59", "`ts` - INTERVAL"] {
        assert!(ran.stderr.contains(part), "'{part}' is missing: {ran:?}");
    }
    // Also when the source ends before anybody could look.
    let ran = place.run(&sql("20"), &["-s", "execution.runtime-mode=streaming"]).ok();
    assert_eq!(ran.stderr.matches("rows came behind the watermark").count(), 1, "{ran:?}");
}

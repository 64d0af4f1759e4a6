-- January 2013: every flight out of New York, from a file through a Kafka topic into an Iceberg table.
-- Nothing has to be installed or started: the broker and the catalog run inside tidelake.
--
--   cargo run --release -- run data/quickstart.sql

-- 1. A file. NULL in dep_time is a flight that was cancelled.
CREATE TABLE flights (
  sched_dep  TIMESTAMP(3),
  dep_time   INT,
  dep_delay  INT,
  carrier    STRING,
  origin     STRING,
  dest       STRING
) WITH ('connector' = 'filesystem', 'path' = 'data/flights.parquet', 'format' = 'parquet');

-- 2. A topic of the embedded broker. Event time comes from the rows; they may be five minutes out of order.
CREATE TABLE departures (
  sched_dep  TIMESTAMP(3),
  dep_delay  INT,
  carrier    STRING,
  origin     STRING,
  WATERMARK FOR sched_dep AS sched_dep - INTERVAL '5' MINUTE
) WITH (
  'connector' = 'kafka',
  'topic' = 'departures',
  'properties.bootstrap.servers' = 'embedded',
  'scan.startup.mode' = 'earliest-offset',
  'scan.bounded.mode' = 'latest-offset',
  'format' = 'json'
);

-- 3. An Iceberg table in a folder of its own, with a SQLite catalog inside.
CREATE CATALOG lake WITH ('type' = 'iceberg', 'catalog-type' = 'sql', 'warehouse' = 'target/quickstart-lake');
CREATE DATABASE IF NOT EXISTS lake.nyc;
DROP TABLE IF EXISTS lake.nyc.delays;
CREATE TABLE lake.nyc.delays (
  window_start  TIMESTAMP(3),
  origin        STRING,
  flights       BIGINT,
  cancelled     BIGINT,
  avg_delay     DOUBLE,
  max_delay     INT
);

-- File to topic: 27,004 flights of January as JSON.
INSERT INTO departures
SELECT sched_dep, dep_delay, carrier, origin FROM flights WHERE sched_dep < TIMESTAMP '2013-02-01 00:00:00';

-- Topic to table: windows of an hour by event time. Each is written once, when the watermark has passed its end.
INSERT INTO lake.nyc.delays
SELECT
  window_start,
  origin,
  COUNT(*),
  COUNT(*) FILTER (WHERE dep_delay IS NULL),
  AVG(CAST(dep_delay AS DOUBLE)),
  MAX(dep_delay)
FROM TUMBLE(TABLE departures, DESCRIPTOR(sched_dep), INTERVAL '1' HOUR)
GROUP BY window_start, window_end, origin;

-- What landed: the ten worst hours with at least ten flights.
SELECT window_start, origin, flights, cancelled, ROUND(avg_delay, 1) AS avg_delay, max_delay
FROM lake.nyc.delays
WHERE flights >= 10
ORDER BY avg_delay DESC, window_start
LIMIT 10;

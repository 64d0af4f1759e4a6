-- A JSON file becomes a folder of Parquet files, partitioned by airport, and is read back.

CREATE TABLE flights (
  sched_dep TIMESTAMP(3), dep_delay INT, carrier STRING, flight INT, tailnum STRING, origin STRING, dest STRING,
  distance INT
) WITH ('connector' = 'filesystem', 'path' = 'data/flights-2013-w01.json', 'format' = 'json');

CREATE TABLE by_origin (
  sched_dep TIMESTAMP(3), dep_delay INT, carrier STRING, flight INT, dest STRING, distance INT, origin STRING
) PARTITIONED BY (origin)
WITH ('connector' = 'filesystem', 'path' = 'target/examples/by_origin', 'format' = 'parquet');

INSERT OVERWRITE by_origin
SELECT sched_dep, dep_delay, carrier, flight, dest, distance, origin FROM flights;

SELECT origin, COUNT(*) AS flights, MAX(distance) AS farthest
FROM by_origin
GROUP BY origin
ORDER BY origin;

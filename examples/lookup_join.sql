-- Flights that left very late, with the names of their airlines and destinations, looked up as the flights go by: files in
-- memory here, a table of a database with 'connector' = 'jdbc'.

CREATE TABLE flights (
  sched_dep TIMESTAMP(3), dep_time INT, dep_delay INT, arr_time INT, sched_arr_time INT, arr_delay INT,
  carrier STRING, flight INT, tailnum STRING, origin STRING, dest STRING, air_time INT, distance INT,
  pt AS PROCTIME()
) WITH ('connector' = 'filesystem', 'path' = 'data/flights-2013-01.csv.gz', 'format' = 'csv', 'csv.null-literal' = '');

CREATE TABLE airlines (carrier STRING, name STRING)
WITH ('connector' = 'filesystem', 'path' = 'data/airlines.csv', 'format' = 'csv');

-- Read again every hour, as it may change.
CREATE TABLE airports (faa STRING, name STRING, lat DOUBLE, lon DOUBLE, alt INT, tz INT, dst STRING, tzone STRING)
WITH ('connector' = 'filesystem', 'path' = 'data/airports.csv', 'format' = 'csv', 'csv.null-literal' = '',
  'lookup.full-cache.periodic-reload.interval' = '1 h');

SET 'execution.runtime-mode' = 'streaming';

SELECT f.sched_dep, a.name AS airline, f.flight, p.name AS destination, f.dep_delay
FROM flights AS f
JOIN airlines FOR SYSTEM_TIME AS OF f.pt AS a ON f.carrier = a.carrier
LEFT JOIN airports FOR SYSTEM_TIME AS OF f.pt AS p ON f.dest = p.faa
WHERE f.dep_delay > 500;

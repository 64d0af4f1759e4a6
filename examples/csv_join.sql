-- Who builds the planes that flew on January 1? A batch join of three CSV files.
-- CSV files have no header, as in Flink; an empty field is NULL.

CREATE TABLE flights (
  sched_dep TIMESTAMP(3), dep_time INT, dep_delay INT, arr_time INT, sched_arr_time INT, arr_delay INT,
  carrier STRING, flight INT, tailnum STRING, origin STRING, dest STRING, air_time INT, distance INT
) WITH (
  'connector' = 'filesystem', 'path' = 'data/flights-2013-01-01.csv', 'format' = 'csv', 'csv.null-literal' = ''
);

CREATE TABLE planes (
  tailnum STRING, built INT, type STRING, manufacturer STRING, model STRING,
  engines INT, seats INT, speed INT, engine STRING
) WITH ('connector' = 'filesystem', 'path' = 'data/planes.csv', 'format' = 'csv', 'csv.null-literal' = '');

CREATE TABLE airlines (carrier STRING, name STRING)
WITH ('connector' = 'filesystem', 'path' = 'data/airlines.csv', 'format' = 'csv');

SELECT a.name AS airline, p.manufacturer, COUNT(*) AS flights, SUM(p.seats) AS seats, MIN(p.built) AS oldest
FROM flights AS f
JOIN airlines AS a ON f.carrier = a.carrier
JOIN planes AS p ON f.tailnum = p.tailnum
GROUP BY a.name, p.manufacturer
HAVING COUNT(*) >= 20
ORDER BY flights DESC, airline;

-- Flights that left JFK more than three hours late, and the gusts there within the hour before: an interval join. It keeps
-- of either side no more than an hour, however long it runs.

CREATE TABLE flights (
  sched_dep TIMESTAMP(3), dep_time INT, dep_delay INT, arr_time INT, sched_arr_time INT, arr_delay INT,
  carrier STRING, flight INT, tailnum STRING, origin STRING, dest STRING, air_time INT, distance INT,
  WATERMARK FOR sched_dep AS sched_dep
) WITH ('connector' = 'filesystem', 'path' = 'data/flights-2013-01.csv.gz', 'format' = 'csv', 'csv.null-literal' = '');

-- Observed in UTC; in January New York is five hours behind.
CREATE TABLE weather (
  observed TIMESTAMP(3), temp DOUBLE, dewp DOUBLE, humid DOUBLE, wind_dir DOUBLE, wind_speed DOUBLE, wind_gust DOUBLE,
  precip DOUBLE, pressure DOUBLE, visib DOUBLE,
  local_time AS observed - INTERVAL '5' HOUR,
  WATERMARK FOR local_time AS local_time - INTERVAL '1' HOUR
) WITH ('connector' = 'filesystem', 'path' = 'data/weather/origin=JFK/weather.csv.gz', 'format' = 'csv', 'csv.null-literal' = '');

SET 'execution.runtime-mode' = 'streaming';

SELECT f.sched_dep, f.carrier, f.flight, f.dep_delay, ROUND(w.wind_gust, 1) AS gust
FROM flights AS f
JOIN weather AS w ON f.sched_dep BETWEEN w.local_time AND w.local_time + INTERVAL '59' MINUTE
WHERE f.origin = 'JFK' AND f.dep_delay > 180 AND w.wind_gust > 30
ORDER BY f.sched_dep;

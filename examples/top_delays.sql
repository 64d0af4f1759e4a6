-- The carriers whose flights left New York latest in 2013, on average. A batch query over one Parquet file.

CREATE TABLE flights (
  dep_delay  INT,
  carrier    STRING
) WITH ('connector' = 'filesystem', 'path' = 'data/flights.parquet', 'format' = 'parquet');

SELECT
  carrier,
  COUNT(*) AS flights,
  COUNT(*) FILTER (WHERE dep_delay IS NULL) AS cancelled,
  ROUND(AVG(CAST(dep_delay AS DOUBLE)), 1) AS avg_delay,
  MAX(dep_delay) AS max_delay
FROM flights
GROUP BY carrier
ORDER BY avg_delay DESC
LIMIT 5;

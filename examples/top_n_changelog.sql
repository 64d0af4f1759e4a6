-- The two longest delays at each airport, as they changed in the first hours of 2013. The result of a streaming top-N
-- changes: a row that enters the first two pushes another one out.

SET 'execution.runtime-mode' = 'streaming';
SET 'table.exec.mini-batch.size' = '1';   -- a change for every row, instead of one for every batch

CREATE TABLE flights (
  sched_dep  TIMESTAMP(3),
  dep_delay  INT,
  carrier    STRING,
  flight     INT,
  origin     STRING
) WITH ('connector' = 'filesystem', 'path' = 'data/flights-2013-w01.json', 'format' = 'json');

SELECT origin, carrier, flight, dep_delay
FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY origin ORDER BY dep_delay DESC) AS n
  FROM flights
  WHERE sched_dep < TIMESTAMP '2013-01-01 07:00:00' AND dep_delay > 5
)
WHERE n <= 2;

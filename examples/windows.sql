-- Departures of January 1 in windows of six hours, as a stream. Event time is the scheduled departure;
-- a window is printed once, when the watermark has passed its end.

SET 'execution.runtime-mode' = 'streaming';

CREATE TABLE flights (
  sched_dep  TIMESTAMP(3),
  dep_delay  INT,
  origin     STRING,
  WATERMARK FOR sched_dep AS sched_dep - INTERVAL '5' MINUTE
) WITH ('connector' = 'filesystem', 'path' = 'data/flights-2013-w01.json', 'format' = 'json');

SELECT window_start, origin, COUNT(*) AS flights, MAX(dep_delay) AS max_delay
FROM TUMBLE(TABLE flights, DESCRIPTOR(sched_dep), INTERVAL '6' HOUR)
WHERE sched_dep < TIMESTAMP '2013-01-02 00:00:00'
GROUP BY window_start, window_end, origin;

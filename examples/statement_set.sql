-- One streaming job with two results: the file is read once, hourly counts and late flights are written to two folders.

SET 'execution.runtime-mode' = 'streaming';

CREATE TABLE flights (
  sched_dep  TIMESTAMP(3),
  dep_delay  INT,
  carrier    STRING,
  origin     STRING,
  WATERMARK FOR sched_dep AS sched_dep - INTERVAL '5' MINUTE
) WITH ('connector' = 'filesystem', 'path' = 'data/flights-2013-w01.json', 'format' = 'json');

CREATE TABLE hourly (window_start TIMESTAMP(3), origin STRING, flights BIGINT)
WITH ('connector' = 'filesystem', 'path' = 'target/examples/hourly', 'format' = 'csv');

CREATE TABLE late (sched_dep TIMESTAMP(3), carrier STRING, origin STRING, dep_delay INT)
WITH ('connector' = 'filesystem', 'path' = 'target/examples/late', 'format' = 'json');

EXECUTE STATEMENT SET
BEGIN
  INSERT INTO hourly
  SELECT window_start, origin, COUNT(*)
  FROM TUMBLE(TABLE flights, DESCRIPTOR(sched_dep), INTERVAL '1' HOUR)
  GROUP BY window_start, window_end, origin;

  INSERT INTO late
  SELECT sched_dep, carrier, origin, dep_delay FROM flights WHERE dep_delay >= 180;
END;

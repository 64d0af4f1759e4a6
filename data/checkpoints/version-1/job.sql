-- The job whose checkpoint is kept beside it. It was killed on its way; a test lets it go on to its end.
SET 'execution.runtime-mode' = 'streaming';
SET 'execution.checkpointing.dir' = '$DIR';
SET 'execution.checkpointing.interval' = '600 ms';
SET 'pipeline.name' = 'golden';
CREATE TABLE g (id BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '1000', 'number-of-rows' = '4000',
  'fields.id.kind' = 'sequence', 'fields.id.start' = '1', 'fields.id.end' = '4000');
CREATE TABLE sums (k BIGINT, n BIGINT, s BIGINT, a BIGINT, z BIGINT, d BIGINT, PRIMARY KEY (k) NOT ENFORCED)
  WITH ('connector' = 'print', 'print-identifier' = 'sums');
CREATE TABLE newest (k BIGINT, id BIGINT, PRIMARY KEY (k) NOT ENFORCED)
  WITH ('connector' = 'print', 'print-identifier' = 'newest');
CREATE TABLE joined (id BIGINT) WITH ('connector' = 'print', 'print-identifier' = 'joined');
CREATE VIEW keyed AS SELECT id, CAST(MOD(id, 7) AS BIGINT) AS k FROM g;
EXECUTE STATEMENT SET BEGIN
  INSERT INTO sums SELECT k, COUNT(*), SUM(id), MIN(id), MAX(id), COUNT(DISTINCT id) FROM keyed GROUP BY k;
  INSERT INTO newest SELECT k, id FROM
    (SELECT k, id, ROW_NUMBER() OVER (PARTITION BY k ORDER BY id DESC) AS r FROM keyed) WHERE r = 1;
  INSERT INTO joined SELECT a.id FROM g AS a JOIN (SELECT id FROM keyed WHERE k = 0) AS b ON a.id = b.id;
END;

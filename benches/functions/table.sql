-- The table whose columns the functions are measured over: ROWS rows, made by tidelake itself.
CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = 'ROWS', 'rows-per-second' = '1000000000', 'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = 'LAST');

CREATE VIEW shuffled AS SELECT n, MOD(n * 7368787, 1000003) AS k FROM numbers;

CREATE TABLE data (
  i INT, j INT, l BIGINT, d DOUBLE, u DOUBLE, m DECIMAL(12, 2), p BOOLEAN, q BOOLEAN,
  s STRING, words STRING, csv STRING, email STRING, digits STRING, hexa STRING, base STRING, url STRING, ip STRING, pairs STRING, doc STRING, day_text STRING, octets BYTES,
  ts TIMESTAMP(3), ts2 TIMESTAMP(3), ltz TIMESTAMP_LTZ(3), dt DATE, tm TIME(3),
  a ARRAY<INT>, b ARRAY<INT>, sa ARRAY<STRING>, mp MAP<STRING, INT>, r ROW<x INT, y STRING>
) WITH ('connector' = 'filesystem', 'path' = 'FOLDER', 'format' = 'parquet', 'sink.rolling-policy.file-size' = '4gb');

INSERT INTO data
SELECT CAST(k AS INT), CAST(MOD(k, 9) + 1 AS INT), n * 7368787, CAST(k AS DOUBLE) / 7, CAST(MOD(k, 1999) AS DOUBLE) / 1000 - 1, CAST(CAST(k AS DECIMAL(12, 2)) / 8 AS DECIMAL(12, 2)), MOD(k, 3) = 0, MOD(k, 2) = 0,
  CONCAT('item-', CAST(k AS STRING)), CONCAT('the Quick brown fox ', CAST(k AS STRING), ' jumps over'), CONCAT('a;bc;', CAST(k AS STRING), ';def;gh'), CONCAT('user', CAST(k AS STRING), '@mail.example.org'),
  CAST(k AS STRING), HEX(k), TO_BASE64(CONCAT('item-', CAST(k AS STRING))), CONCAT('http://host.example.org:80/path/', CAST(k AS STRING), '?a=1&b=2#part'),
  CONCAT('10.1.', CAST(MOD(k, 256) AS STRING), '.7'), CONCAT('k1=v1,k2=', CAST(k AS STRING)), CONCAT('{"id": ', CAST(k AS STRING), ', "name": "item", "tags": [{"x": 1}, {"x": 5}]}'),
  CAST(TIMESTAMPADD(SECOND, CAST(k AS INT) * 61, TIMESTAMP '2001-02-03 04:05:06') AS STRING), ENCODE(CONCAT('item-', CAST(k AS STRING)), 'UTF-8'),
  CAST(TIMESTAMPADD(SECOND, CAST(k AS INT) * 61, TIMESTAMP '2001-02-03 04:05:06') AS TIMESTAMP(3)), CAST(TIMESTAMPADD(SECOND, CAST(k AS INT) * 17, TIMESTAMP '2011-02-03 04:05:06') AS TIMESTAMP(3)),
  TO_TIMESTAMP_LTZ(k * 61000, 3), CAST(TIMESTAMPADD(DAY, CAST(MOD(k, 20000) AS INT), DATE '1970-01-01') AS DATE), CAST(TIMESTAMPADD(SECOND, CAST(k AS INT), TIMESTAMP '2001-02-03 04:05:06') AS TIME(3)),
  ARRAY[CAST(MOD(k, 7) AS INT), 3, CAST(k AS INT), 1], ARRAY[1, 2, CAST(MOD(k, 7) AS INT)], ARRAY['a', CAST(k AS STRING), 'c'], MAP['a', CAST(k AS INT), 'b', 2], CAST(ROW(CAST(k AS INT), 'y') AS ROW<x INT, y STRING>)
FROM shuffled;

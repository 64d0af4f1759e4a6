-- The last exchange rate of each currency in 2025: deduplication, read as a stream. Run it with --result-mode final
-- to see the rows that are left, as batch gives them; without that every change is printed.

SET 'execution.runtime-mode' = 'streaming';

CREATE TABLE rates (
  `day`     DATE,
  currency  STRING,
  rate      DECIMAL(12, 4)
) WITH ('connector' = 'filesystem', 'path' = 'data/rates-2025.json', 'format' = 'json');

SELECT currency, `day`, rate
FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY currency ORDER BY `day` DESC) AS n
  FROM rates
  WHERE currency IN ('CHF', 'GBP', 'JPY', 'USD')
)
WHERE n = 1;

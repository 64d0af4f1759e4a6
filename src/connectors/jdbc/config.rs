//! What a table says: where the database is, how it is read and written.

use std::fmt;
use std::time::Duration;

use arrow::datatypes::DataType;

use super::dialect::Dialect;
use super::tls::{Encryption, Tls};
use crate::catalog::ResolvedTable;
use crate::connectors::synthetic::refuse_metadata;
use crate::edges::lookup::LookupCache;
use crate::error::{Error, Result};
use crate::options::{Options, url_hides_secret};

/// Where a database is and who asks.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub dialect: Dialect,
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: Option<String>,
    pub password: Option<String>,
    /// `currentSchema` of PostgreSQL.
    pub schema: Option<String>,
    /// How long connecting may take.
    pub timeout: Duration,
    /// `sslmode` and what belongs to it.
    pub tls: Tls,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Never with the password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}/{}", self.dialect.name(), self.host, self.port, self.database)
    }
}

/// `scan.partition.*`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ScanPartition {
    pub column: String,
    pub num: u32,
    pub lower: i64,
    pub upper: i64,
}

/// Everything a table says.
#[derive(Debug, Clone)]
pub(super) struct JdbcTable {
    /// Name for messages.
    pub name: String,
    pub address: Address,
    /// The table as SQL of the database.
    pub table: String,
    pub partition: Option<ScanPartition>,
    pub fetch_size: usize,
    pub lookup: LookupCache,
    pub lookup_retries: u32,
    pub flush_rows: usize,
    pub flush_interval: Option<Duration>,
    pub sink_retries: u32,
}

/// Rows per fetch where `scan.fetch-size` says nothing.
const FETCH_ROWS: usize = 8192;

impl JdbcTable {
    pub(super) fn parse(table: &ResolvedTable) -> Result<Self> {
        refuse_metadata(table, "jdbc")?;
        let name = table.def.path.to_string();
        let options = Options::new(&name, "jdbc", &table.options);
        let url = options.require("url")?;
        let mut address = parse_url(&url).map_err(|e| e.context(format!("table {name}")))?;
        address.user = options.take("username").or(address.user);
        address.password = options.take("password").or(address.password);
        address.timeout =
            options.duration("connection.max-retry-timeout")?.unwrap_or(Duration::from_secs(60));
        let table_name = options.require("table-name")?;
        // Of drivers and of what they are told nothing depends here.
        options.take("driver");
        options.bool("scan.auto-commit", true)?;
        options.one_of("filter.handling.policy", &["always", "never"])?;
        let partition = partition(&options, table)?;
        let fetch_size = options.parse::<usize>("scan.fetch-size", "a number of rows")?;
        let lookup = LookupCache::parse(&options, true)?;
        let retries = |key: &str| -> Result<u32> {
            Ok(options.parse::<u32>(key, "a number that is not negative")?.unwrap_or(3))
        };
        let (lookup_retries, sink_retries) = (retries("lookup.max-retries")?, retries("sink.max-retries")?);
        let flush_rows =
            options.parse::<usize>("sink.buffer-flush.max-rows", "a number of rows")?.unwrap_or(100);
        // 0 is no bound.
        let flush_rows = if flush_rows == 0 { usize::MAX } else { flush_rows };
        let flush_interval =
            options.duration("sink.buffer-flush.interval")?.unwrap_or(Duration::from_secs(1));
        options.finish()?;
        let supported = |ty: &DataType| !ty.is_nested();
        if let Some(field) = table.physical.fields().iter().find(|f| !supported(f.data_type())) {
            return Err(Error::unsupported(format!(
                "table {name}: column `{}` is of a type that the connector does not read or write: {}",
                field.name(),
                field.data_type()
            ))
            .hint("simple types are supported; read an array or a JSON value as STRING from a view of the database"));
        }
        Ok(JdbcTable {
            table: address.dialect.table(&table_name),
            name,
            address,
            partition,
            fetch_size: fetch_size.filter(|n| *n > 0).unwrap_or(FETCH_ROWS),
            lookup,
            lookup_retries,
            flush_rows,
            flush_interval: Some(flush_interval).filter(|i| !i.is_zero()),
            sink_retries,
        })
    }
}

fn partition(options: &Options, table: &ResolvedTable) -> Result<Option<ScanPartition>> {
    let (column, num) = ("scan.partition.column", "scan.partition.num");
    let (lower, upper) = ("scan.partition.lower-bound", "scan.partition.upper-bound");
    let name = options.take(column);
    let found = (
        name,
        options.parse::<u32>(num, "a number of parts")?,
        options.parse::<i64>(lower, "a whole number")?,
        options.parse::<i64>(upper, "a whole number")?,
    );
    match found {
        (None, None, None, None) => Ok(None),
        (Some(column), Some(num), Some(lower), Some(upper)) => {
            if lower > upper || num == 0 {
                return Err(Error::validation(format!(
                    "table {}: '{num}' has to be above 0, and 'scan.partition.lower-bound' not above 'scan.partition.upper-bound'",
                    table.def.path
                )));
            }
            if table.physical.index_of(&column).is_err() {
                return Err(options.invalid("scan.partition.column", &column, "a column of the table"));
            }
            Ok(Some(ScanPartition { column, num, lower, upper }))
        }
        _ => Err(Error::validation(format!(
            "table {}: '{column}', '{num}', '{lower}' and '{upper}' belong together: either none of them or all of them",
            table.def.path
        ))),
    }
}

/// Takes a JDBC URL apart.
fn parse_url(text: &str) -> Result<Address> {
    const EXPECTED: &str =
        "expected jdbc:postgresql://host:port/database, jdbc:mysql://… or jdbc:mariadb://…";
    // It may hold a password.
    let invalid = |what: &str| Error::validation(format!("the 'url' {what}")).hint(EXPECTED);
    let rest = text.trim().strip_prefix("jdbc:").ok_or_else(|| invalid("does not begin with jdbc:"))?;
    let url = url::Url::parse(rest).map_err(|_| invalid("is no URL"))?;
    let (dialect, port) = match url.scheme() {
        "postgresql" => (Dialect::Postgres, 5432),
        "mysql" | "mariadb" => (Dialect::Mysql, 3306),
        other => {
            return Err(Error::unsupported(format!("the database '{other}' of the 'url' is not supported"))
                .hint(EXPECTED));
        }
    };
    let mut address = Address {
        dialect,
        host: url
            .host_str()
            .filter(|h| !h.is_empty())
            .unwrap_or("localhost")
            .trim_matches(['[', ']'])
            .to_owned(),
        port: url.port().unwrap_or(port),
        database: decoded(url.path().trim_start_matches('/')),
        user: Some(decoded(url.username())).filter(|u| !u.is_empty()),
        password: url.password().map(decoded),
        schema: None,
        timeout: Duration::from_secs(60),
        tls: Tls::default(),
    };
    if address.database.is_empty() {
        return Err(invalid("names no database"));
    }
    // Else a password would be shown as the name of the database.
    if url.path().contains('@') {
        return Err(invalid("has a '@' behind the host: in a password write / as %2F, in a name @ as %40"));
    }
    for (key, value) in url.query_pairs() {
        match (dialect, key.as_ref()) {
            (_, "user") => address.user = Some(value.into_owned()),
            (_, "password") => address.password = Some(value.into_owned()),
            (Dialect::Postgres, "currentSchema") => address.schema = Some(value.into_owned()),
            (Dialect::Postgres, "sslmode") | (Dialect::Mysql, "sslMode") => {
                address.tls.encryption = Encryption::parse(&value).ok_or_else(|| {
                    Error::validation(format!("'{value}' is no value of '{key}' of the 'url'")).hint(
                        "disable, prefer, require, verify-ca, verify-full; of MySQL DISABLED, PREFERRED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY",
                    )
                })?;
            }
            (Dialect::Postgres, "ssl") => {
                address.tls.encryption =
                    if is_true(&key, &value)? { Encryption::Host } else { Encryption::Never };
            }
            (Dialect::Mysql, "useSSL") => {
                let (used, mode) = (is_true(&key, &value)?, address.tls.encryption);
                address.tls.encryption = if used { mode } else { Encryption::Never };
            }
            (Dialect::Mysql, "requireSSL") => {
                if is_true(&key, &value)? && !address.tls.encryption.is_required() {
                    address.tls.encryption = Encryption::Required;
                }
            }
            (Dialect::Mysql, "verifyServerCertificate") => {
                if is_true(&key, &value)? {
                    address.tls.encryption = Encryption::Trusted;
                }
            }
            (Dialect::Postgres, "sslrootcert") | (Dialect::Mysql, "serverSslCert") => {
                address.tls.authorities = Some(value.into_owned().into());
            }
            // What is said of text and zones is so in any case.
            (Dialect::Postgres, "reWriteBatchedInserts" | "ApplicationName" | "stringtype")
            | (
                Dialect::Mysql,
                "characterEncoding"
                | "useUnicode"
                | "rewriteBatchedStatements"
                | "allowPublicKeyRetrieval"
                | "autoReconnect",
            ) => {}
            (Dialect::Mysql, "serverTimezone" | "connectionTimeZone")
                if value.eq_ignore_ascii_case("UTC") => {}
            (_, key) => {
                // It may be the rest of a password with a & in it.
                let what = if url_hides_secret(text) {
                    "a parameter".to_owned()
                } else {
                    format!("the parameter '{key}'")
                };
                return Err(Error::unsupported(format!("{what} of the 'url' is not supported"))
                    .hint("supported: user, password; currentSchema, sslmode, ssl, sslrootcert (PostgreSQL); sslMode, useSSL, requireSSL, verifyServerCertificate, serverSslCert, serverTimezone=UTC (MySQL)"));
            }
        }
    }
    Ok(address)
}

/// The value of a parameter that is true or false.
fn is_true(key: &str, value: &str) -> Result<bool> {
    match value.to_ascii_lowercase().as_str() {
        // `?ssl` alone says so, too.
        "true" | "" => Ok(true),
        "false" => Ok(false),
        _ => Err(Error::validation(format!("'{key}' of the 'url' has to be true or false"))),
    }
}

/// Without percent encoding.
fn decoded(part: &str) -> String {
    // That of forms, but for what has a meaning only there.
    let form = format!("v={}", part.replace('+', "%2B").replace('&', "%26"));
    let mut values = url::form_urlencoded::parse(form.as_bytes()).map(|(_, value)| value.into_owned());
    values.next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let a =
            parse_url("jdbc:postgresql://db:6000/shop?user=u&password=p%20q&currentSchema=s&sslmode=disable")
                .unwrap();
        assert_eq!((a.host.as_str(), a.port, a.database.as_str()), ("db", 6000, "shop"));
        assert_eq!(
            (a.user.as_deref(), a.password.as_deref(), a.schema.as_deref()),
            (Some("u"), Some("p q"), Some("s"))
        );
        assert_eq!(format!("{a:?} {a}"), "postgresql://db:6000/shop postgresql://db:6000/shop");
        let a = parse_url("jdbc:mariadb://localhost/shop?useSSL=false&serverTimezone=UTC").unwrap();
        assert_eq!((a.dialect, a.port), (Dialect::Mysql, 3306));
        for (url, encryption) in [
            ("jdbc:postgresql://db/x", Encryption::Preferred),
            ("jdbc:postgresql://db/x?sslmode=require&sslrootcert=a%20b.pem", Encryption::Required),
            ("jdbc:postgresql://db/x?ssl=true", Encryption::Host),
            ("jdbc:mysql://db/x?useSSL=true&requireSSL=true", Encryption::Required),
            ("jdbc:mysql://db/x?sslMode=VERIFY_CA", Encryption::Trusted),
            ("jdbc:mariadb://db/x?sslMode=trust", Encryption::Required),
            ("jdbc:mysql://db/x?useSSL=false", Encryption::Never),
        ] {
            let tls = parse_url(url).unwrap().tls;
            assert_eq!(tls.encryption, encryption, "{url}");
            assert_eq!(tls.authorities.is_some(), url.contains("sslrootcert"));
        }
        let a = parse_url("jdbc:postgresql://b%40b:p%2Fa+%26=%25@db/my%20shop").unwrap();
        assert_eq!(
            (a.user.as_deref(), a.password.as_deref(), a.database.as_str()),
            (Some("b@b"), Some("p/a+&=%"), "my shop")
        );
        for (url, says) in [
            ("jdbc:postgresql://db/x?password=a&abc", "a parameter of"),
            ("jdbc:postgresql://bob:1/abc@db/x", "%2F"),
            ("postgresql://db/shop", "jdbc:"),
            ("jdbc:oracle://db/shop", "'oracle'"),
            ("jdbc:mysql://db", "no database"),
            ("jdbc:mysql://db/x?sslMode=maybe", "'maybe'"),
            ("jdbc:postgresql://db/x?ssl=maybe", "true or false"),
            ("jdbc:mysql://db/x?secret=abc", "'secret'"),
        ] {
            let e = parse_url(url).unwrap_err().to_string();
            assert!(e.contains(says) && !e.contains("abc"), "{e}");
        }
    }
}

//! Catalog options: which catalog, where its warehouse is, how its storage is reached.
//!
//! ```text
//!  CREATE CATALOG … WITH (…)  ─┐
//!                              ├─► CatalogConfig ─► Lake (an open catalog client)
//!  'connector' = 'iceberg' …  ─┘
//! ```
//!
//! | option | meaning |
//! |---|---|
//! | `catalog-type` | `sql` (default: SQLite) or `rest` |
//! | `warehouse` | folder or `s3://…`; for `rest` whatever the server calls a warehouse |
//! | `uri` | `sqlite:PATH`, or the REST server; default for `sql`: `catalog.db` inside the warehouse folder |
//! | `catalog-name` | name inside the catalog database; default: the name in `CREATE CATALOG` |
//! | `default-database` | created if missing; default `default` |
//! | `s3.*`, `client.*` | object store, in Iceberg's spelling; common Flink and Hadoop spellings are translated |
//! | `token`, `credential`, `scope`, `prefix`, `header.*`, … | REST properties, passed through |

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};

use url::Url;

use crate::error::{Error, Result};
use crate::options::{Options, is_secret};

/// Options of a table in SQL that say which catalog and table it is, and nothing else.
pub(super) const CONNECTION_KEYS: &[&str] = &[
    "type",
    "connector",
    "catalog-type",
    "catalog-name",
    "catalog-database",
    "catalog-table",
    "default-database",
    "warehouse",
    "uri",
];

const CONNECTION_PREFIXES: &[&str] = &["s3.", "client.", "fs.s3a.", "header.", "rest."];

const REST_KEYS: &[&str] =
    &["token", "credential", "scope", "audience", "resource", "prefix", "oauth2-server-uri"];

const STORAGE_KEYS: &[&str] = &[
    "s3.endpoint",
    "s3.access-key-id",
    "s3.secret-access-key",
    "s3.session-token",
    "s3.region",
    "client.region",
    "s3.path-style-access",
    "s3.sse.type",
    "s3.sse.key",
    "s3.sse.md5",
    "s3.allow-anonymous",
    "s3.disable-ec2-metadata",
    "s3.disable-config-load",
    "client.assume-role.arn",
    "client.assume-role.external-id",
    "client.assume-role.session-name",
];

/// Other spellings in common use: Flink's S3 file systems, Hadoop's s3a.
const STORAGE_ALIASES: &[(&str, &str)] = &[
    ("s3.access-key", "s3.access-key-id"),
    ("s3.secret-key", "s3.secret-access-key"),
    ("s3.path.style.access", "s3.path-style-access"),
    ("s3.endpoint.region", "s3.region"),
    ("fs.s3a.endpoint", "s3.endpoint"),
    ("fs.s3a.access.key", "s3.access-key-id"),
    ("fs.s3a.secret.key", "s3.secret-access-key"),
    ("fs.s3a.session.token", "s3.session-token"),
    ("fs.s3a.endpoint.region", "s3.region"),
    ("fs.s3a.path.style.access", "s3.path-style-access"),
];

/// Whether `key` tells how a catalog is reached, as opposed to a table property.
pub(super) fn is_connection_key(key: &str) -> bool {
    CONNECTION_KEYS.contains(&key)
        || REST_KEYS.contains(&key)
        || CONNECTION_PREFIXES.iter().any(|p| key.starts_with(p))
}

/// The kind of catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CatalogKind {
    /// SQLite.
    Sql,
    /// Iceberg's REST protocol.
    Rest,
}

impl CatalogKind {
    fn as_str(self) -> &'static str {
        match self {
            CatalogKind::Sql => "sql",
            CatalogKind::Rest => "rest",
        }
    }
}

/// Everything needed to open a catalog. Holds secrets: no `Debug`.
#[derive(Clone, PartialEq)]
pub(super) struct CatalogConfig {
    /// Name inside the catalog database and in messages.
    pub name: String,
    /// Its kind.
    pub kind: CatalogKind,
    /// `sqlite:…` or the REST server.
    pub uri: String,
    /// Location of the warehouse, with a scheme for `sql`.
    pub warehouse: Option<String>,
    /// Local folder that has to exist before the catalog is opened.
    pub folder: Option<PathBuf>,
    /// Storage and REST properties.
    pub properties: HashMap<String, String>,
    /// `default-database`.
    pub default_database: String,
}

impl CatalogConfig {
    /// Reads the catalog options out of `options`, leaving others for the caller to take or refuse.
    ///
    /// # Errors
    /// Validation for missing and bad values.
    pub fn parse(name: &str, options: &Options, base_dir: &Path) -> Result<Self> {
        let kind = match options.take("catalog-type").as_deref().map(str::trim) {
            None => CatalogKind::Sql,
            Some(t) if t.eq_ignore_ascii_case("sql") || t.eq_ignore_ascii_case("sqlite") => CatalogKind::Sql,
            Some(t) if t.eq_ignore_ascii_case("rest") => CatalogKind::Rest,
            Some(t) if ["hive", "hadoop", "glue", "jdbc", "nessie"].contains(&t) => {
                return Err(Error::unsupported(format!(
                    "catalog `{name}`: the Iceberg catalog type '{t}' is not supported"
                ))
                .hint("supported: 'sql' (a SQLite database) and 'rest'; Nessie, Glue, Polaris, Lakekeeper and others offer 'rest'"));
            }
            Some(t) => return Err(options.invalid("catalog-type", t, "'sql' or 'rest'")),
        };
        let inner_name = options.take("catalog-name").unwrap_or_else(|| name.to_owned());
        let default_database = options.take("default-database").unwrap_or_else(|| "default".to_owned());
        let warehouse = options.take("warehouse");
        let uri = options.take("uri");
        let mut properties = HashMap::new();
        for key in STORAGE_KEYS {
            if let Some(value) = options.take(key) {
                properties.insert((*key).to_owned(), value);
            }
        }
        for (alias, key) in STORAGE_ALIASES {
            if let Some(value) = options.take(alias) {
                properties.insert((*key).to_owned(), value);
            }
        }
        for key in ["s3.path-style-access", "s3.allow-anonymous"] {
            if let Some(v) = properties.get(key)
                && !v.eq_ignore_ascii_case("true")
                && !v.eq_ignore_ascii_case("false")
            {
                return Err(options.invalid(key, v, "true or false"));
            }
        }
        if let Some(endpoint) = properties.get_mut("s3.endpoint")
            && !endpoint.contains("://")
        {
            *endpoint = format!("https://{endpoint}");
        }
        // Without a region the S3 client asks AWS for it, which hangs on other stores.
        if properties.contains_key("s3.endpoint") && !properties.contains_key("client.region") {
            properties.entry("s3.region".to_owned()).or_insert_with(|| "us-east-1".to_owned());
        }
        match kind {
            CatalogKind::Sql => {
                Self::sql(inner_name, default_database, warehouse, uri, properties, options, base_dir)
            }
            CatalogKind::Rest => {
                for key in REST_KEYS {
                    if let Some(value) = options.take(key) {
                        properties.insert((*key).to_owned(), value);
                    }
                }
                for (key, value) in options.prefix("header.") {
                    properties.insert(format!("header.{key}"), value);
                }
                for (key, value) in options.prefix("rest.") {
                    properties.insert(format!("rest.{key}"), value);
                }
                let uri = uri.ok_or_else(|| {
                    Error::validation(format!("catalog `{name}`: a REST catalog needs the option 'uri'"))
                        .hint("add 'uri' = 'http://HOST:PORT' to the WITH clause")
                })?;
                let parsed = Url::parse(&uri).map_err(|e| {
                    options.invalid("uri", &uri, &format!("an address such as 'http://127.0.0.1:8181' ({e})"))
                })?;
                if !matches!(parsed.scheme(), "http" | "https") {
                    return Err(options.invalid("uri", &uri, "an http:// or https:// address"));
                }
                Ok(CatalogConfig {
                    name: inner_name,
                    kind,
                    uri: uri.trim_end_matches('/').to_owned(),
                    warehouse,
                    folder: None,
                    properties,
                    default_database,
                })
            }
        }
    }

    fn sql(
        name: String,
        default_database: String,
        warehouse: Option<String>,
        uri: Option<String>,
        properties: HashMap<String, String>,
        options: &Options,
        base_dir: &Path,
    ) -> Result<Self> {
        let warehouse = warehouse.ok_or_else(|| {
            Error::validation(format!("catalog `{name}`: the option 'warehouse' is missing")).hint(
                "add 'warehouse' = 'FOLDER' (or 's3://BUCKET/PATH' together with 'uri' = 'sqlite:FILE')",
            )
        })?;
        let local = local_path(&warehouse, base_dir);
        let location = match &local {
            Some(path) => format!("file://{}", path.display()),
            None => {
                let scheme = warehouse.split("://").next().unwrap_or_default();
                if !matches!(scheme, "s3" | "s3a" | "s3n") {
                    return Err(options.invalid(
                        "warehouse",
                        &warehouse,
                        "a folder, file:///PATH or s3://BUCKET/PATH",
                    ));
                }
                warehouse.trim_end_matches('/').to_owned()
            }
        };
        let uri = match (uri, &local) {
            (Some(uri), _) => sqlite_uri(&uri, base_dir).ok_or_else(|| {
                options.invalid("uri", &uri, "'sqlite:PATH' (other databases are not supported)")
            })?,
            (None, Some(path)) => sqlite_file_uri(&path.join("catalog.db"))?,
            (None, None) => {
                return Err(Error::validation(format!(
                    "catalog `{name}`: a SQLite catalog needs a local file, and the warehouse {warehouse} is not local"
                ))
                .hint("add 'uri' = 'sqlite:PATH/catalog.db', or use 'catalog-type' = 'rest'"));
            }
        };
        Ok(CatalogConfig {
            name,
            kind: CatalogKind::Sql,
            uri,
            warehouse: Some(location),
            folder: local,
            properties,
            default_database,
        })
    }

    /// The options that reach this catalog again, from anywhere: what a table of it carries so that
    /// `CREATE TABLE … LIKE` works in another catalog.
    pub fn to_options(&self) -> BTreeMap<String, String> {
        let mut all: BTreeMap<String, String> =
            self.properties.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        all.insert("connector".into(), "iceberg".into());
        all.insert("catalog-name".into(), self.name.clone());
        all.insert("catalog-type".into(), self.kind.as_str().into());
        all.insert("uri".into(), self.uri.clone());
        if let Some(w) = &self.warehouse {
            all.insert("warehouse".into(), w.clone());
        }
        all
    }

    /// Values that must not appear in any message.
    pub fn secrets(&self) -> Vec<String> {
        let header = |k: &str| k.starts_with("header.");
        self.properties
            .iter()
            .filter(|(k, v)| (is_secret(k) || header(k)) && v.len() > 3)
            .flat_map(|(_, v)| {
                // `credential` is `id:secret`, and a server may echo the secret alone.
                let secret = v.split_once(':').map(|(_, s)| s.to_owned()).filter(|s| s.len() > 3);
                std::iter::once(v.clone()).chain(secret).collect::<Vec<_>>()
            })
            .collect()
    }
}

/// The absolute local path that `location` means, `None` if it has another scheme.
fn local_path(location: &str, base_dir: &Path) -> Option<PathBuf> {
    let path = match location.split_once("://") {
        Some(("file", rest)) => PathBuf::from(rest),
        Some(_) => return None,
        None => PathBuf::from(location.strip_prefix("file:").unwrap_or(location)),
    };
    Some(absolute(&path, base_dir))
}

/// Absolute and without `.` and `..`, so that a table has one spelling of its location.
fn absolute(path: &Path, base_dir: &Path) -> PathBuf {
    let joined = base_dir.join(path);
    let joined = std::path::absolute(&joined).unwrap_or(joined);
    let mut clean = PathBuf::new();
    for part in joined.components() {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
}

fn sqlite_uri(uri: &str, base_dir: &Path) -> Option<String> {
    let rest = uri.strip_prefix("jdbc:").unwrap_or(uri).strip_prefix("sqlite:")?;
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (path, query) = rest.split_once('?').map_or((rest, None), |(p, q)| (p, Some(q)));
    if path.is_empty() || path == ":memory:" {
        return None;
    }
    let path = match Url::parse(&format!("file://{path}")) {
        // Our own spelling is percent-encoded; a plain path is not.
        Ok(u) if path.contains('%') && path.starts_with('/') => u.to_file_path().ok()?,
        _ => absolute(Path::new(path), base_dir),
    };
    let plain = sqlite_file_uri(&path).ok()?;
    match query {
        None | Some("mode=rwc") => Some(plain),
        Some(_) => None,
    }
}

fn sqlite_file_uri(path: &Path) -> Result<String> {
    let url = Url::from_file_path(path)
        .map_err(|()| Error::validation(format!("{} is not an absolute path", path.display())))?;
    Ok(format!("sqlite://{}?mode=rwc", url.path()))
}

/// The folder of the database file of a `sqlite:` address made by this module.
pub(super) fn sqlite_folder(uri: &str) -> Option<PathBuf> {
    let path = uri.strip_prefix("sqlite://")?.split('?').next()?;
    let path = Url::parse(&format!("file://{path}")).ok()?.to_file_path().ok()?;
    path.parent().map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<CatalogConfig> {
        let map = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let options = Options::new("lake", "iceberg", &map);
        let config = CatalogConfig::parse("lake", &options, Path::new("/base"))?;
        options.finish()?;
        Ok(config)
    }

    #[test]
    fn embedded_default() {
        let c = parse(&[("warehouse", "wh/../my lake")]).unwrap();
        assert_eq!(c.warehouse.as_deref(), Some("file:///base/my lake"));
        assert_eq!(c.uri, "sqlite:///base/my%20lake/catalog.db?mode=rwc");
        assert_eq!(sqlite_folder(&c.uri).unwrap(), Path::new("/base/my lake"));
        // What a table carries leads back to the same catalog.
        let again = c.to_options();
        let pairs: Vec<(&str, &str)> =
            again.iter().filter(|(k, _)| *k != "connector").map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let c2 = parse(&pairs).unwrap();
        assert_eq!((c2.uri, c2.warehouse), (c.uri, c.warehouse));
    }

    #[test]
    fn refusals_name_the_way_out() {
        let hint = |r: Result<CatalogConfig>| r.err().unwrap().to_string();
        assert!(hint(parse(&[])).contains("'warehouse' = 'FOLDER'"));
        assert!(hint(parse(&[("catalog-type", "hive"), ("warehouse", "x")])).contains("'rest'"));
        assert!(hint(parse(&[("catalog-type", "rest")])).contains("'uri'"));
        assert!(hint(parse(&[("warehouse", "s3://b/x")])).contains("sqlite:PATH"));
        assert!(hint(parse(&[("warehouse", "x"), ("uri", "postgres://h/db")])).contains("other databases"));
        assert!(hint(parse(&[("warehouse", "x"), ("s3.acess-key", "y")])).contains("s3.acess-key"));
        assert!(hint(parse(&[("warehouse", "gs://b/x")])).contains("s3://BUCKET"));
    }

    #[test]
    fn spellings_and_secrets() {
        let c = parse(&[
            ("warehouse", "s3://b/x/"),
            ("uri", "sqlite:cat.db"),
            ("s3.access-key", "AKIA1234"),
            ("fs.s3a.secret.key", "topsecret"),
            ("s3.path.style.access", "true"),
            ("s3.endpoint", "http://localhost:9000"),
        ])
        .unwrap();
        assert_eq!(c.uri, "sqlite:///base/cat.db?mode=rwc");
        assert_eq!(c.warehouse.as_deref(), Some("s3://b/x"));
        assert_eq!(c.properties.get("s3.secret-access-key").map(String::as_str), Some("topsecret"));
        assert_eq!(c.properties.get("s3.region").map(String::as_str), Some("us-east-1"));
        assert!(c.secrets().contains(&"topsecret".to_owned()));
    }
}

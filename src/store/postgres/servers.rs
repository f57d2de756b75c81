//! The servers that `DATABASE_URL` names, one or several, and which of them is used. Decides nothing about the schema.

use std::{
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::time::timeout;
use url::Url;

use super::session::{explain_start, too_slow};
use crate::store::StoreError;

/// Least time between two searches for the server that can be written.
const SEARCH_PAUSE: Duration = Duration::from_secs(1);

/// The servers of one database: a primary and those that may become it.
pub(super) struct Servers {
    all: Vec<PgConnectOptions>,
    chosen: AtomicUsize,
    /// When the choice changed last.
    chosen_at: Mutex<Instant>,
    /// When a search began last; held while one is under way.
    search: tokio::sync::Mutex<Option<Instant>>,
    /// Longest wait for one server.
    patience: Duration,
}

impl Servers {
    /// # Errors
    /// The text is not an address of Postgres.
    pub(super) fn new(url: &str, patience: Duration) -> Result<Arc<Self>, StoreError> {
        Ok(Arc::new(Self {
            all: options(url)?,
            chosen: AtomicUsize::new(0),
            chosen_at: Mutex::new(Instant::now()),
            search: tokio::sync::Mutex::new(None),
            patience,
        }))
    }

    pub(super) fn are_several(&self) -> bool {
        self.all.len() > 1
    }

    /// Number of the server that is used now.
    pub(super) fn chosen(&self) -> usize {
        self.chosen.load(Relaxed)
    }

    /// How to connect to the server that is used now.
    pub(super) fn current(&self, application: &str) -> PgConnectOptions {
        let options = self.all.get(self.chosen()).or(self.all.first()).cloned();
        options.unwrap_or_default().application_name(application)
    }

    /// How long ago the choice changed.
    pub(super) fn chosen_for(&self) -> Duration {
        self.chosen_at.lock().elapsed()
    }

    /// Names of all, as people write them.
    #[cfg(test)]
    fn names(&self) -> String {
        self.all.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    /// Looks for the server that can be written, unless another caller does so just now or did a moment ago.
    pub(super) async fn search(&self) {
        let Ok(mut last) = self.search.try_lock() else { return };
        if last.is_some_and(|began| began.elapsed() < SEARCH_PAUSE) {
            return;
        }
        *last = Some(Instant::now());
        if let Ok(connection) = self.connect("hadir").await {
            let _closed = timeout(self.patience, connection.close()).await;
        }
    }

    /// A connection with nothing set, to the first server that can be written; with one server, to that one.
    ///
    /// # Errors
    /// None of them lets us in; the text says why for each.
    pub(super) async fn connect(&self, application: &str) -> Result<PgConnection, StoreError> {
        let first = self.chosen();
        let mut refusals = Vec::new();
        for step in 0..self.all.len() {
            let number = (first + step) % self.all.len();
            match self.connect_to(number, application).await {
                Ok(connection) => {
                    if self.chosen.swap(number, Relaxed) != number {
                        *self.chosen_at.lock() = Instant::now();
                        let server = self.all.get(number).map(name).unwrap_or_default();
                        tracing::info!(%server, "this server of Postgres is used from now on");
                    }
                    return Ok(connection);
                }
                Err(why) => refusals.push(why),
            }
        }
        let is_final = refusals.iter().all(|why| matches!(why, StoreError::Invalid(_)));
        let said: Vec<String> = refusals
            .into_iter()
            .map(|why| match why {
                StoreError::Invalid(why) | StoreError::Unavailable(why) => why,
                other => other.to_string(),
            })
            .collect();
        let said = said.join("; ");
        Err(if is_final { StoreError::Invalid(said) } else { StoreError::Unavailable(said) })
    }

    async fn connect_to(&self, number: usize, application: &str) -> Result<PgConnection, StoreError> {
        let Some(options) = self.all.get(number) else { return Err(too_slow()) };
        let connecting = async {
            let mut connection = PgConnection::connect_with(&options.clone().application_name(application)).await?;
            if self.are_several() {
                let read_only = sqlx::raw_sql("SHOW transaction_read_only").fetch_one(&mut connection).await?;
                if sqlx::Row::try_get::<String, _>(&read_only, 0)? == "on" {
                    return Ok(None);
                }
            }
            Ok(Some(connection))
        };
        match timeout(self.patience, connecting).await {
            Ok(Ok(Some(connection))) => Ok(connection),
            Ok(Ok(None)) => Err(StoreError::Unavailable(format!("{} cannot be written: a replica", name(options)))),
            Ok(Err(error)) => Err(in_words(error, options)),
            Err(_) => Err(StoreError::Unavailable(format!("{} did not accept a connection in time", name(options)))),
        }
    }
}

/// A server as people write it.
fn name(options: &PgConnectOptions) -> String {
    let (host, port) = (options.get_host(), options.get_port());
    match options.get_socket() {
        Some(socket) => format!("Postgres at the socket {}", socket.display()),
        None if host.contains(':') => format!("Postgres at [{host}]:{port}"),
        None => format!("Postgres at {host}:{port}"),
    }
}

/// Why there is no connection, with host and port, and without the driver's own words where ours say more.
fn in_words(error: sqlx::Error, options: &PgConnectOptions) -> StoreError {
    use std::io::ErrorKind;
    let server = name(options);
    let no_tls = |why: String| {
        format!("{server}: TLS failed ({why}); `sslrootcert=` in DATABASE_URL names the file of a private CA")
    };
    let why = match error {
        sqlx::Error::Io(error) => match error.kind() {
            // What the other side sent makes no sense to TLS: a certificate of an unknown CA, or of another name.
            ErrorKind::InvalidData => no_tls(error.to_string()),
            ErrorKind::ConnectionRefused => format!("{server}: connection refused, nothing listens there"),
            ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe => {
                format!("{server} ended the connection before it could be used")
            }
            _ if error.to_string().contains("lookup") => format!("{server}: this name cannot be resolved ({error})"),
            _ => format!("{server} cannot be reached ({error})"),
        },
        sqlx::Error::Tls(error) => no_tls(error.to_string()),
        sqlx::Error::Configuration(error) => format!("{server}: the address cannot be used ({error})"),
        other => return explain_start(other),
    };
    StoreError::Unavailable(why)
}

/// One set of options for each server that the address names.
fn options(url: &str) -> Result<Vec<PgConnectOptions>, StoreError> {
    // Why is not said: the text may hold the password.
    let not_an_address = || {
        StoreError::Invalid(
            "DATABASE_URL is not an address of Postgres: write postgres://user:password@host:5432/database; special \
             characters in the password as %XX, sslmode one of disable, allow, prefer, require, verify-ca, verify-full, \
             several servers as host1:5432,host2:5432, target_session_attrs one of any, read-write, primary"
                .to_owned(),
        )
    };
    each_host(url)
        .and_then(|urls| urls.iter().map(options_of_one).collect::<Option<Vec<_>>>())
        .filter(|all| !all.is_empty())
        .ok_or_else(not_an_address)
}

fn options_of_one(url: &Url) -> Option<PgConnectOptions> {
    let options = PgConnectOptions::from_str(url.as_str()).ok()?;
    // The driver looks an IPv6 address up with its brackets.
    let literal = options.get_host().strip_prefix('[').and_then(|host| host.strip_suffix(']')).map(str::to_owned);
    let options = literal.into_iter().fold(options, |options, host| options.host(&host));
    // Poolers refuse this parameter, and nothing here reads a floating-point number.
    Some(options.extra_float_digits(None))
}

/// The address once for each of its hosts: `a:1,b:2` before the path, or `host=a,b&port=1,2` in the query. Without the
/// parameter that the driver does not know.
fn each_host(text: &str) -> Option<Vec<Url>> {
    let (scheme, rest) = text.split_once("://")?;
    if !matches!(scheme, "postgres" | "postgresql") {
        return None;
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (user, hosts) = authority.rsplit_once('@').map_or(("", authority), |(user, hosts)| (user, hosts));
    let at = if user.is_empty() { "" } else { "@" };
    let mut urls = Vec::new();
    for host in hosts.split(',') {
        urls.extend(each_in_query(&Url::parse(&format!("{scheme}://{user}{at}{host}{path}")).ok()?)?);
    }
    Some(urls)
}

fn each_in_query(url: &Url) -> Option<Vec<Url>> {
    let mut others: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let mut take = |wanted: &str| {
        let found = others.iter().rposition(|(name, _)| name == wanted)?;
        Some(others.remove(found).1)
    };
    let wanted = take("target_session_attrs");
    if !matches!(wanted.as_deref(), None | Some("any" | "read-write" | "primary")) {
        return None;
    }
    let (hosts, ports) = (take("host"), take("port"));
    let hosts: Vec<Option<&str>> = hosts.as_deref().map_or(vec![None], |all| all.split(',').map(Some).collect());
    let ports: Vec<Option<&str>> = ports.as_deref().map_or(vec![None], |all| all.split(',').map(Some).collect());
    if ports.len() > 1 && ports.len() != hosts.len() {
        return None;
    }
    let one = |(number, host): (usize, &Option<&str>)| {
        let mut url = url.clone();
        url.set_query(None);
        let port = ports.get(number).or(ports.first()).copied().flatten();
        let own = [("host", *host), ("port", port)].into_iter().filter_map(|(name, value)| Some((name, value?)));
        let others = others.iter().map(|(name, value)| (&**name, &**value));
        for (name, value) in others.chain(own) {
            url.query_pairs_mut().append_pair(name, value);
        }
        url
    };
    Some(hosts.iter().enumerate().map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(url: &str) -> String {
        Servers::new(url, Duration::ZERO).map_or_else(|error| format!("refused: {error}"), |servers| servers.names())
    }

    #[test]
    fn an_address_names_one_server_or_several() {
        for (url, names) in [
            ("postgres://u:p%40@db/hadir", "Postgres at db:5432"),
            ("postgresql://u@[::1]:6000/hadir?sslmode=disable", "Postgres at [::1]:6000"),
            ("postgres://u@a:1,[fe80::1]:2,c/hadir", "Postgres at a:1, Postgres at [fe80::1]:2, Postgres at c:5432"),
            ("postgres://u@a:1,b:2/hadir?target_session_attrs=read-write", "Postgres at a:1, Postgres at b:2"),
            ("postgres:///hadir?host=a,b&port=1,2", "Postgres at a:1, Postgres at b:2"),
            ("postgres:///hadir?host=a,b&port=7", "Postgres at a:7, Postgres at b:7"),
            ("postgres:///hadir?host=/run/postgresql", "Postgres at the socket /run/postgresql"),
        ] {
            assert_eq!(named(url), names, "{url}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_without_repeating_it() {
        for url in [
            "mysql://u:swordfish@db/hadir",
            "swordfish",
            "postgres://u:swordfish@a:1,b:x/hadir",
            "postgres://u:swordfish@a,b/hadir?target_session_attrs=standby",
            "postgres://u:swordfish@/hadir?host=a,b,c&port=1,2",
        ] {
            let said = named(url);
            assert!(said.contains("DATABASE_URL is not an address") && !said.contains("swordfish"), "{url}: {said}");
        }
    }
}

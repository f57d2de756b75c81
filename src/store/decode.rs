//! Rows that cannot be decoded: each costs itself, never the page it stands on, and the log says which it is.

use std::{
    collections::HashMap,
    fmt::Display,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::StoreError;

/// One line for a row in this time: some rows are read twice a second.
const TOLD_EVERY: Duration = Duration::from_secs(600);
/// Rows that are remembered as told.
const TOLD: usize = 1_000;

static LAST_TOLD: Mutex<Option<HashMap<String, Instant>>> = Mutex::new(None);

/// Values of these rows, but for those that cannot be decoded; `id` names a row in the log.
pub(super) fn decoded<Row, Value, Id: Display, Error: Display>(
    rows: &[Row],
    what: &'static str,
    id: impl Fn(&Row) -> Result<Id, Error>,
    decode: impl Fn(&Row) -> Result<Value, Error>,
) -> Vec<Value> {
    let value = |row| match decode(row) {
        Ok(value) => Some(value),
        Err(error) => {
            complain(what, &id(row).map_or_else(|_| "unknown".to_owned(), |id| id.to_string()), &error);
            None
        }
    };
    rows.iter().filter_map(value).collect()
}

/// The answer for a row that cannot be decoded and was asked for by its id.
pub(super) fn unreadable(what: &'static str, id: impl Display, error: &impl Display) -> StoreError {
    complain(what, &id.to_string(), error);
    StoreError::Unreadable(format!("{what} {id}"))
}

fn complain(what: &'static str, id: &str, error: &impl Display) {
    let mut told = LAST_TOLD.lock();
    let told = told.get_or_insert_default();
    if told.len() >= TOLD {
        told.retain(|_, at| at.elapsed() < TOLD_EVERY);
    }
    let key = format!("{what} {id}");
    if told.get(&key).is_some_and(|at| at.elapsed() < TOLD_EVERY) || told.len() >= TOLD {
        return;
    }
    told.insert(key, Instant::now());
    tracing::error!(what, id, %error, "a row of the store cannot be read; it is left out until it is corrected");
}

/// A page of `$limit` values, though some rows cannot be decoded: reads on after the last row, whatever it was, until the
/// page is full or nothing follows. `$ask` asks for `$wanted` rows after `$after`.
macro_rules! whole_page {
    ($limit:expr, $first:expr, |$after:ident, $wanted:ident| $ask:expr, $cursor:expr, $decode:expr) => {{
        let (limit, cursor, decode) = ($limit, $cursor, $decode);
        let (mut page, mut place) = (Vec::new(), $first);
        loop {
            let ($after, $wanted) = (&place, limit - page.len() as u32);
            let rows = $ask.await?;
            page.extend(decode(&rows));
            match rows.last() {
                Some(last) if rows.len() as u32 >= $wanted && (page.len() as u32) < limit => {
                    place = cursor(last).map_err(explain)?;
                }
                _ => break Ok(page),
            }
        }
    }};
}
pub(super) use whole_page;

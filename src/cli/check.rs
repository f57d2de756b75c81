//! `hadir check`.

use std::{fmt::Write, process::ExitCode};

use crate::{
    app::{self, CheckLine},
    config::{Config, Values},
};

/// Prints a line for the configuration and for everything that `serve` needs; fails when one is wrong.
pub(super) async fn report(values: &Values) -> anyhow::Result<ExitCode> {
    let config = Config::from_values(values)?;
    let lines = app::check(&config).await;
    super::print(&text(&lines, &values.misnamed()))?;
    let right = lines.iter().all(|line| line.result.is_ok());
    Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(lines: &[CheckLine], hints: &[String]) -> String {
    let mut text = "ok    configuration: valid\n".to_owned();
    for hint in hints {
        let _ = writeln!(text, "note  configuration: {hint}");
    }
    for CheckLine { name, result } in lines {
        let _ = match result {
            Ok(found) => writeln!(text, "ok    {name}: {found}"),
            Err(wrong) => writeln!(text, "wrong {name}: {wrong}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_has_its_line() {
        let lines = [
            CheckLine { name: "store".to_owned(), result: Ok("SQLite, writable".to_owned()) },
            CheckLine { name: "mirror".to_owned(), result: Err("cannot be reached: start Valkey".to_owned()) },
        ];
        assert_eq!(
            text(&lines, &["A is set, but Hadir reads B".to_owned()]),
            "ok    configuration: valid\nnote  configuration: A is set, but Hadir reads B\nok    store: SQLite, writable\nwrong mirror: cannot be reached: start Valkey\n"
        );
    }
}

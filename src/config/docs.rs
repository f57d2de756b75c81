//! The table of settings in words: for `hadir config` and for `docs/configuration.md`.

use std::fmt::Write;

use super::{
    setting::{Preset, Spec},
    table::SECTIONS,
    values::Values,
};

/// The effective configuration, a line per setting: name, value (secrets masked), unit, where it came from.
pub fn effective(values: &Values) -> String {
    let mut text = String::new();
    for section in SECTIONS {
        let lines: Vec<_> =
            section.settings.iter().map(|setting| setting.spec()).map(|spec| line(spec, values)).collect();
        let width = lines.iter().map(|(left, _)| left.chars().count()).max().unwrap_or(0).min(72);
        let _ = writeln!(text, "{}# {}", if text.is_empty() { "" } else { "\n" }, section.title);
        for (left, origin) in lines {
            let _ = writeln!(text, "{left:width$}  # {origin}");
        }
    }
    text
}

fn line(spec: &Spec, values: &Values) -> (String, String) {
    let (value, origin) = values.shown(spec);
    (format!("{}={value}", spec.name), origin.to_string())
}

/// The reference of all settings as Markdown, a table per section.
pub fn reference() -> String {
    let mut text = String::new();
    for section in SECTIONS {
        let _ = writeln!(text, "\n### {}\n\n| variable | default | unit | meaning |\n|---|---|---|---|", section.title);
        for setting in section.settings {
            let spec = setting.spec();
            let default = match spec.preset {
                Preset::Value("") => "empty".to_owned(),
                Preset::Value(value) => format!("`{value}`"),
                Preset::Unset(words) => words.to_owned(),
            };
            let file = spec.file_name().map_or(String::new(), |name| format!(" Or a file: `{name}`."));
            let _ = writeln!(text, "| `{}` | {default} | {} | {}{file} |", spec.name, spec.unit, spec.doc);
        }
    }
    text
}

//! Where values come from: flags, environment, a TOML file, defaults, and files named in `<NAME>_FILE`.
//!
//! Knows names and texts only; the section files give them types. Collects every problem instead of stopping at the
//! first.

use std::{collections::BTreeMap, ffi::OsString, fmt, path::Path};

use super::{
    misnamed::meant_by,
    secret::{MASK, masked_url},
    service_links::is_service_link,
    setting::{AnySetting, Preset, Secrecy, Setting, Spec, flag_of},
    table,
};

/// A secret file larger than this is not one.
const LARGEST_SECRET_FILE_BYTES: usize = 64 * 1024;

/// Names that sound alike at least this much are suggested.
const ALIKE: f64 = 0.88;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag,
    /// An environment variable.
    Environment,
    /// The TOML file of `--config`.
    File(String),
    /// Given by the program that builds the configuration (tests).
    Pair,
    /// Read from this file, which the variable `<NAME>_FILE` names.
    SecretFile(String),
    /// Nobody set it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Environment => f.write_str("environment"),
            Self::File(path) => write!(f, "{path}"),
            Self::Pair => f.write_str("caller"),
            Self::SecretFile(path) => write!(f, "secret file {path}"),
            Self::Default => f.write_str("default"),
        }
    }
}

#[derive(Clone, Debug)]
struct Given {
    text: String,
    origin: Origin,
}

/// What was set, by name, the strongest source only.
#[derive(Clone, Default)]
pub struct Values {
    given: BTreeMap<&'static str, Given>,
    /// Values of `<NAME>_FILE`, by NAME, until [`Values::read_secret_files`].
    files: BTreeMap<&'static str, Given>,
    /// Variables of the environment that describe a Service of Kubernetes.
    service_links: Vec<String>,
    /// Other variables of the environment, which other programs may read.
    others: Vec<String>,
    pub(super) errors: Vec<String>,
}

impl Values {
    /// Sets one value; the source that sets last wins.
    pub fn set(&mut self, name: &str, text: &str, origin: Origin) {
        let given = Given { text: text.to_owned(), origin: origin.clone() };
        if let Some(spec) = table::find(name) {
            self.given.insert(spec.name, given);
        } else if let Some(spec) = name.strip_suffix("_FILE").and_then(table::find).filter(|spec| spec.from_file) {
            self.files.insert(spec.name, given);
        } else {
            self.errors.push(format!("{name} (from {origin}) is not a setting: {}.", advice_for(name)));
        }
    }

    /// Takes the environment: every known name, and complains about unknown ones that begin with `HADIR_`. Variables
    /// that Kubernetes injects for a Service of such a name are left alone and named by [`Values::service_links`].
    pub fn set_environment(&mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) {
        for (name, value) in variables {
            let Some(name) = name.to_str() else { continue };
            if !name.starts_with("HADIR_") && !is_known(name) {
                self.others.push(name.to_owned());
                continue;
            }
            match value.to_str() {
                Some(value) if !is_known(name) && is_service_link(name, value) => {
                    self.service_links.push(name.to_owned());
                }
                Some(value) => self.set(name, value, Origin::Environment),
                None => self.errors.push(format!("{name} (from environment) is not UTF-8: write it in UTF-8.")),
            }
        }
    }

    /// Takes a TOML file: top-level keys, the names in lower case.
    pub fn set_file(&mut self, path: &Path) {
        let shown = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => self.set_toml(&text, &shown),
            Err(error) => self.errors.push(format!(
                "The configuration file {shown} cannot be read ({error}): correct --config or the file."
            )),
        }
    }

    pub(super) fn set_toml(&mut self, text: &str, shown: &str) {
        let table: toml::Table = match text.parse() {
            Ok(table) => table,
            Err(error) => {
                // The error's own display quotes the line, which may hold a secret.
                let error: toml::de::Error = error;
                let before = error.span().map_or(0, |span| span.start.min(text.len()));
                let line = text.as_bytes()[..before].iter().filter(|byte| **byte == b'\n').count() + 1;
                let why = error.message().lines().next().unwrap_or("syntax").to_owned();
                self.errors.push(format!("{shown} is not TOML in line {line} ({why}): correct it."));
                return;
            }
        };
        for (key, value) in table {
            let name = key.to_ascii_uppercase();
            if key != key.to_ascii_lowercase() || !is_known(&name) {
                self.errors.push(format!("{key} (from {shown}) is not a setting: {}.", advice_for_key(&name)));
                continue;
            }
            match plain_text(&value) {
                Some(text) => self.set(&name, &text, Origin::File(shown.to_owned())),
                None => self.errors.push(format!(
                    "{key} (from {shown}) is a table or a date: write a text, a number, true or false, or a list of texts."
                )),
            }
        }
    }

    /// Reads the files that `<NAME>_FILE` names. Call once, after all sources.
    pub fn read_secret_files(&mut self) {
        for (name, file) in std::mem::take(&mut self.files) {
            if let Some(direct) = self.given.get(name) {
                self.errors.push(format!(
                    "{name} (from {}) and {name}_FILE (from {}) are both set: remove one of them.",
                    direct.origin, file.origin
                ));
                continue;
            }
            match read_secret(Path::new(&file.text)) {
                Ok(text) => {
                    self.given.insert(name, Given { text, origin: Origin::SecretFile(file.text) });
                }
                Err(why) => {
                    self.errors.push(format!(
                        "{name}_FILE (from {}) is `{}`, which {why}: name a text file that this user can read.",
                        file.origin, file.text
                    ));
                    // Counts as set, so that nothing else complains that it is missing.
                    self.given.insert(name, Given { text: String::new(), origin: Origin::SecretFile(file.text) });
                }
            }
        }
    }

    /// Variables of the environment that were ignored: Kubernetes injected them for a Service.
    pub fn service_links(&self) -> &[String] {
        &self.service_links
    }

    /// Variables of the environment that were probably meant for a setting which is not set, a sentence each.
    pub fn misnamed(&self) -> Vec<String> {
        let is_set = |name: &str| self.is_set(name) || self.files.contains_key(name);
        let hint = |name: &String| {
            let meant = meant_by(name, is_set)?;
            Some(format!("{name} is set, but Hadir reads {meant}"))
        };
        self.others.iter().filter_map(hint).collect()
    }

    /// Whether anybody set it.
    pub fn is_set(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// The value as it may be shown, and where it came from.
    pub fn shown(&self, spec: &Spec) -> (String, Origin) {
        match (self.given.get(spec.name), spec.preset) {
            (Some(given), _) => (mask(spec, &given.text), given.origin.clone()),
            (None, Preset::Value(text)) => (text.to_owned(), Origin::Default),
            (None, Preset::Unset(words)) => (format!("({words})"), Origin::Default),
        }
    }
}

fn mask(spec: &Spec, text: &str) -> String {
    match spec.secrecy {
        Secrecy::Open => text.to_owned(),
        Secrecy::UrlPassword => masked_url(text),
        Secrecy::Hidden => MASK.to_owned(),
    }
}

fn is_known(name: &str) -> bool {
    table::find(name).is_some() || name.strip_suffix("_FILE").and_then(table::find).is_some_and(|spec| spec.from_file)
}

fn advice_for(name: &str) -> String {
    match similar(name) {
        Some(known) => format!("did you mean {known}? Otherwise remove it"),
        None => "remove it; `hadir config` lists the settings".to_owned(),
    }
}

fn advice_for_key(name: &str) -> String {
    if is_known(name) {
        return format!("keys are written in lower case, {}", name.to_ascii_lowercase());
    }
    match similar(name) {
        Some(known) => format!("did you mean {}? Otherwise remove it", known.to_ascii_lowercase()),
        None => "remove it; `hadir config` lists the settings".to_owned(),
    }
}

/// The known name that was probably meant.
fn similar(name: &str) -> Option<String> {
    let same_flag = table::all().map(AnySetting::spec).find(|spec| flag_of(spec.name) == flag_of(name));
    if let Some(spec) = same_flag {
        return Some(spec.name.to_owned());
    }
    table::all()
        .flat_map(|setting| std::iter::once(setting.spec().name.to_owned()).chain(setting.spec().file_name()))
        .map(|known| (strsim::jaro_winkler(&flag_of(name), &flag_of(&known)), known))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, known)| known)
}

/// A TOML value as the text that a flag would carry.
fn plain_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(truth) => Some(truth.to_string()),
        toml::Value::Array(items) => {
            items.iter().map(toml::Value::as_str).collect::<Option<Vec<_>>>().map(|items| items.join(","))
        }
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

/// A secret's file without the newline that editors and `echo` put at its end.
fn read_secret(path: &Path) -> Result<String, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("cannot be read ({error})"))?;
    if bytes.len() > LARGEST_SECRET_FILE_BYTES {
        return Err(format!("is larger than {LARGEST_SECRET_FILE_BYTES} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    Ok(text.to_owned())
}

/// Gives typed values to the section files and collects what is wrong with them.
pub struct Reader<'a> {
    values: &'a Values,
    errors: Vec<String>,
    failed: Vec<&'static str>,
    #[cfg(test)]
    pub(super) read: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    /// Reads from these values.
    pub fn new(values: &'a Values) -> Self {
        Self {
            values,
            errors: values.errors.clone(),
            failed: Vec::new(),
            #[cfg(test)]
            read: Vec::new(),
        }
    }

    /// A value that has a default. After an error the default stands in, so that reading can go on.
    pub fn required<T>(&mut self, setting: &Setting<T>) -> T {
        if let Some(value) = self.optional(setting) {
            return value;
        }
        let preset = match setting.spec.preset {
            Preset::Value(text) => (setting.parse)(text).ok(),
            Preset::Unset(_) => None,
        };
        preset.expect("a required setting has a default that parses, as a test of the table shows")
    }

    /// A value that somebody set.
    pub fn optional<T>(&mut self, setting: &Setting<T>) -> Option<T> {
        let spec = &setting.spec;
        #[cfg(test)]
        self.read.push(spec.name);
        let given = self.values.given.get(spec.name)?;
        match (setting.parse)(&given.text) {
            Ok(value) => Some(value),
            Err(why) => {
                self.failed.push(spec.name);
                if matches!(given.origin, Origin::SecretFile(_)) && given.text.is_empty() {
                    return None; // The unreadable file was reported already.
                }
                let shown = match spec.secrecy {
                    Secrecy::Open => format!("is `{}`, which ", given.text),
                    Secrecy::UrlPassword | Secrecy::Hidden => String::new(),
                };
                self.errors.push(format!("{} (from {}) {shown}{why}.", spec.name, given.origin));
                None
            }
        }
    }

    /// Whether anybody set it, rightly or wrongly.
    pub fn is_set<T>(&self, setting: &Setting<T>) -> bool {
        self.values.is_set(setting.spec.name)
    }

    /// Values that exclude each other. Silent when one of them was not understood in the first place.
    pub fn contradiction(&mut self, names: &[&str], sentence: impl FnOnce() -> String) {
        if !names.iter().any(|name| self.failed.contains(name)) {
            self.errors.push(sentence());
        }
    }

    /// Everything that was wrong.
    pub fn into_errors(self) -> Vec<String> {
        self.errors
    }
}

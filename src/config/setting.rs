//! One setting as data: its name, default, unit, secrecy, one line of documentation and its parser.
//!
//! Flags, environment variables, TOML keys, `hadir config` and `docs/configuration.md` are all derived from it.

/// What a setting is when nobody sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// This text, parsed like any other.
    Value(&'static str),
    /// No value; the words say what happens instead.
    Unset(&'static str),
}

/// How much of a value may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    /// All of it.
    Open,
    /// A URL without its password.
    UrlPassword,
    /// Nothing.
    Hidden,
}

/// Everything about a setting but the type of its value.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// The environment variable. The flag and the TOML key derive from it.
    pub name: &'static str,
    /// Without configuration.
    pub preset: Preset,
    /// `seconds`, `bytes`, …; empty when the value has none.
    pub unit: &'static str,
    /// What may be shown.
    pub secrecy: Secrecy,
    /// May come from a file named in `<NAME>_FILE`.
    pub from_file: bool,
    /// One line.
    pub doc: &'static str,
}

impl Spec {
    /// The command line flag, without dashes in front: `HADIR_PUBLIC_ADDR` is `public-addr`.
    pub fn flag(&self) -> String {
        flag_of(self.name)
    }

    /// The key in a TOML file: the name in lower case.
    pub fn key(&self) -> String {
        self.name.to_ascii_lowercase()
    }

    /// The variable that names a file to read the value from.
    pub fn file_name(&self) -> Option<String> {
        self.from_file.then(|| format!("{}_FILE", self.name))
    }
}

/// The flag of a variable: without `HADIR_`, lower case, dashes.
pub fn flag_of(name: &str) -> String {
    name.strip_prefix("HADIR_").unwrap_or(name).to_ascii_lowercase().replace('_', "-")
}

/// A setting whose value is a `T`.
pub struct Setting<T: 'static> {
    /// All but the type.
    pub spec: Spec,
    /// Text to value; the error ends the sentence "`NAME` (from …) …".
    pub parse: fn(&str) -> Result<T, String>,
}

impl<T> Setting<T> {
    /// A setting without a default, a unit or a secret.
    pub const fn new(name: &'static str, parse: fn(&str) -> Result<T, String>, doc: &'static str) -> Self {
        Self {
            spec: Spec {
                name,
                preset: Preset::Unset("unset"),
                unit: "",
                secrecy: Secrecy::Open,
                from_file: false,
                doc,
            },
            parse,
        }
    }

    /// With a default.
    pub const fn default(mut self, text: &'static str) -> Self {
        self.spec.preset = Preset::Value(text);
        self
    }

    /// Without a default; `words` say what happens.
    pub const fn unset(mut self, words: &'static str) -> Self {
        self.spec.preset = Preset::Unset(words);
        self
    }

    /// With a unit.
    pub const fn unit(mut self, unit: &'static str) -> Self {
        self.spec.unit = unit;
        self
    }

    /// Never shown; may come from a file.
    pub const fn hidden(mut self) -> Self {
        self.spec.secrecy = Secrecy::Hidden;
        self.spec.from_file = true;
        self
    }

    /// Shown without its password; may come from a file.
    pub const fn secret_url(mut self) -> Self {
        self.spec.secrecy = Secrecy::UrlPassword;
        self.spec.from_file = true;
        self
    }
}

/// A setting of any type, for the table.
pub trait AnySetting: Sync {
    /// All but the type.
    fn spec(&self) -> &Spec;
    /// Whether this text parses.
    fn check(&self, text: &str) -> Result<(), String>;
}

impl<T> AnySetting for Setting<T> {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn check(&self, text: &str) -> Result<(), String> {
        (self.parse)(text).map(drop)
    }
}

//! Every setting, by section, in the order of the documentation.

use super::{
    auth, drain, limits, listen, log, mirror,
    setting::{AnySetting, Spec},
    store, timing,
};

/// Settings that belong together.
pub struct Section {
    /// For headings.
    pub title: &'static str,
    /// In the order of the documentation.
    pub settings: &'static [&'static dyn AnySetting],
}

/// Every section.
pub const SECTIONS: &[Section] = &[
    Section { title: "Listeners", settings: listen::SETTINGS },
    Section { title: "Node and log", settings: log::SETTINGS },
    Section { title: "Data folder", settings: store::DATA_SETTINGS },
    Section { title: "Store", settings: store::SETTINGS },
    Section { title: "Mirror", settings: mirror::SETTINGS },
    Section { title: "Tokens", settings: auth::SETTINGS },
    Section { title: "Heartbeats, sweeps and push", settings: timing::SETTINGS },
    Section { title: "Limits", settings: limits::SETTINGS },
    Section { title: "Stopping", settings: drain::SETTINGS },
];

/// Every setting.
pub fn all() -> impl Iterator<Item = &'static dyn AnySetting> {
    SECTIONS.iter().flat_map(|section| section.settings.iter().copied())
}

/// The setting of this exact name.
pub fn find(name: &str) -> Option<&'static Spec> {
    all().map(AnySetting::spec).find(|spec| spec.name == name)
}

//! The files of `deploy/`, as far as they can be checked without a builder or a cluster.

use std::{fs, path::Path, process::Command};

use crate::support::process::said;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Cargo reads every target of the manifest, so a folder that the image lacks stops its build.
#[test]
fn the_dockerfile_copies_every_folder_that_the_manifest_names() {
    let dockerfile = fs::read_to_string(root().join("deploy/Dockerfile")).expect("a Dockerfile");
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    let mut folders = vec!["src", "migrations", "web", "kit"];
    folders.extend(manifest.lines().filter_map(|line| line.strip_prefix("path = \"")?.split('/').next()));
    assert!(folders.len() > 5, "{folders:?}");
    for folder in folders {
        assert!(dockerfile.contains(&format!("COPY {folder} {folder}")), "the Dockerfile does not copy {folder}");
    }
}

/// `systemd-analyze` finds misspelt directives and programs that are not there.
#[test]
fn systemd_accepts_the_unit() {
    let folder = tempfile::tempdir().expect("a folder");
    let shipped = fs::read_to_string(root().join("deploy/systemd/hadir.service")).expect("a unit");
    let installed = "/usr/local/bin/hadir";
    assert!(shipped.contains(installed));
    let unit = folder.path().join("hadir.service");
    fs::write(&unit, shipped.replace(installed, env!("CARGO_BIN_EXE_hadir"))).expect("written");
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output();
    let output = output.expect("systemd-analyze is installed; `scripts/test` installs it");
    // It also speaks of other units of the machine.
    let about_ours: Vec<_> =
        said(&output).lines().filter(|line| line.contains("hadir.service")).map(str::to_owned).collect();
    assert!(about_ours.is_empty(), "{about_ours:#?}");
}

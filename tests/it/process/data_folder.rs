//! What the embedded default keeps is its owner's alone, and one process's at a time.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use rustix::process::Signal;

use super::{Running, hadir, make_it_log};
use crate::support::{process::said, world::SECRET};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("exists").permissions().mode() & 0o777
}

fn modes(folder: &Path) -> Vec<(String, u32)> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut modes: Vec<_> =
        entries.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), mode(&path))).collect();
    modes.sort();
    modes
}

#[tokio::test]
async fn folder_and_files_are_for_their_owner_only_new_and_found_wide_open() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("hadir-data");
    for found in ["new", "wide open"] {
        // A configured secret: the folder is made by the store, not by the secret.
        let mut command = hadir(&folder);
        command.env("AUTH_JWT_SECRET", SECRET);
        let (server, _) = Running::start(command);
        assert_eq!(mode(&data), 0o700, "{found}");
        let modes = modes(&data);
        for name in ["hadir.db", "hadir.db-shm", "hadir.db-wal", "hadir.lock"] {
            assert!(modes.contains(&(name.to_owned(), 0o600)), "{found}: {name} in {modes:?}");
        }
        assert!(modes.iter().all(|(_, mode)| *mode == 0o600), "{found}: {modes:?}");
        // Left as after a crash, with all its files.
        server.signal(Signal::KILL);
        server.ended().await;
        for (name, _) in modes {
            fs::set_permissions(data.join(name), fs::Permissions::from_mode(0o644)).unwrap();
        }
        fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn a_folder_that_holds_other_things_is_left_as_it_is_with_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(folder.path().join("letter"), "to grandmother").unwrap();
    let output = hadir(&folder).arg("migrate").env("HADIR_DATA_DIR", folder.path()).output().unwrap();
    assert!(output.status.success());
    assert!(said(&output).contains("others may enter the data folder"), "{}", said(&output));
    assert_eq!(mode(folder.path()), 0o755);
    assert_eq!(mode(&folder.path().join("hadir.db")), 0o600);
}

#[tokio::test]
async fn a_second_server_is_refused_also_when_the_lock_file_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let (first, printed) = Running::start(hadir(&folder));
    let refused = || {
        let second = hadir(&folder).output().unwrap();
        assert_eq!(second.status.code(), Some(1));
        assert!(said(&second).contains("another Hadir is running on"), "{}", said(&second));
    };
    refused();
    fs::remove_file(folder.path().join("hadir-data/hadir.lock")).unwrap();
    refused();
    let lines = hadir(&folder).arg("check").output().unwrap().stdout;
    assert!(String::from_utf8(lines).unwrap().contains("a Hadir is running on it"));
    make_it_log(printed["internal_url"].as_str().unwrap(), printed["tokens"]["service"].as_str().unwrap()).await;
    first.signal(Signal::TERM);
    assert!(first.ended().await.0.success());
    let (second, _) = Running::start(hadir(&folder));
    second.signal(Signal::TERM);
    assert!(second.ended().await.0.success());
}

//! What only SQLite can show: one owner of the file, and a folder or a file that cannot be used.

use std::{fs, path::Path};

use hadir::store::{
    Store, StoreError,
    sqlite::{SqliteSettings, SqliteStore},
};

use super::{cause, id, sqlite_settings};
use crate::support::eventually;

async fn refused(path: &Path) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = SqliteSettings { path: path.to_owned(), ..sqlite_settings(&folder) };
    match SqliteStore::open(settings).await {
        Err(StoreError::Invalid(why)) => why,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("opened"),
    }
}

#[tokio::test]
async fn a_second_opener_is_refused_until_the_first_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = SqliteStore::open(sqlite_settings(&folder)).await.expect("opened");
    let why = refused(&folder.path().join("hadir.db")).await;
    assert!(why.contains("another Hadir is running") && why.contains("HADIR_DATA_DIR"), "{why}");
    // The refused one did the owner no harm.
    first.put_mitra(id(1), "Sari", None, &cause("")).await.expect("written");
    first.close().await;
    drop(first);
    let again = eventually("the file is free", async || SqliteStore::open(sqlite_settings(&folder)).await.ok()).await;
    assert!(again.mitra(id(1)).await.expect("read").is_some());
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_told_in_a_sentence() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("written");
    let why = refused(&file.join("hadir.db")).await;
    assert!(why.contains("cannot be created") && why.contains("HADIR_DATA_DIR"), "{why}");
    // For root too: nobody creates files there.
    let why = refused(Path::new("/proc/self/hadir.db")).await;
    assert!(why.contains("cannot be written") && why.contains("HADIR_DATA_DIR"), "{why}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_left_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hadir.db");
    let text = "a letter to somebody, long enough to be taken for a page. ".repeat(100);
    fs::write(&path, &text).expect("written");
    let why = refused(&path).await;
    assert!(why.contains("hadir.db") && why.contains("move the file away"), "{why}");
    assert_eq!(fs::read_to_string(&path).expect("read"), text);
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart_and_a_new_generation_is_newer() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(sqlite_settings(&folder)).await.expect("opened");
    store.put_mitra(id(1), "Sari", Some(3), &cause("")).await.expect("created");
    let before = store.set_online(id(1), true, &cause("")).await.expect("online").row;
    store.close().await;
    drop(store);
    let store = eventually("the file is free", async || SqliteStore::open(sqlite_settings(&folder)).await.ok()).await;
    let after = store.mitra(id(1)).await.expect("read").expect("exists");
    assert_eq!((after.fence, after.online, after.max_sessions), (before.fence, true, 3));
    let first = store.new_generation().await.expect("declared");
    let second = store.new_generation().await.expect("declared");
    assert!(before.fence.generation < first && first < second);
    assert!(store.mitra(id(1)).await.expect("read").expect("exists").fence > before.fence);
}

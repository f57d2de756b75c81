//! The files of the embedded store: for their owner only, and for one process at a time.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use crate::store::StoreError;

/// Names in the data folder that begin with one of these are no reason to leave it open.
const OURS: [&str; 3] = ["hadir.", "jwt-secret", "lost+found"];
const FOR_OWNER: u32 = 0o600;
const FOLDER_FOR_OWNER: u32 = 0o700;

/// Held for as long as a store lives: the file beside the database, and the database itself, so that
/// to remove the one lets no second process in.
pub(super) struct Locks {
    _beside: File,
    _database: File,
}

impl Locks {
    /// Makes folder and files where there are none, takes them from everybody but their owner, and
    /// locks them.
    ///
    /// # Errors
    /// A sentence that says what to do.
    pub(super) fn take(database: &Path) -> Result<Self, StoreError> {
        let folder = database.parent().unwrap_or(Path::new("."));
        make_private_folder(folder).map_err(|error| {
            StoreError::Invalid(format!(
                "the data folder {} cannot be created ({error}); set HADIR_DATA_DIR to one that can be written",
                folder.display()
            ))
        })?;
        let beside = lock(&database.with_extension("lock"))?;
        let database_lock = lock(database)?;
        // SQLite gives its own files the rights of the database; these may be older.
        for ending in ["-wal", "-shm"] {
            let mut path = database.as_os_str().to_owned();
            path.push(ending);
            take_from_others(Path::new(&path), FOR_OWNER);
        }
        Ok(Self { _beside: beside, _database: database_lock })
    }
}

/// Whether a process holds one of the locks.
pub(super) fn is_used(database: &Path) -> bool {
    [&database.with_extension("lock"), database]
        .into_iter()
        .any(|path| File::open(path).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock))))
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let cannot_write = |error: io::Error| {
        StoreError::Invalid(format!(
            "{} cannot be written ({error}); set HADIR_DATA_DIR to a folder that can be written",
            path.display()
        ))
    };
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(FOR_OWNER).open(path);
    let file = file.map_err(cannot_write)?;
    take_from_others(path, FOR_OWNER);
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Invalid(format!(
            "another Hadir is running on {}; stop it, or give this one its own HADIR_DATA_DIR",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => Err(cannot_write(error)),
    }
}

fn make_private_folder(folder: &Path) -> io::Result<()> {
    if !folder.is_dir() {
        return DirBuilder::new().recursive(true).mode(FOLDER_FOR_OWNER).create(folder);
    }
    if let Some(other) = stranger(folder) {
        // Somebody's own folder: to close it would hurt what else lives there.
        if is_open(folder, FOLDER_FOR_OWNER) {
            tracing::warn!(
                folder = %folder.display(),
                beside = %other.display(),
                "others may enter the data folder, which holds more than Hadir's files; give Hadir a folder of its own"
            );
        }
        return Ok(());
    }
    take_from_others(folder, FOLDER_FOR_OWNER);
    Ok(())
}

/// Something in the folder that is not ours.
fn stranger(folder: &Path) -> Option<PathBuf> {
    let is_ours = |path: &PathBuf| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| OURS.iter().any(|ours| name.starts_with(ours)))
    };
    // One that cannot be listed is found out when it is written to.
    fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).find(|path| !is_ours(path))
}

fn is_open(path: &Path, wanted: u32) -> bool {
    fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o777 & !wanted != 0)
}

/// What does not exist has nothing to take; what belongs to somebody else is complained about.
fn take_from_others(path: &Path, mode: u32) {
    if is_open(path, mode)
        && let Err(error) = fs::set_permissions(path, Permissions::from_mode(mode))
    {
        tracing::warn!(path = %path.display(), %error, "others may read the data; give it to this user, or `chmod go=` it");
    }
}

//! A look at where the file is or will be, which changes nothing.

use std::{fs::File, io::Read, path::Path};

use rustix::fs::{Access, access};

use super::files::is_used;

/// How every SQLite file begins.
const MAGIC: &[u8] = b"SQLite format 3\0";

/// What a server would find at this path. Creates nothing.
///
/// # Errors
/// A sentence that says what is wrong and what to do.
pub fn look(path: &Path) -> Result<String, String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(nearest) = folder.ancestors().map(or_here).find(|folder| folder.exists()) else {
        return Err(format!("{} is nowhere; set HADIR_DATA_DIR to a folder that can be written", folder.display()));
    };
    if !nearest.is_dir() || access(nearest, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        return Err(format!(
            "the folder {} cannot be written; set HADIR_DATA_DIR to one that can be written",
            nearest.display()
        ));
    }
    if !folder.exists() {
        return Ok(format!(
            "{} and its folder will be created at start; {} can be written",
            path.display(),
            nearest.display()
        ));
    }
    if !path.exists() {
        return Ok(format!("{} will be created at start; its folder can be written", path.display()));
    }
    let cannot_read = |error: std::io::Error| format!("{} cannot be read ({error})", path.display());
    if access(path, Access::READ_OK | Access::WRITE_OK).is_err() {
        return Err(format!("{} cannot be written; give this user the right, or set HADIR_DATA_DIR", path.display()));
    }
    let mut begins = Vec::new();
    File::open(path).map_err(cannot_read)?.take(MAGIC.len() as u64).read_to_end(&mut begins).map_err(cannot_read)?;
    // An empty file is a database without tables.
    if !begins.is_empty() && begins != MAGIC {
        return Err(format!("{} is no SQLite file; move it away, or set HADIR_DATA_DIR", path.display()));
    }
    let used = if is_used(path) { "; a Hadir is running on it" } else { "" };
    Ok(format!("{} exists and can be written{used}", path.display()))
}

/// The last ancestor of a relative path is empty and means here.
fn or_here(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_look_says_what_is_there_and_creates_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("data").join("hadir.db");
        assert!(look(&path).expect("well").contains("its folder will be created"));
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
        fs::create_dir(folder.path().join("data")).expect("created");
        assert!(look(&path).expect("well").contains("will be created at start"));
        fs::write(&path, "").expect("written");
        assert!(look(&path).expect("well").contains("exists"));
        fs::write(&path, "a letter to grandmother").expect("written");
        assert!(look(&path).expect_err("wrong").contains("is no SQLite file"));
        assert!(look(&path.join("deeper").join("hadir.db")).expect_err("wrong").contains("cannot be written"));
    }
}

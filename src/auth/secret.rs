//! The signing secret of the embedded default: generated once, kept in the data folder for its owner only.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::config::{AuthConfig, Secret, SecretSource};

/// The file's name in the data folder.
const FILE: &str = "jwt-secret";

/// Randomness in a generated secret: more than the 32 bytes of HS256's hash would not help.
const SECRET_BYTES: usize = 32;

/// The length of [`SECRET_BYTES`] in base64 without padding.
const SECRET_CHARS: usize = 43;

/// There is no secret to sign with. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Only public keys are configured: whoever has the private ones signs.
    #[error(
        "there is no secret to sign with, because only public keys are configured: take a token from your identity provider, or set AUTH_JWT_SECRET beside the key set"
    )]
    NoSecret,
    /// The folder cannot be made or written.
    #[error(
        "the data folder {} cannot be written ({error}): make it writable for this user, or set HADIR_DATA_DIR to a folder that is",
        dir.display()
    )]
    Folder { dir: PathBuf, error: io::Error },
    /// The file is there and cannot be read.
    #[error("the signing secret {} cannot be read ({error}): let this user read it, or set AUTH_JWT_SECRET", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    /// Others may read the file.
    #[error("the signing secret {} has mode {mode:o}, so that others may read it: run `chmod 600` on it, or delete it to get a new one", path.display())]
    Exposed { path: PathBuf, mode: u32 },
    /// The file does not hold what we wrote.
    #[error("the signing secret {} is damaged: delete it to get a new one (tokens given so far become worthless)", path.display())]
    Damaged { path: PathBuf },
}

/// The configured secret, or the generated one; `None` where only public keys verify.
pub fn resolve(config: &AuthConfig) -> Result<Option<Secret>, SecretError> {
    match &config.secret {
        SecretSource::Configured(secret) => Ok(Some(secret.clone())),
        SecretSource::Generated(dir) => load_or_create(dir).map(Some),
        SecretSource::None => Ok(None),
    }
}

/// The secret kept in `dir`, generated when there is none. Several processes may call it at once: one generates, all get
/// the same.
pub fn load_or_create(dir: &Path) -> Result<Secret, SecretError> {
    let path = dir.join(FILE);
    if let Some(secret) = load(&path)? {
        return Ok(secret);
    }
    create(dir, &path).map_err(|error| SecretError::Folder { dir: dir.to_owned(), error })?;
    // Read back, whoever was first.
    load(&path)?.ok_or(SecretError::Damaged { path })
}

fn load(path: &Path) -> Result<Option<Secret>, SecretError> {
    let unreadable = |error| SecretError::Unreadable { path: path.to_owned(), error };
    let mode = match fs::metadata(path) {
        Ok(metadata) => metadata.permissions().mode() & 0o777,
        // A path that leads through a file is left to `create`, which then says what is wrong with the folder.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(unreadable(error)),
    };
    if mode & 0o077 != 0 {
        return Err(SecretError::Exposed { path: path.to_owned(), mode });
    }
    let text = fs::read(path).map_err(unreadable)?;
    match std::str::from_utf8(&text).map(str::trim_end) {
        Ok(text) if text.len() >= SECRET_CHARS => Ok(Some(Secret::new(text))),
        _ => Err(SecretError::Damaged { path: path.to_owned() }),
    }
}

/// Writes the whole secret to a file of its own and then links it to its name, which fails if the name is taken: nobody
/// ever reads half a secret and nobody's secret is replaced.
fn create(dir: &Path, path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let draft = dir.join(format!("{FILE}.{}", uuid::Uuid::new_v4().simple()));
    let linked = write_draft(&draft).and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    });
    let removed = match fs::remove_file(&draft) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    };
    linked.and(removed)
}

fn write_draft(draft: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    let secret: [u8; SECRET_BYTES] = rand::random();
    writeln!(file, "{}", BASE64_URL_SAFE_NO_PAD.encode(secret))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("exists").permissions().mode() & 0o777
    }

    #[test]
    fn it_is_generated_once_for_its_owner_only_and_stays() {
        let parent = tempfile::tempdir().expect("a folder");
        let dir = parent.path().join("a/b");
        let first = load_or_create(&dir).expect("generated");
        assert_eq!(first.expose().len(), SECRET_CHARS);
        assert_eq!(load_or_create(&dir).expect("kept"), first);
        assert_eq!((mode(&dir.join(FILE)), mode(&dir)), (0o600, 0o700));
        assert_eq!(fs::read_dir(&dir).expect("listed").count(), 1, "no draft is left");
        assert_ne!(load_or_create(&parent.path().join("c")).expect("generated"), first);
    }

    #[test]
    fn many_at_once_get_the_same() {
        let dir = tempfile::tempdir().expect("a folder");
        let barrier = std::sync::Barrier::new(16);
        let secrets: Vec<Secret> = std::thread::scope(|scope| {
            let starters: Vec<_> = (0..16)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        load_or_create(dir.path()).expect("a secret")
                    })
                })
                .collect();
            starters.into_iter().map(|starter| starter.join().expect("no panic")).collect()
        });
        assert!(secrets.iter().all(|secret| *secret == secrets[0]));
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1, "no draft is left");
    }

    #[test]
    fn a_file_that_others_may_read_or_that_is_damaged_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        load_or_create(dir.path()).expect("generated");
        let path = dir.path().join(FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("changed");
        let exposed = load_or_create(dir.path()).expect_err("exposed").to_string();
        assert!(exposed.contains("has mode 644") && exposed.contains("chmod 600"), "{exposed}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("changed");
        fs::write(&path, "short").expect("written");
        assert!(matches!(load_or_create(dir.path()), Err(SecretError::Damaged { .. })));
    }

    #[test]
    fn a_folder_that_cannot_be_written_gets_one_sentence() {
        let parent = tempfile::tempdir().expect("a folder");
        // A file where the folder should be stops everybody, the superuser included.
        let dir = parent.path().join("taken");
        fs::write(&dir, "").expect("written");
        for dir in [dir.clone(), dir.join("deeper")] {
            let sentence = load_or_create(&dir).expect_err("not a folder").to_string();
            assert!(sentence.contains("cannot be written") && sentence.contains("HADIR_DATA_DIR"), "{sentence}");
        }
    }
}

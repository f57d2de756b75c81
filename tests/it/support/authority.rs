//! A private certificate authority, and certificates of it, made by openssl.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// Goes with the value.
pub struct Authority {
    folder: TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("hadir-ca-").tempdir().expect("a folder");
        let authority = Self { folder };
        authority.openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=Tests -keyout ca.key -out ca.pem");
        authority
    }

    /// Its own certificate, which clients are told to trust.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for this subject alternative name, `DNS:localhost` for instance, and its key.
    pub fn issue(&self, name: &str) -> (PathBuf, PathBuf) {
        let at = |file: &str| self.folder.path().join(file);
        std::fs::write(at("names"), format!("subjectAltName={name}\n")).expect("written");
        self.openssl("req -newkey rsa:2048 -nodes -subj /CN=server -keyout server.key -out server.csr");
        self.openssl(
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem",
        );
        (at("server.pem"), at("server.key"))
    }

    /// What a Valkey is started with to take TLS at this port, and to speak it to others, with a certificate for 127.0.0.1.
    pub fn valkey_arguments(&self, port: u16) -> Vec<String> {
        let (certificate, key) = self.issue("IP:127.0.0.1");
        let text = |path: PathBuf| path.display().to_string();
        [
            ["--tls-port", &port.to_string()],
            ["--tls-cert-file", &text(certificate)],
            ["--tls-key-file", &text(key)],
            ["--tls-ca-cert-file", &text(self.certificate())],
            ["--tls-auth-clients", "no"],
            ["--tls-replication", "yes"],
        ]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect()
    }

    fn openssl(&self, arguments: &str) {
        let folder: &Path = self.folder.path();
        let made = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output();
        let made = made.expect("openssl is installed; `scripts/test` installs it");
        assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
    }
}

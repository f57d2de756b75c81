//! A real proxy with the configuration that `deploy/proxies/` ships, its addresses and files replaced.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Instant,
};

use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer, pki_types::pem::PemObject};
use tempfile::TempDir;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::support::{PATIENCE, authority::Authority, valkey::free_port};

/// The host that the shipped configurations are written for.
pub const HOST: &str = "presence.example.com";

/// Which proxy.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Nginx,
    HaProxy,
    Caddy,
}

pub const ALL: [Kind; 3] = [Kind::Nginx, Kind::HaProxy, Kind::Caddy];

/// Ends with the value.
pub struct Proxy {
    child: Child,
    address: SocketAddr,
    tls: TlsConnector,
    folder: TempDir,
    _authority: Authority,
}

impl Proxy {
    /// Starts one in front of two nodes.
    pub fn before(kind: Kind, nodes: [SocketAddr; 2]) -> Self {
        let authority = Authority::new();
        let (certificate, key) = authority.issue(&format!("DNS:{HOST}"));
        let folder = tempfile::Builder::new().prefix("hadir-proxy-").tempdir().expect("a folder");
        let tls = connector(&authority.certificate());
        let began = Instant::now();
        // Another process may take the port between the check and the start.
        loop {
            let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
            let files = Files { folder: folder.path(), certificate: &certificate, key: &key };
            let mut child = files.command(kind, address, nodes).spawn();
            let child = child.as_mut().unwrap_or_else(|error| panic!("{kind:?}: {error}; `scripts/test` installs it"));
            while child.try_wait().expect("asked").is_none() {
                if std::net::TcpStream::connect(address).is_ok() {
                    let child = std::mem::replace(child, Command::new("true").spawn().expect("started"));
                    return Self { child, address, tls, folder, _authority: authority };
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            let log = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            assert!(began.elapsed() < PATIENCE, "{kind:?} does not start: {log}");
        }
    }

    /// A TLS connection from this source address, HTTP/1.1.
    pub async fn connect(&self, from: [u8; 4]) -> TlsStream<TcpStream> {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from((from, 0))).expect("bound");
        let stream = socket.connect(self.address).await.expect("connected");
        let name = HOST.try_into().expect("a name");
        self.tls.connect(name, stream).await.expect("a TLS handshake")
    }

    /// What the proxy logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn connector(authority: &Path) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).expect("a certificate")).expect("added");
    TlsConnector::from(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}

struct Files<'a> {
    folder: &'a Path,
    certificate: &'a Path,
    key: &'a Path,
}

impl Files<'_> {
    fn command(&self, kind: Kind, at: SocketAddr, nodes: [SocketAddr; 2]) -> Command {
        let mut command = match kind {
            Kind::Nginx => self.nginx(at, nodes),
            Kind::HaProxy => self.haproxy(at, nodes),
            Kind::Caddy => self.caddy(at, nodes),
        };
        let log = fs::File::create(self.folder.join("log")).expect("a log");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        command
    }

    fn nginx(&self, at: SocketAddr, nodes: [SocketAddr; 2]) -> Command {
        let shipped = shipped("nginx.conf", nodes)
            .replaced("listen 443", &format!("listen {at}"))
            .replaced("/etc/ssl/presence.example.com.pem", &self.certificate.display().to_string())
            .replaced("/etc/ssl/presence.example.com.key", &self.key.display().to_string());
        let site = self.write("site.conf", &shipped.0);
        let at = self.folder.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {at}/{name};"))
            .concat();
        // One process, so that it ends with its id.
        let main = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/log; events {{}}\n\
             http {{ access_log off; {temporary} include {}; }}",
            site.display()
        );
        let mut command = Command::new("nginx");
        command.arg("-p").arg(self.folder).arg("-e").arg(self.folder.join("log"));
        command.arg("-c").arg(self.write("nginx.conf", &main));
        command
    }

    fn haproxy(&self, at: SocketAddr, nodes: [SocketAddr; 2]) -> Command {
        let both: String = [self.certificate, self.key].map(|file| fs::read_to_string(file).expect("read")).concat();
        let pem = self.write("both.pem", &both);
        let shipped = shipped("haproxy.cfg", nodes)
            .replaced("bind :443", &format!("bind {at}"))
            .replaced("/etc/ssl/presence.example.com.pem", &pem.display().to_string())
            // The tests' machine allows fewer descriptors.
            .replaced("maxconn 100000", "maxconn 1000");
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(self.write("haproxy.cfg", &shipped.0));
        command
    }

    fn caddy(&self, at: SocketAddr, nodes: [SocketAddr; 2]) -> Command {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        let site = format!("https://{HOST}:{} {{\n\tbind {}\n\ttls {certificate} {key}", at.port(), at.ip());
        let shipped = shipped("Caddyfile", nodes).replaced(&format!("{HOST} {{"), &site);
        // No certificates from the internet, no port for its administration.
        let text = format!("{{\n\tadmin off\n\tauto_https off\n}}\n{}", shipped.0);
        let mut command = Command::new("caddy");
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(self.write("Caddyfile", &text));
        command.env("HOME", self.folder).env("XDG_DATA_HOME", self.folder).env("XDG_CONFIG_HOME", self.folder);
        command
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        fs::write(&path, text).expect("written");
        path
    }
}

/// A shipped file, of which every replaced part must be there.
struct Shipped(String);

fn shipped(name: &str, nodes: [SocketAddr; 2]) -> Shipped {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/proxies").join(name);
    let text = Shipped(fs::read_to_string(path).expect("the shipped file"));
    text.replaced("127.0.0.1:8080", &nodes[0].to_string()).replaced("127.0.0.1:18080", &nodes[1].to_string())
}

impl Shipped {
    fn replaced(self, from: &str, to: &str) -> Self {
        assert!(self.0.contains(from), "the shipped file has no {from}: {}", self.0);
        Self(self.0.replace(from, to))
    }
}

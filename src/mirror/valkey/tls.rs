//! TLS to Valkey: whose certificates are trusted, for which names, and what this node shows of itself.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use fred::rustls_native_certs::load_native_certs;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

use super::connection::ValkeySetupError;

/// Files of TLS, in PEM.
#[derive(Clone, Debug, Default)]
pub struct ValkeyTls {
    /// The authorities that are trusted; `None`: those of the machine.
    pub ca_file: Option<PathBuf>,
    /// This node's own certificate, with those between it and its authority.
    pub cert_file: Option<PathBuf>,
    /// The key of that certificate.
    pub key_file: Option<PathBuf>,
}

/// What a connection with TLS is made with. `names`: the hosts of the address.
pub(super) fn client(files: &ValkeyTls, names: impl Iterator<Item = String>) -> Result<ClientConfig, ValkeySetupError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let failed = |error: &dyn std::fmt::Display| ValkeySetupError::Tls(error.to_string());
    let roots = Arc::new(roots(files)?);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
    let verifier = NamedInAddress {
        inner: verifier.build().map_err(|error| failed(&error))?,
        names: names.filter_map(|name| ServerName::try_from(name).ok()).collect(),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    match (&files.cert_file, &files.key_file) {
        (Some(cert), Some(key)) => {
            let chain = certificates("VALKEY_TLS_CERT_FILE", cert)?;
            let key =
                PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable("VALKEY_TLS_KEY_FILE", key, &error))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| failed(&error))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn roots(files: &ValkeyTls) -> Result<RootCertStore, ValkeySetupError> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = &files.ca_file {
        for certificate in certificates("VALKEY_TLS_CA_FILE", file)? {
            roots.add(certificate).map_err(|error| unreadable("VALKEY_TLS_CA_FILE", file, &error))?;
        }
    } else {
        roots.add_parsable_certificates(load_native_certs().certs);
    }
    if roots.is_empty() {
        let why = "this machine trusts no authority; name one in VALKEY_TLS_CA_FILE, or install ca-certificates";
        return Err(ValkeySetupError::Tls(why.to_owned()));
    }
    Ok(roots)
}

fn certificates(setting: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, ValkeySetupError> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(found) if found.is_empty() => Err(unreadable(setting, file, &"it holds no certificate in PEM")),
        Ok(found) => Ok(found),
        Err(error) => Err(unreadable(setting, file, &error)),
    }
}

fn unreadable(setting: &str, file: &Path, why: &dyn std::fmt::Display) -> ValkeySetupError {
    ValkeySetupError::Tls(format!("{setting} names {}, which cannot be used: {why}", file.display()))
}

/// Accepts a certificate for the address that is connected to, or for a host that the operator named. Sentinels and clusters
/// name servers by IP address, and certificates name them by host.
#[derive(Debug)]
struct NamedInAddress {
    inner: Arc<WebPkiServerVerifier>,
    names: Vec<ServerName<'static>>,
}

impl ServerCertVerifier for NamedInAddress {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verify =
            |name: &ServerName<'_>| self.inner.verify_server_cert(end_entity, intermediates, name, ocsp_response, now);
        match verify(server_name) {
            Err(
                refused @ Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                ),
            ) => self.names.iter().find_map(|name| verify(name).ok()).ok_or(refused),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

//! Questions to a node by REST, as backends and apps ask them, with a deadline.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::Value;

use crate::kit::tokens::{Mint, Role, subject};

/// Longer than any answer may take; what is not there by then counts as no answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// An answer, or that there was none.
#[derive(Clone, Debug)]
pub struct Reply {
    /// 0: none came.
    pub status: u16,
    pub body: Value,
    pub took: Duration,
}

impl Reply {
    /// Whether it is a good answer.
    pub fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Where one node is asked. Cheap to clone.
#[derive(Clone)]
pub struct Door {
    pub public: SocketAddr,
    pub internal: SocketAddr,
    http: reqwest::Client,
    service: String,
}

impl Door {
    /// The door of the node at these addresses.
    ///
    /// # Errors
    /// No token can be signed.
    pub fn new(public: SocketAddr, internal: SocketAddr) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(DEADLINE).build()?;
        Ok(Self { public, internal, http, service: Mint::new().token(subject(u64::from(u32::MAX)), Role::Service)? })
    }

    /// As a backend, on the internal listener.
    pub async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Reply {
        self.send(self.http.request(method, format!("http://{}{path}", self.internal)).bearer_auth(&self.service), body)
            .await
    }

    /// A read of the internal listener.
    pub async fn get(&self, path: &str) -> Reply {
        self.ask(Method::GET, path, None).await
    }

    /// As a mitra's app, on the public listener.
    pub async fn as_mitra(&self, number: u64, method: Method, path: &str) -> Reply {
        let Ok(token) = Mint::new().token(subject(number), Role::Mitra) else { return Reply::none(Duration::ZERO) };
        self.send(self.http.request(method, format!("http://{}{path}", self.public)).bearer_auth(token), None).await
    }

    /// As a customer, on the public listener.
    pub async fn as_customer(&self, path: &str) -> Reply {
        self.send(self.http.get(format!("http://{}{path}", self.public)).bearer_auth(&self.service), None).await
    }

    async fn send(&self, request: reqwest::RequestBuilder, body: Option<Value>) -> Reply {
        let began = Instant::now();
        let request = match &body {
            Some(body) => request.json(body),
            None => request,
        };
        let Ok(response) = request.send().await else { return Reply::none(began.elapsed()) };
        let status = response.status().as_u16();
        match response.text().await {
            Ok(text) => Reply {
                status,
                body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
                took: began.elapsed(),
            },
            Err(_) => Reply::none(began.elapsed()),
        }
    }

    /// The mode, as `/readyz` says it.
    pub async fn mode(&self) -> Option<String> {
        let reply = self.get("/readyz").await;
        let checks = reply.body["checks"].as_array()?;
        let mode = checks.iter().find(|check| check["name"] == "mode")?;
        Some(mode["detail"].as_str()?.to_owned())
    }

    /// The value of a metric, summed over its labels.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        self.metric_of(name, "").await
    }

    /// The same over those lines whose labels hold this.
    pub async fn metric_of(&self, name: &str, label: &str) -> Option<f64> {
        let reply = self.get("/metrics").await;
        let text = reply.body.as_str()?;
        let of_metric = |line: &str| {
            let rest = line.strip_prefix(name)?;
            ((rest.starts_with(' ') || rest.starts_with('{')) && rest.contains(label))
                .then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())
                .flatten()
        };
        Some(text.lines().filter_map(of_metric).sum())
    }
}

impl Reply {
    fn none(took: Duration) -> Self {
        Self { status: 0, body: Value::Null, took }
    }
}

//! REST clients: connections that stay, each with one request at a time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{task::JoinSet, time::Instant};

use super::orders::{Ask, Report};
use crate::kit::{distribution::Distribution, socket::connect, tokens::subject};

struct Client {
    sender: http1::SendRequest<Full<Bytes>>,
    ask: Ask,
    token: Option<String>,
    etag: Option<String>,
    /// How many subjects were asked for, by all clients together.
    asked: Arc<AtomicU64>,
}

/// Asks as often as it can for the stated time.
pub async fn ask(ask: Ask, token: Option<String>) -> Result<Report> {
    let began = Instant::now();
    let ends = began + Duration::from_secs_f64(ask.seconds);
    let mut clients = JoinSet::new();
    let mut connections = JoinSet::new();
    let asked = Arc::new(AtomicU64::new(0));
    for number in 0..ask.connections {
        let stream = connect(ask.address, number as u64).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        connections.spawn(connection);
        let mut client =
            Client { sender, ask: ask.clone(), token: token.clone(), etag: None, asked: Arc::clone(&asked) };
        clients.spawn(async move {
            if client.ask.conditional {
                client.one(200).await.context("the first answer")?;
            }
            let mut taken = Distribution::new();
            while Instant::now() < ends {
                let began = Instant::now();
                if !client.one(client.ask.expect_status).await? {
                    break;
                }
                taken.record(began.elapsed());
            }
            Ok::<_, anyhow::Error>(taken)
        });
    }
    let mut report = Report::default();
    while let Some(client) = clients.join_next().await {
        match client? {
            Ok(taken) => report.each.add(&taken)?,
            Err(error) => {
                report.failed += 1;
                report.first_failure.get_or_insert_with(|| format!("{error:#}"));
            }
        }
    }
    report.seconds = began.elapsed().as_secs_f64();
    report.done = report.each.len();
    Ok(report)
}

impl Client {
    /// One request; `false` when there is nothing left to ask for.
    async fn one(&mut self, status: u16) -> Result<bool> {
        let Some(request) = self.request()? else { return Ok(false) };
        let path = request.uri().clone();
        let response = self.sender.send_request(request).await?;
        if response.status() != status {
            let status = response.status();
            let said = response.into_body().collect().await?.to_bytes();
            bail!("{path} answers {status}: {}", String::from_utf8_lossy(&said));
        }
        if self.ask.conditional && self.etag.is_none() {
            let etag = response.headers().get("etag").context("no ETag")?;
            self.etag = Some(etag.to_str()?.to_owned());
        }
        response.into_body().collect().await?;
        Ok(true)
    }

    fn request(&self) -> Result<Option<Request<Full<Bytes>>>> {
        let (mut request, body) = match &self.ask.each {
            None => (Request::get(&self.ask.path), String::new()),
            Some(each) => {
                let number = self.asked.fetch_add(1, Relaxed);
                if number >= each.subjects {
                    return Ok(None);
                }
                let path = self.ask.path.replace("{subject}", &subject(number).to_string());
                let body = each.body.replace("{mitra}", &subject(number % each.mitras).to_string());
                (Request::post(path).header("content-type", "application/json"), body)
            }
        };
        request = request.header("host", self.ask.address.to_string());
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(etag) = &self.etag {
            request = request.header("if-none-match", etag);
        }
        Ok(Some(request.body(Full::from(body))?))
    }
}

//! REST clients: connections that stay, each with one request at a time.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{task::JoinSet, time::Instant};

use super::orders::{Ask, Report};
use crate::kit::{distribution::Distribution, socket::connect};

struct Client {
    sender: http1::SendRequest<Empty<Bytes>>,
    ask: Ask,
    token: Option<String>,
    etag: Option<String>,
}

/// Asks as often as it can for the stated time.
pub async fn ask(ask: Ask, token: Option<String>) -> Result<Report> {
    let began = Instant::now();
    let ends = began + Duration::from_secs_f64(ask.seconds);
    let mut clients = JoinSet::new();
    let mut connections = JoinSet::new();
    for number in 0..ask.connections {
        let stream = connect(ask.address, number as u64).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        connections.spawn(connection);
        let mut client = Client { sender, ask: ask.clone(), token: token.clone(), etag: None };
        clients.spawn(async move {
            if client.ask.conditional {
                client.one(200).await.context("the first answer")?;
            }
            let mut taken = Distribution::new();
            while Instant::now() < ends {
                let began = Instant::now();
                client.one(client.ask.expect_status).await?;
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
    async fn one(&mut self, status: u16) -> Result<()> {
        let mut request = Request::get(&self.ask.path).header("host", self.ask.address.to_string());
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(etag) = &self.etag {
            request = request.header("if-none-match", etag);
        }
        let response = self.sender.send_request(request.body(Empty::new())?).await?;
        if response.status() != status {
            bail!("{} answers {}", self.ask.path, response.status());
        }
        if self.ask.conditional && self.etag.is_none() {
            let etag = response.headers().get("etag").context("no ETag")?;
            self.etag = Some(etag.to_str()?.to_owned());
        }
        response.into_body().collect().await?;
        Ok(())
    }
}

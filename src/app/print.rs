//! What a person (or a script) is told when the server stands: URLs, tokens, lines to try.

use std::io::{self, IsTerminal, Write};

use anyhow::Result;
use serde_json::json;
use uuid::Uuid;

use super::Server;
use crate::{
    config::{LogFormat, SecretSource, reachable},
    demo::DemoSize,
    domain::{Actor, Cause, MitraId, Role, SubjectId},
};

struct Tokens {
    mitra: String,
    customer: String,
    dashboard: String,
    service: String,
}

/// On the embedded default: URLs and a token per role. With a configured secret, URLs only: that secret's tokens are not for
/// logs.
pub(super) async fn serving(server: &Server) -> Result<()> {
    let generated = matches!(server.config().auth.secret, SecretSource::Generated(_));
    let tokens = if generated { Some(tokens(server).await?) } else { None };
    tell(server, tokens.as_ref(), None);
    Ok(())
}

/// The demo prints tokens whatever signed them: it is made for being tried.
pub(super) async fn demo(server: &Server, size: DemoSize) -> Result<()> {
    let tokens = tokens(server).await?;
    tell(server, Some(&tokens), Some(size));
    Ok(())
}

/// The mitra of the printed token exists, the same one at every start of the same data.
async fn tokens(server: &Server) -> Result<Tokens> {
    let mitra = MitraId(Uuid::from_u128(0x4ad1_0000_0000_4000_8000_0000_0000_0001));
    let cause = Cause::new(Actor::Service, "printed token");
    server.store().put_mitra(mitra, "You (printed token)", None, &cause).await?;
    let issuer = server.issuer()?;
    let someone = |role| issuer.token(SubjectId(Uuid::new_v4()), role);
    Ok(Tokens {
        mitra: issuer.token(mitra, Role::Mitra),
        customer: someone(Role::Customer),
        dashboard: someone(Role::Dashboard),
        service: someone(Role::Service),
    })
}

/// A server that cannot say where it is serves all the same.
fn tell(server: &Server, tokens: Option<&Tokens>, demo: Option<DemoSize>) {
    let for_people = match server.config().log.format {
        Some(format) => format == LogFormat::Human,
        None => io::stdout().is_terminal(),
    };
    let text = if for_people { for_eyes(server, tokens, demo) } else { line(server, tokens) };
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        tracing::warn!(%error, "addresses and tokens cannot be written to standard output");
    }
}

fn line(server: &Server, tokens: Option<&Tokens>) -> String {
    let (public, internal) = (reachable(server.public_addr()), reachable(server.internal_addr()));
    let tokens = tokens.map(|tokens| {
        json!({ "mitra": tokens.mitra, "customer": tokens.customer, "dashboard": tokens.dashboard,
                "service": tokens.service })
    });
    let line = json!({ "public_url": format!("http://{public}"), "internal_url": format!("http://{internal}"),
                       "tokens": tokens });
    format!("{line}\n")
}

fn for_eyes(server: &Server, tokens: Option<&Tokens>, demo: Option<DemoSize>) -> String {
    let (public, internal) = (reachable(server.public_addr()), reachable(server.internal_addr()));
    let mut text = format!("\n  Hadir is here.\n\n  public    http://{public}\n  internal  http://{internal}\n\n");
    let Some(tokens) = tokens else { return text };
    if let Some(DemoSize { mitras, customers }) = demo {
        text += &format!("  {mitras} mitras and {customers} customers are moving. Watch, and join them:\n\n");
    }
    let mut paragraph = |lines: String| text += &format!("  {lines}\n\n");
    paragraph(format!("dashboard  http://{internal}/#token={}", tokens.dashboard));
    if demo.is_some() {
        paragraph(format!("a mitra    http://{public}/demo/mitra#token={}", tokens.mitra));
        paragraph(format!("a customer http://{public}/demo/customer#token={}", tokens.customer));
    }
    let Tokens { mitra, customer, service, .. } = tokens;
    paragraph("Is anybody there?".to_owned());
    paragraph(format!("  curl -H 'Authorization: Bearer {customer}' http://{public}/api/client/availability"));
    paragraph("Watch it change, with any WebSocket client:".to_owned());
    paragraph(format!("  websocat -H 'Authorization: Bearer {customer}' ws://{public}/ws/availability"));
    paragraph("Go online (send {\"type\":\"online\"}, then pings):".to_owned());
    paragraph(format!("  websocat -H 'Authorization: Bearer {mitra}' ws://{public}/ws/mitra"));
    paragraph("Who is available, for a backend:".to_owned());
    paragraph(format!("  curl -H 'Authorization: Bearer {service}' http://{internal}/internal/mitras/available"));
    text
}

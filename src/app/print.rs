//! What a person (or a script) is told when the server stands: URLs, tokens, lines to try.

use std::io::{IsTerminal, Write};

use anyhow::Result;
use serde_json::json;
use uuid::Uuid;

use super::Server;
use crate::{
    config::{LogFormat, SecretSource},
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
    tell(server, tokens, None)
}

/// The demo prints tokens whatever signed them: it is made for being tried.
pub(super) async fn demo(server: &Server, size: DemoSize) -> Result<()> {
    let tokens = tokens(server).await?;
    tell(server, Some(tokens), Some(size))
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

fn tell(server: &Server, tokens: Option<Tokens>, demo: Option<DemoSize>) -> Result<()> {
    let (public, internal) = (server.public_addr(), server.internal_addr());
    let mut out = std::io::stdout().lock();
    let for_people = match server.config().log.format {
        Some(format) => format == LogFormat::Human,
        None => out.is_terminal(),
    };
    if !for_people {
        let tokens = tokens.as_ref().map(|tokens| {
            json!({ "mitra": tokens.mitra, "customer": tokens.customer, "dashboard": tokens.dashboard,
                    "service": tokens.service })
        });
        let line = json!({ "public_url": format!("http://{public}"), "internal_url": format!("http://{internal}"),
                           "tokens": tokens });
        writeln!(out, "{line}")?;
        return Ok(out.flush()?);
    }
    writeln!(out, "\n  Hadir is here.\n")?;
    writeln!(out, "  public    http://{public}")?;
    writeln!(out, "  internal  http://{internal}\n")?;
    if let Some(tokens) = tokens {
        if let Some(size) = demo {
            writeln!(
                out,
                "  {} mitras and {} customers are moving. Watch, and join them:\n",
                size.mitras, size.customers
            )?;
        }
        writeln!(out, "  dashboard  http://{internal}/#token={}\n", tokens.dashboard)?;
        if demo.is_some() {
            writeln!(out, "  a mitra    http://{public}/demo/mitra#token={}\n", tokens.mitra)?;
            writeln!(out, "  a customer http://{public}/demo/customer#token={}\n", tokens.customer)?;
        }
        writeln!(out, "  Is anybody there?\n")?;
        writeln!(
            out,
            "    curl -H 'Authorization: Bearer {}' http://{public}/api/client/availability\n",
            tokens.customer
        )?;
        writeln!(out, "  Watch it change, with any WebSocket client:\n")?;
        writeln!(out, "    websocat -H 'Authorization: Bearer {}' ws://{public}/ws/availability\n", tokens.customer)?;
        writeln!(out, "  Go online (send {{\"type\":\"online\"}}, then pings):\n")?;
        writeln!(out, "    websocat -H 'Authorization: Bearer {}' ws://{public}/ws/mitra\n", tokens.mitra)?;
        writeln!(out, "  Who is available, for a backend:\n")?;
        writeln!(
            out,
            "    curl -H 'Authorization: Bearer {}' http://{internal}/internal/mitras/available\n",
            tokens.service
        )?;
    }
    Ok(out.flush()?)
}

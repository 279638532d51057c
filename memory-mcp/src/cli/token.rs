//! Tokens of callers over HTTP.

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use clap::{Args, Subcommand};
use memory_mcp::http::NewToken;
use memory_mcp::service::Right;
use serde_json::json;

use super::Failure;
use super::output::lines;
use super::session::Session;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a token of 256 random bits, and print it with the lines that let it in
    ///
    /// The token is printed once and kept nowhere: what the server needs is its hash. The token
    /// reaches what --scope says; without it, the scope that is configured.
    #[command(verbatim_doc_comment)]
    New(New),
}

#[derive(Debug, Args)]
pub(crate) struct New {
    /// What it may do: read, write or admin
    #[arg(long, value_parser = right)]
    right: Right,
    /// How long it holds: until a moment such as 2027-01-01T00:00:00Z, or for days such as 90d [default: for ever]
    #[arg(long, value_name = "MOMENT|DAYS", value_parser = moment)]
    expires: Option<DateTime<Utc>>,
    /// As whose it is known, in logs and for rates [default: token- and the beginning of its hash]
    #[arg(long)]
    name: Option<String>,
}

impl Command {
    pub(crate) fn run(self, session: &Session) -> Result<(), Failure> {
        let Self::New(New { right, expires, name }) = self;
        let scope = session.plan.scope();
        let made = NewToken::new(name, scope, right, expires)?;
        let answer = json!({
            "token": made.token,
            "name": made.name,
            "hash": made.hash,
            "scope": scope,
            "right": right.as_str(),
            "expires_at": expires,
            "lines": made.lines,
        });
        session.out.tell(&answer, |paint| {
            let (token, lines) = (paint.bold(&made.token), lines(&made.lines));
            format!("{token}\n\nIt is not shown again. Add this to the file that http.tokens names:\n\n{lines}")
        });
        Ok(())
    }
}

fn right(text: &str) -> Result<Right, String> {
    Right::named(text).ok_or_else(|| "allowed: read, write or admin".to_owned())
}

fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    let days = || Utc::now().checked_add_signed(TimeDelta::try_days(text.strip_suffix('d')?.parse().ok()?)?);
    let moment = DateTime::parse_from_rfc3339(text).map(DateTime::<Utc>::from).ok().or_else(days);
    moment.map(|moment| moment.trunc_subsecs(0)).ok_or_else(|| {
        "allowed: a moment with its time zone, such as 2027-01-01T00:00:00Z, or days such as 90d".to_owned()
    })
}

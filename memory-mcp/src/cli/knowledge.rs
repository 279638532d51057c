//! What was learned.

use clap::{Subcommand, ValueEnum};
use memory_core::HeuristicId;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Failure;
use super::output::{Paint, Table, line, lines};
use super::session::Session;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List what was learned, with its evidence
    List {
        /// What to list
        #[arg(value_enum, default_value_t = What::Playbooks)]
        what: What,
        /// Only what is known in this domain
        #[arg(long)]
        domain: Option<String>,
        /// Of patterns, only those that contain this
        #[arg(long, value_name = "TEXT")]
        contains: Option<String>,
        /// How many at most, from 1 to 1,000
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Say why a rule or a pattern is believed: the episodes for and against it
    Explain {
        /// Its id, as `knowledge list` shows it
        id: Uuid,
    },
    /// Let a rule be shown to agents, where that needs consent (memory.consent)
    Approve {
        /// The rule, as `knowledge list rules` shows it
        id: Uuid,
    },
    /// Take the approval of a rule back
    Revoke {
        /// The rule
        id: Uuid,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum What {
    /// Rules of one situation in order: what to do, what not
    Playbooks,
    /// What helps and what harms, with its evidence
    Rules,
    /// What usually comes next, which errors are repaired how, what precedes failure
    Patterns,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::Playbooks => "playbooks",
            Self::Rules => "rules",
            Self::Patterns => "patterns",
        }
    }
}

impl Command {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::List { what, domain, contains, limit } => {
                let arguments = json!({ "what": what.name(), "domain": domain, "contains": contains, "limit": limit });
                let known = session.ask("get_knowledge", arguments).await?;
                session.out.tell(&known, |paint| listed(&known, what, paint));
                Ok(())
            }
            Self::Explain { id } => {
                let known = session.ask("get_knowledge", json!({ "explain": id })).await?;
                session.out.tell(&known["explanation"], |paint| explained(&known["explanation"], paint));
                Ok(())
            }
            Self::Approve { id } => approve(session, id, true).await,
            Self::Revoke { id } => approve(session, id, false).await,
        }
    }
}

fn texts<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_default()
}

fn list<'v>(value: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    value[name].as_array().into_iter().flatten()
}

fn listed(known: &Value, what: What, paint: Paint) -> String {
    let all = list(known, what.name()).count();
    if all == 0 {
        return format!("No {} are known yet.", what.name());
    }
    let mut text = match what {
        What::Playbooks => {
            let told = list(known, "playbooks")
                .map(|one| format!("{}\n{}", paint.bold(&line(texts(one, "situation"))), lines(texts(one, "text"))));
            told.collect::<Vec<_>>().join("\n\n")
        }
        What::Rules => rules(known).render(paint),
        What::Patterns => patterns(known).render(paint),
    };
    let total = known["total"].as_u64().unwrap_or_default();
    if total > all as u64 {
        text += &format!("\n{all} of {total}; --limit shows more");
    }
    text
}

fn rules(known: &Value) -> Table {
    let mut table = Table::new(["id", "standing", "shown", "rule"]);
    for rule in list(known, "rules") {
        let shown = if rule["shown"] == true { "yes" } else { "no" };
        table.row([texts(rule, "id"), texts(rule, "standing"), shown, texts(rule, "text")].map(str::to_owned));
    }
    table
}

fn patterns(known: &Value) -> Table {
    let mut table = Table::new(["id", "kind", "domain", "episodes", "success", "pattern"]);
    for pattern in list(known, "patterns") {
        let sum = |name: &str| list(pattern, "branches").filter_map(|branch| branch[name].as_f64()).sum::<f64>();
        let then: Vec<&str> = list(pattern, "branches").filter_map(|branch| branch["then"].as_str()).collect();
        let arrow = if then.is_empty() { "" } else { " -> " };
        table.row([
            texts(pattern, "id").to_owned(),
            texts(pattern, "kind").to_owned(),
            texts(pattern, "domain").to_owned(),
            format!("{:.0}", sum("episodes")),
            format!("{:.0} %", 100.0 * sum("successes") / sum("trials").max(f64::MIN_POSITIVE)),
            format!("{}{arrow}{}", texts(pattern, "condition"), then.join(", ")),
        ]);
    }
    table
}

fn explained(explanation: &Value, paint: Paint) -> String {
    let mut text = format!("{}\n", paint.bold(&line(texts(explanation, "what"))));
    text += &format!("trust: {}\n", texts(explanation, "trust"));
    for (title, name) in [("for it", "episodes_for"), ("against it", "episodes_against")] {
        let ids: Vec<&str> = list(explanation, name).filter_map(Value::as_str).collect();
        text += &format!("episodes {title}: {}\n", ids.len());
        ids.iter().take(20).for_each(|id| text += &format!("  {id}\n"));
        if ids.len() > 20 {
            text += "  ...\n";
        }
    }
    let mut table = Table::new(["from", "what", "episodes", "trials", "successes"]);
    for (name, spans) in explanation["over_time"].as_object().into_iter().flatten() {
        for span in spans.as_array().into_iter().flatten() {
            let number = |field: &str| span[field].as_u64().unwrap_or_default().to_string();
            let from = texts(span, "from").chars().take(10).collect();
            table.row([from, name.clone(), number("episodes"), number("trials"), number("successes")]);
        }
    }
    text + &table.render(paint)
}

async fn approve(session: &Session, id: Uuid, yes: bool) -> Result<(), Failure> {
    let needed = session
        .with_records(async |opened| {
            let approvals = opened.approvals.clone().unwrap_or_default();
            let rule = HeuristicId::new(id);
            match yes {
                true => approvals.approve(&opened.memory, rule).await?,
                false => approvals.revoke(&opened.memory, rule).await?,
            }
            Ok(opened.approvals.is_some())
        })
        .await?;
    session.out.tell(&json!({ "rule": id, "approved": yes, "consent": needed }), |_| {
        let done = if yes { "approved" } else { "no longer approved" };
        let hint = if needed { "" } else { "\nmemory.consent is off: all rules are shown, approved or not" };
        format!("rule {id} is {done}{hint}")
    });
    Ok(())
}

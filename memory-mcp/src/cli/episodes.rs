//! What was done.

use std::collections::VecDeque;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use clap::{Args, Subcommand};
use memory_core::{
    Episode, EpisodeId, ErrorKind, Filter, Key, Memory, MemoryStore as _, OpenedEpisode, Record, RecordKind, Scan,
    Step, Task, Verdict,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::output::{Paint, Table, count, line, lines, pairs};
use super::session::Session;
use super::terminal::confirm;
use super::{Failure, transfer};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List completed episodes, the last one first
    List(List),
    /// Show an episode, complete or open, with its steps
    Show {
        /// Its id, as `episodes list` shows it
        id: Uuid,
    },
    /// Find episodes like a task, best first
    Search(Search),
    /// Write episodes and notes out, one JSON object a line
    Export(transfer::Export),
    /// Read in what was exported
    Import(transfer::Import),
    /// Delete episodes, and everything that was learned from them
    Delete {
        /// Their ids
        #[arg(required = true)]
        ids: Vec<Uuid>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// How many at most
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Only those of this domain
    #[arg(long)]
    domain: Option<String>,
    /// Only those in this language
    #[arg(long)]
    language: Option<String>,
    /// Only those with this tag; may be given several times
    #[arg(long)]
    tag: Vec<String>,
    /// Only those that ended so: success, partial, failure, abstained or interrupted
    #[arg(long, value_parser = verdict)]
    verdict: Option<Verdict>,
    /// Only those that ended at this time or later: 2026-01-31, or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<DateTime<Utc>>,
    /// Only those that ended before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<DateTime<Utc>>,
    /// Those that are still open instead
    #[arg(long, conflicts_with_all = ["domain", "language", "tag", "verdict", "since", "until"])]
    open: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Search {
    /// What is to be done
    task: String,
    /// How many at most, from 1 to 100
    #[arg(short, default_value_t = 10)]
    k: usize,
    /// Only those of this domain
    #[arg(long)]
    domain: Option<String>,
    /// Rather those in this language
    #[arg(long)]
    language: Option<String>,
    /// Rather those with this tag; may be given several times
    #[arg(long)]
    tag: Vec<String>,
}

fn verdict(text: &str) -> Result<Verdict, String> {
    use Verdict::{Abstained, Failure, Interrupted, Partial, Success};
    let all = [Success, Partial, Failure, Abstained, Interrupted];
    let found = all.into_iter().find(|verdict| verdict.as_str() == text);
    found.ok_or_else(|| format!("allowed: {}", all.map(Verdict::as_str).join(", ")))
}

fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    let day = || text.parse::<NaiveDate>().map(|day| day.and_time(NaiveTime::MIN).and_utc());
    let moment = DateTime::parse_from_rfc3339(text).map(|moment| moment.to_utc());
    moment.or_else(|_| day()).map_err(|_| "give it as 2026-01-31 or 2026-01-31T12:00:00Z".to_owned())
}

/// A moment as people read it.
fn shown(moment: DateTime<Utc>) -> String {
    moment.format("%Y-%m-%d %H:%M:%SZ").to_string()
}

impl Command {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::List(list) if list.open => list_open(session, list.limit).await,
            Self::List(list) => list.run(session).await,
            Self::Show { id } => show(session, EpisodeId::new(id)).await,
            Self::Search(search) => search.run(session).await,
            Self::Export(export) => export.run(session).await,
            Self::Import(import) => import.run(session).await,
            Self::Delete { ids, yes } => delete(session, &ids, yes).await,
        }
    }
}

impl List {
    fn filter(&self) -> Filter {
        let mut filter = Filter::default().completed(self.since, self.until);
        (filter.domain, filter.language) = (self.domain.clone(), self.language.clone());
        (filter.tags, filter.verdict) = (self.tag.clone(), self.verdict);
        filter
    }

    async fn run(self, session: &Session) -> Result<(), Failure> {
        let (total, last) =
            session.with_records(async |opened| last(&opened.memory, self.filter(), self.limit).await).await?;
        let episodes: Vec<Value> = last.iter().map(|episode| summary(episode)).collect();
        session.out.tell(&json!({ "total": total, "episodes": episodes }), |paint| {
            let mut table = Table::new(["id", "ended", "outcome", "domain", "steps", "task"]);
            for episode in &last {
                table.row([
                    episode.id.to_string(),
                    shown(episode.completed_at),
                    episode.outcome.verdict.to_string(),
                    episode.task.domain.clone().unwrap_or_default(),
                    episode.steps.len().to_string(),
                    episode.task.text.clone(),
                ]);
            }
            let all = count(total, "episode");
            let more =
                if total > last.len() as u64 { format!("{} of {all}; --limit shows more", last.len()) } else { all };
            format!("{}\n{}", table.render(paint), paint.dim(&more))
        });
        Ok(())
    }
}

/// How many episodes pass a filter, and the last ones of them, the last one first.
async fn last(
    memory: &Memory,
    filter: Filter,
    limit: usize,
) -> Result<(u64, VecDeque<std::sync::Arc<Episode>>), Failure> {
    let (mut total, mut last) = (0, VecDeque::new());
    let mut scan = Scan::new(RecordKind::Episode).scope(memory.scope().clone()).filter(filter).limit(256);
    loop {
        let page = memory.store().scan(&scan).await?;
        for stored in page.records {
            if let Record::Episode(logged) = stored.record {
                total += 1;
                last.push_front(logged.episode);
                last.truncate(limit);
            }
        }
        match page.next {
            Some(next) => scan = scan.after(Some(next)),
            None => return Ok((total, last)),
        }
    }
}

fn summary(episode: &Episode) -> Value {
    json!({
        "id": episode.id,
        "completed_at": episode.completed_at,
        "verdict": episode.outcome.verdict.as_str(),
        "domain": episode.task.domain,
        "steps": episode.steps.len(),
        "task": episode.task.text,
    })
}

async fn list_open(session: &Session, limit: usize) -> Result<(), Failure> {
    let mut open = session.with_records(async |opened| Ok(opened.memory.open_episodes().await?)).await?;
    open.sort_by_key(|episode| std::cmp::Reverse(episode.started_at));
    let total = open.len();
    open.truncate(limit);
    let held = |episode: &OpenedEpisode| episode.lease.map(|lease| lease.expires_at);
    let told = open.iter().map(|episode| {
        let (id, started_at, task) = (episode.id, episode.started_at, &episode.task.text);
        json!({ "id": id, "started_at": started_at, "held_until": held(episode), "task": task })
    });
    session.out.tell(&json!({ "total": total, "open": told.collect::<Vec<_>>() }), |paint| {
        let mut table = Table::new(["id", "began", "held until", "task"]);
        for episode in &open {
            let held = held(episode).map(shown).unwrap_or_default();
            table.row([episode.id.to_string(), shown(episode.started_at), held, episode.task.text.clone()]);
        }
        format!("{}\n{}", table.render(paint), paint.dim(&count(total as u64, "open episode")))
    });
    Ok(())
}

async fn show(session: &Session, id: EpisodeId) -> Result<(), Failure> {
    session
        .with_records(async |opened| {
            match opened.memory.episode(id).await {
                Ok(episode) => session.out.tell(&*episode, |paint| ended(&episode, paint)),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let Some((open, steps)) = open_episode(&opened.memory, id).await? else { return Err(error.into()) };
                    let mut answer = json!(open);
                    answer["steps"] = json!(steps);
                    session.out.tell(&answer, |paint| {
                        let began = [("episode", open.id.to_string()), ("open since", shown(open.started_at))];
                        let began = began.into_iter().chain(task_told(&open.task));
                        format!("{}{}", pairs(began, paint), steps_told(&steps, paint))
                    });
                }
                Err(error) => return Err(error.into()),
            }
            Ok(())
        })
        .await
}

/// An open episode with the steps that are stored of it.
async fn open_episode(memory: &Memory, id: EpisodeId) -> memory_core::Result<Option<(OpenedEpisode, Vec<Step>)>> {
    let Some(open) = memory.open_episodes().await?.into_iter().find(|open| open.id == id) else { return Ok(None) };
    let mut steps = Vec::new();
    loop {
        let first = u32::try_from(steps.len()).unwrap_or(u32::MAX);
        let keys: Vec<Key> = (first..first.saturating_add(100)).map(|index| Key::Step(id, index)).collect();
        let before = steps.len();
        steps.extend(memory.store().get(&keys).await?.into_iter().map_while(|stored| match stored?.record {
            Record::Step(step) => Some(step.step),
            _ => None,
        }));
        if steps.len() < before + keys.len() {
            return Ok(Some((open, steps)));
        }
    }
}

fn task_told(task: &Task) -> Vec<(&'static str, String)> {
    let mut told = vec![("task", task.text.clone())];
    told.extend(task.domain.clone().map(|domain| ("domain", domain)));
    told.extend(task.language.clone().map(|language| ("language", language)));
    if !task.tags.is_empty() {
        told.push(("tags", task.tags.iter().cloned().collect::<Vec<_>>().join(", ")));
    }
    if !task.environment.is_empty() {
        let facts = task.environment.iter().map(|(name, value)| format!("{name}={value}"));
        told.push(("environment", facts.collect::<Vec<_>>().join(", ")));
    }
    told
}

fn steps_told(steps: &[Step], paint: Paint) -> String {
    let mut text = format!("\n\n{}", count(steps.len() as u64, "step"));
    for (number, step) in steps.iter().enumerate() {
        let mark = if step.ok { paint.green("ok") } else { paint.red("error") };
        let what = [&step.tool, &step.action, &step.input].map(|part| line(part)).join(" ");
        text += &format!("\n{}. {} {mark}", number + 1, what.split_whitespace().collect::<Vec<_>>().join(" "));
        for observed in lines(&step.observation).lines() {
            text += &format!("\n   {}", paint.dim(observed));
        }
    }
    text
}

fn ended(episode: &Episode, paint: Paint) -> String {
    let (outcome, source) = (&episode.outcome, &episode.source);
    let mut told = vec![("episode", episode.id.to_string())];
    told.extend(task_told(&episode.task));
    told.push(("outcome", format!("{} {}", outcome.verdict, outcome.summary)));
    told.extend(outcome.reward.map(|reward| ("reward", reward.to_string())));
    told.extend(outcome.reflection.clone().map(|reflection| ("next time", reflection)));
    told.push(("time", format!("{} to {}", shown(episode.started_at), shown(episode.completed_at))));
    told.push(("source", format!("{}, {}", source.name, source.trust)));
    for artifact in &outcome.artifacts {
        told.push(("artifact", format!("{}, {} bytes", artifact.name, artifact.content.len())));
    }
    format!("{}{}", pairs(told, paint), steps_told(&episode.steps, paint))
}

impl Search {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        let mut task = Task::new(self.task);
        (task.domain, task.language) = (self.domain, self.language);
        task.tags = self.tag.into_iter().collect();
        let recalled = session.with_memory(async |opened| Ok(opened.memory.recall(&task, self.k).await?)).await?;
        let told = recalled.episodes.iter().map(|found| {
            let mut told = summary(&found.episode);
            (told["score"], told["why"]) = (found.score.into(), found.parts.to_string().into());
            told
        });
        let answer = json!({
            "episodes": told.collect::<Vec<_>>(),
            "abstained": recalled.abstained,
            "degraded": recalled.degraded,
        });
        session.out.tell(&answer, |paint| {
            if recalled.episodes.is_empty() {
                return "Nothing relevant is known.".to_owned();
            }
            let mut table = Table::new(["score", "id", "outcome", "task"]);
            for found in &recalled.episodes {
                let (episode, score) = (&found.episode, format!("{:.2}", found.score));
                let verdict = episode.outcome.verdict.to_string();
                table.row([score, episode.id.to_string(), verdict, episode.task.text.clone()]);
            }
            let degraded = recalled.degraded.iter().map(|why| format!("\nfound by words only: {}", line(why)));
            table.render(paint) + &degraded.collect::<String>()
        });
        Ok(())
    }
}

async fn delete(session: &Session, ids: &[Uuid], yes: bool) -> Result<(), Failure> {
    session.is_there()?;
    confirm(yes, &format!("delete {} and what was learned from them", count(ids.len() as u64, "episode")))?;
    session
        .with_records(async |opened| {
            for (done, id) in ids.iter().enumerate() {
                let deleted = opened.memory.delete(EpisodeId::new(*id)).await;
                deleted.map_err(|error| error.adding(format_args!("{done} of {} were deleted before", ids.len())))?;
            }
            Ok(())
        })
        .await?;
    session.out.tell(&json!({ "deleted": ids }), |_| format!("deleted {}", count(ids.len() as u64, "episode")));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_days_or_moments() {
        assert_eq!(moment("2026-01-31").unwrap().to_rfc3339(), "2026-01-31T00:00:00+00:00");
        assert_eq!(moment("2026-01-31T12:00:00+02:00").unwrap().to_rfc3339(), "2026-01-31T10:00:00+00:00");
        assert!(moment("yesterday").is_err());
    }

    #[test]
    fn verdicts_have_names() {
        assert_eq!(verdict("partial"), Ok(Verdict::Partial));
        assert!(verdict("well").unwrap_err().contains("interrupted"));
    }
}

//! What filters look at.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use foldhash::fast::RandomState;

use super::bits::Bits;
use crate::{Filter, LoggedEpisode, NoteFilter, NoteKind, Record, StoredNote, Trust};

/// What filters look at, of one record.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    labels: Vec<String>,
    expires_at: Option<DateTime<Utc>>,
    sessions: Option<u32>,
}

fn domain(domain: &str) -> String {
    format!("domain {domain}")
}

fn language(language: &str) -> String {
    format!("language {language}")
}

fn tag(tag: &str) -> String {
    format!("tag {tag}")
}

fn verdict(verdict: crate::Verdict) -> String {
    format!("verdict {verdict}")
}

fn kind(kind: NoteKind) -> String {
    format!("kind {kind}")
}

fn thread(thread: &str) -> String {
    format!("thread {thread}")
}

/// Those that are not trusted have the label: there are few of them, if any.
const UNTRUSTED: &str = "untrusted";

fn trust(trust: Trust) -> Option<String> {
    (trust < Trust::Trusted).then(|| UNTRUSTED.to_owned())
}

impl Facts {
    pub(super) fn of(record: &Record) -> Self {
        match record {
            Record::Episode(LoggedEpisode { episode, .. }) => {
                let task = &episode.task;
                let mut labels: Vec<String> = task.tags.iter().map(|name| tag(name)).collect();
                labels.extend(task.domain.as_deref().map(domain));
                labels.extend(task.language.as_deref().map(language));
                labels.push(verdict(episode.outcome.verdict));
                labels.extend(trust(episode.source.trust));
                Self { labels, ..Self::default() }
            }
            Record::Note(StoredNote { note, .. }) => {
                let sessions = note.here().is_none().then(|| u32::try_from(note.sessions()).unwrap_or(u32::MAX));
                let mut labels: Vec<String> = note.tags.iter().map(|name| tag(name)).collect();
                labels.push(kind(note.kind));
                labels.extend(note.place.as_ref().map(|place| thread(&place.thread)));
                labels.extend(trust(note.trust));
                Self { labels, expires_at: note.expires_at, sessions }
            }
            _ => Self::default(),
        }
    }
}

/// What filters look at, of all documents of a scope.
#[derive(Debug, Default)]
pub(super) struct FactIndex {
    /// The documents that have a label, by rising number.
    pub(super) labels: HashMap<Box<str>, Vec<u32>, RandomState>,
    /// Of the documents that expire.
    pub(super) expiries: BTreeMap<u32, DateTime<Utc>>,
    /// Of the notes that were told in sessions alone, in how many.
    pub(super) sessions: BTreeMap<u32, u32>,
}

impl FactIndex {
    pub(super) fn push(&mut self, document: u32, facts: Facts) {
        let Facts { labels, expires_at, sessions } = facts;
        for label in labels {
            self.labels.entry(label.into()).or_default().push(document);
        }
        self.expiries.extend(expires_at.map(|at| (document, at)));
        self.sessions.extend(sessions.map(|sessions| (document, sessions)));
    }

    /// Keeps the episodes that pass a filter; not by their moments, which are not here.
    pub(super) fn keep(&self, filter: &Filter, accepted: &mut Bits) {
        let required = filter.domain.as_deref().map(domain).into_iter();
        let required = required.chain(filter.language.as_deref().map(language));
        let required = required.chain(filter.tags.iter().map(|name| tag(name))).chain(filter.verdict.map(verdict));
        required.for_each(|label| self.require(&label, accepted));
        self.trusted(filter.trust, accepted);
    }

    /// Keeps the notes that pass a filter.
    pub(super) fn keep_notes(&self, filter: &NoteFilter, accepted: &mut Bits) {
        if let Some(moment) = filter.alive_at {
            let expired = self.expiries.iter().filter(|(_, expiry)| **expiry <= moment);
            expired.for_each(|(document, _)| accepted.clear(*document));
        }
        if let Some(moment) = filter.expired_at {
            let expired = |document| self.expiries.get(&document).is_some_and(|expiry| *expiry <= moment);
            accepted.retain(expired);
        }
        if let Some(quorum) = filter.quorum {
            let candidates = self.sessions.iter().filter(|(_, sessions)| **sessions < quorum);
            candidates.for_each(|(document, _)| accepted.clear(*document));
        }
        let required = filter.kind.map(kind).into_iter().chain(filter.tags.iter().map(|name| tag(name)));
        required.chain(filter.thread.as_deref().map(thread)).for_each(|label| self.require(&label, accepted));
        match filter.trust {
            Some(Trust::Untrusted) => self.require(UNTRUSTED, accepted),
            trust => self.trusted(trust, accepted),
        }
    }

    fn require(&self, label: &str, accepted: &mut Bits) {
        let mut having = Bits::zeros(accepted.len());
        self.labels.get(label).into_iter().flatten().for_each(|document| having.set(*document));
        accepted.intersect(&having);
    }

    fn trusted(&self, least: Option<Trust>, accepted: &mut Bits) {
        if least.is_some_and(|least| least >= Trust::Trusted) {
            let untrusted = self.labels.get(UNTRUSTED).into_iter().flatten();
            untrusted.for_each(|document| accepted.clear(*document));
        }
    }

    pub(super) fn renumber(&mut self, numbers: &[Option<u32>]) {
        let number = |document: u32| numbers[document as usize];
        for documents in self.labels.values_mut() {
            *documents = documents.iter().filter_map(|document| number(*document)).collect();
        }
        self.labels.retain(|_, documents| !documents.is_empty());
        let expiries = std::mem::take(&mut self.expiries).into_iter();
        self.expiries = expiries.filter_map(|(document, at)| Some((number(document)?, at))).collect();
        let sessions = std::mem::take(&mut self.sessions).into_iter();
        self.sessions = sessions.filter_map(|(document, count)| Some((number(document)?, count))).collect();
    }

    pub(super) fn bytes(&self) -> usize {
        let entry = size_of::<(Box<str>, Vec<u32>)>() + 1;
        let sparse =
            self.expiries.len() * size_of::<(u32, DateTime<Utc>)>() + self.sessions.len() * size_of::<(u32, u32)>();
        let names: usize = self.labels.keys().map(|label| label.len()).sum();
        let lists: usize = self.labels.values().map(|documents| documents.capacity() * size_of::<u32>()).sum();
        names + lists + self.labels.capacity() * entry + sparse
    }
}

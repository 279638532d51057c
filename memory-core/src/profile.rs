//! What counts in a recall, and how much.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use xxhash_rust::xxh3::xxh3_64;

use crate::text::words;
use crate::{Error, Hit, Key, Result, Search};

/// What a caller wants to know. Each has a [`Profile`] of its own.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Intent {
    /// Nothing in particular.
    #[default]
    Free,
    /// Something fails: what happened in episodes counts more, and recent ones do.
    Debugging,
    /// Something is to be done: episodes that ended well count more, and the results differ more from each other.
    Planning,
    /// A question is asked.
    Answering,
}

impl Intent {
    /// All intents.
    pub const ALL: [Self; 4] = [Self::Free, Self::Debugging, Self::Planning, Self::Answering];

    /// The intent as one lower-case word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Debugging => "debugging",
            Self::Planning => "planning",
            Self::Answering => "answering",
        }
    }

    /// The intent of a text, by its words: debugging if one of them tells of a failure; else answering, if it ends with a question
    /// mark or begins with an interrogative; else planning, if it begins with a verb of making; else free.
    ///
    /// ```
    /// use memory_core::Intent;
    /// assert_eq!(Intent::of("the login test fails with E42"), Intent::Debugging);
    /// assert_eq!(Intent::of("Which database do we use?"), Intent::Answering);
    /// assert_eq!(Intent::of("add a logout button"), Intent::Planning);
    /// assert_eq!(Intent::of("logout"), Intent::Free);
    /// ```
    pub fn of(text: &str) -> Self {
        const READ: usize = 200;
        let words: Vec<String> = words(text).take(READ).collect();
        let is = |list: &[&str], word: &String| list.contains(&word.as_str());
        if words.iter().any(|word| is(FAILURES, word)) {
            Self::Debugging
        } else if text.trim_end().ends_with('?') || words.first().is_some_and(|word| is(QUESTIONS, word)) {
            Self::Answering
        } else if words.first().is_some_and(|word| is(MAKING, word)) {
            Self::Planning
        } else {
            Self::Free
        }
    }
}

const FAILURES: &[&str] = &[
    "bug",
    "bugs",
    "broken",
    "crash",
    "crashed",
    "crashes",
    "crashing",
    "debug",
    "debugging",
    "error",
    "errors",
    "exception",
    "fail",
    "failed",
    "failing",
    "fails",
    "failure",
    "fix",
    "hangs",
    "panic",
    "panics",
    "repair",
    "traceback",
    "troubleshoot",
];
const QUESTIONS: &[&str] = &[
    "are", "can", "could", "did", "do", "does", "has", "have", "how", "is", "was", "were", "what", "when", "where",
    "which", "who", "whom", "whose", "why", "would",
];
const MAKING: &[&str] = &[
    "add",
    "build",
    "configure",
    "create",
    "deploy",
    "design",
    "develop",
    "extend",
    "implement",
    "install",
    "integrate",
    "make",
    "migrate",
    "plan",
    "prepare",
    "refactor",
    "replace",
    "set",
    "setup",
    "upgrade",
    "write",
];

impl fmt::Display for Intent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Intent {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|intent| intent.as_str() == name);
        known.ok_or_else(|| Error::invalid("intent", format_args!("{name:?}"), "free, debugging, planning, answering"))
    }
}

/// Intents of the texts that were asked last.
#[derive(Debug, Default)]
pub(crate) struct Intents(Mutex<HashMap<u64, Intent>>);

impl Intents {
    const MOST: usize = 1_024;

    /// [`Intent::of`] a text.
    pub(crate) fn of(&self, text: &str) -> Intent {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= Self::MOST {
            known.clear();
        }
        *known.entry(xxh3_64(text.as_bytes())).or_insert_with(|| Intent::of(text))
    }
}

/// How much each kind of likeness counts; they are divided by their sum.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// Of [`Hit::words`], in [0, 1].
    pub words: f64,
    /// Of [`Hit::trace`], in [0, 1]. Notes have no trace.
    pub trace: f64,
    /// Of [`Hit::vector`], in [0, 1].
    pub vector: f64,
}

impl Weights {
    /// These weights.
    pub const fn new(words: f64, trace: f64, vector: f64) -> Self {
        Self { words, trace, vector }
    }

    /// The weighted mean of a hit's scores, in [0, 1]; negative ones count as 0.
    pub(crate) fn relevance(&self, hit: &Hit) -> f64 {
        let trace = if matches!(hit.key, Key::Note(_)) { 0.0 } else { self.trace };
        let sum = self.words * hit.words + trace * hit.trace + self.vector * hit.vector.max(0.0);
        sum / (self.words + trace + self.vector)
    }
}

/// What counts in a recall, and how much. All numbers but [`depth`](Self::depth) are in [0, 1].
///
/// What is found is scored by its *relevance*: by words, trace and vector, for episodes also by what those like it say (see
/// [`agreement`](Self::agreement)), for the turns of a thread also by the turns around them. Of the score, the shares of
/// [`context`](Self::context), [`evidence`](Self::evidence), [`recency`](Self::recency) and [`salience`](Self::salience) are
/// decided by those: score = relevance × (1 − shares + Σ share × part). They order what is relevant, and never bring up what
/// is not.
///
/// # Default
/// That of [`Intent::Free`]: episodes 0.5 words, 0.2 trace, 0.3 vector; notes 0.9 words, 0.1 vector; agreement 1; context 0.3,
/// evidence 0.05, recency 0.1, salience 0.2; diversity 0; threshold 0.05; depth 50.
///
/// ```
/// use memory_core::{Intent, Profile};
/// let profile = Profile::of(Intent::Planning).with_threshold(0.2);
/// assert_eq!(profile.intent, Intent::Planning);
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// What it is for.
    pub intent: Intent,
    /// What counts in the likeness of episodes.
    pub episodes: Weights,
    /// What counts in the likeness of notes.
    pub notes: Weights,
    /// How much an episode's relevance is drawn towards that of episodes in which the same happened.
    pub agreement: f64,
    /// The share of an episode's score that language and tags decide.
    pub context: f64,
    /// The share of an episode's score that its outcome decides.
    pub evidence: f64,
    /// The share of a score that age decides.
    pub recency: f64,
    /// The share of a note's score that its salience decides.
    pub salience: f64,
    /// How much of its score something loses that is the same as what comes before it (J. Carbonell, J. Goldstein, "The Use of
    /// MMR, Diversity-Based Reranking", 1998).
    pub diversity: f64,
    /// The relevance below which nothing is returned.
    ///
    /// What it should be depends on the texts and the embedder. With the offline embedder, over 1,500 runs of `replay`, the best
    /// relevance of tasks of the same kind was 0.24 in the median and above 0.09 in 95 %, that of questions about something else
    /// entirely 0.11 in the median and below 0.18 in 95 %: the default cuts only what has next to nothing in common; 0.15 abstains
    /// from most of what is foreign, and from one in five tasks that it could help with.
    pub threshold: f64,
    /// How many of the episodes found are looked at closely, 1 to 100.
    pub depth: usize,
}

impl Default for Profile {
    fn default() -> Self {
        Self::of(Intent::Free)
    }
}

impl Profile {
    /// The profile of an intent.
    pub const fn of(intent: Intent) -> Self {
        let free = Self {
            intent,
            episodes: Weights::new(0.5, 0.2, 0.3),
            notes: Weights::new(0.9, 0.0, 0.1),
            agreement: 1.0,
            context: 0.3,
            evidence: 0.05,
            recency: 0.1,
            salience: 0.2,
            diversity: 0.0,
            threshold: 0.05,
            depth: 50,
        };
        match intent {
            Intent::Free | Intent::Answering => free,
            Intent::Debugging => Self { episodes: Weights::new(0.4, 0.4, 0.2), recency: 0.15, ..free },
            Intent::Planning => Self { evidence: 0.15, diversity: 0.2, ..free },
        }
    }

    /// Sets what counts in the likeness of episodes.
    #[must_use]
    pub const fn with_episodes(mut self, episodes: Weights) -> Self {
        self.episodes = episodes;
        self
    }

    /// Sets what counts in the likeness of notes.
    #[must_use]
    pub const fn with_notes(mut self, notes: Weights) -> Self {
        self.notes = notes;
        self
    }

    /// Sets how much episodes in which the same happened are drawn together.
    #[must_use]
    pub const fn with_agreement(mut self, agreement: f64) -> Self {
        self.agreement = agreement;
        self
    }

    /// Sets the share that language and tags decide.
    #[must_use]
    pub const fn with_context(mut self, context: f64) -> Self {
        self.context = context;
        self
    }

    /// Sets the share that the outcome decides.
    #[must_use]
    pub const fn with_evidence(mut self, evidence: f64) -> Self {
        self.evidence = evidence;
        self
    }

    /// Sets the share that age decides.
    #[must_use]
    pub const fn with_recency(mut self, recency: f64) -> Self {
        self.recency = recency;
        self
    }

    /// Sets the share that salience decides.
    #[must_use]
    pub const fn with_salience(mut self, salience: f64) -> Self {
        self.salience = salience;
        self
    }

    /// Sets how much is lost by saying the same.
    #[must_use]
    pub const fn with_diversity(mut self, diversity: f64) -> Self {
        self.diversity = diversity;
        self
    }

    /// Sets the relevance below which nothing is returned.
    #[must_use]
    pub const fn with_threshold(mut self, threshold: f64) -> Self {
        self.threshold = threshold;
        self
    }

    /// Sets how many of the episodes found are looked at closely.
    #[must_use]
    pub const fn with_depth(mut self, depth: usize) -> Self {
        self.depth = depth;
        self
    }

    /// Checks all numbers.
    pub(crate) fn validate(&self) -> Result<()> {
        let weights = |of: &str, Weights { words, trace, vector }: Weights| {
            [("words", words), ("trace", trace), ("vector", vector)]
                .map(|(part, value)| (format!("{of}.{part}"), value))
        };
        let shares = [
            ("agreement", self.agreement),
            ("context", self.context),
            ("evidence", self.evidence),
            ("recency", self.recency),
            ("salience", self.salience),
            ("diversity", self.diversity),
            ("threshold", self.threshold),
        ];
        let shares = shares.map(|(name, value)| (name.to_owned(), value));
        let (episodes, notes) = (weights("episodes", self.episodes), weights("notes", self.notes));
        for (name, value) in shares.into_iter().chain(episodes).chain(notes) {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::invalid(&format!("profile.{name}"), value, "0..=1"));
            }
        }
        for (name, weights) in [("episodes", self.episodes), ("notes", self.notes)] {
            let of_notes = if name == "notes" { 0.0 } else { weights.trace };
            if weights.words + weights.vector + of_notes == 0.0 {
                return Err(Error::invalid(&format!("profile.{name}"), "all zero", "at least one weight above 0"));
            }
        }
        for (name, sum) in [
            ("context + evidence + recency", self.context + self.evidence + self.recency),
            ("recency + salience", self.recency + self.salience),
        ] {
            if sum > 1.0 {
                return Err(Error::invalid(&format!("profile: {name}"), sum, "up to 1"));
            }
        }
        if !(1..=Search::MAX_K).contains(&self.depth) {
            return Err(Error::invalid("profile.depth", self.depth, "1..=100"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intents_are_told_by_their_words() {
        for (text, intent) in [
            ("Fix the flaky test", Intent::Debugging),
            ("why does it fail?", Intent::Debugging),
            ("why is it slow", Intent::Answering),
            ("the user asked: ready?  ", Intent::Answering),
            ("Migrate the orders table", Intent::Planning),
            ("users want to add items", Intent::Free),
            ("", Intent::Free),
        ] {
            assert_eq!(Intent::of(text), intent, "{text}");
            let known = Intents::default();
            assert_eq!([known.of(text), known.of(text), known.of("another")], [intent, intent, Intent::Free]);
            assert_eq!(known.0.lock().unwrap().len(), 2);
        }
        let known = Intents::default();
        assert!((0..5_000).all(|n: u32| known.of(&n.to_string()) == Intent::Free));
        assert!(known.0.lock().unwrap().len() <= Intents::MOST);
    }

    #[test]
    fn intents_have_names() {
        for intent in Intent::ALL {
            assert_eq!(intent.as_str().parse::<Intent>().unwrap(), intent);
            assert_eq!(Profile::of(intent).validate().err().map(|error| error.to_string()), None);
        }
        let error = "Debugging".parse::<Intent>().unwrap_err().to_string();
        assert!(error.contains("intent is \"Debugging\"; allowed: free, debugging, planning, answering"), "{error}");
    }

    #[test]
    fn profiles_out_of_range_are_refused() {
        let free = Profile::default();
        for (profile, why) in [
            (free.with_agreement(1.5), "profile.agreement is 1.5; allowed: 0..=1"),
            (free.with_threshold(f64::NAN), "profile.threshold is NaN; allowed: 0..=1"),
            (free.with_episodes(Weights::new(-0.1, 0.0, 0.0)), "profile.episodes.words is -0.1; allowed: 0..=1"),
            (free.with_notes(Weights::new(0.0, 1.0, 0.0)), "profile.notes is all zero; allowed: at least one"),
            (free.with_context(0.9), "profile: context + evidence + recency is 1.05"),
            (free.with_salience(0.95), "profile: recency + salience is 1.05"),
            (free.with_depth(0), "profile.depth is 0; allowed: 1..=100"),
            (free.with_depth(101), "profile.depth is 101; allowed: 1..=100"),
        ] {
            let error = profile.validate().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}

//! What the memory showed or withheld while an episode went on, and what became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{EpisodeId, HeuristicId, NoteId, PatternId};

/// What an agent says about a piece of advice it was shown.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Feedback {
    /// It was followed.
    Used,
    /// It was not followed.
    Ignored,
    /// It was followed, or would have been, to the harm of the task.
    Harmful,
}

impl Feedback {
    /// The feedback as one lower-case word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Used => "used",
            Self::Ignored => "ignored",
            Self::Harmful => "harmful",
        }
    }
}

impl fmt::Display for Feedback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an episode's recalls showed or withheld, added up. It enters the log with the episode, so that the outcome is attributed
/// to what was shown exactly once.
///
/// Whether something is shown is decided once for each episode and tool advised on, so that several recalls agree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Whether all that was recalled was withheld, for comparison.
    pub withheld: bool,
    /// The advice that fitted, and whether it was shown. Empty if everything was withheld.
    pub advice: BTreeMap<HeuristicId, bool>,
    /// The episodes that were shown.
    pub episodes: BTreeSet<EpisodeId>,
    /// The pitfalls that were shown.
    pub pitfalls: BTreeSet<PatternId>,
    /// The notes that were shown.
    pub notes: BTreeSet<NoteId>,
    /// What the agent said about the advice.
    pub feedback: BTreeMap<HeuristicId, Feedback>,
}

impl Receipt {
    /// Adds what another recall of the same episode showed.
    pub fn add(&mut self, other: Self) {
        let Self { withheld, advice, episodes, pitfalls, notes, feedback } = other;
        self.withheld |= withheld;
        self.advice.extend(advice);
        self.episodes.extend(episodes);
        self.pitfalls.extend(pitfalls);
        self.notes.extend(notes);
        self.feedback.extend(feedback);
    }
}

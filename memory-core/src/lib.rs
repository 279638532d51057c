#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod agreement;
mod clock;
mod derive;
mod embed;
mod engine;
mod episode;
mod error;
mod habit;
mod hash_embedder;
mod heuristic;
mod in_memory;
pub mod index;
mod learn;
mod limits;
mod lines;
mod note;
mod pattern;
mod playbook;
mod profile;
mod prompt;
mod quota;
mod quote;
pub mod ranking;
mod receipt;
mod rerank;
mod scope;
mod search;
mod source;
mod state;
pub mod statistics;
mod steps;
mod store;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod text;
mod thread;
mod tokens;
mod transfer;
mod watch;

pub use clock::*;
pub use embed::*;
pub use engine::*;
pub use episode::*;
pub use error::*;
pub use habit::{Habit, Window};
pub use hash_embedder::*;
pub use heuristic::*;
pub use in_memory::*;
pub use learn::Learner;
pub use limits::*;
pub use note::*;
pub use pattern::*;
pub use playbook::*;
pub use profile::{Intent, Profile, Weights};
pub use prompt::*;
pub use quota::*;
pub use receipt::*;
pub use rerank::Reranker;
pub use scope::*;
pub use search::*;
pub use source::*;
pub use steps::*;
pub use store::*;
pub use tokens::*;
pub use transfer::{Conflict, ImportOptions, Transferred};
pub use watch::*;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_can_cross_threads() {
        fn check<T: Send + Sync>() {}
        check::<Memory>();
        check::<MemoryBuilder>();
        check::<OpenEpisode>();
        check::<Recollection>();
        check::<Prompt>();
        check::<Suggestion>();
        check::<Note>();
        check::<RecalledNotes>();
        check::<NoteChange>();
        check::<NotePage>();
        check::<NoteQuery>();
        check::<NoteStatistics>();
        check::<InMemoryStore>();
        check::<HashEmbedder>();
        check::<Batch>();
        check::<QuotaStore<InMemoryStore>>();
        check::<Stored>();
        check::<Transferred>();
        check::<Reembedded>();
        check::<Watch>();
        check::<Error>();
    }
}

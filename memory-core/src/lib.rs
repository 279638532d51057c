#![doc = include_str!("../README.md")]

mod clock;
mod embed;
mod engine;
mod episode;
mod error;
mod hash_embedder;
mod in_memory;
mod learn;
mod limits;
mod pattern;
pub mod ranking;
mod scope;
mod state;
mod store;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod text;

pub use clock::*;
pub use embed::*;
pub use engine::*;
pub use episode::*;
pub use error::*;
pub use hash_embedder::*;
pub use in_memory::*;
pub use learn::Learner;
pub use limits::*;
pub use pattern::*;
pub use scope::*;
pub use store::*;

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
        check::<Suggestion>();
        check::<InMemoryStore>();
        check::<HashEmbedder>();
        check::<Batch>();
        check::<Stored>();
        check::<Error>();
    }
}

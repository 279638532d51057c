//! An embedder that fails, and vectors of another space.

use std::fmt;
use std::sync::Arc;

use memory_core::testkit::{EmbedderFault, FaultyEmbedder, samples};
use memory_core::{
    Embedder, ErrorKind, HashEmbedder, InMemoryStore, Memory, MemoryStore, MemoryStoreExt, Outcome, Result, Role, Task,
    Vector, VectorSpace,
};

use crate::{lost, opened, over, worked};

type Spoiled = Arc<FaultyEmbedder<HashEmbedder>>;

async fn with_embedder() -> (Spoiled, Memory) {
    let embedder = Arc::new(FaultyEmbedder::new(HashEmbedder::new()));
    let builder = Memory::builder().store(InMemoryStore::new()).embedder(Arc::clone(&embedder));
    (embedder, builder.build().await.unwrap())
}

/// Every way to fail, with what the degraded answer says.
fn faults() -> [(EmbedderFault, &'static str); 3] {
    [
        (EmbedderFault::Fail(lost()), "unavailable: scripted"),
        (EmbedderFault::WrongCount, "embedder's answer is 0 vectors; allowed: 1, as many as texts"),
        (EmbedderFault::WrongLength, "vector is 511 long; allowed: 512 components"),
    ]
}

#[tokio::test(start_paused = true)]
async fn an_episode_without_a_vector_is_kept_and_found_by_words() {
    for (place, (fault, why)) in faults().into_iter().enumerate() {
        let (embedder, memory) = with_embedder().await;
        embedder.script(fault);
        let ack = if place % 2 == 0 {
            opened(&memory).await.complete(Outcome::success("")).await.unwrap()
        } else {
            memory.record(worked("make the login test pass", &[])).await.unwrap()
        };
        let degraded = ack.degraded.unwrap();
        assert!(degraded.contains(why), "{degraded}");
        let logged = memory.store().get_episode(ack.episode).await.unwrap().unwrap();
        assert_eq!(logged.vector, None);
        let found = memory.recall(&Task::new("login"), 1).await.unwrap();
        assert_eq!((found.episodes[0].episode.id, found.degraded), (ack.episode, None));
        assert!(found.episodes[0].parts.words > 0.0 && found.episodes[0].parts.vector == 0.0);
        assert_eq!(memory.patterns().await.unwrap().len(), 2, "it is learned from as well");
    }
}

#[tokio::test(start_paused = true)]
async fn recalling_goes_on_by_words_and_says_so() {
    let (embedder, memory) = with_embedder().await;
    let ack = memory.record(worked("make the login test pass", &["grep"])).await.unwrap();
    assert_eq!(ack.degraded, None);
    for (fault, why) in faults() {
        embedder.script(fault);
        let found = memory.recall(&Task::new("login"), 5).await.unwrap();
        assert!(found.degraded.as_ref().is_some_and(|degraded| degraded.contains(why)), "{:?}", found.degraded);
        assert_eq!(found.episodes[0].episode.id, ack.episode);
        assert!(found.episodes[0].parts.words > 0.0 && found.episodes[0].parts.vector == 0.0);
    }
    for (fault, _) in faults() {
        embedder.script(fault);
        assert_eq!(memory.suggest(&Task::new("login"), &[], 1).await.unwrap()[0].tool, "grep");
    }
    assert_eq!(memory.recall(&Task::new("login"), 5).await.unwrap().degraded, None, "it passes");
}

#[tokio::test(start_paused = true)]
async fn words_and_vector_together_decide_the_order() {
    let (embedder, memory) = with_embedder().await;
    embedder.script(EmbedderFault::Fail(lost()));
    let bare = memory.record(worked("fix login", &[])).await.unwrap().episode;
    let whole = memory.record(worked("fix login page", &[])).await.unwrap().episode;
    let found = memory.recall(&Task::new("fix login"), 2).await.unwrap().episodes;
    assert_eq!([found[0].episode.id, found[1].episode.id], [whole, bare]);
    assert!(found[0].parts.words < found[1].parts.words, "by words alone it would be the other way: {found:?}");
}

/// An embedder that gives one vector for everything, and whose health is what it was told.
#[derive(Debug)]
struct Constant {
    space: VectorSpace,
    ill: bool,
}

impl fmt::Display for Constant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Constant")
    }
}

#[async_trait::async_trait]
impl Embedder for Constant {
    fn space(&self) -> &VectorSpace {
        &self.space
    }
    async fn embed(&self, _role: Role, texts: &[&str]) -> Result<Vec<Vector>> {
        Ok(texts.iter().map(|_| samples::vector(&[1.0, 0.0])).collect())
    }
    async fn health(&self) -> Result<()> {
        if self.ill { Err(lost()) } else { Ok(()) }
    }
}

#[tokio::test(start_paused = true)]
async fn health_tells_what_the_embedder_says() {
    for ill in [false, true] {
        let embedder = Constant { space: samples::space(2), ill };
        let memory = Memory::builder().store(InMemoryStore::new()).embedder(embedder).build().await.unwrap();
        let told = memory.health().await.unwrap().embedder_error;
        assert_eq!(told.as_deref(), ill.then_some("unavailable: scripted"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_of_another_space_is_refused_and_left_alone() {
    let store = InMemoryStore::new();
    over(store.clone()).await.record(worked("fix", &["read"])).await.unwrap();
    let before = store.health().await.unwrap();
    let mut spaces = [HashEmbedder::new().space().clone(), HashEmbedder::new().space().clone(), samples::space(2)];
    spaces[0].revision = "2".to_owned();
    spaces[1].query_prefix = "query: ".to_owned();
    for space in spaces {
        let other = Constant { space, ill: false };
        let error = Memory::builder().store(store.clone()).embedder(other).build().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SpaceMismatch);
        assert!(error.to_string().contains("knowhow/hash@1 (512 dimensions, normalised)"), "{error}");
        assert_eq!(store.health().await.unwrap(), before);
    }
    assert_eq!(over(store).await.recall(&Task::new("fix"), 1).await.unwrap().episodes.len(), 1);
}

#[test]
fn a_vector_of_what_is_no_number_cannot_be_made() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(Vector::new(vec![0.0, bad]).unwrap_err().kind(), ErrorKind::Invalid);
    }
}

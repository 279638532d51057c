//! The cache: what it keeps, how much of it, and what calls at once do.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use memory_core::testkit::{EmbedderFault, FaultyEmbedder};
use memory_core::{Embedder, HashEmbedder, Role};
use memory_embed::{CacheConfig, CachedEmbedder};
use proptest::prelude::*;

use crate::counting::{Counting, truth};

fn cached(config: CacheConfig) -> CachedEmbedder<Counting> {
    CachedEmbedder::new(Counting::default(), config).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_text_is_asked_once_for_each_role() {
    let embedder = cached(CacheConfig::default());
    for _ in 0..3 {
        let vectors = embedder.embed(Role::Query, &["alpha", "beta", "alpha"]).await.unwrap();
        assert_eq!(vectors, [truth("alpha").await, truth("beta").await, truth("alpha").await]);
    }
    assert_eq!(embedder.get_ref().calls(), 1);
    embedder.embed(Role::Document, &["alpha"]).await.unwrap();
    assert_eq!(embedder.get_ref().calls(), 2, "a document may have another prefix");
    let stats = embedder.stats();
    assert_eq!((stats.misses, stats.hits, stats.entries, stats.evictions), (3, 7, 3, 0));
}

#[tokio::test(start_paused = true)]
async fn only_what_is_missing_is_asked_for() {
    let embedder = cached(CacheConfig::default());
    embedder.embed(Role::Query, &["beta"]).await.unwrap();
    let vectors = embedder.embed(Role::Query, &["alpha", "beta", "gamma"]).await.unwrap();
    assert_eq!(vectors, [truth("alpha").await, truth("beta").await, truth("gamma").await]);
    let mut second = embedder.get_ref().asked.lock().unwrap()[1].clone();
    second.sort();
    assert_eq!(second, ["alpha", "gamma"]);
}

#[tokio::test(start_paused = true)]
async fn it_is_bounded_by_entries_and_drops_what_was_used_longest_ago() {
    let embedder = cached(CacheConfig::default().with_entries(2));
    for text in ["alpha", "beta", "alpha", "gamma"] {
        embedder.embed(Role::Query, &[text]).await.unwrap();
    }
    assert_eq!((embedder.stats().entries, embedder.stats().evictions), (2, 1));
    embedder.embed(Role::Query, &["alpha"]).await.unwrap();
    assert_eq!(embedder.stats().misses, 3, "a was used after b");
    embedder.embed(Role::Query, &["beta"]).await.unwrap();
    assert_eq!(embedder.stats().misses, 4);
}

#[tokio::test(start_paused = true)]
async fn it_is_bounded_by_bytes() {
    let bytes = 5 * (HashEmbedder::DIMENSIONS * 4 + 128);
    let embedder = cached(CacheConfig::default().with_bytes(bytes));
    for n in 0..50 {
        embedder.embed(Role::Query, &[&format!("text {n}")]).await.unwrap();
        assert!(embedder.stats().bytes <= bytes);
    }
    assert_eq!((embedder.stats().entries, embedder.stats().evictions), (5, 45));
}

#[tokio::test(start_paused = true)]
async fn calls_at_once_for_one_text_ask_once() {
    let embedder = Arc::new(cached(CacheConfig::default()));
    let calls: Vec<_> = (0..50)
        .map(|n| {
            let embedder = Arc::clone(&embedder);
            tokio::spawn(async move { embedder.embed(Role::Query, &["same", ["alpha", "beta"][n % 2]]).await.unwrap() })
        })
        .collect();
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap(), [truth("same").await, truth(["alpha", "beta"][n % 2]).await]);
    }
    assert_eq!(embedder.stats().misses, 3);
    assert_eq!(embedder.stats().hits, 97);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_call_that_is_dropped_or_fails_asks_itself() {
    let embedder = Arc::new(cached(CacheConfig::default()));
    let dropped = embedder.embed(Role::Query, &["alpha"]);
    let waiting = Arc::clone(&embedder);
    let waiting = async move {
        tokio::time::sleep(Duration::from_millis(1)).await;
        waiting.embed(Role::Query, &["alpha"]).await
    };
    let limited = tokio::time::timeout(Duration::from_millis(5), dropped);
    let (first, second) = tokio::join!(limited, waiting);
    assert!(first.is_err());
    assert_eq!(second.unwrap(), [truth("alpha").await]);

    embedder.get_ref().set_down(true);
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let embedder = Arc::clone(&embedder);
            tokio::spawn(async move { embedder.embed(Role::Query, &["beta"]).await })
        })
        .collect();
    let begun = tokio::time::Instant::now();
    for call in calls {
        assert!(call.await.unwrap().unwrap_err().is_temporary());
    }
    assert!(
        begun.elapsed() <= Duration::from_millis(50),
        "they do not wait for each other in turn: {:?}",
        begun.elapsed()
    );
    embedder.get_ref().set_down(false);
    embedder.embed(Role::Query, &["beta"]).await.expect("errors are not kept");
}

#[tokio::test]
async fn wrong_answers_are_not_kept() {
    let embedder = CachedEmbedder::new(FaultyEmbedder::new(HashEmbedder::new()), CacheConfig::default()).unwrap();
    for fault in [EmbedderFault::WrongCount, EmbedderFault::WrongLength] {
        embedder.get_ref().script(fault);
        let error = embedder.embed(Role::Query, &["alpha"]).await.unwrap_err();
        assert!(error.to_string().contains("FaultyEmbedder(HashEmbedder) answered"), "{error}");
        assert_eq!(embedder.stats().entries, 0);
    }
    assert_eq!(embedder.embed(Role::Query, &["alpha"]).await.unwrap(), [truth("alpha").await]);
}

#[tokio::test]
async fn bounds_without_room_are_refused() {
    for (config, said) in [
        (CacheConfig::default().with_entries(0), "cache.entries is 0; allowed: 1 or more"),
        (CacheConfig::default().with_bytes(2_000), "cache.bytes is 2000; allowed: 2176 or more"),
    ] {
        let error = CachedEmbedder::new(HashEmbedder::new(), config).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[tokio::test]
async fn health_is_that_of_the_embedder() {
    let embedder = cached(CacheConfig::default());
    embedder.health().await.unwrap();
    assert_eq!(embedder.get_ref().healths.load(Ordering::Relaxed), 1);
    embedder.get_ref().set_down(true);
    assert!(embedder.health().await.is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(50) })]

    /// Whatever is asked in whatever order, with room for few.
    #[test]
    fn answers_are_those_of_the_embedder(calls in prop::collection::vec(prop::collection::vec("w[a-e]k", 0..6), 1..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let embedder = CachedEmbedder::new(HashEmbedder::new(), CacheConfig::default().with_entries(3)).unwrap();
            for call in &calls {
                let texts: Vec<&str> = call.iter().map(String::as_str).collect();
                let plain = HashEmbedder::new().embed(Role::Query, &texts).await.unwrap();
                assert_eq!(embedder.embed(Role::Query, &texts).await.unwrap(), plain);
                assert!(embedder.stats().entries <= 3);
            }
            let stats = embedder.stats();
            let texts: usize = calls.iter().map(Vec::len).sum();
            assert_eq!(stats.hits + stats.misses, u64::try_from(texts).unwrap());
        });
    }
}

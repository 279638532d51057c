use std::sync::Arc;
use std::time::Duration;

use memory_core::{Embedder as _, ErrorKind, HashEmbedder, MemoryStore, Role};
use memory_resilience::{RateLimit, RateLimitConfig, ResilienceExt as _};
use tokio::time::{Instant, advance, sleep};

use crate::{Faulty, calls, faulty, ms, settle, spawn};

/// Ten calls a second.
fn limited(burst: u32, max_wait: Duration) -> (Arc<Faulty>, Arc<RateLimit<Arc<Faulty>>>) {
    let store = faulty();
    let config = RateLimitConfig::default().with_calls(10, ms(1_000)).with_burst(burst).with_max_wait(max_wait);
    (Arc::clone(&store), Arc::new(store.rate_limit(config).unwrap()))
}

#[tokio::test(start_paused = true)]
async fn a_burst_passes_and_the_rest_is_refused_with_the_exact_time() {
    let (store, limit) = limited(3, ms(0));
    for _ in 0..3 {
        limit.health().await.unwrap();
    }
    let error = limit.health().await.unwrap_err();
    assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::RateLimited, true));
    assert_eq!(error.retry_after(), Some(ms(100)));
    assert!(error.to_string().contains("10 calls in 1s are allowed"), "{error}");
    advance(ms(99)).await;
    assert_eq!(limit.health().await.unwrap_err().retry_after(), Some(ms(1)));
    advance(ms(1)).await;
    limit.health().await.unwrap();
    assert_eq!((calls(&store), limit.stats().refused), (4, 2));
}

#[tokio::test(start_paused = true)]
async fn after_a_rest_there_is_one_burst_and_no_more() {
    let (_store, limit) = limited(3, ms(0));
    advance(ms(60_000)).await;
    for _ in 0..3 {
        limit.health().await.unwrap();
    }
    limit.health().await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn in_the_long_run_no_more_pass_than_are_allowed() {
    let (store, limit) = limited(5, ms(0));
    for _ in 0..1_000 {
        let _ = limit.health().await;
        advance(ms(10)).await;
    }
    assert!((104..=105).contains(&calls(&store)), "{}", calls(&store));
}

#[tokio::test(start_paused = true)]
async fn calls_wait_in_order_for_what_is_allowed() {
    let (store, limit) = limited(1, ms(1_000));
    let begun = Instant::now();
    let (told, mut ends) = tokio::sync::mpsc::unbounded_channel();
    for n in 0..11_u32 {
        let (limit, told) = (Arc::clone(&limit), told.clone());
        tokio::spawn(async move {
            limit.health().await.unwrap();
            told.send((n, begun.elapsed())).unwrap();
        });
        settle().await;
    }
    assert_eq!((limit.stats().waiting, limit.stats().delayed, calls(&store)), (10, 10, 1));
    let error = limit.health().await.unwrap_err();
    assert_eq!(error.retry_after(), Some(ms(100)), "the queue is full for another tenth of a second");
    for n in 0..11 {
        let (who, when) = ends.recv().await.unwrap();
        assert_eq!(who, n);
        assert!(when >= ms(100) * n && when < ms(100) * n + ms(12), "{n}: {when:?}");
    }
    assert_eq!(limit.stats().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn who_comes_later_does_not_overtake_who_waits() {
    let (_store, limit) = limited(1, ms(1_000));
    limit.health().await.unwrap();
    let first = spawn(&limit);
    settle().await;
    // The first is allowed by now, and has not noticed yet.
    advance(ms(100)).await;
    let second = spawn(&limit);
    first.await.unwrap().unwrap();
    assert!(!second.is_finished());
    second.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn dropped_calls_leave_the_queue_and_use_nothing_up() {
    let (store, limit) = limited(1, ms(1_000));
    limit.health().await.unwrap();
    let waiting: Vec<_> = (0..10).map(|_| spawn(&limit)).collect();
    settle().await;
    limit.health().await.unwrap_err();
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    settle().await;
    assert_eq!(limit.stats().waiting, 0);
    let begun = Instant::now();
    limit.health().await.unwrap();
    assert!(begun.elapsed() < ms(102), "{:?}", begun.elapsed());
    assert_eq!(calls(&store), 2);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_lets_those_behind_it_move_up() {
    let (_store, limit) = limited(1, ms(1_000));
    limit.health().await.unwrap();
    let begun = Instant::now();
    let (first, second) = (spawn(&limit), spawn(&limit));
    settle().await;
    sleep(ms(50)).await;
    first.abort();
    second.await.unwrap().unwrap();
    assert!(begun.elapsed() < ms(110), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_embed_of_many_texts_is_one_call() {
    let config = RateLimitConfig::default().with_calls(1, ms(1_000)).with_burst(2).with_max_wait(ms(0));
    let limit = HashEmbedder::new().rate_limit(config).unwrap();
    for _ in 0..2 {
        limit.embed(Role::Document, &["text"; 100]).await.unwrap();
    }
    assert_eq!(limit.embed(Role::Document, &["text"]).await.unwrap_err().kind(), ErrorKind::RateLimited);
}

#[tokio::test(start_paused = true)]
async fn closing_is_always_let_through() {
    let (_store, limit) = limited(1, ms(0));
    limit.health().await.unwrap();
    limit.health().await.unwrap_err();
    limit.close().await.unwrap();
}

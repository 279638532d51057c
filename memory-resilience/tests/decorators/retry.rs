use std::sync::Arc;
use std::time::Duration;

use memory_core::testkit::{EmbedderFault, Fault, FaultyEmbedder, Operation, samples};
use memory_core::{Batch, Embedder, Error, ErrorKind, HashEmbedder, Key, MemoryStore, Role};
use memory_resilience::{ResilienceExt as _, Retry, RetryConfig};
use tokio::time::Instant;

use crate::{Faulty, busy, calls, fail, faulty, hold, ms, not_found, settle, spawn};

fn retrying(config: RetryConfig) -> (Arc<Faulty>, Arc<Retry<Arc<Faulty>>>) {
    let store = faulty();
    (Arc::clone(&store), Arc::new(store.retry(config).unwrap()))
}

fn default() -> RetryConfig {
    RetryConfig::default().with_seed(1)
}

#[tokio::test(start_paused = true)]
async fn a_temporary_failure_is_tried_again() {
    let (store, retry) = retrying(default());
    fail(&store, [busy(), busy()]);
    retry.health().await.unwrap();
    let stats = retry.stats();
    assert_eq!((calls(&store), stats.calls, stats.retries, stats.given_up), (3, 1, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn other_failures_are_not_tried_again() {
    let (store, retry) = retrying(default());
    for error in [not_found(), busy().into_persistent(), busy().with_temporary(false)] {
        let before = (error.to_string(), error.is_persistent());
        fail(&store, [error]);
        let error = retry.health().await.unwrap_err();
        assert_eq!((error.to_string(), error.is_persistent()), before, "it comes out as it was");
    }
    assert_eq!((calls(&store), retry.stats().retries, retry.stats().given_up), (3, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn giving_up_says_after_how_many_attempts_how_long_and_why() {
    let (store, retry) = retrying(default().with_attempts(3));
    fail(&store, [busy(), busy(), busy()]);
    let error = retry.health().await.unwrap_err();
    assert!(error.is_persistent() && !error.is_temporary());
    assert_eq!(error.kind(), ErrorKind::Busy);
    let text = error.to_string();
    assert!(
        text.starts_with("busy: scripted; given up after 3 attempts in ") && text.ends_with(": no more are allowed"),
        "{text}"
    );
    assert_eq!((calls(&store), retry.stats().given_up), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_retry_around_a_retry_does_not_multiply_attempts() {
    let (store, inner) = retrying(default().with_attempts(3));
    let outer = inner.retry(default()).unwrap();
    fail(&store, (0..100).map(|_| busy()));
    outer.health().await.unwrap_err();
    assert_eq!(calls(&store), 3);
}

#[tokio::test(start_paused = true)]
async fn pauses_are_random_below_a_bound_that_doubles_up_to_the_longest() {
    let bounds = [50, 100, 200, 300, 300].map(ms);
    let mut longest = [Duration::ZERO; 5];
    for seed in 0..300 {
        let config = default().with_seed(seed).with_attempts(6).with_pauses(ms(50), ms(300));
        let (store, retry) = retrying(config);
        for (pause, (bound, longest)) in bounds.iter().zip(&mut longest).enumerate() {
            fail(&store, (0..=pause).map(|_| busy()));
            let begun = Instant::now();
            retry.health().await.unwrap();
            let earlier: Duration = bounds[..pause].iter().sum();
            // Timers go by whole milliseconds, and so up to one more each.
            assert!(begun.elapsed() <= earlier + *bound + ms(5), "{pause}: {:?}", begun.elapsed());
            *longest = (*longest).max(begun.elapsed());
        }
    }
    assert!(longest[0] > ms(45), "all of the span is used: {longest:?}");
    assert!(longest[4] > ms(500), "pauses grow: {longest:?}");
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_pauses() {
    let spent = async |seed: u64| {
        let (store, retry) = retrying(default().with_seed(seed));
        fail(&store, [busy(), busy(), busy()]);
        let begun = Instant::now();
        retry.health().await.unwrap();
        begun.elapsed()
    };
    assert_eq!(spent(7).await, spent(7).await);
    assert_ne!(spent(7).await, spent(8).await);
}

#[tokio::test(start_paused = true)]
async fn no_attempt_comes_sooner_than_a_hint() {
    for seed in 0..50 {
        let (store, retry) = retrying(default().with_seed(seed));
        fail(&store, [busy().with_retry_after(ms(1_500))]);
        let begun = Instant::now();
        retry.health().await.unwrap();
        assert!((ms(1_500)..ms(1_502)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_beyond_the_longest_pause_ends_the_call_and_is_kept() {
    let (store, retry) = retrying(default());
    fail(&store, [busy().with_retry_after(ms(2_001))]);
    let begun = Instant::now();
    let error = retry.health().await.unwrap_err();
    assert_eq!((begun.elapsed(), calls(&store)), (Duration::ZERO, 1));
    assert!(error.is_persistent());
    assert_eq!(error.retry_after(), Some(ms(2_001)));
    assert!(
        error.to_string().contains("after 1 attempt in") && error.to_string().contains("after 2.0s, and"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn no_attempt_begins_after_the_total_time() {
    let (store, retry) = retrying(default().with_attempts(100).with_total(ms(5_000)));
    fail(&store, (0..100).map(|_| busy().with_retry_after(ms(2_000))));
    let begun = Instant::now();
    let error = retry.health().await.unwrap_err();
    assert!(error.to_string().contains("later than 5.0s after the first"), "{error}");
    assert_eq!((calls(&store), begun.elapsed().as_secs()), (3, 4), "and nobody waits for what does not come");
}

#[tokio::test(start_paused = true)]
async fn all_calls_together_cause_no_more_retries_than_the_budget_has() {
    let (store, retry) = retrying(default().with_budget(20, 10));
    fail(&store, (0..10_000).map(|_| busy()));
    let mut last = None;
    for _ in 0..1_000 {
        last = retry.health().await.err();
    }
    let stats = retry.stats();
    assert_eq!((stats.calls, stats.given_up), (1_000, 1_000));
    // A tenth reserve beside a fifth of all calls.
    assert!((205..=210).contains(&stats.retries), "{stats:?}");
    assert_eq!(calls(&store), stats.calls + stats.retries);
    assert!(stats.refused_by_budget > 700, "{stats:?}");
    assert!(last.unwrap().to_string().contains("too many calls are being tried again"));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_is_not_tried_again() {
    let (store, retry) = retrying(default());
    fail(&store, [busy().with_retry_after(ms(1_000))]);
    let call = spawn(&retry);
    settle().await;
    call.abort();
    tokio::time::sleep(ms(10_000)).await;
    assert_eq!(calls(&store), 1, "dropped in its pause");
    let gate = hold(&store);
    let call = spawn(&retry);
    gate.reached().await;
    call.abort();
    tokio::time::sleep(ms(10_000)).await;
    assert_eq!(calls(&store), 2, "dropped in an attempt");
    retry.health().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn embeds_are_tried_again() {
    let embedder = FaultyEmbedder::new(HashEmbedder::new());
    embedder.script(EmbedderFault::Fail(busy()));
    let retry = embedder.retry(default()).unwrap();
    assert_eq!(retry.embed(Role::Query, &["one", "two"]).await.unwrap().len(), 2);
    assert_eq!(retry.get_ref().calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_answer_was_lost_is_written_again() {
    let (store, retry) = retrying(default());
    store.script_next(Operation::Commit, Fault::After(busy()));
    let commit = retry.commit(&Batch::new().put(samples::watermark(1, 1))).await.unwrap();
    assert_eq!(commit.version.0, 2, "the same record with a new version");
}

#[tokio::test(start_paused = true)]
async fn a_conditional_batch_whose_answer_was_lost_conflicts_with_itself_and_says_so() {
    let (store, retry) = retrying(default());
    store.script_next(Operation::Commit, Fault::After(busy()));
    let key = Key::Watermark(samples::learner(1));
    let batch = Batch::new().require_absent(key.clone()).put(samples::watermark(1, 1));
    let error = retry.commit(&batch).await.unwrap_err();
    assert!(error.is_conflict() && error.to_string().contains("may have written the batch"), "{error}");
    assert!(retry.get(&[key]).await.unwrap()[0].is_some());
    let error = retry.commit(&batch).await.unwrap_err();
    assert!(error.is_conflict() && !error.to_string().contains("may have"), "a plain conflict: {error}");
}

#[tokio::test(start_paused = true)]
async fn errors_keep_their_operation() {
    let (store, retry) = retrying(default().with_attempts(1));
    fail(&store, [Error::new(ErrorKind::TimedOut, "slow").in_operation("health")]);
    assert!(retry.health().await.unwrap_err().to_string().starts_with("health: timed out: slow; given up"));
}

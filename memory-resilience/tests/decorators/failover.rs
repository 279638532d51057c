use std::sync::Arc;

use memory_core::testkit::{Fault, FaultyStore, Operation, samples};
use memory_core::{Batch, Error, ErrorKind, InMemoryStore, Key, MemoryStore, Result, Scan, Scope, Search, Version};
use memory_resilience::{Failover, Side};
use tokio::time::advance;

use crate::{busy, ms, not_found};

/// A store and the part of it that is copied.
struct Copied {
    primary: Arc<FaultyStore<InMemoryStore>>,
    copy: Arc<FaultyStore<InMemoryStore>>,
    both: Failover<Arc<FaultyStore<InMemoryStore>>, Arc<FaultyStore<InMemoryStore>>>,
}

fn copied() -> Copied {
    let store = || Arc::new(FaultyStore::new(InMemoryStore::new()));
    let (primary, copy) = (store(), store());
    let both = Failover::over_copy(Arc::clone(&primary), Arc::clone(&copy), ms(5_000)).unwrap();
    Copied { primary, copy, both }
}

impl Copied {
    fn batch(n: u32) -> Batch {
        Batch::new().put(samples::watermark(n, 1))
    }

    /// Lets the next call of the primary fail.
    fn fail(&self, operation: Operation) {
        self.primary.script_next(operation, Fault::Before(busy()));
    }

    /// Lets the next get of one of the two fail.
    fn fail_get(store: &FaultyStore<InMemoryStore>, error: Error) {
        store.script_next(Operation::Get, Fault::Before(error));
    }

    /// How often each was asked to get something.
    fn gets(&self) -> (u64, u64) {
        (self.primary.calls(Operation::Get), self.copy.calls(Operation::Get))
    }

    async fn reads(&self, n: u32) -> Result<bool> {
        let key = Key::Watermark(samples::learner(n));
        self.both.get(&[key]).await.map(|found| found[0].is_some())
    }
}

#[tokio::test(start_paused = true)]
async fn the_secondary_answers_when_the_primary_cannot_and_is_asked_first_then() {
    let stores = copied();
    let both = &stores.both;
    let mut first = both.subscribe();
    assert_eq!(both.to_string(), "Failover(FaultyStore(InMemoryStore), FaultyStore(InMemoryStore))");
    Copied::fail_get(&stores.primary, busy());
    assert!(!stores.reads(1).await.unwrap());
    assert_eq!(*first.borrow_and_update(), Side::Secondary);
    stores.reads(1).await.unwrap();
    assert_eq!(stores.gets(), (1, 2), "the primary is left alone");
    let stats = both.stats();
    assert_eq!((stats.first, stats.by_primary, stats.by_secondary, stats.switches), (Side::Secondary, 0, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn it_goes_back_after_a_pause_when_the_primary_is_well() {
    let stores = copied();
    let both = &stores.both;
    Copied::fail_get(&stores.primary, busy());
    stores.reads(1).await.unwrap();
    advance(ms(4_999)).await;
    stores.reads(1).await.unwrap();
    assert_eq!(stores.gets(), (1, 2));
    advance(ms(1)).await;
    stores.reads(1).await.unwrap();
    let stats = both.stats();
    assert_eq!((stats.first, stats.by_primary, stats.by_secondary, stats.switches), (Side::Primary, 1, 2, 2));
}

#[tokio::test(start_paused = true)]
async fn other_errors_are_answers() {
    let stores = copied();
    let both = &stores.both;
    Copied::fail_get(&stores.primary, not_found());
    assert_eq!(stores.reads(1).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!((stores.gets(), both.stats().first), ((1, 0), Side::Primary));
    for error in [busy().into_persistent(), Error::new(ErrorKind::Unavailable, "the key was revoked")] {
        Copied::fail_get(&stores.primary, error);
        stores.reads(1).await.unwrap();
        advance(ms(5_000)).await;
        stores.reads(1).await.unwrap();
    }
    assert_eq!(both.stats().switches, 4);
}

#[tokio::test(start_paused = true)]
async fn when_both_fail_the_error_tells_of_both_and_nothing_changes() {
    let stores = copied();
    let both = &stores.both;
    Copied::fail_get(&stores.primary, busy().with_retry_after(ms(7)));
    Copied::fail_get(&stores.copy, Error::new(ErrorKind::TimedOut, "slow"));
    let error = stores.reads(1).await.unwrap_err();
    assert_eq!(error.to_string(), "busy: scripted; and the secondary: timed out: slow");
    assert_eq!((error.is_temporary(), error.retry_after()), (true, Some(ms(7))));
    assert_eq!(both.stats().first, Side::Primary);
}

#[tokio::test(start_paused = true)]
async fn when_the_secondary_fails_the_primary_is_asked_before_its_time() {
    let stores = copied();
    let both = &stores.both;
    Copied::fail_get(&stores.primary, busy());
    stores.reads(1).await.unwrap();
    Copied::fail_get(&stores.copy, busy());
    stores.reads(1).await.unwrap();
    assert_eq!(both.stats().first, Side::Primary);
}

#[tokio::test(start_paused = true)]
async fn reads_go_to_the_copy_and_writes_do_not() {
    let stores = copied();
    stores.both.commit(&Copied::batch(1)).await.unwrap();
    stores.copy.commit(&Copied::batch(1)).await.unwrap();
    stores.fail(Operation::Get);
    assert!(stores.reads(1).await.unwrap());
    assert_eq!((stores.both.stats().first, stores.both.stats().by_secondary), (Side::Secondary, 1));
    stores.fail(Operation::Commit);
    assert_eq!(stores.both.commit(&Copied::batch(2)).await.unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(stores.copy.calls(Operation::Commit), 1, "what was written above, by hand");
    stores.both.commit(&Copied::batch(2)).await.unwrap();
    assert_eq!(stores.both.stats().first, Side::Primary, "who writes, reads");
    assert_eq!(stores.both.info(), stores.primary.info());
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_lacks_what_was_written_is_not_read() {
    let stores = copied();
    stores.copy.commit(&Copied::batch(1)).await.unwrap();
    for n in [1, 2] {
        stores.both.commit(&Copied::batch(n)).await.unwrap();
    }
    stores.fail(Operation::Get);
    let error = stores.reads(2).await.unwrap_err();
    assert!(error.is_temporary() && error.to_string().contains("the copy is at version 1, and 2 has been seen"));
    assert_eq!(stores.copy.calls(Operation::Get), 0);
    stores.copy.commit(&Copied::batch(2)).await.unwrap();
    stores.fail(Operation::Get);
    assert!(stores.reads(2).await.unwrap(), "it has caught up");
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_lacks_what_was_read_is_not_read() {
    let key = Key::Watermark(samples::learner(1));
    for read in 0..5 {
        let stores = copied();
        // By somebody else.
        stores.primary.commit(&Copied::batch(1)).await.unwrap();
        let both = &stores.both;
        match read {
            0 => drop(both.get(std::slice::from_ref(&key)).await.unwrap()),
            1 => drop(both.scan(&Scan::new(memory_core::RecordKind::Watermark)).await.unwrap()),
            2 => drop(both.changes(Version(0), 10).await.unwrap()),
            3 => {
                stores.primary.commit(&Batch::new().put(samples::logged(samples::episode(1, "a task")))).await.unwrap();
                assert_eq!(both.search(&Search::new(Scope::default()).text("task")).await.unwrap().len(), 1);
            }
            _ => drop(both.health().await.unwrap()),
        }
        stores.fail(Operation::Get);
        assert!(stores.reads(1).await.is_err(), "after read {read}");
        let fresh = copied();
        fresh.fail(Operation::Get);
        assert!(!fresh.reads(1).await.unwrap(), "nobody has seen anything");
    }
}

#[tokio::test(start_paused = true)]
async fn the_health_of_the_copy_is_degraded() {
    let stores = copied();
    assert_eq!(stores.both.health().await.unwrap().degraded, None);
    stores.fail(Operation::Health);
    let degraded = stores.both.health().await.unwrap().degraded.unwrap();
    assert!(degraded.contains("writes fail"), "{degraded}");
}

#[tokio::test(start_paused = true)]
async fn a_look_at_the_primary_that_finds_it_ill_or_is_dropped_waits_for_another_pause() {
    let stores = copied();
    stores.fail(Operation::Get);
    stores.reads(1).await.unwrap();
    advance(ms(5_000)).await;
    stores.fail(Operation::Health);
    stores.reads(1).await.unwrap();
    assert_eq!(stores.both.stats().first, Side::Secondary, "ill");
    advance(ms(5_000)).await;
    let gate = memory_core::testkit::Gate::new();
    stores.primary.script_next(Operation::Health, Fault::Hold(gate));
    tokio::time::timeout(ms(1), stores.reads(1)).await.unwrap_err();
    stores.reads(1).await.unwrap();
    assert_eq!(stores.both.stats().first, Side::Secondary, "dropped, and nobody else waits for it");
    advance(ms(5_000)).await;
    stores.reads(1).await.unwrap();
    assert_eq!(stores.both.stats().first, Side::Primary);
}

#[tokio::test(start_paused = true)]
async fn closing_closes_both_though_one_fails() {
    let stores = copied();
    stores.fail(Operation::Close);
    assert_eq!(stores.both.close().await.unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!((stores.primary.calls(Operation::Close), stores.copy.calls(Operation::Close)), (1, 1));
}

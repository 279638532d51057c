use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use memory_core::testkit::{ManualClock, samples};
use memory_core::{Error, ErrorKind, HashEmbedder};
use memory_resilience::{Check, HealthMonitor, HealthReport, HealthState, MonitorConfig};
use tokio::time::sleep;

use crate::{Faulty, busy, fail, faulty, hold, ms, settle};

fn start(checks: Vec<Check>) -> HealthMonitor {
    let config = MonitorConfig::default().with_interval(ms(1_000)).with_clock(ManualClock::new(samples::time(0)));
    HealthMonitor::start(checks, config).unwrap()
}

fn store(store: &Arc<Faulty>) -> Check {
    Check::store("store", Arc::clone(store))
}

fn states(report: &HealthReport) -> Vec<HealthState> {
    report.checks.iter().map(|check| check.state).collect()
}

#[tokio::test(start_paused = true)]
async fn nothing_is_ready_before_it_was_checked() {
    let monitor = start(vec![store(&faulty())]);
    assert_eq!(monitor.report().state(), HealthState::Down);
    let error = monitor.readiness().unwrap_err();
    assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Unavailable, true));
    assert_eq!(error.to_string(), "unavailable: store: not checked yet");
    settle().await;
    monitor.readiness().unwrap();
    assert_eq!(monitor.report().state(), HealthState::Up);
}

#[tokio::test(start_paused = true)]
async fn a_report_has_problem_latency_last_success_and_failures() {
    let inner = faulty();
    let monitor = start(vec![store(&inner)]);
    settle().await;
    let check = monitor.report().checks.remove(0);
    assert_eq!((check.state, check.problem, check.consecutive_failures), (HealthState::Up, None, 0));
    assert_eq!((check.last_success, check.latency), (Some(samples::time(0)), Some(Duration::ZERO)));
    fail(&inner, [busy(), busy()]);
    sleep(ms(2_500)).await;
    let check = monitor.report().checks.remove(0);
    assert_eq!((check.state, check.consecutive_failures), (HealthState::Down, 2));
    assert_eq!(check.problem.as_deref(), Some("busy: scripted"));
    assert_eq!(check.last_success, Some(samples::time(0)), "when it was last well");
    sleep(ms(1_000)).await;
    assert_eq!(monitor.report().checks[0].consecutive_failures, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_optional_degrades_and_what_is_critical_is_down() {
    let ill = || async { Err(Error::new(ErrorKind::Io, "ill")) };
    let well = || async { Ok(()) };
    let monitor = start(vec![Check::new("a", well), Check::new("b", ill).optional()]);
    settle().await;
    assert_eq!(states(&monitor.report()), [HealthState::Up, HealthState::Down]);
    assert_eq!(monitor.report().state(), HealthState::Degraded);
    monitor.readiness().unwrap();
    let monitor = start(vec![Check::new("a", ill), Check::new("b", well).optional(), Check::new("c", ill)]);
    settle().await;
    assert_eq!(monitor.report().state(), HealthState::Down);
    let error = monitor.readiness().unwrap_err().to_string();
    assert_eq!(error, "unavailable: a: input/output error: ill; c: input/output error: ill");
}

/// A store that says that it is degraded.
#[tokio::test(start_paused = true)]
async fn a_degraded_store_is_degraded_and_ready() {
    let (primary, copy) = (faulty(), faulty());
    fail(&primary, [busy()]);
    let both = memory_resilience::Failover::over_copy(primary, copy, ms(60_000)).unwrap();
    let monitor = start(vec![Check::store("store", both), Check::embedder("model", HashEmbedder::new())]);
    settle().await;
    assert_eq!(states(&monitor.report()), [HealthState::Degraded, HealthState::Up]);
    assert_eq!(monitor.report().state(), HealthState::Degraded);
    assert!(monitor.report().checks[0].problem.as_ref().unwrap().contains("copy"));
    monitor.readiness().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_is_down_after_its_time_and_blocks_no_other() {
    let inner = faulty();
    hold(&inner);
    let count = Arc::new(AtomicU32::new(0));
    let counting = Arc::clone(&count);
    let monitor = start(vec![
        store(&inner).with_timeout(ms(3_000)),
        Check::new("other", move || {
            counting.fetch_add(1, Ordering::SeqCst);
            async { Ok(()) }
        }),
    ]);
    sleep(ms(2_900)).await;
    assert_eq!(states(&monitor.report()), [HealthState::Down, HealthState::Up]);
    assert_eq!(count.load(Ordering::SeqCst), 3);
    sleep(ms(200)).await;
    let hanging = monitor.report().checks.remove(0);
    assert_eq!(hanging.problem.as_deref(), Some("timed out: no answer within 3s"));
    assert!(hanging.latency.unwrap() >= ms(3_000) && hanging.last_success.is_none());
    sleep(ms(1_000)).await;
    assert_eq!(monitor.report().state(), HealthState::Up, "and is checked again");
}

#[tokio::test(start_paused = true)]
async fn a_check_that_panics_is_down_and_checked_again() {
    let first = AtomicBool::new(true);
    let monitor = start(vec![Check::new("fragile", move || {
        let panics = first.swap(false, Ordering::SeqCst);
        async move {
            assert!(!panics, "on purpose");
            Ok(())
        }
    })]);
    settle().await;
    assert_eq!(monitor.report().checks[0].problem.as_deref(), Some("input/output error: the check panicked"));
    sleep(ms(1_100)).await;
    assert_eq!(monitor.report().state(), HealthState::Up);
}

#[tokio::test(start_paused = true)]
async fn subscribers_are_told_and_hear_of_the_end() {
    let inner = faulty();
    let monitor = start(vec![store(&inner)]);
    let mut reports = monitor.subscribe();
    reports.wait_for(|report| report.state() == HealthState::Up).await.unwrap();
    fail(&inner, [busy()]);
    reports.wait_for(|report| report.state() == HealthState::Down).await.unwrap();
    drop(monitor);
    settle().await;
    while reports.changed().await.is_ok() {}
    assert_eq!(Arc::strong_count(&inner), 1, "the check is gone");
}

#[tokio::test(start_paused = true)]
async fn a_check_under_way_is_dropped_with_the_monitor() {
    let inner = faulty();
    let gate = hold(&inner);
    let monitor = start(vec![store(&inner)]);
    gate.reached().await;
    drop(monitor);
    settle().await;
    assert_eq!(Arc::strong_count(&inner), 1);
}

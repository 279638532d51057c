//! Runs the target that `KNOWHOW_FUZZ` names under libFuzzer.

#![no_main]

use std::alloc::System;
use std::sync::LazyLock;

use cap::Cap;
use knowhow_fuzz::TARGETS;

/// Far beyond what an input of this size needs: who allocates by a length that was read ends here.
const MOST_BYTES: usize = 512 * 1_024 * 1_024;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, MOST_BYTES);

static RUN: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let wanted = std::env::var("KNOWHOW_FUZZ").unwrap_or_default();
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    let target = TARGETS.iter().find(|(name, _)| *name == wanted);
    target.unwrap_or_else(|| panic!("KNOWHOW_FUZZ is {wanted:?}; allowed: {names:?}")).1
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| RUN(data));

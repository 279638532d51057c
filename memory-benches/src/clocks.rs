//! What benchmarks are timed by.

use std::time::Duration;

use criterion::Criterion;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use rustix::time::{ClockId, clock_gettime};

/// Measures the CPU time of this process, all threads together: what waits for a disk or for a turn does not count.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuTime;

impl CpuTime {
    /// The CPU time that the process has used so far.
    pub fn now() -> Duration {
        let used = clock_gettime(ClockId::ProcessCPUTime);
        let nanos = u32::try_from(used.tv_nsec).unwrap_or_default();
        Duration::new(u64::try_from(used.tv_sec).unwrap_or_default(), nanos)
    }
}

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        Self::now()
    }

    fn end(&self, start: Duration) -> Duration {
        Self::now() - start
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

/// Criterion by CPU time: for what waits for nothing.
pub fn by_cpu_time() -> Criterion<CpuTime> {
    by_wall_time().with_measurement(CpuTime)
}

/// Criterion by wall time, with a length that lets all benchmarks end within a quarter of an hour.
pub fn by_wall_time() -> Criterion {
    let criterion = Criterion::default().warm_up_time(Duration::from_millis(500));
    criterion.sample_size(20).measurement_time(Duration::from_secs(2))
}

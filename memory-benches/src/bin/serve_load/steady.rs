//! Requests at a steady rate.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use crate::AnyError;
use crate::client::{ask, call, episode, task};
use crate::server::Server;

/// How much is asked.
#[derive(Debug, Args)]
struct Load {
    /// Requests a second
    #[arg(long, default_value_t = 1_000)]
    rate: u32,
    /// For how long
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// At most so many at once
    #[arg(long, default_value_t = 64)]
    clients: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Recall {
    #[command(flatten)]
    load: Load,
    /// Episodes in the memory
    #[arg(long, default_value_t = 10_000)]
    episodes: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Record {
    #[command(flatten)]
    load: Load,
}

/// What came of a load.
struct Seen {
    /// From the moment each request was due until it was answered, in rising order.
    times: Vec<Duration>,
    errors: Vec<String>,
    took: Duration,
}

impl Seen {
    fn at(&self, share: f64) -> f64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
        let place = (self.times.len().saturating_sub(1) as f64 * share) as usize;
        self.times.get(place).map_or(0.0, |time| time.as_secs_f64() * 1_000.0)
    }

    fn print(&self) {
        println!(
            "answered         {} in {:.1} s, {} errors",
            self.times.len(),
            self.took.as_secs_f64(),
            self.errors.len()
        );
        println!("rate             {:.0} /s", self.times.len() as f64 / self.took.as_secs_f64());
        println!("median           {:.2} ms", self.at(0.5));
        println!("99 %             {:.2} ms", self.at(0.99));
        println!("longest          {:.2} ms", self.at(1.0));
        if let Some(error) = self.errors.first() {
            println!("first error      {error}");
        }
    }

    /// An error that tells how many answers were errors, if any were.
    fn all_answered(&self) -> Result<(), AnyError> {
        match self.errors.len() {
            0 => Ok(()),
            errors => Err(format!("{errors} answers were errors").into()),
        }
    }
}

impl Load {
    fn run(&self, url: &str, operation: &str, arguments: impl Fn(usize) -> Value + Sync) -> Seen {
        let all = self.rate as usize * self.seconds as usize;
        let (next, seen) = (AtomicUsize::new(0), Mutex::new((Vec::with_capacity(all), Vec::new())));
        let begun = Instant::now();
        let client = || {
            let agent = ureq::Agent::new_with_defaults();
            let (mut times, mut errors) = (Vec::new(), Vec::new());
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= all {
                    break;
                }
                let due = begun + Duration::from_secs_f64(number as f64 / f64::from(self.rate));
                thread::sleep(due.saturating_duration_since(Instant::now()));
                match ask(&agent, url, operation, &arguments(number)) {
                    Ok(_) => times.push(due.elapsed()),
                    Err(error) => errors.push(error.to_string()),
                }
            }
            if let Ok(mut seen) = seen.lock() {
                seen.0.append(&mut times);
                seen.1.append(&mut errors);
            }
        };
        thread::scope(|scope| (0..self.clients).for_each(|_| drop(scope.spawn(client))));
        let (mut times, errors) = seen.into_inner().unwrap_or_default();
        times.sort_unstable();
        Seen { times, errors, took: begun.elapsed() }
    }
}

impl Recall {
    pub(crate) fn run(&self, knowhow: &Path) -> Result<(), AnyError> {
        let folder = tempfile::tempdir()?;
        let store = folder.path().join("load.db");
        fill(knowhow, &store, self.episodes)?;
        let server = Server::start(knowhow, &store)?;
        let agent = ureq::Agent::new_with_defaults();
        let asked = Instant::now();
        call(&agent, &server.url, "recall", &json!({ "task": task(1) }))?;
        println!(
            "start            {:.0} ms until it listens, {:.0} ms more to the first answer",
            server.started.as_secs_f64() * 1_000.0,
            asked.elapsed().as_secs_f64() * 1_000.0
        );
        let warm = Load { rate: self.load.rate, seconds: 3, clients: self.load.clients };
        warm.run(&server.url, "recall", |number| json!({ "task": task(number), "context": { "domain": "code" } }));
        let before = server.rss()?;
        let seen = self.load.run(
            &server.url,
            "recall",
            |number| json!({ "task": task(number * 13 + 5), "context": { "domain": "code" } }),
        );
        seen.print();
        println!("memory           {before} MB before, {} MB after", server.rss()?);
        seen.all_answered()
    }
}

impl Record {
    pub(crate) fn run(&self, knowhow: &Path) -> Result<(), AnyError> {
        let folder = tempfile::tempdir()?;
        let store = folder.path().join("load.db");
        let server = Server::start(knowhow, &store)?;
        let seen = self.load.run(&server.url, "record_episode", episode);
        seen.print();
        let agent = ureq::Agent::new_with_defaults();
        let there = call(&agent, &server.url, "get_statistics", &json!({}))?["store"]["episodes"].as_u64().unwrap_or(0);
        println!("memory           {} MB", server.rss()?);
        println!("acknowledged     {}; there afterwards {there}", seen.times.len());
        // A request whose answer was lost may have been written.
        let (least, most) = (seen.times.len() as u64, (seen.times.len() + seen.errors.len()) as u64);
        if !(least..=most).contains(&there) {
            return Err("episodes were lost".into());
        }
        seen.all_answered()
    }
}

/// Fills a store through a server of its own.
fn fill(knowhow: &Path, store: &Path, episodes: usize) -> Result<(), AnyError> {
    let server = Server::start(knowhow, store)?;
    let next = AtomicUsize::new(0);
    let work = || -> Result<(), AnyError> {
        let agent = ureq::Agent::new_with_defaults();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= episodes {
                return Ok(());
            }
            call(&agent, &server.url, "record_episode", &episode(number))?;
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..16).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a client panicked")?)
    })?;
    // Learned from, so that the next server begins where one that has run for a while is.
    let agent = ureq::Agent::new_with_defaults();
    while call(&agent, &server.url, "get_statistics", &json!({}))?["store"]["episodes_behind"] != 0 {
        thread::sleep(Duration::from_millis(100));
    }
    server.stop()
}

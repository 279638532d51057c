//! Damage to the files of a cache, kills, and disks that are full: the answers are right, always.

use std::path::Path;
use std::time::Duration;

use memory_core::testkit::process;
use memory_core::testkit::samples::{episode, logged};
use memory_core::{Batch, InMemoryStore, Key, MemoryStore, Version};
use memory_storage_redb::{CacheConfig, CacheMode, HotCache};
use tempfile::TempDir;

use crate::common::{
    Dice, Shared, assert_same, is_persistent, key, keys, place, primary, primary_with, put, random_record,
};

const PAGE: usize = 4_096;
const CASES: u64 = 1_000;
const RECORDS: u32 = 30;

/// A folder in memory where there is one: nothing here is about disks.
fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Damages bytes where there is something to damage, and tells how.
fn damage(bytes: &mut Vec<u8>, dice: &mut Dice) -> String {
    let pages = bytes.len().div_ceil(PAGE);
    let end = |page: usize, length: usize| ((page + 1) * PAGE).min(length);
    let length = bytes.len();
    let used = |page: &usize| bytes[page * PAGE..end(*page, length)].iter().any(|byte| *byte != 0);
    let used: Vec<usize> = (0..pages).filter(used).collect();
    let page = used[dice.roll(used.len())];
    let range = page * PAGE..end(page, length);
    match dice.roll(8) {
        0 => {
            let length = dice.roll(bytes.len());
            bytes.truncate(length);
            format!("cut at {length}")
        }
        1 => {
            bytes[range].fill_with(|| u8::try_from(dice.roll(256)).unwrap());
            format!("garbage in page {page}")
        }
        2 => {
            bytes[range].fill(0);
            format!("zeros in page {page}")
        }
        3 => {
            let other = used[dice.roll(used.len())] * PAGE;
            let range = other..other + range.len().min(length - other);
            bytes.copy_within(range, page * PAGE);
            format!("{other} copied to page {page}")
        }
        flips => {
            let flips = if flips == 4 { 8 } else { 1 };
            let places: Vec<usize> = (0..flips).map(|_| range.start * 8 + dice.roll(range.len() * 8)).collect();
            places.iter().for_each(|place| bytes[place / 8] ^= 1 << (place % 8));
            format!("flipped {places:?}")
        }
    }
}

/// What became of the damaged files.
#[derive(Debug, Default)]
struct Tally {
    unharmed: u64,
    made_anew: u64,
    in_memory: u64,
}

async fn run_cases() {
    let (original, copies) = (folder(), folder());
    let primary = primary_with(0..RECORDS, 1).await;
    let cache = HotCache::open(primary.clone(), original.path().join("cache")).await.unwrap();
    assert_same(&cache, &primary, &keys(0..RECORDS), "whole").await;
    cache.close().await.unwrap();
    let read = |name: &str| std::fs::read(original.path().join(name)).unwrap();
    let (database, index) = (read("cache"), read("cache.index"));
    let mut tally = Tally::default();
    for case in 0..CASES {
        let mut dice = Dice::new(case + 1);
        let (mut database, mut index) = (database.clone(), index.clone());
        let of_index = case % 5 == 4;
        let how = damage(if of_index { &mut index } else { &mut database }, &mut dice);
        println!("case {case}: {how}, in the index: {of_index}");
        std::fs::write(copies.path().join("cache"), &database).unwrap();
        std::fs::write(copies.path().join("cache.index"), &index).unwrap();
        let path = copies.path().join("cache");
        let looking = look(&primary, &path, &mut tally, case);
        tokio::time::timeout(Duration::from_secs(20), looking).await.unwrap_or_else(|_| panic!("case {case} hangs"));
    }
    println!("of {CASES} {tally:?}");
    assert!(tally.unharmed > 50 && tally.made_anew > 50, "{tally:?}");
}

/// Opens the cache; all answers are right, also after more was written, and when it is opened again.
async fn look(primary: &Shared<InMemoryStore>, path: &Path, tally: &mut Tally, case: u64) {
    let cache = HotCache::open(primary.clone(), path).await.unwrap();
    let opened = cache.stats().await;
    match (is_persistent(&opened), opened.rebuilds) {
        (true, 0) => tally.unharmed += 1,
        (true, _) => tally.made_anew += 1,
        (false, _) => tally.in_memory += 1,
    }
    let all = keys(0..RECORDS);
    // The same again: what was lost on the way is noticed by now, and the answers are still right.
    if case.is_multiple_of(3) {
        for key in &all {
            let one = std::slice::from_ref(key);
            assert_eq!(cache.get(one).await.unwrap(), primary.get(one).await.unwrap(), "{key:?}");
        }
    }
    if case.is_multiple_of(10) {
        put(&cache, [random_record(u32::try_from(case).unwrap() % RECORDS, &mut Dice::new(case))]).await;
    }
    assert_same(&cache, primary, &all, "damaged").await;
    cache.close().await.unwrap();
    if case.is_multiple_of(5) {
        let cache = HotCache::open(primary.clone(), path).await.unwrap();
        assert_same(&cache, primary, &all, "again").await;
        cache.close().await.unwrap();
    }
}

/// In a process of its own: what ends the process fails this test and names the case.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_files_give_right_answers() {
    let test = "damage::damaged_files_give_right_answers";
    if process::is_child() {
        return run_cases().await;
    }
    let output = process::command(test, &[("RUST_BACKTRACE", "0")]).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let last: Vec<&str> = printed.lines().rev().take(3).collect();
    let errors: String = String::from_utf8_lossy(&output.stderr).chars().rev().take(2_000).collect();
    assert!(output.status.success(), "{}: {last:?}\n{}", output.status, errors.chars().rev().collect::<String>());
    println!("{}", printed.lines().find(|line| line.starts_with("of ")).unwrap());
}

/// Rows of the cache are changed by somebody who mends the checksums of the pages, so that only those of the rows are wrong: it is noticed
/// when they are read, and all is made anew while the primary answers.
#[tokio::test]
async fn rows_that_were_changed_are_noticed_when_they_are_read() {
    use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
    let primary = primary_with(0..RECORDS, 1).await;
    let mut dice = Dice::new(23);
    for round in 0..48 {
        let (_folder, path) = place();
        let config = CacheConfig::default().with_vector_bytes(0);
        let open = async || HotCache::open_with(primary.clone(), &path, config.clone()).await.unwrap();
        let cache = open().await;
        cache.get(&keys(0..RECORDS)).await.unwrap();
        cache.stats().await;
        cache.close().await.unwrap();
        let name = ["documents", "vectors", "records", "primary"][round % 4];
        let table: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new(name);
        let database = Database::open(&path).unwrap();
        let rows: Vec<(Vec<u8>, Vec<u8>)> = {
            let table = database.begin_read().unwrap().open_table(table).unwrap();
            let rows = table.iter().unwrap().map(Result::unwrap);
            rows.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())).collect()
        };
        let writing = database.begin_write().unwrap();
        let (key, mut value) = rows[dice.roll(rows.len())].clone();
        match dice.roll(3) {
            0 => value.truncate(dice.roll(value.len().max(1))),
            1 => value.clone_from(&rows[dice.roll(rows.len())].1),
            _ if value.is_empty() => value.push(7),
            _ => {
                let place = dice.roll(value.len() * 8);
                value[place / 8] ^= 1 << (place % 8);
            }
        }
        // Every other time it is gone.
        let gone = round % 8 >= 4;
        {
            let mut table = writing.open_table(table).unwrap();
            let _ = if gone { table.remove(&key[..]) } else { table.insert(&key[..], &value[..]) }.unwrap();
        }
        writing.commit().unwrap();
        drop(database);
        let cache = open().await;
        let all = keys(0..RECORDS);
        if round % 16 < 8 {
            // The rest of what is compared asks for all by key first.
            assert_same(&cache, &primary, &[], name).await;
        }
        assert_same(&cache, &primary, &all, name).await;
        cache.warm_up().await.unwrap();
        assert_same(&cache, &primary, &all, name).await;
        let noticed = cache.stats().await.rebuilds > 0;
        assert!(noticed || name == "records" || !gone, "{name}, round {round}");
        cache.close().await.unwrap();
    }
}

/// A child that uses a cache over a store whose history is always the same, until it is killed.
async fn use_until_killed() {
    let path = std::env::var("CACHE").unwrap();
    let rounds = std::env::var("ROUNDS").unwrap().parse().unwrap();
    let primary = primary().await;
    let mut dice = Dice::new(1);
    for round in 0..rounds {
        primary.commit(&batch_of(round, &mut dice)).await.unwrap();
    }
    let config = CacheConfig::default().with_episodes(30).with_snapshot_changes(10);
    let cache = HotCache::open_with(primary.clone(), &path, config).await.unwrap();
    println!("open");
    for round in rounds.. {
        cache.commit(&batch_of(round, &mut dice)).await.unwrap();
        println!("round {round}");
        let asked: Vec<Key> = (0..5).map(|_| key(u32::try_from(dice.roll(200)).unwrap())).collect();
        cache.get(&asked).await.unwrap();
        // So that dice fall the same when nobody reads.
        if round % 3 == 0 {
            cache.search(&crate::common::only(round)).await.unwrap();
        }
        if round % 20 == 0 {
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
}

/// What is written in this round, by these dice, which are also rolled for what is read.
fn batch_of(round: u32, dice: &mut Dice) -> Batch {
    let mut own = Dice::new(dice.roll(1_000_000) as u64);
    let mut batch = Batch::new().put(random_record(round % 200, &mut own));
    if round.is_multiple_of(5) {
        batch = batch.delete(key(u32::try_from(own.roll(200)).unwrap()));
    }
    batch
}

/// The same history up to this round.
async fn primary_until(rounds: u32, first: u32) -> Shared<InMemoryStore> {
    let primary = primary().await;
    let mut dice = Dice::new(1);
    for round in 0..rounds {
        primary.commit(&batch_of(round, &mut dice)).await.unwrap();
        if round >= first {
            (0..5).for_each(|_| _ = dice.roll(200));
        }
    }
    primary
}

/// A process that is killed at any moment leaves a file that the next one can use, or makes anew, and that tells nothing wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_leaves_a_file_that_tells_nothing_wrong() {
    use std::io::{BufRead, BufReader};
    let test = "damage::a_killed_process_leaves_a_file_that_tells_nothing_wrong";
    if process::is_child() {
        return use_until_killed().await;
    }
    let mut dice = Dice::new(9);
    let (mut warm, mut anew) = (0, 0);
    for round in 0..12 {
        let (_folder, path) = place();
        let first = u32::try_from(dice.roll(60)).unwrap();
        let variables = [("CACHE", path.to_str().unwrap()), ("ROUNDS", &first.to_string())];
        let mut child = process::spawn(test, &variables);
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let (mut line, mut last, mut left) = (String::new(), first, dice.roll(120));
        while left > 0 && output.read_line(&mut line).unwrap() > 0 {
            left -= usize::from(line.starts_with("round") || line.starts_with("open"));
            line.clear();
        }
        std::thread::sleep(Duration::from_micros(dice.roll(5_000) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        while output.read_line(&mut line).unwrap() > 0 {
            line.clear();
        }
        // The child may have been some rounds farther than was read.
        last += 200;
        let primary = primary_until(last, first).await;
        let cache = HotCache::open(primary.clone(), &path).await.unwrap();
        let stats = cache.stats().await;
        assert!(stats.ready && is_persistent(&stats), "round {round}: {stats:?}");
        let all = primary.changes(Version(0), 1_000).await.unwrap().entries.len() as u64;
        warm += u32::from(stats.rebuilds == 0 && stats.changes < all);
        anew += u32::from(stats.rebuilds > 0);
        assert_same(&cache, &primary, &keys(0..200), &format!("round {round}")).await;
        cache.close().await.unwrap();
    }
    println!("{warm} were warm, {anew} made anew");
    assert!(warm > 3, "{warm} were warm, {anew} made anew");
}

/// A disk that is full while the cache is in use: it goes on in memory, and says so.
#[cfg(unix)]
#[tokio::test]
async fn a_full_disk_is_no_trouble() {
    let test = "damage::a_full_disk_is_no_trouble";
    if process::is_child() {
        return fill_up().await;
    }
    let (_folder, path) = place();
    let inner = process::command(test, &[("CACHE", path.to_str().unwrap())]);
    // The signal that comes with the limit is ignored, so that writing fails instead.
    let mut limited = std::process::Command::new("sh");
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 1000; exec \"$0\" \"$@\""])
        .arg(inner.get_program())
        .args(inner.get_args());
    for (name, value) in inner.get_envs() {
        limited.env(name, value.unwrap_or_default());
    }
    let child = limited.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    process::wait(test, child);
}

#[cfg(unix)]
async fn fill_up() {
    let primary = primary().await;
    let cache = HotCache::open(primary.clone(), std::env::var_os("CACHE").unwrap()).await.unwrap();
    assert!(is_persistent(&cache.stats().await));
    for n in 0..100 {
        let mut large = episode(n, &format!("number{n}"));
        large.steps[0].observation = "x".repeat(9_000);
        put(&cache, [logged(large)]).await;
        let search = crate::common::only(n + u32::from(n.is_multiple_of(3)));
        assert_eq!(cache.search(&search).await.unwrap(), primary.search(&search).await.unwrap());
    }
    cache.warm_up().await.unwrap();
    let stats = cache.stats().await;
    let CacheMode::InMemory(Some(reason)) = &stats.mode else { panic!("{stats:?}") };
    assert_eq!(reason.kind(), memory_core::ErrorKind::Full, "{reason}");
    let told = format!("the cache is in memory: {reason}");
    assert_eq!(cache.health().await.unwrap().degraded, Some(told));
    assert_eq!((stats.rebuilds, stats.ready), (1, true));
    assert_same(&cache, &primary, &[], "full").await;
    assert!(cache.stats().await.searches > stats.searches);
    cache.close().await.unwrap();
}

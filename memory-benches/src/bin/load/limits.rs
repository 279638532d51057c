//! What no store can exceed on this disk: the same bytes, appended to a file and synced.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

/// How long one of them is measured at most.
const LONGEST: Duration = Duration::from_secs(1);

/// So many records, around and around, as long as there is time: how many that are, and when they ran out.
pub(crate) struct Paced<'a> {
    records: &'a [Vec<u8>],
    most: usize,
    start: Instant,
    given: usize,
}

impl<'a> Paced<'a> {
    pub(crate) fn new(records: &'a [Vec<u8>], most: usize) -> Self {
        Self { records, most, start: Instant::now(), given: 0 }
    }

    /// How many were given in a second until now.
    pub(crate) fn rate(&self) -> f64 {
        self.given as f64 / self.start.elapsed().as_secs_f64()
    }
}

impl<'a> Iterator for Paced<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.given >= self.most || (self.given > 0 && self.start.elapsed() > LONGEST) {
            return None;
        }
        let record = self.records.get(self.given % self.records.len().max(1))?;
        self.given += 1;
        Some(record)
    }
}

/// Records a second, each synced before the next, in a file that grows.
pub(crate) fn append_growing(folder: &Path, records: &[Vec<u8>], most: usize) -> io::Result<f64> {
    append(File::create(folder.join("growing"))?, records, most)
}

/// The same in a file that has its length and its blocks already.
pub(crate) fn append_preallocated(folder: &Path, records: &[Vec<u8>], most: usize) -> io::Result<f64> {
    let mut file = File::create(folder.join("preallocated"))?;
    let longest = records.iter().map(Vec::len).max().unwrap_or_default();
    let zeros = vec![0; longest];
    for _ in 0..most {
        file.write_all(&zeros)?;
    }
    file.sync_all()?;
    file.rewind()?;
    append(file, records, most)
}

fn append(mut file: File, records: &[Vec<u8>], most: usize) -> io::Result<f64> {
    let mut paced = Paced::new(records, most);
    for record in paced.by_ref() {
        file.write_all(record)?;
        file.sync_data()?;
    }
    Ok(paced.rate())
}

/// A record, and who waits for it to be synced.
type Handed<'a> = (&'a [u8], SyncSender<()>);

/// Records a second by so many writers, of which each waits for its record before the next: one thread appends all that wait,
/// and syncs once for them.
pub(crate) fn group_commit(folder: &Path, records: &[Vec<u8>], most: usize, writers: usize) -> io::Result<f64> {
    let file = File::create(folder.join("group"))?;
    let (hand, handed) = mpsc::channel();
    let each = most.div_ceil(writers);
    let start = Instant::now();
    let done = thread::scope(|scope| {
        let appender = scope.spawn(move || append_all(file, &handed));
        let writers = (0..writers).map(|writer| {
            let (hand, from) = (hand.clone(), &records[writer % records.len()..]);
            scope.spawn(move || hand_over(&hand, Paced::new(from, each)))
        });
        let writers: Vec<_> = writers.collect();
        drop(hand);
        let done = writers.into_iter().map(|writer| writer.join().unwrap_or_default()).sum::<usize>();
        appender.join().unwrap_or_else(|_| Err(io::Error::other("the appender panicked")))?;
        io::Result::Ok(done)
    })?;
    Ok(done as f64 / start.elapsed().as_secs_f64())
}

/// Hands one after the other over and waits; says how many were acknowledged.
fn hand_over<'a>(hand: &mpsc::Sender<Handed<'a>>, records: Paced<'a>) -> usize {
    let (synced, answer) = mpsc::sync_channel(1);
    let acknowledged = records.map_while(|record| {
        hand.send((record, synced.clone())).ok()?;
        answer.recv().ok()
    });
    acknowledged.count()
}

fn append_all(mut file: File, handed: &Receiver<Handed<'_>>) -> io::Result<()> {
    let (mut bytes, mut waiting) = (Vec::new(), Vec::new());
    while let Ok(first) = handed.recv() {
        for (record, synced) in std::iter::once(first).chain(handed.try_iter()) {
            bytes.extend_from_slice(record);
            waiting.push(synced);
        }
        file.write_all(&bytes)?;
        file.sync_data()?;
        bytes.clear();
        for synced in waiting.drain(..) {
            let _ = synced.send(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_records_reach_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let records = [vec![1; 10], vec![2; 20]];
        let rates = [
            append_growing(folder.path(), &records, 5).unwrap(),
            append_preallocated(folder.path(), &records, 5).unwrap(),
            group_commit(folder.path(), &records, 8, 4).unwrap(),
        ];
        assert!(rates.iter().all(|rate| *rate > 0.0 && rate.is_finite()), "{rates:?}");
        let sizes = ["growing", "preallocated", "group"].map(|name| folder.path().join(name).metadata().unwrap().len());
        // Writers begin at different records, each 10 or 20 bytes long.
        assert_eq!(sizes, [70, 100, 2 * 30 + 2 * 40]);
    }
}

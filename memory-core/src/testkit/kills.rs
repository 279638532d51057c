//! Processes that are killed again and again while they record and learn, or while they make their file: what was
//! acknowledged must be there, and nothing else but what was not answered.
//!
//! A test calls these with its own name, since the children are the same test in another process.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::generated::{Ahead, Dice, WORDS, fold, log};
use super::invariants::stored_patterns;
use super::process;
use crate::{
    Episode, Key, Learner, Memory, MemoryStore, MemoryStoreExt, OpenEpisode, Outcome, Record, Recording, Step, Stored,
    Task, Verdict, Version,
};

const SEED: u64 = 20_260_101;

/// What is recorded under this number, always the same.
fn intended(number: usize) -> (Task, Vec<Step>, Outcome) {
    let mut dice = Dice::new(SEED + 7_919 * number as u64);
    let text = format!("{} {} x{number}", dice.pick(WORDS), dice.pick(WORDS));
    let steps = (0..2 + dice.roll(4)).map(|place| {
        let step = Step::new(dice.pick(&["grep", "edit", "cargo test"])).input(format!("{number}.{place}"));
        if dice.roll(3) == 0 { step.error(dice.pick(&["not found", "E0425"])) } else { step.ok("fine") }
    });
    let steps = steps.collect();
    let verdict = [Verdict::Success, Verdict::Failure, Verdict::Partial][dice.roll(3)];
    let outcome = Outcome::new(verdict, "over").reward(0.1).artifact("patch", format!("+{number}"));
    (Task::new(text).domain(dice.pick(&["web", "data"])), steps, outcome)
}

/// The number that an episode with this task was recorded under.
fn number_of(task: &Task) -> usize {
    task.text.rsplit(" x").next().unwrap().parse().unwrap()
}

/// So many numbers are a writer's: those of the writer `w` begin at `w` times as much.
const NUMBERS: usize = 1_000_000;

/// The path that the parent names.
fn path_of_child() -> PathBuf {
    std::env::var_os("STORE").unwrap().into()
}

/// The number that the parent gives under this name.
fn number_of_child(name: &str) -> usize {
    std::env::var(name).unwrap().parse().unwrap()
}

/// How many kills a test makes: as many as `KNOWHOW_KILLS` says, or else so many, which take less than a minute.
pub fn kills_from_env(default: usize) -> usize {
    std::env::var("KNOWHOW_KILLS").map_or(default, |kills| kills.parse().expect("KNOWHOW_KILLS is a number"))
}

/// The `turn`-th who comes; an hour later than the one before, so that what that one left open can be taken up.
async fn memory(store: impl MemoryStore, turn: usize) -> Memory {
    Memory::builder().store(store).clock(Ahead(i64::try_from(turn).unwrap())).build().await.unwrap()
}

/// Takes the steps that are left and completes; each acknowledgement is printed when it has come.
async fn finish(mut open: OpenEpisode) {
    let (_, steps, outcome) = intended(number_of(open.task()));
    for (place, step) in steps.into_iter().enumerate().skip(open.steps().len()) {
        open.step(step).await.unwrap();
        println!("step {} {place}", number_of(open.task()));
    }
    open.complete(outcome).await.unwrap();
    println!("done {}", number_of(open.task()));
}

/// Completes what earlier children of the same writer began, then records from the number `FIRST` on until killed.
async fn record_until_killed(store: impl MemoryStore) {
    let first = number_of_child("FIRST");
    let memory = memory(store, number_of_child("TURN")).await;
    for opened in memory.open_episodes().await.unwrap() {
        if number_of(&opened.task) / NUMBERS == first / NUMBERS {
            finish(memory.resume(opened.id).await.unwrap()).await;
        }
    }
    for number in first.. {
        let (task, steps, outcome) = intended(number);
        if number % 2 == 0 {
            let open = memory.start(task).await.unwrap();
            println!("open {number}");
            finish(open).await;
        } else {
            memory.record(Recording::new(task, outcome).steps(steps)).await.unwrap();
            println!("done {number}");
        }
        if number % 3 == 0 {
            println!("project");
            memory.project().await.unwrap();
            println!("projected");
        }
    }
}

/// What the kills fell into.
#[derive(Clone, Copy, Debug, Default)]
struct Kills {
    within_projection: usize,
    open_episode: usize,
    unanswered_completion: usize,
    unanswered_step: usize,
    before_the_first_answer: usize,
    beside_another_writer: usize,
}

/// What the parent knows of one writer: what its children had acknowledged, or turned out to have written without an answer.
#[derive(Debug)]
struct Writer {
    number: usize,
    dice: Dice,
    /// The number that the last child began with.
    first: usize,
    /// Complete episodes.
    done: BTreeSet<usize>,
    /// How many steps of the open episodes.
    open: BTreeMap<usize, usize>,
    kills: Kills,
}

impl Writer {
    fn new(number: usize) -> Self {
        let dice = Dice::new(SEED + 104_729 * number as u64);
        let (first, done, open) = (number * NUMBERS, BTreeSet::new(), BTreeMap::new());
        Self { number, dice, first, done, open, kills: Kills::default() }
    }

    /// A number that no child has used: the last one may have used one more than it was answered, also if it was answered none.
    fn unused(&self) -> usize {
        let answered = self.done.iter().chain(self.open.keys()).max();
        answered.map_or(0, |last| last + 2).max(self.first + 1)
    }

    /// Starts a child and kills it at a random moment: a little while after a random line, which every other time is the start
    /// of a projection. Takes in all that it printed. `alive` counts the children of all writers.
    fn kill_a_child(&mut self, test: &str, path: &Path, turn: usize, alive: &AtomicUsize) {
        self.first = self.unused();
        let (first, hours) = (self.first.to_string(), turn.to_string());
        let variables = [("STORE", path.to_str().unwrap()), ("FIRST", &first), ("TURN", &hours)];
        let mut child = process::spawn(test, &variables);
        alive.fetch_add(1, Ordering::SeqCst);
        let (aim, most) = if self.dice.roll(2) == 0 { ("project", 6) } else { ("", 60) };
        let mut lines_left = self.dice.roll(most);
        let pause = Duration::from_micros(self.dice.roll(if lines_left == 0 { 30_000 } else { 4_000 }) as u64);
        println!("turn {turn} from {first}: killed {pause:?} after line {lines_left} {aim:?}");
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let (mut answers, mut projecting, mut killed) = (0, false, false);
        loop {
            if lines_left == 0 && !killed {
                std::thread::sleep(pause);
                child.kill().unwrap();
                killed = true;
                self.kills.beside_another_writer += usize::from(alive.fetch_sub(1, Ordering::SeqCst) > 1);
            }
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            let Some(line) = line.strip_suffix('\n') else { break }; // The last line may be cut off.
            lines_left = lines_left.saturating_sub(usize::from(aim.is_empty() || line == aim));
            match line {
                "project" | "projected" => projecting = line == "project",
                _ => answers += usize::from(self.take_in(line)),
            }
        }
        assert!(killed && !child.wait().unwrap().success(), "turn {turn} from {first}: the child failed by itself");
        self.kills.within_projection += usize::from(projecting);
        self.kills.before_the_first_answer += usize::from(answers == 0);
    }

    /// Takes in a line; says whether it is an acknowledgement.
    fn take_in(&mut self, line: &str) -> bool {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |place: usize| words[place].parse::<usize>().unwrap();
        match words[0] {
            "open" => drop(self.open.insert(number(1), 0)),
            "step" => drop(self.open.insert(number(1), number(2) + 1)),
            "done" => {
                self.open.remove(&number(1));
                assert!(self.done.insert(number(1)), "{line} again");
            }
            _ => return false,
        }
        true
    }

    /// Checks that its complete episodes are those acknowledged, and perhaps one for each kill that was not answered.
    fn check_complete(&mut self, present: &BTreeSet<usize>, kills: usize) {
        let lost: Vec<_> = self.done.difference(present).collect();
        assert!(lost.is_empty(), "episodes {lost:?} are lost");
        let unanswered: Vec<usize> = present.difference(&self.done).copied().collect();
        assert!(unanswered.len() <= kills, "{unanswered:?} were not acknowledged");
        for number in unanswered {
            let acknowledged = self.open.remove(&number);
            let least = intended(number).1.len() - (kills - 1);
            assert!(acknowledged.is_none_or(|steps| steps >= least), "{number} ended early");
            self.done.insert(number);
            self.kills.unanswered_completion += 1;
        }
    }

    /// Checks that its open episodes, with so many steps each, are those begun, with the steps acknowledged and perhaps one for each
    /// kill that was not answered.
    fn check_open(&mut self, present: BTreeMap<usize, usize>, kills: usize) {
        for (number, kept) in &present {
            let acknowledged = self.open.remove(number).unwrap_or_default();
            assert!((acknowledged..=acknowledged + kills).contains(kept), "{kept} of {acknowledged} steps of {number}");
            self.kills.unanswered_step += kept - acknowledged;
        }
        assert!(self.open.is_empty(), "{:?} are lost", self.open);
        assert!(present.len() <= 1, "{present:?} are open, and a child completes what is open first");
        self.kills.open_episode += present.len();
        self.open = present;
    }
}

/// Checks that all is there that the writers had acknowledged, that nothing else is but what kills left unanswered, so many of each
/// writer, and that what is known is what follows from the log.
async fn check(store: impl MemoryStore, writers: &mut [Writer], turn: usize, kills: usize) {
    let log = log(&store).await;
    let watermark = match store.get_one(Key::Watermark(Learner::default().id())).await.unwrap() {
        Some(Stored { record: Record::Watermark(watermark), .. }) => watermark.position,
        _ => Version(0),
    };
    let projected = log.iter().filter(|(version, _)| *version <= watermark).map(|(_, episode)| episode);
    assert_eq!(stored_patterns(&store).await, fold(projected), "patterns up to the watermark");

    let memory = memory(store, turn).await;
    let episodes: Vec<Arc<Episode>> = log.into_iter().map(|(_, episode)| episode).collect();
    assert_eq!(memory.patterns().await.unwrap(), fold(&episodes), "patterns with the tail");
    let mut complete = vec![BTreeSet::new(); writers.len()];
    for episode in episodes {
        let number = number_of(&episode.task);
        assert!(complete[number / NUMBERS].insert(number), "{number} is there twice");
        let (task, steps, outcome) = intended(number);
        assert_eq!((&episode.task, &episode.steps, &episode.outcome), (&task, &steps, &outcome));
    }
    let mut open = vec![BTreeMap::new(); writers.len()];
    for opened in memory.open_episodes().await.unwrap() {
        let (number, resumed) = (number_of(&opened.task), memory.resume(opened.id).await.unwrap());
        let (task, steps, _) = intended(number);
        let kept = resumed.steps().len();
        assert_eq!((resumed.task(), resumed.steps()), (&task, &steps[..kept]));
        open[number / NUMBERS].insert(number, kept);
    }
    memory.store().close().await.unwrap();
    for ((writer, complete), open) in writers.iter_mut().zip(complete).zip(open) {
        writer.check_complete(&complete, kills);
        writer.check_open(open, kills);
    }
}

/// Kills a process so many times that records and learns in a file: nothing acknowledged is lost, no evidence counted twice,
/// and everything is found. `sound` checks a file that nobody has open.
pub async fn a_process_can_be_killed_while_it_records_and_learns<S: MemoryStore>(
    test: &str,
    path: &Path,
    kills: usize,
    open: impl AsyncFn(&Path) -> S,
    sound: impl AsyncFn(&Path),
) {
    killed(test, path, (1, 1, kills), open, sound).await;
}

/// The same with two processes at once, each killed while the other goes on, and followed by another that opens the file beside
/// it; so many kills in all.
pub async fn two_processes_can_be_killed_while_they_record_and_learn<S: MemoryStore>(
    test: &str,
    path: &Path,
    kills: usize,
    open: impl AsyncFn(&Path) -> S,
    sound: impl AsyncFn(&Path),
) {
    killed(test, path, (2, 2, kills.div_ceil(4)), open, sound).await;
}

/// So many writers at once, each of which is killed so often before everything is checked, and so many rounds of this.
async fn killed<S: MemoryStore>(
    test: &str,
    path: &Path,
    (writers, kills, rounds): (usize, usize, usize),
    open: impl AsyncFn(&Path) -> S,
    sound: impl AsyncFn(&Path),
) {
    if process::is_child() {
        return record_until_killed(open(&path_of_child()).await).await;
    }
    let (mut writers, alive) = ((0..writers).map(Writer::new).collect::<Vec<_>>(), AtomicUsize::new(0));
    for round in 0..rounds {
        let turn = round * (kills + 1);
        std::thread::scope(|scope| {
            for writer in &mut writers {
                scope.spawn(|| (turn..turn + kills).for_each(|turn| writer.kill_a_child(test, path, turn, &alive)));
            }
        });
        println!("round {round} is checked");
        check(open(path).await, &mut writers, turn + kills, kills).await;
        sound(path).await;
    }

    let memory = memory(open(path).await, rounds * (kills + 1)).await;
    for opened in memory.open_episodes().await.unwrap() {
        finish(memory.resume(opened.id).await.unwrap()).await;
    }
    let rebuilt = memory.rebuild().await.unwrap();
    let episodes: Vec<Arc<Episode>> = log(memory.store()).await.into_iter().map(|(_, episode)| episode).collect();
    assert_eq!((rebuilt.episodes, rebuilt.repaired), (episodes.len() as u64, 0));
    assert_eq!(stored_patterns(memory.store()).await, fold(&episodes));
    for episode in &episodes {
        let found = memory.recall(&episode.task, 1).await.unwrap().episodes;
        assert_eq!(&found[0].episode, episode);
        assert!(found[0].parts.words > 0.0 && found[0].parts.vector > 0.999, "{found:?}");
    }
    memory.close().await.unwrap();
    sound(path).await;
    for Writer { number, done, kills: fell, .. } in &writers {
        let acknowledged = done.len() - fell.unanswered_completion;
        println!("writer {number}: of {} kills {fell:?}; {acknowledged} acknowledged episodes", rounds * kills);
        let every_way = fell.within_projection > 0 && fell.open_episode > 0;
        assert!(every_way || rounds * kills < 20, "{fell:?}");
        assert!(writers.len() == 1 || fell.beside_another_writer > 0, "{fell:?}");
    }
}

/// Kills a process so many times that makes its file: making it is one of the moments at which a process can be killed, and there is
/// but one such moment a file. `place` gives a new path and what keeps its folder.
pub async fn a_process_can_be_killed_while_it_makes_the_file<S: MemoryStore, G>(
    test: &str,
    rounds: usize,
    place: impl Fn() -> (G, PathBuf),
    open: impl AsyncFn(&Path) -> S,
    sound: impl AsyncFn(&Path),
) {
    if process::is_child() {
        drop(memory(open(&path_of_child()).await, 0).await);
        println!("made");
        loop {
            std::thread::park();
        }
    }
    let (mut dice, mut early, mut half_made) = (Dice::new(SEED), 0, 0);
    for round in 0..rounds {
        let (_folder, path) = place();
        let pause = Duration::from_micros(dice.roll(25_000) as u64);
        let mut child = process::spawn(test, &[("STORE", path.to_str().unwrap())]);
        std::thread::sleep(pause);
        child.kill().unwrap();
        let printed = child.wait_with_output().unwrap().stdout;
        let made = String::from_utf8(printed).unwrap().contains("made\n");
        println!("round {round}: killed after {pause:?}, file {} made: {made}", path.exists());
        early += usize::from(!made);
        half_made += usize::from(!made && path.exists());

        let memory = memory(open(&path).await, 0).await;
        memory.record(Recording::new(Task::new("the first"), Outcome::success("done"))).await.unwrap();
        assert_eq!(memory.recall(&Task::new("the first"), 1).await.unwrap().episodes.len(), 1);
        memory.close().await.unwrap();
        sound(&path).await;
    }
    println!("of {rounds} kills {early} came before the file was made, {half_made} of them while it was being made");
}

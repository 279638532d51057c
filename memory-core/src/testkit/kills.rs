//! Processes that are killed again and again while they record and learn, or while they make their file: what was
//! acknowledged must be there, and nothing else but what was not answered.
//!
//! A test calls these with its own name, since the children are the same test in another process.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
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

/// The path that the parent names.
fn path_of_child() -> PathBuf {
    std::env::var_os("STORE").unwrap().into()
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

/// Completes what earlier children began, then records from the number `FIRST` on until killed.
async fn record_until_killed(store: impl MemoryStore) {
    let turn = std::env::var("TURN").unwrap().parse().unwrap();
    let memory = memory(store, turn).await;
    for opened in memory.open_episodes().await.unwrap() {
        finish(memory.resume(opened.id).await.unwrap()).await;
    }
    for number in std::env::var("FIRST").unwrap().parse().unwrap().. {
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

/// What the children had acknowledged, or turned out to have written without an answer.
#[derive(Debug, Default)]
struct Acknowledged {
    /// Complete episodes.
    done: BTreeSet<usize>,
    /// How many steps of the open episodes.
    open: BTreeMap<usize, usize>,
}

/// What the kills fell into.
#[derive(Debug, Default)]
struct Kills {
    within_projection: usize,
    /// Of these, how many kept a projection step from being written.
    projection_undone: usize,
    open_episode: usize,
    unanswered_completion: usize,
    unanswered_step: usize,
    before_the_first_answer: usize,
}

/// The parent: kills children and knows what must be left.
struct Witness<'a> {
    test: &'a str,
    path: &'a Path,
    dice: Dice,
    round: usize,
    /// Whether the last kill fell into a call of `project`.
    projecting: bool,
    acknowledged: Acknowledged,
    kills: Kills,
}

impl Witness<'_> {
    /// Starts a child and kills it at a random moment: a little while after a random line, which in every other round is the
    /// start of a projection. Takes in all that it printed.
    fn kill_a_child(&mut self, first: usize) {
        let (first, turn) = (first.to_string(), (2 * self.round).to_string());
        let variables = [("STORE", self.path.to_str().unwrap()), ("FIRST", &first), ("TURN", &turn)];
        let mut child = process::spawn(self.test, &variables);
        let (aim, most) = if self.round.is_multiple_of(2) { ("project", 6) } else { ("", 60) };
        let mut lines_left = self.dice.roll(most);
        let pause = Duration::from_micros(self.dice.roll(if lines_left == 0 { 30_000 } else { 4_000 }) as u64);
        println!("round {}: killed {pause:?} after line {lines_left} {aim:?}", self.round);
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let (mut answers, mut projecting, mut killed) = (0, false, false);
        loop {
            if lines_left == 0 && !killed {
                std::thread::sleep(pause);
                child.kill().unwrap();
                killed = true;
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
        assert!(killed && !child.wait().unwrap().success(), "round {}: the child failed by itself", self.round);
        self.kills.within_projection += usize::from(projecting);
        self.projecting = projecting;
        self.kills.before_the_first_answer += usize::from(answers == 0);
    }

    /// Takes in a line; says whether it is an acknowledgement.
    fn take_in(&mut self, line: &str) -> bool {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |place: usize| words[place].parse::<usize>().unwrap();
        match words[0] {
            "open" => drop(self.acknowledged.open.insert(number(1), 0)),
            "step" => drop(self.acknowledged.open.insert(number(1), number(2) + 1)),
            "done" => {
                self.acknowledged.open.remove(&number(1));
                assert!(self.acknowledged.done.insert(number(1)), "{line} again");
            }
            _ => return false,
        }
        true
    }

    /// Checks that everything acknowledged is there, that nothing else is but what the kill left unanswered, and that what is
    /// known is what follows from the log. Returns the highest number in use.
    async fn check(&mut self, store: impl MemoryStore) -> usize {
        let round = self.round;
        let log = log(&store).await;
        let watermark = match store.get_one(Key::Watermark(Learner::default().id())).await.unwrap() {
            Some(Stored { record: Record::Watermark(watermark), .. }) => watermark.position,
            _ => Version(0),
        };
        let projected = log.iter().filter(|(version, _)| *version <= watermark).map(|(_, episode)| episode);
        assert_eq!(stored_patterns(&store).await, fold(projected), "round {round}: patterns up to the watermark");
        let behind = log.last().is_some_and(|(version, _)| *version > watermark);
        self.kills.projection_undone += usize::from(self.projecting && behind);

        let memory = memory(store, 2 * round + 1).await;
        let episodes: Vec<Arc<Episode>> = log.into_iter().map(|(_, episode)| episode).collect();
        assert_eq!(memory.patterns().await.unwrap(), fold(&episodes), "round {round}: patterns with the tail");
        self.check_complete(&episodes);
        self.check_open(&memory).await;
        memory.store().close().await.unwrap();
        self.acknowledged.done.iter().chain(self.acknowledged.open.keys()).max().copied().unwrap_or_default()
    }

    /// Checks that the episodes of the log are those acknowledged, and perhaps the one that was not answered.
    fn check_complete(&mut self, episodes: &[Arc<Episode>]) {
        let (round, mut present) = (self.round, BTreeSet::new());
        for episode in episodes {
            let number = number_of(&episode.task);
            assert!(present.insert(number), "round {round}: {number} is there twice");
            let (task, steps, outcome) = intended(number);
            assert_eq!((&episode.task, &episode.steps, &episode.outcome), (&task, &steps, &outcome), "round {round}");
        }
        let lost: Vec<_> = self.acknowledged.done.difference(&present).collect();
        assert!(lost.is_empty(), "round {round}: episodes {lost:?} are lost");
        let unanswered: Vec<usize> = present.difference(&self.acknowledged.done).copied().collect();
        assert!(unanswered.len() <= 1, "round {round}: {unanswered:?} were not acknowledged");
        for number in unanswered {
            let steps = self.acknowledged.open.remove(&number);
            assert!(steps.is_none_or(|steps| steps == intended(number).1.len()), "round {round}: {number} ended early");
            self.acknowledged.done.insert(number);
            self.kills.unanswered_completion += 1;
        }
    }

    /// Checks that the open episodes are those begun, with the steps acknowledged and perhaps the one that was not answered.
    async fn check_open(&mut self, memory: &Memory) {
        let (round, mut open) = (self.round, BTreeMap::new());
        for opened in memory.open_episodes().await.unwrap() {
            let (number, resumed) = (number_of(&opened.task), memory.resume(opened.id).await.unwrap());
            let (task, steps, _) = intended(number);
            let kept = resumed.steps().len();
            assert_eq!((resumed.task(), resumed.steps()), (&task, &steps[..kept]), "round {round}");
            let acknowledged = self.acknowledged.open.remove(&number).unwrap_or_default();
            assert!((acknowledged..=acknowledged + 1).contains(&kept), "round {round}: {kept} of {acknowledged} steps");
            self.kills.unanswered_step += kept - acknowledged;
            open.insert(number, kept);
        }
        assert!(self.acknowledged.open.is_empty(), "round {round}: {:?} are lost", self.acknowledged.open);
        assert!(open.len() <= 1, "round {round}: {open:?} are open, and a child completes what is open first");
        self.kills.open_episode += open.len();
        self.acknowledged.open = open;
    }
}

/// Kills a process so many times that records and learns in a file: nothing acknowledged is lost, no evidence counted twice,
/// and everything is found. `sound` checks a file that nobody has open.
pub async fn a_process_can_be_killed_while_it_records_and_learns<S: MemoryStore>(
    test: &str,
    path: &Path,
    rounds: usize,
    open: impl AsyncFn(&Path) -> S,
    sound: impl AsyncFn(&Path),
) {
    if process::is_child() {
        return record_until_killed(open(&path_of_child()).await).await;
    }
    let (dice, acknowledged, kills) = (Dice::new(SEED), Acknowledged::default(), Kills::default());
    let mut witness = Witness { test, path, dice, round: 0, projecting: false, acknowledged, kills };
    let mut last = 0;
    for round in 0..rounds {
        witness.round = round;
        witness.kill_a_child(last + 1);
        last = witness.check(open(path).await).await;
        sound(path).await;
    }

    let memory = memory(open(path).await, 2 * rounds).await;
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
    let acknowledged = witness.acknowledged.done.len() - witness.kills.unanswered_completion;
    println!("of {rounds} kills {:?}; {acknowledged} acknowledged episodes", witness.kills);
    assert!(witness.kills.within_projection > 0 && witness.kills.open_episode > 0, "{:?}", witness.kills);
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

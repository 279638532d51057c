//! The same test in another process.
//!
//! A test that must see what another process left behind, or that kills one, has two roles. It starts *itself* again as the
//! child and tells the roles apart by [`is_child`]:
//!
//! ```no_run
//! use memory_core::testkit::process;
//!
//! // #[test]
//! fn another_process_reads_it_back() {
//!     if process::is_child() {
//!         let path = std::env::var("STORE").expect("given by the parent");
//!         // ... write to the store at `path` and return, or write until killed
//!         return;
//!     }
//!     // The name is the path of the test inside its executable, as `cargo test` prints it.
//!     process::run("another_process_reads_it_back", &[("STORE", "one.db")]);
//!     // ... open the store and see that everything is there
//!
//!     let mut child = process::spawn("another_process_reads_it_back", &[("STORE", "two.db")]);
//!     // ... wait until the store has grown, then:
//!     child.kill().and_then(|()| child.wait()).expect("a child that runs");
//! }
//! ```

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

const MARK: &str = "KNOWHOW_TESTKIT_CHILD";

/// Whether this process was started by [`command`], [`run`] or [`spawn`].
pub fn is_child() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Runs one test of this executable in a child to its end, with these environment variables added; gives what it printed.
/// Panics unless exactly that test ran and passed.
pub fn run(test: &str, variables: &[(&str, &str)]) -> Output {
    passed(test, command(test, variables).output().expect("the test executable starts again"))
}

/// Starts one test of this executable in a child, with these environment variables added and its standard output piped,
/// and does not wait for it. Who starts it must [`wait`] for it or kill it.
pub fn spawn(test: &str, variables: &[(&str, &str)]) -> Child {
    command(test, variables).stdout(Stdio::piped()).spawn().expect("the test executable starts again")
}

/// As [`run`], but without the powers of root, whom file permissions do not bind; gives what the child printed to its standard
/// output. `None` where no such process can be started.
#[cfg(unix)]
pub fn run_without_root(test: &str, variables: &[(&str, &str)]) -> Option<String> {
    use std::os::unix::process::CommandExt as _;
    let mut child = command(test, variables);
    if std::env::var_os("USER").is_none_or(|user| user == "root") {
        child.uid(65_534).gid(65_534);
    }
    let child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().ok()?;
    Some(String::from_utf8_lossy(&wait(test, child).stdout).into_owned())
}

/// Waits for the child that runs this test; gives what it printed and nobody has read yet. Panics unless exactly that test
/// ran and passed.
pub fn wait(test: &str, child: Child) -> Output {
    passed(test, child.wait_with_output().expect("a child to wait for"))
}

/// A test of this executable in a child that answers line by line what it is asked, with [`answer`]; killed when this is
/// dropped.
#[derive(Debug)]
pub struct Respondent {
    test: String,
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What lines begin with that are answers.
const ANSWER: &str = "answer: ";

impl Respondent {
    /// Starts the child, with these environment variables added.
    pub fn spawn(test: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = command(test, variables);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the test executable starts again");
        let questions = child.stdin.take().expect("piped");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        Self { test: test.to_owned(), child, questions, answers }
    }

    /// Asks, and does not wait for the answer.
    pub fn put(&mut self, question: &str) {
        writeln!(self.questions, "{question}").expect("the child listens");
    }

    /// Waits for the answer to the next question that has none yet.
    pub fn hear(&mut self) -> String {
        loop {
            let mut line = String::new();
            let read = self.answers.read_line(&mut line).expect("text");
            assert!(read > 0, "the child of {} ended", self.test);
            if let Some(answer) = line.strip_prefix(ANSWER) {
                return answer.trim_end_matches('\n').to_owned();
            }
        }
    }

    /// Asks, and waits for the answer.
    pub fn ask(&mut self, question: &str) -> String {
        self.put(question);
        self.hear()
    }
}

impl Drop for Respondent {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Answers all questions of the [`Respondent`] that this child is, each in one line.
pub async fn answer(to: impl AsyncFn(&str) -> String) {
    for question in std::io::stdin().lines() {
        let answer = to(&question.expect("text")).await;
        assert!(!answer.contains('\n'), "an answer of one line: {answer}");
        println!("{ANSWER}{answer}");
    }
}

/// The command behind [`run`] and [`spawn`], for a child that needs more than environment variables. What the child prints
/// stands on lines of its own.
pub fn command(test: &str, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the path of the test executable"));
    let arguments = ["--exact", test, "--nocapture", "--quiet"];
    command.args(arguments).env(MARK, test).envs(variables.iter().copied());
    command
}

fn passed(test: &str, output: Output) -> Output {
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the child of {test} failed: {}\n{printed}\n{errors}", output.status);
    assert!(printed.contains("1 passed"), "no test is named {test:?}:\n{printed}");
    output
}

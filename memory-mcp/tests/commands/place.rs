//! A folder in which the program is run, and what it has recorded there.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use memory_core::{Memory, MemoryBuilder, Outcome, Recording, Step, Task};
use memory_storage_turso::TursoStore;
use serde_json::Value;
use tempfile::TempDir;

/// A folder of its own, with the database `memory.db` if something was recorded.
pub(crate) struct Place(TempDir);

/// What came of running the program.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    fn new(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// What it answered, as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// That it failed, with this in what it says of it.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, said: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.err.contains(said), "{self:?}");
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path("memory.db")
    }

    /// The names of the files that are there, except those that SQLite makes beside an open database.
    pub(crate) fn files(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.retain(|name| !name.ends_with("-wal") && !name.ends_with("-shm"));
        names.sort();
        names
    }

    /// A program that knows nothing of this machine but this folder, and works with the database here.
    pub(crate) fn program(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir(self.0.path()).stdin(Stdio::null());
        // Else what measures coverage would write beside what is looked at.
        command.envs(std::env::var_os("LLVM_PROFILE_FILE").map(|file| ("LLVM_PROFILE_FILE", file)));
        command.env("HOME", self.0.path()).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("KNOWHOW_STORE_URL", self.database());
        command
    }

    pub(crate) fn knowhow(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_knowhow"));
        command.args(arguments);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        Ran::new(&self.knowhow(arguments).output().unwrap())
    }

    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let mut command = self.knowhow(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        Ran::new(&child.wait_with_output().unwrap())
    }

    /// What it answers to people.
    #[track_caller]
    pub(crate) fn told(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!((ran.code, &ran.err[..]), (0, ""), "{ran:?}");
        ran.out
    }

    /// What it answers to programs.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let ran = self.run(&[arguments, &["--json"]].concat());
        assert_eq!((ran.code, &ran.err[..]), (0, ""), "{ran:?}");
        ran.json()
    }

    /// Works with the memory here as another program does.
    pub(crate) fn work<T>(
        &self,
        configure: impl FnOnce(MemoryBuilder) -> MemoryBuilder,
        work: impl AsyncFnOnce(&Memory) -> T,
    ) -> T {
        block_on(async {
            let store = TursoStore::open(self.database()).await.unwrap();
            let memory = configure(Memory::builder().store(store)).build().await.unwrap();
            let done = work(&memory).await;
            memory.close().await.unwrap();
            done
        })
    }

    /// Two episodes for each of these: one that looked before it edited, and succeeded, and one that did not.
    pub(crate) fn record(&self, subjects: &[&str]) {
        self.work(
            |builder| builder,
            async |memory| {
                for subject in subjects {
                    memory.record(failure(subject)).await.unwrap();
                    memory.record(success(subject)).await.unwrap();
                }
            },
        );
    }

    /// Enough for rules to be learned.
    pub(crate) fn taught() -> Self {
        let place = Self::new();
        place.record(&["login", "logout", "signup", "reset", "profile", "search"]);
        place
    }

    /// SQL, as an operator's shell would run it.
    pub(crate) fn sql(&self, text: &str) {
        sql(&self.database(), text);
    }
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(work)
}

pub(crate) fn sql(path: &Path, text: &str) {
    block_on(async {
        let database = libsql::Builder::new_local(path).build().await.unwrap();
        database.connect().unwrap().execute_batch(text).await.unwrap();
    });
}

fn task(subject: &str) -> Task {
    Task::new(format!("make the failing {subject} test pass")).domain("web").tag("tests")
}

pub(crate) fn success(subject: &str) -> Recording {
    let steps = [
        Step::new("run_tests").error("1 test failed"),
        Step::new("grep").input(subject).ok("src/web.rs:42"),
        Step::new("edit").ok("saved"),
        Step::new("run_tests").ok("all tests passed"),
    ];
    Recording::new(task(subject), Outcome::success("it passes")).steps(steps)
}

fn failure(subject: &str) -> Recording {
    let steps = [Step::new("edit").ok("saved"), Step::new("run_tests").error("1 test failed")];
    Recording::new(task(subject), Outcome::failure("gave up")).steps(steps)
}

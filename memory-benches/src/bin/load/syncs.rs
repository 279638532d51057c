//! How often the disk is asked to sync, and how long that takes at least.
//!
//! Every engine ends at `fsync` or `fdatasync` of the C library. A small library in C, compiled when this program starts and
//! put before them by `LD_PRELOAD`, counts the calls and can delay them; so this program starts itself again with it. Counter
//! and delay are in a file that the library has mapped into memory and this side reads and writes: the kernel keeps both views
//! the same. Where that cannot be, syncs are unknown, never 0.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use crate::AnyError;

const LIBRARY: &str = include_str!("syncs.c");
/// Names the file with counter and delay; that it is set tells that this is the second start.
const SHARED: &str = "KNOWHOW_LOAD_SYNCS";
const COUNTER_AT: u64 = 0;
const DELAY_AT: u64 = 8;
/// Syncs that are made to see whether all are counted.
const TRIED: u64 = 10;

/// Why syncs cannot be counted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Uncounted {
    #[error("syncs are counted on Linux only")]
    NotLinux,
    #[error("no C compiler: cc: {0}")]
    NoCompiler(io::Error),
    #[error("cc cannot compile syncs.c: {0}")]
    Compiler(String),
    #[error("of {TRIED} syncs on trial {0} were counted")]
    Missed(u64),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What is known of the syncs of this process.
#[derive(Debug)]
pub(crate) struct Syncs {
    shared: Option<File>,
    delay: Duration,
}

impl Syncs {
    /// Syncs of which nothing is known.
    const fn unknown() -> Self {
        Self { shared: None, delay: Duration::ZERO }
    }

    /// Those that this file counts, if it counts all.
    fn counted(shared: &OsStr, delay: Duration) -> Result<Self, Uncounted> {
        let shared = File::options().read(true).write(true).open(shared)?;
        let syncs = Self { shared: Some(shared), delay };
        let before = syncs.count()?.unwrap_or_default();
        let file = tempfile::tempfile()?;
        for _ in 0..TRIED {
            file.sync_data()?;
        }
        match syncs.count()?.unwrap_or_default() - before {
            TRIED => Ok(syncs),
            seen => Err(Uncounted::Missed(seen)),
        }
    }

    /// How many there were so far, if that is known.
    pub(crate) fn count(&self) -> io::Result<Option<u64>> {
        let Some(shared) = &self.shared else { return Ok(None) };
        let mut bytes = [0; 8];
        shared.read_exact_at(&mut bytes, COUNTER_AT)?;
        Ok(Some(u64::from_ne_bytes(bytes)))
    }

    /// How many there were since then, if that is known.
    pub(crate) fn since(&self, before: Option<u64>) -> io::Result<Option<u64>> {
        Ok(self.count()?.zip(before).map(|(after, before)| after - before))
    }

    /// Does something while each sync takes the delay longer.
    pub(crate) fn delayed<T>(&self, work: impl FnOnce() -> Result<T, AnyError>) -> Result<T, AnyError> {
        self.set_delay(self.delay)?;
        let done = work();
        self.set_delay(Duration::ZERO)?;
        done
    }

    fn set_delay(&self, delay: Duration) -> io::Result<()> {
        let Some(shared) = &self.shared else { return Ok(()) };
        let nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        shared.write_all_at(&nanos.to_ne_bytes(), DELAY_AT)
    }
}

/// Runs a command that measures syncs: in a process whose syncs are counted, if that can be; with a delay only there.
pub(crate) fn measured(
    delay: Duration,
    command: impl FnOnce(&Syncs) -> Result<(), AnyError>,
) -> Result<ExitCode, AnyError> {
    let uncounted = match std::env::var_os(SHARED) {
        Some(shared) => match Syncs::counted(&shared, delay) {
            Ok(syncs) => return command(&syncs).map(|()| ExitCode::SUCCESS),
            Err(uncounted) => uncounted,
        },
        None => match start_again() {
            Ok(code) => return Ok(code),
            Err(uncounted) => uncounted,
        },
    };
    if !delay.is_zero() {
        return Err(format!("syncs cannot be delayed: {uncounted}").into());
    }
    eprintln!("syncs are not counted: {uncounted}");
    command(&Syncs::unknown()).map(|()| ExitCode::SUCCESS)
}

/// Runs this program with the same arguments and the library before the C library.
fn start_again() -> Result<ExitCode, Uncounted> {
    if !cfg!(target_os = "linux") {
        return Err(Uncounted::NotLinux);
    }
    let folder = tempfile::tempdir()?;
    let library = folder.path().join("syncs.so");
    compile(folder.path(), &library)?;
    let shared = folder.path().join("syncs");
    std::fs::write(&shared, [0; 16])?;
    let mut program = Command::new(std::env::current_exe()?);
    program.args(std::env::args_os().skip(1)).env(SHARED, shared).env("LD_PRELOAD", before_others(&library));
    let code = program.status()?.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

fn compile(folder: &Path, library: &Path) -> Result<(), Uncounted> {
    let source = folder.join("syncs.c");
    std::fs::write(&source, LIBRARY)?;
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O2", "-o"]).args([library, &source]).arg("-ldl");
    let done = compiler.output().map_err(Uncounted::NoCompiler)?;
    let said = || String::from_utf8_lossy(&done.stderr).trim().to_owned();
    if done.status.success() { Ok(()) } else { Err(Uncounted::Compiler(said())) }
}

fn before_others(library: &Path) -> OsString {
    let mut all = library.as_os_str().to_owned();
    if let Some(others) = std::env::var_os("LD_PRELOAD").filter(|others| !others.is_empty()) {
        all.push(":");
        all.push(others);
    }
    all
}

//! What is different on a terminal: colour, questions, progress.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Child, Command};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::place::Place;

/// A terminal with a program in it.
struct Terminal {
    keyboard: File,
    screen: File,
    child: Child,
}

impl Terminal {
    fn run(mut command: Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let open = || OpenOptions::new().read(true).write(true).open(OsStr::from_bytes(name.to_bytes())).unwrap();
        command.env("TERM", "xterm").stdin(open()).stdout(open()).stderr(open());
        let child = command.spawn().unwrap();
        // The command has the other ends open, too.
        drop(command);
        let keyboard = File::from(master.as_fd().try_clone_to_owned().unwrap());
        Self { keyboard, screen: File::from(master), child }
    }

    /// Reads until this is on the screen, or all; gives all that was read.
    fn read(&mut self, until: &str) -> String {
        let (mut all, mut some) = (Vec::new(), [0; 4096]);
        // A terminal whose program is gone cannot be read.
        while let Ok(read @ 1..) = self.screen.read(&mut some) {
            all.extend_from_slice(&some[..read]);
            if !until.is_empty() && String::from_utf8_lossy(&all).contains(until) {
                break;
            }
        }
        String::from_utf8_lossy(&all).into_owned()
    }

    fn answer(&mut self, text: &str) {
        writeln!(self.keyboard, "{text}").unwrap();
    }

    /// The rest, and how it ended.
    fn end(mut self) -> (String, i32) {
        let rest = self.read("");
        (rest, self.child.wait().unwrap().code().unwrap())
    }
}

#[test]
fn colour_is_for_terminals_that_want_it() {
    let place = Place::taught();
    let run = |no_color: &str| {
        let mut command = place.knowhow(&["doctor"]);
        command.env("NO_COLOR", no_color);
        Terminal::run(command).end()
    };
    let (coloured, code) = run("");
    assert!(code == 0 && coloured.contains("\x1b[32mok   \x1b[0m"), "{coloured:?}");
    let (plain, _) = run("1");
    assert!(plain.contains("Nothing is wrong.") && !plain.contains("\x1b["), "{plain:?}");
    assert!(!place.told(&["doctor"]).contains('\x1b'));
    assert!(!Terminal::run(place.knowhow(&["doctor", "--json"])).end().0.contains('\x1b'));
}

#[test]
fn it_asks_before_it_deletes() {
    let place = Place::taught();
    let list = place.json(&["episodes", "list"]);
    let id = list["episodes"][0]["id"].as_str().unwrap();
    for (answer, code, left) in [("n", 1, 12), ("", 1, 12), ("y", 0, 11)] {
        let mut terminal = Terminal::run(place.knowhow(&["episodes", "delete", id]));
        let asked = terminal.read("[y/N] ");
        assert!(asked.contains("delete 1 episode and what was learned from them? [y/N]"), "{asked:?}");
        terminal.answer(answer);
        let (rest, ended) = terminal.end();
        assert_eq!(ended, code, "{rest:?}");
        assert_eq!(place.json(&["episodes", "list"])["total"], left);
    }
}

#[test]
fn progress_is_shown_on_a_terminal_alone() {
    let place = Place::taught();
    place.told(&["episodes", "export", "all.jsonl"]);
    let (shown, code) = Terminal::run(place.knowhow(&["--store", "other.db", "episodes", "import", "all.jsonl"])).end();
    assert!(code == 0 && shown.contains("importing [") && shown.contains("imported: 12 episodes"), "{shown:?}");
}

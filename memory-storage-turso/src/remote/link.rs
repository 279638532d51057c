//! A connection to a server, as a [`Session`](crate::session::Session) uses it.
//!
//! What costs is the way there and back. So a transaction begins with its first statement, in one request; statements that are
//! announced go together; a transaction of which all is announced is one request altogether; and one that only reads ends after
//! its answer was given. Rows are read as they are asked for.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::rc::Rc;
use std::sync::Arc;

use libsql::Value;
use memory_core::{Error, ErrorKind, Result};
use ureq::BodyReader;

use super::program::Program;
use super::protocol::{
    Argument, Batch, BatchResult, Column, Condition, Cursor, CursorAnswer, Entry, Request, Statement, Step,
    StreamResult,
};
use super::server::Server;
use crate::error::{from_failure, unreadable};
use crate::session::{BEGIN_WRITE, Sql};

/// The code of an answer that has more bytes than a server sends at once. There is no limit for rows that come one by one.
const TOO_LARGE: &str = "RESPONSE_TOO_LARGE";

/// A statement and its values.
pub(crate) type Query = (Sql, Vec<Value>);

/// The stream on which statements run, if there is one.
pub(crate) struct Link {
    server: Arc<Server>,
    baton: Option<String>,
    state: State,
    /// Answers that rows come from; only the last one may still be on its way.
    answers: Vec<Rc<RefCell<Answer>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// In no transaction. If there is a stream, it is still in one that is to be rolled back.
    Idle,
    /// In a transaction that begins with its first statement.
    Begin(&'static str),
    Open,
    /// In a transaction that was one request, and is over.
    Whole,
    /// In a transaction that was lost on the way.
    Lost,
}

impl Link {
    pub(crate) fn new(server: Arc<Server>) -> Self {
        Self { server, baton: None, state: State::Idle, answers: Vec::new() }
    }

    pub(crate) fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Begins a transaction.
    pub(crate) fn begin(&mut self, Sql(_, begin): Sql) {
        self.release();
        self.state = State::Begin(begin);
    }

    /// Ends a transaction: writes what a writing one has done.
    pub(crate) fn commit(&mut self, begin: Sql) -> Result<()> {
        if begin.1 != BEGIN_WRITE.1 || self.state != State::Open {
            let lost = self.state == State::Lost;
            self.release();
            self.state = State::Idle;
            return if lost { Err(self.lost()) } else { Ok(()) };
        }
        self.drain()?;
        self.state = State::Idle;
        let steps = [step("COMMIT", vec![], None)];
        let requests = [Request::Batch { batch: Batch { steps: &steps } }, Request::Close];
        let answer = self.server.pipeline(self.baton.take().as_deref(), &requests)?;
        let result = self.server.first_of(answer)?;
        self.first_error(&result)
    }

    /// Gives a transaction up. Nobody waits longer for one that writes.
    pub(crate) fn abandon(&mut self, begin: Sql) {
        self.release();
        self.state = State::Idle;
        if begin.1 == BEGIN_WRITE.1 {
            self.settle();
        }
    }

    /// Gives the stream back to the server, which would else keep it for ten seconds.
    pub(crate) fn settle(&mut self) {
        if self.state == State::Idle
            && let Some(baton) = self.baton.take()
        {
            let _ = self.server.pipeline(Some(&baton), &[Request::Close]);
        }
    }

    /// Runs statements in one request, so that [`query`](Self::query) finds them answered.
    pub(crate) fn ahead(&mut self, queries: Vec<Query>) -> Result<()> {
        if !queries.is_empty() {
            self.ask(queries)?;
        }
        Ok(())
    }

    /// The same when these are all statements of the transaction, which must not have begun.
    pub(crate) fn whole(&mut self, queries: Vec<Query>) -> Result<()> {
        let State::Begin(begin) = self.state else { return self.ahead(queries) };
        let begun = || Some(Condition::Ok { step: 0 });
        let mut steps = vec![step(begin, vec![], None)];
        steps.extend(queries.iter().map(|(sql, values)| step(sql.1, values.clone(), begun())));
        steps.push(step("COMMIT", vec![], begun()));
        let requests = [Request::Batch { batch: Batch { steps: &steps } }, Request::Close];
        let answer = self.server.insist(|| self.server.pipeline(None, &requests))?;
        if let Some(StreamResult::Error { error }) = answer.results.first()
            && error.code == TOO_LARGE
        {
            return self.ahead(queries);
        }
        let mut result = self.server.first_of(answer)?;
        self.state = State::Whole;
        let answer = Answer::complete(&self.server, queries, &mut result);
        self.answers.push(Rc::new(RefCell::new(answer)));
        Ok(())
    }

    /// Starts a query.
    pub(crate) fn query(&mut self, sql: Sql, values: Vec<Value>) -> Result<Rows> {
        for answer in &self.answers {
            if let Some(place) = answer.borrow_mut().claim(sql, &values) {
                return Ok(Rows { answer: Rc::clone(answer), place });
            }
        }
        let answer = self.ask(vec![(sql, values)])?;
        let place = answer.borrow().prefix;
        answer.borrow_mut().claimed[place] = true;
        Ok(Rows { answer, place })
    }

    /// Runs a statement and tells how many rows it changed.
    pub(crate) fn execute(&mut self, sql: Sql, values: Vec<Value>) -> Result<u64> {
        let rows = self.query(sql, values)?;
        self.drain()?;
        let answer = rows.answer.borrow();
        answer.failed(rows.place).map_or(Ok(answer.steps[rows.place].changed), Err)
    }

    /// Runs a text of many statements.
    pub(crate) fn script(&mut self, text: &str) -> Result<()> {
        self.drain()?;
        let begin = match self.state {
            State::Begin(begin) => vec![step(begin, vec![], None)],
            State::Lost | State::Whole => return Err(self.lost()),
            State::Idle | State::Open => vec![],
        };
        let mut requests = vec![Request::Sequence { sql: text }];
        if !begin.is_empty() {
            requests.insert(0, Request::Batch { batch: Batch { steps: &begin } });
        }
        let answer = self.server.pipeline(self.baton.take().as_deref(), &requests);
        let answer = answer.inspect_err(|_| self.state = State::Lost)?;
        if self.state != State::Idle {
            self.state = State::Open;
        }
        self.baton = answer.baton;
        for result in &answer.results {
            match result {
                StreamResult::Error { error } => return Err(from_failure(self.server.address(), error)),
                StreamResult::Ok { response: super::protocol::Response::Batch { result } } => {
                    self.first_error(result)?
                }
                StreamResult::Ok { .. } => {}
            }
        }
        Ok(())
    }

    /// Runs a program within the transaction. If that has not begun, the program is all of it, and one request.
    pub(crate) fn run(&mut self, program: &Program) -> Result<()> {
        self.drain()?;
        match self.state {
            State::Begin(begin) => {
                // If an answer was lost, the guard of the program finds out.
                let steps = program.alone(begin);
                let result = self.server.insist(|| self.server.batch(&steps))?;
                self.state = State::Whole;
                self.first_error(&result)
            }
            State::Open => self.run_within(&program.within()),
            State::Idle | State::Whole | State::Lost => Err(self.lost()),
        }
    }

    fn run_within(&mut self, steps: &[Step]) -> Result<()> {
        let requests = [Request::Batch { batch: Batch { steps } }];
        let answer = self.server.pipeline(self.baton.take().as_deref(), &requests);
        let mut answer = answer.inspect_err(|_| self.state = State::Lost)?;
        self.baton = answer.baton.take();
        let result = self.server.first_of(answer)?;
        self.first_error(&result)
    }

    fn first_error(&self, result: &BatchResult) -> Result<()> {
        match result.step_errors.iter().flatten().next() {
            Some(failure) => Err(from_failure(self.server.address(), failure)),
            None => Ok(()),
        }
    }

    /// Sends statements, and the beginning of the transaction if it has not begun.
    fn ask(&mut self, queries: Vec<Query>) -> Result<Rc<RefCell<Answer>>> {
        self.drain()?;
        let mut steps = Vec::with_capacity(queries.len() + 2);
        if matches!(self.state, State::Lost | State::Whole) {
            return Err(self.lost());
        }
        if self.state != State::Open && self.baton.is_some() {
            steps.push(step("ROLLBACK", vec![], None));
        }
        let mut begun = None;
        if let State::Begin(begin) = self.state {
            begun = Some(steps.len());
            steps.push(step(begin, vec![], None));
        }
        let prefix = steps.len();
        let condition = begun.map(|step| Condition::Ok { step });
        steps.extend(queries.iter().map(|(sql, values)| step(sql.1, values.clone(), condition.clone())));
        let server = Arc::clone(&self.server);
        let sent = match self.state {
            State::Open => self.send(&steps),
            // Nothing has been read or written in it.
            _ => server.insist(|| self.send(&steps)),
        };
        if self.state != State::Idle {
            self.state = if sent.is_ok() { State::Open } else { State::Lost };
        }
        let answer = Rc::new(RefCell::new(Answer::new(&self.server, sent?, prefix, begun, queries)));
        self.answers.push(Rc::clone(&answer));
        Ok(answer)
    }

    fn send(&mut self, steps: &[Step]) -> Result<BufReader<BodyReader<'static>>> {
        // A stream that fails is not used again; nor is its baton, which changes with each request.
        let baton = self.baton.take();
        let body = self.server.cursor(&Cursor { baton: baton.as_deref(), batch: Batch { steps } })?;
        let mut lines = BufReader::new(body);
        let mut line = Vec::new();
        lines.read_until(b'\n', &mut line).map_err(|error| unreadable(self.server.address(), error))?;
        let answer: CursorAnswer = self.server.decode(&line)?;
        self.baton = answer.baton;
        Ok(lines)
    }

    /// Reads the rest of the answer, so that the next request may be sent.
    fn drain(&mut self) -> Result<()> {
        let Some(last) = self.answers.last() else { return Ok(()) };
        let done = last.borrow_mut().drain();
        if done.is_err() {
            (self.baton, self.state) = (None, State::Lost);
        }
        self.answers.retain(|answer| answer.borrow().has_more());
        done
    }

    /// Lets go of the answers; with the stream, if there is much more on it.
    fn release(&mut self) {
        if let Some(last) = self.answers.pop()
            && last.borrow_mut().drain_a_little().is_err()
        {
            self.baton = None;
        }
        self.answers.clear();
    }

    fn lost(&self) -> Error {
        let message = format!("{}: the transaction was lost", self.server.address().display());
        Error::new(ErrorKind::Unavailable, message).with_temporary(true)
    }
}

pub(crate) fn step(sql: &'static str, values: Vec<Value>, condition: Option<Condition>) -> Step {
    let args = values.into_iter().map(Argument).collect();
    Step { stmt: Statement { sql, args, want_rows: true }, condition }
}

/// The answer to one request: rows of its steps, as far as they have come.
struct Answer {
    server: Arc<Server>,
    /// What is not read yet.
    lines: Option<BufReader<BodyReader<'static>>>,
    /// Steps before the first query, and which of them begins the transaction.
    prefix: usize,
    begun: Option<usize>,
    queries: Vec<Query>,
    steps: Vec<Came>,
    claimed: Vec<bool>,
    current: usize,
}

/// What came of a step.
#[derive(Default)]
struct Came {
    columns: Rc<[Column]>,
    rows: VecDeque<Vec<Value>>,
    changed: u64,
    ended: bool,
    failed: Option<super::protocol::Failure>,
}

impl Answer {
    fn new(
        server: &Arc<Server>,
        lines: BufReader<BodyReader<'static>>,
        prefix: usize,
        begun: Option<usize>,
        queries: Vec<Query>,
    ) -> Self {
        let count = prefix + queries.len();
        let steps = (0..count).map(|_| Came::default()).collect();
        let (server, lines) = (Arc::clone(server), Some(lines));
        Self { server, lines, prefix, begun, queries, steps, claimed: vec![false; count], current: 0 }
    }

    /// The answer to a batch that came as a whole. Its first step begins the transaction.
    fn complete(server: &Arc<Server>, queries: Vec<Query>, result: &mut BatchResult) -> Self {
        let (prefix, count) = (1, queries.len() + 1);
        let mut steps: Vec<Came> = (0..count).map(|_| Came { ended: true, ..Came::default() }).collect();
        for (came, error) in steps.iter_mut().zip(&mut result.step_errors) {
            came.failed = error.take();
        }
        for (came, step) in steps.iter_mut().zip(&mut result.step_results) {
            if let Some(step) = step.take() {
                came.columns = step.cols.into();
                came.rows = step.rows.into_iter().map(values).collect();
                came.changed = step.affected_row_count;
            }
        }
        let server = Arc::clone(server);
        Self { server, lines: None, prefix, begun: Some(0), queries, steps, claimed: vec![false; count], current: 0 }
    }

    /// The step that answers this query and has answered no other.
    fn claim(&mut self, sql: Sql, values: &[Value]) -> Option<usize> {
        let same = |(place, query): &(usize, &Query)| {
            !self.claimed[self.prefix + place] && query.0.1 == sql.1 && query.1 == values
        };
        let (place, _) = self.queries.iter().enumerate().find(same)?;
        self.claimed[self.prefix + place] = true;
        Some(self.prefix + place)
    }

    /// Why a step failed, if it did.
    fn failed(&self, place: usize) -> Option<Error> {
        let failure = self.steps[place].failed.as_ref().or_else(|| self.not_begun())?;
        Some(from_failure(self.server.address(), failure))
    }

    /// Why the transaction could not begin, so that nothing was run, if that is so.
    fn not_begun(&self) -> Option<&super::protocol::Failure> {
        self.begun.and_then(|begun| self.steps[begun].failed.as_ref())
    }

    /// Whether there is something in it that was not asked for yet.
    fn has_more(&self) -> bool {
        self.claimed[self.prefix..].contains(&false)
    }

    /// Reads a line; `false` at the end.
    fn read(&mut self) -> Result<bool> {
        let Some(lines) = &mut self.lines else { return Ok(false) };
        let mut line = Vec::new();
        let read = lines.read_until(b'\n', &mut line).map_err(|error| unreadable(self.server.address(), error))?;
        if read == 0 {
            self.lines = None;
            let whole = self.not_begun().is_some() || self.steps.iter().all(|step| step.ended || step.failed.is_some());
            return if whole { Ok(false) } else { Err(unreadable(self.server.address(), "it ends too early")) };
        }
        let entry = self.server.decode(&line)?;
        self.take(entry).map(|()| true)
    }

    fn take(&mut self, entry: Entry) -> Result<()> {
        let place = match &entry {
            Entry::StepBegin { step, .. } | Entry::StepError { step, .. } => *step,
            _ => self.current,
        };
        let Some(came) = self.steps.get_mut(place) else {
            return Err(unreadable(self.server.address(), "it answers what was not asked"));
        };
        self.current = place;
        match entry {
            Entry::StepBegin { cols, .. } => came.columns = cols.into(),
            Entry::Row { row } => came.rows.push_back(values(row)),
            Entry::StepEnd { affected_row_count } => (came.changed, came.ended) = (affected_row_count, true),
            Entry::StepError { error, .. } => came.failed = Some(error),
            Entry::Error { error } => return Err(unreadable(self.server.address(), error)),
            Entry::Other => {}
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<()> {
        while self.read()? {}
        Ok(())
    }

    /// The same, unless there is much.
    fn drain_a_little(&mut self) -> Result<()> {
        for _ in 0..64 {
            if !self.read()? {
                return Ok(());
            }
        }
        Err(unreadable(self.server.address(), "nobody wants the rest"))
    }
}

fn values(row: Vec<super::protocol::Answered>) -> Vec<Value> {
    row.into_iter().map(|value| value.0).collect()
}

/// The rows of a query.
pub(crate) struct Rows {
    answer: Rc<RefCell<Answer>>,
    place: usize,
}

impl Rows {
    pub(crate) fn next(&mut self) -> Result<Option<Row>> {
        let mut answer = self.answer.borrow_mut();
        loop {
            let step = &mut answer.steps[self.place];
            if let Some(values) = step.rows.pop_front() {
                return Ok(Some(Row { columns: Rc::clone(&step.columns), values }));
            }
            if let Some(error) = answer.failed(self.place) {
                return Err(error);
            }
            if answer.steps[self.place].ended || !answer.read()? {
                return Ok(None);
            }
        }
    }
}

/// A row.
pub(crate) struct Row {
    columns: Rc<[Column]>,
    values: Vec<Value>,
}

impl Row {
    pub(crate) fn value(&self, index: i32) -> Option<&Value> {
        usize::try_from(index).ok().and_then(|index| self.values.get(index))
    }

    pub(crate) fn column_name(&self, index: i32) -> Option<&str> {
        usize::try_from(index).ok().and_then(|index| self.columns.get(index)).and_then(|column| column.name.as_deref())
    }
}

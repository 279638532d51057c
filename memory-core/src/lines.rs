//! Lines of bounded length from and to streams of bytes.
//!
//! The streams are tokio's: reading a pipe or an upload in the way of [`std::io`] would hold up the thread on which leases are
//! renewed. Files are read through `tokio::fs`, and `&[u8]` and `Vec<u8>` are streams as they are.

use std::future::poll_fn;
use std::pin::Pin;

use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{Error, ErrorKind, Result};

/// Bytes that are read or written at once.
const CHUNK: usize = 64 * 1_024;

/// One line as it was read.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    /// Its number, from 1.
    pub(crate) number: u64,
    /// Its bytes, without the end of the line.
    pub(crate) bytes: &'a [u8],
    /// Whether its end was there.
    pub(crate) is_whole: bool,
}

/// Reads lines that end with `\n`, one at a time.
#[derive(Debug)]
pub(crate) struct LineReader<R> {
    reader: R,
    /// What was read; up to `taken` it has been given as lines.
    buffer: Vec<u8>,
    taken: usize,
    number: u64,
    at_end: bool,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, buffer: Vec::new(), taken: 0, number: 0, at_end: false }
    }

    /// The next line; `None` at the end. A line of more than `most` bytes is refused as soon as that many were read.
    pub(crate) async fn next(&mut self, most: usize) -> Result<Option<Line<'_>>> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let mut searched = 0;
        let end = loop {
            let newline = self.buffer[searched..].iter().position(|byte| *byte == b'\n');
            let end = newline.map(|place| searched + place);
            if end.unwrap_or(self.buffer.len()) > most {
                let place = format!("line {}", self.number + 1);
                return Err(Error::invalid(&place, "longer", format_args!("up to {most} bytes")));
            }
            if end.is_some() || self.at_end {
                break end;
            }
            searched = self.buffer.len();
            self.fill().await?;
        };
        let length = end.unwrap_or(self.buffer.len());
        if end.is_none() && length == 0 {
            return Ok(None);
        }
        self.number += 1;
        self.taken = length + usize::from(end.is_some());
        Ok(Some(Line { number: self.number, bytes: &self.buffer[..length], is_whole: end.is_some() }))
    }

    async fn fill(&mut self) -> Result<()> {
        let before = self.buffer.len();
        self.buffer.resize(before + CHUNK, 0);
        let mut chunk = ReadBuf::new(&mut self.buffer[before..]);
        let result = poll_fn(|context| Pin::new(&mut self.reader).poll_read(context, &mut chunk)).await;
        let read = chunk.filled().len();
        self.buffer.truncate(before + read);
        self.at_end = read == 0;
        result.map_err(|error| failed("reading", error))
    }
}

/// Writes values as lines of JSON.
#[derive(Debug)]
pub(crate) struct LineWriter<W> {
    writer: W,
    buffer: Vec<u8>,
    /// Lines so far.
    pub(crate) lines: u64,
}

impl<W: AsyncWrite + Unpin> LineWriter<W> {
    pub(crate) fn new(writer: W) -> Self {
        Self { writer, buffer: Vec::new(), lines: 0 }
    }

    /// Writes a line of up to `most` bytes; `name` is what an error calls it.
    pub(crate) async fn write(&mut self, name: &str, value: &impl Serialize, most: usize) -> Result<()> {
        let before = self.buffer.len();
        serde_json::to_writer(&mut self.buffer, value)
            .map_err(|error| Error::new(ErrorKind::Invalid, format!("{name} has no JSON form")).with_source(error))?;
        let length = self.buffer.len() - before;
        if length > most {
            return Err(Error::invalid(
                name,
                format_args!("{length} bytes as a line"),
                format_args!("up to {most} bytes"),
            ));
        }
        self.buffer.push(b'\n');
        self.lines += 1;
        if self.buffer.len() >= CHUNK { self.empty().await } else { Ok(()) }
    }

    /// Writes what is left.
    pub(crate) async fn finish(mut self) -> Result<u64> {
        self.empty().await?;
        let flushed = poll_fn(|context| Pin::new(&mut self.writer).poll_flush(context)).await;
        flushed.map(|()| self.lines).map_err(|error| failed("writing", error))
    }

    async fn empty(&mut self) -> Result<()> {
        let Self { writer, buffer, .. } = self;
        let mut rest = &buffer[..];
        while !rest.is_empty() {
            match poll_fn(|context| Pin::new(&mut *writer).poll_write(context, rest)).await {
                Ok(0) => return Err(failed("writing", std::io::ErrorKind::WriteZero.into())),
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) => return Err(failed("writing", error)),
            }
        }
        buffer.clear();
        Ok(())
    }
}

fn failed(what: &str, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("{what} failed: {error}")).with_source(error)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::task::{Context, Poll};

    use super::*;

    /// Gives and takes at most so many bytes at once, and fails after so many in all.
    #[derive(Debug)]
    struct Slow {
        bytes: Vec<u8>,
        place: usize,
        at_once: usize,
        fails_at: usize,
    }

    impl Slow {
        fn new(bytes: &[u8], at_once: usize) -> Self {
            Self { bytes: bytes.to_vec(), place: 0, at_once, fails_at: usize::MAX }
        }
    }

    impl AsyncRead for Slow {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            if self.place >= self.fails_at {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            let end = self.bytes.len().min(self.place + self.at_once.min(buffer.remaining()));
            buffer.put_slice(&self.bytes[self.place..end]);
            self.place = end;
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Slow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            if self.bytes.len() >= self.fails_at {
                return Poll::Ready(if self.place == 0 { Ok(0) } else { Err(io::ErrorKind::BrokenPipe.into()) });
            }
            let taken = bytes.len().min(self.at_once);
            self.bytes.extend_from_slice(&bytes[..taken]);
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// The lines, each with whether it had an end, and the error that ended them.
    async fn lines(bytes: &[u8], at_once: usize, most: usize) -> (Vec<(String, bool)>, Option<String>) {
        let mut reader = LineReader::new(Slow::new(bytes, at_once));
        let mut lines = Vec::new();
        loop {
            match reader.next(most).await {
                Ok(Some(line)) => {
                    assert_eq!(line.number, lines.len() as u64 + 1);
                    lines.push((String::from_utf8_lossy(line.bytes).into_owned(), line.is_whole));
                }
                Ok(None) => return (lines, None),
                Err(error) => return (lines, Some(error.to_string())),
            }
        }
    }

    #[tokio::test]
    async fn lines_come_whole_however_the_bytes_come() {
        let text = "one\n\ntwo three\r\nfour";
        let expected = [("one", true), ("", true), ("two three\r", true), ("four", false)];
        let expected: Vec<_> = expected.into_iter().map(|(text, whole)| (text.to_owned(), whole)).collect();
        for at_once in [1, 2, 3, 7, 100_000] {
            assert_eq!(lines(text.as_bytes(), at_once, 100).await, (expected.clone(), None));
        }
        assert_eq!(lines(b"", 7, 100).await, (vec![], None));
        assert_eq!(lines(b"\n", 7, 100).await.0.len(), 1);
        let long = format!("{}\nx\n", "y".repeat(3 * CHUNK));
        assert_eq!(lines(long.as_bytes(), usize::MAX, 3 * CHUNK).await.0.len(), 2);
    }

    #[tokio::test]
    async fn a_long_line_is_refused_before_it_is_read() {
        let refused = Some("invalid value: line 2 is longer; allowed: up to 10 bytes".to_owned());
        assert_eq!(lines(b"0123456789\n01234567890\nx\n", 3, 10).await.1, refused);
        assert_eq!(lines(b"0123456789\n01234567890", 100, 10).await.1, refused);
        let endless = vec![b'x'; 100 * CHUNK];
        let mut reader = LineReader::new(Slow::new(&endless, usize::MAX));
        assert_eq!(reader.next(10).await.unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(reader.reader.place, CHUNK);
    }

    #[tokio::test]
    async fn failures_of_a_stream_are_told() {
        let mut reader = LineReader::new(Slow { fails_at: 4, ..Slow::new(b"one\ntwo\n", 4) });
        assert!(reader.next(10).await.unwrap().is_some());
        let error = reader.next(10).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (ErrorKind::Io, "input/output error: reading failed: connection reset".to_owned())
        );
        for (place, told) in [(0, "write zero"), (1, "broken pipe")] {
            let mut writer = LineWriter::new(Slow { fails_at: 2, place, ..Slow::new(b"", 1) });
            writer.write("it", &"text", 100).await.unwrap();
            let error = writer.finish().await.unwrap_err();
            assert!(error.to_string().contains(told), "{error}");
        }
    }

    #[tokio::test]
    async fn values_are_written_as_lines() {
        let mut bytes = Vec::new();
        let mut writer = LineWriter::new(&mut bytes);
        writer.write("it", &"a\nb", 6).await.unwrap();
        let error = writer.write("it", &"12345", 6).await.unwrap_err();
        assert_eq!(error.to_string(), "invalid value: it is 7 bytes as a line; allowed: up to 6 bytes");
        let mut writer = LineWriter::new(Slow::new(b"", 5));
        for n in 0..20_000 {
            writer.write("it", &n, 6).await.unwrap();
            assert!(writer.buffer.len() < CHUNK);
        }
        assert_eq!(writer.finish().await.unwrap(), 20_000);
    }
}

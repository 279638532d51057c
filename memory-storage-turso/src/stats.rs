//! What an open store has done.

/// Counts since the store was opened, by this process alone.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TursoStats {
    /// Batches that were written.
    pub commits: u64,
    /// Groups in which they were written: those that waited at the same time share one, and its transaction and sync unless it
    /// fails.
    pub transactions: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// Requests that were refused as [`Overloaded`](memory_core::ErrorKind::Overloaded).
    pub refused: u64,
    /// Steps in which the tables that are searched followed the log.
    pub index_steps: u64,
    /// Steps in which blocks of patterns took in changes.
    pub merges: u64,
    /// Failures of these two that are tried again.
    pub upkeep_failures: u64,
    /// Writes that wait now.
    pub writes_waiting: u64,
    /// Reads that wait or are under way now.
    pub reads_waiting: u64,
    /// Requests that were sent to the server; 0 for a file.
    pub requests: u64,
    /// Connections that were opened: one that writes, one for the upkeep, and as many as read.
    pub connections: u64,
}

//! A server in this process, over a store that waits and fails by a script.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use memory_core::testkit::{FaultyStore, Operation};
use memory_core::{InMemoryStore, Memory, Source};
use memory_mcp::http::{HttpConfig, HttpServer};
use memory_mcp::service::{Caller, Right, Service};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::server::{Answer, PATIENCE, read};

pub(crate) struct Inside {
    pub(crate) runtime: Runtime,
    pub(crate) store: Arc<FaultyStore<InMemoryStore>>,
    pub(crate) service: Arc<Service>,
    pub(crate) address: SocketAddr,
    end: oneshot::Sender<()>,
    served: JoinHandle<memory_core::Result<()>>,
}

impl Inside {
    pub(crate) fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let store = Arc::new(FaultyStore::new(InMemoryStore::new()));
        let (service, server) = runtime.block_on(async {
            let memory = Memory::builder().store(Arc::clone(&store)).build().await.unwrap();
            let scope = memory.scope().clone();
            let service = Service::new(memory, None, None, Vec::new());
            let owner = Caller::new(Arc::clone(&service), scope, Source::default(), Right::Admin).unwrap();
            let mut config = HttpConfig::default();
            config.bind = ([127, 0, 0, 1], 0).into();
            (Arc::clone(&service), HttpServer::bind(service, owner, config).await.unwrap())
        });
        let (address, (end, told)) = (server.address().unwrap(), oneshot::channel::<()>());
        let served = runtime.spawn(server.serve(async { drop(told.await) }));
        Self { runtime, store, service, address, end, served }
    }

    /// How often the store was asked for this.
    pub(crate) fn asked(&self, operation: Operation) -> u64 {
        self.store.calls(operation)
    }

    /// Sends a request with these headers, one a line, and waits for nothing.
    pub(crate) fn send(&self, line: &str, headers: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let headers = headers.lines().map(|header| format!("{header}\r\n")).collect::<String>();
        let (host, length) = (self.address, body.len());
        let head = format!("{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}Content-Length: {length}");
        write!(stream, "{head}\r\n\r\n{body}").unwrap();
        stream
    }

    pub(crate) fn request(&self, line: &str, headers: &str, body: &str) -> Answer {
        read(self.send(line, headers, body)).unwrap()
    }

    /// Tells it to end; gives what ends with it.
    pub(crate) fn end(self) -> (Runtime, JoinHandle<memory_core::Result<()>>) {
        drop(self.end);
        (self.runtime, self.served)
    }
}

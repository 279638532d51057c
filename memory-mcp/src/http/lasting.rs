//! Bodies of responses that last.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio_util::task::task_tracker::TaskTrackerToken;

type Ended = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A body that ends no later than something else, and is under way until it has ended.
pub(super) struct Lasting {
    body: Body,
    ended: Ended,
    _under_way: Option<TaskTrackerToken>,
}

impl Lasting {
    pub(super) fn body(
        body: Body,
        ended: impl Future<Output = ()> + Send + 'static,
        under_way: Option<TaskTrackerToken>,
    ) -> Body {
        Body::new(Self { body, ended: Box::pin(ended), _under_way: under_way })
    }
}

impl HttpBody for Lasting {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.ended.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

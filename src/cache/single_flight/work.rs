//! The work of a call, in memory that is used again.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio_util::sync::ReusableBoxFuture;

type Block = ReusableBoxFuture<'static, ()>;

/// How many blocks a thread keeps.
const IDLE: usize = 256;

thread_local! {
    /// Blocks of calls that are over. A call takes kilobytes for a moment, in which it allocates what the
    /// local level then keeps for long: if they were freed each time, the blocks would be scattered in pieces
    /// between the entries.
    static BLOCKS: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
}

/// A call's work, in a block that is used again after it.
pub(crate) struct Work(Option<Block>);

impl Work {
    pub(crate) fn new(work: impl Future<Output = ()> + Send + 'static) -> Self {
        let work = Fuse { work: Some(work) };
        let idle = BLOCKS.try_with(|blocks| blocks.borrow_mut().pop());
        let block = match idle {
            Ok(Some(mut block)) => {
                block.set(work);
                block
            }
            _ => Block::new(work),
        };
        Self(Some(block))
    }
}

pin_project! {
    /// Drops the work when it is done, whatever the work still holds, so that a span is closed then, and not
    /// when its block is used again.
    struct Fuse<F> {
        #[pin]
        work: Option<F>,
    }
}

impl<F: Future<Output = ()>> Future for Fuse<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut work = self.project().work;
        if let Some(work) = work.as_mut().as_pin_mut() {
            ready!(work.poll(context));
        }
        work.set(None);
        Poll::Ready(())
    }
}

impl Future for Work {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(block) = &mut self.0 else {
            return Poll::Ready(());
        };
        let polled = block.poll(context);
        if polled.is_ready()
            && let Some(block) = self.0.take()
        {
            // A thread that ends keeps none.
            let _ = BLOCKS.try_with(|blocks| {
                let mut blocks = blocks.borrow_mut();
                if blocks.len() < IDLE {
                    blocks.push(block);
                }
            });
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Waker;

    use super::*;

    /// Over at once, and keeps what it has.
    struct Keeps(#[expect(dead_code, reason = "it is held")] Arc<()>);

    impl Future for Keeps {
        type Output = ();

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            Poll::Ready(())
        }
    }

    #[tokio::test]
    async fn a_block_that_is_to_be_used_again_holds_nothing_of_its_last_call() {
        let held = Arc::new(());
        let work = Work::new(Keeps(Arc::clone(&held)));
        work.await;
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[test]
    fn a_thread_keeps_so_many_blocks_and_no_more() {
        let mut all: Vec<_> = (0..IDLE + 10).map(|_| Work::new(async {})).collect();
        let mut context = Context::from_waker(Waker::noop());
        for work in &mut all {
            assert!(Pin::new(work).poll(&mut context).is_ready());
        }
        BLOCKS.with(|blocks| assert_eq!(blocks.borrow().len(), IDLE));
    }
}

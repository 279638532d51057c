//! What all decorators around one store or embedder have in common: how calls are passed on, written once.

/// A call that passes a decorator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Commit,
    Get,
    Scan,
    Search,
    Changes,
    Embed,
    Health,
    Close,
}

impl Operation {
    /// Its name, as in the traits.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Get => "get",
            Self::Scan => "scan",
            Self::Search => "search",
            Self::Changes => "changes",
            Self::Embed => "embed",
            Self::Health => "health",
            Self::Close => "close",
        }
    }
}

/// Makes a struct with a field `inner` and a method `run(operation, call)` a decorator of both traits. `run` may make the call
/// once, several times, or not at all.
macro_rules! decorate {
    ($decorator:ident) => {
        impl<S> $decorator<S> {
            /// What is inside.
            pub const fn get_ref(&self) -> &S {
                &self.inner
            }

            /// Takes out what is inside.
            pub fn into_inner(self) -> S {
                self.inner
            }
        }

        impl<S: ::std::fmt::Display> ::std::fmt::Display for $decorator<S> {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                write!(f, concat!(stringify!($decorator), "({})"), self.inner)
            }
        }

        #[deny(clippy::missing_trait_methods)]
        #[::async_trait::async_trait]
        impl<S: ::memory_core::MemoryStore> ::memory_core::MemoryStore for $decorator<S> {
            fn info(&self) -> ::memory_core::StoreInfo {
                self.inner.info()
            }

            async fn commit(&self, batch: &::memory_core::Batch) -> ::memory_core::Result<::memory_core::Commit> {
                self.run($crate::decorate::Operation::Commit, || self.inner.commit(batch)).await
            }

            async fn get(
                &self,
                keys: &[::memory_core::Key],
            ) -> ::memory_core::Result<Vec<Option<::memory_core::Stored>>> {
                self.run($crate::decorate::Operation::Get, || self.inner.get(keys)).await
            }

            async fn scan(&self, scan: &::memory_core::Scan) -> ::memory_core::Result<::memory_core::Page> {
                self.run($crate::decorate::Operation::Scan, || self.inner.scan(scan)).await
            }

            async fn search(&self, search: &::memory_core::Search) -> ::memory_core::Result<Vec<::memory_core::Hit>> {
                self.run($crate::decorate::Operation::Search, || self.inner.search(search)).await
            }

            async fn changes(
                &self,
                since: ::memory_core::Version,
                limit: usize,
            ) -> ::memory_core::Result<::memory_core::Changes> {
                self.run($crate::decorate::Operation::Changes, || self.inner.changes(since, limit)).await
            }

            async fn health(&self) -> ::memory_core::Result<::memory_core::StoreHealth> {
                self.run($crate::decorate::Operation::Health, || self.inner.health()).await
            }

            async fn close(&self) -> ::memory_core::Result<()> {
                self.run($crate::decorate::Operation::Close, || self.inner.close()).await
            }
        }

        #[deny(clippy::missing_trait_methods)]
        #[::async_trait::async_trait]
        impl<E: ::memory_core::Embedder> ::memory_core::Embedder for $decorator<E> {
            fn space(&self) -> &::memory_core::VectorSpace {
                self.inner.space()
            }

            async fn embed(
                &self,
                role: ::memory_core::Role,
                texts: &[&str],
            ) -> ::memory_core::Result<Vec<::memory_core::Vector>> {
                self.run($crate::decorate::Operation::Embed, || self.inner.embed(role, texts)).await
            }

            async fn health(&self) -> ::memory_core::Result<()> {
                self.run($crate::decorate::Operation::Health, || self.inner.health()).await
            }
        }
    };
}
pub(crate) use decorate;

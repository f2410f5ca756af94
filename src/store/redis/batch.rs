//! Commands that are sent together.

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisResult, Value};

use super::fault::{Fault, Replied};

pub(super) type Replies = Vec<Replied>;

/// Commands for one round trip. On one server they are one write, and run in their order. Where keys may
/// be apart, there is one write to each node that their keys lie on, at once, and one for each stage.
#[derive(Default)]
pub(super) struct Batch {
    commands: Vec<Cmd>,
    /// Where a stage begins, apart from the first.
    stages: Vec<usize>,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Adds a command, whose arguments follow.
    pub(super) fn cmd(&mut self, name: &str) -> &mut Cmd {
        self.commands.push(redis::cmd(name));
        self.commands.last_mut().expect("one was pushed")
    }

    /// Begins a stage: where keys may be apart, what follows is sent after the replies to what is before,
    /// and not at all if one of these is an error.
    pub(super) fn then(&mut self) {
        // None is empty.
        if self.len() > self.stages.last().copied().unwrap_or(0) {
            self.stages.push(self.len());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.commands.len()
    }

    pub(super) fn has_stages(&self) -> bool {
        !self.stages.is_empty()
    }

    /// The stages, each a batch.
    pub(super) fn stages(&self) -> impl Iterator<Item = Self> {
        let begins = std::iter::once(0).chain(self.stages.iter().copied());
        let ends = self.stages.iter().copied().chain([self.len()]);
        begins
            .zip(ends)
            .map(|(begin, end)| Self::of(self.commands[begin..end].to_vec()))
    }

    /// Whether nothing of the batch is to be sent any more, after these replies to its first stages. What
    /// was to follow an error has that error for a reply.
    pub(super) fn is_over(&self, replies: &mut Replies) -> bool {
        let fault = replies.iter().find_map(|reply| reply.clone().err());
        if let Some(fault) = fault {
            replies.resize(self.len(), Err(fault));
        }
        replies.len() >= self.len()
    }

    fn of(commands: Vec<Cmd>) -> Self {
        Self {
            commands,
            stages: Vec::new(),
        }
    }

    /// Sends each command once, in one write.
    pub(super) async fn send(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<Replies> {
        if let [command] = &self.commands[..] {
            let reply = Box::pin(connection.send_packed_command(command)).await?;
            return Ok(vec![reply.extract_error().map_err(Fault::Refused)]);
        }
        let mut pipeline = Pipeline::with_capacity(self.commands.len());
        pipeline.ignore_errors();
        for command in &self.commands {
            pipeline.add_command(command.clone());
        }
        let replies: Vec<RedisResult<Value>> = pipeline.query_async(connection).await?;
        let told = |reply: RedisResult<Value>| reply.map_err(Fault::Refused);
        Ok(replies.into_iter().map(told).collect())
    }
}

#[cfg(feature = "redis-cluster")]
mod parts {
    use redis::Arg;

    use super::*;

    /// The commands of a batch that go to one place, and where among the batch's they stand.
    pub(in super::super) struct Part<P> {
        pub(in super::super) place: P,
        pub(in super::super) positions: Vec<usize>,
        pub(in super::super) batch: Batch,
    }

    impl Batch {
        /// One of the commands, to be executed where its slot is being moved to.
        pub(in super::super) fn asking(&self, position: usize) -> Self {
            let mut batch = Self::new();
            batch.cmd("ASKING");
            batch.commands.push(self.commands[position].clone());
            batch
        }

        /// One of the commands.
        pub(in super::super) fn only(&self, position: usize) -> Self {
            Self::of(vec![self.commands[position].clone()])
        }

        /// The place of every command's key, if it is one.
        pub(in super::super) fn place<P: PartialEq>(
            &self,
            place: impl Fn(&[u8]) -> P,
        ) -> Option<P> {
            let mut places = self.commands.iter().map(|command| place(key(command)));
            let first = places.next()?;
            places.all(|next| next == first).then_some(first)
        }

        /// Divided by the place of each command's key.
        pub(in super::super) fn parts<P: PartialEq>(
            &self,
            place: impl Fn(&[u8]) -> P,
        ) -> Vec<Part<P>> {
            let mut parts: Vec<Part<P>> = Vec::new();
            for (position, command) in self.commands.iter().enumerate() {
                let place = place(key(command));
                let part = match parts.iter().position(|part| part.place == place) {
                    Some(known) => &mut parts[known],
                    None => {
                        parts.push(Part {
                            place,
                            positions: Vec::new(),
                            batch: Self::new(),
                        });
                        parts.last_mut().expect("one was pushed")
                    }
                };
                part.positions.push(position);
                part.batch.commands.push(command.clone());
            }
            parts
        }
    }

    /// The key of a command of ours: there is one, after the script and the number of keys if it is
    /// one.
    fn key(command: &Cmd) -> &[u8] {
        let mut arguments = command.args_iter().filter_map(|argument| match argument {
            Arg::Simple(argument) => Some(argument),
            _ => None,
        });
        let before = match arguments.next() {
            Some(b"EVAL") => 2,
            _ => 0,
        };
        arguments.nth(before).unwrap_or_default()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn commands_for_one_place_stay_together_and_in_their_order() {
            let mut batch = Batch::new();
            batch.cmd("GET").arg("a1");
            batch.cmd("EVAL").arg("return 0").arg(1).arg("b1").arg("a");
            batch.cmd("SET").arg("a2").arg("b");
            let parts = batch.parts(|key| key[0]);
            let told: Vec<_> = parts
                .iter()
                .map(|part| (part.place, &part.positions[..], part.batch.len()))
                .collect();
            assert_eq!(told, [(b'a', &[0, 2][..], 2), (b'b', &[1][..], 1)]);
            assert_eq!(batch.place(|key| key[0]), None);
            assert_eq!(batch.place(|key| key.len()), Some(2));
        }
    }
}

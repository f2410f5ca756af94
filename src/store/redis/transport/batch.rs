//! Commands that are sent together.

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisResult, Value};

use super::reply::{Reply, ReplyError};

pub(crate) type Replies = Vec<Reply>;

/// Commands for one round trip. On one server they are one write, and run in their order. On a cluster,
/// each stage is one write to each node that holds some of its keys, to all nodes at once.
#[derive(Default)]
pub(crate) struct Batch {
    commands: Pipeline,
    /// The positions at which the stages after the first begin.
    stages: Vec<usize>,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a command, whose arguments follow.
    pub(crate) fn cmd(&mut self, name: &str) -> &mut Pipeline {
        // Room for a script, its key and a record, instead of growing by each argument.
        self.cmd_with_capacity(name, 8, 512)
    }

    /// Adds a command, for which `args` arguments of `bytes` bytes in all follow.
    pub(crate) fn cmd_with_capacity(
        &mut self,
        name: &str,
        args: usize,
        bytes: usize,
    ) -> &mut Pipeline {
        let mut command = Cmd::with_capacity(1 + args, name.len() + bytes);
        command.arg(name);
        self.commands.add_command(command)
    }

    /// Begins a stage: on a cluster, the commands that follow are sent after the replies to those before,
    /// and not at all if one of these is an error.
    pub(crate) fn begin_stage(&mut self) {
        // No stage is empty.
        if self.len() > self.stages.last().copied().unwrap_or(0) {
            self.stages.push(self.len());
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.commands.len()
    }

    pub(crate) fn has_stages(&self) -> bool {
        !self.stages.is_empty()
    }

    /// Returns the stages, each as a batch.
    pub(crate) fn stages(&self) -> impl Iterator<Item = Self> {
        let begins = std::iter::once(0).chain(self.stages.iter().copied());
        let ends = self.stages.iter().copied().chain([self.len()]);
        begins
            .zip(ends)
            .map(|(begin, end)| Self::of(self.iter().skip(begin).take(end - begin)))
    }

    /// Returns whether these replies to the first stages are all: the commands after an error are not sent,
    /// and get that error for a reply.
    pub(crate) fn is_done(&self, replies: &mut Replies) -> bool {
        let error = replies.iter().find_map(|reply| reply.clone().err());
        if let Some(error) = error {
            replies.resize(self.len(), Err(error));
        }
        replies.len() >= self.len()
    }

    fn iter(&self) -> impl Iterator<Item = &Cmd> {
        self.commands.cmd_iter()
    }

    fn of<'a>(commands: impl IntoIterator<Item = &'a Cmd>) -> Self {
        let mut batch = Self::new();
        for command in commands {
            batch.commands.add_command(command.clone());
        }
        batch
    }

    /// Sends each command once, in one write.
    pub(crate) async fn send(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<Replies> {
        let mut all = self.iter();
        if let (Some(command), None) = (all.next(), all.next()) {
            let reply = Box::pin(connection.send_packed_command(command)).await?;
            return Ok(vec![reply.extract_error().map_err(ReplyError::Server)]);
        }
        let replies = connection.send_packed_commands(&self.commands, 0, self.len());
        let replies = Box::pin(replies).await?.into_iter();
        let reply = |reply: Value| reply.extract_error().map_err(ReplyError::Server);
        Ok(replies.map(reply).collect())
    }
}

#[cfg(feature = "redis-cluster")]
mod parts {
    use redis::Arg;

    use super::*;

    /// The commands of a batch that go to one place, with their positions in the batch.
    pub(crate) struct Part<P> {
        pub(crate) place: P,
        pub(crate) positions: Vec<usize>,
        pub(crate) batch: Batch,
    }

    impl Batch {
        /// Returns one of the commands, for the node that its slot is being moved to.
        pub(crate) fn asking(&self, position: usize) -> Self {
            let asking = redis::cmd("ASKING");
            Self::of(std::iter::once(&asking).chain(self.iter().nth(position)))
        }

        /// Returns one of the commands.
        pub(crate) fn only(&self, position: usize) -> Self {
            Self::of(self.iter().nth(position))
        }

        /// Returns the place of every command's key, if all have the same.
        pub(crate) fn place<P: PartialEq>(&self, place: impl Fn(&[u8]) -> P) -> Option<P> {
            let mut places = self.iter().map(|command| place(key(command)));
            let first = places.next()?;
            places.all(|next| next == first).then_some(first)
        }

        /// Divides the batch by the place of each command's key.
        pub(crate) fn parts<P: PartialEq>(&self, place: impl Fn(&[u8]) -> P) -> Vec<Part<P>> {
            let mut parts: Vec<Part<P>> = Vec::new();
            for (position, command) in self.iter().enumerate() {
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
                part.batch.commands.add_command(command.clone());
            }
            parts
        }
    }

    /// Returns the key of a command: the first argument, or for a script the one after the number of keys.
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
            let shown: Vec<_> = parts
                .iter()
                .map(|part| (part.place, &part.positions[..], part.batch.len()))
                .collect();
            assert_eq!(shown, [(b'a', &[0, 2][..], 2), (b'b', &[1][..], 1)]);
            assert_eq!(batch.place(|key| key[0]), None);
            assert_eq!(batch.place(|key| key.len()), Some(2));
            let second = batch.only(1);
            assert_eq!((second.len(), second.place(|key| key[0])), (1, Some(b'b')));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_stage_is_empty() {
        let mut batch = Batch::new();
        batch.begin_stage();
        batch.cmd("DEL").arg("a");
        batch.begin_stage();
        batch.begin_stage();
        batch.cmd("DEL").arg("b");
        batch.cmd("DEL").arg("c");
        let lengths: Vec<usize> = batch.stages().map(|stage| stage.len()).collect();
        assert_eq!(lengths, [1, 2]);
    }

    #[test]
    fn after_a_stage_with_an_error_no_other_is_sent() {
        let mut batch = Batch::new();
        batch.cmd("DEL").arg("a");
        batch.begin_stage();
        batch.cmd("DEL").arg("b");
        let done = || Ok(Value::Okay);
        let error = || std::io::Error::other("refused").into();
        let refused = || Err(ReplyError::Server(error()));
        let is_done = |mut replies: Replies| {
            let is_done = batch.is_done(&mut replies);
            (is_done, replies.iter().filter(|it| it.is_err()).count())
        };
        assert_eq!(is_done(vec![done()]), (false, 0));
        assert_eq!(is_done(vec![refused()]), (true, 2));
        assert_eq!(is_done(vec![done(), done()]), (true, 0));
    }
}

//! One line about a state, for traces.

use std::fmt::Write;

use super::state::{Link, Phase, Queue, Request, State};
use crate::tracking::config::Tracking;

pub(super) fn line(config: &Tracking, state: &State) -> String {
    let mut line = String::new();
    let _ = write(&mut line, config, state);
    line
}

fn write(line: &mut String, config: &Tracking, state: &State) -> std::fmt::Result {
    write!(line, "db v{}  K ", state.database)?;
    match state.key {
        Some(value) => write!(line, "v{value}")?,
        None => write!(line, "-")?,
    }
    for (i, instance) in state.instances[..config.instances].iter().enumerate() {
        write!(line, "  {}:", ["A", "B"][i])?;
        for link in instance
            .links
            .iter()
            .filter(|link| **link != Link::default())
        {
            write!(line, " ({:?}", link.session)?;
            if !link.open {
                write!(line, ", closed")?;
            } else if !link.tracking {
                write!(line, ", tracking off")?;
            } else if link.tracks {
                write!(line, ", tracks K")?;
            }
            queue(line, '>', &link.commands)?;
            queue(line, '<', &link.frames)?;
            write!(line, ")")?;
        }
        if let Some(age) = instance.proved[0] {
            write!(line, " proof {age}")?;
        }
        if let Some(age) = instance.proved[1] {
            write!(line, " previous proof {age}")?;
        }
        if instance.read.phase != Phase::Idle {
            write!(line, " {:?} age {}", instance.read.phase, instance.read.age)?;
        }
        if let Some(entry) = instance.entry {
            write!(
                line,
                " [K v{} age {} {:?} {:?}]",
                entry.value, entry.age, entry.watch, entry.session
            )?;
        }
    }
    match state.request {
        Request::Idle => Ok(()),
        Request::Started {
            instance, needs, ..
        }
        | Request::Found {
            instance, needs, ..
        } => write!(
            line,
            "  request at {} needs v{needs}",
            ["A", "B"][usize::from(instance)]
        ),
    }
}

fn queue<T: Copy + std::fmt::Debug>(
    line: &mut String,
    arrow: char,
    queue: &Queue<T>,
) -> std::fmt::Result {
    for item in queue.iter() {
        write!(line, " {arrow}{item:?}")?;
    }
    Ok(())
}

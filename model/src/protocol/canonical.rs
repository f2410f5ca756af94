//! Gives states that no step can tell apart one form.
//!
//! Random bits are renumbered, so that states that differ only in their numbers become one.
//! Nonces, generations and E's contents are never compared with each other. Each kind is numbered by first occurrence, in
//! a fixed order of the fields that hold it. The number of bits that no longer occur is used again, which is sound because
//! nothing can be compared with them.

use super::state::{At, Bits, Call, Key, Late, Reader, State};

const NONCE: usize = 0;
const GENERATION: usize = 1;
const E: usize = 2;

/// Calls `f` with every occurrence of random bits.
fn visit(state: &mut State, mut f: impl FnMut(usize, &mut Bits)) {
    match &mut state.key {
        Key::Empty => {}
        Key::Lease(nonce) => f(NONCE, nonce),
        Key::Value(value) => f(GENERATION, &mut value.generation),
    }
    for generation in &mut state.t {
        f(GENERATION, generation);
    }
    f(E, &mut state.e);
    for instance in &mut state.instances {
        let call = &mut instance.call;
        f(NONCE, &mut call.nonce);
        f(GENERATION, &mut call.generation);
        f(E, &mut call.e);
        if let Some((_, generation)) = &mut call.known {
            f(GENERATION, generation);
        }
        if let Some(value) = &mut call.old {
            f(GENERATION, &mut value.generation);
        }
        if let Some(entry) = &mut instance.entry {
            f(GENERATION, &mut entry.value.generation);
        }
        for cell in &mut instance.cells {
            f(GENERATION, &mut cell.generation);
        }
        if let Reader::Replied { generation, .. } = &mut instance.reader {
            f(GENERATION, generation);
        }
    }
    for late in &mut state.late {
        match late {
            Late::None => {}
            Late::Acquire(nonce) => f(NONCE, nonce),
            Late::CompareAcquire(value, nonce) => {
                f(GENERATION, &mut value.generation);
                f(NONCE, nonce);
            }
            Late::Fill(nonce, value) => {
                f(NONCE, nonce);
                f(GENERATION, &mut value.generation);
            }
            Late::CreateT(_, generation) => f(GENERATION, generation),
            Late::CreateE(e) => f(E, e),
        }
    }
}

/// Gives states that no step can tell apart one form.
pub(super) fn normalise(state: &mut State) {
    forget_useless_ages(state);
    rename(state);
    // Late commands are a set. Free slots come last.
    state.late.sort_unstable_by(|a, b| b.cmp(a));
}

/// Sets ages that no step reads to 0, so that they do not distinguish states.
fn forget_useless_ages(state: &mut State) {
    for instance in &mut state.instances {
        let Call { at, sent, keep, .. } = instance.call;
        let of_k = match at {
            At::Get | At::Acquire | At::Fill | At::Restore => sent,
            At::Replied | At::CheckT => true,
            At::Answer => keep,
            _ => false,
        };
        if !of_k {
            instance.call.age = 0;
        }
        if at == At::Answer && !keep {
            instance.call.generation = 0;
        }
        if !(sent && matches!(at, At::CheckT | At::ReadT)) {
            instance.call.t_age = 0;
        }
    }
}

/// Numbers all random bits by first occurrence.
fn rename(state: &mut State) {
    let mut names = [[0; 32]; 3];
    let mut used = [0; 3];
    visit(state, |kind, bits| {
        if *bits != 0 {
            let name = &mut names[kind][usize::from(*bits)];
            if *name == 0 {
                used[kind] += 1;
                *name = used[kind];
            }
            *bits = *name;
        }
    });
}

fn fresh(state: &mut State, wanted: usize) -> Bits {
    let mut highest = 0;
    visit(state, |kind, bits| {
        if kind == wanted {
            highest = highest.max(*bits);
        }
    });
    highest + 1
}

/// Returns a nonce that does not occur in `state`.
pub(super) fn fresh_nonce(state: &mut State) -> Bits {
    fresh(state, NONCE)
}

/// Returns a generation that does not occur in `state`.
pub(super) fn fresh_generation(state: &mut State) -> Bits {
    fresh(state, GENERATION)
}

/// Returns contents for E that do not occur in `state`.
pub(super) fn fresh_e(state: &mut State) -> Bits {
    fresh(state, E)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_that_differ_only_in_numbers_become_one() {
        let named = |lease: Bits, generation: Bits| {
            let mut state = State {
                key: Key::Lease(lease),
                ..State::default()
            };
            state.instances[0].call.nonce = lease;
            state.t[0] = generation;
            rename(&mut state);
            state
        };
        assert_eq!(named(1, 1), named(5, 3));
        let mut foreign = named(1, 1);
        foreign.instances[0].call.nonce = 2;
        rename(&mut foreign);
        assert_ne!(named(1, 1), foreign);
    }

    #[test]
    fn fresh_bits_do_not_occur_in_the_state() {
        let mut state = State {
            t: [1, 2],
            ..State::default()
        };
        state.late[0] = Late::CreateT(0, 3);
        assert_eq!(fresh_generation(&mut state), 4);
        assert_eq!(fresh_nonce(&mut state), 1);
    }
}

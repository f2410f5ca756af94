//! One line about a state, for traces.

use std::fmt::Write;

use super::state::{At, Key, Late, Record, Stage, State, Versions};
use crate::config::{Config, Requests};

pub(super) fn line(config: &Config, state: &State) -> String {
    let mut line = String::new();
    let _ = write(&mut line, config, state);
    line
}

fn write(line: &mut String, config: &Config, state: &State) -> std::fmt::Result {
    let tenants = config.has_tenants();
    write!(line, "db {}", versions(tenants, state.database))?;
    match state.key {
        Key::Empty => write!(line, "  K -")?,
        Key::Lease(nonce) => write!(line, "  K L{nonce}")?,
        Key::Value(value) => write!(
            line,
            "  K {}",
            self::value(tenants, value.record, value.generation)
        )?,
    }
    if tenants {
        let name = if config.all { 'A' } else { 'T' };
        write!(line, "  {name} {}", bits('g', state.t[0]))?;
        if config.tenant_of.contains(&Some(1)) {
            write!(line, ",{}", bits('g', state.t[1]))?;
        }
    }
    if config.e {
        write!(line, "  E {}", bits('e', state.e))?;
    }
    if state.noted {
        write!(line, "  noted")?;
    }
    if config.longer.is_some() {
        write!(
            line,
            "  registry {}",
            if state.registry { "S'" } else { "-" }
        )?;
    }
    for (i, instance) in state.instances[..config.instances].iter().enumerate() {
        let call = instance.call;
        write!(line, "  {}:", ["A", "B", "C"][i])?;
        if call.at != At::Idle {
            write!(line, " {:?}", call.at)?;
            if call.sent {
                write!(line, " sent")?;
            }
            if call.nonce != 0 {
                write!(line, " L{}", call.nonce)?;
            }
            if let Some(record) = call.record {
                write!(line, " {}", self::value(tenants, record, call.generation))?;
            }
            if let Some((_, generation)) = call.known {
                write!(line, " knows g{generation}")?;
            }
            if call.e != 0 {
                write!(line, " e{}", call.e)?;
            }
        }
        if let Some(entry) = instance.entry {
            let value = self::value(tenants, entry.value.record, entry.value.generation);
            write!(line, " [K {value} age {}]", entry.age)?;
        }
        for cell in instance.cells.iter().filter(|cell| cell.generation != 0) {
            write!(line, " [T g{} age {}]", cell.generation, cell.age)?;
        }
    }
    for late in state.late.iter().filter(|late| **late != Late::None) {
        write!(line, "  late {late:?}")?;
    }
    let (Requests::Observed(n) | Requests::Only(n)) = config.requests;
    for request in state.requests[..n]
        .iter()
        .filter(|request| request.stage != Stage::New)
    {
        let needs = if request.now == request.waited {
            versions(tenants, request.now)
        } else {
            format!(
                "{} (local {})",
                versions(tenants, request.now),
                versions(tenants, request.waited)
            )
        };
        write!(
            line,
            "  request at {} needs {needs}",
            ["A", "B", "C"][usize::from(request.instance)]
        )?;
        if config.type_of.is_some() {
            write!(line, " of type {}", request.token_type)?;
        }
    }
    Ok(())
}

fn versions(tenants: bool, versions: Versions) -> String {
    if tenants {
        format!(
            "v{}/t{}.{}",
            versions.token, versions.tenant[0], versions.tenant[1]
        )
    } else {
        format!("v{}", versions.token)
    }
}

fn value(tenants: bool, record: Record, generation: u8) -> String {
    if record.negative {
        format!("negative v{}", record.token)
    } else if tenants {
        format!(
            "v{}/t{} {}",
            record.token,
            record.tenant,
            bits('g', generation)
        )
    } else {
        format!("v{}", record.token)
    }
}

fn bits(kind: char, bits: u8) -> String {
    if bits == 0 {
        "-".into()
    } else {
        format!("{kind}{bits}")
    }
}

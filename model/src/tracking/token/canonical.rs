//! Gives states that no step can tell apart one form: what can make no difference any longer is forgotten.

use super::state::{Link, Phase, Read, Request, State, Watch};
use crate::rules::Rule;
use crate::tracking::config::Tracking;

pub(super) fn normalise(state: &mut State, config: &Tracking) {
    let idle = state.request == Request::Idle;
    if let Request::Found { needs, entry, .. } = state.request
        && (entry.watch == Watch::Changed || entry.value >= needs)
    {
        state.request = Request::Idle;
    }
    let nap = state.request.nap();
    let oldest = config.staleness + config.nap;
    // Older than S, as seen by the present request and by all later ones.
    let saturate = |age: &mut u8| {
        if *age >= config.staleness + nap {
            *age = oldest;
        }
    };
    for instance in &mut state.instances[..config.instances] {
        instance.entry = instance.entry.filter(|entry| {
            // Dropping it allows more: it keeps older answers out, and no request can be answered wrongly from it.
            !(entry.watch == Watch::Changed
                || (entry.watch == Watch::None && entry.age >= config.staleness && idle)
                || (entry.value >= state.database && state.database == config.changes))
        });
        if instance.read.phase == Phase::Idle {
            instance.read = Read::default();
        }
        if !instance.read.tracked && config.rules.hold(Rule::OnlyTrackedReads) {
            instance.read.stamp_holds = false;
        }
        if instance.heartbeats[0].is_none() {
            instance.heartbeats.swap(0, 1);
        }
        if let Some(entry) = &mut instance.entry {
            saturate(&mut entry.age);
        }
        saturate(&mut instance.read.age);
        for heartbeat in instance.heartbeats.iter_mut().flatten() {
            saturate(&mut heartbeat.age);
        }
        for proved in &mut instance.proved {
            *proved = proved.filter(|age| *age < config.staleness + nap);
        }
        // A request that started before may still compare with it.
        if instance
            .mark
            .is_some_and(|age| age >= config.staleness + nap)
        {
            instance.mark = None;
            instance.read.before_mark = false;
            if let Some(entry) = &mut instance.entry {
                entry.before_mark = false;
            }
        }
        let old = &instance.links[1];
        let useful = old.open && (config.kept || !old.commands.is_empty() || old.tracks);
        if old.frames.is_empty() && !useful {
            instance.links[1] = Link::default();
        }
    }
}

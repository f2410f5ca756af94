//! The options of the command line.

use model::{Clock, Cluster, Config, Limits, Operator, Requests, Rule, Spec, Tracking};

/// Applies `options` to a configuration and limits.
///
/// # Errors
/// Returns a message if an option is unknown, lacks its value, or has a wrong one.
pub(crate) fn apply(
    mut spec: Spec,
    mut limits: Limits,
    options: &[&str],
) -> Result<(Spec, Limits), String> {
    let (pairs, rest) = options.as_chunks::<2>();
    if let [alone] = rest {
        return Err(format!("{alone} lacks its value"));
    }
    for &[option, value] in pairs {
        match option {
            "--without" => {
                let rule =
                    Rule::by_name(value).ok_or_else(|| format!("no rule is called {value}"))?;
                spec = spec.without(rule);
            }
            "--states" => limits.states = number(value, 1, usize::MAX)?,
            "--depth" => limits.depth = number(value, 1, usize::MAX)?,
            _ => match &mut spec {
                Spec::Protocol(config) => protocol(config, option, value)?,
                Spec::Tracking(config) => tracking(config, option, value)?,
                Spec::Cluster(config) => cluster(config, option, value)?,
                Spec::TenantCell(_) => {
                    return Err(format!("no option of this model is called {option}"));
                }
            },
        }
    }
    Ok((spec, limits))
}

fn protocol(config: &mut Config, option: &str, value: &str) -> Result<(), String> {
    match option {
        "--instances" => config.instances = number(value, 1, 3)?,
        "--observed" => config.requests = Requests::Observed(number(value, 1, 3)?),
        "--only" => config.requests = Requests::Only(number(value, 1, 3)?),
        "--operators" => config.operators = operators(value)?,
        "--tenants" => config.tenant_of = tenants(value)?,
        "--late" => config.late = number(value, 0, 2)?,
        "--no" => *fault(config, value)? = false,
        "--with" => *part(config, value)? = true,
        "--lacking" => *part(config, value)? = false,
        "--staleness" => clock(config)?.staleness = number(value, 1, 9)? as u8,
        "--margin" => clock(config)?.margin = number(value, 0, 9)? as u8,
        "--drift" => clock(config)?.drift = number(value, 0, 1)? as u8,
        "--nap" => clock(config)?.nap = number(value, 0, 9)? as u8,
        "--loads" => config.most_loads = Some(number(value, 0, 9)? as u8),
        _ => return Err(format!("no option is called {option}")),
    }
    Ok(())
}

fn tracking(config: &mut Tracking, option: &str, value: &str) -> Result<(), String> {
    match option {
        "--instances" => config.instances = number(value, 1, 2)?,
        "--staleness" => config.staleness = number(value, 1, 3)? as u8,
        "--nap" => config.nap = number(value, 0, 3)? as u8,
        "--changes" => config.changes = number(value, 1, 2)? as u8,
        "--heartbeats" => config.heartbeats = number(value, 1, 2)?,
        "--losses" => config.losses = number(value, 0, 2)? as u8,
        "--with" => *tracking_part(config, value)? = true,
        "--no" | "--lacking" => *tracking_part(config, value)? = false,
        _ => return Err(format!("no option of this model is called {option}")),
    }
    Ok(())
}

fn tracking_part<'a>(config: &'a mut Tracking, name: &str) -> Result<&'a mut bool, String> {
    match name {
        "others" => Ok(&mut config.others),
        "evict" => Ok(&mut config.evict),
        "table" => Ok(&mut config.table),
        "plain" => Ok(&mut config.plain),
        "tracked" => Ok(&mut config.tracked),
        "fills" => Ok(&mut config.fills),
        "closes" => Ok(&mut config.closes),
        "links" => Ok(&mut config.links),
        "kept" => Ok(&mut config.kept),
        "slow-heartbeats" => Ok(&mut config.slow_heartbeats),
        "grace" => Ok(&mut config.grace),
        _ => Err(format!("no part of this model is called {name}")),
    }
}

fn cluster(config: &mut Cluster, option: &str, value: &str) -> Result<(), String> {
    let part = match value {
        "tracked" => &mut config.tracked,
        "migrates" => &mut config.migrates,
        "late" => &mut config.late,
        "from-learning" => &mut config.from_learning,
        "sessions-end" => &mut config.sessions_end,
        "beat-shows-slots" => &mut config.beat_shows_slots,
        _ => return Err(format!("no part of this model is called {value}")),
    };
    *part = match option {
        "--with" => true,
        "--lacking" => false,
        _ => return Err(format!("no option of this model is called {option}")),
    };
    Ok(())
}

fn number(text: &str, least: usize, most: usize) -> Result<usize, String> {
    let number = text
        .parse()
        .map_err(|_| format!("{text} is not a number"))?;
    if (least..=most).contains(&number) {
        Ok(number)
    } else {
        Err(format!("{text} is not between {least} and {most}"))
    }
}

fn operators(text: &str) -> Result<&'static [Operator], String> {
    let mut list = Vec::new();
    for word in text.split(',') {
        list.push(match word {
            "token" => Operator::Token,
            "tenant" => Operator::Tenant(0),
            "tenant1" => Operator::Tenant(1),
            _ => return Err(format!("no operator is called {word}")),
        });
    }
    if list.len() > 3 {
        Err("three operators at most".into())
    } else {
        Ok(list.leak())
    }
}

fn tenants(text: &str) -> Result<[Option<u8>; 4], String> {
    let mut of = [None; 4];
    let mut last = None;
    let mut words = text.split(',');
    for tenant in &mut of {
        if let Some(word) = words.next() {
            last = match word {
                "-" => None,
                "0" => Some(0),
                "1" => Some(1),
                _ => return Err(format!("no tenant is called {word}")),
            };
        }
        *tenant = last;
    }
    Ok(of)
}

fn fault<'a>(config: &'a mut Config, name: &str) -> Result<&'a mut bool, String> {
    match name {
        "evict" => Ok(&mut config.evict),
        "lose" => Ok(&mut config.lose),
        "crash" => Ok(&mut config.crash),
        "load-fails" => Ok(&mut config.load_fails),
        _ => Err(format!("no fault is called {name}")),
    }
}

fn part<'a>(config: &'a mut Config, name: &str) -> Result<&'a mut bool, String> {
    match name {
        "stale" => Ok(&mut config.stale),
        "reader" => Ok(&mut config.reader),
        "simple-proof" => Ok(&mut config.simple_proof),
        "e" => Ok(&mut config.e),
        "fresh-known" => Ok(&mut config.fresh_known),
        "loads-after-operators" => Ok(&mut config.loads_after_operators),
        _ => Err(format!("no part is called {name}")),
    }
}

fn clock(config: &mut Config) -> Result<&mut Clock, String> {
    config
        .local
        .as_mut()
        .ok_or_else(|| "this model has no local level".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_change_the_model() {
        let words = [
            "--instances",
            "1",
            "--operators",
            "token,tenant1",
            "--tenants",
            "-,1",
            "--no",
            "crash",
        ];
        let (spec, _) =
            apply(Config::KEY.into(), Limits::default(), &words).expect("valid options");
        let Spec::Protocol(config) = spec else {
            panic!("the model is of another kind")
        };
        assert_eq!((config.instances, config.crash), (1, false));
        assert_eq!(config.operators, [Operator::Token, Operator::Tenant(1)]);
        assert_eq!(config.tenant_of, [None, Some(1), Some(1), Some(1)]);
    }

    #[test]
    fn wrong_options_are_errors() {
        for words in [
            &["--instances", "4"][..],
            &["--instances"],
            &["--no", "mercy"],
            &["--without", "Reason"],
            &["--staleness", "1"],
            &["--perhaps", "1"],
        ] {
            assert!(
                apply(Config::KEY.into(), Limits::default(), words).is_err(),
                "{words:?}"
            );
        }
    }
}

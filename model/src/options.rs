//! The options of the command line.

use model::{Clock, Config, Limits, Operator, Requests, Rule};

/// Applies `options` to a configuration and limits.
///
/// # Errors
/// Returns a message if an option is unknown, lacks its value, or has a wrong one.
pub(crate) fn apply(
    mut config: Config,
    mut limits: Limits,
    options: &[&str],
) -> Result<(Config, Limits), String> {
    let (pairs, rest) = options.as_chunks::<2>();
    if let [alone] = rest {
        return Err(format!("{alone} lacks its value"));
    }
    for &[option, value] in pairs {
        match option {
            "--instances" => config.instances = number(value, 1, 3)?,
            "--observed" => config.requests = Requests::Observed(number(value, 1, 3)?),
            "--only" => config.requests = Requests::Only(number(value, 1, 3)?),
            "--operators" => config.operators = operators(value)?,
            "--tenants" => config.tenant_of = tenants(value)?,
            "--late" => config.late = number(value, 0, 2)?,
            "--no" => *fault(&mut config, value)? = false,
            "--with" => *part(&mut config, value)? = true,
            "--lacking" => *part(&mut config, value)? = false,
            "--staleness" => clock(&mut config)?.staleness = number(value, 1, 9)? as u8,
            "--margin" => clock(&mut config)?.margin = number(value, 0, 9)? as u8,
            "--drift" => clock(&mut config)?.drift = number(value, 0, 1)? as u8,
            "--nap" => clock(&mut config)?.nap = number(value, 0, 9)? as u8,
            "--loads" => config.most_loads = Some(number(value, 0, 9)? as u8),
            "--without" => {
                let rule =
                    Rule::by_name(value).ok_or_else(|| format!("no rule is called {value}"))?;
                config.rules = config.rules.without(rule);
            }
            "--states" => limits.states = number(value, 1, usize::MAX)?,
            "--depth" => limits.depth = number(value, 1, usize::MAX)?,
            _ => return Err(format!("no option is called {option}")),
        }
    }
    Ok((config, limits))
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
        let (config, _) = apply(Config::KEY, Limits::default(), &words).expect("valid options");
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
                apply(Config::KEY, Limits::default(), words).is_err(),
                "{words:?}"
            );
        }
    }
}

//! The master that sentinels name: each of them is asked by itself, and the first master that one names
//! and that answers for itself is taken. One that hangs keeps no other from answering.

use redis::Value;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::batch::Batch;
use super::endpoint::{Hosts, Login};
use super::fault::{lost_or_refused, unconnected, unexpected};
use super::handshake::{Link, Opening, Target, accepted, panicked};
use crate::ConfigError;
use crate::store::StoreError;

/// Sentinels, and the name of the master that they watch.
#[derive(Clone)]
pub(super) struct Sentinels {
    hosts: Vec<(String, u16)>,
    name: String,
    /// What the sentinels are told of us.
    own: Login,
    /// What the master is told.
    pub(super) login: Login,
}

pub(super) fn parse(scheme: &str, rest: &str) -> Result<Sentinels, ConfigError> {
    let known = ["protocol", "sentinel_username", "sentinel_password"];
    let hosts = Hosts::parse(scheme, rest, 26379, &known)?;
    let (name, database) = match hosts.path[..] {
        [name] => (name, None),
        [name, database] => (name, Some(database)),
        _ => {
            return Err(ConfigError::new(
                "a sentinel URL ends with /master-name[/database]",
            ));
        }
    };
    Ok(Sentinels {
        own: hosts.sentinels_login()?,
        login: hosts.login(database)?,
        name: name.to_owned(),
        hosts: hosts.hosts,
    })
}

/// How far one of those who are asked has come.
enum Step {
    /// The addresses of a sentinel's name.
    Sentinels(Vec<Target>),
    /// What a sentinel takes for the master.
    Named(String, u16),
    Opened(Link),
}

/// An error, and how far it was: the furthest one says most about what is wrong.
type Failed = (u8, StoreError);

impl Sentinels {
    pub(super) fn shown(&self) -> String {
        format!("{} of {}", self.name, Hosts::shown(&self.hosts))
    }

    /// To whoever is master now: the sentinels are asked anew at each connection.
    pub(super) async fn open(&self, opening: &Opening) -> Result<Link, StoreError> {
        let opening = Opening {
            of_a_master: true,
            ..opening.clone()
        };
        let mut failed = (0, StoreError::timeout());
        let mut steps = JoinSet::<Result<Step, Failed>>::new();
        for (host, port) in &self.hosts {
            let sentinel = self.own.at(host, *port);
            steps.spawn(async move {
                let addresses = sentinel.each_address().await;
                addresses.map(Step::Sentinels).map_err(|error| (0, error))
            });
        }
        let opened = async {
            let mut named = Vec::new();
            while let Some(step) = steps.join_next().await {
                match step.unwrap_or_else(|_| Err((2, panicked()))) {
                    Ok(Step::Sentinels(sentinels)) => {
                        for sentinel in sentinels {
                            let (name, opening) = (self.name.clone(), opening.clone());
                            steps.spawn(async move { ask(&sentinel, &name, &opening).await });
                        }
                    }
                    Ok(Step::Named(host, port)) => {
                        let master = (host, port);
                        if !named.contains(&master) {
                            let (target, opening) =
                                (self.login.at(&master.0, port), opening.clone());
                            named.push(master);
                            steps.spawn(async move {
                                let link = target.open(&opening).await;
                                link.map(Step::Opened).map_err(|error| (2, error))
                            });
                        }
                    }
                    Ok(Step::Opened(link)) => return Some(link),
                    Err(error) if error.0 >= failed.0 => failed = error,
                    Err(_) => {}
                }
            }
            None
        };
        match timeout(opening.deadline, opened).await {
            Ok(Some(link)) => Ok(link),
            Ok(None) | Err(_) => Err(failed.1),
        }
    }
}

/// The master, as one sentinel says.
async fn ask(sentinel: &Target, name: &str, opening: &Opening) -> Result<Step, Failed> {
    let mut access = (*opening.access).clone();
    // They are of the master's users.
    access.credentials = None;
    let opening = Opening {
        access: access.into(),
        heartbeat: None,
        of_a_master: false,
        ..opening.clone()
    };
    let unreachable = |error| (0, error);
    let mut link = sentinel.open(&opening).await.map_err(unreachable)?;
    let mut batch = Batch::new();
    let get = batch.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME");
    get.arg(name);
    let replies = batch.send(&mut link.connection).await;
    let reply = replies.map_err(|error| (0, lost_or_refused(error)))?.pop();
    let reply = reply.ok_or_else(|| (0, unexpected()))?;
    let what = format!("the sentinel {}", sentinel.shown());
    match accepted(&what, reply).map_err(|error| (1, error))? {
        Value::Nil => {
            let unknown = format!("{what} knows no master of this name");
            Err((1, unconnected(unknown)))
        }
        reply => address(&reply).ok_or_else(|| (1, unexpected())),
    }
}

fn address(reply: &Value) -> Option<Step> {
    let (host, port): (String, u16) = redis::from_redis_value_ref(reply).ok()?;
    Some(Step::Named(host, port))
}

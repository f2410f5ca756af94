//! The master that sentinels name. All sentinels are asked at once, and the first named server that says
//! that it is a master is taken: a sentinel that hangs does not delay the others' answers.

use redis::Value;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::batch::Batch;
use super::handshake::{ConnectOptions, Target, panicked};
use super::link::Link;
use super::login::Login;
use super::reply::{accepted, connection_failed, send_failed, unexpected};
use super::url::Hosts;
use crate::error::ConfigError;
use crate::store::error::StoreError;

/// Sentinels, and the name of the master that they watch.
#[derive(Clone)]
pub(crate) struct Sentinels {
    hosts: Vec<(String, u16)>,
    name: String,
    /// The login for the sentinels.
    own: Login,
    /// The login for the master.
    login: Login,
}

/// What one of the tasks found.
enum Step {
    /// The addresses of a sentinel's host name.
    Sentinels(Vec<Target>),
    /// The address of the master, as a sentinel says.
    Named(String, u16),
    Opened(Link),
}

/// An error, and how far the attempt came: the error of the furthest one says most about the cause.
type Failed = (u8, StoreError);

impl Sentinels {
    pub(crate) fn parse(scheme: &str, rest: &str) -> Result<Self, ConfigError> {
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
        Ok(Self {
            own: hosts.sentinels_login()?,
            login: hosts.login(database)?,
            name: name.to_owned(),
            hosts: hosts.hosts,
        })
    }

    pub(super) fn shown(&self) -> String {
        format!("{} of {}", self.name, Hosts::shown(&self.hosts))
    }

    #[cfg(feature = "redis-rustls")]
    pub(super) fn is_encrypted(&self) -> bool {
        self.login.encrypted
    }

    /// Connects to the present master. The sentinels are asked for each connection.
    pub(super) async fn open(&self, options: &ConnectOptions) -> Result<Link, StoreError> {
        let options = ConnectOptions {
            // guard: A3
            must_be_master: true,
            ..options.clone()
        };
        let mut failed = (0, StoreError::timeout());
        let mut steps = JoinSet::<Result<Step, Failed>>::new();
        // guard: A1
        for (host, port) in &self.hosts {
            let sentinel = Target::in_group(&self.own, host, *port);
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
                            let (name, options) = (self.name.clone(), options.clone());
                            steps.spawn(async move { ask(&sentinel, &name, &options).await });
                        }
                    }
                    Ok(Step::Named(host, port)) => {
                        let master = (host, port);
                        // guard: A2
                        if !named.contains(&master) {
                            let target = Target::in_group(&self.login, &master.0, port);
                            let options = options.clone();
                            named.push(master);
                            steps.spawn(async move {
                                let link = target.open(&options).await;
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
        match timeout(options.timeout, opened).await {
            Ok(Some(link)) => Ok(link),
            // guard: A4
            Ok(None) | Err(_) => Err(failed.1),
        }
    }
}

/// Asks a sentinel for the address of the master.
async fn ask(sentinel: &Target, name: &str, options: &ConnectOptions) -> Result<Step, Failed> {
    let mut access = (*options.access).clone();
    // The provider's credentials are for the master.
    access.credentials = None;
    let options = ConnectOptions {
        access: access.into(),
        heartbeat: None,
        tracking: None,
        must_be_master: false,
        ..options.clone()
    };
    let unreachable = |error| (0, error);
    let mut link = sentinel.open(&options).await.map_err(unreachable)?;
    let mut batch = Batch::new();
    let get = batch.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME");
    get.arg(name);
    let replies = batch.send(&mut link.connection).await;
    let reply = replies.map_err(|error| (0, send_failed(error)))?.pop();
    let reply = reply.ok_or_else(|| (0, unexpected()))?;
    let what = format!("the sentinel {}", sentinel.shown());
    match accepted(&what, reply).map_err(|error| (1, error))? {
        Value::Nil => {
            let unknown = format!("{what} does not know a master of this name");
            Err((1, connection_failed(unknown)))
        }
        reply => address(&reply).ok_or_else(|| (1, unexpected())),
    }
}

fn address(reply: &Value) -> Option<Step> {
    let (host, port): (String, u16) = redis::from_redis_value_ref(reply).ok()?;
    Some(Step::Named(host, port))
}

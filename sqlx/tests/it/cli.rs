//! The command line as a process, what is generated from it, and its tables.

use std::fs;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use test_support::RedisServer;

use crate::world::World;

/// Runs `api-token` with a database and perhaps a Redis.
pub(crate) struct Cli {
    variables: Vec<(String, String)>,
}

/// What a run printed, and its exit code.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Cli {
    pub(crate) fn new(world: &World, redis: Option<&RedisServer>) -> Self {
        let cli = Self {
            variables: Vec::new(),
        }
        .with("DATABASE_URL", &world.url())
        .with("USER", "alice");
        let cli = match world {
            World::Sqlite(_) => cli,
            World::Postgres(_, schema) => cli.with("DATABASE_SCHEMA", schema),
        };
        match redis {
            Some(redis) => cli.with("REDIS_URL", &redis.url()),
            None => cli,
        }
    }

    /// Creates the tables too.
    pub(crate) fn initialized(world: &World, redis: Option<&RedisServer>) -> Self {
        let cli = Self::new(world, redis);
        cli.ok(&["init"]);
        cli
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_api-token"));
        command.env_clear().envs(self.variables.iter().cloned());
        command.args(arguments);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().expect("it starts")
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        ended(self.spawn(arguments))
    }

    /// Runs `check` for a token.
    pub(crate) fn check(&self, token: &str, arguments: &[&str]) -> Ran {
        let mut command = self.command(&["check"]);
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut input = child.stdin.take().expect("it is a pipe");
        // It may end before it reads.
        let _ = writeln!(input, "{token}");
        drop(input);
        ended(child)
    }

    /// Runs a command that succeeds, and returns what it printed.
    #[track_caller]
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {ran:?}");
        ran.out
    }

    /// Runs a command that prints one object.
    #[track_caller]
    pub(crate) fn json(&self, code: i32, arguments: &[&str]) -> Value {
        let ran = self.run(&[&["--json"], arguments].concat());
        assert_eq!(ran.code, code, "{arguments:?}: {ran:?}");
        ran.json()
    }

    /// Issues a key of the tenant `acme`, and returns its id and its text.
    #[track_caller]
    pub(crate) fn issue(&self) -> (String, String) {
        let issued = self.json(0, &["issue", "acme"]);
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        (text(&issued["key"]["id"]), text(&issued["token"]))
    }
}

impl Ran {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Waits for the end of a run.
pub(crate) fn ended(child: Child) -> Ran {
    let output = child.wait_with_output().expect("it ends");
    Ran {
        code: output.status.code().expect("it was not killed"),
        out: String::from_utf8(output.stdout).expect("UTF-8"),
        err: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

crate::on_both!(
    init_prints_which_migrations_ran,
    commands_before_init_say_what_is_missing,
);

async fn init_prints_which_migrations_ran(world: World) {
    let cli = Cli::new(&world, None);
    let first = cli.ok(&["init"]);
    assert!(first.contains("ran migration 0001_keys"), "{first}");
    let again = cli.ok(&["init"]);
    assert!(again.contains("nothing to do"), "{again}");
    let json = cli.json(0, &["init"]);
    assert_eq!(
        (&json["action"], &json["ran"]),
        (&"initialized".into(), &Value::Array(Vec::new()))
    );
    // The tables are those of the service.
    world
        .builder()
        .await
        .migrate(false)
        .build()
        .await
        .unwrap()
        .pending_count()
        .await
        .unwrap();
}

async fn commands_before_init_say_what_is_missing(world: World) {
    let ran = Cli::new(&world, None).run(&["list"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("`api-token init` creates"), "{ran:?}");
    if let World::Sqlite(directory) = &world {
        assert_eq!(
            fs::read_dir(directory.path()).unwrap().count(),
            0,
            "no empty file is created"
        );
        fs::write(directory.path().join("keys.db"), "").unwrap();
        let ran = Cli::new(&world, None).run(&["list"]);
        assert!(
            ran.code == 1 && ran.err.contains("the tables do not exist"),
            "{ran:?}"
        );
    }
}

/// Without a database: these need none.
fn generate(arguments: &[&str]) -> String {
    let cli = Cli {
        variables: Vec::new(),
    };
    cli.ok(arguments)
}

#[test]
fn completions_name_every_command_and_bash_reads_them() {
    for shell in ["bash", "zsh", "fish"] {
        let script = generate(&["completions", shell]);
        for command in ["rotate", "completions", "--everywhere"] {
            let word = command.trim_start_matches('-');
            assert!(script.contains(word), "{shell}: {command}");
        }
        if shell == "bash" {
            let mut bash = Command::new("bash")
                .arg("-n")
                .stdin(Stdio::piped())
                .spawn()
                .expect("bash");
            bash.stdin
                .take()
                .unwrap()
                .write_all(script.as_bytes())
                .unwrap();
            assert!(bash.wait().unwrap().success());
        }
    }
}

#[test]
fn manual_has_every_command_exit_code_and_variable() {
    let page = generate(&["man"]);
    assert!(page.contains(".TH api-token 1"), "{page}");
    for part in [
        ".SH COMMANDS",
        ".SS rotate",
        "ID",
        ".SH \"EXIT STATUS\"",
        "not confirmed yet",
        "DATABASE_URL",
        ".SH EXAMPLES",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let Ok(mut man) = Command::new("man")
        .args(["-l", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    else {
        return;
    };
    man.stdin
        .take()
        .unwrap()
        .write_all(page.as_bytes())
        .unwrap();
    let read = man.wait_with_output().unwrap();
    if read.status.success() {
        assert!(String::from_utf8_lossy(&read.stdout).contains("COMMANDS"));
    }
}

/// As `api-token list --all | head` does.
#[tokio::test(flavor = "multi_thread")]
async fn reader_that_has_enough_is_no_error_to_report() {
    let world = World::sqlite();
    let cli = Cli::initialized(&world, None);
    cli.issue();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ran = ended(cli.command(&["list"]).stdout(writer).spawn().unwrap());
    assert_eq!((ran.code, ran.err.as_str()), (1, ""), "{ran:?}");
}

#[test]
fn help_has_every_exit_code_and_variable() {
    let help = generate(&["--help"]);
    for part in [
        "Exit codes:",
        "4  The change is committed",
        "CACHE_NAMESPACE",
        "MAX_STALENESS_MS",
    ] {
        assert!(help.contains(part), "{part}: {help}");
    }
}

//! Starts the demo server: `cargo run -p demo`. `--help` lists the flags.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use demo::config::{Config, Request, StartError};
#[cfg(feature = "otel")]
use demo::spans::Spans;
use demo::startup::Server;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layered, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry};

#[tokio::main]
async fn main() -> ExitCode {
    match start().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn start() -> Result<(), StartError> {
    let config = match Config::read(std::env::args_os())? {
        Request::Serve(config) => *config,
        Request::Print(text) => {
            print(&text);
            return Ok(());
        }
    };
    #[cfg(feature = "otel")]
    let spans = match &config.otlp_endpoint {
        Some(endpoint) => Some(Spans::export(endpoint)?),
        None => None,
    };
    #[cfg(feature = "otel")]
    let layer = spans.as_ref().map(Spans::layer);
    #[cfg(not(feature = "otel"))]
    let layer = None::<tracing_subscriber::layer::Identity>;
    log(&config, layer);
    let server = Server::bind(config).await?;
    print(&format!(
        "{}\nlistening on http://{}\n",
        server.banner(),
        server.address()
    ));
    server.run(stop_signal()?).await;
    #[cfg(feature = "otel")]
    if let Some(spans) = spans {
        spans.end();
    }
    Ok(())
}

/// The registry behind the filter of the logs.
type Filtered = Layered<Targets, Registry>;

/// Installs the subscriber. Logs go to standard error, so that standard output has only the banner.
fn log(config: &Config, spans: Option<impl Layer<Filtered> + Send + Sync>) {
    let colors = std::io::stderr().is_terminal();
    let output = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(colors);
    let registry = tracing_subscriber::registry()
        .with(config.log_filter.clone())
        .with(spans);
    if config.log_json {
        registry.with(output.json()).init();
    } else {
        registry.with(output).init();
    }
}

/// Prints `text`. A closed standard output (`… | head`) does not end the process, as `println!` would.
fn print(text: &str) {
    let mut output = std::io::stdout().lock();
    let _ = output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush());
}

/// Returns a future that completes on ctrl-c and on SIGTERM, which orchestrators send.
fn stop_signal() -> Result<impl Future<Output = ()>, StartError> {
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(StartError::other)?;
    Ok(async move {
        #[cfg(unix)]
        let terminated = terminate.recv();
        #[cfg(not(unix))]
        let terminated = std::future::pending::<Option<()>>();
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminated => {}
        }
    })
}

//! The sink takes one use, and not a batch of them.

use tower_api_token::{Usage, UsageRecorder};

async fn write(_: Usage) -> Result<(), std::io::Error> {
    Ok(())
}

fn main() {
    let _ = UsageRecorder::new(write);
}

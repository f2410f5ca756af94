//! The sink takes one use instead of a batch.

use tower_api_token::last_use::{LastUse, LastUseRecorder};

async fn write(_: LastUse) -> Result<(), std::io::Error> {
    Ok(())
}

fn main() {
    let _ = LastUseRecorder::new(write);
}

//! A number of seconds is passed as a record's time.

use tower_api_token::TokenRecord;

fn main() {
    let _ = TokenRecord::new("tok-1").expires_at(1_767_225_600);
}

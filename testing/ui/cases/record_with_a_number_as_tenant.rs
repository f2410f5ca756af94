//! A numeric id is passed as a record's tenant.

use tower_api_token::TokenRecord;

fn main() {
    let _ = TokenRecord::new("tok-1").tenant_id(42);
}

//! The Redis URL: no text makes the parser panic, and no password is shown.

use tower_api_token::RedisStore;

/// The demo server's parser, included as source: the server as a whole depends on two databases.
#[path = "../../demo/src/config"]
mod demo {
    #[allow(dead_code, unreachable_pub, reason = "the server uses all of it")]
    mod error;
    #[allow(dead_code, unreachable_pub, reason = "the server uses all of it")]
    mod redis;

    use error::StartError;

    /// Reads `url` as `REDIS_URL`, without files, and returns its `Display`, or the error.
    pub(super) fn read(url: &str) -> Result<String, String> {
        match redis::Redis::read(Some(url), |_| Ok(None)) {
            Ok(redis) => {
                let redis = redis.expect("there is a URL");
                Ok(format!("{redis} {redis:?}"))
            }
            Err(error) => Err(format!("{error} {error:?}")),
        }
    }
}

/// Pairs of passwords of the same length, which must not make a difference. The second ones look like ports.
const SECRETS: [[&str; 2]; 2] = [["hunter2hunter2", "secret7secret7"], ["31337", "42424"]];

const SCHEMES: [&str; 6] = [
    "redis",
    "rediss",
    "redis+sentinel",
    "redis+cluster",
    "unix",
    "redis+unix",
];

/// Reads the place of the password from the first byte, and the text around it from the rest.
pub(crate) fn target(data: &[u8]) {
    let Some((choice, text)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    // The whole input as a URL.
    let _ = shown(text);
    let choice = usize::from(*choice);
    let scheme = SCHEMES[choice % SCHEMES.len()];
    let secrets = SECRETS[choice / SCHEMES.len() % SECRETS.len()];
    let [one, other] = secrets.map(|secret| {
        if scheme.ends_with("unix") {
            let path = text.replace(['?', '#'], "");
            shown(&format!("{scheme}:///{path}?pass={secret}"))
        } else {
            // The first @ of the text ends the password, which includes everything before it.
            let (more, rest) = text.split_once('@').unwrap_or(("", text));
            shown(&format!("{scheme}://user:{secret}{more}@{rest}"))
        }
    });
    assert_eq!(one, other, "what is shown depends on the password");
}

/// Returns everything that a log could contain of it.
fn shown(url: &str) -> [String; 2] {
    let ours = match RedisStore::new(url) {
        Ok(store) => format!("{store:?}"),
        Err(error) => format!("{error} {error:?}"),
    };
    let demos = demo::read(url);
    if demos.is_ok() {
        assert!(RedisStore::new(url).is_ok(), "the demo takes more");
    }
    [ours, demos.unwrap_or_else(|error| error)]
}

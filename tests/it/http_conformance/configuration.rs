//! Lines 9, 12, 16, 38, 44 and 48: invalid configurations.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};

use tower_api_token::store::KeyLayout;
use tower_api_token::{
    ApiTokenCache, ApiTokenLayer, ApiTokenLayerBuilder, BoxError, ConfigError, Lookup, RedisStore,
    TokenFormat, TokenSource,
};

use crate::http_conformance::world::*;

fn layer() -> ApiTokenLayerBuilder<()> {
    World::new().builder()
}

/// Checks that the layer is not built, and that the error names the setting.
#[track_caller]
fn rejects(setting: &str, layer: ApiTokenLayerBuilder<()>) -> ConfigError {
    let debug = format!("{layer:?}");
    let error = layer.build().expect_err(&debug);
    assert_eq!(error.setting(), setting, "{error}");
    assert!(error.to_string().starts_with(&format!("{setting}: ")));
    error
}

#[track_caller]
fn accepts(layer: ApiTokenLayerBuilder<()>) {
    layer.build().unwrap();
}

#[test]
fn an_invalid_name_of_a_source_is_an_error() {
    for bad in [
        "",
        "a b",
        "é",
        "a:b",
        "authorization",
        "Cookie",
        "Sec-WebSocket-Protocol",
    ] {
        rejects("sources", layer().sources([TokenSource::header(bad)]));
    }
    for bad in ["", "a b", "a=b", "a;b", "é", "\"a\""] {
        rejects("sources", layer().sources([TokenSource::cookie(bad)]));
        rejects(
            "sources",
            layer().sources([TokenSource::authorization(bad)]),
        );
        rejects(
            "sources",
            layer().sources([TokenSource::header("x-a").scheme(bad)]),
        );
    }
    rejects("sources", layer().sources([TokenSource::query("")]));
    for bad in ["", "bearer ", "bearer,", "bearer/", "é"] {
        let source = TokenSource::websocket_protocol(bad);
        rejects("sources", layer().sources([source]));
    }
    accepts(layer().sources([TokenSource::websocket_protocol("bearer.")]));
    let basic = TokenSource::basic_username();
    rejects("sources", layer().sources([basic.scheme("Token")]));
    accepts(layer().sources([TokenSource::header("x-api-key")]));
    accepts(layer().sources([TokenSource::header("X-API-KEY")]));
    accepts(layer().sources([TokenSource::cookie("__Host-token")]));
    accepts(layer().sources([TokenSource::query("api key")]));
    for nowhere in [TokenSource::cookie("a"), TokenSource::query("a")] {
        rejects("sources", layer().sources([nowhere.scheme("Token")]));
    }
}

/// 44
#[test]
fn other_tokens_pass_only_beside_a_format() {
    rejects("pass_other_tokens", layer().pass_other_tokens());
    accepts(layer().pass_other_tokens().token_format(FORMAT));
}

/// 48
#[test]
fn scopes_that_no_challenge_can_hold_are_an_error() {
    for bad in ["", "a  b", "a\"b", "a\nb", "é"] {
        rejects("require_scopes", layer().require_scopes(bad));
        let reported = layer().require_scopes_report_only(bad);
        rejects("require_scopes_report_only", reported);
        let error = World::new().layer.require_scopes(bad).unwrap_err();
        assert_eq!(error.setting(), "require_scopes");
    }
    accepts(
        layer()
            .require_scopes("a b")
            .require_scopes_report_only("c"),
    );
    rejects("require_scopes", layer().optional().require_scopes("a"));
}

thread_local! {
    /// The file of this thread's last panic.
    static PANICKED_IN: RefCell<String> = RefCell::default();
}

/// A panic's location is the line to correct.
#[test]
fn a_constructor_that_panics_names_its_callers_file() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let file = info.location().unwrap().file().to_owned();
        PANICKED_IN.set(file);
        before(info);
    }));
    let panics = |mistake: &dyn Fn()| {
        PANICKED_IN.take();
        panic::catch_unwind(AssertUnwindSafe(mistake)).unwrap_err();
        assert_eq!(PANICKED_IN.take(), file!());
    };
    panics(&|| drop(TokenFormat::from_static("")));
    let declared = World::with_cache(|builder| builder.token_types(["app"])).cache;
    panics(&|| drop(ApiTokenLayer::new(declared.clone())));
}

/// 12: otherwise every request would have two tokens or none.
#[test]
fn no_source_and_a_duplicate_source_are_errors() {
    let rejects = |sources: &[TokenSource]| {
        rejects("sources", layer().sources(sources.iter().cloned()));
    };
    let accepts = |sources: &[TokenSource]| accepts(layer().sources(sources.iter().cloned()));
    rejects(&[]);
    let (bearer, header) = (TokenSource::bearer(), TokenSource::header("x-a"));
    rejects(&[bearer.clone(), bearer.clone()]);
    rejects(&[bearer.clone(), TokenSource::authorization("bearer")]);
    rejects(&[header.clone(), header.clone().scheme("Token")]);
    rejects(&[
        TokenSource::query("a"),
        header.clone(),
        TokenSource::query("a"),
    ]);
    let (basic, protocol) = (
        TokenSource::basic_username(),
        TokenSource::websocket_protocol,
    );
    rejects(&[basic.clone(), TokenSource::authorization("BASIC")]);
    rejects(&[TokenSource::authorization("basic"), basic.clone()]);
    rejects(&[protocol("bearer."), protocol("bearer.key.")]);
    accepts(&[protocol("bearer."), protocol("key."), basic]);
    accepts(&[TokenSource::authorization("Token"), bearer, header]);
    accepts(&[TokenSource::cookie("a"), TokenSource::query("a")]);
}

/// 38
#[test]
fn a_value_that_no_challenge_can_hold_is_an_error() {
    for bad in ["", "a\nb", "a\tb", "é"] {
        rejects("realm", layer().realm(bad));
    }
    accepts(layer().realm(r#"a "b\c""#));
    for bad in ["", "a  b", "a\"b", "a\nb", "é"] {
        rejects("challenge_scope", layer().challenge_scope(bad));
    }
    for bad in [
        "",
        "/path",
        "api.example.org",
        "ftp://h/a",
        "https://h/a b",
        "https://h/a\"b",
        "https://h/é",
        "https:///a",
    ] {
        rejects("resource_metadata", layer().resource_metadata(bad));
    }
    for good in ["https://h/.well-known/a?b=c", "http://127.0.0.1:1/a"] {
        accepts(layer().resource_metadata(good));
    }
}

/// 9
#[test]
fn a_length_that_no_token_can_have_is_an_error() {
    for (start, end) in [(20, 10), (0, 10)] {
        rejects("token_length", layer().token_length(start..=end));
    }
    accepts(layer().token_length(1..=1));
}

#[test]
fn a_layer_must_name_a_declared_token_type() {
    let cache = World::with_cache(|builder| builder.token_types(["app"])).cache;
    let layer = || ApiTokenLayer::builder(cache.clone());
    rejects("token_type", layer());
    rejects("token_type", layer().token_type("dataset"));
    accepts(layer().token_type("app"));
    accepts(layer().any_token_type());
    let why = |layer| rejects("token_type", layer).to_string();
    assert!(why(layer().token_type("")).contains("must not be empty"));
    let undeclared = why(layer().token_type("app, dataset"));
    assert!(
        undeclared.contains("\"app, dataset\" is not a token type"),
        "{undeclared}"
    );
    let names_none = why(ApiTokenLayer::builder(cache_of_dify()).any_token_type());
    assert!(names_none.contains("name one"), "{names_none}");
}

/// The server is never asked.
fn cache_of_dify() -> ApiTokenCache {
    let store = RedisStore::new("redis://127.0.0.1:1").unwrap();
    let nobody = |_: Lookup| async { Ok::<_, BoxError>(None) };
    let builder = ApiTokenCache::builder(nobody).token_types(["app"]);
    let builder = builder.store(store.key_layout(KeyLayout::dify()));
    builder.build().unwrap()
}

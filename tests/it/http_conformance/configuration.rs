//! Lines 9, 12, 16 and 38: configurations that make no sense.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};

use tower::Layer;
use tower_api_token::{ApiTokenLayer, TokenFormat, TokenSource};

use crate::http_conformance::world::*;

#[test]
fn what_is_no_name_is_an_error_from_a_configuration() {
    for bad in ["", "a b", "é", "a:b", "authorization", "Cookie"] {
        assert!(TokenSource::try_header(bad).is_err(), "{bad:?}");
    }
    for bad in ["", "a b", "a=b", "a;b", "é", "\"a\""] {
        assert!(TokenSource::try_cookie(bad).is_err(), "{bad:?}");
        let scheme = TokenSource::authorization().try_with_scheme(bad);
        assert!(scheme.is_err(), "{bad:?}");
    }
    assert!(TokenSource::try_query("").is_err());
    for good in ["x-api-key", "X-API-KEY"] {
        assert_eq!(
            TokenSource::try_header(good),
            Ok(TokenSource::header("x-api-key"))
        );
    }
    assert!(TokenSource::try_cookie("__Host-token").is_ok());
    assert!(TokenSource::try_query("api key").is_ok());
    for nowhere in [TokenSource::cookie("a"), TokenSource::query("a")] {
        assert!(nowhere.try_with_scheme("Token").is_err());
    }
}

thread_local! {
    /// The file that this thread's last panic named.
    static PANICKED_IN: RefCell<String> = RefCell::default();
}

/// What a program writes wrongly is found by what the panic says of the place.
#[test]
fn a_setter_that_panics_names_the_place_that_it_was_called_from() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let file = info.location().unwrap().file().to_owned();
        PANICKED_IN.set(file);
        before(info);
    }));
    let layer = || World::new().layer;
    let panics = |mistake: &dyn Fn()| {
        PANICKED_IN.take();
        panic::catch_unwind(AssertUnwindSafe(mistake)).unwrap_err();
        assert_eq!(PANICKED_IN.take(), file!());
    };
    panics(&|| drop(TokenSource::header("a b")));
    panics(&|| drop(TokenSource::cookie("a b")));
    panics(&|| drop(TokenSource::query("")));
    panics(&|| drop(TokenSource::authorization().with_scheme("a b")));
    panics(&|| drop(TokenFormat::new("")));
    panics(&|| drop(TokenFormat::new("a_").random_length(1)));
    panics(&|| drop(layer().with_realm("")));
    panics(&|| drop(layer().with_challenge_scope("")));
    panics(&|| drop(layer().with_resource_metadata("")));
    panics(&|| drop(layer().with_sources([])));
    panics(&|| drop(layer().with_token_length(0..=1)));
    let format = TokenFormat::new("a_");
    panics(&|| {
        drop(
            layer()
                .with_token_length(8..=9)
                .with_token_format(format.clone()),
        )
    });
}

/// 12: which would make every request ambiguous, or none be looked at.
#[test]
fn no_place_and_a_place_twice_are_an_error() {
    let layer = World::new().layer;
    let refuses = |sources: &[TokenSource]| {
        let sources = sources.iter().cloned();
        layer.clone().try_with_sources(sources).is_err()
    };
    assert!(refuses(&[]));
    let (authorization, header) = (TokenSource::authorization(), TokenSource::header("x-a"));
    assert!(refuses(&[authorization.clone(), authorization.clone()]));
    assert!(refuses(&[
        authorization.clone(),
        authorization.clone().with_scheme("bearer")
    ]));
    assert!(refuses(&[
        header.clone(),
        header.clone().with_scheme("Token")
    ]));
    assert!(refuses(&[
        TokenSource::query("a"),
        header.clone(),
        TokenSource::query("a")
    ]));
    assert!(!refuses(&[
        authorization.clone().with_scheme("Token"),
        authorization,
        header
    ]));
    assert!(!refuses(&[
        TokenSource::cookie("a"),
        TokenSource::query("a")
    ]));
}

/// 38
#[test]
fn what_no_challenge_can_say_is_an_error() {
    let layer = || World::new().layer;
    for bad in ["", "a\nb", "a\tb", "é"] {
        assert!(layer().try_with_realm(bad).is_err(), "{bad:?}");
    }
    assert!(layer().try_with_realm(r#"a "b\c""#).is_ok());
    for bad in ["", "a  b", "a\"b", "a\nb", "é"] {
        assert!(layer().try_with_challenge_scope(bad).is_err(), "{bad:?}");
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
        assert!(layer().try_with_resource_metadata(bad).is_err(), "{bad:?}");
    }
    for good in ["https://h/.well-known/a?b=c", "http://127.0.0.1:1/a"] {
        assert!(layer().try_with_resource_metadata(good).is_ok(), "{good:?}");
    }
}

/// 9
#[test]
fn a_length_that_no_token_can_have_is_an_error() {
    let layer = World::new().layer;
    for (start, end) in [(20, 10), (0, 10)] {
        let built = layer.clone().try_with_token_length(start..=end);
        assert!(built.is_err(), "{start}..={end}");
    }
    assert!(layer.try_with_token_length(1..=1).is_ok());
}

#[test]
fn a_layer_whose_token_type_is_not_declared_is_refused_when_it_is_applied() {
    let cache = World::with_cache(|builder| builder.token_types(["app"])).cache;
    let applied = |layer: ApiTokenLayer| panic::catch_unwind(AssertUnwindSafe(|| layer.layer(())));
    assert!(applied(ApiTokenLayer::new(cache.clone())).is_err());
    assert!(applied(ApiTokenLayer::new(cache.clone()).with_scope("app")).is_ok());
    assert!(ApiTokenLayer::new(cache).try_with_scope("dataset").is_err());
}

//! The live page in a browser.

use test_support::RedisServer;

use super::browser::Browser;
use super::demo::{ADMIN, Database, Demo};

/// Asserts that the page neither complained nor asked anybody else for anything.
#[track_caller]
fn expect_quiet(browser: &Browser, demo: &Demo) {
    assert_eq!(browser.complaints(), Vec::<String>::new());
    let requests = browser.requests();
    assert!(
        requests.iter().any(|url| url.ends_with("/live")),
        "{requests:?}"
    );
    for url in requests {
        let own = url.strip_prefix(demo.base.as_str());
        assert!(
            own.is_some_and(|rest| rest.starts_with('/')) || url.starts_with("data:"),
            "{url}"
        );
        assert!(!url.contains("demo_") && !url.contains(ADMIN), "{url}");
    }
}

#[track_caller]
fn become_operator(browser: &Browser) {
    browser.type_into("#admin-token", ADMIN);
    browser.click("#admin button.main");
    browser.wait_for("#who", |text| text == "admin token in use");
}

/// Makes a token of acme in the page, and returns its id and its text.
#[track_caller]
fn make_token(browser: &Browser) -> (String, String) {
    let before = browser.text("#made");
    browser.click("#make-button");
    let text = browser.wait_for("#made", |text| !text.is_empty() && text != before);
    let id = browser.run("return document.querySelector('#tokens tr').dataset.token");
    (id.as_str().expect("an id").to_owned(), text)
}

fn in_row(id: &str, what: &str) -> String {
    format!("tr[data-token=\"{id}\"] {what}")
}

/// The number at the start of a text, without its commas.
fn number(text: &str) -> u64 {
    text.replace(',', "").parse().unwrap_or(0)
}

#[test]
fn a_click_on_revoke_or_suspend_counts_on_a_second_instance_too() {
    let Some(browser) =
        Browser::start("a_click_on_revoke_or_suspend_counts_on_a_second_instance_too")
    else {
        return;
    };
    let (database, redis) = (Database::sqlite(), RedisServer::start());
    let [demo, other] = [(); 2].map(|()| Demo::with(&database, "digest", Some(&redis)));
    browser.open(&demo.base);
    become_operator(&browser);
    let (id, text) = make_token(&browser);
    // The other instance holds it in its memory, where only an invalidation reaches it.
    other.whoami(&text).expect(200);
    other.whoami(&text).expect_origin("local");

    browser.click(&in_row(&id, "button.send"));
    browser.wait_for(&in_row(&id, ".answers"), |text| text == "200: 100");
    browser.wait_for("#saved", |text| number(text) >= 99);
    browser.wait_for("#store", |text| text == "ok");
    browser.wait_for("#breaker", |text| text == "closed");

    browser.click(&in_row(&id, "button.revoke"));
    browser.wait_for("#log", |text| text.contains("revoked; confirmed after"));
    other.whoami(&text).expect(401);
    browser.wait_for(&in_row(&id, ".state"), |text| text == "revoked");
    browser.wait_for("#timeline", |text| text.contains("revoked, 401 after "));
    browser.wait_for(&in_row(&id, ".answers"), |text| text.contains("401: 1"));

    let (id, text) = make_token(&browser);
    other.whoami(&text).expect(200);
    browser.click(&in_row(&id, "button.suspend"));
    browser.wait_for("#log", |text| {
        text.contains("tenant suspended; confirmed after")
    });
    other.whoami(&text).expect(403);
    browser.wait_for(&in_row(&id, ".state"), |text| text == "tenant suspended");
    browser.wait_for("#timeline", |text| {
        text.contains("tenant suspended, 403 after ")
    });

    browser.click(&in_row(&id, "button.suspend"));
    browser.wait_for("#log", |text| {
        text.contains("tenant resumed; confirmed after")
    });
    other.whoami(&text).expect(200);
    browser.wait_for(&in_row(&id, ".state"), |text| text == "active");
    expect_quiet(&browser, &demo);
}

#[test]
fn without_the_admin_token_a_visitor_sees_figures_and_uses_a_token_of_his_own() {
    let Some(browser) = Browser::start(
        "without_the_admin_token_a_visitor_sees_figures_and_uses_a_token_of_his_own",
    ) else {
        return;
    };
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[]);
    let token = demo.token("acme", "dataset");
    browser.open(&demo.base);
    browser.wait_for("#store", |text| text == "in memory");
    assert_eq!(browser.text("#tokens"), "");

    browser.type_into("#admin-token", "not-the-admin-token");
    browser.click("#admin button.main");
    browser.wait_for("#note", |text| text == "This is not the admin token.");
    browser.wait_for("#stream", |text| text == "live");

    browser.type_into("#paste-token", &token.text);
    browser.click("#paste button");
    browser.click(&in_row(&token.id, "button.send"));
    browser.wait_for(&in_row(&token.id, ".answers"), |text| text == "200: 100");
    let disabled = browser.run("return document.querySelector('#tokens .revoke').disabled");
    assert_eq!(disabled, true);
    // Neither kept beyond the page, nor left to be read on it.
    let kept = "return localStorage.length + sessionStorage.length + document.cookie.length";
    assert_eq!(browser.run(kept), 0);
    let page = browser.run(
        "return document.documentElement.outerHTML + document.querySelector('#paste-token').value",
    );
    assert!(!page.as_str().unwrap().contains(&token.text));
    expect_quiet(&browser, &demo);
}

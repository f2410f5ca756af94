//! The example `allow_list`: tokens that are valid from certain networks only.

use std::net::IpAddr;
use std::path::Path;

use test_support::Example;

#[path = "../../allow_list/address.rs"]
mod address;

use address::{TrustedProxies, network};

/// The printed commands, by their index.
const HERE: usize = 0;
const OFFICE: usize = 1;
const NOWHERE: usize = 2;
const ANYWHERE: usize = 3;

const FORWARDED: &str = "x-forwarded-for: ";

fn start(variables: &[(&str, &str)]) -> Example {
    Example::start(Path::new(env!("CARGO_BIN_EXE_allow_list")), variables)
}

/// Returns the status of a request with the token of a printed command, and these `X-Forwarded-For` lines.
fn status(example: &Example, command: usize, forwarded: &[&str]) -> u16 {
    let lines: Vec<String> = forwarded
        .iter()
        .map(|hops| format!("{FORWARDED}{hops}"))
        .collect();
    let arguments: Vec<&str> = lines
        .iter()
        .flat_map(|line| ["-H", line.as_str()])
        .collect();
    let token = example.token(command, "Bearer ");
    example.curl_as(token, "/", &arguments).status
}

#[test]
fn a_list_is_compared_with_the_connections_address() {
    let example = start(&[]);
    // Twice: loaded, and from memory.
    for _ in 0..2 {
        assert_eq!(example.paste(HERE).expect(200).body, "tok-1\n");
        assert_eq!(example.paste(ANYWHERE).expect(200).body, "tok-4\n");
        for command in [OFFICE, NOWHERE] {
            let refused = example.paste(command).expect(403);
            assert_eq!(refused.header("www-authenticate"), "Bearer realm=\"api\"");
            let text = "\"detail\":\"The API token must not be used from this network.\"";
            assert!(refused.body.contains(text), "{refused:?}");
        }
    }
    example.curl("/", &[]).expect(401);
}

#[test]
fn a_client_cannot_choose_its_address() {
    let example = start(&[]);
    assert_eq!(status(&example, OFFICE, &["192.0.2.7"]), 403);
    assert_eq!(status(&example, HERE, &["203.0.113.9"]), 200);
}

#[test]
fn behind_a_proxy_the_header_is_read_from_the_right() {
    let example = start(&[("TRUSTED_PROXIES", "127.0.0.0/8, 10.0.0.0/8")]);
    for (forwarded, expected) in [
        (&["192.0.2.7"][..], 200),
        // Through two proxies.
        (&["192.0.2.7, 10.1.2.3"], 200),
        // Two lines are one list.
        (&["203.0.113.9", "192.0.2.7"], 200),
        (&["192.0.2.7", "10.1.2.3"], 200),
        // What the client wrote is further left.
        (&["192.0.2.7, 203.0.113.9"], 403),
        (&["192.0.2.7", "203.0.113.9, 10.1.2.3"], 403),
        // Nobody is named.
        (&[], 403),
        (&["10.1.2.3"], 403),
        (&["unknown"], 403),
        (&["192.0.2.7,"], 403),
        (&["192.0.2.7, \u{e4}"], 403),
    ] {
        assert_eq!(
            status(&example, OFFICE, forwarded),
            expected,
            "{forwarded:?}"
        );
    }
    // A proxy's own address is not the client's.
    assert_eq!(status(&example, HERE, &[]), 403);
    // Without a list nobody asks.
    assert_eq!(status(&example, ANYWHERE, &["unknown"]), 200);
}

/// A server for both families sees an IPv4 client as `::ffff:127.0.0.1`.
#[test]
fn ipv4_in_ipv6_is_ipv4() {
    let example = start(&[("LISTEN", "[::]:0")]);
    let port = example.address().rsplit(':').next().unwrap();
    let by_ipv4 = format!("::127.0.0.1:{port}");
    let token = example.token(HERE, "Bearer ");
    example
        .curl_as(token, "/", &["--connect-to", &by_ipv4])
        .expect(200);

    for (list, address) in [
        ("127.0.0.0/8", "::ffff:127.0.0.1"),
        ("::ffff:127.0.0.0/104", "127.0.0.1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
    ] {
        let list = network(list).unwrap();
        let address: IpAddr = address.parse().unwrap();
        let client = TrustedProxies::default().client(address, "");
        assert_eq!(
            client.map(|client| list.contains(&client)),
            Some(true),
            "{list}"
        );
    }
    // As wide as all of IPv6, and not of IPv4.
    assert!(
        !network("::/0")
            .unwrap()
            .contains(&IpAddr::from([127, 0, 0, 1]))
    );
    assert_eq!(network("127.0.0.1/33"), None);
    assert_eq!(network("here"), None);
}

#[test]
fn a_hop_may_have_a_port_and_brackets() {
    let proxies = TrustedProxies(vec![network("10.0.0.0/8").unwrap()]);
    let peer = IpAddr::from([10, 0, 0, 1]);
    for (hop, address) in [
        ("192.0.2.7", "192.0.2.7"),
        (" 192.0.2.7:4711 ", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        // A proxy, in another form: the next one.
        ("192.0.2.7, ::ffff:10.0.0.2", "192.0.2.7"),
    ] {
        let expected: IpAddr = address.parse().unwrap();
        assert_eq!(proxies.client(peer, hop), Some(expected), "{hop}");
    }
    for nobody in [
        "",
        ",",
        "unknown",
        "_hidden",
        "192.0.2",
        "[2001:db8::1",
        "fe80::1%eth0",
    ] {
        assert_eq!(proxies.client(peer, nobody), None, "{nobody:?}");
    }
}
